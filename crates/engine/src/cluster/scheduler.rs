//! The scheduler: hands the shards of a run to executors. It keeps nothing that matters.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use ballista_core::{
    config::TaskSchedulingPolicy,
    serde::protobuf::{
        ExecutorHeartbeat, ExecutorStatus, executor_status::Status,
        scheduler_grpc_server::SchedulerGrpcServer,
    },
    utils::default_session_builder,
};
use ballista_scheduler::{
    cluster::{BallistaCluster, ClusterState},
    config::{SchedulerConfig, TaskDistributionPolicy},
    scheduler_process::create_scheduler,
};
use eventide_catalog::Stores;
use tokio::net::TcpListener;
use tonic::{codegen::InterceptedService, service::Routes};

use super::{
    codec::{LogicalCodec, PhysicalCodec},
    failed,
    placing::LeastTriedFirst,
    registrar::Registrar,
    secret::{Guard, Secret, TurnedAway, agent_of, introduced},
    session::{Local, MESSAGE_BYTES, session_config},
    state::{self, Departures, Farewell, Server},
};
use crate::{
    BUILD, Error,
    metrics::{MetricsListener, cluster_text},
};

/// How often the scheduler looks for executors that have gone silent.
const LOOK_FOR_THE_DEAD: Duration = Duration::from_secs(1);
/// How long an executor that was told to stop may work on the shards that it holds, whatever its own grace is. One
/// that falls silent meanwhile is given up as any other.
const LONGEST_GRACE: Duration = Duration::from_hours(24);
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
    /// What callers must have.
    pub secret: Option<Secret>,
    /// Where metrics can be read, if anywhere; port 0 is any free one.
    pub metrics: Option<SocketAddr>,
}

/// A scheduler that listens and does not answer yet.
pub struct Scheduler {
    listener: TcpListener,
    address: SocketAddr,
    config: SchedulerConfig,
    guard: Guard,
    metrics: Option<(MetricsListener, SocketAddr)>,
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
        let metrics = MetricsListener::bind(options.metrics).await?;
        let secret = options.secret.clone();
        let local = Local { stores: Some(stores), secret: secret.clone(), ..Local::default() };
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
            // An executor says that it stops before it has finished what it holds.
            executor_termination_grace_period: LONGEST_GRACE.as_secs(),
            no_executors_grace_period_seconds: options.no_executors_grace.as_secs(),
            finished_job_state_clean_up_interval_seconds: KEEP_ENDED_JOBS.as_secs(),
            grpc_server_max_decoding_message_size: MESSAGE_BYTES,
            grpc_server_max_encoding_message_size: MESSAGE_BYTES,
            grpc_client_max_message_size: MESSAGE_BYTES,
            override_config_producer: Some(Arc::new(move || session_config(&local))),
            override_session_builder: Some(Arc::new(default_session_builder)),
            override_logical_codec: Some(Arc::new(LogicalCodec::new(secret.clone()))),
            override_physical_codec: Some(Arc::new(PhysicalCodec::new(secret.clone()))),
            override_create_grpc_client_endpoint: Some(introduced(secret.as_ref())),
            ..SchedulerConfig::default()
        };
        Ok(Self { listener, address, config, guard: Guard::new(secret), metrics })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where its metrics can be read.
    #[must_use]
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics.as_ref().map(|(_, address)| *address)
    }

    /// Serves until it is dropped.
    ///
    /// # Errors
    /// [`Error::Process`].
    pub async fn serve(self) -> Result<(), Error> {
        let mut config = self.config;
        let cluster =
            BallistaCluster::new_from_config(&config).await.map_err(failed("the scheduler"))?;
        let executors = cluster.cluster_state();
        let policy = LeastTriedFirst::new(Arc::clone(&executors));
        config.task_distribution = TaskDistributionPolicy::Custom(Arc::new(policy));
        config.validate().map_err(failed("the scheduler"))?;
        let scheduler: Server =
            create_scheduler(cluster, Arc::new(config)).await.map_err(failed("the scheduler"))?;
        let departures = Departures::default();
        let counting =
            count(self.metrics, scheduler.clone(), self.guard.clone(), departures.clone());
        let router = router(scheduler, executors, self.guard, departures);
        let service = router.into_make_service_with_connect_info::<SocketAddr>();
        let failed = |source| Error::Process { what: "the scheduler", source: Box::new(source) };
        tokio::select! {
            served = axum::serve(self.listener, service) => served.map_err(failed),
            counted = counting => counted,
        }
    }
}

/// Tells whoever collects metrics, if anybody may.
async fn count(
    metrics: Option<(MetricsListener, SocketAddr)>,
    scheduler: Server,
    guard: Guard,
    departures: Departures,
) -> Result<(), Error> {
    let Some((listener, _)) = metrics else { return std::future::pending().await };
    let counted = Arc::new((scheduler, guard, departures));
    let text = move || {
        let counted = Arc::clone(&counted);
        async move {
            let (scheduler, guard, departures) = counted.as_ref();
            let state = state::of(scheduler, guard).await;
            let text = |state| cluster_text(&state, guard.turned_away(), departures);
            state.map_or_else(|_| String::new(), text)
        }
    };
    listener.serve(text).await
}

/// What the scheduler answers: Ballista's calls and ours to those who have the secret, and to everybody
/// that it lives.
fn router(
    scheduler: Server,
    executors: Arc<dyn ClusterState>,
    guard: Guard,
    departures: Departures,
) -> Router {
    let size = MESSAGE_BYTES as usize;
    let calls = SchedulerGrpcServer::new(Registrar(scheduler.clone()))
        .max_encoding_message_size(size)
        .max_decoding_message_size(size);
    let told = Router::new()
        .route(state::PATH, get(tell))
        .with_state((Arc::new(scheduler), guard.clone()))
        .route(state::LEFT, post(left).with_state((executors, guard.clone(), departures)))
        .route("/healthz", get(|| async { "ok" }));
    Routes::new(InterceptedService::new(calls, guard)).into_axum_router().merge(told)
}

/// The state of the cluster.
async fn tell(
    State((scheduler, guard)): State<(Arc<Server>, Guard)>,
    headers: HeaderMap,
) -> Response {
    if let Err(why) = guard.admit(agent_of(&headers)) {
        return why.into_response();
    }
    match state::of(&scheduler, &guard).await {
        Ok(state) => Json(state).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// Takes in that an executor is gone.
async fn left(
    State((executors, guard, departures)): State<(Arc<dyn ClusterState>, Guard, Departures)>,
    Path(id): Path<String>,
    headers: HeaderMap,
    text: Bytes,
) -> Response {
    if let Err(why) = guard.admit(agent_of(&headers)) {
        return why.into_response();
    }
    let Farewell { because, reason } = match serde_json::from_slice(&text) {
        Ok(farewell) => farewell,
        Err(error) => return (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
    };
    departures.count(because);
    let Some(heard) = executors.get_executor_heartbeat(&id) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    tracing::info!(executor = id, reason, "an executor has left");
    // One that stops by itself is not told to stop.
    let status = Some(ExecutorStatus { status: Some(Status::Terminating(reason)) });
    let gone = ExecutorHeartbeat { timestamp: state::LONG_AGO.as_secs(), status, ..heard };
    match executors.save_executor_heartbeat(gone).await {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

impl IntoResponse for TurnedAway {
    /// The build is told only to those who have the secret.
    fn into_response(self) -> Response {
        match self {
            Self::Stranger => StatusCode::UNAUTHORIZED.into_response(),
            Self::OtherBuild => (StatusCode::PRECONDITION_FAILED, BUILD).into_response(),
        }
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
