//! The page's server: the API over a night that was really indexed, ranges of a video, and who is let in.

use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use eventide_testkit::{Hostile, Running, tools};
use serde_json::Value;

use crate::trial::{LIMIT, Trial};

const TOKEN: &str = "a-token-of-the-page-0123456789";
/// Videos that are sent at once.
const MOST_VIDEOS: usize = 32;

/// A server and the address that it listens at.
pub(crate) struct Server {
    running: Running,
    /// `host:port`.
    pub(crate) address: String,
}

/// An answer: its status, its headers in small letters, its body.
#[derive(Debug)]
struct Answer {
    status: u16,
    headers: String,
    body: Vec<u8>,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.body)))
    }
}

impl Server {
    /// Starts one over the tables of a trial, and waits until it can answer.
    pub(crate) fn start(trial: &Trial, token: &str) -> Self {
        Self::start_with(trial, token, &[])
    }

    /// The same with more arguments.
    pub(crate) fn start_with(trial: &Trial, token: &str, more: &[&str]) -> Self {
        let arguments = ["serve", "--tables", "lake", "--listen", "127.0.0.1:0"];
        let arguments = arguments.into_iter().chain(more.iter().copied());
        let cache = trial.folder().join("cache");
        let program = trial.program(arguments).environment([
            ("XDG_CACHE_HOME", cache.display().to_string()),
            ("EVENTIDE_SERVE_TOKEN", token.to_owned()),
        ]);
        let running = program.start().unwrap();
        let line = running.await_line("page at http://", LIMIT).unwrap();
        let address =
            line.rsplit_once("http://").unwrap().1.trim().trim_end_matches('/').to_owned();
        Self { running, address }
    }

    /// Asks it to stop, and waits until it has, which it must do in good order.
    pub(crate) fn stop(self) {
        self.running.terminate().unwrap();
        self.running.wait(LIMIT).unwrap().assert_code(0);
    }

    fn get(&self, path: &str, headers: &str) -> Answer {
        self.ask("GET", path, headers, "")
    }

    fn post(&self, path: &str, headers: &str, body: &str) -> Answer {
        let headers = format!("Content-Length: {}\r\n{headers}", body.len());
        self.ask("POST", path, &headers, body)
    }

    /// Says something about an event.
    pub(crate) fn mark(&self, said: &Value) {
        let json = "Content-Type: application/json\r\n";
        let answer = self.post("/api/v1/feedback", json, &said.to_string());
        assert_eq!(answer.status, 201, "{answer:?}");
    }

    fn ask(&self, method: &str, path: &str, headers: &str, body: &str) -> Answer {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        let host = if headers.contains("Host:") {
            String::new()
        } else {
            format!("Host: {}\r\n", self.address)
        };
        let close = "Connection: close";
        let request = format!("{method} {path} HTTP/1.1\r\n{host}{close}\r\n{headers}\r\n{body}");
        stream.write_all(request.as_bytes()).unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
        let headers = String::from_utf8(bytes[..end].to_vec()).unwrap().to_lowercase();
        let status = headers.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, headers, body: bytes[end + 4..].to_vec() }
    }

    /// A player that has begun, and reads no more.
    fn pause(&self, path: &str) -> TcpStream {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", self.address);
        stream.write_all(request.as_bytes()).unwrap();
        let mut begun = [0; 15];
        stream.read_exact(&mut begun).unwrap();
        assert_eq!(&begun, b"HTTP/1.1 200 OK");
        stream
    }

    pub(crate) fn rows(&self, path: &str, name: &str) -> Vec<Value> {
        let answer = self.get(&format!("/api/v1{path}"), "");
        assert_eq!(answer.status, 200, "{path}: {}", String::from_utf8_lossy(&answer.body));
        answer.json()[name].as_array().unwrap().clone()
    }
}

