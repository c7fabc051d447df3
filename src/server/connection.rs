//! What is kept for a connection, and the slab that keeps it.
//!
//! An idle connection costs its slot and its socket: bytes are read into a buffer that all
//! connections share, and only what cannot be used yet is copied.

use std::os::fd::OwnedFd;

use rustix::event::epoll::EventFlags;

use super::digest::Ongoing;
use crate::codec::serve::answers::AnswerKind;
use crate::codec::serve::inbox::Inbox;
use crate::codec::serve::request::Step;

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

pub(super) struct Connection {
    pub(super) socket: OwnedFd,
    pub(super) state: State,
    /// The events that epoll reports for it.
    pub(super) interest: EventFlags,
    pub(super) inbox: Inbox,
    /// The digest of the request on its way in, where one is kept.
    pub(super) ongoing: Option<Box<Ongoing>>,
}

impl Connection {
    pub(super) fn new(socket: OwnedFd, digest: bool) -> Self {
        Self {
            socket,
            state: State::Reading,
            interest: READABLE,
            inbox: Inbox::new(),
            ongoing: digest.then(Box::default),
        }
    }

    /// Goes on with bytes that were just read or, where there are none, with those read earlier.
    pub(super) fn next_step(&mut self, came: Option<&[u8]>) -> Step {
        let Connection { inbox, ongoing, .. } = self;
        let seen = |raw: &[u8]| {
            if let Some(ongoing) = ongoing {
                ongoing.feed(raw);
            }
        };
        match came {
            Some(came) => inbox.absorb(came, seen),
            None => inbox.next_step(seen),
        }
    }
}

/// Names a connection for as long as it lives: a slot is reused, a token is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Token {
    slot: u32,
    generation: u32,
}

impl Token {
    pub(super) fn to_u64(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.slot)
    }

    pub(super) fn from_u64(data: u64) -> Self {
        Self { slot: data as u32, generation: (data >> 32) as u32 }
    }
}

/// A slot and how many connections it has held.
struct AnswerSlot {
    generation: u32,
    connection: Option<Connection>,
}

#[derive(Default)]
pub(super) struct Slab {
    slots: Vec<AnswerSlot>,
    free: Vec<u32>,
}

impl Slab {
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
    fn an_idle_connection_is_small() {
        assert!(size_of::<AnswerSlot>() <= 160, "a slot takes {} bytes", size_of::<AnswerSlot>());
    }
}
