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
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::prometheus_text::{CONTENT_TYPE, encode};
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::timeline::cpu_ns;
use super::worker::Worker;
use crate::format::histogram;
use crate::format::{Distribution, ErrorKind, Errors, Ledger, TrialRecord};
use crate::plan::TrialPlan;
use crate::plan::schedule::{Arrival, Schedule};
use crate::plan::shard::Assignment;
use crate::plan::trace::Trace;
use crate::side::Phase;
use crate::side::counters::Counts;
use crate::side::usage::ProcessUse;
use crate::units::SECOND_NS;

/// Time between two looks at the workers.
const EVERY_NS: u64 = 200_000_000;
/// Longest wait for a scraper to send its request or to take the answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// Longest head of a request.
const MOST_HEAD_BYTES: usize = 8 << 10;
/// Upper bounds of the histograms' buckets: 1, 2 and 5 of each decade from 10 µs to 50 s.
const BOUNDS_NS: [u64; 21] = [
    10_000,
    20_000,
    50_000,
    100_000,
    200_000,
    500_000,
    1_000_000,
    2_000_000,
    5_000_000,
    10_000_000,
    20_000_000,
    50_000_000,
    100_000_000,
    200_000_000,
    500_000_000,
    1_000_000_000,
    2_000_000_000,
    5_000_000_000,
    10_000_000_000,
    20_000_000_000,
    50_000_000_000,
];

/// Where a run can be scraped.
pub struct Metrics {
    state: Arc<Mutex<State>>,
    address: SocketAddr,
    /// What the plan replays, which says when requests are due.
    trace: Option<Arc<Trace>>,
}

/// Facts of the run that never change.
#[derive(Debug, Clone, Default)]
pub struct RunFacts {
    /// The sweep's name.
    pub name: String,
    /// Hash of the plan.
    pub plan_hash: String,
    /// `k/n`, or empty.
    pub shard: String,
    /// Trials of the run.
    pub trials: u64,
}

#[derive(Debug, Default)]
struct State {
    facts: RunFacts,
    cells: BTreeMap<String, OfCell>,
    statuses: BTreeMap<&'static str, u64>,
    live: Option<Live>,
}

/// What one cell's trials came to.
#[derive(Debug, Default)]
struct OfCell {
    /// Of ended trials, by phase: warm-up, measured.
    ended: [Counts; 2],
    /// Of the trial under way.
    now: [Counts; 2],
    errors: Errors,
    start_delay: Buckets,
    response: Buckets,
    service: Buckets,
}

/// Counts by bucket.
#[derive(Debug, Default)]
struct Buckets {
    counts: [u64; BOUNDS_NS.len() + 1],
    sum_ns: f64,
}

/// The trial under way.
#[derive(Debug, Default)]
struct Live {
    cell: String,
    start_delay_ns: Option<u64>,
    /// Resident set and processor time by worker.
    workers: Vec<(Option<u64>, Option<u64>)>,
}

/// `9090` and `:9090` mean this machine's loopback; whoever wants more names the address.
///
/// # Errors
/// Says what is allowed.
pub fn parse_address(text: &str) -> Result<SocketAddr, String> {
    let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let port = text.strip_prefix(':').unwrap_or(text);
    if let Ok(port) = port.parse::<u16>() {
        return Ok(SocketAddr::new(loopback, port));
    }
    text.parse().map_err(|_| {
        format!(
            "--metrics: `{text}` is no address: write a port, or IP:PORT such as 127.0.0.1:9090"
        )
    })
}

impl Metrics {
    /// Listens and serves on a thread of the driver until the process ends.
    ///
    /// # Errors
    /// The address cannot be listened on.
    pub fn serve(
        address: SocketAddr,
        facts: RunFacts,
        trace: Option<Arc<Trace>>,
    ) -> io::Result<Metrics> {
        let listener = TcpListener::bind(address)?;
        let address = listener.local_addr()?;
        let state = Arc::new(Mutex::new(State { facts, ..State::default() }));
        let mut registry = Registry::default();
        registry.register_collector(Box::new(View(state.clone())));
        std::thread::Builder::new().name("metrics".into()).spawn(move || {
            for stream in listener.incoming().flatten() {
                // A scraper that misbehaves is its own problem.
                let _ = answer(stream, &registry);
            }
        })?;
        Ok(Metrics { state, address, trace })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What is seen of a trial while it runs.
    pub(super) fn look_at<'m>(&'m self, here: &Assignment, plan: &TrialPlan) -> Look<'m> {
        let due: Box<dyn Iterator<Item = Arrival>> = if plan.arrivals.is_open() {
            let window = Schedule::window(plan, self.trace.as_ref());
            let (workers, of) = (here.workers.clone(), u64::from(here.of));
            Box::new(window.filter(move |a| workers.contains(&((a.index % of) as u32))))
        } else {
            Box::new(std::iter::empty())
        };
        Look { metrics: self, cell: here.cell.id.clone(), due: due.peekable(), passed: 0, next: 0 }
    }

    /// A trial ended: its record is the last word on it.
    pub(super) fn ended(&self, record: &TrialRecord) {
        let mut state = lock(&self.state);
        state.live = None;
        *state.statuses.entry(status_name(record)).or_default() += 1;
        let cell = state.cells.entry(record.cell.id.clone()).or_default();
        for (phase, ledger) in [(0, &record.warmup), (1, &record.ledger)] {
            let (seen, told) = (std::mem::take(&mut cell.now[phase]), counts(ledger));
            // A counter never goes back, also where a worker died without its last word.
            let sum = &mut cell.ended[phase];
            sum.started += seen.started.max(told.started);
            sum.completed += seen.completed.max(told.completed);
            sum.failed += seen.failed.max(told.failed);
            sum.timed_out += seen.timed_out.max(told.timed_out);
        }
        cell.errors += &record.errors;
        cell.start_delay.add(record.start_delay_ns.as_ref());
        cell.response.add(record.response_ns.as_ref());
        cell.service.add(record.service_ns.as_ref());
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    // Whatever a panicking scrape left is plain numbers, each of them whole.
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn status_name(record: &TrialRecord) -> &'static str {
    use crate::format::Status;
    match record.status {
        Status::Ok => "ok",
        Status::Invalid => "invalid",
        Status::Failed => "failed",
        Status::Interrupted => "interrupted",
    }
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
            self.counts[BOUNDS_NS.partition_point(|bound| *bound < ns)] +=
                value.count_since_last_iteration();
        }
        self.sum_ns += distribution.mean * distribution.count as f64;
    }
}

