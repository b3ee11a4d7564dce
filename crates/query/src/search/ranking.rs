//! The order of hits: by words, and by words and meaning together.

use std::collections::HashMap;

use tantivy::DocAddress;

/// What is added to a rank, so that the first few do not outweigh the rest: 60, as in G. V. Cormack, C. L. A. Clarke,
/// S. Büttcher, "Reciprocal rank fusion outperforms Condorcet and individual rank learning methods", SIGIR 2009.
const OFFSET: f64 = 60.0;

/// A hit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Ranked {
    /// Where the event is.
    pub(crate) at: DocAddress,
    /// How well the words match: 0 where they do not.
    pub(crate) bm25: f32,
    /// The cosine to the question, where the event is among the nearest.
    pub(crate) similarity: Option<f32>,
    /// The sum of 1 / (60 + rank) over the lists that have it, ranks from 1.
    pub(crate) rrf: f64,
}

/// One of the nearest events.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Near {
    /// Where the event is.
    pub(crate) at: DocAddress,
    /// The cosine.
    pub(crate) similarity: f32,
    /// How well its words match, if they do.
    pub(crate) bm25: Option<f32>,
}

/// What a place in a list adds, the first being 0.
#[expect(clippy::cast_precision_loss, reason = "a list is shorter than 2^52")]
fn share(place: usize) -> f64 {
    1.0 / (OFFSET + 1.0 + place as f64)
}

/// Hits by words, the best first, of which `before` are left out.
pub(crate) fn by_words(found: &[(f32, DocAddress)], before: usize) -> Vec<Ranked> {
    let ranked = found.iter().zip(before..).map(|((bm25, at), place)| Ranked {
        at: *at,
        bm25: *bm25,
        similarity: None,
        rrf: share(place),
    });
    ranked.collect()
}

/// Hits by words and the nearest, both the best first, as one list by reciprocal rank fusion. Where that says the same,
/// better words go first.
pub(crate) fn fused(words: Vec<Ranked>, near: &[Near]) -> Vec<Ranked> {
    let mut all = words;
    let places: HashMap<_, _> = all.iter().enumerate().map(|(at, hit)| (hit.at, at)).collect();
    for (place, near) in near.iter().enumerate() {
        let similarity = Some(near.similarity);
        if let Some(at) = places.get(&near.at) {
            all[*at].similarity = similarity;
            all[*at].rrf += share(place);
        } else {
            let (at, bm25) = (near.at, near.bm25.unwrap_or(0.0));
            all.push(Ranked { at, bm25, similarity, rrf: share(place) });
        }
    }
    all.sort_by(|a, b| {
        b.rrf.total_cmp(&a.rrf).then(b.bm25.total_cmp(&a.bm25)).then(a.at.cmp(&b.at))
    });
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn at(document: u32) -> DocAddress {
        DocAddress::new(0, document)
    }

    #[rstest]
    #[case::words_alone(&[1, 2], &[], &[1, 2])]
    #[case::meaning_alone(&[], &[3, 1], &[3, 1])]
    #[case::in_both(&[1, 2, 3], &[3, 4], &[3, 1, 2, 4])]
    #[case::words_before_meaning(&[1], &[2], &[1, 2])]
    #[case::second_in_both_beats_the_first_of_one(&[1, 2], &[3, 2], &[2, 1, 3])]
    fn lists_become_one(#[case] words: &[u32], #[case] near: &[u32], #[case] expected: &[u32]) {
        let words: Vec<_> = words.iter().map(|document| (1.0, at(*document))).collect();
        let near =
            near.iter().map(|document| Near { at: at(*document), similarity: 0.5, bm25: None });
        let found = fused(by_words(&words, 0), &near.collect::<Vec<_>>());
        let expected: Vec<_> = expected.iter().map(|document| at(*document)).collect();
        assert_eq!(found.iter().map(|hit| hit.at).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn the_first_of_both_lists_has_two_sixty_firsts() {
        let near = [Near { at: at(7), similarity: 0.5, bm25: Some(2.0) }];
        let found = fused(by_words(&[(2.0, at(7))], 0), &near);
        assert!((found[0].rrf - 2.0 / 61.0).abs() < 1e-12);
        let later = by_words(&[(2.0, at(7))], 9);
        assert!((later[0].rrf - 1.0 / 70.0).abs() < 1e-12, "the tenth");
    }
}
