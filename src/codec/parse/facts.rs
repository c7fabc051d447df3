//! What a head says of its framing and of its connection: decided here for every codec and both ends.

/// Longest content-length: hyper keeps the two values above for itself.
const MAX_LENGTH: u64 = u64::MAX - 2;

/// Where the body of a response ends (RFC 9112, section 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    Length(u64),
    /// With the last chunk and its trailers.
    Chunked,
    ToClose,
}

/// What follows the head of a final response, and whether its connection may carry another
/// exchange (RFC 9112, section 9.3).
///
/// # Errors
/// The head does not say where the body ends.
#[inline]
pub(crate) fn after_head<'h>(
    status: u16,
    http_1_1: bool,
    headers: impl Iterator<Item = (&'h [u8], &'h [u8])>,
    request_is_head: bool,
) -> Result<(Framing, bool), &'static str> {
    let facts = HeadFacts::of(headers);
    let framing = if matches!(status, 101 | 204 | 304) || request_is_head {
        Framing::Length(0)
    } else if facts.transfer_encoding {
        match (http_1_1, facts.chunked) {
            (false, _) => return Err("transfer-encoding in an HTTP/1.0 response"),
            (true, true) => Framing::Chunked,
            (true, false) => Framing::ToClose,
        }
    } else {
        match facts.length {
            BodyLength::Absent => Framing::ToClose,
            BodyLength::Is(length) if length <= MAX_LENGTH => Framing::Length(length),
            BodyLength::Is(_) => return Err("content-length too large"),
            BodyLength::Invalid => return Err("content-length invalid or contradictory"),
        }
    };
    let keep = !facts.close
        && (http_1_1 || facts.keep_alive)
        && status != 101
        && framing != Framing::ToClose;
    Ok((framing, keep))
}

/// What the header lines say of the body's length.
#[derive(Default, Clone, Copy)]
pub(crate) enum BodyLength {
    #[default]
    Absent,
    Is(u64),
    Invalid,
}

/// What matters of the header lines.
#[derive(Default)]
pub(crate) struct HeadFacts {
    pub(crate) length: BodyLength,
    pub(crate) transfer_encoding: bool,
    /// Whether chunked is the last transfer coding.
    chunked: bool,
    pub(crate) close: bool,
    pub(crate) keep_alive: bool,
}

impl HeadFacts {
    #[inline]
    pub(crate) fn of<'h>(headers: impl Iterator<Item = (&'h [u8], &'h [u8])>) -> Self {
        let mut facts = Self::default();
        for (name, value) in headers {
            // Lengths differ first: most lines cost one comparison.
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
    #[inline]
    fn content_length(&mut self, value: &[u8]) {
        if let (BodyLength::Absent, Some(length)) = (self.length, decimal(value)) {
            self.length = BodyLength::Is(length);
            return;
        }
        for item in value.split(|&byte| byte == b',') {
            self.length = match (self.length, decimal(item.trim_ascii())) {
                (BodyLength::Absent, Some(length)) => BodyLength::Is(length),
                (BodyLength::Is(before), Some(length)) if before == length => {
                    BodyLength::Is(length)
                }
                _ => BodyLength::Invalid,
            };
        }
    }
}

/// Whether text is a word of lower-case letters and `-`, in any case. Bit 5 is the case of a letter,
/// and the only other byte that it turns into `-` is CR, which httparse lets into no text; without
/// an early exit the comparison is a few vector instructions.
#[inline]
fn is<const N: usize>(text: &[u8], word: &[u8; N]) -> bool {
    <&[u8; N]>::try_from(text)
        .is_ok_and(|text| (0..N).fold(0, |differ, at| differ | ((text[at] | 0x20) ^ word[at])) == 0)
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
