//! Straight lines by least squares, with intervals.

use super::law;

/// y = intercept + slope · x, with intervals by Student's t and n − 2 degrees of freedom.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LinearFit {
    /// Units of y for each unit of x.
    pub slope: f64,
    /// Units of y at x = 0.
    pub intercept: f64,
    /// Interval of the slope; `None` with two points, through which every line passes exactly.
    pub slope_interval: Option<(f64, f64)>,
    pub(crate) intercept_interval: Option<(f64, f64)>,
    pub n: usize,
    /// Standard deviation of the residuals, in units of y; 0 with two points.
    pub residual_deviation: f64,
    /// Share of the variance of y that the line accounts for; 1 when y does not vary.
    pub r_squared: f64,
}

/// Ordinary least squares over `(x, y)`; points that are not finite are left out.
///
/// `None` with fewer than two points or a single value of x, through which no slope is defined.
pub fn linear_fit(points: &[(f64, f64)], confidence: f64) -> Option<LinearFit> {
    let points: Vec<(f64, f64)> =
        points.iter().copied().filter(|(x, y)| x.is_finite() && y.is_finite()).collect();
    let n = points.len() as f64;
    // Sums about the means, since sums of raw squares cancel when x is far from zero.
    let mean_x = points.iter().map(|p| p.0).sum::<f64>() / n;
    let mean_y = points.iter().map(|p| p.1).sum::<f64>() / n;
    let sxx: f64 = points.iter().map(|p| (p.0 - mean_x).powi(2)).sum();
    let sxy: f64 = points.iter().map(|p| (p.0 - mean_x) * (p.1 - mean_y)).sum();
    let syy: f64 = points.iter().map(|p| (p.1 - mean_y).powi(2)).sum();
    if points.len() < 2 || sxx <= 0.0 || !sxx.is_finite() {
        return None;
    }
    let slope = sxy / sxx;
    let intercept = mean_y - slope * mean_x;
    let residual: f64 = points.iter().map(|p| (p.1 - intercept - slope * p.0).powi(2)).sum();
    let degrees = points.len() - 2;
    let deviation = if degrees == 0 { 0.0 } else { (residual / degrees as f64).sqrt() };
    let t = law::student_t_quantile(0.5 + confidence / 2.0, degrees);
    let around =
        |value: f64, error: f64| (degrees > 0).then_some((value - t * error, value + t * error));
    Some(LinearFit {
        slope,
        intercept,
        slope_interval: around(slope, deviation / sxx.sqrt()),
        intercept_interval: around(intercept, deviation * (1.0 / n + mean_x * mean_x / sxx).sqrt()),
        n: points.len(),
        residual_deviation: deviation,
        r_squared: if syy > 0.0 { 1.0 - residual / syy } else { 1.0 },
    })
}
