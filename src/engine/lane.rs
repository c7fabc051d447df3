//! A lane: one sequential executor of requests with one connection, blocking or async.
//!
//! [`BlockingLane`] and [`AsyncLane`] are twins: the same steps, with and without `.await`. What
//! the steps decide stands once, in [`Lane`].

use std::pin::{Pin, pin};
use std::time::Duration;

use super::claims::Chunk;
use super::link::Link;
use super::release::Shot;
use super::run::TrialRun;
use super::steps::{Done, RequestSteps};
use super::timer::{TaskSocket, bound, sleep};
use crate::codec::{BlockingConn, Conn, Failure, Reply};
use crate::side::{Ended, ErrorKind, Instants, Phase};
use crate::sys::now_ns;
use crate::work::Kit;

/// The result of an attempt to send a shot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Attempt {
    /// It was sent, or its connect failed: either way it is in the ledger.
    Made,
    /// The measured phase began before it could start: ask again.
    PhaseChanged,
    /// The plan's time is over: it was not started.
    Over,
}

/// The half of a lane that knows no socket.
pub(super) struct Lane {
    link: Link,
    phase: Phase,
    chunk: Chunk,
    served: u64,
    last_end: u64,
}

impl Lane {
    fn new(trial: &TrialRun, id: u32) -> Self {
        let phase = if trial.job.plan.warmup_ns > 0 { Phase::Warmup } else { Phase::Measured };
        let link = Link::new(trial, id);
        Lane { link, phase, chunk: Chunk::default(), served: 0, last_end: 0 }
    }

    /// The next request of a closed loop; `None` when all are claimed or the trial is stopped.
    fn claim(&mut self, trial: &TrialRun) -> Option<Shot> {
        if trial.is_cancelled() {
            return None;
        }
        let index = trial.claim(self.phase, &mut self.chunk)?;
        Some(Shot { index, phase: self.phase, release: None })
    }

    /// Whether a shot may start at `start`, and in which phase a closed loop's falls.
    fn admit(&mut self, trial: &TrialRun, shot: &Shot, start: u64) -> Result<(), Attempt> {
        let phases = trial.phases();
        if shot.release.is_some() {
            return if start > phases.cutoff { Err(Attempt::Over) } else { Ok(()) };
        }
        if start >= phases.window_end {
            return Err(Attempt::Over);
        }
        if shot.phase == Phase::Warmup && start >= phases.window_start {
            self.phase = Phase::Measured;
            return Err(Attempt::PhaseChanged);
        }
        Ok(())
    }

    fn started(&mut self, trial: &TrialRun, shot: &Shot, start: u64) {
        let window_end = trial.phases().window_end;
        trial.recorder.started(self.link.shard, shot.phase, start, window_end);
        if shot.phase == Phase::Measured {
            self.served += 1;
            if let Some(class) = trial.class(shot.index) {
                trial.recorder.class_started(self.link.shard, class);
            }
        }
    }

    /// Books how a shot ended with its class.
    fn class_ended(&self, trial: &TrialRun, shot: &Shot, how: Ended, at: Instants) {
        if let Some(class) = trial.class(shot.index).filter(|_| shot.phase == Phase::Measured) {
            trial.recorder.class_ended(self.link.shard, class, how, at);
        }
    }

    fn instants(shot: &Shot, start: u64, end: u64) -> Instants {
        match shot.release {
            Some(r) => Instants { intended: Some(r.intended), released: r.released, start, end },
            None => Instants { intended: None, released: start, start, end },
        }
    }

    /// Books how a shot ended, which is now; its request has `sent` bytes. Says whether the
    /// connection may be kept.
    fn settle(
        &mut self,
        trial: &TrialRun,
        shot: &Shot,
        start: u64,
        sent: usize,
        result: Result<Reply, Failure>,
    ) -> bool {
        let end = now_ns();
        let at = Self::instants(shot, start, end);
        let shard = self.link.shard;
        let window_end = trial.phases().window_end;
        self.last_end = end;
        // An answer that came after the timeout and before the timer is one that came too late,
        // under every engine.
        let late = end.saturating_sub(start) > trial.job.plan.timeout_ns;
        let result = if late && result.is_ok() { Err(Failure::TimedOut) } else { result };
        let (kind, message, keep) = match result {
            Ok(reply) => {
                self.link.answered(end);
                trial.recorder.answered(shard, shot.phase, reply.status);
                if trial.expects(reply.status) {
                    let bytes = (sent as u64, reply.received);
                    let first_byte = reply.first_byte.unwrap_or(end);
                    trial.recorder.completed(shard, shot.phase, at, first_byte, bytes, window_end);
                    self.class_ended(trial, shot, Ended::Completed, at);
                    return reply.keep;
                }
                (ErrorKind::Status, format!("status {}", reply.status), reply.keep)
            }
            Err(failure) => match self.link.failed(failure) {
                None => {
                    trial.recorder.timed_out(shard, shot.phase, at, window_end);
                    self.class_ended(trial, shot, Ended::TimedOut, at);
                    return false;
                }
                Some((kind, message)) => (kind, message, false),
            },
        };
        trial.recorder.failed(shard, shot.phase, at, kind, &message, window_end);
        self.class_ended(trial, shot, Ended::Failed, at);
        keep
    }

