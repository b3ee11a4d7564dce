//! The shell: statements and `\` commands from a person, a file or a pipe, answered one by one.
//!
//! `completion` helps a person to type; `output` writes the answers.

use std::{
    io::{BufRead, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use datafusion::arrow::{
    array::{ArrayRef, RecordBatch, StringArray},
    datatypes::{DataType, Field, Schema},
};
use datafusion::logical_expr::ScalarUDFImpl;
use rustyline::{Config, Editor, config::Configurer, error::ReadlineError, history::FileHistory};
use tokio::sync::Notify;

use crate::{
    Error, Format, Layout, Result, Session, TableStyle, Written,
    completion::Names,
    error::CauseFrom,
    functions,
    output::{write_file, write_results},
    statements::split,
    table,
};

/// Statements that the history keeps.
const HISTORY: usize = 10_000;
const PROMPT: &str = "eventide> ";
/// Functions for words, where a session has them.
const WORD_FUNCTIONS: [&str; 2] = ["matches", "search"];

/// The commands: name, argument, what it does.
pub(crate) const COMMANDS: &[(&str, &str, &str)] = &[
    ("\\d", "[TABLE]", "list the tables, or the columns of one"),
    ("\\df", "[WORD]", "list the functions for times and words, or all with WORD in their name"),
    ("\\format", "[FORMAT]", "print results as table, csv, json or ndjson"),
    ("\\help", "", "list the commands"),
    ("\\limit", "[ROWS]", "how many rows a table shows"),
    (
        "\\o",
        "FILE",
        "write the next result to a file; its name ends in .csv, .json, .ndjson, .parquet",
    ),
    ("\\q", "", "leave"),
    ("\\timing", "", "say how long statements take, or stop saying so"),
    ("\\x", "", "print a line for each value, or no longer"),
];

/// How results are shown. The commands of the shell change it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settings {
    /// The format of results.
    pub format: Format,
    /// How tables look.
    pub style: TableStyle,
    /// The file that the next result goes to.
    pub file: Option<PathBuf>,
    /// The format of files; if none, what the name of the file says, else the format of results.
    pub file_format: Option<Format>,
    /// Whether to say how long statements take.
    pub timing: bool,
    /// Whether to leave out notes, such as the number of rows.
    pub quiet: bool,
}

/// Reads lines from a person: history, completion, editing.
#[derive(Debug)]
pub struct LineEditor(Editor<Names, FileHistory>);

/// Whether to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Line,
    Leave,
}

/// Answers statements and commands: results to one writer, notes and errors to another.
#[derive(Debug)]
pub struct Shell<R, N> {
    session: Session,
    settings: Settings,
    results: R,
    notes: N,
    interrupt: Arc<Notify>,
}

impl<R: Write + Send, N: Write + Send> Shell<R, N> {
    /// A shell over a session. Whoever notifies the waiters of `interrupt` stops the statement
    /// that is running then, and nothing else.
    #[must_use]
    pub fn new(
        session: Session,
        settings: Settings,
        results: R,
        notes: N,
        interrupt: Arc<Notify>,
    ) -> Self {
        Self { session, settings, results, notes, interrupt }
    }

    /// Runs the statements in `text`, or the one command that it is.
    ///
    /// # Errors
    /// The first error ends it. [`Error::Interrupted`] when a person asked to stop,
    /// [`Error::OneStatement`] when several results would go to one file.
    pub async fn run(&mut self, text: &str) -> Result<()> {
        self.answer(text).await.map(drop)
    }

    /// Runs what is read line by line, each statement as soon as it is whole.
    ///
    /// # Errors
    /// The first error ends it; [`Error::ReadStatements`] when a line cannot be read.
    pub async fn run_lines(&mut self, mut input: impl BufRead) -> Result<()> {
        let mut text = String::new();
        loop {
            let read =
                input.read_line(&mut text).map_err(|source| Error::ReadStatements { source })?;
            let is_command = text.trim_start().starts_with('\\');
            if read > 0 && !is_command && !split(&text).rest.is_empty() {
                continue;
            }
            if self.answer(&text).await? == Next::Leave || read == 0 {
                return Ok(());
            }
            text.clear();
        }
    }

