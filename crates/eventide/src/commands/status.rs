//! `eventide status`: what a cluster is at, and what waits to be published.

use std::process::ExitCode;

use clap::Args;
use eventide_catalog::{Pace, Stores, Unpublished};
use eventide_engine::ClusterState;
use serde_json::json;

use super::{Stop, cluster, tables_at};
use crate::{arguments::Format, report};

/// Arguments of `status`.
#[derive(Debug, Args)]
pub(crate) struct StatusArguments {
    /// The scheduler to ask, `http://host:50050`.
    #[arg(long, value_name = "URL", env = "EVENTIDE_CLUSTER", required_unless_present = "tables")]
    cluster: Option<String>,
    /// The tables to look for finished shards of runs that are not published yet.
    #[arg(long, value_name = "URI", env = "EVENTIDE_TABLES")]
    tables: Option<String>,
    /// How the result is printed.
    #[arg(long, default_value = "text")]
    format: Format,
}

pub(super) async fn run(arguments: &StatusArguments, stores: &Stores) -> Result<ExitCode, Stop> {
    let state = match &arguments.cluster {
        Some(url) => Some(cluster(url)?.state().await.map_err(|error| Stop::of_run(&error))?),
        None => None,
    };
    let unpublished = match &arguments.tables {
        Some(uri) => {
            let wrong = |error: eventide_catalog::Error| Stop::of_run(&error.into());
            Some(tables_at(uri, stores)?.unpublished().await.map_err(wrong)?)
        }
        None => None,
    };
    let text = match arguments.format {
        Format::Text => told(state.as_ref(), unpublished.as_deref()),
        Format::Json => {
            let runs = unpublished.as_ref().map(|runs| {
                let run = |run: &Unpublished| {
                    json!({ "run_id": run.run_id, "shards": run.shards, "videos": run.counts.videos(), "failed": run.counts.failed, "events": run.counts.events, "workers": run.workers.all() })
                };
                runs.iter().map(run).collect::<Vec<_>>()
            });
            format!("{:#}", json!({ "cluster": state, "unpublished": runs }))
        }
    };
    report::text(&text).map_err(Stop::failed)?;
    Ok(ExitCode::SUCCESS)
}

fn told(state: Option<&ClusterState>, unpublished: Option<&[Unpublished]>) -> String {
    let mut parts = Vec::new();
    if let Some(state) = state {
        parts.push(executors(state));
        parts.push(runs(state));
    }
    if let Some(unpublished) = unpublished {
        parts.push(not_published(unpublished));
        let workers = unpublished.iter().flat_map(|run| run.workers.all()).collect::<Vec<_>>();
        if !workers.is_empty() {
            parts.push(paces(&workers));
        }
    }
    parts.join("\n\n")
}

fn executors(state: &ClusterState) -> String {
    let rows = state.executors.iter().map(|executor| {
        vec![
            executor.address.clone(),
            executor.slots.to_string(),
            executor.shards.to_string(),
            executor.finished.to_string(),
            executor.shards_per_hour().map_or_else(|| "-".to_owned(), |rate| format!("{rate:.1}")),
            format!("{} s ago", executor.silent_s),
        ]
    });
    report::table(&["executor", "slots", "shards", "finished", "an hour", "heard"], rows)
}

fn runs(state: &ClusterState) -> String {
    let rows = state.runs.iter().map(|run| {
        vec![
            run.job.clone(),
            run.run_id.clone(),
            format!("{} s", run.age_s),
            run.held.to_string(),
            run.waiting.to_string(),
        ]
    });
    report::table(&["job", "run", "for", "shards held", "waiting"], rows)
}

fn not_published(runs: &[Unpublished]) -> String {
    let rows = runs.iter().map(|run| {
        vec![
            run.run_id.clone(),
            run.shards.to_string(),
            run.counts.videos().to_string(),
            run.counts.failed.to_string(),
            run.counts.events.to_string(),
        ]
    });
    report::table(&["run not published", "shards finished", "videos", "failed", "events"], rows)
}

fn paces(workers: &[Pace]) -> String {
    let rows = workers.iter().map(|pace| {
        vec![
            pace.worker.clone(),
            pace.shards.to_string(),
            format!("{:.1}", pace.per_hour(pace.shards)),
            pace.videos.to_string(),
            format!("{:.1}", pace.per_hour(pace.videos)),
            pace.failed.to_string(),
            report::hours(pace.video_ms),
        ]
    });
    report::table(&["worker", "shards", "an hour", "videos", "an hour", "failed", "video"], rows)
}
