//! What the kernel counted of the lanes: migrations, system calls, and instructions and cycles where
//! the machine has a PMU. Page faults need no counter: `getrusage` has them, exited threads included.
//!
//! Perf events in counting mode, opened by the engine's thread before it makes a lane: everything
//! that the engine starts inherits them, and the monitor and the reader of frames do not. Counts of
//! threads that have ended are kept.
//!
//! They are opened in trials of their own (`[sweep] syscalls = true`), since an inherited event is
//! switched with its thread: measured on a 2-CPU virtual machine with Linux 6.18, one such event,
//! software or tracepoint, raised the CPU per request of 64 threads by a tenth to a third and that of
//! 64 tasks by a few percent. Left open in every trial it would decide the comparison that duel is for.

use std::fs;
use std::io;
use std::sync::{Mutex, OnceLock, PoisonError};

use perf_event::events::{Event, Hardware, Software, Tracepoint};
use perf_event::{Builder, Counter};
use rustix::fs::{Mode, OFlags, openat};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};
use serde::{Deserialize, Serialize};

use crate::format::Reason;

/// Where the number of the tracepoint stands, below the root of a tracefs.
const SYSCALLS_ID: &str = "events/raw_syscalls/sys_enter/id";

/// Where a tracefs is found when somebody has mounted it.
const TRACEFS: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];

/// One figure for each thing that is counted, in the record's order.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Counted<T> {
    pub migrations: T,
    pub syscalls: T,
    pub instructions: T,
    pub cycles: T,
}

/// A count since the counters were opened, or why there is none.
pub(crate) type Reading = Counted<Result<u64, Reason>>;

pub(crate) struct EventCounters(Counted<Result<Counter, Reason>>);

impl EventCounters {
    /// Opens every counter on the calling thread; what it starts from now on inherits them.
    pub(crate) fn open() -> EventCounters {
        EventCounters(Counted {
            migrations: software(Software::CPU_MIGRATIONS),
            syscalls: syscalls_id()
                .and_then(|id| inherited(Tracepoint::with_id(id)).map_err(|e| refused(&e))),
            instructions: hardware(Hardware::INSTRUCTIONS),
            cycles: hardware(Hardware::CPU_CYCLES),
        })
    }

    /// Reads every counter: one system call each, which walks over the threads that inherited it.
    pub(crate) fn read(&mut self) -> Reading {
        let Counted { migrations, syscalls, instructions, cycles } = &mut self.0;
        let [migrations, syscalls, instructions, cycles] =
            [migrations, syscalls, instructions, cycles].map(read);
        Counted { migrations, syscalls, instructions, cycles }
    }
}

/// Counters that one thread opens, before it starts those that they count, and another reads.
#[derive(Default)]
pub(crate) struct EventsOf(OnceLock<Mutex<EventCounters>>);

impl EventsOf {
    pub(crate) fn open(&self) {
        let _ = self.0.set(Mutex::new(EventCounters::open()));
    }

    pub(crate) fn read(&self) -> Reading {
        match self.0.get() {
            // A thread that panicked while it read has left the counters as they were.
            Some(open) => open.lock().unwrap_or_else(PoisonError::into_inner).read(),
            None => Reading::none(
                "counting costs a thread a part of its CPU: see the trials labelled `syscalls` \
                 ([sweep] syscalls = true)",
            ),
        }
    }
}

impl Counted<Result<u64, Reason>> {
    /// What was counted since an earlier reading.
    pub fn since(&self, earlier: &Reading) -> Reading {
        let less = |now: &Result<u64, Reason>, then: &Result<u64, Reason>| match (now, then) {
            (Ok(now), Ok(then)) => Ok(now.saturating_sub(*then)),
            (Err(why), _) | (_, Err(why)) => Err(why.clone()),
        };
        Counted {
            migrations: less(&self.migrations, &earlier.migrations),
            syscalls: less(&self.syscalls, &earlier.syscalls),
            instructions: less(&self.instructions, &earlier.instructions),
            cycles: less(&self.cycles, &earlier.cycles),
        }
    }

    /// Nothing was counted, for one reason.
    pub fn none(why: &str) -> Reading {
        let none = || Err(why.into());
        Counted { migrations: none(), syscalls: none(), instructions: none(), cycles: none() }
    }
}

/// A counter of the calling thread and all that it starts; it counts from here on.
///
/// The kernel's part is always asked for: system calls, faults and migrations happen there, and a
/// count without it would be a wrong zero.
fn inherited<E: Event>(event: E) -> io::Result<Counter> {
    Builder::new(event).include_kernel().inherit(true).enabled(true).build()
}

