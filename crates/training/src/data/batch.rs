//! Examples as numbers: token ids by the rules of the bundle, features, side by side.
//!
//! Sequences are those of `eventide_model::input`, with which a model captions: what is learnt is what is asked.

use eventide_model::{
    Result, Tokenizer,
    input::{input_ids, target_ids},
    manifest::Manifest,
};
use ndarray::{Array2, Array3, s};
use rand::{Rng, seq::index::sample};

use super::example::Example;
use crate::denoise::{denoising, denoising_of_silence, noise_counts};

/// What the text encoder reads and what the decoder is to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sequences {
    /// What the text encoder reads.
    pub input: Vec<i64>,
    /// What the decoder is to write, its end included.
    pub target: Vec<i64>,
}

/// Fine-tuning: from what is said to what happens, the events of the first annotator in their order.
///
/// The target has at most `max_tokens` ids and, where a number is given, at most `max_events` events.
///
/// # Errors
/// As [`input_ids`].
pub fn captioning(
    example: &Example,
    tokenizer: &Tokenizer,
    max_tokens: usize,
    max_events: Option<usize>,
) -> Result<Sequences> {
    let duration = example.duration_us();
    Ok(Sequences {
        input: input_ids(tokenizer, &example.speech, duration)?,
        target: target_ids(tokenizer, example.events(), duration, max_tokens, max_events)?,
    })
}

/// Generative pre-training: from a lone end to all that is said, with its times (`vid2seq.md` §5.1).
///
/// # Errors
/// As [`input_ids`].
pub fn generative(example: &Example, tokenizer: &Tokenizer) -> Result<Sequences> {
    let end = i64::from(tokenizer.text_rule().eos_id);
    let target = input_ids(tokenizer, &example.speech, example.duration_us())?;
    Ok(Sequences { input: vec![end], target })
}

/// The denoising objective: from what is said with holes in it to what is missing (`vid2seq.md` §5.1).
///
/// # Errors
/// As [`input_ids`].
pub fn denoised(
    example: &Example,
    tokenizer: &Tokenizer,
    manifest: &Manifest,
    rng: &mut impl Rng,
) -> Result<Sequences> {
    let ids = input_ids(tokenizer, &example.speech, example.duration_us())?;
    let made = match ids.len() {
        0 | 1 => denoising_of_silence(manifest),
        length => denoising(manifest, &ids, &noise(length, rng)),
    };
    Ok(Sequences { input: made.input, target: made.target })
}

/// Which of `length` tokens, 2 or more, are noise: runs of it in random places, as long as chance has it. The first
/// token is never noise, and the last always is, as in T5's own sampler.
#[must_use]
pub fn noise(length: usize, rng: &mut impl Rng) -> Vec<bool> {
    let (noise, runs) = noise_counts(length);
    // No more runs than there are tokens to part them.
    let runs = runs.min(length - noise);
    let (kept, hidden) = (partition(length - noise, runs, rng), partition(noise, runs, rng));
    let run = |(kept, hidden): (usize, usize)| {
        std::iter::repeat_n(false, kept).chain(std::iter::repeat_n(true, hidden))
    };
    kept.into_iter().zip(hidden).flat_map(run).collect()
}

/// `total` as a sum of `parts` numbers that are not 0, each such sum with the same chance.
fn partition(total: usize, parts: usize, rng: &mut impl Rng) -> Vec<usize> {
    let mut ends: Vec<usize> =
        sample(rng, total - 1, parts - 1).into_iter().map(|cut| cut + 1).collect();
    ends.sort_unstable();
    ends.push(total);
    let starts = std::iter::once(0).chain(ends.iter().copied());
    starts.zip(&ends).map(|(start, end)| end - start).collect()
}

/// Features `[examples, positions, dim]` side by side: of each `[n, dim]` the first `positions` count, zeros follow,
/// which are not masked.
#[must_use]
pub fn features(rows: &[Array2<f32>], manifest: &Manifest) -> Array3<f32> {
    let (positions, dim) = (manifest.temporal.positions as usize, manifest.temporal.dim as usize);
    let mut features = Array3::zeros((rows.len(), positions, dim));
    for (mut place, given) in features.outer_iter_mut().zip(rows) {
        let (rows, columns) = (given.nrows().min(positions), given.ncols().min(dim));
        place.slice_mut(s![..rows, ..columns]).assign(&given.slice(s![..rows, ..columns]));
    }
    features
}

