//! What a plan rests on: each assumption with its value, and the switch that changes it.

use std::fmt;

use serde::Serialize;

use super::hosts::MONTH_HOURS;
use super::{MAY_WAIT, Question, REACH, req_s};
use crate::units::{format_bytes, format_ns, format_share, plural};

/// One assumption.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Assumption {
    /// In words, with its value.
    pub text: String,
    /// What changes it; `None` where nothing does.
    pub switch: Option<&'static str>,
}

impl fmt::Display for Assumption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.switch {
            Some(switch) => write!(f, "{} (change it with {switch})", self.text),
            None => f.write_str(&self.text),
        }
    }
}

/// Every assumption; `is_closed` where the cell that counts for some engine is a closed loop.
pub(super) fn assumptions(q: &Question, is_closed: bool) -> Vec<Assumption> {
    let mut all = Vec::new();
    let mut add = |text: String, switch| all.push(Assumption { text, switch });
    add(format!("{} is the peak, spread evenly over hosts", req_s(q.rate_per_s)), Some("--rate"));
    add("the client side is planned, not the target".into(), None);
    match q.latency_ns {
        Some(ns) => add(
            format!("a request takes {} on average, as given", format_ns(ns as f64)),
            Some("--latency"),
        ),
        None => add(
            "mean request time and CPU per request lie on straight lines between the measured \
             cells on either side of the planned rate"
                .into(),
            Some("--latency"),
        ),
    }
    let wait = MAY_WAIT * 100.0;
    add(
        format!(
            "arrivals are Poisson; each host has the fewest lanes with which at most {wait:.0} % of \
             them wait (Erlang C)"
        ),
        None,
    );
    add(
        format!(
            "hosts have {} like the measured one, at most {} busy on average",
            plural(q.host.cpus.into(), "CPU"),
            format_share(q.cpu_target)
        ),
        Some("--cpus, --hosts, --cpu-target"),
    );
    add(
        format!(
            "hosts have {} of memory, at most {} full",
            format_bytes(q.host.memory_bytes as f64),
            format_share(q.memory_target)
        ),
        Some("--memory, --hosts, --memory-target"),
    );
    add(
        "a host runs as many copies of the measured workers as its CPUs allow, and they do not slow \
         one another"
            .into(),
        None,
    );
    add(
        "limits of descriptors, memory maps, threads and ports are those of the measured machine; \
         connections go to other machines, so each needs a local port"
            .into(),
        Some("limits in --hosts"),
    );
    add(
        "CPU is net of duel's own pacer and monitor; memory is a straight line over lanes (where \
         one lane count was measured, that of all its lanes), and fixed costs count once per process"
            .into(),
        None,
    );
    let lost = plural(q.spare.into(), "host");
    add(format!("{lost} may fail at the same time"), Some("--spare"));
    if q.growth_per_year != 0.0 {
        let growth = format_share(q.growth_per_year);
        let months = q.months;
        add(
            format!("growth of {growth} per year, compounded, over {months} months"),
            Some("--growth, --months"),
        );
    }
    if q.host.price.is_some() {
        add(
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
                format!(
                    "p99 ≤ {p99} holds up to the highest measured rate that met it, and nothing is \
                     said beyond"
                ),
                Some("--p99"),
            );
        }
        None => add(
            format!("nothing is said beyond {REACH} times the highest measured rate and lanes"),
            None,
        ),
    }
    if q.p99_ns.is_some() && is_closed {
        add(
            "where the cell that counts is a closed loop, its p99 is that of service time, and time \
             spent waiting for a lane comes on top; offer the rate in an open loop to measure it"
                .into(),
            None,
        );
    }
    all
}
