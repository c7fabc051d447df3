//! Releases the requests of an open loop at their intended starts.
//!
//! `precise`: a thread of its own waits for each absolute instant, under every engine; see
//! [`Sleeper`]. `native`: the engine's own timer, which is the plain sleep of a thread
//! here and tokio's wheel in [`super::tokio`].

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::{Release, Shot, Trial};
use crate::plan::Pacer;
use crate::plan::schedule::Schedule;
use crate::side::Phase;
use crate::sys::{now_ns, sleep_until_ns, thread_cpu_ns};
use crate::units::SECOND_NS;

/// The shots of this worker in order, each with its intended start; not released yet.
pub(super) fn shots(trial: &Trial) -> impl Iterator<Item = (u64, Shot)> + use<> {
    let (worker, workers) = (trial.job.worker, trial.job.workers);
    let phases = *trial.phases();
    let of_phase = move |schedule: Schedule, phase: Phase, base: u64| {
        schedule.share(worker, workers).map(move |arrival| {
            let shot = Shot { index: arrival.request, phase, release: None };
            (base + arrival.offset_ns, shot)
        })
    };
    of_phase(trial.schedule(Phase::Warmup), Phase::Warmup, phases.start).chain(of_phase(
        trial.schedule(Phase::Measured),
        Phase::Measured,
        phases.window_start,
    ))
}

/// Marks a shot as released now; never before its intended start.
pub(super) fn release(intended: u64, shot: Shot) -> Shot {
    let handed = now_ns();
    let released = handed.max(intended);
    Shot { release: Some(Release { intended, released, handed }), ..shot }
}

/// How long a lane takes to pick a release up: a switch of threads, mostly.
///
/// Where releases are rare the pacer hands them over that much early, and the lane, running by
/// then, spins until the intended start. A request never starts before it.
#[derive(Default)]
pub(super) struct Handover {
    /// Moving average in nanoseconds; approximate, since lanes update it without a lock.
    takes_ns: AtomicU64,
    /// Time that lanes spun for requests of the measured phase.
    spun_ns: AtomicU64,
}

impl Handover {
    /// How much earlier than the intended start to hand a release over.
    fn lead_ns(&self) -> u64 {
        self.takes_ns.load(Relaxed)
    }

    /// A lane has picked a release up: learns, and waits until the intended start.
    pub(super) fn hold(&self, release: &Release, phase: Phase) {
        let lead = self.lead_ns();
        if release.handed >= release.intended && lead == 0 {
            return;
        }
        let picked = now_ns();
        let taken = picked.saturating_sub(release.handed);
        // A release that waited for a lane says nothing of the hand-over.
        if taken < LEAD_MOST_NS {
            self.takes_ns.store((lead * 7 + taken) / 8, Relaxed);
        }
        let mut now = picked;
        while now < release.intended {
            std::hint::spin_loop();
            now = now_ns();
        }
        if phase == Phase::Measured {
            self.spun_ns.fetch_add(now - picked, Relaxed);
        }
    }

    /// Time that lanes spun for requests of the measured phase: pacing, not engine.
    pub(super) fn spun_ns(&self) -> u64 {
        self.spun_ns.load(Relaxed)
    }
}

/// Waits for each intended start on the calling thread and hands the shot to `send`, until the
/// schedule ends or the trial is stopped. Call it after the start gate has opened.
pub(super) fn pace(trial: &Trial, mut send: impl FnMut(Shot)) {
    let mut sleeper = Sleeper::new(trial);
    let mut cpu_at_window = None;
    for (intended, shot) in shots(trial) {
        if trial.is_cancelled() {
            break;
        }
        if shot.phase == Phase::Measured && cpu_at_window.is_none() {
            cpu_at_window = Some(thread_cpu_ns());
        }
        sleeper.wait(intended - trial.handover.lead_ns().min(intended));
        send(release(intended, shot));
    }
    let used = cpu_at_window.map_or(0, |before| thread_cpu_ns() - before);
    let _ = trial.pacer_cpu_ns.set(used);
}

/// What a hand-over is taken to need before the first one was seen.
const FIRST_HANDOVER_NS: u64 = 10_000;
/// Longest time that a wait ends in spinning.
const LEAD_MOST_NS: u64 = 60_000;
/// Mean gap between releases from which spinning costs under a tenth of a CPU, and mostly under a
/// thirtieth, since a wake-up is late by some 30 µs.
const LEAD_FROM_GAP_NS: u64 = 10 * LEAD_MOST_NS;

/// Sleeps until absolute instants, and learns by how much the kernel wakes it late.
///
/// A sleep on the high-resolution timer with a slack of 1 ns wakes tens of microseconds late on a
/// virtual machine. Where releases are rare enough the sleeper asks to be woken that much earlier
/// and spins the rest; where they are frequent it does not, since lanes need the CPU more.
pub(super) struct Sleeper {
    /// How much earlier than wanted to wake; `None` where the wait never spins.
    lead_ns: Option<u64>,
}

impl Sleeper {
    pub(super) fn new(trial: &Trial) -> Self {
        let plan = &trial.job.plan;
        if plan.pacer == Pacer::Native {
            return Sleeper { lead_ns: None };
        }
        // Without it the kernel may deliver a wake-up 50 µs late to batch it with others.
        let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
        let rate = plan.peak_per_s() / f64::from(trial.job.workers);
        let rare = rate * LEAD_FROM_GAP_NS as f64 <= SECOND_NS as f64;
        if rare {
            trial.handover.takes_ns.store(FIRST_HANDOVER_NS, Relaxed);
        }
        Sleeper { lead_ns: rare.then_some(0) }
    }

    /// Waits until `at` on CLOCK_MONOTONIC; returns at once when it has passed.
    pub(super) fn wait(&mut self, at: u64) {
        let early = at - self.lead_ns.unwrap_or(0).min(at);
        if now_ns() < early {
            sleep_until_ns(early);
            if let Some(lead) = &mut self.lead_ns {
                // A moving average over some eight wake-ups, plus a half for their spread.
                let late = (now_ns().saturating_sub(early) * 3 / 2).min(LEAD_MOST_NS);
                *lead = (*lead * 7 + late) / 8;
            }
        }
        while self.lead_ns.is_some() && now_ns() < at {
            std::hint::spin_loop();
        }
    }
}
