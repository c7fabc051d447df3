//! One point of the grid, and its axes: all that is known of an axis stands here, once.
//!
//! Reports that put cells together take the key of all axes but the ones that they draw or fit over
//! ([`Cell::except`]), so that a new axis parts cells everywhere from the day it is declared. Names
//! ([`mod@names`]) say the axes in which cells differ, and nothing else.
//!
//! A new axis is a variant of [`Axis`], its facts in [`AXES`], a field of [`Cell`] and a list of
//! [`Axes`]; what fills the list from the config and what heeds the value in the worker come on top.

mod axes;
mod names;

use anyhow::anyhow;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::allocator::Allocator;
use super::engine::Receive;
use super::server::ServerEngine;
use super::steps::Offload;
use super::{Arrivals, Codec, Engine};
use axes::AXES;
pub(crate) use axes::Axes;
pub use axes::{Axis, RayonThreads};
pub(crate) use names::Family;
pub use names::{Key, families, names};

/// Stack of threads where nobody names one.
pub(crate) const STACK_BYTES: u64 = 64 << 10;

/// One point of the grid.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Cell {
    /// Unique in the sweep, made of the axes: `tokio-hyper-l64-p1-c1`.
    pub id: String,
    /// What its trials are for; in rows null where they are timed, `aa` on the second copy of the
    /// baseline in an A/A sweep, `idle` on a cell that sends nothing, `syscalls` where events are
    /// counted, `memory` where memory is split into its parts.
    #[serde(rename = "label")]
    pub kind: CellKind,
    /// How lanes are run.
    pub engine: Engine,
    /// Who speaks HTTP.
    pub codec: Codec,
    /// Lanes of each worker.
    pub lanes: u32,
    /// Workers of a trial.
    pub processes: u32,
    /// lanes × processes: the connections of the cell.
    pub total_lanes: u32,
    /// CPUs that the workers of a trial share.
    pub cpus: u32,
    /// What releases requests.
    pub arrivals: Arrivals,
    /// Offered load, requests per second over all workers; `None` in a closed loop, zero in a cell
    /// that sends nothing.
    pub offered_per_s: Option<f64>,
    /// Offered load as a share of the highest rate that a search found to meet the SLO for this
    /// cell; `None` unless a sweep follows a search.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub knee_share: Option<f64>,
    /// Stack of each thread that the engine starts; for task engines the runtime's own threads.
    pub stack_size_bytes: Option<u64>,
    /// Threads of each worker's pool; only under `rayon`.
    pub rayon_threads: Option<u32>,
    /// Length of the embedded target's response bodies; `None` unless the sweep varies it.
    pub body_bytes: Option<u64>,
    /// The workers' allocator; `None` unless the sweep varies it.
    pub allocator: Option<Allocator>,
    /// Where file and compute steps are carried out; only under the task engines, and only where
    /// requests have such steps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offload: Option<Offload>,
    /// Calls of a handler's step that are under way at once; only where handlers of a server under
    /// test call an upstream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fan_out: Option<u32>,
    /// How rings receive; `None` unless the sweep varies it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uring_receive: Option<Receive>,
    /// Completions that a ring waits for, at most a quarter of the lanes; `None` unless the sweep
    /// varies it, and then one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uring_batch: Option<u32>,
    /// How long a ring waits for more than the first of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uring_linger_ns: Option<u64>,
    /// Name of the target; only where the sweep compares several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Which of them it is, from 0; the others are compared with the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_nth: Option<u32>,
    /// How the server runs its connections; `None` where nobody asked and it is the embedded target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_engine: Option<ServerEngine>,
    /// Which of the compared servers it is, from 0; the others are compared with the first. `None` where
    /// the client is the side under test.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_nth: Option<u32>,
    /// Who speaks HTTP on the server; the reference speaks as it always does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_codec: Option<Codec>,
}

