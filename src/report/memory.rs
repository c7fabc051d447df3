//! Where the bytes went: the split of each cell, and what a lane adds to each part.
//!
//! Made from trials of the kind `memory` alone, which stand in no other table. A cell's figures are
//! medians over its trials. Cells that differ in their lanes alone are a *ladder*: each part is
//! fitted over lanes by least squares, one point per trial, with Student-t intervals of 95 %.

mod words;

use serde_json::{Map, json};
pub use words::sentences;

use super::layout::{Columns, Section};
use super::summary::by_block;
use crate::format::{MemorySplit, SplitSource, Status, TrialRecord, field};
use crate::plan::cell::{self, Family, families};
use crate::plan::engine::{LaneKind, LaneThreads};
use crate::plan::{Axis, Cell};
use crate::stats::{CONFIDENCE, LinearFit, linear_fit, median};
use crate::units::{format_bytes, format_count};

/// A fit needs more steps than a line has parameters, or it fits whatever it is given.
const LEAST_STEPS: usize = 3;

/// One part of the total: its name in files, its title in tables, its bytes.
pub(crate) struct Part {
    /// Stable name, as in the record without its unit.
    pub name: &'static str,
    pub title: &'static str,
    /// Its bytes in a split; `None` where it was not measured.
    pub bytes: fn(&MemorySplit) -> Option<i64>,
}

/// Every part, in the order in which they are shown; with `unattributed` they add up to the total.
///
/// Where the allocator keeps no count, `heap` is what is resident of it.
pub(crate) const PARTS: [Part; 13] = [
    Part { name: "stack", title: "thread stacks", bytes: |s| Some(s.stack_bytes) },
    Part { name: "signal_stack", title: "signal stacks", bytes: |s| Some(s.signal_stack_bytes) },
    Part {
        name: "heap",
        title: "heap, held",
        bytes: |s| Some(s.heap_bytes.unwrap_or(s.heap_resident_bytes)),
    },
    Part { name: "heap_slack", title: "heap, slack", bytes: |s| s.heap_slack_bytes },
    Part { name: "program", title: "program data", bytes: |s| Some(s.program_bytes) },
    Part { name: "kernel_stack", title: "kernel stacks", bytes: |s| Some(s.kernel_stack_bytes) },
    Part { name: "page_table", title: "page tables", bytes: |s| Some(s.page_table_bytes) },
    Part { name: "task", title: "task structures", bytes: |s| Some(s.task_bytes) },
    Part { name: "socket_object", title: "socket objects", bytes: |s| Some(s.socket_object_bytes) },
    Part { name: "other_kernel", title: "other kernel", bytes: |s| Some(s.other_kernel_bytes) },
    Part { name: "ring", title: "io_uring", bytes: |s| Some(s.ring_bytes) },
    Part { name: "tcp_buffer", title: "TCP buffers", bytes: |s| s.tcp_buffer_bytes },
    Part { name: "unattributed", title: "unattributed", bytes: |s| s.unattributed_bytes },
];

/// The sum of the parts that were measured: what stands for the total where no cgroup counted one.
pub(crate) const KNOWN: Part =
    Part { name: "known", title: "known parts", bytes: |s| Some(s.parts_bytes()) };

/// The sum; apart from the parts, since nobody may add it to them.
pub(crate) const TOTAL: Part = Part { name: "total", title: "total", bytes: |s| s.total_bytes };

#[derive(Debug)]
pub struct CellSplit<'a> {
    pub cell: &'a Cell,
    /// Splits of the trials that ran to their end.
    pub splits: Vec<&'a MemorySplit>,
    /// Why others have none: a trial's error, or what was unavailable.
    pub errors: Vec<&'a str>,
}

