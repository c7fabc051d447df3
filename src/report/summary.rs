//! Records → groups of rows that may be compared: medians, merged percentiles, ratios.
//!
//! A row is a cell. Only *valid* trials enter its figures: they ran to their end, every hard gate
//! held, and they are not noisy. Where a cell has no valid trial, its other finished ones are
//! summarised so that they can be shown, and the row is not [`Row::ranked`].

mod compare;
mod figures;

use std::collections::{BTreeMap, BTreeSet};

pub use figures::{Figures, Percentiles};

use crate::format::{Status, TrialRecord};
use crate::plan::{Arrivals, Cell, Codec, Engine};
use crate::stats::Comparison;

/// The flag of a trial that a noise gate failed.
pub const NOISY: &str = "noisy";

/// The label of the second copy of the baseline.
pub const AA: &str = "aa";

/// Cells of equal connections, CPUs, arrivals, rate, body and codec.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    /// Connections.
    pub total_lanes: u32,
    /// CPUs of the workers.
    pub cpus: u32,
    /// What releases requests.
    pub arrivals: Arrivals,
    /// Offered load in requests per second; `None` in a closed loop.
    pub offered_per_s: Option<f64>,
    /// Who speaks HTTP.
    pub codec: Codec,
    /// Length of the embedded target's bodies, where the sweep varies it.
    pub body_bytes: Option<u64>,
    /// Repetitions: the most blocks that a row has.
    pub trials: usize,
    /// One a cell, by engine.
    pub rows: Vec<Row>,
    /// Index of the row that ratios refer to; `None` if the baseline has no valid trial here.
    pub reference: Option<usize>,
    /// Ratios of CPU per request that identical systems show, from an A/A pair.
    pub cpu_floor: Option<(f64, f64)>,
    /// The same for memory.
    pub memory_floor: Option<(f64, f64)>,
    /// Ratios this close to 1, as a share, are as good as equal.
    pub margin: f64,
    /// Comparisons of the whole report that were judged together.
    pub among: usize,
}

impl Group {
    /// Whether the kernel counted events: what that costs is in every figure of time.
    pub fn counts_events(&self) -> bool {
        self.rows.iter().all(|r| r.cell.counts_events())
    }

    /// Whether nothing was sent: the fixed cost of every engine.
    pub fn is_idle(&self) -> bool {
        self.rows.iter().all(|r| r.cell.is_idle())
    }
}

/// One cell.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// The cell.
    pub cell: Cell,
    /// Engine, label and whatever axis tells it from another row of the group.
    pub name: String,
    /// How its trials ended.
    pub tally: Tally,
    /// Whether the figures come from valid trials; others are shown but never compared.
    pub ranked: bool,
    /// Flags of the trials behind the figures.
    pub flags: BTreeSet<String>,
    /// `None` if no trial ran to its end.
    pub figures: Option<Figures>,
    /// CPU per request against the reference, from pairs of the same block.
    pub cpu_ratio: Option<Comparison>,
    /// Peak user memory over the baseline against the reference.
    pub memory_ratio: Option<Comparison>,
    /// Each error text with the number of trials that it stopped.
    pub errors: BTreeMap<String, usize>,
    /// Gates that failed, by name.
    pub failed_gates: BTreeMap<String, FailedGate>,
}

/// Blocks of a cell by how their trial ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Blocks with any trial.
    pub blocks: usize,
    /// Ran to the end, every hard gate held, not noisy.
    pub valid: usize,
    /// A noise gate failed.
    pub noisy: usize,
    /// A hard gate failed.
    pub invalid: usize,
    /// Did not run to its end.
    pub failed: usize,
    /// Stopped by the user.
    pub interrupted: usize,
    /// Trials that were repeated within their block and stand in no other column.
    pub repeated: usize,
}

