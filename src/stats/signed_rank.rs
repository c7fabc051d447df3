//! Paired comparison: the Hodges–Lehmann estimate and the exact Wilcoxon signed-rank interval.
//!
//! M. Hollander, D. Wolfe and E. Chicken, "Nonparametric Statistical Methods", 3rd edition,
//! sections 3.1 to 3.3. The estimate is the median of the Walsh averages (dᵢ + dⱼ) / 2, i ≤ j; the
//! interval, the test inverted, is a pair of order statistics of the same averages.
//!
//! Log-ratios of zero and ties: the estimate and the interval keep them, since Walsh averages need
//! no ranks; the closed interval then holds its level or more. The p-value drops zeros and gives
//! ties their mean rank, and its null distribution is exact given those ranks.

use super::{Null, RatioEstimate, doubled_midranks};

/// Up to this many pairs the null distribution is enumerated; beyond, it is taken as normal.
const EXACT_UP_TO: usize = 60;

/// The ratio this ÷ baseline from pairs `(this, baseline)` of the same block.
///
/// Pairs with a value that is not finite or not above zero have no log-ratio and are left out.
/// `None` without a single pair. The interval is `None` under [`super::MIN_FOR_INTERVAL`] pairs and where
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
    let (averages, n) = (walsh_averages(&logs), logs.len());
    Some(RatioEstimate::of(&averages, n, confidence, || null(n), || p_value(&logs)))
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

/// The law of the sum of positive ranks without ties.
fn null(n: usize) -> Null {
    if n <= EXACT_UP_TO {
        return Null::Exact(null_distribution(&(1..=n).collect::<Vec<_>>()));
    }
    let n = n as f64;
    let deviation = (n * (n + 1.0) * (2.0 * n + 1.0) / 24.0).sqrt();
    Null::Normal { mean: n * (n + 1.0) / 4.0, deviation }
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
    // Doubled ranks: mean Σr/2 and variance Σr²/4 need no separate correction for ties.
    let squares: f64 = ranks.iter().map(|r| (r * r) as f64).sum();
    let null = match signed.len() <= EXACT_UP_TO {
        true => Null::Exact(null_distribution(&ranks)),
        false => Null::Normal { mean: total as f64 / 2.0, deviation: (squares / 4.0).sqrt() },
    };
    null.p_value(positive.min(total - positive) as f64, 2.0)
}
