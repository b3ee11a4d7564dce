//! The executor: a worker process that the scheduler gives shards to.

use std::{
    net::{IpAddr, SocketAddr, TcpListener},
    path::PathBuf,
    pin::pin,
    sync::Arc,
    time::Duration,
};

use ballista_core::config::TaskSchedulingPolicy;
use ballista_executor::executor_process::{ExecutorProcessConfig, start_executor_process};
use datafusion::common::runtime::SpawnedTask;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    Cluster,
    codec::{LogicalCodec, PhysicalCodec},
    failed,
    guarded::GuardedPorts,
    scheduler_address,
    secret::{Secret, introduced},
    session::{Local, MESSAGE_BYTES, session_config},
    stage::CancellableEngine,
    state::{Farewell, Leaving},
};
use crate::{Error, Indexers, metrics::MetricsListener};

/// What of a run is kept on disk, and for how long, where the scheduler never says that it is over.
const KEEP_JOB_DATA: Duration = Duration::from_hours(24);
/// How often it is looked for.
const LOOK_FOR_JOB_DATA: Duration = Duration::from_mins(10);
/// How long the marks of shards may take to go that are given back.
const GIVE_BACK: Duration = Duration::from_secs(10);
/// How long the scheduler may take to hear that an executor is gone.
const LEAVE: Duration = Duration::from_secs(5);

/// How an executor is reached, and whom it works for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecutorOptions {
    /// Address of the scheduler, `http://host:port`.
    pub scheduler: String,
    /// How long the scheduler may take to be there. Whole seconds.
    pub scheduler_patience: Duration,
    /// Where it listens.
    pub listen: IpAddr,
    /// The host name under which the scheduler reaches it; what the scheduler sees if not given.
    pub advertise: Option<String>,
    /// Port for what the scheduler asks; 0 is any free one.
    pub port: u16,
    /// Port for what others fetch; 0 is any free one.
    pub data_port: u16,
    /// Shards that it is given at once.
    pub slots: usize,
    /// How often it tells the scheduler that it is alive. Whole seconds.
    pub heartbeat: Duration,
    /// Folder for what passes between stages; it exists.
    pub work_dir: PathBuf,
    /// What the scheduler must have, and asks for.
    pub secret: Option<Secret>,
    /// Where metrics can be read, if anywhere; port 0 is any free one.
    pub metrics: Option<SocketAddr>,
}

/// Where an executor is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExecutorAddresses {
    /// Where it takes orders.
    pub orders: SocketAddr,
    /// Where what it made for others can be fetched.
    pub data: SocketAddr,
    /// Where its metrics can be read.
    pub metrics: Option<SocketAddr>,
}

/// Works until the process is told to stop, then finishes the shards in flight. Handles `SIGTERM` and
/// Ctrl-C itself. When `overdue` ends, the shards in flight are given back unfinished, as they are when it ends
/// for any other reason; they cost no video an attempt.
///
/// # Errors
/// [`Error::Listen`], [`Error::SchedulerAddress`], [`Error::Scheduler`] where there is no scheduler,
/// [`Error::NotAdmitted`] and [`Error::OpenScheduler`] where it has another secret or none, [`Error::OtherBuild`] where it
/// is another build, [`Error::Process`], [`Error::Unfit`] where a device must not be used.
pub async fn run_executor(
    options: &ExecutorOptions,
    indexers: Arc<Indexers>,
    mut ready: impl FnMut(ExecutorAddresses),
    overdue: impl Future<Output = ()>,
) -> Result<(), Error> {
    let mut overdue = pin!(overdue);
    tokio::select! {
        found = await_scheduler(options) => found?,
        () = &mut overdue => return Ok(()),
    }
    let secret = options.secret.clone();
    let guarded = secret.map(|secret| GuardedPorts::take(options, secret)).transpose()?;
    let [port, data_port] = match &guarded {
        Some(guarded) => guarded.numbers(),
        None => free_ports(options.listen, [options.port, options.data_port])?,
    };
    let metrics = MetricsListener::bind(options.metrics).await?;
    let giving_back = CancellationToken::new();
    let engine = CancellableEngine::stopped_by(giving_back.clone());
    let config = ExecutorProcessConfig {
        port: data_port,
        grpc_port: port,
        override_execution_engine: Some(Arc::new(engine)),
        ..process_config(options, &indexers)?
    };
    let executor_id = config.executor_id.clone();
    ready(ExecutorAddresses {
        orders: SocketAddr::new(options.listen, port),
        data: SocketAddr::new(options.listen, data_port),
        metrics: metrics.as_ref().map(|(_, address)| *address),
    });
    let (config, mut orders) = taking_orders(config, guarded);
    // Not dropped before the marks are gone: its runtime is where the shards end.
    let mut process = pin!(start_executor_process(Arc::new(config)));
    let ended = tokio::select! {
        ended = &mut process => ended.map_err(failed("the executor")),
        unfit = indexers.unfit() => Err(unfit),
        ended = count(metrics, Arc::clone(&indexers)) => ended,
        ended = &mut orders => ended.unwrap_or_else(|ended| {
            Err(Error::Process { what: "the executor", source: Box::new(ended) })
        }),
        () = overdue => {
            tracing::warn!("the grace is over: shards in flight are given back");
            Ok(())
        }
    };
    giving_back.cancel();
    marks_gone(&indexers).await;
    leave(options, &executor_id, ended.as_ref().err()).await;
    ended
}

/// What stands between the scheduler and an executor, at work until it is dropped, if anything does; and what Ballista is
/// told then.
fn taking_orders(
    config: ExecutorProcessConfig,
    guarded: Option<GuardedPorts>,
) -> (ExecutorProcessConfig, SpawnedTask<Result<(), Error>>) {
    match guarded {
        Some(guarded) => {
            let (config, orders) = guarded.stand_before(config);
            (config, SpawnedTask::spawn(orders))
        }
        None => (config, SpawnedTask::spawn(std::future::pending())),
    }
}

