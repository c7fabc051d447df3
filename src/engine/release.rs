//! Requests on their way to lanes.

use std::num::NonZeroU64;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam::queue::SegQueue;
use tokio::sync::Notify;

use crate::side::Phase;

#[derive(Debug, Clone, Copy)]
pub(super) struct Shot {
    /// Index in the trial's sequence of its phase; decides which entry of the mix is sent.
    pub(super) index: u64,
    pub(super) phase: Phase,
    /// `None` in a closed loop.
    pub(super) release: Option<Release>,
}

/// An open loop's part of a shot: the intended start travels with the request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Release {
    pub(super) intended: u64,
    pub(super) released: u64,
    /// When the pacer handed it over: before `intended` where the pacer allows for the time that
    /// the hand-over takes.
    pub(super) handed: NonZeroU64,
}

/// Where the tasks of an engine get their releases from.
pub(super) trait ReleaseSource {
    /// The next release; `None` when the schedule has ended and nothing waits.
    fn next(&self) -> impl Future<Output = Option<Shot>>;
}

/// Releases on their way to tasks: a queue, and one wake-up per release.
#[derive(Default)]
pub(super) struct Releases {
    queue: SegQueue<Shot>,
    waiting: Notify,
    closed: AtomicBool,
}

impl Releases {
    pub(super) fn send(&self, shot: Shot) {
        self.queue.push(shot);
        self.waiting.notify_one();
    }

    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.waiting.notify_waiters();
    }
}

impl ReleaseSource for Releases {
    async fn next(&self) -> Option<Shot> {
        loop {
            // Counted from its creation: a release or an end after this line is not missed.
            let mut waiting = pin!(self.waiting.notified());
            waiting.as_mut().enable();
            // Read before the queue: nothing is pushed after closing.
            let closed = self.closed.load(Ordering::Acquire);
            if let Some(shot) = self.queue.pop() {
                return Some(shot);
            }
            if closed {
                return None;
            }
            waiting.await;
        }
    }
}
