//! Schedules of any rate, length and seed: arrivals in order, inside the window, as many as counted,
//! and shares of workers that add up.
//!
//! Run: `RUSTC_BOOTSTRAP=1 cargo fuzz run schedule -- -max_total_time=600`

#![no_main]

use duel::plan::schedule::Schedule;
use duel::plan::{Arrivals, Extent, TrialPlan};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (bool, u32, u32, u64, u8)| {
    let (poisson, rate, ms, seed, workers) = input;
    let rate_per_s = f64::from(rate % 100_000) + 0.5;
    let plan = TrialPlan {
        arrivals: if poisson { Arrivals::Poisson } else { Arrivals::Constant },
        offered_per_s: Some(rate_per_s),
        extent: Extent::DurationNs(u64::from(ms % 1_000) * 1_000_000 + 1),
        seed,
        ..TrialPlan::default()
    };
    let workers = u32::from(workers % 8) + 1;
    let schedule = || Schedule::window(&plan, None);
    let all = schedule().count_share(0, 1);
    let shares: u64 = (0..workers).map(|w| schedule().count_share(w, workers)).sum();
    assert_eq!(shares, all, "shares of {workers} workers");
});
