//! What an executor and a scheduler count, as Prometheus reads it.
//!
//! Counters grow from the start of the process: frames, tokens and device seconds become rates and shares
//! by `rate()`. Names are part of what `deploy/monitoring` relies on; a test compares them.

use std::{
    fmt::Display,
    net::SocketAddr,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use axum::{Router, http::header::CONTENT_TYPE, routing::get};
use eventide_pipeline::{Effort, Watcher};
use eventide_schema::{Outcome, Stage};
use prometheus_client::{
    encoding::text::encode,
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
        info::Info,
    },
    registry::{Registry, Unit},
};
use tokio::net::TcpListener;

use crate::{ClusterState, Error, PIPELINE_VERSION, cluster::Departures};

/// The form of the text.
const TEXT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

type Label = (&'static str, String);
type Seconds = Counter<f64, AtomicU64>;

/// What an executor counts.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    videos: Family<[Label; 2], Counter>,
    events: Counter,
    frames: Counter,
    tokens: Counter,
    video_time: Seconds,
    core_time: Seconds,
    bytes_read: Counter,
    device_busy: Family<[Label; 1], Seconds>,
    device_checks: Family<[Label; 2], Counter>,
    stages: Family<[Label; 1], Histogram, fn() -> Histogram>,
    shards: Family<[Label; 1], Counter>,
    pub(crate) shards_in_progress: Gauge,
    pub(crate) videos_in_progress: Gauge,
    pub(crate) videos_waiting: Gauge,
    windows_waiting: Family<[Label; 1], Gauge>,
}

/// How work on a shard ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ShardEnd {
    /// Its receipt was written here.
    Finished,
    /// It had a receipt.
    Adopted,
    /// Trouble that may pass, or not.
    Failed,
    /// It was stopped, or took too long.
    GivenUp,
}

impl ShardEnd {
    fn as_str(self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::Adopted => "adopted",
            Self::Failed => "failed",
            Self::GivenUp => "given_up",
        }
    }
}

/// From 5 ms to five minutes.
fn times() -> Histogram {
    Histogram::new(exponential_buckets(0.005, 2.5, 13))
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: registry(),
            stages: Family::new_with_constructor(times),
            videos: Family::default(),
            events: Counter::default(),
            frames: Counter::default(),
            tokens: Counter::default(),
            video_time: Counter::default(),
            core_time: Counter::default(),
            bytes_read: Counter::default(),
            device_busy: Family::default(),
            device_checks: Family::default(),
            shards: Family::default(),
            shards_in_progress: Gauge::default(),
            videos_in_progress: Gauge::default(),
            videos_waiting: Gauge::default(),
            windows_waiting: Family::default(),
        };
        metrics.register_videos();
        metrics.register_work();
        metrics
    }
}

impl Metrics {
    fn register_videos(&mut self) {
        let to = &mut self.registry;
        to.register("videos", "Videos by their terminal state and reason", self.videos.clone());
        to.register("events", "Events of these videos", self.events.clone());
        to.register("frames", "Frames that a model saw", self.frames.clone());
        to.register("tokens", "Tokens that a model wrote", self.tokens.clone());
        to.register_with_unit(
            "video",
            "Length of these videos",
            Unit::Seconds,
            self.video_time.clone(),
        );
        to.register_with_unit(
            "core",
            "Processor time of media children",
            Unit::Seconds,
            self.core_time.clone(),
        );
        to.register_with_unit(
            "read",
            "Bytes read from the store",
            Unit::Bytes,
            self.bytes_read.clone(),
        );
    }

    fn register_work(&mut self) {
        let to = &mut self.registry;
        to.register_with_unit(
            "device_busy",
            "Time that a device worked",
            Unit::Seconds,
            self.device_busy.clone(),
        );
        to.register("device_checks", "Golden clips shown, by result", self.device_checks.clone());
        to.register_with_unit(
            "stage",
            "Time of one stage of one video",
            Unit::Seconds,
            self.stages.clone(),
        );
        to.register("shards", "Shards by how work on them ended", self.shards.clone());
        to.register(
            "shards_in_progress",
            "Shards that are worked on",
            self.shards_in_progress.clone(),
        );
        to.register(
            "videos_in_progress",
            "Videos that are worked on",
            self.videos_in_progress.clone(),
        );
        to.register("videos_waiting", "Videos that wait for a place", self.videos_waiting.clone());
        to.register(
            "windows_waiting",
            "Windows that wait for a device",
            self.windows_waiting.clone(),
        );
    }

    /// Counts a shard.
    pub(crate) fn shard(&self, end: ShardEnd) {
        self.shards.get_or_create(&[("ended", end.as_str().to_owned())]).inc();
    }

    /// Counts a golden clip.
    pub(crate) fn check(&self, device: &impl Display, as_expected: bool) {
        let result = if as_expected { "as_expected" } else { "other" };
        let labels = [("device", device.to_string()), ("result", result.to_owned())];
        self.device_checks.get_or_create(&labels).inc();
    }

