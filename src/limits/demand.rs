//! What a cell demands of each limit: a straight line in the lanes of a worker.

use serde::{Deserialize, Serialize};

use super::machine::{CgroupLimit, Limits, Use};
use super::ports::PORT_RANGE;
use crate::plan::allocator::Allocator;
use crate::plan::engine::{EngineFacts, LaneThreads, SocketKind};
use crate::plan::steps::Offload;
use crate::plan::{Cell, Codec};
use crate::side::usage::KERNEL_STACK_BYTES;
use crate::units::{format_bytes, format_count};

/// Memory maps of one thread of Rust's standard library on glibc: its stack, the stack's guard
/// page, its alternate signal stack and that one's guard page.
pub const MAPS_PER_THREAD: u64 = 4;

/// Address space of a thread beside its stack: guard page, alternate signal stack and its guard.
const THREAD_EXTRA_BYTES: u64 = 16 << 10;
/// Descriptors beside the lanes: pipes, the page of counters, epoll sets, timers, `/proc` files.
pub(super) const RESERVED_FDS: u64 = 24;
/// Maps beside the lanes and those that the process begins with: recorder, large allocations.
const RESERVED_MAPS: u64 = 64;
/// Threads of a worker beside its lanes: the monitor, the reader of frames, the engine's own, the
/// pacer, the heartbeat's two, and some to spare.
const RESERVED_THREADS: u64 = 8;
/// Most threads that tokio starts for blocking work unless told otherwise.
const MOST_BLOCKING_THREADS: u64 = 512;
/// Most process ids that Linux can be told to hand out; products of it do not overflow.
const MOST_IDS: u32 = 1 << 22;
/// Largest stack that is told apart from no room at all.
const MOST_STACK_BYTES: u64 = 1 << 40;
/// Ids that the kernel keeps for itself when it starts over.
const RESERVED_PIDS: u64 = 300;
/// glibc opens at most this many arenas per CPU; each is 64 MiB of address space in two maps.
const ARENAS_PER_CPU: u64 = 8;
const ARENA_BYTES: u64 = 64 << 20;
/// Part of an address space that arenas may reserve, so that stacks find room in the rest.
const ARENAS_PART: u64 = 4;

// Estimates of the memory that one lane holds while it waits, from slopes between 1,000 and
// 10,000 lanes on x86-64; they decide only whether a cell is worth starting.
/// User pages of a thread with a stack of any size: what it touched.
const THREAD_USER_BYTES: u64 = 9_728;
/// `task_struct`, page tables and map structures of a thread, beside its kernel stack.
const THREAD_KERNEL_BYTES: u64 = KERNEL_STACK_BYTES + 7_680;
const THREAD_BYTES: u64 = THREAD_USER_BYTES + THREAD_KERNEL_BYTES;
/// Task, request state and connection of a lane under the lean codec.
const LANE_USER_BYTES: u64 = 2 << 10;
const HYPER_USER_BYTES: u64 = 16 << 10;
const SOCKET_BYTES: u64 = 4 << 10;
/// One connection of the embedded target, its socket apart.
const TARGET_USER_BYTES: u64 = 2 << 10;
/// A worker before its first lane.
const WORKER_BYTES: u64 = 16 << 20;

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
        MachineThreads = "threads on the machine",
        CgroupThreads = "threads in the cgroup",
        UserThreads = "threads of the user",
        VirtualBytes = "bytes of virtual memory",
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
            _ => (format_count(n), self.name()),
        }
    }

    pub(super) fn is_bytes(self) -> bool {
        matches!(self, Unit::VirtualBytes | Unit::MemoryBytes)
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

    fn plus(self, fixed: u64) -> Self {
        LaneLine { fixed: self.fixed.saturating_add(fixed), ..self }
    }

    fn and_per_lane(self, more: u64) -> Self {
        LaneLine { per_lane: self.per_lane.saturating_add(more), ..self }
    }

    fn times(self, n: u64) -> Self {
        LaneLine { fixed: self.fixed.saturating_mul(n), per_lane: self.per_lane.saturating_mul(n) }
    }
}

