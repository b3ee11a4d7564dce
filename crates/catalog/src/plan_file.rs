//! Plan files: the shards of a run, written once, so that whoever works on one reads it by its place
//! and a million videos never travel in a message. Also the note of who runs a job on a cluster.

use eventide_schema::Shard;
use futures::StreamExt;
use object_store::{ObjectStoreExt, PutPayload, buffered::BufWriter, path::Path};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt;
use uuid::Uuid;

use crate::{
    Error, Receipt, Result, Tables,
    receipt::{FORMAT_VERSION, read_document, remove_quietly},
    tables::read_concurrency,
};

/// Where a shard stands in a plan file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardPlace {
    /// The shard.
    pub shard_id: String,
    /// Its first byte.
    pub offset: u64,
    /// Its length in bytes.
    pub length: u64,
    /// Its videos.
    pub videos: u64,
}

/// The shards of a run, and where each stands. Lies beside the file of the shards themselves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanFile {
    /// Version of this document.
    pub format_version: u32,
    /// Name of the plan within the run, `[0-9a-f-]`.
    pub name: String,
    /// The run.
    pub run_id: String,
    /// In the order in which they should be begun.
    pub shards: Vec<ShardPlace>,
}

/// Who runs a job on a cluster at present. The next run of the job takes it over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Submission {
    /// Version of this document.
    pub format_version: u32,
    /// Address of the scheduler.
    pub scheduler: String,
    /// The scheduler's name for the job.
    pub cluster_job: String,
    /// The run.
    pub run_id: String,
}

impl Submission {
    /// A note of what was just submitted.
    #[must_use]
    pub fn new(scheduler: &str, cluster_job: &str, run_id: &str) -> Self {
        Self {
            format_version: FORMAT_VERSION,
            scheduler: scheduler.to_owned(),
            cluster_job: cluster_job.to_owned(),
            run_id: run_id.to_owned(),
        }
    }
}

impl Tables {
    /// Writes the shards of a run, one JSON text after the other, and where each stands.
    ///
    /// # Errors
    /// Whatever keeps them from being written.
    pub async fn write_plan(&self, run_id: &str, shards: &[Shard]) -> Result<PlanFile> {
        let name = Uuid::now_v7().to_string();
        let path = self.plan_path(run_id, &name, "shards");
        let uri = self.location().uri_of(&path);
        let mut writer = BufWriter::new(self.location().store.clone(), path);
        let failed = |error| Error::store("write", &uri, of_store(error));
        let (mut places, mut offset) = (Vec::with_capacity(shards.len()), 0);
        for shard in shards {
            let text = serde_json::to_vec(shard)
                .map_err(|source| Error::Document { uri: uri.clone(), source })?;
            writer.write_all(&text).await.map_err(failed)?;
            let (length, videos) = (text.len() as u64, shard.items.len() as u64);
            places.push(ShardPlace { shard_id: shard.shard_id.clone(), offset, length, videos });
            offset += length;
        }
        writer.shutdown().await.map_err(failed)?;
        let plan = PlanFile {
            format_version: FORMAT_VERSION,
            name,
            run_id: run_id.to_owned(),
            shards: places,
        };
        self.put(&self.plan_path(run_id, &plan.name, "json"), &plan).await?;
        tracing::debug!(run_id, "plan written");
        Ok(plan)
    }

    /// Where each shard of a plan stands.
    ///
    /// # Errors
    /// [`Error::NotFound`] where there is no such plan, otherwise whatever keeps it from being read.
    pub async fn plan_file(&self, run_id: &str, name: &str) -> Result<PlanFile> {
        let path = self.plan_path(run_id, name, "json");
        let plan = read_document(self.location(), &path).await?;
        plan.ok_or_else(|| Error::NotFound { uri: self.location().uri_of(&path) })
    }

    /// The shard at its place.
    ///
    /// # Errors
    /// [`Error::WrongOutcomes`] when another shard stands there, otherwise whatever keeps it from
    /// being read.
    pub async fn planned_shard(
        &self,
        run_id: &str,
        name: &str,
        place: &ShardPlace,
    ) -> Result<Shard> {
        let path = self.plan_path(run_id, name, "shards");
        let uri = || self.location().uri_of(&path);
        let range = place.offset..place.offset + place.length;
        let bytes = self
            .location()
            .store
            .get_range(&path, range)
            .await
            .map_err(|source| Error::store("read", uri(), source))?;
        let shard: Shard = serde_json::from_slice(&bytes)
            .map_err(|source| Error::Document { uri: uri(), source })?;
        if shard.shard_id == place.shard_id {
            return Ok(shard);
        }
        let because = format!("`{}` stands in its place in `{}`", shard.shard_id, uri());
        Err(Error::WrongOutcomes { shard_id: place.shard_id.clone(), because })
    }

    /// Removes the plans of a run, or of a query, that nobody goes on with. What cannot be removed is told, and left to a
    /// vacuum.
    ///
    /// # Errors
    /// Whatever keeps them from being listed.
    pub async fn remove_plans(&self, run_id: &str) -> Result<()> {
        let paths = self.list_own(&format!("plans/{run_id}")).await?;
        remove_quietly(self.location(), paths).await;
        Ok(())
    }

    /// The shards of a run that have a receipt, by their ids.
    ///
    /// # Errors
    /// Whatever keeps them from being listed.
    pub async fn finished_shards(&self, run_id: &str) -> Result<Vec<String>> {
        let paths = self.list_own(&format!("receipts/{run_id}")).await?;
        let id = |path: &Path| Some(path.filename()?.strip_suffix(".json")?.to_owned());
        Ok(paths.iter().filter_map(id).collect())
    }

