//! A lane beside the load that does nothing but tick every millisecond and record how late it is:
//! whatever keeps it waiting keeps every other part of such a program waiting.
//!
//! Ticks are an open loop: those that pass while it waits are recorded when it goes on, each by how
//! long it was due.
//!
//! | engine | what ticks |
//! |---|---|
//! | `sequential` | the one lane, between two requests and while it waits for the next |
//! | `threads` | a thread |
//! | `rayon` | a job for each tick, handed to the pool by a thread that only keeps the time |
//! | `tokio`, `tokio-single` | a task of the lanes' runtime, on its timer of 1 ms |
//!
//! A rayon pool with a thread a lane has one thread more for it. In a pool of cores, jobs that the
//! pool itself made go first: lanes of a closed loop that never wait starve it, as they do anything
//! that such a program hands to its pool.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use rayon::ThreadPool;

use super::Trial;
use crate::side::usage;
use crate::sys::{now_ns, sleep_until_ns};

/// Time between two ticks: what the timers of task engines can tell apart.
const EVERY_NS: u64 = 1_000_000;

/// Stack of a thread that keeps the time.
const STACK_BYTES: usize = 64 * 1024;

/// The ticks of a window.
pub(super) struct Ticks {
    next: u64,
    end: u64,
}

impl Ticks {
    /// From the start of the window, which must be known.
    pub(super) fn new(trial: &Trial) -> Self {
        let phases = trial.phases();
        Ticks { next: phases.window_start, end: phases.window_end }
    }

    /// Records every tick that has come.
    pub(super) fn catch_up(&mut self, trial: &Trial) {
        let now = now_ns();
        while self.next <= now && self.next < self.end {
            trial.recorder.beat(now - self.next);
            self.next += EVERY_NS;
        }
    }

    /// Whether there is no tick to come.
    fn over(&self, trial: &Trial) -> bool {
        self.next >= self.end || trial.is_cancelled() || trial.progress.lanes_done()
    }

    /// Ticks on the calling thread until `until`.
    pub(super) fn tick_until(&mut self, trial: &Trial, until: u64) {
        while self.next < until.min(self.end) && !trial.is_cancelled() {
            sleep_until_ns(self.next);
            self.catch_up(trial);
        }
    }
}

/// Whether the trial has a heartbeat; one that sends nothing has nothing to wait for.
pub(super) fn wanted(trial: &Trial) -> bool {
    trial.job.plan.heartbeat && !trial.job.plan.idle
}

fn spawn(
    trial: &Arc<Trial>,
    beat: impl FnOnce(&Arc<Trial>) + Send + 'static,
) -> Result<(), String> {
    trial.progress.expect_beat();
    let trial = trial.clone();
    let run = move || {
        trial.start_gate.wait();
        if !trial.is_cancelled() {
            // Without it the kernel may deliver a wake-up 50 µs late to batch it with others.
            let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
            beat(&trial);
        }
        usage::thread_ends();
        trial.progress.beat_ended();
    };
    let builder = thread::Builder::new().name("heartbeat".into()).stack_size(STACK_BYTES);
    let failed = |e| format!("the heartbeat's thread could not be started: {e}");
    builder.spawn(run).map(drop).map_err(failed)
}

/// On a thread of its own.
pub(super) fn on_thread(trial: &Arc<Trial>) -> Result<(), String> {
    if !wanted(trial) {
        return Ok(());
    }
    spawn(trial, |trial| {
        let mut ticks = Ticks::new(trial);
        while !ticks.over(trial) {
            sleep_until_ns(ticks.next);
            ticks.catch_up(trial);
        }
    })
}

/// As jobs of a pool, one at a time.
pub(super) fn in_pool(trial: &Arc<Trial>, pool: &Arc<ThreadPool>) -> Result<(), String> {
    if !wanted(trial) {
        return Ok(());
    }
    let pool = pool.clone();
    spawn(trial, move |trial| {
        let ticks = Arc::new(Mutex::new(Ticks::new(trial)));
        let under_way = Arc::new(AtomicBool::new(false));
        let lock = |ticks: &Mutex<Ticks>, look: &mut dyn FnMut(&mut Ticks)| {
            look(&mut ticks.lock().unwrap_or_else(PoisonError::into_inner));
        };
        let (mut next, mut over) = (0, false);
        while !over || (under_way.load(Ordering::Acquire) && !trial.is_cancelled()) {
            lock(&ticks, &mut |t| (next, over) = (t.next, t.over(trial)));
            sleep_until_ns(next.max(now_ns() + EVERY_NS / 4));
            if over || under_way.swap(true, Ordering::AcqRel) {
                continue;
            }
            let (trial, ticks, under_way) = (trial.clone(), ticks.clone(), under_way.clone());
            pool.spawn_fifo(move || {
                lock(&ticks, &mut |t| t.catch_up(&trial));
                under_way.store(false, Ordering::Release);
            });
        }
    })
}

/// As a task of the runtime that it is spawned on.
pub(super) async fn in_task(trial: Arc<Trial>) {
    trial.start_gate.wait_async().await;
    if !trial.is_cancelled() {
        let mut ticks = Ticks::new(&trial);
        while !ticks.over(&trial) {
            super::tokio::wait_natively(ticks.next).await;
            ticks.catch_up(&trial);
        }
    }
    trial.progress.beat_ended();
}
