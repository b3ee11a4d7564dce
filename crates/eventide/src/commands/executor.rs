//! `eventide executor`: index the shards that a scheduler gives.

use std::{
    net::{IpAddr, SocketAddr},
    num::NonZeroUsize,
    path::Path,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use clap::Args;
use eventide_catalog::Stores;
use eventide_engine::{ExecutorAddresses, ExecutorOptions, Indexers, Progress, run_executor};
use eventide_model::runtime::Device;
use miette::{IntoDiagnostic, WrapErr};
use rustix::process::{Signal, getpid, kill_process};

use super::{
    Stop, explained,
    index::told_to_stop,
    scheduler::{metrics_address, seconds, tell_metrics},
    secret, warn_of_open_port, worker,
};
use crate::{
    arguments::{CLUSTER_ENVIRONMENT, ToolArguments},
    environment,
};

/// How long after the process was told to stop it is told again.
const TOLD_AGAIN: Duration = Duration::from_secs(1);

/// Arguments of `executor`.
#[derive(Debug, Args)]
#[command(after_help = CLUSTER_ENVIRONMENT)]
pub(crate) struct ExecutorArguments {
    /// The scheduler to work for, `http://host:50050`.
    #[arg(value_name = "SCHEDULER", env = "EVENTIDE_CLUSTER")]
    scheduler: String,
    /// The device that models run on, `cpu` or `cuda:N`, whatever a job says; again for each further one.
    #[arg(long = "device", value_name = "DEVICE")]
    devices: Vec<Device>,
    /// Shards that are worked on at once; one a device if not given.
    #[arg(long, value_name = "N")]
    slots: Option<NonZeroUsize>,
    /// Videos that are worked on at once; one a core if not given.
    #[arg(long, value_name = "N", env = "EVENTIDE_WORKERS")]
    workers: Option<NonZeroUsize>,
    /// Where it listens. Without `EVENTIDE_CLUSTER_TOKEN`, whoever reaches this address can have it work, and
    /// end its work.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    listen: IpAddr,
    /// The host name under which the scheduler reaches it, if it is not the one that it calls from.
    #[arg(long, value_name = "HOST")]
    advertise: Option<String>,
    /// Port for the scheduler's orders; any free one if 0.
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    port: u16,
    /// Port for what others fetch; any free one if 0.
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    data_port: u16,
    /// How long the scheduler may take to be there.
    #[arg(long, value_name = "TIME", default_value = "1m", value_parser = seconds)]
    patience: Duration,
    /// How often it tells the scheduler that it is alive.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = seconds)]
    heartbeat: Duration,
    /// How long the shards in flight may take when it is told to stop; then they are given back.
    #[arg(long, value_name = "TIME", default_value = "90s", value_parser = seconds)]
    grace: Duration,
    /// Shards after which a device is shown the golden clip of its model again, as it is before the first
    /// one. A device that answers otherwise ends the executor.
    #[arg(long, value_name = "SHARDS", default_value = "64")]
    check_every: NonZeroUsize,
    /// Where Prometheus can read its metrics, `/metrics`: a port of this machine, or an address.
    #[arg(long, value_name = "ADDRESS", value_parser = metrics_address)]
    metrics: Option<SocketAddr>,
    /// The tools that do the work.
    #[command(flatten)]
    tools: ToolArguments,
}

pub(super) async fn run(
    arguments: &ExecutorArguments,
    stores: &Arc<Stores>,
) -> Result<ExitCode, Stop> {
    // Which jobs will come is not known yet: without ONNX Runtime only those from speech can be done.
    let has_model = environment::onnxruntime(&arguments.tools).is_ok();
    let worker = worker(has_model, &arguments.tools, arguments.workers.map(usize::from))?;
    let tools = worker.tools.check().await;
    tools.map_err(|e| Stop::bad_job(explained(&eventide_engine::Error::Media(e))))?;
    if !has_model {
        tracing::warn!("ONNX Runtime is not there: jobs with a model will fail here");
    }
    let secret = secret()?;
    warn_of_open_port(arguments.listen, secret.as_ref());
    let work_dir = environment::executor_folder()
        .into_diagnostic()
        .wrap_err("cannot make a work folder")
        .map_err(Stop::bad_job)?;
    let devices = arguments.devices.len().max(1);
    let slots = arguments.slots.map_or(devices, usize::from);
    let options = ExecutorOptions { secret, ..options(arguments, slots, work_dir.path()) };
    let (stores, progress) = (Arc::clone(stores), Arc::new(Progress::default()));
    let on_each = slots.div_ceil(devices);
    let indexers = Indexers::new(stores, worker, arguments.devices.clone(), on_each, progress)
        .on_cluster(arguments.check_every);
    let working = AtomicBool::new(false);
    let ready = |addresses: ExecutorAddresses| {
        working.store(true, Ordering::Relaxed);
        tell_metrics(addresses.metrics);
        let ExecutorAddresses { orders, data, .. } = addresses;
        println!("executor listens at {orders} (data at {data}) for {}", options.scheduler);
    };
    let overdue = overdue(arguments.grace, &working);
    let ended = run_executor(&options, Arc::new(indexers), ready, overdue).await;
    ended.map_err(|e| Stop::of_run(&e))?;
    Ok(ExitCode::SUCCESS)
}

/// How this executor is reached, and whom it works for.
fn options(arguments: &ExecutorArguments, slots: usize, work_dir: &Path) -> ExecutorOptions {
    ExecutorOptions {
        scheduler: arguments.scheduler.clone(),
        scheduler_patience: arguments.patience,
        listen: arguments.listen,
        advertise: arguments.advertise.clone(),
        port: arguments.port,
        data_port: arguments.data_port,
        slots,
        heartbeat: arguments.heartbeat,
        work_dir: work_dir.to_owned(),
        secret: None,
        metrics: arguments.metrics,
    }
}

/// Ends when the process was told to stop and its grace is over. Before it works there is none.
async fn overdue(grace: Duration, working: &AtomicBool) {
    told_to_stop().await;
    if working.load(Ordering::Relaxed) {
        tracing::info!("told to stop: finishing the shards in flight");
        let over = tokio::time::timeout(grace, tell_again()).await;
        debug_assert!(over.is_err(), "it is told until it stops");
    }
}

/// Tells this process to stop, again and again: what finishes its shards does not hear it while it still starts, and
/// hears it once.
async fn tell_again() -> std::convert::Infallible {
    let mut times = tokio::time::interval(TOLD_AGAIN);
    loop {
        times.tick().await;
        if let Err(error) = kill_process(getpid(), Signal::TERM) {
            tracing::warn!(error = %error, "cannot tell this process to stop");
        }
    }
}
