//! Time spans. Microseconds inside the program, milliseconds in the tables.

use serde::{Deserialize, Serialize};

/// A half-open span of a video, in microseconds from its first presentation time.
///
/// Either bound may be negative or past the end where it comes from a transcript: subtitles are
/// written by people. What needs a clean span says so and checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TimeSpan {
    /// First microsecond of the span.
    pub start_us: i64,
    /// The microsecond after its last.
    pub end_us: i64,
}

impl TimeSpan {
    /// A span from `start_us` up to, not including, `end_us`.
    #[must_use]
    pub fn new(start_us: i64, end_us: i64) -> Self {
        Self { start_us, end_us }
    }

    /// Length in microseconds; 0 for a span that ends before it starts.
    #[must_use]
    pub fn duration_us(self) -> i64 {
        self.end_us.saturating_sub(self.start_us).max(0)
    }

    /// Start in whole milliseconds, rounded down so that the span is never cut.
    #[must_use]
    pub fn start_ms(self) -> i64 {
        self.start_us.div_euclid(1000)
    }

    /// End in whole milliseconds, rounded up so that the span is never cut.
    #[must_use]
    pub fn end_ms(self) -> i64 {
        -(-self.end_us).div_euclid(1000)
    }

    /// Whether the two spans share a moment. An empty span shares none.
    #[must_use]
    pub fn overlaps(self, other: Self) -> bool {
        self.start_us.max(other.start_us) < self.end_us.min(other.end_us)
    }

    /// Whether `at_us` lies in the span.
    #[must_use]
    pub fn contains(self, at_us: i64) -> bool {
        (self.start_us..self.end_us).contains(&at_us)
    }

    /// The same span `by_us` microseconds later; earlier where that is negative.
    #[must_use]
    pub fn shifted(self, by_us: i64) -> Self {
        Self::new(self.start_us.saturating_add(by_us), self.end_us.saturating_add(by_us))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    #[rstest]
    #[case::whole(1_000, 2_000, 1, 2)]
    #[case::outwards(1_999, 2_001, 1, 3)]
    #[case::before_the_start(-1, 0, -1, 0)]
    fn in_milliseconds(#[case] start: i64, #[case] end: i64, #[case] from: i64, #[case] to: i64) {
        let span = TimeSpan::new(start, end);
        assert_eq!((span.start_ms(), span.end_ms()), (from, to));
    }

    proptest! {
        #[test]
        fn overlap_is_mutual(a in 0i64..100, b in 0i64..100, c in 0i64..100, d in 0i64..100) {
            let (one, other) = (TimeSpan::new(a, b), TimeSpan::new(c, d));
            prop_assert_eq!(one.overlaps(other), other.overlaps(one));
        }
    }
}