/// What a cell needs of a limit, which must not exceed `have`.
pub(super) struct Demand {
    pub(super) limit: String,
    pub(super) unit: Unit,
    pub(super) scope: Scope,
    pub(super) have: u64,
    pub(super) need: LaneLine,
    /// What to do, given the limit's name and what is needed.
    pub(super) way_out: fn(&str, u64) -> String,
}

impl Demand {
    /// `None` when lanes do not count and the rest fits.
    pub(super) fn most_lanes(&self) -> Option<u64> {
        match self.have.checked_sub(self.need.fixed) {
            None => Some(0),
            Some(left) => left.checked_div(self.need.per_lane),
        }
    }
}

/// Demands on the limits that there are, in addition to what is in use.
#[derive(Default)]
pub(super) struct Demands(Vec<Demand>);

impl Demands {
    fn add(
        &mut self,
        limit: &str,
        (scope, unit): (Scope, Unit),
        amount: Option<Use>,
        need: LaneLine,
        way_out: fn(&str, u64) -> String,
    ) {
        self.0.extend(amount.map(|Use { max, used }| Demand {
            limit: limit.to_string(),
            unit,
            scope,
            have: max,
            need: need.plus(used),
            way_out,
        }));
    }
}

/// A cell as limits see it; the lines are those of one worker.
pub(super) struct CellNeeds {
    sockets: SocketKind,
    pub(super) processes: u64,
    threads: LaneLine,
    connections: LaneLine,
    stack_bytes: u64,
    hyper: bool,
    target: TargetKind,
    allocator: Option<Allocator>,
}

impl CellNeeds {
    pub(super) fn of(cell: &Cell, target: TargetKind) -> CellNeeds {
        let EngineFacts { threads, sockets, .. } = cell.engine.facts();
        let pool = cell.rayon_threads.filter(|_| cell.is_small_pool()).map(|n| n.min(MOST_IDS));
        let (per_lane, lane_threads) = match (threads, pool) {
            (LaneThreads::Own, _) => (0, 0),
            (LaneThreads::Pool, Some(threads)) => (0, threads),
            (LaneThreads::PerLane | LaneThreads::Pool, _) => (1, 0),
            (LaneThreads::PerCpu, _) => (0, cell.cpus),
        };
        // A thread for the job of each lane. tokio may start more, one whenever none has said yet
        // that it is idle (358 were seen for 64 lanes), but lets jobs wait where it gets none, so
        // that those are not needed. A pool has a thread per CPU.
        let hidden_threads = match cell.offload {
            Some(Offload::SpawnBlocking) => u64::from(cell.lanes).min(MOST_BLOCKING_THREADS),
            Some(Offload::Rayon) => u64::from(cell.cpus.max(1)),
            Some(Offload::Inline) | None => 0,
        };
        let other_threads = u64::from(lane_threads) + hidden_threads + RESERVED_THREADS;
        let alone = cell.engine.has_one_lane();
        CellNeeds {
            sockets,
            processes: u64::from(cell.processes.clamp(1, MOST_IDS)),
            threads: LaneLine { fixed: other_threads, per_lane },
            connections: LaneLine { fixed: alone.into(), per_lane: (!alone).into() },
            stack_bytes: cell.stack_bytes().min(MOST_STACK_BYTES),
            hyper: cell.codec == Codec::Hyper,
            target,
            allocator: cell.allocator.clone(),
        }
    }

    fn targets(&self) -> u64 {
        match self.target {
            TargetKind::Embedded { processes } => u64::from(processes.max(1)),
            TargetKind::External { .. } => 0,
        }
    }

    /// Ends of a connection on this machine that count for its user and its kernel.
    fn ends(&self) -> u64 {
        match self.target {
            TargetKind::Embedded { .. } | TargetKind::External { loopback: true } => 2,
            TargetKind::External { loopback: false } => 1,
        }
    }

