//! Bringing the index to a version of the table: by the change data feed where it can be continued, else anew.

use data_encoding::HEXLOWER;
use std::{path::Path, sync::Arc, time::Duration};

use datafusion::{
    arrow::array::{AsArray, RecordBatch},
    arrow::{compute::cast, datatypes::DataType},
    dataframe::DataFrame,
    execution::runtime_env::RuntimeEnv,
    prelude::{SessionConfig, SessionContext},
};
use deltalake_core::{DeltaTable, delta_datafusion::DeltaCdfTableProvider};
use futures::TryStreamExt;
use object_store::ObjectStore;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tantivy::{Index, IndexWriter, TantivyError, Term, directory::MmapDirectory};
use tokio::sync::Semaphore;
use url::Url;

use super::{SearchIndex, SearchOptions, document, index_error};
use crate::{Error, Result, error::CauseFrom, snapshot};

/// Changes with the fields, so that an index of another program is left alone.
const FORMAT: &str = "events-3";
/// Likewise with how vectors are kept.
const VECTORS: &str = "vectors-1";
/// Indexes of earlier versions that are kept beside that of the newest.
const EARLIER_KEPT: usize = 4;
/// Bytes that are gathered before they are written as a part of the index.
const MEMORY: usize = 64 << 20;
/// Threads that write.
const THREADS: usize = 2;
/// How long another process may write before another folder is looked for.
const PATIENCE: Duration = Duration::from_mins(1);
/// How often it is looked whether it has ended.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Indexes of a process are written one at a time: each takes memory and threads.
static BUILDING: Semaphore = Semaphore::const_new(1);

/// The last change of each event: in one commit a row that comes outranks the one that goes.
const LAST_CHANGES: &str = "SELECT * FROM (SELECT *, row_number() OVER (PARTITION BY event_id ORDER BY \
    _commit_version DESC, CASE WHEN _change_type = 'delete' THEN 1 ELSE 0 END) AS _rank FROM feed \
    WHERE _change_type <> 'update_preimage') WHERE _rank = 1";

/// The table that is indexed, at one version.
#[derive(Clone)]
pub(crate) struct Source {
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) url: Url,
    pub(crate) version: Option<u64>,
    pub(crate) runtime: Arc<RuntimeEnv>,
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { url, version, .. } = self;
        f.debug_struct("Source").field("url", &url.as_str()).field("version", version).finish()
    }
}

/// What an index holds, as a part of its commits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Held {
    /// The identity of the Delta table: another one may lie at the same address.
    table: String,
    version: u64,
}

impl Held {
    fn of(index: &Index) -> tantivy::Result<Option<Self>> {
        let payload = index.load_metas()?.payload;
        Ok(payload.and_then(|text| serde_json::from_str(&text).ok()))
    }

    /// Whether it need not be written: it is of that version, or of a later one by now.
    fn is_as_new_as(&self, wanted: &Self) -> bool {
        self.table == wanted.table && self.version >= wanted.version
    }
}

impl Source {
    /// The index of this table at exactly this version, with vectors of its captions where there is a text encoder.
    ///
    /// # Errors
    /// [`Error::SearchIndex`] when the folder cannot be used; [`Error::OpenTable`], [`Error::Run`] when the
    /// events cannot be read; [`Error::Embed`].
    pub(crate) async fn index(&self, options: &SearchOptions) -> Result<SearchIndex> {
        let index = self.index_of_words(&options.folder).await?;
        let Some(embedder) = options.embedder.as_ref().filter(|_| self.version.is_some()) else {
            return Ok(index);
        };
        let (table, model) = (short_digest(self.url.as_str()), short_digest(&embedder.model));
        let folder = options.folder.join(format!("{VECTORS}-{table}-{model}"));
        let _turn = BUILDING.acquire().await; // it is never closed
        index.with_vectors(folder, embedder).await
    }

    /// The index of words, in a folder of its own below `folder`.
    ///
    /// One index follows the newest version. Where it is of a later one by now, or another process writes it for longer
    /// than a minute, this version gets an index beside it; the newest few of these are kept.
    async fn index_of_words(&self, folder: &Path) -> Result<SearchIndex> {
        let Some(version) = self.version else {
            return SearchIndex::open(Index::create_in_ram(document::schema()), folder, None);
        };
        let table = self.table(version).await?;
        let state = table.snapshot().map_err(|source| self.unreadable(source.cause()))?;
        let wanted = Held { table: state.metadata().id().to_owned(), version };
        let name = format!("{FORMAT}-{}", short_digest(self.url.as_str()));
        if let Some(index) = self.index_in(&folder.join(&name), &table, &wanted).await? {
            return Ok(index);
        }
        let earlier = format!("{name}-{version}");
        remove_earlier(folder, &format!("{name}-"), &earlier);
        let folder = folder.join(earlier);
        let index = self.index_in(&folder, &table, &wanted).await?;
        index.ok_or_else(|| {
            let source = "other processes have been writing it for a minute".cause();
            Error::SearchIndex { folder, source }
        })
    }

