//! `eventide flight`: the tables for others, over Flight SQL.

use std::{net::SocketAddr, num::NonZeroUsize, path::PathBuf, process::ExitCode, time::Duration};

use bytesize::ByteSize;
use clap::Args;
use eventide_catalog::Stores;
use eventide_query::{
    Options,
    flight::{self, ServeOptions, Tls, Token},
};
use miette::{IntoDiagnostic, WrapErr};
use tokio::net::TcpListener;

use super::{Stop, absolute, index::told_to_stop, model::search_options, scheduler::seconds, sql};
use crate::{arguments::ToolArguments, environment};

/// What a server reads of the environment and has no flag for.
const ENVIRONMENT: &str = "\
Environment:
  EVENTIDE_SERVE_TOKEN       what clients must have: as bearer token, or as password with any user name
  EVENTIDE_SERVE_TOKEN_FILE  a file that holds it instead

A client asks for an earlier night by the header `eventide-as-of`: a run, a version of `runs`, or a time.";

/// Arguments of `flight`.
#[derive(Debug, Args)]
#[command(after_help = ENVIRONMENT)]
pub(crate) struct FlightArguments {
    /// Where the tables are. There need not be any yet.
    #[arg(long, env = "EVENTIDE_TABLES", value_name = "URI")]
    tables: String,
    /// Where it listens. Without `EVENTIDE_SERVE_TOKEN`, whoever reaches this address can read the tables.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:50060")]
    listen: SocketAddr,
    /// The certificate to show, in PEM, with those that vouch for it.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Its private key, in PEM.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Memory that sorts, joins and groups of all statements may hold; what does not fit is spilled to disk.
    #[arg(long, value_name = "SIZE", default_value = "2GiB")]
    memory: ByteSize,
    /// What may be spilled to disk. A statement that needs more fails.
    #[arg(long, value_name = "SIZE", default_value = "32GiB")]
    spill: ByteSize,
    /// Statements that run at a time.
    #[arg(long, value_name = "N", default_value = "16")]
    statements: NonZeroUsize,
    /// How long a statement waits for its turn; then it is refused.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = seconds)]
    queue: Duration,
    /// How long a statement may run.
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = seconds)]
    statement_time: Duration,
    /// How long after a run is published its rows may be missing.
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = seconds)]
    refresh: Duration,
    /// The bundle of a text encoder, as `eventide model import --text-encoder` makes it: plain words in `search(...)`
    /// find captions that mean alike, too. Each different caption is embedded once, on the cores of this machine, and kept.
    #[arg(long, value_name = "BUNDLE")]
    embeddings: Option<String>,
    /// The tools that it works with.
    #[command(flatten)]
    tools: ToolArguments,
}

pub(super) async fn run(arguments: &FlightArguments, stores: &Stores) -> Result<ExitCode, Stop> {
    let embeddings = arguments.embeddings.as_deref();
    let search = search_options(embeddings, stores, &arguments.tools).await?;
    let options = ServeOptions { search: Some(search), ..options(arguments)? };
    let location = stores.open(&absolute(&arguments.tables)?);
    let location =
        location.map_err(|error| Stop::bad_job(miette::miette!("{}", super::chain(&error))))?;
    let listen = arguments.listen;
    let listener = TcpListener::bind(listen)
        .await
        .into_diagnostic()
        .wrap_err_with(|| format!("cannot listen at `{listen}`"))
        .map_err(Stop::bad_job)?;
    let address = listener.local_addr().into_diagnostic().map_err(Stop::failed)?;
    if !listen.ip().is_loopback() && options.token.is_none() {
        let ip = listen.ip();
        tracing::warn!("whoever reaches {ip} can read the tables: set EVENTIDE_SERVE_TOKEN");
    }
    if !listen.ip().is_loopback() && options.tls.is_none() {
        tracing::warn!("what passes through {address} can be read on the way: give --tls-cert");
    }
    let scheme = if options.tls.is_some() { "grpc+tls" } else { "grpc" };
    println!("flight sql listens at {scheme}://{address}");
    let served = flight::serve(listener, location.store, &location.uri, &options, told_to_stop());
    served.await.map_err(sql::stop)?;
    Ok(ExitCode::SUCCESS)
}

fn options(arguments: &FlightArguments) -> Result<ServeOptions, Stop> {
    let token = environment::serve_token()
        .into_diagnostic()
        .wrap_err("cannot read the file that `EVENTIDE_SERVE_TOKEN_FILE` names")
        .map_err(Stop::bad_job)?;
    let token = token.as_deref().map(Token::new).transpose();
    let token = token.map_err(sql::stop)?;
    let read = |path: &PathBuf| {
        std::fs::read(path)
            .into_diagnostic()
            .wrap_err_with(|| format!("cannot read `{}`", path.display()))
            .map_err(Stop::bad_job)
    };
    let tls = match (&arguments.tls_cert, &arguments.tls_key) {
        (Some(certificate), Some(key)) => {
            Some(Tls { certificate: read(certificate)?, key: read(key)? })
        }
        _ => None,
    };
    Ok(ServeOptions {
        session: Options {
            memory_bytes: usize::try_from(arguments.memory.as_u64()).unwrap_or(usize::MAX),
            spill_bytes: arguments.spill.as_u64(),
            ..Options::default()
        },
        token,
        tls,
        statements: arguments.statements,
        queue: arguments.queue,
        statement_time: arguments.statement_time,
        refresh: arguments.refresh,
        search: None,
    })
}
