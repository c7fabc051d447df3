//! The shards' rows of one trial → one row of the whole plan.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use super::source::{Found, distributions};
use crate::driver::start;
use crate::format::histogram;
use crate::format::{
    Cpu, Events, Gate, LargestWorker, Ledger, Memory, MinMax, ShardSpread, ShardStart, Status,
    TrialRecord,
};
use crate::plan::Extent;
use crate::plan::shard::Shard;
use crate::plan::sweep::Sweep;
use crate::results::store::PlanJson;

/// What the rows of a trial add up to so far.
pub(super) struct Sum {
    /// Shards of the run.
    pub(super) of: u32,
    /// The first row, into which the others are added.
    total: TrialRecord,
    histograms: Vec<Option<Histogram<u64>>>,
    present: Vec<u32>,
    /// Requests that ended between the readings of the CPU clocks.
    ended: f64,
    /// Busy time by machine.
    busy_ns: BTreeMap<String, Option<u64>>,
    occupied: Option<f64>,
    lanes: u64,
    spread: Option<ShardSpread>,
    starts: Vec<Began>,
    /// The surest clock offset, which may stand on another shard than the widest one.
    gates: Vec<Gate>,
    received: Option<u64>,
    statuses: [u32; 4],
}

/// When a shard's window was, by the wall clock of the reference, and what it knows of that.
struct Began {
    from_unix_ns: i128,
    length_ns: u64,
    start: ShardStart,
}

impl Sum {
    pub(super) fn new(first: &Found) -> Sum {
        let first = &first.record;
        // Every field stands here by name, so that a new one cannot be forgotten: what is added
        // starts from nothing, since the first row is added as well, but for the costs, which
        // start as that row's own.
        let total = TrialRecord {
            format_version: first.format_version,
            plan_hash: first.plan_hash.clone(),
            binary_digest: first.binary_digest.clone(),
            block: first.block,
            trial: first.trial,
            cell: first.cell.clone(),
            status: Status::Ok,
            error: None,
            flags: vec![],
            ledger: Ledger::default(),
            warmup: Ledger::default(),
            errors: Default::default(),
            bytes: Default::default(),
            reconnects: 0,
            requests_per_lane: MinMax { min: u64::MAX, max: 0 },
            setup_ns: 0,
            measured_ns: 0,
            completed_in_window: 0,
            achieved_per_s: 0.0,
            service_ns: None,
            response_ns: None,
            start_delay_ns: None,
            pacer_delay_ns: None,
            lane_wait_ns: None,
            failed_ns: None,
            connect_ns: None,
            handshake_ns: None,
            first_byte_ns: None,
            heartbeat_ns: None,
            steps: Default::default(),
            cpu: first.cpu.clone(),
            switches: first.switches,
            events: first.events,
            runtime: first.runtime,
            memory: first.memory.clone(),
            threads_peak: 0,
            fds_peak: 0,
            gates: vec![],
            target: first.target,
            largest_worker: first.largest_worker,
            pacer: first.pacer,
            allocator: first.allocator.clone(),
            ready_ns: 0,
            started_unix_ns: None,
            occupancy: None,
            in_flight_peak: None,
            shard: None,
            shard_start: None,
            shard_spread: None,
            tls: first.tls.clone(),
            unavailable: BTreeMap::new(),
        };
        Sum {
            of: 0,
            total,
            histograms: (0..9).map(|_| None).collect(),
            present: vec![],
            ended: 0.0,
            busy_ns: BTreeMap::new(),
            occupied: Some(0.0),
            lanes: 0,
            spread: None,
            starts: vec![],
            gates: vec![],
            received: None,
            statuses: [0; 4],
        }
    }

