//! Weighted least squares of the law by Levenberg and Marquardt's method.
//!
//! D. W. Marquardt, "An Algorithm for Least-Squares Estimation of Nonlinear Parameters", SIAM
//! Journal 11 (1963).

use super::Coefficients;

/// Mean throughput of one lane value.
#[derive(Debug, Clone, Copy)]
pub(super) struct Point {
    pub(super) lanes: f64,
    pub(super) per_s: f64,
    pub(super) weight: f64,
}

/// The coefficients that are not held at zero; γ is always free.
#[derive(Debug, Clone, Copy)]
pub(super) struct Free {
    pub(super) alpha: bool,
    pub(super) beta: bool,
}

const MOST_STEPS: usize = 500;

type Vector = [f64; 3];
type Matrix = [Vector; 3];

/// The coefficients with the least sum of squares, and that sum.
pub(super) fn solve(points: &[Point], free: Free) -> Option<(Coefficients, f64)> {
    let mut at = start(points, free)?;
    let mut sum = sum_of_squares(points, at);
    let mut damping = 1e-3;
    for _ in 0..MOST_STEPS {
        let (normal, gradient) = normal_equations(points, at, free);
        let mut damped = normal;
        for (i, row) in damped.iter_mut().enumerate() {
            row[i] *= 1.0 + damping;
        }
        let step = multiply(&invert(damped)?, gradient);
        let next = Coefficients {
            alpha: at.alpha + step[0],
            beta: at.beta + step[1],
            gamma: at.gamma + step[2],
        };
        let next_sum = sum_of_squares(points, next);
        if next_sum <= sum {
            let (was, now) = (values(at), values(next));
            let small = (0..3).all(|i| (now[i] - was[i]).abs() <= 1e-12 * now[i].abs().max(1e-15));
            (at, sum) = (next, next_sum);
            damping = (damping / 10.0).max(1e-15);
            if small {
                break;
            }
        } else {
            damping *= 10.0;
            if damping > 1e12 {
                break;
            }
        }
    }
    values(at).iter().all(|v| v.is_finite()).then_some((at, sum))
}

/// N ÷ X is a polynomial in the coefficients ÷ γ: linear least squares give a start close by.
fn start(points: &[Point], free: Free) -> Option<Coefficients> {
    let (mut normal, mut right) = ([[0.0; 3]; 3], [0.0; 3]);
    for p in points {
        // Relative weights: N ÷ X of few lanes is as certain as that of many.
        let y = p.lanes / p.per_s;
        let row = masked([p.lanes - 1.0, p.lanes * (p.lanes - 1.0), 1.0], free).map(|v| v / y);
        accumulate(&mut normal, &mut right, row, 1.0, p.weight);
    }
    hold(&mut normal, free);
    let [alpha, beta, inverse] = multiply(&invert(normal)?, right);
    let fallback = points.iter().map(|p| p.per_s / p.lanes).fold(f64::NEG_INFINITY, f64::max);
    let gamma = if inverse > 0.0 { 1.0 / inverse } else { fallback };
    let known = |v: f64| if inverse > 0.0 { v * gamma } else { 0.0 };
    let at = Coefficients { alpha: known(alpha), beta: known(beta), gamma };
    let positive = points.iter().all(|p| at.throughput(p.lanes) > 0.0);
    Some(if positive { at } else { Coefficients { alpha: 0.0, beta: 0.0, gamma: fallback } })
}

fn values(c: Coefficients) -> Vector {
    [c.alpha, c.beta, c.gamma]
}

fn masked(row: Vector, free: Free) -> Vector {
    let keep = |free: bool, v: f64| if free { v } else { 0.0 };
    [keep(free.alpha, row[0]), keep(free.beta, row[1]), row[2]]
}

/// A one on the diagonal of what is held keeps the matrix regular and its step zero.
fn hold(normal: &mut Matrix, free: Free) {
    for (i, free) in [free.alpha, free.beta].into_iter().enumerate() {
        if !free {
            normal[i][i] = 1.0;
        }
    }
}

