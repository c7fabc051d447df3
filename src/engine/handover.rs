//! What handing a release to a lane takes, and what pacing costs.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::release::Release;
use crate::side::Phase;
use crate::sys::now_ns;

/// Longest time that a wait ends in spinning.
pub(super) const LEAD_MOST_NS: u64 = 60_000;
/// What a hand-over is taken to need before the first one was seen.
const FIRST_HANDOVER_NS: u64 = 10_000;

/// How long a lane takes to pick a release up (a switch of threads, mostly), and the CPU time that
/// pacing took.
///
/// Where releases are rare the pacer hands them over that much early, and the lane, running by
/// then, spins until the intended start. A request never starts before it.
#[derive(Default)]
pub(super) struct Handover {
    /// Moving average in nanoseconds; approximate, since lanes update it without a lock.
    takes_ns: AtomicU64,
    /// Time that lanes spun for requests of the measured phase.
    spun_ns: AtomicU64,
    pacer_cpu_ns: OnceLock<u64>,
}

impl Handover {
    pub(super) fn start_early(&self) {
        self.takes_ns.store(FIRST_HANDOVER_NS, Relaxed);
    }

    /// How much earlier than the intended start to hand a release over.
    pub(super) fn lead_ns(&self) -> u64 {
        self.takes_ns.load(Relaxed)
    }

    /// A lane has picked a release up: learns, and waits until the intended start.
    pub(super) fn hold(&self, release: &Release, phase: Phase) {
        let lead = self.lead_ns();
        let handed = release.handed.get();
        if handed >= release.intended && lead == 0 {
            return;
        }
        let picked = now_ns();
        let taken = picked.saturating_sub(handed);
        // A release that waited for a lane says nothing about the hand-over.
        if taken < LEAD_MOST_NS {
            self.takes_ns.store((lead * 7 + taken) / 8, Relaxed);
        }
        let mut now = picked;
        while now < release.intended {
            std::hint::spin_loop();
            now = now_ns();
        }
        if phase == Phase::Measured {
            self.spun_ns.fetch_add(now - picked, Relaxed);
        }
    }

    /// A lane's thread, pacing by itself, took this much for the measured phase.
    pub(super) fn paced(&self, cpu_ns: u64) {
        self.spun_ns.fetch_add(cpu_ns, Relaxed);
        self.pacer_took(0);
    }

    /// The pacer's thread took this much for the measured phase; the first time that it says so counts.
    pub(super) fn pacer_took(&self, cpu_ns: u64) {
        let _ = self.pacer_cpu_ns.set(cpu_ns);
    }

    /// CPU time of pacing: the pacer's, once that is known, and what lanes spun.
    pub(super) fn cpu_ns(&self) -> Option<u64> {
        self.pacer_cpu_ns.get().map(|pacer| pacer + self.spun_ns.load(Relaxed))
    }
}
