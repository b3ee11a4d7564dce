//! Words to sentences, with bounds from the times of the words.

use std::ops::Range;

use unicode_segmentation::UnicodeSegmentation as _;

use crate::speech::{Word, mel::SAMPLE_RATE};

/// Abbreviations after which a sentence goes on, in lower case and without their last full stop.
const ABBREVIATIONS: [&str; 40] = [
    "mr", "mrs", "ms", "dr", "prof", "st", "sr", "jr", "vs", "etc", "e.g", "i.e", "cf", "no",
    "vol", "fig", "approx", "dept", "gen", "col", "sgt", "capt", "lt", "rev", "hon", "mt", "ave",
    "inc", "ltd", "co", "hr", "fr", "bzw", "z.b", "d.h", "usw", "mme", "mlle", "sra", "ing",
];

/// Where sentences end.
#[derive(Debug, Clone, PartialEq)]
pub struct SentenceOptions {
    /// A sentence is no longer than this, in samples of 16 kHz, unless one word is.
    pub longest: u64,
    /// A silence of this many samples ends a sentence.
    pub pause: u64,
}

impl Default for SentenceOptions {
    /// 30 seconds, which is a window of Whisper, and 2 seconds.
    fn default() -> Self {
        Self { longest: 30 * SAMPLE_RATE as u64, pause: 2 * SAMPLE_RATE as u64 }
    }
}

/// A sentence.
#[derive(Debug, Clone, PartialEq)]
pub struct Sentence {
    /// Its words, single spaces between them.
    pub text: String,
    /// From its first word to its last, in samples from the start of the sound.
    pub span: Range<u64>,
    /// The mean probability of its words, in 0..1.
    pub confidence: f32,
}

/// Puts words together to sentences. Sentences end where Unicode (UAX #29) says that they do in the
/// text between two pauses, except after abbreviations, and where they become too long: there at the
/// last comma of the second half, or else at the longest silence.
#[must_use]
pub fn sentences(words: &[Word], options: &SentenceOptions) -> Vec<Sentence> {
    let mut found = Vec::new();
    for spoken in words.chunk_by(|a, b| b.span.start.saturating_sub(a.span.end) < options.pause) {
        for sentence in between_pauses(spoken) {
            found.extend(shortened(sentence, options.longest));
        }
    }
    found.into_iter().filter_map(written).collect()
}

/// The sentences of a text without pauses.
fn between_pauses(words: &[Word]) -> Vec<&[Word]> {
    let text: String = words.iter().map(|word| word.text.as_str()).collect();
    let mut ends: Vec<usize> =
        text.split_sentence_bound_indices().map(|(start, _)| start).collect();
    ends.push(text.len());
    let (mut sentences, mut first, mut length) = (Vec::new(), 0, 0);
    for (index, word) in words.iter().enumerate() {
        // The space before the next word belongs to the sentence, to Unicode.
        length += word.text.len();
        let space =
            words.get(index + 1).map_or(0, |next| next.text.len() - next.text.trim_start().len());
        if ends.binary_search(&(length + space)).is_ok() && !is_abbreviation(&word.text) {
            sentences.push(&words[first..=index]);
            first = index + 1;
        }
    }
    if first < words.len() {
        sentences.push(&words[first..]);
    }
    sentences
}

/// Whether a full stop behind this word most likely ends no sentence: known ones, and initials.
fn is_abbreviation(word: &str) -> bool {
    let word = word.trim().trim_start_matches(['"', '\'', '(', '[']);
    let Some(stem) = word.strip_suffix('.') else { return false };
    let initial = stem.chars().count() == 1 && stem.chars().all(|c| c.is_uppercase() && c != 'I');
    initial || ABBREVIATIONS.contains(&stem.to_lowercase().as_str())
}

/// A sentence in parts that are not too long.
fn shortened(words: &[Word], longest: u64) -> Vec<&[Word]> {
    let (mut parts, mut left) = (Vec::new(), words);
    while let (Some(first), Some(last)) = (left.first(), left.last())
        && last.span.end.saturating_sub(first.span.start) > longest
        && left.len() > 1
    {
        let fits = left.iter().take_while(|word| word.span.end - first.span.start <= longest);
        let fits = fits.count().clamp(1, left.len() - 1);
        let (part, rest) = left.split_at(place_to_break(left, fits));
        parts.push(part);
        left = rest;
    }
    parts.push(left);
    parts
}

