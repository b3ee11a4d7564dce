//! `/api/v1`: rows of the tables as JSON, under the names that the tables give them.

use std::{fmt::Write as _, sync::Arc};

use axum::{
    Json, Router,
    extract::{Path, Query, State},
    http::header,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::{
    Served, Site,
    answers::{Event, Failure, Hit, Run, Transcript, Video, json_of, stream_of},
    feedback,
    nights::Night,
    openapi::open_api,
    pictures,
};
use crate::{Error, Filters, error::CauseFrom, subtitles};

/// Rows that a page of a list has, at most.
const MOST_ROWS: usize = 1000;

pub(super) fn routes() -> Router<Arc<Site>> {
    Router::new()
        .route("/about", get(about))
        .route("/search", get(search))
        .route("/groups", get(groups))
        .route("/videos", get(videos))
        .route("/videos/{video_id}", get(video))
        .route("/videos/{video_id}/events", get(events))
        .route("/videos/{video_id}/events.vtt", get(captions))
        .route("/videos/{video_id}/transcripts", get(transcripts))
        .route("/videos/{video_id}/references", get(references))
        .route("/videos/{video_id}/picture", get(pictures::picture))
        .route("/videos/{video_id}/feedback", get(feedback::marks))
        .route("/feedback", post(feedback::mark))
        .route("/runs", get(runs))
        .route("/failures", get(failures))
        .route("/openapi.json", get(|| async { Json(open_api()) }))
}

pub(super) type Answer<T> = Result<Json<T>, Failure>;

/// What this server does beside answering.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct About {
    /// Whether it takes feedback on events.
    feedback: bool,
    /// Whether it makes pictures of videos.
    pictures: bool,
    /// Whether it has references.
    references: bool,
    /// The text encoder by which plain words find captions that mean alike, too; null where there is none.
    #[schema(required)]
    text_encoder: Option<String>,
}

/// What this server does beside answering.
#[utoipa::path(get, path = "/api/v1/about", responses(
    (status = 200, description = "As it was started", body = About),
))]
pub(super) async fn about(State(site): State<Arc<Site>>) -> Json<About> {
    let Served { record, pictures, references, search, .. } = &site.served;
    Json(About {
        feedback: record.is_some(),
        pictures: pictures.is_some(),
        references: references.is_some(),
        text_encoder: search.embedder.as_ref().map(|embedder| embedder.model.clone()),
    })
}

/// What `/search` takes.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub(super) struct Asked {
    /// Words, "phrases", AND, OR, NOT, `garlic NEAR pan`, `gar*`. None match every event.
    q: String,
    /// Events of one answer, 1 to 1000; 50 if not given.
    limit: Option<usize>,
    /// How many of the best are left out, up to 10000.
    offset: usize,
    /// The run that found the event.
    run_id: Option<String>,
    /// The model that found it.
    model_id: Option<String>,
    /// The language of the speech.
    language: Option<String>,
    /// `vid2seq` or `speech`.
    source: Option<String>,
    /// The video.
    video_id: Option<String>,
    /// The least mean log-probability; events without one are left out.
    min_score: Option<f64>,
    /// Indexed at this moment or later, milliseconds since 1970 (UTC).
    since_ms: Option<i64>,
    /// Indexed before this moment, likewise.
    until_ms: Option<i64>,
    /// The least length of the event.
    min_duration_ms: Option<i64>,
    /// The greatest length of the event.
    max_duration_ms: Option<i64>,
}

impl Asked {
    fn filters(&self) -> Filters {
        let text = |value: &Option<String>| value.clone().filter(|value| !value.is_empty());
        let micros = |ms: Option<i64>| ms.map(|ms| ms.saturating_mul(1000));
        Filters {
            run_id: text(&self.run_id),
            model_id: text(&self.model_id),
            language: text(&self.language),
            source: text(&self.source),
            video_id: text(&self.video_id),
            min_score: self.min_score.filter(|score| score.is_finite()),
            since_us: micros(self.since_ms),
            until_us: micros(self.until_ms),
            min_duration_ms: self.min_duration_ms,
            max_duration_ms: self.max_duration_ms,
        }
    }
}

