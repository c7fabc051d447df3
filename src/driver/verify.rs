//! Conformance: one run of a plan under one engine, and what the target says it was sent.
//!
//! What is proven: the worker, as every trial runs it, sends each request of the plan exactly
//! once, byte for byte as the plan renders it. Each request carries its index in a header, so that
//! two requests that are otherwise alike cannot stand in for each other, and the plan's own bytes
//! are rendered here a second time, so that an error that all engines share would show as well.

use std::collections::BTreeMap;

use anyhow::anyhow;

use super::files::StepFiles;
use super::pipe::NoLine;
use super::quiet::Quiet;
use super::targets::Targets;
use super::worker::Worker;
use crate::limits::Limits;
use crate::plan::prepare::prepare;
use crate::plan::schedule::Schedule;
use crate::plan::sweep::{Sweep, Target};
use crate::plan::target::{EmbeddedTarget, InjectedFaults, Law};
use crate::plan::{Axis, Cell, Extent, TrialPlan};
use crate::protocol::Job;
use crate::server::digest::{Multiset, Seen};
use crate::side::Phase;
use crate::sys::now_ns;
use crate::units::SECOND_NS;

/// Most time from spawn to Ready, and from Go to Armed.
const PATIENCE_NS: u64 = 60 * SECOND_NS;
const LEAD_NS: u64 = 5_000_000;
/// How long a worker is waited for before the next look at whether it moves.
const LOOK_NS: u64 = 100_000_000;
pub(crate) const REQUESTS_BY_TIME: u64 = 10_000;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sent {
    pub sum: Multiset,
    /// Every request, sorted by number.
    pub requests: Vec<Seen>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Difference {
    pub missing: u64,
    pub extra: u64,
    pub other_bytes: u64,
    pub first: Option<(u64, &'static str)>,
}

/// The sweep as it is verified: numbered, without warm-up, bounded by requests.
///
/// A plan bounded by time is cut to as many requests as a trial would plan, at most `most`, or
/// [`REQUESTS_BY_TIME`].
pub(crate) fn numbered(sweep: &Sweep, most: Option<u64>) -> anyhow::Result<Sweep> {
    let mut sweep = sweep.clone();
    let plan = &mut sweep.plan;
    let trace = plan.trace.as_ref().map(|file| file.load(&plan.mix)).transpose()?;
    let trace = trace.map(std::sync::Arc::new);
    plan.warmup_ns = 0;
    let by_time = most.unwrap_or(REQUESTS_BY_TIME);
    let count = match plan.extent {
        Extent::Requests(requests) => most.map_or(requests, |most| most.min(requests)),
        Extent::DurationNs(_) if !plan.arrivals.is_open() => by_time,
        Extent::DurationNs(_) => {
            let fastest = sweep.axes.rates_per_s.iter().copied().reduce(f64::max);
            let rate = fastest.or(plan.offered_per_s);
            let open = TrialPlan { offered_per_s: rate, ..plan.clone() };
            let window = Schedule::window(&open, trace.as_ref());
            (window.take(by_time as usize).count() as u64).max(1)
        }
    };
    if !plan.values.is_empty() {
        plan.renderings = Some(crate::plan::prepare::renderings(plan));
    }
    plan.extent = Extent::Requests(count);
    plan.numbered = true;
    Ok(sweep)
}

/// The axes that change neither what is sent nor who sends it.
const MOOT: [Axis; 7] =
    [Axis::Lanes, Axis::Cpus, Axis::Load, Axis::Body, Axis::Stack, Axis::Pool, Axis::Allocator];

/// The cells to run: each engine, codec, number of workers and place of steps once, at the first
/// number of lanes and the highest rate.
pub fn cells(sweep: &Sweep) -> Vec<Cell> {
    let mut cells: Vec<Cell> = Vec::new();
    // What the others of several targets are asked differs in the `Host` alone, or is another plan.
    let first = |cell: &Cell| cell.is_timed() && cell.target_nth.is_none_or(|nth| nth == 0);
    for cell in sweep.cells().into_iter().filter(first) {
        let alike = cells.iter_mut().find(|known| known.except(&MOOT) == cell.except(&MOOT));
        match alike {
            None => cells.push(cell),
            Some(known) if known.offered_per_s < cell.offered_per_s => *known = cell,
            Some(_) => {}
        }
    }
    cells
}

pub fn planned(plan: &TrialPlan) -> anyhow::Result<Sent> {
    let prepared = prepare(plan)?;
    let Extent::Requests(count) = plan.extent else { return Err(anyhow!("bounded by time")) };
    let mut sent = Sent::default();
    for index in 0..count {
        let rendered = &prepared.rendered[prepared.mix.pick(index)];
        let (seen, whole) = Seen::of(index, &rendered.bytes);
        sent.sum.add(&whole);
        sent.requests.push(seen);
    }
    Ok(sent)
}

/// The request line of a request of the plan, for messages.
pub(crate) fn request_line(plan: &TrialPlan, index: u64) -> Option<String> {
    let prepared = prepare(plan).ok()?;
    let rendered = prepared.rendered.get(prepared.mix.pick(index))?;
    Some(format!("{} {}", rendered.method, rendered.uri_path()))
}

/// Runs a cell of a [`numbered`] sweep against a fresh embedded target that answers at once.
pub fn run(sweep: &Sweep, cell: &Cell) -> anyhow::Result<Sent> {
    let mut targets = Targets::start_digesting(&target(sweep, cell), sweep.plan.seed)?;
    let plan = sweep.trial_plan(cell);
    let files = StepFiles::of(&plan.mix, 0..cell.processes);
    let allocator = super::allocator::of(cell, &Limits::read());
    let mut workers = Vec::new();
    for number in 0..cell.processes {
        let mut worker = Worker::spawn(number, allocator.as_ref())?;
        let targets = targets.endpoints().to_vec();
        worker.job(Job {
            worker: number,
            setup_limit_ns: PATIENCE_NS,
            files: Some(files.name().into()),
            ..Job::of(cell, format!("verify {}", cell.id), targets, plan.clone())
        })?;
        workers.push(worker);
    }
    for worker in &mut workers {
        worker.ready(now_ns() + PATIENCE_NS)?;
    }
    for worker in &mut workers {
        worker.go()?;
    }
    for worker in &mut workers {
        let armed = worker.armed(now_ns() + PATIENCE_NS)?;
        if let Some(error) = armed.error {
            return Err(anyhow!(error));
        }
    }
    let start = now_ns() + LEAD_NS;
    targets.start_at(start);
    for worker in &mut workers {
        worker.start(start)?;
    }
    let mut quiet = Quiet::new(plan.timeout_ns, plan.longest_gap_ns());
    let mut complaint = None;
    for at in 0..workers.len() {
        let outcome = loop {
            match workers[at].outcome(now_ns() + LOOK_NS) {
                Ok(outcome) => break outcome,
                Err(never @ NoLine::Never(_)) => return Err(never.into()),
                Err(NoLine::Late) => {
                    let counts = workers.iter().filter_map(|w| w.counts(Phase::Measured));
                    quiet.check(now_ns(), counts.map(|c| c.ended()).sum(), start)?;
                }
            }
        };
        complaint = complaint.or(outcome.error_samples.into_iter().next());
    }
    workers.clear();
    let mut sent = Sent::default();
    for digest in targets.finish_digesting()? {
        let (sum, requests) = digest.decode()?;
        sent.sum.plus(&sum);
        sent.requests.extend(requests);
    }
    sent.requests.sort_unstable();
    match complaint {
        Some((kind, sample)) => Err(anyhow!("first {kind} error: {sample}")),
        None => Ok(sent),
    }
}

/// The config's target without its delays and faults: what is compared is bytes, not times.
fn target(sweep: &Sweep, cell: &Cell) -> EmbeddedTarget {
    let (processes, body_bytes) = match sweep.target_of(cell) {
        Target::Embedded(target) => (target.processes, target.body_bytes),
        Target::External { .. } => (1, 0),
    };
    EmbeddedTarget {
        service_time: Law::Fixed { ns: 0 },
        servers: 0,
        processes,
        body_bytes: cell.body_bytes.unwrap_or(body_bytes),
        faults: InjectedFaults::default(),
    }
}

/// Compares what came with what the plan holds; `None` if they are the same.
pub fn compare(planned: &Sent, came: &Sent) -> Option<Difference> {
    if planned.sum == came.sum && planned.requests == came.requests {
        return None;
    }
    let mut by_number: BTreeMap<u64, Vec<[u8; 16]>> = BTreeMap::new();
    for seen in &came.requests {
        by_number.entry(seen.number).or_default().push(seen.digest);
    }
    let mut difference = Difference::default();
    let mut first: Option<(u64, &'static str)> = None;
    let mut note = |number: u64, what: &'static str| {
        if first.is_none_or(|(known, _)| number < known) {
            first = Some((number, what));
        }
    };
    for seen in &planned.requests {
        let came = by_number.remove(&seen.number).unwrap_or_default();
        if came.is_empty() {
            difference.missing += 1;
            note(seen.number, "never came");
            continue;
        }
        difference.extra += came.len() as u64 - 1;
        if came.iter().any(|digest| *digest != seen.digest) {
            difference.other_bytes += 1;
            note(seen.number, "came with other bytes");
        } else if came.len() > 1 {
            note(seen.number, "came more than once");
        }
    }
    for (number, came) in by_number {
        difference.extra += came.len() as u64;
        note(number, "is not in the plan");
    }
    difference.first = first;
    Some(difference)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(requests: &[(u64, &str)]) -> Sent {
        let mut sent = Sent::default();
        for (number, raw) in requests {
            let (seen, whole) = Seen::of(*number, raw.as_bytes());
            sent.sum.add(&whole);
            sent.requests.push(seen);
        }
        sent.requests.sort_unstable();
        sent
    }

    #[test]
    fn what_differs_is_counted_and_the_first_is_named() {
        let plan = sent(&[(0, "a"), (1, "b"), (2, "c"), (3, "d")]);
        assert_eq!(compare(&plan, &sent(&[(3, "d"), (1, "b"), (0, "a"), (2, "c")])), None);
        let difference = |came: &[(u64, &str)]| {
            let found = compare(&plan, &sent(came)).expect("they differ");
            (found.missing, found.extra, found.other_bytes, found.first.expect("one is named"))
        };
        assert_eq!(
            difference(&[(0, "a"), (2, "c"), (2, "c"), (3, "d")]),
            (1, 1, 0, (1, "never came"))
        );
        assert_eq!(
            difference(&[(0, "a"), (1, "b"), (2, "C"), (3, "d")]),
            (0, 0, 1, (2, "came with other bytes"))
        );
        assert_eq!(
            difference(&[(0, "a"), (1, "b"), (1, "b"), (2, "c"), (3, "d")]),
            (0, 1, 0, (1, "came more than once"))
        );
        assert_eq!(
            difference(&[(0, "a"), (1, "b"), (2, "c"), (3, "d"), (u64::MAX, "x")]),
            (0, 1, 0, (u64::MAX, "is not in the plan"))
        );
    }
}
