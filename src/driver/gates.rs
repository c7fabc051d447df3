//! Whether a trial's numbers are reliable: pure functions of what was seen.
//!
//! A hard gate that fails makes the row `invalid`; a noise gate flags it `noisy`. A gate that does
//! not apply, or cannot be decided, is `None` and bars nothing.

use crate::format::gates::GateKind;
use crate::format::{Gate, Ledger};
use crate::plan::Pacer;

/// What the gates look at; `None` where a figure does not apply or could not be had.
#[derive(Debug, Clone, Default)]
pub struct Evidence {
    pub ledger: Ledger,
    /// Lanes with a connection at Armed, and the lanes of the cell.
    pub connected: (u64, u64),
    /// Open loops: requests whose actual start fell inside the window, and those whose intended
    /// start did.
    pub delivered: Option<(u64, u64)>,
    /// For how long a worker or an embedded target was stopped by a signal.
    pub stopped_ns: u64,
    /// Requests that the embedded target received, with the fewest and most it can have.
    pub received: Option<(u64, u64, u64)>,
    /// Open loops: p99 of pacer delay and of response time in nanoseconds, and the pacer.
    pub pacing: Option<(u64, u64, Pacer)>,
    /// For how long a CPU quota stopped duel's own cgroup and the target's.
    pub throttled_ns: [Option<u64>; 2],
    pub window_ns: u64,
    /// Open loops: CPU time of the workers, and CPUs × window.
    pub cpu: Option<(u64, u64)>,
    /// Closed loops of a server under test: CPU time of the workers, and CPUs × window; the same of
    /// the server.
    pub client: Option<[(u64, u64); 2]>,
    pub in_flight: Samples,
    /// Σ(time in service inside the window) ÷ window.
    pub in_service_mean: f64,
    /// Time that waiting for a batch held a response back on average, at most, and p50 of service time.
    pub linger: Option<(u64, u64)>,
    /// Steal time and all time of the machine's CPUs in the window.
    pub steal: Option<(u64, u64)>,
    /// Busy time of the workers' CPUs that was not the workers', and the window's time on them.
    pub foreign: Option<(u64, u64)>,
}

/// In-flight samples, kept as sums. Each stretch between two samples counts by its length, so that
/// a driver which was kept from looking for a while does not give the rest too much weight.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Samples {
    last: Option<(u64, f64)>,
    weight: f64,
    weight_squares: f64,
    sum: f64,
    squares: f64,
}

impl Samples {
    /// Adds what was in flight at an instant, in nanoseconds of any clock that only goes forward.
    pub(crate) fn add(&mut self, at_ns: u64, value: f64) {
        if let Some((then, before)) = self.last {
            let (length, level) = (at_ns.saturating_sub(then) as f64, (before + value) / 2.0);
            self.weight += length;
            self.weight_squares += length * length;
            self.sum += length * level;
            // Squared before they are averaged: the mean of two samples scatters less than either.
            self.squares += length * (before * before + value * value) / 2.0;
        }
        self.last = Some((at_ns, value));
    }

    fn mean(&self) -> f64 {
        self.sum / self.weight
    }

    /// How many stretches of equal length weigh as much (Kish's effective sample size).
    fn looks(&self) -> f64 {
        self.weight * self.weight / self.weight_squares
    }

    fn error(&self) -> f64 {
        let n = self.looks();
        let variance = (self.squares / self.weight - self.mean().powi(2)).max(0.0);
        (variance / (n - 1.0).max(1.0)).sqrt()
    }
}

/// Fewest looks of equal weight that decide Little's law. A quota that stops the driver as well leaves
/// it a few long stretches, at whose ends it looked in moments of the scheduler's choice.
const FEWEST_LOOKS: f64 = 50.0;

