//! The TrialRecord: one line of `trials.jsonl`, one trial, whole.
//!
//! Units stand last in names. What could not be measured is `None` and named in `unavailable`,
//! never a zero. Fields may be added; none changes its meaning without a new [`FORMAT_VERSION`].

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::field;
use super::figures::*;
use super::parts::*;
use crate::plan::shard::Shard;
use crate::plan::{Cell, Pacer};

/// Version of the record; a reader refuses newer ones.
pub const FORMAT_VERSION: u32 = 2;

/// The record: what is given, figures with the rule of [`super::rule`] by which they add up, and
/// histograms. A histogram is a field, a channel of the recorder, when it is kept, and a tag in the
/// names of files; it is declared here, recorded where it happens, and all between follows.
macro_rules! record {
    (
        $(#[$meta:meta])*
        pub struct TrialRecord {
            given { $($(#[$g_about:meta])* $given:ident: $g_type:ty,)* }
            figures { $($(#[$f_about:meta])* $figure:ident: $f_type:ty = $rule:ident,)* }
            histograms {
                $($(#[$h_about:meta])* $field:ident = $channel:ident, $kept:ident, $tag:literal;)*
            }
            $(#[$s_about:meta])*
            steps {
                $($(#[$t_about:meta])* $step:ident = $s_channel:ident, $s_kept:ident, $s_tag:literal;)*
            }
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
        pub struct TrialRecord {
            /// [`FORMAT_VERSION`] of the writer.
            pub format_version: u32,
            $($(#[$g_about])* pub $given: $g_type,)*
            $($(#[$f_about])* pub $figure: $f_type,)*
            $($(#[$h_about])* pub $field: Option<Distribution>,)*
            /// Each kind of step of requests with steps.
            #[serde(default, skip_serializing_if = "Steps::is_none")]
            pub steps: Steps,
        }

        $(#[$s_about])*
        #[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
        pub struct Steps {
            $($(#[$t_about])* pub $step: Option<Distribution>,)*
        }

        /// The histograms of a worker; each is a field of the record.
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize
        )]
        #[serde(into = "&'static str", try_from = "String")]
        #[repr(usize)]
        pub enum Channel {
            $($channel,)*
            $($s_channel,)*
        }

        impl Channel {
            /// All of them, in the order of their numbers.
            pub const ALL: &[Channel] = &[$(Channel::$channel,)* $(Channel::$s_channel,)*];

            /// The field of the record.
            pub fn field(self) -> &'static str {
                match self {
                    $(Channel::$channel => stringify!($field),)*
                    $(Channel::$s_channel => concat!("steps.", stringify!($step)),)*
                }
            }

            /// Its name in the files of histograms.
            pub fn tag(self) -> &'static str {
                match self {
                    $(Channel::$channel => $tag,)*
                    $(Channel::$s_channel => $s_tag,)*
                }
            }

            pub fn kept(self) -> Kept {
                match self {
                    $(Channel::$channel => Kept::$kept,)*
                    $(Channel::$s_channel => Kept::$s_kept,)*
                }
            }
        }

        impl TrialRecord {
            /// The record of a trial in which nothing has happened yet.
            pub fn blank($($given: $g_type,)*) -> TrialRecord {
                TrialRecord {
                    format_version: FORMAT_VERSION,
                    $($given,)*
                    $($figure: Default::default(),)*
                    $($field: None,)*
                    steps: Steps::default(),
                }
            }

            /// Adds the figures of a part, which may be the first; histograms are added by
            /// [`super::add::Sum`].
            pub(super) fn add_part(&mut self, part: &TrialRecord, first: bool) {
                $(super::rule::$rule(&mut self.$figure, &part.$figure, first);)*
            }

            pub fn histogram(&self, channel: Channel) -> Option<&Distribution> {
                match channel {
                    $(Channel::$channel => self.$field.as_ref(),)*
                    $(Channel::$s_channel => self.steps.$step.as_ref(),)*
                }
            }

            pub fn histogram_mut(&mut self, channel: Channel) -> &mut Option<Distribution> {
                match channel {
                    $(Channel::$channel => &mut self.$field,)*
                    $(Channel::$s_channel => &mut self.steps.$step,)*
                }
            }
        }

        impl Steps {
            pub fn is_none(&self) -> bool {
                $(self.$step.is_none())&&*
            }
        }
    };
}

record! {
    /// One trial, as it is written and read.
    pub struct TrialRecord {
        given {
            /// SHA-256 over target, plan and sweep, in hexadecimal.
            plan_hash: String,
            /// SHA-256 of the binary that ran the trial, in hexadecimal.
            binary_digest: String,
            /// Repetition: a block holds every cell once. Of rows with the same cell and block, which repeats
            /// of noisy trials are, the last one that is `ok` stands.
            block: u32,
            /// Position in the run order, from 0.
            trial: u32,
            cell: Cell,
        }
        figures {
            status: Status = judged,
            /// Why it failed, in one sentence with the way out; on other rows the first error of a request,
            /// or what else a reader should know.
            error: Option<String> = judged,
            /// The first request of the window that failed, by its kind: `connect error: …`.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            first_error: Option<String> = either,
            /// The limit that the trial ran into, such as `vm.max_map_count`; `None` where none is known.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            limit: Option<String> = either,
            /// Remarks that bar nothing by themselves.
            flags: Vec<Flag> = judged,
            /// Where every planned request of the window ended.
            ledger: Ledger = sum,
            /// The same for the warm-up.
            warmup: Ledger = sum,
            /// Why requests of the window failed.
            errors: Errors = sum,
            /// Answers of the window by status code, those among them that count as errors.
            #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
            statuses: BTreeMap<String, u64> = counts,
            /// Named classes of requests, each with its own ledger and times.
            #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
            classes: BTreeMap<String, ClassUse> = parts,
            /// Bytes of HTTP on the wire inside the measured phase, heads included, as they are before
            /// and after TLS.
            bytes: Bytes = sum,
            /// Connections made after set-up.
            reconnects: u64 = sum,
            /// Fewest and most requests that one lane served.
            requests_per_lane: MinMax = costs,
            /// From `Go` to every lane connected and parked; the slowest worker.
            setup_ns: u64 = most,
            measured_ns: u64 = most,
            completed_in_window: u64 = sum,
            /// Requests that ended between the two readings of the clocks of CPU time, of either phase:
            /// what costs are divided by.
            #[serde(default)]
            ended_between_edges: u64 = sum,
            /// What `achieved_per_s` counts: by duration the requests of either phase that completed
            /// inside the window, by count all that completed. In a closed loop by duration a request
            /// that reaches across an edge counts by the share of its time that lies inside.
            #[serde(default)]
            rate_requests: f64 = sum,
            /// What `achieved_per_s` divides by: by duration the window, by count
            /// the planned span (requests ÷ rate) or the measured one, whichever is longer.
            #[serde(default)]
            rate_ns: u64 = most,
            /// `rate_requests` ÷ `rate_ns`. In rows of version 1: `completed_in_window` ÷ `measured_ns`.
            achieved_per_s: f64 = derived,
            /// Processor time of the workers between the window's edges.
            cpu: Cpu = costs,
            /// Context switches of the workers between the window's edges.
            switches: Switches = costs,
            /// Page faults, system calls and hardware counters of the workers between the window's edges.
            #[serde(default)]
            events: Events = costs,
            /// What tokio says of its runtime between the window's edges; only under the task engines.
            runtime: Option<RuntimeUse> = known,
            /// What the threads of `uring` did between the window's edges; only under that engine.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            ring: Option<RingUse> = known,
            memory: Memory = costs,
            /// Most threads seen, over all workers.
            threads_peak: u64 = sum,
            /// Most descriptors seen, over all workers.
            fds_peak: u64 = sum,
            /// Whether the numbers are reliable.
            gates: Vec<Gate> = judged,
            /// What the target says of itself; zero processes when it is external.
            target: TargetUse = served,
            /// The same of what a server under test called; `None` where its handlers call nothing.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            upstream: Option<TargetUse> = present,
            /// What the server's side cost, in the shape in which the fields `cpu`, `switches`, `events`,
            /// `memory`, `threads_peak`, `fds_peak`, `runtime` and `ring` say it of the client's; `None` where the target
            /// is not duel's own.
            server: Option<SideUse> = present,
            /// The same figures for each worker's own share; the largest stand beside the sums.
            largest_worker: Option<LargestWorker> = known,
            /// Timer of an open loop.
            pacer: Option<Pacer> = either,
            #[serde(default)]
            allocator: String = same,
            /// `GLIBC_TUNABLES` as the workers ran with it: duel's own settings, then the user's; empty in
            /// rows of before the field.
            #[serde(default)]
            glibc_tunables: String = same,
            /// From the spawn of the first worker to its `Ready`, the slowest worker.
            #[serde(default)]
            ready_ns: u64 = most,
            /// When the window began, nanoseconds since the Unix epoch; `None` when it never did.
            started_unix_ns: Option<u64> = earliest,
            /// Share of the lanes that were in service on average, Σ time in service ÷ (lanes × window);
            /// closed loops only. The rest is what the engine itself puts between two requests of a lane.
            occupancy: Option<f64> = derived,
            /// Most requests of the window in flight at once, as far as the driver's samples saw: a lower
            /// bound. `None` when no sample was taken.
            in_flight_peak: Option<u64> = judged,
            /// Who else used the load generator's CPUs, the busiest first; only where `foreign_cpu_share`
            /// failed, and of processes that still ran when the trial ended.
            #[serde(default, skip_serializing_if = "Vec::is_empty")]
            foreign: Vec<ForeignProcess> = judged,
            /// The part of the plan that this row is, whose own lanes and load its `cell` holds; `None` for
            /// a whole plan, merged ones included.
            shard: Option<Shard> = judged,
            /// How the shards of a run started together; `None` in a run of its own.
            shard_start: Option<ShardStart> = judged,
            /// Merged rows: the spread of the shards' own figures; `None` elsewhere.
            shard_spread: Option<ShardSpread> = judged,
            /// What the first TLS handshake agreed on, such as `TLSv1_3 TLS13_AES_256_GCM_SHA384`; `None`
            /// for plain targets.
            tls: Option<String> = either,
            /// Fields that are `None`, and why; also one that is a bound where it should be a value.
            unavailable: Reasons = remarks,
        }
        histograms {
            /// Service time: end − actual start; completed and timed out requests.
            service_ns = Service, Always, "service";
            /// Response time: end − intended start; open loops only.
            response_ns = Response, Open, "response";
            /// Start delay: actual − intended start; open loops only.
            start_delay_ns = StartDelay, Open, "start_delay";
            /// Pacer delay: released − intended; open loops only.
            pacer_delay_ns = PacerDelay, Open, "pacer_delay";
            /// Lane wait: actual start − released; open loops only.
            lane_wait_ns = LaneWait, Open, "lane_wait";
            /// Failed requests: actual start (or the connect that failed) to the failure.
            failed_ns = Failed, Always, "failed";
            /// Time to connect, at set-up and later; without the TLS handshake.
            connect_ns = Connect, Always, "connect";
            /// Time of a TLS handshake, which follows the connect; always a full one, since sessions are
            /// not resumed. `None` for plain targets.
            handshake_ns = Handshake, OnDemand, "handshake";
            /// Actual start to the first byte of the response.
            first_byte_ns = FirstByte, Always, "first_byte";
            /// How late a lane was that ticks every millisecond beside the load; see
            /// [`crate::engine`]. `None` without one.
            #[serde(skip_serializing_if = "Option::is_none")]
            heartbeat_ns = Heartbeat, OnDemand, "heartbeat";
        }
        /// Times of the steps of requests with steps, by kind; `None` for a kind that none has.
        ///
        /// A step's time is what its lane waited for it: under `offload` it begins when the step is handed
        /// over and ends when the task goes on. Every step counts that was carried out for a request of the
        /// window, and every exchange that was answered as expected or given up after `timeout`.
        steps {
            /// The exchange.
            http_ns = HttpStep, OnDemand, "http-step";
            /// Files opened, read or written, and closed.
            file_ns = FileStep, OnDemand, "file-step";
            /// Bytes hashed.
            compute_ns = ComputeStep, OnDemand, "compute-step";
        }
    }
}

impl From<Channel> for &'static str {
    fn from(channel: Channel) -> Self {
        channel.field()
    }
}

impl TryFrom<String> for Channel {
    type Error = anyhow::Error;

    fn try_from(field: String) -> anyhow::Result<Self> {
        let found = Channel::ALL.iter().copied().find(|channel| channel.field() == field);
        found.ok_or_else(|| anyhow::anyhow!("`{field}` is not a histogram of a record"))
    }
}

/// Which trials keep a histogram, and with it the memory for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    Always,
    Open,
    /// Those whose plan needs it.
    OnDemand,
}

impl TrialRecord {
    /// Reads a line of `trials.jsonl` of any version up to [`FORMAT_VERSION`].
    pub fn read(line: &[u8]) -> serde_json::Result<TrialRecord> {
        let mut record: TrialRecord = serde_json::from_slice(line)?;
        if record.format_version < 2 {
            (record.rate_requests, record.rate_ns) =
                (record.completed_in_window as f64, record.measured_ns);
        }
        // Rows of before the field hold it as a quotient.
        if record.ended_between_edges == 0 && record.cpu.per_request_ns > 0.0 {
            let ended = record.cpu.total_ns as f64 / record.cpu.per_request_ns;
            record.ended_between_edges = ended.round() as u64;
        }
        // Rows of before the field name a limit in their error alone: `…; pids.max allows 4: …`.
        if record.status == Status::Failed && record.limit.is_none() {
            let named =
                |error: &str| error.split_once(" allows ")?.0.rsplit_once("; ").map(|n| n.1.into());
            record.limit = record.error.as_deref().and_then(named);
        }
        Ok(record)
    }

    /// The JSON Schema of a record as it is written, from its types and their docs.
    pub fn schema() -> String {
        let settings = schemars::generate::SchemaSettings::draft2020_12().for_serialize();
        let schema = settings.into_generator().into_root_schema_for::<TrialRecord>();
        let mut text = serde_json::to_string_pretty(&schema).expect("a schema is plain data");
        text.push('\n');
        text
    }

    /// A worker's part of a trial of this cell, in which nothing has happened yet: which trial it is,
    /// whoever adds the parts knows.
    pub fn part_of(cell: &Cell) -> TrialRecord {
        TrialRecord::blank(String::new(), String::new(), 0, 0, cell.clone())
    }

    /// A record of the same trial in which nothing has happened yet.
    pub(crate) fn same_trial(&self) -> TrialRecord {
        TrialRecord::blank(
            self.plan_hash.clone(),
            self.binary_digest.clone(),
            self.block,
            self.trial,
            self.cell.clone(),
        )
    }

    /// The histograms that it has, in the order of [`Channel::ALL`].
    pub fn histograms(&self) -> impl Iterator<Item = (Channel, &Distribution)> {
        Channel::ALL.iter().filter_map(|channel| Some((*channel, self.histogram(*channel)?)))
    }

    /// Works out what is no sum from what is.
    pub(crate) fn derive(&mut self) {
        let ended = self.ended_between_edges;
        self.cpu.per_request(ended);
        self.events.per_request(ended);
        if let Some(server) = &mut self.server {
            let ended = server.requests.unwrap_or(ended);
            server.cpu.per_request(ended);
            server.events.per_request(ended);
        }
        if self.rate_ns > 0 {
            self.achieved_per_s = self.rate_requests * 1e9 / self.rate_ns as f64;
        }
    }

    /// Response times, in a closed loop service times.
    pub fn latency(&self) -> Option<&Distribution> {
        self.response_ns.as_ref().or(self.service_ns.as_ref())
    }

    /// Whether the peak of the resident set counts from the start of the process, because it could
    /// not be reset: an upper bound, which holds whatever the worker did before any lane was there.
    pub(crate) fn peak_is_bound(&self) -> bool {
        self.unavailable.contains_key(field!(TrialRecord.memory.peak_rss_bytes))
    }

    /// The fewest and the most requests that can have reached the target whole, warm-up included: all
    /// that were answered, and no more than were written.
    pub(crate) fn can_have_arrived(&self) -> (u64, u64) {
        let (ledger, warmup, errors) = (&self.ledger, &self.warmup, &self.errors);
        let fewest = ledger.completed + errors.status + errors.body + warmup.completed;
        let sent = |l: &Ledger| l.completed + l.failed + l.timed_out;
        // A request whose connect failed was never written.
        (fewest, (sent(ledger) + sent(warmup)).saturating_sub(errors.connect))
    }

    /// Peak user memory over the baseline, in bytes; `None` where the peak is a bound only.
    pub fn peak_over_baseline(&self) -> Option<u64> {
        let over = self.memory.peak_rss_bytes.saturating_sub(self.memory.baseline_rss_bytes);
        (!self.peak_is_bound()).then_some(over)
    }
}
