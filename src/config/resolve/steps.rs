//! `[[plan.request.step]]`: what goes with which kind, and directories that can be written.

use std::path::{Path, PathBuf};

use super::{Fault, axis_or, each, fault, number};
use crate::config::keys::{Step, StepKind};
use crate::config::node::{Place, shown};
use crate::config::read::{At, Count, Key, Keyed, Several, Size};
use crate::plan::TrialPlan;
use crate::plan::server::ServerSetting;
use crate::plan::steps::{DIRECT_ALIGN_BYTES, FileOp, FileStep, Offload, StepPlan};
use crate::units::size_literal;

const MAX_STEPS: usize = 100;

/// Most bytes that a file step moves; those of a compute step are bounded by the key itself.
const MAX_FILE_BYTES: u64 = 1 << 30;

const MAX_FILES_BYTES: u64 = 4 << 30;

pub(super) fn steps(
    list: &Key<Several<Step>>,
    base_dir: &Path,
) -> Result<Vec<StepPlan>, Vec<Fault>> {
    let Some(list) = list else { return Ok(Vec::new()) };
    let entries = &list.value;
    if entries.is_empty() {
        return Err(fault(list, "the list is empty: name its steps, or leave it out").into());
    }
    if entries.len() > MAX_STEPS {
        return Err(fault(list, format!("the list is too long: at most {MAX_STEPS} steps")).into());
    }
    let steps = each(entries.iter().map(|entry| step(entry, base_dir)))?;
    let mut exchanges = entries.iter().zip(&steps).filter(|(_, step)| !step.is_local());
    match (exchanges.next(), exchanges.next()) {
        (Some(_), None) => Ok(steps),
        (Some(_), Some((second, _))) => {
            let rule = "a request is sent once, so exactly one step is of the kind `http`";
            Err(fault(second, format!("the second `http` step: {rule}")).into())
        }
        (None, _) => {
            let rule = "exactly one step is of the kind `http`, which sends the request";
            Err(fault(list, format!("no `http` step: {rule}")).into())
        }
    }
}

fn step(at: &At<Step>, base_dir: &Path) -> Result<StepPlan, Fault> {
    let Step { kind, bytes, op, files, direct, sync, dir } = &at.value;
    let taken: &[&str] = match kind.value {
        StepKind::Http => &[],
        StepKind::Compute => &["bytes"],
        StepKind::File => FILE_KEYS,
    };
    takes(&at.value, kind.value.name(), taken)?;
    let keys = FileKeys { place: &at.place, bytes, op, files, direct, sync, dir };
    Ok(match kind.value {
        StepKind::Http => StepPlan::Http,
        StepKind::Compute => StepPlan::Compute { bytes: keys.bytes()?.0 },
        StepKind::File => StepPlan::File(keys.resolve(base_dir)?),
    })
}

pub(super) const FILE_KEYS: &[&str] = &["bytes", "op", "files", "direct", "sync", "dir"];

/// Refuses keys that a step of this kind does not take.
pub(super) fn takes(step: &impl Keyed, kind: &str, taken: &[&str]) -> Result<(), Fault> {
    match step.given().find(|(name, _)| *name != "kind" && !taken.contains(name)) {
        None => Ok(()),
        Some((name, place)) => {
            let taken = taken.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
            let rule = if taken.is_empty() { "no other key".into() } else { taken };
            let why = format!("`{name}` does not go with the kind `{kind}`, which takes {rule}");
            Err(Fault::new(place, why))
        }
    }
}

pub(super) fn needs(place: &Place, key: &str, example: &str) -> Fault {
    Fault::new(place, format!("needs the key `{key}`, such as {key} = {example}"))
}

