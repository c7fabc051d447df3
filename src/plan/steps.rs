//! What a request does beside its HTTP exchange, and where: pure data.
//!
//! A request with steps holds exactly one `http` step, so that every planned request is still one
//! request at the target, and any number of `file` and `compute` steps before and behind it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// One step of a request, carried out after the one before it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum StepPlan {
    Http,
    /// A file is opened, read or written, and closed.
    File(FileStep),
    Compute {
        bytes: u64,
    },
}

/// A file step. Its files are made and filled before the baseline and removed at the trial's end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileStep {
    pub op: FileOp,
    /// Bytes of each file, all of them read or written by the step.
    pub bytes: u64,
    /// Size of the set: request i takes file i modulo this.
    pub files: u32,
    /// Past the page cache (`O_DIRECT`); `bytes` is then a multiple of [`DIRECT_ALIGN_BYTES`].
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub direct: bool,
    /// A write that waits for the disk (`fdatasync`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sync: bool,
    /// Where the set lies; `None` for the system's directory for temporary files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dir: Option<PathBuf>,
}

/// Alignment of direct reads and writes: the largest sector size in use.
pub(crate) const DIRECT_ALIGN_BYTES: u64 = 4096;

super::named! {
    /// What a file step does with its file.
    pub enum FileOp {
        Read = "read",
        /// Emptied, or made anew, and written whole.
        Write = "write",
    }

    /// Where the task engines carry out file and compute steps; other engines do so in place.
    #[derive(Default)]
    pub enum Offload {
        /// In the task itself, whose worker thread serves nobody else meanwhile.
        #[default]
        Inline = "inline",
        /// On tokio's pool of blocking threads.
        SpawnBlocking = "spawn_blocking",
        /// On a rayon pool with a thread per CPU of the worker.
        Rayon = "rayon",
    }
}

impl StepPlan {
    /// Whether the step needs no network, so that it may be carried out elsewhere.
    pub(crate) fn is_local(&self) -> bool {
        *self != StepPlan::Http
    }
}
