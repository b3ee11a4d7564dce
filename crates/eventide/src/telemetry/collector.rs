//! A collector of traces: OTLP over plain HTTP, in its JSON form. TLS is left to the agent beside the process,
//! which is where collectors are mostly reached.

use std::{
    io::{self, BufRead, BufReader, Write},
    net::{TcpStream, ToSocketAddrs},
    time::Duration,
};

use url::Url;

/// How long a collector may take for anything.
const GRACE: Duration = Duration::from_secs(5);

/// Why nothing can be sent there.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub(crate) enum CollectorError {
    #[error("`{endpoint}` is not the address of a collector")]
    #[diagnostic(help("it is written `http://host:4318`"))]
    Address { endpoint: String },
    #[error("traces are sent over plain HTTP only, and `{endpoint}` asks for more")]
    #[diagnostic(help("send them to an agent on this machine, `http://127.0.0.1:4318`"))]
    Secure { endpoint: String },
}

/// Where traces go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Collector {
    host: String,
    port: u16,
    path: String,
}

impl Collector {
    /// The collector whose base address is `endpoint`, as `OTEL_EXPORTER_OTLP_ENDPOINT` has it.
    ///
    /// # Errors
    /// Where it is no address, or not of plain HTTP.
    pub(super) fn at(endpoint: &str) -> Result<Self, CollectorError> {
        let wrong = || CollectorError::Address { endpoint: endpoint.to_owned() };
        let url = Url::parse(endpoint).map_err(|_| wrong())?;
        match (url.scheme(), url.host_str(), url.port_or_known_default()) {
            ("http", Some(host), Some(port)) => {
                let path = format!("{}/v1/traces", url.path().trim_end_matches('/'));
                Ok(Self { host: host.to_owned(), port, path })
            }
            ("https", _, _) => Err(CollectorError::Secure { endpoint: endpoint.to_owned() }),
            _ => Err(wrong()),
        }
    }

    /// Sends a document.
    ///
    /// # Errors
    /// Where nobody takes it.
    pub(super) fn post(&self, document: &[u8]) -> io::Result<()> {
        let Self { host, port, path } = self;
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let address = (bare, *port).to_socket_addrs()?.next();
        let address = address.ok_or_else(|| io::Error::other("the name has no address"))?;
        let mut stream = TcpStream::connect_timeout(&address, GRACE)?;
        stream.set_read_timeout(Some(GRACE))?;
        stream.set_write_timeout(Some(GRACE))?;
        let length = document.len();
        write!(
            stream,
            "POST {path} HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\
             Connection: close\r\n\r\n"
        )?;
        stream.write_all(document)?;
        let mut status = String::new();
        BufReader::new(stream).read_line(&mut status)?;
        match status.split(' ').nth(1) {
            Some(code) if code.starts_with('2') => Ok(()),
            _ => Err(io::Error::other(format!("it answers `{}`", status.trim_end()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::usual("http://127.0.0.1:4318", Some(("127.0.0.1", 4318, "/v1/traces")))]
    #[case::slash("http://agent:4318/", Some(("agent", 4318, "/v1/traces")))]
    #[case::below("http://agent/otlp", Some(("agent", 80, "/otlp/v1/traces")))]
    #[case::six("http://[::1]:4318", Some(("[::1]", 4318, "/v1/traces")))]
    #[case::secure("https://agent:4318", None)]
    #[case::grpc("agent:4317", None)]
    fn an_endpoint_is_an_address(#[case] text: &str, #[case] place: Option<(&str, u16, &str)>) {
        let collector = Collector::at(text).ok();
        let place = place.map(|(host, port, path)| Collector {
            host: host.to_owned(),
            port,
            path: path.to_owned(),
        });
        assert_eq!(collector, place);
    }

    #[test]
    fn nobody_there_is_an_error() {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let collector = Collector::at(&format!("http://127.0.0.1:{port}")).unwrap();
        assert!(collector.post(b"{}").is_err());
    }
}
