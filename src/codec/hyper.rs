//! hyper's HTTP/1.1 client connection, driven by the lane itself.
//!
//! The lane polls hyper's connection and the response future in turn; no second task, no pool
//! that retries. hyper owns the stream, so that the two sides tell each other through a [`Meter`]:
//! what was read and what broke, and, on a blocking socket, when a read may block. That is only
//! when both the connection and the response are pending: two socket calls per request, as blocking
//! code written by hand has.

pub(crate) mod server;
mod spill;

use std::future::poll_fn;
use std::io::{Error, ErrorKind as IoErrorKind};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Body as _;
use hyper::client::conn::http1::{self, Connection, SendRequest};
use hyper::rt::{Read, ReadBufCursor, Write};

use super::lean::Incoming;
use super::parse::{self, MAX_HEAD, ParseError};
use super::socket::BlockingSocket;
use super::stream::{Socket, Stream};
use super::{Failure, Reply, is_gone};
use crate::plan::request::Rendered;
use crate::side::ErrorKind;
use crate::sys::now_ns;
use spill::Spill;

/// What the lane asks of the stream with its next read.
mod order {
    pub(super) const NONE: u8 = 0;
    /// Nothing else can go on: wait.
    pub(super) const BLOCK: u8 = 1;
    /// See whether the idle connection still stands.
    pub(super) const LOOK: u8 = 2;
}

/// What the stream and the lane tell each other, within one lane: plain loads and stores.
#[derive(Default)]
struct Meter {
    received: AtomicU64,
    first_byte: AtomicU64,
    order: AtomicU8,
    /// A read had to wait, and the lane has not: another one would have to as well.
    dry: AtomicBool,
    /// hyper has more to do than it did in one turn.
    again: AtomicBool,
    /// Of the lane's task, for the socket.
    waker: Mutex<Option<Waker>>,
    /// Bytes of the request wait for room in the socket, or will never be written.
    unsent: AtomicBool,
    /// When the request ends at the latest, for blocking sockets.
    deadline: AtomicU64,
    ended: AtomicBool,
    /// What broke the connection, and at which stage: hyper wraps errors out of reach.
    trouble: Mutex<Option<(ErrorKind, Error)>>,
}

impl Meter {
    fn begin(&self) {
        self.received.store(0, Relaxed);
        self.first_byte.store(0, Relaxed);
        self.dry.store(false, Relaxed);
    }

    /// The lane is about to wait: what it asks for next may have come by then.
    fn wait(&self, cx: &Context<'_>) {
        self.heard();
        self.dry.store(false, Relaxed);
        if self.again.load(Relaxed) {
            cx.waker().wake_by_ref();
        }
    }

    /// Called where a response goes on: before the lane waits, and with the second piece of those
    /// that come at once. The first one's instant is noted then, within the time it took to parse.
    fn heard(&self) {
        if self.received.load(Relaxed) > 0 && self.first_byte.load(Relaxed) == 0 {
            self.first_byte.store(now_ns(), Relaxed);
        }
    }

    /// Keeps the waker of the lane's task, which waits for the socket.
    fn set_waker<S: Socket>(&self, cx: &Context<'_>) {
        if !S::BLOCKS {
            let mut waker = self.waker.lock().unwrap_or_else(PoisonError::into_inner);
            waker.get_or_insert_with(|| cx.waker().clone()).clone_from(cx.waker());
        }
    }