    /// A line editor for [`Shell::interact`] that knows the names of this session.
    ///
    /// Making it takes Ctrl-C away from whoever listens for it, so listen only afterwards.
    ///
    /// # Errors
    /// [`Error::Terminal`] when there is none to talk at.
    pub fn editor(&self) -> Result<LineEditor> {
        let terminal = |source| Error::Terminal { source };
        let config = Config::builder().auto_add_history(false).build();
        let mut editor = Editor::with_config(config).map_err(terminal)?;
        editor.set_max_history_size(HISTORY).map_err(terminal)?;
        editor.set_helper(Some(Names::of(&self.session)));
        Ok(LineEditor(editor))
    }

    /// Talks with a person at the terminal until they leave. Errors are shown and forgotten.
    ///
    /// `history` is the file that statements are kept in from one time to the next; where it
    /// cannot be read or written there is none, and a note says so.
    ///
    /// # Errors
    /// [`Error::Terminal`] when the terminal fails, [`Error::Write`] when it goes away.
    pub async fn interact(&mut self, editor: LineEditor, history: Option<&Path>) -> Result<()> {
        let LineEditor(mut editor) = editor;
        if let Some(path) = history.filter(|path| path.exists()) {
            let loaded = editor.load_history(path);
            self.note_failure("cannot read the history", path, loaded)?;
        }
        if !self.settings.quiet {
            self.note("statements end in `;`, \\help lists the commands, \\q leaves")?;
        }
        loop {
            let (returned, line) = read_line(editor).await?;
            editor = returned;
            let text = match line {
                Ok(text) => text,
                // A signal that came while a statement ran has had its effect already.
                Err(ReadlineError::Interrupted | ReadlineError::Signal(_)) => continue,
                Err(ReadlineError::Eof) => return Ok(()),
                Err(source) => return Err(Error::Terminal { source }),
            };
            if !text.trim().is_empty() {
                self.remember(&mut editor, text.trim(), history)?;
            }
            match self.answer(&text).await {
                Ok(Next::Leave) => return Ok(()),
                Ok(Next::Line) => {}
                Err(error) if error.is_closed_pipe() => return Err(error),
                Err(error) => self.complain(&error)?,
            }
        }
    }

    fn remember(
        &mut self,
        editor: &mut Editor<Names, FileHistory>,
        text: &str,
        history: Option<&Path>,
    ) -> Result<()> {
        let new = editor.add_history_entry(text).map_err(|source| Error::Terminal { source })?;
        match history.filter(|_| new) {
            Some(path) => {
                let kept = editor.append_history(path);
                self.note_failure("cannot write the history", path, kept)
            }
            None => Ok(()),
        }
    }

    fn note_failure(
        &mut self,
        what: &str,
        path: &Path,
        result: rustyline::Result<()>,
    ) -> Result<()> {
        match result {
            Ok(()) => Ok(()),
            Err(error) => self.note(&format!("{what} `{}`: {error}", path.display())),
        }
    }

    fn complain(&mut self, error: &Error) -> Result<()> {
        self.note(&format!("error: {}", error.with_causes()))?;
        match error.help() {
            Some(help) => self.note(&format!("help: {help}")),
            None => Ok(()),
        }
    }

    fn note(&mut self, text: &str) -> Result<()> {
        writeln!(self.notes, "{text}").map_err(|source| Error::Write { source })
    }

    async fn answer(&mut self, text: &str) -> Result<Next> {
        if let Some(command) = text.trim_start().strip_prefix('\\') {
            return self.command(command.trim());
        }
        let statements = split(text).all();
        if self.settings.file.is_some() && statements.len() > 1 {
            return Err(Error::OneStatement { count: statements.len() });
        }
        for statement in statements {
            self.statement(statement).await?;
        }
        Ok(Next::Line)
    }

