//! `IndexExec`: places of shards in, receipts out.
//!
//! A row of its input says where a shard stands in the plan file of the run, a row of its output is
//! the receipt of that shard as JSON: only these cross between tasks, the rows of the tables go from
//! the worker to the object store. Decides nothing: [`Indexers`] does the work, the plan around this
//! node says which shards there are.
//!
//! It is an interior node on purpose: a leaf of our own would be run whole by every task of a
//! distributed plan.

use std::{fmt, sync::Arc, time::Duration};

use datafusion::{
    arrow::{
        array::{ArrayRef, AsArray, RecordBatch, StringArray, UInt64Array},
        datatypes::{DataType, Field, Schema, SchemaRef, UInt64Type},
    },
    common::{Result, exec_datafusion_err, tree_node::TreeNodeRecursion},
    datasource::memory::MemorySourceConfig,
    error::DataFusionError,
    execution::TaskContext,
    physical_expr::{EquivalenceProperties, PhysicalExpr},
    physical_plan::{
        DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, PlanProperties,
        SendableRecordBatchStream,
        metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricBuilder, MetricsSet},
        stream::RecordBatchStreamAdapter,
    },
};
use eventide_catalog::{PlanFile, Receipt, ShardPlace};
use eventide_schema::Provenance;
use futures::{StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::{Error, How, Indexers};

/// What the plan says about indexing. Plain data, for `EXPLAIN` and for the codec; no secrets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct IndexOptions {
    /// How each video is captioned.
    pub how: How,
    /// Where the tables are.
    pub tables: String,
    /// Name of the plan file within the run.
    pub plan: String,
    /// Who makes the rows; the worker puts in its own name.
    pub provenance: Provenance,
    /// How long a shard may take before another worker tries it; for ever if not given.
    pub shard_deadline: Option<Duration>,
}

/// Indexes the shards of its input. A partition is the unit of retry, and holds one shard.
#[derive(Debug, Clone)]
pub struct IndexExec {
    input: Arc<dyn ExecutionPlan>,
    options: Arc<IndexOptions>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
    stop: CancellationToken,
}

/// The one column that the operator gives.
pub(crate) fn receipt_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("receipt", DataType::Utf8, false)]))
}

fn place_schema() -> SchemaRef {
    let number = |name| Field::new(name, DataType::UInt64, false);
    let fields = vec![
        Field::new("shard_id", DataType::Utf8, false),
        number("offset"),
        number("length"),
        number("videos"),
    ];
    Arc::new(Schema::new(fields))
}

/// The plan of a run: the operator over one partition a shard.
///
/// # Errors
/// Only if the places cannot be laid out as rows, which would be a fault of ours.
pub fn index_plan(options: IndexOptions, plan: &PlanFile) -> Result<Arc<dyn ExecutionPlan>> {
    let scan = places_scan(&plan.shards)?;
    Ok(Arc::new(IndexExec::new(scan, Arc::new(options))))
}

/// One partition a shard, as the leaf of a plan.
fn places_scan(places: &[ShardPlace]) -> Result<Arc<dyn ExecutionPlan>> {
    let schema = place_schema();
    let partitions = places
        .iter()
        .map(|place| {
            let number = |value| Arc::new(UInt64Array::from(vec![value]));
            let columns: Vec<ArrayRef> = vec![
                Arc::new(StringArray::from(vec![place.shard_id.as_str()])),
                number(place.offset),
                number(place.length),
                number(place.videos),
            ];
            Ok(vec![RecordBatch::try_new(Arc::clone(&schema), columns)?])
        })
        .collect::<Result<Vec<_>>>()?;
    Ok(MemorySourceConfig::try_new_exec(&partitions, schema, None)?)
}

/// The places in a batch of such rows.
fn places_of(batch: &RecordBatch) -> Vec<ShardPlace> {
    let ids = batch.column(0).as_string::<i32>();
    let number = |column: usize, row| batch.column(column).as_primitive::<UInt64Type>().value(row);
    (0..batch.num_rows())
        .map(|row| ShardPlace {
            shard_id: ids.value(row).to_owned(),
            offset: number(1, row),
            length: number(2, row),
            videos: number(3, row),
        })
        .collect()
}

impl IndexExec {
    /// Plans indexing of the shards of `input`.
    #[must_use]
    pub fn new(input: Arc<dyn ExecutionPlan>, options: Arc<IndexOptions>) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(receipt_schema()),
            input.output_partitioning().clone(),
            input.pipeline_behavior(),
            input.boundedness(),
        );
        Self {
            input,
            options,
            properties: Arc::new(properties),
            metrics: ExecutionPlanMetricsSet::new(),
            stop: CancellationToken::new(),
        }
    }

    /// The same, which ends early with an error when `stop` is cancelled.
    #[must_use]
    pub(crate) fn stopped_by(&self, stop: CancellationToken) -> Self {
        Self { stop, ..self.clone() }
    }

    /// What it was told.
    pub(crate) fn options(&self) -> &IndexOptions {
        &self.options
    }
}

