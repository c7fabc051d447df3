//! What must hold of a row, so that no reader believes what cannot be.

use serde_json::Value;

use crate::format::histogram::decode_sparse;
use crate::format::{Channel, Status, TrialRecord};
use crate::units::format_count;

/// Beyond it lies no figure of a trial: nanoseconds of thirty years, bytes of all disks.
const MOST: f64 = 1e18;

/// What must hold of a row that is read from its line.
pub(crate) fn check_row(row: &TrialRecord, line: &[u8]) -> Result<(), String> {
    record(row)?;
    numbers(&serde_json::from_slice(line).unwrap_or_default(), "")?;
    histograms(row)
}

/// What must hold of the histograms of a row that ran to its end: what they say of themselves, and
/// that those of requests hold as many as the ledger counts. One that is cut off, or of something
/// else, would be believed otherwise.
fn histograms(record: &TrialRecord) -> Result<(), String> {
    for (channel, told) in record.histograms() {
        let field = channel.field();
        let pairs = decode_sparse(&told.hdr).map_err(|e| format!("{field}: {e}"))?;
        let held = pairs.iter().try_fold(0u64, |sum, (_, count)| sum.checked_add(*count));
        let held = held.unwrap_or(u64::MAX);
        if held != told.count {
            let (held, told) = (format_count(held), format_count(told.count));
            return Err(format!("{field} says {told} values and its histogram holds {held}"));
        }
        let ends = pairs.first().zip(pairs.last());
        for (name, told, held) in ends
            .map(|(first, last)| [("least", told.min, first.0), ("greatest", told.max, last.0)])
            .into_iter()
            .flatten()
        {
            // As far as any layout tells values apart.
            if told.abs_diff(held) > told.max(held) / 50 {
                let (held, told) = (format_count(held), format_count(told));
                return Err(format!(
                    "{field} says that {told} ns is its {name} value, and its histogram {held} ns"
                ));
            }
        }
    }
    if !matches!(record.status, Status::Ok | Status::Invalid) {
        return Ok(());
    }
    let ledger = &record.ledger;
    let timed = ledger.completed + ledger.timed_out;
    for (channel, counted) in
        [(Channel::Service, timed), (Channel::Response, timed), (Channel::Failed, ledger.failed)]
    {
        let held = record.histogram(channel).map(|d| d.count);
        if held.is_some_and(|held| held != counted) {
            let (held, counted) = (format_count(held.unwrap_or(0)), format_count(counted));
            let field = channel.field();
            return Err(format!("{field} holds {held} values where the ledger counts {counted}"));
        }
    }
    Ok(())
}

/// What must hold of a record on both sides of the file.
pub(super) fn record(record: &TrialRecord) -> Result<(), String> {
    for (name, ledger) in [("ledger", &record.ledger), ("warm-up ledger", &record.warmup)] {
        if !ledger.balances() {
            return Err(format!("the {name} does not balance: {ledger:?}"));
        }
    }
    for (name, class) in &record.classes {
        if !class.ledger.balances() {
            return Err(format!("the ledger of class {name} does not balance: {:?}", class.ledger));
        }
    }
    let cell = &record.cell;
    for (name, count) in
        [("lanes", cell.lanes), ("processes", cell.processes), ("total_lanes", cell.total_lanes)]
    {
        if count == 0 {
            return Err(format!("a cell with no {name}"));
        }
    }
    let rates =
        [("achieved_per_s", record.achieved_per_s), ("rate_requests", record.rate_requests)];
    let means = record.histograms().map(|(channel, told)| (channel.field(), told.mean));
    for (name, number) in rates.into_iter().chain(means) {
        // No machine does a request in less than a femtosecond, nor has time for more than 1e24.
        if !(0.0..1e24).contains(&number) {
            return Err(format!("{name} is {number:?}, which nothing can have measured"));
        }
    }
    if record.errors.total() != record.ledger.failed {
        return Err(format!(
            "the error columns do not add up to the {} failed requests: {:?}",
            record.ledger.failed, record.errors
        ));
    }
    Ok(())
}

/// Whether each number of a row is one that a trial can have: sums over many rows hold as many of them.
fn numbers(value: &Value, field: &str) -> Result<(), String> {
    let named = |name: &str| match field {
        "" => name.to_string(),
        _ => format!("{field}.{name}"),
    };
    match value {
        Value::Number(number) => {
            let it = number.as_f64().unwrap_or(f64::NAN);
            // Parts of memory are differences, as is that of two clocks.
            let signed = field.contains("memory.split.") || field.ends_with("clock_offset_ns");
            let least = if signed { -MOST } else { 0.0 };
            match it >= least && it < MOST {
                true => Ok(()),
                false => Err(format!("{field} is {number}, which nothing can have measured")),
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
