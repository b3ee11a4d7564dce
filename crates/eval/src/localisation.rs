//! Whether events were found where they are, whatever their captions say.
//!
//! Reference §7.3. A prediction hits if its overlap with some reference is strictly above the threshold, and a reference
//! is found likewise: many to many, there is no assignment. With several reference sets the precision and the recall
//! of a video are each the best over the sets.

use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    Corpus, Event, VideoCase,
    overlap::{iou, start_distance},
};

/// Overlaps at which localisation and captions are scored.
pub const IOU_THRESHOLDS: [f64; 4] = [0.3, 0.5, 0.7, 0.9];

/// Distances between starts at which boundaries are scored, in seconds.
pub const START_DISTANCES: [f64; 6] = [1.0, 3.0, 5.0, 10.0, 30.0, 60.0];

/// A precision, a recall and the F1 that belongs to them; what is averaged into which, the holder says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, JsonSchema)]
pub struct PrecisionRecall {
    /// Share of predictions that hit.
    pub precision: f64,
    /// Share of references that were found.
    pub recall: f64,
    /// Their harmonic mean, or a mean of harmonic means.
    pub f1: f64,
}

impl PrecisionRecall {
    /// With F1 as the harmonic mean; 0 if both are 0.
    #[must_use]
    pub fn new(precision: f64, recall: f64) -> Self {
        let sum = precision + recall;
        let f1 = if sum > 0.0 { 2.0 * precision * recall / sum } else { 0.0 };
        Self { precision, recall, f1 }
    }

    /// The means of all three; zeros for none.
    pub fn mean(all: impl IntoIterator<Item = Self>) -> Self {
        let (mut total, mut count) = (Self::default(), 0.0);
        for each in all {
            total.precision += each.precision;
            total.recall += each.recall;
            total.f1 += each.f1;
            count += 1.0;
        }
        let count = f64::max(count, 1.0);
        Self {
            precision: total.precision / count,
            recall: total.recall / count,
            f1: total.f1 / count,
        }
    }
}

/// Precision and recall at one threshold.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
pub struct At {
    /// An overlap, or a distance in seconds.
    pub threshold: f64,
    /// What was reached there.
    pub scores: PrecisionRecall,
}

/// Localisation in one video.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct VideoLocalisation {
    /// The video.
    pub video: String,
    /// At each of [`IOU_THRESHOLDS`].
    pub by_iou: Vec<At>,
    /// At each of [`START_DISTANCES`].
    pub by_start: Vec<At>,
    /// Precision and recall averaged over [`IOU_THRESHOLDS`], and the F1 of these two averages.
    pub mean: PrecisionRecall,
}

/// Localisation in a corpus.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Localisation {
    /// Each video, by id.
    pub videos: Vec<VideoLocalisation>,
    /// At each of [`IOU_THRESHOLDS`]: means over videos, and the F1 of these means.
    pub by_iou: Vec<At>,
    /// At each of [`START_DISTANCES`], likewise.
    pub by_start: Vec<At>,
    /// densevid's figures: the means over thresholds of `by_iou`, F1 included.
    pub f1_of_means: PrecisionRecall,
    /// scenic's figures: the means over videos of their `mean`, F1 included. Its F1 is not comparable with the other.
    pub mean_of_f1: PrecisionRecall,
}

/// Scores where events were found.
#[must_use]
pub fn localisation(corpus: &Corpus) -> Localisation {
    let videos: Vec<_> = corpus.videos().iter().map(video_localisation).collect();
    let by_iou = over_videos(&videos, &IOU_THRESHOLDS, |video| &video.by_iou);
    let by_start = over_videos(&videos, &START_DISTANCES, |video| &video.by_start);
    Localisation {
        f1_of_means: PrecisionRecall::mean(by_iou.iter().map(|at| at.scores)),
        mean_of_f1: PrecisionRecall::mean(videos.iter().map(|video| video.mean)),
        by_iou,
        by_start,
        videos,
    }
}

fn over_videos(
    videos: &[VideoLocalisation],
    thresholds: &[f64],
    at: impl Fn(&VideoLocalisation) -> &[At],
) -> Vec<At> {
    let mean_at = |(index, &threshold): (usize, &f64)| {
        let mean = PrecisionRecall::mean(videos.iter().map(|video| at(video)[index].scores));
        At { threshold, scores: PrecisionRecall::new(mean.precision, mean.recall) }
    };
    thresholds.iter().enumerate().map(mean_at).collect()
}

/// Precision and recall of one video at overlaps above `threshold`.
pub(crate) fn precision_recall_above(case: &VideoCase, threshold: f64) -> PrecisionRecall {
    best(case, &|prediction, reference| iou(prediction.span, reference.span) > threshold)
}

/// The best precision and the best recall over the sets.
fn best(case: &VideoCase, hits: &dyn Fn(&Event, &Event) -> bool) -> PrecisionRecall {
    let mut best = (0.0, 0.0);
    for references in case.sets() {
        let (precision, recall) = shares(&case.predictions, references, hits);
        best = (f64::max(best.0, precision), f64::max(best.1, recall));
    }
    PrecisionRecall::new(best.0, best.1)
}

fn video_localisation(case: &VideoCase) -> VideoLocalisation {
    let by_iou: Vec<_> = IOU_THRESHOLDS
        .iter()
        .map(|&threshold| At { threshold, scores: precision_recall_above(case, threshold) })
        .collect();
    let by_start = START_DISTANCES
        .iter()
        .map(|&threshold| At {
            threshold,
            scores: best(case, &|prediction, reference| {
                start_distance(prediction.span, reference.span) < threshold
            }),
        })
        .collect();
    let mean = PrecisionRecall::mean(by_iou.iter().map(|at| at.scores));
    VideoLocalisation {
        video: case.video.clone(),
        by_iou,
        by_start,
        mean: PrecisionRecall::new(mean.precision, mean.recall),
    }
}

/// The shares of predictions that hit some reference and of references that some prediction hits.
fn shares(
    predictions: &[Event],
    references: &[Event],
    hits: &dyn Fn(&Event, &Event) -> bool,
) -> (f64, f64) {
    let hitting = predictions.iter().filter(|p| references.iter().any(|r| hits(p, r))).count();
    let found = references.iter().filter(|r| predictions.iter().any(|p| hits(p, r))).count();
    (share(hitting, predictions.len()), share(found, references.len()))
}

/// `part` of `whole`; 0 of nothing.
pub(crate) fn share(part: usize, whole: usize) -> f64 {
    count(part) / count(whole.max(1))
}

/// A count as a number to divide by. Exact below 2^32, and nobody has more events.
pub(crate) fn count(n: usize) -> f64 {
    u32::try_from(n).map_or(f64::INFINITY, f64::from)
}
