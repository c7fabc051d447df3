//! One measured cell, as a plan sees it.

use crate::format::TrialRecord;
use crate::plan::Cell;
use crate::plan::cell::Family;
use crate::report::summary::for_levels;
use crate::stats::median;

/// One cell: medians over its trials.
pub(super) struct Point<'a> {
    pub(super) cell: &'a Cell,
    pub(super) trials: Vec<&'a TrialRecord>,
    pub(super) rate_per_s: f64,
    pub(super) cpu_per_request_ns: f64,
    /// Mean response time, in a closed loop service time; `None` where nothing completed.
    pub(super) latency_ns: Option<f64>,
}

impl Point<'_> {
    pub(super) fn of<'a>(Family { cell, members, .. }: Family<'a, &'a TrialRecord>) -> Point<'a> {
        let trials = for_levels(&members);
        let means: Vec<f64> = trials.iter().filter_map(|t| Some(t.latency()?.mean)).collect();
        Point {
            cell,
            rate_per_s: middle(&trials, |t| t.achieved_per_s),
            cpu_per_request_ns: middle(&trials, |t| t.cpu.per_request_ns),
            latency_ns: median(&means),
            trials,
        }
    }

    pub(super) fn p99_ns(&self) -> Option<f64> {
        let all: Vec<f64> =
            self.trials.iter().filter_map(|t| Some(t.latency()?.p99 as f64)).collect();
        median(&all)
    }

    pub(super) fn samples(&self) -> u64 {
        self.trials.iter().filter_map(|t| t.latency()).map(|d| d.count).sum()
    }

    /// Share of the planned requests of the worst trial that did not complete: they took for ever.
    pub(super) fn lost(&self) -> f64 {
        let share = |t: &&TrialRecord| {
            let l = &t.ledger;
            (l.planned - l.completed) as f64 / l.planned.max(1) as f64
        };
        self.trials.iter().map(share).fold(0.0, f64::max)
    }
}

/// The median over trials; zero without any.
pub(super) fn middle(trials: &[&TrialRecord], of: impl Fn(&TrialRecord) -> f64) -> f64 {
    median(&trials.iter().map(|t| of(t)).collect::<Vec<f64>>()).unwrap_or(0.0)
}
