//! Stages: steps and linear ramps of the offered rate, inverted in closed form.
//!
//! The rate is piecewise linear, so its integral, the expected number of arrivals by an instant,
//! is piecewise quadratic and has a closed inverse. The n-th arrival of a constant load is where
//! the integral reaches n; under `poisson` it is where the integral reaches the n-th sum of unit
//! exponential gaps, which is an inhomogeneous Poisson process (time-rescaling; Çinlar,
//! *Introduction to Stochastic Processes*, 1975, section 4.7). Nothing is accumulated in time, so
//! nothing drifts.

use serde::{Deserialize, Serialize};

use crate::units::SECOND_NS;

/// A piece of the load: the rate goes from one value to another in a straight line.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Stage {
    pub duration_ns: u64,
    /// Rate at its beginning, requests per second; zero is a pause, or a ramp from nothing.
    pub from_per_s: f64,
    /// Rate at its end; the same for a step.
    pub to_per_s: f64,
}

impl Stage {
    fn seconds(&self) -> f64 {
        self.duration_ns as f64 / SECOND_NS as f64
    }

    /// Arrivals that it offers: the area under its line.
    pub(crate) fn arrivals(&self) -> f64 {
        self.seconds() * (self.from_per_s + self.to_per_s) / 2.0
    }

    /// Seconds into the stage at which the integral reaches `arrivals`.
    fn reaches(&self, arrivals: f64) -> f64 {
        if arrivals <= 0.0 {
            return 0.0;
        }
        // The root of `from·t + slope/2·t² = arrivals` in the form that does not cancel
        // (Numerical Recipes, section 5.6): exact for a step, whose slope is zero.
        let slope = (self.to_per_s - self.from_per_s) / self.seconds();
        let root = (self.from_per_s * self.from_per_s + 2.0 * slope * arrivals).max(0.0).sqrt();
        (2.0 * arrivals / (self.from_per_s + root)).min(self.seconds())
    }
}

pub fn total_ns(stages: &[Stage]) -> u64 {
    stages.iter().map(|stage| stage.duration_ns).sum()
}

pub(crate) fn total_arrivals(stages: &[Stage]) -> f64 {
    stages.iter().map(Stage::arrivals).sum()
}

/// The inverse of the integrated rate, for questions that never go back.
#[derive(Debug, Clone)]
pub(super) struct Inverse {
    stages: Vec<Stage>,
    /// The stage that the last question fell into, its beginning and the arrivals before it.
    at: usize,
    begins_ns: u64,
    before: f64,
}

impl Inverse {
    pub(super) fn new(stages: &[Stage]) -> Self {
        Inverse { stages: stages.to_vec(), at: 0, begins_ns: 0, before: 0.0 }
    }

