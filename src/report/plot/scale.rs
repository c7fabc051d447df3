//! From values to places on an axis, and the round values that get a label there.

use std::ops::Range;

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};

/// Most labels of an axis.
const MOST_TICKS: usize = 7;

/// How values stand on an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// Evenly, from zero.
    Linear,
    /// The same with labels that are round in powers of 1,024: bytes.
    Binary,
    /// Evenly by factors of two.
    Log2,
    /// Evenly by factors of ten.
    Log10,
    /// Quantiles by the factors of ten that are left above them.
    Hdr,
}

impl Scale {
    /// The place of a value.
    pub(super) fn to(self, v: f64) -> f64 {
        match self {
            Scale::Linear | Scale::Binary => v,
            Scale::Log2 => v.max(1e-9).log2(),
            Scale::Log10 => v.max(1e-9).log10(),
            Scale::Hdr => -(1.0 - v).max(1e-9).log10(),
        }
    }

    /// The value at a place.
    pub(super) fn from(self, at: f64) -> f64 {
        match self {
            Scale::Linear | Scale::Binary => at,
            Scale::Log2 => at.exp2(),
            Scale::Log10 => 10f64.powf(at),
            Scale::Hdr => 1.0 - 10f64.powf(-at),
        }
    }

    /// An axis that holds all values, with a little room; `None` without a value.
    pub(super) fn axis(self, values: impl Iterator<Item = f64>) -> Option<Ticked> {
        let at: Vec<f64> = values.filter(|v| v.is_finite()).map(|v| self.to(v)).collect();
        let (low, high) =
            at.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(*v), h.max(*v)));
        if low > high {
            return None;
        }
        let (low, high) = match self {
            Scale::Linear | Scale::Binary => {
                (low.min(0.0), if high > 0.0 { high * 1.06 } else { 1.0 })
            }
            Scale::Hdr => (0.0, high.max(1.0)),
            Scale::Log2 | Scale::Log10 => {
                let room = ((high - low) * 0.05).max(0.1);
                (low - room, high + room)
            }
        };
        // An axis needs a length.
        let high = if high > low { high } else { low + 1.0 };
        Some(Ticked { low, high, ticks: self.ticks(low, high) })
    }

    /// Places of round values between two ends.
    fn ticks(self, low: f64, high: f64) -> Vec<f64> {
        match self {
            Scale::Linear => even(low, high, 1.0),
            Scale::Binary => {
                let power = (high.max(1.0).log2() / 10.0).floor();
                even(low, high, (power * 10.0).exp2())
            }
            Scale::Hdr => whole(low, high),
            Scale::Log2 if high - low > 1.0 => whole(low, high),
            Scale::Log10 if high - low > 2.0 => whole(low, high),
            // Under two decades one label a decade would be too few to read a value by.
            Scale::Log10 if high - low > 0.7 => (low.floor() as i32..=high.ceil() as i32)
                .flat_map(|decade| [1.0f64, 2.0, 5.0].map(|m| f64::from(decade) + m.log10()))
                .filter(|at| (low..=high).contains(at))
                .collect(),
            // So short a stretch is nearly even.
            Scale::Log2 | Scale::Log10 => {
                let ends = (self.from(low), self.from(high));
                even(ends.0, ends.1, 1.0).into_iter().map(|v| self.to(v)).collect()
            }
        }
    }
}

/// Whole numbers, thinned to a few.
fn whole(low: f64, high: f64) -> Vec<f64> {
    let step = ((high - low) / MOST_TICKS as f64).ceil().max(1.0) as usize;
    (low.ceil() as i64..=high.floor() as i64).step_by(step).map(|v| v as f64).collect()
}

/// Multiples of 1, 2 or 5 × 10ⁿ units, few enough to be read.
fn even(low: f64, high: f64, unit: f64) -> Vec<f64> {
    let rough = (high - low) / unit / (MOST_TICKS - 1) as f64;
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|m| m * power).into_iter().find(|s| *s >= rough);
    let step = step.unwrap_or(10.0 * power) * unit;
    let first = (low / step).ceil() as i64;
    (first..).map(|i| i as f64 * step).take_while(|at| *at <= high).collect()
}

/// The two ends of an axis and its labels, as plotters asks for them.
pub(super) struct Ticked {
    low: f64,
    high: f64,
    ticks: Vec<f64>,
}

impl Ranged for Ticked {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        let share = (value - self.low) / (self.high - self.low);
        limit.0 + (share * f64::from(limit.1 - limit.0)).round() as i32
    }

    fn key_points<H: KeyPointHint>(&self, _: H) -> Vec<f64> {
        self.ticks.clone()
    }

    fn range(&self) -> Range<f64> {
        self.low..self.high
    }
}

impl ValueFormatter<f64> for Ticked {
    fn format(value: &f64) -> String {
        value.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(scale: Scale, values: &[f64]) -> Vec<f64> {
        scale.axis(values.iter().copied()).unwrap().ticks.iter().map(|t| scale.from(*t)).collect()
    }

    #[test]
    fn labels_are_round_in_the_unit_that_is_printed() {
        assert_eq!(labels(Scale::Linear, &[0.0, 9_000.0]), [0., 2e3, 4e3, 6e3, 8e3]);
        let kib: Vec<f64> =
            labels(Scale::Binary, &[61_000.0]).iter().map(|b| b / 1_024.0).collect();
        assert_eq!(kib, [0., 20., 40., 60.]);
        assert_eq!(labels(Scale::Log2, &[1.0, 256.0]).len(), 5);
    }

    #[test]
    fn no_scale_is_without_labels_or_end() {
        for scale in [Scale::Linear, Scale::Binary, Scale::Log2, Scale::Log10, Scale::Hdr] {
            assert!(scale.axis(std::iter::empty()).is_none());
            assert!(scale.axis([f64::NAN].into_iter()).is_none());
            for v in [0.0, 1e-3, 0.5, 0.999, 1.0, 7.0, 1e12] {
                let n = labels(scale, &[v]).len();
                assert!((1..=9).contains(&n), "{scale:?} of {v}: {n} labels");
            }
        }
    }
}
