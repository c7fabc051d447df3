//! Tests of two independent samples that are too small for ranks, or that are counts.

use super::law::{student_t_cdf, student_t_quantile};
use super::{RatioEstimate, logs};

/// The ratio this ÷ baseline of two small samples of positive values, such as one median per run: the
/// difference of mean logarithms with Student's interval of pooled variance, since ranks of three
/// against three can show nothing.
///
/// `None` where a side has no positive value; no interval with fewer than two on a side.
pub(crate) fn log_t_ratio(
    this: &[f64],
    baseline: &[f64],
    confidence: f64,
) -> Option<RatioEstimate> {
    let (x, y) = (logs(this), logs(baseline));
    let mean = |v: &[f64]| v.iter().sum::<f64>() / v.len() as f64;
    if x.is_empty() || y.is_empty() {
        return None;
    }
    let (mx, my) = (mean(&x), mean(&y));
    let (ratio, n) = ((mx - my).exp(), x.len().min(y.len()));
    if n < 2 {
        return Some(RatioEstimate { ratio, n, ..RatioEstimate::default() });
    }
    let squares = |v: &[f64], m: f64| v.iter().map(|a| (a - m).powi(2)).sum::<f64>();
    let degrees = x.len() + y.len() - 2;
    let variance = (squares(&x, mx) + squares(&y, my)) / degrees as f64;
    let error = (variance * (1.0 / x.len() as f64 + 1.0 / y.len() as f64)).sqrt();
    let reach = student_t_quantile(0.5 + confidence / 2.0, degrees) * error;
    let t = if error > 0.0 { (mx - my).abs() / error } else { f64::INFINITY };
    let p_value = if mx == my { 1.0 } else { 2.0 * (1.0 - student_t_cdf(t, degrees)) };
    Some(RatioEstimate {
        ratio,
        low: Some((mx - my - reach).exp()),
        high: Some((mx - my + reach).exp()),
        n,
        p_value: Some(p_value),
        confidence: Some(confidence),
    })
}

/// Two-sided p-value of "the same share is lost", for counts (lost, planned) of two samples: given
/// all that were lost, those of the second are binomial (the exact conditional test of two Poisson
/// rates, Przyborowski and Wilenski, Biometrika 31, 1940).
pub(crate) fn lost_p_value(a: (u64, u64), b: (u64, u64)) -> f64 {
    let (n, share) = (a.0 + b.0, b.1 as f64 / (a.1 + b.1).max(1) as f64);
    if n == 0 || !(0.0..1.0).contains(&share) || share == 0.0 {
        return 1.0;
    }
    // Both tails by the ratio of neighbours, from the observed count outwards.
    let log_choose = |k: u64| log_factorial(n) - log_factorial(k) - log_factorial(n - k);
    let at = |k: u64| {
        (log_choose(k) + k as f64 * share.ln() + (n - k) as f64 * (1.0 - share).ln()).exp()
    };
    let odds = share / (1.0 - share);
    let (mut p, mut upper) = (at(b.0), 0.0);
    for k in b.0..=n {
        upper += p;
        p *= (n - k) as f64 / (k + 1) as f64 * odds;
        if p < 1e-18 * upper {
            break;
        }
    }
    let lower = (1.0 - upper + at(b.0)).clamp(0.0, 1.0);
    (2.0 * upper.min(lower)).min(1.0)
}

/// ln n!, by Stirling's series from 20 up (Abramowitz and Stegun 6.1.41).
fn log_factorial(n: u64) -> f64 {
    if n < 20 {
        return (2..=n).map(|k| (k as f64).ln()).sum();
    }
    let x = n as f64 + 1.0;
    (x - 0.5) * x.ln() - x + 0.5 * std::f64::consts::TAU.ln() + 1.0 / (12.0 * x)
        - 1.0 / (360.0 * x.powi(3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_runs_against_three() {
        // By hand: means of the logarithms 0.13197 apart, pooled variance 0.004626, so t = 2.376 with
        // four degrees of freedom and p = 0.0763.
        let found = log_t_ratio(&[11.0, 12.0, 13.0], &[10.0, 10.5, 11.0], 0.95).unwrap();
        assert!((found.p_value.unwrap() - 0.0763).abs() < 1e-4, "{found:?}");
        let (low, high) = found.interval().unwrap();
        assert!(low < 1.0 && high > found.ratio && found.ratio > 1.13, "{found:?}");
        assert_eq!(log_t_ratio(&[1.0], &[2.0], 0.95).unwrap().interval(), None);
        assert_eq!(log_t_ratio(&[], &[2.0], 0.95), None);
    }

    #[test]
    fn lost_requests_by_the_exact_test() {
        // By hand: 5 lost, all of them in the second of two equal samples: 2 ÷ 2⁵.
        assert!((lost_p_value((0, 100), (5, 100)) - 2.0 / 32.0).abs() < 1e-12);
        assert!((lost_p_value((5, 100), (0, 100)) - 2.0 / 32.0).abs() < 1e-12);
        assert_eq!(lost_p_value((0, 100), (0, 100)), 1.0);
        assert!(lost_p_value((3, 1000), (3, 1000)) > 0.9);
        assert!(lost_p_value((0, 20_000), (10_000, 20_000)) < 1e-100);
        assert!(lost_p_value((1_000_000, 4_000_000), (1_000_500, 4_000_000)) > 0.5);
    }
}
