//! `--suggest`: the config of a run that would measure what a plan lacks.

use anyhow::bail;

use crate::config::write;
use crate::plan::sweep::Sweep;
use crate::plan::{Arrivals, Extent};
use crate::report::capacity::{Plan, Suggestion};
use crate::stats::precision::FEWEST_BLOCKS;

pub(super) fn config(plan: &Plan, sweep: Sweep) -> anyhow::Result<String> {
    let refusals: Vec<_> = plan.engines.iter().filter_map(|e| e.answer.as_ref().err()).collect();
    let mut suggestions: Vec<Suggestion> =
        refusals.iter().filter_map(|refusal| refusal.suggestion.clone()).collect();
    let mut comment = String::from("# What does the plan of ");
    comment += &format!("{} requests per second lack?\n#\n", plan.question.rate_per_s);
    if suggestions.is_empty() {
        if let Some(refusal) = refusals.first() {
            let (why, next) = (&refusal.why, &refusal.measure_next);
            bail!("no run would answer it: {why}; {next}");
        }
        // Nothing is missing: the planned point itself is what may be measured still.
        let needs = plan.engines.iter().filter_map(|e| e.answer.as_ref().ok());
        let rates = needs.map(|need| (need.group_rate_per_s * 10.0).round() / 10.0);
        suggestions.push(Suggestion::Rates(rates.collect()));
        comment += "# Nothing; this measures the planned rate of each group of workers itself.\n";
    }
    for (engine, refusal) in plan.engines.iter().filter_map(|e| Some((e, e.answer.as_ref().err()?)))
    {
        let line = format!("# {}: {}\n", engine.name, refusal.why);
        if !comment.contains(&line) {
            comment += &line;
        }
    }
    let mut next = sweep;
    for suggestion in &suggestions {
        apply(&mut next, suggestion);
    }
    settle(&mut next);
    next.name = format!("{}-next", next.name.trim_end_matches("-next"));
    Ok(comment + &write::text(&next)?)
}

fn apply(sweep: &mut Sweep, suggestion: &Suggestion) {
    let plan = &mut sweep.plan;
    match suggestion {
        Suggestion::Lanes(lanes) => {
            sweep.axes.lanes.extend(lanes);
            sweep.axes.lanes.sort_unstable();
            sweep.axes.lanes.dedup();
        }
        Suggestion::Rates(rates) => {
            if plan.arrivals == Arrivals::Closed || plan.arrivals == Arrivals::Trace {
                plan.arrivals = Arrivals::Poisson;
                plan.trace = None;
            }
            (plan.stages, plan.offered_per_s, sweep.search) = (vec![], None, None);
            sweep.axes.knee_shares.clear();
            sweep.axes.rates_per_s.extend(rates);
            sweep.axes.rates_per_s.sort_by(f64::total_cmp);
            sweep.axes.rates_per_s.dedup();
        }
        Suggestion::Longer(times) => match &mut plan.extent {
            Extent::Requests(n) => *n = (*n as f64 * times) as u64,
            Extent::DurationNs(ns) => *ns = (*ns as f64 * times) as u64,
        },
    }
}

/// Gives a sweep that ends by precision the time that its cells need.
pub(super) fn settle(sweep: &mut Sweep) {
    let cells = sweep.cells().len() as u64;
    let trial_ns = sweep.trial_ns().unwrap_or(0);
    if let Some(precision) = &mut sweep.precision {
        let blocks =
            trial_ns.saturating_mul(cells).saturating_mul(u64::from(FEWEST_BLOCKS) * 3 / 2);
        precision.budget_ns = precision.budget_ns.max(blocks);
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::report::capacity::hosts::HostType;
    use crate::report::capacity::{Question, plan};

    fn parse(text: &str) -> Sweep {
        crate::config::parse(text, "x.toml", &[], Path::new("."))
            .unwrap_or_else(|e| panic!("{e}\n{text}"))
    }

    /// What is suggested is a config that plans: for every kind of suggestion, on every kind of load.
    #[test]
    fn every_suggestion_is_a_config_that_plans() {
        let bounded = "[sweep]\nengines = [\"threads\", \"tokio\"]\ntrials = 3\n";
        for sweep in [
            "[plan]\nrequests = 100\n".to_string() + bounded,
            "[plan]\nduration = \"1s\"\n[sweep]\nengines = [\"tokio\"]\nbudget = \"1m\"\n".into(),
            "[plan]\narrivals = \"poisson\"\nduration = \"1s\"\n".to_string()
                + bounded
                + "rates = [100]\n",
            "[plan]\narrivals = \"poisson\"\nstages = [{ duration = \"1s\", rate = 50 }]\n"
                .to_string()
                + bounded,
            include_str!("../../../configs/knee.toml").into(),
        ] {
            for suggestion in [
                Suggestion::Lanes(vec![100, 200]),
                Suggestion::Rates(vec![12.5, 4_000.0]),
                Suggestion::Longer(3.0),
            ] {
                let before = parse(&sweep);
                // Stages have no rate to add lanes or length to that could be written out.
                if !before.plan.stages.is_empty() && !matches!(suggestion, Suggestion::Rates(_)) {
                    continue;
                }
                let q = Question::new(1e3, HostType::plain(2, 1 << 30));
                let mut plan = plan(&[], &[q], &|_| vec![]);
                plan.engines.push(crate::report::capacity::EnginePlan {
                    name: "tokio".into(),
                    engine: crate::plan::Engine::Tokio,
                    host: String::new(),
                    answer: Err(crate::report::capacity::CapacityRefusal {
                        why: "it reaches not so far".into(),
                        measure_next: "more".into(),
                        suggestion: Some(suggestion.clone()),
                    }),
                });
                let text = config(&plan, before.clone()).unwrap_or_else(|e| panic!("{e}\n{sweep}"));
                let next = parse(&text);
                assert!(!next.cells().is_empty() && text.starts_with("# What"), "{text}");
                let holds = match &suggestion {
                    Suggestion::Lanes(lanes) => lanes.iter().all(|n| next.axes.lanes.contains(n)),
                    Suggestion::Rates(rates) => {
                        rates.iter().all(|r| next.axes.rates_per_s.contains(r))
                    }
                    Suggestion::Longer(_) => next.plan.extent != before.plan.extent,
                };
                assert!(holds, "{suggestion:?} is not in\n{text}");
            }
        }
    }
}
