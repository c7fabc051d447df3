//! The TrialRecord: one line of `trials.jsonl`, one trial, whole.
//!
//! Units stand last in names. What could not be measured is `None` and named in `unavailable`,
//! never a zero. Fields may be added; none changes its meaning without a new [`FORMAT_VERSION`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::plan::Cell;
use crate::plan::shard::Shard;

/// Version of the record; a reader refuses newer ones.
pub const FORMAT_VERSION: u32 = 1;

/// One trial, as it is written and read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrialRecord {
    /// [`FORMAT_VERSION`] of the writer.
    pub format_version: u32,
    /// SHA-256 over target, plan and sweep, in hexadecimal.
    pub plan_hash: String,
    /// SHA-256 of the binary that ran the trial, in hexadecimal.
    pub binary_digest: String,
    /// Repetition: a block holds every cell once.
    pub block: u32,
    /// Position in the run order, from 0.
    pub trial: u32,
    /// The point of the grid.
    pub cell: Cell,
    /// How the trial ended.
    pub status: Status,
    /// Why it failed, in one sentence with the way out; on other rows the first error of a request,
    /// or what else a reader should know.
    pub error: Option<String>,
    /// Remarks that bar nothing by themselves: `noisy`, `shared_cpu`, `external_target`,
    /// `insecure_tls` (any certificate was accepted), `peak_from_start` (the peak of memory is an
    /// upper bound).
    pub flags: Vec<String>,
    /// Where every planned request of the window ended.
    pub ledger: Ledger,
    /// The same for the warm-up.
    pub warmup: Ledger,
    /// Why requests of the window failed.
    pub errors: Errors,
    /// Bytes of HTTP on the wire inside the measured phase, heads included, as they are before
    /// and after TLS.
    pub bytes: Bytes,
    /// Connections made after set-up.
    pub reconnects: u64,
    /// Fewest and most requests that one lane served.
    pub requests_per_lane: MinMax,
    /// From `Go` to every lane connected and parked; the slowest worker.
    pub setup_ns: u64,
    /// Length of the window.
    pub measured_ns: u64,
    /// Requests that completed inside the window.
    pub completed_in_window: u64,
    /// `completed_in_window` ÷ `measured_ns`.
    pub achieved_per_s: f64,
    /// Service time: end − actual start; completed and timed out requests.
    pub service_ns: Option<Distribution>,
    /// Response time: end − intended start; open loops only.
    pub response_ns: Option<Distribution>,
    /// Start delay: actual − intended start; open loops only.
    pub start_delay_ns: Option<Distribution>,
    /// Pacer delay: released − intended; open loops only.
    pub pacer_delay_ns: Option<Distribution>,
    /// Lane wait: actual start − released; open loops only.
    pub lane_wait_ns: Option<Distribution>,
    /// Failed requests: actual start (or the connect that failed) to the failure.
    pub failed_ns: Option<Distribution>,
    /// Time to connect, at set-up and later; without the TLS handshake.
    pub connect_ns: Option<Distribution>,
    /// Time of a TLS handshake, which follows the connect; always a full one, since sessions are
    /// not resumed. `None` for plain targets.
    #[serde(default)]
    pub handshake_ns: Option<Distribution>,
    /// Actual start to the first byte of the response.
    pub first_byte_ns: Option<Distribution>,
    /// How late a lane was that ticks every millisecond beside the load; see
    /// [`crate::engine`]. `None` without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heartbeat_ns: Option<Distribution>,
    /// Each kind of step of requests with steps.
    #[serde(default, skip_serializing_if = "Steps::is_none")]
    pub steps: Steps,
    /// Processor time of the workers between the window's edges.
    pub cpu: Cpu,
    /// Context switches of the workers between the window's edges.
    pub switches: Switches,
    /// Page faults, system calls and hardware counters of the workers between the window's edges.
    #[serde(default)]
    pub events: Events,
    /// What tokio says of its runtime between the window's edges; only under the task engines.
    #[serde(default)]
    pub runtime: Option<RuntimeUse>,
    /// Memory of the workers.
    pub memory: Memory,
    /// Most threads seen, over all workers.
    pub threads_peak: u64,
    /// Most descriptors seen, over all workers.
    pub fds_peak: u64,
    /// Whether the numbers may be believed.
    pub gates: Vec<Gate>,
    /// What the target says of itself; zero processes when it is external.
    pub target: TargetUse,
    /// The same figures for each worker's own share; the largest stand beside the sums.
    #[serde(default)]
    pub largest_worker: Option<LargestWorker>,
    /// Timer of an open loop.
    #[serde(default)]
    pub pacer: Option<crate::plan::Pacer>,
    /// The allocator that the workers ran with.
    #[serde(default)]
    pub allocator: String,
    /// From the spawn of the first worker to its `Ready`, the slowest worker.
    #[serde(default)]
    pub ready_ns: u64,
    /// When the window began, nanoseconds since the Unix epoch; `None` when it never did.
    #[serde(default)]
    pub started_unix_ns: Option<u64>,
    /// Share of the lanes that were in service on average, Σ time in service ÷ (lanes × window);
    /// closed loops only. The rest is what the engine itself puts between two requests of a lane.
    #[serde(default)]
    pub occupancy: Option<f64>,
    /// Most requests of the window in flight at once, as far as the driver's samples saw: a lower
    /// bound. `None` when no sample was taken.
    #[serde(default)]
    pub in_flight_peak: Option<u64>,
    /// The part of the plan that this row is, whose own lanes and load its `cell` holds; `None` for
    /// a whole plan, merged ones included.
    #[serde(default)]
    pub shard: Option<Shard>,
    /// How the shards of a run started together; `None` in a run of its own.
    #[serde(default)]
    pub shard_start: Option<ShardStart>,
    /// Merged rows: the spread of the shards' own figures; `None` elsewhere.
    #[serde(default)]
    pub shard_spread: Option<ShardSpread>,
    /// What the first TLS handshake agreed on, such as `TLSv1_3 TLS13_AES_256_GCM_SHA384`; `None`
    /// for plain targets.
    #[serde(default)]
    pub tls: Option<String>,
    /// Fields that are `None`, and why; also one that is a bound where it should be a value.
    pub unavailable: BTreeMap<String, String>,
}

