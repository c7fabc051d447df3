//! From measured cells to hosts: what a rate needs of each engine, and which limit comes first.
//!
//! Pure: records, a question and ceilings go in, a plan or a refusal comes out. In flight =
//! rate × mean time in the system (J. D. C. Little, Operations Research 9, 1961); lanes of a host so
//! that at most [`MAY_WAIT`] of its Poisson arrivals wait ([`super::erlang`]); memory by a straight
//! line over lanes; CPU and latency between the measured cells on either side of the rate that one
//! worker group would carry ([`curve`]).
//!
//! Data say nothing beyond their end. A bound on p99 holds up to the highest rate that met it; lanes,
//! CPU and memory are carried on to twice the largest measured value ([`REACH`]), and what lies
//! beyond is refused, with what to measure next.

mod curve;
mod fits;
mod point;
mod section;
mod text;

use std::collections::BTreeMap;

use serde::Serialize;

use super::erlang;
use crate::format::TrialRecord;
use crate::limits::Ceiling;
use crate::plan::Engine;
use crate::units::{format_bytes, format_count, format_ns, format_rate, plural};
use curve::At;
use fits::{Lines, Series};

/// Share of arrivals that may find no free lane.
pub const MAY_WAIT: f64 = 0.01;
/// Share of a host's CPUs that is planned for; the rest absorbs bursts, whose queues grow with
/// 1 ÷ (1 − utilisation).
pub const CPU_PLANNED: f64 = 0.7;
/// Share of a host's memory that is planned for.
pub const MEMORY_PLANNED: f64 = 0.8;
/// How far beyond the largest measured value a line is carried on.
pub const REACH: f64 = 2.0;
/// Most hosts that are planned: more is a mistake in the question.
const MOST_HOSTS: u64 = 1_000_000;

/// What is asked.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Question {
    /// Requests per second, in total.
    pub rate_per_s: f64,
    /// Bound on the 99th percentile that a measured cell must meet to count.
    pub p99_ns: Option<u64>,
    /// Mean time of a request in the system; measured where it is not given.
    pub latency_ns: Option<u64>,
    /// Memory of a host, in bytes.
    pub memory_bytes: u64,
    /// CPUs of a host.
    pub cpus: u32,
    /// Growth per year, compounded: 0.3 is 30 %.
    pub growth_per_year: f64,
    /// Months to plan ahead.
    pub months: f64,
    /// Hosts that may fail.
    pub spare: u32,
}

/// The answer for every engine.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Plan {
    /// What was asked.
    pub question: Question,
    /// One for each engine and set of axes beside lanes and rate.
    pub engines: Vec<EnginePlan>,
    /// What the answer rests on, one sentence each.
    pub assumptions: Vec<String>,
}

/// The answer for one engine.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EnginePlan {
    /// Engine and what else tells it apart.
    pub name: String,
    /// The engine.
    pub engine: Engine,
    /// The need, or why nothing can be said and what to measure next.
    pub answer: Result<Need, Refusal>,
}

/// Why the data do not reach.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Refusal {
    /// Why.
    pub why: String,
    /// What would answer it.
    pub measure_next: String,
}

/// What a rate needs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Need {
    /// Mean time of a request in the system, in nanoseconds.
    pub latency_ns: f64,
    /// Mean requests in flight, over all hosts.
    pub in_flight: f64,
    /// Lanes over all hosts.
    pub lanes: u32,
    /// User memory over all hosts, in bytes.
    pub user_bytes: f64,
    /// Kernel memory over all hosts, in bytes; `None` where not measured.
    pub kernel_bytes: Option<f64>,
    /// What `kernel_bytes` counts.
    pub kernel_counts: &'static str,
    /// Memory that a lane adds, user and kernel, in bytes.
    pub bytes_per_lane: f64,
    /// CPUs busy over all hosts.
    pub cpus_busy: f64,
    /// CPU per request, in nanoseconds.
    pub cpu_per_request_ns: f64,
    /// Descriptors over all hosts.
    pub descriptors: u64,
    /// Local ports over all hosts, one per connection.
    pub ports: u64,
    /// Threads over all hosts.
    pub threads: u64,
    /// Worker processes over all hosts.
    pub processes: u64,
    /// Rate of each worker group, in requests per second: the point at which CPU and latency are read.
    pub group_rate_per_s: f64,
    /// Highest rate of one host up to which the data reach, in requests per second.
    pub tested_to_per_s: f64,
    /// What limits one host, the first limit first; last those that lie beyond the data.
    pub resources: Vec<Resource>,
    /// Requests per second of one host by the first limit, or by the end of the data.
    pub host_rate_per_s: f64,
    /// Hosts for today's rate.
    pub hosts_today: u64,
    /// Rate after growth, requests per second.
    pub grown_rate_per_s: f64,
    /// Hosts for the grown rate.
    pub hosts_grown: u64,
    /// The same with spare hosts.
    pub hosts_with_spare: u64,
    /// Share of the first limit that today's hosts leave unused.
    pub left: f64,
    /// The cells behind each figure, by their ids.
    pub sources: BTreeMap<&'static str, Vec<String>>,
}

