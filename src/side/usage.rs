//! What a process used: processor time, context switches, memory, threads and descriptors.
//!
//! A [`Usage`] is read at both edges of the window and the difference is what the window cost. The
//! cheap exact clocks stand next to the window: after everything else at its start, before
//! everything else at its end, so that reading `/proc` is no part of what is read.
//!
//! Cost of one call, measured on a 2-CPU virtual machine with Linux 6.18:
//!
//! | call | 3 threads | 512 threads | 10,000 threads |
//! |---|---|---|---|
//! | [`Usage::read`] | 45 µs | 2.8 ms | 0.95 ms |
//! | [`ProcessUse::read`] | 40 µs | 50 µs | 60 µs |
//!
//! The 2.8 ms are the run-queue waits, 5.4 µs a thread, and the reason for [`MOST_WAITING_THREADS`];
//! the 0.95 ms are the kernel's own walk over the threads for the clocks.

mod waits;

use std::fs::{self, File};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;
use procfs::FromRead;
use serde::{Deserialize, Serialize};

use super::events::Counted;
use super::own_counts::OwnCounts;
use crate::format::{Cpu, Events, Reason, Reasons, RingUse, RuntimeUse, Switches, field};
use crate::sys::{now_ns, process_cpu_ns};
use crate::units::SECOND_NS;

pub use waits::MOST_WAITING_THREADS;
use waits::Waits;
pub(crate) use waits::thread_ends;

/// Kernel stack of a thread: 16 KiB on x86-64 (since Linux 3.15), arm64 and riscv64.
pub const KERNEL_STACK_BYTES: u64 = 16 << 10;

/// Why a figure that is no trouble is `None`.
pub(super) const FROM_OUTSIDE: &str = "no process can be asked for it from outside";

/// Which edge of the window a reading stands at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Edge {
    /// The clocks are read last.
    Start,
    /// The clocks are read first.
    End,
}

/// The processor time and switches of this process so far, and the machine's busy time.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Usage {
    clocks: Clocks,
    own: OwnCounts,
    waits: Result<Waits, Reason>,
    machine: Result<MachineTime, Reason>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Clocks {
    /// When they were read, on CLOCK_MONOTONIC.
    at_ns: u64,
    total_ns: u64,
    user_ns: u64,
    system_ns: u64,
    voluntary: u64,
    involuntary: u64,
    minor_faults: u64,
    major_faults: u64,
    /// Of living threads alone come the switches of another process.
    of_living: bool,
}

/// Time of the whole machine since boot, in ticks of the kernel (10 ms) turned into nanoseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineTime {
    /// Every CPU's time in programs, kernel and interrupts; neither idle nor stolen.
    pub busy_ns: u64,
    /// Time in which the hypervisor ran something else.
    pub steal_ns: u64,
    /// `busy_ns` by CPU number; `None` for one that was offline.
    pub cpu_busy_ns: Vec<Option<u64>>,
    /// Idle time by CPU number. The kernel clocks it, where it samples busy time by its tick, so
    /// it is the better witness over short windows.
    pub cpu_idle_ns: Vec<Option<u64>>,
}

/// What a window cost: the difference of two readings.
#[derive(Debug, Clone, Default)]
pub struct Spent {
    /// As the record has it; `per_request_ns` and `pacer_ns` are the caller's to fill in.
    pub cpu: Cpu,
    pub switches: Switches,
    pub events: Events,
    pub(crate) runtime: Option<RuntimeUse>,
    pub(crate) ring: Option<RingUse>,
    pub(crate) elapsed_ns: u64,
    /// Requests that a server answered meanwhile, where it was asked.
    pub(crate) answered: Option<u64>,
    pub machine: Option<MachineTime>,
    /// What is `None` above, by field name of the record, and why.
    pub unavailable: Reasons,
}

impl Usage {
    /// Reads this process, every thread of it, exited ones too.
    pub fn read(edge: Edge) -> Usage {
        Self::with_waits(edge, MOST_WAITING_THREADS)
    }

    /// As [`Usage::read`], with the waits of any number of threads: for trials whose latency and CPU
    /// are not ranked.
    pub(crate) fn read_every_wait(edge: Edge) -> Usage {
        Self::with_waits(edge, u64::MAX)
    }

    fn with_waits(edge: Edge, most_threads: u64) -> Usage {
        let first = (edge == Edge::End).then(Clocks::read);
        let waits = waits::read(most_threads);
        let machine = MachineTime::read();
        let clocks = first.unwrap_or_else(Clocks::read);
        Usage { clocks, own: OwnCounts::none("nobody counted"), waits, machine }
    }

