//! Bounds on results: what must hold, and what counts as equal.

use serde::{Deserialize, Serialize};

/// Two costs whose ratio lies within this of 1, either way, are as good as equal.
pub const MARGIN: f64 = 0.05;

/// What must hold of every cell that completed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slo {
    /// Bound on the median, response time in open loops and service time in closed ones.
    pub p50_ns: Option<u64>,
    pub p90_ns: Option<u64>,
    pub p99_ns: Option<u64>,
    pub p99_9_ns: Option<u64>,
    /// Bound on (failed + timed out + unsent) ÷ planned.
    pub error_rate: Option<f64>,
}
