//! What each side of a cell needs: the processes of the client, and those of a server under test.

use super::machine::Limits;
use super::terms::{LaneLine, Scope, TargetKind, Unit};
use crate::plan::allocator::Allocator;
use crate::plan::engine::{EngineFacts, LaneThreads, SocketKind};
use crate::plan::server::{CONNECTIONS_OF_RING, ServerPlan};
use crate::plan::steps::Offload;
use crate::plan::{Cell, Codec};
use crate::side::usage::KERNEL_STACK_BYTES;
use crate::sys::ring;
use crate::units::{format_bytes, format_count, plural};

/// Descriptors beside the lanes: pipes, the page of counters, epoll sets, timers, `/proc` files.
pub(super) const RESERVED_FDS: u64 = 24;
/// Threads of a worker beside its lanes: the monitor, the reader of frames, the engine's own, the
/// pacer, the heartbeat's two, and some to spare.
pub(super) const RESERVED_THREADS: u64 = 8;
/// Most threads that tokio starts for blocking work unless told otherwise.
const MOST_BLOCKING_THREADS: u64 = 512;
/// Most process ids that Linux can be told to hand out; products of it do not overflow.
const MOST_IDS: u32 = 1 << 22;
/// Largest stack that is told apart from no room at all.
const MOST_STACK_BYTES: u64 = 1 << 40;
/// Of a ring: itself, and what wakes it.
const FDS_OF_RING: u64 = 2;

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
/// A session of TLS, and what a handshake leaves of a thread's stack.
const TLS_USER_BYTES: u64 = 4 << 10;
const TLS_STACK_BYTES: u64 = 26 << 10;

/// The processes of one side; the lines are those of one of them, in the lanes of a worker.
pub(super) struct SideNeeds {
    pub(super) of_server: bool,
    pub(super) processes: u64,
    pub(super) threads: LaneLine,
    /// Ends of the load's connections.
    pub(super) connections: LaneLine,
    /// Connections to what handlers call.
    pub(super) calls: LaneLine,
    pub(super) stack_bytes: u64,
    /// Resident memory of a thread, and of a lane beside its thread and socket.
    pub(super) thread_bytes: u64,
    pub(super) lane_bytes: u64,
    pub(super) in_epoll: bool,
    pub(super) allocator: Option<Allocator>,
    rings: u64,
    connections_of_ring: u32,
}

pub(super) struct CellNeeds {
    pub(super) client: SideNeeds,
    /// Of a server under test that duel starts.
    pub(super) server: Option<SideNeeds>,
    pub(super) target: TargetKind,
}

impl CellNeeds {
    /// `server` is one that duel starts, with the CPUs of each of its processes.
    pub(super) fn of(cell: &Cell, target: TargetKind, server: Option<(&ServerPlan, u64)>) -> Self {
        let client = SideNeeds::of_client(cell);
        let mut needs = CellNeeds { client, server: None, target };
        needs.server = server.map(|(plan, cpus)| {
            let processes = needs.targets().max(1);
            // The busiest holds the connections of so many workers.
            let workers = needs.client.processes.div_ceil(processes);
            SideNeeds::of_server(plan, cpus, (processes, workers), u64::from(cell.lanes))
        });
        needs
    }

    pub(super) fn sides(&self) -> impl Iterator<Item = &SideNeeds> {
        [&self.client].into_iter().chain(&self.server)
    }

    /// What all processes of both sides need, given what one of each does.
    pub(super) fn total(&self, of_one: impl Fn(&SideNeeds) -> LaneLine) -> LaneLine {
        let each = self.sides().map(|side| of_one(side).times(side.processes));
        each.fold(LaneLine::default(), LaneLine::and)
    }

    pub(super) fn targets(&self) -> u64 {
        match self.target {
            TargetKind::Embedded { processes } => u64::from(processes.max(1)),
            TargetKind::External { .. } => 0,
        }
    }

    /// The reference, which is not reckoned up as a server under test is.
    pub(super) fn references(&self) -> u64 {
        if self.server.is_none() { self.targets() } else { 0 }
    }

