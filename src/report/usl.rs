//! The Universal Scalability Law over the lanes of a closed loop.
//!
//! X(N) = γN ÷ (1 + α(N − 1) + βN(N − 1)): γ is what one lane alone completes, α the share of the
//! work that lanes queue for (contention), β what they spend on one another (coherency). N. J.
//! Gunther, "Guerrilla Capacity Planning" (2007), chapters 4 and 5. α = 0 and β = 0 are bounds.
//!
//! N ÷ X = 1/γ + (α/γ)(N − 1) + (β/γ)N(N − 1) is linear in what is fitted, so that linear least
//! squares find the coefficients directly. Throughputs are uncertain in proportion to their size
//! (2 % of 500 req/s and 2 % of 50,000), so that relative residuals count: see [`Weights`].
//!
//! The law describes the throughput of a *fixed* number of lanes that never rest; the achieved load
//! of an open loop is what its schedule offered, and must not be put in.

use std::collections::{BTreeMap, BTreeSet};

use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

use crate::stats::{CONFIDENCE, MIN_FOR_INTERVAL, quantile};
use crate::units::plural;

/// Fewest lane values for a fit of three coefficients with a residual left to judge it by.
pub(crate) const MIN_LANE_VALUES: usize = 4;

pub(crate) const MIN_LANE_VALUES_FOR_INTERVAL: usize = 6;

const RESAMPLES: usize = 1_000;

/// How far beyond the largest measured lanes the law is still believed.
const REACH: f64 = 2.0;

