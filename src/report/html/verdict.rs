//! The first lines of the report: what a planner must know, with intervals.

use super::data::Trials;
use crate::report::layout::percentile;
use crate::report::summary::{AA, Comparison, Group, Row};
use crate::results::stats::{CONFIDENCE, Verdict, paired_ratio};
use crate::units::{Ratio, format_count, format_rate};

/// One sentence at the same offered rate, if there is one, and one as fast as lanes could.
pub(super) fn sentences(groups: &[Group], trials: &Trials<'_>) -> Vec<String> {
    let judged = |open: bool| {
        groups
            .iter()
            .filter(|g| g.arrivals.is_open() == open)
            .filter(|g| rival(g).is_some())
            .max_by(|a, b| size(a).total_cmp(&size(b)))
    };
    let mut said = Vec::new();
    said.extend(judged(true).and_then(|g| sentence(g, trials)));
    said.extend(judged(false).and_then(|g| sentence(g, trials)));
    if said.is_empty() {
        said.push(nothing(groups));
    }
    said
}

/// The most demanding group says most.
fn size(group: &Group) -> f64 {
    group.offered_per_s.unwrap_or(1.0) * f64::from(group.total_lanes)
}

/// Why nothing can be concluded.
fn nothing(groups: &[Group]) -> String {
    let rows = || groups.iter().flat_map(|g| &g.rows);
    if rows().next().is_none() {
        "No trial has ended, so that nothing can be concluded yet.".into()
    } else if rows().all(|r| !r.ranked) {
        "No trial is valid, so that nothing can be concluded: see the gates and errors below."
            .into()
    } else if groups.iter().all(|g| g.reference.is_none()) {
        "The baseline has no valid trial, so that nothing can be compared: see below.".into()
    } else {
        "No two engines have valid trials at equal lanes, CPUs and rate, so that nothing can be \
         compared."
            .into()
    }
}

/// The row with the lowest CPU cost against the reference.
fn rival(group: &Group) -> Option<&Row> {
    let ratio = |r: &Row| r.cpu_ratio.map(|c| c.estimate.ratio);
    group.reference?;
    group
        .rows
        .iter()
        .filter(|r| r.cell.label.as_deref() != Some(AA))
        .filter_map(|r| Some((r, ratio(r)?)))
        .min_by(|a, b| a.1.total_cmp(&b.1))
        .map(|(r, _)| r)
}

fn sentence(group: &Group, trials: &Trials<'_>) -> Option<String> {
    let reference = &group.rows[group.reference?];
    let row = rival(group)?;
    let lanes = format_count(group.total_lanes.into());
    let lanes = format!("{lanes} lane{}", if group.total_lanes == 1 { "" } else { "s" });
    let place = match group.offered_per_s {
        Some(rate) => format!("At the same {} req/s over {lanes}", format_rate(rate)),
        None => format!("In a closed loop of {lanes}"),
    };
    let mut parts = vec![said(row.cpu_ratio, "CPU a request")];
    parts.extend(row.memory_ratio.map(|c| said(Some(c), "memory a lane")));
    let mut text =
        format!("{place}, {} used {} of {}", row.name, parts.join(" and "), reference.name);
    let (a, b) = (row.figures.as_ref()?, reference.figures.as_ref()?);
    let (p, q) = if group.arrivals.is_open() {
        (a.response.p99, b.response.p99)
    } else {
        (a.service.p99, b.service.p99)
    };
    if p.is_some() && q.is_some() {
        text.push_str(&format!(", with p99 of {} against {}", percentile(p), percentile(q)));
    }
    if !group.arrivals.is_open() {
        text.push_str(&format!(
            "; it completed {} req/s against {}{}",
            format_rate(a.achieved_per_s),
            format_rate(b.achieved_per_s),
            throughput(row, reference, trials)
        ));
    }
    text.push('.');
    Some(text)
}

fn said(comparison: Option<Comparison>, what: &str) -> String {
    let Some(c) = comparison else { return format!("an unknown share of the {what}") };
    let interval = c
        .estimate
        .interval()
        .map_or(" (too few trials for an interval)".into(), |(l, h)| format!(" [{l:.2}, {h:.2}]"));
    let shown = format!("{}{interval} the {what}", Ratio(c.estimate.ratio));
    match c.verdict {
        Verdict::NoDifference => format!("{shown} (no difference shown)"),
        Verdict::Undecided => format!("{shown} (more trials needed)"),
        _ => shown,
    }
}

/// The ratio of achieved loads within blocks.
fn throughput(row: &Row, reference: &Row, trials: &Trials<'_>) -> String {
    let of = |r: &Row| trials.get(r.cell.id.as_str()).cloned().unwrap_or_default();
    let theirs = of(reference);
    let pairs: Vec<(f64, f64)> = of(row)
        .iter()
        .filter_map(|t| {
            let other = theirs.iter().find(|o| o.block == t.block)?;
            Some((t.achieved_per_s, other.achieved_per_s))
        })
        .collect();
    paired_ratio(&pairs, CONFIDENCE).and_then(|e| Some((e.ratio, e.interval()?))).map_or(
        String::new(),
        |(r, (l, h))| {
            let same = if l <= 1.0 && 1.0 <= h { ", no difference shown" } else { "" };
            format!(" ({} [{l:.2}, {h:.2}]{same})", Ratio(r))
        },
    )
}
