//! hyper's client on a connection in memory, driven by hand: no runtime, no time, no socket.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use duel::codec::parse::MAX_HEAD;
use http_body_util::Full;
use hyper::client::conn::http1;

/// Where the stream goes behind the response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Open,
    Closed,
}

/// A connection in memory: gives the pieces, one a read, once a request was written.
pub(crate) struct Script {
    pub(crate) pieces: Arc<Mutex<VecDeque<Vec<u8>>>>,
    pub(crate) end: End,
    pub(crate) written: Arc<Mutex<Vec<u8>>>,
}

impl Script {
    pub(crate) fn new(pieces: &[&[u8]], end: End) -> Self {
        let pieces = pieces.iter().filter(|piece| !piece.is_empty()).map(|piece| piece.to_vec());
        Self { pieces: Arc::new(Mutex::new(pieces.collect())), end, written: Arc::default() }
    }
}

impl hyper::rt::Read for Script {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        mut buffer: hyper::rt::ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        if self.written.lock().unwrap().is_empty() {
            return Poll::Pending;
        }
        let mut pieces = self.pieces.lock().unwrap();
        match pieces.front_mut() {
            None if self.end == End::Open => Poll::Pending,
            None => Poll::Ready(Ok(())),
            Some(piece) => {
                let there = piece.len().min(buffer.remaining());
                buffer.put_slice(&piece[..there]);
                piece.drain(..there);
                if piece.is_empty() {
                    pieces.pop_front();
                }
                Poll::Ready(Ok(()))
            }
        }
    }
}

impl hyper::rt::Write for Script {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        self.written.lock().unwrap().extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

pub(crate) type Sender = http1::SendRequest<Full<Bytes>>;
pub(crate) type Connection = http1::Connection<Script, Full<Bytes>>;

/// hyper's client connection with the limits that the hyper codec sets.
pub(crate) fn handshake(script: Script) -> (Sender, Connection) {
    let mut builder = http1::Builder::new();
    // The buffer's size alone bounds a head only roughly: hyper may read more than it at once.
    builder.max_buf_size(MAX_HEAD).max_header_size(MAX_HEAD);
    let mut handshake = std::pin::pin!(builder.handshake(script));
    match handshake.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Ok(pair)) => pair,
        _ => panic!("a handshake of HTTP/1 exchanges nothing and cannot fail"),
    }
}

/// Polls the connection and `step` in turn until neither moves: nothing here waits for time.
pub(crate) fn drive<T>(
    connection: &mut Option<Connection>,
    mut step: impl FnMut(&mut Context<'_>) -> Poll<T>,
) -> Option<T> {
    let cx = &mut Context::from_waker(Waker::noop());
    for _ in 0..8 {
        if connection.as_mut().is_some_and(|c| Pin::new(c).poll(cx).is_ready()) {
            *connection = None;
        }
        if let Poll::Ready(value) = step(cx) {
            return Some(value);
        }
    }
    None
}
