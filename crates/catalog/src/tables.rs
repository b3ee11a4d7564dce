//! The Delta tables of a folder: where they are, what is published, what is known.

use std::sync::Arc;

use arrow::{
    array::{Array, AsArray, RecordBatch},
    datatypes::{Int32Type, Int64Type, SchemaRef, TimestampMicrosecondType},
};
use deltalake_core::{
    DeltaTable, DeltaTableError,
    kernel::{LogicalFileView, StructField, StructType, engine::arrow_conversion::TryIntoKernel},
    logstore::{LogStoreRef, StorageConfig, default_logstore},
    operations::create::CreateBuilder,
    protocol::SaveMode,
};
use eventide_schema::tables::{
    RunRow, events_schema, feedback_schema, runs_schema, transcripts_schema, videos_schema,
};
use futures::{StreamExt, TryStreamExt};
use object_store::{ObjectStoreExt, path::Path, prefix::PrefixStore};
use serde::Deserialize;
use url::Url;
use uuid::Uuid;

use crate::{
    Error, KILLS_WORKERS, Known, KnownVideo, Location, Result, Stores,
    parts::{PartReader, conform},
};

/// One of the published tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// The current events of each video.
    Events,
    /// One row for each video.
    Videos,
    /// What is said in each video.
    Transcripts,
    /// One row for each run.
    Runs,
    /// What people say about events. Part of no night, and not there before somebody has said something.
    Feedback,
}

impl Table {
    /// Its name, which is that of its folder.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::Videos => "videos",
            Self::Transcripts => "transcripts",
            Self::Runs => "runs",
            Self::Feedback => "feedback",
        }
    }

    /// Its columns.
    #[must_use]
    pub fn schema(self) -> SchemaRef {
        match self {
            Self::Events => events_schema(),
            Self::Videos => videos_schema(),
            Self::Transcripts => transcripts_schema(),
            Self::Runs => runs_schema(),
            Self::Feedback => feedback_schema(),
        }
    }
}

/// The folder that holds the tables, and beside them, under `_eventide/`, what runs leave for
/// one another.
#[derive(Debug, Clone)]
pub struct Tables {
    location: Location,
}

/// The versions that a reader takes together so as to see one night and no part of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Snapshot {
    /// Version of `events`.
    pub events_version: u64,
    /// Version of `videos`.
    pub videos_version: u64,
    /// Version of `transcripts`.
    pub transcripts_version: u64,
    /// Version of `runs` from which the others were read.
    pub runs_version: u64,
}

/// How many small objects are read at once.
pub(crate) fn read_concurrency() -> usize {
    16
}

impl Tables {
    /// The tables under `uri`, which need not exist yet. Nothing is asked of the store.
    ///
    /// # Errors
    /// Those of [`Stores::open`].
    pub fn open(stores: &Stores, uri: &str) -> Result<Self> {
        Ok(Self { location: stores.open(uri)? })
    }

    /// The folder of the tables.
    #[must_use]
    pub fn location(&self) -> &Location {
        &self.location
    }

    /// The folder of one table.
    #[must_use]
    pub fn folder(&self, table: Table) -> Location {
        self.location.below(table.as_str())
    }

    /// A table as of `version`, or as it is now; `None` before the first run.
    ///
    /// # Errors
    /// [`Error::Delta`] when its log cannot be read, or the version is gone.
    pub async fn delta(&self, table: Table, version: Option<u64>) -> Result<Option<DeltaTable>> {
        let folder = self.folder(table);
        let wrong = |source| delta_error("read", &folder.uri, source);
        let mut delta = DeltaTable::new(log_store(&folder)?);
        if !delta.verify_deltatable_existence().await.map_err(wrong)? {
            return Ok(None);
        }
        match version {
            Some(version) => delta.load_version(version).await.map_err(wrong)?,
            None => delta.load().await.map_err(wrong)?,
        }
        Ok(Some(delta))
    }

