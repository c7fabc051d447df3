//! Records → one series for each engine, with its lines over lanes and rate.

use std::borrow::Cow;

use super::curve::Curve;
use super::point::{Point, middle};
use super::{CapacityRefusal, REACH, Suggestion, count, next_lanes, refuse};
use crate::format::{Memory, TrialRecord};
use crate::plan::cell::{Family, families};
use crate::plan::engine::LaneThreads;
use crate::plan::server::ServerEngine;
use crate::plan::{Axis, Cell};
use crate::report::summary::is_valid;
use crate::stats::hdr::samples_needed;
use crate::stats::{CONFIDENCE, linear_fit, median};
use crate::units::format_ns;

/// What the lines are drawn over.
pub(super) const ACROSS: [Axis; 2] = [Axis::Lanes, Axis::Load];

/// Valid trials of cells that differ in lanes and rate alone.
pub(super) struct Series<'a> {
    pub(super) name: String,
    pub(super) cell: &'a Cell,
    /// CPUs and processes of the side under test in each cell: what a host runs copies of.
    pub(super) cpus: u32,
    pub(super) processes: u32,
    /// Descriptors and threads of a worker beside those of its lanes.
    pub(super) other_fds: u64,
    pub(super) other_threads: u64,
    pub(super) cells: Vec<Point<'a>>,
}

/// A straight line over the lanes of one worker.
#[derive(Clone, Copy, Default)]
pub(super) struct MemoryLine {
    fixed: f64,
    per_lane: f64,
}

impl MemoryLine {
    /// Bytes of `lanes` over `workers` workers.
    pub(super) fn at(self, lanes: u32, workers: f64) -> f64 {
        self.fixed * workers + self.per_lane * f64::from(lanes)
    }
}

pub(super) struct MemoryLines {
    pub(super) user: MemoryLine,
    pub(super) kernel: Option<MemoryLine>,
    pub(super) kernel_counts: &'static str,
}

impl MemoryLines {
    pub(super) fn per_lane_bytes(&self) -> f64 {
        self.user.per_lane + self.kernel.map_or(0.0, |k| k.per_lane)
    }

    pub(super) fn fixed_bytes(&self) -> f64 {
        self.user.fixed + self.kernel.map_or(0.0, |k| k.fixed)
    }
}

/// The records of a run with the costs of the side under test.
pub(super) fn subjects(records: &[TrialRecord]) -> Cow<'_, [TrialRecord]> {
    match records.iter().any(|r| r.cell.tests_server()) {
        true => records.iter().map(TrialRecord::with_costs_of_subject).collect(),
        false => Cow::Borrowed(records),
    }
}

/// Splits records into series, whose objectives are about all requests or those of a class. Trials
/// that are not valid are left out; an engine without a valid one keeps an empty series, so that it
/// is refused rather than missing.
pub(super) fn series<'a>(records: &'a [TrialRecord], class: Option<&str>) -> Vec<Series<'a>> {
    let timed = records.iter().filter(|r| r.cell.is_timed());
    let all = families(timed.map(|r| (&r.cell, r)), &ACROSS);
    all.into_iter().map(|family| Series::of(family, class)).collect()
}

