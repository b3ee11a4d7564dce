//! Why a question has no answer.

use std::{fmt, io, path::PathBuf};

use datafusion::error::DataFusionError;

use crate::Format;

/// A failure of one question, or of opening the tables.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing has been published here.
    #[error("no tables at `{uri}`: run `eventide index` first")]
    NoTables {
        /// Where tables were looked for.
        uri: String,
    },
    /// Not an address.
    #[error("`{uri}` is not an address")]
    Address {
        /// What was given.
        uri: String,
        /// What is wrong with it.
        source: url::ParseError,
    },
    /// A table cannot be opened at the version that the newest run names.
    #[error("cannot open the table `{uri}`")]
    OpenTable {
        /// Where the table is.
        uri: String,
        /// What Delta Lake says.
        source: Cause,
    },
    /// Nothing was published by then.
    #[error("nothing was published as of {as_of}")]
    NotYet {
        /// The moment that was asked for.
        as_of: String,
    },
    /// No such run is in the table `runs`.
    #[error("no run `{run}` is published")]
    UnknownRun {
        /// What was asked for.
        run: String,
    },
    /// A table of an earlier night, and not said which.
    #[error("`{table}_at` takes one run, version or time, written out: `{table}_at('2026-11-24')`")]
    WhichNight {
        /// The table.
        table: &'static str,
    },
    /// A token that could be guessed, or cannot be sent.
    #[error("the token must be {least} visible ASCII characters or more")]
    WeakToken {
        /// Characters that it must have.
        least: usize,
    },
    /// A name that no header can have.
    #[error("no header can be called `{name}`")]
    HeaderName {
        /// What was given.
        name: String,
    },
    /// Statements or pages cannot be served.
    #[error("cannot serve")]
    Serve {
        /// What the server says.
        source: Cause,
    },
    /// The query engine cannot be set up.
    #[error("cannot set up the query engine")]
    Engine {
        /// What the engine says.
        source: Cause,
    },
    /// The statement is wrong: its syntax, a name, a type.
    #[error("cannot plan the statement")]
    Plan {
        /// What the engine says, with the names that it would suggest.
        source: Cause,
    },
    /// The statement would change something.
    #[error("refused, since this session only reads")]
    ReadOnly {
        /// What kind of statement it is.
        source: Cause,
    },
    /// The statement would change something else than what it may.
    #[error("refused, since this session writes only below `{place}`")]
    WritesElsewhere {
        /// Where it may write.
        place: String,
        /// What the statement would do.
        source: Cause,
    },
    /// The statement failed while it ran.
    #[error("the statement failed")]
    Run {
        /// What the engine says.
        source: Cause,
    },
    /// The results cannot be written to where they go.
    #[error("cannot write the results")]
    Write {
        /// What the system says.
        source: io::Error,
    },
    /// The results cannot be written to a file.
    #[error("cannot write `{}`", path.display())]
    WriteFile {
        /// The file that was to be.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The results hold a value that the format cannot.
    #[error("cannot write the results as {format}")]
    Encode {
        /// The format.
        format: Format,
        /// What its writer says.
        source: Cause,
    },
    /// In this format a row can hold only one value under a name.
    #[error("two columns are called `{name}`: name them apart with `AS`")]
    DuplicateColumn {
        /// The name.
        name: String,
    },
    /// A format that goes to files only.
    #[error("{format} goes to a file only")]
    NeedsFile {
        /// The format.
        format: Format,
    },
    /// A file takes the results of one statement.
    #[error("a file takes the results of one statement, not of {count}")]
    OneStatement {
        /// How many there are.
        count: usize,
    },
    /// No format of this name.
    #[error("unknown format `{text}`: give one of table, csv, json, ndjson, parquet")]
    UnknownFormat {
        /// What was given.
        text: String,
    },
    /// No command of the shell of this name.
    #[error("unknown command `{text}`: `\\help` lists them")]
    UnknownCommand {
        /// What was given.
        text: String,
    },
    /// No table of this name.
    #[error("unknown table `{name}`: `\\d` lists them")]
    UnknownTable {
        /// What was given.
        name: String,
    },
    /// No function of this name.
    #[error("no function whose name has `{name}` in it")]
    UnknownFunction {
        /// What was given.
        name: String,
    },
    /// Statements cannot be read from where they come from.
    #[error("cannot read statements")]
    ReadStatements {
        /// What the system says.
        source: io::Error,
    },
    /// The terminal cannot be used.
    #[error("cannot use the terminal")]
    Terminal {
        /// What the line editor says.
        source: rustyline::error::ReadlineError,
    },
    /// No export of this name.
    #[error("unknown target `{text}`: give one of {}", targets())]
    UnknownTarget {
        /// What was given.
        text: String,
    },
    /// The reader has a version that the tables do not have yet.
    #[error("version {given} is newer than the tables, which are at version {newest}")]
    NewerThanTables {
        /// The version that was given.
        given: u64,
        /// The newest that is published.
        newest: u64,
    },
    /// What changed is not known any more: its log or files have been cleaned away.
    #[error("cannot tell what changed in `{table}` from version {from} to {to}")]
    ChangesGone {
        /// The table.
        table: &'static str,
        /// The first version that is wanted.
        from: u64,
        /// The last.
        to: u64,
        /// What Delta Lake says.
        source: Cause,
    },
    /// The folder of an export cannot be used.
    #[error("cannot {action} `{uri}`")]
    Place {
        /// What was to be done.
        action: &'static str,
        /// Where.
        uri: String,
        /// What the store says.
        source: Cause,
    },
    /// A receipt of an export cannot be read.
    #[error("`{uri}` is not a receipt of this program")]
    Receipt {
        /// Where it is.
        uri: String,
        /// What is wrong with it.
        source: Cause,
    },
    /// The address of a search engine is no good.
    #[error("the address of the search engine is no good: {problem}")]
    SearchAddress {
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A search engine cannot be asked, or says no.
    #[error("the search engine at `{url}` did not take the documents")]
    SearchEngine {
        /// Where it is.
        url: String,
        /// What it says.
        source: Cause,
    },
    /// Documents of this target have no place for vectors.
    #[error("{target} takes no vectors")]
    NoVectors {
        /// The target.
        target: crate::export::Target,
    },
    /// Captions cannot become vectors.
    #[error("captions cannot become vectors")]
    Embed {
        /// What the model says.
        source: Cause,
    },
    /// An index holds the events of other tables.
    #[error("the index `{index}` holds the events of other tables")]
    OtherTables {
        /// The index.
        index: String,
    },
    /// A search engine refused documents.
    #[error("the search engine refused {count} documents: {because}")]
    Rejected {
        /// How many.
        count: u64,
        /// What it said of the first.
        because: String,
    },
    /// The words of a search cannot be understood.
    #[error("cannot understand the words `{text}`")]
    SearchQuery {
        /// The words, shortened.
        text: String,
        /// What is wrong with them.
        source: Cause,
    },
    /// The search index cannot be read or written.
    #[error("cannot use the search index in `{}`", folder.display())]
    SearchIndex {
        /// The folder that it is kept in.
        folder: PathBuf,
        /// What is wrong with it.
        source: Cause,
    },
    /// A person asked to stop.
    #[error("interrupted")]
    Interrupted,
}

impl Error {
    /// What the reader can do about it, where there is something to say.
    #[must_use]
    pub fn help(&self) -> Option<&'static str> {
        match self {
            Self::NoTables { .. } => Some("or name another place with --tables"),
            Self::ReadOnly { .. } => Some(
                "to keep results, write them to a file: --out FILE, or `\\o FILE` in the shell; --write names a place to write below",
            ),
            Self::UnknownRun { .. } => {
                Some("`SELECT run_id, finished_at FROM runs` says which there are")
            }
            Self::WeakToken { .. } => Some("make one by `openssl rand -hex 32`"),
            Self::HeaderName { .. } => Some("a name such as `x-forwarded-user` will do"),
            Self::NeedsFile { .. } => Some("name it: --out FILE, or `\\o FILE` in the shell"),
            Self::ChangesGone { .. } => Some("export everything: --full"),
            Self::NewerThanTables { .. } => Some(
                "it is a version of other tables, or these were made anew: --full exports everything",
            ),
            Self::SearchAddress { .. } => Some(
                "give it as `https://host:9200`; EVENTIDE_SEARCH_AUTHORIZATION holds what is secret",
            ),
            Self::SearchEngine { .. } => {
                Some("run the same command again: what has arrived does no harm twice")
            }
            Self::OtherTables { .. } => Some(
                "give another --index, or delete this one: the versions of other tables, or of tables that were made anew, mean nothing to it",
            ),
            Self::Rejected { .. } => Some(
                "the index must know the fields of `schemas/search`; the same command sends what is missing",
            ),
            Self::SearchIndex { .. } => Some("the folder may be removed: the index is built again"),
            _ => None,
        }
    }

    /// Whether the reader of the results has gone, as `head` does when it has read enough.
    #[must_use]
    pub fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Write { source } if source.kind() == io::ErrorKind::BrokenPipe)
    }

    /// The error and its causes on one line.
    #[must_use]
    pub fn with_causes(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text = format!("{text}: {error}");
            cause = error.source();
        }
        text
    }
}

