//! One trial: limits, CPUs, fresh targets, fresh workers, the six frames, one record.
//!
//! Whatever goes wrong becomes the `error` of a row; nothing that this starts outlives it.

use rand::Rng;
use rand_xoshiro::SplitMix64;

use super::cpus::{self, Placement};
use super::files::StepFiles;
use super::gates::{self, Samples};
use super::metrics::Metrics;
use super::quiet::Quiet;
use super::rendezvous::Apart;
use super::split::Splitter;
use super::start::{self, Begin, NotStarted, Start};
use super::target::{External, Targets};
use super::timeline::{Sampler, Timeline};
use super::worker::{NoFrame, Worker};
use crate::format::{Status, TrialRecord};
use crate::limits::{Limits, TargetKind};
use crate::plan::endpoint::Endpoint;
use crate::plan::shard::Shard;
use crate::plan::sweep::{Sweep, Trial};
use crate::plan::{Cell, Extent, TrialPlan};
use crate::protocol::{Armed, Job, Outcome, SETUP_LIMIT_NS};
use crate::side::Phase;
use crate::side::cgroup::{Cgroup, CgroupMemory};
use crate::side::counters::Counts;
use crate::sys::now_ns;
use crate::units::{SECOND_NS, format_ns};

mod judge;

/// Most time from spawn to Ready, and how much longer than its own limit a worker may be late.
const PATIENCE_NS: u64 = 20 * SECOND_NS;
/// From the last Armed to the start, so that every worker has its Start frame in time.
const LEAD_NS: u64 = 5_000_000;
/// Mean time between two in-flight samples.
const SAMPLE_NS: u64 = 8_000_000;
/// Resolution of the kernel's idle and steal times: what one reading may be off by.
const TICK_NS: u64 = 10_000_000;
/// Time between two calls of the progress display.
const SHOW_NS: u64 = 100_000_000;

/// What the trials of a sweep share.
pub struct Context<'s> {
    /// The sweep.
    pub sweep: &'s Sweep,
    /// Hash of the plan.
    pub plan_hash: String,
    /// Digest of the binary.
    pub binary_digest: String,
    /// Limits of this machine.
    pub limits: Limits,
    /// CPUs that this process may use.
    pub allowed_cpus: Vec<u32>,
    /// The part of the plan that runs here; `None` for all of it.
    pub shard: Option<Shard>,
    /// When trials start.
    pub start: Start,
    /// Where the run can be scraped.
    pub metrics: Option<Metrics>,
    /// Where an external target is, resolved once.
    pub external: Option<External>,
    /// Remarks that every row of this run carries, such as that it was forced to go on.
    pub remarks: Vec<String>,
    /// Where samples of the workers go; `None` without a run directory.
    pub timeline: Option<Timeline>,
}

/// How far a trial is, for the display.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Stage {
    /// Processes start, lanes connect.
    SetUp,
    /// Requests so far, and the part of the trial that is over where that is known.
    Running(Counts, Option<f64>),
}

/// The caller's side of a running trial.
pub trait Watch {
    /// Called about ten times a second.
    fn show(&mut self, stage: Stage);
    /// Whether the user wants the trial to end.
    fn stop(&self) -> bool;
}

