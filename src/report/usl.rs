//! The Universal Scalability Law over the lanes of a closed loop.
//!
//! X(N) = γN ÷ (1 + α(N − 1) + βN(N − 1)): γ is what one lane alone completes, α the share of the
//! work that lanes queue for (contention), β what they spend on one another (coherency). N. J.
//! Gunther, "Guerrilla Capacity Planning" (2007), chapters 4 and 5. α = 0 and β = 0 are bounds:
//! a fit that would go below is made again on the bound.
//!
//! The law describes the throughput of a *fixed* number of lanes that never rest; the achieved load
//! of an open loop is what its schedule offered, and must not be put in.

mod least_squares;

use std::collections::{BTreeMap, BTreeSet};

use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

use crate::stats::{CONFIDENCE, MIN_FOR_INTERVAL, quantile};
use least_squares::{Free, Point};

/// Fewest lane values for a fit of three coefficients with a residual left to judge it by.
pub const MIN_LANE_VALUES: usize = 4;

/// Fewest lane values for intervals.
pub const MIN_LANE_VALUES_FOR_INTERVAL: usize = 6;

/// Refits behind an interval.
const RESAMPLES: usize = 1_000;

/// How far beyond the largest measured lanes the law is still believed.
const REACH: f64 = 2.0;

/// Throughput of one trial.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// Lanes, over all workers.
    pub lanes: u32,
    /// Block of the trial.
    pub block: u32,
    /// Completed requests per second.
    pub per_s: f64,
}

/// A value of each coefficient.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Coefficients {
    /// Contention, dimensionless.
    pub alpha: f64,
    /// Coherency, dimensionless.
    pub beta: f64,
    /// Requests per second of one lane.
    pub gamma: f64,
}

/// The law fitted to data.
#[derive(Debug, Clone, PartialEq)]
pub struct Fit {
    /// The coefficients.
    pub at: Coefficients,
    /// Their standard errors; zero for a coefficient on its bound.
    pub standard_errors: Coefficients,
    /// Lower and upper ends of 95 % intervals from resampled blocks; `None` with fewer than
    /// [`MIN_LANE_VALUES_FOR_INTERVAL`] lane values or [`MIN_FOR_INTERVAL`] blocks.
    pub intervals: Option<(Coefficients, Coefficients)>,
    /// Mean measured throughput by lanes, with measured − fitted.
    pub residuals: Vec<Residual>,
    /// Standard deviation of the residuals, requests per second.
    pub residual_deviation: f64,
}

/// What the law leaves unexplained at one lane value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Residual {
    /// Lanes.
    pub lanes: u32,
    /// Mean throughput over the trials, requests per second.
    pub measured_per_s: f64,
    /// Measured − fitted, requests per second.
    pub residual_per_s: f64,
}

/// A value of the law, and whether the data reach there.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Prediction {
    /// Lanes, not necessarily whole.
    pub lanes: f64,
    /// Requests per second.
    pub per_s: f64,
    /// Beyond twice the largest measured lanes: whoever shows it must say so.
    pub beyond_data: bool,
}

/// Why there is no fit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoFit {
    /// Too few lane values.
    #[error("{0} lane values; the law needs at least {MIN_LANE_VALUES}: measure more lanes")]
    TooFew(usize),
    /// Nothing completed, or a throughput that is no number.
    #[error("a throughput of {0} lanes is not a positive number")]
    NotPositive(u32),
    /// No coefficients came close.
    #[error("no coefficients of the law follow these data")]
    Diverged,
}

/// Fits the law to the trials of one engine; `seed` fixes the resampling.
///
/// Each lane value counts with the mean of its trials, weighted by their number.
///
/// # Errors
/// See [`NoFit`].
pub fn fit(samples: &[Sample], seed: u64) -> Result<Fit, NoFit> {
    if let Some(bad) =
        samples.iter().find(|s| s.lanes == 0 || !(s.per_s > 0.0 && s.per_s.is_finite()))
    {
        return Err(NoFit::NotPositive(bad.lanes));
    }
    let points = means(samples.iter().copied());
    if points.len() < MIN_LANE_VALUES {
        return Err(NoFit::TooFew(points.len()));
    }
    let (at, free) = bounded(&points).ok_or(NoFit::Diverged)?;
    let residuals: Vec<Residual> = points
        .iter()
        .map(|p| Residual {
            lanes: p.lanes as u32,
            measured_per_s: p.per_s,
            residual_per_s: p.per_s - at.throughput(p.lanes),
        })
        .collect();
    let (standard_errors, residual_deviation) = least_squares::errors(&points, at, free);
    let intervals = intervals(samples, points.len(), seed);
    Ok(Fit { at, standard_errors, intervals, residuals, residual_deviation })
}

