//! The same question under other rates, growths and utilisations, one row for each engine.

use serde::Serialize;

use super::hosts::format_money;
use super::{EnginePlan, Plan, Question, req_s};
use crate::report::csv::Fields;
use crate::report::layout::{Columns, Section};
use crate::units::{format_count, format_ns, format_share};

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WhatIf {
    pub rate_per_s: f64,
    pub growth_per_year: f64,
    /// Share of CPU that is planned for.
    pub cpu_target: f64,
    /// Type of hosts; empty where it was given by flags.
    pub host: String,
    /// Engine, and what else tells it apart.
    pub engine: String,
    /// Hosts with growth and spare; `None` where the data do not reach.
    pub hosts: Option<u64>,
    /// What they cost in a month, in whole cents.
    pub month_cents: Option<u64>,
    /// Three letters, where there is a price.
    pub currency: Option<String>,
    pub why: Option<String>,
    pub from: Vec<String>,
    /// The class of requests that the bound is about; `None` for all requests.
    pub class: Option<String>,
    pub p99_ns: Option<u64>,
}

pub(super) fn rows(q: &Question, engines: &[EnginePlan]) -> Vec<WhatIf> {
    let one = |engine: &EnginePlan| {
        let need = engine.answer.as_ref().ok();
        let cost = need.and_then(|need| need.cost.as_ref());
        WhatIf {
            rate_per_s: q.rate_per_s,
            growth_per_year: q.growth_per_year,
            cpu_target: q.cpu_target,
            host: engine.host.clone(),
            engine: engine.name.clone(),
            hosts: need.map(|need| need.hosts_with_spare),
            month_cents: cost.map(|cost| cost.total_cents),
            currency: cost.map(|cost| cost.currency.clone()),
            why: engine.answer.as_ref().err().map(|refusal| refusal.why.clone()),
            from: need.map_or(vec![], |need| need.from("hosts").to_vec()),
            class: q.class.clone(),
            p99_ns: q.p99_ns,
        }
    };
    engines.iter().map(one).collect()
}

impl Plan {
    /// The what-if table; `None` where one rate, growth and utilisation was asked.
    pub(super) fn what_if_section(&self) -> Option<Section> {
        let rows = &self.what_if;
        let mut table = Columns::some(rows)?;
        table.text("engine", |r| r.engine.clone());
        table.number("rate", |r| req_s(r.rate_per_s));
        table.number("growth\nper year", |r| format_share(r.growth_per_year));
        table.number("CPU\nplanned", |r| format_share(r.cpu_target));
        let by_class = rows.iter().any(|r| r.class != self.question.class);
        if by_class {
            table.text("requests", |r| r.class.clone().unwrap_or("all".into()));
            table.number("p99\nallowed", |r| r.p99_ns.map(|ns| format_ns(ns as f64)));
        }
        if rows.iter().any(|r| !r.host.is_empty()) {
            table.text("host", |r| r.host.clone());
        }
        table.number("hosts", |r| r.hosts.map(format_count));
        if rows.iter().any(|r| r.month_cents.is_some()) {
            table.number("per month", |r| {
                Some(format_money(r.month_cents?, r.currency.as_deref()?))
            });
        }
        let mut notes: Vec<String> = Vec::new();
        for row in rows {
            if let Some(why) = &row.why {
                let class = row.class.as_ref().map_or(String::new(), |name| format!(", {name}"));
                let rate = req_s(row.rate_per_s);
                let note = format!("{} at {rate}{class}: no answer: {why}", row.engine);
                if !notes.contains(&note) {
                    notes.push(note);
                }
            }
        }
        let heading = if by_class { "what if, and by class of requests" } else { "what if" };
        Some(table.section(heading, notes))
    }

    /// The what-if table, or the plan alone, for a spreadsheet.
    pub fn csv(&self) -> String {
        let own = match self.what_if.is_empty() {
            true => rows(&self.question, &self.engines),
            false => vec![],
        };
        let mut out = String::new();
        for r in own.iter().chain(&self.what_if) {
            let mut fields = Fields::default();
            fields.put("engine", &r.engine);
            fields.put("host", &r.host);
            fields.put("rate_per_s", r.rate_per_s);
            fields.put("growth_per_year", r.growth_per_year);
            fields.put("cpu_target", r.cpu_target);
            fields.maybe("hosts", r.hosts);
            fields.maybe("month_cents", r.month_cents);
            fields.maybe("currency", r.currency.as_ref());
            fields.maybe("why", r.why.as_ref());
            fields.put("from", r.from.join(" "));
            fields.maybe("class", r.class.as_ref());
            fields.maybe("p99_ns", r.p99_ns);
            fields.push_to(&mut out);
        }
        out
    }
}