    /// When the integral passes `arrivals`, in nanoseconds; `None` if it never does.
    ///
    /// Passes, not reaches: an arrival is due when its rate is there, behind a pause.
    pub(super) fn passes(&mut self, arrivals: f64) -> Option<u64> {
        loop {
            let stage = self.stages.get(self.at)?;
            if self.before + stage.arrivals() > arrivals {
                let into = stage.reaches(arrivals - self.before) * SECOND_NS as f64;
                return Some(self.begins_ns + into as u64);
            }
            self.before += stage.arrivals();
            self.begins_ns += stage.duration_ns;
            self.at += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::plan::schedule::Schedule;
    use crate::plan::{Arrivals, Extent, TrialPlan};

    fn stage(seconds: f64, from: f64, to: f64) -> Stage {
        Stage { duration_ns: (seconds * 1e9) as u64, from_per_s: from, to_per_s: to }
    }

    fn plan(arrivals: Arrivals, stages: Vec<Stage>) -> TrialPlan {
        TrialPlan {
            arrivals,
            offered_per_s: Some(total_arrivals(&stages) / total_ns(&stages) as f64 * 1e9),
            extent: Extent::DurationNs(total_ns(&stages)),
            stages,
            ..TrialPlan::default()
        }
    }

    fn any_stages() -> impl Strategy<Value = Vec<Stage>> {
        let rate = prop_oneof![Just(0.0), 0.5..2_000.0];
        let one = (0.01..3.0f64, rate.clone(), rate).prop_map(|(s, from, to)| stage(s, from, to));
        prop::collection::vec(one, 1..6)
            .prop_filter("something is offered", |stages| total_arrivals(stages) > 1.0)
    }

    proptest! {
        #[test]
        fn arrivals_are_in_order_and_as_many_as_the_integral(stages in any_stages()) {
            let offsets: Vec<u64> =
                Schedule::window(&plan(Arrivals::Constant, stages.clone()), None).map(|a| a.offset_ns).collect();
            prop_assert!(offsets.is_sorted(), "the schedule runs backwards");
            prop_assert!(offsets.iter().all(|o| *o < total_ns(&stages)));
            // Arrival n stands where the integral passes n: there are ⌈integral⌉ of them, one more
            // or less where the integral is whole but for its rounding.
            let area = total_arrivals(&stages);
            let off = (offsets.len() as f64 - area.ceil()).abs();
            prop_assert!(off <= 1.0, "{} arrivals for an integral of {area}", offsets.len());
        }

        #[test]
        fn the_integral_at_an_arrival_is_its_number(stages in any_stages()) {
            for arrival in Schedule::window(&plan(Arrivals::Constant, stages.clone()), None) {
                let mut left = arrival.offset_ns as f64 / 1e9;
                let mut area = 0.0;
                for s in &stages {
                    let t = left.min(s.seconds()).max(0.0);
                    area += s.from_per_s * t + (s.to_per_s - s.from_per_s) / s.seconds() * t * t / 2.0;
                    left -= s.seconds();
                }
                // Offsets are whole nanoseconds, at up to 2,000/s.
                prop_assert!((area - arrival.index as f64).abs() < 1e-4, "{arrival:?}: {area}");
            }
        }

        #[test]
        fn workers_share_stages_whole(stages in any_stages(), workers in 1u32..5, poisson: bool) {
            let arrivals = if poisson { Arrivals::Poisson } else { Arrivals::Constant };
            let plan = plan(arrivals, stages);
            let whole: Vec<_> = Schedule::window(&plan, None).collect();
            let mut parts: Vec<_> =
                (0..workers).flat_map(|w| Schedule::window(&plan, None).share(w, workers)).collect();
            parts.sort_by_key(|a| a.index);
            prop_assert_eq!(whole, parts);
        }
    }

    #[test]
    fn a_ramp_of_known_roots_and_a_pause() {
        // 0 → 100/s in 2 s: the integral is 25 t², so arrival n stands at √n ÷ 5 s.
        let ramp = vec![stage(2.0, 0.0, 100.0), stage(1.0, 0.0, 0.0), stage(0.1, 10.0, 10.0)];
        let offsets: Vec<u64> =
            Schedule::window(&plan(Arrivals::Constant, ramp), None).map(|a| a.offset_ns).collect();
        assert_eq!(offsets.len(), 101, "100 of the ramp and the first behind the pause");
        for (n, offset) in offsets[..100].iter().enumerate() {
            let exact = (n as f64).sqrt() / 5.0 * 1e9;
            assert!((*offset as f64 - exact).abs() < 2.0, "arrival {n} at {offset}, not {exact}");
        }
        assert_eq!(offsets[100], 3_000_000_000, "nothing is due in a pause");
    }

    #[test]
    fn poisson_stages_have_the_counts_and_deviation_of_the_law() {
        let stages = vec![stage(1.0, 2_000.0, 0.0), stage(1.0, 0.0, 6_000.0)];
        let (mut first, mut second) = (vec![], vec![]);
        for seed in 0..200 {
            let plan = TrialPlan { seed, ..plan(Arrivals::Poisson, stages.clone()) };
            let early = Schedule::window(&plan, None).filter(|a| a.offset_ns < SECOND_NS).count();
            first.push(early as f64);
            second.push((Schedule::window(&plan, None).count() - early) as f64);
        }
        for (counts, mean) in [(first, 1_000.0), (second, 3_000.0)] {
            let seen = counts.iter().sum::<f64>() / 200.0;
            let var = counts.iter().map(|c| (c - seen).powi(2)).sum::<f64>() / 199.0;
            // Five standard errors of a mean and of a variance over 200 Poisson counts.
            assert!((seen - mean).abs() < 5.0 * (mean / 200.0f64).sqrt(), "{seen} for {mean}");
            assert!((var / mean - 1.0).abs() < 0.5, "variance ÷ mean is {}", var / mean);
        }
    }

    #[test]
    fn a_warm_up_runs_at_the_first_stages_first_rate() {
        let mut plan = plan(Arrivals::Constant, vec![stage(1.0, 50.0, 500.0)]);
        plan.warmup_ns = 2 * SECOND_NS;
        assert_eq!(Schedule::warmup(&plan, None).count(), 100);
        plan.stages[0].from_per_s = 0.0;
        assert_eq!(
            Schedule::warmup(&plan, None).count(),
            0,
            "a ramp from nothing warms nothing up"
        );
    }
}
