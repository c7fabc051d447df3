//! What a trial asks of those that carry out other parts of the same run. A run of its own has
//! nobody to ask: see [`Alone`].

use crate::format::{Gate, TrialRecord};
use crate::plan::endpoint::Endpoint;
use crate::plan::shard::{Assignment, Shard};
use crate::plan::{Cell, TrialPlan};
use crate::sys::{MonotonicNs, now_ns};

/// Whether the user wants the wait to end.
pub(crate) type Stop<'s> = &'s dyn Fn() -> bool;

/// Why a trial did not take place, where its gates say it too.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{why}")]
pub(crate) struct TrialRefusal {
    pub(crate) why: String,
    /// What the record shall hold beside it.
    pub(crate) gates: Vec<Gate>,
}

/// The other parts of a run, asked in this order in every trial.
pub(crate) trait Peers {
    /// Waits until it is time to set up the trial at a position.
    fn wait_for_turn(&self, _trial: u32, _stop: Stop) {}

    fn assign(&self, cell: &Cell, plan: &TrialPlan) -> anyhow::Result<Assignment> {
        Shard::WHOLE.assign(cell, plan)
    }

    /// Where the embedded target of this trial listens, if somebody else starts it.
    fn targets(&self, _trial: u32, _stop: Stop) -> anyhow::Result<Option<Vec<Endpoint>>> {
        Ok(None)
    }

    /// The embedded target of this trial was started here.
    fn publish_targets(&self, _trial: u32, _targets: &[Endpoint]) -> anyhow::Result<()> {
        Ok(())
    }

    /// Why the embedded target's own figures are not those of this part, where others load it too.
    fn shared_target(&self) -> Option<&'static str> {
        None
    }

    /// All lanes are armed here: when to start, `lead_ns` from now at the earliest.
    fn agree(
        &self,
        _trial: u32,
        lead_ns: u64,
        _plan: &TrialPlan,
        _stop: Stop,
    ) -> anyhow::Result<MonotonicNs> {
        Ok(now_ns() + lead_ns)
    }

    /// The part that runs here is over, well or not; returns when all others are over too.
    fn ended(&self, _trial: u32, _error: Option<&str>, _stop: Stop) {}

    /// Notes in the record how the trial started, if its lanes `started`, and judges that.
    fn note(&self, _record: &mut TrialRecord, _started: Option<MonotonicNs>) {}

    /// Why no further trial makes sense, once that is so.
    fn over(&self) -> Option<String> {
        None
    }
}

/// Nobody: the whole plan runs here, and a trial starts as soon as it is armed.
pub(crate) struct Alone;

impl Peers for Alone {}
