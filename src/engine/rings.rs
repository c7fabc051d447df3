//! Counts of the threads of `uring`: written by them, read at the window's edges.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::format::RingUse;

/// What the rings of a worker have done so far.
#[derive(Default)]
pub(crate) struct RingCounts {
    pub(super) rings: AtomicU64,
    pub(super) turns: AtomicU64,
    pub(super) completions: AtomicU64,
    pub(super) held_ns: AtomicU64,
}

impl RingCounts {
    /// `None` under the engines without one.
    pub(crate) fn usage(&self) -> Option<RingUse> {
        let rings = Some(self.rings.load(Relaxed)).filter(|n| *n > 0)?;
        Some(RingUse {
            rings,
            turns: self.turns.load(Relaxed),
            completions: self.completions.load(Relaxed),
            held_ns: self.held_ns.load(Relaxed),
        })
    }
}
