//! Throughput, latency, memory, CPU and switches against lanes or rate, with intervals.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use maud::{Markup, html};

use super::figure::{self, APART, MOST_PANELS};
use super::paragraph;
use crate::format::TrialRecord;
use crate::plan::cell::{Family, Key, families};
use crate::plan::{Axis, Cell, CellKind};
use crate::report::layout::capital;
use crate::report::measures::Measure;
use crate::report::plot::{self, Mark, Panel, PlotAxis, Scale, Stroke};
use crate::report::summary::{Group, read_for};
use crate::report::verdict::Trials;
use crate::stats::{median, median_interval};
use crate::units::format_count;

struct DrawnMeasure {
    measure: Measure,
    scale: Scale,
    /// Why a trial may have no value.
    absent: &'static str,
    /// Whether it is drawn against rates even where lanes vary as well.
    over_rates: bool,
}

const CURVES: [DrawnMeasure; 5] = [
    DrawnMeasure {
        measure: Measure::Achieved,
        scale: Scale::Linear,
        absent: "what was achieved is within 2 % of what was offered",
        over_rates: false,
    },
    DrawnMeasure {
        measure: Measure::P99,
        scale: Scale::Log10,
        absent: "no trial has the 1,000 requests that a p99 needs, or too many requests were lost",
        over_rates: true,
    },
    DrawnMeasure {
        measure: Measure::Memory,
        scale: Scale::Binary,
        absent: "memory was not measured",
        over_rates: false,
    },
    DrawnMeasure {
        measure: Measure::CpuPerRequest,
        scale: Scale::Linear,
        absent: "no CPU time was measured",
        over_rates: true,
    },
    DrawnMeasure {
        measure: Measure::Switches,
        scale: Scale::Linear,
        absent: "no switches were counted",
        over_rates: false,
    },
];

impl DrawnMeasure {
    fn of(&self, trial: &TrialRecord) -> Option<f64> {
        if self.measure.is_lost(trial) {
            return Some(f64::INFINITY);
        }
        let value = self.measure.of(trial)?;
        // An open loop that keeps up achieves its offer: nothing to be seen.
        let offered = trial.cell.offered_per_s.filter(|_| self.measure == Measure::Achieved);
        Some(value).filter(|v| offered.is_none_or(|offered| (v / offered - 1.0).abs() > KEEPS_UP))
    }
}

/// How far the achieved rate may be from the offered one.
const KEEPS_UP: f64 = 0.02;

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
    panels.into_values().collect()
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
    html! {
        (paragraph(&format!(
            "Medians over trials, with 95 % intervals from order statistics where there are at least \
             six trials. {APART}"
        )))
        div.plots {
            @for drawn in &CURVES {
                @if !lanes.is_empty() { (curve(drawn, Axis::Lanes, &lanes, trials)) }
                @if !rates.is_empty() && (drawn.over_rates || lanes.is_empty()) {
                    (curve(drawn, Axis::Load, &rates, trials))
                }
            }
        }
    }
}

fn curve(drawn: &DrawnMeasure, across: Axis, cells: &[Vec<&Cell>], trials: &Trials<'_>) -> Markup {
    let words = drawn.measure.words();
    let print = |v| drawn.measure.print(v);
    let y = PlotAxis::new(&words, drawn.scale, &print);
    let across_title = if across == Axis::Lanes { "lanes" } else { "offered req/s" };
    let title = format!("{} against {across_title}", capital(&words));
    let all: Vec<&Cell> = cells.iter().flatten().copied().collect();
    let names = line_names(&all);
    let firsts: Vec<&Cell> = cells.iter().map(|c| c[0]).collect();
    let mut panels: Vec<Panel> = Vec::new();
    let mut missing: Vec<(&str, String)> = Vec::new();
    for (own, title) in cells.iter().zip(figure::titles(&firsts, &[across])).take(MOST_PANELS) {
        let mut own = own.clone();
        own.sort_by(|a, b| {
            value(a, across).partial_cmp(&value(b, across)).unwrap_or(Ordering::Equal)
        });
        let mut lines: Vec<Stroke> = Vec::new();
        for cell in own {
            let (Some(x), Some(name)) = (value(cell, across), names.get(cell.id.as_str())) else {
                continue;
            };
            let trials = trials.get(cell.id.as_str());
            let read = trials.map_or(vec![], |t| read_for(drawn.measure.facts(), t));
            let values: Vec<f64> = read.into_iter().filter_map(|t| drawn.of(t)).collect();
            let Some(y) = median(&values).filter(|y| y.is_finite()) else {
                let why = if trials.is_some() { drawn.absent } else { "no trial is valid" };
                missing.push((why, format!("{name}, {}", figure::titles(&[cell], &[])[0])));
                continue;
            };
            let interval = median_interval(&values).filter(|(_, high)| high.is_finite());
            let point = Mark { x, y, interval, marked: true };
            match lines.iter_mut().find(|l| l.name == *name) {
                Some(line) => line.points.push(point),
                None => {
                    let earlier = panels.iter().flat_map(|p| &p.lines).chain(&lines);
                    let line = Stroke::of(cell.engine, name.clone(), vec![point], earlier);
                    lines.push(line);
                }
            }
        }
        if !lines.is_empty() {
            panels.push(Panel { title, y: &y, lines });
        }
    }
    if panels.is_empty() {
        let reasons: BTreeSet<&str> = missing.iter().map(|(why, _)| *why).collect();
        let reasons: Vec<&str> = reasons.into_iter().collect();
        return paragraph(&format!("{title} is not drawn: {}.", reasons.join("; ")));
    }
    let mut below = figure::missing(&missing);
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
    figure::lines(&title, &x, plot::columns(panels.len()), &panels, &below)
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
    if v >= 10.0 || v.fract() == 0.0 {
        format_count(v.round().max(0.0) as u64)
    } else {
        format!("{v:.2}")
    }
}
