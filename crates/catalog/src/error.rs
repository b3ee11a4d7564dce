//! What can go wrong between this program and the object store. Each error names the place.

use std::io;

use arrow::error::ArrowError;
use deltalake_core::DeltaTableError;
use parquet::errors::ParquetError;

/// The result of the catalog's work.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure to read or change what lies in the object store.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The text is not the address of a store that this program knows.
    #[error("`{uri}` is not a usable address: {because}")]
    Address {
        /// As it was given.
        uri: String,
        /// What is wrong with it.
        because: &'static str,
    },
    /// The settings of a store do not fit together.
    #[error("the settings for `{uri}` are not usable")]
    Settings {
        /// The store.
        uri: String,
        /// What the store's client said.
        source: object_store::Error,
    },
    /// The store did not answer, or answered with a failure of its own.
    #[error(
        "cannot {action} `{uri}`; check that the store answers at its endpoint, and the region and network"
    )]
    Unreachable {
        /// What was tried, such as `read`.
        action: &'static str,
        /// Where.
        uri: String,
        /// What the store's client said.
        source: object_store::Error,
    },
    /// The store refused.
    #[error("not allowed to {action} `{uri}`; check the credentials and the policy of the bucket")]
    Denied {
        /// What was tried.
        action: &'static str,
        /// Where.
        uri: String,
        /// What the store's client said.
        source: object_store::Error,
    },
    /// The store answered that it cannot be done.
    #[error("cannot {action} `{uri}`")]
    Store {
        /// What was tried.
        action: &'static str,
        /// Where.
        uri: String,
        /// What the store's client said.
        source: object_store::Error,
    },
    /// The store refused to write what is there already, and then had nothing there: an answer of its own
    /// was lost or wrong, and the next one may be right.
    #[error("the store says of `{uri}` that it exists, and that it does not")]
    Contradiction {
        /// What was to be written.
        uri: String,
        /// What the store's client said.
        source: object_store::Error,
    },
    /// There is nothing there.
    #[error("`{uri}` does not exist")]
    NotFound {
        /// Where something was expected.
        uri: String,
    },
    /// The listing of a corpus is not in the order of its keys, so side-cars cannot be matched.
    #[error(
        "the listing of `{uri}` is not sorted: `{key}` came late; switch transcripts beside videos off"
    )]
    Unsorted {
        /// The corpus.
        uri: String,
        /// The key that is out of place.
        key: String,
    },
    /// Folders within folders without end, such as a link to a parent.
    #[error("the folders of `{uri}` are nested deeper than {limit}")]
    TooDeep {
        /// The folder at which the listing stopped.
        uri: String,
        /// The limit.
        limit: usize,
    },
    /// A pattern of the job is not a glob.
    #[error("`{pattern}` is not a usable pattern")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// Why.
        source: globset::Error,
    },
    /// The corpus lists nothing, though the tables hold rows of it.
    #[error(
        "the corpus lists nothing, but the tables hold {known} videos; allow an empty corpus to remove them"
    )]
    EmptyListing {
        /// Rows of `videos`.
        known: usize,
    },
    /// The outcomes are not those of the shard.
    #[error("the outcomes of shard `{shard_id}` are not those that were asked for: {because}")]
    WrongOutcomes {
        /// The shard.
        shard_id: String,
        /// What does not fit.
        because: String,
    },
    /// A document of ours cannot be read.
    #[error("`{uri}` cannot be understood")]
    Document {
        /// The document.
        uri: String,
        /// Why.
        source: serde_json::Error,
    },
    /// A document of ours was written by another version of this program.
    #[error("`{uri}` has format version {found}; this program reads {expected}")]
    Format {
        /// The document.
        uri: String,
        /// Its version.
        found: u32,
        /// Ours.
        expected: u32,
    },
    /// A Parquet file cannot be read or written.
    #[error("cannot {action} the Parquet file `{uri}`")]
    Parquet {
        /// What was tried.
        action: &'static str,
        /// The file.
        uri: String,
        /// Why.
        source: ParquetError,
    },
    /// Rows do not have the columns of their table.
    #[error("the rows of `{uri}` do not fit its table")]
    Rows {
        /// The file or table.
        uri: String,
        /// Why.
        source: ArrowError,
    },
    /// The log of a Delta table cannot be read or written.
    #[error("cannot {action} the table `{uri}`")]
    Delta {
        /// What was tried.
        action: &'static str,
        /// The table.
        uri: String,
        /// Why.
        source: Box<DeltaTableError>,
    },
    /// Someone has given the table a feature that this program would destroy.
    #[error("the table `{uri}` uses {feature}, which this program does not write; purge it first")]
    Unsupported {
        /// The table.
        uri: String,
        /// The feature.
        feature: &'static str,
    },
    /// Others changed the table each time that it was tried.
    #[error(
        "the table `{uri}` was changed by others {attempts} times while this run was published"
    )]
    Contended {
        /// The table or folder.
        uri: String,
        /// How often it was tried.
        attempts: usize,
    },
    /// The newest version of a table is a part of a night.
    #[error("a night is being published to `{uri}`; wait until it is, or run its job again")]
    Publishing {
        /// The table.
        uri: String,
    },
    /// A run whose sums are off is not published.
    #[error("run `{run_id}` does not add up, so nothing is published: {because}")]
    Unbalanced {
        /// The run.
        run_id: String,
        /// Which sum.
        because: String,
    },
    /// Another process has published, or is about to publish, other work under the same run.
    #[error("run `{run_id}` is published by another process at the same time; run the job again")]
    RunTaken {
        /// The run.
        run_id: String,
    },
    /// A model bundle differs from what it says about itself.
    #[error("the file `{uri}` of the model bundle is damaged: {because}")]
    DamagedBundle {
        /// The file.
        uri: String,
        /// What does not fit.
        because: String,
    },
    /// A file of this machine cannot be read or written.
    #[error("cannot {action} `{path}`")]
    Disk {
        /// What was tried.
        action: &'static str,
        /// Where.
        path: String,
        /// Why.
        source: io::Error,
    },
}

