//! Named classes of requests: each with its own requests, losses, times and bound, so that a few
//! heavy requests can be seen to hurt the many light ones.

use std::collections::BTreeMap;

use super::layout::{Column, percentile};
use super::memory::Section;
use super::summary::{for_levels, is_valid};
use crate::format::TrialRecord;
use crate::plan::RequestTemplate;
use crate::plan::sweep::Sweep;
use crate::results::store::PlanJson;
use crate::stats::hdr::{self, gave_up_ns};
use crate::units::{format_count, format_ns, format_share};

/// One row of the table: a class in a cell.
struct Row {
    cell: String,
    class: String,
    planned: u64,
    lost: u64,
    p50: String,
    p99: String,
    /// Its p99, where it has one.
    p99_ns: Option<u64>,
    bound_ns: Option<u64>,
    ranked: bool,
}

/// The table of a run directory.
pub(crate) fn section_of(plan: &PlanJson, records: &[TrialRecord]) -> Option<Section> {
    let sweep: Option<Sweep> = serde_json::from_value(plan.config.clone()).ok();
    section(sweep.as_ref().map_or(&[], |sweep| &sweep.plan.mix), records)
}

/// One row for each class of each cell, with the bounds of the mix; `None` where no request has a
/// name.
pub fn section(mix: &[RequestTemplate], records: &[TrialRecord]) -> Option<Section> {
    let bound = |name: &str| mix.iter().find(|t| t.name.as_deref() == Some(name))?.p99_ns;
    let mut cells: BTreeMap<&str, Vec<&TrialRecord>> = BTreeMap::new();
    for record in records.iter().filter(|r| !r.classes.is_empty() && !r.cell.is_memory()) {
        cells.entry(&record.cell.id).or_default().push(record);
    }
    let mut rows = Vec::new();
    for (cell, trials) in cells {
        let valid: Vec<&TrialRecord> = trials.iter().copied().filter(|r| is_valid(r)).collect();
        let (ranked, counted) = match valid.is_empty() {
            true => (false, trials),
            false => (true, for_levels(&valid)),
        };
        for class in counted.first()?.classes.keys() {
            rows.push(row(cell, class, &counted, ranked, bound(class)));
        }
    }
    if rows.is_empty() {
        return None;
    }
    let column = |title: &str, number, of: &dyn Fn(&Row) -> String| Column {
        title: title.into(),
        number,
        cells: rows.iter().map(of).collect(),
    };
    let mark = |r: &Row, text: &str| if r.ranked { text.into() } else { format!("({text})") };
    let mut columns = vec![
        column("cell", false, &|r| r.cell.clone()),
        column("class", false, &|r| r.class.clone()),
        column("requests", true, &|r| format_count(r.planned)),
        column("lost", true, &|r| format_count(r.lost)),
        column("p50", true, &|r| mark(r, &r.p50)),
        column("p99", true, &|r| mark(r, &r.p99)),
    ];
    if rows.iter().any(|r| r.bound_ns.is_some()) {
        columns.push(column("p99\nallowed", true, &|r| {
            r.bound_ns.map_or("-".into(), |ns| format_ns(ns as f64))
        }));
        columns.push(column("SLO", false, &|r| r.verdict().into()));
    }
    let note = "response times, in a closed loop service times, of all valid trials together";
    Some(Section { heading: "Classes of requests".into(), columns, notes: vec![note.into()] })
}

fn row(
    cell: &str,
    class: &str,
    trials: &[&TrialRecord],
    ranked: bool,
    bound_ns: Option<u64>,
) -> Row {
    let uses = || trials.iter().filter_map(|t| t.classes.get(class));
    let sum = |of: &dyn Fn(&crate::format::Ledger) -> u64| uses().map(|u| of(&u.ledger)).sum();
    let (planned, completed): (u64, u64) = (sum(&|l| l.planned), sum(&|l| l.completed));
    let lost = planned - completed;
    let timed_out: u64 = sum(&|l| l.timed_out);
    let merged = hdr::merge(trials.iter().copied(), |t| t.classes.get(class)?.times_ns.as_ref());
    let merged = merged.ok().flatten();
    let at = |q: f64| {
        let times = merged.as_ref()?;
        hdr::percentile(times, planned, q, gave_up_ns(times, timed_out))
    };
    let text = |q: f64| {
        let share = lost as f64 / planned.max(1) as f64;
        match share > 1.0 - q + 1e-12 {
            true => format!("lost {}", format_share(share)),
            false => percentile(at(q)),
        }
    };
    Row {
        cell: cell.into(),
        class: class.into(),
        planned,
        lost,
        p50: text(0.5),
        p99: text(0.99),
        p99_ns: at(0.99).map(|p99| p99.ns),
        bound_ns,
        ranked,
    }
}

impl Row {
    fn verdict(&self) -> &'static str {
        match (self.bound_ns, self.p99_ns) {
            (None, _) => "-",
            _ if !self.ranked => "cannot be judged",
            (Some(_), _) if self.lost * 100 > self.planned => "missed",
            (Some(bound), Some(ns)) if ns <= bound => "met",
            (Some(_), Some(_)) => "missed",
            (Some(_), None) => "cannot be judged",
        }
    }
}
