//! Where the bytes go: the split of the memory trials, what one more lane adds, and for cells
//! without such a trial what can be told at the plateau.

use std::collections::{BTreeMap, BTreeSet};

use super::figure::{self, Entry, drawn};
use super::{costs, paragraph, tables};
use crate::format::TrialRecord;
use crate::plan::cell::Key;
use crate::report::memory::{self, CellSplit, PARTS, Section};
use crate::report::plot::{self, Axis, Bar, Colour, GREY, Line, PALETTE, Point, Scale, Stroke};
use crate::report::summary::Group;
use crate::report::verdict::Trials;
use crate::units::{format_bytes, format_count};

/// Most steps of lanes that get bars.
const MOST_STEPS: usize = 16;

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
    ("other kernel", YELLOW, &["other_kernel"]),
    ("unattributed", GREY, &["unattributed"]),
];

/// The whole section.
pub(super) fn bytes(records: &[TrialRecord], groups: &[Group], trials: &Trials<'_>) -> String {
    let cells = memory::cells(records);
    let split: BTreeSet<Key> = cells.iter().map(|c| c.cell.place(&[])).collect();
    let rest: Vec<Group> = groups
        .iter()
        .filter(|g| !g.counts_events())
        .filter(|g| !split.contains(&g.cell.place(&[])))
        .cloned()
        .collect();
    let mut out = String::new();
    if !cells.is_empty() {
        out += &splits(&cells);
        let section = |s: Section| tables::section(&s);
        out += &memory::sections(records).into_iter().map(section).collect::<String>();
    }
    if cells.is_empty() || !rest.is_empty() {
        if !cells.is_empty() {
            out += "<h3>Cells without a memory trial</h3>";
        }
        out += &costs::memory(&rest, trials);
    }
    out
}

/// One figure for each number of lanes: a bar a cell.
fn splits(cells: &[CellSplit<'_>]) -> String {
    let mut steps: BTreeMap<u32, Vec<(String, &CellSplit<'_>)>> = BTreeMap::new();
    for (name, cell) in memory::names(cells).into_iter().zip(cells) {
        steps.entry(cell.cell.total_lanes).or_default().push((name, cell));
    }
    let left_out = steps.len().saturating_sub(MOST_STEPS);
    let axis = Axis { title: "bytes a lane", scale: Scale::Binary, print: &format_bytes };
    let named: Vec<(String, Colour)> =
        SHOWN.iter().map(|(name, colour, _)| (name.to_string(), *colour)).collect();
    let mut figures = Vec::new();
    // The highest steps say most of a lane: what is fixed is spread over many.
    for (lanes, cells) in steps.iter().skip(left_out) {
        let mut seen = BTreeSet::new();
        let bars: Vec<Bar> = cells
            .iter()
            .filter(|(_, cell)| !cell.splits.is_empty())
            .map(|(name, cell)| {
                let parts = parts(cell);
                seen.extend((0..parts.len()).filter(|i| parts[*i].is_some()));
                let parts = parts.into_iter().map(|p| p.unwrap_or(0.0).max(0.0)).collect();
                Bar { name: name.clone(), parts }
            })
            .collect();
        if bars.is_empty() {
            continue;
        }
        let s = if *lanes == 1 { "" } else { "s" };
        let title = format!("Memory a lane, split, {} lane{s}", format_count((*lanes).into()));
        let legend: Vec<Entry> =
            seen.iter().map(|i| Entry::area(SHOWN[*i].0, SHOWN[*i].1)).collect();
        figures.push(figure::figure(&title, &legend, plot::bars(&title, &axis, &named, &bars)));
    }
    let note = "Memory trials: what was added since before the set-up, half-way through the window, \
                user space and kernel, for each lane; medians. Each part is measured by itself, and \
                what none of them accounts for is the unattributed rest (a part that comes out below \
                zero has no length: see the table). Latency of these trials is not ranked.";
    figures.extend(ladder(cells));
    let mut out = paragraph(note) + &drawn(&figures, "No memory trial ran to its end.");
    if left_out > 0 {
        out += &paragraph(&format!(
            "{left_out} smaller steps of lanes are left out of the bars; they stand in the table."
        ));
    }
    out
}

/// Bytes a lane of each shown part; `None` where nothing of it was measured.
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

/// The total against lanes, a line a ladder.
fn ladder(cells: &[CellSplit<'_>]) -> Option<String> {
    let mut lines: Vec<Line> = Vec::new();
    for (name, cell) in memory::names(cells).into_iter().zip(cells) {
        let whole = cell.bytes(&memory::TOTAL).or_else(|| cell.bytes(&memory::KNOWN));
        let Some(y) = whole.filter(|y| *y > 0.0) else { continue };
        let point = Point { x: cell.lanes(), y, interval: None, marked: true };
        match lines.iter_mut().find(|l| l.name == name) {
            Some(line) => line.points.push(point),
            None => {
                let (colour, marker) = plot::engine_style(cell.cell.engine);
                let second = lines.iter().any(|l| l.colour == colour);
                let stroke = if second { Stroke::Dashed } else { Stroke::Solid };
                lines.push(Line { name, colour, marker, stroke, points: vec![point] });
            }
        }
    }
    if lines.iter().all(|l| l.points.len() < 2) {
        return None;
    }
    let title = "Memory in all against lanes, memory trials";
    let count = |v: f64| format_count(v.round().max(0.0) as u64);
    let x = Axis { title: "lanes", scale: Scale::Log10, print: &count };
    let y = Axis { title: "user and kernel memory", scale: Scale::Log2, print: &format_bytes };
    let svg = plot::lines(title, &x, &y, &lines);
    Some(figure::figure(title, &figure::legend(&lines), svg))
}
