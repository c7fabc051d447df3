//! How rings are used, and what their threads count: written by them, read at the window's edges.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::format::RingUse;

/// How a ring is used: the axes of the engine.
#[derive(Clone, Copy)]
pub(crate) struct Manner {
    pub(crate) multishot: bool,
    /// Completions to wait for, and how long once the first is there.
    pub(crate) batch: u32,
    pub(crate) linger_ns: u64,
}

/// What became of a turn that had to wait.
#[derive(Default)]
pub(crate) struct Waited {
    /// It slept for the whole time, and so much longer.
    pub(super) overslept_ns: Option<u64>,
    /// For so long it watched the ring instead of sleeping.
    pub(super) watched_ns: u64,
}

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
