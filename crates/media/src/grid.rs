//! The grid of one picture a second, and which picture stands on each slot of it.
//!
//! Slot `n` of a window takes the last picture shown before `n + 0.5` s of it; a picture at
//! exactly that moment belongs to the next slot. That is what FFmpeg's `fps=1` does.

use eventide_schema::TimeSpan;

const SECOND_US: i64 = 1_000_000;

/// How many slots a window has: its length in seconds, halves rounded up, but at least one.
///
/// A window of less than half a second would have none; it gets one, which takes the first
/// picture of the window instead.
#[must_use]
pub fn slots(window: TimeSpan) -> usize {
    let rounded = window.duration_us().saturating_add(SECOND_US / 2) / SECOND_US;
    usize::try_from(rounded.max(1)).unwrap_or(usize::MAX)
}

/// Whether `window` is so short that the rule of half seconds leaves it no slot.
pub(crate) fn is_short(window: TimeSpan) -> bool {
    window.duration_us() < SECOND_US / 2
}

/// The unit of a stream's timestamps: `numerator / denominator` seconds, both positive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TimeBase {
    pub(crate) numerator: i64,
    pub(crate) denominator: i64,
}

impl TimeBase {
    /// `ticks` in microseconds, to the nearest.
    pub(crate) fn micros(self, ticks: i64) -> i64 {
        let scaled = i128::from(ticks) * i128::from(self.numerator) * i128::from(SECOND_US);
        narrow(nearest(scaled, i128::from(self.denominator)))
    }

    /// `us` microseconds in ticks, to the nearest.
    pub(crate) fn ticks(self, us: i64) -> i64 {
        let scaled = i128::from(us) * i128::from(self.denominator);
        narrow(nearest(scaled, i128::from(self.numerator) * i128::from(SECOND_US)))
    }

    /// The slot that a picture `ticks` after the start of the window opens: the first one whose
    /// half second is past it. Halves round away from zero, as they do in FFmpeg.
    pub(crate) fn slot(self, ticks: i64) -> i64 {
        let scaled = i128::from(ticks) * i128::from(self.numerator);
        narrow(nearest(scaled, i128::from(self.denominator)))
    }
}

/// `value / by` to the nearest whole number, halves away from zero. `by` is positive.
fn nearest(value: i128, by: i128) -> i128 {
    let magnitude = (value.abs() * 2 + by) / (by * 2);
    if value < 0 { -magnitude } else { magnitude }
}

fn narrow(value: i128) -> i64 {
    i64::try_from(value).unwrap_or(if value < 0 { i64::MIN } else { i64::MAX })
}

/// A decoded picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Picture {
    /// Presentation time in ticks of the stream.
    pub(crate) ticks: i64,
    /// The decoder says that part of it is guessed.
    pub(crate) damaged: bool,
}

/// Follows the decoded pictures and notes which one each wanted slot gets.
#[derive(Debug)]
pub(crate) struct Follower {
    base: TimeBase,
    /// Ticks at which the window starts.
    origin: i64,
    /// Wanted slots, increasing.
    wanted: Vec<usize>,
    /// For `wanted[..taken.len()]`, the picture; `None` where the first one came later.
    taken: Vec<Option<Picture>>,
    current: Option<Picture>,
    /// The window is too short for the grid: its only slot takes the first picture in it.
    first_only: bool,
}

impl Follower {
    pub(crate) fn new(base: TimeBase, origin: i64, wanted: &[usize]) -> Self {
        let wanted = wanted.to_vec();
        Self { base, origin, wanted, taken: Vec::new(), current: None, first_only: false }
    }

    /// For a window of less than half a second: slot 0 takes the first picture from `origin` on.
    pub(crate) fn first(base: TimeBase, origin: i64) -> Self {
        Self { first_only: true, ..Self::new(base, origin, &[0]) }
    }

