//! Named classes of requests: each with its own requests, losses, times and bound, so that a few
//! heavy requests can be seen to hurt the many light ones.

use super::csv;
use super::layout::{Columns, Section, percentile};
use super::slo::{Judgement, judge};
use super::summary::{QUANTILES, in_order, shown_of};
use crate::format::{Ledger, TrialRecord};
use crate::plan::search::bounds;
use crate::plan::{Cell, RequestTemplate, classes};
use crate::results::store::PlanJson;
use crate::stats::hdr::{self, Percentile, gave_up_ns};
use crate::units::{format_count, format_ns, format_share};

/// A class in a cell.
struct ClassRow<'r> {
    cell: &'r Cell,
    class: &'r str,
    trials: usize,
    ranked: bool,
    ledger: Ledger,
    /// Those of [`QUANTILES`], over all planned requests.
    times: Vec<Option<Percentile>>,
    bound_ns: Option<u64>,
    judgement: Option<Judgement>,
}

/// The requests of a run directory's plan.
pub(crate) fn mix_of(plan: &PlanJson) -> Vec<RequestTemplate> {
    plan.sweep().map_or(vec![], |sweep| sweep.plan.mix)
}

/// One row for each class of each cell, with the bounds of the mix.
fn rows<'r>(mix: &[RequestTemplate], records: &'r [TrialRecord]) -> Vec<ClassRow<'r>> {
    let classes = classes(mix);
    let judged = judge(&bounds(None, mix), records);
    let cells = in_order(records.iter().filter(|r| !r.classes.is_empty() && !r.cell.is_memory()));
    let mut rows = Vec::new();
    for (_, trials) in cells {
        let (ranked, counted) = shown_of(trials);
        for class in counted[0].classes.keys() {
            let mut row = row(class, &counted, ranked);
            row.bound_ns = classes.iter().find(|(name, _)| name == class).and_then(|(_, ns)| *ns);
            let of_row = judged
                .iter()
                .find(|j| j.cell == row.cell.id && j.bound.class.as_deref() == Some(row.class));
            row.judgement = of_row.map(|j| j.judgement.clone());
            rows.push(row);
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
    let at = |i: usize| {
        move |r: &ClassRow<'_>| match (r.percentile(i), r.ranked) {
            (text, true) => text,
            (text, false) => format!("({text})"),
        }
    };
    let mut table = Columns::of(&rows);
    table.text("cell", |r| r.cell.id.clone());
    table.text("class", |r| r.class.into());
    table.number("requests", |r| format_count(r.ledger.planned));
    table.number("lost", |r| format_count(r.ledger.planned - r.ledger.completed));
    table.number("p50", at(0));
    table.number("p99", at(2));
    if rows.iter().any(|r| r.bound_ns.is_some()) {
        let allowed = |r: &ClassRow<'_>| r.bound_ns.map(|ns| format_ns(ns as f64));
        table.number("p99\nallowed", |r| allowed(r).unwrap_or("-".into()));
        table.text("SLO", ClassRow::judged);
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
        for ((name, _), at) in QUANTILES.iter().zip(&row.times) {
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
    let at = |(_, q): &(&str, f64)| {
        let times = merged.as_ref()?;
        hdr::percentile(times, ledger.planned, *q, gave_up_ns(times, ledger.timed_out))
    };
    ClassRow {
        cell: &trials[0].cell,
        class,
        trials: trials.len(),
        ranked,
        ledger,
        times: QUANTILES.iter().map(at).collect(),
        bound_ns: None,
        judgement: None,
    }
}

impl ClassRow<'_> {
    /// The percentile, or what was lost where that leaves it without a number.
    fn percentile(&self, i: usize) -> String {
        let Ledger { planned, completed, .. } = self.ledger;
        let lost = (planned - completed) as f64 / planned.max(1) as f64;
        match lost > 1.0 - QUANTILES[i].1 + 1e-12 {
            true => format!("lost {}", format_share(lost)),
            false => percentile(self.times[i]),
        }
    }

    fn judged(&self) -> String {
        self.judgement.as_ref().map_or("-".into(), Judgement::to_string)
    }
}
