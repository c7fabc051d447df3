//! From measured cells to hosts: what a rate needs of each engine, which limit comes first, and what
//! it costs.
//!
//! Pure: records, questions and ceilings go in, a plan or a refusal comes out. In flight =
//! rate × mean time in the system (J. D. C. Little, Operations Research 9, 1961); lanes of a host so
//! that at most [`MAY_WAIT`] of its Poisson arrivals wait ([`super::erlang`]); memory by a straight
//! line over lanes; CPU and latency between the measured cells on either side of the rate that one
//! worker group would carry ([`curve`]).
//!
//! Data say nothing beyond their end. A bound on p99 holds up to the highest rate that met it; lanes,
//! CPU and memory are carried on to twice the largest measured value ([`REACH`]), and what lies
//! beyond is refused, with what to measure next. Every number that is shown is a [`Figure`], which
//! names the cells or the switches that it comes from.

mod assume;
mod budget;
mod curve;
mod fits;
mod host;
pub mod hosts;
mod need;
mod point;
pub mod prove;
mod section;
mod text;
mod what_if;

use jiff::civil::Date;
use serde::Serialize;

use super::erlang;
use crate::format::TrialRecord;
use crate::limits::Ceiling;
use crate::plan::{Cell, Engine};
use crate::units::{format_count, format_rate};
pub(crate) use assume::Assumption;
pub(crate) use budget::Budget;
use fits::Series;
use hosts::HostType;
pub use need::Need;
pub(crate) use what_if::WhatIf;

/// Share of arrivals that may find no free lane.
pub(crate) const MAY_WAIT: f64 = 0.01;
/// Share of a host's CPUs that is planned for unless asked otherwise; the rest absorbs bursts, whose
/// queues grow with 1 ÷ (1 − utilisation).
pub(crate) const CPU_PLANNED: f64 = 0.7;
/// Share of a host's memory that is planned for unless asked otherwise.
pub(crate) const MEMORY_PLANNED: f64 = 0.8;
/// How far beyond the largest measured value a line is carried on.
pub(crate) const REACH: f64 = 2.0;
/// Most hosts that are planned: more is a mistake in the question.
const MOST_HOSTS: u64 = 1_000_000;

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Question {
    /// Requests per second, in total and of all classes.
    pub rate_per_s: f64,
    /// The class of requests that the bound and the budget are about; `None` for all requests.
    pub class: Option<String>,
    /// Bound on the 99th percentile that a measured cell must meet to count.
    pub p99_ns: Option<u64>,
    /// Share of requests that must be answered, whose error budget is told.
    pub availability: Option<f64>,
    /// Mean time of a request in the system; measured where it is not given.
    pub latency_ns: Option<u64>,
    /// Connections that clients hold to a service, in total; the fewest that carry the rate where it
    /// is not given.
    pub connections: Option<f64>,
    pub host: HostType,
    /// Share of a host's CPUs that is planned for.
    pub cpu_target: f64,
    /// Share of a host's memory that is planned for.
    pub memory_target: f64,
    /// Growth per year, compounded: 0.3 is 30 %.
    pub growth_per_year: f64,
    pub months: f64,
    /// The day on which the plan begins, which gives later months their names.
    pub from: Option<Date>,
    pub spare: u32,
}

impl Question {
    /// A rate on a type of hosts; all else as it is unless asked otherwise.
    pub fn new(rate_per_s: f64, host: HostType) -> Question {
        Question {
            rate_per_s,
            class: None,
            p99_ns: None,
            availability: None,
            latency_ns: None,
            connections: None,
            host,
            cpu_target: CPU_PLANNED,
            memory_target: MEMORY_PLANNED,
            growth_per_year: 0.0,
            months: 12.0,
            from: None,
            spare: 0,
        }
    }

    /// Rate after so many months, requests per second.
    fn rate_in(&self, months: f64) -> f64 {
        self.rate_per_s * (1.0 + self.growth_per_year).powf(months / 12.0)
    }

