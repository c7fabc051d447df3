//! Shards of one run → one run directory: ledgers and histograms are added, never averaged.
//!
//! All shards ran the same trials in the same order, so they are read side by side, one row of
//! each at a time: memory grows with neither trials nor shards, but for a buffer a shard. The
//! merged directory appears whole or not at all.

mod row;
mod source;

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use rayon::iter::{IntoParallelRefMutIterator, ParallelIterator};

use crate::format::Status;
use crate::results::store::{
    Merged, PlanJson, RunDir, SHARDS_FILE, ShardMachine, StoreError, io_error,
};
use row::Rows;
use source::{Found, ShardSource};

/// Shards whose rows are in memory at once.
const BATCH: usize = 64;

/// Shards that cannot be merged, or could not be.
#[derive(Debug, thiserror::Error)]
pub enum MergeError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{0}")]
    Differs(String),
}

fn differs<T>(what: String) -> Result<T, MergeError> {
    Err(MergeError::Differs(what))
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MergedRun {
    pub(crate) shards: u32,
    pub rows: u32,
    /// Rows by how they ended: failed, invalid, interrupted.
    pub failed: u32,
    pub(crate) invalid: u32,
    pub(crate) interrupted: u32,
    /// One sentence each on what was set aside or is missing.
    pub warnings: Vec<String>,
}

/// Merges the shards in `dirs`, which must be all of one run, into the fresh directory `out`.
///
/// # Errors
/// Another plan, binary or format, a shard twice or missing, damage that is no torn last line, or
/// `out` is not fresh. Nothing is left behind then.
pub fn merge(dirs: &[PathBuf], out: &Path) -> Result<MergedRun, MergeError> {
    let mut sources = source::open_all(dirs)?;
    if out.read_dir().is_ok_and(|mut entries| entries.next().is_some()) || out.is_file() {
        return Err(StoreError::NotEmpty { path: out.into() }.into());
    }
    let partial = beside(out);
    // What a merge that was killed left behind; the name holds nothing else.
    let _ = fs::remove_dir_all(&partial);
    let merged = write_all(&mut sources, &partial);
    if merged.is_err() {
        let _ = fs::remove_dir_all(&partial);
    }
    let outcome = merged?;
    // Replaces an empty directory, and fails on one that was filled meanwhile.
    fs::rename(&partial, out).map_err(|e| {
        let _ = fs::remove_dir_all(&partial);
        io_error(out, "make it")(e)
    })?;
    Ok(outcome)
}

/// Where the merged directory grows, on the same file system.
fn beside(out: &Path) -> PathBuf {
    let name = out.file_name().unwrap_or_default().to_string_lossy();
    out.with_file_name(format!(".{name}.merging-{}", std::process::id()))
}

fn write_all(sources: &mut [ShardSource], dir: &Path) -> Result<MergedRun, MergeError> {
    let plan = merged_plan(sources);
    let Some(sweep) = plan.sweep() else {
        return differs(format!("{}: its config cannot be read", sources[0].place()));
    };
    let mut run = RunDir::create(dir, &plan)?;
    let path = dir.join(SHARDS_FILE);
    let failed = |error| io_error(&path, "write")(error);
    let mut shards = BufWriter::new(File::create(&path).map_err(&failed)?);
    let mut outcome = MergedRun { shards: sources.len() as u32, ..MergedRun::default() };
    let trials = u32::try_from(plan.trials_planned).unwrap_or(u32::MAX);
    for trial in 0..trials {
        if sources.iter().all(ShardSource::is_at_end) {
            break;
        }
        let Some(sum) = read_trial(sources, trial, &mut shards, &failed)? else { continue };
        let record = sum.finish(&plan, &sweep)?;
        outcome.rows += 1;
        match record.status {
            Status::Ok => {}
            Status::Failed => outcome.failed += 1,
            Status::Invalid => outcome.invalid += 1,
            Status::Interrupted => outcome.interrupted += 1,
        }
        run.append(&record)?;
    }
    for source in sources.iter() {
        if !source.is_at_end() {
            return differs(format!("{}: more trials than the plan has", source.place()));
        }
    }
    shards.flush().map_err(&failed)?;
    shards.get_ref().sync_all().map_err(&failed)?;
    outcome.warnings = sources.iter_mut().flat_map(|s| s.warnings.drain(..)).collect();
    let left = plan.trials_planned - u64::from(outcome.rows);
    if left > 0 {
        outcome.warnings.push(format!("{left} trials of the plan have no row in any shard"));
    }
    Ok(outcome)
}

/// Every shard's row of the trial at a position; `None` when no shard has one.
fn read_trial(
    sources: &mut [ShardSource],
    trial: u32,
    shards: &mut impl Write,
    failed: &impl Fn(std::io::Error) -> StoreError,
) -> Result<Option<Rows>, MergeError> {
    let mut sum: Option<Rows> = None;
    for batch in sources.chunks_mut(BATCH) {
        // Parsing and unpacking are nearly all of the work, and each row is its own.
        let rows: Vec<Result<Option<Found>, MergeError>> =
            batch.par_iter_mut().map(|source| source.take(trial)).collect();
        for row in rows {
            let Some(found) = row? else { continue };
            shards.write_all(&found.line).map_err(failed)?;
            let sum = sum.get_or_insert_with(|| Rows::new(&found));
            sum.add(found)?;
        }
    }
    Ok(sum.map(|mut sum| {
        sum.of = sources.len() as u32;
        sum
    }))
}

/// The plan of the whole run, as shard 0 wrote it.
fn merged_plan(sources: &[ShardSource]) -> PlanJson {
    let mut machines: Vec<ShardMachine> = vec![];
    for source in sources {
        let machine = &source.plan.machine;
        match machines.iter_mut().find(|m| m.machine == *machine) {
            Some(known) => known.shards.push(source.shard.index),
            None => machines
                .push(ShardMachine { shards: vec![source.shard.index], machine: machine.clone() }),
        }
    }
    PlanJson {
        shard: None,
        merged: Some(Merged { shards: sources.len() as u32, machines }),
        command_line: std::env::args_os().map(|a| a.to_string_lossy().into_owned()).collect(),
        ..sources[0].plan.clone()
    }
}
