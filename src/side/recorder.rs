//! One recorder per worker, the same for every engine: any thread records, [`sums`] reads.
//!
//! Memory is fixed at creation: it depends on the CPUs, never on the engine or the lanes, and
//! every page is touched before the baseline is read.

mod sums;

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread::{self, ThreadId};

use super::counters::{Counters, add};
use super::latency::AtomicHistogram;
use super::moments::{Ended, Instants};
use super::{Channel, ErrorKind, Phase, classes};
use crate::format::Kept;

const CHANNELS: usize = Channel::ALL.len();
/// A status code has three digits; readers of responses refuse others.
const STATUSES: usize = 1_000;
const ERROR_KINDS: usize = ErrorKind::ALL.len();

/// What a whole request counts as, where parts of requests are added up: a million lanes' parts fit a
/// counter, and none is off by a billionth.
const SHARE_UNIT: f64 = (1_u64 << 32) as f64;

/// What one CPU's lanes recorded. A lane keeps to one shard; shards never share a cache line.
#[repr(align(128))]
struct RecorderShard {
    /// By the number of the channel; `None` where the plan has no use for it.
    histograms: [Option<AtomicHistogram>; CHANNELS],
    errors: [AtomicU64; ERROR_KINDS],
    statuses: [AtomicU64; STATUSES],
    /// By the number of the class; empty where requests have no names.
    classes: Vec<classes::Class>,
    bytes_sent: AtomicU64,
    bytes_received: AtomicU64,
    reconnects: AtomicU64,
    /// Completed in the measured phase, but after the window's end.
    completed_late: AtomicU64,
    /// Shares inside the window of completed requests that reach across one of its edges, in units of
    /// [`SHARE_UNIT`].
    shares: AtomicU64,
    /// Started in the measured phase, but after the window's end.
    started_late: AtomicU64,
    /// Time in service before the window's end of failed and late requests, whose service time
    /// is not in the service histogram or reaches beyond the window.
    in_service_other_ns: AtomicU64,
    /// Service time of late completions, which the service histogram holds whole.
    late_service_ns: AtomicU64,
}

pub struct Recorder {
    shards: Vec<RecorderShard>,
    counters: Counters,
    /// One thread writes each shard: in builds with debug assertions, which.
    alone: bool,
    writers: Vec<OnceLock<ThreadId>>,
    samples: [OnceLock<String>; ERROR_KINDS],
    tls: OnceLock<String>,
    fewest: AtomicU64,
    most: AtomicU64,
    last_end: AtomicU64,
    window_start: AtomicU64,
    /// Time in service inside the window of requests of the warm-up.
    warmup_in_service_ns: AtomicU64,
}

impl Recorder {
    /// Makes `shards` shards, each with the histograms of an open or a closed loop, and touches
    /// every page of them.
    pub fn new(shards: usize, open_loop: bool, counters: Counters) -> Self {
        let histogram = |channel: usize| {
            let kept = match Channel::ALL[channel].kept() {
                Kept::Always => true,
                Kept::Open => open_loop,
                Kept::OnDemand => false,
            };
            kept.then(AtomicHistogram::new)
        };
        let zero = || AtomicU64::new(0);
        let shard = || RecorderShard {
            histograms: std::array::from_fn(histogram),
            errors: std::array::from_fn(|_| zero()),
            statuses: std::array::from_fn(|_| zero()),
            classes: Vec::new(),
            bytes_sent: zero(),
            bytes_received: zero(),
            reconnects: zero(),
            completed_late: zero(),
            shares: zero(),
            started_late: zero(),
            in_service_other_ns: zero(),
            late_service_ns: zero(),
        };
        Recorder {
            shards: (0..shards).map(|_| shard()).collect(),
            counters,
            alone: false,
            writers: Vec::new(),
            samples: std::array::from_fn(|_| OnceLock::new()),
            tls: OnceLock::new(),
            fewest: AtomicU64::new(u64::MAX),
            most: AtomicU64::new(0),
            last_end: AtomicU64::new(0),
            window_start: AtomicU64::new(u64::MAX),
            warmup_in_service_ns: AtomicU64::new(0),
        }
    }

    /// Says that one thread writes each shard, which spares what keeps several apart.
    #[must_use]
    pub(crate) fn written_alone(mut self, alone: bool) -> Self {
        self.alone = alone;
        self.writers.resize_with(self.shards.len(), OnceLock::new);
        self.counters.written_alone(alone);
        self
    }

    /// Makes room for channels that only some plans need, and touches it; others have theirs.
    #[must_use]
    pub fn with(mut self, channels: &[Channel]) -> Self {
        for shard in &mut self.shards {
            for channel in channels {
                shard.histograms[*channel as usize].get_or_insert_default();
            }
        }
        self
    }

