//! THE SEAM: six frames between driver and worker, one line of JSON each, versioned.
//!
//! ```text
//! driver                          worker
//!   Job   ──────────────────────▶   renders the plan, makes and touches the recorder
//!         ◀──────────────────────   Ready   (the baseline is read: no lane, runtime or socket yet)
//!   Go    ──────────────────────▶   builds the engine, connects every lane, parks them
//!         ◀──────────────────────   Armed
//!   Start ──────────────────────▶   an absolute CLOCK_MONOTONIC instant, the same for all workers
//!         ◀──────────────────────   Outcome
//! ```
//!
//! Constraints: a frame is one line of at most [`MAX_FRAME_BYTES`]; each is written with the protocol
//! version and refused under another; frames come in this order and no other; the worker's
//! standard error is human text; the end of its standard input means *cancel*: it stops starting
//! requests, counts what is in flight as timed out and answers with its Outcome if it had started.

use std::collections::BTreeMap;
use std::io::{BufRead, Read, Write};
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::format::{Channel, Status, TrialRecord};
use crate::plan::endpoint::{Endpoint, TlsPlan};
use crate::plan::{Cell, TrialPlan};
use crate::side::split::HeapUse;
use crate::units::SECOND_NS;

/// Version of the frames; driver and worker are the same binary, so no other is understood.
pub const PROTOCOL_VERSION: u32 = 3;

/// Longest frame: an Outcome with every histogram stays well below.
pub(crate) const MAX_FRAME_BYTES: usize = 64 << 20;

/// One frame, tagged by its name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "frame", rename_all = "snake_case")]
#[expect(clippy::large_enum_variant, reason = "frames are made six times a trial")]
pub enum Frame {
    Job(Job),
    Ready(Ready),
    Go,
    Armed(Armed),
    /// The instant on CLOCK_MONOTONIC from which warm-up and window count; zero means now.
    Start {
        at_ns: u64,
    },
    Outcome(Outcome),
}

/// A frame as it is written.
#[derive(Serialize, Deserialize)]
struct Versioned<F> {
    #[serde(flatten)]
    frame: F,
    version: u32,
}

/// Driver → worker: what to do, all of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// Cell id and block, for messages.
    pub trial: String,
    /// What is run: each worker has `cell.lanes` lanes.
    pub cell: Cell,
    pub worker: u32,
    /// Workers of the trial: this one sends requests i ≡ worker (mod workers).
    pub workers: u32,
    /// CPUs to run on; empty leaves the affinity as it is.
    pub cpus: Vec<u32>,
    /// The target's addresses, resolved once by the driver; lane connections go to one of them.
    pub targets: Vec<Endpoint>,
    /// Addresses outside of loopback that may be connected to: those that the user named. The
    /// worker refuses every other, whoever wrote it into `targets`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed: Vec<SocketAddr>,
    /// How TLS is spoken there; `None` for plain HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsPlan>,
    /// Most time that Go to Armed may take.
    pub setup_limit_ns: u64,
    /// Name of the directories for the files of file steps, where there are any; each worker adds
    /// its number. See [`crate::work::files`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<String>,
    pub plan: TrialPlan,
}

/// Most time that Go to Armed may take where nothing else is said.
pub(crate) const SETUP_LIMIT_NS: u64 = 60 * SECOND_NS;

impl Job {
    /// The job of the only worker of a cell, wherever it may run.
    pub fn of(cell: &Cell, trial: String, targets: Vec<Endpoint>, plan: TrialPlan) -> Job {
        Job {
            trial,
            cell: cell.clone(),
            worker: 0,
            workers: cell.processes,
            cpus: Vec::new(),
            targets,
            allowed: Vec::new(),
            tls: None,
            setup_limit_ns: SETUP_LIMIT_NS,
            files: None,
            plan,
        }
    }
}

/// Worker → driver: the baseline stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ready {
    pub pid: u32,
    /// Descriptor number of the page of counters, to be opened through `/proc/PID/fd`.
    pub counters_fd: i32,
    /// Shards in that page; see [`crate::side::counters`].
    pub shards: u32,
    pub baseline_rss_bytes: u64,
}

/// Worker → driver: every lane is parked, or the set-up failed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Armed {
    pub setup_ns: u64,
    pub connected: u32,
    pub rss_bytes: u64,
    /// Why the engine could not be built, in one sentence; the trial is then failed.
    pub error: Option<String>,
}

