//! One lane on one thread: the requests one after another. `lanes` is ignored.

use std::sync::Arc;

use super::heartbeat::{self, Ticks};
use super::lane::{BlockingLane, Step};
use super::{Release, Trial, pacer};
use crate::side::Phase;
use crate::sys::{now_ns, thread_cpu_ns};

pub(super) fn run(trial: &Arc<Trial>) -> Result<(), String> {
    trial.progress.expect(1);
    let mut lane = BlockingLane::new(trial, 0);
    lane.connect_first(trial);
    trial.start_gate.wait();
    if trial.is_open_loop() {
        run_open(trial, &mut lane);
    } else if heartbeat::wanted(trial) && !trial.is_cancelled() {
        let mut ticks = Ticks::new(trial);
        while lane.step_closed(trial) {
            ticks.catch_up(trial);
        }
    } else {
        lane.run_closed(trial);
    }
    lane.ended(trial);
    trial.exit_gate.wait();
    Ok(())
}

/// The lane paces itself: a request whose time came while the lane was busy was due, and so
/// released, at its intended start; it waited for the lane, not for the pacer.
fn run_open(trial: &Trial, lane: &mut BlockingLane) {
    if trial.is_cancelled() {
        return;
    }
    let mut ticks = heartbeat::wanted(trial).then(|| Ticks::new(trial));
    let mut sleeper = pacer::Sleeper::new(trial);
    let mut pacing_ns = 0;
    for (intended, shot) in pacer::shots(trial) {
        if trial.is_cancelled() {
            return;
        }
        if let Some(ticks) = &mut ticks {
            ticks.catch_up(trial);
            ticks.tick_until(trial, intended);
        }
        let shot = if now_ns() < intended {
            let before = thread_cpu_ns();
            sleeper.wait(intended);
            if shot.phase == Phase::Measured {
                pacing_ns += thread_cpu_ns() - before;
            }
            pacer::release(intended, shot)
        } else {
            super::Shot {
                release: Some(Release { intended, released: intended, handed: intended }),
                ..shot
            }
        };
        if lane.serve(trial, &shot) == Step::Over {
            break;
        }
    }
    let _ = trial.pacer_cpu_ns.set(pacing_ns);
}
