//! One change of one Delta table as one commit: new part files in, the older rows of their videos
//! and of removed videos out, and the change feed that tells exactly this.
//!
//! Files that hold rows which must go are copied without them. The log is the lock: a commit
//! that others overtook is made anew on top of theirs, and one that is already there is found by
//! its transaction.

use std::{collections::HashSet, sync::Arc};

use arrow::{
    array::{ArrayRef, AsArray, BooleanArray, RecordBatch, StringArray},
    compute::{filter_record_batch, not},
    datatypes::{DataType, Field, Schema, SchemaRef},
};
use deltalake_core::{
    DeltaTable, DeltaTableError,
    kernel::{
        Action, Add, AddCDCFile, Transaction,
        transaction::{CommitBuilder, CommitProperties, TableReference, TransactionError},
    },
    protocol::{DeltaOperation, SaveMode},
};
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use parquet::{
    arrow::async_reader::ParquetRecordBatchStream,
    file::{metadata::RowGroupMetaData, statistics::Statistics},
};
use uuid::Uuid;

use crate::{
    Error, Location, PartFile, Result, Tables,
    parts::{PartReader, PartWriter, StoredFile, conform},
    receipt::remove_quietly,
    tables::{DataFile, FileBounds, Table, app_id, data_files, delta_error, read_concurrency},
};

/// How often a commit is made anew because others were faster.
const ATTEMPTS: usize = 20;
/// The transaction version of a run, which commits to a table once.
const TRANSACTION_VERSION: i64 = 1;
/// How far back a run's commit is looked for.
const SEARCHED_VERSIONS: u64 = 1000;

/// What a run changes in one table.
pub(crate) struct Change<'a> {
    pub(crate) table: Table,
    pub(crate) run_id: &'a str,
    /// Files to add, which lie in the table's folder already.
    pub(crate) parts: Vec<&'a PartFile>,
    /// Videos whose rows in the table so far must go; sorted.
    pub(crate) replaced: &'a [String],
}

/// A change against one version of the table.
#[derive(Default)]
struct Draft {
    actions: Vec<Action>,
    /// Files that were written for it, within the table's folder.
    written: Vec<String>,
}

impl Tables {
    /// Makes the change, unless it is made; answers with its version, or `None` where the
    /// table says already what it should.
    pub(crate) async fn commit(&self, change: &Change<'_>) -> Result<Option<i64>> {
        let folder = self.folder(change.table);
        for _ in 0..ATTEMPTS {
            let table = self.existing(change.table).await?;
            if let Some((version, _)) = self.committed(change, &table).await? {
                return Ok(Some(version));
            }
            let draft = self.draft(&folder, &table, change).await?;
            if draft.actions.is_empty() {
                return Ok(None);
            }
            let failure = match self.try_commit(change, &table, &draft).await {
                Ok(version) => return Ok(Some(signed(version))),
                Err(failure) => failure,
            };
            // The store may have taken the commit and lost the answer, so ask the log.
            let table = self.existing(change.table).await?;
            let found = self.committed(change, &table).await?;
            let is_ours = |entry: &str| draft.written.iter().any(|name| entry.contains(name));
            match found {
                Some((version, entry)) => {
                    if !draft.written.is_empty() && !is_ours(&entry) {
                        remove_written(&folder, &draft).await;
                    }
                    return Ok(Some(version));
                }
                None if is_overtaken(&failure) => remove_written(&folder, &draft).await,
                // A request may still be under way: its files stay for it, or for a vacuum.
                None => return Err(delta_error("commit to", &folder.uri, failure)),
            }
        }
        Err(Error::Contended { uri: folder.uri, attempts: ATTEMPTS })
    }

    async fn existing(&self, table: Table) -> Result<DeltaTable> {
        let uri = || self.folder(table).uri;
        self.delta(table, None).await?.ok_or_else(|| Error::NotFound { uri: uri() })
    }

