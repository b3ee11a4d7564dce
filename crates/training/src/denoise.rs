//! The denoising objective: which part of a sequence is hidden, and the two sequences that come of it.
//!
//! Ids only (arXiv 2302.14115, section 3.2; `vid2seq.md` §5.1). Time tokens are hidden like any other. Where the noise
//! lies is the caller's choice: [`noise_counts`] says how much of it there is.

use eventide_model::manifest::{Manifest, Normalise};

/// One token in this many is noise.
const NOISE_EVERY: usize = 4;
/// Tokens of a run of noise, on average.
const MEAN_SPAN: usize = 5;

/// How many of `length` tokens are noise, and in how many runs. `length` is 2 or more.
///
/// A quarter and runs of five, both rounded to the nearest, halves to the even number; at least one token is noise, at
/// least one is not, and there is at least one run.
#[must_use]
pub fn noise_counts(length: usize) -> (usize, usize) {
    let noise = rounded(length, NOISE_EVERY).clamp(1, length.saturating_sub(1).max(1));
    (noise, rounded(noise, MEAN_SPAN).max(1))
}

/// `value / by` to the nearest whole number, halves to the even one.
fn rounded(value: usize, by: usize) -> usize {
    let (whole, rest) = (value / by, value % by);
    match (rest * 2).cmp(&by) {
        std::cmp::Ordering::Greater => whole + 1,
        std::cmp::Ordering::Equal => whole + whole % 2,
        std::cmp::Ordering::Less => whole,
    }
}

/// What the text encoder reads and what the decoder is to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denoising {
    /// The sequence with each run of noise replaced by a sentinel.
    pub input: Vec<i64>,
    /// The sequence with each run that is no noise replaced by a sentinel.
    pub target: Vec<i64>,
}

/// Hides the tokens of `ids` for which `noise` is true; both have the same length.
///
/// Sentinels count down from the id before the first time token, in each sequence for itself. Under
/// [`Normalise::VidChapters`] both sequences get one more EOS at their end.
#[must_use]
pub fn denoising(manifest: &Manifest, ids: &[i64], noise: &[bool]) -> Denoising {
    let first_sentinel = i64::from(manifest.time_tokens.first_id) - 1;
    let end = match manifest.text.normalise {
        Normalise::VidChapters => Some(i64::from(manifest.text.eos_id)),
        Normalise::Scenic => None,
    };
    let hide = |hidden: bool| {
        let mut sequence = hidden_runs(ids, noise, hidden, first_sentinel);
        sequence.extend(end);
        sequence
    };
    Denoising { input: hide(true), target: hide(false) }
}

/// What a video without speech gives: nothing to read, the end to write.
#[must_use]
pub fn denoising_of_silence(manifest: &Manifest) -> Denoising {
    let text = &manifest.text;
    Denoising { input: vec![i64::from(text.pad_id)], target: vec![i64::from(text.eos_id)] }
}

/// `ids` with each run of tokens whose `noise` is `hidden` replaced by the next sentinel.
fn hidden_runs(ids: &[i64], noise: &[bool], hidden: bool, first_sentinel: i64) -> Vec<i64> {
    let tokens: Vec<(i64, bool)> = ids.iter().copied().zip(noise.iter().copied()).collect();
    let mut sentinel = first_sentinel;
    let mut sequence = Vec::with_capacity(ids.len());
    for run in tokens.chunk_by(|(_, a), (_, b)| a == b) {
        if run[0].1 == hidden {
            sequence.push(sentinel);
            sentinel -= 1;
        } else {
            sequence.extend(run.iter().map(|(id, _)| id));
        }
    }
    sequence
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::presets;
    use serde_json::Value;

    const GOLDEN: &str =
        concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/golden/sequences.json");

    fn golden() -> Value {
        serde_json::from_slice(&std::fs::read(GOLDEN).unwrap()).unwrap()
    }

    fn manifest(first_id: u32, normalise: Normalise) -> Manifest {
        let mut manifest = presets::base();
        manifest.time_tokens.first_id = first_id;
        manifest.text.normalise = normalise;
        manifest
    }

    fn ids(value: &Value) -> Vec<i64> {
        value.as_array().unwrap().iter().map(|id| id.as_i64().unwrap()).collect()
    }

    #[test]
    fn every_golden_denoising() {
        let golden = golden();
        let cases = golden["denoise"].as_array().unwrap();
        assert_eq!(cases.len(), 14);
        let vid_chapters = manifest(32_100, Normalise::VidChapters);
        let scenic = manifest(32_128, Normalise::Scenic);
        for case in cases {
            let noise = |name: &str| ids(&case[name]).iter().map(|&n| n == 1).collect::<Vec<_>>();
            let found = denoising(&vid_chapters, &ids(&case["ids"]), &noise("noise"));
            assert_eq!(
                (found.input, found.target),
                (ids(&case["vc_input"]), ids(&case["vc_target"]))
            );
            let found = denoising(&scenic, &ids(&case["sc_ids"]), &noise("sc_noise"));
            let target = ids(&case["sc_target_without_bos"]);
            assert_eq!((found.input, found.target), (ids(&case["sc_input"]), target));
        }
    }

    #[test]
    fn every_golden_count() {
        let golden = golden();
        let cases = golden["denoise_counts"].as_array().unwrap();
        assert_eq!(cases.len(), 13);
        for case in cases {
            let number = |name: &str| usize::try_from(case[name].as_u64().unwrap()).unwrap();
            assert_eq!(
                noise_counts(number("length")),
                (number("noise_tokens"), number("spans")),
                "{case}"
            );
            assert_eq!(case["first_is_noise"], false);
        }
    }

    #[test]
    fn silence_is_denoised_to_the_end() {
        let expected = &golden()["denoise_empty_speech"];
        let found = denoising_of_silence(&manifest(32_100, Normalise::VidChapters));
        assert_eq!(found.input, ids(&expected["vc_input"]));
        assert_eq!(found.target, ids(&expected["vc_target"]));
    }
}
