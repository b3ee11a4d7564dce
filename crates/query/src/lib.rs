//! The read side: SQL over the published tables, results in files and formats, and a shell.
//!
//! Cannot write the published tables: every statement that would is refused, and they are opened without
//! the handle that a write needs. Other places only where the program names one. Reads neither the environment nor standard input, and prints
//! only to the writers that it is given.
//!
//! * [`Session`]: `events`, `videos` and `runs` of one night, and the time functions.
//! * [`AsOf`]: which night that is.
//! * [`flight`]: the same for others, over Flight SQL.
//! * [`SearchIndex`]: full-text search over the events, also as `search(...)` and `matches(...)` in SQL.
//! * [`Page`]: the page to find and watch events, and the HTTP API behind it.
//! * [`functions`]: what `timecode`, `overlaps` and their like do.
//! * [`write_results`], [`write_file`]: results as table, CSV, JSON or Parquet.
//! * [`export()`](export::export): the night's difference for search engines and players.
//! * [`Shell`]: statements and `\` commands from a person, a file or a pipe.

mod completion;
mod earlier;
mod embedder;
mod error;
pub mod export;
pub mod flight;
pub mod functions;
mod http;
mod output;
mod permission;
mod search;
mod session;
mod shell;
mod snapshot;
mod statements;
pub mod subtitles;
mod table;
#[cfg(test)]
mod testing;

pub use embedder::{Embed, Embedder};
pub use error::{Cause, Error};
pub use http::{
    Guard, Locate, Moment, Page, Pictures, Record, RecordError, Reference, References, Served,
    open_api,
};
pub use output::{Format, Written, write_file, write_results};
pub use search::{Filters, Hits, MOST_HITS, SearchIndex, SearchOptions, hits_schema};
pub use session::{Options, Session};
pub use shell::{LineEditor, Settings, Shell};
pub use snapshot::{AsOf, Table};
pub use table::{Layout, TableStyle};

/// The answer or an [`Error`].
pub type Result<T> = std::result::Result<T, Error>;
