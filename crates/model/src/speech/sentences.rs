//! Words to sentences, with bounds from the times of the words.

use std::ops::Range;

use crate::speech::{Word, mel::SAMPLE_RATE};

/// A silence of so many samples, a quarter of a second, tells whether a full stop that may belong to a number or a
/// name ends a sentence.
const BREATH: u64 = SAMPLE_RATE as u64 / 4;
/// Languages that write `3.` for `third`.
const ORDINAL: [&str; 22] = [
    "az", "bs", "cs", "da", "de", "et", "eu", "fi", "fo", "hr", "hu", "is", "lb", "lt", "lv", "nn",
    "no", "pl", "sk", "sl", "sr", "tr",
];
/// Signs that end a sentence, in any script.
const ENDS: [char; 16] =
    ['.', '!', '?', '…', '。', '！', '？', '｡', '।', '॥', '؟', '۔', '።', '፧', '։', '♪'];
/// Signs that may follow those.
const CLOSES: [char; 11] = ['"', '\'', ')', ']', '”', '“', '’', '»', '›', '」', '』'];
/// Signs at which a sentence that is too long is cut.
const COMMAS: [char; 9] = [',', ';', ':', '、', '，', '；', '：', '،', '؛'];

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

/// Whether a text ends as sentences do.
#[must_use]
pub fn ends_sentence(text: &str) -> bool {
    text.trim_end_matches(|c: char| c.is_whitespace() || CLOSES.contains(&c)).ends_with(ENDS)
}

/// Puts words of a language, given as Whisper's code, together to sentences. In the text between two pauses
/// they end where the rules and abbreviations of the language say so; a full stop behind a number or a
/// single letter, which may be an ordinal or a name, or before a small letter ends one only where the speaker
/// takes breath. One that
/// becomes too long is cut at the last comma of the second half, or else at the longest silence.
#[must_use]
pub fn sentences(words: &[Word], language: &str, options: &SentenceOptions) -> Vec<Sentence> {
    let mut found = Vec::new();
    for spoken in words.chunk_by(|a, b| silence(a, b) < options.pause) {
        for sentence in between_pauses(spoken, language) {
            found.extend(shortened(sentence, options.longest));
        }
    }
    found.into_iter().filter_map(written).collect()
}

/// Samples between two words.
fn silence(word: &Word, next: &Word) -> u64 {
    next.span.start.saturating_sub(word.span.end)
}

/// The sentences of a text without pauses.
fn between_pauses<'a>(words: &'a [Word], language: &str) -> Vec<&'a [Word]> {
    let text: String = words.iter().map(|word| word.text.as_str()).collect();
    // Where the letters of each sentence begin: whose space that before them is does not matter.
    let letters = |start: usize| text.len() - text[start..].trim_start().len();
    let found = sentencex::get_sentence_boundaries(language, &text);
    let starts: Vec<usize> = found.iter().map(|sentence| letters(sentence.start_byte)).collect();
    let (mut sentences, mut first, mut length) = (Vec::new(), 0, 0);
    for (index, pair) in words.windows(2).enumerate() {
        length += pair[0].text.len();
        let is_end = starts.binary_search(&letters(length)).is_ok();
        if is_end && (silence(&pair[0], &pair[1]) >= BREATH || !may_go_on(pair, language)) {
            sentences.push(&words[first..=index]);
            first = index + 1;
        }
    }
    sentences.push(&words[first..]);
    sentences
}

