//! Where the load goes, and what the embedded target plays: plain data of a plan.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::RequestTemplate;
use super::endpoint::Identity;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// The embedded target, fresh for each trial.
    Embedded(EmbeddedTarget),
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
    pub(crate) fn is_tls(&self) -> bool {
        matches!(self, Target::External { tls: Some(_), .. })
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tls {
    /// Certificate authorities to trust, in PEM; `None` trusts the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    #[serde(default)]
    pub insecure: bool,
    /// What the client shows where the target asks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<Identity>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SweptTarget {
    pub name: String,
    pub target: Target,
    pub host: String,
    /// What it is asked for, where its url names another path than the first one's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mix: Vec<RequestTemplate>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EmbeddedTarget {
    /// Time between a request's arrival at a free server and its answer.
    pub service_time: Law,
    /// Requests served at once, the rest wait in order; 0 = no limit.
    pub servers: u32,
    pub processes: u32,
    pub body_bytes: u64,
    pub faults: InjectedFaults,
}

/// A distribution of times; the parameters are in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "law", rename_all = "snake_case")]
pub enum Law {
    Fixed {
        ns: u64,
    },
    Uniform {
        min_ns: u64,
        max_ns: u64,
    },
    Exponential {
        mean_ns: u64,
    },
    Lognormal {
        mean_ns: u64,
        /// Standard deviation of their logarithm.
        sigma: f64,
    },
}

/// Faults on purpose, seeded.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct InjectedFaults {
    pub error_rate: f64,
    pub reset_rate: f64,
    /// No byte of a response leaves in [k·every, k·every + for) counted from Start.
    pub stall: Option<Stall>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stall {
    pub every_ns: u64,
    pub for_ns: u64,
}
