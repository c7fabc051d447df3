//! One point of the grid, and its axes: all that is known of an axis stands here, once.
//!
//! Reports that put cells together take the key of all axes but the ones that they draw or fit over
//! ([`Cell::except`]), so that a new axis parts cells everywhere from the day it is declared. Names
//! ([`names`]) say the axes in which cells differ, and nothing else.
//!
//! A new axis is a variant of [`Axis`], its facts in [`AXES`], a field of [`Cell`] and a list of
//! [`Axes`]; what fills the list from the config and what heeds the value in the worker come on top.

use std::collections::{BTreeMap, HashSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::allocator::Allocator;
use super::engine::Receive;
use super::server::ServerEngine;
use super::steps::Offload;
use super::target::SweptTarget;
use super::{Arrivals, Codec, Engine};
use crate::units::{duration_literal, format_rate, format_share, plural, size_literal};

/// One point of the grid.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
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
    #[serde(default)]
    pub body_bytes: Option<u64>,
    /// The workers' allocator; `None` unless the sweep varies it.
    #[serde(default)]
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
        }
    }
}

impl From<CellKind> for Option<String> {
    fn from(kind: CellKind) -> Self {
        kind.label().map(Into::into)
    }
}

impl TryFrom<Option<String>> for CellKind {
    type Error = String;

    fn try_from(label: Option<String>) -> Result<Self, String> {
        use CellKind::{Copy, Counted, Idle, Memory, Timed};
        let known = [Timed, Copy, Idle, Counted, Memory];
        let kind = known.into_iter().find(|kind| kind.label() == label.as_deref());
        kind.ok_or_else(|| format!("`{}` labels no kind of cell", label.unwrap_or_default()))
    }
}

/// The values of every axis; each combination that differs is a cell.
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
    /// The same as shares of the knee that a search finds first; empty without one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub knee_shares: Vec<f64>,
    /// Response bodies of the embedded target, in bytes; empty unless swept.
    #[serde(default)]
    pub bodies: Vec<u64>,
    /// Stacks of the engine's threads, in bytes; swept for `threads` and `rayon`.
    pub stack_sizes_bytes: Vec<u64>,
    /// Pool sizes; swept for `rayon`.
    pub rayon_threads: Vec<RayonThreads>,
    /// Allocators of the workers; empty unless swept.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allocators: Vec<Allocator>,
    /// Where the task engines carry out file and compute steps; empty unless swept.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub offload: Vec<Offload>,
    /// Calls of a handler's step that are under way at once; empty unless swept.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fan_out: Vec<u32>,
    /// How rings receive; empty unless swept.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub uring_receive: Vec<Receive>,
    /// Completions that rings wait for; empty unless swept.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub uring_batch: Vec<u32>,
    /// How long for; empty where `uring_batch` is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub uring_linger_ns: Vec<u64>,
    /// Targets that are compared with one another; empty unless swept.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<SweptTarget>,
    /// How the server under test runs its connections; empty where the client is the side under test.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub server_engines: Vec<ServerEngine>,
    /// Who speaks HTTP on a server under test.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub server_codecs: Vec<Codec>,
}

/// How many threads the pool has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RayonThreads {
    /// One per lane.
    Lanes,
    /// One per CPU of the worker, as rayon's default.
    Cores,
}

/// A direction of the grid; its facts stand in [`AXES`], in the same order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Axis {
    /// Lanes over all workers of the cell.
    Lanes,
    /// CPUs of the workers.
    Cpus,
    /// Who speaks HTTP.
    Codec,
    /// What releases requests, and how many per second.
    Load,
    /// The target's response bodies.
    Body,
    /// Who speaks HTTP on the server under test.
    ServerCodec,
    /// How lanes are run.
    Engine,
    /// How the server under test runs its connections.
    Server,
    /// Workers of a trial.
    Processes,
    /// Stacks of the engine's threads.
    Stack,
    /// Size of the pool.
    Pool,
    /// The workers' allocator.
    Allocator,
    /// Where steps are carried out.
    Offload,
    /// Calls of a handler that are under way at once.
    FanOut,
    /// How rings receive.
    Receive,
    /// Completions that rings wait for.
    Batch,
    /// How long they do.
    Linger,
    /// Who answers.
    Target,
}

