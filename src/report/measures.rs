//! Every measure of a trial, once: tables, `cells.csv`, comparisons, plots and expectations iterate
//! this list, so that a new figure is a line here and nowhere else.

use crate::format::histogram::decode;
use crate::format::{Switches, TrialRecord, field};
use crate::plan::Cell;
use crate::stats::hdr::{percentile, samples_needed};
use crate::units::{format_bytes, format_count, format_ns, format_rate};

/// Least CPU time whose split says something: the kernel gives whole ticks of 4 to 10 ms to either part,
/// and all of a time without a tick to one of them.
const LEAST_SPLIT_NS: u64 = 20_000_000;

/// How a measure is printed, and what it counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    Time,
    Bytes,
    Rate,
    Count,
    /// Things per request, with so many decimals.
    Each(usize),
    Share,
}

impl Unit {
    /// The unit that stands last in the name of a field, and the name without it.
    pub(crate) fn of_field(name: &str) -> (&str, Option<Unit>) {
        let units = [("_ns", Unit::Time), (".ns", Unit::Time), ("_bytes", Unit::Bytes)];
        let known = units.into_iter().find_map(|(end, unit)| Some((name.strip_suffix(end)?, unit)));
        known.map_or((name, None), |(name, unit)| (name, Some(unit)))
    }

