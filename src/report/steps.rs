//! Steps and the heartbeat of cells that have them, as a table of their own.

use super::layout::{Columns, Section, of_trials};
use super::summary::shown_cells;
use crate::format::{Distribution, TrialRecord};
use crate::stats::hdr;

type Field = fn(&TrialRecord) -> Option<&Distribution>;

const FIELDS: [(&str, Field); 4] = [
    ("http", |r| r.steps.http_ns.as_ref()),
    ("file", |r| r.steps.file_ns.as_ref()),
    ("compute", |r| r.steps.compute_ns.as_ref()),
    ("heartbeat late", |r| r.heartbeat_ns.as_ref()),
];

/// One row per cell; `None` where no cell has steps or a heartbeat.
pub fn section(records: &[TrialRecord]) -> Option<Section> {
    let cells = shown_cells(records, |r| FIELDS.iter().any(|(_, of)| of(r).is_some()));
    let mut table = Columns::some(&cells)?;
    table.text("cell", |(_, trials)| trials[0].cell.id.clone());
    for (title, of) in FIELDS {
        if cells.iter().flat_map(|(_, trials)| trials).all(|r| of(r).is_none()) {
            continue;
        }
        for (name, q) in [("p50", 0.5), ("p99", 0.99)] {
            table.number(format!("{title} {name}"), |(ranked, trials)| {
                let times = hdr::merge(trials.iter().copied(), of).ok().flatten();
                Some(of_trials(*ranked, hdr::percentile(&times?, 0, q, None)?.to_string()))
            });
        }
    }
    let hidden = |(_, trials): &(bool, Vec<&TrialRecord>)| {
        let of = |r: &&TrialRecord| r.runtime.map_or(0, |u| u.blocking_threads + u.pool_threads);
        trials.iter().map(of).max().unwrap_or(0)
    };
    if cells.iter().any(|cell| hidden(cell) > 0) {
        table.number("hidden threads", |cell| hidden(cell).to_string());
    }
    let note = "a step's time is what its request waited for it; hidden threads are those that \
                steps were offloaded to";
    Some(table.section("Steps and heartbeat", vec![note.into()]))
}
