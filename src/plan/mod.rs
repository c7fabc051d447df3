//! What is to be sent, and when: pure data, the same for every engine.
//!
//! * [`cell`] is one point of the grid, and all that is known of an axis.
//! * [`sweep`] is a resolved config: its cells and an interleaved order of trials.
//! * [`schedule`] gives the intended start of each request of an open loop.
//!   [`stages`] are its steps and ramps, [`trace`] replays what was recorded.
//! * [`search`] says which rate is tried next for the highest that meets an SLO.
//! * [`shard`] is the part of it that one machine of several sends.
//! * [`steps`] is what a request does beside HTTP.
//! * [`engine`] says what is true of each engine.
//! * [`endpoint`] is where load goes, resolved.
//! * [`target`] is what the embedded server plays, [`server`] how a server under test is run.
//! * [`slo`] is what must hold of the results.
//! * [`expect`] is what is thought of the results beforehand.
//! * [`request`] picks and renders requests: seeded, the same bytes for every engine;
//!   [`values`] fills in templates, [`prepare`] puts both together before the clock starts.

/// Files hold a value as it is printed and parsed.
macro_rules! one_string {
    ($type:ty) => {
        impl TryFrom<String> for $type {
            type Error = anyhow::Error;

            fn try_from(text: String) -> anyhow::Result<Self> {
                text.parse()
            }
        }

        impl From<$type> for String {
            fn from(value: $type) -> String {
                value.to_string()
            }
        }
    };
}
use one_string;

