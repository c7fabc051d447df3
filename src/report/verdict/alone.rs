//! What is said where one engine ran alone: nothing is compared, so its own figures are the answer.

use super::size;
use crate::report::layout::quantile;
use crate::report::measures::Measure;
use crate::report::summary::{Figures, Group, Row};
use crate::units::{format_rate, plural};

/// The least and the most demanding of its groups, in a sentence each.
pub(super) fn sentence(groups: &[Group]) -> String {
    let has_row = |g: &&Group| g.rows.iter().any(|r| r.ranked && r.figures.is_some());
    let sending = groups.iter().filter(|g| !g.cell.is_idle() && !g.cell.counts_events());
    let mut busy: Vec<&Group> = sending.filter(has_row).collect();
    busy.sort_by(|a, b| size(a).total_cmp(&size(b)));
    let name = groups.iter().flat_map(|g| &g.rows).map(|r| r.name.as_str()).next();
    let ends = busy.first().into_iter().chain(busy.last().filter(|_| busy.len() > 1));
    let told: Vec<String> = ends.filter_map(|group| of_group(group)).collect();
    let only = format!("Only {} ran, so nothing is compared.", name.unwrap_or("one engine"));
    [&told[..], &[only]].concat().join(" ")
}

fn of_group(group: &Group) -> Option<String> {
    let row: &Row = group.rows.iter().find(|r| r.ranked)?;
    let figures: &Figures = row.figures.as_ref()?;
    let lanes = plural(group.cell.total_lanes.into(), "lane");
    let place = match group.cell.offered_per_s {
        Some(rate) => format!("At {} req/s over {lanes}", format_rate(rate)),
        None => format!("In a closed loop of {lanes}"),
    };
    let time = |(name, q)| Some(format!(", {name} {}", quantile(figures.latency(), q)?));
    let times: String = [("p50", 0.5), ("p99", 0.99)].into_iter().filter_map(time).collect();
    let cpu = figures.get(Measure::CpuPerRequest)?;
    Some(format!(
        "{place}, {} completed {} req/s{times}, at {} of CPU per request.",
        row.name,
        format_rate(figures.get(Measure::Achieved)?),
        Measure::CpuPerRequest.print(cpu)
    ))
}
