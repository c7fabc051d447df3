//! The one layout of duel's histograms (HdrHistogram with three significant digits, 1 ns to
//! [`HIGHEST_NS`]) and their text form in records and frames.

use std::io::Read as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer, V2DeflateSerializer};

use super::Distribution;

/// Longest time that is told apart; longer ones are recorded as this.
pub(crate) const HIGHEST_NS: u64 = 3_600 * crate::units::SECOND_NS;
/// Significant decimal digits.
pub(crate) const DIGITS: u8 = 3;

/// 2,048 sub-buckets keep three decimal digits: the smallest power of two above 2 × 10³.
const SUB_BUCKETS: u64 = 2048;
const HALF_MAGNITUDE: u32 = 10;
const HALF: u64 = SUB_BUCKETS / 2;
/// One half-bucket a doubling from 2,048 up to the highest value, and a first whole one.
const BUCKETS: usize = (64 - HIGHEST_NS.leading_zeros() - HALF_MAGNITUDE - 1) as usize + 1;
pub(crate) const COUNTS: usize = (BUCKETS + 1) * HALF as usize;

/// An empty histogram of the layout that all of duel uses.
pub fn empty() -> Histogram<u64> {
    Histogram::new_with_bounds(1, HIGHEST_NS, DIGITS)
        .expect("constant bounds that the crate accepts")
}

