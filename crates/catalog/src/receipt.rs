//! Receipts: what makes the work of a shard durable. Its rows lie in part files that nobody sees,
//! and one small document names them; the first writer of that document wins.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use eventide_schema::{
    Outcome, Provenance, Shard, Stage, Status, Stretch,
    tables::{events_batch, transcripts_batch, videos_batch},
};
use futures::{StreamExt, TryStreamExt};
use object_store::{ObjectStoreExt, PutMode, PutOptions, path::Path};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use uuid::Uuid;

use crate::{
    Error, Location, Paces, PartFile, Result, Tables, Work,
    parts::PartWriter,
    stretches::StretchOutcome,
    tables::{Table, read_concurrency},
};

/// The version of the documents under `_eventide/` that this program reads and writes.
pub(crate) const FORMAT_VERSION: u32 = 1;

/// Proof that a shard is done, and where its rows are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Receipt {
    /// Version of this document.
    pub format_version: u32,
    /// The run that the rows name.
    pub run_id: String,
    /// The shard.
    pub shard_id: String,
    /// Digest of the model bundle that made the rows, or `none`.
    pub model_digest: String,
    /// Digest of the parameters that made the rows.
    pub params_digest: String,
    /// What became of each video, by `video_id`.
    pub items: Vec<ReceiptItem>,
    /// Files of `events`; none where there are no events.
    pub events: Vec<PartFile>,
    /// Files of `videos`.
    pub videos: Vec<PartFile>,
    /// Files of `transcripts`; none where nothing is said.
    #[serde(default)]
    pub transcripts: Vec<PartFile>,
    /// Sums over the shard.
    pub counts: Counts,
    /// Who did it, and when; not known of earlier programs.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub work: Option<Work>,
    /// What came of the stretch of a video, where the shard is one. There are no items, files and counts then:
    /// they come with the receipt of the joined video.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub stretch: Option<StretchOutcome>,
}

/// What became of one video.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiptItem {
    /// The video.
    pub video_id: String,
    /// The version that was read.
    pub source_version: String,
    /// Tries in this version, this one included.
    pub attempts: u32,
    /// Its terminal state.
    pub status: Status,
    /// Where it failed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub stage: Option<Stage>,
    /// Why, in a word.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason_code: Option<String>,
}

/// Sums over videos.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counts {
    /// Videos with events.
    pub captioned: u64,
    /// Videos with nothing to tell.
    pub empty: u64,
    /// Videos that could not be indexed.
    pub failed: u64,
    /// Videos that a rule leaves out.
    pub skipped: u64,
    /// Events.
    pub events: u64,
    /// Length of the videos in milliseconds.
    pub video_ms: u64,
    /// Processor time of the media children in milliseconds.
    pub core_ms: u64,
    /// Time that model devices were busy in milliseconds.
    pub device_ms: u64,
    /// Bytes read from the store.
    pub bytes_read: u64,
}

impl Counts {
    /// Sums over some outcomes.
    #[must_use]
    pub fn of(outcomes: &[Outcome]) -> Self {
        let mut counts = Self::default();
        for outcome in outcomes {
            *counts.of_status(outcome.status) += 1;
            counts.events += outcome.events.len() as u64;
            let micros = u64::try_from(outcome.media.duration_us.unwrap_or(0)).unwrap_or(0);
            counts.video_ms += micros / 1000;
            counts.core_ms += outcome.costs.core_ms;
            counts.device_ms += outcome.costs.device_ms;
            counts.bytes_read += outcome.costs.bytes_read;
        }
        counts
    }

    /// Videos in all.
    #[must_use]
    pub fn videos(&self) -> u64 {
        self.captioned + self.empty + self.failed + self.skipped
    }

    /// The count of one state.
    pub(crate) fn of_status(&mut self, status: Status) -> &mut u64 {
        match status {
            Status::Captioned => &mut self.captioned,
            Status::Empty => &mut self.empty,
            Status::Failed => &mut self.failed,
            Status::Skipped => &mut self.skipped,
        }
    }
}

impl std::ops::Add for Counts {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            captioned: self.captioned + other.captioned,
            empty: self.empty + other.empty,
            failed: self.failed + other.failed,
            skipped: self.skipped + other.skipped,
            events: self.events + other.events,
            video_ms: self.video_ms + other.video_ms,
            core_ms: self.core_ms + other.core_ms,
            device_ms: self.device_ms + other.device_ms,
            bytes_read: self.bytes_read + other.bytes_read,
        }
    }
}

