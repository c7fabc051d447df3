//! `--metrics`: a running sweep as Prometheus text, for runs that are long enough to be watched.
//!
//! The driver serves what it has anyway: the shared page of counters, samples of the workers from
//! outside, and the record of each trial that ended. No worker knows that it is being watched.
//! Counters grow over the trials of a run; what is in flight and how late starts are is live;
//! histograms of times and the stage of errors come with each trial's end, since until then they
//! are in the worker's memory. They are classic histograms: the client library has native ones in
//! the protobuf format only, not in text.
//!
//! | metric | is |
//! |---|---|
//! | `duel_requests_started_total{cell,phase}` | requests started, `phase` is `warmup` or `measured` |
//! | `duel_requests_total{cell,phase,outcome}` | requests ended: `completed`, `failed`, `timed_out` |
//! | `duel_errors_total{cell,stage}` | failed requests of ended trials by stage |
//! | `duel_in_flight_requests{cell}` | requests under way |
//! | `duel_start_delay_seconds{cell}` | open loops: how long the next request to start has been due |
//! | `duel_request_start_delay_seconds{cell}` | histogram of ended trials, open loops |
//! | `duel_response_seconds{cell}`, `duel_service_seconds{cell}` | the same of response and service time |
//! | `duel_worker_resident_bytes{cell,worker}`, `duel_worker_cpu_seconds_total{cell,worker}` | each worker, from outside |
//! | `duel_trials_total{status}`, `duel_trials_planned` | how far the run is |
//! | `duel_run_info{…}` | name, plan hash, version and shard |

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::anyhow;
use prometheus_client::registry::Registry;

mod page;
mod server;

use super::worker::Worker;
use crate::format::histogram;
use crate::format::{Distribution, Errors, Ledger, TrialRecord};
use crate::plan::TrialPlan;
use crate::plan::schedule::{Arrival, Schedule};
use crate::plan::shard::Assignment;
use crate::plan::trace::Trace;
use crate::side::Phase;
use crate::side::counters::Counts;
use crate::side::usage::{ProcessUse, cpu_ns};

const EVERY_NS: u64 = 200_000_000;
/// Upper bounds of the histograms' buckets: 1, 2 and 5 of each decade from 10 µs to 50 s.
const BUCKETS: usize = 21;

fn bounds_ns() -> impl Iterator<Item = u64> {
    (4..11).flat_map(|decade| [1, 2, 5].map(|leads| leads * 10_u64.pow(decade)))
}

pub(crate) struct Metrics {
    state: Arc<Mutex<MetricsState>>,
    address: SocketAddr,
    /// What the plan replays, which says when requests are due.
    trace: Option<Arc<Trace>>,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct RunFacts {
    pub name: String,
    pub plan_hash: String,
    pub shard: String,
    pub trials: u64,
}

#[derive(Debug, Default)]
struct MetricsState {
    facts: RunFacts,
    cells: BTreeMap<String, OfCell>,
    statuses: BTreeMap<&'static str, u64>,
    live: Option<Live>,
}

#[derive(Debug, Default)]
struct OfCell {
    /// Of ended trials, by phase: warm-up, measured.
    ended: [Counts; 2],
    now: [Counts; 2],
    errors: Errors,
    start_delay: Buckets,
    response: Buckets,
    service: Buckets,
}

#[derive(Debug, Default)]
struct Buckets {
    /// The last one holds what is beyond every bound.
    counts: [u64; BUCKETS + 1],
    sum_ns: f64,
}

#[derive(Debug, Default)]
struct Live {
    cell: String,
    start_delay_ns: Option<u64>,
    workers: Vec<(Option<u64>, Option<u64>)>,
}

/// `9090` and `:9090` mean this machine's loopback; whoever wants more names the address.
pub(crate) fn parse_address(text: &str) -> anyhow::Result<SocketAddr> {
    let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let port = text.strip_prefix(':').unwrap_or(text);
    if let Ok(port) = port.parse::<u16>() {
        return Ok(SocketAddr::new(loopback, port));
    }
    let rule = "write a port, or IP:PORT such as 127.0.0.1:9090";
    text.parse().map_err(|_| anyhow!("--metrics: `{text}` is not an address: {rule}"))
}

impl Metrics {
    /// Serves on a thread of the driver until the process ends.
    pub(crate) fn serve(
        listener: TcpListener,
        facts: RunFacts,
        trace: Option<Arc<Trace>>,
    ) -> io::Result<Metrics> {
        let address = listener.local_addr()?;
        let state = Arc::new(Mutex::new(MetricsState { facts, ..MetricsState::default() }));
        let mut registry = Registry::default();
        registry.register_collector(Box::new(page::View(state.clone())));
        server::start(listener, registry)?;
        Ok(Metrics { state, address, trace })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn look_at<'m>(&'m self, here: &Assignment, plan: &TrialPlan) -> MetricsLook<'m> {
        let due: Box<dyn Iterator<Item = Arrival>> = if plan.arrivals.is_open() {
            let window = Schedule::window(plan, self.trace.as_ref());
            let (workers, of) = (here.workers.clone(), u64::from(here.of));
            Box::new(window.filter(move |a| workers.contains(&((a.index % of) as u32))))
        } else {
            Box::new(std::iter::empty())
        };
        MetricsLook {
            metrics: self,
            cell: here.cell.id.clone(),
            due: due.peekable(),
            passed: 0,
            next: 0,
        }
    }

