//! What an executor runs, and that it stops. Ballista's engine drives a plan in a task of its own, which
//! goes on when the query stage is aborted; here each stage carries a token that is cancelled with it.
//! And it runs any plan; here only what indexes or captions shards, so that nobody reads files through
//! an executor.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use ballista_core::{
    JobId,
    serde::protobuf::{
        RuntimeStatsReport, ShuffleWritePartition, TaskColumnStats, WindowStateReport,
    },
};
use ballista_executor::execution_engine::{
    DefaultExecutionEngine, ExecutionEngine, QueryStageExecutor,
};
use datafusion::{
    common::{
        Result, plan_err,
        tree_node::{Transformed, TreeNode, TreeNodeRecursion},
    },
    datasource::{memory::MemorySourceConfig, source::DataSourceExec},
    execution::TaskContext,
    physical_plan::{ExecutionPlan, metrics::MetricsSet},
    prelude::SessionConfig,
};
use tokio_util::sync::CancellationToken;

use crate::{CaptionExec, IndexExec};

/// Ballista's engine, whose stages stop when they are aborted, and when the executor gives them back.
pub(super) struct CancellableEngine {
    engine: DefaultExecutionEngine,
    giving_back: CancellationToken,
}

impl CancellableEngine {
    /// An engine whose stages stop for good when `giving_back` is cancelled. They do not answer then: of an
    /// executor that leaves, the scheduler gives the shards to others, while a failed task would count.
    pub(super) fn stopped_by(giving_back: CancellationToken) -> Self {
        Self { engine: DefaultExecutionEngine::default(), giving_back }
    }
}

impl ExecutionEngine for CancellableEngine {
    fn create_query_stage_exec(
        &self,
        job_id: JobId,
        stage_id: usize,
        task_id: usize,
        partitions: Vec<usize>,
        plan: Arc<dyn ExecutionPlan>,
        work_dir: &str,
        config: &SessionConfig,
    ) -> Result<Arc<dyn QueryStageExecutor>> {
        require_ours(&plan)?;
        let stop = CancellationToken::new();
        let plan = stopped_by(plan, &stop)?;
        let stage = self.engine.create_query_stage_exec(
            job_id, stage_id, task_id, partitions, plan, work_dir, config,
        )?;
        Ok(Arc::new(Stage { executor: stage, stop, giving_back: self.giving_back.clone() }))
    }
}

/// Refuses a plan that does anything but index or caption shards.
fn require_ours(plan: &Arc<dyn ExecutionPlan>) -> Result<()> {
    let mut ours = false;
    plan.apply(|node| {
        let source = node.downcast_ref::<DataSourceExec>();
        let from_memory = source.is_some_and(|scan| scan.data_source().is::<MemorySourceConfig>());
        ours |= node.is::<IndexExec>() || node.is::<CaptionExec>();
        match node.name() {
            "ShuffleWriterExec" | "ProjectionExec" | "IndexExec" | "CaptionExec" => {}
            _ if from_memory => {}
            other => {
                return plan_err!(
                    "an executor of eventide indexes and captions shards; it runs no `{other}`"
                );
            }
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    if ours {
        Ok(())
    } else {
        plan_err!("an executor of eventide indexes and captions shards, and there is none")
    }
}

/// The plan, whose operators of ours end when `stop` is cancelled.
fn stopped_by(
    plan: Arc<dyn ExecutionPlan>,
    stop: &CancellationToken,
) -> Result<Arc<dyn ExecutionPlan>> {
    let transformed = plan.transform_up(|node| {
        let stopped: Arc<dyn ExecutionPlan> = if let Some(index) = node.downcast_ref::<IndexExec>()
        {
            Arc::new(index.stopped_by(stop.clone()))
        } else if let Some(caption) = node.downcast_ref::<CaptionExec>() {
            Arc::new(caption.stopped_by(stop.clone()))
        } else {
            return Ok(Transformed::no(node));
        };
        Ok(Transformed::yes(stopped))
    })?;
    Ok(transformed.data)
}

#[derive(Debug)]
struct Stage {
    executor: Arc<dyn QueryStageExecutor>,
    stop: CancellationToken,
    giving_back: CancellationToken,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.executor.fmt(f)
    }
}

#[async_trait]
impl QueryStageExecutor for Stage {
    async fn execute_query_stage(
        &self,
        task_id: usize,
        context: Arc<TaskContext>,
    ) -> Result<Vec<ShuffleWritePartition>> {
        let _stop = self.stop.clone().drop_guard(); // an aborted stage drops this future
        tokio::select! {
            biased; // what a stage says that is stopped is not to be heard
            () = self.giving_back.cancelled() => {
                self.stop.cancel();
                std::future::pending().await
            }
            written = self.executor.execute_query_stage(task_id, context) => written,
        }
    }

    fn collect_plan_metrics(&self) -> Vec<MetricsSet> {
        self.executor.collect_plan_metrics()
    }

    fn collect_runtime_stats_reports(&self) -> Vec<RuntimeStatsReport> {
        self.executor.collect_runtime_stats_reports()
    }

    fn collect_window_state_reports(&self) -> Result<Vec<WindowStateReport>> {
        self.executor.collect_window_state_reports()
    }

    fn collect_column_stats(&self) -> Vec<TaskColumnStats> {
        self.executor.collect_column_stats()
    }
}

#[cfg(test)]
mod tests {
    use datafusion::{
        arrow::datatypes::Schema,
        physical_plan::{empty::EmptyExec, union::UnionExec},
    };
    use eventide_catalog::PlanFile;

    use super::*;
    use crate::{index_plan, testing::index_options};

    fn index() -> Arc<dyn ExecutionPlan> {
        let (name, run_id) = ("p".to_owned(), "r".to_owned());
        let plan = PlanFile { format_version: 1, name, run_id, shards: Vec::new() };
        index_plan(index_options(), &plan).unwrap()
    }

    #[test]
    fn an_executor_runs_nothing_but_the_operator() {
        assert!(require_ours(&index()).is_ok());
        let empty: Arc<dyn ExecutionPlan> = Arc::new(EmptyExec::new(Arc::new(Schema::empty())));
        let error = require_ours(&empty).unwrap_err().to_string();
        assert!(error.contains("runs no `EmptyExec`"), "{error}");
        let scan = MemorySourceConfig::try_new_exec(&[vec![]], Arc::new(Schema::empty()), None);
        let error = require_ours(&(scan.unwrap() as Arc<dyn ExecutionPlan>)).unwrap_err();
        assert!(error.to_string().contains("there is none"), "{error}");
        let both = UnionExec::try_new(vec![index(), index()]).unwrap();
        assert!(require_ours(&both).is_err());
    }
}
