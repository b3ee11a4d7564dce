//! One video to learn from: what is said in it, and what happens.

use std::path::PathBuf;

use eventide_schema::{Cue, EventSource, TimeSpan};

use super::error::Fault;

/// How far an event may run over the end of its video, in microseconds. It is cut there: annotators round,
/// and containers disagree on the last picture. The references do not check the videos that they train on (an
/// event past the end gets a token that is none, or the last one); for `ViTT` they leave such a video out.
pub const OVERRUN_US: i64 = 1_000_000;

/// The longest video that an annotation may speak of, in seconds.
const LONGEST: f64 = 1e7;

/// A video, or a part of one, with what is known of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Example {
    /// The name of the video in its data set.
    pub video_id: String,
    /// Its file.
    pub file: PathBuf,
    /// The part of the file that this is about. It starts at a whole second.
    pub span: TimeSpan,
    /// What is said, as the source has it: times may lie outside. They count from the start of `span`, as all
    /// others do.
    pub speech: Vec<Cue>,
    /// What happens, as each annotator tells it: captions with spans within `0..duration_us`. None where nobody
    /// looked.
    pub references: Vec<Vec<Cue>>,
}

/// An event as a file of annotations tells it, times in seconds.
#[derive(Debug, Clone, PartialEq)]
pub struct Mark {
    /// When it starts.
    pub start: f64,
    /// When it ends; `None` if it lasts until the end of the video.
    pub end: Option<f64>,
    /// What happens.
    pub caption: String,
}

impl Example {
    /// A whole video, with all events checked. Events that run over the end by [`OVERRUN_US`] or less are cut.
    ///
    /// # Errors
    /// The first thing that cannot be true.
    pub fn new(
        video_id: &str,
        file: PathBuf,
        duration: Option<f64>,
        speech: Vec<Cue>,
        references: &[Vec<Mark>],
    ) -> Result<Self, Fault> {
        let duration = duration.filter(|seconds| (1e-6..=LONGEST).contains(seconds));
        let duration = duration.ok_or(Fault::NoDuration)?;
        let references = (0..).zip(references).map(|(annotator, marks)| {
            let marks = (0..).zip(marks);
            marks.map(|(event, mark)| checked(mark, duration, annotator, event)).collect()
        });
        Ok(Self {
            video_id: video_id.to_owned(),
            file,
            span: TimeSpan::new(0, microseconds(duration)),
            speech,
            references: references.collect::<Result<_, _>>()?,
        })
    }

    /// A video of a lake: what is said in it by table `transcripts`, and its current rows of table `events`.
    ///
    /// Rows of events with source `speech` are what is said where there is no transcript, as in tables of earlier
    /// programs; the others are what happens.
    ///
    /// # Errors
    /// As [`Example::new`].
    pub fn of_rows(
        video_id: &str,
        file: PathBuf,
        duration_us: i64,
        transcript: &[Cue],
        rows: &[(EventSource, Cue)],
    ) -> Result<Self, Fault> {
        let of = |wanted| {
            let rows = rows.iter().filter(move |(source, _)| *source == wanted);
            rows.map(|(_, cue)| cue)
        };
        let speech = if transcript.is_empty() {
            of(EventSource::Speech).cloned().collect()
        } else {
            transcript.to_vec()
        };
        let mark = |cue: &Cue| Mark {
            start: seconds(cue.span.start_us),
            end: Some(seconds(cue.span.end_us)),
            caption: cue.text.clone(),
        };
        let marks: Vec<Mark> = of(EventSource::Vid2Seq).map(mark).collect();
        let references = if marks.is_empty() { Vec::new() } else { vec![marks] };
        Self::new(video_id, file, Some(seconds(duration_us)), speech, &references)
    }

    /// Its length in microseconds.
    #[must_use]
    pub fn duration_us(&self) -> i64 {
        self.span.duration_us()
    }

    /// What is learnt to write: the events of the first annotator.
    #[must_use]
    pub fn events(&self) -> &[Cue] {
        self.references.first().map_or(&[], Vec::as_slice)
    }

    /// An example for each annotator, so that each is learnt from; none where nobody looked.
    #[must_use]
    pub fn by_annotator(&self) -> Vec<Self> {
        let only = |reference: &Vec<Cue>| Self {
            video_id: self.video_id.clone(),
            file: self.file.clone(),
            span: self.span,
            speech: self.speech.clone(),
            references: vec![reference.clone()],
        };
        self.references.iter().map(only).collect()
    }
}

fn checked(mark: &Mark, duration: f64, annotator: usize, event: usize) -> Result<Cue, Fault> {
    let Mark { start, end, ref caption } = *mark;
    let end = end.unwrap_or(duration);
    if !(start.abs() <= LONGEST && end.abs() <= LONGEST) {
        return Err(Fault::NoMoment { annotator, event, start, end });
    }
    if end <= start {
        return Err(Fault::Reversed { annotator, event, start, end });
    }
    let whole = TimeSpan::new(0, microseconds(duration));
    let span = TimeSpan::new(microseconds(start), microseconds(end));
    if span.start_us < 0 || span.start_us >= whole.end_us || span.end_us > whole.end_us + OVERRUN_US
    {
        return Err(Fault::Outside { annotator, event, start, end, duration });
    }
    let caption = caption.trim();
    if caption.is_empty() {
        return Err(Fault::NoCaption { annotator, event });
    }
    let span = TimeSpan::new(span.start_us, span.end_us.min(whole.end_us));
    Ok(Cue { span, text: caption.to_owned() })
}

