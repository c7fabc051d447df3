//! Records → one series for each engine, with its lines over lanes and rate.

use std::collections::BTreeSet;

use super::{REACH, Refusal, count, next_lanes, refuse, req_s};
use crate::format::{Memory, TrialRecord};
use crate::plan::cell::{Family, families};
use crate::plan::{Axis, Cell, Engine};
use crate::report::summary::is_valid;
use crate::stats::hdr::samples_needed;
use crate::stats::{CONFIDENCE, linear_fit, median};
use crate::units::format_ns;

/// What the lines are drawn over.
const ACROSS: [Axis; 2] = [Axis::Lanes, Axis::Load];

/// Valid trials of cells that differ in lanes and rate alone.
pub(super) struct Series<'a> {
    pub(super) name: String,
    pub(super) engine: Engine,
    pub(super) cpus: u32,
    pub(super) other_fds: u64,
    pub(super) other_threads: u64,
    cells: Vec<Point<'a>>,
}

/// One cell.
struct Point<'a> {
    cell: &'a Cell,
    trials: Vec<&'a TrialRecord>,
    rate_per_s: f64,
}

/// The measured cell that counts for a bound.
#[derive(Clone, Copy)]
pub(super) struct Best {
    pub(super) rate_per_s: f64,
    pub(super) latency_ns: f64,
    /// Whether a schedule offered the rate.
    pub(super) open: bool,
}

/// A straight line over the lanes of one worker.
#[derive(Clone, Copy)]
pub(super) struct Line {
    fixed: f64,
    per_lane: f64,
}

impl Line {
    /// Bytes of `lanes` over `workers` workers.
    pub(super) fn at(self, lanes: u32, workers: f64) -> f64 {
        self.fixed * workers + self.per_lane * f64::from(lanes)
    }
}

/// Memory over lanes.
pub(super) struct Lines {
    pub(super) user: Line,
    pub(super) kernel: Option<Line>,
    pub(super) kernel_counts: &'static str,
}

impl Lines {
    pub(super) fn per_lane_bytes(&self) -> f64 {
        self.user.per_lane + self.kernel.map_or(0.0, |k| k.per_lane)
    }

    pub(super) fn fixed_bytes(&self) -> f64 {
        self.user.fixed + self.kernel.map_or(0.0, |k| k.fixed)
    }
}

/// Splits records into series. Trials that are not valid are left out; an engine without a valid
/// one keeps an empty series, so that it is refused rather than missing.
pub(super) fn series(records: &[TrialRecord]) -> Vec<Series<'_>> {
    let timed = records.iter().filter(|r| r.cell.is_timed());
    let all = families(timed.map(|r| (&r.cell, r)), &ACROSS);
    all.into_iter().map(Series::of).collect()
}

fn middle(trials: &[&TrialRecord], of: impl Fn(&TrialRecord) -> f64) -> f64 {
    median(&trials.iter().map(|t| of(t)).collect::<Vec<f64>>()).unwrap_or(0.0)
}

