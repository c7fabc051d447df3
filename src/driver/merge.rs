//! Outcomes of a trial's workers → one [`TrialRecord`]: ledgers and histograms are added, never
//! averaged.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use crate::format::histogram;
use crate::format::{
    Cpu, Events, LargestWorker, Memory, MinMax, RuntimeUse, Switches, TrialRecord,
};
use crate::protocol::Outcome;

/// Adds the workers' outcomes to a record that holds the trial's identity so far.
///
/// # Errors
/// A histogram that cannot be read.
pub(super) fn add_outcomes(record: &mut TrialRecord, outcomes: &[Outcome]) -> Result<(), String> {
    let mut histograms: BTreeMap<String, Histogram<u64>> = BTreeMap::new();
    for outcome in outcomes {
        record.ledger.add(&outcome.ledger);
        record.warmup.add(&outcome.warmup);
        record.errors.add(&outcome.errors);
        record.bytes.sent += outcome.bytes.sent;
        record.bytes.received += outcome.bytes.received;
        record.reconnects += outcome.reconnects;
        record.completed_in_window += outcome.completed_in_window;
        record.threads_peak += outcome.threads_peak;
        record.fds_peak += outcome.fds_peak;
        record.unavailable.extend(outcome.unavailable.clone());
        for (name, text) in &outcome.histograms {
            let histogram = histogram::decode(text).map_err(|e| format!("{name}: {e}"))?;
            let sum = histograms.entry(name.clone()).or_insert_with(histogram::empty);
            sum.add(&histogram).map_err(|e| format!("{name}: {e}"))?;
        }
    }
    record.requests_per_lane = MinMax {
        min: outcomes.iter().map(|o| o.requests_per_lane.min).min().unwrap_or(0),
        max: outcomes.iter().map(|o| o.requests_per_lane.max).max().unwrap_or(0),
    };
    let start = outcomes.iter().map(|o| o.window_start_ns).min().unwrap_or(0);
    let end = outcomes.iter().map(|o| o.window_end_ns).max().unwrap_or(0);
    record.measured_ns = end.saturating_sub(start);
    if record.measured_ns > 0 {
        record.achieved_per_s = record.completed_in_window as f64 * 1e9 / record.measured_ns as f64;
    }
    record.cpu = add_cpu(outcomes);
    record.switches = add_switches(outcomes);
    record.events = add_events(outcomes);
    record.runtime = add_runtime(outcomes);
    record.memory = add_memory(outcomes);
    record.largest_worker = Some(largest(outcomes));
    // Every histogram was encoded before, and counts of a trial's requests fit the encoding.
    let mut take = |name: &str| {
        histograms.remove(name).map(|h| histogram::summarize(&h).expect("counts of one trial"))
    };
    record.service_ns = take("service_ns");
    record.response_ns = take("response_ns");
    record.start_delay_ns = take("start_delay_ns");
    record.pacer_delay_ns = take("pacer_delay_ns");
    record.lane_wait_ns = take("lane_wait_ns");
    record.failed_ns = take("failed_ns");
    record.connect_ns = take("connect_ns");
    record.handshake_ns = take("handshake_ns");
    record.tls = outcomes.iter().find_map(|o| o.tls.clone());
    record.first_byte_ns = take("first_byte_ns");
    record.heartbeat_ns = take("heartbeat_ns");
    record.steps.http_ns = take("steps.http_ns");
    record.steps.file_ns = take("steps.file_ns");
    record.steps.compute_ns = take("steps.compute_ns");
    Ok(())
}

/// A sum that is known only when every part is.
fn sum<T>(parts: &[T], part: impl Fn(&T) -> Option<u64>) -> Option<u64> {
    parts.iter().map(part).sum()
}

fn add_cpu(outcomes: &[Outcome]) -> Cpu {
    let total_ns = outcomes.iter().map(|o| o.cpu.total_ns).sum();
    let ended: u64 = outcomes.iter().map(|o| o.ended_between_edges).sum();
    Cpu {
        total_ns,
        user_ns: outcomes.iter().map(|o| o.cpu.user_ns).sum(),
        system_ns: outcomes.iter().map(|o| o.cpu.system_ns).sum(),
        per_request_ns: if ended > 0 { total_ns as f64 / ended as f64 } else { 0.0 },
        pacer_ns: sum(outcomes, |o| o.cpu.pacer_ns),
        run_queue_wait_ns: sum(outcomes, |o| o.cpu.run_queue_wait_ns),
        // Every worker sees the same machine: the longest reading, not a sum.
        machine_busy_ns: outcomes.iter().filter_map(|o| o.cpu.machine_busy_ns).max(),
    }
}

fn add_switches(outcomes: &[Outcome]) -> Switches {
    Switches {
        voluntary: outcomes.iter().map(|o| o.switches.voluntary).sum(),
        involuntary: outcomes.iter().map(|o| o.switches.involuntary).sum(),
        migrations: sum(outcomes, |o| o.switches.migrations),
    }
}

fn add_events(outcomes: &[Outcome]) -> Events {
    let ended: u64 = outcomes.iter().map(|o| o.ended_between_edges).sum();
    let syscalls = sum(outcomes, |o| o.events.syscalls);
    Events {
        minor_faults: sum(outcomes, |o| o.events.minor_faults),
        major_faults: sum(outcomes, |o| o.events.major_faults),
        syscalls,
        syscalls_per_request: syscalls.filter(|_| ended > 0).map(|n| n as f64 / ended as f64),
        instructions: sum(outcomes, |o| o.events.instructions),
        cycles: sum(outcomes, |o| o.events.cycles),
    }
}

fn add_runtime(outcomes: &[Outcome]) -> Option<RuntimeUse> {
    outcomes.iter().try_fold(RuntimeUse::default(), |mut sum, outcome| {
        sum.add(&outcome.runtime?);
        Some(sum)
    })
}

fn add_memory(outcomes: &[Outcome]) -> Memory {
    let memory = |part: fn(&Memory) -> Option<u64>| sum(outcomes, |o| part(&o.memory));
    Memory {
        baseline_rss_bytes: outcomes.iter().map(|o| o.memory.baseline_rss_bytes).sum(),
        peak_rss_bytes: outcomes.iter().map(|o| o.memory.peak_rss_bytes).sum(),
        plateau_user_bytes: memory(|m| m.plateau_user_bytes),
        heap_bytes: memory(|m| m.heap_bytes),
        stack_bytes: memory(|m| m.stack_bytes),
        page_table_bytes: memory(|m| m.page_table_bytes),
        kernel_stack_bytes: memory(|m| m.kernel_stack_bytes),
        kernel_bytes: None,
        socket_bytes: None,
        unattributed_bytes: None,
        split: None,
    }
}

fn largest(outcomes: &[Outcome]) -> LargestWorker {
    let most = |part: fn(&Outcome) -> u64| outcomes.iter().map(part).max().unwrap_or(0);
    LargestWorker {
        peak_rss_bytes: most(|o| o.memory.peak_rss_bytes),
        cpu_total_ns: most(|o| o.cpu.total_ns),
        threads_peak: most(|o| o.threads_peak),
        fds_peak: most(|o| o.fds_peak),
    }
}
