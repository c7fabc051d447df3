//! `duel worker`: the child that runs one trial; the other end of [`crate::protocol`].
//!
//! The main thread is the monitor: it runs no lane, reads the window's edges and answers the
//! driver. A second thread reads standard input, whose end means *cancel*. Both exist before the
//! baseline is read.

use std::collections::BTreeMap;
use std::io::{BufReader, stdin, stdout};
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, OnceLock};

use anyhow::{Context, bail};

use crate::codec::tls;
use crate::engine::{self, Trial};
use crate::plan::Extent;
use crate::plan::prepare::prepare;
use crate::protocol::{Armed, Frame, FrameError, Job, Outcome, PROTOCOL_VERSION, Ready};
use crate::record::counters::{Counters, Counts};
use crate::record::events::{self, Reading as EventReading};
use crate::record::split::{AllocatorUse, HeapUse};
use crate::record::usage::{Edge, MachineTime, ProcessUse, Usage, reset_hwm};
use crate::record::{Channel, Phase, Recorder, latency};
use crate::results::format::{Events, Ledger, Memory, MinMax, RuntimeUse, Switches};
use crate::sys::{now_ns, sleep_until_ns};
use crate::work::{Work, files};

/// More shards than this gain nothing: they only cost memory and time to merge.
const MOST_SHARDS: usize = 16;
/// From a Start without an instant, as people send it by hand, to the start.
const BY_HAND_LEAD_NS: u64 = 5_000_000;
/// How often the monitor looks whether half of the requests have ended.
const LOOK_NS: u64 = 20_000_000;
/// How long lanes may take to end after a cancel before what they do is counted as timed out.
const CANCEL_GRACE_NS: u64 = 100_000_000;

/// Runs one trial by the frames on standard input and output.
pub fn run() -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("duel worker: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn serve() -> anyhow::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .context("cannot ask to be killed together with the driver")?;
    let running: Arc<OnceLock<Arc<Trial>>> = Arc::default();
    let frames = read_frames(running.clone())?;
    let Frame::Job(job) = next(&frames)? else { bail!("the first frame must be a job") };
    let prepared = Prepare::new(job)?;
    let trial = prepared.trial.clone();
    let _ = running.set(trial.clone());
    send(&Frame::Ready(prepared.ready))?;

    let Frame::Go(_) = next(&frames)? else { bail!("a job is followed by go") };
    let counted = OpenEvents::default();
    let armed = match prepared.unmade {
        Some(why) => unarmed(why),
        None => set_up(&trial, &counted),
    };
    let failed = armed.error.is_some();
    if failed {
        remove_files(&trial);
    }
    send(&Frame::Armed(armed))?;
    if failed {
        // Lanes may still be waiting for one another; the process ends them all.
        std::process::exit(0);
    }

    let Frame::Start(start) = next(&frames)? else { bail!("armed is followed by start") };
    let at_ns = if start.at_ns == 0 { now_ns() + BY_HAND_LEAD_NS } else { start.at_ns };
    let mut outcome = Monitor::new(&trial, prepared.baseline, prepared.heap, counted).watch(at_ns);
    if let Some(why) = prepared.unreset {
        let why = format!("an upper bound, counted from the start of the process: {why}");
        outcome.unavailable.insert("memory.peak_rss_bytes".into(), why);
    }
    remove_files(&trial);
    send(&Frame::Outcome(outcome))?;
    // Thousands of parked threads need no farewell.
    std::process::exit(0)
}

/// Reads frames on a thread of its own, so that the end of standard input is seen at any time.
fn read_frames(
    running: Arc<OnceLock<Arc<Trial>>>,
) -> anyhow::Result<Receiver<Result<Frame, FrameError>>> {
    let (sender, receiver) = channel();
    std::thread::Builder::new()
        .name("frames".into())
        .spawn(move || {
            let mut input = BufReader::new(stdin().lock());
            loop {
                let frame = Frame::read_from(&mut input);
                let last = frame.is_err();
                // The receiver is gone only when the process is ending.
                let _ = sender.send(frame);
                if last {
                    if let Some(trial) = running.get() {
                        trial.cancel();
                    }
                    return;
                }
            }
        })
        .context("cannot start the thread that reads frames")?;
    Ok(receiver)
}

fn next(frames: &Receiver<Result<Frame, FrameError>>) -> anyhow::Result<Frame> {
    Ok(frames.recv().context("the reading thread ended")??)
}

