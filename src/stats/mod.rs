//! Statistics of trials: pure functions, no files, no clocks.
//!
//! * [`paired_ratio`]: one engine against the baseline, from pairs of the same block.
//! * [`unpaired_ratio`]: two runs against each other, where no pairs exist.
//! * [`judge`], [`holm`], [`noise_floor`]: from estimates to one of three outcomes.
//! * [`linear_fit`]: a cost for each lane and what is fixed.
//! * [`hdr`]: percentiles of merged histograms, with the rules of when to print them.
//!
//! Ratios are estimated on logarithms: a ratio and its inverse are then equally far from no
//! difference, and the exponential of an interval is an interval of the ratio.

pub mod hdr;
mod law;
pub mod precision;
mod rank_sum;
mod regression;
mod share;
mod signed_rank;
mod two_sample;
mod verdict;

pub use law::{normal_cdf, normal_quantile, student_t_quantile};
pub use rank_sum::unpaired_ratio;
pub(crate) use regression::LinearFit;
pub use regression::linear_fit;
pub(crate) use share::{clustered_share, share_error};
pub use signed_rank::paired_ratio;
pub(crate) use two_sample::{log_t_ratio, lost_p_value};
pub use verdict::{
    Comparison, MARGIN, RATIO_CONFIDENCE, Verdict, holm, judge, noise_floor, pairs_needed,
};

/// Confidence level of intervals, unless a caller asks for another.
pub const CONFIDENCE: f64 = 0.95;

/// Fewest pairs, or values per side, for which an interval is given.
pub(crate) const MIN_FOR_INTERVAL: usize = 6;

/// A ratio of two costs with what is known of its spread.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct RatioEstimate {
    /// exp(Hodges–Lehmann estimate of the log-ratio); dimensionless.
    pub ratio: f64,
    /// Lower end of the interval; `None` where no interval of the level exists.
    pub low: Option<f64>,
    pub high: Option<f64>,
    /// Pairs, or values of the smaller side, behind the estimate.
    pub n: usize,
    /// Two-sided p-value of "no difference", not corrected for several comparisons.
    pub p_value: Option<f64>,
    /// Achieved confidence of the interval: at least the level asked for, since ranks are discrete.
    pub confidence: Option<f64>,
}

impl RatioEstimate {
    pub fn interval(&self) -> Option<(f64, f64)> {
        self.low.zip(self.high)
    }

    /// The median of ordered differences of logarithms, and the interval between two of them that a
    /// rank statistic of the law `null` gives; `p_value` takes the law.
    fn of(
        differences: &[f64],
        n: usize,
        confidence: f64,
        null: impl Fn() -> Null,
        p_value: impl Fn() -> f64,
    ) -> RatioEstimate {
        let told = n >= MIN_FOR_INTERVAL;
        let bounds = told.then(|| null().interval_index(confidence)).flatten();
        RatioEstimate {
            ratio: quantile_sorted(differences, 0.5).exp(),
            low: bounds.map(|(k, _)| differences[k].exp()),
            high: bounds.map(|(k, _)| differences[differences.len() - 1 - k].exp()),
            n,
            p_value: told.then(p_value),
            confidence: bounds.map(|(_, achieved)| achieved),
        }
    }
}

/// The law of a rank statistic where there is no difference.
enum Null {
    Exact(Vec<f64>),
    Normal { mean: f64, deviation: f64 },
}

impl Null {
    /// How many outcomes to leave out at each end, and the confidence that this achieves.
    fn interval_index(&self, confidence: f64) -> Option<(usize, f64)> {
        let tail = (1.0 - confidence) / 2.0;
        match self {
            Null::Exact(mass) => {
                let (k, held) = tail_index(mass.iter().copied(), tail)?;
                Some((k, 1.0 - 2.0 * held))
            }
            Null::Normal { mean, deviation } => {
                let k = (mean + normal_quantile(tail) * deviation - 0.5).floor();
                let held = normal_cdf((k + 0.5 - mean) / deviation);
                (k >= 0.0).then_some((k as usize, 1.0 - 2.0 * held))
            }
        }
    }

    /// Two-sided p-value of the smaller of two outcomes that are `step` apart from their neighbours.
    fn p_value(&self, smaller: f64, step: f64) -> f64 {
        let held: f64 = match self {
            Null::Exact(mass) => mass.iter().take(smaller as usize + 1).sum(),
            Null::Normal { mean, deviation } => {
                normal_cdf((smaller + step / 2.0 - mean) / deviation)
            }
        };
        (2.0 * held).min(1.0)
    }
}

/// Logarithms of the values that are finite and above zero.
fn logs(values: &[f64]) -> Vec<f64> {
    values.iter().filter(|v| v.is_finite() && **v > 0.0).map(|v| v.ln()).collect()
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
pub(crate) fn median_interval(values: &[f64]) -> Option<(f64, f64)> {
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
