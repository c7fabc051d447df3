//! `[search]`: what it needs of the rest of the config, and what must be left out beside it.

use super::{Fault, fault, number};
use crate::config::keys::File;
use crate::config::node::Place;
use crate::config::read::{At, Duration, place_of};
use crate::plan::search::{Bound, Search};
use crate::plan::{Arrivals, Extent, RequestTemplate, TrialPlan};
use crate::units::{duration_literal, format_count, format_rate};

/// Requests beyond a bound that a probe must be able to hold, as for every printed percentile.
const BEYOND: f64 = 10.0;

pub(super) fn resolve(
    file: &File,
    plan: &TrialPlan,
    bounds: &[Bound],
) -> Result<Option<Search>, Fault> {
    let Some(table) = &file.search else { return Ok(None) };
    if bounds.is_empty() {
        let rule = "add a table [slo], such as p99 = \"50ms\"";
        return Err(fault(table, format!("there is no bound to search by: {rule}")));
    }
    beside(file, plan, &table.place)?;
    within_timeout(file, plan)?;
    let keys = &table.value;
    let (trials, max_trials) = (number(&keys.trials), number(&keys.max_trials));
    if trials > max_trials {
        let rule = format!("`{trials}` is above search.max_trials, {max_trials}");
        return Err(fault(&keys.trials, rule));
    }
    let requests = bounds
        .iter()
        .filter(|bound| bound.allowed > 0.0)
        .map(|bound| BEYOND / bound.allowed / part(plan, bound))
        .fold(0.0, f64::max);
    let least = Search::least_rate(plan.extent, max_trials, requests);
    let min_per_s = keys.min_rate.as_ref().map_or(least, |at| at.0);
    enough(file, plan, max_trials, requests, min_per_s)?;
    let max_per_s = keys.max_rate.0;
    if max_per_s < min_per_s {
        let given = keys.max_rate.given_at().or(place_of(&keys.min_rate));
        let (low, high) = (format_rate(min_per_s), format_rate(max_per_s));
        let message = format!("the highest rate, {high}, is below the lowest, {low}");
        return Err(Fault::new(given.unwrap_or(&table.place), message));
    }
    let (tolerance, probes) = (keys.tolerance.value, number(&keys.probes));
    Ok(Some(Search { tolerance, probes, trials, max_trials, min_per_s, max_per_s }))
}

/// The share of all requests that a bound is of.
fn part(plan: &TrialPlan, bound: &Bound) -> f64 {
    let Some(class) = &bound.class else { return 1.0 };
    let weight = |of: &dyn Fn(&RequestTemplate) -> bool| {
        plan.mix.iter().filter(|r| of(r)).map(|r| f64::from(r.weight)).sum::<f64>()
    };
    weight(&|r| r.name.as_ref() == Some(class)) / weight(&|_| true)
}

/// Refuses what says otherwise than a search which rates are run, and how often.
fn beside(file: &File, plan: &TrialPlan, table: &Place) -> Result<(), Fault> {
    if matches!(plan.arrivals, Arrivals::Closed | Arrivals::Trace) {
        let open = "a search offers rates: set plan.arrivals to \"constant\" or \"poisson\"";
        return Err(Fault::new(file.plan.arrivals.given_at().unwrap_or(table), open));
    }
    let sweep = &file.sweep;
    // What follows a search at shares of its knee is a sweep as any other.
    let alone = sweep.rates.is_none();
    let of_search = |place, why| (if alone { place } else { None }, why);
    let given = [
        (place_of(&file.plan.stages), "stages have their own rates"),
        of_search(place_of(&sweep.trials), "see search.trials and search.max_trials"),
        of_search(sweep.precision.given_at(), "see search.tolerance"),
        of_search(sweep.budget.given_at(), "see search.probes"),
        of_search(sweep.max_blocks.given_at(), "see search.max_trials"),
        of_search(sweep.noise_repeats.given_at(), "a probe goes on to its next trial"),
        (sweep.memory.given_at(), "memory is split in a sweep of its own"),
    ];
    let cells = [&sweep.aa, &sweep.idle, &sweep.syscalls].into_iter().filter(|at| at.value);
    let cells = cells.map(|at| (Some(&at.place), "it adds cells that no search needs"));
    match given.into_iter().chain(cells).find_map(|(place, why)| Some((place?, why))) {
        Some((place, why)) => Err(Fault::new(place, format!("not beside [search]: {why}"))),
        None => Ok(()),
    }
}

/// A request that is given up counts as beyond every bound, which must therefore be shorter.
fn within_timeout(file: &File, plan: &TrialPlan) -> Result<(), Fault> {
    let slo = &file.slo;
    let of_classes = file.plan.request.as_ref().map_or(&[][..], |list| &list.value);
    let of_classes = of_classes.iter().filter_map(|request| request.p99.as_ref());
    let bounds = [&slo.p50, &slo.p90, &slo.p99, &slo.p99_9];
    let mut bounds = bounds.into_iter().flatten().chain(of_classes);
    let beyond = |at: &&At<Duration>| at.0 >= plan.timeout_ns;
    match bounds.find(beyond) {
        Some(at) => {
            let timeout = duration_literal(plan.timeout_ns);
            let rule = format!("requests are given up after plan.timeout, {timeout}");
            Err(fault(at, format!("no request can be seen to take so long: {rule}")))
        }
        None => Ok(()),
    }
}

/// Refuses a plan whose probes could never tell.
fn enough(
    file: &File,
    plan: &TrialPlan,
    max_trials: u32,
    requests: f64,
    min_per_s: f64,
) -> Result<(), Fault> {
    let (most, place, key) = match plan.extent {
        Extent::Requests(n) => (n as f64, place_of(&file.plan.requests), "plan.requests"),
        Extent::DurationNs(ns) => (
            ns as f64 / 1e9 * min_per_s,
            file.search.as_ref().and_then(|table| place_of(&table.min_rate)),
            "plan.duration or search.min_rate",
        ),
    };
    let (all, needed) = (most * f64::from(max_trials), requests);
    if all >= needed * (1.0 - 1e-9) {
        return Ok(());
    }
    let (all, needed) = (format_count(all as u64), format_count(needed.ceil() as u64));
    let message = format!(
        "a probe would hold at most {all} requests, and the bounds need {needed}: \
         raise {key}"
    );
    Err(Fault::new(place.unwrap_or(&Place::whole()), message))
}
