//! How much two spans have in common.

use crate::Span;

/// What keeps the overlap of two empty spans from being no number. It also makes 36 s of 40 s fall just short of 0.9.
const EPSILON: f64 = 1e-8;

/// Intersection over union in time, as both scorers compute it (reference §7.2).
///
/// The union of spans that do not touch is the sum of their lengths. Two equal spans give a little less than 1; two
/// empty ones give 0.
#[must_use]
pub fn iou(a: Span, b: Span) -> f64 {
    let intersection = (a.end.min(b.end) - a.start.max(b.start)).max(0.0);
    let hull = a.end.max(b.end) - a.start.min(b.start);
    let union = hull.min((a.end - a.start) + (b.end - b.start));
    intersection / (union + EPSILON)
}

/// How far apart the starts of two spans are, in seconds.
#[must_use]
pub fn start_distance(a: Span, b: Span) -> f64 {
    (a.start - b.start).abs()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::half((0.0, 50.0), (0.0, 100.0), 0.5)]
    #[case::just_under_nine_tenths((0.0, 40.0), (2.0, 38.0), 0.9)]
    #[case::apart((0.0, 10.0), (20.0, 30.0), 0.0)]
    #[case::touching((0.0, 10.0), (10.0, 30.0), 0.0)]
    #[case::both_empty((5.0, 5.0), (5.0, 5.0), 0.0)]
    fn overlap(#[case] a: (f64, f64), #[case] b: (f64, f64), #[case] expected: f64) {
        let overlap = iou(Span::new(a.0, a.1), Span::new(b.0, b.1));
        assert!((overlap - expected).abs() < 1e-9 && overlap <= expected, "{overlap}");
    }

    proptest! {
        #[test]
        fn is_symmetric_and_bounded(a in 0.0..100.0, b in 0.0..100.0, c in 0.0..100.0, d in 0.0..100.0) {
            let (a, b): (f64, f64) = (a, b);
            let (c, d): (f64, f64) = (c, d);
            let (one, other) = (Span::new(a.min(b), a.max(b)), Span::new(c.min(d), c.max(d)));
            prop_assert!((0.0..=1.0).contains(&iou(one, other)));
            prop_assert!((iou(one, other) - iou(other, one)).abs() < 1e-12);
        }
    }
}