    /// Notes how many windows wait for a device now.
    pub(crate) fn windows_waiting(&self, device: &str, windows: usize) {
        let waiting = i64::try_from(windows).unwrap_or(i64::MAX);
        self.windows_waiting.get_or_create(&[("device", device.to_owned())]).set(waiting);
    }

    /// All of it.
    pub(crate) fn text(&self) -> String {
        text(&self.registry)
    }
}

/// One more of something, for as long as this lives.
pub(crate) struct Counted(Gauge);

impl Counted {
    pub(crate) fn one_of(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Counts what the videos of one device come to.
pub(crate) struct DeviceWatcher {
    pub(crate) metrics: Arc<Metrics>,
    /// `none` where there is no model.
    pub(crate) device: String,
}

impl Watcher for DeviceWatcher {
    fn ended(&self, outcome: &Outcome, effort: &Effort) {
        let metrics = &self.metrics;
        let reason = outcome.failure.as_ref().map_or("", |failure| failure.reason_code.as_str());
        let status = outcome.status.as_str().to_owned();
        let labels = [("status", status), ("reason", reason.to_owned())];
        // Of a video that is split, the first stretch counts as the video.
        if effort.stretch.is_none_or(|stretch| stretch.index == 0) {
            metrics.videos.get_or_create(&labels).inc();
        }
        metrics.events.inc_by(outcome.events.len() as u64);
        metrics.frames.inc_by(u64::from(outcome.frames_used));
        metrics.tokens.inc_by(effort.tokens);
        metrics.bytes_read.inc_by(outcome.costs.bytes_read);
        let length_us = u64::try_from(outcome.media.duration_us.unwrap_or(0)).unwrap_or(0);
        let length_us = effort.stretch.map_or(length_us, |stretch| stretch.count_of(length_us));
        metrics.video_time.inc_by(Duration::from_micros(length_us).as_secs_f64());
        metrics.core_time.inc_by(Duration::from_millis(outcome.costs.core_ms).as_secs_f64());
        let busy = metrics.device_busy.get_or_create(&[("device", self.device.clone())]);
        busy.inc_by(effort.device.as_secs_f64());
        for (stage, time) in &effort.stages {
            let labels = [("stage", Stage::as_str(*stage).to_owned())];
            metrics.stages.get_or_create(&labels).observe(time.as_secs_f64());
        }
    }
}

/// What a scheduler sees, as Prometheus reads it.
pub(crate) fn cluster_text(state: &ClusterState, turned_away: u64, gone: &Departures) -> String {
    let mut registry = registry();
    let number = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
    let (executors, slots, runs) =
        (Gauge::<i64>::default(), Gauge::<i64>::default(), Gauge::<i64>::default());
    executors.set(number(state.executors.len()));
    slots.set(state.executors.iter().map(|executor| i64::from(executor.slots)).sum());
    runs.set(number(state.runs.len()));
    let (held, silent) =
        (Family::<[Label; 1], Gauge>::default(), Family::<[Label; 1], Gauge>::default());
    for executor in &state.executors {
        let labels = [("executor", executor.address.clone())];
        held.get_or_create(&labels).set(number(executor.shards));
        silent.get_or_create(&labels).set(i64::try_from(executor.silent_s).unwrap_or(i64::MAX));
    }
    let shards = Family::<[Label; 2], Gauge>::default();
    for run in &state.runs {
        for (is, count) in [("waiting", run.waiting), ("held", run.held)] {
            let labels = [("job", run.job.clone()), ("state", is.to_owned())];
            shards.get_or_create(&labels).inc_by(number(count));
        }
    }
    let refused = Counter::<u64>::default();
    refused.inc_by(turned_away);
    let left = Family::<[Label; 1], Counter>::default();
    for (reason, count) in gone.by_reason() {
        left.get_or_create(&[("reason", reason.to_owned())]).inc_by(count);
    }
    registry.register("executors", "Executors that are there", executors);
    registry.register("executors_left", "Executors that said that they go, by why", left);
    registry.register("executor_slots", "Shards that they take at once", slots);
    registry.register("executor_shards", "Shards that an executor holds", held);
    registry.register_with_unit(
        "executor_silent",
        "Time since an executor was heard",
        Unit::Seconds,
        silent,
    );
    registry.register("runs_in_progress", "Runs at work", runs);
    registry.register("run_shards", "Shards of a run that are not done", shards);
    registry.register("callers_refused", "Calls without the token of the cluster", refused);
    text(&registry)
}

fn registry() -> Registry {
    let mut registry = Registry::with_prefix("eventide");
    let build = Info::new([("version", PIPELINE_VERSION)]);
    registry.register("build", "The program", build);
    registry
}

fn text(registry: &Registry) -> String {
    let mut text = String::new();
    // To a string, which takes everything.
    let _ = encode(&mut text, registry);
    text
}

/// A listener for whoever collects metrics.
#[derive(Debug)]
pub(crate) struct MetricsListener(TcpListener);

impl MetricsListener {
    /// Takes the address, if there is one; gives it as it is.
    pub(crate) async fn bind(
        address: Option<SocketAddr>,
    ) -> Result<Option<(Self, SocketAddr)>, Error> {
        let Some(address) = address else { return Ok(None) };
        let refused = |source| Error::Listen { address: address.to_string(), source };
        let listener = TcpListener::bind(address).await.map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        Ok(Some((Self(listener), address)))
    }

    /// Answers `/metrics` with what `text` gives, until it is dropped.
    pub(crate) async fn serve<F: Future<Output = String> + Send + 'static>(
        self,
        text: impl Fn() -> F + Clone + Send + Sync + 'static,
    ) -> Result<(), Error> {
        let answer = move || {
            let text = text();
            async move { ([(CONTENT_TYPE, TEXT)], text.await) }
        };
        let router = Router::new().route("/metrics", get(answer));
        let failed = |source| Error::Process { what: "the metrics", source: Box::new(source) };
        axum::serve(self.0, router).await.map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use eventide_schema::{Failure, Status, Stretch, Video, WorkItem};

    use super::*;
    use crate::{ExecutorState, RunState, cluster::Leaving};

    fn outcome() -> Outcome {
        let video = Video {
            video_id: "v".to_owned(),
            uri: "s3://b/v".to_owned(),
            source_version: "1".to_owned(),
            size_bytes: 1,
            last_modified_ms: 1,
            sidecars: Vec::new(),
        };
        let failure = Failure {
            stage: Stage::Probe,
            reason_code: "no_moov".to_owned(),
            reason: "x".to_owned(),
        };
        let item = WorkItem::new(video, 1);
        let mut outcome = Outcome::without_events(item, Status::Failed, failure);
        outcome.media.duration_us = Some(1_500_000);
        outcome.frames_used = 7;
        outcome
    }

    #[test]
    fn a_video_is_counted_with_its_reason_and_stages() {
        let metrics = Arc::new(Metrics::default());
        let watcher = DeviceWatcher { metrics: Arc::clone(&metrics), device: "cuda:0".to_owned() };
        let effort = Effort {
            stages: vec![(Stage::Fetch, Duration::from_millis(20))],
            device: Duration::from_secs(2),
            tokens: 11,
            stretch: Some(Stretch { index: 0, of: 3 }),
        };
        watcher.ended(&outcome(), &effort);
        let others = [1, 2].map(|index| Some(Stretch { index, of: 3 }));
        for stretch in others {
            let none = Outcome { frames_used: 0, ..outcome() };
            watcher.ended(&none, &Effort { stretch, ..Effort::default() });
        }
        metrics.shard(ShardEnd::Finished);
        let busy = Counted::one_of(&metrics.shards_in_progress);
        let text = metrics.text();
        for line in [
            "eventide_videos_total{status=\"failed\",reason=\"no_moov\"} 1",
            "eventide_frames_total 7",
            "eventide_tokens_total 11",
            "eventide_video_seconds_total 1.5",
            "eventide_device_busy_seconds_total{device=\"cuda:0\"} 2.0",
            "eventide_stage_seconds_count{stage=\"fetch\"} 1",
            "eventide_shards_total{ended=\"finished\"} 1",
            "eventide_shards_in_progress 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        drop(busy);
        assert!(metrics.text().contains("eventide_shards_in_progress 0\n"));
    }

    #[test]
    fn a_cluster_is_told_by_executor_and_by_job() {
        let executor = ExecutorState {
            id: "e".to_owned(),
            address: "10.0.0.2:50051".to_owned(),
            slots: 2,
            shards: 1,
            finished: 0,
            finished_over_ms: 0,
            silent_s: 3,
        };
        let run = RunState {
            cluster_job: "j".to_owned(),
            job: "nightly".to_owned(),
            run_id: "r".to_owned(),
            age_s: 9,
            waiting: 40,
            held: 1,
        };
        let state = ClusterState {
            build: "b".to_owned(),
            guarded: true,
            executors: vec![executor],
            runs: vec![run],
        };
        let gone = Departures::default();
        gone.count(Leaving::DeviceUnfit);
        let text = cluster_text(&state, 5, &gone);
        for line in [
            "eventide_executors 1",
            "eventide_executor_slots 2",
            "eventide_executor_shards{executor=\"10.0.0.2:50051\"} 1",
            "eventide_executor_silent_seconds{executor=\"10.0.0.2:50051\"} 3",
            "eventide_run_shards{job=\"nightly\",state=\"waiting\"} 40",
            "eventide_callers_refused_total 5",
            "eventide_executors_left_total{reason=\"device_unfit\"} 1",
            "eventide_executors_left_total{reason=\"told_to_stop\"} 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }
}
