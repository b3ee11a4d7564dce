//! BLEU-1 to BLEU-4.
//!
//! From Papineni, Roukos, Ward and Zhu, "BLEU: a Method for Automatic Evaluation of Machine Translation" (ACL 2002),
//! with the two small constants by which the COCO evaluation keeps empty counts from being no numbers. A caption is
//! short by comparison with the reference whose length is closest to its own, the shorter one of two equally close.

use std::hash::Hash;

use crate::{
    Pair,
    grams::{Grams, LONGEST, Numbers},
    localisation::count,
};

const TINY: f64 = 1e-15;
const SMALL: f64 = 1e-9;

/// BLEU-1, BLEU-2, BLEU-3 and BLEU-4.
pub type Bleu = [f64; LONGEST];

/// The BLEU of a list of pairs: counts are added up over the list. Zeros for an empty list.
#[must_use]
pub fn corpus_bleu<T: Eq + Hash>(pairs: &[Pair<'_, T>]) -> Bleu {
    let mut numbers = Numbers::new();
    let mut counts = Counts::default();
    for pair in pairs {
        let references: Vec<_> =
            pair.references.iter().map(|reference| numbers.grams(reference)).collect();
        counts.add(&numbers.grams(pair.hypothesis), &references.iter().collect::<Vec<_>>());
    }
    counts.bleu()
}

/// The BLEU of one pair by itself.
#[must_use]
pub fn sentence_bleu<T: Eq + Hash>(pair: &Pair<'_, T>) -> Bleu {
    corpus_bleu(std::slice::from_ref(pair))
}

/// The BLEU of a list of pairs whose n-grams are numbered alike.
pub(crate) fn bleu_of_grams(pairs: &[(&Grams, Vec<&Grams>)]) -> Bleu {
    let mut counts = Counts::default();
    for (hypothesis, references) in pairs {
        counts.add(hypothesis, references);
    }
    counts.bleu()
}

#[derive(Default)]
struct Counts {
    pairs: usize,
    /// Words of the captions.
    length: usize,
    /// Words of the references that they are compared with.
    reference_length: usize,
    /// For each n, how many n-grams the captions have, and how many of those some reference has too.
    grams: [(usize, usize); LONGEST],
}

impl Counts {
    fn add(&mut self, hypothesis: &Grams, references: &[&Grams]) {
        let length = hypothesis.words.len();
        self.pairs += 1;
        self.length += length;
        self.reference_length += references
            .iter()
            .map(|reference| reference.words.len())
            .min_by_key(|&other| (other.abs_diff(length), other))
            .unwrap_or(0);
        for (order, (all, matched)) in self.grams.iter_mut().enumerate() {
            *all += length.saturating_sub(order);
            for &(gram, times) in &hypothesis.orders[order] {
                let most =
                    references.iter().map(|grams| times_in(&grams.orders[order], gram)).max();
                *matched += times.min(most.unwrap_or(0)) as usize;
            }
        }
    }

    fn bleu(&self) -> Bleu {
        if self.pairs == 0 {
            return [0.0; LONGEST];
        }
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

fn times_in(grams: &[(u32, u32)], gram: u32) -> u32 {
    grams.binary_search_by_key(&gram, |(other, _)| *other).map_or(0, |index| grams[index].1)
}
