//! Token sequences back into events.
//!
//! Follows the loop of `VidChapters`, but on ids instead of on their text. So a time token inside a
//! caption is dropped and not printed, a caption that begins with punctuation is not lost, and an event
//! whose caption is empty is none.

use eventide_schema::TimeSpan;

use crate::{error::Result, tokenizer::Tokenizer};

/// What a sequence says of a window.
#[derive(Debug, Clone, PartialEq)]
pub enum Parsed {
    /// At least one event, in the order of the sequence: they may overlap, repeat and run backwards.
    Events(Vec<ParsedEvent>),
    /// None, and why.
    Nothing(NoEvents),
}

/// One event of a sequence.
#[derive(Debug, Clone, PartialEq)]
pub struct ParsedEvent {
    /// When, counted from the start of the window; never empty, never outside it.
    pub span: TimeSpan,
    /// What happens. Never empty, no line breaks, single spaces.
    pub caption: String,
    /// Mean natural-log probability of its two time tokens and its pieces of text.
    pub score: f32,
}

/// Why a sequence gives no event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum NoEvents {
    /// The model ended at once.
    #[error("the model wrote nothing")]
    Silent,
    /// There is text, but no two time tokens in a row.
    #[error("the model wrote no pair of time tokens")]
    NoSpan,
    /// Each pair of time tokens is followed by nothing.
    #[error("the model wrote no caption behind its time tokens")]
    NoCaption,
    /// There are captions, but each ends at or before its start.
    #[error("the model wrote only spans that end before they start")]
    Backwards,
}

impl NoEvents {
    /// A stable word in `snake_case` that people count and filter by.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Silent => "silent_model",
            Self::NoSpan => "no_time_tokens",
            Self::NoCaption => "no_caption",
            Self::Backwards => "backwards_spans",
        }
    }
}

/// Reads the events of a sequence.
///
/// `tokens` may begin with the decoder's start token and end in EOS and padding; what follows the first
/// EOS is not read. `log_probabilities` are those of the tokens, one each; a missing one counts as 0.
/// `duration_us` is the length of the window in microseconds.
///
/// # Errors
/// [`Error::Decode`](crate::Error::Decode) if the tokenizer refuses its own pieces.
pub fn parse(
    tokenizer: &Tokenizer,
    tokens: &[i64],
    log_probabilities: &[f32],
    duration_us: i64,
) -> Result<Parsed> {
    let written = written(tokenizer, tokens, log_probabilities);
    let starts: Vec<usize> = (1..written.len())
        .filter(|&second| written[second - 1].bin.is_some() && written[second].bin.is_some())
        .map(|second| second - 1)
        .collect();
    let mut reason = match (written.is_empty(), starts.is_empty()) {
        (true, _) => NoEvents::Silent,
        (_, true) => NoEvents::NoSpan,
        _ => NoEvents::NoCaption,
    };
    let mut events = Vec::new();
    for (index, &start) in starts.iter().enumerate() {
        // Of three time tokens in a row the first pair has no room for text.
        let end = starts.get(index + 1).copied().unwrap_or(written.len());
        let body = written.get(start + 2..end).unwrap_or_default();
        let caption = caption(tokenizer, body)?;
        if caption.is_empty() {
            continue;
        }
        match span(tokenizer, &written[start..start + 2], duration_us) {
            Some(span) => {
                let score = mean_log_probability(&written[start..start + 2], body);
                events.push(ParsedEvent { span, caption, score });
            }
            None => reason = NoEvents::Backwards,
        }
    }
    Ok(if events.is_empty() { Parsed::Nothing(reason) } else { Parsed::Events(events) })
}

/// All the text of a sequence, its times left out: what it says of a clip whose bounds were given.
/// `tokens` as for [`parse`].
///
/// # Errors
/// As [`parse`].
pub fn text(tokenizer: &Tokenizer, tokens: &[i64]) -> Result<String> {
    caption(tokenizer, &written(tokenizer, tokens, &[]))
}

/// A token that says something: a time or a piece of text.
struct Written {
    id: i64,
    bin: Option<u32>,
    log_probability: f32,
}

fn written(tokenizer: &Tokenizer, tokens: &[i64], log_probabilities: &[f32]) -> Vec<Written> {
    let eos = i64::from(tokenizer.text_rule().eos_id);
    let log_probabilities = log_probabilities.iter().copied().chain(std::iter::repeat(0.0));
    tokens
        .iter()
        .zip(log_probabilities)
        .take_while(|&(&id, _)| id != eos)
        .map(|(&id, log_probability)| Written {
            id,
            bin: tokenizer.time_tokens().bin_of(id),
            log_probability,
        })
        .filter(|token| token.bin.is_some() || tokenizer.is_text(token.id))
        .collect()
}

