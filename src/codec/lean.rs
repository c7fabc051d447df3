//! duel's own codec: one prebuilt request a write, the response parsed in place.
//!
//! What a response is stands in [`super::parse`], which knows no socket. A lane holds no buffer
//! while it waits: bytes are read onto the stack, and only an incomplete head, at most 32 KiB of
//! it, is carried from one read to the next.

pub(crate) mod server;

use std::future::poll_fn;
use std::mem::MaybeUninit;
use std::task::{Context, Poll, Waker, ready};

use super::parse::{Answer, ParseError, Progress, ResponseParser};
use super::socket::{AsyncSocket, BlockingSocket};
use super::stream::{Socket, Stream};
use super::{Failure, Reply, is_gone};
use crate::plan::request::Rendered;
use crate::side::ErrorKind;
use crate::sys::now_ns;

/// First read of a response on a blocking socket: small, since it lies on each lane's own stack.
const FIRST_READ_BYTES: usize = 1536;
/// Further reads, and every read of a task, whose stack is the runtime's.
const READ_BYTES: usize = 16 * 1024;

pub(super) struct Incoming {
    parser: ResponseParser,
    /// An incomplete head, where one came in pieces.
    #[expect(clippy::box_collection, reason = "every lane has room for it, and few have one")]
    carry: Option<Box<Vec<u8>>>,
    received: u64,
    /// When it had been read; 0 before, and in the end where one read brought the whole.
    first_byte: u64,
}

impl Incoming {
    pub(super) fn new(request_is_head: bool) -> Self {
        Incoming {
            parser: ResponseParser::new(request_is_head),
            carry: None,
            received: 0,
            first_byte: 0,
        }
    }

    /// Whether the head of the answer is still to come, or to be completed.
    pub(super) fn is_in_head(&self) -> bool {
        self.parser.is_in_head()
    }

    /// Before another read: the second one is where the first byte's instant must have been
    /// noted; a response that comes whole in one read (of TLS, in several records) needs no clock
    /// for it.
    #[inline]
    fn before_read(&mut self) {
        if self.received > 0 && self.first_byte == 0 {
            self.first_byte = now_ns();
        }
    }

    /// Takes what one read brought; none means the end of the stream. `None` asks for more.
    #[inline]
    pub(super) fn take(&mut self, bytes: &[u8], closes: bool) -> Option<Result<Reply, Failure>> {
        self.received += bytes.len() as u64;
        if bytes.is_empty() {
            return Some(match self.parser.eof(self.carry.as_deref().map_or(&[], Vec::as_slice)) {
                // The stream is over, whatever the head said of keeping it.
                Ok(answer) => Ok(self.reply(Answer { keep_alive: false, ..answer })),
                Err(e) => Err(Failure::parse(e)),
            });
        }
        match self.feed(bytes) {
            Ok(None) => None,
            Ok(Some(answer)) => {
                let keep_alive = answer.keep_alive && !closes;
                Some(Ok(self.reply(Answer { keep_alive, ..answer })))
            }
            Err(e) => Some(Err(Failure::parse(e))),
        }
    }

    /// Gives the parser what came, and what is left of an incomplete head before it.
    #[inline]
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Result<Option<Answer>, ParseError> {
        let (progress, came) = match &mut self.carry {
            None => (self.parser.feed(bytes)?, bytes.len()),
            Some(carry) => {
                carry.extend_from_slice(bytes);
                (self.parser.feed(carry)?, carry.len())
            }
        };
        Ok(match progress {
            Progress::NeedMore { consumed } => {
                match &mut self.carry {
                    carry if consumed == came => *carry = None,
                    Some(carry) => drop(carry.drain(..consumed)),
                    carry => *carry = Some(Box::new(bytes[consumed..].into())),
                }
                None
            }
            Progress::Done { consumed, answer } => {
                // Bytes that answer nothing make the connection useless for another request.
                Some(Answer { keep_alive: answer.keep_alive && consumed == came, ..answer })
            }
        })
    }

    fn reply(&self, answer: Answer) -> Reply {
        Reply {
            status: answer.status,
            received: self.received,
            first_byte: (self.first_byte != 0).then_some(self.first_byte),
            keep: answer.keep_alive,
        }
    }

    /// An I/O error at this point of the exchange.
    fn broke(&self, error: &std::io::Error) -> Failure {
        let stage = if self.parser.is_in_body() { ErrorKind::Body } else { ErrorKind::Read };
        Failure::broke(stage, error, self.received > 0)
    }
}

/// One request on its way out and its response on its way in.
struct Exchange<'r> {
    request: &'r Rendered,
    written: usize,
    /// Nothing more will be written: the request is, or cannot be.
    sent: bool,
    /// The system's error that broke the connection before the request was written whole, or 0.
    cut: i32,
    incoming: Incoming,
}

