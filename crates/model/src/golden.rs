//! The golden clip of a bundle: a few pictures with what is said, and what the model said of them where
//! the bundle was made. Whoever gets the bundle can tell whether it says the same on another machine.
//! `eventide-training` paints the clip and puts it into bundles.

use std::{fs, path::PathBuf};

use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};

use crate::{
    Bundle, Error, Hypothesis, Result, Vid2Seq, WindowInput,
    manifest::{Decoding, Precision, files},
};

/// Most tokens that are generated for a clip.
const MOST_TOKENS: u32 = 48;

/// A few pictures and what is said with them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clip {
    /// RGB pictures of the bundle's size, one after another.
    pub pictures: Vec<u8>,
    /// How many.
    pub count: usize,
    /// The side of one in pixels.
    pub side: usize,
    /// What is said, as input ids.
    pub input_ids: Vec<i64>,
}

impl Clip {
    /// The clip of a bundle; `None` if it has none, as those of earlier programs.
    ///
    /// # Errors
    /// [`Error::Read`], [`Error::GoldenFile`] if the file makes no sense.
    pub fn of(bundle: &Bundle) -> Result<Option<Self>> {
        let Some((path, bytes)) = file(bundle, files::GOLDEN_CLIP)? else { return Ok(None) };
        let side = bundle.manifest().vision.image_size as usize;
        let wrong = |problem| Error::GoldenFile { path, problem };
        Self::read(&bytes, side).map(Some).map_err(wrong)
    }

    /// Out of `frames`, bytes of shape `[count, side, side, 3]`, and `input_ids`, of shape `[1, tokens]`.
    fn read(bytes: &[u8], side: usize) -> std::result::Result<Self, String> {
        let tensors = SafeTensors::deserialize(bytes).map_err(|error| error.to_string())?;
        let tensor = |name, dtype| match tensors.tensor(name) {
            Ok(tensor) if tensor.dtype() == dtype => Ok(tensor),
            Ok(tensor) => {
                Err(format!("`{name}` holds `{:?}`, expected `{dtype:?}`", tensor.dtype()))
            }
            Err(error) => Err(error.to_string()),
        };
        let frames = tensor("frames", Dtype::U8)?;
        let [count, height, width, 3] = *frames.shape() else {
            return Err(format!("`frames` has shape {:?}", frames.shape()));
        };
        if (height, width) != (side, side) {
            return Err(format!("pictures of {height} x {width}, expected a side of {side}"));
        }
        let ids = tensor("input_ids", Dtype::I64)?;
        let [1, _] = *ids.shape() else {
            return Err(format!("`input_ids` has shape {:?}", ids.shape()));
        };
        let input_ids = ids.data().as_chunks().0.iter().map(|id| i64::from_le_bytes(*id)).collect();
        Ok(Self { pictures: frames.data().to_vec(), count, side, input_ids })
    }

    /// What a model is told.
    ///
    /// # Errors
    /// Those of the model.
    pub fn window(&self, model: &mut Vid2Seq) -> Result<WindowInput> {
        let features = model.encode_frames(&self.pictures, self.count, &|| false)?;
        Ok(WindowInput { features: Some(features), input_ids: Some(self.input_ids.clone()) })
    }
}

/// A file of a bundle, if it has it.
fn file(bundle: &Bundle, name: &str) -> Result<Option<(PathBuf, Vec<u8>)>> {
    if !bundle.manifest().files.contains_key(name) {
        return Ok(None);
    }
    let path = bundle.path(name);
    match fs::read(&path) {
        Ok(bytes) => Ok(Some((path, bytes))),
        Err(source) => Err(Error::Read { path, source }),
    }
}

/// What a model says of a clip.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expected {
    /// Most tokens that were generated.
    pub max_output_tokens: u32,
    /// The sequence of the best token at each step.
    pub greedy: Sequence,
    /// Those of the beam search with the bundle's settings, best first.
    pub hypotheses: Vec<Sequence>,
}

/// A sequence that was generated.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sequence {
    /// Its tokens, without the start and with the end.
    pub tokens: Vec<i64>,
    /// Its score, as the search ranks it.
    pub score: f64,
}

impl From<Hypothesis> for Sequence {
    fn from(hypothesis: Hypothesis) -> Self {
        Self { tokens: hypothesis.tokens, score: hypothesis.score }
    }
}

impl Expected {
    /// What a bundle's model said of its clip; `None` if it has none.
    ///
    /// # Errors
    /// [`Error::Read`], [`Error::GoldenFile`] if the file makes no sense.
    pub fn of(bundle: &Bundle) -> Result<Option<Self>> {
        let Some((path, bytes)) = file(bundle, files::GOLDEN_EXPECTED)? else { return Ok(None) };
        let wrong =
            |error: serde_json::Error| Error::GoldenFile { path, problem: error.to_string() };
        serde_json::from_slice(&bytes).map(Some).map_err(wrong)
    }

    /// All sequences with what they are called.
    fn sequences(&self) -> impl Iterator<Item = (String, &Sequence)> {
        let beams = self.hypotheses.iter().zip(1..);
        std::iter::once(("the greedy sequence".to_owned(), &self.greedy))
            .chain(beams.map(|(sequence, rank)| (format!("hypothesis {rank}"), sequence)))
    }

