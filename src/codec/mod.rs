//! HTTP/1.1 on a lane's connection: one request written, one response read, nothing kept of it.
//!
//! A codec runs unchanged under every engine, so that two rows differ in scheduling alone:
//!
//! | codec | blocking socket | async socket |
//! |---|---|---|
//! | [`lean`] | writes and reads | polls the socket |
//! | [`hyper`] | the lane's thread polls hyper's connection over [`hyper::BlockingIo`] | the lane's task polls it over [`hyper::AsyncIo`] |
//!
//! [`parse`] is lean's sans-IO half; [`socket`] makes the sockets, the same options for all;
//! [`tls`] stands between either codec and either socket where the target speaks https.

pub mod hyper;
pub mod lean;
pub mod parse;
pub mod socket;
pub mod tls;

use std::time::Duration;

use crate::plan::Codec;
use crate::plan::request::Rendered;
use crate::side::ErrorKind;
use crate::sys::now_ns;
use socket::{BlockingSocket, Route};

/// A response that was read whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reply {
    /// Status code.
    pub status: u16,
    /// Bytes read from the socket, head included.
    pub received: u64,
    /// CLOCK_MONOTONIC when the first byte had been read; `None` when one read held it all, so
    /// that the end is the first byte's instant and no clock was read for it.
    pub first_byte: Option<u64>,
    /// Whether the connection may carry the next request.
    pub keep: bool,
}

/// A request that did not complete; its connection is to be closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// `timeout` passed.
    TimedOut,
    /// Broke at a stage.
    Error {
        /// Where.
        kind: ErrorKind,
        /// What happened, for the first sample of its kind.
        message: String,
    },
}

impl Failure {
    /// An error at a stage.
    pub fn new(kind: ErrorKind, message: impl std::fmt::Display) -> Self {
        Failure::Error { kind, message: message.to_string() }
    }
}

/// A connection that was made.
pub struct Connected<C> {
    /// The connection.
    pub connection: C,
    /// CLOCK_MONOTONIC when the socket was connected and the TLS handshake began, and what that
    /// agreed on; `None` without TLS.
    pub handshake: Option<(u64, Option<tls::Agreed>)>,
}

fn connect_failure(route: &Route<'_>, error: impl std::fmt::Display) -> Failure {
    Failure::new(ErrorKind::Connect, format!("{}: {error}", route.target))
}

/// Names the target in a handshake's failure.
fn at_target(route: &Route<'_>, failure: Failure) -> Failure {
    match failure {
        Failure::Error { message, .. } => connect_failure(route, message),
        other => other,
    }
}

/// A lane's connection on a blocking socket. TLS is boxed, so that plain lanes do not carry it.
pub enum BlockingConn {
    /// hyper over a socket that blocks.
    Hyper(Box<hyper::Blocking>),
    /// duel's own.
    Lean(lean::Blocking),
    /// hyper over TLS.
    HyperTls(Box<hyper::tls::Blocking>),
    /// duel's own over TLS.
    LeanTls(Box<lean::tls::Blocking>),
}

impl BlockingConn {
    /// Connects, with a TLS handshake where there is a client for it; `timeout` bounds both
    /// together, and each request.
    ///
    /// # Errors
    /// A `connect` error.
    pub fn connect(
        codec: Codec,
        route: &Route<'_>,
        timeout: Duration,
        tls: Option<&tls::Client>,
    ) -> Result<Connected<Self>, Failure> {
        if let Some(client) = tls {
            return Self::connect_tls(codec, route, timeout, client);
        }
        let timeout_ns = timeout.as_nanos() as u64;
        let stream = route.connect_blocking(timeout).map_err(|e| connect_failure(route, e))?;
        let connection = match codec {
            Codec::Hyper => {
                BlockingConn::Hyper(Box::new(hyper::Blocking::new(stream, timeout_ns)?))
            }
            Codec::Lean => BlockingConn::Lean(lean::Blocking::new(stream, timeout_ns)),
        };
        Ok(Connected { connection, handshake: None })
    }

    /// Out of line, so that a plain lane's stack is not touched as deep.
    #[inline(never)]
    fn connect_tls(
        codec: Codec,
        route: &Route<'_>,
        timeout: Duration,
        client: &tls::Client,
    ) -> Result<Connected<Self>, Failure> {
        let timeout_ns = timeout.as_nanos() as u64;
        let deadline = now_ns() + timeout_ns;
        let stream = route.connect_blocking(timeout).map_err(|e| connect_failure(route, e))?;
        let begun = now_ns();
        let mut socket = BlockingSocket::new(stream, timeout_ns);
        let session = lean::tls::handshake_blocking(client, &mut socket, deadline)
            .map_err(|e| at_target(route, e))?;
        let handshake = Some((begun, session.agreed()));
        let connection = match codec {
            Codec::Hyper => {
                BlockingConn::HyperTls(Box::new(hyper::tls::Blocking::over_tls(socket, session)?))
            }
            Codec::Lean => {
                BlockingConn::LeanTls(Box::new(lean::tls::Blocking::new(socket, session)))
            }
        };
        Ok(Connected { connection, handshake })
    }

