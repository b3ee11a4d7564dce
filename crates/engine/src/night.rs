//! A run of a job, from listing to publishing, on one machine.
//!
//! What a run finishes is durable as soon as a shard has its receipt; none of it is visible until the
//! run is published. A run that is cut off is taken over by the next one of the same job.

use std::{path::PathBuf, sync::Arc};

use datafusion::{
    execution::TaskContext,
    physical_plan::{ExecutionPlan, execute_stream},
    prelude::SessionConfig,
};
use eventide_catalog::{
    CorpusOptions, PlanOptions, PublishPlan, Receipt, Stores, Tables, WorkList, list, plan,
};
use eventide_media::Media;
use eventide_pipeline::{
    CaptioningOptions, Captioner, LimitOptions, Pipeline, Scratch, TranscriptOption,
};
use eventide_schema::{Provenance, tables::RunRow};
use futures::TryStreamExt;
use tokio::sync::Semaphore;

use crate::{
    Error, IndexExec, IndexOptions, Indexer, Progress,
    model::{Model, ModelOptions},
    operator::{receipts_of, shards_scan},
    params::params_digest,
    sources::StoreSources,
};

/// A job, resolved: what to index, with what, to where.
#[derive(Debug, Clone)]
pub struct Night {
    /// Name of the job, for the `runs` table.
    pub job: String,
    /// What to index.
    pub corpus: CorpusOptions,
    /// Where words may come from.
    pub transcripts: Vec<TranscriptOption>,
    /// What is captioned and how.
    pub captioning: CaptioningOptions,
    /// What one video may cost.
    pub limits: LimitOptions,
    /// The model; `None` where events come from speech.
    pub model: Option<ModelOptions>,
    /// Where the tables are.
    pub tables: String,
    /// How work is cut into shards.
    pub shards: ShardOptions,
    /// Whether an empty corpus may remove every row.
    pub allow_empty: bool,
}

/// How work is cut into shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShardOptions {
    /// Bytes of video of one shard, about.
    pub bytes: u64,
    /// Most videos of one shard.
    pub videos: usize,
}

/// What a worker process has.
#[derive(Debug, Clone)]
pub struct Worker {
    /// The media tools, with their limits.
    pub media: Media,
    /// Folder for copies of remote videos; it exists.
    pub scratch: PathBuf,
    /// Folder for model bundles; it exists.
    pub cache: PathBuf,
    /// The ONNX Runtime library.
    pub onnxruntime: PathBuf,
    /// Videos in flight.
    pub videos_in_flight: usize,
    /// Host and process, for the `videos` table.
    pub name: String,
}

/// A run that is planned and not yet begun.
#[derive(Debug)]
pub struct Planned {
    /// What is due.
    pub work: WorkList,
    /// The run.
    pub run_id: String,
    /// Runs that were cut off while they published, and were completed first.
    pub completed: Vec<RunRow>,
    started_at_ms: i64,
    model_id: String,
    model_digest: String,
    params_digest: String,
    tables: Tables,
}

/// Version of the program, as it is written into rows.
pub const PIPELINE_VERSION: &str = concat!("eventide-", env!("CARGO_PKG_VERSION"));

impl Night {
    /// Lists the corpus and compares it with the tables. Changes nothing that a reader could see,
    /// but for completing a publication that was cut off, where `complete` says so.
    ///
    /// # Errors
    /// When the store, the tables or the bundle cannot be read.
    pub async fn plan(&self, stores: &Stores, complete: bool) -> Result<Planned, Error> {
        let started_at_ms = now_ms();
        let tables = Tables::open(stores.open(&self.tables)?).await?;
        let completed = if complete { tables.finish_interrupted().await? } else { Vec::new() };
        let (model_id, model_digest) = match &self.model {
            Some(model) => model.identity(stores).await?,
            None => ("none".to_owned(), "none".to_owned()),
        };
        let params_digest = params_digest(&self.captioning, &self.transcripts);
        let options = PlanOptions {
            model_digest: model_digest.clone(),
            params_digest: params_digest.clone(),
            max_attempts: self.limits.attempts.get(),
            largest_file_bytes: self.limits.largest_file.as_u64(),
            shard_bytes: self.shards.bytes,
            max_shard_videos: self.shards.videos,
            allow_empty: self.allow_empty,
        };
        let known = tables.known().await?;
        let pending = tables.pending(&model_digest, &params_digest).await?;
        let listing = list(&stores.open(&self.corpus.uri)?, &self.corpus)?;
        let work = plan(listing, known, pending, &options).await?;
        let run_id = work.run_id().map_or_else(eventide_catalog::new_run_id, ToOwned::to_owned);
        Ok(Planned {
            work,
            run_id,
            completed,
            started_at_ms,
            model_id,
            model_digest,
            params_digest,
            tables,
        })
    }