impl std::iter::Sum for Counts {
    fn sum<I: Iterator<Item = Self>>(counts: I) -> Self {
        counts.fold(Self::default(), |sum, counts| sum + counts)
    }
}

/// A run with finished shards that is not published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unpublished {
    /// The run.
    pub run_id: String,
    /// Its finished shards.
    pub shards: u64,
    /// Sums over them.
    pub counts: Counts,
    /// Who finished them, and how fast.
    pub workers: Paces,
}

impl Tables {
    /// Makes the outcomes of a shard durable, and answers with the receipt that counts.
    ///
    /// That may be another worker's: the first one wins, and whoever comes later removes its own
    /// files. Nothing is visible in the tables before the run is published.
    ///
    /// # Errors
    /// [`Error::WrongOutcomes`] unless there is exactly one outcome for each item of the shard;
    /// otherwise whatever keeps the files from being written. After such an error the receipt may
    /// be there or not; the same call again settles it.
    pub async fn write_shard(
        &self,
        by: &Provenance,
        shard: &Shard,
        outcomes: &[Outcome],
    ) -> Result<Receipt> {
        self.write_shard_begun(by, shard, outcomes, Utc::now()).await
    }

    /// The same, of a shard that was begun earlier.
    ///
    /// # Errors
    /// As [`Tables::write_shard`].
    pub async fn write_shard_begun(
        &self,
        by: &Provenance,
        shard: &Shard,
        outcomes: &[Outcome],
        began: DateTime<Utc>,
    ) -> Result<Receipt> {
        let work = || Work {
            worker: by.worker.clone(),
            began_at_ms: began.timestamp_millis(),
            ended_at_ms: Utc::now().timestamp_millis(),
        };
        self.write_receipt(by, shard, outcomes, || Some(work())).await
    }

    /// The same, where `work` tells of the work once the files are written.
    pub(crate) async fn write_receipt(
        &self,
        by: &Provenance,
        shard: &Shard,
        outcomes: &[Outcome],
        work: impl FnOnce() -> Option<Work>,
    ) -> Result<Receipt> {
        check_outcomes(shard, outcomes)?;
        tracing::debug!(run = by.run_id, shard = shard.shard_id, "writing parts");
        let mut receipt = match (shard.stretch(), outcomes) {
            (Some(stretch), [outcome]) => stretch_receipt(by, shard, stretch, outcome),
            _ => self.write_parts(by, shard, outcomes).await?,
        };
        tracing::debug!(run = by.run_id, shard = shard.shard_id, "parts written");
        receipt.work = work();
        let path = self.receipt_path(&receipt.run_id, &receipt.shard_id);
        let winner = match create(self.location(), &path, &receipt).await? {
            Created::Ours => receipt,
            Created::Theirs(winner) => {
                self.remove_parts(&receipt).await;
                winner
            }
        };
        Ok(winner)
    }

    /// The receipt of a shard in a run, if it is done: whoever is about to do it need not.
    ///
    /// # Errors
    /// Whatever keeps it from being read.
    pub async fn receipt(&self, run_id: &str, shard_id: &str) -> Result<Option<Receipt>> {
        read_document(self.location(), &self.receipt_path(run_id, shard_id)).await
    }

    /// The receipts of runs that were not published, made with the same model and parameters.
    ///
    /// # Errors
    /// Whatever keeps them from being listed or read.
    pub async fn pending(&self, model_digest: &str, params_digest: &str) -> Result<Vec<Receipt>> {
        let paths = self.list_own("receipts").await?;
        let mut receipts: Vec<Receipt> = futures::stream::iter(paths)
            .map(|path| async move { read_document::<Receipt>(self.location(), &path).await })
            .buffered(read_concurrency())
            .try_filter_map(|receipt| async move { Ok(receipt) })
            .try_collect()
            .await?;
        receipts.retain(|r| r.model_digest == model_digest && r.params_digest == params_digest);
        let mut published = BTreeMap::new();
        for receipt in &receipts {
            if !published.contains_key(&receipt.run_id) {
                let is_published = self.is_published(&receipt.run_id).await?;
                published.insert(receipt.run_id.clone(), is_published);
            }
        }
        receipts.retain(|receipt| !published[&receipt.run_id]);
        Ok(receipts)
    }