impl DisplayAs for IndexExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Provenance { model_id, params_digest, .. } = &self.options.provenance;
        write!(f, "IndexExec: model={model_id}, params={params_digest}")
    }
}

impl ExecutionPlan for IndexExec {
    fn name(&self) -> &'static str {
        "IndexExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false] // the sharding is ours
    }

    fn with_new_children(
        self: Arc<Self>,
        mut inputs: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let same = Self::new(inputs.swap_remove(0), Arc::clone(&self.options));
        Ok(Arc::new(same.stopped_by(self.stop.clone())))
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

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let indexers = context
            .session_config()
            .get_extension::<Indexers>()
            .ok_or_else(|| exec_datafusion_err!("this process is no worker: it has no indexers"))?;
        let output = BaselineMetrics::new(&self.metrics, partition);
        let videos = MetricBuilder::new(&self.metrics).counter("videos", partition);
        let (schema, stop) = (self.schema(), self.stop.clone());
        let options = Arc::clone(&self.options);
        let receipts = self
            .input
            .execute(partition, context)?
            .map_ok(|batch| futures::stream::iter(places_of(&batch).into_iter().map(Ok)))
            .try_flatten()
            .and_then(move |place| {
                videos.add(usize::try_from(place.videos).unwrap_or(usize::MAX));
                let (indexers, options) = (Arc::clone(&indexers), Arc::clone(&options));
                let stop = stop.clone();
                async move { index(&indexers, &options, &place, &stop).await }
            })
            .map(move |receipt| receipt.and_then(|receipt| row(&schema, &receipt)))
            .inspect_ok(move |batch| output.record_output(batch.num_rows()));
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), receipts)))
    }
}

async fn index(
    indexers: &Indexers,
    options: &IndexOptions,
    place: &ShardPlace,
    stop: &CancellationToken,
) -> Result<Receipt> {
    let work = async { indexers.indexer(options).await?.index_shard(place).await };
    let deadline = options.shard_deadline.unwrap_or(Duration::MAX);
    tokio::select! {
        biased;
        () = stop.cancelled() => {
            tracing::info!(shard = %place.shard_id, "shard stopped");
            Err(Error::Cancelled.into_task_error())
        }
        receipt = tokio::time::timeout(deadline, work) => match receipt {
            Ok(receipt) => receipt.map_err(Error::into_task_error),
            Err(_) => Err(overdue(indexers, place, deadline).into_task_error()),
        },
    }
}

fn overdue(indexers: &Indexers, place: &ShardPlace, deadline: Duration) -> Error {
    let (shard_id, worker) = (place.shard_id.clone(), indexers.worker_name().to_owned());
    let error = Error::ShardDeadline { shard_id, worker, deadline };
    tracing::warn!(shard = %place.shard_id, error = %error, "shard given up");
    error
}

/// The receipts of a batch that [`IndexExec`] has made.
///
/// # Errors
/// When a row is not a receipt.
pub fn receipts_of(batch: &RecordBatch) -> Result<Vec<Receipt>> {
    let texts = batch.column(0).as_string::<i32>();
    let read = |text| serde_json::from_str(text).map_err(|e| DataFusionError::External(e.into()));
    texts.iter().flatten().map(read).collect()
}

/// A batch of one row: `value` as JSON.
fn row(schema: &SchemaRef, value: &impl Serialize) -> Result<RecordBatch> {
    let text = serde_json::to_string(value).map_err(|e| DataFusionError::External(e.into()))?;
    let column = Arc::new(StringArray::from(vec![text]));
    Ok(RecordBatch::try_new(Arc::clone(schema), vec![column])?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::physical_plan::display::DisplayableExecutionPlan;

    fn plan(shards: &[&str]) -> Arc<dyn ExecutionPlan> {
        let place =
            |id: &&str| ShardPlace { shard_id: (*id).to_owned(), offset: 0, length: 1, videos: 1 };
        let shards = shards.iter().map(place).collect();
        let plan =
            PlanFile { format_version: 1, name: "p".to_owned(), run_id: "r".to_owned(), shards };
        index_plan(crate::testing::index_options(), &plan).unwrap()
    }

    #[test]
    fn shows_what_a_person_would_change() {
        let plan = plan(&["a"]);
        let text = DisplayableExecutionPlan::new(plan.as_ref()).one_line().to_string();
        assert_eq!(text.trim_end(), "IndexExec: model=tiny, params=p");
    }

    #[test]
    fn a_shard_is_a_partition() {
        let plan = plan(&["a", "b", "c"]);
        assert_eq!(plan.properties().output_partitioning().partition_count(), 3);
        assert_eq!(plan.children().len(), 1, "a leaf would be run whole by every task");
    }

    #[tokio::test]
    async fn says_so_where_nothing_can_index() {
        let error = plan(&["a"]).execute(0, Arc::default()).err().unwrap().to_string();
        assert!(error.contains("has no indexers"), "{error}");
    }
}
