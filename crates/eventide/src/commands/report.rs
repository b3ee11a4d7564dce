//! `eventide report`: one page about one published run.

mod page;
mod timeline;

use std::{path::PathBuf, process::ExitCode};

use clap::Args;
use eventide_catalog::{ShardWork, Stores, VideoWork};
use eventide_schema::tables::RunRow;
use miette::{IntoDiagnostic, WrapErr};

use super::{Stop, tables_at};

/// Arguments of `report`.
#[derive(Debug, Args)]
pub(crate) struct ReportArguments {
    /// The run, as `eventide runs` names it; the newest if not given.
    #[arg(value_name = "RUN")]
    run: Option<String>,
    /// Where the tables are.
    #[arg(long, env = "EVENTIDE_TABLES", value_name = "URI")]
    tables: String,
    /// The page to write; `report-RUN.html` in the current folder if not given.
    #[arg(long, short, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// All that is told of a run.
pub(super) struct Told {
    pub(super) run: RunRow,
    pub(super) shards: Vec<ShardWork>,
    pub(super) videos: Vec<VideoWork>,
}

pub(super) async fn run(arguments: &ReportArguments, stores: &Stores) -> Result<ExitCode, Stop> {
    let tables = tables_at(&arguments.tables, stores)?;
    let wrong = |error: eventide_catalog::Error| Stop::of_run(&error.into());
    let runs = tables.runs().await.map_err(wrong)?;
    let run = match &arguments.run {
        Some(id) => runs.into_iter().find(|run| run.run_id == *id),
        None => runs.into_iter().max_by_key(|run| run.started_at_ms),
    };
    let Some(run) = run else {
        let wanted = arguments.run.as_deref().unwrap_or("any");
        return Err(Stop::bad_job(miette::miette!(
            help = "`eventide runs --tables URI` lists the published runs",
            "there is no published run `{wanted}` in `{}`",
            arguments.tables
        )));
    };
    let shards = tables.shards_of(&run.run_id).await.map_err(wrong)?;
    let videos = tables.videos_of(&run).await.map_err(wrong)?;
    let told = Told { run, shards, videos };
    let out = arguments.out.clone();
    let out = out.unwrap_or_else(|| PathBuf::from(format!("report-{}.html", told.run.run_id)));
    std::fs::write(&out, page::of(&told))
        .into_diagnostic()
        .wrap_err_with(|| format!("cannot write `{}`", out.display()))
        .map_err(Stop::failed)?;
    println!("{}", out.display());
    Ok(ExitCode::SUCCESS)
}
