//! Watches a trial from its start to its last request: reads the window's edges and the plateau, and
//! makes the outcome of them.

use crate::engine::TrialRun;
use crate::format::histogram;
use crate::format::{
    Channel, Events, LargestWorker, Ledger, Memory, Reasons, Status, Switches, TrialRecord, field,
};
use crate::plan::Extent;
use crate::protocol::{BetweenEdges, Outcome};
use crate::side::Phase;
use crate::side::counters::Counts;
use crate::side::split::{HeapUse, held_bytes};
use crate::side::usage::{Edge, MachineTime, ProcessUse, Usage};
use crate::sys::{now_ns, sleep_until_ns, thread_cpu_ns};

/// How soon the monitor first looks whether half of the requests have ended, and what part of the time
/// so far it lets pass between later looks: each look wakes a thread beside the lanes, which costs them
/// more than the monitor's own clock tells.
const LOOK_NS: u64 = 20_000_000;
const LOOK_PART: u64 = 8;
/// How long lanes may take to end after a cancel before what they do is counted as timed out.
const CANCEL_GRACE_NS: u64 = 100_000_000;

pub(super) struct Monitor<'t> {
    trial: &'t TrialRun,
    baseline: ProcessUse,
    seen: Vec<ProcessUse>,
    plateau: Option<ProcessUse>,
    started_at: u64,
    /// Only where the job asks for memory to be split.
    heap: Option<HeapUse>,
}

struct Reading {
    usage: Usage,
    /// Requests of either phase.
    counts: Counts,
    at: u64,
    /// The monitor's own switches and faults, which no lane caused.
    own: (Switches, Events),
    /// The monitor's own CPU time, read next to the process's.
    own_cpu_ns: u64,
}

impl<'t> Monitor<'t> {
    pub(super) fn new(trial: &'t TrialRun, baseline: ProcessUse, heap: Option<HeapUse>) -> Self {
        let seen = ProcessUse::read().into_iter().collect();
        Monitor { trial, baseline, seen, plateau: None, started_at: 0, heap }
    }

    fn read(&self, edge: Edge) -> Reading {
        let counters = self.trial.recorder.counters();
        let counts =
            || [Phase::Warmup, Phase::Measured].into_iter().map(|p| counters.read(p)).sum();
        let usage = || match self.trial.job.cell.counts_events() {
            true => Usage::read_every_wait(edge),
            false => Usage::read(edge),
        };
        // What is divided by requests is read next to them.
        match edge {
            Edge::Start => {
                let usage = usage();
                let own_cpu_ns = thread_cpu_ns();
                let usage = usage.and(self.trial.own_counts());
                Reading { usage, own_cpu_ns, counts: counts(), at: now_ns(), own: Usage::own() }
            }
            Edge::End => {
                let (counts, at) = (counts(), now_ns());
                // No event is read, and no time passes, in a trial that counts none.
                let counted = self.trial.own_counts();
                let own_cpu_ns = thread_cpu_ns();
                let usage = usage().and(counted);
                Reading { usage, own_cpu_ns, counts, at, own: Usage::own() }
            }
        }
    }

