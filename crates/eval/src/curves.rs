//! What reports draw: how scores change with the threshold, and whether the model's own scores can be trusted.

use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    Corpus, VideoCase,
    localisation::{At, PrecisionRecall, count, precision_recall_above},
    overlap::iou,
};

/// Overlaps of the curve.
const STEPS: u32 = 20;
/// Bins of a calibration.
const BINS: usize = 10;
/// What a prediction must overlap to count as right in a calibration.
const RIGHT: f64 = 0.5;

/// Precision and recall (means over videos, and the F1 of these means) at overlaps from 0 to 0.95 in steps of 0.05.
#[must_use]
pub fn precision_recall(corpus: &Corpus) -> Vec<At> {
    (0..STEPS)
        .map(|step| {
            let threshold = f64::from(step) / f64::from(STEPS);
            let each = corpus.videos().iter().map(|case| precision_recall_above(case, threshold));
            let mean = PrecisionRecall::mean(each);
            At { threshold, scores: PrecisionRecall::new(mean.precision, mean.recall) }
        })
        .collect()
}

/// How well the model's scores say which of its events are right.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Calibration {
    /// Events with a score.
    pub events: usize,
    /// Events without one. Not looked at.
    pub without_score: usize,
    /// Whether scores were taken for logarithms of probabilities, as ours are: then none is above 0.
    pub logarithms: bool,
    /// Events by ascending confidence, in bins of as many events each.
    pub bins: Vec<Bin>,
    /// The mean over events of how far a bin's confidence is from its share of right events.
    pub expected_error: f64,
    /// The probability that a right event has a greater score than a wrong one; none if all are right or all are wrong.
    pub ranking: Option<f64>,
}

/// Events of about the same confidence.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
pub struct Bin {
    /// How many.
    pub events: usize,
    /// The mean of their scores, as probabilities.
    pub confidence: f64,
    /// The share of them whose overlap with some reference is at least a half.
    pub right: f64,
}

/// Holds the scores of events against whether they overlap some reference by at least a half. `None` if no event has a
/// score.
#[must_use]
pub fn calibration(corpus: &Corpus) -> Option<Calibration> {
    let events = corpus.videos().iter().flat_map(|case| {
        case.predictions.iter().map(|event| {
            let mut references = case.references.iter().flatten();
            let right = references.any(|reference| iou(event.span, reference.span) >= RIGHT);
            (event.score, right)
        })
    });
    let all: Vec<_> = events.collect();
    let mut scored: Vec<(f64, bool)> =
        all.iter().filter_map(|&(score, right)| Some((score?, right))).collect();
    if scored.is_empty() {
        return None;
    }
    let logarithms = scored.iter().all(|(score, _)| *score <= 0.0);
    if logarithms {
        for (score, _) in &mut scored {
            *score = score.exp();
        }
    }
    scored.sort_by(|a, b| a.0.total_cmp(&b.0));
    let bins: Vec<Bin> = scored.chunks(scored.len().div_ceil(BINS)).map(Bin::of).collect();
    let errors = bins.iter().map(|bin| count(bin.events) * (bin.confidence - bin.right).abs());
    Some(Calibration {
        events: scored.len(),
        without_score: all.len() - scored.len(),
        logarithms,
        expected_error: errors.sum::<f64>() / count(scored.len()),
        ranking: ranking(&scored),
        bins,
    })
}

impl Bin {
    fn of(events: &[(f64, bool)]) -> Self {
        let number = count(events.len());
        Self {
            events: events.len(),
            confidence: events.iter().map(|(score, _)| score).sum::<f64>() / number,
            right: count(events.iter().filter(|(_, right)| *right).count()) / number,
        }
    }
}

/// The area under the curve of true against false positives, from the ranks of the right ones (Mann and Whitney's U);
/// equal scores share their rank. `sorted` is by ascending score.
fn ranking(sorted: &[(f64, bool)]) -> Option<f64> {
    let right = sorted.iter().filter(|(_, right)| *right).count();
    let wrong = sorted.len() - right;
    if right == 0 || wrong == 0 {
        return None;
    }
    let (mut before, mut ranks) = (0, 0.0);
    for equal in sorted.chunk_by(|a, b| a.0.total_cmp(&b.0).is_eq()) {
        let rank = count(before) + f64::midpoint(count(equal.len()), 1.0);
        ranks += rank * count(equal.iter().filter(|(_, right)| *right).count());
        before += equal.len();
    }
    let (right, wrong) = (count(right), count(wrong));
    Some((ranks - right * (right + 1.0) / 2.0) / (right * wrong))
}

/// How many events the videos have: predicted, and in the mean of the sets that have the video, rounded.
#[must_use]
pub fn events_a_video(corpus: &Corpus) -> Vec<(f64, f64)> {
    let counts = |case: &VideoCase| {
        let references: usize = case.sets().map(<[_]>::len).sum();
        let references = count(references) / count(case.sets().count().max(1));
        (count(case.predictions.len()), references.round())
    };
    corpus.videos().iter().map(counts).collect()
}
