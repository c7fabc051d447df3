//! What every server engine does with a request, and the counters of what it did.
//!
//! The handler is written once, as a future. Under a blocking engine its [`Runner`] blocks the
//! calling thread, so that the future never pends there; under tokio it is a part of the
//! connection's task.

use std::future::Future;
use std::hint::black_box;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use sha2::{Digest, Sha256};

use super::laws;
use super::request::Persistence;
use super::response::{Answers, Kind, body_byte};
use super::{TargetJob, TargetReport};
use crate::plan::server::{ServerPlan, ServerStep};
use crate::plan::target::EmbeddedTarget;
use crate::sys::{MonotonicNs, now_ns, process_cpu_ns};

/// Bytes that are hashed at a time: they stay in a core's cache.
const HASHED_BYTES: usize = 64 << 10;

/// Where a handler waits and works: on its own thread, or as a part of a task.
pub(super) trait Runner: Clone + Send + Sync + 'static {
    /// Waits for an instant.
    fn until(&self, at: MonotonicNs) -> impl Future<Output = ()> + Send;

    /// Carries out work that occupies a CPU, or a thread, until it is done.
    fn work(&self, work: impl FnOnce() + Send + 'static) -> impl Future<Output = ()> + Send;
}

/// The handler of a server, which all of its connections share.
pub(super) struct Handler {
    spec: EmbeddedTarget,
    seed: u64,
    pub(super) plan: ServerPlan,
    /// CPUs of the server: the workers of runtimes and of rayon's pool.
    pub(super) cpus: usize,
    pub(super) answers: Answers,
    /// The instant that stalls count from; zero before it is known.
    start_at_ns: AtomicU64,
    counts: Counts,
    /// The first thing that the engine could not do.
    trouble: OnceLock<String>,
}

#[derive(Default)]
struct Counts {
    received: AtomicU64,
    answered: AtomicU64,
    connections: AtomicU64,
    refused: AtomicU64,
    service_ns: AtomicU64,
    residence_ns: AtomicU64,
}

impl Handler {
    pub(super) fn new(job: &TargetJob, plan: ServerPlan) -> Handler {
        let cpus = match job.cpus.len() {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            n => n,
        };
        Handler {
            spec: job.spec.clone(),
            seed: job.seed,
            plan,
            cpus,
            answers: Answers::new(job.spec.body_bytes),
            start_at_ns: AtomicU64::new(0),
            counts: Counts::default(),
            trouble: OnceLock::new(),
        }
    }

    /// Does what a request asks for; returns how it is answered. `received_ns` is when it was whole.
    pub(super) async fn serve<R: Runner>(
        &self,
        runner: &R,
        received_ns: MonotonicNs,
        head_only: bool,
        persistence: Persistence,
    ) -> Kind {
        let number = self.counts.received.fetch_add(1, Relaxed);
        if self.plan.setting.steps.is_empty() {
            let service_ns = self.drawn(laws::draw(&self.spec.service_time, self.seed, number));
            if service_ns > 0 {
                runner.until(received_ns.saturating_add(service_ns)).await;
            }
        }
        for (at, step) in self.plan.setting.steps.iter().enumerate() {
            match step {
                ServerStep::Wait { time } => {
                    // Each step draws from a stream of its own, the first from the reference's.
                    let seed = self.seed ^ (at as u64).rotate_right(16);
                    let wait_ns = self.drawn(laws::draw(time, seed, number));
                    runner.until(now_ns().saturating_add(wait_ns)).await;
                }
                ServerStep::Compute { bytes } => {
                    let bytes = *bytes;
                    runner.work(move || hash(bytes, number)).await;
                }
            }
        }
        let released = self.after_stall(now_ns());
        if released > now_ns() {
            runner.until(released).await;
        }
        let spent = now_ns().saturating_sub(received_ns);
        self.counts.residence_ns.fetch_add(spent, Relaxed);
        Kind::of(laws::fault(&self.spec.faults, self.seed, number), head_only, persistence)
    }

    pub(super) fn body_bytes(&self) -> u64 {
        self.spec.body_bytes
    }

    fn drawn(&self, ns: u64) -> u64 {
        self.counts.service_ns.fetch_add(ns, Relaxed);
        ns
    }

    /// The first instant from `at_ns` on at which response bytes may leave.
    pub(super) fn after_stall(&self, at_ns: MonotonicNs) -> MonotonicNs {
        match (self.spec.faults.stall, self.start_at_ns.load(Relaxed)) {
            (Some(stall), start) if start > 0 => laws::after_stall(&stall, start, at_ns),
            _ => at_ns,
        }
    }

    /// Stalls count from here.
    pub(super) fn start_at(&self, at_ns: MonotonicNs) {
        self.start_at_ns.store(at_ns, Relaxed);
    }

    pub(super) fn accepted(&self) {
        self.counts.connections.fetch_add(1, Relaxed);
    }

    /// Counts an answer just before its last byte is written, so that a client that has it finds it
    /// counted; taken back with `false` where the write fails.
    pub(super) fn answered(&self, whole: bool) {
        match whole {
            true => self.counts.answered.fetch_add(1, Relaxed),
            false => self.counts.answered.fetch_sub(1, Relaxed),
        };
    }

    /// Keeps the first thing that the engine could not do; `refused` connections went with it.
    pub(super) fn trouble(&self, refused: u64, why: impl FnOnce() -> String) {
        self.counts.refused.fetch_add(refused, Relaxed);
        self.trouble.get_or_init(why);
    }

    pub(super) fn report(&self) -> TargetReport {
        let counts = &self.counts;
        TargetReport {
            received: counts.received.load(Relaxed),
            answered: counts.answered.load(Relaxed),
            connections: counts.connections.load(Relaxed),
            cpu_ns: process_cpu_ns(),
            service_ns_total: counts.service_ns.load(Relaxed),
            residence_ns_total: Some(counts.residence_ns.load(Relaxed)),
            refused: counts.refused.load(Relaxed),
            trouble: self.trouble.get().cloned(),
            ..TargetReport::default()
        }
    }
}

fn hash(bytes: u64, number: u64) {
    static TEXT: OnceLock<Vec<u8>> = OnceLock::new();
    let text = TEXT.get_or_init(|| (0..HASHED_BYTES as u64).map(body_byte).collect());
    let mut hash = Sha256::new();
    // So that no two requests compute the same.
    hash.update(number.to_le_bytes());
    let mut left = bytes;
    while left > 0 {
        let length = left.min(text.len() as u64);
        hash.update(&text[..length as usize]);
        left -= length;
    }
    black_box(hash.finalize());
}