    /// Whether an idle connection can still take a request; one system call.
    pub fn ready(&mut self) -> bool {
        match self {
            BlockingConn::Hyper(c) => c.ready_blocking(),
            BlockingConn::Lean(c) => c.ready(),
            BlockingConn::HyperTls(c) => c.ready_blocking(),
            BlockingConn::LeanTls(c) => c.ready(),
        }
    }

    /// Does what can be done for the next request before its clock starts.
    pub fn prepare(&mut self, request: &Rendered) {
        match self {
            BlockingConn::Hyper(c) => c.prepare(request),
            BlockingConn::HyperTls(c) => c.prepare(request),
            BlockingConn::Lean(_) | BlockingConn::LeanTls(_) => {}
        }
    }

    /// Sends the prepared request and reads its response until `deadline` on CLOCK_MONOTONIC.
    ///
    /// # Errors
    /// See [`Failure`]; the connection is then of no further use.
    pub fn exchange(&mut self, request: &Rendered, deadline: u64) -> Result<Reply, Failure> {
        match self {
            BlockingConn::Hyper(c) => c.exchange_blocking(request, deadline),
            BlockingConn::Lean(c) => c.exchange(request, deadline),
            BlockingConn::HyperTls(c) => c.exchange_blocking(request, deadline),
            BlockingConn::LeanTls(c) => c.exchange(request, deadline),
        }
    }
}

/// A lane's connection on an async socket. TLS is boxed, so that plain lanes do not carry it.
pub enum AsyncConn {
    /// hyper over tokio's socket.
    Hyper(Box<hyper::Async>),
    /// duel's own.
    Lean(lean::Async),
    /// hyper over TLS.
    HyperTls(Box<hyper::tls::Async>),
    /// duel's own over TLS.
    LeanTls(Box<lean::tls::Async>),
}

impl AsyncConn {
    /// Connects, with a TLS handshake where there is a client for it; the caller bounds the time.
    ///
    /// # Errors
    /// A `connect` error.
    pub async fn connect(
        codec: Codec,
        route: Route<'_>,
        tls: Option<&tls::Client>,
    ) -> Result<Connected<Self>, Failure> {
        if let Some(client) = tls {
            return Box::pin(Self::connect_tls(codec, route, client)).await;
        }
        let stream = route.connect_async().await.map_err(|e| connect_failure(&route, e))?;
        let connection = match codec {
            Codec::Hyper => AsyncConn::Hyper(Box::new(hyper::Async::new(stream).await?)),
            Codec::Lean => AsyncConn::Lean(lean::Async::new(stream)),
        };
        Ok(Connected { connection, handshake: None })
    }

    async fn connect_tls(
        codec: Codec,
        route: Route<'_>,
        client: &tls::Client,
    ) -> Result<Connected<Self>, Failure> {
        let mut stream = route.connect_async().await.map_err(|e| connect_failure(&route, e))?;
        let begun = now_ns();
        let session = lean::tls::handshake_async(client, &mut stream)
            .await
            .map_err(|e| at_target(&route, e))?;
        let handshake = Some((begun, session.agreed()));
        let connection = match codec {
            Codec::Hyper => {
                let connection = hyper::tls::Async::over_tls(stream, session).await?;
                AsyncConn::HyperTls(Box::new(connection))
            }
            Codec::Lean => AsyncConn::LeanTls(Box::new(lean::tls::Async::new(stream, session))),
        };
        Ok(Connected { connection, handshake })
    }

    /// Whether an idle connection can still take a request.
    pub async fn ready(&mut self) -> bool {
        match self {
            AsyncConn::Hyper(c) => c.ready_async().await,
            AsyncConn::Lean(c) => c.ready().await,
            AsyncConn::HyperTls(c) => c.ready_async().await,
            AsyncConn::LeanTls(c) => c.ready().await,
        }
    }

    /// Does what can be done for the next request before its clock starts.
    pub fn prepare(&mut self, request: &Rendered) {
        match self {
            AsyncConn::Hyper(c) => c.prepare(request),
            AsyncConn::HyperTls(c) => c.prepare(request),
            AsyncConn::Lean(_) | AsyncConn::LeanTls(_) => {}
        }
    }

    /// Sends the prepared request and reads its response; the caller bounds the time.
    ///
    /// # Errors
    /// See [`Failure`]; the connection is then of no further use.
    pub async fn exchange(&mut self, request: &Rendered) -> Result<Reply, Failure> {
        match self {
            // hyper's state is large and would be part of every lane, lean ones too.
            AsyncConn::Hyper(c) => Box::pin(c.exchange_async(request)).await,
            AsyncConn::Lean(c) => c.exchange(request).await,
            AsyncConn::HyperTls(c) => Box::pin(c.exchange_async(request)).await,
            AsyncConn::LeanTls(c) => c.exchange(request).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tls_makes_no_plain_connection_larger() {
        assert_eq!(size_of::<AsyncConn>(), size_of::<lean::Async>());
        assert_eq!(size_of::<BlockingConn>(), size_of::<lean::Blocking>());
    }
}
