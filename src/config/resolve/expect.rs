//! `[[expect]]`: each must speak of cells that the sweep holds.

use super::{Fault, each, fault};
use crate::config::keys::Expect as Entry;
use crate::config::read::{At, Key, Several};
use crate::plan::Engine;
use crate::plan::expect::{Expect, Expected, ExpectedSide};
use crate::plan::steps::Offload;
use crate::plan::sweep::Sweep;

const MAX_EXPECTATIONS: usize = 100;

pub(super) fn expectations(
    list: &Key<Several<Entry>>,
    sweep: &Sweep,
) -> Result<Vec<Expect>, Vec<Fault>> {
    let Some(At { value: list, .. }) = list else { return Ok(Vec::new()) };
    if let Some(at) = list.get(MAX_EXPECTATIONS) {
        return Err(fault(at, format!("at most {MAX_EXPECTATIONS} expectations")).into());
    }
    let cells = sweep.cells();
    each(list.iter().map(|at| {
        let expect = one(at, sweep)?;
        if expect.pairs(&cells).is_empty() {
            let why = "names no two cells that the sweep holds and that differ in their engine, \
                       or in where its steps go, alone";
            return Err(fault(at, why));
        }
        Ok(expect)
    }))
}

fn one(entry: &Entry, sweep: &Sweep) -> Result<Expect, Fault> {
    let axes = &sweep.axes;
    let measure = entry.measure.value;
    if measure == Expected::HeartbeatP99 && !sweep.plan.heartbeat {
        return Err(fault(&entry.measure, "there is no heartbeat: set plan.heartbeat = true"));
    }
    if let (Some(at), Expected::Runs) = (entry.by.given(), measure) {
        return Err(fault(at, "a trial runs or does not: there is no factor"));
    }
    let both = &entry.offload;
    Ok(Expect {
        winner: side(&entry.winner, &entry.winner_offload, both, sweep)?,
        over: side(&entry.over, &entry.over_offload, both, sweep)?,
        measure,
        by: entry.by.value,
        lanes: held(&entry.lanes, "lanes", &axes.lanes, |at| at.0 as u32)?,
        processes: held(&entry.processes, "processes", &axes.processes, |at| at.0 as u32)?,
        cpus: held(&entry.cpus, "cpus", &axes.cpus, |at| at.0 as u32)?,
        codec: match &entry.codec {
            Some(at) if !axes.codecs.contains(&at.value) => {
                return Err(fault(at, "is not among `sweep.codecs`"));
            }
            codec => codec.as_ref().map(|at| at.value),
        },
        rate: held(&entry.rate, "rates", &axes.rates_per_s, |at| at.0)?,
    })
}

fn held<T, U: PartialEq + ToString>(
    key: &Key<T>,
    axis: &str,
    values: &[U],
    of: impl Fn(&T) -> U,
) -> Result<Option<U>, Fault> {
    let Some(at) = key else { return Ok(None) };
    let value = of(&at.value);
    if values.contains(&value) {
        return Ok(Some(value));
    }
    let allowed: Vec<String> = values.iter().map(ToString::to_string).collect();
    let allowed = if allowed.is_empty() { "none".into() } else { allowed.join(", ") };
    let found = value.to_string();
    Err(fault(at, format!("`{found}` is not among `sweep.{axis}`: allowed are {allowed}")))
}

fn side(
    engine: &At<Engine>,
    own: &Key<Offload>,
    both: &Key<Offload>,
    sweep: &Sweep,
) -> Result<ExpectedSide, Fault> {
    let name = engine.value;
    if !sweep.axes.engines.contains(&name) {
        let names: Vec<&str> = sweep.axes.engines.iter().map(|engine| engine.name()).collect();
        let rule = format!("allowed are {}", names.join(", "));
        return Err(fault(
            engine,
            format!("`{}` is not among `sweep.engines`: {rule}", name.name()),
        ));
    }
    let place = own.as_ref().or(both.as_ref().filter(|_| name.offloads()));
    if let Some(at) = place {
        let held = match &sweep.axes.offload[..] {
            [] => at.value == Offload::Inline && sweep.plan.has_local_steps(),
            axis => axis.contains(&at.value),
        };
        if !name.offloads() || !held {
            let rule = "it must stand in `sweep.offload`, and beside a task engine";
            let found = at.value.name();
            return Err(fault(at, format!("`{found}` names no cells: {rule}")));
        }
    }
    Ok(ExpectedSide { engine: name, offload: place.map(|at| at.value) })
}