    /// The receipts of these shards of a run, in any order; those that are not there are left out.
    ///
    /// # Errors
    /// Whatever keeps them from being read.
    pub async fn receipts(
        &self,
        run_id: &str,
        shard_ids: impl IntoIterator<Item = &str>,
    ) -> Result<Vec<Receipt>> {
        let mut reads = futures::stream::iter(shard_ids)
            .map(|shard_id| self.receipt(run_id, shard_id))
            .buffer_unordered(read_concurrency());
        let mut receipts = Vec::new();
        while let Some(receipt) = reads.next().await {
            receipts.extend(receipt?);
        }
        Ok(receipts)
    }

    /// Who runs this job on a cluster, as far as is known.
    ///
    /// # Errors
    /// Whatever keeps the note from being read.
    pub async fn submission(&self, job: &str) -> Result<Option<Submission>> {
        read_document(self.location(), &self.submission_path(job)).await
    }

    /// Notes who runs a job on a cluster, or that nobody does any more.
    ///
    /// # Errors
    /// Whatever keeps the note from being written.
    pub async fn note_submission(&self, job: &str, submission: Option<&Submission>) -> Result<()> {
        let path = self.submission_path(job);
        let Some(submission) = submission else {
            return match self.location().store.delete(&path).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
                Err(source) => Err(Error::store("delete", self.location().uri_of(&path), source)),
            };
        };
        self.put(&path, submission).await
    }

    async fn put(&self, path: &Path, document: &impl Serialize) -> Result<()> {
        let uri = || self.location().uri_of(path);
        let bytes = serde_json::to_vec(document)
            .map_err(|source| Error::Document { uri: uri(), source })?;
        let put = self.location().store.put(path, PutPayload::from(bytes)).await;
        put.map(drop).map_err(|source| Error::store("write", uri(), source))
    }

    fn plan_path(&self, run_id: &str, name: &str, kind: &str) -> Path {
        self.location().child("_eventide/plans").join(run_id).join(format!("{name}.{kind}"))
    }

    fn submission_path(&self, job: &str) -> Path {
        self.location().child("_eventide/submissions").join(format!("{job}.json"))
    }
}

/// What the store said, out of the error of a buffered write.
fn of_store(error: std::io::Error) -> object_store::Error {
    error.downcast::<object_store::Error>().unwrap_or_else(|other| object_store::Error::Generic {
        store: "buffer",
        source: other.into(),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use eventide_schema::{Video, WorkItem};

    use super::*;
    use crate::Stores;

    fn tables(folder: &std::path::Path) -> Tables {
        Tables::open(&Stores::new(BTreeMap::new()), folder.to_str().unwrap()).unwrap()
    }

    fn shard(id: &str) -> Shard {
        let video = Video {
            video_id: format!("video of {id}"),
            uri: format!("s3://corpus/{id} é.mp4"),
            source_version: "1".to_owned(),
            size_bytes: 1,
            last_modified_ms: 1,
            sidecars: Vec::new(),
        };
        Shard { shard_id: id.to_owned(), items: vec![WorkItem::new(video, 1)] }
    }

    #[tokio::test]
    async fn every_shard_is_found_at_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let tables = tables(folder.path());
        let shards = ["a", "bb", "ccc"].map(shard);
        let written = tables.write_plan("r1", &shards).await.unwrap();
        let plan = tables.plan_file("r1", &written.name).await.unwrap();
        assert_eq!(plan, written);
        for (place, shard) in plan.shards.iter().zip(&shards) {
            assert_eq!(place.videos, 1);
            assert_eq!(tables.planned_shard("r1", &plan.name, place).await.unwrap(), *shard);
        }
        let other = tables.write_plan("r2", &shards).await.unwrap();
        for _ in 0..2 {
            tables.remove_plans("r1").await.unwrap();
        }
        let gone = tables.plan_file("r1", &written.name).await;
        assert!(matches!(gone, Err(Error::NotFound { .. })), "{gone:?}");
        assert_eq!(tables.plan_file("r2", &other.name).await.unwrap(), other);
    }

    #[tokio::test]
    async fn another_shard_in_its_place_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let tables = tables(folder.path());
        let plan = tables.write_plan("r1", &[shard("a"), shard("b")]).await.unwrap();
        let place = ShardPlace { shard_id: "b".to_owned(), ..plan.shards[0].clone() };
        let refused = tables.planned_shard("r1", &plan.name, &place).await;
        assert!(matches!(refused, Err(Error::WrongOutcomes { .. })), "{refused:?}");
        let other = tables.plan_file("r2", &plan.name).await;
        assert!(matches!(other, Err(Error::NotFound { .. })), "{other:?}");
    }

    #[tokio::test]
    async fn the_newest_submission_of_a_job_counts() {
        let folder = tempfile::tempdir().unwrap();
        let tables = tables(folder.path());
        assert_eq!(tables.submission("night / 1").await.unwrap(), None);
        for run in ["r1", "r2"] {
            let note = Submission::new("http://scheduler", "abc", run);
            tables.note_submission("night / 1", Some(&note)).await.unwrap();
            assert_eq!(tables.submission("night / 1").await.unwrap(), Some(note));
        }
        assert_eq!(tables.submission("day").await.unwrap(), None);
        for _ in 0..2 {
            tables.note_submission("night / 1", None).await.unwrap();
            assert_eq!(tables.submission("night / 1").await.unwrap(), None);
        }
    }
}