    fn fds(&self) -> LaneLine {
        self.connections.plus(RESERVED_FDS)
    }

    /// User memory of a lane, its thread apart.
    fn user_bytes(&self) -> u64 {
        LANE_USER_BYTES + if self.hyper { HYPER_USER_BYTES } else { 0 }
    }

    /// Memory of a lane's connections, their other ends included.
    fn connection_bytes(&self) -> u64 {
        let target = if self.targets() > 0 { TARGET_USER_BYTES } else { 0 };
        self.connections.per_lane * (self.user_bytes() + target + self.ends() * SOCKET_BYTES)
    }
}

impl Limits {
    /// Arenas of a worker: the allocator's own choice, and within an address space with an end
    /// (`ulimit -v`) no more than leave room for stacks.
    fn arenas(&self, swept: Option<&Allocator>) -> u64 {
        let all = ARENAS_PER_CPU * u64::from(self.cpus);
        match (swept, self.address_space) {
            (Some(Allocator::GlibcArenas(most)), _) => u64::from(*most).min(all),
            (None, Some(space)) => (space.max / ARENAS_PART / ARENA_BYTES).clamp(1, all),
            _ => all,
        }
    }

    /// To how many arenas workers are held where nobody says; `None` where glibc may have its way.
    pub(crate) fn arenas_at_most(&self) -> Option<u32> {
        let most = self.arenas(None);
        (most < self.arenas(Some(&Allocator::Glibc))).then_some(most as u32)
    }

    pub(super) fn demands(&self, needs: &CellNeeds) -> Vec<Demand> {
        let mut all = Demands::default();
        self.descriptors(needs, &mut all);
        self.threads(needs, &mut all);
        self.memory(needs, &mut all);
        self.network(needs, &mut all);
        all.0
    }

    fn descriptors(&self, needs: &CellNeeds, all: &mut Demands) {
        let most = self.nofile_hard.min(self.nr_open.unwrap_or(u64::MAX));
        let (nofile, targets) = (Some(Use { max: most, used: 0 }), needs.targets());
        let fewer = |_: &str, need| raise_nofile(need) + " and more processes";
        let unit = (Scope::Worker, Unit::WorkerFds);
        all.add("RLIMIT_NOFILE", unit, nofile, needs.fds(), fewer);
        if targets > 0 {
            let limit = "RLIMIT_NOFILE of the target";
            let unit = (Scope::TargetProcess, Unit::TargetFds);
            let workers = needs.processes.div_ceil(targets);
            let need = needs.connections.times(workers).plus(RESERVED_FDS);
            let spread = |_: &str, need| raise_nofile(need) + " or more `[target] processes`";
            all.add(limit, unit, nofile, need, spread);
        }
        let every = needs.fds().times(needs.processes);
        let files = every.times(needs.ends());
        let unit = (Scope::Machine, Unit::OpenFiles);
        all.add("fs.file-max", unit, self.file_max, files, raise_sysctl);
        let sets = u64::from(needs.sockets == SocketKind::Epoll) + u64::from(targets > 0);
        let watches = self.epoll_watches.map(|max| Use { max, used: 0 });
        let (limit, unit) = ("fs.epoll.max_user_watches", (Scope::Machine, Unit::EpollSockets));
        all.add(limit, unit, watches, every.times(sets), raise_sysctl);
    }

