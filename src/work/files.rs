//! The files of file steps: made and filled before the clock starts, removed afterwards.
//!
//! A worker makes a directory of its own in each directory that a step names. It removes them at
//! its end; the driver, which knows their names, does so for a worker that was killed.

use std::fs::{DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::plan::RequestTemplate;
use crate::plan::steps::{FileStep, StepPlan};

/// The directories that a worker made; they go when this goes.
#[derive(Debug, Default)]
pub(crate) struct Made {
    dirs: Vec<PathBuf>,
}

/// A name for the directories of a trial's files that no other trial has: `duel-files-…`.
pub fn new_name() -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let nanos = now.map_or(0, |d| d.as_nanos());
    format!("duel-files-{}-{nanos:x}", std::process::id())
}

pub(crate) fn worker_name(name: &str, worker: u32) -> String {
    format!("{name}-w{worker}")
}

/// Every directory that a worker makes for the files of a mix.
pub fn directories(mix: &[RequestTemplate], name: &str) -> Vec<PathBuf> {
    let steps = mix.iter().flat_map(|template| &template.steps);
    let mut dirs = Vec::new();
    for step in steps {
        if let StepPlan::File(step) = step {
            let dir = directory(step, name);
            if !dirs.contains(&dir) {
                dirs.push(dir);
            }
        }
    }
    dirs
}

fn directory(step: &FileStep, name: &str) -> PathBuf {
    step.dir.clone().unwrap_or_else(std::env::temp_dir).join(name)
}

/// Removes directories that were made by their names in [`directories`]; what is not there, or is
/// there no more, is nothing to complain of.
pub fn remove(dirs: &[PathBuf]) {
    for dir in dirs {
        let _ = std::fs::remove_dir_all(dir);
    }
}

impl Made {
    /// Makes the files of one step and fills each with `text` over and over.
    pub(super) fn set(
        &mut self,
        step: &FileStep,
        name: &str,
        prefix: &str,
        text: &[u8],
    ) -> anyhow::Result<Vec<PathBuf>> {
        let dir = directory(step, name);
        if !self.dirs.contains(&dir) {
            // For this user alone: what others put there would be measured.
            DirBuilder::new().mode(0o700).create(&dir).with_context(|| cannot(&dir))?;
            self.dirs.push(dir.clone());
        }
        let mut paths = Vec::with_capacity(step.files as usize);
        for number in 0..step.files {
            let path = dir.join(format!("{prefix}-{number}"));
            fill(&path, step.bytes, text).with_context(|| cannot(&path))?;
            paths.push(path);
        }
        Ok(paths)
    }

    pub(super) fn remove(&self) {
        remove(&self.dirs);
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        self.remove();
    }
}

/// To the disk, so that no write-back of what is made here disturbs the trial.
fn fill(path: &Path, bytes: u64, text: &[u8]) -> io::Result<()> {
    let mut file = File::create_new(path)?;
    for (_, len) in super::chunks(bytes, text.len()) {
        file.write_all(&text[..len])?;
    }
    file.sync_data()
}

fn cannot(path: &Path) -> String {
    format!("the files of a file step cannot be made: {}", path.display())
}
