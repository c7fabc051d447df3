//! One short trial before the others, which says how long they must be.

use std::process::ExitCode;

use super::{Output, SweepSession, refuse};
use crate::plan::Extent;
use crate::plan::sweep::{Sweep, Trial};

/// Long enough for every lane to send a request; what is under way at its end is waited for.
const LOOK_NS: u64 = 200_000_000;

/// The median time of a response; `None` where there was none.
///
/// # Errors
/// The exit code where the sweep is refused, or the user wants it to end.
pub(in crate::cmd) fn response_ns(
    sweep: &Sweep,
    flags: &[(&'static str, &'static str)],
) -> Result<Option<u64>, ExitCode> {
    let mut short = sweep.clone();
    short.plan.extent = Extent::DurationNs(LOOK_NS);
    short.plan.warmup_ns = 0;
    let output = Output { flags: flags.to_vec(), ..Output::default() };
    let session = SweepSession::new(&short, &output).map_err(|e| refuse(&e, &output))?;
    let cells = short.cells();
    let Some(cell) = cells.last() else { return Ok(None) };
    let trial = Trial { cell: cells.len() - 1, block: 0, position: 0 };
    let record = session.context.run(cell, &trial, &mut session.signals.clone());
    match session.signals.exit_code() {
        Some(code) => Err(ExitCode::from(code)),
        None => Ok(record.latency().filter(|_| record.ledger.completed > 0).map(|d| d.p50)),
    }
}
