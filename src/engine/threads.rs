//! One OS thread per lane, blocking sockets.

use std::sync::Arc;
use std::thread;

use anyhow::Context;
use crossbeam::channel::{Receiver, unbounded};

use super::lane::{BlockingLane, NotSent};
use super::release::Shot;
use super::run::TrialRun;
use super::{heartbeat, pacing};

pub(super) fn run(trial: &Arc<TrialRun>) -> anyhow::Result<()> {
    trial.progress.expect(trial.job.cell.lanes);
    heartbeat::on_thread(trial)?;
    let (releases, queue) = unbounded();
    spawn(trial, queue)?;
    trial.start_gate.wait();
    pacing::pace(trial, |shot| {
        // A receiver can only be gone when its lane is.
        let _ = releases.send(shot);
    });
    // The channel ends with the schedule, and the lanes with the channel.
    drop(releases);
    trial.exit_gate.wait();
    Ok(())
}

/// Starts the lanes, a bounded number of them connecting at once.
fn spawn(trial: &Arc<TrialRun>, queue: Receiver<Shot>) -> anyhow::Result<()> {
    let lanes = trial.job.cell.lanes;
    for id in 0..lanes {
        let (lane_trial, queue) = (trial.clone(), queue.clone());
        thread::Builder::new()
            .name(format!("lane-{id}"))
            .stack_size(trial.job.cell.stack_bytes() as usize)
            .spawn(move || run_lane(&lane_trial, id, &queue))
            .with_context(|| format!("thread {} of {lanes} could not be started", id + 1))?;
        trial.progress.throttle(id + 1);
    }
    Ok(())
}

fn run_lane(trial: &Arc<TrialRun>, id: u32, queue: &Receiver<Shot>) {
    let mut lane = BlockingLane::new(trial, id);
    lane.connect_first(trial);
    trial.start_gate.wait();
    if trial.is_open_loop() {
        while let Ok(shot) = queue.recv() {
            if trial.is_cancelled() || lane.serve(trial, &shot) == Err(NotSent::Over) {
                break;
            }
        }
    } else {
        lane.run_closed(trial);
    }
    lane.ended(trial);
    trial.exit_gate.wait();
}