    /// Ends of a connection on this machine that count for its user and its kernel.
    pub(super) fn ends(&self) -> u64 {
        match self.target {
            TargetKind::Embedded { .. } | TargetKind::External { loopback: true } => 2,
            TargetKind::External { loopback: false } => 1,
        }
    }
}

impl SideNeeds {
    fn of_client(cell: &Cell) -> SideNeeds {
        let EngineFacts { threads, sockets, .. } = cell.engine.facts();
        let pool = cell.rayon_threads.filter(|_| cell.is_small_pool()).map(|n| n.min(MOST_IDS));
        let (per_lane, lane_threads) = match (threads, pool) {
            (LaneThreads::Own, _) => (0, 0),
            (LaneThreads::Pool, Some(threads)) => (0, threads),
            (LaneThreads::PerLane | LaneThreads::Pool, _) => (1, 0),
            (LaneThreads::PerCpu, _) => (0, cell.cpus),
        };
        // What a server under test hands over is its own.
        let offload = cell.offload.filter(|_| !cell.tests_server());
        let hidden = hidden_threads(offload, cell.lanes.into(), cell.cpus.into());
        let other_threads = u64::from(lane_threads) + hidden + RESERVED_THREADS;
        let alone = cell.engine.has_one_lane();
        let rings = if cell.engine.has_ring() { cell.cpus.clamp(1, cell.lanes.max(1)) } else { 0 };
        SideNeeds {
            of_server: false,
            processes: u64::from(cell.processes.clamp(1, MOST_IDS)),
            threads: LaneLine { fixed: other_threads, per_lane },
            connections: LaneLine { fixed: alone.into(), per_lane: (!alone).into() },
            calls: LaneLine::default(),
            stack_bytes: cell.stack_bytes().min(MOST_STACK_BYTES),
            thread_bytes: THREAD_BYTES,
            lane_bytes: lane_bytes(cell.codec, false),
            in_epoll: sockets == SocketKind::Epoll,
            allocator: cell.allocator.clone(),
            rings: rings.into(),
            connections_of_ring: cell.lanes.div_ceil(rings.max(1)),
        }
    }

    fn of_server(
        plan: &ServerPlan,
        cpus: u64,
        (processes, workers): (u64, u64),
        lanes: u64,
    ) -> SideNeeds {
        let (facts, setting) = (plan.engine.facts(), &plan.setting);
        let calls = u64::from(plan.fan_out.min(setting.most_calls()));
        // A handler that blocks makes one of its calls itself, and has a thread for each of the others.
        let handlers = if facts.offloads { 1 } else { calls.max(1) };
        let pool = setting.pool_size.map_or(cpus, |n| u64::from(n.min(MOST_IDS)));
        let (per_connection, fixed) = match facts.threads {
            LaneThreads::Own => (0, 0),
            LaneThreads::PerLane => (handlers, 0),
            LaneThreads::Pool => (0, pool.saturating_mul(handlers)),
            LaneThreads::PerCpu => (0, cpus),
        };
        let offload = Some(plan.offload).filter(|_| facts.offloads && setting.has_local_work());
        let hidden = hidden_threads(offload, lanes.saturating_mul(workers), cpus);
        let in_pool = facts.threads == LaneThreads::Pool;
        let tls_bytes = u64::from(setting.tls);
        SideNeeds {
            of_server: true,
            processes,
            threads: LaneLine { fixed: 0, per_lane: per_connection }
                .times(workers)
                .plus(fixed + hidden + RESERVED_THREADS),
            connections: LaneLine { fixed: 0, per_lane: workers },
            calls: match in_pool {
                true => LaneLine { fixed: pool.saturating_mul(calls), per_lane: 0 },
                false => LaneLine { fixed: 0, per_lane: calls }.times(workers),
            },
            stack_bytes: setting.stack_bytes.min(MOST_STACK_BYTES),
            thread_bytes: THREAD_BYTES + tls_bytes * TLS_STACK_BYTES,
            lane_bytes: lane_bytes(plan.codec, setting.tls).saturating_mul(workers),
            in_epoll: plan.sockets() == SocketKind::Epoll,
            allocator: None,
            rings: if plan.sockets() == SocketKind::Ring { cpus } else { 0 },
            connections_of_ring: CONNECTIONS_OF_RING,
        }
    }

