//! The engines, and what is true of each: the one table that limits, reports and configs ask.
//!
//! A new engine is a row here and a file under `engine/` with its line in `engine::run`.

use LaneKind::{Job, Single, Task, Thread};
use LaneThreads::{Own, PerCpu, PerLane, Pool};
use SocketKind::{Blocking, Epoll, Ring};

/// What the scheduler of an engine sees of a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LaneKind {
    /// The engine's only thread runs the only lane, whatever `lanes` says.
    Single,
    Thread,
    Job,
    Task,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SocketKind {
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
    PerLane,
    /// A pool: one for each lane, or the number of the `rayon_threads` axis.
    Pool,
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
    pub lane: LaneKind,
    pub sockets: SocketKind,
    pub threads: LaneThreads,
    pub offloads: bool,
}

super::engines! {
    /// How lanes are run.
    #[derive(Default)]
    pub enum Engine: EngineFacts {
        /// One lane on one thread: the requests one after another.
        Sequential = "sequential" { lane: Single, sockets: Blocking, threads: Own, offloads: false },
        /// One OS thread per lane, blocking sockets.
        #[default]
        Threads = "threads" { lane: Thread, sockets: Blocking, threads: PerLane, offloads: false },
        /// One rayon job per request, blocking sockets.
        Rayon = "rayon" { lane: Job, sockets: Blocking, threads: Pool, offloads: false },
        /// One task per lane on tokio's multi-thread runtime, a worker thread per CPU.
        Tokio = "tokio" { lane: Task, sockets: Epoll, threads: PerCpu, offloads: true },
        /// One task per lane on tokio's current-thread runtime: concurrency without parallelism.
        TokioSingle = "tokio-single" { lane: Task, sockets: Epoll, threads: Own, offloads: true },
        /// One task per lane on io_uring, a thread and a ring per CPU.
        Uring = "uring" { lane: Task, sockets: Ring, threads: PerCpu, offloads: false },
    }
}

impl Engine {
    /// What ratios are relative to unless a sweep says otherwise.
    pub(crate) const BASELINE: Engine = Engine::Threads;

    /// Those of a sweep that names none: every engine that runs on each Linux. Rings are forbidden in
    /// many containers.
    pub fn by_default() -> Vec<Engine> {
        Engine::ALL.into_iter().filter(|e| !e.has_ring()).collect()
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