    /// Adds a shard's row.
    pub(super) fn add(&mut self, found: Found) -> Result<(), String> {
        let Found { record, histograms, boot_id, .. } = found;
        let index = record.shard.map_or(0, |s| s.index);
        if (&record.cell.id, record.block) != (&self.total.cell.id, self.total.block) {
            return Err(format!(
                "trial {} is {} block {} in shard {index}, and {} block {} in another",
                record.trial, record.cell.id, record.block, self.total.cell.id, self.total.block
            ));
        }
        for (sum, histogram) in self.histograms.iter_mut().zip(histograms) {
            let Some(counts) = histogram else { continue };
            let sum = sum.get_or_insert_with(histogram::empty);
            for (value, count) in counts {
                // Beyond an hour all times are one.
                sum.record_n(value.min(histogram::HIGHEST_NS), count)
                    .map_err(|e| format!("shard {index}: {e}"))?;
            }
        }
        self.add_counts(&record, index);
        self.add_costs(&record, &boot_id);
        self.add_gates(&record);
        if let (Some(at), Some(start)) = (record.started_unix_ns, &record.shard_start) {
            let offset = start.clock_offset_ns.filter(|_| start::sure_offset_ns(start) > Some(0));
            let late = start.late_ns.unwrap_or(0);
            self.starts.push(Began {
                from_unix_ns: i128::from(at) + i128::from(late) - i128::from(offset.unwrap_or(0)),
                length_ns: record.measured_ns,
                start: start.clone(),
            });
        }
        self.present.push(index);
        Ok(())
    }

    fn add_counts(&mut self, record: &TrialRecord, index: u32) {
        let total = &mut self.total;
        self.statuses[record.status as usize] += 1;
        if let Some(error) = &record.error {
            let first = total.error.is_none();
            let more = matches!(record.status, Status::Failed | Status::Invalid);
            if first || (more && self.statuses[record.status as usize] == 1) {
                total.error = Some(format!("shard {index}: {error}"));
            }
        }
        for flag in &record.flags {
            if !total.flags.contains(flag) {
                total.flags.push(flag.clone());
            }
        }
        total.ledger.add(&record.ledger);
        total.warmup.add(&record.warmup);
        total.errors.add(&record.errors);
        total.bytes.sent += record.bytes.sent;
        total.bytes.received += record.bytes.received;
        total.reconnects += record.reconnects;
        let lanes = &mut total.requests_per_lane;
        lanes.min = lanes.min.min(record.requests_per_lane.min);
        lanes.max = lanes.max.max(record.requests_per_lane.max);
        total.setup_ns = total.setup_ns.max(record.setup_ns);
        total.ready_ns = total.ready_ns.max(record.ready_ns);
        total.measured_ns = total.measured_ns.max(record.measured_ns);
        total.completed_in_window += record.completed_in_window;
        total.threads_peak += record.threads_peak;
        total.fds_peak += record.fds_peak;
        total.started_unix_ns = match (total.started_unix_ns, record.started_unix_ns) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        for (field, why) in &record.unavailable {
            total.unavailable.entry(field.clone()).or_insert_with(|| why.clone());
        }
        if record.allocator != total.allocator {
            total.allocator = "differs between shards".into();
        }
    }

