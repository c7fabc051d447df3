//! Shards of one run meet in a directory that all of them see, such as one on NFS or Lustre.
//!
//! Every message is a small JSON file, written under another name and renamed, so that it is seen
//! whole or not at all. Shard 0 collects and decides, so that n shards cost n files per step and all
//! of them hear the same decision:
//!
//! ```text
//! shard k                               shard 0
//!   hello.k        ─────────────────▶   same plan, binary and count? the loopback target reachable?
//!                  ◀─────────────────   welcome
//!   clock/ping.k.r ─────────────────▶   (three rounds)
//!                  ◀─────────────────   clock/pong.k.r        the offset, as NTP computes it
//!   clock.k        ─────────────────▶   clocks within a second of each other?
//!                  ◀─────────────────   ready
//!                  ◀─────────────────   tN/target             the embedded target's addresses
//!   tN/armed.k     ─────────────────▶   all armed?
//!                  ◀─────────────────   tN/start              an instant by the wall clock, or why not
//!   tN/ended.k     ─────────────────▶
//!                  ◀─────────────────   tN/end                the target may go; was anyone lost?
//! ```
//!
//! A shard that leaves writes `gone.k`; one that is killed cannot, and is missed after `wait_ns`.
//! A directory serves one run: whoever finds its own `hello` there is refused, since a shard given
//! twice would send its requests twice.

use std::cell::{Cell, RefCell};

use serde::{Deserialize, Serialize};

use super::clock::{self, Clock, unix_now_ns};
use super::mailbox::{Mailbox, Word, list};
use crate::driver::peers::Stop;
use crate::plan::endpoint::Endpoint;
use crate::plan::shard::Shard;
use crate::units::{SECOND_NS, format_ns};

/// Clocks further apart than this are refused before the first trial: that is no drift, one of
/// them was never set.
const MOST_OFFSET_NS: u64 = SECOND_NS;

/// What must be equal on all shards, and where this one runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hello {
    pub(crate) format_version: u32,
    pub(crate) plan_hash: String,
    pub(crate) binary_digest: String,
    pub(crate) count: u32,
    /// Whether shard 0 starts the target, on its loopback.
    pub(crate) embedded_target: bool,
    pub(crate) host: String,
    /// Kernel and network namespace: where these are equal, loopback is the same.
    pub(crate) loopback: String,
}

impl Hello {
    fn difference(&self, other: &Hello) -> Option<String> {
        let facts = |hello: &Hello| {
            [
                ("another plan", hello.plan_hash.clone()),
                ("another duel binary", hello.binary_digest.clone()),
                ("another record format", hello.format_version.to_string()),
                ("another number of shards", hello.count.to_string()),
            ]
        };
        let mut both = facts(self).into_iter().zip(facts(other));
        if let Some(((what, mine), (_, others))) = both.find(|(a, b)| a != b) {
            return Some(format!("{what} ({others}, shard 0: {mine})"));
        }
        (self.embedded_target && self.loopback != other.loopback).then(|| {
            format!(
                "another machine ({}), from which shard 0's embedded target on the loopback of {} \
                 cannot be reached: start `duel target --listen ADDR:PORT` there and name it as \
                 [target] url, with --allow",
                other.host, self.host
            )
        })
    }
}

/// What shard 0 decides by everyone's messages.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Decision {
    /// The start, nanoseconds since the Unix epoch, where there is one.
    start_unix_ns: Option<u64>,
    why: Option<String>,
    /// Shards that did not answer: the run ends here.
    #[serde(default)]
    missing: Vec<u32>,
}

/// Shards that did not start or end together; the trial's numbers are not those of the plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Apart {
    pub(super) why: String,
    pub(super) present: u32,
}

/// Where and how patiently shards meet.
#[derive(Debug, Clone)]
pub(crate) struct Meeting {
    pub(crate) dir: std::path::PathBuf,
    /// How long a step may take the others.
    pub(crate) wait_ns: u64,
    /// From shard 0's decision to the start: as long as a new file may take to be seen everywhere.
    pub(crate) lead_ns: u64,
}

