//! hyper's HTTP/1.1 client connection, driven by the lane itself.
//!
//! The lane polls hyper's connection and the response future in turn; no second task, no pool
//! that retries. One function, [`HyperConn::exchange`], serves both kinds of socket:
//!
//! * async: [`AsyncIo`] over tokio's socket; the lane's task polls.
//! * blocking: [`BlockingIo`] over a `TcpStream`; the lane's own thread polls with a waker that
//!   does nothing. A read that is not *armed* returns `Pending` without a system call. Only when
//!   both the connection and the response are pending does the driver arm one read, which then
//!   blocks in the kernel: two socket calls a request, as blocking code written by hand has.

pub mod tls;

use std::future::{Future, poll_fn};
use std::io::{Error, ErrorKind as IoErrorKind};
use std::mem::MaybeUninit;
use std::net::TcpStream;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Body as _;
use hyper::client::conn::http1::{self, Connection, SendRequest};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;

use super::parse::{MAX_HEAD, MAX_HEADERS};
use super::socket::BlockingSocket;
use super::{Failure, Reply};
use crate::plan::request::Rendered;
use crate::side::ErrorKind;
use crate::sys::now_ns;

/// What the socket half tells the lane, shared within one lane: plain loads and stores.
#[derive(Default)]
pub struct Meter {
    received: AtomicU64,
    reads: AtomicU32,
    first_byte: AtomicU64,
    write_failed: AtomicBool,
    armed: AtomicBool,
    /// The next read is to see whether anything has come, and not to wait for it.
    look: AtomicBool,
    timed_out: AtomicBool,
    /// When the request ends at the latest, for blocking sockets.
    deadline: AtomicU64,
}

impl Meter {
    fn begin(&self) {
        self.received.store(0, Relaxed);
        self.reads.store(0, Relaxed);
        self.first_byte.store(0, Relaxed);
    }

    /// Notes why a blocking call failed, since hyper wraps the error out of reach.
    fn note(&self, result: &std::io::Result<usize>, write: bool) {
        match result {
            Err(e) if e.kind() == IoErrorKind::TimedOut => self.timed_out.store(true, Relaxed),
            Err(_) if write => self.write_failed.store(true, Relaxed),
            _ => {}
        }
    }

    /// Called before a read: the second read of a response is where the first one's instant
    /// must have been noted, within the time it took to parse what that one brought.
    fn before_read(&self) {
        if self.reads.load(Relaxed) == 1 && self.first_byte.load(Relaxed) == 0 {
            self.first_byte.store(now_ns(), Relaxed);
        }
    }

    fn after_read(&self, bytes: usize) {
        self.reads.store(self.reads.load(Relaxed).saturating_add(1), Relaxed);
        self.received.store(self.received.load(Relaxed) + bytes as u64, Relaxed);
    }
}

/// A connection and the means to send on it.
pub struct HyperConn<Io: Read + Write + Unpin> {
    sender: SendRequest<Full<Bytes>>,
    connection: Connection<Io, Full<Bytes>>,
    meter: Arc<Meter>,
    /// hyper consumes a request, so each needs a copy of its head, made before the clock starts.
    prepared: Option<http::Request<Full<Bytes>>>,
}

impl<Io: Read + Write + Unpin> HyperConn<Io> {
    async fn handshake(io: Io, meter: Arc<Meter>) -> Result<Self, Failure> {
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(MAX_HEAD)
            .max_header_size(MAX_HEAD)
            .max_headers(MAX_HEADERS)
            .handshake(io)
            .await
            .map_err(|e| Failure::new(ErrorKind::Connect, e))?;
        Ok(HyperConn { sender, connection, meter, prepared: None })
    }

    /// Copies the request for [`Self::exchange`] to send.
    pub fn prepare(&mut self, request: &Rendered) {
        self.prepared = Some(request.request());
    }

    fn poll_connection(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        Pin::new(&mut self.connection).poll(cx)
    }

    /// Whether the connection can take a request; turns the connection over once if need be.
    fn is_ready(&mut self, cx: &mut Context<'_>) -> bool {
        self.poll_connection(cx).is_pending() && !self.sender.is_closed()
    }

