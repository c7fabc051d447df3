//! duel's own codec: one prebuilt request a write, the response parsed in place.
//!
//! What a response is stands in [`super::parse`], which knows no socket; here are the two kinds of
//! socket. A lane holds no buffer while it waits: bytes are read onto the stack, and only an
//! incomplete head, at most 32 KiB of it, is carried from one read to the next. [`tls`] is the same
//! behind TLS, in types of its own.

pub mod tls;

use std::future::poll_fn;
use std::mem::MaybeUninit;
use std::net::TcpStream;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::parse::{Answer, ParseError, Progress, ResponseParser};
use super::socket::BlockingSocket;
use super::{Failure, Reply};
use crate::plan::request::Rendered;
use crate::side::ErrorKind;
use crate::sys::now_ns;

/// First read of a response on a blocking socket: small, since it lies on each lane's own stack.
const FIRST_READ_BYTES: usize = 1536;
/// Further reads, and every read of a task, whose stack is the runtime's.
const READ_BYTES: usize = 16 * 1024;

/// A response on its way in.
struct Incoming {
    parser: ResponseParser,
    /// An incomplete head; empty, and not allocated, unless a head came in pieces.
    carry: Vec<u8>,
    received: u64,
    first_byte: Option<u64>,
    reads: u32,
}

impl Incoming {
    fn new(request: &Rendered) -> Self {
        let parser = ResponseParser::new(request.is_head);
        Incoming { parser, carry: Vec::new(), received: 0, first_byte: None, reads: 0 }
    }

    /// Before another read: the second one is where the first byte's instant must have been
    /// noted; a response that comes whole in one read (of TLS, in several records) needs no clock
    /// for it.
    fn before_read(&mut self) {
        if self.reads > 0 && self.first_byte.is_none() {
            self.first_byte = Some(now_ns());
        }
    }

    /// Takes what one read brought; none means the end of the stream. `None` asks for more.
    fn take(&mut self, bytes: &[u8], closes: bool) -> Option<Result<Reply, Failure>> {
        self.reads = self.reads.saturating_add(1);
        self.received += bytes.len() as u64;
        if bytes.is_empty() {
            return Some(match self.parser.eof(&self.carry) {
                // The stream is over, whatever the head said of keeping it.
                Ok(answer) => Ok(self.reply(Answer { keep_alive: false, ..answer })),
                Err(e) => Err(failure(e)),
            });
        }
        let fed = if self.carry.is_empty() {
            self.parser.feed(bytes).inspect(|progress| {
                if let Progress::NeedMore { consumed } = progress {
                    self.carry.extend_from_slice(&bytes[*consumed..]);
                }
            })
        } else {
            self.carry.extend_from_slice(bytes);
            self.parser.feed(&self.carry).inspect(|progress| {
                if let Progress::NeedMore { consumed } = progress {
                    self.carry.drain(..*consumed);
                }
            })
        };
        match fed {
            Ok(Progress::NeedMore { .. }) => None,
            Ok(Progress::Done { consumed, answer }) => {
                let came = if self.carry.is_empty() { bytes.len() } else { self.carry.len() };
                // Bytes that answer nothing make the connection useless for another request.
                let keep_alive = answer.keep_alive && consumed == came && !closes;
                Some(Ok(self.reply(Answer { keep_alive, ..answer })))
            }
            Err(e) => Some(Err(failure(e))),
        }
    }

    fn reply(&self, answer: Answer) -> Reply {
        Reply {
            status: answer.status,
            received: self.received,
            first_byte: self.first_byte,
            keep: answer.keep_alive,
        }
    }
}

fn failure(error: ParseError) -> Failure {
    let kind = match error {
        ParseError::Head(_) | ParseError::HeadTooLong | ParseError::Framing(_) => {
            ErrorKind::Protocol
        }
        ParseError::BodyCut => ErrorKind::Body,
        ParseError::NoResponse | ParseError::HeadCut => ErrorKind::Read,
    };
    Failure::new(kind, error)
}

fn io_failure(kind: ErrorKind, error: std::io::Error) -> Failure {
    match error.kind() {
        std::io::ErrorKind::TimedOut => Failure::TimedOut,
        _ => Failure::new(kind, error),
    }
}

/// The stage of a read error: amid the body once the head is whole.
fn read_kind(incoming: &Incoming) -> ErrorKind {
    if incoming.parser.is_in_body() { ErrorKind::Body } else { ErrorKind::Read }
}