pub(super) struct Rendezvous {
    mailbox: Mailbox,
    lead_ns: u64,
    shard: Shard,
    clock: Clock,
    /// The last trial for which this shard said that it is armed, or cannot be.
    announced: Cell<Option<u32>>,
    started: Cell<Option<u32>>,
    over: RefCell<Option<String>>,
}

impl Rendezvous {
    /// Meets the other shards and compares plans and clocks.
    ///
    /// # Errors
    /// The directory cannot be used or served another run, a shard never came, or what one of them
    /// brought differs.
    pub(super) fn join(
        meeting: &Meeting,
        shard: Shard,
        hello: &Hello,
        stop: Stop,
    ) -> anyhow::Result<Self> {
        let mut here = Rendezvous {
            mailbox: Mailbox::open(&meeting.dir, meeting.wait_ns, shard)?,
            lead_ns: meeting.lead_ns,
            shard,
            clock: Clock::default(),
            announced: Cell::new(None),
            started: Cell::new(None),
            over: RefCell::new(None),
        };
        here.mailbox.claim_slot(hello)?;
        here.introduce(hello, stop)?;
        here.compare_clocks(stop)?;
        here.mailbox.leave_with("its run ended");
        Ok(here)
    }

    pub(super) fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Why no further trial can be one of all shards, once that is so.
    pub(super) fn over(&self) -> Option<String> {
        self.over.borrow().clone()
    }

    pub(super) fn leads(&self) -> bool {
        self.shard.index == 0
    }

    fn introduce(&self, hello: &Hello, stop: Stop) -> anyhow::Result<()> {
        let decision = if self.leads() {
            let all = 0..self.shard.count;
            let (hellos, missing) = self.mailbox.collect::<Hello>("hello", all, stop)?;
            let different = hellos
                .iter()
                .find_map(|(k, h)| Some((k, hello.difference(h)?)))
                .map(|(k, what)| format!("shard {k} has {what}"));
            self.decide("welcome", Decision { why: different, missing, start_unix_ns: None })?
        } else {
            self.mailbox.hear("welcome", stop)?
        };
        self.refuse(decision)
    }

    fn refuse(&self, decision: Decision) -> anyhow::Result<()> {
        let why = match decision.missing.as_slice() {
            [] => decision.why,
            missing => {
                let waited = format_ns(self.mailbox.wait_ns as f64);
                Some(format!("{} did not come within {waited}", list(missing)))
            }
        };
        why.map_or(Ok(()), |why| Err(self.mailbox.error(why)))
    }

    fn compare_clocks(&mut self, stop: Stop) -> anyhow::Result<()> {
        let mail = &self.mailbox;
        let decision = if self.leads() {
            let others = 1..self.shard.count;
            clock::answer_pings(mail, others.clone(), stop)?;
            let (clocks, missing) = mail.collect::<Clock>("clock", others, stop)?;
            let why =
                clocks.iter().find_map(|(k, clock)| Some((k, clock.far_off(MOST_OFFSET_NS)?)));
            let why = why.map(|(k, by)| {
                format!("the clock of shard {k} is {by} shard 0's: set both by NTP or PTP")
            });
            self.clock = Clock::of_shard_0(0, 0);
            self.decide("ready", Decision { why, missing, start_unix_ns: None })?
        } else {
            self.clock = clock::ping(mail, self.shard.index, stop)?;
            mail.post(&format!("clock.{}", self.shard.index), &self.clock)?;
            mail.hear("ready", stop)?
        };
        self.refuse(decision)
    }

    /// Tells the others where this trial's embedded target listens.
    pub(super) fn share_targets(&self, trial: u32, endpoints: &[Endpoint]) -> anyhow::Result<()> {
        self.mailbox.post(&format!("t{trial}/target"), endpoints)
    }

