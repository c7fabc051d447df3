//! Latency by percentile, on the axis of HdrHistogram: each step a tenth of what is left.

use super::figure::{self, drawn, titled};
use super::paragraph;
use crate::format::{Distribution, TrialRecord};
use crate::report::plot::{self, Axis, Line, Point, Scale, Stroke};
use crate::report::summary::{Group, Row};
use crate::report::verdict::Trials;
use crate::stats::hdr;
use crate::units::format_ns;

/// Most plots of percentiles: more would take the file beyond what a mail carries.
const MOST_PLOTS: usize = 16;

/// Quantiles with a marker and a hover text.
const MARKED: [f64; 5] = [0.5, 0.9, 0.99, 0.999, 0.9999];

/// One plot a group: response and service time of every engine.
pub(super) fn latency(groups: &[Group], trials: &Trials<'_>) -> String {
    let lines_of = |group: &Group| {
        let open = group.cell.arrivals.is_open();
        let stroke = if open { Stroke::Dashed } else { Stroke::Solid };
        let mut lines = Vec::new();
        for row in group.rows.iter().filter(|r| !r.cell.is_copy()) {
            let Some(own) = trials.get(row.cell.id.as_str()) else { continue };
            if open {
                lines.extend(percentiles(row, own, "response", Stroke::Solid, |t| {
                    t.response_ns.as_ref()
                }));
            }
            lines.extend(percentiles(row, own, "service", stroke, |t| t.service_ns.as_ref()));
        }
        lines
    };
    let told: Vec<Group> = groups.iter().filter(|g| has_samples(g, trials)).cloned().collect();
    let (groups, left_out) = figure::chosen(&told, MOST_PLOTS);
    let mut figures = Vec::new();
    for group in groups.iter().filter(|g| !g.counts_events()) {
        let lines = lines_of(group);
        if lines.is_empty() {
            continue;
        }
        let title = titled("Latency", group);
        let x = Axis { title: "percentile", scale: Scale::Hdr, print: &percent };
        let y = Axis { title: "time", scale: Scale::Log10, print: &format_ns };
        let svg = plot::lines(&title, &x, &y, &lines);
        figures.push(figure::figure(&title, &figure::legend(&lines), svg));
    }
    let nothing =
        "No valid trial has a histogram of latencies, so that nothing can be said of them.";
    let how = "Each label is a tenth of the requests that the one before it left. A line ends where \
               fewer than ten samples stand above. Response time counts from the intended start, \
               service time from the first byte written: what lies between them is waiting for the \
               generator or for a lane. A closed loop has service time only.";
    if figures.is_empty() {
        paragraph(nothing)
    } else {
        paragraph(how) + &drawn(&figures, "") + &left_out
    }
}

fn has_samples(group: &Group, trials: &Trials<'_>) -> bool {
    let has = |t: &&TrialRecord| t.service_ns.as_ref().is_some_and(|d| d.count > 0);
    group.rows.iter().filter_map(|r| trials.get(r.cell.id.as_str())).flatten().any(has)
}

fn percent(q: f64) -> String {
    let text = format!("{:.4}", q * 100.0);
    format!("{} %", text.trim_end_matches('0').trim_end_matches('.'))
}

/// A line over quantiles as far as ten samples stand above.
fn percentiles(
    row: &Row,
    trials: &[&TrialRecord],
    what: &str,
    stroke: Stroke,
    of: fn(&TrialRecord) -> Option<&Distribution>,
) -> Option<Line> {
    let histogram = hdr::merge(trials.iter().copied(), of).ok()??;
    // Below a tenth the axis is so steep that every line would begin with the same drop.
    let mut steps: Vec<f64> = (1..=80).map(|i| 1.0 - 10f64.powf(-f64::from(i) / 16.0)).collect();
    steps.extend(MARKED);
    steps.sort_by(f64::total_cmp);
    steps.dedup_by(|a, b| (*a - *b).abs() < 1e-9);
    let points: Vec<Point> = steps
        .into_iter()
        .filter(|q| histogram.len() >= hdr::samples_needed(*q))
        .map(|q| Point {
            x: q,
            y: histogram.value_at_quantile(q) as f64,
            interval: None,
            marked: MARKED.iter().any(|m| (q - m).abs() < 1e-9),
        })
        .collect();
    let (colour, marker) = plot::engine_style(row.cell.engine);
    (!points.is_empty()).then(|| Line {
        name: format!("{} {what}", row.name),
        colour,
        marker,
        stroke,
        points,
    })
}