    async fn statement(&mut self, statement: &str) -> Result<()> {
        let start = Instant::now();
        let interrupt = Arc::clone(&self.interrupt);
        let file = self.settings.file.take();
        let written = tokio::select! {
            written = self.results_of(statement, file.as_deref()) => written?,
            () = interrupt.notified() => return Err(Error::Interrupted),
        };
        if self.settings.quiet {
            return Ok(());
        }
        match file {
            Some(file) => {
                self.note(&format!("{} written to `{}`", rows(written), file.display()))?;
            }
            None if self.settings.format == Format::Table => {
                self.note(&format!("({})", rows(written)))?;
            }
            None => {}
        }
        if self.settings.timing {
            self.note(&format!("took {:.3} s", start.elapsed().as_secs_f64()))?;
        }
        Ok(())
    }

    async fn results_of(&mut self, statement: &str, file: Option<&Path>) -> Result<Written> {
        let Settings { format, file_format, style, .. } = &self.settings;
        if file.is_none() && *format == Format::Parquet {
            return Err(Error::NeedsFile { format: *format });
        }
        let results = self.session.query(statement).await?;
        match file {
            Some(path) => {
                let format = file_format.or_else(|| Format::of_path(path)).unwrap_or(*format);
                write_file(results, format, style, path).await
            }
            None => write_results(results, *format, style, &mut self.results).await,
        }
    }

    fn command(&mut self, text: &str) -> Result<Next> {
        let (name, argument) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        let argument = argument.trim().trim_end_matches(';').trim_end();
        let unknown = || Error::UnknownCommand { text: format!("\\{text}") };
        match (name.trim_end_matches(';'), argument) {
            ("q" | "quit", _) => return Ok(Next::Leave),
            ("d", "") => self.list_tables()?,
            ("d", table) => self.list_columns(table)?,
            ("df", word) => self.list_functions(word)?,
            ("help" | "h" | "?", _) => self.list_commands()?,
            ("format", "") => self.note(&format!("format is {}", self.settings.format))?,
            ("format", format) => match format.parse()? {
                Format::Parquet => return Err(Error::NeedsFile { format: Format::Parquet }),
                format => self.settings.format = format,
            },
            ("limit", "") => {
                self.note(&format!("limit is {} rows", self.settings.style.max_rows))?;
            }
            ("limit", rows) => {
                self.settings.style.max_rows = rows.parse().map_err(|_| unknown())?;
            }
            ("o", file) if !file.is_empty() => {
                self.settings.file = Some(PathBuf::from(file));
                self.settings.file_format = None;
            }
            ("timing", _) => {
                self.settings.timing = !self.settings.timing;
                let state = if self.settings.timing { "on" } else { "off" };
                self.note(&format!("timing is {state}"))?;
            }
            ("x", _) => {
                self.settings.style.layout = match self.settings.style.layout {
                    Layout::Records => Layout::Auto,
                    Layout::Auto | Layout::Rows => Layout::Records,
                };
            }
            _ => return Err(unknown()),
        }
        Ok(Next::Line)
    }

    fn list_tables(&mut self) -> Result<()> {
        let lines = self.session.tables().iter().map(|table| {
            let version = table.version.map_or_else(|| "none yet".to_owned(), |v| v.to_string());
            [table.name.to_owned(), version, table.rows_are.to_owned()]
        });
        let lines: Vec<_> = lines.collect();
        self.list(["table", "version", "a row is"], &lines)
    }

    fn list_columns(&mut self, name: &str) -> Result<()> {
        let columns = self
            .session
            .columns(name)
            .ok_or_else(|| Error::UnknownTable { name: name.to_owned() })?;
        let lines = columns.fields().iter().map(|field| {
            let nullable = if field.is_nullable() { "yes" } else { "no" };
            [field.name().clone(), type_name(field.data_type()), nullable.to_owned()]
        });
        let lines: Vec<_> = lines.collect();
        self.list(["column", "type", "may be NULL"], &lines)
    }

