//! One short trial before the others, which says how long they must be.

use std::process::ExitCode;

use super::{Directory, Output, Signals, SweepSession, refuse};
use crate::cmd::shard::ShardPart;
use crate::driver::trial::{TrialStage, Watch};
use crate::plan::Extent;
use crate::plan::sweep::{Sweep, Trial};

/// Long enough for every lane to send a request; what is under way at its end is waited for.
const LOOK_NS: u64 = 200_000_000;

/// Shows nothing.
struct Silent(Signals);

impl Watch for Silent {
    fn show(&mut self, _: TrialStage) {}

    fn stop(&self) -> bool {
        self.0.exit_code().is_some()
    }
}

/// The median time of a response; `None` where there was none.
///
/// # Errors
/// The exit code where the sweep is refused, or the user wants it to end.
pub(in crate::cmd) fn response_ns(
    sweep: &Sweep,
    flags: &'static [(&'static str, &'static str)],
) -> Result<Option<u64>, ExitCode> {
    let mut short = sweep.clone();
    short.plan.extent = Extent::DurationNs(LOOK_NS);
    short.plan.warmup_ns = 0;
    let output = Output {
        dir: Directory::None,
        resume: false,
        force: false,
        json: false,
        served: false,
        keep_going: false,
        metrics: None,
        flags,
        part: ShardPart::default(),
    };
    let session = SweepSession::new(&short, &output).map_err(|e| refuse(&e, &output))?;
    let cells = short.cells();
    let Some(cell) = cells.last() else { return Ok(None) };
    let trial = Trial { cell: cells.len() - 1, block: 0, position: 0 };
    let mut watch = Silent(session.signals.clone());
    let record = session.context.run(cell, &trial, &mut watch);
    match session.signals.exit_code() {
        Some(code) => Err(ExitCode::from(code)),
        None => Ok(record.latency().filter(|_| record.ledger.completed > 0).map(|d| d.p50)),
    }
}
