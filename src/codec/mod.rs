//! HTTP/1.1 on a lane's connection: one request written, one response read, nothing kept of it.
//!
//! A codec runs unchanged under every engine, so that two rows differ in scheduling alone:
//!
//! | codec | blocking socket | async socket |
//! |---|---|---|
//! | [`lean`] | writes and reads | polls the socket |
//! | [`hyper`] | the lane's thread polls hyper's connection over [`hyper::BlockingIo`] | the lane's task polls it over [`hyper::AsyncIo`] |
//!
//! [`parse`] is lean's sans-IO half; [`socket`] makes the sockets, the same options for all.

pub mod hyper;
pub mod lean;
pub mod parse;
pub mod socket;

use std::time::Duration;

use crate::plan::Codec;
use crate::plan::request::Rendered;
use crate::record::ErrorKind;
use socket::Route;

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

/// A lane's connection on a blocking socket.
pub enum BlockingConn {
    /// hyper over a socket that blocks.
    Hyper(Box<hyper::Blocking>),
    /// duel's own.
    Lean(lean::Blocking),
}

impl BlockingConn {
    /// Connects; `timeout` bounds the connect and each request.
    ///
    /// # Errors
    /// A `connect` error.
    pub fn connect(codec: Codec, route: &Route, timeout: Duration) -> Result<Self, Failure> {
        let stream = route
            .connect_blocking(timeout)
            .map_err(|e| Failure::new(ErrorKind::Connect, format!("{}: {e}", route.target)))?;
        let timeout_ns = timeout.as_nanos() as u64;
        Ok(match codec {
            Codec::Hyper => {
                BlockingConn::Hyper(Box::new(hyper::Blocking::new(stream, timeout_ns)?))
            }
            Codec::Lean => BlockingConn::Lean(lean::Blocking::new(stream, timeout_ns)),
        })
    }

    /// Whether an idle connection can still take a request; one system call.
    pub fn ready(&mut self) -> bool {
        match self {
            BlockingConn::Hyper(c) => c.ready(),
            BlockingConn::Lean(c) => c.ready(),
        }
    }

    /// Does what can be done for the next request before its clock starts.
    pub fn prepare(&mut self, request: &Rendered) {
        match self {
            BlockingConn::Hyper(c) => c.prepare(request),
            BlockingConn::Lean(_) => {}
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
        }
    }
}

/// A lane's connection on an async socket.
pub enum AsyncConn {
    /// hyper over tokio's socket.
    Hyper(Box<hyper::Async>),
    /// duel's own.
    Lean(lean::Async),
}

impl AsyncConn {
    /// Connects; the caller bounds the time.
    ///
    /// # Errors
    /// A `connect` error.
    pub async fn connect(codec: Codec, route: Route) -> Result<Self, Failure> {
        let stream = route
            .connect_async()
            .await
            .map_err(|e| Failure::new(ErrorKind::Connect, format!("{}: {e}", route.target)))?;
        Ok(match codec {
            Codec::Hyper => AsyncConn::Hyper(Box::new(hyper::Async::new(stream).await?)),
            Codec::Lean => AsyncConn::Lean(lean::Async::new(stream)),
        })
    }

    /// Whether an idle connection can still take a request.
    pub async fn ready(&mut self) -> bool {
        match self {
            AsyncConn::Hyper(c) => c.ready().await,
            AsyncConn::Lean(c) => c.ready().await,
        }
    }

    /// Does what can be done for the next request before its clock starts.
    pub fn prepare(&mut self, request: &Rendered) {
        match self {
            AsyncConn::Hyper(c) => c.prepare(request),
            AsyncConn::Lean(_) => {}
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
        }
    }
}
