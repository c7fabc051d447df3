//! `[[plan.request.step]]`: what goes with which kind, and directories that can be written.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use toml::Spanned;

use super::{Fault, MAX_SIZE_BYTES, axis, fault, size, whole_u32};
use crate::config::explain::shown;
use crate::config::file::{Key, List, Step, StepKind};
use crate::plan::TrialPlan;
use crate::plan::steps::{DIRECT_ALIGN_BYTES, FileOp, FileStep, Offload, StepPlan};
use crate::units::size_literal;

/// Most steps of a request.
const MAX_STEPS: usize = 100;

/// Largest amount of one compute step: a minute or so of a core.
const MAX_COMPUTE_BYTES: u64 = 64 << 30;

/// Most files of a set: each is written to the disk before the clock starts.
const MAX_FILES: u64 = 10_000;

/// Most bytes of all files of a worker.
const MAX_FILES_BYTES: u64 = 4 << 30;

pub(super) fn steps(list: &List<Step>, base_dir: &Path) -> Result<Vec<StepPlan>, Fault> {
    let Some(list) = list else { return Ok(Vec::new()) };
    let entries = list.get_ref();
    if entries.is_empty() {
        return Err(fault(list, "the list is empty: name its steps, or leave it out"));
    }
    if entries.len() > MAX_STEPS {
        return Err(fault(list, format!("the list is too long: at most {MAX_STEPS} steps")));
    }
    let steps = entries.iter().map(|entry| step(entry, base_dir)).collect::<Result<Vec<_>, _>>()?;
    let mut exchanges = entries.iter().zip(&steps).filter(|(_, step)| !step.is_local());
    match (exchanges.next(), exchanges.next()) {
        (Some(_), None) => Ok(steps),
        (Some(_), Some((second, _))) => {
            let rule = "a request is sent once, so exactly one step is of the kind `http`";
            Err(fault(second, format!("the second `http` step: {rule}")))
        }
        (None, _) => {
            let rule = "exactly one step is of the kind `http`, which sends the request";
            Err(fault(list, format!("no `http` step: {rule}")))
        }
    }
}

fn step(at: &Spanned<Step>, base_dir: &Path) -> Result<StepPlan, Fault> {
    let entry = at.get_ref();
    let kind = *entry.kind.get_ref();
    let stray = |found: Option<std::ops::Range<usize>>, name: &str| match found {
        Some(span) => {
            let message = format!("`{name}` does not go with the kind `{}`", kind.name());
            Err(Fault { span, message })
        }
        None => Ok(()),
    };
    if kind != StepKind::File {
        stray(span(&entry.op), "op")?;
        stray(span(&entry.files), "files")?;
        stray(span(&entry.direct), "direct")?;
        stray(span(&entry.sync), "sync")?;
        stray(span(&entry.dir), "dir")?;
    }
    match kind {
        StepKind::Http => {
            stray(span(&entry.bytes), "bytes")?;
            Ok(StepPlan::Http)
        }
        StepKind::Compute => {
            Ok(StepPlan::Compute { bytes: bytes(at, entry, 1..=MAX_COMPUTE_BYTES)? })
        }
        StepKind::File => file(at, entry, base_dir).map(StepPlan::File),
    }
}

fn span<T>(key: &Key<T>) -> Option<std::ops::Range<usize>> {
    key.as_ref().map(Spanned::span)
}

fn bytes(at: &Spanned<Step>, entry: &Step, allowed: RangeInclusive<u64>) -> Result<u64, Fault> {
    match &entry.bytes {
        Some(bytes) => size(bytes, allowed),
        None => Err(fault(at, "needs the key `bytes`, such as bytes = \"64KiB\"")),
    }
}

fn file(at: &Spanned<Step>, entry: &Step, base_dir: &Path) -> Result<FileStep, Fault> {
    let set = |key: &Key<bool>| key.as_ref().is_some_and(|at| *at.get_ref());
    let op = entry.op.as_ref().map_or(FileOp::Read, |at| *at.get_ref());
    let step = FileStep {
        op,
        bytes: bytes(at, entry, 1..=MAX_SIZE_BYTES)?,
        files: entry.files.as_ref().map_or(Ok(16), |at| whole_u32(at, 1..=MAX_FILES))?,
        direct: set(&entry.direct),
        sync: set(&entry.sync),
        dir: entry.dir.as_ref().map(|at| directory(at, base_dir)).transpose()?,
    };
    if step.bytes * u64::from(step.files) > MAX_FILES_BYTES {
        let most = size_literal(MAX_FILES_BYTES);
        let sum = size_literal(step.bytes * u64::from(step.files));
        let span = span(&entry.files).unwrap_or(at.span());
        return Err(Fault { span, message: format!("files of {sum} in all: at most {most}") });
    }
    if let (Some(at), true) = (&entry.bytes, step.direct)
        && !step.bytes.is_multiple_of(DIRECT_ALIGN_BYTES)
    {
        let unit = size_literal(DIRECT_ALIGN_BYTES);
        return Err(fault(at, format!("direct steps take a multiple of {unit}")));
    }
    if let (Some(at), FileOp::Read) = (&entry.sync, op) {
        return Err(fault(at, "only a step with op = \"write\" can wait for the disk"));
    }
    Ok(step)
}

/// A directory in which files can be made now; whether they fit is seen when they are.
fn directory(at: &Spanned<String>, base_dir: &Path) -> Result<PathBuf, Fault> {
    let cannot = |why: &str| fault(at, format!("`{}` {why}", shown(at.get_ref())));
    let path = std::path::absolute(base_dir.join(at.get_ref()))
        .map_err(|error| cannot(&format!("is no directory: {error}")))?;
    match std::fs::metadata(&path) {
        Err(error) => return Err(cannot(&format!("cannot be used: {error}"))),
        Ok(found) if !found.is_dir() => return Err(cannot("is not a directory")),
        Ok(_) => {}
    }
    let needed = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
    rustix::fs::access(&path, needed)
        .map_err(|error| cannot(&format!("cannot be written: {}", std::io::Error::from(error))))?;
    Ok(path)
}

/// The axis of places for such steps.
pub(super) fn offload(list: &List<Offload>, plan: &TrialPlan) -> Result<Vec<Offload>, Fault> {
    if let Some(at) = list
        && !plan.has_local_steps()
    {
        let rule = "give a request a [[plan.request.step]] of the kind `file` or `compute`";
        return Err(fault(at, format!("there is nothing to offload: {rule}")));
    }
    axis(list, Vec::new(), |at| Ok(*at.get_ref()))
}
