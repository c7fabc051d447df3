//! The figures of one cell: medians over its trials, percentiles of their merged histograms.

use hdrhistogram::Histogram;

use crate::format::histogram::HdrError;
use crate::format::{Distribution, Ledger, TrialRecord};
use crate::stats::hdr::{self, Percentile};
use crate::stats::median;

/// What a cell cost and how fast it was.
#[derive(Debug, Clone, PartialEq)]
pub struct Figures {
    /// Trials behind the figures.
    pub trials: usize,
    /// Sum of their ledgers.
    pub ledger: Ledger,
    /// Median of the achieved load, requests per second.
    pub achieved_per_s: f64,
    /// Median length of the window where the plan's requests decided it, in nanoseconds; `None`
    /// where the plan itself did, so that every trial has the same.
    pub elapsed_ns: Option<f64>,
    /// Service time.
    pub service: Percentiles,
    /// Response time; open loops.
    pub response: Percentiles,
    /// Start delay; open loops.
    pub start_delay: Percentiles,
    /// Pacer delay; open loops.
    pub pacer_delay: Percentiles,
    /// Lane wait; open loops.
    pub lane_wait: Percentiles,
    /// Time to connect.
    pub connect: Percentiles,
    /// Time of TLS handshakes; none for plain targets.
    pub handshake: Percentiles,
    /// What the first of them agreed on.
    pub tls: Option<String>,
    /// Sum of the connections made after set-up.
    pub reconnects: u64,
    /// The shortest time after which a request was given up: percentiles of service and response
    /// time from here up are lower bounds. `None` if none was given up.
    pub gave_up_ns: Option<u64>,
    /// Median of CPU per request, in nanoseconds; `None` if no request ended.
    pub cpu_per_request_ns: Option<f64>,
    /// Median of CPU time a second of the window, in nanoseconds: what a cell without requests costs.
    pub cpu_per_second_ns: f64,
    /// Median of context switches of both kinds a second of the window.
    pub switches_per_second: f64,
    /// Median of the mean share of lanes in service; closed loops.
    pub occupancy: Option<f64>,
    /// Median of the peak resident set over the baseline, in bytes.
    pub memory_bytes: f64,
    /// The same for each connection.
    pub memory_per_lane_bytes: f64,
    /// Whether a peak counts from the start of the process, so that both are upper bounds.
    pub peak_is_bound: bool,
    /// Median of the kernel memory at the plateau, in bytes, where it could be measured.
    pub kernel_bytes: Option<f64>,
    /// The same for each connection.
    pub kernel_per_lane_bytes: Option<f64>,
    /// Median of voluntary switches for each request; `None` if no request ended.
    pub voluntary_per_request: Option<f64>,
    /// The same for involuntary ones.
    pub involuntary_per_request: Option<f64>,
    /// Median of system calls for each request, where they were counted.
    pub syscalls_per_request: Option<f64>,
    /// Median of page faults of both kinds for each request.
    pub faults_per_request: Option<f64>,
    /// Median of moves between CPUs for each request, where they were counted.
    pub migrations_per_request: Option<f64>,
    /// Median of instructions for each request, where the machine has a PMU.
    pub instructions_per_request: Option<f64>,
    /// Median of the time that runnable threads waited for a CPU, for each request, in nanoseconds.
    pub run_queue_wait_per_request_ns: Option<f64>,
    /// Median of the most threads.
    pub threads: f64,
    /// Median of the most descriptors.
    pub fds: f64,
    /// Median of the time from Go to Armed, in nanoseconds.
    pub setup_ns: f64,
}

/// The percentiles of a merged histogram; each `None` where too few samples stand behind it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Percentiles {
    /// Samples.
    pub count: u64,
    /// Median.
    pub p50: Option<Percentile>,
    /// 90th percentile.
    pub p90: Option<Percentile>,
    /// 99th percentile.
    pub p99: Option<Percentile>,
    /// 99.9th percentile.
    pub p99_9: Option<Percentile>,
}

impl Percentiles {
    fn of(histogram: Option<&Histogram<u64>>, gave_up_ns: Option<u64>) -> Percentiles {
        let Some(h) = histogram else { return Percentiles::default() };
        let at = |q| hdr::percentile(h, q, gave_up_ns);
        Percentiles { count: h.len(), p50: at(0.5), p90: at(0.9), p99: at(0.99), p99_9: at(0.999) }
    }
}

/// Peak user memory over the baseline, in bytes; zero where the peak was no higher.
pub(super) fn memory_bytes(record: &TrialRecord) -> f64 {
    record.memory.peak_rss_bytes.saturating_sub(record.memory.baseline_rss_bytes) as f64
}

/// The same where it is known and no bound.
pub(super) fn peak_over_baseline(record: &TrialRecord) -> Option<f64> {
    record.peak_over_baseline().map(|bytes| bytes as f64)
}

/// CPU per request in nanoseconds; `None` if no request ended.
pub(super) fn cpu_per_request_ns(record: &TrialRecord) -> Option<f64> {
    Some(record.cpu.per_request_ns).filter(|v| *v > 0.0)
}

/// Requests that ended between the readings of CPU and switches.
fn requests_between_edges(record: &TrialRecord) -> Option<f64> {
    cpu_per_request_ns(record).map(|per| record.cpu.total_ns as f64 / per).filter(|n| *n > 0.0)
}