    /// The version and text of the commit of this run, if it is there.
    async fn committed(
        &self,
        change: &Change<'_>,
        table: &DeltaTable,
    ) -> Result<Option<(i64, String)>> {
        if self.transaction(change.table, table, change.run_id).await?.is_none() {
            return Ok(None);
        }
        let uri = self.folder(change.table).uri;
        let log = table.log_store();
        let newest = table.version().unwrap_or(0);
        let named = format!("\"{}\"", app_id(change.run_id));
        for version in (newest.saturating_sub(SEARCHED_VERSIONS)..=newest).rev() {
            let entry = log
                .read_commit_entry(version)
                .await
                .map_err(|source| delta_error("read", &uri, source))?;
            let Some(entry) = entry else { break };
            let entry = String::from_utf8_lossy(&entry).into_owned();
            if entry.lines().any(|line| line.contains("\"txn\"") && line.contains(&named)) {
                return Ok(Some((signed(version), entry)));
            }
        }
        // Its entry has gone the way of old logs: whatever holds now is at least as new.
        Ok(Some((signed(newest), String::new())))
    }

    async fn try_commit(
        &self,
        change: &Change<'_>,
        table: &DeltaTable,
        draft: &Draft,
    ) -> Result<u64, DeltaTableError> {
        let only_adds = draft.actions.iter().all(|action| matches!(action, Action::Add(_)));
        let operation = if only_adds {
            DeltaOperation::Write { mode: SaveMode::Append, partition_by: None, predicate: None }
        } else {
            DeltaOperation::Update { predicate: None }
        };
        let now = chrono::Utc::now().timestamp_millis();
        let transaction = Transaction::new_with_last_update(
            app_id(change.run_id),
            TRANSACTION_VERSION,
            Some(now),
        );
        // No retries within: what to remove depends on the version that is built on.
        let properties = CommitProperties::default()
            .with_max_retries(0)
            .with_application_transaction(transaction);
        let state: &dyn TableReference = table.snapshot()?;
        let made = CommitBuilder::from(properties)
            .with_actions(draft.actions.clone())
            .build(Some(state), table.log_store(), operation)
            .await?;
        Ok(made.version())
    }

    /// The actions that make the change on top of `table`.
    async fn draft(
        &self,
        folder: &Location,
        table: &DeltaTable,
        change: &Change<'_>,
    ) -> Result<Draft> {
        let touched = touched_files(folder, table, change.replaced).await?;
        // A file that another publication has brought along is there already, and stays.
        let parts: HashSet<Path> = change.parts.iter().map(|p| folder.child(&p.path)).collect();
        let (there, touched): (Vec<_>, Vec<_>) =
            touched.into_iter().partition(|touched| parts.contains(&touched.file.path));
        let there: HashSet<Path> = there.into_iter().map(|touched| touched.file.path).collect();
        let new = |part: &&PartFile| !there.contains(&folder.child(&part.path));
        let change =
            &Change { parts: change.parts.iter().copied().filter(new).collect(), ..*change };
        let mut draft = Draft::default();
        draft.actions.extend(change.parts.iter().map(|part| Action::Add(add(part))));
        if touched.is_empty() {
            return Ok(draft);
        }
        draft.actions.extend(
            touched.iter().map(|touched| Action::Remove(touched.file.view.remove_action(true))),
        );
        // Without a change feed of its own a commit reads as: all rows of the files that come,
        // all rows of the files that go. That is right unless rows move from file to file.
        if touched.iter().any(|touched| touched.hits < touched.rows) {
            self.rewrite(folder, change, touched, &mut draft).await?;
        }
        Ok(draft)
    }

    /// Copies what stays of the touched files, and writes the change feed.
    async fn rewrite(
        &self,
        folder: &Location,
        change: &Change<'_>,
        touched: Vec<Touched>,
        draft: &mut Draft,
    ) -> Result<()> {
        let schema = change.table.schema();
        let changes = with_change_type(&schema);
        let name = format!("_change_data/cdc-{}-{}.parquet", change.run_id, Uuid::now_v7());
        let mut feed = PartWriter::create(folder, name, &changes)?;
        let replaced: HashSet<&str> = change.replaced.iter().map(String::as_str).collect();
        for Touched { file, hits, rows } in touched {
            let name = format!("part-{}-{}.parquet", change.run_id, Uuid::now_v7());
            let some_stay = hits < rows;
            let mut kept =
                some_stay.then(|| PartWriter::create(folder, name, &schema)).transpose()?;
            let reader = PartReader::open(folder, file.path, file.size_bytes).await?;
            let mut batches = Rows::new(reader, &schema)?;
            while let Some(batch) = batches.next().await? {
                let goes = mask(&batch, &replaced, &batches.uri)?;
                let gone = select(&batch, &goes, &batches.uri)?;
                feed.write(&typed(&gone, &changes, "delete", &batches.uri)?).await?;
                if let Some(kept) = &mut kept {
                    let stays = not(&goes)
                        .map_err(|source| Error::Rows { uri: batches.uri.clone(), source })?;
                    kept.write(&select(&batch, &stays, &batches.uri)?).await?;
                }
            }
            if let Some(kept) = kept {
                let part = kept.finish().await?;
                draft.written.push(part.path.clone());
                draft.actions.push(Action::Add(add(&part)));
            }
        }
        for part in &change.parts {
            let path = folder.child(&part.path);
            let reader = PartReader::open(folder, path, part.size_bytes).await?;
            let mut batches = Rows::new(reader, &schema)?;
            while let Some(batch) = batches.next().await? {
                feed.write(&typed(&batch, &changes, "insert", &batches.uri)?).await?;
            }
        }
        let feed = feed.finish().await?;
        draft.written.push(feed.path.clone());
        draft.actions.push(Action::Cdc(AddCDCFile {
            path: feed.path,
            size: signed(feed.size_bytes),
            data_change: false,
            ..AddCDCFile::default()
        }));
        Ok(())
    }
}

