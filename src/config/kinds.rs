//! Values of keys that are neither numbers nor names of engines.

use super::entry::{Entry, Kind};
use super::node::{Node, Value, shown};
use super::read::{Faults, Read, choice, choices, names, refuse};
use crate::plan::sweep::MemoryTrials;

choices!(LawName, StepKind, ServerStepKind);

/// What a step of the server's handler is.
#[derive(Debug, serde::Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(super) enum ServerStepKind {
    Wait,
    Call,
    Compute,
    File,
}

/// What a step of a request is.
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

/// A law of service times.
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
