//! Prebuilt answers: a head with a small body is one slice and one write.

use bytes::Bytes;

use super::request::{Persistence, Refusal};

/// Bodies up to this length leave with their head in one buffer.
const PREBUILT_BODY: usize = 64 * 1024;

/// The rest of a longer body is sent in pieces of at most this length, one a turn of the loop, so
/// that one heavy body cannot make other answers late.
const PATTERN: usize = 256 * 1024;

/// What a client that holds a body back waits for.
pub(crate) const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// What a client may still send after its connection's last answer, in bytes.
pub(crate) const DRAIN: u32 = 1024 * 1024;

/// One line of the body, repeated; a power of two, so that it divides both lengths above.
const LINE: &[u8; 64] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.\n";

/// The byte at this offset of every body, for clients that check what they read.
pub fn body_byte(offset: u64) -> u8 {
    LINE[(offset % LINE.len() as u64) as usize]
}

/// One head, and as much of its body as fits.
struct Template {
    bytes: Vec<u8>,
    head: usize,
    body: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AnswerKind {
    /// Status 200 or 500 with the body.
    Served {
        error: bool,
        head_only: bool,
        persistence: Persistence,
    },
    /// A status without a body, after which the connection closes.
    Refused(Refusal),
    Reset,
}

impl AnswerKind {
    /// Whether the connection ends with this answer.
    pub(crate) fn closes(self) -> bool {
        match self {
            Self::Served { persistence, .. } => persistence == Persistence::Close,
            Self::Refused(_) | Self::Reset => true,
        }
    }
}

/// All answers that one target can give.
pub(crate) struct Answers {
    served: [Template; 6],
    refused: [Template; 2],
    pattern: Bytes,
    body_bytes: u64,
}

impl Answers {
    /// Builds them for bodies of this length in bytes.
    pub(crate) fn new(body_bytes: u64) -> Self {
        let pattern = Bytes::from(LINE.repeat(PATTERN / LINE.len()));
        let served = |status: &str, persistence| {
            template(status, persistence, body_bytes, &pattern[..PREBUILT_BODY])
        };
        let refused = |status: &str| template(status, Persistence::Close, 0, &[]);
        Self {
            served: [
                served("200 OK", Persistence::Default),
                served("200 OK", Persistence::Announced),
                served("200 OK", Persistence::Close),
                served("500 Internal Server Error", Persistence::Default),
                served("500 Internal Server Error", Persistence::Announced),
                served("500 Internal Server Error", Persistence::Close),
            ],
            refused: [refused("400 Bad Request"), refused("431 Request Header Fields Too Large")],
            pattern,
            body_bytes,
        }
    }

    pub(crate) fn body_bytes(&self) -> u64 {
        self.body_bytes
    }

    fn template(&self, kind: AnswerKind) -> Option<&Template> {
        match kind {
            AnswerKind::Served { error, persistence, .. } => {
                Some(&self.served[usize::from(error) * 3 + persistence as usize])
            }
            AnswerKind::Refused(refusal) => Some(&self.refused[refusal as usize]),
            AnswerKind::Reset => None,
        }
    }

    /// The bytes that follow the first `sent` ones, as far as they lie together; empty when all
    /// have been sent.
    pub(crate) fn piece(&self, kind: AnswerKind, sent: u64) -> &[u8] {
        let Some(template) = self.template(kind) else { return &[] };
        if matches!(kind, AnswerKind::Served { head_only: true, .. }) {
            return template.bytes[..template.head].get(sent as usize..).unwrap_or_default();
        }
        if sent < template.bytes.len() as u64 {
            return &template.bytes[sent as usize..];
        }
        let offset = sent - template.head as u64;
        let from = (offset % self.pattern.len() as u64) as usize;
        let rest = template.body.saturating_sub(offset);
        let length = rest.min((self.pattern.len() - from) as u64) as usize;
        &self.pattern[from..from + length]
    }