impl TrialRecord {
    /// Whether the peak of the resident set counts from the start of the process, because it could
    /// not be reset: an upper bound, which holds whatever the worker did before any lane was there.
    pub fn peak_is_bound(&self) -> bool {
        self.unavailable.contains_key("memory.peak_rss_bytes")
    }

    /// Peak user memory over the baseline, in bytes; `None` where the peak is a bound only.
    pub fn peak_over_baseline(&self) -> Option<u64> {
        let over = self.memory.peak_rss_bytes.saturating_sub(self.memory.baseline_rss_bytes);
        (!self.peak_is_bound()).then_some(over)
    }
}

/// How a trial ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Ran to its end and every hard gate held.
    Ok,
    /// Ran to its end, but a hard gate failed: shown, never ranked.
    Invalid,
    /// Did not run to its end; `error` says why.
    Failed,
    /// Stopped by the user.
    Interrupted,
}

/// Where every planned request ended: planned = completed + failed + timed_out + unsent, exactly.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// Asked for by the plan.
    pub planned: u64,
    /// Answered whole, with an expected status.
    pub completed: u64,
    /// Ended in an error; see [`Errors`].
    pub failed: u64,
    /// Given up after `timeout`.
    pub timed_out: u64,
    /// Never started.
    pub unsent: u64,
}

impl Ledger {
    /// Whether the columns add up to what was planned.
    pub fn balances(&self) -> bool {
        [self.completed, self.failed, self.timed_out, self.unsent]
            .iter()
            .try_fold(0u64, |sum, n| sum.checked_add(*n))
            == Some(self.planned)
    }

    /// Adds another worker's or phase's columns.
    pub fn add(&mut self, other: &Ledger) {
        self.planned += other.planned;
        self.completed += other.completed;
        self.failed += other.failed;
        self.timed_out += other.timed_out;
        self.unsent += other.unsent;
    }
}

/// Failed requests by the stage that failed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Errors {
    /// No connection could be made.
    pub connect: u64,
    /// The request could not be written whole.
    pub write: u64,
    /// The connection ended or broke before or amid the response head.
    pub read: u64,
    /// The response was not HTTP/1.x, or its framing was broken.
    pub protocol: u64,
    /// The status was not an expected one.
    pub status: u64,
    /// The body ended early or was longer than announced.
    pub body: u64,
    /// A file step failed: a file that is missing or too short, a disk that is full.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub file: u64,
}

