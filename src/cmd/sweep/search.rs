//! Runs the probes of a search: each engine's next trial in turn, so that a machine that drifts
//! drifts for all of them alike.

use super::{Progress, Session, exit};
use crate::format::TrialRecord;
use crate::plan::Cell;
use crate::plan::search::Search;
use crate::plan::sweep::{Slo, Sweep, Trial};
use crate::results::search::{FLAG, Outcome, Progress as Searching, Step, replay};

impl Session<'_> {
    /// Runs trials until every cell's search is over, or a signal comes.
    pub(super) fn search(
        &mut self,
        cells: &[Cell],
        search: Search,
        slo: &Slo,
    ) -> anyhow::Result<()> {
        self.context.remarks.push(FLAG.into());
        let mut all = replay(cells, search, slo, &self.records);
        let mut shown = Progress::new(0, self.signals.clone());
        let mut position = self.records.iter().map(|r| r.trial + 1).max().unwrap_or(0);
        // One cell's turn after another's; in each round another one is first.
        for round in 0.. {
            let mut over = true;
            for turn in 0..all.len() {
                let one = &mut all[(turn + round) % cells.len()];
                let Step::Run(cell, block) = one.step() else { continue };
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

/// The exit code that the searches call for, if any.
pub(super) fn verdict(sweep: &Sweep, records: &[TrialRecord]) -> Option<u8> {
    let (search, slo) = sweep.search.zip(sweep.slo.as_ref())?;
    let all = replay(&sweep.cells(), search, slo, records);
    let outcomes: Vec<Outcome> = all.iter().map(Searching::outcome).collect();
    let nothing = |o: &Outcome| matches!(o, Outcome::Nothing { .. });
    if records.iter().any(|r| r.status == crate::format::Status::Failed) {
        return Some(exit::FAILED);
    }
    if outcomes.iter().any(nothing) {
        return Some(exit::INVALID);
    }
    outcomes.iter().any(|o| o.met_per_s().is_none()).then_some(exit::MISSED)
}