    fn threads(&self, needs: &CellNeeds, all: &mut Demands) {
        let arenas = self.arenas(needs.allocator.as_ref());
        let maps = needs.threads.times(MAPS_PER_THREAD).plus(RESERVED_MAPS + 2 * arenas);
        let fewer = |limit: &str, need| {
            raise_sysctl(limit, need) + ", or use fewer lanes and more processes"
        };
        let unit = (Scope::Worker, Unit::WorkerMaps);
        all.add("vm.max_map_count", unit, self.max_map_count, maps, fewer);
        let in_target = needs.targets() * (RESERVED_THREADS + u64::from(self.cpus));
        let need = needs.threads.times(needs.processes).plus(in_target);
        let ids = need.plus(RESERVED_PIDS);
        let machine = (Scope::Machine, Unit::MachineThreads);
        all.add("kernel.pid_max", machine, self.pid_max, ids, raise_sysctl);
        all.add("kernel.threads-max", machine, self.threads_max, need, raise_sysctl);
        if let Some(CgroupLimit { amount, file }) = &self.cgroup_pids {
            let name = format!("pids.max ({})", file.display());
            let unit = (Scope::Machine, Unit::CgroupThreads);
            all.add(&name, unit, Some(*amount), need, |_, need| {
                format!("write {need} or `max` to that file (TasksMax= under systemd)")
            });
        }
        let unit = (Scope::Machine, Unit::UserThreads);
        all.add("RLIMIT_NPROC", unit, self.nproc, need, |_, need| {
            format!("raise it with `ulimit -u {need}` (LimitNPROC= under systemd)")
        });
    }

    fn memory(&self, needs: &CellNeeds, all: &mut Demands) {
        let stacks = needs.threads.times(needs.stack_bytes + THREAD_EXTRA_BYTES);
        let bytes = stacks.plus(WORKER_BYTES).and_per_lane(needs.user_bytes());
        let smaller = |_: &str, _| {
            "raise it, or use smaller stacks (`stack_sizes`) or fewer lanes".to_string()
        };
        let (own, shared) =
            ((Scope::Worker, Unit::VirtualBytes), (Scope::Machine, Unit::VirtualBytes));
        // Arenas are reserved without write access, which counts as address space only.
        let arenas = self.arenas(needs.allocator.as_ref()) * ARENA_BYTES;
        all.add("RLIMIT_AS", own, self.address_space, bytes.plus(arenas), smaller);
        all.add("RLIMIT_DATA", own, self.data, bytes, smaller);
        let every = bytes.times(needs.processes);
        all.add("vm.overcommit_memory", shared, self.commit, every, smaller);

        let threads = needs.threads.times(THREAD_BYTES).and_per_lane(needs.connection_bytes());
        let resident =
            threads.plus(WORKER_BYTES).times(needs.processes).plus(WORKER_BYTES * needs.targets());
        let unit = (Scope::MachineMemory, Unit::MemoryBytes);
        let fewer =
            |_: &str, _| "use fewer lanes, or the lean codec, or a machine with more".to_string();
        let available = self.memory_available_bytes.map(|max| Use { max, used: 0 });
        all.add("available memory", unit, available, resident, fewer);
        if let Some(CgroupLimit { amount, file }) = &self.cgroup_memory {
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            let name = format!("{name} ({})", file.display());
            all.add(&name, unit, Some(*amount), resident, fewer);
        }
    }

    fn network(&self, needs: &CellNeeds, all: &mut Demands) {
        let per_lane = needs.connections.per_lane * needs.processes;
        let connections = LaneLine { fixed: 0, per_lane };
        if needs.target == (TargetKind::External { loopback: false }) {
            let ports = self.local_ports.map(|(low, high)| u64::from(high.saturating_sub(low)) + 1);
            let ports = ports.map(|max| Use { max, used: 0 });
            let limit = PORT_RANGE;
            let unit = (Scope::Machine, Unit::Ports);
            all.add(limit, unit, ports, connections, |limit, _| {
                format!(
                    "widen it with `sysctl -w {limit}=\"1024 65535\"`, or use fewer lanes or more \
                     machines"
                )
            });
        }
        let (limit, unit) = ("net.netfilter.nf_conntrack_max", (Scope::Machine, Unit::Tracked));
        all.add(limit, unit, self.conntrack, connections, raise_sysctl);
    }
}

fn raise_sysctl(limit: &str, need: u64) -> String {
    format!("raise it with `sysctl -w {limit}={need}`")
}

pub(super) fn raise_nofile(need: u64) -> String {
    format!(
        "raise the hard limit with `ulimit -Hn {need}` as root (LimitNOFILE= under systemd), or \
         use fewer lanes"
    )
}
