//! What every server engine does with a request, and the counters of what it did.
//!
//! The handler is written once, as a future. Under a blocking engine its [`Runner`] blocks the
//! calling thread, so that the future never pends there; under tokio and on a ring it is a part of the
//! connection's task.

use std::future::Future;
use std::slice::from_ref;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tokio::sync::Semaphore;

use super::laws;
use super::upstream::Upstream;
use super::{TargetJob, TargetReport};
use crate::codec::Failure;
use crate::codec::serve::Service;
use crate::codec::serve::answers::{AnswerKind, Answers};
use crate::codec::serve::request::Persistence;
use crate::codec::stream::{Accepted, Socket};
use crate::codec::tls::Acceptor;
use crate::engine::offload::TaskThreads;
use crate::engine::rings::RingCounts;
use crate::plan::server::{ServerPlan, ServerStep};
use crate::plan::target::EmbeddedTarget;
use crate::side::events::EventsOf;
use crate::side::own_counts::OwnCounts;
use crate::sys::{MonotonicNs, now_ns, process_cpu_ns};
use crate::work::{Kit, StepAt, Work};

/// Where a handler waits and works: on its own thread, or as a part of a task.
pub(super) trait Runner: Clone + Unpin + Send + Sync + 'static {
    /// Waits for an instant.
    fn until(&self, at: MonotonicNs) -> impl Future<Output = ()> + Send;

    /// Carries out work that occupies a CPU, or a thread, until it is done; `None` where the thread
    /// that was to do it is gone.
    fn work<T: Send + 'static>(
        &self,
        handler: &Handler,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> impl Future<Output = Option<T>> + Send;

    /// Makes so many calls, and waits until all are answered.
    fn call(
        &self,
        upstream: &Arc<Upstream>,
        calls: u32,
    ) -> impl Future<Output = Result<(), Failure>> + Send;
}

/// Where file and compute steps are carried out: what the client's lanes have one each of, handlers
/// share.
struct Bench {
    work: Arc<Work>,
    free: Mutex<Vec<Kit>>,
}

impl Bench {
    fn perform(&self, step: usize, request: u64) -> anyhow::Result<()> {
        let free = || self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let kit = free().pop();
        let mut kit = kit.unwrap_or_else(|| Kit::new(&self.work));
        let done = kit.perform(StepAt { template: 0, number: step, index: request });
        free().push(kit);
        done
    }
}

/// The handler of a server, which all of its connections share.
pub(super) struct Handler {
    spec: EmbeddedTarget,
    seed: u64,
    pub(super) plan: ServerPlan,
    /// CPUs of the server: the workers of runtimes and of rayon's pool.
    pub(super) cpus: usize,
    answers: Answers,
    /// Where connections are encrypted.
    acceptor: Option<Acceptor>,
    /// Where there are `call` steps.
    upstream: Option<Arc<Upstream>>,
    /// Where there are file or compute steps.
    bench: Option<Arc<Bench>>,
    /// Of the engines that have a runtime, or threads to hand work to.
    pub(super) threads: TaskThreads,
    permits: Option<Semaphore>,
    pub(super) rings: RingCounts,
    /// Opened where the job asks for them, by the engine's thread.
    pub(super) events: EventsOf,
    /// The instant that stalls count from; zero before it is known.
    start_at_ns: AtomicU64,
    counts: Handled,
    /// The first thing that the engine could not do.
    trouble: OnceLock<String>,
}

#[derive(Default)]
struct Handled {
    received: AtomicU64,
    answered: AtomicU64,
    connections: AtomicU64,
    refused: AtomicU64,
    service_ns: AtomicU64,
    residence_ns: AtomicU64,
}

impl Handler {
    /// Makes the files of its steps.
    pub(super) fn new(job: &TargetJob, plan: ServerPlan) -> anyhow::Result<Handler> {
        let cpus = match job.cpus.len() {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            n => n,
        };
        let work = match plan.setting.has_local_work() {
            true => {
                let name = job.files.clone().unwrap_or_else(crate::work::files::new_name);
                Work::prepare(from_ref(&plan.setting.local_work()), &name)?
            }
            false => None,
        };
        let upstream = job.upstream.clone().zip(plan.setting.upstream.as_ref());
        let upstream = upstream.map(|(at, upstream)| Upstream::new(at, upstream, &plan));
        Ok(Handler {
            spec: job.spec.clone(),
            seed: job.seed,
            cpus,
            answers: Answers::new(job.spec.body_bytes),
            acceptor: plan.setting.tls.then(Acceptor::new).transpose()?,
            upstream: upstream.transpose()?.map(Arc::new),
            bench: work.map(|work| Arc::new(Bench { work, free: Mutex::default() })),
            threads: TaskThreads::new(plan.offload, plan.setting.stack_bytes as usize, cpus),
            permits: plan.setting.permits.map(|n| Semaphore::new(n as usize)),
            rings: RingCounts::default(),
            events: EventsOf::default(),
            start_at_ns: AtomicU64::new(0),
            counts: Handled::default(),
            trouble: OnceLock::new(),
            plan,
        })
    }

    /// The certificate that it shows; `None` where it speaks plain HTTP.
    pub(super) fn certificate(&self) -> Option<String> {
        self.acceptor.as_ref().map(|acceptor| acceptor.pem.clone())
    }

    /// Removes its files: the process ends, and with it the threads that hold them.
    pub(super) fn close(&self) {
        self.bench.iter().for_each(|bench| bench.work.remove());
    }

