//! Runs the probes of a search: each engine's next trial in turn, so that a machine that drifts
//! drifts for all of them alike.

use super::{SweepProgress, SweepSession, exit};
use crate::format::{Flag, Status, TrialRecord};
use crate::plan::Cell;
use crate::plan::sweep::{Sweep, Trial};
use crate::results::search::{
    SearchOutcome, SearchProgress as Searching, SearchStep, at_shares, searches,
};

impl SweepSession<'_> {
    /// Runs trials until every cell's search is over, or a signal comes.
    pub(super) fn search(&mut self) -> anyhow::Result<()> {
        self.context.remarks.push(Flag::Search);
        let said = self.probe();
        self.context.remarks.retain(|remark| *remark != Flag::Search);
        said
    }

    /// Runs the grid at shares of the knees that were found; a cell without a knee is a failed row.
    pub(super) fn at_knees(&mut self) -> anyhow::Result<()> {
        let (found, missing): (Vec<_>, Vec<_>) = at_shares(self.context.sweep, &self.records)
            .into_iter()
            .partition(|(_, why)| why.is_none());
        for (cell, why) in missing {
            let known = self.records.iter().any(|r| r.cell.id == cell.id);
            let trial = Trial { cell: 0, block: 0, position: self.next_position() };
            let record = self.context.cannot_run(&cell, &trial, why.unwrap_or_default());
            if !known {
                self.keep(record)?;
            }
        }
        let cells: Vec<Cell> = found.into_iter().map(|(cell, _)| cell).collect();
        if cells.is_empty() { Ok(()) } else { self.grid(&cells) }
    }

    fn next_position(&self) -> u32 {
        self.records.iter().map(|r| r.trial + 1).max().unwrap_or(0)
    }

    fn probe(&mut self) -> anyhow::Result<()> {
        let mut all = searches(self.context.sweep, &self.records);
        let mut shown = SweepProgress::new(0, self.signals.clone());
        let mut position = self.next_position();
        // One cell's turn after another's; in each round another one is first.
        let cells = all.len();
        for round in 0.. {
            let mut over = true;
            for turn in 0..cells {
                let one = &mut all[(turn + round) % cells];
                let SearchStep::Run(cell, block) = one.step() else { continue };
                over = false;
                shown.expect_more(1);
                let trial = Trial { cell: 0, block, position };
                position += 1;
                let before = self.records.len();
                self.pass(&[cell], &[trial], &mut shown)?;
                match self.records.get(before) {
                    Some(record) => one.add(record),
                    None => over = true,
                }
                if self.signals.exit_code().is_some() {
                    break;
                }
            }
            if over || self.signals.exit_code().is_some() {
                break;
            }
        }
        shown.finish();
        Ok(())
    }
}

pub(super) fn verdict(sweep: &Sweep, records: &[TrialRecord]) -> Option<u8> {
    sweep.search?;
    let all = searches(sweep, records);
    let outcomes: Vec<SearchOutcome> = all.iter().map(Searching::outcome).collect();
    let nothing = |o: &SearchOutcome| matches!(o, SearchOutcome::Nothing { .. });
    // A row that has no knee to be a share of says nothing that the search does not say itself.
    let failed = |r: &&TrialRecord| r.status == Status::Failed && r.cell.offered_per_s.is_some();
    let (probes, at_knees): (Vec<_>, Vec<_>) =
        records.iter().partition(|r| r.flags.contains(&Flag::Search));
    if probes.iter().any(|r| r.status == Status::Failed) || at_knees.iter().any(failed) {
        return Some(exit::FAILED);
    }
    let invalid = at_knees.iter().any(|r| r.status == Status::Invalid);
    if invalid || outcomes.iter().any(nothing) {
        return Some(exit::INVALID);
    }
    outcomes.iter().any(|o| o.met_per_s().is_none()).then_some(exit::MISSED)
}