/// Counts that only some plans have are left out of rows of the others.
fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl Errors {
    /// Sum over the stages; equals `failed` of the ledger.
    pub fn total(&self) -> u64 {
        let http = self.connect + self.write + self.read + self.protocol + self.status + self.body;
        http + self.file
    }

    /// Adds another worker's columns.
    pub fn add(&mut self, other: &Errors) {
        self.connect += other.connect;
        self.write += other.write;
        self.read += other.read;
        self.protocol += other.protocol;
        self.status += other.status;
        self.body += other.body;
        self.file += other.file;
    }
}

/// Times of the steps of requests with steps, by kind; `None` for a kind that none has.
///
/// A step's time is what its lane waited for it: under `offload` it begins when the step is handed
/// over and ends when the task goes on. Every step counts that was carried out for a request of the
/// window, and every exchange that was answered as expected or given up after `timeout`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Steps {
    /// The exchange.
    pub http_ns: Option<Distribution>,
    /// Files opened, read or written, and closed.
    pub file_ns: Option<Distribution>,
    /// Bytes hashed.
    pub compute_ns: Option<Distribution>,
}

impl Steps {
    /// Whether no step was carried out.
    pub fn is_none(&self) -> bool {
        self.http_ns.is_none() && self.file_ns.is_none() && self.compute_ns.is_none()
    }
}

/// Bytes of HTTP on the wire.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bytes {
    /// Written.
    pub sent: u64,
    /// Read.
    pub received: u64,
}

/// A range over lanes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MinMax {
    /// Fewest.
    pub min: u64,
    /// Most.
    pub max: u64,
}

/// A merged histogram and what is most read from it, in nanoseconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Distribution {
    /// Samples.
    pub count: u64,
    /// Arithmetic mean of the histogram.
    pub mean: f64,
    /// Smallest.
    pub min: u64,
    /// Median.
    pub p50: u64,
    /// 90th percentile.
    pub p90: u64,
    /// 99th percentile.
    pub p99: u64,
    /// 99.9th percentile.
    pub p99_9: u64,
    /// Largest.
    pub max: u64,
    /// HdrHistogram V2, deflated, base64.
    pub hdr: String,
}

/// Processor time between the window's edges.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Cpu {
    /// Exact total of all threads.
    pub total_ns: u64,
    /// User part, sampled by the kernel's tick: indicative.
    pub user_ns: u64,
    /// System part, sampled by the kernel's tick: indicative.
    pub system_ns: u64,
    /// `total_ns` ÷ requests ended between the same edges.
    pub per_request_ns: f64,
    /// Part of the total that pacing used: the pacer's thread by its clock, and lanes that spun
    /// until an intended start; a lane that paces itself by its thread's clock around its waits;
    /// tokio's own timer (`native`) by a calibration at set-up that paces and releases nothing.
    /// `None` in a closed loop.
    pub pacer_ns: Option<u64>,
    /// Time that runnable threads waited for a CPU.
    pub run_queue_wait_ns: Option<u64>,
    /// Busy time of the whole machine between the edges, in kernel ticks.
    pub machine_busy_ns: Option<u64>,
}

/// Context switches of all threads but the worker's monitor, which runs no lane.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Switches {
    /// A thread gave the CPU up.
    pub voluntary: u64,
    /// The kernel took the CPU away.
    pub involuntary: u64,
    /// Moves between CPUs. Zero where a worker has one CPU; else counted in trials labelled
    /// `syscalls` alone.
    pub migrations: Option<u64>,
}

/// What the kernel counted of all threads but the worker's monitor and its reader of frames.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Events {
    /// Page faults that no disk had to be read for.
    pub minor_faults: Option<u64>,
    /// Page faults that a disk had to be read for.
    pub major_faults: Option<u64>,
    /// System calls; only in trials labelled `syscalls`, as counting them costs CPU.
    pub syscalls: Option<u64>,
    /// `syscalls` ÷ requests ended between the same edges.
    pub syscalls_per_request: Option<f64>,
    /// Instructions of user and kernel; only in trials labelled `syscalls`, on machines with a PMU.
    pub instructions: Option<u64>,
    /// Cycles of user and kernel; as above.
    pub cycles: Option<u64>,
}

