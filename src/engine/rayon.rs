//! One rayon job per request, blocking sockets: the pool does the scheduling.
//!
//! A slot owns a connection. In a closed loop the job that serves a slot's request spawns the
//! slot's next job; in an open loop each release is one FIFO job, which borrows a free slot.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crossbeam::queue::ArrayQueue;
use rayon::ThreadPool;

use super::lane::BlockingLane;
use super::release::Shot;
use super::run::TrialRun;
use super::{heartbeat, offload, pacing};

pub(super) fn run(trial: &Arc<TrialRun>) -> anyhow::Result<()> {
    let lanes = trial.job.cell.lanes;
    let pool = trial.job.cell.rayon_threads.unwrap_or(lanes);
    let beats = heartbeat::wanted(trial) && pool == lanes;
    let threads = pool + u32::from(beats);
    trial.progress.expect(lanes);
    let stack_bytes = trial.job.cell.stack_bytes() as usize;
    let pool = Arc::new(offload::pool(threads as usize, stack_bytes, "pool")?);
    heartbeat::in_pool(trial, &pool)?;
    let slots = connect_slots(trial, &pool);
    trial.start_gate.wait();
    if trial.is_open_loop() {
        run_open(trial, &pool, &slots);
    } else {
        // Lanes that have ended come back behind those that have not begun.
        for lane in (0..slots.len()).filter_map(|_| slots.pop()) {
            let (trial, slots) = (trial.clone(), slots.clone());
            pool.spawn_fifo(move || step(trial, slots, lane));
        }
    }
    trial.exit_gate.wait();
    Ok(())
}

/// Connects every slot in the pool's own threads.
fn connect_slots(trial: &Arc<TrialRun>, pool: &ThreadPool) -> Slots {
    let slots = Arc::new(ArrayQueue::new(trial.job.cell.lanes as usize));
    for id in 0..trial.job.cell.lanes {
        let (slots, own) = (slots.clone(), trial.clone());
        pool.spawn_fifo(move || {
            let mut lane = Box::new(BlockingLane::new(&own, id));
            lane.connect_first(&own);
            put(&slots, lane);
        });
        trial.progress.throttle(id + 1);
    }
    // A slot is told as settled just before it is put back; Start follows far later, but a
    // closed loop that drained the queue too early would lose lanes.
    while slots.len() < trial.job.cell.lanes as usize && !trial.is_cancelled() {
        std::thread::sleep(Duration::from_micros(200));
    }
    slots
}

type Slots = Arc<ArrayQueue<Box<BlockingLane>>>;

/// One request of a closed loop, then the slot's next job. A slot that has ended goes back with its
/// connection: closing that is no part of a window by count.
fn step(trial: Arc<TrialRun>, slots: Slots, mut lane: Box<BlockingLane>) {
    if !trial.is_cancelled() && lane.step_closed(&trial) {
        rayon::spawn_fifo(move || step(trial, slots, lane));
    } else {
        lane.ended(&trial);
        put(&slots, lane);
    }
}

fn run_open(trial: &Arc<TrialRun>, pool: &ThreadPool, slots: &Slots) {
    // The pacer's own share keeps the count above zero until the schedule has ended.
    let open = Arc::new(AtomicU64::new(1));
    pacing::pace(trial, |shot| {
        let (trial, slots, open) = (trial.clone(), slots.clone(), open.clone());
        open.fetch_add(1, Ordering::Relaxed);
        pool.spawn_fifo(move || {
            serve(&trial, &slots, &shot);
            retire(&trial, &slots, &open);
        });
    });
    retire(trial, slots, &open);
}

fn serve(trial: &TrialRun, slots: &ArrayQueue<Box<BlockingLane>>, shot: &Shot) {
    if trial.is_cancelled() {
        return;
    }
    let mut lane = take(slots);
    // Not sent only once the time is over.
    let _ = lane.serve(trial, shot);
    put(slots, lane);
}

/// Gives one share back; the last one finds every slot put back and ends them all. Jobs that end
/// a slot each would not do: they can overtake a release that has begun and has no slot yet.
fn retire(trial: &TrialRun, slots: &ArrayQueue<Box<BlockingLane>>, open: &AtomicU64) {
    if open.fetch_sub(1, Ordering::AcqRel) == 1 {
        let lanes: Vec<_> = std::iter::from_fn(|| slots.pop()).collect();
        lanes.iter().for_each(|lane| lane.ended(trial));
        lanes.into_iter().for_each(|lane| put(slots, lane));
    }
}

/// A free slot. The pool has at most as many threads as slots, and one for the heartbeat, so one is
/// free or about to be.
fn take(slots: &ArrayQueue<Box<BlockingLane>>) -> Box<BlockingLane> {
    loop {
        match slots.pop() {
            Some(lane) => return lane,
            None => std::thread::yield_now(),
        }
    }
}

fn put(slots: &ArrayQueue<Box<BlockingLane>>, lane: Box<BlockingLane>) {
    let full = slots.push(lane).is_err();
    debug_assert!(!full, "the queue has room for every slot");
}
