//! Connections over HTTP/1: how many there are, how long each may be silent, and their end.

use std::{
    future::Future,
    io::{self, IoSlice},
    pin::{Pin, pin},
    task::{Context, Poll},
    time::Duration,
};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time::{Sleep, sleep, timeout},
};

/// Connections at a time. Whoever comes while there are as many waits.
const MOST: usize = 512;
/// How long a connection may take to say what it asks for, or ask for nothing.
const PATIENCE_TO_READ: Duration = Duration::from_secs(30);
/// How long whoever is answered may take nothing. A player that was paused asks again where it was.
const PATIENCE_TO_WRITE: Duration = Duration::from_mins(1);
/// How long answers may take that are under way when the server is told to stop.
const GRACE: Duration = Duration::from_secs(10);
/// How long no connection is taken after one could not be, as when too many files are open.
const PAUSE: Duration = Duration::from_millis(100);

/// Answers what comes to `listener` until `stop` is ready. Answers under way are finished within ten seconds,
/// else cut off.
pub(super) async fn serve(listener: TcpListener, routes: Router, stop: impl Future<Output = ()>) {
    let mut open = JoinSet::new();
    let (stopping, stopped) = watch::channel(false);
    let mut stop = pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => break,
            Some(_) = open.join_next() => {}
            accepted = listener.accept(), if open.len() < MOST => match accepted {
                Ok((stream, _)) => {
                    open.spawn(answer(stream, routes.clone(), stopped.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot take a connection");
                    sleep(PAUSE).await;
                }
            }
        }
    }
    drop(listener);
    stopping.send_replace(true);
    let ended = async { while open.join_next().await.is_some() {} };
    if timeout(GRACE, ended).await.is_err() {
        tracing::info!(connections = open.len(), "cut off, since the server stops");
    }
}

/// Answers one connection to its end.
async fn answer(stream: TcpStream, routes: Router, mut stopped: watch::Receiver<bool>) {
    let stream = TokioIo::new(Patient::new(stream, PATIENCE_TO_WRITE));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE_TO_READ)
        .serve_connection(stream, TowerToHyperService::new(routes));
    let mut connection = pin!(connection);
    let stopping = async move { drop(stopped.wait_for(|stopped| *stopped).await) };
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stopping => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}

/// A stream that fails when the other end takes nothing for a while.
struct Patient<S> {
    stream: S,
    patience: Duration,
    waited: Option<Pin<Box<Sleep>>>,
}

impl<S> Patient<S> {
    fn new(stream: S, patience: Duration) -> Self {
        Self { stream, patience, waited: None }
    }

    fn watched<T>(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.waited = None;
            return written;
        }
        let waited = self.waited.get_or_insert_with(|| Box::pin(sleep(self.patience)));
        waited.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.watched(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        self.watched(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        self.watched(context, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn who_takes_nothing_is_left() {
        let (near, mut far) = tokio::io::duplex(4);
        let mut near = Patient::new(near, Duration::from_millis(20));
        near.write_all(b"1234").await.unwrap();
        let error = near.write_all(b"5").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        far.read_exact(&mut [0; 4]).await.unwrap();
    }

    #[tokio::test]
    async fn who_takes_a_little_now_and_then_is_served() {
        let (near, mut far) = tokio::io::duplex(1);
        let mut near = Patient::new(near, Duration::from_secs(20));
        let (sent, received) = tokio::join!(near.write_all(b"12345678"), async {
            let mut bytes = [0; 8];
            far.read_exact(&mut bytes).await.map(|_| bytes)
        });
        sent.unwrap();
        assert_eq!(&received.unwrap(), b"12345678");
    }
}
