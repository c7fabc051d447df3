//! The engines, and what is true of each: the one table that limits, reports and configs ask.
//!
//! A new engine is a row here and a file under `engine/` with its line in `engine::run`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the scheduler of an engine sees of a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LaneKind {
    /// The engine's only thread runs the only lane, whatever `lanes` says.
    Single,
    Thread,
    /// A job of a thread pool for each request.
    Job,
    Task,
}

/// How a lane waits for its socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SocketKind {
    /// The thread blocks in the kernel.
    Blocking,
    /// The socket is in an epoll set, which a runtime waits for.
    Epoll,
    /// The kernel carries out what is put on a ring of io_uring, and says so there.
    Ring,
}

/// The threads that run a worker's lanes, beside the engine's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LaneThreads {
    /// None: the engine's own thread runs them.
    Own,
    /// One for each lane.
    PerLane,
    /// A pool: one for each lane, or the number of the `rayon_threads` axis.
    Pool,
    /// One for each CPU of the worker.
    PerCpu,
}

super::named! {
    /// How a ring is asked for what a connection receives.
    #[derive(Default)]
    pub enum Receive {
        /// Once for all that comes.
        #[default]
        Multishot = "multishot",
        /// Anew for each read.
        OneShot = "one-shot",
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EngineFacts {
    /// The name in configs, records and tables.
    pub name: &'static str,
    /// What a lane is.
    pub lane: LaneKind,
    /// How a lane waits.
    pub sockets: SocketKind,
    /// Who runs the lanes.
    pub threads: LaneThreads,
    /// Whether file and compute steps can leave the lane: the `offload` axis.
    pub offloads: bool,
}

/// Makes the enum, the list and the facts of the same rows.
macro_rules! engines {
    ($($(#[$doc:meta])* $engine:ident = $name:literal, $lane:ident, $sockets:ident, $threads:ident,
        offloads: $offloads:literal;)*) => {
        /// How lanes are run.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[derive(Serialize, Deserialize, JsonSchema)]
        #[serde(rename_all = "kebab-case")]
        pub enum Engine {
            $($(#[$doc])* $engine,)*
        }

        impl Engine {
            /// Every engine, in the order in which tables show them.
            pub const ALL: [Engine; [$(Engine::$engine),*].len()] = [$(Engine::$engine),*];

            pub const fn facts(self) -> EngineFacts {
                match self {
                    $(Engine::$engine => EngineFacts {
                        name: $name,
                        lane: LaneKind::$lane,
                        sockets: SocketKind::$sockets,
                        threads: LaneThreads::$threads,
                        offloads: $offloads,
                    },)*
                }
            }
        }
    };
}

engines! {
    /// One lane on one thread: the requests one after another.
    Sequential = "sequential", Single, Blocking, Own, offloads: false;
    /// One OS thread per lane, blocking sockets.
    Threads = "threads", Thread, Blocking, PerLane, offloads: false;
    /// One rayon job per request, blocking sockets.
    Rayon = "rayon", Job, Blocking, Pool, offloads: false;
    /// One task per lane on tokio's multi-thread runtime, a worker thread per CPU.
    Tokio = "tokio", Task, Epoll, PerCpu, offloads: true;
    /// One task per lane on tokio's current-thread runtime: concurrency without parallelism.
    TokioSingle = "tokio-single", Task, Epoll, Own, offloads: true;
    /// One task per lane on io_uring, a thread and a ring per CPU.
    Uring = "uring", Task, Ring, PerCpu, offloads: false;
}

impl Engine {
    /// What ratios are relative to unless a sweep says otherwise.
    pub(crate) const BASELINE: Engine = Engine::Threads;

    /// Those of a sweep that names none: every engine that runs on each Linux. Rings are forbidden in
    /// many containers.
    pub fn by_default() -> Vec<Engine> {
        Engine::ALL.into_iter().filter(|e| !e.has_ring()).collect()
    }

    /// The name in configs, records and tables.
    pub const fn name(self) -> &'static str {
        self.facts().name
    }

    /// Whether `lanes` means nothing to it, since it has one.
    pub fn has_one_lane(self) -> bool {
        self.facts().lane == LaneKind::Single
    }

    /// Whether lanes run on threads with stacks of the `stack_sizes` axis.
    pub(crate) fn sweeps_stacks(self) -> bool {
        matches!(self.facts().threads, LaneThreads::PerLane | LaneThreads::Pool)
    }

    /// Whether it has a pool whose size is the `rayon_threads` axis.
    pub(crate) fn has_pool(self) -> bool {
        self.facts().threads == LaneThreads::Pool
    }

    /// Whether its lanes are on rings: the axes `uring_receive`, `uring_batch` and `uring_linger`.
    pub fn has_ring(self) -> bool {
        self.facts().sockets == SocketKind::Ring
    }

    /// Whether file and compute steps can leave the lane: the `offload` axis.
    pub(crate) fn offloads(self) -> bool {
        self.facts().offloads
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_in_the_table_is_the_name_in_configs_and_records() {
        for engine in Engine::ALL {
            let written = serde_json::to_value(engine).expect("a name");
            assert_eq!(written, engine.name());
        }
    }

    /// What decides which cells a sweep has, by axis.
    #[test]
    fn every_axis_applies_to_the_engines_that_it_means_something_to() {
        let of = |applies: fn(Engine) -> bool| {
            Engine::ALL.into_iter().filter(|e| applies(*e)).map(Engine::name).collect::<Vec<_>>()
        };
        let many = ["threads", "rayon", "tokio", "tokio-single", "uring"];
        assert_eq!(of(|e| !e.has_one_lane()), many);
        assert_eq!(of(Engine::sweeps_stacks), ["threads", "rayon"]);
        assert_eq!(of(Engine::has_pool), ["rayon"]);
        assert_eq!(of(Engine::has_ring), ["uring"]);
        assert_eq!(of(Engine::offloads), ["tokio", "tokio-single"]);
    }
}
