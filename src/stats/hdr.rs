//! Percentiles of merged histograms, and when they may be printed.

use hdrhistogram::Histogram;

use super::clustered_share;
use crate::format::histogram::{HdrError, decode, decode_sparse};
use crate::format::{Distribution, TrialRecord};
use crate::units::format_ns;

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
        add(&mut sum, decode(&distribution.hdr)?)?;
    }
    Ok(sum)
}

/// Adds a histogram to what was added up before, whatever the layouts.
pub(crate) fn add(sum: &mut Option<Histogram<u64>>, next: Histogram<u64>) -> Result<(), HdrError> {
    let Some(sum) = sum else {
        *sum = Some(next);
        return Ok(());
    };
    sum.auto(true);
    sum.add(&next).map_err(|e| HdrError(e.to_string()))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Percentile {
    pub ns: u64,
    /// Whether it may fall on a request that was given up: the true value is this or more.
    pub lower_bound: bool,
}

/// With `≥` before one that falls on a request that was given up.
impl std::fmt::Display for Percentile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}", if self.lower_bound { "≥ " } else { "" }, format_ns(self.ns as f64))
    }
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

/// The requests of several trials together; those that were lost took for ever.
pub(crate) struct Times {
    merged: Histogram<u64>,
    planned: u64,
    completed: u64,
    /// Requests that were given up and may stand below others in the histogram.
    given_up: u64,
    trials: Vec<OfTrial>,
}

struct OfTrial {
    counts: Vec<(u64, u64)>,
    completed: u64,
    planned: u64,
}

impl Times {
    /// `None` where no trial has the histogram, or one cannot be read.
    pub(crate) fn of(
        trials: &[&TrialRecord],
        field: impl Fn(&TrialRecord) -> Option<&Distribution>,
    ) -> Option<Times> {
        let merged = merge(trials.iter().copied(), &field).ok()??;
        // Of service times, what was given up is above all others.
        let below = |t: &&TrialRecord| t.response_ns.as_ref().map_or(0, |_| t.ledger.timed_out);
        let of = |t: &&TrialRecord| {
            let counts = decode_sparse(&field(t)?.hdr).ok()?;
            Some(OfTrial { counts, completed: t.ledger.completed, planned: t.ledger.planned })
        };
        Some(Times {
            merged,
            planned: trials.iter().map(|t| t.ledger.planned).sum(),
            completed: trials.iter().map(|t| t.ledger.completed).sum(),
            given_up: trials.iter().map(below).sum(),
            trials: trials.iter().filter_map(of).collect(),
        })
    }

    /// The quantile over all planned requests; `None` where it falls on one that was lost.
    pub(crate) fn at(&self, q: f64) -> Option<u64> {
        let rank = ((q * self.planned as f64 - 1e-6).ceil().max(1.0) as u64).min(self.planned);
        if rank > self.completed {
            return None;
        }
        let rank = (rank + self.given_up).min(self.merged.len());
        Some(self.merged.value_at_quantile(rank as f64 / self.merged.len().max(1) as f64))
    }

    /// Of each trial, the requests that took at most so long, and all.
    pub(crate) fn within(&self, ns: u64) -> Vec<(u64, u64)> {
        let of = |t: &OfTrial| {
            let within = t.counts.iter().take_while(|(value, _)| *value <= ns);
            (within.map(|(_, count)| count).sum::<u64>().min(t.completed), t.planned)
        };
        self.trials.iter().map(of).collect()
    }

    /// An interval of a quantile over trials: that of the share of requests within it, read off the
    /// merged histogram (Woodruff 1952). An end is `None` where it falls on a lost request.
    pub(crate) fn interval(&self, q: f64) -> (Option<u64>, Option<u64>) {
        // Where it falls on a lost request, the last that was not lost. Many may have taken as long
        // as the one at the quantile: how the trials differ is seen on either side of it.
        let point = self.at(q).unwrap_or(self.merged.max());
        let reach = [point, self.merged.lowest_equivalent(point).saturating_sub(1)]
            .into_iter()
            .filter_map(|ns| clustered_share(&self.within(ns)))
            .fold(0.0, |most, (_, reach)| f64::max(most, reach));
        (self.at((q - reach).max(0.0)), self.at((q + reach).min(1.0)))
    }
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
