//! One task a lane: tokio's multi-thread runtime with a worker thread a CPU, or its
//! current-thread runtime, which is concurrency without parallelism.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam::queue::SegQueue;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Notify, Semaphore};

use super::lane::{AsyncLane, Step, arm, timer};
use super::{MOST_CONNECTING, Shot, Trial, pacer};
use crate::plan::Pacer;
use crate::sys::now_ns;

/// Stack of the pacer's thread, which calls nothing deep.
const PACER_STACK_BYTES: usize = 64 * 1024;

pub(super) fn run_multi_thread(trial: &Arc<Trial>) -> Result<(), String> {
    let workers = trial.job.cpus.len().max(1);
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(workers);
    run(trial, builder)
}

pub(super) fn run_current_thread(trial: &Arc<Trial>) -> Result<(), String> {
    run(trial, Builder::new_current_thread())
}

fn run(trial: &Arc<Trial>, mut builder: Builder) -> Result<(), String> {
    let runtime = builder
        .enable_io()
        .enable_time()
        .thread_name("tokio-worker")
        .thread_stack_size(trial.job.stack_size_bytes as usize)
        .build()
        .map_err(|e| format!("the tokio runtime could not be built: {e}"))?;
    trial.progress.expect(trial.job.lanes);
    let releases = Arc::new(Releases::default());
    let pacer = start_pacer(trial, &runtime, &releases)?;
    // As a task of the runtime's: spawned from outside of it, each lane would cost a wake-up of its
    // worker threads and go through the queue that they share.
    let lanes = runtime.spawn(run_lanes(trial.clone(), releases));
    runtime.block_on(lanes).map_err(|e| format!("the task that starts the lanes ended: {e}"))?;
    if let Some(pacer) = pacer
        && !trial.is_cancelled()
    {
        // The pacer ends with the schedule; a panic there has been printed already.
        let _ = pacer.join();
    }
    trial.exit_gate.wait();
    runtime.shutdown_background();
    Ok(())
}

/// Spawns the lanes, a bounded number of them connecting at once, and waits for all to end.
async fn run_lanes(trial: Arc<Trial>, releases: Arc<Releases>) {
    let connecting = Arc::new(Semaphore::new(MOST_CONNECTING as usize));
    let ended = Arc::new(Semaphore::new(0));
    let lanes = trial.job.lanes;
    for id in 0..lanes {
        let permit = connecting.clone().acquire_owned().await;
        let (trial, releases, ended) = (trial.clone(), releases.clone(), ended.clone());
        tokio::spawn(async move {
            let mut lane = AsyncLane::new(&trial, id);
            lane.connect_first(&trial).await;
            drop(permit);
            trial.start_gate.wait_async().await;
            if trial.is_open_loop() {
                run_open(&trial, &mut lane, &releases).await;
            } else if !trial.is_cancelled() {
                let mut timer = pin!(timer(trial.timeout()));
                arm(timer.as_mut()).await;
                lane.run_closed(&trial, timer).await;
            }
            lane.ended(&trial);
            ended.add_permits(1);
        });
    }
    // The semaphore is never closed, so acquiring cannot fail.
    let _ = ended.acquire_many(lanes).await;
}

async fn run_open(trial: &Trial, lane: &mut AsyncLane, releases: &Releases) {
    let mut timer = pin!(timer(trial.timeout()));
    arm(timer.as_mut()).await;
    while let Some(shot) = releases.next().await {
        if trial.is_cancelled() || lane.serve(trial, &shot, timer.as_mut()).await == Step::Over {
            return;
        }
    }
}

/// `precise` paces from a thread as every engine does; `native` from a task, on tokio's timer.
fn start_pacer(
    trial: &Arc<Trial>,
    runtime: &Runtime,
    releases: &Arc<Releases>,
) -> Result<Option<std::thread::JoinHandle<()>>, String> {
    if !trial.is_open_loop() {
        return Ok(None);
    }
    let (trial, releases) = (trial.clone(), releases.clone());
    if trial.job.plan.pacer == Pacer::Native {
        runtime.spawn(pace_natively(trial, releases));
        return Ok(None);
    }
    std::thread::Builder::new()
        .name("pacer".into())
        .stack_size(PACER_STACK_BYTES)
        .spawn(move || {
            trial.start_gate.wait();
            if !trial.is_cancelled() {
                pacer::pace(&trial, |shot| releases.send(shot));
            }
            releases.close();
        })
        .map(Some)
        .map_err(|e| format!("the pacer's thread could not be started: {e}"))
}

async fn pace_natively(trial: Arc<Trial>, releases: Arc<Releases>) {
    trial.start_gate.wait_async().await;
    if !trial.is_cancelled() {
        for (intended, shot) in pacer::shots(&trial) {
            if trial.is_cancelled() {
                break;
            }
            let left = intended.saturating_sub(now_ns());
            if left > 0 {
                tokio::time::sleep(Duration::from_nanos(left)).await;
            }
            releases.send(pacer::release(intended, shot));
        }
    }
    releases.close();
}

/// Releases on their way to tasks: a queue, and one wake-up a release.
#[derive(Default)]
struct Releases {
    queue: SegQueue<Shot>,
    waiting: Notify,
    closed: AtomicBool,
}

impl Releases {
    fn send(&self, shot: Shot) {
        self.queue.push(shot);
        self.waiting.notify_one();
    }

    fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.waiting.notify_waiters();
    }

    /// The next release; `None` when the schedule has ended and the queue is empty.
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
