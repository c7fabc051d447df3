//! `stages` and traces: loads that bring their own rates, and what else must then be left out.

use std::path::Path;

use super::{Fault, each, fault};
use crate::config::entry::Only;
use crate::config::keys::{LONGEST_NS, Plan, Request, Stage as StageKeys};
use crate::config::kinds::{LEAST_RATE, MOST_RATE};
use crate::config::node::Place;
use crate::config::read::{
    At, Key, Keyed as _, Level, Several, duration_text, place_of, rate_literal,
};
use crate::plan::schedule::Schedule;
use crate::plan::stages::{self, Stage};
use crate::plan::trace::{Trace, TraceFile};
use crate::plan::{Arrivals, Extent, RequestTemplate, TrialPlan};
use crate::units::{SECOND_NS, duration_literal, format_count};

/// Most stages: beyond it a trace says the same.
const MAX_STAGES: usize = 1_000;

pub(super) enum Shape {
    /// `sweep.rates` say it, or the loop is closed.
    None,
    Stages(Vec<Stage>),
    Trace(Box<(TraceFile, Trace)>),
}

pub(super) fn resolve(
    file: &Plan,
    arrivals: Arrivals,
    mix: &[RequestTemplate],
    base_dir: &Path,
) -> Result<Shape, Vec<Fault>> {
    if arrivals == Arrivals::Trace {
        if let Some(at) = &file.stages {
            return Err(fault(at, "a trace has its own rates: remove the stages").into());
        }
        return Ok(trace(file, mix, base_dir)?);
    }
    if let Some((key, place)) = file.given_for(Only::Trace) {
        return Err(Fault::new(place, format!("`{key}` needs plan.arrivals = \"trace\"")).into());
    }
    let Some(list) = &file.stages else { return Ok(Shape::None) };
    if !arrivals.is_open() {
        let rule = "set plan.arrivals to \"constant\" or \"poisson\", or remove the stages";
        return Err(fault(list, format!("a closed loop has no rates: {rule}")).into());
    }
    if let Some(place) = file.duration.given_at().or(place_of(&file.requests)) {
        return Err(Fault::new(place, "the stages say how long the window is: remove it").into());
    }
    if list.value.is_empty() || list.value.len() > MAX_STAGES {
        let most = format_count(MAX_STAGES as u64);
        return Err(fault(list, format!("there must be from 1 to {most} stages")).into());
    }
    let stages = each(list.value.iter().map(stage))?;
    let total_ns = stages::total_ns(&stages);
    if total_ns as f64 > LONGEST_NS {
        let most = duration_text(LONGEST_NS);
        return Err(fault(list, format!("the stages are longer than {most} together")).into());
    }
    if stages::total_arrivals(&stages) < 1.0 {
        let length = duration_literal(total_ns);
        return Err(
            fault(list, format!("the stages offer less than one request in {length}")).into()
        );
    }
    Ok(Shape::Stages(stages))
}

fn stage(at: &At<StageKeys>) -> Result<Stage, Fault> {
    let keys = &at.value;
    let rate = |key: &At<Level>| {
        let rate = key.0;
        let allowed = rate == 0.0 || (LEAST_RATE..=MOST_RATE).contains(&rate);
        let (least, most) = (rate_literal(LEAST_RATE), rate_literal(MOST_RATE));
        let bound = || format!("be 0, or from {least} to {most}, not `{rate}`");
        if allowed { Ok(rate) } else { Err(Fault::must(&key.place, bound())) }
    };
    let (from_per_s, to_per_s) = match (&keys.rate, &keys.from, &keys.to) {
        (Some(step), None, None) => (rate(step)?, rate(step)?),
        (None, Some(from), Some(to)) => (rate(from)?, rate(to)?),
        _ => {
            let rule = "give `rate` for a step, or `from` and `to` for a ramp";
            return Err(fault(at, format!("a stage has one line: {rule}")));
        }
    };
    Ok(Stage { duration_ns: keys.duration.0, from_per_s, to_per_s })
}

