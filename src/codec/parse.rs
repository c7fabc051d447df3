//! Client-side HTTP/1.1 response framing: bytes in, progress out, no I/O and no allocation.
//!
//! [`ResponseParser`] finds where a response ends ([RFC 9112], section 6.3), counts its body and
//! says whether the connection serves another request. What it accepts and refuses is what
//! hyper's client accepts and refuses, so that two codecs put one response into one column of the
//! ledger; tests/differential proves it and lists the few exceptions.
//!
//! * Heads go through httparse in its strictest configuration (hyper's default): bare LF ends a
//!   line, folded lines and control characters are refused, blank lines may come first.
//! * Only a head that is still incomplete is left with the caller, at most [`MAX_HEAD`] bytes;
//!   chunk sizes, extensions and trailers are consumed byte by byte.
//! * The outcome does not depend on how the bytes were split into reads.
//!
//! [RFC 9112]: https://www.rfc-editor.org/rfc/rfc9112#section-6.3

mod chunks;
mod facts;
mod memo;
#[cfg(test)]
mod tests;

use std::mem::MaybeUninit;

use httparse::{Header, ParserConfig, Status};

pub(super) use facts::{BodyLength, Framing, HeadFacts, after_head};
use memo::{Memo, Outcome};

/// Longest head in bytes, blank lines included. hyper needs the same number twice for the same
/// bound: as `max_buf_size` and as `max_header_size`.
pub const MAX_HEAD: usize = 32 * 1024;

/// Most header lines of one head, and most trailer lines of one body.
pub(crate) const MAX_HEADERS: usize = 100;
/// Headers for which a table lies ready on a lane's stack; a head with more is parsed once again
/// with a table of [`MAX_HEADERS`]. A hundred slots would be most of a page of every thread.
const USUAL_HEADERS: usize = 16;
/// Most 1xx responses before the answer.
pub(crate) const MAX_INFORMATIONAL: u8 = 100;

static LAST_HEAD: Memo = Memo::new();

/// A whole response, reduced to what a load generator needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// Status code, 100–999; of the informational ones only 101 is an answer.
    pub status: u16,
    /// Bytes of the body, without chunk framing.
    pub body_bytes: u64,
    /// Whether the target keeps the connection open for another request.
    pub keep_alive: bool,
}

/// How far a response has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// The response goes on.
    NeedMore {
        /// Bytes that must not be given again; what follows them is an incomplete head, which
        /// the next call gets again with what was read since.
        consumed: usize,
    },
    /// The response ended.
    Done {
        /// Bytes of this response; bytes behind them answer nothing that was asked, and a
        /// connection that carries them is not to be used again.
        consumed: usize,
        /// The response.
        answer: Answer,
    },
}

/// Why bytes are no response. After an error the parser is of no further use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// The head is no HTTP/1 head.
    #[error("malformed response head: {0}")]
    Head(&'static str),
    /// More headers than [`MAX_HEADERS`].
    #[error("malformed response head: more than {MAX_HEADERS} headers")]
    TooManyHeaders,
    /// The head is longer than [`MAX_HEAD`].
    #[error("response head beyond 32 KiB")]
    HeadTooLong,
    /// More informational responses than [`MAX_INFORMATIONAL`].
    #[error("malformed response framing: more than {MAX_INFORMATIONAL} informational responses")]
    TooManyInformational,
    /// The head does not say where the body ends, or the chunks are malformed.
    #[error("malformed response framing: {0}")]
    Framing(&'static str),
    /// End of stream amid the body.
    #[error("the connection closed amid the response body")]
    BodyCut,
    /// End of stream before the first byte.
    #[error("the connection closed before the response")]
    NoResponse,
    /// End of stream after the first byte, before the end of the answer's head.
    #[error("the connection closed amid the response head")]
    HeadCut,
}

/// Where in the response the next byte stands.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum ParsePosition {
    #[default]
    Head,
    FixedBody,
    BodyToClose,
    ChunkStart,
    ChunkSize,
    ChunkBlank,
    ChunkExtension,
    ChunkSizeLf,
    ChunkBody,
    ChunkBodyCr,
    ChunkBodyLf,
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLf,
    EndLf,
    Done,
}

/// Where the byte behind the head of a final response may stand.
const AFTER_HEAD: [ParsePosition; 4] = [
    ParsePosition::Done,
    ParsePosition::FixedBody,
    ParsePosition::ChunkStart,
    ParsePosition::BodyToClose,
];

/// The state between two reads of one response: 32 bytes, since every lane holds one.
#[derive(Debug, Default, Clone)]
pub struct ResponseParser {
    /// Bytes that the body, or the chunk under way, still lacks.
    remaining: u64,
    body_bytes: u64,
    /// Length of the incomplete head that was last looked at.
    scanned: u16,
    /// Bytes of the blank lines before the head, which count towards its bound.
    blank_bytes: u16,
    status: u16,
    extension_bytes: u16,
    trailer_bytes: u16,
    trailers: u8,
    informational: u8,
    at: ParsePosition,
    keep_alive: bool,
    request_is_head: bool,
}

