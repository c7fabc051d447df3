//! Where the bytes go: the split of the memory trials, what one more lane adds, and for cells
//! without such a trial what can be told at the plateau.

use std::collections::{BTreeMap, BTreeSet};

use maud::{Markup, html};

use super::figure::{self, MOST_PANELS, Measured};
use super::{costs, paragraph, tables};
use crate::format::TrialRecord;
use crate::plan::cell::Key;
use crate::report::memory::{self, CellSplit, KNOWN, PARTS, TOTAL};
use crate::report::plot::{Colour, GREY, Mark, PALETTE, Panels, PlotAxis, Scale, whole};
use crate::report::summary::Group;
use crate::report::verdict::Trials;
use crate::units::{format_bytes, plural};

/// Yellow of the same palette.
const YELLOW: Colour = (240, 228, 66);

/// The parts of a bar, and the parts of the split that each is the sum of.
const SHOWN: [(&str, Colour); 8] = [
    ("thread stacks", PALETTE[4]),
    ("heap and program data", PALETTE[0]),
    ("page tables", PALETTE[1]),
    ("kernel stacks", PALETTE[3]),
    ("task structures", PALETTE[5]),
    ("sockets", PALETTE[2]),
    ("other kernel", YELLOW),
    ("unattributed", GREY),
];
const SUMS: [&[&str]; 8] = [
    &["stack", "signal_stack"],
    &["heap", "heap_slack", "program"],
    &["page_table"],
    &["kernel_stack"],
    &["task"],
    &["socket_object", "tcp_buffer"],
    &["other_kernel", "ring"],
    &["unattributed"],
];

pub(super) fn bytes(records: &[TrialRecord], groups: &[Group], trials: &Trials<'_>) -> Markup {
    let cells = memory::cells(records);
    let split: BTreeSet<Key> = cells.iter().map(|c| c.cell.place(&[])).collect();
    let is_rest = |g: &&Group| !g.counts_events() && !split.contains(&g.cell.place(&[]));
    let rest: Vec<&Group> = groups.iter().filter(is_rest).collect();
    html! {
        @if !cells.is_empty() {
            (splits(&cells))
            (ladder(&cells))
            @for section in memory::sections(records) { (tables::titled(&section)) }
            @if !rest.is_empty() { h3 { "Cells without a memory trial" } }
        }
        @if cells.is_empty() || !rest.is_empty() { (costs::memory(&rest, trials)) }
    }
}

/// A panel for each number of lanes: a bar per cell.
fn splits(cells: &[CellSplit<'_>]) -> Markup {
    let mut steps: BTreeMap<u32, Vec<Measured>> = BTreeMap::new();
    for (name, cell) in memory::names(cells).into_iter().zip(cells) {
        if !cell.splits.is_empty() {
            steps.entry(cell.cell.total_lanes).or_default().push((name, parts(cell)));
        }
    }
    if steps.is_empty() {
        return paragraph("No memory trial ran to its end.");
    }
    // The highest steps say most of a lane: what is fixed is spread over many.
    let left_out = steps.len().saturating_sub(MOST_PANELS);
    let panels = steps.into_iter().skip(left_out);
    let panels = panels.map(|(n, bars)| (plural(n.into(), "lane"), bars)).collect();
    let below = (left_out > 0).then(|| {
        format!("{left_out} smaller lane counts are left out of the bars; the table has them.")
    });
    let below: Vec<String> = below.into_iter().collect();
    let axis = PlotAxis::new("bytes per lane", Scale::Binary, &format_bytes);
    html! {
        (paragraph(
            "Memory trials: what was added between the moment before set-up and half-way through the \
             window, in user space and in the kernel, per lane; medians. Each part is measured by \
             itself, and the rest of the total is shown as unattributed (a part below zero has no \
             length: see the table). Latency of these trials is not ranked.",
        ))
        (figure::bars("Memory per lane, split", &axis, &SHOWN, panels, &below))
    }
}

/// Bytes per lane of each shown part; `None` where nothing of it was measured.
fn parts(cell: &CellSplit<'_>) -> Vec<Option<f64>> {
    let of = |name: &&str| PARTS.iter().find(|p| p.name == *name).and_then(|p| cell.bytes(p));
    let sum = |parts: &[&str]| parts.iter().filter_map(of).reduce(|a, b| a + b);
    SUMS.iter().map(|parts| Some(sum(parts)? / cell.lanes())).collect()
}

fn ladder(cells: &[CellSplit<'_>]) -> Markup {
    let x = PlotAxis::new("lanes", Scale::Log10, &whole);
    let y = PlotAxis::new("user and kernel memory", Scale::Log2, &format_bytes);
    let mut panels = Panels::default();
    panels.begin("", &y);
    for (name, cell) in memory::names(cells).into_iter().zip(cells) {
        let bytes = cell.bytes(&TOTAL).or_else(|| cell.bytes(&KNOWN)).filter(|y| *y > 0.0);
        let point = bytes.map(|y| Mark::at(cell.lanes(), y));
        panels.draw(cell.cell.engine, &name, point.into_iter().collect());
    }
    if panels.0[0].lines.iter().all(|l| l.points.len() < 2) {
        return html! {};
    }
    figure::lines("Total memory against lanes, memory trials", &x, 1, &panels.0, &[])
}