/// The nearest microsecond of a number of seconds that is at most [`LONGEST`].
#[expect(clippy::cast_possible_truncation, reason = "at most 1e13")]
fn microseconds(seconds: f64) -> i64 {
    (seconds * 1e6).round() as i64
}

/// Microseconds as seconds.
#[expect(clippy::cast_precision_loss, reason = "exact up to 285 years")]
pub(super) fn seconds(us: i64) -> f64 {
    us as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn mark(start: f64, end: f64, caption: &str) -> Mark {
        Mark { start, end: Some(end), caption: caption.to_owned() }
    }

    fn example(duration: f64, marks: &[Mark]) -> Result<Example, Fault> {
        Example::new("v", PathBuf::from("v.mp4"), Some(duration), Vec::new(), &[marks.to_vec()])
    }

    #[rstest]
    #[case::reversed(mark(5.0, 4.0, "a"), "event 1 of annotator 0 starts at 5 and ends at 4")]
    #[case::no_length(mark(5.0, 5.0, "a"), "event 1 of annotator 0 starts at 5 and ends at 5")]
    #[case::past_the_end(
        mark(5.0, 11.5, "a"),
        "event 1 of annotator 0 is from 5 to 11.5, the video from 0 to 10"
    )]
    #[case::all_of_it_past_the_end(mark(10.0, 10.5, "a"), "is from 10 to 10.5")]
    #[case::before_the_start(mark(-0.5, 3.0, "a"), "is from -0.5 to 3")]
    #[case::no_words(mark(1.0, 2.0, " \n"), "event 1 of annotator 0 has no caption")]
    #[case::not_a_number(
        mark(f64::NAN, 2.0, "a"),
        "event 1 of annotator 0 is at no moment: NaN to 2"
    )]
    #[case::no_end(mark(1.0, f64::INFINITY, "a"), "at no moment: 1 to inf")]
    fn refuses(#[case] second: Mark, #[case] because: &str) {
        let fault = example(10.0, &[mark(0.0, 1.0, "fine"), second]).unwrap_err().to_string();
        assert!(fault.contains(because), "{fault}");
    }

    #[rstest]
    #[case::none(None)]
    #[case::zero(Some(0.0))]
    #[case::negative(Some(-3.0))]
    #[case::not_a_number(Some(f64::NAN))]
    #[case::for_ever(Some(f64::INFINITY))]
    fn needs_a_length(#[case] duration: Option<f64>) {
        let fault = Example::new("v", PathBuf::new(), duration, Vec::new(), &[]).unwrap_err();
        assert_eq!(fault, Fault::NoDuration);
    }

    #[test]
    fn a_little_over_the_end_is_cut_there() {
        let open = Mark { start: 9.25, end: None, caption: " to the end ".to_owned() };
        let found = example(10.5, &[mark(2.0, 11.5, "over"), open]).unwrap();
        let spans: Vec<_> =
            found.events().iter().map(|c| (c.span.start_us, c.span.end_us, &*c.text)).collect();
        let expected = [(2_000_000, 10_500_000, "over"), (9_250_000, 10_500_000, "to the end")];
        assert_eq!(spans, expected);
    }

    #[test]
    fn a_transcript_is_what_is_said_or_else_rows_of_speech_are() {
        let cue = |start_us, text: &str| Cue {
            span: TimeSpan::new(start_us, start_us + 1_000_000),
            text: text.to_owned(),
        };
        let (heard, said, seen) = (cue(7, "hullo"), cue(0, "hello"), cue(5, "a dog"));
        let rows = [(EventSource::Speech, said.clone()), (EventSource::Vid2Seq, seen.clone())];
        let of = |transcript: &[Cue]| {
            Example::of_rows("v", PathBuf::new(), 9_000_000, transcript, &rows).unwrap()
        };
        let (without, with) = (of(&[]), of(std::slice::from_ref(&heard)));
        assert_eq!(
            (without.speech.as_slice(), without.events()),
            (&[said][..], &[seen.clone()][..])
        );
        assert_eq!((with.speech.as_slice(), with.events()), (&[heard][..], &[seen][..]));
    }

    #[test]
    fn each_annotator_is_an_example() {
        let marks = |caption| vec![mark(0.0, 1.0, caption)];
        let both = [marks("one"), marks("other")];
        let found = Example::new("v", PathBuf::new(), Some(9.0), Vec::new(), &both).unwrap();
        let captions: Vec<_> =
            found.by_annotator().iter().map(|e| e.events()[0].text.clone()).collect();
        assert_eq!(captions, ["one", "other"]);
    }
}
