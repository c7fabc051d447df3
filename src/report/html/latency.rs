//! Latency by percentile, on the axis of HdrHistogram: each step a tenth of what is left.

use maud::{Markup, html};

use super::figure::{self, APART, MOST_PANELS};
use super::paragraph;
use crate::format::{Distribution, Ledger, TrialRecord};
use crate::report::plot::{self, Mark, Panel, PlotAxis, Scale, Stroke};
use crate::report::summary::{Group, for_levels};
use crate::report::verdict::Trials;
use crate::stats::hdr;
use crate::units::{format_ns, trimmed};

/// Quantiles with a marker and a hover text.
const MARKED: [f64; 5] = [0.5, 0.9, 0.99, 0.999, 0.9999];

/// One panel per group: response and service time of every engine.
pub(super) fn latency(groups: &[Group], trials: &Trials<'_>) -> Markup {
    let told: Vec<&Group> =
        groups.iter().filter(|g| !g.counts_events() && has_samples(g, trials)).collect();
    let (groups, left_out) = figure::chosen(&told, MOST_PANELS);
    let y = PlotAxis::new("time", Scale::Log10, &format_ns);
    let mut panels: Vec<Panel> = Vec::new();
    for (title, group) in figure::titles_of(&groups).into_iter().zip(&groups) {
        let mut lines: Vec<Stroke> = Vec::new();
        for row in group.rows.iter().filter(|r| !r.cell.is_copy()) {
            let Some(own) = trials.get(row.cell.id.as_str()) else { continue };
            let own = &for_levels(own);
            let open = group.cell.arrivals.is_open();
            let response = open.then(|| percentiles(own, |t| t.response_ns.as_ref()));
            let service = percentiles(own, |t| t.service_ns.as_ref());
            for (what, points) in [("response", response), ("service", Some(service))] {
                if let Some(points) = points.filter(|points| !points.is_empty()) {
                    let name = format!("{} {what}", row.name);
                    let earlier = panels.iter().flat_map(|p| &p.lines).chain(&lines);
                    lines.push(Stroke::of(row.cell.engine, name, points, earlier));
                }
            }
        }
        panels.push(Panel { title, y: &y, lines });
    }
    if panels.iter().all(|p| p.lines.is_empty()) {
        return paragraph(
            "No valid trial has a histogram of latencies, so nothing can be said about them.",
        );
    }
    let x = PlotAxis::new("percentile", Scale::Hdr, &percent);
    let below: Vec<String> = left_out.into_iter().collect();
    let columns = plot::columns(panels.len());
    html! {
        (paragraph(&format!(
            "The x axis stretches the tail: each tick (90, 99, 99.9 %) leaves a tenth of the requests \
             above the tick before it. Lines stop where fewer than 10 samples remain, and where requests begin that were lost. Response time \
             counts from the intended start, service time from the first byte written: between them a \
             request waits for the generator or for a lane. A closed loop has service time only. {APART}"
        )))
        (figure::lines("Latency by percentile", &x, columns, &panels, &below))
    }
}

fn has_samples(group: &Group, trials: &Trials<'_>) -> bool {
    let has = |t: &&TrialRecord| t.service_ns.as_ref().is_some_and(|d| d.count > 0);
    group.rows.iter().filter_map(|r| trials.get(r.cell.id.as_str())).flatten().any(has)
}

fn percent(q: f64) -> String {
    format!("{} %", trimmed(&format!("{:.4}", q * 100.0)))
}

/// Quantiles as far as ten samples stand above.
fn percentiles(
    trials: &[&TrialRecord],
    of: fn(&TrialRecord) -> Option<&Distribution>,
) -> Vec<Mark> {
    let Ok(Some(histogram)) = hdr::merge(trials.iter().copied(), of) else { return vec![] };
    // Below a tenth the axis is so steep that every line would begin with the same drop.
    let mut steps: Vec<f64> = (1..=40).map(|i| 1.0 - 10f64.powf(-f64::from(i) / 8.0)).collect();
    steps.extend(MARKED);
    steps.sort_by(f64::total_cmp);
    steps.dedup_by(|a, b| (*a - *b).abs() < 1e-9);
    // Over all planned requests, of which lost ones took for ever: the line ends where they begin.
    let mut all = Ledger::default();
    trials.iter().for_each(|t| all += &t.ledger);
    let mark = |q: f64| {
        let at = hdr::percentile(&histogram, all.planned, q, None);
        let at = at.filter(|_| all.lost_beyond(q).is_none())?;
        let marked = MARKED.iter().any(|m| (q - m).abs() < 1e-9);
        Some(Mark { x: q, y: at.ns as f64, interval: None, marked })
    };
    steps.into_iter().filter_map(mark).collect()
}