#[test]
fn events_are_found_and_their_video_is_played() {
    let trial = Trial::of_speech();
    let talk = trial.add_narrated(1);
    trial.indexed();
    let server = Server::start(&trial, "");
    let found = server.rows("/search?q=beg*", "events");
    assert_eq!(found.len(), 1, "{found:?}");
    let video_id = found[0]["video_id"].as_str().unwrap();
    assert_eq!(server.rows(&format!("/videos/{video_id}/events"), "events").len(), 2);
    assert_eq!(server.rows(&format!("/videos/{video_id}/transcripts"), "transcripts").len(), 2);
    assert_eq!(server.rows("/search?q=&source=vid2seq", "events").len(), 0);
    assert_eq!(server.rows("/runs", "runs").len(), 1);
    assert!(server.rows("/failures", "failures").is_empty());
    let text = server.get(&format!("/api/v1/videos/{video_id}/events.vtt"), "");
    assert!(text.body.starts_with(b"WEBVTT\n\n00:00:0"), "{}", String::from_utf8_lossy(&text.body));

    let whole = std::fs::read(&talk.video).unwrap();
    let part = server.get(&format!("/media/{video_id}"), "Range: bytes=10-19\r\n");
    assert_eq!((part.status, &*part.body), (206, &whole[10..20]));
    assert!(part.headers.contains(&format!("content-range: bytes 10-19/{}", whole.len())));
    let beyond = server.get(&format!("/media/{video_id}"), "Range: bytes=999999999-\r\n");
    assert_eq!(beyond.status, 416);
    for other in ["nothing", "..%2F..%2Fetc%2Fpasswd", "%27%20OR%20%27%27%3D%27"] {
        assert_eq!(server.get(&format!("/media/{other}"), "").status, 404, "{other}");
    }
}

#[test]
fn a_new_run_is_seen_without_a_restart() {
    let trial = Trial::of_speech();
    trial.add_narrated(1);
    trial.indexed();
    let server = Server::start(&trial, "");
    assert_eq!(server.rows("/search?q=begins", "events").len(), 1);
    trial.add_narrated(2);
    trial.indexed();
    await_that("the second talk is found", || server.rows("/search?q=begins", "events").len() == 2);
}

#[test]
fn only_who_has_the_token_is_answered() {
    let trial = Trial::of_speech();
    trial.add_narrated(1);
    trial.indexed();
    let server = Server::start(&trial, TOKEN);
    let page = server.get("/", "");
    assert_eq!(page.status, 200);
    for header in [
        "content-security-policy: default-src 'none'",
        "nosniff",
        "no-referrer",
        "cross-origin-resource-policy: same-origin",
    ] {
        assert!(page.headers.contains(header), "{}", page.headers);
    }
    assert_eq!(server.get("/api/v1/runs", "").status, 401);
    assert_eq!(server.get("/api/v1/runs", "Authorization: Bearer wrong\r\n").status, 401);
    let bearer = &format!("Authorization: Bearer {TOKEN}\r\n");
    let found = server.get("/api/v1/search?q=begins", bearer).json();
    let video_id = found["events"][0]["video_id"].as_str().unwrap();
    let video = server.get(&format!("/api/v1/videos/{video_id}"), bearer).json();
    let link = video["media"].as_str().unwrap();
    assert_eq!(server.get(link, "").status, 200);
    assert_eq!(server.get(&link.replace("signature=", "signature=0"), "").status, 401);
    assert_eq!(server.get(&format!("/media/{video_id}"), "").status, 401);
}

#[test]
fn another_host_and_hostile_words_are_refused() {
    let trial = Trial::of_speech();
    trial.add_narrated(1);
    trial.indexed();
    let server = Server::start(&trial, "");
    assert_eq!(server.get("/api/v1/runs", "Host: evil.example\r\n").status, 421);
    let wrong = server.get("/api/v1/search?q=%22open", "");
    assert_eq!(wrong.status, 400);
    assert!(wrong.json()["error"].as_str().unwrap().contains("quotation"));
    let open = trial.program(["serve", "--tables", "lake", "--listen", "0.0.0.0:0"]);
    let refused = open.run(LIMIT).unwrap();
    refused.assert_code(2);
    assert!(refused.stderr.contains("EVENTIDE_SERVE_TOKEN"), "{}", refused.stderr);
}

#[test]
fn what_cannot_protect_is_refused_at_once() {
    let trial = Trial::of_speech();
    let weak = trial
        .program(["serve", "--tables", "lake"])
        .environment([("EVENTIDE_SERVE_TOKEN", "short")])
        .run(LIMIT)
        .unwrap();
    weak.assert_code(2);
    assert!(weak.stderr.contains("16 visible"), "{}", weak.stderr);
    let header = ["serve", "--tables", "lake", "--auth-header", "for warded"];
    let header = trial.program(header).run(LIMIT).unwrap();
    header.assert_code(2);
    assert!(header.stderr.contains("no header can be called `for warded`"), "{}", header.stderr);
}