    /// The versions that the newest published run left, which readers take together; `None`
    /// before the first one.
    ///
    /// # Errors
    /// [`Error::Delta`] when a log cannot be read.
    pub async fn snapshot(&self) -> Result<Option<Snapshot>> {
        let Some(runs) = self.delta(Table::Runs, None).await? else { return Ok(None) };
        let versions = if let Some(versions) = versions_in_log(&runs) {
            versions
        } else {
            let rows = self.publications().await?;
            rows.iter().map(Versions::of).collect()
        };
        if versions.is_empty() {
            return Ok(None);
        }
        let newest = async |table, version: Option<i64>| {
            let version = u64::try_from(version.unwrap_or(0)).unwrap_or(0);
            self.rearranged(table, version).await
        };
        let events = versions.iter().filter_map(|version| version.events).max();
        let videos = versions.iter().filter_map(|version| version.videos).max();
        let transcripts = versions.iter().filter_map(|version| version.transcripts).max();
        Ok(Some(Snapshot {
            events_version: newest(Table::Events, events).await?,
            videos_version: newest(Table::Videos, videos).await?,
            transcripts_version: newest(Table::Transcripts, transcripts).await?,
            runs_version: runs.version().unwrap_or(0),
        }))
    }

    /// What the published rows of `videos` say that matters to planning: those of the videos below
    /// `corpus`. Several jobs may share tables as long as no corpus lies in another; each sees, and
    /// removes, only its own.
    ///
    /// # Errors
    /// Whatever keeps the table from being read.
    pub async fn known(&self, corpus: &Location) -> Result<Known> {
        let Some(snapshot) = self.snapshot().await? else { return Ok(Known::default()) };
        let version = Some(snapshot.videos_version);
        let Some(videos) = self.delta(Table::Videos, version).await? else {
            return Ok(Known::default());
        };
        let columns = [
            "video_id",
            "uri",
            "source_version",
            "model_digest",
            "params_digest",
            "status",
            "attempts",
            "reason_code",
            "transcript_source",
            "speech_digest",
        ];
        let below = format!("{}/", corpus.uri.trim_end_matches('/'));
        let mut known = Known::default();
        self.scan(Table::Videos, &videos, &columns, |batch| {
            known.extend(known_videos(batch, &below));
        })
        .await?;
        Ok(known)
    }

    /// Every published run, by `run_id`. One that was published in parts is one row of all of them; it is
    /// [`RunRow::part`] that says whether it goes on.
    ///
    /// # Errors
    /// Whatever keeps the table from being read.
    pub async fn runs(&self) -> Result<Vec<RunRow>> {
        let mut runs: Vec<RunRow> = Vec::new();
        for row in self.publications().await? {
            match runs.pop() {
                Some(run) if run.run_id == row.run_id => runs.push(run.and(row)),
                other => runs.extend(other.into_iter().chain([row])),
            }
        }
        Ok(runs)
    }

    /// Every row of `runs`, by `run_id`, the parts of a run in their order.
    pub(crate) async fn publications(&self) -> Result<Vec<RunRow>> {
        let Some(runs) = self.delta(Table::Runs, None).await? else { return Ok(Vec::new()) };
        let columns: Vec<_> = runs_schema().fields().iter().map(|f| f.name().clone()).collect();
        let columns: Vec<_> = columns.iter().map(String::as_str).collect();
        let mut rows = Vec::new();
        self.scan(Table::Runs, &runs, &columns, |batch| rows.extend(run_rows(batch))).await?;
        let order = |run: &RunRow| (run.run_id.clone(), run.part.unwrap_or(u32::MAX));
        rows.sort_by_cached_key(order);
        Ok(rows)
    }

    /// Makes sure that the folder of the tables can be written to, before work is done for it.
    ///
    /// # Errors
    /// What the store says to a small object that is written and removed again.
    pub async fn require_writable(&self) -> Result<()> {
        let path = self.location.child("_eventide/probe").join(Uuid::now_v7().to_string());
        let wrong = |source| Error::store("write", self.location.uri_of(&path), source);
        self.location.store.put(&path, "may this be written?".into()).await.map_err(wrong)?;
        self.location.store.delete(&path).await.map_err(wrong)
    }

