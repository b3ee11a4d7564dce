//! The page to find and watch events, and the HTTP API behind it. Answers only: nothing here writes.
//!
//! `api` turns questions into rows, `feedback` hands on what people say, `media` passes ranges of a video on, `guard` says who may ask and how much,
//! `nights` looks for new runs, `connections` bounds what a client may hold. Names in answers are those of the
//! tables. A new run is seen within seconds.

mod answers;
mod api;
mod connections;
mod feedback;
mod guard;
mod media;
mod nights;
mod openapi;
mod page;
mod pictures;

use std::{future::Future, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::State,
    http::{HeaderName, HeaderValue, StatusCode, header},
    middleware,
    response::{IntoResponse, Response},
    routing::get,
};
use object_store::ObjectStore;
use tokio::{net::TcpListener, sync::Semaphore, task::JoinSet};
use tower_http::{
    limit::RequestBodyLimitLayer, set_header::SetResponseHeaderLayer, timeout::TimeoutLayer,
};

pub use api::{Reference, References};
pub use feedback::{Record, RecordError};
pub use guard::Guard;
pub use openapi::open_api;
pub use pictures::{Moment, Pictures};

use crate::{Options, Result, SearchOptions};
use nights::Nights;

/// Time that an answer of the API may take.
const PATIENCE: Duration = Duration::from_mins(1);
/// Bytes of a request's body.
const MOST_BODY: usize = 16 << 10;
/// Requests that are answered at once. More are told to come again.
const MOST_REQUESTS: usize = 64;
/// Videos that are read at once, each until its last byte is sent. More are told to come again.
const MOST_VIDEOS: usize = 32;

/// What the page may load: only what this process serves.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; \
    media-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/// What every answer says of itself: other sites may neither show nor embed it.
fn safety() -> [(HeaderName, &'static str); 5] {
    [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ]
}

/// Finds the store and the path of the address of a video. `None` where it cannot be opened.
pub type Locate =
    Arc<dyn Fn(&str) -> Option<(Arc<dyn ObjectStore>, object_store::path::Path)> + Send + Sync>;

/// What is served.
#[derive(Clone)]
pub struct Served {
    /// The store of the tables, as of [`Session::open`](crate::Session::open).
    pub store: Arc<dyn ObjectStore>,
    /// Where the tables are. There need not be any yet.
    pub uri: String,
    /// What queries may use.
    pub options: Options,
    /// How events are searched.
    pub search: SearchOptions,
    /// Opens the addresses that the table `videos` holds.
    pub locate: Locate,
    /// Makes pictures of events. `None` where there are to be none.
    pub pictures: Option<Pictures>,
    /// What annotators say about a video. `None` where there are no references.
    pub references: Option<References>,
    /// Writes what people say about events. `None` where nobody may say anything.
    pub record: Option<Record>,
    /// Who may ask.
    pub guard: Guard,
}

impl std::fmt::Debug for Served {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Served").field("uri", &self.uri).finish_non_exhaustive()
    }
}

/// What all requests share.
pub(crate) struct Site {
    served: Served,
    nights: Nights,
    requests: Semaphore,
    videos: Arc<Semaphore>,
    waiting: Semaphore,
}

/// The page with the newest night, ready to be served.
pub struct Page {
    site: Arc<Site>,
}

impl std::fmt::Debug for Page {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Page").field("served", &self.site.served).finish()
    }
}

impl Page {
    /// Opens the newest night and brings the search index to it, which may take minutes the first time. Where
    /// nothing was published yet, the page waits for it.
    ///
    /// # Errors
    /// As [`Session::open`](crate::Session::open) and
    /// [`Session::search_index`](crate::Session::search_index), but for tables that are not there yet.
    pub async fn open(served: Served) -> Result<Self> {
        let nights = Nights::open(&served).await?;
        let requests = Semaphore::new(MOST_REQUESTS);
        let videos = Arc::new(Semaphore::new(MOST_VIDEOS));
        let waiting = Semaphore::new(pictures::MOST_WAITING);
        Ok(Self { site: Arc::new(Site { served, nights, requests, videos, waiting }) })
    }

    /// Answers at `listener` until `stop` is ready. Answers under way are finished, or cut off after ten
    /// seconds. Newer nights are looked for meanwhile.
    pub async fn serve(self, listener: TcpListener, stop: impl Future<Output = ()>) {
        let site = Arc::clone(&self.site);
        let mut background = JoinSet::new();
        background.spawn(async move { site.nights.follow(&site.served).await });
        connections::serve(listener, routes(self.site), stop).await;
    }
}

fn routes(site: Arc<Site>) -> Router {
    let late = TimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, PATIENCE);
    let api = api::routes()
        .layer(middleware::from_fn_with_state(Arc::clone(&site), guard::admit))
        .layer(late);
    let routes = Router::new()
        .nest("/api/v1", api)
        .route("/media/{video_id}", get(media::media))
        .merge(page::files())
        .layer(middleware::from_fn_with_state(Arc::clone(&site), places))
        .layer(RequestBodyLimitLayer::new(MOST_BODY));
    let safe = safety().into_iter().fold(routes, |routes, (name, value)| {
        routes.layer(SetResponseHeaderLayer::overriding(name, HeaderValue::from_static(value)))
    });
    safe.with_state(site)
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
    let Ok(_place) = site.requests.try_acquire() else { return come_again() };
    next.run(request).await
}

/// There is no room now.
fn come_again() -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "1")]).into_response()
}
