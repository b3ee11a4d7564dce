//! What a statement may change: nothing but views of its own session, unless a place is named to write below.

use datafusion::{
    common::{TableReference, tree_node::TreeNodeRecursion},
    datasource::listing::ListingTableUrl,
    error::DataFusionError,
    logical_expr::{
        CreateView, DdlStatement, DropTable, DropView, LogicalPlan, WriteOp,
        dml::{CopyTo, InsertOp},
    },
};

use crate::{Error, Result, error::CauseFrom, snapshot::Table};

/// Where things are.
#[derive(Debug)]
pub(crate) struct Permission {
    /// The published tables; nothing is written below.
    pub(crate) published: ListingTableUrl,
    /// What may be written below, if anything.
    pub(crate) writable: Option<ListingTableUrl>,
    /// Whether statements may make views, which others who share the session would see.
    pub(crate) views: bool,
}

impl Permission {
    /// Refuses a plan that changes what it may not. `tables` are the published ones.
    pub(crate) fn verify(&self, plan: &LogicalPlan, tables: &[Table]) -> Result<()> {
        let mut refused = None;
        let looked = plan.apply_with_subqueries(|part| {
            refused = self.refusal(part, tables)?;
            Ok(if refused.is_some() {
                TreeNodeRecursion::Stop
            } else {
                TreeNodeRecursion::Continue
            })
        });
        looked.map_err(|source| Error::Plan { source: source.cause() })?;
        let Some(because) = refused else { return Ok(()) };
        Err(match &self.writable {
            None => Error::ReadOnly { source: because.cause() },
            Some(place) => {
                Error::WritesElsewhere { place: place.to_string(), source: because.cause() }
            }
        })
    }

    /// Why a part of a plan is refused, if it is.
    fn refusal(
        &self,
        part: &LogicalPlan,
        tables: &[Table],
    ) -> std::result::Result<Option<String>, DataFusionError> {
        let published = |name: &TableReference| {
            let known = tables.iter().any(|table| table.name == name.table());
            known.then(|| format!("`{name}` is a published table"))
        };
        Ok(match part {
            LogicalPlan::Ddl(
                DdlStatement::CreateView(CreateView { name, .. })
                | DdlStatement::DropView(DropView { name, .. }),
            ) if self.views => published(name),
            LogicalPlan::Ddl(DdlStatement::CreateExternalTable(table)) => {
                let mut refused = published(&table.name);
                for location in &table.locations {
                    refused = refused.or(self.refusal_of(location)?);
                }
                refused
            }
            LogicalPlan::Ddl(DdlStatement::DropTable(DropTable { name, .. }))
                if self.writable.is_some() =>
            {
                published(name)
            }
            LogicalPlan::Copy(CopyTo { output_url, .. }) => self.refusal_of(output_url)?,
            LogicalPlan::Dml(dml) if self.writable.is_some() => match &dml.op {
                WriteOp::Insert(InsertOp::Append) => published(&dml.table_name),
                other => Some(format!(
                    "{} would lose rows if it were cut off; write to a new place instead",
                    other.name()
                )),
            },
            LogicalPlan::Dml(dml) => Some(format!("{} writes", dml.name())),
            LogicalPlan::Ddl(ddl) => {
                Some(format!("{} is not for a session of questions", ddl.name()))
            }
            LogicalPlan::Statement(statement) => {
                Some(format!("{} is not for a session of questions", statement.name()))
            }
            _ => None,
        })
    }

    /// Why nothing is written or read at a place, if it is refused.
    fn refusal_of(&self, place: &str) -> std::result::Result<Option<String>, DataFusionError> {
        let Some(writable) = &self.writable else {
            return Ok(Some(format!("`{place}` is a file or folder beside the tables")));
        };
        let url = ListingTableUrl::parse(place)?;
        Ok(if !is_below(&url, writable) {
            Some(format!("`{place}` is not below it"))
        } else if is_below(&url, &self.published) {
            Some(format!("the published tables are at `{place}`"))
        } else {
            None
        })
    }
}

fn is_below(place: &ListingTableUrl, folder: &ListingTableUrl) -> bool {
    place.object_store() == folder.object_store()
        && place.prefix().prefix_match(folder.prefix()).is_some()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::inside("/data/out/a.parquet", true)]
    #[case::itself("/data/out/", true)]
    #[case::as_address("file:///data/out/a.csv", true)]
    #[case::beside("/data/outside/a.csv", false)]
    #[case::up("/data/out/../a.csv", false)]
    #[case::up_in_an_address("file:///data/out/../a.csv", false)]
    #[case::elsewhere("s3://data/out/a.csv", false)]
    #[case::the_tables("/data/out/lake/events/a.parquet", false)]
    fn a_place_is_below_or_not(#[case] place: &str, #[case] allowed: bool) {
        let url = |text: &str| ListingTableUrl::parse(text).unwrap();
        let permission = Permission {
            published: url("file:///data/out/lake/"),
            writable: Some(url("file:///data/out/")),
            views: true,
        };
        // A place that cannot be understood is an error, and not allowed either.
        let refused = permission.refusal_of(place);
        assert_eq!(matches!(refused, Ok(None)), allowed, "{refused:?}");
    }
}
