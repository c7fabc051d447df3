//! The limits as they stand: read from `/proc`, cgroups and `getrlimit`.

use std::fs;
use std::path::PathBuf;

use procfs::process::{Process, Status};
use procfs::{Current, Meminfo};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::sched_getaffinity;
use serde::{Deserialize, Serialize};

use crate::side::cgroup::{CgroupPlace, Version, read_number};
use crate::side::quota::CpuQuota;

/// The limits of this machine and this process at one moment, and what is in use of each.
///
/// `None` means that there is no such limit, or that it does not hold for this process.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    pub nofile_soft: u64,
    /// Descriptors a process may open after [`raise_nofile`]: `RLIMIT_NOFILE`, hard.
    pub nofile_hard: u64,
    /// Most that `RLIMIT_NOFILE` can be raised to.
    pub nr_open: Option<u64>,
    pub file_max: Option<Use>,
    /// Memory maps of one process, and those of this one.
    pub max_map_count: Option<Use>,
    pub pid_max: Option<Use>,
    pub threads_max: Option<Use>,
    pub cgroup_pids: Option<CgroupLimit>,
    pub nproc: Option<Use>,
    pub address_space: Option<Use>,
    pub data: Option<Use>,
    /// Bytes of locked memory of this user, where the kernel counts rings against it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memlock: Option<Use>,
    /// Bytes of committed memory, under strict accounting only.
    pub commit: Option<Use>,
    /// Bytes of memory that can be had without swapping (`MemAvailable`).
    pub memory_available_bytes: Option<u64>,
    /// Bytes of the tightest memory cgroup; its reclaimable cache is not counted as in use.
    pub cgroup_memory: Option<CgroupLimit>,
    pub epoll_watches: Option<u64>,
    pub local_ports: Option<(u16, u16)>,
    /// `net.ipv4.tcp_tw_reuse`: 0 never, 1 always, 2 on loopback.
    pub tw_reuse: Option<u64>,
    /// Connections that can be in TIME_WAIT.
    pub tw_buckets: Option<u64>,
    /// Connections that the machine's connection tracking holds, where it is at work.
    pub conntrack: Option<Use>,
    /// Why no io_uring can be made here, which the engine `uring` takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ring_refused: Option<String>,
    pub cpu_quota: Option<CpuQuota>,
    /// CPUs that this process may use; glibc opens eight arenas for each.
    pub cpus: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Use {
    pub max: u64,
    pub used: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CgroupLimit {
    #[serde(flatten)]
    pub amount: Use,
    pub file: PathBuf,
}

/// Capability bits of `CapEff`: CAP_SYS_ADMIN, CAP_SYS_RESOURCE.
const CAP_SYS_ADMIN: u64 = 1 << 21;
const CAP_SYS_RESOURCE: u64 = 1 << 24;

impl Limits {
    /// Reads every limit. A file that is not there is a limit that does not hold.
    pub fn read() -> Limits {
        let me = Process::myself().ok();
        let status = me.as_ref().and_then(|p| p.status().ok());
        let capable = |cap: u64| status.as_ref().is_some_and(|s| s.capeff & cap != 0);
        let nofile = getrlimit(Resource::Nofile);
        let threads = threads_on_machine();
        Limits {
            nofile_soft: nofile.current.unwrap_or(u64::MAX),
            nofile_hard: nofile.maximum.unwrap_or(u64::MAX),
            nr_open: sysctl("fs/nr_open"),
            file_max: open_files().filter(|_| !capable(CAP_SYS_ADMIN)),
            max_map_count: sysctl("vm/max_map_count").map(|max| Use { max, used: own_maps() }),
            pid_max: sysctl("kernel/pid_max").map(|max| Use { max, used: threads }),
            threads_max: sysctl("kernel/threads-max").map(|max| Use { max, used: threads }),
            cgroup_pids: cgroup_pids(),
            nproc: nproc(status.as_ref())
                .filter(|_| !capable(CAP_SYS_ADMIN) && !capable(CAP_SYS_RESOURCE)),
            address_space: rlimit(Resource::As, status.as_ref().and_then(|s| s.vmsize)),
            data: rlimit(Resource::Data, status.as_ref().and_then(|s| s.vmdata)),
            memlock: rlimit(Resource::Memlock, None)
                .filter(|_| crate::sys::ring::counts_as_locked()),
            commit: committed(),
            memory_available_bytes: Meminfo::current().ok().and_then(|m| m.mem_available),
            cgroup_memory: cgroup_memory(),
            epoll_watches: sysctl("fs/epoll/max_user_watches"),
            local_ports: local_ports(),
            tw_reuse: sysctl("net/ipv4/tcp_tw_reuse"),
            tw_buckets: sysctl("net/ipv4/tcp_max_tw_buckets"),
            conntrack: conntrack(),
            ring_refused: crate::sys::ring::probe().err().map(|why| why.to_string()),
            cpu_quota: CpuQuota::own(),
            cpus: sched_getaffinity(None).map_or(1, |cpus| cpus.count()),
        }
    }
}

/// Raises the soft limit of descriptors to the hard one, which needs no privilege.
pub fn raise_nofile() -> std::io::Result<u64> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    }
    Ok(limit.maximum.unwrap_or(u64::MAX))
}