fn accumulate(normal: &mut Matrix, right: &mut Vector, row: Vector, y: f64, weight: f64) {
    for i in 0..3 {
        right[i] += weight * row[i] * y;
        for j in 0..3 {
            normal[i][j] += weight * row[i] * row[j];
        }
    }
}

fn sum_of_squares(points: &[Point], at: Coefficients) -> f64 {
    let sum: f64 =
        points.iter().map(|p| p.weight * (p.per_s - at.throughput(p.lanes)).powi(2)).sum();
    // A step across the pole of the law leads nowhere.
    let sound = points.iter().all(|p| at.throughput(p.lanes) > 0.0);
    if sound && sum.is_finite() { sum } else { f64::INFINITY }
}

/// JᵀWJ and JᵀW(measured − fitted).
fn normal_equations(points: &[Point], at: Coefficients, free: Free) -> (Matrix, Vector) {
    let (mut normal, mut gradient) = ([[0.0; 3]; 3], [0.0; 3]);
    for p in points {
        let n = p.lanes;
        let fitted = at.throughput(n);
        let by_denominator = -fitted * fitted / (at.gamma * n);
        let row = masked(
            [by_denominator * (n - 1.0), by_denominator * n * (n - 1.0), fitted / at.gamma],
            free,
        );
        accumulate(&mut normal, &mut gradient, row, p.per_s - fitted, p.weight);
    }
    hold(&mut normal, free);
    (normal, gradient)
}

/// Standard errors √(s² (JᵀWJ)⁻¹), and s with as many degrees of freedom as points beyond the
/// coefficients that were free.
pub(super) fn errors(points: &[Point], at: Coefficients, free: Free) -> (Coefficients, f64) {
    let fitted = 1 + usize::from(free.alpha) + usize::from(free.beta);
    let degrees = points.len().saturating_sub(fitted).max(1);
    let variance = sum_of_squares(points, at) / degrees as f64;
    let (normal, _) = normal_equations(points, at, free);
    let covariance = invert(normal).unwrap_or([[f64::NAN; 3]; 3]);
    let error =
        |i: usize, free: bool| if free { (variance * covariance[i][i]).sqrt() } else { 0.0 };
    let errors = Coefficients {
        alpha: error(0, free.alpha),
        beta: error(1, free.beta),
        gamma: error(2, true),
    };
    (errors, variance.sqrt())
}

fn multiply(a: &Matrix, v: Vector) -> Vector {
    a.map(|row| row.iter().zip(v).map(|(x, y)| x * y).sum())
}

/// Inverts a positive definite matrix by Gauss and Jordan; scaled to a diagonal of ones first, since
/// the coefficients differ by eight orders of magnitude. `None` if it is singular.
fn invert(matrix: Matrix) -> Option<Matrix> {
    let scale = [0, 1, 2].map(|i| matrix[i][i].sqrt());
    if scale.iter().any(|s| !(*s > 0.0 && s.is_finite())) {
        return None;
    }
    let mut left = matrix;
    let mut right = [[0.0; 3]; 3];
    for i in 0..3 {
        right[i][i] = 1.0;
        for j in 0..3 {
            left[i][j] /= scale[i] * scale[j];
        }
    }
    for column in 0..3 {
        let pivot =
            (column..3).max_by(|a, b| left[*a][column].abs().total_cmp(&left[*b][column].abs()))?;
        if left[pivot][column].abs() < 1e-14 {
            return None;
        }
        left.swap(column, pivot);
        right.swap(column, pivot);
        let by = left[column][column];
        for j in 0..3 {
            left[column][j] /= by;
            right[column][j] /= by;
        }
        for row in (0..3).filter(|r| *r != column) {
            let by = left[row][column];
            for j in 0..3 {
                left[row][j] -= by * left[column][j];
                right[row][j] -= by * right[column][j];
            }
        }
    }
    for i in 0..3 {
        for j in 0..3 {
            right[i][j] /= scale[i] * scale[j];
        }
    }
    Some(right)
}
