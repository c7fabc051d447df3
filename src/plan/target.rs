//! What the embedded target plays: plain data of a plan, which [`crate::server`] carries out.

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
