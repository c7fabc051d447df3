//! How rings are used, and what their threads count: written by them, read at the window's edges.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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

/// What the rings of a process have done so far. Each thread writes its own, on cache lines that no
/// other thread writes.
#[derive(Default)]
pub(crate) struct RingCounts(Mutex<Vec<Arc<OneRing>>>);

#[derive(Default)]
#[repr(align(128))]
pub(super) struct OneRing {
    pub(super) turns: AtomicU64,
    pub(super) completions: AtomicU64,
    pub(super) held_ns: AtomicU64,
}

impl RingCounts {
    fn all(&self) -> MutexGuard<'_, Vec<Arc<OneRing>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts for one more ring.
    pub(super) fn one_more(&self) -> Arc<OneRing> {
        let one = Arc::<OneRing>::default();
        self.all().push(one.clone());
        one
    }

    /// `None` under the engines without one.
    pub(crate) fn usage(&self) -> Option<RingUse> {
        let all = self.all();
        let sum = |count: fn(&OneRing) -> &AtomicU64| -> u64 {
            all.iter().map(|one| count(one).load(Relaxed)).sum()
        };
        (!all.is_empty()).then(|| RingUse {
            rings: all.len() as u64,
            turns: sum(|one| &one.turns),
            completions: sum(|one| &one.completions),
            held_ns: sum(|one| &one.held_ns),
        })
    }
}
