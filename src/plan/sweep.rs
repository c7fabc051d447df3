//! A resolved config: its cells, what each runs, and an interleaved order of trials.

mod secrets;

use std::collections::HashSet;

use rand::Rng;
use rand::SeedableRng;
use rand_xoshiro::Xoshiro256PlusPlus;
use serde::{Deserialize, Serialize};

use super::cell::Axes;
use super::expect::Expect;
use super::search::{Bound, Search, bounds};
use super::server::{ServerEngine, ServerPlan, ServerSetting, SideUnderTest};
pub use super::slo::{MARGIN, Slo};
use super::steps::{Offload, StepPlan};
use super::target::{EmbeddedTarget, SweptTarget};
pub use super::target::{Target, Tls};
use super::values::{RequestValue, sha256};
use super::{Arrivals, Cell, CellKind, Codec, Engine, Extent, RequestTemplate, TrialPlan};
use crate::units::SECOND_NS;
pub(crate) use secrets::is_masked;

/// Window of a cell that sends nothing, where the plan's ends with its requests.
const IDLE_NS: u64 = SECOND_NS;

/// Time of a trial beside its warm-up and window: processes, connects, a short drain.
pub(crate) const TRIAL_OVERHEAD_NS: u64 = 60_000_000;

/// Keeps the order of trials from being drawn from the stream that arrival gaps come from.
const ORDER_STREAM: u64 = 0x6f72_6465_725f_6f66;

/// Between the seeds of neighbouring blocks: odd, so that no two blocks share one, and large, so that
/// the blocks of neighbouring seeds do not either (2^64 divided by the golden ratio).
const BLOCK_STRIDE: u64 = 0x9e37_79b9_7f4a_7c15;

/// A resolved config: everything that decides what a sweep measures, and nothing of the machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sweep {
    pub name: String,
    pub target: Target,
    /// The plan; `offered_per_s` is filled in by the cell.
    pub plan: TrialPlan,
    pub axes: Axes,
    /// Repetitions of every cell; the most there may be where `precision` ends them.
    pub trials: u32,
    /// What ends the repetitions before that; `None` where their number is fixed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub precision: Option<Precision>,
    pub baseline: Engine,
    /// Ratios this close to 1, as a share, are as good as equal; changes no trial.
    #[serde(default = "margin")]
    pub equal_within: f64,
    pub aa: bool,
    /// Whether every engine also runs with its lanes connected and nothing sent.
    #[serde(default)]
    pub idle: bool,
    /// Whether every cell has a second one beside it in which system calls and other events are
    /// counted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub syscalls: bool,
    /// Whether memory is split into its parts, in trials of their own.
    #[serde(default, skip_serializing_if = "MemoryTrials::is_none")]
    pub memory: MemoryTrials,
    /// How often a trial that a noise gate failed is repeated at most.
    #[serde(default)]
    pub noise_repeats: u32,
    pub expect_failed: Vec<ExpectFailed>,
    /// What is expected before the run; decides nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub expect: Vec<Expect>,
    pub machine: Machine,
    pub slo: Option<Slo>,
    /// The side under test, where the sweep says how servers run.
    #[serde(default)]
    pub subject: SideUnderTest,
    /// How servers run; `None` where the embedded target answers, or an external one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<ServerSetting>,
    /// How the highest rate that meets the SLO is searched; `None` runs the grid as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub search: Option<Search>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Precision {
    /// Widest half-width of a ratio's interval, as a share of the ratio.
    pub half_width: f64,
    /// Longest time, in nanoseconds: no block begins that would end later.
    pub budget_ns: u64,
}

/// Of runs from before there was a choice.
fn margin() -> f64 {
    MARGIN
}

/// Trials in which memory is split into its parts; their latency is never ranked, since the look
/// that is taken half-way through the window holds the process's mappings for a moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MemoryTrials {
    #[default]
    None,
    /// Every cell has a second one of this kind beside it.
    Also,
    Only,
}

