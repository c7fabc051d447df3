//! The terms of limits: whose they are, what they count, and how what is needed grows with lanes.

use serde::{Deserialize, Serialize};

use crate::units::{format_bytes, format_count};

/// What the load goes to, as far as it matters to limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TargetKind {
    /// The embedded target on this machine, under the same limits.
    Embedded {
        /// Its processes; worker w uses process w mod this.
        processes: u32,
    },
    External {
        loopback: bool,
    },
}

crate::plan::named! {
    /// What a limit counts.
    pub enum Unit {
        WorkerFds = "descriptors in a worker",
        TargetFds = "descriptors in a target process",
        ServerFds = "descriptors in a server process",
        ServerFdsWithCalls = "descriptors in a server process, one for each connection and each call",
        OpenFiles = "open files on the machine",
        EpollSockets = "sockets in epoll sets",
        WorkerMaps = "memory maps in a worker",
        ServerMaps = "memory maps in a server process",
        UpstreamFds = "descriptors in the upstream of the servers",
        MachineThreads = "threads on the machine",
        CgroupThreads = "threads in the cgroup",
        UserThreads = "threads of the user",
        VirtualBytes = "bytes of virtual memory",
        LockedBytes = "bytes of locked memory of the user",
        MemoryBytes = "bytes of memory (estimated)",
        Ports = "ports to one address",
        Tracked = "tracked connections",
    }
}

impl Unit {
    /// An amount with its unit: a number and what follows it.
    pub(super) fn amount(self, n: u64) -> (String, &'static str) {
        match self {
            Unit::VirtualBytes => (format_bytes(n as f64), "virtual memory"),
            Unit::MemoryBytes => (format_bytes(n as f64), "memory (estimated)"),
            Unit::LockedBytes => (format_bytes(n as f64), "locked memory of the user"),
            _ => (format_count(n), self.name()),
        }
    }

    /// What counts in a server where this counts in a client.
    pub(super) fn of_server(self) -> Unit {
        match self {
            Unit::WorkerFds => Unit::ServerFds,
            Unit::WorkerMaps => Unit::ServerMaps,
            other => other,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Each worker: more workers have more of it.
    Worker,
    TargetProcess,
    Machine,
    /// The same, for memory in use, which is estimated beforehand and measured afterwards.
    MachineMemory,
}

/// An amount that grows with the lanes of a worker: fixed + per_lane × lanes.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct LaneLine {
    pub(super) fixed: u64,
    pub(super) per_lane: u64,
}

impl LaneLine {
    pub(super) fn at(self, lanes: u64) -> u64 {
        self.fixed.saturating_add(self.per_lane.saturating_mul(lanes))
    }

    pub(super) fn plus(self, fixed: u64) -> Self {
        LaneLine { fixed: self.fixed.saturating_add(fixed), ..self }
    }

    pub(super) fn and(self, other: Self) -> Self {
        self.plus(other.fixed).and_per_lane(other.per_lane)
    }

    pub(super) fn and_per_lane(self, more: u64) -> Self {
        LaneLine { per_lane: self.per_lane.saturating_add(more), ..self }
    }

    pub(super) fn times(self, n: u64) -> Self {
        LaneLine { fixed: self.fixed.saturating_mul(n), per_lane: self.per_lane.saturating_mul(n) }
    }
}