    /// Polls the socket, which wakes the lane's task.
    fn waking<S: Socket, R>(&self, poll: impl FnOnce(&mut Context<'_>) -> R) -> R {
        if S::BLOCKS {
            return poll(&mut Context::from_waker(Waker::noop()));
        }
        let waker = self.waker.lock().unwrap_or_else(PoisonError::into_inner);
        poll(&mut Context::from_waker(waker.as_ref().unwrap_or(Waker::noop())))
    }

    /// Keeps an error for [`Meter::classify`]; the first one counts. What hyper gets says as much
    /// as hyper looks at.
    fn note(&self, stage: ErrorKind, error: Error) -> Error {
        let kind = error.kind();
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        trouble.get_or_insert((stage, error));
        kind.into()
    }

    /// What an error of hyper's amounts to; `reading` is the stage when nothing else is known.
    fn classify(&self, error: &hyper::Error, reading: ErrorKind) -> Failure {
        let answered = self.received.load(Relaxed) > 0;
        let trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner).take();
        match trouble {
            Some((ErrorKind::Read, error)) => Failure::broke(reading, &error, answered),
            // A request that was cut off explains why there is no answer, not why one broke off.
            Some((stage, error)) if !answered => Failure::broke(stage, &error, false),
            _ if error.is_parse() || (reading == ErrorKind::Body && is_bad_framing(error)) => {
                Failure::new(ErrorKind::Protocol, chain(error))
            }
            _ if reading == ErrorKind::Body => Failure::parse(ParseError::BodyCut),
            _ if answered => Failure::parse(ParseError::HeadCut),
            _ if self.ended.load(Relaxed) || error.is_canceled() => {
                Failure::parse(ParseError::NoResponse)
            }
            _ => Failure::new(reading, chain(error)),
        }
    }
}

fn chain(error: &hyper::Error) -> String {
    use std::error::Error as _;
    error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
}

/// An invalid or overlong chunk size: hyper reports it as an I/O error of these kinds.
fn is_bad_framing(error: &hyper::Error) -> bool {
    use std::error::Error as _;
    let mut causes = std::iter::successors(error.source(), |&cause| cause.source());
    let io = causes.find_map(|cause| cause.downcast_ref::<Error>());
    io.is_some_and(|e| matches!(e.kind(), IoErrorKind::InvalidInput | IoErrorKind::InvalidData))
}

/// hyper's own wakers lead here. Most of its wake-ups say what the lane, which turns the connection
/// over and then looks at the response, is about to see; its task would be polled again for nothing.
impl Wake for Meter {
    fn wake(self: Arc<Self>) {
        self.again.store(true, Relaxed);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.again.store(true, Relaxed);
    }
}

pub struct HyperConn<S: Socket> {
    sender: SendRequest<Full<Bytes>>,
    connection: Connection<Io<S>, Full<Bytes>>,
    meter: Arc<Meter>,
    waker: Waker,
    /// hyper consumes a request, so each needs a copy of its head, made before the clock starts.
    prepared: Option<http::Request<Full<Bytes>>>,
}

