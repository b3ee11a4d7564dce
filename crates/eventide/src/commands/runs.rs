//! `eventide runs`: the runs that were published, with what each did and cost.

use std::process::ExitCode;

use clap::Args;
use eventide_catalog::Stores;
use eventide_schema::tables::RunRow;
use miette::IntoDiagnostic;

use super::{Stop, tables_at};
use crate::{
    arguments::{Format, TablesArguments},
    report,
};

/// Arguments of `runs`.
#[derive(Debug, Args)]
pub(crate) struct RunsArguments {
    /// The tables.
    #[command(flatten)]
    tables: TablesArguments,
    /// Only those of this job.
    #[arg(long, value_name = "NAME")]
    job: Option<String>,
    /// Only so many, the newest.
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: usize,
}

pub(super) async fn run(arguments: &RunsArguments, stores: &Stores) -> Result<ExitCode, Stop> {
    let tables = tables_at(&arguments.tables.tables, stores)?;
    let runs = tables.runs().await.map_err(|error| Stop::of_run(&error.into()))?;
    let mut runs = newest(runs, arguments.job.as_deref());
    runs.truncate(arguments.limit);
    let text = match arguments.tables.format {
        Format::Json => {
            serde_json::to_string_pretty(&runs).into_diagnostic().map_err(Stop::failed)?
        }
        Format::Text => report::runs_text(&runs),
    };
    report::text(&text).map_err(Stop::failed)?;
    Ok(ExitCode::SUCCESS)
}

/// The runs of a job, or all, the newest first.
fn newest(mut runs: Vec<RunRow>, job: Option<&str>) -> Vec<RunRow> {
    runs.retain(|run| job.is_none_or(|job| run.job == job));
    runs.sort_by(|a, b| (b.started_at_ms, &b.run_id).cmp(&(a.started_at_ms, &a.run_id)));
    runs
}
