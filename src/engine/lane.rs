//! A lane: one sequential executor of requests with one connection, blocking or async.
//!
//! [`BlockingLane`] and [`AsyncLane`] are one type on two kinds of socket. Only what waits has a twin,
//! with `.await`: connecting, the exchange and pauses. What a lane decides stands once.

use std::pin::{Pin, pin};
use std::time::Duration;

use super::claims::Chunk;
use super::link::Link;
use super::release::{ReleaseSource, Shot};
use super::run::TrialRun;
use super::steps::{Done, RequestSteps};
use super::timer::{LaneTimer, TaskSocket, arm, bound, sleep};
use crate::codec::socket::BlockingSocket;
use crate::codec::stream::Socket;
use crate::codec::{Conn, Failure, Reply};
use crate::plan::request::Rendered;
use crate::side::{Ended, ErrorKind, Instants, Phase};
use crate::sys::now_ns;
use crate::work::Kit;

/// Why a shot was not sent. One whose connect failed counts as sent: it is in the ledger.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NotSent {
    /// The measured phase began before it could start: ask again.
    PhaseChanged,
    /// The plan's time is over.
    Over,
}

/// The half of a lane that knows no socket.
pub(super) struct Lane {
    link: Link,
    phase: Phase,
    chunk: Chunk,
    served: u64,
    last_end: u64,
    /// The last request ended just now, so that its end is the next one's start.
    goes_on: bool,
}

impl Lane {
    fn new(trial: &TrialRun, id: u32) -> Self {
        let phase = if trial.job.plan.warmup_ns > 0 { Phase::Warmup } else { Phase::Measured };
        let link = Link::new(trial, id);
        Lane { link, phase, chunk: Chunk::default(), served: 0, last_end: 0, goes_on: false }
    }

    /// When a request starts whose connection is ready: now, without a look at the clock where the last
    /// one of a closed loop ended just before and nothing was `prepared` since.
    #[inline]
    fn start(&mut self, shot: &Shot, prepared: bool) -> u64 {
        let goes_on = std::mem::take(&mut self.goes_on) && shot.release.is_none() && !prepared;
        if goes_on { self.last_end } else { now_ns() }
    }

    /// The next request of a closed loop; `None` when all are claimed or the trial is stopped.
    #[inline]
    fn claim(&mut self, trial: &TrialRun) -> Option<Shot> {
        if trial.is_cancelled() {
            return None;
        }
        let index = trial.claim(self.phase, &mut self.chunk)?;
        Some(Shot { index, phase: self.phase, release: None })
    }

    /// Whether a shot may start at `start`, and in which phase a closed loop's falls.
    #[inline]
    fn admit(&mut self, trial: &TrialRun, shot: &Shot, start: u64) -> Result<(), NotSent> {
        let phases = trial.phases();
        if shot.release.is_some() {
            return if start > phases.cutoff { Err(NotSent::Over) } else { Ok(()) };
        }
        if start >= phases.window_end {
            return Err(NotSent::Over);
        }
        if shot.phase == Phase::Warmup && start >= phases.window_start {
            self.phase = Phase::Measured;
            return Err(NotSent::PhaseChanged);
        }
        Ok(())
    }

    #[inline]
    fn started(&mut self, trial: &TrialRun, shot: &Shot, start: u64) {
        let window_end = trial.phases().window_end;
        trial.recorder.started(self.link.shard(), shot.phase, start, window_end);
        if shot.phase == Phase::Measured {
            self.served += 1;
            if let Some(class) = trial.class(shot.index) {
                trial.recorder.class_started(self.link.shard(), class);
            }
        }
    }

