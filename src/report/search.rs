//! What a search found: sentences, tables and JSON, all from the rows of the run.

use serde_json::{Value, json};

use super::layout::{Columns, Section, quantile, value};
use super::measures::Measure;
use super::summary::{Figures, Group};
use super::{table, verdict};
use crate::format::{Channel, TrialRecord};
use crate::plan::cell::names;
use crate::plan::search::{Bound, Search, probe};
use crate::plan::sweep::Sweep;
use crate::results::search::{
    Probe, ProbeAnswer, SearchOutcome, SearchProgress, Share, searches, shown,
};
use crate::units::format_rate;

/// The searches of a run, each with what tells it from the others.
pub(crate) struct Searched {
    search: Search,
    all: Vec<(String, SearchProgress)>,
}

/// The searches of a sweep; `None` where nothing is searched.
pub(crate) fn of(sweep: &Sweep, records: &[TrialRecord]) -> Option<Searched> {
    let search = sweep.search?;
    let all = searches(sweep, records);
    let names = names(&all.iter().map(|p| &p.cell).collect::<Vec<_>>(), &[]);
    let all = names.into_iter().zip(all).collect();
    Some(Searched { search, all })
}

/// Why a rate did not meet the SLO.
fn because(answer: &ProbeAnswer) -> String {
    match answer {
        ProbeAnswer::Met => "it met the SLO".into(),
        ProbeAnswer::Missed { bound } => format!("{bound} missed"),
        ProbeAnswer::Undecided => "undecided after the most trials".into(),
        ProbeAnswer::Generator { why } => {
            format!("the load generator was the limit: {why}; the target's own is not known")
        }
        ProbeAnswer::Unknown { why } => why.clone(),
    }
}

fn sentence(name: &str, slo: &str, outcome: &SearchOutcome) -> String {
    let rate = |r: &f64| format!("{} req/s", format_rate(*r));
    match outcome {
        SearchOutcome::Found { met_per_s, missed_per_s, because: why, undecided_per_s } => {
            let between: Vec<String> = undecided_per_s.iter().map(rate).collect();
            let between = match between.is_empty() {
                true => String::new(),
                false => format!("; undecided at {}", between.join(", ")),
            };
            let (met, missed, why) = (rate(met_per_s), rate(missed_per_s), because(why));
            format!("{name} meets {slo} up to {met}, and not at {missed} ({why}){between}.")
        }
        SearchOutcome::NeverMet { lowest_per_s, because: why } => {
            let (lowest, why) = (rate(lowest_per_s), because(why));
            format!("{name} does not meet {slo} even at the lowest rate, {lowest} ({why}).")
        }
        SearchOutcome::NeverMissed { highest_per_s } => format!(
            "{name} meets {slo} at the highest rate that may be tried, {}: its limit is \
             higher and was not found; raise search.max_rate.",
            rate(highest_per_s)
        ),
        SearchOutcome::OutOfProbes { met_per_s, missed_per_s, because: why } => {
            let met = met_per_s.as_ref().map_or("no rate".into(), rate);
            let missed = missed_per_s.as_ref().map_or("none is known to miss it".into(), |r| {
                let why = why.as_ref().map_or(String::new(), because);
                format!("not at {} ({why})", rate(r))
            });
            format!(
                "{name} met {slo} at {met}, and {missed}; the probes ran out before the knee was \
                 found: raise search.probes."
            )
        }
        SearchOutcome::Nothing { why, met_per_s, missed_per_s } => {
            let met = met_per_s.as_ref().map(|r| format!(" It met {slo} at {}.", rate(r)));
            let missed =
                missed_per_s.as_ref().map(|r| format!(" It did not meet {slo} at {}.", rate(r)));
            let known: String = met.into_iter().chain(missed).collect();
            format!("{name}: the highest rate is unknown, because {why}.{known}")
        }
    }
}

impl Searched {
    fn slo(&self) -> String {
        let first = self.all.first().map(|(_, p)| p.bounds()).unwrap_or_default();
        first.iter().map(|b| b.name.clone()).collect::<Vec<_>>().join(", ")
    }

    /// What is under test, where that is a question, and a sentence for each search.
    pub(crate) fn sentences(&self) -> Vec<String> {
        let slo = self.slo();
        let each = self.all.iter().map(|(name, p)| sentence(name, &slo, &p.outcome()));
        verdict::subject(self.all.iter().map(|(_, p)| &p.cell)).into_iter().chain(each).collect()
    }

    /// One row per search; figures come from `groups` at the highest rate that met the SLO.
    pub(crate) fn summary(&self, groups: &[Group]) -> Section {
        let at_met = |p: &SearchProgress| {
            let id = probe(&p.cell, p.outcome().met_per_s()?).id;
            let mut rows = groups.iter().flat_map(|g| &g.rows);
            rows.find(|r| r.cell.id == id)?.figures.as_ref()
        };
        let rate = |per_s: Option<f64>| per_s.map(format_rate);
        let tests_server = self.all.iter().all(|(_, p)| p.cell.tests_server());
        let mut table = Columns::of(&self.all);
        table.text(if tests_server { "server" } else { "engine" }, |(name, _)| name.clone());
        table.number("highest met\nreq/s", |(_, p)| rate(p.outcome().met_per_s()));
        table.number("lowest missed\nreq/s", |(_, p)| rate(p.outcome().missed_per_s()));
        table.text("limited by", |(_, p)| limit(&p.outcome()));
        table.number("closed loop\nreq/s", |(_, p)| rate(p.closed_per_s()));
        table.number("probes", |(_, p)| (p.probes.len() + 1).to_string());
        table.number("trials", |(_, p)| p.trials().to_string());
        let mut figure = |title: &str, of: &dyn Fn(&Figures) -> Option<String>| {
            table.number(title, |(_, p)| at_met(p).and_then(of));
        };
        figure("response p99\nat that rate", &|f| quantile(f.times(Channel::Response), 0.99));
        figure("CPU\nper request", &|f| value(f, Measure::CpuPerRequest));
        figure("memory\n÷ lanes", &|f| value(f, Measure::MemoryPerLane));
        let mut notes = self.sentences();
        notes.push(format!("Searched: {}.", self.search));
        table.section(format!("Highest rate that meets {}", self.slo()), notes)
    }