    fn add_costs(&mut self, record: &TrialRecord, boot_id: &str) {
        let first = self.present.is_empty();
        if record.cpu.per_request_ns > 0.0 {
            self.ended += record.cpu.total_ns as f64 / record.cpu.per_request_ns;
        }
        // Every shard of a machine sees the same machine: the longest reading, not a sum.
        let busy = self.busy_ns.entry(boot_id.into()).or_insert(record.cpu.machine_busy_ns);
        *busy = busy.zip(record.cpu.machine_busy_ns).map(|(a, b)| a.max(b));
        let lanes = u64::from(record.cell.total_lanes);
        self.occupied = self.occupied.zip(record.occupancy).map(|(sum, o)| sum + o * lanes as f64);
        self.lanes += lanes;
        widen(&mut self.spread, record);
        if record.memory.split.is_some() {
            let why = "each shard's row in shards.jsonl holds its own";
            self.total.unavailable.insert("memory.split".into(), why.into());
            self.total.memory.split = None;
        }
        let total = &mut self.total;
        if first {
            // Already a copy of this row's.
            return;
        }
        add_cpu(&mut total.cpu, &record.cpu);
        total.switches.voluntary += record.switches.voluntary;
        total.switches.involuntary += record.switches.involuntary;
        both(&mut total.switches.migrations, record.switches.migrations);
        add_events(&mut total.events, &record.events);
        total.runtime = total.runtime.zip(record.runtime).map(|(mut sum, other)| {
            sum.add(&other);
            sum
        });
        add_memory(&mut total.memory, &record.memory);
        let most = total.largest_worker.zip(record.largest_worker);
        total.largest_worker = most.map(|(a, b)| LargestWorker {
            peak_rss_bytes: a.peak_rss_bytes.max(b.peak_rss_bytes),
            cpu_total_ns: a.cpu_total_ns.max(b.cpu_total_ns),
            threads_peak: a.threads_peak.max(b.threads_peak),
            fds_peak: a.fds_peak.max(b.fds_peak),
        });
        // Shards without a target of their own have nothing to add to it.
        if record.target.processes > 0 {
            let (target, other) = (&mut total.target, &record.target);
            if target.processes == 0 {
                *target = *other;
            } else {
                target.processes += other.processes;
                both(&mut target.received, other.received);
                both(&mut target.cpu_ns, other.cpu_ns);
                both(&mut target.queue_ns_total, other.queue_ns_total);
                both(&mut target.service_ns_total, other.service_ns_total);
            }
        }
    }

    /// A gate holds when it holds on every shard; the one that fails is shown, else the largest.
    fn add_gates(&mut self, record: &TrialRecord) {
        for gate in &record.gates {
            let Some(known) = self.gates.iter_mut().find(|g| g.name == gate.name) else {
                self.gates.push(gate.clone());
                continue;
            };
            if gate.name == "connected_lanes" {
                known.value = known.value.zip(gate.value).map(|(a, b)| a + b);
                known.limit = known.limit.zip(gate.limit).map(|(a, b)| a + b);
                known.ok = known.ok.zip(gate.ok).map(|(a, b)| a && b);
            } else if known.ok != Some(false)
                && (gate.ok == Some(false) || gate.value > known.value)
            {
                *known = gate.clone();
            }
        }
        if record.target.processes > 0 {
            self.received = record.target.received;
        }
    }