    fn list_functions(&mut self, word: &str) -> Result<()> {
        let word = word.to_lowercase();
        let names: Vec<String> = if word.is_empty() {
            let all = self.session.function_names();
            let of_words = WORD_FUNCTIONS.iter().filter(|name| all.contains(**name));
            let of_times = functions::all().map(|function| function.name().to_owned());
            of_times.chain(of_words.map(|name| (*name).to_owned())).collect()
        } else {
            self.session.function_names().into_iter().filter(|name| name.contains(&word)).collect()
        };
        if names.is_empty() {
            return Err(Error::UnknownFunction { name: word });
        }
        let lines =
            names.into_iter().map(|name| match self.session.function_documentation(&name) {
                Some(about) => [about.syntax_example, about.description],
                None => [name, String::new()],
            });
        let lines: Vec<_> = lines.collect();
        self.list(["function", "what it gives"], &lines)
    }

    fn list_commands(&mut self) -> Result<()> {
        let lines = COMMANDS
            .iter()
            .map(|(name, argument, does)| [format!("{name} {argument}"), (*does).to_owned()]);
        self.list(["command", "what it does"], &lines.collect::<Vec<_>>())
    }

    /// Prints lines of text as a table, whatever the format of results.
    fn list<const COLUMNS: usize>(
        &mut self,
        names: [&str; COLUMNS],
        lines: &[[String; COLUMNS]],
    ) -> Result<()> {
        let failed = |source: datafusion::arrow::error::ArrowError| Error::Encode {
            format: Format::Table,
            source: source.cause(),
        };
        let fields = names.map(|name| Field::new(name, DataType::Utf8, false));
        let schema = Arc::new(Schema::new(Vec::from(fields)));
        let columns = (0..COLUMNS).map(|column| -> ArrayRef {
            Arc::new(lines.iter().map(|line| Some(line[column].as_str())).collect::<StringArray>())
        });
        let batch = RecordBatch::try_new(Arc::clone(&schema), columns.collect()).map_err(failed)?;
        let style = TableStyle { layout: Layout::Rows, ..self.settings.style.clone() };
        let text = table::render(&schema, &[batch], &style).map_err(failed)?;
        let written = self.results.write_all(text.as_bytes());
        written.map_err(|source| Error::Write { source })
    }
}

/// Waits for a line on a thread of its own, since a person may take hours.
async fn read_line(
    mut editor: Editor<Names, FileHistory>,
) -> Result<(Editor<Names, FileHistory>, rustyline::Result<String>)> {
    tokio::task::spawn_blocking(move || {
        let line = editor.readline(PROMPT);
        (editor, line)
    })
    .await
    .map_err(|source| Error::Terminal { source: ReadlineError::Io(source.into()) })
}

fn rows(written: Written) -> String {
    let rows = written.rows;
    match (rows, written.more) {
        (_, true) => format!("{rows} rows, … more rows: a higher limit shows them"),
        (1, false) => "1 row".to_owned(),
        (_, false) => format!("{rows} rows"),
    }
}

