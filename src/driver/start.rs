//! When a trial starts: as soon as it is armed, at an absolute time, or together with the other
//! shards of its run.
//!
//! By [`Start::At`] the trials of a sweep start in slots of equal length, trial p at
//! T + p · every, since shards that do not speak to each other can agree on nothing else. By
//! [`Start::Together`] each trial starts as soon as every shard is armed.

use std::io;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::rendezvous::{Apart, Rendezvous};
use crate::format::{Gate, ShardStart};
use crate::sys::{MonotonicNs, now_ns, sleep_until_ns};
use crate::units::{SECOND_NS, format_ns};

/// How long before its slot a trial begins to arm, so that lanes do not idle longer than a server
/// keeps a connection open.
const AHEAD_NS: u64 = 10 * SECOND_NS;
/// Turn in which a wait looks for the user's signal.
const TURN_NS: u64 = 50_000_000;
/// Least lateness that makes a trial invalid.
const LATE_NS: u64 = 20_000_000;
/// The share of the window that a shard may be late by, where that is more.
const LATE_SHARE: f64 = 0.01;
/// The resolution of file stamps: a tick of the slowest common kernel (CONFIG_HZ = 100).
const FILE_STAMP_NS: u64 = 10_000_000;

/// When trials start.
pub enum Start {
    /// As soon as they are armed.
    WhenReady,
    /// In slots from an absolute time on.
    At {
        /// The first start, nanoseconds since the Unix epoch.
        first_unix_ns: u64,
        /// From one trial's start to the next.
        every_ns: u64,
        /// This machine's clock, as far as it is known.
        clock: Clock,
    },
    /// When every shard is armed.
    Together(Rendezvous),
}

/// A wall clock against a reference.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clock {
    /// This clock less the reference's.
    pub offset_ns: Option<i64>,
    /// Half width of the interval in which that lies.
    pub error_ns: Option<u64>,
    /// What it refers to; see [`ShardStart::clock_reference`].
    pub reference: Option<String>,
}

impl Clock {
    /// The reference itself.
    pub(super) fn exact() -> Clock {
        Clock { offset_ns: Some(0), error_ns: Some(0), reference: None }
    }

    /// Against the clock that stamps files of this directory: the file server's on most shared
    /// file systems, this machine's own on a local one.
    ///
    /// # Errors
    /// No file can be written there.
    pub fn by_file_stamp(dir: &Path) -> io::Result<Clock> {
        let probe = dir.join(format!(".duel-clock-{}", std::process::id()));
        let before = unix_now_ns();
        let stamped = std::fs::write(&probe, "x")
            .and_then(|()| std::fs::metadata(&probe))
            .and_then(|m| m.modified());
        let after = unix_now_ns();
        let _ = std::fs::remove_file(&probe);
        let stamp = stamped?.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as i64);
        let middle = (before / 2 + after / 2) as i64;
        Ok(Clock {
            offset_ns: Some(middle - stamp),
            error_ns: Some((after - before) / 2 + FILE_STAMP_NS),
            reference: Some("file system".into()),
        })
    }

    /// `60 s ahead of`, if the clock is surely further off than `most_ns`.
    pub fn far_off(&self, most_ns: u64) -> Option<String> {
        let offset = self.offset_ns?;
        let least = offset.unsigned_abs().saturating_sub(self.error_ns?);
        let side = if offset > 0 { "ahead of" } else { "behind" };
        (least > most_ns).then(|| format!("{} {side}", format_ns(offset.unsigned_abs() as f64)))
    }
}

/// A trial's start on both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Begin {
    /// CLOCK_MONOTONIC.
    pub(super) at: MonotonicNs,
    /// The agreed instant, nanoseconds since the Unix epoch.
    pub(super) agreed_unix_ns: Option<u64>,
}

/// Why a trial did not start with the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NotStarted {
    /// Someone was missing, or could not be armed.
    Apart(Apart),
    /// This shard was armed too late.
    Late { agreed_unix_ns: u64, late_ns: u64 },
    /// The user ended it.
    Stopped,
}

impl Start {
    /// The seat at the common directory, if there is one.
    pub fn rendezvous(&self) -> Option<&Rendezvous> {
        match self {
            Start::Together(rendezvous) => Some(rendezvous),
            Start::WhenReady | Start::At { .. } => None,
        }
    }

    /// Why no further trial makes sense.
    pub fn over(&self) -> Option<String> {
        self.rendezvous().and_then(Rendezvous::over)
    }

