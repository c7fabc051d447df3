//! Records → groups of rows that may be compared: medians, merged percentiles, ratios.
//!
//! A row is a cell. Only *valid* trials enter its figures: they ran to their end and every hard gate
//! held. Where too few are, what there is is shown, and the row is not [`Row::ranked`].
//!
//! Noise excludes no trial from a comparison: engines of a block share it, and it widens the
//! interval by what it does. Levels, such as a p99 or CPU per request, are read from the quiet trials
//! where at least half are quiet, and are marked otherwise; memory, switches and threads are always
//! read from all.

mod compare;
mod figures;
mod open;

use std::collections::{BTreeMap, BTreeSet};

pub(crate) use compare::{Blocks, paired, ratio, values};
pub(crate) use figures::QUANTILES;
pub use figures::{Figures, Percentiles};
pub(crate) use open::Comparisons;

use crate::format::{Flag, Status, TrialRecord};
use crate::plan::cell::{Key, names};
use crate::plan::{Axis, Cell, CellKind, Engine};
use crate::report::measures::{Facts, Measure};
use crate::stats::{CONFIDENCE, Comparison, linear_fit};

/// Cells of one kind and of equal values on the axes that the rows of a table share.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    /// The first row's, for those values.
    pub cell: Cell,
    /// Repetitions: the most blocks that a row has.
    pub trials: usize,
    pub rows: Vec<Row>,
    /// Index of the row that ratios refer to; `None` if the baseline has no valid trial here.
    pub reference: Option<usize>,
    /// Ratios of a measure that identical systems show, from an A/A pair.
    pub floors: Vec<(Measure, (f64, f64))>,
    /// Ratios this close to 1, as a share, are as good as equal.
    pub margin: f64,
    /// Comparisons of the whole report that were judged together.
    pub among: usize,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    pub cell: Cell,
    /// What tells it from the other rows of the group.
    pub name: String,
    pub tally: Tally,
    /// Whether enough trials are valid (see [`Tally::is_enough`]); other rows are shown but never
    /// compared.
    pub ranked: bool,
    /// Whether levels come from a machine that was busy with something else, for want of quiet trials.
    pub noisy_levels: bool,
    pub flags: BTreeSet<Flag>,
    /// `None` if no trial ran to its end.
    pub figures: Option<Figures>,
    /// Each measure that is compared against the reference, from pairs of the same block.
    pub ratios: Vec<(Measure, Comparison)>,
    /// Each error text with the number of trials that it stopped.
    pub errors: BTreeMap<String, usize>,
    pub failed_gates: BTreeMap<String, FailedGate>,
}

impl Row {
    pub fn ratio(&self, measure: Measure) -> Option<Comparison> {
        self.ratios.iter().find(|(known, _)| *known == measure).map(|(_, ratio)| *ratio)
    }

    pub fn cpu_ratio(&self) -> Option<Comparison> {
        self.ratio(Measure::CpuPerRequest)
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    pub blocks: usize,
    /// Ran to the end, every hard gate held.
    pub valid: usize,
    /// Those of the valid in which a noise gate failed.
    pub noisy: usize,
    pub invalid: usize,
    /// Those of the invalid ones in whose window no request began.
    pub(crate) empty: usize,
    pub failed: usize,
    pub interrupted: usize,
    /// Trials that were repeated within their block and stand in no other column.
    pub repeated: usize,
}

/// A gate that failed in some trials of a row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FailedGate {
    pub hard: bool,
    pub(crate) trials: usize,
    /// What was seen in the last of them.
    pub value: Option<f64>,
    pub limit: Option<f64>,
}

