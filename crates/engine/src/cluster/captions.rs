//! A corpus as a table of captions that a cluster makes: what SQL's `caption` reads with `--cluster`.
//!
//! Only the captioning goes to the cluster: its columns and the filters on the listing go along, and
//! come back as rows, one task a shard. The rest of a query runs in the process that asks, so that
//! executors run nothing but our operator. The rows wait with the executors until all shards are done,
//! and go when they were read, or when nobody wants them any more.

use std::{collections::BTreeSet, fmt, sync::Arc};

use async_trait::async_trait;
use ballista_core::{
    client::BallistaClient,
    extension::BallistaConfigGrpcEndpoint,
    serde::protobuf::{CancelJobParams, CleanJobDataParams, PartitionLocation},
};
use datafusion::{
    arrow::{array::RecordBatch, datatypes::SchemaRef},
    catalog::{Session, TableProvider},
    common::{
        Result, exec_datafusion_err, project_schema,
        tree_node::{TreeNode, TreeNodeRecursion},
    },
    datasource::provider_as_source,
    execution::TaskContext,
    functions::all_default_functions,
    logical_expr::{Expr, LogicalPlanBuilder, TableProviderFilterPushDown, TableType},
    physical_expr::{EquivalenceProperties, PhysicalExpr},
    physical_plan::{
        DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties,
        SendableRecordBatchStream,
        execution_plan::{Boundedness, EmissionType},
        metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet},
        stream::RecordBatchStreamAdapter,
    },
};
use eventide_catalog::Tables;
use eventide_schema::tables::captions_schema;
use futures::{Stream, StreamExt, TryStreamExt, stream};
use tokio::time::Instant;
use tokio_util::task::{TaskTracker, task_tracker::TaskTrackerToken};
use uuid::Uuid;

use super::{
    client::{Answer, COUNT_EVERY, Cluster, Connection, Inquiry, bytes_of},
    secret::introduced,
    session::MESSAGE_BYTES,
    watch::{Patience, Seen, Watchdog},
};
use crate::{
    CaptionOptions, CaptionTable, ClusterState, Error, Marks,
    caption::{is_of_listing, pushed_down},
};

/// Shards whose rows are fetched at once.
const FETCHES: usize = 4;
/// Executors that may be lost while a query runs. A video that kills them costs three, where they may leave
/// marks by which it is found out.
const MOST_LOST: usize = 9;
/// What the scheduler calls a query of a person.
const JOB: &str = "sql";

/// The captions of a corpus, made by a cluster when they are read.
#[derive(Debug)]
pub struct ClusterCaptions {
    options: CaptionOptions,
    cluster: Cluster,
    patience: Patience,
    queries: TaskTracker,
    /// The tables beside which executors leave marks, and the scheduler its plan.
    tables: Tables,
}

impl ClusterCaptions {
    /// The captions of what lies at `options.corpus` when they are read. Executors mark beside `tables`
    /// what they begin, and find there what is theirs, where these are in a store. Whatever a query leaves at the cluster is removed by a task of `queries`: who
    /// waits for these leaves nothing behind.
    #[must_use]
    pub fn new(
        options: CaptionOptions,
        cluster: Cluster,
        patience: Patience,
        queries: TaskTracker,
        tables: Tables,
    ) -> Self {
        Self { options, cluster, patience, queries, tables }
    }

    /// The recipe of the captions with these columns that pass these filters, for the query of this name.
    fn recipe(
        &self,
        query: &str,
        columns: Option<Vec<usize>>,
        filters: &[Expr],
    ) -> Result<Vec<u8>> {
        let tables = self.tables.location().uri.clone();
        let marks = Some(Marks { tables, query: query.to_owned() });
        let options = CaptionOptions { marks, ..self.options.clone() };
        let table = provider_as_source(Arc::new(CaptionTable::elsewhere(options)));
        let plan =
            LogicalPlanBuilder::scan_with_filters("caption", table, columns, filters.to_vec())?;
        bytes_of(&plan.build()?, self.cluster.secret.clone())
    }
}