/// HdrHistogram's index of a value: the doubling it lies in and its place among 1,024 there.
#[inline]
pub(crate) fn index_of(value: u64) -> usize {
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

/// A histogram of a record that could not be read or written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an HdrHistogram V2 in base64: {0}")]
pub struct HdrError(pub(crate) String);

/// Decodes the `hdr` field of a distribution.
pub fn decode(text: &str) -> Result<Histogram<u64>, HdrError> {
    whole(&unpack(text)?)
}

/// The encoding behind base64 and deflate. What a few bytes unpack to without end, or what says that it
/// is longer than it is, is no histogram.
fn unpack(text: &str) -> Result<Vec<u8>, HdrError> {
    let refused = |why: &str| HdrError(why.into());
    let bytes = BASE64.decode(text.trim()).map_err(|e| HdrError(e.to_string()))?;
    if word(&bytes, 0) != Some(COMPRESSED_COOKIE) {
        return Err(refused("it begins otherwise"));
    }
    let mut plain = Vec::with_capacity(4096);
    let unpacked = flate2::read::ZlibDecoder::new(bytes.get(8..).unwrap_or_default());
    unpacked
        .take(MOST_BYTES)
        .read_to_end(&mut plain)
        .map_err(|e| HdrError(format!("it cannot be unpacked: {e}")))?;
    match word(&plain, 4) {
        Some(length) if plain.len() as u64 >= 40 + u64::from(length) => Ok(plain),
        _ => Err(refused("it is cut off")),
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// The crate negates whatever is below zero, which the least of all numbers cannot bear.
fn whole(mut plain: &[u8]) -> Result<Histogram<u64>, HdrError> {
    let mut payload = plain.get(40..).unwrap_or_default();
    while let Some(count) = zig_zag(&mut payload) {
        if count == i64::MIN {
            return Err(HdrError("a stretch of it is endless".into()));
        }
    }
    Deserializer::new().deserialize(&mut plain).map_err(|e| HdrError(e.to_string()))
}

/// Encodes a histogram as the `hdr` field of a distribution: V2, deflated, base64.
pub fn encode(histogram: &Histogram<u64>) -> Result<String, HdrError> {
    let mut bytes = Vec::new();
    V2DeflateSerializer::new()
        .serialize(histogram, &mut bytes)
        .map_err(|e| HdrError(e.to_string()))?;
    Ok(BASE64.encode(bytes))
}

/// Values and their counts of the `hdr` field of a distribution, without the empty rest: a few
/// hundred pairs where a whole histogram is a quarter of a megabyte.
///
/// Reads HdrHistogram's V2 encoding of duel's own layout (one nanosecond, three digits); any other
/// goes through [`decode`].
pub(crate) fn decode_sparse(text: &str) -> Result<Vec<(u64, u64)>, HdrError> {
    let plain = unpack(text)?;
    if let Some(counts) = own_layout(&plain) {
        return Ok(counts);
    }
    let whole = whole(&plain)?;
    let pairs = whole.iter_recorded();
    Ok(pairs.map(|v| (v.value_iterated_to(), v.count_at_value())).collect())
}

/// Cookies of the V2 encoding, each or-ed with 0x10: a word of at most 64 bits a count.
/// <https://github.com/HdrHistogram/HdrHistogram/blob/master/src/main/java/org/HdrHistogram/AbstractHistogram.java>.
const COMPRESSED_COOKIE: u32 = 0x1c84_9314;
const COOKIE: u32 = 0x1c84_9313;
/// Most bytes of the encoding, unpacked; those of duel's own layout are fewer by far.
const MOST_BYTES: u64 = 16 << 20;

/// `None` for another layout or anything unexpected.
fn own_layout(plain: &[u8]) -> Option<Vec<(u64, u64)>> {
    let long = |at: usize| Some(u64::from_be_bytes(plain.get(at..at + 8)?.try_into().ok()?));
    let (length, offset, digits) = (word(plain, 4)?, word(plain, 8)?, word(plain, 12)?);
    let known = word(plain, 0)? == COOKIE
        && offset == 0
        && digits == u32::from(DIGITS)
        && long(16)? == 1
        && long(24)? == HIGHEST_NS
        && long(32)? == 1f64.to_bits();
    let mut payload = plain.get(40..40 + length as usize).filter(|_| known)?;
    let mut counts = vec![];
    let mut index = 0usize;
    while !payload.is_empty() {
        let count = zig_zag(&mut payload)?;
        if count <= 0 {
            // A run of as many empty buckets; a lone zero is one of them.
            index = index.checked_add(count.unsigned_abs().max(1) as usize)?;
        } else if index >= COUNTS {
            return None;
        } else {
            counts.push((value_of(index), count as u64));
            index += 1;
        }
    }
    let highest = counts.last().is_none_or(|(value, _)| *value <= HIGHEST_NS);
    highest.then_some(counts)
}

/// ZigZag LEB128 of at most nine bytes, the last of which has eight bits.
fn zig_zag(bytes: &mut &[u8]) -> Option<i64> {
    let mut value = 0u64;
    for place in 0..9 {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        if place == 8 {
            value |= u64::from(*byte) << 56;
            break;
        }
        value |= u64::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            break;
        }
    }
    Some((value >> 1) as i64 ^ -((value & 1) as i64))
}

/// The distribution of a record from a histogram of nanoseconds.
pub fn summarize(histogram: &Histogram<u64>) -> Result<Distribution, HdrError> {
    let q = |q| histogram.value_at_quantile(q);
    Ok(Distribution {
        count: histogram.len(),
        mean: histogram.mean(),
        min: histogram.min(),
        p50: q(0.5),
        p90: q(0.9),
        p99: q(0.99),
        p99_9: q(0.999),
        max: histogram.max(),
        hdr: encode(histogram)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pairs(histogram: &Histogram<u64>) -> Vec<(u64, u64)> {
        let lowest = |v| histogram.lowest_equivalent(v);
        histogram
            .iter_recorded()
            .map(|v| (lowest(v.value_iterated_to()), v.count_at_value()))
            .collect()
    }

    proptest! {
        #[test]
        fn index_and_value_are_inverse(value in 0u64..=HIGHEST_NS) {
            let lowest = value_of(index_of(value));
            prop_assert!(lowest <= value);
            prop_assert_eq!(index_of(lowest), index_of(value));
            prop_assert!(value - lowest <= value / 1000, "three digits are kept");
        }

        #[test]
        fn sparse_counts_are_those_of_the_whole(
            values in prop::collection::vec((0u64..=HIGHEST_NS, 1u64..1 << 40), 0..60),
        ) {
            let mut histogram = empty();
            for (value, count) in values {
                // Few bits of most values, so that all sizes come up.
                histogram.record_n(value >> (value % 40), count).unwrap();
            }
            let text = encode(&histogram).unwrap();
            prop_assert!(own_layout(&unpack(&text).unwrap()).is_some(), "read by itself");
            prop_assert_eq!(decode_sparse(&text).unwrap(), pairs(&histogram));
        }
    }

    #[test]
    fn another_layout_is_read_as_a_whole() {
        let mut histogram = Histogram::<u64>::new_with_bounds(1, 60_000_000_000, 2).unwrap();
        histogram.record_n(123_456, 7).unwrap();
        let sparse = decode_sparse(&encode(&histogram).unwrap()).unwrap();
        assert_eq!(sparse.len(), 1);
        assert_eq!((histogram.lowest_equivalent(sparse[0].0), sparse[0].1), (123_392, 7));
        assert!(decode_sparse("AAAA").is_err());
        assert!(decode_sparse("not base64!").is_err());
    }

    #[test]
    fn bytes_that_lie_about_their_length_are_refused_and_take_no_memory() {
        use std::io::Write as _;
        let packed = |plain: &[u8]| {
            let mut bytes = [COMPRESSED_COOKIE.to_be_bytes(), [0; 4]].concat();
            let mut encoder =
                flate2::write::ZlibEncoder::new(&mut bytes, flate2::Compression::fast());
            encoder.write_all(plain).and_then(|()| encoder.try_finish()).unwrap();
            drop(encoder);
            BASE64.encode(bytes)
        };
        let head = |length: u32| {
            let words = [COOKIE, length, 0, u32::from(DIGITS)].map(u32::to_be_bytes).concat();
            let longs = [1, HIGHEST_NS, 1f64.to_bits()].map(u64::to_be_bytes).concat();
            [words, longs].concat()
        };
        // An empty stretch that is longer than all buckets, twice, and a count behind it.
        let stretch = [0xff; 9];
        let payload = [&stretch[..], &stretch, &[2]].concat();
        let beyond = [head(payload.len() as u32), payload].concat();
        let counted = [head(4), vec![0xfd, 0xff, 0x7f, 2]].concat();
        let endless = vec![0; 64 << 20];
        for plain in [beyond, counted, head(u32::MAX), head(1), endless, vec![], vec![0; 7]] {
            let text = packed(&plain);
            assert!(decode_sparse(&text).is_err(), "{} bytes", plain.len());
            assert!(decode(&text).is_err(), "{} bytes", plain.len());
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
        let text = encode(&histogram).unwrap();
        assert!(text.starts_with("HISTFAAAA"), "a V2 deflated histogram, got {text}");
        assert_eq!(decode(&text), Ok(histogram));
        assert!(decode("not base64!").is_err());
        assert!(decode("AAAA").is_err());
    }
}
