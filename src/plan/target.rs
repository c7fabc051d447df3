//! Where the load goes, and what the embedded target plays: plain data of a plan.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::RequestTemplate;
use super::endpoint::Identity;

/// Where the load goes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// The embedded target, fresh for each trial.
    Embedded(EmbeddedTarget),
    /// A server of the user's.
    External {
        /// `host:port` as named; the port is always present.
        authority: String,
        /// Non-loopback `host:port`s that may be loaded.
        allow: Vec<String>,
        /// The path of a Unix-domain socket, where connections go there instead.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        unix_socket: Option<PathBuf>,
        /// How TLS is spoken there; `None` for plain HTTP.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tls: Option<Tls>,
    },
}

impl Target {
    /// Whether requests go over TLS.
    pub(crate) fn is_tls(&self) -> bool {
        matches!(self, Target::External { tls: Some(_), .. })
    }
}

/// TLS as the config names it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tls {
    /// Certificate authorities to trust, in PEM; `None` trusts the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// Accept any certificate.
    #[serde(default)]
    pub insecure: bool,
    /// What the client shows where the target asks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<Identity>,
}

/// One of several targets that a sweep compares.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SweptTarget {
    /// In ids, tables and sentences.
    pub name: String,
    pub target: Target,
    /// The `Host` header there.
    pub host: String,
    /// What it is asked for, where its url names another path than the first one's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mix: Vec<RequestTemplate>,
}

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
    pub faults: InjectedFaults,
}

/// A distribution of times; the parameters are in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "law", rename_all = "snake_case")]
pub enum Law {
    /// Always the same.
    Fixed {
        ns: u64,
    },
    /// Uniform on [min, max].
    Uniform {
        min_ns: u64,
        max_ns: u64,
    },
    Exponential {
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
pub struct InjectedFaults {
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
