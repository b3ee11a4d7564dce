//! `IndexExec`: shard rows in, receipt rows out.
//!
//! A row of its input is a shard as JSON, a row of its output the receipt of that shard as JSON: only
//! these cross between tasks, the rows of the tables go from the worker to the object store. Decides
//! nothing: [`Indexer`] does the work, the plan around this node says where shards come from.
//!
//! It is an interior node on purpose: a leaf of our own would be run whole by every task of a
//! distributed plan.

use std::{fmt, sync::Arc};

use datafusion::{
    arrow::{
        array::{AsArray, RecordBatch, StringArray},
        datatypes::{DataType, Field, Schema, SchemaRef},
    },
    common::{Result, exec_datafusion_err, tree_node::TreeNodeRecursion},
    datasource::memory::MemorySourceConfig,
    error::DataFusionError,
    execution::TaskContext,
    physical_expr::{EquivalenceProperties, PhysicalExpr},
    physical_plan::{
        DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, PlanProperties,
        SendableRecordBatchStream,
        metrics::{BaselineMetrics, Count, ExecutionPlanMetricsSet, MetricBuilder, MetricsSet},
        stream::RecordBatchStreamAdapter,
    },
};
use eventide_catalog::Receipt;
use eventide_schema::Shard;
use futures::{StreamExt, TryStreamExt};
use serde::{Serialize, de::DeserializeOwned};

use crate::{Error, Indexer};

/// What the plan says about indexing. Plain data, for `EXPLAIN` and for the codec.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexOptions {
    /// Name of the model bundle, or `none`.
    pub model_id: String,
    /// Digest of every parameter that can change a row.
    pub params_digest: String,
}

/// Indexes the shards of its input. A partition is the unit of retry, and holds one shard.
#[derive(Debug, Clone)]
pub struct IndexExec {
    input: Arc<dyn ExecutionPlan>,
    options: Arc<IndexOptions>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

fn schema_of(column: &str) -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new(column, DataType::Utf8, false)]))
}

/// One partition a shard, as the leaf of a plan.
///
/// # Errors
/// Only if a shard cannot be written as JSON, which would be a fault of its type.
pub fn shards_scan(shards: &[Shard]) -> Result<Arc<dyn ExecutionPlan>> {
    let schema = schema_of("shard");
    let partitions =
        shards.iter().map(|shard| Ok(vec![row(&schema, shard)?])).collect::<Result<Vec<_>>>()?;
    Ok(MemorySourceConfig::try_new_exec(&partitions, schema, None)?)
}

impl IndexExec {
    /// Plans indexing of the shards of `input`.
    #[must_use]
    pub fn new(input: Arc<dyn ExecutionPlan>, options: Arc<IndexOptions>) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema_of("receipt")),
            input.output_partitioning().clone(),
            input.pipeline_behavior(),
            input.boundedness(),
        );
        Self {
            input,
            options,
            properties: Arc::new(properties),
            metrics: ExecutionPlanMetricsSet::new(),
        }
    }
}

impl DisplayAs for IndexExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let IndexOptions { model_id, params_digest } = self.options.as_ref();
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
        Ok(Arc::new(Self::new(inputs.swap_remove(0), Arc::clone(&self.options))))
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
        let indexer = context
            .session_config()
            .get_extension::<Indexer>()
            .ok_or_else(|| exec_datafusion_err!("this worker was started without an indexer"))?;
        let output = BaselineMetrics::new(&self.metrics, partition);
        let videos = MetricBuilder::new(&self.metrics).counter("videos", partition);
        let schema = self.schema();
        let receipts = self
            .input
            .execute(partition, context)?
            .map_ok(|batch| futures::stream::iter(read_rows(&batch).collect::<Vec<_>>()))
            .try_flatten()
            .then(move |shard| index(Arc::clone(&indexer), shard, videos.clone()))
            .map(move |receipt| receipt.and_then(|receipt| row(&schema, &receipt)))
            .inspect_ok(move |batch| output.record_output(batch.num_rows()));
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), receipts)))
    }
}

async fn index(indexer: Arc<Indexer>, shard: Result<Shard>, videos: Count) -> Result<Receipt> {
    let shard = shard?;
    videos.add(shard.items.len());
    indexer.index_shard(shard).await.map_err(Error::into_task_error)
}

/// The receipts of a batch that [`IndexExec`] has made.
///
/// # Errors
/// When a row is not a receipt.
pub fn receipts_of(batch: &RecordBatch) -> Result<Vec<Receipt>> {
    read_rows(batch).collect()
}

/// A batch of one row: `value` as JSON.
fn row(schema: &SchemaRef, value: &impl Serialize) -> Result<RecordBatch> {
    let text = serde_json::to_string(value).map_err(|e| DataFusionError::External(e.into()))?;
    let column = Arc::new(StringArray::from(vec![text]));
    Ok(RecordBatch::try_new(Arc::clone(schema), vec![column])?)
}

/// The values of a batch of such rows.
fn read_rows<T: DeserializeOwned>(batch: &RecordBatch) -> impl Iterator<Item = Result<T>> {
    let texts = batch.column(0).as_string::<i32>();
    texts
        .iter()
        .flatten()
        .map(|text| serde_json::from_str(text).map_err(|e| DataFusionError::External(e.into())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::physical_plan::display::DisplayableExecutionPlan;

    fn shard(id: &str) -> Shard {
        Shard { shard_id: id.to_owned(), items: Vec::new() }
    }

    fn plan(shards: &[Shard]) -> IndexExec {
        let options = IndexOptions { model_id: "tiny".to_owned(), params_digest: "p".to_owned() };
        IndexExec::new(shards_scan(shards).unwrap(), Arc::new(options))
    }

    #[test]
    fn shows_what_a_person_would_change() {
        let plan = plan(&[shard("a")]);
        let text = DisplayableExecutionPlan::new(&plan).one_line().to_string();
        assert_eq!(text.trim_end(), "IndexExec: model=tiny, params=p");
    }

    #[test]
    fn a_shard_is_a_partition() {
        let plan = plan(&[shard("a"), shard("b"), shard("c")]);
        assert_eq!(plan.properties().output_partitioning().partition_count(), 3);
        assert_eq!(plan.children().len(), 1, "a leaf would be run whole by every task");
    }

    #[tokio::test]
    async fn says_so_on_a_worker_without_an_indexer() {
        let error = plan(&[shard("a")]).execute(0, Arc::default()).err().unwrap().to_string();
        assert!(error.contains("without an indexer"), "{error}");
    }
}
