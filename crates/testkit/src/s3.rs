//! A real S3 server (`SeaweedFS`) on loopback for one test: an empty bucket, and nothing left when it is dropped.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use object_store::aws::{AmazonS3, AmazonS3Builder};
use tempfile::TempDir;

use crate::error::{Error, Result};
use crate::tools::Tools;

const ACCESS_KEY: &str = "eventide";
const SECRET_KEY: &str = "eventide-secret";
const REGION: &str = "us-east-1";
const BUCKET: &str = "corpus";

/// How long the server may take until it answers; it is up after four seconds on an idle machine.
const START_LIMIT: Duration = Duration::from_secs(90);
/// Other programs may take a port between its choice and its use.
const STARTS: usize = 3;
/// The time between two questions whether the server is up.
const PAUSE: Duration = Duration::from_millis(50);

/// Runs the server and kills it, with all that it started, as soon as its standard input ends: when the test drops
/// it, and also when the test itself is killed. Where the server ends by itself, so does this.
const GUARD: &str = r#"{ "$@"; kill -9 0; } </dev/null & read -r _; kill -9 0"#;

/// A running server with one bucket.
#[derive(Debug)]
pub struct S3Server {
    child: Child,
    ports: Ports,
    folder: TempDir,
}

/// The ports of the server's parts. Each is chosen by the system.
#[derive(Debug, Clone, Copy)]
struct Ports {
    master: [u16; 2],
    volume: [u16; 2],
    filer: [u16; 2],
    s3: [u16; 2],
}

impl S3Server {
    /// Starts a server and waits until it stores objects.
    ///
    /// # Errors
    /// [`Error::MissingTool`], [`Error::Start`], and [`Error::Late`] or [`Error::Ended`] with the server's log.
    pub fn start(tools: &Tools) -> Result<Self> {
        let weed = tools.weed()?;
        let mut last = Self::start_once(&weed);
        for _ in 1..STARTS {
            if !matches!(last, Err(Error::Ended { .. })) {
                break;
            }
            last = Self::start_once(&weed);
        }
        last
    }

    fn start_once(weed: &Path) -> Result<Self> {
        let folder = tempfile::tempdir().map_err(Error::file("create", &std::env::temp_dir()))?;
        let ports =
            Ports::free().map_err(Error::file("reserve ports on", Path::new("loopback")))?;
        let identities = folder.path().join("identities.json");
        fs::write(&identities, identities_json()).map_err(Error::file("write", &identities))?;
        let log_path = folder.path().join("log");
        let log = fs::File::create(&log_path).map_err(Error::file("create", &log_path))?;
        let again = log.try_clone().map_err(Error::file("open", &log_path))?;
        let child = Command::new("sh")
            .args(["-c", GUARD, "sh"])
            .arg(weed)
            .args(arguments(ports, folder.path()))
            .current_dir(folder.path())
            .env("HOME", folder.path())
            .stdin(Stdio::piped())
            .stdout(log)
            .stderr(again)
            .process_group(0)
            .spawn()
            .map_err(|source| Error::Start { program: weed.to_path_buf(), source })?;
        let mut server = Self { child, ports, folder };
        server.await_readiness(weed)?;
        Ok(server)
    }

    /// The server's address, as `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports.s3[0])
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.ports.s3[0]))
    }

    /// The bucket's address with a key behind it, as `s3://BUCKET/KEY`.
    #[must_use]
    pub fn uri(&self, key: &str) -> String {
        format!("s3://{BUCKET}/{key}")
    }

    /// The environment variables by which a program finds the server and may use it.
    #[must_use]
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("AWS_ENDPOINT", self.endpoint()),
            ("AWS_ALLOW_HTTP", "true".to_owned()),
            ("AWS_ACCESS_KEY_ID", ACCESS_KEY.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", SECRET_KEY.to_owned()),
            ("AWS_REGION", REGION.to_owned()),
        ]
    }

    /// A client for the bucket.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn store(&self) -> Result<AmazonS3> {
        AmazonS3Builder::new()
            .with_endpoint(self.endpoint())
            .with_allow_http(true)
            .with_access_key_id(ACCESS_KEY)
            .with_secret_access_key(SECRET_KEY)
            .with_region(REGION)
            .with_bucket_name(BUCKET)
            .build()
            .map_err(|source| Error::Store { source })
    }

    fn await_readiness(&mut self, weed: &Path) -> Result<()> {
        let what = "the S3 server to store objects";
        let start = Instant::now();
        while !self.is_ready() {
            let ended = self.child.try_wait().map_err(Error::file("wait for", weed))?.is_some();
            if ended {
                let said = self.log();
                return Err(Error::Ended {
                    program: weed.to_path_buf(),
                    what: what.to_owned(),
                    said,
                });
            }
            if start.elapsed() > START_LIMIT {
                return Err(Error::Late {
                    what: what.to_owned(),
                    waited: start.elapsed(),
                    said: self.log(),
                });
            }
            thread::sleep(PAUSE);
        }
        Ok(())
    }

    /// Whether a file can be stored, the bucket (a folder of the store) is there, and the S3 door answers.
    fn is_ready(&self) -> bool {
        let store = self.ports.filer[0];
        status(store, "PUT /ready", "ready").is_some_and(|status| status == 201)
            && status(store, &format!("POST /buckets/{BUCKET}/"), "")
                .is_some_and(|it| it == 201 || it == 409)
            && status(self.ports.s3[0], "GET /", "").is_some()
    }

    /// The end of what the server logged.
    fn log(&self) -> String {
        let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        // The guard kills itself too, so this ends; there is nobody to tell if it does not.
        let _ = self.child.wait();
    }
}

