//! A corpus as a table of captions: what SQL's `caption` reads. Nothing is written anywhere.
//!
//! A video that a filter leaves out by its name is not looked at, and one whose rows nobody reads to
//! the end is stopped.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use datafusion::{
    arrow::{
        array::{Array, AsArray, RecordBatch, StringArray},
        datatypes::{DataType, Field, Schema, SchemaRef},
    },
    catalog::{Session, TableProvider},
    common::{DFSchema, DataFusionError, Result, project_schema, tree_node::TreeNodeRecursion},
    datasource::memory::MemorySourceConfig,
    execution::TaskContext,
    logical_expr::{Expr, TableProviderFilterPushDown, TableType, utils::conjunction},
    physical_expr::{EquivalenceProperties, PhysicalExpr},
    physical_plan::{
        DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, PlanProperties,
        SendableRecordBatchStream,
        empty::EmptyExec,
        metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricBuilder, MetricsSet},
        stream::RecordBatchStreamAdapter,
    },
};
use eventide_catalog::{CorpusOptions, Known, PlanOptions, Stores, list, plan};
use eventide_schema::{
    Shard, Video,
    tables::{captions_batch, captions_schema},
};
use futures::{StreamExt, TryStreamExt, stream};

use crate::{Error, How, Indexers, ShardOptions};

/// What a filter may ask of a video before it is looked at.
const LISTED: [&str; 3] = ["video_id", "uri", "source_version"];

/// What is captioned and how.
#[derive(Debug, Clone, PartialEq)]
pub struct CaptionOptions {
    /// The videos.
    pub corpus: CorpusOptions,
    /// How each is captioned.
    pub how: How,
    /// How they are cut into shards, the unit of what runs side by side.
    pub shards: ShardOptions,
}

/// The captions of a corpus, made when they are read.
pub struct CaptionTable {
    options: Arc<CaptionOptions>,
    stores: Arc<Stores>,
    indexers: Arc<Indexers>,
}

impl CaptionTable {
    /// The captions of what lies at `options.corpus` when they are read.
    #[must_use]
    pub fn new(options: CaptionOptions, stores: Arc<Stores>, indexers: Arc<Indexers>) -> Self {
        Self { options: Arc::new(options), stores, indexers }
    }

    /// The videos that pass a filter, in shards.
    async fn shards(&self, session: &dyn Session, filters: &[Expr]) -> Result<Vec<Shard>> {
        let CaptionOptions { corpus, how, shards } = self.options.as_ref();
        if let Some(model) = &how.model {
            model.identity(&self.stores).await.map_err(Error::into_task_error)?;
        }
        if let Some(speech) = &how.speech {
            speech.identity(&self.stores).await.map_err(Error::into_task_error)?;
        }
        let failed = |error| Error::Catalog(error).into_task_error();
        let videos: Vec<Video> =
            list(&self.stores, corpus).map_err(failed)?.try_collect().await.map_err(failed)?;
        let videos = passing(videos, session, filters)?;
        let options = PlanOptions {
            model_digest: String::new(),
            params_digest: String::new(),
            speech_digest: None,
            max_attempts: 1,
            largest_file_bytes: u64::MAX,
            shard_cost_bytes: shards.bytes,
            max_shard_videos: shards.videos,
            allow_empty: true,
        };
        let videos = stream::iter(videos.into_iter().map(Ok));
        let work = plan(videos, Known::default(), Vec::new(), &options).await.map_err(failed)?;
        Ok(work.shards)
    }
}

impl fmt::Debug for CaptionTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CaptionTable").field("options", &self.options).finish_non_exhaustive()
    }
}

