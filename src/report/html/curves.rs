//! Throughput, latency, memory, CPU and switches against lanes or rate, with intervals.

use std::collections::BTreeMap;

use maud::{Markup, html};

use super::figure::{self, APART, MOST_PANELS};
use super::paragraph;
use crate::format::TrialRecord;
use crate::plan::cell::{Family, Key, families};
use crate::plan::{Axis, Cell, CellKind};
use crate::report::layout::capital;
use crate::report::measures::{self, Facts, Measure, ShownIn, Unit};
use crate::report::plot::{self, Mark, Panels, PlotAxis, Scale, whole};
use crate::report::summary::{Group, read_for};
use crate::report::verdict::Trials;
use crate::stats::{median, median_interval};

/// How far the achieved rate may be from the offered one.
const KEEPS_UP: f64 = 0.02;

/// A measure of a trial as it is drawn: infinite where it was lost.
fn drawn(Facts { measure, of, .. }: &Facts, trial: &TrialRecord) -> Option<f64> {
    if measure.is_lost(trial) {
        return Some(f64::INFINITY);
    }
    let value = of(trial)?;
    // An open loop that keeps up achieves its offer: nothing to be seen.
    let offered = trial.cell.offered_per_s.filter(|_| *measure == Measure::Achieved);
    Some(value).filter(|v| offered.is_none_or(|offered| (v / offered - 1.0).abs() > KEEPS_UP))
}

/// Why a trial may have no value.
fn absent(measure: Measure) -> &'static str {
    match measure {
        Measure::Achieved => "what was achieved is within 2 % of what was offered",
        Measure::P99 => {
            "no trial has the 1,000 requests that a p99 needs, or too many requests were lost"
        }
        Measure::Memory => "memory was not measured",
        Measure::CpuPerRequest => "no CPU time was measured",
        _ => "no switches were counted",
    }
}

/// Where a cell stands on the axis of a plot.
fn value(cell: &Cell, across: Axis) -> Option<f64> {
    match across {
        Axis::Lanes => Some(cell.total_lanes.into()),
        _ => cell.offered_per_s.filter(|_| !cell.is_idle()),
    }
}

/// Cells that differ in what is across and in what tells rows apart, in the order of their numbers;
/// those with a single value across make no curve.
fn panels(groups: &[Group], across: Axis) -> Vec<Vec<&Cell>> {
    let mut panels: BTreeMap<(CellKind, Key), Vec<&Cell>> = BTreeMap::new();
    let cells = groups.iter().flat_map(|g| &g.rows).map(|r| &r.cell);
    for cell in cells.filter(|c| c.is_timed() && value(c, across).is_some()) {
        panels.entry((cell.kind, cell.place(&[across]))).or_default().push(cell);
    }
    panels.retain(|_, cells| cells.iter().any(|c| value(c, across) != value(cells[0], across)));
    let by_value = |c: &&Cell| value(c, across).unwrap_or(0.0);
    let mut panels: Vec<Vec<&Cell>> = panels.into_values().collect();
    panels.iter_mut().for_each(|p| p.sort_by(|a, b| by_value(a).total_cmp(&by_value(b))));
    panels
}

/// A figure per measure: against lanes with a panel per rate, or against rates with one per lanes.
pub(super) fn curves(groups: &[Group], trials: &Trials<'_>) -> Markup {
    let lanes = panels(groups, Axis::Lanes);
    let rates = panels(groups, Axis::Load);
    if lanes.is_empty() && rates.is_empty() {
        return paragraph(
            "One value of lanes and of rate only, so nothing can be drawn against them: sweep \
             several, such as lanes = [16, 64, 256].",
        );
    }
    // What a request takes is drawn against rates even where lanes vary as well.
    let over_rates = |m: Measure| matches!(m, Measure::P99 | Measure::CpuPerRequest);
    html! {
        (paragraph(&format!(
            "Medians over trials, with 95 % intervals from order statistics where there are at least \
             six trials. {APART}"
        )))
        div.plots {
            @for facts in measures::shown(ShownIn::Curve) {
                @if !lanes.is_empty() { (curve(facts, Axis::Lanes, &lanes, trials)) }
                @if !rates.is_empty() && (over_rates(facts.measure) || lanes.is_empty()) {
                    (curve(facts, Axis::Load, &rates, trials))
                }
            }
        }
    }
}

