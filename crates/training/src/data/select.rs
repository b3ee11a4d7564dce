//! Which examples are learnt from: parts of a data set by chance, always the same for a seed. An example keeps its
//! place when others come or go, and a smaller share lies within every larger one.

use sha2::{Digest as _, Sha256};

use super::example::Example;

/// The examples in parts that make up these shares, none of them negative: each has the chance of its share to be in
/// a part.
///
/// What is over the sum of the shares goes to the last part.
#[must_use]
pub fn split(examples: Vec<Example>, shares: &[f64], seed: u64) -> Vec<Vec<Example>> {
    let mut parts: Vec<Vec<Example>> = shares.iter().map(|_| Vec::new()).collect();
    let bounds: Vec<f64> = shares
        .iter()
        .scan(0.0, |sum, share| {
            *sum += share;
            Some(*sum)
        })
        .collect();
    for example in examples {
        let at = place(&example.video_id, seed);
        let part = bounds.iter().position(|&bound| at < bound);
        let last = parts.len().saturating_sub(1);
        if let Some(part) = parts.get_mut(part.unwrap_or(last)) {
            part.push(example);
        }
    }
    parts
}

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
    fn parts_are_of_about_their_share_and_disjoint() {
        let parts = split(examples(1000), &[0.8, 0.1, 0.1], 7);
        let sizes: Vec<_> = parts.iter().map(Vec::len).collect();
        assert_eq!(sizes.iter().sum::<usize>(), 1000);
        assert!((760..840).contains(&sizes[0]) && (70..130).contains(&sizes[1]), "{sizes:?}");
    }

    #[test]
    fn an_example_keeps_its_part() {
        let few = split(examples(100), &[0.5, 0.5], 7);
        let many = split(examples(300), &[0.5, 0.5], 7);
        assert!(few[0].iter().all(|example| many[0].contains(example)));
        assert_ne!(few, split(examples(100), &[0.5, 0.5], 8));
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
