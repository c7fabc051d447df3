//! From a ratio with its interval to one of three outcomes: it differs, it is equal within a margin,
//! or neither is shown.

use super::RatioEstimate;
use crate::units::{Ratio, format_share};

/// Nominal confidence of the interval of every ratio, and of every claim that one differs from 1.
///
/// A sweep that runs until its intervals are narrow stops rather when they happen to be, and then
/// covers less than it promises. One per cent more makes up for that: 95 % intervals hold the truth
/// in 94 % or more, and a report on identical engines claims a difference in under 5 % (simulated in
/// `tests/precision.rs`).
pub const RATIO_CONFIDENCE: f64 = 0.96;

pub use crate::plan::slo::MARGIN;

/// What may be said of a ratio.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Verdict {
    /// Above 1, also after the correction for several comparisons.
    Higher,
    /// Below 1, likewise.
    Lower,
    /// The whole interval lies inside \[1/(1+m), 1+m\].
    Equal { margin: f64 },
    /// Neither is shown.
    Undecided {
        /// The end of the interval that is farther from 1; `None` with too few trials for an
        /// interval.
        up_to: Option<f64>,
    },
}

impl Verdict {
    /// For a file: one word.
    pub fn word(self) -> &'static str {
        match self {
            Verdict::Higher => "higher",
            Verdict::Lower => "lower",
            Verdict::Equal { .. } => "equal",
            Verdict::Undecided { .. } => "undecided",
        }
    }

    /// Before a ratio in a table.
    pub fn mark(self) -> &'static str {
        match self {
            Verdict::Higher | Verdict::Lower | Verdict::Undecided { up_to: None } => "",
            Verdict::Equal { .. } => "≈ ",
            Verdict::Undecided { up_to: Some(_) } => "? ",
        }
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Verdict::Higher | Verdict::Lower => f.write_str(self.word()),
            Verdict::Equal { margin } => write!(f, "equal within {}", format_share(*margin)),
            Verdict::Undecided { up_to: None } => f.write_str("undecided, too few trials"),
            Verdict::Undecided { up_to: Some(end) } => {
                let way = if *end < 1.0 { "as low as" } else { "up to" };
                write!(f, "undecided, could be {way} {}", Ratio(*end))
            }
        }
    }
}

/// A ratio and what may be said of it among all comparisons of a report.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Comparison {
    pub estimate: RatioEstimate,
    /// The range of ratios that identical systems showed, where they were measured.
    pub floor: Option<(f64, f64)>,
    /// Its p-value after Holm's correction; `None` without an interval, and for a comparison that
    /// stands outside the family.
    pub adjusted_p: Option<f64>,
    pub verdict: Verdict,
}

impl Comparison {
    /// A comparison that stands for itself.
    pub fn alone(estimate: RatioEstimate, floor: Option<(f64, f64)>, margin: f64) -> Comparison {
        let verdict = verdict(&estimate, floor, estimate.p_value, margin);
        Comparison { estimate, floor, adjusted_p: None, verdict }
    }
}

/// Judges a family of comparisons together; returns how many of them have an interval.
pub fn judge<'c>(family: impl IntoIterator<Item = &'c mut Comparison>, margin: f64) -> usize {
    let mut family: Vec<&mut Comparison> =
        family.into_iter().filter(|c| c.estimate.p_value.is_some()).collect();
    let p: Vec<f64> = family.iter().filter_map(|c| c.estimate.p_value).collect();
    for (comparison, p) in family.iter_mut().zip(holm(&p)) {
        comparison.adjusted_p = Some(p);
        comparison.verdict = verdict(&comparison.estimate, comparison.floor, Some(p), margin);
    }
    family.len()
}

/// Fewest pairs whose smallest p-value, 2 / 2ⁿ, can settle one of `comparisons`.
pub fn pairs_needed(comparisons: usize) -> u32 {
    let smallest = (1.0 - RATIO_CONFIDENCE) / comparisons.max(1) as f64;
    (2.0 / smallest).log2().ceil() as u32
}

/// An interval within the margin is called equal even where it excludes 1: the margin says what
/// is too small to matter. A ratio inside the noise floor is never called a difference.
fn verdict(
    estimate: &RatioEstimate,
    floor: Option<(f64, f64)>,
    p: Option<f64>,
    margin: f64,
) -> Verdict {
    let Some((low, high)) = estimate.interval() else { return Verdict::Undecided { up_to: None } };
    if 1.0 / (1.0 + margin) <= low && high <= 1.0 + margin {
        return Verdict::Equal { margin };
    }
    let inside = |(a, b): (f64, f64)| a <= estimate.ratio && estimate.ratio <= b;
    let shown = p.is_some_and(|p| p <= 1.0 - RATIO_CONFIDENCE + 1e-12);
    if shown && !(low <= 1.0 && 1.0 <= high) && !floor.is_some_and(inside) {
        return if estimate.ratio > 1.0 { Verdict::Higher } else { Verdict::Lower };
    }
    let up_to = if high.ln() >= -low.ln() { high } else { low };
    Verdict::Undecided { up_to: Some(up_to) }
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