/// The caption in `body`. What lies on either side of a stray time token is decoded by itself, as the
/// reference does.
fn caption(tokenizer: &Tokenizer, body: &[Written]) -> Result<String> {
    let mut text = String::new();
    for part in body.split(|token| token.bin.is_some()) {
        let ids: Vec<i64> = part.iter().map(|token| token.id).collect();
        text.push(' ');
        text.push_str(&tokenizer.decode(&ids)?);
    }
    let words: Vec<&str> = text.split_whitespace().collect();
    Ok(without_stray_spaces(&words.join(" ")))
}

/// The clean-up that the reference does after decoding: no space before a mark or a contraction.
pub(crate) fn without_stray_spaces(text: &str) -> String {
    const REPLACED: [(&str, &str); 10] = [
        (" .", "."),
        (" ?", "?"),
        (" !", "!"),
        (" ,", ","),
        (" ' ", "'"),
        (" n't", "n't"),
        (" 'm", "'m"),
        (" 's", "'s"),
        (" 've", "'ve"),
        (" 're", "'re"),
    ];
    REPLACED.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}

/// The span of two time tokens; `None` if it is empty or backwards.
fn span(tokenizer: &Tokenizer, pair: &[Written], duration_us: i64) -> Option<TimeSpan> {
    let times = tokenizer.time_tokens();
    let moment = |token: &Written| Some(times.moment_us(token.bin?, duration_us));
    let span = TimeSpan::new(moment(&pair[0])?, moment(&pair[1])?);
    (span.end_us > span.start_us).then_some(span)
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "a mean over at most a few thousand tokens"
)]
fn mean_log_probability(pair: &[Written], body: &[Written]) -> f32 {
    let text = body.iter().filter(|token| token.bin.is_none());
    let counted: Vec<f64> =
        pair.iter().chain(text).map(|token| f64::from(token.log_probability)).collect();
    (counted.iter().sum::<f64>() / counted.len() as f64) as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{golden, ids, microseconds, scenic, t5, tiny, tiny_model, vid_chapters};
    use proptest::prelude::*;
    use rstest::rstest;
    use serde_json::Value;

    /// Captions and times as a reference gives them, the times in microseconds.
    fn reference(case: &Value) -> Vec<(f64, f64, String)> {
        let seconds = |event: &Value, key: &str| event[key].as_f64().map(|at| at * 1e6);
        case.as_array()
            .unwrap()
            .iter()
            .map(|event| {
                let start = seconds(event, "start").or_else(|| event["start_us"].as_f64()).unwrap();
                let end = seconds(event, "end").or_else(|| event["end_us"].as_f64()).unwrap();
                (start, end, event["caption"].as_str().unwrap().to_owned())
            })
            .collect()
    }

    fn events(parsed: Parsed) -> Vec<ParsedEvent> {
        match parsed {
            Parsed::Events(events) => events,
            Parsed::Nothing(_) => Vec::new(),
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "golden videos last at most half a day")]
    fn check(name: &str, found: &[ParsedEvent], expected: &[(f64, f64, String)]) {
        let captions: Vec<_> = found.iter().map(|event| event.caption.as_str()).collect();
        let wanted: Vec<_> = expected.iter().map(|(_, _, caption)| caption.as_str()).collect();
        assert_eq!(captions, wanted, "{name}");
        for (event, (start, end, _)) in found.iter().zip(expected) {
            let near = |us: i64, golden: f64| (us - golden.round() as i64).abs() <= 1;
            let both = near(event.span.start_us, *start) && near(event.span.end_us, *end);
            assert!(both, "{name}: {:?} is not {start}..{end}", event.span);
        }
    }

    /// What ours gives where the reference's text gets in its own way.
    fn deviation(name: &str) -> Option<Vec<(f64, f64, String)>> {
        let event = |start: f64, end: f64, text: &str| (start, end, text.to_owned());
        Some(match name {
            // Stray time tokens are stripped.
            "zero length, backwards, stray pair, trailing time" => {
                vec![event(131_877_070.7, 151_334_343.4, "Kept one.")]
            }
            "leading text, lone times" => vec![
                event(43_238_383.8, 64_857_575.8, "Add salt. Mix well."),
                event(108_095_959.6, 129_715_151.5, "Serve."),
            ],
            "cut after one time" => vec![event(2_161_919.2, 19_457_272.7, "First.")],
            // Punctuation that the reference glues to a time token is kept.
            "no space before text piece" => {
                vec![event(0.0, 1_136_363.6, "s and"), event(1_136_363.6, 1_515_151.5, ".")]
            }
            // And a caption that is only a space is none.
            "punctuation only" => {
                vec![event(0.0, 9_090_909.1, "."), event(10_101_010.1, 20_202_020.2, ",.")]
            }
            _ => return None,
        })
    }

    #[test]
    fn the_text_of_a_sequence_has_no_times() {
        let tokenizer = t5(&vid_chapters());
        let golden = golden("sequences.json");
        let named = |name: &str| {
            let cases = golden["parse"].as_array().unwrap();
            let case = cases.iter().find(|case| case["name"] == name).unwrap();
            text(&tokenizer, &ids(&case["vc_ids"])).unwrap()
        };
        let found = named("leading text, lone times");
        assert_eq!(found, "Intro words lost Add salt. Mix well. Serve.");
        assert_eq!(text(&tokenizer, &[0, 1]).unwrap(), "");
    }

    #[test]
    fn every_golden_sequence_of_vid_chapters() {
        let tokenizer = t5(&vid_chapters());
        let golden = golden("sequences.json");
        let mut deviations = 0;
        for case in golden["parse"].as_array().unwrap() {
            let name = case["name"].as_str().unwrap();
            let duration = microseconds(&case["duration"]);
            let found = events(parse(&tokenizer, &ids(&case["vc_ids"]), &[], duration).unwrap());
            let expected = reference(&case["vc"]);
            match deviation(name) {
                Some(ours) => {
                    assert_ne!(
                        ours.len() * 1000 + ours[0].2.len(),
                        expected.len() * 1000 + expected[0].2.len()
                    );
                    check(name, &found, &ours);
                    deviations += 1;
                }
                None => check(name, &found, &expected),
            }
        }
        assert_eq!(deviations, 5);
    }

    /// Scenic blanks what is not ASCII and does not clean up spaces; both are its scorer's business.
    #[test]
    fn every_golden_sequence_of_scenic() {
        const OTHERWISE: [&str; 3] = ["contractions", "unknown and extra ids inside", "unicode"];
        let tokenizer = t5(&scenic());
        let golden = golden("sequences.json");
        let mut equal = 0;
        for case in golden["parse"].as_array().unwrap() {
            let name = case["name"].as_str().unwrap();
            let duration = microseconds(&case["duration"]);
            let found = events(parse(&tokenizer, &ids(&case["sc_ids"]), &[], duration).unwrap());
            if OTHERWISE.contains(&name) {
                // There our text is that of `VidChapters`.
                check(name, &found, &reference(&case["vc"]));
            } else {
                check(name, &found, &reference(&case["sc"]));
                equal += 1;
            }
        }
        assert_eq!(equal, 17);
    }

    #[rstest]
    #[case::ended_at_once(&[0, 1], NoEvents::Silent)]
    #[case::empty(&[], NoEvents::Silent)]
    #[case::only_sentinels(&[0, 32_099, 2, 1], NoEvents::Silent)]
    #[case::no_times(&[0, 465, 648, 1], NoEvents::NoSpan)]
    #[case::lone_times(&[32_101, 465, 32_102, 648], NoEvents::NoSpan)]
    #[case::only_times(&[0, 32_101, 32_102, 1], NoEvents::NoCaption)]
    #[case::only_a_space(&[32_101, 32_102, 3, 1], NoEvents::NoCaption)]
    #[case::text_after_the_end(&[32_101, 32_102, 1, 465], NoEvents::NoCaption)]
    #[case::backwards(&[32_102, 32_101, 465, 1], NoEvents::Backwards)]
    #[case::no_length(&[32_102, 32_102, 465, 32_101, 32_102, 1], NoEvents::Backwards)]
    fn says_why_there_is_nothing(#[case] tokens: &[i64], #[case] reason: NoEvents) {
        let found = parse(&t5(&vid_chapters()), tokens, &[], 60_000_000).unwrap();
        assert_eq!(found, Parsed::Nothing(reason));
    }

    #[test]
    fn a_window_without_length_has_no_events() {
        let found = parse(&t5(&vid_chapters()), &[32_100, 32_199, 465], &[], 0).unwrap();
        assert_eq!(found, Parsed::Nothing(NoEvents::Backwards));
    }

    #[test]
    fn the_score_is_the_mean_over_times_and_text() {
        let tokens = [32_101, 32_109, 1485, 32_150, 5, 2, 32_112, 32_120, 465, 1];
        let scores = [-1.0, -2.0, -3.0, -100.0, -4.0, -100.0, -7.0, -8.0, -9.0, -100.0];
        let found = events(parse(&t5(&vid_chapters()), &tokens, &scores, 60_000_000).unwrap());
        let means: Vec<f32> = found.iter().map(|event| event.score).collect();
        assert_eq!(means, [-2.5, -8.0]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn events_are_sound(
            tokens in prop::collection::vec(prop_oneof![0i64..400, 300i64..400, -5i64..500], 0..60),
            duration in 0i64..1 << 40,
        ) {
            let tokenizer = Tokenizer::new(&tiny_model(), &tiny()).unwrap();
            for event in events(parse(&tokenizer, &tokens, &[], duration).unwrap()) {
                prop_assert!(0 <= event.span.start_us && event.span.end_us <= duration);
                prop_assert!(event.span.start_us < event.span.end_us);
                prop_assert!(!event.caption.trim().is_empty());
                prop_assert!(!event.caption.contains("<time="));
            }
        }
    }
}