    /// The runs with finished shards that are not published, the newest first. What was published in parts
    /// is left out.
    ///
    /// # Errors
    /// Whatever keeps the receipts from being listed or read.
    pub async fn unpublished(&self) -> Result<Vec<Unpublished>> {
        let paths = self.list_own("receipts").await?;
        let receipts: Vec<Option<Receipt>> = futures::stream::iter(paths)
            .map(|path| async move { read_document(self.location(), &path).await })
            .buffered(read_concurrency())
            .try_collect()
            .await?;
        let mut published = BTreeMap::new();
        for receipt in receipts.iter().flatten() {
            if !published.contains_key(&receipt.run_id) {
                let shards = self.shards_of(&receipt.run_id).await?;
                let shards: BTreeSet<_> = shards.into_iter().map(|shard| shard.shard_id).collect();
                published.insert(receipt.run_id.clone(), shards);
            }
        }
        let mut runs = BTreeMap::<String, Unpublished>::new();
        let open = |receipt: &Receipt| !published[&receipt.run_id].contains(&receipt.shard_id);
        for receipt in receipts.into_iter().flatten().filter(open) {
            let run = runs.entry(receipt.run_id.clone()).or_insert_with(|| Unpublished {
                run_id: receipt.run_id.clone(),
                shards: 0,
                counts: Counts::default(),
                workers: Paces::default(),
            });
            run.workers.add(&receipt);
            (run.shards, run.counts) = (run.shards + 1, run.counts + receipt.counts);
        }
        let mut unpublished = Vec::new();
        for run in runs.into_values().rev() {
            if !self.is_published(&run.run_id).await? {
                unpublished.push(run);
            }
        }
        Ok(unpublished)
    }

    pub(crate) fn receipt_path(&self, run_id: &str, shard_id: &str) -> Path {
        self.location().child("_eventide/receipts").join(run_id).join(format!("{shard_id}.json"))
    }

    async fn write_parts(
        &self,
        by: &Provenance,
        shard: &Shard,
        outcomes: &[Outcome],
    ) -> Result<Receipt> {
        let rows = |source| Error::Rows { uri: self.location().uri.clone(), source };
        let name = || format!("part-{}-{}-{}.parquet", by.run_id, shard.shard_id, Uuid::now_v7());
        let mut parts = [Vec::new(), Vec::new(), Vec::new()];
        let batches = [
            (Table::Events, events_batch(outcomes, by).map_err(rows)?),
            (Table::Videos, videos_batch(outcomes, by).map_err(rows)?),
            (Table::Transcripts, transcripts_batch(outcomes, by).map_err(rows)?),
        ];
        for ((table, batch), parts) in batches.iter().zip(&mut parts) {
            if batch.num_rows() > 0 {
                let mut writer = PartWriter::create(&self.folder(*table), name(), &table.schema())?;
                writer.write(batch).await?;
                parts.push(writer.finish().await?);
            }
        }
        let [events, videos, transcripts] = parts;
        let mut items: Vec<_> = outcomes.iter().map(item).collect();
        items.sort_by(|a, b| a.video_id.cmp(&b.video_id));
        let counts = Counts::of(outcomes);
        Ok(Receipt { items, events, videos, transcripts, counts, ..blank_receipt(by, shard) })
    }

    async fn remove_parts(&self, receipt: &Receipt) {
        let parts = [
            (Table::Events, &receipt.events),
            (Table::Videos, &receipt.videos),
            (Table::Transcripts, &receipt.transcripts),
        ];
        for (table, parts) in parts {
            let folder = self.folder(table);
            let paths = parts.iter().map(|part| folder.child(&part.path)).collect();
            remove_quietly(self.location(), paths).await;
        }
    }
}

/// A receipt of nothing.
fn blank_receipt(by: &Provenance, shard: &Shard) -> Receipt {
    Receipt {
        format_version: FORMAT_VERSION,
        run_id: by.run_id.clone(),
        shard_id: shard.shard_id.clone(),
        model_digest: by.model_digest.clone(),
        params_digest: by.params_digest.clone(),
        items: Vec::new(),
        events: Vec::new(),
        videos: Vec::new(),
        transcripts: Vec::new(),
        counts: Counts::default(),
        work: None,
        stretch: None,
    }
}

/// The receipt of a stretch, which holds what is to be joined.
fn stretch_receipt(by: &Provenance, shard: &Shard, stretch: Stretch, outcome: &Outcome) -> Receipt {
    let outcome = StretchOutcome { stretch, outcome: outcome.clone() };
    Receipt { stretch: Some(outcome), ..blank_receipt(by, shard) }
}