    /// The month that a day so many months later is in: `May 2027`, or `month 6` where nobody said when
    /// it begins. A part of a month counts by its share of 30.44 days (365.25 ÷ 12).
    fn month_in(&self, months: f64) -> String {
        let whole = jiff::Span::new().try_months(months.floor() as i64);
        let part = jiff::Span::new().days((months.fract() * 365.25 / 12.0) as i64);
        let later = |from: Date| from.checked_add(whole.ok()?).ok()?.checked_add(part).ok();
        match self.from.and_then(later) {
            Some(day) => day.strftime("%B %Y").to_string(),
            None => format!("month {}", months.floor()),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Plan {
    pub sentence: String,
    pub question: Question,
    /// Whether the hosts are those of the service, the side under test; else those of its clients.
    pub is_service: bool,
    /// One for each engine, set of axes beside lanes and rate, and type of hosts.
    pub engines: Vec<EnginePlan>,
    pub assumptions: Vec<Assumption>,
    /// The same question under other rates, growths and utilisations; empty where one was asked.
    pub what_if: Vec<WhatIf>,
    /// Forecasts beside what a run of that load measured; empty unless it was run.
    pub proofs: Vec<prove::Proof>,
}

/// The answer for one engine on one type of hosts.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EnginePlan {
    /// Engine and what else tells it apart.
    pub name: String,
    pub(crate) engine: Engine,
    /// Name of the type of hosts; empty where it was given by flags.
    pub host: String,
    /// The need, or why nothing can be said and what to measure next.
    pub answer: Result<Need, CapacityRefusal>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CapacityRefusal {
    pub why: String,
    pub measure_next: String,
    pub suggestion: Option<Suggestion>,
}

/// What the config of the next run has otherwise.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Suggestion {
    /// These lanes as well.
    Lanes(Vec<u32>),
    /// These rates as well, requests per second.
    Rates(Vec<f64>),
    /// Windows this many times as long.
    Longer(f64),
}

/// A number as it is shown, and where it comes from.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figure {
    pub name: String,
    /// Its value, in the unit that its name ends in.
    pub value: f64,
    /// Ends of its interval over trials, where there are enough.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<(f64, f64)>,
    pub text: String,
    /// Ids of the cells and names of the switches that it was computed from.
    pub from: Vec<String>,
}

impl Figure {
    fn new(name: &str, value: f64, text: String, from: Vec<String>) -> Figure {
        Figure { name: name.into(), value, interval: None, text, from }
    }
}

pub(super) fn figure<'f>(all: &'f [Figure], name: &str) -> Option<&'f Figure> {
    all.iter().find(|f| f.name == name)
}

fn text_of<'f>(all: &'f [Figure], name: &str) -> &'f str {
    figure(all, name).map_or("-", |f| f.text.as_str())
}

impl Need {
    fn text_of(&self, name: &str) -> &str {
        text_of(&self.figures, name)
    }

    pub fn from(&self, name: &str) -> &[String] {
        figure(&self.figures, name).map_or(&[], |f| f.from.as_slice())
    }
}

/// What hosts cost in a month, in whole cents that add up.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Cost {
    /// Three letters, such as EUR.
    pub currency: String,
    pub host_cents: u64,
    pub today_cents: u64,
    pub growth_cents: u64,
    pub spare_cents: u64,
    pub total_cents: u64,
    /// All hosts, divided by the millions of requests of a month at today's rate.
    pub cents_per_million: f64,
}

/// A measured cell, or the planned point between two.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CurvePoint {
    /// The cell; `None` for the planned point.
    pub cell: Option<String>,
    /// Rate, p99 and CPU per request, with intervals over trials where there are enough.
    pub figures: Vec<Figure>,
}