/// Whether the full stop between two words may be that of an ordinal number or an initial, or of an
/// abbreviation that nobody knows, behind which the sentence goes on.
fn may_go_on(pair: &[Word], language: &str) -> bool {
    let word = pair[0].text.trim().trim_start_matches(['"', '\'', '(', '[', '„', '«']);
    let Some(stem) = word.strip_suffix('.') else { return false };
    let mut letters = stem.chars();
    let only = letters.next().filter(|_| letters.next().is_none());
    let initial = only.is_some_and(|letter| letter.is_uppercase() && letter != 'I');
    let number = !stem.is_empty() && stem.bytes().all(|c| c.is_ascii_digit());
    let goes_on = pair[1].text.trim_start().starts_with(char::is_lowercase);
    initial || goes_on || number && ORDINAL.contains(&language)
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
    let comma = |count: &usize| words[count - 1].text.ends_with(COMMAS);
    let silence = |count: &usize| silence(&words[count - 1], &words[*count]);
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
    use proptest::prelude::*;
    use rstest::rstest;

    /// Words of a second each, one behind the other; `|` is a pause of three seconds, a comma alone one of half a
    /// second.
    fn said(text: &str, spaced: bool) -> Vec<Word> {
        let mut start = 0;
        let mut words = Vec::new();
        for word in text.split(' ') {
            if let Some(silence) = [("|", 6), (",", 1)].iter().find(|(sign, _)| *sign == word) {
                start += silence.1 * SAMPLE_RATE as u64 / 2;
                continue;
            }
            let text = if spaced { format!(" {word}") } else { word.to_owned() };
            let end = start + SAMPLE_RATE as u64;
            words.push(Word { text, span: start..end, probability: 0.5 });
            start = end;
        }
        words
    }

    /// The sentences of a text in a language. Every word of it is in one of them.
    fn split(text: &str, language: &str, longest: u64) -> Vec<Sentence> {
        let second = SAMPLE_RATE as u64;
        let options = SentenceOptions { longest: longest * second, pause: 2 * second };
        let words = said(text, !["zh", "ja"].contains(&language));
        let found = sentences(&words, language, &options);
        let longest = longest * second;
        assert!(found.iter().all(|said| said.span.end - said.span.start <= longest), "{found:?}");
        assert_eq!(found.first().map(|said| said.span.start), Some(0));
        found
    }

    fn check(text: &str, language: &str, longest: u64, expected: &[&str]) {
        let found = split(text, language, longest);
        let texts: Vec<&str> = found.iter().map(|said| said.text.as_str()).collect();
        assert_eq!(texts, expected);
    }

    #[rstest]
    #[case::full_stops("First, whisk two eggs. Then heat the pan. Done", &["First, whisk two eggs.", "Then heat the pan.", "Done"])]
    #[case::questions("Ready? Go! Now", &["Ready?", "Go!", "Now"])]
    #[case::abbreviations("Ask Mr. Smith and J. R. Ewing. Good.", &["Ask Mr. Smith and J. R. Ewing.", "Good."])]
    #[case::countries("We left the U.S. Army at 5 p.m. on Monday. Good.", &["We left the U.S. Army at 5 p.m. on Monday.", "Good."])]
    #[case::i("We make a good team, you and I. Did you see it?", &["We make a good team, you and I.", "Did you see it?"])]
    #[case::no("Oh no. It is no. 5 now.", &["Oh no.", "It is no. 5 now."])]
    #[case::numbers("Add 2.5 cups. Stir.", &["Add 2.5 cups.", "Stir."])]
    #[case::a_number_ends("There were 3. Then 4. Good.", &["There were 3.", "Then 4.", "Good."])]
    #[case::pauses("and then | we wait", &["and then", "we wait"])]
    #[case::breath("We have plan B. , Then we wait.", &["We have plan B.", "Then we wait."])]
    #[case::signs_alone("Well. | ... | So.", &["Well.", "So."])]
    fn english(#[case] text: &str, #[case] expected: &[&str]) {
        check(text, "en", 30, expected);
    }

    #[rstest]
    #[case::abbreviations("Nehmen Sie z. B. Mehl, d.h. Dr. Meiers Mehl. Rühren Sie.", &["Nehmen Sie z. B. Mehl, d.h. Dr. Meiers Mehl.", "Rühren Sie."])]
    #[case::dates("Wir sehen uns am 3. Oktober. Gut.", &["Wir sehen uns am 3. Oktober.", "Gut."])]
    #[case::ordinals("Im 19. Jahrhundert war Ludwig XIV. tot. Gut.", &["Im 19. Jahrhundert war Ludwig XIV. tot.", "Gut."])]
    #[case::a_number_before_a_breath("Er kam um 3. , Dann ging er.", &["Er kam um 3.", "Dann ging er."])]
    #[case::questions("Ist das wahr? Ja!", &["Ist das wahr?", "Ja!"])]
    fn german(#[case] text: &str, #[case] expected: &[&str]) {
        check(text, "de", 30, expected);
    }

    #[rstest]
    #[case::french("fr", "M. Dupont et Mme Martin arrivent. Quoi ? Oui !", &["M. Dupont et Mme Martin arrivent.", "Quoi ?", "Oui !"])]
    #[case::french_quotes("fr", "Il a dit : « Viens ! » Puis il est parti.", &["Il a dit : « Viens ! »", "Puis il est parti."])]
    #[case::spanish("es", "¿Qué tal? ¡Muy bien! El Sr. López vino. Bien.", &["¿Qué tal?", "¡Muy bien!", "El Sr. López vino.", "Bien."])]
    #[case::russian("ru", "Это было в 1999 г. в Москве. Т. е. давно. Здесь жил А. С. Пушкин. Как дела?", &["Это было в 1999 г. в Москве.", "Т. е. давно.", "Здесь жил А. С. Пушкин.", "Как дела?"])]
    #[case::chinese("zh", "你 好。 我 很 好！ 你 呢？", &["你好。", "我很好！", "你呢？"])]
    #[case::japanese("ja", "卵 を 割 り ま す。 混 ぜ ま す。", &["卵を割ります。", "混ぜます。"])]
    #[case::hindi("hi", "यह एक वाक्य है। क्या तुम आओगे? हाँ।", &["यह एक वाक्य है।", "क्या तुम आओगे?", "हाँ।"])]
    #[case::arabic("ar", "كيف حالك؟ أنا بخير. شكرا!", &["كيف حالك؟", "أنا بخير.", "شكرا!"])]
    #[case::a_language_without_rules("haw", "Aloha. Pehea ʻoe?", &["Aloha.", "Pehea ʻoe?"])]
    fn other_languages(#[case] language: &str, #[case] text: &str, #[case] expected: &[&str]) {
        check(text, language, 30, expected);
    }

    #[rstest]
    #[case::full_stop("So.", true)]
    #[case::quoted("« Viens ! »", true)]
    #[case::hindi("हाँ।", true)]
    #[case::arabic("كيف حالك؟", true)]
    #[case::japanese("「はい。」", true)]
    #[case::open("and then,", false)]
    #[case::nothing("", false)]
    fn ends(#[case] text: &str, #[case] expected: bool) {
        assert_eq!(ends_sentence(text), expected);
    }

    #[rstest]
    #[case::at_a_comma("one two three, four five six seven", 5, &["one two three,", "four five six seven"])]
    #[case::anywhere("one two three four five six seven", 3, &["one two three", "four five six", "seven"])]
    fn long_ones_are_split(#[case] text: &str, #[case] longest: u64, #[case] expected: &[&str]) {
        check(text, "en", longest, expected);
    }

    proptest! {
        /// Whatever is said in whatever language, each word is in one sentence, in its order.
        #[test]
        fn no_word_is_lost(
            words in prop::collection::vec(r#"[a-zA-ZÀ-ÿа-я。।؟0-9.!?'"«» \u{a0}\u{3000}-]{1,6}"#, 1..30),
            language in prop::sample::select(vec!["en", "de", "fr", "ru", "zh", "hi", "ar", "haw", "?"]),
        ) {
            let words: Vec<Word> = (0..).zip(&words).map(|(at, text)| Word {
                text: text.clone(),
                span: at * 16_000..(at + 1) * 16_000,
                probability: 0.5,
            }).collect();
            let found = sentences(&words, language, &SentenceOptions::default());
            let plain = |text: &str| text.chars().filter(|c| c.is_alphanumeric()).collect::<String>();
            let all: String = words.iter().map(|word| plain(&word.text)).collect();
            prop_assert_eq!(found.iter().map(|said| plain(&said.text)).collect::<String>(), all);
        }
    }
}
