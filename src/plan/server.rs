//! The server under test: how it schedules connections, and what its handler does. Pure data, which
//! [`crate::server`] carries out.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::engine::LaneThreads;
use super::steps::{FileStep, Offload, StepPlan};
use super::target::{EmbeddedTarget, InjectedFaults, Law};
use super::{Codec, Engine, RequestTemplate};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerFacts {
    pub name: &'static str,
    /// The threads that run connections and handlers.
    pub threads: LaneThreads,
    /// Whether a handler is a task of an async runtime, which can hand work to other threads.
    pub offloads: bool,
    /// The client engine with as many threads, which meets the same limits.
    pub alike: Engine,
}

/// Makes the enum, the list and the facts of the same rows.
macro_rules! server_engines {
    ($($(#[$doc:meta])* $engine:ident = $name:literal, $threads:ident, offloads: $offloads:literal,
        as $alike:ident;)*) => {
        /// How a server runs its connections.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[derive(Serialize, Deserialize, JsonSchema)]
        #[serde(rename_all = "kebab-case")]
        pub enum ServerEngine {
            $($(#[$doc])* $engine,)*
        }

        impl ServerEngine {
            /// Every server engine, in the order in which tables show them.
            pub const ALL: [ServerEngine; [$(ServerEngine::$engine),*].len()] =
                [$(ServerEngine::$engine),*];

            pub const fn facts(self) -> ServerFacts {
                match self {
                    $(ServerEngine::$engine => ServerFacts {
                        name: $name,
                        threads: LaneThreads::$threads,
                        offloads: $offloads,
                        alike: Engine::$alike,
                    },)*
                }
            }
        }
    };
}

server_engines! {
    /// The embedded target: one epoll loop that computes when each answer is due.
    Reference = "reference", Own, offloads: false, as TokioSingle;
    /// One OS thread per connection.
    Threads = "threads", PerLane, offloads: false, as Threads;
    /// A fixed number of OS threads that take connections or requests.
    Pool = "pool", Pool, offloads: false, as TokioSingle;
    /// One rayon job per request.
    Rayon = "rayon", Pool, offloads: false, as TokioSingle;
    /// One task per connection on tokio's multi-thread runtime, a worker thread per CPU.
    Tokio = "tokio", PerCpu, offloads: true, as TokioSingle;
    /// One task per connection on tokio's current-thread runtime.
    TokioSingle = "tokio-single", Own, offloads: true, as TokioSingle;
    /// One task per connection on io_uring, a thread and a ring per CPU.
    Uring = "uring", PerCpu, offloads: true, as Uring;
    /// A server of the user's own, which the config's command starts.
    Own = "own", Own, offloads: false, as TokioSingle;
}

impl ServerEngine {
    /// What ratios are relative to unless a sweep says otherwise.
    pub(crate) const BASELINE: ServerEngine = ServerEngine::Threads;

    /// The name in configs, records and tables.
    pub const fn name(self) -> &'static str {
        self.facts().name
    }
}

/// The side under test, whose costs head the tables.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SideUnderTest {
    /// Those who send.
    Client,
    /// Those who answer, where the sweep says how they run; without a word of that the client.
    #[default]
    Server,
}

/// What a thread of the pool takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PoolOf {
    /// A connection, until it closes: the others wait to be accepted.
    #[default]
    Connections,
    /// A request: connections between two requests occupy no thread.
    Requests,
}

/// A step of the handler, carried out after the one before it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ServerStep {
    /// A timer.
    Wait { time: Law },
    /// Requests to the upstream; all of them are answered when the step ends.
    Call { calls: u32 },
    /// Bytes are hashed with SHA-256.
    Compute { bytes: u64 },
    /// A file is opened, read or written, and closed.
    File(FileStep),
}

impl ServerStep {
    /// Whether it occupies the thread that it runs on.
    pub(crate) fn occupies(&self) -> bool {
        matches!(self, ServerStep::Compute { .. } | ServerStep::File(_))
    }