    /// Takes the next decoded picture, in the order in which the decoder gives them.
    pub(crate) fn push(&mut self, picture: Picture) {
        if self.first_only {
            if self.current.is_none() && picture.ticks >= self.origin {
                self.current = Some(picture);
            }
            return;
        }
        let opens = self.base.slot(picture.ticks.saturating_sub(self.origin));
        while let Some(&slot) = self.wanted.get(self.taken.len()) {
            if i64::try_from(slot).unwrap_or(i64::MAX) >= opens {
                break;
            }
            self.taken.push(self.current);
        }
        self.current = Some(picture);
    }

    /// After the last picture: the picture of each wanted slot. What is after the end gets the
    /// last picture, as FFmpeg may repeat it; only slots that really came out count.
    pub(crate) fn finish(mut self) -> Vec<Option<Picture>> {
        self.taken.resize(self.wanted.len(), self.current);
        self.taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    const MILLIS: TimeBase = TimeBase { numerator: 1, denominator: 1000 };

    #[rstest]
    #[case::under_a_half(0, 499_999, 1, true)]
    #[case::a_half(0, 500_000, 1, false)]
    #[case::under_one_and_a_half(0, 1_499_999, 1, false)]
    #[case::one_and_a_half(0, 1_500_000, 2, false)]
    #[case::in_the_middle(7_000_000, 19_000_000, 12, false)]
    #[case::ends_before_it_starts(5, 0, 1, true)]
    fn counts(#[case] start: i64, #[case] end: i64, #[case] count: usize, #[case] short: bool) {
        let window = TimeSpan::new(start, end);
        assert_eq!((slots(window), is_short(window)), (count, short));
    }

    fn check(times_ms: &[i64], wanted: &[usize], expected: &[Option<i64>]) {
        let mut follower = Follower::new(MILLIS, 0, wanted);
        for &ticks in times_ms {
            follower.push(Picture { ticks, damaged: false });
        }
        let taken: Vec<_> = follower.finish().iter().map(|p| p.map(|p| p.ticks)).collect();
        assert_eq!(taken, expected);
    }

    #[test]
    fn the_last_picture_before_the_half_stands() {
        check(&[0, 400, 499, 501, 1400, 1600], &[0, 1], &[Some(499), Some(1400)]);
    }

    #[test]
    fn a_tie_goes_to_the_next_slot() {
        check(&[0, 500, 1500], &[0, 1, 2], &[Some(0), Some(500), Some(1500)]);
    }

    #[test]
    fn a_held_picture_stands_on_every_slot_that_it_covers() {
        check(&[0, 5000], &[1, 4, 5], &[Some(0), Some(0), Some(5000)]);
    }

    #[test]
    fn a_picture_after_the_slot_does_not_stand_for_it() {
        check(&[2000], &[0, 2], &[None, Some(2000)]);
    }

    #[test]
    fn a_window_in_the_middle_may_start_on_a_picture_from_before() {
        let mut follower = Follower::new(MILLIS, 10_000, &[0, 1]);
        for ticks in [9_000, 9_900, 10_600] {
            follower.push(Picture { ticks, damaged: false });
        }
        let taken: Vec<_> = follower.finish().iter().map(|p| p.map(|p| p.ticks)).collect();
        assert_eq!(taken, [Some(9_900), Some(10_600)]);
    }

    proptest! {
        #[test]
        fn the_rule_holds_for_any_order_of_times(
            mut times in prop::collection::vec(0i64..20_000, 1..60),
        ) {
            times.sort_unstable();
            let wanted: Vec<usize> = (0..20).collect();
            let mut follower = Follower::new(MILLIS, 0, &wanted);
            for &ticks in &times {
                follower.push(Picture { ticks, damaged: false });
            }
            for (slot, taken) in (0i64..).zip(follower.finish()) {
                let last = times.iter().copied().filter(|&t| t < slot * 1000 + 500).max();
                prop_assert_eq!(taken.map(|p| p.ticks), last);
            }
        }
    }
}
