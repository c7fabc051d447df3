//! What may not be believed, and what did not run at all.

use std::collections::BTreeMap;

use maud::{Markup, html};

use super::{paragraph, rich};
use crate::format::TrialRecord;
use crate::report::gates::meaning;
use crate::report::summary::{Group, Row};
use crate::report::{layout, memory};
use crate::units::plural;

const MOST_CELLS: usize = 40;

/// Gates that failed, each with its cells; then cells that have no valid trial, and the errors.
pub(super) fn gates(records: &[TrialRecord], groups: &[Group]) -> Markup {
    if records.is_empty() {
        return paragraph("No trials yet.");
    }
    // Hard ones first; each with the number of trials, and what was seen in each cell.
    let mut failed: BTreeMap<(bool, &str), (usize, Vec<String>)> = BTreeMap::new();
    let mut errors: Vec<(&str, String)> = Vec::new();
    let rows: Vec<&Row> = groups.iter().flat_map(|g| &g.rows).collect();
    for row in &rows {
        let blocks = row.tally.blocks;
        for (name, gate) in &row.failed_gates {
            let all = failed.entry((!gate.hard, name)).or_default();
            all.0 += gate.trials;
            all.1.push(format!("{}: {}", row.cell.id, layout::gate_seen(name, gate, blocks)));
        }
        for (error, trials) in &row.errors {
            errors.push((&row.cell.id, format!("{trials} of {blocks} trials: {error}")));
        }
    }
    let split = memory::cells(records);
    for cell in &split {
        errors.extend(cell.errors.iter().map(|e| (cell.cell.id.as_str(), e.to_string())));
    }
    let trials = plural(rows.iter().map(|r| r.tally.blocks as u64).sum(), "trial");
    let cells = plural(rows.len() as u64, "cell");
    let unranked = rows.iter().filter(|r| !r.ranked).count();
    html! {
        @if failed.is_empty() && errors.is_empty() {
            p { "None: every check of every trial held." }
        } @else if failed.is_empty() {
            p { "No check failed in a trial that ran to its end." }
        }
        @for ((soft, name), (n, seen)) in &failed {
            details.bad {
                summary {
                    @match meaning(name) {
                        Some(what) => { (what) " (" code { (name) } ")" }
                        None => code { (name) },
                    }
                    ": " (n) " of " (trials) ", in " (seen.len()) " of " (cells) " · "
                    @if *soft { "noise: levels are marked, intervals wider" }
                    @else { "hard check: result invalid" }
                }
                ul {
                    @for cell in seen.iter().take(MOST_CELLS) { li { (cell) } }
                    @if seen.len() > MOST_CELLS { li { "… and " (seen.len() - MOST_CELLS) " more cells" } }
                }
            }
        }
        @if !errors.is_empty() {
            h3 { "Trials that failed" }
            ul.bad { @for (id, error) in &errors { li { code { (id) } ": " (rich(error)) } } }
        }
        // So that nobody looks for them in the plots.
        @if unranked > 0 {
            p {
                (unranked) " of " (rows.len()) " cells have no valid trial: the tables show them in parentheses, \
                the plots leave them out, and no ratio uses them."
            }
        }
    }
}