/// A value on an axis, as it is compared and sorted: numbers as numbers, then text.
type Value = (u64, String);

/// All that is known of an axis.
struct Facts {
    axis: Axis,
    /// Whether the rows of one table share its value; the other axes tell its rows apart.
    shared: bool,
    /// Its fields in the rows of a run and the columns of `cells.csv`.
    fields: &'static [&'static str],
    /// Whether it says anything of a cell, by its engine: stacks say nothing of tasks.
    applies: fn(&Cell) -> bool,
    /// How many values a sweep has; none leaves the cell as it is.
    count: fn(&Axes) -> usize,
    /// Puts a cell on one of them.
    set: fn(&Axes, usize, &mut Cell),
    /// Its part of the id, beside what is in every id.
    id: fn(&Axes, &Cell) -> Option<String>,
    value: fn(&Cell) -> Value,
    /// For names and headings; empty where it was not swept.
    words: fn(&Cell) -> String,
}

/// Every axis: first what the rows of a table share, then what tells them apart. The first is the
/// outermost loop of the grid, and the first by which cells are sorted and named.
static AXES: [Facts; 18] = [
    Facts {
        axis: Axis::Lanes,
        shared: true,
        fields: &["lanes", "total_lanes"],
        applies: |c| !c.engine.has_one_lane(),
        count: |axes| axes.lanes.len(),
        set: |axes, i, c| c.lanes = axes.lanes[i],
        id: |_, _| None,
        value: |c| number(c.total_lanes),
        words: |c| plural(c.total_lanes.into(), "lane"),
    },
    Facts {
        axis: Axis::Cpus,
        shared: true,
        fields: &["cpus"],
        applies: |_| true,
        count: |axes| axes.cpus.len(),
        set: |axes, i, c| c.cpus = axes.cpus[i],
        id: |_, _| None,
        value: |c| number(c.cpus),
        words: |c| plural(c.cpus.into(), "CPU"),
    },
    Facts {
        axis: Axis::Codec,
        shared: true,
        fields: &["codec"],
        applies: |_| true,
        count: |axes| axes.codecs.len(),
        set: |axes, i, c| c.codec = axes.codecs[i],
        id: |_, _| None,
        value: |c| number(c.codec as u32),
        words: |c| c.codec.name().into(),
    },
    Facts {
        axis: Axis::Load,
        shared: true,
        fields: &["arrivals", "offered_per_s", "knee_share"],
        applies: |_| true,
        count: |axes| axes.rates_per_s.len(),
        set: |axes, i, c| c.offered_per_s = Some(axes.rates_per_s[i]),
        id: |axes, c| {
            // Stages and traces have a rate of their own, which is no axis.
            let swept = !axes.rates_per_s.is_empty() && !c.is_idle();
            Some(format!("r{}", c.offered_per_s.filter(|_| swept)?))
        },
        // Rates are not negative, so that their bits are in their order.
        value: |c| match c.knee_share {
            Some(share) => {
                (share.to_bits(), format!("{} at a share of the knee", c.arrivals.name()))
            }
            None => (c.offered_per_s.unwrap_or(0.0).to_bits(), c.arrivals.name().into()),
        },
        words: |c| match (c.knee_share, c.offered_per_s) {
            _ if c.is_idle() => "armed, no request".into(),
            (Some(share), _) => {
                format!("{} at {} of each one's knee", c.arrivals.name(), format_share(share))
            }
            (None, Some(rate)) => format!("{} {} req/s", c.arrivals.name(), format_rate(rate)),
            (None, None) => "closed loop".into(),
        },
    },
    Facts {
        axis: Axis::Body,
        shared: true,
        fields: &["body_bytes"],
        applies: |_| true,
        count: |axes| axes.bodies.len(),
        set: |axes, i, c| c.body_bytes = Some(axes.bodies[i]),
        id: |_, c| Some(format!("b{}", size_literal(c.body_bytes?))),
        value: |c| optional(c.body_bytes),
        words: |c| said(c.body_bytes, |bytes| format!("bodies of {}", size_literal(bytes))),
    },
    Facts {
        axis: Axis::ServerCodec,
        shared: true,
        fields: &["server_codec"],
        applies: |_| true,
        count: |axes| axes.server_codecs.len(),
        set: |axes, i, c| c.server_codec = Some(axes.server_codecs[i]),
        id: |_, _| None,
        value: |c| optional(c.server_codec.map(|codec| codec as u64)),
        words: |c| said(c.server_codec, |codec| format!("{} on the server", codec.name())),
    },
    Facts {
        axis: Axis::Engine,
        shared: false,
        fields: &["engine"],
        applies: |_| true,
        count: |axes| axes.engines.len(),
        set: |axes, i, c| c.run_by(axes.engines[i]),
        id: |_, _| None,
        value: |c| number(c.engine as u32),
        words: |c| c.engine.name().into(),
    },
    Facts {
        axis: Axis::Server,
        shared: false,
        fields: &["server_engine", "server_nth"],
        applies: |_| true,
        count: |axes| axes.server_engines.len(),
        set: |axes, i, c| c.served_by(i, axes.server_engines[i]),
        id: |_, c| {
            let codec = c.server_codec.map_or("", Codec::name);
            Some(format!("on-{}-{codec}", c.server_engine?.name()))
        },
        value: |c| optional(c.server_engine.map(|engine| engine as u64)),
        words: |c| said(c.server_engine, |engine| engine.name().into()),
    },
    Facts {
        axis: Axis::Processes,
        shared: false,
        fields: &["processes"],
        applies: |_| true,
        count: |axes| axes.processes.len(),
        set: |axes, i, c| c.processes = axes.processes[i],
        id: |_, _| None,
        value: |c| number(c.processes),
        words: |c| plural(c.processes.into(), "worker"),
    },
    Facts {
        axis: Axis::Stack,
        shared: false,
        fields: &["stack_size_bytes"],
        applies: |c| c.engine.sweeps_stacks(),
        count: |axes| axes.stack_sizes_bytes.len(),
        set: |axes, i, c| c.stack_size_bytes = Some(axes.stack_sizes_bytes[i]),
        id: |_, c| Some(format!("s{}", size_literal(c.stack_size_bytes?))),
        // Other engines take the first of the sweep, for threads that are not their lanes.
        value: |c| optional(c.stack_size_bytes.filter(|_| Axis::Stack.applies(c))),
        words: |c| said(c.stack_size_bytes, |bytes| format!("stacks of {}", size_literal(bytes))),
    },
    Facts {
        axis: Axis::Pool,
        shared: false,
        fields: &["rayon_threads"],
        applies: |c| c.engine.has_pool(),
        count: |axes| axes.rayon_threads.len(),
        set: |axes, i, c| {
            c.rayon_threads = Some(match axes.rayon_threads[i] {
                RayonThreads::Lanes => c.lanes,
                RayonThreads::Cores => c.pool_of_cores(),
            });
        },
        id: |axes, c| {
            // With as many lanes as CPUs both sizes are one cell, called as the first.
            let first = axes.rayon_threads.first() == Some(&RayonThreads::Cores);
            let cores = c.rayon_threads == Some(c.pool_of_cores());
            (cores && (first || c.is_small_pool())).then(|| "tcores".into())
        },
        value: |c| number(c.is_small_pool()),
        words: |c| format!("pool of {}", if c.is_small_pool() { "cores" } else { "lanes" }),
    },
    Facts {
        axis: Axis::Allocator,
        shared: false,
        fields: &["allocator"],
        applies: |_| true,
        count: |axes| axes.allocators.len(),
        set: |axes, i, c| c.allocator = Some(axes.allocators[i].clone()),
        id: |_, c| Some(c.allocator.as_ref()?.name()),
        value: |c| match &c.allocator {
            None => (0, String::new()),
            Some(Allocator::Glibc) => (1, String::new()),
            Some(Allocator::GlibcArenas(most)) => (1 + u64::from(*most), String::new()),
            Some(Allocator::Preloaded(path)) => (u64::MAX, path.clone()),
        },
        words: |c| said(c.allocator.as_ref(), Allocator::name),
    },
    Facts {
        axis: Axis::Offload,
        shared: false,
        fields: &["offload"],
        applies: |c| c.offload.is_some(),
        count: |axes| axes.offload.len(),
        set: |axes, i, c| c.offload = Some(axes.offload[i]),
        id: |axes, c| {
            let swept = !axes.offload.is_empty() && !c.is_idle();
            Some(c.offload.filter(|_| swept)?.name().into())
        },
        value: |c| optional(c.offload.map(|offload| offload as u64)),
        words: |c| said(c.offload, |offload| format!("steps {}", offload.name())),
    },
    Facts {
        axis: Axis::FanOut,
        shared: false,
        fields: &["fan_out"],
        applies: |c| c.fan_out.is_some(),
        count: |axes| axes.fan_out.len(),
        set: |axes, i, c| c.fan_out = Some(axes.fan_out[i]),
        id: |axes, c| {
            let swept = !axes.fan_out.is_empty() && !c.is_idle();
            Some(format!("fan{}", c.fan_out.filter(|_| swept)?))
        },
        value: |c| optional(c.fan_out.map(u64::from)),
        words: |c| match c.fan_out {
            Some(1) => "calls in turn".into(),
            n => said(n, |n| format!("{n} calls at once")),
        },
    },
    Facts {
        axis: Axis::Receive,
        shared: false,
        fields: &["uring_receive"],
        applies: |c| c.engine.has_ring(),
        count: |axes| axes.uring_receive.len(),
        set: |axes, i, c| c.uring_receive = Some(axes.uring_receive[i]),
        id: |_, c| Some(c.uring_receive?.name().into()),
        value: |c| optional(c.uring_receive.map(|receive| receive as u64)),
        words: |c| said(c.uring_receive, |receive| receive.name().into()),
    },
    Facts {
        axis: Axis::Batch,
        shared: false,
        fields: &["uring_batch"],
        applies: |c| c.engine.has_ring() && !c.arrivals.is_open(),
        count: |axes| axes.uring_batch.len(),
        // More than that would wait for requests that the wait itself holds up.
        set: |axes, i, c| c.uring_batch = Some(axes.uring_batch[i].min(c.lanes / 4).max(1)),
        id: |_, c| Some(format!("batch{}", c.uring_batch?)),
        value: |c| optional(c.uring_batch.map(u64::from)),
        words: |c| said(c.uring_batch, |batch| format!("batch {batch}")),
    },
    Facts {
        axis: Axis::Linger,
        shared: false,
        fields: &["uring_linger_ns"],
        applies: |c| c.uring_batch.is_some_and(|batch| batch > 1),
        count: |axes| axes.uring_linger_ns.len(),
        set: |axes, i, c| c.uring_linger_ns = Some(axes.uring_linger_ns[i]),
        id: |_, c| Some(duration_literal(c.uring_linger_ns?)),
        value: |c| optional(c.uring_linger_ns),
        words: |c| said(c.uring_linger_ns, |ns| format!("linger {}", duration_literal(ns))),
    },
    Facts {
        axis: Axis::Target,
        shared: false,
        fields: &["target", "target_nth"],
        applies: |_| true,
        count: |axes| axes.targets.len(),
        set: |axes, i, c| {
            c.target = Some(axes.targets[i].name.clone());
            c.target_nth = Some(i as u32);
        },
        id: |_, c| Some(format!("to-{}", c.target.as_ref()?)),
        value: |c| {
            let nth = c.target_nth.map_or(0, |nth| 1 + u64::from(nth));
            (nth, c.target.clone().unwrap_or_default())
        },
        words: |c| c.target.clone().unwrap_or_default(),
    },
];

