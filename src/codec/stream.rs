//! A connection's byte stream: a socket of either kind, plain or under TLS.
//!
//! Codecs know [`Stream`] and nothing below it. Both kinds of socket are polled, so that a codec
//! is written once: a blocking socket returns `Pending` where it would have to wait, until its
//! lane, having nothing else to do, calls [`Socket::block`].

use std::io::{Error, ErrorKind as IoErrorKind};
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustix::net::{RecvFlags, SendFlags};
use rustls::client::UnbufferedClientConnection;
use rustls::server::UnbufferedServerConnection;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::tls::{Acceptor, Agreed, Client, Session, TlsEnd};

/// A read of a handshake: a server's flight is one to four KiB, mostly certificates.
const HANDSHAKE_READ_BYTES: usize = 4 * 1024;
/// A look at what came to an idle connection: session tickets, if anything.
const LOOK_BYTES: usize = 1024;

/// What a stream asks of a socket.
pub trait Socket: AsFd + Unpin + Sized {
    /// Whether reads hold up the lane's own thread.
    const BLOCKS: bool;

    /// Begins an exchange that ends at `deadline` on CLOCK_MONOTONIC.
    fn begin(&mut self, _deadline: u64) {}

    /// Lets a blocking socket wait for whatever the exchange needs next.
    ///
    /// # Errors
    /// `TimedOut` when the deadline passed.
    fn block(&mut self) -> std::io::Result<()> {
        Ok(())
    }

    /// Reads once and hands what came to `take`: nothing at the end of the stream.
    fn poll_recv<R>(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut [MaybeUninit<u8>],
        take: impl FnOnce(&mut [u8]) -> R,
    ) -> Poll<std::io::Result<R>>;

    fn poll_send(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>>;

    /// As [`Socket::poll_send`], for a caller who does not send anything else until these bytes are
    /// sent: `Pending` may mean that they are on their way.
    #[inline]
    fn poll_send_again(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        self.poll_send(cx, bytes)
    }

    /// Whether bytes of [`Socket::poll_send_again`] are on their way, so that nothing may overtake them.
    fn is_sending(&self) -> bool {
        false
    }

    /// Whether nothing has come that was not asked for, not even the end of the stream.
    fn is_quiet(&mut self) -> bool {
        is_quiet(self)
    }

    /// Reads once, without waiting.
    fn recv_now<R>(
        &mut self,
        buffer: &mut [MaybeUninit<u8>],
        take: impl FnOnce(&mut [u8]) -> R,
    ) -> std::io::Result<R> {
        recv_now(self, buffer, take)
    }
}

impl Socket for tokio::net::TcpStream {
    const BLOCKS: bool = false;

    #[inline]
    fn poll_recv<R>(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut [MaybeUninit<u8>],
        take: impl FnOnce(&mut [u8]) -> R,
    ) -> Poll<std::io::Result<R>> {
        let mut buffer = ReadBuf::uninit(buffer);
        ready!(Pin::new(self).poll_read(cx, &mut buffer))?;
        Poll::Ready(Ok(take(buffer.filled_mut())))
    }

    #[inline]
    fn poll_send(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(self).poll_write(cx, bytes)
    }
}

/// Whether nothing has come that was not asked for, not even the end of the stream. One system
/// call, which asks the kernel itself: a runtime may not have heard yet.
pub(crate) fn is_quiet(socket: &impl AsFd) -> bool {
    let mut byte = [0u8; 1];
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    rustix::net::recv(socket, &mut byte, flags) == Err(rustix::io::Errno::AGAIN)
}

/// Writes once what the kernel takes, without waiting.
#[inline]
pub(crate) fn send_now(socket: &impl AsFd, bytes: &[u8]) -> rustix::io::Result<usize> {
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    rustix::io::retry_on_intr(|| rustix::net::send(socket, bytes, flags))
}

/// Reads once what the kernel has.
pub(crate) fn recv_now<R>(
    socket: &impl AsFd,
    buffer: &mut [MaybeUninit<u8>],
    take: impl FnOnce(&mut [u8]) -> R,
) -> std::io::Result<R> {
    let ((came, _), _) = rustix::net::recv(socket, buffer, RecvFlags::DONTWAIT)?;
    Ok(take(came))
}

/// A connected socket with or without TLS. TLS is boxed, so that plain lanes do not carry it.
pub(crate) enum Stream<S: Socket, E: TlsEnd = UnbufferedClientConnection> {
    /// Bytes as they are.
    Plain(S),
    Tls(Box<TlsStream<S, E>>),
}

pub(crate) type Accepted<S> = Stream<S, UnbufferedServerConnection>;

impl<S: Socket> Accepted<S> {
    /// A connection that a server has accepted, under TLS where there is an acceptor. Reads make the
    /// handshake.
    pub(crate) fn accept(socket: S, acceptor: Option<&Acceptor>) -> std::io::Result<Self> {
        let Some(acceptor) = acceptor else { return Ok(Stream::Plain(socket)) };
        let session = acceptor.session().map_err(Error::other)?;
        Ok(Stream::Tls(Box::new(TlsStream { socket, session, again: false })))
    }
}

impl<S: Socket, E: TlsEnd> Stream<S, E> {
    /// Promises that the caller flushes after each write until it is done, reading meanwhile.
    pub(crate) fn flush_again(&mut self) {
        if let Stream::Tls(tls) = self {
            tls.again = true;
        }
    }

