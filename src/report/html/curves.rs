//! Throughput, latency, memory, CPU and switches against lanes or rate, with intervals.

use std::collections::BTreeMap;

use super::figure::{self, drawn};
use super::paragraph;
use crate::format::TrialRecord;
use crate::plan::cell::{Family, Key, families};
use crate::plan::{self, Cell, CellKind};
use crate::report::plot::{self, Axis, Line, Point, Scale, Stroke};
use crate::report::summary::Group;
use crate::report::verdict::Trials;
use crate::stats::{hdr, median, median_interval};
use crate::units::{format_bytes, format_count, format_ns, format_rate};

/// Most plots.
const MOST_PLOTS: usize = 45;

/// A figure of one trial, as a curve shows it.
struct Measure {
    title: &'static str,
    unit: &'static str,
    scale: Scale,
    print: fn(f64) -> String,
    of: fn(&TrialRecord) -> Option<f64>,
}

const MEASURES: [Measure; 5] = [
    Measure {
        title: "Throughput",
        unit: "achieved, req/s",
        scale: Scale::Linear,
        print: format_rate,
        of: |t| Some(t.achieved_per_s),
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
    },
    Measure {
        title: "Peak memory over the baseline",
        unit: "peak user memory",
        scale: Scale::Binary,
        print: format_bytes,
        of: |t| t.peak_over_baseline().map(|b| b as f64),
    },
    Measure {
        title: "CPU a request",
        unit: "CPU a request",
        scale: Scale::Linear,
        print: format_ns,
        of: |t| Some(t.cpu.per_request_ns).filter(|v| *v > 0.0),
    },
    Measure {
        title: "Context switches a request",
        unit: "switches a request",
        scale: Scale::Linear,
        print: number,
        of: |t| {
            let requests = t.cpu.total_ns as f64 / t.cpu.per_request_ns;
            let switches = t.switches.voluntary + t.switches.involuntary;
            Some(switches as f64 / requests).filter(|v| v.is_finite())
        },
    },
];

/// Every measure against lanes at equal rates, and against rates at equal lanes.
pub(super) fn curves(groups: &[Group], trials: &Trials<'_>) -> String {
    let mut figures = Vec::new();
    let mut left_out = 0;
    for (across, title) in [(plan::Axis::Lanes, "lanes"), (plan::Axis::Load, "offered req/s")] {
        let rows = groups.iter().filter(|g| !g.counts_events()).flat_map(|g| &g.rows);
        let mut plots: BTreeMap<(CellKind, Key), Vec<&Cell>> = BTreeMap::new();
        for cell in rows.map(|r| &r.cell).filter(|c| !c.is_copy() && value(c, across).is_some()) {
            plots.entry((cell.kind, cell.place(&[across]))).or_default().push(cell);
        }
        for cells in plots.into_values() {
            if cells.iter().all(|c| value(c, across) == value(cells[0], across)) {
                continue;
            }
            for measure in &MEASURES {
                if figures.len() == MOST_PLOTS {
                    left_out += 1;
                } else {
                    figures.extend(curve(measure, (across, title), &cells, trials));
                }
            }
        }
    }
    let nothing = "One value of lanes and of rate only, so that nothing can be drawn against them: \
                   sweep several, such as lanes = [16, 64, 256].";
    let mut out = drawn(&figures, nothing);
    if !figures.is_empty() {
        let how = "Medians over trials with 95 % intervals from order statistics, where there are at \
                   least six trials. Points are set a little apart where their intervals would hide \
                   each other.";
        out = paragraph(how) + &out;
    }
    if left_out > 0 {
        out += &paragraph(&format!(
            "{left_out} more plots are left out, so that this file stays small; cells.csv has their \
             figures."
        ));
    }
    out
}

/// Where a cell stands on the axis of a plot.
fn value(cell: &Cell, across: plan::Axis) -> Option<f64> {
    match across {
        plan::Axis::Lanes => Some(cell.total_lanes.into()),
        _ => cell.offered_per_s.filter(|_| !cell.is_idle()),
    }
}

fn curve(
    measure: &Measure,
    (across, title): (plan::Axis, &str),
    cells: &[&Cell],
    trials: &Trials<'_>,
) -> Option<String> {
    let mut lines: Vec<Line> = Vec::new();
    for Family { name, cell, members } in families(cells.iter().map(|c| (*c, *c)), &[across]) {
        let mut points: Vec<Point> = members
            .into_iter()
            .filter_map(|c| {
                let values: Vec<f64> =
                    trials.get(c.id.as_str())?.iter().filter_map(|t| (measure.of)(t)).collect();
                let interval = median_interval(&values);
                Some(Point { x: value(c, across)?, y: median(&values)?, interval, marked: true })
            })
            .collect();
        points.sort_by(|a, b| a.x.total_cmp(&b.x));
        if points.is_empty() {
            continue;
        }
        let (colour, marker) = plot::engine_style(cell.engine);
        let second = lines.iter().any(|l| l.colour == colour);
        let stroke = if second { Stroke::Dashed } else { Stroke::Solid };
        lines.push(Line { name, colour, marker, stroke, points });
    }
    // Of all cells, so that plots beside each other share an axis.
    let xs = || cells.iter().filter_map(|c| value(c, across));
    let (least, most) = (xs().fold(f64::INFINITY, f64::min), xs().fold(0.0, f64::max));
    let scale = if most > 16.0 * least { Scale::Log2 } else { Scale::Linear };
    let place = cells[0].place_words(&[across]);
    let what = format!("{} against {title}, {place}", measure.title);
    let x = Axis { title, scale, print: &number };
    let y = Axis { title: measure.unit, scale: measure.scale, print: &measure.print };
    let svg = plot::lines(&what, &x, &y, &lines)?;
    Some(figure::figure(&what, &figure::legend(&lines), Some(svg)))
}

/// Whole numbers with separators, others as they are.
fn number(v: f64) -> String {
    if v >= 10.0 || v.fract() == 0.0 {
        format_count(v.round().max(0.0) as u64)
    } else {
        format!("{v:.2}")
    }
}
