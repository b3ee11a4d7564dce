//! The language of questions: words, `"phrases"`, `AND`, `OR`, `NOT`, `(...)`, `field:word`, `gar*` for what
//! begins so, and `a NEAR b` for words close to each other, in either order.
//!
//! Tantivy's parser knows most of it. What it does not know, prefixes and `NEAR`, is written here in words
//! that it does; expressions that people did not mean as such, `and/or` or `12:30`, are quoted.

use tantivy::{
    Index,
    query::{AllQuery, Query, QueryParser},
};

use super::document::exact;
use crate::{Error, Result, error::CauseFrom};

/// Bytes of a question: longer ones are refused.
const MOST_BYTES: usize = 1024;
/// Parentheses inside each other: the parser takes time that doubles with each.
const DEEPEST: usize = 6;
/// Words between two that are near.
const NEAR: u32 = 10;
/// The most that `NEAR/n` may say.
const FARTHEST: u32 = 100;

/// A question about `fields`, each of which has a field of exact words beside it.
///
/// # Errors
/// [`Error::SearchQuery`].
pub(super) fn parse(index: &Index, fields: &[&str], words: &str) -> Result<Box<dyn Query>> {
    let wrong = |source: crate::Cause| Error::SearchQuery { text: shortened(words), source };
    if words.trim().is_empty() {
        return Ok(Box::new(AllQuery));
    }
    let written = rewrite(words, fields).map_err(|because| wrong(because.cause()))?;
    let schema = index.schema();
    let known = fields.iter().filter_map(|name| schema.get_field(name).ok()).collect();
    let mut parser = QueryParser::for_index(index, known);
    parser.set_conjunction_by_default();
    parser.allow_regexes();
    if let Ok(caption) = schema.get_field("caption") {
        parser.set_field_boost(caption, 2.0);
    }
    parser.parse_query(&written).map_err(|source| wrong(source.cause()))
}

/// Whether a question is words and nothing else. What says more, by a quotation, an operator or a field, means just that.
pub(super) fn is_plain(words: &str) -> bool {
    let is_plain = |word: &str| {
        let is_operator = matches!(word, "AND" | "OR" | "NOT" | "IN") || distance(word).is_some();
        let is_more = word.contains(|c: char| "\"()[]{}<>=*~^\\".contains(c));
        let has_sign = word.starts_with(['+', '-']);
        !is_operator && !is_more && !has_sign && with_field(word).0.is_none()
    };
    let has_letters = words.contains(char::is_alphanumeric);
    has_letters && words.len() <= MOST_BYTES && words.split_whitespace().all(is_plain)
}

fn shortened(words: &str) -> String {
    words.chars().take(100).collect()
}

/// A part of a question.
#[derive(Debug, Clone, PartialEq)]
enum Piece<'a> {
    /// `(` or `)`.
    Bracket(char),
    /// A whole quotation, with what stands at it on both sides.
    Phrase(&'a str),
    /// Anything else without space in it.
    Word(&'a str),
}

/// The question in the language of Tantivy, or why there is none.
fn rewrite(words: &str, fields: &[&str]) -> std::result::Result<String, String> {
    if words.len() > MOST_BYTES {
        return Err(format!("it is longer than {MOST_BYTES} bytes"));
    }
    let pieces = cut(words)?;
    let mut written: Vec<String> = Vec::new();
    let mut open = Vec::new(); // for each bracket, what closes it
    let (mut at, mut without) = (0, false);
    while let Some(piece) = pieces.get(at) {
        if *piece == Piece::Word("NOT") {
            without = true;
            at += 1;
            continue;
        }
        if let [Piece::Word(first), Piece::Word(near), Piece::Word(second), ..] = &pieces[at..]
            && let Some(distance) = distance(near)
        {
            written.push(leave_out(near_each_other(first, second, distance)?, without));
            without = false;
            // The second word may be near a third.
            let goes_on = matches!(pieces.get(at + 3), Some(Piece::Word(next)) if self::distance(next).is_some());
            if goes_on {
                written.push("AND".to_owned());
            }
            at += if goes_on { 2 } else { 3 };
            continue;
        }
        written.push(match piece {
            Piece::Bracket('(') => {
                open.push(if without { "))" } else { ")" });
                if without { "(* -(" } else { "(" }.to_owned()
            }
            Piece::Bracket(_) => open.pop().unwrap_or(")").to_owned(),
            Piece::Phrase(phrase) => leave_out(quoted(phrase)?, without),
            Piece::Word(near) if distance(near).is_some() => {
                return Err("NEAR stands between two words".to_owned());
            }
            Piece::Word(word) => leave_out(plain(word, fields)?, without),
        });
        without = false;
        at += 1;
    }
    if without {
        return Err("NOT stands before what is left out".to_owned());
    }
    Ok(written.join(" "))
}

fn cut(words: &str) -> std::result::Result<Vec<Piece<'_>>, String> {
    let (mut pieces, mut rest, mut depth) = (Vec::new(), words.trim_start(), 0_usize);
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '(' | ')' => {
                let deeper = if first == '(' { depth.checked_add(1) } else { depth.checked_sub(1) };
                depth = deeper.ok_or("a `)` stands in it alone")?;
                if depth > DEEPEST {
                    return Err(format!("more than {DEEPEST} parentheses are in each other"));
                }
                pieces.push(Piece::Bracket(first));
                1
            }
            _ => {
                let length = rest.find(|c: char| c.is_whitespace() || "()\"".contains(c));
                let length = length.unwrap_or(rest.len());
                if rest[length..].starts_with('"') {
                    let inside = &rest[length + 1..];
                    let end = inside.find('"').ok_or("a quotation is not closed")?;
                    let after = &inside[end + 1..];
                    let tail = after.find(|c: char| c.is_whitespace() || "()\"".contains(c));
                    let whole = length + end + 2 + tail.unwrap_or(after.len());
                    pieces.push(Piece::Phrase(&rest[..whole]));
                    whole
                } else {
                    pieces.push(Piece::Word(&rest[..length]));
                    length
                }
            }
        };
        rest = rest[length..].trim_start();
    }
    if depth > 0 {
        return Err("a `(` is not closed".to_owned());
    }
    Ok(pieces)
}

