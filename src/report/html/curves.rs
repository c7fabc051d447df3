//! Throughput, latency, memory, CPU and switches against lanes or rate, with intervals.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use maud::{Markup, html};

use super::figure::{self, APART, MOST_PANELS};
use super::paragraph;
use crate::format::TrialRecord;
use crate::plan::cell::{Family, Key, families};
use crate::plan::{Axis, Cell, CellKind};
use crate::report::plot::{self, Mark, Panel, PlotAxis, Scale, Stroke};
use crate::report::summary::Group;
use crate::report::verdict::Trials;
use crate::stats::{hdr, median, median_interval};
use crate::units::{format_bytes, format_count, format_ns, format_rate};

/// A figure of one trial, as a curve shows it.
struct Measure {
    title: &'static str,
    unit: &'static str,
    scale: Scale,
    print: fn(f64) -> String,
    of: fn(&TrialRecord) -> Option<f64>,
    /// Why `of` may have no value.
    absent: &'static str,
    /// Whether it is drawn against rates even where lanes vary as well.
    over_rates: bool,
}

const MEASURES: [Measure; 5] = [
    Measure {
        title: "Throughput",
        unit: "achieved, req/s",
        scale: Scale::Linear,
        print: format_rate,
        // An open loop that keeps up achieves its offer: nothing to be seen.
        of: |t| {
            let offered = t.cell.offered_per_s.unwrap_or(f64::INFINITY);
            Some(t.achieved_per_s).filter(|v| (v / offered - 1.0).abs() > KEEPS_UP)
        },
        absent: "what was achieved is within 2 % of what was offered",
        over_rates: false,
    },
    Measure {
        title: "99th percentile of response time (closed loop: service time)",
        unit: "p99",
        scale: Scale::Log10,
        print: format_ns,
        of: |t| {
            let times = t.response_ns.as_ref().or(t.service_ns.as_ref())?;
            (times.count >= hdr::samples_needed(0.99)).then_some(times.p99 as f64)
        },
        absent: "no trial has the 1,000 requests that a p99 needs",
        over_rates: true,
    },
    Measure {
        title: "Peak memory over the baseline",
        unit: "peak user memory",
        scale: Scale::Binary,
        print: format_bytes,
        of: |t| t.peak_over_baseline().map(|b| b as f64),
        absent: "memory was not measured",
        over_rates: false,
    },
    Measure {
        title: "CPU per request",
        unit: "CPU per request",
        scale: Scale::Linear,
        print: format_ns,
        of: |t| Some(t.cpu.per_request_ns).filter(|v| *v > 0.0),
        absent: "no CPU time was measured",
        over_rates: true,
    },
    Measure {
        title: "Context switches per request",
        unit: "switches per request",
        scale: Scale::Linear,
        print: number,
        of: |t| {
            let requests = t.cpu.total_ns as f64 / t.cpu.per_request_ns;
            let switches = t.switches.voluntary + t.switches.involuntary;
            Some(switches as f64 / requests).filter(|v| v.is_finite())
        },
        absent: "no switches were counted",
        over_rates: false,
    },
];

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
            @for measure in &MEASURES {
                @if !lanes.is_empty() { (curve(measure, Axis::Lanes, &lanes, trials)) }
                @if !rates.is_empty() && (measure.over_rates || lanes.is_empty()) {
                    (curve(measure, Axis::Load, &rates, trials))
                }
            }
        }
    }
}

fn curve(measure: &Measure, across: Axis, cells: &[Vec<&Cell>], trials: &Trials<'_>) -> Markup {
    let y = PlotAxis::new(measure.unit, measure.scale, &measure.print);
    let across_title = if across == Axis::Lanes { "lanes" } else { "offered req/s" };
    let title = format!("{} against {across_title}", measure.title);
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
            let values: Vec<f64> =
                trials.into_iter().flatten().filter_map(|t| (measure.of)(t)).collect();
            let Some(y) = median(&values) else {
                let why = if trials.is_some() { measure.absent } else { "no trial is valid" };
                missing.push((why, format!("{name}, {}", figure::titles(&[cell], &[])[0])));
                continue;
            };
            let point = Mark { x, y, interval: median_interval(&values), marked: true };
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
