//! Bounds of keys, and values that are neither numbers nor names of engines.

use super::entry::{Entry, Kind};
use super::node::{Node, Value, shown};
use super::read::{Faults, Read, choice, choices, names, refuse};
use crate::plan::sweep::MemoryTrials;
use crate::units::SECOND_NS;

/// Longest duration: sums of a few of them stay far inside `u64`.
pub(super) const MAX_NS: f64 = 30.0 * 24.0 * 3600.0 * SECOND_NS as f64;

pub(super) const GIB: f64 = (1u64 << 30) as f64;

pub(super) const MAX_PROCESSES: f64 = 4_096.0;

/// Rates that a schedule in whole nanoseconds can hold: one in 11 days, one a nanosecond.
pub(super) const LEAST_RATE: f64 = 1e-6;
pub(super) const MOST_RATE: f64 = 1e9;

choices!(LawName, StepKind, ServerStepKind);

#[derive(Debug, serde::Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(super) enum ServerStepKind {
    Wait,
    Call,
    Compute,
    File,
}

#[derive(Debug, serde::Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(super) enum StepKind {
    Http,
    File,
    Compute,
}

impl StepKind {
    pub(super) fn name(self) -> &'static str {
        match self {
            StepKind::Http => "http",
            StepKind::File => "file",
            StepKind::Compute => "compute",
        }
    }
}

#[derive(Debug, serde::Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(super) enum LawName {
    Fixed,
    Uniform,
    Exponential,
    Lognormal,
}

/// `true`, `false` or `"only"`.
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
