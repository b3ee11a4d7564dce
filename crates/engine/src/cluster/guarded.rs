//! The ports of an executor in a cluster that has a secret: both ask callers for it.
//!
//! Ballista has the server of what executors give away started by others, so the guard stands in it. The
//! server that takes orders it starts itself, and nothing can be put into that: so it listens on loopback
//! only. What listens where the scheduler calls is ours; it asks for the proof, and passes an order on as
//! it came. Ballista would tell the scheduler its own port, which [`Registrar`](super::registrar) mends.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener},
    sync::Arc,
};

use arrow_flight::flight_service_server::FlightServiceServer;
use axum::{
    Router,
    extract::{Request, State},
    response::Response,
};
use ballista_core::{
    error::BallistaError,
    utils::{GrpcServerConfig, create_grpc_server},
};
use ballista_executor::{
    ArrowFlightServerProvider, executor_process::ExecutorProcessConfig,
    flight_service::BallistaFlightService, shutdown::Shutdown,
};
use tonic::{
    Status,
    body::Body,
    client::GrpcService,
    codegen::InterceptedService,
    service::Routes,
    transport::{Channel, Endpoint, Error as TransportError, server::TcpIncoming},
};

use super::{
    executor::{ExecutorOptions, bracketed, free_ports},
    secret::{Guard, Secret, agent_of, introduced_as_executor},
    session::MESSAGE_BYTES,
};
use crate::Error;

/// The ports of an executor, taken, and nobody served yet.
pub(super) struct GuardedPorts {
    orders: Port,
    data: Port,
    /// Where Ballista takes the orders that are passed on.
    inner: SocketAddr,
    guard: Guard,
    secret: Secret,
}

/// A port that was taken.
struct Port {
    listener: TcpListener,
    number: u16,
}

impl Port {
    fn take(listen: IpAddr, number: u16) -> io::Result<Self> {
        let listener = TcpListener::bind((listen, number))?;
        listener.set_nonblocking(true)?;
        let number = listener.local_addr()?.port();
        Ok(Self { listener, number })
    }
}

impl GuardedPorts {
    /// Takes the ports that `options` name, at which callers must have the secret.
    ///
    /// # Errors
    /// [`Error::Listen`].
    pub(super) fn take(options: &ExecutorOptions, secret: Secret) -> Result<Self, Error> {
        let take = |number| {
            Port::take(options.listen, number).map_err(|source| {
                let address = SocketAddr::new(options.listen, number).to_string();
                Error::Listen { address, source }
            })
        };
        let (orders, data) = (take(options.port)?, take(options.data_port)?);
        let loopback: IpAddr = match options.listen {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        };
        let [inner] = free_ports(loopback, [0])?;
        let (inner, guard) = (SocketAddr::new(loopback, inner), Guard::new(Some(secret.clone())));
        Ok(Self { orders, data, inner, guard, secret })
    }

    /// The ports for orders and for data.
    pub(super) fn numbers(&self) -> [u16; 2] {
        [self.orders.number, self.data.number]
    }

    /// Has Ballista's executor give nothing away but through these ports, and take orders from nowhere else. Orders come
    /// as long as the answer is awaited.
    pub(super) fn stand_before(
        self,
        executor: ExecutorProcessConfig,
    ) -> (ExecutorProcessConfig, impl Future<Output = Result<(), Error>> + Send) {
        let Self { orders, data, inner, guard, secret } = self;
        let introduced = introduced_as_executor(&secret, orders.number);
        let executor = ExecutorProcessConfig {
            bind_host: bracketed(inner.ip()),
            grpc_port: inner.port(),
            port: data.number,
            override_arrow_flight_service: Some(data_server(data.listener, guard.clone())),
            override_create_grpc_client_endpoint: Some(introduced),
            ..executor
        };
        let served = async move {
            let served = serve_orders(orders.listener, inner, guard).await;
            served.map_err(|source| Error::Process { what: "the executor", source })
        };
        (executor, served)
    }
}

/// Ballista's server of what the executor made, for those who have the secret.
fn data_server(listener: TcpListener, guard: Guard) -> Arc<ArrowFlightServerProvider> {
    Arc::new(move |work_dir, _, mut shutdown: Shutdown, config| {
        let (listener, guard) = (listener.try_clone(), guard.clone());
        tokio::spawn(async move {
            let size = MESSAGE_BYTES as usize;
            let data = FlightServiceServer::new(BallistaFlightService::new(work_dir))
                .max_decoding_message_size(size)
                .max_encoding_message_size(size);
            create_grpc_server(&config)
                .add_service(InterceptedService::new(data, guard))
                .serve_with_incoming_shutdown(incoming(listener?)?, shutdown.recv())
                .await
                .map_err(BallistaError::TonicError)
        })
    })
}

/// Passes orders on from those who have the secret.
async fn serve_orders(
    listener: TcpListener,
    inner: SocketAddr,
    guard: Guard,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let inner = Endpoint::from_shared(format!("http://{inner}"))?.connect_lazy();
    let orders = Router::new().fallback(pass_on).with_state((guard, inner));
    create_grpc_server(&GrpcServerConfig::default())
        .add_routes(Routes::from(orders))
        .serve_with_incoming(incoming(listener)?)
        .await?;
    Ok(())
}

fn incoming(listener: TcpListener) -> io::Result<TcpIncoming> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    Ok(TcpIncoming::from(listener).with_nodelay(Some(true)))
}

async fn pass_on(State((guard, inner)): State<(Guard, Channel)>, order: Request) -> Response {
    if let Err(refusal) = guard.check(agent_of(order.headers())) {
        return refusal.into_http();
    }
    match answered(inner, order.map(Body::new)).await {
        Ok(answer) => answer.map(axum::body::Body::new),
        Err(error) => {
            Status::unavailable(format!("the executor takes no orders: {error}")).into_http()
        }
    }
}

async fn answered(
    mut inner: Channel,
    order: Request<Body>,
) -> Result<Response<Body>, TransportError> {
    std::future::poll_fn(|context| GrpcService::<Body>::poll_ready(&mut inner, context)).await?;
    inner.call(order).await
}