impl<'a> Series<'a> {
    fn of(Family { name, cell, members }: Family<'a, &'a TrialRecord>) -> Series<'a> {
        let Cell { engine, cpus, .. } = *cell;
        let valid = members.into_iter().filter(|r| is_valid(r));
        let cells: Vec<Point<'_>> = families(valid.map(|r| (&r.cell, r)), &[])
            .into_iter()
            .map(|Family { cell, members: trials, .. }| Point {
                cell,
                rate_per_s: middle(&trials, |t| t.achieved_per_s),
                trials,
            })
            .collect();
        let beside = |of: fn(&TrialRecord) -> u64| {
            let each = |p: &Point<'_>| {
                let most = middle(&p.trials, |t| of(t) as f64) as u64;
                most.saturating_sub(p.cell.total_lanes.into()) / u64::from(p.cell.processes.max(1))
            };
            cells.iter().map(each).max().unwrap_or(0)
        };
        let (other_fds, threads) = (beside(|t| t.fds_peak), beside(|t| t.threads_peak));
        let most_threads =
            cells.iter().map(|p| middle(&p.trials, |t| t.threads_peak as f64) as u64).max();
        let other_threads =
            if engine.sweeps_stacks() { threads } else { most_threads.unwrap_or(0) };
        Series { name, engine, cpus, other_fds, other_threads, cells }
    }

    fn lanes(&self) -> Vec<u32> {
        let mut lanes: Vec<u32> = self.cells.iter().map(|p| p.cell.total_lanes).collect();
        lanes.sort_unstable();
        lanes.dedup();
        lanes
    }

    /// Whether each lane is a thread.
    pub(super) fn threads_grow(&self) -> bool {
        let small = |p: &Point<'_>| p.cell.is_small_pool();
        self.engine.sweeps_stacks() && !self.cells.iter().any(small)
    }

    /// The cell of the highest rate that met the bound.
    pub(super) fn best(&self, p99_ns: Option<u64>) -> Result<Best, Refusal> {
        if self.cells.is_empty() {
            return refuse("no valid trial", "run its cells again, or see which gates failed");
        }
        let mut seen = None;
        let mut best: Option<Best> = None;
        for p in self.cells.iter().filter(|p| p.rate_per_s > 0.0) {
            let times = |t: &'a TrialRecord| t.response_ns.as_ref().or(t.service_ns.as_ref());
            let of = |q: fn(&crate::format::Distribution) -> f64| {
                median(&p.trials.iter().filter_map(|t| times(t).map(q)).collect::<Vec<f64>>())
            };
            let (Some(mean), Some(p99)) = (of(|d| d.mean), of(|d| d.p99 as f64)) else { continue };
            if let Some(bound) = p99_ns {
                let samples: u64 = p.trials.iter().filter_map(|t| times(t)).map(|d| d.count).sum();
                let lost = p.trials.iter().any(|t| {
                    let l = &t.ledger;
                    (l.planned - l.completed) as f64 > 0.01 * l.planned as f64
                });
                seen = Some(seen.map_or(p99, |s: f64| s.min(p99)));
                if samples < samples_needed(0.99) || lost || p99 > bound as f64 {
                    continue;
                }
            }
            if best.is_none_or(|b| p.rate_per_s > b.rate_per_s) {
                let open = p.cell.arrivals.is_open();
                best = Some(Best { rate_per_s: p.rate_per_s, latency_ns: mean, open });
            }
        }
        best.map_or_else(
            || {
                let least = seen
                    .map_or(String::new(), |ns| format!(" (the lowest p99 was {})", format_ns(ns)));
                refuse(
                    format!("no measured cell met the p99{least} with enough completed requests"),
                    "measure lower rates or fewer lanes, with at least 1,000 requests a cell",
                )
            },
            Ok,
        )
    }

    /// Lines of memory over lanes.
    pub(super) fn memory(&self) -> Result<Lines, Refusal> {
        let lanes = self.lanes();
        if self.engine.has_one_lane() {
            return refuse(
                "one lane at a time: it has no slope over lanes to plan by",
                "plan with an engine that has several lanes",
            );
        }
        let largest = lanes.last().copied().unwrap_or(0);
        if lanes.len() < 2 {
            return refuse(
                format!("one lane value only ({largest}): memory over lanes has no slope"),
                format!("sweep {}", next_lanes(f64::from(largest.max(64)) * 4.0)),
            );
        }
        let user = self.line(|t| Some(t.memory.peak_rss_bytes));
        let Some(user) = user.filter(|l| l.per_lane > 0.0) else {
            return refuse(
                format!(
                    "memory does not grow with lanes between {} and {largest}: a lane costs less \
                     than the trials scatter",
                    lanes[0]
                ),
                format!("sweep {}", next_lanes(f64::from(largest) * 16.0)),
            );
        };
        let whole = self.line(|t| t.memory.kernel_bytes);
        let counted: fn(&Memory) -> Option<u64> =
            |m| Some(m.page_table_bytes? + m.kernel_stack_bytes?);
        let (kernel, kernel_counts) = match whole {
            Some(line) => (Some(line), "all kernel memory of the workers' cgroup"),
            None => match self.line(|t| counted(&t.memory)) {
                Some(line) => (Some(line), "page tables and kernel stacks only, sockets not"),
                None => (None, "not measured"),
            },
        };
        // A line that falls says that lanes are free, which no host should be sized by.
        let kernel =
            kernel.map(|k| Line { fixed: k.fixed.max(0.0), per_lane: k.per_lane.max(0.0) });
        Ok(Lines { user: Line { fixed: user.fixed.max(0.0), ..user }, kernel, kernel_counts })
    }

    /// A line through all trials, for one worker.
    fn line(&self, of: impl Fn(&TrialRecord) -> Option<u64>) -> Option<Line> {
        let mut points = Vec::new();
        for p in &self.cells {
            let workers = f64::from(p.cell.processes.max(1));
            for t in &p.trials {
                points.push((f64::from(p.cell.lanes), of(t)? as f64 / workers));
            }
        }
        let fit = linear_fit(&points, CONFIDENCE)?;
        Some(Line { fixed: fit.intercept, per_lane: fit.slope })
    }

    /// CPU for each request: the slope over swept rates, or that of the dearest measured cell.
    pub(super) fn cpu_per_request_ns(&self) -> f64 {
        let rates: BTreeSet<u64> =
            self.cells.iter().filter_map(|p| p.cell.offered_per_s).map(f64::to_bits).collect();
        let dearest = self
            .cells
            .iter()
            .map(|p| middle(&p.trials, |t| t.cpu.per_request_ns))
            .fold(1.0, f64::max);
        if rates.len() < 2 {
            return dearest;
        }
        let points: Vec<(f64, f64)> = self
            .cells
            .iter()
            .flat_map(|p| &p.trials)
            .map(|t| (t.achieved_per_s, t.cpu.per_request_ns * t.achieved_per_s))
            .collect();
        linear_fit(&points, CONFIDENCE).map(|f| f.slope).filter(|s| *s > 0.0).unwrap_or(dearest)
    }

    /// Whether a worker of so many lanes and requests per second is within twice the data.
    pub(super) fn reaches(&self, lanes: f64, rate: f64) -> Result<(), Refusal> {
        let largest = f64::from(self.lanes().last().copied().unwrap_or(0));
        if lanes > REACH * largest {
            return refuse(
                format!(
                    "a worker would need {} lanes; the data end at {}",
                    count(lanes),
                    count(largest)
                ),
                format!("sweep {}", next_lanes(lanes)),
            );
        }
        let fastest = self.cells.iter().map(|p| p.rate_per_s).fold(0.0, f64::max);
        if rate > REACH * fastest {
            return refuse(
                format!("a worker would send {}; the data end at {}", req_s(rate), req_s(fastest)),
                format!("sweep rates = [{:.0}, {:.0}]", rate / 2.0, rate),
            );
        }
        Ok(())
    }
}