/// Sampling error of the in-flight samples, in requests. Where requests follow one another like clockwork
/// their scatter is next to nothing and tells of no bias; up to 0.075 was seen in 3 of 20 trials with
/// two in flight that nothing else was wrong with, on a machine where drivers and target share a CPU.
const SAMPLING_ERROR: f64 = 0.1;

pub fn judge(evidence: &Evidence) -> Vec<Gate> {
    let throttled =
        |side: usize| evidence.throttled_ns[side].map(|stopped| (stopped, evidence.window_ns));
    let within = |kind, of, limit| Gate::new(kind, share(of, limit));
    vec![
        ledger(evidence),
        connected(evidence),
        delivered(evidence),
        received(evidence.received),
        pacing(evidence),
        within(GateKind::WorkerCpu, evidence.cpu, FULL),
        client_cpu(evidence),
        littles_law(evidence),
        stopped(evidence),
        late(evidence),
        within(GateKind::Throttled, throttled(0), 0.01),
        within(GateKind::TargetThrottled, throttled(1), 0.01),
        within(GateKind::Steal, evidence.steal, 0.01),
        within(GateKind::ForeignCpu, evidence.foreign, 0.10),
        within(GateKind::Linger, evidence.linger, 0.02),
    ]
}

pub(crate) fn is_invalid(gates: &[Gate]) -> bool {
    gates.iter().any(|g| g.hard && g.failed())
}

pub(crate) fn is_noisy(gates: &[Gate]) -> bool {
    gates.iter().any(|g| !g.hard && !g.is(GateKind::Linger) && g.failed())
}

fn ledger(e: &Evidence) -> Gate {
    let sum = e.ledger.completed + e.ledger.failed + e.ledger.timed_out + e.ledger.unsent;
    let planned = e.ledger.planned;
    Gate::new(GateKind::Ledger, Some((e.ledger.balances(), sum as f64, planned as f64)))
}

fn connected(e: &Evidence) -> Gate {
    let (connected, lanes) = e.connected;
    Gate::new(GateKind::ConnectedLanes, Some((connected == lanes, connected as f64, lanes as f64)))
}

fn delivered(e: &Evidence) -> Gate {
    let decided = e.delivered.filter(|(_, intended)| *intended > 0).map(|(started, intended)| {
        let ratio = started as f64 / intended as f64;
        (ratio >= 0.99, ratio, 0.99)
    });
    Gate::new(GateKind::DeliveredRate, decided)
}

/// Judges what a target received by the fewest and the most that it can have.
pub(crate) fn received(seen: Option<(u64, u64, u64)>) -> Gate {
    let decided = seen.map(|(received, fewest, most)| {
        let limit = if received < fewest { fewest } else { most };
        ((fewest..=most).contains(&received), received as f64, limit as f64)
    });
    Gate::new(GateKind::TargetReceived, decided)
}

/// What the pacer may be late by, whatever the response time.
fn pacer_floor(pacer: Pacer) -> f64 {
    match pacer {
        Pacer::Precise => 200e3,
        Pacer::Native => 2e6,
    }
}

pub(crate) fn at_most(value: u64, limit: f64) -> (bool, f64, f64) {
    (value as f64 <= limit, value as f64, limit)
}

/// Beyond it, what is shown as response time is mostly duel's own lateness: p99 pacer delay ≤ max(twice
/// the floor, half of p99 response).
fn pacing(e: &Evidence) -> Gate {
    let decided = e.pacing.map(|(delay, response, pacer)| {
        at_most(delay, f64::max(2.0 * pacer_floor(pacer), response as f64 / 2.0))
    });
    Gate::new(GateKind::PacerDelay, decided)
}

/// Beyond it, lateness shows in response times: p99 pacer delay ≤ max(floor, 10 % of p99 response).
fn late(e: &Evidence) -> Gate {
    let decided = e.pacing.map(|(delay, response, pacer)| {
        at_most(delay, f64::max(pacer_floor(pacer), response as f64 / 10.0))
    });
    Gate::new(GateKind::Late, decided)
}

