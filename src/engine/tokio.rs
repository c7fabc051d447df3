//! One task per lane: tokio's multi-thread runtime with a worker thread per CPU, or its
//! current-thread runtime, which is concurrency without parallelism.

use std::sync::Arc;

use anyhow::Context;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use super::lane::AsyncLane;
use super::progress::MOST_CONNECTING;
use super::release::Releases;
use super::run::TrialRun;
use super::{heartbeat, native};

pub(super) fn run(trial: &Arc<TrialRun>) -> anyhow::Result<()> {
    let runtime = trial.task_threads.runtime(trial.job.cell.engine.facts().threads)?;
    trial.progress.expect(trial.job.cell.lanes);
    let releases = Arc::new(Releases::default());
    let pacer = native::start(trial, &runtime, &releases)?;
    let heart = heartbeat::on_runtime(trial, &runtime);
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
    ended.context("the task that starts the lanes ended")?;
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

/// Starts the lanes, a bounded number of them connecting at once, and waits for all to end.
async fn run_lanes(trial: Arc<TrialRun>, releases: Arc<Releases>) {
    let connecting = Arc::new(Semaphore::new(MOST_CONNECTING as usize));
    let ended = Arc::new(Semaphore::new(0));
    let lanes = trial.job.cell.lanes;
    for id in 0..lanes {
        let permit = connecting.clone().acquire_owned().await;
        let (trial, releases, ended) = (trial.clone(), releases.clone(), ended.clone());
        tokio::spawn(async move {
            let mut lane = AsyncLane::<TcpStream>::new(&trial, id);
            lane.connect_first(&trial).await;
            drop(permit);
            trial.start_gate.wait_async().await;
            lane.run(&trial, &*releases).await;
            ended.add_permits(1);
            // Closing the connection is no part of a window by count: the process does, when it ends.
            std::future::pending::<()>().await;
        });
    }
    // The semaphore is never closed, so acquiring cannot fail.
    let _ = ended.acquire_many(lanes).await;
}