impl Error {
    /// The error for `source`, by what a person can do about it.
    pub(crate) fn store(
        action: &'static str,
        uri: impl Into<String>,
        source: object_store::Error,
    ) -> Self {
        use object_store::Error as E;
        let uri = uri.into();
        match source {
            E::NotFound { .. } => Self::NotFound { uri },
            E::PermissionDenied { .. } | E::Unauthenticated { .. } => {
                Self::Denied { action, uri, source }
            }
            E::Generic { .. } | E::JoinError { .. } => Self::Unreachable { action, uri, source },
            source => Self::Store { action, uri, source },
        }
    }

    /// Whether the same work may succeed later without anyone changing anything.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. }
            | Self::Contradiction { .. }
            | Self::Contended { .. }
            | Self::Publishing { .. }
            | Self::RunTaken { .. } => true,
            Self::Denied { source, .. } => is_transient_failure(source),
            // Documents are written whole: one that breaks off was read in part.
            Self::Document { source, .. } => source.is_eof(),
            Self::Parquet { source, .. } => is_transient_within(source),
            Self::Delta { source, .. } => {
                matches!(**source, DeltaTableError::VersionAlreadyExists(_))
                    || is_transient_within(source.as_ref())
            }
            _ => false,
        }
    }
}

/// Whether what a store says may pass without anyone changing anything. Credentials that have run out may be renewed any
/// moment; a right that somebody has not is not given by waiting.
#[must_use]
pub fn is_transient_failure(error: &object_store::Error) -> bool {
    use object_store::Error as E;
    matches!(error, E::Generic { .. } | E::JoinError { .. } | E::Unauthenticated { .. })
}

/// Whether a store's passing failure is what is at the bottom of `error`.
fn is_transient_within(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<object_store::Error>() {
            return is_transient_failure(error);
        }
        // It does not give what it wraps as its source.
        if let Some(delta_kernel::Error::ObjectStore(error)) = error.downcast_ref() {
            return is_transient_failure(error);
        }
        // An `io::Error` gives the source of what it wraps, and so hides what it wraps.
        let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = match wrapped {
            Some(wrapped) => Some(wrapped),
            None => error.source(),
        };
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn store_error(source: object_store::Error) -> Error {
        Error::store("read", "s3://b/k", source)
    }

    #[rstest]
    #[case::server_error(
        object_store::Error::Generic { store: "S3", source: "503".into() },
        true,
        "check that the store answers"
    )]
    #[case::gone(
        object_store::Error::NotFound { path: "k".to_owned(), source: "404".into() },
        false,
        "does not exist"
    )]
    #[case::denied(
        object_store::Error::PermissionDenied { path: "k".to_owned(), source: "403".into() },
        false,
        "check the credentials"
    )]
    fn says_where_and_whether_a_retry_helps(
        #[case] source: object_store::Error,
        #[case] transient: bool,
        #[case] says: &str,
    ) {
        let error = store_error(source);
        assert_eq!(error.is_transient(), transient);
        let text = error.to_string();
        assert!(text.contains("`s3://b/k`") && text.contains(says), "{text}");
    }

    /// What a store says, and whether it may pass.
    fn said() -> [(object_store::Error, bool); 3] {
        let path = || "k".to_owned();
        [
            (object_store::Error::Generic { store: "S3", source: "reset".into() }, true),
            (object_store::Error::Unauthenticated { path: path(), source: "401".into() }, true),
            (object_store::Error::PermissionDenied { path: path(), source: "403".into() }, false),
        ]
    }

    #[test]
    fn credentials_that_ran_out_may_be_renewed() {
        for (source, transient) in said() {
            assert_eq!(store_error(source).is_transient(), transient);
        }
    }

    #[rstest]
    #[case::bare(|inner| ParquetError::External(Box::new(inner)))]
    #[case::wrapped(|inner| ParquetError::External(Box::new(io::Error::other(inner))))]
    fn a_store_fault_inside_parquet_stays_what_it_is(
        #[case] wrap: fn(object_store::Error) -> ParquetError,
    ) {
        let parquet =
            |source| Error::Parquet { action: "read", uri: "s3://b/k".to_owned(), source };
        for (inner, transient) in said() {
            assert_eq!(parquet(wrap(inner)).is_transient(), transient);
        }
        assert!(!parquet(ParquetError::EOF("short".to_owned())).is_transient());
    }

    #[rstest]
    #[case::bare(|source| DeltaTableError::ObjectStore { source })]
    #[case::of_the_log(|source| delta_kernel::Error::ObjectStore(source).into())]
    fn a_store_fault_inside_delta_stays_what_it_is(
        #[case] wrap: fn(object_store::Error) -> DeltaTableError,
    ) {
        for (inner, transient) in said() {
            let source = Box::new(wrap(inner));
            let error = Error::Delta { action: "read", uri: "s3://b/t".to_owned(), source };
            assert_eq!(error.is_transient(), transient, "{error:?}");
        }
    }
}