/// A blocking socket.
pub struct Blocking {
    socket: BlockingSocket,
}

impl Blocking {
    /// Whether an idle connection can still take a request.
    pub fn ready(&mut self) -> bool {
        self.socket.is_quiet()
    }

    /// Takes over a connected socket whose timeouts are set to `timeout` nanoseconds.
    pub fn new(stream: TcpStream, timeout: u64) -> Self {
        Blocking { socket: BlockingSocket::new(stream, timeout) }
    }

    /// Sends one request and reads its response until `deadline` on CLOCK_MONOTONIC.
    ///
    /// # Errors
    /// See [`Failure`]; the connection is then of no further use.
    pub fn exchange(&mut self, request: &Rendered, deadline: u64) -> Result<Reply, Failure> {
        let mut rest = &request.bytes[..];
        while !rest.is_empty() {
            let written =
                self.socket.write(rest, deadline).map_err(|e| io_failure(ErrorKind::Write, e))?;
            rest = &rest[written..];
        }
        let mut incoming = Incoming::new(request);
        let mut result = self.read_once::<FIRST_READ_BYTES>(&mut incoming, request, deadline);
        while result.is_none() {
            incoming.before_read();
            result = self.read_more(&mut incoming, request, deadline);
        }
        result.expect("the loop above ends with a result")
    }

    /// Kept out of line, so that the large buffer touches a lane's stack only when a response
    /// needs it.
    #[inline(never)]
    fn read_more(
        &mut self,
        incoming: &mut Incoming,
        request: &Rendered,
        deadline: u64,
    ) -> Option<Result<Reply, Failure>> {
        self.read_once::<READ_BYTES>(incoming, request, deadline)
    }

    fn read_once<const N: usize>(
        &mut self,
        incoming: &mut Incoming,
        request: &Rendered,
        deadline: u64,
    ) -> Option<Result<Reply, Failure>> {
        let mut buffer = [MaybeUninit::uninit(); N];
        self.socket
            .read(&mut buffer, deadline, |bytes| incoming.take(bytes, request.closes))
            .unwrap_or_else(|e| Some(Err(io_failure(read_kind(incoming), e))))
    }
}

/// An async socket.
pub struct Async {
    stream: tokio::net::TcpStream,
}

impl Async {
    /// Takes over a connected socket.
    pub fn new(stream: tokio::net::TcpStream) -> Self {
        Async { stream }
    }

    /// Whether an idle connection can still take a request: nothing has come that was not asked
    /// for, not even the end of the stream.
    pub async fn ready(&mut self) -> bool {
        poll_fn(|cx| {
            let mut byte = [MaybeUninit::uninit(); 1];
            let mut buffer = ReadBuf::uninit(&mut byte);
            Poll::Ready(Pin::new(&mut self.stream).poll_read(cx, &mut buffer).is_pending())
        })
        .await
    }

    /// Sends one request and reads its response; the caller bounds the time.
    ///
    /// No `async fn`, whose state would hold its arguments twice in every lane.
    ///
    /// # Errors
    /// See [`Failure`]; the connection is then of no further use.
    pub fn exchange(&mut self, request: &Rendered) -> impl Future<Output = Result<Reply, Failure>> {
        let mut written = 0;
        let mut incoming = Incoming::new(request);
        poll_fn(move |cx| {
            while written < request.bytes.len() {
                let rest = &request.bytes[written..];
                match ready!(Pin::new(&mut self.stream).poll_write(cx, rest)) {
                    Ok(n) => written += n,
                    Err(e) => return Poll::Ready(Err(io_failure(ErrorKind::Write, e))),
                }
            }
            self.poll_response(cx, &mut incoming, request)
        })
    }

    fn poll_response(
        &mut self,
        cx: &mut Context<'_>,
        incoming: &mut Incoming,
        request: &Rendered,
    ) -> Poll<Result<Reply, Failure>> {
        loop {
            let mut bytes = [MaybeUninit::uninit(); READ_BYTES];
            let mut buffer = ReadBuf::uninit(&mut bytes);
            incoming.before_read();
            match ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer)) {
                Ok(()) => {
                    if let Some(result) = incoming.take(buffer.filled(), request.closes) {
                        return Poll::Ready(result);
                    }
                }
                Err(e) => return Poll::Ready(Err(io_failure(read_kind(incoming), e))),
            }
        }
    }
}