    /// Makes the tables that are not there yet, without rows, and gives tables of an earlier program
    /// the columns that have been added since.
    ///
    /// # Errors
    /// [`Error::Delta`] when one cannot be made.
    pub async fn create_missing(&self) -> Result<()> {
        for table in [Table::Events, Table::Videos, Table::Transcripts, Table::Runs] {
            if let Some(delta) = self.delta(table, None).await? {
                self.add_missing_columns(table, delta).await?;
                continue;
            }
            if let Err(error) = self.create_table(table).await
                && self.delta(table, None).await?.is_none()
            {
                return Err(error);
            }
        }
        Ok(())
    }

    /// Adds the columns that a table lacks, which all may be null.
    async fn add_missing_columns(&self, table: Table, delta: DeltaTable) -> Result<()> {
        let uri = self.folder(table).uri;
        let columns = self.columns(table)?;
        let there = delta.snapshot().map_err(|source| delta_error("read", &uri, source))?.schema();
        let missing: Vec<_> =
            columns.fields().filter(|field| there.field(field.name()).is_none()).cloned().collect();
        drop(there);
        if missing.is_empty() {
            return Ok(());
        }
        let added = delta.add_columns().with_fields(missing).await;
        added.map(drop).map_err(|source| delta_error("add columns to", &uri, source))
    }

    fn columns(&self, table: Table) -> Result<StructType> {
        let columns = table.schema();
        let columns = columns.as_ref().try_into_kernel();
        columns.map_err(|source| Error::Rows { uri: self.folder(table).uri, source })
    }

    /// Makes a table as a program made it that did not know some columns.
    #[cfg(test)]
    pub(crate) async fn create_without(&self, table: Table, unknown: &[&str]) -> Result<()> {
        let columns = self.columns(table)?;
        let known = columns.fields().filter(|field| !unknown.contains(&field.name().as_str()));
        self.create_of(table, known.cloned().collect()).await
    }

    pub(crate) async fn create_table(&self, table: Table) -> Result<()> {
        let columns = self.columns(table)?;
        self.create_of(table, columns.fields().cloned().collect()).await
    }

    async fn create_of(&self, table: Table, columns: Vec<StructField>) -> Result<()> {
        let folder = self.folder(table);
        let change_feed = (table != Table::Runs).then_some("true");
        CreateBuilder::new()
            .with_log_store(log_store(&folder)?)
            .with_table_name(table.as_str())
            .with_columns(columns)
            .with_configuration([("delta.enableChangeDataFeed", change_feed)])
            .with_save_mode(SaveMode::ErrorIfExists)
            .await
            .map_err(|source| delta_error("create", &folder.uri, source))?;
        Ok(())
    }

    /// Whether a run is in `runs`.
    pub(crate) async fn is_published(&self, run_id: &str) -> Result<bool> {
        let Some(runs) = self.delta(Table::Runs, None).await? else { return Ok(false) };
        Ok(self.transaction(Table::Runs, &runs, run_id).await?.is_some())
    }

    /// The transaction of a run in a table's log.
    pub(crate) async fn transaction(
        &self,
        table: Table,
        delta: &DeltaTable,
        run_id: &str,
    ) -> Result<Option<i64>> {
        let wrong = |source| delta_error("read", &self.folder(table).uri, source);
        let state = delta.snapshot().map_err(wrong)?;
        state.transaction_version(delta.log_store().as_ref(), &app_id(run_id)).await.map_err(wrong)
    }

    /// Everything under `_eventide/<folder>`, by its path.
    pub(crate) async fn list_own(&self, folder: &str) -> Result<Vec<Path>> {
        let folder = self.location.below("_eventide").below(folder);
        let listed = folder.store.list(Some(&folder.prefix));
        let mut paths: Vec<Path> = listed
            .map_ok(|object| object.location)
            .try_collect()
            .await
            .map_err(|source| Error::store("list", &folder.uri, source))?;
        paths.sort();
        Ok(paths)
    }

