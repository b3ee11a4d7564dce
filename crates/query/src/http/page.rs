//! The files of the page. They are part of the program: nothing is built or read at run time.

use std::sync::Arc;

use axum::{Router, http::header, routing::get};

use super::Site;

const HTML: &str = "text/html; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// The path, the kind and the text of each.
const FILES: [(&str, &str, &str); 9] = [
    ("/", HTML, include_str!("../../assets/index.html")),
    ("/app.css", STYLE, include_str!("../../assets/app.css")),
    ("/app.js", SCRIPT, include_str!("../../assets/app.js")),
    ("/ask.js", SCRIPT, include_str!("../../assets/ask.js")),
    ("/search.js", SCRIPT, include_str!("../../assets/search.js")),
    ("/video.js", SCRIPT, include_str!("../../assets/video.js")),
    ("/feedback.js", SCRIPT, include_str!("../../assets/feedback.js")),
    ("/runs.js", SCRIPT, include_str!("../../assets/runs.js")),
    ("/preact.js", SCRIPT, include_str!("../../assets/vendor/preact-htm.js")),
];

pub(super) fn files() -> Router<Arc<Site>> {
    FILES.into_iter().fold(Router::new(), |routes, (path, kind, text)| {
        let headers = [(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-cache")];
        routes.route(path, get(move || async move { (headers, text) }))
    })
}