/// Share of its CPUs beyond which a side has none to spare.
const FULL: f64 = 0.9;

/// In a closed loop whoever is slower decides the rate: it must not be the client where the server is
/// asked about.
fn client_cpu(e: &Evidence) -> Gate {
    let decided = e.client.filter(|sides| sides.iter().all(|(_, all)| *all > 0)).map(|sides| {
        let [client, server] = sides.map(|(used, all)| used as f64 / all as f64);
        (client <= FULL || server > FULL, client, FULL)
    });
    Gate::new(GateKind::ClientCpu, decided)
}

/// Little's law, N = X·R: the driver's samples of N against the workers' Σ time in service.
fn littles_law(e: &Evidence) -> Gate {
    let enough = e.in_flight.looks() >= FEWEST_LOOKS && e.in_service_mean >= 1.0;
    let decided = enough.then(|| {
        let difference = (e.in_flight.mean() - e.in_service_mean).abs();
        let scatter = f64::max(SAMPLING_ERROR, 3.0 * e.in_flight.error());
        let limit = f64::max(0.02 * e.in_service_mean, scatter);
        (difference <= limit, difference, limit)
    });
    Gate::new(GateKind::LittlesLaw, decided)
}

/// Whoever was stopped measured its own pause; in a closed loop nothing else would show it.
fn stopped(e: &Evidence) -> Gate {
    Gate::new(GateKind::Stopped, Some((e.stopped_ns == 0, e.stopped_ns as f64, 0.0)))
}

