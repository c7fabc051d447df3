//! Histograms that any thread may record into: HDR buckets, atomic counts.
//!
//! The layout is HdrHistogram's (3 significant digits, 1 ns to [`HIGHEST_NS`]), so that
//! conversion to a [`hdrhistogram::Histogram`] is exact, count for count. The crate's own type
//! needs `&mut`; behind a mutex, a lane preempted in its critical section would stop the others,
//! and differently under each engine. One relaxed increment has no such state.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer, V2DeflateSerializer};

/// Longest time that is told apart; longer ones are recorded as this.
pub const HIGHEST_NS: u64 = 3_600 * crate::units::SECOND_NS;
/// Significant decimal digits.
pub const DIGITS: u8 = 3;

/// 2,048 sub-buckets keep three decimal digits: the smallest power of two above 2 × 10³.
const SUB_BUCKETS: u64 = 2048;
const HALF_MAGNITUDE: u32 = 10;
const HALF: u64 = SUB_BUCKETS / 2;
/// One half-bucket a doubling from 2,048 up to the highest value, and a first whole one.
const BUCKETS: usize = (64 - HIGHEST_NS.leading_zeros() - HALF_MAGNITUDE - 1) as usize + 1;
const COUNTS: usize = (BUCKETS + 1) * HALF as usize;

/// An empty histogram of the layout that all of duel uses.
pub fn empty() -> Histogram<u64> {
    Histogram::new_with_bounds(1, HIGHEST_NS, DIGITS)
        .expect("constant bounds that the crate accepts")
}

/// A histogram with atomic counts, about 0.26 MiB.
pub struct AtomicHistogram {
    counts: Box<[AtomicU64]>,
}

impl AtomicHistogram {
    /// Makes an empty histogram and touches each of its pages, so that recording faults none in.
    pub fn new() -> Self {
        let counts: Box<[AtomicU64]> = (0..COUNTS).map(|_| AtomicU64::new(0)).collect();
        for page in counts.chunks(4096 / size_of::<AtomicU64>()) {
            // A store of zero could be elided; an increment by zero is a write.
            page[0].fetch_add(0, Relaxed);
        }
        AtomicHistogram { counts }
    }

    /// Counts one value in nanoseconds.
    #[inline]
    pub fn record(&self, ns: u64) {
        self.counts[index_of(ns.min(HIGHEST_NS))].fetch_add(1, Relaxed);
    }

    /// Adds every count to `merged`, which must have the layout of [`empty`].
    pub fn add_to(&self, merged: &mut Histogram<u64>) {
        for (index, count) in self.counts.iter().enumerate() {
            let count = count.load(Relaxed);
            if count > 0 {
                merged
                    .record_n(value_of(index), count)
                    .expect("values below the highest that both layouts hold");
            }
        }
    }

    /// The same counts as a [`Histogram`].
    pub fn to_hdr(&self) -> Histogram<u64> {
        let mut merged = empty();
        self.add_to(&mut merged);
        merged
    }
}

impl Default for AtomicHistogram {
    fn default() -> Self {
        Self::new()
    }
}

/// HdrHistogram's index of a value: the doubling it lies in and its place among 1,024 there.
#[inline]
fn index_of(value: u64) -> usize {
    let bucket = 64 - (value | (SUB_BUCKETS - 1)).leading_zeros() - (HALF_MAGNITUDE + 1);
    let sub = value >> bucket;
    (((bucket as u64 + 1) << HALF_MAGNITUDE) + sub - HALF) as usize
}

/// The lowest value of a bucket; the inverse of [`index_of`].
pub(crate) fn value_of(index: usize) -> u64 {
    let index = index as u64;
    match index >> HALF_MAGNITUDE {
        0 => index,
        half => ((index & (HALF - 1)) + HALF) << (half - 1),
    }
}

/// HdrHistogram V2, deflated, base64: the form that other HdrHistogram tools read.
pub fn encode(histogram: &Histogram<u64>) -> String {
    let mut bytes = Vec::new();
    V2DeflateSerializer::new()
        .serialize(histogram, &mut bytes)
        .expect("writing to memory cannot fail, and counts fit 63 bits");
    BASE64.encode(bytes)
}

/// Reads what [`encode`] wrote.
///
/// # Errors
/// Says what is wrong with the text.
pub fn decode(text: &str) -> Result<Histogram<u64>, String> {
    let bytes = BASE64.decode(text).map_err(|e| format!("not base64: {e}"))?;
    Deserializer::new()
        .deserialize(&mut bytes.as_slice())
        .map_err(|e| format!("not an HdrHistogram: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn counts_equal_those_of_the_crate(values in prop::collection::vec(0u64..HIGHEST_NS * 2, 1..200)) {
            let ours = AtomicHistogram::new();
            let mut theirs = empty();
            for v in &values {
                ours.record(*v);
                theirs.saturating_record((*v).min(HIGHEST_NS));
            }
            prop_assert_eq!(ours.to_hdr(), theirs);
        }

        #[test]
        fn index_and_value_are_inverse(value in 0u64..=HIGHEST_NS) {
            let lowest = value_of(index_of(value));
            prop_assert!(lowest <= value);
            prop_assert_eq!(index_of(lowest), index_of(value));
            prop_assert!(value - lowest <= value / 1000, "three digits are kept");
        }
    }

    #[test]
    fn the_highest_value_has_a_bucket() {
        assert!(index_of(HIGHEST_NS) < COUNTS);
    }

    #[test]
    fn text_form_survives() {
        let mut histogram = empty();
        for v in [1, 1_000, 123_456_789, HIGHEST_NS] {
            histogram.record(v).unwrap();
        }
        let text = encode(&histogram);
        assert!(text.starts_with("HISTFAAAA"), "a V2 deflated histogram, got {text}");
        assert_eq!(decode(&text), Ok(histogram));
        assert!(decode("not base64!").is_err());
        assert!(decode("AAAA").is_err());
    }
}
