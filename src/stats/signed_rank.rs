//! Paired comparison: the Hodges–Lehmann estimate and the exact Wilcoxon signed-rank interval.
//!
//! M. Hollander, D. Wolfe and E. Chicken, "Nonparametric Statistical Methods", 3rd edition,
//! sections 3.1 to 3.3. The estimate is the median of the Walsh averages (dᵢ + dⱼ) / 2, i ≤ j; the
//! interval, the test inverted, is a pair of order statistics of the same averages.
//!
//! Log-ratios of zero and ties: the estimate and the interval keep them, since Walsh averages need
//! no ranks; the closed interval then holds its level or more. The p-value drops zeros and gives
//! ties their mean rank, and its null distribution is exact given those ranks.

use super::{MIN_FOR_INTERVAL, RatioEstimate, doubled_midranks, law, quantile_sorted, tail_index};

/// Up to this many pairs the null distribution is enumerated; beyond, it is taken as normal.
pub(super) const EXACT_UP_TO: usize = 60;

/// The ratio this ÷ baseline from pairs `(this, baseline)` of the same block.
///
/// Pairs with a value that is not finite or not above zero have no log-ratio and are left out.
/// `None` without a single pair. The interval is `None` under [`MIN_FOR_INTERVAL`] pairs and where
/// so few pairs can give no interval of `confidence` (six pairs reach 96.9 %, not 99 %).
pub fn paired_ratio(pairs: &[(f64, f64)], confidence: f64) -> Option<RatioEstimate> {
    let usable = |v: f64| v.is_finite() && v > 0.0;
    let logs: Vec<f64> = pairs
        .iter()
        .filter(|(this, baseline)| usable(*this) && usable(*baseline))
        .map(|(this, baseline)| this.ln() - baseline.ln())
        .collect();
    if logs.is_empty() {
        return None;
    }
    let walsh = walsh_averages(&logs);
    let n = logs.len();
    let bounds = (n >= MIN_FOR_INTERVAL).then(|| interval_index(n, confidence)).flatten();
    Some(RatioEstimate {
        ratio: quantile_sorted(&walsh, 0.5).exp(),
        low: bounds.map(|(k, _)| walsh[k].exp()),
        high: bounds.map(|(k, _)| walsh[walsh.len() - 1 - k].exp()),
        n,
        p_value: (n >= MIN_FOR_INTERVAL).then(|| p_value(&logs)),
        confidence: bounds.map(|(_, achieved)| achieved),
    })
}

/// All (dᵢ + dⱼ) / 2 with i ≤ j, in ascending order.
fn walsh_averages(logs: &[f64]) -> Vec<f64> {
    let mut averages = Vec::with_capacity(logs.len() * (logs.len() + 1) / 2);
    for (i, a) in logs.iter().enumerate() {
        averages.extend(logs[i..].iter().map(|b| 0.5 * (a + b)));
    }
    averages.sort_by(f64::total_cmp);
    averages
}

/// How many Walsh averages to leave out at each end, and the confidence that this achieves.
fn interval_index(n: usize, confidence: f64) -> Option<(usize, f64)> {
    let tail = (1.0 - confidence) / 2.0;
    if n <= EXACT_UP_TO {
        let ranks: Vec<usize> = (1..=n).collect();
        let (k, held) = tail_index(null_distribution(&ranks).into_iter(), tail)?;
        return Some((k, 1.0 - 2.0 * held));
    }
    let (mean, deviation) = normal_moments(n);
    let k = (mean + law::normal_quantile(tail) * deviation - 0.5).floor();
    let achieved = 1.0 - 2.0 * law::normal_cdf((k + 0.5 - mean) / deviation);
    (k >= 0.0).then_some((k as usize, achieved))
}

/// Mean and standard deviation of the sum of positive ranks under no difference, without ties.
fn normal_moments(n: usize) -> (f64, f64) {
    let n = n as f64;
    (n * (n + 1.0) / 4.0, (n * (n + 1.0) * (2.0 * n + 1.0) / 24.0).sqrt())
}

/// P(sum = s) for s = 0 … Σ ranks, where each rank is counted with probability one half.
fn null_distribution(ranks: &[usize]) -> Vec<f64> {
    let mut mass = vec![0.0; ranks.iter().sum::<usize>() + 1];
    mass[0] = 1.0;
    let mut reach = 0;
    for &rank in ranks {
        // Downwards, so that a rank is never counted twice.
        for s in (0..=reach).rev() {
            let half = 0.5 * mass[s];
            mass[s] = half;
            mass[s + rank] += half;
        }
        reach += rank;
    }
    mass
}

/// Two-sided p-value of the signed-rank test that the log-ratios are symmetrical about zero.
fn p_value(logs: &[f64]) -> f64 {
    let mut signed: Vec<f64> = logs.iter().copied().filter(|d| *d != 0.0).collect();
    signed.sort_by(|a, b| a.abs().total_cmp(&b.abs()));
    let magnitudes: Vec<f64> = signed.iter().map(|d| d.abs()).collect();
    let ranks = doubled_midranks(&magnitudes);
    let positive: usize =
        signed.iter().zip(&ranks).filter(|(d, _)| **d > 0.0).map(|(_, r)| r).sum();
    let total: usize = ranks.iter().sum();
    let smaller = positive.min(total - positive);
    if signed.len() <= EXACT_UP_TO {
        let held: f64 = null_distribution(&ranks)[..=smaller].iter().sum();
        return (2.0 * held).min(1.0);
    }
    // Doubled ranks: mean Σr/2 and variance Σr²/4 need no separate correction for ties.
    let deviation = (ranks.iter().map(|r| (r * r) as f64).sum::<f64>() / 4.0).sqrt();
    let z = (smaller as f64 + 1.0 - total as f64 / 2.0) / deviation;
    (2.0 * law::normal_cdf(z)).min(1.0)
}
