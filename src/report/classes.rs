//! Named classes of requests: each with its own requests, losses, times and bound, so that a few
//! heavy requests can be seen to hurt the many light ones.

use std::collections::BTreeSet;

use super::csv::Fields;
use super::layout::{Columns, Section, of_trials, quantile};
use super::slo::{Judgement, SloRow, judge};
use super::summary::{Percentiles, QUANTILES, shown_cells};
use crate::format::{Ledger, TrialRecord};
use crate::plan::search::bounds;
use crate::plan::{Cell, RequestTemplate, classes};
use crate::stats::hdr::{self, gave_up_ns};
use crate::units::{format_count, format_ns};

struct ClassRow<'r> {
    cell: &'r Cell,
    class: &'r str,
    trials: usize,
    ranked: bool,
    ledger: Ledger,
    times: Percentiles,
    bound_ns: Option<u64>,
    judgement: Option<Judgement>,
}

/// One row for each class of each cell, with the bounds of the mix.
fn rows<'r>(mix: &[RequestTemplate], records: &'r [TrialRecord]) -> Vec<ClassRow<'r>> {
    let bounds_ns = classes(mix);
    let judged = judge(&bounds(None, mix), records);
    let mut rows = Vec::new();
    for (ranked, trials) in shown_cells(records, |r| !r.classes.is_empty()) {
        let cell = &trials[0].cell;
        let names: BTreeSet<&String> = trials.iter().flat_map(|t| t.classes.keys()).collect();
        for class in names {
            let parts = || trials.iter().filter_map(|t| t.classes.get(class));
            let mut ledger = Ledger::default();
            parts().for_each(|of| ledger += &of.ledger);
            let times =
                hdr::merge(trials.iter().copied(), |t| t.classes.get(class)?.times_ns.as_ref());
            let times = times.ok().flatten();
            let given_up = times.as_ref().and_then(|times| gave_up_ns(times, ledger.timed_out));
            let is_own =
                |j: &&SloRow| j.cell == cell.id && j.bound.class.as_deref() == Some(class.as_str());
            rows.push(ClassRow {
                cell,
                class,
                trials: trials.len(),
                ranked,
                ledger,
                times: Percentiles::of(times.as_ref(), Some(&ledger), given_up),
                bound_ns: bounds_ns.iter().find(|(name, _)| name == class).and_then(|(_, ns)| *ns),
                judgement: judged.iter().find(is_own).map(|j| j.judgement.clone()),
            });
        }
    }
    rows
}

/// The table; `None` where no request has a name.
pub fn section(mix: &[RequestTemplate], records: &[TrialRecord]) -> Option<Section> {
    let rows = rows(mix, records);
    let at = |q: f64| move |r: &ClassRow<'_>| Some(of_trials(r.ranked, quantile(&r.times, q)?));
    let mut table = Columns::some(&rows)?;
    table.text("cell", |r| r.cell.id.clone());
    table.text("class", |r| r.class.to_string());
    table.number("requests", |r| format_count(r.ledger.planned));
    table.number("lost", |r| format_count(r.ledger.lost()));
    table.number("p50", at(0.5));
    table.number("p99", at(0.99));
    if rows.iter().any(|r| r.bound_ns.is_some()) {
        table.number("p99\nallowed", |r| r.bound_ns.map(|ns| format_ns(ns as f64)));
        table.text("SLO", |r| r.judgement.as_ref().map(Judgement::to_string));
    }
    let note = "response times, in a closed loop service times, of all valid trials together";
    Some(table.section("Classes of requests", vec![note.into()]))
}

/// `classes.csv`: one row for each class of each cell; `None` where no request has a name.
pub(crate) fn csv(mix: &[RequestTemplate], records: &[TrialRecord]) -> Option<String> {
    let mut out = String::new();
    for row in rows(mix, records) {
        let mut fields = Fields::of(row.cell);
        fields.put("class", row.class);
        fields.put("trials", row.trials);
        fields.put("ranked", row.ranked);
        fields.ledger(Some(&row.ledger));
        for ((name, _), at) in QUANTILES.iter().zip(row.times.all()) {
            fields.maybe(format!("latency_{name}_ns"), at.map(|p| p.ns));
        }
        fields.maybe("allowed_p99_ns", row.bound_ns);
        fields.maybe("slo", row.judgement);
        fields.push_to(&mut out);
    }
    (!out.is_empty()).then_some(out)
}
