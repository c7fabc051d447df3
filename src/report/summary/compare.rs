//! Each row of a group against the reference, within blocks; all of a report judged together.

use std::collections::BTreeMap;

use super::{Group, Row, is_valid};
use crate::format::TrialRecord;
use crate::report::measures::compared;
use crate::stats::{Comparison, RATIO_CONFIDENCE, RatioEstimate, judge, noise_floor, paired_ratio};

/// The trial that stands for each block.
pub(crate) type Blocks<'a> = BTreeMap<u32, &'a TrialRecord>;

/// Fills in the ratios and noise floors of a group; `blocks` belong to its rows, in order.
pub(super) fn compare(group: &mut Group, blocks: &[Blocks<'_>]) {
    let Some(reference) = group.reference else { return };
    for facts in compared(&group.cell) {
        let (mut ratios, floor) =
            compare_by(&group.rows, blocks, reference, group.margin, &facts.of);
        // Trials whose percentile was lost are the slowest of all: without them nothing may be said.
        let lost = |own: &Blocks<'_>| own.values().any(|t| is_valid(t) && facts.measure.is_lost(t));
        for (ratio, own) in ratios.iter_mut().zip(blocks) {
            *ratio = ratio.filter(|_| !lost(own) && !lost(&blocks[reference]));
        }
        group.floors.extend(floor.map(|floor| (facts.measure, floor)));
        for (row, ratio) in group.rows.iter_mut().zip(ratios) {
            row.ratios.extend(ratio.map(|ratio| (facts.measure, ratio)));
        }
    }
}

/// One measure: a comparison for each row but the reference, and the noise floor.
fn compare_by(
    rows: &[Row],
    blocks: &[Blocks<'_>],
    reference: usize,
    margin: f64,
    value: &dyn Fn(&TrialRecord) -> Option<f64>,
) -> (Vec<Option<Comparison>>, Option<(f64, f64)>) {
    let estimate = |(i, own): (usize, &Blocks<'_>)| -> Option<RatioEstimate> {
        let comparable = rows[i].cell.is_comparable(&rows[reference].cell);
        (i != reference && rows[i].ranked && comparable).then_some(())?;
        paired_ratio(&pairs(own, &blocks[reference], value), RATIO_CONFIDENCE)
    };
    let estimates: Vec<Option<RatioEstimate>> = blocks.iter().enumerate().map(estimate).collect();
    // Of several copies, the one of the reference's own configuration.
    let same = |i: usize| rows[i].cell.except(&[]) == rows[reference].cell.except(&[]);
    let floor = (0..rows.len())
        .filter(|i| rows[*i].cell.is_copy() && same(*i))
        .find_map(|i| noise_floor(estimates[i].as_ref()?));
    // The second copy is no competitor: it says what the others must exceed.
    let compared = |(estimate, row): (&Option<RatioEstimate>, &Row)| {
        Some(Comparison::alone((*estimate)?, floor.filter(|_| !row.cell.is_copy()), margin))
    };
    let comparisons = estimates.iter().zip(rows).map(compared).collect();
    (comparisons, floor)
}

/// Judges all comparisons of a report together, of whatever measure and group: each is a chance to
/// claim a difference where there is none, and a reader sees them all.
pub(super) fn judge_all(groups: &mut [Group], margin: f64) {
    let (copies, rows): (Vec<&mut Row>, Vec<&mut Row>) =
        groups.iter_mut().flat_map(|g| &mut g.rows).partition(|r| r.cell.is_copy());
    fn ratios(rows: Vec<&mut Row>) -> impl Iterator<Item = &mut Comparison> {
        rows.into_iter().flat_map(|r| r.ratios.iter_mut().map(|(_, ratio)| ratio))
    }
    let among = judge(ratios(rows), margin);
    // Nor may one measure of many call two identical systems different.
    judge(ratios(copies), margin);
    for group in groups {
        group.among = among;
    }
}

/// Trials of the same block, both valid.
pub(crate) fn paired<'a>(
    this: &Blocks<'a>,
    reference: &Blocks<'a>,
) -> impl Iterator<Item = (&'a TrialRecord, &'a TrialRecord)> {
    let pair =
        move |(block, record): (&u32, &&'a TrialRecord)| Some((*record, *reference.get(block)?));
    this.iter().filter_map(pair).filter(|(a, b)| is_valid(a) && is_valid(b))
}

/// The values of those that both have.
pub(super) fn pairs(
    this: &Blocks<'_>,
    reference: &Blocks<'_>,
    value: &dyn Fn(&TrialRecord) -> Option<f64>,
) -> Vec<(f64, f64)> {
    paired(this, reference).filter_map(|(a, b)| value(a).zip(value(b))).collect()
}
