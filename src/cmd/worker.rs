//! `duel worker`: the child that runs one trial; the other end of [`crate::protocol`].
//!
//! The main thread is the monitor: it runs no lane, reads the window's edges and answers the
//! driver. A second thread reads standard input, whose end means *cancel*. Both exist before the
//! baseline is read.

use std::io::{BufReader, stdin, stdout};
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, OnceLock};

use anyhow::{Context, bail};

use crate::codec::tls;
use crate::engine::{self, TrialRun};
use crate::format::{Reason, field};
use crate::plan::engine::LaneThreads;
use crate::plan::prepare::prepare;
use crate::protocol::{Armed, Frame, FrameError, Job, Ready};
use crate::side::counters::Counters;
use crate::side::split::{HeapUse, held_bytes};
use crate::side::usage::{ProcessUse, reset_hwm};
use crate::side::{Channel, Recorder};
use crate::sys::{now_ns, pin};
use crate::work::{Work, files};

mod monitor;

use monitor::Monitor;

/// More shards than this gain nothing: they only cost memory and time to merge.
const MOST_SHARDS: usize = 16;
/// From a Start without an instant, as people send it by hand, to the start.
const BY_HAND_LEAD_NS: u64 = 5_000_000;

pub fn run() -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say!("duel worker: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn serve() -> anyhow::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .context("cannot ask to be killed together with the driver")?;
    let running: Arc<OnceLock<Arc<TrialRun>>> = Arc::default();
    let frames = read_frames(running.clone())?;
    let Frame::Job(job) = next(&frames)? else { bail!("the first frame must be a job") };
    let prepared = Prepare::new(job)?;
    let trial = prepared.trial.clone();
    let _ = running.set(trial.clone());
    send(&Frame::Ready(prepared.ready))?;

    let Frame::Go = next(&frames)? else { bail!("a job is followed by go") };
    let armed = match prepared.files_error {
        Some(why) => armed_error(why),
        None => set_up(&trial),
    };
    let failed = armed.error.is_some();
    if failed {
        remove_files(&trial);
    }
    send(&Frame::Armed(armed))?;
    if failed {
        // Lanes may still be waiting for one another; the process ends them all.
        std::process::exit(0);
    }

    let Frame::Start { at_ns } = next(&frames)? else { bail!("armed is followed by start") };
    let at_ns = if at_ns == 0 { now_ns() + BY_HAND_LEAD_NS } else { at_ns };
    let mut outcome = Monitor::new(&trial, prepared.baseline, prepared.heap).watch(at_ns);
    if let Some(why) = prepared.hwm_reset_error {
        let why = format!("an upper bound, counted from the start of the process: {why}");
        outcome
            .part
            .unavailable
            .insert(field!(TrialRecord.memory.peak_rss_bytes).into(), why.into());
    }
    remove_files(&trial);
    send(&Frame::Outcome(outcome))?;
    // Exits without joining the parked threads.
    std::process::exit(0)
}

/// Reads frames on a thread of its own, so that the end of standard input is seen at any time.
fn read_frames(
    running: Arc<OnceLock<Arc<TrialRun>>>,
) -> anyhow::Result<Receiver<Result<Frame, FrameError>>> {
    let (sender, receiver) = channel();
    std::thread::Builder::new()
        .name("frames".into())
        .spawn(move || {
            let mut input = BufReader::new(stdin().lock());
            loop {
                let frame = Frame::read_from(&mut input);
                let last = frame.is_err();
                // The receiver is gone only when the process is ending.
                let _ = sender.send(frame);
                if last {
                    if let Some(trial) = running.get() {
                        trial.cancel();
                    }
                    return;
                }
            }
        })
        .context("cannot start the thread that reads frames")?;
    Ok(receiver)
}

fn next(frames: &Receiver<Result<Frame, FrameError>>) -> anyhow::Result<Frame> {
    Ok(frames.recv().context("the reading thread ended")??)
}

fn send(frame: &Frame) -> anyhow::Result<()> {
    frame.write_to(&mut stdout().lock()).with_context(|| format!("cannot send {}", frame.name()))
}

/// What stands before the baseline: the plan rendered, the recorder made and touched.
struct Prepare {
    trial: Arc<TrialRun>,
    ready: Ready,
    baseline: ProcessUse,
    heap: Option<HeapUse>,
    hwm_reset_error: Option<Reason>,
    files_error: Option<String>,
    /// Keeps the descriptor open that the driver maps.
    _counters: OwnedFd,
}

