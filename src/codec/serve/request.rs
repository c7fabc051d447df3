//! The server's side of HTTP/1.1 framing: bytes in, whole requests out, bodies dropped.
//!
//! Sans-IO, and indifferent to where the bytes are cut: every split of the same stream gives the
//! same requests and the same refusal.

use httparse::Status;

use crate::codec::parse::{BodyLength, HeadFacts};

pub(crate) const MAX_HEADERS: usize = 64;
/// Longest head, and longest trailer section, in bytes.
pub(crate) const MAX_HEAD: usize = 16 * 1024;
/// Longest line before a chunk, extensions included, in bytes.
const MAX_CHUNK_LINE: usize = 1024;

/// What becomes of the connection after the answer.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Persistence {
    /// It stays, as HTTP/1.1 has it.
    Default,
    /// It stays, and an HTTP/1.0 client needs to be told.
    Announced,
    #[default]
    Close,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Request {
    /// Whether it is a HEAD, whose answer has no body.
    pub(crate) head_only: bool,
    pub(crate) persistence: Persistence,
}

/// Why a request is refused; the connection closes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Status 400: not HTTP/1.x, or a framing that this target does not speak.
    Malformed,
    /// Status 431: too many headers, or too long a head.
    TooLarge,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Part of a request.
    More,
    /// The head of a request whose client waits for "100 Continue" before it sends the body.
    Continue,
    Whole(Request),
    /// Nothing that can be answered otherwise.
    Refused(Refusal),
}

/// Where in a request the stream stands.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum ReadPhase {
    #[default]
    Head,
    Body {
        left: u64,
    },
    ChunkLine,
    ChunkData {
        left: u64,
    },
    ChunkEnd,
    Trailers,
}

#[derive(Debug, Default, Clone)]
pub(crate) struct Parser {
    phase: ReadPhase,
    /// The request whose body is being read.
    request: Request,
}

impl Parser {
    /// Takes bytes from the front of `input`: returns how many, and what they amount to.
    ///
    /// Bytes not taken are to be offered again, followed by those that came since. After
    /// [`Step::Whole`] the next call begins the next request; after [`Step::Refused`] there is
    /// nothing to go on with.
    pub(crate) fn advance(&mut self, input: &[u8]) -> (usize, Step) {
        let mut taken = 0;
        loop {
            let rest = &input[taken..];
            let (used, step) = match self.phase {
                ReadPhase::Head => self.head(rest),
                ReadPhase::Body { left } => self.data(rest, left, false),
                ReadPhase::ChunkLine => self.chunk_line(rest),
                ReadPhase::ChunkData { left } => self.data(rest, left, true),
                ReadPhase::ChunkEnd => self.chunk_end(rest),
                ReadPhase::Trailers => self.trailers(rest),
            };
            taken += used;
            match step {
                // Only an expectation whose body is not already here needs a word.
                Some(Step::Continue) if taken < input.len() => {}
                Some(step) => return (taken, step),
                None => {}
            }
        }
    }

    fn whole(&mut self) -> Option<Step> {
        self.phase = ReadPhase::Head;
        Some(Step::Whole(self.request))
    }

