//! The search for the highest offered rate that meets an SLO: which rate is tried next, and when it
//! is over. Pure, the same for every engine.
//!
//! Rates are rungs of one ladder, rung k at (1 + tolerance ÷ 2)^k requests per second, so that
//! engines whose knees are close are tried at the same rates; the other half of the tolerance is for
//! what the intervals of a probe near the knee leave undecided. From the throughput of a closed loop the
//! search goes up or down in growing steps until one rung met the SLO and a higher one missed it, and
//! then halves what is between them. A rung that could not be decided stays between them: from there
//! on the search halves what lies on either side of it.

use serde::{Deserialize, Serialize};

use super::slo::Slo;
use super::{Arrivals, Cell, Extent, RequestTemplate, classes};
use crate::units::{SECOND_NS, format_ns, format_rate, format_share};

/// Of the throughput of a closed loop, the share that is offered first: lanes that never rest show
/// what the target completes at most, and the tail grows before that.
const FIRST_SHARE: f64 = 0.8;

/// The first step up or down, as a ratio of rates; it doubles (on a log scale) with each further one.
const FIRST_STEP: f64 = 1.25;

const LONGEST_STEP: f64 = 16.0;

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Search {
    /// How far from the knee the result may lie, as a share of the rate.
    pub tolerance: f64,
    /// Most probes for each engine, the closed loop included.
    pub probes: u32,
    /// Trials of a probe before it is judged; then again whenever their number has doubled.
    pub trials: u32,
    pub max_trials: u32,
    /// No lower rate is tried, requests per second: below it `max_trials` windows hold too few
    /// requests to judge.
    pub min_per_s: f64,
    pub max_per_s: f64,
}

/// One bound of an SLO as a share of requests.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Bound {
    /// As the config says it, such as `p99 ≤ 40 ms`.
    pub name: String,
    /// What is bounded, without how much: `p99`.
    #[serde(skip)]
    pub(crate) what: String,
    /// The class of requests that it is of; `None` of all requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// Longest time that is allowed, in nanoseconds; `None` for lost requests.
    pub most_ns: Option<u64>,
    /// Share of the planned requests that may be beyond it.
    pub allowed: f64,
}