    fn clock(&self) -> Option<&Clock> {
        match self {
            Start::WhenReady => None,
            Start::At { clock, .. } => Some(clock),
            Start::Together(rendezvous) => Some(rendezvous.clock()),
        }
    }

    /// Waits until it is time to arm the trial at `position`.
    pub(super) fn wait_for_slot(&self, position: u32, stop: &dyn Fn() -> bool) {
        if let Start::At { first_unix_ns, every_ns, .. } = self {
            let begin = first_unix_ns + u64::from(position) * every_ns;
            let arm = monotonic(begin.saturating_sub(AHEAD_NS));
            while now_ns() < arm && !stop() {
                sleep_until_ns(arm.min(now_ns() + TURN_NS));
            }
        }
    }

    /// The start of the trial at `position`, whose lanes are armed here.
    pub(super) fn agree(
        &self,
        position: u32,
        lead_ns: u64,
        most_late_ns: u64,
        stop: &dyn Fn() -> bool,
    ) -> Result<Begin, NotStarted> {
        let agreed = match self {
            Start::WhenReady => return Ok(Begin { at: now_ns() + lead_ns, agreed_unix_ns: None }),
            Start::At { first_unix_ns, every_ns, .. } => {
                first_unix_ns + u64::from(position) * every_ns
            }
            Start::Together(rendezvous) => {
                rendezvous.armed(position, None, stop).map_err(NotStarted::Apart)?
            }
        };
        let at = monotonic(agreed);
        let late_ns = now_ns().saturating_sub(at);
        if late_ns > most_late_ns {
            return Err(NotStarted::Late { agreed_unix_ns: agreed, late_ns });
        }
        // Close to the start, since a target told of one far ahead has nothing to do till then.
        while now_ns() + SECOND_NS < at {
            if stop() {
                return Err(NotStarted::Stopped);
            }
            sleep_until_ns((at - SECOND_NS).min(now_ns() + TURN_NS));
        }
        Ok(Begin { at, agreed_unix_ns: Some(agreed) })
    }

    /// What the record says of the start; `None` where shards are no subject.
    pub(super) fn record(&self, begin: Option<Begin>, started: Option<MonotonicNs>) -> ShardStart {
        let clock = self.clock().cloned().unwrap_or_default();
        ShardStart {
            agreed_unix_ns: begin.and_then(|b| b.agreed_unix_ns),
            late_ns: begin.zip(started).map(|(b, at)| at.saturating_sub(b.at)),
            clock_offset_ns: clock.offset_ns,
            clock_error_ns: clock.error_ns,
            clock_reference: clock.reference,
            skew_ns: None,
            shards: None,
        }
    }
}

/// How late a shard may start: 20 ms, or a hundredth of the window where that is more.
pub fn most_late_ns(window_ns: Option<u64>) -> u64 {
    LATE_NS.max((window_ns.unwrap_or(0) as f64 * LATE_SHARE) as u64)
}

/// A hard gate on a time that must not pass a limit; `None` bars nothing.
pub fn gate_ns(name: &str, value_ns: Option<u64>, limit_ns: u64) -> Gate {
    Gate {
        name: name.into(),
        hard: true,
        ok: value_ns.map(|v| v <= limit_ns),
        value: value_ns.map(|v| v as f64),
        limit: value_ns.map(|_| limit_ns as f64),
    }
}

/// A hard gate on the number of shards.
pub fn gate_shards(present: u32, count: u32) -> Gate {
    Gate {
        name: "shards_together".into(),
        hard: true,
        ok: Some(present == count),
        value: Some(f64::from(present)),
        limit: Some(f64::from(count)),
    }
}

/// The surest difference between a clock and its reference; `None` where that is unknown.
pub fn sure_offset_ns(start: &ShardStart) -> Option<u64> {
    let (offset, error) = start.clock_offset_ns.zip(start.clock_error_ns)?;
    Some(offset.unsigned_abs().saturating_sub(error))
}

/// The wall clock, nanoseconds since the Unix epoch; zero before it.
pub fn unix_now_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as u64)
}

/// An instant of the wall clock on CLOCK_MONOTONIC, as both read now; zero if it lies before boot.
fn monotonic(unix_ns: u64) -> MonotonicNs {
    let (mono, unix) = (now_ns(), unix_now_ns());
    (mono + unix_ns).saturating_sub(unix)
}
