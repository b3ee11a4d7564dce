//! Who gets which shard. Ballista gives a shard that failed to the first executor that has room, which is mostly the one that
//! has just failed at it; here those come first that have tried it least. Shards keep their order: the heaviest goes first.

use std::{collections::HashMap, fmt, sync::Arc};

use async_trait::async_trait;
use ballista_core::{
    JobId,
    serde::{
        protobuf::{AvailableVcores, executor_status, job_status},
        scheduler::TaskKey,
    },
};
use ballista_scheduler::{
    cluster::{BoundTask, ClusterState, DistributionPolicy},
    state::{
        execution_graph::{TaskDescription, create_task_info},
        execution_stage::RunningStage,
        task_manager::JobInfoCache,
    },
};
use datafusion::common::Result;
use tokio::sync::Mutex;

/// A shard, as Ballista knows it: job, stage, partition.
type Partition = (JobId, usize, usize);

/// The rule by which shards are given away.
pub(super) struct LeastTriedFirst {
    executors: Arc<dyn ClusterState>,
    /// Who was given which shard of a job that goes on, once for each time.
    given: Mutex<HashMap<Partition, Vec<String>>>,
}

impl LeastTriedFirst {
    pub(super) fn new(executors: Arc<dyn ClusterState>) -> Self {
        Self { executors, given: Mutex::default() }
    }

    /// The executors that take shards, those included that have no room now.
    fn alive(&self) -> Vec<String> {
        let heard = self.executors.executor_heartbeats().into_values();
        let active = heard.filter(|heard| {
            let status = heard.status.as_ref().and_then(|status| status.status.as_ref());
            matches!(status, Some(executor_status::Status::Active(_)))
        });
        active.map(|heard| heard.executor_id).collect()
    }
}

impl fmt::Debug for LeastTriedFirst {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[async_trait]
impl DistributionPolicy for LeastTriedFirst {
    async fn bind_tasks(
        &self,
        mut free: Vec<&mut AvailableVcores>,
        jobs: Arc<HashMap<JobId, JobInfoCache>>,
    ) -> Result<Vec<BoundTask>> {
        let alive = self.alive();
        let mut given = self.given.lock().await;
        given.retain(|(job_id, ..), _| jobs.contains_key(job_id));
        let mut bound = Vec::new();
        let running =
            |job: &JobInfoCache| matches!(job.status, Some(job_status::Status::Running(_)));
        for (job_id, job) in jobs.iter().filter(|(_, job)| running(job)) {
            let mut graph = job.execution_graph.write().await;
            let session_id = graph.session_id().to_owned();
            let mut seen = Vec::new();
            while let Some(stage) = graph.fetch_running_stage(&seen) {
                seen.push(stage.stage_id);
                let mut waiting = Vec::new();
                while free.iter().any(|executor| executor.vcores > 0) {
                    let Some(partition) = stage.pending.next_slice(1).pop() else { break };
                    let shard = (job_id.clone(), stage.stage_id, partition);
                    let tried = given.entry(shard).or_default();
                    match choice(tried, &free, &alive) {
                        Some(index) => {
                            tried.push(free[index].executor_id.clone());
                            bound.push(bind(stage, &session_id, job_id, partition, free[index]));
                        }
                        None => waiting.push(partition),
                    }
                }
                stage.pending.reschedule(waiting);
            }
        }
        Ok(bound)
    }

    fn name(&self) -> &'static str {
        "LeastTriedFirst"
    }
}

/// Which of `free` gets a shard that `tried` have had: of those that had it least, the one with most room. None, where one
/// that has no room now had it less: that one will have room, or die.
fn choice(tried: &[String], free: &[&mut AvailableVcores], alive: &[String]) -> Option<usize> {
    let count = |id: &String| tried.iter().filter(|tried| *tried == id).count();
    let with_room = || free.iter().enumerate().filter(|(_, executor)| executor.vcores > 0);
    let ids = with_room().map(|(_, executor)| &executor.executor_id);
    let least = ids.chain(alive).map(count).min()?;
    with_room()
        .filter(|(_, executor)| count(&executor.executor_id) == least)
        .max_by_key(|(_, executor)| executor.vcores)
        .map(|(index, _)| index)
}

/// Gives one partition of a stage to an executor, as Ballista does; no plan of ours takes several at once.
fn bind(
    stage: &mut RunningStage,
    session_id: &str,
    job_id: &JobId,
    partition: usize,
    executor: &mut AvailableVcores,
) -> BoundTask {
    let executor_id = executor.executor_id.clone();
    let task_id = stage.task_infos.len();
    let mut info = create_task_info(executor_id.clone(), task_id);
    info.global_input_partition_ids = vec![partition];
    info.vcores_consumed = 1;
    stage.task_infos.push(info);
    executor.vcores -= 1;
    let task = TaskDescription {
        session_id: session_id.to_owned(),
        key: TaskKey { job_id: job_id.clone(), stage_id: stage.stage_id, task_id },
        stage_attempt_num: stage.stage_attempt_num,
        task_attempt: stage.task_failure_numbers[partition],
        global_input_partition_ids: vec![partition],
        vcores_consumed: 1,
        plan: Arc::clone(&stage.plan),
        session_config: Arc::clone(&stage.session_config),
    };
    (executor_id, task)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::the_one_with_most_room(&[], &[("a", 1), ("b", 3), ("c", 2)], &["a", "b", "c"], Some("b"))]
    #[case::not_the_one_that_failed(&["b"], &[("a", 1), ("b", 3)], &["a", "b"], Some("a"))]
    #[case::rather_a_busy_one(&["a"], &[("a", 1)], &["a", "b"], None)]
    #[case::there_is_no_other(&["a"], &[("a", 1)], &["a"], Some("a"))]
    #[case::the_other_is_gone(&["a", "b"], &[("a", 1)], &["a"], Some("a"))]
    #[case::in_turns(&["a", "b", "a"], &[("a", 1), ("b", 1)], &["a", "b"], Some("b"))]
    #[case::both_have_failed(&["a", "b"], &[("a", 1), ("b", 0)], &["a", "b"], Some("a"))]
    #[case::no_room(&[], &[("a", 0)], &["a"], None)]
    #[case::nobody(&[], &[], &[], None)]
    fn who_has_tried_it_least_is_next(
        #[case] tried: &[&str],
        #[case] free: &[(&str, u32)],
        #[case] alive: &[&str],
        #[case] next: Option<&str>,
    ) {
        let owned = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        let mut free: Vec<_> = free
            .iter()
            .map(|(id, vcores)| AvailableVcores { executor_id: (*id).to_owned(), vcores: *vcores })
            .collect();
        let free: Vec<_> = free.iter_mut().collect();
        let chosen = choice(&owned(tried), &free, &owned(alive));
        assert_eq!(chosen.map(|index| free[index].executor_id.as_str()), next);
    }
}
