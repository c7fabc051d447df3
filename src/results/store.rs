//! The run directory: `plan.json`, written once, and `trials.jsonl`, one synced line per trial.
//!
//! A crash at any moment loses at most the trial under way: `plan.json` appears whole or not at
//! all, and a line that was cut off is recognised by what is missing at its end, set aside and
//! reported, while everything before it is read.

mod check;
mod read;
mod told;

pub(crate) use read::{RowLine, row};

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock, statvfs};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::format::{FORMAT_VERSION, Status, TrialRecord};
use crate::plan::Cell;

pub const PLAN_FILE: &str = "plan.json";
pub const TRIALS_FILE: &str = "trials.jsonl";
/// Name of the shards' own rows inside a merged directory.
pub(crate) const SHARDS_FILE: &str = "shards.jsonl";
/// Where a torn line goes when its run is resumed.
pub const TORN_FILE: &str = "trials.torn";

/// What a run was to do, and where: everything that a reader must know beside the trials.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlanJson {
    /// [`FORMAT_VERSION`] of the writer.
    pub format_version: u32,
    pub name: String,
    /// SHA-256 over target, plan and sweep, in hexadecimal; every record carries it.
    pub plan_hash: String,
    pub seed: u64,
    /// When the run began, RFC 3339.
    pub created_utc: String,
    /// The resolved sweep, secrets masked.
    pub config: serde_json::Value,
    pub cells: Vec<Cell>,
    /// Cells × repetitions.
    pub trials_planned: u64,
    pub machine: serde_json::Value,
    pub limits: serde_json::Value,
    pub versions: Versions,
    /// The arguments as given, secrets masked.
    pub command_line: Vec<String>,
    /// The part of the plan that ran here; `None` for all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shard: Option<ShardOf>,
    /// What a merged directory was made from; `None` elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub merged: Option<Merged>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardOf {
    pub index: u32,
    pub count: u32,
    pub host: String,
    /// The kernel's random id of this boot: equal for shards on one machine.
    pub boot_id: String,
}

/// What a merged directory was made from.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Merged {
    pub shards: u32,
    /// Their machines, equal ones once.
    pub machines: Vec<ShardMachine>,
}

/// A machine and the shards that ran on machines like it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ShardMachine {
    pub shards: Vec<u32>,
    /// As `machine` of their plan.json.
    pub machine: serde_json::Value,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Versions {
    pub duel: String,
    /// Revision that it was built from, where known.
    pub git_revision: Option<String>,
    /// SHA-256 of the binary, in hexadecimal.
    pub binary_digest: String,
}

/// A run directory that could not be made, written or read.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("{}: cannot {action}: {error}", path.display())]
    Io {
        path: PathBuf,
        action: &'static str,
        /// Why it failed. No `source`, since the text holds it and a chain would tell it twice.
        error: io::Error,
    },
    #[error(
        "{}: the directory is not empty; name a fresh one, or use --resume if it holds this run",
        path.display()
    )]
    NotEmpty { path: PathBuf },
    /// Nothing that this program wrote.
    #[error("{}: not a run directory: {why}", path.display())]
    Foreign { path: PathBuf, why: String },
    #[error(
        "{}:{line}: format version {found}; this binary reads up to {FORMAT_VERSION}: use a newer duel",
        path.display()
    )]
    Newer {
        path: PathBuf,
        /// Its line, from 1.
        line: usize,
        found: u64,
    },
    #[error("{}:{line}: {what}", path.display())]
    Malformed {
        path: PathBuf,
        /// Its line, from 1.
        line: usize,
        what: String,
    },
    #[error("trial {trial} ({cell}, block {block}) is not written: {what}")]
    Refused { trial: u32, cell: String, block: u32, what: String },
    #[error("{}: another duel is writing to this run directory", path.display())]
    Locked { path: PathBuf },
    #[error("{}: {free} free, about {needed} needed for this run", path.display())]
    Full { path: PathBuf, free: String, needed: String },
}

