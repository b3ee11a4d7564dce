//! Subtitle files: WebVTT, SubRip, and the JSON of Whisper and WhisperX. Pure functions.
//!
//! The crate `fasrt` reads WebVTT and SubRip. People and programs write these files in every state,
//! so timing lines are put in order before it, and text is made plain behind it.

use std::{borrow::Cow, sync::LazyLock, time::Duration};

use encoding_rs::{Encoding, WINDOWS_1252};
use eventide_schema::{Cue, SidecarFormat, TimeSpan, Transcript, TranscriptSource};
use fasrt::{srt, vtt};
use regex::{Captures, Regex};
use serde::Deserialize;

use crate::Error;

/// Reads a subtitle file.
///
/// - Text is UTF-8, or UTF-16 with a byte order mark; what is not valid UTF-8 is taken as
///   Windows-1252, which has Latin-1 in it. Any line ends.
/// - A file that begins with `WEBVTT` is WebVTT, any other timed text is SubRip, whatever its name.
/// - Cue numbers, settings, notes, styles, tags, `{\an8}` overrides and entities are dropped or
///   resolved; the lines of a cue become one; a cue without text is left out.
/// - Times keep milliseconds, those of JSON microseconds. They may lie past the end, or end before
///   they start. In WebVTT and SubRip a time before 0 is 0.
/// - Automatic captions that roll (each cue repeats the line before and adds one, with a time
///   tag on each word) give each line once.
///
/// `language` is what the file's name says; without it, JSON may say.
///
/// # Errors
/// [`Error::DamagedSubtitles`] for a file that is not blank but has no cue (or no `WEBVTT` either),
/// or JSON of another shape, or a time that is not a number.
pub fn parse_sidecar(
    bytes: &[u8],
    format: SidecarFormat,
    language: Option<&str>,
) -> Result<Transcript, Error> {
    let text = decode(bytes)?;
    let (spoken, cues) = match format {
        SidecarFormat::Vtt | SidecarFormat::Srt => (None, timed_text(&text)?),
        SidecarFormat::Json => whisper(&text)?,
    };
    let language = language.map(str::to_owned).or(spoken).filter(|language| !language.is_empty());
    Ok(Transcript { source: TranscriptSource::Sidecar, language, cues, confidences: Vec::new() })
}

fn damaged(detail: impl Into<String>) -> Error {
    Error::DamagedSubtitles { detail: detail.into() }
}

fn decode(bytes: &[u8]) -> Result<Cow<'_, str>, Error> {
    let text = match (Encoding::for_bom(bytes), str::from_utf8(bytes)) {
        (None, Ok(text)) => Cow::Borrowed(text),
        (marked, _) => {
            let encoding = marked.map_or(WINDOWS_1252, |(encoding, _)| encoding);
            encoding.decode_with_bom_removal(bytes).0
        }
    };
    if text.contains('\0') {
        return Err(damaged("this is not text"));
    }
    Ok(text)
}

/// Cues of WebVTT or SubRip.
fn timed_text(text: &str) -> Result<Vec<Cue>, Error> {
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let text = text.trim_start();
    let is_webvtt = text.starts_with("WEBVTT");
    let tidy = with_timing_lines_in_order(text, if is_webvtt { '.' } else { ',' });
    let said = if is_webvtt { webvtt(&tidy)? } else { subrip(&tidy)? };
    if said.is_empty() && !is_webvtt && !text.trim().is_empty() {
        return Err(damaged("there is no line with a start and an end"));
    }
    let rolls = text.contains("<c>") && WORD_TIME.is_match(text);
    let mut before = String::new();
    let mut cues = Vec::new();
    for (span, body) in said {
        let mut lines = plain_lines(body);
        if rolls {
            lines = roll(lines, &mut before);
        }
        if !lines.is_empty() {
            cues.push(Cue { span, text: lines.join(" ") });
        }
    }
    Ok(cues)
}

/// Spans and raw texts of WebVTT.
fn webvtt(text: &str) -> Result<Vec<(TimeSpan, &str)>, Error> {
    let mut cues = Vec::new();
    for block in vtt::Parser::new(text) {
        if let vtt::Block::Cue(cue) = block.map_err(|error| damaged(error.to_string()))? {
            let (start, end) = (cue.header_ref().start(), cue.header_ref().end());
            cues.push((span(start.to_duration(), end.to_duration()), *cue.body_ref()));
        }
    }
    Ok(cues)
}

