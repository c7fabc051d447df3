//! File and compute steps: what they do. Who does them, and on which thread, is the engine's.
//!
//! [`Work`] is made before the baseline and shared by all lanes; a [`Kit`] is a lane's own part: the
//! buffer that files are read into, the same under every engine, touched at set-up.

pub mod files;

use std::fs::{File, OpenOptions};
use std::hint::black_box;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use sha2::{Digest, Sha256};

use crate::plan::RequestTemplate;
use crate::plan::request::Rendered;
use crate::plan::steps::{DIRECT_ALIGN_BYTES, FileOp, FileStep, StepPlan};

/// Bytes of one read or write, and of the text that is hashed again and again: small enough to
/// stay in a core's second-level cache.
const CHUNK_BYTES: usize = 64 << 10;

/// What the requests of a trial do beside HTTP.
#[derive(Debug)]
pub struct Work {
    /// The steps of each template of the mix.
    programs: Vec<Vec<Act>>,
    text: Box<[u8]>,
    buffer_bytes: usize,
    files: files::Made,
}

#[derive(Debug, Clone)]
pub(crate) enum Act {
    Http,
    Compute(u64),
    File(FileSet),
}

/// A step of a request: which of the mix's template, and which request it is for.
#[derive(Debug, Clone, Copy)]
pub struct StepAt {
    pub template: usize,
    pub number: usize,
    /// Of the request, which decides the file.
    pub index: u64,
}

/// A file step and where its files are.
#[derive(Debug, Clone)]
pub(crate) struct FileSet {
    step: FileStep,
    paths: Vec<PathBuf>,
}

impl Work {
    /// Makes and fills the files of a mix and tries each of its steps once; `None` where no
    /// request has steps.
    ///
    /// `name` is the name of the directory that holds the files, one in each directory that a step
    /// names.
    ///
    /// # Errors
    /// What cannot be made, read or written, in one sentence that names the path.
    pub fn prepare(mix: &[RequestTemplate], name: &str) -> anyhow::Result<Option<Arc<Work>>> {
        if mix.iter().all(|template| template.steps.is_empty()) {
            return Ok(None);
        }
        let text = text();
        let mut made = files::Made::default();
        let mut programs = Vec::with_capacity(mix.len());
        let mut buffer_bytes = 0;
        for (at, template) in mix.iter().enumerate() {
            let mut acts = Vec::with_capacity(template.steps.len());
            for (number, step) in template.steps.iter().enumerate() {
                acts.push(match step {
                    StepPlan::Http => Act::Http,
                    StepPlan::Compute { bytes } => Act::Compute(*bytes),
                    StepPlan::File(step) => {
                        buffer_bytes = buffer_bytes.max(step.bytes.min(CHUNK_BYTES as u64));
                        let prefix = format!("request{at}-step{number}");
                        let paths = made.set(step, name, &prefix, &text)?;
                        Act::File(FileSet { step: step.clone(), paths })
                    }
                });
            }
            programs.push(acts);
        }
        let buffer_bytes = buffer_bytes as usize;
        let work = Arc::new(Work { programs, text, buffer_bytes, files: made });
        work.try_out()?;
        Ok(Some(work))
    }

    /// What a disk or file system refuses is better known before anything is sent.
    fn try_out(self: &Arc<Self>) -> anyhow::Result<()> {
        let mut kit = Kit::new(self);
        for (template, acts) in self.programs.iter().enumerate() {
            for number in (0..acts.len()).filter(|n| matches!(acts[*n], Act::File(_))) {
                kit.perform(StepAt { template, number, index: 0 })?;
            }
        }
        Ok(())
    }

    #[inline]
    pub(crate) fn acts(&self, template: usize) -> &[Act] {
        self.programs.get(template).map_or(&[], Vec::as_slice)
    }

    #[inline]
    pub(crate) fn has_steps(&self, request: &Rendered) -> bool {
        !self.acts(request.template as usize).is_empty()
    }

    /// Removes the files. Steps that come later fail.
    pub fn remove(&self) {
        self.files.remove();
    }

