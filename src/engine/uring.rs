//! One task per lane on io_uring: a thread with a ring for each CPU of the worker.
//!
//! The threads block and the tasks of tokio wait for readiness; here the kernel is told what to do,
//! and says when it is done. A turn submits what all lanes asked for and waits, in one call.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::thread;

use anyhow::Context as _;

use super::heartbeat::Ticks;
use super::lane::AsyncLane;
use super::progress::MOST_CONNECTING;
use super::reactor::{Reactor, RingSocket};
use super::release::{ReleaseSource, Shot};
use super::ring_pacing::{NextDue, RingPacer, SharedSchedule, WaitCosts};
use super::rings::Manner;
use super::run::TrialRun;
use super::tasks::Tasks;
use crate::plan::engine::Receive;
use crate::sys::now_ns;

/// How often a thread looks whether the trial was stopped.
const LOOK_NS: u64 = 50_000_000;

pub(super) fn run(trial: &Arc<TrialRun>) -> anyhow::Result<()> {
    let lanes = trial.job.cell.lanes;
    trial.progress.expect(lanes);
    let rings = (trial.job.cpus.len() as u32).clamp(1, lanes.max(1));
    let schedule = Arc::<SharedSchedule>::default();
    for first in 1..rings {
        let (ring_trial, schedule) = (trial.clone(), schedule.clone());
        let run = move || {
            if let Err(error) = run_ring(&ring_trial, (first, rings), &schedule) {
                ring_trial.progress.fail(format!("{error:#}"));
            }
            ring_trial.exit_gate.wait();
        };
        let builder = thread::Builder::new().name(format!("ring-{first}"));
        let builder = builder.stack_size(trial.job.cell.stack_bytes() as usize);
        builder.spawn(run).context("the thread of a ring could not be started")?;
    }
    run_ring(trial, (0, rings), &schedule)?;
    trial.exit_gate.wait();
    Ok(())
}

/// Runs every `rings`th lane from `first` on the calling thread.
fn run_ring(
    trial: &Arc<TrialRun>,
    (first, rings): (u32, u32),
    schedule: &SharedSchedule,
) -> anyhow::Result<()> {
    let ids = (first..trial.job.cell.lanes).step_by(rings as usize);
    let count = ids.len() as u32;
    Reactor::start(count, manner(trial, count), &trial.rings)?;
    let costs = trial.is_open_loop().then(|| WaitCosts::calibrate(trial)).transpose()?;
    let lanes = Rc::new(Lanes::default());
    let mut tasks = Tasks::new(ids.len());
    // All of them before the first connects, so that what connecting takes leaves no gaps between them.
    for id in ids {
        tasks.add(|| Box::pin(run_lane(trial.clone(), id, lanes.clone())));
    }
    for number in 0..count {
        tasks.poll(number);
        while number + 1 - lanes.parked.get() > MOST_CONNECTING && !trial.is_cancelled() {
            tasks.turn(now_ns() + LOOK_NS, 0)?;
        }
    }
    while lanes.parked.get() < count && !trial.is_cancelled() {
        tasks.turn(now_ns() + LOOK_NS, 0)?;
    }
    trial.start_gate.wait();
    lanes.open.set(true);
    (0..count).for_each(Reactor::wake);
    let ticks = (first == 0).then(|| Ticks::of_lane(trial)).flatten();
    let pacer = costs.map(|costs| RingPacer::new(trial, schedule, costs));
    run_lanes(trial, &mut tasks, &lanes, ticks, pacer)?;
    trial.close_gate.wait();
    lanes.closing.set(true);
    (0..count).for_each(Reactor::wake);
    while tasks.alive() > 0 {
        tasks.turn(now_ns() + LOOK_NS, 0)?;
    }
    debug_assert!(Reactor::is_at_rest(), "a buffer or a socket was kept");
    Ok(())
}

/// How the rings of a trial are used, each by so many lanes.
fn manner(trial: &TrialRun, lanes: u32) -> Manner {
    let cell = &trial.job.cell;
    Manner {
        multishot: cell.uring_receive.unwrap_or_default() == Receive::Multishot,
        batch: cell.uring_batch.unwrap_or(1).min(lanes / 4).max(1),
        linger_ns: cell.uring_linger_ns.unwrap_or(0),
    }
}

/// Runs the lanes of the calling thread's ring until the plan is done.
fn run_lanes(
    trial: &TrialRun,
    tasks: &mut Tasks<impl Future<Output = ()>>,
    lanes: &Lanes,
    mut ticks: Option<Ticks>,
    mut pacer: Option<RingPacer<'_>>,
) -> anyhow::Result<()> {
    if pacer.is_none() && trial.work.is_none() {
        Reactor::wait_coarsely();
    }
    while !lanes.have_ended(tasks) {
        let due = pacer.as_ref().map_or(u64::MAX, |p| release(trial, tasks, lanes, p.schedule));
        let tick = ticks.as_ref().map_or(u64::MAX, Ticks::due);
        let until = due.min(tick).min(Reactor::now() + LOOK_NS);
        let paces = pacer.as_mut().filter(|_| until == due);
        let waited = tasks.turn(until, paces.as_ref().map_or(0, |pacer| pacer.watch_ns()))?;
        if let Some(pacer) = paces {
            pacer.waited(trial, &waited);
        }
        if let Some(ticks) = &mut ticks {
            ticks.catch_up(trial);
        }
    }
    Ok(())
}