/// The figures over `trials`, times and CPU over `levels` among them, with a sentence for each
/// histogram that could not be read.
pub(super) fn figures(
    trials: &[&TrialRecord],
    levels: &[&TrialRecord],
) -> (Option<Figures>, Vec<String>) {
    let Some(first) = trials.first() else { return (None, Vec::new()) };
    let mut unreadable = Vec::new();
    let mut merged = |name: &str, field: fn(&TrialRecord) -> Option<&Distribution>| {
        hdr::merge(levels.iter().copied(), field).unwrap_or_else(|e: HdrError| {
            unreadable.push(format!("{name} has no percentiles: {e}"));
            None
        })
    };
    let mut ledger = Ledger::default();
    for trial in trials {
        ledger += &trial.ledger;
    }
    let service = merged("service_ns", |t| t.service_ns.as_ref());
    let timed_out = levels.iter().map(|t| t.ledger.timed_out).sum();
    let gave_up_ns = service.as_ref().and_then(|h| hdr::gave_up_ns(h, timed_out));
    let response = merged("response_ns", |t| t.response_ns.as_ref());
    let start_delay = merged("start_delay_ns", |t| t.start_delay_ns.as_ref());
    let pacer_delay = merged("pacer_delay_ns", |t| t.pacer_delay_ns.as_ref());
    let lane_wait = merged("lane_wait_ns", |t| t.lane_wait_ns.as_ref());
    let connect = merged("connect_ns", |t| t.connect_ns.as_ref());
    let handshake = merged("handshake_ns", |t| t.handshake_ns.as_ref());

    let over = |trials: &[&TrialRecord], value: &dyn Fn(&TrialRecord) -> Option<f64>| {
        median(&trials.iter().filter_map(|t| value(t)).collect::<Vec<f64>>())
    };
    let middle = |value: &dyn Fn(&TrialRecord) -> Option<f64>| over(trials, value);
    let level = |value: &dyn Fn(&TrialRecord) -> Option<f64>| over(levels, value);
    let always = |value: fn(&TrialRecord) -> f64| middle(&|t| Some(value(t))).unwrap_or(0.0);
    let a_request = |count: fn(&TrialRecord) -> u64| {
        middle(&|t| requests_between_edges(t).map(|n| count(t) as f64 / n))
    };
    let a_known = |count: fn(&TrialRecord) -> Option<u64>| {
        middle(&|t| Some(count(t)? as f64 / requests_between_edges(t)?))
    };
    let a_second = |count: fn(&TrialRecord) -> u64| {
        middle(&|t| (t.measured_ns > 0).then(|| count(t) as f64 * 1e9 / t.measured_ns as f64))
            .unwrap_or(0.0)
    };
    let memory = always(memory_bytes);
    let kernel_bytes = middle(&|t| t.memory.kernel_bytes.map(|b| b as f64));
    let lanes = f64::from(first.cell.total_lanes.max(1));
    let figures = Figures {
        trials: trials.len(),
        ledger,
        achieved_per_s: level(&|t| Some(t.achieved_per_s)).unwrap_or(0.0),
        elapsed_ns: trials
            .iter()
            .any(|t| !t.measured_ns.is_multiple_of(1_000))
            .then(|| level(&|t| Some(t.measured_ns as f64)).unwrap_or(0.0)),
        service: Percentiles::of(service.as_ref(), gave_up_ns),
        response: Percentiles::of(response.as_ref(), gave_up_ns),
        start_delay: Percentiles::of(start_delay.as_ref(), None),
        pacer_delay: Percentiles::of(pacer_delay.as_ref(), None),
        lane_wait: Percentiles::of(lane_wait.as_ref(), None),
        connect: Percentiles::of(connect.as_ref(), None),
        handshake: Percentiles::of(handshake.as_ref(), None),
        tls: trials.iter().find_map(|t| t.tls.clone()),
        reconnects: trials.iter().map(|t| t.reconnects).sum(),
        gave_up_ns,
        cpu_per_request_ns: level(&cpu_per_request_ns),
        cpu_per_second_ns: a_second(|t| t.cpu.total_ns),
        switches_per_second: a_second(|t| t.switches.voluntary + t.switches.involuntary),
        occupancy: level(&|t| t.occupancy),
        memory_bytes: memory,
        memory_per_lane_bytes: memory / lanes,
        peak_is_bound: trials.iter().any(|t| t.peak_is_bound()),
        kernel_bytes,
        kernel_per_lane_bytes: kernel_bytes.map(|b| b / lanes),
        voluntary_per_request: a_request(|t| t.switches.voluntary),
        involuntary_per_request: a_request(|t| t.switches.involuntary),
        syscalls_per_request: middle(&|t| t.events.syscalls_per_request),
        faults_per_request: a_known(|t| Some(t.events.minor_faults? + t.events.major_faults?)),
        migrations_per_request: a_known(|t| t.switches.migrations),
        instructions_per_request: a_known(|t| t.events.instructions),
        run_queue_wait_per_request_ns: a_known(|t| t.cpu.run_queue_wait_ns),
        threads: always(|t| t.threads_peak as f64),
        fds: always(|t| t.fds_peak as f64),
        setup_ns: always(|t| t.setup_ns as f64),
    };
    (Some(figures), unreadable)
}
