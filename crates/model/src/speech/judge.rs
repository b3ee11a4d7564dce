//! Whether a text can be believed, and which temperatures are tried until one can. Pure: it knows neither
//! tensors nor tokens.

use crate::{
    error::{Error, Result},
    speech::RecognitionOptions,
};

/// What speaks for a text, and what against it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Evidence {
    /// The mean natural-log probability of its tokens, 0 at most.
    pub log_probability: f32,
    /// How many times shorter it can be written; 0 for no text.
    pub compression: f32,
    /// The probability that nothing is said in its window, in 0..1.
    pub silence: f32,
}

impl RecognitionOptions {
    /// Whether a window is silent: it seems so, and its text is unlikely.
    #[must_use]
    pub fn is_silent(&self, evidence: Evidence) -> bool {
        let unlikely = evidence.log_probability < self.least_log_probability;
        evidence.silence > self.most_silence && unlikely
    }

    /// Whether no other temperature needs to be tried: the text neither repeats itself nor is unlikely,
    /// or there is none.
    #[must_use]
    pub fn is_credible(&self, evidence: Evidence) -> bool {
        let likely = evidence.log_probability >= self.least_log_probability;
        (likely && !self.repeats(evidence)) || self.is_silent(evidence)
    }

    /// Of texts that are not credible: one that does not repeat itself before one that does, and the
    /// likelier before the other.
    fn is_better(&self, evidence: Evidence, than: Evidence) -> bool {
        match (self.repeats(evidence), self.repeats(than)) {
            (true, false) => false,
            (false, true) => true,
            _ => evidence.log_probability > than.log_probability,
        }
    }

    fn repeats(&self, evidence: Evidence) -> bool {
        evidence.compression > self.most_compression
    }
}

/// The text that a window gets.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Settled<T> {
    pub(crate) text: T,
    pub(crate) evidence: Evidence,
    /// The last temperature that was tried; the text may be that of one before.
    pub(crate) temperature: f32,
}

/// The most credible text of each of so many windows. `attempt` gives those of some windows, named by
/// their places, at one temperature; it is asked for the temperatures in order, and each time only for
/// the windows that have no credible text yet.
///
/// # Errors
/// What `attempt` gives, and [`Error::Decoding`] where there is no temperature.
pub(crate) fn fall_back<T>(
    windows: usize,
    options: &RecognitionOptions,
    mut attempt: impl FnMut(f32, &[usize]) -> Result<Vec<(T, Evidence)>>,
) -> Result<Vec<Settled<T>>> {
    let mut best: Vec<Option<Settled<T>>> = (0..windows).map(|_| None).collect();
    let mut open: Vec<usize> = (0..windows).collect();
    for &temperature in &options.temperatures {
        if open.is_empty() {
            break;
        }
        let mut doubted = Vec::new();
        for (place, (text, evidence)) in open.iter().copied().zip(attempt(temperature, &open)?) {
            let credible = options.is_credible(evidence);
            if !credible {
                doubted.push(place);
            }
            let settled = Settled { text, evidence, temperature };
            match &mut best[place] {
                Some(best) if !credible && !options.is_better(evidence, best.evidence) => {
                    best.temperature = temperature;
                }
                place => *place = Some(settled),
            }
        }
        open = doubted;
    }
    best.into_iter().map(|settled| settled.ok_or_else(no_temperature)).collect()
}

