//! Latency by percentile, on the axis of HdrHistogram: each step a tenth of what is left.

use maud::{Markup, html};

use super::figure::{self, APART, MOST_PANELS};
use super::paragraph;
use crate::format::{Channel, Ledger, TrialRecord};
use crate::report::plot::{self, Mark, Panels, PlotAxis, Scale};
use crate::report::summary::{Group, for_levels};
use crate::report::verdict::Trials;
use crate::stats::hdr;
use crate::units::{format_ns, trimmed};

/// Quantiles with a marker and a hover text.
const MARKED: [f64; 5] = [0.5, 0.9, 0.99, 0.999, 0.9999];

/// One panel per group: response and service time of every engine.
pub(super) fn latency(groups: &[Group], trials: &Trials<'_>) -> Markup {
    let told: Vec<&Group> =
        groups.iter().filter(|g| !g.cell.counts_events() && has_samples(g, trials)).collect();
    let (groups, left_out) = figure::chosen(&told, MOST_PANELS);
    let y = PlotAxis::new("time", Scale::Log10, &format_ns);
    let mut panels = Panels::default();
    for (title, group) in figure::titles_of(&groups).into_iter().zip(&groups) {
        panels.begin(title, &y);
        for row in group.rows.iter().filter(|r| !r.cell.is_copy()) {
            let Some(own) = trials.get(row.cell.id.as_str()) else { continue };
            let own = &for_levels(own);
            for (what, channel) in [("response", Channel::Response), ("service", Channel::Service)]
            {
                if channel == Channel::Service || group.cell.arrivals.is_open() {
                    let name = format!("{} {what}", row.name);
                    panels.draw(row.cell.engine, &name, percentiles(own, channel));
                }
            }
        }
    }
    if panels.0.iter().all(|p| p.lines.is_empty()) {
        return paragraph(
            "No valid trial has a histogram of latencies, so nothing can be said about them.",
        );
    }
    let percent = |q: f64| format!("{} %", trimmed(&format!("{:.4}", q * 100.0)));
    let x = PlotAxis::new("percentile", Scale::Hdr, &percent);
    let columns = plot::columns(panels.0.len());
    html! {
        (paragraph(&format!(
            "The x axis stretches the tail: each tick (90, 99, 99.9 %) leaves a tenth of the requests \
             above the tick before it. Lines stop where fewer than 10 samples remain, and where requests begin that were lost. Response time \
             counts from the intended start, service time from the first byte written: between them a \
             request waits for the generator or for a lane. A closed loop has service time only. {APART}"
        )))
        (figure::lines("Latency by percentile", &x, columns, &panels.0, &left_out))
    }
}

fn has_samples(group: &Group, trials: &Trials<'_>) -> bool {
    let has = |t: &&TrialRecord| t.service_ns.as_ref().is_some_and(|d| d.count > 0);
    group.rows.iter().filter_map(|r| trials.get(r.cell.id.as_str())).flatten().any(has)
}

/// Quantiles as far as ten samples stand above.
fn percentiles(trials: &[&TrialRecord], channel: Channel) -> Vec<Mark> {
    let merged = hdr::merge(trials.iter().copied(), |t| t.histogram(channel));
    let Ok(Some(histogram)) = merged else { return vec![] };
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
        Some(Mark { marked, ..Mark::at(q, at.ns as f64) })
    };
    steps.into_iter().filter_map(mark).collect()
}