    /// Adds what this process counts of itself.
    pub(crate) fn and(self, own: OwnCounts) -> Usage {
        Usage { own, ..self }
    }

    /// Reads another process of this user: its switches and waits are those of its living threads,
    /// and the machine is left to its own readers.
    pub fn of(pid: u32, edge: Edge) -> Result<Usage, Reason> {
        let first = (edge == Edge::End).then(|| Clocks::of(pid)).transpose()?;
        let waits = waits::read_living(&format!("/proc/{pid}/task"), MOST_WAITING_THREADS);
        let clocks = first.map_or_else(|| Clocks::of(pid), Ok)?;
        let machine = Err("the client's side reads it".into());
        Ok(Usage { clocks, own: OwnCounts::none(FROM_OUTSIDE), waits, machine })
    }

    /// Switches and page faults of the calling thread so far: what a monitor adds to its process
    /// by looking.
    pub fn own() -> (Switches, Events) {
        let Ok(usage) = getrusage(UsageWho::RUSAGE_THREAD) else { return Default::default() };
        let switches = Switches {
            voluntary: usage.voluntary_context_switches() as u64,
            involuntary: usage.involuntary_context_switches() as u64,
            migrations: None,
        };
        let events = Events {
            minor_faults: Some(usage.minor_page_faults() as u64),
            major_faults: Some(usage.major_page_faults() as u64),
            ..Events::default()
        };
        (switches, events)
    }

    pub fn since(&self, earlier: &Usage) -> Spent {
        let (now, then) = (&self.clocks, &earlier.clocks);
        let own = self.own.since(&earlier.own);
        let mut spent = Spent {
            cpu: Cpu {
                total_ns: now.total_ns.saturating_sub(then.total_ns),
                user_ns: now.user_ns.saturating_sub(then.user_ns),
                system_ns: now.system_ns.saturating_sub(then.system_ns),
                ..Cpu::default()
            },
            switches: Switches {
                voluntary: now.voluntary.saturating_sub(then.voluntary),
                involuntary: now.involuntary.saturating_sub(then.involuntary),
                migrations: None,
            },
            events: Events {
                minor_faults: Some(now.minor_faults.saturating_sub(then.minor_faults)),
                major_faults: Some(now.major_faults.saturating_sub(then.major_faults)),
                ..Events::default()
            },
            runtime: own.runtime,
            ring: own.ring,
            elapsed_ns: now.at_ns.saturating_sub(then.at_ns),
            answered: own.answered,
            ..Spent::default()
        };
        let mut missing = |field: &str, why: Reason| {
            spent.unavailable.insert(field.to_string(), why);
        };
        let Counted { migrations, syscalls, instructions, cycles } = own.events;
        let (switches, events) = (&mut spent.switches, &mut spent.events);
        for (field, to, counted) in [
            (field!(SideUse.switches.migrations), &mut switches.migrations, migrations),
            (field!(SideUse.events.syscalls), &mut events.syscalls, syscalls),
            (field!(SideUse.events.instructions), &mut events.instructions, instructions),
            (field!(SideUse.events.cycles), &mut events.cycles, cycles),
        ] {
            *to = counted.map_err(|why| missing(field, why)).ok();
        }
        match waits::waited_since(&self.waits, &earlier.waits) {
            Ok(ns) => spent.cpu.run_queue_wait_ns = Some(ns),
            Err(why) => {
                // A sum over those that live is none.
                if now.of_living && self.waits.is_ok() {
                    missing(field!(SideUse.switches.voluntary), why.clone());
                }
                missing(field!(SideUse.cpu.run_queue_wait_ns), why);
            }
        }
        match (&self.machine, &earlier.machine) {
            (Ok(now), Ok(then)) => {
                let machine = now.since(then);
                spent.cpu.machine_busy_ns = Some(machine.busy_ns);
                spent.machine = Some(machine);
            }
            (Err(why), _) | (_, Err(why)) => {
                missing(field!(SideUse.cpu.machine_busy_ns), why.clone());
            }
        }
        spent
    }
}

/// The CPU clock of another process: exact, all threads, exited ones too; `None` when it is gone.
pub fn cpu_ns(pid: u32) -> Option<u64> {
    let clock = ClockId::pid_cpu_clock_id(Pid::from_raw(pid.try_into().ok()?)).ok()?;
    let time = clock_gettime(clock).ok()?;
    Some(time.tv_sec() as u64 * SECOND_NS + time.tv_nsec() as u64)
}