    /// The row of the whole plan.
    pub(super) fn finish(self, plan: &PlanJson, sweep: &Sweep) -> Result<TrialRecord, String> {
        let id = self.total.cell.id.clone();
        let Some(cell) = plan.cells.iter().find(|c| c.id == id) else {
            return Err(format!("{id} is no cell of the plan"));
        };
        let mut record = self.total;
        record.cell = cell.clone();
        record.shard = None;
        for (sum, distribution) in self.histograms.iter().zip(distributions(&mut record)) {
            *distribution =
                sum.as_ref().map(histogram::summarize).transpose().map_err(|e| e.to_string())?;
        }
        let ended = self.ended;
        record.cpu.per_request_ns =
            if ended > 0.0 { record.cpu.total_ns as f64 / ended.round() } else { 0.0 };
        record.events.syscalls_per_request =
            record.events.syscalls.filter(|_| ended > 0.0).map(|n| n as f64 / ended.round());
        record.cpu.machine_busy_ns = self.busy_ns.values().copied().sum();
        record.occupancy = self.occupied.map(|sum| sum / self.lanes.max(1) as f64);
        let why = "shards do not look at the same instants";
        record.unavailable.insert("in_flight_peak".into(), why.into());
        if record.target.processes > 0 {
            record.unavailable.retain(|field, _| !field.starts_with("target."));
        }
        if record.requests_per_lane.min == u64::MAX {
            record.requests_per_lane.min = 0;
        }
        record.shard_spread = self.spread;
        let trial_plan = sweep.trial_plan(cell);
        if let Some(planned) = Shard::WHOLE.planned(&trial_plan) {
            let ledger = &mut record.ledger;
            let Some(absent) = planned.checked_sub(ledger.planned) else {
                return Err(format!(
                    "{id} block {}: the shards planned {} requests, the plan has {planned}",
                    record.block, ledger.planned
                ));
            };
            // What a shard without a row was to send was not sent by anyone who could tell.
            ledger.planned = planned;
            ledger.unsent += absent;
        }
        let window = match trial_plan.extent {
            Extent::DurationNs(ns) => Some(ns),
            Extent::Requests(_) => None,
        };
        let seen = together(&self.starts, self.present.len() as u32);
        if window.is_none()
            && let Some(span) = span_ns(&self.starts)
        {
            record.measured_ns = span;
        }
        if record.measured_ns > 0 {
            record.achieved_per_s =
                record.completed_in_window as f64 * 1e9 / record.measured_ns as f64;
        }
        record.gates = self.gates;
        let present = self.present.len() as u32;
        record.gates.retain(|g| g.name != "shards_together" || g.ok == Some(false));
        if !record.gates.iter().any(|g| g.name == "shards_together") {
            record.gates.push(start::gate_shards(present, self.of));
        }
        let most_late = start::most_late_ns(window);
        record.gates.push(start::gate_ns("start_skew_ns", seen.skew_ns, most_late));
        if present == self.of {
            judge_received(&mut record, self.received);
        }
        record.shard_start = Some(seen);
        let missing: Vec<String> = (0..self.of)
            .filter(|k| self.present.binary_search(k).is_err())
            .take(20)
            .map(|k| k.to_string())
            .collect();
        if !missing.is_empty() {
            let before = record.error.map_or(String::new(), |e| format!("; {e}"));
            let missing = missing.join(", ");
            record.error = Some(format!("no row of this trial from shard {missing}{before}"));
        }
        record.status = status(&self.statuses, &record.gates);
        Ok(record)
    }
}

/// A sum that is known only when both parts are.
fn both(a: &mut Option<u64>, b: Option<u64>) {
    *a = a.zip(b).map(|(a, b)| a + b);
}

/// Adds a shard's processor time; what is no sum of parts is worked out at the end.
fn add_cpu(sum: &mut Cpu, other: &Cpu) {
    let Cpu {
        total_ns,
        user_ns,
        system_ns,
        per_request_ns: _,
        pacer_ns,
        run_queue_wait_ns,
        machine_busy_ns: _,
    } = other;
    sum.total_ns += total_ns;
    sum.user_ns += user_ns;
    sum.system_ns += system_ns;
    both(&mut sum.pacer_ns, *pacer_ns);
    both(&mut sum.run_queue_wait_ns, *run_queue_wait_ns);
}

/// Adds a shard's counted events; what is no sum of parts is worked out at the end.
fn add_events(sum: &mut Events, other: &Events) {
    let Events {
        minor_faults,
        major_faults,
        syscalls,
        syscalls_per_request: _,
        instructions,
        cycles,
    } = other;
    both(&mut sum.minor_faults, *minor_faults);
    both(&mut sum.major_faults, *major_faults);
    both(&mut sum.syscalls, *syscalls);
    both(&mut sum.instructions, *instructions);
    both(&mut sum.cycles, *cycles);
}

/// Adds a shard's memory. Every field stands here by name, so that a new one cannot be forgotten.
fn add_memory(sum: &mut Memory, other: &Memory) {
    let Memory {
        baseline_rss_bytes,
        peak_rss_bytes,
        plateau_user_bytes,
        heap_bytes,
        stack_bytes,
        page_table_bytes,
        kernel_stack_bytes,
        kernel_bytes,
        socket_bytes,
        unattributed_bytes,
        split: _,
    } = other;
    sum.baseline_rss_bytes += baseline_rss_bytes;
    sum.peak_rss_bytes += peak_rss_bytes;
    both(&mut sum.plateau_user_bytes, *plateau_user_bytes);
    both(&mut sum.heap_bytes, *heap_bytes);
    both(&mut sum.stack_bytes, *stack_bytes);
    both(&mut sum.page_table_bytes, *page_table_bytes);
    both(&mut sum.kernel_stack_bytes, *kernel_stack_bytes);
    both(&mut sum.kernel_bytes, *kernel_bytes);
    both(&mut sum.socket_bytes, *socket_bytes);
    both(&mut sum.unattributed_bytes, *unattributed_bytes);
    // Whose bytes they are is a question to one machine; the shards' own rows answer it.
    sum.split = None;
}

