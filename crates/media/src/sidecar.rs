//! Subtitle files: WebVTT, SubRip, and the JSON of Whisper and WhisperX. Pure functions.
//!
//! People and programs write these files in every state, so the reading is lenient where the
//! meaning is plain: one parser takes WebVTT and SubRip alike, by their timing lines.

use eventide_schema::{Cue, SidecarFormat, TimeSpan, Transcript, TranscriptSource};
use serde::Deserialize;

use crate::Error;

/// Reads a subtitle file.
///
/// - Text is UTF-8, or UTF-16 with a byte order mark; what is not valid UTF-8 is taken as
///   Latin-1. Any line ends.
/// - Cue numbers, settings, notes, styles, tags, `{\an8}` overrides and entities are dropped or
///   resolved; the lines of a cue become one; a cue without text is left out.
/// - Times are kept as written: negative, past the end, or ending before they start.
/// - Automatic captions that roll (each cue repeats the line before and adds one, with a time
///   tag on each word) give each line once.
///
/// `language` is what the file's name says; without it, JSON may say.
///
/// # Errors
/// [`Error::DamagedSubtitles`] for a file that is not blank but has no timing line (or no
/// `WEBVTT` either), or JSON of another shape, or a time that is not a number.
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
    Ok(Transcript { source: TranscriptSource::Sidecar, language, cues })
}

fn damaged(detail: impl Into<String>) -> Error {
    Error::DamagedSubtitles { detail: detail.into() }
}

fn decode(bytes: &[u8]) -> Result<String, Error> {
    let text = match bytes {
        [0xEF, 0xBB, 0xBF, rest @ ..] => utf8_or_latin1(rest),
        [0xFF, 0xFE, rest @ ..] => utf16(rest, u16::from_le_bytes),
        [0xFE, 0xFF, rest @ ..] => utf16(rest, u16::from_be_bytes),
        _ => utf8_or_latin1(bytes),
    };
    if text.contains('\0') {
        return Err(damaged("this is not text"));
    }
    Ok(text)
}

fn utf8_or_latin1(bytes: &[u8]) -> String {
    match str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().map(|&byte| char::from(byte)).collect(),
    }
}

fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> String {
    let (pairs, _) = bytes.as_chunks::<2>();
    let units = pairs.iter().map(|&pair| unit(pair));
    char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
}

/// Cues of WebVTT or SubRip. A cue is a timing line and what follows it up to a blank line, the
/// number of the next cue right before its timing line, or that timing line. A line of spaces is
/// part of a cue: automatic captions begin with one.
fn timed_text(text: &str) -> Result<Vec<Cue>, Error> {
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let lines: Vec<&str> = text.split('\n').collect();
    let rolls = text.contains("<c>") && lines.iter().any(|line| has_word_times(line));
    let mut cues = Vec::new();
    let mut before = String::new();
    let mut at = 0;
    let mut timed = false;
    while at < lines.len() {
        let Some(span) = timing(lines[at]) else {
            at += 1;
            continue;
        };
        timed = true;
        let first = at + 1;
        let last = end_of_cue(&lines, first);
        let said = lines[first..last].iter().map(|line| plain(line));
        let mut said: Vec<String> = said.filter(|line| !line.is_empty()).collect();
        if rolls {
            said = roll(said, &mut before);
        }
        if !said.is_empty() {
            cues.push(Cue { span, text: said.join(" ") });
        }
        at = last;
    }
    if timed || text.trim().is_empty() || text.trim_start().starts_with("WEBVTT") {
        return Ok(cues);
    }
    Err(damaged("there is no line with a start and an end"))
}

