//! When the requests of an open loop are to start: pure, absolute, never accumulated from timers.
//!
//! Three kinds of law: gaps (constant, Poisson), [`stages`](super::stages) of the rate, and the
//! instants of a [`trace`](super::trace).
//!
//! A schedule is one sequence for the whole trial. Worker w of p takes its arrivals
//! i ≡ w (mod p), so that p workers together send exactly what one would.

use std::sync::Arc;

use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

use super::stages::Inverse;
use super::trace::Trace;
use super::{Arrivals, Extent, TrialPlan};
use crate::units::SECOND_NS;

/// Keeps the gaps of warm-up and window apart from each other and from other uses of the seed.
const WARMUP_STREAM: u64 = 0x7761_726d_7570_0000;
const WINDOW_STREAM: u64 = 0x7769_6e64_6f77_0000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// Index in the whole trial's sequence of its phase.
    pub index: u64,
    /// Index of the request that it sends: `index`, but in a trace the entry's number, which
    /// counts on from the warm-up to the window.
    pub request: u64,
    /// Intended start, in nanoseconds after the beginning of its phase.
    pub offset_ns: u64,
}

#[derive(Debug, Clone)]
pub struct Schedule {
    gaps: Gaps,
    next: u64,
    /// No arrival at or after this offset.
    until_ns: u64,
    most: u64,
}

#[derive(Debug, Clone)]
enum Gaps {
    /// Arrival i at i ÷ rate, so that rounding never accumulates.
    Constant { per_s: f64 },
    /// The running sum is kept in `f64` nanoseconds: exact to 1 ns for over 100 days.
    Poisson { mean_ns: f64, at_ns: f64, random: Box<Xoshiro256PlusPlus> },
    /// Arrival i where the integrated rate passes i.
    Stages(Box<Inverse>),
    /// Arrival i where the integrated rate passes the sum of i + 1 exponential gaps of mean 1.
    PoissonStages { inverse: Box<Inverse>, sum: f64, random: Box<Xoshiro256PlusPlus> },
    /// The entries of a trace from `first` on, whose phase begins at `begins_ns` of the trace.
    Trace { trace: Arc<Trace>, first: u64, begins_ns: u64 },
}

impl Schedule {
    /// The arrivals of the measured phase; none in a closed loop. `trace` is what a plan that
    /// replays one loaded.
    ///
    /// A trace's warm-up is its first `warmup`: the entries that fall into it are replayed there,
    /// and the window goes on with the next.
    ///
    /// # Panics
    /// The plan replays a trace that is not given: its schedule would silently be empty.
    pub fn window(plan: &TrialPlan, trace: Option<&Arc<Trace>>) -> Self {
        let (until_ns, most) = match plan.extent {
            Extent::Requests(most) => (u64::MAX, most),
            Extent::DurationNs(ns) => (ns, u64::MAX),
        };
        if let Some(trace) = replayed(plan, trace) {
            let first = trace.offsets_ns.partition_point(|at| *at < plan.warmup_ns) as u64;
            let gaps = Gaps::Trace { trace: trace.clone(), first, begins_ns: plan.warmup_ns };
            return Schedule { gaps, next: 0, until_ns, most: most.min(trace.len() - first) };
        }
        if !plan.stages.is_empty() {
            return Self::staged(plan, until_ns, most);
        }
        let per_s = plan.offered_per_s.unwrap_or(0.0);
        Self::steady(plan, per_s, plan.seed ^ WINDOW_STREAM, until_ns, most)
    }

    /// The arrivals of the warm-up; before stages, at the rate with which the first one begins.
    ///
    /// # Panics
    /// As [`Schedule::window`].
    pub fn warmup(plan: &TrialPlan, trace: Option<&Arc<Trace>>) -> Self {
        let until_ns = plan.warmup_ns;
        if let Some(trace) = replayed(plan, trace) {
            let gaps = Gaps::Trace { trace: trace.clone(), first: 0, begins_ns: 0 };
            return Schedule { gaps, next: 0, until_ns, most: trace.len() };
        }
        let first = plan.stages.first().map(|stage| stage.from_per_s);
        let per_s = first.or(plan.offered_per_s).unwrap_or(0.0);
        Self::steady(plan, per_s, plan.seed ^ WARMUP_STREAM, until_ns, u64::MAX)
    }

    fn staged(plan: &TrialPlan, until_ns: u64, most: u64) -> Self {
        let inverse = Box::new(Inverse::new(&plan.stages));
        let gaps = if plan.arrivals == Arrivals::Poisson {
            let mut random = Box::new(Xoshiro256PlusPlus::seed_from_u64(plan.seed ^ WINDOW_STREAM));
            let sum = exponential(&mut random, 1.0);
            Gaps::PoissonStages { inverse, sum, random }
        } else {
            Gaps::Stages(inverse)
        };
        let most = if plan.arrivals.is_open() { most } else { 0 };
        Schedule { gaps, next: 0, until_ns, most }
    }

    fn steady(plan: &TrialPlan, per_s: f64, seed: u64, until_ns: u64, most: u64) -> Self {
        let gaps = match plan.arrivals {
            Arrivals::Poisson if per_s > 0.0 => {
                let mut random = Box::new(Xoshiro256PlusPlus::seed_from_u64(seed));
                let mean_ns = SECOND_NS as f64 / per_s;
                // The first arrival comes one gap after the phase begins, as in a process that
                // was running before.
                let at_ns = exponential(&mut random, mean_ns);
                Gaps::Poisson { mean_ns, at_ns, random }
            }
            _ => Gaps::Constant { per_s },
        };
        let by_rate = matches!(plan.arrivals, Arrivals::Constant | Arrivals::Poisson);
        let most = if per_s > 0.0 && by_rate { most } else { 0 };
        Schedule { gaps, next: 0, until_ns, most }
    }

