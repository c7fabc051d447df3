//! One trial: limits, CPUs, fresh targets, fresh workers, the six frames, one record.
//!
//! Whatever goes wrong becomes the `error` of a row; nothing that this starts outlives it.

use rand_xoshiro::SplitMix64;

use super::cpus::Placement;
use super::files::StepFiles;
use super::gates::{self, Samples};
use super::metrics::Metrics;
use super::others::{Server, Snapshot};
use super::peers::{Peers, TrialRefusal};
use super::split::Splitter;
use super::target::External;
use super::targets::Targets;
use super::timeline::{Sampler, Timeline};
use super::worker::Worker;
use crate::format::{Flag, Reason, Status, TrialRecord};
use crate::limits::Limits;
use crate::plan::endpoint::Endpoint;
use crate::plan::shard::Assignment;
use crate::plan::sweep::{Sweep, Trial};
use crate::plan::{Cell, TrialPlan};
use crate::protocol::Outcome;
use crate::side::cgroup::{Cgroup, CgroupMemory};
use crate::side::counters::Counts;
use crate::side::outside::Outside;
use crate::sys::now_ns;

mod judge;
mod quotas;
pub(crate) use set_up::{admit, place, target_kind};
pub(crate) use watch::GRACE_NS;
mod set_up;
mod watch;

use quotas::SeenQuotas;

pub(crate) struct Context<'s> {
    pub(crate) sweep: &'s Sweep,
    pub(crate) plan_hash: String,
    pub(crate) binary_digest: String,
    pub(crate) limits: Limits,
    pub(crate) allowed_cpus: Vec<u32>,
    pub(crate) peers: Box<dyn Peers>,
    pub(crate) metrics: Option<Metrics>,
    /// Where external targets are, resolved once; in the order of their axis, where there is one.
    pub(crate) external: Vec<External>,
    /// Remarks that every row of this run carries, such as that it was forced to go on.
    pub(crate) remarks: Vec<Flag>,
    pub(crate) keep_going: bool,
    /// Where samples of the workers go; `None` without a run directory.
    pub(crate) timeline: Option<Timeline>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum TrialStage {
    SetUp,
    /// Requests so far, and the part of the trial that is over where that is known.
    Running(Counts, Option<f64>),
}

/// The caller's side of a running trial.
pub(crate) trait Watch {
    /// Called about ten times a second.
    fn show(&mut self, _stage: TrialStage) {}
    /// Whether the user wants the trial to end.
    fn stop(&self) -> bool;
}

impl Context<'_> {
    pub(crate) fn run(&self, cell: &Cell, trial: &Trial, watch: &mut dyn Watch) -> TrialRecord {
        let mut record = self.blank(cell, trial);
        let made = Running::new(self, cell, &mut record, watch);
        if let Err(error) = &made {
            // So that the others need not wait for what will not come.
            self.peers.ended(trial.position, Some(&error.to_string()), &|| watch.stop());
        }
        let outcome = made.and_then(|mut running| {
            let result = running.run(&mut record, watch);
            running.finish(&mut record, result, watch)
        });
        if let Err(error) = outcome {
            if let Some(refusal) = error.downcast_ref::<TrialRefusal>() {
                record.gates.extend(refusal.gates.iter().cloned());
            }
            record.status = match gates::is_invalid(&record.gates) {
                _ if watch.stop() => Status::Interrupted,
                true => Status::Invalid,
                false => Status::Failed,
            };
            record.limit = crate::limits::hit(&error);
            record.error = Some(format!("{error:#}"));
            self.peers.note(&mut record, None);
        }
        if let Some(metrics) = &self.metrics {
            metrics.ended(&record);
        }
        record
    }

    pub(crate) fn cannot_run(&self, cell: &Cell, trial: &Trial, why: String) -> TrialRecord {
        let mut record = self.blank(cell, trial);
        (record.status, record.error) = (Status::Failed, Some(why));
        record
    }

    fn blank(&self, cell: &Cell, trial: &Trial) -> TrialRecord {
        let allocator = super::allocator::of(cell, &self.limits);
        TrialRecord {
            flags: self.remarks.clone(),
            pacer: cell.arrivals.is_open().then_some(self.sweep.plan.pacer),
            allocator: super::allocator::describe(allocator.as_ref()),
            glibc_tunables: super::allocator::tunables(allocator.as_ref()),
            ..TrialRecord::blank(
                self.plan_hash.clone(),
                self.binary_digest.clone(),
                trial.block,
                trial.position,
                cell.clone(),
            )
        }
    }

    /// Where a cell's external target is; `None` for the embedded one.
    pub(crate) fn external(&self, cell: &Cell) -> Option<&External> {
        self.external.get(cell.target_nth.unwrap_or(0) as usize)
    }
}

struct Running<'c> {
    context: &'c Context<'c>,
    here: Assignment,
    plan: TrialPlan,
    block: u32,
    position: u32,
    placement: Placement,
    /// Whether what a server under test calls runs on the client's CPUs.
    upstream_shares: bool,
    targets: Option<Targets>,
    endpoints: Vec<Endpoint>,
    workers: Vec<Worker>,
    /// Behind the workers, since it goes when they are gone.
    files: StepFiles,
    cgroup: Result<Cgroup, Reason>,
    kernel_at_ready: Option<CgroupMemory>,
    kernel_at_plateau: Option<CgroupMemory>,
    half_seen: bool,
    /// How late the driver was at the window's edges, at most: it may have been stopped.
    late_at_edges_ns: u64,
    /// The targets, seen from outside, or why they are not.
    server: Result<Outside, Reason>,
    connected: u64,
    /// Every process before the load began.
    others: Option<Snapshot>,
    owner: Option<Server>,
    /// For how long quotas had stopped duel and the target at each edge of the window.
    throttled: SeenQuotas,
    /// For how long a worker or an embedded target was stopped by a signal.
    stopped_ns: u64,
    /// How long after its start the trial was given up, if it was.
    given_up_ns: Option<u64>,
    /// Only in a trial of the kind `memory`.
    splitter: Option<Splitter>,
    in_flight: Samples,
    in_flight_peak: Option<u64>,
    jitter: SplitMix64,
}

impl Running<'_> {
    fn run(
        &mut self,
        record: &mut TrialRecord,
        watch: &mut dyn Watch,
    ) -> anyhow::Result<Vec<Outcome>> {
        watch.show(TrialStage::SetUp);
        self.spawn(record, watch)?;
        self.arm(record, watch)?;
        self.settle(watch);
        self.others = Some(Snapshot::take());
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
}

/// An instant of CLOCK_MONOTONIC by the wall clock; `None` before 1970.
fn unix_ns(at: u64) -> Option<u64> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).ok()?;
    Some((now.as_nanos() as u64 + at).saturating_sub(now_ns()))
}