/// One resource of a host.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Resource {
    /// Its name.
    pub name: String,
    /// Requests per second that it allows one host; `None` where that lies beyond the data.
    pub allows_per_s: Option<f64>,
    /// Share in use on each of today's hosts.
    pub used: f64,
}

/// Plans for every engine of the records; `ceilings` gives the limits of one worker.
pub fn plan(
    records: &[TrialRecord],
    question: &Question,
    ceilings: &dyn Fn(Engine) -> Vec<Ceiling>,
) -> Plan {
    let series = fits::series(records);
    let engines = series
        .iter()
        .map(|series| EnginePlan {
            name: series.name.clone(),
            engine: series.engine,
            answer: answer(series, question, &ceilings(series.engine)),
        })
        .collect();
    let mut assumptions = assumptions(question);
    let closed = |s: &Series<'_>| s.curve(question.p99_ns).is_ok_and(|c| !c.is_open());
    if question.p99_ns.is_some() && series.iter().any(closed) {
        assumptions.push(
            "where the cell that counts is a closed loop, its p99 is that of service time, and time \
             spent waiting for a lane comes on top; offer the rate in an open loop to measure it"
                .into(),
        );
    }
    Plan { question: question.clone(), engines, assumptions }
}

/// The highest rate of any engine's valid cells, in requests per second, within a bound on p99.
pub fn measured_rate(records: &[TrialRecord], p99_ns: Option<u64>) -> Option<f64> {
    let highest = |series: &Series<'_>| series.curve(p99_ns).ok().map(|curve| curve.end_per_s());
    fits::series(records).iter().filter_map(highest).reduce(f64::max)
}

fn refuse<T>(why: impl Into<String>, next: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal { why: why.into(), measure_next: next.into() })
}

/// One host at a rate.
struct Host<'a> {
    q: &'a Question,
    series: &'a Series<'a>,
    curve: curve::Curve<'a>,
    memory: Lines,
    ceilings: &'a [Ceiling],
    /// Copies of the measured cell's workers on one host.
    groups: f64,
    /// Worker processes on one host.
    workers: f64,
}

/// What one host of a rate needs.
struct Load {
    at: At,
    lanes: f64,
    /// Share of each resource that is used, in a fixed order; 1 is all that is planned for.
    used: Vec<(String, f64)>,
}

impl Host<'_> {
    fn at(&self, rate_per_s: f64) -> Load {
        let at = self.curve.at(rate_per_s / self.groups);
        let latency_ns = self.q.latency_ns.map_or(at.latency_ns, |ns| ns as f64);
        let in_flight = rate_per_s * latency_ns / 1e9;
        let lanes = erlang::lanes_for(in_flight, MAY_WAIT).map_or(f64::INFINITY, f64::from);
        let at = At { latency_ns, ..at };
        let cpu = self.groups * at.busy / (f64::from(self.q.cpus) * CPU_PLANNED);
        let bytes = self.workers * self.memory.fixed_bytes() + lanes * self.memory.per_lane_bytes();
        let memory = bytes / (self.q.memory_bytes as f64 * MEMORY_PLANNED);
        let mut used = vec![("CPU".into(), cpu), ("memory".into(), memory)];
        for ceiling in self.ceilings.iter().filter(|c| !c.is_memory_estimate()) {
            // What is counted per worker is there once more for every further worker of the host.
            let each = if ceiling.is_per_worker() { self.workers } else { 1.0 };
            used.push((ceiling.limit.clone(), lanes / (ceiling.most_lanes as f64 * each)));
        }
        Load { at, lanes, used }
    }

    /// Highest rate up to which the data reach: what met the bound on p99, or else [`REACH`] times
    /// what was measured.
    fn end_per_s(&self) -> f64 {
        let beyond = if self.q.p99_ns.is_some() { 1.0 } else { REACH };
        self.groups * self.curve.end_per_s() * beyond
    }

    /// Rate at which a resource is used up; `None` beyond the end of the data.
    fn allows(&self, resource: usize) -> Option<f64> {
        let used = |rate: f64| self.at(rate).used[resource].1;
        let (mut low, mut high) = (0.0, self.end_per_s());
        if used(high) <= 1.0 {
            return None;
        }
        // Halved until the last place of what is printed is sure.
        for _ in 0..50 {
            let middle = (low + high) / 2.0;
            if used(middle) <= 1.0 { low = middle } else { high = middle }
        }
        Some(low)
    }
}

