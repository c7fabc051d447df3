//! How lanes are run: six engines over one codec and one recorder.
//!
//! An engine takes a [`TrialRun`], makes its lanes, connects and parks them, and runs them until
//! the plan is done. It knows no TOML and no paths, computes no statistics, and differs from the
//! others in scheduling alone: [`sequential`], [`threads`], [`rayon`], [`tokio`] and [`uring`]
//! can be read side by side. What they share:
//!
//! * [`run`](mod@run) is what the lanes of a worker share, and [`claims`] how they take requests.
//! * [`lane`] sends requests over one connection, blocking or async, whose [`link`] makes and renews
//!   it; [`steps`] carries out file and compute steps around the exchange.
//! * [`pacing`] releases the requests of an open loop, for tasks through [`native`] and on rings
//!   through [`ring_pacing`]; [`release`] carries them to a lane, and [`handover`] measures how long
//!   that takes.
//! * [`offload`] starts the threads of the task engines, [`heartbeat`] ticks beside the load.
//! * [`tasks`] are polled on a thread with a ring, and [`reactor`] is what they wait for, as tokio's is
//!   for its own; [`slot`] is what it keeps of a socket, [`alarms`] of timers ([`ring_timer`]), and
//!   [`rings`] counts. The server engine `uring` runs its connections on the same.
//! * [`latch`], [`progress`] and [`timer`] are what all of them wait for.
//!
//! A worker's main thread is the monitor: it runs no lane under any engine, so that it can read
//! the window's edges in the same way for all.

mod alarms;
mod claims;
mod handover;
mod heartbeat;
mod lane;
mod latch;
mod link;
mod native;
pub(crate) mod offload;
mod pacing;
mod progress;
mod rayon;
pub(crate) mod reactor;
mod release;
mod ring_pacing;
pub(crate) mod ring_timer;
pub(crate) mod rings;
mod run;
mod sequential;
mod slot;
mod steps;
pub(crate) mod tasks;
mod threads;
pub(crate) mod timer;
mod tokio;
mod uring;

use std::sync::Arc;

use crate::plan::Engine;
pub(crate) use run::TrialRun;

/// Builds the engine and runs it from Go to the last lane's end.
///
/// Returns when every lane has ended. Nothing here panics for want of a thread: the error is one
/// sentence for the row.
pub(crate) fn run(trial: &Arc<TrialRun>) -> anyhow::Result<()> {
    match trial.job.cell.engine {
        Engine::Sequential => sequential::run(trial),
        Engine::Threads => threads::run(trial),
        Engine::Rayon => rayon::run(trial),
        Engine::Tokio | Engine::TokioSingle => tokio::run(trial),
        Engine::Uring => uring::run(trial),
    }
}
