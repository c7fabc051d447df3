//! Steps and the heartbeat of cells that have them, as a table of their own.

use super::layout::Section;
use super::layout::{Column, percentile};
use super::summary::{in_order, shown_of};
use crate::format::{Distribution, TrialRecord};
use crate::stats::hdr;

type Field = fn(&TrialRecord) -> Option<&Distribution>;

/// What may stand in a column.
const FIELDS: [(&str, Field); 4] = [
    ("http", |r| r.steps.http_ns.as_ref()),
    ("file", |r| r.steps.file_ns.as_ref()),
    ("compute", |r| r.steps.compute_ns.as_ref()),
    ("heartbeat late", |r| r.heartbeat_ns.as_ref()),
];

/// One row per cell; `None` where no cell has steps or a heartbeat.
pub fn section(records: &[TrialRecord]) -> Option<Section> {
    let has_any = |r: &&TrialRecord| FIELDS.iter().any(|(_, of)| of(r).is_some());
    let cells = in_order(records.iter().filter(|r| !r.cell.is_memory()).filter(has_any));
    let (ids, mut cells): (Vec<&str>, Vec<Vec<&TrialRecord>>) = cells.into_iter().unzip();
    if cells.is_empty() {
        return None;
    }
    // As in the tables above: valid trials, or else what there is, in brackets.
    let mut ranked = Vec::new();
    for trials in &mut cells {
        let (is_ranked, shown) = shown_of(std::mem::take(trials));
        ranked.push(is_ranked);
        *trials = shown;
    }
    let names = ids.iter().zip(&ranked);
    let mark = |ranked: bool, text: String| if ranked { text } else { format!("({text})") };
    let mut columns = vec![Column {
        title: "cell".into(),
        number: false,
        cells: names.map(|(name, _)| (*name).to_string()).collect(),
    }];
    for (title, of) in FIELDS {
        if cells.iter().flatten().all(|r| of(r).is_none()) {
            continue;
        }
        let one = |trials: &[&TrialRecord], q: f64| match hdr::merge(trials.iter().copied(), of) {
            Ok(Some(times)) => percentile(hdr::percentile(&times, 0, q, None)),
            _ => "-".into(),
        };
        for (name, q) in [("p50", 0.5), ("p99", 0.99)] {
            let rows = cells.iter().zip(&ranked);
            columns.push(Column {
                title: format!("{title} {name}"),
                number: true,
                cells: rows.map(|(trials, ranked)| mark(*ranked, one(trials, q))).collect(),
            });
        }
    }
    let hidden = |trials: &[&TrialRecord]| {
        let of = |r: &&TrialRecord| r.runtime.map_or(0, |u| u.blocking_threads + u.pool_threads);
        trials.iter().map(of).max().unwrap_or(0)
    };
    if cells.iter().any(|trials| hidden(trials) > 0) {
        columns.push(Column {
            title: "hidden threads".into(),
            number: true,
            cells: cells.iter().map(|trials| hidden(trials).to_string()).collect(),
        });
    }
    let note = "a step's time is what its request waited for it; hidden threads are those that \
                steps were offloaded to";
    Some(Section { heading: "Steps and heartbeat".into(), columns, notes: vec![note.into()] })
}
