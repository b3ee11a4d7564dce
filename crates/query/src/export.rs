//! Exports: the night's difference, or everything, for search engines and players.
//!
//! `documents` says which rows and in what order, `embeddings` adds vectors, `encode` writes them as a format has them, `folder` and
//! `bulk` bring them to where they go, `stale` finds what a search engine has and the tables have not, `sidecars` writes
//! a file a video, `receipt` is the memory of it all, and `mappings` says what the engines should know of the fields. The same versions of the tables give the same
//! bytes, so an export that was cut off is run again, and what had arrived is not sent twice.

mod bulk;
mod documents;
mod embeddings;
mod encode;
mod folder;
pub mod mappings;
mod receipt;
mod sidecars;
mod stale;

use std::{fmt, str::FromStr, sync::Arc};

use futures::TryStreamExt;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt, path::Path};
use url::Url;

pub use bulk::SearchEngine;
pub use embeddings::can_have_vectors;
pub use receipt::{PartReceipt, Receipt};

use crate::{Embedder, Error, Options, Result, Session, error::CauseFrom};
use documents::Rows;
use receipt::{Receipts, Series};

/// What an export writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// Lines for `_bulk` of `OpenSearch`.
    Opensearch,
    /// Lines for `_bulk` of Elasticsearch: the same lines, another mapping.
    Elasticsearch,
    /// One document a line, deletes as documents with `deleted`: Quickwit only appends.
    Quickwit,
    /// One document a line; identifiers to delete as a JSON array.
    Meilisearch,
    /// One document a line; what to delete as filters, one a line.
    Typesense,
    /// One `put` or `remove` a line, as `vespa feed` reads them.
    Vespa,
    /// One document a line, deletes as documents with `deleted`.
    Ndjson,
    /// Rows with a header, deletes as rows with `deleted`.
    Csv,
    /// Zstandard, deletes as rows with `deleted`.
    Parquet,
    /// A WebVTT file a video: its events as chapters.
    Chapters,
    /// A WebVTT file a video: its events as JSON, for programs in a page.
    Metadata,
    /// A WebVTT file a video: what is said.
    Subtitles,
    /// A SubRip file a video: what is said.
    Srt,
    /// A file a video: schema.org `VideoObject` with a `Clip` an event.
    JsonLd,
}

impl Target {
    /// Every target, by its name.
    pub const ALL: [(&'static str, Self); 14] = [
        ("opensearch", Self::Opensearch),
        ("elasticsearch", Self::Elasticsearch),
        ("quickwit", Self::Quickwit),
        ("meilisearch", Self::Meilisearch),
        ("typesense", Self::Typesense),
        ("vespa", Self::Vespa),
        ("ndjson", Self::Ndjson),
        ("csv", Self::Csv),
        ("parquet", Self::Parquet),
        ("webvtt-chapters", Self::Chapters),
        ("webvtt-metadata", Self::Metadata),
        ("webvtt", Self::Subtitles),
        ("srt", Self::Srt),
        ("json-ld", Self::JsonLd),
    ];

    /// Whether it writes a file a video.
    #[must_use]
    pub fn is_sidecar(self) -> bool {
        matches!(self, Self::Chapters | Self::Metadata | Self::Subtitles | Self::Srt | Self::JsonLd)
    }

    /// Whether a search engine can be asked to take it while it is made.
    #[must_use]
    pub fn is_live(self) -> bool {
        matches!(self, Self::Opensearch | Self::Elasticsearch)
    }

    /// The table whose versions count.
    #[must_use]
    pub fn table(self) -> &'static str {
        match self {
            Self::Subtitles | Self::Srt => "transcripts",
            _ => "events",
        }
    }

    /// How the names of its files end.
    fn extension(self) -> &'static str {
        match self {
            Self::Opensearch
            | Self::Elasticsearch
            | Self::Quickwit
            | Self::Meilisearch
            | Self::Ndjson => "ndjson",
            Self::Typesense | Self::Vespa => "jsonl",
            Self::Csv => "csv",
            Self::Parquet => "parquet",
            Self::Chapters => "chapters.vtt",
            Self::Metadata => "metadata.vtt",
            Self::Subtitles => "vtt",
            Self::Srt => "srt",
            Self::JsonLd => "jsonld",
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::ALL.iter().find(|(_, target)| target == self).map(|(name, _)| name);
        f.pad(name.unwrap_or(&""))
    }
}

