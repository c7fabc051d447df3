//! The chunked transfer coding, byte by byte: nothing of it waits in the caller's buffer.

use super::ParsePosition as At;
use super::{MAX_HEAD, MAX_HEADERS, ParseError, ResponseParser};

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
        while consumed < bytes.len() && self.at != At::Done {
            if self.at == At::ChunkBody {
                consumed += self.body(&bytes[consumed..], on_body);
                if self.remaining == 0 {
                    self.at = At::ChunkBodyCr;
                }
            } else {
                let byte = bytes[consumed];
                consumed += 1;
                self.at = match self.at {
                    At::TrailerStart
                    | At::TrailerName
                    | At::TrailerValue
                    | At::TrailerLf
                    | At::EndLf => self.trailer_byte(byte)?,
                    _ => self.chunk_byte(byte)?,
                };
            }
        }
        Ok(consumed)
    }

    /// The state after one byte of a chunk's size line or of the line end behind its data.
    fn chunk_byte(&mut self, byte: u8) -> Result<At, ParseError> {
        let malformed = |what| Err(ParseError::Framing(what));
        match (self.at, byte) {
            (At::ChunkStart | At::ChunkSize, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                let digit = (byte as char).to_digit(16).unwrap_or(0);
                let shifted = self.remaining.checked_mul(16);
                let Some(size) = shifted.and_then(|size| size.checked_add(digit.into())) else {
                    return malformed("chunk size beyond 64 bits");
                };
                self.remaining = size;
                Ok(At::ChunkSize)
            }
            (At::ChunkSize | At::ChunkBlank, b' ' | b'\t') => Ok(At::ChunkBlank),
            (At::ChunkSize | At::ChunkBlank, b';') => Ok(At::ChunkExtension),
            (At::ChunkSize | At::ChunkBlank | At::ChunkExtension, b'\r') => Ok(At::ChunkSizeLf),
            (At::ChunkExtension, b'\n') => malformed("bare LF in a chunk extension"),
            (At::ChunkExtension, _) => {
                self.extension_bytes = self.extension_bytes.saturating_add(1);
                if self.extension_bytes >= EXTENSION_LIMIT {
                    return malformed("chunk extensions beyond 16 KiB");
                }
                Ok(At::ChunkExtension)
            }
            (At::ChunkSizeLf, b'\n') if self.remaining == 0 => Ok(At::TrailerStart),
            (At::ChunkSizeLf, b'\n') => Ok(At::ChunkBody),
            (At::ChunkBodyCr, b'\r') => Ok(At::ChunkBodyLf),
            (At::ChunkBodyLf, b'\n') => Ok(At::ChunkStart),
            (At::ChunkBodyCr | At::ChunkBodyLf, _) => malformed("no line end behind a chunk"),
            _ => malformed("not a chunk size"),
        }
    }

    /// The state after one byte of the trailer section or of the blank line that ends it.
    fn trailer_byte(&mut self, byte: u8) -> Result<At, ParseError> {
        let malformed = |what| Err(ParseError::Framing(what));
        self.trailer_bytes = self.trailer_bytes.saturating_add(1);
        if self.trailer_bytes >= TRAILER_LIMIT {
            return malformed("trailers beyond 32 KiB");
        }
        match (self.at, byte) {
            (At::TrailerStart, b'\r') => Ok(At::EndLf),
            (At::TrailerName, b':') => Ok(At::TrailerValue),
            (At::TrailerStart | At::TrailerName, _) if is_token(byte) => Ok(At::TrailerName),
            (At::TrailerValue, b'\r') => Ok(At::TrailerLf),
            (At::TrailerValue, b'\t' | b' '..=b'~' | 0x80..) => Ok(At::TrailerValue),
            (At::TrailerLf, b'\n') if self.trailers as usize >= MAX_HEADERS => {
                malformed("more than 100 trailers")
            }
            (At::TrailerLf, b'\n') => {
                self.trailers = self.trailers.saturating_add(1);
                Ok(At::TrailerStart)
            }
            (At::EndLf, b'\n') => Ok(At::Done),
            _ => malformed("not a trailer"),
        }
    }
}

/// Whether a byte may stand in a field name (RFC 9110, section 5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
