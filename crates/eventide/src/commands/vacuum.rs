//! `eventide vacuum`: remove what killed processes left beside the tables, and nobody will ever read.

use std::{collections::BTreeMap, process::ExitCode, time::Duration};

use bytesize::ByteSize;
use clap::Args;
use eventide_catalog::{LEAST_AGE, Orphan, OrphanKind, Stores};
use miette::{IntoDiagnostic, WrapErr};
use serde_json::json;

use super::{Stop, tables_at};
use crate::{
    arguments::{Format, TablesArguments},
    report,
};

/// Arguments of `vacuum`.
#[derive(Debug, Args)]
pub(crate) struct VacuumArguments {
    /// The tables.
    #[command(flatten)]
    tables: TablesArguments,
    /// Remove what is found. Without it, it is only told.
    #[arg(long)]
    delete: bool,
    /// How old something must be; an hour is the least. Nothing that is older may belong to a shard that
    /// is at work, so this must be longer than a shard ever takes.
    #[arg(long, value_name = "TIME", default_value = "7d", value_parser = age)]
    older_than: Duration,
}

fn age(text: &str) -> Result<Duration, String> {
    let age = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if age < LEAST_AGE {
        return Err("1h is the least: what is younger may belong to a run at work".to_owned());
    }
    Ok(age)
}

pub(super) async fn run(arguments: &VacuumArguments, stores: &Stores) -> Result<ExitCode, Stop> {
    let tables = tables_at(&arguments.tables.tables, stores)?;
    let wrong = |error: eventide_catalog::Error| Stop::of_run(&error.into());
    let orphans = tables.orphans(arguments.older_than).await.map_err(wrong)?;
    if arguments.delete {
        tables.remove_orphans(&orphans).await.map_err(wrong)?;
    }
    let text = match arguments.tables.format {
        Format::Text => told(&orphans, arguments.delete),
        Format::Json => {
            let files = orphans.iter().map(|orphan| {
                json!({
                    "kind": orphan.kind.as_str(),
                    "uri": orphan.uri,
                    "bytes": orphan.size_bytes,
                    "age_s": orphan.age_s,
                })
            });
            let files: Vec<_> = files.collect();
            format!("{:#}", json!({ "deleted": arguments.delete, "files": files }))
        }
    };
    report::print(&text)
        .into_diagnostic()
        .wrap_err("cannot print the result")
        .map_err(Stop::failed)?;
    Ok(ExitCode::SUCCESS)
}

/// Each file on a line, then how many of each kind.
fn told(orphans: &[Orphan], deleted: bool) -> String {
    let mut sums = BTreeMap::<OrphanKind, (usize, u64)>::new();
    let mut lines = Vec::new();
    for orphan in orphans {
        lines.push(format!("{} {}", orphan.kind.as_str(), orphan.uri));
        let sum = sums.entry(orphan.kind).or_default();
        *sum = (sum.0 + 1, sum.1 + orphan.size_bytes);
    }
    let kinds = sums.iter().map(|(kind, (count, bytes))| {
        let plural = if *count == 1 { "" } else { "s" };
        format!("{count} {}{plural} of {}", kind.as_str(), ByteSize(*bytes))
    });
    let kinds = kinds.collect::<Vec<_>>().join(", ");
    lines.push(match (orphans.is_empty(), deleted) {
        (true, _) => "nothing to remove".to_owned(),
        (false, true) => format!("removed {kinds}"),
        (false, false) => format!("would remove {kinds}; --delete does it"),
    });
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::days("7d", true)]
    #[case::the_least("1h", true)]
    #[case::too_young("59m", false)]
    #[case::bare("7", false)]
    fn what_is_young_is_left_alone(#[case] text: &str, #[case] taken: bool) {
        assert_eq!(age(text).is_ok(), taken);
    }
}