/// The driver's eye on one trial.
pub(super) struct Look<'m> {
    metrics: &'m Metrics,
    cell: String,
    /// Requests of the window that have not been seen to start.
    due: std::iter::Peekable<Box<dyn Iterator<Item = Arrival>>>,
    passed: u64,
    next: u64,
}

impl Look<'_> {
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

/// What a scrape shows.
#[derive(Debug)]
struct View(Arc<Mutex<State>>);

type Labels = Vec<(&'static str, String)>;

impl Collector for View {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let state = lock(&self.0);
        let mut out = Out(&mut encoder);
        state.run(&mut out)?;
        state.requests(&mut out)?;
        state.live(&mut out)?;
        state.times(&mut out)
    }
}

/// Writes families of labelled values.
struct Out<'o, 'e>(&'o mut DescriptorEncoder<'e>);

impl Out<'_, '_> {
    fn family(
        &mut self,
        (name, help): (&str, &str),
        kind: MetricType,
        rows: impl IntoIterator<Item = (Labels, f64)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, kind)?;
        for (labels, value) in rows {
            let mut row = family.encode_family(&labels)?;
            match kind {
                // Counts stay whole numbers.
                MetricType::Counter if value.fract() == 0.0 => {
                    row.encode_counter::<NoLabelSet, u64, f64>(&(value as u64), None)?;
                }
                MetricType::Counter => {
                    row.encode_counter::<NoLabelSet, f64, f64>(&value, None)?;
                }
                _ => row.encode_gauge(&value)?,
            }
        }
        Ok(())
    }
}

impl State {
    fn run(&self, out: &mut Out) -> fmt::Result {
        let facts = &self.facts;
        let labels = vec![
            ("name", facts.name.clone()),
            ("plan_hash", facts.plan_hash.clone()),
            ("shard", facts.shard.clone()),
            ("version", env!("CARGO_PKG_VERSION").into()),
        ];
        out.family(("duel_run_info", "The run."), MetricType::Gauge, [(labels, 1.0)])?;
        out.family(
            ("duel_trials_planned", "Trials of the run, repeats of noisy ones aside."),
            MetricType::Gauge,
            [(vec![], facts.trials as f64)],
        )?;
        let trials =
            self.statuses.iter().map(|(s, n)| (vec![("status", s.to_string())], *n as f64));
        out.family(("duel_trials", "Trials that ended."), MetricType::Counter, trials)
    }

    fn phases(&self) -> impl Iterator<Item = (&String, &'static str, Counts)> {
        self.cells.iter().flat_map(|(id, cell)| {
            ["warmup", "measured"].into_iter().enumerate().map(move |(at, phase)| {
                let (ended, now) = (&cell.ended[at], &cell.now[at]);
                let sum = Counts {
                    started: ended.started + now.started,
                    completed: ended.completed + now.completed,
                    failed: ended.failed + now.failed,
                    timed_out: ended.timed_out + now.timed_out,
                };
                (id, phase, sum)
            })
        })
    }

    fn requests(&self, out: &mut Out) -> fmt::Result {
        let label = |id: &String, phase: &str| vec![("cell", id.clone()), ("phase", phase.into())];
        let started = self.phases().map(|(id, phase, c)| (label(id, phase), c.started as f64));
        out.family(("duel_requests_started", "Requests started."), MetricType::Counter, started)?;
        let ended = self.phases().flat_map(|(id, phase, c)| {
            [("completed", c.completed), ("failed", c.failed), ("timed_out", c.timed_out)].map(
                |(outcome, n)| {
                    let mut labels = label(id, phase);
                    labels.push(("outcome", outcome.into()));
                    (labels, n as f64)
                },
            )
        });
        out.family(("duel_requests", "Requests ended."), MetricType::Counter, ended)?;
        let errors = self.cells.iter().flat_map(|(id, cell)| {
            ErrorKind::ALL.iter().map(|kind| {
                let labels = vec![("cell", id.clone()), ("stage", kind.name().into())];
                (labels, cell.errors.count(*kind) as f64)
            })
        });
        out.family(
            ("duel_errors", "Failed requests of ended trials by stage."),
            MetricType::Counter,
            errors,
        )
    }