    /// Calls that it makes, which may be made at once.
    pub fn calls(&self) -> u32 {
        if let ServerStep::Call { calls } = self { *calls } else { 0 }
    }
}

/// What handlers call: the reference, in a process of its own beside the server under test.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UpstreamPlan {
    /// Time between a call's arrival at a free server and its answer.
    pub service_time: Law,
    /// Calls served at once, the others wait in order; 0 = no limit.
    pub servers: u32,
    /// Length of each answer's body.
    pub body_bytes: u64,
    /// How long a call may take.
    pub timeout_ns: u64,
}

impl UpstreamPlan {
    /// What the reference plays for it.
    pub(crate) fn target(&self) -> EmbeddedTarget {
        EmbeddedTarget {
            service_time: self.service_time,
            servers: self.servers,
            processes: 1,
            body_bytes: self.body_bytes,
            faults: InjectedFaults::default(),
        }
    }
}

/// When a server of the user's own is ready.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReadyCheck {
    /// It answers an HTTP request, with any status.
    #[default]
    Http,
    /// It accepts a connection.
    Tcp,
}

/// A server of the user's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnServer {
    /// For a shell; `{port}` stands for the port that it must listen on.
    pub command: String,
    /// Laid over duel's own environment.
    pub env: Vec<(String, String)>,
    /// What is waited for before the load begins.
    pub ready: ReadyCheck,
}

/// What the config says of the server under test, the same for every engine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServerSetting {
    pub pool: PoolOf,
    /// Threads of the pool; `None` where no engine has one, and for rayon a thread per CPU.
    pub pool_size: Option<u32>,
    /// Stack of each thread that the engine starts.
    pub stack_bytes: u64,
    /// Whether connections are encrypted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tls: bool,
    /// What the handler does before it answers.
    pub steps: Vec<ServerStep>,
    /// Compute and file steps that run at the same time at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permits: Option<u32>,
    /// The server of the engine `own`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own: Option<OwnServer>,
    /// One in place of it for each of the targets that the sweep compares.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub owns: Vec<OwnServer>,
    /// What `call` steps call; there are none where it is `None`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream: Option<UpstreamPlan>,
}

impl ServerSetting {
    /// What a handler does with files and the CPU, as the steps of a request; whatever else it does
    /// stands there as the exchange, which those who carry out such steps leave to others.
    pub(crate) fn local_work(&self) -> RequestTemplate {
        let local = |step: &ServerStep| match step {
            ServerStep::Compute { bytes } => StepPlan::Compute { bytes: *bytes },
            ServerStep::File(file) => StepPlan::File(file.clone()),
            ServerStep::Wait { .. } | ServerStep::Call { .. } => StepPlan::Http,
        };
        RequestTemplate {
            steps: self.steps.iter().map(local).collect(),
            ..RequestTemplate::default()
        }
    }

    /// Whether some work of the handler occupies the thread that does it.
    pub(crate) fn has_local_work(&self) -> bool {
        self.steps.iter().any(ServerStep::occupies)
    }

    /// Most calls of a step; zero where there are none.
    pub(crate) fn most_calls(&self) -> u32 {
        self.steps.iter().map(ServerStep::calls).max().unwrap_or(0)
    }
}

/// The server of one cell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServerPlan {
    pub engine: ServerEngine,
    pub codec: Codec,
    /// Where compute and file steps of a task go.
    pub offload: Offload,
    /// Calls of a step that are under way at once.
    #[serde(default = "one")]
    pub fan_out: u32,
    pub setting: ServerSetting,
}

fn one() -> u32 {
    1
}

impl ServerPlan {
    /// The command of a server of the user's own; `None` where duel has its own.
    pub fn own(&self) -> Option<&OwnServer> {
        self.setting.own.as_ref().filter(|_| self.engine == ServerEngine::Own)
    }
}
