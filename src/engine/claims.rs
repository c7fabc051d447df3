//! How lanes of a closed loop take work: the next indices from a shared counter, no channel.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::side::Phase;

/// Most indices taken at once: few enough to stay fair, enough to leave the counter alone.
const CHUNK: u64 = 16;

/// The counters of a worker.
pub(super) struct Claims {
    warmup: AtomicU64,
    measured: AtomicU64,
    planned: u64,
    lanes: u64,
}

/// Indices that one lane holds.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Chunk {
    next: u64,
    end: u64,
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
        if chunk.next == chunk.end {
            let left = self.planned.saturating_sub(self.measured.load(Relaxed));
            let size = (left / (self.lanes * 8)).clamp(1, CHUNK);
            chunk.next = self.measured.fetch_add(size, Relaxed);
            chunk.end = (chunk.next + size).min(self.planned);
            if chunk.next >= chunk.end {
                chunk.end = chunk.next;
                return None;
            }
        }
        let index = chunk.next;
        chunk.next += 1;
        Some(index)
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
            assert_eq!(chunk.next, chunk.end, "no lane holds an index back at the end");
        }
        seen.sort_unstable();
        assert_eq!(seen, (0..1000).collect::<Vec<_>>());
    }
}
