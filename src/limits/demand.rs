//! What a cell demands of each limit: a straight line in the lanes of a worker.

use serde::{Deserialize, Serialize};

use super::machine::{Limits, Use};
use crate::plan::engine::{EngineFacts, LaneThreads, SocketKind};
use crate::plan::steps::Offload;
use crate::plan::{Cell, Codec};
use crate::side::usage::KERNEL_STACK_BYTES;

/// Memory maps of one thread of Rust's standard library on glibc: its stack, the stack's guard
/// page, its alternate signal stack and that one's guard page.
pub const MAPS_PER_THREAD: u64 = 4;

/// Address space of a thread beside its stack: guard page, alternate signal stack and its guard.
const THREAD_EXTRA_BYTES: u64 = 16 << 10;
/// Descriptors beside the lanes: pipes, the page of counters, epoll sets, timers, `/proc` files.
const RESERVED_FDS: u64 = 64;
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
/// glibc opens at most this many arenas a CPU; each is 64 MiB of address space in two maps.
const ARENAS_PER_CPU: u64 = 8;
const ARENA_BYTES: u64 = 64 << 20;

// Estimates of the memory that one lane holds while it waits, from slopes between 1,000 and
// 10,000 lanes on x86-64; they decide only whether a cell is worth starting.
/// User pages of a thread with a stack of any size: what it touched.
const THREAD_USER_BYTES: u64 = 9_728;
/// `task_struct`, page tables and map structures of a thread, beside its kernel stack.
const THREAD_KERNEL_BYTES: u64 = KERNEL_STACK_BYTES + 7_680;
/// Task, request state and connection of a lane under the lean codec.
const LANE_USER_BYTES: u64 = 2 << 10;
/// hyper's buffers.
const HYPER_USER_BYTES: u64 = 16 << 10;
/// One connected TCP socket with its file.
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
    /// A server of the user's.
    External {
        /// Whether it is on this machine.
        loopback: bool,
    },
}

/// need(lanes) = fixed + per_lane × lanes, which must not exceed `have`.
pub(super) struct Demand {
    pub(super) limit: String,
    pub(super) unit: &'static str,
    pub(super) have: u64,
    pub(super) fixed: u64,
    pub(super) per_lane: u64,
    /// What to do, given what is needed.
    pub(super) way_out: fn(u64) -> String,
}

impl Demand {
    pub(super) fn need(&self, lanes: u64) -> u64 {
        self.fixed.saturating_add(self.per_lane.saturating_mul(lanes))
    }

    /// `None` when lanes do not count and the rest fits.
    pub(super) fn most_lanes(&self) -> Option<u64> {
        match self.have.checked_sub(self.fixed) {
            None => Some(0),
            Some(left) => left.checked_div(self.per_lane),
        }
    }
}

/// A cell as limits see it.
pub(super) struct Shape {
    sockets: SocketKind,
    pub(super) processes: u64,
    /// Threads that each lane adds to its worker.
    threads_per_lane: u64,
    /// Threads of a worker that do not depend on its lanes.
    other_threads: u64,
    /// Connections that each lane adds to its worker, and those that do not depend on lanes.
    fds_per_lane: u64,
    other_fds: u64,
    stack_bytes: u64,
    hyper: bool,
    target: TargetKind,
}

impl Shape {
    pub(super) fn of(cell: &Cell, target: TargetKind) -> Shape {
        let EngineFacts { threads, sockets, .. } = cell.engine.facts();
        let pool = cell.rayon_threads.filter(|_| cell.is_small_pool()).map(|n| n.min(MOST_IDS));
        let (threads_per_lane, lane_threads) = match (threads, pool) {
            (LaneThreads::Own, _) => (0, 0),
            (LaneThreads::Pool, Some(threads)) => (0, threads),
            (LaneThreads::PerLane | LaneThreads::Pool, _) => (1, 0),
            (LaneThreads::PerCpu, _) => (0, cell.cpus),
        };
        let (fds_per_lane, other_fds) = if cell.engine.has_one_lane() { (0, 1) } else { (1, 0) };
        // A thread for the job of each lane. tokio may start more, one whenever none has said yet that
        // it is idle (358 were seen for 64 lanes), but lets jobs wait where it gets none, so that
        // those are no need. A pool has a thread a CPU.
        let hidden_threads = match cell.offload {
            Some(Offload::SpawnBlocking) => u64::from(cell.lanes).min(MOST_BLOCKING_THREADS),
            Some(Offload::Rayon) => u64::from(cell.cpus.max(1)),
            Some(Offload::Inline) | None => 0,
        };
        Shape {
            sockets,
            processes: u64::from(cell.processes.clamp(1, MOST_IDS)),
            threads_per_lane,
            other_threads: u64::from(lane_threads) + hidden_threads + RESERVED_THREADS,
            fds_per_lane,
            other_fds: other_fds + RESERVED_FDS,
            stack_bytes: cell.stack_bytes().min(MOST_STACK_BYTES),
            hyper: cell.codec == Codec::Hyper,
            target,
        }
    }