#[expect(clippy::manual_async_fn, reason = "its arguments would be held twice, in every lane")]
fn run_lane(trial: Arc<TrialRun>, id: u32, lanes: Rc<Lanes>) -> impl Future<Output = ()> {
    async move {
        let mut lane = AsyncLane::<RingSocket>::new(&trial, id);
        lane.connect_first(&trial).await;
        lanes.park().await;
        lane.run(&trial, &*lanes).await;
        lanes.keep().await;
    }
}

/// What the lanes of a thread wait for beside their sockets.
#[derive(Default)]
struct Lanes {
    open: Cell<bool>,
    parked: Cell<u32>,
    /// The shot of the lane that is polled next.
    handed: Cell<Option<Shot>>,
    /// Lanes without a request, the one that waits longest first.
    idle: RefCell<VecDeque<u32>>,
    /// Since when there is one.
    idle_since: Cell<u64>,
    closed: Cell<bool>,
    ended: Cell<u32>,
    /// They may close their connections.
    closing: Cell<bool>,
}

impl Lanes {
    /// Suspends a lane that has ended, with its connection, until the window's end was read.
    async fn keep(&self) {
        self.ended.set(self.ended.get() + 1);
        poll_fn(|_| if self.closing.get() { Poll::Ready(()) } else { Poll::Pending }).await;
    }

    fn have_ended(&self, tasks: &Tasks<impl Future<Output = ()>>) -> bool {
        self.ended.get() as usize == tasks.alive()
    }

    /// Suspends a connected lane until the start.
    async fn park(&self) {
        self.parked.set(self.parked.get() + 1);
        poll_fn(|_| if self.open.get() { Poll::Ready(()) } else { Poll::Pending }).await;
    }

    fn rest(&self, lane: u32) {
        let mut idle = self.idle.borrow_mut();
        if idle.is_empty() {
            self.idle_since.set(now_ns());
        }
        idle.push_back(lane);
    }

    fn has_idle(&self) -> bool {
        !self.idle.borrow().is_empty()
    }
}

impl ReleaseSource for Lanes {
    async fn next(&self) -> Option<Shot> {
        let mut idle = false;
        poll_fn(|_| match self.handed.take() {
            Some(shot) => Poll::Ready(Some(shot)),
            None if self.closed.get() => Poll::Ready(None),
            None => {
                if !std::mem::replace(&mut idle, true) {
                    self.rest(Reactor::lane());
                }
                Poll::Pending
            }
        })
        .await
    }
}

/// Hands what is due to idle lanes; returns when to do so again.
fn release(
    trial: &TrialRun,
    tasks: &mut Tasks<impl Future<Output = ()>>,
    lanes: &Lanes,
    schedule: &SharedSchedule,
) -> u64 {
    if trial.is_cancelled() {
        close(tasks, lanes);
    }
    while lanes.has_idle() {
        let now = now_ns();
        let due = match schedule.take(trial, now) {
            NextDue::Due(due) => due,
            NextDue::Until(at) => return at,
            NextDue::Ended => {
                close(tasks, lanes);
                break;
            }
        };
        // What came due while every lane was busy waited for a lane, not for this.
        let released = if due.intended < lanes.idle_since.get() { due.intended } else { now };
        let lane = lanes.idle.borrow_mut().pop_front();
        lanes.handed.set(Some(due.release_at(released, released)));
        lane.into_iter().for_each(|lane| tasks.poll(lane));
    }
    u64::MAX
}

/// Ends the idle lanes, and the others once they are.
fn close(tasks: &mut Tasks<impl Future<Output = ()>>, lanes: &Lanes) {
    lanes.closed.set(true);
    let idle = std::mem::take(&mut *lanes.idle.borrow_mut());
    idle.into_iter().for_each(|lane| tasks.poll(lane));
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;

    use super::super::slot::Slot;
    use super::*;

    /// What every lane of a ring holds in user space: its task in a box, and its place in each list.
    #[test]
    fn a_lane_is_small() {
        fn state<A, B, C, F>(_: fn(A, B, C) -> F) -> usize {
            size_of::<F>()
        }
        let task = state(run_lane);
        let lists = [size_of::<Slot>(), size_of::<Option<Pin<Box<u8>>>>(), 16, 4, 4, 1];
        // glibc puts eight bytes before an allocation and rounds up to sixteen.
        let all = (task + 8).next_multiple_of(16) + lists.iter().sum::<usize>();
        assert!(all <= 480, "{all} bytes: {task} of the task, {lists:?} in lists");
    }
}