    fn head(&mut self, input: &[u8]) -> (usize, Option<Step>) {
        if input.is_empty() {
            return (0, Some(Step::More));
        }
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut head = httparse::Request::new(&mut headers);
        let used = match head.parse(input) {
            Ok(Status::Complete(used)) if used <= MAX_HEAD => used,
            Ok(Status::Partial) if input.len() < MAX_HEAD => return (0, Some(Step::More)),
            Ok(_) | Err(httparse::Error::TooManyHeaders) => {
                return (0, Some(Step::Refused(Refusal::TooLarge)));
            }
            Err(_) => return (0, Some(Step::Refused(Refusal::Malformed))),
        };
        let http_1_1 = head.version == Some(1);
        let facts = HeadFacts::of(head.headers.iter().map(|h| (h.name.as_bytes(), h.value)));
        let persistence = match (facts.close, http_1_1, facts.keep_alive) {
            (false, true, _) => Persistence::Default,
            (false, false, true) => Persistence::Announced,
            _ => Persistence::Close,
        };
        self.request = Request { head_only: head.method == Some("HEAD"), persistence };
        // How the body is delimited (RFC 9112, section 6.3).
        self.phase = match (facts.transfer_encoding, facts.length) {
            (false, BodyLength::Absent | BodyLength::Is(0)) => return (used, self.whole()),
            (false, BodyLength::Is(left)) => ReadPhase::Body { left },
            // HTTP/1.0 knows no codings, and both headers together are how requests are smuggled.
            (true, BodyLength::Absent) if http_1_1 && is_chunked(&head) => ReadPhase::ChunkLine,
            _ => return (0, Some(Step::Refused(Refusal::Malformed))),
        };
        let expects = values(&head, "expect").any(|v| v.eq_ignore_ascii_case(b"100-continue"));
        (used, (expects && http_1_1).then_some(Step::Continue))
    }

    /// Body bytes, of a length known.
    fn data(&mut self, input: &[u8], left: u64, chunk: bool) -> (usize, Option<Step>) {
        let used = left.min(input.len() as u64);
        let left = left - used;
        let step = match (left, chunk) {
            (0, false) => self.whole(),
            (0, true) => {
                self.phase = ReadPhase::ChunkEnd;
                None
            }
            (left, _) => {
                self.phase =
                    if chunk { ReadPhase::ChunkData { left } } else { ReadPhase::Body { left } };
                Some(Step::More)
            }
        };
        (used as usize, step)
    }

    fn chunk_line(&mut self, input: &[u8]) -> (usize, Option<Step>) {
        // httparse takes a line without any digit for a chunk of length 0.
        if input.first().is_some_and(|byte| !byte.is_ascii_hexdigit()) {
            return (0, Some(Step::Refused(Refusal::Malformed)));
        }
        match httparse::parse_chunk_size(input) {
            Ok(Status::Complete((used, size))) if used <= MAX_CHUNK_LINE => {
                self.phase = if size == 0 {
                    ReadPhase::Trailers
                } else {
                    ReadPhase::ChunkData { left: size }
                };
                (used, None)
            }
            Ok(Status::Partial) if input.len() < MAX_CHUNK_LINE => (0, Some(Step::More)),
            _ => (0, Some(Step::Refused(Refusal::Malformed))),
        }
    }

    fn chunk_end(&mut self, input: &[u8]) -> (usize, Option<Step>) {
        match input {
            [b'\r', b'\n', ..] => {
                self.phase = ReadPhase::ChunkLine;
                (2, None)
            }
            [] | [b'\r'] => (0, Some(Step::More)),
            _ => (0, Some(Step::Refused(Refusal::Malformed))),
        }
    }

    fn trailers(&mut self, input: &[u8]) -> (usize, Option<Step>) {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        match httparse::parse_headers(input, &mut headers) {
            Ok(Status::Complete((used, _))) if used <= MAX_HEAD => (used, self.whole()),
            Ok(Status::Partial) if input.len() < MAX_HEAD => (0, Some(Step::More)),
            Ok(_) | Err(httparse::Error::TooManyHeaders) => {
                (0, Some(Step::Refused(Refusal::TooLarge)))
            }
            Err(_) => (0, Some(Step::Refused(Refusal::Malformed))),
        }
    }
}

/// The values of every header of this name.
fn values<'h>(head: &'h httparse::Request, name: &'static str) -> impl Iterator<Item = &'h [u8]> {
    head.headers.iter().filter(move |h| h.name.eq_ignore_ascii_case(name)).map(|h| h.value)
}

/// Whether a body comes in chunks and in no other coding.
fn is_chunked(head: &httparse::Request) -> bool {
    let mut codings = values(head, "transfer-encoding");
    codings.next().is_some_and(|coding| coding.eq_ignore_ascii_case(b"chunked"))
        && codings.next().is_none()
}

#[cfg(test)]
mod tests;
