//! The figures of one cell: medians over its trials, percentiles of their merged histograms.

use hdrhistogram::Histogram;

use crate::format::{Channel, Ledger, TrialRecord};
use crate::report::measures::{MEASURES, Measure};
use crate::stats::hdr::{self, Percentile, Times};
use crate::stats::{MIN_FOR_INTERVAL, median};

#[derive(Debug, Clone, PartialEq)]
pub struct Figures {
    pub trials: usize,
    pub ledger: Ledger,
    /// Median of each measure over the trials that have it.
    medians: [Option<f64>; Measure::COUNT],
    /// By channel, in the order of [`Channel::ALL`].
    percentiles: Vec<Percentiles>,
    /// Whether the plan's requests decided the length of the window.
    pub by_requests: bool,
    /// What the first TLS handshake agreed on.
    pub tls: Option<String>,
    /// Sum of the connections made after set-up.
    pub reconnects: u64,
    /// The shortest time after which a request was given up: percentiles of service and response
    /// time from here up are lower bounds. `None` if none was given up.
    pub gave_up_ns: Option<u64>,
    /// Most requests in flight at once, as far as samples saw; `None` where a trial has no sample.
    pub in_flight_peak: Option<u64>,
    /// What memory, and kernel memory where it is known, grow by for one lane more; `None` where one
    /// number of lanes was measured.
    pub(crate) slopes: Option<(f64, Option<f64>)>,
    /// Whether a peak counts from the start of the process: memory is then an upper bound at best.
    pub peak_is_bound: bool,
}

/// The percentiles of a merged histogram; each `None` where too few samples stand behind it, or
/// where it falls on a request that never completed.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Percentiles {
    pub count: u64,
    /// Share of the planned requests that failed, were given up or never sent; they took for ever.
    pub lost: f64,
    /// Median of those in the histogram, whatever was lost beside; `None` under 20 samples.
    pub served_p50_ns: Option<u64>,
    pub p50: Option<Percentile>,
    pub p90: Option<Percentile>,
    pub p99: Option<Percentile>,
    pub p99_9: Option<Percentile>,
    /// Intervals of the four over trials, in that order; an end is `None` where it falls on a lost
    /// request. Of requests, and from six trials up.
    pub(crate) intervals: [Option<(Option<u64>, Option<u64>)>; 4],
}

/// The quantiles that are shown, with their names in columns.
pub(crate) const QUANTILES: [(&str, f64); 4] =
    [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99_9", 0.999)];

impl Percentiles {
    /// Of requests, of which `ledger` says how many were lost; of other events, none was.
    pub(crate) fn of(
        histogram: Option<&Histogram<u64>>,
        ledger: Option<&Ledger>,
        gave_up_ns: Option<u64>,
    ) -> Percentiles {
        let ledger = ledger.copied().unwrap_or_default();
        let lost = ledger.lost_share();
        let Some(h) = histogram else { return Percentiles { lost, ..Percentiles::default() } };
        let at = |q: f64| {
            let at = hdr::percentile(h, ledger.planned, q, gave_up_ns);
            at.filter(|_| ledger.lost_beyond(q).is_none())
        };
        let [p50, p90, p99, p99_9] = QUANTILES.map(|(_, q)| at(q));
        let served_p50_ns = hdr::percentile(h, 0, 0.5, None).map(|p| p.ns);
        Percentiles {
            count: h.len(),
            lost,
            served_p50_ns,
            p50,
            p90,
            p99,
            p99_9,
            intervals: [None; 4],
        }
    }

    /// The quantiles in the order of [`QUANTILES`].
    pub(crate) fn all(&self) -> [Option<Percentile>; 4] {
        [self.p50, self.p90, self.p99, self.p99_9]
    }

    /// The interval of a quantile that has a number.
    pub fn interval(&self, q: f64) -> Option<(Option<u64>, Option<u64>)> {
        let at = QUANTILES.iter().position(|(_, known)| *known == q)?;
        self.all()[at].and(self.intervals[at])
    }

    /// Share of the requests that were lost, where it leaves a quantile without a number.
    pub(crate) fn lost_beyond(&self, q: f64) -> Option<f64> {
        (self.lost > 1.0 - q + 1e-12).then_some(self.lost)
    }
}

impl Figures {
    /// The median of a measure; `None` where no trial has it.
    pub fn get(&self, measure: Measure) -> Option<f64> {
        self.medians[measure as usize]
    }

    /// The merged histogram of a channel.
    pub fn times(&self, channel: Channel) -> &Percentiles {
        &self.percentiles[channel as usize]
    }

    /// Response time, in a closed loop service time.
    pub(crate) fn latency(&self) -> &Percentiles {
        let response = self.times(Channel::Response);
        if response.count > 0 { response } else { self.times(Channel::Service) }
    }
}

/// The figures over `trials`, times and CPU over `levels` among them, with a sentence for each
/// histogram that could not be read.
pub(super) fn figures(
    trials: &[&TrialRecord],
    levels: &[&TrialRecord],
) -> (Option<Figures>, Vec<String>) {
    if trials.is_empty() {
        return (None, Vec::new());
    }
    let mut unreadable = Vec::new();
    let mut merged = |channel: Channel| {
        hdr::merge(levels.iter().copied(), |t| t.histogram(channel)).unwrap_or_else(|e| {
            unreadable.push(format!("{} has no percentiles: {e}", channel.field()));
            None
        })
    };
    let sum = |trials: &[&TrialRecord]| {
        let mut ledger = Ledger::default();
        trials.iter().for_each(|t| ledger += &t.ledger);
        ledger
    };
    let ledger = sum(levels);
    let service = merged(Channel::Service);
    let gave_up_ns = service.as_ref().and_then(|h| hdr::gave_up_ns(h, ledger.timed_out));
    let percentiles = Channel::ALL
        .iter()
        .map(|channel| {
            // Only these two hold one sample per request, and those that were given up.
            let whole = matches!(channel, Channel::Service | Channel::Response);
            let (ledger, bound) = if whole { (Some(&ledger), gave_up_ns) } else { (None, None) };
            let mut percentiles = Percentiles::of(merged(*channel).as_ref(), ledger, bound);
            if whole
                && levels.len() >= MIN_FOR_INTERVAL
                && let Some(times) = Times::of(levels, |t| t.histogram(*channel))
            {
                percentiles.intervals = QUANTILES.map(|(_, q)| Some(times.interval(q)));
            }
            percentiles
        })
        .collect();
    let medians = std::array::from_fn(|i| {
        let facts = &MEASURES[i];
        let over = if facts.level { levels } else { trials };
        median(&over.iter().filter_map(|t| (facts.of)(t)).collect::<Vec<f64>>())
    });
    let figures = Figures {
        trials: trials.len(),
        ledger: sum(trials),
        medians,
        percentiles,
        by_requests: trials.iter().any(|t| !t.measured_ns.is_multiple_of(1_000)),
        tls: trials.iter().find_map(|t| t.tls.clone()),
        reconnects: trials.iter().map(|t| t.reconnects).sum(),
        gave_up_ns,
        in_flight_peak: trials
            .iter()
            .map(|t| t.in_flight_peak)
            .reduce(|a, b| a?.max(b?).into())
            .flatten(),
        slopes: None,
        peak_is_bound: trials.iter().any(|t| t.peak_is_bound()),
    };
    (Some(figures), unreadable)
}