/// What tokio counts of its runtime without being asked to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuntimeUse {
    /// Worker threads of the runtimes.
    pub workers: u64,
    /// How often a worker thread ran out of work and went to sleep.
    pub parks: u64,
    /// Time that worker threads did not sleep, told when they go to sleep.
    pub busy_ns: u64,
    /// Tasks alive at an edge of the window, the more of the two.
    pub alive_tasks: u64,
    /// Most threads of tokio's blocking pool at once, named `tokio-blocking`; counted where steps go
    /// there.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub blocking_threads: u64,
    /// Threads of the rayon pool that steps go to, named `offload-N`.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub pool_threads: u64,
}

impl RuntimeUse {
    /// Adds another worker's or shard's.
    pub fn add(&mut self, other: &RuntimeUse) {
        self.workers += other.workers;
        self.parks += other.parks;
        self.busy_ns += other.busy_ns;
        self.alive_tasks += other.alive_tasks;
        self.blocking_threads += other.blocking_threads;
        self.pool_threads += other.pool_threads;
    }
}

/// Memory of the workers, in bytes; sums over the workers of a trial.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// Resident set at `Ready`: before any lane, runtime, pool or socket.
    pub baseline_rss_bytes: u64,
    /// High-water mark of the resident set (`VmHWM`, reset at `Ready`).
    pub peak_rss_bytes: u64,
    /// Resident set half-way through the window, baseline included.
    pub plateau_user_bytes: Option<u64>,
    /// Bytes that the program holds of its allocator, by the allocator's own count, baseline
    /// included; only in a trial of the kind `memory`.
    pub heap_bytes: Option<u64>,
    /// Resident thread stacks; only in a trial of the kind `memory`.
    pub stack_bytes: Option<u64>,
    /// Page tables at the plateau (`VmPTE`), baseline included.
    pub page_table_bytes: Option<u64>,
    /// Kernel stacks at the plateau: threads × the kernel's stack size.
    pub kernel_stack_bytes: Option<u64>,
    /// Kernel memory of the workers' memory cgroup at the plateau, less that at `Ready`.
    pub kernel_bytes: Option<u64>,
    /// TCP buffers of the workers' memory cgroup.
    pub socket_bytes: Option<u64>,
    /// What no part of [`MemorySplit`] accounts for, at least zero; only in a trial of the kind
    /// `memory`.
    pub unattributed_bytes: Option<u64>,
    /// Where the bytes went; only in a trial of the kind `memory`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split: Option<MemorySplit>,
}

/// Where the bytes went: taken once, half-way through the window, in a trial of the kind `memory`.
///
/// Every `_bytes` is what was *added since `Ready`*, when the recorder existed and no lane, runtime,
/// pool or socket did; sums over the workers. Each part is measured by itself; see
/// [`crate::side::split`] for how.
///
/// total = stack + signal_stack + heap_resident + program + kernel_stack + page_table + task +
/// socket_object + other_kernel + tcp_buffer + unattributed, exactly, and
/// heap_resident = heap + heap_slack.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemorySplit {
    /// Who counted the total.
    pub source: SplitSource,
    /// Anonymous memory + kernel memory + TCP buffers of the workers' memory cgroup.
    pub total_bytes: Option<i64>,
    /// Resident stacks of threads, their thread-local storage included (smaps).
    pub stack_bytes: i64,
    /// Resident signal stacks: Rust maps one for every thread (smaps).
    pub signal_stack_bytes: i64,
    /// Held by the program, by the allocator's own count.
    pub heap_bytes: Option<i64>,
    /// Resident heap mappings (smaps) less `heap_bytes`: free lists, fragmentation, headers of
    /// arenas. Negative where the program never touched what it holds.
    pub heap_slack_bytes: Option<i64>,
    /// Resident heap mappings (smaps): every private anonymous mapping that is no stack.
    pub heap_resident_bytes: i64,
    /// Other anonymous pages: data of the program and its libraries, the main thread's stack (smaps).
    pub program_bytes: i64,
    /// Threads × the kernel's stack size, or the cgroup's own count (v2).
    pub kernel_stack_bytes: i64,
    /// Page tables (`VmPTE`), or the cgroup's own count (v2).
    pub page_table_bytes: i64,
    /// Threads × size of the kernel's task structure and process id.
    pub task_bytes: i64,
    /// Sockets × size of the kernel's objects for one: socket, inode, file, directory entry, port.
    pub socket_object_bytes: i64,
    /// Other kernel objects that can be counted: mappings with what indexes them, tables of
    /// descriptors, entries of an epoll set.
    pub other_kernel_bytes: i64,
    /// TCP buffers.
    pub tcp_buffer_bytes: Option<i64>,
    /// The total less every part: what nobody accounts for. Negative where parts claim too much.
    pub unattributed_bytes: Option<i64>,
    /// Page cache charged to the workers: no part of the total, since the kernel takes it back.
    pub page_cache_bytes: Option<i64>,
    /// Whether sizes of kernel objects are the running kernel's, which root alone may read;
    /// otherwise those of Linux 6.18 on x86-64.
    pub object_sizes_from_kernel: bool,
    /// Threads, at the split less at `Ready`.
    pub threads: i64,
    /// Descriptors that are sockets, likewise.
    pub sockets: i64,
    /// Mappings, likewise.
    pub mappings: i64,
}

