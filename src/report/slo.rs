//! Whether each cell keeps its SLO: met, missed, or not to be judged.
//!
//! A cell is judged on its valid trials together, the quiet ones where at least half are quiet. A
//! bound is met where the interval of the share of requests within it is above what it asks, and
//! missed where it is below. The percentile's own interval is the same one seen from the other side,
//! read off the merged histogram (Woodruff, "Confidence intervals for medians and other position
//! measures", 1952). Other programs make times longer and never shorter: on a busy machine a bound may
//! be met, but not missed, unless not one request was within.

use super::layout::{Columns, Section};
use super::summary::{for_levels, in_order, is_quiet, valid};
use crate::format::{Status, TrialRecord};
use crate::plan::search::{Bound, bounds};
use crate::plan::slo::Slo;
use crate::stats::clustered_share;
use crate::stats::hdr::Times;
use crate::units::{format_count, format_ns, format_share, plural};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Judgement {
    Met,
    Missed,
    Unknown(String),
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SloRow {
    pub(crate) cell: String,
    pub(crate) bound: Bound,
    seen: String,
    trials: usize,
    pub(crate) judgement: Judgement,
}

impl std::fmt::Display for SloRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let SloRow { cell, seen, .. } = self;
        let allowed = match self.bound.most_ns {
            Some(ns) => format_ns(ns as f64),
            None => format_share(self.bound.allowed),
        };
        let trials = plural(self.trials as u64, "trial");
        write!(f, "{cell}: {} {seen}, allowed {allowed}, over {trials}", self.bound.what)?;
        match &self.judgement {
            Judgement::Unknown(why) => write!(f, ": {why}"),
            _ => Ok(()),
        }
    }
}

impl std::fmt::Display for Judgement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Judgement::Met => f.write_str("met"),
            Judgement::Missed => f.write_str("missed"),
            Judgement::Unknown(why) => write!(f, "cannot be judged: {why}"),
        }
    }
}

/// Every bound in every cell that sends requests and ran.
pub(crate) fn judge(bounds: &[Bound], records: &[TrialRecord]) -> Vec<SloRow> {
    // Splitting memory and counting events slow a trial down, so such trials are not judged.
    let sent = |r: &&TrialRecord| {
        let ran = matches!(r.status, Status::Ok | Status::Invalid) && r.ledger.planned > 0;
        ran && !r.cell.is_memory() && !r.cell.counts_events()
    };
    let of = |(id, trials): (&str, Vec<&TrialRecord>)| {
        let valid = valid(&trials);
        let of_bound = move |bound: &Bound| match &bound.class {
            None => Some(row(id, bound, &valid)),
            Some(class) => {
                let is_sent = |r: &TrialRecord| r.ledger.planned > 0;
                let part = |r: &&TrialRecord| r.of_class(class).filter(is_sent);
                let parts: Vec<TrialRecord> = valid.iter().filter_map(part).collect();
                let any = valid.is_empty() || !parts.is_empty();
                any.then(|| row(id, bound, &parts.iter().collect::<Vec<_>>()))
            }
        };
        bounds.iter().filter_map(of_bound).collect::<Vec<_>>()
    };
    in_order(records.iter().filter(sent)).into_iter().flat_map(of).collect()
}

fn row(id: &str, bound: &Bound, valid: &[&TrialRecord]) -> SloRow {
    let trials = for_levels(valid);
    let (seen, judgement) = match bound.most_ns {
        _ if trials.is_empty() => ("-".into(), Judgement::Unknown("no trial is valid".into())),
        Some(most) => percentile(1.0 - bound.allowed, most, &trials),
        None => lost(bound.allowed, &trials),
    };
    let noisy = valid.iter().filter(|t| !is_quiet(t)).count();
    let busy = || {
        let (noisy, all) = (format_count(noisy as u64), format_count(valid.len() as u64));
        Judgement::Unknown(format!(
            "other programs kept the machine busy in {noisy} of {all} trials"
        ))
    };
    // Where not even the fastest request was within, noise is not why.
    let none = |t: &&TrialRecord| t.latency().is_none_or(|d| Some(d.min) > bound.most_ns);
    let hopeless = bound.most_ns.is_some() && trials.iter().all(none);
    let judgement = match judgement {
        Judgement::Met => Judgement::Met,
        _ if !hopeless && trials.iter().any(|t| !is_quiet(t)) => busy(),
        other => other,
    };
    let (cell, bound) = (id.into(), bound.clone());
    SloRow { cell, bound, seen, trials: trials.len(), judgement }
}