fn send(frame: &Frame) -> anyhow::Result<()> {
    frame.write_to(&mut stdout().lock()).with_context(|| format!("cannot send {}", frame.name()))
}

/// What stands before the baseline: the plan rendered, the recorder made and touched.
struct Prepare {
    trial: Arc<Trial>,
    ready: Ready,
    baseline: ProcessUse,
    heap: Option<HeapUse>,
    /// Why the high-water mark could not be reset, where it could not.
    unreset: Option<String>,
    /// Why the files of file steps could not be made, where they could not.
    unmade: Option<String>,
    /// Keeps the descriptor open that the driver maps.
    _counters: OwnedFd,
}

impl Prepare {
    fn new(job: Job) -> anyhow::Result<Self> {
        set_affinity(&job.cpus)?;
        crate::driver::limits::raise_nofile().context("cannot raise the limit of descriptors")?;
        let prepared = prepare(&job.plan)?;
        let shards = job.cpus.len().clamp(1, MOST_SHARDS);
        let (counters, fd) =
            Counters::create(shards).context("cannot make the page of counters")?;
        let mut recorder = Recorder::new(shards, job.plan.arrivals.is_open(), counters);
        let tls = job.tls.as_ref().map(tls::Client::new).transpose().map_err(anyhow::Error::msg)?;
        if tls.is_some() {
            recorder = recorder.with(&[Channel::Handshake]);
        }
        let (work, unmade) = make_work(&job);
        if work.is_some() {
            let steps = [Channel::HttpStep, Channel::FileStep, Channel::ComputeStep];
            recorder = recorder.with(&steps);
        }
        if job.plan.heartbeat {
            recorder = recorder.with(&[Channel::Heartbeat]);
        }
        let trial = Arc::new(Trial::new(job, tls, prepared, recorder).with_work(work));
        let unreset = reset_hwm().err();
        let baseline = ProcessUse::read().map_err(anyhow::Error::msg)?;
        let heap = trial.job.memory.then(|| HeapUse {
            ready: AllocatorUse::read(trial.job.foreign_allocator),
            plateau: None,
        });
        let ready = Ready {
            version: PROTOCOL_VERSION,
            pid: std::process::id(),
            counters_fd: fd.as_raw_fd(),
            shards: shards as u32,
            baseline_rss_bytes: baseline.rss_bytes,
        };
        Ok(Prepare { trial, ready, baseline, heap, unreset, unmade, _counters: fd })
    }
}

/// Makes what file and compute steps need; a directory that cannot be written fails the trial, not
/// the worker, so that its row says why.
fn make_work(job: &Job) -> (Option<Arc<Work>>, Option<String>) {
    if !job.plan.has_local_steps() {
        return (None, None);
    }
    // A file that grows beyond a limit is a request's failure and not the worker's end.
    let _ = signal_hook::flag::register(signal_hook::consts::SIGXFSZ, Arc::default());
    let name = job.files.clone().unwrap_or_else(files::new_name);
    match Work::prepare(&job.plan, &files::worker_name(&name, job.worker)) {
        Ok(work) => (work, None),
        Err(why) => (None, Some(why)),
    }
}

fn remove_files(trial: &Trial) {
    if let Some(work) = trial.work() {
        work.remove();
    }
}

/// The answer where nothing can be set up.
fn unarmed(why: String) -> Armed {
    let rss_bytes = ProcessUse::read().map_or(0, |u| u.rss_bytes);
    Armed { version: PROTOCOL_VERSION, setup_ns: 0, connected: 0, rss_bytes, error: Some(why) }
}

fn set_affinity(cpus: &[u32]) -> anyhow::Result<()> {
    if cpus.is_empty() {
        return Ok(());
    }
    let mut set = rustix::thread::CpuSet::new();
    for cpu in cpus {
        set.set(*cpu as usize);
    }
    rustix::thread::sched_setaffinity(None, &set)
        .with_context(|| format!("cannot run on CPUs {cpus:?}"))
}

/// The counters that the engine's thread opened, where the job asks for them.
type OpenEvents = Arc<OnceLock<Mutex<events::Counters>>>;

