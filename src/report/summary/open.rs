//! What a sweep that runs until its ratios are precise still needs: widths only, no percentiles.

use std::collections::{BTreeMap, BTreeSet};

use super::compare::{Blocks, pairs};
use super::{by_block, by_cell, is_reference, place};
use crate::format::TrialRecord;
use crate::plan::{Cell, Engine};
use crate::report::measures::{Facts, Measure, compared};
use crate::stats::precision::{fewest_blocks, half_width, is_precise};
use crate::stats::{RATIO_CONFIDENCE, paired_ratio};

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Wide {
    pub(crate) cell: String,
    pub(crate) measure: String,
    /// `None` without an interval.
    pub(crate) half_width: Option<f64>,
}

/// The comparisons that a sweep's report will hold: each cell with the one that it refers to.
#[derive(Debug)]
pub(crate) struct Comparisons<'c> {
    cells: &'c [Cell],
    /// Index of a cell and of its reference.
    pairs: Vec<(usize, usize)>,
}

impl<'c> Comparisons<'c> {
    pub(crate) fn of(cells: &'c [Cell], baseline: Engine) -> Comparisons<'c> {
        let mut groups: BTreeMap<_, Vec<usize>> = BTreeMap::new();
        for (i, cell) in cells.iter().enumerate().filter(|(_, c)| !c.is_memory()) {
            groups.entry(place(cell)).or_default().push(i);
        }
        let mut pairs = Vec::new();
        for mut group in groups.into_values() {
            group.sort_by_cached_key(|i| (cells[*i].except(&[]), cells[*i].kind));
            let reference = group.iter().find(|i| is_reference(&cells[**i], baseline)).copied();
            let Some(reference) = reference else { continue };
            let compared =
                |i: &usize| *i != reference && cells[*i].is_comparable(&cells[reference]);
            pairs.extend(group.into_iter().filter(compared).map(|i| (i, reference)));
        }
        Comparisons { cells, pairs }
    }

    /// How many are judged together.
    pub(crate) fn count(&self) -> usize {
        let ranked = self.pairs.iter().map(|(i, _)| &self.cells[*i]).filter(|c| !c.is_copy());
        ranked.map(|cell| compared(cell).count()).sum()
    }

    /// Indices of the cells that need another block, and the ratios that are still too wide.
    ///
    /// Every cell is run in the fewest blocks. After them one goes on while a ratio of it or to it
    /// is too wide; one that gave no pair at all will not. A p99 is compared, but would need far more
    /// blocks than all else.
    pub(crate) fn open<'r>(
        &self,
        records: impl Iterator<Item = &'r TrialRecord>,
        wanted: f64,
    ) -> (BTreeSet<usize>, Vec<Wide>) {
        let trials = by_cell(records);
        let none = Vec::new();
        let of = |cell: &Cell| by_block(trials.get(cell.id.as_str()).unwrap_or(&none));
        let blocks: Vec<Blocks<'_>> = self.cells.iter().map(of).collect();
        let among = self.count();
        let fewest = fewest_blocks(among) as usize;
        let few = |i: &usize| blocks[*i].len() < fewest;
        let mut open: BTreeSet<usize> = (0..self.cells.len()).filter(few).collect();
        let mut wide = Vec::new();
        for &(i, reference) in &self.pairs {
            let decide = compared(&self.cells[i]).filter(|facts| facts.measure != Measure::P99);
            for Facts { measure, of, .. } in decide {
                let values = pairs(&blocks[i], &blocks[reference], of);
                let Some(estimate) = paired_ratio(&values, RATIO_CONFIDENCE) else { continue };
                if is_precise(&estimate, wanted, among) {
                    continue;
                }
                open.extend([i, reference]);
                let (cell, half_width) = (self.cells[i].id.clone(), half_width(&estimate));
                wide.push(Wide { cell, measure: measure.words(), half_width });
            }
        }
        (open, wide)
    }
}
