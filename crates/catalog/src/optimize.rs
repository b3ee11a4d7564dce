//! The same rows in better files: few, large, sorted over the whole table, so that a question about one video reads one
//! row group, and one about all of them does not open thousands of files.
//!
//! A table is rewritten by one commit that says of itself that no row changes (`OPTIMIZE`, `dataChange` false): the
//! change feed has nothing of it, and readers of the newest published version go on to it by themselves, since it has
//! the same rows. The files that it replaces stay for readers of older versions, until Delta Lake's own vacuum takes them. A night that is
//! published meanwhile goes first; the rewriting is then done again on top of it.

use std::{num::NonZeroUsize, path::PathBuf, sync::Arc};

use arrow::{
    array::{Array, AsArray, RecordBatch},
    datatypes::SchemaRef,
};
use deltalake_core::{
    DeltaTable, DeltaTableError,
    datafusion::{
        error::DataFusionError,
        execution::{
            SendableRecordBatchStream,
            disk_manager::{DiskManagerBuilder, DiskManagerMode},
            memory_pool::FairSpillPool,
            runtime_env::RuntimeEnvBuilder,
        },
        logical_expr::SortExpr,
        prelude::{SessionConfig, SessionContext, col},
    },
    delta_datafusion::DeltaScanNext,
    kernel::{
        Action,
        transaction::{CommitBuilder, CommitProperties, TableReference},
    },
    protocol::DeltaOperation,
};
use futures::TryStreamExt;
use serde::Deserialize;
use uuid::Uuid;

use crate::{
    Error, Location, PartFile, Result, Tables,
    commit::{add, is_overtaken, signed},
    parts::{PartWriter, conform},
    receipt::remove_quietly,
    tables::{DataFile, FileBounds, Table, data_files, delta_error},
};

/// How often a rewriting is done again because a night was published meanwhile.
const ATTEMPTS: usize = 5;

/// How tables are rewritten.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OptimizeOptions {
    /// Bytes of a file, about.
    pub file_bytes: u64,
    /// Bytes of memory that sorting may hold. What does not fit is spilled.
    pub memory_bytes: usize,
    /// Bytes that may be spilled to disk.
    pub spill_bytes: u64,
    /// Folder that is spilled to; the system's temporary folder if none.
    pub spill_folder: Option<PathBuf>,
    /// Files that are read at once; one a core if none.
    pub partitions: Option<NonZeroUsize>,
}

impl Default for OptimizeOptions {
    /// Files of 128 MiB, sorted in 1 GiB of memory and up to 256 GiB of disk.
    fn default() -> Self {
        Self {
            file_bytes: 128 << 20,
            memory_bytes: 1 << 30,
            spill_bytes: 256 << 30,
            spill_folder: None,
            partitions: None,
        }
    }
}

/// Files of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Files {
    /// How many.
    pub count: usize,
    /// Their bytes.
    pub bytes: u64,
}

impl Files {
    fn of(sizes: impl IntoIterator<Item = u64>) -> Self {
        let add = |sum: Self, size| Self { count: sum.count + 1, bytes: sum.bytes + size };
        sizes.into_iter().fold(Self::default(), add)
    }
}

/// What became of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Optimized {
    /// The table.
    pub table: Table,
    /// Its files before.
    pub before: Files,
    /// Its files now, or as they were where nothing was to be done.
    pub after: Files,
    /// Its rows.
    pub rows: u64,
    /// The version with the new files; `None` where nothing was to be done.
    pub version: Option<u64>,
}