    /// What a TLS handshake agreed on.
    pub(crate) fn agreed(&self) -> Option<Agreed> {
        match self {
            Stream::Plain(_) => None,
            Stream::Tls(tls) => tls.session.agreed(),
        }
    }

    pub(crate) fn socket(&mut self) -> &mut S {
        match self {
            Stream::Plain(socket) => socket,
            Stream::Tls(tls) => &mut tls.socket,
        }
    }

    /// Reads once and gives what came to `take`, under TLS record by record and each time with what
    /// `take` made of the records before: an empty piece at the end of the stream, and no piece
    /// where what came holds no plaintext.
    #[inline]
    pub(crate) fn poll_read<R>(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut [MaybeUninit<u8>],
        mut take: impl FnMut(Option<R>, &[u8]) -> Option<R>,
    ) -> Poll<std::io::Result<Option<R>>> {
        match self {
            Stream::Plain(socket) => socket.poll_recv(cx, buffer, |bytes| take(None, bytes)),
            Stream::Tls(tls) => tls.poll_read(cx, buffer, take),
        }
    }

    /// Writes some of `bytes`. What TLS took and the socket did not goes out with the next write
    /// or flush.
    #[inline]
    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        match self {
            Stream::Plain(socket) => {
                let sent = socket.poll_send_again(cx, bytes);
                if E::ACCEPTS && sent.is_pending() && socket.is_sending() {
                    // Nobody tells when it is sent, and no answer to an answer wakes the task.
                    cx.waker().wake_by_ref();
                }
                sent
            }
            Stream::Tls(tls) => tls.poll_write(cx, bytes),
        }
    }

    /// Writes what TLS still holds.
    #[inline]
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self {
            Stream::Plain(_) => Poll::Ready(Ok(())),
            Stream::Tls(tls) => tls.poll_flush(cx),
        }
    }

    /// Says to the peer that nothing follows, where that is said in words.
    pub(crate) fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        if let Stream::Tls(tls) = self {
            tls.session.close();
        }
        self.poll_flush(cx)
    }

    /// Lets the connection break off without a word.
    pub(crate) fn fall_silent(&mut self) {
        if let Stream::Tls(tls) = self {
            tls.session.fall_silent();
        }
    }

    /// Whether an idle connection can still take a request: what has come, such as a session
    /// ticket, is neither plaintext nor the end.
    pub(crate) fn is_idle(&mut self) -> bool {
        match self {
            Stream::Plain(socket) => socket.is_quiet(),
            Stream::Tls(tls) => tls.is_idle(),
        }
    }
}

/// A socket under TLS. What is done here is kept out of line, so that it neither deepens a plain
/// lane's stack nor widens its code.
pub(crate) struct TlsStream<S: Socket, E: TlsEnd = UnbufferedClientConnection> {
    socket: S,
    session: Session<E>,
    /// Whoever writes flushes again until that is done, and reads meanwhile.
    again: bool,
}

impl<S: Socket> TlsStream<S> {
    /// A session whose handshake is still to be made by [`TlsStream::poll_handshake`].
    pub(crate) fn new(socket: S, client: &Client) -> std::io::Result<Box<Self>> {
        let session = Session::new(client).map_err(Error::other)?;
        Ok(Box::new(TlsStream { socket, session, again: false }))
    }
}

