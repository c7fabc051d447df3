//! Every limit of this machine that a cell can hit, named before it is hit.
//!
//! [`Limits::read`] reads them all at one moment, [`Limits::check`] says whether a cell fits,
//! [`Limits::predict`] how many lanes each limit allows an engine, and [`LimitsReport`] shows both.
//!
//! | limit | bounds | counted for |
//! |---|---|---|
//! | `RLIMIT_NOFILE`, `fs.nr_open` | descriptors | each worker, each target process |
//! | `fs.file-max` | open files | the machine; not enforced with CAP_SYS_ADMIN |
//! | `vm.max_map_count` | memory maps, [`MAPS_PER_THREAD`] per thread | each worker |
//! | `kernel.pid_max`, `kernel.threads-max` | threads | the machine |
//! | `pids.max` of a cgroup | threads | every cgroup from ours up to the root |
//! | `RLIMIT_NPROC` | threads | the user; not enforced for root |
//! | `RLIMIT_AS`, `RLIMIT_DATA` | virtual memory: whole stacks | each worker |
//! | `vm.overcommit_memory` = 2 | committed memory: whole stacks | the machine |
//! | available memory, cgroup limits | bytes in use, estimated | the machine |
//! | `fs.epoll.max_user_watches` | sockets in epoll sets | the user |
//! | `net.ipv4.ip_local_port_range` | connections to one address | one source address |
//! | `net.netfilter.nf_conntrack_max` | connections | the machine |
//! | `RLIMIT_MEMLOCK` | what rings hold, where the kernel counts it | the user |
//! | io_uring forbidden, switched off or too old | any lane of `uring` | each worker |
//!
//! What is said of a worker holds for each process of a server under test too (`… of the server`), and
//! what the machine or the user has is held against both sides together.
//!
//! Asking beforehand is the only safe way: a thread beyond `vm.max_map_count` may start and then
//! find no room for its alternate signal stack, upon which the standard library aborts the process.
//!
//! Ports bind towards a target beyond loopback only: on loopback the workers spread their source
//! addresses over 127.0.0.0/8. With `keep_alive = false` every request takes one; `ports` counts
//! them.

mod check;
mod demand;
mod machine;
mod needs;
mod ports;
mod report;
mod terms;

pub use check::{Ceiling, LimitHit};
pub use demand::MAPS_PER_THREAD;
pub use machine::{CgroupLimit, Limits, Use, raise_nofile};
pub(crate) use ports::PORT_RANGE;
pub(crate) use ports::{PortBudget, PortsShort};
pub use report::LimitsReport;
pub use terms::{Scope, TargetKind, Unit};

/// A limit as rows and configs name it: `RLIMIT_NOFILE`, or `RLIMIT_NOFILE of the target` where it is
/// not the worker's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LimitName<'n> {
    name: &'n str,
    /// Whose it is; empty where nobody says.
    whose: &'n str,
}

impl<'n> LimitName<'n> {
    pub(crate) fn of(text: &'n str) -> Self {
        let (name, whose) = text.split_once(' ').unwrap_or((text, ""));
        LimitName { name, whose }
    }

    /// Whether this is the limit that was asked for, by its name alone or by name and owner.
    pub(crate) fn is(self, wanted: LimitName<'_>) -> bool {
        self.name == wanted.name && (wanted.whose.is_empty() || self.whose == wanted.whose)
    }
}

/// The limit that an error is about; `None` where it is about none.
pub(crate) fn hit(error: &anyhow::Error) -> Option<String> {
    let ports = error.downcast_ref::<PortsShort>().map(|_| PORT_RANGE.to_string());
    ports.or_else(|| Some(error.downcast_ref::<LimitHit>()?.limit.clone()))
}
