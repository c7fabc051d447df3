//! What must hold of a row, so that no reader believes what cannot be.

use anyhow::{Context, anyhow, bail};
use serde_json::Value;

use crate::format::histogram::decode_sparse;
use crate::format::{Channel, Distribution, FORMAT_VERSION, Ledger, Status, TrialRecord};
use crate::plan::Cell;
use crate::units::format_count;

/// Beyond it lies no figure of a trial: nanoseconds of thirty years, bytes of all disks.
const MOST: f64 = 1e18;

/// How far a figure may lie from what it was worked out from: floats are rounded when they are written.
const ROUNDING: f64 = 1e-6;

/// What must hold of a row that is read from its line.
pub(super) fn check_row(row: &TrialRecord) -> anyhow::Result<()> {
    record(row)?;
    numbers(&serde_json::to_value(row)?, "")?;
    histograms(row)?;
    derived(row)
}

/// What must hold of the histograms of a row: what they say of themselves, and, where it ran to its
/// end, that those of requests hold as many as the ledger counts. One that is cut off, or of something
/// else, would be believed otherwise.
fn histograms(record: &TrialRecord) -> anyhow::Result<()> {
    for (channel, told) in record.histograms() {
        histogram(channel.field(), told)?;
    }
    let of_class = |name: &str, field: &str| format!("classes.{name}.{field}");
    for (name, class) in &record.classes {
        for (field, told) in [("times_ns", &class.times_ns), ("service_ns", &class.service_ns)] {
            told.iter().try_for_each(|told| histogram(&of_class(name, field), told))?;
        }
    }
    if !matches!(record.status, Status::Ok | Status::Invalid) {
        return Ok(());
    }
    let counted = |field: &str, told: Option<&Distribution>, counted: u64| match told {
        Some(told) if told.count != counted => {
            let (held, counted) = (format_count(told.count), format_count(counted));
            Err(anyhow!("{field} holds {held} values where the ledger counts {counted}"))
        }
        _ => Ok(()),
    };
    let ledger = &record.ledger;
    let timed = ledger.completed + ledger.timed_out;
    for (channel, of_ledger) in
        [(Channel::Service, timed), (Channel::Response, timed), (Channel::Failed, ledger.failed)]
    {
        counted(channel.field(), record.histogram(channel), of_ledger)?;
    }
    for (name, class) in &record.classes {
        let timed = class.ledger.completed + class.ledger.timed_out;
        counted(&of_class(name, "times_ns"), class.times_ns.as_ref(), timed)?;
        counted(&of_class(name, "service_ns"), class.service_ns.as_ref(), timed)?;
    }
    Ok(())
}

/// Whether a distribution says of its histogram what that holds.
fn histogram(field: &str, told: &Distribution) -> anyhow::Result<()> {
    let pairs = decode_sparse(&told.hdr).with_context(|| field.to_string())?;
    let held = pairs.iter().try_fold(0u64, |sum, (_, count)| sum.checked_add(*count));
    let held = held.unwrap_or(u64::MAX);
    if held != told.count {
        let (held, told) = (format_count(held), format_count(told.count));
        bail!("{field} says {told} values and its histogram holds {held}");
    }
    let Some((first, last)) = pairs.first().zip(pairs.last()) else { return Ok(()) };
    let count = held as f64;
    // As far as any layout tells values apart.
    let apart = |a: u64, b: u64| a.abs_diff(b) > a.max(b) / 50;
    for (name, told, held) in
        [("least value", told.min, first.0), ("greatest value", told.max, last.0)]
    {
        if apart(told, held) {
            return Err(misfit(field, name, told, held));
        }
    }
    for (name, q, told) in [
        ("median", 0.5, told.p50),
        ("p90", 0.9, told.p90),
        ("p99", 0.99, told.p99),
        ("p99.9", 0.999, told.p99_9),
    ] {
        let rank = (q * count).ceil() as u64;
        // A rank on the edge of a bucket may fall on either side of it.
        let (low, high) = (at_rank(&pairs, rank.saturating_sub(1)), at_rank(&pairs, rank + 1));
        if (told < low && apart(told, low)) || (told > high && apart(told, high)) {
            return Err(misfit(field, name, told, at_rank(&pairs, rank)));
        }
    }
    let sum: f64 = pairs.iter().map(|(value, count)| *value as f64 * *count as f64).sum();
    let mean = sum / count;
    if (told.mean - mean).abs() > told.mean.max(mean) / 50.0 + 1.0 {
        return Err(misfit(field, "mean", told.mean as u64, mean as u64));
    }
    Ok(())
}

fn misfit(field: &str, name: &str, told: u64, held: u64) -> anyhow::Error {
    let (told, held) = (format_count(told), format_count(held));
    anyhow!("{field} says that {told} ns is its {name}, and its histogram {held} ns")
}

/// The value of the sample of a rank, from 1.
fn at_rank(pairs: &[(u64, u64)], rank: u64) -> u64 {
    let mut before = 0;
    let found = pairs.iter().find(|(_, count)| {
        before += count;
        before >= rank
    });
    found.or(pairs.last()).map_or(0, |(value, _)| *value)
}

