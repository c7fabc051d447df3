//! What a plan rests on: each assumption with its value, and the switch that changes it.

use std::fmt;

use serde::Serialize;

use super::hosts::MONTH_HOURS;
use super::{CPU_PLANNED, MAY_WAIT, MEMORY_PLANNED, Question, REACH, ResourceKind, req_s};
use crate::units::{format_bytes, format_count, format_ns, format_share, plural};

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Assumption {
    pub text: String,
    /// What changes it; `None` where nothing does.
    pub switch: Option<&'static str>,
    /// Whether it decides the first limit here, or is not the default.
    pub decides: bool,
}

impl fmt::Display for Assumption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.switch {
            Some(switch) => write!(f, "{} (change it with {switch})", self.text),
            None => f.write_str(&self.text),
        }
    }
}

/// What can be said of an assumption: its text, what changes it, whether it decides.
type Said = (String, Option<&'static str>, bool);

/// Every assumption; `is_closed` where the cell that counts for some engine is a closed loop, `first`
/// the first limits of the engines.
pub(super) fn assumptions(
    q: &Question,
    is_closed: bool,
    is_service: bool,
    first: &[ResourceKind],
) -> Vec<Assumption> {
    let said = [load(q, is_service), host(q, is_service, first), time(q, is_closed, first)];
    let one = |(text, switch, decides)| Assumption { text, switch, decides };
    said.into_iter().flatten().map(one).collect()
}

fn load(q: &Question, is_service: bool) -> Vec<Said> {
    let rate = format!("{} is the peak, spread evenly over hosts", req_s(q.rate_per_s));
    let planned = match is_service {
        true => {
            "the service is planned, not its clients: CPU, memory and threads are the server's, \
             times are what the clients saw"
        }
        false => "the client side is planned, not the target",
    };
    let mut all = vec![(rate, Some("--rate"), false), (planned.into(), None, false)];
    if let Some(name) = &q.class {
        let text = format!(
            "bound and budget are of the requests of class {name}; rate and costs are of all \
             requests, in the measured mix"
        );
        all.push((text, Some("--class"), true));
    }
    let time = match q.latency_ns {
        Some(ns) => format!("a request takes {} on average, as given", format_ns(ns as f64)),
        None => "mean request time and CPU per request lie on straight lines between the measured \
                 cells on either side of the planned rate"
            .into(),
    };
    all.push((time, Some("--latency"), q.latency_ns.is_some()));
    let wait = MAY_WAIT * 100.0;
    let lanes = match (is_service, q.connections) {
        (true, Some(all)) => {
            format!("clients hold {} connections, spread evenly", format_count(all as u64))
        }
        (true, None) => format!(
            "arrivals are Poisson; clients hold no more connections than it takes for at most \
             {wait:.0} % of them to wait (Erlang C)"
        ),
        (false, _) => format!(
            "arrivals are Poisson; each host has the fewest lanes with which at most {wait:.0} % \
             of them wait (Erlang C)"
        ),
    };
    all.push((lanes, is_service.then_some("--connections"), is_service && q.connections.is_some()));
    all
}

fn host(q: &Question, is_service: bool, first: &[ResourceKind]) -> Vec<Said> {
    let limited = first.contains(&ResourceKind::System);
    let (cpus, busy) = (plural(q.host.cpus.into(), "CPU"), format_share(q.cpu_target));
    let (bytes, full) = (format_bytes(q.host.memory_bytes as f64), format_share(q.memory_target));
    let (copies, lane, own) = match is_service {
        true => ("server", "connection", ""),
        false => ("workers", "lane", "CPU is net of duel's own pacer and monitor; "),
    };
    let limits = match is_service {
        true => "limits of descriptors, memory maps and threads are those of the measured machine",
        false => {
            "limits of descriptors, memory maps, threads and ports are those of the measured \
             machine; connections go to other machines, so each needs a local port"
        }
    };
    vec![
        (
            format!("hosts have {cpus} like the measured one, at most {busy} busy on average"),
            Some("--cpus, --hosts, --cpu-target"),
            first.contains(&ResourceKind::Cpu) || q.cpu_target != CPU_PLANNED,
        ),
        (
            format!("hosts have {bytes} of memory, at most {full} full"),
            Some("--memory, --hosts, --memory-target"),
            first.contains(&ResourceKind::Memory) || q.memory_target != MEMORY_PLANNED,
        ),
        (
            format!(
                "a host runs as many copies of the measured {copies} as its CPUs allow, and they do \
                 not slow one another"
            ),
            None,
            false,
        ),
        (limits.into(), Some("limits in --hosts"), limited),
        (
            format!(
                "{own}memory is a straight line over {lane}s (where one {lane} count was measured, \
                 that of all its {lane}s), and fixed costs count once per process"
            ),
            None,
            false,
        ),
    ]
}

/// What comes later, and up to where the data reach.
fn time(q: &Question, is_closed: bool, first: &[ResourceKind]) -> Vec<Said> {
    let lost = plural(q.spare.into(), "host");
    let mut all = vec![(format!("{lost} may fail at the same time"), Some("--spare"), q.spare > 0)];
    if q.growth_per_year != 0.0 {
        let (growth, months) = (format_share(q.growth_per_year), q.months);
        let text = format!("growth of {growth} per year, compounded, over {months} months");
        all.push((text, Some("--growth, --months"), true));
    }
    if q.host.price.is_some() {
        let text = format!(
            "a month has {MONTH_HOURS} hours; a million requests cost what all hosts cost, at the rate \
             of today all month"
        );
        all.push((text, Some("price in --hosts"), true));
    }
    let reach = match q.p99_ns.map(|p99| format_ns(p99 as f64)) {
        Some(p99) => format!(
            "p99 ≤ {p99} holds up to the highest measured rate that met it, and nothing is said \
             beyond"
        ),
        None => format!("nothing is said beyond {REACH} times the highest measured rate and lanes"),
    };
    let decides = first.contains(&ResourceKind::Data);
    all.push((reach, q.p99_ns.map(|_| "--p99"), decides));
    if q.p99_ns.is_some() && is_closed {
        let text = "where the cell that counts is a closed loop, its p99 is that of service time, and \
                    time spent waiting for a lane comes on top; offer the rate in an open loop to \
                    measure it";
        all.push((text.into(), None, true));
    }
    all
}