    /// Sends one request and reads its response whole; the body is counted and dropped.
    ///
    /// # Errors
    /// The stage that failed. The connection is then of no further use.
    async fn exchange(&mut self, request: &Rendered) -> Result<Reply, Failure> {
        let closes = request.closes;
        let request = self.prepared.take().unwrap_or_else(|| request.request());
        let HyperConn { sender, connection, meter, .. } = self;
        let mut response = pin!(sender.send_request(request));
        let mut ended = None;
        let head = poll_fn(|cx| {
            if ended.is_none()
                && let Poll::Ready(end) = Pin::new(&mut *connection).poll(cx)
            {
                ended = Some(end);
            }
            response.as_mut().poll(cx)
        });
        let (parts, mut body) = match head.await {
            Ok(response) => response.into_parts(),
            Err(e) => return Err(classify(&e, meter, ErrorKind::Read)),
        };
        poll_fn(|cx| {
            // Forgotten from one poll to the next: something may have arrived since.
            let mut turned = false;
            loop {
                match Pin::new(&mut body).poll_frame(cx) {
                    Poll::Ready(Some(Ok(_))) => {
                        turned = false;
                        continue;
                    }
                    Poll::Ready(Some(Err(e))) => {
                        return Poll::Ready(Err(classify(&e, meter, ErrorKind::Body)));
                    }
                    Poll::Ready(None) => return Poll::Ready(Ok(())),
                    Poll::Pending if turned || ended.is_some() => return Poll::Pending,
                    Poll::Pending => {}
                }
                // The body comes through the connection: turn that over, then look again.
                turned = true;
                if let Poll::Ready(end) = Pin::new(&mut *connection).poll(cx) {
                    ended = Some(end);
                    turned = false;
                }
            }
        })
        .await?;
        // One more turn lets the connection see that the response is over: it is then idle, or
        // ended where the close was announced.
        let keep = !closes
            && ended.is_none()
            && poll_fn(|cx| Poll::Ready(Pin::new(&mut *connection).poll(cx).is_pending())).await
            && !sender.is_closed();
        let first_byte = meter.first_byte.load(Relaxed);
        Ok(Reply {
            status: parts.status.as_u16(),
            received: meter.received.load(Relaxed),
            first_byte: (first_byte != 0).then_some(first_byte),
            keep,
        })
    }
}

/// Which stage an error of hyper's belongs to. `reading` is the stage when nothing else is known.
fn classify(error: &hyper::Error, meter: &Meter, reading: ErrorKind) -> Failure {
    use std::error::Error as _;
    if meter.timed_out.load(Relaxed) {
        return Failure::TimedOut;
    }
    let message = match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    };
    let kind = if meter.write_failed.load(Relaxed) {
        ErrorKind::Write
    } else if error.is_parse() || (reading == ErrorKind::Body && is_bad_framing(error)) {
        ErrorKind::Protocol
    } else {
        reading
    };
    Failure::new(kind, message)
}

/// A chunk size that is none, or one too long: hyper reports it as an I/O error of these kinds.
fn is_bad_framing(error: &hyper::Error) -> bool {
    use std::error::Error as _;
    let mut source = error.source();
    while let Some(e) = source {
        if let Some(io) = e.downcast_ref::<Error>() {
            return matches!(io.kind(), IoErrorKind::InvalidInput | IoErrorKind::InvalidData);
        }
        source = e.source();
    }
    false
}

/// Read buffer on the stack: hyper's cursor cannot be filled in place without `unsafe`.
const CHUNK_BYTES: usize = 8 * 1024;

/// tokio's socket as hyper reads and writes it.
pub struct AsyncIo {
    stream: TokioIo<tokio::net::TcpStream>,
    meter: Arc<Meter>,
}

impl Read for AsyncIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        self.meter.before_read();
        let mut bytes = [MaybeUninit::<u8>::uninit(); CHUNK_BYTES];
        let room = buf.remaining().min(CHUNK_BYTES);
        let mut chunk = hyper::rt::ReadBuf::uninit(&mut bytes[..room]);
        ready!(Pin::new(&mut self.stream).poll_read(cx, chunk.unfilled()))?;
        self.meter.after_read(chunk.filled().len());
        buf.put_slice(chunk.filled());
        Poll::Ready(Ok(()))
    }
}