#[test]
fn the_first_run_is_waited_for() {
    let trial = Trial::of_speech();
    trial.add_narrated(1);
    let server = Server::start(&trial, "");
    assert_eq!(server.get("/", "").status, 200);
    let nothing = server.get("/api/v1/search?q=", "");
    assert_eq!((nothing.status, nothing.json()["reason_code"].as_str()), (503, Some("no_tables")));
    trial.indexed();
    await_that("the first run is seen", || server.get("/api/v1/search?q=", "").status == 200);
    assert_eq!(server.rows("/search?q=begins", "events").len(), 1);
}

#[test]
fn players_that_pause_keep_nobody_else_from_anything() {
    let trial = Trial::of_speech();
    let talk = trial.add_narrated(1);
    grow(&talk.video, 32 << 20);
    trial.indexed();
    let server = Server::start(&trial, "");
    let found = server.rows("/search?q=begins", "events");
    let path = format!("/media/{}", found[0]["video_id"].as_str().unwrap());
    let paused: Vec<_> = (0..MOST_VIDEOS).map(|_| server.pause(&path)).collect();
    let refused = server.get(&path, "Range: bytes=0-9\r\n");
    assert_eq!(refused.status, 503);
    assert!(refused.headers.contains("retry-after: 1"), "{}", refused.headers);
    assert_eq!(server.rows("/search?q=begins", "events").len(), 1);
    drop(paused);
    let again = || server.get(&path, "Range: bytes=0-9\r\n").status == 206;
    await_that("the places of players that have gone are free", again);
    // A player that pauses does not keep the server, either.
    let _paused = server.pause(&path);
    let begun = Instant::now();
    server.stop();
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
}

