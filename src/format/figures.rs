//! Figures of a trial that add up over its workers and shards. Each field is declared once, with
//! the rule of [`super::rule`] by which it adds up; one without a rule does not compile.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Distribution, MemorySplit};

/// A struct of figures, and its addition.
macro_rules! figures {
    ($(
        $(#[$meta:meta])*
        $visible:vis struct $name:ident {
            $($(#[$about:meta])* $field:ident: $type:ty = $rule:ident,)*
        }
    )*) => {$(
        $(#[$meta])*
        #[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
        $visible struct $name {
            $($(#[$about])* pub $field: $type,)*
        }

        impl std::ops::AddAssign<&$name> for $name {
            fn add_assign(&mut self, part: &$name) {
                $(super::rule::$rule(&mut self.$field, &part.$field, false);)*
            }
        }
    )*};
}

/// Every kind of error once: the stage at which a request fails, and its column.
macro_rules! errors {
    ($($(#[$about:meta])* $kind:ident = $column:ident,)*) => {
        figures! {
            /// Failed requests by the stage that failed.
            #[derive(Copy, Eq)]
            pub struct Errors {
                $($(#[$about])* $column: u64 = sum,)*
            }
        }

        /// The stage at which a request failed; each is a column of [`Errors`].
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        #[repr(usize)]
        pub enum ErrorKind {
            $($kind,)*
        }

        impl ErrorKind {
            pub const ALL: &[ErrorKind] = &[$(ErrorKind::$kind,)*];

            pub fn name(self) -> &'static str {
                match self { $(ErrorKind::$kind => stringify!($column),)* }
            }
        }

        impl Errors {
            pub fn of(count: impl Fn(ErrorKind) -> u64) -> Errors {
                Errors { $($column: count(ErrorKind::$kind),)* }
            }

            pub fn count(&self, kind: ErrorKind) -> u64 {
                match kind { $(ErrorKind::$kind => self.$column,)* }
            }
        }
    };
}

errors! {
    /// No connection could be made.
    Connect = connect,
    /// The request could not be written whole.
    Write = write,
    /// The connection ended or broke before or amid the response head.
    Read = read,
    /// A connection that had served before ended before the first byte of an answer: the target
    /// closed it while it was idle, or dropped the request; a client cannot tell which.
    #[serde(default, skip_serializing_if = "is_zero")]
    Stale = stale,
    /// The response was not HTTP/1.x, or its framing was broken.
    Protocol = protocol,
    /// The status was not an expected one.
    Status = status,
    /// The body ended early or was longer than announced.
    Body = body,
    /// A file step failed: a file that is missing or too short, a disk that is full.
    #[serde(default, skip_serializing_if = "is_zero")]
    File = file,
}

impl Errors {
    /// Sum over the stages; equals `failed` of the ledger.
    pub fn total(&self) -> u64 {
        ErrorKind::ALL.iter().fold(0, |sum, kind| self.count(*kind).saturating_add(sum))
    }
}

/// Counts that only some plans have are left out of rows of the others.
fn is_zero(count: &u64) -> bool {
    *count == 0
}

figures! {
    /// Where every planned request ended: planned = completed + failed + timed_out + unsent, exactly.
    #[derive(Copy, Eq)]
    pub struct Ledger {
        /// Asked for by the plan.
        planned: u64 = sum,
        /// Answered whole, with an expected status.
        completed: u64 = sum,
        /// Ended in an error; see [`Errors`].
        failed: u64 = sum,
        /// Given up after `timeout`.
        timed_out: u64 = sum,
        /// Never started.
        unsent: u64 = sum,
    }

    /// Bytes of HTTP on the wire.
    #[derive(Copy, Eq)]
    pub struct Bytes {
        sent: u64 = sum,
        received: u64 = sum,
    }

    /// A range over lanes.
    #[derive(Copy, Eq)]
    pub struct MinMax {
        min: u64 = least,
        max: u64 = most,
    }

    /// Processor time between the window's edges.
    pub struct Cpu {
        /// Exact total of all threads.
        total_ns: u64 = sum,
        /// User part, sampled by the kernel's tick: indicative.
        user_ns: u64 = sum,
        /// System part, sampled by the kernel's tick: indicative.
        system_ns: u64 = sum,
        /// Net of the instrument: `total_ns` less `pacer_ns` and `monitor_ns`, ÷ requests that ended
        /// between the same edges. Rows of format 1 and of the server have no monitor to take off.
        per_request_ns: f64 = derived,
        /// Part of the total that pacing used: the pacer's thread by its clock, and lanes that spun
        /// until an intended start; a lane that paces itself by its thread's clock around its waits;
        /// tokio's own timer (`native`) by a calibration at set-up that paces and releases nothing.
        /// `None` in a closed loop.
        pacer_ns: Option<u64> = known,
        /// Part of the total that the worker's monitor used, by its thread's clock.
        monitor_ns: Option<u64> = known,
        /// Time that runnable threads waited for a CPU.
        run_queue_wait_ns: Option<u64> = known,
        /// Busy time of the whole machine between the edges, in kernel ticks.
        machine_busy_ns: Option<u64> = derived,
        /// Periods between the edges in which a CPU quota stopped the side's cgroup, or one above it;
        /// `None` where that cannot be seen.
        throttled_periods: Option<u64> = most,
        /// For how long, summed over CPUs.
        throttled_ns: Option<u64> = most,
    }

    /// Context switches of all threads but the worker's monitor, which runs no lane.
    #[derive(Copy, Eq)]
    pub struct Switches {
        /// A thread gave the CPU up.
        voluntary: u64 = sum,
        /// The kernel took the CPU away.
        involuntary: u64 = sum,
        /// Moves between CPUs. Zero where a worker has one CPU; else counted in trials labelled
        /// `syscalls` alone.
        migrations: Option<u64> = known,
    }

    /// What the kernel counted of all threads but the worker's monitor and its reader of frames.
    #[derive(Copy)]
    pub struct Events {
        /// Page faults that no disk had to be read for.
        minor_faults: Option<u64> = known,
        /// Page faults that a disk had to be read for.
        major_faults: Option<u64> = known,
        /// System calls; only in trials labelled `syscalls`, as counting them costs CPU.
        syscalls: Option<u64> = known,
        /// `syscalls` ÷ requests ended between the same edges.
        syscalls_per_request: Option<f64> = derived,
        /// Instructions of user and kernel; only in trials labelled `syscalls`, on machines with a PMU.
        instructions: Option<u64> = known,
        /// Cycles of user and kernel; as above.
        cycles: Option<u64> = known,
    }

    /// What tokio counts of its runtime without being asked to.
    #[derive(Copy, Eq)]
    pub struct RuntimeUse {
        /// Worker threads of the runtimes.
        workers: u64 = sum,
        /// How often a worker thread ran out of work and went to sleep.
        parks: u64 = sum,
        /// Time that worker threads did not sleep, told when they go to sleep.
        busy_ns: u64 = sum,
        /// Tasks alive at an edge of the window, the more of the two.
        alive_tasks: u64 = sum,
        /// Most threads of tokio's blocking pool at once, named `tokio-blocking`; counted where steps go
        /// there.
        #[serde(default, skip_serializing_if = "is_zero")]
        blocking_threads: u64 = sum,
        /// Threads of the rayon pool that steps go to, named `offload-N`.
        #[serde(default, skip_serializing_if = "is_zero")]
        pool_threads: u64 = sum,
    }

    /// What the threads of `uring` did between the window's edges.
    #[derive(Copy, Eq)]
    pub struct RingUse {
        /// Rings, one per thread.
        rings: u64 = sum,
        /// Calls that submitted, waited and took what was completed.
        turns: u64 = sum,
        /// Completions that they brought.
        completions: u64 = sum,
        /// Time that responses were held back by waiting for more of them, at most: as if each had come
        /// when the wait began.
        held_ns: u64 = sum,
    }

    /// Memory of the workers, in bytes; sums over the workers of a trial.
    #[derive(Eq)]
    pub struct Memory {
        /// Resident set at `Ready`: before any lane, runtime, pool or socket.
        baseline_rss_bytes: u64 = sum,
        /// High-water mark of the resident set (`VmHWM`, reset at `Ready`).
        peak_rss_bytes: u64 = sum,
        /// Resident set half-way through the window, baseline included.
        plateau_user_bytes: Option<u64> = known,
        /// Anonymous and shared pages at the plateau less those at `Ready`: what lanes, runtime and
        /// pool added in user space. Pages of files, such as program text, are not in it.
        added_bytes: Option<u64> = known,
        /// Pages of files at the plateau less those at `Ready`: program text that the kernel mapped
        /// meanwhile, shared by every process that runs it, and free for the kernel to drop.
        file_bytes: Option<u64> = known,
        /// Bytes that the program holds of its allocator, by the allocator's own count, baseline
        /// included; only in a trial of the kind `memory`.
        heap_bytes: Option<u64> = known,
        /// Resident thread stacks; only in a trial of the kind `memory`.
        stack_bytes: Option<u64> = known,
        /// Page tables at the plateau (`VmPTE`), baseline included.
        page_table_bytes: Option<u64> = known,
        /// Kernel stacks at the plateau: threads × the kernel's stack size.
        kernel_stack_bytes: Option<u64> = known,
        /// Page tables and kernel stacks at the plateau less those at `Ready`.
        added_kernel_bytes: Option<u64> = known,
        /// Kernel memory of the workers' memory cgroup at the plateau, less that at `Ready`.
        kernel_bytes: Option<u64> = known,
        /// TCP buffers of the workers' memory cgroup.
        socket_bytes: Option<u64> = known,
        /// What no part of [`MemorySplit`] accounts for, at least zero; only in a trial of the kind
        /// `memory`.
        unattributed_bytes: Option<u64> = known,
        /// Where the bytes went; only in a trial of the kind `memory`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        split: Option<MemorySplit> = judged,
    }

    /// A named class of requests in the measured phase.
    pub struct ClassUse {
        /// Where its planned requests ended.
        ledger: Ledger = sum,
        /// Response times, in a closed loop service times, of completed and timed-out requests.
        times_ns: Option<Distribution> = derived,
        /// Service times of the same requests in an open loop; in a closed one `times_ns` holds them.
        service_ns: Option<Distribution> = derived,
    }

    /// What the target says of itself.
    #[derive(Copy, Eq)]
    pub struct TargetUse {
        /// Target processes that the driver started; zero when the target is external.
        processes: u32 = sum,
        /// Requests that reached it whole, warm-up included; `None` when it is external.
        received: Option<u64> = known,
        /// Its processor time; `None` when it is external.
        cpu_ns: Option<u64> = known,
        /// Sum of the requests' waits for a free server; `None` when it is external.
        queue_ns_total: Option<u64> = known,
        /// Sum of the service times drawn; `None` when it is external.
        service_ns_total: Option<u64> = known,
        /// Sum of the times from whole requests to their answers; only of servers under test.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        residence_ns_total: Option<u64> = known,
    }

    /// What one side of a trial cost between the window's edges, client or server: sums over its
    /// processes.
    pub struct SideUse {
        processes: u32 = sum,
        /// CPUs that they share; zero in rows of before the field.
        #[serde(default)]
        cpus: u32 = sum,
        cpu: Cpu = sum,
        switches: Switches = sum,
        events: Events = sum,
        memory: Memory = sum,
        threads_peak: u64 = sum,
        fds_peak: u64 = sum,
        /// Between the two readings of its clocks; zero where nobody noted it.
        #[serde(default)]
        measured_ns: u64 = most,
        /// Requests that it saw end between those: what its costs are divided by. `None` of a server that
        /// cannot be asked; those that the client saw end then stand for it.
        requests: Option<u64> = known,
        /// What tokio says of its runtime, where the side's tasks are on one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        runtime: Option<RuntimeUse> = known,
        /// What its rings did, where it is on rings.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ring: Option<RingUse> = known,
    }

    /// The largest share of any one worker.
    #[derive(Copy, Eq)]
    pub struct LargestWorker {
        peak_rss_bytes: u64 = most,
        cpu_total_ns: u64 = most,
        threads_peak: u64 = most,
        fds_peak: u64 = most,
    }

    /// The least and most of any one shard.
    #[derive(Copy, Eq)]
    pub struct ShardSpread {
        completed: MinMax = sum,
        cpu_total_ns: MinMax = sum,
        peak_rss_bytes: MinMax = sum,
    }
}

impl Ledger {
    /// Requests that did not complete: they took for ever.
    pub(crate) fn lost(&self) -> u64 {
        self.planned.saturating_sub(self.completed)
    }

    /// The same as a share of those planned.
    pub(crate) fn lost_share(&self) -> f64 {
        self.lost() as f64 / self.planned.max(1) as f64
    }

    /// The share that was lost, where the quantile `q` falls on a lost request.
    pub(crate) fn lost_beyond(&self, q: f64) -> Option<f64> {
        // 1 − 0.99 is a little off in binary.
        Some(self.lost_share()).filter(|lost| *lost > 1.0 - q + 1e-12)
    }

    /// Whether the columns add up to what was planned.
    pub fn balances(&self) -> bool {
        [self.completed, self.failed, self.timed_out, self.unsent]
            .iter()
            .try_fold(0u64, |sum, n| sum.checked_add(*n))
            == Some(self.planned)
    }
}

impl Cpu {
    /// What belongs to the instrument: pacer and monitor, as far as they are known.
    pub fn instrument_ns(&self) -> u64 {
        self.pacer_ns.unwrap_or(0) + self.monitor_ns.unwrap_or(0)
    }

    /// The total less what belongs to the instrument.
    pub fn net_ns(&self) -> u64 {
        self.total_ns.saturating_sub(self.instrument_ns())
    }

    /// Works out the time of each of `ended` requests, zero where there were none.
    pub(crate) fn per_request(&mut self, ended: u64) {
        self.per_request_ns = if ended > 0 { self.net_ns() as f64 / ended as f64 } else { 0.0 };
    }
}

impl Events {
    /// Works out the system calls of each of `ended` requests.
    pub(crate) fn per_request(&mut self, ended: u64) {
        let calls = self.syscalls.filter(|_| ended > 0);
        self.syscalls_per_request = calls.map(|calls| calls as f64 / ended as f64);
    }
}
