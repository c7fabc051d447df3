//! What the header lines of a response say of its framing and of its connection.

use httparse::Header;

/// What the header lines say of the body's length.
#[derive(Clone, Copy)]
pub(super) enum Length {
    Absent,
    Is(u64),
    Invalid,
}

/// What matters of the header lines.
pub(super) struct Facts {
    pub(super) length: Length,
    pub(super) transfer_encoding: bool,
    /// Whether chunked is the last transfer coding.
    pub(super) chunked: bool,
    pub(super) close: bool,
    pub(super) keep_alive: bool,
}

impl Facts {
    #[inline]
    pub(super) fn of(headers: &[Header<'_>]) -> Self {
        let mut facts = Self {
            length: Length::Absent,
            transfer_encoding: false,
            chunked: false,
            close: false,
            keep_alive: false,
        };
        for Header { name, value } in headers {
            // Lengths differ first: most lines cost one comparison.
            match name.len() {
                10 if name.eq_ignore_ascii_case("connection") => facts.connection(value),
                14 if name.eq_ignore_ascii_case("content-length") => facts.content_length(value),
                17 if name.eq_ignore_ascii_case("transfer-encoding") => {
                    let last = value.rsplit(|&byte| byte == b',').next().unwrap_or_default();
                    facts.transfer_encoding = true;
                    // A line with bytes beyond ASCII names no coding that hyper would know.
                    facts.chunked =
                        value.is_ascii() && last.trim_ascii().eq_ignore_ascii_case(b"chunked");
                }
                _ => {}
            }
        }
        facts
    }

    fn connection(&mut self, value: &[u8]) {
        if !value.is_ascii() {
            return;
        }
        for token in value.split(|&byte| byte == b',') {
            let token = token.trim_ascii();
            self.close |= token.eq_ignore_ascii_case(b"close");
            self.keep_alive |= token.eq_ignore_ascii_case(b"keep-alive");
        }
    }

    /// Takes one line, which may be a list: equal values are one, others contradict.
    fn content_length(&mut self, value: &[u8]) {
        for item in value.split(|&byte| byte == b',') {
            self.length = match (self.length, decimal(item.trim_ascii())) {
                (Length::Absent, Some(length)) => Length::Is(length),
                (Length::Is(before), Some(length)) if before == length => Length::Is(length),
                _ => Length::Invalid,
            };
        }
    }
}

/// Reads digits and nothing else: no sign, no blank, no overflow.
fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |value, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        value.checked_mul(10)?.checked_add(digit)
    })
}
