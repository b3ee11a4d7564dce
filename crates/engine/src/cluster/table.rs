//! A run as a table: a recipe that is small to send, and that the scheduler makes a plan of.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::{
    arrow::datatypes::SchemaRef,
    catalog::{Session, TableProvider},
    common::{Result, exec_datafusion_err},
    logical_expr::{Expr, TableType},
    physical_expr::expressions::col,
    physical_plan::{ExecutionPlan, projection::ProjectionExec},
};
use eventide_catalog::{Stores, Tables};

use crate::{
    Error, IndexOptions,
    operator::{index_plan, receipt_schema},
    retry::RETRIES,
};

/// The receipts of a run, which are written by reading it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct RunTable(pub(super) IndexOptions);

#[async_trait]
impl TableProvider for RunTable {
    fn schema(&self) -> SchemaRef {
        receipt_schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    /// Reads the plan file; runs where the plan is made, in the scheduler.
    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        _: &[Expr],
        _: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let stores = session
            .config()
            .get_extension::<Stores>()
            .ok_or_else(|| exec_datafusion_err!("this process has no object stores"))?;
        let IndexOptions { tables, plan, provenance, .. } = &self.0;
        let (stores, run_id) = (&stores, &provenance.run_id);
        let read =
            || async move { Ok(Tables::open(stores, tables)?.plan_file(run_id, plan).await?) };
        let file = RETRIES.of("read the plan", read).await.map_err(Error::into_task_error)?;
        project(index_plan(self.0.clone(), &file)?, projection)
    }
}

/// The columns of `plan` that are asked for.
fn project(
    plan: Arc<dyn ExecutionPlan>,
    projection: Option<&Vec<usize>>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let Some(columns) = projection else { return Ok(plan) };
    let schema = plan.schema();
    if columns.len() == schema.fields().len() {
        return Ok(plan);
    }
    let columns = columns.iter().map(|&index| {
        let name = schema.field(index).name();
        Ok((col(name, &schema)?, name.clone()))
    });
    Ok(Arc::new(ProjectionExec::try_new(columns.collect::<Result<Vec<_>>>()?, plan)?))
}
