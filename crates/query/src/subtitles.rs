//! Subtitle files: WebVTT and SubRip.

use std::fmt::Write as _;

use crate::functions::timecode;

/// A cue: start and end in milliseconds, and a text without line breaks.
pub type Cue = (i64, i64, String);

/// Cues as WebVTT. What would be markup is written as text.
#[must_use]
pub fn web_vtt(cues: &[Cue]) -> String {
    let escape = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let escaped: Vec<_> =
        cues.iter().map(|(start, end, text)| (*start, *end, escape(text))).collect();
    web_vtt_raw(&escaped)
}

/// Cues as WebVTT, their texts as they are: these hold no `-->`.
pub(crate) fn web_vtt_raw(cues: &[Cue]) -> String {
    let mut file = "WEBVTT\n".to_owned();
    for (start, end, text) in cues.iter().filter(|(_, _, text)| !text.is_empty()) {
        let (start, end) = (timecode(*start), timecode(*end));
        let _ = write!(file, "\n{start} --> {end}\n{text}\n"); // to a string: it cannot fail
    }
    file
}

/// Cues as SubRip: numbered, with a comma before the milliseconds.
#[must_use]
pub fn sub_rip(cues: &[Cue]) -> String {
    let mut file = String::new();
    let shown = cues.iter().filter(|(_, _, text)| !text.is_empty());
    for (number, (start, end, text)) in (1..).zip(shown) {
        let time = |ms| timecode(ms).replace('.', ",");
        let _ = write!(file, "{number}\n{} --> {}\n{text}\n\n", time(*start), time(*end));
    }
    file
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cues() -> Vec<Cue> {
        vec![
            (0, 1500, "a <b> & c".to_owned()),
            (2000, 2000, String::new()),
            (3_600_000, 3_600_001, "d".to_owned()),
        ]
    }

    #[test]
    fn markup_is_text() {
        let expected = "WEBVTT\n\n00:00:00.000 --> 00:00:01.500\na &lt;b&gt; &amp; c\n\n01:00:00.000 --> 01:00:00.001\nd\n";
        assert_eq!(web_vtt(&cues()), expected);
    }

    #[test]
    fn cues_are_numbered() {
        let expected = "1\n00:00:00,000 --> 00:00:01,500\na <b> & c\n\n2\n01:00:00,000 --> 01:00:00,001\nd\n\n";
        assert_eq!(sub_rip(&cues()), expected);
    }
}