impl Context<'_> {
    /// Runs one trial; whatever happens becomes a record.
    pub fn run(&self, cell: &Cell, trial: &Trial, watch: &mut dyn Watch) -> TrialRecord {
        let mut record = self.blank(cell, trial);
        let made = Running::new(self, cell, &mut record, watch);
        if let (Err(error), Some(rendezvous)) = (&made, self.start.rendezvous()) {
            // So that the others need not wait for what will not come.
            rendezvous.failed(trial.position, error, &|| watch.stop());
        }
        let outcome = made.and_then(|mut running| {
            let result = running.run(&mut record, watch);
            running.finish(&mut record, result, watch)
        });
        if let Err(error) = outcome {
            record.status = match gates::is_invalid(&record.gates) {
                _ if watch.stop() => Status::Interrupted,
                true => Status::Invalid,
                false => Status::Failed,
            };
            record.error = Some(error);
            self.note_shard(&mut record, None, None);
        }
        if let Some(metrics) = &self.metrics {
            metrics.ended(&record);
        }
        record
    }

    /// The record of a trial in which nothing has happened yet.
    fn blank(&self, cell: &Cell, trial: &Trial) -> TrialRecord {
        TrialRecord {
            flags: self.remarks.clone(),
            pacer: cell.arrivals.is_open().then_some(self.sweep.plan.pacer),
            allocator: super::allocator::describe(cell.allocator.as_ref()),
            shard: self.shard,
            ..TrialRecord::blank(
                self.plan_hash.clone(),
                self.binary_digest.clone(),
                trial.block,
                trial.position,
                self.shard().cell(cell).unwrap_or_else(|_| cell.clone()),
            )
        }
    }

    /// The part that runs here, which may be the whole.
    fn shard(&self) -> Shard {
        self.shard.unwrap_or(Shard::WHOLE)
    }

    /// Records when the shard started, if starts are a subject of this run at all.
    fn note_shard(&self, record: &mut TrialRecord, begin: Option<Begin>, started: Option<u64>) {
        let alone = self.shard.is_none() && matches!(self.start, Start::WhenReady);
        if !alone && record.shard_start.is_none() {
            record.shard_start = Some(self.start.record(begin, started));
        }
    }

    /// Whether all shards send to the embedded target of shard 0.
    fn shares_target(&self) -> bool {
        self.external.is_none() && self.start.rendezvous().is_some()
    }

    fn target_kind(&self) -> TargetKind {
        match (&self.sweep.target, &self.external) {
            (crate::plan::sweep::Target::Embedded(t), _) => {
                TargetKind::Embedded { processes: t.processes }
            }
            (_, external) => {
                TargetKind::External { loopback: external.iter().all(|e| e.endpoint.is_local()) }
            }
        }
    }
}

/// The processes of one trial.
struct Running<'c> {
    context: &'c Context<'c>,
    /// What runs here: the cell, or the shard's part of it.
    cell: Cell,
    /// The plan of the whole trial.
    plan: TrialPlan,
    /// Requests of the window that are to be sent from here, where the plan says it.
    planned: Option<u64>,
    block: u32,
    position: u32,
    begin: Option<Begin>,
    placement: Placement,
    targets: Option<Targets>,
    /// Where shard 0's embedded target listens, on the other shards.
    shared_targets: Vec<Endpoint>,
    workers: Vec<Worker>,
    /// Behind the workers, since it goes when they are gone.
    files: StepFiles,
    cgroup: Result<Cgroup, String>,
    kernel_at_ready: Option<CgroupMemory>,
    kernel_at_plateau: Option<CgroupMemory>,
    connected: u64,
    /// Only in a trial of the kind `memory`.
    splitter: Option<Splitter>,
    in_flight: Samples,
    in_flight_peak: Option<u64>,
    jitter: SplitMix64,
}

