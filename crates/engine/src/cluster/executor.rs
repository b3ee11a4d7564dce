//! The executor: a worker process that the scheduler gives shards to.

use std::{
    net::{IpAddr, SocketAddr, TcpListener},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use ballista_core::config::TaskSchedulingPolicy;
use ballista_executor::executor_process::{ExecutorProcessConfig, start_executor_process};
use uuid::Uuid;

use super::{
    Cluster,
    codec::{LogicalCodec, PhysicalCodec},
    failed, scheduler_address,
    secret::{Secret, introduced},
    session::{Local, MESSAGE_BYTES, session_config},
    stage::CancellableEngine,
};
use crate::{Error, Indexers, metrics::MetricsListener};

/// What of a run is kept on disk, and for how long, where the scheduler never says that it is over.
const KEEP_JOB_DATA: Duration = Duration::from_hours(24);
/// How often it is looked for.
const LOOK_FOR_JOB_DATA: Duration = Duration::from_mins(10);

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
    /// Where its metrics can be read.
    pub metrics: Option<SocketAddr>,
}

/// Works until the process is told to stop, then finishes the shards in flight. Handles `SIGTERM` and
/// Ctrl-C itself; dropping the future gives the shards in flight back unfinished.
///
/// # Errors
/// [`Error::Listen`], [`Error::SchedulerAddress`], [`Error::Scheduler`] where there is no scheduler,
/// [`Error::NotAdmitted`] and [`Error::OpenScheduler`] where it has another secret or none, [`Error::Process`],
/// [`Error::Unfit`] where a device must not be used.
pub async fn run_executor(
    options: &ExecutorOptions,
    indexers: Arc<Indexers>,
    mut ready: impl FnMut(ExecutorAddresses),
) -> Result<(), Error> {
    await_scheduler(options).await?;
    let [port, data_port] = free_ports(options.listen, [options.port, options.data_port])?;
    let metrics = MetricsListener::bind(options.metrics).await?;
    let config = ExecutorProcessConfig {
        port: data_port,
        grpc_port: port,
        ..process_config(options, &indexers)?
    };
    let executor_id = config.executor_id.clone();
    ready(ExecutorAddresses {
        orders: SocketAddr::new(options.listen, port),
        metrics: metrics.as_ref().map(|(_, address)| *address),
    });
    let counting = count(metrics, Arc::clone(&indexers));
    let unfit = tokio::select! {
        ended = start_executor_process(Arc::new(config)) => return ended.map_err(failed("the executor")),
        unfit = indexers.unfit() => unfit,
        ended = counting => return ended,
    };
    // Its shards are not answered for: a task that failed here would soon be given to this device again.
    let cluster = Cluster::at(&options.scheduler, options.secret.clone())?;
    if let Err(error) = cluster.leave(&executor_id, &unfit.to_string()).await {
        tracing::warn!(error = %error, "cannot tell the scheduler; it will miss this executor");
    }
    Err(unfit)
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
        override_execution_engine: Some(Arc::new(CancellableEngine::default())),
        override_config_producer: Some(Arc::new(move || session_config(&local))),
        override_logical_codec: Some(Arc::new(LogicalCodec::new(secret.clone()))),
        override_physical_codec: Some(Arc::new(PhysicalCodec::new(secret.clone()))),
        override_create_grpc_client_endpoint: introduced(secret.as_ref()),
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
fn free_ports<const N: usize>(listen: IpAddr, ports: [u16; N]) -> Result<[u16; N], Error> {
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
fn bracketed(ip: IpAddr) -> String {
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
