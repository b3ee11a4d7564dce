//! Captions as tokens: what Stanford CoreNLP's `PTBTokenizer` 3.4.1 gives with `-preserveLines -lowerCase`, without
//! the punctuation that caption scorers drop (reference §7.1).
//!
//! Written for what captions contain, and compared with that program's output line by line. It is known to differ on
//!
//! * quotation marks, where we do not tell opening from closing ones: all of them are dropped;
//! * smileys (`:-)`), markup tags (`<b>`) and contractions written with a backquote, each of which CoreNLP keeps as one
//!   token or splits in its own way, and we take character by character;
//! * words joined by a question or exclamation mark (`what?yes`), which CoreNLP takes for a web address;
//! * a number written together with its unit after a currency sign (`$1.5million`);
//! * abbreviations outside of a short list, whose full stop we drop, and a single letter at the end of a sentence that
//!   another follows, whose full stop we keep (`Plan B. He left.`).
//!
//! Parentheses become `-lrb-` and `-rrb-` and stay: the published list of punctuation holds them in capitals, which
//! never occur after lower-casing. Runs such as `?!` stay as well.

/// What is dropped, as published; the capital ones never match.
const PUNCTUATION: [&str; 17] = [
    "''", "'", "``", "`", "-LRB-", "-RRB-", "-LCB-", "-RCB-", ".", "?", "!", ",", ":", "-", "--",
    "...", ";",
];

/// Words that keep their full stop. `mon`, `mar` and the like are days and months.
const ABBREVIATIONS: &[&str] = &[
    "adm", "al", "apr", "aug", "ave", "blvd", "bros", "capt", "co", "col", "corp", "cos", "dec",
    "dept", "dr", "est", "etc", "feb", "fri", "ft", "gen", "gov", "hon", "inc", "jan", "jr", "jul",
    "jun", "lt", "ltd", "mar", "messrs", "mon", "mr", "mrs", "ms", "mt", "nov", "oct", "ph.d",
    "plc", "pres", "prof", "rep", "rev", "sen", "sep", "sept", "sgt", "sr", "st", "thu", "tue",
    "vs", "wed",
];

/// Words that keep their full stop before a number only.
const BEFORE_NUMBERS: &[&str] = &["fig", "no"];

/// Words that are two, with the length of the first.
const TWO_IN_ONE: &[(&str, usize)] = &[
    ("cannot", 3),
    ("gimme", 3),
    ("gonna", 3),
    ("gotta", 3),
    ("lemme", 3),
    ("wanna", 3),
    ("y'all", 2),
    ("'tis", 2),
    ("'twas", 2),
];

/// Endings that are words of their own, after the apostrophe.
const ENDINGS: &[&str] = &["s", "m", "d", "re", "ve", "ll"];

/// Words that begin with an apostrophe.
const CLIPPED: &[&str] = &["'em", "'til", "'cause", "'n'", "'tis", "'twas"];

/// The tokens that caption scores are computed over: lower case, no punctuation, nothing outside ASCII.
///
/// A caption of signs alone gives no token.
#[must_use]
pub fn caption_tokens(caption: &str) -> Vec<String> {
    let mut tokens = tokenise(caption);
    tokens.retain(|token| !PUNCTUATION.contains(&token.as_str()));
    tokens
}

/// All tokens of a caption in lower case, punctuation included.
///
/// Characters outside ASCII and line breaks count as spaces, as both published scorers make them.
#[must_use]
pub fn tokenise(caption: &str) -> Vec<String> {
    let ascii: String =
        caption.chars().map(|letter| if letter.is_ascii() { letter } else { ' ' }).collect();
    let ascii = ascii.replace("&amp;", "&").replace("&lt;", "<").replace("&gt;", ">");
    let mut chunks = ascii.split_ascii_whitespace().peekable();
    let mut tokens = Vec::new();
    while let Some(text) = chunks.next() {
        let before_number = chunks.peek().is_some_and(|next| next.starts_with(is_digit));
        let chunk = Chunk { text, before_number };
        let mut at = 0;
        while at < text.len() {
            at = chunk.token(at, &mut tokens);
        }
    }
    tokens
}

