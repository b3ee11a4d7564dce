//! `/api/v1`: rows of the tables as JSON, under the names that the tables give them.

use std::{fmt::Write as _, sync::Arc};

use axum::{
    Json, Router,
    extract::{Path, Query, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use datafusion::{
    arrow::array::RecordBatch,
    physical_plan::{SendableRecordBatchStream, stream::RecordBatchStreamAdapter},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Night, Site};
use crate::{Error, Filters, Format, TableStyle, error::CauseFrom, write_results};

/// Rows that a page of a list has, at most.
const MOST_ROWS: usize = 1000;

pub(super) fn routes() -> Router<Arc<Site>> {
    Router::new()
        .route("/search", get(search))
        .route("/videos", get(videos))
        .route("/videos/{video_id}", get(video))
        .route("/videos/{video_id}/events", get(events))
        .route("/videos/{video_id}/events.vtt", get(captions))
        .route("/videos/{video_id}/transcripts", get(transcripts))
        .route("/runs", get(runs))
        .route("/failures", get(failures))
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) struct Failure {
    status: StatusCode,
    text: String,
}

impl From<Error> for Failure {
    /// What was asked wrongly is told; what goes wrong here is logged, and told without where things are.
    fn from(error: Error) -> Self {
        let text = error.with_causes();
        if matches!(error, Error::SearchQuery { .. }) {
            return Self { status: StatusCode::BAD_REQUEST, text };
        }
        tracing::warn!(error = text, "a question failed");
        Self { status: StatusCode::INTERNAL_SERVER_ERROR, text: "the question failed".to_owned() }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.status, Json(json!({ "error": self.text }))).into_response()
    }
}

type Answer = Result<Json<Value>, Failure>;

/// What `/search` takes. Moments are milliseconds since 1970 (UTC).
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Asked {
    q: String,
    limit: Option<usize>,
    offset: usize,
    run_id: Option<String>,
    model_id: Option<String>,
    language: Option<String>,
    source: Option<String>,
    video_id: Option<String>,
    min_score: Option<f64>,
    since_ms: Option<i64>,
    until_ms: Option<i64>,
    min_duration_ms: Option<i64>,
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

async fn search(State(site): State<Arc<Site>>, Query(asked): Query<Asked>) -> Answer {
    let index = site.night().await.index.clone();
    let version = index.version();
    let found = tokio::task::spawn_blocking(move || {
        let limit = asked.limit.unwrap_or(50).clamp(1, MOST_ROWS);
        index.search(&asked.q, &asked.filters(), limit, asked.offset)
    });
    let ended = |source: tokio::task::JoinError| Error::Run { source: source.cause() };
    let found = found.await.map_err(ended)??;
    let events = json_of(stream_of(found.rows)).await?;
    Ok(Json(json!({ "total": found.total, "events_version": version, "events": events })))
}

/// Which part of a list is asked for.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Part {
    limit: Option<usize>,
    offset: usize,
    reason_code: Option<String>,
}

impl Part {
    fn sql(&self) -> String {
        format!("LIMIT {} OFFSET {}", self.limit.unwrap_or(100).min(MOST_ROWS), self.offset)
    }
}

async fn videos(State(site): State<Arc<Site>>, Query(part): Query<Part>) -> Answer {
    let mut statement = "SELECT * FROM videos".to_owned();
    if let Some(reason) = &part.reason_code {
        let _ = write!(statement, " WHERE reason_code = {}", quoted(reason)); // cannot fail
    }
    let rows = rows(&site, &format!("{statement} ORDER BY uri {}", part.sql())).await?;
    Ok(Json(json!({ "videos": rows })))
}

async fn video(State(site): State<Arc<Site>>, Path(video_id): Path<String>) -> Answer {
    let statement = format!("SELECT * FROM videos WHERE video_id = {}", quoted(&video_id));
    let rows = rows(&site, &statement).await?;
    let Some(video) = rows.as_array().and_then(|rows| rows.first()) else { return Err(unknown()) };
    let link = site.served.guard.link(&video_id);
    Ok(Json(json!({ "video": video, "media": format!("/media/{video_id}{link}") })))
}

fn unknown() -> Failure {
    Failure { status: StatusCode::NOT_FOUND, text: "there is no such video".to_owned() }
}

async fn events(State(site): State<Arc<Site>>, Path(video_id): Path<String>) -> Answer {
    let rows = rows(&site, &of_video("events", &video_id)).await?;
    Ok(Json(json!({ "events": rows })))
}

async fn transcripts(State(site): State<Arc<Site>>, Path(video_id): Path<String>) -> Answer {
    let rows = rows(&site, &of_video("transcripts", &video_id)).await?;
    Ok(Json(json!({ "transcripts": rows })))
}

fn of_video(table: &str, video_id: &str) -> String {
    format!("SELECT * FROM {table} WHERE video_id = {} ORDER BY start_ms, end_ms", quoted(video_id))
}

async fn runs(State(site): State<Arc<Site>>, Query(part): Query<Part>) -> Answer {
    let statement = format!("SELECT * FROM runs ORDER BY finished_at DESC {}", part.sql());
    Ok(Json(json!({ "runs": rows(&site, &statement).await? })))
}

async fn failures(State(site): State<Arc<Site>>) -> Answer {
    let statement = "SELECT status, stage, reason_code, count(*) AS videos, min(video_id) AS video_id, \
        min(reason) AS reason FROM videos WHERE status IN ('failed', 'skipped') \
        GROUP BY status, stage, reason_code ORDER BY videos DESC, reason_code";
    Ok(Json(json!({ "failures": rows(&site, statement).await? })))
}

/// The events of a video as WebVTT, to be played with it.
async fn captions(
    State(site): State<Arc<Site>>,
    Path(video_id): Path<String>,
) -> Result<Response, Failure> {
    let rows = rows(&site, &of_video("events", &video_id)).await?;
    let mut text = "WEBVTT\n".to_owned();
    for row in rows.as_array().into_iter().flatten() {
        let time = |name: &str| crate::functions::timecode(row[name].as_i64().unwrap_or_default());
        // A line of its own must not read as the arrow of a time, nor end the cue; tags are text.
        let caption = row["caption"].as_str().unwrap_or_default();
        let caption = caption.split_whitespace().collect::<Vec<_>>().join(" ");
        let caption = caption.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        let (start, end) = (time("start_ms"), time("end_ms"));
        let _ = write!(text, "\n{start} --> {end}\n{caption}\n"); // cannot fail
    }
    let kind = [(header::CONTENT_TYPE, "text/vtt; charset=utf-8")];
    Ok((kind, text).into_response())
}

/// The address that the table `videos` has for a video.
pub(super) async fn uri_of(site: &Site, video_id: &str) -> Result<Option<String>, Failure> {
    let statement = format!("SELECT uri FROM videos WHERE video_id = {}", quoted(video_id));
    let rows = rows(site, &statement).await?;
    Ok(rows[0]["uri"].as_str().map(str::to_owned))
}

/// A text as SQL quotes it.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

async fn rows(site: &Site, statement: &str) -> Result<Value, Failure> {
    let night: Arc<Night> = site.night().await;
    Ok(json_of(night.session.query(statement).await?).await?)
}

fn stream_of(rows: RecordBatch) -> SendableRecordBatchStream {
    let schema = rows.schema();
    Box::pin(RecordBatchStreamAdapter::new(schema, futures::stream::iter([Ok(rows)])))
}

/// Rows as a JSON list.
async fn json_of(rows: SendableRecordBatchStream) -> crate::Result<Value> {
    let mut text = Vec::new();
    write_results(rows, Format::Json, &TableStyle::default(), &mut text).await?;
    if text.is_empty() {
        return Ok(json!([]));
    }
    serde_json::from_slice(&text).map_err(|source| Error::Run { source: source.cause() })
}
