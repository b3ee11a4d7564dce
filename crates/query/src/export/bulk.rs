//! Parts as requests to `_bulk` of a search engine that runs: Elasticsearch, `OpenSearch`.
//!
//! Each line names the version of the tables that it is of, as an external version, so what an older export
//! says never wins over a newer one, and the same export twice is harmless. A request that the engine has no
//! room for is sent again after a while, of a request that it took in part only what it had no room for; one
//! that is too large is halved.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use backon::{BackoffBuilder, ExponentialBuilder};
use bytes::Bytes;
use futures::StreamExt;
use reqwest::{
    Client, Method, RequestBuilder, Response, StatusCode,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, RETRY_AFTER},
    redirect,
};
use serde::Deserialize;
use url::Url;

use super::{
    ExportOptions, Progress,
    documents::Rows,
    encode::{Encoder, Part, action},
    receipt::{PartReceipt, Receipt, Receipts},
    stale::{self, Stale},
};
use crate::{Error, Result, error::CauseFrom};

/// How long a connection may take to open, and a request to be answered.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const REQUEST_TIMEOUT: Duration = Duration::from_mins(2);
/// How long is waited before a request is sent again, and how often.
const SHORTEST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
const TRIES_AGAIN: usize = 8;
/// Refusals that an error quotes.
const QUOTED: usize = 3;
/// Characters of an answer that an error quotes.
const QUOTED_CHARACTERS: usize = 300;

/// A search engine.
#[derive(Clone)]
pub struct SearchEngine {
    client: Client,
    url: Url,
    authorization: Option<HeaderValue>,
}

impl std::fmt::Debug for SearchEngine {
    /// Where it is only: the rest is secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("SearchEngine").field(&self.url.as_str()).finish()
    }
}

