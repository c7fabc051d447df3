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
use super::{MOST_CONNECTING, Shot, Trial, heartbeat, offload, pacer};
use crate::plan::Pacer;
use crate::side::{Phase, usage};
use crate::sys::{now_ns, process_cpu_ns};
use crate::units::SECOND_NS;

/// Stack of the pacer's thread, which calls nothing deep.
const PACER_STACK_BYTES: usize = 64 * 1024;

pub(super) fn run_multi_thread(trial: &Arc<Trial>) -> Result<(), String> {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(trial.started_workers() as usize);
    run(trial, builder)
}

pub(super) fn run_current_thread(trial: &Arc<Trial>) -> Result<(), String> {
    run(trial, Builder::new_current_thread())
}

fn run(trial: &Arc<Trial>, mut builder: Builder) -> Result<(), String> {
    builder
        .enable_io()
        .enable_time()
        .thread_name("tokio-worker")
        .thread_stack_size(trial.job.cell.stack_bytes() as usize)
        .on_thread_stop(usage::thread_ends);
    offload::count_blocking(trial, &mut builder, trial.started_workers());
    if let Some(pool) = offload::pool(trial)? {
        let _ = trial.pool.set(pool);
    }
    let runtime =
        builder.build().map_err(|e| format!("the tokio runtime could not be built: {e}"))?;
    let _ = trial.runtime.set(runtime.metrics());
    trial.progress.expect(trial.job.cell.lanes);
    let releases = Arc::new(Releases::default());
    let pacer = start_pacer(trial, &runtime, &releases)?;
    let heart = heartbeat::wanted(trial).then(|| {
        trial.progress.expect_beat();
        runtime.spawn(heartbeat::in_task(trial.clone()))
    });
    // As a task of the runtime's: spawned from outside of it, each lane would cost a wake-up of its
    // worker threads and go through the queue that they share.
    let lanes = runtime.spawn(run_lanes(trial.clone(), releases));
    let ended = runtime.block_on(async {
        let lanes = lanes.await;
        if let Some(heart) = heart {
            // The current-thread runtime runs nothing once this returns.
            let _ = heart.await;
        }
        lanes
    });
    ended.map_err(|e| format!("the task that starts the lanes ended: {e}"))?;
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
    let lanes = trial.job.cell.lanes;
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
        let cost_ns = calibrate(&trial, runtime);
        runtime.spawn(pace_natively(trial, releases, cost_ns));
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
            usage::thread_ends();
            releases.close();
        })
        .map(Some)
        .map_err(|e| format!("the pacer's thread could not be started: {e}"))
}

/// Longest calibration, a part of set-up.
const CALIBRATE_NS: u64 = 250_000_000;
/// Most releases that a calibration paces.
const CALIBRATE_MOST: u64 = 5_000;

/// CPU that the runtime's own timer costs a release: a task that paces at the trial's rate and
/// releases nothing. `None` where releases are too rare to pace some in time.
fn calibrate(trial: &Trial, runtime: &Runtime) -> Option<u64> {
    let rate = trial.job.plan.offered_per_s? / f64::from(trial.job.workers);
    let gap_ns = (SECOND_NS as f64 / rate) as u64;
    let releases = (CALIBRATE_NS / gap_ns.max(1)).min(CALIBRATE_MOST);
    let before = process_cpu_ns();
    let paced = runtime.block_on(async move {
        let start = now_ns();
        tokio::spawn(async move {
            for i in 1..=releases {
                wait_natively(start + i * gap_ns).await;
            }
        })
        .await
    });
    let spent = process_cpu_ns() - before;
    (paced.is_ok() && releases > 0).then(|| spent / releases)
}

pub(super) async fn wait_natively(at: u64) {
    let left = at.saturating_sub(now_ns());
    if left > 0 {
        tokio::time::sleep(Duration::from_nanos(left)).await;
    }
}

async fn pace_natively(trial: Arc<Trial>, releases: Arc<Releases>, cost_ns: Option<u64>) {
    trial.start_gate.wait_async().await;
    let mut measured = 0;
    if !trial.is_cancelled() {
        for (intended, shot) in pacer::shots(&trial) {
            if trial.is_cancelled() {
                break;
            }
            wait_natively(intended).await;
            measured += u64::from(shot.phase == Phase::Measured);
            releases.send(pacer::release(intended, shot));
        }
    }
    if let Some(cost_ns) = cost_ns {
        let _ = trial.pacer_cpu_ns.set(cost_ns * measured);
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
