//! How far the lanes are: told by lanes, watched by the monitor.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use crate::sys::now_ns;

/// Lanes that connect at once: below the usual backlog of a listening socket, whose overflow would
/// cost one second of retransmission.
pub(super) const MOST_CONNECTING: u32 = 128;

#[derive(Default)]
pub(crate) struct LaneProgress {
    counts: Mutex<LaneCounts>,
    changed: Condvar,
    cancelled: AtomicBool,
}

#[derive(Default)]
struct LaneCounts {
    expected: u32,
    /// Lanes that have tried to connect, and those that could.
    settled: u32,
    connected: u32,
    error: Option<String>,
    lanes_ended: u32,
    /// Heartbeats beside the lanes that have not ended.
    beating: u32,
    ended: bool,
}

impl LaneCounts {
    fn lanes_done(&self) -> bool {
        self.expected > 0 && self.lanes_ended == self.expected
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SetUp {
    pub(crate) connected: u32,
    /// Why set-up stopped, where it did.
    pub(crate) error: Option<String>,
}

impl LaneProgress {
    fn with<R>(&self, change: impl FnOnce(&mut LaneCounts) -> R) -> R {
        // A lane that panicked while holding the lock has left plain counters, still valid.
        change(&mut self.counts.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn expect(&self, lanes: u32) {
        self.with(|counts| counts.expected = lanes);
    }

    /// A lane parks, with its connection or to try again with its first request.
    pub(super) fn settled(&self, connected: bool) {
        let all = self.with(|counts| {
            counts.settled += 1;
            counts.connected += u32::from(connected);
            counts.settled == counts.expected
        });
        if all {
            self.changed.notify_all();
        }
    }

    pub(crate) fn fail(&self, error: String) {
        self.with(|counts| {
            counts.error.get_or_insert(error);
        });
        self.changed.notify_all();
    }

    /// A lane has ended; with the last one, and the heartbeat, the trial has.
    pub(super) fn lane_ended(&self) {
        self.end(|counts| counts.lanes_ended += 1);
    }

    fn end(&self, one: impl FnOnce(&mut LaneCounts)) {
        let last = self.with(|counts| {
            one(counts);
            counts.ended = counts.lanes_done() && counts.beating == 0;
            counts.ended
        });
        if last {
            self.changed.notify_all();
        }
    }

    /// A heartbeat will tick until the lanes have ended, or the window has.
    pub(super) fn expect_beat(&self) {
        self.with(|counts| counts.beating += 1);
    }

    pub(super) fn beat_ended(&self) {
        self.end(|counts| counts.beating -= 1);
    }

    pub(super) fn lanes_done(&self) -> bool {
        self.with(|counts| counts.lanes_done())
    }

    /// Blocks an engine that has started so many lanes while too many of them are connecting.
    pub(super) fn throttle(&self, started: u32) {
        let connecting = || started - self.with(|counts| counts.settled);
        while connecting() > MOST_CONNECTING && !self.is_cancelled() {
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    /// Stops the trial and makes waiters look again.
    pub(super) fn cancel(&self) {
        self.cancelled.store(true, Relaxed);
        // Through the lock, so that no waiter is between its look and its wait.
        self.with(|_| ());
        self.changed.notify_all();
    }

    #[inline]
    pub(super) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Relaxed)
    }

    /// Blocks until `done` says so or `until` (CLOCK_MONOTONIC) passes.
    fn wait(&self, until: u64, mut done: impl FnMut(&LaneCounts) -> bool) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        while !done(&counts) {
            let left = until.saturating_sub(now_ns());
            if left == 0 {
                return;
            }
            counts = self
                .changed
                .wait_timeout(counts, Duration::from_nanos(left))
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Waits until every lane has connected or given up, an error, `stop`, or `until`.
    pub(crate) fn wait_armed(&self, until: u64, stop: impl Fn() -> bool) -> SetUp {
        let settled = |c: &LaneCounts| c.expected > 0 && c.settled >= c.expected;
        self.wait(until, |counts| settled(counts) || counts.error.is_some() || stop());
        self.with(|counts| SetUp { connected: counts.connected, error: counts.error.clone() })
    }

    /// Waits until `until`, or `stop`; the engine's end does not shorten a window.
    pub(crate) fn wait_until(&self, until: u64, stop: impl Fn() -> bool) {
        self.wait(until, |_| stop());
    }

    /// Waits until the engine has ended, `stop`, or `until`; says whether it has ended.
    pub(crate) fn wait_end(&self, until: u64, stop: impl Fn() -> bool) -> bool {
        self.wait(until, |counts| counts.ended || stop());
        self.with(|counts| counts.ended)
    }
}
