//! What a reactor keeps for each socket of its ring.

use crate::sys::ring::Buffer;

/// What the ring knows of a socket: 40 bytes, since every lane has one.
#[derive(Default)]
pub(super) struct Slot {
    pub(super) lane: u32,
    /// Tells completions of a socket from those of the one before it.
    pub(super) generation: u32,
    /// The submission that something of this socket was last queued for.
    pub(super) round: u32,
    pub(super) sending: Sending,
    pub(super) arrived: Option<Buffer>,
    /// A receive is with the kernel.
    pub(super) receiving: bool,
    /// There may be more than provided buffers take: the lane reads for itself.
    pub(super) reads: bool,
    /// A wait for room, or for the connection, is with the kernel.
    pub(super) waiting: bool,
    /// The end of the stream (zero), or the error that ended it.
    pub(super) ended: Option<i16>,
    /// What came after `arrived`, where a lane was slow to look.
    pub(super) more: Option<Box<Later>>,
}

#[derive(Default)]
pub(super) struct Later(pub(super) Vec<Buffer>);

/// How far a queued request is.
#[derive(Default, Clone, Copy)]
pub(super) enum Sending {
    #[default]
    Nothing,
    /// Queued, or sent whole once its round is over.
    Queued(u16),
    /// No longer with the ring: the bytes that were sent, or an error of the system below zero.
    Over(i16),
}

impl Slot {
    #[inline]
    pub(super) fn push(&mut self, buffer: Buffer) {
        match (&self.arrived, &mut self.more) {
            (None, None) => self.arrived = Some(buffer),
            (_, more) => more.get_or_insert_default().0.push(buffer),
        }
    }

    #[inline]
    pub(super) fn pop(&mut self) -> Option<Buffer> {
        self.arrived.take().or_else(|| {
            let more = self.more.as_mut()?;
            let first = more.0.remove(0);
            if more.0.is_empty() {
                self.more = None;
            }
            Some(first)
        })
    }

    /// Notes that something of this socket goes with this submission. A send of an earlier one is
    /// then known to be whole, since only the others complete.
    pub(super) fn queued_in(&mut self, round: u32) {
        if let Sending::Queued(len) = self.sending
            && self.round != round
        {
            self.sending = Sending::Over(short(len.into()));
        }
        self.round = round;
    }

    #[inline]
    pub(super) fn key(&self, index: u32) -> u64 {
        u64::from(self.generation) << 32 | u64::from(index)
    }
}

/// A result of the kernel that is an error or at most `LONGEST_SEND`.
pub(super) fn short(result: i32) -> i16 {
    result.clamp(i16::MIN.into(), i16::MAX.into()) as i16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_send_stays_queued_in_its_own_submission_only() {
        let sends = |queued, round| {
            let mut slot = Slot { sending: Sending::Queued(9), round: queued, ..Slot::default() };
            slot.queued_in(round);
            assert_eq!(slot.round, round);
            matches!(slot.sending, Sending::Queued(9))
        };
        assert!(sends(7, 7), "a receive that goes with it");
        assert!(!sends(7, 8), "a receive of a later one says nothing of it");
    }
}
