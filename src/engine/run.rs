//! Everything that the lanes of a worker share.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::claims::{Chunk, Claims};
use super::handover::Handover;
use super::latch::Latch;
use super::offload::TaskThreads;
use super::progress::LaneProgress;
use super::rings::RingCounts;
use crate::codec::socket::Route;
use crate::codec::tls;
use crate::format::ClassUse;
use crate::format::histogram::HdrError;
use crate::plan::Extent;
use crate::plan::prepare::Prepared;
use crate::plan::request::Rendered;
use crate::plan::schedule::{Schedule, share_of};
use crate::protocol::Job;
use crate::side::events::EventsOf;
use crate::side::own_counts::OwnCounts;
use crate::side::{Phase, Recorder};
use crate::work::{Kit, Work};

/// The instants of a trial on CLOCK_MONOTONIC.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Phases {
    pub(crate) start: u64,
    pub(crate) window_start: u64,
    /// The window ends; `u64::MAX` when it ends with the last request.
    pub(crate) window_end: u64,
    /// Open loops: a release that has no lane by then stays unsent.
    pub(crate) cutoff: u64,
}

impl Phases {
    fn new(start: u64, job: &Job) -> Self {
        let window_start = start + job.plan.warmup_ns;
        let window_end = match job.plan.extent {
            Extent::DurationNs(ns) => window_start + ns,
            Extent::Requests(_) => u64::MAX,
        };
        let cutoff = window_end.saturating_add(job.plan.timeout_ns);
        Phases { start, window_start, window_end, cutoff }
    }
}

/// One worker's part of a trial, from its job to its last lane.
pub(crate) struct TrialRun {
    pub(crate) job: Job,
    pub(crate) recorder: Recorder,
    pub(crate) progress: LaneProgress,
    pub(crate) start_gate: Latch,
    /// Opens when the window's end was read: closing connections is no part of the window.
    pub(crate) close_gate: Latch,
    /// Never opens: threads stay to be counted until the process ends.
    pub(super) exit_gate: Latch,
    pub(super) handover: Handover,
    pub(super) task_threads: TaskThreads,
    /// Under `uring`.
    pub(super) rings: RingCounts,
    /// Opened where the job asks for them, by the engine's thread.
    pub(crate) events: EventsOf,
    prepared: Prepared,
    claims: Claims,
    phases: OnceLock<Phases>,
    pub(super) tls: Option<tls::Client>,
    /// What requests do beside HTTP; `None` where they do nothing.
    pub(crate) work: Option<Arc<Work>>,
    /// The class of each template; empty where no request has a name.
    classes: Vec<Option<usize>>,
}

impl TrialRun {
    /// Prepares a trial; makes no lane, runtime, pool or socket. `work` is what requests do beside
    /// HTTP.
    pub(crate) fn new(
        job: Job,
        tls: Option<tls::Client>,
        prepared: Prepared,
        recorder: Recorder,
        work: Option<Arc<Work>>,
    ) -> Self {
        let planned = match job.plan.extent {
            Extent::Requests(n) => share_of(n, job.worker, job.workers),
            Extent::DurationNs(_) => u64::MAX,
        };
        // Without such work nothing is offloaded.
        let place = work.as_ref().and(job.cell.offload).unwrap_or_default();
        TrialRun {
            recorder,
            progress: LaneProgress::default(),
            start_gate: Latch::default(),
            close_gate: Latch::default(),
            exit_gate: Latch::default(),
            handover: Handover::default(),
            rings: RingCounts::default(),
            events: EventsOf::default(),
            task_threads: TaskThreads::new(place, job.cell.stack_bytes() as usize, job.cpus.len()),
            classes: job.plan.class_of_each(),
            prepared,
            claims: Claims::new(planned, job.cell.lanes),
            phases: OnceLock::new(),
            tls,
            work,
            job,
        }
    }

    /// The work of a request that has steps.
    #[inline]
    pub(super) fn steps(&self, request: &Rendered) -> Option<&Work> {
        self.work.as_deref().filter(|work| work.has_steps(request))
    }

    pub(super) fn kit(&self) -> Option<Box<Kit>> {
        self.work.as_ref().map(|work| Box::new(Kit::new(work)))
    }

    /// Sets the instants of the trial, once.
    pub(crate) fn set_start(&self, start_at_ns: u64) {
        let _ = self.phases.set(Phases::new(start_at_ns, &self.job));
    }

    /// The instants. Lanes ask after the start gate has opened, when they are set.
    #[inline]
    pub(crate) fn phases(&self) -> &Phases {
        self.phases.get().expect("lanes run only after the start gate, which follows set_start")
    }

    /// Stops the trial: lanes start no further request and do not wait for their next.
    pub(crate) fn cancel(&self) {
        self.progress.cancel();
        self.start_gate.open();
    }

