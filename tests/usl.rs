//! The Universal Scalability Law and Erlang's formulas against published and exact values.

use duel::report::erlang;
use duel::report::usl::{self, Coefficients, Fit, NoFit, UslSample, Weights};

fn once(lanes: &[u32], per_s: &[f64]) -> Vec<UslSample> {
    lanes.iter().zip(per_s).map(|(&lanes, &per_s)| UslSample { lanes, block: 0, per_s }).collect()
}

/// As a report fits.
fn fit(samples: &[UslSample], seed: u64) -> Result<Fit, NoFit> {
    usl::fit(samples, Weights::Relative, seed)
}

#[track_caller]
fn near(found: f64, expected: f64, tolerance: f64) {
    assert!((found - expected).abs() <= tolerance, "{found} is not {expected} ± {tolerance}");
}

/// SPEC SDM91 on a SPARCcenter 2000, as the R package `usl` prints it.
fn sdm91() -> Fit {
    let lanes = [1, 18, 36, 72, 108, 144, 216];
    let per_s = [64.9, 995.9, 1652.4, 1853.2, 1828.9, 1775.0, 1702.2];
    usl::fit(&once(&lanes, &per_s), Weights::Absolute, 1).unwrap()
}

#[test]
fn sdm91_agrees_with_r_in_every_printed_digit() {
    let f = sdm91();
    near(f.at.alpha, 0.0277285, 5e-8);
    near(f.at.beta, 0.0001044, 5e-8);
    near(f.at.gamma, 89.9952330, 5e-7);
    near(f.standard_errors.alpha, 0.0091217, 5e-8);
    near(f.standard_errors.beta, 0.0000199, 5e-8);
    near(f.standard_errors.gamma, 14.2134894, 5e-7);
    near(f.residual_deviation, 82.85, 5e-3);
    let peak = f.peak().unwrap();
    near(peak.lanes, 96.51956, 5e-6);
    near(peak.per_s, 1884.0, 0.5);
    near(f.limit_per_s().unwrap(), 3245.589, 5e-4);
    near(1.0 / f.at.alpha, 36.06401, 5e-6);
    let fitted = [90.0, 1078.0, 1541.0, 1850.0, 1879.0, 1822.0, 1646.0];
    let efficiency = [0.7211, 0.6148, 0.5100, 0.2860, 0.1882, 0.1370, 0.0876];
    for ((r, fitted), efficiency) in f.residuals.iter().zip(fitted).zip(efficiency) {
        near(r.measured_per_s - r.residual_per_s, fitted, 0.5);
        near(r.measured_per_s / f.at.gamma / f64::from(r.lanes), efficiency, 5e-5);
    }
}

#[test]
fn schwartz_data_within_a_hundred_thousandth() {
    let per_s = [
        955.16, 1878.91, 2688.01, 3548.68, 4315.54, 5130.43, 5931.37, 6531.08, 7219.8, 7867.61,
        8278.71, 8646.7, 9047.84, 9426.55, 9645.37, 9897.24, 10097.6, 10240.5, 10532.39, 10798.52,
        11151.43, 11518.63, 11806.0, 12089.37, 12075.41, 12177.29, 12211.41, 12158.93, 12155.27,
        12118.04, 12140.4, 12074.39,
    ];
    let lanes: Vec<u32> = (1..=32).collect();
    let f = usl::fit(&once(&lanes, &per_s), Weights::Absolute, 1).unwrap();
    let relative = |found: f64, expected: f64| near(found / expected, 1.0, 1e-5);
    relative(f.at.alpha, 0.02671591);
    relative(f.at.beta, 7.690945e-4);
    relative(f.at.gamma, 995.6486);
    relative(f.predict(35.0).per_s, 12341.7454);
    relative(f.predict(20.0).per_s, 11063.6331);
    relative(20.0 / f.predict(20.0).per_s, 0.00180772444);
    assert_eq!(f.peak().unwrap().lanes.floor(), 35.0);
}

