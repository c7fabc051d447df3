//! From measured cells to hosts: what a rate needs of each engine, and what binds first.
//!
//! Pure: records, a question and ceilings go in, a plan or a refusal comes out. In flight =
//! rate × mean time in the system (J. D. C. Little, Operations Research 9, 1961); lanes so that at
//! most [`MAY_WAIT`] of Poisson arrivals wait ([`super::erlang`]); memory by a straight line over
//! lanes, CPU by one over the rate, or over lanes where no rate was swept.
//!
//! Nothing beyond twice the largest measured lanes or rate is planned: it is refused, with what to
//! measure next.

mod fits;
mod section;
mod text;

use serde::Serialize;

use super::erlang;
use crate::format::TrialRecord;
use crate::limits::Ceiling;
use crate::plan::Engine;
use crate::units::{format_count, format_ns, format_rate};
use fits::Series;

/// Share of arrivals that may find no free lane.
pub const MAY_WAIT: f64 = 0.01;
/// Share of a host's CPUs that is planned for; the rest absorbs bursts, whose queues grow with
/// 1 ÷ (1 − utilisation).
pub const CPU_PLANNED: f64 = 0.7;
/// Share of a host's memory that is planned for.
pub const MEMORY_PLANNED: f64 = 0.8;
/// How far beyond the largest measured value a line is believed.
pub const REACH: f64 = 2.0;

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
    /// Growth a year, compounded: 0.3 is 30 %.
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
    /// Kernel memory of threads and sockets over all hosts, in bytes; `None` where not measured.
    pub kernel_bytes: Option<f64>,
    /// What `kernel_bytes` counts.
    pub kernel_counts: &'static str,
    /// Memory that a lane adds, user and kernel, in bytes.
    pub bytes_per_lane: f64,
    /// CPUs busy over all hosts.
    pub cpus_busy: f64,
    /// CPU for each request, in nanoseconds.
    pub cpu_per_request_ns: f64,
    /// Descriptors over all hosts.
    pub descriptors: u64,
    /// Local ports over all hosts, one a connection.
    pub ports: u64,
    /// Threads over all hosts.
    pub threads: u64,
    /// What one host can carry by each resource, the tightest first.
    pub resources: Vec<Resource>,
    /// Requests per second of one host by the tightest.
    pub host_rate_per_s: f64,
    /// Hosts for today's rate.
    pub hosts_today: u64,
    /// Rate after growth, requests per second.
    pub grown_rate_per_s: f64,
    /// Hosts for the grown rate.
    pub hosts_grown: u64,
    /// The same with spare hosts.
    pub hosts_with_spare: u64,
    /// Share of the binding resource that today's hosts leave unused.
    pub left: f64,
}

/// One resource of a host.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Resource {
    /// Its name.
    pub name: String,
    /// Requests per second that it allows one host.
    pub allows_per_s: f64,
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
    let closed = |s: &Series| s.best(question.p99_ns).is_ok_and(|best| !best.open);
    if question.p99_ns.is_some() && series.iter().any(closed) {
        assumptions.push(
            "where the cell that counts is a closed loop, its p99 is that of service time: what \
             requests wait for a lane comes on top; offer the rate in an open loop to measure it"
                .into(),
        );
    }
    Plan { question: question.clone(), engines, assumptions }
}

/// The highest rate of any engine's valid cells, in requests per second, within a bound on p99.
pub fn measured_rate(records: &[TrialRecord], p99_ns: Option<u64>) -> Option<f64> {
    let best = |series: &Series| series.best(p99_ns).ok().map(|best| best.rate_per_s);
    fits::series(records).iter().filter_map(best).reduce(f64::max)
}

fn refuse<T>(why: impl Into<String>, next: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal { why: why.into(), measure_next: next.into() })
}

