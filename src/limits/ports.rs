//! Ports of connections that serve one request each (`keep_alive = false`).
//!
//! A closed connection keeps its port for 60 s in TIME_WAIT (`TCP_TIMEWAIT_LEN` of Linux's
//! include/net/tcp.h), whichever side closed first as far as this machine can know. A port counts
//! against one pair of source address and target; towards 127.0.0.0/8 every worker rotates through
//! source addresses of its own ([`Route::rotating`](crate::codec::socket::Route::rotating)).
//! With `net.ipv4.tcp_tw_reuse` (1 everywhere, 2, the default, on loopback) a port can be taken
//! again after a second, and `net.ipv4.tcp_max_tw_buckets` bounds how many can be in TIME_WAIT.

use std::fmt;

use super::machine::Limits;
use crate::codec::socket::SOURCES_PER_WORKER;
use crate::plan::endpoint::Endpoint;
use crate::plan::{Cell, Extent, TrialPlan};
use crate::units::{SECOND_NS, format_count};

const TIME_WAIT_S: u64 = 60;
pub(crate) const PORT_RANGE: &str = "net.ipv4.ip_local_port_range";

/// A port in TIME_WAIT can be taken again when its timestamp's second has passed (`tcp_twsk_unique`).
const REUSE_S: u64 = 1;

/// The ports that a cell can use which closes every connection, and how many it needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortBudget {
    pub sources: u64,
    pub ports: u64,
    /// How long a port is taken after its connection.
    pub held_s: u64,
    /// Connections that hold a port at once; `None` where only the run will tell.
    pub need: Option<u64>,
    /// Whether `need` is certain, and not an upper bound that only a fast target reaches.
    pub certain: bool,
}

impl PortBudget {
    pub fn have(&self) -> u64 {
        self.ports * self.sources
    }

    /// New connections per second that can go on for ever.
    pub fn most_per_s(&self) -> u64 {
        self.have() / self.held_s
    }

    /// Whether the cell can run, where that is certain.
    pub fn check(&self) -> Result<(), PortsShort> {
        match self.need {
            Some(need) if self.certain && need > self.have() => {
                Err(PortsShort { need, budget: self.clone() })
            }
            _ => Ok(()),
        }
    }

    /// Whether a fast target may use the ports up.
    pub fn may_run_out(&self) -> bool {
        self.need.is_none_or(|need| need > self.have())
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "keep_alive = false needs {} ports at once; {budget}; use a lower rate, or keep-alive, or widen \
     it with `sysctl -w net.ipv4.ip_local_port_range=\"1024 65535\"`",
    format_count(*need)
)]
pub struct PortsShort {
    need: u64,
    budget: PortBudget,
}

impl fmt::Display for PortBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let from = match self.sources {
            1 => "one source address".into(),
            n => format!("{} source addresses", format_count(n)),
        };
        write!(
            f,
            "{PORT_RANGE} allows {} ports from {from}, each held for {} s after its \
             connection: at most {} new connections/s",
            format_count(self.have()),
            self.held_s,
            format_count(self.most_per_s()),
        )
    }
}

impl Limits {
    /// The ports of a cell under its plan; `None` where connections are kept, or go through a Unix
    /// socket, or the range is unknown. Without an endpoint it is the embedded target's.
    pub fn ports(
        &self,
        plan: &TrialPlan,
        cell: &Cell,
        target: Option<&Endpoint>,
    ) -> Option<PortBudget> {
        if plan.keep_alive || plan.idle || matches!(target, Some(Endpoint::Unix(_))) {
            return None;
        }
        let lanes = u64::from(cell.total_lanes);
        let mut ports = self.ports_to(target, u64::from(cell.processes))?;
        let seconds = |ns: u64| ns as f64 / SECOND_NS as f64;
        let connections = match (plan.offered_per_s, plan.extent) {
            (Some(rate), Extent::DurationNs(ns)) => {
                ports.certain = true;
                Some(rate * seconds(plan.warmup_ns + ns).min(ports.held_s as f64))
            }
            (Some(rate), Extent::Requests(n)) => {
                ports.certain = true;
                Some((rate * ports.held_s as f64).min(n as f64))
            }
            (None, Extent::Requests(n)) => Some(n as f64),
            (None, Extent::DurationNs(_)) => None,
        };
        let most = self.tw_buckets.unwrap_or(u64::MAX);
        ports.need = connections.map(|n| (n as u64).min(most).saturating_add(lanes));
        Some(ports)
    }

    pub(super) fn ports_to(&self, target: Option<&Endpoint>, workers: u64) -> Option<PortBudget> {
        let (low, high) = self.local_ports?;
        let local = target.is_none_or(Endpoint::is_local);
        let spread = target.is_none_or(Endpoint::is_loopback_v4);
        let reused = self.tw_reuse == Some(1) || (self.tw_reuse == Some(2) && local);
        Some(PortBudget {
            sources: if spread { u64::from(SOURCES_PER_WORKER) * workers } else { 1 },
            ports: u64::from(high.saturating_sub(low)) + 1,
            held_s: if reused { REUSE_S } else { TIME_WAIT_S },
            need: None,
            certain: false,
        })
    }
}