    /// A part of a body from `offset` on, of which `left` bytes are still to be sent.
    pub(crate) fn body_frame(&self, offset: u64, left: u64) -> Bytes {
        let from = (offset % self.pattern.len() as u64) as usize;
        let length = left.min((self.pattern.len() - from) as u64) as usize;
        self.pattern.slice(from..from + length)
    }

    /// Whether the first `sent` bytes are the whole answer.
    pub(crate) fn is_whole(&self, kind: AnswerKind, sent: u64) -> bool {
        self.piece(kind, sent).is_empty()
    }
}

fn template(status: &str, persistence: Persistence, body: u64, pattern: &[u8]) -> Template {
    let connection = match persistence {
        Persistence::Default => "",
        Persistence::Announced => "connection: keep-alive\r\n",
        Persistence::Close => "connection: close\r\n",
    };
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: text/plain\r\ncontent-length: {body}\r\n{connection}\r\n"
    );
    let mut bytes = head.into_bytes();
    let head = bytes.len();
    bytes.extend_from_slice(&pattern[..body.min(pattern.len() as u64) as usize]);
    Template { bytes, head, body }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Everything that is sent for `kind` when every write takes at most `most` bytes.
    fn sent(answers: &Answers, kind: AnswerKind, most: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        while !answers.is_whole(kind, bytes.len() as u64) {
            let piece = answers.piece(kind, bytes.len() as u64);
            bytes.extend_from_slice(&piece[..piece.len().min(most)]);
        }
        bytes
    }

    const SERVED: AnswerKind =
        AnswerKind::Served { error: false, head_only: false, persistence: Persistence::Default };

    #[test]
    fn a_small_answer_is_one_piece() {
        let answers = Answers::new(3);
        let expected =
            b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 3\r\n\r\n012";
        assert_eq!(answers.piece(SERVED, 0), expected);
        assert!(answers.is_whole(SERVED, expected.len() as u64));
        assert!(!answers.is_whole(SERVED, expected.len() as u64 - 1));
    }

    #[test]
    fn bodies_of_every_length_are_the_pattern_however_they_are_cut() {
        let edges = [PREBUILT_BODY, PATTERN, PATTERN + PREBUILT_BODY, 3 * PATTERN];
        let lengths = edges.iter().flat_map(|&edge| [edge - 1, edge, edge + 1]).chain([0, 1]);
        for length in lengths {
            let answers = Answers::new(length as u64);
            for most in [usize::MAX, 10_007] {
                let bytes = sent(&answers, SERVED, most);
                let head = answers.served[0].head;
                assert_eq!(bytes.len(), head + length, "length {length}, cut at {most}");
                let wrong = (0..length).find(|&i| bytes[head + i] != body_byte(i as u64));
                assert_eq!(wrong, None, "length {length}, cut at {most}: wrong byte");
            }
        }
    }

    #[test]
    fn each_kind_says_what_it_is() {
        let answers = Answers::new(1_000_000);
        let text = |kind| String::from_utf8(sent(&answers, kind, usize::MAX)).expect("text");
        for (error, status) in [(false, " 200 "), (true, " 500 ")] {
            for (persistence, header) in [
                (Persistence::Default, "content-length: 1000000\r\n\r\n"),
                (Persistence::Announced, "connection: keep-alive\r\n\r\n"),
                (Persistence::Close, "connection: close\r\n\r\n"),
            ] {
                let head = text(AnswerKind::Served { error, head_only: true, persistence });
                assert!(head.contains(status) && head.ends_with(header), "{head}");
                let whole = text(AnswerKind::Served { error, head_only: false, persistence });
                assert!(whole.starts_with(&head) && whole.len() == head.len() + 1_000_000);
            }
        }
        let refused = text(AnswerKind::Refused(Refusal::Malformed));
        assert!(refused.contains(" 400 ") && refused.ends_with("connection: close\r\n\r\n"));
        assert!(text(AnswerKind::Refused(Refusal::TooLarge)).contains(" 431 "));
        assert!(answers.is_whole(AnswerKind::Reset, 0), "a reset has no bytes");
    }
}
