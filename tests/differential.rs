//! Differential truth: the lean parser and hyper's client read the same bytes alike.
//!
//! Both get each response of a corpus whole, split at every byte and byte by byte, with the
//! connection held open or closed behind it, and must agree on status, body length, body checksum
//! and on whether the connection serves another request, or on fault or waiting. Where they do
//! not, `DIFFERENCES` says so and why. The other direction as well: what hyper writes is, byte
//! for byte, what a plan renders.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use duel::codec::parse::{MAX_HEAD, MAX_HEADERS, Progress, ResponseParser};
use duel::plan::request::{Rendered, render};
use duel::plan::{Arrivals, Extent, Pacer, RequestTemplate, TrialPlan};
use http::{Method, Request};
use http_body_util::Full;
use hyper::body::Body;
use hyper::client::conn::http1;
use proptest::prelude::*;

/// FNV-1a: enough to tell bodies apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Checksum(u64);

impl Checksum {
    const EMPTY: Self = Self(0xcbf2_9ce4_8422_2325);

    fn add(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

/// What a client makes of a response.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Outcome {
    Answer { status: u16, body_bytes: u64, checksum: Checksum, reusable: bool },
    Fault,
    Waiting,
}

/// Where the stream goes behind the response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Open,
    Closed,
}

fn lean(pieces: &[&[u8]], end: End, method: &Method) -> Outcome {
    let mut parser = ResponseParser::new(method == Method::HEAD);
    let (mut buffer, mut checksum, mut answer) = (Vec::new(), Checksum::EMPTY, None);
    for piece in pieces {
        buffer.extend_from_slice(piece);
        if answer.is_some() {
            continue;
        }
        let consumed = match parser.feed_with(&buffer, |part| checksum.add(part)) {
            Ok(Progress::NeedMore { consumed }) => consumed,
            Ok(Progress::Done { consumed, answer: done }) => {
                answer = Some(done);
                consumed
            }
            Err(_) => return Outcome::Fault,
        };
        buffer.drain(..consumed);
    }
    if answer.is_none() && end == End::Closed {
        match parser.eof(&buffer) {
            Ok(done) => answer = Some(done),
            Err(_) => return Outcome::Fault,
        }
    }
    let Some(answer) = answer else { return Outcome::Waiting };
    Outcome::Answer {
        status: answer.status,
        body_bytes: answer.body_bytes,
        checksum,
        reusable: answer.keep_alive && buffer.is_empty() && end == End::Open,
    }
}

/// A connection in memory: gives the pieces, one a read, once a request was written.
struct Script {
    pieces: Arc<Mutex<VecDeque<Vec<u8>>>>,
    end: End,
    written: Arc<Mutex<Vec<u8>>>,
}

impl Script {
    fn new(pieces: &[&[u8]], end: End) -> Self {
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

type Sender = http1::SendRequest<Full<Bytes>>;
type Connection = http1::Connection<Script, Full<Bytes>>;

/// hyper's client connection with the limits that the hyper codec sets.
fn handshake(script: Script) -> (Sender, Connection) {
    let mut builder = http1::Builder::new();
    // The buffer's size alone bounds a head only roughly: hyper may read more than it at once.
    builder.max_buf_size(MAX_HEAD).max_header_size(MAX_HEAD).max_headers(MAX_HEADERS);
    let mut handshake = std::pin::pin!(builder.handshake(script));
    match handshake.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Ok(pair)) => pair,
        _ => panic!("a handshake of HTTP/1 exchanges nothing and cannot fail"),
    }
}

