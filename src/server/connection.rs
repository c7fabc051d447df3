//! What the reference keeps for a connection.
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
            inbox: Inbox::default(),
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

#[cfg(test)]
mod tests {
    use super::super::slab::SlabPlace;
    use super::*;

    #[test]
    fn an_idle_connection_is_small() {
        let bytes = size_of::<SlabPlace<Connection>>();
        assert!(bytes <= 160, "a connection takes {bytes} bytes");
    }
}
