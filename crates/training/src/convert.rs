//! A bundle in another precision, and how far it is from its like in full precision.

use std::{collections::BTreeMap, fs, path::Path};

use eventide_model::{
    Bundle, Hypothesis, Vid2Seq, WindowInput,
    golden::{Clip, generate, said},
    manifest::{Decoding, Manifest, Precision, files},
    runtime::Runtime,
};
use ndarray::Array2;

use crate::{
    bundle::{Draft, load},
    checkpoint::Checkpoint,
    error::{Error, Result},
    golden::{GOLDEN_SEED, painted},
    graph::Style,
};

/// Clips beside the golden one that both are shown.
const CLIPS: u64 = 8;
/// Most tokens that are generated for a clip.
const MOST_TOKENS: u32 = 32;

/// How far a bundle is from its like in full precision, on the golden clip and eight more of other seeds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Parity {
    /// The greatest difference of two logits, along the sequences that full precision writes.
    pub max_logit_difference: f64,
    /// How much of the greedy sequences is the same from their start, in tokens.
    pub greedy_tokens_equal: f64,
    /// How many greedy sequences are the same.
    pub greedy_equal: f64,
    /// How many hypotheses of the beam search are the same, rank by rank.
    pub hypotheses_equal: f64,
    /// The greatest difference of the scores of two that are the same.
    pub max_score_difference: f64,
}

impl Parity {
    /// As they are written into a manifest.
    #[must_use]
    pub fn metrics(&self) -> BTreeMap<String, f64> {
        [
            ("max_logit_difference", self.max_logit_difference),
            ("greedy_tokens_equal", self.greedy_tokens_equal),
            ("greedy_equal", self.greedy_equal),
            ("hypotheses_equal", self.hypotheses_equal),
            ("max_score_difference", self.max_score_difference),
        ]
        .map(|(name, value)| (format!("parity/{name}"), value))
        .into()
    }
}

/// Writes the model of a bundle of full precision to `place`, in another precision.
///
/// # Errors
/// [`Error::Precision`] if the bundle is not of full precision or is to be; those of [`Draft`];
/// [`Error::Run`].
pub fn convert(
    bundle: &Bundle,
    precision: Precision,
    place: &Path,
    runtime: &Runtime,
) -> Result<Manifest> {
    let found = bundle.manifest().precision;
    if found != Precision::Fp32 || precision == Precision::Fp32 {
        return Err(Error::Precision { from: found, to: precision });
    }
    let weights = Checkpoint::read_safetensors(&bundle.path(files::WEIGHTS))?;
    let path = bundle.path(files::TOKENIZER);
    let tokenizer = fs::read(&path).map_err(|source| Error::Read { path, source })?;
    let own = bundle.manifest();
    let manifest = Manifest {
        model_id: format!("{}-{}", own.model_id, precision.name()),
        provenance: format!(
            "{}; as {} of the bundle {}",
            own.provenance,
            precision.name(),
            bundle.digest()
        ),
        precision,
        metrics: BTreeMap::new(),
        ..own.clone()
    };
    let mut draft = Draft::write(place, &manifest, &weights, &tokenizer, Style::default())?;
    // One after the other: two models of full size are more than many machines hold.
    let mut model = load(bundle, runtime)?;
    let clips = clips(bundle, &model)?;
    let expected = clips.iter().map(|clip| Answer::of(&mut model, clip, None));
    let expected = expected.collect::<Result<Vec<_>>>()?;
    drop(model);
    let mut model = load(&draft.open()?, runtime)?;
    let pairs = clips.iter().zip(&expected);
    let found = pairs.map(|(clip, expected)| Answer::of(&mut model, clip, Some(&expected.greedy)));
    let found = found.collect::<Result<Vec<_>>>()?;
    draft.add_metrics(parity(&expected, &found).metrics())?;
    if let Some(golden) = clips.first() {
        let expected = said(&mut model, golden)?;
        draft.add_said(golden, &expected)?;
    }
    draft.publish()
}

/// The golden clip, which an older bundle gets here, and some more.
fn clips(bundle: &Bundle, model: &Vid2Seq) -> Result<Vec<Clip>> {
    let painted = |seed| painted(bundle.manifest(), model.tokenizer(), seed);
    let golden = match Clip::of(bundle)? {
        Some(golden) => golden,
        None => painted(GOLDEN_SEED)?,
    };
    let others = (GOLDEN_SEED + 1..=GOLDEN_SEED + CLIPS).map(painted);
    std::iter::once(Ok(golden)).chain(others).collect()
}

