//! The n-grams of captions as numbers, so that comparing two is comparing integers.

use std::{collections::HashMap, hash::Hash};

/// The longest n-gram that any measure looks at.
pub(crate) const LONGEST: usize = 4;

/// Gives equal n-grams equal numbers, from 0 on without gaps.
pub(crate) struct Numbers<'a, T> {
    words: HashMap<&'a T, u32>,
    /// A longer n-gram is the one that it begins with, and its last word.
    longer: HashMap<(u32, u32), u32>,
    next: u32,
}

/// A caption as numbers.
pub(crate) struct Grams {
    /// The words in their order.
    pub(crate) words: Vec<u32>,
    /// For each n from 1, every n-gram with how often it occurs, by number.
    pub(crate) orders: [Vec<(u32, u32)>; LONGEST],
}

impl<'a, T: Eq + Hash> Numbers<'a, T> {
    pub(crate) fn new() -> Self {
        Self { words: HashMap::new(), longer: HashMap::new(), next: 0 }
    }

    /// How many n-grams have a number.
    pub(crate) fn len(&self) -> usize {
        self.next as usize
    }

    /// The n-grams of a caption.
    pub(crate) fn grams(&mut self, caption: &'a [T]) -> Grams {
        let mut fresh = || {
            self.next += 1;
            self.next - 1
        };
        let words: Vec<u32> =
            caption.iter().map(|word| *self.words.entry(word).or_insert_with(&mut fresh)).collect();
        let mut grams = words.clone();
        let orders = std::array::from_fn(|order| {
            if order > 0 {
                // An n-gram at some place is the shorter one there and the word that follows.
                let followed = grams.iter().zip(words.iter().skip(order));
                grams = followed
                    .map(|(&start, &word)| {
                        *self.longer.entry((start, word)).or_insert_with(&mut fresh)
                    })
                    .collect();
            }
            counted(grams.clone())
        });
        Grams { words, orders }
    }
}

/// The different ones among `grams` in ascending order, each with how often it occurs.
pub(crate) fn counted<G: Ord + Copy>(mut grams: Vec<G>) -> Vec<(G, u32)> {
    grams.sort_unstable();
    let mut counted: Vec<(G, u32)> = Vec::with_capacity(grams.len());
    for gram in grams {
        match counted.last_mut() {
            Some((last, times)) if *last == gram => *times += 1,
            _ => counted.push((gram, 1)),
        }
    }
    counted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_n_grams_have_equal_numbers() {
        let (one, other) = ("a b a b a".split(' ').collect::<Vec<_>>(), ["b", "a", "b"]);
        let mut numbers = Numbers::new();
        let (one, other) = (numbers.grams(&one), numbers.grams(&other));
        let times = |grams: &Grams, n: usize| {
            grams.orders[n - 1].iter().map(|(_, times)| *times).collect::<Vec<_>>()
        };
        assert_eq!(
            (times(&one, 1), times(&one, 2), times(&one, 3)),
            (vec![3, 2], vec![2, 2], vec![2, 1])
        );
        assert_eq!(times(&other, 4), [0; 0]);
        let shared = one.orders[2].iter().filter(|(gram, _)| other.orders[2][0].0 == *gram);
        assert_eq!(shared.map(|(_, times)| *times).collect::<Vec<_>>(), [1], "b a b");
        // a, b; ab, ba; aba, bab; abab, baba.
        assert_eq!(numbers.len(), 8);
    }
}
