//! Releases the requests of an open loop at their intended starts.
//!
//! `precise`: a thread waits for each absolute instant, under every engine; see [`Sleeper`].
//! `native`: the engine's own timer, which is a plain sleep for threads, and tokio's wheel in
//! [`super::native`].

use std::num::NonZeroU64;

use super::handover::LEAD_MOST_NS;
use super::heartbeat::Ticks;
use super::release::{Release, Shot};
use super::run::TrialRun;
use crate::plan::Pacer;
use crate::plan::schedule::Schedule;
use crate::side::Phase;
use crate::sys::{now_ns, sleep_until_ns, thread_cpu_ns, wake_promptly};
use crate::units::SECOND_NS;

/// Mean gap between releases from which spinning costs under a tenth of a CPU, and mostly under a
/// thirtieth, since a wake-up is late by some 30 µs.
const LEAD_FROM_GAP_NS: u64 = 10 * LEAD_MOST_NS;

/// A shot that is not released yet.
#[derive(Clone, Copy)]
pub(super) struct Due {
    pub(super) intended: u64,
    pub(super) shot: Shot,
}

impl Due {
    /// Marks it as released now; never before its intended start.
    pub(super) fn release(self) -> Shot {
        let handed = now_ns();
        self.release_at(handed.max(self.intended), handed)
    }

    pub(super) fn release_at(self, released: u64, handed: u64) -> Shot {
        // Not zero, which leaves room in a lane for the word that there is no release.
        let handed = NonZeroU64::new(handed).unwrap_or(NonZeroU64::MIN);
        let release = Release { intended: self.intended, released, handed };
        Shot { release: Some(release), ..self.shot }
    }
}

pub(super) fn shots(trial: &TrialRun) -> impl Iterator<Item = Due> + use<> {
    let (worker, workers) = (trial.job.worker, trial.job.workers);
    let phases = *trial.phases();
    let of_phase = move |schedule: Schedule, phase: Phase, base: u64| {
        schedule.share(worker, workers).map(move |arrival| {
            let shot = Shot { index: arrival.request, phase, release: None };
            Due { intended: base + arrival.offset_ns, shot }
        })
    };
    of_phase(trial.schedule(Phase::Warmup), Phase::Warmup, phases.start).chain(of_phase(
        trial.schedule(Phase::Measured),
        Phase::Measured,
        phases.window_start,
    ))
}

/// Waits for each intended start on the calling thread and hands the shot to `send`, until the
/// schedule ends or the trial is stopped; a closed loop has nothing to pace. Call it after the
/// start gate has opened.
pub(super) fn pace(trial: &TrialRun, mut send: impl FnMut(Shot)) {
    if !trial.is_open_loop() || trial.is_cancelled() {
        return;
    }
    let mut sleeper = Sleeper::new(trial);
    let mut cpu_at_window = None;
    let took_ns = |before: Option<u64>| before.map_or(0, |before| thread_cpu_ns() - before);
    let mut shots = shots(trial).peekable();
    while let Some(due) = shots.next().filter(|_| !trial.is_cancelled()) {
        if due.shot.phase == Phase::Measured && cpu_at_window.is_none() {
            cpu_at_window = Some(thread_cpu_ns());
        }
        sleeper.wait(due.intended - trial.handover.lead_ns().min(due.intended));
        // Before the last one goes: the end of its request ends the window, and this is read.
        if shots.peek().is_none() {
            trial.handover.pacer_took(took_ns(cpu_at_window));
        }
        send(due.release());
    }
    // Of one that was stopped.
    trial.handover.pacer_took(took_ns(cpu_at_window));
}

/// Paces the only lane on its own thread, between its requests, until `serve` says that time is
/// over.
///
/// A request whose time came while the lane was busy was due, and so released, at its intended
/// start: it waited for the lane, not for the pacer.
pub(super) fn pace_itself(
    trial: &TrialRun,
    mut ticks: Option<Ticks>,
    mut serve: impl FnMut(&Shot) -> bool,
) {
    let mut sleeper = Sleeper::new(trial);
    // Request by request, for the same reason.
    trial.handover.paced(0);
    for due in shots(trial) {
        if trial.is_cancelled() {
            return;
        }
        if let Some(ticks) = &mut ticks {
            ticks.catch_up(trial);
            ticks.tick_until(trial, due.intended);
        }
        let shot = if now_ns() < due.intended {
            let before = thread_cpu_ns();
            sleeper.wait(due.intended);
            if due.shot.phase == Phase::Measured {
                trial.handover.paced(thread_cpu_ns() - before);
            }
            due.release()
        } else {
            due.release_at(due.intended, due.intended)
        };
        if !serve(&shot) {
            break;
        }
    }
}

/// Sleeps until absolute instants, and learns by how much the kernel wakes it late.
///
/// A sleep on the high-resolution timer with a slack of 1 ns wakes tens of microseconds late on a
/// virtual machine. Where releases are rare enough the sleeper asks to be woken that much earlier
/// and spins the rest; where they are frequent it does not, since lanes need the CPU more.
pub(super) struct Sleeper {
    /// How much earlier than wanted to wake; `None` where the wait never spins.
    lead_ns: Option<u64>,
    /// The user asked for plain sleeps.
    native: bool,
}

impl Sleeper {
    pub(super) fn new(trial: &TrialRun) -> Self {
        let plan = &trial.job.plan;
        if plan.pacer == Pacer::Native {
            return Sleeper { lead_ns: None, native: true };
        }
        wake_promptly();
        let rate = plan.peak_per_s() / f64::from(trial.job.workers);
        let rare = rate * LEAD_FROM_GAP_NS as f64 <= SECOND_NS as f64;
        if rare {
            trial.handover.start_early();
        }
        Sleeper { lead_ns: rare.then_some(0), native: false }
    }

    /// For how long to watch a ring before a release: as was calibrated, or more where it learned so.
    pub(super) fn watches(&self, calibrated_ns: u64) -> u64 {
        if self.native { 0 } else { self.lead_ns.unwrap_or(0).max(calibrated_ns).min(LEAD_MOST_NS) }
    }

    pub(super) fn woke(&mut self, late_ns: u64) {
        if let Some(lead) = &mut self.lead_ns {
            // A moving average over some eight wake-ups, plus a half for their spread.
            let late = (late_ns * 3 / 2).min(LEAD_MOST_NS);
            *lead = (*lead * 7 + late) / 8;
        }
    }

    /// Waits until `at` on CLOCK_MONOTONIC; returns at once when it has passed.
    fn wait(&mut self, at: u64) {
        let early = at - self.lead_ns.unwrap_or(0).min(at);
        if now_ns() < early {
            sleep_until_ns(early);
            self.woke(now_ns().saturating_sub(early));
        }
        while self.lead_ns.is_some() && now_ns() < at {
            std::hint::spin_loop();
        }
    }
}