    /// Processes of the embedded target.
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
}

impl Limits {
    pub(super) fn demands(&self, shape: &Shape) -> Vec<Demand> {
        let mut all = self.descriptors(shape);
        all.extend(self.threads(shape));
        all.extend(self.memory(shape));
        all.extend(self.network(shape));
        all
    }

    fn descriptors(&self, shape: &Shape) -> Vec<Demand> {
        let have = self.nofile_hard.min(self.nr_open.unwrap_or(u64::MAX));
        let mut all = vec![Demand {
            limit: "RLIMIT_NOFILE".to_string(),
            unit: "descriptors in a worker",
            have,
            fixed: shape.other_fds,
            per_lane: shape.fds_per_lane,
            way_out: |need| {
                format!(
                    "raise the hard limit with `ulimit -Hn {need}` as root (LimitNOFILE= under \
                     systemd), or use fewer lanes and more processes"
                )
            },
        }];
        if shape.targets() > 0 {
            let workers = shape.processes.div_ceil(shape.targets());
            all.push(Demand {
                limit: "RLIMIT_NOFILE of the target".to_string(),
                unit: "descriptors in a target process",
                have,
                fixed: RESERVED_FDS + (shape.other_fds - RESERVED_FDS) * workers,
                per_lane: shape.fds_per_lane * workers,
                way_out: |need| {
                    format!(
                        "raise the hard limit with `ulimit -Hn {need}` as root (LimitNOFILE= \
                         under systemd), or use fewer lanes or more `[target] processes`"
                    )
                },
            });
        }
        all.extend(self.file_max.map(|files| Demand {
            limit: "fs.file-max".to_string(),
            unit: "open files on the machine",
            have: files.max,
            fixed: files.used + shape.other_fds * shape.processes * shape.ends(),
            per_lane: shape.fds_per_lane * shape.processes * shape.ends(),
            way_out: |need| raise_sysctl("fs.file-max", need),
        }));
        all.extend(self.epoll_watches.map(|max| {
            let worker = u64::from(shape.sockets == SocketKind::Epoll);
            let sets = worker + u64::from(shape.targets() > 0);
            Demand {
                limit: "fs.epoll.max_user_watches".to_string(),
                unit: "sockets in epoll sets",
                have: max,
                fixed: shape.other_fds * shape.processes * sets,
                per_lane: shape.fds_per_lane * shape.processes * sets,
                way_out: |need| raise_sysctl("fs.epoll.max_user_watches", need),
            }
        }));
        all
    }

    fn threads(&self, shape: &Shape) -> Vec<Demand> {
        let arenas = ARENAS_PER_CPU * u64::from(self.cpus);
        let maps = self.max_map_count.map(|maps| Demand {
            limit: "vm.max_map_count".to_string(),
            unit: "memory maps in a worker",
            have: maps.max,
            fixed: maps.used + RESERVED_MAPS + 2 * arenas + MAPS_PER_THREAD * shape.other_threads,
            per_lane: MAPS_PER_THREAD * shape.threads_per_lane,
            way_out: |need| {
                raise_sysctl("vm.max_map_count", need) + ", or use fewer lanes and more processes"
            },
        });
        let in_target = shape.targets() * (RESERVED_THREADS + u64::from(self.cpus));
        let threads = |limit: &str, unit, have: Use, way_out| Demand {
            limit: limit.to_string(),
            unit,
            have: have.max,
            fixed: have.used + in_target + shape.other_threads * shape.processes,
            per_lane: shape.threads_per_lane * shape.processes,
            way_out,
        };
        let machine = "threads on the machine";
        let pid_max = self.pid_max.map(|ids| {
            let ids = Use { used: ids.used + RESERVED_PIDS, ..ids };
            threads("kernel.pid_max", machine, ids, |need| raise_sysctl("kernel.pid_max", need))
        });
        let threads_max = self.threads_max.map(|max| {
            threads("kernel.threads-max", machine, max, |need| {
                raise_sysctl("kernel.threads-max", need)
            })
        });
        let pids = self.cgroup_pids.as_ref().map(|pids| {
            let name = format!("pids.max ({})", pids.file.display());
            threads(&name, "threads in the cgroup", pids.amount, |need| {
                format!("write {need} or `max` to that file (TasksMax= under systemd)")
            })
        });
        let nproc = self.nproc.map(|nproc| {
            threads("RLIMIT_NPROC", "threads of the user", nproc, |need| {
                format!("raise it with `ulimit -u {need}` (LimitNPROC= under systemd)")
            })
        });
        [maps, pid_max, threads_max, pids, nproc].into_iter().flatten().collect()
    }

