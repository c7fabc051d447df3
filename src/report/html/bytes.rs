//! Where the bytes go: the split of the memory trials, what one more lane adds, and for cells
//! without such a trial what can be told at the plateau.

use std::collections::{BTreeMap, BTreeSet};

use maud::{Markup, html};

use super::figure::{self, LegendEntry, MOST_PANELS};
use super::{costs, paragraph, tables};
use crate::format::TrialRecord;
use crate::plan::cell::Key;
use crate::report::memory::{self, CellSplit, PARTS};
use crate::report::plot::{self, Bar, Colour, GREY, Mark, PALETTE, Panel, PlotAxis, Scale, Stroke};
use crate::report::summary::Group;
use crate::report::verdict::Trials;
use crate::units::{format_bytes, format_count, plural};

/// Yellow of the same palette.
const YELLOW: Colour = (240, 228, 66);

/// The parts of a bar, each the sum of parts of the split.
const SHOWN: [(&str, Colour, &[&str]); 8] = [
    ("thread stacks", PALETTE[4], &["stack", "signal_stack"]),
    ("heap and program data", PALETTE[0], &["heap", "heap_slack", "program"]),
    ("page tables", PALETTE[1], &["page_table"]),
    ("kernel stacks", PALETTE[3], &["kernel_stack"]),
    ("task structures", PALETTE[5], &["task"]),
    ("sockets", PALETTE[2], &["socket_object", "tcp_buffer"]),
    ("other kernel", YELLOW, &["other_kernel", "ring"]),
    ("unattributed", GREY, &["unattributed"]),
];

pub(super) fn bytes(records: &[TrialRecord], groups: &[Group], trials: &Trials<'_>) -> Markup {
    let cells = memory::cells(records);
    let split: BTreeSet<Key> = cells.iter().map(|c| c.cell.place(&[])).collect();
    let rest: Vec<&Group> = groups
        .iter()
        .filter(|g| !g.counts_events())
        .filter(|g| !split.contains(&g.cell.place(&[])))
        .collect();
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
    let mut steps: BTreeMap<u32, Vec<Bar>> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for (name, cell) in memory::names(cells).into_iter().zip(cells) {
        if cell.splits.is_empty() {
            continue;
        }
        let parts = parts(cell);
        seen.extend((0..parts.len()).filter(|i| parts[*i].is_some()));
        let parts = parts.into_iter().map(|p| p.unwrap_or(0.0).max(0.0)).collect();
        steps.entry(cell.cell.total_lanes).or_default().push(Bar { name, parts });
    }
    if steps.is_empty() {
        return paragraph("No memory trial ran to its end.");
    }
    // The highest steps say most of a lane: what is fixed is spread over many.
    let left_out = steps.len().saturating_sub(MOST_PANELS);
    let groups: Vec<(String, Vec<Bar>)> = steps
        .into_iter()
        .skip(left_out)
        .map(|(n, bars)| (plural(n.into(), "lane"), bars))
        .collect();
    let named: Vec<(&str, Colour)> =
        SHOWN.iter().map(|(name, colour, _)| (*name, *colour)).collect();
    let axis = PlotAxis::new("bytes per lane", Scale::Binary, &format_bytes);
    let title = "Memory per lane, split";
    let legend: Vec<LegendEntry> =
        seen.iter().map(|i| LegendEntry::area(SHOWN[*i].0, SHOWN[*i].1)).collect();
    let below = (left_out > 0).then(|| {
        format!("{left_out} smaller lane counts are left out of the bars; the table has them.")
    });
    let below: Vec<String> = below.into_iter().collect();
    html! {
        (paragraph(
            "Memory trials: what was added between the moment before set-up and half-way through the \
             window, in user space and in the kernel, per lane; medians. Each part is measured by \
             itself, and the rest of the total is shown as unattributed (a part below zero has no \
             length: see the table). Latency of these trials is not ranked.",
        ))
        (figure::figure(title, &legend, plot::bars(title, &axis, &named, &groups), &below))
    }
}

/// Bytes per lane of each shown part; `None` where nothing of it was measured.
fn parts(cell: &CellSplit<'_>) -> Vec<Option<f64>> {
    let of = |name: &&str| PARTS.iter().find(|p| p.name == *name).and_then(|p| cell.bytes(p));
    SHOWN
        .iter()
        .map(|(.., parts)| {
            let known: Vec<f64> = parts.iter().filter_map(of).collect();
            (!known.is_empty()).then(|| known.iter().sum::<f64>() / cell.lanes())
        })
        .collect()
}

fn ladder(cells: &[CellSplit<'_>]) -> Markup {
    let mut lines: Vec<Stroke> = Vec::new();
    for (name, cell) in memory::names(cells).into_iter().zip(cells) {
        let whole = cell.bytes(&memory::TOTAL).or_else(|| cell.bytes(&memory::KNOWN));
        let Some(y) = whole.filter(|y| *y > 0.0) else { continue };
        let point = Mark { x: cell.lanes(), y, interval: None, marked: true };
        match lines.iter_mut().find(|l| l.name == name) {
            Some(line) => line.points.push(point),
            None => {
                let line = Stroke::of(cell.cell.engine, name, vec![point], lines.iter());
                lines.push(line);
            }
        }
    }
    if lines.iter().all(|l| l.points.len() < 2) {
        return html! {};
    }
    let count = |v: f64| format_count(v.round().max(0.0) as u64);
    let x = PlotAxis::new("lanes", Scale::Log10, &count);
    let y = PlotAxis::new("user and kernel memory", Scale::Log2, &format_bytes);
    let panel = Panel { title: String::new(), y: &y, lines };
    figure::lines("Total memory against lanes, memory trials", &x, 1, &[panel], &[])
}
