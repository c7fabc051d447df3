//! Shards: several machines that each run a part of one plan at the same time, and their clocks.
//!
//! A run alone knows nothing of this module. Where a run is one of several, [`Fleet`] answers the
//! questions that a trial has for its [`Peers`]:
//!
//! * [`scheduler`] tells from the environment which shard this process is.
//! * `rendezvous` is how shards that share a directory agree on each start, `mailbox` their
//!   messages, and [`clock`] how far their clocks are apart.
//! * `gates` judges how they started, and [`merge`] puts the rows of all shards together.

use std::cell::RefCell;
use std::path::Path;

pub(crate) mod clock;
pub(crate) mod gates;
mod mailbox;
pub mod merge;
mod rendezvous;
pub(crate) mod scheduler;

use crate::driver::peers::{Peers, Stop, TrialRefusal};
use crate::format::gates::GateKind;
use crate::format::{Flag, Gate, ShardStart, TrialRecord};
use crate::plan::endpoint::Endpoint;
use crate::plan::shard::{Assignment, Shard};
use crate::plan::{Cell, Extent, TrialPlan};
use crate::sys::{MonotonicNs, now_ns, sleep_until_ns};
use crate::units::{SECOND_NS, format_ns};
use clock::{Clock, monotonic};
use rendezvous::{Apart, Rendezvous};
pub(crate) use rendezvous::{Hello, Meeting};

/// How long before its slot a trial begins to arm, so that lanes do not idle longer than a server
/// keeps a connection open.
const AHEAD_NS: u64 = 10 * SECOND_NS;
/// Turn in which a wait looks for the user's signal.
const TURN_NS: u64 = 50_000_000;

enum FleetStart {
    /// As soon as they are armed here.
    WhenReady,
    /// In slots of equal length, since shards that do not speak to each other can agree on nothing
    /// else: trial p at `first + p · every`.
    At {
        first_unix_ns: u64,
        every_ns: u64,
        clock: Clock,
    },
    Together(Rendezvous),
}

pub(crate) struct Fleet {
    shard: Option<Shard>,
    start: FleetStart,
    /// Whether the target is duel's own.
    embedded_target: bool,
    trial: RefCell<LastSeen>,
}

/// How the trial under way started and ended.
#[derive(Default)]
struct LastSeen {
    at: Option<MonotonicNs>,
    agreed_unix_ns: Option<u64>,
    late_ns: Option<u64>,
    most_late_ns: u64,
    apart: Option<Apart>,
}

impl Fleet {
    /// A shard that starts each trial as soon as it is armed.
    pub(crate) fn unmet(shard: Shard, embedded_target: bool) -> Fleet {
        Fleet::new(Some(shard), FleetStart::WhenReady, embedded_target)
    }

    /// A run whose trials start in slots. `place` is where its results go, beside which the clock
    /// of the file system is read.
    pub(crate) fn in_slots(
        shard: Option<Shard>,
        (first_unix_ns, every_ns): (u64, u64),
        place: &Path,
        embedded_target: bool,
    ) -> Fleet {
        let near = place.ancestors().find(|p| p.is_dir()).unwrap_or(Path::new("."));
        // Without a stamp the offset is unknown, and said to be.
        let clock = Clock::by_file_stamp(near).unwrap_or_default();
        Fleet::new(shard, FleetStart::At { first_unix_ns, every_ns, clock }, embedded_target)
    }

    /// A shard that has met all others.
    ///
    /// # Errors
    /// The directory cannot be used or served another run, a shard never came, or what one of them
    /// brought differs.
    pub(crate) fn meet(
        shard: Shard,
        meeting: &Meeting,
        hello: &Hello,
        stop: Stop,
    ) -> anyhow::Result<Fleet> {
        let start = FleetStart::Together(Rendezvous::join(meeting, shard, hello, stop)?);
        Ok(Fleet::new(Some(shard), start, hello.embedded_target))
    }

    fn new(shard: Option<Shard>, start: FleetStart, embedded_target: bool) -> Fleet {
        Fleet { shard, start, embedded_target, trial: RefCell::default() }
    }

    fn shard(&self) -> Shard {
        self.shard.unwrap_or(Shard::WHOLE)
    }

    fn rendezvous(&self) -> Option<&Rendezvous> {
        match &self.start {
            FleetStart::Together(rendezvous) => Some(rendezvous),
            FleetStart::WhenReady | FleetStart::At { .. } => None,
        }
    }

    fn clock(&self) -> Clock {
        match &self.start {
            FleetStart::WhenReady => Clock::default(),
            FleetStart::At { clock, .. } => clock.clone(),
            FleetStart::Together(rendezvous) => rendezvous.clock().clone(),
        }
    }

    /// A trial that its shards do not run together.
    fn refuse(&self, apart: Apart) -> anyhow::Error {
        let gates = vec![gates::gate_shards(apart.present, self.shard().count)];
        TrialRefusal { why: format!("{}; nothing was sent", apart.why), gates }.into()
    }

