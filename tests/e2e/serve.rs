//! The page's server: the API over a night that was really indexed, ranges of a video, and who is let in.

use std::io::{Read, Write};
use std::net::TcpStream;

use eventide_testkit::Running;
use serde_json::Value;

use crate::trial::{LIMIT, Trial};

/// A server and the address that it listens at.
struct Server {
    _running: Running,
    address: String,
}

/// An answer: its status, its headers in small letters, its body.
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
    fn start(trial: &Trial, token: &str) -> Self {
        let arguments = ["serve", "--tables", "lake", "--listen", "127.0.0.1:0"];
        let cache = trial.folder().join("cache");
        let program = trial.program(arguments).environment([
            ("XDG_CACHE_HOME", cache.display().to_string()),
            ("EVENTIDE_SERVE_TOKEN", token.to_owned()),
        ]);
        let running = program.start().unwrap();
        let line = running.await_line("page at http://", LIMIT).unwrap();
        let address =
            line.rsplit_once("http://").unwrap().1.trim().trim_end_matches('/').to_owned();
        Self { _running: running, address }
    }

    fn get(&self, path: &str, headers: &str) -> Answer {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        let host = if headers.contains("Host:") {
            String::new()
        } else {
            format!("Host: {}\r\n", self.address)
        };
        let request = format!("GET {path} HTTP/1.1\r\n{host}Connection: close\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
        let headers = String::from_utf8(bytes[..end].to_vec()).unwrap().to_lowercase();
        let status = headers.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, headers, body: bytes[end + 4..].to_vec() }
    }

    fn rows(&self, path: &str, name: &str) -> Vec<Value> {
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
    let past = server.get(&format!("/media/{video_id}"), "Range: bytes=999999999-\r\n");
    assert_eq!(past.status, 416);
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
    let deadline = std::time::Instant::now() + LIMIT;
    while server.rows("/search?q=begins", "events").len() != 2 {
        assert!(std::time::Instant::now() < deadline, "the second talk is never found");
        std::thread::sleep(std::time::Duration::from_millis(500));
    }
}

#[test]
fn only_who_has_the_token_is_answered() {
    let trial = Trial::of_speech();
    trial.add_narrated(1);
    trial.indexed();
    let server = Server::start(&trial, "a secret");
    let page = server.get("/", "");
    assert_eq!(page.status, 200);
    for header in ["content-security-policy: default-src 'none'", "nosniff", "no-referrer"] {
        assert!(page.headers.contains(header), "{}", page.headers);
    }
    assert_eq!(server.get("/api/v1/runs", "").status, 401);
    assert_eq!(server.get("/api/v1/runs", "Authorization: Bearer wrong\r\n").status, 401);
    let bearer = "Authorization: Bearer a secret\r\n";
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