impl Tally {
    fn of(blocks: &Blocks<'_>, trials: usize) -> Tally {
        let (blocks, all) = (blocks.values(), blocks.len());
        let mut tally = Tally { blocks: all, repeated: trials - all, ..Tally::default() };
        for trial in blocks {
            *match trial.status {
                Status::Ok => &mut tally.valid,
                Status::Invalid => &mut tally.invalid,
                Status::Failed => &mut tally.failed,
                Status::Interrupted => &mut tally.interrupted,
            } += 1;
            let invalid = trial.status == Status::Invalid;
            let idle = trial.cell.is_idle();
            tally.empty += usize::from(invalid && !idle && trial.ledger.planned == 0);
            tally.noisy += usize::from(is_valid(trial) && !is_quiet(trial));
        }
        tally
    }

    /// Whether the valid trials may stand for all: half of them and three are, or all of fewer. The
    /// few that a gate lets through are the best, not the typical ones.
    pub(crate) fn is_enough(&self) -> bool {
        2 * self.valid >= self.blocks && self.valid >= self.blocks.min(3)
    }
}

/// Whether a trial's numbers hold, however noisy the machine was.
pub(crate) fn is_valid(record: &TrialRecord) -> bool {
    record.status == Status::Ok
}

pub(crate) fn is_quiet(record: &TrialRecord) -> bool {
    !record.flags.contains(&Flag::Noisy)
}

/// The trials that levels are read from: the quiet ones where at least half are, or else all.
pub(crate) fn for_levels<'a>(valid: &[&'a TrialRecord]) -> Vec<&'a TrialRecord> {
    let quiet: Vec<&TrialRecord> = valid.iter().copied().filter(|t| is_quiet(t)).collect();
    if 2 * quiet.len() >= valid.len() { quiet } else { valid.to_vec() }
}

pub(crate) fn by_cell<'r>(
    records: impl IntoIterator<Item = &'r TrialRecord>,
) -> BTreeMap<&'r str, Vec<&'r TrialRecord>> {
    let mut cells: BTreeMap<&str, Vec<&TrialRecord>> = BTreeMap::new();
    for record in records {
        cells.entry(&record.cell.id).or_default().push(record);
    }
    cells
}

/// The same in the order of their numbers, as in the tables of groups: 16, 64 and 256 lanes.
pub(crate) fn in_order<'r>(
    records: impl IntoIterator<Item = &'r TrialRecord>,
) -> Vec<(&'r str, Vec<&'r TrialRecord>)> {
    let mut cells: Vec<_> = by_cell(records).into_iter().collect();
    let load = |(_, trials): &(&str, Vec<&TrialRecord>)| {
        let cell = &trials[0].cell;
        (cell.total_lanes, cell.offered_per_s.unwrap_or(0.0))
    };
    cells.sort_by(|a, b| {
        let (a, b) = (load(a), load(b));
        a.0.cmp(&b.0).then(a.1.total_cmp(&b.1))
    });
    cells
}

/// The valid trials of a cell, one for each block.
pub(crate) fn valid<'r>(trials: &[&'r TrialRecord]) -> Vec<&'r TrialRecord> {
    by_block(trials).into_values().filter(|t| is_valid(t)).collect()
}

/// What is shown of a cell beside its row: whether that is ranked, and the trials that its levels are
/// read from.
pub(crate) fn shown_of<'r>(trials: &[&'r TrialRecord]) -> (bool, Vec<&'r TrialRecord>) {
    let blocks = by_block(trials);
    (Tally::of(&blocks, trials.len()).is_enough(), for_levels(&used(&blocks)))
}

/// The same of every cell with something of a kind to show, in the order of their numbers.
pub(crate) fn shown_cells(
    records: &[TrialRecord],
    has: impl Fn(&TrialRecord) -> bool,
) -> Vec<(bool, Vec<&TrialRecord>)> {
    let cells = in_order(records.iter().filter(|r| !r.cell.is_memory())).into_iter();
    let shown = cells.map(|(_, trials)| shown_of(&trials));
    shown.filter(|(_, trials)| trials.iter().any(|t| has(t))).collect()
}

