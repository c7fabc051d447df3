//! What a cell demands of each limit: a straight line in the lanes of a worker.

use super::machine::{CgroupLimit, Limits, Use};
use super::needs::{CellNeeds, RESERVED_FDS, RESERVED_THREADS, SideNeeds};
use super::ports::PORT_RANGE;
use super::terms::{LaneLine, Scope, TargetKind, Unit};
use crate::plan::allocator::Allocator;

/// Memory maps of one thread of Rust's standard library on glibc: its stack, the stack's guard
/// page, its alternate signal stack and that one's guard page.
pub const MAPS_PER_THREAD: u64 = 4;

/// Address space of a thread beside its stack: guard page, alternate signal stack and its guard.
const THREAD_EXTRA_BYTES: u64 = 16 << 10;
/// Maps beside the lanes and those that the process begins with: recorder, large allocations.
const RESERVED_MAPS: u64 = 64;
/// Ids that the kernel keeps for itself when it starts over.
const RESERVED_PIDS: u64 = 300;
/// glibc opens at most this many arenas per CPU; each is 64 MiB of address space in two maps.
const ARENAS_PER_CPU: u64 = 8;
const ARENA_BYTES: u64 = 64 << 20;
/// Part of an address space that arenas may reserve, so that stacks find room in the rest.
const ARENAS_PART: u64 = 4;

/// Memory of a connection's end in the kernel.
const SOCKET_BYTES: u64 = 4 << 10;
/// One connection of the embedded target, its socket apart.
const TARGET_USER_BYTES: u64 = 2 << 10;
/// A worker before its first lane.
const WORKER_BYTES: u64 = 16 << 20;

/// What a cell needs of a limit, which must not exceed `have`.
pub(super) struct Demand {
    pub(super) name: String,
    /// Whose it is, where it is not the worker's own or the machine's.
    whose: &'static str,
    pub(super) unit: Unit,
    pub(super) scope: Scope,
    pub(super) have: u64,
    pub(super) need: LaneLine,
    /// Most lanes, where what they need is no line; `need` is then that of the cell.
    steps: Option<u64>,
    /// What to do, given the limit's name and what is needed.
    pub(super) way_out: fn(&str, u64) -> String,
}

impl Demand {
    pub(super) fn limit(&self) -> String {
        self.name.clone() + self.whose
    }

    /// `None` when lanes do not count and the rest fits.
    pub(super) fn most_lanes(&self) -> Option<u64> {
        self.steps.or_else(|| self.most_on_the_line())
    }

