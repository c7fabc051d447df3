//! Each row of a group against the reference, within blocks; all of a report judged together.

use std::collections::BTreeMap;

use super::{Group, Row, is_valid};
use crate::format::TrialRecord;
use crate::report::measures::{Measure, compared};
use crate::stats::{Comparison, RATIO_CONFIDENCE, RatioEstimate, judge, noise_floor, paired_ratio};

/// The trial that stands for each block.
pub(crate) type Blocks<'a> = BTreeMap<u32, &'a TrialRecord>;

/// Fills in the ratios of some rows to the reference, and the noise floors; `blocks` belong to the
/// rows, in order.
pub(super) fn compare(
    group: &mut Group,
    blocks: &[Blocks<'_>],
    reference: usize,
    others: &[usize],
) {
    let Group { cell, rows, floors, margin, .. } = group;
    let own = rows[reference].cell.except(&[]);
    for measure in compared(cell).map(|facts| facts.measure) {
        let estimate = |i: &usize| Some((*i, ratio(measure, &blocks[*i], &blocks[reference])?));
        let estimates: Vec<(usize, RatioEstimate)> = others.iter().filter_map(estimate).collect();
        // Of several copies, the one of the reference's own configuration.
        let copy = estimates.iter().find(|(i, _)| {
            let cell = &rows[*i].cell;
            cell.is_copy() && cell.except(&[]) == own
        });
        let floor = copy.and_then(|(_, estimate)| noise_floor(estimate));
        floors.extend(floor.map(|floor| (measure, floor)));
        for (i, estimate) in estimates {
            // The second copy is no competitor: it says what the others must exceed.
            let floor = floor.filter(|_| !rows[i].cell.is_copy());
            rows[i].ratios.push((measure, Comparison::alone(estimate, floor, *margin)));
        }
    }
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

/// The values of a measure in trials of the same block; `None` where one of them lost so many requests
/// that it has none: without the slowest of all nothing may be said.
pub(crate) fn values(
    measure: Measure,
    this: &Blocks<'_>,
    reference: &Blocks<'_>,
) -> Option<Vec<(f64, f64)>> {
    let lost = |(a, b): (&TrialRecord, &TrialRecord)| measure.is_lost(a) || measure.is_lost(b);
    let both = |(a, b): (&TrialRecord, &TrialRecord)| measure.of(a).zip(measure.of(b));
    let any = paired(this, reference).any(lost);
    (!any).then(|| paired(this, reference).filter_map(both).collect())
}

/// The ratio of a measure within blocks.
pub(crate) fn ratio(
    measure: Measure,
    this: &Blocks<'_>,
    reference: &Blocks<'_>,
) -> Option<RatioEstimate> {
    paired_ratio(&values(measure, this, reference)?, RATIO_CONFIDENCE)
}