/// The line after the last of the cue whose text starts at line `first`.
fn end_of_cue(lines: &[&str], first: usize) -> usize {
    for at in first..lines.len() {
        if lines[at].is_empty() || timing(lines[at]).is_some() {
            return at;
        }
        let is_number = digits(lines[at].trim()).is_some();
        if is_number && lines.get(at + 1).is_some_and(|next| timing(next).is_some()) {
            return at;
        }
    }
    lines.len()
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

/// Whether a line has a tag such as `<00:00:01.500>` in it.
fn has_word_times(line: &str) -> bool {
    line.split('<').skip(1).any(|tag| tag.split_once('>').is_some_and(|(t, _)| moment(t).is_some()))
}

/// The span of a line such as `00:01.000 --> 00:02.500 align:start`.
fn timing(line: &str) -> Option<TimeSpan> {
    let (start, end) = line.split_once("-->")?;
    let end = end.split_whitespace().next()?;
    Some(TimeSpan::new(moment(start.trim())?, moment(end)?))
}

/// Microseconds of `[-][h:]m:s[.,]fraction`.
fn moment(text: &str) -> Option<i64> {
    let (negative, text) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (whole, fraction) = text.split_once(['.', ',']).unwrap_or((text, "0"));
    if !whole.contains(':') || fraction.is_empty() || fraction.len() > 9 {
        return None;
    }
    let mut seconds = 0i64;
    for (place, part) in whole.split(':').enumerate() {
        if place > 2 {
            return None;
        }
        seconds = seconds.checked_mul(60)?.checked_add(digits(part)?)?;
    }
    let micros: String = fraction.chars().chain("000000".chars()).take(6).collect();
    digits(fraction)?;
    let moment = seconds.checked_mul(1_000_000)?.checked_add(digits(&micros)?)?;
    Some(if negative { -moment } else { moment })
}

/// A number of nothing but digits.
fn digits(text: &str) -> Option<i64> {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

/// A line of a cue without mark-up, entities and needless space.
fn plain(line: &str) -> String {
    one_line(&resolve(&without_overrides(&without_tags(line))))
}

/// `text` with single spaces for whatever separates its words.
fn one_line(text: &str) -> String {
    let words = text.split(|c: char| c.is_whitespace() || c.is_control());
    words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

/// Drops `<b>`, `</i>`, `<v Ann>`, `<c.red>`, `<font ..>`, `<00:00:01.000>`; keeps `a < b`.
fn without_tags(line: &str) -> String {
    let mut kept = String::with_capacity(line.len());
    let mut rest = line;
    while let Some((before, after)) = rest.split_once('<') {
        kept.push_str(before);
        let named = after.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/');
        match after.split_once('>') {
            Some((tag, behind)) if named || moment(tag).is_some() => rest = behind,
            _ => {
                kept.push('<');
                rest = after;
            }
        }
    }
    kept + rest
}

/// Drops `{\an8}` and the like, which SubRip files take over from other formats.
fn without_overrides(line: &str) -> String {
    let mut kept = String::with_capacity(line.len());
    let mut rest = line;
    while let Some((before, after)) = rest.split_once("{\\") {
        kept.push_str(before);
        let Some((_, behind)) = after.split_once('}') else { return kept + "{\\" + after };
        rest = behind;
    }
    kept + rest
}

/// Resolves the entities that WebVTT knows, and numbers. Any other `&` stays.
fn resolve(line: &str) -> String {
    let mut resolved = String::with_capacity(line.len());
    let mut rest = line;
    while let Some((before, after)) = rest.split_once('&') {
        resolved.push_str(before);
        let known = after.split_once(';').and_then(|(name, rest)| Some((entity(name)?, rest)));
        let (c, behind) = known.unwrap_or(('&', after));
        resolved.push(c);
        rest = behind;
    }
    resolved + rest
}

fn entity(name: &str) -> Option<char> {
    let number = |text: &str, radix| char::from_u32(u32::from_str_radix(text, radix).ok()?);
    let c = match name {
        "amp" => '&',
        "lt" => '<',
        "gt" => '>',
        "quot" => '"',
        "apos" => '\'',
        // Marks of direction, and spaces: a cue is one plain line.
        "nbsp" | "lrm" | "rlm" => ' ',
        _ => match name.strip_prefix('#')? {
            hex if hex.starts_with(['x', 'X']) => number(&hex[1..], 16)?,
            decimal => number(decimal, 10)?,
        },
    };
    Some(if c.is_control() { ' ' } else { c })
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
    #[case::before_the_start_and_backwards("-00:00:01,000 --> 00:00:00,500\na\n\n00:00:09,000 --> 00:00:02,000\nb", &["-1000..500 a", "9000..2000 b"])]
    #[case::many_hours("100:00:00,000 --> 100:00:01,000\nlate", &["360000000..360001000 late"])]
    #[case::blank("\n \n", &[])]
    fn subrip(#[case] text: &str, #[case] expected: &[&str]) {
        check(text.as_bytes(), SRT, expected);
    }

    #[rstest]
    #[case::short_times("WEBVTT\n\n00:01.000 --> 00:02.5 align:start\nHi", &["1000..2500 Hi"])]
    #[case::notes_and_styles("WEBVTT - a title\n\nSTYLE\n::cue { color: red }\n\nNOTE said\nby nobody\n\nid\n00:01.000 --> 00:02.000\n<v Ann>Hi</v>", &["1000..2000 Hi"])]
    #[case::entities("WEBVTT\n\n00:01.000 --> 00:02.000\nR&amp;D &lt;3&nbsp;&#39;x&#x27; &unknown; A & B", &["1000..2000 R&D <3 'x' &unknown; A & B"])]
    #[case::only_a_header("WEBVTT\n", &[])]
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

    proptest! {
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
