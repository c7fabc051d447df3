//! One shard's run directory, read row by row.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use super::{MergeError, differs};
use crate::format::TrialRecord;
use crate::format::add::{self, Times};
use crate::results::store::{
    PlanJson, RowLine, RunDir, ShardOf, StoreError, TRIALS_FILE, io_error, row,
};

/// A row, its histograms unpacked, and its text.
pub(super) struct Found {
    pub(super) record: TrialRecord,
    pub(super) times: Times,
    pub(super) line: Vec<u8>,
    pub(super) boot_id: String,
}

pub(super) struct ShardSource {
    path: PathBuf,
    pub(super) plan: PlanJson,
    pub(super) shard: ShardOf,
    pub(super) warnings: Vec<String>,
    input: Option<BufReader<File>>,
    line: usize,
    next: Option<(TrialRecord, Vec<u8>)>,
    /// The trial of the row before it.
    before: Option<u32>,
}

/// Opens every shard of one run, in order of their numbers.
pub(super) fn open_all(dirs: &[PathBuf]) -> Result<Vec<ShardSource>, MergeError> {
    let mut sources = dirs.iter().map(|d| ShardSource::open(d)).collect::<Result<Vec<_>, _>>()?;
    let Some(first) = sources.first() else {
        return differs("name the run directories of all shards".into());
    };
    for other in &sources[1..] {
        if let Some((what, a, b)) = first.difference(other) {
            return differs(format!(
                "{} and {} are not shards of one run: {what} differs ({a}; {b})",
                first.place(),
                other.place()
            ));
        }
    }
    sources.sort_by_key(|s| s.shard.index);
    for pair in sources.windows(2) {
        if pair[0].shard.index == pair[1].shard.index {
            return differs(format!(
                "shard {} of {} is given twice: {} and {}",
                pair[0].shard.index,
                pair[0].shard.count,
                pair[0].place(),
                pair[1].place()
            ));
        }
    }
    let count = sources[0].shard.count;
    let missing: Vec<String> = (0..count)
        .filter(|k| sources.binary_search_by_key(k, |s| s.shard.index).is_err())
        .map(|k| k.to_string())
        .collect();
    if !missing.is_empty() {
        return differs(format!(
            "{} of {count} shards {} missing: {}",
            missing.len(),
            if missing.len() == 1 { "is" } else { "are" },
            missing[..missing.len().min(20)].join(", ")
        ));
    }
    // Rows are looked at only once their plans are known to agree.
    sources.iter_mut().try_for_each(ShardSource::advance)?;
    Ok(sources)
}

impl ShardSource {
    fn open(path: &Path) -> Result<ShardSource, MergeError> {
        let plan = RunDir::plan(path)?;
        let Some(shard) = plan.shard.clone() else {
            let what = match plan.merged {
                Some(_) => "was merged already",
                None => "holds a whole run, not a shard of one (`duel run --shard k/n`)",
            };
            return differs(format!("{}: it {what}", path.display()));
        };
        let file = path.join(TRIALS_FILE);
        let input = match crate::sys::open_file(&file) {
            Ok(file) => Some(BufReader::new(file)),
            // Killed between its plan and its first trial.
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
            Err(e) => return Err(io_error(&file, "read")(e).into()),
        };
        Ok(ShardSource {
            path: path.into(),
            plan,
            shard,
            warnings: vec![],
            input,
            line: 0,
            next: None,
            before: None,
        })
    }

    /// What tells two directories from shards of one run, and the two values.
    fn difference(&self, other: &ShardSource) -> Option<(&'static str, String, String)> {
        let facts = |s: &ShardSource| {
            [
                ("the format version", s.plan.format_version.to_string()),
                ("the plan hash", s.plan.plan_hash.clone()),
                ("the duel binary", s.plan.versions.binary_digest.clone()),
                ("the number of shards", s.shard.count.to_string()),
            ]
        };
        let pairs = facts(self).into_iter().zip(facts(other));
        pairs.into_iter().find(|(a, b)| a.1 != b.1).map(|(a, b)| (a.0, a.1, b.1))
    }

    pub(super) fn place(&self) -> String {
        self.path.display().to_string()
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.next.is_none()
    }

    /// This shard's row of the trial at a position, if it has one.
    pub(super) fn take(&mut self, trial: u32) -> Result<Option<Found>, MergeError> {
        if self.next.as_ref().is_none_or(|(record, _)| record.trial > trial) {
            return Ok(None);
        }
        let (record, line) = self.next.take().expect("just seen");
        self.before = Some(record.trial);
        let times = add::times(&record).map_err(|e| self.malformed(e.to_string()))?;
        self.advance()?;
        Ok(Some(Found { record, times, line, boot_id: self.shard.boot_id.clone() }))
    }

    fn malformed(&self, what: String) -> MergeError {
        StoreError::Malformed { path: self.path.join(TRIALS_FILE), line: self.line, what }.into()
    }

    /// Reads the next row; a torn last line is set aside.
    fn advance(&mut self) -> Result<(), MergeError> {
        let Some(input) = &mut self.input else { return Ok(()) };
        let file = self.path.join(TRIALS_FILE);
        let mut line = vec![];
        input.read_until(b'\n', &mut line).map_err(io_error(&file, "read"))?;
        self.line += 1;
        if line.is_empty() {
            self.input = None;
            return Ok(());
        }
        let record = match row(&line, &file, self.line, &self.plan.plan_hash) {
            RowLine::Record(record) => *record,
            RowLine::Bad(error) => return Err(error.into()),
            RowLine::Torn if line.last() != Some(&b'\n') => {
                self.warnings.push(format!(
                    "{}:{}: the last line is torn (a crash amid its write); its trial counts as \
                     missing",
                    file.display(),
                    self.line
                ));
                self.input = None;
                return Ok(());
            }
            RowLine::Torn => return Err(self.malformed("a record that is cut off".into())),
            RowLine::Blank => return Err(self.malformed("not a trial record: nothing".into())),
        };
        let shard = record.shard.map(|s| (s.index, s.count));
        let wrong = if record.binary_digest != self.plan.versions.binary_digest {
            "a record of another duel binary"
        } else if shard != Some((self.shard.index, self.shard.count)) {
            "a record of another shard"
        } else if self.before.is_some_and(|trial| trial >= record.trial) {
            "a trial twice, or out of order"
        } else {
            self.next = Some((record, line));
            return Ok(());
        };
        Err(self.malformed(wrong.into()))
    }
}