impl<'a> Series<'a> {
    fn of(
        Family { name, cell, members }: Family<'a, &'a TrialRecord>,
        class: Option<&str>,
    ) -> Series<'a> {
        let of_server = members.iter().filter_map(|r| r.server.as_ref()).map(|s| s.cpus).max();
        let valid = members.into_iter().filter(|r| is_valid(r));
        let cells = families(valid.map(|r| (&r.cell, r)), &[]).into_iter();
        let cells: Vec<Point<'_>> = cells.map(|family| Point::of(family, class)).collect();
        let beside = |of: fn(&TrialRecord) -> u64| {
            let each = |p: &Point<'_>| {
                let most = middle(&p.trials, |t| of(t) as f64) as u64;
                most.saturating_sub(p.cell.total_lanes.into()) / p.processes() as u64
            };
            cells.iter().map(each).max().unwrap_or(0)
        };
        let (cpus, processes) = match cell.tests_server() {
            true => (of_server.unwrap_or(0).max(1), 1),
            false => (cell.cpus, cell.processes),
        };
        let (other_fds, other_threads) = (beside(|t| t.fds_peak), beside(|t| t.threads_peak));
        let mut series = Series { name, cell, cpus, processes, other_fds, other_threads, cells };
        if !series.threads_grow() {
            let threads = |p: &Point<'_>| middle(&p.trials, |t| t.threads_peak as f64) as u64;
            series.other_threads = series.cells.iter().map(threads).max().unwrap_or(0);
        }
        series
    }

    pub(super) fn has_slope(&self) -> bool {
        self.lanes().len() > 1
    }

    pub(super) fn ids(&self) -> Vec<String> {
        self.cells.iter().map(|p| p.cell.id.clone()).collect()
    }

    /// Lanes of one worker, as measured.
    fn lanes(&self) -> Vec<u32> {
        let mut lanes: Vec<u32> = self.cells.iter().map(Point::lanes).collect();
        lanes.sort_unstable();
        lanes.dedup();
        lanes
    }

    /// Whether each lane is a thread of the side under test.
    pub(super) fn threads_grow(&self) -> bool {
        let small = |p: &Point<'_>| p.cell.is_small_pool();
        // Nobody knows how a server of the user's works but from how many threads it had.
        let each = |p: &Point<'_>| {
            middle(&p.trials, |t| t.threads_peak as f64) >= f64::from(p.cell.total_lanes)
        };
        match self.cell.server_under_test() {
            Some(ServerEngine::Own) => self.cells.iter().all(each),
            Some(server) => server.facts().threads == LaneThreads::PerLane,
            None => self.cell.engine.sweeps_stacks() && !self.cells.iter().any(small),
        }
    }

    /// The cells that meet a bound on p99, over their rates.
    pub(super) fn curve(&self, p99_ns: Option<u64>) -> Result<Curve<'_>, CapacityRefusal> {
        if self.cells.is_empty() {
            let next = "run its cells again, or see which gates failed";
            return refuse("no valid trial", next, Some(Suggestion::Longer(1.0)));
        }
        let Some(bound) = p99_ns else {
            return Curve::of(self.cells.iter()).map_or_else(
                || refuse("no request completed in any cell", "see the errors of its trials", None),
                Ok,
            );
        };
        let needed = samples_needed(0.99);
        let (enough, few): (Vec<_>, Vec<_>) =
            self.cells.iter().partition(|p| p.samples() >= needed);
        let meets =
            |p: &Point<'_>| p.lost() <= 0.01 && p.p99_ns.is_some_and(|ns| ns <= bound as f64);
        if let Some(curve) = Curve::of(enough.iter().copied().filter(|p| meets(p))) {
            return Ok(curve);
        }
        let bound = format_ns(bound as f64);
        let lowest = enough.iter().filter_map(|p| p.p99_ns).reduce(f64::min);
        let most = few.iter().map(|p| p.samples()).max().unwrap_or(0);
        let (why, next, suggestion) = match lowest {
            Some(ns) if ns > p99_ns.unwrap_or(0) as f64 => {
                let lowest = format_ns(ns);
                let why =
                    format!("no measured cell met p99 ≤ {bound} (the lowest p99 was {lowest})");
                (why, "measure lower rates or fewer lanes", self.lower())
            }
            _ if !enough.is_empty() => {
                let why =
                    format!("every cell that met p99 ≤ {bound} lost more than 1 % of its requests");
                (why, "see the errors of its trials, or measure lower rates", self.lower())
            }
            _ => {
                let (of, found) = (count(needed as f64), count(most as f64));
                let why = format!(
                    "no cell has the {of} completed requests that a p99 needs (the most were {found})"
                );
                let longer = (2.0 * needed as f64 / most.max(1) as f64).ceil();
                (why, "measure longer, or more trials", Some(Suggestion::Longer(longer)))
            }
        };
        refuse(why, next, suggestion)
    }

    /// A fraction of the least that was measured: rates of an open loop, lanes of a closed one.
    fn lower(&self) -> Option<Suggestion> {
        let rates = self.cells.iter().filter(|p| p.cell.arrivals.is_open()).map(|p| p.rate_per_s);
        if let Some(least) = rates.reduce(f64::min) {
            let part = |share: f64| (least * share * 10.0).ceil() / 10.0;
            return Some(Suggestion::Rates(vec![part(0.125), part(0.25), part(0.5)]));
        }
        let least = self.lanes().first().copied()?;
        let mut lanes = vec![(least / 8).max(1), (least / 4).max(1), (least / 2).max(1)];
        lanes.dedup();
        Some(Suggestion::Lanes(lanes))
    }

    pub(super) fn points(&self, ids: &[String]) -> Vec<&Point<'a>> {
        self.cells.iter().filter(|p| ids.contains(&p.cell.id)).collect()
    }

    pub(super) fn memory(&self) -> Result<MemoryLines, CapacityRefusal> {
        let lanes = self.lanes();
        if self.cell.engine.has_one_lane() && !self.cell.tests_server() {
            return refuse(
                "one lane at a time: it has no slope over lanes to plan by",
                "plan with an engine that has several lanes",
                None,
            );
        }
        let fit = |of: &dyn Fn(&TrialRecord) -> Option<u64>| match self.has_slope() {
            true => self.line(of),
            false => self.whole(of),
        };
        let user = fit(&|t| Some(t.memory.peak_rss_bytes)).unwrap_or_default();
        if self.has_slope() && user.per_lane <= 0.0 {
            let largest = lanes.last().copied().unwrap_or(0);
            let (lanes_text, suggestion) = next_lanes(f64::from(largest) * 16.0);
            return refuse(
                format!(
                    "memory does not grow with lanes between {} and {largest}: the cost per lane is \
                     smaller than the scatter between trials",
                    lanes[0]
                ),
                format!("sweep {lanes_text}"),
                suggestion,
            );
        }
        let (kernel, kernel_counts) = kernel(fit);
        // A line that falls says that lanes are free, which no host should be sized by.
        let kernel =
            kernel.map(|k| MemoryLine { fixed: k.fixed.max(0.0), per_lane: k.per_lane.max(0.0) });
        let user = MemoryLine { fixed: user.fixed.max(0.0), ..user };
        Ok(MemoryLines { user, kernel, kernel_counts })
    }

    /// What the only measured lanes take, as a fixed cost of each worker: with fewer it is no more.
    fn whole(&self, of: &dyn Fn(&TrialRecord) -> Option<u64>) -> Option<MemoryLine> {
        let workers = f64::from(self.processes.max(1));
        let trials = self.cells.iter().flat_map(|p| &p.trials);
        let bytes = trials.map(|t| Some(of(t)? as f64 / workers)).collect::<Option<Vec<f64>>>()?;
        Some(MemoryLine { fixed: median(&bytes)?, per_lane: 0.0 })
    }

    /// A line through all trials, for one worker.
    fn line(&self, of: &dyn Fn(&TrialRecord) -> Option<u64>) -> Option<MemoryLine> {
        let mut points = Vec::new();
        for p in &self.cells {
            for t in &p.trials {
                points.push((f64::from(p.lanes()), of(t)? as f64 / p.processes()));
            }
        }
        let fit = linear_fit(&points, CONFIDENCE)?;
        Some(MemoryLine { fixed: fit.intercept, per_lane: fit.slope })
    }

    /// Whether a worker of so many lanes is within the data: twice the largest, or the only lanes.
    pub(super) fn reaches(&self, lanes: f64) -> Result<(), CapacityRefusal> {
        let largest = f64::from(self.lanes().last().copied().unwrap_or(0));
        let has_slope = self.has_slope();
        if lanes <= largest * if has_slope { REACH } else { 1.0 } {
            return Ok(());
        }
        let (needed, most) = (count(lanes), count(largest));
        let why = match has_slope {
            true => {
                format!("each worker would need {needed} lanes; this run measured up to {most}")
            }
            false => format!(
                "one lane value only ({most}): memory over lanes has no slope, and each worker would \
                 need {needed} lanes"
            ),
        };
        let (text, suggestion) = next_lanes(lanes);
        refuse(why, format!("sweep {text}"), suggestion)
    }
}

/// Kernel memory by the best count that there is, and what it counts.
fn kernel(
    line: impl Fn(&dyn Fn(&TrialRecord) -> Option<u64>) -> Option<MemoryLine>,
) -> (Option<MemoryLine>, &'static str) {
    if let Some(line) = line(&|t| t.memory.kernel_bytes) {
        return (Some(line), "all kernel memory of their cgroup");
    }
    // Of the whole process, as its resident set is: a host holds what stood before the lanes, too.
    let counted = |m: &Memory| Some(m.page_table_bytes? + m.kernel_stack_bytes?);
    match line(&|t| counted(&t.memory)) {
        Some(line) => (Some(line), "page tables and kernel stacks only, sockets not"),
        None => (None, "not measured"),
    }
}
