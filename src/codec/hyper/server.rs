//! hyper's server connection, with the same server and the same bytes as the other codecs.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};

use super::spill::Spill;
use crate::codec::serve::answers::AnswerKind;
use crate::codec::serve::request::{MAX_HEAD, MAX_HEADERS, Persistence};
use crate::codec::serve::{Service, farewell, reset};
use crate::codec::stream::{Accepted, Socket};
use crate::sys::now_ns;

/// Serves a connection to its end.
pub(crate) async fn connection<S: Socket>(socket: S, service: impl Service) {
    let Some(mut stream) = service.stream(socket) else { return };
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
) -> std::io::Result<Response<Pattern<V>>> {
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
    let mut response = Response::new(Pattern::new(service.clone(), head_only));
    if error {
        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    }
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    Ok(response)
}

/// The body of an answer, in frames that share one pattern.
struct Pattern<V> {
    service: V,
    at: u64,
}

impl<V: Service> Pattern<V> {
    fn new(service: V, head_only: bool) -> Self {
        let body = Pattern { service, at: 0 };
        if head_only || body.is_end_stream() {
            body.service.answered(true);
        }
        body
    }

    fn left(&self) -> u64 {
        self.service.answers().body_bytes() - self.at
    }
}

impl<V: Service> Body for Pattern<V> {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.left() == 0 {
            return Poll::Ready(None);
        }
        let frame = self.service.answers().body_frame(self.at, self.left());
        self.at += frame.len() as u64;
        if self.left() == 0 {
            self.service.answered(true);
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
        spill.poll_read(stream, cx, &mut buf, |_| {})
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