/// Go → Armed: starts the engine on a thread of its own and waits for its lanes.
fn set_up(trial: &Arc<Trial>, counted: &OpenEvents) -> Armed {
    let begun = now_ns();
    let engine = {
        let (trial, counted) = (trial.clone(), counted.clone());
        std::thread::Builder::new().name("engine".into()).spawn(move || {
            if trial.job.count_events {
                // Here, since whatever this thread starts inherits them, and nothing else does.
                let _ = counted.set(Mutex::new(events::Counters::open()));
            }
            if let Err(error) = engine::run(&trial) {
                trial.progress.fail(error);
            }
        })
    };
    if let Err(e) = engine {
        trial.progress.fail(format!("the engine's thread could not be started: {e}"));
    }
    let limit = trial.job.setup_limit_ns;
    let set_up = trial.progress.wait_armed(begun + limit, || trial.is_cancelled());
    let setup_ns = now_ns() - begun;
    let late = || {
        (setup_ns >= limit).then(|| {
            format!(
                "set-up took longer than {}: {} of {} lanes were connected",
                crate::units::duration_literal(limit),
                set_up.connected,
                trial.job.lanes,
            )
        })
    };
    let error = set_up.error.clone().or_else(late);
    Armed {
        version: PROTOCOL_VERSION,
        setup_ns,
        connected: set_up.connected,
        rss_bytes: ProcessUse::read().map_or(0, |u| u.rss_bytes),
        error,
    }
}

/// Watches a trial from Start to its last request.
struct Monitor<'t> {
    trial: &'t Trial,
    baseline: ProcessUse,
    seen: Vec<ProcessUse>,
    plateau: Option<ProcessUse>,
    started_at: u64,
    counted: OpenEvents,
    /// Only where the job asks for memory to be split.
    heap: Option<HeapUse>,
}

/// One edge of the window.
struct Reading {
    usage: Usage,
    ended: u64,
    at: u64,
    /// The monitor's own switches and faults, which no lane caused.
    own: (Switches, Events),
    /// What the kernel counted for the lanes.
    events: EventReading,
    runtime: Option<RuntimeUse>,
}

impl<'t> Monitor<'t> {
    fn new(
        trial: &'t Trial,
        baseline: ProcessUse,
        heap: Option<HeapUse>,
        counted: OpenEvents,
    ) -> Self {
        let seen = ProcessUse::read().into_iter().collect();
        Monitor { trial, baseline, seen, plateau: None, started_at: 0, counted, heap }
    }

    fn read_events(&self) -> EventReading {
        match self.counted.get() {
            // A thread that panicked while it read has left the counters as they were.
            Some(open) => open.lock().unwrap_or_else(std::sync::PoisonError::into_inner).read(),
            None => EventReading::none(
                "counting costs a thread a part of its CPU: see the trials labelled `syscalls` \
                 ([sweep] syscalls = true)",
            ),
        }
    }

    fn read(&self, edge: Edge) -> Reading {
        let counters = self.trial.recorder.counters();
        let ended =
            || counters.read(Phase::Warmup).ended() + counters.read(Phase::Measured).ended();
        let usage = || match self.trial.job.count_events {
            true => Usage::read_every_wait(edge),
            false => Usage::read(edge),
        };
        let runtime = self.trial.runtime_use();
        // What is divided by `ended` is read next to it.
        match edge {
            Edge::Start => {
                let usage = usage();
                let events = self.read_events();
                Reading { usage, events, ended: ended(), at: now_ns(), own: Usage::own(), runtime }
            }
            Edge::End => {
                let (ended, at) = (ended(), now_ns());
                // Nothing is read, and no time passes, in a trial that counts no events.
                let events = self.read_events();
                Reading { usage: usage(), events, ended, at, own: Usage::own(), runtime }
            }
        }
    }

    fn watch(mut self, start: u64) -> Outcome {
        let trial = self.trial;
        trial.set_start(start);
        let phases = *trial.phases();
        let stop = || trial.is_cancelled();
        // Without a warm-up the edge is read while lanes are still parked and cost nothing.
        let early = (phases.window_start == start).then(|| self.read(Edge::Start));
        sleep_until_ns(start);
        self.started_at = now_ns();
        // Without requests to send the lanes stay parked, as they were at Armed.
        let idle = trial.job.plan.is_idle();
        if !idle {
            trial.start_gate.open();
        }
        let first = early.unwrap_or_else(|| {
            trial.progress.wait_until(phases.window_start, stop);
            self.read(Edge::Start)
        });
        let window_end = match trial.job.plan.extent {
            Extent::DurationNs(ns) => {
                trial.progress.wait_until(phases.window_start + ns / 2, stop);
                self.see_plateau();
                trial.progress.wait_until(phases.window_end, stop);
                phases.window_end
            }
            Extent::Requests(_) => {
                self.wait_for_requests();
                trial.recorder.last_end().max(phases.window_start)
            }
        };
        let last = self.read(Edge::End);
        if idle {
            // Lanes find the window over and end without a request.
            trial.start_gate.open();
        }
        if !trial.is_cancelled() {
            trial.progress.wait_end(u64::MAX, stop);
        }
        if trial.is_cancelled() {
            trial.progress.wait_end(now_ns() + CANCEL_GRACE_NS, || false);
        }
        self.see();
        let window = (phases.window_start, window_end.min(now_ns()));
        self.outcome(window, &first, &last)
    }