impl Ports {
    fn free() -> std::io::Result<Self> {
        // All are held until all are chosen, so that no two are the same.
        let held: Vec<TcpListener> = (0..8)
            .map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
            .collect::<std::io::Result<_>>()?;
        let ports: Vec<u16> = held
            .iter()
            .map(|listener| Ok(listener.local_addr()?.port()))
            .collect::<std::io::Result<_>>()?;
        Ok(Self {
            master: [ports[0], ports[1]],
            volume: [ports[2], ports[3]],
            filer: [ports[4], ports[5]],
            s3: [ports[6], ports[7]],
        })
    }
}

/// The server's arguments: all on loopback, nothing reported to anybody, small volumes.
fn arguments(ports: Ports, folder: &Path) -> Vec<String> {
    let Ports { master, volume, filer, s3 } = ports;
    let place = folder.display();
    vec![
        "-logtostderr".to_owned(),
        "server".to_owned(),
        format!("-dir={place}"),
        "-ip=127.0.0.1".to_owned(),
        "-ip.bind=127.0.0.1".to_owned(),
        "-master.telemetry=false".to_owned(),
        "-master.volumeSizeLimitMB=64".to_owned(),
        "-volume.max=100".to_owned(),
        "-filer".to_owned(),
        "-s3".to_owned(),
        "-s3.iam=false".to_owned(),
        "-s3.port.iceberg=0".to_owned(),
        "-s3.port.lance=0".to_owned(),
        format!("-s3.config={place}/identities.json"),
        format!("-filer.localSocket={place}/filer.sock"),
        format!("-s3.localSocket={place}/s3.sock"),
        format!("-master.port={}", master[0]),
        format!("-master.port.grpc={}", master[1]),
        format!("-volume.port={}", volume[0]),
        format!("-volume.port.grpc={}", volume[1]),
        format!("-filer.port={}", filer[0]),
        format!("-filer.port.grpc={}", filer[1]),
        format!("-s3.port={}", s3[0]),
        format!("-s3.port.grpc={}", s3[1]),
    ]
}

fn identities_json() -> String {
    format!(
        r#"{{"identities":[{{"name":"test","credentials":[{{"accessKey":"{ACCESS_KEY}","secretKey":"{SECRET_KEY}"}}],"actions":["Admin","Read","Write","List","Tagging"]}}]}}"#
    )
}

/// The status of the answer to one request, if there is an answer within a second.
fn status(port: u16, request: &str, body: &str) -> Option<u16> {
    let limit = Duration::from_secs(1);
    let mut stream =
        TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)), limit).ok()?;
    stream.set_read_timeout(Some(limit)).ok()?;
    let length = body.len();
    write!(
        stream,
        "{request} HTTP/1.0\r\nHost: 127.0.0.1\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .ok()?;
    let mut line = [0; 12];
    stream.read_exact(&mut line).ok()?;
    std::str::from_utf8(&line[9..]).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use object_store::{ObjectStore as _, ObjectStoreExt as _, PutMode, PutOptions};

    use super::*;
    use crate::tools::tools;

    #[tokio::test]
    async fn stores_creates_once_reads_ranges_and_is_gone_when_dropped() {
        let server = S3Server::start(&tools().unwrap()).unwrap();
        let store = server.store().unwrap();
        let create = || PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        store.put_opts(&"runs/receipt".into(), "0123456789".into(), create()).await.unwrap();
        let again =
            store.put_opts(&"runs/receipt".into(), "other".into(), create()).await.unwrap_err();
        assert!(matches!(again, object_store::Error::AlreadyExists { .. }), "{again}");
        assert_eq!(store.get_range(&"runs/receipt".into(), 3..6).await.unwrap().as_ref(), b"345");

        let (port, folder) = (server.ports.s3[0], server.folder.path().to_path_buf());
        drop(server);
        assert_eq!(status(port, "GET /", ""), None, "the server still answers");
        assert!(!folder.exists());
    }

    #[test]
    fn a_server_that_cannot_start_shows_its_log() {
        let folder = tempfile::tempdir().unwrap();
        let weed = folder.path().join("weed");
        fs::write(&weed, "#!/bin/sh\necho no space left\nexit 1\n").unwrap();
        fs::set_permissions(&weed, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let error = S3Server::start(&Tools::in_folder(folder.path())).unwrap_err();
        assert!(matches!(&error, Error::Ended { said, .. } if said == "no space left"), "{error}");
    }
}
