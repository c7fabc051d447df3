//! What a plan rests on: each assumption with its value, and the switch that changes it.

use std::fmt;

use serde::Serialize;

use super::host::THE_RANGE;
use super::hosts::MONTH_HOURS;
use super::{CPU_PLANNED, MAY_WAIT, MEMORY_PLANNED, Question, REACH, req_s};
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

/// Every assumption; `is_closed` where the cell that counts for some engine is a closed loop, `first`
/// the first limits of the engines.
pub(super) fn assumptions(
    q: &Question,
    is_closed: bool,
    is_service: bool,
    first: &[&str],
) -> Vec<Assumption> {
    let mut all = Vec::new();
    load(q, is_service, &mut all);
    host(q, is_service, first, &mut all);
    time(q, is_closed, first, &mut all);
    all
}

impl Assumption {
    fn new(decides: bool, text: impl Into<String>, switch: Option<&'static str>) -> Assumption {
        Assumption { text: text.into(), switch, decides }
    }
}

/// What is offered, and how long it takes.
fn load(q: &Question, is_service: bool, all: &mut Vec<Assumption>) {
    let mut add = |decides, text: String, switch| all.push(Assumption::new(decides, text, switch));
    add(
        false,
        format!("{} is the peak, spread evenly over hosts", req_s(q.rate_per_s)),
        Some("--rate"),
    );
    match is_service {
        true => add(
            false,
            "the service is planned, not its clients: CPU, memory and threads are the server's, \
             times are what the clients saw"
                .into(),
            None,
        ),
        false => add(false, "the client side is planned, not the target".into(), None),
    }
    if let Some(name) = &q.class {
        add(
            true,
            format!(
                "bound and budget are of the requests of class {name}; rate and costs are of all \
                 requests, in the measured mix"
            ),
            Some("--class"),
        );
    }
    match q.latency_ns {
        Some(ns) => add(
            true,
            format!("a request takes {} on average, as given", format_ns(ns as f64)),
            Some("--latency"),
        ),
        None => add(
            false,
            "mean request time and CPU per request lie on straight lines between the measured \
             cells on either side of the planned rate"
                .into(),
            Some("--latency"),
        ),
    }
    let wait = MAY_WAIT * 100.0;
    match (is_service, q.connections) {
        (true, Some(all)) => {
            let all = format_count(all as u64);
            add(
                true,
                format!("clients hold {all} connections, spread evenly"),
                Some("--connections"),
            );
        }
        (true, None) => add(
            false,
            format!(
                "arrivals are Poisson; clients hold no more connections than it takes for at most \
                 {wait:.0} % of them to wait (Erlang C)"
            ),
            Some("--connections"),
        ),
        (false, _) => add(
            false,
            format!(
                "arrivals are Poisson; each host has the fewest lanes with which at most {wait:.0} % \
                 of them wait (Erlang C)"
            ),
            None,
        ),
    }
}

/// Whether a limit is where the data end.
fn is_range(name: &str) -> bool {
    name.starts_with("p99 ") || name == THE_RANGE
}

/// What a host has, and what it runs.
fn host(q: &Question, is_service: bool, first: &[&str], all: &mut Vec<Assumption>) {
    let is_first = |name: &str| first.contains(&name);
    // Limits of the system have names of their own.
    let limited = first.iter().any(|name| !matches!(*name, "CPU" | "memory") && !is_range(name));
    let mut add = |decides, text: String, switch| all.push(Assumption::new(decides, text, switch));
    add(
        is_first("CPU") || q.cpu_target != CPU_PLANNED,
        format!(
            "hosts have {} like the measured one, at most {} busy on average",
            plural(q.host.cpus.into(), "CPU"),
            format_share(q.cpu_target)
        ),
        Some("--cpus, --hosts, --cpu-target"),
    );
    add(
        is_first("memory") || q.memory_target != MEMORY_PLANNED,
        format!(
            "hosts have {} of memory, at most {} full",
            format_bytes(q.host.memory_bytes as f64),
            format_share(q.memory_target)
        ),
        Some("--memory, --hosts, --memory-target"),
    );
    let (copies, lane, own) = match is_service {
        true => ("server", "connection", ""),
        false => ("workers", "lane", "CPU is net of duel's own pacer and monitor; "),
    };
    add(
        false,
        format!(
            "a host runs as many copies of the measured {copies} as its CPUs allow, and they do not \
             slow one another"
        ),
        None,
    );
    let ports = match is_service {
        true => "limits of descriptors, memory maps and threads are those of the measured machine",
        false => {
            "limits of descriptors, memory maps, threads and ports are those of the measured \
             machine; connections go to other machines, so each needs a local port"
        }
    };
    add(limited, ports.into(), Some("limits in --hosts"));
    add(
        false,
        format!(
            "{own}memory is a straight line over {lane}s (where one {lane} count was measured, that of \
             all its {lane}s), and fixed costs count once per process"
        ),
        None,
    );
}

/// What comes later, and up to where the data reach.
fn time(q: &Question, is_closed: bool, first: &[&str], all: &mut Vec<Assumption>) {
    let is_range = first.iter().any(|name| is_range(name));
    let mut add = |decides, text: String, switch| all.push(Assumption::new(decides, text, switch));
    let lost = plural(q.spare.into(), "host");
    add(q.spare > 0, format!("{lost} may fail at the same time"), Some("--spare"));
    if q.growth_per_year != 0.0 {
        let growth = format_share(q.growth_per_year);
        let months = q.months;
        add(
            true,
            format!("growth of {growth} per year, compounded, over {months} months"),
            Some("--growth, --months"),
        );
    }
    if q.host.price.is_some() {
        add(
            true,
            format!(
                "a month has {MONTH_HOURS} hours; a million requests cost what all hosts cost, at the rate of today all month"
            ),
            Some("price in --hosts"),
        );
    }
    match q.p99_ns {
        Some(p99) => {
            let p99 = format_ns(p99 as f64);
            add(
                is_range,
                format!(
                    "p99 ≤ {p99} holds up to the highest measured rate that met it, and nothing is \
                     said beyond"
                ),
                Some("--p99"),
            );
        }
        None => add(
            is_range,
            format!("nothing is said beyond {REACH} times the highest measured rate and lanes"),
            None,
        ),
    }
    if q.p99_ns.is_some() && is_closed {
        add(true,
            "where the cell that counts is a closed loop, its p99 is that of service time, and time \
             spent waiting for a lane comes on top; offer the rate in an open loop to measure it"
                .into(),
            None,
        );
    }
}
