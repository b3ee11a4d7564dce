//! A corpus as a table of captions: what SQL's `caption` reads. Nothing is written anywhere.
//!
//! A video that a filter leaves out by its name is not looked at, and one whose rows nobody reads to
//! the end is stopped. The same table and operator work on a cluster, where the scheduler lists and
//! executors caption: `cluster::captions` sends them there. A shard travels as its place in a plan file,
//! where there is a store that every process reaches.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use datafusion::{
    arrow::{
        array::{Array, AsArray, RecordBatch, StringArray},
        datatypes::{DataType, Field, Schema, SchemaRef},
    },
    catalog::{Session, TableProvider},
    common::{
        DFSchema, DataFusionError, Result, exec_datafusion_err, project_schema,
        tree_node::{TreeNode, TreeNodeRecursion},
    },
    datasource::memory::MemorySourceConfig,
    execution::TaskContext,
    logical_expr::{Expr, TableProviderFilterPushDown, TableType, utils::conjunction},
    physical_expr::{EquivalenceProperties, PhysicalExpr},
    physical_plan::{
        DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, PlanProperties,
        SendableRecordBatchStream,
        metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricBuilder, MetricsSet},
        stream::RecordBatchStreamAdapter,
    },
};
use eventide_catalog::{
    CorpusOptions, Known, PlanFile, PlanOptions, ShardPlace, Stores, Tables, list, plan,
};
use eventide_schema::{
    Shard, Video,
    tables::{captions_batch, captions_schema},
};
use futures::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::{Error, How, Indexers, ShardOptions, retry::RETRIES};

/// What a filter may ask of a video before it is looked at.
const LISTED: [&str; 3] = ["video_id", "uri", "source_version"];

/// What is captioned and how. Plain data, for `EXPLAIN` and for the codec; no secrets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CaptionOptions {
    /// The videos.
    pub corpus: CorpusOptions,
    /// How each is captioned.
    pub how: How,
    /// How they are cut into shards, the unit of what runs side by side.
    pub shards: ShardOptions,
    /// Where workers of a cluster mark what they begin, so that a video that kills them is found out.
    pub marks: Option<Marks>,
}

/// Where the marks of a query are, and its plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marks {
    /// The tables beside which they are.
    pub tables: String,
    /// What names the query, as a run is named.
    pub query: String,
}

/// The captions of a corpus, made when they are read.
pub struct CaptionTable {
    options: Arc<CaptionOptions>,
    here: Option<Here>,
}

/// What a table brings along that is captioned in the process that made it.
#[derive(Clone)]
struct Here {
    stores: Arc<Stores>,
    indexers: Arc<Indexers>,
}

impl CaptionTable {
    /// The captions of what lies at `options.corpus` when they are read, made in this process.
    #[must_use]
    pub fn new(options: CaptionOptions, stores: Arc<Stores>, indexers: Arc<Indexers>) -> Self {
        Self { options: Arc::new(options), here: Some(Here { stores, indexers }) }
    }

    /// The same, listed by the process that plans and captioned by those that run the plan; both have
    /// what that takes in their sessions.
    pub(crate) fn elsewhere(options: CaptionOptions) -> Self {
        Self { options: Arc::new(options), here: None }
    }

    /// What it was told.
    pub(crate) fn options(&self) -> &CaptionOptions {
        &self.options
    }

    /// The stores of this table, or else of the session.
    fn stores(&self, session: &dyn Session) -> Result<Arc<Stores>> {
        let of_session = || session.config().get_extension::<Stores>();
        self.here
            .as_ref()
            .map(|here| Arc::clone(&here.stores))
            .or_else(of_session)
            .ok_or_else(|| exec_datafusion_err!("this process has no object stores"))
    }

    /// The videos that pass a filter, in shards.
    async fn shards(&self, session: &dyn Session, filters: &[Expr]) -> Result<Vec<Shard>> {
        let stores = &self.stores(session)?;
        let shards = self.options.shards;
        let listed = RETRIES.of("list the corpus", || self.listed(stores)).await;
        let videos = passing(listed.map_err(Error::into_task_error)?, session, filters)?;
        let options = PlanOptions {
            model_digest: String::new(),
            params_digest: String::new(),
            speech_digest: None,
            max_attempts: 1,
            largest_file_bytes: u64::MAX,
            shard_cost_bytes: shards.bytes,
            max_shard_videos: shards.videos,
            split_bytes: None, // nobody joins stretches here
            allow_empty: true,
        };
        let videos = stream::iter(videos.into_iter().map(Ok));
        let work = plan(videos, Known::default(), Vec::new(), &options).await;
        Ok(work.map_err(|error| Error::Catalog(error).into_task_error())?.shards)
    }