    /// Waits for the last request; reads the plateau when half of the requests have ended.
    fn wait_for_requests(&mut self) {
        let trial = self.trial;
        let half = trial.planned(Phase::Measured).unwrap_or(0) / 2;
        while !trial.is_cancelled() {
            let ended = trial.progress.wait_end(now_ns() + LOOK_NS, || trial.is_cancelled());
            if self.plateau.is_none()
                && trial.recorder.counters().read(Phase::Measured).ended() >= half
            {
                self.see_plateau();
            }
            if ended {
                return;
            }
            if self.plateau.is_some() {
                trial.progress.wait_end(u64::MAX, || trial.is_cancelled());
                return;
            }
        }
    }

    fn see(&mut self) {
        self.seen.extend(ProcessUse::read());
    }

    fn see_plateau(&mut self) {
        if let Some(heap) = &mut self.heap {
            heap.plateau = Some(AllocatorUse::read(self.trial.job.foreign_allocator));
        }
        self.plateau = ProcessUse::read().ok();
        self.seen.extend(self.plateau);
    }

    fn ledger(&self, phase: Phase, counts: Counts) -> Ledger {
        counts.ledger(self.trial.planned(phase).unwrap_or(counts.started).max(counts.started))
    }

    fn outcome(&self, window: (u64, u64), first: &Reading, last: &Reading) -> Outcome {
        let trial = self.trial;
        let recorder = &trial.recorder;
        let counters = recorder.counters();
        // One reading of the errors, before the counters, decides the ledger: it balances even
        // while lanes of an interrupted trial still run.
        let errors = recorder.errors();
        let counts = Counts { failed: errors.total(), ..counters.read(Phase::Measured) };
        let (min, max) = recorder.served_range();
        let spent = last.usage.since(&first.usage);
        let mut unavailable = spent.unavailable;
        let ended = last.ended.saturating_sub(first.ended);
        let mut cpu = spent.cpu;
        cpu.per_request_ns = if ended > 0 { cpu.total_ns as f64 / ended as f64 } else { 0.0 };
        cpu.pacer_ns = trial.pacer_cpu_ns();
        if trial.job.plan.arrivals.is_open() && cpu.pacer_ns.is_none() {
            let why = "the engine's own timer paced, too rarely to be calibrated at set-up";
            unavailable.insert("cpu.pacer_ns".into(), why.into());
        }
        Outcome {
            version: PROTOCOL_VERSION,
            interrupted: trial.is_cancelled(),
            ledger: self.ledger(Phase::Measured, counts),
            warmup: self.ledger(Phase::Warmup, counters.read(Phase::Warmup)),
            errors,
            bytes: recorder.bytes(),
            reconnects: recorder.reconnects(),
            tls: recorder.tls().map(str::to_string),
            requests_per_lane: MinMax { min, max },
            window_start_ns: window.0,
            window_end_ns: window.1,
            started_at_ns: self.started_at,
            completed_in_window: counts.completed - recorder.completed_late().min(counts.completed),
            started_in_window: counts.started - recorder.started_late().min(counts.started),
            ended_between_edges: ended,
            edges_ns: last.at.saturating_sub(first.at),
            cpus_idle_ns: spent.machine.as_ref().and_then(|m| self.idle_ns(m)),
            steal_ns: spent.machine.as_ref().map(|m| m.steal_ns),
            machine_cpus: spent
                .machine
                .as_ref()
                .map_or(0, |m| m.cpu_idle_ns.iter().flatten().count() as u32),
            in_service_ns: recorder.in_service_ns(),
            histograms: recorder
                .histograms()
                .iter()
                .map(|(name, histogram)| (name.clone(), latency::encode(histogram)))
                .collect(),
            cpu,
            switches: Switches {
                voluntary: without(first, last, spent.switches.voluntary, |r| r.own.0.voluntary),
                involuntary: without(first, last, spent.switches.involuntary, |r| {
                    r.own.0.involuntary
                }),
                migrations: self.migrations(first, last, &mut unavailable),
            },
            events: counted_events(first, last, spent.events, ended, &mut unavailable),
            runtime: runtime_use(first, last),
            memory: self.memory(&mut unavailable),
            threads_peak: self.seen.iter().map(|u| u.threads).max().unwrap_or(0),
            fds_peak: self.seen.iter().filter_map(|u| u.fds).max().unwrap_or(0),
            unavailable,
            error_samples: recorder.error_samples(),
            heap: self.heap,
        }
    }