impl SearchEngine {
    /// The one at `url`, which is asked with this `Authorization` header, if any.
    ///
    /// # Errors
    /// [`Error::Address`]; [`Error::SearchAddress`] for one that is not HTTP or holds a password, and for a
    /// header that HTTP cannot carry.
    pub fn at(url: &str, authorization: Option<&str>) -> Result<Self> {
        let wrong = |problem| Error::SearchAddress { problem };
        let url = Url::parse(url)
            .map_err(|source| Error::Address { uri: without_secrets(url).to_owned(), source })?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(wrong("it does not begin with `http://` or `https://`"));
        }
        if !url.username().is_empty() || url.password().is_some() || url.query().is_some() {
            return Err(wrong("it holds a name, a password or a query, which would be logged"));
        }
        let authorization = authorization
            .map(|text| {
                let mut value = HeaderValue::from_str(text.trim())
                    .map_err(|_| wrong("the authorization is no text that HTTP can carry"))?;
                value.set_sensitive(true);
                Ok(value)
            })
            .transpose()?;
        let client = Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(REQUEST_TIMEOUT)
            .redirect(redirect::Policy::none()) // it would carry the authorization elsewhere
            .build()
            .map_err(|source| Error::Engine { source: source.cause() })?;
        Ok(Self { client, url, authorization })
    }

    /// Where it is, without a secret.
    pub(super) fn url(&self) -> &str {
        self.url.as_str()
    }

    /// Has the lines of a part taken, each of them once.
    async fn take(&self, part: &Part) -> Result<Taken> {
        let mut taken = Taken::default();
        let mut requests = VecDeque::from([lines(&part.body)]);
        while let Some(lines) = requests.pop_front() {
            if let Some(halves) = self.take_lines(lines, &mut taken).await? {
                requests.extend(halves);
            }
        }
        Ok(taken)
    }

    /// Has lines taken; gives them back in two halves where they are too many for one request.
    async fn take_lines<'a>(
        &self,
        mut lines: Vec<&'a [u8]>,
        taken: &mut Taken,
    ) -> Result<Option<[Vec<&'a [u8]>; 2]>> {
        let mut waits = waits();
        loop {
            let (wait, failure) = match self.try_lines(&lines).await? {
                Answer::Items(answers) => {
                    lines = taken.count(lines, answers);
                    if lines.is_empty() {
                        return Ok(None);
                    }
                    (None, "it has no room for some documents".to_owned())
                }
                Answer::TooLarge if lines.len() > 1 => {
                    let rest = lines.split_off(lines.len() / 2);
                    return Ok(Some([lines, rest]));
                }
                Answer::TooLarge => {
                    return Err(self.refused("a document is too large for a request".to_owned()));
                }
                Answer::Busy(wait, failure) => (wait, failure),
            };
            let Some(own) = waits.next() else { return Err(self.refused(failure)) };
            let wait = wait.unwrap_or(own).clamp(own, LONGEST_WAIT);
            tracing::info!(?wait, failure, "the search engine is asked again");
            tokio::time::sleep(wait).await;
        }
    }

    async fn try_lines(&self, lines: &[&[u8]]) -> Result<Answer> {
        let request = self
            .request(Method::POST, "_bulk")
            .header(CONTENT_TYPE, "application/x-ndjson")
            .body(Bytes::from(lines.concat()));
        let answer = match request.send().await {
            Ok(answer) => answer,
            Err(error) if error.is_builder() => return Err(self.unreachable(error)),
            Err(error) => return Ok(Answer::Busy(None, error.without_url().to_string())),
        };
        let status = answer.status();
        if status == StatusCode::PAYLOAD_TOO_LARGE {
            return Ok(Answer::TooLarge);
        }
        if status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error() {
            return Ok(Answer::Busy(retry_after(&answer), format!("it answers {status}")));
        }
        let body = self.accepted(answer).await?;
        let answers: BulkAnswer = serde_json::from_slice(&body).map_err(|_| {
            self.refused(format!("this is no answer to `_bulk`: {}", quoted(&body)))
        })?;
        let items: Vec<_> =
            answers.items.into_iter().map(|item| item.index.or(item.delete)).collect();
        if items.len() != lines.len() {
            let counts = format!("it answers for {} of {} documents", items.len(), lines.len());
            return Err(self.refused(counts));
        }
        Ok(Answer::Items(items.into_iter().map(Option::unwrap_or_default).collect()))
    }

    pub(super) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let url = format!("{}/{path}", self.url.as_str().trim_end_matches('/'));
        let request = self.client.request(method, url);
        match &self.authorization {
            Some(authorization) => request.header(AUTHORIZATION, authorization.clone()),
            None => request,
        }
    }

    /// Sends a request without documents; again for as long as the engine may come to answer.
    pub(super) async fn send(&self, request: RequestBuilder) -> Result<Response> {
        let mut waits = waits();
        loop {
            let again = request.try_clone().ok_or_else(|| self.refused("no request".to_owned()))?;
            let sent = again.send().await;
            let wait = waits.next();
            match (sent, wait) {
                (Ok(answer), _) if !is_busy(answer.status()) => return Ok(answer),
                (Ok(answer), None) => return Ok(answer),
                (Err(error), None) => return Err(self.unreachable(error)),
                (_, Some(wait)) => tokio::time::sleep(wait).await,
            }
        }
    }

    /// The body of an answer that says yes.
    pub(super) async fn accepted(&self, answer: Response) -> Result<Bytes> {
        let status = answer.status();
        let body = answer.bytes().await.map_err(|error| self.unreachable(error))?;
        if status.is_success() {
            return Ok(body);
        }
        Err(self.refused(format!("it answers {status}: {}", quoted(&body))))
    }

    fn unreachable(&self, error: reqwest::Error) -> Error {
        Error::SearchEngine { url: self.url.to_string(), source: error.without_url().cause() }
    }

    pub(super) fn refused(&self, problem: String) -> Error {
        Error::SearchEngine { url: self.url.to_string(), source: problem.cause() }
    }
}

/// What became of a request.
enum Answer {
    /// One answer a document, in their order.
    Items(Vec<ItemAnswer>),
    TooLarge,
    /// It may be taken later: when, if the engine says so, and why.
    Busy(Option<Duration>, String),
}

#[derive(Deserialize)]
struct BulkAnswer {
    items: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    index: Option<ItemAnswer>,
    delete: Option<ItemAnswer>,
}

#[derive(Debug, Default, Deserialize)]
struct ItemAnswer {
    #[serde(rename = "_id", default)]
    id: String,
    #[serde(default)]
    status: u16,
    error: Option<Problem>,
}

#[derive(Debug, Deserialize)]
struct Problem {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    reason: String,
}

/// What became of the documents of a part.
#[derive(Debug, Default)]
struct Taken {
    /// The engine has newer ones.
    superseded: u64,
    /// How many it refused, and what it said of the first.
    rejected: u64,
    because: Vec<String>,
}

impl Taken {
    /// Counts answers; gives the lines that are to be sent again.
    fn count<'a>(&mut self, lines: Vec<&'a [u8]>, answers: Vec<ItemAnswer>) -> Vec<&'a [u8]> {
        let mut again = Vec::new();
        for (line, answer) in lines.into_iter().zip(answers) {
            match answer.status {
                200 | 201 => {}
                // What is to be deleted is not there.
                404 if answer.error.is_none() => {}
                409 => self.superseded += 1,
                429 | 503 => again.push(line),
                status => {
                    self.rejected += 1;
                    if self.because.len() < QUOTED {
                        let problem = answer.error.map_or_else(
                            || status.to_string(),
                            |error| format!("{}: {}", error.kind, error.reason),
                        );
                        self.because.push(format!("`{}`: {problem}", answer.id));
                    }
                }
            }
        }
        again
    }
}

