//! Parts of a trial → the trial: workers of one machine, or shards of several, added up field by
//! field by the rules that stand beside the fields; see [`super::rule`].

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use super::histogram::{self, HdrError};
use super::{Channel, TrialRecord};

/// Values and counts of a part's histograms.
pub type Times = BTreeMap<Channel, Vec<(u64, u64)>>;

/// Unpacks every histogram of a record.
pub fn times(record: &TrialRecord) -> Result<Times, HdrError> {
    record.histograms().map(|(c, d)| Ok((c, histogram::decode_sparse(&d.hdr)?))).collect()
}

/// What the parts of a trial add up to so far.
pub struct Sum {
    /// The sum; what it says of itself (identity, status, gates) is the caller's.
    pub total: TrialRecord,
    histograms: BTreeMap<Channel, Histogram<u64>>,
    /// By class; service times of an open loop apart from the others.
    classes: BTreeMap<(String, bool), Histogram<u64>>,
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
            classes: BTreeMap::new(),
            parts: 0,
            busy_ns: BTreeMap::new(),
            occupied: (Some(0.0), 0.0),
        }
    }

    /// Adds a part with its unpacked histograms, measured on a machine of this name.
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
        for (name, class) in &part.classes {
            for (service, times) in [(false, &class.times_ns), (true, &class.service_ns)] {
                let Some(times) = times else { continue };
                let sum = self.classes.entry((name.clone(), service));
                let sum = sum.or_insert_with(histogram::empty);
                for (value, count) in histogram::decode_sparse(&times.hdr)? {
                    sum.record_n(value.min(histogram::HIGHEST_NS), count)
                        .map_err(|e| HdrError(format!("class {name}: {e}")))?;
                }
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
    pub fn finish(mut self) -> Result<TrialRecord, HdrError> {
        for (channel, sum) in &self.histograms {
            *self.total.histogram_mut(*channel) = Some(histogram::summarize(sum)?);
        }
        for ((name, service), sum) in &self.classes {
            if let Some(class) = self.total.classes.get_mut(name) {
                let times = if *service { &mut class.service_ns } else { &mut class.times_ns };
                *times = Some(histogram::summarize(sum)?);
            }
        }
        self.total.cpu.machine_busy_ns = self.busy_ns.into_values().sum();
        self.total.occupancy = self.occupied.0.map(|sum| sum / self.occupied.1.max(1.0));
        self.total.derive();
        Ok(self.total)
    }
}