/// Trials that follow the law but for a disturbance of each block.
fn trials(lanes: &[u32], blocks: u32, alpha: f64, beta: f64) -> Vec<UslSample> {
    let disturbed = |block: u32| 1.0 + 0.01 * f64::from(block % 3) - 0.01;
    let law = |n: f64| 1_000.0 * n / (1.0 + alpha * (n - 1.0) + beta * n * (n - 1.0));
    (0..blocks)
        .flat_map(|block| {
            let per_s = move |n: u32| law(f64::from(n)) * disturbed(block);
            lanes.iter().map(move |&lanes| UslSample { lanes, block, per_s: per_s(lanes) })
        })
        .collect()
}

#[test]
fn exact_data_give_the_coefficients_back() {
    let f = fit(&trials(&[1, 2, 4, 8, 16, 32], 6, 0.03, 0.0005), 7).unwrap();
    near(f.at.alpha, 0.03, 1e-9);
    near(f.at.beta, 0.0005, 1e-11);
    near(f.at.gamma, 1_000.0, 1e-5);
}

#[test]
fn bounds_hold_where_throughput_grows_faster_than_lanes() {
    let f = fit(&once(&[1, 2, 4, 8], &[100.0, 230.0, 500.0, 1_100.0]), 1).unwrap();
    assert_eq!((f.at.alpha, f.at.beta), (0.0, 0.0), "more than linear is linear on the bounds");
    assert_eq!((f.peak(), f.limit_per_s()), (None, None));
    assert_eq!((f.standard_errors.alpha, f.standard_errors.beta), (0.0, 0.0));
    let f = fit(&trials(&[1, 4, 16, 64], 1, 0.05, 0.0), 1).unwrap();
    near(f.at.beta, 0.0, 1e-9);
}

/// Weighted sum of squares of what a fit makes small, by its definition.
fn sum_of_squares(samples: &[UslSample], weights: Weights, at: Coefficients) -> f64 {
    let residual = |s: &UslSample| {
        let fitted = at.throughput(f64::from(s.lanes));
        if weights == Weights::Relative { s.per_s / fitted - 1.0 } else { s.per_s - fitted }
    };
    samples.iter().map(|s| residual(s).powi(2)).sum()
}

#[test]
fn no_neighbour_of_a_fit_is_better() {
    let mut seed = 11_u64;
    let mut random = move || {
        // Knuth's linear congruence: any data will do.
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 11) as f64 / (1_u64 << 53) as f64
    };
    let mut on_bounds = 0;
    for _ in 0..200 {
        let (alpha, beta) = (0.1 * random() - 0.02, 0.002 * random() - 0.0005);
        let law = |n: f64| 500.0 * n / (1.0 + alpha * (n - 1.0) + beta * n * (n - 1.0)).max(0.2);
        let samples: Vec<UslSample> = [1, 2, 4, 8, 16, 32, 64]
            .into_iter()
            .map(|lanes| UslSample {
                lanes,
                block: 0,
                per_s: law(f64::from(lanes)) * (0.95 + 0.1 * random()),
            })
            .collect();
        for weights in [Weights::Relative, Weights::Absolute] {
            let at = usl::fit(&samples, weights, 1).unwrap().at;
            on_bounds += usize::from(at.alpha == 0.0 || at.beta == 0.0);
            let best = sum_of_squares(&samples, weights, at);
            for (a, b, g) in [(1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1)] {
                let near = Coefficients {
                    alpha: (at.alpha + 1e-4 * f64::from(a)).max(0.0),
                    beta: (at.beta + 1e-6 * f64::from(b)).max(0.0),
                    gamma: at.gamma * (1.0 + 1e-4 * f64::from(g)),
                };
                let sum = sum_of_squares(&samples, weights, near);
                assert!(sum >= best * (1.0 - 1e-9), "{weights:?}: {near:?} is better than {at:?}");
            }
        }
    }
    assert!((20..380).contains(&on_bounds), "{on_bounds} of 400 on a bound: one kind is not tried");
}

