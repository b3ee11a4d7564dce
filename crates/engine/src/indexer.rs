//! The running side of `IndexExec`: what a worker process keeps loaded, and the work on a shard.

use std::{
    cmp::Reverse,
    collections::{HashMap, VecDeque},
    num::NonZeroUsize,
    sync::Arc,
};

use async_trait::async_trait;
use datafusion::error::DataFusionError;
use eventide_catalog::{Attempt, KILLS_WORKERS, Receipt, ShardPlace, Stores, Tables, Transcripts};
use eventide_model::runtime::Device;
use eventide_pipeline::{Captioner, Pipeline};
use eventide_schema::{
    Failure, Heard, Outcome, Provenance, Shard, Stage, Status, Transcript, WorkItem,
};
use futures::{Stream, StreamExt, TryStreamExt};
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore, mpsc};

use crate::{
    CaptionOptions, Error, How, IndexOptions, Metrics, ModelOptions, Progress, SpeechOptions,
    Worker,
    caption::Marks,
    held::{Held, HeldShard},
    metrics::{Counted, DeviceWatcher, ShardEnd},
    retry::RETRIES,
};

/// Models that a worker keeps loaded. More are only wanted where jobs with different models run at
/// the same time.
const MODELS_KEPT: usize = 2;
/// Workers that may die with one video in hand, beside the first, of which it is not known at which.
const MOST_DEATHS: u32 = 2;

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
    metrics: Arc<Metrics>,
    loaded: Mutex<VecDeque<Loaded>>,
    /// What was heard before, of the run that was last worked for.
    heard: Mutex<Option<(HeardFor, Arc<Transcripts>)>>,
    /// After how many shards a device is shown the golden clip again; `None` outside a cluster.
    check_every: Option<NonZeroUsize>,
    /// The shards that are marked as begun.
    held: Held,
    /// Where a device is reported that must not be used.
    unfit: (mpsc::Sender<Error>, Mutex<mpsc::Receiver<Error>>),
}

/// Tables and run.
type HeardFor = (String, String);

/// What takes videos to outcomes in one way, once for each device.
struct Loaded {
    how: How,
    pipelines: Vec<Arc<Station>>,
}

/// Takes one video to its outcome. A pipeline, but for tests.
#[async_trait]
pub(crate) trait Follow: Send + Sync {
    /// What becomes of a video. `heard` is what the recogniser has heard in it before.
    async fn follow(
        &self,
        item: WorkItem,
        heard: Option<&Transcript>,
    ) -> Result<Outcome, eventide_pipeline::Error>;
}

#[async_trait]
impl Follow for Pipeline {
    async fn follow(
        &self,
        item: WorkItem,
        heard: Option<&Transcript>,
    ) -> Result<Outcome, eventide_pipeline::Error> {
        match heard {
            Some(heard) => self.index_heard(item, heard).await,
            None => self.index(item).await,
        }
    }
}