/// How many of the first `fits` words are the better part.
fn place_to_break(words: &[Word], fits: usize) -> usize {
    let half = (fits / 2).max(1);
    let comma = |count: &usize| words[count - 1].text.ends_with([',', ';', ':', '、', '，']);
    let silence =
        |count: &usize| words[*count].span.start.saturating_sub(words[count - 1].span.end);
    let longest = || (half..=fits).max_by_key(silence);
    (half..=fits).rev().find(comma).or_else(longest).unwrap_or(fits)
}

/// A sentence as it is written, without signs that stand for broken characters; `None` where nothing is
/// left.
fn written(words: &[Word]) -> Option<Sentence> {
    let text: String = words.iter().map(|word| word.text.as_str()).collect();
    let text = text.replace(char::REPLACEMENT_CHARACTER, "");
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let (first, last) = (words.first()?, words.last()?);
    #[expect(clippy::cast_precision_loss, reason = "a sentence has few words")]
    let confidence = words.iter().map(|word| word.probability).sum::<f32>() / words.len() as f32;
    let span = first.span.start..last.span.end.max(first.span.start);
    text.chars().any(char::is_alphanumeric).then_some(Sentence { text, span, confidence })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    /// Words of a second each, one behind the other; `|` is a pause of three seconds.
    fn said(text: &str, spaced: bool) -> Vec<Word> {
        let mut start = 0;
        let mut words = Vec::new();
        for word in text.split(' ') {
            if word == "|" {
                start += 3 * SAMPLE_RATE as u64;
                continue;
            }
            let text = if spaced { format!(" {word}") } else { word.to_owned() };
            let end = start + SAMPLE_RATE as u64;
            words.push(Word { text, span: start..end, probability: 0.5 });
            start = end;
        }
        words
    }

    fn check(text: &str, spaced: bool, longest: u64, expected: &[&str]) {
        let second = SAMPLE_RATE as u64;
        let options = SentenceOptions { longest: longest * second, pause: 2 * second };
        let words = said(text, spaced);
        let found = sentences(&words, &options);
        let texts: Vec<&str> = found.iter().map(|sentence| sentence.text.as_str()).collect();
        assert_eq!(texts, expected);
        assert!(
            found
                .iter()
                .all(|sentence| sentence.span.end - sentence.span.start <= longest * second)
        );
        assert_eq!(found.first().map(|sentence| sentence.span.start), Some(0));
    }

    #[rstest]
    #[case::full_stops("First, whisk two eggs. Then heat the pan. Done", &["First, whisk two eggs.", "Then heat the pan.", "Done"])]
    #[case::questions("Ready? Go! Now", &["Ready?", "Go!", "Now"])]
    #[case::abbreviations("Ask Mr. Smith and J. R. Ewing. Good.", &["Ask Mr. Smith and J. R. Ewing.", "Good."])]
    #[case::numbers("Add 2.5 cups. Stir.", &["Add 2.5 cups.", "Stir."])]
    #[case::pauses("and then | we wait", &["and then", "we wait"])]
    #[case::signs_alone("Well. | ... | So.", &["Well.", "So."])]
    fn english(#[case] text: &str, #[case] expected: &[&str]) {
        check(text, true, 30, expected);
    }

    #[test]
    fn japanese() {
        check("卵 を 割 り ま す。 混 ぜ ま す。", false, 30, &["卵を割ります。", "混ぜます。"]);
    }

    #[rstest]
    #[case::at_a_comma("one two three, four five six seven", 5, &["one two three,", "four five six seven"])]
    #[case::anywhere("one two three four five six seven", 3, &["one two three", "four five six", "seven"])]
    fn long_ones_are_split(#[case] text: &str, #[case] longest: u64, #[case] expected: &[&str]) {
        check(text, true, longest, expected);
    }
}
