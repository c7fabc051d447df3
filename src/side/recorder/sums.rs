//! What was recorded, summed over the shards.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use super::{Recorder, RecorderShard, SHARE_UNIT, STATUSES};
use crate::format::histogram::{self, HdrError};
use crate::format::{Bytes, Channel, ClassUse, ErrorKind, Errors, MinMax};
use crate::side::classes;
use crate::side::latency::AtomicHistogram;

impl Recorder {
    /// What became of a class of which `planned` requests were asked for; `None` where what was
    /// started is the plan.
    pub fn class(&self, class: usize, planned: Option<u64>) -> Result<ClassUse, HdrError> {
        classes::sum(self.shards.iter().map(|shard| &shard.classes[class]), planned)
    }

    /// Σ over the completed requests that reach across an edge of the window of the share of their time
    /// in service that lies inside.
    pub fn shares(&self) -> f64 {
        self.sum(|s| &s.shares) as f64 / SHARE_UNIT
    }

    /// Σ over requests of the warm-up of the time in service inside the window, in nanoseconds.
    pub(crate) fn warmup_in_service_ns(&self) -> u64 {
        self.warmup_in_service_ns.load(Relaxed)
    }

    pub fn tls(&self) -> Option<&str> {
        self.tls.get().map(String::as_str)
    }

    fn sum(&self, field: impl Fn(&RecorderShard) -> &AtomicU64) -> u64 {
        self.shards.iter().map(|s| field(s).load(Relaxed)).sum()
    }

    pub fn errors(&self) -> Errors {
        Errors::of(|kind| self.sum(|s| &s.errors[kind as usize]))
    }

    pub fn statuses(&self) -> BTreeMap<String, u64> {
        let count = |code: usize| (code.to_string(), self.sum(|s| &s.statuses[code]));
        (0..STATUSES).map(count).filter(|(_, n)| *n > 0).collect()
    }

    pub fn bytes(&self) -> Bytes {
        Bytes { sent: self.sum(|s| &s.bytes_sent), received: self.sum(|s| &s.bytes_received) }
    }

    pub fn reconnects(&self) -> u64 {
        self.sum(|s| &s.reconnects)
    }

    /// Requests of the measured phase that completed after the window's end.
    pub(crate) fn completed_late(&self) -> u64 {
        self.sum(|s| &s.completed_late)
    }

    /// Requests of the measured phase that started after the window's end.
    pub(crate) fn started_late(&self) -> u64 {
        self.sum(|s| &s.started_late)
    }

    /// Fewest and most requests of one lane; zeros when no lane ended.
    pub(crate) fn served_range(&self) -> MinMax {
        let max = self.most.load(Relaxed);
        MinMax { min: self.fewest.load(Relaxed).min(max), max }
    }

    /// When the last request of the measured phase ended; 0 when none did.
    pub(crate) fn last_end(&self) -> u64 {
        self.last_end.load(Relaxed)
    }

    /// Σ over requests of the time in service before the window's end, in nanoseconds.
    pub(crate) fn in_service_ns(&self) -> u64 {
        let service: f64 = self
            .shards
            .iter()
            .filter_map(|s| s.histograms[Channel::Service as usize].as_ref())
            .map(AtomicHistogram::to_hdr)
            .map(|h| h.mean() * h.len() as f64)
            .sum();
        let late = self.sum(|s| &s.late_service_ns) as f64;
        (service - late).max(0.0) as u64 + self.sum(|s| &s.in_service_other_ns)
    }

    /// Merged histograms, those with samples only.
    pub fn histograms(&self) -> BTreeMap<Channel, hdrhistogram::Histogram<u64>> {
        let merged = |channel: &Channel| {
            let mut merged = histogram::empty();
            for shard in &self.shards {
                shard.histograms[*channel as usize].as_ref()?.add_to(&mut merged);
            }
            (!merged.is_empty()).then_some((*channel, merged))
        };
        Channel::ALL.iter().filter_map(merged).collect()
    }

    pub fn error_samples(&self) -> BTreeMap<String, String> {
        ErrorKind::ALL
            .iter()
            .zip(&self.samples)
            .filter_map(|(kind, sample)| Some((kind.name().to_string(), sample.get()?.clone())))
            .collect()
    }
}
