//! Records → one series for each engine, with its lines over lanes and rate.

use super::curve::Curve;
use super::point::{Point, middle};
use super::{REACH, Refusal, count, next_lanes, refuse};
use crate::format::{Memory, TrialRecord};
use crate::plan::cell::{Family, families};
use crate::plan::{Axis, Cell, Engine};
use crate::report::summary::is_valid;
use crate::stats::hdr::samples_needed;
use crate::stats::{CONFIDENCE, linear_fit};
use crate::units::format_ns;

/// What the lines are drawn over.
const ACROSS: [Axis; 2] = [Axis::Lanes, Axis::Load];

/// Valid trials of cells that differ in lanes and rate alone.
pub(super) struct Series<'a> {
    pub(super) name: String,
    pub(super) engine: Engine,
    /// CPUs and workers of each cell: what a host runs copies of.
    pub(super) cpus: u32,
    pub(super) processes: u32,
    /// Descriptors and threads of a worker beside those of its lanes.
    pub(super) other_fds: u64,
    pub(super) other_threads: u64,
    cells: Vec<Point<'a>>,
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

impl<'a> Series<'a> {
    fn of(Family { name, cell, members }: Family<'a, &'a TrialRecord>) -> Series<'a> {
        let Cell { engine, cpus, processes, .. } = *cell;
        let valid = members.into_iter().filter(|r| is_valid(r));
        let cells: Vec<Point<'_>> =
            families(valid.map(|r| (&r.cell, r)), &[]).into_iter().map(Point::of).collect();
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
        Series { name, engine, cpus, processes, other_fds, other_threads, cells }
    }

    /// Ids of its cells.
    pub(super) fn ids(&self) -> Vec<String> {
        self.cells.iter().map(|p| p.cell.id.clone()).collect()
    }

    /// Lanes of one worker, as measured.
    fn lanes(&self) -> Vec<u32> {
        let mut lanes: Vec<u32> = self.cells.iter().map(|p| p.cell.lanes).collect();
        lanes.sort_unstable();
        lanes.dedup();
        lanes
    }

    /// Whether each lane is a thread.
    pub(super) fn threads_grow(&self) -> bool {
        let small = |p: &Point<'_>| p.cell.is_small_pool();
        self.engine.sweeps_stacks() && !self.cells.iter().any(small)
    }

    /// The cells that meet a bound on p99, over their rates.
    pub(super) fn curve(&self, p99_ns: Option<u64>) -> Result<Curve<'_>, Refusal> {
        if self.cells.is_empty() {
            return refuse("no valid trial", "run its cells again, or see which gates failed");
        }
        let Some(bound) = p99_ns else {
            return Curve::of(self.cells.iter()).map_or_else(
                || refuse("no request completed in any cell", "see the errors of its trials"),
                Ok,
            );
        };
        let needed = samples_needed(0.99);
        let (enough, few): (Vec<_>, Vec<_>) =
            self.cells.iter().partition(|p| p.samples() >= needed);
        let meets =
            |p: &Point<'_>| p.lost() <= 0.01 && p.p99_ns().is_some_and(|ns| ns <= bound as f64);
        if let Some(curve) = Curve::of(enough.iter().copied().filter(|p| meets(p))) {
            return Ok(curve);
        }
        let bound = format_ns(bound as f64);
        let lowest = enough.iter().filter_map(|p| p.p99_ns()).reduce(f64::min);
        match lowest {
            Some(ns) if ns > p99_ns.unwrap_or(0) as f64 => refuse(
                format!(
                    "no measured cell met p99 ≤ {bound} (the lowest p99 was {})",
                    format_ns(ns)
                ),
                "measure lower rates or fewer lanes",
            ),
            Some(_) => refuse(
                format!("every cell that met p99 ≤ {bound} lost more than 1 % of its requests"),
                "see the errors of its trials, or measure lower rates",
            ),
            None => refuse(
                format!(
                    "no cell has the {} completed requests that a p99 needs (the most were {})",
                    count(needed as f64),
                    count(few.iter().map(|p| p.samples()).max().unwrap_or(0) as f64)
                ),
                "measure longer, or more trials",
            ),
        }
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

    /// Whether a worker of so many lanes is within twice the data.
    pub(super) fn reaches(&self, lanes: f64) -> Result<(), Refusal> {
        let largest = f64::from(self.lanes().last().copied().unwrap_or(0));
        if lanes <= REACH * largest {
            return Ok(());
        }
        let why = format!(
            "each worker would need {} lanes; this run measured up to {}",
            count(lanes),
            count(largest)
        );
        refuse(why, format!("sweep {}", next_lanes(lanes)))
    }
}