/// The best events.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Found {
    /// How many there are in all.
    total: usize,
    /// The version of `events` that was searched.
    #[schema(required)]
    events_version: Option<u64>,
    /// The best first.
    #[schema(value_type = Vec<Hit>)]
    events: Value,
}

/// Full-text search over captions and speech. Where the server has a text encoder, plain words find captions that mean
/// alike, too, and both lists become one by reciprocal rank fusion (`rrf`).
#[utoipa::path(get, path = "/api/v1/search", params(Asked), responses(
    (status = 200, description = "What was found", body = Found),
    (status = 400, description = "The words cannot be understood", body = Failure),
    (status = 503, description = "No run has been published yet", body = Failure),
))]
pub(super) async fn search(
    State(site): State<Arc<Site>>,
    Query(asked): Query<Asked>,
) -> Answer<Found> {
    let index = night(&site)?.index.clone();
    let events_version = index.version();
    let found = tokio::task::spawn_blocking(move || {
        let limit = asked.limit.unwrap_or(50).clamp(1, MOST_ROWS);
        index.search(&asked.q, &asked.filters(), limit, asked.offset)
    });
    let ended = |source: tokio::task::JoinError| Error::Run { source: source.cause() };
    let found = found.await.map_err(ended)??;
    let events = json_of(stream_of(found.rows)).await?;
    Ok(Json(Found { total: found.total, events_version, events }))
}

/// How many events share these four, and how sure the model was.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the rows of `GROUPS` in words")]
pub(super) struct Group {
    run_id: String,
    model_id: String,
    #[schema(required)]
    language: Option<String>,
    source: String,
    /// How many there are.
    events: i64,
    /// How many of them have a score.
    scored: i64,
    /// The mean of the scores.
    #[schema(required)]
    mean_score: Option<f64>,
}

/// What events can be told apart by. Newest runs first.
const GROUPS: &str = "SELECT run_id, model_id, language, source, count(*) AS events, \
    count(score) AS scored, avg(CAST(score AS DOUBLE)) AS mean_score FROM events \
    GROUP BY run_id, model_id, language, source ORDER BY run_id DESC, model_id, language, source LIMIT 1000";

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Groups {
    /// Newest runs first.
    #[schema(value_type = Vec<Group>)]
    groups: Value,
}

/// What events can be told apart by: runs, models, languages and sources that occur together.
#[utoipa::path(get, path = "/api/v1/groups", responses(
    (status = 200, description = "At most 1000 groups", body = Groups),
    (status = 503, description = "No run has been published yet", body = Failure),
))]
pub(super) async fn groups(State(site): State<Arc<Site>>) -> Answer<Groups> {
    let night = night(&site)?;
    let groups = night.groups.get_or_try_init(|| rows(&night, GROUPS)).await?;
    Ok(Json(Groups { groups: groups.clone() }))
}

/// Which part of a list is asked for.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub(super) struct Part {
    /// Rows of one answer, up to 1000; 100 if not given.
    limit: Option<usize>,
    /// How many rows are left out.
    offset: usize,
}

impl Part {
    fn sql(&self) -> String {
        format!("LIMIT {} OFFSET {}", self.limit.unwrap_or(100).min(MOST_ROWS), self.offset)
    }
}

/// Which videos are asked for.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// Only those with this status: `captioned`, `empty`, `failed`, `skipped`.
    status: Option<String>,
    /// Only those that failed for this reason.
    reason_code: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Videos {
    /// In the order of their addresses.
    #[schema(value_type = Vec<Video>)]
    videos: Value,
}

