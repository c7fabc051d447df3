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
            let name = name.as_bytes();
            match name.len() {
                10 if is(name, b"connection") => facts.connection(value),
                14 if is(name, b"content-length") => facts.content_length(value),
                17 if is(name, b"transfer-encoding") => {
                    let last = value.rsplit(|&byte| byte == b',').next().unwrap_or_default();
                    facts.transfer_encoding = true;
                    // A line with bytes beyond ASCII names no coding that hyper would know.
                    facts.chunked = value.is_ascii() && is(last.trim_ascii(), b"chunked");
                }
                _ => {}
            }
        }
        facts
    }

    fn connection(&mut self, value: &[u8]) {
        // Most servers send one token or none.
        if is(value, b"keep-alive") {
            self.keep_alive = true;
            return;
        }
        if !value.is_ascii() {
            return;
        }
        for token in value.split(|&byte| byte == b',') {
            let token = token.trim_ascii();
            self.close |= is(token, b"close");
            self.keep_alive |= is(token, b"keep-alive");
        }
    }

    /// Takes one line, which may be a list: equal values are one, others contradict.
    fn content_length(&mut self, value: &[u8]) {
        if let (Length::Absent, Some(length)) = (self.length, decimal(value)) {
            self.length = Length::Is(length);
            return;
        }
        for item in value.split(|&byte| byte == b',') {
            self.length = match (self.length, decimal(item.trim_ascii())) {
                (Length::Absent, Some(length)) => Length::Is(length),
                (Length::Is(before), Some(length)) if before == length => Length::Is(length),
                _ => Length::Invalid,
            };
        }
    }
}

/// Whether text is a word of lower-case letters and `-`, in any case. Bit 5 is the case of a letter,
/// and the only other byte that it turns into `-` is CR, which httparse lets into no text; without
/// an early exit the comparison is a few vector instructions.
#[inline]
fn is<const N: usize>(text: &[u8], word: &[u8; N]) -> bool {
    <&[u8; N]>::try_from(text).is_ok_and(|text| {
        text.iter().zip(word).fold(0, |differ, (byte, lower)| differ | ((byte | 0x20) ^ lower)) == 0
    })
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
