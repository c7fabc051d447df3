//! A forecast beside what a run of that load measured: twice the lanes and twice the rate from the
//! cells below, two workers and targets from one.

use anyhow::{Context, bail};
use serde::Serialize;

use super::fits::{self, ACROSS, Series};
use super::point::{Point, middle};
use super::{Figure, MAY_WAIT, Plan, erlang, req_s};
use crate::format::{Reason, TrialRecord};
use crate::plan::sweep::Sweep;
use crate::plan::{Axis, Cell};
use crate::report::layout::{Columns, Section};
use crate::report::summary::is_quiet;
use crate::results::search::searches;
use crate::units::{format_bytes, format_count, format_ns, format_share};

/// How far off memory, CPU, lanes and the knee may be, as a share.
const GOAL: f64 = 0.10;
/// The same of a p99 at [`OF_KNEE`] of the knee.
const GOAL_P99: f64 = 0.20;
/// Share of the knee at which a p99 is forecast.
const OF_KNEE: f64 = 0.8;

/// Rates that differ by no more than this, the spread of a rate between trials, are the same.
const NEAR: f64 = 0.02;

#[derive(Debug, Clone, PartialEq)]
pub struct Loads {
    /// The grid of twice the load.
    pub twice: Sweep,
    /// The grid of half of that, which a search does not hold: its rates are near the knee.
    pub below: Option<Sweep>,
    /// The search with two workers and targets; `None` where the run was no search.
    pub knee: Option<Sweep>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Proof {
    /// Engine, and what else tells it apart.
    pub name: String,
    pub what: &'static str,
    /// Forecast ÷ measurement − 1; `None` where nothing was measured.
    pub error: Option<f64>,
    /// Largest error that is good enough.
    pub goal: f64,
    /// The forecast, the measurement and the error, each with its cells.
    pub figures: Vec<Figure>,
    /// Why nothing was measured, or what may have moved it.
    pub remark: Option<String>,
}

/// The knee of each search of a run, and its cell.
fn knees(sweep: &Sweep, records: &[TrialRecord]) -> Vec<(Cell, Result<f64, Reason>)> {
    let all = searches(sweep, records).into_iter();
    all.map(|p| (p.cell.clone(), p.outcome().knee_per_s())).collect()
}

/// What a run's forecasts are held against.
///
/// # Errors
/// Why there is no load to double.
pub fn loads(sweep: &Sweep, records: &[TrialRecord]) -> anyhow::Result<Loads> {
    let mut twice = sweep.clone();
    twice.axes.engines.retain(|engine| !engine.has_one_lane());
    (twice.aa, twice.idle, twice.syscalls) = (false, false, false);
    (twice.memory, twice.precision, twice.trials) = (Default::default(), None, 6);
    twice.search = None;
    twice.axes.knee_shares.clear();
    twice.expect_failed.clear();
    twice.name = format!("{}-proof", sweep.name);
    if twice.axes.engines.is_empty() || !twice.axes.engines.contains(&twice.baseline) {
        twice.baseline = *twice.axes.engines.first().context("no engine has several lanes")?;
    }
    if !sweep.plan.stages.is_empty() || sweep.plan.trace.is_some() {
        bail!("a run with stages or a trace cannot be doubled: they fix its load");
    }
    if sweep.search.is_some() {
        let (found, missing): (Vec<_>, Vec<_>) =
            knees(sweep, records).into_iter().map(|(_, knee)| knee).partition(Result::is_ok);
        let slowest = found.into_iter().flatten().reduce(f64::min);
        let why = missing.into_iter().find_map(Result::err);
        let Some(slowest) = slowest else {
            bail!("no search found a knee: {}", why.as_deref().unwrap_or_default());
        };
        let part = (OF_KNEE * slowest).round();
        let mut below = twice.clone();
        below.axes.rates_per_s = vec![part];
        let mut knee = Sweep { name: twice.name.clone(), ..sweep.clone() };
        knee.axes.knee_shares.clear();
        for sweep in [&mut twice, &mut knee] {
            let crate::plan::target::Target::Embedded(target) = &mut sweep.target else {
                bail!("duel did not start the server of this run, so it cannot start a second one");
            };
            target.processes *= 2;
            sweep.axes.processes.iter_mut().for_each(|processes| *processes *= 2);
        }
        twice.axes.rates_per_s = vec![2.0 * part];
        return Ok(Loads { twice, below: Some(below), knee: Some(knee) });
    }
    let most = |lanes: &[u32]| lanes.iter().copied().max().unwrap_or(1);
    twice.axes.lanes = vec![most(&sweep.axes.lanes).saturating_mul(2)];
    if let Some(rate) = sweep.axes.rates_per_s.iter().copied().reduce(f64::max) {
        twice.axes.rates_per_s = vec![2.0 * rate];
    }
    Ok(Loads { twice, below: None, knee: None })
}

/// Every forecast of a run's cells, those of [`Loads::below`] included, beside what the loads of its
/// proof measured; `knee` holds the records of a search with twice the workers and targets.
pub fn proofs(
    (sweep, records): (&Sweep, &[TrialRecord]),
    twice: &[TrialRecord],
    knee: Option<(&Sweep, &[TrialRecord])>,
) -> Vec<Proof> {
    let (records_of_subject, twice) = (fits::subjects(records), fits::subjects(twice));
    let own = fits::series(&records_of_subject, None);
    let theirs = fits::series(&twice, None);
    let mut all = Vec::new();
    for series in &own {
        let across = |s: &Series<'_>| {
            Some(s.cells.first()?.cell.except(&[ACROSS[0], ACROSS[1], Axis::Processes]))
        };
        let Some(other) =
            theirs.iter().find(|o| across(o) == across(series) && across(o).is_some())
        else {
            continue;
        };
        for point in &other.cells {
            let proofs = match sweep.search {
                Some(_) => at_part_of_knee(series, point).into_iter().collect(),
                None => at_twice(series, point),
            };
            let trials = || point.trials.iter().copied();
            all.extend(proofs.into_iter().map(|proof| proof.named(&series.name, trials())));
        }
    }
    if let Some((two, records_of_two)) = knee {
        let doubled = knees(two, records_of_two);
        for (cell, knee) in knees(sweep, records) {
            let Ok(knee) = knee else { continue };
            let beside =
                |c: &Cell| (c.kind, c.except(&[Axis::Load, Axis::Processes, Axis::Lanes]), c.lanes);
            let Some((other, measured)) = doubled.iter().find(|(o, _)| beside(o) == beside(&cell))
            else {
                continue;
            };
            let what = "knee with two workers and targets";
            let found = (measured.as_ref().ok().copied(), other.id.as_str());
            let proof = Proof::of(what, GOAL, req_s, (2.0 * knee, vec![cell.id.clone()]), found);
            let remark = measured.as_ref().err().map(ToString::to_string);
            let of_engine = records_of_two.iter().filter(|r| r.cell.engine == cell.engine);
            let told =
                |proof: Proof| Proof { remark, ..proof }.named(cell.engine.name(), of_engine);
            all.extend(proof.map(told));
        }
    }
    all
}

