//! `eventide index`: index what is new, changed or gone, and publish.

use std::{process::ExitCode, sync::Arc, time::Duration};

use eventide_catalog::{Stores, Tables};
use eventide_engine::{Cluster, Night, Progress};
use eventide_schema::tables::RunRow;
use tokio::signal::unix::SignalKind;

use super::{
    Stop, cluster, explained, night_on,
    progress::{shown, tell_paces},
    worker,
};
use crate::{
    arguments::{Common, IndexArguments},
    environment, report,
};

pub(super) async fn run(
    arguments: &IndexArguments,
    common: &Common,
    stores: &Arc<Stores>,
) -> Result<ExitCode, Stop> {
    let night = night_on(&arguments.job, arguments.cluster.as_deref())?;
    let progress = Arc::new(Progress::default());
    let cluster = night.scheduler.as_deref().map(cluster).transpose()?;
    let work = async {
        match &cluster {
            Some(cluster) => index_on(cluster, &night, stores, &progress).await,
            None => index_here(arguments, &night, stores, &progress).await,
        }
    };
    let run = tokio::select! {
        run = work => run?,
        () = shown(&progress, common.quiet) => unreachable!("it shows for ever"),
        () = told_to_stop() => return Err(stopped(cluster.as_ref(), &night, stores, &progress).await),
        deadline = overdue(night.deadline) => {
            let stopped = stopped(cluster.as_ref(), &night, stores, &progress).await;
            return Err(stopped.because(&format!("`{}` is not done within {}", night.job, humantime::format_duration(deadline))));
        }
    };
    if !common.quiet {
        tell_paces(&progress.paces());
    }
    report::run(&run, arguments.job.format).map_err(Stop::failed)?;
    Ok(ExitCode::SUCCESS)
}

async fn index_here(
    arguments: &IndexArguments,
    night: &Night,
    stores: &Arc<Stores>,
    progress: &Arc<Progress>,
) -> Result<RunRow, Stop> {
    let needs_runtime = night.how().needs_runtime();
    let workers = arguments.workers.map(usize::from);
    let worker = worker(needs_runtime, &arguments.job.tools, workers)?;
    // A tool that does not work would make a failure of every video.
    let tools = worker.tools.check().await;
    tools.map_err(|e| Stop::bad_job(explained(&eventide_engine::Error::Media(e))))?;
    let planned = night.plan(stores, true).await.map_err(|e| Stop::bad_job(explained(&e)))?;
    night.run(planned, stores, &worker, progress).await.map_err(|e| Stop::of_run(&e))
}

async fn index_on(
    cluster: &Cluster,
    night: &Night,
    stores: &Arc<Stores>,
    progress: &Arc<Progress>,
) -> Result<RunRow, Stop> {
    let tables = tables(night, stores)?;
    // One that refuses this process says so before the plan, which takes a while; one that is away may come back.
    if let Err(error) = cluster.state().await
        && !error.is_transient()
    {
        return Err(Stop::of_run(&error));
    }
    // Before the plan, so that what the earlier client has had done counts.
    cluster.take_over(&tables, &night.job).await.map_err(|e| Stop::of_run(&e))?;
    let planned = night.plan(stores, true).await.map_err(|e| Stop::bad_job(explained(&e)))?;
    let name = environment::worker_name();
    night.run_on(cluster, planned, &name, progress).await.map_err(|e| Stop::of_run(&e))
}

/// The tables of a job.
pub(super) fn tables(night: &Night, stores: &Stores) -> Result<Tables, Stop> {
    Tables::open(stores, &night.tables).map_err(|e| Stop::bad_job(explained(&e.into())))
}

/// What to say when told to stop. A cluster is asked to stop first, unless one insists.
async fn stopped(
    cluster: Option<&Cluster>,
    night: &Night,
    stores: &Stores,
    progress: &Progress,
) -> Stop {
    let Some(cluster) = cluster else { return interrupted(progress) };
    let cancelled = async {
        let job = &night.job;
        eprintln!("stopping `{job}` on its cluster; Ctrl-C leaves it running there");
        cluster.cancel(&tables(night, stores)?, &night.job).await.map_err(|e| Stop::of_run(&e))
    };
    tokio::select! {
        biased; // it listens before it says that it does
        () = told_to_stop() => left_running(progress),
        cancelled = cancelled => match cancelled {
            Ok(_) => interrupted(progress),
            Err(stop) => stop,
        },
    }
}

fn interrupted(progress: &Progress) -> Stop {
    let counts = progress.counts();
    Stop::interrupted(miette::miette!(
        help = "run the same command again: finished shards are kept, and nothing half-done was published",
        "interrupted after {} of {} videos",
        counts.done,
        counts.planned
    ))
}

fn left_running(progress: &Progress) -> Stop {
    let counts = progress.counts();
    Stop::interrupted(miette::miette!(
        help = "run the same command again to take it over and publish it, or stop it by `eventide cancel`",
        "left after {} of {} videos; the cluster may still be at work",
        counts.done,
        counts.planned
    ))
}

/// Ends when the run takes longer than it may.
async fn overdue(deadline: Option<Duration>) -> Duration {
    match deadline {
        Some(deadline) => {
            tokio::time::sleep(deadline).await;
            deadline
        }
        None => std::future::pending().await,
    }
}

/// Ends when the process is asked to stop.
pub(super) async fn told_to_stop() {
    let terminated = async {
        match tokio::signal::unix::signal(SignalKind::terminate()) {
            Ok(mut signal) => {
                signal.recv().await;
            }
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        () = terminated => {}
    }
}