impl Write for AsyncIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let result = ready!(Pin::new(&mut self.stream).poll_write(cx, buf));
        if result.is_err() {
            self.meter.write_failed.store(true, Relaxed);
        }
        Poll::Ready(result)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        // The lane drops the socket; a half-close first would be a system call more.
        Poll::Ready(Ok(()))
    }
}

/// A blocking socket as hyper reads and writes it; see the module's text.
pub struct BlockingIo {
    socket: BlockingSocket,
    meter: Arc<Meter>,
}

impl Read for BlockingIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        let look = self.meter.look.load(Relaxed);
        self.meter.look.store(false, Relaxed);
        if !(self.meter.armed.load(Relaxed) || look && !self.socket.is_quiet()) {
            return Poll::Pending;
        }
        self.meter.armed.store(false, Relaxed);
        self.meter.before_read();
        let mut bytes = [MaybeUninit::<u8>::uninit(); CHUNK_BYTES];
        let room = buf.remaining().min(CHUNK_BYTES);
        let deadline = self.meter.deadline.load(Relaxed);
        let result = self.socket.read(&mut bytes[..room], deadline, |read| {
            buf.put_slice(read);
            read.len()
        });
        self.meter.note(&result, false);
        Poll::Ready(result.map(|read| self.meter.after_read(read)))
    }
}

impl Write for BlockingIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let deadline = self.meter.deadline.load(Relaxed);
        let result = self.socket.write(buf, deadline);
        self.meter.note(&result, true);
        Poll::Ready(result)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// hyper on a blocking socket.
pub type Blocking = HyperConn<BlockingIo>;
/// hyper on an async socket.
pub type Async = HyperConn<AsyncIo>;

impl Blocking {
    /// Takes over a connected socket whose timeouts are set to `timeout`.
    pub fn new(stream: TcpStream, timeout: u64) -> Result<Self, Failure> {
        let meter = Arc::new(Meter::default());
        let io = BlockingIo { socket: BlockingSocket::new(stream, timeout), meter: meter.clone() };
        Self::on_blocking(io, meter)
    }
}

/// Blocking sockets, plain and TLS.
impl<Io: Read + Write + Unpin> HyperConn<Io> {
    fn on_blocking(io: Io, meter: Arc<Meter>) -> Result<Self, Failure> {
        let mut handshake = pin!(Self::handshake(io, meter));
        match handshake.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(result) => result,
            Poll::Pending => Err(Failure::new(ErrorKind::Connect, "hyper's handshake did I/O")),
        }
    }

    /// Whether an idle connection can still take a request.
    pub fn ready_blocking(&mut self) -> bool {
        self.meter.look.store(true, Relaxed);
        self.is_ready(&mut Context::from_waker(Waker::noop()))
    }

    /// Sends one request and reads its response; `deadline` on CLOCK_MONOTONIC.
    ///
    /// # Errors
    /// See [`Failure`].
    pub fn exchange_blocking(
        &mut self,
        request: &Rendered,
        deadline: u64,
    ) -> Result<Reply, Failure> {
        let meter = self.meter.clone();
        meter.begin();
        meter.deadline.store(deadline, Relaxed);
        let mut exchange = pin!(self.exchange(request));
        let mut cx = Context::from_waker(Waker::noop());
        loop {
            if let Poll::Ready(result) = exchange.as_mut().poll(&mut cx) {
                return result;
            }
            // Everything is pending: the next read may block.
            meter.armed.store(true, Relaxed);
        }
    }
}

impl Async {
    /// Takes over a connected socket.
    pub async fn new(stream: tokio::net::TcpStream) -> Result<Self, Failure> {
        let meter = Arc::new(Meter::default());
        let io = AsyncIo { stream: TokioIo::new(stream), meter: meter.clone() };
        Self::handshake(io, meter).await
    }
}

/// Async sockets, plain and TLS.
impl<Io: Read + Write + Unpin> HyperConn<Io> {
    /// Whether the connection can take a request.
    pub async fn ready_async(&mut self) -> bool {
        poll_fn(|cx| Poll::Ready(self.is_ready(cx))).await
    }

    /// Sends one request and reads its response; the caller bounds the time.
    pub async fn exchange_async(&mut self, request: &Rendered) -> Result<Reply, Failure> {
        self.meter.begin();
        self.exchange(request).await
    }
}
