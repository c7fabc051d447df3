//! hyper over TLS: the adapters of its plain twins with a [`Session`] between hyper and the socket.

use std::io::{Error, ErrorKind as IoErrorKind};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, ready};

use hyper::rt::{Read, ReadBufCursor, Write};
use tokio::io::{AsyncRead, ReadBuf};

use super::{CHUNK_BYTES, HyperConn, Meter};
use crate::codec::Failure;
use crate::codec::lean::tls::poll_flush;
use crate::codec::socket::BlockingSocket;
use crate::codec::tls::{CUT, Session};

/// hyper over TLS on a blocking socket.
pub type Blocking = HyperConn<BlockingIo>;
/// hyper over TLS on an async socket.
pub type Async = HyperConn<AsyncIo>;

/// What was decrypted and not yet taken by hyper.
#[derive(Default)]
struct Plain {
    bytes: Vec<u8>,
    taken: usize,
}

impl Plain {
    fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Fills hyper's buffer; what is empty afterwards gives its memory back.
    fn hand_over(&mut self, buf: &mut ReadBufCursor<'_>) {
        let rest = &self.bytes[self.taken..];
        let length = rest.len().min(buf.remaining());
        buf.put_slice(&rest[..length]);
        self.taken += length;
        if self.taken == self.bytes.len() {
            *self = Plain::default();
        }
    }

    /// Decrypts what one read of the socket brought.
    fn receive(
        &mut self,
        tls: &mut Session,
        bytes: &mut [u8],
        meter: &Meter,
    ) -> std::io::Result<()> {
        if bytes.is_empty() {
            return Err(Error::new(IoErrorKind::UnexpectedEof, CUT));
        }
        let before = self.bytes.len();
        tls.receive(bytes, |plain| self.bytes.extend_from_slice(plain)).map_err(Error::other)?;
        if self.bytes.len() > before {
            meter.after_read(self.bytes.len() - before);
        }
        Ok(())
    }
}

/// A blocking socket as hyper reads and writes it; see [`super::BlockingIo`].
pub struct BlockingIo {
    socket: BlockingSocket,
    tls: Session,
    plain: Plain,
    meter: Arc<Meter>,
}

impl BlockingIo {
    /// Reads once and decrypts; returns whether anything was there. Only with `wait` there must be.
    fn read_socket(&mut self, wait: bool) -> std::io::Result<bool> {
        self.meter.before_read();
        let deadline = self.meter.deadline.load(Relaxed);
        let mut bytes = [MaybeUninit::<u8>::uninit(); CHUNK_BYTES];
        let BlockingIo { socket, tls, plain, meter } = self;
        let take = |read: &mut [u8]| plain.receive(tls, read, meter);
        if wait {
            socket.read(&mut bytes, deadline, take)??;
            return Ok(true);
        }
        socket.read_now(&mut bytes, take)?.transpose().map(|came| came.is_some())
    }
}

impl Read for BlockingIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        let look = self.meter.look.load(Relaxed);
        self.meter.look.store(false, Relaxed);
        // A read may bring no plaintext: half a record, or a session ticket.
        while self.plain.is_empty() && !self.tls.peer_closed() {
            let armed = self.meter.armed.load(Relaxed);
            if !(armed || look) {
                return Poll::Pending;
            }
            match self.read_socket(armed) {
                Ok(true) => {}
                Ok(false) => return Poll::Pending,
                Err(e) => {
                    let result = Err(e);
                    self.meter.note(&result, false);
                    return Poll::Ready(result.map(|_| ()));
                }
            }
        }
        self.meter.armed.store(false, Relaxed);
        self.plain.hand_over(&mut buf);
        Poll::Ready(Ok(()))
    }
}

impl Write for BlockingIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let BlockingIo { socket, tls, meter, .. } = &mut *self;
        let deadline = meter.deadline.load(Relaxed);
        let result = tls.send(buf).map_err(Error::other).and_then(|taken| {
            while !tls.unsent().is_empty() {
                let written = socket.write(tls.unsent(), deadline)?;
                tls.wrote(written);
            }
            Ok(taken)
        });
        meter.note(&result, true);
        Poll::Ready(result)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl Drop for BlockingIo {
    fn drop(&mut self) {
        // Says to the target that nothing follows, if that needs no waiting.
        self.tls.close();
        let _ = self.socket.write_now(self.tls.unsent());
    }
}

impl Blocking {
    /// Takes over a connection after its handshake.
    pub fn over_tls(socket: BlockingSocket, tls: Session) -> Result<Self, Failure> {
        let meter = Arc::new(Meter::default());
        let io = BlockingIo { socket, tls, plain: Plain::default(), meter: meter.clone() };
        Self::on_blocking(io, meter)
    }
}

/// tokio's socket as hyper reads and writes it.
pub struct AsyncIo {
    stream: tokio::net::TcpStream,
    tls: Session,
    plain: Plain,
    meter: Arc<Meter>,
}

impl Read for AsyncIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        let AsyncIo { stream, tls, plain, meter } = &mut *self;
        while plain.is_empty() && !tls.peer_closed() {
            meter.before_read();
            let mut bytes = [MaybeUninit::<u8>::uninit(); CHUNK_BYTES];
            let mut chunk = ReadBuf::uninit(&mut bytes);
            ready!(Pin::new(&mut *stream).poll_read(cx, &mut chunk))?;
            plain.receive(tls, chunk.filled_mut(), meter)?;
        }
        plain.hand_over(&mut buf);
        Poll::Ready(Ok(()))
    }
}

impl Write for AsyncIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let AsyncIo { stream, tls, meter, .. } = &mut *self;
        let result = (|| {
            // One record at a time, so that a large body takes no more memory than that.
            ready!(poll_flush(tls, stream, cx))?;
            let taken = tls.send(buf).map_err(Error::other)?;
            match poll_flush(tls, stream, cx) {
                Poll::Ready(Err(e)) => Poll::Ready(Err(e)),
                // What could not be written goes out with the next write or flush.
                _ => Poll::Ready(Ok(taken)),
            }
        })();
        if let Poll::Ready(Err(_)) = &result {
            meter.write_failed.store(true, Relaxed);
        }
        result
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        let AsyncIo { stream, tls, .. } = &mut *self;
        poll_flush(tls, stream, cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl Drop for AsyncIo {
    fn drop(&mut self) {
        // Says to the target that nothing follows, if that needs no waiting.
        self.tls.close();
        let _ = self.stream.try_write(self.tls.unsent());
    }
}

impl Async {
    /// Takes over a connection after its handshake.
    pub async fn over_tls(stream: tokio::net::TcpStream, tls: Session) -> Result<Self, Failure> {
        let meter = Arc::new(Meter::default());
        let io = AsyncIo { stream, tls, plain: Plain::default(), meter: meter.clone() };
        Self::handshake(io, meter).await
    }
}
