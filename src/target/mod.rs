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
//! answers, `connection` is what is kept for a connection, `server` is the loop, `control` the
//! protocol above, [`digest`] says what was sent.

use crate::plan::endpoint::Endpoint;

mod connection;
mod control;
pub mod digest;
pub mod laws;
pub mod queue;
mod request;
mod response;
mod server;

pub use control::{serve_controlled, serve_forever};
pub use response::body_byte;

use serde::{Deserialize, Serialize};

/// What the embedded target plays.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EmbeddedTarget {
    /// Time between a request's arrival at a free server and its answer.
    pub service_time: Law,
    /// Requests served at once, the rest wait in order; 0 = no limit.
    pub servers: u32,
    /// Target processes, each at its own address of 127.0.0.0/8.
    pub processes: u32,
    /// Length of each response body.
    pub body_bytes: u64,
    /// Faults on purpose.
    pub faults: Faults,
}

/// A distribution of times; the parameters are in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "law", rename_all = "snake_case")]
pub enum Law {
    /// Always the same.
    Fixed {
        /// The time.
        ns: u64,
    },
    /// Uniform on [min, max].
    Uniform {
        /// Shortest.
        min_ns: u64,
        /// Longest.
        max_ns: u64,
    },
    /// Exponential.
    Exponential {
        /// Mean.
        mean_ns: u64,
    },
    /// Log-normal with this mean.
    Lognormal {
        /// Mean of the times themselves.
        mean_ns: u64,
        /// Standard deviation of their logarithm.
        sigma: f64,
    },
}

/// Faults on purpose, seeded.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Faults {
    /// Share of requests answered with status 500.
    pub error_rate: f64,
    /// Share of requests answered with a reset of the connection.
    pub reset_rate: f64,
    /// No byte of a response leaves in [k·every, k·every + for) counted from Start.
    pub stall: Option<Stall>,
}

/// A periodic stall.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stall {
    /// Period.
    pub every_ns: u64,
    /// Length, less than the period.
    pub for_ns: u64,
}

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