impl FromStr for Target {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let target = Self::ALL.iter().find(|(name, _)| *name == text).map(|(_, target)| *target);
        target.ok_or_else(|| Error::UnknownTarget { text: text.to_owned() })
    }
}

/// What has changed since when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// The newest receipt; everything where there is none.
    LastReceipt,
    /// This version of the table, which the reader has.
    Version(u64),
    /// Everything that is there now.
    Full,
}

/// How an export is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportOptions {
    /// What is written.
    pub target: Target,
    /// What of it.
    pub since: Since,
    /// Name of the index, for the targets that say it in each line: lower-case letters, digits, `-` and `_`.
    pub index: String,
    /// Where a reader of a document is sent: text with `{uri}`, `{video_id}`, `{event_id}`, and `{start}` and
    /// `{end}` in seconds.
    pub link: String,
    /// The address of a picture, likewise; documents have none without it.
    pub thumbnail: Option<String>,
    /// Who makes vectors of captions; documents have none without.
    pub embedder: Option<Embedder>,
    /// Bytes of a part, about; the body of one request. 5 to 15 MB suit the engines.
    pub part_bytes: usize,
}

impl ExportOptions {
    /// The address of the video with a media fragment (W3C Media Fragments URI 1.0, 4.2.1).
    pub const MEDIA_FRAGMENT: &str = "{uri}#t={start},{end}";
}

/// A folder in a store.
#[derive(Clone)]
pub struct Place {
    store: Arc<dyn ObjectStore>,
    folder: Path,
    uri: String,
}

impl fmt::Debug for Place {
    /// The address only: a store may hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Place").field(&self.uri).finish()
    }
}

impl Place {
    /// The folder at `uri`, with `store` as the whole of its bucket, or the file system from its root.
    ///
    /// # Errors
    /// [`Error::Address`], [`Error::Place`] for a path that the store cannot have.
    pub fn new(store: Arc<dyn ObjectStore>, uri: &str) -> Result<Self> {
        let uri = uri.trim_end_matches('/').to_owned();
        let wrong = |source| Error::Address { uri: uri.clone(), source };
        let url = Url::parse(&uri).map_err(wrong)?;
        let folder = Path::from_url_path(url.path()).map_err(|source| Error::Place {
            action: "use",
            uri: uri.clone(),
            source: source.cause(),
        })?;
        Ok(Self { store, folder, uri })
    }

    /// Something below it, by its slash-separated parts.
    fn path(&self, relative: &str) -> Path {
        relative.split('/').fold(self.folder.clone(), Path::join)
    }

    fn error(&self, action: &'static str, relative: &str, source: object_store::Error) -> Error {
        Error::Place { action, uri: format!("{}/{relative}", self.uri), source: source.cause() }
    }

    async fn put(&self, relative: &str, bytes: Vec<u8>) -> Result<()> {
        let put = self.store.put(&self.path(relative), bytes.into()).await;
        put.map(drop).map_err(|source| self.error("write", relative, source))
    }

    async fn exists(&self, relative: &str) -> Result<bool> {
        match self.store.head(&self.path(relative)).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(source) => Err(self.error("read", relative, source)),
        }
    }

    /// Everything below something.
    async fn list(&self, relative: &str) -> Result<Vec<ObjectMeta>> {
        let found = self.store.list(Some(&self.path(relative))).try_collect().await;
        found.map_err(|source| self.error("list", relative, source))
    }

    /// Removes objects, which may have gone already.
    async fn remove_all(&self, objects: impl IntoIterator<Item = Path>) -> Result<()> {
        for object in objects {
            match self.store.delete(&object).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                Err(source) => return Err(self.error("remove", object.as_ref(), source)),
            }
        }
        Ok(())
    }

    /// Removes something, which may have gone already.
    async fn remove(&self, relative: &str) -> Result<()> {
        match self.store.delete(&self.path(relative)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(source) => Err(self.error("remove", relative, source)),
        }
    }
}

