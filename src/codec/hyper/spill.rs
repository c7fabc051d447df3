//! What was read beyond the buffer that hyper gave for it, as the records of TLS may bring.

use bytes::{Buf, BytesMut};
use hyper::rt::ReadBufCursor;

/// Read buffer on the stack: hyper's cursor cannot be filled in place without `unsafe`.
pub(super) const CHUNK_BYTES: usize = 8 * 1024;

#[derive(Default)]
pub(super) struct Spill(BytesMut);

impl Spill {
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Hands over what fits, and keeps the rest.
    #[inline]
    pub(super) fn put(&mut self, came: &[u8], buf: &mut ReadBufCursor<'_>) {
        let (fits, rest) = came.split_at(came.len().min(buf.remaining()));
        buf.put_slice(fits);
        if !rest.is_empty() {
            self.0.extend_from_slice(rest);
        }
    }

    /// Hands over what was kept, as far as it fits.
    pub(super) fn pour(&mut self, buf: &mut ReadBufCursor<'_>) {
        let length = self.0.len().min(buf.remaining());
        buf.put_slice(&self.0[..length]);
        self.0.advance(length);
        if self.0.is_empty() {
            self.0 = BytesMut::new();
        }
    }
}
