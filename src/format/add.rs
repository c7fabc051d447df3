//! Parts of a trial → the trial: workers of one machine, or shards of several, added up field by
//! field by the rules that stand beside the fields; see [`super::figures`].

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use super::histogram::{self, HdrError};
use super::{Channel, TargetUse, TrialRecord};

/// The rules. A field of the sum, the same field of a part, and whether it is the first part.
pub(crate) mod rule {
    use std::collections::BTreeMap;
    use std::ops::AddAssign;

    use super::TargetUse;

    /// Added.
    pub(crate) fn sum<T: for<'a> AddAssign<&'a T>>(total: &mut T, part: &T, _first: bool) {
        *total += part;
    }

    /// Added, where nothing is not the same as no part: the first part is taken as it is.
    pub(crate) fn costs<T: for<'a> AddAssign<&'a T> + Clone>(t: &mut T, part: &T, first: bool) {
        if first { t.clone_from(part) } else { *t += part }
    }

    /// A sum that is known only when every part is.
    pub(crate) fn known<T>(total: &mut Option<T>, part: &Option<T>, first: bool)
    where
        T: for<'a> AddAssign<&'a T> + Clone,
    {
        match (&mut *total, part) {
            _ if first => total.clone_from(part),
            (Some(total), Some(part)) => *total += part,
            _ => *total = None,
        }
    }

    /// What targets were used for: a part without a target of its own adds nothing.
    pub(crate) fn served(total: &mut TargetUse, part: &TargetUse, _first: bool) {
        if part.processes > 0 {
            costs(total, part, total.processes == 0);
        }
    }

    /// The largest.
    pub(crate) fn most<T: PartialOrd + Copy>(total: &mut T, part: &T, _first: bool) {
        if *part > *total {
            *total = *part;
        }
    }

    /// The smallest.
    pub(crate) fn least<T: PartialOrd + Copy>(total: &mut T, part: &T, _first: bool) {
        if *part < *total {
            *total = *part;
        }
    }

    /// The earliest of those that are known.
    pub(crate) fn earliest(total: &mut Option<u64>, part: &Option<u64>, _first: bool) {
        *total = (*total).into_iter().chain(*part).min();
    }

    /// The first that is known.
    pub(crate) fn either<T: Clone>(total: &mut Option<T>, part: &Option<T>, _first: bool) {
        if total.is_none() {
            total.clone_from(part);
        }
    }

    /// Equal in all parts that say it.
    pub(crate) fn same(total: &mut String, part: &String, _first: bool) {
        if total.is_empty() {
            total.clone_from(part);
        } else if !part.is_empty() && total != part {
            *total = "differs between shards".into();
        }
    }

    /// Remarks by field, the first on each.
    pub(crate) fn remarks(
        total: &mut BTreeMap<String, String>,
        part: &BTreeMap<String, String>,
        _first: bool,
    ) {
        for (field, why) in part {
            total.entry(field.clone()).or_insert_with(|| why.clone());
        }
    }

    /// Worked out when all parts are there.
    pub(crate) fn derived<T>(_total: &mut T, _part: &T, _first: bool) {}

    /// A judgement on the whole, which whoever adds the parts makes.
    pub(crate) fn judged<T>(_total: &mut T, _part: &T, _first: bool) {}
}

/// Values and counts of a part's histograms.
pub type Times = BTreeMap<Channel, Vec<(u64, u64)>>;

/// Unpacks every histogram of a record.
///
/// # Errors
/// One that cannot be read.
pub fn times(record: &TrialRecord) -> Result<Times, HdrError> {
    record.histograms().map(|(c, d)| Ok((c, histogram::decode_sparse(&d.hdr)?))).collect()
}

/// What the parts of a trial add up to so far.
pub struct Sum {
    /// The sum; what it says of itself (identity, status, gates) is the caller's.
    pub total: TrialRecord,
    histograms: BTreeMap<Channel, Histogram<u64>>,
    parts: u32,
    /// Busy time by machine: every part sees all of its machine.
    busy_ns: BTreeMap<String, Option<u64>>,
    /// Σ occupancy × lanes, and lanes.
    occupied: (Option<f64>, f64),
}

impl Sum {
    /// A sum without parts, that starts from a record without figures.
    pub fn new(blank: TrialRecord) -> Sum {
        Sum {
            total: blank,
            histograms: BTreeMap::new(),
            parts: 0,
            busy_ns: BTreeMap::new(),
            occupied: (Some(0.0), 0.0),
        }
    }

    /// Adds a part with its unpacked histograms, measured on a machine of this name.
    ///
    /// # Errors
    /// A histogram whose counts overflow.
    pub fn add(&mut self, part: &TrialRecord, times: Times, machine: &str) -> Result<(), HdrError> {
        self.total.add_part(part, self.parts == 0);
        self.parts += 1;
        for (channel, counts) in times {
            let sum = self.histograms.entry(channel).or_insert_with(histogram::empty);
            for (value, count) in counts {
                // Beyond an hour all times are one.
                sum.record_n(value.min(histogram::HIGHEST_NS), count)
                    .map_err(|e| HdrError(format!("{}: {e}", channel.field())))?;
            }
        }
        let (lanes, here) = (f64::from(part.cell.total_lanes), part.cpu.machine_busy_ns);
        let busy = self.busy_ns.entry(machine.into()).or_insert(here);
        *busy = busy.zip(here).map(|(a, b)| a.max(b));
        self.occupied.0 = self.occupied.0.zip(part.occupancy).map(|(sum, o)| sum + o * lanes);
        self.occupied.1 += lanes;
        Ok(())
    }

    /// The sum of all parts.
    ///
    /// # Errors
    /// A histogram whose counts overflow.
    pub fn finish(mut self) -> Result<TrialRecord, HdrError> {
        for (channel, sum) in &self.histograms {
            *self.total.histogram_mut(*channel) = Some(histogram::summarize(sum)?);
        }
        self.total.cpu.machine_busy_ns = self.busy_ns.into_values().sum();
        self.total.occupancy = self.occupied.0.map(|sum| sum / self.occupied.1.max(1.0));
        self.total.derive();
        Ok(self.total)
    }
}
