//! A run of a job, from listing to publishing, on one machine or with a cluster at work in between.
//!
//! What a run finishes is durable as soon as a shard has its receipt; none of it is visible until the
//! run is published. A run that is cut off is taken over by the next one of the same job.

use std::{sync::Arc, time::Duration};

use datafusion::{execution::TaskContext, physical_plan::execute_stream, prelude::SessionConfig};
use eventide_catalog::{
    CorpusOptions, Counts, Estimate, PlanFile, PlanOptions, Receipt, RunFacts, Stores, Tables,
    WorkList, list, plan,
};
use eventide_pipeline::{
    CaptioningOptions, CaptioningSource, LimitOptions, TranscriptOption, WindowOption,
};
use eventide_schema::{Provenance, tables::RunRow};
use futures::StreamExt;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    Cluster, Error, How, IndexOptions, Indexers, Patience, Progress, SpeechIdentity, SpeechOptions,
    Worker,
    model::ModelOptions,
    operator::{index_plan, receipts_of},
    params::params_digest,
    publisher::{Joining, Publisher},
    retry::RETRIES,
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
    /// The recogniser; `None` where `transcripts` does not name it.
    pub speech: Option<SpeechOptions>,
    /// Where the tables are.
    pub tables: String,
    /// How work is cut into shards.
    pub shards: ShardOptions,
    /// Whether an empty corpus may remove every row.
    pub allow_empty: bool,
    /// How long a run may take, if not as long as it takes.
    pub deadline: Option<Duration>,
    /// How often what is finished is published while the run goes on; only at its end if not given.
    pub publish_every: Option<Duration>,
    /// How long a run on a cluster waits.
    pub patience: Patience,
    /// The scheduler whose executors do the work; this machine does it if not given.
    pub scheduler: Option<String>,
}

/// How work is cut into shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardOptions {
    /// Bytes of video of one shard, about.
    pub bytes: u64,
    /// Most videos of one shard.
    pub videos: usize,
    /// Videos above this size are split by their windows, where they have more than one.
    pub split_bytes: u64,
}

/// A run that is planned and not yet begun.
#[derive(Debug)]
pub struct Planned {
    /// What is due.
    pub work: WorkList,
    /// What earlier runs with the same model and parameters cost, all together.
    pub history: Counts,
    /// Runs that were cut off while they published, and were completed first.
    pub completed: Vec<RunRow>,
    options: PlanOptions,
    started_at_ms: i64,
    run_id: String,
    /// Parts of the run that are published.
    parts: u32,
    models: Models,
    tables: Tables,
}

/// What the models of a run are called.
#[derive(Debug)]
struct Models {
    model_id: String,
    speech: Option<SpeechIdentity>,
}

/// Version of the program, as it is written into rows.
pub const PIPELINE_VERSION: &str = concat!("eventide-", env!("CARGO_PKG_VERSION"));

/// The build that this program is: its version, and a digest of the sources that plans and rows depend on. Processes of a
/// cluster understand each other if these are equal.
pub const BUILD: &str = concat!(env!("CARGO_PKG_VERSION"), "+", env!("EVENTIDE_BUILD"));

impl Night {
    /// Lists the corpus and compares it with the tables. Changes nothing that a reader could see,
    /// but for completing a publication that was cut off, where `complete` says so.
    ///
    /// # Errors
    /// When the store, the tables or the bundle cannot be read.
    pub async fn plan(&self, stores: &Arc<Stores>, complete: bool) -> Result<Planned, Error> {
        RETRIES.of("plan", || self.plan_once(stores, complete)).await
    }

    async fn plan_once(&self, stores: &Arc<Stores>, complete: bool) -> Result<Planned, Error> {
        let started_at_ms = now_ms();
        let tables = Tables::open(stores, &self.tables)?;
        let completed = if complete { tables.finish_interrupted().await? } else { Vec::new() };
        let (model_id, model_digest) = match &self.model {
            Some(model) => model.identity(stores).await?,
            None => ("none".to_owned(), "none".to_owned()),
        };
        let speech = match &self.speech {
            Some(speech) => Some(speech.identity(stores).await?),
            None => None,
        };
        let speech_digest = speech.as_ref().map(|speech| speech.speech_digest.clone());
        let options = PlanOptions {
            model_digest,
            params_digest: params_digest(
                &self.captioning,
                &self.transcripts,
                speech_digest.as_deref(),
            ),
            speech_digest,
            max_attempts: self.limits.attempts.get(),
            largest_file_bytes: self.limits.largest_file.as_u64(),
            shard_cost_bytes: self.shards.bytes,
            max_shard_videos: self.shards.videos,
            split_bytes: self.has_windows().then_some(self.shards.split_bytes),
            allow_empty: self.allow_empty,
        };
        let known = tables.known(&stores.open(&self.corpus.uri)?).await?;
        let runs = tables.runs().await?;
        let (open, given_up) = self.open_runs(&runs, &options);
        if complete {
            for run_id in given_up {
                tables.abandon(run_id).await?;
            }
        }
        let pending = tables.pending(&options.model_digest, &options.params_digest).await?;
        tracing::debug!(corpus = self.corpus.uri, "listing");
        let listing = list(stores, &self.corpus)?;
        let work = plan(listing, known, pending, &options).await?;
        let run_id = work.resumed_run_id().max(open.map(|run| run.run_id.as_str()));
        let run_id = run_id.map_or_else(|| Uuid::now_v7().to_string(), ToOwned::to_owned);
        let parts = open.filter(|run| run.run_id == run_id).and_then(|run| run.part).unwrap_or(0);
        let history = history(&runs, &options);
        let models = Models { model_id, speech };
        Ok(Planned {
            work,
            history,
            completed,
            options,
            started_at_ms,
            run_id,
            parts,
            models,
            tables,
        })
    }