impl<'a> CellSplit<'a> {
    fn of(trials: Family<'a, &'a TrialRecord>) -> CellSplit<'a> {
        let mut cell = CellSplit { cell: trials.cell, splits: vec![], errors: vec![] };
        for record in by_block(&trials.members).into_values() {
            match record.memory_of_subject().0.and_then(|memory| memory.split.as_ref()) {
                Some(split) if record.status == Status::Ok => cell.splits.push(split),
                _ => cell.errors.push(why_not(record)),
            }
        }
        cell
    }

    /// Median bytes of a part; `None` where no trial measured it.
    pub(crate) fn bytes(&self, part: &Part) -> Option<f64> {
        let bytes = self.splits.iter().filter_map(|s| (part.bytes)(s)).map(|b| b as f64);
        median(&bytes.collect::<Vec<f64>>())
    }

    /// Lanes over all workers, at least one.
    pub(crate) fn lanes(&self) -> f64 {
        f64::from(self.cell.total_lanes.max(1))
    }
}

/// The cells of the kind `memory`, each with its splits, in the order of their lanes.
pub fn cells(records: &[TrialRecord]) -> Vec<CellSplit<'_>> {
    let records = records.iter().filter(|r| r.cell.is_memory());
    let all = families(records.map(|r| (&r.cell, r)), &[]);
    let mut cells: Vec<CellSplit<'_>> = all.into_iter().map(CellSplit::of).collect();
    cells.sort_by_cached_key(|c| (c.cell.except(&[Axis::Lanes]), c.cell.total_lanes));
    cells
}

/// What the lanes of a cell's side under test are.
fn what(cell: &Cell) -> &'static str {
    match (cell.tests_server(), cell.is_idle()) {
        (true, true) => "idle connection",
        (true, false) => "connection",
        (false, _) => "lane",
    }
}

fn lane_kind(cell: &Cell) -> LaneKind {
    let Some(server) = cell.server_under_test() else { return cell.engine.facts().lane };
    match server.facts().threads {
        _ if server.facts().offloads => LaneKind::Task,
        LaneThreads::PerLane => LaneKind::Thread,
        LaneThreads::Pool => LaneKind::Job,
        LaneThreads::Own | LaneThreads::PerCpu => LaneKind::Single,
    }
}

fn why_not(record: &TrialRecord) -> &str {
    let gate = record.gates.iter().find(|g| g.hard && g.ok == Some(false));
    let gate = gate.map(|g| super::gates::meaning(&g.name).unwrap_or(&g.name));
    let place = record.memory_of_subject().1;
    let why = [format!("{place}.{}", field!(Memory.split)), field!(TrialRecord.server).into()];
    let missing = || why.iter().find_map(|field| record.unavailable.get(field)).map(|why| &**why);
    record.error.as_deref().or(gate).or_else(missing).unwrap_or("no reason was recorded")
}

