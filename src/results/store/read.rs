//! Reading a run directory, line by line, with a place for every complaint.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, ErrorKind, Read, Seek};
use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::{
    PLAN_FILE, PlanJson, Run, RunDir, StoreError, TRIALS_FILE, TrialKey, check, io_error, told,
};
use crate::format::{FORMAT_VERSION, Flag, Status, TrialRecord};
use crate::sys::open_file;

/// Longest line: a record with every histogram stays well below.
const MAX_LINE_BYTES: u64 = 64 << 20;

/// Longest plan: of a million cells.
const MAX_PLAN_BYTES: u64 = 1 << 30;

/// The one field that every version has.
#[derive(Deserialize)]
struct RowVersion {
    format_version: Option<u64>,
}

/// The version of a JSON object, if it is one and has it.
fn version_of(bytes: &[u8]) -> Option<u64> {
    serde_json::from_slice::<RowVersion>(bytes).ok()?.format_version
}

impl RunDir {
    /// Reads the plan of a run directory alone.
    ///
    /// # Errors
    /// No plan, a foreign directory, or a newer format.
    pub fn plan(path: &Path) -> Result<PlanJson, StoreError> {
        let foreign = |why: &str| StoreError::Foreign { path: path.into(), why: why.into() };
        if !path.exists() {
            return Err(foreign("it does not exist"));
        }
        let file = path.join(PLAN_FILE);
        let mut bytes = Vec::new();
        let read = open_file(&file).and_then(|f| f.take(MAX_PLAN_BYTES).read_to_end(&mut bytes));
        read.map_err(|e| match e.kind() {
            ErrorKind::NotFound => foreign("it holds no plan.json"),
            ErrorKind::NotADirectory => foreign("it is a file"),
            _ => io_error(&file, "read")(e),
        })?;
        let newest = u64::from(FORMAT_VERSION);
        let malformed = |(line, what)| StoreError::Malformed { path: file.clone(), line, what };
        let plan: PlanJson = match version_of(&bytes) {
            Some(found) if found > newest => {
                return Err(StoreError::Newer { path: file, line: 1, found });
            }
            version => serde_json::from_slice(&bytes).map_err(|e| match version {
                None if !e.is_eof() => foreign("its plan.json has no format_version"),
                _ => malformed((e.line(), told::reason(&e))),
            })?,
        };
        told::check(&plan, &bytes).map_err(malformed)?;
        Ok(plan)
    }

    /// Refuses a file of rows with a line that is none, but for those that a crash cut off; a file that is
    /// not there has none.
    pub(crate) fn misfit<T: DeserializeOwned>(file: &Path) -> Result<(), StoreError> {
        let mut input = match open_file(file) {
            Ok(f) => BufReader::new(f),
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(io_error(file, "read")(e)),
        };
        let mut bytes = Vec::new();
        for line in 1.. {
            bytes.clear();
            let whole = input.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut bytes);
            if whole.map_err(io_error(file, "read"))? == 0 {
                break;
            }
            if let Err(e) = serde_json::from_slice::<T>(&bytes)
                && !e.is_eof()
                && !bytes.contains(&0)
            {
                return Err(StoreError::Malformed {
                    path: file.into(),
                    line,
                    what: told::reason(&e),
                });
            }
        }
        Ok(())
    }
}

pub(crate) enum RowLine {
    Record(Box<TrialRecord>),
    Blank,
    /// Cut off: a crash amid the write.
    Torn,
    Bad(StoreError),
}

