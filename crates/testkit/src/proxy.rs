//! A door before an S3 server that fails when it is told to: refusals, connections that break off in a body, bodies
//! that end too early, answers that get lost, and requests that wait until the test says so.
//!
//! What strikes is decided by the same [`Rule`]s as in [`FaultyStore`](crate::FaultyStore). Bytes are passed on as they
//! are, one request a connection, since most of these faults are none that an HTTP library would commit.

use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use futures::executor::block_on;
use socket2::SockRef;

use crate::error::{Error, Result};
use crate::faulty::{Fault, Operation, Rule, Rules};
use crate::s3::S3Server;

/// How long either side may be silent within a request.
const SILENCE: Duration = Duration::from_mins(1);
/// The longest head of a request or an answer.
const LONGEST_HEAD: usize = 64 << 10;

/// The door. Dropping it closes it.
#[derive(Debug)]
pub struct FaultProxy {
    address: SocketAddr,
    environment: Vec<(&'static str, String)>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    upstream: SocketAddr,
    rules: Mutex<Arc<Rules>>,
    closed: AtomicBool,
}

impl FaultProxy {
    /// A door before `server` through which everything goes, until there are [rules](Self::fail_by).
    ///
    /// # Errors
    /// [`Error::File`] where there is no port.
    pub fn before(server: &S3Server) -> Result<Self> {
        let mut proxy = Self::before_http(server.address())?;
        proxy.environment = server.environment();
        for (name, value) in &mut proxy.environment {
            if *name == "AWS_ENDPOINT" {
                *value = format!("http://{}", proxy.address);
            }
        }
        Ok(proxy)
    }

    /// The same before any server of HTTP. Of paths, the rules see what is behind the first part.
    ///
    /// # Errors
    /// [`Error::File`] where there is no port.
    pub fn before_http(upstream: SocketAddr) -> Result<Self> {
        let failed = || Error::file("listen on", Path::new("loopback"));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(failed())?;
        let address = listener.local_addr().map_err(failed())?;
        let shared =
            Arc::new(Shared { upstream, rules: Mutex::default(), closed: AtomicBool::new(false) });
        let door = Arc::clone(&shared);
        thread::spawn(move || door.listen(&listener));
        Ok(Self { address, environment: Vec::new(), shared })
    }

    /// Where the door is.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The environment variables by which a program finds the server through this door.
    #[must_use]
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        self.environment.clone()
    }

    /// Has requests from now on fail by these rules, and no longer by earlier ones.
    pub fn fail_by(&self, rules: impl IntoIterator<Item = Rule>) {
        *self.shared.lock() = Arc::new(Rules::new(rules));
    }

    /// How often each of the rules has struck. A test checks it, lest it hold because nothing went wrong.
    #[must_use]
    pub fn struck(&self) -> Vec<u64> {
        self.shared.lock().struck()
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address); // wakes the listener, which then ends
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Arc<Rules>> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn listen(self: &Arc<Self>, listener: &TcpListener) {
        for client in listener.incoming() {
            if self.closed.load(Ordering::SeqCst) {
                return;
            }
            let shared = Arc::clone(self);
            if let Ok(client) = client {
                // What goes wrong here looks to the client like one fault more.
                thread::spawn(move || shared.serve(client).ok());
            }
        }
    }

    /// Answers the one request of a connection.
    fn serve(&self, mut client: TcpStream) -> io::Result<()> {
        client.set_read_timeout(Some(SILENCE))?;
        let Some(head) = Head::read(&mut client)? else { return Ok(()) };
        let (operation, path) = head.asks();
        let rules = Arc::clone(&self.lock());
        let fault = rules.fault(operation, &path);
        if let Some(Fault::Refused { status }) = fault {
            io::copy(&mut head.body(&client), &mut io::sink())?;
            return refuse(&client, &head, status);
        }
        if let Some(Fault::Held(gate)) = &fault {
            block_on(gate.pass());
        }
        let mut server = self.forward(&head, &client)?;
        match fault {
            Some(Fault::LostAnswer) => {
                io::copy(&mut server, &mut io::sink())?;
                reset(&client)
            }
            Some(Fault::DoneAndRefused { status }) => {
                io::copy(&mut server, &mut io::sink())?;
                refuse(&client, &head, status)
            }
            Some(Fault::Reset { after }) => {
                pass_on(&mut server, &client, Some(after), false)?;
                reset(&client)
            }
            Some(Fault::ShortRead { after }) => pass_on(&mut server, &client, Some(after), true),
            _ => pass_on(&mut server, &client, None, false),
        }
    }