    pub(crate) fn print(self, value: f64) -> String {
        match self {
            Unit::Time => format_ns(value),
            Unit::Bytes => format_bytes(value),
            Unit::Rate => format_rate(value),
            Unit::Count => format_count(value.round() as u64),
            // A rare event is no event that never happens.
            Unit::Each(digits) if value > 0.0 && value < 0.5 * 0.1f64.powi(digits as i32) => {
                format!("{value:.4}")
            }
            Unit::Each(digits) => format!("{value:.digits$}"),
            Unit::Share => format!("{:.0} %", 100.0 * value),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Better {
    Less,
    More,
    /// It says how the work was done, not how well.
    Neither,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ShownIn {
    Csv,
    /// A column of the tables of cells that send requests.
    Table,
    /// The same, of cells that send none.
    Idle,
    /// The same, of cells whose events are counted.
    Counted,
    /// A column of the ratio to the baseline beside it.
    Ratio,
    /// A column of the ratio to the first target, where several are compared.
    TargetRatio,
    Compare,
    Curve,
    /// The table of what lies behind CPU.
    Cause,
}

pub(crate) struct Facts {
    pub(crate) measure: Measure,
    /// Column of `cells.csv`, unit last.
    pub(crate) name: &'static str,
    /// Head of a column; may hold one line break.
    pub(crate) title: &'static str,
    pub(crate) unit: Unit,
    pub(crate) better: Better,
    /// Whether other programs on the machine move it: times and CPU, but not bytes or counts.
    pub(crate) level: bool,
    /// Its value in one trial; `None` where it was not measured or says nothing.
    pub(crate) of: fn(&TrialRecord) -> Option<f64>,
    pub(crate) shown: &'static [ShownIn],
}

/// Declares the measures: the names to ask for them, and their facts in the order in which columns
/// stand.
macro_rules! measures {
    ($($measure:ident: $name:literal, $title:literal, $unit:expr, $better:ident, $level:literal,
       [$($place:ident)*], $of:expr;)*) => {
        /// A measure of a trial; see [`Facts`].
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Measure { $(#[doc = concat!("`", $name, "`")] $measure,)* }

        impl Measure {
            pub(crate) const COUNT: usize = [$(Measure::$measure,)*].len();
        }

        /// Every measure, in the order in which columns stand.
        pub(crate) static MEASURES: [Facts; Measure::COUNT] = [$(Facts {
            measure: Measure::$measure,
            name: $name,
            title: $title,
            unit: $unit,
            better: Better::$better,
            level: $level,
            of: $of,
            shown: &[$(ShownIn::$place,)*],
        },)*];
    };
}

impl Measure {
    pub(crate) fn facts(self) -> &'static Facts {
        &MEASURES[self as usize]
    }

    pub fn of(self, record: &TrialRecord) -> Option<f64> {
        (self.facts().of)(record)
    }

    /// Whether it is a percentile that falls on a request that was lost: neither zero nor unknown, but
    /// for ever, so that no ratio may leave the trial out.
    pub(crate) fn is_lost(self, record: &TrialRecord) -> bool {
        match self {
            Measure::P50 => record.ledger.lost_beyond(0.5).is_some(),
            Measure::P99 => record.ledger.lost_beyond(0.99).is_some(),
            _ => false,
        }
    }

    pub(crate) fn words(self) -> String {
        self.facts().title.replace('\n', " ")
    }

    pub(crate) fn print(self, value: f64) -> String {
        self.facts().unit.print(value)
    }
}

pub(crate) fn shown(place: ShownIn) -> impl Iterator<Item = &'static Facts> {
    MEASURES.iter().filter(move |m| m.shown.contains(&place))
}

/// The measures in which the cells of a table are compared: engines in what they cost, targets in how
/// fast they answer, those that duel starts as servers under test in both. The schedule, not the
/// target, decides what an open loop achieves.
pub(crate) fn compared(cell: &Cell) -> impl Iterator<Item = &'static Facts> {
    let places: &[ShownIn] = match (cell.target.is_some(), cell.tests_server()) {
        (true, true) => &[ShownIn::TargetRatio, ShownIn::Ratio],
        (true, false) => &[ShownIn::TargetRatio],
        (false, _) => &[ShownIn::Ratio],
    };
    let open = cell.arrivals.is_open();
    MEASURES
        .iter()
        .filter(|facts| places.iter().any(|place| facts.shown.contains(place)))
        .filter(move |facts| facts.measure != Measure::Achieved || !open)
}

/// A count of the side under test for each request that it saw end meanwhile.
fn each(record: &TrialRecord, count: Option<u64>) -> Option<f64> {
    per(count, record.requests_of_subject())
}

/// The same of what was counted at the client's edges.
fn each_at_client(record: &TrialRecord, count: Option<u64>) -> Option<f64> {
    per(count, record.ended_between_edges)
}

fn per(count: Option<u64>, requests: u64) -> Option<f64> {
    (requests > 0).then_some(count? as f64 / requests as f64)
}

/// The subject's switches, where they are known: of a server that is looked at from outside, threads
/// that have ended take theirs along.
fn switches(record: &TrialRecord) -> Option<Switches> {
    let of_server = field!(TrialRecord.server?.switches.voluntary);
    let lost = record.cell.tests_server() && record.unavailable.contains_key(of_server);
    record.subject().filter(|_| !lost).map(|subject| subject.switches)
}

fn per_second(record: &TrialRecord, count: u64) -> Option<f64> {
    let noted = record.subject().map(|side| side.measured_ns).filter(|ns| *ns > 0);
    let ns = noted.unwrap_or(record.measured_ns);
    (ns > 0).then(|| count as f64 * 1e9 / ns as f64)
}

fn above_zero(value: f64) -> Option<f64> {
    (value > 0.0).then_some(value)
}

/// Share of `bytes` for each connection.
fn per_lane(record: &TrialRecord, bytes: Option<f64>) -> Option<f64> {
    Some(bytes? / f64::from(record.cell.total_lanes.max(1)))
}

/// A percentile of response time, in a closed loop of service time, over all planned requests: those
/// that were lost took for ever. `None` where too few samples stand behind it, or where it falls on a
/// lost one.
fn latency(record: &TrialRecord, q: f64) -> Option<f64> {
    let times = record.latency().filter(|d| d.count >= samples_needed(q))?;
    let ledger = &record.ledger;
    if ledger.lost_beyond(q).is_some() {
        return None;
    }
    if ledger.completed == ledger.planned {
        return Some(if q > 0.5 { times.p99 } else { times.p50 } as f64);
    }
    let all = decode(&times.hdr).ok()?;
    Some(percentile(&all, ledger.planned, q, None)?.ns as f64)
}

measures! {
    Elapsed: "elapsed_ns", "elapsed", Unit::Time, Less, true, [],
        |t| Some(t.measured_ns as f64);
    // Where each row has a rate of its own; else the heading says it.
    Offered: "offered_of_knee_per_s", "offered\nreq/s", Unit::Rate, Neither, false, [Table],
        |t| t.cell.offered_per_s.filter(|_| t.cell.knee_share.is_some());
    Achieved: "achieved_per_s", "achieved\nreq/s", Unit::Rate, More, true,
        [Csv Table Counted Curve Compare TargetRatio], |t| Some(t.achieved_per_s);
    P50: "p50_ns", "p50", Unit::Time, Less, true, [Compare TargetRatio], |t| latency(t, 0.5);
    P99: "p99_ns", "p99", Unit::Time, Less, true, [Compare Curve TargetRatio],
        |t| latency(t, 0.99);
    SetUp: "setup_ns", "set-up", Unit::Time, Less, true, [Csv Idle], |t| Some(t.setup_ns as f64);
    CpuPerRequest: "cpu_per_request_ns", "CPU\nper request", Unit::Time, Less, true,
        [Csv Table Counted Ratio Compare Curve Cause], |t| above_zero(t.subject()?.cpu.per_request_ns);
    CpuPerSecond: "cpu_per_second_ns", "CPU\nper second", Unit::Time, Less, true, [Csv Idle],
        |t| per_second(t, t.subject()?.cpu.net_ns());
    Instrument: "instrument_per_request_ns", "duel's pacer and monitor\nper request", Unit::Time, Less,
        true, [Csv Cause], |t| each_at_client(t, Some(t.cpu.instrument_ns()));
    MachineBusy: "machine_busy_per_request_ns", "whole machine busy\nper request", Unit::Time, Less,
        true, [Cause], |t| each_at_client(t, t.cpu.machine_busy_ns);
    UserShare: "user_share", "user, of\nuser + system", Unit::Share, Neither, true, [Cause], |t| {
        let cpu = t.subject()?.cpu;
        let sampled = cpu.user_ns + cpu.system_ns;
        (sampled >= LEAST_SPLIT_NS).then(|| cpu.user_ns as f64 / sampled as f64)
    };
    TargetCpu: "target_cpu_per_request_ns", "target's CPU\nper request", Unit::Time, Less, true,
        [Cause], |t| {
            let received = t.target.received.filter(|n| *n > 0)?;
            Some(t.target.cpu_ns? as f64 / received as f64)
        };
    Occupancy: "occupancy", "occupancy", Unit::Share, More, true, [Csv], |t| t.occupancy;
    Memory: "memory_over_baseline_bytes", "memory", Unit::Bytes, Less, false,
        [Csv Table Idle Counted Ratio Compare Curve],
        // Rows of format 1 have their peak only, program text included.
        |t| {
            let added = t.subject()?.memory.added_bytes;
            let peak = || t.peak_over_baseline().filter(|_| !t.cell.tests_server());
            added.or_else(peak).map(|bytes| bytes as f64)
        };
    MemoryPerLane: "memory_per_lane_bytes", "memory ÷ lanes,\nfixed cost included", Unit::Bytes, Less, false,
        [Csv Table Idle Counted], |t| per_lane(t, Measure::Memory.of(t));
    MemoryBound: "memory_bound_bytes", "memory at most", Unit::Bytes, Less, false, [], |t| {
        let memory = t.subject()?.memory;
        Some(memory.peak_rss_bytes.saturating_sub(memory.baseline_rss_bytes) as f64)
    };
    Lanes: "lanes", "lanes", Unit::Count, Neither, false, [], |t| Some(t.cell.total_lanes.into());
    Kernel: "kernel_bytes", "kernel memory", Unit::Bytes, Less, false, [Csv],
        |t| t.subject()?.memory.kernel_bytes.map(|bytes| bytes as f64);
    KernelPerLane: "kernel_per_lane_bytes", "+ kernel\n÷ lanes", Unit::Bytes, Less, false,
        [Table Idle Counted], |t| per_lane(t, Measure::Kernel.of(t));
    UserAndKernel: "user_and_kernel_bytes", "memory", Unit::Bytes, Less, false, [],
        |t| Some(Measure::Memory.of(t)? + Measure::Kernel.of(t)?);
    Switches: "switches_per_request", "switches\nper request", Unit::Each(2), Less, false,
        [Table Counted Curve], |t| {
            let switches = switches(t)?;
            each(t, Some(switches.voluntary + switches.involuntary))
        };
    Voluntary: "voluntary_switches_per_request", "voluntary switches\nper request", Unit::Each(2),
        Less, false, [Csv Cause], |t| each(t, Some(switches(t)?.voluntary));
    Involuntary: "involuntary_switches_per_request", "forced switches\nper request", Unit::Each(2), Less,
        false, [Csv Cause], |t| each(t, Some(switches(t)?.involuntary));
    SwitchesPerSecond: "switches_per_second", "switches\nper second", Unit::Rate, Less, false, [Idle],
        |t| {
            let switches = switches(t)?;
            per_second(t, switches.voluntary + switches.involuntary)
        };
    Syscalls: "syscalls_per_request", "system calls\nper request", Unit::Each(3), Less, false,
        [Csv Counted Cause], |t| t.subject()?.events.syscalls_per_request;
    Faults: "page_faults_per_request", "page faults\nper request", Unit::Each(3), Less, false,
        [Csv Counted Cause], |t| {
            let events = t.subject()?.events;
            each(t, Some(events.minor_faults? + events.major_faults?))
        };
    Migrations: "migrations_per_request", "moves between CPUs\nper request", Unit::Each(3), Less,
        false, [Csv Counted Cause], |t| each(t, t.subject()?.switches.migrations);
    Instructions: "instructions_per_request", "instructions\nper request", Unit::Each(0), Less, false,
        [Csv Counted], |t| each(t, t.subject()?.events.instructions);
    RunQueueWait: "run_queue_wait_per_request_ns", "waiting for a CPU\nper request", Unit::Time, Less,
        true, [Csv Counted Cause], |t| each(t, t.subject()?.cpu.run_queue_wait_ns);
    Parks: "tokio_parks_per_request", "tokio: parks\nper request", Unit::Each(2), Neither, false,
        [Cause], |t| each(t, Some(t.subject()?.runtime?.parks));
    WorkersBusy: "tokio_busy_per_request_ns", "tokio: workers busy\nper request", Unit::Time, Less,
        true, [Cause], |t| each(t, Some(t.subject()?.runtime?.busy_ns));
    PerTurn: "completions_per_turn", "uring: completions\nper wake-up", Unit::Count, Neither, false,
        [Csv Counted Cause], |t| {
            let ring = t.subject()?.ring.filter(|ring| ring.turns > 0)?;
            Some(ring.completions as f64 / ring.turns as f64)
        };
    Held: "held_per_request_ns", "uring: held back\nper request, at most", Unit::Time, Less, true,
        [Csv Cause], |t| each(t, Some(t.subject()?.ring?.held_ns).filter(|ns| *ns > 0));
    Threads: "threads_peak", "threads", Unit::Count, Less, false, [Csv Table Idle Counted],
        |t| Some(t.subject()?.threads_peak as f64);
    Descriptors: "fds_peak", "descriptors", Unit::Count, Less, false, [Csv],
        |t| Some(t.subject()?.fds_peak as f64);
    KnownPerLane: "user_and_known_kernel_per_lane_bytes", "memory\nper lane", Unit::Bytes, Less,
        false, [], |t| {
            let kernel = t.subject()?.memory.added_kernel_bytes?;
            per_lane(t, Some(Measure::Memory.of(t)? + kernel as f64))
        };
    HeartbeatP99: "heartbeat_p99_ns", "heartbeat p99", Unit::Time, Less, true, [], |t| {
        let times = t.heartbeat_ns.as_ref().filter(|d| d.count >= samples_needed(0.99))?;
        Some(times.p99 as f64)
    };
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_measure_stands_where_its_name_says_and_has_a_name_of_its_own() {
        let mut names = HashSet::new();
        for (i, facts) in MEASURES.iter().enumerate() {
            assert_eq!(facts.measure as usize, i, "{} stands out of order", facts.name);
            assert!(names.insert(facts.name), "{} stands twice", facts.name);
            let unit = match facts.unit {
                Unit::Time => Some("_ns"),
                Unit::Bytes => Some("_bytes"),
                _ => None,
            };
            assert!(unit.is_none_or(|u| facts.name.ends_with(u)), "{} says no unit", facts.name);
            assert!(facts.title.matches('\n').count() <= 1, "{:?} has too many lines", facts.title);
        }
    }

    #[test]
    fn a_time_without_enough_ticks_has_no_split() {
        let cell = Cell::plain(crate::plan::Engine::Threads, 1);
        let of = |user_ns, system_ns| {
            let mut trial = TrialRecord::blank("p".into(), "b".into(), 0, 0, cell.clone());
            (trial.cpu.user_ns, trial.cpu.system_ns) = (user_ns, system_ns);
            Measure::UserShare.of(&trial)
        };
        assert_eq!(of(5_400_000, 0), None, "no tick, not all of it in user space");
        assert_eq!(of(30_000_000, 10_000_000), Some(0.75));
    }

    #[test]
    fn a_rare_event_is_not_printed_as_none() {
        assert_eq!(Unit::Each(2).print(0.0), "0.00");
        assert_eq!(Unit::Each(2).print(0.0012), "0.0012");
        assert_eq!(Unit::Each(2).print(1.5), "1.50");
    }
}
