//! What is expected of a sweep before it runs: which engine wins which cells by which measure.
//!
//! An expectation decides nothing: reports say of each whether it held, and no exit code does.

use serde::{Deserialize, Serialize};

use super::steps::Offload;
use super::{Axis, Cell, Codec, Engine};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Expect {
    pub winner: ExpectedSide,
    pub over: ExpectedSide,
    pub measure: Expected,
    /// By which factor at least: above 1 is better by so much, below 1 is no worse than so much.
    pub by: f64,
    /// Lanes of each worker; `None` for all that the sweep holds, as with the selectors below.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lanes: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub processes: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpus: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub codec: Option<Codec>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExpectedSide {
    pub engine: Engine,
    /// Only under the task engines; `None` for every place that the sweep holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offload: Option<Offload>,
}

super::named! {
    /// What is compared; see [`crate::report::expect`] for where each is read.
    pub enum Expected {
        /// CPU time of the workers per request: less wins.
        CpuPerRequest = "cpu_per_request",
        /// 99th percentile of response times, of service times in a closed loop: less wins.
        P99 = "p99",
        /// Requests completed per second: more wins.
        Throughput = "throughput",
        /// Resident memory over the baseline, page tables and kernel stacks, per connection: less wins.
        MemoryPerLane = "memory_per_lane",
        /// 99th percentile of the heartbeat's lateness: less wins.
        HeartbeatP99 = "heartbeat_p99",
        /// Trials run to their end where the other's cannot, as beyond a limit.
        Runs = "runs",
    }
}

impl ExpectedSide {
    fn is(&self, cell: &Cell) -> bool {
        let place = self.offload.is_none_or(|offload| cell.offload == Some(offload));
        self.engine == cell.engine && place
    }

    /// `tokio`, or `tokio (rayon)` where its place is named.
    pub fn name(&self) -> String {
        match self.offload {
            Some(offload) => format!("{} ({})", self.engine.name(), offload.name()),
            None => self.engine.name().into(),
        }
    }
}

impl Expect {
    /// The pairs of cells that it speaks of, the winner first: alike but for the engine and its own
    /// axes. The lanes of `sequential` are one whatever the other's are.
    pub fn pairs<'c>(&self, cells: &'c [Cell]) -> Vec<(&'c Cell, &'c Cell)> {
        let of = |side: ExpectedSide| {
            let selected = cells.iter().filter(|cell| self.selects(cell));
            selected.filter(move |cell| side.is(cell))
        };
        // Where a side names its place of steps, the two may differ in it.
        let named = self.winner.offload.or(self.over.offload).map(|_| Axis::Offload);
        let alike = |w: &Cell, o: &Cell| w.id != o.id && w.is_alike(o, named.as_slice());
        let winners = of(self.winner);
        winners
            .flat_map(|w| of(self.over).filter(move |o| alike(w, o)).map(move |o| (w, o)))
            .collect()
    }

    fn selects(&self, cell: &Cell) -> bool {
        let alone = cell.engine.has_one_lane();
        cell.is_timed()
            && self.lanes.is_none_or(|lanes| alone || cell.lanes == lanes)
            && self.processes.is_none_or(|processes| cell.processes == processes)
            && self.cpus.is_none_or(|cpus| cell.cpus == cpus)
            && self.codec.is_none_or(|codec| cell.codec == codec)
            && self.rate.is_none_or(|rate| cell.offered_per_s == Some(rate))
    }
}