/// p99 at a part of the knee: with twice the workers and targets it is that of one at half the rate.
fn at_part_of_knee(series: &Series<'_>, point: &Point<'_>) -> Option<Proof> {
    let measured = point.p99_ns.filter(|_| point.cell.arrivals.is_open())?;
    let rate = point.rate_per_s / 2.0;
    let lanes = point.lanes();
    let points = series.cells.iter().filter(|p| {
        p.cell.arrivals.is_open() && p.lanes() == lanes && p.p99_ns.is_some() && p.rate_per_s > 0.0
    });
    let mut known: Vec<(f64, f64, &str)> =
        points.map(|p| (p.rate_per_s, p.p99_ns.unwrap_or(0.0), p.cell.id.as_str())).collect();
    known.sort_by(|a, b| a.0.total_cmp(&b.0));
    let near = known.iter().find(|(r, ..)| (r / rate - 1.0).abs() <= NEAR).copied();
    let above = known.iter().position(|(r, ..)| *r >= rate).filter(|i| *i > 0);
    let (forecast, from) = match (near, above.map(|i| (known[i - 1], known[i]))) {
        (Some((_, p99, id)), _) => (p99, vec![id.into()]),
        (None, Some((a, b))) => {
            let between = (rate - a.0) / (b.0 - a.0);
            (a.1 + between * (b.1 - a.1), vec![a.2.into(), b.2.into()])
        }
        (None, None) => return None,
    };
    let found = (Some(measured), point.cell.id.as_str());
    Proof::of("p99 at 80 % of the knee", GOAL_P99, format_ns, (forecast, from), found)
}