/// What is wrong with options that name no temperature.
pub(crate) fn no_temperature() -> Error {
    let range = "one or more temperatures".to_owned();
    Error::Decoding { setting: "temperatures", value: 0.0, range }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn evidence(log_probability: f32, compression: f32, silence: f32) -> Evidence {
        Evidence { log_probability, compression, silence }
    }

    /// Against the values that Whisper was released with: -1.0, 2.4, 0.6.
    #[rstest]
    #[case::likely(evidence(-0.3, 1.5, 0.0), true, false)]
    #[case::at_the_edges(evidence(-1.0, 2.4, 0.6), true, false)]
    #[case::unlikely(evidence(-1.01, 1.5, 0.6), false, false)]
    #[case::repeats_itself(evidence(-0.3, 2.41, 0.0), false, false)]
    #[case::silent(evidence(-1.01, 1.5, 0.61), true, true)]
    #[case::silent_and_repeats_itself(evidence(-1.01, 9.0, 0.61), true, true)]
    #[case::likely_in_what_seems_silent(evidence(-0.3, 1.5, 0.99), true, false)]
    #[case::repeats_itself_in_what_seems_silent(evidence(-0.3, 9.0, 0.99), false, false)]
    #[case::no_number(evidence(f32::NAN, 1.5, 0.99), false, false)]
    fn gates(#[case] evidence: Evidence, #[case] credible: bool, #[case] silent: bool) {
        let options = RecognitionOptions::default();
        assert_eq!(options.is_credible(evidence), credible);
        assert_eq!(options.is_silent(evidence), silent);
    }

    #[rstest]
    #[case::likelier(evidence(-1.1, 1.0, 0.0), evidence(-1.2, 1.0, 0.0), true)]
    #[case::less_likely(evidence(-1.2, 1.0, 0.0), evidence(-1.1, 1.0, 0.0), false)]
    #[case::as_likely(evidence(-1.2, 1.0, 0.0), evidence(-1.2, 1.0, 0.0), false)]
    #[case::no_repetition(evidence(-3.0, 1.0, 0.0), evidence(-0.1, 9.0, 0.0), true)]
    #[case::a_repetition(evidence(-0.1, 9.0, 0.0), evidence(-3.0, 1.0, 0.0), false)]
    #[case::both_repeat(evidence(-0.1, 9.0, 0.0), evidence(-3.0, 5.0, 0.0), true)]
    fn the_better_of_two(#[case] one: Evidence, #[case] other: Evidence, #[case] better: bool) {
        assert_eq!(RecognitionOptions::default().is_better(one, other), better);
    }

    const CREDIBLE: Evidence = Evidence { log_probability: -0.2, compression: 1.0, silence: 0.0 };

    /// A temperature, and the windows that were tried at it.
    type Asked = (f32, Vec<usize>);

    /// What becomes of windows whose texts at 0, 0.2, 0.4, ... have this evidence: the temperature of each text
    /// and the last that was tried. Each text says where it comes from.
    fn settled(windows: &[&[Evidence]]) -> (Vec<(f32, f32)>, Vec<Asked>) {
        let options = RecognitionOptions::default();
        let mut asked = Vec::new();
        let attempt = |temperature: f32, places: &[usize]| {
            let step = asked.len();
            asked.push((temperature, places.to_vec()));
            Ok(places.iter().map(|place| ((*place, temperature), windows[*place][step])).collect())
        };
        let found = fall_back(windows.len(), &options, attempt).unwrap();
        let own = found.iter().enumerate().all(|(place, settled)| settled.text.0 == place);
        assert!(own, "each window has a text of its own");
        (found.iter().map(|settled| (settled.text.1, settled.temperature)).collect(), asked)
    }

    #[test]
    fn only_doubted_windows_are_tried_again() {
        let doubted = |log_probability| evidence(log_probability, 1.0, 0.0);
        let silent = evidence(-2.0, 1.0, 0.9);
        let (found, asked) = settled(&[
            &[CREDIBLE],
            &[doubted(-1.5), doubted(-1.4), CREDIBLE],
            &[silent],
            &[doubted(-1.5), CREDIBLE],
        ]);
        assert_eq!(found, [(0.0, 0.0), (0.4, 0.4), (0.0, 0.0), (0.2, 0.2)]);
        assert_eq!(asked, [(0.0, vec![0, 1, 2, 3]), (0.2, vec![1, 3]), (0.4, vec![1])]);
    }

    #[test]
    fn where_nothing_is_credible_the_best_is_taken() {
        let texts = [-1.5, -1.2, -1.4, -1.3, -2.0, -1.6].map(|likely| evidence(likely, 1.0, 0.0));
        let mut repeating = texts;
        repeating[1].compression = 9.0;
        let (found, asked) = settled(&[&texts, &repeating]);
        assert_eq!(found, [(0.2, 1.0), (0.6, 1.0)]);
        let temperatures: Vec<f32> =
            asked.into_iter().map(|(temperature, _)| temperature).collect();
        assert_eq!(temperatures, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]);
    }

    #[test]
    fn without_a_temperature_there_is_no_text() {
        let options =
            RecognitionOptions { temperatures: Vec::new(), ..RecognitionOptions::default() };
        let error = fall_back(1, &options, |_, _| Ok(vec![((), CREDIBLE)])).unwrap_err();
        assert!(error.to_string().contains("temperatures"), "{error}");
    }
}