impl Clocks {
    fn of(pid: u32) -> Result<Clocks, Reason> {
        let unreadable = |what: &str| format!("cannot read {what} of process {pid}");
        let open = |path: String| File::open(&path).map_err(|_| unreadable(&path));
        let stat = procfs::process::Stat::from_read(open(format!("/proc/{pid}/stat"))?)
            .map_err(|_| unreadable("the times"))?;
        let tick_ns = SECOND_NS / procfs::ticks_per_second().max(1);
        let (mut voluntary, mut involuntary) = (0, 0);
        let tasks = format!("/proc/{pid}/task");
        for task in fs::read_dir(&tasks).map_err(|_| unreadable(&tasks))?.flatten() {
            let status = File::open(task.path().join("status")).ok();
            // A thread may end between the listing and the reading.
            let Some(file) = status else { continue };
            let status =
                procfs::process::Status::from_read(file).map_err(|_| unreadable("the switches"))?;
            voluntary += status.voluntary_ctxt_switches.unwrap_or(0);
            involuntary += status.nonvoluntary_ctxt_switches.unwrap_or(0);
        }
        Ok(Clocks {
            at_ns: now_ns(),
            total_ns: cpu_ns(pid).ok_or_else(|| unreadable("the CPU clock"))?,
            user_ns: stat.utime * tick_ns,
            system_ns: stat.stime * tick_ns,
            voluntary,
            involuntary,
            minor_faults: stat.minflt,
            major_faults: stat.majflt,
            of_living: true,
        })
    }

    fn read() -> Clocks {
        let ns = |t: TimeVal| t.tv_sec() as u64 * SECOND_NS + t.tv_usec() as u64 * 1_000;
        // It fails for a bad argument only, and this is none.
        let usage = getrusage(UsageWho::RUSAGE_SELF).ok();
        Clocks {
            at_ns: now_ns(),
            total_ns: process_cpu_ns(),
            user_ns: usage.map_or(0, |u| ns(u.user_time())),
            system_ns: usage.map_or(0, |u| ns(u.system_time())),
            voluntary: usage.map_or(0, |u| u.voluntary_context_switches() as u64),
            involuntary: usage.map_or(0, |u| u.involuntary_context_switches() as u64),
            minor_faults: usage.map_or(0, |u| u.minor_page_faults() as u64),
            major_faults: usage.map_or(0, |u| u.major_page_faults() as u64),
            of_living: false,
        }
    }
}

impl MachineTime {
    pub(crate) fn read() -> Result<MachineTime, Reason> {
        let text =
            fs::read_to_string("/proc/stat").map_err(|e| format!("cannot read /proc/stat: {e}"))?;
        Self::parse(&text, procfs::ticks_per_second())
    }

    /// Reads only the leading `cpu` lines: the interrupt counts behind them can be very long.
    fn parse(text: &str, ticks_per_s: u64) -> Result<MachineTime, Reason> {
        let tick_ns = SECOND_NS / ticks_per_s.max(1);
        let mut time = MachineTime::default();
        let mut found = false;
        for line in text.lines().take_while(|line| line.starts_with("cpu")) {
            let mut words = line.split_ascii_whitespace();
            let name = words.next().unwrap_or_default();
            let ticks: Vec<u64> = words.map_while(|word| word.parse().ok()).collect();
            // user nice system idle iowait irq softirq steal; guest time is part of user.
            let [user, nice, system, idle, iowait, irq, softirq, steal, ..] = ticks[..] else {
                return Err(format!("/proc/stat has an unexpected line: {line:?}").into());
            };
            let busy_ns = (user + nice + system + irq + softirq) * tick_ns;
            match name.strip_prefix("cpu").and_then(|n| n.parse::<usize>().ok()) {
                Some(cpu) => {
                    let len = time.cpu_busy_ns.len().max(cpu + 1);
                    time.cpu_busy_ns.resize(len, None);
                    time.cpu_idle_ns.resize(len, None);
                    time.cpu_busy_ns[cpu] = Some(busy_ns);
                    time.cpu_idle_ns[cpu] = Some((idle + iowait) * tick_ns);
                }
                None => {
                    found = true;
                    (time.busy_ns, time.steal_ns) = (busy_ns, steal * tick_ns);
                }
            }
        }
        if found { Ok(time) } else { Err("/proc/stat has no line for all CPUs".into()) }
    }

