//! Each row of a group against the reference, within blocks, corrected for their number.

use std::collections::BTreeMap;

use super::{AA, Group, Row, figures, is_valid};
use crate::results::format::TrialRecord;
use crate::stats::{CONFIDENCE, RatioEstimate, Verdict, holm, noise_floor, paired_ratio, verdict};

/// A row against the reference.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Comparison {
    /// The ratio row ÷ reference.
    pub estimate: RatioEstimate,
    /// Its p-value after Holm's correction over the rows of the group; `None` without an interval.
    pub adjusted_p: Option<f64>,
    /// What may be said of it.
    pub verdict: Verdict,
}

type Blocks<'a> = BTreeMap<u32, &'a TrialRecord>;

/// Fills in the ratios and noise floors of a group; `blocks` belong to its rows, in order.
pub(super) fn compare(group: &mut Group, blocks: &[Blocks<'_>]) {
    let Some(reference) = group.reference else { return };
    let cpu: &dyn Fn(&TrialRecord) -> Option<f64> = &figures::cpu_per_request_ns;
    let memory = &|t: &TrialRecord| t.peak_over_baseline().map(|b| b as f64);
    let (ratios, floor) = compare_by(&group.rows, blocks, reference, cpu);
    group.cpu_floor = floor;
    for (row, ratio) in group.rows.iter_mut().zip(ratios) {
        row.cpu_ratio = ratio;
    }
    let (ratios, floor) = compare_by(&group.rows, blocks, reference, memory);
    group.memory_floor = floor;
    for (row, ratio) in group.rows.iter_mut().zip(ratios) {
        row.memory_ratio = ratio;
    }
}

/// One measure: a comparison for each row but the reference, and the noise floor.
fn compare_by(
    rows: &[Row],
    blocks: &[Blocks<'_>],
    reference: usize,
    value: &dyn Fn(&TrialRecord) -> Option<f64>,
) -> (Vec<Option<Comparison>>, Option<(f64, f64)>) {
    let estimates: Vec<Option<RatioEstimate>> = blocks
        .iter()
        .enumerate()
        .map(|(i, own)| {
            let pairs = pairs(own, &blocks[reference], value);
            (i != reference && rows[i].ranked).then(|| paired_ratio(&pairs, CONFIDENCE)).flatten()
        })
        .collect();
    // The second copy of the baseline is no competitor: it says what the others must exceed.
    let is_aa = |i: usize| rows[i].cell.label.as_deref() == Some(AA);
    // Of several copies, the one of the reference's own configuration.
    let same = |i: usize| {
        let (a, b) = (&rows[i].cell, &rows[reference].cell);
        (a.stack_size_bytes, a.processes, a.rayon_threads, &a.allocator, a.offload)
            == (b.stack_size_bytes, b.processes, b.rayon_threads, &b.allocator, b.offload)
    };
    let floor = (0..rows.len())
        .filter(|i| is_aa(*i) && same(*i))
        .find_map(|i| noise_floor(estimates[i].as_ref()?));
    let family: Vec<usize> = (0..rows.len())
        .filter(|i| !is_aa(*i) && estimates[*i].is_some_and(|e| e.p_value.is_some()))
        .collect();
    let p: Vec<f64> = family.iter().filter_map(|i| estimates[*i]?.p_value).collect();
    let adjusted: BTreeMap<usize, f64> = family.into_iter().zip(holm(&p)).collect();
    let comparisons = estimates
        .iter()
        .enumerate()
        .map(|(i, estimate)| {
            let estimate = (*estimate)?;
            let adjusted_p = adjusted.get(&i).copied();
            let floor = floor.filter(|_| !is_aa(i));
            Some(Comparison {
                estimate,
                adjusted_p,
                verdict: verdict(&estimate, floor, adjusted_p),
            })
        })
        .collect();
    (comparisons, floor)
}

/// Values of the same block, both valid.
fn pairs(
    this: &Blocks<'_>,
    reference: &Blocks<'_>,
    value: &dyn Fn(&TrialRecord) -> Option<f64>,
) -> Vec<(f64, f64)> {
    this.iter()
        .filter_map(|(block, record)| {
            let other = reference.get(block)?;
            (is_valid(record) && is_valid(other)).then_some(())?;
            Some((value(record)?, value(other)?))
        })
        .collect()
}
