//! What is kept for a connection, and the slab that keeps it.
//!
//! An idle connection costs its slot and its socket: bytes are read into a buffer that all
//! connections share, and only what cannot be used yet is copied.

use std::os::fd::OwnedFd;

use rustix::event::epoll::EventFlags;

use super::digest::Ongoing;
use super::request::{Parser, Step};
use super::response::AnswerKind;

/// Bytes for the next request, or the end of the stream.
pub(super) const READABLE: EventFlags = EventFlags::IN.union(EventFlags::RDHUP);

/// An answer on its way.
#[derive(Debug, Clone, Copy)]
pub(super) struct AnswerUnderWay {
    pub(super) kind: AnswerKind,
    /// When it is to leave, in CLOCK_MONOTONIC nanoseconds.
    pub(super) due_ns: u64,
    /// Bytes that have left.
    pub(super) sent: u64,
}

/// What a connection is doing; one request at a time.
#[derive(Debug, Clone, Copy)]
pub(super) enum State {
    /// Reading a request, or idle.
    Reading,
    /// Holding an answer until its instant.
    Waiting(AnswerUnderWay),
    /// Waiting for room in the socket's send buffer.
    Writing(AnswerUnderWay),
    /// All is said: dropping what still comes, so that closing does not turn into a reset that
    /// overtakes the answer.
    Draining {
        /// Bytes to drop before giving up.
        budget: u32,
    },
}

/// What came in on a connection: requests are cut out of it.
pub(super) struct Inbox {
    parser: Parser,
    /// The digest of the request on its way in, where one is kept.
    pub(super) ongoing: Option<Box<Ongoing>>,
    /// Bytes read and not yet taken, from `taken` on.
    unread: Vec<u8>,
    taken: usize,
}

impl Inbox {
    pub(super) fn new(digest: bool) -> Self {
        Self {
            parser: Parser::new(),
            ongoing: digest.then(Box::default),
            unread: Vec::new(),
            taken: 0,
        }
    }

    /// Takes bytes that were just read.
    pub(super) fn absorb(&mut self, bytes: &[u8]) -> Step {
        if self.has_unread() {
            self.unread.drain(..self.taken);
            self.taken = 0;
            self.unread.extend_from_slice(bytes);
            return self.next_step();
        }
        let (taken, step) = self.parser.advance(bytes);
        if let Some(ongoing) = &mut self.ongoing {
            ongoing.feed(&bytes[..taken]);
        }
        if taken < bytes.len() {
            self.unread = bytes[taken..].to_vec();
        }
        step
    }

    /// Keeps bytes that came behind a whole request.
    pub(super) fn keep(&mut self, bytes: &[u8]) {
        self.unread.extend_from_slice(bytes);
    }

    /// Goes on with bytes that were read earlier.
    pub(super) fn next_step(&mut self) -> Step {
        let (taken, step) = self.parser.advance(&self.unread[self.taken..]);
        if let Some(ongoing) = &mut self.ongoing {
            ongoing.feed(&self.unread[self.taken..self.taken + taken]);
        }
        self.taken += taken;
        if !self.has_unread() {
            self.unread = Vec::new();
            self.taken = 0;
        }
        step
    }

    /// Whether bytes are left over.
    pub(super) fn has_unread(&self) -> bool {
        self.taken < self.unread.len()
    }
}

/// One connection.
pub(super) struct Connection {
    pub(super) socket: OwnedFd,
    pub(super) state: State,
    /// The events that epoll reports for it.
    pub(super) interest: EventFlags,
    pub(super) inbox: Inbox,
}

impl Connection {
    pub(super) fn new(socket: OwnedFd, digest: bool) -> Self {
        Self { socket, state: State::Reading, interest: READABLE, inbox: Inbox::new(digest) }
    }
}

/// Names a connection for as long as it lives: a slot is reused, a token is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Token {
    slot: u32,
    generation: u32,
}

impl Token {
    /// As epoll carries it.
    pub(super) fn to_u64(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.slot)
    }

    /// From what epoll carried.
    pub(super) fn from_u64(data: u64) -> Self {
        Self { slot: data as u32, generation: (data >> 32) as u32 }
    }
}

/// A slot and how many connections it has held.
struct AnswerSlot {
    generation: u32,
    connection: Option<Connection>,
}

/// All connections, by slot.
#[derive(Default)]
pub(super) struct Slab {
    slots: Vec<AnswerSlot>,
    free: Vec<u32>,
}

impl Slab {
    /// Keeps a connection and names it.
    pub(super) fn insert(&mut self, connection: Connection) -> Token {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(AnswerSlot { generation: 0, connection: None });
            // Descriptors run out long before 2^32 slots.
            self.slots.len() as u32 - 1
        });
        let entry = &mut self.slots[slot as usize];
        entry.connection = Some(connection);
        Token { slot, generation: entry.generation }
    }

    /// The connection of this name, unless it is gone.
    pub(super) fn get_mut(&mut self, token: Token) -> Option<&mut Connection> {
        let entry = self.slots.get_mut(token.slot as usize)?;
        entry.connection.as_mut().filter(|_| entry.generation == token.generation)
    }

    /// Forgets the connection of this name and returns it, unless it is gone already.
    pub(super) fn remove(&mut self, token: Token) -> Option<Connection> {
        let entry = self.slots.get_mut(token.slot as usize)?;
        if entry.generation != token.generation {
            return None;
        }
        let connection = entry.connection.take()?;
        entry.generation = entry.generation.wrapping_add(1);
        self.free.push(token.slot);
        Some(connection)
    }

    /// As [`Self::get_mut`], to look only.
    #[cfg(test)]
    pub(super) fn peek(&self, token: Token) -> Option<&Connection> {
        let entry = self.slots.get(token.slot as usize)?;
        entry.connection.as_ref().filter(|_| entry.generation == token.generation)
    }

    /// Connections kept.
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection() -> Connection {
        let null = std::fs::File::open("/dev/null").expect("/dev/null opens");
        Connection::new(null.into(), false)
    }

    #[test]
    fn a_token_never_reaches_the_next_connection_of_its_slot() {
        let mut slab = Slab::default();
        let first = slab.insert(connection());
        let second = slab.insert(connection());
        assert!(slab.remove(first).is_some());
        assert!(slab.get_mut(first).is_none(), "a closed connection is still found");
        let third = slab.insert(connection());
        assert_eq!(third.slot, first.slot, "the slot is not used again");
        assert!(slab.get_mut(first).is_none(), "an old token found a new connection");
        assert!(slab.remove(first).is_none(), "an old token removed a new connection");
        assert!(slab.get_mut(second).is_some() && slab.get_mut(third).is_some());
        assert_eq!(slab.len(), 2);
        assert_eq!(Token::from_u64(third.to_u64()), third);
    }

    #[test]
    fn an_idle_connection_is_small_and_keeps_no_buffer() {
        assert!(size_of::<AnswerSlot>() <= 160, "a slot takes {} bytes", size_of::<AnswerSlot>());
        let mut connection = connection();
        let requests = b"GET / HTTP/1.1\r\n\r\n".repeat(3);
        assert!(matches!(connection.inbox.absorb(&requests), Step::Whole(_)));
        assert!(matches!(connection.inbox.next_step(), Step::Whole(_)));
        assert!(connection.inbox.has_unread());
        assert!(matches!(connection.inbox.next_step(), Step::Whole(_)));
        assert_eq!(connection.inbox.next_step(), Step::More);
        assert_eq!(connection.inbox.unread.capacity(), 0, "a buffer stays with an idle connection");
    }
}