/// The names of what can be exported.
fn targets() -> String {
    crate::export::Target::ALL.map(|(name, _)| name).join(", ")
}

/// What a library below says.
///
/// Its text holds its own causes already, so it ends the chain: each thing is said once.
#[derive(Debug)]
pub struct Cause(Box<dyn std::error::Error + Send + Sync>);

impl Cause {
    /// The library's error itself, to be downcast.
    #[must_use]
    pub fn inner(&self) -> &(dyn std::error::Error + Send + Sync + 'static) {
        self.0.as_ref()
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.downcast_ref::<DataFusionError>() {
            Some(error) => f.write_str(error.strip_backtrace().trim_end()),
            None => self.0.fmt(f),
        }
    }
}

impl std::error::Error for Cause {}

impl<E: Into<Box<dyn std::error::Error + Send + Sync>>> CauseFrom for E {}

/// Any error of a library as a [`Cause`].
pub(crate) trait CauseFrom: Into<Box<dyn std::error::Error + Send + Sync>> {
    /// Ends the chain here.
    fn cause(self) -> Cause {
        Cause(self.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chain_says_each_thing_once() {
        let inner = DataFusionError::Plan("no field `captoin`".to_owned());
        let error = Error::Plan { source: inner.context("while planning").cause() };
        let text = error.with_causes();
        assert_eq!(text.matches("captoin").count(), 1, "{text}");
        assert!(text.starts_with("cannot plan the statement: "), "{text}");
    }

    #[test]
    fn a_closed_pipe_is_told_from_other_faults() {
        let fault = |kind: io::ErrorKind| Error::Write { source: kind.into() };
        assert!(fault(io::ErrorKind::BrokenPipe).is_closed_pipe());
        assert!(!fault(io::ErrorKind::StorageFull).is_closed_pipe());
    }
}
