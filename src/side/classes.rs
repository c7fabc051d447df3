//! What becomes of each named class of requests: the same for every engine, made before the baseline.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::Instants;
use super::latency::AtomicHistogram;
use crate::format::histogram::{self, HdrError};
use crate::format::{ClassUse, Ledger};

/// What one shard recorded of one class in the measured phase.
#[derive(Default)]
pub(super) struct Class {
    times: AtomicHistogram,
    /// Of an open loop, where service is only a part of the time.
    service: Option<AtomicHistogram>,
    started: AtomicU64,
    completed: AtomicU64,
    failed: AtomicU64,
}

impl Class {
    pub(super) fn new(open_loop: bool) -> Class {
        Class { service: open_loop.then(AtomicHistogram::new), ..Class::default() }
    }

    #[inline]
    pub(super) fn started(&self) {
        self.started.fetch_add(1, Relaxed);
    }

    #[inline]
    pub(super) fn completed(&self, at: Instants) {
        self.timed_out(at);
        self.completed.fetch_add(1, Relaxed);
    }

    /// What started and neither completed nor failed has timed out: it is counted by that alone.
    pub(super) fn timed_out(&self, at: Instants) {
        self.times.record(at.end.saturating_sub(at.intended.unwrap_or(at.start)));
        if let Some(service) = &self.service {
            service.record(at.end.saturating_sub(at.start));
        }
    }

    pub(super) fn failed(&self) {
        self.failed.fetch_add(1, Relaxed);
    }
}

/// Adds up the shards of a class of which `planned` requests were asked for; `None` where what was
/// started is the plan.
pub(super) fn sum<'c>(
    shards: impl Iterator<Item = &'c Class>,
    planned: Option<u64>,
) -> Result<ClassUse, HdrError> {
    let (mut times, mut service) = (histogram::empty(), None);
    let (mut started, mut completed, mut failed) = (0, 0, 0);
    for shard in shards {
        shard.times.add_to(&mut times);
        if let Some(recorded) = &shard.service {
            recorded.add_to(service.get_or_insert_with(histogram::empty));
        }
        // Ends are read before starts, so that no request has ended that never started.
        completed += shard.completed.load(Relaxed);
        failed += shard.failed.load(Relaxed);
        started += shard.started.load(Relaxed);
    }
    let started = started.max(completed + failed);
    let planned = planned.unwrap_or(started).max(started);
    let ledger = Ledger {
        planned,
        completed,
        failed,
        timed_out: started - completed - failed,
        unsent: planned - started,
    };
    let service_ns = service.as_ref().map(histogram::summarize).transpose()?;
    Ok(ClassUse { ledger, times_ns: Some(histogram::summarize(&times)?), service_ns })
}
