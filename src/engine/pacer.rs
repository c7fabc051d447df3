//! Releases the requests of an open loop at their intended starts.
//!
//! `precise`: a thread of its own sleeps until each absolute instant with a timer slack of 1 ns,
//! under every engine. `native`: the engine's own timer, which is the plain sleep of a thread
//! here and tokio's wheel in [`super::tokio`].

use super::{Release, Shot, Trial};
use crate::plan::Pacer;
use crate::plan::schedule::Schedule;
use crate::record::Phase;
use crate::sys::{now_ns, sleep_until_ns, thread_cpu_ns};

/// The shots of this worker in order, each with its intended start; not released yet.
pub(super) fn shots(trial: &Trial) -> impl Iterator<Item = (u64, Shot)> + use<> {
    let plan = &trial.job.plan;
    let (worker, workers) = (trial.job.worker, trial.job.workers);
    let phases = *trial.phases();
    let of_phase = move |schedule: Schedule, phase: Phase, base: u64| {
        schedule.share(worker, workers).map(move |arrival| {
            let shot = Shot { index: arrival.index, phase, release: None };
            (base + arrival.offset_ns, shot)
        })
    };
    of_phase(Schedule::warmup(plan), Phase::Warmup, phases.start).chain(of_phase(
        Schedule::window(plan),
        Phase::Measured,
        phases.window_start,
    ))
}

/// Marks a shot as released now; never before its intended start.
pub(super) fn release(intended: u64, shot: Shot) -> Shot {
    let released = now_ns().max(intended);
    Shot { release: Some(Release { intended, released }), ..shot }
}

/// Waits for each intended start on the calling thread and hands the shot to `send`, until the
/// schedule ends or the trial is stopped. Call it after the start gate has opened.
pub(super) fn pace(trial: &Trial, mut send: impl FnMut(Shot)) {
    if trial.job.plan.pacer == Pacer::Precise {
        // Without it the kernel may deliver a wake-up 50 µs late to batch it with others.
        let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
    }
    let mut cpu_at_window = None;
    for (intended, shot) in shots(trial) {
        if trial.is_cancelled() {
            break;
        }
        if shot.phase == Phase::Measured && cpu_at_window.is_none() {
            cpu_at_window = Some(thread_cpu_ns());
        }
        if now_ns() < intended {
            sleep_until_ns(intended);
        }
        send(release(intended, shot));
    }
    let used = cpu_at_window.map_or(0, |before| thread_cpu_ns() - before);
    let _ = trial.pacer_cpu_ns.set(used);
}
