//! Percentiles of merged histograms, and when they may be printed.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer, V2DeflateSerializer};

use crate::record::latency;
use crate::results::format::{Distribution, TrialRecord};

/// A histogram of a record that could not be read or written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an HdrHistogram V2 in base64: {0}")]
pub struct HdrError(String);

/// Decodes the `hdr` field of a distribution.
pub fn decode(text: &str) -> Result<Histogram<u64>, HdrError> {
    let bytes = STANDARD.decode(text.trim()).map_err(|e| HdrError(e.to_string()))?;
    Deserializer::new().deserialize(&mut bytes.as_slice()).map_err(|e| HdrError(e.to_string()))
}

/// Encodes a histogram as the `hdr` field of a distribution: V2, deflated, base64.
pub fn encode(histogram: &Histogram<u64>) -> Result<String, HdrError> {
    let mut bytes = Vec::new();
    V2DeflateSerializer::new()
        .serialize(histogram, &mut bytes)
        .map_err(|e| HdrError(e.to_string()))?;
    Ok(STANDARD.encode(bytes))
}

/// Values and their counts of the `hdr` field of a distribution, without the empty rest: a few
/// hundred pairs where a whole histogram is a quarter of a megabyte.
///
/// Reads HdrHistogram's V2 encoding of duel's own layout (one nanosecond, three digits); any other
/// goes through [`decode`].
pub fn decode_sparse(text: &str) -> Result<Vec<(u64, u64)>, HdrError> {
    let bytes = STANDARD.decode(text.trim()).map_err(|e| HdrError(e.to_string()))?;
    if let Some(counts) = own_layout(&bytes) {
        return Ok(counts);
    }
    let whole: Histogram<u64> = Deserializer::new()
        .deserialize(&mut bytes.as_slice())
        .map_err(|e| HdrError(e.to_string()))?;
    let pairs = whole.iter_recorded();
    Ok(pairs.map(|v| (v.value_iterated_to(), v.count_at_value())).collect())
}

/// Cookies of the V2 encoding, each or-ed with 0x10: a word of at most 64 bits a count.
/// <https://github.com/HdrHistogram/HdrHistogram/blob/master/src/main/java/org/HdrHistogram/AbstractHistogram.java>.
const COMPRESSED_COOKIE: u32 = 0x1c84_9314;
const COOKIE: u32 = 0x1c84_9313;

/// `None` for another layout or anything unexpected.
fn own_layout(bytes: &[u8]) -> Option<Vec<(u64, u64)>> {
    let word =
        |bytes: &[u8], at: usize| Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    if word(bytes, 0)? != COMPRESSED_COOKIE {
        return None;
    }
    let mut plain = Vec::with_capacity(4096);
    let deflated = bytes.get(8..)?;
    std::io::Read::read_to_end(&mut flate2::read::ZlibDecoder::new(deflated), &mut plain).ok()?;
    let long = |at: usize| Some(u64::from_be_bytes(plain.get(at..at + 8)?.try_into().ok()?));
    let (length, offset, digits) = (word(&plain, 4)?, word(&plain, 8)?, word(&plain, 12)?);
    let known = word(&plain, 0)? == COOKIE
        && offset == 0
        && digits == u32::from(latency::DIGITS)
        && long(16)? == 1
        && long(24)? == latency::HIGHEST_NS
        && long(32)? == 1f64.to_bits();
    let mut payload = plain.get(40..40 + length as usize).filter(|_| known)?;
    let mut counts = vec![];
    let mut index = 0usize;
    while !payload.is_empty() {
        let count = zig_zag(&mut payload)?;
        if count <= 0 {
            // A run of as many empty buckets; a lone zero is one of them.
            index += count.unsigned_abs().max(1) as usize;
        } else {
            counts.push((latency::value_of(index), count as u64));
            index += 1;
        }
    }
    let highest = counts.last().is_none_or(|(value, _)| *value <= latency::HIGHEST_NS);
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

/// Adds up one field's histograms over records; records without the field are passed over.
///
/// `Ok(None)` when no record has it.
pub fn merge<'a>(
    records: impl IntoIterator<Item = &'a TrialRecord>,
    field: impl Fn(&TrialRecord) -> Option<&Distribution>,
) -> Result<Option<Histogram<u64>>, HdrError> {
    let mut sum: Option<Histogram<u64>> = None;
    for record in records {
        let Some(distribution) = field(record) else { continue };
        let next = decode(&distribution.hdr)?;
        match &mut sum {
            Some(sum) => {
                sum.auto(true);
                sum.add(&next).map_err(|e| HdrError(e.to_string()))?;
            }
            None => sum = Some(next),
        }
    }
    Ok(sum)
}

/// A percentile in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Percentile {
    /// The value.
    pub ns: u64,
    /// Whether it may fall on a request that was given up: the true value is this or more.
    pub lower_bound: bool,
}

/// Samples that must stand behind a quantile before it is printed: 10 / (1 − q).
pub fn samples_needed(q: f64) -> u64 {
    // 10 / (1 − 0.99) is 1000.0000000000009 in binary.
    (10.0 / (1.0 - q) - 1e-6).ceil() as u64
}

/// The quantile `q` of a merged histogram, or `None` where too few samples stand behind it.
///
/// `gave_up_ns` is the shortest time after which a request was given up (see [`gave_up_ns`]),
/// `None` where none was: from there up, a value may be a bound rather than a time.
pub fn percentile(h: &Histogram<u64>, q: f64, gave_up_ns: Option<u64>) -> Option<Percentile> {
    if h.len() < samples_needed(q) {
        return None;
    }
    let ns = h.value_at_quantile(q);
    let lower_bound = gave_up_ns.is_some_and(|limit| ns >= limit);
    // A bound must not be rounded up by the width of its bucket.
    Some(Percentile { ns: if lower_bound { h.lowest_equivalent(ns) } else { ns }, lower_bound })
}

/// The shortest time in service after which one of `timed_out` requests was given up.
///
/// In a trial that ran to its end, timed-out requests are the longest of the service histogram: a
/// timeout fires no earlier than its time, and whatever completes has completed before. So the time
/// is read from the data, and a record without its plan is enough.
pub fn gave_up_ns(service: &Histogram<u64>, timed_out: u64) -> Option<u64> {
    if timed_out == 0 || service.is_empty() {
        return None;
    }
    let before = service.len().saturating_sub(timed_out);
    let mut seen = 0;
    let first = service.iter_recorded().find(|bucket| {
        seen += bucket.count_since_last_iteration();
        seen > before
    })?;
    Some(service.lowest_equivalent(first.value_iterated_to()))
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
        fn sparse_counts_are_those_of_the_whole(
            values in prop::collection::vec((0u64..=latency::HIGHEST_NS, 1u64..1 << 40), 0..60),
        ) {
            let mut histogram = latency::empty();
            for (value, count) in values {
                // Few bits of most values, so that all sizes come up.
                histogram.record_n(value >> (value % 40), count).unwrap();
            }
            let text = encode(&histogram).unwrap();
            prop_assert!(own_layout(&STANDARD.decode(&text).unwrap()).is_some(), "read by itself");
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
}