/// Waits until the shards that are given back have no marks any more.
async fn marks_gone(indexers: &Indexers) {
    if tokio::time::timeout(GIVE_BACK, indexers.none_held()).await.is_err() {
        tracing::warn!("marks of shards are left, as if this executor had died");
    }
}

/// Tells the scheduler that this executor is gone. Its shards are not answered for: a task that failed here would
/// soon be given to it again.
async fn leave(options: &ExecutorOptions, executor_id: &str, because: Option<&Error>) {
    let farewell = Farewell {
        because: match because {
            None => Leaving::ToldToStop,
            Some(Error::Unfit { .. }) => Leaving::DeviceUnfit,
            Some(_) => Leaving::Failed,
        },
        reason: because.map_or_else(|| "it was told to stop".to_owned(), ToString::to_string),
    };
    let left = async {
        let cluster = Cluster::at(&options.scheduler, options.secret.clone())?;
        cluster.leave(executor_id, &farewell).await
    };
    match tokio::time::timeout(LEAVE, left).await {
        Ok(Ok(())) => tracing::info!("left the cluster"),
        Ok(Err(error)) => {
            tracing::warn!(error = %error, "cannot tell the scheduler; it will miss this executor");
        }
        Err(_) => tracing::warn!("the scheduler is silent; it will miss this executor"),
    }
}

/// What Ballista is told of this executor, but for its ports.
fn process_config(
    options: &ExecutorOptions,
    indexers: &Arc<Indexers>,
) -> Result<ExecutorProcessConfig, Error> {
    let (scheduler_host, scheduler_port) = scheduler_address(&options.scheduler)?;
    let secret = options.secret.clone();
    let local =
        Local { indexers: Some(Arc::clone(indexers)), secret: secret.clone(), ..Local::default() };
    Ok(ExecutorProcessConfig {
        executor_id: Uuid::now_v7().to_string(),
        bind_host: bracketed(options.listen),
        external_host: options.advertise.clone(),
        scheduler_host,
        scheduler_port,
        scheduler_connect_timeout_seconds: 0,
        vcores: options.slots.max(1),
        task_scheduling_policy: TaskSchedulingPolicy::PushStaged,
        work_dir: options.work_dir.to_str().map(str::to_owned),
        job_data_ttl_seconds: KEEP_JOB_DATA.as_secs(),
        job_data_clean_up_interval_seconds: LOOK_FOR_JOB_DATA.as_secs(),
        grpc_max_decoding_message_size: MESSAGE_BYTES,
        grpc_max_encoding_message_size: MESSAGE_BYTES,
        executor_heartbeat_interval_seconds: options.heartbeat.as_secs().max(1),
        override_config_producer: Some(Arc::new(move || session_config(&local))),
        override_logical_codec: Some(Arc::new(LogicalCodec::new(secret.clone()))),
        override_physical_codec: Some(Arc::new(PhysicalCodec::new(secret.clone()))),
        override_create_grpc_client_endpoint: Some(introduced(secret.as_ref())),
        ..ExecutorProcessConfig::default()
    })
}

/// Tells whoever collects metrics, if anybody may.
async fn count(
    metrics: Option<(MetricsListener, SocketAddr)>,
    indexers: Arc<Indexers>,
) -> Result<(), Error> {
    let Some((listener, _)) = metrics else { return std::future::pending().await };
    let text = move || {
        let indexers = Arc::clone(&indexers);
        async move { indexers.metrics_text().await }
    };
    listener.serve(text).await
}

/// Waits until a scheduler answers that has the same secret. One that asks for none would hand this
/// process plans of anybody.
async fn await_scheduler(options: &ExecutorOptions) -> Result<(), Error> {
    let deadline = tokio::time::Instant::now() + options.scheduler_patience;
    let cluster = Cluster::at(&options.scheduler, options.secret.clone())?;
    loop {
        match cluster.state().await {
            Ok(state) if options.secret.is_some() && !state.guarded => {
                return Err(Error::OpenScheduler { url: options.scheduler.clone() });
            }
            Ok(_) => return Ok(()),
            Err(error @ Error::Scheduler { .. }) if tokio::time::Instant::now() >= deadline => {
                return Err(error);
            }
            Err(Error::Scheduler { .. }) => tokio::time::sleep(Duration::from_millis(250)).await,
            Err(error) => return Err(error),
        }
    }
}

/// Ports that are free now, where 0 is asked for. Another process may still take one first; then the
/// executor does not start.
pub(super) fn free_ports<const N: usize>(
    listen: IpAddr,
    ports: [u16; N],
) -> Result<[u16; N], Error> {
    let refused = |source| Error::Listen { address: listen.to_string(), source };
    let mut held = Vec::new(); // so that no port is given twice
    let mut free = ports;
    for port in free.iter_mut().filter(|port| **port == 0) {
        let listener = TcpListener::bind((listen, 0)).map_err(refused)?;
        *port = listener.local_addr().map_err(refused)?.port();
        held.push(listener);
    }
    Ok(free)
}

/// As it stands before a colon and a port.
pub(super) fn bracketed(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(four) => four.to_string(),
        IpAddr::V6(six) => format!("[{six}]"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_ports_are_different_and_given_ones_stay() {
        let listen = IpAddr::from([127, 0, 0, 1]);
        let [a, b, c] = free_ports(listen, [0, 7, 0]).unwrap();
        assert_eq!(b, 7);
        assert!(a != 0 && c != 0 && a != c, "{a} {c}");
    }
}
