//! The threads of the task engines: tokio's runtime, and where file and compute steps are carried
//! out: in the task, on tokio's blocking threads, or on a rayon pool.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use anyhow::Context;
use rayon::{ThreadPool, ThreadPoolBuilder};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::oneshot;

use crate::format::RuntimeUse;
use crate::plan::engine::LaneThreads;
use crate::plan::steps::Offload;
use crate::side::usage;
use crate::work::{Kit, StepAt};

pub(crate) struct TaskThreads {
    place: Offload,
    stack_bytes: usize,
    cpus: usize,
    runtime: OnceLock<Handle>,
    /// Under `offload = "rayon"`.
    pool: OnceLock<ThreadPool>,
    /// Under `offload = "spawn_blocking"`.
    blocking: Arc<BlockingThreads>,
}

const WORKER_THREAD: &str = "tokio-worker";
/// Name of tokio's blocking threads, which tells them from the runtime's workers.
const BLOCKING_THREAD: &str = "tokio-blocking";

/// Counts tokio's blocking threads, which nobody asked for by name.
#[derive(Default)]
struct BlockingThreads {
    alive: AtomicU64,
    peak: AtomicU64,
}

impl BlockingThreads {
    fn is_one() -> bool {
        std::thread::current().name() == Some(BLOCKING_THREAD)
    }

    fn started(&self) {
        if Self::is_one() {
            let alive = self.alive.fetch_add(1, Relaxed) + 1;
            self.peak.fetch_max(alive, Relaxed);
        }
    }

    fn stopped(&self) {
        if Self::is_one() {
            self.alive.fetch_sub(1, Relaxed);
        }
    }
}

impl TaskThreads {
    pub(crate) fn new(place: Offload, stack_bytes: usize, cpus: usize) -> Self {
        TaskThreads {
            place,
            stack_bytes,
            cpus: cpus.max(1),
            runtime: OnceLock::new(),
            pool: OnceLock::new(),
            blocking: Arc::default(),
        }
    }

    /// Builds the runtime, with a worker per CPU or on the caller's thread, and the pool where steps
    /// go to one.
    pub(crate) fn runtime(&self, threads: LaneThreads) -> anyhow::Result<Runtime> {
        let (mut builder, workers) = match threads {
            LaneThreads::PerCpu => (Builder::new_multi_thread(), self.cpus),
            _ => (Builder::new_current_thread(), 0),
        };
        builder
            .worker_threads(self.cpus)
            .enable_io()
            .enable_time()
            .thread_name(WORKER_THREAD)
            .thread_stack_size(self.stack_bytes)
            .on_thread_stop(usage::thread_ends);
        match self.place {
            Offload::Inline => {}
            Offload::SpawnBlocking => self.count_blocking(&mut builder, workers as u64),
            Offload::Rayon => {
                let _ = self.pool.set(pool(self.cpus, self.stack_bytes, "offload")?);
            }
        }
        let runtime = builder.build().context("the tokio runtime could not be built")?;
        let _ = self.runtime.set(runtime.handle().clone());
        Ok(runtime)
    }

    /// Names and counts tokio's blocking threads. The runtime starts its `workers` first, with the
    /// same hooks.
    fn count_blocking(&self, builder: &mut Builder, workers: u64) {
        let (start, stop) = (self.blocking.clone(), self.blocking.clone());
        let named = AtomicU64::new(0);
        builder
            .thread_name_fn(move || {
                let worker = named.fetch_add(1, Relaxed) < workers;
                if worker { WORKER_THREAD } else { BLOCKING_THREAD }.into()
            })
            .on_thread_start(move || start.started())
            .on_thread_stop(move || {
                stop.stopped();
                usage::thread_ends();
            });
    }

    /// What tokio has counted so far; `None` where there is no runtime.
    pub(crate) fn usage(&self) -> Option<RuntimeUse> {
        let metrics = self.runtime.get()?.metrics();
        let workers = 0..metrics.num_workers();
        let busy = |w| metrics.worker_total_busy_duration(w).as_nanos() as u64;
        Some(RuntimeUse {
            workers: workers.len() as u64,
            parks: workers.clone().map(|w| metrics.worker_park_count(w)).sum(),
            busy_ns: workers.map(busy).sum(),
            alive_tasks: metrics.num_alive_tasks() as u64,
            blocking_threads: self.blocking.peak.load(Relaxed),
            pool_threads: self.pool.get().map_or(0, |pool| pool.current_num_threads() as u64),
        })
    }

    /// Carries out one step where the trial says. The kit goes with it and comes back; it is gone
    /// only where the runtime is going down.
    pub(super) async fn perform(
        &self,
        kit: &mut Option<Box<Kit>>,
        step: StepAt,
    ) -> anyhow::Result<()> {
        let mut own = kit.take().context("the step before it never ended")?;
        let work = move || {
            let result = own.perform(step);
            (own, result)
        };
        let (own, result) = self.carry_out(work).await.context("the thread of the step ended")?;
        *kit = Some(own);
        result
    }

    /// Carries out work where the plan says, for a task; `None` where the thread that was to do it is
    /// gone.
    pub(crate) async fn carry_out<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        match (self.place, self.runtime.get(), self.pool.get()) {
            (Offload::SpawnBlocking, Some(blocking), _) => blocking.spawn_blocking(work).await.ok(),
            (Offload::Rayon, _, Some(pool)) => {
                let (send, done) = oneshot::channel();
                // The receiver is gone only when its task is.
                pool.spawn_fifo(move || drop(send.send(work())));
                done.await.ok()
            }
            _ => Some(work()),
        }
    }
}

/// A rayon pool whose threads are called `name` and a number.
pub(crate) fn pool(
    threads: usize,
    stack_bytes: usize,
    name: &'static str,
) -> anyhow::Result<ThreadPool> {
    ThreadPoolBuilder::new()
        .num_threads(threads)
        .stack_size(stack_bytes)
        .thread_name(move |i| format!("{name}-{i}"))
        .build()
        .with_context(|| format!("a pool of {threads} threads could not be started"))
}
