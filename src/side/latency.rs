//! Histograms that any thread may record into: HDR buckets, atomic counts.
//!
//! The layout is that of [`crate::format::histogram`], so that conversion to a
//! [`hdrhistogram::Histogram`] is exact, count for count. The crate's own type needs `&mut`; behind
//! a mutex, a lane preempted in its critical section would stop the others, and differently under
//! each engine. One relaxed increment has no such state.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use hdrhistogram::Histogram;

use super::counters::add;
use crate::format::histogram::{COUNTS, HIGHEST_NS, empty, index_of, value_of};

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

    #[inline]
    pub fn record(&self, ns: u64) {
        self.record_as(ns, false);
    }

    /// As [`AtomicHistogram::record`]; `alone` where one thread records.
    #[inline]
    pub(super) fn record_as(&self, ns: u64, alone: bool) {
        add(&self.counts[index_of(ns.min(HIGHEST_NS))], 1, alone);
    }

    /// Adds every count to `merged`, which must have the layout of [`empty`].
    pub(crate) fn add_to(&self, merged: &mut Histogram<u64>) {
        for (index, count) in self.counts.iter().enumerate() {
            let count = count.load(Relaxed);
            if count > 0 {
                merged
                    .record_n(value_of(index), count)
                    .expect("values below the highest that both layouts hold");
            }
        }
    }

    pub(crate) fn to_hdr(&self) -> Histogram<u64> {
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
    }
}
