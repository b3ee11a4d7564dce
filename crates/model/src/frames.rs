//! Which frames of a window the model looks at. Encoding only these gives the same features as
//! encoding all: no frame knows its neighbours before the temporal encoder.

use crate::manifest::{FramePick, FrameRule};

/// Indices of the frames to look at out of `total` slots of one second, in order, at most
/// `rule.count`.
///
/// With no more slots than `rule.count` these are all of them; the model's missing positions take zero
/// features.
#[must_use]
pub fn pick(total: usize, rule: &FrameRule) -> Vec<usize> {
    let count = rule.count as usize;
    if total <= count {
        return (0..total).collect();
    }
    match rule.pick {
        FramePick::Floor => (0..count).map(|index| floor(index, total, count)).collect(),
        FramePick::Linspace => (0..count).map(|index| linspace(index, total, count)).collect(),
    }
}

fn floor(index: usize, total: usize, count: usize) -> usize {
    let share = index as u128 * total as u128 / count as u128;
    usize::try_from(share).unwrap_or(total - 1).min(total - 1)
}

/// The reference divides in 32 bits, which falls short of the whole number now and then.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "the precision of f32 and truncation are the rule; the value is within 0..total"
)]
fn linspace(index: usize, total: usize, count: usize) -> usize {
    if index > 0 && index + 1 == count {
        return total - 1;
    }
    let step = (total - 1) as f32 / (count - 1).max(1) as f32;
    ((step * index as f32) as usize).min(total - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::golden;
    use proptest::prelude::*;

    const COUNT: u32 = 100;

    fn rule(pick: FramePick) -> FrameRule {
        FrameRule { count: COUNT, pick }
    }

    fn expected(slots: &serde_json::Value) -> Vec<usize> {
        let slots = slots.as_array().unwrap();
        assert_eq!(slots.len(), COUNT as usize);
        slots.iter().filter_map(|slot| usize::try_from(slot.as_i64().unwrap()).ok()).collect()
    }

    #[test]
    fn every_golden_length() {
        let golden = golden("sequences.json");
        let cases = golden["frame_selection"].as_array().unwrap();
        assert_eq!(cases.len(), 16);
        for case in cases {
            let total = usize::try_from(case["frames"].as_u64().unwrap()).unwrap();
            let picked = |by| pick(total, &rule(by));
            assert_eq!(picked(FramePick::Floor), expected(&case["vc"]), "VidChapters {total}");
            assert_eq!(picked(FramePick::Linspace), expected(&case["sc"]), "Scenic {total}");
        }
    }

    #[test]
    fn the_two_rules_part_where_the_references_do() {
        let differing = |total| {
            let (vc, sc) =
                (pick(total, &rule(FramePick::Floor)), pick(total, &rule(FramePick::Linspace)));
            vc.iter().zip(&sc).filter(|(a, b)| a != b).count()
        };
        assert_eq!([150, 214, 3600].map(differing), [1, 57, 97]);
    }

    /// The reference's 32-bit division falls short of exact arithmetic from 118 slots on.
    #[test]
    fn linspace_is_in_32_bits() {
        let count = COUNT as usize;
        let exact = |total: usize| -> Vec<usize> {
            (0..count).map(|index| index * (total - 1) / (count - 1)).collect()
        };
        let differing: Vec<usize> = (count + 1..2000)
            .filter(|&total| pick(total, &rule(FramePick::Linspace)) != exact(total))
            .collect();
        assert_eq!(differing.first(), Some(&118));
    }

    proptest! {
        #[test]
        fn indices_rise_and_exist(total in 0usize..100_000, count in 0u32..300) {
            for by in [FramePick::Floor, FramePick::Linspace] {
                let picked = pick(total, &FrameRule { count, pick: by });
                prop_assert_eq!(picked.len(), total.min(count as usize));
                prop_assert!(picked.windows(2).all(|pair| pair[0] < pair[1]));
                prop_assert!(picked.iter().all(|&index| index < total));
            }
        }
    }
}
