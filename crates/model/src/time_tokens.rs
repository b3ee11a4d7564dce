//! Time tokens: how a moment of a window becomes a token, and back. Text tokens are left to
//! [`tokenizer`](crate::tokenizer).

use crate::manifest::{Quantise, TimeTokens};

const MICROSECONDS: f64 = 1e6;

impl TimeTokens {
    /// The bin that `at_us` falls on, in `0..bins`, in a window of `duration_us` microseconds.
    ///
    /// The arithmetic is the reference's to the last bit, but the answer is kept in range: a moment
    /// before the window takes the first bin and one after it the last. (`VidChapters` leaves the
    /// embedding table there, and Scenic turns a negative moment into a text token.) Only a moment at
    /// the very end reaches the last bin. A window without length has only bin 0.
    #[must_use]
    pub fn bin(&self, at_us: i64, duration_us: i64) -> u32 {
        if duration_us <= 0 {
            return 0;
        }
        let at_us = at_us.clamp(0, duration_us);
        match self.quantise {
            // The reference counts in seconds; the last bit depends on it.
            Quantise::VidChapters => self.bin_of_seconds(seconds(at_us), seconds(duration_us)),
            Quantise::Scenic => {
                let first_id = f64::from(self.first_id);
                let share = microseconds(at_us) / microseconds(duration_us);
                self.truncated((self.last_bin() * share + first_id).trunc() - first_id)
            }
        }
    }

    /// The `VidChapters` quantiser on seconds, kept in range.
    fn bin_of_seconds(&self, at: f64, duration: f64) -> u32 {
        self.truncated(self.last_bin() * at / duration)
    }

    /// The token of a bin; a bin past the last takes the last token.
    #[must_use]
    pub fn id(&self, bin: u32) -> i64 {
        i64::from(self.first_id) + i64::from(bin.min(self.bins.saturating_sub(1)))
    }

    /// The bin that a token stands for; `None` for every token that is not a time token.
    #[must_use]
    pub fn bin_of(&self, id: i64) -> Option<u32> {
        let bin = u32::try_from(id.checked_sub(i64::from(self.first_id))?).ok()?;
        (bin < self.bins).then_some(bin)
    }

    /// The moment that a bin stands for, in microseconds from the start of the window, rounded to the
    /// nearest: `bin * duration / (bins - 1)`. It is the start of the bin, so on the mean half a bin
    /// early; both references do so.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "within 0..=duration_us, which is an i64")]
    pub fn moment_us(&self, bin: u32, duration_us: i64) -> i64 {
        if duration_us <= 0 {
            return 0;
        }
        let moment = self.moment_seconds(bin, seconds(duration_us)) * MICROSECONDS;
        (moment.round() as i64).clamp(0, duration_us)
    }

    fn moment_seconds(&self, bin: u32, duration: f64) -> f64 {
        f64::from(bin.min(self.bins.saturating_sub(1))) * duration / self.last_bin()
    }

    /// The step between two bins in microseconds, rounded up: what the model cannot tell apart.
    #[must_use]
    pub fn resolution_us(&self, duration_us: i64) -> i64 {
        let steps = i64::from(self.bins.max(2) - 1);
        let duration_us = duration_us.max(0);
        duration_us / steps + i64::from(duration_us % steps != 0)
    }

    fn last_bin(&self) -> f64 {
        f64::from(self.bins.max(2) - 1)
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "truncation is the rule, and the value is kept within 0..bins first"
    )]
    fn truncated(&self, bin: f64) -> u32 {
        bin.clamp(0.0, f64::from(self.bins.saturating_sub(1))) as u32
    }
}

fn seconds(us: i64) -> f64 {
    microseconds(us) / MICROSECONDS
}

