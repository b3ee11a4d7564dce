//! Token sequences of the model: what is said in a window as its input, events as its target.

use eventide_schema::{Cue, TimeSpan};

use crate::{error::Result, manifest::Normalise, text::normalise, tokenizer::Tokenizer};

/// Input of the text encoder: for each cue its two time tokens and its words, then the end; at most
/// `max_input_tokens` ids, at least one.
///
/// Times of `cues` count from the start of the window, which lasts `duration_us` microseconds. Cues are
/// taken in the order given. Under [`Normalise::VidChapters`] those that reach outside the window, or
/// are blank, are left out, and an input that is too long still ends in EOS; under
/// [`Normalise::Scenic`] times are moved into the window, nothing is left out, and a cut loses the EOS.
///
/// # Errors
/// [`Error::Encode`](crate::Error::Encode) if a text cannot be tokenised.
pub fn input_ids(tokenizer: &Tokenizer, cues: &[Cue], duration_us: i64) -> Result<Vec<i64>> {
    let rule = tokenizer.text_rule();
    let limit = rule.max_input_tokens as usize;
    let within = |span: TimeSpan| span.start_us >= 0 && span.end_us <= duration_us;
    let kept = cues.iter().filter(|cue| rule.normalise == Normalise::Scenic || within(cue.span));
    sequence(tokenizer, kept, duration_us, limit)
}

/// Target of the decoder: for each event its two time tokens and its caption, then the end; at most
/// `max_tokens` ids.
///
/// The texts of `events` are their captions; times count from the start of the window and are moved
/// into it. At most `max_events` are taken, the first ones, where a number is given. The decoder reads
/// the pad token and then the target without its last id.
///
/// # Errors
/// [`Error::Encode`](crate::Error::Encode) if a caption cannot be tokenised.
pub fn target_ids(
    tokenizer: &Tokenizer,
    events: &[Cue],
    duration_us: i64,
    max_tokens: usize,
    max_events: Option<usize>,
) -> Result<Vec<i64>> {
    let kept = events.iter().take(max_events.unwrap_or(usize::MAX));
    sequence(tokenizer, kept, duration_us, max_tokens)
}