    /// Books how a shot ended with its class.
    #[inline]
    fn class_ended(&self, trial: &TrialRun, shot: &Shot, how: Ended, at: Instants) {
        if let Some(class) = trial.class(shot.index).filter(|_| shot.phase == Phase::Measured) {
            trial.recorder.class_ended(self.link.shard(), class, how, at);
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
        let shard = self.link.shard();
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

    /// Books a connect that failed with the request that needed it; returns how long to wait.
    fn connect_failed(
        &mut self,
        trial: &TrialRun,
        shot: &Shot,
        begun: u64,
        failure: Failure,
    ) -> Option<Duration> {
        self.started(trial, shot, begun);
        // A connect that takes too long is a connect error: the timeout bounds requests.
        let failure = match failure {
            Failure::TimedOut => Failure::new(ErrorKind::Connect, "connect timed out"),
            other => other,
        };
        self.settle(trial, shot, begun, 0, Err(failure));
        self.pause(trial, shot)
    }

    /// How long to wait before the next connect, no longer than the plan goes on.
    fn pause(&self, trial: &TrialRun, shot: &Shot) -> Option<Duration> {
        let phases = trial.phases();
        let end = if shot.release.is_some() { phases.cutoff } else { phases.window_end };
        let left = Duration::from_nanos(end.saturating_sub(self.last_end));
        self.link.pause().map(|pause| pause.min(left))
    }
}

/// What a lane does next for a shot, and since when.
enum LaneStep {
    Connect(u64),
    /// The request is booked as started.
    Send(u64),
}

pub(super) struct ConnectedLane<S: Socket> {
    lane: Lane,
    connection: Option<Conn<S>>,
    /// Of plans with steps alone.
    kit: Option<Box<Kit>>,
}

/// A lane on a blocking socket: a thread, or a slot of the pool.
pub(super) type BlockingLane = ConnectedLane<BlockingSocket>;
pub(super) type AsyncLane<S> = ConnectedLane<S>;

impl<S: Socket + 'static> ConnectedLane<S> {
    pub(super) fn new(trial: &TrialRun, id: u32) -> Self {
        ConnectedLane { lane: Lane::new(trial, id), connection: None, kit: trial.kit() }
    }

    /// Keeps the connection of set-up and tells the monitor.
    fn set_up(&mut self, trial: &TrialRun, made: Result<Conn<S>, Failure>) {
        self.connection = made.ok();
        trial.progress.settled(self.connection.is_some());
    }

    /// Prepares the request on a connection that still stands, waits for its intended start and
    /// starts it.
    #[inline]
    fn next(
        &mut self,
        trial: &TrialRun,
        shot: &Shot,
        request: &Rendered,
    ) -> Result<LaneStep, NotSent> {
        let ConnectedLane { lane, connection, .. } = self;
        if shot.release.is_some_and(|release| lane.link.was_idle(release.released)) {
            lane.link.look(connection);
        }
        loop {
            let Some(open) = connection else {
                let begun = now_ns();
                return lane.admit(trial, shot, begun).map(|()| LaneStep::Connect(begun));
            };
            let prepared = open.prepare(request);
            if let Some(release) = &shot.release {
                trial.handover.hold(release, shot.phase);
            }
            let start = lane.start(shot, prepared);
            if !lane.link.was_idle(start) {
                lane.admit(trial, shot, start)?;
                lane.started(trial, shot, start);
                return Ok(LaneStep::Send(start));
            }
            lane.link.look(connection);
        }
    }

    /// Books how a request ended and gives up a connection of no further use; returns how long to
    /// wait before the next connect.
    #[inline]
    fn finish(
        &mut self,
        trial: &TrialRun,
        shot: &Shot,
        (start, sent): (u64, usize),
        done: Done,
    ) -> Option<Duration> {
        if self.lane.settle(trial, shot, start, sent, done.result) {
            self.lane.goes_on = true;
            return None;
        }
        if done.usable {
            return None;
        }
        self.connection = None;
        self.lane.pause(trial, shot)
    }

    pub(super) fn ended(&self, trial: &TrialRun) {
        trial.recorder.lane_ended(self.lane.served, self.lane.last_end);
        trial.progress.lane_ended();
    }
}

impl BlockingLane {
    pub(super) fn connect_first(&mut self, trial: &TrialRun) {
        let made = self.lane.link.connect(trial, None);
        self.set_up(trial, made);
    }

    pub(super) fn run_closed(&mut self, trial: &TrialRun) {
        while self.step(trial) {}
    }

    /// One request of a closed loop, some time after the one before; `false` when there is none left.
    pub(super) fn step_closed(&mut self, trial: &TrialRun) -> bool {
        self.lane.goes_on = false;
        self.step(trial)
    }

    fn step(&mut self, trial: &TrialRun) -> bool {
        let shot = self.lane.claim(trial);
        shot.is_some_and(|shot| self.serve(trial, &shot) != Err(NotSent::Over))
    }

