//! The running side of `IndexExec`: what a worker process keeps loaded, and the work on a shard.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use datafusion::error::DataFusionError;
use eventide_catalog::{Receipt, ShardPlace, Stores, Tables, Transcripts};
use eventide_model::runtime::Device;
use eventide_pipeline::Pipeline;
use eventide_schema::{Heard, Outcome, Provenance, Shard, Transcript, WorkItem};
use futures::{Stream, StreamExt, TryStreamExt};
use tokio::sync::{Mutex, Semaphore};

use crate::{
    Error, How, IndexOptions, ModelOptions, Progress, SpeechOptions, Worker, retry::RETRIES,
};

/// Models that a worker keeps loaded. More are only wanted where jobs with different models run at
/// the same time.
const MODELS_KEPT: usize = 2;

/// The indexers of a worker process. Held by its session, never sent anywhere: a plan says which
/// model it wants, and all tasks that want the same one share it.
pub struct Indexers {
    stores: Arc<Stores>,
    worker: Worker,
    /// Where models run, whatever the job says; as the job says if empty.
    devices: Vec<Device>,
    videos_in_flight: Arc<Semaphore>,
    shards_in_flight: usize,
    progress: Arc<Progress>,
    loaded: Mutex<VecDeque<Loaded>>,
    /// What was heard before, of the run that was last worked for.
    heard: Mutex<Option<(HeardFor, Arc<Transcripts>)>>,
}

/// Tables and run.
type HeardFor = (String, String);

/// What takes videos to outcomes in one way, once for each device.
struct Loaded {
    how: How,
    pipelines: Vec<Arc<Station>>,
}

/// A pipeline and its share of the work.
struct Station {
    pipeline: Pipeline,
    slots: Arc<Semaphore>,
}

impl Indexers {
    /// A worker that has nothing loaded yet and works on `shards_in_flight` shards at once on each of
    /// its `devices`; these stand for whatever a job says, unless there are none.
    #[must_use]
    pub fn new(
        stores: Arc<Stores>,
        worker: Worker,
        devices: Vec<Device>,
        shards_in_flight: usize,
        progress: Arc<Progress>,
    ) -> Self {
        let videos_in_flight = Arc::new(Semaphore::new(worker.videos_in_flight));
        let (loaded, heard) = (Mutex::default(), Mutex::default());
        Self {
            stores,
            worker,
            devices,
            videos_in_flight,
            shards_in_flight,
            progress,
            loaded,
            heard,
        }
    }

    /// The indexer of a job. Loads its model if no task has wanted it before.
    ///
    /// # Errors
    /// When the model cannot be loaded or the tables have no usable address.
    pub async fn indexer(&self, options: &IndexOptions) -> Result<Indexer<'_>, Error> {
        Ok(Indexer {
            indexers: self,
            station: freest(self.stations(&options.how).await?),
            tables: Tables::open(&self.stores, &options.tables)?,
            provenance: Provenance {
                worker: self.worker.name.clone(),
                ..options.provenance.clone()
            },
            plan: options.plan.clone(),
        })
    }

    /// What takes videos to outcomes in this way, one for each device.
    async fn stations(&self, how: &How) -> Result<Vec<Arc<Station>>, Error> {
        let mut loaded = self.loaded.lock().await; // the others wait rather than load it again
        if let Some(found) = loaded.iter().find(|loaded| loaded.how == *how) {
            return Ok(found.pipelines.clone());
        }
        let mut pipelines = Vec::new();
        for device in self.devices_of(how) {
            let mut how = how.clone();
            if let Some(device) = device {
                how.model.iter_mut().for_each(|model| model.device = device);
                how.speech.iter_mut().for_each(|speech| speech.device = device);
            }
            let pipeline = how.clone().pipeline(&self.stores, &self.worker).await?;
            if let Some(ModelOptions { bundle, device, .. }) = &how.model {
                tracing::info!(%bundle, %device, "model loaded");
            }
            if let Some(SpeechOptions { bundle, device, .. }) = &how.speech {
                tracing::info!(%bundle, %device, "recogniser loaded");
            }
            let slots = Arc::new(Semaphore::new(self.shards_in_flight));
            pipelines.push(Arc::new(Station { pipeline, slots }));
        }
        loaded.truncate(MODELS_KEPT - 1);
        loaded.push_front(Loaded { how: how.clone(), pipelines: pipelines.clone() });
        Ok(pipelines)
    }

    /// The outcomes of a shard as they come, in any order; they are written nowhere.
    pub(crate) fn captions(
        self: Arc<Self>,
        how: How,
        shard: Shard,
    ) -> impl Stream<Item = Result<Outcome, DataFusionError>> + Send {
        let start = async move {
            let station = freest(self.stations(&how).await?);
            let slot = Arc::clone(&station.slots).acquire_owned().await;
            let videos_in_flight = self.worker.videos_in_flight;
            let outcomes = futures::stream::iter(shard.items)
                .map(move |item| {
                    let (indexers, station) = (Arc::clone(&self), Arc::clone(&station));
                    async move { indexers.outcome(&station, item, None).await }
                })
                .buffer_unordered(videos_in_flight)
                .inspect(move |_| {
                    let _ = &slot; // held until the last outcome was read
                });
            Ok::<_, Error>(outcomes)
        };
        futures::stream::once(start).try_flatten().map_err(Error::into_task_error)
    }

    /// The transcripts that are published when a run is first worked for here.
    async fn heard(&self, tables: &Tables, run_id: &str) -> Result<Arc<Transcripts>, Error> {
        let mut heard = self.heard.lock().await; // the others wait rather than read it again
        let wanted = (tables.location().uri.clone(), run_id.to_owned());
        if let Some((_, transcripts)) = heard.as_ref().filter(|(of, _)| *of == wanted) {
            return Ok(Arc::clone(transcripts));
        }
        let transcripts = Arc::new(tables.transcripts().await?);
        *heard = Some((wanted, Arc::clone(&transcripts)));
        Ok(transcripts)
    }

    /// What becomes of a video. `heard` is what the recogniser has heard in it before.
    async fn outcome(
        &self,
        station: &Station,
        item: WorkItem,
        heard: Option<&Transcript>,
    ) -> Result<Outcome, Error> {
        let _slot = self.videos_in_flight.acquire().await;
        let item = &item;
        let index = || async {
            let outcome = match heard {
                Some(heard) => station.pipeline.index_heard(item.clone(), heard).await,
                None => station.pipeline.index(item.clone()).await,
            };
            let video = || item.video.uri.clone();
            outcome.map_err(|error| Error::Pipeline { video: video(), source: Box::new(error) })
        };
        let outcome = RETRIES.of("index a video", index).await?;
        self.progress.record(&outcome);
        Ok(outcome)
    }

    /// The devices to load a model on; `None` is the one that the job names.
    fn devices_of(&self, how: &How) -> Vec<Option<Device>> {
        if !how.needs_runtime() || self.devices.is_empty() {
            return vec![None];
        }
        self.devices.iter().copied().map(Some).collect()
    }
}