/// Mean throughput of each lane value; weights have the mean 1.
fn means(samples: impl Iterator<Item = Sample>) -> Vec<Point> {
    let mut sums: BTreeMap<u32, (f64, f64)> = BTreeMap::new();
    for sample in samples {
        let sum = sums.entry(sample.lanes).or_default();
        *sum = (sum.0 + sample.per_s, sum.1 + 1.0);
    }
    let mean_count = sums.values().map(|s| s.1).sum::<f64>() / sums.len().max(1) as f64;
    sums.into_iter()
        .map(|(lanes, (sum, count))| Point {
            lanes: f64::from(lanes),
            per_s: sum / count,
            weight: count / mean_count,
        })
        .collect()
}

/// The best fit with α and β ≥ 0: on the inside if it lies there, or else on a bound.
fn bounded(points: &[Point]) -> Option<(Coefficients, Free)> {
    let allowed = |c: &Coefficients| c.alpha >= 0.0 && c.beta >= 0.0 && c.gamma > 0.0;
    let attempt = |alpha: bool, beta: bool| {
        let free = Free { alpha, beta };
        least_squares::solve(points, free)
            .filter(|(c, _)| allowed(c))
            .map(|(c, sum)| (c, free, sum))
    };
    if let Some((c, free, _)) = attempt(true, true) {
        return Some((c, free));
    }
    [attempt(false, true), attempt(true, false), attempt(false, false)]
        .into_iter()
        .flatten()
        .min_by(|a, b| a.2.total_cmp(&b.2))
        .map(|(c, free, _)| (c, free))
}

/// Percentile intervals over refits of whole blocks drawn with replacement: trials of one block ran
/// close together in time and may share a disturbance.
fn intervals(samples: &[Sample], values: usize, seed: u64) -> Option<(Coefficients, Coefficients)> {
    let blocks: Vec<u32> =
        samples.iter().map(|s| s.block).collect::<BTreeSet<_>>().into_iter().collect();
    if values < MIN_LANE_VALUES_FOR_INTERVAL || blocks.len() < MIN_FOR_INTERVAL {
        return None;
    }
    let of = |block: u32| samples.iter().copied().filter(move |s| s.block == block);
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
    let mut fits = Vec::with_capacity(RESAMPLES);
    for _ in 0..RESAMPLES {
        let drawn: Vec<u32> = (0..blocks.len())
            .map(|_| blocks[((u128::from(rng.next_u64()) * blocks.len() as u128) >> 64) as usize])
            .collect();
        let points = means(drawn.into_iter().flat_map(of));
        if points.len() >= MIN_LANE_VALUES {
            fits.extend(bounded(&points).map(|(c, _)| c));
        }
    }
    // Where many refits fail, those that are left would flatter the interval.
    if fits.len() < RESAMPLES * 9 / 10 {
        return None;
    }
    let end = |q: f64| -> Option<Coefficients> {
        let of = |part: fn(&Coefficients) -> f64| {
            quantile(&fits.iter().map(part).collect::<Vec<f64>>(), q)
        };
        Some(Coefficients {
            alpha: of(|c| c.alpha)?,
            beta: of(|c| c.beta)?,
            gamma: of(|c| c.gamma)?,
        })
    };
    let tail = (1.0 - CONFIDENCE) / 2.0;
    end(tail).zip(end(1.0 - tail))
}

impl Coefficients {
    /// X(N), requests per second.
    pub fn throughput(&self, lanes: f64) -> f64 {
        self.gamma * lanes / (1.0 + self.alpha * (lanes - 1.0) + self.beta * lanes * (lanes - 1.0))
    }
}

impl Fit {
    /// The law at a number of lanes.
    pub fn predict(&self, lanes: f64) -> Prediction {
        let largest = self.residuals.iter().map(|r| r.lanes).max().unwrap_or(0);
        Prediction {
            lanes,
            per_s: self.at.throughput(lanes),
            beyond_data: lanes > REACH * f64::from(largest),
        }
    }

    /// Where throughput is highest, √((1 − α) ÷ β); `None` where it grows for ever, or falls from
    /// the first lane.
    pub fn peak(&self) -> Option<Prediction> {
        let Coefficients { alpha, beta, .. } = self.at;
        (beta > 0.0 && alpha < 1.0)
            .then(|| ((1.0 - alpha) / beta).sqrt())
            .filter(|lanes| *lanes >= 1.0)
            .map(|lanes| self.predict(lanes))
    }

    /// γ ÷ α, requests per second: what contention alone would allow (Amdahl); `None` without any.
    pub fn limit_per_s(&self) -> Option<f64> {
        (self.at.alpha > 0.0).then(|| self.at.gamma / self.at.alpha)
    }

    /// 1 ÷ α: the lanes at which linear growth would meet [`Fit::limit_per_s`].
    pub fn optimal_lanes(&self) -> Option<f64> {
        (self.at.alpha > 0.0).then(|| 1.0 / self.at.alpha)
    }
}
