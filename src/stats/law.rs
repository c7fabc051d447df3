//! The normal and Student's t distribution, as far as intervals need them.

use std::f64::consts::{FRAC_PI_2, PI};

/// Φ(x), to about 1e-15.
///
/// A series near zero and Lentz's continued fraction in the tails (Abramowitz and Stegun 26.2.11
/// and 26.2.14); each converges fast where it is used.
pub fn normal_cdf(x: f64) -> f64 {
    if x.is_nan() {
        return f64::NAN;
    }
    let density = (-0.5 * x * x).exp() / (2.0 * PI).sqrt();
    let a = x.abs();
    let upper = if a < 3.0 {
        let (mut term, mut sum) = (a, a);
        for k in 1..200 {
            term *= a * a / f64::from(2 * k + 1);
            sum += term;
            if term < sum * 1e-17 {
                break;
            }
        }
        0.5 - density * sum
    } else {
        let mut fraction = a;
        for k in (1..=200).rev() {
            fraction = a + f64::from(k) / fraction;
        }
        density / fraction
    };
    if x < 0.0 { upper } else { 1.0 - upper }
}

/// The x at which Φ(x) = p; infinite at 0 and 1, NaN outside.
pub fn normal_quantile(p: f64) -> f64 {
    inverse(p, normal_cdf)
}

/// The t at which Student's distribution with `degrees` degrees of freedom reaches p.
///
/// NaN for no degrees of freedom or p outside \[0, 1\].
pub fn student_t_quantile(p: f64, degrees: usize) -> f64 {
    if degrees == 0 { f64::NAN } else { inverse(p, |t| student_t_cdf(t, degrees)) }
}

/// The finite sums for whole degrees of freedom, Abramowitz and Stegun 26.7.3 and 26.7.4.
pub(super) fn student_t_cdf(t: f64, degrees: usize) -> f64 {
    let theta = (t.abs() / (degrees as f64).sqrt()).atan();
    let (sine, cosine) = theta.sin_cos();
    let odd = degrees % 2 == 1;
    let mut term = if odd { cosine } else { 1.0 };
    let mut sum = if degrees == 1 { 0.0 } else { term };
    let mut k = if odd { 3 } else { 2 };
    while k < degrees {
        term *= cosine * cosine * (k - 1) as f64 / k as f64;
        sum += term;
        k += 2;
    }
    let within = if odd { (theta + sine * sum) / FRAC_PI_2 } else { sine * sum };
    if t < 0.0 { 0.5 - within / 2.0 } else { 0.5 + within / 2.0 }
}

/// Inverts the distribution function of a law that is symmetrical about zero, by bisection.
fn inverse(p: f64, cdf: impl Fn(f64) -> f64) -> f64 {
    match p {
        p if !(0.0..=1.0).contains(&p) => return f64::NAN,
        0.0 => return f64::NEG_INFINITY,
        1.0 => return f64::INFINITY,
        // The lower tail keeps its relative precision, the upper one is rounded against 1.
        p if p > 0.5 => return -inverse(1.0 - p, cdf),
        _ => {}
    }
    let mut low = -1.0;
    while cdf(low) > p && low > -1e12 {
        low *= 2.0;
    }
    let mut high = 0.0;
    for _ in 0..120 {
        let middle = 0.5 * (low + high);
        if cdf(middle) < p { low = middle } else { high = middle }
    }
    0.5 * (low + high)
}