/// The trials of a row that a measure is read from: a level from the quiet ones where they are enough.
pub(crate) fn read_for<'r>(measure: &Facts, valid: &[&'r TrialRecord]) -> Vec<&'r TrialRecord> {
    if measure.level { for_levels(valid) } else { valid.to_vec() }
}

/// Sorts records into groups, in a fixed order, and compares each row with the baseline; ratios
/// within `margin` of 1 are as good as equal.
pub fn summarise(records: &[TrialRecord], baseline: Engine, margin: f64) -> Vec<Group> {
    let groups = grouped(by_cell(records).into_values(), |trials| &trials[0].cell);
    let mut groups: Vec<Group> =
        groups.into_iter().map(|cells| group(cells, baseline, margin)).collect();
    compare::judge_all(&mut groups, margin);
    slopes(&mut groups);
    groups
}

/// Fits memory over lanes, for cells that differ in lanes alone.
fn slopes(groups: &mut [Group]) {
    let rows = groups.iter_mut().flat_map(|g| &mut g.rows);
    let mut ladders: BTreeMap<(CellKind, Key), Vec<&mut Row>> = BTreeMap::new();
    for row in rows.filter(|r| r.ranked && r.figures.is_some()) {
        let key = (row.cell.kind, row.cell.except(&[Axis::Lanes]));
        ladders.entry(key).or_default().push(row);
    }
    for mut ladder in ladders.into_values() {
        let slope = |measure: Measure| {
            let points = ladder.iter().map(|row| {
                let bytes = row.figures.as_ref().and_then(|f| f.get(measure))?;
                Some((f64::from(row.cell.total_lanes), bytes))
            });
            let points: Vec<(f64, f64)> = points.collect::<Option<_>>()?;
            linear_fit(&points, CONFIDENCE).map(|fit| fit.slope).filter(|slope| *slope > 0.0)
        };
        let Some(memory) = slope(Measure::Memory) else { continue };
        let found = Some((memory, slope(Measure::Kernel)));
        for figures in ladder.iter_mut().filter_map(|row| row.figures.as_mut()) {
            figures.slopes = found;
        }
    }
}

/// Cells of a sweep in the groups of its tables, in the order of their rows. Those that split memory
/// are left out: `report::memory` shows them, and their latency is not ranked.
fn grouped<T>(cells: impl Iterator<Item = T>, cell: impl Fn(&T) -> &Cell) -> Vec<Vec<T>> {
    let mut groups: BTreeMap<(CellKind, Key), Vec<T>> = BTreeMap::new();
    for one in cells.filter(|one| !cell(one).is_memory()) {
        let own = cell(&one);
        // The second copy of the baseline stands beside what it is to be compared with.
        let kind = if own.is_copy() { CellKind::Timed } else { own.kind };
        groups.entry((kind, own.place(&[]))).or_default().push(one);
    }
    let mut groups: Vec<Vec<T>> = groups.into_values().collect();
    for group in &mut groups {
        group.sort_by_cached_key(|one| (cell(one).except(&[]), cell(one).kind));
    }
    groups
}

/// The cell of a group that ratios refer to, and those that are compared with it; one that is not
/// `ranked`, for want of valid trials, is neither.
fn against(
    cells: &[&Cell],
    baseline: Engine,
    ranked: impl Fn(usize) -> bool,
) -> Option<(usize, Vec<usize>)> {
    let ranked = || (0..cells.len()).filter(|i| ranked(*i));
    let reference = ranked().find(|i| {
        let cell = cells[*i];
        cell.is_baseline(baseline) && !cell.is_copy() && !cell.counts_events()
    })?;
    let others = ranked().filter(|i| *i != reference);
    Some((reference, others.filter(|i| cells[*i].is_comparable(cells[reference])).collect()))
}

