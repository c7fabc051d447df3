//! How lanes are run: five engines over one codec and one recorder.
//!
//! An engine takes a [`Trial`], makes its lanes, connects and parks them, and runs them until the
//! plan is done. It knows no TOML and no paths, computes no statistics, and differs from the
//! others in scheduling alone: [`threads`], [`rayon`] and [`tokio`] are twins around [`lane`].
//!
//! A worker's main thread is the monitor: it runs no lane under any engine, so that it can read
//! the window's edges in the same way for all.

mod claims;
mod gate;
mod heartbeat;
mod lane;
mod offload;
mod pacer;
mod rayon;
mod sequential;
mod steps;
mod threads;
mod tokio;

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use crate::codec::socket::Route;
use crate::codec::tls;
use crate::format::RuntimeUse;
use crate::plan::prepare::Prepared;
use crate::plan::request::{Mix, Rendered};
use crate::plan::schedule::{Schedule, share_of};
use crate::plan::trace::Trace;
use crate::plan::{Engine, Extent};
use crate::protocol::Job;
use crate::side::{Phase, Recorder};
use crate::work::{Kit, Work};
use claims::Claims;
pub use gate::{Gate, Progress};

/// Lanes that connect at once: below the usual backlog of a listening socket, whose overflow would
/// cost a second of retransmission.
const MOST_CONNECTING: u32 = 128;

/// The instants of a trial on CLOCK_MONOTONIC.
#[derive(Debug, Clone, Copy)]
pub struct Phases {
    /// Warm-up begins.
    pub start: u64,
    /// The window begins.
    pub window_start: u64,
    /// The window ends; `u64::MAX` when it ends with the last request.
    pub window_end: u64,
    /// Open loops: a release that has no lane by then stays unsent.
    pub cutoff: u64,
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

/// One request to be sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shot {
    /// Index in the trial's sequence of its phase; decides which entry of the mix is sent.
    pub(crate) index: u64,
    pub(crate) phase: Phase,
    /// Intended start and the instant of the release; `None` in a closed loop.
    pub(crate) release: Option<Release>,
}

/// An open loop's part of a shot: the intended start travels with the request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Release {
    pub(crate) intended: u64,
    pub(crate) released: u64,
    /// When the pacer handed it over: before `intended`, where the hand-over's time is known.
    pub(crate) handed: u64,
}

/// Everything that the lanes of a worker share.
pub struct Trial {
    /// What to do.
    pub job: Job,
    /// What happened.
    pub recorder: Recorder,
    /// Lanes connected, parked and ended.
    pub progress: Progress,
    /// Opens at Start.
    pub start_gate: Gate,
    /// Never opens: threads stay to be counted until the process ends.
    pub exit_gate: Gate,
    tls: Option<tls::Client>,
    mix: Mix,
    rendered: Vec<Rendered>,
    trace: Option<Arc<Trace>>,
    work: Option<Arc<Work>>,
    claims: Claims,
    phases: OnceLock<Phases>,
    cancelled: AtomicBool,
    pacer_cpu_ns: OnceLock<u64>,
    handover: pacer::Handover,
    runtime: OnceLock<::tokio::runtime::RuntimeMetrics>,
    /// Where offloaded steps go, under `offload = "rayon"`.
    pool: OnceLock<::rayon::ThreadPool>,
    hidden: offload::Hidden,
}

impl Trial {
    /// Prepares a trial; makes no lane, runtime, pool or socket.
    pub fn new(job: Job, tls: Option<tls::Client>, prepared: Prepared, recorder: Recorder) -> Self {
        let Prepared { mix, rendered, trace } = prepared;
        let planned = match job.plan.extent {
            Extent::Requests(n) => share_of(n, job.worker, job.workers),
            Extent::DurationNs(_) => u64::MAX,
        };
        Trial {
            claims: Claims::new(planned, job.cell.lanes),
            recorder,
            tls,
            progress: Progress::new(),
            start_gate: Gate::new(),
            exit_gate: Gate::new(),
            mix,
            rendered,
            trace,
            work: None,
            phases: OnceLock::new(),
            cancelled: AtomicBool::new(false),
            pacer_cpu_ns: OnceLock::new(),
            handover: pacer::Handover::default(),
            runtime: OnceLock::new(),
            pool: OnceLock::new(),
            hidden: offload::Hidden::default(),
            job,
        }
    }

    /// Adds what requests do beside HTTP.
    #[must_use]
    pub fn with_work(self, work: Option<Arc<Work>>) -> Self {
        Trial { work, ..self }
    }

    /// What requests do beside HTTP; `None` where they do nothing.
    pub fn work(&self) -> Option<&Arc<Work>> {
        self.work.as_ref()
    }

    /// A lane's part of that.
    fn kit(&self) -> Option<Box<Kit>> {
        self.work.as_ref().map(|work| Box::new(Kit::new(work)))
    }

    /// Sets the instants of the trial, once.
    pub fn set_start(&self, start_at_ns: u64) {
        let _ = self.phases.set(Phases::new(start_at_ns, &self.job));
    }