#[test]
fn what_people_say_is_a_table() {
    let trial = Trial::of_speech();
    trial.add_narrated(1);
    trial.indexed();
    let json = "Content-Type: application/json\r\n";
    let closed = Server::start(&trial, "");
    let event = closed.rows("/search?q=begins", "events")[0].clone();
    let (event_id, video_id) = (event["event_id"].as_str(), event["video_id"].as_str().unwrap());
    let right = serde_json::json!({ "event_id": event_id, "verdict": "right" }).to_string();
    let refused = closed.post("/api/v1/feedback", json, &right);
    assert_eq!(refused.status, 403, "{refused:?}");
    closed.stop();

    let server = Server::start_with(&trial, "", &["--feedback", "--auth-header", "x-user"]);
    let ada = &format!("{json}X-User: ada\r\n");
    let status = |headers: &str, body: &str| server.post("/api/v1/feedback", headers, body).status;
    assert_eq!(status(json, &right), 401);
    assert_eq!(status("X-User: ada\r\n", &right), 415);
    assert_eq!(status(&format!("{ada}Origin: https://evil.example\r\n"), &right), 403);
    assert_eq!(status(&format!("{ada}Sec-Fetch-Site: cross-site\r\n"), &right), 403);
    assert_eq!(status(ada, r#"{"event_id":"nothing","verdict":"right"}"#), 404);
    assert_eq!(status(ada, &right.replace("right", "edited")), 400);
    assert_eq!(status(ada, &right.replace("right", "maybe")), 422);
    let long = format!("{ada}Content-Length: 20000\r\n");
    assert_eq!(server.ask("POST", "/api/v1/feedback", &long, "").status, 413);
    assert_eq!(status(&format!("{ada}Origin: http://{}\r\n", server.address), &right), 201);
    let edited = serde_json::json!({
        "event_id": event_id, "verdict": "edited", "caption": "It begins, 'so'.", "end_ms": 1800,
    });
    assert_eq!(status(ada, &edited.to_string()), 201);
    let path = format!("/api/v1/videos/{video_id}/feedback");
    await_that("the last word is shown", || {
        let said = server.get(&path, ada).json()["feedback"].clone();
        said.as_array().is_some_and(|rows| rows.len() == 1) && said[0]["verdict"] == "edited"
    });

    let statement = "SELECT verdict, f.caption, f.end_ms, who, e.run_id = f.run_id AS same \
        FROM feedback f JOIN events e USING (event_id) ORDER BY at";
    let asked = trial.program(["sql", "--tables", "lake", "--format", "csv", statement]);
    let asked = asked.run(LIMIT).unwrap();
    asked.assert_code(0);
    let rows: Vec<_> = asked.stdout.lines().skip(1).collect();
    assert_eq!(rows, ["right,,,ada,true", "edited,\"It begins, 'so'.\",1800,ada,true"]);
    assert_eq!(trial.rows("feedback", "at").len(), 2);
}

#[test]
fn events_have_pictures_that_are_kept() {
    let trial = Trial::of_speech();
    let talk = trial.add_narrated(3);
    trial.add_hostile(Hostile::NotVideo);
    trial.indexed();
    let tools = tools().unwrap();
    let folder = tools.folder().display().to_string();
    let server = Server::start_with(&trial, "", &["--tools", &folder]);
    let event = server.rows("/search?q=begins", "events")[0].clone();
    let path = format!("/api/v1/videos/{}/picture?at_ms=900", event["video_id"].as_str().unwrap());
    let picture = server.get(&path, "");
    assert_eq!(picture.status, 200);
    assert!(picture.headers.contains("content-type: image/png"), "{}", picture.headers);
    assert!(picture.body.starts_with(b"\x89PNG"));
    // It comes from the disk: the video is not looked at again.
    std::fs::remove_file(&talk.video).unwrap();
    assert_eq!(server.get(&path.replace("900", "1200"), "").body, picture.body);
    assert_eq!(server.get(&path.replace("900", "2600"), "").status, 404);
    let failed = server.rows("/videos?status=failed", "videos")[0].clone();
    let none = format!("/api/v1/videos/{}/picture?at_ms=0", failed["video_id"].as_str().unwrap());
    assert_eq!(server.get(&none, "").status, 404);
    assert_eq!(server.get("/api/v1/videos/..%2Fetc/picture?at_ms=0", "").status, 404);
}

/// Holds every answer to the schema that the contract has for it, from standard input.
const VALIDATE: &str = r#"
import json, sys
from jsonschema import Draft202012Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012
contract, answers = json.loads(sys.argv[1]), json.loads(sys.argv[2])
registry = Registry().with_resource("urn:api", Resource(contents=contract, specification=DRAFT202012))
for path, status, answer in answers:
    name = "/".join(["", "paths", path.replace("/", "~1"), "get", "responses", status, "content", "application~1json", "schema"])
    schema = {"$ref": "urn:api#" + name}
    errors = [f"{path}: {error.json_path}: {error.message}" for error in
              Draft202012Validator(schema, registry=registry).iter_errors(answer)]
    assert not errors, errors
print(len(answers))
"#;

#[test]
fn answers_are_as_the_contract_says() {
    let trial = Trial::of_speech();
    trial.add_narrated(1);
    trial.add_hostile(Hostile::NotVideo);
    trial.indexed();
    let server = Server::start_with(&trial, "", &["--feedback"]);
    let event = server.rows("/search?q=begins", "events")[0].clone();
    let video_id = event["video_id"].as_str().unwrap();
    let mark = serde_json::json!({ "event_id": event["event_id"], "verdict": "wrong" }).to_string();
    let marked = server.post("/api/v1/feedback", "Content-Type: application/json\r\n", &mark);
    assert_eq!(marked.status, 201);
    let about_it = format!("/api/v1/videos/{video_id}/feedback");
    await_that("the mark is shown", || {
        server.get(&about_it, "").json()["feedback"].as_array().is_some_and(|rows| rows.len() == 1)
    });
    let contract = server.get("/api/v1/openapi.json", "").json();
    let mut answers = Vec::new();
    for path in contract["paths"].as_object().unwrap().keys() {
        let no_json = ["/feedback", "/{video_id}/events.vtt", "/picture"];
        if path != "/api/v1/videos/{video_id}/feedback"
            && no_json.iter().any(|end| path.ends_with(end))
        {
            continue;
        }
        let answer = server.get(&path.replace("{video_id}", video_id), "");
        answers.push(serde_json::json!([path, answer.status.to_string(), answer.json()]));
    }
    let wrong = server.get("/api/v1/search?q=%22open", "");
    answers.push(serde_json::json!(["/api/v1/search", wrong.status.to_string(), wrong.json()]));
    let count = answers.len().to_string();
    let arguments = [contract.to_string(), Value::from(answers).to_string()];
    let said = tools().unwrap().run_validator(VALIDATE, arguments).unwrap();
    assert_eq!((said.trim(), count.as_str()), ("12", "12"));
}

/// Makes an MP4 longer by a box that players skip.
fn grow(video: &Path, bytes: u32) {
    let mut file = OpenOptions::new().append(true).open(video).unwrap();
    file.write_all(&bytes.to_be_bytes()).unwrap();
    file.write_all(b"free").unwrap();
    file.set_len(file.metadata().unwrap().len() + u64::from(bytes) - 8).unwrap();
}

/// Waits until something is so.
fn await_that(what: &str, mut so: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !so() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}