    pub(super) fn ended(&self, record: &TrialRecord) {
        let mut state = lock(&self.state);
        state.live = None;
        *state.statuses.entry(record.status.name()).or_default() += 1;
        let cell = state.cells.entry(record.cell.id.clone()).or_default();
        for (phase, ledger) in [(0, &record.warmup), (1, &record.ledger)] {
            let (seen, told) = (std::mem::take(&mut cell.now[phase]), counts(ledger));
            // A counter never goes back, also where a worker died without its last word.
            cell.ended[phase] += Counts {
                started: seen.started.max(told.started),
                completed: seen.completed.max(told.completed),
                failed: seen.failed.max(told.failed),
                timed_out: seen.timed_out.max(told.timed_out),
            };
        }
        cell.errors += &record.errors;
        cell.start_delay.add(record.start_delay_ns.as_ref());
        cell.response.add(record.response_ns.as_ref());
        cell.service.add(record.service_ns.as_ref());
    }
}

fn lock(state: &Mutex<MetricsState>) -> MutexGuard<'_, MetricsState> {
    // Whatever a panicking scrape left is plain numbers, each of them whole.
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn counts(ledger: &Ledger) -> Counts {
    Counts {
        started: ledger.planned - ledger.unsent,
        completed: ledger.completed,
        failed: ledger.failed,
        timed_out: ledger.timed_out,
    }
}

impl Buckets {
    fn add(&mut self, distribution: Option<&Distribution>) {
        let Some(distribution) = distribution else { return };
        let Ok(histogram) = histogram::decode(&distribution.hdr) else { return };
        for value in histogram.iter_recorded() {
            let ns = value.value_iterated_to();
            let bucket = bounds_ns().take_while(|bound| *bound < ns).count();
            self.counts[bucket] += value.count_since_last_iteration();
        }
        self.sum_ns += distribution.mean * distribution.count as f64;
    }
}

/// The driver's eye on one trial.
pub(super) struct MetricsLook<'m> {
    metrics: &'m Metrics,
    cell: String,
    /// Requests of the window that have not been seen to start.
    due: std::iter::Peekable<Box<dyn Iterator<Item = Arrival>>>,
    passed: u64,
    next: u64,
}

impl MetricsLook<'_> {
    /// Looks at the workers when the time has come; `window_start` and `now` on CLOCK_MONOTONIC.
    pub(super) fn look(&mut self, now: u64, window_start: u64, workers: &[Worker]) {
        if now < self.next {
            return;
        }
        self.next = now + EVERY_NS;
        let of = |phase| workers.iter().filter_map(|w| w.counts(phase)).sum::<Counts>();
        let phases = [of(Phase::Warmup), of(Phase::Measured)];
        while self.passed < phases[1].started && self.due.next().is_some() {
            self.passed += 1;
        }
        let intended = self.due.peek().map(|arrival| window_start + arrival.offset_ns);
        let open = self.passed > 0 || intended.is_some();
        let held = |w: &Worker| ProcessUse::of(w.id()).ok().map(|held| held.rss_bytes);
        let live = Live {
            cell: self.cell.clone(),
            start_delay_ns: open.then(|| intended.map_or(0, |at| now.saturating_sub(at))),
            workers: workers.iter().map(|w| (held(w), cpu_ns(w.id()))).collect(),
        };
        let mut state = lock(&self.metrics.state);
        state.cells.entry(self.cell.clone()).or_default().now = phases;
        state.live = Some(live);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::SECOND_NS;

    #[test]
    fn loopback_unless_told_otherwise() {
        for (text, address) in
            [("9090", "127.0.0.1:9090"), (":0", "127.0.0.1:0"), ("0.0.0.0:9090", "0.0.0.0:9090")]
        {
            assert_eq!(parse_address(text).unwrap().to_string(), address);
        }
        for bad in ["", ":", "99999", "host:1", "127.0.0.1"] {
            assert!(parse_address(bad).unwrap_err().to_string().contains("--metrics"), "{bad}");
        }
    }

    #[test]
    fn every_sample_is_in_the_first_bucket_that_holds_it() {
        let mut histogram = histogram::empty();
        for ns in [1, 10_000, 11_000, 60 * SECOND_NS] {
            histogram.record(ns).unwrap();
        }
        let mut buckets = Buckets::default();
        let distribution = histogram::summarize(&histogram).unwrap();
        buckets.add(Some(&distribution));
        // The recorded 10 µs stands for up to 10.007 µs, so its bucket is the next one.
        assert_eq!(bounds_ns().count(), BUCKETS);
        assert_eq!(buckets.counts[..3], [1, 2, 0]);
        assert_eq!(buckets.counts[BUCKETS], 1, "beyond the last bound");
    }
}
