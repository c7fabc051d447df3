//! What was read beyond the buffer that hyper gave for it, as the records of TLS may bring.

use std::mem::MaybeUninit;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use hyper::rt::ReadBufCursor;

use crate::codec::stream::{Socket, Stream};
use crate::codec::tls::TlsEnd;

/// Read buffer on the stack: hyper's cursor cannot be filled in place without `unsafe`.
const CHUNK_BYTES: usize = 8 * 1024;

#[derive(Default)]
pub(super) struct Spill(BytesMut);

impl Spill {
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Hands over what was kept or else what comes, after a word to `seen`: an empty piece at the end of
    /// the stream.
    #[inline]
    pub(super) fn poll_read<S: Socket, E: TlsEnd>(
        &mut self,
        stream: &mut Stream<S, E>,
        cx: &mut Context<'_>,
        buf: &mut ReadBufCursor<'_>,
        mut seen: impl FnMut(&[u8]),
    ) -> Poll<std::io::Result<()>> {
        while self.is_empty() {
            let mut bytes = [MaybeUninit::<u8>::uninit(); CHUNK_BYTES];
            let room = buf.remaining().min(CHUNK_BYTES);
            let came = ready!(stream.poll_read(cx, &mut bytes[..room], |_, came| {
                seen(came);
                self.put(came, buf);
                Some(())
            }))?;
            if came.is_some() {
                return Poll::Ready(Ok(()));
            }
        }
        self.pour(buf);
        Poll::Ready(Ok(()))
    }

    /// Hands over what fits, and keeps the rest.
    #[inline]
    fn put(&mut self, came: &[u8], buf: &mut ReadBufCursor<'_>) {
        let (fits, rest) = came.split_at(came.len().min(buf.remaining()));
        buf.put_slice(fits);
        if !rest.is_empty() {
            self.0.extend_from_slice(rest);
        }
    }

    /// Hands over what was kept, as far as it fits.
    fn pour(&mut self, buf: &mut ReadBufCursor<'_>) {
        let length = self.0.len().min(buf.remaining());
        buf.put_slice(&self.0[..length]);
        self.0.advance(length);
        if self.0.is_empty() {
            self.0 = BytesMut::new();
        }
    }
}