    /// Has the server do what is asked, and gives the connection that the answer comes on.
    fn forward(&self, head: &Head, client: &TcpStream) -> io::Result<TcpStream> {
        let mut server = TcpStream::connect(self.upstream)?;
        server.set_read_timeout(Some(SILENCE))?;
        server.write_all(&head.text(None))?;
        io::copy(&mut head.body(client), &mut server)?;
        Ok(server)
    }
}

/// The lines before a body, and what was read of the body along with them.
#[derive(Debug)]
struct Head {
    lines: Vec<String>,
    read_on: Vec<u8>,
}

impl Head {
    /// The head of the next request or answer; `None` where the other side hangs up.
    fn read(stream: &mut impl Read) -> io::Result<Option<Self>> {
        let mut bytes = Vec::new();
        let mut part = [0; 4096];
        loop {
            if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                let read_on = bytes.split_off(end + 4);
                let text = String::from_utf8(bytes).map_err(io::Error::other)?;
                let lines = text.trim_end().split("\r\n").map(str::to_owned).collect();
                return Ok(Some(Self { lines, read_on }));
            }
            let count = stream.read(&mut part)?;
            if count == 0 || bytes.len() > LONGEST_HEAD {
                return Ok(None);
            }
            bytes.extend_from_slice(&part[..count]);
        }
    }

    /// The value of a header.
    fn value(&self, name: &str) -> Option<&str> {
        let lines = self.lines.iter().skip(1).filter_map(|line| line.split_once(':'));
        lines.into_iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, it)| it.trim())
    }

    fn length(&self) -> Option<u64> {
        self.value("content-length")?.parse().ok()
    }

    /// The head as bytes, for the only message of its connection; with another length of the body, if given.
    fn text(&self, length: Option<u64>) -> Vec<u8> {
        let is_kept = |line: &&String| {
            let name = line.split(':').next().unwrap_or_default();
            let is_length = name.eq_ignore_ascii_case("content-length");
            !(name.eq_ignore_ascii_case("connection") || is_length && length.is_some())
        };
        let mut text = String::new();
        for line in self.lines.iter().filter(is_kept) {
            text += line;
            text += "\r\n";
        }
        if let Some(length) = length {
            let _ = write!(text, "Content-Length: {length}\r\n"); // writing to a string cannot fail
        }
        (text + "Connection: close\r\n\r\n").into_bytes()
    }

    /// The body of a request, whose rest comes from `stream`.
    fn body<'a>(&'a self, stream: &'a TcpStream) -> impl Read + 'a {
        self.read_on.as_slice().chain(stream).take(self.length().unwrap_or(0))
    }

    /// What a request asks of the store, and the key in the bucket.
    fn asks(&self) -> (Operation, String) {
        let mut words = self.lines[0].split(' ');
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let key = path.trim_start_matches('/').split_once('/').map_or("", |(_, key)| key);
        let asks = |word: &str| query.split('&').any(|pair| pair.split('=').next() == Some(word));
        match method {
            "HEAD" => (Operation::Head, key.to_owned()),
            "DELETE" => (Operation::Delete, key.to_owned()),
            "GET" if asks("list-type") => (Operation::List, prefix(query)),
            "GET" => (Operation::Get, key.to_owned()),
            "POST" if asks("delete") => (Operation::Delete, String::new()),
            "PUT" if self.value("x-amz-copy-source").is_some() => (Operation::Copy, key.to_owned()),
            _ => (Operation::Put, key.to_owned()),
        }
    }
}

/// The prefix that a listing is of.
fn prefix(query: &str) -> String {
    let value = query.split('&').find_map(|pair| pair.strip_prefix("prefix="));
    value.unwrap_or_default().replace("%2F", "/")
}

/// Passes an answer on: all of it, or so many bytes of its body. Where it `says_so`, what comes looks whole.
fn pass_on(
    server: &mut TcpStream,
    mut client: &TcpStream,
    after: Option<u64>,
    says_so: bool,
) -> io::Result<()> {
    let Some(head) = Head::read(server)? else { return reset(client) };
    let whole = head.length();
    let length = after.zip(whole).filter(|_| says_so).map(|(after, whole)| after.min(whole));
    client.write_all(&head.text(length))?;
    let mut body = head.read_on.as_slice().chain(server).take(after.unwrap_or(u64::MAX));
    io::copy(&mut body, &mut client)?;
    client.shutdown(Shutdown::Write)
}