    fn memory(&self, shape: &Shape) -> Vec<Demand> {
        let stack = shape.stack_bytes + THREAD_EXTRA_BYTES;
        let arenas = ARENAS_PER_CPU * u64::from(self.cpus) * ARENA_BYTES;
        let virtual_of = |limit: &str, have: Use, arenas: u64, workers: u64| Demand {
            limit: limit.to_string(),
            unit: "bytes of virtual memory",
            have: have.max,
            fixed: (stack * shape.other_threads + WORKER_BYTES + arenas)
                .saturating_mul(workers)
                .saturating_add(have.used),
            per_lane: (stack * shape.threads_per_lane + user_bytes(shape)).saturating_mul(workers),
            way_out: |_| {
                "raise it, or use smaller stacks (`stack_sizes`) or fewer lanes".to_string()
            },
        };
        // Arenas are reserved without write access, which counts as address space only.
        let address_space = self.address_space.map(|v| virtual_of("RLIMIT_AS", v, arenas, 1));
        let data = self.data.map(|v| virtual_of("RLIMIT_DATA", v, 0, 1));
        let commit = self.commit.map(|v| virtual_of("vm.overcommit_memory", v, 0, shape.processes));

        let resident = |limit: String, have: Use| Demand {
            limit,
            unit: "bytes of memory (estimated)",
            have: have.max,
            fixed: have.used
                + WORKER_BYTES * (shape.processes + shape.targets())
                + shape.processes * shape.other_threads * thread_bytes(),
            per_lane: shape.processes * lane_bytes(shape),
            way_out: |_| "use fewer lanes, or the lean codec, or a machine with more".to_string(),
        };
        let available = self
            .memory_available_bytes
            .map(|bytes| resident("available memory".to_string(), Use { max: bytes, used: 0 }));
        let cgroup = self.cgroup_memory.as_ref().map(|limit| {
            let name = limit.file.file_name().unwrap_or_default().to_string_lossy();
            resident(format!("{name} ({})", limit.file.display()), limit.amount)
        });
        [address_space, data, commit, available, cgroup].into_iter().flatten().collect()
    }

    fn network(&self, shape: &Shape) -> Vec<Demand> {
        let mut all = Vec::new();
        if let (Some((low, high)), TargetKind::External { loopback: false }) =
            (self.local_ports, shape.target)
        {
            all.push(Demand {
                limit: "net.ipv4.ip_local_port_range".to_string(),
                unit: "ports to one address",
                have: u64::from(high.saturating_sub(low)) + 1,
                fixed: 0,
                per_lane: shape.fds_per_lane * shape.processes,
                way_out: |_| {
                    "widen it with `sysctl -w net.ipv4.ip_local_port_range=\"1024 65535\"`, or \
                     use fewer lanes or more machines"
                        .to_string()
                },
            });
        }
        all.extend(self.conntrack.map(|track| Demand {
            limit: "net.netfilter.nf_conntrack_max".to_string(),
            unit: "tracked connections",
            have: track.max,
            fixed: track.used,
            per_lane: shape.fds_per_lane * shape.processes,
            way_out: |need| raise_sysctl("net.netfilter.nf_conntrack_max", need),
        }));
        all
    }
}

fn raise_sysctl(name: &str, need: u64) -> String {
    format!("raise it with `sysctl -w {name}={need}`")
}

fn thread_bytes() -> u64 {
    THREAD_USER_BYTES + THREAD_KERNEL_BYTES
}

fn user_bytes(shape: &Shape) -> u64 {
    LANE_USER_BYTES + if shape.hyper { HYPER_USER_BYTES } else { 0 }
}

fn lane_bytes(shape: &Shape) -> u64 {
    let target = if shape.targets() > 0 { TARGET_USER_BYTES } else { 0 };
    let connection = user_bytes(shape) + target + shape.ends() * SOCKET_BYTES;
    shape.threads_per_lane * thread_bytes() + shape.fds_per_lane * connection
}
