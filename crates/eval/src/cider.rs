//! CIDEr, in the form that every caption paper reports: consensus of n-grams weighted by how rare they are.
//!
//! From Vedantam, Zitnick and Parikh, "CIDEr: Consensus-based Image Description Evaluation" (CVPR 2015), section 6:
//! the variant CIDEr-D, which clips repeated n-grams and punishes a difference in length. As the COCO evaluation does,
//! captions are not stemmed, and the difference in length is that of the numbers of *bigrams* (reference §7.4).
//! Scores run from 0 to 10; papers print them times 10 again.

use std::{collections::HashMap, hash::Hash};

use crate::{
    Pair, PairScores,
    grams::{Grams, LONGEST, Numbers, counted},
    localisation::count,
};

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

    fn weight(&self, gram: &[T]) -> f64 {
        weight(self.documents, self.containing.get(gram).copied().unwrap_or(0))
    }
}

/// How much an n-gram says: the logarithm of the share of documents that lack it, more or less.
fn weight(documents: usize, containing: usize) -> f64 {
    count(documents.max(1)).ln() - count(containing.max(1)).ln()
}

/// Scores each pair with the document frequencies of this very list, as COCO and densevid do. The total is the mean.
///
/// A list of one pair therefore scores 0 even when the caption is perfect: its n-grams are in every document.
#[must_use]
pub fn cider<T: Eq + Hash>(pairs: &[Pair<'_, T>]) -> PairScores {
    let mut numbers = Numbers::new();
    let pairs: Vec<(Grams, Vec<Grams>)> = pairs
        .iter()
        .map(|pair| {
            let references = pair.references.iter().map(|words| numbers.grams(words)).collect();
            (numbers.grams(pair.hypothesis), references)
        })
        .collect();
    let pairs: Vec<_> = pairs
        .iter()
        .map(|(hypothesis, references)| (hypothesis, references.iter().collect()))
        .collect();
    PairScores::from_mean(cider_of_grams(&pairs, numbers.len()))
}

/// The CIDEr of each pair of a list; `known` n-grams have a number.
pub(crate) fn cider_of_grams(pairs: &[(&Grams, Vec<&Grams>)], known: usize) -> Vec<f64> {
    let mut containing = vec![0; known];
    for (_, references) in pairs {
        let grams = references.iter().flat_map(|grams| grams.orders.iter().flatten());
        for (gram, _) in counted(grams.map(|(gram, _)| *gram).collect()) {
            containing[gram as usize] += 1;
        }
    }
    let weights: Vec<f64> =
        (0..=pairs.len()).map(|containing| weight(pairs.len(), containing)).collect();
    let vector = |grams: &Grams| {
        Vector::new(grams.words.len(), |order| {
            let grams = grams.orders[order].iter();
            grams
                .map(|&(gram, times)| (gram, f64::from(times) * weights[containing[gram as usize]]))
                .collect()
        })
    };
    pairs
        .iter()
        .map(|(hypothesis, references)| {
            vector(hypothesis).mean_similarity(references.iter().map(|grams| vector(grams)))
        })
        .collect()
}

/// The CIDEr-D of one pair under given document frequencies: the mean over its references.
#[must_use]
pub fn similarity<T: Ord + Hash + Clone>(pair: &Pair<'_, T>, frequencies: &Frequencies<T>) -> f64 {
    let vector = |words| {
        Vector::new(<[T]>::len(words), |order| {
            let grams = counted(words.windows(order + 1).collect());
            grams
                .into_iter()
                .map(|(gram, times)| (gram, f64::from(times) * frequencies.weight(gram)))
                .collect()
        })
    };
    vector(pair.hypothesis).mean_similarity(pair.references.iter().map(|words| vector(words)))
}

/// A caption as weighted n-grams; `G` is what they are told apart by.
struct Vector<G> {
    /// For each n from 1.
    orders: [Order<G>; LONGEST],
    bigrams: usize,
}

/// The n-grams of one length.
struct Order<G> {
    /// In ascending order, with their weights.
    weighted: Vec<(G, f64)>,
    /// The length of that vector.
    norm: f64,
}

impl<G: Ord> Vector<G> {
    /// A caption of so many words; `weighted` gives the n-grams of n = order + 1 in ascending order.
    fn new(words: usize, weighted: impl Fn(usize) -> Vec<(G, f64)>) -> Self {
        let orders = std::array::from_fn(|order| {
            let weighted = weighted(order);
            let norm = weighted.iter().map(|(_, weight)| weight * weight).sum::<f64>().sqrt();
            Order { weighted, norm }
        });
        Self { orders, bigrams: words.saturating_sub(1) }
    }

    /// The mean over `references`, times ten; 0 where there is none.
    fn mean_similarity(&self, references: impl ExactSizeIterator<Item = Self>) -> f64 {
        let number = references.len().max(1);
        10.0 * references.map(|reference| self.similarity(&reference)).sum::<f64>() / count(number)
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
fn clipped_product<G: Ord>(ours: &[(G, f64)], theirs: &[(G, f64)]) -> f64 {
    let mut theirs = theirs.iter().peekable();
    let mut product = 0.0;
    for (gram, weight) in ours {
        while theirs.next_if(|(other, _)| other < gram).is_some() {}
        if let Some((_, limit)) = theirs.next_if(|(other, _)| other == gram) {
            product += weight.min(*limit) * limit;
        }
    }
    product
}