impl Tables {
    /// Rewrites a table into files of about [`OptimizeOptions::file_bytes`], sorted over all of them. A table
    /// that is so already stays as it is. `None` where there is no such table yet.
    ///
    /// # Errors
    /// [`Error::Publishing`] while a night is being published; [`Error::Contended`] where nights are published
    /// faster than the table can be rewritten; [`Error::Unsupported`] for tables that others have given deletion
    /// vectors. After any error the table is as it was or has its new files, and new files that it does not have are
    /// left to `vacuum`.
    pub async fn optimize(
        &self,
        table: Table,
        options: &OptimizeOptions,
    ) -> Result<Option<Optimized>> {
        let folder = self.folder(table);
        for _ in 0..ATTEMPTS {
            let Some(delta) = self.delta(table, None).await? else { return Ok(None) };
            let version = delta.version().unwrap_or(0);
            self.require_published(table, version).await?;
            let old = data_files(&folder, &delta)?;
            let before = Files::of(old.iter().map(|file| file.size_bytes));
            let rows = old.iter().filter_map(|file| FileBounds::of(&file.view).num_records).sum();
            if is_laid_out(&old, options.file_bytes) {
                return Ok(Some(Optimized { table, before, after: before, rows, version: None }));
            }
            let new = self.rewritten(table, &delta, options).await?;
            let after = Files::of(new.iter().map(|part| part.size_bytes));
            let rows = new.iter().map(|part| part.rows).sum();
            let done = |version| Optimized { table, before, after, rows, version: Some(version) };
            match self.swap(&delta, &old, &new, options).await {
                Ok(version) => return Ok(Some(done(version))),
                Err(_) if self.has_committed(table, version + 1, &new).await? => {
                    return Ok(Some(done(version + 1)));
                }
                Err(error) if is_overtaken(&error) => {
                    let paths = new.iter().map(|part| folder.child(&part.path)).collect();
                    remove_quietly(&folder, paths).await;
                }
                // A request may still be under way: its files stay for it, or for a vacuum.
                Err(error) => return Err(delta_error("commit to", &folder.uri, error)),
            }
        }
        Err(Error::Contended { uri: folder.uri, attempts: ATTEMPTS })
    }

    /// Refuses while the newest version of a table is a part of a night.
    async fn require_published(&self, table: Table, newest: u64) -> Result<()> {
        let published = match (table, self.snapshot().await?) {
            (Table::Runs | Table::Feedback, _) => Some(newest),
            (_, None) => None,
            (Table::Events, Some(snapshot)) => Some(snapshot.events_version),
            (Table::Videos, Some(snapshot)) => Some(snapshot.videos_version),
            (Table::Transcripts, Some(snapshot)) => Some(snapshot.transcripts_version),
        };
        if published.is_some_and(|published| published < newest)
            && !self.only_adds_columns(table, published.unwrap_or(0), newest).await?
        {
            return Err(Error::Publishing { uri: self.folder(table).uri });
        }
        Ok(())
    }

