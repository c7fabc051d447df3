//! hyper's server connection, with the same server and the same bytes as the other codecs.

use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};

use super::spill::{CHUNK_BYTES, Spill};
use crate::codec::serve::answers::AnswerKind;
use crate::codec::serve::request::{MAX_HEAD, MAX_HEADERS, Persistence};
use crate::codec::serve::{Answering, Service, farewell, reset};
use crate::codec::stream::{Accepted, Socket};
use crate::sys::now_ns;

/// Serves a connection to its end.
pub(crate) async fn connection<S: Socket>(socket: S, service: impl Service) {
    let Some(mut stream) = service.server().stream(socket) else { return };
    let resets = AtomicBool::new(false);
    let responds = service_fn(|request| respond(request, &service, &resets));
    let mut builder = http1::Builder::new();
    // The same head as the other codec sends: neither pays for a date that the other does not.
    builder.auto_date_header(false).max_buf_size(MAX_HEAD).max_headers(MAX_HEADERS);
    // What hyper refuses it has answered already.
    let io = HyperIo { stream: &mut stream, spill: Spill::default() };
    let _ = builder.serve_connection(io, responds).await;
    match resets.load(Relaxed) {
        true => reset(&mut stream),
        false => farewell(&mut stream).await,
    }
}

/// Reads the request's body, and does what it asks for.
async fn respond<V: Service>(
    request: Request<Incoming>,
    service: &V,
    resets: &AtomicBool,
) -> std::io::Result<Response<Pattern<V::Server>>> {
    let head_only = request.method() == Method::HEAD;
    let mut body = request.into_body();
    while let Some(part) = body.frame().await {
        // Half a request counts nowhere.
        part.map_err(std::io::Error::other)?;
    }
    // hyper itself heeds what the request says of the connection.
    let kind = service.serve(now_ns(), head_only, Persistence::Default).await;
    let AnswerKind::Served { error, .. } = kind else {
        resets.store(true, Relaxed);
        return Err(std::io::ErrorKind::ConnectionReset.into());
    };
    let mut response = Response::new(Pattern::new(service.server().clone(), head_only));
    if error {
        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    }
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    Ok(response)
}

/// The body of an answer, in frames that share one pattern.
struct Pattern<V> {
    server: Arc<V>,
    at: u64,
}

impl<V: Answering> Pattern<V> {
    fn new(server: Arc<V>, head_only: bool) -> Self {
        let body = Pattern { server, at: 0 };
        if head_only || body.is_end_stream() {
            body.server.answered(true);
        }
        body
    }

    fn left(&self) -> u64 {
        self.server.answers().body_bytes() - self.at
    }
}

impl<V: Answering> Body for Pattern<V> {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.left() == 0 {
            return Poll::Ready(None);
        }
        let frame = self.server.answers().body_frame(self.at, self.left());
        self.at += frame.len() as u64;
        if self.left() == 0 {
            self.server.answered(true);
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
    spill: Spill,
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
                spill.put(came, &mut buf);
                Some(())
            }))?;
            if came.is_some() {
                return Poll::Ready(Ok(()));
            }
        }
        spill.pour(&mut buf);
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