/// Everything but what `part` finds, if that is asked for: the parser would have its own `NOT` reach farther.
fn leave_out(part: String, without: bool) -> String {
    if without { format!("(* -{part})") } else { part }
}

/// The distance that `NEAR` or `NEAR/5` asks for.
fn distance(word: &str) -> Option<u32> {
    let rest = word.strip_prefix("NEAR")?;
    if rest.is_empty() {
        return Some(NEAR);
    }
    rest.strip_prefix('/')?.parse().ok().filter(|distance| (1..=FARTHEST).contains(distance))
}

fn near_each_other(
    first: &str,
    second: &str,
    distance: u32,
) -> std::result::Result<String, String> {
    let (field, first) = with_field(first);
    let (other, second) = with_field(second);
    let simple = |word: &str| {
        !word.is_empty() && word.chars().all(|c| c.is_alphanumeric() || c == '\'' || c == '-')
    };
    if !simple(first) || !simple(second) || other.is_some() && other != field {
        return Err("NEAR stands between two words, of one field".to_owned());
    }
    let field = field.map(|field| format!("{field}:")).unwrap_or_default();
    Ok(format!(
        "({field}\"{first} {second}\"~{distance} OR {field}\"{second} {first}\"~{distance})"
    ))
}

/// A word and the field that it names.
fn with_field(word: &str) -> (Option<&str>, &str) {
    let is_name = |text: &str| {
        text.starts_with(|c: char| c.is_ascii_lowercase())
            && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    match word.split_once(':') {
        Some((field, rest)) if is_name(field) => (Some(field), rest),
        _ => (None, word),
    }
}

/// A word without the `+` or `-` before it, and that.
fn with_sign(word: &str) -> (&str, &str) {
    match word.chars().next() {
        Some('+' | '-') if word.len() > 1 => word.split_at(1),
        _ => ("", word),
    }
}

/// A quotation. Before it stand a sign and a field at most, behind it `*`, or `~2` for words between its own.
fn quoted(phrase: &str) -> std::result::Result<String, String> {
    let mut parts = phrase.splitn(3, '"');
    let [head, inside, tail] = [(); 3].map(|()| parts.next().unwrap_or_default());
    let (sign, named) = with_sign(head);
    let (field, rest) = with_field(named);
    let is_distance = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_digit());
    let is_known = matches!(tail, "" | "*") || tail.strip_prefix('~').is_some_and(is_distance);
    let is_named = rest.is_empty() || matches!(head, "+" | "-");
    if !is_named || !is_known {
        return Err(format!("`{phrase}` is a quotation and more: put a space between"));
    }
    let sign = if rest.is_empty() { sign } else { head };
    let field = field.map(|field| format!("{field}:")).unwrap_or_default();
    // A backslash would take the quotation's end for a part of it.
    Ok(format!("{sign}{field}\"{}\"{tail}", inside.replace('\\', " ")))
}

/// One word, with `+` or `-` before it, or the name of a field. What the parser may take for more than a word, an
/// expression above all, is quoted.
fn plain(word: &str, fields: &[&str]) -> std::result::Result<String, String> {
    let (sign, bare) = with_sign(word);
    let (field, value) = with_field(bare);
    if let Some(stem) = value.strip_suffix('*').filter(|stem| !stem.is_empty()) {
        return begins_with(sign, field, stem, fields);
    }
    // Also what is between two values: `[0`, `10]`, `>=5`.
    let is_safe = |c: char| c.is_alphanumeric() || "_-.*[]{}<>=".contains(c);
    if value.chars().all(is_safe) {
        return Ok(word.to_owned());
    }
    let field = field.map(|field| format!("{field}:")).unwrap_or_default();
    Ok(format!("{sign}{field}\"{}\"", value.replace(['\\', '"'], " ")))
}

