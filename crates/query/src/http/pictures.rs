//! Small pictures of moments of videos. They are made elsewhere; only for videos that the tables hold.

use std::sync::Arc;

use axum::{
    body::Bytes,
    extract::{Path, Query, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use futures::future::BoxFuture;
use serde::Deserialize;
use utoipa::IntoParams;

use super::{Site, answers::Failure, api, come_again};

/// Requests that may wait for a picture. More are told to come again.
pub(super) const MOST_WAITING: usize = 24;

/// Makes the picture of a moment as PNG. `None` where there is none.
pub type Pictures = Arc<dyn Fn(Moment) -> BoxFuture<'static, Option<Vec<u8>>> + Send + Sync>;

/// A moment of a video.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moment {
    /// Where the video is.
    pub uri: String,
    /// The version of it that was indexed.
    pub source_version: String,
    /// Milliseconds from its start.
    pub at_ms: i64,
}

/// Which moment is asked for.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct At {
    /// Milliseconds from the start of the video; the picture is that of the nearest second.
    at_ms: i64,
}

/// A small picture of a moment of a video: the middle of it, square.
#[utoipa::path(get, path = "/api/v1/videos/{video_id}/picture",
    params(("video_id" = String, Path, description = "As in the tables"), At), responses(
    (status = 200, description = "PNG", body = Vec<u8>, content_type = "image/png"),
    (status = 404, description = "There is no such video, or no picture of it", body = Failure),
    (status = 503, description = "No run has been published yet, or too many ask", body = Failure),
))]
pub(super) async fn picture(
    State(site): State<Arc<Site>>,
    Path(video_id): Path<String>,
    Query(At { at_ms }): Query<At>,
) -> Result<Response, Failure> {
    let none = || Failure::unknown("there is no picture of it");
    let pictures = site.served.pictures.clone().ok_or_else(none)?;
    let video = api::video_row(&site, &video_id).await?.ok_or_else(none)?;
    let text = |name: &str| video[name].as_str().unwrap_or_default().to_owned();
    let moment = Moment { uri: text("uri"), source_version: text("source_version"), at_ms };
    let Ok(_waits) = site.waiting.try_acquire() else { return Ok(come_again()) };
    let picture = pictures(moment).await.ok_or_else(none)?;
    let headers =
        [(header::CONTENT_TYPE, "image/png"), (header::CACHE_CONTROL, "private, max-age=86400")];
    Ok((StatusCode::OK, headers, Bytes::from(picture)).into_response())
}
