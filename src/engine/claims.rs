//! How lanes of a closed loop take work: the next indices from a shared counter, no channel.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::side::Phase;

/// Most indices taken at once: few enough to stay fair, enough to leave the counter alone.
const CHUNK: u64 = 16;

pub(super) struct Claims {
    warmup: AtomicU64,
    measured: AtomicU64,
    planned: u64,
    lanes: u64,
}

/// Indices that one lane holds: the next one, and in the lowest bits how many there are. One number,
/// since every lane has one.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Chunk(u64);

/// Bits of a chunk that count.
const COUNT_BITS: u32 = 8;

impl Chunk {
    fn new(next: u64, count: u64) -> Self {
        Chunk(next << COUNT_BITS | count)
    }

    fn left(self) -> u64 {
        self.0 & ((1 << COUNT_BITS) - 1)
    }

    fn take(&mut self) -> Option<u64> {
        let left = self.left().checked_sub(1)?;
        let index = self.0 >> COUNT_BITS;
        *self = Chunk::new(index + 1, left);
        Some(index)
    }
}

impl Claims {
    /// `planned` requests of the measured phase; `u64::MAX` when time decides.
    pub(super) fn new(planned: u64, lanes: u32) -> Self {
        Claims {
            warmup: AtomicU64::new(0),
            measured: AtomicU64::new(0),
            planned,
            lanes: u64::from(lanes),
        }
    }

    /// The next index for a lane, `None` when all are taken.
    ///
    /// Chunks shrink as the end nears, down to one, so that no lane sits on work that idle
    /// lanes could do.
    pub(super) fn next(&self, phase: Phase, chunk: &mut Chunk) -> Option<u64> {
        if phase == Phase::Warmup {
            return Some(self.warmup.fetch_add(1, Relaxed));
        }
        if chunk.left() == 0 {
            let left = self.planned.saturating_sub(self.measured.load(Relaxed));
            let size = (left / (self.lanes * 8)).clamp(1, CHUNK);
            let next = self.measured.fetch_add(size, Relaxed);
            *chunk = Chunk::new(next, self.planned.saturating_sub(next).min(size));
        }
        chunk.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_index_is_taken_once_and_the_last_ones_singly() {
        let claims = Claims::new(1000, 4);
        let mut lanes = [Chunk::default(); 4];
        let mut seen = vec![];
        'all: loop {
            for chunk in &mut lanes {
                match claims.next(Phase::Measured, chunk) {
                    Some(index) => seen.push(index),
                    None => break 'all,
                }
            }
        }
        for chunk in &mut lanes {
            assert_eq!(chunk.left(), 0, "no lane holds an index back at the end");
        }
        seen.sort_unstable();
        assert_eq!(seen, (0..1000).collect::<Vec<_>>());
    }
}