/// Spans and raw texts of SubRip.
fn subrip(text: &str) -> Result<Vec<(TimeSpan, &str)>, Error> {
    let mut cues = Vec::new();
    for entry in srt::Parser::lossy(text) {
        let entry = entry.map_err(|error| damaged(error.to_string()))?;
        let (start, end) = (entry.header_ref().start(), entry.header_ref().end());
        cues.push((span(start.to_duration(), end.to_duration()), *entry.body_ref()));
    }
    Ok(cues)
}

fn span(start: Duration, end: Duration) -> TimeSpan {
    let micros = |moment: Duration| i64::try_from(moment.as_micros()).unwrap_or(i64::MAX);
    TimeSpan::new(micros(start), micros(end))
}

/// Most hours, minutes or seconds that are believed.
const LARGEST_PART: u64 = 999_999;

fn pattern(text: &str) -> Regex {
    Regex::new(text).unwrap_or_else(|error| unreachable!("a pattern of our own: {error}"))
}

/// A timing line as people write it, after the number of its cue if that stands right before it.
/// Groups: sign, hours, minutes, seconds and fraction of the start, then of the end.
static TIMING: LazyLock<Regex> = LazyLock::new(|| {
    let blank = r"[\s\x{feff}--\n]*";
    let moment = r"(-)?(?:([0-9]+):)?([0-9]+):([0-9]+)(?:[.,]([0-9]+))?";
    let number = format!("(?:{blank}[0-9]+{blank}\n)?");
    pattern(&format!("(?m)^{number}{blank}{moment}{blank}-->{blank}{moment}.*$"))
});

/// A tag with the time of a word, as automatic captions have them.
static WORD_TIME: LazyLock<Regex> = LazyLock::new(|| pattern(r"<[0-9:]+[.,][0-9]+>"));

/// `<b>`, `</i>`, `<v Ann>`, `<c.red>`, `<font ..>`, `<00:00:01.000>` and `{\an8}`; not `a < b`.
static MARK_UP: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"<(?:/?[A-Za-z][^<>\n]*|[0-9:]+[.,][0-9]+)>|\{\\[^{}\n]*\}"));

/// Writes each timing line as the formats want it, with a blank line before it and `mark` before its
/// milliseconds. Its number goes, and so do settings.
fn with_timing_lines_in_order(text: &str, mark: char) -> Cow<'_, str> {
    TIMING.replace_all(text, |line: &Captures<'_>| {
        format!("\n{} --> {}", moment(line, 1, mark), moment(line, 6, mark))
    })
}

/// The time whose groups begin with `first`: `hh:mm:ss`, `mark`, milliseconds. A part over
/// [`LARGEST_PART`] is that: `fasrt` would let a larger one overflow.
fn moment(line: &Captures<'_>, first: usize, mark: char) -> String {
    let group = |place: usize| line.get(first + place).map_or("", |group| group.as_str());
    let part = |place| match group(place) {
        "" => 0,
        digits => digits.parse().map_or(LARGEST_PART, |part: u64| part.min(LARGEST_PART)),
    };
    if group(0) == "-" {
        return format!("00:00:00{mark}000");
    }
    let seconds = (part(1) * 60 + part(2)) * 60 + part(3);
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    format!("{hours:02}:{minutes:02}:{:02}{mark}{:0<3.3}", seconds % 60, group(4))
}

/// The lines of a cue that have text, without mark-up, entities and needless space.
fn plain_lines(body: &str) -> Vec<String> {
    let bare = MARK_UP.replace_all(body, "");
    let lines =
        bare.lines().map(|line| one_line(vtt::cue::CueStr::needs_normalization(line).normalize()));
    lines.filter(|line| !line.is_empty()).collect()
}