    /// The instants. Lanes ask after the start gate has opened, when they are set.
    pub fn phases(&self) -> &Phases {
        self.phases.get().expect("lanes run only after the start gate, which follows set_start")
    }

    /// Stops the trial: lanes start no further request and do not wait for their next.
    pub fn cancel(&self) {
        self.cancelled.store(true, Relaxed);
        self.progress.wake();
        self.start_gate.open();
    }

    /// Whether the trial was stopped.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Relaxed)
    }

    /// CPU time of the pacer's thread, once it has ended, and what lanes spun until their intended
    /// starts; `None` where it could be neither clocked nor calibrated.
    pub fn pacer_cpu_ns(&self) -> Option<u64> {
        self.pacer_cpu_ns.get().map(|thread| thread + self.handover.spun_ns())
    }

    /// What tokio has counted so far; `None` under the engines without it.
    pub fn runtime_use(&self) -> Option<RuntimeUse> {
        let metrics = self.runtime.get()?;
        let workers = 0..metrics.num_workers();
        let busy = |w| metrics.worker_total_busy_duration(w).as_nanos() as u64;
        Some(RuntimeUse {
            workers: workers.len() as u64,
            parks: workers.clone().map(|w| metrics.worker_park_count(w)).sum(),
            busy_ns: workers.map(busy).sum(),
            alive_tasks: metrics.num_alive_tasks() as u64,
            blocking_threads: self.hidden.blocking_threads(self.started_workers()),
            pool_threads: self.pool.get().map_or(0, |pool| pool.current_num_threads() as u64),
        })
    }

    /// Threads that tokio starts to run tasks: its current-thread runtime uses the engine's.
    fn started_workers(&self) -> u64 {
        match self.job.cell.engine {
            Engine::Tokio => self.job.cpus.len().max(1) as u64,
            _ => 0,
        }
    }

    /// Requests of this worker that the plan asks for, by phase; `None` for what only the run
    /// decides (a closed loop by duration, or its warm-up).
    pub fn planned(&self, phase: Phase) -> Option<u64> {
        let plan = &self.job.plan;
        let (worker, workers) = (self.job.worker, self.job.workers);
        match (phase, plan.arrivals.is_open(), plan.extent) {
            (Phase::Measured, _, Extent::Requests(n)) => Some(share_of(n, worker, workers)),
            (_, true, _) => Some(self.schedule(phase).count_share(worker, workers)),
            (_, false, _) => None,
        }
    }

    /// The arrivals of a phase of an open loop.
    fn schedule(&self, phase: Phase) -> Schedule {
        let (plan, trace) = (&self.job.plan, self.trace.as_ref());
        match phase {
            Phase::Warmup => Schedule::warmup(plan, trace),
            Phase::Measured => Schedule::window(plan, trace),
        }
    }

    pub(crate) fn is_open_loop(&self) -> bool {
        self.job.plan.arrivals.is_open()
    }

    fn timeout(&self) -> Duration {
        Duration::from_nanos(self.job.plan.timeout_ns)
    }

    fn shard(&self, lane: u32) -> usize {
        lane as usize % self.recorder.shards()
    }

    fn route(&self, lane: u32, connection: u32) -> Route<'_> {
        let job = &self.job;
        let target = &job.targets[job.worker as usize % job.targets.len()];
        if !job.plan.keep_alive {
            let route = Route::rotating(target, job.worker, lane, connection);
            return route.allowing(&job.allowed);
        }
        let total = u64::from(job.cell.lanes) * u64::from(job.workers);
        Route::new(target, job.worker, lane, total).allowing(&job.allowed)
    }

    fn tls(&self) -> Option<&tls::Client> {
        self.tls.as_ref()
    }

    /// Index in the whole trial of this worker's request number `local`.
    fn global_index(&self, local: u64) -> u64 {
        local * u64::from(self.job.workers) + u64::from(self.job.worker)
    }

    fn expects(&self, status: u16) -> bool {
        let expected = &self.job.plan.expect_status;
        if expected.is_empty() { (200..400).contains(&status) } else { expected.contains(&status) }
    }

    fn request(&self, index: u64) -> &Rendered {
        &self.rendered[self.mix.pick(index)]
    }

    /// Name of lane threads, short enough for the kernel's 15 characters.
    fn thread_name(&self, lane: u32) -> String {
        format!("lane-{lane}")
    }
}

/// Builds the engine and runs it from Go to the last lane's end.
///
/// Returns when every lane has ended. Set-up errors are told to [`Progress`], which the monitor
/// watches; nothing here panics for want of a thread.
pub fn run(trial: &Arc<Trial>) -> Result<(), String> {
    match trial.job.cell.engine {
        Engine::Sequential => sequential::run(trial),
        Engine::Threads => threads::run(trial),
        Engine::Rayon => rayon::run(trial),
        Engine::Tokio => tokio::run_multi_thread(trial),
        Engine::TokioSingle => tokio::run_current_thread(trial),
    }
}