#[async_trait]
impl TableProvider for ClusterCaptions {
    fn schema(&self) -> SchemaRef {
        captions_schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    /// What concerns the listing alone is settled by the scheduler, where it knows the functions.
    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(filters
            .iter()
            .map(|filter| pushed_down(is_of_listing(filter) && travels(filter)))
            .collect())
    }

    async fn scan(
        &self,
        _: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        _: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let schema = project_schema(&captions_schema(), projection)?;
        // Rows without a column would not survive being sent.
        let sent =
            projection.map(|columns| if columns.is_empty() { vec![0] } else { columns.clone() });
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        let filters_shown: Vec<_> = filters.iter().map(ToString::to_string).collect();
        // Two queries have names of their own, so that each is found among what runs.
        let name = Uuid::now_v7().to_string();
        Ok(Arc::new(ClusterCaptionExec {
            query: Arc::new(Query {
                recipe: self.recipe(&name, sent, filters)?,
                name,
                cluster: self.cluster.clone(),
                patience: self.patience,
                queries: self.queries.clone(),
                tables: self.tables.clone(),
            }),
            shown: format!(
                "scheduler={}, corpus={}, filters=[{}]",
                self.cluster.url,
                self.options.corpus.uri,
                filters_shown.join(", ")
            ),
            properties: Arc::new(properties),
            metrics: ExecutionPlanMetricsSet::new(),
        }))
    }
}

/// Whether the scheduler understands a filter: it knows the query engine's own functions only.
fn travels(filter: &Expr) -> bool {
    let known = all_default_functions();
    let foreign = |part: &Expr| {
        Ok(match part {
            Expr::ScalarFunction(call) => !known.iter().any(|known| known.name() == call.name()),
            _ => false,
        })
    };
    !filter.exists(foreign).unwrap_or(true)
}

/// Reads captions from a cluster. A leaf, for it runs where it was planned and is sent nowhere.
#[derive(Clone)]
struct ClusterCaptionExec {
    query: Arc<Query>,
    shown: String,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl fmt::Debug for ClusterCaptionExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterCaptionExec").field("shown", &self.shown).finish_non_exhaustive()
    }
}

impl DisplayAs for ClusterCaptionExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClusterCaptionExec: {}", self.shown)
    }
}

impl ExecutionPlan for ClusterCaptionExec {
    fn name(&self) -> &'static str {
        "ClusterCaptionExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn with_new_children(
        self: Arc<Self>,
        _: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue) // owns no expressions
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn execute(&self, partition: usize, _: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let output = BaselineMetrics::new(&self.metrics, partition);
        let (query, schema) = (Arc::clone(&self.query), self.schema());
        let columns = schema.fields().len();
        let rows = stream::once(async move { query.rows().await.map_err(Error::into_task_error) })
            .try_flatten()
            .map(move |batch| batch?.project(&(0..columns).collect::<Vec<_>>()).map_err(Into::into))
            .inspect_ok(move |batch| output.record_output(batch.num_rows()));
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows)))
    }
}

/// What is asked of the cluster.
struct Query {
    name: String,
    recipe: Vec<u8>,
    cluster: Cluster,
    patience: Patience,
    queries: TaskTracker,
    tables: Tables,
}

impl Query {
    /// Has the cluster caption, and gives the rows when it is done.
    async fn rows(
        self: Arc<Self>,
    ) -> Result<impl Stream<Item = Result<RecordBatch>> + Send, Error> {
        let name = super::state::job_name(JOB, &self.name);
        let token = self.queries.token();
        let (mut connection, id) = self.cluster.hand_in(&name, &self.name, &self.recipe).await?;
        tracing::info!(cluster_job = %id, "handed to the cluster");
        let mut asked = Asked { query: Arc::clone(&self), id, done: false, token: Some(token) };
        let places = self.answered(&mut connection, &asked.id).await?;
        asked.done = true;
        let rows = stream::iter(places)
            .map(move |place| {
                let query = Arc::clone(&self);
                async move { query.fetch(place).await }
            })
            .buffered(FETCHES)
            .try_flatten()
            .inspect(move |_| {
                let _ = &asked; // kept until the last row was read
            });
        Ok(rows)
    }