fn sequence<'a>(
    tokenizer: &Tokenizer,
    sentences: impl Iterator<Item = &'a Cue>,
    duration_us: i64,
    limit: usize,
) -> Result<Vec<i64>> {
    let rule = tokenizer.text_rule();
    let times = tokenizer.time_tokens();
    let eos = i64::from(rule.eos_id);
    let mut ids = Vec::new();
    for sentence in sentences {
        if ids.len() >= limit {
            break;
        }
        let text = normalise(&sentence.text, rule.normalise);
        if text.is_empty() && rule.normalise == Normalise::VidChapters {
            continue;
        }
        for at in [sentence.span.start_us, sentence.span.end_us] {
            ids.push(times.id(times.bin(at, duration_us)));
        }
        ids.extend(tokenizer.encode(&text)?);
    }
    match rule.normalise {
        Normalise::VidChapters => {
            ids.truncate(limit.saturating_sub(1));
            ids.push(eos);
        }
        Normalise::Scenic => {
            ids.push(eos);
            ids.truncate(limit);
        }
    }
    Ok(ids)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{
        cues, golden, ids, microseconds, scenic, t5, tiny, tiny_model, vid_chapters,
    };
    use proptest::prelude::*;
    use serde_json::Value;

    /// The golden transcript with commands in it: ours is text where `VidChapters` obeys.
    const INJECTION: &str = "time token typed in the speech";

    /// Scenic's ids, but for moments before the window: it gives them ids below the first time token,
    /// we that token.
    fn within_the_window(golden: &Value) -> Vec<i64> {
        let moved = |id| if (32_100..32_128).contains(&id) { 32_128 } else { id };
        ids(golden).into_iter().map(moved).collect()
    }

    #[test]
    fn every_golden_transcript() {
        let (vc, sc) = (t5(&vid_chapters()), t5(&scenic()));
        let golden = golden("sequences.json");
        let cases = golden["speech_to_input"].as_array().unwrap();
        assert_eq!(cases.len(), 14);
        for case in cases {
            let (cues, duration) = (cues(&case["sentences"]), microseconds(&case["duration"]));
            let built = |tokenizer| input_ids(tokenizer, &cues, duration).unwrap();
            assert_eq!(built(&sc), within_the_window(&case["sc"]), "Scenic: {}", case["name"]);
            if case["name"] == INJECTION {
                assert_ne!(built(&vc), ids(&case["vc"]));
            } else {
                assert_eq!(built(&vc), ids(&case["vc"]), "VidChapters: {}", case["name"]);
            }
        }
    }

    #[test]
    fn commands_in_speech_are_text() {
        let golden = golden("sequences.json");
        let cases = golden["speech_to_input"].as_array().unwrap();
        let case = cases.iter().find(|case| case["name"] == INJECTION).unwrap();
        let found = input_ids(
            &t5(&vid_chapters()),
            &cues(&case["sentences"]),
            microseconds(&case["duration"]),
        )
        .unwrap();
        let expected = [
            [32_101, 32_103, 10_403, 3, 2, 715, 2423, 940, 3155, 491, 1063, 26, 5].as_slice(),
            &[
                32_105, 32_107, 3, 2, 87, 7, 3155, 1190, 3, 2, 25_666, 834, 23, 26, 834, 632, 3155,
                5,
            ],
            &[1],
        ];
        assert_eq!(found, expected.concat());
    }

    #[test]
    fn every_golden_target() {
        let (vc, sc) = (t5(&vid_chapters()), t5(&scenic()));
        let golden = golden("sequences.json");
        let cases = golden["events_to_target"].as_array().unwrap();
        assert_eq!(cases.len(), 7);
        for case in cases {
            let (events, duration) = (cues(&case["events"]), microseconds(&case["duration"]));
            let most = case["sc_max_events"].as_u64().and_then(|most| usize::try_from(most).ok());
            let found = target_ids(&vc, &events, duration, 256, None).unwrap();
            assert_eq!(found, ids(&case["vc"]), "VidChapters: {}", case["name"]);
            let found = target_ids(&sc, &events, duration, 256, most).unwrap();
            assert_eq!(found, ids(&case["sc"]["decoder_target"]), "Scenic: {}", case["name"]);
            let read = [&[0], &found[..found.len() - 1]].concat();
            assert_eq!(read, ids(&case["sc"]["decoder_input"]), "Scenic: {}", case["name"]);
        }
    }

    fn cue(start_us: i64, end_us: i64, text: &str) -> Cue {
        Cue { span: TimeSpan::new(start_us, end_us), text: text.to_owned() }
    }

    #[test]
    fn blank_speech_is_no_speech() {
        let tokenizer = t5(&vid_chapters());
        let cues = [cue(0, 1, " "), cue(0, 1, "\u{a0}\u{1f}")];
        assert_eq!(input_ids(&tokenizer, &cues, 10).unwrap(), [1]);
    }

    #[test]
    fn the_golden_inputs_of_the_tiny_model_are_of_its_tokenizer() {
        let golden = golden("vid2seq-tiny/cases.json");
        let tokenizer = Tokenizer::new(&tiny_model(), &tiny()).unwrap();
        let text = |item: &Value| item["text"].as_str().unwrap().to_owned();
        for item in golden["cases"][0]["items"].as_array().unwrap() {
            let found = &item["beam4"]["hypotheses"][0]["ids"];
            let decoded = tokenizer.decode(&ids(found)).unwrap();
            let words: Vec<_> = text(item)
                .split_whitespace()
                .filter(|word| !word.starts_with("<time="))
                .map(ToOwned::to_owned)
                .collect();
            assert_eq!(decoded, words.join(" "));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn an_input_fits_the_model(
            sentences in prop::collection::vec((any::<i64>(), any::<i64>(), ".{0,40}"), 0..30),
            duration in 0i64..1 << 40,
            limit in 2u32..64,
            scenic: bool,
        ) {
            let mut manifest = tiny();
            manifest.text.max_input_tokens = limit;
            manifest.text.normalise =
                if scenic { Normalise::Scenic } else { Normalise::VidChapters };
            let tokenizer = Tokenizer::new(&tiny_model(), &manifest).unwrap();
            let cues: Vec<_> =
                sentences.iter().map(|(start, end, text)| cue(*start, *end, text)).collect();
            let found = input_ids(&tokenizer, &cues, duration).unwrap();
            prop_assert!((1..=limit as usize).contains(&found.len()));
            prop_assert!(found.iter().all(|id| (1..400).contains(id)));
            prop_assert!(scenic || found.last() == Some(&1));
        }
    }
}