/// A gate that failed in some trials of a row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FailedGate {
    /// Whether it made the trials invalid.
    pub hard: bool,
    /// Trials in which it failed.
    pub trials: usize,
    /// What was seen in the last of them.
    pub value: Option<f64>,
    /// What is allowed.
    pub limit: Option<f64>,
}

/// Whether a trial's numbers may be ranked.
pub fn is_valid(record: &TrialRecord) -> bool {
    record.status == Status::Ok && !record.flags.iter().any(|f| f == NOISY)
}

/// Sorts records into groups, in a fixed order, and compares each row with the baseline; ratios
/// within `margin` of 1 are as good as equal.
pub fn summarise(records: &[TrialRecord], baseline: Engine, margin: f64) -> Vec<Group> {
    let mut cells: BTreeMap<&str, Vec<&TrialRecord>> = BTreeMap::new();
    // Trials that split memory are shown by `report::memory`: their latency is not ranked.
    for record in records.iter().filter(|r| !r.cell.is_memory()) {
        cells.entry(&record.cell.id).or_default().push(record);
    }
    let mut groups: BTreeMap<GroupKey, Vec<Vec<&TrialRecord>>> = BTreeMap::new();
    for trials in cells.into_values() {
        groups.entry(GroupKey::of(&trials[0].cell)).or_default().push(trials);
    }
    let mut groups: Vec<Group> =
        groups.into_values().map(|cells| group(cells, baseline, margin)).collect();
    compare::judge_all(&mut groups, margin);
    groups
}

/// What cells of a group share, in the order in which groups are shown.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct GroupKey {
    arrivals: Arrivals,
    cpus: u32,
    /// Bits of a rate that is never negative, so that their order is that of the rates.
    rate: Option<u64>,
    body_bytes: Option<u64>,
    total_lanes: u32,
    codec: Codec,
    /// Trials in which events are counted stand apart: their times are not to be compared.
    counts_events: bool,
}

impl GroupKey {
    fn of(cell: &Cell) -> GroupKey {
        GroupKey {
            arrivals: cell.arrivals,
            cpus: cell.cpus,
            rate: cell.offered_per_s.map(f64::to_bits),
            body_bytes: cell.body_bytes,
            total_lanes: cell.total_lanes,
            codec: cell.codec,
            counts_events: cell.counts_events(),
        }
    }
}

fn group(mut cells: Vec<Vec<&TrialRecord>>, baseline: Engine, margin: f64) -> Group {
    cells.sort_by(|a, b| {
        let key = |c: &Cell| {
            (
                c.engine,
                c.label.clone(),
                c.processes,
                c.stack_size_bytes,
                c.rayon_threads,
                c.allocator.clone(),
                c.offload.map(|offload| offload as u8),
            )
        };
        key(&a[0].cell).cmp(&key(&b[0].cell))
    });
    let blocks: Vec<BTreeMap<u32, &TrialRecord>> = cells.iter().map(|t| by_block(t)).collect();
    let all: Vec<&Cell> = cells.iter().map(|t| &t[0].cell).collect();
    let rows: Vec<Row> = cells
        .iter()
        .zip(&blocks)
        .map(|(trials, blocks)| row(trials, blocks, name(&trials[0].cell, &all)))
        .collect();
    let first = all[0];
    let reference =
        rows.iter().position(|r| r.ranked && r.cell.engine == baseline && r.cell.label.is_none());
    let mut group = Group {
        total_lanes: first.total_lanes,
        cpus: first.cpus,
        arrivals: first.arrivals,
        offered_per_s: first.offered_per_s,
        codec: first.codec,
        body_bytes: first.body_bytes,
        trials: rows.iter().map(|r| r.tally.blocks).max().unwrap_or(0),
        rows,
        reference,
        cpu_floor: None,
        memory_floor: None,
        margin,
        among: 0,
    };
    compare::compare(&mut group, &blocks);
    group
}