    /// Of the runs of this job that were published in part and not completed, the newest that is gone on
    /// with; and those that are not, since another model or other parameters are wanted now.
    fn open_runs<'a>(
        &self,
        runs: &'a [RunRow],
        options: &PlanOptions,
    ) -> (Option<&'a RunRow>, Vec<&'a str>) {
        let open = runs.iter().filter(|run| run.part.is_some() && run.job == self.job);
        let (wanted, others): (Vec<_>, Vec<_>) = open.partition(|run| is_made_with(run, options));
        let newest = wanted.into_iter().max_by(|a, b| a.run_id.cmp(&b.run_id));
        (newest, others.into_iter().map(|run| run.run_id.as_str()).collect())
    }

    /// Does what is planned on this machine and publishes it. Dropping the future stops everything;
    /// what has a receipt is kept.
    ///
    /// # Errors
    /// When the run cannot go on. What it finished is taken over by the next run.
    #[tracing::instrument(name = "run", skip_all, fields(run = %planned.run_id, job = %self.job))]
    pub async fn run(
        &self,
        planned: Planned,
        stores: &Arc<Stores>,
        worker: &Worker,
        progress: &Arc<Progress>,
    ) -> Result<RunRow, Error> {
        // Two shards at once, so that the next one starts while the last videos of the present one end.
        let indexers =
            Indexers::new(Arc::clone(stores), worker.clone(), Vec::new(), 2, Arc::clone(progress));
        if !planned.work.shards.is_empty() {
            // First the model: what cannot run is to leave nothing behind.
            indexers.indexer(&self.options(&planned, "")).await?;
        }
        let started = self.begin(&planned, &worker.name, progress).await?;
        let mut publisher = self.publisher(&planned, &worker.name, progress);
        publisher.take(started.skipped);
        if let Some(plan) = &started.plan {
            let options = self.options(&planned, &plan.name);
            index_here(options, plan, indexers, &mut publisher).await?;
        }
        publisher.finish().await
    }

    /// Has a cluster do what is planned, and publishes it. Dropping the future leaves the cluster at
    /// work: see [`Cluster::cancel`].
    ///
    /// # Errors
    /// When the run cannot go on. What it finished is taken over by the next run.
    #[tracing::instrument(name = "run", skip_all, fields(run = %planned.run_id, job = %self.job))]
    pub async fn run_on(
        &self,
        cluster: &Cluster,
        planned: Planned,
        name: &str,
        progress: &Arc<Progress>,
    ) -> Result<RunRow, Error> {
        let started = self.begin(&planned, name, progress).await?;
        let mut publisher = self.publisher(&planned, name, progress);
        publisher.take(started.skipped);
        if let Some(plan) = &started.plan {
            let shard_deadline = Some(self.patience.shard);
            let options = IndexOptions { shard_deadline, ..self.options(&planned, &plan.name) };
            let publisher = &mut publisher;
            cluster.index(&self.job, options, plan, self.patience, progress, publisher).await?;
        }
        publisher.finish().await
    }

    /// Writes what is settled before any video is looked at: the plan, and the rows of videos that a
    /// rule leaves out.
    async fn begin(
        &self,
        planned: &Planned,
        name: &str,
        progress: &Progress,
    ) -> Result<Started, Error> {
        let Planned { tables, work, run_id, .. } = planned;
        progress.plan(work.videos().len() as u64, work.shards.len() as u64);
        let require_writable = || async { tables.require_writable().await.map_err(Error::Tables) };
        RETRIES.of("write beside the tables", require_writable).await?;
        let mut skipped = Vec::new();
        if let Some(shard) = work.skipped_shard(&planned.options) {
            let by = planned.provenance(name);
            let write = || async { Ok(tables.write_shard(&by, &shard, &work.skipped).await?) };
            skipped.push(RETRIES.of("write what is left out", write).await?);
        }
        let plan = match work.shards.as_slice() {
            [] => None,
            shards => {
                let write = || async { Ok(tables.write_plan(run_id, shards).await?) };
                Some(RETRIES.of("write the plan", write).await?)
            }
        };
        Ok(Started { plan, skipped })
    }

    /// What publishes the run.
    fn publisher<'a>(
        &self,
        planned: &'a Planned,
        name: &str,
        progress: &'a Progress,
    ) -> Publisher<'a> {
        let facts = RunFacts {
            run_id: planned.run_id.clone(),
            job: self.job.clone(),
            started_at_ms: planned.started_at_ms,
            finished_at_ms: planned.started_at_ms,
            model_digest: planned.options.model_digest.clone(),
            params_digest: planned.options.params_digest.clone(),
        };
        let Planned { tables, work, parts, .. } = planned;
        let joining = Joining { by: planned.provenance(name), progress };
        Publisher::new(tables, work, facts, joining, *parts, self.publish_every)
    }

    /// Whether videos are cut into windows, which different shards may hold.
    fn has_windows(&self) -> bool {
        let CaptioningOptions { source, window, .. } = self.captioning;
        source == CaptioningSource::Vid2Seq && window != WindowOption::Whole
    }

    /// What the operator is told.
    fn options(&self, planned: &Planned, plan: &str) -> IndexOptions {
        IndexOptions {
            how: self.how(),
            tables: self.tables.clone(),
            plan: plan.to_owned(),
            provenance: planned.provenance(""),
            shard_deadline: None, // one machine has nobody else to try it
        }
    }

    /// How each video is captioned.
    #[must_use]
    pub fn how(&self) -> How {
        How {
            transcripts: self.transcripts.clone(),
            captioning: self.captioning.clone(),
            limits: self.limits.clone(),
            model: self.model.clone(),
            speech: self.speech.clone(),
        }
    }
}