fn is_digit(letter: char) -> bool {
    letter.is_ascii_digit()
}

/// What stands between two spaces: ASCII, and never empty.
#[derive(Clone, Copy)]
struct Chunk<'a> {
    text: &'a str,
    /// Whether the next chunk begins with a digit.
    before_number: bool,
}

impl Chunk<'_> {
    /// Pushes the token that starts at `at`, or the two that a word stands for, and says where the next one starts.
    fn token(self, at: usize, tokens: &mut Vec<String>) -> usize {
        let rest = &self.text[at..];
        let first = self.byte(at).unwrap_or_default();
        let run = |sign: u8| rest.bytes().take_while(|&byte| byte == sign).count();
        let mut push = |token: &str, length: usize| {
            tokens.push(token.to_ascii_lowercase());
            at + length
        };
        match first {
            b'"' => push("''", 1),
            b'`' | b'\'' if run(first) >= 2 => push(&rest[..2], 2),
            b'(' => push("-lrb-", 1),
            b')' => push("-rrb-", 1),
            b'[' => push("-lsb-", 1),
            b']' => push("-rsb-", 1),
            b'{' => push("-lcb-", 1),
            b'}' => push("-rcb-", 1),
            b'.' if run(b'.') >= 3 => push("...", run(b'.')),
            b'-' if bracket(rest) => push(&rest[..5], 5),
            b'-' if run(b'-') >= 2 => {
                let length = run(b'-');
                push(&rest[..if length == 3 { 2 } else { length }], length)
            }
            b'_' => push(&rest[..run(b'_')], run(b'_')),
            b'?' | b'!' => {
                let length = rest.bytes().take_while(|byte| b"?!".contains(byte)).count();
                push(&rest[..length], length)
            }
            b'\'' => {
                let length = apostrophe(rest);
                self.word(at, length, tokens)
            }
            _ => {
                let length = self.word_length(at);
                self.word(at, length, tokens)
            }
        }
    }

    /// Pushes the word of `length` at `at`, with its full stop if that belongs to it.
    fn word(self, at: usize, length: usize, tokens: &mut Vec<String>) -> usize {
        let mut end = at + length;
        let word = self.text[at..end].to_ascii_lowercase();
        if let Some(&(_, first)) = TWO_IN_ONE.iter().find(|(whole, _)| *whole == word) {
            tokens.push(word[..first].to_owned());
            tokens.push(word[first..].to_owned());
            return end;
        }
        let ends_in_stop = self.byte(end) == Some(b'.') && self.byte(end + 1) != Some(b'.');
        if ends_in_stop && self.keeps_stop(&word) {
            end += 1;
        }
        tokens.push(self.text[at..end].to_ascii_lowercase());
        end
    }

    fn keeps_stop(self, word: &str) -> bool {
        let letters = || word.split('.').all(|part| part.len() == 1 && is_letters(part));
        ABBREVIATIONS.contains(&word)
            || letters()
            || (self.before_number && BEFORE_NUMBERS.contains(&word))
    }

    /// How long the word at `at` is; 1 for a sign that stands for itself.
    fn word_length(self, at: usize) -> usize {
        let rest = &self.text[at..];
        if ["http://", "https://", "www."].iter().any(|start| rest.starts_with(start)) {
            return rest.trim_end_matches(['.', ',', ';', ':', '!', '?', ')', '"', '\'']).len();
        }
        let first = self.byte(at).unwrap_or_default();
        let second = self.byte(at + 1).unwrap_or_default();
        let opens = match first {
            b'#' | b'@' => second.is_ascii_alphabetic(),
            b'.' | b':' => second.is_ascii_digit(),
            b'+' | b'-' => second.is_ascii_digit() && at == 0,
            _ => first.is_ascii_alphanumeric(),
        };
        if !opens {
            return 1;
        }
        let mut end = at + 1;
        while let Some(byte) = self.byte(end) {
            if byte == b'\'' && self.is_negation(end) && end > at {
                // "n't" is a word of its own, and may stand alone.
                return if end - at == 1 { 3 } else { end - at - 1 };
            }
            if !(byte.is_ascii_alphanumeric() || self.joins(at, end)) {
                break;
            }
            end += 1;
        }
        let word = &self.text[at..end];
        let tail = &self.text[end..];
        let belongs = match word {
            "c" | "C" if tail.starts_with("++") => 2,
            "c" | "C" if tail.starts_with('#') => 1,
            _ if tail.starts_with('$') && word.bytes().all(|byte| byte.is_ascii_uppercase()) => 1,
            _ => 0,
        };
        end + belongs - at
    }

    /// Whether the apostrophe at `at` is that of "n't".
    fn is_negation(self, at: usize) -> bool {
        let byte = |at: usize| self.byte(at).map(|byte| byte.to_ascii_lowercase());
        let ends = !self.byte(at + 2).is_some_and(|byte| byte.is_ascii_alphanumeric());
        byte(at - 1) == Some(b'n') && byte(at + 1) == Some(b't') && ends
    }

    /// Whether the sign at `at` holds the word that starts at `start` together.
    fn joins(self, start: usize, at: usize) -> bool {
        let (Some(left), Some(right)) = (self.byte(at - 1), self.byte(at + 1)) else {
            return false;
        };
        let both = |is: fn(&u8) -> bool| is(&left) && is(&right);
        match self.byte(at) {
            Some(b'-' | b'/' | b'.' | b'_' | b'@') => both(u8::is_ascii_alphanumeric),
            Some(b',' | b':') => both(u8::is_ascii_digit),
            Some(b'&') => both(u8::is_ascii_uppercase),
            Some(b'\'') => {
                let before = &self.text[start..at];
                both(u8::is_ascii_alphabetic)
                    && ending(&self.text[at..]).is_none()
                    && (before.len() == 1 || before.eq_ignore_ascii_case("ma"))
            }
            _ => false,
        }
    }

    fn byte(self, at: usize) -> Option<u8> {
        self.text.as_bytes().get(at).copied()
    }
}