impl<'c> Running<'c> {
    /// Checks the limits and starts the targets.
    fn new(
        context: &'c Context<'c>,
        whole: &Cell,
        record: &mut TrialRecord,
        watch: &dyn Watch,
    ) -> Result<Self, String> {
        context.start.wait_for_slot(record.trial, &|| watch.stop());
        let cell = &context.shard().cell(whole)?;
        context.limits.check(cell, context.target_kind()).map_err(|hit| hit.to_string())?;
        let endpoint = context.external.as_ref().map(|e| &e.endpoint);
        if let Some(ports) = context.limits.ports(&context.sweep.trial_plan(cell), cell, endpoint) {
            ports.check()?;
        }
        let spec = context.sweep.embedded_target(cell);
        let machine = &context.sweep.machine;
        let placement = cpus::split(&context.allowed_cpus, cell.cpus, machine, spec.is_some())?;
        if placement.shared {
            record.flags.push("shared_cpu".into());
        }
        let plan = context.sweep.block_plan(whole, record.block);
        let seed = plan.seed;
        // Before any child: under v2 the driver may first have to move into a leaf, alone.
        let cgroup = Cgroup::create(&format!("trial-{}", record.trial));
        let mut shared_targets = vec![];
        let rendezvous = context.start.rendezvous();
        let targets = match (&spec, rendezvous) {
            (Some(_), Some(rendezvous)) if !rendezvous.leads() => {
                shared_targets = rendezvous
                    .targets(record.trial, &|| watch.stop())
                    .map_err(|apart| judge_apart(record, &apart, context.shard()))?;
                None
            }
            (Some(spec), _) => {
                let targets = Targets::start(spec, seed, &placement.target)?;
                match rendezvous {
                    Some(r) => r.share_targets(record.trial, targets.endpoints())?,
                    None if context.shard().count > 1 => {
                        record.flags.push("target_per_shard".into());
                    }
                    None => {}
                }
                Some(targets)
            }
            (None, _) => {
                record.flags.push("external_target".into());
                if context.external.as_ref().is_some_and(External::is_insecure) {
                    record.flags.push("insecure_tls".into());
                }
                None
            }
        };
        Ok(Running {
            context,
            files: StepFiles::of(&plan, (0..cell.processes).map(|w| context.shard().worker(w))),
            cell: cell.clone(),
            planned: context.shard().planned(&plan),
            plan,
            block: record.block,
            position: record.trial,
            begin: None,
            placement,
            targets,
            shared_targets,
            workers: vec![],
            cgroup,
            kernel_at_ready: None,
            kernel_at_plateau: None,
            connected: 0,
            splitter: cell.is_memory().then(Splitter::new),
            in_flight: Samples::default(),
            in_flight_peak: None,
            jitter: rand::SeedableRng::seed_from_u64(seed),
        })
    }

    /// Spawn to Outcome.
    fn run(
        &mut self,
        record: &mut TrialRecord,
        watch: &mut dyn Watch,
    ) -> Result<Vec<Outcome>, String> {
        watch.show(Stage::SetUp);
        self.spawn(record, watch)?;
        self.arm(record, watch)?;
        let start = self.agree(record, watch)?;
        if let Some(targets) = &mut self.targets {
            targets.start_at(start);
        }
        for worker in &mut self.workers {
            worker.start(start)?;
        }
        record.started_unix_ns = unix_ns(start + self.plan.warmup_ns);
        let mut sampler = self.context.timeline.as_ref().map(|t| Sampler::new(t, record, start));
        self.watch(start, watch, &mut sampler)
    }

    /// The start of this trial on CLOCK_MONOTONIC, the same instant on every shard.
    fn agree(&mut self, record: &mut TrialRecord, watch: &dyn Watch) -> Result<u64, String> {
        let lead = LEAD_NS + 200_000 * self.workers.len() as u64;
        let most_late = self.most_late_ns();
        let begin = self
            .context
            .start
            .agree(self.position, lead, most_late, &|| watch.stop())
            .map_err(|why| {
                if let Some(planned) = self.planned {
                    record.ledger.planned = planned;
                    record.ledger.unsent = planned;
                }
                match why {
                    NotStarted::Apart(apart) => judge_apart(record, &apart, self.context.shard()),
                    NotStarted::Late { agreed_unix_ns, late_ns } => {
                        record.gates.push(start::gate_ns(
                            "start_late_ns",
                            Some(late_ns),
                            most_late,
                        ));
                        let begin = Begin { at: 0, agreed_unix_ns: Some(agreed_unix_ns) };
                        self.context.note_shard(record, Some(begin), Some(late_ns));
                        format!(
                            "armed {} after the agreed start; nothing was sent",
                            format_ns(late_ns as f64)
                        )
                    }
                    NotStarted::Stopped => "stopped before the start".into(),
                }
            })?;
        self.begin = Some(begin);
        Ok(begin.at)
    }