    #[must_use]
    pub fn with_classes(mut self, count: usize) -> Self {
        for shard in &mut self.shards {
            let open_loop = shard.histograms[Channel::Response as usize].is_some();
            shard.classes.resize_with(count, || classes::Class::new(open_loop));
        }
        self
    }

    /// A request of a class is about to be written.
    #[inline]
    pub(crate) fn class_started(&self, shard: usize, class: usize) {
        self.shards[shard].classes[class].started();
    }

    /// A request of a class ended: how it failed, or that it did not.
    #[inline]
    pub(crate) fn class_ended(&self, shard: usize, class: usize, how: Ended, at: Instants) {
        let class = &self.shards[shard].classes[class];
        match how {
            Ended::Completed => class.completed(at),
            Ended::TimedOut => class.timed_out(at),
            Ended::Failed => class.failed(),
        }
    }

    /// Says when the window begins, before any lane is let go.
    pub(crate) fn set_window_start(&self, at: u64) {
        self.window_start.store(at, Relaxed);
    }

    /// A request of the warm-up ended, perhaps inside the window: for how long it was in it.
    fn carried_over(&self, at: Instants, window_end: u64) -> u64 {
        let begun = self.window_start.load(Relaxed).max(at.start);
        let inside = at.end.min(window_end).saturating_sub(begun);
        if inside > 0 {
            self.warmup_in_service_ns.fetch_add(inside, Relaxed);
        }
        inside
    }

    /// A completed request was inside the window for a part of its time in service.
    fn share(&self, shard: usize, inside: u64, service: u64) {
        if inside > 0 {
            let share = inside as f64 / service.max(inside) as f64;
            self.shards[shard].shares.fetch_add((share * SHARE_UNIT) as u64, Relaxed);
        }
    }

    /// Number of shards; a lane uses shard `lane % shards`.
    pub fn shards(&self) -> usize {
        self.shards.len()
    }

    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    #[inline]
    fn record(&self, shard: usize, channel: Channel, ns: u64) {
        if let Some(histogram) = &self.shards[shard].histograms[channel as usize] {
            histogram.record_as(ns, self.alone);
        }
    }

    /// A request is about to be written (or its connect failed).
    #[inline]
    pub fn started(&self, shard: usize, phase: Phase, start: u64, window_end: u64) {
        if cfg!(debug_assertions) && self.alone {
            let me = thread::current().id();
            assert_eq!(*self.writers[shard].get_or_init(|| me), me, "another thread's shard");
        }
        self.counters.started(shard, phase);
        if start >= window_end && phase == Phase::Measured {
            self.shards[shard].started_late.fetch_add(1, Relaxed);
        }
    }

    /// An answer came whole, with this status code.
    #[inline]
    pub fn answered(&self, shard: usize, phase: Phase, status: u16) {
        if let Some(count) = self.shards[shard].statuses.get(usize::from(status))
            && phase == Phase::Measured
        {
            add(count, 1, self.alone);
        }
    }

    /// A request completed: `sent` and `received` bytes, first response byte at `first_byte`.
    #[inline]
    pub fn completed(
        &self,
        shard: usize,
        phase: Phase,
        at: Instants,
        first_byte: u64,
        (sent, received): (u64, u64),
        window_end: u64,
    ) {
        let service = at.end.saturating_sub(at.start);
        if phase == Phase::Measured {
            let me = &self.shards[shard];
            self.record(shard, Channel::Service, service);
            self.record(shard, Channel::FirstByte, first_byte.saturating_sub(at.start));
            add(&me.bytes_sent, sent, self.alone);
            add(&me.bytes_received, received, self.alone);
            if let Some(intended) = at.intended {
                self.record_open(shard, at, intended);
            }
            if at.end > window_end {
                let inside = window_end.saturating_sub(at.start);
                me.completed_late.fetch_add(1, Relaxed);
                me.late_service_ns.fetch_add(service, Relaxed);
                me.in_service_other_ns.fetch_add(inside, Relaxed);
                self.share(shard, inside, service);
            }
        } else {
            let inside = self.carried_over(at, window_end);
            self.share(shard, inside, service);
        }
        self.counters.completed(shard, phase);
    }

    /// The delays of an open loop.
    #[inline]
    fn record_open(&self, shard: usize, at: Instants, intended: u64) {
        self.record(shard, Channel::Response, at.end.saturating_sub(intended));
        self.record_start(shard, at, intended);
    }

    #[inline]
    fn record_start(&self, shard: usize, at: Instants, intended: u64) {
        self.record(shard, Channel::StartDelay, at.start.saturating_sub(intended));
        self.record(shard, Channel::PacerDelay, at.released.saturating_sub(intended));
        self.record(shard, Channel::LaneWait, at.start.saturating_sub(at.released));
    }

