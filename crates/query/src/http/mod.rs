//! The page to find and watch events, and the HTTP API behind it. Answers only: nothing here writes.
//!
//! `api` turns questions into rows, `media` passes ranges of a video on, `guard` says who may ask and how much.
//! Names in answers are those of the tables. A new run is seen within seconds.

mod api;
mod guard;
mod media;

use std::{
    future::Future,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Router,
    extract::State,
    http::{HeaderValue, StatusCode, header},
    middleware,
    response::{IntoResponse, Response},
    routing::get,
};
use object_store::ObjectStore;
use tokio::{
    net::TcpListener,
    sync::{Mutex, Semaphore},
};
use tower_http::{
    limit::RequestBodyLimitLayer, set_header::SetResponseHeaderLayer, timeout::TimeoutLayer,
};

pub use guard::Guard;

use crate::{Error, Options, Result, SearchIndex, Session, error::CauseFrom};

/// How old what is shown may be before it is looked whether a run was published.
const LOOK_EVERY: Duration = Duration::from_secs(3);
/// Time that an answer of the API may take to begin.
const PATIENCE: Duration = Duration::from_mins(1);
/// Bytes of a request's body: none is read.
const MOST_BODY: usize = 16 << 10;
/// Requests that are answered at once. More are told to come again.
const MOST_REQUESTS: usize = 64;

/// What the page may load: only what this process serves.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
    media-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/// Finds the store and the path of the address of a video. `None` where it cannot be opened.
pub type Locate =
    Arc<dyn Fn(&str) -> Option<(Arc<dyn ObjectStore>, object_store::path::Path)> + Send + Sync>;

/// What is served.
#[derive(Clone)]
pub struct Served {
    /// The store of the tables, as of [`Session::open`].
    pub store: Arc<dyn ObjectStore>,
    /// Where the tables are.
    pub uri: String,
    /// What queries may use.
    pub options: Options,
    /// The folder that the search index is kept below.
    pub search_folder: PathBuf,
    /// Opens the addresses that the table `videos` holds.
    pub locate: Locate,
    /// Who may ask.
    pub guard: Guard,
}

impl std::fmt::Debug for Served {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Served").field("uri", &self.uri).finish_non_exhaustive()
    }
}

/// The tables of one night with their index.
#[derive(Debug)]
pub(crate) struct Night {
    session: Session,
    index: SearchIndex,
}

/// What all requests share.
pub(crate) struct Site {
    served: Served,
    night: Mutex<(Arc<Night>, Instant)>,
    places: Semaphore,
}

impl Site {
    async fn new(served: Served) -> Result<Self> {
        let night = Arc::new(open(&served).await?);
        let places = Semaphore::new(MOST_REQUESTS);
        Ok(Self { served, night: Mutex::new((night, Instant::now())), places })
    }

    /// The newest published night, as of some seconds ago. One that cannot be opened leaves the one before.
    async fn night(&self) -> Arc<Night> {
        let mut held = self.night.lock().await;
        if held.1.elapsed() >= LOOK_EVERY {
            match self.newer(&held.0).await {
                Ok(Some(night)) => held.0 = Arc::new(night),
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(error = error.with_causes(), "cannot look for a newer run");
                }
            }
            held.1 = Instant::now();
        }
        Arc::clone(&held.0)
    }

    async fn newer(&self, held: &Night) -> Result<Option<Night>> {
        let Served { store, uri, options, search_folder, .. } = &self.served;
        let session = Session::open(Arc::clone(store), uri, options).await?;
        let versions = |session: &Session| {
            session.tables().iter().map(|table| table.version).collect::<Vec<_>>()
        };
        if versions(&session) == versions(&held.session) {
            return Ok(None);
        }
        let index = session.search_index(search_folder).await?;
        Ok(Some(Night { session, index }))
    }
}

async fn open(served: &Served) -> Result<Night> {
    let session = Session::open(Arc::clone(&served.store), &served.uri, &served.options).await?;
    let index = session.search_index(&served.search_folder).await?;
    Ok(Night { session, index })
}

/// Serves the page at `listener` until `stop` is ready; answers under way are finished.
///
/// # Errors
/// As [`Session::open`] and [`Session::search_index`] when the tables cannot be opened; [`Error::Serve`].
pub async fn serve(
    listener: TcpListener,
    served: Served,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<()> {
    let site = Arc::new(Site::new(served).await?);
    let failed = |source: std::io::Error| Error::Serve { source: source.cause() };
    axum::serve(listener, routes(site)).with_graceful_shutdown(stop).await.map_err(failed)
}

fn routes(site: Arc<Site>) -> Router {
    let late = TimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, PATIENCE);
    let api = api::routes()
        .layer(middleware::from_fn_with_state(Arc::clone(&site), guard::admit))
        .layer(late);
    let header =
        |name, value| SetResponseHeaderLayer::overriding(name, HeaderValue::from_static(value));
    Router::new()
        .nest("/api/v1", api)
        .route("/media/{video_id}", get(media::media))
        .merge(page())
        .layer(middleware::from_fn_with_state(Arc::clone(&site), places))
        .layer(RequestBodyLimitLayer::new(MOST_BODY))
        .layer(header(header::CONTENT_SECURITY_POLICY, POLICY))
        .layer(header(header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .layer(header(header::REFERRER_POLICY, "no-referrer"))
        .layer(header(header::X_FRAME_OPTIONS, "DENY"))
        .with_state(site)
}

/// The files of the page.
fn page() -> Router<Arc<Site>> {
    let file = |kind: &'static str, text: &'static str| {
        get(move || async move {
            ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-cache")], text)
        })
    };
    let script = "text/javascript; charset=utf-8";
    Router::new()
        .route("/", file("text/html; charset=utf-8", include_str!("../../assets/index.html")))
        .route("/app.css", file("text/css; charset=utf-8", include_str!("../../assets/app.css")))
        .route("/app.js", file(script, include_str!("../../assets/app.js")))
        .route("/preact.js", file(script, include_str!("../../assets/vendor/preact-htm.js")))
}

/// Refuses what there is no room for, and what another site had a browser ask.
async fn places(
    State(site): State<Arc<Site>>,
    request: axum::extract::Request,
    next: middleware::Next,
) -> Response {
    if !site.served.guard.knows_host(request.headers()) {
        return (StatusCode::MISDIRECTED_REQUEST, "this host is not known here").into_response();
    }
    let Ok(_place) = site.places.try_acquire() else {
        return (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "1")]).into_response();
    };
    next.run(request).await
}
