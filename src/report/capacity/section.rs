//! A plan as tables, for the reports and the terminal.

use super::text::of_class;
use super::{EnginePlan, Need, Plan, req_s, text_of};
use crate::report::layout::{Columns, Section, clean};
use crate::units::format_ns;

/// An engine that has an answer.
pub(in crate::report) type Answered<'a> = (&'a EnginePlan, &'a Need);

impl Plan {
    /// Every table of the plan; what it assumes is for the caller to show.
    pub fn sections(&self) -> Vec<Section> {
        self.around(self.needs().into_iter().collect())
    }

    /// The same for a terminal: what stands behind each answer is a line each.
    pub(super) fn in_lines(&self) -> Vec<Section> {
        let lines = |(engine, need): Answered<'_>| {
            let lines = need.lines(&self.question, self.is_service);
            let notes = lines.iter().map(|line| format!("  {line}")).collect();
            Section { heading: clean(&engine.words()), columns: vec![], notes }
        };
        self.around(self.answered().into_iter().map(lines).collect())
    }

    /// The answers above, the measured curve, budgets and what if below.
    fn around(&self, behind: Vec<Section>) -> Vec<Section> {
        let below = [self.curve(), self.budgets(), self.what_if_section(), self.proof_section()];
        let decision = Some(self.decision()).filter(|_| !self.engines.is_empty());
        decision.into_iter().chain(behind).chain(below.into_iter().flatten()).collect()
    }

    pub(in crate::report) fn answered(&self) -> Vec<Answered<'_>> {
        self.engines.iter().filter_map(|e| Some((e, e.answer.as_ref().ok()?))).collect()
    }

    /// Hosts, limits and money, one row per engine, with every refusal below.
    fn decision(&self) -> Section {
        let q = &self.question;
        let mut heading = format!("{} on hosts of ", req_s(q.rate_per_s));
        let types: Vec<&str> = self.engines.iter().map(|e| e.host.as_str()).collect();
        match types.iter().any(|name| *name != q.host.name) {
            true => heading.push_str("several types"),
            false => heading.push_str(&q.host.words()),
        }
        if let Some(p99) = q.p99_ns {
            heading.push_str(&format!(", p99 ≤ {}{}", format_ns(p99 as f64), of_class(q)));
        }
        let notes = self.engines.iter().filter_map(|e| {
            let refusal = e.answer.as_ref().err()?;
            let (why, next) = (&refusal.why, &refusal.measure_next);
            Some(format!("{}: no answer: {why}; measure next: {next}", e.words()))
        });
        let notes = notes.collect();
        let answered = self.answered();
        if answered.is_empty() {
            return Section { heading, columns: vec![], notes };
        }
        let is_bound = q.p99_ns.is_some();
        let mut table = Columns::of(&answered);
        table.text("engine", |(e, _)| e.words());
        table.number("hosts\ntoday", text("hosts_today"));
        if q.growth_per_year != 0.0 {
            table.number("hosts\ngrown", text("hosts_grown"));
        }
        if q.spare > 0 {
            table.number("with\nspare", text("hosts"));
        }
        table.text("first limit", |(_, n)| n.first_limit(is_bound));
        table.number("used", |(_, n)| used(n, 0));
        table.text("next limit", |(_, n)| Some(n.resources.get(1)?.name.clone()));
        table.number("used", |(_, n)| used(n, 1));
        if answered.iter().any(|(_, n)| n.reached().is_some()) {
            table.text("today's hosts\nare used up", |(_, n)| n.reached());
        }
        if answered.iter().any(|(_, n)| n.cost.is_some()) {
            table.number("per month", text("total_cents"));
            table.number("per million\nrequests", text("cents_per_million"));
        }
        let mut objectives: Vec<&str> = vec![];
        for (i, budget) in answered.iter().flat_map(|(_, n)| n.budgets.iter().enumerate()) {
            if !objectives.contains(&budget.objective.as_str()) {
                objectives.push(&budget.objective);
                table.number(format!("{}\nbudget left", budget.objective), |(_, n)| {
                    n.budgets.get(i).map(super::Budget::words)
                });
            }
        }
        table.section(heading, notes)
    }

    fn needs(&self) -> Option<Section> {
        let answered = self.answered();
        let lanes = if self.is_service { "connections" } else { "lanes" };
        let reach = match self.question.p99_ns {
            Some(_) => "tested up to\nper host",
            None => "planned up to\nper host",
        };
        let mut table = Columns::some(&answered)?;
        table.text("engine", |(e, _)| e.words());
        table.number("in flight", text("in_flight"));
        table.number(lanes, text("lanes"));
        table.number("memory\nuser", text("user_bytes"));
        table.number("memory\nkernel", text("kernel_bytes"));
        table.number("CPUs\nbusy", text("cpus_busy"));
        table.number("CPU\nper request", text("cpu_per_request_ns"));
        table.number("descriptors", text("descriptors"));
        if !self.is_service {
            table.number("ports", text("ports"));
        }
        table.number("threads", text("threads"));
        table.number(reach, text("tested_to_per_s"));
        table.text("cell", |(_, n)| n.from("tested_to_per_s").join(" "));
        Some(table.section("What today's hosts hold", vec![]))
    }

    /// The measured cells by rate, and the planned point among them.
    fn curve(&self) -> Option<Section> {
        let answered = self.answered();
        // Types of hosts share what was measured, and differ in where the plan stands.
        let first = answered.first().map_or("", |(e, _)| e.host.as_str());
        let rows: Vec<(String, &super::CurvePoint)> = answered
            .iter()
            .flat_map(|(e, n)| n.curve.iter().map(move |p| (*e, p)))
            .filter(|(e, p)| e.host == first || p.cell.is_none())
            .map(|(e, p)| (if p.cell.is_none() { e.words() } else { e.name.clone() }, p))
            .collect();
        let text = |name: &'static str| {
            move |(_, p): &(String, &super::CurvePoint)| text_of(&p.figures, name).to_string()
        };
        let group = if self.is_service { "rate of\na server" } else { "rate of a\nworker group" };
        let mut table = Columns::some(&rows)?;
        table.text("engine", |(name, _)| name.clone());
        table.number(group, text("rate_per_s"));
        table.number("p99", text("p99_ns"));
        table.number("CPU\nper request", text("cpu_per_request_ns"));
        table.number("mean\ntime", text("latency_ns"));
        table.text("cell", |(_, p)| p.cell.clone().unwrap_or_else(|| "► planned".into()));
        let notes = vec!["p99 of all requests of a cell, the others medians over its trials; in brackets the interval at 95 % confidence, where there are trials enough".into()];
        Some(table.section("The measured curve, and where the plan stands on it", notes))
    }

    fn budgets(&self) -> Option<Section> {
        let answered = self.answered();
        let rows: Vec<(String, &super::Budget)> =
            answered.iter().flat_map(|(e, n)| n.budgets.iter().map(|b| (e.words(), b))).collect();
        let text = |name: &'static str| {
            move |(_, b): &(String, &super::Budget)| text_of(&b.figures, name).to_string()
        };
        let mut table = Columns::some(&rows)?;
        table.text("engine", |(name, _)| name.clone());
        table.text("objective", |(_, b)| b.objective.clone());
        table.number("bad requests\nmeasured", text("bad"));
        table.number("share\nat most", text("at_most"));
        table.number("budget\ntime", text("budget_minutes"));
        table.number("budget\nrequests", text("budget_requests"));
        table.number("left", |(_, b)| b.words());
        table.number("left\ntime", text("left_minutes"));
        table.number("left\nrequests", text("left_requests"));
        let mut notes = vec!["by the worse of the two cells beside the planned rate; failed, timed-out and unsent requests are bad".to_string()];
        if rows.iter().any(|(_, b)| b.is_open()) {
            notes.push("`cannot be told`: too few requests were measured to tell whether the budget is kept; measure longer".into());
        }
        Some(table.section("Error budget over 28 days at the planned rate", notes))
    }
}

fn text(name: &'static str) -> impl Fn(&Answered<'_>) -> String {
    move |(_, need)| need.text_of(name).to_string()
}

fn used(need: &Need, at: usize) -> Option<String> {
    let name = format!("used: {}", need.resources.get(at)?.name);
    Some(need.text_of(&name).to_string())
}

impl EnginePlan {
    pub(super) fn words(&self) -> String {
        match self.host.is_empty() {
            true => self.name.clone(),
            false => format!("{} on {}", self.name, self.host),
        }
    }
}

impl super::Budget {
    /// Whether the measurement leaves open whether the budget is kept.
    fn is_open(&self) -> bool {
        self.left >= 0.0 && self.left_at_least < 0.0
    }

    fn words(&self) -> String {
        let text = |name: &str| text_of(&self.figures, name);
        match () {
            () if self.is_open() => "cannot be told".into(),
            () if self.left < 0.0 => format!("overspent ({})", text("left")),
            () => format!("{} (at least {})", text("left"), text("left_at_least")),
        }
    }
}