#[async_trait]
impl TableProvider for CaptionTable {
    fn schema(&self) -> SchemaRef {
        captions_schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    /// What concerns the listing alone is settled before anything is captioned.
    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>> {
        let of_listing = |filter: &&Expr| {
            let listed = filter.column_refs().iter().all(|c| LISTED.contains(&c.name.as_str()));
            if listed && !filter.is_volatile() {
                TableProviderFilterPushDown::Exact
            } else {
                TableProviderFilterPushDown::Unsupported
            }
        };
        Ok(filters.iter().map(of_listing).collect())
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        _: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let shards = self.shards(session, filters).await?;
        let schema = project_schema(&captions_schema(), projection)?;
        if shards.is_empty() {
            return Ok(Arc::new(EmptyExec::new(schema)));
        }
        Ok(Arc::new(CaptionExec::new(
            shards_scan(&shards)?,
            Arc::clone(&self.options),
            Arc::clone(&self.indexers),
            projection.cloned(),
            schema,
        )))
    }
}

/// The videos that pass every filter.
fn passing(videos: Vec<Video>, session: &dyn Session, filters: &[Expr]) -> Result<Vec<Video>> {
    let Some(filter) = conjunction(filters.iter().cloned()) else { return Ok(videos) };
    let column = |part: fn(&Video) -> &str| {
        Arc::new(videos.iter().map(|video| Some(part(video))).collect::<StringArray>()) as _
    };
    let columns = vec![
        column(|video| &video.video_id),
        column(|video| &video.uri),
        column(|video| &video.source_version),
    ];
    let fields: Vec<_> = LISTED.map(|name| Field::new(name, DataType::Utf8, false)).into();
    let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?;
    let filter = session
        .create_physical_expr(filter, &DFSchema::try_from(batch.schema().as_ref().clone())?)?;
    let passes = filter.evaluate(&batch)?.into_array(batch.num_rows())?;
    let passes = passes.as_boolean();
    let passes = |row: usize| passes.is_valid(row) && passes.value(row);
    Ok(videos.into_iter().enumerate().filter(|(row, _)| passes(*row)).map(|(_, v)| v).collect())
}

/// One partition a shard, its videos as JSON.
fn shards_scan(shards: &[Shard]) -> Result<Arc<dyn ExecutionPlan>> {
    let schema = Arc::new(Schema::new(vec![Field::new("shard", DataType::Utf8, false)]));
    let partition = |shard: &Shard| {
        let text = serde_json::to_string(shard).map_err(|e| DataFusionError::External(e.into()))?;
        let column = Arc::new(StringArray::from(vec![text]));
        Ok(vec![RecordBatch::try_new(Arc::clone(&schema), vec![column])?])
    };
    let partitions = shards.iter().map(partition).collect::<Result<Vec<_>>>()?;
    Ok(MemorySourceConfig::try_new_exec(&partitions, schema, None)?)
}

/// Captions the videos of its input. Emits a video's rows as soon as it is done.
#[derive(Clone)]
pub struct CaptionExec {
    input: Arc<dyn ExecutionPlan>,
    options: Arc<CaptionOptions>,
    indexers: Arc<Indexers>,
    projection: Option<Vec<usize>>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl CaptionExec {
    fn new(
        input: Arc<dyn ExecutionPlan>,
        options: Arc<CaptionOptions>,
        indexers: Arc<Indexers>,
        projection: Option<Vec<usize>>,
        schema: SchemaRef,
    ) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            input.output_partitioning().clone(),
            input.pipeline_behavior(),
            input.boundedness(),
        );
        let (properties, metrics) = (Arc::new(properties), ExecutionPlanMetricsSet::new());
        Self { input, options, indexers, projection, properties, metrics }
    }
}

impl fmt::Debug for CaptionExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CaptionExec").field("options", &self.options).finish_non_exhaustive()
    }
}

impl DisplayAs for CaptionExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bundle = self.options.how.model.as_ref().map_or("none", |model| &model.bundle);
        write!(f, "CaptionExec: corpus={}, model={bundle}", self.options.corpus.uri)
    }
}

impl ExecutionPlan for CaptionExec {
    fn name(&self) -> &'static str {
        "CaptionExec"
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
        let Self { options, indexers, projection, .. } = self.as_ref().clone();
        let schema = self.schema();
        Ok(Arc::new(Self::new(inputs.swap_remove(0), options, indexers, projection, schema)))
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
        let output = BaselineMetrics::new(&self.metrics, partition);
        let videos = MetricBuilder::new(&self.metrics).counter("videos", partition);
        let Self { options, indexers, projection, .. } = self.clone();
        let captions = self
            .input
            .execute(partition, context)?
            .map_ok(|batch| stream::iter(shards_of(&batch)))
            .try_flatten()
            .map_ok(move |shard| Arc::clone(&indexers).captions(options.how.clone(), shard))
            .try_flatten()
            .map(move |outcome| {
                videos.add(1);
                let batch = captions_batch(&[outcome?])?;
                Ok(match &projection {
                    Some(columns) => batch.project(columns)?,
                    None => batch,
                })
            })
            .inspect_ok(move |batch| output.record_output(batch.num_rows()));
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), captions)))
    }
}

fn shards_of(batch: &RecordBatch) -> Vec<Result<Shard>> {
    let texts = batch.column(0).as_string::<i32>();
    let read = |text| serde_json::from_str(text).map_err(|e| DataFusionError::External(e.into()));
    texts.iter().flatten().map(read).collect()
}