impl<S: Socket + 'static> HyperConn<S> {
    pub(super) fn new(stream: Stream<S>) -> Result<Self, Failure> {
        let meter = Arc::new(Meter::default());
        let io = Io {
            stream,
            meter: meter.clone(),
            spill: Spill::default(),
            is_cut: false,
            interim: None,
        };
        let mut builder = http1::Builder::new();
        // The most header lines are those of `parse` by hyper's own choice. Told to it, it would
        // fill two tables of that length for each response.
        builder.max_buf_size(MAX_HEAD).max_header_size(MAX_HEAD);
        let handshake = pin!(builder.handshake(io));
        let waker = Waker::from(meter.clone());
        match handshake.poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(Ok((sender, connection))) => {
                Ok(HyperConn { sender, connection, meter, waker, prepared: None })
            }
            Poll::Ready(Err(e)) => Err(Failure::new(ErrorKind::Connect, e)),
            Poll::Pending => Err(Failure::new(ErrorKind::Connect, "hyper's handshake did I/O")),
        }
    }

    /// Copies the request for [`Self::exchange`] to send.
    pub(super) fn prepare(&mut self, request: &Rendered) {
        self.prepared = Some(request.request());
    }

    /// Whether an idle connection can still take a request.
    pub(super) fn is_idle(&mut self) -> bool {
        self.meter.order.store(order::LOOK, Relaxed);
        self.is_open()
    }

    /// Between two exchanges.
    fn is_open(&mut self) -> bool {
        self.turn().is_pending() && !self.sender.is_closed()
    }

    fn turn(&mut self) -> Poll<hyper::Result<()>> {
        self.meter.again.store(false, Relaxed);
        Pin::new(&mut self.connection).poll(&mut Context::from_waker(&self.waker))
    }

    /// Sends one request and reads its response whole, which is counted and dropped; the caller bounds
    /// the time.
    pub(super) async fn exchange(&mut self, request: &Rendered) -> Result<Reply, Failure> {
        self.meter.begin();
        let (closes, is_head) = (request.closes, request.is_head);
        let request = self.prepared.take().unwrap_or_else(|| request.request());
        let mut response = pin!(self.sender.send_request(request));
        let mut ended = None;
        let head = poll_fn(|cx| {
            self.meter.set_waker::<S>(cx);
            if ended.is_none()
                && let Poll::Ready(end) = self.turn()
            {
                ended = Some(end);
            }
            let head = response.as_mut().poll(&mut Context::from_waker(&self.waker));
            if head.is_pending() {
                self.meter.wait(cx);
            }
            head
        });
        let (parts, mut body) = match head.await {
            Ok(response) => response.into_parts(),
            Err(e) => return Err(self.meter.classify(&e, ErrorKind::Read)),
        };
        poll_fn(|cx| {
            self.meter.set_waker::<S>(cx);
            // Forgotten from one poll to the next: something may have arrived since.
            let mut turned = false;
            loop {
                let frame = &mut Context::from_waker(&self.waker);
                match Pin::new(&mut body).poll_frame(frame) {
                    Poll::Ready(Some(Ok(_))) => {
                        turned = false;
                        continue;
                    }
                    Poll::Ready(Some(Err(e))) => {
                        return Poll::Ready(Err(self.meter.classify(&e, ErrorKind::Body)));
                    }
                    Poll::Ready(None) => return Poll::Ready(Ok(())),
                    Poll::Pending if turned || ended.is_some() => {
                        self.meter.wait(cx);
                        return Poll::Pending;
                    }
                    Poll::Pending => {}
                }
                // The body comes through the connection: turn that over, then look again.
                turned = true;
                if let Poll::Ready(end) = self.turn() {
                    ended = Some(end);
                    turned = false;
                }
            }
        })
        .await?;
        let meter = &self.meter;
        let first_byte = meter.first_byte.load(Relaxed);
        let status = parts.status.as_u16();
        let http_1_1 = parts.version == http::Version::HTTP_11;
        let headers = parts.headers.iter().map(|(n, v)| (n.as_str().as_bytes(), v.as_bytes()));
        let keep = !closes
            && ended.is_none()
            && !meter.unsent.load(Relaxed)
            && matches!(parse::after_head(status, http_1_1, headers, is_head), Ok((_, true)));
        Ok(Reply {
            status,
            received: meter.received.load(Relaxed),
            first_byte: (first_byte != 0).then_some(first_byte),
            // One more turn lets the connection see that the response is over: it is then idle.
            keep: keep && self.is_open(),
        })
    }
}

impl HyperConn<BlockingSocket> {
    /// Sends one request and reads its response; `deadline` on CLOCK_MONOTONIC.
    pub(super) fn exchange_blocking(
        &mut self,
        request: &Rendered,
        deadline: u64,
    ) -> Result<Reply, Failure> {
        let meter = self.meter.clone();
        meter.deadline.store(deadline, Relaxed);
        let mut exchange = pin!(self.exchange(request));
        let mut cx = Context::from_waker(Waker::noop());
        loop {
            if let Poll::Ready(result) = exchange.as_mut().poll(&mut cx) {
                return result;
            }
            meter.order.store(order::BLOCK, Relaxed);
        }
    }
}

/// A stream as hyper reads and writes it.
struct Io<S: Socket> {
    stream: Stream<S>,
    meter: Arc<Meter>,
    spill: Spill,
    /// The target closed the connection while the request was being written.
    is_cut: bool,
    /// Counts the informational responses before an answer, which hyper does not.
    interim: Option<Box<Incoming>>,
}