fn number(n: impl Into<u64>) -> Value {
    (n.into(), String::new())
}

/// A number or none: a swept zero is another value than no sweep.
fn optional(n: Option<u64>) -> Value {
    n.map_or((0, String::new()), |n| (n, "swept".into()))
}

fn said<T>(value: Option<T>, words: impl Fn(T) -> String) -> String {
    value.map(words).unwrap_or_default()
}

impl Axis {
    /// Every axis, in order.
    pub fn all() -> impl DoubleEndedIterator<Item = Axis> {
        AXES.iter().map(|facts| facts.axis)
    }

    fn facts(self) -> &'static Facts {
        &AXES[self as usize]
    }

    /// Whether the rows of one table share its value, where no targets are compared.
    pub fn is_shared(self) -> bool {
        self.facts().shared
    }

    /// Its fields in the rows of a run and the columns of `cells.csv`.
    pub fn fields(self) -> &'static [&'static str] {
        self.facts().fields
    }

    /// Whether it says anything of the cell: stacks say nothing of tasks.
    pub fn applies(self, cell: &Cell) -> bool {
        (self.facts().applies)(cell)
    }

    /// How many values a sweep has; one where it is left as it is.
    pub fn count(self, axes: &Axes) -> usize {
        (self.facts().count)(axes).max(1)
    }

    /// For names and headings; empty where it was not swept.
    pub fn words(self, cell: &Cell) -> String {
        (self.facts().words)(cell)
    }

    /// The axes on which these cells differ, as far as it says anything of them.
    pub fn differing(cells: &[&Cell]) -> Vec<Axis> {
        let differs = |axis: &Axis| {
            let mut values = cells.iter().filter(|c| axis.applies(c)).map(|c| axis.value(c));
            let first = values.next();
            values.any(|value| Some(value) != first)
        };
        Axis::all().filter(differs).collect()
    }

    fn value(self, cell: &Cell) -> Value {
        (self.facts().value)(cell)
    }
}