/// A pipeline and its share of the work.
struct Station {
    pipeline: Box<dyn Follow>,
    /// The pipeline's model, which is checked now and then.
    captioner: Option<Captioner>,
    slots: Arc<Semaphore>,
    /// Bundle and device, where there is a model.
    model: Option<ModelOptions>,
    /// Shards that were begun since the golden clip was shown; `None` before the first time.
    since_check: Mutex<Option<Vec<String>>>,
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
        let (unfit, reports) = mpsc::channel(1);
        Self {
            stores,
            worker,
            devices,
            videos_in_flight,
            shards_in_flight,
            progress,
            metrics: Arc::new(Metrics::default()),
            loaded: Mutex::default(),
            heard: Mutex::default(),
            check_every: None,
            held: Held::new(),
            unfit: (unfit, Mutex::new(reports)),
        }
    }

    /// The same in a cluster, whose workers go on with what others have begun: every device is shown the
    /// golden clip of a bundle before the first of so many shards, and a video that kills workers is known.
    #[must_use]
    pub fn on_cluster(mut self, check_every: NonZeroUsize) -> Self {
        self.check_every = Some(check_every);
        self
    }

    /// Ends when a device must not be used any more: with what it said. Its shards never end.
    pub(crate) async fn unfit(&self) -> Error {
        match self.unfit.1.lock().await.recv().await {
            Some(error) => error,
            None => std::future::pending().await,
        }
    }

    /// Where it reads and writes.
    pub(crate) fn stores(&self) -> &Arc<Stores> {
        &self.stores
    }

    /// Waits until the marks of all shards are gone that this worker has given up. Have their work dropped first.
    pub(crate) async fn none_held(&self) {
        self.held.none_left().await;
    }

    /// What this worker counts, as Prometheus reads it.
    pub(crate) async fn metrics_text(&self) -> String {
        for station in self.loaded.lock().await.iter().flat_map(|loaded| &loaded.pipelines) {
            if let (Some(model), Some(captioner)) = (&station.model, &station.captioner) {
                self.metrics.windows_waiting(&model.device.to_string(), captioner.waiting());
            }
        }
        self.metrics.text()
    }

    /// Shows the station's device the golden clip when its turn has come.
    async fn check(&self, station: &Station, shard_id: &str) -> Result<(), Error> {
        let (Some(every), Some(model)) = (self.check_every, &station.model) else { return Ok(()) };
        let Some(captioner) = &station.captioner else { return Ok(()) };
        let mut since = station.since_check.lock().await; // the others wait for what comes of it
        if since.as_ref().is_none_or(|since| since.len() >= every.get()) {
            match captioner.check().await {
                Ok(()) => {
                    self.metrics.check(&model.device, true);
                    tracing::info!(device = %model.device, "golden clip said as it should be");
                    *since = Some(Vec::new());
                }
                Err(source) if is_about_the_device(&source) => {
                    self.metrics.check(&model.device, false);
                    let since = since.take().filter(|since| !since.is_empty());
                    let error = Error::Unfit {
                        device: model.device.to_string(),
                        worker: self.worker.name.clone(),
                        bundle: model.bundle.clone(),
                        since: since.map_or_else(|| "none".to_owned(), |since| since.join(", ")),
                        source: Box::new(source),
                    };
                    let _ = self.unfit.0.try_send(error); // one report is enough
                    return std::future::pending().await;
                }
                Err(error) => return Err(Error::Captioner(error)),
            }
        }
        if let Some(since) = &mut *since {
            since.push(shard_id.to_owned());
        }
        Ok(())
    }

    /// Who works here, for rows and messages.
    pub(crate) fn worker_name(&self) -> &str {
        &self.worker.name
    }

    /// The indexer of one shard of a job, with a place on a device. Loads the job's model if no task has wanted it before, and
    /// waits until a device has room.
    ///
    /// # Errors
    /// When the model cannot be loaded or the tables have no usable address.
    pub async fn indexer(&self, options: &IndexOptions) -> Result<Indexer<'_>, Error> {
        let (station, slot) = placed(&self.stations(&options.how).await?).await;
        Ok(Indexer {
            indexers: self,
            station,
            slot,
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
        RETRIES.of("load the models", || self.loaded(how)).await
    }

    async fn loaded(&self, how: &How) -> Result<Vec<Arc<Station>>, Error> {
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
            let model = &how.model;
            let mut pipeline = how.clone().pipeline(&self.stores, &self.worker).await?;
            let device = model.as_ref().map_or("none".to_owned(), |model| model.device.to_string());
            let metrics = Arc::clone(&self.metrics);
            pipeline.watcher = Some(Arc::new(DeviceWatcher { metrics, device }));
            if let Some(model) = model {
                tracing::info!(bundle = %model.bundle, device = %model.device, "model loaded");
            }
            if let Some(SpeechOptions { bundle, device, .. }) = &how.speech {
                tracing::info!(%bundle, %device, "recogniser loaded");
            }
            let captioner = pipeline.captioner.clone();
            pipelines.push(self.station(Box::new(pipeline), captioner, how.model));
        }
        loaded.truncate(MODELS_KEPT - 1);
        loaded.push_front(Loaded { how: how.clone(), pipelines: pipelines.clone() });
        Ok(pipelines)
    }

    fn station(
        &self,
        pipeline: Box<dyn Follow>,
        captioner: Option<Captioner>,
        model: Option<ModelOptions>,
    ) -> Arc<Station> {
        let slots = Arc::new(Semaphore::new(self.shards_in_flight));
        Arc::new(Station { pipeline, captioner, slots, model, since_check: Mutex::default() })
    }

    /// The same worker, for which `pipeline` stands for all that captions in this way.
    #[cfg(test)]
    pub(crate) fn with_pipeline(mut self, how: &How, pipeline: Box<dyn Follow>) -> Self {
        let pipelines = vec![self.station(pipeline, None, None)];
        self.loaded.get_mut().push_front(Loaded { how: how.clone(), pipelines });
        self
    }

    /// The outcomes of a shard as they come, in any order; they are written nowhere.
    pub(crate) fn captions(
        self: Arc<Self>,
        options: Arc<CaptionOptions>,
        shard: Shard,
    ) -> impl Stream<Item = Result<Outcome, DataFusionError>> + Send {
        let start = async move {
            let (station, slot) = placed(&self.stations(&options.how).await?).await;
            self.check(&station, &shard.shard_id).await?;
            let held = self.attempt_of_query(options.marks.as_ref(), &shard.shard_id).await;
            tracing::info!(shard = %shard.shard_id, videos = shard.items.len(), "captioning");
            let attempt = held.attempt();
            let at_once = self.at_once(attempt.as_deref());
            let outcomes = futures::stream::iter(shard.items)
                .map(move |item| {
                    let (indexers, station) = (Arc::clone(&self), Arc::clone(&station));
                    let attempt = attempt.clone();
                    async move { indexers.outcome(&station, item, None, attempt.as_deref()).await }
                })
                .buffer_unordered(at_once)
                .inspect(move |_| {
                    let _ = &slot; // held until the last outcome was read
                });
            let done = futures::stream::once(held.finish()).filter_map(std::future::ready);
            Ok::<_, Error>(outcomes.chain(done))
        };
        futures::stream::once(start).try_flatten().map_err(Error::into_task_error)
    }

    /// Marks that a shard of a query is begun, where the query has a place for marks. One that cannot be
    /// left is told, and the query goes on without.
    async fn attempt_of_query(&self, marks: Option<&Marks>, shard_id: &str) -> HeldShard {
        let Some(Marks { tables, query }) = marks else { return HeldShard::unmarked() };
        let begun = match Tables::open(&self.stores, tables) {
            Ok(tables) => self.begin(&tables, query, shard_id).await,
            Err(error) => Err(error.into()),
        };
        begun.unwrap_or_else(|error| {
            tracing::warn!(query, error = %error, "a video that kills its worker will not be found out");
            HeldShard::unmarked()
        })
    }

    /// Marks that a shard is begun.
    async fn begin(
        &self,
        tables: &Tables,
        run_id: &str,
        shard_id: &str,
    ) -> Result<HeldShard, Error> {
        let (tables, worker) = (tables.clone(), self.worker.name.clone());
        let (run_id, shard) = (run_id.to_owned(), shard_id.to_owned());
        let begin = async move {
            let begin = || async { Ok(tables.begin_attempt(&run_id, &shard, &worker).await?) };
            RETRIES.of("mark the shard", begin).await
        };
        let held = self.held.begin(begin).await?;
        if held.attempt().is_some_and(|attempt| attempt.is_careful()) {
            tracing::warn!(
                shard = shard_id,
                "a worker died at this shard; going on video by video"
            );
        }
        Ok(held)
    }

    /// Videos of a shard that are worked on at once: where a worker died, one at a time.
    fn at_once(&self, attempt: Option<&Attempt>) -> usize {
        if attempt.is_some_and(Attempt::is_careful) { 1 } else { self.worker.videos_in_flight }
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

    /// What becomes of a video. `heard` is what the recogniser has heard in it before. In an attempt at a
    /// shard at which a worker died, the video is marked meanwhile; one at which workers died again and
    /// again is a failure, and is not looked at any more.
    async fn outcome(
        &self,
        station: &Station,
        item: WorkItem,
        heard: Option<&Transcript>,
        attempt: Option<&Attempt>,
    ) -> Result<Outcome, Error> {
        let Some(attempt) = attempt.filter(|attempt| attempt.is_careful()) else {
            return self.looked_at(station, item, heard).await;
        };
        let video_id = item.video.video_id.clone();
        let deaths = attempt.deaths_at(&video_id);
        if deaths >= MOST_DEATHS {
            tracing::warn!(uri = item.video.uri, deaths, "quarantined");
            return Ok(quarantined(item, deaths));
        }
        let enter = || async { Ok(attempt.enter(&video_id, &self.worker.name).await?) };
        RETRIES.of("mark the video", enter).await?;
        let outcome = self.looked_at(station, item, heard).await?;
        attempt.leave(&video_id).await;
        Ok(outcome)
    }

    async fn looked_at(
        &self,
        station: &Station,
        item: WorkItem,
        heard: Option<&Transcript>,
    ) -> Result<Outcome, Error> {
        let waiting = Counted::one_of(&self.metrics.videos_waiting);
        let _slot = self.videos_in_flight.acquire().await;
        drop(waiting);
        let _counted = Counted::one_of(&self.metrics.videos_in_progress);
        let item = &item;
        let index = || async {
            let outcome = station.pipeline.follow(item.clone(), heard).await;
            let video = || item.video.uri.clone();
            outcome.map_err(|error| Error::Pipeline { video: video(), source: Box::new(error) })
        };
        let outcome = RETRIES.of("index a video", index).await?;
        if item.stretch.is_none() {
            self.progress.record(&outcome); // stretches are a video when they are joined
        }
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

/// Whether the device says something else than it should, and not that it cannot say anything now.
fn is_about_the_device(error: &eventide_pipeline::Error) -> bool {
    matches!(error, eventide_pipeline::Error::Model(eventide_model::Error::Golden { .. }))
}

/// The station with most room, and a slot of it; the first that has room, where none has. The slot is taken along with the
/// choice, lest all that come at once choose the same.
async fn placed(stations: &[Arc<Station>]) -> (Arc<Station>, OwnedSemaphorePermit) {
    let mut by_room: Vec<_> = stations.iter().collect();
    by_room.sort_by_key(|station| Reverse(station.slots.available_permits()));
    for station in by_room {
        if let Ok(slot) = Arc::clone(&station.slots).try_acquire_owned() {
            return (Arc::clone(station), slot);
        }
    }
    let room = stations.iter().map(|station| {
        Box::pin(async move {
            let slot = Arc::clone(&station.slots).acquire_owned().await;
            (Arc::clone(station), slot.expect("slots are never closed"))
        })
    });
    let (placed, ..) = futures::future::select_all(room).await; // a job has a device
    placed
}

/// Counts how work on a shard ended, also where it is dropped on its way.
struct Ended<'a> {
    metrics: &'a Metrics,
    end: ShardEnd,
}

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.metrics.shard(self.end);
    }
}