/// What is settled before any video is looked at.
struct Started {
    /// The plan; `None` where nothing is due.
    plan: Option<PlanFile>,
    /// The receipt of the videos that a rule leaves out.
    skipped: Vec<Receipt>,
}

/// Runs the plan of a run on this machine, and publishes parts of it where that is wanted.
async fn index_here(
    options: IndexOptions,
    plan: &PlanFile,
    indexers: Indexers,
    publisher: &mut Publisher<'_>,
) -> Result<(), Error> {
    let plan = index_plan(options, plan).map_err(Error::Plan)?;
    let session = SessionConfig::new().with_extension(Arc::new(indexers));
    let context = Arc::new(TaskContext::default().with_session_config(session));
    let mut batches = execute_stream(plan, context).map_err(Error::from_plan)?;
    loop {
        tokio::select! {
            batch = batches.next() => {
                let Some(batch) = batch else { return Ok(()) };
                let batch = batch.map_err(Error::from_plan)?;
                publisher.take(receipts_of(&batch).map_err(Error::Plan)?);
            }
            () = publisher.due() => publisher.publish_due().await?,
        }
    }
}

impl Planned {
    /// What the work will cost, by what videos have cost that the tables hold of the same model and parameters; `None`
    /// where they hold none.
    ///
    /// # Errors
    /// [`Error::Catalog`]: whatever keeps the tables from being read.
    pub async fn estimate(&self) -> Result<Option<Estimate>, Error> {
        let items = self.work.shards.iter().flat_map(|shard| &shard.items);
        Ok(self.tables.estimate(items, &self.options).await?)
    }

    /// Who makes the rows of this run.
    fn provenance(&self, worker: &str) -> Provenance {
        let speech = |part: fn(&SpeechIdentity) -> &str| {
            self.models.speech.as_ref().map_or("none", part).to_owned()
        };
        Provenance {
            model_id: self.models.model_id.clone(),
            model_digest: self.options.model_digest.clone(),
            params_digest: self.options.params_digest.clone(),
            speech_model_digest: speech(|speech| &speech.model_digest),
            speech_digest: speech(|speech| &speech.speech_digest),
            run_id: self.run_id.clone(),
            indexed_at_ms: self.started_at_ms,
            worker: worker.to_owned(),
            pipeline_version: PIPELINE_VERSION.to_owned(),
        }
    }
}

/// What the published runs with this model and these parameters cost.
fn history(runs: &[RunRow], options: &PlanOptions) -> Counts {
    let mut history = Counts::default();
    for run in runs.iter().filter(|run| is_made_with(run, options)) {
        history.video_ms += run.video_ms;
        history.core_ms += run.core_ms;
        history.device_ms += run.device_ms;
        history.bytes_read += run.bytes_read;
    }
    history
}

fn is_made_with(run: &RunRow, options: &PlanOptions) -> bool {
    (&run.model_digest, &run.params_digest) == (&options.model_digest, &options.params_digest)
}

fn now_ms() -> i64 {
    chrono::Utc::now().timestamp_millis()
}