fn sysctl(name: &str) -> Option<u64> {
    read_number(format!("/proc/sys/{name}")).ok()
}

fn rlimit(resource: Resource, used_kib: Option<u64>) -> Option<Use> {
    let max = getrlimit(resource).current?;
    Some(Use { max, used: used_kib.unwrap_or(0) << 10 })
}

fn own_maps() -> u64 {
    let maps = fs::read("/proc/self/maps").unwrap_or_default();
    maps.iter().filter(|byte| **byte == b'\n').count() as u64
}

/// `/proc/sys/fs/file-nr`: allocated, free, maximum.
fn open_files() -> Option<Use> {
    let text = fs::read_to_string("/proc/sys/fs/file-nr").ok()?;
    let mut numbers = text.split_ascii_whitespace().map(str::parse::<u64>);
    let used = numbers.next()?.ok()?;
    Some(Use { max: numbers.nth(1)?.ok()?, used })
}

/// `/proc/loadavg` has running/existing threads as its fourth word.
fn threads_on_machine() -> u64 {
    procfs::LoadAverage::current().map_or(0, |load| u64::from(load.max))
}

/// Threads of all processes with our real user, since the kernel counts by user.
fn nproc(status: Option<&Status>) -> Option<Use> {
    let max = getrlimit(Resource::Nproc).current?;
    // The kernel never holds the initial user to it, whatever its capabilities.
    let uid = status?.ruid;
    if uid == 0 {
        return None;
    }
    let all = procfs::process::all_processes().ok()?;
    let used = all
        .filter_map(|process| process.ok()?.status().ok())
        .filter(|other| other.ruid == uid)
        .map(|other| other.threads)
        .sum();
    Some(Use { max, used })
}

fn committed() -> Option<Use> {
    if sysctl("vm/overcommit_memory") != Some(2) {
        return None;
    }
    let memory = Meminfo::current().ok()?;
    Some(Use { max: memory.commit_limit?, used: memory.committed_as })
}

/// The table exists wherever the module does, but it fills only where a rule tracks connections.
fn conntrack() -> Option<Use> {
    let max = sysctl("net/netfilter/nf_conntrack_max").filter(|max| *max > 0)?;
    let used = sysctl("net/netfilter/nf_conntrack_count").filter(|used| *used > 0)?;
    Some(Use { max, used })
}

fn local_ports() -> Option<(u16, u16)> {
    let text = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok()?;
    let mut ports = text.split_ascii_whitespace().filter_map(|port| port.parse().ok());
    Some((ports.next()?, ports.next()?))
}

/// The limit with the least room left, of all levels from our cgroup up.
fn tightest(
    controller: &str,
    limit: impl Fn(Version) -> &'static str,
    used: impl Fn(Version, &std::path::Path) -> u64,
) -> Option<CgroupLimit> {
    let place = CgroupPlace::of(controller).ok()?;
    let version = place.version;
    place
        .path_to_root()
        .filter_map(|dir| {
            let file = dir.join(limit(version));
            // "No limit" is `max`, or a number of bytes beyond any memory.
            let max = read_number(&file).ok().filter(|max| *max < i64::MAX as u64 / 2)?;
            Some(CgroupLimit { amount: Use { max, used: used(version, dir) }, file })
        })
        .min_by_key(|limit| limit.amount.max.saturating_sub(limit.amount.used))
}

fn cgroup_pids() -> Option<CgroupLimit> {
    tightest("pids", |_| "pids.max", |_, dir| read_number(dir.join("pids.current")).unwrap_or(0))
}

fn cgroup_memory() -> Option<CgroupLimit> {
    let limit = |version| match version {
        Version::V1 => "memory.limit_in_bytes",
        Version::V2 => "memory.max",
    };
    tightest("memory", limit, |version, dir| {
        let (usage, cache) = match version {
            Version::V1 => ("memory.usage_in_bytes", "total_inactive_file "),
            Version::V2 => ("memory.current", "inactive_file "),
        };
        let stat = fs::read_to_string(dir.join("memory.stat")).unwrap_or_default();
        let cached = stat.lines().find_map(|line| line.strip_prefix(cache)?.parse().ok());
        read_number(dir.join(usage)).unwrap_or(0).saturating_sub(cached.unwrap_or(0))
    })
}
