//! `eventide cancel`: stop a job that runs on a cluster.

use std::{process::ExitCode, sync::Arc};

use eventide_catalog::Stores;
use eventide_engine::Cluster;

use super::{Stop, index::tables, night};
use crate::arguments::CancelArguments;

pub(super) async fn run(
    arguments: &CancelArguments,
    stores: &Arc<Stores>,
) -> Result<ExitCode, Stop> {
    let night = night(&arguments.job)?;
    let cluster = Cluster::at(&arguments.cluster).map_err(|e| Stop::of_run(&e))?;
    let tables = tables(&night, stores)?;
    let running = cluster.cancel(&tables, &night.job).await.map_err(|e| Stop::of_run(&e))?;
    if running {
        println!("stopped `{}`; what it has finished is kept", night.job);
    } else {
        println!("`{}` is not running on this cluster", night.job);
    }
    Ok(ExitCode::SUCCESS)
}
