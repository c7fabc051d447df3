//! Requests with steps: the exchange in its place among file and compute steps.
//!
//! [`blocking`] and [`asynchronous`] are twins, as the lanes are; what each step comes to stands
//! once, in [`Course`]. Lanes of plans without steps never come here.
//!
//! A step of a file or of computing is carried out whole: nothing can interrupt it, under any
//! engine, and `timeout` is looked at when it is over.

use std::pin::{Pin, pin};

use super::lane::{Timer, bound};
use super::{Shot, Trial, offload};
use crate::codec::{AsyncConn, BlockingConn, Failure, Reply};
use crate::plan::request::Rendered;
use crate::side::{Channel, ErrorKind, Phase};
use crate::sys::now_ns;
use crate::work::{Act, Kit, Work};

/// What came of a request with steps.
pub(super) struct Done {
    pub(super) result: Result<Reply, Failure>,
    /// A step failed and the connection is none the worse.
    pub(super) usable: bool,
}

/// One request on its way through its steps.
struct Course<'t> {
    trial: &'t Trial,
    shard: usize,
    phase: Phase,
    index: u64,
    template: usize,
    deadline: u64,
    /// When the step under way began: the end of the one before it.
    begun: u64,
    reply: Option<Reply>,
    failure: Option<Failure>,
    /// The exchange failed, and with it the connection.
    broken: bool,
}

impl<'t> Course<'t> {
    fn new(trial: &'t Trial, shard: usize, shot: &Shot, request: &Rendered, start: u64) -> Self {
        Course {
            trial,
            shard,
            phase: shot.phase,
            index: shot.index,
            template: request.template as usize,
            deadline: start + trial.job.plan.timeout_ns,
            begun: start,
            reply: None,
            failure: None,
            broken: false,
        }
    }

    fn act<'w>(&self, work: &'w Work, number: usize) -> Option<&'w Act> {
        work.acts(self.template).get(number).filter(|_| self.failure.is_none())
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
        self.trial.recorder.step(self.shard, self.phase, channel, now - self.begun);
        self.begun = now;
        now
    }

    /// Books the exchange.
    fn exchanged(&mut self, result: Result<Reply, Failure>) {
        match result {
            Ok(reply) if self.trial.expects(reply.status) => {
                let now = self.ended(Channel::HttpStep);
                self.reply = Some(Reply { first_byte: reply.first_byte.or(Some(now)), ..reply });
            }
            Ok(reply) => {
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

    /// Books a step that was carried out by the lane's own means.
    fn performed(&mut self, act: &Act, result: Result<(), String>) {
        match result {
            Ok(()) => {
                let compute = matches!(act, Act::Compute(_));
                self.ended(if compute { Channel::ComputeStep } else { Channel::FileStep });
            }
            Err(why) => self.failure = Some(Failure::new(ErrorKind::File, why)),
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
}

/// Carries out a request's steps on the lane's own thread.
pub(super) fn blocking(
    trial: &Trial,
    (shard, shot, start): (usize, &Shot, u64),
    kit: &mut Kit,
    connection: &mut BlockingConn,
    request: &Rendered,
) -> Done {
    let mut course = Course::new(trial, shard, shot, request, start);
    let Some(work) = trial.work() else { return course.done() };
    let mut number = 0;
    while let Some(act) = course.act(work, number) {
        if let Act::Http = act {
            if course.may_exchange() {
                let result = connection.exchange(request, course.deadline);
                course.exchanged(result);
            }
        } else {
            let result = kit.perform(course.template, number, course.index);
            course.performed(act, result);
        }
        number += 1;
    }
    course.done()
}

/// Carries out a request's steps for a task.
pub(super) async fn asynchronous(
    trial: &Trial,
    (shard, shot, start): (usize, &Shot, u64),
    kit: &mut Option<Box<Kit>>,
    connection: &mut AsyncConn,
    request: &Rendered,
    mut timer: Pin<&mut Timer>,
) -> Done {
    let mut course = Course::new(trial, shard, shot, request, start);
    let Some(work) = trial.work() else { return course.done() };
    let mut number = 0;
    while let Some(act) = course.act(work, number) {
        if let Act::Http = act {
            if course.may_exchange() {
                let deadline = course.deadline;
                let mut exchange = pin!(connection.exchange(request));
                let result = bound(timer.as_mut(), deadline, exchange.as_mut()).await;
                course.exchanged(result);
            }
        } else {
            let step = (course.template, number);
            let result = offload::perform(trial, kit, step, course.index).await;
            course.performed(act, result);
        }
        number += 1;
    }
    course.done()
}