fn answer(series: &Series<'_>, q: &Question, ceilings: &[Ceiling]) -> Result<Need, Refusal> {
    let curve = series.curve(q.p99_ns)?;
    let memory = series.memory()?;
    let groups = f64::from((q.cpus / series.cpus).max(1));
    let workers = groups * f64::from(series.processes);
    let host = Host { q, series, curve, memory, ceilings, groups, workers };
    let empty = host.at(0.0);
    if let Some((name, _)) = empty.used.iter().find(|(_, used)| *used >= 1.0) {
        return refuse(
            format!("a host has no room for a single lane: {name} is used up"),
            "ask for hosts with more of it",
        );
    }
    let allows: Vec<Option<f64>> = (0..empty.used.len()).map(|i| host.allows(i)).collect();
    let end = host.end_per_s();
    let grown_rate_per_s = q.rate_per_s * (1.0 + q.growth_per_year).powf(q.months / 12.0);
    let most = q.rate_per_s.max(grown_rate_per_s);
    let host_rate_per_s = allows.iter().flatten().copied().fold(end, f64::min);
    if host_rate_per_s == end && most > end && q.p99_ns.is_none() {
        // More hosts would hide that nothing is known; a bound on p99 is a reason for them.
        let each = most / groups;
        return refuse(
            format!(
                "each group of workers would have to send {}; this run measured up to {}",
                req_s(each),
                req_s(end / REACH / groups)
            ),
            format!("sweep rates = [{:.0}, {:.0}], or name a bound with --p99", each / 2.0, each),
        );
    }
    let hosts = |rate: f64| {
        Some((rate / host_rate_per_s).ceil().max(1.0) as u64).filter(|hosts| *hosts <= MOST_HOSTS)
    };
    let (Some(hosts_today), Some(hosts_grown)) = (hosts(q.rate_per_s), hosts(grown_rate_per_s))
    else {
        return refuse(
            format!("{} would take more than a million hosts", req_s(q.rate_per_s)),
            "ask for a lower rate",
        );
    };
    let load = host.at(q.rate_per_s / hosts_today as f64);
    series.reaches(load.lanes / workers)?;
    Ok(host.need(load, &allows, host_rate_per_s, (hosts_today, hosts_grown), grown_rate_per_s))
}

