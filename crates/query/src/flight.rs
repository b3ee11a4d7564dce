//! The tables for others, over Flight SQL: what ADBC, JDBC and ODBC drivers of Arrow speak.
//!
//! Read-only. Each statement sees one night, whole: its ticket names the version of `runs` that was the newest, at most
//! [`ServeOptions::refresh`] ago, when it was planned, or the night that the header `eventide-as-of` asks for. Results
//! are sent as they are computed; whoever stops reading stops the work. All statements share one limit of memory and
//! one of disk, and no more than so many run at a time.

mod metadata;
mod nights;
mod rows;
mod service;
mod tickets;
mod token;

use std::{future::Future, num::NonZeroUsize, sync::Arc, time::Duration};

use arrow_flight::flight_service_server::FlightServiceServer;
use object_store::ObjectStore;
use tokio::net::TcpListener;
use tonic::{
    Request,
    transport::{Identity, Server, ServerTlsConfig, server::TcpIncoming},
};

pub use token::Token;

use crate::{Error, Options, Result, SearchOptions, error::CauseFrom};
use nights::Nights;
use service::Service;

/// The header by which a client asks for an earlier night: a run, a version or a time, as [`crate::AsOf::parse`] reads it.
pub const AS_OF: &str = "eventide-as-of";

/// How often a client that says nothing is asked whether it is still there, and how long it may take to answer.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// Calls that a connection may have under way.
const CALLS: u32 = 256;

/// How statements are served.
#[derive(Debug, Clone)]
pub struct ServeOptions {
    /// Memory and disk for all statements together.
    pub session: Options,
    /// What clients must have; none lets everybody in.
    pub token: Option<Token>,
    /// The certificate to show; none speaks in the clear.
    pub tls: Option<Tls>,
    /// Statements that run at a time.
    pub statements: NonZeroUsize,
    /// How long a statement waits for its turn; then it is refused.
    pub queue: Duration,
    /// How long a statement may run, its reader's pauses included; then it fails.
    pub statement_time: Duration,
    /// How old the newest published versions may be that a statement sees.
    pub refresh: Duration,
    /// How events are searched; if that is not said there is no `search(...)`.
    pub search: Option<SearchOptions>,
}

impl Default for ServeOptions {
    /// 16 statements at a time, each for up to an hour; a new night is seen after 2 seconds. No token, no certificate, no
    /// search.
    fn default() -> Self {
        Self {
            session: Options::default(),
            token: None,
            tls: None,
            statements: const { NonZeroUsize::new(16).unwrap() },
            queue: Duration::from_secs(30),
            statement_time: Duration::from_hours(1),
            refresh: Duration::from_secs(2),
            search: None,
        }
    }
}

/// A certificate and its key, in PEM.
#[derive(Clone)]
pub struct Tls {
    /// The certificate, and those that vouch for it.
    pub certificate: Vec<u8>,
    /// Its private key.
    pub key: Vec<u8>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tls")
    }
}

/// Serves statements over the tables below `uri`, with `store` as the whole of its bucket, or the file system from its
/// root, until `stop` is done. There need not be any tables yet.
///
/// # Errors
/// [`Error::Engine`]; [`Error::Serve`] where the certificate is of no use, or the connection is.
pub async fn serve(
    listener: TcpListener,
    store: Arc<dyn ObjectStore>,
    uri: &str,
    options: &ServeOptions,
    stop: impl Future<Output = ()>,
) -> Result<()> {
    let wrong = |source: tonic::transport::Error| Error::Serve { source: source.cause() };
    let nights = Nights::of(store, uri, options)?;
    let token = options.token.clone().map(Arc::new);
    let service = FlightServiceServer::new(Service::new(nights, options)?);
    let admit = move |request: Request<()>| match &token {
        Some(token) => token.admit(request),
        None => Ok(request),
    };
    let mut server = Server::builder()
        .max_concurrent_streams(Some(CALLS))
        .http2_keepalive_interval(Some(KEEP_ALIVE))
        .http2_keepalive_timeout(Some(KEEP_ALIVE));
    if let Some(Tls { certificate, key }) = &options.tls {
        // Several are linked in, so one must be named. Whoever named one before has it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let identity = Identity::from_pem(certificate, key);
        server = server.tls_config(ServerTlsConfig::new().identity(identity)).map_err(wrong)?;
    }
    let service = tonic::service::interceptor::InterceptedService::new(service, admit);
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let serving = server.add_service(service).serve_with_incoming_shutdown(incoming, stop);
    serving.await.map_err(wrong)
}