fn at_twice(series: &Series<'_>, point: &Point<'_>) -> Vec<Proof> {
    let (cell, trials) = (point.cell, &point.trials);
    let Ok(curve) = series.curve(None) else { return vec![] };
    let end = curve.at(curve.end_per_s());
    let is_open = cell.arrivals.is_open();
    // In a closed loop each lane sends as often as it did: Little's law.
    let rate = match cell.offered_per_s.filter(|_| is_open) {
        Some(rate) => rate,
        None => f64::from(cell.total_lanes) * 1e9 / end.latency_ns,
    };
    let at = curve.at(rate);
    let proof = |what, (forecast, measured), text: fn(f64) -> String, from: &[String]| {
        Proof::of(what, GOAL, text, (forecast, from.to_vec()), (Some(measured), cell.id.as_str()))
    };
    let cpu = (at.busy * 1e9 / rate, point.cpu_per_request_ns);
    let mut proofs = vec![proof("CPU per request at twice the rate", cpu, format_ns, &at.cells)];
    if let Some(memory) = series.memory().ok().filter(|_| series.has_slope()) {
        let workers = point.processes();
        let kernel = middle(trials, |t| t.memory.kernel_bytes.unwrap_or(0) as f64);
        let has_kernel = trials.iter().all(|t| t.memory.kernel_bytes.is_some());
        let forecast = memory.user.at(cell.total_lanes, workers)
            + memory.kernel.filter(|_| has_kernel).map_or(0.0, |k| k.at(cell.total_lanes, workers));
        let measured = middle(trials, |t| t.memory.peak_rss_bytes as f64) + kernel;
        let what =
            if has_kernel { "memory at twice the lanes" } else { "user memory at twice the lanes" };
        proofs.push(proof(what, (forecast, measured), format_bytes, &series.ids()));
    }
    // How many lanes the rate takes: by the time of a request that was forecast, and by the measured.
    let lanes = |rate: f64, ns: f64| erlang::lanes_for(rate * ns / 1e9, MAY_WAIT).map(f64::from);
    let measured = point.latency_ns.and_then(|ns| lanes(point.rate_per_s, ns));
    if let Some(both) = lanes(rate, at.latency_ns).zip(measured) {
        let count = |n: f64| format_count(n as u64);
        proofs.push(proof("lanes at twice the rate", both, count, &at.cells));
    }
    proofs.into_iter().flatten().collect()
}

impl Plan {
    /// Forecasts beside measurements; `None` where nothing was proved.
    pub(super) fn proof_section(&self) -> Option<Section> {
        let rows = &self.proofs;
        let text = |i: usize| move |p: &Proof| Some(p.figures.get(i)?.text.clone());
        let mut table = Columns::some(rows)?;
        table.text("engine", |p| p.name.clone());
        table.text("forecast of", |p| p.what.to_string());
        table.number("forecast", text(0));
        table.number("measured", text(1));
        table.number("error", text(2));
        table.number("goal", |p| format!("± {}", format_share(p.goal)));
        table.text("", |p| p.verdict().to_string());
        let met = rows.iter().filter(|p| p.is_met()).count();
        let mut notes = vec![format!(
            "forecast from this run's cells, then run (in `proof`): {met} of {} forecasts were \
             within their goal",
            rows.len(),
        )];
        let remark = |p: &Proof| Some(format!("{}, {}: {}", p.name, p.what, p.remark.as_ref()?));
        notes.extend(rows.iter().filter_map(remark));
        Some(table.section("the forecast, and what that load measured", notes))
    }
}

impl Proof {
    /// A forecast beside what was measured in a cell; `None` where the two cannot be compared.
    fn of(
        what: &'static str,
        goal: f64,
        text: fn(f64) -> String,
        (forecast, from): (f64, Vec<String>),
        (measured, cell): (Option<f64>, &str),
    ) -> Option<Proof> {
        let error = measured.map(|measured| forecast / measured - 1.0);
        let mut figures = vec![Figure::new("forecast", forecast, text(forecast), from.clone())];
        if let Some((measured, error)) = measured.zip(error) {
            let both = [from, vec![cell.into()]].concat();
            figures.extend([
                Figure::new("measured", measured, text(measured), vec![cell.into()]),
                Figure::new("error", error, format!("{:+.1} %", error * 100.0), both),
            ]);
        }
        let proof = Proof { name: String::new(), what, error, goal, figures, remark: None };
        error.is_none_or(f64::is_finite).then_some(proof)
    }

    /// The same under its name, and what may have moved the measurement.
    fn named<'r>(self, name: &str, trials: impl IntoIterator<Item = &'r TrialRecord>) -> Proof {
        let missed = self.error.is_some() && !self.is_met();
        let noisy = missed && trials.into_iter().any(|t| !is_quiet(t));
        let busy = noisy.then(|| "other programs kept the machine busy, which may be why".into());
        Proof { name: name.into(), remark: busy.or(self.remark), ..self }
    }

    pub fn is_met(&self) -> bool {
        self.error.is_some_and(|error| error.abs() <= self.goal)
    }

    fn verdict(&self) -> &'static str {
        match self.error {
            None => "not measured",
            Some(_) if self.is_met() => "met",
            Some(_) => "missed",
        }
    }
}
