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
    fn by(&mut self, switch: &'static str) -> &mut Self {
        self.switch = Some(switch);
        self
    }

    fn decides(&mut self, decides: bool) -> &mut Self {
        self.decides = decides;
        self
    }
}

/// Adds one that nothing changes and that decides nothing, unless that is said of it.
fn add(all: &mut Vec<Assumption>, text: impl Into<String>) -> &mut Assumption {
    all.push(Assumption { text: text.into(), switch: None, decides: false });
    all.last_mut().expect("the one above")
}

fn load(q: &Question, is_service: bool, all: &mut Vec<Assumption>) {
    let rate = req_s(q.rate_per_s);
    add(all, format!("{rate} is the peak, spread evenly over hosts")).by("--rate");
    let planned = match is_service {
        true => {
            "the service is planned, not its clients: CPU, memory and threads are the server's, \
             times are what the clients saw"
        }
        false => "the client side is planned, not the target",
    };
    add(all, planned);
    if let Some(name) = &q.class {
        let text = format!(
            "bound and budget are of the requests of class {name}; rate and costs are of all \
             requests, in the measured mix"
        );
        add(all, text).by("--class").decides(true);
    }
    let time = match q.latency_ns {
        Some(ns) => format!("a request takes {} on average, as given", format_ns(ns as f64)),
        None => "mean request time and CPU per request lie on straight lines between the measured \
                 cells on either side of the planned rate"
            .into(),
    };
    add(all, time).by("--latency").decides(q.latency_ns.is_some());
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
    let lanes = add(all, lanes).decides(is_service && q.connections.is_some());
    if is_service {
        lanes.by("--connections");
    }
}

/// Whether a limit is where the data end.
fn is_range(name: &str) -> bool {
    name.starts_with("p99 ") || name == THE_RANGE
}

fn host(q: &Question, is_service: bool, first: &[&str], all: &mut Vec<Assumption>) {
    let is_first = |name: &str| first.contains(&name);
    // Limits of the system have names of their own.
    let limited = first.iter().any(|name| !matches!(*name, "CPU" | "memory") && !is_range(name));
    let (cpus, busy) = (plural(q.host.cpus.into(), "CPU"), format_share(q.cpu_target));
    add(all, format!("hosts have {cpus} like the measured one, at most {busy} busy on average"))
        .by("--cpus, --hosts, --cpu-target")
        .decides(is_first("CPU") || q.cpu_target != CPU_PLANNED);
    let (bytes, full) = (format_bytes(q.host.memory_bytes as f64), format_share(q.memory_target));
    add(all, format!("hosts have {bytes} of memory, at most {full} full"))
        .by("--memory, --hosts, --memory-target")
        .decides(is_first("memory") || q.memory_target != MEMORY_PLANNED);
    let (copies, lane, own) = match is_service {
        true => ("server", "connection", ""),
        false => ("workers", "lane", "CPU is net of duel's own pacer and monitor; "),
    };
    add(
        all,
        format!(
            "a host runs as many copies of the measured {copies} as its CPUs allow, and they do not \
             slow one another"
        ),
    );
    let limits = match is_service {
        true => "limits of descriptors, memory maps and threads are those of the measured machine",
        false => {
            "limits of descriptors, memory maps, threads and ports are those of the measured \
             machine; connections go to other machines, so each needs a local port"
        }
    };
    add(all, limits).by("limits in --hosts").decides(limited);
    add(
        all,
        format!(
            "{own}memory is a straight line over {lane}s (where one {lane} count was measured, that of \
             all its {lane}s), and fixed costs count once per process"
        ),
    );
}

/// What comes later, and up to where the data reach.
fn time(q: &Question, is_closed: bool, first: &[&str], all: &mut Vec<Assumption>) {
    let lost = plural(q.spare.into(), "host");
    add(all, format!("{lost} may fail at the same time")).by("--spare").decides(q.spare > 0);
    if q.growth_per_year != 0.0 {
        let (growth, months) = (format_share(q.growth_per_year), q.months);
        add(all, format!("growth of {growth} per year, compounded, over {months} months"))
            .by("--growth, --months")
            .decides(true);
    }
    if q.host.price.is_some() {
        let text = format!(
            "a month has {MONTH_HOURS} hours; a million requests cost what all hosts cost, at the rate \
             of today all month"
        );
        add(all, text).by("price in --hosts").decides(true);
    }
    let reach = match q.p99_ns.map(|p99| format_ns(p99 as f64)) {
        Some(p99) => format!(
            "p99 ≤ {p99} holds up to the highest measured rate that met it, and nothing is said \
             beyond"
        ),
        None => format!("nothing is said beyond {REACH} times the highest measured rate and lanes"),
    };
    let reach = add(all, reach).decides(first.iter().any(|name| is_range(name)));
    if q.p99_ns.is_some() {
        reach.by("--p99");
    }
    if q.p99_ns.is_some() && is_closed {
        let text = "where the cell that counts is a closed loop, its p99 is that of service time, and \
                    time spent waiting for a lane comes on top; offer the rate in an open loop to \
                    measure it";
        add(all, text).decides(true);
    }
}