    /// Books a connect that failed with the request that needed it.
    fn connect_failed(&mut self, trial: &TrialRun, shot: &Shot, begun: u64, failure: Failure) {
        self.started(trial, shot, begun);
        // A connect that takes too long is a connect error: the timeout bounds requests.
        let failure = match failure {
            Failure::TimedOut => Failure::new(ErrorKind::Connect, "connect timed out"),
            other => other,
        };
        self.settle(trial, shot, begun, 0, Err(failure));
    }

    /// How long to wait before the next connect, no longer than the plan goes on.
    fn pause(&self, trial: &TrialRun, shot: &Shot) -> Option<Duration> {
        let phases = trial.phases();
        let end = if shot.release.is_some() { phases.cutoff } else { phases.window_end };
        let left = Duration::from_nanos(end.saturating_sub(self.last_end));
        self.link.pause().map(|pause| pause.min(left))
    }

    fn ended(&self, trial: &TrialRun) {
        trial.recorder.lane_ended(self.served, self.last_end);
    }
}

/// A lane on a blocking socket: a thread, or a slot of the pool.
pub(super) struct BlockingLane {
    lane: Lane,
    connection: Option<BlockingConn>,
    /// Of plans with steps alone.
    kit: Option<Box<Kit>>,
}

impl BlockingLane {
    pub(super) fn new(trial: &TrialRun, id: u32) -> Self {
        BlockingLane { lane: Lane::new(trial, id), connection: None, kit: trial.kit() }
    }

    /// Connects at set-up and tells the monitor; a refusal is tried again with the first request.
    pub(super) fn connect_first(&mut self, trial: &TrialRun) {
        match self.lane.link.connect(trial, None) {
            Ok(connection) => {
                self.connection = Some(connection);
                trial.progress.connected();
            }
            Err(_) => trial.progress.refused(),
        }
    }

    /// Runs a closed loop until the plan is done.
    pub(super) fn run_closed(&mut self, trial: &TrialRun) {
        while self.step_closed(trial) {}
    }

    /// One request of a closed loop; `false` when there is none left.
    pub(super) fn step_closed(&mut self, trial: &TrialRun) -> bool {
        match self.lane.claim(trial) {
            Some(shot) => self.serve(trial, &shot) != Attempt::Over,
            None => false,
        }
    }

    /// Sends one request and reads its response.
    pub(super) fn serve(&mut self, trial: &TrialRun, shot: &Shot) -> Attempt {
        if shot.release.is_some_and(|release| self.lane.link.was_idle(release.released)) {
            self.lane.link.look(&mut self.connection);
        }
        let request = trial.request(shot.index);
        let start = loop {
            if self.connection.is_none() {
                let begun = now_ns();
                if let Err(attempt) = self.lane.admit(trial, shot, begun) {
                    return attempt;
                }
                match self.lane.link.connect(trial, Some(shot.phase)) {
                    Ok(connection) => self.connection = Some(connection),
                    Err(failure) => {
                        self.lane.connect_failed(trial, shot, begun, failure);
                        if let Some(pause) = self.lane.pause(trial, shot) {
                            std::thread::sleep(pause);
                        }
                        return Attempt::Made;
                    }
                }
            }
            self.connection.as_mut().expect("connected above").prepare(request);
            if let Some(release) = &shot.release {
                trial.handover.hold(release, shot.phase);
            }
            let start = now_ns();
            if !self.lane.link.was_idle(start) {
                break start;
            }
            self.lane.link.look(&mut self.connection);
        };
        if let Err(attempt) = self.lane.admit(trial, shot, start) {
            return attempt;
        }
        self.lane.started(trial, shot, start);
        let connection = self.connection.as_mut().expect("connected above");
        let done = match (trial.steps(request), &mut self.kit) {
            (Some(work), Some(kit)) => {
                let steps = RequestSteps::new(trial, work, &mut self.lane.link, shot, start);
                steps.run_blocking(kit, connection, request)
            }
            _ => Done::of(connection.exchange(request, start + trial.job.plan.timeout_ns)),
        };
        let sent = request.bytes.len();
        if !self.lane.settle(trial, shot, start, sent, done.result) && !done.usable {
            self.connection = None;
            if let Some(pause) = self.lane.pause(trial, shot) {
                std::thread::sleep(pause);
            }
        }
        Attempt::Made
    }

    /// Books the lane's end.
    pub(super) fn ended(&self, trial: &TrialRun) {
        self.lane.ended(trial);
        trial.progress.lane_ended();
    }
}