    /// The index in this very folder, brought to the version that is wanted. `None` where it is of another.
    async fn index_in(
        &self,
        folder: &Path,
        table: &DeltaTable,
        wanted: &Held,
    ) -> Result<Option<SearchIndex>> {
        let wrong = index_error(folder);
        std::fs::create_dir_all(folder).map_err(|source| wrong(source.into()))?;
        let directory = MmapDirectory::open(folder).map_err(|source| wrong(source.into()))?;
        let index = Index::open_or_create(directory, document::schema()).map_err(&wrong)?;
        let held = Held::of(&index).map_err(&wrong)?;
        if !held.is_some_and(|held| held.is_as_new_as(wanted)) {
            let _turn = BUILDING.acquire().await; // it is never closed
            if let Some(writer) = self.writer(&index, wanted, folder).await? {
                self.bring(writer, table, wanted, folder).await?;
            }
        }
        let is_wanted =
            || -> Result<bool> { Ok(Held::of(&index).map_err(&wrong)?.as_ref() == Some(wanted)) };
        if !is_wanted()? {
            return Ok(None);
        }
        let opened = SearchIndex::open(index.clone(), folder, Some(wanted.version))?;
        // Another process may have gone on before it was opened.
        Ok(is_wanted()?.then_some(opened))
    }

    async fn table(&self, version: u64) -> Result<DeltaTable> {
        let table = snapshot::open(&self.store, &self.url, "events", Some(version)).await?;
        table.ok_or_else(|| self.unreadable("it is gone".cause()))
    }

    fn unreadable(&self, source: crate::Cause) -> Error {
        Error::OpenTable { uri: format!("{}events", self.url), source }
    }

    /// The only writer. `None` where there is nothing to write, or another process is still at it.
    async fn writer(
        &self,
        index: &Index,
        wanted: &Held,
        folder: &Path,
    ) -> Result<Option<IndexWriter>> {
        let wrong = index_error(folder);
        let deadline = tokio::time::Instant::now() + PATIENCE;
        let is_done = || -> Result<bool> {
            let held = Held::of(index).map_err(&wrong)?;
            Ok(held.is_some_and(|held| held.is_as_new_as(wanted)))
        };
        while !is_done()? {
            match index.writer_with_num_threads(THREADS, MEMORY) {
                // Somebody else may have ended just before.
                Ok(writer) => return Ok((!is_done()?).then_some(writer)),
                Err(TantivyError::LockFailure(..)) if tokio::time::Instant::now() < deadline => {
                    tokio::time::sleep(LOOK_EVERY).await;
                }
                Err(TantivyError::LockFailure(..)) => break,
                Err(error) => return Err(wrong(error)),
            }
        }
        Ok(None)
    }

    /// Brings the index to `wanted`: by what changed where that can be told, else by all rows.
    async fn bring(
        &self,
        writer: IndexWriter,
        table: &DeltaTable,
        wanted: &Held,
        folder: &Path,
    ) -> Result<()> {
        let mut work = Work { writer: Some(writer), folder };
        let held = Held::of(work.writer()?.index()).map_err(index_error(folder))?;
        let held = held.filter(|held| held.table == wanted.table && held.version < wanted.version);
        if let Some(held) = held {
            let changes = self.changes(table.clone(), held.version + 1, wanted.version).await;
            let applied = match changes {
                Ok(rows) => work.write(rows).await,
                Err(error) => Err(error),
            };
            match applied {
                Ok(rows) => {
                    tracing::info!(rows, version = wanted.version, "search index updated");
                    return work.commit(wanted).await;
                }
                Err(error) => {
                    let error = error.with_causes();
                    tracing::warn!(%error, "the changes cannot be read; the search index is built anew");
                    work.writer_mut()?.rollback().map_err(index_error(folder))?;
                }
            }
        }
        work.writer()?.delete_all_documents().map_err(index_error(folder))?;
        let rows = work.write(self.all(table.clone()).await?).await?;
        tracing::info!(rows, version = wanted.version, "search index built");
        work.commit(wanted).await
    }

    fn context(&self) -> SessionContext {
        SessionContext::new_with_config_rt(SessionConfig::new(), Arc::clone(&self.runtime))
    }

    /// All rows of the table.
    async fn all(&self, table: DeltaTable) -> Result<DataFrame> {
        let context = self.context();
        snapshot::add(&context, table, "events", "a captioned span of a video").await?;
        context.table("events").await.map_err(|source| self.unreadable(source.cause()))
    }