/// Enums whose variants have a name in configs, records and tables.
macro_rules! named {
    ($($(#[$about:meta])* $vis:vis enum $type:ident {
        $($(#[$of:meta])* $variant:ident = $name:literal,)*
    })*) => {$(
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
        $vis enum $type {
            $($(#[$of])* #[serde(rename = $name)] $variant,)*
        }

        impl $type {
            $vis const ALL: [$type; [$($type::$variant),*].len()] = [$($type::$variant),*];

            $vis const fn name(self) -> &'static str {
                match self {
                    $($type::$variant => $name,)*
                }
            }
        }
    )*};
}
pub(crate) use named;

/// Enums whose variants have a row of facts beside their name.
macro_rules! engines {
    ($(#[$about:meta])* pub enum $type:ident: $facts:ident {
        $($(#[$of:meta])* $variant:ident = $name:literal { $($fact:ident: $value:expr),* },)*
    }) => {
        $crate::plan::named! {
            $(#[$about])*
            pub enum $type {
                $($(#[$of])* $variant = $name,)*
            }
        }

        impl $type {
            pub const fn facts(self) -> $facts {
                match self {
                    $($type::$variant => $facts { $($fact: $value),* },)*
                }
            }
        }
    };
}
use engines;

pub mod allocator;
pub mod cell;
pub mod endpoint;
pub mod engine;
pub mod expect;
pub(crate) mod guard;
pub mod prepare;
pub mod request;
pub mod schedule;
pub mod search;
pub mod server;
pub mod shard;
pub mod slo;
pub mod stages;
pub mod steps;
pub mod sweep;
pub mod target;
pub mod trace;
pub mod values;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use cell::{Axis, Cell, CellKind};
pub use engine::Engine;
use stages::Stage;
use steps::StepPlan;
use trace::TraceFile;
use values::RequestValue;

named! {
    /// Who speaks HTTP on the socket.
    #[derive(Default)]
    pub enum Codec {
        /// hyper's client connection, on async and blocking sockets alike.
        #[default]
        Hyper = "hyper",
        /// duel's own: one prebuilt request per write, responses parsed in place.
        Lean = "lean",
    }

    /// What releases a request.
    #[derive(Default)]
    pub enum Arrivals {
        /// A lane sends its next request when the last one ended.
        #[default]
        Closed = "closed",
        /// Evenly spaced intended starts.
        Constant = "constant",
        /// Independent exponential gaps between intended starts.
        Poisson = "poisson",
        /// The instants of a file.
        Trace = "trace",
    }

    /// Which timer releases the requests of an open loop.
    pub enum Pacer {
        /// A thread of its own on an absolute high-resolution timer, the same for every engine.
        Precise = "precise",
        /// The engine's own timer: tokio's wheel of 1 ms, a plain sleep for threads.
        Native = "native",
    }
}

impl Arrivals {
    /// Whether the schedule, not the response, releases the next request.
    pub fn is_open(self) -> bool {
        self != Arrivals::Closed
    }
}

/// Longest time of a plan, 30 days: sums of a few of them stay far inside `u64`.
pub(crate) const LONGEST_NS: f64 = 30.0 * 24.0 * 3600.0 * 1e9;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Extent {
    /// This many requests, over all workers of the trial.
    Requests(u64),
    DurationNs(u64),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestTemplate {
    /// Class of the request, with times and a ledger of its own; several requests may share one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p99_ns: Option<u64>,
    /// The method, upper case by convention, sent as written.
    pub method: String,
    pub path: String,
    pub weight: u32,
    /// Extra headers in order. A value that is `$NAME` as a whole is read from the worker's
    /// environment when the request is rendered, so that secrets travel in no frame and no file.
    pub headers: Vec<(String, String)>,
    /// The body; a UTF-8 body `$NAME` is read from the environment as a header value is.
    #[serde(with = "body_text")]
    pub body: Vec<u8>,
    /// Where the body was read from; a plan that is kept holds this in its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_file: Option<BodyFile>,
    /// What the request does beside its exchange, in order; empty for the exchange alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<StepPlan>,
}

impl Default for RequestTemplate {
    fn default() -> Self {
        RequestTemplate {
            name: None,
            p99_ns: None,
            method: "GET".into(),
            path: "/".into(),
            weight: 1,
            headers: Vec::new(),
            body: Vec::new(),
            body_file: None,
            steps: Vec::new(),
        }
    }
}

impl RequestTemplate {
    /// SHA-256 of the body, in hexadecimal, whichever of body and file is kept.
    pub(crate) fn body_sha256(&self) -> String {
        self.body_file
            .as_ref()
            .map_or_else(|| values::sha256(&self.body), |file| file.sha256.clone())
    }
}

/// A file with a body, and how it is known again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BodyFile {
    pub path: String,
    pub sha256: String,
    pub bytes: u64,
}

/// The environment variable that a header value or body names, if it is `$NAME` as a whole.
///
/// A name is made of letters, digits and `_` and does not begin with a digit: `$5` is a price.
pub(crate) fn variable_name(value: &str) -> Option<&str> {
    let name = value.strip_prefix('$')?;
    let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    (plain && name.bytes().next().is_some_and(|b| !b.is_ascii_digit())).then_some(name)
}

/// Everything that a worker must know of the plan; equal for every engine of a sweep but for the rate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrialPlan {
    pub arrivals: Arrivals,
    /// Total offered load of the trial in requests per second, over all workers; `None` if closed.
    pub offered_per_s: Option<f64>,
    pub extent: Extent,
    pub warmup_ns: u64,
    pub timeout_ns: u64,
    pub seed: u64,
    pub pacer: Pacer,
    pub keep_alive: bool,
    /// Statuses that complete; empty means 200–399.
    pub expect_status: Vec<u16>,
    /// The `Host` header: the target as the user named it.
    pub host: String,
    /// The mix, at least one entry. Under a trace an entry holds the headers and the body of the
    /// requests of its method, and paths are the trace's.
    pub mix: Vec<RequestTemplate>,
    /// Steps and ramps of the rate; empty where the rate stays. `extent` is their length, and
    /// `offered_per_s` their mean.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stages: Vec<Stage>,
    /// What is replayed; `offered_per_s` is the mean rate of the part that the window takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<TraceFile>,
    /// What `{name}` stands for in paths, header values and bodies; without any, those are sent as
    /// they are written.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub values: BTreeMap<String, RequestValue>,
    /// How many requests with values are rendered before the clock starts: request i sends
    /// rendering i modulo this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renderings: Option<u64>,
    /// Whether each request carries its index as a header, for `duel verify`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub numbered: bool,
    /// Whether a lane ticks beside the load and records how late it is.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub heartbeat: bool,
    /// Whether nothing is sent: lanes stay connected and parked for the window.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub idle: bool,
}

impl Default for TrialPlan {
    /// One `GET /` of localhost in a closed loop, bounded by the timeout that configs have.
    fn default() -> Self {
        TrialPlan {
            arrivals: Arrivals::Closed,
            offered_per_s: None,
            extent: Extent::Requests(1),
            warmup_ns: 0,
            timeout_ns: 5_000_000_000,
            seed: 1,
            pacer: Pacer::Precise,
            keep_alive: true,
            expect_status: Vec::new(),
            host: "localhost".into(),
            mix: vec![RequestTemplate::default()],
            stages: Vec::new(),
            trace: None,
            values: BTreeMap::new(),
            renderings: None,
            numbered: false,
            heartbeat: false,
            idle: false,
        }
    }
}

/// The classes of a mix, each once, with their bounds on the 99th percentile.
pub fn classes(mix: &[RequestTemplate]) -> Vec<(&str, Option<u64>)> {
    let mut all: Vec<(&str, Option<u64>)> = Vec::new();
    for template in mix {
        let Some(name) = template.name.as_deref() else { continue };
        if all.iter().all(|(known, _)| *known != name) {
            all.push((name, template.p99_ns));
        }
    }
    all
}

impl TrialPlan {
    pub(crate) fn has_local_steps(&self) -> bool {
        self.mix.iter().flat_map(|template| &template.steps).any(StepPlan::is_local)
    }

    pub fn classes(&self) -> Vec<&str> {
        classes(&self.mix).into_iter().map(|(name, _)| name).collect()
    }

    /// The class of each entry of the mix, as a position in [`TrialPlan::classes`]; empty where none
    /// has a name.
    pub(crate) fn class_of_each(&self) -> Vec<Option<usize>> {
        let names = self.classes();
        if names.is_empty() {
            return Vec::new();
        }
        let class = |template: &RequestTemplate| {
            let name = template.name.as_deref()?;
            names.iter().position(|known| *known == name)
        };
        self.mix.iter().map(class).collect()
    }

    /// The highest rate that is ever offered: of stages at one of their ends, of a trace in its
    /// busiest second.
    pub fn peak_per_s(&self) -> f64 {
        let ends = self.stages.iter().flat_map(|stage| [stage.from_per_s, stage.to_per_s]);
        let busiest = self.trace.as_ref().map(|trace| trace.peak_per_s as f64);
        ends.chain(busiest).fold(self.offered_per_s.unwrap_or(0.0), f64::max)
    }

    /// The longest time between two arrivals that is still in order: in a trace the longest there
    /// is, under exponential gaps one that no trial of less than e^50 requests will see.
    pub(crate) fn longest_gap_ns(&self) -> u64 {
        if let Some(trace) = &self.trace {
            return trace.longest_gap_ns;
        }
        if !self.stages.is_empty() {
            return stages::total_ns(&self.stages);
        }
        self.offered_per_s.map_or(0, |rate| (50.0 * 1e9 / rate) as u64)
    }
}

/// Bodies travel as text where they are UTF-8 and as a list of bytes where they are not.
mod body_text {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Wire {
        Text(String),
        Bytes(Vec<u8>),
    }

    pub(super) fn serialize<S: Serializer>(body: &[u8], s: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(body) {
            Ok(text) => Wire::Text(text.to_string()).serialize(s),
            Err(_) => Wire::Bytes(body.to_vec()).serialize(s),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<u8>, D::Error> {
        Ok(match Wire::deserialize(d)? {
            Wire::Text(text) => text.into_bytes(),
            Wire::Bytes(bytes) => bytes,
        })
    }
}
