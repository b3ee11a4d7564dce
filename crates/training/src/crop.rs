//! The temporal crop: a random part of a video in place of the whole (`vid2seq.md` §5.2).

use std::sync::Arc;

use eventide_schema::{Cue, TimeSpan};
use ndarray::s;
use rand::{Rng as _, rngs::StdRng};

use crate::batch::Sample;

/// A part of `sample` that no event begins before or ends after, chosen at random, from one frame to another.
///
/// Times then count from the start of the part. What is said outside of it is left out, what reaches over its edges is
/// cut. A sample of one frame stays as it is.
#[must_use]
pub fn crop(sample: &Sample, numbers: &mut StdRng) -> Sample {
    let frames = sample.features.nrows();
    if frames < 2 {
        return sample.clone();
    }
    let spacing = sample.duration_us / i64::try_from(frames).unwrap_or(i64::MAX);
    let first_event = sample.events.iter().map(|event| event.span.start_us).min();
    let last_event = sample.events.iter().map(|event| event.span.end_us).max();
    let frame = |at: i64| usize::try_from(at / spacing.max(1)).unwrap_or_default().min(frames);
    let latest_start = first_event.map_or(frames / 2, frame);
    let earliest_end = last_event.map_or(frames / 2 + 1, |at| frame(at + spacing - 1)).max(1);
    let start = numbers.random_range(0..=latest_start.min(earliest_end - 1));
    let end = numbers.random_range(earliest_end.max(start + 1)..=frames);
    part(sample, start, end, spacing)
}

fn part(sample: &Sample, start: usize, end: usize, spacing: i64) -> Sample {
    let at = |frame: usize| i64::try_from(frame).unwrap_or(i64::MAX).saturating_mul(spacing);
    let from = at(start);
    // The last frame reaches to the end of the video.
    let to = if end == sample.features.nrows() { sample.duration_us } else { at(end) };
    let within = |cue: &Cue| {
        let span = TimeSpan {
            start_us: cue.span.start_us.max(from) - from,
            end_us: cue.span.end_us.min(to) - from,
        };
        (span.start_us < span.end_us).then(|| Cue { span, ..cue.clone() })
    };
    Sample {
        features: Arc::new(sample.features.slice(s![start..end, ..]).to_owned()),
        speech: sample.speech.iter().filter_map(within).collect(),
        events: sample.events.iter().filter_map(within).collect(),
        duration_us: to - from,
    }
}
