//! Percentiles of merged histograms, and when they may be printed.

use hdrhistogram::Histogram;

use crate::format::histogram::{HdrError, decode};
use crate::format::{Distribution, TrialRecord};

/// Adds up one field's histograms over records; records without the field are passed over.
///
/// `Ok(None)` when no record has it.
pub fn merge<'a>(
    records: impl IntoIterator<Item = &'a TrialRecord>,
    field: impl Fn(&TrialRecord) -> Option<&Distribution>,
) -> Result<Option<Histogram<u64>>, HdrError> {
    let mut sum: Option<Histogram<u64>> = None;
    for record in records {
        let Some(distribution) = field(record) else { continue };
        let next = decode(&distribution.hdr)?;
        match &mut sum {
            Some(sum) => {
                sum.auto(true);
                sum.add(&next).map_err(|e| HdrError(e.to_string()))?;
            }
            None => sum = Some(next),
        }
    }
    Ok(sum)
}

/// A percentile in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Percentile {
    /// The value.
    pub ns: u64,
    /// Whether it may fall on a request that was given up: the true value is this or more.
    pub lower_bound: bool,
}

/// Samples that must stand behind a quantile before it is printed: 10 / (1 − q).
pub fn samples_needed(q: f64) -> u64 {
    // 10 / (1 − 0.99) is 1000.0000000000009 in binary.
    (10.0 / (1.0 - q) - 1e-6).ceil() as u64
}

/// The quantile `q` over `planned` requests, or `None` where too few samples stand behind it, or where
/// it falls on a request that is not in the histogram: one that failed or was never sent, and so took
/// for ever.
///
/// `gave_up_ns` is the shortest time after which a request was given up (see [`gave_up_ns`]),
/// `None` where none was: from there up, a value may be a bound rather than a time.
pub fn percentile(
    h: &Histogram<u64>,
    planned: u64,
    q: f64,
    gave_up_ns: Option<u64>,
) -> Option<Percentile> {
    // A little less, so that 0.99 × 1,000 is the 990th and not the one after.
    let rank = (q * planned.max(h.len()) as f64 - 1e-6).ceil().max(1.0) as u64;
    if h.len() < samples_needed(q) || rank > h.len() {
        return None;
    }
    let ns = h.value_at_quantile(rank as f64 / h.len() as f64);
    let lower_bound = gave_up_ns.is_some_and(|limit| ns >= limit);
    // A bound must not be rounded up by the width of its bucket.
    Some(Percentile { ns: if lower_bound { h.lowest_equivalent(ns) } else { ns }, lower_bound })
}

/// The shortest time in service after which one of `timed_out` requests was given up.
///
/// In a trial that ran to its end, timed-out requests are the longest of the service histogram: a
/// timeout fires no earlier than its time, and whatever completes has completed before. So the time
/// is read from the data, and a record without its plan is enough.
pub fn gave_up_ns(service: &Histogram<u64>, timed_out: u64) -> Option<u64> {
    if timed_out == 0 || service.is_empty() {
        return None;
    }
    let before = service.len().saturating_sub(timed_out);
    let mut seen = 0;
    let first = service.iter_recorded().find(|bucket| {
        seen += bucket.count_since_last_iteration();
        seen > before
    })?;
    Some(service.lowest_equivalent(first.value_iterated_to()))
}
