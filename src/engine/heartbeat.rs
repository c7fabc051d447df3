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
//! | `uring` | the thread of the first ring, between two turns, which wait no longer than for it |
//!
//! A rayon pool with a thread per lane has one thread more for it. In a pool of cores, jobs that the
//! pool itself made go first: lanes of a closed loop that never wait starve it, as they do anything
//! that such a program hands to its pool.

use std::sync::Arc;
use std::thread;

use anyhow::Context;
use crossbeam::channel::bounded;
use rayon::ThreadPool;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use super::run::TrialRun;
use super::timer::wait_until;
use crate::side::usage;
use crate::sys::{now_ns, sleep_until_ns, wake_promptly};

/// Time between two ticks: what the timers of task engines can tell apart.
const EVERY_NS: u64 = 1_000_000;

/// Stack of a thread that keeps the time.
const STACK_BYTES: usize = 64 * 1024;

pub(super) struct Ticks {
    next: u64,
    end: u64,
}

impl Ticks {
    fn new(trial: &TrialRun) -> Self {
        let phases = trial.phases();
        Ticks { next: phases.window_start, end: phases.window_end }
    }

    /// Those of a lane that ticks by itself, where the trial has a heartbeat. Call it after the
    /// start gate has opened.
    pub(super) fn of_lane(trial: &TrialRun) -> Option<Self> {
        wanted(trial).then(|| Ticks::new(trial))
    }

    pub(super) fn due(&self) -> u64 {
        if self.next < self.end { self.next } else { u64::MAX }
    }

    /// Records every tick that has come.
    pub(super) fn catch_up(&mut self, trial: &TrialRun) {
        let now = now_ns();
        while self.next <= now && self.next < self.end {
            trial.recorder.beat(now - self.next);
            self.next += EVERY_NS;
        }
    }

    /// Whether there is no tick to come. A window by time has all of its ticks, also those that its last
    /// request made late.
    fn over(&self, trial: &TrialRun) -> bool {
        let by_count = self.end == u64::MAX;
        self.next >= self.end || trial.is_cancelled() || by_count && trial.progress.lanes_done()
    }

    /// Ticks on the calling thread until `until`.
    pub(super) fn tick_until(&mut self, trial: &TrialRun, until: u64) {
        while self.next < until.min(self.end) && !trial.is_cancelled() {
            sleep_until_ns(self.next);
            self.catch_up(trial);
        }
    }
}

/// Whether the trial has a heartbeat; one that sends nothing has nothing to wait for.
pub(super) fn wanted(trial: &TrialRun) -> bool {
    trial.job.plan.heartbeat && !trial.job.plan.idle
}

/// Starts a thread for the heartbeat, where there is one.
fn spawn(
    trial: &Arc<TrialRun>,
    beat: impl FnOnce(&Arc<TrialRun>, Ticks) + Send + 'static,
) -> anyhow::Result<()> {
    if !wanted(trial) {
        return Ok(());
    }
    trial.progress.expect_beat();
    let trial = trial.clone();
    let run = move || {
        trial.start_gate.wait();
        if !trial.is_cancelled() {
            wake_promptly();
            beat(&trial, Ticks::new(&trial));
        }
        usage::thread_ends();
        trial.progress.beat_ended();
    };
    let builder = thread::Builder::new().name("heartbeat".into()).stack_size(STACK_BYTES);
    builder.spawn(run).map(drop).context("the heartbeat's thread could not be started")
}

pub(super) fn on_thread(trial: &Arc<TrialRun>) -> anyhow::Result<()> {
    spawn(trial, |trial, mut ticks| {
        while !ticks.over(trial) {
            sleep_until_ns(ticks.next);
            ticks.catch_up(trial);
        }
    })
}

/// As jobs of a pool, one at a time: each takes the ticks with it and brings them back.
pub(super) fn in_pool(trial: &Arc<TrialRun>, pool: &Arc<ThreadPool>) -> anyhow::Result<()> {
    let pool = pool.clone();
    spawn(trial, move |trial, mut ticks| {
        let (back, returned) = bounded(1);
        while !ticks.over(trial) {
            let due = ticks.next;
            sleep_until_ns(due);
            let (job_trial, back) = (trial.clone(), back.clone());
            pool.spawn_fifo(move || {
                ticks.catch_up(&job_trial);
                // The receiver is there until the job has ended.
                let _ = back.send(ticks);
            });
            // By then the job has mostly ended, so that this thread wakes once per tick.
            sleep_until_ns(due + EVERY_NS);
            let Ok(caught_up) = returned.recv() else { return };
            ticks = caught_up;
        }
    })
}

pub(super) fn on_runtime(trial: &Arc<TrialRun>, runtime: &Runtime) -> Option<JoinHandle<()>> {
    if !wanted(trial) {
        return None;
    }
    trial.progress.expect_beat();
    let trial = trial.clone();
    Some(runtime.spawn(async move {
        trial.start_gate.wait_async().await;
        if !trial.is_cancelled() {
            let mut ticks = Ticks::new(&trial);
            while !ticks.over(&trial) {
                wait_until(ticks.next).await;
                ticks.catch_up(&trial);
            }
        }
        trial.progress.beat_ended();
    }))
}