    /// What travels of these shards: their places in a plan file, where the workers' marks are in a store; where they are
    /// in a folder, which other machines may not have, or where nothing can be written, the shards themselves.
    async fn planned(&self, stores: &Stores, shards: Vec<Shard>) -> Vec<Planned> {
        match self.plan_file(stores, &shards).await {
            Ok(Some((marks, plan))) => {
                let PlanFile { name, shards, .. } = plan;
                let planned = |place| Planned::Place(marks.clone(), name.clone(), place);
                shards.into_iter().map(planned).collect()
            }
            Ok(None) => shards.into_iter().map(Planned::Shard).collect(),
            Err(error) => {
                tracing::info!(error = %error, "no plan can be written: shards are sent whole");
                shards.into_iter().map(Planned::Shard).collect()
            }
        }
    }

    async fn plan_file(
        &self,
        stores: &Stores,
        shards: &[Shard],
    ) -> Result<Option<(&Marks, PlanFile)>, eventide_catalog::Error> {
        let Some(marks) = &self.options.marks else { return Ok(None) };
        let tables = Tables::open(stores, &marks.tables)?;
        if tables.location().is_local() || shards.is_empty() {
            return Ok(None);
        }
        let plan = tables.write_plan(&marks.query, shards).await?;
        Ok(Some((marks, plan)))
    }

    /// The videos of the corpus, once it is known that the models are there.
    async fn listed(&self, stores: &Arc<Stores>) -> Result<Vec<Video>, Error> {
        let CaptionOptions { corpus, how, .. } = self.options.as_ref();
        if let Some(model) = &how.model {
            model.identity(stores).await?;
        }
        if let Some(speech) = &how.speech {
            speech.identity(stores).await?;
        }
        Ok(list(stores, corpus)?.try_collect().await?)
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
        Ok(filters.iter().map(|filter| pushed_down(is_of_listing(filter))).collect())
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        _: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let shards = self.shards(session, filters).await?;
        let stores = self.stores(session)?;
        let shards = self.planned(&stores, shards).await;
        let indexers = self.here.as_ref().map(|here| Arc::clone(&here.indexers));
        let (scan, options) = (shards_scan(&shards)?, Arc::clone(&self.options));
        Ok(Arc::new(CaptionExec {
            indexers,
            ..CaptionExec::new(scan, options, projection.cloned())?
        }))
    }
}

/// Whether a filter asks for nothing that is not known of a video before it is looked at.
pub(crate) fn is_of_listing(filter: &Expr) -> bool {
    let asks_elsewhere = |part: &Expr| {
        let query = matches!(
            part,
            Expr::ScalarSubquery(_)
                | Expr::InSubquery(_)
                | Expr::Exists(_)
                | Expr::OuterReferenceColumn(..)
        );
        Ok(query)
    };
    let listed = filter.column_refs().iter().all(|c| LISTED.contains(&c.name.as_str()));
    listed && !filter.is_volatile() && !filter.exists(asks_elsewhere).unwrap_or(true)
}

