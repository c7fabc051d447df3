//! What a run's rows call for: exit codes, and whether a failure was expected.

use std::collections::HashSet;

use crate::cmd::exit;
use crate::format::{Status, TrialRecord};
use crate::limits::LimitName;
use crate::plan::sweep::{ExpectFailed, Sweep};
use crate::report::slo::{self, Judgement};
use crate::report::summary::{is_quiet, is_valid};
use crate::units::{format_count, plural};

/// Says which bounds of the SLO were missed or cannot be judged, and the exit code for that.
pub(super) fn objectives(sweep: &Sweep, records: &[TrialRecord]) -> Option<u8> {
    // A search misses its SLO on purpose, and reports the outcome itself.
    if sweep.search.is_some() {
        return None;
    }
    let rows = slo::judge(&sweep.bounds(), records);
    for row in &rows {
        match row.judgement {
            Judgement::Met => {}
            Judgement::Missed => say!("duel: SLO missed: {row}"),
            Judgement::Unknown(_) => say!("duel: SLO cannot be judged: {row}"),
        }
    }
    let any = |is: fn(&Judgement) -> bool| rows.iter().any(|r| is(&r.judgement));
    if any(|j| matches!(j, Judgement::Unknown(_))) {
        return Some(exit::INVALID);
    }
    any(|j| *j == Judgement::Missed).then_some(exit::MISSED)
}

/// The exit code that the rows call for, if any. A noisy trial whose repeat was valid calls for
/// none: its faults are attributed to the noise, and its figures are not used.
pub(super) fn verdict(sweep: &Sweep, records: &[TrialRecord]) -> Option<u8> {
    let valid: HashSet<_> = records
        .iter()
        .filter(|r| is_valid(r) && is_quiet(r))
        .map(|r| (&r.cell.id, r.block))
        .collect();
    let stands = |r: &&TrialRecord| is_quiet(r) || !valid.contains(&(&r.cell.id, r.block));
    let records: Vec<&TrialRecord> = records.iter().filter(stands).collect();
    let failed =
        records.iter().any(|r| r.status == Status::Failed && !is_expected(&sweep.expect_failed, r));
    let counted = || records.iter().filter(|r| r.status != Status::Failed);
    // One short window may pass without a request on a machine that gives the worker no CPU: such a
    // trial is invalid. A cell whose windows were all empty has measured nothing.
    let used: HashSet<_> = counted().filter(|r| r.ledger.planned > 0).map(|r| &r.cell.id).collect();
    let nothing = |r: &&TrialRecord| {
        r.ledger.completed == 0
            && !r.cell.is_idle()
            && (r.ledger.planned > 0 || !used.contains(&r.cell.id))
    };
    if failed || counted().any(nothing) {
        return Some(exit::FAILED);
    }
    records.iter().any(|r| r.status == Status::Invalid).then_some(exit::INVALID)
}

/// Why a run ends with the exit code of numbers that are not reliable, and what helps.
pub(super) fn unreliable(records: &[TrialRecord]) -> String {
    let count = |is: fn(&TrialRecord) -> bool| records.iter().filter(|r| is(r)).count() as u64;
    let why = match count(|r| r.status == Status::Invalid) {
        0 => "it cannot be judged whether the SLO is met".into(),
        n => {
            let (all, is) =
                (plural(records.len() as u64, "trial"), if n == 1 { "is" } else { "are" });
            format!("{} of {all} {is} not reliable", format_count(n))
        }
    };
    let busy = 2 * count(|r| !is_quiet(r)) > records.len() as u64;
    let way = if busy {
        "; other programs kept the machine busy: run again when it is quiet"
    } else {
        ""
    };
    why + way
}

/// Whether a config names the failure: its cell, and the limit that it ran into.
pub(super) fn is_expected(expected: &[ExpectFailed], record: &TrialRecord) -> bool {
    let is_hit = |wanted: &String| {
        let hit = record.limit.as_deref().map(LimitName::of);
        hit.is_some_and(|hit| hit.is(LimitName::of(wanted)))
    };
    expected.iter().any(|e| {
        e.engine == record.cell.engine
            && e.lanes.is_none_or(|lanes| lanes == record.cell.lanes)
            && e.limit.as_ref().is_none_or(is_hit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Cell, Engine};

    /// The way out of one limit may name another: it is the limit itself that is asked for.
    #[test]
    fn a_failure_is_expected_by_the_limit_that_it_ran_into() {
        let record = |limit: Option<&str>| TrialRecord {
            limit: limit.map(Into::into),
            error: Some("… need 5; fs.file-max allows 4: raise RLIMIT_NOFILE or vm.max".into()),
            ..TrialRecord::blank("p".into(), "b".into(), 0, 0, Cell::plain(Engine::Threads, 4))
        };
        let of = |engine, lanes, limit: Option<&str>| {
            vec![ExpectFailed { engine, lanes, limit: limit.map(Into::into) }]
        };
        let named = |limit| of(Engine::Threads, Some(4), Some(limit));
        let hit = record(Some("fs.file-max"));
        assert!(is_expected(&named("fs.file-max"), &hit));
        assert!(!is_expected(&named("RLIMIT_NOFILE"), &hit), "the error only mentions it");
        assert!(!is_expected(&named("fs.file"), &hit), "another limit");
        assert!(is_expected(&of(Engine::Threads, None, None), &hit));
        assert!(!is_expected(&of(Engine::Tokio, None, None), &hit));
        assert!(!is_expected(&of(Engine::Threads, Some(5), None), &hit));
        let target = record(Some("RLIMIT_NOFILE of the target"));
        assert!(is_expected(&named("RLIMIT_NOFILE"), &target));
        assert!(is_expected(&named("RLIMIT_NOFILE of the target"), &target));
        assert!(!is_expected(&named("RLIMIT_NOFILE of the server"), &target), "another's");
        // A row of before the field, as it is read.
        let line = serde_json::to_vec(&record(None)).unwrap();
        let before = TrialRecord::read(&line).unwrap();
        assert!(is_expected(&named("fs.file-max"), &before));
        assert!(!is_expected(&named("RLIMIT_NOFILE"), &before), "the error only mentions it");
        assert!(!is_expected(&named("fs.file-max"), &record(None)), "no text decides");
    }
}