    fn most_late_ns(&self) -> u64 {
        start::most_late_ns(match self.plan.extent {
            Extent::DurationNs(ns) => Some(ns),
            Extent::Requests(_) => None,
        })
    }

    fn spawn(&mut self, record: &mut TrialRecord, watch: &mut dyn Watch) -> Result<(), String> {
        for number in 0..self.cell.processes {
            let mut worker = Worker::spawn(number, self.cell.allocator.as_ref())?;
            // Before the job arrives the worker holds next to nothing, so that nearly all it
            // will hold is charged to the group.
            if let Ok(group) = &self.cgroup
                && let Err(why) = group.add(worker.id())
            {
                self.cgroup = Err(why);
            }
            worker.job(self.job(number))?;
            self.workers.push(worker);
        }
        // Files are written to the disk before a worker is ready.
        let files = if self.plan.has_local_steps() { SETUP_LIMIT_NS } else { 0 };
        let deadline = now_ns() + PATIENCE_NS + files;
        for worker in &mut self.workers {
            await_frame(deadline, watch, "was not ready in time", |d| worker.ready(d))?;
            record.ready_ns = record.ready_ns.max(now_ns() - worker.spawned_at());
        }
        self.kernel_at_ready = self.cgroup.as_ref().ok().and_then(|g| g.read().ok());
        if let Some(splitter) = &mut self.splitter {
            splitter.at_ready(&self.cell, &self.workers, self.kernel_at_ready);
        }
        Ok(())
    }

    fn job(&self, worker: u32) -> Job {
        let context = self.context;
        let cell = &self.cell;
        let (targets, tls) = match (&self.targets, &context.external) {
            (Some(targets), _) => (targets.endpoints().to_vec(), None),
            (None, _) if !self.shared_targets.is_empty() => (self.shared_targets.clone(), None),
            (None, Some(external)) => (vec![external.endpoint.clone()], external.tls.clone()),
            (None, None) => (vec![], None),
        };
        let trial = format!("{} block {}", cell.id, self.block);
        Job {
            worker: context.shard().worker(worker),
            workers: context.shard().workers(cell.processes),
            cpus: self.placement.worker.clone(),
            tls,
            files: self.plan.has_local_steps().then(|| self.files.name().into()),
            ..Job::of(cell, trial, targets, self.plan.clone())
        }
    }

    fn arm(&mut self, record: &mut TrialRecord, watch: &mut dyn Watch) -> Result<(), String> {
        for worker in &mut self.workers {
            worker.go()?;
        }
        let deadline = now_ns() + SETUP_LIMIT_NS + PATIENCE_NS;
        for worker in &mut self.workers {
            let armed: Armed =
                await_frame(deadline, watch, "set-up took longer than 60 s", |d| worker.armed(d))?;
            record.setup_ns = record.setup_ns.max(armed.setup_ns);
            self.connected += u64::from(armed.connected);
            if let Some(error) = armed.error {
                return Err(error);
            }
        }
        Ok(())
    }

