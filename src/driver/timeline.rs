//! The timeline of a run: what each worker holds, sampled from outside every 100 ms.
//!
//! Sampling runs in the driver, never in a worker. A sample reads the worker's CPU clock (one
//! system call, exact), `/proc/PID/status` and the shared page of counters, and appends one line
//! to a buffer; lines are not synced, as they repeat nothing that a record needs. What a sample
//! cost the driver stands in it as `cost_ns`. Measured on a busy 2-CPU virtual machine with Linux
//! 6.18 (medians; an unoptimised build, so an upper bound):
//!
//! | worker's threads | 4 | 67 | 1,003 | 5,003 |
//! |---|---|---|---|---|
//! | `cost_ns` | 0.18 ms | 0.19 ms | 0.39 ms | 1.1 ms |
//!
//! that is 0.2 % to 1.1 % of one CPU, none of it charged to the worker. The growth is the kernel's
//! walk over the threads for the CPU clock, which takes no lock that a running thread waits for.

use std::cell::RefCell;
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::worker::Worker;
use crate::format::TrialRecord;
use crate::side::Phase;
use crate::side::counters::Counts;
use crate::side::usage::{ProcessUse, cpu_ns};
use crate::sys::thread_cpu_ns;

pub const FILE: &str = "timeline.jsonl";

pub(crate) const EVERY_NS: u64 = 100_000_000;

/// One worker at one moment: a line of the timeline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    pub cell: String,
    pub block: u32,
    pub worker: u32,
    /// Since Start, with which the warm-up begins.
    pub t_ns: u64,
    pub rss_bytes: Option<u64>,
    /// Processor time of all its threads since it began.
    pub cpu_ns: Option<u64>,
    pub threads: Option<u64>,
    pub in_flight: Option<u64>,
    pub completed: Option<u64>,
    /// Processor time that the driver spent on this sample, up to its writing.
    pub cost_ns: u64,
}

pub(crate) struct Timeline {
    out: RefCell<BufWriter<File>>,
}

impl Timeline {
    /// Opens or makes the timeline of a run directory.
    ///
    /// A line that a killed driver cut off is ended first, so that no later one is glued to it.
    pub(crate) fn append_to(dir: &Path) -> anyhow::Result<Self> {
        let path = dir.join(FILE);
        let open = || -> io::Result<File> {
            let mut file = OpenOptions::new().read(true).append(true).create(true).open(&path)?;
            if file.metadata()?.len() > 0 {
                let mut last = [0];
                file.seek(SeekFrom::End(-1))?;
                file.read_exact(&mut last)?;
                if last != *b"\n" {
                    file.write_all(b"\n")?;
                }
            }
            Ok(file)
        };
        let file = open().with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Timeline { out: RefCell::new(BufWriter::new(file)) })
    }

    fn write(&self, sample: &Sample) -> io::Result<()> {
        let mut out = self.out.borrow_mut();
        serde_json::to_writer(&mut *out, sample)?;
        out.write_all(b"\n")
    }

    fn flush(&self) -> io::Result<()> {
        self.out.borrow_mut().flush()
    }
}

pub(super) struct Sampler<'t> {
    timeline: &'t Timeline,
    cell: String,
    block: u32,
    start: u64,
    next: u64,
    failed: bool,
}

impl<'t> Sampler<'t> {
    /// A sampler for the trial of `record`, whose Start is at `start` on CLOCK_MONOTONIC.
    pub(super) fn new(timeline: &'t Timeline, record: &TrialRecord, start: u64) -> Self {
        let cell = record.cell.id.clone();
        Sampler { timeline, cell, block: record.block, start, next: start, failed: false }
    }

    /// Samples every worker when the time has come. A full disk ends the timeline of the trial
    /// with a message, not the trial.
    pub(super) fn look(&mut self, now: u64, workers: &[Worker]) {
        if now < self.next || self.failed {
            return;
        }
        // A driver that was late does not make up for what it missed.
        self.next = now - (now - self.next) % EVERY_NS + EVERY_NS;
        for (number, worker) in workers.iter().enumerate() {
            let sample = self.sample(now, number as u32, worker);
            let written = self.timeline.write(&sample);
            self.report(written);
        }
    }

    fn sample(&self, now: u64, number: u32, worker: &Worker) -> Sample {
        let begun = thread_cpu_ns();
        let held = ProcessUse::of(worker.id()).ok();
        let cpu_ns = cpu_ns(worker.id());
        let phases = [Phase::Warmup, Phase::Measured].map(|phase| worker.counts(phase));
        let sum = |of: fn(&Counts) -> u64| -> Option<u64> {
            phases.iter().map(|counts| counts.as_ref().map(of)).sum()
        };
        Sample {
            cell: self.cell.clone(),
            block: self.block,
            worker: number,
            t_ns: now - self.start,
            rss_bytes: held.map(|h| h.rss_bytes),
            cpu_ns,
            threads: held.map(|h| h.threads),
            in_flight: sum(Counts::in_flight),
            completed: sum(|c| c.completed),
            cost_ns: thread_cpu_ns() - begun,
        }
    }

    fn report(&mut self, outcome: io::Result<()>) {
        if let Err(error) = outcome
            && !self.failed
        {
            self.failed = true;
            say!("duel: {}: the timeline ends early: {error}", self.cell);
        }
    }
}

impl Drop for Sampler<'_> {
    fn drop(&mut self) {
        // Whole trials only are in the file when the driver is killed between two of them.
        let flushed = self.timeline.flush();
        self.report(flushed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_line_is_ended_before_the_next() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(FILE), "{\"cell\":\"a").unwrap();
        let sample = Sample {
            cell: "b".into(),
            block: 0,
            worker: 0,
            t_ns: 5,
            rss_bytes: None,
            cpu_ns: Some(1),
            threads: None,
            in_flight: None,
            completed: None,
            cost_ns: 2,
        };
        let timeline = Timeline::append_to(dir.path()).unwrap();
        timeline.write(&sample).unwrap();
        timeline.flush().unwrap();
        let text = std::fs::read_to_string(dir.path().join(FILE)).unwrap();
        let (torn, whole) = text.split_once('\n').unwrap();
        assert_eq!(torn, "{\"cell\":\"a");
        assert_eq!(serde_json::from_str::<Sample>(whole).unwrap(), sample);
    }

    #[test]
    fn the_clock_of_this_process_is_its_own() {
        let before = crate::sys::process_cpu_ns();
        let seen = cpu_ns(std::process::id()).expect("this process is alive");
        assert!((before..=crate::sys::process_cpu_ns()).contains(&seen), "{seen} from {before}");
    }
}