/// Loads rows into a search engine.
pub(super) async fn load(
    rows: &Rows<'_>,
    options: &ExportOptions,
    engine: &SearchEngine,
    receipts: Option<&Receipts<'_>>,
    receipt: &mut Receipt,
    told: &mut (dyn FnMut(Progress) + Send),
) -> Result<()> {
    stale::ensure_index(engine, options, receipt).await?;
    let arrived = match receipts {
        Some(receipts) => receipts.progress(receipt).await?,
        None => BTreeMap::new(),
    };
    let mut load = Load { engine, receipts, receipt, arrived, rejected: Taken::default() };
    let mut batches = rows.documents(options).await?;
    let mut encoder = Encoder::new(options);
    while let Some(batch) = batches.next().await {
        let batch = batch.map_err(|source| Error::Run { source: source.cause() })?;
        for part in encoder.push(&batch)? {
            load.part(&part).await?;
            told(load.receipt.progress());
        }
    }
    for part in encoder.finish()? {
        load.part(&part).await?;
        told(load.receipt.progress());
    }
    if rows.from.is_none() && load.rejected.rejected == 0 {
        load.remove_stale(options, rows.to, told).await?;
    }
    let Taken { rejected, because, .. } = load.rejected;
    if rejected > 0 {
        return Err(Error::Rejected { count: rejected, because: because.join("; ") });
    }
    Ok(())
}

/// A load that is under way.
struct Load<'a> {
    engine: &'a SearchEngine,
    receipts: Option<&'a Receipts<'a>>,
    receipt: &'a mut Receipt,
    /// The parts that an earlier try has seen arrive.
    arrived: BTreeMap<usize, String>,
    rejected: Taken,
}

impl Load<'_> {
    async fn part(&mut self, part: &Part) -> Result<()> {
        let sha256 = part.sha256();
        let has_arrived = self.arrived.get(&self.receipt.parts.len()) == Some(&sha256);
        if !has_arrived {
            self.arrived.clear(); // from here on all is new
            let taken = self.engine.take(part).await?;
            self.receipt.superseded += taken.superseded;
            self.rejected.rejected += taken.rejected;
            self.rejected.because.extend(taken.because);
            self.rejected.because.truncate(QUOTED);
        }
        self.receipt.add(PartReceipt {
            name: None,
            bytes: part.body.len() as u64,
            sha256,
            upserts: part.upserts,
            deletes: part.deletes,
        });
        match self.receipts {
            Some(receipts) if !has_arrived && self.rejected.rejected == 0 => {
                receipts.keep_progress(self.receipt).await
            }
            _ => Ok(()),
        }
    }

    /// Removes what the index has of earlier versions: everything that is there has been written anew.
    async fn remove_stale(
        &mut self,
        options: &ExportOptions,
        to: u64,
        told: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<()> {
        let mut stale = Stale::before(self.engine, &options.index, to).await?;
        while let Some(ids) = stale.more().await? {
            let mut body = Vec::new();
            for id in &ids {
                action(options, id, to, true, &mut body);
            }
            let deletes = ids.len() as u64;
            let part = Part { kind: "stale", extension: "ndjson", body, upserts: 0, deletes };
            self.part(&part).await?;
            told(self.receipt.progress());
        }
        Ok(())
    }
}

/// The documents of a body: what is done, and what with.
fn lines(body: &[u8]) -> Vec<&[u8]> {
    let mut documents = Vec::new();
    let mut rest = body;
    while !rest.is_empty() {
        let mut end = line_end(rest);
        if !rest.starts_with(br#"{"delete""#) {
            end += line_end(&rest[end..]);
        }
        let (document, others) = rest.split_at(end);
        documents.push(document);
        rest = others;
    }
    documents
}

/// Where the first line ends, its end included.
fn line_end(text: &[u8]) -> usize {
    text.iter().position(|byte| *byte == b'\n').map_or(text.len(), |at| at + 1)
}

fn waits() -> impl Iterator<Item = Duration> {
    ExponentialBuilder::default()
        .with_min_delay(SHORTEST_WAIT)
        .with_max_delay(LONGEST_WAIT)
        .with_max_times(TRIES_AGAIN)
        .with_jitter()
        .build()
}

fn is_busy(status: StatusCode) -> bool {
    status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error()
}

