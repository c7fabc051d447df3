//! lean over TLS: the same parser behind [`Session`], on both kinds of socket.
//!
//! A type of its own for each socket, boxed by [`crate::codec`], so that a plain lane carries
//! neither its size nor its branches.

use std::future::poll_fn;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{FIRST_READ_BYTES, Incoming, READ_BYTES, io_failure, read_kind};
use crate::codec::socket::BlockingSocket;
use crate::codec::tls::{CUT, Client, Session};
use crate::codec::{Failure, Reply};
use crate::plan::request::Rendered;
use crate::side::ErrorKind;

/// A read of a handshake: a server's flight is one to four KiB, mostly certificates.
const HANDSHAKE_READ_BYTES: usize = 4 * 1024;

/// A response on its way in, decrypted.
struct Answering {
    incoming: Incoming,
    result: Option<Result<Reply, Failure>>,
}

impl Answering {
    fn new(request: &Rendered) -> Self {
        Answering { incoming: Incoming::new(request), result: None }
    }

    /// Takes what one read of the socket brought.
    fn take(&mut self, tls: &mut Session, bytes: &mut [u8], closes: bool) {
        if bytes.is_empty() {
            self.result = Some(Err(Failure::new(read_kind(&self.incoming), CUT)));
            return;
        }
        let Answering { incoming, result } = self;
        let received = tls.receive(bytes, |plain| match result {
            None => *result = incoming.take(plain, closes),
            // Bytes that answer nothing make the connection useless for another request.
            Some(Ok(reply)) => reply.keep = false,
            Some(Err(_)) => {}
        });
        if let Err(e) = received {
            let kind =
                if incoming.parser.is_in_body() { ErrorKind::Body } else { ErrorKind::Protocol };
            *result = Some(Err(Failure::new(kind, e)));
        } else if tls.peer_closed() {
            match result {
                None => *result = incoming.take(&[], closes),
                Some(Ok(reply)) => reply.keep = false,
                Some(Err(_)) => {}
            }
        }
    }
}

fn write_failure(error: impl std::fmt::Display) -> Failure {
    Failure::new(ErrorKind::Write, error)
}

/// A blocking socket.
pub struct Blocking {
    socket: BlockingSocket,
    tls: Session,
}

/// Makes the handshake on a blocking socket until `deadline`.
///
/// # Errors
/// A `connect` error.
pub fn handshake_blocking(
    client: &Client,
    socket: &mut BlockingSocket,
    deadline: u64,
) -> Result<Session, Failure> {
    let failed = |e: String| Failure::new(ErrorKind::Connect, e);
    let broke = |e: std::io::Error| match e.kind() {
        std::io::ErrorKind::TimedOut => failed("the TLS handshake timed out".into()),
        _ => failed(format!("the TLS handshake broke: {e}")),
    };
    socket.begin_late(deadline);
    let mut tls = Session::new(client).map_err(failed)?;
    // Not on the stack, which may be a small one and is deep in use below.
    let mut buffer = vec![MaybeUninit::uninit(); HANDSHAKE_READ_BYTES];
    loop {
        while !tls.unsent().is_empty() {
            let written = socket.write(tls.unsent(), deadline).map_err(broke)?;
            tls.wrote(written);
        }
        if tls.is_open() {
            socket.rearm().map_err(broke)?;
            return Ok(tls);
        }
        let received = socket
            .read(&mut buffer, deadline, |bytes| {
                if bytes.is_empty() {
                    return Err("the target closed the connection amid the TLS handshake".into());
                }
                tls.receive(bytes, |_| {})
            })
            .map_err(broke)?;
        if let Err(why) = received {
            // The alert tells the target why; whether it arrives changes nothing here.
            let _ = socket.write(tls.unsent(), deadline);
            return Err(failed(why));
        }
    }
}

impl Blocking {
    /// Takes over a connection after its handshake.
    pub fn new(socket: BlockingSocket, tls: Session) -> Self {
        Blocking { socket, tls }
    }