    /// The last change of each event from one version to another, both included.
    async fn changes(&self, table: DeltaTable, from: u64, to: u64) -> Result<DataFrame> {
        let context = self.context();
        let unreadable = |source: crate::Cause| self.unreadable(source);
        table
            .update_datafusion_session(&context.state())
            .map_err(|source| unreadable(source.cause()))?;
        let feed = table.scan_cdf().with_starting_version(from).with_ending_version(to);
        let feed = DeltaCdfTableProvider::try_new(feed).map_err(|s| unreadable(s.cause()))?;
        context.register_table("feed", Arc::new(feed)).map_err(|s| unreadable(s.cause()))?;
        context.sql(LAST_CHANGES).await.map_err(|source| unreadable(source.cause()))
    }
}

/// A writer at work, on threads that may be kept busy.
struct Work<'a> {
    /// `None` once it has failed.
    writer: Option<IndexWriter>,
    folder: &'a Path,
}

impl Work<'_> {
    fn writer(&self) -> Result<&IndexWriter> {
        self.writer.as_ref().ok_or_else(|| self.lost())
    }

    fn writer_mut(&mut self) -> Result<&mut IndexWriter> {
        let lost = self.lost();
        self.writer.as_mut().ok_or(lost)
    }

    fn lost(&self) -> Error {
        let source = "the writer has ended".cause();
        Error::SearchIndex { folder: self.folder.to_owned(), source }
    }

    /// Writes rows, or takes back those whose `_change_type` is `delete`. Gives how many there were.
    async fn write(&mut self, rows: DataFrame) -> Result<usize> {
        let failed =
            |source: datafusion::error::DataFusionError| Error::Run { source: source.cause() };
        let mut batches = rows.execute_stream().await.map_err(failed)?;
        let mut count = 0;
        while let Some(batch) = batches.try_next().await.map_err(failed)? {
            count += batch.num_rows();
            let applied = self.busy(move |writer| apply(writer, &batch)).await?;
            applied
                .map_err(|source| Error::SearchIndex { folder: self.folder.to_owned(), source })?;
        }
        Ok(count)
    }

    async fn commit(&mut self, held: &Held) -> Result<()> {
        let text = serde_json::to_string(held).map_err(|source| Error::SearchIndex {
            folder: self.folder.to_owned(),
            source: source.cause(),
        })?;
        let committed = self.busy(move |writer| {
            let mut commit = writer.prepare_commit()?;
            commit.set_payload(&text);
            commit.commit().map(drop)
        });
        committed.await?.map_err(index_error(self.folder))
    }

    async fn busy<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut IndexWriter) -> T + Send + 'static,
    ) -> Result<T> {
        let mut writer = self.writer.take().ok_or_else(|| self.lost())?;
        let done = tokio::task::spawn_blocking(move || (work(&mut writer), writer)).await;
        let (done, writer) = done.map_err(|_| self.lost())?;
        self.writer = Some(writer);
        Ok(done)
    }
}

/// Takes back what the index has of the events, then adds those that are there.
fn apply(writer: &IndexWriter, rows: &RecordBatch) -> std::result::Result<(), crate::Cause> {
    let schema = writer.index().schema();
    let event_id = schema.get_field("event_id").map_err(CauseFrom::cause)?;
    let text = |name: &str| {
        let column = rows.column_by_name(name);
        column.map(|column| cast(column, &DataType::Utf8)).transpose().map_err(CauseFrom::cause)
    };
    let (ids, changes) = (text("event_id")?, text("_change_type")?);
    let documents = document::documents(rows, &schema).map_err(CauseFrom::cause)?;
    for (row, document) in documents.into_iter().enumerate() {
        let change = changes.as_ref().map(|changes| changes.as_string::<i32>().value(row));
        if let (Some(_), Some(ids)) = (change, &ids) {
            writer.delete_term(Term::from_field_text(event_id, ids.as_string::<i32>().value(row)));
        }
        if change != Some("delete") {
            writer.add_document(document).map_err(CauseFrom::cause)?;
        }
    }
    Ok(())
}

/// Removes indexes of earlier versions, those built the longest ago, so that there is room for one more of them.
fn remove_earlier(folder: &Path, prefix: &str, but: &str) {
    let mut found: Vec<_> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| {
            let name = entry.file_name();
            name.to_str().is_some_and(|name| name.starts_with(prefix) && name != but)
        })
        .map(|entry| {
            let built = entry.path().join("meta.json").metadata().and_then(|meta| meta.modified());
            (built.ok(), entry.path())
        })
        .collect();
    found.sort();
    let too_many = (found.len() + 1).saturating_sub(EARLIER_KEPT);
    for (_, folder) in found.into_iter().take(too_many) {
        if let Err(error) = std::fs::remove_dir_all(&folder) {
            tracing::warn!(folder = %folder.display(), %error, "an old search index cannot be removed");
        }
    }
}

/// 16 hexadecimal digits that tell places from each other.
fn short_digest(text: &str) -> String {
    HEXLOWER.encode(&Sha256::digest(text)[..8])
}