    /// Waits until the cluster is done; gives where the rows are.
    async fn answered(
        &self,
        connection: &mut Connection,
        id: &str,
    ) -> Result<Vec<PartitionLocation>, Error> {
        let cluster = &self.cluster;
        let mut looked = Instant::now();
        let (mut inquiry, mut guard) = (Inquiry::new(), Guard::new(self.patience, looked));
        loop {
            match inquiry.ask(cluster, connection, id).await? {
                Answer::AtWork => {}
                Answer::Done(job) => return Ok(job.partition_location),
                Answer::Forgotten => {
                    return Err(cluster.ended_badly("the scheduler has forgotten the query"));
                }
            }
            if looked.elapsed() > COUNT_EVERY {
                looked = Instant::now();
                let state = cluster.seen_by(connection).await.ok();
                guard.look(cluster, id, state.as_ref(), looked)?;
            }
        }
    }

    /// The rows of one shard.
    async fn fetch(&self, place: PartitionLocation) -> Result<SendableRecordBatchStream> {
        let layout = place.layout();
        let (Some(executor), Some(partition)) = (place.executor_meta, place.partition_id) else {
            return Err(exec_datafusion_err!("the scheduler does not say where rows are"));
        };
        let port = u16::try_from(executor.port).unwrap_or(0);
        let gone = |source| {
            let address = format!("{}:{port}", executor.host);
            Error::Fetch { address, source: Box::new(source) }.into_task_error()
        };
        let endpoint = introduced(self.cluster.secret.as_ref());
        let endpoint = Some(Arc::new(BallistaConfigGrpcEndpoint::new(endpoint)));
        let (size, tls, retries, pause_ms) = (MESSAGE_BYTES as usize, false, 3, 1000);
        let client = BallistaClient::try_new(
            &executor.host,
            port,
            size,
            tls,
            endpoint,
            retries,
            pause_ms,
            0,
            0,
        );
        let mut client = client.await.map_err(gone)?;
        let (partition, by_flight) = (partition.into(), false);
        let rows =
            client.fetch_partition(&executor.id, &partition, place.file_id, layout, by_flight);
        rows.await.map_err(gone)
    }
}

/// Watches a query.
struct Guard {
    dog: Watchdog,
    /// Shards at most that were seen not to be done.
    most: usize,
    there: BTreeSet<String>,
    lost: usize,
}

impl Guard {
    fn new(patience: Patience, now: Instant) -> Self {
        Self { dog: Watchdog::new(patience, now), most: 0, there: BTreeSet::new(), lost: 0 }
    }

    /// Takes in what the scheduler sees, if it says anything.
    fn look(
        &mut self,
        cluster: &Cluster,
        id: &str,
        state: Option<&ClusterState>,
        now: Instant,
    ) -> Result<(), Error> {
        let Some(state) = state else { return Ok(()) };
        let run = state.runs.iter().find(|run| run.cluster_job == id);
        let open = run.map_or(self.most, |run| run.waiting + run.held);
        self.most = self.most.max(open);
        let there: BTreeSet<_> = state.executors.iter().map(|e| e.id.clone()).collect();
        self.lost += self.there.difference(&there).count();
        self.there = there;
        if self.lost > MOST_LOST {
            return Err(Error::ExecutorsLost { url: cluster.url.clone(), lost: self.lost });
        }
        let seen = Seen { executors: Some(self.there.len()), done: self.most - open };
        cluster.heed(self.dog.see(seen, now), Some(state))
    }
}

/// A query that the cluster has been asked. Dropping it stops the work, if there is any left, and has
/// the executors remove its rows.
struct Asked {
    query: Arc<Query>,
    id: String,
    done: bool,
    /// Keeps the tracker of queries waiting.
    token: Option<TaskTrackerToken>,
}