fn trace(file: &Plan, mix: &[RequestTemplate], base_dir: &Path) -> Result<Shape, Fault> {
    let Some(at) = &file.trace else {
        return Err(fault(&file.arrivals, "needs `plan.trace`, the file to replay"));
    };
    let speed = file.trace_speed.value;
    check_mix(&file.request)?;
    let format = file.trace_format.as_ref().map(|at| at.value);
    let read = TraceFile::read(&base_dir.join(&at.value), format, speed, mix)
        .map_err(|error| fault(at, error))?;
    Ok(Shape::Trace(Box::new(read)))
}

/// Under a trace an entry of the mix says how requests of its method are sent, no more.
fn check_mix(list: &Key<Several<Request>>) -> Result<(), Fault> {
    let entries = list.iter().flat_map(|at| &at.value);
    let mut methods: Vec<&str> = Vec::new();
    for entry in entries {
        if let Some(place) = place_of(&entry.path).or(entry.weight.given_at()) {
            let rule = "an entry gives the headers and the body of its method";
            let message = format!("a trace has its own paths, in its own order: {rule}");
            return Err(Fault::new(place, message));
        }
        let method = entry.method.as_str();
        if methods.contains(&method) {
            let rule = "a trace takes one of each method";
            return Err(fault(entry, format!("a second {method}: {rule}")));
        }
        methods.push(method);
    }
    Ok(())
}

impl Shape {
    /// The extent that a shape brings or is cut to; `None` where the plan's own keys say it.
    pub(super) fn extent(&self, file: &Plan, plan: &TrialPlan) -> Result<Option<Extent>, Fault> {
        match self {
            Shape::None => Ok(None),
            Shape::Stages(stages) => Ok(Some(Extent::DurationNs(stages::total_ns(stages)))),
            Shape::Trace(read) => {
                let trace = &read.1;
                let first = trace.offsets_ns.partition_point(|at| *at < plan.warmup_ns) as u64;
                let left = trace.len() - first;
                if left == 0 {
                    return Err(fault(&file.warmup, "the whole trace falls into the warm-up"));
                }
                match (&file.requests, file.duration.given()) {
                    (Some(at), _) if at.0 > left => {
                        let left = format_count(left);
                        Err(fault(at, format!("the trace holds {left} requests for the window")))
                    }
                    (None, None) => Ok(Some(Extent::Requests(left))),
                    _ => Ok(None),
                }
            }
        }
    }

    /// Puts the shape into a plan whose extent is known.
    pub(super) fn apply(self, plan: &mut TrialPlan, key: &Key<String>) -> Result<(), Fault> {
        match self {
            Shape::None => {}
            Shape::Stages(stages) => {
                let seconds = stages::total_ns(&stages) as f64 / SECOND_NS as f64;
                plan.offered_per_s = Some(stages::total_arrivals(&stages) / seconds);
                plan.stages = stages;
            }
            Shape::Trace(read) => {
                let (file, trace) = *read;
                plan.trace = Some(file);
                let offered = mean_rate(plan, trace);
                let place = place_of(key).cloned().unwrap_or(Place::whole());
                let why = "no entry of the trace falls into the window";
                plan.offered_per_s = Some(offered.ok_or_else(|| Fault::new(&place, why))?);
            }
        }
        Ok(())
    }
}

/// Mean rate of what the window replays: over its length where time bounds it, else over the time
/// from the first request to the last. One instant alone counts as a second.
fn mean_rate(plan: &TrialPlan, trace: Trace) -> Option<f64> {
    let window = Schedule::window(plan, Some(&std::sync::Arc::new(trace)));
    let (mut count, mut first, mut last) = (0u64, None, 0);
    for arrival in window {
        count += 1;
        first.get_or_insert(arrival.offset_ns);
        last = arrival.offset_ns;
    }
    let first = first?;
    let (events, length_ns) = match plan.extent {
        Extent::DurationNs(ns) => (count, ns),
        Extent::Requests(_) if last > first => (count - 1, last - first),
        Extent::Requests(_) => (count, SECOND_NS),
    };
    Some((events as f64 * SECOND_NS as f64 / length_ns as f64).min(MOST_RATE))
}
