//! Outcomes of a trial's workers → one [`TrialRecord`].

use crate::format::TrialRecord;
use crate::format::add::{Sum, Times};
use crate::format::histogram::{self, HdrError};
use crate::protocol::Outcome;

/// Adds the workers' outcomes to a record that holds the trial's identity so far.
pub(super) fn add_outcomes(record: &mut TrialRecord, outcomes: &[Outcome]) -> Result<(), HdrError> {
    let mut sum = Sum::new(record.clone());
    for outcome in outcomes {
        let times: Result<Times, HdrError> = outcome
            .histograms
            .iter()
            .map(|(channel, text)| Ok((*channel, histogram::decode_sparse(text)?)))
            .collect();
        // Workers of a trial share a machine, whatever its name.
        sum.add(&outcome.part, times?, "")?;
    }
    *record = sum.finish()?;
    Ok(())
}
