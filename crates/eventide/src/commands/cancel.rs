//! `eventide cancel`: stop a job that runs on a cluster.

use std::{process::ExitCode, sync::Arc};

use eventide_catalog::Stores;

use super::{Stop, cluster, index::tables, night_on};
use crate::arguments::CancelArguments;

pub(super) async fn run(
    arguments: &CancelArguments,
    stores: &Arc<Stores>,
) -> Result<ExitCode, Stop> {
    let night = night_on(&arguments.job, arguments.cluster.as_deref())?;
    let Some(scheduler) = &night.scheduler else {
        return Err(Stop::bad_job(miette::miette!(
            help = "name it by --cluster, or in the job as `cluster.scheduler`",
            "nobody says which scheduler `{}` runs under",
            night.job
        )));
    };
    let cluster = cluster(scheduler)?;
    let tables = tables(&night, stores)?;
    let running = cluster.cancel(&tables, &night.job).await.map_err(|e| Stop::of_run(&e))?;
    if running {
        println!("stopped `{}`; what it has finished is kept", night.job);
    } else {
        println!("`{}` is not running on this cluster", night.job);
    }
    Ok(ExitCode::SUCCESS)
}