/// What the trials of a cell are for.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[schemars(with = "Option<String>")]
#[serde(try_from = "Option<String>", into = "Option<String>")]
pub enum CellKind {
    /// Its times and costs are measured and ranked.
    #[default]
    Timed,
    /// The same cell of the baseline once more: what the two differ by is noise.
    Copy,
    /// Lanes are connected and nothing is sent: what a lane costs by being there.
    Idle,
    /// The kernel counts system calls and other events, which costs CPU: shown and never ranked.
    Counted,
    /// Memory is split into its parts, which disturbs latency: that is never ranked.
    Memory,
    /// The same of connections on which nothing is sent.
    IdleMemory,
}

impl CellKind {
    /// The label in rows and ids; `None` for the timed cells.
    pub fn label(self) -> Option<&'static str> {
        match self {
            CellKind::Timed => None,
            CellKind::Copy => Some("aa"),
            CellKind::Idle => Some("idle"),
            CellKind::Counted => Some("syscalls"),
            CellKind::Memory => Some("memory"),
            CellKind::IdleMemory => Some("idle memory"),
        }
    }
}

impl From<CellKind> for Option<String> {
    fn from(kind: CellKind) -> Self {
        kind.label().map(Into::into)
    }
}

impl TryFrom<Option<String>> for CellKind {
    type Error = anyhow::Error;

    fn try_from(label: Option<String>) -> anyhow::Result<Self> {
        use CellKind::{Copy, Counted, Idle, IdleMemory, Memory, Timed};
        let known = [Timed, Copy, Idle, Counted, Memory, IdleMemory];
        let kind = known.into_iter().find(|kind| kind.label() == label.as_deref());
        kind.ok_or_else(|| anyhow!("`{}` labels no kind of cell", label.unwrap_or_default()))
    }
}

impl Cell {
    /// A closed loop of one worker on one CPU, in which nothing is swept and nothing has a name yet.
    pub fn plain(engine: Engine, lanes: u32) -> Cell {
        let rayon_threads = engine.has_pool().then_some(lanes);
        let (processes, total_lanes, cpus) = (1, lanes, 1);
        Cell { engine, lanes, processes, total_lanes, cpus, rayon_threads, ..Cell::default() }
    }

    /// The key of all axes but these: cells that share it, and their kind, differ in these alone.
    pub(crate) fn except(&self, axes: &[Axis]) -> Key {
        Key(Axis::all().filter(|axis| !axes.contains(axis)).map(|axis| axis.value(self)).collect())
    }

    /// Whether the rows of the cell's table share an axis: where targets are compared, all but that.
    pub(crate) fn shares(&self, axis: Axis) -> bool {
        match self.target {
            Some(_) => axis != Axis::Target,
            None => axis.is_shared(),
        }
    }

    /// The key of the axes whose values the rows of a table share, but for `without`.
    pub fn place(&self, without: &[Axis]) -> Key {
        let shared = Axis::all().filter(|axis| self.shares(*axis) && !without.contains(axis));
        Key(shared.map(|axis| axis.value(self)).collect())
    }

    /// The same in words, and what is counted: `64 lanes · 1 CPU · hyper · closed loop`.
    pub(crate) fn place_words(&self, without: &[Axis]) -> String {
        let shared = Axis::all().filter(|axis| self.shares(*axis) && !without.contains(axis));
        let said = |axis: &Axis| match axis {
            Axis::Processes => self.processes > 1,
            Axis::Pool => self.is_small_pool(),
            axis => axis.is_shared() || axis.applies(self),
        };
        let counted = self.counts_events().then(|| "system calls counted".to_string());
        let words = shared.filter(said).map(|axis| axis.words(self)).chain(counted);
        words.filter(|words| !words.is_empty()).collect::<Vec<String>>().join(" · ")
    }

    /// Whether the others of its table refer to the cell: of several targets or servers the first, or
    /// else the baseline's engine.
    pub(crate) fn is_baseline(&self, engine: Engine) -> bool {
        self.target_nth.or(self.server_nth).map_or(self.engine == engine, |nth| nth == 0)
    }

    /// Whether ratios of the two say something: at equal shares of two knees the loads may differ.
    pub(crate) fn is_comparable(&self, other: &Cell) -> bool {
        self.offered_per_s == other.offered_per_s
    }