    /// Whether an idle connection can still take a request: what has come, such as a session
    /// ticket, is no plaintext and no end. Out of line, as [`Blocking::exchange`].
    #[inline(never)]
    pub fn ready(&mut self) -> bool {
        loop {
            let mut plain = false;
            let mut buffer = [MaybeUninit::uninit(); FIRST_READ_BYTES];
            let Blocking { socket, tls } = self;
            let received = socket.read_now(&mut buffer, |bytes| {
                !bytes.is_empty() && tls.receive(bytes, |_| plain = true).is_ok()
            });
            match received {
                Ok(None) => return true,
                Ok(Some(true)) if !plain && !tls.peer_closed() => {}
                _ => return false,
            }
        }
    }

    fn flush(&mut self, deadline: u64) -> Result<(), Failure> {
        while !self.tls.unsent().is_empty() {
            let written = self
                .socket
                .write(self.tls.unsent(), deadline)
                .map_err(|e| io_failure(ErrorKind::Write, e))?;
            self.tls.wrote(written);
        }
        Ok(())
    }

    /// Sends one request and reads its response until `deadline` on CLOCK_MONOTONIC. Out of line,
    /// so that its buffer is no part of a plain lane's stack.
    ///
    /// # Errors
    /// See [`Failure`]; the connection is then of no further use.
    #[inline(never)]
    pub fn exchange(&mut self, request: &Rendered, deadline: u64) -> Result<Reply, Failure> {
        let mut rest = &request.bytes[..];
        while !rest.is_empty() {
            let taken = self.tls.send(rest).map_err(write_failure)?;
            rest = &rest[taken..];
            self.flush(deadline)?;
        }
        let mut answering = Answering::new(request);
        self.read_once::<FIRST_READ_BYTES>(&mut answering, request.closes, deadline)?;
        while answering.result.is_none() {
            answering.incoming.before_read();
            self.read_more(&mut answering, request.closes, deadline)?;
        }
        // Mostly nothing: the peer may have asked for new keys.
        self.flush(deadline)?;
        answering.result.expect("the loop above ends with a result")
    }

    /// Kept out of line, as in the plain twin.
    #[inline(never)]
    fn read_more(
        &mut self,
        answering: &mut Answering,
        closes: bool,
        deadline: u64,
    ) -> Result<(), Failure> {
        self.read_once::<READ_BYTES>(answering, closes, deadline)
    }

    fn read_once<const N: usize>(
        &mut self,
        answering: &mut Answering,
        closes: bool,
        deadline: u64,
    ) -> Result<(), Failure> {
        let mut buffer = [MaybeUninit::uninit(); N];
        let Blocking { socket, tls } = self;
        socket
            .read(&mut buffer, deadline, |bytes| answering.take(tls, bytes, closes))
            .map_err(|e| io_failure(read_kind(&answering.incoming), e))
    }
}

impl Drop for Blocking {
    fn drop(&mut self) {
        // Says to the target that nothing follows, if that needs no waiting.
        self.tls.close();
        let _ = self.socket.write_now(self.tls.unsent());
    }
}

/// An async socket.
pub struct Async {
    stream: tokio::net::TcpStream,
    tls: Session,
    /// The response that is on its way; here, so that the future of an exchange is small.
    answering: Option<Answering>,
}

/// Makes the handshake on an async socket; the caller bounds the time.
///
/// # Errors
/// A `connect` error.
pub async fn handshake_async(
    client: &Client,
    stream: &mut tokio::net::TcpStream,
) -> Result<Session, Failure> {
    let failed = |e: String| Failure::new(ErrorKind::Connect, e);
    let broke = |e: std::io::Error| failed(format!("the TLS handshake broke: {e}"));
    let mut tls = Session::new(client).map_err(failed)?;
    let mut buffer = vec![MaybeUninit::uninit(); HANDSHAKE_READ_BYTES];
    loop {
        poll_fn(|cx| poll_flush(&mut tls, stream, cx)).await.map_err(broke)?;
        if tls.is_open() {
            return Ok(tls);
        }
        let received = poll_fn(|cx| {
            let mut read = ReadBuf::uninit(&mut buffer);
            ready!(Pin::new(&mut *stream).poll_read(cx, &mut read))?;
            Poll::Ready(Ok(if read.filled().is_empty() {
                Err("the target closed the connection amid the TLS handshake".into())
            } else {
                tls.receive(read.filled_mut(), |_| {})
            }))
        });
        if let Err(why) = received.await.map_err(broke)? {
            let _ = stream.try_write(tls.unsent());
            return Err(failed(why));
        }
    }
}

