//! What may not be believed, and what did not run at all.

use std::collections::BTreeMap;

use maud::{Markup, html};

use super::{paragraph, rich};
use crate::format::TrialRecord;
use crate::report::gates::meaning;
use crate::report::summary::Group;
use crate::report::{layout, memory};
use crate::units::plural;

const MOST_CELLS: usize = 40;

#[derive(Default)]
struct Failed {
    trials: usize,
    cells: Vec<String>,
}

/// Gates that failed, each with its cells; then cells that have no valid trial, and the errors.
pub(super) fn gates(records: &[TrialRecord], groups: &[Group]) -> Markup {
    if records.is_empty() {
        return paragraph("No trials yet.");
    }
    let mut failed: BTreeMap<(bool, &str), Failed> = BTreeMap::new();
    let mut errors: Vec<(&str, String)> = Vec::new();
    for row in groups.iter().flat_map(|g| &g.rows) {
        let blocks = row.tally.blocks;
        for (name, gate) in &row.failed_gates {
            // Hard ones first.
            let all = failed.entry((!gate.hard, name)).or_default();
            all.trials += gate.trials;
            let note = layout::gate_note(name, gate, blocks);
            let note = note.split_once(" in ").map_or(note.as_str(), |(_, n)| n);
            all.cells.push(format!("{}: {note}", row.cell.id));
        }
        for (error, trials) in &row.errors {
            errors.push((&row.cell.id, format!("{trials} of {blocks} trials: {error}")));
        }
    }
    let split = memory::cells(records);
    for cell in &split {
        errors.extend(cell.errors.iter().map(|e| (cell.cell.id.as_str(), e.to_string())));
    }
    let rows = || groups.iter().flat_map(|g| &g.rows);
    let all = (rows().map(|r| r.tally.blocks).sum(), rows().count());
    html! {
        @if failed.is_empty() && errors.is_empty() {
            p { "None: every check of every trial held." }
        } @else if failed.is_empty() {
            p { "No check failed in a trial that ran to its end." }
        }
        @for ((soft, name), gate) in &failed { (one(name, !soft, gate, all)) }
        @if !errors.is_empty() {
            h3 { "Trials that failed" }
            ul.bad { @for (id, error) in &errors { li { code { (id) } ": " (rich(error)) } } }
        }
        (unranked(groups))
    }
}

/// A gate that failed; `all` are the trials and cells of the run.
fn one(name: &str, hard: bool, gate: &Failed, all: (usize, usize)) -> Markup {
    let kind = if hard {
        "hard check: result invalid"
    } else {
        "noise: levels are marked, intervals wider"
    };
    let what = meaning(name).unwrap_or_default();
    let more = gate.cells.len().saturating_sub(MOST_CELLS);
    html! {
        details.bad {
            summary {
                @if what.is_empty() { code { (name) } } @else { (what) " (" code { (name) } ")" }
                ": " (gate.trials) " of " (plural(all.0 as u64, "trial"))
                ", in " (gate.cells.len()) " of " (plural(all.1 as u64, "cell"))
                " · " (kind)
            }
            ul {
                @for cell in gate.cells.iter().take(MOST_CELLS) { li { (cell) } }
                @if more > 0 { li { "… and " (more) " more cells" } }
            }
        }
    }
}

/// How many cells say nothing, so that nobody looks for them in the plots.
fn unranked(groups: &[Group]) -> Markup {
    let rows = || groups.iter().flat_map(|g| &g.rows);
    let (all, without) = (rows().count(), rows().filter(|r| !r.ranked).count());
    html! { @if without > 0 {
        p {
            (without) " of " (all) " cells have no valid trial: the tables show them in parentheses, \
            the plots leave them out, and no ratio uses them."
        }
    } }
}
