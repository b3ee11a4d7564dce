//! `search('garlic NEAR pan', 20)` in SQL: the best events first, with `bm25`.

use std::{path::PathBuf, sync::Arc};

use async_trait::async_trait;
use datafusion::{
    arrow::datatypes::SchemaRef,
    catalog::{Session, TableFunctionArgs, TableFunctionImpl, TableProvider},
    common::{Result, ScalarValue, exec_datafusion_err, plan_datafusion_err},
    datasource::{MemTable, TableType},
    error::DataFusionError,
    logical_expr::Expr,
    physical_plan::ExecutionPlan,
};
use tokio::sync::OnceCell;

use super::{Filters, MOST_HITS, SearchIndex, Source, hits_schema};

/// Rows that are given unless it is said how many.
const USUAL_HITS: usize = 1000;

/// The function. It builds or updates the index when it is first asked.
#[derive(Debug)]
pub(crate) struct Search {
    pub(crate) source: Source,
    pub(crate) folder: PathBuf,
    pub(crate) index: Arc<OnceCell<SearchIndex>>,
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
            [words] => (words, USUAL_HITS),
            [words, limit] => {
                let limit = limit.cast_to(&datafusion::arrow::datatypes::DataType::UInt64)?;
                let ScalarValue::UInt64(Some(limit)) = limit else { return Err(usage()) };
                (words, usize::try_from(limit).unwrap_or(usize::MAX).min(MOST_HITS))
            }
            _ => return Err(usage()),
        };
        let words = words.try_as_str().flatten().ok_or_else(usage)?.to_owned();
        Ok(Arc::new(Found {
            source: self.source.clone(),
            folder: self.folder.clone(),
            index: Arc::clone(&self.index),
            words,
            limit,
        }))
    }
}

/// The hits of one question.
#[derive(Debug)]
struct Found {
    source: Source,
    folder: PathBuf,
    index: Arc<OnceCell<SearchIndex>>,
    words: String,
    limit: usize,
}

#[async_trait]
impl TableProvider for Found {
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
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let failed = |error: crate::Error| DataFusionError::External(Box::new(error));
        let index = self.index.get_or_try_init(|| self.source.index(&self.folder)).await;
        let (index, words, most) = (index.map_err(failed)?.clone(), self.words.clone(), self.limit);
        let search = move || index.search(&words, &Filters::default(), most, 0);
        let found = tokio::task::spawn_blocking(search)
            .await
            .map_err(|error| exec_datafusion_err!("the search has ended: {error}"))?;
        let rows = found.map_err(failed)?.rows;
        MemTable::try_new(hits_schema(), vec![vec![rows]])?
            .scan(state, projection, filters, limit)
            .await
    }
}