/// What the query engine is told of a filter.
pub(crate) fn pushed_down(applied: bool) -> TableProviderFilterPushDown {
    if applied {
        TableProviderFilterPushDown::Exact
    } else {
        TableProviderFilterPushDown::Unsupported
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

/// A shard as it travels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Planned {
    /// With its videos.
    Shard(Shard),
    /// By its place in the plan of this name, of a query.
    Place(Marks, String, ShardPlace),
}

impl Planned {
    /// The shard with its videos.
    ///
    /// # Errors
    /// Whatever keeps the plan from being read.
    async fn read(self, stores: &Stores) -> Result<Shard, Error> {
        let (Marks { tables, query }, plan, place) = match self {
            Self::Shard(shard) => return Ok(shard),
            Self::Place(marks, plan, place) => (marks, plan, place),
        };
        let tables = &Tables::open(stores, &tables)?;
        let (query, plan, place) = (&query, &plan, &place);
        let read = || async move { Ok(tables.planned_shard(query, plan, place).await?) };
        RETRIES.of("read the plan", read).await
    }
}

/// One partition a shard, as JSON; one that is empty where there is no shard.
fn shards_scan(shards: &[Planned]) -> Result<Arc<dyn ExecutionPlan>> {
    let schema = Arc::new(Schema::new(vec![Field::new("shard", DataType::Utf8, false)]));
    let partition = |shard: &Planned| {
        let text = serde_json::to_string(shard).map_err(|e| DataFusionError::External(e.into()))?;
        let column = Arc::new(StringArray::from(vec![text]));
        Ok(vec![RecordBatch::try_new(Arc::clone(&schema), vec![column])?])
    };
    let mut partitions = shards.iter().map(partition).collect::<Result<Vec<_>>>()?;
    if partitions.is_empty() {
        partitions.push(Vec::new());
    }
    Ok(MemorySourceConfig::try_new_exec(&partitions, schema, None)?)
}

/// Captions the videos of its input. Emits a video's rows as soon as it is done.
///
/// An interior node on purpose, as [`IndexExec`](crate::IndexExec) is.
#[derive(Clone)]
pub struct CaptionExec {
    input: Arc<dyn ExecutionPlan>,
    options: Arc<CaptionOptions>,
    /// What does the work; where there is none, that of the session.
    indexers: Option<Arc<Indexers>>,
    projection: Option<Vec<usize>>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
    stop: CancellationToken,
}

impl CaptionExec {
    /// Plans captioning of the shards of `input`, which gives the columns of `projection`, or all.
    ///
    /// # Errors
    /// Where there is no such column.
    pub(crate) fn new(
        input: Arc<dyn ExecutionPlan>,
        options: Arc<CaptionOptions>,
        projection: Option<Vec<usize>>,
    ) -> Result<Self> {
        let schema = project_schema(&captions_schema(), projection.as_ref())?;
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            input.output_partitioning().clone(),
            input.pipeline_behavior(),
            input.boundedness(),
        );
        let (properties, metrics) = (Arc::new(properties), ExecutionPlanMetricsSet::new());
        let stop = CancellationToken::new();
        Ok(Self { input, options, indexers: None, projection, properties, metrics, stop })
    }

    /// The same, which ends early with an error when `stop` is cancelled.
    #[must_use]
    pub(crate) fn stopped_by(&self, stop: CancellationToken) -> Self {
        Self { stop, ..self.clone() }
    }

    /// What it was told.
    pub(crate) fn options(&self) -> &CaptionOptions {
        &self.options
    }

    /// The columns that it gives; all if `None`.
    pub(crate) fn projection(&self) -> Option<&Vec<usize>> {
        self.projection.as_ref()
    }

    /// What does the work in this process.
    fn indexers(&self, context: &TaskContext) -> Result<Arc<Indexers>> {
        let of_session = || context.session_config().get_extension::<Indexers>();
        self.indexers
            .clone()
            .or_else(of_session)
            .ok_or_else(|| exec_datafusion_err!("this process is no worker: it has no indexers"))
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
        let Self { options, indexers, projection, stop, .. } = self.as_ref().clone();
        let same = Self::new(inputs.swap_remove(0), options, projection)?;
        Ok(Arc::new(Self { indexers, stop, ..same }))
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
        let indexers = self.indexers(&context)?;
        let stores = Arc::clone(indexers.stores());
        let Self { options, projection, stop, .. } = self.clone();
        let stopped = stop.clone();
        let captions = self
            .input
            .execute(partition, context)?
            .map_ok(|batch| stream::iter(shards_of(&batch)))
            .try_flatten()
            .and_then(move |planned| {
                let stores = Arc::clone(&stores);
                async move { planned.read(&stores).await.map_err(Error::into_task_error) }
            })
            .map_ok(move |shard| Arc::clone(&indexers).captions(Arc::clone(&options), shard))
            .try_flatten()
            .map(move |outcome| {
                videos.add(1);
                let batch = captions_batch(&[outcome?])?;
                Ok(match &projection {
                    Some(columns) => batch.project(columns)?,
                    None => batch,
                })
            })
            .inspect_ok(move |batch| output.record_output(batch.num_rows()))
            .take_until(stop.cancelled_owned())
            // What was cut off must not look like all there is.
            .chain(stream::once(async move { stopped.is_cancelled() }).filter_map(cut_off));
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), captions)))
    }
}