impl MemoryTrials {
    fn is_none(&self) -> bool {
        *self == MemoryTrials::None
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExpectFailed {
    pub engine: Engine,
    pub lanes: Option<u32>,
    /// The limit that stops it, such as `vm.max_map_count`; `None` for any.
    pub limit: Option<String>,
}

/// CPUs by hand; `None` splits what the process may use.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// CPUs of the workers, in the order in which the `cpus` axis takes them.
    pub worker_cpus: Option<Vec<u32>>,
    pub target_cpus: Option<Vec<u32>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trial {
    /// Index into [`Sweep::cells`].
    pub cell: usize,
    pub block: u32,
    /// Position in the run order, from 0.
    pub position: u32,
}

impl Sweep {
    /// Every cell, once; those of other kinds stand right after the timed one that they belong to.
    pub fn cells(&self) -> Vec<Cell> {
        let plan = &self.plan;
        let first = Cell {
            arrivals: plan.arrivals,
            offered_per_s: plan.offered_per_s,
            stack_size_bytes: self.axes.stack_sizes_bytes.first().copied(),
            offload: self.has_offload().then(Offload::default),
            fan_out: self.server.as_ref().and_then(|server| (server.most_calls() > 0).then_some(1)),
            server_engine: self.axes.server_engines.first().copied(),
            server_nth: self.tests_server().then_some(0),
            ..Cell::plain(Engine::Tokio, 1)
        };
        let cells = self.axes.spread(first);
        let all = cells.iter().flat_map(|cell| {
            let kinds = self.kinds(cell).into_iter();
            kinds.map(|kind| cell.of_kind(kind, &self.axes))
        });
        let mut seen = HashSet::new();
        all.filter(|cell| seen.insert(cell.id.clone())).collect()
    }

    pub(crate) fn tests_server(&self) -> bool {
        self.subject == SideUnderTest::Server && !self.axes.server_engines.is_empty()
    }

    /// Whether some work of the side under test could leave the task that it belongs to.
    fn has_offload(&self) -> bool {
        match self.server.as_ref().filter(|_| self.tests_server()) {
            Some(server) => server.has_local_work(),
            None => self.plan.has_local_steps(),
        }
    }

    /// The server of a cell's trials; `None` for the embedded target.
    pub fn server_plan(&self, cell: &Cell) -> Option<ServerPlan> {
        let engine = cell.server_engine.filter(|e| *e != ServerEngine::Reference)?;
        let mut setting = self.server.clone()?;
        let of_target = cell.target_nth.and_then(|nth| setting.owns.get(nth as usize).cloned());
        setting.own = of_target.or(setting.own);
        setting.owns.clear();
        Some(ServerPlan {
            engine,
            codec: cell.server_codec.unwrap_or(Codec::Lean),
            offload: cell.offload.filter(|_| cell.tests_server()).unwrap_or_default(),
            fan_out: cell.fan_out.unwrap_or(1),
            setting,
        })
    }

    fn kinds(&self, cell: &Cell) -> Vec<CellKind> {
        let timed = self.memory != MemoryTrials::Only;
        let memory = match self.idle && cell.tests_server() {
            true => CellKind::IdleMemory,
            false => CellKind::Memory,
        };
        [
            (timed, CellKind::Timed),
            (timed && self.aa && cell.is_baseline(self.baseline), CellKind::Copy),
            (timed && self.idle, CellKind::Idle),
            (timed && self.syscalls, CellKind::Counted),
            (self.memory != MemoryTrials::None, memory),
        ]
        .into_iter()
        .filter_map(|(wanted, kind)| wanted.then_some(kind))
        .collect()
    }

    /// The run order of this many cells: blocks one after another, each with every cell once in a
    /// random order that the plan's seed fixes.
    ///
    /// More trials leave the blocks before them as they are. Fisher–Yates on xoshiro256++, written
    /// out because library shuffles may change their draws from version to version.
    pub fn order(&self, cells: usize) -> Vec<Trial> {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(self.plan.seed ^ ORDER_STREAM);
        let mut trials = Vec::new();
        let mut position = 0;
        for block in 0..self.trials {
            let mut shuffled: Vec<usize> = (0..cells).collect();
            for last in (1..cells).rev() {
                // The high half of the product is uniform but for a bias of `last` in 2^64.
                let draw = u128::from(rng.next_u64()) * (last as u128 + 1);
                shuffled.swap(last, (draw >> 64) as usize);
            }
            for cell in shuffled {
                trials.push(Trial { cell, block, position });
                position += 1;
            }
        }
        trials
    }

    /// SHA-256, in hexadecimal, over what is measured: target, plan and `[sweep]`.
    ///
    /// Names, CPUs, bounds, the permission to load an address and the authority that a certificate
    /// is checked with are left out. Of a header that
    /// [`Sweep::masked`] hides only the name counts, so that the hash of a plan that was read back
    /// is the same and gives no way to guess at a secret; `$NAME` counts as written.
    pub fn plan_hash(&self) -> String {
        let mut sweep = self.masked();
        for target in sweep.targets_mut() {
            let Target::External { allow, tls, .. } = target else { continue };
            allow.clear();
            if let Some(tls) = tls {
                tls.ca_file = None;
                tls.client = None;
            }
        }
        // Where files lie is the machine's matter, as its CPUs are.
        for template in sweep.templates_mut() {
            template.body_file = None;
            for step in &mut template.steps {
                if let StepPlan::File(step) = step {
                    step.dir = None;
                }
            }
        }
        // Of files it is the content that counts, by its digest.
        if let Some(trace) = &mut sweep.plan.trace {
            trace.path.clear();
        }
        for value in sweep.plan.values.values_mut() {
            if let RequestValue::Choice { path, .. } = value {
                path.clear();
            }
        }
        // serde_json's maps are sorted by key, which makes this text canonical.
        let mut canonical = serde_json::json!({
            "target": sweep.target,
            "plan": sweep.plan,
            "axes": sweep.axes,
            // How long it goes on is no part of what is measured: a sweep may be given more time.
            "trials": sweep.precision.is_none().then_some(sweep.trials),
            "baseline": sweep.baseline,
            "aa": sweep.aa,
            "idle": sweep.idle,
            "expect_failed": sweep.expect_failed,
        });
        // A key that is not used leaves the hash of older plans as it was.
        if let Some(precision) = sweep.precision {
            canonical["precision"] = precision.half_width.into();
        }
        if sweep.syscalls {
            canonical["syscalls"] = true.into();
        }
        if self.memory != MemoryTrials::None {
            canonical["memory"] = serde_json::json!(self.memory);
        }
        if let Some(server) = &sweep.server {
            if sweep.subject == SideUnderTest::Client {
                canonical["subject"] = serde_json::json!(sweep.subject);
            }
            canonical["server"] = serde_json::json!(server);
        }
        // What a search runs depends on the bounds as well.
        if let Some(search) = &self.search {
            canonical["search"] = serde_json::json!({ "how": search, "slo": self.slo });
        }
        sha256(canonical.to_string().as_bytes())
    }

    pub fn bounds(&self) -> Vec<Bound> {
        bounds(self.slo.as_ref(), &self.plan.mix)
    }

    /// Trials of the grid; of a search, and of the sweep that follows it, the most there may be.
    pub fn most_trials(&self) -> u64 {
        let each = match self.search {
            Some(search) => search.most_trials() + self.trials_at_shares(),
            None => u64::from(self.trials),
        };
        self.cells().len() as u64 * each
    }

    /// Trials of each cell that follow a search, at all shares of its knee together.
    pub(crate) fn trials_at_shares(&self) -> u64 {
        self.axes.knee_shares.len() as u64 * u64::from(self.trials)
    }

    /// Length of one trial, with [`TRIAL_OVERHEAD_NS`], where the plan decides it.
    pub fn trial_ns(&self) -> Option<u64> {
        let load = self.window_ns()?.saturating_add(self.plan.warmup_ns);
        Some(load.saturating_add(TRIAL_OVERHEAD_NS))
    }

    /// Length of the longest window, where the plan decides it.
    pub(crate) fn window_ns(&self) -> Option<u64> {
        match (&self.plan.trace, self.plan.extent) {
            (Some(trace), Extent::Requests(n)) if n >= trace.entries => Some(trace.span_ns),
            (_, Extent::DurationNs(ns)) => Some(ns),
            (_, Extent::Requests(n)) => {
                let slowest = self.axes.rates_per_s.iter().copied().reduce(f64::min);
                let least = self.search.map(|search| search.min_per_s);
                let slowest = slowest.or(self.plan.offered_per_s).or(least)?;
                // The first of evenly spaced requests is due at once.
                let gaps = if self.plan.arrivals == Arrivals::Constant { n - 1 } else { n };
                Some((gaps as f64 / slowest * SECOND_NS as f64) as u64)
            }
        }
    }

    /// The plan of a cell's trials: this plan at the cell's rate.
    pub fn trial_plan(&self, cell: &Cell) -> TrialPlan {
        let mut plan = TrialPlan {
            arrivals: cell.arrivals,
            offered_per_s: cell.offered_per_s,
            ..self.plan.clone()
        };
        if let Some(swept) = self.swept_target(cell) {
            plan.host.clone_from(&swept.host);
            if !swept.mix.is_empty() {
                plan.mix.clone_from(&swept.mix);
            }
        }
        if !cell.is_idle() {
            return plan;
        }
        let extent = match plan.extent {
            Extent::DurationNs(ns) => Extent::DurationNs(ns),
            Extent::Requests(_) => Extent::DurationNs(IDLE_NS),
        };
        TrialPlan {
            extent,
            warmup_ns: 0,
            offered_per_s: None,
            stages: Vec::new(),
            trace: None,
            idle: true,
            ..plan
        }
    }

    /// As [`Sweep::trial_plan`], for one block.
    ///
    /// Each block draws arrivals, service times, the mix and template values anew, the same for all
    /// of its cells: blocks of one draw would agree with one another however far that draw lies from
    /// the others, so that an interval over them would say nothing. The first block has the seed as
    /// the config says it.
    pub fn block_plan(&self, cell: &Cell, block: u32) -> TrialPlan {
        let plan = self.trial_plan(cell);
        let shift = u64::from(block).wrapping_mul(BLOCK_STRIDE);
        TrialPlan { seed: plan.seed.wrapping_add(shift), ..plan }
    }

    /// The embedded target of a cell's trials: this target with the cell's body; `None` where the
    /// target is external.
    pub fn embedded_target(&self, cell: &Cell) -> Option<EmbeddedTarget> {
        match self.target_of(cell) {
            Target::Embedded(target) => Some(EmbeddedTarget {
                body_bytes: cell.body_bytes.unwrap_or(target.body_bytes),
                ..target.clone()
            }),
            Target::External { .. } => None,
        }
    }

    /// What a cell's target differs in, where the sweep compares several.
    fn swept_target(&self, cell: &Cell) -> Option<&SweptTarget> {
        self.axes.targets.get(cell.target_nth? as usize)
    }

    pub fn target_of(&self, cell: &Cell) -> &Target {
        self.swept_target(cell).map_or(&self.target, |swept| &swept.target)
    }

    pub fn targets(&self) -> Vec<&Target> {
        match self.axes.targets.as_slice() {
            [] => vec![&self.target],
            several => several.iter().map(|swept| &swept.target).collect(),
        }
    }

    /// Every target, to be changed: the first of several stands twice.
    pub(crate) fn targets_mut(&mut self) -> impl Iterator<Item = &mut Target> {
        let several = self.axes.targets.iter_mut().map(|swept| &mut swept.target);
        several.chain([&mut self.target])
    }

    fn templates_mut(&mut self) -> impl Iterator<Item = &mut RequestTemplate> {
        let several = self.axes.targets.iter_mut().flat_map(|swept| &mut swept.mix);
        several.chain(&mut self.plan.mix)
    }
}