/// The row of a video that is not looked at any more.
fn quarantined(item: WorkItem, deaths: u32) -> Outcome {
    let failure = Failure {
        stage: Stage::Fetch,
        reason_code: KILLS_WORKERS.to_owned(),
        reason: format!("{deaths} workers died while they worked on nothing else"),
    };
    Outcome::without_events(item, Status::Failed, failure)
}

/// Takes shards of one run to receipts.
pub struct Indexer<'a> {
    indexers: &'a Indexers,
    station: Arc<Station>,
    #[expect(dead_code, reason = "the place on the device, held for as long as this is")]
    slot: OwnedSemaphorePermit,
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
    #[tracing::instrument(name = "shard", skip_all, fields(run = %self.provenance.run_id, shard = %place.shard_id, videos = place.videos))]
    pub async fn index_shard(&self, place: &ShardPlace) -> Result<Receipt, Error> {
        let mut ended = Ended { metrics: &self.indexers.metrics, end: ShardEnd::GivenUp };
        let indexed = self.receipt_of(place).await;
        ended.end = match &indexed {
            Ok((_, end)) => *end,
            Err(_) => ShardEnd::Failed,
        };
        Ok(indexed?.0)
    }

    async fn receipt_of(&self, place: &ShardPlace) -> Result<(Receipt, ShardEnd), Error> {
        let run_id = &self.provenance.run_id;
        let _counted = Counted::one_of(&self.indexers.metrics.shards_in_progress);
        let receipt = || async { Ok(self.tables.receipt(run_id, &place.shard_id).await?) };
        if let Some(receipt) = RETRIES.of("look for the receipt", receipt).await? {
            tracing::info!(run = %run_id, "the shard has a receipt");
            return Ok((receipt, ShardEnd::Adopted));
        }
        self.indexers.check(&self.station, &place.shard_id).await?;
        tracing::info!(run = %run_id, "shard begun");
        let shard = || async { Ok(self.tables.planned_shard(run_id, &self.plan, place).await?) };
        let shard = RETRIES.of("read the plan", shard).await?;
        let began = chrono::Utc::now();
        let held = self.attempt(place).await?;
        let outcomes = self.outcomes(&shard, held.attempt().as_deref()).await?;
        let (by, shard, outcomes) = (&self.provenance, &shard, &outcomes);
        let write =
            || async { Ok(self.tables.write_shard_begun(by, shard, outcomes, began).await?) };
        let receipt = RETRIES.of("write the shard", write).await?;
        tracing::info!(run = %run_id, "receipt written");
        self.indexers.progress.record_shard();
        held.finish::<()>().await;
        Ok((receipt, ShardEnd::Finished))
    }

    /// Marks that the shard is begun, in a cluster.
    async fn attempt(&self, place: &ShardPlace) -> Result<HeldShard, Error> {
        if self.indexers.check_every.is_none() {
            return Ok(HeldShard::unmarked());
        }
        self.indexers.begin(&self.tables, &self.provenance.run_id, &place.shard_id).await
    }

    async fn outcomes(
        &self,
        shard: &Shard,
        attempt: Option<&Attempt>,
    ) -> Result<Vec<Outcome>, Error> {
        let heard = &self.heard_in(shard).await?;
        futures::stream::iter(shard.items.iter().cloned())
            .map(|item| {
                let heard = heard.get(&item.video.video_id);
                self.indexers.outcome(&self.station, item, heard, attempt)
            })
            .buffer_unordered(self.indexers.at_once(attempt))
            .try_collect()
            .await
    }

    /// What the recogniser of this run has heard in videos of a shard before, by their ids. Words that are
    /// not found any more are recognised again.
    async fn heard_in(&self, shard: &Shard) -> Result<HashMap<String, Transcript>, Error> {
        let read = || async { self.heard(shard).await };
        RETRIES.of("read the transcripts", read).await
    }

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

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use super::*;

    struct Idle;

    #[async_trait]
    impl Follow for Idle {
        async fn follow(
            &self,
            _: WorkItem,
            _: Option<&Transcript>,
        ) -> Result<Outcome, eventide_pipeline::Error> {
            unreachable!("nothing is asked of it")
        }
    }

    /// A device that has room for so many shards.
    fn station(slots: usize) -> Arc<Station> {
        Arc::new(Station {
            pipeline: Box::new(Idle),
            captioner: None,
            slots: Arc::new(Semaphore::new(slots)),
            model: None,
            since_check: Mutex::default(),
        })
    }

    #[tokio::test]
    async fn shards_that_come_at_once_are_spread_over_the_devices() {
        let stations = [station(1), station(1)];
        let (one, _first) = placed(&stations).await;
        let (other, second) = placed(&stations).await;
        assert!(!Arc::ptr_eq(&one, &other));
        let mut third = pin!(placed(&stations));
        assert!(futures::poll!(&mut third).is_pending(), "there is no room");
        drop(second);
        let (place, _third) = third.await;
        assert!(Arc::ptr_eq(&place, &other), "whichever has room first");
    }

    #[tokio::test]
    async fn the_device_with_most_room_is_first() {
        let stations = [station(1), station(3), station(2)];
        let (mut places, mut slots) = (Vec::new(), Vec::new());
        for _ in 0..6 {
            let (place, slot) = placed(&stations).await;
            places.push(stations.iter().position(|station| Arc::ptr_eq(station, &place)).unwrap());
            slots.push(slot);
        }
        assert_eq!(places, [1, 1, 2, 0, 1, 2]);
    }
}