/// Writes what waits; also used by hyper's twin.
pub(in crate::codec) fn poll_flush(
    tls: &mut Session,
    stream: &mut tokio::net::TcpStream,
    cx: &mut Context<'_>,
) -> Poll<std::io::Result<()>> {
    while !tls.unsent().is_empty() {
        let written = ready!(Pin::new(&mut *stream).poll_write(cx, tls.unsent()))?;
        tls.wrote(written);
    }
    Poll::Ready(Ok(()))
}

impl Async {
    /// Takes over a connection after its handshake.
    pub fn new(stream: tokio::net::TcpStream, tls: Session) -> Self {
        Async { stream, tls, answering: None }
    }

    /// Whether an idle connection can still take a request: what has come, such as a session
    /// ticket, is no plaintext and no end.
    pub async fn ready(&mut self) -> bool {
        poll_fn(|cx| {
            loop {
                let mut bytes = [MaybeUninit::uninit(); READ_BYTES];
                let mut buffer = ReadBuf::uninit(&mut bytes);
                match Pin::new(&mut self.stream).poll_read(cx, &mut buffer) {
                    Poll::Pending => return Poll::Ready(true),
                    Poll::Ready(Err(_)) => return Poll::Ready(false),
                    Poll::Ready(Ok(())) => {}
                }
                let mut plain = false;
                let bytes = buffer.filled_mut();
                let ended = bytes.is_empty() || self.tls.receive(bytes, |_| plain = true).is_err();
                if ended || plain || self.tls.peer_closed() {
                    return Poll::Ready(false);
                }
            }
        })
        .await
    }

    /// Sends one request and reads its response; the caller bounds the time.
    ///
    /// # Errors
    /// See [`Failure`]; the connection is then of no further use.
    pub async fn exchange(&mut self, request: &Rendered) -> Result<Reply, Failure> {
        let mut taken = 0;
        self.answering = Some(Answering::new(request));
        poll_fn(|cx| {
            loop {
                ready!(poll_flush(&mut self.tls, &mut self.stream, cx))
                    .map_err(|e| io_failure(ErrorKind::Write, e))?;
                if taken == request.bytes.len() {
                    break;
                }
                taken += self.tls.send(&request.bytes[taken..]).map_err(write_failure)?;
            }
            self.poll_response(cx, request.closes)
        })
        .await
    }

    /// Out of line, as in [`Blocking`].
    #[inline(never)]
    fn poll_response(
        &mut self,
        cx: &mut Context<'_>,
        closes: bool,
    ) -> Poll<Result<Reply, Failure>> {
        let Async { stream, tls, answering } = self;
        let now = answering.as_mut().expect("an exchange has begun");
        loop {
            let mut bytes = [MaybeUninit::uninit(); READ_BYTES];
            let mut buffer = ReadBuf::uninit(&mut bytes);
            now.incoming.before_read();
            ready!(Pin::new(&mut *stream).poll_read(cx, &mut buffer))
                .map_err(|e| io_failure(read_kind(&now.incoming), e))?;
            now.take(tls, buffer.filled_mut(), closes);
            if let Some(result) = now.result.take() {
                *answering = None;
                // Mostly nothing: the peer may have asked for new keys; what cannot be written
                // now goes out before the next request.
                if !tls.unsent().is_empty()
                    && let Ok(written) = stream.try_write(tls.unsent())
                {
                    tls.wrote(written);
                }
                return Poll::Ready(result);
            }
        }
    }
}

impl Drop for Async {
    fn drop(&mut self) {
        // Says to the target that nothing follows, if that needs no waiting.
        self.tls.close();
        let _ = self.stream.try_write(self.tls.unsent());
    }
}
