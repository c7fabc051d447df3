//! What happened, kept while it happens, and what it took.
//!
//! * `recorder` — one [`Recorder`] per worker, the same for every engine.
//! * `classes` — what becomes of each named class of requests.
//! * [`latency`] — histograms that any thread may record into, without locks or allocation.
//! * [`counters`] — the shared page of started and ended requests that the driver maps.
//! * [`usage`] — processor time, switches, memory, threads and descriptors of a process.
//! * `own_counts` — what a process counts of itself: tokio, rings, the kernel of its threads.
//! * [`outside`] — the same of other processes, such as the embedded target's.
//! * [`quota`] — for how long a CPU quota stopped a process.
//! * [`cgroup`] — kernel memory and TCP buffers of a trial's workers.

pub mod cgroup;
mod classes;
pub mod counters;
pub mod events;
pub mod latency;
mod moments;
pub mod outside;
pub(crate) mod own_counts;
pub mod quota;
mod recorder;
pub mod split;
pub mod usage;

pub use crate::format::{Channel, ErrorKind};
pub(crate) use moments::Ended;
pub use moments::Instants;
pub use recorder::Recorder;

/// The part of a trial that a request belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Phase {
    /// Before the window: counted in a ledger of its own, in no other figure.
    Warmup = 0,
    Measured = 1,
}
