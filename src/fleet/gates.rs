//! Gates on how shards started together.

use crate::driver::gates::at_most;
use crate::format::gates::GateKind;
use crate::format::{Gate, ShardStart};

/// Least lateness that makes a trial invalid.
const LATE_NS: u64 = 20_000_000;
/// The share of the window that a shard may be late by, where that is more.
const LATE_SHARE: f64 = 0.01;

/// How late a shard may start: 20 ms, or a hundredth of the window where that is more.
pub(crate) fn most_late_ns(window_ns: Option<u64>) -> u64 {
    LATE_NS.max((window_ns.unwrap_or(0) as f64 * LATE_SHARE) as u64)
}

/// A hard gate on a time that must not pass a limit; `None` bars nothing.
pub(crate) fn gate_ns(kind: GateKind, value_ns: Option<u64>, limit_ns: u64) -> Gate {
    Gate::new(kind, value_ns.map(|v| at_most(v, limit_ns as f64)))
}

pub(crate) fn gate_shards(present: u32, count: u32) -> Gate {
    let decided = (present == count, present.into(), count.into());
    Gate::new(GateKind::ShardsTogether, Some(decided))
}

/// The surest difference between a clock and its reference; `None` where that is unknown.
pub(crate) fn sure_offset_ns(start: &ShardStart) -> Option<u64> {
    let (offset, error) = start.clock_offset_ns.zip(start.clock_error_ns)?;
    Some(offset.unsigned_abs().saturating_sub(error))
}