async fn cut_off(stopped: bool) -> Option<Result<RecordBatch>> {
    stopped.then(|| Err(Error::Cancelled.into_task_error()))
}

fn shards_of(batch: &RecordBatch) -> Vec<Result<Planned>> {
    let texts = batch.column(0).as_string::<i32>();
    let read = |text| serde_json::from_str(text).map_err(|e| DataFusionError::External(e.into()));
    texts.iter().flatten().map(read).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use datafusion::prelude::{SessionConfig, SessionContext};
    use futures::TryStreamExt;
    use object_store::{ObjectStore, ObjectStoreExt, PutPayload, memory::InMemory, path::Path};
    use rstest::rstest;

    use super::*;
    use crate::testing::caption_options;

    /// What travels of three videos, one a shard, whose captions may leave marks at `tables`.
    async fn travelling(stores: &Arc<Stores>, tables: Option<&str>) -> Vec<Planned> {
        let mut options = caption_options();
        options.shards.videos = 1;
        options.marks =
            tables.map(|tables| Marks { tables: tables.to_owned(), query: "q".to_owned() });
        let config = SessionConfig::new().with_extension(Arc::clone(stores));
        let session = SessionContext::new_with_config(config);
        let table = CaptionTable::elsewhere(options);
        let plan = table.scan(&session.state(), None, &[], None).await.unwrap();
        let input = Arc::clone(plan.children()[0]);
        let partitions = input.output_partitioning().partition_count();
        let mut planned = Vec::new();
        for partition in 0..partitions {
            let rows = input.execute(partition, session.task_ctx()).unwrap();
            let rows: Vec<_> = rows.try_collect().await.unwrap();
            planned.extend(rows.iter().flat_map(shards_of).map(Result::unwrap));
        }
        assert_eq!(planned.len(), partitions, "one a partition");
        planned
    }

    async fn stores() -> Arc<Stores> {
        let (videos, lake) = (Arc::new(InMemory::new()), Arc::new(InMemory::new()));
        for number in 1..=3 {
            let name = Path::from(format!("talk-{number}.mp4"));
            videos.put(&name, PutPayload::from_static(b"video")).await.unwrap();
        }
        let stores = Stores::new(BTreeMap::new());
        stores.insert("s3://videos", videos);
        stores.insert("s3://lake", lake);
        Arc::new(stores)
    }

    fn names(shards: &[Shard]) -> Vec<&str> {
        let items = shards.iter().flat_map(|shard| &shard.items);
        let mut names: Vec<_> = items.map(|item| item.video.uri.as_str()).collect();
        names.sort_unstable();
        names
    }

    #[rstest]
    #[case::a_store(Some("s3://lake/tables"), true)]
    #[case::a_folder_that_others_may_not_have(Some("/nowhere/to/be/found"), false)]
    #[case::a_bucket_that_is_not_there(Some("nonsense://x"), false)]
    #[case::no_place(None, false)]
    #[tokio::test]
    async fn shards_travel_by_their_places(#[case] tables: Option<&str>, #[case] places: bool) {
        let stores = stores().await;
        let planned = travelling(&stores, tables).await;
        let text = serde_json::to_string(&planned).unwrap();
        assert_eq!(text.contains("talk-"), !places, "{text}");
        let mut shards = Vec::new();
        for planned in planned {
            shards.push(planned.read(&stores).await.unwrap());
        }
        let expected =
            ["s3://videos/talk-1.mp4", "s3://videos/talk-2.mp4", "s3://videos/talk-3.mp4"];
        assert_eq!(names(&shards), expected);
        let lake = stores.open("s3://lake").unwrap();
        let left: Vec<_> = lake.store.list(None).try_collect().await.unwrap();
        assert_eq!(
            left.len(),
            if places { 2 } else { 0 },
            "the shards, and where each stands: {left:?}"
        );
    }
}