/// The keys of a file step, of a request or of a server's handler.
pub(super) struct FileKeys<'k> {
    pub(super) place: &'k Place,
    pub(super) bytes: &'k Key<Size>,
    pub(super) op: &'k At<FileOp>,
    pub(super) files: &'k At<Count>,
    pub(super) direct: &'k At<bool>,
    pub(super) sync: &'k At<bool>,
    pub(super) dir: &'k Key<String>,
}

impl<'k> FileKeys<'k> {
    pub(super) fn bytes(&self) -> Result<&'k At<Size>, Fault> {
        self.bytes.as_ref().ok_or_else(|| needs(self.place, "bytes", "\"64KiB\""))
    }

    pub(super) fn resolve(&self, base_dir: &Path) -> Result<FileStep, Fault> {
        let bytes = self.bytes()?;
        if bytes.0 > MAX_FILE_BYTES {
            let (most, found) = (size_literal(MAX_FILE_BYTES), size_literal(bytes.0));
            let bound = format!("be at most {most} for a file, not `{found}`");
            return Err(Fault::must(&bytes.place, bound));
        }
        let step = FileStep {
            op: self.op.value,
            bytes: bytes.0,
            files: number(self.files),
            direct: self.direct.value,
            sync: self.sync.value,
            dir: self.dir.as_ref().map(|at| directory(at, base_dir)).transpose()?,
        };
        if step.bytes * u64::from(step.files) > MAX_FILES_BYTES {
            let most = size_literal(MAX_FILES_BYTES);
            let sum = size_literal(step.bytes * u64::from(step.files));
            let place = self.files.given_at().unwrap_or(self.place);
            return Err(Fault::new(place, format!("files of {sum} in all: at most {most}")));
        }
        if step.direct && !step.bytes.is_multiple_of(DIRECT_ALIGN_BYTES) {
            let unit = size_literal(DIRECT_ALIGN_BYTES);
            return Err(fault(bytes, format!("direct steps take a multiple of {unit}")));
        }
        if self.sync.given().is_some() && step.op == FileOp::Read {
            return Err(fault(self.sync, "only a step with op = \"write\" can wait for the disk"));
        }
        Ok(step)
    }
}

/// A directory in which files can be made now; whether they fit is seen when they are.
fn directory(at: &At<String>, base_dir: &Path) -> Result<PathBuf, Fault> {
    let cannot = |why: &str| fault(at, format!("`{}` {why}", shown(at)));
    let path = std::path::absolute(base_dir.join(&at.value))
        .map_err(|error| cannot(&format!("is not a directory: {error}")))?;
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
pub(super) fn offload(
    list: &Key<Several<Offload>>,
    plan: &TrialPlan,
    server: Option<&ServerSetting>,
) -> Result<Vec<Offload>, Vec<Fault>> {
    let (there_is, rule) = match server {
        Some(server) => (
            server.has_local_work(),
            "give the handler a [[server.step]] of the kind `file` or `compute`",
        ),
        None => (
            plan.has_local_steps(),
            "give a request a [[plan.request.step]] of the kind `file` or `compute`",
        ),
    };
    if let Some(at) = list
        && !there_is
    {
        return Err(fault(at, format!("there is nothing to offload: {rule}")).into());
    }
    axis_or(list, Vec::new(), |at| Ok(at.value))
}

/// The axis of calls that are under way at once.
pub(super) fn fan_out(
    list: &Key<Several<Count>>,
    server: Option<&ServerSetting>,
) -> Result<Vec<u32>, Vec<Fault>> {
    let most = server.map_or(0, ServerSetting::most_calls);
    axis_or(list, Vec::new(), |at| match number(at) {
        _ if most == 0 => {
            let rule =
                "give the handler of a server under test a [[server.step]] of the kind `call`";
            Err(fault(at, format!("there is nothing to call: {rule}")))
        }
        wanted if wanted > most => {
            let rule = "raise `calls` of the step, or lower this";
            Err(fault(at, format!("`{wanted}` is more than a step's calls, {most}: {rule}")))
        }
        wanted => Ok(wanted),
    })
}