    fn most_on_the_line(&self) -> Option<u64> {
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
        (name, whose): (&str, &'static str),
        (scope, unit): (Scope, Unit),
        amount: Option<Use>,
        need: LaneLine,
        way_out: fn(&str, u64) -> String,
    ) {
        self.0.extend(amount.map(|Use { max, used }| Demand {
            name: name.to_string(),
            whose,
            unit,
            scope,
            have: max,
            need: need.plus(used),
            steps: None,
            way_out,
        }));
    }

    /// A limit that each process of a side has to itself.
    fn add_own(
        &mut self,
        side: &SideNeeds,
        (limit, unit): (&str, Unit),
        amount: Option<Use>,
        need: LaneLine,
        [of_client, of_server]: [fn(&str, u64) -> String; 2],
    ) {
        let whose = if side.of_server { " of the server" } else { "" };
        let way_out = if side.of_server { of_server } else { of_client };
        let unit = (side.scope(), side.unit(unit));
        self.add((limit, whose), unit, amount, need, way_out);
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
        self.locked(needs, &mut all);
        self.network(needs, &mut all);
        all.0
    }

    fn descriptors(&self, needs: &CellNeeds, all: &mut Demands) {
        let most = self.nofile_hard.min(self.nr_open.unwrap_or(u64::MAX));
        let nofile = Some(Use { max: most, used: 0 });
        let spread = |_: &str, need| raise_nofile(need) + " or more `[target] processes`";
        for side in needs.sides() {
            let fewer = |_: &str, need| raise_nofile(need) + " and more processes";
            let fewer_calls = |_: &str, need| {
                raise_nofile(need) + ", more `[target] processes` or a smaller `fan_out`"
            };
            let of_server: fn(&str, u64) -> String =
                if side.calls.at(1) > 0 { fewer_calls } else { spread };
            let what = ("RLIMIT_NOFILE", Unit::WorkerFds);
            all.add_own(side, what, nofile, side.fds(), [fewer, of_server]);
        }
        let client = &needs.client;
        if needs.references() > 0 {
            let unit = (Scope::TargetProcess, Unit::TargetFds);
            let workers = client.processes.div_ceil(needs.references());
            let need = client.connections.times(workers).plus(RESERVED_FDS);
            all.add(("RLIMIT_NOFILE", " of the target"), unit, nofile, need, spread);
        }
        let calls = needs.total(|side| side.calls);
        if calls.at(1) > 0 {
            let unit = (Scope::Machine, Unit::UpstreamFds);
            let fewer = |_: &str, need| raise_nofile(need) + " and fewer calls at once (`fan_out`)";
            let need = calls.plus(RESERVED_FDS);
            all.add(("RLIMIT_NOFILE", " of the upstream"), unit, nofile, need, fewer);
        }
        let every = client.fds().times(client.processes);
        let files = every.times(needs.ends()).and(calls.times(2));
        let unit = (Scope::Machine, Unit::OpenFiles);
        all.add(("fs.file-max", ""), unit, self.file_max, files, raise_sysctl);
        let answering = needs.server.as_ref().map_or(needs.targets() > 0, |server| server.in_epoll);
        let sets = u64::from(client.in_epoll) + u64::from(answering);
        let watches = self.epoll_watches.map(|max| Use { max, used: 0 });
        let (limit, unit) = ("fs.epoll.max_user_watches", (Scope::Machine, Unit::EpollSockets));
        all.add((limit, ""), unit, watches, every.times(sets), raise_sysctl);
    }

    fn threads(&self, needs: &CellNeeds, all: &mut Demands) {
        for side in needs.sides() {
            let arenas = self.arenas(side.allocator.as_ref());
            let maps = side.threads.times(MAPS_PER_THREAD).plus(RESERVED_MAPS + 2 * arenas);
            let fewer = |limit: &str, need| {
                raise_sysctl(limit, need) + ", or use fewer lanes and more processes"
            };
            let spread = |limit: &str, need| {
                raise_sysctl(limit, need) + ", or use fewer lanes and more `[target] processes`"
            };
            let what = ("vm.max_map_count", Unit::WorkerMaps);
            all.add_own(side, what, self.max_map_count, maps, [fewer, spread]);
        }
        let in_target = needs.references() * (RESERVED_THREADS + u64::from(self.cpus));
        let need = needs.total(|side| side.threads).plus(in_target);
        let ids = need.plus(RESERVED_PIDS);
        let machine = (Scope::Machine, Unit::MachineThreads);
        all.add(("kernel.pid_max", ""), machine, self.pid_max, ids, raise_sysctl);
        all.add(("kernel.threads-max", ""), machine, self.threads_max, need, raise_sysctl);
        if let Some(CgroupLimit { amount, file }) = &self.cgroup_pids {
            let name = format!("pids.max ({})", file.display());
            let unit = (Scope::Machine, Unit::CgroupThreads);
            all.add((&name, ""), unit, Some(*amount), need, |_, need| {
                format!("write {need} or `max` to that file (TasksMax= under systemd)")
            });
        }
        let unit = (Scope::Machine, Unit::UserThreads);
        all.add(("RLIMIT_NPROC", ""), unit, self.nproc, need, |_, need| {
            format!("raise it with `ulimit -u {need}` (LimitNPROC= under systemd)")
        });
    }

    fn memory(&self, needs: &CellNeeds, all: &mut Demands) {
        let virtual_bytes = |side: &SideNeeds| {
            let stacks = side.threads.times(side.stack_bytes + THREAD_EXTRA_BYTES);
            stacks.plus(WORKER_BYTES).and_per_lane(side.lane_bytes)
        };
        let smaller = |_: &str, _| {
            "raise it, or use smaller stacks (`stack_sizes`) or fewer lanes".to_string()
        };
        let of_server = |_: &str, _| {
            "raise it, or use a smaller `server.stack_size`, fewer lanes, more `[target] processes` or \
             another server engine"
                .to_string()
        };
        for side in needs.sides() {
            let bytes = virtual_bytes(side);
            // Arenas are reserved without write access, which counts as address space only.
            let arenas = self.arenas(side.allocator.as_ref()) * ARENA_BYTES;
            let ways_out: [fn(&str, u64) -> String; 2] = [smaller, of_server];
            let (space, data) =
                (("RLIMIT_AS", Unit::VirtualBytes), ("RLIMIT_DATA", Unit::VirtualBytes));
            all.add_own(side, space, self.address_space, bytes.plus(arenas), ways_out);
            all.add_own(side, data, self.data, bytes, ways_out);
        }
        let shared = (Scope::Machine, Unit::VirtualBytes);
        let every = needs.total(virtual_bytes);
        all.add(("vm.overcommit_memory", ""), shared, self.commit, every, smaller);

        let of_side = |side: &SideNeeds| {
            let lanes = if side.connections.per_lane > 0 { side.lane_bytes } else { 0 };
            side.threads.times(side.thread_bytes).and_per_lane(lanes).plus(WORKER_BYTES)
        };
        // The load's connections with both ends, and the reference.
        let in_target = if needs.references() > 0 { TARGET_USER_BYTES } else { 0 };
        let sockets = needs.client.connections.per_lane * (in_target + needs.ends() * SOCKET_BYTES);
        let connections = LaneLine { fixed: 0, per_lane: sockets }.times(needs.client.processes);
        let called = needs.total(|side| side.calls).times(2 * SOCKET_BYTES);
        let resident = needs.total(of_side).and(connections).and(called);
        let resident = resident.plus(WORKER_BYTES * needs.references());
        let unit = (Scope::MachineMemory, Unit::MemoryBytes);
        let fewer =
            |_: &str, _| "use fewer lanes, or the lean codec, or a machine with more".to_string();
        let available = self.memory_available_bytes.map(|max| Use { max, used: 0 });
        all.add(("available memory", ""), unit, available, resident, fewer);
        if let Some(CgroupLimit { amount, file }) = &self.cgroup_memory {
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            let name = format!("{name} ({})", file.display());
            all.add((&name, ""), unit, Some(*amount), resident, fewer);
        }
    }

    /// What rings lock, which the kernel counts for the user. It grows in steps, not by the lane.
    fn locked(&self, needs: &CellNeeds, all: &mut Demands) {
        let total = |side: &SideNeeds| side.locked_bytes().saturating_mul(side.processes);
        let need = needs.sides().map(total).fold(0, u64::saturating_add);
        if need == 0 {
            return;
        }
        let before = all.0.len();
        let unit = (Scope::Machine, Unit::LockedBytes);
        all.add(("RLIMIT_MEMLOCK", ""), unit, self.memlock, LaneLine::default().plus(need), |_, need| {
            let kib = need.div_ceil(1 << 10);
            format!(
                "raise it with `ulimit -l {kib}` (LimitMEMLOCK= under systemd), or use fewer CPUs"
            )
        });
        for demand in &mut all.0[before..] {
            let of_server = needs.server.as_ref().map_or(0, total);
            let used = demand.need.fixed - need;
            let left = demand.have.saturating_sub(of_server + used) / needs.client.processes;
            demand.steps = needs.client.most_lanes_on_rings(left);
        }
    }

    fn network(&self, needs: &CellNeeds, all: &mut Demands) {
        let per_lane = needs.client.connections.per_lane * needs.client.processes;
        let connections = LaneLine { fixed: 0, per_lane };
        let ports = self.local_ports.map(|(low, high)| u64::from(high.saturating_sub(low)) + 1);
        let ports = ports.map(|max| Use { max, used: 0 });
        if needs.target == (TargetKind::External { loopback: false }) {
            let limit = PORT_RANGE;
            let unit = (Scope::Machine, Unit::Ports);
            all.add((limit, ""), unit, ports, connections, |limit, _| {
                format!(
                    "widen it with `sysctl -w {limit}=\"1024 65535\"`, or use fewer lanes or more \
                     machines"
                )
            });
        }
        let calls = needs.total(|side| side.calls);
        if calls.at(1) > 0 {
            // Those of all servers go from one address to one.
            let limit = (PORT_RANGE, " of the upstream");
            let unit = (Scope::Machine, Unit::Ports);
            all.add(limit, unit, ports, calls, |limit, _| {
                format!(
                    "widen it with `sysctl -w {limit}=\"1024 65535\"`, or use fewer lanes or a smaller \
                     `fan_out`"
                )
            });
        }
        let (limit, unit) = ("net.netfilter.nf_conntrack_max", (Scope::Machine, Unit::Tracked));
        let tracked = connections.and(calls);
        all.add((limit, ""), unit, self.conntrack, tracked, raise_sysctl);
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
