//! CIDEr, in the form that every caption paper reports: consensus of n-grams weighted by how rare they are.
//!
//! From Vedantam, Zitnick and Parikh, "CIDEr: Consensus-based Image Description Evaluation" (CVPR 2015), section 6:
//! the variant CIDEr-D, which clips repeated n-grams and punishes a difference in length. As the COCO evaluation does,
//! captions are not stemmed, and the difference in length is that of the numbers of *bigrams* (reference §7.4).
//! Scores run from 0 to 10; papers print them times 10 again.

use std::{collections::HashMap, hash::Hash};

use crate::{Pair, PairScores, localisation::count};

/// The longest n-gram.
const LONGEST: usize = 4;

/// Width of the punishment for a difference in length, in bigrams.
const SIGMA: f64 = 6.0;

/// In how many documents each n-gram occurs. A document is what one caption is held against.
#[derive(Debug, Clone)]
pub struct Frequencies<T> {
    documents: usize,
    containing: HashMap<Vec<T>, usize>,
}

impl<T: Ord + Hash + Clone> Frequencies<T> {
    /// Counts over `documents`, each a group of captions.
    pub fn of<'a>(documents: impl IntoIterator<Item = Vec<&'a [T]>>) -> Self
    where
        T: 'a,
    {
        let mut frequencies = Self { documents: 0, containing: HashMap::new() };
        for document in documents {
            frequencies.documents += 1;
            for n in 1..=LONGEST {
                let mut grams: Vec<_> =
                    document.iter().flat_map(|words| words.windows(n)).collect();
                grams.sort_unstable();
                grams.dedup();
                for gram in grams {
                    match frequencies.containing.get_mut(gram) {
                        Some(containing) => *containing += 1,
                        None => {
                            frequencies.containing.insert(gram.to_vec(), 1);
                        }
                    }
                }
            }
        }
        frequencies
    }

    /// How much an occurrence of `gram` says: the logarithm of the share of documents that lack it, more or less.
    fn weight(&self, gram: &[T]) -> f64 {
        let containing = self.containing.get(gram).copied().unwrap_or(0);
        count(self.documents.max(1)).ln() - count(containing.max(1)).ln()
    }
}

/// Scores each pair with the document frequencies of this very list, as COCO and densevid do. The total is the mean.
///
/// A list of one pair therefore scores 0 even when the caption is perfect: its n-grams are in every document.
#[must_use]
pub fn cider<T: Ord + Hash + Clone>(pairs: &[Pair<'_, T>]) -> PairScores {
    let frequencies = Frequencies::of(pairs.iter().map(|pair| pair.references.clone()));
    PairScores::from_mean(pairs.iter().map(|pair| similarity(pair, &frequencies)).collect())
}

/// The CIDEr-D of one pair under given document frequencies: the mean over its references.
#[must_use]
pub fn similarity<T: Ord + Hash + Clone>(pair: &Pair<'_, T>, frequencies: &Frequencies<T>) -> f64 {
    if pair.references.is_empty() {
        return 0.0;
    }
    let hypothesis = Vector::new(pair.hypothesis, frequencies);
    let sum: f64 = pair
        .references
        .iter()
        .map(|reference| hypothesis.similarity(&Vector::new(reference, frequencies)))
        .sum();
    10.0 * sum / count(pair.references.len())
}

/// A caption as weighted n-grams.
struct Vector<'a, T> {
    /// For each n from 1.
    orders: Vec<Order<'a, T>>,
    bigrams: usize,
}

/// The n-grams of one length.
struct Order<'a, T> {
    /// In ascending order, with their weights.
    weighted: Vec<(&'a [T], f64)>,
    /// The length of that vector.
    norm: f64,
}

impl<'a, T: Ord + Hash + Clone> Vector<'a, T> {
    fn new(words: &'a [T], frequencies: &Frequencies<T>) -> Self {
        let orders = (1..=LONGEST)
            .map(|n| {
                let weighted: Vec<_> = counted(words, n)
                    .into_iter()
                    .map(|(gram, times)| (gram, count(times) * frequencies.weight(gram)))
                    .collect();
                let norm = weighted.iter().map(|(_, weight)| weight * weight).sum::<f64>().sqrt();
                Order { weighted, norm }
            })
            .collect();
        Self { orders, bigrams: words.len().saturating_sub(1) }
    }

    fn similarity(&self, reference: &Self) -> f64 {
        let difference = count(self.bigrams.abs_diff(reference.bigrams));
        let punishment = (-difference * difference / (2.0 * SIGMA * SIGMA)).exp();
        let cosines: f64 = self
            .orders
            .iter()
            .zip(&reference.orders)
            .map(|(ours, theirs)| {
                let norm = ours.norm * theirs.norm;
                if norm > 0.0 {
                    clipped_product(&ours.weighted, &theirs.weighted) / norm
                } else {
                    0.0
                }
            })
            .sum();
        punishment * cosines / count(LONGEST)
    }
}

/// The product of two vectors in ascending order, where no n-gram of `ours` counts for more than it does in `theirs`.
fn clipped_product<T: Ord>(ours: &[(&[T], f64)], theirs: &[(&[T], f64)]) -> f64 {
    ours.iter()
        .filter_map(|(gram, weight)| {
            let index = theirs.binary_search_by(|(other, _)| other.cmp(gram)).ok()?;
            let (_, limit) = theirs[index];
            Some(weight.min(limit) * limit)
        })
        .sum()
}

/// The n-grams of `words` in ascending order, each with how often it occurs.
pub(crate) fn counted<T: Ord>(words: &[T], n: usize) -> Vec<(&[T], usize)> {
    let mut grams: Vec<_> = words.windows(n).collect();
    grams.sort_unstable();
    grams.chunk_by(|a, b| a == b).map(|same| (same[0], same.len())).collect()
}