/// A lane on an async socket: a task.
pub(super) struct AsyncLane<S: TaskSocket> {
    lane: Lane,
    connection: Option<Conn<S>>,
    /// Of plans with steps alone.
    kit: Option<Box<Kit>>,
}

impl<S: TaskSocket> AsyncLane<S> {
    pub(super) fn new(trial: &TrialRun, id: u32) -> Self {
        AsyncLane { lane: Lane::new(trial, id), connection: None, kit: trial.kit() }
    }

    /// Connects at set-up and tells the monitor; a refusal is tried again with the first request.
    pub(super) async fn connect_first(&mut self, trial: &TrialRun) {
        match self.lane.link.connect_async(trial, None).await {
            Ok(connection) => {
                self.connection = Some(connection);
                trial.progress.connected();
            }
            Err(_) => trial.progress.refused(),
        }
    }

    /// Runs a closed loop until the plan is done; the timer is an armed one.
    ///
    /// No `async fn`, nor is what it calls: one would hold its arguments twice, in every lane.
    #[allow(clippy::manual_async_fn)]
    pub(super) fn run_closed(
        &mut self,
        trial: &TrialRun,
        mut timer: Pin<&mut S::Timer>,
    ) -> impl Future<Output = ()> {
        async move {
            while let Some(shot) = self.lane.claim(trial) {
                if self.serve(trial, &shot, timer.as_mut()).await == Attempt::Over {
                    break;
                }
            }
        }
    }

    /// Sends one request and reads its response.
    #[allow(clippy::manual_async_fn)]
    pub(super) fn serve(
        &mut self,
        trial: &TrialRun,
        shot: &Shot,
        timer: Pin<&mut S::Timer>,
    ) -> impl Future<Output = Attempt> {
        async move {
            if shot.release.is_some_and(|release| self.lane.link.was_idle(release.released)) {
                self.lane.link.look(&mut self.connection);
            }
            let request = trial.request(shot.index);
            let start = loop {
                if self.connection.is_none() {
                    let begun = now_ns();
                    if let Err(attempt) = self.lane.admit(trial, shot, begun) {
                        return attempt;
                    }
                    match self.lane.link.connect_async(trial, Some(shot.phase)).await {
                        Ok(connection) => self.connection = Some(connection),
                        Err(failure) => {
                            self.lane.connect_failed(trial, shot, begun, failure);
                            if let Some(pause) = self.lane.pause(trial, shot) {
                                Box::pin(sleep::<S::Timer>(pause)).await;
                            }
                            return Attempt::Made;
                        }
                    }
                }
                self.connection.as_mut().expect("connected above").prepare(request);
                if let Some(release) = &shot.release {
                    trial.handover.hold(release, shot.phase);
                }
                let start = now_ns();
                if !self.lane.link.was_idle(start) {
                    break start;
                }
                self.lane.link.look(&mut self.connection);
            };
            if let Err(attempt) = self.lane.admit(trial, shot, start) {
                return attempt;
            }
            self.lane.started(trial, shot, start);
            let connection = self.connection.as_mut().expect("connected above");
            let done = match trial.steps(request) {
                Some(work) => {
                    let steps = RequestSteps::new(trial, work, &mut self.lane.link, shot, start);
                    // Boxed, so that lanes of plans without steps do not carry it.
                    Box::pin(steps.run_async(&mut self.kit, connection, request, timer)).await
                }
                None => {
                    let deadline = start + trial.job.plan.timeout_ns;
                    let mut exchange = pin!(connection.exchange_async(request));
                    Done::of(bound(timer, deadline, exchange.as_mut()).await)
                }
            };
            let sent = request.bytes.len();
            if !self.lane.settle(trial, shot, start, sent, done.result) && !done.usable {
                self.connection = None;
                if let Some(pause) = self.lane.pause(trial, shot) {
                    Box::pin(sleep::<S::Timer>(pause)).await;
                }
            }
            Attempt::Made
        }
    }

    /// Books the lane's end.
    pub(super) fn ended(&self, trial: &TrialRun) {
        self.lane.ended(trial);
        trial.progress.lane_ended();
    }
}

#[cfg(test)]
mod tests {
    use super::super::reactor::RingSocket;
    use super::*;

    fn state<A, B, C, F>(_: fn(A, B, C) -> F) -> usize {
        size_of::<F>()
    }

    /// All of it stays in memory for each request in flight, and most of it is touched for each.
    #[test]
    fn a_waiting_lane_is_small() {
        fn check<S: TaskSocket>() {
            let bytes = state::<&'static mut AsyncLane<S>, &TrialRun, Pin<&mut S::Timer>, _>(
                AsyncLane::run_closed,
            );
            assert!(bytes <= 448, "a lane's request loop holds {bytes} bytes while it waits");
        }
        check::<tokio::net::TcpStream>();
        check::<RingSocket>();
    }
}
