//! The golden sentences of a bundle: some sentences, and their vectors where the bundle was made.

use serde::{Deserialize, Serialize};

use crate::{
    bundle::read,
    error::{Error, Result},
    sentence::{SentenceBundle, SentenceEncoder, manifest::files},
};

/// The sentences.
const SENTENCES: [&str; 3] =
    ["a man pours water into a glass", "someone fills a cup", "The dog barks at the moon!"];
/// What a number of a vector may differ by where sums are taken in another order.
const TOLERANCE: f32 = 1e-3;

/// Sentences and their vectors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expected {
    /// The sentences.
    pub sentences: Vec<String>,
    /// Their vectors.
    pub vectors: Vec<Vec<f32>>,
}

/// What an encoder says of the golden sentences.
///
/// # Errors
/// Those of [`SentenceEncoder::encode`].
pub fn said(encoder: &mut SentenceEncoder) -> Result<Expected> {
    let vectors = encoder.encode(&SENTENCES)?;
    Ok(Expected {
        sentences: SENTENCES.map(str::to_owned).to_vec(),
        vectors: vectors.outer_iter().map(|vector| vector.to_vec()).collect(),
    })
}

/// By how much at most a number differs from what the bundle expects; `None` where it expects nothing.
///
/// # Errors
/// [`Error::Golden`] where that is too much, [`Error::GoldenFile`], [`Error::Read`], and those of the encoder.
pub fn verify(bundle: &SentenceBundle, encoder: &mut SentenceEncoder) -> Result<Option<f32>> {
    if !bundle.manifest().files.contains_key(files::GOLDEN) {
        return Ok(None);
    }
    let path = bundle.path(files::GOLDEN);
    let expected: Expected = serde_json::from_slice(&read(&path)?)
        .map_err(|error| Error::GoldenFile { path, problem: error.to_string() })?;
    let sentences: Vec<&str> = expected.sentences.iter().map(String::as_str).collect();
    let found = encoder.encode(&sentences)?;
    let expected = expected.vectors.iter().flatten();
    let off_by = found.iter().zip(expected).map(|(found, expected)| (found - expected).abs());
    let off_by = off_by.fold(0.0, f32::max);
    if off_by.is_nan() || off_by > TOLERANCE {
        let problem =
            format!("a number of a vector differs by {off_by:.1e}, allowed is {TOLERANCE:.0e}");
        return Err(Error::Golden { problem });
    }
    Ok(Some(off_by))
}