    /// Whether both are the same on every axis that says something of both, but for the engine and
    /// `without`.
    pub(crate) fn is_alike(&self, other: &Cell, without: &[Axis]) -> bool {
        let compared = |axis: &Axis| {
            *axis != Axis::Engine
                && !without.contains(axis)
                && axis.applies(self)
                && axis.applies(other)
        };
        Axis::all().filter(compared).all(|axis| axis.value(self) == axis.value(other))
    }

    /// Whether the cell's times are measured to be ranked, and it is no second copy.
    pub(crate) fn is_timed(&self) -> bool {
        self.kind == CellKind::Timed
    }

    pub fn is_copy(&self) -> bool {
        self.kind == CellKind::Copy
    }

    pub fn is_idle(&self) -> bool {
        matches!(self.kind, CellKind::Idle | CellKind::IdleMemory)
    }

    pub fn counts_events(&self) -> bool {
        self.kind == CellKind::Counted
    }

    pub(crate) fn is_memory(&self) -> bool {
        matches!(self.kind, CellKind::Memory | CellKind::IdleMemory)
    }

    pub(crate) fn tests_server(&self) -> bool {
        self.server_nth.is_some()
    }

    pub(crate) fn server_under_test(&self) -> Option<ServerEngine> {
        self.server_engine.filter(|_| self.tests_server())
    }

    /// Whether the pool has fewer threads than the worker has lanes.
    pub(crate) fn is_small_pool(&self) -> bool {
        self.rayon_threads.is_some_and(|threads| threads != self.lanes)
    }

    /// Stack of each thread that the engine starts; Rust's own where none is named.
    pub fn stack_bytes(&self) -> u64 {
        self.stack_size_bytes.unwrap_or(2 << 20)
    }

    /// Whether another allocator than the C library's is loaded, whose count nobody knows.
    pub(crate) fn has_foreign_allocator(&self) -> bool {
        matches!(self.allocator, Some(Allocator::Preloaded(_)))
    }

    /// Threads of a pool with one per CPU: more than connections would only look for work.
    fn pool_of_cores(&self) -> u32 {
        self.cpus.min(self.lanes)
    }

    /// Puts the cell on an engine, which may not have every axis.
    fn run_by(&mut self, engine: Engine) {
        self.engine = engine;
        if engine.has_one_lane() {
            self.lanes = 1;
        }
        self.rayon_threads = engine.has_pool().then_some(self.lanes);
        // Where the server is under test, it is its work that may be handed over.
        self.offload = self.offload.filter(|_| self.tests_server() || engine.offloads());
    }

    /// Puts the cell's server on an engine, which may not have every axis.
    fn served_by(&mut self, nth: usize, engine: ServerEngine) {
        self.server_engine = Some(engine);
        if self.tests_server() {
            self.server_nth = Some(nth as u32);
            self.offload = self.offload.filter(|_| engine.facts().offloads);
        }
        self.fan_out = self.fan_out.filter(|_| engine.facts().handles);
    }

    /// The cell with its id, its connections counted.
    fn named(mut self, axes: &Axes) -> Cell {
        let Cell { engine, codec, lanes, processes, cpus, .. } = self;
        self.total_lanes = lanes.saturating_mul(processes);
        let every = format!("{}-{}-l{lanes}-p{processes}-c{cpus}", engine.name(), codec.name());
        let applying = AXES.iter().filter(|facts| (facts.applies)(&self));
        let parts = applying.filter_map(|facts| (facts.id)(axes, &self));
        let parts = parts.chain(self.kind.label().map(|label| label.replace(' ', "-")));
        self.id = parts.fold(every, |id, part| id + "-" + &part);
        self
    }

    /// The same cell as another kind. One that sends nothing is the same at every rate, body and
    /// place of steps.
    pub(super) fn of_kind(&self, kind: CellKind, axes: &Axes) -> Cell {
        let mut cell = Cell { kind, ..self.clone() };
        if cell.is_idle() {
            cell.arrivals = Arrivals::Closed;
            cell.offered_per_s = Some(0.0);
            cell.body_bytes = None;
            cell.offload = cell.offload.map(|_| Offload::default());
            cell.fan_out = cell.fan_out.map(|_| 1);
            (cell.uring_batch, cell.uring_linger_ns) = (None, None);
        }
        cell.named(axes)
    }
}