/// How a trial ended whose shards ended so.
fn status(of_shards: &[u32; 4], gates: &[Gate]) -> Status {
    let any = |status: Status| of_shards[status as usize] > 0;
    if any(Status::Interrupted) {
        Status::Interrupted
    } else if any(Status::Failed) {
        Status::Failed
    } else if any(Status::Invalid) || gates.iter().any(|g| g.hard && g.ok == Some(false)) {
        Status::Invalid
    } else {
        Status::Ok
    }
}

/// A target that served all shards is judged against the whole ledger, as one run's is.
fn judge_received(record: &mut TrialRecord, received: Option<u64>) {
    let Some(received) = received else { return };
    let (ledger, warmup) = (&record.ledger, &record.warmup);
    let fewest = ledger.completed + record.errors.status + record.errors.body + warmup.completed;
    let sent = |l: &Ledger| l.completed + l.failed + l.timed_out;
    let most = (sent(ledger) + sent(warmup)).saturating_sub(record.errors.connect);
    let whole = record.target.received == Some(received);
    if let Some(gate) = record.gates.iter_mut().find(|g| g.name == "target_received" && whole) {
        let limit = if received < fewest { fewest } else { most };
        gate.ok = Some((fewest..=most).contains(&received));
        gate.value = Some(received as f64);
        gate.limit = Some(limit as f64);
    }
}

fn widen(spread: &mut Option<ShardSpread>, record: &TrialRecord) {
    let one = |value| MinMax { min: value, max: value };
    let here = ShardSpread {
        completed: one(record.ledger.completed),
        cpu_total_ns: one(record.cpu.total_ns),
        peak_rss_bytes: one(record.memory.peak_rss_bytes),
    };
    let both = |a: MinMax, b: MinMax| MinMax { min: a.min.min(b.min), max: a.max.max(b.max) };
    *spread = Some(spread.map_or(here, |seen| ShardSpread {
        completed: both(seen.completed, here.completed),
        cpu_total_ns: both(seen.cpu_total_ns, here.cpu_total_ns),
        peak_rss_bytes: both(seen.peak_rss_bytes, here.peak_rss_bytes),
    }));
}

/// How the shards started, seen together.
fn together(starts: &[Began], shards: u32) -> ShardStart {
    let first = starts.iter().map(|b| b.from_unix_ns).min();
    let last = starts.iter().map(|b| b.from_unix_ns).max();
    let widest = starts.iter().max_by_key(|b| b.start.clock_offset_ns.map(i64::unsigned_abs));
    let widest = widest.map(|b| b.start.clone()).unwrap_or_default();
    let agreed = starts.first().and_then(|b| b.start.agreed_unix_ns);
    let same = starts.iter().all(|b| b.start.agreed_unix_ns == agreed);
    ShardStart {
        agreed_unix_ns: agreed.filter(|_| same),
        late_ns: starts.iter().filter_map(|b| b.start.late_ns).max(),
        clock_offset_ns: widest.clock_offset_ns,
        clock_error_ns: widest.clock_error_ns,
        clock_reference: widest.clock_reference,
        skew_ns: first.zip(last).map(|(a, b)| u64::try_from(b - a).unwrap_or(u64::MAX)),
        shards: Some(shards),
    }
}

/// From the first shard's start to the last one's end.
fn span_ns(starts: &[Began]) -> Option<u64> {
    let first = starts.iter().map(|b| b.from_unix_ns).min()?;
    let last = starts.iter().map(|b| b.from_unix_ns + i128::from(b.length_ns)).max()?;
    u64::try_from(last - first).ok()
}