    /// Does what a request asks for; returns how it is answered. `received_ns` is when it was whole.
    async fn serve<R: Runner>(
        &self,
        runner: &R,
        received_ns: MonotonicNs,
        head_only: bool,
        persistence: Persistence,
    ) -> AnswerKind {
        let number = self.counts.received.fetch_add(1, Relaxed);
        if self.plan.setting.steps.is_empty() {
            let service_ns = self.drawn(laws::draw(&self.spec.service_time, self.seed, number));
            if service_ns > 0 {
                runner.until(received_ns.saturating_add(service_ns)).await;
            }
        }
        let mut fault = laws::fault(&self.spec.faults, self.seed, number);
        for at in 0..self.plan.setting.steps.len() {
            if let Err(why) = self.step(runner, at, number).await {
                // What a service answers whose own work fails.
                fault = laws::InjectedFault::Error;
                // Too slow an upstream is a matter of load; anything else is none of the engine's.
                if let Some(why) = why {
                    self.trouble(0, || why);
                }
                break;
            }
        }
        self.hold(runner).await;
        let spent = now_ns().saturating_sub(received_ns);
        self.counts.residence_ns.fetch_add(spent, Relaxed);
        fault.answer(head_only, persistence)
    }

    /// Carries out a step for a request; an error without words is a call that took too long.
    async fn step<R: Runner>(
        &self,
        runner: &R,
        at: usize,
        number: u64,
    ) -> Result<(), Option<String>> {
        match (&self.plan.setting.steps[at], &self.upstream, &self.bench) {
            (ServerStep::Wait { time }, ..) => {
                // Each step draws from a stream of its own, the first from the reference's.
                let seed = self.seed ^ (at as u64).rotate_right(16);
                let wait_ns = self.drawn(laws::draw(time, seed, number));
                runner.until(now_ns().saturating_add(wait_ns)).await;
                Ok(())
            }
            (ServerStep::Call { calls }, Some(upstream), _) => {
                // Boxed, so that connections between two requests do not carry its state.
                let ended = Box::pin(runner.call(upstream, *calls)).await;
                ended.map_err(|failure| match failure {
                    Failure::TimedOut => None,
                    Failure::Unanswered { kind, message } | Failure::Error { kind, message } => {
                        let kind = kind.name();
                        Some(format!("a call to the upstream failed: {kind} error: {message}"))
                    }
                })
            }
            (ServerStep::Compute { .. } | ServerStep::File(_), _, Some(bench)) => {
                let bench = bench.clone();
                let done = runner.work(self, move || bench.perform(at, number)).await;
                let done = done.unwrap_or_else(|| Err(anyhow::anyhow!("its thread is gone")));
                done.map_err(|why| Some(format!("a step of the handler failed: {why:#}")))
            }
            _ => Err(Some("a step of the handler has nothing to work with".into())),
        }
    }

    fn drawn(&self, ns: u64) -> u64 {
        self.counts.service_ns.fetch_add(ns, Relaxed);
        ns
    }

    /// Waits for the end of a stall.
    async fn hold(&self, runner: &impl Runner) {
        if let (Some(stall), start @ 1..) = (self.spec.faults.stall, self.start_at_ns.load(Relaxed))
        {
            let released = laws::after_stall(&stall, start, now_ns());
            if released > now_ns() {
                runner.until(released).await;
            }
        }
    }

    pub(super) fn start_at(&self, at_ns: MonotonicNs) {
        self.start_at_ns.store(at_ns, Relaxed);
    }

    pub(super) fn accepted(&self) {
        self.counts.connections.fetch_add(1, Relaxed);
    }

    /// Carries out work of a task where the plan says; `None` where the thread that was to do it is gone.
    pub(super) async fn work_elsewhere<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        // The semaphore is never closed.
        let _permit = match &self.permits {
            Some(permits) => permits.acquire().await.ok(),
            None => None,
        };
        self.threads.carry_out(work).await
    }

    /// What was counted so far of the engine.
    pub(super) fn own_counts(&self) -> OwnCounts {
        let ring = self.rings.usage();
        // A runtime beside rings runs no task.
        let runtime = self.threads.usage().filter(|_| ring.is_none());
        let answered = Some(self.counts.answered.load(Relaxed));
        OwnCounts { runtime, ring, events: self.events.read(), answered }
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

/// The handler, under an engine.
#[derive(Clone)]
pub(super) struct Desk<R>(pub(super) Arc<Handler>, pub(super) R);

impl<R: Runner> Service for Desk<R> {
    fn stream<S: Socket>(&self, socket: S) -> Option<Accepted<S>> {
        let stream = Accepted::accept(socket, self.0.acceptor.as_ref());
        let told = |e: &std::io::Error| self.0.trouble(1, || format!("TLS could not begin: {e}"));
        stream.inspect_err(told).ok()
    }

    fn answers(&self) -> &Answers {
        &self.0.answers
    }

    fn answered(&self, whole: bool) {
        match whole {
            true => self.0.counts.answered.fetch_add(1, Relaxed),
            false => self.0.counts.answered.fetch_sub(1, Relaxed),
        };
    }

    fn serve(
        &self,
        received_ns: MonotonicNs,
        head_only: bool,
        persistence: Persistence,
    ) -> impl Future<Output = AnswerKind> + Send {
        self.0.serve(&self.1, received_ns, head_only, persistence)
    }

    fn hold(&self) -> impl Future<Output = ()> + Send {
        self.0.hold(&self.1)
    }
}
