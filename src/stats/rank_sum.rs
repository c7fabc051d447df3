//! Unpaired comparison: the Hodges–Lehmann shift and the exact Mann–Whitney interval.
//!
//! Hollander, Wolfe and Chicken (see the signed-rank module), sections 4.1 to 4.3. The shift is the
//! median of all differences aᵢ − bⱼ of the logarithms; the interval is a pair of order statistics
//! of the same differences. Ties: the interval keeps its level or more; the p-value counts a tied
//! pair as half, rounded towards no difference.

use super::{Null, RatioEstimate, logs};

/// Up to this many values per side the null distribution is enumerated.
const EXACT_UP_TO: usize = 40;

/// The ratio this ÷ baseline of two independent samples.
///
/// Values that are not finite or not above zero are left out; `None` if a side is empty then. The
/// interval is `None` with fewer than [`super::MIN_FOR_INTERVAL`] values on a side.
pub fn unpaired_ratio(this: &[f64], baseline: &[f64], confidence: f64) -> Option<RatioEstimate> {
    let (a, b) = (logs(this), logs(baseline));
    if a.is_empty() || b.is_empty() {
        return None;
    }
    let mut shifts: Vec<f64> = a.iter().flat_map(|x| b.iter().map(move |y| x - y)).collect();
    shifts.sort_by(f64::total_cmp);
    let null = || null(a.len(), b.len());
    let p_value = || {
        let count = |is: fn(&f64) -> bool| shifts.iter().filter(|d| is(d)).count() as f64;
        let u = count(|d| *d > 0.0) + count(|d| *d == 0.0) / 2.0;
        null().p_value(u.min(shifts.len() as f64 - u).ceil(), 1.0)
    };
    Some(RatioEstimate::of(&shifts, a.len().min(b.len()), confidence, null, p_value))
}

/// The law of U, the count of pairs with aᵢ > bⱼ, when both samples have the same distribution.
fn null(m: usize, n: usize) -> Null {
    if m.max(n) <= EXACT_UP_TO {
        return Null::Exact(distribution(m, n));
    }
    let (m, n) = (m as f64, n as f64);
    Null::Normal { mean: m * n / 2.0, deviation: (m * n * (m + n + 1.0) / 12.0).sqrt() }
}

/// P(U = u) for u = 0 … m·n, by the recursion on which sample holds the largest value.
fn distribution(m: usize, n: usize) -> Vec<f64> {
    // row[j] is the law of U for (i, j); a largest value from a beats all j, one from b beats none.
    let mut row: Vec<Vec<f64>> = vec![vec![1.0]; n + 1];
    for i in 1..=m {
        let mut next: Vec<Vec<f64>> = vec![vec![1.0]];
        for j in 1..=n {
            let from_a = i as f64 / (i + j) as f64;
            let mut mass = vec![0.0; i * j + 1];
            for (u, p) in row[j].iter().enumerate() {
                mass[u + j] += from_a * p;
            }
            for (u, p) in next[j - 1].iter().enumerate() {
                mass[u] += (1.0 - from_a) * p;
            }
            next.push(mass);
        }
        row = next;
    }
    row.pop().unwrap_or_default()
}
