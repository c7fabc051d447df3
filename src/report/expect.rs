//! What was expected of a run, and whether it held: pairs of trials of the same block, the
//! interval of their ratio, one word.
//!
//! | measure | read from |
//! |---|---|
//! | `cpu_per_request` | `cpu.per_request_ns` |
//! | `p99` | `response_ns`, in a closed loop `service_ns`, of trials with 1,000 samples or more; undecided where one lost more than a hundredth of its requests |
//! | `throughput` | `achieved_per_s` |
//! | `memory_per_lane` | (`added_bytes` + `page_table_bytes` + `kernel_stack_bytes`) ÷ `total_lanes` |
//! | `heartbeat_p99` | `heartbeat_ns` with 1,000 samples or more |
//! | `runs` | whether trials ran to their end |
//!
//! An expectation *held* where the whole interval of the ratio is above `by`, *did not hold*
//! where it is below, and is undecided in between and where too few blocks hold valid trials of both.
//! Each is judged by itself, at 95 %: of twenty that are true by a hair, one may seem not to be.

use std::collections::BTreeMap;

use super::layout::{Columns, Section};
use super::measures::{Better, Measure};
use super::summary::{by_block, by_cell, is_valid};
use crate::format::{Status, TrialRecord};
use crate::plan::expect::{Expect, Expected};
use crate::plan::{Axis, Cell};
use crate::results::store::PlanJson;
use crate::stats::{MIN_FOR_INTERVAL, RATIO_CONFIDENCE, paired_ratio};
use crate::units::Ratio;