impl ResponseParser {
    /// A parser for the response to one request; the response to a HEAD has no body.
    pub fn new(request_is_head: bool) -> Self {
        Self { request_is_head, ..Self::default() }
    }

    /// Whether the answer's head is not whole yet.
    pub(super) fn is_in_head(&self) -> bool {
        self.at == ParsePosition::Head
    }

    /// Whether the answer's head is whole and its body is not.
    pub(crate) fn is_in_body(&self) -> bool {
        !matches!(self.at, ParsePosition::Head | ParsePosition::Done)
    }

    /// Takes what was read and not yet consumed; body bytes are counted and dropped.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<Progress, ParseError> {
        self.feed_with(bytes, |_| {})
    }

    /// As [`feed`](Self::feed), showing each piece of the body to `on_body`.
    #[inline]
    pub fn feed_with(
        &mut self,
        bytes: &[u8],
        mut on_body: impl FnMut(&[u8]),
    ) -> Result<Progress, ParseError> {
        let mut consumed = 0;
        while self.at == ParsePosition::Head {
            match self.head(&bytes[consumed..])? {
                Some(length) => consumed += length,
                None => return Ok(Progress::NeedMore { consumed }),
            }
        }
        let rest = &bytes[consumed..];
        consumed += match self.at {
            ParsePosition::FixedBody => {
                let taken = self.body(rest, &mut on_body);
                if self.remaining == 0 {
                    self.at = ParsePosition::Done;
                }
                taken
            }
            ParsePosition::BodyToClose => {
                self.remaining = u64::MAX;
                self.body(rest, &mut on_body)
            }
            ParsePosition::Done => 0,
            _ => self.chunked(rest, &mut on_body)?,
        };
        Ok(match self.at {
            ParsePosition::Done => Progress::Done { consumed, answer: self.answer() },
            _ => Progress::NeedMore { consumed },
        })
    }

    /// Takes the end of the stream, with the bytes that no call has consumed: it ends a body that
    /// has no other end, and is an error amid anything else.
    pub fn eof(&mut self, unconsumed: &[u8]) -> Result<Answer, ParseError> {
        match self.at {
            ParsePosition::Done => Ok(self.answer()),
            ParsePosition::BodyToClose => {
                self.at = ParsePosition::Done;
                Ok(self.answer())
            }
            ParsePosition::Head if unconsumed.is_empty() && self.informational == 0 => {
                Err(ParseError::NoResponse)
            }
            ParsePosition::Head => {
                // The head was last parsed in full when its first bytes came, so a fault in what
                // came later shows only now.
                self.scanned = 0;
                self.head(unconsumed)?;
                Err(ParseError::HeadCut)
            }
            _ => Err(ParseError::BodyCut),
        }
    }

    fn answer(&self) -> Answer {
        Answer { status: self.status, body_bytes: self.body_bytes, keep_alive: self.keep_alive }
    }

    /// Consumes one head, or nothing if it is incomplete.
    fn head(&mut self, bytes: &[u8]) -> Result<Option<usize>, ParseError> {
        // A head that came in pieces, or to a request of HEAD, is rare.
        let known = self.scanned == 0 && self.blank_bytes == 0 && !self.request_is_head;
        if known && let Some((length, outcome)) = LAST_HEAD.find(bytes) {
            self.recall(outcome);
            return Ok(Some(length));
        }
        let limit = MAX_HEAD - usize::from(self.blank_bytes);
        let window = &bytes[..bytes.len().min(limit)];
        let blank = blank_lines(window);
        if blank > 0 {
            self.blank_bytes += blank as u16;
            self.scanned = 0;
            return Ok(Some(blank));
        }
        // A head that drips in is parsed when its first bytes come and when it is whole, not once
        // a read: a hostile target would make that quadratic.
        let dripping = self.scanned > 0 && window.len() < limit;
        if dripping && !ends_from(window, self.scanned.into()) {
            self.scanned = window.len() as u16;
            return Ok(None);
        }
        match self.head_with::<USUAL_HEADERS>(window, limit) {
            // Nothing was consumed and nothing noted.
            Err(ParseError::TooManyHeaders) => self.long_head(window, limit),
            result => result,
        }
    }

    /// Kept out of line, so that the table for many headers touches a lane's stack only when a
    /// response has them.
    #[cold]
    #[inline(never)]
    fn long_head(&mut self, window: &[u8], limit: usize) -> Result<Option<usize>, ParseError> {
        self.head_with::<MAX_HEADERS>(window, limit)
    }

    /// Consumes one head of at most `N` headers, or nothing if it is incomplete.
    fn head_with<const N: usize>(
        &mut self,
        window: &[u8],
        limit: usize,
    ) -> Result<Option<usize>, ParseError> {
        let mut slots = [const { MaybeUninit::<Header<'_>>::uninit() }; N];
        let mut response = httparse::Response::new(&mut []);
        let parsed = ParserConfig::default().parse_response_with_uninit_headers(
            &mut response,
            window,
            &mut slots,
        );
        match parsed {
            Ok(Status::Complete(length)) => {
                self.scanned = 0;
                self.blank_bytes = 0;
                self.accept(&response)?;
                if self.at != ParsePosition::Head && !self.request_is_head {
                    LAST_HEAD.keep(&window[..length], self.outcome());
                }
                Ok(Some(length))
            }
            Ok(Status::Partial) if window.len() == limit => Err(ParseError::HeadTooLong),
            Ok(Status::Partial) => {
                self.scanned = window.len() as u16;
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Decides by a whole head where the body ends.
    fn accept(&mut self, response: &httparse::Response<'_, '_>) -> Result<(), ParseError> {
        let status = response.code.unwrap_or(0);
        if !(100..=999).contains(&status) {
            return Err(ParseError::Head("status code below 100"));
        }
        if status < 200 && status != 101 {
            self.informational = self.informational.saturating_add(1);
            if self.informational > MAX_INFORMATIONAL {
                return Err(ParseError::TooManyInformational);
            }
            return Ok(());
        }
        let headers = response.headers.iter().map(|h| (h.name.as_bytes(), h.value));
        let http_1_1 = response.version == Some(1);
        let (framing, keep_alive) = after_head(status, http_1_1, headers, self.request_is_head)
            .map_err(ParseError::Framing)?;
        self.status = status;
        self.keep_alive = keep_alive;
        self.at = match framing {
            Framing::Length(0) => ParsePosition::Done,
            Framing::Length(length) => {
                self.remaining = length;
                ParsePosition::FixedBody
            }
            Framing::Chunked => ParsePosition::ChunkStart,
            Framing::ToClose => ParsePosition::BodyToClose,
        };
        Ok(())
    }

    /// What the head of a final response came to.
    fn outcome(&self) -> Outcome {
        let at = AFTER_HEAD.iter().position(|at| *at == self.at).unwrap_or(0) as u64;
        let keep = u64::from(self.keep_alive);
        [self.remaining, at << 32 | keep << 16 | u64::from(self.status)]
    }

    /// As if the head had been parsed that came to this.
    #[inline]
    fn recall(&mut self, [remaining, rest]: Outcome) {
        self.remaining = remaining;
        self.status = rest as u16;
        self.keep_alive = rest >> 16 & 1 == 1;
        self.at = AFTER_HEAD[(rest >> 32) as usize % AFTER_HEAD.len()];
    }

    /// Counts as much of the body or the chunk as is there.
    #[inline]
    fn body(&mut self, bytes: &[u8], on_body: &mut impl FnMut(&[u8])) -> usize {
        let there = self.remaining.min(bytes.len() as u64);
        self.remaining -= there;
        self.body_bytes = self.body_bytes.saturating_add(there);
        if there > 0 {
            on_body(&bytes[..there as usize]);
        }
        there as usize
    }
}

/// Length of the blank lines at the beginning.
fn blank_lines(bytes: &[u8]) -> usize {
    let mut length = 0;
    loop {
        match bytes[length..] {
            [b'\n', ..] => length += 1,
            [b'\r', b'\n', ..] => length += 2,
            _ => return length,
        }
    }
}

/// Whether a blank line ends behind the first `from` bytes, of which none ends in one.
fn ends_from(bytes: &[u8], from: usize) -> bool {
    // The blank line may have begun with up to three of the bytes seen before: LF CR LF.
    let tail = bytes.get(from.saturating_sub(3)..).unwrap_or_default();
    tail.iter().enumerate().any(|(index, &byte)| {
        byte == b'\n'
            && (tail[index + 1..].starts_with(b"\n") || tail[index + 1..].starts_with(b"\r\n"))
    })
}

impl From<httparse::Error> for ParseError {
    fn from(error: httparse::Error) -> Self {
        ParseError::Head(match error {
            httparse::Error::HeaderName => "invalid header name",
            httparse::Error::HeaderValue => "invalid header value",
            httparse::Error::NewLine => "invalid line end",
            httparse::Error::Status => "invalid status line",
            httparse::Error::Token => "invalid token",
            httparse::Error::TooManyHeaders => return ParseError::TooManyHeaders,
            httparse::Error::Version => "not HTTP/1.0 or HTTP/1.1",
        })
    }
}
