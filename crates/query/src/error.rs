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
    /// The page cannot be served.
    #[error("cannot serve the page")]
    Serve {
        /// What the system says.
        source: io::Error,
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
            Self::NeedsFile { .. } => Some("name it: --out FILE, or `\\o FILE` in the shell"),
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