    fn hash(&self, bytes: u64, index: u64) {
        let mut hash = Sha256::new();
        // So that no two requests compute the same.
        hash.update(index.to_le_bytes());
        for (_, len) in chunks(bytes, self.text.len()) {
            hash.update(&self.text[..len]);
        }
        black_box(hash.finalize());
    }
}

/// A text that no disk or file system can make smaller; the same on every machine.
fn text() -> Box<[u8]> {
    let words = (0..CHUNK_BYTES as u64 / 8).map(crate::plan::request::splitmix64);
    words.flat_map(u64::to_le_bytes).collect()
}

/// A lane's part: it goes with a step to where that is carried out, and comes back.
#[derive(Debug)]
pub struct Kit {
    work: Arc<Work>,
    /// Longer than it needs to be by one alignment.
    buffer: Vec<u8>,
    /// Where its aligned part begins.
    begins: usize,
}

impl Kit {
    /// Makes a kit and touches its pages; the buffer is filled with what write steps write.
    pub fn new(work: &Arc<Work>) -> Self {
        let bytes = work.buffer_bytes;
        let align = DIRECT_ALIGN_BYTES as usize;
        let mut buffer = vec![0; if bytes > 0 { bytes + align } else { 0 }];
        // A vector that never grows never moves, and so keeps its alignment.
        let begins = if bytes > 0 { buffer.as_ptr().align_offset(align) } else { 0 };
        buffer[begins..begins + bytes].copy_from_slice(&work.text[..bytes]);
        Kit { work: work.clone(), buffer, begins }
    }

    /// Carries out a file or compute step; blocks until it is done. An `http` step is the engine's.
    ///
    /// # Errors
    /// What went wrong with the file, and its path.
    pub fn perform(&mut self, step: StepAt) -> anyhow::Result<()> {
        let Kit { work, buffer, begins } = self;
        match &work.programs[step.template][step.number] {
            Act::Http => Ok(()),
            Act::Compute(bytes) => {
                work.hash(*bytes, step.index);
                Ok(())
            }
            Act::File(set) => {
                let buffer = &mut buffer[*begins..*begins + work.buffer_bytes];
                let path = &set.paths[(step.index % set.paths.len() as u64) as usize];
                set.carry_out(path, buffer).with_context(|| path.display().to_string())
            }
        }
    }
}

impl FileSet {
    fn carry_out(&self, path: &Path, buffer: &mut [u8]) -> io::Result<()> {
        let bytes = self.step.bytes;
        let mut options = OpenOptions::new();
        if self.step.direct {
            options.custom_flags(rustix::fs::OFlags::DIRECT.bits() as i32);
        }
        match self.step.op {
            FileOp::Read => read_whole(&options.read(true).open(path)?, bytes, buffer),
            FileOp::Write => {
                let file = options.write(true).create(true).truncate(true).open(path)?;
                write_whole(&file, bytes, buffer)?;
                if self.step.sync { file.sync_data() } else { Ok(()) }
            }
        }
    }
}

fn read_whole(file: &File, bytes: u64, buffer: &mut [u8]) -> io::Result<()> {
    for (at, len) in chunks(bytes, buffer.len()) {
        match file.read_exact_at(&mut buffer[..len], at) {
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
                let why = format!("short read: {} of {bytes} bytes", file.metadata()?.len());
                return Err(io::Error::new(e.kind(), why));
            }
            other => other?,
        }
    }
    Ok(())
}

fn write_whole(file: &File, bytes: u64, buffer: &[u8]) -> io::Result<()> {
    chunks(bytes, buffer.len()).try_for_each(|(at, len)| file.write_all_at(&buffer[..len], at))
}

/// Offset and length of each part of `bytes` that fits into a buffer.
fn chunks(bytes: u64, buffer: usize) -> impl Iterator<Item = (u64, usize)> {
    let len = move |at: u64| (bytes - at).min(buffer as u64) as usize;
    (0..bytes).step_by(buffer.max(1)).map(move |at| (at, len(at)))
}

#[cfg(test)]
mod tests;
