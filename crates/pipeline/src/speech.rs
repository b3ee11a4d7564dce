//! Speech as events: the sentences of the transcript with their bounds, which are the pseudo events
//! that Vid2Seq is pre-trained on (arXiv 2302.14115, section 3.2).

use eventide_model::speech::sentences::ends_sentence;
use eventide_schema::{Cue, Event, EventSource, TimeSpan, Transcript, TranscriptSource};

/// Cues of one sentence are not further apart than this.
const LONGEST_GAP_US: i64 = 1_000_000;
/// A sentence put together from cues is not longer than this.
const LONGEST_SENTENCE_US: i64 = 30_000_000;

/// The sentences of a transcript, in order, with bounds inside `0..duration_us`.
///
/// Subtitles break a sentence over several cues; those are joined while the text so far does not end
/// a sentence, the next cue follows within a second, and the whole stays under 30 seconds. What was recognised are
/// sentences already, as long as they may be. A cue that lies outside the video is left out, one that runs over its
/// end is cut there.
#[must_use]
pub fn sentences(transcript: &Transcript, duration_us: i64) -> Vec<Cue> {
    let are_sentences = transcript.source == TranscriptSource::Asr;
    let mut sentences: Vec<Cue> = Vec::new();
    for cue in &transcript.cues {
        let span = TimeSpan::new(cue.span.start_us.max(0), cue.span.end_us.min(duration_us));
        if span.duration_us() == 0 {
            continue;
        }
        match sentences.last_mut() {
            Some(sentence) if !are_sentences && continues(sentence, span) => {
                sentence.text.push(' ');
                sentence.text.push_str(&cue.text);
                sentence.span.end_us = sentence.span.end_us.max(span.end_us);
            }
            _ => sentences.push(Cue { span, text: cue.text.clone() }),
        }
    }
    sentences
}

/// Whether words said during `next` belong to a sentence that is still open.
fn continues(sentence: &Cue, next: TimeSpan) -> bool {
    let ends = ends_sentence(&sentence.text);
    let gap = next.start_us - sentence.span.end_us;
    let length = next.end_us - sentence.span.start_us;
    !ends && (0..=LONGEST_GAP_US).contains(&gap) && length <= LONGEST_SENTENCE_US
}

/// The sentences as events of window 0.
pub(crate) fn events(transcript: &Transcript, duration_us: i64) -> Vec<Event> {
    (0..)
        .zip(sentences(transcript, duration_us))
        .map(|(event_index, sentence)| Event {
            window_index: 0,
            event_index,
            span: sentence.span,
            time_resolution_us: 1000,
            speech: Some(sentence.text.clone()),
            caption: sentence.text,
            score: None,
            source: EventSource::Speech,
            language: transcript.language.clone(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn cue(start_ms: i64, end_ms: i64, text: &str) -> Cue {
        Cue { span: TimeSpan::new(start_ms * 1000, end_ms * 1000), text: text.to_owned() }
    }

    #[rstest]
    #[case::joined(&[cue(0, 900, "Add the"), cue(900, 2000, "garlic.")], &[cue(0, 2000, "Add the garlic.")])]
    #[case::ended(&[cue(0, 900, "Stir."), cue(900, 2000, "Serve.")], &[cue(0, 900, "Stir."), cue(900, 2000, "Serve.")])]
    #[case::quoted_end(&[cue(0, 900, "\"Stir.\""), cue(900, 2000, "Serve")], &[cue(0, 900, "\"Stir.\""), cue(900, 2000, "Serve")])]
    #[case::apart(&[cue(0, 900, "Add"), cue(2000, 3000, "salt")], &[cue(0, 900, "Add"), cue(2000, 3000, "salt")])]
    #[case::too_long(&[cue(0, 29_000, "Add"), cue(29_000, 31_000, "salt")], &[cue(0, 29_000, "Add"), cue(29_000, 31_000, "salt")])]
    #[case::cut_at_the_end(&[cue(59_000, 61_000, "Bye.")], &[cue(59_000, 60_000, "Bye.")])]
    #[case::outside(&[cue(60_000, 61_000, "Gone."), cue(-2, 0, "Before.")], &[])]
    fn of_cues(#[case] cues: &[Cue], #[case] expected: &[Cue]) {
        let transcript = Transcript { cues: cues.to_vec(), ..Transcript::default() };
        assert_eq!(sentences(&transcript, 60_000_000), expected);
    }

    #[test]
    fn what_was_recognised_stays_as_it_is() {
        let cues = [
            cue(0, 900, "Add the garlic,"),
            cue(900, 2000, "then stir."),
            cue(2000, 9000, "Serve"),
        ];
        let source = TranscriptSource::Asr;
        let transcript = Transcript { source, cues: cues.to_vec(), ..Transcript::default() };
        assert_eq!(sentences(&transcript, 60_000_000), cues);
        let cut = Cue { span: TimeSpan::new(2_000_000, 3_000_000), ..cues[2].clone() };
        assert_eq!(sentences(&transcript, 3_000_000), [cues[0].clone(), cues[1].clone(), cut]);
    }

    #[test]
    fn every_sentence_is_an_event_however_many_there_are() {
        let cues = (0..1500).map(|i| cue(i * 2000, i * 2000 + 900, "Stir.")).collect();
        let transcript = Transcript { cues, ..Transcript::default() };
        let events = events(&transcript, 3_000_000_000);
        assert_eq!(events.len(), 1500);
        assert!(events.iter().zip(0..).all(|(event, index)| event.event_index == index));
    }
}
