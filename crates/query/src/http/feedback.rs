//! What people say about events. Nothing is written here: the row is given to whoever may write.

use std::{collections::HashSet, sync::Arc};

use axum::{
    Extension, Json,
    extract::{FromRequest, Path, Request, State, rejection::JsonRejection},
    http::{HeaderMap, StatusCode, header},
};
use chrono::Utc;
use eventide_schema::{Feedback, Verdict};
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::{
    Site,
    answers::{Failure, FeedbackRow},
    api::{self, night, quoted, rows},
    guard::Who,
};

/// Characters of a caption, at most.
const MOST_LETTERS: usize = 2000;

/// Writes a row of `feedback`. Whoever is told that it is written finds it in the table.
pub type Record =
    Arc<dyn Fn(Feedback) -> BoxFuture<'static, Result<(), RecordError>> + Send + Sync>;

/// Why a row could not be written.
pub type RecordError = Box<dyn std::error::Error + Send + Sync>;

/// What a person says about an event.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Mark {
    /// The event.
    event_id: String,
    /// `right`, `wrong`, or `edited` with at least one of the others.
    #[schema(value_type = String)]
    verdict: Verdict,
    /// The right caption, of 1 to 2000 characters.
    caption: Option<String>,
    /// The right start in milliseconds, from 0.
    start_ms: Option<i64>,
    /// The right end in milliseconds, after the start.
    end_ms: Option<i64>,
}

impl Mark {
    /// What is wrong with it, beside an event that has this span.
    fn problem(&self, (start_ms, end_ms): (i64, i64)) -> Option<&'static str> {
        let edits = self.caption.is_some() || self.start_ms.is_some() || self.end_ms.is_some();
        if edits != (self.verdict == Verdict::Edited) {
            return Some("`edited` needs a caption, a start or an end; the others take none");
        }
        if let Some(caption) = &self.caption {
            let letters = caption.chars().count();
            if caption.trim().is_empty() || letters > MOST_LETTERS {
                return Some("a caption has 1 to 2000 characters");
            }
            if caption.chars().any(char::is_control) {
                return Some("a caption is one line");
            }
        }
        let (start_ms, end_ms) = (self.start_ms.unwrap_or(start_ms), self.end_ms.unwrap_or(end_ms));
        (start_ms < 0 || end_ms <= start_ms).then_some("an event ends after it begins")
    }
}

/// The body of a request that a page of this server has sent, and no other site.
pub(super) struct Own<T>(T);

impl<T, S> FromRequest<S> for Own<T>
where
    Json<T>: FromRequest<S, Rejection = JsonRejection>,
    S: Send + Sync,
{
    type Rejection = Failure;

    async fn from_request(request: Request, state: &S) -> Result<Self, Failure> {
        if !is_own(request.headers()) {
            let error = "another site may not write here";
            return Err(Failure::new(StatusCode::FORBIDDEN, "refused", error));
        }
        match Json::from_request(request, state).await {
            Ok(Json(body)) => Ok(Self(body)),
            Err(rejection) => {
                Err(Failure::new(rejection.status(), "refused", rejection.body_text()))
            }
        }
    }
}

/// Whether no other site had a browser send this. Programs that are no browser say nothing of where they are.
fn is_own(headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    if let Some(site) = text("sec-fetch-site") {
        return matches!(site, "same-origin" | "none");
    }
    let Some(origin) = text(header::ORIGIN.as_str()) else { return true };
    let host = text(header::HOST.as_str()).unwrap_or_default();
    origin.split_once("://").is_some_and(|(_, origin)| origin.eq_ignore_ascii_case(host))
}

/// What was written.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Marked {
    /// The event that was marked.
    event_id: String,
    /// What it was marked.
    #[schema(value_type = String)]
    verdict: Verdict,
}

/// Says that an event is right or wrong, or what it should be. Adds a row to `feedback`.
#[utoipa::path(post, path = "/api/v1/feedback", request_body = Mark, responses(
    (status = 201, description = "The row is written", body = Marked),
    (status = 400, description = "The mark is not whole", body = Failure),
    (status = 403, description = "Another site asks, or this server only reads", body = Failure),
    (status = 404, description = "There is no such event", body = Failure),
    (status = 415, description = "The body is not JSON", body = Failure),
    (status = 503, description = "No run has been published yet", body = Failure),
))]
pub(super) async fn mark(
    State(site): State<Arc<Site>>,
    Extension(Who(who)): Extension<Who>,
    Own(mark): Own<Mark>,
) -> Result<(StatusCode, Json<Marked>), Failure> {
    let Some(record) = site.served.record.clone() else {
        let error = "this server only reads; it was started without --feedback";
        return Err(Failure::new(StatusCode::FORBIDDEN, "refused", error));
    };
    let event = event(&site, &mark.event_id).await?;
    let span = |name: &str| event[name].as_i64().unwrap_or_default();
    if let Some(problem) = mark.problem((span("start_ms"), span("end_ms"))) {
        return Err(Failure::new(StatusCode::BAD_REQUEST, "refused", problem));
    }
    let text = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
    let (event_id, verdict) = (mark.event_id.clone(), mark.verdict);
    let row = Feedback {
        event_id: mark.event_id,
        video_id: text("video_id"),
        uri: text("uri"),
        source_version: text("source_version"),
        run_id: text("run_id"),
        model_digest: text("model_digest"),
        verdict: mark.verdict,
        caption: mark.caption.map(|caption| caption.trim().to_owned()),
        start_ms: mark.start_ms,
        end_ms: mark.end_ms,
        who,
        at_ms: Utc::now().timestamp_millis(),
    };
    // On a task of its own: whoever asked may go, and a commit is not left half-way.
    let written = tokio::spawn(record(row)).await;
    if let Err(error) = written.map_err(RecordError::from).flatten() {
        tracing::warn!(%error, "cannot write feedback");
        let error = "it cannot be written now; try again later";
        return Err(Failure::new(StatusCode::INTERNAL_SERVER_ERROR, "failed", error));
    }
    site.nights.hurry();
    Ok((StatusCode::CREATED, Json(Marked { event_id, verdict })))
}

