//! What a running sweep shows on standard error: a bar on a terminal, plain lines elsewhere.

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::exit;
use crate::driver::trial::{TrialStage, Watch};
use crate::format::{Status, TrialRecord};
use crate::report::gates;
use crate::report::measures::Measure;
use crate::terminal::plain;
use crate::units::{format_count, format_ns, format_rate};

/// What ends a run, with the exit code: an interrupt, a request to end, a terminal that is gone.
const SIGNALS: [(i32, u8); 3] =
    [(SIGINT, exit::INTERRUPTED), (SIGTERM, exit::TERMINATED), (SIGHUP, exit::HUNG_UP)];

/// The first SIGINT, SIGTERM or SIGHUP, as a flag; a second one ends the process at once.
#[derive(Clone)]
pub struct Signals {
    seen: Arc<AtomicUsize>,
}

impl Signals {
    /// Takes over the signals; a SIGHUP that `nohup` had ignored stays ignored.
    pub(crate) fn catch() -> std::io::Result<Self> {
        let seen = Arc::new(AtomicUsize::new(0));
        // One flag for all: a second signal ends the process, whichever came first.
        let armed = Arc::new(std::sync::atomic::AtomicBool::new(false));
        for (signal, code) in SIGNALS {
            if signal == SIGHUP && is_ignored(signal) {
                continue;
            }
            // Registered before the flag is set, so that only a second signal finds it armed.
            signal_hook::flag::register_conditional_shutdown(signal, code.into(), armed.clone())?;
            signal_hook::flag::register(signal, armed.clone())?;
            signal_hook::flag::register_usize(signal, seen.clone(), signal as usize)?;
        }
        Ok(Signals { seen })
    }

    pub(crate) fn exit_code(&self) -> Option<u8> {
        let seen = self.seen.load(Relaxed) as i32;
        SIGNALS.into_iter().find(|(signal, _)| *signal == seen).map(|(_, code)| code)
    }
}

/// Whether whoever started this process had it ignore a signal.
fn is_ignored(signal: i32) -> bool {
    let status = procfs::process::Process::myself().and_then(|this| this.status());
    status.is_ok_and(|status| status.sigign & (1 << (signal - 1)) != 0)
}

pub(crate) struct SweepProgress {
    bar: Option<ProgressBar>,
    signals: Signals,
    trials: usize,
    ended: usize,
    name: String,
}

impl SweepProgress {
    pub(crate) fn new(trials: usize, signals: Signals) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(
                Some(trials as u64),
                ProgressDrawTarget::stderr_with_hz(5),
            );
            let style = ProgressStyle::with_template("{bar:20} {pos}/{len} {wide_msg}")
                .expect("a constant template");
            bar.set_style(style);
            bar
        });
        SweepProgress { bar, signals, trials, ended: 0, name: String::new() }
    }

    pub(crate) fn begin(&mut self, name: &str) {
        self.name = name.into();
        self.message("set-up");
    }

    fn message(&self, text: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(plain(&format!("{} · {text}", self.name)));
        }
    }

    pub(crate) fn end(&mut self, record: &TrialRecord) {
        self.ended += 1;
        let line = format!(
            "[{}/{}] {} block {}: {}",
            self.ended,
            self.trials,
            self.name,
            record.block,
            summary(record)
        );
        match &self.bar {
            Some(bar) => {
                if record.status != Status::Ok {
                    bar.suspend(|| say!("{line}"));
                }
                bar.inc(1);
            }
            None => say!("{line}"),
        }
    }

    pub(crate) fn expect_more(&mut self, trials: usize) {
        self.trials += trials;
        if let Some(bar) = &self.bar {
            bar.inc_length(trials as u64);
        }
    }

    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn summary(record: &TrialRecord) -> String {
    // Where no request succeeded, that the trial as such ran well is no news.
    let hopeless = record.ledger.completed == 0 && record.ledger.failed > 0;
    let word = match record.status {
        Status::Ok | Status::Invalid if hopeless => "failed",
        Status::Ok => "ok",
        Status::Invalid => "INVALID",
        Status::Failed => "FAILED",
        Status::Interrupted => "interrupted",
    };
    let mut text = word.to_string();
    if let Some(error) = &record.error {
        text += &format!(": {error}");
    }
    // Nothing more is to be said where every request failed.
    if hopeless {
        return text;
    }
    if record.status != Status::Failed {
        text += &format!(", {} req/s", format_rate(record.achieved_per_s));
        // Of a few requests there are no percentiles.
        let known = [("p50", Measure::P50), ("p99", Measure::P99)]
            .map(|(name, measure)| Some(format!(", {name} {}", format_ns(measure.of(record)?))));
        let slowest = record.latency().filter(|d| d.count > 0 && known[0].is_none());
        text.extend(slowest.map(|d| format!(", slowest {}", format_ns(d.max as f64))));
        text.extend(known.into_iter().flatten());
    }
    let failed = || record.gates.iter().filter(|g| g.ok == Some(false));
    // What was noisy is told once, below the table.
    if failed().any(|gate| !gate.hard) {
        text += ", noisy";
    }
    for gate in failed().filter(|gate| gate.hard) {
        text += &format!("; {}", gates::failure(&gate.name, gate.value, gate.limit));
    }
    text
}

impl Watch for Signals {
    fn stop(&self) -> bool {
        self.exit_code().is_some()
    }
}

impl Watch for SweepProgress {
    fn show(&mut self, stage: TrialStage) {
        match stage {
            TrialStage::SetUp => self.message("set-up"),
            TrialStage::Running(counts, part) => {
                let part = part.map_or(String::new(), |p| format!("{:3.0} % · ", p * 100.0));
                self.message(&format!(
                    "{part}{} ended · {} in flight",
                    format_count(counts.ended()),
                    format_count(counts.in_flight())
                ));
            }
        }
    }

    fn stop(&self) -> bool {
        self.signals.stop()
    }
}
