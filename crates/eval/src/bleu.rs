//! BLEU-1 to BLEU-4.
//!
//! From Papineni, Roukos, Ward and Zhu, "BLEU: a Method for Automatic Evaluation of Machine Translation" (ACL 2002),
//! with the two small constants by which the COCO evaluation keeps empty counts from being no numbers. A caption is
//! short by comparison with the reference whose length is closest to its own, the shorter one of two equally close.

use crate::{Pair, cider::counted, localisation::count};

/// The longest n-gram.
const LONGEST: usize = 4;
const TINY: f64 = 1e-15;
const SMALL: f64 = 1e-9;

/// BLEU-1, BLEU-2, BLEU-3 and BLEU-4.
pub type Bleu = [f64; LONGEST];

/// The BLEU of a list of pairs: counts are added up over the list. Zeros for an empty list.
#[must_use]
pub fn corpus_bleu<T: Ord>(pairs: &[Pair<'_, T>]) -> Bleu {
    if pairs.is_empty() {
        return [0.0; LONGEST];
    }
    let mut counts = Counts::default();
    for pair in pairs {
        counts.add(pair);
    }
    counts.bleu()
}

/// The BLEU of one pair by itself.
#[must_use]
pub fn sentence_bleu<T: Ord>(pair: &Pair<'_, T>) -> Bleu {
    let mut counts = Counts::default();
    counts.add(pair);
    counts.bleu()
}

#[derive(Default)]
struct Counts {
    /// Words of the captions.
    length: usize,
    /// Words of the references that they are compared with.
    reference_length: usize,
    /// For each n, how many n-grams the captions have, and how many of those some reference has too.
    grams: [(usize, usize); LONGEST],
}

impl Counts {
    fn add<T: Ord>(&mut self, pair: &Pair<'_, T>) {
        let length = pair.hypothesis.len();
        self.length += length;
        self.reference_length += pair
            .references
            .iter()
            .map(|reference| reference.len())
            .min_by_key(|&other| (other.abs_diff(length), other))
            .unwrap_or(0);
        for (n, (all, matched)) in (1..).zip(&mut self.grams) {
            *all += (length + 1).saturating_sub(n);
            let references: Vec<_> =
                pair.references.iter().map(|reference| counted(reference, n)).collect();
            *matched += counted(pair.hypothesis, n)
                .into_iter()
                .map(|(gram, times)| {
                    let most = references.iter().map(|grams| times_in(grams, gram)).max();
                    times.min(most.unwrap_or(0))
                })
                .sum::<usize>();
        }
    }

    fn bleu(&self) -> Bleu {
        let ratio = (count(self.length) + TINY) / (count(self.reference_length) + SMALL);
        let brevity = if ratio < 1.0 { (1.0 - 1.0 / ratio).exp() } else { 1.0 };
        let (mut product, mut root) = (1.0, 0.0);
        self.grams.map(|(all, matched)| {
            product *= (count(matched) + TINY) / (count(all) + SMALL);
            root += 1.0;
            f64::powf(product, 1.0 / root) * brevity
        })
    }
}

fn times_in<T: Ord>(grams: &[(&[T], usize)], gram: &[T]) -> usize {
    grams.binary_search_by(|(other, _)| (*other).cmp(gram)).map_or(0, |index| grams[index].1)
}