/// `text` without marks of direction, with single spaces for whatever separates its words.
fn one_line(text: &str) -> String {
    let text = text.replace(['\u{200e}', '\u{200f}'], "");
    let words = text.split(|c: char| c.is_whitespace() || c.is_control());
    words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

/// The lines of a rolling caption that were not there before. `before` is the last line shown.
fn roll(mut lines: Vec<String>, before: &mut String) -> Vec<String> {
    if lines.first() == Some(before) {
        lines.remove(0);
    }
    if let Some(last) = lines.last() {
        before.clone_from(last);
    }
    lines
}

/// What Whisper and WhisperX write, as far as it is read.
#[derive(Deserialize)]
struct Whisper {
    segments: Vec<Segment>,
    #[serde(default)]
    language: Option<String>,
}

#[derive(Deserialize)]
struct Segment {
    start: f64,
    end: f64,
    text: String,
}

fn whisper(text: &str) -> Result<(Option<String>, Vec<Cue>), Error> {
    if text.trim().is_empty() {
        return Ok((None, Vec::new()));
    }
    let file: Whisper = serde_json::from_str(text).map_err(|error| damaged(error.to_string()))?;
    let cues = file.segments.iter().filter_map(|segment| {
        let text = one_line(&segment.text);
        let span = TimeSpan::new(micros(segment.start), micros(segment.end));
        (!text.is_empty()).then_some(Cue { span, text })
    });
    Ok((file.language, cues.collect()))
}

#[expect(clippy::cast_possible_truncation, reason = "the cast saturates, and JSON has no NaN")]
fn micros(seconds: f64) -> i64 {
    (seconds * 1e6).round() as i64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    const VTT: SidecarFormat = SidecarFormat::Vtt;
    const SRT: SidecarFormat = SidecarFormat::Srt;
    const JSON: SidecarFormat = SidecarFormat::Json;

    /// Cues as `start..end text`, in milliseconds.
    fn check(bytes: &[u8], format: SidecarFormat, expected: &[&str]) {
        let transcript = parse_sidecar(bytes, format, None).unwrap();
        let cues: Vec<_> = transcript
            .cues
            .iter()
            .map(|c| format!("{}..{} {}", c.span.start_ms(), c.span.end_ms(), c.text))
            .collect();
        assert_eq!(cues, expected);
    }

    #[rstest]
    #[case::plain("1\n00:00:01,000 --> 00:00:02,500\nHello\nthere\n\n2\n00:00:03,000 --> 00:00:04,000\nBye\n", &["1000..2500 Hello there", "3000..4000 Bye"])]
    #[case::windows_line_ends("1\r\n00:00:01,000 --> 00:00:02,500\r\nHello\r\nthere\r\n\r\n2\r\n00:00:03,000 --> 00:00:04,000\r\nBye", &["1000..2500 Hello there", "3000..4000 Bye"])]
    #[case::old_line_ends("1\r00:00:01,000 --> 00:00:02,000\rHi\r\r", &["1000..2000 Hi"])]
    #[case::no_blank_line_between("1\n00:00:01,000 --> 00:00:02,000\nHi\n2\n00:00:03,000 --> 00:00:04,000\nBye", &["1000..2000 Hi", "3000..4000 Bye"])]
    #[case::a_number_is_said("1\n00:00:01,000 --> 00:00:02,000\n42\n\n", &["1000..2000 42"])]
    #[case::an_arrow_is_said("1\n00:00:01,000 --> 00:00:02,000\na --> b\n", &["1000..2000 a --> b"])]
    #[case::no_spaces_at_the_arrow("00:00:01,000-->00:00:02,000\nHi", &["1000..2000 Hi"])]
    #[case::place_on_the_screen("00:00:01,000 --> 00:00:02,000 X1:40 X2:600\n{\\an8}Hi", &["1000..2000 Hi"])]
    #[case::mark_up("00:00:01,000 --> 00:00:02,000\n<font color=\"#fff\"><i>Hi</i></font> 1 < 2", &["1000..2000 Hi 1 < 2"])]
    #[case::nothing_said("1\n00:00:01,000 --> 00:00:02,000\n<i> </i>\n\n2\n00:00:03,000 --> 00:00:04,000\nBye", &["3000..4000 Bye"])]
    #[case::before_the_start_and_backwards("-00:00:01,000 --> 00:00:00,500\na\n\n00:00:09,000 --> 00:00:02,000\nb", &["0..500 a", "9000..2000 b"])]
    #[case::many_hours("100:00:00,000 --> 100:00:01,000\nlate", &["360000000..360001000 late"])]
    #[case::out_of_order("00:00:03,000 --> 00:00:04,000\nb\n\n00:00:01,000 --> 00:00:02,000\na", &["3000..4000 b", "1000..2000 a"])]
    #[case::odd_times("0:1:2.5 --> 0:01:3\na\n\n75:10,1234567 --> 76:00\nb", &["62500..63000 a", "4510123..4560000 b"])]
    #[case::more_hours_than_the_format_has("99999999999999999999:00:00,000 --> 1000:00:00,000\na\n\n00:01 --> 00:02\nb", &["1000..2000 b"])]
    #[case::one_cue_is_broken("1\n00:00:xx,000 --> 00:00:02,000\na\n\n2\n00:00:03,000 --> 00:00:04,000\nb", &["3000..4000 b"])]
    #[case::tags_of_webvtt("00:00:01,000 --> 00:00:02,000\n<v Ann><c.red>we</c> &amp; you</v> <3", &["1000..2000 we & you <3"])]
    #[case::is_webvtt("WEBVTT\n\nNOTE a --> b\n\n00:01.000 --> 00:02.000\nHi", &["1000..2000 Hi"])]
    #[case::blank("\n \n", &[])]
    fn subrip(#[case] text: &str, #[case] expected: &[&str]) {
        check(text.as_bytes(), SRT, expected);
    }

    #[rstest]
    #[case::short_times("WEBVTT\n\n00:01.000 --> 00:02.5 align:start\nHi", &["1000..2500 Hi"])]
    #[case::notes_and_styles("WEBVTT - a title\n\nSTYLE\n::cue { color: red }\n\nNOTE said\nby nobody\n\nid\n00:01.000 --> 00:02.000\n<v Ann>Hi</v>", &["1000..2000 Hi"])]
    #[case::entities("WEBVTT\n\n00:01.000 --> 00:02.000\nR&amp;D &lt;3&nbsp;&#39;x&#x27; &unknown; A & B", &["1000..2000 R&D <3 'x' &unknown; A & B"])]
    #[case::only_a_header("WEBVTT\n", &[])]
    #[case::no_signature("00:01.000 --> 00:02.000\nHi", &["1000..2000 Hi"])]
    #[case::commas_and_no_blank_lines("WEBVTT\nKind: captions\n00:00:01,000 --> 00:00:02,000\na\n00:00:02,000 --> 00:00:03,000\nb", &["1000..2000 a", "2000..3000 b"])]
    #[case::less_than("WEBVTT\n\n00:01.000 --> 00:02.000\n1 < 2 {\\an8}and more", &["1000..2000 1 < 2 and more"])]
    #[case::regions("WEBVTT\n\nREGION\nid:a\n\n00:01.000 --> 00:02.000 region:a\nHi", &["1000..2000 Hi"])]
    #[case::more_hours_than_there_are("WEBVTT\n\n\u{feff}18446744073709551615:00:00.000 --> 99999999999999999999:00:00.000x\na", &["3599996400000..3599996400000 a"])]
    #[case::marks_of_direction("WEBVTT\n\n00:01.000 --> 00:02.000\na&lrm;b \u{200f}c", &["1000..2000 ab c"])]
    #[case::rolling("WEBVTT\n\n00:00.000 --> 00:02.000\n \nwe<00:00:00.500><c> go</c>\n\n00:02.000 --> 00:02.010\nwe go\n \n\n00:02.010 --> 00:04.000\nwe go\nback<00:00:03.000><c> home</c>\n\n00:04.000 --> 00:04.010\nback home\n \n", &["0..2000 we go", "2010..4000 back home"])]
    #[case::said_twice_without_rolling("WEBVTT\n\n00:00.000 --> 00:01.000\nno\n\n00:01.000 --> 00:02.000\nno", &["0..1000 no", "1000..2000 no"])]
    fn webvtt(#[case] text: &str, #[case] expected: &[&str]) {
        check(text.as_bytes(), VTT, expected);
    }

    #[rstest]
    #[case::byte_order_mark(
        b"\xEF\xBB\xBF1\n00:00:01,000 --> 00:00:02,000\nna\xC3\xAFve",
        "1000..2000 na\u{ef}ve"
    )]
    #[case::latin1(b"1\n00:00:01,000 --> 00:00:02,000\nna\xEFve", "1000..2000 na\u{ef}ve")]
    #[case::windows(b"1\n00:00:01,000 --> 00:00:02,000\nit\x92s", "1000..2000 it\u{2019}s")]
    fn encodings(#[case] bytes: &[u8], #[case] expected: &str) {
        check(bytes, SRT, &[expected]);
    }

    #[test]
    fn sixteen_bits() {
        let text = "\u{feff}00:00:01,000 --> 00:00:02,000\r\nna\u{ef}ve \u{1f600}";
        let little: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let big: Vec<u8> = text.encode_utf16().flat_map(u16::to_be_bytes).collect();
        for bytes in [little, big] {
            check(&bytes, SRT, &["1000..2000 na\u{ef}ve \u{1f600}"]);
        }
    }

    #[test]
    fn whisper_says_its_language() {
        let text = r#"{"language": "de", "text": "x", "segments": [
            {"id": 0, "start": 0.5, "end": 1.25, "text": " Guten  Tag", "words": []},
            {"start": -1, "end": 2.0, "text": " "}, {"start": -0.25, "end": 9e9, "text": "x"}]}"#;
        check(text.as_bytes(), JSON, &["500..1250 Guten Tag", "-250..9000000000000 x"]);
        let language = |named| parse_sidecar(text.as_bytes(), JSON, named).unwrap().language;
        assert_eq!(language(None).as_deref(), Some("de"));
        assert_eq!(language(Some("de-CH")).as_deref(), Some("de-CH"));
    }

    #[rstest]
    #[case::prose(b"once upon a time", SRT)]
    #[case::a_video(b"\0\0\0\x20ftypisom", SRT)]
    #[case::another_shape(b"[1, 2]", JSON)]
    #[case::not_a_number(br#"{"segments": [{"start": NaN, "end": 1, "text": "x"}]}"#, JSON)]
    #[case::no_start(br#"{"segments": [{"start": null, "end": 1, "text": "x"}]}"#, JSON)]
    #[case::beyond_all_numbers(br#"{"segments": [{"start": 1e999, "end": 1, "text": "x"}]}"#, JSON)]
    fn refuses(#[case] bytes: &[u8], #[case] format: SidecarFormat) {
        let error = parse_sidecar(bytes, format, None).unwrap_err();
        assert_eq!(error.reason_code(), "damaged_subtitles");
    }

    /// Shapes on which a reader that looks back or ahead takes a time that grows with the square.
    #[rstest]
    #[case::open_tags("<b ")]
    #[case::openings("<")]
    #[case::open_overrides("{\\")]
    #[case::ampersands("&")]
    #[case::arrows("-->\n")]
    #[case::half_times("00:00:01,000 ")]
    #[case::times("00:00:01,000 --> 00:00:02,000\n")]
    #[case::numbers("1\n")]
    #[case::digits("1")]
    #[case::colons("1:")]
    #[case::blank_lines("\n")]
    #[case::spaces(" ")]
    #[case::notes("NOTE\n\n")]
    fn a_hostile_file_is_read_in_one_go(#[case] shape: &str) {
        for head in ["WEBVTT\n\n", "", "00:00:01,000 --> 00:00:02,000\n"] {
            let file = format!("{head}{}", shape.repeat((1 << 18) / shape.len()));
            let read = parse_sidecar(file.as_bytes(), SRT, None);
            assert!(read.is_ok_and(|t| t.cues.len() <= 1) || head.is_empty(), "{head}{shape}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), signed in any::<bool>()) {
            let mut file = if signed { b"WEBVTT\n".to_vec() } else { Vec::new() };
            file.extend(bytes);
            for format in [VTT, SRT, JSON] {
                let _ = parse_sidecar(&file, format, None);
            }
        }

        /// What is made of the letters that timing lines and tags are made of.
        #[test]
        fn no_near_miss_panics(text in r"(WEBVTT\n)?([0-9:.,<>/&;#c{}\\ \n-]|-->|00:0|&#x|\x{feff}){0,80}") {
            let _ = parse_sidecar(text.as_bytes(), VTT, None);
        }

        #[test]
        fn whatever_comes_in_a_cue_is_one_line_with_text(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut file = b"00:00:01,000 --> 00:00:02,000\n".to_vec();
            file.extend(bytes.into_iter().filter(|&byte| byte != 0));
            for cue in parse_sidecar(&file, VTT, None).unwrap().cues {
                prop_assert!(!cue.text.trim().is_empty());
                prop_assert!(!cue.text.contains(['\n', '\r']));
            }
        }
    }
}
