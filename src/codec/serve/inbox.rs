//! What came in on a connection: requests are cut out of it.

use bytes::{Buf, BytesMut};

use super::request::{Parser, Step};

/// Keeps only what cannot be used yet: an idle connection has no buffer. Each call tells `seen` which
/// bytes it takes.
#[derive(Default)]
pub(crate) struct Inbox {
    parser: Parser,
    /// Bytes read and not yet taken.
    unread: BytesMut,
}

impl Inbox {
    /// Takes bytes that were just read.
    pub(crate) fn absorb(&mut self, bytes: &[u8], mut seen: impl FnMut(&[u8])) -> Step {
        if self.has_unread() {
            self.unread.extend_from_slice(bytes);
            return self.next_step(seen);
        }
        let (taken, step) = self.parser.advance(bytes);
        seen(&bytes[..taken]);
        if taken < bytes.len() {
            self.unread = bytes[taken..].into();
        }
        step
    }

    /// Keeps bytes that came behind a whole request.
    pub(crate) fn keep(&mut self, bytes: &[u8]) {
        self.unread.extend_from_slice(bytes);
    }

    /// Goes on with bytes that were read earlier.
    pub(crate) fn next_step(&mut self, mut seen: impl FnMut(&[u8])) -> Step {
        let (taken, step) = self.parser.advance(&self.unread);
        seen(&self.unread[..taken]);
        self.unread.advance(taken);
        if !self.has_unread() {
            self.unread = BytesMut::new();
        }
        step
    }

    pub(crate) fn has_unread(&self) -> bool {
        !self.unread.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_buffer_stays_with_an_idle_connection() {
        let mut inbox = Inbox::default();
        let requests = b"GET / HTTP/1.1\r\n\r\n".repeat(3);
        assert!(matches!(inbox.absorb(&requests, |_| {}), Step::Whole(_)));
        assert!(matches!(inbox.next_step(|_| {}), Step::Whole(_)));
        assert!(inbox.has_unread());
        assert!(matches!(inbox.next_step(|_| {}), Step::Whole(_)));
        assert_eq!(inbox.next_step(|_| {}), Step::More);
        assert_eq!(inbox.unread.capacity(), 0, "a buffer stays with an idle connection");
    }
}
