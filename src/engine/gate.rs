//! Waiting: lanes for the start, the monitor for lanes.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Condvar, Mutex};
use std::time::Duration;

use rustix::thread::futex;
use tokio::sync::Notify;

use crate::sys::now_ns;

/// Closed, then open for ever. Threads wait on a futex and tasks on a notification; opening wakes
/// all of them at once, without a lock that ten thousand lanes would queue for.
pub struct Gate {
    open: AtomicU32,
    tasks: Notify,
}

impl Gate {
    /// A closed gate.
    pub fn new() -> Self {
        Gate { open: AtomicU32::new(0), tasks: Notify::new() }
    }

    /// Opens the gate; more than once does no harm.
    pub fn open(&self) {
        self.open.store(1, Ordering::Release);
        // Waking nobody is no error, and this call has no other.
        let _ = futex::wake(&self.open, futex::Flags::PRIVATE, i32::MAX as u32);
        self.tasks.notify_waiters();
    }

    fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire) == 1
    }

    /// Blocks the thread until the gate opens.
    pub fn wait(&self) {
        while !self.is_open() {
            // An early return (a signal, or the gate opened just now) leads to another look.
            let _ = futex::wait(&self.open, futex::Flags::PRIVATE, 0, None);
        }
    }

    /// Suspends the task until the gate opens.
    pub async fn wait_async(&self) {
        let notified = self.tasks.notified();
        // `notified` counts from its creation, so an opening between here and the await is seen.
        if !self.is_open() {
            notified.await;
        }
    }
}

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}

/// How far the lanes are: told by lanes, watched by the monitor.
pub struct Progress {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Clone, Default)]
struct State {
    expected: u32,
    connected: u32,
    refused: u32,
    error: Option<String>,
    lanes_ended: u32,
    /// Lanes that tick beside the load and have not ended.
    beating: u32,
    ended: bool,
}

impl State {
    fn lanes_done(&self) -> bool {
        self.expected > 0 && self.lanes_ended == self.expected
    }
}

/// What [`Progress::wait_armed`] saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetUp {
    /// Lanes with a connection.
    pub connected: u32,
    /// Why set-up stopped, where it did.
    pub error: Option<String>,
}

impl Progress {
    /// Nothing has happened yet.
    pub fn new() -> Self {
        Progress { state: Mutex::default(), changed: Condvar::new() }
    }

    fn with<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        // A lane that panicked while holding the lock has left plain counters, still valid.
        change(&mut self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    /// How many lanes the engine will make.
    pub fn expect(&self, lanes: u32) {
        self.with(|s| s.expected = lanes);
    }

    /// A lane has its connection and parks.
    pub fn connected(&self) {
        let all = self.with(|s| {
            s.connected += 1;
            s.connected + s.refused == s.expected
        });
        if all {
            self.changed.notify_all();
        }
    }

    /// A lane could not connect; it parks all the same and tries again with its first request.
    pub fn refused(&self) {
        let all = self.with(|s| {
            s.refused += 1;
            s.connected + s.refused == s.expected
        });
        if all {
            self.changed.notify_all();
        }
    }

    /// Lanes that have connected or given up.
    pub fn settled(&self) -> u32 {
        self.with(|s| s.connected + s.refused)
    }

    /// Set-up cannot go on.
    pub fn fail(&self, error: String) {
        self.with(|s| {
            s.error.get_or_insert(error);
        });
        self.changed.notify_all();
    }

    /// A lane has ended; with the last one, and the heartbeat, the trial has.
    pub fn lane_ended(&self) {
        self.end(|s| s.lanes_ended += 1);
    }

    fn end(&self, one: impl FnOnce(&mut State)) {
        let last = self.with(|s| {
            one(s);
            s.ended = s.lanes_done() && s.beating == 0;
            s.ended
        });
        if last {
            self.changed.notify_all();
        }
    }

    /// A heartbeat will tick until the lanes have ended, or the window has.
    pub fn expect_beat(&self) {
        self.with(|s| s.beating += 1);
    }

    /// The heartbeat has ended.
    pub fn beat_ended(&self) {
        self.end(|s| s.beating -= 1);
    }

    /// Whether every lane has ended.
    pub fn lanes_done(&self) -> bool {
        self.with(|s| s.lanes_done())
    }

    /// Blocks a spawning engine while more than `most` lanes are still connecting.
    pub fn throttle(&self, spawned: u32, most: u32, stop: impl Fn() -> bool) {
        while spawned - self.settled() > most && !stop() {
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    /// Makes waiters look again.
    pub fn wake(&self) {
        // Through the lock, so that no waiter is between its look and its wait.
        self.with(|_| ());
        self.changed.notify_all();
    }

    /// Blocks until `done` says so or `until` (CLOCK_MONOTONIC) passes; says whether it did.
    fn wait(&self, until: u64, mut done: impl FnMut(&State) -> bool) -> bool {
        let mut state = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        loop {
            if done(&state) {
                return true;
            }
            let left = until.saturating_sub(now_ns());
            if left == 0 {
                return false;
            }
            state = self
                .changed
                .wait_timeout(state, Duration::from_nanos(left))
                .unwrap_or_else(std::sync::PoisonError::into_inner)
                .0;
        }
    }

    /// Waits until every lane has connected or given up, an error, `stop`, or `until`.
    pub fn wait_armed(&self, until: u64, stop: impl Fn() -> bool) -> SetUp {
        let settled = |s: &State| s.expected > 0 && s.connected + s.refused >= s.expected;
        self.wait(until, |s| settled(s) || s.error.is_some() || stop());
        self.with(|s| SetUp { connected: s.connected, error: s.error.clone() })
    }

    /// Waits until `until`, or `stop`; the engine's end does not shorten a window.
    pub fn wait_until(&self, until: u64, stop: impl Fn() -> bool) {
        self.wait(until, |_| stop());
    }

    /// Waits until the engine has ended, `stop`, or `until`; says whether it has ended.
    pub fn wait_end(&self, until: u64, stop: impl Fn() -> bool) -> bool {
        self.wait(until, |s| s.ended || stop());
        self.with(|s| s.ended)
    }
}

impl Default for Progress {
    fn default() -> Self {
        Self::new()
    }
}
