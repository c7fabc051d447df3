//! Pacing of an open loop on rings. The thread that sends is the one that waits, so that no release is
//! handed over.

use std::iter::Peekable;
use std::sync::{Mutex, PoisonError};

use super::pacing::{Due, Sleeper, shots};
use super::reactor::Reactor;
use super::rings::Waited;
use super::run::TrialRun;
use crate::sys::{now_ns, thread_cpu_ns};
use crate::units::SECOND_NS;

/// Longest calibration, a part of set-up.
const CALIBRATE_NS: u64 = 100_000_000;
/// Longest gap that a calibration paces.
const CALIBRATE_GAP_NS: u64 = CALIBRATE_NS / 10;

/// The schedule that the threads of a worker share: whichever has a lane takes what is due.
#[derive(Default)]
pub(super) struct SharedSchedule(Mutex<Option<Shots>>);

type Shots = Peekable<Box<dyn Iterator<Item = Due> + Send>>;

pub(super) enum NextDue {
    Due(Due),
    /// Nothing before that instant.
    Until(u64),
    Ended,
}

impl SharedSchedule {
    /// Takes what is due by `now`.
    pub(super) fn take(&self, trial: &TrialRun, now: u64) -> NextDue {
        // A thread that panicked with it has left the schedule as it was.
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let all = all.get_or_insert_with(|| {
            let shots: Box<dyn Iterator<Item = Due> + Send> = Box::new(shots(trial));
            shots.peekable()
        });
        match all.next_if(|due| due.intended <= now) {
            Some(due) => NextDue::Due(due),
            None => all.peek().map_or(NextDue::Ended, |due| NextDue::Until(due.intended)),
        }
    }
}

/// What waiting takes on a ring that does nothing else, at the trial's rate.
#[derive(Clone, Copy)]
pub(super) struct WaitCosts {
    /// For how long to watch the ring before a release in place of sleeping: as long as falling
    /// asleep and waking up takes, of CPU time or by being late, whichever is more, and at most for
    /// half of the time.
    watch_ns: u64,
    /// CPU time of a wait that the timer ended.
    wait_ns: u64,
}

impl WaitCosts {
    pub(super) fn calibrate(trial: &TrialRun) -> anyhow::Result<Self> {
        let rate = trial.job.plan.peak_per_s() / f64::from(trial.job.workers);
        let gap_ns = (SECOND_NS as f64 / rate).clamp(1.0, CALIBRATE_GAP_NS as f64) as u64;
        let (start, before) = (now_ns(), thread_cpu_ns());
        let (mut waits, mut slept, mut late_ns) = (0, 0, 0);
        while now_ns() < start + CALIBRATE_NS {
            waits += 1;
            let waited = Reactor::turn(start + waits * gap_ns, 0, &mut Vec::new())?;
            slept += u64::from(waited.overslept_ns.is_some());
            late_ns += waited.overslept_ns.unwrap_or(0);
        }
        let wait_ns = (thread_cpu_ns() - before) / slept.max(1);
        let watch_ns = wait_ns.max(late_ns / slept.max(1)).min(gap_ns / 2);
        Ok(WaitCosts { watch_ns, wait_ns })
    }
}

/// Paces on the calling thread, from the start on.
pub(super) struct RingPacer<'s> {
    pub(super) schedule: &'s SharedSchedule,
    sleeper: Sleeper,
    costs: WaitCosts,
}

impl<'s> RingPacer<'s> {
    pub(super) fn new(trial: &TrialRun, schedule: &'s SharedSchedule, costs: WaitCosts) -> Self {
        trial.handover.paced(0);
        RingPacer { schedule, sleeper: Sleeper::new(trial), costs }
    }

    pub(super) fn watch_ns(&self) -> u64 {
        self.sleeper.watches(self.costs.watch_ns)
    }

    /// Books a turn that waited for a release.
    pub(super) fn waited(&mut self, trial: &TrialRun, waited: &Waited) {
        if Reactor::now() < trial.phases().window_start {
            return;
        }
        let mut took_ns = waited.watched_ns;
        if let Some(late) = waited.overslept_ns {
            self.sleeper.woke(late);
            took_ns += self.costs.wait_ns;
        }
        // At once: the turn that ends the last request ends the window, and this is read.
        trial.handover.paced(took_ns);
    }
}
