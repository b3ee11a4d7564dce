//! Conditions of a plan that the kept index can answer: `matches(caption, 'words')` in `WHERE`, of the published
//! `events`. Elsewhere `matches` looks at the texts that it is given.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use datafusion::{
    common::{
        Column, ExprSchema, Result, TableReference,
        tree_node::{Transformed, TreeNode},
    },
    logical_expr::{
        Expr, Filter, LogicalPlan, ScalarUDF, case, lit,
        utils::{conjunction, split_conjunction},
    },
};

use super::{
    Matches,
    kept::{Found, InIndex, Question},
};
use crate::session::{CATALOG, SCHEMA};

/// The table.
const EVENTS: &str = "events";

/// What a plan asks that the index can answer.
pub(crate) fn questions(plan: &LogicalPlan) -> Result<BTreeSet<Question>> {
    let mut questions = BTreeSet::new();
    transformed(plan.clone(), &mut |question| {
        questions.insert(question);
        None
    })?;
    Ok(questions)
}

/// The plan with answers in place of questions.
pub(crate) fn answered(
    plan: LogicalPlan,
    answers: &BTreeMap<Question, Arc<Found>>,
) -> Result<LogicalPlan> {
    transformed(plan, &mut |question| answers.get(&question).cloned())
}

type Answer<'a> = dyn FnMut(Question) -> Option<Arc<Found>> + 'a;

fn transformed(plan: LogicalPlan, answer: &mut Answer<'_>) -> Result<LogicalPlan> {
    if matches!(plan, LogicalPlan::Ddl(_)) {
        return Ok(plan); // a view is asked later
    }
    let plan = plan.transform_down_with_subqueries(|node| match node {
        LogicalPlan::Filter(filter) => filtered(filter, answer),
        other => Ok(Transformed::no(other)),
    })?;
    Ok(plan.data)
}

fn filtered(filter: Filter, answer: &mut Answer<'_>) -> Result<Transformed<LogicalPlan>> {
    let mut changed = false;
    let conditions = split_conjunction(&filter.predicate).into_iter().map(|condition| {
        // A row of which it is not known is left out as one that does not match.
        if let Some(known) = known(condition, &filter.input, answer) {
            changed = true;
            return Ok(known.condition);
        }
        let within = condition.clone().transform_down(|part| {
            Ok(match known(&part, &filter.input, answer) {
                Some(known) => Transformed::yes(known.or_null()?),
                None => Transformed::no(part),
            })
        })?;
        changed |= within.transformed;
        Ok(within.data)
    });
    let conditions: Vec<_> = conditions.collect::<Result<_>>()?;
    let plan = match conjunction(conditions) {
        Some(predicate) if changed => Filter::try_new(predicate, filter.input)?,
        _ => filter,
    };
    let plan = LogicalPlan::Filter(plan);
    Ok(if changed { Transformed::yes(plan) } else { Transformed::no(plan) })
}

/// A condition that stands for `matches`.
struct Known {
    condition: Expr,
    /// The text, where it may be NULL: of such a row `matches` says NULL.
    nullable: Option<Expr>,
}

impl Known {
    fn or_null(self) -> Result<Expr> {
        match self.nullable {
            Some(text) => case(text.is_null()).when(lit(false), self.condition).end(),
            None => Ok(self.condition),
        }
    }
}

/// What stands for an expression, if it is a question that is answered.
fn known(expression: &Expr, input: &LogicalPlan, answer: &mut Answer<'_>) -> Option<Known> {
    let Expr::ScalarFunction(call) = expression else { return None };
    let [Expr::Column(text), Expr::Literal(words, _)] = call.args.as_slice() else { return None };
    if !call.func.inner().is::<Matches>() {
        return None;
    }
    let question = Question::of(&text.name, words.try_as_str()??)?;
    let relation = text.relation.as_ref().filter(|relation| is_events(input, relation))?;
    let found = answer(question)?;
    let nullable = input.schema().field_from_column(text).ok()?.is_nullable();
    let column = |name: &str| Expr::Column(Column::new(Some(relation.clone()), name));
    let event = column("event_id");
    let mut condition = if found.is_empty() {
        lit(false)
    } else {
        ScalarUDF::new_from_impl(InIndex::new(Arc::clone(&found))).call(vec![event])
    };
    if let Some(videos) = found.videos().filter(|_| !found.is_empty()) {
        let videos = videos.map(lit).collect();
        condition = column("video_id").in_list(videos, false).and(condition);
    }
    Some(Known { condition, nullable: nullable.then(|| Expr::Column(text.clone())) })
}

/// Whether the rows that a plan calls `relation` are those of the published events.
fn is_events(plan: &LogicalPlan, relation: &TableReference) -> bool {
    let is_published = |name: &TableReference| {
        let name = name.clone().resolve(CATALOG, SCHEMA);
        [&*name.catalog, &*name.schema, &*name.table] == [CATALOG, SCHEMA, EVENTS]
    };
    match plan {
        LogicalPlan::TableScan(scan) => scan.table_name == *relation && is_published(relation),
        LogicalPlan::SubqueryAlias(alias) if alias.alias == *relation => {
            matches!(&*alias.input, LogicalPlan::TableScan(scan) if is_published(&scan.table_name))
        }
        LogicalPlan::Filter(_)
        | LogicalPlan::Join(_)
        | LogicalPlan::Sort(_)
        | LogicalPlan::Limit(_) => {
            plan.inputs().into_iter().any(|input| is_events(input, relation))
        }
        _ => false,
    }
}
