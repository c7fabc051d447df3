//! Parts of a record that add up by no rule of their own.

use std::collections::BTreeMap;
use std::ops::Deref;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Why a figure is not known, in half a sentence with the way out where there is one: what a record
/// says of a `null`.
#[derive(
    Debug,
    Clone,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    JsonSchema,
    thiserror::Error,
)]
#[serde(transparent)]
#[schemars(inline)]
#[error("{0}")]
pub struct Reason(String);

/// Reasons by the path of the field of the record that is not known; see [`field`].
pub type Reasons = BTreeMap<String, Reason>;

/// The path of a field, as [`Reasons`] name it, such as `field!(TrialRecord.memory.kernel_bytes)`, or
/// `field!(TrialRecord.server?.cpu.total_ns)` where it leads through an option. A path that leads to no
/// field does not compile.
macro_rules! field {
    ($of:ident.$first:ident $(.$next:ident)*) => {{
        let _ = |of: &$crate::format::$of| { let _ = &of.$first $(.$next)*; };
        concat!(stringify!($first) $(, ".", stringify!($next))*)
    }};
    ($of:ident.$outer:ident?.$($inner:ident).+) => {{
        let _ = |of: &$crate::format::$of| {
            of.$outer.as_ref().map(|of| { let _ = &of.$($inner).+; })
        };
        concat!(stringify!($outer), $(".", stringify!($inner)),+)
    }};
}
pub(crate) use field;

impl<S: Into<String>> From<S> for Reason {
    fn from(why: S) -> Reason {
        Reason(why.into())
    }
}

impl Deref for Reason {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

/// How a trial ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Ran to its end and every hard gate held.
    Ok,
    /// Ran to its end, but a hard gate failed: shown, never ranked.
    Invalid,
    /// Did not run to its end; `error` says why. A trial in which nothing has happened yet is one.
    #[default]
    Failed,
    /// Stopped by the user.
    Interrupted,
}

impl Status {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Status::Ok => "ok",
            Status::Invalid => "invalid",
            Status::Failed => "failed",
            Status::Interrupted => "interrupted",
        }
    }
}

/// A remark on a trial, which bars nothing by itself.
// In the order of their names, in which reports list them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Flag {
    /// Resumed with `--force` after the duel binary changed.
    BinaryChanged,
    /// Resumed with `--force` after the config changed.
    ConfigChanged,
    /// The target is the user's own, and is shared by all trials.
    ExternalTarget,
    /// Every request failed, so the trial ended early.
    GaveUp,
    /// Any certificate was accepted.
    InsecureTls,
    /// Resumed with `--force` after the machine changed.
    MachineChanged,
    /// A noise gate failed.
    Noisy,
    /// The server under test answered less than it was offered.
    Overloaded,
    /// The peak of memory counts from the start of the process: an upper bound.
    PeakFromStart,
    /// A probe of `[search]`.
    Search,
    /// The load generator and the target share a CPU.
    SharedCpu,
    /// Each shard ran an embedded target of its own.
    TargetPerShard,
    /// A CPU quota stopped the load generator or the target.
    Throttled,
    /// What the server under test called ran on the client's CPUs.
    UpstreamBesideClient,
    /// One that only another version knows.
    #[serde(untagged)]
    Other(String),
}

impl Flag {
    pub(crate) fn name(&self) -> String {
        match serde_json::to_value(self) {
            Ok(serde_json::Value::String(name)) => name,
            other => unreachable!("a flag is written as its name: {other:?}"),
        }
    }
}

/// A merged histogram and what is most read from it, in nanoseconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Distribution {
    pub count: u64,
    pub mean: f64,
    pub min: u64,
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    pub p99_9: u64,
    pub max: u64,
    /// HdrHistogram V2, deflated, base64.
    pub hdr: String,
}

/// A condition on a trial.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Gate {
    /// What it checks, in snake case.
    pub name: String,
    /// Whether failing it makes the trial `invalid` rather than `noisy`.
    pub hard: bool,
    /// Whether it held; `None` when it does not apply or could not be decided.
    pub ok: Option<bool>,
    pub value: Option<f64>,
    pub limit: Option<f64>,
}

/// A process that is no part of the trial.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ForeignProcess {
    /// Its name, without arguments.
    pub name: String,
    pub pid: u32,
    /// CPU time that it used ÷ time: 0.5 is half a CPU.
    pub cpus: f64,
    /// Whether it is the server under test: it listens where the load goes.
    pub serves: bool,
    /// CPUs that the server could be moved to, out of the load generator's way.
    pub pin_to: Option<String>,
}

/// How a shard started beside the others; in a merged row, how they all did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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

/// Where the bytes went: taken once, half-way through the window, in a trial of the kind `memory`.
///
/// Every `_bytes` is what was *added since `Ready`*, when the recorder existed and no lane, runtime,
/// pool or socket did; sums over the workers. Each part is measured by itself; see
/// [`crate::side::split`] for how.
///
/// total = stack + signal_stack + heap_resident + program + kernel_stack + page_table + task +
/// socket_object + other_kernel + ring + tcp_buffer + unattributed, exactly, and
/// heap_resident = heap + heap_slack.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MemorySplit {
    /// Who counted the total.
    pub source: SplitSource,
    /// Anonymous memory + kernel memory + TCP buffers of the workers' memory cgroup, and what rings
    /// hold that no cgroup is charged for.
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
    /// What io_uring holds: the pages of its queues, and an `io_kiocb` with its parts for each armed
    /// receive.
    #[serde(default)]
    pub ring_bytes: i64,
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
    /// Sockets, likewise.
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
            + self.ring_bytes
            + self.tcp_buffer_bytes.unwrap_or(0)
    }
}

/// Who counted the total of a [`MemorySplit`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SplitSource {
    CgroupV1,
    CgroupV2,
    /// Nobody: the parts come from `/proc`, and no total exists.
    #[default]
    Proc,
}