    pub fn share(self, worker: u32, workers: u32) -> impl Iterator<Item = Arrival> {
        self.filter(move |a| a.index % u64::from(workers) == u64::from(worker))
    }

    /// How many arrivals worker `worker` of `workers` has, counted by running through them.
    pub fn count_share(self, worker: u32, workers: u32) -> u64 {
        self.share(worker, workers).count() as u64
    }
}

/// The entries that the plan replays, if it replays any.
fn replayed<'t>(plan: &TrialPlan, trace: Option<&'t Arc<Trace>>) -> Option<&'t Arc<Trace>> {
    assert!(plan.arrivals != Arrivals::Trace || trace.is_some(), "a replay needs its trace");
    trace.filter(|_| plan.arrivals == Arrivals::Trace)
}

/// An exponential gap by inversion; 1 − u is never zero since u < 1.
fn exponential(random: &mut Xoshiro256PlusPlus, mean_ns: f64) -> f64 {
    // 53 random bits as a fraction in [0, 1).
    let u = (random.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
    -(1.0 - u).ln() * mean_ns
}

impl Iterator for Schedule {
    type Item = Arrival;

    fn next(&mut self) -> Option<Arrival> {
        if self.next >= self.most {
            return None;
        }
        let mut request = self.next;
        let offset_ns = match &mut self.gaps {
            Gaps::Constant { per_s } => Some((self.next as f64 * SECOND_NS as f64 / *per_s) as u64),
            Gaps::Poisson { mean_ns, at_ns, random } => {
                let at = *at_ns;
                *at_ns += exponential(random, *mean_ns);
                Some(at as u64)
            }
            Gaps::Stages(inverse) => inverse.passes(self.next as f64),
            Gaps::PoissonStages { inverse, sum, random } => {
                let at = inverse.passes(*sum);
                *sum += exponential(random, 1.0);
                at
            }
            Gaps::Trace { trace, first, begins_ns } => {
                request += *first;
                trace.offsets_ns.get(request as usize).map(|at| at - *begins_ns)
            }
        };
        let Some(offset_ns) = offset_ns.filter(|offset| *offset < self.until_ns) else {
            // The sequence never comes back below the end.
            self.most = 0;
            return None;
        };
        let index = self.next;
        self.next += 1;
        Some(Arrival { index, request, offset_ns })
    }
}

/// How many of `total` requests worker `worker` of `workers` sends: those i ≡ worker (mod workers).
pub(crate) fn share_of(total: u64, worker: u32, workers: u32) -> u64 {
    let (worker, workers) = (u64::from(worker), u64::from(workers));
    total / workers + u64::from(worker < total % workers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(arrivals: Arrivals, rate: f64, extent: Extent) -> TrialPlan {
        TrialPlan { arrivals, offered_per_s: Some(rate), extent, ..TrialPlan::default() }
    }

    #[test]
    fn constant_arrivals_do_not_drift() {
        let day = Extent::DurationNs(86_400 * SECOND_NS);
        let last = Schedule::window(&plan(Arrivals::Constant, 3.0, day), None).last().unwrap();
        assert_eq!(last.index, 3 * 86_400 - 1);
        let exact = (last.index as f64 / 3.0 * 1e9) as u64;
        assert!(last.offset_ns.abs_diff(exact) <= 1, "a third of a second, a day on: {last:?}");
    }

    #[test]
    fn workers_share_the_one_sequence() {
        let p = plan(Arrivals::Poisson, 1000.0, Extent::Requests(1001));
        let whole: Vec<_> = Schedule::window(&p, None).collect();
        let mut parts: Vec<_> =
            (0..3).flat_map(|w| Schedule::window(&p, None).share(w, 3)).collect();
        parts.sort_by_key(|a| a.index);
        assert_eq!(whole, parts);
        assert_eq!(whole.len(), 1001);
        assert_eq!((0..3).map(|w| share_of(1001, w, 3)).sum::<u64>(), 1001);
        for w in 0..3 {
            assert_eq!(Schedule::window(&p, None).count_share(w, 3), share_of(1001, w, 3));
        }
    }

    #[test]
    fn poisson_gaps_have_the_mean_and_deviation_of_the_law() {
        let p = plan(Arrivals::Poisson, 1000.0, Extent::Requests(200_000));
        let offsets: Vec<f64> = Schedule::window(&p, None).map(|a| a.offset_ns as f64).collect();
        let gaps: Vec<f64> = offsets.windows(2).map(|w| w[1] - w[0]).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let var = gaps.iter().map(|g| (g - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        assert!((mean / 1e6 - 1.0).abs() < 0.01, "mean gap {mean} ns for 1 ms asked");
        assert!((var.sqrt() / mean - 1.0).abs() < 0.01, "coefficient of variation is 1");
        let other = Schedule::window(&TrialPlan { seed: 2, ..p }, None).next();
        assert_ne!(other.unwrap().offset_ns, offsets[0] as u64, "the seed decides");
    }

    #[test]
    fn a_window_shorter_than_an_interval_holds_the_first_arrival_only() {
        let p = plan(Arrivals::Constant, 1.0 / 3600.0, Extent::DurationNs(SECOND_NS));
        assert_eq!(Schedule::window(&p, None).count(), 1);
        let p = plan(Arrivals::Closed, 1.0, Extent::Requests(5));
        assert_eq!(Schedule::window(&p, None).count(), 0, "a closed loop has no schedule");
    }

    #[test]
    #[should_panic(expected = "a replay needs its trace")]
    fn a_replay_without_its_trace_is_no_empty_schedule() {
        Schedule::window(&plan(Arrivals::Trace, 1.0, Extent::Requests(10)), None);
    }
}