    /// Reads some columns of every file of a table, several files at once.
    pub(crate) async fn scan(
        &self,
        table: Table,
        delta: &DeltaTable,
        columns: &[&str],
        mut take: impl FnMut(&RecordBatch),
    ) -> Result<()> {
        let folder = self.folder(table);
        let indices: Vec<_> =
            columns.iter().filter_map(|name| table.schema().index_of(name).ok()).collect();
        let schema = table
            .schema()
            .project(&indices)
            .map_err(|source| Error::Rows { uri: folder.uri.clone(), source })?;
        let schema = Arc::new(schema);
        let files = data_files(&folder, delta)?;
        let mut batches = futures::stream::iter(files)
            .map(|file| {
                let (folder, schema) = (&folder, &schema);
                async move {
                    let reader = PartReader::open(folder, file.path, file.size_bytes).await?;
                    let PartReader { builder, uri } = reader.columns(columns);
                    let wrong =
                        |source| Error::Parquet { action: "read", uri: uri.clone(), source };
                    let batches: Vec<_> =
                        builder.build().map_err(wrong)?.try_collect().await.map_err(wrong)?;
                    batches.iter().map(|b| conform(b, schema, &uri)).collect::<Result<Vec<_>>>()
                }
            })
            .buffer_unordered(read_concurrency());
        while let Some(batches) = batches.try_next().await? {
            batches.iter().for_each(&mut take);
        }
        Ok(())
    }
}

/// What names a run in the logs of the tables, so that a commit is made once.
pub(crate) fn app_id(run_id: &str) -> String {
    format!("eventide/{run_id}")
}

pub(crate) fn delta_error(action: &'static str, uri: &str, source: DeltaTableError) -> Error {
    Error::Delta { action, uri: uri.to_owned(), source: Box::new(source) }
}

pub(crate) fn log_store(folder: &Location) -> Result<LogStoreRef> {
    let url = Url::parse(&format!("{}/", folder.uri)).map_err(|_| Error::Address {
        uri: folder.uri.clone(),
        because: "it cannot be written as a URL",
    })?;
    let within = PrefixStore::new(Arc::clone(&folder.store), folder.prefix.clone());
    let config = StorageConfig::default();
    Ok(default_logstore(Arc::new(within), Arc::clone(&folder.store), &url, &config))
}

/// A file of a table's current version.
pub(crate) struct DataFile {
    pub(crate) path: Path,
    pub(crate) size_bytes: u64,
    pub(crate) view: LogicalFileView,
}

/// The files of a table's current version.
pub(crate) fn data_files(folder: &Location, delta: &DeltaTable) -> Result<Vec<DataFile>> {
    let state = delta.snapshot().map_err(|source| delta_error("read", &folder.uri, source))?;
    let file = |view: LogicalFileView| {
        if view.deletion_vector_descriptor().is_some() {
            let feature = "deletion vectors";
            return Err(Error::Unsupported { uri: folder.uri.clone(), feature });
        }
        let path = Path::parse(format!("{}/{}", folder.prefix, view.object_store_path())).map_err(
            |_| Error::Address {
                uri: format!("{}/{}", folder.uri, view.path()),
                because: "the table names a file outside its folder",
            },
        )?;
        let size_bytes = u64::try_from(view.size()).unwrap_or(0);
        Ok(DataFile { path, size_bytes, view })
    };
    state.log_data().iter().map(file).collect()
}

/// The bounds that a file's statistics give for its rows.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct FileBounds {
    pub(crate) num_records: Option<u64>,
    pub(crate) min_values: ColumnValues,
    pub(crate) max_values: ColumnValues,
}

/// The columns that bounds are used of.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ColumnValues {
    pub(crate) video_id: Option<String>,
    pub(crate) events_version: Option<i64>,
    pub(crate) videos_version: Option<i64>,
    pub(crate) transcripts_version: Option<i64>,
}

impl FileBounds {
    /// What the log says of a file; nothing is known where it says nothing.
    pub(crate) fn of(view: &LogicalFileView) -> Self {
        view.stats().and_then(|stats| serde_json::from_str(&stats).ok()).unwrap_or_default()
    }
}

/// The versions of the other tables that a run names.
struct Versions {
    events: Option<i64>,
    videos: Option<i64>,
    transcripts: Option<i64>,
}