impl Host<'_> {
    fn need(
        &self,
        load: Load,
        allows: &[Option<f64>],
        host_rate_per_s: f64,
        (hosts_today, hosts_grown): (u64, u64),
        grown_rate_per_s: f64,
    ) -> Need {
        let (q, series, memory, hosts) = (self.q, self.series, &self.memory, hosts_today as f64);
        let end = self.end_per_s();
        let lanes = (load.lanes * hosts) as u32;
        let processes = (self.workers * hosts) as u64;
        let mut resources: Vec<Resource> = (load.used.iter().zip(allows))
            .map(|((name, used), allows)| Resource {
                name: name.clone(),
                allows_per_s: *allows,
                used: *used,
            })
            .collect();
        let tested = match q.p99_ns {
            Some(ns) => format!("p99 ≤ {}", format_ns(ns as f64)),
            None => "the measured range".into(),
        };
        let used = q.rate_per_s / hosts / end;
        resources.push(Resource { name: tested, allows_per_s: Some(end), used });
        let order = |r: &Resource| (r.allows_per_s.unwrap_or(f64::INFINITY), -r.used);
        resources.sort_by(|a, b| {
            let ((x, u), (y, v)) = (order(a), order(b));
            x.total_cmp(&y).then(u.total_cmp(&v))
        });
        let mut sources = BTreeMap::from([
            ("cpu_per_request_ns", load.at.cells.clone()),
            ("tested_to_per_s", vec![self.curve.end_cell().into()]),
            ("bytes_per_lane", series.ids()),
        ]);
        if q.latency_ns.is_none() {
            sources.insert("latency_ns", load.at.cells);
        }
        let rate_per_s = q.rate_per_s / hosts;
        let threads_of_lanes = if series.threads_grow() { u64::from(lanes) } else { 0 };
        Need {
            latency_ns: load.at.latency_ns,
            in_flight: q.rate_per_s * load.at.latency_ns / 1e9,
            lanes,
            user_bytes: memory.user.at(lanes, self.workers * hosts),
            kernel_bytes: memory.kernel.map(|k| k.at(lanes, self.workers * hosts)),
            kernel_counts: memory.kernel_counts,
            bytes_per_lane: memory.per_lane_bytes(),
            cpus_busy: self.groups * load.at.busy * hosts,
            cpu_per_request_ns: self.groups * load.at.busy * 1e9 / rate_per_s,
            descriptors: u64::from(lanes) + series.other_fds * processes,
            ports: u64::from(lanes),
            threads: threads_of_lanes + series.other_threads * processes,
            processes,
            group_rate_per_s: rate_per_s / self.groups,
            tested_to_per_s: end,
            left: 1.0 - resources[0].used,
            resources,
            host_rate_per_s,
            hosts_today,
            grown_rate_per_s,
            hosts_grown,
            hosts_with_spare: hosts_grown + u64::from(q.spare),
            sources,
        }
    }
}

fn assumptions(q: &Question) -> Vec<String> {
    let latency = match q.latency_ns {
        Some(ns) => format!("a request takes {} on average, as given", format_ns(ns as f64)),
        None => "mean request time and CPU per request lie on straight lines between the measured \
                 cells on either side of the planned rate"
            .into(),
    };
    let mut all = vec![
        latency,
        format!(
            "arrivals are Poisson; each host has the fewest lanes with which at most {:.0} % of them \
             wait (Erlang C)",
            MAY_WAIT * 100.0
        ),
        format!(
            "hosts have {} like the measured one, planned at {:.0} % busy at most, and {} of memory, \
             planned at {:.0} % full at most",
            plural(q.cpus.into(), "CPU"),
            CPU_PLANNED * 100.0,
            format_bytes(q.memory_bytes as f64),
            MEMORY_PLANNED * 100.0
        ),
        "a host runs as many copies of the measured workers as its CPUs allow, and they do not slow \
         one another"
            .into(),
        "limits of descriptors, memory maps, threads and ports are those of the measured machine; \
         connections go to other machines, so each needs a local port"
            .into(),
        "CPU is net of duel's own pacer and monitor; memory is a straight line over lanes, and fixed \
         costs count once per process"
            .into(),
        "the load spreads evenly over hosts".into(),
        format!(
            "the client side is planned, not the target; {} is the peak",
            req_s(q.rate_per_s)
        ),
    ];
    if q.growth_per_year != 0.0 {
        all.push(format!(
            "growth of {:.0} % per year, compounded, over {} months",
            q.growth_per_year * 100.0,
            q.months
        ));
    }
    match q.p99_ns {
        Some(p99) => all.push(format!(
            "p99 ≤ {} holds up to the highest measured rate that met it, and nothing is said beyond",
            format_ns(p99 as f64)
        )),
        None => all.push(format!(
            "nothing is said beyond {REACH} times the highest measured rate and lanes"
        )),
    }
    all
}

/// Lanes worth measuring next, as text for a config.
fn next_lanes(needed: f64) -> String {
    let at = needed.max(2.0).ceil() as u64;
    format!("lanes = [{}, {}, {at}]", (at / 4).max(1), (at / 2).max(1))
}

/// A rate in words.
fn req_s(rate: f64) -> String {
    format!("{} req/s", format_rate(rate))
}

/// A count in words.
fn count(n: f64) -> String {
    format_count(n.ceil() as u64)
}