fn answer(series: &Series, q: &Question, ceilings: &[Ceiling]) -> Result<Need, Refusal> {
    let best = series.best(q.p99_ns)?;
    let latency_ns = q.latency_ns.map_or(best.latency_ns, |ns| ns as f64);
    let in_flight = q.rate_per_s * latency_ns / 1e9;
    let Some(lanes) = erlang::lanes_for(in_flight, MAY_WAIT) else {
        return refuse(
            format!("{in_flight:.0} requests in flight are beyond any data"),
            "ask for a lower rate or a shorter latency",
        );
    };
    let memory = series.memory()?;
    let lanes_a_request = f64::from(lanes) / q.rate_per_s;
    let cpu_per_request_ns = series.cpu_per_request_ns();
    let workers = f64::from((q.cpus / series.cpus).max(1));
    let mut resources = vec![
        resource("CPU", f64::from(q.cpus) * CPU_PLANNED * 1e9 / cpu_per_request_ns),
        resource(
            "memory",
            (q.memory_bytes as f64 * MEMORY_PLANNED - workers * memory.fixed_bytes()).max(0.0)
                / memory.per_lane_bytes()
                / lanes_a_request,
        ),
    ];
    if q.p99_ns.is_some() {
        resources.push(resource("p99", best.rate_per_s * workers));
    }
    for ceiling in ceilings.iter().filter(|c| !c.unit.contains("memory (estimated)")) {
        // What is counted in a worker is there once more for every further worker of the host.
        let each = if ceiling.unit.contains("a worker") || ceiling.unit.contains("a process") {
            workers
        } else {
            1.0
        };
        let most = ceiling.most_lanes as f64 * each / lanes_a_request;
        resources.push(resource(&ceiling.limit, most));
    }
    resources.sort_by(|a, b| a.allows_per_s.total_cmp(&b.allows_per_s));
    let host_rate_per_s = resources[0].allows_per_s;
    if host_rate_per_s <= 0.0 {
        return refuse(
            format!("a host has no room for a single lane: {} is used up", resources[0].name),
            "ask for hosts with more of it",
        );
    }
    let hosts = |rate: f64| (rate / host_rate_per_s).ceil().max(1.0) as u64;
    let hosts_today = hosts(q.rate_per_s);
    let grown_rate_per_s = q.rate_per_s * (1.0 + q.growth_per_year).powf(q.months / 12.0);
    for r in &mut resources {
        r.used = q.rate_per_s / hosts_today as f64 / r.allows_per_s;
    }
    let share = workers * hosts_today as f64;
    series.reaches(f64::from(lanes) / share, q.rate_per_s / share)?;
    let threads_a_lane = if series.threads_grow() { u64::from(lanes) } else { 0 };
    let processes = share as u64;
    Ok(Need {
        latency_ns,
        in_flight,
        lanes,
        user_bytes: memory.user.at(lanes, share),
        kernel_bytes: memory.kernel.map(|k| k.at(lanes, share)),
        kernel_counts: memory.kernel_counts,
        bytes_per_lane: memory.per_lane_bytes(),
        cpus_busy: q.rate_per_s * cpu_per_request_ns / 1e9,
        cpu_per_request_ns,
        descriptors: u64::from(lanes) + series.other_fds * processes,
        ports: u64::from(lanes),
        threads: threads_a_lane + series.other_threads * processes,
        left: 1.0 - resources[0].used,
        host_rate_per_s,
        hosts_today,
        grown_rate_per_s,
        hosts_grown: hosts(grown_rate_per_s),
        hosts_with_spare: hosts(grown_rate_per_s) + u64::from(q.spare),
        resources,
    })
}

fn resource(name: &str, allows_per_s: f64) -> Resource {
    Resource { name: name.into(), allows_per_s, used: 0.0 }
}

fn assumptions(q: &Question) -> Vec<String> {
    let latency = match q.latency_ns {
        Some(ns) => format!("a request takes {} on average, as given", format_ns(ns as f64)),
        None => "a request takes as long on average as in the measured cell of the highest rate \
                 that counts"
            .into(),
    };
    let mut all = vec![
        latency,
        format!(
            "arrivals are Poisson; lanes are the fewest with which at most {:.0} % of them wait \
             (Erlang C, one queue over all hosts)",
            MAY_WAIT * 100.0
        ),
        format!(
            "a host has {} CPUs like the measured ones, of which {:.0} % are planned for, and {} \
             of memory, of which {:.0} %",
            q.cpus,
            CPU_PLANNED * 100.0,
            crate::units::format_bytes(q.memory_bytes as f64),
            MEMORY_PLANNED * 100.0
        ),
        "a host runs as many workers like the measured one as its CPUs allow, and they do not slow \
         one another"
            .into(),
        "limits of descriptors, maps, threads and ports are those of the measured machine; \
         connections leave it, so that each takes a port"
            .into(),
        "memory is a straight line over lanes, from the largest resident set of each trial; CPU a \
         straight line over the rate where rates were swept, and otherwise that of the dearest \
         measured lanes"
            .into(),
        "the load spreads evenly over hosts".into(),
        format!("the client side is planned, not the target; {} req/s is the peak", format_rate(q.rate_per_s)),
    ];
    if q.growth_per_year != 0.0 {
        all.push(format!(
            "growth of {:.0} % a year, compounded, over {} months",
            q.growth_per_year * 100.0,
            q.months
        ));
    }
    if let Some(p99) = q.p99_ns {
        all.push(format!(
            "p99 ≤ {} is believed up to the highest measured rate that met it, and not beyond",
            format_ns(p99 as f64)
        ));
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