/// The trial that stands for each block: the last valid one, or else the last.
///
/// A noisy trial is repeated within its block, so that a block may hold several.
fn by_block<'a>(trials: &[&'a TrialRecord]) -> BTreeMap<u32, &'a TrialRecord> {
    let mut blocks: BTreeMap<u32, &TrialRecord> = BTreeMap::new();
    for trial in trials {
        let held = blocks.get(&trial.block);
        // A repeat that the user stopped says nothing against the trial that it was to replace.
        let worse = |h: &TrialRecord| is_valid(h) || trial.status == Status::Interrupted;
        if held.is_none_or(|h| is_valid(trial) || !worse(h)) {
            blocks.insert(trial.block, trial);
        }
    }
    blocks
}

fn row(trials: &[&TrialRecord], blocks: &BTreeMap<u32, &TrialRecord>, name: String) -> Row {
    let mut tally =
        Tally { blocks: blocks.len(), repeated: trials.len() - blocks.len(), ..Tally::default() };
    let mut errors = BTreeMap::new();
    let mut failed_gates: BTreeMap<String, FailedGate> = BTreeMap::new();
    for trial in blocks.values() {
        *match trial.status {
            Status::Ok if is_valid(trial) => &mut tally.valid,
            Status::Ok => &mut tally.noisy,
            Status::Invalid => &mut tally.invalid,
            Status::Failed => &mut tally.failed,
            Status::Interrupted => &mut tally.interrupted,
        } += 1;
        if trial.status == Status::Failed {
            let text = trial.error.as_deref().unwrap_or("no reason was recorded");
            *errors.entry(text.to_string()).or_insert(0) += 1;
        }
        for gate in trial.gates.iter().filter(|g| g.ok == Some(false)) {
            let before = failed_gates.get(&gate.name).map_or(0, |g| g.trials);
            let failed = FailedGate {
                hard: gate.hard,
                trials: before + 1,
                value: gate.value,
                limit: gate.limit,
            };
            failed_gates.insert(gate.name.clone(), failed);
        }
    }
    let ranked = tally.valid > 0;
    let used: Vec<&TrialRecord> = blocks
        .values()
        .copied()
        .filter(|t| match t.status {
            Status::Ok => is_valid(t) || !ranked,
            Status::Invalid => !ranked,
            Status::Failed | Status::Interrupted => false,
        })
        .collect();
    let (figures, unreadable) = figures::figures(&used);
    for text in unreadable {
        *errors.entry(text).or_insert(0) += 1;
    }
    Row {
        cell: trials[0].cell.clone(),
        name,
        tally,
        ranked,
        flags: used.iter().flat_map(|t| t.flags.iter().cloned()).collect(),
        figures,
        cpu_ratio: None,
        memory_ratio: None,
        errors,
        failed_gates,
    }
}

/// Engine and label, and each axis that differs between rows of the engine or of the group.
fn name(cell: &Cell, all: &[&Cell]) -> String {
    let mut name = cell.engine.name().to_string();
    if let Some(label) = &cell.label {
        name.push_str(&format!(" ({label})"));
    }
    let mut twins = all.iter().filter(|c| c.engine == cell.engine);
    if let Some(size) = cell.stack_size_bytes
        && twins.clone().any(|c| c.stack_size_bytes != cell.stack_size_bytes)
    {
        name.push_str(&format!(" {}", crate::units::size_literal(size)));
    }
    if let Some(threads) = cell.rayon_threads
        && twins.any(|c| c.rayon_threads != cell.rayon_threads)
    {
        name.push_str(&format!(" pool {threads}"));
    }
    if let Some(allocator) = &cell.allocator {
        name.push_str(&format!(" {}", allocator.name()));
    }
    // Only inline is not worth a word where nothing else is swept.
    if let Some(offload) = cell.offload
        && all.iter().any(|c| c.offload.is_some_and(|other| other != offload))
    {
        name.push_str(&format!(" {}", offload.name()));
    }
    if all.iter().any(|c| c.processes != cell.processes) {
        name.push_str(&format!(" ×{}", cell.processes));
    }
    name
}