impl<S: Socket, E: TlsEnd> TlsStream<S, E> {
    /// Makes the handshake.
    ///
    /// # Errors
    /// Of the socket, in words, or a [`TlsError`](super::tls::TlsError) inside.
    pub(crate) fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        self.poll_open(cx).map_err(|e| match e.kind() {
            _ if e.get_ref().is_some() => e,
            IoErrorKind::TimedOut => Error::new(e.kind(), "the TLS handshake timed out"),
            kind => Error::new(kind, format!("the TLS handshake broke: {e}")),
        })
    }

    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        // Not on the stack, which may be a small one and is deep in use below.
        let mut buffer = vec![MaybeUninit::uninit(); HANDSHAKE_READ_BYTES];
        loop {
            ready!(self.poll_flush(cx))?;
            if self.session.open {
                return Poll::Ready(Ok(()));
            }
            self.socket.block()?;
            let TlsStream { socket, session, .. } = self;
            let received = ready!(socket.poll_recv(cx, &mut buffer, |bytes| {
                if bytes.is_empty() { None } else { Some(session.receive(bytes, |_| {})) }
            }))?;
            match received {
                None => {
                    let what = "the target closed the connection amid the TLS handshake";
                    return Poll::Ready(Err(Error::new(IoErrorKind::UnexpectedEof, what)));
                }
                Some(Err(e)) => {
                    self.send_now();
                    return Poll::Ready(Err(Error::other(e)));
                }
                Some(Ok(())) => {}
            }
        }
    }

    #[inline(never)]
    fn poll_read<R>(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut [MaybeUninit<u8>],
        mut take: impl FnMut(Option<R>, &[u8]) -> Option<R>,
    ) -> Poll<std::io::Result<Option<R>>> {
        if E::ACCEPTS {
            // The client waits for this end's part of the handshake before it says more.
            ready!(self.poll_flush(cx))?;
        }
        let mut result = None;
        let mut ended = self.session.peer_closed;
        if !ended {
            let TlsStream { socket, session, .. } = self;
            let plain = |plain: &[u8]| result = take(result.take(), plain);
            let received = ready!(socket.poll_recv(cx, buffer, |bytes| {
                if bytes.is_empty() { None } else { Some(session.receive(bytes, plain)) }
            }))?;
            ended = match received {
                None => {
                    let what = "the TLS connection ended without close_notify";
                    return Poll::Ready(Err(Error::new(IoErrorKind::UnexpectedEof, what)));
                }
                Some(Err(e)) if result.is_none() => return Poll::Ready(Err(Error::other(e))),
                Some(Err(_)) => true,
                Some(Ok(())) => session.peer_closed,
            };
            // Mostly nothing: the peer may have asked for new keys; what cannot be written now
            // goes out with the next request.
            self.send_now();
        }
        Poll::Ready(Ok(if ended { take(result, &[]) } else { result }))
    }

    #[inline(never)]
    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        // One record at a time, so that a large body takes no more memory than that.
        match self.poll_flush(cx) {
            Poll::Ready(flushed) => flushed?,
            Poll::Pending => {
                if self.socket.is_sending() {
                    // Nobody tells when it is sent, and more is to follow.
                    cx.waker().wake_by_ref();
                }
                return Poll::Pending;
            }
        }
        let taken = self.session.send(bytes).map_err(Error::other)?;
        match self.poll_flush(cx) {
            Poll::Ready(Err(e)) => Poll::Ready(Err(e)),
            _ => Poll::Ready(Ok(taken)),
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        while !self.session.unsent().is_empty() {
            let TlsStream { socket, session, again } = self;
            let written = ready!(match *again {
                true => socket.poll_send_again(cx, session.unsent()),
                false => socket.poll_send(cx, session.unsent()),
            })?;
            self.session.wrote(written);
        }
        Poll::Ready(Ok(()))
    }

    #[inline(never)]
    fn is_idle(&mut self) -> bool {
        loop {
            let mut buffer = [MaybeUninit::<u8>::uninit(); LOOK_BYTES];
            let TlsStream { socket, session, .. } = self;
            let mut plain = false;
            let fits = socket.recv_now(&mut buffer, |came| {
                !came.is_empty() && session.receive(came, |_| plain = true).is_ok()
            });
            match fits {
                Err(e) => return e.kind() == IoErrorKind::WouldBlock,
                Ok(fits) if !fits || plain || session.peer_closed => return false,
                Ok(_) => {}
            }
        }
    }

    /// Writes of what waits as much as needs no waiting; what cannot be written waits on.
    fn send_now(&mut self) {
        if self.session.unsent().is_empty() || self.socket.is_sending() {
            return;
        }
        if let Ok(written) = send_now(&self.socket, self.session.unsent()) {
            self.session.wrote(written);
        }
    }
}

impl<S: Socket, E: TlsEnd> Drop for TlsStream<S, E> {
    fn drop(&mut self) {
        // Says to the other side that nothing follows, if that needs no waiting.
        self.session.close();
        self.send_now();
    }
}