    /// Samples what is in flight at jittered instants, shows progress, and collects outcomes.
    fn watch(
        &mut self,
        start: u64,
        watch: &mut dyn Watch,
        sampler: &mut Option<Sampler>,
    ) -> Result<Vec<Outcome>, String> {
        let plan = &self.plan;
        let (warmup_ns, timeout_ns, extent) = (plan.warmup_ns, plan.timeout_ns, plan.extent);
        let window_start = start + warmup_ns;
        let mut outcomes = vec![];
        let mut quiet = Quiet::new(timeout_ns, plan.longest_gap_ns());
        let part = self.context.shard();
        let metrics = self.context.metrics.as_ref();
        let mut look = metrics.map(|m| m.look_at(&self.cell, plan, part));
        let mut shown = 0;
        let mut cancelled = false;
        let mut half_seen = false;
        while outcomes.len() < self.workers.len() {
            let now = now_ns();
            if let Some(sampler) = sampler {
                sampler.look(now, &self.workers);
            }
            if let Some(look) = &mut look {
                look.look(now, window_start, &self.workers);
            }
            let counts = self.counts(Phase::Measured);
            let part = match extent {
                Extent::DurationNs(ns) => now.saturating_sub(window_start) as f64 / ns as f64,
                Extent::Requests(n) => counts.ended() as f64 / self.planned.unwrap_or(n) as f64,
            };
            if now > window_start && part < 1.0 {
                let in_flight = counts.in_flight();
                self.in_flight.add(now_ns(), in_flight as f64);
                self.in_flight_peak = self.in_flight_peak.max(Some(in_flight));
            }
            if part >= 0.5 && !half_seen {
                half_seen = true;
                self.kernel_at_plateau = self.cgroup.as_ref().ok().and_then(|g| g.read().ok());
                if let Some(splitter) = &mut self.splitter {
                    splitter.at_plateau(&self.cell, &self.workers, self.kernel_at_plateau);
                }
            }
            if now - shown > SHOW_NS {
                shown = now;
                watch.show(Stage::Running(counts, Some(part.min(1.0))));
            }
            if watch.stop() && !cancelled {
                cancelled = true;
                self.workers.iter_mut().for_each(Worker::cancel);
            }
            let moving = counts.started + self.counts(Phase::Warmup).started;
            if let Some(cap) = self.context.external.as_ref().and_then(|e| e.cap.as_ref()) {
                cap.check_started(moving, now.saturating_sub(start))?;
            }
            let next = match extent {
                Extent::DurationNs(ns) => window_start + ns,
                Extent::Requests(_) => window_start,
            };
            // Without the shared pages nothing can be seen to move.
            if self.workers.iter().all(Worker::is_visible) {
                quiet.check(now, moving + counts.ended(), next)?;
            }
            let pause = SAMPLE_NS / 2 + self.jitter.next_u64() % SAMPLE_NS;
            let number = outcomes.len();
            match self.workers[number].outcome(now + pause) {
                Ok(outcome) => outcomes.push(outcome),
                Err(NoFrame::Late) => {}
                Err(NoFrame::Never(why)) => return Err(why),
            }
        }
        Ok(outcomes)
    }

    fn counts(&self, phase: Phase) -> Counts {
        let mut sum = Counts::default();
        for counts in self.workers.iter().filter_map(|w| w.counts(phase)) {
            sum.started += counts.started;
            sum.completed += counts.completed;
            sum.failed += counts.failed;
            sum.timed_out += counts.timed_out;
        }
        sum
    }
}

/// Marks a trial that its shards did not run together, and says why.
fn judge_apart(record: &mut TrialRecord, apart: &Apart, shard: Shard) -> String {
    record.gates.push(start::gate_shards(apart.present, shard.count));
    format!("{}; nothing was sent", apart.why)
}

/// An instant of CLOCK_MONOTONIC by the wall clock; `None` before 1970.
fn unix_ns(at: u64) -> Option<u64> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).ok()?;
    Some((now.as_nanos() as u64 + at).saturating_sub(now_ns()))
}

/// Waits for a frame in short turns, so that the user can stop the trial.
fn await_frame<T>(
    deadline: u64,
    watch: &mut dyn Watch,
    late: &str,
    mut ask: impl FnMut(u64) -> Result<T, NoFrame>,
) -> Result<T, String> {
    loop {
        match ask(deadline.min(now_ns() + SHOW_NS)) {
            Ok(frame) => return Ok(frame),
            Err(NoFrame::Never(why)) => return Err(why),
            Err(NoFrame::Late) if watch.stop() => return Err("stopped during set-up".into()),
            Err(NoFrame::Late) if now_ns() >= deadline => return Err(late.into()),
            Err(NoFrame::Late) => watch.show(Stage::SetUp),
        }
    }
}