    /// Does what is planned and publishes it. Dropping the future stops everything; what has a
    /// receipt is kept.
    ///
    /// # Errors
    /// When the run cannot go on. What it finished is taken over by the next run.
    pub async fn run(
        &self,
        planned: Planned,
        stores: &Stores,
        worker: &Worker,
        progress: &Arc<Progress>,
    ) -> Result<RunRow, Error> {
        progress.plan(planned.work.due() as u64);
        let mut receipts = planned.work.adopted.clone();
        if !planned.work.shards.is_empty() {
            receipts.extend(self.index(&planned, stores, worker, progress).await?);
        }
        self.publish(planned, receipts).await
    }

    async fn index(
        &self,
        planned: &Planned,
        stores: &Stores,
        worker: &Worker,
        progress: &Arc<Progress>,
    ) -> Result<Vec<Receipt>, Error> {
        let indexer = self.indexer(planned, stores, worker, progress).await?;
        let options = IndexOptions {
            model_id: planned.model_id.clone(),
            params_digest: planned.params_digest.clone(),
        };
        let scan = shards_scan(&planned.work.shards).map_err(Error::Plan)?;
        let plan: Arc<dyn ExecutionPlan> = Arc::new(IndexExec::new(scan, Arc::new(options)));
        let session = SessionConfig::new().with_extension(Arc::new(indexer));
        let context = Arc::new(TaskContext::default().with_session_config(session));
        let batches: Vec<_> = execute_stream(plan, context)
            .map_err(Error::from_plan)?
            .try_collect()
            .await
            .map_err(Error::from_plan)?;
        let receipts = batches.iter().map(receipts_of).collect::<Result<Vec<_>, _>>();
        Ok(receipts.map_err(Error::Plan)?.into_iter().flatten().collect())
    }

    async fn indexer(
        &self,
        planned: &Planned,
        stores: &Stores,
        worker: &Worker,
        progress: &Arc<Progress>,
    ) -> Result<Indexer, Error> {
        let captioner = match &self.model {
            Some(model) => Some(self.captioner(model, stores, worker).await?),
            None => None,
        };
        let pipeline = Pipeline {
            media: worker.media.clone(),
            captioner,
            sources: Arc::new(StoreSources(stores.clone())),
            scratch: Scratch::new(worker.scratch.clone(), self.limits.scratch),
            captioning: self.captioning.clone(),
            transcripts: self.transcripts.clone(),
            limits: self.limits.clone(),
        };
        Ok(Indexer {
            pipeline,
            tables: planned.tables.clone(),
            provenance: Provenance {
                model_id: planned.model_id.clone(),
                model_digest: planned.model_digest.clone(),
                params_digest: planned.params_digest.clone(),
                run_id: planned.run_id.clone(),
                indexed_at_ms: planned.started_at_ms,
                worker: worker.name.clone(),
                pipeline_version: PIPELINE_VERSION.to_owned(),
            },
            videos_in_flight: Arc::new(Semaphore::new(worker.videos_in_flight)),
            // Two, so that the next shard starts while the last videos of the present one end.
            shards_in_flight: Arc::new(Semaphore::new(2)),
            videos_per_shard: worker.videos_in_flight,
            progress: Arc::clone(progress),
        })
    }

    async fn captioner(
        &self,
        options: &ModelOptions,
        stores: &Stores,
        worker: &Worker,
    ) -> Result<Captioner, Error> {
        let model = Model::load(options, stores, worker).await?;
        let decoding = model.decoding(&self.captioning);
        Captioner::start(model.bundle, model.runtime, model.session, decoding)
            .await
            .map_err(Error::Captioner)
    }

    async fn publish(&self, planned: Planned, receipts: Vec<Receipt>) -> Result<RunRow, Error> {
        let publication = PublishPlan {
            run_id: planned.run_id,
            job: self.job.clone(),
            started_at_ms: planned.started_at_ms,
            model_digest: planned.model_digest,
            params_digest: planned.params_digest,
            listed: planned.work.listed,
            unchanged: planned.work.unchanged,
            removed: planned.work.removed,
            receipts,
        };
        Ok(planned.tables.publish(publication).await?)
    }
}

fn now_ms() -> i64 {
    chrono::Utc::now().timestamp_millis()
}
