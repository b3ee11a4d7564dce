//! `eventide serve`: a page to find and watch events, and the HTTP API behind it.

mod pictures;

use std::{net::SocketAddr, pin::pin, process::ExitCode, sync::Arc};

use clap::Args;
use eventide_catalog::{Stores, Tables};
use eventide_query::{
    Guard, Options, Page, Pictures, Record, RecordError, Reference, References, Served,
};
use futures::FutureExt;
use miette::{IntoDiagnostic, WrapErr};
use tokio::{net::TcpListener, sync::Mutex};

use super::{Stop, absolute, eval, index::told_to_stop, model::search_options, sql};
use crate::{arguments::ToolArguments, environment};

/// What the environment has to do with it.
const ENVIRONMENT: &str = "Environment:
  EVENTIDE_SERVE_TOKEN       what requests must have, as `Authorization: Bearer TOKEN`; the page asks for it
  EVENTIDE_SERVE_TOKEN_FILE  a file that holds it instead";

/// Arguments of `serve`.
#[derive(Debug, Args)]
#[command(after_help = ENVIRONMENT)]
pub(crate) struct ServeArguments {
    /// Where the tables are. There need not be any yet.
    #[arg(long, env = "EVENTIDE_TABLES", value_name = "URI")]
    tables: String,
    /// Where it listens. Other addresses than this machine's own need `EVENTIDE_SERVE_TOKEN`, or --auth-header.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// A header that a proxy sets once it knows who asks; requests without it are refused. Only that proxy
    /// may reach the address.
    #[arg(long, value_name = "NAME")]
    auth_header: Option<String>,
    /// References to show beside the events: JSON files as `eventide eval` reads them, one an annotator, whose
    /// videos are called as their files are, without folder and extension.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    references: Vec<String>,
    /// The bundle of a text encoder, as `eventide model import --text-encoder` makes it: plain words
    /// find captions that mean alike, too. Each different caption is embedded once, on the cores of this machine, and kept.
    #[arg(long, value_name = "BUNDLE")]
    embeddings: Option<String>,
    #[command(flatten)]
    tools: ToolArguments,
    /// Lets people say on the page whether events are right: writes the table `feedback`.
    #[arg(long)]
    feedback: bool,
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
    let uri = absolute(&arguments.tables)?;
    let record = arguments.feedback.then(|| recorder(stores, &uri)).transpose()?;
    let opened = stores.open(&uri);
    let location =
        opened.map_err(|error| Stop::bad_job(miette::miette!("{}", super::chain(&error))))?;
    let videos = Arc::clone(stores);
    let served = Served {
        store: location.store,
        uri: location.uri,
        options: Options::default(),
        search: search_options(arguments.embeddings.as_deref(), stores, &arguments.tools).await?,
        locate: Arc::new(move |uri| {
            let place = videos.open(uri).ok()?;
            Some((place.store, place.prefix))
        }),
        pictures: pictures_of(arguments, stores),
        references: references(&arguments.references, stores).await?,
        record,
        guard,
    };
    let wrong = || format!("cannot listen at `{}`", arguments.listen);
    let listener = TcpListener::bind(arguments.listen).await.into_diagnostic();
    let listener = listener.wrap_err_with(wrong).map_err(Stop::bad_job)?;
    let address = listener.local_addr().into_diagnostic().map_err(Stop::bad_job)?;
    let mut stop = pin!(told_to_stop());
    let page = tokio::select! {
        page = Page::open(served) => page.map_err(sql::stop)?,
        () = &mut stop => return Ok(ExitCode::SUCCESS),
    };
    println!("page at http://{address}/");
    page.serve(listener, stop).await;
    Ok(ExitCode::SUCCESS)
}

/// What annotators say about a video, if there are any.
async fn references(places: &[String], stores: &Stores) -> Result<Option<References>, Stop> {
    if places.is_empty() {
        return Ok(None);
    }
    let annotators = eval::references(places, stores).await?;
    Ok(Some(Arc::new(move |uri: &str| {
        let events = (1..).zip(&annotators).flat_map(|(annotator, annotations)| {
            let events = annotations.get(eval::stem(uri)).unwrap_or_default();
            events.iter().map(move |event| Reference {
                annotator,
                start_ms: milliseconds(event.span.start),
                end_ms: milliseconds(event.span.end),
                caption: event.caption.clone(),
            })
        });
        events.collect()
    })))
}

#[expect(clippy::cast_possible_truncation, reason = "a float past the range becomes its end")]
fn milliseconds(seconds: f64) -> i64 {
    (seconds * 1000.0).round() as i64
}

/// Pictures of events, where there is FFmpeg to make them.
fn pictures_of(arguments: &ServeArguments, stores: &Arc<Stores>) -> Option<Pictures> {
    let tools = environment::media_tools(&arguments.tools);
    let tools = tools.inspect_err(|error| tracing::info!(%error, "the page has no pictures"));
    let made =
        pictures::pictures(tools.ok()?, stores, environment::cache_folder().join("pictures"));
    made.inspect_err(|error| tracing::warn!(%error, "the page has no pictures")).ok()
}

/// Writes what people say, a row at a time.
fn recorder(stores: &Stores, uri: &str) -> Result<Record, Stop> {
    let tables = Tables::open(stores, uri);
    let tables =
        tables.map_err(|error| Stop::bad_job(miette::miette!("{}", super::chain(&error))))?;
    let tables = Arc::new(Mutex::new(tables));
    Ok(Arc::new(move |row| {
        let tables = Arc::clone(&tables);
        let written = async move {
            let written = tables.lock().await.add_feedback(&[row]).await;
            written.map_err(|error| RecordError::from(super::chain(&error)))
        };
        written.boxed()
    }))
}

fn guard(arguments: &ServeArguments) -> Result<Guard, Stop> {
    let token = environment::serve_token()
        .into_diagnostic()
        .wrap_err("cannot read the file that `EVENTIDE_SERVE_TOKEN_FILE` names")
        .map_err(Stop::bad_job)?;
    Guard::new(token.as_deref(), arguments.auth_header.as_deref()).map_err(sql::stop)
}