/// Values on some axes, in their order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Vec<Value>);

/// What each cell is called among the others: the engine of the side under test, the kind where they
/// differ in it, and the axes on which they differ but for those in `without`. Targets under one engine
/// are called by their own names.
pub fn names(cells: &[&Cell], without: &[Axis]) -> Vec<String> {
    let mut axes = Axis::differing(cells);
    let by_target = cells.len() > 1
        && cells.iter().all(|c| c.target.is_some())
        && !axes.contains(&Axis::Engine)
        && !without.contains(&Axis::Target);
    let first = match () {
        () if by_target => Axis::Target,
        () if cells.iter().all(|c| c.tests_server()) => Axis::Server,
        () => Axis::Engine,
    };
    axes.retain(|axis| *axis != first && *axis != Axis::Engine && !without.contains(axis));
    let kinds = cells.iter().any(|c| c.kind != cells[0].kind);
    let name = |cell: &&Cell| {
        let mut name = first.words(cell);
        if let Some(label) = cell.kind.label().filter(|_| kinds) {
            name += &format!(" ({label})");
        }
        for axis in axes.iter().filter(|axis| axis.applies(cell)) {
            name += &format!(" · {}", axis.words(cell));
        }
        name
    };
    cells.iter().map(name).collect()
}

/// What belongs to cells of one kind that differ on some axes alone.
pub struct Family<'c, T> {
    /// What tells it from the other families.
    pub name: String,
    /// The cell of its first member.
    pub cell: &'c Cell,
    /// In the order in which they came.
    pub members: Vec<T>,
}

