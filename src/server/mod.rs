//! The embedded target: a small HTTP/1.1 server with a virtual queue, run as a process of its own.
//!
//! The queue is computed, not acted out: a request that arrives whole at `a` leaves at
//! `max(a, earliest free server) + service time`, and its answer is written at that absolute
//! instant, so that the lateness of one timer never adds to the next.
//!
//! The driver starts it as `duel target --control` and speaks one line of JSON each way:
//! [`TargetJob`] down, [`Listening`] up, optionally [`TargetStart`] down, and when its standard
//! input closes, [`TargetReport`] up; then it ends.
//!
//! One thread, one epoll loop, one timerfd armed with absolute instants. An async runtime would be
//! less code, but tokio's timer wheel counts milliseconds, and a target that answers up to 1 ms
//! late cannot referee engines that differ by microseconds.
//!
//! Map: [`laws`] draws service times and faults as pure functions of (seed, request number),
//! [`queue`] turns arrivals into departures, `request` parses, `response` holds the prebuilt
//! answers, `connection` is what is kept for a connection, `reference` is the loop, `control` the
//! protocol above, [`digest`] says what was sent.

use crate::plan::endpoint::Endpoint;
use crate::plan::target::EmbeddedTarget;

mod connection;
mod control;
pub mod digest;
pub mod laws;
pub mod queue;
mod reference;
mod request;
mod response;

pub use control::{serve_controlled, serve_forever};
pub use response::body_byte;

use serde::{Deserialize, Serialize};

/// Driver → target: the first line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TargetJob {
    /// Where to listen; port 0 takes a free one.
    pub listen: Endpoint,
    /// What to play.
    pub spec: EmbeddedTarget,
    /// Seed of service times and faults; request n of this process takes draw n.
    pub seed: u64,
    /// CPUs to run on; empty leaves the affinity as it is.
    pub cpus: Vec<u32>,
    /// Whether to keep a digest of every request, for `duel verify`.
    #[serde(default)]
    pub digest: bool,
}

/// Target → driver: it accepts connections.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listening {
    /// Where.
    pub listening: Endpoint,
}

/// Driver → target: the instant that stalls count from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetStart {
    /// CLOCK_MONOTONIC.
    pub start_at_ns: u64,
}

/// Target → driver: the last line.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TargetReport {
    /// Requests that arrived whole.
    pub received: u64,
    /// Requests whose answer was written whole.
    pub answered: u64,
    /// Connections accepted.
    pub connections: u64,
    /// Its processor time.
    pub cpu_ns: u64,
    /// Sum of the waits for a free server.
    pub queue_ns_total: u64,
    /// Sum of the service times drawn.
    pub service_ns_total: u64,
    /// Most answers that left later than 1 ms after their instant.
    pub late_answers: u64,
    /// What it was sent, where the job asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<digest::Report>,
}
