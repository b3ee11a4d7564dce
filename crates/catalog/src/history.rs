//! What a published run did: who worked on which shard when, and what each video took.

use arrow::{
    array::{Array, AsArray, RecordBatch},
    datatypes::Int64Type,
};
use eventide_schema::tables::RunRow;
use object_store::{ObjectStoreExt, path::Path};
use serde::{Deserialize, Serialize};

use crate::{
    Error, Receipt, Result, Tables,
    publish::{PublishPlan, publication},
    receipt::{FORMAT_VERSION, read_document},
    tables::{Table, text},
};

/// Who finished a shard, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Work {
    /// Host and process.
    pub worker: String,
    /// Milliseconds since 1970 (UTC), by the worker's clock.
    pub began_at_ms: i64,
    /// Likewise.
    pub ended_at_ms: i64,
}

/// A shard of a published run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardWork {
    /// The shard.
    pub shard_id: String,
    /// Who finished it, and when.
    pub work: Work,
    /// Its videos.
    pub videos: u64,
    /// Those of them that failed.
    pub failed: u64,
}

/// What one video took in a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VideoWork {
    /// Where it is.
    pub uri: String,
    /// Its terminal state.
    pub status: String,
    /// Why, in a word; empty where nothing needs saying.
    pub reason_code: String,
    /// Why.
    pub reason: String,
    /// Who worked on it.
    pub worker: String,
    /// Its length in milliseconds.
    pub duration_ms: u64,
    /// Wall-clock time in milliseconds.
    pub wall_ms: u64,
    /// Processor time of the media children in milliseconds.
    pub core_ms: u64,
    /// Time that a device worked in milliseconds.
    pub device_ms: u64,
}

/// The shards of a run, kept beside the tables when its receipts go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Timeline {
    format_version: u32,
    run_id: String,
    shards: Vec<ShardWork>,
}

impl Tables {
    /// The shards of a published run by who finished them when; none for runs of earlier programs.
    ///
    /// # Errors
    /// Whatever keeps them from being read.
    pub async fn shards_of(&self, run_id: &str) -> Result<Vec<ShardWork>> {
        let mut shards = Vec::new();
        for run in self.publications().await?.iter().filter(|run| run.run_id == run_id) {
            let path = self.timeline_path(&publication(run));
            let timeline = read_document::<Timeline>(self.location(), &path).await?;
            shards.extend(timeline.into_iter().flat_map(|timeline| timeline.shards));
        }
        Ok(shards)
    }

    /// What the videos of a published run took, as its version of `videos` says.
    ///
    /// # Errors
    /// Whatever keeps that version from being read.
    pub async fn videos_of(&self, run: &RunRow) -> Result<Vec<VideoWork>> {
        let version = run.videos_version.and_then(|version| u64::try_from(version).ok());
        let Some(version) = version else { return Ok(Vec::new()) };
        let Some(videos) = self.delta(Table::Videos, Some(version)).await? else {
            return Ok(Vec::new());
        };
        let columns = [
            "uri",
            "status",
            "reason_code",
            "reason",
            "worker",
            "duration_ms",
            "wall_ms",
            "core_ms",
            "device_ms",
            "run_id",
        ];
        let mut rows = Vec::new();
        self.scan(Table::Videos, &videos, &columns, |batch| {
            rows.extend(video_rows(batch, &run.run_id));
        })
        .await?;
        rows.sort_by(|a, b| a.uri.cmp(&b.uri));
        Ok(rows)
    }

    /// Keeps of the receipts of a run what is told of it later.
    pub(crate) async fn keep_timeline(&self, plan: &PublishPlan) -> Result<()> {
        let shards: Vec<_> = plan.receipts.iter().filter_map(shard_work).collect();
        if shards.is_empty() {
            return Ok(());
        }
        let run_id = plan.run.run_id.clone();
        let path = self.timeline_path(&publication(&plan.run));
        let uri = || self.location().uri_of(&path);
        let timeline = Timeline { format_version: FORMAT_VERSION, run_id, shards };
        let bytes = serde_json::to_vec(&timeline)
            .map_err(|source| Error::Document { uri: uri(), source })?;
        let put = self.location().store.put(&path, bytes.into()).await;
        put.map(drop).map_err(|source| Error::store("write", uri(), source))
    }

    fn timeline_path(&self, publication: &str) -> Path {
        self.location().child("_eventide/timelines").join(format!("{publication}.json"))
    }
}

fn shard_work(receipt: &Receipt) -> Option<ShardWork> {
    Some(ShardWork {
        shard_id: receipt.shard_id.clone(),
        work: receipt.work.clone()?,
        videos: receipt.counts.videos(),
        failed: receipt.counts.failed,
    })
}

fn video_rows(batch: &RecordBatch, run_id: &str) -> impl Iterator<Item = VideoWork> {
    let rows = (0..batch.num_rows()).filter(move |&row| text(batch, "run_id", row) == run_id);
    rows.map(|row| {
        let number = |name: &str| {
            let column = batch.column_by_name(name)?.as_primitive_opt::<Int64Type>()?;
            column.is_valid(row).then(|| u64::try_from(column.value(row)).unwrap_or(0))
        };
        let number = |name| number(name).unwrap_or(0);
        VideoWork {
            uri: text(batch, "uri", row),
            status: text(batch, "status", row),
            reason_code: text(batch, "reason_code", row),
            reason: text(batch, "reason", row),
            worker: text(batch, "worker", row),
            duration_ms: number("duration_ms"),
            wall_ms: number("wall_ms"),
            core_ms: number("core_ms"),
            device_ms: number("device_ms"),
        }
    })
}