    pub(super) fn watch(mut self, start: u64) -> Outcome {
        let trial = self.trial;
        trial.set_start(start);
        let phases = *trial.phases();
        trial.recorder.set_window_start(phases.window_start);
        let stop = || trial.is_cancelled();
        // Without a warm-up the edge is read while lanes are still parked and cost nothing.
        let early = (phases.window_start == start).then(|| self.read(Edge::Start));
        sleep_until_ns(start);
        self.started_at = now_ns();
        // Without requests to send the lanes stay parked, as they were at Armed.
        let idle = trial.job.plan.idle;
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
                // Lanes of a cancelled trial tell their last end later, if at all.
                let end = if trial.is_cancelled() { now_ns() } else { trial.recorder.last_end() };
                end.max(phases.window_start)
            }
        };
        let last = self.read(Edge::End);
        trial.close_gate.open();
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
            let now = now_ns();
            let pause = LOOK_NS.max(now.saturating_sub(self.started_at) / LOOK_PART);
            let ended = trial.progress.wait_end(now + pause, || trial.is_cancelled());
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
            heap.plateau = held_bytes(self.trial.job.cell.has_foreign_allocator());
        }
        self.plateau = ProcessUse::read().ok();
        self.seen.extend(self.plateau);
    }

    fn ledger(&self, phase: Phase, counts: Counts) -> Ledger {
        counts.ledger(self.trial.planned(phase).unwrap_or(counts.started).max(counts.started))
    }

    fn outcome(&self, window: (u64, u64), first: &Reading, last: &Reading) -> Outcome {
        let trial = self.trial;
        let (recorder, counters) = (&trial.recorder, trial.recorder.counters());
        let encoded = |(channel, histogram): (&Channel, &_)| {
            (*channel, histogram::encode(histogram).expect("counts of a trial fit 63 bits"))
        };
        // One reading of the errors, before the counters, decides the ledger: it balances even
        // while lanes of an interrupted trial still run.
        let errors = recorder.errors();
        let counts = Counts { failed: errors.total(), ..counters.read(Phase::Measured) };
        let spent = last.usage.since(&first.usage);
        let mut unavailable = spent.unavailable;
        let ended = last.counts.ended().saturating_sub(first.counts.ended());
        let (rate_requests, rate_ns) = self.achieved(window, first, last, counts.completed);
        let mut cpu = spent.cpu;
        cpu.pacer_ns = trial.pacer_cpu_ns();
        cpu.monitor_ns = Some(last.own_cpu_ns.saturating_sub(first.own_cpu_ns));
        if trial.job.plan.arrivals.is_open() && cpu.pacer_ns.is_none() {
            let why = "the engine's own timer paced, too rarely to be calibrated at set-up";
            unavailable.insert(field!(TrialRecord.cpu.pacer_ns).into(), why.into());
        }
        let memory = self.memory(&mut unavailable);
        let threads_peak = self.seen.iter().map(|u| u.threads).max().unwrap_or(0);
        let fds_peak = self.seen.iter().filter_map(|u| u.fds).max().unwrap_or(0);
        let part = TrialRecord {
            status: if trial.is_cancelled() { Status::Interrupted } else { Status::Ok },
            ledger: self.ledger(Phase::Measured, counts),
            warmup: self.ledger(Phase::Warmup, counters.read(Phase::Warmup)),
            errors,
            statuses: recorder.statuses(),
            classes: trial.class_uses().expect("counts of a trial fit 63 bits"),
            bytes: recorder.bytes(),
            reconnects: recorder.reconnects(),
            tls: recorder.tls().map(str::to_string),
            requests_per_lane: recorder.served_range(),
            measured_ns: window.1.saturating_sub(window.0),
            completed_in_window: counts.completed - recorder.completed_late().min(counts.completed),
            ended_between_edges: ended,
            rate_requests,
            rate_ns,
            switches: self.switches(first, last, spent.switches, &mut unavailable),
            events: events_of_lanes(first, last, spent.events, ended, &mut unavailable),
            runtime: spent.runtime,
            ring: spent.ring,
            largest_worker: Some(LargestWorker {
                peak_rss_bytes: memory.peak_rss_bytes,
                cpu_total_ns: cpu.total_ns,
                threads_peak,
                fds_peak,
            }),
            cpu,
            memory,
            threads_peak,
            fds_peak,
            unavailable,
            ..TrialRecord::part_of(&trial.job.cell)
        };
        Outcome {
            part,
            histograms: recorder.histograms().iter().map(encoded).collect(),
            started_at_ns: self.started_at,
            started_in_window: counts.started - recorder.started_late().min(counts.started),
            machine: self.between(first, last, spent.machine.as_ref()),
            in_service_ns: recorder.in_service_ns(),
            warmup_in_service_ns: recorder.warmup_in_service_ns(),
            error_samples: recorder.error_samples(),
            heap: self.heap,
        }
    }

    /// What the achieved rate counts and divides by. By duration: the requests of either phase that
    /// completed between the edges. By count: all of them, in the time that was planned or that it took,
    /// the longer.
    ///
    /// In a closed loop a request that reaches across an edge counts by the share of its time that lies
    /// inside. Lanes are often in step there, and 500 of them whose fifth answer comes just before or
    /// just after the edge would make 2,500 requests per second of the same server, or 2,000.
    fn achieved(
        &self,
        window: (u64, u64),
        first: &Reading,
        last: &Reading,
        completed: u64,
    ) -> (f64, u64) {
        let plan = &self.trial.job.plan;
        let whole = !self.trial.is_cancelled();
        match plan.extent {
            Extent::DurationNs(ns) if whole && !plan.arrivals.is_open() => {
                let recorder = &self.trial.recorder;
                let inside = completed.saturating_sub(recorder.completed_late());
                // Lanes that were let go late had less than the window.
                let late = self.started_at.saturating_sub(window.0);
                (inside as f64 + recorder.shares(), ns.saturating_sub(late))
            }
            Extent::DurationNs(_) => {
                let completed = last.counts.completed.saturating_sub(first.counts.completed);
                // Without a warm-up the first edge is read before the lanes are let go.
                (completed as f64, last.at.saturating_sub(first.at.max(window.0)))
            }
            Extent::Requests(n) => {
                // What was cut short is measured by the time that it had.
                let rate = plan.offered_per_s.filter(|rate| whole && *rate > 0.0);
                let planned_ns = rate.map_or(0, |rate| (n as f64 * 1e9 / rate) as u64);
                (completed as f64, planned_ns.max(window.1.saturating_sub(window.0)))
            }
        }
    }

    /// What was counted of the process less the monitor's own; where there is one CPU to be on, no moves.
    fn switches(
        &self,
        first: &Reading,
        last: &Reading,
        all: Switches,
        unavailable: &mut Reasons,
    ) -> Switches {
        let one_cpu = self.trial.job.cpus.len() == 1;
        if one_cpu {
            unavailable.remove(field!(TrialRecord.switches.migrations));
        }
        Switches {
            voluntary: without(first, last, all.voluntary, |r| r.own.0.voluntary),
            involuntary: without(first, last, all.involuntary, |r| r.own.0.involuntary),
            migrations: if one_cpu { Some(0) } else { all.migrations },
        }
    }

    fn between(
        &self,
        first: &Reading,
        last: &Reading,
        machine: Option<&MachineTime>,
    ) -> BetweenEdges {
        let idle = |machine: &MachineTime| {
            let of = |cpu: &u32| machine.cpu_idle_ns.get(*cpu as usize).copied().flatten();
            self.trial.job.cpus.iter().map(of).sum()
        };
        BetweenEdges {
            edges_ns: last.at.saturating_sub(first.at),
            cpus_idle_ns: machine.and_then(idle),
            steal_ns: machine.map(|m| m.steal_ns),
            machine_cpus: machine.map_or(0, |m| m.cpu_idle_ns.iter().flatten().count() as u32),
        }
    }

    fn memory(&self, unavailable: &mut Reasons) -> Memory {
        let mut missing = |fields: [&str; 3], why: &str| {
            unavailable.extend(fields.map(|field| (field.into(), why.into())));
        };
        if self.heap.is_none() {
            let of_split = [
                field!(TrialRecord.memory.heap_bytes),
                field!(TrialRecord.memory.stack_bytes),
                field!(TrialRecord.memory.unattributed_bytes),
            ];
            missing(
                of_split,
                "split only in trials of their own: set `memory = true` under [sweep]",
            );
        }
        if self.plateau.is_none() {
            let of_plateau = [
                field!(TrialRecord.memory.plateau_user_bytes),
                field!(TrialRecord.memory.page_table_bytes),
                field!(TrialRecord.memory.kernel_stack_bytes),
            ];
            missing(of_plateau, "the trial ended before half-way through its window");
        }
        // A trial that was over before anybody looked is judged by the look after its end.
        let held = self.plateau.or(self.seen.last().copied());
        let added = held.map(|held| held.added_since(&self.baseline));
        Memory {
            added_bytes: added.map(|[anonymous, ..]| anonymous),
            file_bytes: added.map(|[_, files, _]| files),
            added_kernel_bytes: added.map(|[.., kernel]| kernel),
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

/// What was counted of a process, less the monitor's own page faults; its other events are not counted.
fn events_of_lanes(
    first: &Reading,
    last: &Reading,
    all: Events,
    ended: u64,
    unavailable: &mut Reasons,
) -> Events {
    let less = |all: Option<u64>, own: fn(&Events) -> Option<u64>| {
        all.map(|all| without(first, last, all, |r| own(&r.own.1).unwrap_or(0)))
    };
    let mut events = Events {
        minor_faults: less(all.minor_faults, |e| e.minor_faults),
        major_faults: less(all.major_faults, |e| e.major_faults),
        ..all
    };
    events.per_request(ended);
    if events.syscalls_per_request.is_none() {
        let why = unavailable.get(field!(TrialRecord.events.syscalls)).cloned();
        let why = why.unwrap_or_else(|| "no request ended between the window's edges".into());
        unavailable.insert(field!(TrialRecord.events.syscalls_per_request).into(), why);
    }
    events
}
