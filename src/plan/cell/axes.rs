//! The axes of the grid, each declared once.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use super::Cell;
use crate::plan::allocator::Allocator;
use crate::plan::engine::Receive;
use crate::plan::server::ServerEngine;
use crate::plan::steps::Offload;
use crate::plan::target::SweptTarget;
use crate::plan::{Codec, Engine};
use crate::units::{duration_literal, format_rate, format_share, plural, size_literal};

/// The values of every axis, none where it is not swept; each combination that differs is a cell.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Axes {
    pub engines: Vec<Engine>,
    pub codecs: Vec<Codec>,
    pub lanes: Vec<u32>,
    pub processes: Vec<u32>,
    pub cpus: Vec<u32>,
    pub rates_per_s: Vec<f64>,
    /// The same as shares of the knee that a search finds first; empty without one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub knee_shares: Vec<f64>,
    #[serde(default)]
    pub bodies: Vec<u64>,
    pub stack_sizes_bytes: Vec<u64>,
    pub rayon_threads: Vec<RayonThreads>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allocators: Vec<Allocator>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub offload: Vec<Offload>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fan_out: Vec<u32>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub uring_receive: Vec<Receive>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub uring_batch: Vec<u32>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub uring_linger_ns: Vec<u64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<SweptTarget>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub server_engines: Vec<ServerEngine>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub server_codecs: Vec<Codec>,
}

crate::plan::named! {
    /// How many threads the pool has.
    pub enum RayonThreads {
        Lanes = "lanes",
        /// One per CPU of the worker, as rayon's default.
        Cores = "cores",
    }
}

/// A value on an axis, as it is compared and sorted: numbers as numbers, then text.
pub(super) type Value = (u64, String);

pub(super) struct AxisFacts {
    axis: Axis,
    /// Whether the rows of one table share its value; the other axes tell its rows apart.
    shared: bool,
    /// Its fields in the rows of a run and the columns of `cells.csv`.
    fields: &'static [&'static str],
    /// Whether it says anything of a cell, by its engine: stacks say nothing of tasks.
    pub(super) applies: fn(&Cell) -> bool,
    /// How many values a sweep has; none leaves the cell as it is.
    count: fn(&Axes) -> usize,
    set: fn(&Axes, usize, &mut Cell),
    /// Its part of the id, beside what is in every id.
    pub(super) id: fn(&Axes, &Cell) -> Option<String>,
    value: fn(&Cell) -> Value,
    /// For names and headings; empty where it was not swept.
    words: fn(&Cell) -> String,
}

/// An axis of cells that all have a value on it, which their ids do not say.
const USUAL: AxisFacts = AxisFacts {
    axis: Axis::Engine,
    shared: false,
    fields: &[],
    applies: |_| true,
    count: |_| 0,
    set: |_, _, _| {},
    id: |_, _| None,
    value: |_| number(0u32),
    words: |_| String::new(),
};

macro_rules! axes {
    ($($axis:ident($list:ident: $set:expr) { $($fact:ident: $value:expr,)* })*) => {
        /// A direction of the grid.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Axis {
            $($axis,)*
        }

        /// What is true of each, in the same order.
        pub(super) static AXES: [AxisFacts; [$(Axis::$axis),*].len()] =
            [$(AxisFacts {
                axis: Axis::$axis,
                count: |axes| axes.$list.len(),
                set: |axes, i, cell| {
                    let set: fn(&mut Cell, _, usize) = $set;
                    set(cell, axes.$list[i].clone(), i);
                },
                $($fact: $value,)*
                ..USUAL
            },)*];
    };
}

