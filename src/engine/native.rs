//! The pacer of tasks: a thread of its own, or a task on tokio's timer of 1 ms, whose CPU time is
//! calibrated, since a task has no clock of its own.

use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use anyhow::Context;
use tokio::runtime::Runtime;

use super::pacing;
use super::release::Releases;
use super::run::TrialRun;
use super::timer::wait_until;
use crate::plan::Pacer;
use crate::side::{Phase, usage};
use crate::sys::{now_ns, process_cpu_ns};
use crate::units::SECOND_NS;

/// Stack of the pacer's thread, which calls nothing deep.
const PACER_STACK_BYTES: usize = 64 * 1024;
/// Longest calibration, a part of set-up.
const CALIBRATE_NS: u64 = 250_000_000;
/// Most releases that a calibration paces.
const CALIBRATE_MOST: u64 = 5_000;

/// Starts the pacer of an open loop: `precise` is a thread that the caller joins, `native` a task.
pub(super) fn start(
    trial: &Arc<TrialRun>,
    runtime: &Runtime,
    releases: &Arc<Releases>,
) -> anyhow::Result<Option<JoinHandle<()>>> {
    if !trial.is_open_loop() {
        return Ok(None);
    }
    let (trial, releases) = (trial.clone(), releases.clone());
    if trial.job.plan.pacer == Pacer::Native {
        let cost_ns = calibrate(&trial, runtime);
        runtime.spawn(pace(trial, releases, cost_ns));
        return Ok(None);
    }
    let run = move || {
        trial.start_gate.wait();
        pacing::pace(&trial, |shot| releases.send(shot));
        usage::thread_ends();
        releases.close();
    };
    let builder = Builder::new().name("pacer".into()).stack_size(PACER_STACK_BYTES);
    builder.spawn(run).map(Some).context("the pacer's thread could not be started")
}

/// CPU that the runtime's own timer costs per release: a task that paces at the trial's rate and
/// releases nothing. `None` where releases are too rare to pace some in time.
fn calibrate(trial: &TrialRun, runtime: &Runtime) -> Option<u64> {
    let rate = trial.job.plan.offered_per_s? / f64::from(trial.job.workers);
    let gap_ns = (SECOND_NS as f64 / rate) as u64;
    let releases = (CALIBRATE_NS / gap_ns.max(1)).min(CALIBRATE_MOST);
    let before = process_cpu_ns();
    let paced = runtime.block_on(async move {
        let start = now_ns();
        tokio::spawn(async move {
            for i in 1..=releases {
                wait_until(start + i * gap_ns).await;
            }
        })
        .await
    });
    let spent = process_cpu_ns() - before;
    (paced.is_ok() && releases > 0).then(|| spent / releases)
}

async fn pace(trial: Arc<TrialRun>, releases: Arc<Releases>, cost_ns: Option<u64>) {
    trial.start_gate.wait_async().await;
    // Told before each release: the end of the last request ends the window, and this is read.
    if cost_ns.is_some() {
        trial.handover.paced(0);
    }
    if !trial.is_cancelled() {
        for due in pacing::shots(&trial) {
            if trial.is_cancelled() {
                break;
            }
            wait_until(due.intended).await;
            if let Some(cost_ns) = cost_ns.filter(|_| due.shot.phase == Phase::Measured) {
                trial.handover.paced(cost_ns);
            }
            releases.send(due.release());
        }
    }
    releases.close();
}