fn curve(facts: &Facts, across: Axis, cells: &[Vec<&Cell>], trials: &Trials<'_>) -> Markup {
    let (measure, words) = (facts.measure, facts.measure.words());
    let print = |v| measure.print(v);
    let y = PlotAxis::new(&words, scale(facts), &print);
    let across_title = if across == Axis::Lanes { "lanes" } else { "offered req/s" };
    let title = format!("{} against {across_title}", capital(&words));
    let all: Vec<&Cell> = cells.iter().flatten().copied().collect();
    let names = line_names(&all);
    let firsts: Vec<&Cell> = cells.iter().map(|c| c[0]).collect();
    let mut panels = Panels::default();
    let mut missing: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (own, title) in cells.iter().zip(figure::titles(&firsts, &[across])).take(MOST_PANELS) {
        panels.begin(title, &y);
        for cell in own {
            let (Some(x), Some(name)) = (value(cell, across), names.get(cell.id.as_str())) else {
                continue;
            };
            let trials = trials.get(cell.id.as_str());
            let read = trials.map_or(vec![], |t| read_for(facts, t));
            let values: Vec<f64> = read.into_iter().filter_map(|t| drawn(facts, t)).collect();
            let Some(y) = median(&values).filter(|y| y.is_finite()) else {
                let why = if trials.is_some() { absent(measure) } else { "no trial is valid" };
                let place = format!("{name}, {}", figure::titles(&[cell], &[])[0]);
                missing.entry(why).or_default().push(place);
                continue;
            };
            let interval = median_interval(&values).filter(|(_, high)| high.is_finite());
            panels.draw(cell.engine, name, vec![Mark { interval, ..Mark::at(x, y) }]);
        }
    }
    panels.0.retain(|panel| !panel.lines.is_empty());
    if panels.0.is_empty() {
        let reasons: Vec<&str> = missing.into_keys().collect();
        return paragraph(&format!("{title} is not drawn: {}.", reasons.join("; ")));
    }
    let mut below: Vec<String> = missing.into_iter().map(not_drawn).collect();
    if cells.len() > MOST_PANELS {
        below.push(format!(
            "{} more panels are left out, so that this file stays small; cells.csv has their figures.",
            cells.len() - MOST_PANELS
        ));
    }
    let xs = || all.iter().filter_map(|c| value(c, across));
    let (least, most) = (xs().fold(f64::INFINITY, f64::min), xs().fold(0.0, f64::max));
    let scale = if most > 4.0 * least { Scale::Log2 } else { Scale::Linear };
    let x = PlotAxis::new(across_title, scale, &number).holding(xs());
    figure::lines(&title, &x, plot::columns(panels.0.len()), &panels.0, &below)
}

fn scale(facts: &Facts) -> Scale {
    match facts.unit {
        _ if facts.measure == Measure::P99 => Scale::Log10,
        Unit::Bytes => Scale::Binary,
        _ => Scale::Linear,
    }
}

/// A reason why cells have no point, with the cells, so that nobody has to look for them.
fn not_drawn((why, cells): (&str, Vec<String>)) -> String {
    const MOST_CELLS: usize = 8;
    let more = match cells.len().saturating_sub(MOST_CELLS) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let shown = &cells[..cells.len().min(MOST_CELLS)];
    format!("Not drawn, because {why}: {}{more}.", shown.join("; "))
}

/// What the line of each cell is called, by its id: the same in every panel.
fn line_names<'c>(cells: &[&'c Cell]) -> BTreeMap<&'c str, String> {
    let shared: Vec<Axis> = Axis::all().filter(|axis| axis.is_shared()).collect();
    let of = |family: Family<'c, &'c str>| {
        let name = family.name;
        family.members.into_iter().map(move |id| (id, name.clone()))
    };
    families(cells.iter().map(|c| (*c, c.id.as_str())), &shared).into_iter().flat_map(of).collect()
}

/// Whole numbers with separators, others as they are.
fn number(v: f64) -> String {
    if v >= 10.0 || v.fract() == 0.0 { whole(v) } else { format!("{v:.2}") }
}
