//! The scheduler: hands the shards of a run to executors. It keeps nothing that matters.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use ballista_core::{config::TaskSchedulingPolicy, utils::default_session_builder};
use ballista_scheduler::{
    cluster::BallistaCluster,
    config::SchedulerConfig,
    scheduler_process::{create_scheduler, start_grpc_service_with_listener},
};
use datafusion_proto::protobuf::{LogicalPlanNode, PhysicalPlanNode};
use eventide_catalog::Stores;
use tokio::net::TcpListener;

use super::{
    codec::{LogicalCodec, PhysicalCodec},
    failed,
    session::{Local, MESSAGE_BYTES, session_config},
};
use crate::Error;

/// How often the scheduler looks for executors that have gone silent.
const LOOK_FOR_THE_DEAD: Duration = Duration::from_secs(1);
/// How long the state of an ended run can be asked for.
const KEEP_ENDED_JOBS: Duration = Duration::from_hours(1);

/// How a scheduler is reached, and when it gives up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchedulerOptions {
    /// Where it listens; port 0 is any free one.
    pub listen: SocketAddr,
    /// The host name under which executors reach it; its address if not given.
    pub advertise: Option<String>,
    /// How long an executor may be silent before its shards are given to others. Whole seconds.
    pub executor_timeout: Duration,
    /// How long a run waits for executors where none is left. Whole seconds.
    pub no_executors_grace: Duration,
}

/// A scheduler that listens and does not answer yet.
pub struct Scheduler {
    listener: TcpListener,
    address: SocketAddr,
    config: SchedulerConfig,
}

impl Scheduler {
    /// Takes the address.
    ///
    /// # Errors
    /// [`Error::Listen`].
    pub async fn bind(options: &SchedulerOptions, stores: Arc<Stores>) -> Result<Self, Error> {
        let refused = |source| Error::Listen { address: options.listen.to_string(), source };
        let listener = TcpListener::bind(options.listen).await.map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        let local = Local { stores: Some(stores), indexers: None };
        let config = SchedulerConfig {
            external_host: options
                .advertise
                .clone()
                .unwrap_or_else(|| host_of(address.ip()).to_string()),
            bind_host: address.ip().to_string(),
            bind_port: address.port(),
            scheduling_policy: TaskSchedulingPolicy::PushStaged,
            executor_timeout_seconds: options.executor_timeout.as_secs(),
            expire_dead_executor_interval_seconds: LOOK_FOR_THE_DEAD.as_secs(),
            no_executors_grace_period_seconds: options.no_executors_grace.as_secs(),
            finished_job_state_clean_up_interval_seconds: KEEP_ENDED_JOBS.as_secs(),
            grpc_server_max_decoding_message_size: MESSAGE_BYTES,
            grpc_server_max_encoding_message_size: MESSAGE_BYTES,
            grpc_client_max_message_size: MESSAGE_BYTES,
            override_config_producer: Some(Arc::new(move || session_config(&local))),
            override_session_builder: Some(Arc::new(default_session_builder)),
            override_logical_codec: Some(Arc::new(LogicalCodec::default())),
            override_physical_codec: Some(Arc::new(PhysicalCodec::default())),
            ..SchedulerConfig::default()
        };
        Ok(Self { listener, address, config })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until it is dropped.
    ///
    /// # Errors
    /// [`Error::Process`].
    pub async fn serve(self) -> Result<(), Error> {
        self.config.validate().map_err(failed("the scheduler"))?;
        let cluster = BallistaCluster::new_from_config(&self.config)
            .await
            .map_err(failed("the scheduler"))?;
        let scheduler =
            create_scheduler::<LogicalPlanNode, PhysicalPlanNode>(cluster, Arc::new(self.config))
                .await
                .map_err(failed("the scheduler"))?;
        start_grpc_service_with_listener(self.listener, scheduler)
            .await
            .map_err(failed("the scheduler"))
    }
}

/// The address that a process of this machine reaches a listener of `ip` at.
pub(super) fn host_of(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(four) if four.is_unspecified() => std::net::Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(six) if six.is_unspecified() => std::net::Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    }
}
