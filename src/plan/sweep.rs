//! Axes → cells, ids and an interleaved order of trials.

use serde::{Deserialize, Serialize};

use super::{Arrivals, Cell, Codec, Engine, TrialPlan};
use crate::target::EmbeddedTarget;

/// A resolved config: everything that decides what a sweep measures, and nothing of the machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sweep {
    /// What the sweep is called; part of the run directory's name.
    pub name: String,
    /// Where the load goes.
    pub target: Target,
    /// The plan; `offered_per_s` is filled in by the cell.
    pub plan: TrialPlan,
    /// The grid.
    pub axes: Axes,
    /// Repetitions of every cell.
    pub trials: u32,
    /// The engine that ratios refer to.
    pub baseline: Engine,
    /// Whether the baseline runs a second time under the label `aa`.
    pub aa: bool,
    /// Cells that are expected to fail.
    pub expect_failed: Vec<ExpectFailed>,
    /// CPUs by hand.
    pub machine: Machine,
    /// What must hold of the results.
    pub slo: Option<Slo>,
}

/// Where the load goes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// The embedded target, fresh for each trial.
    Embedded(EmbeddedTarget),
    /// A server of the user's.
    External {
        /// `host:port` as named; the port is always present.
        authority: String,
        /// Non-loopback `host:port`s that may be loaded.
        allow: Vec<String>,
    },
}

/// The axes of the grid; every combination that differs is a cell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Axes {
    /// See [`Engine`].
    pub engines: Vec<Engine>,
    /// See [`Codec`].
    pub codecs: Vec<Codec>,
    /// Lanes of each worker.
    pub lanes: Vec<u32>,
    /// Workers.
    pub processes: Vec<u32>,
    /// CPUs of the workers of a trial.
    pub cpus: Vec<u32>,
    /// Offered loads, requests per second; empty in a closed loop.
    pub rates_per_s: Vec<f64>,
    /// Stacks of the engine's threads, in bytes; swept for `threads` and `rayon`.
    pub stack_sizes_bytes: Vec<u64>,
    /// Pool sizes; swept for `rayon`.
    pub rayon_threads: Vec<RayonThreads>,
}

/// How many threads the pool has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RayonThreads {
    /// One a lane.
    Lanes,
    /// One a CPU of the worker, as rayon's default.
    Cores,
}

/// A cell that is expected to fail, and the limit that stops it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExpectFailed {
    /// The engine.
    pub engine: Engine,
    /// Lanes of each worker; `None` for any.
    pub lanes: Option<u32>,
    /// Text that the row's error must hold, such as `vm.max_map_count`; `None` for any.
    pub limit: Option<String>,
}

/// CPUs by hand; `None` splits what the process may use.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// CPUs of the workers, in the order in which the `cpus` axis takes them.
    pub worker_cpus: Option<Vec<u32>>,
    /// CPUs of the embedded target.
    pub target_cpus: Option<Vec<u32>>,
}

/// What must hold of every cell that completed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Slo {
    /// Bound on the median, response time in open loops and service time in closed ones.
    pub p50_ns: Option<u64>,
    /// Bound on the 90th percentile.
    pub p90_ns: Option<u64>,
    /// Bound on the 99th percentile.
    pub p99_ns: Option<u64>,
    /// Bound on the 99.9th percentile.
    pub p99_9_ns: Option<u64>,
    /// Bound on (failed + timed out + unsent) ÷ planned.
    pub error_rate: Option<f64>,
}

/// One repetition of one cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trial {
    /// Index into [`Sweep::cells`].
    pub cell: usize,
    /// Repetition, from 0.
    pub block: u32,
    /// Position in the run order, from 0.
    pub position: u32,
}