impl MemorySplit {
    /// Sum of the parts that were measured.
    pub fn parts_bytes(&self) -> i64 {
        self.stack_bytes
            + self.signal_stack_bytes
            + self.heap_resident_bytes
            + self.program_bytes
            + self.kernel_stack_bytes
            + self.page_table_bytes
            + self.task_bytes
            + self.socket_object_bytes
            + self.other_kernel_bytes
            + self.tcp_buffer_bytes.unwrap_or(0)
    }
}

/// Who counted the total of a [`MemorySplit`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SplitSource {
    /// A memory cgroup of version 1.
    CgroupV1,
    /// A memory cgroup of version 2.
    CgroupV2,
    /// Nobody: the parts come from `/proc`, and no total exists.
    #[default]
    Proc,
}

/// A condition on a trial.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Gate {
    /// What it checks, in snake case.
    pub name: String,
    /// Whether failing it makes the trial `invalid` rather than `noisy`.
    pub hard: bool,
    /// Whether it held; `None` when it does not apply or could not be decided.
    pub ok: Option<bool>,
    /// What was seen.
    pub value: Option<f64>,
    /// What is allowed.
    pub limit: Option<f64>,
}

/// What the target says of itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetUse {
    /// Target processes that the driver started; zero when the target is external.
    pub processes: u32,
    /// Requests that reached it whole, warm-up included; `None` when it is external.
    pub received: Option<u64>,
    /// Its processor time; `None` when it is external.
    pub cpu_ns: Option<u64>,
    /// Sum of the requests' waits for a free server; `None` when it is external.
    #[serde(default)]
    pub queue_ns_total: Option<u64>,
    /// Sum of the service times drawn; `None` when it is external.
    #[serde(default)]
    pub service_ns_total: Option<u64>,
}

/// The largest share of any one worker.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LargestWorker {
    /// Peak resident set.
    pub peak_rss_bytes: u64,
    /// Processor time.
    pub cpu_total_ns: u64,
    /// Threads.
    pub threads_peak: u64,
    /// Descriptors.
    pub fds_peak: u64,
}

/// How a shard started beside the others; in a merged row, how they all did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardStart {
    /// The instant that was agreed upon, nanoseconds since the Unix epoch; `None` when none was,
    /// and the shard started as soon as it was ready.
    pub agreed_unix_ns: Option<u64>,
    /// From that instant (else from the shard's own) until the lanes of its last worker were let
    /// go; the latest shard in a merged row. `None` when nothing started.
    pub late_ns: Option<u64>,
    /// This machine's wall clock less the reference's; the largest in a merged row.
    pub clock_offset_ns: Option<i64>,
    /// Half width of the interval in which that offset lies.
    pub clock_error_ns: Option<u64>,
    /// What the offset refers to: `shard 0`, by messages through the common directory, or
    /// `file system`, by the stamp of a file just written.
    pub clock_reference: Option<String>,
    /// Merged rows: from the first shard's actual start to the last one's.
    pub skew_ns: Option<u64>,
    /// Merged rows: shards with a row of their own.
    pub shards: Option<u32>,
}

/// The least and most of any one shard.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardSpread {
    /// Requests completed.
    pub completed: MinMax,
    /// Processor time of its workers.
    pub cpu_total_ns: MinMax,
    /// Peak resident set of its workers.
    pub peak_rss_bytes: MinMax,
}