impl<S: Socket> Io<S> {
    /// Carries out what the lane asked for.
    fn obey(&mut self) -> std::io::Result<()> {
        let order = self.meter.order.load(Relaxed);
        if order == order::NONE {
            return Ok(());
        }
        self.meter.order.store(order::NONE, Relaxed);
        if order == order::BLOCK {
            self.stream.socket().block().map_err(|e| self.meter.note(ErrorKind::Read, e))
        } else if self.stream.is_idle() {
            Ok(())
        } else {
            Err(IoErrorKind::ConnectionReset.into())
        }
    }

    /// Notes the result of a write. A connection that the target has closed takes the rest of the
    /// request as well, so that hyper reads the answer that may have come before.
    fn wrote<T>(&mut self, written: Poll<std::io::Result<T>>, all: T) -> Poll<std::io::Result<T>> {
        self.meter.unsent.store(!matches!(written, Poll::Ready(Ok(_))), Relaxed);
        match written {
            Poll::Ready(Err(e)) => {
                self.is_cut = is_gone(&e);
                let told = self.meter.note(ErrorKind::Write, e);
                Poll::Ready(if self.is_cut { Ok(all) } else { Err(told) })
            }
            written => written,
        }
    }
}

/// Whether bytes that begin a response are the begin of its final head.
fn is_final(bytes: &[u8]) -> bool {
    bytes.first() == Some(&b'H') && bytes.get(9).is_some_and(|first_digit| *first_digit != b'1')
}

/// Follows the informational responses up to the answer; an error when there are too many.
fn follow(interim: &mut Option<Box<Incoming>>, bytes: &[u8]) -> std::io::Result<()> {
    let Some(incoming) = interim else { return Ok(()) };
    match incoming.feed(bytes) {
        Err(e @ ParseError::TooManyInformational) => Err(Error::other(e)),
        Ok(None) if incoming.is_in_head() => Ok(()),
        // The answer is here, or what hyper will refuse.
        _ => {
            *interim = None;
            Ok(())
        }
    }
}

impl<S: Socket> Read for Io<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        self.obey()?;
        let Io { stream, meter, spill, interim, .. } = &mut *self;
        if spill.is_empty() && meter.dry.load(Relaxed) {
            return Poll::Pending;
        }
        let mut followed = Ok(());
        let seen = |plain: &[u8]| {
            meter.heard();
            if plain.is_empty() {
                return meter.ended.store(true, Relaxed);
            }
            let received = meter.received.load(Relaxed);
            if received == 0 && !is_final(plain) {
                *interim = Some(Box::new(Incoming::new(false)));
            }
            if interim.is_some() && followed.is_ok() {
                followed = follow(interim, plain);
            }
            meter.received.store(received + plain.len() as u64, Relaxed);
        };
        let read = meter.waking::<S, _>(|cx| spill.poll_read(stream, cx, &mut buf, seen));
        meter.dry.store(read.is_pending(), Relaxed);
        read.map(|read| read.and(followed).map_err(|e| meter.note(ErrorKind::Read, e)))
    }
}

impl<S: Socket> Write for Io<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let me = &mut *self;
        if me.is_cut {
            return Poll::Ready(Ok(buf.len()));
        }
        if S::BLOCKS {
            me.stream.socket().begin(me.meter.deadline.load(Relaxed));
        }
        let written = me.meter.waking::<S, _>(|cx| me.stream.poll_write(cx, buf));
        me.wrote(written, buf.len())
    }

    fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        let me = &mut *self;
        if me.is_cut || matches!(me.stream, Stream::Plain(_)) {
            return Poll::Ready(Ok(()));
        }
        match me.meter.waking::<S, _>(|cx| me.stream.poll_flush(cx)) {
            Poll::Ready(Ok(())) => Poll::Ready(Ok(())),
            flushed => me.wrote(flushed, ()),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        // The lane drops the socket; a half-close first would be a system call more.
        Poll::Ready(Ok(()))
    }
}
