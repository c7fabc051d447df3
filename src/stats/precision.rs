//! When there are blocks enough: a rule that sees how wide an interval is, and never where it lies.
//!
//! With the signed-rank interval it is the procedure of J. C. Geertsema, "Sequential confidence
//! intervals based on rank tests", Annals of Mathematical Statistics 41 (1970). Stopping at a
//! significant result instead would find a difference between identical engines sooner or later.

use super::{RATIO_CONFIDENCE, RatioEstimate, normal_quantile, pairs_needed};

/// Fewest blocks before a width is looked at: the first ones are narrow by chance too often.
pub const FEWEST_BLOCKS: u32 = 10;

/// Efficiency of the signed-rank interval where differences are normal, 3 ÷ π.
const EFFICIENCY: f64 = 0.955;

/// Half of an interval's width, as a share: 0.05 where its ends are 5 % from its middle.
pub fn half_width(estimate: &RatioEstimate) -> Option<f64> {
    let (low, high) = estimate.interval()?;
    Some((high / low).sqrt() - 1.0)
}

/// Whether a comparison is precise enough, one of `comparisons` that are judged together.
pub fn is_precise(estimate: &RatioEstimate, wanted: f64, comparisons: usize) -> bool {
    estimate.n >= fewest_blocks(comparisons) as usize
        && half_width(estimate).is_some_and(|half| half <= wanted)
}

/// Blocks before any comparison may stop: enough, too, to settle one of so many.
pub fn fewest_blocks(comparisons: usize) -> u32 {
    FEWEST_BLOCKS.max(pairs_needed(comparisons))
}

/// Blocks that a half-width takes where log-ratios have this standard deviation.
pub fn blocks_expected(spread: f64, wanted: f64) -> u32 {
    let z = normal_quantile(0.5 + RATIO_CONFIDENCE / 2.0);
    ((z * spread / wanted.ln_1p()).powi(2) / EFFICIENCY).ceil() as u32
}

/// The half-width to expect after so many blocks.
pub fn half_width_expected(spread: f64, blocks: u32) -> f64 {
    let z = normal_quantile(0.5 + RATIO_CONFIDENCE / 2.0);
    (z * spread / (f64::from(blocks.max(1)) * EFFICIENCY).sqrt()).exp_m1()
}
