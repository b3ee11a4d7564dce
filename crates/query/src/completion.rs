//! What the Tab key offers in the shell, and when the Enter key ends a statement.

use rustyline::{
    Context, Helper, Highlighter, Hinter,
    completion::Completer,
    validate::{ValidationContext, ValidationResult, Validator},
};

use crate::{Format, Session, shell::COMMANDS, statements::split};

/// Words of SQL that are worth offering.
const KEYWORDS: &[&str] = &[
    "ALL",
    "AND",
    "AS",
    "ASC",
    "BETWEEN",
    "BY",
    "CASE",
    "CAST",
    "CROSS",
    "DESC",
    "DESCRIBE",
    "DISTINCT",
    "ELSE",
    "END",
    "EXCEPT",
    "EXISTS",
    "EXPLAIN",
    "FALSE",
    "FILTER",
    "FIRST",
    "FROM",
    "FULL",
    "GROUP",
    "HAVING",
    "ILIKE",
    "IN",
    "INNER",
    "INTERSECT",
    "IS",
    "JOIN",
    "LAST",
    "LEFT",
    "LIKE",
    "LIMIT",
    "NOT",
    "NULL",
    "NULLS",
    "OFFSET",
    "ON",
    "OR",
    "ORDER",
    "OUTER",
    "OVER",
    "PARTITION",
    "QUALIFY",
    "RIGHT",
    "SELECT",
    "SHOW",
    "THEN",
    "TRUE",
    "UNION",
    "USING",
    "VALUES",
    "WHEN",
    "WHERE",
    "WITH",
];

/// The names that the shell completes.
#[derive(Debug, Helper, Hinter, Highlighter)]
pub(crate) struct Names {
    tables: Vec<(String, Vec<String>)>,
    functions: Vec<String>,
}

impl Names {
    /// The names of a session.
    pub(crate) fn of(session: &Session) -> Self {
        let tables = session.tables().iter().map(|table| {
            let columns = table.columns.fields().iter().map(|field| field.name().clone());
            (table.name.to_owned(), columns.collect())
        });
        Self { tables: tables.collect(), functions: session.function_names().into_iter().collect() }
    }

    /// Where the word before the cursor starts in `line`, and what it may be completed to.
    fn complete_word(&self, line: &str) -> (usize, Vec<String>) {
        let in_word = |c: char| c.is_alphanumeric() || c == '_' || c == '\\';
        let start = line.trim_end_matches(in_word).len();
        let (before, word) = line.split_at(start);
        let mut found: Vec<String> = if word.starts_with('\\') {
            COMMANDS.iter().map(|(name, ..)| (*name).to_owned()).collect()
        } else if let Some(command) = before.trim_start().strip_prefix('\\') {
            self.command_arguments(command.trim())
        } else if let Some(qualifier) = before.strip_suffix('.') {
            self.columns_of(&qualifier[qualifier.trim_end_matches(in_word).len()..])
        } else if follows_from(before) {
            self.table_names()
        } else {
            self.anything(word)
        };
        found.retain(|name| starts_with(name, word));
        found.sort_unstable();
        found.dedup();
        (start, found)
    }

    fn command_arguments(&self, command: &str) -> Vec<String> {
        match command {
            "d" => self.table_names(),
            "df" => self.functions.clone(),
            "format" => Format::ALL.iter().map(|(name, _)| (*name).to_owned()).collect(),
            _ => Vec::new(),
        }
    }

    fn table_names(&self) -> Vec<String> {
        self.tables.iter().map(|(name, _)| name.clone()).collect()
    }

    /// The columns of a table; all columns where the qualifier is an alias.
    fn columns_of(&self, qualifier: &str) -> Vec<String> {
        let known = self.tables.iter().any(|(name, _)| name == qualifier);
        let tables = self.tables.iter().filter(|(name, _)| !known || name == qualifier);
        tables.flat_map(|(_, columns)| columns.clone()).collect()
    }

    /// Keywords in the case that is being typed, tables, columns, functions.
    fn anything(&self, word: &str) -> Vec<String> {
        let small = word.starts_with(|c: char| c.is_lowercase());
        let keywords = KEYWORDS
            .iter()
            .map(|keyword| if small { keyword.to_lowercase() } else { (*keyword).to_owned() });
        keywords
            .chain(self.table_names())
            .chain(self.columns_of(""))
            .chain(self.functions.iter().cloned())
            .collect()
    }
}

fn follows_from(before: &str) -> bool {
    let last = before.split_whitespace().next_back().unwrap_or_default();
    before.ends_with(char::is_whitespace)
        && ["from", "join", "describe"].iter().any(|word| last.eq_ignore_ascii_case(word))
}

fn starts_with(name: &str, word: &str) -> bool {
    name.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word))
}

impl Completer for Names {
    type Candidate = String;

    fn complete(
        &self,
        line: &str,
        at: usize,
        _: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<String>)> {
        Ok(self.complete_word(&line[..at]))
    }
}

impl Validator for Names {
    fn validate(&self, context: &mut ValidationContext) -> rustyline::Result<ValidationResult> {
        Ok(if is_finished(context.input()) {
            ValidationResult::Valid(None)
        } else {
            ValidationResult::Incomplete
        })
    }
}

/// Whether nothing is left to be typed: a command, or statements that all end in `;`.
fn is_finished(text: &str) -> bool {
    text.trim_start().starts_with('\\') || split(text).rest.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn names() -> Names {
        let table = |name: &str, columns: &[&str]| {
            (name.to_owned(), columns.iter().map(|column| (*column).to_owned()).collect())
        };
        Names {
            tables: vec![
                table("events", &["caption", "start_ms"]),
                table("videos", &["status", "uri"]),
            ],
            functions: vec!["count".to_owned(), "timecode".to_owned()],
        }
    }

    #[rstest]
    #[case::keyword("SEL", 0, &["SELECT"])]
    #[case::keyword_in_small("sel", 0, &["select"])]
    #[case::column_or_function("SELECT c", 7, &["caption", "case", "cast", "count", "cross"])]
    #[case::function("SELECT time", 7, &["timecode"])]
    #[case::tables_after_from("SELECT * FROM ", 14, &["events", "videos"])]
    #[case::tables_after_join("select * from events join v", 26, &["videos"])]
    #[case::columns_of_a_table("SELECT videos.", 14, &["status", "uri"])]
    #[case::columns_of_an_alias("SELECT e.s", 9, &["start_ms", "status"])]
    #[case::commands("\\d", 0, &["\\d", "\\df"])]
    #[case::table_of_a_command("\\d e", 3, &["events"])]
    #[case::format("\\format n", 8, &["ndjson"])]
    #[case::not_ascii("SELECT 'é' AS é", 15, &[])]
    fn completes(#[case] line: &str, #[case] start: usize, #[case] expected: &[&str]) {
        let (from, found) = names().complete_word(line);
        assert_eq!((from, found), (start, expected.iter().map(|n| (*n).to_owned()).collect()));
    }

    #[rstest]
    #[case::command("\\d events", true)]
    #[case::nothing("  ", true)]
    #[case::half("SELECT 1", false)]
    #[case::whole("SELECT 1; -- one", true)]
    #[case::in_quotes("SELECT ';", false)]
    fn knows_when_to_go_on(#[case] text: &str, #[case] finished: bool) {
        assert_eq!(is_finished(text), finished);
    }
}
