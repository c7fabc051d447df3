//! The end of a trial: what was seen of it becomes a record, and the record is judged.

use super::{Running, Watch};
use crate::driver::gates::{self, Evidence, Samples};
use crate::driver::targets::{Targets, TargetsReport};
use crate::format::add::Sum;
use crate::format::gates::GateKind;
use crate::format::histogram::{self, HdrError};
use crate::format::{Flag, ForeignProcess, SideUse, Status, TrialRecord, field};
use crate::plan::Extent;
use crate::protocol::Outcome;
use crate::side::cgroup::{Cgroup, Version};
use crate::side::outside::Outside;
use crate::side::quota::Throttled;
use crate::side::split::HeapUse;
use crate::units::{format_count, format_ns};

/// Resolution of the kernel's idle and steal times: what one reading may be off by.
const TICK_NS: u64 = 10_000_000;
/// The part of a window that the driver may miss: a busy machine makes it late by a few milliseconds.
const LATE_PART: u64 = 10;

impl Running<'_> {
    pub(super) fn finish(
        mut self,
        record: &mut TrialRecord,
        result: anyhow::Result<Vec<Outcome>>,
        watch: &dyn Watch,
    ) -> anyhow::Result<()> {
        self.workers.clear();
        // Before the target goes, to which others may still be sending.
        let peers = &self.context.peers;
        let error = result.as_ref().err().map(ToString::to_string);
        peers.ended(self.position, error.as_deref(), &|| watch.stop());
        let report = self.targets.take().map(Targets::finish);
        record.target = report.as_ref().map(|r| r.used).unwrap_or_default();
        record.upstream = report.as_ref().and_then(|r| r.upstream);
        self.note_target(record, report.as_ref());
        let outcomes = result?;
        *record = with_workers(record, &outcomes)?;
        self.drop_what_was_read_late(record.measured_ns);
        record.in_flight_peak = self.in_flight_peak;
        if record.in_flight_peak.is_none() {
            let why = "the window held no sample of the driver";
            record.unavailable.insert(field!(TrialRecord.in_flight_peak).into(), why.into());
        }
        let servers = self.server.as_ref().ok().and_then(Outside::group_version);
        self.note_server(record);
        self.note_kernel_memory(record);
        self.note_split(record, &outcomes, servers);
        self.note_throttling(record);
        let mut evidence = self.evidence(record, &outcomes, report.as_ref());
        if self.is_overloaded(record, &evidence) {
            // The load was offered; what the server left of it is what is measured.
            evidence.delivered = None;
            record.flags.push(Flag::Overloaded);
        }
        record.occupancy = self.occupancy(record, &outcomes, &evidence);
        record.gates = gates::judge(&evidence);
        peers.note(record, outcomes.iter().map(|o| o.started_at_ns).max());
        self.flag(record);
        // Where one target process died, its numbers are kept, and the row is marked failed.
        let died = report.as_ref().is_some_and(|r| r.trouble.is_some());
        let interrupted = outcomes.iter().any(Outcome::is_interrupted);
        record.status = match () {
            () if self.given_up_ns.is_some() => Status::Failed,
            () if interrupted => Status::Interrupted,
            () if died => Status::Failed,
            () if gates::is_invalid(&record.gates) || self.is_empty(record) => Status::Invalid,
            () => Status::Ok,
        };
        let mut failures = outcomes.iter().flat_map(|o| &o.error_samples);
        record.first_error = failures.next().map(|(kind, what)| format!("{kind} error: {what}"));
        record.error = self.complaint(record, &outcomes, report);
        Ok(())
    }

    /// Share of the window in which a lane of a closed loop had a request under way.
    fn occupancy(
        &self,
        record: &TrialRecord,
        outcomes: &[Outcome],
        evidence: &Evidence,
    ) -> Option<f64> {
        let cell = &self.here.cell;
        let measured = !cell.arrivals.is_open() && !cell.is_idle() && record.measured_ns > 0;
        let carried: u64 = outcomes.iter().map(|o| o.warmup_in_service_ns).sum();
        let under_way = evidence.in_service_mean + carried as f64 / record.measured_ns as f64;
        measured.then_some(under_way / f64::from(cell.total_lanes.max(1)))
    }

    /// Why nothing is known of a target that did not say what it received.
    fn note_target(&self, record: &mut TrialRecord, report: Option<&TargetsReport>) {
        if record.target.received.is_none() {
            let why = match report {
                Some(report) => {
                    let own = "a server of yours keeps no count for duel";
                    report.trouble.as_deref().unwrap_or(own)
                }
                None => self.context.no_target_here(),
            };
            for field in [
                field!(TrialRecord.target.received),
                field!(TrialRecord.target.cpu_ns),
                field!(TrialRecord.target.queue_ns_total),
                field!(TrialRecord.target.service_ns_total),
            ] {
                record.unavailable.insert(field.into(), why.into());
            }
        }
    }

    /// Says in flags what the gates and the trial's course call for.
    fn flag(&self, record: &mut TrialRecord) {
        let failed = |kind| record.gates.iter().any(|g| g.is(kind) && g.failed());
        if failed(GateKind::ForeignCpu) {
            record.foreign = self.foreign();
        }
        if failed(GateKind::Throttled) || failed(GateKind::TargetThrottled) {
            record.flags.push(Flag::Throttled);
        }
        // Noise moves times, and a memory trial's bytes are all that is read of it.
        if gates::is_noisy(&record.gates) && !self.here.cell.is_memory() {
            record.flags.push(Flag::Noisy);
        }
        if record.peak_is_bound() {
            record.flags.push(Flag::PeakFromStart);
        }
        if self.given_up_ns.is_some() {
            record.flags.push(Flag::GaveUp);
        }
    }

    /// Whether requests found no connection since the server under test was slower than they came: its
    /// CPUs were full, or requests waited in it for longer than they were served.
    fn is_overloaded(&self, record: &TrialRecord, evidence: &Evidence) -> bool {
        let Some(server) = record.server.as_ref().filter(|_| self.here.cell.tests_server()) else {
            return false;
        };
        let late = evidence.delivered.is_some_and(|(started, of)| started * 100 < of * 99);
        let idle_client = evidence.cpu.is_some_and(|(used, of)| used * 10 <= of * 9);
        let cpus = self.placement.target.len().max(1) as u64;
        let full = server.cpu.total_ns * 10 >= server.measured_ns * cpus * 9;
        let served = record.target.residence_ns_total.zip(record.target.received);
        let served = served.filter(|(_, n)| *n > 0).map(|(all, n)| all as f64 / n as f64);
        let seen = record.service_ns.as_ref().map(|times| times.mean);
        let waits = served.zip(seen).is_some_and(|(served, seen)| seen >= 2.0 * served);
        late && idle_client && (full || waits)
    }

    /// Whether no request fell inside the window, so that there is nothing to rank.
    fn is_empty(&self, record: &TrialRecord) -> bool {
        record.ledger.planned == 0 && !self.here.cell.is_idle()
    }

    /// What a reader should know although the trial ran: nothing completed, or the target died.
    fn complaint(
        &self,
        record: &TrialRecord,
        outcomes: &[Outcome],
        report: Option<TargetsReport>,
    ) -> Option<String> {
        let trouble = report.and_then(|r| r.trouble).or_else(|| self.context.peers.over());
        let first = record.first_error.as_ref();
        if let (Some(ns), Some(first)) = (self.given_up_ns, first) {
            let lost = record.ledger.failed + record.ledger.timed_out + record.warmup.failed;
            let (lost, within) = (format_count(lost), format_ns(ns as f64));
            return Some(format!(
                "all {lost} requests within {within} failed; first {first}; given up, --keep-going \
                 goes on"
            ));
        }
        let nothing = record.ledger.completed == 0 && record.ledger.planned > 0;
        let cut_short = outcomes.iter().any(Outcome::is_interrupted);
        match (trouble, first) {
            (Some(trouble), _) => Some(trouble),
            (None, None) if cut_short && (nothing || self.is_empty(record)) => {
                Some("interrupted before a request of the window ended".into())
            }
            (None, Some(first)) if nothing => Some(format!("nothing completed; first {first}")),
            (None, None) if nothing && record.ledger.timed_out > 0 => {
                Some("nothing completed: every request timed out".into())
            }
            (None, None) if nothing => Some("nothing completed".into()),
            (None, Some(first)) => Some(format!("first {first}")),
            (None, None) if self.is_empty(record) => {
                Some("no request fell inside the window".into())
            }
            (None, None) => None,
        }
    }

    fn foreign(&self) -> Vec<ForeignProcess> {
        let Some(before) = &self.others else { return vec![] };
        let worker = &self.placement.worker;
        let allowed = &self.context.allowed_cpus;
        let free: Vec<u32> = allowed.iter().copied().filter(|c| !worker.contains(c)).collect();
        before.busiest(worker, self.owner.as_ref(), &free)
    }

    fn note_throttling(&self, record: &mut TrialRecord) {
        let [own, _] = self.throttled.between();
        let server = record.server.as_mut().map(|server| &mut server.cpu);
        for cpu in [&mut record.cpu].into_iter().chain(server) {
            cpu.throttled_periods = own.map(|t| t.periods);
            cpu.throttled_ns = own.map(|t| t.ns);
        }
        record.unavailable.remove(field!(TrialRecord.server?.cpu.throttled_periods));
        record.unavailable.remove(field!(TrialRecord.server?.cpu.throttled_ns));
        if own.is_none() {
            let why = Throttled::of(std::process::id()).err();
            let why = why.unwrap_or_else(|| "the window's edges were not read in time".into());
            for field in
                [field!(TrialRecord.cpu.throttled_periods), field!(TrialRecord.cpu.throttled_ns)]
            {
                record.unavailable.insert(field.into(), why.clone());
            }
        }
    }

    /// What was used of a window of which the driver missed a part is not what the workers' requests
    /// are divided into.
    fn drop_what_was_read_late(&mut self, window_ns: u64) {
        if self.late_at_edges_ns > window_ns / LATE_PART {
            let late = format_ns(self.late_at_edges_ns as f64);
            let why = format!("duel's own process was {late} late at an edge of the window");
            self.server = std::mem::replace(&mut self.server, Err("".into())).and(Err(why.into()));
            self.throttled.drop_late();
        }
    }

    fn note_server(&mut self, record: &mut TrialRecord) {
        match std::mem::replace(&mut self.server, Err("".into())).and_then(Outside::finish) {
            Ok((mut server, mut unavailable)) => {
                // Read behind the last request, when threads may have ended with their connections,
                // and what they had counted with them.
                if self.has_own_server() && matches!(self.plan.extent, Extent::Requests(_)) {
                    let why = "threads that ended with the last request took it along: give \
                               plan.duration in place of plan.requests";
                    server.cpu.run_queue_wait_ns = None;
                    for field in
                        [field!(SideUse.switches.voluntary), field!(SideUse.cpu.run_queue_wait_ns)]
                    {
                        unavailable.insert(field.into(), why.into());
                    }
                }
                let cpus = self.placement.target.len() as u32;
                let calls = field!(SideUse.events.syscalls_per_request).to_string();
                match unavailable.get(field!(SideUse.events.syscalls)).cloned() {
                    Some(why) => unavailable.insert(calls, why),
                    None => unavailable.remove(&calls),
                };
                // duel's own servers keep to their CPUs: from one alone there is no move.
                if cpus == 1 && !self.has_own_server() {
                    server.switches.migrations = Some(0);
                    unavailable.remove(field!(SideUse.switches.migrations));
                }
                record.server = Some(SideUse { cpus, ..server });
                let named = unavailable.into_iter().map(|(f, why)| (format!("server.{f}"), why));
                record.unavailable.extend(named);
                record.derive();
            }
            Err(why) => {
                record.unavailable.insert(field!(TrialRecord.server).into(), why);
            }
        }
    }

    /// The split of what the side under test holds; `servers` is the interface of a server's cgroup.
    fn note_split(
        &mut self,
        record: &mut TrialRecord,
        outcomes: &[Outcome],
        servers: Option<Version>,
    ) {
        let Some(mut splitter) = self.splitter.take() else { return };
        let uncounted = match self.has_own_server() {
            true => "a server of yours cannot be asked what its allocator holds",
            false => "this allocator keeps no count of what it has handed out",
        };
        if self.here.cell.tests_server() {
            let Some(server) = &mut record.server else { return };
            let named = (&mut record.unavailable, field!(TrialRecord.server?.memory));
            return splitter.note(&mut server.memory, named, servers, uncounted);
        }
        let held = |at: fn(HeapUse) -> Option<u64>| outcomes.iter().map(|o| at(o.heap?)).sum();
        splitter.held(held(|heap| heap.ready), held(|heap| heap.plateau));
        let named = (&mut record.unavailable, field!(TrialRecord.memory));
        let version = self.cgroup.as_ref().ok().map(Cgroup::version);
        splitter.note(&mut record.memory, named, version, uncounted);
    }

    /// Whether a command of the user's own started the server, which cannot be asked what it used.
    fn has_own_server(&self) -> bool {
        let server = self.context.sweep.server_plan(&self.here.cell);
        server.is_some_and(|server| server.own().is_some())
    }

    fn note_kernel_memory(&self, record: &mut TrialRecord) {
        let memory = &mut record.memory;
        let mut missing = |why: &str| {
            for field in
                [field!(TrialRecord.memory.kernel_bytes), field!(TrialRecord.memory.socket_bytes)]
            {
                record.unavailable.insert(field.into(), why.into());
            }
        };
        match (&self.cgroup, &self.kernel_at_ready, &self.kernel_at_plateau) {
            (Err(why), _, _) => missing(why),
            (Ok(_), Some(ready), Some(plateau)) => {
                memory.kernel_bytes = plateau
                    .kernel_bytes
                    .zip(ready.kernel_bytes)
                    .map(|(plateau, ready)| plateau.saturating_sub(ready));
                if memory.kernel_bytes.is_none() {
                    let why = "the cgroup does not count kernel memory";
                    record
                        .unavailable
                        .insert(field!(TrialRecord.memory.kernel_bytes).into(), why.into());
                }
                memory.socket_bytes = plateau.socket_bytes;
                if memory.socket_bytes.is_none() {
                    let why = "the cgroup counts no TCP buffers";
                    record
                        .unavailable
                        .insert(field!(TrialRecord.memory.socket_bytes).into(), why.into());
                }
            }
            _ => missing("the cgroup was not read half-way through the window"),
        }
    }

    fn evidence(
        &self,
        record: &TrialRecord,
        outcomes: &[Outcome],
        report: Option<&TargetsReport>,
    ) -> Evidence {
        let open = self.here.cell.arrivals.is_open();
        let interrupted = outcomes.iter().any(Outcome::is_interrupted);
        let edges_ns = outcomes.iter().map(|o| o.machine.edges_ns).max().unwrap_or(0);
        let cpus = self.placement.worker.len() as u64;
        let on_cpus = edges_ns * cpus;
        let idle = outcomes.iter().filter_map(|o| o.machine.cpus_idle_ns).max();
        let steal = outcomes.iter().filter_map(|o| o.machine.steal_ns).max();
        let machine_cpus = outcomes.iter().map(|o| u64::from(o.machine.machine_cpus)).max();
        let foreign = idle.map(|idle| {
            let known = idle + record.cpu.total_ns + steal.unwrap_or(0) + TICK_NS * cpus;
            (on_cpus.saturating_sub(known), on_cpus)
        });
        let started: u64 = outcomes.iter().map(|o| o.started_in_window).sum();
        let p99 = |d: &Option<crate::format::Distribution>| d.as_ref().map(|d| d.p99);
        let in_service: u64 = outcomes.iter().map(|o| o.in_service_ns).sum();
        let used = record.cpu.total_ns + self.upstream_ns(report, edges_ns);
        Evidence {
            ledger: record.ledger,
            stopped_ns: self.stopped_ns,
            throttled_ns: self.throttled.between().map(|t| Some(t?.ns)),
            window_ns: record.measured_ns,
            connected: (self.connected, self.here.cell.total_lanes.into()),
            delivered: (open && !interrupted).then_some((started, record.ledger.planned)),
            // A target that others load as well is judged when all parts are put together.
            received: report
                .filter(|_| !interrupted && self.context.peers.shared_target().is_none())
                .and_then(|r| {
                    let (fewest, most) = record.can_have_arrived();
                    Some((r.used.received?, fewest, most))
                }),
            pacing: p99(&record.pacer_delay_ns)
                .zip(p99(&record.response_ns))
                .map(|(delay, response)| (delay, response, self.context.sweep.plan.pacer)),
            // Interrupted before the window began, a trial has two edges and nothing between them.
            cpu: (open && record.measured_ns > 0).then_some((used, on_cpus)),
            client: self.both_sides(record, (used, on_cpus)),
            // A driver that must share the workers' CPUs runs when they do not: its samples would
            // be no random instants, and decide nothing.
            // Nor does one that looked at the workers' mappings instead.
            // Of an interrupted trial the workers know no time in service of what was under way.
            in_flight: if self.driver_has_own_cpu() && !self.here.cell.is_memory() && !interrupted {
                self.in_flight
            } else {
                Samples::default()
            },
            in_service_mean: in_service as f64 / record.measured_ns.max(1) as f64,
            linger: record.ring.zip(record.service_ns.as_ref()).and_then(|(ring, service)| {
                let held = ring.held_ns.checked_div(record.ended_between_edges)?;
                self.here.cell.uring_linger_ns.map(|_| (held, service.p50))
            }),
            steal: steal.map(|s| (s.saturating_sub(TICK_NS), edges_ns * machine_cpus.unwrap_or(1))),
            // On shared CPUs the target's CPU time must not count as other processes'.
            // Nor that of what it calls.
            foreign: foreign.filter(|_| !self.placement.shared && !self.upstream_shares),
        }
    }

    /// CPU time that what the server calls took from the client between the edges: the part of its
    /// whole that falls there.
    fn upstream_ns(&self, report: Option<&TargetsReport>, edges_ns: u64) -> u64 {
        let whole = report.and_then(|r| r.upstream?.cpu_ns).filter(|_| self.upstream_shares);
        let part = edges_ns as f64 / (edges_ns + self.plan.warmup_ns).max(1) as f64;
        (whole.unwrap_or(0) as f64 * part) as u64
    }

    /// CPU of client and server in a closed loop of a server under test that has CPUs of its own.
    fn both_sides(&self, record: &TrialRecord, client: (u64, u64)) -> Option<[(u64, u64); 2]> {
        let cell = &self.here.cell;
        let closed = cell.tests_server() && !cell.arrivals.is_open() && !cell.is_idle();
        let server = record.server.as_ref().filter(|_| closed && !self.placement.shared)?;
        let all = server.measured_ns * self.placement.target.len() as u64;
        Some([client, (server.cpu.total_ns, all)])
    }

    fn driver_has_own_cpu(&self) -> bool {
        self.context.allowed_cpus.iter().any(|cpu| !self.placement.worker.contains(cpu))
    }
}

/// The record with the workers' parts, which share a machine, whatever its name.
fn with_workers(record: &TrialRecord, outcomes: &[Outcome]) -> Result<TrialRecord, HdrError> {
    let mut sum = Sum::new(record.clone());
    for Outcome { part, histograms, .. } in outcomes {
        let counts = |text: &String| histogram::decode_sparse(text);
        let times = histograms.iter().map(|(channel, text)| Ok((*channel, counts(text)?)));
        sum.add(part, times.collect::<Result<_, HdrError>>()?, "")?;
    }
    sum.finish()
}