/// Puts together what belongs to cells that differ on the axes `across` alone; families come in the
/// order of the axes.
pub fn families<'c, T>(
    all: impl IntoIterator<Item = (&'c Cell, T)>,
    across: &[Axis],
) -> Vec<Family<'c, T>> {
    let mut found: BTreeMap<(Key, CellKind), (&Cell, Vec<T>)> = BTreeMap::new();
    for (cell, member) in all {
        let key = (cell.except(across), cell.kind);
        found.entry(key).or_insert_with(|| (cell, Vec::new())).1.push(member);
    }
    let cells: Vec<&Cell> = found.values().map(|(cell, _)| *cell).collect();
    let names = names(&cells, across).into_iter();
    let family = |(name, (cell, members))| Family { name, cell, members };
    names.zip(found.into_values()).map(family).collect()
}

impl Cell {
    /// A closed loop of one worker on one CPU, in which nothing is swept and nothing has a name yet.
    pub fn plain(engine: Engine, lanes: u32) -> Cell {
        Cell {
            id: String::new(),
            kind: CellKind::Timed,
            engine,
            codec: Codec::Hyper,
            lanes,
            processes: 1,
            total_lanes: lanes,
            cpus: 1,
            arrivals: Arrivals::Closed,
            offered_per_s: None,
            knee_share: None,
            stack_size_bytes: None,
            rayon_threads: engine.has_pool().then_some(lanes),
            body_bytes: None,
            allocator: None,
            offload: None,
            fan_out: None,
            uring_receive: None,
            uring_batch: None,
            uring_linger_ns: None,
            target: None,
            target_nth: None,
            server_engine: None,
            server_nth: None,
            server_codec: None,
        }
    }

