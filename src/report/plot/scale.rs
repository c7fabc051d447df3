//! From values to places on an axis, and the round values that get a label there.

/// How values stand on an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scale {
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
    /// What an axis says of its scale.
    pub(super) fn words(self) -> &'static str {
        match self {
            Scale::Linear | Scale::Binary => "",
            Scale::Log2 | Scale::Log10 => ", logarithmic",
            Scale::Hdr => ", tail stretched",
        }
    }

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

    /// An axis that holds all values, with a little room and about `most` labels; `None` without a
    /// value.
    pub(super) fn axis(self, values: impl Iterator<Item = f64>, most: usize) -> Option<Ticked> {
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
        Some(Ticked { low, high, ticks: self.ticks(low, high, most) })
    }

    /// Places of round values between two ends.
    fn ticks(self, low: f64, high: f64, most: usize) -> Vec<f64> {
        match self {
            Scale::Linear => even(low, high, 1.0, most),
            Scale::Binary => {
                let power = (high.max(1.0).log2() / 10.0).floor();
                even(low, high, (power * 10.0).exp2(), most)
            }
            Scale::Hdr => whole(low, high, most),
            Scale::Log2 if high - low > 1.0 => whole(low, high, most),
            Scale::Log10 if high - low > 2.0 => whole(low, high, most),
            // Under two decades one label per decade would be too few to read a value by.
            Scale::Log10 if high - low > 0.7 => (low.floor() as i32..=high.ceil() as i32)
                .flat_map(|decade| [1.0f64, 2.0, 5.0].map(|m| f64::from(decade) + m.log10()))
                .filter(|at| (low..=high).contains(at))
                .collect(),
            // So short a stretch is nearly even.
            Scale::Log2 | Scale::Log10 => {
                let ends = (self.from(low), self.from(high));
                even(ends.0, ends.1, 1.0, most).into_iter().map(|v| self.to(v)).collect()
            }
        }
    }
}

/// Whole numbers, thinned to a few.
fn whole(low: f64, high: f64, most: usize) -> Vec<f64> {
    let step = ((high - low) / most as f64).ceil().max(1.0) as usize;
    (low.ceil() as i64..=high.floor() as i64).step_by(step).map(|v| v as f64).collect()
}

/// Multiples of 1, 2 or 5 × 10ⁿ units, few enough to be read.
fn even(low: f64, high: f64, unit: f64, most: usize) -> Vec<f64> {
    let rough = (high - low) / unit / (most - 1) as f64;
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|m| m * power).into_iter().find(|s| *s >= rough);
    let step = step.unwrap_or(10.0 * power) * unit;
    let first = (low / step).ceil() as i64;
    (first..).map(|i| i as f64 * step).take_while(|at| *at <= high).collect()
}

/// The two ends of an axis and its labels, as places.
pub(super) struct Ticked {
    pub(super) low: f64,
    pub(super) high: f64,
    pub(super) ticks: Vec<f64>,
}

impl Ticked {
    /// How far along the axis a place is, from 0 to 1.
    pub(super) fn share(&self, at: f64) -> f64 {
        (at - self.low) / (self.high - self.low)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(scale: Scale, values: &[f64]) -> Vec<f64> {
        scale
            .axis(values.iter().copied(), 7)
            .unwrap()
            .ticks
            .iter()
            .map(|t| scale.from(*t))
            .collect()
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
            assert!(scale.axis(std::iter::empty(), 7).is_none());
            assert!(scale.axis([f64::NAN].into_iter(), 7).is_none());
            for v in [0.0, 1e-3, 0.5, 0.999, 1.0, 7.0, 1e12] {
                let n = labels(scale, &[v]).len();
                assert!((1..=9).contains(&n), "{scale:?} of {v}: {n} labels");
            }
        }
    }
}