/// Which residuals have the least sum of squares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weights {
    /// Measured ÷ fitted − 1.
    Relative,
    /// Measured − fitted, requests per second: the most lanes decide. As R's package `usl` fits,
    /// for comparison with published coefficients.
    Absolute,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct UslSample {
    pub lanes: u32,
    pub block: u32,
    pub per_s: f64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Coefficients {
    /// Contention, dimensionless.
    pub alpha: f64,
    /// Coherency, dimensionless.
    pub beta: f64,
    /// Requests per second of one lane.
    pub gamma: f64,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Fit {
    pub at: Coefficients,
    /// Their standard errors; zero for a coefficient that is held on its bound, zero.
    pub standard_errors: Coefficients,
    /// Lower and upper ends of 95 % intervals from resampled blocks; `None` with fewer than
    /// [`MIN_LANE_VALUES_FOR_INTERVAL`] lane values or [`MIN_FOR_INTERVAL`] blocks.
    pub intervals: Option<(Coefficients, Coefficients)>,
    /// Mean measured throughput by lanes, with measured − fitted.
    pub residuals: Vec<Residual>,
    /// Standard deviation of the residuals: a share of the throughput, or requests per second where
    /// [`Weights::Absolute`] ones were fitted.
    pub residual_deviation: f64,
}

/// What the law leaves unexplained at one lane value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Residual {
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
    pub per_s: f64,
    /// Beyond twice the largest measured lanes: whoever shows it must say so.
    pub beyond_data: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoFit {
    #[error("{} measured; the law needs at least {MIN_LANE_VALUES}", plural(*.0 as u64, "lane count"))]
    TooFew(usize),
    /// Nothing completed, or a throughput that is no number.
    #[error("a throughput of {0} lanes is not a positive number")]
    NotPositive(u32),
}

#[derive(Debug, Clone, Copy)]
struct LaneMean {
    lanes: f64,
    per_s: f64,
    weight: f64,
}

/// Fits the law to the trials of one engine; `seed` fixes the resampling.
///
/// Each lane value counts with the mean of its trials, weighted by their number.
pub fn fit(samples: &[UslSample], weights: Weights, seed: u64) -> Result<Fit, NoFit> {
    if let Some(bad) =
        samples.iter().find(|s| s.lanes == 0 || !(s.per_s > 0.0 && s.per_s.is_finite()))
    {
        return Err(NoFit::NotPositive(bad.lanes));
    }
    let points = means(samples.iter().copied());
    let too_few = NoFit::TooFew(points.len());
    if points.len() < MIN_LANE_VALUES {
        return Err(too_few);
    }
    let best = bounded(&points, weights).ok_or(too_few)?;
    let residual = |p: &LaneMean| Residual {
        lanes: p.lanes as u32,
        measured_per_s: p.per_s,
        residual_per_s: p.per_s - best.at.throughput(p.lanes),
    };
    let degrees = points.len() - best.free.iter().filter(|free| **free).count();
    let variance = best.sum / degrees.max(1) as f64;
    Ok(Fit {
        at: best.at,
        standard_errors: best.standard_errors(&points, weights, variance),
        intervals: intervals(samples, points.len(), weights, seed),
        residuals: points.iter().map(residual).collect(),
        residual_deviation: variance.sqrt(),
    })
}

/// Mean throughput of each lane value; weights have the mean 1.
fn means(samples: impl Iterator<Item = UslSample>) -> Vec<LaneMean> {
    let mut sums: BTreeMap<u32, (f64, f64)> = BTreeMap::new();
    for sample in samples {
        let sum = sums.entry(sample.lanes).or_default();
        *sum = (sum.0 + sample.per_s, sum.1 + 1.0);
    }
    let mean_count = sums.values().map(|s| s.1).sum::<f64>() / sums.len().max(1) as f64;
    sums.into_iter()
        .map(|(lanes, (sum, count))| LaneMean {
            lanes: f64::from(lanes),
            per_s: sum / count,
            weight: count / mean_count,
        })
        .collect()
}

type Vector = [f64; 3];
type Matrix = [Vector; 3];

/// A fit with some terms of N ÷ X held at zero.
struct Solution {
    at: Coefficients,
    free: [bool; 3],
    /// Weighted sum of the squared residuals.
    sum: f64,
}

/// The best fit with α and β ≥ 0: inside if it lies there, or else the best one on a bound.
fn bounded(points: &[LaneMean], weights: Weights) -> Option<Solution> {
    let on_bounds = || {
        [[true, false, true], [true, true, false], [true, false, false]]
            .into_iter()
            .filter_map(|free| solve(points, weights, free))
            .min_by(|a, b| a.sum.total_cmp(&b.sum))
    };
    solve(points, weights, [true; 3]).or_else(on_bounds)
}

/// Weighted linear least squares of N ÷ X; `None` where a coefficient comes out below its bound.
fn solve(points: &[LaneMean], weights: Weights, free: [bool; 3]) -> Option<Solution> {
    // With y = N ÷ X, the relative residual is (fitted y − y) ÷ y: one solution is exact.
    let (mut at, _) = weighted(points, free, |p| (p.per_s / p.lanes).powi(2))?;
    if weights == Weights::Absolute {
        // With these weights, a solution that gives itself back has the least absolute squares.
        for _ in 0..200 {
            let absolute =
                |p: &LaneMean| p.per_s * at.throughput(p.lanes).powi(3) / p.lanes.powi(2);
            let (next, _) = weighted(points, free, absolute)?;
            let moved = (next.gamma / at.gamma - 1.0).abs() + (next.alpha - at.alpha).abs();
            at = next;
            if moved < 1e-14 {
                break;
            }
        }
    }
    let scale = |p: &LaneMean| match weights {
        Weights::Relative => at.throughput(p.lanes),
        Weights::Absolute => 1.0,
    };
    let residual = |p: &LaneMean| (p.per_s - at.throughput(p.lanes)) / scale(p);
    let sum = points.iter().map(|p| p.weight * residual(p).powi(2)).sum();
    (at.alpha >= 0.0 && at.beta >= 0.0 && at.gamma > 0.0).then_some(Solution { at, free, sum })
}

/// One linear solution, and the inverse of ZᵀWZ; a one on the diagonal of a term that is held keeps
/// that regular.
fn weighted(
    points: &[LaneMean],
    free: [bool; 3],
    weight: impl Fn(&LaneMean) -> f64,
) -> Option<(Coefficients, Matrix)> {
    let held = |i: usize, j: usize| f64::from(i == j && !free[i]);
    let mut normal: Matrix = std::array::from_fn(|i| std::array::from_fn(|j| held(i, j)));
    let mut right: Vector = [0.0; 3];
    for p in points {
        let all = [1.0, p.lanes - 1.0, p.lanes * (p.lanes - 1.0)];
        let z: Vector = std::array::from_fn(|i| if free[i] { all[i] } else { 0.0 });
        let w = p.weight * weight(p);
        let y = w * p.lanes / p.per_s;
        right = std::array::from_fn(|i| right[i] + z[i] * y);
        normal = std::array::from_fn(|i| std::array::from_fn(|j| normal[i][j] + w * z[i] * z[j]));
    }
    let inverse = invert(normal)?;
    let [one, contention, coherency] = inverse.map(|row| dot(row, right));
    let (alpha, beta) = (contention / one, coherency / one);
    Some((Coefficients { alpha, beta, gamma: 1.0 / one }, inverse))
}

impl Solution {
    /// Those of the linear terms, carried over to the coefficients by their derivatives.
    fn standard_errors(
        &self,
        points: &[LaneMean],
        weights: Weights,
        variance: f64,
    ) -> Coefficients {
        let weight = |p: &LaneMean| match weights {
            Weights::Relative => (p.per_s / p.lanes).powi(2),
            Weights::Absolute => self.at.throughput(p.lanes).powi(4) / p.lanes.powi(2),
        };
        let solved = weighted(points, self.free, weight);
        let inverse = solved.map_or([[f64::NAN; 3]; 3], |(_, inverse)| inverse);
        let error = |derivative: Vector| {
            let along = inverse.map(|row| dot(row, derivative));
            (variance * dot(along, derivative)).sqrt()
        };
        let Coefficients { alpha, beta, gamma } = self.at;
        let free = |i: usize, error: f64| if self.free[i] { error } else { 0.0 };
        Coefficients {
            alpha: free(1, error([-alpha * gamma, gamma, 0.0])),
            beta: free(2, error([-beta * gamma, 0.0, gamma])),
            gamma: error([-gamma * gamma, 0.0, 0.0]),
        }
    }
}

fn dot(a: Vector, b: Vector) -> f64 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

fn cross(a: Vector, b: Vector) -> Vector {
    std::array::from_fn(|i| {
        let (j, k) = ((i + 1) % 3, (i + 2) % 3);
        a[j] * b[k] - a[k] * b[j]
    })
}

/// Inverts a positive definite matrix by its cofactors; scaled to a diagonal of ones first, since
/// the terms differ by orders of magnitude. `None` if it is singular.
fn invert(m: Matrix) -> Option<Matrix> {
    let scale: Vector = std::array::from_fn(|i| m[i][i].sqrt());
    let a: Matrix =
        std::array::from_fn(|i| std::array::from_fn(|j| m[i][j] / (scale[i] * scale[j])));
    let cofactors = [cross(a[1], a[2]), cross(a[2], a[0]), cross(a[0], a[1])];
    let determinant = dot(a[0], cofactors[0]);
    (determinant > 1e-14).then(|| {
        std::array::from_fn(|i| {
            std::array::from_fn(|j| cofactors[i][j] / determinant / (scale[i] * scale[j]))
        })
    })
}

/// Percentile intervals over refits of whole blocks drawn with replacement: trials of one block ran
/// close together in time and may share a disturbance.
fn intervals(
    samples: &[UslSample],
    values: usize,
    weights: Weights,
    seed: u64,
) -> Option<(Coefficients, Coefficients)> {
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
            fits.extend(bounded(&points, weights).map(|best| best.at));
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
}
