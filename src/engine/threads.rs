//! One OS thread a lane, blocking sockets.

use std::sync::Arc;
use std::thread;

use crossbeam::channel::{Receiver, unbounded};

use super::lane::{BlockingLane, Step};
use super::{MOST_CONNECTING, Shot, Trial, heartbeat, pacer};

pub(super) fn run(trial: &Arc<Trial>) -> Result<(), String> {
    let lanes = trial.job.cell.lanes;
    trial.progress.expect(lanes);
    heartbeat::on_thread(trial)?;
    let (releases, queue) = unbounded();
    for id in 0..lanes {
        let (trial, queue) = (trial.clone(), queue.clone());
        thread::Builder::new()
            .name(trial.thread_name(id))
            .stack_size(trial.job.cell.stack_bytes() as usize)
            .spawn({
                let trial = trial.clone();
                move || run_lane(&trial, id, &queue)
            })
            .map_err(|e| format!("thread {} of {lanes} could not be started: {e}", id + 1))?;
        trial.progress.throttle(id + 1, MOST_CONNECTING, || trial.is_cancelled());
    }
    drop(queue);
    trial.start_gate.wait();
    if trial.is_open_loop() && !trial.is_cancelled() {
        // The channel ends with the schedule; a receiver can only be gone when its lane is.
        pacer::pace(trial, |shot| {
            let _ = releases.send(shot);
        });
    }
    drop(releases);
    trial.exit_gate.wait();
    Ok(())
}

fn run_lane(trial: &Arc<Trial>, id: u32, queue: &Receiver<Shot>) {
    let mut lane = BlockingLane::new(trial, id);
    lane.connect_first(trial);
    trial.start_gate.wait();
    if trial.is_open_loop() {
        while let Ok(shot) = queue.recv() {
            if trial.is_cancelled() || lane.serve(trial, &shot) == Step::Over {
                break;
            }
        }
    } else if !trial.is_cancelled() {
        lane.run_closed(trial);
    }
    lane.ended(trial);
    trial.exit_gate.wait();
}