/// Sequences under one another, `[rows, longest]`, with `pad` after the end of the shorter ones.
#[must_use]
pub fn padded<R: AsRef<[i64]>>(rows: &[R], pad: i64) -> Array2<i64> {
    let longest = rows.iter().map(|row| row.as_ref().len()).max().unwrap_or(0);
    let mut padded = Array2::from_elem((rows.len(), longest), pad);
    for (mut place, row) in padded.rows_mut().into_iter().zip(rows) {
        place.iter_mut().zip(row.as_ref()).for_each(|(to, from)| *to = *from);
    }
    padded
}

/// Each row one later: `first`, and then the row without its last. What the decoder reads of a target.
#[must_use]
pub fn delayed(rows: &Array2<i64>, first: i64) -> Array2<i64> {
    Array2::from_shape_fn(rows.raw_dim(), |(row, column)| match column {
        0 => first,
        _ => rows[(row, column - 1)],
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::presets;
    use eventide_model::manifest::{FramePick, Normalise, Quantise};
    use eventide_schema::{Cue, TimeSpan};
    use ndarray::array;
    use proptest::prelude::*;
    use rand::{SeedableRng as _, rngs::StdRng};
    use serde_json::Value;
    use std::{fs, path::PathBuf};

    const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/golden");

    /// `VidChapters`' rules with T5's own tokenizer, or Scenic's.
    fn t5(scenic: bool) -> (Manifest, Tokenizer) {
        let mut manifest = presets::base();
        if scenic {
            manifest.t5.vocab_size = 32_228;
            manifest.frames.pick = FramePick::Linspace;
            manifest.time_tokens.first_id = 32_128;
            manifest.time_tokens.quantise = Quantise::Scenic;
            manifest.text.normalise = Normalise::Scenic;
        }
        let tools = std::env::var_os("EVENTIDE_TOOLS").map(PathBuf::from).unwrap_or_default();
        let path = tools.join("t5/spiece.model");
        let model = fs::read(&path)
            .unwrap_or_else(|_| panic!("no `{}`: run `cargo xtask setup`", path.display()));
        let tokenizer = Tokenizer::new(&model, &manifest).unwrap();
        (manifest, tokenizer)
    }

    #[expect(clippy::cast_possible_truncation, reason = "golden videos are short")]
    fn us(seconds: &Value) -> i64 {
        (seconds.as_f64().unwrap() * 1e6).round() as i64
    }

    fn cues(sentences: &Value) -> Vec<Cue> {
        let cue = |sentence: &Value| Cue {
            span: TimeSpan::new(us(&sentence["start"]), us(&sentence["end"])),
            text: sentence["text"].as_str().unwrap().to_owned(),
        };
        sentences.as_array().unwrap().iter().map(cue).collect()
    }

    fn ids(value: &Value) -> Vec<i64> {
        value.as_array().unwrap().iter().map(|id| id.as_i64().unwrap()).collect()
    }

    fn example(duration_us: i64, speech: Vec<Cue>, events: Vec<Cue>) -> Example {
        Example {
            video_id: "v".to_owned(),
            file: PathBuf::new(),
            span: TimeSpan::new(0, duration_us),
            speech,
            references: vec![events],
        }
    }

    #[test]
    fn every_golden_target_as_the_decoder_reads_and_writes_it() {
        let golden: Value =
            serde_json::from_slice(&fs::read(format!("{GOLDEN}/sequences.json")).unwrap()).unwrap();
        let cases = golden["events_to_target"].as_array().unwrap();
        assert_eq!(cases.len(), 7);
        let ((_, vc), (_, sc)) = (t5(false), t5(true));
        for case in cases {
            let example = example(us(&case["duration"]), Vec::new(), cues(&case["events"]));
            let found = captioning(&example, &vc, 256, None).unwrap();
            assert_eq!(
                (found.target, found.input),
                (ids(&case["vc"]), vec![1]),
                "{}",
                case["name"]
            );
            let most = case["sc_max_events"].as_u64().and_then(|most| usize::try_from(most).ok());
            let found = captioning(&example, &sc, 256, most).unwrap();
            let target = padded(&[found.target], 0);
            assert_eq!(target.row(0).to_vec(), ids(&case["sc"]["decoder_target"]));
            assert_eq!(delayed(&target, 0).row(0).to_vec(), ids(&case["sc"]["decoder_input"]));
        }
    }

    /// The first golden transcript (`vid2seq.md` §11, TV2) under each objective.
    #[test]
    fn what_is_said_is_what_pre_training_writes() {
        let (manifest, tokenizer) = t5(false);
        let cue = |start: i64, end: i64, text: &str| Cue {
            span: TimeSpan::new(start * 10_000, end * 10_000),
            text: text.to_owned(),
        };
        let speech = vec![
            cue(340, 798, " today we are making pad Thai! "),
            cue(21_300, 21_450, "past the end"),
        ];
        let example = example(214_030_000, speech, Vec::new());
        let said = [32_101, 32_103, 1960, 62, 33, 492, 8950, 3, 189, 9, 23, 55, 5, 1];
        let found = generative(&example, &tokenizer).unwrap();
        assert_eq!((found.input, found.target), (vec![1], said.to_vec()));

        let rng = &mut StdRng::seed_from_u64(5);
        let found = denoised(&example, &tokenizer, &manifest, rng).unwrap();
        assert_eq!(found.input[..2], said[..2], "the beginning is never noise");
        let sentinel = |id: &&i64| (32_000..32_100).contains(*id);
        let both = [found.input.clone(), found.target.clone()].concat();
        let mut words: Vec<i64> = both.iter().filter(|id| !sentinel(id)).copied().collect();
        words.sort_unstable();
        let mut expected = [said.to_vec(), vec![1, 1]].concat();
        expected.sort_unstable();
        assert_eq!(words, expected, "nothing is lost, and both end twice");
        assert_eq!(found.target.iter().filter(sentinel).count(), 1, "a quarter of 14 is one run");
    }

    #[test]
    fn silence_has_sequences_too() {
        let (manifest, tokenizer) = t5(false);
        let silent = example(9_000_000, Vec::new(), Vec::new());
        let rng = &mut StdRng::seed_from_u64(5);
        let sequences = |input, target| Sequences { input: vec![input], target: vec![target] };
        assert_eq!(denoised(&silent, &tokenizer, &manifest, rng).unwrap(), sequences(0, 1));
        assert_eq!(generative(&silent, &tokenizer).unwrap(), sequences(1, 1));
        assert_eq!(captioning(&silent, &tokenizer, 256, None).unwrap(), sequences(1, 1));
    }

    #[test]
    fn a_batch_is_as_long_as_its_longest() {
        let mut manifest = presets::tiny();
        (manifest.temporal.positions, manifest.temporal.dim) = (3, 2);
        let rows = [array![[1.0, 2.0]], array![[3.0, 4.0], [5.0, 6.0], [7.0, 8.0], [9.0, 9.0]]];
        assert_eq!(
            features(&rows, &manifest),
            array![[[1.0, 2.0], [0.0, 0.0], [0.0, 0.0]], [[3.0, 4.0], [5.0, 6.0], [7.0, 8.0]]]
        );
        let targets = padded(&[vec![7, 1], vec![8, 9, 1]], 0);
        assert_eq!(targets, array![[7, 1, 0], [8, 9, 1]]);
        assert_eq!(delayed(&targets, 0), array![[0, 7, 1], [0, 8, 9]]);
        assert_eq!(padded::<Vec<i64>>(&[], 0).shape(), [0, 0]);
    }

    proptest! {
        #[test]
        fn noise_is_as_much_and_in_as_many_runs_as_it_should_be(length in 2usize..1200, seed: u64) {
            let noise = noise(length, &mut StdRng::seed_from_u64(seed));
            let (tokens, runs) = noise_counts(length);
            prop_assert_eq!(noise.len(), length);
            prop_assert_eq!(noise.iter().filter(|&&hidden| hidden).count(), tokens);
            prop_assert_eq!(noise.chunk_by(|a, b| a == b).filter(|run| run[0]).count(), runs);
            prop_assert!(!noise[0]);
        }
    }
}
