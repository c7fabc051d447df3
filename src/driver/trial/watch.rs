//! The middle of a trial: what is in flight is sampled, progress is shown, outcomes are awaited.

use anyhow::anyhow;
use rand::Rng;

use super::{Running, TrialStage, Watch};
use crate::driver::pipe::NoLine;
use crate::driver::quiet::Quiet;
use crate::driver::split::Splitter;
use crate::driver::targets::Targets;
use crate::driver::timeline::Sampler;
use crate::driver::worker::Worker;
use crate::plan::Extent;
use crate::plan::sweep::Target;
use crate::plan::target::InjectedFaults;
use crate::protocol::Outcome;
use crate::side::Phase;
use crate::side::counters::Counts;
use crate::side::quota::Throttled;
use crate::side::usage::Edge;
use crate::sys::now_ns;
use crate::units::SECOND_NS;

const SAMPLE_NS: u64 = 8_000_000;
/// How long a trial goes on in which requests fail and none completes.
pub(crate) const GRACE_NS: u64 = 3 * SECOND_NS;
const SHOW_NS: u64 = 100_000_000;

impl Running<'_> {
    /// Looks at the workers at jittered instants until each has sent its outcome.
    pub(super) fn watch(
        &mut self,
        start: u64,
        watch: &mut dyn Watch,
        sampler: &mut Option<Sampler>,
    ) -> anyhow::Result<Vec<Outcome>> {
        let window_start = start + self.plan.warmup_ns;
        let silent_until = match self.plan.extent {
            Extent::DurationNs(ns) => window_start + ns,
            Extent::Requests(_) => window_start,
        };
        let mut quiet = Quiet::new(self.plan.timeout_ns, self.plan.longest_gap_ns());
        let metrics = self.context.metrics.as_ref();
        let mut look = metrics.map(|m| m.look_at(&self.here, &self.plan));
        let (mut shown, mut cancelled) = (0, false);
        let mut outcomes = vec![];
        while outcomes.len() < self.workers.len() {
            let now = now_ns();
            if let Some(sampler) = sampler {
                sampler.look(now, &self.workers);
            }
            if let Some(look) = &mut look {
                look.look(now, window_start, &self.workers);
            }
            let counts = self.counts(Phase::Measured);
            let part = self.part_over(now, window_start, counts);
            self.look_at_edges((window_start, silent_until), part);
            self.sample(now > window_start, part, counts);
            self.look_for_stops();
            if now - shown > SHOW_NS {
                shown = now;
                watch.show(TrialStage::Running(counts, Some(part.min(1.0))));
            }
            let all = [counts, self.counts(Phase::Warmup)].into_iter().sum();
            if self.is_hopeless(all, now.saturating_sub(start)) {
                self.given_up_ns.get_or_insert(now - start);
            }
            if (watch.stop() || self.given_up_ns.is_some()) && !cancelled {
                cancelled = true;
                self.workers.iter_mut().for_each(Worker::cancel);
            }
            let started = all.started;
            if let Some(cap) = self.context.external(&self.here.cell).and_then(|e| e.cap.as_ref()) {
                cap.check_started(started, now.saturating_sub(start))?;
            }
            // Without the shared pages nothing can be seen to move.
            if self.workers.iter().all(Worker::is_visible) {
                quiet.check(now, started + counts.ended(), silent_until)?;
            }
            let pause = SAMPLE_NS / 2 + self.jitter.next_u64() % SAMPLE_NS;
            // The server's side is read at the window's edges.
            let edge = [window_start, silent_until].into_iter().find(|edge| *edge > now);
            let until = edge.unwrap_or(u64::MAX).min(now + pause);
            match self.workers[outcomes.len()].outcome(until) {
                Ok(outcome) => outcomes.push(outcome),
                Err(NoLine::Late) => {}
                Err(NoLine::Never(why)) => return Err(anyhow!(why)),
            }
        }
        self.look_for_stops();
        self.look_at_edges((window_start, silent_until), 1.0);
        Ok(outcomes)
    }

    /// Reads at the window's edges what the workers cannot tell, and notes how late it was there.
    fn look_at_edges(&mut self, (start, end): (u64, u64), part: f64) {
        let now = now_ns();
        // Without a warm-up nothing is used before the window.
        let begun = now >= start || self.plan.warmup_ns == 0;
        let [first, last] = self.throttled.unread();
        if begun && first {
            self.late_at_edges_ns = now.saturating_sub(start);
        }
        // By count the window ends with the last request, after which nothing more is used.
        if part >= 1.0 && last && end > start {
            self.late_at_edges_ns = self.late_at_edges_ns.max(now.saturating_sub(end));
        }
        self.look_at_quotas(begun, part);
        self.look_at_server(begun, part, (end > start).then_some(end));
    }

    /// For how long quotas stopped this process and the target so far.
    fn look_at_quotas(&mut self, begun: bool, part: f64) {
        let read = || {
            let own = Throttled::of(std::process::id()).ok();
            // An embedded target is in duel's own cgroup.
            [own, self.owner.as_ref().and_then(|o| Throttled::of(o.pid()?).ok())]
        };
        self.throttled.read(begun, part >= 1.0, read);
    }

    /// Reads what the server's side used so far at each edge of the window, and what it holds
    /// half-way.
    fn look_at_server(&mut self, begun: bool, part: f64, ends_at: Option<u64>) {
        let Ok(server) = &mut self.server else { return };
        let mut targets = self.targets.as_mut();
        if begun && !server.has(Edge::Start) {
            let told = targets.as_mut().map(|t| t.usage(Edge::Start));
            server.read(Edge::Start, told.unwrap_or_default());
        }
        if is_half_way(part) && !self.half_seen {
            server.read_plateau();
            if let (Some(splitter), Some(targets)) = (&mut self.splitter, &mut targets)
                && self.here.cell.tests_server()
            {
                let held = targets.held_bytes();
                splitter.at_plateau(targets.pids(), server.group_at_plateau(), held);
            }
            // From the window's end on, clients close what was to be looked at.
            if ends_at.is_some_and(|end| now_ns() >= end) {
                server.forget_plateau();
                self.splitter.iter_mut().for_each(Splitter::forget_plateau);
            }
        }
        if part >= 1.0 && !server.has(Edge::End) {
            let told = targets.as_mut().map(|t| t.usage(Edge::End));
            server.read(Edge::End, told.unwrap_or_default());
        }
    }

    /// Whether requests fail and none completes, for longer than a server may take to wake up;
    /// failures on purpose are none.
    fn is_hopeless(&self, all: Counts, since_start_ns: u64) -> bool {
        let on_purpose = match self.context.sweep.target_of(&self.here.cell) {
            Target::Embedded(target) => target.faults != InjectedFaults::default(),
            Target::External { .. } => false,
        };
        let lost = all.failed + all.timed_out > 0 && all.completed == 0;
        lost && since_start_ns > GRACE_NS && !on_purpose && !self.context.keep_going
    }

    fn look_for_stops(&mut self) {
        let workers = self.workers.iter_mut().map(Worker::stopped_ns).max();
        let targets = self.targets.as_mut().map(Targets::stopped_ns);
        self.stopped_ns = self.stopped_ns.max(workers.max(targets).unwrap_or(0));
    }

    /// How much of the window is over: of its time or of its requests, whichever bounds it.
    fn part_over(&self, now: u64, window_start: u64, counts: Counts) -> f64 {
        match self.plan.extent {
            Extent::DurationNs(ns) => now.saturating_sub(window_start) as f64 / ns as f64,
            Extent::Requests(n) => counts.ended() as f64 / self.here.planned.unwrap_or(n) as f64,
        }
    }

    /// Takes a sample of what is in flight, and once, half-way, of the memory held.
    fn sample(&mut self, begun: bool, part: f64, counts: Counts) {
        if begun && part < 1.0 {
            let in_flight = counts.in_flight();
            self.in_flight.add(now_ns(), in_flight as f64);
            self.in_flight_peak = self.in_flight_peak.max(Some(in_flight));
        }
        if is_half_way(part) && !std::mem::replace(&mut self.half_seen, true) {
            self.kernel_at_plateau = self.cgroup.as_ref().ok().and_then(|g| g.read().ok());
            if let Some(splitter) = &mut self.splitter
                && !self.here.cell.tests_server()
            {
                let pids = self.workers.iter().map(Worker::id);
                splitter.at_plateau(pids, self.kernel_at_plateau, None);
            }
        }
    }

    fn counts(&self, phase: Phase) -> Counts {
        self.workers.iter().filter_map(|w| w.counts(phase)).sum()
    }
}

/// Whether what is held is what the trial holds at its height: connections go with its end.
fn is_half_way(part: f64) -> bool {
    (0.5..1.0).contains(&part)
}
