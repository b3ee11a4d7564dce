//! The running side of `IndexExec`: one for each worker process.

use std::sync::Arc;

use eventide_catalog::{Receipt, Tables};
use eventide_pipeline::Pipeline;
use eventide_schema::{Outcome, Provenance, Shard};
use futures::{StreamExt, TryStreamExt};
use tokio::sync::Semaphore;

use crate::{Error, Progress};

/// Takes shards to receipts. Held by the session of a worker, never sent anywhere.
pub struct Indexer {
    /// Takes one video to its outcome.
    pub pipeline: Pipeline,
    /// Where rows go.
    pub tables: Tables,
    /// Who makes the rows.
    pub provenance: Provenance,
    /// Videos in flight over all shards: each may hold a media child and two windows of frames
    /// (30 MB).
    pub videos_in_flight: Arc<Semaphore>,
    /// Shards that are worked on at once.
    pub shards_in_flight: Arc<Semaphore>,
    /// Videos of one shard in flight.
    pub videos_per_shard: usize,
    /// Told of every outcome.
    pub progress: Arc<Progress>,
}

impl Indexer {
    /// Indexes every video of `shard` and makes the result durable.
    ///
    /// # Errors
    /// Trouble that has nothing to do with a video; nothing of the shard is kept then.
    #[tracing::instrument(name = "shard", skip_all, fields(shard = %shard.shard_id, videos = shard.items.len()))]
    pub async fn index_shard(&self, shard: Shard) -> Result<Receipt, Error> {
        let _slot = self.shards_in_flight.acquire().await;
        let outcomes: Vec<Outcome> = futures::stream::iter(shard.items.iter().cloned())
            .map(|item| async {
                let _slot = self.videos_in_flight.acquire().await;
                let video = item.video.uri.clone();
                let outcome = self
                    .pipeline
                    .index(item)
                    .await
                    .map_err(|source| Error::Pipeline { video, source })?;
                self.progress.record(&outcome);
                Ok::<_, Error>(outcome)
            })
            .buffer_unordered(self.videos_per_shard)
            .try_collect()
            .await?;
        let receipt = self.tables.write_shard(&self.provenance, &shard, &outcomes).await?;
        tracing::info!(run = %self.provenance.run_id, "receipt written");
        Ok(receipt)
    }
}