/// Whether `rest` begins with a bracket that is written as a token already.
fn bracket(rest: &str) -> bool {
    const BRACKETS: [&str; 6] = ["-lrb-", "-rrb-", "-lsb-", "-rsb-", "-lcb-", "-rcb-"];
    rest.get(..5).is_some_and(|start| BRACKETS.contains(&start.to_ascii_lowercase().as_str()))
}

fn is_letters(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphabetic())
}

/// The length of the token that an apostrophe opens: an ending, a clipped word, a decade, or the sign alone.
fn apostrophe(rest: &str) -> usize {
    if let Some(length) = ending(rest) {
        return length;
    }
    let lower = rest.to_ascii_lowercase();
    let clipped = CLIPPED.iter().find(|word| {
        lower.strip_prefix(**word).is_some_and(|tail| !tail.starts_with(char::is_alphanumeric))
    });
    if let Some(word) = clipped {
        return word.len();
    }
    match rest.as_bytes() {
        [_, a, b, b's', ..] if a.is_ascii_digit() && b.is_ascii_digit() => 4,
        _ => 1,
    }
}

/// The length of the ending that `rest` begins with, apostrophe included: `'s`, `'re` and the like.
fn ending(rest: &str) -> Option<usize> {
    let letters = rest[1..].bytes().take_while(u8::is_ascii_alphanumeric).count();
    let word = rest[1..=letters].to_ascii_lowercase();
    ENDINGS.contains(&word.as_str()).then_some(letters + 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    // Expected as CoreNLP 3.4.1 gives it.
    #[rstest]
    #[case::titles("Mr. Smith and Dr. Jones", "mr. smith and dr. jones")]
    #[case::acronyms("The U.S. team, i.e. us.", "the u.s. team , i.e. us .")]
    #[case::negations("can't, won't, shouldn't've", "ca n't , wo n't , should n't 've")]
    #[case::alone("do n't it 's", "do n't it 's")]
    #[case::capitals("DON'T I'M IT'S", "do n't i 'm it 's")]
    #[case::endings("They're we've I'd she'll", "they 're we 've i 'd she 'll")]
    #[case::two_in_one("cannot. gonna lemme gimme", "can not . gon na lem me gim me")]
    #[case::clipped("'Tis 'twas rock 'n' roll '90s", "'t is 't was rock 'n' roll '90s")]
    #[case::possessive(
        "The boys' toys and the dog's bone.",
        "the boys ' toys and the dog 's bone ."
    )]
    #[case::kept_apostrophes("o'clock ma'am y'all O'Brien", "o'clock ma'am y' all o'brien")]
    #[case::fractions("Add 1/2 cup, 1,000 grams", "add 1/2 cup , 1,000 grams")]
    #[case::times("10:30 a.m. and 5 p.m. today.", "10:30 a.m. and 5 p.m. today .")]
    #[case::money("$5.50 or 20% off & more US$5", "$ 5.50 or 20 % off & more us$ 5")]
    #[case::addresses(
        "www.example.com or http://a.b/c?d=e now.",
        "www.example.com or http://a.b/c?d=e now ."
    )]
    #[case::hyphens("a well-known, off-road.", "a well-known , off-road .")]
    #[case::runs("wait... what?! no!!", "wait ... what ?! no !!")]
    #[case::brackets("(yes) [maybe] {sure}", "-lrb- yes -rrb- -lsb- maybe -rsb- -lcb- sure -rcb-")]
    #[case::bracket_tokens("-lrb- hi -RRB-", "-lrb- hi -rrb-")]
    #[case::dashes("fast - very -- so --- done", "fast - very -- so -- done")]
    #[case::slashes("and/or C/D 24/7", "and/or c/d 24/7")]
    #[case::no_space_after_stop("the camera.he then moves", "the camera.he then moves")]
    #[case::no_space_after_comma("hello,world a:b 3:2", "hello , world a : b 3:2")]
    #[case::numbers(".5 cups -5 degrees +3 1st 5-10", ".5 cups -5 degrees +3 1st 5-10")]
    #[case::numbered("1. First. No. 5. No.", "1 . first . no. 5 . no .")]
    #[case::tags("#hashtag @user #1 C++ C#", "#hashtag @user # 1 c++ c#")]
    #[case::company("AT&T and a&b", "at&t and a & b")]
    #[case::possessives_joined("man's/woman's", "man 's / woman 's")]
    #[case::entity("a &amp; b", "a & b")]
    #[case::feet("6'2 it''s", "6 ' 2 it '' s")]
    fn tokens_of(#[case] caption: &str, #[case] expected: &str) {
        assert_eq!(tokenise(caption).join(" "), expected);
    }

    #[rstest]
    #[case::quotes("She said \"hello there\" and 'bye'.", "she said hello there and bye")]
    #[case::brackets_stay("two (large) ones", "two -lrb- large -rrb- ones")]
    #[case::not_ascii("Café — naïve\nline", "caf na ve line")]
    #[case::only_signs(" ... - !", "")]
    #[case::empty("", "")]
    fn caption_tokens_of(#[case] caption: &str, #[case] expected: &str) {
        assert_eq!(caption_tokens(caption).join(" "), expected);
    }

    proptest! {
        #[test]
        fn loses_and_adds_no_letter(caption in "[a-zA-Z0-9 .,'!?:/#@&$%+_-]{0,60}") {
            let letters = |text: &str| {
                text.bytes().filter(u8::is_ascii_alphanumeric).collect::<Vec<_>>()
            };
            prop_assert_eq!(
                letters(&tokenise(&caption).concat()),
                letters(&caption.to_ascii_lowercase())
            );
        }

        #[test]
        fn any_text_has_tokens_without_spaces(caption in any::<String>()) {
            for token in tokenise(&caption) {
                prop_assert!(!token.is_empty() && !token.contains(char::is_whitespace));
            }
        }
    }
}