    #[inline]
    pub(crate) fn is_cancelled(&self) -> bool {
        self.progress.is_cancelled()
    }

    /// CPU time of the pacer's thread, once it has ended, and what lanes spun until their intended
    /// starts; `None` where it could be neither clocked nor calibrated.
    pub(crate) fn pacer_cpu_ns(&self) -> Option<u64> {
        self.handover.cpu_ns()
    }

    /// What was counted so far of this worker's lanes and their scheduler.
    pub(crate) fn own_counts(&self) -> OwnCounts {
        let (runtime, ring) = (self.task_threads.usage(), self.rings.usage());
        OwnCounts { runtime, ring, events: self.events.read(), answered: None }
    }

    /// Requests of this worker that the plan asks for, by phase; `None` for what only the run
    /// decides (a closed loop by duration, or its warm-up).
    pub(crate) fn planned(&self, phase: Phase) -> Option<u64> {
        let plan = &self.job.plan;
        let (worker, workers) = (self.job.worker, self.job.workers);
        match (phase, plan.arrivals.is_open(), plan.extent) {
            (Phase::Measured, _, Extent::Requests(n)) => Some(share_of(n, worker, workers)),
            (_, true, _) => Some(self.schedule(phase).count_share(worker, workers)),
            (_, false, _) => None,
        }
    }

    /// The arrivals of a phase of an open loop.
    pub(super) fn schedule(&self, phase: Phase) -> Schedule {
        let (plan, trace) = (&self.job.plan, self.prepared.trace.as_ref());
        match phase {
            Phase::Warmup => Schedule::warmup(plan, trace),
            Phase::Measured => Schedule::window(plan, trace),
        }
    }

    pub(super) fn is_open_loop(&self) -> bool {
        self.job.plan.arrivals.is_open()
    }

    pub(super) fn timeout(&self) -> Duration {
        Duration::from_nanos(self.job.plan.timeout_ns)
    }

    pub(super) fn shard(&self, lane: u32) -> usize {
        lane as usize % self.recorder.shards()
    }

    pub(super) fn route(&self, lane: u32, connection: u32) -> Route<'_> {
        let job = &self.job;
        let target = &job.targets[job.worker as usize % job.targets.len()];
        let total = u64::from(job.cell.lanes) * u64::from(job.workers);
        let route = match job.plan.keep_alive {
            true => Route::new(target, job.worker, lane, total),
            false => Route::rotating(target, job.worker, lane, connection),
        };
        Route { allowed: &job.allowed, ..route }
    }

    /// Claims the next request of a closed loop by its index in the whole trial.
    #[inline]
    pub(super) fn claim(&self, phase: Phase, chunk: &mut Chunk) -> Option<u64> {
        let local = self.claims.next(phase, chunk)?;
        Some(local * u64::from(self.job.workers) + u64::from(self.job.worker))
    }

    #[inline]
    pub(super) fn expects(&self, status: u16) -> bool {
        let expected = &self.job.plan.expect_status;
        if expected.is_empty() { (200..400).contains(&status) } else { expected.contains(&status) }
    }

    #[inline]
    pub(super) fn class(&self, index: u64) -> Option<usize> {
        if self.classes.is_empty() {
            return None;
        }
        self.classes[self.request(index).template as usize]
    }

    /// What became of each named class.
    ///
    /// # Errors
    /// Counts beyond what a histogram holds.
    pub(crate) fn class_uses(&self) -> Result<BTreeMap<String, ClassUse>, HdrError> {
        let names = self.job.plan.classes();
        if names.is_empty() {
            return Ok(BTreeMap::new());
        }
        let (worker, workers) = (self.job.worker, self.job.workers);
        let planned = self.planned(Phase::Measured).map(|planned| {
            let is_open = self.is_open_loop();
            let schedule = is_open.then(|| self.schedule(Phase::Measured).share(worker, workers));
            let arrivals = schedule.into_iter().flatten().map(|arrival| arrival.request);
            let claims = if is_open { 0..0 } else { 0..planned };
            let claims = claims.map(|local| local * u64::from(workers) + u64::from(worker));
            let mut counts = vec![0; names.len()];
            let classes = arrivals.chain(claims).filter_map(|index| self.class(index));
            classes.for_each(|class| counts[class] += 1);
            counts
        });
        let class = |(i, name): (usize, &str)| {
            let planned = planned.as_ref().map(|counts| counts[i]);
            Ok((name.to_string(), self.recorder.class(i, planned)?))
        };
        names.into_iter().enumerate().map(class).collect()
    }

    #[inline]
    pub(super) fn request(&self, index: u64) -> &Rendered {
        &self.prepared.rendered[self.prepared.mix.pick(index)]
    }
}
