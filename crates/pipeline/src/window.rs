//! Windows: the spans of a video that the model sees one at a time.

use eventide_schema::TimeSpan;

use crate::{CaptioningOptions, WindowOption};

/// The windows of a video of `duration_us` microseconds, in order; never empty, and together the
/// whole video.
///
/// The last window ends where the video does, and is as long as the others unless the video is
/// shorter than one window: it starts earlier instead. So no event is asked of a rest of a second.
#[must_use]
pub fn windows(duration_us: i64, options: &CaptioningOptions) -> Vec<TimeSpan> {
    let WindowOption::Length(length) = options.window else {
        return vec![TimeSpan::new(0, duration_us)];
    };
    let length = i64::try_from(length.as_micros()).unwrap_or(i64::MAX);
    let overlap = i64::try_from(options.overlap.as_micros()).unwrap_or(i64::MAX);
    let step = length.saturating_sub(overlap).max(1_000_000.min(length));
    let mut windows = Vec::new();
    let mut start = 0;
    while start + length < duration_us {
        windows.push(TimeSpan::new(start, start + length));
        start += step;
    }
    windows.push(TimeSpan::new((duration_us - length).clamp(0, start), duration_us));
    windows
}

/// The part of window `index` that is its own: up to half of what it shares with its neighbours.
///
/// An event belongs to the window whose own part holds its middle, so that an event seen by two
/// windows is kept once. The own parts of all windows are disjoint and cover the video.
#[must_use]
pub(crate) fn own_part(windows: &[TimeSpan], index: usize) -> TimeSpan {
    let between = |left: TimeSpan, right: TimeSpan| i64::midpoint(left.end_us, right.start_us);
    let window = windows[index];
    let start = if index == 0 { i64::MIN } else { between(windows[index - 1], window) };
    let end = windows.get(index + 1).map_or(i64::MAX, |next| between(window, *next));
    TimeSpan::new(start, end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    fn options(length_s: u64, overlap_s: u64) -> CaptioningOptions {
        CaptioningOptions {
            window: WindowOption::Length(Duration::from_secs(length_s)),
            overlap: Duration::from_secs(overlap_s),
            ..CaptioningOptions::default()
        }
    }

    #[test]
    fn whole_is_one_window() {
        assert_eq!(windows(7, &CaptioningOptions::default()), [TimeSpan::new(0, 7)]);
    }

    #[test]
    fn a_short_video_is_one_window() {
        assert_eq!(windows(7, &options(60, 10)), [TimeSpan::new(0, 7)]);
    }

    #[test]
    fn the_last_window_reaches_back_rather_than_be_short() {
        let seconds: Vec<_> = windows(130_000_000, &options(60, 0))
            .iter()
            .map(|w| (w.start_us / 1_000_000, w.end_us / 1_000_000))
            .collect();
        assert_eq!(seconds, [(0, 60), (60, 120), (70, 130)]);
    }

    proptest! {
        #[test]
        fn every_moment_has_exactly_one_window_of_its_own(
            duration in 1i64..20_000_000_000, length in 1u64..4000, overlap in 0u64..4000, at in 0.0f64..1.0,
        ) {
            let windows = windows(duration, &options(length, overlap.min(length - 1)));
            prop_assert_eq!(windows[0].start_us, 0);
            prop_assert_eq!(windows[windows.len() - 1].end_us, duration);
            #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "any moment will do")]
            let at = (at * duration as f64) as i64;
            let owners: Vec<_> = (0..windows.len())
                .filter(|&i| { let own = own_part(&windows, i); own.start_us <= at && at < own.end_us })
                .collect();
            prop_assert_eq!(owners.len(), 1);
            let owner = windows[owners[0]];
            prop_assert!(owner.start_us <= at && at <= owner.end_us, "{:?} {}", owner, at);
        }
    }
}
