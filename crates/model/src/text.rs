//! Text rules: how a sentence is written before it is tokenised. Follows Python's `strip` and
//! `capitalize`, with which the references prepared what the models have learnt from.

use std::borrow::Cow;

use crate::manifest::Normalise;

/// A sentence as the model has learnt to read and write it.
///
/// Under [`Normalise::VidChapters`] it is stripped, begins with a capital, goes on in lower case and
/// ends in a full stop, even after another mark (`Done?` gives `Done?.`); blank text gives the empty
/// string. Under [`Normalise::Scenic`] it is left as it is.
#[must_use]
pub fn normalise(text: &str, rule: Normalise) -> Cow<'_, str> {
    match rule {
        Normalise::Scenic => Cow::Borrowed(text),
        Normalise::VidChapters => {
            let stripped = text.trim_matches(is_space);
            let mut sentence = capitalise(stripped);
            if !sentence.is_empty() && !sentence.ends_with('.') {
                sentence.push('.');
            }
            Cow::Owned(sentence)
        }
    }
}

/// What Python's `str.isspace` says of one character: Unicode white space and the four ASCII
/// separators.
fn is_space(character: char) -> bool {
    character.is_whitespace() || matches!(character, '\u{1c}'..='\u{1f}')
}

/// The first character in title case and the rest in lower case, a final sigma included.
fn capitalise(text: &str) -> String {
    let Some(first) = text.chars().next() else {
        return String::new();
    };
    // The whole text is lowered, since a final sigma looks back as far as the first character.
    let lower = text.to_lowercase();
    let lowered_first: usize = first.to_lowercase().map(char::len_utf8).sum();
    let mut capitalised = title_case(first);
    capitalised.push_str(&lower[lowered_first..]);
    capitalised
}

const CAPITAL_IOTA: char = '\u{399}';
const IOTA_BELOW: char = '\u{345}';

/// Full title case of one character: its upper case, but for digraphs, ligatures, Greek with an iota
/// below, and Georgian, which has no title case.
fn title_case(character: char) -> String {
    let upper: Vec<char> = character.to_uppercase().collect();
    match character {
        '\u{1c4}'..='\u{1c6}' => '\u{1c5}'.into(),
        '\u{1c7}'..='\u{1c9}' => '\u{1c8}'.into(),
        '\u{1ca}'..='\u{1cc}' => '\u{1cb}'.into(),
        '\u{1f1}'..='\u{1f3}' => '\u{1f2}'.into(),
        '\u{10d0}'..='\u{10ff}' => character.into(),
        'ß' | '\u{587}' | '\u{fb00}'..='\u{fb06}' | '\u{fb13}'..='\u{fb17}' => {
            let rest = upper[1..].iter().flat_map(|letter| letter.to_lowercase());
            std::iter::once(upper[0]).chain(rest).collect()
        }
        '\u{1f80}'..='\u{1fff}' if upper.len() > 1 && upper.ends_with(&[CAPITAL_IOTA]) => {
            with_iota_below(character, &upper)
        }
        _ => upper.into_iter().collect(),
    }
}

/// A Greek capital that keeps the iota below it, which upper case would write out.
fn with_iota_below(character: char, upper: &[char]) -> String {
    let composed = match upper {
        // Breathed vowels lie in blocks of 16, the capitals in the upper half.
        _ if character <= '\u{1faf}' => char::from_u32(u32::from(character) | 8),
        ['\u{391}', _] => Some('\u{1fbc}'),
        ['\u{397}', _] => Some('\u{1fcc}'),
        ['\u{3a9}', _] => Some('\u{1ffc}'),
        _ => None,
    };
    match composed {
        Some(capital) => capital.into(),
        None => upper[..upper.len() - 1].iter().copied().chain([IOTA_BELOW]).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    fn check(text: &str, expected: &str) {
        assert_eq!(normalise(text, Normalise::VidChapters), expected);
    }

    #[rstest]
    #[case::capital_and_stop("hi there, my CHANNEL", "Hi there, my channel.")]
    #[case::stripped("  Pad Thai! ", "Pad thai!.")]
    #[case::has_a_stop("Wait...", "Wait...")]
    #[case::only_a_stop(".", ".")]
    #[case::blank(" \u{1c}\u{a0}\t", "")]
    #[case::digit_first("3 EGGS", "3 eggs.")]
    #[case::sharp_s("ßTRASSE", "Sstrasse.")]
    #[case::ligature("ﬁRE", "Fire.")]
    #[case::long_ligature("ﬃX", "Ffix.")]
    #[case::digraph("ǆEP", "ǅep.")]
    #[case::armenian("եւ", "Եւ.")]
    #[case::armenian_ligature("և", "Եւ.")]
    #[case::final_sigma("ΟΔΟΣ ΣΑΣ", "Οδος σας.")]
    #[case::one_sigma("Σ", "Σ.")]
    #[case::sigma_after_the_first("ΑΣ", "Ας.")]
    #[case::dotted_i("İSTANBUL", "İstanbul.")]
    #[case::dotted_i_later("XİX", "Xi\u{307}x.")]
    #[case::georgian("ქართული", "ქართული.")]
    #[case::iota_below("ᾳx", "ᾼx.")]
    #[case::iota_below_with_accent("ᾲx", "Ὰ\u{345}x.")]
    #[case::iota_below_with_circumflex("ᾷx", "Α\u{342}\u{345}x.")]
    #[case::breathed_with_iota_below("ᾀx", "ᾈx.")]
    #[case::apostrophe_n("ŉX", "ʼNx.")]
    #[case::no_case("日本語", "日本語.")]
    fn as_python_writes_it(#[case] text: &str, #[case] expected: &str) {
        check(text, expected);
    }

    #[test]
    fn scenic_leaves_text_alone() {
        assert_eq!(normalise("  ReaLLY? ", Normalise::Scenic), "  ReaLLY? ");
    }

    proptest! {
        #[test]
        fn any_text_ends_in_a_full_stop_or_is_blank(text in "\\PC*") {
            let sentence = normalise(&text, Normalise::VidChapters);
            let stripped = text.trim_matches(is_space);
            prop_assert_eq!(sentence.ends_with('.'), !stripped.is_empty());
        }
    }
}
