//! What a sweep that runs until its ratios are precise still needs: widths only, no percentiles.

use std::collections::BTreeSet;

use super::{Blocks, against, by_block, by_cell, grouped, ratio};
use crate::format::TrialRecord;
use crate::plan::{Cell, Engine};
use crate::report::measures::{Measure, compared};
use crate::stats::precision::{fewest_blocks, half_width, is_precise};

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
        let mut pairs = Vec::new();
        for group in grouped(cells.iter().enumerate(), |(_, cell)| cell) {
            let own: Vec<&Cell> = group.iter().map(|(_, cell)| *cell).collect();
            let Some((reference, others)) = against(&own, baseline, |_| true) else { continue };
            pairs.extend(others.into_iter().map(|i| (group[i].0, group[reference].0)));
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
            let decide = compared(&self.cells[i]).map(|facts| facts.measure);
            for measure in decide.filter(|measure| *measure != Measure::P99) {
                let estimate = ratio(measure, &blocks[i], &blocks[reference]);
                let Some(estimate) = estimate else { continue };
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{Ledger, Status, histogram};
    use crate::plan::CellKind;
    use crate::report::summary::summarise;
    use crate::stats::MARGIN;

    /// Requests of a trial that took as many microseconds, some of them lost.
    fn trial(cell: &Cell, block: u32, us: u64, lost: u64) -> TrialRecord {
        let mut times = histogram::empty();
        times.record_n(us * 1_000, 100).unwrap();
        let mut trial = TrialRecord::blank("p".into(), "b".into(), block, block, cell.clone());
        trial.status = Status::Ok;
        trial.ledger =
            Ledger { planned: 100 + lost, completed: 100, failed: lost, ..Ledger::default() };
        trial.service_ns = Some(histogram::summarize(&times).unwrap());
        trial.cpu.per_request_ns = 1_000.0 + f64::from(block % 3);
        trial.achieved_per_s = 100.0;
        trial
    }

    fn cell(id: &str, engine: Engine) -> Cell {
        Cell { id: id.into(), ..Cell::plain(engine, 4) }
    }

    /// A run until it is precise must wait for the ratios of its report, all of them and no others.
    #[test]
    fn what_a_sweep_waits_for_is_what_its_report_compares() {
        let kind = |id: &str, kind| Cell { kind, ..cell(id, Engine::Threads) };
        let of = |id: &str, lanes| Cell { id: id.into(), ..Cell::plain(Engine::Tokio, lanes) };
        let cells = [
            cell("tokio", Engine::Tokio),
            cell("threads", Engine::Threads),
            cell("rayon", Engine::Rayon),
            kind("aa", CellKind::Copy),
            kind("idle", CellKind::Idle),
            kind("counted", CellKind::Counted),
            kind("memory", CellKind::Memory),
            of("alone", 8),
        ];
        let trials = |cell| (0..12).map(move |block| trial(cell, block, 100, 0));
        let records: Vec<TrialRecord> = cells.iter().flat_map(trials).collect();
        let groups = summarise(&records, Engine::Threads, MARGIN);
        let rows = groups.iter().flat_map(|g| &g.rows).filter(|r| !r.ratios.is_empty());
        let shown: BTreeSet<&str> = rows.map(|r| r.cell.id.as_str()).collect();
        assert_eq!(shown, BTreeSet::from(["aa", "rayon", "tokio"]));
        let all = Comparisons::of(&cells, Engine::Threads);
        let waited: BTreeSet<&str> = all.pairs.iter().map(|(i, _)| cells[*i].id.as_str()).collect();
        assert_eq!(waited, shown);
        assert!(all.pairs.iter().all(|(_, reference)| cells[*reference].id == "threads"));
    }

    #[test]
    fn a_ratio_that_lost_requests_keep_from_the_report_is_not_waited_for() {
        let target = |nth| Cell {
            target: Some(format!("t{nth}")),
            target_nth: Some(nth),
            ..cell(&format!("t{nth}"), Engine::Threads)
        };
        let cells = [target(0), target(1)];
        let wide = |lost| {
            let trial = |(nth, block): (usize, u32)| {
                let slow = nth == 1 && block % 2 == 0;
                let lost = if block == 5 { lost } else { 0 };
                trial(&cells[nth], block, if slow { 500 } else { 100 }, lost)
            };
            let all = (0..2).flat_map(|nth| (0..12).map(move |block| (nth, block)));
            let records: Vec<TrialRecord> = all.map(trial).collect();
            let groups = summarise(&records, Engine::Threads, MARGIN);
            let shown = groups[0].rows[1].ratio(Measure::P50).is_some();
            let all = Comparisons::of(&cells, Engine::Threads);
            let wide = all.open(records.iter(), 0.05).1;
            (shown, wide.iter().any(|wide| wide.measure == Measure::P50.words()))
        };
        assert_eq!(wide(0), (true, true), "it is shown, and wide");
        assert_eq!(wide(300), (false, false), "it will never be shown");
    }
}