/// Polls the connection and `step` in turn until neither moves: nothing here waits for time.
fn drive<T>(
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

fn hyper(pieces: &[&[u8]], end: End, method: &Method) -> Outcome {
    let (mut sender, connection) = handshake(Script::new(pieces, end));
    let mut connection = Some(connection);
    let request = Request::builder().method(method).uri("/").header("host", "test");
    let request = request.body(Full::default()).unwrap();
    let mut response = Box::pin(sender.send_request(request));
    let mut response = match drive(&mut connection, |cx| response.as_mut().poll(cx)) {
        None => return Outcome::Waiting,
        Some(Err(_)) => return Outcome::Fault,
        Some(Ok(response)) => response,
    };
    let (mut body_bytes, mut checksum) = (0, Checksum::EMPTY);
    loop {
        let body = response.body_mut();
        match drive(&mut connection, |cx| Pin::new(&mut *body).poll_frame(cx)) {
            None => return Outcome::Waiting,
            Some(None) => break,
            Some(Some(Err(_))) => return Outcome::Fault,
            Some(Some(Ok(frame))) => {
                if let Ok(data) = frame.into_data() {
                    body_bytes += data.len() as u64;
                    checksum.add(&data);
                }
            }
        }
    }
    let reusable = matches!(drive(&mut connection, |cx| sender.poll_ready(cx)), Some(Ok(())));
    // Bytes that nobody asked for, or the end of the stream, end the connection one poll later.
    drive(&mut connection, |_| Poll::<()>::Pending);
    let reusable = reusable && connection.is_some();
    Outcome::Answer { status: response.status().as_u16(), body_bytes, checksum, reusable }
}

/// A response of the corpus: what is special about it, the method asked, the bytes.
struct Case {
    name: &'static str,
    method: Method,
    bytes: Vec<u8>,
}

const OK: &str = "HTTP/1.1 200 OK\r\n";
const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";

#[rustfmt::skip]
fn corpus() -> Vec<Case> {
    let ok = |name, rest: &str| (name, format!("{OK}{rest}").into_bytes());
    let chunked = |name, rest: &str| (name, format!("{CHUNKED}{rest}").into_bytes());
    let raw = |name, bytes: &[u8]| (name, bytes.to_vec());
    let get = vec![
        // Lengths.
        ok("content-length", "Content-Length: 5\r\n\r\nhello"),
        raw("nginx", b"HTTP/1.1 200 OK\r\nServer: nginx/1.26.3\r\nDate: Mon, 06 Jul 2026 12:00:00 GMT\r\nContent-Type: text/html\r\nContent-Length: 5\r\nLast-Modified: Mon, 06 Jul 2026 11:00:00 GMT\r\nConnection: keep-alive\r\nETag: \"686a5b3c-5\"\r\nAccept-Ranges: bytes\r\n\r\nhello"),
        ok("content-length of zero", "Content-Length: 0\r\n\r\n"),
        ok("content-length in lower case without a blank", "content-length:5\r\n\r\nhello"),
        ok("content-length with blanks around", "Content-Length: \t 5 \t\r\n\r\nhello"),
        ok("content-length with leading zeros", "Content-Length: 0005\r\n\r\nhello"),
        ok("equal content-lengths in two lines", "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello"),
        ok("equal content-lengths in a list", "Content-Length: 5, 5\r\n\r\nhello"),
        ok("different content-lengths in two lines", "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!"),
        ok("different content-lengths in a list", "Content-Length: 5, 6\r\n\r\nhello!"),
        ok("negative content-length", "Content-Length: -1\r\n\r\n"),
        ok("signed content-length", "Content-Length: +5\r\n\r\nhello"),
        ok("hexadecimal content-length", "Content-Length: 0x5\r\n\r\nhello"),
        ok("fractional content-length", "Content-Length: 5.0\r\n\r\nhello"),
        ok("empty content-length", "Content-Length:\r\n\r\nhello"),
        ok("content-length with an empty item", "Content-Length: 5,\r\n\r\nhello"),
        ok("content-length beyond 64 bits", "Content-Length: 18446744073709551616\r\n\r\nhello"),
        ok("content-length of 2^64 - 1", "Content-Length: 18446744073709551615\r\n\r\nhello"),
        ok("content-length of 2^64 - 2", "Content-Length: 18446744073709551614\r\n\r\nhello"),
        ok("content-length of 2^64 - 3", "Content-Length: 18446744073709551613\r\n\r\nhello"),
        raw("content-length with a byte beyond ASCII", b"HTTP/1.1 200 OK\r\nContent-Length: 5\xff\r\n\r\nhello"),
        ok("body shorter than promised", "Content-Length: 10\r\n\r\nhello"),
        ok("body longer than promised", "Content-Length: 5\r\n\r\nhello and more"),
        ok("two answers to one request", "Content-Length: 2\r\n\r\nhiHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"),
        ok("body of NUL bytes and line ends", "Content-Length: 6\r\n\r\n\0\r\n\r\n\0"),
        // Bodies up to the end of the connection.
        ok("no length at all", "\r\nup to the end"),
        ok("no length, no body", "Server: x\r\n\r\n"),
        raw("HTTP/1.0 up to the end", b"HTTP/1.0 200 OK\r\n\r\nup to the end"),
        raw("HTTP/1.0 keep-alive up to the end", b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\nup to the end"),
        ok("transfer-encoding without chunked", "Transfer-Encoding: gzip\r\n\r\nup to the end"),
        ok("chunked not last", "Transfer-Encoding: chunked, gzip\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
        ok("chunked not in the last line", "Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n\r\nabc"),
        raw("transfer-encoding with a byte beyond ASCII", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: \xff, chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"),
        ok("empty transfer-encoding", "Transfer-Encoding:\r\n\r\nabc"),
        // Chunks.
        chunked("chunks", "5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"),
        chunked("no chunk but the last", "0\r\n\r\n"),
        chunked("chunk sizes in both cases with zeros", "00A\r\n0123456789\r\n0a\r\n0123456789\r\n000\r\n\r\n"),
        chunked("chunk extensions", "5;a=b;c=\"d\"\r\nhello\r\n0;last\r\n\r\n"),
        chunked("chunk size with blanks", "5 \t \r\nhello\r\n0 \r\n\r\n"),
        chunked("chunk size with blanks and extension", "5 ;x\r\nhello\r\n0\r\n\r\n"),
        chunked("digits behind blanks", "5 5\r\nhello\r\n0\r\n\r\n"),
        chunked("blank before a chunk size", " 5\r\nhello\r\n0\r\n\r\n"),
        chunked("bare LF in a chunk extension", "5;x\nhello\r\n0\r\n\r\n"),
        chunked("bare LF behind a chunk size", "5\nhello\r\n0\r\n\r\n"),
        chunked("bare LF behind chunk data", "5\r\nhello\n0\r\n\r\n"),
        chunked("CR without LF behind a chunk size", "5\rhello\r\n0\r\n\r\n"),
        chunked("CR without LF behind chunk data", "5\r\nhello\r0\r\n\r\n"),
        chunked("chunk data longer than its size", "4\r\nhello\r\n0\r\n\r\n"),
        chunked("chunk data shorter than its size", "6\r\nhello\r\n0\r\n\r\n"),
        chunked("chunk size without digits", "\r\nhello\r\n0\r\n\r\n"),
        chunked("chunk size of letters", "xyz\r\nhello\r\n0\r\n\r\n"),
        chunked("negative chunk size", "-5\r\nhello\r\n0\r\n\r\n"),
        chunked("chunk size with prefix", "0x5\r\nhello\r\n0\r\n\r\n"),
        chunked("chunk size of 2^64 - 1", "ffffffffffffffff\r\nhello"),
        chunked("chunk size beyond 64 bits", "10000000000000000\r\nhello"),
        chunked("chunk size of many zeros", &format!("{}5\r\nhello\r\n0\r\n\r\n", "0".repeat(300))),
        chunked("cut in a chunk size", "5\r\nhello\r\n1"),
        chunked("cut in a chunk", "5\r\nhel"),
        chunked("cut behind the last chunk", "5\r\nhello\r\n0\r\n"),
        chunked("bytes behind the last chunk", "5\r\nhello\r\n0\r\n\r\nmore"),
        ok("chunked beside a content-length", "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
        ok("chunked beside an invalid content-length", "Content-Length: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
        ok("chunked behind gzip", "Transfer-Encoding: gzip, ChunkeD\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
        ok("chunked in the last of two lines", "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
        ok("chunked and close", "Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
        raw("chunked in HTTP/1.0", b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
        // Trailers.
        chunked("trailers", "5\r\nhello\r\n0\r\nDigest: abc\r\nX-Y: \t z \r\n\r\n"),
        chunked("trailer that looks like framing", "5\r\nhello\r\n0\r\nContent-Length: 7\r\n\r\n"),
        chunked("trailer with an empty value", "0\r\nX:\r\n\r\n"),
        chunked("trailer without a name", "0\r\n: x\r\n\r\n"),
        chunked("trailer without a colon", "0\r\nname\r\n\r\n"),
        chunked("trailer with a blank before the colon", "0\r\nname : x\r\n\r\n"),
        chunked("trailer with a NUL", "0\r\nname: \0\r\n\r\n"),
        chunked("trailer with a lone CR", "0\r\nname: a\rb\r\n\r\n"),
        chunked("folded trailer", "0\r\nname: a\r\n b\r\n\r\n"),
        chunked("trailer ended by a bare LF", "0\r\nname: a\n\r\n\r\n"),
        chunked("two trailers parted by a bare LF", "0\r\na: a\nb: b\r\n\r\n"),
        chunked("end of chunks by a bare LF", "0\r\n\n\r\n\r\n"),
        chunked("cut behind a malformed trailer", "0\r\nname\r\n"),
        chunked("cut in a trailer", "0\r\nname: a"),
        chunked("extensions below 16 KiB", &format!("1;{}\r\na\r\n0\r\n\r\n", "x".repeat(16_383))),
        chunked("extensions of 16 KiB", &format!("1;{}\r\na\r\n0\r\n\r\n", "x".repeat(16_384))),
        chunked("extensions of 16 KiB over two chunks", &format!("1;{0}\r\na\r\n0;{0}\r\n\r\n", "x".repeat(8_192))),
        chunked("trailers below 32 KiB", &format!("0\r\na:{}\r\n\r\n", "x".repeat(MAX_HEAD - 7))),
        chunked("trailers of 32 KiB", &format!("0\r\na:{}\r\n\r\n", "x".repeat(MAX_HEAD - 6))),
        chunked("100 trailers", &format!("0\r\n{}\r\n", "a: b\r\n".repeat(100))),
        chunked("101 trailers", &format!("0\r\n{}\r\n", "a: b\r\n".repeat(101))),
        // No body.
        raw("204", b"HTTP/1.1 204 No Content\r\n\r\n"),
        raw("204 with a content-length", b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n"),
        raw("204 with a body behind it", b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello"),
        raw("204 with an invalid content-length", b"HTTP/1.1 204 No Content\r\nContent-Length: x\r\n\r\n"),
        raw("304 with a content-length", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 500\r\n\r\n"),
        raw("304 chunked", b"HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n"),
        raw("205 with a content-length", b"HTTP/1.1 205 Reset Content\r\nContent-Length: 2\r\n\r\nhi"),
        // Informational responses.
        raw("100 before the answer", b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"),
        raw("103 with headers, twice, before the answer", b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\nContent-Length: 9\r\n\r\nHTTP/1.1 103 Early Hints\r\nConnection: close\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"),
        raw("100 and the end", b"HTTP/1.1 100 Continue\r\n\r\n"),
        raw("102 and blank lines before the answer", b"HTTP/1.1 102 Processing\r\n\r\n\r\n\nHTTP/1.1 204 x\r\n\r\n"),
        raw("101", b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"),
        raw("100 responses of 1xx", &[b"HTTP/1.1 100 Continue\r\n\r\n".repeat(100), b"HTTP/1.1 204 x\r\n\r\n".to_vec()].concat()),
        raw("101 responses of 1xx", &[b"HTTP/1.1 100 Continue\r\n\r\n".repeat(101), b"HTTP/1.1 204 x\r\n\r\n".to_vec()].concat()),
        // Keep-alive.
        ok("close", "Content-Length: 2\r\nConnection: close\r\n\r\nhi"),
        ok("close among tokens", "Content-Length: 2\r\nConnection: foo,\tCLOSE ,bar\r\n\r\nhi"),
        ok("close as a part of a token", "Content-Length: 2\r\nConnection: closed, not-close\r\n\r\nhi"),
        ok("keep-alive and close in two lines", "Content-Length: 2\r\nConnection: keep-alive\r\nConnection: close\r\n\r\nhi"),
        ok("close and keep-alive in two lines", "Content-Length: 2\r\nConnection: close\r\nConnection: keep-alive\r\n\r\nhi"),
        raw("close beside a byte beyond ASCII", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: \xe4, close\r\n\r\nhi"),
        raw("HTTP/1.0 closes", b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi"),
        raw("HTTP/1.0 keeps", b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\nconnection: Keep-Alive\r\n\r\nhi"),
        raw("HTTP/1.0 keeps in the second line", b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\nConnection: x\r\nConnection: keep-alive\r\n\r\nhi"),
        raw("HTTP/1.0 with keep-alive and close", b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive, close\r\n\r\nhi"),
        // Heads.
        raw("nothing", b""),
        raw("blank lines only", b"\r\n\n\r\n"),
        raw("blank lines before the head", b"\r\n\n\r\nHTTP/1.1 204 x\r\n\r\n"),
        raw("a lone CR before the head", b"\rHTTP/1.1 204 x\r\n\r\n"),
        raw("bare LF ends lines", b"HTTP/1.1 200 OK\nContent-Length: 2\n\nhi"),
        raw("mixed line ends", b"HTTP/1.1 200 OK\r\nContent-Length: 2\n\r\nhi"),
        raw("CR without LF at the end of the head", b"HTTP/1.1 204 x\r\nA: b\r\n\rx"),
        raw("no reason", b"HTTP/1.1 204\r\n\r\n"),
        raw("empty reason", b"HTTP/1.1 204 \r\n\r\n"),
        raw("reason beyond ASCII", b"HTTP/1.1 204 \xe4\xff\r\n\r\n"),
        raw("reason with a NUL", b"HTTP/1.1 204 \0\r\n\r\n"),
        raw("two blanks before the status", b"HTTP/1.1  204 x\r\n\r\n"),
        raw("status of two digits", b"HTTP/1.1 20 x\r\n\r\n"),
        raw("status of four digits", b"HTTP/1.1 2000 x\r\n\r\n"),
        raw("status 099", b"HTTP/1.1 099 x\r\n\r\n"),
        raw("status 000", b"HTTP/1.1 000 x\r\n\r\n"),
        raw("status 600", b"HTTP/1.1 600 x\r\nContent-Length: 2\r\n\r\nhi"),
        raw("status 999", b"HTTP/1.1 999 x\r\nContent-Length: 2\r\n\r\nhi"),
        raw("HTTP/2", b"HTTP/2 200\r\n\r\n"),
        raw("HTTP/2.0", b"HTTP/2.0 200 OK\r\n\r\n"),
        raw("HTTP/1.2", b"HTTP/1.2 200 OK\r\n\r\n"),
        raw("http in lower case", b"http/1.1 200 OK\r\n\r\n"),
        raw("HTTP/0.9", b"<html>hello</html>\n"),
        raw("ICY", b"ICY 200 OK\r\n\r\n"),
        raw("TLS alert", b"\x15\x03\x01\x00\x02\x02\x16"),
        raw("a request", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
        raw("binary", &[0, 1, 2, 255, 254, 253]),
        raw("cut in the version", b"HTTP/1."),
        raw("cut in the status", b"HTTP/1.1 20"),
        raw("cut in a header", b"HTTP/1.1 200 OK\r\nContent-Le"),
        raw("cut before the blank line", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n"),
        ok("folded header", "X: a\r\n b\r\nContent-Length: 0\r\n\r\n"),
        ok("blank before the first header", " X: a\r\n\r\n"),
        ok("blank before the colon", "Content-Length : 0\r\n\r\n"),
        ok("header without a colon", "garbage\r\nContent-Length: 0\r\n\r\n"),
        ok("header without a name", ": x\r\nContent-Length: 0\r\n\r\n"),
        ok("NUL in a header name", "X\0Y: a\r\nContent-Length: 0\r\n\r\n"),
        ok("NUL in a header value", "X: a\0b\r\nContent-Length: 0\r\n\r\n"),
        ok("DEL in a header value", "X: a\x7fb\r\nContent-Length: 0\r\n\r\n"),
        ok("lone CR in a header value", "X: a\rb\r\nContent-Length: 0\r\n\r\n"),
        raw("header value beyond ASCII", b"HTTP/1.1 200 OK\r\nX: \x80\xff\tz\r\nContent-Length: 0\r\n\r\n"),
        raw("header name beyond ASCII", b"HTTP/1.1 200 OK\r\nX\xe4: z\r\nContent-Length: 0\r\n\r\n"),
        ok("empty header values", "X:\r\nY: \t \r\nContent-Length: 0\r\n\r\n"),
        ok("head of 32 KiB", &format!("Content-Length: 2\r\nX: {}\r\n\r\nhi", "x".repeat(MAX_HEAD - 43))),
        ok("head beyond 32 KiB", &format!("Content-Length: 2\r\nX: {}\r\n\r\nhi", "x".repeat(MAX_HEAD - 42))),
        ok("endless head", &format!("X: {}", "x".repeat(2 * MAX_HEAD))),
        raw("blank lines of 32 KiB before the head", &[b"\r\n".repeat(MAX_HEAD / 2), b"HTTP/1.1 204 x\r\n\r\n".to_vec()].concat()),
        ok("100 headers", &format!("{}Content-Length: 0\r\n\r\n", "a: b\r\n".repeat(99))),
        ok("101 headers", &format!("{}Content-Length: 0\r\n\r\n", "a: b\r\n".repeat(100))),
    ];
    let head = vec![
        ok("HEAD with a content-length", "Content-Length: 5\r\n\r\n"),
        ok("HEAD with a body behind it", "Content-Length: 5\r\n\r\nhello"),
        ok("HEAD chunked", "Transfer-Encoding: chunked\r\n\r\n"),
        ok("HEAD with an invalid content-length", "Content-Length: x\r\n\r\n"),
        ok("HEAD without a length", "\r\n"),
        raw("HEAD in HTTP/1.0", b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
    ];
    let case = |method: Method| {
        move |(name, bytes)| Case { name, method: method.clone(), bytes }
    };
    get.into_iter().map(case(Method::GET)).chain(head.into_iter().map(case(Method::HEAD))).collect()
}

/// Where the parsers part: the case, the only end of which it holds (or both), what each makes of
/// it, and why that is right.
struct Difference {
    name: &'static str,
    end: Option<End>,
    lean: Outcome,
    hyper: Outcome,
    #[expect(dead_code, reason = "read by people")]
    why: &'static str,
}

fn differences() -> Vec<Difference> {
    let empty = |status, end| Outcome::Answer {
        status,
        body_bytes: 0,
        checksum: Checksum::EMPTY,
        reusable: end == End::Open,
    };
    let both_ends = |name, status, why| {
        [End::Open, End::Closed].map(|end| Difference {
            name,
            end: Some(end),
            lean: Outcome::Fault,
            hyper: empty(status, end),
            why,
        })
    };
    let mut all = Vec::new();
    all.extend(both_ends(
        "trailer ended by a bare LF",
        200,
        "hyper collects lines up to CR LF but parses them up to LF: it takes the first blank line \
         of either kind for the end and drops the rest unseen. Two readings of one stream are how \
         responses get smuggled; lean knows CR LF only.",
    ));
    all.extend(both_ends(
        "end of chunks by a bare LF",
        200,
        "As above: hyper drops a line unseen.",
    ));
    all.extend(both_ends(
        "101 responses of 1xx",
        204,
        "hyper takes any number; lean stops a target that goes on for ever at 100.",
    ));
    all.push(Difference {
        name: "cut behind a malformed trailer",
        end: Some(End::Open),
        lean: Outcome::Fault,
        hyper: Outcome::Waiting,
        why: "hyper parses trailers when their section ends, lean as they come: a fault is known \
              at once instead of at the timeout.",
    });
    all
}

/// Every way in which a case is given to both: whole, cut in two anywhere, byte by byte.
fn splits(bytes: &[u8]) -> Vec<Vec<&[u8]>> {
    let step = bytes.len().div_ceil(400).max(1);
    let cuts = (1..bytes.len()).step_by(step).map(|cut| {
        let (front, back) = bytes.split_at(cut);
        vec![front, back]
    });
    [vec![bytes], bytes.chunks(1).collect()].into_iter().chain(cuts).collect()
}

#[test]
fn lean_and_hyper_agree_on_the_corpus_in_every_split() {
    let (corpus, differences) = (corpus(), differences());
    assert!(corpus.len() >= 150, "the corpus shrank to {} responses", corpus.len());
    let mut seen = vec![false; differences.len()];
    let mut faults = Vec::new();
    for case in &corpus {
        for end in [End::Open, End::Closed] {
            let known = differences.iter().position(|difference| {
                difference.name == case.name && difference.end.is_none_or(|only| only == end)
            });
            if let Some(known) = known {
                seen[known] = true;
            }
            for pieces in splits(&case.bytes) {
                let found = (lean(&pieces, end, &case.method), hyper(&pieces, end, &case.method));
                let expected = match known.map(|known| &differences[known]) {
                    Some(known) => found == (known.lean.clone(), known.hyper.clone()),
                    None => found.0 == found.1,
                };
                if !expected {
                    let first: Vec<usize> =
                        pieces.iter().map(|piece| piece.len()).take(4).collect();
                    faults.push(format!("{}, {end:?}, read as {first:?}…: {found:?}", case.name));
                }
            }
        }
    }
    assert!(faults.is_empty(), "{} disagreements:\n{}", faults.len(), faults.join("\n"));
    let stale = differences.iter().zip(&seen).find(|(_, seen)| !**seen);
    assert!(stale.is_none(), "no such case: {}", stale.unwrap().0.name);
}

#[test]
fn the_corpus_has_every_outcome() {
    let outcomes: Vec<Outcome> =
        corpus().iter().map(|case| lean(&[&case.bytes], End::Open, &case.method)).collect();
    let count = |wanted: fn(&Outcome) -> bool| outcomes.iter().filter(|o| wanted(o)).count();
    assert!(count(|o| matches!(o, Outcome::Answer { reusable: true, .. })) >= 40);
    assert!(count(|o| matches!(o, Outcome::Answer { reusable: false, .. })) >= 10);
    assert!(count(|o| *o == Outcome::Fault) >= 50);
    assert!(count(|o| *o == Outcome::Waiting) >= 15);
}

/// Cuts bytes at the given places.
fn cut<'a>(bytes: &'a [u8], cuts: &[prop::sample::Index]) -> Vec<&'a [u8]> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    cuts.extend([0, bytes.len()]);
    cuts.sort_unstable();
    cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]]).collect()
}

/// A case of the corpus with some bytes replaced, inserted or removed.
fn mutant() -> impl Strategy<Value = (Vec<u8>, Method)> {
    let byte =
        prop_oneof![prop::sample::select(b"\r\n\t :;,0159afHx\0\x7f\xff".to_vec()), any::<u8>()];
    let edit = (any::<prop::sample::Index>(), 0..3, byte);
    let short: Vec<Case> = corpus().into_iter().filter(|case| case.bytes.len() < 1000).collect();
    let case =
        (0..short.len()).prop_map(move |i| (short[i].bytes.clone(), short[i].method.clone()));
    (case, prop::collection::vec(edit, 1..4)).prop_map(|((mut bytes, method), edits)| {
        for (place, kind, byte) in edits {
            let at = place.index(bytes.len() + 1);
            match kind {
                0 if at < bytes.len() => bytes[at] = byte,
                1 if at < bytes.len() => drop(bytes.remove(at)),
                _ => bytes.insert(at, byte),
            }
        }
        (bytes, method)
    })
}

/// Whether a stream can reach the known differences in trailers, or that of blank lines before a
/// head: hyper, given them in a read of their own, looks at what follows only when it is whole,
/// so that a fault in it shows at the timeout.
fn may_differ(bytes: &[u8], end: End) -> bool {
    let chunked = bytes.to_ascii_lowercase().windows(7).any(|window| window == b"chunked");
    let bare_lf = (0..bytes.len()).any(|i| bytes[i] == b'\n' && (i == 0 || bytes[i - 1] != b'\r'));
    let blank_line = bytes.starts_with(b"\n") || bytes.starts_with(b"\r\n");
    chunked && bare_lf || (chunked || blank_line) && end == End::Open
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    #[test]
    fn lean_and_hyper_agree_on_mutants_of_the_corpus(
        (bytes, method) in mutant(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
        end in prop::sample::select(vec![End::Open, End::Closed]),
    ) {
        let end = if may_differ(&bytes, end) { End::Closed } else { end };
        if may_differ(&bytes, end) {
            return Ok(());
        }
        let pieces = cut(&bytes, &cuts);
        prop_assert_eq!(
            lean(&pieces, end, &method),
            hyper(&pieces, end, &method),
            "lean and hyper on {}", bytes.escape_ascii()
        );
    }
}

fn plan(mix: Vec<RequestTemplate>) -> TrialPlan {
    TrialPlan {
        arrivals: Arrivals::Closed,
        offered_per_s: None,
        extent: Extent::Requests(1),
        warmup_ns: 0,
        timeout_ns: 1,
        seed: 1,
        pacer: Pacer::Precise,
        keep_alive: true,
        expect_status: Vec::new(),
        host: "127.0.0.1:8080".into(),
        mix,
    }
}

fn template(method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> RequestTemplate {
    RequestTemplate {
        method: method.into(),
        path: path.into(),
        weight: 1,
        headers: headers
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .collect(),
        body: body.to_vec(),
    }
}

/// What hyper writes for each of two requests on one connection.
fn written_by_hyper(rendered: &Rendered) -> [Vec<u8>; 2] {
    let script = Script::new(&[], End::Open);
    let (pieces, written) = (script.pieces.clone(), script.written.clone());
    let (mut sender, connection) = handshake(script);
    let mut connection = Some(connection);
    let mut send = || {
        pieces.lock().unwrap().push_back(b"HTTP/1.1 204 No Content\r\n\r\n".to_vec());
        let mut response = Box::pin(sender.send_request(rendered.request()));
        drop(drive(&mut connection, |cx| response.as_mut().poll(cx)));
        std::mem::take(&mut *written.lock().unwrap())
    };
    [send(), send()]
}

#[test]
fn hyper_writes_the_bytes_that_a_plan_renders() {
    let mixed = &[("X-One", "1"), ("Accept", "text/html"), ("x-two", ""), ("X-ONE", "1 again")][..];
    let mix = vec![
        template("GET", "/", &[], b""),
        template("GET", "/a/b?c=d&e=%20#f".trim_end_matches("#f"), mixed, b""),
        template(
            "GET",
            "//double?",
            &[("User-Agent", "me"), ("accept", "a"), ("Accept", "b")],
            b"",
        ),
        template("HEAD", "/", &[("Host", "example.test")], b""),
        template("DELETE", "/x", &[], b""),
        template("OPTIONS", "/", &[("X", "\u{e4}\tz")], b""),
        template("POST", "/", &[], b""),
        template("POST", "/", mixed, b"name=value"),
        template("PUT", "/", &[("Content-Length", "4"), ("Content-Type", "text/plain")], b"body"),
        template("PATCH", "/", &[("Expect", "100-continue")], &[0, 255, 13, 10]),
        template("GET", "/", &[("Cookie", "a"), ("Cookie", "b")], b"a GET with a body"),
        template("PROPFIND", "/", &[("TE", "trailers"), ("Connection", "TE")], &[b'x'; 100_000]),
    ];
    for rendered in render(&plan(mix)).unwrap() {
        for (nth, bytes) in written_by_hyper(&rendered).iter().enumerate() {
            assert_eq!(
                bytes.escape_ascii().to_string(),
                rendered.bytes.escape_ascii().to_string(),
                "request {nth} of {rendered:?}"
            );
        }
    }
}

#[test]
fn hyper_writes_the_bytes_of_a_plan_without_keep_alive() {
    let mut plan = plan(vec![
        template("GET", "/", &[], b""),
        template("GET", "/", &[("Connection", "TE")], b""),
        template("POST", "/", &[("X", "y"), ("Connection", "Close")], b"body"),
    ]);
    plan.keep_alive = false;
    for rendered in render(&plan).unwrap() {
        assert!(rendered.closes, "{rendered:?}");
        let [first, _] = written_by_hyper(&rendered);
        assert_eq!(first.escape_ascii().to_string(), rendered.bytes.escape_ascii().to_string());
    }
}
