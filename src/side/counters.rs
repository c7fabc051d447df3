//! The shared page: started and ended requests by shard, always on.
//!
//! The worker adds, the driver maps the page read-only for progress, in-flight samples and the
//! timeline. A shard is [`STRIDE`] counters, one cache line pair, so that shards do not contend.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::Phase;
use crate::format::Ledger;
use crate::sys::SharedCounters;

/// Counters of a shard: 16 × 8 bytes.
pub(crate) const STRIDE: usize = 16;

const STARTED: usize = 0;
const COMPLETED: usize = 2;
const FAILED: usize = 4;
const TIMED_OUT: usize = 6;

pub struct Counters {
    page: SharedCounters,
    shards: usize,
    /// One thread writes each shard.
    alone: bool,
}

/// Adds to a count. One that a single thread writes needs no locked instruction: a request has seven
/// of them, which would take longer than the rest of recording it.
#[inline]
pub(crate) fn add(count: &AtomicU64, n: u64, alone: bool) {
    if alone {
        count.store(count.load(Relaxed).wrapping_add(n), Relaxed);
    } else {
        count.fetch_add(n, Relaxed);
    }
}

/// A reading of the page, summed over shards.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub started: u64,
    pub completed: u64,
    pub failed: u64,
    pub timed_out: u64,
}

impl Counts {
    /// Requests ended, however they ended.
    pub(crate) fn ended(&self) -> u64 {
        self.completed + self.failed + self.timed_out
    }

    pub(crate) fn in_flight(&self) -> u64 {
        self.started.saturating_sub(self.ended())
    }

    /// The ledger of a phase in which `planned` requests were asked for: what started and has not
    /// ended is timed out, what has not started is unsent.
    pub(crate) fn ledger(&self, planned: u64) -> Ledger {
        Ledger {
            planned,
            completed: self.completed,
            failed: self.failed,
            timed_out: self.started.saturating_sub(self.completed + self.failed),
            unsent: planned.saturating_sub(self.started),
        }
    }
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Counts) {
        let Counts { started, completed, failed, timed_out } = other;
        self.started += started;
        self.completed += completed;
        self.failed += failed;
        self.timed_out += timed_out;
    }
}

impl std::iter::Sum for Counts {
    fn sum<I: Iterator<Item = Counts>>(each: I) -> Counts {
        each.fold(Counts::default(), |mut sum, counts| {
            sum += counts;
            sum
        })
    }
}

impl Counters {
    /// Makes the page of a worker; the descriptor is for the driver to open.
    pub fn create(shards: usize) -> std::io::Result<(Self, OwnedFd)> {
        let (page, fd) = SharedCounters::create(shards * STRIDE)?;
        Ok((Counters { page, shards, alone: false }, fd))
    }

    /// Maps a worker's page for reading.
    pub fn open(fd: impl AsFd, shards: usize) -> std::io::Result<Self> {
        let page = SharedCounters::open(fd, shards * STRIDE)?;
        Ok(Counters { page, shards, alone: false })
    }

    /// Says whether one thread writes each shard, before any does.
    pub(super) fn written_alone(&mut self, alone: bool) {
        self.alone = alone;
    }

    #[inline]
    fn add(&self, shard: usize, counter: usize, phase: Phase) {
        add(&self.page.as_slice()[shard * STRIDE + counter + phase as usize], 1, self.alone);
    }

    #[inline]
    pub(super) fn started(&self, shard: usize, phase: Phase) {
        self.add(shard, STARTED, phase);
    }

    #[inline]
    pub(super) fn completed(&self, shard: usize, phase: Phase) {
        self.add(shard, COMPLETED, phase);
    }

    pub(super) fn failed(&self, shard: usize, phase: Phase) {
        self.add(shard, FAILED, phase);
    }

    pub(super) fn timed_out(&self, shard: usize, phase: Phase) {
        self.add(shard, TIMED_OUT, phase);
    }

    fn sum(&self, counter: usize, phase: Phase) -> u64 {
        let at = counter + phase as usize;
        let page: &[AtomicU64] = self.page.as_slice();
        (0..self.shards).map(|s| page[s * STRIDE + at].load(Relaxed)).sum()
    }

    /// Reads one phase. Ends are read before starts, so that `started ≥ ended` always.
    pub fn read(&self, phase: Phase) -> Counts {
        let timed_out = self.sum(TIMED_OUT, phase);
        let failed = self.sum(FAILED, phase);
        let completed = self.sum(COMPLETED, phase);
        std::sync::atomic::fence(std::sync::atomic::Ordering::Acquire);
        let started = self.sum(STARTED, phase);
        Counts { started, completed, failed, timed_out }
    }
}