    /// A request was given up at `at.end`: its times so far are lower bounds and are recorded.
    pub fn timed_out(&self, shard: usize, phase: Phase, at: Instants, window_end: u64) {
        if phase == Phase::Measured {
            let service = at.end.saturating_sub(at.start);
            self.record(shard, Channel::Service, service);
            if let Some(intended) = at.intended {
                self.record_open(shard, at, intended);
            }
            if at.end > window_end {
                let me = &self.shards[shard];
                me.late_service_ns.fetch_add(service, Relaxed);
                me.in_service_other_ns.fetch_add(window_end.saturating_sub(at.start), Relaxed);
            }
        } else {
            self.carried_over(at, window_end);
        }
        self.counters.timed_out(shard, phase);
    }

    /// A request failed at `at.end`. Its time goes to `failed_ns` only, so that a refused
    /// connection after 50 µs improves nothing; its start delay is a fact all the same.
    pub fn failed(
        &self,
        shard: usize,
        phase: Phase,
        at: Instants,
        kind: ErrorKind,
        message: &str,
        window_end: u64,
    ) {
        if phase == Phase::Measured {
            self.samples[kind as usize].get_or_init(|| message.to_string());
            let me = &self.shards[shard];
            self.record(shard, Channel::Failed, at.end.saturating_sub(at.start));
            if let Some(intended) = at.intended {
                self.record_start(shard, at, intended);
            }
            // A connect that failed was never in service, and the counters never saw it in flight.
            if kind != ErrorKind::Connect {
                me.in_service_other_ns
                    .fetch_add(at.end.min(window_end).saturating_sub(at.start), Relaxed);
            }
            me.errors[kind as usize].fetch_add(1, Relaxed);
        } else if kind != ErrorKind::Connect {
            self.carried_over(at, window_end);
        }
        self.counters.failed(shard, phase);
    }

    /// A connection was made, at set-up or (`again`) later.
    pub fn connected(&self, shard: usize, ns: u64, again: bool) {
        self.record(shard, Channel::Connect, ns);
        if again {
            self.shards[shard].reconnects.fetch_add(1, Relaxed);
        }
    }

    /// A TLS handshake was made after a connect, and this was agreed on; see
    /// [`Recorder::with`].
    pub(crate) fn shook_hands(
        &self,
        shard: usize,
        ns: u64,
        agreed: Option<impl std::fmt::Display>,
    ) {
        self.record(shard, Channel::Handshake, ns);
        if let Some(agreed) = agreed {
            self.tls.get_or_init(|| agreed.to_string());
        }
    }

    /// A step of a request was carried out in `ns`; one that failed is told by its request.
    #[inline]
    pub fn step(&self, shard: usize, phase: Phase, channel: Channel, ns: u64) {
        if phase == Phase::Measured {
            self.record(shard, channel, ns);
        }
    }

    /// The heartbeat ticked, `ns` late.
    pub fn beat(&self, ns: u64) {
        self.record(0, Channel::Heartbeat, ns);
    }

    /// A lane ended after `served` requests of the measured phase, the last at `last_end`.
    pub fn lane_ended(&self, served: u64, last_end: u64) {
        self.last_end.fetch_max(last_end, Relaxed);
        self.fewest.fetch_min(served, Relaxed);
        self.most.fetch_max(served, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instants(i: u64) -> Instants {
        Instants { intended: Some(i), released: i + 5, start: i + 7, end: i + 1_000 * (i % 90) }
    }

    /// What is recorded does not depend on whether writers are kept apart.
    #[test]
    fn a_lone_writer_records_what_several_do() {
        let recorded = |alone| {
            let (counters, _page) = Counters::create(2).expect("a page");
            let recorder = Recorder::new(2, true, counters).written_alone(alone);
            for i in 1..3_000 {
                let shard = (i % 2) as usize;
                let phase = if i < 100 { Phase::Warmup } else { Phase::Measured };
                recorder.started(shard, phase, i, 2_500);
                recorder.answered(shard, phase, 200 + (i % 3) as u16);
                let at = instants(i);
                match i % 7 {
                    0 => recorder.failed(shard, phase, at, ErrorKind::Read, "cut", 2_500),
                    1 => recorder.timed_out(shard, phase, at, 2_500),
                    _ => recorder.completed(shard, phase, at, at.end - 1, (i, 2 * i), 2_500),
                }
            }
            let counts = [Phase::Warmup, Phase::Measured].map(|p| recorder.counters().read(p));
            (counts, recorder.statuses(), recorder.bytes(), recorder.histograms())
        };
        let [alone, shared] = [true, false].map(recorded);
        assert_eq!((alone.0, &alone.1, alone.2), (shared.0, &shared.1, shared.2));
        assert_eq!(alone.3, shared.3);
        assert_eq!(alone.0[1].started, 2_900);
    }
}