/// Worker → driver: the result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// This worker's part of the trial's record, without its histograms; `ok` or `interrupted`.
    pub part: TrialRecord,
    /// Histograms, HdrHistogram V2 deflated base64: whoever adds them up reads percentiles from the sum.
    pub histograms: BTreeMap<Channel, String>,
    /// When the lanes were let go, on CLOCK_MONOTONIC.
    pub started_at_ns: u64,
    /// Requests whose actual start fell inside the window, of those of the measured phase.
    pub started_in_window: u64,
    /// What the machine did meanwhile.
    #[serde(flatten)]
    pub machine: BetweenEdges,
    /// Σ over requests of the time in service inside the window, for Little's law.
    pub in_service_ns: u64,
    /// The same of requests of the warm-up that were still in service when the window began.
    pub warmup_in_service_ns: u64,
    /// A sample of what went wrong, one line per kind of error, for messages.
    pub error_samples: BTreeMap<String, String>,
    /// What the allocator said; only where the job asks for memory to be split.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heap: Option<HeapUse>,
}

impl Outcome {
    pub(crate) fn is_interrupted(&self) -> bool {
        self.part.status == Status::Interrupted
    }
}

/// The machine between the two readings of the CPU clock.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct BetweenEdges {
    pub edges_ns: u64,
    pub cpus_idle_ns: Option<u64>,
    /// Steal time of the whole machine.
    pub steal_ns: Option<u64>,
    /// CPUs of the machine that the steal time is of.
    pub machine_cpus: u32,
}

/// A frame that could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    #[error("the pipe broke: {0}")]
    Io(#[from] std::io::Error),
    #[error("the other side closed the pipe")]
    Closed,
    #[error("not a frame: {0}")]
    Malformed(String),
    #[error("frame version {found}; this binary speaks {PROTOCOL_VERSION}")]
    Version { found: u32 },
}

impl Frame {
    pub fn name(&self) -> &'static str {
        match self {
            Frame::Job(_) => "job",
            Frame::Ready(_) => "ready",
            Frame::Go => "go",
            Frame::Armed(_) => "armed",
            Frame::Start { .. } => "start",
            Frame::Outcome(_) => "outcome",
        }
    }

    /// What must hold of a frame on both ends of the pipe.
    fn check(&self) -> Result<(), FrameError> {
        let wrong = |what: &str| Err(FrameError::Malformed(format!("{}: {what}", self.name())));
        match self {
            Frame::Job(j) if j.cell.lanes == 0 => wrong("no lanes"),
            Frame::Job(j) if j.worker >= j.workers => wrong("worker number beyond their count"),
            Frame::Job(j) if j.targets.is_empty() => wrong("no target"),
            Frame::Job(j) if j.plan.mix.is_empty() => wrong("no request in the mix"),
            Frame::Job(j) if j.plan.mix.iter().any(|r| r.weight == 0) => wrong("a weight of zero"),
            Frame::Job(j)
                if j.plan.mix.iter().any(|r| {
                    let sends = r.steps.iter().filter(|step| !step.is_local()).count();
                    !r.steps.is_empty() && sends != 1
                }) =>
            {
                wrong("steps without exactly one exchange")
            }
            Frame::Job(j) if j.plan.timeout_ns == 0 => wrong("a timeout of zero"),
            Frame::Job(j)
                if j.plan.arrivals.is_open()
                    && !j.plan.offered_per_s.is_some_and(|r| r.is_finite() && r > 0.0) =>
            {
                wrong("an open loop without a rate")
            }
            Frame::Outcome(o) if !o.part.ledger.balances() || !o.part.warmup.balances() => {
                wrong("the ledger does not balance")
            }
            Frame::Outcome(o) if o.part.errors.total() != o.part.ledger.failed => {
                wrong("the error columns do not add up to the failed requests")
            }
            _ => Ok(()),
        }
    }

    /// Writes the frame as one line and flushes it.
    pub fn write_to(&self, out: &mut impl Write) -> Result<(), FrameError> {
        self.check()?;
        let versioned = Versioned { frame: self, version: PROTOCOL_VERSION };
        let mut line =
            serde_json::to_vec(&versioned).map_err(|e| FrameError::Malformed(e.to_string()))?;
        line.push(b'\n');
        out.write_all(&line)?;
        Ok(out.flush()?)
    }

    pub fn parse(line: &[u8]) -> Result<Frame, FrameError> {
        let Versioned { frame, version }: Versioned<Frame> =
            serde_json::from_slice(line).map_err(|e| FrameError::Malformed(e.to_string()))?;
        if version != PROTOCOL_VERSION {
            return Err(FrameError::Version { found: version });
        }
        frame.check()?;
        Ok(frame)
    }

    /// Blocks for the next frame.
    pub fn read_from(input: &mut impl BufRead) -> Result<Frame, FrameError> {
        let mut line = Vec::new();
        input.take(MAX_FRAME_BYTES as u64).read_until(b'\n', &mut line)?;
        match line.last() {
            None => Err(FrameError::Closed),
            Some(b'\n') => Self::parse(&line),
            Some(_) if line.len() == MAX_FRAME_BYTES => {
                Err(FrameError::Malformed("a frame beyond 64 MiB".into()))
            }
            Some(_) => Err(FrameError::Malformed("a torn frame".into())),
        }
    }
}