fn share(part: Option<(u64, u64)>, limit: f64) -> Option<(bool, f64, f64)> {
    part.filter(|(_, whole)| *whole > 0).map(|(part, whole)| {
        let value = part as f64 / whole as f64;
        (value <= limit, value, limit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sound() -> Evidence {
        let mut in_flight = Samples::default();
        for i in 0..100 {
            in_flight.add(i * 1_000_000, if i % 4 < 2 { 9.9 } else { 10.1 });
        }
        Evidence {
            ledger: Ledger { planned: 100, completed: 100, ..Ledger::default() },
            connected: (64, 64),
            stopped_ns: 0,
            delivered: Some((100, 100)),
            received: Some((100, 100, 100)),
            throttled_ns: [Some(0), None],
            window_ns: 1_000_000,
            pacing: Some((60_000, 5_000_000, Pacer::Precise)),
            cpu: Some((10, 100)),
            client: Some([(95, 100), (95, 100)]),
            in_flight,
            in_service_mean: 10.0,
            linger: Some((2, 100)),
            steal: Some((0, 100)),
            foreign: Some((5, 100)),
        }
    }

    fn failing(change: impl FnOnce(&mut Evidence)) -> Vec<String> {
        let mut evidence = sound();
        change(&mut evidence);
        let failed = judge(&evidence).into_iter().filter(|g| g.ok == Some(false));
        failed.map(|g| g.name).collect()
    }

    #[test]
    fn each_gate_fails_for_its_own_reason_alone() {
        assert_eq!(failing(|_| {}), Vec::<String>::new());
        assert_eq!(failing(|e| e.ledger.unsent = 1), ["ledger_balanced"]);
        assert_eq!(failing(|e| e.connected.0 = 63), ["connected_lanes"]);
        assert_eq!(failing(|e| e.stopped_ns = 1), ["stopped_ns"]);
        assert_eq!(failing(|e| e.delivered = Some((98, 100))), ["delivered_rate"]);
        assert_eq!(failing(|e| e.received = Some((99, 100, 100))), ["target_received"]);
        assert_eq!(failing(|e| e.received = Some((101, 100, 100))), ["target_received"]);
        assert_eq!(
            failing(|e| e.pacing = Some((2_501_000, 5_000_000, Pacer::Precise))),
            ["pacer_delay_p99_ns", "late_p99_ns"]
        );
        assert_eq!(
            failing(|e| e.pacing = Some((501_000, 5_000_000, Pacer::Precise))),
            ["late_p99_ns"]
        );
        assert_eq!(failing(|e| e.throttled_ns[0] = Some(10_001)), ["throttled_share"]);
        assert_eq!(failing(|e| e.throttled_ns[1] = Some(10_001)), ["target_throttled_share"]);
        assert_eq!(failing(|e| e.cpu = Some((91, 100))), ["worker_cpu_share"]);
        assert_eq!(failing(|e| e.client = Some([(91, 100), (90, 100)])), ["client_cpu_share"]);
        assert_eq!(failing(|e| e.client = Some([(90, 100), (0, 100)])), Vec::<String>::new());
        assert_eq!(failing(|e| e.in_service_mean = 10.5), ["littles_law"]);
        assert_eq!(failing(|e| e.steal = Some((2, 100))), ["steal_share"]);
        assert_eq!(failing(|e| e.foreign = Some((11, 100))), ["foreign_cpu_share"]);
        assert_eq!(failing(|e| e.linger = Some((3, 100))), ["linger_share"]);
    }

    #[test]
    fn few_in_flight_like_clockwork_are_no_false_alarm() {
        let mut in_flight = Samples::default();
        (0..100).for_each(|i| in_flight.add(i * 1_000_000, 2.0));
        let alarms = |mean| failing(|e| (e.in_flight, e.in_service_mean) = (in_flight, mean));
        assert!(alarms(2.07).is_empty());
        assert_eq!(alarms(2.2), ["littles_law"]);
    }

    #[test]
    fn looks_of_a_driver_that_a_quota_stopped_decide_nothing() {
        // Two hundred looks in the first 20 ms of each of seven periods of 100 ms.
        let mut in_flight = Samples::default();
        let looks = (0..7).flat_map(|period| (0..200).map(move |i| period * 1_000_000 + i * 1_000));
        looks.for_each(|at| in_flight.add(at * 100, 8.0));
        let gates = failing(|e| (e.in_flight, e.in_service_mean) = (in_flight, 7.2));
        assert_eq!(gates, Vec::<String>::new());
    }

    #[test]
    fn a_sample_counts_by_the_time_it_stands_for() {
        let mut samples = Samples::default();
        // Ten looks in the first millisecond, then none for nine: a ramp from 0 to 10.
        for i in 0..=10 {
            samples.add(i * 100_000, i as f64 / 10.0);
        }
        samples.add(10_000_000, 10.0);
        assert!((samples.mean() - 5.0).abs() < 0.01, "time average of the ramp: {samples:?}");
    }

    #[test]
    fn a_gate_that_does_not_apply_bars_nothing() {
        let gates = judge(&Evidence { ledger: sound().ledger, ..Evidence::default() });
        assert!(!is_invalid(&gates) && !is_noisy(&gates));
        let little = gates.iter().find(|g| g.name == "littles_law").unwrap();
        assert_eq!((little.ok, little.value), (None, None), "too few samples decide nothing");
    }

    #[test]
    fn the_pacer_limit_follows_pacer_and_response() {
        let limits = |pacer, response| {
            let e = Evidence { pacing: Some((0, response, pacer)), ..Evidence::default() };
            (late(&e).limit, pacing(&e).limit)
        };
        assert_eq!(limits(Pacer::Precise, 1_000), (Some(200e3), Some(400e3)));
        assert_eq!(limits(Pacer::Native, 1_000), (Some(2e6), Some(4e6)));
        assert_eq!(limits(Pacer::Precise, 100_000_000), (Some(10e6), Some(50e6)));
    }

    #[test]
    fn a_little_lateness_is_a_warning() {
        let e =
            Evidence { pacing: Some((245_000, 450_000, Pacer::Precise)), ..Evidence::default() };
        let gates = judge(&e);
        assert!(is_noisy(&gates) && pacing(&e).ok == Some(true));
    }
}
