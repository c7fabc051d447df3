//! The embedded target: a small HTTP/1.1 server with a virtual queue, run as a process of its own.
//!
//! The queue is computed, not acted out: a request that arrives whole at `a` leaves at
//! `max(a, earliest free server) + service time`, and its answer is written at that absolute
//! instant, so that the lateness of one timer never adds to the next.
//!
//! The driver starts it as `duel target --control` and speaks one line of JSON each way:
//! [`TargetJob`] down, [`Listening`] up, any [`Told`] down, and when its standard
//! input closes, [`TargetReport`] up; then it ends.
//!
//! One thread, one epoll loop, one timerfd armed with absolute instants. An async runtime would be
//! less code, but tokio's timer wheel counts milliseconds, and a target that answers up to 1 ms
//! late cannot referee engines that differ by microseconds.
//!
//! Map: [`laws`] draws service times and faults as pure functions of (seed, request number),
//! [`queue`] turns arrivals into departures, `connection` is what is kept for a connection, in a `slab`,
//! `reference` is the loop, `control` the protocol above, [`digest`] says what was sent.
//!
//! The other engines serve real handlers and are subjects, not referees: `threads`, `pool`, `rayon`,
//! `tokio` and `uring` differ in scheduling alone. They share `handler`, what is done with a request,
//! and `upstream`, which it calls; `blocking` drives the futures of the codecs on threads, and
//! `parking` keeps the connections of engines whose threads take a request at a time.

use crate::plan::endpoint::Endpoint;
use crate::plan::server::{ServerEngine, ServerPlan};
use crate::plan::target::EmbeddedTarget;
use crate::side::usage::Edge;

mod blocking;
mod connection;
mod control;
pub(crate) mod digest;
mod handler;
pub mod laws;
mod parking;
mod pool;
pub mod queue;
mod rayon;
mod reference;
mod slab;
mod threads;
mod tokio;
mod upstream;
mod uring;

pub use crate::codec::serve::answers::body_byte;
pub(crate) use control::become_command;
pub use control::{serve_controlled, serve_forever};

use std::net::TcpListener;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Serves connections of a listener under an engine, for as long as the process lives.
fn run(listener: TcpListener, handler: &Arc<handler::Handler>) -> anyhow::Result<()> {
    match handler.plan.engine {
        // Neither is started here.
        ServerEngine::Reference | ServerEngine::Own => Ok(()),
        ServerEngine::Threads => threads::run(&listener, handler),
        ServerEngine::Pool => pool::run(listener, handler),
        ServerEngine::Rayon => rayon::run(listener, handler),
        ServerEngine::Tokio | ServerEngine::TokioSingle => tokio::run(listener, handler),
        ServerEngine::Uring => uring::run(listener, handler),
    }
}

/// Driver → target: the first line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TargetJob {
    /// Where to listen; port 0 takes a free one.
    pub listen: Endpoint,
    pub spec: EmbeddedTarget,
    /// Seed of service times and faults; request n of this process takes draw n.
    pub seed: u64,
    /// CPUs to run on; empty leaves the affinity as it is.
    pub cpus: Vec<u32>,
    /// Whether to keep a digest of every request, for `duel verify`.
    #[serde(default)]
    pub digest: bool,
    /// The server under test that plays it; `None` for the reference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<ServerPlan>,
    /// Whether the server under test begins only when it is told to, so that what it holds before
    /// any runtime, pool or connection can be read.
    #[serde(default)]
    pub held: bool,
    /// Whether the kernel is to count the system calls of the server under test.
    #[serde(default)]
    pub counts_events: bool,
    /// Where the handlers of a server under test call; `None` where they do not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream: Option<Endpoint>,
    /// Name of the directories for the files of its handlers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<String>,
}

impl TargetJob {
    /// The reference, anywhere.
    pub fn new(listen: Endpoint, spec: EmbeddedTarget, seed: u64) -> TargetJob {
        TargetJob {
            listen,
            spec,
            seed,
            cpus: vec![],
            digest: false,
            server: None,
            held: false,
            counts_events: false,
            upstream: None,
            files: None,
        }
    }
}

/// Target → driver: it accepts connections.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listening {
    pub listening: Endpoint,
    /// The certificate that a server under TLS shows, for its clients to trust.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
}

/// Driver → target, after the job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Told {
    /// The instant that stalls count from, on CLOCK_MONOTONIC.
    StartAtNs(u64),
    /// A server under test that was held begins.
    Go(bool),
    /// A server under test says what it used up to this edge of the window, with a
    /// [`crate::side::usage::Usage`].
    Look(Edge),
    /// It says what its allocator has handed out, a number or nothing.
    Heap(bool),
}

/// Target → driver: the last line.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TargetReport {
    /// Requests that arrived whole.
    pub received: u64,
    /// Requests whose answer was written whole.
    pub answered: u64,
    pub connections: u64,
    pub cpu_ns: u64,
    /// Sum of the waits for a free server.
    pub queue_ns_total: u64,
    /// Sum of the service times drawn.
    pub service_ns_total: u64,
    /// Most answers that left later than 1 ms after their instant.
    pub late_answers: u64,
    /// Sum of the times from whole requests to their answers; `None` under the reference.
    #[serde(default)]
    pub residence_ns_total: Option<u64>,
    /// Connections that were closed at once, since the engine had no thread for them.
    #[serde(default)]
    pub refused: u64,
    /// The first thing that the engine could not do.
    #[serde(default)]
    pub trouble: Option<String>,
    /// What it was sent, where the job asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<digest::Report>,
}