    /// The gates of a trial that was to start at a given instant.
    fn judge(&self, seen: &LastSeen, start: &ShardStart) -> Vec<Gate> {
        let most_off_ns = match self.start {
            FleetStart::WhenReady => return vec![],
            // Files may lie on different servers: only what no server's clock explains counts.
            FleetStart::At { .. } => SECOND_NS,
            FleetStart::Together(_) => seen.most_late_ns,
        };
        let offset_ns = gates::sure_offset_ns(start);
        let mut all = vec![
            gates::gate_ns(GateKind::StartLate, start.late_ns, seen.most_late_ns),
            gates::gate_ns(GateKind::ClockOffset, offset_ns, most_off_ns),
        ];
        if self.rendezvous().is_some() {
            let count = self.shard().count;
            let present = seen.apart.as_ref().map_or(count, |apart| apart.present);
            all.push(gates::gate_shards(present, count));
        }
        all
    }
}

impl Peers for Fleet {
    fn wait_for_turn(&self, trial: u32, stop: Stop) {
        self.trial.take();
        if let FleetStart::At { first_unix_ns, every_ns, .. } = self.start {
            let begin = first_unix_ns + u64::from(trial) * every_ns;
            wait_until(monotonic(begin.saturating_sub(AHEAD_NS)), stop);
        }
    }

    fn assign(&self, cell: &Cell, plan: &TrialPlan) -> anyhow::Result<Assignment> {
        self.shard().assign(cell, plan)
    }

    fn targets(&self, trial: u32, stop: Stop) -> anyhow::Result<Option<Vec<Endpoint>>> {
        match self.rendezvous().filter(|r| !r.leads()) {
            Some(r) => r.targets(trial, stop).map(Some).map_err(|apart| self.refuse(apart)),
            None => Ok(None),
        }
    }

    fn publish_targets(&self, trial: u32, targets: &[Endpoint]) -> anyhow::Result<()> {
        self.rendezvous().map_or(Ok(()), |r| r.share_targets(trial, targets))
    }

    fn shared_target(&self) -> Option<&'static str> {
        let shared = self.embedded_target && self.rendezvous().is_some();
        shared.then_some("the target is shard 0's")
    }

    fn agree(
        &self,
        trial: u32,
        lead_ns: u64,
        plan: &TrialPlan,
        stop: Stop,
    ) -> anyhow::Result<MonotonicNs> {
        let most_late_ns = gates::most_late_ns(match plan.extent {
            Extent::DurationNs(ns) => Some(ns),
            Extent::Requests(_) => None,
        });
        let agreed_unix_ns = match &self.start {
            FleetStart::WhenReady => None,
            FleetStart::At { first_unix_ns, every_ns, .. } => {
                Some(first_unix_ns + u64::from(trial) * every_ns)
            }
            FleetStart::Together(rendezvous) => {
                let agreed = rendezvous.armed(trial, None, stop);
                Some(agreed.map_err(|apart| self.refuse(apart))?)
            }
        };
        let at = agreed_unix_ns.map_or_else(|| now_ns() + lead_ns, monotonic);
        let late_ns = now_ns().saturating_sub(at);
        let late_ns = (late_ns > most_late_ns).then_some(late_ns);
        *self.trial.borrow_mut() =
            LastSeen { at: Some(at), agreed_unix_ns, late_ns, most_late_ns, apart: None };
        if let Some(late_ns) = late_ns {
            let late = format_ns(late_ns as f64);
            let refusal = TrialRefusal {
                why: format!("armed {late} after the agreed start; nothing was sent"),
                gates: vec![gates::gate_ns(GateKind::StartLate, Some(late_ns), most_late_ns)],
            };
            return Err(refusal.into());
        }
        // Close to the start, since a target told of one far ahead has nothing to do till then.
        if wait_until(at.saturating_sub(SECOND_NS), stop) {
            anyhow::bail!("stopped before the start");
        }
        Ok(at)
    }

    fn ended(&self, trial: u32, error: Option<&str>, stop: Stop) {
        if let Some(rendezvous) = self.rendezvous() {
            self.trial.borrow_mut().apart = rendezvous.ended(trial, error, stop).err();
        }
    }

    fn note(&self, record: &mut TrialRecord, started: Option<MonotonicNs>) {
        let seen = self.trial.take();
        let clock = self.clock();
        let late_ns = seen.at.zip(started).map(|(at, started)| started.saturating_sub(at));
        let start = ShardStart {
            agreed_unix_ns: seen.agreed_unix_ns,
            late_ns: seen.late_ns.or(late_ns),
            clock_offset_ns: clock.offset_ns,
            clock_error_ns: clock.error_ns,
            clock_reference: clock.reference,
            skew_ns: None,
            shards: None,
        };
        if started.is_some() {
            record.gates.extend(self.judge(&seen, &start));
        }
        if self.embedded_target && self.rendezvous().is_none() && self.shard().count > 1 {
            record.flags.push(Flag::TargetPerShard);
        }
        record.shard = self.shard;
        record.shard_start = Some(start);
    }

    fn over(&self) -> Option<String> {
        self.rendezvous().and_then(Rendezvous::over)
    }
}

/// Sleeps until an instant, or until the user wants to stop, which it returns.
fn wait_until(at: MonotonicNs, stop: Stop) -> bool {
    while now_ns() < at {
        if stop() {
            return true;
        }
        sleep_until_ns(at.min(now_ns() + TURN_NS));
    }
    false
}
