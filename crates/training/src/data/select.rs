//! Which examples are learnt from: a share of a data set by chance, always the same for a seed. A smaller share lies
//! within every larger one.

use sha2::{Digest as _, Sha256};

use super::example::Example;

/// A share of the examples, in `0..=1`, in their order: for few-shot training. The number is rounded up, so that
/// there is one if there are any.
#[must_use]
pub fn fraction(examples: Vec<Example>, share: f64, seed: u64) -> Vec<Example> {
    let mut places: Vec<f64> =
        examples.iter().map(|example| place(&example.video_id, seed)).collect();
    places.sort_by(f64::total_cmp);
    let Some(&last) = places.get(count(places.len(), share).saturating_sub(1)) else {
        return examples;
    };
    examples.into_iter().filter(|example| place(&example.video_id, seed) <= last).collect()
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "a share in 0..=1 of a number of examples"
)]
fn count(examples: usize, share: f64) -> usize {
    let count = (share.clamp(0.0, 1.0) * examples as f64).ceil() as usize;
    count.clamp(1, examples.max(1))
}

/// A number in `0..1` for a name, evenly spread.
#[expect(clippy::cast_precision_loss, reason = "52 bits are exact")]
fn place(video_id: &str, seed: u64) -> f64 {
    let digest = Sha256::new().chain_update(seed.to_le_bytes()).chain_update(video_id).finalize();
    let bits = digest.iter().take(8).fold(0_u64, |bits, &byte| (bits << 8) | u64::from(byte));
    (bits >> 12) as f64 / (1_u64 << 52) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use eventide_schema::TimeSpan;
    use std::path::PathBuf;

    fn examples(count: usize) -> Vec<Example> {
        let example = |number: usize| Example {
            video_id: format!("video-{number}"),
            file: PathBuf::new(),
            span: TimeSpan::new(0, 1),
            speech: Vec::new(),
            references: Vec::new(),
        };
        (0..count).map(example).collect()
    }

    fn ids(examples: &[Example]) -> Vec<&str> {
        examples.iter().map(|example| example.video_id.as_str()).collect()
    }

    #[test]
    fn a_smaller_share_lies_within_a_larger() {
        let of = |share| fraction(examples(250), share, 3);
        let sizes = [0.0, 0.01, 0.1, 0.5, 1.0].map(|share| of(share).len());
        assert_eq!(sizes, [1, 3, 25, 125, 250]);
        let (few, more, all) = (of(0.01), of(0.1), of(0.5));
        assert!(
            few.iter().all(|one| more.contains(one)) && more.iter().all(|one| all.contains(one))
        );
        assert_ne!(ids(&more), ids(&fraction(examples(250), 0.1, 4)));
        assert_eq!(fraction(Vec::new(), 0.5, 3), []);
    }
}
