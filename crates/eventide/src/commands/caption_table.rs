//! `caption(...)` in SQL: what a call means to this process.

use std::{
    error::Error as StdError,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use eventide_catalog::{CorpusOptions, Stores, Tables};
use eventide_engine::{
    CaptionCall, CaptionOptions, CaptionRelation, CaptionTable, Cluster, ClusterCaptions, How,
    Indexers, ModelOptions, Night, Patience, Progress, ShardOptions,
};
use eventide_model::runtime::Device;
use eventide_pipeline::{CaptioningOptions, CaptioningSource, LimitOptions, TranscriptOption};

use tokio_util::task::TaskTracker;

use super::{Stop, absolute, worker};
use crate::{
    arguments::ToolArguments,
    job::{JobFile, Overrides, default_patience},
};

/// Videos of a shard where no job says otherwise: few, since rows are wanted soon.
const SHARD: ShardOptions = ShardOptions { bytes: 1 << 30, videos: 8, split_bytes: u64::MAX };
/// Shards that are worked on at once.
const SHARDS_IN_FLIGHT: usize = 2;

/// What SQL reads from `caption(...)`, captioned in this process. Tools and models are looked for when it is first
/// called.
pub(super) fn relation(tools: ToolArguments, stores: Arc<Stores>) -> CaptionRelation {
    let kept: Mutex<Option<Arc<Indexers>>> = Mutex::default();
    CaptionRelation::new(move |call| {
        let (options, _) = options_of(call)?;
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        let indexers = match kept.as_ref() {
            Some(indexers) => Arc::clone(indexers),
            None => indexers(&options.how, &tools, &stores).map_err(|stop| text_of(&stop))?,
        };
        *kept = Some(Arc::clone(&indexers));
        Ok(Arc::new(CaptionTable::new(options, Arc::clone(&stores), indexers)))
    })
}

/// The same, captioned by a cluster. Who waits for `queries` leaves nothing of them behind there.
/// Its executors leave their marks beside `tables`.
pub(super) fn relation_on(
    cluster: Cluster,
    queries: TaskTracker,
    tables: Tables,
) -> CaptionRelation {
    CaptionRelation::new(move |call| {
        let (options, patience) = options_of(call)?;
        let (cluster, queries, tables) = (cluster.clone(), queries.clone(), tables.clone());
        Ok(Arc::new(ClusterCaptions::new(options, cluster, patience, queries, tables)))
    })
}

fn indexers(how: &How, tools: &ToolArguments, stores: &Arc<Stores>) -> Result<Arc<Indexers>, Stop> {
    let worker = worker(how.needs_runtime(), tools, None)?;
    let progress = Arc::new(Progress::default());
    let indexers =
        Indexers::new(Arc::clone(stores), worker, Vec::new(), SHARDS_IN_FLIGHT, progress);
    Ok(Arc::new(indexers))
}

fn text_of(stop: &Stop) -> Box<dyn StdError + Send + Sync> {
    stop.report.to_string().into()
}

/// What a call asks for, and how long a cluster may take: that of its job, and what it says itself over that.
fn options_of(
    call: &CaptionCall,
) -> Result<(CaptionOptions, Patience), Box<dyn StdError + Send + Sync>> {
    let (mut options, patience) = match &call.job {
        Some(job) => options_of_job(job, call.bundle.as_deref())?,
        None => (plain_options(call.bundle.clone()), default_patience()),
    };
    match &call.uri {
        Some(uri) => options.corpus.uri = absolute(uri).map_err(|stop| text_of(&stop))?,
        None if call.job.is_none() => return Err("caption needs a corpus or a job".into()),
        None => {}
    }
    match call.source.as_deref() {
        None => {}
        Some("vid2seq") => options.how.captioning.source = CaptioningSource::Vid2Seq,
        Some("speech") => {
            options.how.captioning.source = CaptioningSource::Speech;
            options.how.model = None;
        }
        Some(other) => {
            return Err(format!("`{other}` is no source: there are vid2seq and speech").into());
        }
    }
    if options.how.captioning.source == CaptioningSource::Vid2Seq && options.how.model.is_none() {
        return Err("caption needs a model: give `bundle => '...'`, or `source => 'speech'`".into());
    }
    Ok((options, patience))
}

fn options_of_job(
    job: &str,
    bundle: Option<&str>,
) -> Result<(CaptionOptions, Patience), Box<dyn StdError + Send + Sync>> {
    let overrides = Overrides { bundle, ..Overrides::default() };
    let night = JobFile::load(Path::new(job), &overrides)?;
    let how = night.how();
    let Night { corpus, shards, patience, .. } = night;
    Ok((CaptionOptions { corpus, how, shards, marks: None }, patience))
}

fn plain_options(bundle: Option<String>) -> CaptionOptions {
    let model = bundle.map(|bundle| ModelOptions {
        bundle,
        device: Device::Cpu,
        threads: 0,
        allow_untrained: false,
    });
    CaptionOptions {
        corpus: CorpusOptions { sidecars: true, ..CorpusOptions::default() },
        how: How {
            transcripts: vec![TranscriptOption::Sidecar, TranscriptOption::Embedded],
            captioning: CaptioningOptions::default(),
            limits: LimitOptions::default(),
            model,
            speech: None,
        },
        shards: SHARD,
        marks: None,
    }
}