/// The bounds of an SLO, then those that the classes of a mix have of their own.
pub fn bounds(slo: Option<&Slo>, mix: &[RequestTemplate]) -> Vec<Bound> {
    let none = Slo::default();
    let slo = slo.unwrap_or(&none);
    let times = [
        ("p50", 0.5, slo.p50_ns),
        ("p90", 0.1, slo.p90_ns),
        ("p99", 0.01, slo.p99_ns),
        ("p99.9", 0.001, slo.p99_9_ns),
    ];
    let of_all = times.into_iter().map(|(what, allowed, ns)| (what.to_string(), None, ns, allowed));
    let of_classes = classes(mix)
        .into_iter()
        .map(|(class, ns)| (format!("p99 of class {class}"), Some(class.to_string()), ns, 0.01));
    let timed = |(what, class, ns, allowed): (String, Option<String>, Option<u64>, f64)| {
        let name = format!("{what} ≤ {}", format_ns(ns? as f64));
        Some(Bound { name, what, class, most_ns: ns, allowed })
    };
    let lost = slo.error_rate.map(|allowed| {
        let what = "lost requests".to_string();
        let name = format!("{what} ≤ {} %", allowed * 100.0);
        Bound { name, what, class: None, most_ns: None, allowed }
    });
    of_all.filter_map(timed).chain(lost).chain(of_classes.filter_map(timed)).collect()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rung(i32);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProbeReply {
    Met,
    Missed,
    Undecided,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    Probe(Rung),
    /// Between highest met and lowest missed no rung is left but undecided ones.
    Found {
        met: Rung,
        missed: Rung,
    },
    /// The lowest rate that may be tried missed.
    NeverMet(Rung),
    /// The highest rate that may be tried met.
    NeverMissed(Rung),
    OutOfProbes {
        met: Option<Rung>,
        missed: Option<Rung>,
    },
}

impl Search {
    /// The rate of a rung in requests per second, to four digits so that it reads well.
    pub fn rate_per_s(&self, rung: Rung) -> f64 {
        let exact = (self.step_ln() * f64::from(rung.0)).exp();
        to_four_digits(exact).clamp(self.min_per_s, self.max_per_s)
    }

    pub fn rung(&self, rate_per_s: f64) -> Rung {
        Rung((rate_per_s.ln() / self.step_ln()).round() as i32)
    }

    fn step_ln(&self) -> f64 {
        (self.tolerance / 2.0).ln_1p()
    }

    fn lowest(&self) -> Rung {
        Rung((self.min_per_s.ln() / self.step_ln() - 1e-6).ceil() as i32)
    }

    fn highest(&self) -> Rung {
        let rung = (self.max_per_s.ln() / self.step_ln() + 1e-6).floor() as i32;
        Rung(rung.max(self.lowest().0))
    }

    /// What follows `done`, the rungs that were tried and what was said of each, after a closed loop
    /// that completed `closed_per_s`.
    pub fn next(&self, closed_per_s: f64, done: &[(Rung, ProbeReply)]) -> Next {
        let rungs = |is: fn(ProbeReply) -> bool| {
            done.iter().filter(move |(_, reply)| is(*reply)).map(|(rung, _)| *rung)
        };
        let met = rungs(|r| r == ProbeReply::Met).max();
        let missed = rungs(|r| r == ProbeReply::Missed).min();
        // The nearest rungs of which the same is not known.
        let above = rungs(|r| r != ProbeReply::Met).filter(|rung| Some(*rung) > met).min();
        let below =
            rungs(|r| r != ProbeReply::Missed).filter(|r| missed.is_none_or(|m| *r < m)).max();
        let wanted = match (met, above, below, missed) {
            (None, None, ..) => self.rung((closed_per_s * FIRST_SHARE).max(self.min_per_s)).0,
            (Some(met), Some(above), ..) if above.0 - met.0 > 1 => met.0 + (above.0 - met.0) / 2,
            (None, Some(rung), ..) if rung <= self.lowest() => return Next::NeverMet(rung),
            (None, Some(above), ..) => {
                above.0 - self.stride(rungs(|r| r != ProbeReply::Met).count())
            }
            (.., Some(below), Some(missed)) if missed.0 - below.0 > 1 => {
                below.0 + (missed.0 - below.0) / 2
            }
            (Some(met), .., Some(missed)) => return Next::Found { met, missed },
            (Some(met), .., None) if met >= self.highest() => return Next::NeverMissed(met),
            (.., Some(below), None) if below < self.highest() => {
                below.0 + self.stride(rungs(|r| r != ProbeReply::Missed).count())
            }
            _ => return Next::OutOfProbes { met, missed },
        };
        if done.len() as u64 + 1 >= u64::from(self.probes) {
            return Next::OutOfProbes { met, missed };
        }
        Next::Probe(Rung(wanted.clamp(self.lowest().0, self.highest().0)))
    }

    /// Rungs of the step after `tried` probes that all went the same way.
    fn stride(&self, tried: usize) -> i32 {
        let doubled = FIRST_STEP.ln() * 2f64.powi(tried.saturating_sub(1).min(8) as i32);
        (doubled.min(LONGEST_STEP.ln()) / self.step_ln()).round().max(1.0) as i32
    }

    /// Most trials of one engine: the closed loop once, each other probe as often as it may.
    pub fn most_trials(&self) -> u64 {
        1 + u64::from(self.probes - 1) * u64::from(self.max_trials)
    }

    /// The lowest rate at which `max_trials` trials hold `requests`; 1 where the plan itself says
    /// how many there are.
    pub(crate) fn least_rate(extent: Extent, max_trials: u32, requests: f64) -> f64 {
        match extent {
            Extent::Requests(_) => 1.0,
            Extent::DurationNs(ns) => {
                let seconds = ns as f64 / SECOND_NS as f64 * f64::from(max_trials);
                (requests / seconds).max(1e-6)
            }
        }
    }
}

fn to_four_digits(exact: f64) -> f64 {
    let unit = 10f64.powi(exact.log10().floor() as i32 - 3);
    // A unit below one is no binary fraction: dividing by its inverse rounds once, not twice.
    let rounded = (exact / unit).round();
    if unit < 1.0 { rounded / (1.0 / unit).round() } else { rounded * unit }
}

/// The cell of the closed loop that a search starts from.
pub fn closed(cell: &Cell) -> Cell {
    let id = format!("{}-closed", cell.id);
    Cell { id, arrivals: Arrivals::Closed, offered_per_s: None, ..cell.clone() }
}

/// The cell of a sweep that follows the search, at a share of the knee that was found.
pub fn at_share(cell: &Cell, share: f64, knee_per_s: Option<f64>) -> Cell {
    let id = format!("{}-k{}", cell.id, format_share(share).trim_end_matches(" %"));
    let offered_per_s = knee_per_s.map(|knee| to_four_digits(share * knee));
    Cell { id, offered_per_s, knee_share: Some(share), ..cell.clone() }
}

pub(crate) fn probe(cell: &Cell, rate_per_s: f64) -> Cell {
    let id = format!("{}-r{rate_per_s}", cell.id);
    Cell { id, offered_per_s: Some(rate_per_s), ..cell.clone() }
}

impl std::fmt::Display for Search {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "at most {} probes of {} to {} trials for each engine, from {} to {} req/s, until the \
             knee is known within {} %",
            self.probes,
            self.trials,
            self.max_trials,
            format_rate(self.min_per_s),
            format_rate(self.max_per_s),
            self.tolerance * 100.0
        )
    }
}