/// Names of the cells, each with what tells it from the others beside its lanes.
pub fn names(cells: &[CellSplit<'_>]) -> Vec<String> {
    let cells: Vec<&Cell> = cells.iter().map(|c| c.cell).collect();
    cell::names(&cells, &[Axis::Lanes])
}

#[derive(Debug)]
pub struct Ladder {
    /// What runs each of its lanes: of a server, a connection.
    pub lane: LaneKind,
    /// What there is one more of.
    pub what: &'static str,
    /// Engine, and whatever tells it from the others.
    pub name: String,
    /// Lanes of the lowest and the highest step.
    pub lanes: (u32, u32),
    /// One per part that was measured on enough steps, the known parts and the total last.
    pub fits: Vec<(&'static str, &'static str, LinearFit)>,
    /// Largest |unattributed| ÷ total of a step of 1,000 lanes or more.
    pub most_unattributed: Option<f64>,
}

impl Ladder {
    pub(crate) fn fit(&self, name: &str) -> Option<&LinearFit> {
        self.fits.iter().find(|(n, ..)| *n == name).map(|(.., fit)| fit)
    }

    /// What a lane adds in all, and whether a cgroup counted it rather than the known parts alone.
    pub(crate) fn whole(&self) -> Option<(&LinearFit, bool)> {
        let counted = self.fit(TOTAL.name).map(|fit| (fit, true));
        counted.or_else(|| Some((self.fit(KNOWN.name)?, false)))
    }
}

/// Fits every ladder of three steps or more.
pub fn ladders(cells: &[CellSplit<'_>]) -> Vec<Ladder> {
    let measured = cells.iter().filter(|c| !c.splits.is_empty());
    let ladder = |Family { name, cell, members: steps }: Family<'_, &CellSplit<'_>>| {
        let lanes = || steps.iter().map(|s| s.cell.total_lanes);
        let unattributed = |s: &&CellSplit<'_>| {
            let rest = s.bytes(&PARTS[PARTS.len() - 1])?;
            Some(rest.abs() / s.bytes(&TOTAL).filter(|t| *t > 0.0)?)
        };
        let large = steps.iter().copied().filter(|s| s.cell.total_lanes >= 1_000);
        let most_unattributed = large.filter_map(|s| unattributed(&s)).reduce(f64::max);
        (steps.len() >= LEAST_STEPS).then(|| Ladder {
            lane: lane_kind(cell),
            what: what(cell),
            name,
            lanes: (lanes().min().unwrap_or(0), lanes().max().unwrap_or(0)),
            fits: PARTS.iter().chain([&KNOWN, &TOTAL]).filter_map(|p| fit(&steps, p)).collect(),
            most_unattributed,
        })
    };
    let all = families(measured.map(|c| (c.cell, c)), &[Axis::Lanes]);
    all.into_iter().filter_map(ladder).collect()
}

fn fit(steps: &[&CellSplit<'_>], part: &Part) -> Option<(&'static str, &'static str, LinearFit)> {
    let of_step = |s: &&CellSplit<'_>| {
        let of = |split: &&MemorySplit| Some((s.lanes(), (part.bytes)(split)? as f64));
        s.splits.iter().filter_map(of).collect::<Vec<_>>()
    };
    let points: Vec<(f64, f64)> = steps.iter().flat_map(of_step).collect();
    Some((part.name, part.title, linear_fit(&points, CONFIDENCE)?))
}

/// The splits per lane, and the ladders; none where there are no trials of the kind.
pub fn sections(records: &[TrialRecord]) -> Vec<Section> {
    let cells = cells(records);
    if cells.is_empty() {
        return vec![];
    }
    let ladders = ladders(&cells);
    let slopes = (!ladders.is_empty()).then(|| slopes(&ladders));
    [splits(&cells)].into_iter().chain(slopes).collect()
}

/// One row per cell: rows are easier to add to than columns when a ladder has many steps.
fn splits(cells: &[CellSplit<'_>]) -> Section {
    let rows: Vec<(String, &CellSplit<'_>)> = names(cells).into_iter().zip(cells).collect();
    let lanes = |c: &CellSplit<'_>| format_count(c.cell.total_lanes.into());
    let mut table = Columns::of(&rows);
    table.text("memory", |(name, _)| name.clone());
    table.number("lanes", |(_, c)| lanes(c));
    for part in [&TOTAL].into_iter().chain(&PARTS) {
        if cells.iter().filter_map(|c| c.bytes(part)).any(|bytes| bytes != 0.0) {
            let title = part.title.replacen(' ', "\n", 1);
            table.number(title, |(_, c)| Some(format_bytes(c.bytes(part)? / c.lanes())));
        }
    }
    let since = match cells.iter().all(|c| c.cell.tests_server()) {
        true => "the server stood ready, without a connection",
        false => "the baseline was read, before any lane or socket",
    };
    let mut notes = vec![format!(
        "bytes per {} added since {since}, half-way through the window; medians; page cache not included",
        what(cells[0].cell)
    )];
    if cells
        .iter()
        .flat_map(|c| &c.splits)
        .any(|s| s.heap_slack_bytes.is_some_and(|bytes| bytes < 0))
    {
        notes.push("heap, slack: resident less held; below zero where memory is held that was never touched".into());
    }
    if cells.iter().flat_map(|c| &c.splits).any(|s| s.source == SplitSource::Proc) {
        notes
            .push("no total and no unattributed rest: no memory cgroup could be made (see `unavailable` in trials.jsonl)".into());
    }
    if cells.iter().flat_map(|c| &c.splits).any(|s| !s.object_sizes_from_kernel) {
        notes.push(
            "sizes of kernel objects are those of Linux 6.18 on x86-64: only root may read this \
             kernel's"
                .into(),
        );
    }
    for (name, cell) in &rows {
        let told = |error| format!("{name} {} lanes: {error}", lanes(cell));
        notes.extend(cell.errors.iter().map(told));
    }
    table.section("where the bytes go", notes)
}

fn bytes_and_half_width(f: &LinearFit) -> String {
    let half = f.slope_interval.map(|(low, high)| (high - low) / 2.0);
    let half = half.map_or(String::new(), |h| format!(" ± {}", format_bytes(h)));
    format!("{}{half}", format_bytes(f.slope))
}

/// Parts down, ladders across: slope with the half-width of its interval, then the fixed cost.
fn slopes(ladders: &[Ladder]) -> Section {
    let parts: Vec<&Part> = PARTS.iter().chain([&TOTAL]).collect();
    let mut table = Columns::of(&parts);
    table.text(format!("bytes per {}", ladders[0].what), |p| p.title.to_string());
    for ladder in ladders {
        table.number(ladder.name.clone(), |p| ladder.fit(p.name).map(bytes_and_half_width));
        table.number("fixed", |p| Some(format_bytes(ladder.fit(p.name)?.intercept)));
    }
    let mut notes = vec![
        "slopes over lanes by least squares, one point per trial, ± half of the 95 % interval; fixed: \
         the line at no lanes"
            .to_string(),
    ];
    notes.extend(ladders.iter().filter_map(|Ladder { name, lanes, most_unattributed, .. }| {
        let (low, high) = (format_count(lanes.0.into()), format_count(lanes.1.into()));
        let share = 100.0 * (*most_unattributed)?;
        Some(format!(
            "{name}: {low} to {high} lanes; unattributed at most {share:.1} % of the total from 1,000 \
             lanes up"
        ))
    }));
    table.section(format!("cost per {}", ladders[0].what), notes)
}

/// `memory.json`: the splits and the fits for programs; `None` where there are no trials of the kind.
pub fn json(records: &[TrialRecord]) -> Option<String> {
    let cells = cells(records);
    if cells.is_empty() {
        return None;
    }
    let cell = |c: &CellSplit<'_>| {
        let of = |p: &Part| (format!("{}_bytes", p.name), json!(c.bytes(p)));
        let bytes: Map<_, _> = PARTS.iter().chain([&TOTAL]).map(of).collect();
        json!({ "cell": c.cell, "trials": c.splits.len(), "errors": c.errors, "median": bytes })
    };
    let fit = |(name, _, f): &(&str, &str, LinearFit)| {
        let fit = json!({
            "slope_bytes_per_lane": f.slope, "slope_interval": f.slope_interval,
            "intercept_bytes": f.intercept, "intercept_interval": f.intercept_interval,
            "points": f.n, "r_squared": f.r_squared,
        });
        (name.to_string(), fit)
    };
    let ladder = |l: &Ladder| {
        let fits: Map<_, _> = l.fits.iter().map(fit).collect();
        json!({
            "name": l.name, "lanes": l.lanes, "confidence": CONFIDENCE,
            "most_unattributed_share": l.most_unattributed, "parts": fits,
        })
    };
    let text = serde_json::to_string_pretty(&json!({
        "format_version": 1,
        "cells": cells.iter().map(cell).collect::<Vec<_>>(),
        "ladders": ladders(&cells).iter().map(ladder).collect::<Vec<_>>(),
    }));
    // Plain numbers and texts always serialise.
    text.ok().map(|t| t + "\n")
}
