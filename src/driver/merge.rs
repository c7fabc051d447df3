//! Outcomes of a trial's workers → one [`TrialRecord`].

use crate::format::add::{Sum, Times};
use crate::format::histogram::{self, HdrError};
use crate::format::{LargestWorker, TrialRecord};
use crate::protocol::Outcome;

/// Adds the workers' outcomes to a record that holds the trial's identity so far.
pub(super) fn add_outcomes(record: &mut TrialRecord, outcomes: &[Outcome]) -> Result<(), HdrError> {
    let mut sum = Sum::new(record.clone());
    for outcome in outcomes {
        let times: Result<Times, HdrError> = outcome
            .histograms
            .iter()
            .map(|(channel, text)| Ok((*channel, histogram::decode_sparse(text)?)))
            .collect();
        // Workers of a trial share a machine, whatever its name.
        sum.add(&part(record, outcome), times?, "")?;
    }
    *record = sum.finish()?;
    Ok(())
}

/// A worker's part of a record. Every field stands here by name, so that a new one is not forgotten.
fn part(record: &TrialRecord, outcome: &Outcome) -> TrialRecord {
    let Outcome {
        version: _,
        interrupted: _,
        ledger,
        warmup,
        errors,
        statuses,
        classes,
        bytes,
        reconnects,
        tls,
        requests_per_lane,
        window_start_ns,
        window_end_ns,
        started_at_ns: _,
        completed_in_window,
        started_in_window: _,
        ended_between_edges,
        rate_requests,
        rate_ns,
        machine: _,
        in_service_ns: _,
        warmup_in_service_ns: _,
        histograms: _,
        cpu,
        switches,
        events,
        runtime,
        ring,
        memory,
        threads_peak,
        fds_peak,
        unavailable,
        error_samples: _,
        heap: _,
    } = outcome.clone();
    TrialRecord {
        ledger,
        warmup,
        errors,
        statuses,
        classes,
        bytes,
        reconnects,
        requests_per_lane,
        measured_ns: window_end_ns.saturating_sub(window_start_ns),
        completed_in_window,
        ended_between_edges,
        rate_requests,
        rate_ns,
        largest_worker: Some(LargestWorker {
            peak_rss_bytes: memory.peak_rss_bytes,
            cpu_total_ns: cpu.total_ns,
            threads_peak,
            fds_peak,
        }),
        cpu,
        switches,
        events,
        runtime,
        ring,
        memory,
        threads_peak,
        fds_peak,
        tls,
        unavailable,
        ..record.same_trial()
    }
}