/// Whether figures that follow from others are what those come to, and no count is above the one that
/// it is a part of. Rows of version 1 followed other rules.
fn derived(record: &TrialRecord) -> anyhow::Result<()> {
    if record.format_version < FORMAT_VERSION {
        return Ok(());
    }
    let mut again = record.clone();
    again.derive();
    let per_request = |of: &TrialRecord| of.server.as_ref().map_or(0.0, |s| s.cpu.per_request_ns);
    let syscalls = |of: &TrialRecord| of.events.syscalls_per_request.unwrap_or(0.0);
    let server_calls = |of: &TrialRecord| {
        of.server.as_ref().and_then(|s| s.events.syscalls_per_request).unwrap_or(0.0)
    };
    for (field, told, sums) in [
        ("achieved_per_s", record.achieved_per_s, again.achieved_per_s),
        ("cpu.per_request_ns", record.cpu.per_request_ns, again.cpu.per_request_ns),
        ("server.cpu.per_request_ns", per_request(record), per_request(&again)),
        ("events.syscalls_per_request", syscalls(record), syscalls(&again)),
        ("server.events.syscalls_per_request", server_calls(record), server_calls(&again)),
    ] {
        if (told - sums).abs() > ROUNDING * told.abs().max(sums.abs()) {
            bail!("{field} is {told}, and what it follows from comes to {sums}");
        }
    }
    // Requests that an interruption cut off are counted at other instants.
    if !matches!(record.status, Status::Ok | Status::Invalid) {
        return Ok(());
    }
    let (window, warmup) = (&record.ledger, &record.warmup);
    let completed = window.completed.saturating_add(warmup.completed) as f64;
    let ended = |ledger: &Ledger| ledger.planned - ledger.unsent;
    let ended = ended(window).saturating_add(ended(warmup)) as f64;
    for (field, part, of, whole) in [
        ("completed_in_window", record.completed_in_window as f64, "completed", completed),
        ("rate_requests", record.rate_requests, "completed", completed),
        ("ended_between_edges", record.ended_between_edges as f64, "ended", ended),
    ] {
        if part > whole * (1.0 + ROUNDING) {
            bail!("{field} is {part}, but only {whole} requests {of}");
        }
    }
    for (name, class) in &record.classes {
        if class.ledger.planned > window.planned {
            let (part, whole) = (class.ledger.planned, window.planned);
            bail!("class {name} has {part} requests, but the trial only {whole}");
        }
    }
    Ok(())
}

/// Whether a cell has something of everything that figures are divided by.
pub(super) fn counts(cell: &Cell) -> anyhow::Result<()> {
    let all =
        [("lanes", cell.lanes), ("processes", cell.processes), ("total_lanes", cell.total_lanes)];
    match all.into_iter().find(|(_, count)| *count == 0) {
        Some((name, _)) => Err(anyhow!("a cell with no {name}")),
        None => Ok(()),
    }
}

/// What must hold of a record on both sides of the file.
pub(super) fn record(record: &TrialRecord) -> anyhow::Result<()> {
    for (name, ledger) in [("ledger", &record.ledger), ("warm-up ledger", &record.warmup)] {
        if !ledger.balances() {
            bail!("the {name} does not balance: {ledger:?}");
        }
    }
    for (name, class) in &record.classes {
        if !class.ledger.balances() {
            bail!("the ledger of class {name} does not balance: {:?}", class.ledger);
        }
    }
    counts(&record.cell)?;
    let rates =
        [("achieved_per_s", record.achieved_per_s), ("rate_requests", record.rate_requests)];
    let means = record.histograms().map(|(channel, told)| (channel.field(), told.mean));
    for (name, number) in rates.into_iter().chain(means) {
        // No machine does a request in less than a femtosecond, nor has time for more than 1e24.
        if !(0.0..1e24).contains(&number) {
            bail!("{name} is {number:?}, which is impossible");
        }
    }
    if record.errors.total() != record.ledger.failed {
        bail!(
            "the error columns do not add up to the {} failed requests: {:?}",
            record.ledger.failed,
            record.errors
        );
    }
    Ok(())
}

/// Whether each number of a row is one that a trial can have: sums over many rows hold as many of them.
fn numbers(value: &Value, field: &str) -> anyhow::Result<()> {
    let named = |name: &str| match field {
        "" => name.to_string(),
        _ => format!("{field}.{name}"),
    };
    match value {
        Value::Number(number) => {
            let it = number.as_f64().unwrap_or(f64::NAN);
            // A whole number below zero is a difference, by the type of its field.
            let least = if number.is_i64() { -MOST } else { 0.0 };
            match it >= least && it < MOST {
                true => Ok(()),
                false => Err(anyhow!("{field} is {number}, which is impossible")),
            }
        }
        Value::Object(fields) => fields
            .iter()
            // Wall clocks, and limits, of which some are none.
            .filter(|(name, _)| !name.ends_with("_unix_ns") && *name != "gates")
            .try_for_each(|(name, value)| numbers(value, &named(name))),
        Value::Array(items) => items.iter().try_for_each(|item| numbers(item, field)),
        _ => Ok(()),
    }
}
