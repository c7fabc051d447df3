//! One measured cell, as a plan sees it.

use std::borrow::Cow;

use crate::format::{Ledger, TrialRecord};
use crate::plan::Cell;
use crate::plan::cell::Family;
use crate::report::summary::{for_levels, valid};
use crate::stats::{hdr, median};

/// One cell: medians over its trials, and the percentile of all their requests together.
pub(super) struct Point<'a> {
    pub(super) cell: &'a Cell,
    pub(super) trials: Vec<&'a TrialRecord>,
    /// The same as the requests saw them that an objective is about: all, or those of a class.
    pub(super) judged: Vec<Cow<'a, TrialRecord>>,
    /// What was achieved, and no more than was offered: arrivals that came early are no capacity.
    pub(super) rate_per_s: f64,
    pub(super) cpu_per_request_ns: f64,
    /// Mean response time, in a closed loop service time; `None` where nothing completed.
    pub(super) latency_ns: Option<f64>,
    /// Of all requests, lost ones as infinite; `None` where too few were measured or too many lost.
    pub(super) p99_ns: Option<f64>,
}

impl Point<'_> {
    pub(super) fn of<'a>(
        Family { cell, members, .. }: Family<'a, &'a TrialRecord>,
        class: Option<&str>,
    ) -> Point<'a> {
        let trials = for_levels(&valid(&members));
        let judged: Vec<Cow<'_, TrialRecord>> = match class {
            None => trials.iter().map(|t| Cow::Borrowed(*t)).collect(),
            Some(name) => trials.iter().filter_map(|t| t.of_class(name)).map(Cow::Owned).collect(),
        };
        let means: Vec<f64> = trials.iter().filter_map(|t| Some(t.latency()?.mean)).collect();
        let planned = judged.iter().map(|t| t.ledger.planned).sum();
        let merged = hdr::merge(judged.iter().map(AsRef::as_ref), TrialRecord::latency);
        let merged = merged.ok().flatten();
        let p99 = merged.and_then(|h| hdr::percentile(&h, planned, 0.99, None));
        let achieved = middle(&trials, |t| t.achieved_per_s);
        Point {
            cell,
            rate_per_s: cell.offered_per_s.map_or(achieved, |offered| achieved.min(offered)),
            cpu_per_request_ns: middle(&trials, |t| t.cpu.per_request_ns),
            latency_ns: median(&means),
            p99_ns: p99.map(|p99| p99.ns as f64),
            judged,
            trials,
        }
    }

    /// Connections of one process of the side under test, of whose processes a server is one whole.
    pub(super) fn lanes(&self) -> u32 {
        if self.cell.tests_server() { self.cell.total_lanes } else { self.cell.lanes }
    }

    pub(super) fn processes(&self) -> f64 {
        if self.cell.tests_server() { 1.0 } else { f64::from(self.cell.processes.max(1)) }
    }

    /// Share of the requests that an objective is about.
    pub(super) fn judged_share(&self) -> f64 {
        let judged: u64 = self.judged.iter().map(|t| t.ledger.planned).sum();
        let all: u64 = self.trials.iter().map(|t| t.ledger.planned).sum();
        judged as f64 / all.max(1) as f64
    }

    /// Between which values the percentile lies; `None` where it may have been lost.
    pub(super) fn p99_interval(&self) -> Option<(f64, f64)> {
        let judged: Vec<&TrialRecord> = self.judged.iter().map(AsRef::as_ref).collect();
        let (low, high) = hdr::Times::of(&judged, TrialRecord::latency)?.interval(0.99);
        Some((low? as f64, high? as f64))
    }

    pub(super) fn samples(&self) -> u64 {
        self.judged.iter().filter_map(|t| t.latency()).map(|d| d.count).sum()
    }

    /// Share of the planned requests that did not complete: they took for ever.
    pub(super) fn lost(&self) -> f64 {
        let mut all = Ledger::default();
        self.judged.iter().for_each(|t| all += &t.ledger);
        all.lost_share()
    }
}

/// The median over trials; zero without any.
pub(super) fn middle(trials: &[&TrialRecord], of: impl Fn(&TrialRecord) -> f64) -> f64 {
    median(&trials.iter().map(|t| of(t)).collect::<Vec<f64>>()).unwrap_or(0.0)
}
