//! The chunked transfer coding, byte by byte: nothing of it waits in the caller's buffer.

use super::{MAX_HEAD, MAX_HEADERS, ParseError, ParsePosition, ResponseParser};

/// Bytes at which the chunk extensions of one body are refused (hyper's bound).
const EXTENSION_LIMIT: u16 = 16 * 1024;

/// Bytes at which the trailer section of one body is refused: hyper takes the bound of heads.
const TRAILER_LIMIT: u16 = MAX_HEAD as u16;

impl ResponseParser {
    /// Consumes chunks and trailers up to the end of the response or of the bytes.
    pub(super) fn chunked(
        &mut self,
        bytes: &[u8],
        on_body: &mut impl FnMut(&[u8]),
    ) -> Result<usize, ParseError> {
        let mut consumed = 0;
        while consumed < bytes.len() && self.at != ParsePosition::Done {
            if self.at == ParsePosition::ChunkBody {
                consumed += self.body(&bytes[consumed..], on_body);
                if self.remaining == 0 {
                    self.at = ParsePosition::ChunkBodyCr;
                }
            } else {
                let byte = bytes[consumed];
                consumed += 1;
                self.at = match self.at {
                    ParsePosition::TrailerStart
                    | ParsePosition::TrailerName
                    | ParsePosition::TrailerValue
                    | ParsePosition::TrailerLf
                    | ParsePosition::EndLf => self.trailer_byte(byte)?,
                    _ => self.chunk_byte(byte)?,
                };
            }
        }
        Ok(consumed)
    }

    /// The state after one byte of a chunk's size line or of the line end behind its data.
    fn chunk_byte(&mut self, byte: u8) -> Result<ParsePosition, ParseError> {
        let malformed = |what| Err(ParseError::Framing(what));
        match (self.at, byte) {
            (
                ParsePosition::ChunkStart | ParsePosition::ChunkSize,
                b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F',
            ) => {
                let digit = (byte as char).to_digit(16).unwrap_or(0);
                let shifted = self.remaining.checked_mul(16);
                let Some(size) = shifted.and_then(|size| size.checked_add(digit.into())) else {
                    return malformed("chunk size beyond 64 bits");
                };
                self.remaining = size;
                Ok(ParsePosition::ChunkSize)
            }
            (ParsePosition::ChunkSize | ParsePosition::ChunkBlank, b' ' | b'\t') => {
                Ok(ParsePosition::ChunkBlank)
            }
            (ParsePosition::ChunkSize | ParsePosition::ChunkBlank, b';') => {
                Ok(ParsePosition::ChunkExtension)
            }
            (
                ParsePosition::ChunkSize
                | ParsePosition::ChunkBlank
                | ParsePosition::ChunkExtension,
                b'\r',
            ) => Ok(ParsePosition::ChunkSizeLf),
            (ParsePosition::ChunkExtension, b'\n') => malformed("bare LF in a chunk extension"),
            (ParsePosition::ChunkExtension, _) => {
                self.extension_bytes = self.extension_bytes.saturating_add(1);
                if self.extension_bytes >= EXTENSION_LIMIT {
                    return malformed("chunk extensions beyond 16 KiB");
                }
                Ok(ParsePosition::ChunkExtension)
            }
            (ParsePosition::ChunkSizeLf, b'\n') if self.remaining == 0 => {
                Ok(ParsePosition::TrailerStart)
            }
            (ParsePosition::ChunkSizeLf, b'\n') => Ok(ParsePosition::ChunkBody),
            (ParsePosition::ChunkBodyCr, b'\r') => Ok(ParsePosition::ChunkBodyLf),
            (ParsePosition::ChunkBodyLf, b'\n') => Ok(ParsePosition::ChunkStart),
            (ParsePosition::ChunkBodyCr | ParsePosition::ChunkBodyLf, _) => {
                malformed("no line end behind a chunk")
            }
            _ => malformed("not a chunk size"),
        }
    }

    /// The state after one byte of the trailer section or of the blank line that ends it.
    fn trailer_byte(&mut self, byte: u8) -> Result<ParsePosition, ParseError> {
        let malformed = |what| Err(ParseError::Framing(what));
        self.trailer_bytes = self.trailer_bytes.saturating_add(1);
        if self.trailer_bytes >= TRAILER_LIMIT {
            return malformed("trailers beyond 32 KiB");
        }
        match (self.at, byte) {
            (ParsePosition::TrailerStart, b'\r') => Ok(ParsePosition::EndLf),
            (ParsePosition::TrailerName, b':') => Ok(ParsePosition::TrailerValue),
            (ParsePosition::TrailerStart | ParsePosition::TrailerName, _) if is_token(byte) => {
                Ok(ParsePosition::TrailerName)
            }
            (ParsePosition::TrailerValue, b'\r') => Ok(ParsePosition::TrailerLf),
            (ParsePosition::TrailerValue, b'\t' | b' '..=b'~' | 0x80..) => {
                Ok(ParsePosition::TrailerValue)
            }
            (ParsePosition::TrailerLf, b'\n') if self.trailers as usize >= MAX_HEADERS => {
                malformed("more than 100 trailers")
            }
            (ParsePosition::TrailerLf, b'\n') => {
                self.trailers = self.trailers.saturating_add(1);
                Ok(ParsePosition::TrailerStart)
            }
            (ParsePosition::EndLf, b'\n') => Ok(ParsePosition::Done),
            _ => malformed("not a trailer"),
        }
    }
}

/// Whether a byte may stand in a field name (RFC 9110, section 5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