fn software(event: Software) -> Result<Counter, Reason> {
    inherited(event).map_err(|e| refused(&e))
}

fn hardware(event: Hardware) -> Result<Counter, Reason> {
    inherited(event).map_err(|e| match e.raw_os_error().map(rustix::io::Errno::from_raw_os_error) {
        Some(
            rustix::io::Errno::NOENT | rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NODEV,
        ) => format!("no PMU: this machine, or its hypervisor, offers no hardware counters ({e})")
            .into(),
        _ => refused(&e),
    })
}

/// Why the kernel gave no counter, with the way out.
fn refused(error: &io::Error) -> Reason {
    match error.raw_os_error().map(rustix::io::Errno::from_raw_os_error) {
        Some(rustix::io::Errno::ACCESS | rustix::io::Errno::PERM) => {
            let paranoid = fs::read_to_string("/proc/sys/kernel/perf_event_paranoid");
            let level = paranoid.map_or_else(|_| "not readable".into(), |s| s.trim().to_string());
            format!(
                "perf_event_open: {error}; kernel.perf_event_paranoid is {level}: run as root, or \
                 with CAP_PERFMON, or set it to 1 (0 for system calls)"
            )
            .into()
        }
        Some(rustix::io::Errno::NOSYS) => "this kernel has no perf events".into(),
        _ => format!("perf_event_open: {error}").into(),
    }
}

fn read(counter: &mut Result<Counter, Reason>) -> Result<u64, Reason> {
    let counter = counter.as_mut().map_err(|why| why.clone())?;
    let read = counter.read_count_and_time().map_err(|e| format!("a perf event: {e}"))?;
    // A PMU that is shared lets a counter count part of the time; scaled up it would be a guess.
    if read.time_running < read.time_enabled {
        return Err("the PMU had to be shared with others, so that a part was not counted".into());
    }
    Ok(read.count)
}

/// The number of the tracepoint `raw_syscalls:sys_enter`: from a tracefs that is mounted, or from
/// one that only this process sees and that is gone with it.
fn syscalls_id() -> Result<u64, Reason> {
    let text = match TRACEFS
        .iter()
        .find_map(|dir| fs::read_to_string(format!("{dir}/{SYSCALLS_ID}")).ok())
    {
        Some(text) => text,
        None => from_own_tracefs()?,
    };
    let number = text.trim().parse();
    number.map_err(|_| format!("the tracepoint's number is not one: {text:?}").into())
}

fn from_own_tracefs() -> Result<String, Reason> {
    let mount = || {
        let fs = fsopen("tracefs", FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_create(&fs)?;
        // Attached nowhere: no other process sees it, and nothing has to be unmounted.
        let root = fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
        openat(&root, SYSCALLS_ID, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
    };
    let file = mount().map_err(|e| {
        format!(
            "the tracepoint raw_syscalls:sys_enter: no tracefs is readable, and none can be \
             mounted here ({e}): run as root"
        )
    })?;
    io::read_to_string(fs::File::from(file)).map_err(|e| format!("{SYSCALLS_ID}: {e}").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same thing as in a worker: a thread opens, its children and they alone are counted.
    #[test]
    fn threads_that_come_later_are_counted_and_the_reader_is_not() {
        let (sender, receiver) = std::sync::mpsc::channel();
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let engine = std::thread::spawn(move || {
            let counters = EventCounters::open();
            let lane = std::thread::spawn(move || {
                wait.recv().unwrap();
                for _ in 0..5_000 {
                    let _ = rustix::process::getppid();
                }
            });
            sender.send(counters).unwrap();
            lane.join().unwrap();
        });
        let mut counters = receiver.recv().unwrap();
        let first = counters.read();
        for _ in 0..10_000 {
            let _ = rustix::process::getppid();
        }
        go.send(()).unwrap();
        engine.join().unwrap();
        // The threads have ended: what they counted is still there.
        let counted = counters.read().since(&first);
        match counted.syscalls {
            Ok(calls) => assert!((5_000..6_000).contains(&calls), "{calls} system calls"),
            Err(why) => {
                let root = rustix::process::geteuid().is_root();
                assert!(!root, "root could not count: {why}");
                println!("skipped: {why}");
            }
        }
        if let Err(why) = counted.instructions {
            assert!(why.contains("PMU") || why.contains("perf"), "{why}");
        }
    }

    #[test]
    fn a_difference_needs_both_readings() {
        let none = Reading::none("why");
        let some = Counted { syscalls: Ok(7), ..Reading::none("other") };
        assert_eq!(some.since(&none).syscalls, Err("why".into()));
        assert_eq!(some.since(&some).syscalls, Ok(0));
    }
}
