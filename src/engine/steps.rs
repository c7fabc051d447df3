//! Requests with steps: the exchange in its place among file and compute steps.
//!
//! [`RequestSteps::run_blocking`] and [`RequestSteps::run_async`] are twins, as the lanes are; what each step
//! comes to stands once. Lanes of plans without steps never come here.
//!
//! A step of a file or of computing is carried out whole: nothing can interrupt it, under any
//! engine, and `timeout` is looked at when it is over.

use std::pin::{Pin, pin};

use super::link::Link;
use super::release::Shot;
use super::run::TrialRun;
use super::timer::{TaskSocket, bound};
use crate::codec::{BlockingConn, Conn, Failure, Reply};
use crate::plan::request::Rendered;
use crate::side::{Channel, ErrorKind, Phase};
use crate::sys::now_ns;
use crate::work::{Act, Kit, StepAt, Work};

pub(super) struct Done {
    pub(super) result: Result<Reply, Failure>,
    /// A step failed and the connection is still usable.
    pub(super) usable: bool,
}

impl Done {
    /// A request without steps.
    pub(super) fn of(result: Result<Reply, Failure>) -> Self {
        Done { result, usable: false }
    }
}

pub(super) struct RequestSteps<'t> {
    trial: &'t TrialRun,
    work: &'t Work,
    link: &'t mut Link,
    phase: Phase,
    step: StepAt,
    deadline: u64,
    /// When the step under way began: the end of the one before it.
    begun: u64,
    reply: Option<Reply>,
    failure: Option<Failure>,
    /// The exchange failed, and with it the connection.
    broken: bool,
}

impl<'t> RequestSteps<'t> {
    pub(super) fn new(
        trial: &'t TrialRun,
        work: &'t Work,
        link: &'t mut Link,
        shot: &Shot,
        start: u64,
    ) -> Self {
        let template = trial.request(shot.index).template as usize;
        RequestSteps {
            trial,
            work,
            link,
            phase: shot.phase,
            step: StepAt { template, number: 0, index: shot.index },
            deadline: start + trial.job.plan.timeout_ns,
            begun: start,
            reply: None,
            failure: None,
            broken: false,
        }
    }

    /// The step under way; `None` when all are done or one has failed.
    fn act(&self) -> Option<&'t Act> {
        self.work.acts(self.step.template).get(self.step.number).filter(|_| self.failure.is_none())
    }

    /// Whether there is time left for the exchange.
    fn may_exchange(&mut self) -> bool {
        let in_time = self.begun < self.deadline;
        if !in_time {
            self.failure = Some(Failure::TimedOut);
        }
        in_time
    }

    fn ended(&mut self, channel: Channel) -> u64 {
        let now = now_ns();
        self.trial.recorder.step(self.link.shard(), self.phase, channel, now - self.begun);
        self.begun = now;
        now
    }

    fn exchanged(&mut self, result: Result<Reply, Failure>) {
        match result {
            Ok(reply) if self.trial.expects(reply.status) => {
                let now = self.ended(Channel::HttpStep);
                self.reply = Some(Reply { first_byte: reply.first_byte.or(Some(now)), ..reply });
            }
            Ok(reply) => {
                self.trial.recorder.answered(self.link.shard(), self.phase, reply.status);
                let message = format!("status {}", reply.status);
                self.broken = !reply.keep;
                self.failure = Some(Failure::new(ErrorKind::Status, message));
            }
            Err(failure) => {
                if failure == Failure::TimedOut {
                    self.ended(Channel::HttpStep);
                }
                self.broken = true;
                self.failure = Some(failure);
            }
        }
    }

    fn performed(&mut self, act: &Act, result: anyhow::Result<()>) {
        match result {
            Ok(()) => {
                let compute = matches!(act, Act::Compute(_));
                self.ended(if compute { Channel::ComputeStep } else { Channel::FileStep });
            }
            Err(why) => {
                let message = format!("{why:#}");
                self.failure = Some(Failure::new(ErrorKind::File, message));
            }
        }
    }

    fn done(self) -> Done {
        let keep = !self.broken && self.reply.as_ref().is_none_or(|reply| reply.keep);
        match (self.failure, self.reply) {
            (Some(failure), _) => Done { result: Err(failure), usable: keep },
            (None, Some(reply)) => Done { result: Ok(reply), usable: false },
            // A list of steps that holds no exchange is refused with the config.
            (None, None) => Done {
                result: Err(Failure::new(ErrorKind::Protocol, "no step sends the request")),
                usable: keep,
            },
        }
    }

    /// The exchange, on a new connection where the steps before it took so long that the target has
    /// closed the old one.
    fn exchange(
        &mut self,
        connection: &mut BlockingConn,
        request: &Rendered,
    ) -> Result<Reply, Failure> {
        if self.link.is_lost(self.begun, connection) {
            *connection = self.link.connect(self.trial, Some(self.phase))?;
            connection.prepare(request);
        }
        connection.exchange(request, self.deadline)
    }

    /// As [`RequestSteps::exchange`], for a task; the caller bounds the time.
    async fn exchange_async<S: TaskSocket>(
        &mut self,
        connection: &mut Conn<S>,
        request: &Rendered,
    ) -> Result<Reply, Failure> {
        if self.link.is_lost(self.begun, connection) {
            *connection = self.link.connect_async(self.trial, Some(self.phase)).await?;
            connection.prepare(request);
        }
        connection.exchange_async(request).await
    }

    /// Carries out the steps on the lane's own thread.
    pub(super) fn run_blocking(
        mut self,
        kit: &mut Kit,
        connection: &mut BlockingConn,
        request: &Rendered,
    ) -> Done {
        while let Some(act) = self.act() {
            if let Act::Http = act {
                if self.may_exchange() {
                    let result = self.exchange(connection, request);
                    self.exchanged(result);
                }
            } else {
                let result = kit.perform(self.step);
                self.performed(act, result);
            }
            self.step.number += 1;
        }
        self.done()
    }

    pub(super) async fn run_async<S: TaskSocket>(
        mut self,
        kit: &mut Option<Box<Kit>>,
        connection: &mut Conn<S>,
        request: &Rendered,
        mut timer: Pin<&mut S::Timer>,
    ) -> Done {
        while let Some(act) = self.act() {
            if let Act::Http = act {
                if self.may_exchange() {
                    let deadline = self.deadline;
                    let result = {
                        let mut exchange = pin!(self.exchange_async(connection, request));
                        bound(timer.as_mut(), deadline, exchange.as_mut()).await
                    };
                    self.exchanged(result);
                }
            } else {
                let result = self.trial.task_threads.perform(kit, self.step).await;
                self.performed(act, result);
            }
            self.step.number += 1;
        }
        self.done()
    }
}