    /// Whether no commit after one version, up to another, has a file.
    async fn only_adds_columns(&self, table: Table, after: u64, newest: u64) -> Result<bool> {
        for version in after + 1..=newest {
            let entry = self.entry(table, version).await?.unwrap_or_default();
            if lines(&entry).any(|line| line.add.is_some() || line.remove.is_some()) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Writes the rows of a table anew.
    async fn rewritten(
        &self,
        table: Table,
        delta: &DeltaTable,
        options: &OptimizeOptions,
    ) -> Result<Vec<PartFile>> {
        let folder = self.folder(table);
        let sorted = sorted(delta, table, options).await;
        let mut batches = sorted.map_err(|source| engine_error(&folder, source))?;
        let schema = table.schema();
        let mut files = Sink::new(&folder, &schema, options.file_bytes);
        while let Some(batch) =
            batches.try_next().await.map_err(|source| engine_error(&folder, source))?
        {
            files.write(&conform(&batch, &schema, &folder.uri)?).await?;
        }
        files.finish().await
    }

    /// Puts new files in the place of old ones.
    async fn swap(
        &self,
        delta: &DeltaTable,
        old: &[DataFile],
        new: &[PartFile],
        options: &OptimizeOptions,
    ) -> Result<u64, DeltaTableError> {
        let removed = old.iter().map(|file| Action::Remove(file.view.remove_action(false)));
        let added = new.iter().map(|part| {
            let mut action = add(part);
            action.data_change = false;
            Action::Add(action)
        });
        let target_size = signed(options.file_bytes);
        let operation = DeltaOperation::Optimize { predicate: None, target_size };
        let state: &dyn TableReference = delta.snapshot()?;
        let made = CommitBuilder::from(CommitProperties::default().with_max_retries(0))
            .with_actions(removed.chain(added).collect())
            .build(Some(state), delta.log_store(), operation)
            .await?;
        Ok(made.version())
    }

    /// Whether a commit is there that has these files: the store may have taken it and lost the answer.
    async fn has_committed(&self, table: Table, version: u64, new: &[PartFile]) -> Result<bool> {
        let entry = self.entry(table, version).await?.unwrap_or_default();
        let added = lines(&entry).filter_map(|line| line.add).map(|file| file.path);
        Ok(added.into_iter().any(|path| new.iter().any(|part| part.path == path)))
    }

    /// The newest version of a table that has exactly the rows of `version`, since each commit between only puts
    /// them into other files.
    pub(crate) async fn rearranged(&self, table: Table, version: u64) -> Result<u64> {
        let mut newest = version;
        while let Some(entry) = self.entry(table, newest + 1).await?
            && only_rearranges(&entry)
        {
            newest += 1;
        }
        Ok(newest)
    }

    /// The log entry of a version, if it is there.
    async fn entry(&self, table: Table, version: u64) -> Result<Option<bytes::Bytes>> {
        let folder = self.folder(table);
        let log = crate::tables::log_store(&folder)?;
        let read = log.read_commit_entry(version).await;
        read.map_err(|source| delta_error("read", &folder.uri, source))
    }
}

fn engine_error(folder: &Location, source: DataFusionError) -> Error {
    delta_error("sort", &folder.uri, DeltaTableError::from(source))
}

/// The columns that the rows of a table are sorted by.
fn order(table: Table) -> &'static [&'static str] {
    match table {
        Table::Events => &["video_id", "start_ms", "event_id"],
        Table::Videos => &["video_id"],
        Table::Transcripts => &["video_id", "start_ms"],
        Table::Runs => &["run_id"],
        Table::Feedback => &["video_id", "event_id", "at"],
    }
}

/// The rows of a table, sorted.
async fn sorted(
    delta: &DeltaTable,
    table: Table,
    options: &OptimizeOptions,
) -> std::result::Result<SendableRecordBatchStream, DataFusionError> {
    let spill = match &options.spill_folder {
        Some(folder) => DiskManagerMode::Directories(vec![folder.clone()]),
        None => DiskManagerMode::OsTmpDirectory,
    };
    let disk = DiskManagerBuilder::default().with_mode(spill);
    let runtime = RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::new(FairSpillPool::new(options.memory_bytes)))
        .with_disk_manager_builder(disk.with_max_temp_directory_size(options.spill_bytes))
        .build_arc()?;
    let mut config = SessionConfig::new();
    if let Some(partitions) = options.partitions {
        config = config.with_target_partitions(partitions.get());
    }
    let context = SessionContext::new_with_config_rt(config, runtime);
    let state = context.state();
    let external = |error: DeltaTableError| DataFusionError::External(error.into());
    delta.update_datafusion_session(&state).map_err(external)?;
    let snapshot = delta.snapshot().map_err(external)?.snapshot().clone();
    let provider = DeltaScanNext::builder()
        .with_eager_snapshot(snapshot)
        .with_session(Arc::new(state))
        .await
        .map_err(|error| DataFusionError::External(error.into()))?;
    let by: Vec<SortExpr> = order(table).iter().map(|name| col(*name).sort(true, true)).collect();
    context.read_table(provider)?.sort(by)?.execute_stream().await
}