    /// Where one process of it meets a limit.
    pub(super) fn scope(&self) -> Scope {
        if self.of_server { Scope::TargetProcess } else { Scope::Worker }
    }

    pub(super) fn unit(&self, of_client: Unit) -> Unit {
        match of_client {
            Unit::WorkerFds if self.calls.at(1) > 0 => Unit::ServerFdsWithCalls,
            unit if self.of_server => unit.of_server(),
            unit => unit,
        }
    }

    pub(super) fn fds(&self) -> LaneLine {
        self.connections.and(self.calls).plus(RESERVED_FDS + FDS_OF_RING * self.rings)
    }

    /// Memory that the rings of one process lock.
    pub(super) fn locked_bytes(&self) -> u64 {
        self.rings.saturating_mul(ring::locked_bytes(self.connections_of_ring))
    }

    /// Most lanes of a worker whose rings lock no more than `bytes`; `None` where lanes do not count.
    pub(super) fn most_lanes_on_rings(&self, bytes: u64) -> Option<u64> {
        let of_lanes = !self.of_server && self.rings > 0;
        of_lanes.then(|| {
            let each = ring::most_connections(bytes / self.rings);
            u64::from(each).saturating_mul(self.rings)
        })
    }

    fn rings_in_words(&self, limits: &Limits) -> Option<String> {
        let rings = Some(self.rings).filter(|n| *n > 0)?;
        let whose = if self.of_server { "server" } else { "client" };
        let of_each = match self.processes {
            1 => String::new(),
            n => format!(" in each of {} processes", format_count(n)),
        };
        let bound = match limits.memlock {
            Some(memlock) => format!("RLIMIT_MEMLOCK allows {}", format_bytes(memlock.max as f64)),
            None => "RLIMIT_MEMLOCK does not bound it here".into(),
        };
        Some(format!(
            "{whose} on uring: {}{of_each}; each takes a thread, {FDS_OF_RING} descriptors and {} of locked \
             memory; {bound}",
            plural(rings, "ring"),
            format_bytes(ring::locked_bytes(self.connections_of_ring) as f64),
        ))
    }
}

impl Limits {
    /// CPUs that each process of an embedded target has beside a cell's workers, as far as limits know.
    pub(super) fn cpus_beside(&self, cell: &Cell) -> u64 {
        u64::from(self.cpus.saturating_sub(cell.cpus).max(1))
    }

    /// What the rings of a cell need, on either side; the server with the CPUs of each of its processes.
    pub(crate) fn rings_of(
        &self,
        cell: &Cell,
        target: TargetKind,
        server: Option<(&ServerPlan, u64)>,
    ) -> Vec<String> {
        let needs = CellNeeds::of(cell, target, server);
        needs.sides().filter_map(|side| side.rings_in_words(self)).collect()
    }
}

/// User memory of a lane, its thread apart.
fn lane_bytes(codec: Codec, tls: bool) -> u64 {
    let hyper = if codec == Codec::Hyper { HYPER_USER_BYTES } else { 0 };
    LANE_USER_BYTES + hyper + if tls { TLS_USER_BYTES } else { 0 }
}

/// A thread for the job of each lane. tokio may start more, one whenever none has said yet that it is
/// idle (358 were seen for 64 lanes), but lets jobs wait where it gets none, so that those are not
/// needed. A pool has a thread per CPU.
fn hidden_threads(offload: Option<Offload>, lanes: u64, cpus: u64) -> u64 {
    match offload {
        Some(Offload::SpawnBlocking) => lanes.min(MOST_BLOCKING_THREADS),
        Some(Offload::Rayon) => cpus.max(1),
        Some(Offload::Inline) | None => 0,
    }
}