/// Attaches the path and what was tried to an error of the system.
pub(crate) fn io_error(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> StoreError {
    move |error| StoreError::Io { path: path.into(), action, error }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    pub(crate) path: PathBuf,
    pub plan: PlanJson,
    /// Its records, in the order in which they were written.
    pub records: Vec<TrialRecord>,
    /// What was set aside, one sentence each with file and line.
    pub warnings: Vec<String>,
    /// Bytes of [`TRIALS_FILE`] that are whole; what follows is torn.
    whole_bytes: u64,
}

/// A trial's identity and the key of `--resume`: cell id and block.
pub(crate) type TrialKey = (String, u32);

impl Run {
    /// The rows of the trials that need not run again: of all but the interrupted ones.
    pub fn kept(self) -> Vec<TrialRecord> {
        self.records.into_iter().filter(|r| r.status != Status::Interrupted).collect()
    }
}

/// A run directory that is open for writing, by one process at a time.
#[derive(Debug)]
pub struct RunDir {
    path: PathBuf,
    trials: File,
}

impl RunDir {
    /// Makes a fresh run directory with its plan; an existing one must be empty.
    pub fn create(path: &Path, plan: &PlanJson) -> Result<RunDir, StoreError> {
        DirBuilder::new()
            .recursive(true)
            .create(path)
            .map_err(io_error(path, "create the directory"))?;
        let mut entries = fs::read_dir(path).map_err(io_error(path, "list the directory"))?;
        if entries.next().is_some() {
            return Err(StoreError::NotEmpty { path: path.into() });
        }
        let text = serde_json::to_vec_pretty(plan)
            .map_err(|e| io_error(path, "write the plan")(e.into()))?;
        write_atomic(&path.join(PLAN_FILE), &text)?;
        let dir = Self::writable(path)?;
        sync_directory(path)?;
        Ok(dir)
    }

    /// Reads a run directory; a torn last line is set aside, any other damage is an error.
    pub fn open(path: &Path) -> Result<Run, StoreError> {
        let (run, damage) = Self::salvage(path)?;
        damage.into_iter().next().map_or(Ok(run), Err)
    }

    /// Opens a run directory to go on where it stopped; a torn line moves to [`TORN_FILE`].
    pub fn resume(path: &Path) -> Result<(RunDir, Run), StoreError> {
        // Locked before it is read, so that no line of another process is taken for torn. A foreign
        // directory must stay as it is, hence a look at its plan before anything is made in it.
        Self::plan(path)?;
        let dir = Self::writable(path)?;
        let run = Self::open(path)?;
        let file = path.join(TRIALS_FILE);
        let mut input = crate::sys::open_file(&file).map_err(io_error(&file, "read"))?;
        let mut torn = Vec::new();
        input
            .seek(SeekFrom::Start(run.whole_bytes))
            .and_then(|_| input.read_to_end(&mut torn))
            .map_err(io_error(&file, "read"))?;
        if !torn.is_empty() {
            let aside = path.join(TORN_FILE);
            let mut out = append_to(&aside)?;
            out.write_all(&torn)
                .and_then(|()| out.sync_data())
                .map_err(io_error(&aside, "set a torn line aside"))?;
            dir.trials
                .set_len(run.whole_bytes)
                .and_then(|()| dir.trials.sync_all())
                .map_err(io_error(&file, "cut the torn line"))?;
        }
        Ok((dir, run))
    }

    fn writable(path: &Path) -> Result<RunDir, StoreError> {
        let trials = append_to(&path.join(TRIALS_FILE))?;
        // A file system without locks is no reason to refuse; only a lock that is held is one.
        if flock(&trials, FlockOperation::NonBlockingLockExclusive) == Err(Errno::WOULDBLOCK) {
            return Err(StoreError::Locked { path: path.into() });
        }
        Ok(RunDir { path: path.into(), trials })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Appends a record as one line, and returns once the disk holds it.
    ///
    /// # Errors
    /// A ledger that does not balance is a defect, never a row. After a failed write the file is
    /// cut back to its former end, so that no later line is glued to half a record.
    pub fn append(&mut self, record: &TrialRecord) -> Result<(), StoreError> {
        let refused = |what: anyhow::Error| StoreError::Refused {
            trial: record.trial,
            cell: record.cell.id.clone(),
            block: record.block,
            what: format!("{what:#}"),
        };
        check::record(record).map_err(refused)?;
        let mut line = serde_json::to_vec(record).map_err(|e| refused(e.into()))?;
        // A float that is not finite turns into `null`, which no reader takes for a number.
        serde_json::from_slice::<TrialRecord>(&line)
            .map_err(|e| refused(anyhow::anyhow!("it could not be read back: {e}")))?;
        line.push(b'\n');
        let file = self.path.join(TRIALS_FILE);
        if self.trials.metadata().is_ok_and(|held| held.nlink() == 0) {
            // What is written into a file that was removed is lost with this process.
            return Err(io_error(&file, "write")(Errno::NOENT.into()));
        }
        let before = self.trials.metadata().map_err(io_error(&file, "read the length"))?.len();
        let written = self.trials.write_all(&line).and_then(|()| self.trials.sync_data());
        written.map_err(|error| {
            // The first error is the one to report; a reader copes with a torn end as well.
            let _ = self.trials.set_len(before);
            StoreError::Io { path: file, action: "append a trial", error }
        })
    }
}

fn append_to(path: &Path) -> Result<File, StoreError> {
    // A pipe without a reader would hold up the run.
    if fs::metadata(path).is_ok_and(|held| !held.is_file()) {
        return Err(io_error(path, "open for appending")(io::Error::other("not a regular file")));
    }
    OpenOptions::new()
        .append(true)
        .create(true)
        .open(path)
        .map_err(io_error(path, "open for appending"))
}

/// Writes a file whole or not at all: a temporary file beside it, synced, then renamed.
pub(crate) fn write_atomic(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".tmp");
    let temporary = path.with_file_name(name);
    let write = || {
        // A pipe there would hold up the run.
        let _ = fs::remove_file(&temporary);
        let mut file = File::create_new(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    write().map_err(|error| {
        // What is half written must not keep the directory from being taken as fresh.
        let _ = fs::remove_file(&temporary);
        StoreError::Io { path: path.into(), action: "write", error }
    })?;
    sync_directory(path.parent().unwrap_or(Path::new(".")))
}

/// A rename or a new name survives a crash only once its directory is synced.
fn sync_directory(path: &Path) -> Result<(), StoreError> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    File::open(path).and_then(|d| d.sync_all()).map_err(io_error(path, "sync the directory"))
}

/// Tries, before anything runs, whether a run directory could be made at `path` and filled.
///
/// Goes up to the nearest directory that exists, writes and removes a probe there, and compares the
/// free space with `needed_bytes`.
pub fn check_writable(path: &Path, needed_bytes: u64) -> Result<(), StoreError> {
    let at = path.ancestors().find(|p| p.exists()).unwrap_or(Path::new("."));
    let probe = at.join(format!(".duel-probe-{}", std::process::id()));
    let attempt = File::create_new(&probe).and_then(|mut f| f.write_all(&[0; 4096]));
    let _ = fs::remove_file(&probe);
    attempt.map_err(io_error(at, "write here"))?;
    // A file system that does not tell its free space is no reason to refuse.
    let Ok(space) = statvfs(at) else { return Ok(()) };
    let free = space.f_bavail.saturating_mul(space.f_frsize);
    if free < needed_bytes {
        let print = |bytes: u64| crate::units::format_bytes(bytes as f64);
        return Err(StoreError::Full {
            path: at.into(),
            free: print(free),
            needed: print(needed_bytes),
        });
    }
    Ok(())
}

/// `runs/<UTC stamp>-<name>`, such as `runs/20260102T030405Z-first`.
///
/// Whatever is not a letter, digit, dot, dash or underscore becomes a dash, so that a name never
/// leads out of `runs`.
pub fn default_dir(name: &str, at: jiff::Timestamp) -> PathBuf {
    let safe = |c: char| if c.is_alphanumeric() || "._-".contains(c) { c } else { '-' };
    let name: String = name.chars().map(safe).take(100).collect();
    Path::new("runs").join(format!("{}-{name}", at.strftime("%Y%m%dT%H%M%SZ")))
}

/// An instant as `created_utc` holds it: RFC 3339 in UTC, whole seconds.
pub fn utc_stamp(at: jiff::Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