/// Answers with a status, as S3 does.
fn refuse(mut client: &TcpStream, request: &Head, status: u16) -> io::Result<()> {
    let (operation, key) = request.asks();
    let body = match operation {
        Operation::Head => String::new(),
        _ => format!("<Error><Code>Injected{status}</Code><Key>{key}</Key></Error>"),
    };
    let length = body.len();
    write!(
        client,
        "HTTP/1.1 {status} Injected\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )?;
    client.shutdown(Shutdown::Write)
}

/// Breaks the connection off, so that the client sees a reset and no end.
fn reset(client: &TcpStream) -> io::Result<()> {
    SockRef::from(client).set_linger(Some(Duration::ZERO)) // done as it is closed
}

#[cfg(test)]
mod tests {
    use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, RetryConfig, aws};

    use super::*;
    use crate::{Gate, When, tools};

    /// A client that comes through the door and tries nothing twice.
    fn client(proxy: &FaultProxy) -> aws::AmazonS3 {
        let retry = RetryConfig { max_retries: 0, ..RetryConfig::default() };
        let mut builder = aws::AmazonS3Builder::new()
            .with_bucket_name("corpus")
            .with_conditional_put(aws::S3ConditionalPut::ETagMatch)
            .with_retry(retry);
        for (name, value) in proxy.environment() {
            builder = builder.with_config(name.to_ascii_lowercase().parse().unwrap(), value);
        }
        builder.build().unwrap()
    }

    fn first(operation: Operation, fault: Fault) -> Rule {
        Rule { operation, path: "film".to_owned(), when: When::First(1), fault }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn every_fault_strikes_as_it_is_told_to() {
        let server = S3Server::start(&tools().unwrap()).unwrap();
        let proxy = FaultProxy::before(&server).unwrap();
        let (store, path) = (client(&proxy), "film".into());
        store.put(&path, "0123456789".into()).await.unwrap();
        let read = async || store.get(&path).await?.bytes().await;
        assert_eq!(read().await.unwrap().as_ref(), b"0123456789", "without rules all goes through");

        proxy.fail_by([first(Operation::Get, Fault::Refused { status: 503 })]);
        assert!(read().await.unwrap_err().to_string().contains("503"));
        proxy.fail_by([first(Operation::Get, Fault::ShortRead { after: 4 })]);
        assert_eq!(read().await.unwrap().as_ref(), b"0123");
        proxy.fail_by([first(Operation::Get, Fault::Reset { after: 4 })]);
        assert!(read().await.is_err());
        assert_eq!(read().await.unwrap().as_ref(), b"0123456789");
        assert_eq!(proxy.struck(), [1]);

        let create = async |path: &str| {
            let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
            store.put_opts(&path.into(), "new".into(), options).await
        };
        proxy.fail_by([first(Operation::Put, Fault::Refused { status: 500 })]);
        assert!(create("film-1").await.is_err());
        create("film-1").await.unwrap();
        for (path, fault) in
            [("film-2", Fault::LostAnswer), ("film-3", Fault::DoneAndRefused { status: 500 })]
        {
            proxy.fail_by([first(Operation::Put, fault)]);
            assert!(create(path).await.is_err());
            let again = create(path).await.unwrap_err();
            assert!(matches!(again, object_store::Error::AlreadyExists { .. }), "{again}");
        }

        let gate = Gate::closed();
        proxy.fail_by([first(Operation::Head, Fault::Held(gate.clone()))]);
        let held = async {
            tokio::time::timeout(SILENCE, gate.arrivals(1)).await.unwrap();
            server.store().unwrap().put(&path, "changed".into()).await.unwrap();
            gate.open();
        };
        let (meta, ()) = tokio::join!(store.head(&path), held);
        assert_eq!(meta.unwrap().size, 7, "it was held until the object was another");
    }

    #[test]
    fn tells_what_is_asked() {
        let asks = |line: &str| {
            let text = format!("{line} HTTP/1.1\r\nHost: a\r\n\r\n");
            Head::read(&mut text.as_bytes()).unwrap().unwrap().asks()
        };
        for (line, operation, key) in [
            ("GET /b/lake/a.json", Operation::Get, "lake/a.json"),
            ("HEAD /b/a.mp4", Operation::Head, "a.mp4"),
            ("PUT /b/a?partNumber=1&uploadId=2", Operation::Put, "a"),
            ("POST /b/a?uploads", Operation::Put, "a"),
            ("POST /b?delete", Operation::Delete, ""),
            ("GET /b?list-type=2&prefix=lake%2Fa", Operation::List, "lake/a"),
            ("GET /b/?prefix=lake/&list-type=2", Operation::List, "lake/"),
        ] {
            assert_eq!(asks(line), (operation, key.to_owned()), "{line}");
        }
    }
}
