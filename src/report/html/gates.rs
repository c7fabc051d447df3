//! What may not be believed, and what did not run at all.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::{escape, paragraph};
use crate::format::TrialRecord;
use crate::report::summary::Group;
use crate::report::{layout, memory};

/// Most cells that are named for each gate.
const MOST_CELLS: usize = 40;

/// What a gate that failed means to a reader; see [`crate::driver::gates`] for the rules.
fn meaning(gate: &str) -> &'static str {
    match gate {
        "ledger_balanced" => "requests are missing from the ledger",
        "connected_lanes" => "not every lane had a connection when the trial began",
        "delivered_rate" => "the generator sent fewer requests than the plan asks",
        "target_received" => "the target counted other requests than were sent",
        "pacer_delay_p99_ns" => "requests were released late",
        "worker_cpu_share" => {
            "the worker's CPUs were nearly all in use: what limits is the generator"
        }
        "littles_law" => "requests in flight do not agree with rate × time",
        "steal_share" => "the hypervisor took CPU time away",
        "foreign_cpu_share" => "strangers used the worker's CPUs",
        _ => "",
    }
}

/// A gate over all cells.
#[derive(Default)]
struct Failed {
    hard: bool,
    trials: usize,
    of: usize,
    cells: Vec<String>,
}

/// Gates that failed, each with its cells; then cells that have no valid trial, and the errors.
pub(super) fn gates(records: &[TrialRecord], groups: &[Group]) -> String {
    if records.is_empty() {
        return paragraph("No trials yet.");
    }
    let mut failed: BTreeMap<(bool, &str), Failed> = BTreeMap::new();
    let mut errors = String::new();
    for group in groups {
        for row in &group.rows {
            for (name, gate) in &row.failed_gates {
                // Hard ones first.
                let all = failed.entry((!gate.hard, name)).or_default();
                all.hard = gate.hard;
                all.trials += gate.trials;
                all.of += row.tally.blocks;
                let note = layout::gate_note(name, gate, row.tally.blocks);
                let note = note.split_once(" failed in ").map_or(note.as_str(), |(_, n)| n);
                all.cells.push(format!("{}: {note}", row.cell.id));
            }
            for (error, trials) in &row.errors {
                let _ = write!(
                    errors,
                    "<li><code>{}</code>: {} of {} trials: {}</li>",
                    escape(&row.cell.id),
                    trials,
                    row.tally.blocks,
                    escape(error)
                );
            }
        }
    }
    for cell in memory::cells(records) {
        for error in &cell.errors {
            let (id, error) = (escape(&cell.cell.id), escape(error));
            let _ = write!(errors, "<li><code>{id}</code>: {error}</li>");
        }
    }
    let mut out = if failed.is_empty() && errors.is_empty() {
        paragraph("None: every gate of every trial held.")
    } else if failed.is_empty() {
        paragraph("No gate failed in a trial that ran to its end.")
    } else {
        failed.iter().map(|((_, name), gate)| one(name, gate)).collect()
    };
    if !errors.is_empty() {
        let _ = write!(out, "<h3>Trials that failed</h3><ul class=\"bad\">{errors}</ul>");
    }
    out + &unranked(groups)
}

fn one(name: &str, gate: &Failed) -> String {
    let kind = if gate.hard { "hard gate: invalid, never ranked" } else { "noise: never ranked" };
    let what = meaning(name);
    let what = if what.is_empty() { String::new() } else { format!(" ({what})") };
    let cells: Vec<String> =
        gate.cells.iter().take(MOST_CELLS).map(|c| format!("<li>{}</li>", escape(c))).collect();
    let more = gate.cells.len().saturating_sub(MOST_CELLS);
    let more = if more > 0 { format!("<li>… and {more} more cells</li>") } else { String::new() };
    format!(
        "<details class=\"bad\"><summary><code>{}</code>{}: {} of {} trials in {} cell{} · {kind}\
         </summary><ul>{}{more}</ul></details>",
        escape(name),
        escape(&what),
        gate.trials,
        gate.of,
        gate.cells.len(),
        if gate.cells.len() == 1 { "" } else { "s" },
        cells.concat()
    )
}

/// How many cells say nothing, so that nobody looks for them in the plots.
fn unranked(groups: &[Group]) -> String {
    let rows = || groups.iter().flat_map(|g| &g.rows);
    let (all, without) = (rows().count(), rows().filter(|r| !r.ranked).count());
    if without == 0 {
        return String::new();
    }
    paragraph(&format!(
        "{without} of {all} cells have no valid trial: the tables show them in parentheses, the \
         plots leave them out, and no ratio uses them."
    ))
}