// First what the rows of a table share, then what tells them apart. The first is the outermost loop of
// the grid, and the first by which cells are sorted and named.
axes! {
    Lanes(lanes: |c, value, _| c.lanes = value) {
        shared: true,
        fields: &["lanes", "total_lanes"],
        applies: |c| !c.engine.has_one_lane(),
        value: |c| number(c.total_lanes),
        words: |c| plural(c.total_lanes.into(), "lane"),
    }
    Cpus(cpus: |c, value, _| c.cpus = value) {
        shared: true,
        fields: &["cpus"],
        value: |c| number(c.cpus),
        words: |c| plural(c.cpus.into(), "CPU"),
    }
    Codec(codecs: |c, value, _| c.codec = value) {
        shared: true,
        fields: &["codec"],
        value: |c| number(c.codec as u32),
        words: |c| c.codec.name().into(),
    }
    Load(rates_per_s: |c, value, _| c.offered_per_s = Some(value)) {
        shared: true,
        fields: &["arrivals", "offered_per_s", "knee_share"],
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
    }
    Body(bodies: |c, value, _| c.body_bytes = Some(value)) {
        shared: true,
        fields: &["body_bytes"],
        id: |_, c| Some(format!("b{}", size_literal(c.body_bytes?))),
        value: |c| optional(c.body_bytes),
        words: |c| said(c.body_bytes, |bytes| format!("bodies of {}", size_literal(bytes))),
    }
    ServerCodec(server_codecs: |c, value, _| c.server_codec = Some(value)) {
        shared: true,
        fields: &["server_codec"],
        value: |c| optional(c.server_codec.map(|codec| codec as u64)),
        words: |c| said(c.server_codec, |codec| format!("{} on the server", codec.name())),
    }
    Engine(engines: |c, engine, _| c.run_by(engine)) {
        fields: &["engine"],
        value: |c| number(c.engine as u32),
        words: |c| c.engine.name().into(),
    }
    Server(server_engines: |c, engine, i| c.served_by(i, engine)) {
        fields: &["server_engine", "server_nth"],
        id: |_, c| {
            let codec = c.server_codec.map_or("", Codec::name);
            Some(format!("on-{}-{codec}", c.server_engine?.name()))
        },
        value: |c| optional(c.server_engine.map(|engine| engine as u64)),
        words: |c| said(c.server_engine, |engine| engine.name().into()),
    }
    Processes(processes: |c, value, _| c.processes = value) {
        fields: &["processes"],
        value: |c| number(c.processes),
        words: |c| plural(c.processes.into(), "worker"),
    }
    Stack(stack_sizes_bytes: |c, value, _| c.stack_size_bytes = Some(value)) {
        fields: &["stack_size_bytes"],
        applies: |c| c.engine.sweeps_stacks(),
        id: |_, c| Some(format!("s{}", size_literal(c.stack_size_bytes?))),
        // Other engines take the first of the sweep, for threads that are not their lanes.
        value: |c| optional(c.stack_size_bytes.filter(|_| Axis::Stack.applies(c))),
        words: |c| said(c.stack_size_bytes, |bytes| format!("stacks of {}", size_literal(bytes))),
    }
    Pool(rayon_threads: |c, threads, _| {
        c.rayon_threads = Some(match threads {
            RayonThreads::Lanes => c.lanes,
            RayonThreads::Cores => c.pool_of_cores(),
        });
    }) {
        fields: &["rayon_threads"],
        applies: |c| c.engine.has_pool(),
        id: |axes, c| {
            // With as many lanes as CPUs both sizes are one cell, called as the first.
            let first = axes.rayon_threads.first() == Some(&RayonThreads::Cores);
            let cores = c.rayon_threads == Some(c.pool_of_cores());
            (cores && (first || c.is_small_pool())).then(|| "tcores".into())
        },
        value: |c| number(c.is_small_pool()),
        words: |c| format!("pool of {}", if c.is_small_pool() { "cores" } else { "lanes" }),
    }
    Allocator(allocators: |c, value, _| c.allocator = Some(value)) {
        fields: &["allocator"],
        id: |_, c| Some(c.allocator.as_ref()?.name()),
        value: |c| match &c.allocator {
            None => (0, String::new()),
            Some(Allocator::Glibc) => (1, String::new()),
            Some(Allocator::GlibcArenas(most)) => (1 + u64::from(*most), String::new()),
            Some(Allocator::Preloaded(path)) => (u64::MAX, path.clone()),
        },
        words: |c| said(c.allocator.as_ref(), Allocator::name),
    }
    Offload(offload: |c, value, _| c.offload = Some(value)) {
        fields: &["offload"],
        applies: |c| c.offload.is_some(),
        id: |axes, c| {
            let swept = !axes.offload.is_empty() && !c.is_idle();
            Some(c.offload.filter(|_| swept)?.name().into())
        },
        value: |c| optional(c.offload.map(|offload| offload as u64)),
        words: |c| said(c.offload, |offload| format!("steps {}", offload.name())),
    }
    FanOut(fan_out: |c, value, _| c.fan_out = Some(value)) {
        fields: &["fan_out"],
        applies: |c| c.fan_out.is_some(),
        id: |axes, c| {
            let swept = !axes.fan_out.is_empty() && !c.is_idle();
            Some(format!("fan{}", c.fan_out.filter(|_| swept)?))
        },
        value: |c| optional(c.fan_out.map(u64::from)),
        words: |c| match c.fan_out {
            Some(1) => "calls in turn".into(),
            n => said(n, |n| format!("{n} calls at once")),
        },
    }
    Receive(uring_receive: |c, value, _| c.uring_receive = Some(value)) {
        fields: &["uring_receive"],
        applies: |c| c.engine.has_ring(),
        id: |_, c| Some(c.uring_receive?.name().into()),
        value: |c| optional(c.uring_receive.map(|receive| receive as u64)),
        words: |c| said(c.uring_receive, |receive| receive.name().into()),
    }
    // More than that would wait for requests that the wait itself holds up.
    Batch(uring_batch: |c, batch: u32, _| c.uring_batch = Some(batch.min(c.lanes / 4).max(1))) {
        fields: &["uring_batch"],
        applies: |c| c.engine.has_ring() && !c.arrivals.is_open(),
        id: |_, c| Some(format!("batch{}", c.uring_batch?)),
        value: |c| optional(c.uring_batch.map(u64::from)),
        words: |c| said(c.uring_batch, |batch| format!("batch {batch}")),
    }
    Linger(uring_linger_ns: |c, value, _| c.uring_linger_ns = Some(value)) {
        fields: &["uring_linger_ns"],
        applies: |c| c.uring_batch.is_some_and(|batch| batch > 1),
        id: |_, c| Some(duration_literal(c.uring_linger_ns?)),
        value: |c| optional(c.uring_linger_ns),
        words: |c| said(c.uring_linger_ns, |ns| format!("linger {}", duration_literal(ns))),
    }
    Target(targets: |c, target: SweptTarget, i| {
        c.target = Some(target.name);
        c.target_nth = Some(i as u32);
    }) {
        fields: &["target", "target_nth"],
        id: |_, c| Some(format!("to-{}", c.target.as_ref()?)),
        value: |c| {
            let nth = c.target_nth.map_or(0, |nth| 1 + u64::from(nth));
            (nth, c.target.clone().unwrap_or_default())
        },
        words: |c| c.target.clone().unwrap_or_default(),
    }
}

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
    pub fn all() -> impl DoubleEndedIterator<Item = Axis> {
        AXES.iter().map(|facts| facts.axis)
    }

    fn facts(self) -> &'static AxisFacts {
        &AXES[self as usize]
    }

    pub(crate) fn is_shared(self) -> bool {
        self.facts().shared
    }

    pub fn fields(self) -> &'static [&'static str] {
        self.facts().fields
    }

    pub fn applies(self, cell: &Cell) -> bool {
        (self.facts().applies)(cell)
    }

    pub fn count(self, axes: &Axes) -> usize {
        (self.facts().count)(axes).max(1)
    }

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

    pub(super) fn value(self, cell: &Cell) -> Value {
        (self.facts().value)(cell)
    }
}

impl Axes {
    /// The timed cell of every combination that differs; `first` has what no axis sets, on an engine
    /// that takes any number of lanes. Axes that an engine does not have make no cells.
    pub(in crate::plan) fn spread(&self, first: Cell) -> Vec<Cell> {
        let mut cells = vec![first];
        for AxisFacts { applies, count, set, .. } in &AXES {
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
