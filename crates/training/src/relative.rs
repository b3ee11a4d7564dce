//! Relative positions: how far a key lies from a query, and the bucket that distance falls in.

/// The table of buckets that T5 has one bias a head for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Buckets {
    /// How many there are.
    pub count: u32,
    /// The distance from which all positions share the last one.
    pub max_distance: u32,
}

impl Buckets {
    /// The bucket of `relative` (position of the key minus position of the query) where both sides
    /// are seen: the upper half of the buckets is for keys after the query.
    #[must_use]
    pub fn both_ways(self, relative: i32) -> i32 {
        let half = self.count / 2;
        let side = if relative > 0 { signed(half) } else { 0 };
        side + self.spread(half, relative.unsigned_abs())
    }

    /// The bucket of `relative` where only the past is seen: a key after the query counts as the
    /// query itself.
    #[must_use]
    pub fn backwards(self, relative: i32) -> i32 {
        let distance = if relative < 0 { relative.unsigned_abs() } else { 0 };
        self.spread(self.count, distance)
    }

    /// Half of `count` buckets for a distance each, the others spread evenly over the logarithm.
    /// In `f32`, as the reference does it: the edges of the buckets depend on that.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "buckets and distances are far below 2^24, and a float cast saturates"
    )]
    fn spread(self, count: u32, distance: u32) -> i32 {
        let exact = count / 2;
        if distance < exact {
            return signed(distance);
        }
        let start = exact as f32;
        let share = (distance as f32 / start).ln() / (self.max_distance as f32 / start).ln();
        let beyond = (share * (count - exact) as f32) as u32;
        signed(exact.saturating_add(beyond).min(count - 1))
    }
}

fn signed(value: u32) -> i32 {
    i32::try_from(value).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn golden() -> serde_json::Value {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../tests/data/golden/t5-v1_0-tiny/buckets.json"
        );
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
    }

    #[test]
    fn buckets_are_those_of_the_reference() {
        let golden = golden();
        let list = |key: &str| -> Vec<i32> { serde_json::from_value(golden[key].clone()).unwrap() };
        let buckets = Buckets { count: 32, max_distance: 128 };
        for ((relative, both), backwards) in
            list("relative_position").into_iter().zip(list("bidirectional")).zip(list("causal"))
        {
            assert_eq!(buckets.both_ways(relative), both, "{relative}");
            assert_eq!(buckets.backwards(relative), backwards, "{relative}");
        }
    }
}
