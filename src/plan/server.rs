//! The server under test: how it schedules connections, and what its handler does. Pure data, which
//! [`crate::server`] carries out.

use serde::{Deserialize, Serialize};

use super::engine::LaneThreads::{self, Own, PerCpu, PerLane, Pool};
use super::engine::SocketKind::{self, Blocking, Epoll, Ring};
use super::steps::{FileStep, Offload, StepPlan};
use super::target::{EmbeddedTarget, InjectedFaults, Law};
use super::{Codec, Engine, RequestTemplate};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerFacts {
    /// Whether it runs duel's own handler, with the steps of `[[server.step]]`.
    pub handles: bool,
    /// The threads that run connections and handlers.
    pub threads: LaneThreads,
    /// How connections wait for their next request.
    pub sockets: SocketKind,
    /// Whether a handler is a task of an async runtime, which can hand work to other threads.
    pub offloads: bool,
}

super::engines! {
    /// How a server runs its connections.
    pub enum ServerEngine: ServerFacts {
        /// The embedded target: one epoll loop that computes when each answer is due.
        Reference = "reference" { handles: false, threads: Own, sockets: Epoll, offloads: false },
        /// One OS thread per connection.
        Threads = "threads" { handles: true, threads: PerLane, sockets: Blocking, offloads: false },
        /// A fixed number of OS threads that take connections or requests.
        Pool = "pool" { handles: true, threads: Pool, sockets: Blocking, offloads: false },
        /// One rayon job per request.
        Rayon = "rayon" { handles: true, threads: Pool, sockets: Epoll, offloads: false },
        /// One task per connection on tokio's multi-thread runtime, a worker thread per CPU.
        Tokio = "tokio" { handles: true, threads: PerCpu, sockets: Epoll, offloads: true },
        /// One task per connection on tokio's current-thread runtime.
        TokioSingle = "tokio-single" { handles: true, threads: Own, sockets: Epoll, offloads: true },
        /// One task per connection on io_uring, a thread and a ring per CPU.
        Uring = "uring" { handles: true, threads: PerCpu, sockets: Ring, offloads: true },
        /// A server of the user's own, which the config's command starts.
        Own = "own" { handles: false, threads: Own, sockets: Epoll, offloads: false },
    }
}

/// Connections that a server makes each of its rings for; where there are more its lists grow.
pub(crate) const CONNECTIONS_OF_RING: u32 = 4096;

impl ServerEngine {
    /// What ratios are relative to unless a sweep says otherwise.
    pub(crate) const BASELINE: ServerEngine = ServerEngine::Threads;

    /// The client engine with as many threads, which meets the same limits.
    pub fn alike(self) -> Engine {
        let ServerFacts { threads, sockets, .. } = self.facts();
        match (threads, sockets) {
            (PerLane, _) => Engine::Threads,
            (_, Ring) => Engine::Uring,
            _ => Engine::TokioSingle,
        }
    }
}

super::named! {
    #[derive(Default)]
    pub enum SideUnderTest {
        Client = "client",
        /// Those who answer, where the sweep says how they run; without a word of that the client.
        #[default]
        Server = "server",
    }

    #[derive(Default)]
    pub enum PoolOf {
        /// A connection, until it closes: the others wait to be accepted.
        #[default]
        Connections = "connections",
        /// A request: connections between two requests occupy no thread.
        Requests = "requests",
    }

    #[derive(Default)]
    pub enum ReadyCheck {
        /// It answers an HTTP request, with any status.
        #[default]
        Http = "http",
        Tcp = "tcp",
    }
}

/// A step of the handler, carried out after the one before it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ServerStep {
    Wait {
        time: Law,
    },
    /// Requests to the upstream; all of them are answered when the step ends.
    Call {
        calls: u32,
    },
    Compute {
        bytes: u64,
    },
    File(FileStep),
}

impl ServerStep {
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
    pub body_bytes: u64,
    pub timeout_ns: u64,
}

impl UpstreamPlan {
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

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnServer {
    /// For a shell; `{port}` stands for the port that it must listen on.
    pub command: String,
    pub env: Vec<(String, String)>,
    pub ready: ReadyCheck,
}

/// What the config says of the server under test, the same for every engine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServerSetting {
    pub pool: PoolOf,
    /// Threads of the pool; `None` where no engine has one, and for rayon a thread per CPU.
    pub pool_size: Option<u32>,
    pub stack_bytes: u64,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tls: bool,
    pub steps: Vec<ServerStep>,
    /// Compute and file steps that run at the same time at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permits: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own: Option<OwnServer>,
    /// One in place of it for each of the targets that the sweep compares.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub owns: Vec<OwnServer>,
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

    pub(crate) fn most_calls(&self) -> u32 {
        self.steps.iter().map(ServerStep::calls).max().unwrap_or(0)
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServerPlan {
    pub engine: ServerEngine,
    pub codec: Codec,
    pub offload: Offload,
    #[serde(default = "one")]
    pub fan_out: u32,
    pub setting: ServerSetting,
}

fn one() -> u32 {
    1
}

impl ServerPlan {
    /// How connections wait for their next request: those of a pool that takes requests are parked.
    pub(crate) fn sockets(&self) -> SocketKind {
        match (self.engine, self.setting.pool) {
            (ServerEngine::Pool, PoolOf::Requests) => Epoll,
            (engine, _) => engine.facts().sockets,
        }
    }

    /// The command of a server of the user's own; `None` where duel has its own.
    pub fn own(&self) -> Option<&OwnServer> {
        self.setting.own.as_ref().filter(|_| self.engine == ServerEngine::Own)
    }
}
