//! Named classes of requests: each with its own requests, losses, times and bound, so that a few
//! heavy requests can be seen to hurt the many light ones.

use super::csv;
use std::collections::BTreeSet;

use super::layout::{Columns, Section, quantile};
use super::slo::{Judgement, judge};
use super::summary::{Percentiles, QUANTILES, shown_cells};
use crate::format::{Ledger, TrialRecord};
use crate::plan::search::bounds;
use crate::plan::{Cell, RequestTemplate, classes};
use crate::results::store::PlanJson;
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

pub(crate) fn mix_of(plan: &PlanJson) -> Vec<RequestTemplate> {
    plan.sweep().map_or(vec![], |sweep| sweep.plan.mix)
}

/// One row for each class of each cell, with the bounds of the mix.
fn rows<'r>(mix: &[RequestTemplate], records: &'r [TrialRecord]) -> Vec<ClassRow<'r>> {
    let classes = classes(mix);
    let judged = judge(&bounds(None, mix), records);
    let mut rows = Vec::new();
    for (ranked, trials) in shown_cells(records, |r| !r.classes.is_empty()) {
        let names: BTreeSet<&String> = trials.iter().flat_map(|t| t.classes.keys()).collect();
        for class in names {
            let bound_ns = classes.iter().find(|(name, _)| name == class).and_then(|(_, ns)| *ns);
            let of_row = judged.iter().find(|j| {
                j.cell == trials[0].cell.id && j.bound.class.as_deref() == Some(class.as_str())
            });
            let judgement = of_row.map(|j| j.judgement.clone());
            rows.push(ClassRow { bound_ns, judgement, ..row(class, &trials, ranked) });
        }
    }
    rows
}

/// The table; `None` where no request has a name.
pub fn section(mix: &[RequestTemplate], records: &[TrialRecord]) -> Option<Section> {
    let rows = rows(mix, records);
    if rows.is_empty() {
        return None;
    }
    let at = |q: f64| {
        move |r: &ClassRow<'_>| match (quantile(&r.times, q), r.ranked) {
            (text, true) => text,
            (text, false) => format!("({text})"),
        }
    };
    let mut table = Columns::of(&rows);
    table.text("cell", |r| r.cell.id.clone());
    table.text("class", |r| r.class.into());
    table.number("requests", |r| format_count(r.ledger.planned));
    table.number("lost", |r| format_count(r.ledger.lost()));
    table.number("p50", at(0.5));
    table.number("p99", at(0.99));
    if rows.iter().any(|r| r.bound_ns.is_some()) {
        let allowed = |r: &ClassRow<'_>| r.bound_ns.map(|ns| format_ns(ns as f64));
        table.number("p99\nallowed", |r| allowed(r).unwrap_or("-".into()));
        table.text("SLO", |r| r.judgement.as_ref().map_or("-".into(), Judgement::to_string));
    }
    let note = "response times, in a closed loop service times, of all valid trials together";
    Some(table.section("Classes of requests", vec![note.into()]))
}

/// `classes.csv`: one row for each class of each cell; `None` where no request has a name.
pub(crate) fn csv(mix: &[RequestTemplate], records: &[TrialRecord]) -> Option<String> {
    let mut out = String::new();
    for row in rows(mix, records) {
        let mut fields = csv::axes(row.cell);
        fields.push(("class".into(), row.class.into()));
        fields.push(("trials".into(), row.trials.to_string()));
        fields.push(("ranked".into(), row.ranked.to_string()));
        csv::ledger(&mut fields, Some(&row.ledger));
        for ((name, _), at) in QUANTILES.iter().zip(row.times.all()) {
            fields.push((format!("latency_{name}_ns"), csv::integer(at.map(|p| p.ns))));
        }
        fields.push(("allowed_p99_ns".into(), csv::integer(row.bound_ns)));
        fields.push(("slo".into(), row.judgement.map_or(String::new(), |j| j.to_string())));
        csv::push_row(&mut out, &fields);
    }
    (!out.is_empty()).then_some(out)
}

fn row<'r>(class: &'r str, trials: &[&'r TrialRecord], ranked: bool) -> ClassRow<'r> {
    let mut ledger = Ledger::default();
    trials.iter().filter_map(|t| t.classes.get(class)).for_each(|of| ledger += &of.ledger);
    let merged = hdr::merge(trials.iter().copied(), |t| t.classes.get(class)?.times_ns.as_ref());
    let merged = merged.ok().flatten();
    let given_up = merged.as_ref().and_then(|times| gave_up_ns(times, ledger.timed_out));
    ClassRow {
        cell: &trials[0].cell,
        class,
        trials: trials.len(),
        ranked,
        ledger,
        times: Percentiles::of(merged.as_ref(), Some(&ledger), given_up),
        bound_ns: None,
        judgement: None,
    }
}