/// As Delta has numbers.
pub(crate) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

async fn remove_written(folder: &Location, draft: &Draft) {
    let paths: Vec<Path> = draft.written.iter().map(|name| folder.child(name)).collect();
    remove_quietly(folder, paths).await;
}

/// Whether a commit failed only because others were faster.
pub(crate) fn is_overtaken(error: &DeltaTableError) -> bool {
    matches!(
        error,
        DeltaTableError::VersionAlreadyExists(_)
            | DeltaTableError::Transaction {
                source: TransactionError::VersionAlreadyExists(_)
                    | TransactionError::MaxCommitAttempts(_)
                    | TransactionError::CommitConflict(_),
            }
    )
}

pub(crate) fn add(part: &PartFile) -> Add {
    Add {
        path: part.path.clone(),
        partition_values: std::collections::HashMap::new(),
        size: signed(part.size_bytes),
        modification_time: chrono::Utc::now().timestamp_millis(),
        data_change: true,
        stats: Some(part.stats.clone()),
        tags: None,
        deletion_vector: None,
        base_row_id: None,
        default_row_commit_version: None,
        clustering_provider: None,
    }
}

/// A file that holds rows which must go.
struct Touched {
    file: DataFile,
    hits: usize,
    rows: usize,
}

/// The files of the table that hold rows of `replaced`, which is sorted.
async fn touched_files(
    folder: &Location,
    table: &DeltaTable,
    replaced: &[String],
) -> Result<Vec<Touched>> {
    if replaced.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Arc<HashSet<&str>> = Arc::new(replaced.iter().map(String::as_str).collect());
    let candidates = data_files(folder, table)?.into_iter().filter(|file| {
        let FileBounds { min_values, max_values, .. } = FileBounds::of(&file.view);
        match (min_values.video_id, max_values.video_id) {
            (Some(low), Some(high)) => any_within(replaced, low.as_str(), high.as_str()),
            _ => true,
        }
    });
    let candidates: Vec<DataFile> = candidates.collect();
    futures::stream::iter(candidates)
        .map(|file| {
            let ids = Arc::clone(&ids);
            async move { count_hits(folder, file, replaced, &ids).await }
        })
        .buffered(read_concurrency())
        .try_filter(|touched| std::future::ready(touched.hits > 0))
        .try_collect()
        .await
}

/// Whether sorted `ids` has one in `low..=high`.
fn any_within(ids: &[String], low: &str, high: &str) -> bool {
    let first = ids.partition_point(|id| id.as_str() < low);
    ids.get(first).is_some_and(|id| id.as_str() <= high)
}

/// How many rows of a file must go. Reads one column, of the row groups that may hold them.
async fn count_hits(
    folder: &Location,
    file: DataFile,
    replaced: &[String],
    ids: &HashSet<&str>,
) -> Result<Touched> {
    let reader = PartReader::open(folder, file.path.clone(), file.size_bytes).await?;
    let metadata = Arc::clone(reader.builder.metadata());
    let rows = usize::try_from(metadata.file_metadata().num_rows()).unwrap_or(0);
    let groups = (0..metadata.num_row_groups())
        .filter(|&group| may_hold(metadata.row_group(group), replaced))
        .collect();
    let mut reader = reader.columns(&["video_id"]);
    reader.builder = reader.builder.with_row_groups(groups);
    let id_only = Schema::new(vec![Field::new("video_id", DataType::Utf8, false)]);
    let mut batches = Rows::new(reader, &Arc::new(id_only))?;
    let mut hits = 0;
    while let Some(batch) = batches.next().await? {
        hits += mask(&batch, ids, &batches.uri)?.true_count();
    }
    Ok(Touched { file, hits, rows })
}