impl Drop for Asked {
    fn drop(&mut self) {
        let (query, id, done) = (Arc::clone(&self.query), std::mem::take(&mut self.id), self.done);
        let token = self.token.take();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                if let Err(error) = remove(&query.cluster, id, done).await {
                    tracing::warn!(error = %error, "the cluster may still be at work on the query");
                }
                if let Err(error) = query.tables.remove_plans(&query.name).await {
                    tracing::warn!(error = %error, "the plan of the query may be left to a vacuum");
                }
                drop(token);
            });
        }
    }
}

/// Stops a query, unless it is done, and removes its rows.
async fn remove(cluster: &Cluster, job_id: String, done: bool) -> Result<(), Error> {
    let mut connection = cluster.connect().await?;
    let lost = |status| cluster.lost(status);
    if !done {
        let params = CancelJobParams { job_id: job_id.clone() };
        connection.calls.cancel_job(params).await.map_err(lost)?;
    }
    connection
        .calls
        .clean_job_data(CleanJobDataParams { job_id, remove_stage_ids: Vec::new() })
        .await
        .map_err(lost)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use datafusion::{
        logical_expr::{col, lit},
        prelude::{concat, lower, random},
    };
    use rstest::rstest;

    use super::*;
    use crate::{ExecutorState, RunState};

    #[rstest]
    #[case::name(col("uri").like(lit("%talk%")), true)]
    #[case::function(lower(col("uri")).eq(lit("a")), true)]
    #[case::two(concat(vec![col("video_id"), col("source_version")]).eq(lit("a")), true)]
    #[case::of_what_is_seen(col("status").eq(lit("failed")), false)]
    #[case::mixed(col("uri").eq(col("caption")), false)]
    #[case::random(random().gt(lit(0.5)), false)]
    fn what_is_known_before_is_asked_before(#[case] filter: Expr, #[case] listed: bool) {
        assert_eq!(is_of_listing(&filter) && travels(&filter), listed);
    }

    fn state(executors: &[&str], waiting: usize) -> ClusterState {
        let executor = |id: &&str| ExecutorState {
            id: (*id).to_owned(),
            address: String::new(),
            slots: 1,
            shards: 0,
            finished: 0,
            finished_over_ms: 0,
            silent_s: 0,
        };
        let run = RunState {
            cluster_job: "q".to_owned(),
            job: JOB.to_owned(),
            run_id: String::new(),
            age_s: 0,
            waiting,
            held: 0,
        };
        ClusterState {
            build: String::new(),
            guarded: false,
            executors: executors.iter().map(executor).collect(),
            runs: vec![run],
        }
    }

    #[test]
    fn a_query_that_loses_executor_after_executor_ends() {
        let minute = Duration::from_mins(1);
        let patience = Patience { executors: minute, progress: minute, shard: minute };
        let (start, cluster) = (Instant::now(), Cluster::at("http://h:1", None).unwrap());
        let mut guard = Guard::new(patience, start);
        for (second, name) in (1..).zip(["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"]) {
            let now = start + Duration::from_secs(second);
            guard.look(&cluster, "q", Some(&state(&[name], 9)), now).unwrap();
        }
        let now = start + Duration::from_secs(11);
        let ended = guard.look(&cluster, "q", Some(&state(&["k"], 9)), now);
        assert!(matches!(ended, Err(Error::ExecutorsLost { lost: 10, .. })));
    }

    #[test]
    fn shards_that_get_done_are_progress() {
        let minute = Duration::from_mins(1);
        let patience = Patience { executors: minute, progress: minute, shard: minute };
        let (start, cluster) = (Instant::now(), Cluster::at("http://h:1", None).unwrap());
        let mut guard = Guard::new(patience, start);
        for (second, waiting) in [(50, 9), (100, 8), (150, 7)] {
            let now = start + Duration::from_secs(second);
            guard.look(&cluster, "q", Some(&state(&["a"], waiting)), now).unwrap();
        }
        let still = guard.look(&cluster, "q", Some(&state(&["a"], 7)), start + 4 * minute);
        assert!(matches!(still, Err(Error::NoProgress { .. })));
    }
}
