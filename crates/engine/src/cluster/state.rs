//! What a scheduler sees of its cluster, for whoever watches it.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use ballista_core::{error::BallistaError, serde::protobuf::task_status};
use ballista_scheduler::{
    scheduler_server::SchedulerServer, state::execution_stage::ExecutionStage,
};
use datafusion_proto::protobuf::{LogicalPlanNode, PhysicalPlanNode};
use serde::{Deserialize, Serialize};

use super::secret::Guard;
use crate::BUILD;

/// Where the scheduler tells it, under its own address.
pub(super) const PATH: &str = "/state";
/// Where it is told that an executor is gone: a `POST` of a [`Farewell`].
pub(super) const LEFT: &str = "/executors/{id}/left";

/// When an executor that has left was heard last: so long ago that the scheduler misses it at its next look, within a second.
pub(super) const LONG_AGO: Duration = Duration::ZERO;

/// [`LEFT`] of one executor.
pub(super) fn left_path(executor_id: &str) -> String {
    LEFT.replace("{id}", executor_id)
}

/// Why an executor is gone that could still say so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Leaving {
    /// It was told to stop.
    ToldToStop,
    /// A device of it must not be used.
    DeviceUnfit,
    /// Something else ended it.
    Failed,
}

impl Leaving {
    /// Each with its name in metrics.
    pub(crate) const ALL: [(Self, &str); 3] = [
        (Self::ToldToStop, "told_to_stop"),
        (Self::DeviceUnfit, "device_unfit"),
        (Self::Failed, "failed"),
    ];
}

/// What an executor says as the last thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Farewell {
    pub(super) because: Leaving,
    /// The same for a person.
    pub(super) reason: String,
}

/// How many executors have said that they go, by why.
#[derive(Debug, Clone, Default)]
pub(crate) struct Departures(Arc<[AtomicU64; Leaving::ALL.len()]>);

impl Departures {
    pub(crate) fn count(&self, because: Leaving) {
        self.0[because as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Every reason by its name, with how many went for it.
    pub(crate) fn by_reason(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let count = |because: Leaving| self.0[because as usize].load(Ordering::Relaxed);
        Leaving::ALL.into_iter().map(move |(because, name)| (name, count(because)))
    }
}

/// The executors and the runs of a cluster at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterState {
    /// The build of the scheduler.
    pub build: String,
    /// Whether it asks callers for the token of its cluster.
    pub guarded: bool,
    /// The executors that are there, by host and port.
    pub executors: Vec<ExecutorState>,
    /// The runs at work, the oldest first.
    pub runs: Vec<RunState>,
}

/// An executor, as its scheduler sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecutorState {
    /// The scheduler's name for it.
    pub id: String,
    /// Where it listens, `host:port`.
    pub address: String,
    /// Shards that it takes at once.
    pub slots: u32,
    /// Shards that it holds.
    pub shards: usize,
    /// Shards of the runs at work that it has finished.
    pub finished: usize,
    /// The time from the begin of the first of these to the end of the last, in milliseconds.
    pub finished_over_ms: u64,
    /// How long it has said nothing, in whole seconds.
    pub silent_s: u64,
}

impl ExecutorState {
    /// Shards an hour, where it has finished any.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "for a person to read")]
    pub fn shards_per_hour(&self) -> Option<f64> {
        let hours = self.finished_over_ms.max(1) as f64 / 3_600_000.0;
        (self.finished > 0).then(|| self.finished as f64 / hours)
    }
}

/// A run at work, as its scheduler sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunState {
    /// The scheduler's name for it.
    pub cluster_job: String,
    /// The job.
    pub job: String,
    /// The run.
    pub run_id: String,
    /// Seconds since it was begun.
    pub age_s: u64,
    /// Shards that nobody has taken yet.
    pub waiting: usize,
    /// Shards that executors hold.
    pub held: usize,
}

/// What a run is called at the scheduler, so that it is found by what a client knows of it before.
pub(super) fn job_name(job: &str, run_id: &str) -> String {
    format!("{job} {run_id}")
}

/// What an executor has finished of the runs at work.
#[derive(Default)]
struct Finished {
    shards: usize,
    /// From when to when, in milliseconds since 1970.
    time: Option<(u128, u128)>,
}

impl Finished {
    fn take(&mut self, began: u128, ended: u128) {
        self.shards += 1;
        let (first, last) = self.time.unwrap_or((began, ended));
        self.time = Some((first.min(began), last.max(ended)));
    }

    fn over_ms(&self) -> u64 {
        let (began, ended) = self.time.unwrap_or_default();
        u64::try_from(ended.saturating_sub(began)).unwrap_or(u64::MAX)
    }
}

pub(super) type Server = SchedulerServer<LogicalPlanNode, PhysicalPlanNode>;

/// What the scheduler sees now.
pub(super) async fn of(scheduler: &Server, guard: &Guard) -> Result<ClusterState, BallistaError> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let (mut runs, mut held) = (Vec::new(), BTreeMap::<String, usize>::new());
    let mut finished = BTreeMap::<String, Finished>::new();
    for (id, job) in scheduler.state.task_manager.get_running_job_cache().iter() {
        let graph = job.execution_graph.read().await;
        let running = graph.running_tasks();
        for task in &running {
            *held.entry(task.executor_id.clone()).or_default() += 1;
        }
        for task in graph.stages().values().filter_map(ExecutionStage::task_infos).flatten() {
            if let task_status::Status::Successful(by) = &task.task_status {
                let known = finished.entry(by.executor_id.clone()).or_default();
                known.take(task.start_exec_time, task.end_exec_time);
            }
        }
        let (job, run_id) = graph.job_name().rsplit_once(' ').unwrap_or((graph.job_name(), ""));
        runs.push(RunState {
            cluster_job: id.to_string(),
            job: job.to_owned(),
            run_id: run_id.to_owned(),
            age_s: now.saturating_sub(Duration::from_millis(graph.start_time())).as_secs(),
            waiting: graph.available_tasks(),
            held: running.len(),
        });
    }
    runs.sort_by(|a, b| b.age_s.cmp(&a.age_s).then_with(|| a.cluster_job.cmp(&b.cluster_job)));
    let registered = scheduler.state.executor_manager.get_executors_state().await?;
    let there = registered.into_iter().filter(|(_, heard, _)| *heard != Some(LONG_AGO));
    let executors = there.map(|(executor, heard, _)| ExecutorState {
        address: format!("{}:{}", executor.host, executor.grpc_port),
        slots: executor.specification.vcores,
        shards: held.get(&executor.id).copied().unwrap_or(0),
        finished: finished.get(&executor.id).map_or(0, |finished| finished.shards),
        finished_over_ms: finished.get(&executor.id).map_or(0, Finished::over_ms),
        silent_s: heard.map_or(0, |heard| now.saturating_sub(heard).as_secs()),
        id: executor.id,
    });
    let mut executors: Vec<_> = executors.collect();
    executors.sort_by(|a, b| a.address.cmp(&b.address));
    Ok(ClusterState { build: BUILD.to_owned(), guarded: guard.asks(), executors, runs })
}
