//! What Whisper may say next: tokens that are never said, and times in their order.

use crate::speech::SpeechTokens;

/// The latest first time, in time steps: a text begins within the first second of its window.
const LATEST_START: usize = 50;

/// The rules of one model.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules<'a> {
    pub(crate) tokens: &'a SpeechTokens,
}

impl Rules<'_> {
    /// Hides in `logits` what may not follow `said`, what has been said of this window so far.
    ///
    /// The rules are those that Whisper was released with: a text begins with a time; times come in
    /// pairs, but for that one, and never go back; where all times together are likelier than any
    /// other token, a time comes.
    pub(crate) fn apply(self, logits: &mut [f32], said: &[i64]) {
        let tokens = self.tokens;
        let never = tokens.suppressed.iter().chain([
            &tokens.no_timestamps,
            &tokens.start,
            &tokens.previous,
            &tokens.no_speech,
        ]);
        never.for_each(|id| hide(logits, *id as usize..*id as usize + 1));
        let first_time = tokens.first_time as usize;
        let time = |token: &i64| usize::try_from(*token).is_ok_and(|token| token >= first_time);
        if said.is_empty() {
            let firsts = tokens.suppressed_first.iter().map(|id| *id as usize);
            firsts.for_each(|id| hide(logits, id..id + 1));
            hide(logits, 0..first_time);
            hide(logits, first_time + LATEST_START + 1..usize::MAX);
            return;
        }
        let last_is_time = said.last().is_some_and(time);
        let before_is_time = said.len() < 2 || time(&said[said.len() - 2]);
        if last_is_time && before_is_time {
            hide(logits, first_time..usize::MAX);
        } else if last_is_time {
            hide(logits, 0..tokens.end as usize);
        }
        if let Some(latest) = said.iter().rev().find(|token| time(token)) {
            let latest = usize::try_from(*latest).unwrap_or(first_time);
            let pair = last_is_time && !before_is_time;
            hide(logits, first_time..if pair { latest } else { latest + 1 });
        }
        let (words, times) = logits.split_at(first_time.min(logits.len()));
        let likeliest = words.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        if log_sum_exp(times) > likeliest {
            hide(logits, 0..first_time);
        }
    }
}

fn hide(logits: &mut [f32], range: std::ops::Range<usize>) {
    let end = range.end.min(logits.len());
    if range.start < end {
        logits[range.start..end].fill(f32::NEG_INFINITY);
    }
}

/// The logarithm of the sum of exponentials; minus infinity where there is nothing.
pub(crate) fn log_sum_exp(logits: &[f32]) -> f32 {
    /// What lies this far below the highest does not show in 32 bits, however many there are.
    const BELOW: f32 = -40.0;
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    if highest == f32::NEG_INFINITY {
        return highest;
    }
    let below = logits.iter().map(|logit| logit - highest);
    let sum: f32 = below.filter(|below| *below > BELOW).map(f32::exp).sum();
    highest + sum.ln()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    /// Ids 0..=9 are words, 10 the end, 11.. other signs, and times from 15 to 100.
    pub(crate) fn tokens() -> SpeechTokens {
        SpeechTokens {
            end: 10,
            start: 11,
            transcribe: None,
            previous: 12,
            no_speech: 13,
            no_timestamps: 14,
            first_time: 15,
            languages: std::collections::BTreeMap::new(),
            suppressed: vec![7],
            suppressed_first: vec![0, 10],
        }
    }

    fn allowed(said: &[i64], likely: &[(usize, f32)]) -> Vec<usize> {
        let mut logits = vec![0.0; 101];
        for (token, logit) in likely {
            logits[*token] = *logit;
        }
        Rules { tokens: &tokens() }.apply(&mut logits, said);
        (0..101).filter(|token| logits[*token] > f32::NEG_INFINITY).collect()
    }

    fn range(from: usize, to: usize) -> Vec<usize> {
        (from..=to).collect()
    }

    #[rstest]
    #[case::first_a_time_within_a_second(&[], &[], range(15, 65))]
    #[case::after_the_first_time_a_word(&[15], &[], [range(0, 6), range(8, 10)].concat())]
    #[case::a_time_closes(&[15, 3], &[(2, 50.0)], [range(0, 6), range(8, 10), range(16, 100)].concat())]
    #[case::a_likely_time_comes(&[15, 3], &[(40, 50.0)], range(16, 100))]
    #[case::a_pair_may_be_equal(&[15, 3, 20], &[(10, 50.0)], [vec![10], range(20, 100)].concat())]
    #[case::after_a_pair_a_word(&[15, 3, 20, 20], &[], [range(0, 6), range(8, 10)].concat())]
    fn what_may_follow(
        #[case] said: &[i64],
        #[case] likely: &[(usize, f32)],
        #[case] expected: Vec<usize>,
    ) {
        assert_eq!(allowed(said, likely), expected);
    }

    #[test]
    fn sums_of_exponentials() {
        assert!((log_sum_exp(&[0.0, 0.0]) - 2.0_f32.ln()).abs() < 1e-6);
        assert!((log_sum_exp(&[1000.0, 0.0]) - 1000.0).abs() < 1e-3);
        assert!(log_sum_exp(&[f32::NEG_INFINITY]).is_infinite());
    }
}
