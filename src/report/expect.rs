//! What was expected of a run, and whether it held: pairs of trials of the same block, the
//! interval of their ratio, one word.
//!
//! | measure | read from |
//! |---|---|
//! | `cpu_per_request` | `cpu.per_request_ns` |
//! | `p99` | `response_ns`, in a closed loop `service_ns`, of trials with 1,000 samples or more; undecided where one lost more than a hundredth of its requests |
//! | `throughput` | `achieved_per_s` |
//! | `memory_per_lane` | (`added_bytes` + `added_kernel_bytes`) ÷ `total_lanes`; undecided for runs of versions that did not record the latter |
//! | `heartbeat_p99` | `heartbeat_ns` with 1,000 samples or more |
//! | `runs` | whether trials ran to their end |
//!
//! An expectation *held* where the whole interval of the ratio is above `by`, *did not hold*
//! where it is below, and is undecided in between and where too few blocks hold valid trials of both.
//! Each is judged by itself, at 95 %: of twenty that are true by a hair, one may seem not to be.

use std::collections::BTreeMap;

use super::layout::{Columns, Section};
use super::measures::{Better, Measure};
use super::summary::{Blocks, by_block, by_cell, values};
use crate::format::{Status, TrialRecord};
use crate::plan::expect::{Expect, Expected};
use crate::plan::{Axis, Cell};
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

type Trials<'r> = BTreeMap<&'r str, Blocks<'r>>;

fn judge(
    expect: &Expect,
    (winner, over): (&Cell, &Cell),
    differing: &[Axis],
    trials: &Trials<'_>,
) -> Expectation {
    let [own, other] =
        [winner, over].map(|cell| trials.get(cell.id.as_str()).cloned().unwrap_or_default());
    let (by, (measured, held)) = match measured(expect.measure) {
        None => (String::new(), runs((winner, &own), (over, &other))),
        Some(measure) if expect.by == 1.0 => {
            (String::new(), ratio(expect.by, measure, &own, &other))
        }
        Some(measure) => {
            let by = format!(" by {} or more", Ratio(expect.by));
            (by, ratio(expect.by, measure, &own, &other))
        }
    };
    let (a, b, measure) = (expect.winner.name(), expect.over.name(), expect.measure.name());
    let expected = format!("{a} over {b} in {measure}{by}");
    Expectation { expected, place: place(winner, over, differing), measured, held }
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

fn runs(winner: (&Cell, &Blocks<'_>), over: (&Cell, &Blocks<'_>)) -> (String, Held) {
    let ran = |(cell, blocks): (&Cell, &Blocks<'_>)| {
        let ended = || blocks.values().filter(|r| r.status != Status::Interrupted);
        let (whole, all) =
            (ended().filter(|r| r.status != Status::Failed).count(), ended().count());
        (format!("{} ran {whole} of {all}", cell.engine.name()), whole, all)
    };
    let ((own, a, all), (other, b, of)) = (ran(winner), ran(over));
    let held = match () {
        () if all == 0 || of == 0 => Held::Undecided("no trial".into()),
        () if a == all && b == 0 => Held::Yes,
        () => Held::No,
    };
    (format!("{own}, {other}"), held)
}

fn ratio(by: f64, measure: Measure, own: &Blocks<'_>, others: &Blocks<'_>) -> (String, Held) {
    let (winner, over) = match measure.facts().better {
        Better::More => (own, others),
        Better::Less | Better::Neither => (others, own),
    };
    let Some(pairs) = values(measure, winner, over) else {
        let why = "a trial lost more of its requests than the percentile allows";
        return ("-".into(), Held::Undecided(why.into()));
    };
    let few = |n: usize| {
        let what = format!(
            "{n} blocks hold valid trials of both that measured it, {MIN_FOR_INTERVAL} are needed"
        );
        Held::Undecided(what)
    };
    let Some(estimate) = paired_ratio(&pairs, RATIO_CONFIDENCE) else {
        return ("-".into(), few(0));
    };
    let Some((low, high)) = estimate.interval() else {
        return (format!("{}", Ratio(estimate.ratio)), few(estimate.n));
    };
    let held = match () {
        () if low > by => Held::Yes,
        () if high < by => Held::No,
        () => Held::Undecided(format!("the interval includes {}", Ratio(by))),
    };
    (format!("{} ({} to {})", Ratio(estimate.ratio), Ratio(low), Ratio(high)), held)
}

/// The measure behind an expectation; none behind whether trials run.
fn measured(expected: Expected) -> Option<Measure> {
    match expected {
        Expected::CpuPerRequest => Some(Measure::CpuPerRequest),
        Expected::P99 => Some(Measure::P99),
        Expected::Throughput => Some(Measure::Achieved),
        Expected::MemoryPerLane => Some(Measure::KnownPerLane),
        Expected::HeartbeatP99 => Some(Measure::HeartbeatP99),
        Expected::Runs => None,
    }
}

/// The outcomes as a table; `None` where nothing was expected.
pub fn section(expects: &[Expect], cells: &[Cell], records: &[TrialRecord]) -> Option<Section> {
    let outcomes = outcomes(expects, cells, records);
    let mut table = Columns::some(&outcomes)?;
    table.text("expected", |o| o.expected.clone());
    table.text("where", |o| o.place.clone());
    table.text("winner ÷ loser,\n95 % interval", |o| o.measured.clone());
    table.text("verdict", |o| o.held.text());
    Some(table.section("Expected before the run", vec![]))
}