/// Whether files are large, and none begins before another ends.
fn is_laid_out(files: &[DataFile], file_bytes: u64) -> bool {
    let small = files.iter().filter(|file| file.size_bytes < file_bytes / 2).count();
    let bounds = |file: &DataFile| {
        let FileBounds { min_values, max_values, .. } = FileBounds::of(&file.view);
        min_values.video_id.zip(max_values.video_id)
    };
    let mut bounds: Vec<_> = files.iter().filter_map(bounds).collect();
    bounds.sort();
    let apart = bounds.is_sorted_by(|(_, end), (start, _)| end < start);
    let ours = |file: &DataFile| file.path.filename().is_some_and(|name| name.starts_with(PREFIX));
    files.is_empty() || (small <= 1 && apart && files.iter().all(ours))
}

/// How the names of rewritten files begin.
const PREFIX: &str = "part-sorted-";

/// Files that are written one after the other.
struct Sink<'a> {
    folder: &'a Location,
    schema: &'a SchemaRef,
    file_bytes: u64,
    open: Option<PartWriter>,
    /// The video of the last row.
    last: Option<String>,
    done: Vec<PartFile>,
}

impl<'a> Sink<'a> {
    fn new(folder: &'a Location, schema: &'a SchemaRef, file_bytes: u64) -> Self {
        Self { folder, schema, file_bytes, open: None, last: None, done: Vec::new() }
    }

    /// Adds rows. A file that is large enough ends where the next video begins.
    async fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let full = self.open.as_ref().is_some_and(|open| open.bytes_so_far() >= self.file_bytes);
        let rest = if full { self.same_video(batch) } else { 0 };
        if full && rest < batch.num_rows() {
            self.append(&batch.slice(0, rest)).await?;
            self.close().await?;
        }
        let from = if self.open.is_none() { rest } else { 0 };
        self.append(&batch.slice(from, batch.num_rows() - from)).await
    }

    /// How many rows at the beginning of a batch are of the video of the last row.
    fn same_video(&self, batch: &RecordBatch) -> usize {
        let column = batch.column_by_name("video_id").and_then(|c| c.as_string_opt::<i32>());
        let Some(column) = column else { return 0 };
        column.iter().take_while(|id| *id == self.last.as_deref()).count()
    }

    async fn append(&mut self, batch: &RecordBatch) -> Result<()> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let column = batch.column_by_name("video_id").and_then(|c| c.as_string_opt::<i32>());
        self.last = column.map(|column| column.value(column.len() - 1).to_owned());
        if self.open.is_none() {
            let name = format!("{PREFIX}{}.parquet", Uuid::now_v7());
            self.open = Some(PartWriter::create_indexed(self.folder, name, self.schema)?);
        }
        match &mut self.open {
            Some(open) => open.write(batch).await,
            None => Ok(()),
        }
    }

    async fn close(&mut self) -> Result<()> {
        if let Some(open) = self.open.take() {
            self.done.push(open.finish().await?);
        }
        Ok(())
    }

    async fn finish(mut self) -> Result<Vec<PartFile>> {
        self.close().await?;
        Ok(self.done)
    }
}

/// What a line of a log entry says, as far as it matters here.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    add: Option<LoggedFile>,
    remove: Option<LoggedFile>,
    commit_info: Option<Info>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LoggedFile {
    path: String,
    data_change: bool,
}

#[derive(Deserialize)]
struct Info {
    operation: Option<String>,
}

/// The lines of a log entry, up to one that is none.
fn lines(entry: &[u8]) -> impl Iterator<Item = Line> {
    serde_json::Deserializer::from_slice(entry)
        .into_iter::<Line>()
        .map_while(std::result::Result::ok)
}

/// Whether a commit says of itself, and of each file, that no row changes.
fn only_rearranges(entry: &[u8]) -> bool {
    let changes =
        |line: &Line| [&line.add, &line.remove].into_iter().flatten().any(|file| file.data_change);
    let optimizes = |line: &Line| {
        let operation = line.commit_info.as_ref().and_then(|info| info.operation.as_deref());
        operation == Some("OPTIMIZE")
    };
    !lines(entry).any(|line| changes(&line)) && lines(entry).any(|line| optimizes(&line))
}
