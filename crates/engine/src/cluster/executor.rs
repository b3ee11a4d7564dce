//! The executor: a worker process that the scheduler gives shards to.

use std::{
    net::{IpAddr, SocketAddr, TcpListener},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use ballista_core::{
    config::TaskSchedulingPolicy,
    extension::SessionConfigExt,
    utils::{GrpcClientConfig, create_grpc_client_endpoint},
};
use ballista_executor::executor_process::{ExecutorProcessConfig, start_executor_process};
use uuid::Uuid;

use super::{
    cancel::CancellableEngine,
    codec::{LogicalCodec, PhysicalCodec},
    failed, scheduler_address,
    session::{Local, MESSAGE_BYTES, session_config},
};
use crate::{Error, Indexers};

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
}

/// Works until the process is told to stop, then finishes the shards in flight. Handles `SIGTERM` and
/// Ctrl-C itself; dropping the future gives the shards in flight back unfinished.
///
/// # Errors
/// [`Error::Listen`], [`Error::SchedulerAddress`], [`Error::Scheduler`] where there is no scheduler,
/// [`Error::Process`].
pub async fn run_executor(
    options: &ExecutorOptions,
    indexers: Arc<Indexers>,
    mut ready: impl FnMut(SocketAddr),
) -> Result<(), Error> {
    let (scheduler_host, scheduler_port) = scheduler_address(&options.scheduler)?;
    await_scheduler(options).await?;
    let [port, data_port] = free_ports(options.listen, [options.port, options.data_port])?;
    let local = Local { stores: None, indexers: Some(indexers) };
    let config = ExecutorProcessConfig {
        executor_id: Uuid::now_v7().to_string(),
        bind_host: bracketed(options.listen),
        external_host: options.advertise.clone(),
        port: data_port,
        grpc_port: port,
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
        override_logical_codec: Some(Arc::new(LogicalCodec::default())),
        override_physical_codec: Some(Arc::new(PhysicalCodec::default())),
        ..ExecutorProcessConfig::default()
    };
    ready(SocketAddr::new(options.listen, port));
    start_executor_process(Arc::new(config)).await.map_err(failed("the executor"))
}

/// Waits until something answers at the scheduler's address.
async fn await_scheduler(options: &ExecutorOptions) -> Result<(), Error> {
    let (host, port) = scheduler_address(&options.scheduler)?;
    let config = session_config(&Local { stores: None, indexers: None });
    let grpc = GrpcClientConfig::from(&config.ballista_config());
    let deadline = tokio::time::Instant::now() + options.scheduler_patience;
    loop {
        let endpoint = create_grpc_client_endpoint(format!("http://{host}:{port}"), Some(&grpc));
        let unreachable =
            |source| Error::Scheduler { url: options.scheduler.clone(), source: Box::new(source) };
        match endpoint.map_err(unreachable)?.connect().await {
            Ok(_) => return Ok(()),
            Err(source) if tokio::time::Instant::now() >= deadline => {
                return Err(unreachable(source));
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(250)).await,
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