    /// The greatest difference of scores from `found`, whose sequences must be the same.
    ///
    /// # Errors
    /// [`Error::Golden`] with the first difference that is more than `precision` allows.
    pub fn compare(&self, found: &Self, precision: Precision) -> Result<f64> {
        let count = (self.hypotheses.len(), found.hypotheses.len());
        if count.0 != count.1 {
            let problem = format!("there are {} hypotheses, expected {}", count.1, count.0);
            return Err(Error::Golden { problem });
        }
        let tolerance = tolerance(precision);
        let mut worst = 0.0_f64;
        for ((name, expected), (_, found)) in self.sequences().zip(found.sequences()) {
            if expected.tokens != found.tokens {
                return Err(Error::Golden { problem: differing(&name, expected, found) });
            }
            let difference = (expected.score - found.score).abs();
            if difference.is_nan() || difference > tolerance {
                let (expected, found) = (expected.score, found.score);
                let problem = format!(
                    "the score of {name} is {found:.5}, expected {expected:.5} within {tolerance}"
                );
                return Err(Error::Golden { problem });
            }
            worst = worst.max(difference);
        }
        Ok(worst)
    }
}

fn differing(name: &str, expected: &Sequence, found: &Sequence) -> String {
    let (expected, found) = (&expected.tokens, &found.tokens);
    let at = expected.iter().zip(found).take_while(|(a, b)| a == b).count();
    let token =
        |tokens: &[i64]| tokens.get(at).map_or("the end".to_owned(), |id| format!("`{id}`"));
    format!(
        "token {at} of {name} is {}, expected {} (tokens {found:?}, expected {expected:?})",
        token(found),
        token(expected)
    )
}

/// What scores may differ by where sums are taken in another order.
fn tolerance(precision: Precision) -> f64 {
    match precision {
        Precision::Fp32 | Precision::Fp16 => 1e-3,
        // An input on the edge between two steps may fall to either side.
        Precision::Int8 => 5e-2,
    }
}

/// What a model says of a clip now.
///
/// # Errors
/// Those of the model.
pub fn said(model: &mut Vid2Seq, clip: &Clip) -> Result<Expected> {
    let window = clip.window(model)?;
    let own = model.manifest().decoding.clone();
    let decoding = Decoding { max_output_tokens: own.max_output_tokens.min(MOST_TOKENS), ..own };
    let greedy = generate(model, &window, &Decoding { beams: 1, ..decoding.clone() })?;
    let hypotheses = generate(model, &window, &decoding)?;
    let nothing = Sequence { tokens: Vec::new(), score: 0.0 };
    Ok(Expected {
        max_output_tokens: decoding.max_output_tokens,
        greedy: greedy.into_iter().next().map_or(nothing, Into::into),
        hypotheses: hypotheses.into_iter().map(Into::into).collect(),
    })
}

/// The sequences of one window, best first.
///
/// # Errors
/// Those of the model.
pub fn generate(
    model: &mut Vid2Seq,
    window: &WindowInput,
    decoding: &Decoding,
) -> Result<Vec<Hypothesis>> {
    let found = model.generate(std::slice::from_ref(window), decoding, &|| false)?;
    Ok(found.into_iter().flatten().collect())
}

/// Runs a bundle on its clip. The answer is by how much its scores differ at most from what is expected;
/// `None` if it has no clip.
///
/// # Errors
/// [`Error::Golden`] with what differs, and those of reading and of the model.
pub fn verify(bundle: &Bundle, model: &mut Vid2Seq) -> Result<Option<f64>> {
    let (Some(clip), Some(expected)) = (Clip::of(bundle)?, Expected::of(bundle)?) else {
        return Ok(None);
    };
    let found = said(model, &clip)?;
    expected.compare(&found, bundle.manifest().precision).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn expected() -> Expected {
        let sequence = |tokens: &[i64], score| Sequence { tokens: tokens.to_vec(), score };
        Expected {
            max_output_tokens: 48,
            greedy: sequence(&[3, 4, 1], -0.5),
            hypotheses: vec![sequence(&[3, 4, 1], -0.5), sequence(&[3, 5], -0.75)],
        }
    }

    #[rstest]
    #[case::another_token(|found: &mut Expected| found.hypotheses[1].tokens[1] = 6, "token 1 of hypothesis 2 is `6`, expected `5`")]
    #[case::too_short(|found: &mut Expected| found.greedy.tokens.truncate(2), "token 2 of the greedy sequence is the end, expected `1`")]
    #[case::another_score(|found: &mut Expected| found.hypotheses[0].score = -0.6, "the score of hypothesis 1 is -0.60000, expected -0.50000")]
    #[case::no_score(|found: &mut Expected| found.greedy.score = f64::NAN, "the score of the greedy sequence is NaN")]
    #[case::too_few(|found: &mut Expected| found.hypotheses.truncate(1), "there are 1 hypotheses, expected 2")]
    fn what_differs_is_named(#[case] spoil: fn(&mut Expected), #[case] because: &str) {
        let mut found = expected();
        spoil(&mut found);
        let error = expected().compare(&found, Precision::Fp32).unwrap_err();
        let Error::Golden { problem } = error else { panic!("{error}") };
        assert!(problem.contains(because), "{problem}");
    }

    #[test]
    fn scores_may_differ_by_what_the_precision_allows() {
        let mut found = expected();
        found.greedy.score += 1e-2;
        assert!(expected().compare(&found, Precision::Fp16).is_err());
        let worst = expected().compare(&found, Precision::Int8).unwrap();
        assert!((worst - 1e-2).abs() < 1e-9, "{worst}");
    }
}