/// What was lost is counted, not estimated.
fn lost(allowed: f64, trials: &[&TrialRecord]) -> (String, Judgement) {
    let planned: u64 = trials.iter().map(|t| t.ledger.planned).sum();
    let lost: u64 = trials.iter().map(|t| t.ledger.lost()).sum();
    let missed = lost as f64 > allowed * planned as f64;
    let seen = format!("{} of {}", format_count(lost), format_count(planned));
    (seen, if missed { Judgement::Missed } else { Judgement::Met })
}

fn percentile(q: f64, most: u64, trials: &[&TrialRecord]) -> (String, Judgement) {
    let times = Times::of(trials, TrialRecord::latency);
    let Some(times) = times else { return ("never".into(), Judgement::Missed) };
    let (at, (low, high)) = (times.at(q), times.interval(q));
    let print = |t: Option<u64>| t.map_or("never".into(), |ns| format_ns(ns as f64));
    let seen = format!("{} [{}, {}]", print(at), print(low), print(high));
    let judgement = match clustered_share(&times.within(most)) {
        Some((share, reach)) if share - reach >= q - 1e-12 => Judgement::Met,
        Some((share, reach)) if share + reach < q - 1e-12 => Judgement::Missed,
        _ => Judgement::Unknown("more trials are needed: the interval includes the bound".into()),
    };
    (seen, judgement)
}

/// How many bounds are met, in a sentence for the head of a report; `None` without an SLO.
pub(crate) fn sentence(slo: Option<&Slo>, records: &[TrialRecord]) -> Option<String> {
    let bounds = bounds(slo, &[]);
    let rows = judge(&bounds, records);
    let of = |judgement| rows.iter().filter(|r| r.judgement == judgement).count();
    let (all, met, missed) = (rows.len(), of(Judgement::Met), of(Judgement::Missed));
    let parts = [(met, "met"), (missed, "missed"), (all - met - missed, "cannot be judged")];
    let parts = parts.iter().filter(|(n, _)| *n > 0).map(|(n, word)| match *n == all {
        true => (*word).to_string(),
        false => format!("{n} of {all} {word}"),
    });
    let parts = parts.collect::<Vec<_>>().join(", ");
    let names: Vec<&str> = bounds.iter().map(|bound| bound.name.as_str()).collect();
    (!rows.is_empty()).then(|| format!("SLO ({}): {parts}.", names.join(", ")))
}

