//! A video from the store of the corpus, in the ranges that a player asks for.

use std::{ops::Range, sync::Arc};

use axum::{
    body::Body,
    extract::{Path, Query, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use futures::StreamExt;
use object_store::{GetOptions, GetRange, ObjectStore, ObjectStoreExt};
use serde::Deserialize;
use tokio::sync::OwnedSemaphorePermit;

use super::{Site, api, come_again};

/// The proof that a link carries.
#[derive(Debug, Deserialize)]
pub(super) struct Link {
    expires: Option<u64>,
    signature: Option<String>,
}

/// The bytes of a video that the table `videos` holds, or one range of them. The store is only asked for the
/// address that the table has, and for the version that was there when the answer began.
pub(super) async fn media(
    State(site): State<Arc<Site>>,
    Path(video_id): Path<String>,
    Query(link): Query<Link>,
    headers: HeaderMap,
) -> Response {
    let guard = &site.served.guard;
    if !guard.admits_link(&headers, &video_id, link.expires, link.signature.as_deref()) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let uri = match api::uri_of(&site, &video_id).await {
        Ok(Some(uri)) => uri,
        Ok(None) => return StatusCode::NOT_FOUND.into_response(),
        Err(failure) => return failure.into_response(),
    };
    let Some((store, path)) = (site.served.locate)(&uri) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let Ok(place) = Arc::clone(&site.videos).try_acquire_owned() else { return come_again() };
    match ranged(&store, &path, &headers, place).await {
        Ok(response) => response,
        Err(object_store::Error::NotFound { .. }) => StatusCode::NOT_FOUND.into_response(),
        Err(object_store::Error::Precondition { .. }) => {
            StatusCode::PRECONDITION_FAILED.into_response()
        }
        Err(error) => {
            tracing::warn!(%error, uri, "cannot read the video");
            StatusCode::BAD_GATEWAY.into_response()
        }
    }
}

async fn ranged(
    store: &Arc<dyn ObjectStore>,
    path: &object_store::path::Path,
    headers: &HeaderMap,
    place: OwnedSemaphorePermit,
) -> object_store::Result<Response> {
    let found = store.head(path).await?;
    let text = |name| headers.get(name).and_then(|value: &header::HeaderValue| value.to_str().ok());
    let tag = found
        .e_tag
        .clone()
        .map(|tag| if tag.starts_with(['"', 'W']) { tag } else { format!("\"{tag}\"") });
    let other = text(header::IF_RANGE).is_some_and(|asked| Some(asked) != tag.as_deref());
    let asked = text(header::RANGE).filter(|_| !other);
    let range = match asked.map(|asked| parse(asked, found.size)) {
        None | Some(Asked::Everything) => None,
        Some(Asked::Part(range)) => Some(range),
        Some(Asked::Nothing) => {
            let size = format!("bytes */{}", found.size);
            let response = (StatusCode::RANGE_NOT_SATISFIABLE, [(header::CONTENT_RANGE, size)]);
            return Ok(response.into_response());
        }
    };
    let options = GetOptions {
        if_match: found.e_tag,
        range: range.clone().map(GetRange::Bounded),
        ..GetOptions::default()
    };
    let bytes = store.get_opts(path, options).await?;
    let mut response = Response::builder()
        .header(header::ACCEPT_RANGES, "bytes")
        .header(header::CACHE_CONTROL, "private, no-cache")
        .header(header::CONTENT_TYPE, kind(path.extension().unwrap_or_default()));
    if let Some(tag) = tag {
        response = response.header(header::ETAG, tag);
    }
    let length = range.as_ref().map_or(found.size, |range| range.end - range.start);
    response = response.header(header::CONTENT_LENGTH, length);
    if let Some(Range { start, end }) = range {
        let part = format!("bytes {start}-{}/{}", end - 1, found.size);
        response = response.status(StatusCode::PARTIAL_CONTENT).header(header::CONTENT_RANGE, part);
    }
    // The place is held until the last byte is sent, or whoever asked has gone.
    let body = bytes.into_stream().scan(place, |_, part| std::future::ready(Some(part)));
    let body = Body::from_stream(body);
    Ok(response.body(body).unwrap_or_else(|_| StatusCode::BAD_GATEWAY.into_response()))
}

/// What the header `Range` asks for.
#[derive(Debug, PartialEq)]
enum Asked {
    Everything,
    Part(Range<u64>),
    /// What lies past the end.
    Nothing,
}

/// One range of bytes. Several, or what is not one, are answered by everything, as the standard allows.
fn parse(text: &str, size: u64) -> Asked {
    let bounds = text.strip_prefix("bytes=").and_then(|text| text.trim().split_once('-'));
    let Some((first, last)) = bounds else { return Asked::Everything };
    let (first, last) = (first.trim(), last.trim());
    let range = match (first.parse::<u64>(), last.parse::<u64>()) {
        (Ok(first), Ok(last)) if first <= last => first..last.saturating_add(1).min(size),
        (Ok(first), Err(_)) if last.is_empty() => first..size,
        (Err(_), Ok(last)) if first.is_empty() => size.saturating_sub(last)..size,
        _ => return Asked::Everything,
    };
    if range.is_empty() { Asked::Nothing } else { Asked::Part(range) }
}

fn kind(extension: &str) -> &'static str {
    match extension.to_ascii_lowercase().as_str() {
        "mp4" | "m4v" => "video/mp4",
        "webm" => "video/webm",
        "mkv" => "video/x-matroska",
        "mov" => "video/quicktime",
        "ogv" => "video/ogg",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::part("bytes=2-4", Asked::Part(2..5))]
    #[case::to_the_end("bytes=2-", Asked::Part(2..10))]
    #[case::last("bytes=-3", Asked::Part(7..10))]
    #[case::too_long("bytes=8-99", Asked::Part(8..10))]
    #[case::past_the_end("bytes=10-", Asked::Nothing)]
    #[case::none("bytes=-0", Asked::Nothing)]
    #[case::several("bytes=0-1,4-5", Asked::Everything)]
    #[case::turned("bytes=4-2", Asked::Everything)]
    #[case::greatest("bytes=0-18446744073709551615", Asked::Part(0..10))]
    #[case::other_unit("items=0-1", Asked::Everything)]
    fn ranges(#[case] text: &str, #[case] asked: Asked) {
        assert_eq!(parse(text, 10), asked);
    }
}