    /// The key of all axes but these: cells that share it, and their kind, differ in these alone.
    pub fn except(&self, axes: &[Axis]) -> Key {
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
    pub fn place_words(&self, without: &[Axis]) -> String {
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
    pub fn is_baseline(&self, engine: Engine) -> bool {
        self.target_nth.or(self.server_nth).map_or(self.engine == engine, |nth| nth == 0)
    }

    /// Whether ratios of the two say something: at equal shares of two knees the loads may differ.
    pub fn is_comparable(&self, other: &Cell) -> bool {
        self.offered_per_s == other.offered_per_s
    }

    /// Whether both are the same on every axis that says something of both, but for the engine and
    /// `without`.
    pub fn is_alike(&self, other: &Cell, without: &[Axis]) -> bool {
        let compared = |axis: &Axis| {
            *axis != Axis::Engine
                && !without.contains(axis)
                && axis.applies(self)
                && axis.applies(other)
        };
        Axis::all().filter(compared).all(|axis| axis.value(self) == axis.value(other))
    }

    /// Whether the cell's times are measured to be ranked, and it is no second copy.
    pub fn is_timed(&self) -> bool {
        self.kind == CellKind::Timed
    }

    /// Whether it is the second copy of the baseline.
    pub fn is_copy(&self) -> bool {
        self.kind == CellKind::Copy
    }

    /// Whether the cell sends nothing.
    pub fn is_idle(&self) -> bool {
        self.kind == CellKind::Idle
    }

    /// Whether the kernel counts events in the cell's trials.
    pub fn counts_events(&self) -> bool {
        self.kind == CellKind::Counted
    }

    /// Whether memory is split into its parts in the cell's trials.
    pub fn is_memory(&self) -> bool {
        self.kind == CellKind::Memory
    }

    /// Whether the server is the side under test.
    pub fn tests_server(&self) -> bool {
        self.server_nth.is_some()
    }

    /// How the server under test runs its connections.
    pub(crate) fn server_under_test(&self) -> Option<ServerEngine> {
        self.server_engine.filter(|_| self.tests_server())
    }

    /// Whether the pool has fewer threads than the worker has lanes.
    pub fn is_small_pool(&self) -> bool {
        self.rayon_threads.is_some_and(|threads| threads != self.lanes)
    }

    /// Stack of each thread that the engine starts; Rust's own where none is named.
    pub fn stack_bytes(&self) -> u64 {
        self.stack_size_bytes.unwrap_or(2 << 20)
    }

    /// Whether another allocator than the C library's is loaded, whose count nobody knows.
    pub fn has_foreign_allocator(&self) -> bool {
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
        self.fan_out = self.fan_out.filter(|_| engine != ServerEngine::Own);
    }

    /// The cell with its id, its connections counted.
    fn named(mut self, axes: &Axes) -> Cell {
        let Cell { engine, codec, lanes, processes, cpus, .. } = self;
        self.total_lanes = lanes.saturating_mul(processes);
        let every = format!("{}-{}-l{lanes}-p{processes}-c{cpus}", engine.name(), codec.name());
        let applying = AXES.iter().filter(|facts| (facts.applies)(&self));
        let parts = applying.filter_map(|facts| (facts.id)(axes, &self));
        let parts = parts.chain(self.kind.label().map(Into::into));
        self.id = parts.fold(every, |id, part| id + "-" + &part);
        self
    }

    /// The same cell as another kind. One that sends nothing is the same at every rate, body and
    /// place of steps.
    pub(super) fn of_kind(&self, kind: CellKind, axes: &Axes) -> Cell {
        let mut cell = Cell { kind, ..self.clone() };
        if kind == CellKind::Idle {
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

impl Axes {
    /// The timed cell of every combination that differs; `first` has what no axis sets, on an engine
    /// that takes any number of lanes. Axes that an engine does not have make no cells.
    pub(super) fn spread(&self, first: Cell) -> Vec<Cell> {
        let mut cells = vec![first];
        for Facts { applies, count, set, .. } in &AXES {
            let on_each = |cell: Cell| -> Vec<Cell> {
                let count = count(self);
                if count == 0 || !applies(&cell) {
                    return vec![cell];
                }
                let on = |i| {
                    let mut cell = cell.clone();
                    set(self, i, &mut cell);
                    cell
                };
                (0..count).map(on).collect()
            };
            cells = cells.into_iter().flat_map(on_each).collect();
        }
        let mut seen = HashSet::new();
        let named = cells.into_iter().map(|cell| cell.named(self));
        named.filter(|cell| seen.insert(cell.id.clone())).collect()
    }
}