#[test]
fn errors_in_proportion_to_throughput_count_alike_at_few_and_many_lanes() {
    let mut samples = trials(&[1, 4, 16, 64, 256, 1_024], 1, 0.001, 0.0);
    samples[5].per_s *= 0.95;
    let gamma = |weights| usl::fit(&samples, weights, 1).unwrap().at.gamma / 990.0 - 1.0;
    let (relative, absolute) = (gamma(Weights::Relative).abs(), gamma(Weights::Absolute).abs());
    assert!(relative < 0.02, "5 % less of the most lanes moves γ by {relative:.3}");
    assert!(relative < absolute, "{relative:.3} is not less than {absolute:.3}");
}

#[test]
fn too_little_data_give_no_fit_or_no_interval() {
    assert_eq!(fit(&once(&[1, 2, 4], &[1.0, 2.0, 3.0]), 1), Err(NoFit::TooFew(3)));
    assert_eq!(fit(&[], 1), Err(NoFit::TooFew(0)));
    assert_eq!(fit(&once(&[1, 2, 4, 8], &[1.0, 2.0, 0.0, 3.0]), 1), Err(NoFit::NotPositive(4)));
    let with = |lanes: &[u32], blocks| fit(&trials(lanes, blocks, 0.03, 0.0005), 1).unwrap();
    assert_eq!(with(&[1, 2, 4, 8, 16], 6).intervals, None, "five lane values");
    assert_eq!(with(&[1, 2, 4, 8, 16, 32], 5).intervals, None, "five blocks");
    assert!(with(&[1, 2, 4, 8, 16, 32], 6).intervals.is_some());
}

#[test]
fn intervals_hold_the_truth_and_depend_on_the_seed_alone() {
    let samples = trials(&[1, 2, 4, 8, 16, 32], 9, 0.03, 0.0005);
    let (low, high) = fit(&samples, 3).unwrap().intervals.unwrap();
    assert!(low.gamma < 1_000.0 && 1_000.0 < high.gamma, "{low:?} {high:?}");
    assert!(low.alpha <= high.alpha && low.beta <= high.beta, "{low:?} {high:?}");
    assert_eq!(fit(&samples, 3), fit(&samples, 3));
    assert_ne!(fit(&samples, 3).unwrap().intervals, fit(&samples, 4).unwrap().intervals);
}

#[test]
fn beyond_twice_the_data_is_said() {
    let f = sdm91();
    assert!(!f.predict(432.0).beyond_data);
    assert!(f.predict(433.0).beyond_data);
    let f = fit(&trials(&[1, 2, 3, 4], 1, 0.01, 0.0001), 1).unwrap();
    assert!(f.peak().unwrap().beyond_data, "a peak at 99 lanes from 4");
}

#[test]
fn erlang_c_agrees_with_exact_values() {
    for (lanes, load, share) in [
        (2, 1.6, 0.71111111),
        (3, 2.0, 0.44444444),
        (3, 2.5, 0.70224719),
        (4, 2.5, 0.31985670),
        (5, 2.5, 0.13037130),
    ] {
        near(erlang::waiting(lanes, load), share, 5e-9);
    }
    near(erlang::waiting(2, 1.6) / 0.4, 1.77777778, 5e-9);
    near(erlang::waiting(3, 2.0) / 1.0, 0.44444444, 5e-9);
    near(erlang::waiting(1, 0.8) / 0.2, 4.0, 1e-12);
    assert_eq!(erlang::waiting(2, 2.0), 1.0);
    assert_eq!(erlang::waiting(2, 2.5), 1.0);
    assert_eq!(erlang::lanes_for(2.5, 0.2), Some(5));
    assert_eq!(erlang::lanes_for(2.5, 0.32), Some(4));
    assert_eq!(erlang::lanes_for(0.0, 0.01), Some(1));
    assert_eq!(erlang::lanes_for(-1.0, 0.01), None);
    assert_eq!(erlang::lanes_for(f64::NAN, 0.01), None);
}
