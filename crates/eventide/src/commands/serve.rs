//! `eventide serve`: a page to find and watch events, and the HTTP API behind it.

use std::{net::SocketAddr, process::ExitCode, sync::Arc};

use clap::Args;
use eventide_catalog::Stores;
use eventide_query::{Guard, Options, Served, serve};
use miette::{IntoDiagnostic, WrapErr};
use tokio::net::TcpListener;

use super::{Stop, absolute, index::told_to_stop, sql};
use crate::environment;

/// What the environment has to do with it.
const ENVIRONMENT: &str = "Environment:
  EVENTIDE_SERVE_TOKEN       what requests must have, as `Authorization: Bearer TOKEN`; the page asks for it
  EVENTIDE_SERVE_TOKEN_FILE  a file that holds it instead";

/// Arguments of `serve`.
#[derive(Debug, Args)]
#[command(after_help = ENVIRONMENT)]
pub(crate) struct ServeArguments {
    /// Where the tables are.
    #[arg(long, env = "EVENTIDE_TABLES", value_name = "URI")]
    tables: String,
    /// Where it listens. Other addresses than this machine's own need `EVENTIDE_SERVE_TOKEN`, or --auth-header.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// A header that a proxy sets once it knows who asks; requests without it are refused. Only that proxy
    /// may reach the address.
    #[arg(long, value_name = "NAME")]
    auth_header: Option<String>,
}

/// Serves until it is told to stop.
pub(super) async fn run(
    arguments: &ServeArguments,
    stores: &Arc<Stores>,
) -> Result<ExitCode, Stop> {
    let guard = guard(arguments)?;
    if guard.is_open() && !arguments.listen.ip().is_loopback() {
        return Err(Stop::bad_job(miette::miette!(
            help = "set EVENTIDE_SERVE_TOKEN, or give --auth-header behind a proxy",
            "`{}` is reached by others, and nothing would be asked of them",
            arguments.listen
        )));
    }
    let opened = stores.open(&absolute(&arguments.tables)?);
    let location =
        opened.map_err(|error| Stop::bad_job(miette::miette!("{}", super::chain(&error))))?;
    let videos = Arc::clone(stores);
    let served = Served {
        store: location.store,
        uri: location.uri,
        options: Options::default(),
        search_folder: environment::cache_folder().join("search"),
        locate: Arc::new(move |uri| {
            let place = videos.open(uri).ok()?;
            Some((place.store, place.prefix))
        }),
        guard,
    };
    let wrong = || format!("cannot listen at `{}`", arguments.listen);
    let listener = TcpListener::bind(arguments.listen).await.into_diagnostic();
    let listener = listener.wrap_err_with(wrong).map_err(Stop::bad_job)?;
    let address = listener.local_addr().into_diagnostic().map_err(Stop::bad_job)?;
    println!("page at http://{address}/");
    serve(listener, served, told_to_stop()).await.map_err(sql::stop)?;
    Ok(ExitCode::SUCCESS)
}

fn guard(arguments: &ServeArguments) -> Result<Guard, Stop> {
    let token = environment::serve_token()
        .into_diagnostic()
        .wrap_err("cannot read the file that `EVENTIDE_SERVE_TOKEN_FILE` names")
        .map_err(Stop::bad_job)?;
    let token = token.map(|token| token.trim().to_owned());
    if token.as_ref().is_some_and(String::is_empty) {
        return Err(Stop::bad_job(miette::miette!(
            "there is no token in the file that `EVENTIDE_SERVE_TOKEN_FILE` names"
        )));
    }
    Ok(Guard { token, header: arguments.auth_header.clone() })
}