/// What a resource is of: the hosts, their system, or the measured data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ResourceKind {
    Cpu,
    Memory,
    System,
    Data,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Resource {
    pub name: String,
    #[serde(skip)]
    pub(crate) kind: ResourceKind,
    /// Requests per second that it allows one host; `None` where that lies beyond the data.
    pub allows_per_s: Option<f64>,
    /// Share of what is planned for that each of today's hosts uses.
    pub used: f64,
    /// Share of the resource that is planned for.
    pub planned: f64,
    /// Months until today's hosts have used it up; `None` without growth or beyond the data.
    pub reached_in_months: Option<f64>,
}

/// Plans for every engine of the records on every type of hosts. The first question is the plan's,
/// with all that differ from it in the type of hosts alone; the others are its what-if table.
/// `ceilings` gives the limits of one process of a cell's side under test.
pub fn plan(
    records: &[TrialRecord],
    questions: &[Question],
    ceilings: &dyn Fn(&Cell) -> Vec<Ceiling>,
) -> Plan {
    let records = &*fits::subjects(records);
    let first = &questions[0];
    let series = fits::series(records, first.class.as_deref());
    let answers = |q: &Question| -> Vec<EnginePlan> {
        let one = |series: &Series<'_>| EnginePlan {
            name: series.name.clone(),
            engine: series.cell.engine,
            host: q.host.name.clone(),
            answer: host::answer(series, q, &ceilings(series.cell)),
        };
        match q.class == first.class {
            true => series.iter().map(one).collect(),
            false => fits::series(records, q.class.as_deref()).iter().map(one).collect(),
        }
    };
    let is_first = |q: &&Question| **q == Question { host: q.host.clone(), ..first.clone() };
    let engines: Vec<EnginePlan> = questions.iter().filter(is_first).flat_map(answers).collect();
    let what_if = match questions.iter().all(|q| is_first(&q)) {
        true => vec![],
        false => questions.iter().flat_map(|q| what_if::rows(q, &answers(q))).collect(),
    };
    let is_closed = |s: &Series<'_>| s.curve(first.p99_ns).is_ok_and(|c| !c.is_open());
    let is_service = series.iter().any(|s| s.cell.tests_server());
    let needs = || engines.iter().filter_map(|e| e.answer.as_ref().ok());
    let limits: Vec<ResourceKind> = needs().map(|need| need.resources[0].kind).collect();
    let is_closed = series.iter().any(is_closed);
    let assumptions = assume::assumptions(first, is_closed, is_service, &limits);
    let sentence = text::sentence(first, questions, &engines, is_service);
    let (question, proofs) = (first.clone(), vec![]);
    Plan { sentence, question, is_service, engines, assumptions, what_if, proofs }
}

/// The highest rate of any engine's valid cells, in requests per second, within a bound on p99, which
/// may be that of a class.
pub fn measured_rate(
    records: &[TrialRecord],
    class: Option<&str>,
    p99_ns: Option<u64>,
) -> Option<f64> {
    let highest = |series: &Series<'_>| series.curve(p99_ns).ok().map(|curve| curve.end_per_s());
    fits::series(records, class).iter().filter_map(highest).reduce(f64::max)
}

fn refuse<T>(
    why: impl Into<String>,
    next: impl Into<String>,
    suggestion: Option<Suggestion>,
) -> Result<T, CapacityRefusal> {
    Err(CapacityRefusal { why: why.into(), measure_next: next.into(), suggestion })
}

/// Lanes worth measuring next, and the same as text for a config.
fn next_lanes(needed: f64) -> (String, Option<Suggestion>) {
    let at = needed.clamp(2.0, 1e9).ceil() as u32;
    let lanes = vec![(at / 4).max(1), (at / 2).max(1), at];
    (format!("lanes = {lanes:?}"), Some(Suggestion::Lanes(lanes)))
}

fn req_s(rate: f64) -> String {
    format!("{} req/s", format_rate(rate))
}

fn count(n: f64) -> String {
    format_count(n.ceil() as u64)
}