impl<'r> Exchange<'r> {
    fn new(request: &'r Rendered) -> Self {
        let incoming = Incoming::new(request.is_head);
        Exchange { request, written: 0, sent: false, cut: 0, incoming }
    }

    #[inline]
    fn poll_send<S: Socket>(
        &mut self,
        stream: &mut Stream<S>,
        cx: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        while self.written < self.request.bytes.len() {
            self.written += ready!(stream.poll_write(cx, &self.request.bytes[self.written..]))?;
        }
        stream.poll_flush(cx)
    }

    /// Reads once; `None` asks for more.
    #[inline]
    fn poll_read<S: Socket, const N: usize>(
        &mut self,
        stream: &mut Stream<S>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Reply, Failure>>> {
        let mut buffer = [MaybeUninit::uninit(); N];
        let Exchange { incoming, request, .. } = self;
        let read = stream.poll_read(cx, &mut buffer, |before, bytes| match before {
            None => incoming.take(bytes, request.closes),
            // Bytes that answer nothing, or the end.
            Some(Ok(reply)) => Some(Ok(Reply { keep: false, ..reply })),
            failed => failed,
        });
        Poll::Ready(ready!(read).unwrap_or_else(|e| Some(Err(incoming.broke(&e)))))
    }

    /// Kept out of line, so that the large buffer touches a lane's stack only when a response
    /// needs it.
    #[inline(never)]
    fn poll_more<S: Socket>(
        &mut self,
        stream: &mut Stream<S>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Reply, Failure>>> {
        self.poll_read::<S, READ_BYTES>(stream, cx)
    }

    #[inline]
    fn poll<S: Socket>(
        &mut self,
        stream: &mut Stream<S>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Reply, Failure>> {
        loop {
            if !self.sent {
                match self.poll_send(stream, cx) {
                    Poll::Ready(Ok(())) => self.sent = true,
                    // The answer may have come before: it says why the target takes no more.
                    Poll::Ready(Err(e)) if is_gone(&e) => {
                        self.sent = true;
                        self.cut = e.raw_os_error().unwrap_or(0);
                    }
                    Poll::Ready(Err(e)) => {
                        return Poll::Ready(Err(Failure::broke(ErrorKind::Write, &e, false)));
                    }
                    Poll::Pending => {}
                }
            }
            if S::BLOCKS && self.sent {
                // Nothing is left but to wait; the socket is not full, so that this only allows it.
                let _ = stream.socket().block();
            }
            self.incoming.before_read();
            let came = match (S::BLOCKS, self.incoming.received) {
                (false, _) => self.poll_read::<S, READ_BYTES>(stream, cx),
                (true, 0) => self.poll_read::<S, FIRST_READ_BYTES>(stream, cx),
                (true, _) => self.poll_more(stream, cx),
            };
            if let Some(result) = ready!(came) {
                let clean = self.sent && self.cut == 0;
                return Poll::Ready(if clean { result } else { self.end_early(result) });
            }
        }
    }

    /// The end of an exchange whose request was not sent whole.
    #[cold]
    fn end_early(&self, result: Result<Reply, Failure>) -> Result<Reply, Failure> {
        match result {
            Ok(reply) => Ok(Reply { keep: false, ..reply }),
            Err(_) if self.cut != 0 && self.incoming.received == 0 => {
                let cut = std::io::Error::from_raw_os_error(self.cut);
                Err(Failure::broke(ErrorKind::Write, &cut, false))
            }
            failed => failed,
        }
    }
}

pub struct LeanConn<S: Socket> {
    stream: Stream<S>,
}

impl<S: Socket> LeanConn<S> {
    pub(super) fn new(mut stream: Stream<S>) -> Self {
        stream.flush_again();
        LeanConn { stream }
    }

    pub(super) fn is_idle(&mut self) -> bool {
        self.stream.is_idle()
    }
}

impl LeanConn<BlockingSocket> {
    /// Sends one request and reads its response until `deadline` on CLOCK_MONOTONIC.
    #[inline]
    pub(super) fn exchange(&mut self, request: &Rendered, deadline: u64) -> Result<Reply, Failure> {
        self.stream.socket().begin(deadline);
        let mut exchange = Exchange::new(request);
        let mut cx = Context::from_waker(Waker::noop());
        loop {
            if let Poll::Ready(result) = exchange.poll(&mut self.stream, &mut cx) {
                return result;
            }
            self.stream.socket().block().map_err(|e| exchange.incoming.broke(&e))?;
        }
    }
}

impl<S: AsyncSocket> LeanConn<S> {
    /// Sends one request and reads its response; the caller bounds the time.
    ///
    /// No `async fn`, whose state would hold its arguments twice in every lane.
    #[inline]
    pub(super) fn exchange_async(
        &mut self,
        request: &Rendered,
    ) -> impl Future<Output = Result<Reply, Failure>> {
        let mut exchange = Exchange::new(request);
        poll_fn(move |cx| exchange.poll(&mut self.stream, cx))
    }
}
