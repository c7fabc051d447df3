//! One lane on one thread: the requests one after another. `lanes` is ignored.

use std::sync::Arc;

use super::heartbeat::Ticks;
use super::lane::{BlockingLane, NotSent};
use super::pacing;
use super::run::TrialRun;

pub(super) fn run(trial: &Arc<TrialRun>) -> anyhow::Result<()> {
    trial.progress.expect(1);
    let mut lane = BlockingLane::new(trial, 0);
    lane.connect_first(trial);
    trial.start_gate.wait();
    let mut ticks = Ticks::of_lane(trial);
    if trial.is_open_loop() {
        pacing::pace_itself(trial, ticks, |shot| lane.serve(trial, shot) != Err(NotSent::Over));
    } else {
        while lane.step_closed(trial) {
            if let Some(ticks) = &mut ticks {
                ticks.catch_up(trial);
            }
        }
    }
    lane.ended(trial);
    trial.exit_gate.wait();
    Ok(())
}
