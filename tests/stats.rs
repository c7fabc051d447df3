//! Statistics against published values, brute force and simulation.

use duel::format::histogram;
use duel::stats::hdr::{self, Percentile};
use duel::stats::{
    CONFIDENCE, Comparison, MARGIN, RatioEstimate, Verdict, holm, judge, linear_fit, median,
    noise_floor, normal_cdf, normal_quantile, paired_ratio, pairs_needed, quantile,
    student_t_quantile, unpaired_ratio,
};
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Serializer, V2Serializer};
use proptest::prelude::{any, proptest};
use rand::{Rng, RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

fn near(found: f64, expected: f64, tolerance: f64) {
    assert!((found - expected).abs() <= tolerance, "found {found}, expected {expected}");
}

fn standard_normal(rng: &mut impl Rng) -> f64 {
    let (u, v): (f64, f64) = (1.0 - rng.random::<f64>(), rng.random());
    (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
}

/// Log-normal noise, with one trial in ten hit by a Pareto outlier of index 1.1.
fn heavy_noise(rng: &mut impl Rng) -> f64 {
    let noise = (0.05 * standard_normal(rng)).exp();
    if rng.random::<f64>() < 0.1 {
        noise * (1.0 - rng.random::<f64>()).powf(-1.0 / 1.1)
    } else {
        noise
    }
}

/// Share of simulated sweeps whose interval excludes a true ratio.
fn excluded(seed: u64, sweeps: u32, blocks: u32, true_ratio: f64) -> f64 {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
    let mut count = 0;
    for _ in 0..sweeps {
        let mut level: f64 = 10_000.0;
        let mut pairs = Vec::new();
        for _ in 0..blocks {
            // The machine drifts between blocks: a random walk with a trend.
            level *= (0.02 + 0.2 * standard_normal(&mut rng)).exp();
            pairs.push((level * true_ratio * heavy_noise(&mut rng), level * heavy_noise(&mut rng)));
        }
        let (low, high) = paired_ratio(&pairs, CONFIDENCE).unwrap().interval().unwrap();
        count += u32::from(low > true_ratio || high < true_ratio);
    }
    f64::from(count) / f64::from(sweeps)
}

#[test]
fn identical_systems_are_told_apart_as_rarely_as_promised() {
    let share = excluded(20_260_101, 1_000, 10, 1.0);
    assert!((0.03..=0.07).contains(&share), "the 95 % interval excludes 1 in a share of {share}");
}

#[test]
fn intervals_cover_a_true_ratio_at_other_sizes() {
    for (blocks, ratio) in [(6, 1.3), (15, 0.5), (61, 2.0)] {
        let share = excluded(7, 1_000, blocks, ratio);
        assert!((0.015..=0.07).contains(&share), "{blocks} blocks: {ratio} excluded in {share}");
    }
}

/// Depression scores of Hollander and Wolfe, table 3.1; R's wilcox.test gives V = 40, p = 0.03906.
#[test]
#[expect(clippy::approx_constant, reason = "a score of 3.14 is no π")]
fn signed_rank_agrees_with_the_textbook() {
    let x = [1.83_f64, 0.50, 1.62, 2.48, 1.68, 1.88, 1.55, 3.06, 1.30];
    let y = [0.878_f64, 0.647, 0.598, 2.05, 1.06, 1.29, 1.06, 3.14, 1.29];
    let pairs: Vec<(f64, f64)> = x.iter().zip(y).map(|(x, y)| (x.exp(), y.exp())).collect();
    let found = paired_ratio(&pairs, 0.95).unwrap();
    near(found.ratio.ln(), 0.46, 1e-9);
    near(found.low.unwrap().ln(), 0.01, 1e-9);
    near(found.high.unwrap().ln(), 0.786, 1e-9);
    near(found.p_value.unwrap(), 0.039_062_5, 1e-12);
    near(found.confidence.unwrap(), 0.960_937_5, 1e-12);
    assert_eq!(found.n, 9);
}

#[test]
fn achieved_confidence_is_that_of_the_exact_tables() {
    for (n, achieved) in [(6, 0.96875), (7, 0.953_125), (8, 0.960_937_5), (10, 0.951_171_875)] {
        let pairs: Vec<(f64, f64)> = (1..=n).map(|i| (f64::from(i) + 100.0, 100.0)).collect();
        near(paired_ratio(&pairs, 0.95).unwrap().confidence.unwrap(), achieved, 1e-12);
    }
}

#[test]
fn the_normal_approximation_continues_the_exact_interval() {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(3);
    let pairs: Vec<(f64, f64)> =
        (0..61).map(|_| ((1.1 + standard_normal(&mut rng)).exp(), 2.0)).collect();
    let exact = paired_ratio(&pairs[..60], 0.95).unwrap();
    let normal = paired_ratio(&pairs, 0.95).unwrap();
    near(exact.confidence.unwrap(), 0.95, 2e-3);
    near(normal.confidence.unwrap(), 0.95, 2e-3);
    assert!(normal.confidence.unwrap() >= 0.95, "the interval must hold at least its level");
    near(normal.low.unwrap().ln(), exact.low.unwrap().ln(), 0.1);
    near(normal.high.unwrap().ln(), exact.high.unwrap().ln(), 0.1);
    near(normal.p_value.unwrap().log10(), exact.p_value.unwrap().log10(), 0.7);
}

#[test]
fn few_pairs_give_a_point_only() {
    let pairs = [(2.0, 1.0); 5];
    let found = paired_ratio(&pairs, 0.95).unwrap();
    near(found.ratio, 2.0, 1e-12);
    assert_eq!((found.low, found.high, found.p_value, found.confidence), (None, None, None, None));
    let said = Comparison::alone(found, None, MARGIN).verdict;
    assert_eq!(said, Verdict::Undecided { up_to: None });
    assert_eq!(paired_ratio(&[], 0.95), None);
    assert_eq!(paired_ratio(&[(0.0, 1.0), (1.0, f64::NAN), (-1.0, 2.0)], 0.95), None);
}

#[test]
fn a_level_out_of_reach_gives_no_interval() {
    let pairs = [(2.0, 1.0), (2.1, 1.0), (2.2, 1.0), (2.3, 1.0), (2.4, 1.0), (2.5, 1.0)];
    assert_eq!(paired_ratio(&pairs, 0.99).unwrap().interval(), None);
    assert!(paired_ratio(&pairs, 0.95).unwrap().interval().is_some());
}

#[test]
fn zeros_and_ties_are_no_difference() {
    let all_equal = paired_ratio(&[(3.0, 3.0); 10], 0.95).unwrap();
    assert_eq!(all_equal.interval(), Some((1.0, 1.0)));
    assert_eq!(all_equal.p_value, Some(1.0));
    let said = Comparison::alone(all_equal, None, MARGIN).verdict;
    assert_eq!(said, Verdict::Equal { margin: MARGIN });
    // Of the 2⁸ choices of sign, only all plus and all minus are as far out.
    let tied = paired_ratio(&[(2.0, 1.0); 8], 0.95).unwrap();
    assert_eq!(tied.interval(), Some((2.0, 2.0)));
    near(tied.p_value.unwrap(), 2.0 / 256.0, 1e-12);
    // Zeros leave the test but not the interval.
    let mut pairs = vec![(1.0, 1.0); 4];
    pairs.extend([(2.0, 1.0); 6]);
    let mixed = paired_ratio(&pairs, 0.95).unwrap();
    near(mixed.p_value.unwrap(), 2.0 / 64.0, 1e-12);
    assert_eq!(mixed.low, Some(1.0));
}

#[test]
fn rank_sum_agrees_with_brute_force() {
    let a = [1.1, 2.3, 2.9, 4.2, 5.7, 8.8];
    let b = [0.9, 1.3, 1.7, 2.0, 3.1, 3.3];
    let u = |mask: u32, all: &[f64]| -> u32 {
        let inside = |i: usize| mask >> i & 1 == 1;
        let mut wins = 0;
        for i in (0..12).filter(|i| inside(*i)) {
            wins += (0..12).filter(|j| !inside(*j) && all[i] > all[*j]).count();
        }
        wins as u32
    };
    let all: Vec<f64> = a.iter().chain(&b).copied().collect();
    let seen = u(0b11_1111, &all);
    let far = seen.min(36 - seen);
    let masks: Vec<u32> = (0u32..4096).filter(|m| m.count_ones() == 6).collect();
    let as_far = masks.iter().filter(|m| u(**m, &all) <= far).count();
    let expected = (2.0 * as_far as f64 / masks.len() as f64).min(1.0);
    let found = unpaired_ratio(&a, &b, 0.95).unwrap();
    near(found.p_value.unwrap(), expected, 1e-12);
    assert!(found.low.unwrap() < found.ratio && found.ratio < found.high.unwrap());
    assert!(found.confidence.unwrap() >= 0.95);
    let apart = unpaired_ratio(&[10., 11., 12., 13., 14., 15.], &[1., 2., 3., 4., 5., 6.], 0.95);
    near(apart.unwrap().p_value.unwrap(), 2.0 / 924.0, 1e-12);
}

#[test]
fn unpaired_intervals_exclude_the_truth_rarely() {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(11);
    for (m, n) in [(10, 10), (50, 45)] {
        let mut count = 0;
        for _ in 0..1_000 {
            let a: Vec<f64> = (0..m).map(|_| heavy_noise(&mut rng)).collect();
            let b: Vec<f64> = (0..n).map(|_| heavy_noise(&mut rng)).collect();
            let (low, high) = unpaired_ratio(&a, &b, CONFIDENCE).unwrap().interval().unwrap();
            count += u32::from(low > 1.0 || high < 1.0);
        }
        assert!((25..=70).contains(&count), "{m} and {n} values: {count} of 1,000");
    }
}

#[test]
fn holm_steps_down_and_never_beyond_one() {
    // R: p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm")
    for (found, expected) in holm(&[0.01, 0.04, 0.03, 0.005]).iter().zip([0.03, 0.06, 0.06, 0.02]) {
        near(*found, expected, 1e-12);
    }
    assert_eq!(holm(&[0.9, 0.8]), [1.0, 1.0]);
    assert!(holm(&[]).is_empty());
}

#[test]
fn verdicts_follow_interval_margin_floor_and_correction() {
    let estimate = |ratio, low, high, p| RatioEstimate {
        ratio,
        low: Some(low),
        high: Some(high),
        n: 10,
        p_value: Some(p),
        confidence: Some(0.963),
    };
    let alone = |e, floor| Comparison::alone(e, floor, 0.05).verdict;
    let undecided = |end| Verdict::Undecided { up_to: Some(end) };
    let above = estimate(1.2, 1.1, 1.3, 0.01);
    assert_eq!(alone(above, None), Verdict::Higher);
    assert_eq!(alone(above, Some((0.8, 1.25))), undecided(1.3), "inside the noise floor");
    assert_eq!(alone(estimate(0.5, 0.4, 0.6, 0.01), None), Verdict::Lower);
    // Seen in real reports, where both were called "no difference".
    assert_eq!(alone(estimate(1.15, 0.54, 1.65, 0.4), None), undecided(0.54));
    assert_eq!(alone(estimate(1.07, 0.83, 1.34, 0.4), None), undecided(1.34));
    assert_eq!(alone(estimate(1.03, 1.0, 1.08, 0.055), None), undecided(1.08));
    // Equal means that the whole interval is close to 1, whether or not it holds 1.
    let equal = Verdict::Equal { margin: 0.05 };
    assert_eq!(alone(estimate(1.0, 0.96, 1.04, 0.9), None), equal);
    assert_eq!(alone(estimate(1.02, 1.01, 1.03, 0.01), None), equal);
    assert_eq!(alone(estimate(0.97, 0.951, 0.99, 0.06), None), undecided(0.951), "1/1.05 = 0.952");
    // Ten alike of which each is shown alone are not shown together.
    let mut family = vec![Comparison::alone(above, None, 0.05); 10];
    assert_eq!(judge(&mut family, 0.05), 10);
    assert!(family.iter().all(|c| c.verdict == undecided(1.3) && c.adjusted_p == Some(0.1)));
    let said = [Verdict::Higher, equal, undecided(1.65), undecided(0.54)].map(|v| v.to_string());
    let words = [
        "higher",
        "equal within 5 %",
        "undecided, could be up to 1.65×",
        "undecided, could be as low as 0.54×",
    ];
    assert_eq!(said, words);
    let (low, high) = noise_floor(&estimate(0.98, 0.95, 1.01, 0.5)).unwrap();
    near(low, 0.95, 1e-12);
    near(high, 1.0 / 0.95, 1e-12);
}

#[test]
fn so_many_pairs_can_settle_one_of_so_many_comparisons() {
    for comparisons in [1, 2, 14, 24, 100] {
        let n = pairs_needed(comparisons);
        let adjusted = |n: u32| 2.0 / 2f64.powi(n as i32) * comparisons as f64;
        assert!(adjusted(n) <= 0.04 && adjusted(n - 1) > 0.04, "{comparisons} comparisons: {n}");
    }
}

#[test]
fn quantiles_interpolate() {
    assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
    assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
    assert_eq!(median(&[]), None);
    assert_eq!(quantile(&[1.0, 2.0, 3.0, 4.0, 5.0], 0.9), Some(4.6));
    assert_eq!(quantile(&[1.0], 1.5), None);
}

#[test]
fn laws_agree_with_tables() {
    near(normal_cdf(1.959_963_984_540_054), 0.975, 1e-14);
    near(normal_cdf(-6.0) / 9.865_876_450_376_98e-10, 1.0, 1e-9);
    near(normal_cdf(3.0 - 1e-9), normal_cdf(3.0 + 1e-9), 1e-10);
    near(normal_quantile(0.025), -1.959_963_984_540_054, 1e-12);
    near(student_t_quantile(0.975, 1), 12.706_204_736_432_1, 1e-8);
    near(student_t_quantile(0.975, 2), 4.302_652_729_911_28, 1e-9);
    near(student_t_quantile(0.975, 5), 2.570_581_836_614_74, 1e-9);
    near(student_t_quantile(0.975, 30), 2.042_272_456_301_24, 1e-9);
}

#[test]
fn lines_are_fitted_with_intervals() {
    let exact = linear_fit(&[(100.0, 1_100.0), (1_000.0, 2_000.0)], 0.95).unwrap();
    near(exact.slope, 1.0, 1e-12);
    near(exact.intercept, 1_000.0, 1e-9);
    assert_eq!(exact.slope_interval, None);
    // By hand: Sxx = 10, Sxy = 19.9, residual sum of squares 0.107; t(0.975, 3) from tables.
    let points = [(1.0, 2.1), (2.0, 3.9), (3.0, 6.2), (4.0, 7.8), (5.0, 10.1)];
    let fit = linear_fit(&points, 0.95).unwrap();
    near(fit.slope, 1.99, 1e-12);
    near(fit.intercept, 0.05, 1e-12);
    let error = (0.107_f64 / 3.0 / 10.0).sqrt();
    near(fit.slope_interval.unwrap().1, 1.99 + 3.182_446_305_284_26 * error, 1e-9);
    assert_eq!(linear_fit(&[(1.0, 2.0), (1.0, 3.0)], 0.95), None);
    assert_eq!(linear_fit(&[(1.0, 2.0)], 0.95), None);
    assert_eq!(linear_fit(&[], 0.95), None);
}

#[test]
fn percentiles_need_samples_and_know_timeouts() {
    assert_eq!([0.5, 0.9, 0.99, 0.999].map(hdr::samples_needed), [20, 100, 1_000, 10_000]);
    let mut h = Histogram::<u64>::new(3).unwrap();
    h.record_n(1_000_000, 980).unwrap();
    h.record_n(5_000_100_000, 19).unwrap();
    assert_eq!(hdr::percentile(&h, 0, 0.99, None), None, "999 samples are one too few");
    h.record(5_000_200_000).unwrap();
    let limit = hdr::gave_up_ns(&h, 20).unwrap();
    assert!((4_990_000_000..=5_000_100_000).contains(&limit), "{limit}");
    let p50 = hdr::percentile(&h, 0, 0.5, Some(limit)).unwrap();
    assert!(!p50.lower_bound && p50.ns < 1_002_000, "{p50:?}");
    let Some(Percentile { ns, lower_bound: true }) = hdr::percentile(&h, 0, 0.99, Some(limit))
    else {
        panic!("p99 falls on a timed-out request");
    };
    assert!(ns <= 5_000_100_000, "a bound must not be rounded up: {ns}");
    assert_eq!(hdr::gave_up_ns(&h, 0), None);
}

#[test]
fn merged_histograms_equal_one_that_recorded_all() {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(5);
    let mut whole = Histogram::<u64>::new_with_bounds(1, 60_000_000_000, 3).unwrap();
    let mut sum: Option<Histogram<u64>> = None;
    for _ in 0..4 {
        let mut part = Histogram::<u64>::new_with_bounds(1, 60_000_000_000, 3).unwrap();
        for _ in 0..1_000 {
            let v = (heavy_noise(&mut rng) * 1e6) as u64;
            part.record(v).unwrap();
            whole.record(v).unwrap();
        }
        let read = histogram::decode(&histogram::encode(&part).unwrap()).unwrap();
        match &mut sum {
            Some(sum) => sum.add(read).unwrap(),
            None => sum = Some(read),
        }
    }
    let sum = sum.unwrap();
    for q in [0.0, 0.5, 0.9, 0.99, 0.999, 1.0] {
        assert_eq!(sum.value_at_quantile(q), whole.value_at_quantile(q), "quantile {q}");
    }
    for text in ["", "HISTFAAAA", "not base64 !", "AAAA"] {
        assert!(histogram::decode(text).is_err(), "{text:?} must be refused");
    }
}

proptest! {
    /// A record may come from anywhere: its histograms are refused or read, but never fatal.
    #[test]
    fn damaged_histograms_are_survived(
        deflated in any::<bool>(),
        at in 0usize..400,
        byte in any::<u8>(),
        cut in 0usize..400,
    ) {
        use base64::Engine as _;
        use base64::engine::general_purpose::STANDARD;
        let mut h = Histogram::<u64>::new_with_bounds(1, 60_000_000_000, 3).unwrap();
        for i in 1..300u64 {
            h.record(i * i * 1_000).unwrap();
        }
        let mut bytes = STANDARD.decode(histogram::encode(&h).unwrap()).unwrap();
        if !deflated {
            // No checksum stands before the counts and bounds of the plain form.
            bytes.clear();
            V2Serializer::new().serialize(&h, &mut bytes).unwrap();
        }
        let at = at % bytes.len();
        bytes[at] = byte;
        let whole = bytes.len();
        bytes.truncate(whole - cut % whole);
        if let Ok(read) = histogram::decode(&STANDARD.encode(&bytes)) {
            hdr::percentile(&read, 0, 0.5, hdr::gave_up_ns(&read, 1));
        }
    }
}
