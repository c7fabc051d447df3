//! Statistics of trials: pure functions, no files, no clocks.
//!
//! * [`paired_ratio`]: one engine against the baseline, from pairs of the same block.
//! * [`unpaired_ratio`]: two runs against each other, where no pairs exist.
//! * [`holm`], [`noise_floor`], [`verdict`]: from estimates to one word.
//! * [`linear_fit`]: a cost for each lane and what is fixed.
//! * [`hdr`]: percentiles of merged histograms, with the rules of when to print them.
//!
//! Ratios are estimated on logarithms: a ratio and its inverse are then equally far from no
//! difference, and the exponential of an interval is an interval of the ratio.

pub mod hdr;
mod law;
mod rank_sum;
mod regression;
mod signed_rank;

pub use law::{normal_cdf, normal_quantile, student_t_quantile};
pub use rank_sum::unpaired_ratio;
pub use regression::{LinearFit, linear_fit};
pub use signed_rank::paired_ratio;

/// Confidence level of intervals, unless a caller asks for another.
pub const CONFIDENCE: f64 = 0.95;

/// Fewest pairs, or values a side, for which an interval is given.
pub const MIN_FOR_INTERVAL: usize = 6;

/// A ratio of two costs with what is known of its spread.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RatioEstimate {
    /// exp(Hodges–Lehmann estimate of the log-ratio); dimensionless.
    pub ratio: f64,
    /// Lower end of the interval; `None` where no interval of the level exists.
    pub low: Option<f64>,
    /// Upper end of the interval.
    pub high: Option<f64>,
    /// Pairs, or values of the smaller side, behind the estimate.
    pub n: usize,
    /// Two-sided p-value of "no difference", not corrected for several comparisons.
    pub p_value: Option<f64>,
    /// Achieved confidence of the interval: at least the level asked for, since ranks are discrete.
    pub confidence: Option<f64>,
}

impl RatioEstimate {
    /// The interval, where there is one.
    pub fn interval(&self) -> Option<(f64, f64)> {
        self.low.zip(self.high)
    }
}

/// What may be said of a ratio.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The interval holds 1, or the ratio lies inside the noise floor.
    NoDifference,
    /// Above 1, also after the correction for several comparisons.
    Higher,
    /// Below 1, also after the correction for several comparisons.
    Lower,
    /// The interval by itself excludes 1, but the corrected p-value does not: more trials are needed.
    Undecided,
    /// Too few pairs for an interval.
    PointOnly,
}

/// Judges a ratio.
///
/// `noise_floor` is the interval of an A/A comparison (see [`noise_floor`]), `adjusted_p` the
/// p-value after [`holm`] over the comparisons of the same table.
pub fn verdict(
    estimate: &RatioEstimate,
    noise_floor: Option<(f64, f64)>,
    adjusted_p: Option<f64>,
) -> Verdict {
    let Some((low, high)) = estimate.interval() else { return Verdict::PointOnly };
    let inside = |(a, b): (f64, f64)| a <= estimate.ratio && estimate.ratio <= b;
    if (low <= 1.0 && 1.0 <= high) || noise_floor.is_some_and(inside) {
        return Verdict::NoDifference;
    }
    if adjusted_p.is_some_and(|p| p > 1.0 - CONFIDENCE) {
        return Verdict::Undecided;
    }
    if estimate.ratio > 1.0 { Verdict::Higher } else { Verdict::Lower }
}

/// The range of ratios that identical systems show, from the baseline measured twice.
///
/// The interval is widened to be symmetrical about 1 on the log scale, since which of the two
/// labels stands above the line is arbitrary. Without an interval there is no floor.
pub fn noise_floor(aa: &RatioEstimate) -> Option<(f64, f64)> {
    let (low, high) = aa.interval()?;
    let reach = low.ln().abs().max(high.ln().abs()).exp();
    Some((1.0 / reach, reach))
}

/// Holm's step-down correction: adjusted p-values in the order of the input, at most 1.
///
/// S. Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of
/// Statistics 6 (1979). It bounds the chance of any false difference without assuming that the
/// comparisons are independent, which they are not: they share the baseline.
pub fn holm(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|&a, &b| p[a].total_cmp(&p[b]));
    let mut adjusted = vec![1.0; p.len()];
    let mut floor: f64 = 0.0;
    for (rank, &i) in order.iter().enumerate() {
        floor = floor.max((p[i] * (p.len() - rank) as f64).min(1.0));
        adjusted[i] = floor;
    }
    adjusted
}

/// Median; the mean of the middle two for an even count. `None` for an empty slice.
pub fn median(values: &[f64]) -> Option<f64> {
    quantile(values, 0.5)
}

/// Quantile by linear interpolation between order statistics (type 7 of Hyndman and Fan 1996, the
/// default of R and NumPy). `None` for an empty slice, or `q` outside \[0, 1\].
pub fn quantile(values: &[f64], q: f64) -> Option<f64> {
    if values.is_empty() || !(0.0..=1.0).contains(&q) {
        return None;
    }
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    Some(quantile_sorted(&sorted, q))
}

/// An interval of the median from order statistics, at [`CONFIDENCE`] or above, whatever the
/// distribution: the sign test turned round. `None` with fewer than [`MIN_FOR_INTERVAL`] values.
pub fn median_interval(values: &[f64]) -> Option<(f64, f64)> {
    let n = values.len();
    if n < MIN_FOR_INTERVAL {
        return None;
    }
    // Binomial probabilities by their ratio; 2⁻ⁿ underflows to zero only beyond a thousand values.
    let first = 0.5f64.powi(i32::try_from(n).ok()?);
    let step = |p: &mut f64, k: usize| {
        let now = *p;
        *p *= (n - k) as f64 / (k + 1) as f64;
        Some(now)
    };
    let tail = (1.0 - CONFIDENCE) / 2.0;
    let (k, _) = tail_index((0..n).scan(first, step), tail)?;
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    Some((sorted[k], sorted[n - 1 - k]))
}

/// As [`quantile`] of a sorted slice that is not empty.
fn quantile_sorted(sorted: &[f64], q: f64) -> f64 {
    let at = q * (sorted.len() - 1) as f64;
    let (below, above) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
    below + (above - below) * at.fract()
}

/// Ranks from 1 with ties at their mean, doubled so that they are whole numbers.
///
/// `sorted` must be in ascending order.
fn doubled_midranks(sorted: &[f64]) -> Vec<usize> {
    let mut ranks = vec![0; sorted.len()];
    let mut start = 0;
    while start < sorted.len() {
        let ties = sorted[start..].iter().take_while(|v| **v == sorted[start]).count();
        // Positions start+1 ..= start+ties have the mean start + (ties + 1) / 2.
        ranks[start..start + ties].fill(2 * start + ties + 1);
        start += ties;
    }
    ranks
}

/// The larger k such that the k smallest outcomes of a symmetric rank statistic hold at most
/// `tail` of its distribution, with the probability that they hold; `None` if the first is too much.
fn tail_index(probabilities: impl Iterator<Item = f64>, tail: f64) -> Option<(usize, f64)> {
    // Sums of exact binary fractions may differ from a decimal bound in the last place.
    let bound = tail * (1.0 + 1e-12);
    let mut sum = 0.0;
    let mut found = None;
    for (k, p) in probabilities.enumerate() {
        sum += p;
        if sum > bound {
            break;
        }
        found = Some((k, sum));
    }
    found
}