/// What a model makes of a clip.
struct Answer {
    greedy: Vec<i64>,
    hypotheses: Vec<Hypothesis>,
    /// Along a greedy sequence: its own, or that which was given.
    logits: Array2<f32>,
}

impl Answer {
    fn of(model: &mut Vid2Seq, clip: &Clip, target: Option<&[i64]>) -> Result<Self> {
        let window: WindowInput = clip.window(model)?;
        let own = model.manifest().decoding.clone();
        let decoding =
            Decoding { max_output_tokens: own.max_output_tokens.min(MOST_TOKENS), ..own };
        let greedy = generate(model, &window, &Decoding { beams: 1, ..decoding.clone() })?;
        let greedy = greedy.into_iter().next().map(|best| best.tokens).unwrap_or_default();
        let hypotheses = generate(model, &window, &decoding)?;
        let target = target.unwrap_or(&greedy);
        let logits = model.teacher_forced(&window, target, &|| false)?;
        Ok(Self { greedy, hypotheses, logits })
    }
}

fn parity(expected: &[Answer], found: &[Answer]) -> Parity {
    let pairs = || expected.iter().zip(found);
    let differences = pairs().flat_map(|(expected, found)| {
        expected.logits.iter().zip(&found.logits).map(|(a, b)| f64::from((a - b).abs()))
    });
    let same_start = |(expected, found): (&Answer, &Answer)| {
        expected.greedy.iter().zip(&found.greedy).take_while(|(a, b)| a == b).count()
    };
    let longest =
        |(expected, found): (&Answer, &Answer)| expected.greedy.len().max(found.greedy.len());
    let hypotheses = || pairs().flat_map(|(a, b)| a.hypotheses.iter().zip(&b.hypotheses));
    let equal = || hypotheses().filter(|(a, b)| a.tokens == b.tokens);
    let greedy_equal = pairs().filter(|(a, b)| a.greedy == b.greedy).count();
    Parity {
        max_logit_difference: differences.fold(0.0, f64::max),
        greedy_tokens_equal: share(pairs().map(same_start).sum(), pairs().map(longest).sum()),
        greedy_equal: share(greedy_equal, expected.len()),
        hypotheses_equal: share(equal().count(), hypotheses().count()),
        max_score_difference: equal().map(|(a, b)| (a.score - b.score).abs()).fold(0.0, f64::max),
    }
}

/// `part` of `whole`; all of nothing.
#[expect(clippy::cast_precision_loss, reason = "counts of some thousand")]
fn share(part: usize, whole: usize) -> f64 {
    if whole == 0 { 1.0 } else { part as f64 / whole as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(greedy: &[i64], hypotheses: &[(&[i64], f64)], logits: &[f32]) -> Answer {
        let found = |(tokens, score): &(&[i64], f64)| Hypothesis {
            tokens: tokens.to_vec(),
            log_probabilities: Vec::new(),
            sum: 0.0,
            score: *score,
            finished: true,
        };
        Answer {
            greedy: greedy.to_vec(),
            hypotheses: hypotheses.iter().map(found).collect(),
            logits: Array2::from_shape_vec((1, logits.len()), logits.to_vec()).unwrap(),
        }
    }

    #[test]
    fn every_figure_counts_what_it_says() {
        let expected = [
            answer(&[5, 6, 1], &[(&[5, 1], -1.0), (&[6, 1], -2.0)], &[0.0, 1.0]),
            answer(&[7], &[(&[7], -1.0), (&[8], -3.0)], &[2.0, 2.0]),
        ];
        let found = [
            answer(&[5, 9, 1], &[(&[5, 1], -1.25), (&[5, 1], -2.0)], &[0.0, 1.5]),
            answer(&[7], &[(&[7], -1.0), (&[8], -3.0)], &[2.0, 1.75]),
        ];
        let parity = parity(&expected, &found);
        // All of them are sums of powers of two.
        let expected = Parity {
            max_logit_difference: 0.5,
            greedy_tokens_equal: 0.5,
            greedy_equal: 0.5,
            hypotheses_equal: 0.75,
            max_score_difference: 0.25,
        };
        assert_eq!(parity, expected);
    }
}
