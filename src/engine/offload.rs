//! Where the task engines carry out file and compute steps: in the task, on tokio's pool of
//! blocking threads, or on a rayon pool; and how many threads nobody asked for by name that takes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use rayon::{ThreadPool, ThreadPoolBuilder};
use tokio::runtime::Builder;
use tokio::sync::oneshot;

use super::Trial;
use crate::plan::steps::Offload;
use crate::side::usage;
use crate::work::Kit;

/// Threads beside the runtime's workers that steps are carried out on.
#[derive(Default)]
pub(super) struct Hidden {
    /// Alive now, the runtime's workers included.
    alive: AtomicU64,
    peak: AtomicU64,
}

impl Hidden {
    fn started(&self) {
        let alive = self.alive.fetch_add(1, Relaxed) + 1;
        self.peak.fetch_max(alive, Relaxed);
    }

    fn stopped(&self) {
        self.alive.fetch_sub(1, Relaxed);
    }

    /// Most blocking threads at once, where the runtime has `workers`; zero unless counted.
    pub(super) fn blocking_threads(&self, workers: u64) -> u64 {
        self.peak.load(Relaxed).saturating_sub(workers)
    }
}

/// Whether steps leave the task.
fn place(trial: &Trial) -> Offload {
    if trial.work.is_some() { trial.job.cell.offload.unwrap_or_default() } else { Offload::Inline }
}

/// Names and counts tokio's blocking threads where steps go to them. The runtime starts its
/// `workers` first, with the same names and hooks.
pub(super) fn count_blocking(trial: &Arc<Trial>, builder: &mut Builder, workers: u64) {
    if place(trial) != Offload::SpawnBlocking {
        return;
    }
    let named = AtomicU64::new(0);
    let (start, stop) = (trial.clone(), trial.clone());
    builder
        .thread_name_fn(move || {
            let worker = named.fetch_add(1, Relaxed) < workers;
            if worker { "tokio-worker" } else { "tokio-blocking" }.into()
        })
        .on_thread_start(move || start.hidden.started())
        .on_thread_stop(move || {
            stop.hidden.stopped();
            usage::thread_ends();
        });
}

/// The rayon pool, where steps go to one: a thread a CPU of the worker.
pub(super) fn pool(trial: &Trial) -> Result<Option<ThreadPool>, String> {
    if place(trial) != Offload::Rayon {
        return Ok(None);
    }
    let threads = trial.job.cpus.len().max(1);
    ThreadPoolBuilder::new()
        .num_threads(threads)
        .stack_size(trial.job.cell.stack_bytes() as usize)
        .thread_name(|i| format!("offload-{i}"))
        .build()
        .map(Some)
        .map_err(|e| format!("a pool of {threads} threads could not be started: {e}"))
}

/// Carries out one step where the trial says. The kit goes with it and comes back; it is gone
/// only where the runtime is going down.
pub(super) async fn perform(
    trial: &Trial,
    kit: &mut Option<Box<Kit>>,
    (template, number): (usize, usize),
    index: u64,
) -> Result<(), String> {
    let Some(mut own) = kit.take() else { return Err("the step before it never ended".into()) };
    let work = move || {
        let result = own.perform(template, number, index);
        (own, result)
    };
    let done = match (place(trial), trial.pool.get()) {
        (Offload::SpawnBlocking, _) => tokio::task::spawn_blocking(work).await.ok(),
        (Offload::Rayon, Some(pool)) => {
            let (send, done) = oneshot::channel();
            // The receiver is gone only when its lane is.
            pool.spawn_fifo(move || drop(send.send(work())));
            done.await.ok()
        }
        _ => Some(work()),
    };
    let Some((own, result)) = done else { return Err("the thread of the step ended".into()) };
    *kit = Some(own);
    result
}