/// The one with most room. There is always one: a job has a device.
fn freest(stations: Vec<Arc<Station>>) -> Arc<Station> {
    let freest = stations.into_iter().max_by_key(|station| station.slots.available_permits());
    freest.expect("there is a device")
}

/// Takes shards of one run to receipts.
pub struct Indexer<'a> {
    indexers: &'a Indexers,
    station: Arc<Station>,
    tables: Tables,
    provenance: Provenance,
    plan: String,
}

impl Indexer<'_> {
    /// Indexes every video of a shard of the plan and makes the result durable. A shard that has a
    /// receipt is left alone.
    ///
    /// # Errors
    /// Trouble that has nothing to do with a video; nothing of the shard is kept then.
    #[tracing::instrument(name = "shard", skip_all, fields(shard = %place.shard_id, videos = place.videos))]
    pub async fn index_shard(&self, place: &ShardPlace) -> Result<Receipt, Error> {
        let run_id = &self.provenance.run_id;
        let _slot = self.station.slots.acquire().await;
        let receipt = || async { Ok(self.tables.receipt(run_id, &place.shard_id).await?) };
        if let Some(receipt) = RETRIES.of("look for the receipt", receipt).await? {
            tracing::info!(run = %run_id, "the shard has a receipt");
            return Ok(receipt);
        }
        tracing::info!(run = %run_id, "shard begun");
        let shard = || async { Ok(self.tables.planned_shard(run_id, &self.plan, place).await?) };
        let shard = RETRIES.of("read the plan", shard).await?;
        let outcomes = self.outcomes(&shard).await?;
        let (shard, outcomes) = (&shard, &outcomes);
        let write =
            || async { Ok(self.tables.write_shard(&self.provenance, shard, outcomes).await?) };
        let receipt = RETRIES.of("write the shard", write).await?;
        tracing::info!(run = %run_id, "receipt written");
        Ok(receipt)
    }

    async fn outcomes(&self, shard: &Shard) -> Result<Vec<Outcome>, Error> {
        let read = || async { self.heard(shard).await };
        let heard = &RETRIES.of("read the transcripts", read).await?;
        futures::stream::iter(shard.items.iter().cloned())
            .map(|item| {
                let heard = heard.get(&item.video.video_id);
                self.indexers.outcome(&self.station, item, heard)
            })
            .buffer_unordered(self.indexers.worker.videos_in_flight)
            .try_collect()
            .await
    }

    /// What the recogniser of this run has heard in videos of a shard before, by their ids. Words that are
    /// not found any more are recognised again.
    async fn heard(&self, shard: &Shard) -> Result<HashMap<String, Transcript>, Error> {
        let with = |heard: Heard| {
            let items = shard.items.iter().filter(move |item| item.heard == heard);
            items.map(|item| &item.video).collect::<Vec<_>>()
        };
        let nothing = with(Heard::Nothing).into_iter();
        let nothing = nothing.map(|video| (video.video_id.clone(), Transcript::default()));
        let (mut heard, spoken) = (nothing.collect::<HashMap<_, _>>(), with(Heard::Words));
        if !spoken.is_empty() {
            let Provenance { run_id, speech_digest, .. } = &self.provenance;
            let transcripts = self.indexers.heard(&self.tables, run_id).await?;
            heard.extend(transcripts.of(&spoken, speech_digest).await?);
        }
        Ok(heard)
    }
}