/// Videos and what became of them.
#[utoipa::path(get, path = "/api/v1/videos", params(Which, Part), responses(
    (status = 200, description = "A part of the list", body = Videos),
    (status = 503, description = "No run has been published yet", body = Failure),
))]
pub(super) async fn videos(
    State(site): State<Arc<Site>>,
    Query(which): Query<Which>,
    Query(part): Query<Part>,
) -> Answer<Videos> {
    let mut statement = "SELECT * FROM videos WHERE true".to_owned();
    for (column, value) in [("status", &which.status), ("reason_code", &which.reason_code)] {
        if let Some(value) = value {
            let _ = write!(statement, " AND {column} = {}", quoted(value)); // cannot fail
        }
    }
    let videos = rows(&*night(&site)?, &format!("{statement} ORDER BY uri {}", part.sql())).await?;
    Ok(Json(Videos { videos }))
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct OneVideo {
    #[schema(value_type = Video)]
    video: Value,
    /// Where it can be watched, for two hours where the server asks for a token.
    media: String,
}

/// One video, and a link to watch it.
#[utoipa::path(get, path = "/api/v1/videos/{video_id}",
    params(("video_id" = String, Path, description = "As in the tables")), responses(
    (status = 200, description = "The video", body = OneVideo),
    (status = 404, description = "There is no such video", body = Failure),
    (status = 503, description = "No run has been published yet", body = Failure),
))]
pub(super) async fn video(
    State(site): State<Arc<Site>>,
    Path(video_id): Path<String>,
) -> Answer<OneVideo> {
    let video = video_row(&site, &video_id).await?;
    let video = video.ok_or_else(|| Failure::unknown("there is no such video"))?;
    let link = site.served.guard.link(&video_id);
    Ok(Json(OneVideo { video, media: format!("/media/{video_id}{link}") }))
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Events {
    /// In the order of their starts.
    #[schema(value_type = Vec<Event>)]
    events: Value,
}

/// The events of a video.
#[utoipa::path(get, path = "/api/v1/videos/{video_id}/events",
    params(("video_id" = String, Path, description = "As in the tables")), responses(
    (status = 200, description = "All of them; none where there is no such video", body = Events),
    (status = 503, description = "No run has been published yet", body = Failure),
))]
pub(super) async fn events(
    State(site): State<Arc<Site>>,
    Path(video_id): Path<String>,
) -> Answer<Events> {
    Ok(Json(Events { events: events_of(&site, video_id).await? }))
}

/// The events of a video, by the index: the table may have thousands of files.
async fn events_of(site: &Site, video_id: String) -> Result<Value, Failure> {
    let index = night(site)?.index.clone();
    let found = tokio::task::spawn_blocking(move || index.of_video(&video_id)).await;
    let found = found.map_err(|source| Error::Run { source: source.cause() })??;
    Ok(json_of(stream_of(found)).await?)
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Transcripts {
    /// In the order of their starts.
    #[schema(value_type = Vec<Transcript>)]
    transcripts: Value,
}

/// What is said in a video.
#[utoipa::path(get, path = "/api/v1/videos/{video_id}/transcripts",
    params(("video_id" = String, Path, description = "As in the tables")), responses(
    (status = 200, description = "All of it; none where there is no such video", body = Transcripts),
    (status = 503, description = "No run has been published yet", body = Failure),
))]
pub(super) async fn transcripts(
    State(site): State<Arc<Site>>,
    Path(video_id): Path<String>,
) -> Answer<Transcripts> {
    let transcripts = rows(&*night(&site)?, &said_in(&video_id)).await?;
    Ok(Json(Transcripts { transcripts }))
}

/// What annotators say about the video at an address.
pub type References = Arc<dyn Fn(&str) -> Vec<Reference> + Send + Sync>;

/// An event as an annotator has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Reference {
    /// Which annotator, from 1.
    pub annotator: usize,
    /// When it starts, in milliseconds.
    pub start_ms: i64,
    /// When it ends, likewise.
    pub end_ms: i64,
    /// What happens.
    pub caption: String,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ReferenceEvents {
    /// In the order of their starts.
    references: Vec<Reference>,
}

/// What annotators say about a video, where the server has references.
#[utoipa::path(get, path = "/api/v1/videos/{video_id}/references",
    params(("video_id" = String, Path, description = "As in the tables")), responses(
    (status = 200, description = "All of it; none where nobody has annotated the video", body = ReferenceEvents),
    (status = 503, description = "No run has been published yet", body = Failure),
))]
pub(super) async fn references(
    State(site): State<Arc<Site>>,
    Path(video_id): Path<String>,
) -> Answer<ReferenceEvents> {
    let uri = uri_of(&site, &video_id).await?;
    let found = site.served.references.as_ref().zip(uri);
    let mut references = found.map(|(references, uri)| references(&uri)).unwrap_or_default();
    references.sort_by_key(|reference| (reference.start_ms, reference.end_ms));
    Ok(Json(ReferenceEvents { references }))
}