fn item(outcome: &Outcome) -> ReceiptItem {
    ReceiptItem {
        video_id: outcome.video.video_id.clone(),
        source_version: outcome.video.source_version.clone(),
        attempts: outcome.attempts,
        status: outcome.status,
        stage: outcome.failure.as_ref().map(|f| f.stage),
        reason_code: outcome.failure.as_ref().map(|f| f.reason_code.clone()),
    }
}

/// One outcome for each item, of the same video in the same version and attempt.
fn check_outcomes(shard: &Shard, outcomes: &[Outcome]) -> Result<()> {
    let key = |video: &eventide_schema::Video, attempt: u32| {
        (video.video_id.clone(), video.source_version.clone(), attempt)
    };
    let mut asked: Vec<_> = shard.items.iter().map(|i| key(&i.video, i.attempt)).collect();
    let mut given: Vec<_> = outcomes.iter().map(|o| key(&o.video, o.attempts)).collect();
    asked.sort_unstable();
    given.sort_unstable();
    if asked == given {
        return Ok(());
    }
    let strange = given.iter().find(|g| !asked.contains(g));
    let missing = asked.iter().find(|a| !given.contains(a));
    let because = match (strange, missing) {
        (Some((id, version, attempt)), _) => {
            format!("nobody asked for attempt {attempt} of `{id}` in version `{version}`")
        }
        (None, Some((id, ..))) => format!("there is none for `{id}`"),
        (None, None) => "a video has more than one".to_owned(),
    };
    Err(Error::WrongOutcomes { shard_id: shard.shard_id.clone(), because })
}

/// Who wrote a document that is written once.
pub(crate) enum Created<T> {
    /// This call.
    Ours,
    /// Someone before, and this is what it says.
    Theirs(T),
}

/// Writes a document unless it is there. When the store's answer is lost, what lies there tells
/// whether it is ours: every document that is written this way is unlike all others.
pub(crate) async fn create<T: Serialize + DeserializeOwned + PartialEq>(
    at: &Location,
    path: &Path,
    document: &T,
) -> Result<Created<T>> {
    let uri = at.uri_of(path);
    let bytes = serde_json::to_vec(document)
        .map_err(|source| Error::Document { uri: uri.clone(), source })?;
    let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
    let Err(failure) = at.store.put_opts(path, bytes.into(), options).await else {
        return Ok(Created::Ours);
    };
    match read_document::<T>(at, path).await? {
        Some(found) if found == *document => Ok(Created::Ours),
        Some(found) => Ok(Created::Theirs(found)),
        None if says_it_is_there(&failure) => Err(Error::Contradiction { uri, source: failure }),
        None => Err(Error::store("create", uri, failure)),
    }
}

/// Whether a store refuses to create something for the reason that there is something.
fn says_it_is_there(failure: &object_store::Error) -> bool {
    use object_store::Error as E;
    matches!(failure, E::AlreadyExists { .. } | E::Precondition { .. })
}

/// A document of ours; `None` where there is none.
pub(crate) async fn read_document<T: DeserializeOwned>(
    at: &Location,
    path: &Path,
) -> Result<Option<T>> {
    #[derive(Deserialize)]
    struct Format {
        format_version: u32,
    }
    let uri = || at.uri_of(path);
    let read = async { at.store.get(path).await?.bytes().await };
    let bytes = match read.await {
        Ok(bytes) => bytes,
        Err(object_store::Error::NotFound { .. }) => return Ok(None),
        Err(source) => return Err(Error::store("read", uri(), source)),
    };
    let unclear = |source| Error::Document { uri: uri(), source };
    let format: Format = serde_json::from_slice(&bytes).map_err(unclear)?;
    if format.format_version != FORMAT_VERSION {
        let found = format.format_version;
        return Err(Error::Format { uri: uri(), found, expected: FORMAT_VERSION });
    }
    serde_json::from_slice(&bytes).map(Some).map_err(unclear)
}

/// Removes files that nothing refers to. One that stays costs space until the next vacuum, so
/// that is told and no error.
pub(crate) async fn remove_quietly(at: &Location, paths: Vec<Path>) {
    for path in paths {
        match at.store.delete(&path).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
            Err(error) => {
                tracing::warn!(uri = at.uri_of(&path), error = %error, "left an unused file behind");
            }
        }
    }
}