fn may_hold(group: &RowGroupMetaData, replaced: &[String]) -> bool {
    let column = group.columns().iter().find(|c| c.column_path().string() == "video_id");
    let Some(Statistics::ByteArray(bounds)) = column.and_then(|c| c.statistics()) else {
        return true;
    };
    let text = |bytes: &[u8]| std::str::from_utf8(bytes).ok().map(str::to_owned);
    let low = bounds.min_opt().and_then(|low| text(low.data()));
    let high = bounds.max_opt().and_then(|high| text(high.data()));
    match (low, high) {
        (Some(low), Some(high)) => any_within(replaced, &low, &high),
        _ => true,
    }
}

/// The rows of a file in the columns of its table, batch by batch.
struct Rows {
    batches: ParquetRecordBatchStream<StoredFile>,
    schema: SchemaRef,
    uri: String,
}

impl Rows {
    fn new(reader: PartReader, schema: &SchemaRef) -> Result<Self> {
        let PartReader { builder, uri } = reader;
        let batches = builder.build().map_err(|source| Error::Parquet {
            action: "read",
            uri: uri.clone(),
            source,
        })?;
        Ok(Self { batches, schema: Arc::clone(schema), uri })
    }

    async fn next(&mut self) -> Result<Option<RecordBatch>> {
        let batch = self.batches.try_next().await.map_err(|source| Error::Parquet {
            action: "read",
            uri: self.uri.clone(),
            source,
        })?;
        batch.map(|batch| conform(&batch, &self.schema, &self.uri)).transpose()
    }
}

/// Which rows are of the videos in `ids`.
fn mask(batch: &RecordBatch, ids: &HashSet<&str>, uri: &str) -> Result<BooleanArray> {
    let column = batch
        .column_by_name("video_id")
        .and_then(|column| column.as_string_opt::<i32>())
        .ok_or_else(|| Error::Rows {
            uri: uri.to_owned(),
            source: arrow::error::ArrowError::SchemaError("no `video_id`".to_owned()),
        })?;
    let mut last: Option<(&str, bool)> = None; // rows of a video are neighbours
    let is_in = |id| match last {
        Some((known, answer)) if known == id => answer,
        _ => {
            let answer = ids.contains(id);
            last = Some((id, answer));
            answer
        }
    };
    Ok(column.iter().map(Option::unwrap_or_default).map(is_in).map(Some).collect())
}

fn select(batch: &RecordBatch, rows: &BooleanArray, uri: &str) -> Result<RecordBatch> {
    filter_record_batch(batch, rows).map_err(|source| Error::Rows { uri: uri.to_owned(), source })
}

fn with_change_type(schema: &SchemaRef) -> SchemaRef {
    let change_type = Arc::new(Field::new("_change_type", DataType::Utf8, true));
    Arc::new(Schema::new(schema.fields().iter().cloned().chain([change_type]).collect::<Vec<_>>()))
}

fn typed(
    batch: &RecordBatch,
    schema: &SchemaRef,
    change_type: &str,
    uri: &str,
) -> Result<RecordBatch> {
    let change_type: ArrayRef = Arc::new(StringArray::from(vec![change_type; batch.num_rows()]));
    let columns = batch.columns().iter().cloned().chain([change_type]).collect();
    RecordBatch::try_new(Arc::clone(schema), columns)
        .map_err(|source| Error::Rows { uri: uri.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::inside("b", "c", true)]
    #[case::on_the_edge("d", "x", true)]
    #[case::between("bb", "cc", false)]
    #[case::before("0", "9", false)]
    #[case::after("e", "z", false)]
    fn finds_ids_in_bounds(#[case] low: &str, #[case] high: &str, #[case] expected: bool) {
        let ids = ["a", "b", "d"].map(str::to_owned);
        assert_eq!(any_within(&ids, low, high), expected);
    }
}
