//! HTTP/1.1 on a server's connection as hyper speaks it, with the same handler and the same bytes.

use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use http::header::{CONTENT_TYPE, HeaderValue};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};

use super::handler::{Handler, Runner};
use super::lean;
use super::request::{MAX_HEAD, MAX_HEADERS, Persistence};
use super::response::AnswerKind;
use crate::codec::stream::{Accepted, Socket};
use crate::sys::now_ns;

/// Read buffer on the stack: hyper's cursor cannot be filled in place without `unsafe`.
const CHUNK_BYTES: usize = 8 * 1024;

/// Serves a connection to its end.
pub(super) async fn connection<S: Socket, R: Runner>(socket: S, runner: R, handler: Arc<Handler>) {
    let Some(mut stream) = handler.stream(socket) else { return };
    let resets = AtomicBool::new(false);
    let service = service_fn(|request| respond(request, &runner, &handler, &resets));
    let mut builder = http1::Builder::new();
    // The same head as the other codec sends: neither pays for a date that the other does not.
    builder.auto_date_header(false).max_buf_size(MAX_HEAD).max_headers(MAX_HEADERS);
    // What hyper refuses it has answered already.
    let io = HyperIo { stream: &mut stream, spill: BytesMut::new() };
    let _ = builder.serve_connection(io, service).await;
    match resets.load(Relaxed) {
        true => lean::reset(&mut stream),
        false => lean::farewell(&mut stream).await,
    }
}

/// Reads the request's body, and does what it asks for.
async fn respond<R: Runner>(
    request: Request<Incoming>,
    runner: &R,
    handler: &Arc<Handler>,
    resets: &AtomicBool,
) -> std::io::Result<Response<Pattern>> {
    let head_only = request.method() == Method::HEAD;
    let mut body = request.into_body();
    while let Some(part) = body.frame().await {
        // Half a request counts nowhere.
        part.map_err(std::io::Error::other)?;
    }
    // hyper itself heeds what the request says of the connection.
    let kind = handler.serve(runner, now_ns(), head_only, Persistence::Default).await;
    let AnswerKind::Served { error, .. } = kind else {
        resets.store(true, Relaxed);
        return Err(std::io::ErrorKind::ConnectionReset.into());
    };
    let mut response = Response::new(Pattern::new(handler.clone(), head_only));
    if error {
        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    }
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    Ok(response)
}

/// The body of an answer, in frames that share one pattern.
struct Pattern {
    handler: Arc<Handler>,
    at: u64,
}

impl Pattern {
    fn new(handler: Arc<Handler>, head_only: bool) -> Pattern {
        let body = Pattern { handler, at: 0 };
        if head_only || body.is_end_stream() {
            body.handler.answered(true);
        }
        body
    }

    fn left(&self) -> u64 {
        self.handler.body_bytes() - self.at
    }
}

impl Body for Pattern {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.left() == 0 {
            return Poll::Ready(None);
        }
        let frame = self.handler.answers.body_frame(self.at, self.left());
        self.at += frame.len() as u64;
        if self.left() == 0 {
            self.handler.answered(true);
        }
        Poll::Ready(Some(Ok(Frame::data(frame))))
    }

    fn is_end_stream(&self) -> bool {
        self.left() == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left())
    }
}

/// A stream as hyper reads and writes it; it stays with the connection, which ends it.
struct HyperIo<'s, S: Socket> {
    stream: &'s mut Accepted<S>,
    /// What was decrypted beyond hyper's buffer.
    spill: BytesMut,
}

impl<S: Socket> Read for HyperIo<'_, S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        let HyperIo { stream, spill } = &mut *self;
        while spill.is_empty() {
            let mut bytes = [MaybeUninit::<u8>::uninit(); CHUNK_BYTES];
            let room = buf.remaining().min(CHUNK_BYTES);
            let came = ready!(stream.poll_read(cx, &mut bytes[..room], |_, came| {
                let (fits, rest) = came.split_at(came.len().min(buf.remaining()));
                buf.put_slice(fits);
                if !rest.is_empty() {
                    spill.extend_from_slice(rest);
                }
                Some(())
            }))?;
            if came.is_some() {
                return Poll::Ready(Ok(()));
            }
        }
        let length = spill.len().min(buf.remaining());
        buf.put_slice(&spill[..length]);
        spill.advance(length);
        if spill.is_empty() {
            *spill = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: Socket> Write for HyperIo<'_, S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        self.stream.poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        self.stream.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