#[derive(Debug, Clone, PartialEq)]
pub struct Expectation {
    pub expected: String,
    pub place: String,
    pub measured: String,
    pub held: Held,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Held {
    Yes,
    No,
    Undecided(String),
}

impl Held {
    pub fn text(&self) -> String {
        match self {
            Held::Yes => "held".into(),
            Held::No => "did not hold".into(),
            Held::Undecided(why) => format!("undecided: {why}"),
        }
    }
}

pub(crate) fn of_plan(plan: &PlanJson) -> Vec<Expect> {
    plan.sweep().map_or(vec![], |sweep| sweep.expect)
}

/// Judges every expectation in every pair of cells that it speaks of.
pub fn outcomes(expects: &[Expect], cells: &[Cell], records: &[TrialRecord]) -> Vec<Expectation> {
    let blocks = by_cell(records).into_iter().map(|(id, trials)| (id, by_block(&trials)));
    let trials: Trials<'_> = blocks.collect();
    let differing = Axis::differing(&cells.iter().collect::<Vec<_>>());
    let judged = |expect: &Expect| -> Vec<Expectation> {
        let pairs = expect.pairs(cells);
        pairs.into_iter().map(|pair| judge(expect, pair, &differing, &trials)).collect()
    };
    expects.iter().flat_map(judged).collect()
}

type Trials<'r> = BTreeMap<&'r str, BTreeMap<u32, &'r TrialRecord>>;

fn judge(
    expect: &Expect,
    (winner, over): (&Cell, &Cell),
    differing: &[Axis],
    trials: &Trials<'_>,
) -> Expectation {
    let (measured, held) = match expect.measure {
        Expected::Runs => runs(winner, over, trials),
        _ => ratio(expect, winner, over, trials),
    };
    let by = match expect.measure {
        Expected::Runs => String::new(),
        _ if expect.by == 1.0 => String::new(),
        _ => format!(" by {} or more", Ratio(expect.by)),
    };
    let (a, b, measure) = (expect.winner.name(), expect.over.name(), expect.measure.name());
    Expectation {
        expected: format!("{a} over {b} in {measure}{by}"),
        place: place(winner, over, differing),
        measured,
        held,
    }
}

/// What the pair shares, and what tells it from other pairs of the sweep.
fn place(winner: &Cell, over: &Cell, differing: &[Axis]) -> String {
    let own = [Axis::Engine, Axis::Offload];
    let axes = Axis::all().filter(|a| (a.is_shared() || differing.contains(a)) && !own.contains(a));
    let of = |axis: Axis| {
        // Lanes, stacks and pools say nothing of some engines.
        let cell = [winner, over].into_iter().find(|cell| axis.applies(cell)).unwrap_or(winner);
        axis.words(cell)
    };
    axes.map(of).filter(|words| !words.is_empty()).collect::<Vec<String>>().join(" · ")
}

fn runs(winner: &Cell, over: &Cell, trials: &Trials<'_>) -> (String, Held) {
    let ran = |cell: &Cell| {
        let all = trials.get(cell.id.as_str());
        let ended = all.into_iter().flat_map(|blocks| blocks.values());
        let ended = ended.filter(|record| record.status != Status::Interrupted);
        let whole = |record: &&&TrialRecord| record.status != Status::Failed;
        (ended.clone().filter(whole).count(), ended.count())
    };
    let (own, other) = (ran(winner), ran(over));
    let said = |cell: &Cell, (whole, all): (usize, usize)| {
        format!("{} ran {whole} of {all}", cell.engine.name())
    };
    let measured = format!("{}, {}", said(winner, own), said(over, other));
    let held = match (own, other) {
        ((_, 0), _) | (_, (_, 0)) => Held::Undecided("no trial".into()),
        ((a, all), (0, _)) if a == all => Held::Yes,
        _ => Held::No,
    };
    (measured, held)
}

fn ratio(expect: &Expect, winner: &Cell, over: &Cell, trials: &Trials<'_>) -> (String, Held) {
    let blocks = |cell: &Cell| trials.get(cell.id.as_str());
    let Some(measure) = measured(expect.measure) else {
        return ("-".into(), Held::Undecided("it has no ratio".into()));
    };
    let more_wins = measure.facts().better == Better::More;
    let mut pairs = Vec::new();
    if let (Some(own), Some(others)) = (blocks(winner), blocks(over)) {
        for (block, record) in own {
            let Some(other) = others.get(block).filter(|t| is_valid(t) && is_valid(record)) else {
                continue;
            };
            // Left out, the slowest trials of all would make the ratio better than it is.
            if measure.is_lost(record) || measure.is_lost(other) {
                let why = "a trial lost more of its requests than the percentile allows";
                return ("-".into(), Held::Undecided(why.into()));
            }
            let Some(pair) = measure.of(record).zip(measure.of(other)) else { continue };
            pairs.push(if more_wins { pair } else { (pair.1, pair.0) });
        }
    }
    let few = |n: usize| {
        let what = format!("{n} blocks hold valid trials of both, {MIN_FOR_INTERVAL} are needed");
        Held::Undecided(what)
    };
    let Some(estimate) = paired_ratio(&pairs, RATIO_CONFIDENCE) else {
        return ("-".into(), few(0));
    };
    let Some((low, high)) = estimate.interval() else {
        return (format!("{}", Ratio(estimate.ratio)), few(estimate.n));
    };
    let measured = format!("{} ({} to {})", Ratio(estimate.ratio), Ratio(low), Ratio(high));
    let held = match expect.by {
        by if low > by => Held::Yes,
        by if high < by => Held::No,
        by => Held::Undecided(format!("the interval includes {}", Ratio(by))),
    };
    (measured, held)
}

/// The measure behind an expectation; none behind whether trials run.
fn measured(expected: Expected) -> Option<Measure> {
    match expected {
        Expected::CpuPerRequest => Some(Measure::CpuPerRequest),
        Expected::P99 => Some(Measure::P99),
        Expected::Throughput => Some(Measure::Achieved),
        Expected::MemoryPerLane => Some(Measure::UserAndKernelPerLane),
        Expected::HeartbeatP99 => Some(Measure::HeartbeatP99),
        Expected::Runs => None,
    }
}

/// The outcomes as a table; `None` where nothing was expected.
pub fn section(expects: &[Expect], cells: &[Cell], records: &[TrialRecord]) -> Option<Section> {
    let outcomes = outcomes(expects, cells, records);
    if outcomes.is_empty() {
        return None;
    }
    let mut table = Columns::of(&outcomes);
    table.text("expected", |o| o.expected.clone());
    table.text("where", |o| o.place.clone());
    table.text("winner ÷ loser,\n95 % interval", |o| o.measured.clone());
    table.text("verdict", |o| o.held.text());
    Some(table.section("Expected before the run", vec![]))
}
