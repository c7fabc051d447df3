//! The shards' rows of one trial → one row of the whole plan: figures are added as those of workers
//! are, and what was judged of each shard is judged of the whole.

use super::source::Found;
use super::{MergeError, differs};
use crate::driver::gates as judge;
use crate::fleet::gates;
use crate::format::add::Sum;
use crate::format::gates::GateKind;
use crate::format::{Gate, MinMax, ShardSpread, ShardStart, Status, TrialRecord, field, rule};
use crate::plan::Extent;
use crate::plan::shard::Shard;
use crate::plan::sweep::Sweep;
use crate::results::store::PlanJson;

/// What the rows of a trial come to so far.
pub(super) struct Rows {
    pub(super) of: u32,
    sum: Sum,
    present: Vec<u32>,
    spread: Option<ShardSpread>,
    starts: Vec<Began>,
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

impl Rows {
    pub(super) fn new(first: &Found) -> Rows {
        Rows {
            of: 0,
            sum: Sum::new(first.record.same_trial()),
            present: vec![],
            spread: None,
            starts: vec![],
            gates: vec![],
            received: None,
            statuses: [0; 4],
        }
    }

    pub(super) fn add(&mut self, found: Found) -> Result<(), MergeError> {
        let Found { record, times, boot_id, .. } = found;
        let index = record.shard.map_or(0, |s| s.index);
        let total = &self.sum.total;
        if (&record.cell.id, record.block) != (&total.cell.id, total.block) {
            return differs(format!(
                "trial {} is {} block {} in shard {index}, and {} block {} in another",
                record.trial, record.cell.id, record.block, total.cell.id, total.block
            ));
        }
        let unreadable = |e| MergeError::Differs(format!("shard {index}: {e}"));
        self.sum.add(&record, times, &boot_id).map_err(unreadable)?;
        self.add_verdict(&record, index);
        self.add_gates(&record);
        rule::known(&mut self.spread, &Some(spread(&record)), self.present.is_empty());
        if let (Some(at), Some(start)) = (record.started_unix_ns, &record.shard_start) {
            let offset = start.clock_offset_ns.filter(|_| gates::sure_offset_ns(start) > Some(0));
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

    fn add_verdict(&mut self, record: &TrialRecord, index: u32) {
        let total = &mut self.sum.total;
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
        if record.memory.split.is_some() {
            // Whose bytes they are is a question to one machine; the shards' own rows answer it.
            let why = "each shard's row in shards.jsonl holds its own";
            total.unavailable.insert(field!(TrialRecord.memory.split).into(), why.into());
        }
    }

    /// A gate holds when it holds on every shard; the one that fails is shown, else the largest.
    fn add_gates(&mut self, record: &TrialRecord) {
        for gate in &record.gates {
            let Some(known) = self.gates.iter_mut().find(|g| g.name == gate.name) else {
                self.gates.push(gate.clone());
                continue;
            };
            if gate.is(GateKind::ConnectedLanes) {
                known.value = known.value.zip(gate.value).map(|(a, b)| a + b);
                known.limit = known.limit.zip(gate.limit).map(|(a, b)| a + b);
                known.ok = known.ok.zip(gate.ok).map(|(a, b)| a && b);
            } else if !known.failed() && (gate.failed() || gate.value > known.value) {
                *known = gate.clone();
            }
        }
        if record.target.processes > 0 {
            self.received = record.target.received;
        }
    }

    pub(super) fn finish(self, plan: &PlanJson, sweep: &Sweep) -> Result<TrialRecord, MergeError> {
        let mut record = self.sum.finish().map_err(|e| MergeError::Differs(e.to_string()))?;
        let id = record.cell.id.clone();
        let Some(cell) = plan.cells.iter().find(|c| c.id == id) else {
            return differs(format!("{id} is not a cell of the plan"));
        };
        record.cell = cell.clone();
        record.memory.split = None;
        let why = "shards do not look at the same instants";
        record.unavailable.insert(field!(TrialRecord.in_flight_peak).into(), why.into());
        if record.target.processes > 0 {
            record.unavailable.retain(|field, _| !field.starts_with("target."));
        }
        if record.server.is_some() {
            record.unavailable.remove(field!(TrialRecord.server));
        }
        record.shard_spread = self.spread;
        // Each block draws its arrivals anew, so that it plans a number of its own.
        let trial_plan = sweep.block_plan(cell, record.block);
        if let Some(planned) = Shard::WHOLE.planned(&trial_plan) {
            let ledger = &mut record.ledger;
            let Some(absent) = planned.checked_sub(ledger.planned) else {
                return differs(format!(
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
            record.rate_ns = record.rate_ns.max(span);
        }
        record.derive();
        record.gates = self.gates;
        let present = self.present.len() as u32;
        record.gates.retain(|g| !g.is(GateKind::ShardsTogether) || g.failed());
        if !record.gates.iter().any(|g| g.is(GateKind::ShardsTogether)) {
            record.gates.push(gates::gate_shards(present, self.of));
        }
        let most_late = gates::most_late_ns(window);
        record.gates.push(gates::gate_ns(GateKind::StartSkew, seen.skew_ns, most_late));
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

/// How a trial ended whose shards ended so.
fn status(of_shards: &[u32; 4], gates: &[Gate]) -> Status {
    let any = |status: Status| of_shards[status as usize] > 0;
    if any(Status::Interrupted) {
        Status::Interrupted
    } else if any(Status::Failed) {
        Status::Failed
    } else if any(Status::Invalid) || judge::is_invalid(gates) {
        Status::Invalid
    } else {
        Status::Ok
    }
}

/// A target that served all shards is judged against the whole ledger, as one run's is.
fn judge_received(record: &mut TrialRecord, received: Option<u64>) {
    let Some(received) = received.filter(|n| record.target.received == Some(*n)) else { return };
    let (fewest, most) = record.can_have_arrived();
    if let Some(gate) = record.gates.iter_mut().find(|g| g.is(GateKind::TargetReceived)) {
        *gate = judge::received(Some((received, fewest, most)));
    }
}

/// A shard's own figures, as the ends of a range.
fn spread(record: &TrialRecord) -> ShardSpread {
    let one = |value| MinMax { min: value, max: value };
    ShardSpread {
        completed: one(record.ledger.completed),
        cpu_total_ns: one(record.cpu.total_ns),
        peak_rss_bytes: one(record.memory.peak_rss_bytes),
    }
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