    /// One table per search, one row per probe, by rate.
    pub(crate) fn probes(&self) -> Vec<Section> {
        self.all.iter().map(|(name, p)| probes(name, p)).filter(|s| !s.columns.is_empty()).collect()
    }

    /// The summary for a terminal, below the tables of the sweep that followed the search.
    pub(crate) fn text(
        &self,
        name: &str,
        groups: &[Group],
        width: Option<u16>,
        colour: bool,
    ) -> String {
        let at_knee = groups.iter().filter(|group| group.cell.knee_share.is_some());
        let at_knee: Vec<Group> = at_knee.cloned().collect();
        table::render(name, &at_knee, &[self.summary(groups)], width, colour)
    }

    pub(crate) fn json(&self) -> Value {
        let beyond = |p: &Probe, of: &SearchProgress| -> Vec<Value> {
            let bound = |(i, b): (usize, &Bound)| json!({ "bound": b.name, "allowed": b.allowed, "share": share(p, i) });
            of.bounds().iter().enumerate().map(bound).collect()
        };
        let probe = |p: &Probe, of: &SearchProgress| {
            json!({
                "rate_per_s": p.rate_per_s, "trials": p.trials.len(), "trials_counted": counted(p),
                "result": p.answer, "beyond": beyond(p, of),
            })
        };
        let one = |(name, p): &(String, SearchProgress)| {
            let probes: Vec<Value> = p.probes.iter().map(|q| probe(q, p)).collect();
            json!({
                "name": name, "cell": p.cell, "closed_loop_per_s": p.closed_per_s(),
                "result": p.outcome(), "probes": probes,
            })
        };
        json!({
            "format_version": 1,
            "slo": self.all.first().map(|(_, p)| p.bounds()),
            "search": self.search,
            "engines": self.all.iter().map(one).collect::<Vec<_>>(),
        })
    }
}

/// What keeps the rate from being higher, in a few words.
fn limit(outcome: &SearchOutcome) -> Option<String> {
    let why = match outcome {
        SearchOutcome::Found { because, .. } | SearchOutcome::NeverMet { because, .. } => because,
        SearchOutcome::OutOfProbes { because, .. } => because.as_ref()?,
        SearchOutcome::NeverMissed { .. } => return Some("search.max_rate".into()),
        SearchOutcome::Nothing { .. } => return Some("unknown".into()),
    };
    match why {
        ProbeAnswer::Missed { bound } => Some(bound.clone()),
        ProbeAnswer::Undecided => Some("undecided".into()),
        ProbeAnswer::Generator { why } => Some(format!("load generator: {why}")),
        ProbeAnswer::Met | ProbeAnswer::Unknown { .. } => None,
    }
}

fn counted(probe: &Probe) -> usize {
    shown(&probe.trials).len()
}

/// Share of a bound's planned requests beyond it over the trials that count; `None` without any.
fn share(probe: &Probe, bound: usize) -> Option<f64> {
    let sum =
        |of: fn(&Share) -> u64| shown(&probe.trials).iter().map(|s| of(&s[bound])).sum::<u64>();
    let (beyond, all) = (sum(|s| s.beyond), sum(|s| s.planned));
    (all > 0).then(|| beyond as f64 / all as f64)
}

fn probes(name: &str, progress: &SearchProgress) -> Section {
    let mut probes: Vec<&Probe> = progress.probes.iter().collect();
    probes.sort_by(|a, b| a.rate_per_s.total_cmp(&b.rate_per_s));
    let mut table = Columns::of(&probes);
    if !probes.is_empty() {
        table.number("rate\nreq/s", |p| format_rate(p.rate_per_s));
        table.number("trials", |p| match (counted(p), p.trials.len()) {
            (counted, all) if counted == all => all.to_string(),
            (counted, all) => format!("{counted} of {all} count"),
        });
        for (i, bound) in progress.bounds().iter().enumerate() {
            let title = format!("not {}\nof {} % allowed", bound.name, bound.allowed * 100.0);
            table.number(title, |p| share(p, i).map(|s| format!("{:.2} %", s * 100.0)));
        }
        table.text("result", |p| match &p.answer {
            None => "not finished".into(),
            Some(ProbeAnswer::Met) => "met".into(),
            Some(other) => because(other),
        });
    }
    table.section(format!("Probes of {name}"), vec![])
}

impl SearchProgress {
    fn trials(&self) -> usize {
        self.starts() + self.probes.iter().map(|p| p.trials.len()).sum::<usize>()
    }
}
