//! `search('garlic NEAR pan')` in SQL: the events that match, and with a text encoder those that mean alike, the best first.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::{
    arrow::datatypes::{DataType, SchemaRef},
    catalog::{Session, TableFunctionArgs, TableFunctionImpl, TableProvider},
    common::{Result, ScalarValue, exec_datafusion_err, plan_datafusion_err},
    datasource::TableType,
    execution::{
        SendableRecordBatchStream, TaskContext,
        memory_pool::{MemoryConsumer, MemoryReservation},
    },
    logical_expr::{DocSection, Documentation, Expr},
    physical_plan::{
        ExecutionPlan,
        stream::RecordBatchReceiverStream,
        streaming::{PartitionStream, StreamingTableExec},
    },
};

use super::{SearchIndex, hits_schema, kept::Kept, ranking::Ranked, within_statement};

/// Rows that are read at a time, and how often so before somebody asks for them.
const ROWS: usize = 1024;
const BATCHES_AHEAD: usize = 2;
/// Bytes that a hit takes while the best are looked for: twice its place and its scores.
const HIT_BYTES: usize = 64;

/// The function. It builds or updates the index when it is first asked.
#[derive(Debug)]
pub(crate) struct Search(pub(crate) Arc<Kept>);

impl Search {
    /// What is written about it.
    pub(crate) fn documentation() -> Documentation {
        let section = DocSection { include: true, label: "Search", description: None };
        let says = "The events that match words, and with a text encoder those that mean alike, with rrf, which is greater for better \
            ones, and bm25 and similarity; with a number the best so many.";
        Documentation::builder(section, says, "search(words [, most])")
            .with_sql_example(
                "SELECT uri, caption FROM search('garlic NEAR pan') ORDER BY rrf DESC LIMIT 20",
            )
            .build()
    }
}

impl TableFunctionImpl for Search {
    fn call_with_args(&self, args: TableFunctionArgs) -> Result<Arc<dyn TableProvider>> {
        let usage = || {
            plan_datafusion_err!("search takes words and how many: search('garlic NEAR pan', 20)")
        };
        let literal = |expression: &Expr| match expression {
            Expr::Literal(value, _) => Some(value.clone()),
            _ => None,
        };
        let values: Option<Vec<ScalarValue>> = args.exprs().iter().map(literal).collect();
        let values = values.ok_or_else(usage)?;
        let (words, limit) = match values.as_slice() {
            [words] => (words, None),
            [words, limit] => {
                let ScalarValue::UInt64(Some(limit)) = limit.cast_to(&DataType::UInt64)? else {
                    return Err(usage());
                };
                (words, Some(usize::try_from(limit).unwrap_or(usize::MAX)))
            }
            _ => return Err(usage()),
        };
        let words = words.try_as_str().flatten().ok_or_else(usage)?.to_owned();
        Ok(Arc::new(Hits { kept: Arc::clone(&self.0), words, limit }))
    }
}

/// The hits of one question.
#[derive(Debug)]
struct Hits {
    kept: Arc<Kept>,
    words: String,
    /// How many of them; all if none.
    limit: Option<usize>,
}

#[async_trait]
impl TableProvider for Hits {
    fn schema(&self) -> SchemaRef {
        hits_schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let index = self.kept.get().await.map_err(within_statement)?;
        let memory = MemoryConsumer::new("search").register(&state.runtime_env().memory_pool);
        let words = self.words.clone();
        // A limit comes as far as this only where no row is left out behind it.
        let most = [self.limit, limit].into_iter().flatten().min();
        let found = move || -> Result<Best> {
            let count =
                index.count(&words).map_err(within_statement)?.min(most.unwrap_or(usize::MAX));
            memory.try_grow(count * HIT_BYTES)?;
            let places = if count > 0 {
                index.best(&words, count).map_err(within_statement)?
            } else {
                vec![]
            };
            Ok(Best { index, places: places.into(), schema: hits_schema(), _memory: memory })
        };
        let found = tokio::task::spawn_blocking(found).await;
        let found =
            found.map_err(|error| exec_datafusion_err!("the search has ended: {error}"))??;
        let partitions: Vec<Arc<dyn PartitionStream>> = vec![Arc::new(found)];
        let rows =
            StreamingTableExec::try_new(hits_schema(), partitions, projection, [], false, limit)?;
        Ok(Arc::new(rows))
    }
}

/// Where the hits are, the best first. Their rows are read as they are asked for.
struct Best {
    index: SearchIndex,
    places: Arc<[Ranked]>,
    schema: SchemaRef,
    /// What the places take of the memory of all statements.
    _memory: MemoryReservation,
}

impl std::fmt::Debug for Best {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Best").field("hits", &self.places.len()).finish_non_exhaustive()
    }
}

impl PartitionStream for Best {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let mut channel = RecordBatchReceiverStream::builder(hits_schema(), BATCHES_AHEAD);
        let sender = channel.tx();
        let (index, places) = (self.index.clone(), Arc::clone(&self.places));
        channel.spawn_blocking(move || {
            for places in places.chunks(ROWS) {
                let rows = index.rows(places).map_err(within_statement)?;
                if sender.blocking_send(Ok(rows)).is_err() {
                    break; // nobody reads on
                }
            }
            Ok(())
        });
        channel.build()
    }
}