fn retry_after(answer: &Response) -> Option<Duration> {
    let seconds = answer.headers().get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// The beginning of an answer.
fn quoted(body: &[u8]) -> String {
    String::from_utf8_lossy(body).chars().take(QUOTED_CHARACTERS).collect()
}

/// An address up to where a secret may be.
fn without_secrets(url: &str) -> &str {
    url.split(['@', '?']).next().filter(|_| !url.contains('@')).unwrap_or("(with a password)")
}

#[cfg(test)]
mod tests {
    use std::{
        fmt::Write as _,
        sync::{Arc, Mutex},
    };

    use super::*;
    use rstest::rstest;

    #[test]
    fn a_body_is_cut_into_documents() {
        let body = b"{\"index\":1}\n{\"a\":\"x\"}\n{\"delete\":2}\n{\"index\":3}\n{}\n";
        let found = lines(body);
        let expected: [&[u8]; 3] =
            [b"{\"index\":1}\n{\"a\":\"x\"}\n", b"{\"delete\":2}\n", b"{\"index\":3}\n{}\n"];
        assert_eq!(found, expected);
    }

    #[rstest]
    #[case::no_http("ftp://host", "http://")]
    #[case::a_password("http://user:secret@host", "password")]
    #[case::a_key("http://host/?api_key=secret", "query")]
    #[case::no_address("user:secret@host 9200", "http://")]
    fn a_secret_in_an_address_is_refused_and_not_told(#[case] url: &str, #[case] because: &str) {
        let error = SearchEngine::at(url, None).unwrap_err().with_causes();
        assert!(error.contains(because), "{error}");
        assert!(!error.contains("secret"), "{error}");
    }

    #[test]
    fn a_secret_is_not_shown() {
        let engine = SearchEngine::at("http://host:9200", Some("ApiKey c2VjcmV0")).unwrap();
        assert_eq!(format!("{engine:?}"), "SearchEngine(\"http://host:9200/\")");
    }

    /// A search engine that has its moods: the first request finds it busy, then it takes at most two documents a
    /// request, and the first time that it sees a document it has no room for it.
    #[derive(Default)]
    struct Moody {
        seen: std::collections::BTreeMap<String, usize>,
        requests: usize,
    }

    async fn moody(
        axum::extract::State(engine): axum::extract::State<Arc<Mutex<Moody>>>,
        body: Bytes,
    ) -> (axum::http::StatusCode, String) {
        use axum::http::StatusCode;
        let mut engine = engine.lock().unwrap();
        engine.requests += 1;
        if engine.requests == 1 {
            return (StatusCode::TOO_MANY_REQUESTS, String::new());
        }
        let documents = lines(&body);
        if documents.len() > 2 {
            return (StatusCode::PAYLOAD_TOO_LARGE, String::new());
        }
        let mut items = Vec::new();
        for document in documents {
            let action: serde_json::Value =
                serde_json::from_slice(&document[..line_end(document)]).unwrap();
            let (kind, what) = action.as_object().unwrap().iter().next().unwrap();
            let id = what["_id"].as_str().unwrap().to_owned();
            let seen = engine.seen.entry(id.clone()).or_default();
            *seen += 1;
            let status = match (*seen, kind.as_str()) {
                (1, _) => 429,
                (_, "delete") => 404,
                _ if id == "bad" => 400,
                _ if id == "old" => 409,
                _ => 201,
            };
            items.push(serde_json::json!({ kind: { "_id": id, "status": status } }));
        }
        (StatusCode::OK, serde_json::json!({ "errors": true, "items": items }).to_string())
    }

    #[tokio::test]
    async fn each_document_arrives_once_whatever_the_mood() {
        let engine = Arc::new(Mutex::new(Moody::default()));
        let routes = axum::Router::new()
            .route("/_bulk", axum::routing::post(moody))
            .with_state(Arc::clone(&engine));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        let mut body = String::new();
        for id in ["a", "b", "c", "bad", "old"] {
            writeln!(body, "{{\"index\":{{\"_id\":\"{id}\"}}}}\n{{}}").unwrap();
        }
        body += "{\"delete\":{\"_id\":\"gone\"}}\n";
        let part = Part {
            kind: "part",
            extension: "ndjson",
            body: body.into_bytes(),
            upserts: 5,
            deletes: 1,
        };
        let taken = SearchEngine::at(&url, None).unwrap().take(&part).await.unwrap();
        assert_eq!(
            (taken.superseded, taken.rejected, taken.because),
            (1, 1, vec!["`bad`: 400".to_owned()])
        );
        let engine = engine.lock().unwrap();
        assert_eq!(engine.seen.len(), 6);
        assert!(engine.seen.values().all(|seen| *seen == 2), "{:?}", engine.seen);
    }
}