impl RunDir {
    /// Reads what is readable of a run directory, with an error for every line that is not.
    ///
    /// # Errors
    /// No plan, a foreign directory, or a newer format: then nothing may be said of the rest.
    pub fn salvage(path: &Path) -> Result<(Run, Vec<StoreError>), StoreError> {
        let plan = Self::plan(path)?;
        let mut run = Run {
            path: path.into(),
            plan,
            records: Vec::new(),
            warnings: Vec::new(),
            whole_bytes: 0,
        };
        let file = path.join(TRIALS_FILE);
        let mut input = match open_file(&file) {
            Ok(f) => BufReader::new(f),
            // A run that was killed between its plan and its first trial.
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok((run, Vec::new())),
            Err(e) => return Err(io_error(&file, "read")(e)),
        };
        let mut damage = Vec::new();
        let mut seen = HashMap::new();
        let mut torn: Option<usize> = None;
        let mut bytes = Vec::new();
        for number in 1.. {
            bytes.clear();
            input
                .by_ref()
                .take(MAX_LINE_BYTES)
                .read_until(b'\n', &mut bytes)
                .map_err(io_error(&file, "read"))?;
            if bytes.is_empty() {
                break;
            }
            let malformed =
                |line, what: String| StoreError::Malformed { path: file.clone(), line, what };
            if let Some(line) = torn.take() {
                // Something follows, so this was no crash amid the last write.
                damage.push(malformed(line, "a record that is cut off".into()));
            }
            match row(&bytes, &file, number, &run.plan.plan_hash) {
                RowLine::Record(record) => match second(&record, number, &mut seen) {
                    Some(what) => damage.push(malformed(number, what)),
                    None => run.records.push(*record),
                },
                RowLine::Blank => {}
                RowLine::Torn => torn = Some(number),
                RowLine::Bad(newer @ StoreError::Newer { .. }) => return Err(newer),
                RowLine::Bad(error) => damage.push(error),
            }
            if bytes.len() as u64 == MAX_LINE_BYTES && bytes.last() != Some(&b'\n') {
                // The rest of an endless line is no line of its own.
                input.skip_until(b'\n').map_err(io_error(&file, "read"))?;
            }
            if torn.is_none() {
                run.whole_bytes = input.stream_position().map_err(io_error(&file, "read"))?;
            }
        }
        if let Some(line) = torn {
            run.warnings.push(format!(
            "{}:{line}: the last line is torn (a crash amid its write); set aside, its trial is not counted",
            file.display()
        ));
        }
        Ok((run, damage))
    }
}

/// Why a row may not stand beside an earlier one of the same cell and block: only what was noisy is
/// repeated, and only what was interrupted is run again.
fn second(
    record: &TrialRecord,
    line: usize,
    seen: &mut HashMap<TrialKey, (usize, bool, Option<u64>)>,
) -> Option<String> {
    let again = record.status == Status::Interrupted || record.flags.contains(&Flag::Noisy);
    let this = (line, again, record.started_unix_ns);
    let key = (record.cell.id.clone(), record.block);
    let (first, may_follow, started) = *seen.entry(key).or_insert(this);
    if first == line {
        return None;
    }
    let same = record.started_unix_ns.is_some() && started == record.started_unix_ns;
    if !may_follow || same {
        let (cell, block) = (&record.cell.id, record.block);
        return Some(format!(
            "a second row of {cell} block {block}, which line {first} has already"
        ));
    }
    seen.insert((record.cell.id.clone(), record.block), this);
    None
}

/// What a line of `trials.jsonl` holds, of a run of this plan.
pub(crate) fn row(bytes: &[u8], file: &Path, line: usize, plan_hash: &str) -> RowLine {
    let malformed =
        |what: String| RowLine::Bad(StoreError::Malformed { path: file.into(), line, what });
    if bytes.len() as u64 == MAX_LINE_BYTES && bytes.last() != Some(&b'\n') {
        return malformed("a line beyond 64 MiB".into());
    }
    let Some(text) = bytes.strip_suffix(b"\n") else { return RowLine::Torn };
    if text.trim_ascii().is_empty() {
        return RowLine::Blank;
    }
    let newest = u64::from(FORMAT_VERSION);
    let newer = |found| RowLine::Bad(StoreError::Newer { path: file.into(), line, found });
    let record = match TrialRecord::read(text) {
        Ok(record) => record,
        Err(e) => {
            return match version_of(text) {
                // Fields of a newer format may not fit; its version says more than the first misfit.
                Some(found) if found > newest => newer(found),
                // File systems fill blocks that never reached the disk with zeros.
                _ if e.is_eof() || text.contains(&0) => RowLine::Torn,
                _ => malformed(format!("not a trial record: {}", told::reason(&e))),
            };
        }
    };
    if record.format_version > FORMAT_VERSION {
        return newer(record.format_version.into());
    }
    if record.plan_hash != plan_hash {
        return malformed(format!(
            "a record of another plan ({}); plan.json has {plan_hash}",
            record.plan_hash
        ));
    }
    match check::check_row(&record) {
        Ok(()) => RowLine::Record(Box::new(record)),
        Err(what) => malformed(format!("{what:#}")),
    }
}
