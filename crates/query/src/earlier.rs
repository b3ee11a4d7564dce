//! Tables of earlier nights in a statement: `events_at('2026-11-24')`, and likewise for the other tables.
//!
//! Names are looked up at once, and a night is opened over the network. So the statement is looked through first, the
//! nights that it names are opened, each as a schema of its own, and the statement then names these.

use std::{
    collections::BTreeMap,
    ops::ControlFlow,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use datafusion::{
    catalog::{CatalogProvider, MemorySchemaProvider},
    error::DataFusionError,
    prelude::SessionContext,
    sql::{
        parser::{CopyToSource, Statement},
        sqlparser::ast::{
            Expr, FunctionArg, FunctionArgExpr, Ident, ObjectName, TableFactor, TableFunctionArgs,
            Value, VisitMut, VisitorMut,
        },
    },
};

use crate::{
    AsOf, Error, Result,
    error::CauseFrom,
    session::CATALOG,
    snapshot::{self, Lake},
};

/// What the name of a table ends in when an earlier night is asked about.
const SUFFIX: &str = "_at";
/// The tables.
const TABLES: [&str; 4] = ["events", "runs", "transcripts", "videos"];

/// Earlier nights, by what they are called in the statement, and the schema that stands for each.
type Nights = BTreeMap<String, String>;

/// The statement with schemas in place of the nights that it names, and these. `counter` keeps the names of schemas
/// apart that are open at the same time.
pub(crate) fn named(mut statement: Statement, counter: &AtomicU64) -> Result<(Statement, Nights)> {
    let mut names = Names { nights: Nights::new(), counter };
    match names.look_through(&mut statement) {
        ControlFlow::Break(error) => Err(error),
        ControlFlow::Continue(()) => Ok((statement, names.nights)),
    }
}

/// Opens nights as schemas of `context`, which are there until the answer is dropped.
pub(crate) async fn open<'a>(
    context: &'a SessionContext,
    lake: &Lake,
    nights: Nights,
) -> Result<Opened<'a>> {
    let mut opened = Opened { context, schemas: Vec::new() };
    for (night, schema) in nights {
        let wrong = |source: DataFusionError| Error::Engine { source: source.cause() };
        if let Some(catalog) = opened.catalog() {
            let tables = Arc::new(MemorySchemaProvider::new());
            catalog.register_schema(&schema, tables).map_err(wrong)?;
        }
        opened.schemas.push(schema.clone());
        snapshot::register(context, &schema, lake, &AsOf::parse(&night)).await?;
    }
    Ok(opened)
}

/// Schemas of earlier nights; they go with it.
pub(crate) struct Opened<'a> {
    context: &'a SessionContext,
    schemas: Vec<String>,
}

impl Opened<'_> {
    fn catalog(&self) -> Option<Arc<dyn CatalogProvider>> {
        self.context.catalog(CATALOG)
    }
}

impl Drop for Opened<'_> {
    fn drop(&mut self) {
        let Some(catalog) = self.catalog() else { return };
        for schema in &self.schemas {
            // One that is not there any more is as good.
            let _ = catalog.deregister_schema(schema, true);
        }
    }
}

/// Finds the nights of a statement.
struct Names<'a> {
    nights: Nights,
    counter: &'a AtomicU64,
}

impl Names<'_> {
    fn look_through(&mut self, statement: &mut Statement) -> ControlFlow<Error> {
        match statement {
            Statement::Statement(statement) => VisitMut::visit(statement.as_mut(), self),
            Statement::Explain(explained) => self.look_through(&mut explained.statement),
            Statement::CopyTo(copied) => match &mut copied.source {
                CopyToSource::Query(query) => VisitMut::visit(query.as_mut(), self),
                CopyToSource::Relation(_) => ControlFlow::Continue(()),
            },
            _ => ControlFlow::Continue(()),
        }
    }

    fn schema(&mut self, night: String) -> String {
        let counter = self.counter;
        let new = || format!("as of {}", counter.fetch_add(1, Ordering::Relaxed));
        self.nights.entry(night).or_insert_with(new).clone()
    }
}

impl VisitorMut for Names<'_> {
    type Break = Error;

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<Error> {
        let TableFactor::Table { name, args, .. } = factor else {
            return ControlFlow::Continue(());
        };
        let (Some(table), Some(arguments)) = (table_at(name), &args) else {
            return ControlFlow::Continue(());
        };
        let Some(night) = constant(arguments) else {
            return ControlFlow::Break(Error::WhichNight { table });
        };
        let schema = Ident::with_quote('"', self.schema(night));
        *name = ObjectName::from(vec![schema, Ident::new(table)]);
        *args = None;
        ControlFlow::Continue(())
    }
}

/// The table that `TABLE_at` is of, if it is one of ours.
fn table_at(name: &ObjectName) -> Option<&'static str> {
    let [part] = name.0.as_slice() else { return None };
    let name = part.as_ident()?.value.to_ascii_lowercase();
    TABLES.into_iter().find(|table| name.strip_suffix(SUFFIX) == Some(table))
}

/// The only argument, where it is a text or a number that is written out.
fn constant(arguments: &TableFunctionArgs) -> Option<String> {
    let [FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Value(value)))] =
        arguments.args.as_slice()
    else {
        return None;
    };
    match &value.value {
        Value::SingleQuotedString(text) | Value::Number(text, _) => Some(text.clone()),
        _ => None,
    }
}