fn group(cells: Vec<Vec<&TrialRecord>>, baseline: Engine, margin: f64) -> Group {
    let blocks: Vec<Blocks<'_>> = cells.iter().map(|t| by_block(t)).collect();
    let all: Vec<&Cell> = cells.iter().map(|t| &t[0].cell).collect();
    let rows = cells.iter().zip(&blocks).zip(names(&all, &[]));
    let rows: Vec<Row> = rows.map(|((trials, blocks), name)| row(trials, blocks, name)).collect();
    let against = against(&all, baseline, |i| rows[i].ranked);
    let mut group = Group {
        cell: all[0].clone(),
        trials: rows.iter().map(|r| r.tally.blocks).max().unwrap_or(0),
        rows,
        reference: against.as_ref().map(|(reference, _)| *reference),
        floors: Vec::new(),
        margin,
        among: 0,
    };
    if let Some((reference, others)) = against {
        compare::compare(&mut group, &blocks, reference, &others);
    }
    group
}

/// The trial that stands for each block: the last valid one that is quiet, or else the last valid
/// one, or else the last.
///
/// A noisy trial may be repeated within its block, so that a block may hold several.
pub(crate) fn by_block<'a>(trials: &[&'a TrialRecord]) -> Blocks<'a> {
    let mut blocks = Blocks::new();
    for trial in trials {
        let held = blocks.get(&trial.block);
        // A repeat that the user stopped says nothing against the trial that it was to replace.
        let worth = |t: &TrialRecord| match t.status {
            Status::Ok => 2 + u8::from(is_quiet(t)),
            Status::Interrupted => 0,
            Status::Invalid | Status::Failed => 1,
        };
        if held.is_none_or(|h| worth(trial) >= worth(h)) {
            blocks.insert(trial.block, trial);
        }
    }
    blocks
}

/// The trials behind a row's figures: the valid ones, or what ran to its end where none is.
fn used<'a>(blocks: &Blocks<'a>) -> Vec<&'a TrialRecord> {
    let valid = blocks.values().any(|t| is_valid(t));
    let shown = |t: &TrialRecord| is_valid(t) || (t.status == Status::Invalid && !valid);
    blocks.values().copied().filter(|t| shown(t)).collect()
}

/// The trials behind the figures of a cell.
pub(crate) fn behind<'a>(records: &'a [TrialRecord], cell: &Cell) -> Vec<&'a TrialRecord> {
    let of_cell: Vec<&TrialRecord> = records.iter().filter(|r| r.cell.id == cell.id).collect();
    used(&by_block(&of_cell))
}

fn row(trials: &[&TrialRecord], blocks: &Blocks<'_>, name: String) -> Row {
    let tally = Tally::of(blocks, trials.len());
    let mut errors = BTreeMap::new();
    let mut failed_gates: BTreeMap<String, FailedGate> = BTreeMap::new();
    for trial in blocks.values() {
        if trial.status == Status::Failed {
            let text = trial.error.as_deref().unwrap_or("no reason was recorded");
            *errors.entry(text.to_string()).or_insert(0) += 1;
        }
        for gate in trial.gates.iter().filter(|g| g.ok == Some(false)) {
            let trials = failed_gates.get(&gate.name).map_or(0, |g| g.trials) + 1;
            let failed =
                FailedGate { hard: gate.hard, trials, value: gate.value, limit: gate.limit };
            failed_gates.insert(gate.name.clone(), failed);
        }
    }
    let used = used(blocks);
    let levels = for_levels(&used);
    let (figures, unreadable) = figures::figures(&used, &levels);
    for text in unreadable {
        *errors.entry(text).or_insert(0) += 1;
    }
    Row {
        cell: trials[0].cell.clone(),
        name,
        tally,
        ranked: tally.is_enough(),
        noisy_levels: levels.iter().any(|t| !is_quiet(t)),
        flags: used.iter().flat_map(|t| t.flags.iter().cloned()).collect(),
        figures,
        ratios: Vec::new(),
        errors,
        failed_gates,
    }
}