/// The bounds of a run as a table; `None` without an SLO.
pub(crate) fn section(slo: Option<&Slo>, records: &[TrialRecord]) -> Option<Section> {
    let rows = judge(&bounds(slo, &[]), records);
    let mut table = Columns::some(&rows)?;
    table.text("cell", |r| r.cell.clone());
    table.text("bound", |r| r.bound.name.clone());
    table.number("measured", |r| r.seen.clone());
    table.number("trials", |r| format_count(r.trials as u64));
    table.text("SLO", |r| r.judgement.to_string());
    Some(table.section("SLO", vec![]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{Flag, Ledger, histogram};
    use crate::plan::{Cell, Engine};

    const MS: u64 = 1_000_000;

    /// A trial of requests that took `times` (milliseconds, how many), with `lost` more that failed.
    fn trial(block: u32, times: &[(u64, u64)], lost: u64, noisy: bool) -> TrialRecord {
        let mut times_ns = histogram::empty();
        for (ms, count) in times {
            times_ns.record_n(ms * MS, *count).unwrap();
        }
        let completed = times_ns.len();
        let planned = completed + lost;
        let cell = Cell::plain(Engine::Threads, 4);
        TrialRecord {
            status: Status::Ok,
            flags: if noisy { vec![Flag::Noisy] } else { vec![] },
            ledger: Ledger { planned, completed, failed: lost, ..Ledger::default() },
            service_ns: Some(histogram::summarize(&times_ns).unwrap()),
            ..TrialRecord::blank("p".into(), "b".into(), block, block, cell)
        }
    }

    fn answer(slo: &Slo, trials: &[TrialRecord]) -> &'static str {
        let rows = judge(&bounds(Some(slo), &[]), trials);
        let [row] = &rows[..] else { panic!("{rows:?}") };
        match row.judgement {
            Judgement::Met => "met",
            Judgement::Missed => "missed",
            Judgement::Unknown(_) => "unknown",
        }
    }

    fn ten(times: &[(u64, u64)], lost: u64, noisy: u32) -> Vec<TrialRecord> {
        (0..10).map(|b| trial(b, times, lost, b < noisy)).collect()
    }

    #[test]
    fn a_bound_is_met_missed_or_not_to_be_judged() {
        let p99 = |ms: u64| Slo { p99_ns: Some(ms * MS), ..Slo::default() };
        let calm = [(2, 995), (8, 5)];
        assert_eq!(answer(&p99(10), &ten(&calm, 0, 0)), "met");
        assert_eq!(answer(&p99(10), &ten(&[(2, 900), (30, 100)], 0, 0)), "missed");
        // What was lost took for ever.
        assert_eq!(answer(&p99(10), &ten(&calm, 100, 0)), "missed");
        // All of the late ones in one trial of ten: it may be chance.
        let mut bursts = ten(&calm, 0, 0);
        bursts[4] = trial(4, &[(2, 800), (30, 200)], 0, false);
        assert_eq!(answer(&p99(10), &bursts), "unknown");
        // Few requests, all of them within.
        assert_eq!(answer(&p99(10), &[trial(0, &[(2, 20)], 0, false)]), "met");
    }

    #[test]
    fn noise_is_no_miss() {
        let p99 = |ms: u64| Slo { p99_ns: Some(ms * MS), ..Slo::default() };
        let late = [(2, 900), (30, 100)];
        assert_eq!(answer(&p99(10), &ten(&late, 0, 6)), "unknown");
        assert_eq!(answer(&p99(10), &ten(&late, 0, 5)), "missed", "half of the trials are quiet");
        assert_eq!(answer(&p99(50), &ten(&late, 0, 10)), "met", "noise makes no time shorter");
        assert_eq!(answer(&p99(1), &ten(&late, 0, 10)), "missed", "not one request was within");
        // Quiet trials alone are judged where they are many enough.
        let mut mixed = ten(&[(2, 1_000)], 0, 0);
        for block in 0..4 {
            mixed[block as usize] = trial(block, &[(90, 1_000)], 0, true);
        }
        assert_eq!(answer(&p99(10), &mixed), "met");
        let errors = Slo { error_rate: Some(0.01), ..Slo::default() };
        assert_eq!(answer(&errors, &ten(&late, 20, 0)), "missed");
        assert_eq!(answer(&errors, &ten(&late, 20, 10)), "unknown");
        assert_eq!(answer(&errors, &ten(&late, 1, 10)), "met");
    }

    #[test]
    fn what_is_bounded_is_told_whatever_a_class_is_called() {
        let times = [(2, 995), (8, 5)];
        let slo = Slo { p99_ns: Some(10 * MS), ..Slo::default() };
        let mut bound = bounds(Some(&slo), &[]).remove(0);
        assert_eq!((bound.what.as_str(), bound.name.as_str()), ("p99", "p99 ≤ 10 ms"));
        bound.what = "p99 of class size ≤ 9".into();
        bound.name = format!("{} ≤ 10 ms", bound.what);
        let row = judge(&[bound], &ten(&times, 0, 0)).remove(0).to_string();
        assert!(row.contains(": p99 of class size ≤ 9 2 ms ["), "{row}");
    }

    #[test]
    fn what_is_not_valid_is_not_judged() {
        let slo = Slo { p50_ns: Some(MS), ..Slo::default() };
        let mut invalid = ten(&[(2, 100)], 0, 0);
        invalid.iter_mut().for_each(|t| t.status = Status::Invalid);
        assert_eq!(answer(&slo, &invalid), "unknown");
        invalid.iter_mut().for_each(|t| t.status = Status::Failed);
        assert!(
            judge(&bounds(Some(&slo), &[]), &invalid).is_empty(),
            "a failure is told elsewhere"
        );
        let calm = ten(&[(2, 100)], 0, 0);
        assert_eq!(sentence(Some(&slo), &calm).as_deref(), Some("SLO (p50 ≤ 1 ms): missed."));
        let two = Slo { error_rate: Some(0.01), ..slo };
        let said = sentence(Some(&two), &calm).expect("an SLO");
        assert!(said.ends_with("1 of 2 met, 1 of 2 missed."), "{said}");
        assert_eq!(sentence(None, &calm), None);
        let section = section(Some(&slo), &calm).expect("an SLO");
        assert_eq!(section.columns[4].cells, ["missed"]);
        assert!(section.columns[2].cells[0].starts_with("2 ms [2 ms, 2 ms]"), "{section:?}");
    }
}