/// How far an export is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// Documents, or videos where each has a file, that are written.
    pub upserts: u64,
    /// Documents or files that are removed.
    pub deletes: u64,
    /// Bytes that went out.
    pub bytes: u64,
}

/// What an export came to.
#[derive(Debug, Clone, PartialEq)]
pub enum Exported {
    /// No run has published a row of the table.
    NothingPublished,
    /// Whoever reads this has the newest version.
    UpToDate {
        /// That version.
        version: u64,
    },
    /// It is out.
    Done(Box<Receipt>),
}

/// Where an export goes to.
#[derive(Debug, Clone, Copy)]
pub enum Destination<'a> {
    /// Files in a folder, with receipts.
    Folder(&'a Place),
    /// A search engine that runs. Receipts, and how far it came, are kept in the folder where there is one.
    Engine(&'a SearchEngine, Option<&'a Place>),
}

impl<'a> Destination<'a> {
    fn folder(self) -> Option<&'a Place> {
        match self {
            Self::Folder(place) => Some(place),
            Self::Engine(_, place) => place,
        }
    }

    fn url(self) -> Option<&'a str> {
        match self {
            Self::Folder(_) => None,
            Self::Engine(engine, _) => Some(engine.url()),
        }
    }
}

/// Exports from the tables at `tables`, and tells `told` after each part.
///
/// Receipts say where an export goes on: those of the same tables, target, index, address and templates. Anything else
/// is another export, which begins with everything. An export of everything also removes what has gone, from search
/// engines and among files of videos.
///
/// # Errors
/// Those of [`Session::open`]; [`Error::ChangesGone`] where the tables have forgotten what changed;
/// [`Error::NewerThanTables`]; [`Error::NoVectors`], [`Error::Embed`]; [`Error::Place`] and [`Error::Receipt`] of the folder; [`Error::SearchEngine`] of the
/// search engine, [`Error::OtherTables`] where its index holds others, and [`Error::Rejected`] where it refused
/// documents. After an error the same export can be run again.
pub async fn export(
    tables: &Place,
    options: &ExportOptions,
    destination: Destination<'_>,
    told: &mut (dyn FnMut(Progress) + Send),
) -> Result<Exported> {
    if options.embedder.is_some() && !can_have_vectors(options.target) {
        return Err(Error::NoVectors { target: options.target });
    }
    let store = Arc::clone(&tables.store);
    let session = Session::open(store, &tables.uri, &Options::default()).await?;
    let table = session.tables().iter().find(|table| table.name == options.target.table());
    let Some((table, to)) = table.and_then(|table| Some((table, table.version?))) else {
        return Ok(Exported::NothingPublished);
    };
    let series = Series::of(options, &tables.uri, table.id.as_deref(), destination.url());
    let receipts = destination.folder().map(|place| Receipts::new(place, &series));
    let from = match (options.since, &receipts) {
        (Since::Full, _) | (Since::LastReceipt, None) => None,
        (Since::Version(version), _) => Some(version),
        (Since::LastReceipt, Some(receipts)) => receipts.newest().await?,
    };
    match from {
        Some(from) if from > to => return Err(Error::NewerThanTables { given: from, newest: to }),
        Some(from) if from == to => return Ok(Exported::UpToDate { version: to }),
        _ => {}
    }
    let rows = Rows { session: &session, from, to };
    let mut receipt = Receipt::begin(&series, from, to);
    match destination {
        Destination::Folder(place) if options.target.is_sidecar() => {
            sidecars::write(&rows, options, place, &mut receipt, told).await?;
        }
        Destination::Folder(place) => {
            folder::write(&rows, options, place, &mut receipt, told).await?;
        }
        Destination::Engine(engine, _) => {
            bulk::load(&rows, options, engine, receipts.as_ref(), &mut receipt, told).await?;
        }
    }
    if let Some(receipts) = receipts {
        receipts.keep(&receipt).await?;
    }
    Ok(Exported::Done(Box::new(receipt)))
}

#[cfg(test)]
mod tests;
