//! `caption(...)` where a query names a table: by position, or by name (`job => 'nightly.toml'`),
//! which table functions of the query engine cannot do.

use std::{error::Error, fmt, sync::Arc};

use datafusion::{
    catalog::TableProvider,
    common::{DFSchema, DataFusionError, Result, ScalarValue, plan_err},
    datasource::provider_as_source,
    logical_expr::{
        Expr, LogicalPlanBuilder,
        planner::{PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning},
    },
    sql::sqlparser::ast::{Expr as SqlExpr, FunctionArg, FunctionArgExpr, ObjectName, TableFactor},
};

/// The name of the function.
const NAME: &str = "caption";

/// What `caption` was called with. Each is given once at most.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CaptionCall {
    /// `uri`, or the first argument: a corpus.
    pub uri: Option<String>,
    /// `bundle`: the model that captions it.
    pub bundle: Option<String>,
    /// `source`: `vid2seq` or `speech`.
    pub source: Option<String>,
    /// `job`: a job file that says all of it; what else is given stands over it.
    pub job: Option<String>,
}

impl CaptionCall {
    fn set(&mut self, name: &str, value: String) -> Result<()> {
        let place = match name {
            "uri" => &mut self.uri,
            "bundle" => &mut self.bundle,
            "source" => &mut self.source,
            "job" => &mut self.job,
            _ => {
                return plan_err!(
                    "caption has no argument `{name}`: there are uri, bundle, source and job"
                );
            }
        };
        if place.replace(value).is_some() {
            return plan_err!("caption is given `{name}` twice");
        }
        Ok(())
    }
}

/// A table, or why there is none.
pub type Resolved = Result<Arc<dyn TableProvider>, Box<dyn Error + Send + Sync>>;
/// Makes a table of a call.
pub type Resolve = dyn Fn(&CaptionCall) -> Resolved + Send + Sync;

/// Lets queries read from `caption(...)`.
pub struct CaptionRelation(Arc<Resolve>);

impl CaptionRelation {
    /// What `resolve` makes of a call is what a query reads.
    pub fn new(resolve: impl Fn(&CaptionCall) -> Resolved + Send + Sync + 'static) -> Self {
        Self(Arc::new(resolve))
    }
}

impl fmt::Debug for CaptionRelation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CaptionRelation")
    }
}

impl RelationPlanner for CaptionRelation {
    fn plan_relation(
        &self,
        relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> Result<RelationPlanning> {
        let TableFactor::Table { name, alias, args: Some(args), .. } = &relation else {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        };
        if !is_ours(name) {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        }
        let mut call = CaptionCall::default();
        for argument in &args.args {
            let (name, value) = argument_of(argument)?;
            call.set(&name, text_of(value, context)?)?;
        }
        let table = (self.0)(&call).map_err(DataFusionError::External)?;
        let source = provider_as_source(table);
        let plan = LogicalPlanBuilder::scan(NAME, source, None)?.build()?;
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, alias.clone()))))
    }
}

fn is_ours(name: &ObjectName) -> bool {
    match name.0.as_slice() {
        [part] => part.as_ident().is_some_and(|ident| ident.value.eq_ignore_ascii_case(NAME)),
        _ => false,
    }
}

/// The name and the value of an argument; one without a name is the corpus.
fn argument_of(argument: &FunctionArg) -> Result<(String, &SqlExpr)> {
    match argument {
        FunctionArg::Named { name, arg: FunctionArgExpr::Expr(value), .. } => {
            Ok((name.value.to_ascii_lowercase(), value))
        }
        FunctionArg::ExprNamed {
            name: SqlExpr::Identifier(name),
            arg: FunctionArgExpr::Expr(value),
            ..
        } => Ok((name.value.to_ascii_lowercase(), value)),
        FunctionArg::Unnamed(FunctionArgExpr::Expr(value)) => Ok(("uri".to_owned(), value)),
        other => plan_err!("caption does not understand `{other}`"),
    }
}

fn text_of(value: &SqlExpr, context: &mut dyn RelationPlannerContext) -> Result<String> {
    match context.sql_expr_to_logical_expr(value.clone(), &DFSchema::empty())? {
        Expr::Literal(
            ScalarValue::Utf8(Some(text))
            | ScalarValue::LargeUtf8(Some(text))
            | ScalarValue::Utf8View(Some(text)),
            _,
        ) => Ok(text),
        other => plan_err!("caption takes texts, not `{other}`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::prelude::SessionContext;
    use rstest::rstest;

    /// What a query that reads from `caption` is told, where every call is refused with itself.
    async fn told(query: &str) -> String {
        let context = SessionContext::new();
        let refuse = |call: &CaptionCall| Err(format!("{call:?}").into());
        context.register_relation_planner(Arc::new(CaptionRelation::new(refuse))).unwrap();
        context.sql(query).await.unwrap_err().to_string()
    }

    #[rstest]
    #[case::by_position("caption('s3://b')", "uri: Some(\"s3://b\"), bundle: None")]
    #[case::by_name("caption(job => 'n.toml', uri => 'c')", "job: Some(\"n.toml\")")]
    #[case::both("CAPTION('c', source => 'speech')", "source: Some(\"speech\")")]
    #[case::unknown("caption(model => 'm')", "no argument `model`")]
    #[case::twice("caption('a', uri => 'b')", "`uri` twice")]
    #[case::no_text("caption(7)", "takes texts")]
    #[case::another("captions('a')", "captions")]
    #[tokio::test]
    async fn arguments_are_read(#[case] call: &str, #[case] expected: &str) {
        let told = told(&format!("SELECT * FROM {call} AS c")).await;
        assert!(told.contains(expected), "{told}");
    }
}
