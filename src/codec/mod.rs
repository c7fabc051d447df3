//! HTTP/1.1 on a lane's connection: one request written, one response read, nothing kept of it; and
//! on a server's, whose end of each codec stands beside the lane's.
//!
//! A codec runs unchanged under every engine, so that two rows differ in scheduling alone. Each is
//! written once, over a [`stream::Stream`]: a [`socket`] of either kind, with or without [`tls`].
//! [`parse`] says what a response is: lean's sans-IO half, and for both codecs whether a connection
//! may be kept. [`serve`] is what the server's ends share.

pub(crate) mod hyper;
pub(crate) mod lean;
pub mod parse;
pub(crate) mod serve;
pub mod socket;
pub(crate) mod stream;
pub mod tls;

use std::future::poll_fn;
use std::io::{Error, ErrorKind as IoErrorKind};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::plan::Codec;
use crate::plan::request::Rendered;
use crate::side::ErrorKind;
use crate::sys::now_ns;
use parse::ParseError;
use socket::{AsyncSocket, BlockingSocket, Route};
use stream::{Socket, Stream, TlsStream};
use tls::TlsError;

/// A response that was read whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reply {
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
    TimedOut,
    /// The target ended the connection before the first byte of an answer: an error of this kind,
    /// or the race of a connection that it had left idle.
    Unanswered {
        kind: ErrorKind,
        /// What happened, for the first sample of its kind.
        message: String,
    },
    /// Broke at a stage.
    Error {
        kind: ErrorKind,
        /// What happened, for the first sample of its kind.
        message: String,
    },
}

impl Failure {
    pub(crate) fn new(kind: ErrorKind, message: impl std::fmt::Display) -> Self {
        Failure::Error { kind, message: message.to_string() }
    }

    /// What an I/O error amounts to at a stage of an exchange; `answered` once a byte of the answer
    /// has come. The cause decides first, so that every codec has the same word for it.
    fn broke(stage: ErrorKind, error: &Error, answered: bool) -> Self {
        if error.kind() == IoErrorKind::TimedOut {
            return Failure::TimedOut;
        }
        let cause = error.get_ref();
        if let Some(tls) = cause.and_then(|e| e.downcast_ref::<TlsError>()) {
            let kind = if tls.refused { ErrorKind::Connect } else { ErrorKind::Protocol };
            return Failure::new(kind, tls);
        }
        if let Some(parse) = cause.and_then(|e| e.downcast_ref::<ParseError>()) {
            return Failure::parse(*parse);
        }
        if !answered && is_gone(error) {
            return Failure::Unanswered { kind: stage, message: error.to_string() };
        }
        Failure::new(stage, error)
    }

    /// What bytes that are no response amount to.
    fn parse(error: ParseError) -> Self {
        let kind = match error {
            ParseError::NoResponse => {
                return Failure::Unanswered { kind: ErrorKind::Read, message: error.to_string() };
            }
            ParseError::BodyCut => ErrorKind::Body,
            ParseError::HeadCut => ErrorKind::Read,
            _ => ErrorKind::Protocol,
        };
        Failure::new(kind, error)
    }

    /// A connection that could not be made.
    fn connect(route: &Route<'_>, error: impl std::fmt::Display) -> Self {
        Failure::new(ErrorKind::Connect, format!("{}: {error}", route.target))
    }
}

/// Whether an error says that the other side has ended the connection.
fn is_gone(error: &Error) -> bool {
    use IoErrorKind as Kind;
    matches!(
        error.kind(),
        Kind::BrokenPipe | Kind::ConnectionReset | Kind::ConnectionAborted | Kind::UnexpectedEof
    )
}

pub struct Connected<S: Socket> {
    pub connection: Conn<S>,
    /// CLOCK_MONOTONIC when the socket was connected and the TLS handshake began, and what that
    /// agreed on; `None` without TLS.
    pub handshake: Option<(u64, Option<tls::Agreed>)>,
}

/// A lane's connection: one of the codecs on a stream.
pub enum Conn<S: Socket> {
    /// hyper's client connection, whose state is large.
    Hyper(Box<hyper::HyperConn<S>>),
    /// duel's own.
    Lean(lean::LeanConn<S>),
}

/// A lane's connection on a blocking socket.
pub type BlockingConn = Conn<BlockingSocket>;

impl<S: Socket + 'static> Conn<S> {
    /// `begun` is when the TLS handshake did.
    fn on(codec: Codec, stream: Stream<S>, begun: Option<u64>) -> Result<Connected<S>, Failure> {
        let handshake = begun.map(|begun| (begun, stream.agreed()));
        let connection = match codec {
            Codec::Hyper => Conn::Hyper(Box::new(hyper::HyperConn::new(stream)?)),
            Codec::Lean => Conn::Lean(lean::LeanConn::new(stream)),
        };
        Ok(Connected { connection, handshake })
    }

    /// Whether an idle connection can still take a request: nothing has come that was not asked
    /// for, not even its end. One system call.
    pub fn is_idle(&mut self) -> bool {
        match self {
            Conn::Hyper(c) => c.is_idle(),
            Conn::Lean(c) => c.is_idle(),
        }
    }

    /// Does what can be done for the next request before its clock starts; returns whether there was
    /// anything to do.
    #[inline]
    pub fn prepare(&mut self, request: &Rendered) -> bool {
        match self {
            Conn::Hyper(c) => c.prepare(request),
            Conn::Lean(_) => return false,
        }
        true
    }
}