    pub(super) fn serve(&mut self, trial: &TrialRun, shot: &Shot) -> Result<(), NotSent> {
        let request = trial.request(shot.index);
        let pause = loop {
            let start = match self.next(trial, shot, request)? {
                LaneStep::Send(start) => start,
                LaneStep::Connect(begun) => match self.lane.link.connect(trial, Some(shot.phase)) {
                    Ok(connection) => {
                        self.connection = Some(connection);
                        continue;
                    }
                    Err(failure) => break self.lane.connect_failed(trial, shot, begun, failure),
                },
            };
            let connection = self.connection.as_mut().expect("started on it");
            let done = match (trial.steps(request), &mut self.kit) {
                (Some(work), Some(kit)) => {
                    let steps = RequestSteps::new(trial, work, &mut self.lane.link, shot, start);
                    steps.run_blocking(kit, connection, request)
                }
                _ => Done::of(connection.exchange(request, start + trial.job.plan.timeout_ns)),
            };
            break self.finish(trial, shot, (start, request.bytes.len()), done);
        };
        if let Some(pause) = pause {
            std::thread::sleep(pause);
        }
        Ok(())
    }
}

impl<S: TaskSocket> AsyncLane<S> {
    pub(super) async fn connect_first(&mut self, trial: &TrialRun) {
        let made = self.lane.link.connect_async(trial, None).await;
        self.set_up(trial, made);
    }

    /// Runs a closed loop until the plan is done, or an open one until there are no more releases.
    #[expect(clippy::manual_async_fn, reason = "its arguments would be held twice, in every lane")]
    pub(super) fn run(
        &mut self,
        trial: &TrialRun,
        releases: &impl ReleaseSource,
    ) -> impl Future<Output = ()> {
        async move {
            let mut timer = pin!(S::Timer::after(trial.timeout()));
            arm(timer.as_mut()).await;
            let is_open = trial.is_open_loop();
            while let Some(shot) =
                if is_open { releases.next().await } else { self.lane.claim(trial) }
                    .filter(|_| !trial.is_cancelled())
            {
                if self.serve(trial, &shot, timer.as_mut()).await == Err(NotSent::Over) {
                    break;
                }
            }
            self.ended(trial);
        }
    }

    #[expect(clippy::manual_async_fn, reason = "its arguments would be held twice, in every lane")]
    pub(super) fn serve(
        &mut self,
        trial: &TrialRun,
        shot: &Shot,
        timer: Pin<&mut S::Timer>,
    ) -> impl Future<Output = Result<(), NotSent>> {
        async move {
            let request = trial.request(shot.index);
            let pause = loop {
                let start = match self.next(trial, shot, request)? {
                    LaneStep::Send(start) => start,
                    LaneStep::Connect(begun) => {
                        match self.lane.link.connect_async(trial, Some(shot.phase)).await {
                            Ok(connection) => {
                                self.connection = Some(connection);
                                continue;
                            }
                            Err(failure) => {
                                break self.lane.connect_failed(trial, shot, begun, failure);
                            }
                        }
                    }
                };
                let connection = self.connection.as_mut().expect("started on it");
                let done = match trial.steps(request) {
                    Some(work) => {
                        let steps =
                            RequestSteps::new(trial, work, &mut self.lane.link, shot, start);
                        // Boxed, so that lanes of plans without steps do not carry it.
                        Box::pin(steps.run_async(&mut self.kit, connection, request, timer)).await
                    }
                    None => {
                        let deadline = start + trial.job.plan.timeout_ns;
                        let mut exchange = pin!(connection.exchange_async(request));
                        Done::of(bound(timer, deadline, exchange.as_mut()).await)
                    }
                };
                break self.finish(trial, shot, (start, request.bytes.len()), done);
            };
            if let Some(pause) = pause {
                Box::pin(sleep::<S::Timer>(pause)).await;
            }
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::reactor::RingSocket;
    use super::super::release::Releases;
    use super::*;

    fn state<A, B, C, F>(_: fn(A, B, C) -> F) -> usize {
        size_of::<F>()
    }

    /// All of it stays in memory for each request in flight, and most of it is touched for each.
    #[test]
    fn a_waiting_lane_is_small() {
        fn check<S: TaskSocket>() {
            let bytes =
                state::<&'static mut AsyncLane<S>, &TrialRun, &Releases, _>(AsyncLane::<S>::run);
            let most = 280 + size_of::<S::Timer>();
            assert!(bytes <= most, "a lane's request loop holds {bytes} bytes while it waits");
        }
        check::<tokio::net::TcpStream>();
        check::<RingSocket>();
    }
}