    /// Moves between CPUs: none where there is one CPU to be on; else as counted.
    fn migrations(
        &self,
        first: &Reading,
        last: &Reading,
        unavailable: &mut BTreeMap<String, String>,
    ) -> Option<u64> {
        if self.trial.job.cpus.len() == 1 {
            return Some(0);
        }
        let counted = last.events.since(&first.events).migrations;
        counted.map_err(|why| unavailable.insert("switches.migrations".into(), why)).ok()
    }

    /// Idle time of this worker's CPUs.
    fn idle_ns(&self, machine: &MachineTime) -> Option<u64> {
        let idle = |cpu: &u32| machine.cpu_idle_ns.get(*cpu as usize).copied().flatten();
        self.trial.job.cpus.iter().map(idle).sum()
    }

    fn memory(&self, unavailable: &mut BTreeMap<String, String>) -> Memory {
        let mut missing = |field: &str, why: &str| {
            unavailable.insert(format!("memory.{field}"), why.to_string());
        };
        if self.heap.is_none() {
            for field in ["heap_bytes", "stack_bytes", "unattributed_bytes"] {
                missing(
                    field,
                    "split only in trials of their own: set `memory = true` under [sweep]",
                );
            }
        }
        if self.plateau.is_none() {
            for field in ["plateau_user_bytes", "page_table_bytes", "kernel_stack_bytes"] {
                missing(field, "the trial ended before half-way through its window");
            }
        }
        Memory {
            baseline_rss_bytes: self.baseline.rss_bytes,
            peak_rss_bytes: self.seen.iter().map(|u| u.peak_rss_bytes).max().unwrap_or(0),
            plateau_user_bytes: self.plateau.map(|u| u.rss_bytes),
            page_table_bytes: self.plateau.map(|u| u.page_table_bytes),
            kernel_stack_bytes: self.plateau.map(|u| u.kernel_stack_bytes()),
            ..Memory::default()
        }
    }
}

/// A count of the process less the monitor's own between the same edges.
fn without(first: &Reading, last: &Reading, all: u64, own: impl Fn(&Reading) -> u64) -> u64 {
    all.saturating_sub(own(last).saturating_sub(own(first)))
}

/// The record's events: page faults by the process's own count in every trial, the rest by the
/// kernel's counters where they were opened.
fn counted_events(
    first: &Reading,
    last: &Reading,
    faults: Events,
    ended: u64,
    unavailable: &mut BTreeMap<String, String>,
) -> Events {
    let counted = last.events.since(&first.events);
    let mut known = |field: &str, count: Result<u64, String>| {
        count.map_err(|why| unavailable.insert(format!("events.{field}"), why)).ok()
    };
    let less = |all: Option<u64>, own: fn(&Events) -> Option<u64>| {
        all.map(|all| without(first, last, all, |r| own(&r.own.1).unwrap_or(0)))
    };
    let syscalls = known("syscalls", counted.syscalls);
    let events = Events {
        minor_faults: less(faults.minor_faults, |e| e.minor_faults),
        major_faults: less(faults.major_faults, |e| e.major_faults),
        syscalls,
        syscalls_per_request: syscalls.filter(|_| ended > 0).map(|n| n as f64 / ended as f64),
        instructions: known("instructions", counted.instructions),
        cycles: known("cycles", counted.cycles),
    };
    if events.syscalls_per_request.is_none() {
        let why = unavailable.get("events.syscalls").cloned();
        let why = why.unwrap_or_else(|| "no request ended between the window's edges".into());
        unavailable.insert("events.syscalls_per_request".into(), why);
    }
    events
}

fn runtime_use(first: &Reading, last: &Reading) -> Option<RuntimeUse> {
    let (then, now) = (first.runtime?, last.runtime?);
    Some(RuntimeUse {
        workers: now.workers,
        parks: now.parks.saturating_sub(then.parks),
        busy_ns: now.busy_ns.saturating_sub(then.busy_ns),
        alive_tasks: now.alive_tasks.max(then.alive_tasks),
        ..now
    })
}