fn said_in(video_id: &str) -> String {
    format!(
        "SELECT * FROM transcripts WHERE video_id = {} ORDER BY start_ms, end_ms",
        quoted(video_id)
    )
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Runs {
    /// Newest first.
    #[schema(value_type = Vec<Run>)]
    runs: Value,
}

/// Published runs.
#[utoipa::path(get, path = "/api/v1/runs", params(Part), responses(
    (status = 200, description = "A part of the list", body = Runs),
    (status = 503, description = "No run has been published yet", body = Failure),
))]
pub(super) async fn runs(State(site): State<Arc<Site>>, Query(part): Query<Part>) -> Answer<Runs> {
    let statement = format!("SELECT * FROM runs ORDER BY finished_at DESC {}", part.sql());
    Ok(Json(Runs { runs: rows(&*night(&site)?, &statement).await? }))
}

/// Videos that ended alike.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the rows of `FAILURES` in words")]
pub(super) struct FailureGroup {
    /// `failed` or `skipped`.
    status: String,
    #[schema(required)]
    stage: Option<String>,
    #[schema(required)]
    reason_code: Option<String>,
    /// How many there are.
    videos: i64,
    /// One of them.
    video_id: String,
    /// What it says.
    #[schema(required)]
    reason: Option<String>,
}

const FAILURES: &str = "SELECT status, stage, reason_code, count(*) AS videos, \
    min(video_id) AS video_id, min(reason) AS reason FROM videos \
    WHERE status IN ('failed', 'skipped') GROUP BY status, stage, reason_code \
    ORDER BY videos DESC, reason_code LIMIT 1000";

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Failures {
    /// The most frequent first.
    #[schema(value_type = Vec<FailureGroup>)]
    failures: Value,
}

/// Videos without events that should have some, by reason.
#[utoipa::path(get, path = "/api/v1/failures", responses(
    (status = 200, description = "The reasons", body = Failures),
    (status = 503, description = "No run has been published yet", body = Failure),
))]
pub(super) async fn failures(State(site): State<Arc<Site>>) -> Answer<Failures> {
    Ok(Json(Failures { failures: rows(&*night(&site)?, FAILURES).await? }))
}

/// The events of a video as `WebVTT`, to be played with it.
#[utoipa::path(get, path = "/api/v1/videos/{video_id}/events.vtt",
    params(("video_id" = String, Path, description = "As in the tables")), responses(
    (status = 200, description = "Cues", body = String, content_type = "text/vtt"),
    (status = 503, description = "No run has been published yet", body = Failure),
))]
pub(super) async fn captions(
    State(site): State<Arc<Site>>,
    Path(video_id): Path<String>,
) -> Result<Response, Failure> {
    let rows = events_of(&site, video_id).await?;
    let cue = |row: &Value| {
        let ms = |name: &str| row[name].as_i64().unwrap_or_default();
        // A line break would end the cue.
        let words = row["caption"].as_str().unwrap_or_default().split_whitespace();
        (ms("start_ms"), ms("end_ms"), words.collect::<Vec<_>>().join(" "))
    };
    let cues: Vec<_> = rows.as_array().into_iter().flatten().map(cue).collect();
    let kind = [(header::CONTENT_TYPE, "text/vtt; charset=utf-8")];
    Ok((kind, subtitles::web_vtt(&cues)).into_response())
}

/// The row of a video, if there is one.
pub(super) async fn video_row(site: &Site, video_id: &str) -> Result<Option<Value>, Failure> {
    let statement = format!("SELECT * FROM videos WHERE video_id = {}", quoted(video_id));
    let mut rows = rows(&*night(site)?, &statement).await?;
    Ok(rows.as_array_mut().and_then(Vec::pop))
}

/// The address that the table `videos` has for a video.
pub(super) async fn uri_of(site: &Site, video_id: &str) -> Result<Option<String>, Failure> {
    let video = video_row(site, video_id).await?;
    Ok(video.and_then(|video| video["uri"].as_str().map(str::to_owned)))
}

/// A text as SQL quotes it.
pub(super) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// The night that is shown.
pub(super) fn night(site: &Site) -> Result<Arc<Night>, Failure> {
    site.nights.newest().ok_or_else(Failure::no_tables)
}

pub(super) async fn rows(night: &Night, statement: &str) -> crate::Result<Value> {
    json_of(night.session.query(statement).await?).await
}
