//! Where one statement ends and the next begins, in text that is still being typed.

/// Text cut at the `;` that are not inside quotes or comments.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Split<'a> {
    /// Statements that a `;` ends, without it. None is blank.
    pub(crate) whole: Vec<&'a str>,
    /// What comes after the last `;`, trimmed; empty if it is only space and comments.
    pub(crate) rest: &'a str,
}

impl<'a> Split<'a> {
    /// All statements, also one that no `;` ends.
    pub(crate) fn all(self) -> Vec<&'a str> {
        let rest = Some(self.rest).filter(|rest| !rest.is_empty());
        self.whole.into_iter().chain(rest).collect()
    }
}

/// Cuts `text` into statements.
pub(crate) fn split(text: &str) -> Split<'_> {
    let mut whole = Vec::new();
    let (mut start, mut at, mut blank) = (0, 0, true);
    while at < text.len() {
        let (piece, length) = first_piece(&text[at..]);
        if piece == Piece::End {
            if !blank {
                whole.push(text[start..at].trim());
            }
            (start, blank) = (at + length, true);
        }
        blank &= piece != Piece::Word;
        at += length;
    }
    Split { whole, rest: if blank { "" } else { text[start..].trim() } }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Piece {
    /// A `;`.
    End,
    /// Space or a comment.
    Blank,
    /// Anything else: one character, or a whole quotation.
    Word,
}

/// What `text`, which is not empty, begins with, and how many bytes that takes. What is opened
/// and not closed goes to the end.
fn first_piece(text: &str) -> (Piece, usize) {
    let through = |end: &str, from: usize| {
        text[from..].find(end).map_or(text.len(), |at| from + at + end.len())
    };
    let first = text.chars().next().unwrap_or(' ');
    match first {
        ';' => (Piece::End, 1),
        '\'' => (Piece::Word, through("'", 1)),
        '"' => (Piece::Word, through("\"", 1)),
        '`' => (Piece::Word, through("`", 1)),
        '-' if text.starts_with("--") => (Piece::Blank, through("\n", 2)),
        '/' if text.starts_with("/*") => (Piece::Blank, comment(text)),
        _ if first.is_whitespace() => (Piece::Blank, first.len_utf8()),
        _ => (Piece::Word, first.len_utf8()),
    }
}

/// Bytes of the comment, which may hold others, that `text` begins with.
fn comment(text: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < text.len() {
        let rest = &text.as_bytes()[at..];
        let length = if rest.starts_with(b"/*") {
            depth += 1;
            2
        } else if rest.starts_with(b"*/") {
            depth -= 1;
            2
        } else {
            1
        };
        at += length;
        if depth == 0 {
            return at;
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::nothing("", &[], "")]
    #[case::still_typing("SELECT 1", &[], "SELECT 1")]
    #[case::one("SELECT 1;", &["SELECT 1"], "")]
    #[case::two_and_a_half("a; b ;c", &["a", "b"], "c")]
    #[case::in_quotes("SELECT 'a;b', \"c;d\", `e;f`;", &["SELECT 'a;b', \"c;d\", `e;f`"], "")]
    #[case::doubled_quote("SELECT 'it''s;';", &["SELECT 'it''s;'"], "")]
    #[case::open_quote("SELECT 'a;", &[], "SELECT 'a;")]
    #[case::comment_to_the_end("SELECT 1 -- a;\n;", &["SELECT 1 -- a;"], "")]
    #[case::nested_comment("/* a; /* b; */ c; */ SELECT 1;", &["/* a; /* b; */ c; */ SELECT 1"], "")]
    #[case::open_comment("SELECT 1; /* a;", &["SELECT 1"], "")]
    #[case::blank_statements(" ; -- nothing\n ;; SELECT 1; -- done", &["SELECT 1"], "")]
    #[case::not_ascii("SELECT 'é;', ü;", &["SELECT 'é;', ü"], "")]
    #[case::not_ascii_comment("/* é; ü */ a;", &["/* é; ü */ a"], "")]
    #[case::minus_and_slash("SELECT 1-1/2;", &["SELECT 1-1/2"], "")]
    fn cuts(#[case] text: &str, #[case] whole: &[&str], #[case] rest: &str) {
        assert_eq!(split(text), Split { whole: whole.to_vec(), rest });
    }
}