impl Prepare {
    fn new(job: Job) -> anyhow::Result<Self> {
        pin(&job.cpus)?;
        crate::limits::raise_nofile().context("cannot raise the limit of descriptors")?;
        let prepared = prepare(&job.plan)?;
        let shards = job.cpus.len().clamp(1, MOST_SHARDS);
        let (counters, fd) =
            Counters::create(shards).context("cannot make the page of counters")?;
        let mut recorder = Recorder::new(shards, job.plan.arrivals.is_open(), counters);
        let tls = job.tls.as_ref().map(tls::Client::new).transpose()?;
        if tls.is_some() {
            recorder = recorder.with(&[Channel::Handshake]);
        }
        let (work, files_error) = make_work(&job);
        if work.is_some() {
            let steps = [Channel::HttpStep, Channel::FileStep, Channel::ComputeStep];
            recorder = recorder.with(&steps);
        }
        if job.plan.heartbeat {
            recorder = recorder.with(&[Channel::Heartbeat]);
        }
        recorder = recorder.with_classes(job.plan.classes().len());
        recorder = recorder.written_alone(shards_are_apart(&job, shards));
        let trial = Arc::new(TrialRun::new(job, tls, prepared, recorder, work));
        let hwm_reset_error = reset_hwm().err();
        let baseline = ProcessUse::read()?;
        let heap = trial.job.cell.is_memory().then(|| HeapUse {
            ready: held_bytes(trial.job.cell.has_foreign_allocator()),
            plateau: None,
        });
        let ready = Ready {
            pid: std::process::id(),
            counters_fd: fd.as_raw_fd(),
            shards: shards as u32,
            baseline_rss_bytes: baseline.rss_bytes,
        };
        Ok(Prepare { trial, ready, baseline, heap, hwm_reset_error, files_error, _counters: fd })
    }
}

/// Whether one thread writes each shard of the recorder.
fn shards_are_apart(job: &Job, shards: usize) -> bool {
    let (engine, cpus) = (job.cell.engine, job.cpus.len());
    match engine.facts().threads {
        LaneThreads::Own => true,
        // Rings take lanes in turn, as shards do; a runtime runs any lane on any of its threads.
        LaneThreads::PerCpu => {
            if engine.has_ring() {
                shards == cpus
            } else {
                cpus == 1
            }
        }
        LaneThreads::PerLane | LaneThreads::Pool => false,
    }
}

/// Makes what file and compute steps need; a directory that cannot be written fails the trial, not
/// the worker, so that its row says why.
fn make_work(job: &Job) -> (Option<Arc<Work>>, Option<String>) {
    if !job.plan.has_local_steps() {
        return (None, None);
    }
    let name = job.files.clone().unwrap_or_else(files::new_name);
    match Work::prepare(&job.plan.mix, &files::worker_name(&name, job.worker)) {
        Ok(work) => (work, None),
        Err(why) => (None, Some(format!("{why:#}"))),
    }
}

fn remove_files(trial: &TrialRun) {
    if let Some(work) = &trial.work {
        work.remove();
    }
}

fn armed_error(why: String) -> Armed {
    let rss_bytes = ProcessUse::read().map_or(0, |u| u.rss_bytes);
    Armed { setup_ns: 0, connected: 0, rss_bytes, error: Some(why) }
}

/// Go → Armed: starts the engine on a thread of its own and waits for its lanes.
fn set_up(trial: &Arc<TrialRun>) -> Armed {
    let begun = now_ns();
    let engine = {
        let trial = trial.clone();
        std::thread::Builder::new().name("engine".into()).spawn(move || {
            if trial.job.cell.counts_events() {
                // Here, since whatever this thread starts inherits them, and nothing else does.
                trial.events.open();
            }
            if let Err(error) = engine::run(&trial) {
                trial.progress.fail(format!("{error:#}"));
            }
        })
    };
    if let Err(e) = engine {
        trial.progress.fail(format!("the engine's thread could not be started: {e}"));
    }
    let limit = trial.job.setup_limit_ns;
    let set_up = trial.progress.wait_armed(begun + limit, || trial.is_cancelled());
    let setup_ns = now_ns() - begun;
    let late = || {
        (setup_ns >= limit).then(|| {
            format!(
                "set-up took longer than {}: {} of {} lanes were connected",
                crate::units::duration_literal(limit),
                set_up.connected,
                trial.job.cell.lanes,
            )
        })
    };
    let error = set_up.error.clone().or_else(late);
    Armed {
        setup_ns,
        connected: set_up.connected,
        rss_bytes: ProcessUse::read().map_or(0, |u| u.rss_bytes),
        error,
    }
}