    fn since(&self, then: &MachineTime) -> MachineTime {
        let each = |now: &[Option<u64>], then: &[Option<u64>]| {
            let then = then.iter().copied().chain(std::iter::repeat(None));
            now.iter().zip(then).map(|(now, then)| Some((*now)?.saturating_sub(then?))).collect()
        };
        MachineTime {
            busy_ns: self.busy_ns.saturating_sub(then.busy_ns),
            steal_ns: self.steal_ns.saturating_sub(then.steal_ns),
            cpu_busy_ns: each(&self.cpu_busy_ns, &then.cpu_busy_ns),
            cpu_idle_ns: each(&self.cpu_idle_ns, &then.cpu_idle_ns),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessUse {
    /// Resident set (`VmRSS`); before Linux 6.2 it may lag by 64 pages per thread.
    pub rss_bytes: u64,
    /// Anonymous and shared pages of it (`RssAnon` + `RssShmem`); the others are pages of files.
    #[serde(default)]
    pub anonymous_bytes: u64,
    /// High-water mark of the resident set (`VmHWM`) since start or [`reset_hwm`].
    pub peak_rss_bytes: u64,
    /// Page tables (`VmPTE`).
    pub page_table_bytes: u64,
    pub threads: u64,
    pub fds: Option<u64>,
}

impl ProcessUse {
    pub fn read() -> Result<ProcessUse, Reason> {
        Self::at("/proc/self")
    }

    /// Reads another process.
    ///
    /// # Errors
    /// As for [`ProcessUse::read`]; also when the process is gone, a zombie or another user's.
    pub fn of(pid: u32) -> Result<ProcessUse, Reason> {
        Self::at(&format!("/proc/{pid}"))
    }

    fn at(dir: &str) -> Result<ProcessUse, Reason> {
        let path = format!("{dir}/status");
        let status = File::open(&path)
            .map_err(|e| e.to_string())
            .and_then(|f| procfs::process::Status::from_read(f).map_err(|e| e.to_string()))
            .map_err(|e| format!("cannot read {path}: {e}"))?;
        let bytes = |kib: Option<u64>, name: &str| {
            kib.map(|n| n << 10).ok_or_else(|| format!("{path} has no {name}"))
        };
        Ok(ProcessUse {
            rss_bytes: bytes(status.vmrss, "VmRSS")?,
            anonymous_bytes: bytes(status.rssanon, "RssAnon")?
                + bytes(status.rssshmem, "RssShmem")?,
            peak_rss_bytes: bytes(status.vmhwm, "VmHWM")?,
            page_table_bytes: bytes(status.vmpte, "VmPTE")?,
            threads: status.threads,
            fds: count_fds(&format!("{dir}/fd")),
        })
    }

    /// Bytes that came since `baseline`: anonymous pages, pages of files, and page tables with kernel
    /// stacks.
    pub(crate) fn added_since(&self, baseline: &ProcessUse) -> [u64; 3] {
        let parts: [fn(&ProcessUse) -> u64; 3] = [
            |u| u.anonymous_bytes,
            |u| u.rss_bytes.saturating_sub(u.anonymous_bytes),
            |u| u.page_table_bytes + u.kernel_stack_bytes(),
        ];
        parts.map(|of| of(self).saturating_sub(of(baseline)))
    }

    /// Kernel stacks: threads × [`KERNEL_STACK_BYTES`].
    pub fn kernel_stack_bytes(&self) -> u64 {
        self.threads * KERNEL_STACK_BYTES
    }
}

/// Counts descriptors by the directory's size (Linux 6.2 and later) or else by its entries.
fn count_fds(dir: &str) -> Option<u64> {
    let own = dir.starts_with("/proc/self/");
    match fs::metadata(dir).ok()?.len() {
        // Listing our own descriptors opens one.
        0 => Some((fs::read_dir(dir).ok()?.count() as u64).saturating_sub(u64::from(own))),
        n => Some(n),
    }
}

/// Resets `VmHWM` of this process to its present resident set.
///
/// # Errors
/// Says why the kernel refused; the peak then counts from the start of the process.
pub fn reset_hwm() -> Result<(), Reason> {
    reset_hwm_at("/proc/self")
}

pub(super) fn reset_hwm_at(dir: &str) -> Result<(), Reason> {
    fs::write(format!("{dir}/clear_refs"), "5")
        .map_err(|e| format!("cannot reset VmHWM through {dir}/clear_refs: {e}").into())
}

#[cfg(test)]
mod tests;