    /// Where shard 0's embedded target of this trial listens: on loopback, as every such target.
    pub(super) fn targets(&self, trial: u32, stop: Stop) -> Result<Vec<Endpoint>, Apart> {
        let all = self.shard.count;
        let apart = |why: String| Apart { why, present: all };
        let endpoints: Vec<Endpoint> = self
            .mailbox
            .until(2 * self.mailbox.wait_ns, &|| list(&[0]), stop, || {
                // A shard 0 that cannot start its target says so in its decision instead. What was
                // said is read behind what says that it is gone, since it goes last.
                let gone = self.mailbox.gone(0)?;
                let decided: Option<Decision> = self.mailbox.read(&format!("t{trial}/start"))?;
                if let Some(endpoints) = self.mailbox.read(&format!("t{trial}/target"))? {
                    return Ok(Some(Ok(endpoints)));
                }
                let refused = decided.and_then(|d| d.why).map(|why| Err(apart(why)));
                Ok(refused.or_else(|| gone.map(|_| Err(self.lost(&[0])))))
            })
            .map_err(|e| apart(e.to_string()))?
            .unwrap_or_else(|| Err(self.lost(&[0])))?;
        match endpoints.iter().find(|endpoint| !endpoint.is_local()) {
            Some(foreign) => {
                let why = format!("{foreign} is not on loopback, where shard 0's target is");
                Err(apart(self.mailbox.error(why).to_string()))
            }
            None => Ok(endpoints),
        }
    }

    /// This shard is armed, or cannot be; answers with the common start by the wall clock.
    pub(super) fn armed(&self, trial: u32, error: Option<&str>, stop: Stop) -> Result<u64, Apart> {
        self.announced.set(Some(trial));
        let word = Word { error: error.map(String::from) };
        let decision = self.agree(trial, true, &word, stop)?;
        match (decision.start_unix_ns, decision.why) {
            _ if !decision.missing.is_empty() => Err(self.lost(&decision.missing)),
            (Some(at), None) => {
                self.started.set(Some(trial));
                Ok(at)
            }
            (_, why) => {
                let why = why.unwrap_or_else(|| "shard 0 named no start".into());
                Err(Apart { why, present: self.shard.count })
            }
        }
    }

    /// This shard's part of the trial is over; returns when everyone's is. One that fails before
    /// it said that it is armed says so now, and what the others decide by it is no matter here.
    pub(super) fn ended(&self, trial: u32, error: Option<&str>, stop: Stop) -> Result<(), Apart> {
        if let Some(error) = error
            && self.announced.get() != Some(trial)
        {
            let _ = self.armed(trial, Some(error), stop);
        }
        if self.started.get() != Some(trial) {
            return Ok(());
        }
        let decision = self.agree(trial, false, &Word::default(), stop)?;
        if decision.missing.is_empty() { Ok(()) } else { Err(self.lost(&decision.missing)) }
    }

    fn agree(
        &self,
        trial: u32,
        is_start: bool,
        word: &Word,
        stop: Stop,
    ) -> Result<Decision, Apart> {
        let [mine, common] = if is_start { ["armed", "start"] } else { ["ended", "end"] };
        if let Some(why) = self.over() {
            return Err(Apart { why, present: self.shard.count.saturating_sub(1) });
        }
        let mail = &self.mailbox;
        let apart = |e: anyhow::Error| Apart { why: e.to_string(), present: self.shard.count };
        mail.post(&format!("t{trial}/{mine}.{}", self.shard.index), word).map_err(apart)?;
        if !self.leads() {
            return mail.hear(&format!("t{trial}/{common}"), stop).map_err(|e| {
                if !stop() {
                    *self.over.borrow_mut() = Some(e.to_string());
                }
                Apart { why: e.to_string(), present: self.shard.count - 1 }
            });
        }
        let all = 0..self.shard.count;
        let (words, missing) =
            mail.collect::<Word>(&format!("t{trial}/{mine}"), all, stop).map_err(apart)?;
        let why = words.into_iter().find_map(|(k, w)| Some(format!("shard {k}: {}", w.error?)));
        let start = (is_start && why.is_none() && missing.is_empty())
            .then(|| unix_now_ns() + self.lead_ns.max(2 * mail.poll_ns()));
        let decision = Decision { start_unix_ns: start, why, missing };
        let decision = self.decide(&format!("t{trial}/{common}"), decision).map_err(apart)?;
        if is_start && trial > 0 {
            // Whoever armed for this trial has read all that it needs of the one before.
            mail.forget(&format!("t{}", trial - 1));
        }
        Ok(decision)
    }

