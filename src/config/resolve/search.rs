//! `[search]`: what it needs of the rest of the config, and what must be left out beside it.

use std::ops::{Range, RangeInclusive};

use toml::Spanned;

use super::{Fault, RATES_PER_S, fault, whole_u32};
use crate::config::file::{File, Key, Rate};
use crate::plan::search::{Search, bounds};
use crate::plan::sweep::Slo;
use crate::plan::{Arrivals, Extent, TrialPlan};
use crate::units::{duration_literal, format_count, format_rate};

/// Widths of a knee: a finer one than half a percent is lost in what trials scatter.
const TOLERANCES: RangeInclusive<f64> = 0.005..=1.0;

/// Fewest trials that have an interval worth its name, and most that are worth their time.
const TRIALS: RangeInclusive<u64> = 3..=10;

/// Requests beyond a bound that a probe must be able to hold, as for every printed percentile.
const BEYOND: f64 = 10.0;

/// Where no `max_rate` is given: beyond what one generator sends.
const MAX_PER_S: f64 = 1e6;

/// Resolves `[search]`; `None` without the table.
pub(super) fn resolve(
    file: &File,
    plan: &TrialPlan,
    slo: Option<&Slo>,
) -> Result<Option<Search>, Fault> {
    let Some(table) = &file.search else { return Ok(None) };
    let slo = slo.ok_or_else(|| {
        let rule = "add a table [slo], such as p99 = \"50ms\"";
        fault(table, format!("there is no bound to search by: {rule}"))
    })?;
    beside(file, plan, table.span())?;
    within_timeout(file, plan)?;
    let keys = table.get_ref();
    let max_trials = keys.max_trials.as_ref().map_or(Ok(10), |at| whole_u32(at, TRIALS))?;
    let trials = keys.trials.as_ref().map_or(Ok(3), |at| whole_u32(at, TRIALS))?;
    if let Some(at) = keys.trials.as_ref().filter(|_| trials > max_trials) {
        return Err(fault(at, format!("`{trials}` is above search.max_trials, {max_trials}")));
    }
    let tolerance = match &keys.tolerance {
        Some(at) if !TOLERANCES.contains(at.get_ref()) => {
            let found = at.get_ref();
            return Err(fault(at, format!("`{found}` is out of range: allowed are 0.005 to 1")));
        }
        key => key.as_ref().map_or(0.05, |at| *at.get_ref()),
    };
    let requests = bounds(slo)
        .iter()
        .filter(|bound| bound.allowed > 0.0)
        .map(|bound| BEYOND / bound.allowed)
        .fold(0.0, f64::max);
    let least = Search::least_rate(plan.extent, max_trials, requests);
    let min_per_s = rate(&keys.min_rate)?.unwrap_or(least);
    enough(file, plan, max_trials, requests, min_per_s)?;
    let max_per_s = rate(&keys.max_rate)?.unwrap_or(MAX_PER_S);
    if max_per_s < min_per_s {
        let span = [&keys.max_rate, &keys.min_rate].into_iter().flatten().next();
        let (low, high) = (format_rate(min_per_s), format_rate(max_per_s));
        let message = format!("the highest rate, {high}, is below the lowest, {low}");
        return Err(Fault { span: span.map_or(table.span(), Spanned::span), message });
    }
    let probes = keys.probes.as_ref().map_or(Ok(15), |at| whole_u32(at, 3..=100))?;
    Ok(Some(Search { tolerance, probes, trials, max_trials, min_per_s, max_per_s }))
}

fn rate(key: &Key<Rate>) -> Result<Option<f64>, Fault> {
    let Some(at) = key else { return Ok(None) };
    let rate = at.get_ref().0;
    if RATES_PER_S.contains(&rate) {
        return Ok(Some(rate));
    }
    Err(fault(at, format!("`{rate}` is out of range: allowed are 0.000001 to 1G")))
}

/// Refuses what says otherwise than a search which rates are run, and how often.
fn beside(file: &File, plan: &TrialPlan, table: Range<usize>) -> Result<(), Fault> {
    let open = "a search offers rates: set plan.arrivals to \"constant\" or \"poisson\"";
    if matches!(plan.arrivals, Arrivals::Closed | Arrivals::Trace) {
        let span = file.plan.arrivals.as_ref().map_or(table, Spanned::span);
        return Err(Fault { span, message: open.into() });
    }
    let given = [
        (file.plan.stages.as_ref().map(Spanned::span), "stages have their own rates"),
        (file.sweep.rates.as_ref().map(Spanned::span), "a search chooses its rates itself"),
        (file.sweep.trials.as_ref().map(Spanned::span), "see search.trials and search.max_trials"),
        (file.sweep.noise_repeats.as_ref().map(Spanned::span), "a probe goes on to its next trial"),
        (file.sweep.memory.as_ref().map(Spanned::span), "memory is split in a sweep of its own"),
    ];
    if let Some((span, why)) = given.into_iter().find_map(|(span, why)| Some((span?, why))) {
        return Err(Fault { span, message: format!("not beside [search]: {why}") });
    }
    let flags = [
        (file.sweep.aa, "sweep.aa"),
        (file.sweep.idle, "sweep.idle"),
        (file.sweep.syscalls, "sweep.syscalls"),
    ];
    match flags.into_iter().find(|(set, _)| *set) {
        Some((_, key)) => {
            let message = format!("{key} adds cells that no search needs: use a sweep of its own");
            Err(Fault { span: table, message })
        }
        None => Ok(()),
    }
}

/// A request that is given up counts as beyond every bound, which must therefore be shorter.
fn within_timeout(file: &File, plan: &TrialPlan) -> Result<(), Fault> {
    let slo = &file.slo;
    let bounds = [&slo.p50, &slo.p90, &slo.p99, &slo.p99_9];
    let beyond = |at: &&Spanned<crate::config::file::Duration>| at.get_ref().0 >= plan.timeout_ns;
    match bounds.into_iter().flatten().find(beyond) {
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
    let (most, span, key) = match plan.extent {
        Extent::Requests(n) => {
            (n as f64, file.plan.requests.as_ref().map(Spanned::span), "plan.requests")
        }
        Extent::DurationNs(ns) => (
            ns as f64 / 1e9 * min_per_s,
            file.search.as_ref().and_then(|t| t.get_ref().min_rate.as_ref()).map(Spanned::span),
            "plan.duration or search.min_rate",
        ),
    };
    let (all, needed) = (most * f64::from(max_trials), requests);
    if all >= needed * (1.0 - 1e-9) {
        return Ok(());
    }
    let (all, needed) = (format_count(all as u64), format_count(needed.ceil() as u64));
    Err(Fault {
        span: span.unwrap_or(0..0),
        message: format!(
            "a probe would hold at most {all} requests, and the bounds of [slo] need {needed}: \
             raise {key}"
        ),
    })
}