#[expect(clippy::cast_precision_loss, reason = "exact up to 2^53 microseconds, 285 years")]
fn microseconds(us: i64) -> f64 {
    us as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{golden, microseconds as us, scenic, vid_chapters};
    use proptest::prelude::*;
    use rstest::rstest;

    #[test]
    fn every_golden_moment_takes_its_bin() {
        let (vc, sc) = (vid_chapters().time_tokens, scenic().time_tokens);
        let golden = golden("sequences.json");
        let mut checked = 0;
        for case in golden["quantise"].as_array().unwrap() {
            let (at, duration) = (us(&case["seconds"]), us(&case["duration"]));
            let expected = |key: &str| {
                // Where a reference leaves the table, ours takes the nearest bin.
                u32::try_from(case[key].as_i64().unwrap().clamp(0, 99)).unwrap()
            };
            assert_eq!(vc.bin(at, duration), expected("vc"), "VidChapters: {case}");
            assert_eq!(sc.bin(at, duration), expected("sc"), "Scenic: {case}");
            checked += 1;
        }
        assert_eq!(checked, 53);
    }

    #[test]
    fn every_golden_bin_takes_its_moment() {
        let vc = vid_chapters().time_tokens;
        let golden = golden("sequences.json");
        for case in golden["inverse"].as_array().unwrap() {
            let duration = case["duration"].as_f64().unwrap();
            for bin in 0..100 {
                let expected = case["seconds"][bin as usize].as_f64().unwrap();
                let moment = vc.moment_seconds(bin, duration);
                // The JSON reader itself may be off by the last bit.
                let off = moment.to_bits().abs_diff(expected.to_bits());
                assert!(off <= 1, "{moment} is not {expected}");
                let again = u64::from(vc.bin_of_seconds(moment, duration));
                assert_eq!(Some(again), case["requantised_vc"][bin as usize].as_u64());
                let rounded = vc.moment_us(bin, us(&case["duration"]));
                assert!((seconds(rounded) - expected).abs() <= 0.51e-6, "{rounded}");
            }
        }
    }

    #[rstest]
    #[case::last_of_a_window(214_030_000, 214_030_000, 99)]
    #[case::just_before_it(213_900_000, 214_030_000, 98)]
    #[case::before_the_window(-1_000_000, 60_000_000, 0)]
    #[case::after_the_window(60_700_000, 60_000_000, 99)]
    #[case::a_window_without_length(5, 0, 0)]
    #[case::extremes(i64::MAX, i64::MAX, 99)]
    #[case::the_far_past(i64::MIN, i64::MAX, 0)]
    fn both_quantisers_stay_in_range(#[case] at: i64, #[case] duration: i64, #[case] bin: u32) {
        assert_eq!(vid_chapters().time_tokens.bin(at, duration), bin);
        assert_eq!(scenic().time_tokens.bin(at, duration), bin);
    }

    #[test]
    fn only_time_tokens_have_a_bin() {
        let tokens = vid_chapters().time_tokens;
        assert_eq!((tokens.id(0), tokens.id(99), tokens.id(100)), (32_100, 32_199, 32_199));
        assert_eq!(tokens.bin_of(32_100), Some(0));
        assert_eq!(tokens.bin_of(32_199), Some(99));
        for id in [i64::MIN, -1, 0, 32_099, 32_200, i64::MAX] {
            assert_eq!(tokens.bin_of(id), None, "{id}");
        }
    }

    #[test]
    fn resolution_is_rounded_up() {
        let tokens = vid_chapters().time_tokens;
        assert_eq!(tokens.resolution_us(99), 1);
        assert_eq!(tokens.resolution_us(100), 2);
        assert_eq!(tokens.resolution_us(0), 0);
    }

    proptest! {
        #[test]
        fn later_is_never_an_earlier_bin(a: i64, b: i64, duration in 1i64..1 << 50) {
            for tokens in [vid_chapters().time_tokens, scenic().time_tokens] {
                let (first, second) = (tokens.bin(a.min(b), duration), tokens.bin(a.max(b), duration));
                prop_assert!(first <= second && second < tokens.bins);
            }
        }

        #[test]
        fn moments_stay_in_the_window(bin in 0u32..200, duration in 0i64..1 << 50) {
            let moment = vid_chapters().time_tokens.moment_us(bin, duration);
            prop_assert!((0..=duration).contains(&moment));
        }
    }
}