impl Conn<BlockingSocket> {
    /// Connects, with a TLS handshake where there is a client for it; `timeout` bounds both
    /// together, and each request.
    pub fn connect(
        codec: Codec,
        route: &Route<'_>,
        timeout: Duration,
        tls: Option<&tls::Client>,
    ) -> Result<Connected<BlockingSocket>, Failure> {
        let timeout_ns = timeout.as_nanos() as u64;
        let deadline = now_ns() + timeout_ns;
        let stream = route.connect_blocking(timeout).map_err(|e| Failure::connect(route, e))?;
        let socket = BlockingSocket::new(stream, timeout_ns);
        let Some(client) = tls else { return Self::on(codec, Stream::Plain(socket), None) };
        let begun = now_ns();
        let tls = shake_hands(socket, client, deadline).map_err(|e| Failure::connect(route, e))?;
        Self::on(codec, Stream::Tls(tls), Some(begun))
    }

    /// Sends the prepared request and reads its response until `deadline` on CLOCK_MONOTONIC.
    ///
    /// # Errors
    /// See [`Failure`]; the connection is then of no further use.
    #[inline]
    pub fn exchange(&mut self, request: &Rendered, deadline: u64) -> Result<Reply, Failure> {
        match self {
            Conn::Hyper(c) => c.exchange_blocking(request, deadline),
            Conn::Lean(c) => c.exchange(request, deadline),
        }
    }
}

/// Does something with the future of a server's connection under a codec. Each codec has its own, so
/// that the smaller one stays small.
macro_rules! by_codec {
    ($codec:expr, $socket:expr, $service:expr, |$connection:ident| $act:expr) => {
        match $codec {
            $crate::plan::Codec::Lean => {
                let $connection = $crate::codec::lean::server::connection($socket, $service);
                $act
            }
            $crate::plan::Codec::Hyper => {
                let $connection = $crate::codec::hyper::server::connection($socket, $service);
                $act
            }
        }
    };
}
pub(crate) use by_codec;

/// Makes a TLS handshake on the caller's thread. Out of line, so that a plain lane's stack is not
/// touched as deep.
#[inline(never)]
fn shake_hands(
    mut socket: BlockingSocket,
    client: &tls::Client,
    deadline: u64,
) -> std::io::Result<Box<TlsStream<BlockingSocket>>> {
    socket.begin_late(deadline);
    let mut tls = TlsStream::new(socket, client)?;
    let mut cx = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(result) = tls.poll_handshake(&mut cx) {
            return result.map(|()| tls);
        }
    }
}

/// Makes one TLS handshake at `route`.
///
/// # Errors
/// What TLS says against the target; not that it cannot be reached, or breaks off.
pub(crate) fn probe(
    route: &Route<'_>,
    client: &tls::Client,
    timeout: Duration,
) -> Result<(), TlsError> {
    let Ok(stream) = route.connect_blocking(timeout) else { return Ok(()) };
    let timeout_ns = timeout.as_nanos() as u64;
    let socket = BlockingSocket::new(stream, timeout_ns);
    let refusal = shake_hands(socket, client, now_ns() + timeout_ns).err();
    let refusal = refusal.and_then(|e| e.downcast::<TlsError>().ok());
    refusal.map_or(Ok(()), Err)
}

impl<S: AsyncSocket + 'static> Conn<S> {
    /// Connects, with a TLS handshake where there is a client for it; the caller bounds the time.
    pub async fn connect_async(
        codec: Codec,
        route: Route<'_>,
        tls: Option<&tls::Client>,
    ) -> Result<Connected<S>, Failure> {
        let failed = |e: Error| Failure::connect(&route, e);
        let socket = S::connect(&route).await.map_err(failed)?;
        let Some(client) = tls else { return Self::on(codec, Stream::Plain(socket), None) };
        let begun = now_ns();
        let mut tls = TlsStream::new(socket, client).map_err(failed)?;
        poll_fn(|cx| tls.poll_handshake(cx)).await.map_err(failed)?;
        Self::on(codec, Stream::Tls(tls), Some(begun))
    }

    /// Sends the prepared request and reads its response; the caller bounds the time.
    ///
    /// # Errors
    /// See [`Failure`]; the connection is then of no further use.
    ///
    /// No `async fn`, whose state would hold its arguments twice in every lane.
    #[inline]
    pub fn exchange_async(
        &mut self,
        request: &Rendered,
    ) -> impl Future<Output = Result<Reply, Failure>> {
        enum Exchange<H, L> {
            Hyper(H),
            Lean(L),
        }
        let mut exchange = match self {
            // hyper's state is large and would be part of every lane, lean ones too.
            Conn::Hyper(c) => Exchange::Hyper(Box::pin(c.exchange(request))),
            Conn::Lean(c) => Exchange::Lean(c.exchange_async(request)),
        };
        poll_fn(move |cx| match &mut exchange {
            Exchange::Hyper(exchange) => exchange.as_mut().poll(cx),
            Exchange::Lean(exchange) => Pin::new(exchange).poll(cx),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tls_makes_no_plain_connection_larger() {
        use tokio::net::TcpStream;
        assert_eq!(size_of::<Conn<TcpStream>>(), size_of::<TcpStream>());
        assert_eq!(size_of::<BlockingConn>(), size_of::<BlockingSocket>());
    }
}
