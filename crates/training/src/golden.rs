//! The golden clip of a bundle: a few pictures with what is said, and what the model said of them where
//! the bundle was made. Whoever gets the bundle can tell whether it says the same on another machine.

use std::{collections::HashMap, fs, path::Path};

use eventide_model::{
    Bundle, Hypothesis, Tokenizer, Vid2Seq, WindowInput,
    input::input_ids,
    manifest::{Decoding, Manifest, Precision, files},
};
use eventide_schema::{Cue, TimeSpan};
use safetensors::{Dtype, tensor::TensorView};
use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, Result},
    inputs::Inputs,
    synth::{Recipe, draw::Painter, looks::Split, world::milliseconds},
};

/// Bytes of pictures in a clip, about; but at least two pictures.
const PICTURE_BYTES: usize = 150_000;
/// Most pictures of a clip.
const MOST_PICTURES: usize = 12;
/// Most sentences of a clip.
const MOST_LINES: usize = 4;
/// The seed of the clip that a new bundle gets.
pub(crate) const GOLDEN_SEED: u64 = 1;
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
    /// Pictures of a synthetic world with its narrator; the same for the same seed.
    ///
    /// # Errors
    /// [`Error::Run`] if the tokenizer refuses the narrator's words.
    pub fn painted(manifest: &Manifest, tokenizer: &Tokenizer, seed: u64) -> Result<Self> {
        let recipe = Recipe::new(seed, Split::Test);
        // A narrator is silent now and then, but never for long.
        let videos = (0..64).map(|index| recipe.video(index));
        let video =
            videos.filter(|video| video.lines.is_some()).min_by_key(|video| video.world.length);
        let video = video.unwrap_or_else(|| recipe.video(0));
        let side = u16::try_from(manifest.vision.image_size).unwrap_or(u16::MAX);
        let picture = usize::from(side) * usize::from(side) * 3;
        let count = (PICTURE_BYTES / picture.max(1)).clamp(2, MOST_PICTURES);
        let count = count.min(manifest.temporal.positions as usize);
        let mut painter = Painter::new(&video.world, side);
        let mut pictures = vec![0; count * picture];
        for (index, rgb) in pictures.chunks_exact_mut(picture.max(1)).enumerate() {
            let at = usize::from(video.world.length) * index / count;
            painter.paint(u16::try_from(at).unwrap_or(u16::MAX), rgb);
        }
        let cue = |start: u32, end: u32, text: &str| Cue {
            span: TimeSpan::new(i64::from(start) * 1000, i64::from(end) * 1000),
            text: text.to_owned(),
        };
        let lines = video.lines.iter().flatten().take(MOST_LINES);
        let cues: Vec<Cue> =
            lines.map(|line| cue(line.start_ms, line.end_ms, &line.text)).collect();
        let duration_us = i64::from(milliseconds(video.world.length)) * 1000;
        let input_ids = input_ids(tokenizer, &cues, duration_us).map_err(unrun)?;
        Ok(Self { pictures, count, side: usize::from(side), input_ids })
    }

    /// The clip of a bundle; `None` if it has none, as those of earlier programs.
    ///
    /// # Errors
    /// As [`Inputs::read`].
    pub fn of(bundle: &Bundle) -> Result<Option<Self>> {
        if !bundle.manifest().files.contains_key(files::GOLDEN_CLIP) {
            return Ok(None);
        }
        let path = bundle.path(files::GOLDEN_CLIP);
        let inputs = Inputs::read(&path)?;
        let lacks = |name: &str| Error::Input {
            path: path.clone(),
            name: name.to_owned(),
            problem: "it is not there".to_owned(),
        };
        let (count, pictures) = inputs.frames.ok_or_else(|| lacks("frames"))?;
        let ids = inputs.input_ids.and_then(|rows| rows.into_iter().next());
        let input_ids = ids.ok_or_else(|| lacks("input_ids"))?;
        let side = bundle.manifest().vision.image_size as usize;
        Ok(Some(Self { pictures, count, side, input_ids }))
    }

    /// As a file of [`Inputs`], which `eventide model run` takes too.
    #[must_use]
    pub(crate) fn to_safetensors(&self) -> Vec<u8> {
        let ids: Vec<u8> = self.input_ids.iter().flat_map(|id| id.to_le_bytes()).collect();
        let frames = vec![self.count, self.side, self.side, 3];
        let tensors = [
            ("frames", TensorView::new(Dtype::U8, frames, &self.pictures)),
            ("input_ids", TensorView::new(Dtype::I64, vec![1, self.input_ids.len()], &ids)),
        ];
        let tensors = tensors.into_iter().filter_map(|(name, view)| Some((name, view.ok()?)));
        // Two tensors of known sizes: to write them to memory cannot fail.
        safetensors::serialize(tensors, None::<HashMap<String, String>>).unwrap_or_default()
    }

    /// What a model is told.
    ///
    /// # Errors
    /// [`Error::Run`].
    pub(crate) fn window(&self, model: &mut Vid2Seq) -> Result<WindowInput> {
        let features = model.encode_frames(&self.pictures, self.count, &|| false).map_err(unrun)?;
        Ok(WindowInput { features: Some(features), input_ids: Some(self.input_ids.clone()) })
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
    /// [`Error::Read`], [`Error::Golden`] if the file makes no sense.
    pub fn of(bundle: &Bundle) -> Result<Option<Self>> {
        if !bundle.manifest().files.contains_key(files::GOLDEN_EXPECTED) {
            return Ok(None);
        }
        let path = bundle.path(files::GOLDEN_EXPECTED);
        let bytes = read(&path)?;
        let wrong = |error| Error::Golden { problem: format!("`{}`: {error}", path.display()) };
        serde_json::from_slice(&bytes).map(Some).map_err(wrong)
    }

    /// As a file.
    #[must_use]
    pub(crate) fn to_json(&self) -> Vec<u8> {
        // Plain fields; to write them to memory cannot fail.
        let mut text = serde_json::to_vec_pretty(self).unwrap_or_default();
        text.push(b'\n');
        text
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
/// [`Error::Run`].
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

/// The sequences of one window.
pub(crate) fn generate(
    model: &mut Vid2Seq,
    window: &WindowInput,
    decoding: &Decoding,
) -> Result<Vec<Hypothesis>> {
    let found = model.generate(std::slice::from_ref(window), decoding, &|| false);
    Ok(found.map_err(unrun)?.into_iter().flatten().collect())
}

/// Runs a bundle on its clip. The answer is by how much its scores differ at most from what is expected;
/// `None` if it has no clip.
///
/// # Errors
/// [`Error::Golden`] with what differs, [`Error::Run`], and those of reading.
pub fn verify(bundle: &Bundle, model: &mut Vid2Seq) -> Result<Option<f64>> {
    let (Some(clip), Some(expected)) = (Clip::of(bundle)?, Expected::of(bundle)?) else {
        return Ok(None);
    };
    let found = said(model, &clip)?;
    expected.compare(&found, bundle.manifest().precision).map(Some)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|source| Error::Read { path: path.to_owned(), source })
}

/// The model was run and refused.
pub(crate) fn unrun(source: eventide_model::Error) -> Error {
    Error::Run { source: Box::new(source) }
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
