//! Bounds of keys, and values that are neither numbers nor names of engines.

use super::entry::{Entry, Kind};
use super::node::{Node, Value, shown};
use super::read::{Faults, Read, choice, choices, refuse};
use crate::plan::sweep::MemoryTrials;

pub(super) const GIB: f64 = (1u64 << 30) as f64;

/// Below it no thread of duel's starts.
pub(super) const LEAST_STACK: f64 = (16u64 << 10) as f64;

pub(super) const MAX_PROCESSES: f64 = 4_096.0;

/// Rates that a schedule in whole nanoseconds can hold: one in 11 days, one a nanosecond.
pub(super) const LEAST_RATE: f64 = 1e-6;
pub(super) const MOST_RATE: f64 = 1e9;

choices!(LawName, StepKind, ServerStepKind);

crate::plan::named! {
    pub(crate) enum ServerStepKind {
        Wait = "wait",
        Call = "call",
        Compute = "compute",
        File = "file",
    }

    pub(crate) enum StepKind {
        Http = "http",
        File = "file",
        Compute = "compute",
    }

    pub(crate) enum LawName {
        Fixed = "fixed",
        Uniform = "uniform",
        Exponential = "exponential",
        Lognormal = "lognormal",
    }
}

#[derive(Debug, Clone, Copy)]
pub(super) struct MemoryKey(pub(super) MemoryTrials);

impl Read for MemoryKey {
    const KIND: Kind = Kind::Either("`true`, `false` or `\"only\"`", &[]);

    fn read(node: &Node, _: &Entry, faults: &mut Faults) -> Option<Self> {
        let trials = match &node.value {
            Value::Bool(true) => MemoryTrials::Also,
            Value::Bool(false) => MemoryTrials::None,
            Value::Text(text) if text == "only" => MemoryTrials::Only,
            Value::Text(text) => {
                let message = format!("`{}`: allowed are true, false and \"only\"", shown(text));
                return refuse(faults, node, message);
            }
            other => {
                let message = format!("expected true, false or \"only\", found {}", other.found());
                return refuse(faults, node, message);
            }
        };
        Some(MemoryKey(trials))
    }
}