/// The name of a type as SQL has it, where SQL has one.
fn type_name(data_type: &DataType) -> String {
    match data_type {
        DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8 => "text".to_owned(),
        DataType::Int64 => "bigint".to_owned(),
        DataType::Int32 => "int".to_owned(),
        DataType::Float64 => "double".to_owned(),
        DataType::Float32 => "real".to_owned(),
        DataType::Boolean => "boolean".to_owned(),
        DataType::Timestamp(_, Some(_)) => "timestamp with time zone".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Lake;
    use rstest::rstest;

    type TestShell = Shell<Vec<u8>, Vec<u8>>;

    async fn shell(lake: &Lake, settings: Settings) -> TestShell {
        let session = lake.open().await.unwrap();
        Shell::new(session, settings, Vec::new(), Vec::new(), Arc::new(Notify::new()))
    }

    async fn csv_shell(lake: &Lake) -> TestShell {
        shell(lake, Settings { format: Format::Csv, ..Settings::default() }).await
    }

    fn results(shell: &TestShell) -> String {
        String::from_utf8(shell.results.clone()).unwrap()
    }

    fn notes(shell: &TestShell) -> String {
        String::from_utf8(shell.notes.clone()).unwrap()
    }

    #[rstest]
    #[case::one("SELECT 1 AS a", "a\n1\n")]
    #[case::two_lines("SELECT\n1 AS a;", "a\n1\n")]
    #[case::two("SELECT 1 AS a; SELECT 2 AS b", "a\n1\nb\n2\n")]
    #[case::comments("-- first\nSELECT 1 AS a; -- last\n", "a\n1\n")]
    #[case::command_between(
        "SELECT 1 AS a;\n\\format ndjson\nSELECT 2 AS b;\n",
        "a\n1\n{\"b\":2}\n"
    )]
    #[case::leaving("SELECT 1 AS a;\n\\q\nSELECT 2 AS b;\n", "a\n1\n")]
    #[case::nothing("\n\n", "")]
    #[tokio::test]
    async fn answers_what_is_piped_in(#[case] input: &str, #[case] expected: &str) {
        let mut shell = csv_shell(&Lake::with_a_night().await).await;
        shell.run_lines(input.as_bytes()).await.unwrap();
        assert_eq!(results(&shell), expected);
    }

    #[rstest]
    #[case::statement("SELECT 1 AS a;\nSELECT nope;\nSELECT 2 AS b;\n")]
    #[case::same_line("SELECT 1 AS a; SELECT nope; SELECT 2 AS b;\n")]
    #[case::command("SELECT 1 AS a;\n\\nope\nSELECT 2 AS b;\n")]
    #[case::write("SELECT 1 AS a;\nDROP TABLE events;\nSELECT 2 AS b;\n")]
    #[tokio::test]
    async fn the_first_error_ends_it(#[case] input: &str) {
        let mut shell = csv_shell(&Lake::with_a_night().await).await;
        shell.run_lines(input.as_bytes()).await.unwrap_err();
        assert_eq!(results(&shell), "a\n1\n");
    }

    #[tokio::test]
    async fn an_interrupt_stops_the_statement_and_not_the_shell() {
        let mut shell = csv_shell(&Lake::with_a_night().await).await;
        let interrupt = Arc::clone(&shell.interrupt);
        let endless = "SELECT sum(v) FROM generate_series(1, 1000000000000) g(v)";
        let running = tokio::spawn(async move {
            let error = shell.run(endless).await.unwrap_err();
            (shell, error)
        });
        while !running.is_finished() {
            interrupt.notify_waiters();
            tokio::task::yield_now().await;
        }
        let (mut shell, error) = running.await.unwrap();
        assert!(matches!(error, Error::Interrupted), "{error}");
        shell.run("SELECT 1 AS a").await.unwrap();
        assert_eq!(results(&shell), "a\n1\n");
    }

    #[tokio::test]
    async fn an_interrupt_while_nothing_runs_is_forgotten() {
        let mut shell = csv_shell(&Lake::with_a_night().await).await;
        shell.interrupt.notify_waiters();
        shell.run("SELECT 1 AS a").await.unwrap();
        assert_eq!(results(&shell), "a\n1\n");
    }

    #[tokio::test]
    async fn tells_about_tables_and_functions() {
        let mut shell = shell(&Lake::with_a_night().await, Settings::default()).await;
        shell.run("\\d").await.unwrap();
        shell.run("\\d events").await.unwrap();
        shell.run("\\df").await.unwrap();
        insta::assert_snapshot!(results(&shell));
    }

    #[tokio::test]
    async fn finds_functions_by_a_word() {
        let mut shell = shell(&Lake::with_a_night().await, Settings::default()).await;
        shell.run("\\df approx_dist").await.unwrap();
        assert!(results(&shell).contains("approx_distinct("), "{}", results(&shell));
        assert!(matches!(shell.run("\\df zzz").await, Err(Error::UnknownFunction { .. })));
        assert!(matches!(shell.run("\\d zzz").await, Err(Error::UnknownTable { .. })));
    }

    #[tokio::test]
    async fn help_names_every_command() {
        let mut shell = shell(&Lake::with_a_night().await, Settings::default()).await;
        shell.run("\\help").await.unwrap();
        for (name, ..) in COMMANDS {
            assert!(results(&shell).contains(name), "{name}");
        }
    }

    #[tokio::test]
    async fn a_table_says_how_many_rows_and_whether_there_are_more() {
        let mut shell = shell(&Lake::with_a_night().await, Settings::default()).await;
        shell.run("SELECT 1 AS a").await.unwrap();
        shell.run("\\limit 2").await.unwrap();
        shell.run("SELECT * FROM generate_series(1, 3)").await.unwrap();
        assert_eq!(notes(&shell), "(1 row)\n(2 rows, … more rows: a higher limit shows them)\n");
        shell.settings.quiet = true;
        shell.run("SELECT 1 AS a").await.unwrap();
        assert_eq!(notes(&shell).lines().count(), 2);
    }

    #[tokio::test]
    async fn timing_is_said_when_asked_for() {
        let mut shell = csv_shell(&Lake::with_a_night().await).await;
        shell.run("\\timing").await.unwrap();
        shell.run("SELECT 1").await.unwrap();
        assert!(notes(&shell).starts_with("timing is on\ntook "), "{}", notes(&shell));
    }

    #[tokio::test]
    async fn the_next_result_goes_to_a_file() {
        let lake = Lake::with_a_night().await;
        let mut shell = csv_shell(&lake).await;
        shell.run(&format!("\\o {}", lake.file("out.ndjson").display())).await.unwrap();
        shell.run("SELECT 1 AS a;").await.unwrap();
        shell.run("SELECT 2 AS b;").await.unwrap();
        assert_eq!(std::fs::read_to_string(lake.file("out.ndjson")).unwrap(), "{\"a\":1}\n");
        assert_eq!(results(&shell), "b\n2\n");
    }

    #[tokio::test]
    async fn a_format_that_was_asked_for_goes_before_the_name_of_the_file() {
        let lake = Lake::with_a_night().await;
        let (file, file_format) = (Some(lake.file("out.txt")), Some(Format::Csv));
        let settings = Settings { file, file_format, ..Settings::default() };
        let mut shell = shell(&lake, settings).await;
        shell.run("SELECT 1 AS a").await.unwrap();
        assert_eq!(std::fs::read_to_string(lake.file("out.txt")).unwrap(), "a\n1\n");
        assert_eq!(
            notes(&shell),
            format!("1 row written to `{}`\n", lake.file("out.txt").display())
        );
    }

    #[tokio::test]
    async fn a_file_takes_one_result() {
        let lake = Lake::with_a_night().await;
        let file = Some(lake.file("out.csv"));
        let mut shell = shell(&lake, Settings { file, ..Settings::default() }).await;
        let error = shell.run("SELECT 1; SELECT 2").await.unwrap_err();
        assert!(matches!(error, Error::OneStatement { count: 2 }), "{error}");
        assert!(!lake.file("out.csv").exists());
    }

    #[tokio::test]
    async fn parquet_does_not_go_to_a_terminal() {
        let settings = Settings { format: Format::Parquet, ..Settings::default() };
        let mut shell = shell(&Lake::with_a_night().await, settings).await;
        let error = shell.run("SELECT 1").await.unwrap_err();
        assert_eq!(error.to_string(), "parquet goes to a file only");
        assert!(matches!(shell.run("\\format parquet").await, Err(Error::NeedsFile { .. })));
    }

    #[tokio::test]
    async fn records_are_printed_on_demand() {
        let mut shell = shell(&Lake::with_a_night().await, Settings::default()).await;
        shell.run("\\x").await.unwrap();
        shell.run("SELECT 1 AS a, NULL AS bc").await.unwrap();
        assert_eq!(results(&shell), "-[ 1 ]--\na  | 1\nbc | NULL\n");
    }
}
