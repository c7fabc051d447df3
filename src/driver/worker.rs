//! The driver's end of a worker: frames sent, frames awaited, the shared page mapped.

use std::fs::File;

use anyhow::anyhow;

use super::allocator;
use super::pipe::{NoLine, Piped};
use crate::plan::allocator::Allocator;
use crate::protocol::{Armed, Frame, FrameError, Job, Outcome, Ready};
use crate::side::Phase;
use crate::side::counters::{Counters, Counts};

pub(super) struct Worker {
    pipe: Piped,
    number: u32,
    counters: Option<Counters>,
}

impl Worker {
    pub(super) fn spawn(number: u32, swept: Option<&Allocator>) -> anyhow::Result<Self> {
        let environment = allocator::environment(swept)?;
        let pipe = Piped::spawn(&format!("worker {number}"), &["worker"], &environment)
            .map_err(|e| anyhow!("worker {number} could not be started: {e}"))?;
        Ok(Worker { pipe, number, counters: None })
    }

    pub(super) fn id(&self) -> u32 {
        self.pipe.id()
    }

    pub(super) fn spawned_at(&self) -> u64 {
        self.pipe.spawned_at
    }

    fn send(&mut self, frame: &Frame) -> anyhow::Result<()> {
        let stdin = self.pipe.stdin().map_err(FrameError::from);
        let sent = stdin.and_then(|stdin| frame.write_to(stdin));
        // A pipe breaks where the process behind it is gone, which says more.
        sent.map_err(|e| anyhow!("{}; {}: {e}", self.pipe.obituary(), frame.name()))
    }

    pub(super) fn job(&mut self, job: Job) -> anyhow::Result<()> {
        self.send(&Frame::Job(job))
    }

    pub(super) fn go(&mut self) -> anyhow::Result<()> {
        self.send(&Frame::Go)
    }

    pub(super) fn start(&mut self, at_ns: u64) -> anyhow::Result<()> {
        self.send(&Frame::Start { at_ns })
    }

    fn frame(&mut self, deadline: u64) -> Result<Frame, NoLine> {
        let line = self.pipe.line(deadline)?;
        Frame::parse(&line).map_err(|e| NoLine::Never(format!("worker {}: {e}", self.number)))
    }

    fn unexpected(&self, frame: &Frame, wanted: &str) -> NoLine {
        let came = frame.name();
        NoLine::Never(format!("worker {} sent {came} where {wanted} was due", self.number))
    }

    pub(super) fn ready(&mut self, deadline: u64) -> Result<Ready, NoLine> {
        match self.frame(deadline)? {
            Frame::Ready(ready) => {
                self.counters = self.map(&ready);
                Ok(ready)
            }
            other => Err(self.unexpected(&other, "ready")),
        }
    }

    /// Maps the shared page; without it there is no progress and no in-flight sample, but the
    /// trial itself needs neither.
    fn map(&self, ready: &Ready) -> Option<Counters> {
        let path = format!("/proc/{}/fd/{}", ready.pid, ready.counters_fd);
        let file = File::open(path).ok()?;
        Counters::open(file, ready.shards as usize).ok()
    }

    pub(super) fn armed(&mut self, deadline: u64) -> Result<Armed, NoLine> {
        match self.frame(deadline)? {
            Frame::Armed(armed) => Ok(armed),
            other => Err(self.unexpected(&other, "armed")),
        }
    }

    pub(super) fn outcome(&mut self, deadline: u64) -> Result<Outcome, NoLine> {
        match self.frame(deadline)? {
            Frame::Outcome(outcome) => Ok(outcome),
            other => Err(self.unexpected(&other, "outcome")),
        }
    }

    pub(super) fn stopped_ns(&mut self) -> u64 {
        self.pipe.stopped_ns()
    }

    pub(super) fn is_visible(&self) -> bool {
        self.counters.is_some()
    }

    /// The shared page, where it could be mapped.
    pub(super) fn counts(&self, phase: Phase) -> Option<Counts> {
        self.counters.as_ref().map(|c| c.read(phase))
    }

    /// Cancels: the worker counts what is in flight as timed out and answers.
    pub(super) fn cancel(&mut self) {
        self.pipe.close();
    }
}
