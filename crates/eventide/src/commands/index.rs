//! `eventide index`: index what is new, changed or gone, and publish.

use std::{io::IsTerminal, process::ExitCode, sync::Arc, time::Duration};

use eventide_catalog::Stores;
use eventide_engine::Progress;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::{signal::unix::SignalKind, time::MissedTickBehavior};

use super::{Stop, explained, night, worker};
use crate::{
    arguments::{Common, IndexArguments},
    report,
};

pub(super) async fn run(
    arguments: &IndexArguments,
    common: &Common,
    stores: &Arc<Stores>,
) -> Result<ExitCode, Stop> {
    let night = night(&arguments.job)?;
    let worker = worker(&night, &arguments.job.tools, arguments.workers.map(usize::from))?;
    // A tool that does not work would make a failure of every video.
    let tools = worker.tools.check().await;
    tools.map_err(|e| Stop::bad_job(explained(&eventide_engine::Error::Media(e))))?;
    let progress = Arc::new(Progress::default());
    let work = async {
        let planned = night.plan(stores, true).await.map_err(|e| Stop::bad_job(explained(&e)))?;
        night.run(planned, stores, &worker, &progress).await.map_err(|e| Stop::of_run(&e))
    };
    let run = tokio::select! {
        run = work => run?,
        () = shown(&progress, !common.quiet && std::io::stderr().is_terminal()) => unreachable!("it shows for ever"),
        () = told_to_stop() => return Err(interrupted(&progress)),
    };
    report::run(&run, arguments.job.format).map_err(Stop::failed)?;
    Ok(ExitCode::SUCCESS)
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

/// Shows how far the run is, for as long as it is polled.
async fn shown(progress: &Progress, visible: bool) {
    if !visible {
        return std::future::pending().await;
    }
    let style = ProgressStyle::with_template(
        "{elapsed_precise} {bar:30} {pos}/{len} videos, {msg}, {eta} left",
    )
    .expect("the template is right");
    let bar = ProgressBar::new(0).with_style(style);
    let mut ticks = tokio::time::interval(Duration::from_millis(250));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        let counts = progress.counts();
        bar.set_length(counts.planned);
        bar.set_position(counts.done);
        bar.set_message(format!("{} events, {} failed", counts.events, counts.failed));
    }
}