fn begins_with(
    sign: &str,
    field: Option<&str>,
    stem: &str,
    fields: &[&str],
) -> std::result::Result<String, String> {
    if !stem.chars().all(char::is_alphanumeric) {
        return Err("`*` stands at the end of a word of letters and digits".to_owned());
    }
    let in_field = |name: &str| {
        let (name, stem) = if fields.contains(&name) {
            (exact(name), stem.to_lowercase())
        } else {
            (name.to_owned(), stem.to_owned())
        };
        format!("{name}:/{stem}.*/")
    };
    let parts: Vec<_> = match field {
        Some(field) => vec![in_field(field)],
        None => fields.iter().map(|field| in_field(field)).collect(),
    };
    Ok(format!("{sign}({})", parts.join(" OR ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::words("garlic pan", "garlic pan")]
    #[case::near("garlic NEAR pan", "(\"garlic pan\"~10 OR \"pan garlic\"~10)")]
    #[case::near_by("a NEAR/3 b OR c", "(\"a b\"~3 OR \"b a\"~3) OR c")]
    #[case::chain("a NEAR b NEAR c", "(\"a b\"~10 OR \"b a\"~10) AND (\"b c\"~10 OR \"c b\"~10)")]
    #[case::near_in_a_field("speech:a NEAR b", "(speech:\"a b\"~10 OR speech:\"b a\"~10)")]
    #[case::prefix("Gar*", "(caption_exact:/gar.*/ OR speech_exact:/gar.*/)")]
    #[case::prefix_of_a_field("-caption:gar*", "-(caption_exact:/gar.*/)")]
    #[case::not("NOT a AND b", "(* -a) AND b")]
    #[case::not_these("c NOT (a OR b)", "c (* -( a OR b ))")]
    #[case::phrase("\"garlic in a pan\"~2 x", "\"garlic in a pan\"~2 x")]
    #[case::no_expression("/a.*b/", "\"/a.*b/\"")]
    #[case::a_time("12:30", "\"12:30\"")]
    #[case::range("start_ms:[0 TO 10]", "start_ms:[0 TO 10]")]
    #[case::bound("start_ms:>=10", "start_ms:>=10")]
    #[case::expression_as_a_range("caption_exact:/[a]=.*/", "caption_exact:\"/[a]=.*/\"")]
    #[case::a_comma("garlic, pan", "\"garlic,\" pan")]
    #[case::a_field_that_is_none("a/b.*/:x", "\"a/b.*/:x\"")]
    #[case::phrase_of_a_field("-speech:\"a b\"*", "-speech:\"a b\"*")]
    fn writes(#[case] words: &str, #[case] written: &str) {
        assert_eq!(rewrite(words, &["caption", "speech"]).as_deref(), Ok(written));
    }

    #[rstest]
    #[case::words("somebody cooks", true)]
    #[case::a_sentence("What's he doing, at 12:30?", true)]
    #[case::a_compound("a half-open door", true)]
    #[case::nothing("  ", false)]
    #[case::signs("?!", false)]
    #[case::quotation("a \"red wall\"", false)]
    #[case::operator("a OR b", false)]
    #[case::not("NOT a", false)]
    #[case::near("a NEAR/3 b", false)]
    #[case::left_out("a -b", false)]
    #[case::field("speech:a", false)]
    #[case::prefix("gar*", false)]
    #[case::bracket("(a b)", false)]
    fn only_plain_words_are_asked_by_meaning(#[case] words: &str, #[case] plain: bool) {
        assert_eq!(is_plain(words), plain, "{words}");
    }

    #[rstest]
    #[case::open_quote("\"garlic")]
    #[case::not_nothing("a NOT")]
    #[case::open_bracket("(a")]
    #[case::closed_bracket("a)")]
    #[case::near_nothing("a NEAR")]
    #[case::near_a_phrase("a NEAR \"b c\"")]
    #[case::expression("a.*b*")]
    #[case::deep("(((((((((((((((a)))))))))))))))")]
    #[case::more_than_a_quotation("/\"a\"b.*/")]
    #[case::behind_a_quotation("\"a\"~x")]
    fn refuses(#[case] words: &str) {
        assert!(rewrite(words, &["caption"]).is_err(), "{words}");
    }

    /// Words of which an expression could come that the parser runs over all words of the index.
    #[rstest]
    #[case::as_it_is("/.*/")]
    #[case::with_a_range("/[a-z]*.*/")]
    #[case::in_a_field("caption_exact:/{a}.*/")]
    #[case::around_a_quotation("/\"a\"b.*/")]
    #[case::behind_a_backslash("\"a\\\" /b.*/ \"")]
    #[case::behind_an_apostrophe("it's \"a\" /b.*/ c'")]
    #[case::in_single_quotes("' \"a' /x.*/ b\"")]
    #[case::before_a_bracket("/(a)/")]
    #[case::with_a_sign("-/=.*/")]
    fn nobody_writes_an_expression(#[case] words: &str) {
        let mut schema = tantivy::schema::Schema::builder();
        for name in ["caption", "caption_exact"] {
            schema.add_text_field(name, tantivy::schema::TEXT);
        }
        let index = Index::create_in_ram(schema.build());
        if let Ok(query) = parse(&index, &["caption"], words) {
            let query = format!("{query:?}");
            assert!(!query.contains("Regex"), "{words}: {query}");
        }
    }
}