    fn decide(&self, name: &str, decision: Decision) -> anyhow::Result<Decision> {
        self.mailbox.post(name, &decision)?;
        Ok(decision)
    }

    /// Shards are lost for good: no later trial can be whole.
    fn lost(&self, missing: &[u32]) -> Apart {
        let left = |k: &u32| self.mailbox.gone(*k).ok().flatten();
        let why = match missing.iter().find_map(left) {
            Some(Word { error }) => {
                format!("{} is gone: {}", list(missing), error.unwrap_or_default())
            }
            None => format!(
                "{} did not answer within {}",
                list(missing),
                format_ns(self.mailbox.wait_ns as f64)
            ),
        };
        *self.over.borrow_mut() = Some(why.clone());
        Apart { why, present: self.shard.count - missing.len() as u32 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello() -> Hello {
        Hello {
            format_version: 1,
            plan_hash: "p".into(),
            binary_digest: "b".into(),
            count: 2,
            embedded_target: true,
            host: "h".into(),
            loopback: "l".into(),
        }
    }

    /// Both shards of a run that met in `dir`.
    fn met(dir: &std::path::Path) -> [Rendezvous; 2] {
        let seat = |index| {
            let meeting = Meeting { dir: dir.into(), wait_ns: 60 * SECOND_NS, lead_ns: 0 };
            let shard = Shard { index, count: 2 };
            Rendezvous::join(&meeting, shard, &hello(), &|| false).expect("they meet")
        };
        std::thread::scope(|scope| {
            let other = scope.spawn(|| seat(1));
            [seat(0), other.join().expect("no panic")]
        })
    }

    #[test]
    fn a_planted_target_gets_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let [_leader, shard] = met(dir.path());
        let plant = |trial: u32, text: &str| {
            let place = dir.path().join(format!("t{trial}"));
            std::fs::create_dir_all(&place).unwrap();
            std::fs::write(place.join("target.json"), text).unwrap();
            place.join("target.json")
        };
        for (trial, address) in ["192.0.2.1:80", "[2001:db8::1]:80"].iter().enumerate() {
            plant(trial as u32, &format!("[\"127.0.0.1:80\", \"{address}\"]"));
            let refused = shard.targets(trial as u32, &|| false).unwrap_err().why;
            assert!(refused.contains(address) && refused.contains("loopback"), "{refused}");
        }
        let planted = plant(7, "[\"127.0.0.1:80\"]");
        assert!(shard.targets(7, &|| false).is_ok());
        // Only root can make another user's file.
        if std::os::unix::fs::chown(&planted, Some(4_242), None).is_ok() {
            let refused = shard.targets(7, &|| false).unwrap_err().why;
            assert!(refused.contains("another user"), "{refused}");
        }
    }

    #[test]
    fn whoever_finds_the_seat_taken_ends_nobody_elses_run() {
        let dir = tempfile::tempdir().unwrap();
        let [leader, shard] = met(dir.path());
        let meeting = Meeting { dir: dir.path().into(), wait_ns: 1, lead_ns: 0 };
        let twice = Rendezvous::join(&meeting, shard.shard, &hello(), &|| false);
        assert!(twice.is_err_and(|e| e.to_string().contains("there already")));
        assert!(leader.mailbox.gone(1).unwrap().is_none(), "shard 1 is still there");
        drop(shard);
        assert!(leader.mailbox.gone(1).unwrap().is_some());
    }
}