impl Versions {
    fn of(run: &RunRow) -> Self {
        Self {
            events: run.events_version,
            videos: run.videos_version,
            transcripts: run.transcripts_version,
        }
    }
}

/// The newest versions that each file of `runs` names, by the statistics in the log alone. `None`
/// where a file has none.
fn versions_in_log(runs: &DeltaTable) -> Option<Vec<Versions>> {
    let state = runs.snapshot().ok()?;
    state
        .log_data()
        .iter()
        .map(|view| {
            let bounds = FileBounds::of(&view);
            bounds.num_records?;
            let newest = bounds.max_values;
            Some(Versions {
                events: newest.events_version,
                videos: newest.videos_version,
                transcripts: newest.transcripts_version,
            })
        })
        .collect()
}

pub(crate) fn text(batch: &RecordBatch, name: &str, row: usize) -> String {
    batch
        .column_by_name(name)
        .and_then(|column| column.as_string_opt::<i32>())
        .filter(|column| column.is_valid(row))
        .map(|column| column.value(row).to_owned())
        .unwrap_or_default()
}

pub(crate) fn optional_text(batch: &RecordBatch, name: &str, row: usize) -> Option<String> {
    let column = batch.column_by_name(name)?.as_string_opt::<i32>()?;
    column.is_valid(row).then(|| column.value(row).to_owned())
}

fn known_videos<'a>(
    batch: &'a RecordBatch,
    below: &'a str,
) -> impl Iterator<Item = KnownVideo> + 'a {
    let ours = (0..batch.num_rows()).filter(move |&row| text(batch, "uri", row).starts_with(below));
    ours.map(|row| {
        let attempts = batch
            .column_by_name("attempts")
            .and_then(|column| column.as_primitive_opt::<Int32Type>())
            .map_or(0, |column| column.value(row));
        KnownVideo {
            video_id: text(batch, "video_id", row),
            source_version: text(batch, "source_version", row),
            model_digest: text(batch, "model_digest", row),
            params_digest: text(batch, "params_digest", row),
            status: text(batch, "status", row),
            attempts: match text(batch, "reason_code", row).as_str() {
                KILLS_WORKERS => u32::MAX, // it had them in one night, one worker each
                _ => u32::try_from(attempts).unwrap_or(0),
            },
            transcript_source: text(batch, "transcript_source", row),
            speech_digest: optional_text(batch, "speech_digest", row),
        }
    })
}

fn run_rows(batch: &RecordBatch) -> impl Iterator<Item = RunRow> {
    (0..batch.num_rows()).map(|row| {
        let version = |name: &str| {
            let column = batch.column_by_name(name)?.as_primitive_opt::<Int64Type>()?;
            column.is_valid(row).then(|| column.value(row))
        };
        let number = |name: &str| u64::try_from(version(name).unwrap_or(0)).unwrap_or(0);
        let moment = |name: &str| {
            let column = batch.column_by_name(name);
            column
                .and_then(|column| column.as_primitive_opt::<TimestampMicrosecondType>())
                .map_or(0, |column| column.value(row).div_euclid(1000))
        };
        RunRow {
            run_id: text(batch, "run_id", row),
            job: text(batch, "job", row),
            started_at_ms: moment("started_at"),
            finished_at_ms: moment("finished_at"),
            listed: number("listed"),
            planned: number("planned"),
            captioned: number("captioned"),
            empty: number("empty"),
            failed: number("failed"),
            skipped: number("skipped"),
            unchanged: number("unchanged"),
            removed: number("removed"),
            events: number("events"),
            video_ms: number("video_ms"),
            core_ms: number("core_ms"),
            device_ms: number("device_ms"),
            bytes_read: number("bytes_read"),
            model_digest: text(batch, "model_digest", row),
            params_digest: text(batch, "params_digest", row),
            events_version: version("events_version"),
            videos_version: version("videos_version"),
            transcripts_version: version("transcripts_version"),
            receipt: text(batch, "receipt", row),
            part: version("part").and_then(|part| u32::try_from(part).ok()),
            pending: number("pending"),
        }
    })
}
