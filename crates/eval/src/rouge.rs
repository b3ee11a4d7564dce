//! ROUGE-L: the longest common subsequence of two captions.
//!
//! From Lin, "ROUGE: A Package for Automatic Evaluation of Summaries" (2004), section 3, with β = 1.2 as the COCO
//! evaluation sets it. Precision and recall are each the best over the references.

use crate::{Pair, PairScores, localisation::share};

const BETA: f64 = 1.2;

/// Scores each pair; the total is the mean. A caption without words scores 0.
#[must_use]
pub fn rouge_l<T: Eq>(pairs: &[Pair<'_, T>]) -> PairScores {
    PairScores::from_mean(pairs.iter().map(sentence_rouge_l).collect())
}

/// The ROUGE-L of one pair, 0 to 1.
#[must_use]
pub fn sentence_rouge_l<T: Eq>(pair: &Pair<'_, T>) -> f64 {
    let (mut precision, mut recall) = (0.0_f64, 0.0_f64);
    for reference in &pair.references {
        let common = common_subsequence(pair.hypothesis, reference);
        precision = precision.max(share(common, pair.hypothesis.len()));
        recall = recall.max(share(common, reference.len()));
    }
    if precision > 0.0 && recall > 0.0 {
        (1.0 + BETA * BETA) * precision * recall / (recall + BETA * BETA * precision)
    } else {
        0.0
    }
}

/// The length of the longest sequence that both contain, in order but not without gaps.
fn common_subsequence<T: Eq>(a: &[T], b: &[T]) -> usize {
    let mut row = vec![0; b.len() + 1];
    for word in a {
        let mut diagonal = 0;
        for (column, other) in b.iter().enumerate() {
            let above = row[column + 1];
            row[column + 1] = if word == other { diagonal + 1 } else { above.max(row[column]) };
            diagonal = above;
        }
    }
    row[b.len()]
}
