//! Where the rows of a run are kept: a directory of its own, made anew or gone on with.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::driver::host;
use crate::driver::trial::Context;
use crate::format::{FORMAT_VERSION, Flag, TrialRecord};
use crate::plan::shard::Shard;
use crate::results::store::{self, PlanJson, RunDir, ShardOf, Versions};

#[derive(Default)]
pub(in crate::cmd) enum Directory {
    #[default]
    None,
    Named(PathBuf),
    /// In a new directory below `runs`.
    Fresh,
}

pub(super) fn create(
    path: &Path,
    shard: Option<Shard>,
    context: &Context,
    typed: bool,
) -> anyhow::Result<RunDir> {
    store::check_writable(path, 1 << 20)?;
    Ok(RunDir::create(path, &plan_json(shard, context, typed)?)?)
}

/// Makes a run directory of its own below `runs`, also where another run began in this second.
pub(super) fn create_fresh(shard: Option<Shard>, context: &Context) -> anyhow::Result<RunDir> {
    let first = store::default_dir(&context.sweep.name, jiff::Timestamp::now());
    std::fs::create_dir_all(first.parent().unwrap_or(Path::new(".")))
        .with_context(|| format!("cannot make {}", first.display()))?;
    for number in 2.. {
        let mut path = first.clone();
        if number > 2 {
            path.as_mut_os_string().push(format!("-{}", number - 1));
        }
        match std::fs::create_dir(&path) {
            Ok(()) => return create(&path, shard, context, false),
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e).with_context(|| format!("cannot make {}", path.display())),
        }
    }
    unreachable!("a number is free")
}

/// Opens the run directory to go on in; forced, every further row is flagged with what changed.
pub(super) fn resume(
    path: &Path,
    force: bool,
    context: &mut Context,
) -> anyhow::Result<(Option<RunDir>, Vec<TrialRecord>)> {
    let (dir, run) = RunDir::resume(path)?;
    for warning in &run.warnings {
        say!("duel: {warning}");
    }
    let machine = serde_json::to_value(host::HostFacts::read())?;
    let changed: Vec<(&str, Flag)> = [
        (run.plan.plan_hash != context.plan_hash, "the config", Flag::ConfigChanged),
        (
            run.plan.versions.binary_digest != context.binary_digest,
            "the duel binary",
            Flag::BinaryChanged,
        ),
        (run.plan.machine != machine, "the machine", Flag::MachineChanged),
    ]
    .into_iter()
    .filter_map(|(differs, what, flag)| differs.then_some((what, flag)))
    .collect();
    if !changed.is_empty() {
        let what: Vec<&str> = changed.iter().map(|(what, _)| *what).collect();
        let what = what.join(" and ");
        if !force {
            anyhow::bail!(
                "{}: cannot be resumed: {what} changed since; --force goes on and flags the rows",
                path.display()
            );
        }
        say!("duel: {}: {what} changed since; the rows from here on say so", path.display());
        context.remarks = changed.into_iter().map(|(_, flag)| flag).collect();
        // The directory's rows belong to the plan that it holds.
        context.plan_hash.clone_from(&run.plan.plan_hash);
    }
    Ok((Some(dir), run.kept()))
}

fn plan_json(shard: Option<Shard>, context: &Context, typed: bool) -> anyhow::Result<PlanJson> {
    let sweep = context.sweep;
    let cells = sweep.cells();
    Ok(PlanJson {
        format_version: FORMAT_VERSION,
        name: sweep.name.clone(),
        plan_hash: context.plan_hash.clone(),
        seed: sweep.plan.seed,
        created_utc: store::utc_stamp(jiff::Timestamp::now()),
        config: serde_json::to_value(sweep.masked().stored(typed))?,
        trials_planned: sweep.most_trials(),
        cells,
        machine: serde_json::to_value(host::HostFacts::read())?,
        limits: serde_json::to_value(&context.limits)?,
        versions: Versions {
            duel: env!("CARGO_PKG_VERSION").into(),
            git_revision: host::git_revision().map(Into::into),
            binary_digest: context.binary_digest.clone(),
        },
        command_line: crate::cmd::arguments::masked(std::env::args_os()),
        shard: shard.map(|shard| ShardOf {
            index: shard.index,
            count: shard.count,
            host: host::name(),
            boot_id: host::boot_id(),
        }),
        merged: None,
    })
}