    fn live(&self, out: &mut Out) -> fmt::Result {
        let Some(live) = &self.live else { return Ok(()) };
        let label = || vec![("cell", live.cell.clone())];
        let now = self.cells.get(&live.cell).map(|c| c.now).unwrap_or_default();
        let in_flight: u64 = now.iter().map(Counts::in_flight).sum();
        out.family(
            ("duel_in_flight_requests", "Requests under way."),
            MetricType::Gauge,
            [(label(), in_flight as f64)],
        )?;
        out.family(
            ("duel_start_delay_seconds", "How long the next request to start has been due."),
            MetricType::Gauge,
            live.start_delay_ns.map(|ns| (label(), ns as f64 / SECOND_NS as f64)),
        )?;
        let of_worker = |worker: usize| {
            let mut labels = label();
            labels.push(("worker", worker.to_string()));
            labels
        };
        let held = live.workers.iter().enumerate();
        out.family(
            ("duel_worker_resident_bytes", "Resident set of a worker."),
            MetricType::Gauge,
            held.clone().filter_map(|(n, (rss, _))| Some((of_worker(n), (*rss)? as f64))),
        )?;
        out.family(
            ("duel_worker_cpu_seconds", "Processor time of the running trial's worker."),
            MetricType::Counter,
            held.filter_map(|(n, (_, cpu))| {
                Some((of_worker(n), (*cpu)? as f64 / SECOND_NS as f64))
            }),
        )
    }

    fn times(&self, out: &mut Out) -> fmt::Result {
        type Of = fn(&OfCell) -> &Buckets;
        let families: [(&str, &str, Of); 3] = [
            (
                "duel_request_start_delay_seconds",
                "Actual less intended start, of ended trials.",
                |c| &c.start_delay,
            ),
            ("duel_response_seconds", "End less intended start, of ended trials.", |c| &c.response),
            ("duel_service_seconds", "End less actual start, of ended trials.", |c| &c.service),
        ];
        for (name, help, of) in families {
            let mut family = out.0.encode_descriptor(name, help, None, MetricType::Histogram)?;
            for (id, cell) in &self.cells {
                let labels = vec![("cell", id.clone())];
                of(cell).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

impl Buckets {
    fn encode(&self, mut row: MetricEncoder) -> fmt::Result {
        let count: u64 = self.counts.iter().sum();
        if count == 0 {
            return Ok(());
        }
        let bounds = BOUNDS_NS.iter().map(|ns| *ns as f64 / SECOND_NS as f64);
        let bounds = bounds.chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = bounds.zip(self.counts).collect();
        row.encode_histogram::<NoLabelSet>(self.sum_ns / SECOND_NS as f64, count, &buckets, None)
    }
}

/// One scrape: reads a request's head, answers, and closes.
fn answer(mut stream: TcpStream, registry: &Registry) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut head = vec![];
    let mut part = [0; 1024];
    let (status, kind, body) = loop {
        let n = stream.read(&mut part)?;
        head.extend_from_slice(&part[..n]);
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut request = httparse::Request::new(&mut headers);
        match request.parse(&head) {
            Ok(httparse::Status::Complete(_)) => {
                break match (request.method, request.path) {
                    (Some("GET"), Some(path)) if path.split('?').next() == Some("/metrics") => {
                        let mut text = String::new();
                        encode(&mut text, registry).map_err(io::Error::other)?;
                        ("200 OK", CONTENT_TYPE, text)
                    }
                    (Some("GET"), _) => plain("404 Not Found", "duel: see /metrics\n"),
                    _ => plain("405 Method Not Allowed", "duel: GET /metrics\n"),
                };
            }
            Ok(httparse::Status::Partial) if n > 0 && head.len() < MOST_HEAD_BYTES => {}
            _ => break plain("400 Bad Request", "duel: GET /metrics\n"),
        }
    };
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

fn plain(status: &'static str, text: &str) -> (&'static str, &'static str, String) {
    (status, "text/plain; charset=utf-8", text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_unless_told_otherwise() {
        let local = |port| Ok(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port));
        assert_eq!(parse_address("9090"), local(9090));
        assert_eq!(parse_address(":0"), local(0));
        assert_eq!(parse_address("0.0.0.0:9090"), Ok("0.0.0.0:9090".parse().unwrap()));
        for bad in ["", ":", "99999", "host:1", "127.0.0.1"] {
            assert!(parse_address(bad).unwrap_err().contains("--metrics"), "{bad}");
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
        assert_eq!(buckets.counts[..3], [1, 2, 0]);
        assert_eq!(buckets.counts[BOUNDS_NS.len()], 1, "beyond the last bound");
    }
}