async fn event(site: &Site, event_id: &str) -> Result<Value, Failure> {
    let statement = format!("SELECT * FROM events WHERE event_id = {}", quoted(event_id));
    let mut found = rows(&*night(site)?, &statement).await?;
    let event = found.as_array_mut().and_then(Vec::pop);
    event.ok_or_else(|| Failure::unknown("there is no such event"))
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Marks {
    /// Newest first, one an event.
    #[schema(value_type = Vec<FeedbackRow>)]
    feedback: Value,
}

/// What was said last about each event of a video.
#[utoipa::path(get, path = "/api/v1/videos/{video_id}/feedback",
    params(("video_id" = String, Path, description = "As in the tables")), responses(
    (status = 200, description = "Nothing where nobody has said anything", body = Marks),
    (status = 503, description = "No run has been published yet", body = Failure),
))]
pub(super) async fn marks(
    State(site): State<Arc<Site>>,
    Path(video_id): Path<String>,
) -> api::Answer<Marks> {
    let statement =
        format!("SELECT * FROM feedback WHERE video_id = {} ORDER BY at DESC", quoted(&video_id));
    let mut feedback = rows(&*night(&site)?, &statement).await?;
    if let Some(rows) = feedback.as_array_mut() {
        let mut seen = HashSet::new();
        rows.retain(|row| seen.insert(row["event_id"].as_str().unwrap_or_default().to_owned()));
    }
    Ok(Json(Marks { feedback }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::own_page(&[("sec-fetch-site", "same-origin")], true)]
    #[case::typed_in(&[("sec-fetch-site", "none")], true)]
    #[case::other_site(&[("sec-fetch-site", "cross-site")], false)]
    #[case::other_port(&[("sec-fetch-site", "same-site")], false)]
    #[case::old_browser(&[("origin", "http://127.0.0.1:8080")], true)]
    #[case::old_browser_elsewhere(&[("origin", "https://evil.example")], false)]
    #[case::a_frame_without_origin(&[("origin", "null")], false)]
    #[case::no_browser(&[], true)]
    fn other_sites_are_told_from_our_own(
        #[case] headers: &[(&'static str, &str)],
        #[case] own: bool,
    ) {
        let mut all = HeaderMap::new();
        all.insert("host", "127.0.0.1:8080".parse().unwrap());
        for (name, value) in headers {
            all.insert(*name, value.parse().unwrap());
        }
        assert_eq!(is_own(&all), own);
    }

    #[rstest]
    #[case::right(r#"{"event_id":"e","verdict":"right"}"#, true)]
    #[case::right_with_a_caption(r#"{"event_id":"e","verdict":"right","caption":"a"}"#, false)]
    #[case::caption(r#"{"event_id":"e","verdict":"edited","caption":"a"}"#, true)]
    #[case::nothing_edited(r#"{"event_id":"e","verdict":"edited"}"#, false)]
    #[case::blank(r#"{"event_id":"e","verdict":"edited","caption":" "}"#, false)]
    #[case::two_lines(r#"{"event_id":"e","verdict":"edited","caption":"a\nb"}"#, false)]
    #[case::start(r#"{"event_id":"e","verdict":"edited","start_ms":1500}"#, true)]
    #[case::starts_after_its_end(r#"{"event_id":"e","verdict":"edited","start_ms":2000}"#, false)]
    #[case::before_the_video(r#"{"event_id":"e","verdict":"edited","start_ms":-1}"#, false)]
    fn marks_are_whole(#[case] mark: &str, #[case] whole: bool) {
        let mark: Mark = serde_json::from_str(mark).unwrap();
        assert_eq!(mark.problem((1000, 2000)).is_none(), whole, "{mark:?}");
    }

    #[test]
    fn a_caption_has_a_length() {
        let caption = Some("x".repeat(MOST_LETTERS + 1));
        let (event_id, verdict) = ("e".to_owned(), Verdict::Edited);
        let mark = Mark { event_id, verdict, caption, start_ms: None, end_ms: None };
        assert!(mark.problem((0, 1)).is_some());
    }
}
