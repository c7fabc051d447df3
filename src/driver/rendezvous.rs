//! Shards of one run meet in a directory that all of them see, such as one on NFS or Lustre.
//!
//! Every message is a small JSON file, written under another name and renamed, so that it is seen
//! whole or not at all. Shard 0 collects and decides, so that n shards cost n files a step and all
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
use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::start::{Clock, unix_now_ns};
use crate::plan::endpoint::Endpoint;
use crate::plan::shard::Shard;
use crate::sys::{now_ns, sleep_until_ns};
use crate::units::{SECOND_NS, format_ns};

/// Clocks further apart than this are refused before the first trial: that is no drift, one of
/// them was never set.
const MOST_OFFSET_NS: u64 = SECOND_NS;
/// Exchanges with shard 0; the quickest decides.
const ROUNDS: u32 = 3;

/// What must be equal on all shards, and where this one runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Version of the records.
    pub format_version: u32,
    /// Hash of the plan.
    pub plan_hash: String,
    /// Digest of the binary.
    pub binary_digest: String,
    /// How many shards this one thinks there are.
    pub count: u32,
    /// Whether shard 0 starts the target, on its loopback.
    pub embedded_target: bool,
    /// Name of the machine.
    pub host: String,
    /// Kernel and network namespace: where these are equal, loopback is the same.
    pub loopback: String,
}

impl Hello {
    fn difference(&self, other: &Hello) -> Option<String> {
        let differs = |what: &str, a: &str, b: &str| Some(format!("{what} ({b}, shard 0: {a})"));
        if self.plan_hash != other.plan_hash {
            return differs("another plan", &self.plan_hash, &other.plan_hash);
        }
        if self.binary_digest != other.binary_digest {
            return differs("another duel binary", &self.binary_digest, &other.binary_digest);
        }
        if self.format_version != other.format_version {
            let [a, b] = [self, other].map(|h| h.format_version.to_string());
            return differs("another record format", &a, &b);
        }
        if self.count != other.count {
            let [a, b] = [self, other].map(|h| h.count.to_string());
            return differs("another number of shards", &a, &b);
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

/// Which of a shard's messages is meant.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Word {
    /// Why the shard cannot go on with this trial.
    error: Option<String>,
}

/// What shard 0 made of everyone's messages.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Decision {
    /// The start, nanoseconds since the Unix epoch, where there is one.
    start_unix_ns: Option<u64>,
    /// Why there is none, or what else is wrong.
    why: Option<String>,
    /// Shards that did not answer: the run ends here.
    #[serde(default)]
    missing: Vec<u32>,
}

#[derive(Serialize, Deserialize)]
struct Ping {
    unix_ns: u64,
}

#[derive(Serialize, Deserialize)]
struct Pong {
    received_unix_ns: u64,
    sent_unix_ns: u64,
}

/// Shards that did not start or end together; the trial's numbers are not those of the plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Apart {
    /// One sentence.
    pub why: String,
    /// Shards that were there.
    pub present: u32,
}

/// Where and how patiently shards meet.
#[derive(Debug, Clone)]
pub struct Meeting {
    /// The common directory.
    pub dir: PathBuf,
    /// How long a step may take the others.
    pub wait_ns: u64,
    /// From shard 0's decision to the start: as long as a new file may take to be seen everywhere.
    pub lead_ns: u64,
}

/// This shard's seat.
pub struct Rendezvous {
    meeting: Meeting,
    shard: Shard,
    clock: Clock,
    /// The last trial for which this shard said that it is armed, or cannot be.
    announced: Cell<Option<u32>>,
    /// The last trial that was started.
    started: Cell<Option<u32>>,
    over: RefCell<Option<String>>,
    left: RefCell<Option<String>>,
}

type Stop<'s> = &'s dyn Fn() -> bool;

impl Rendezvous {
    /// Meets the other shards and compares plans and clocks.
    ///
    /// # Errors
    /// The directory cannot be used or served another run, a shard never came, or what one of them
    /// brought differs.
    pub fn join(
        meeting: &Meeting,
        shard: Shard,
        hello: &Hello,
        stop: Stop,
    ) -> Result<Self, String> {
        let mut here = Rendezvous {
            meeting: meeting.clone(),
            shard,
            clock: Clock::default(),
            announced: Cell::new(None),
            started: Cell::new(None),
            over: RefCell::new(None),
            left: RefCell::new(Some("it was refused".into())),
        };
        fs::create_dir_all(here.path("clock")).map_err(|e| here.cannot("make it", &e))?;
        here.sit_down(hello)?;
        here.introduce(hello, stop)?;
        here.compare_clocks(stop)?;
        *here.left.borrow_mut() = Some("its run ended".into());
        Ok(here)
    }

    /// This machine's clock against shard 0's.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Why no further trial can be one of all shards, once that is so.
    pub fn over(&self) -> Option<String> {
        self.over.borrow().clone()
    }

    /// Whether this shard starts what all share.
    pub fn leads(&self) -> bool {
        self.shard.index == 0
    }

    fn path(&self, name: &str) -> PathBuf {
        self.meeting.dir.join(name)
    }

    fn cannot(&self, what: &str, error: &dyn std::fmt::Display) -> String {
        format!("--rendezvous {}: cannot {what}: {error}", self.meeting.dir.display())
    }

    /// Takes this shard's place; it must be free.
    fn sit_down(&self, hello: &Hello) -> Result<(), String> {
        let path = self.path(&format!("hello.{}.json", self.shard.index));
        // Reserved under another name first, so that the hello itself appears whole.
        let seat = self.path(&format!("seat.{}", self.shard.index));
        OpenOptions::new().write(true).create_new(true).open(seat).map_err(|e| match e.kind() {
            ErrorKind::AlreadyExists => format!(
                "--rendezvous {}: shard {} is there already: a shard runs once, and each run needs \
                 a fresh directory",
                self.meeting.dir.display(),
                self.shard.index
            ),
            _ => self.cannot("write there", &e),
        })?;
        write(&path, hello).map_err(|e| self.cannot("write there", &e))
    }

    fn introduce(&self, hello: &Hello, stop: Stop) -> Result<(), String> {
        let decision = if self.leads() {
            let (hellos, missing) = self.collect::<Hello>("hello", stop)?;
            let different = hellos
                .iter()
                .find_map(|(k, h)| Some((k, hello.difference(h)?)))
                .map(|(k, what)| format!("shard {k} has {what}"));
            self.decide("welcome", Decision { why: different, missing, start_unix_ns: None })?
        } else {
            self.hear("welcome", stop)?
        };
        self.refuse(decision)
    }

    fn refuse(&self, decision: Decision) -> Result<(), String> {
        let place = format!("--rendezvous {}", self.meeting.dir.display());
        if !decision.missing.is_empty() {
            let waited = format_ns(self.meeting.wait_ns as f64);
            let shards = list(&decision.missing);
            return Err(format!("{place}: {shards} did not come within {waited}"));
        }
        decision.why.map_or(Ok(()), |why| Err(format!("{place}: {why}")))
    }

    /// NTP's four stamps by way of files (RFC 5905, section 8).
    fn compare_clocks(&mut self, stop: Stop) -> Result<(), String> {
        let decision = if self.leads() {
            self.clock = Clock { reference: Some("shard 0".into()), ..Clock::exact() };
            self.answer_pings(stop)?;
            let (clocks, missing) = self.collect::<Clock>("clock", stop)?;
            let why =
                clocks.iter().find_map(|(k, clock)| Some((k, clock.far_off(MOST_OFFSET_NS)?)));
            let why = why.map(|(k, by)| {
                format!("the clock of shard {k} is {by} shard 0's: set both by NTP or PTP")
            });
            self.decide("ready", Decision { why, missing, start_unix_ns: None })?
        } else {
            self.clock = self.ping(stop)?;
            let path = self.path(&format!("clock.{}.json", self.shard.index));
            write(&path, &self.clock).map_err(|e| self.cannot("write there", &e))?;
            self.hear("ready", stop)?
        };
        self.refuse(decision)
    }

    fn ping(&self, stop: Stop) -> Result<Clock, String> {
        let mut best: Option<(u64, i64)> = None;
        for round in 0..ROUNDS {
            let name = |what: &str| format!("clock/{what}.{}.{round}", self.shard.index);
            let sent = unix_now_ns();
            let path = self.path(&format!("{}.json", name("ping")));
            write(&path, &Ping { unix_ns: sent }).map_err(|e| self.cannot("write there", &e))?;
            let pong: Pong = self.listen(&name("pong"), stop)?;
            let back = unix_now_ns();
            let held = pong.sent_unix_ns.saturating_sub(pong.received_unix_ns);
            let round_trip = back.saturating_sub(sent).saturating_sub(held);
            // This clock less shard 0's, halfway between the two bounds.
            let ahead = back as i64 - pong.sent_unix_ns as i64;
            let behind = pong.received_unix_ns as i64 - sent as i64;
            let offset = (ahead - behind) / 2;
            if best.is_none_or(|(least, _)| round_trip < least) {
                best = Some((round_trip, offset));
            }
        }
        let (round_trip, offset) = best.expect("at least one round");
        Ok(Clock {
            offset_ns: Some(offset),
            error_ns: Some(round_trip / 2),
            reference: Some("shard 0".into()),
        })
    }

    fn answer_pings(&self, stop: Stop) -> Result<(), String> {
        let mut due: Vec<(u32, u32)> = (1..self.shard.count).map(|k| (k, 0)).collect();
        let deadline = now_ns() + self.meeting.wait_ns;
        while !due.is_empty() && now_ns() < deadline {
            let mut failed = None;
            due.retain_mut(|(k, round)| {
                let ping = self.path(&format!("clock/ping.{k}.{round}.json"));
                if read::<Ping>(&ping).is_some() {
                    let now = unix_now_ns();
                    let pong = self.path(&format!("clock/pong.{k}.{round}.json"));
                    let stamps = Pong { received_unix_ns: now, sent_unix_ns: unix_now_ns() };
                    failed = failed.take().or(write(&pong, &stamps).err());
                    *round += 1;
                }
                *round < ROUNDS
            });
            if let Some(error) = failed {
                return Err(self.cannot("write there", &error));
            }
            self.pause(stop)?;
        }
        Ok(())
    }

    /// Tells the others where this trial's embedded target listens.
    pub fn share_targets(&self, trial: u32, endpoints: &[Endpoint]) -> Result<(), String> {
        let path = self.trial_path(trial, "target")?;
        write(&path, &endpoints).map_err(|e| self.cannot("write there", &e))
    }

    /// Where shard 0's embedded target of this trial listens.
    pub fn targets(&self, trial: u32, stop: Stop) -> Result<Vec<Endpoint>, Apart> {
        let name = format!("t{trial}/target");
        // A shard 0 that cannot start its target says so in its decision instead.
        let decided = self.path(&format!("t{trial}/start.json"));
        let deadline = now_ns() + 2 * self.meeting.wait_ns;
        loop {
            let refused: Option<Decision> = read(&decided);
            let gone = self.gone(0);
            if let Some(endpoints) = read(&self.path(&format!("{name}.json"))) {
                return Ok(endpoints);
            }
            if let Some(why) = refused.and_then(|d| d.why) {
                return Err(self.apart(why, self.shard.count));
            }
            if gone.is_some() || now_ns() >= deadline {
                return Err(self.lost(&[0]));
            }
            self.pause(stop).map_err(|why| self.apart(why, self.shard.count))?;
        }
    }

    /// This shard is armed, or cannot be; answers with the common start by the wall clock.
    pub fn armed(&self, trial: u32, error: Option<String>, stop: Stop) -> Result<u64, Apart> {
        self.announced.set(Some(trial));
        let all = self.shard.count;
        let decision = self.agree(trial, ["armed", "start"], Word { error }, stop)?;
        match (decision.start_unix_ns, decision.why) {
            _ if !decision.missing.is_empty() => Err(self.lost(&decision.missing)),
            (Some(at), None) => {
                self.started.set(Some(trial));
                Ok(at)
            }
            (_, why) => {
                Err(self.apart(why.unwrap_or_else(|| "shard 0 named no start".into()), all))
            }
        }
    }

    /// Tells the others that this shard cannot be armed, unless it has told them something already.
    pub fn failed(&self, trial: u32, error: &str, stop: Stop) {
        if self.announced.get() != Some(trial) {
            // What they make of it is no matter to a shard that cannot take part.
            let _ = self.armed(trial, Some(error.into()), stop);
        }
    }

    /// This shard's part of the trial is over, if it ever began; returns when everyone's is.
    pub fn ended(&self, trial: u32, stop: Stop) -> Result<(), Apart> {
        if self.started.get() != Some(trial) {
            return Ok(());
        }
        let decision = self.agree(trial, ["ended", "end"], Word::default(), stop)?;
        if decision.missing.is_empty() { Ok(()) } else { Err(self.lost(&decision.missing)) }
    }

    fn agree(
        &self,
        trial: u32,
        [mine, common]: [&str; 2],
        word: Word,
        stop: Stop,
    ) -> Result<Decision, Apart> {
        let apart = |why: String| self.apart(why, self.shard.count);
        if let Some(why) = self.over() {
            return Err(self.apart(why, self.shard.count.saturating_sub(1)));
        }
        let path =
            self.trial_path(trial, &format!("{mine}.{}", self.shard.index)).map_err(apart)?;
        write(&path, &word).map_err(|e| apart(self.cannot("write there", &e)))?;
        if !self.leads() {
            return self.hear(&format!("t{trial}/{common}"), stop).map_err(|_| self.lost(&[0]));
        }
        let (words, missing) =
            self.collect::<Word>(&format!("t{trial}/{mine}"), stop).map_err(apart)?;
        let why = words.into_iter().find_map(|(k, w)| Some(format!("shard {k}: {}", w.error?)));
        let start = (common == "start" && why.is_none() && missing.is_empty())
            .then(|| unix_now_ns() + self.meeting.lead_ns.max(2 * self.poll_ns()));
        let decision = Decision { start_unix_ns: start, why, missing };
        let decision = self.decide(&format!("t{trial}/{common}"), decision).map_err(apart)?;
        if common == "start" && trial > 0 {
            // Whoever armed for this trial has read all that it needs of the one before.
            let _ = fs::remove_dir_all(self.path(&format!("t{}", trial - 1)));
        }
        Ok(decision)
    }

    fn apart(&self, why: String, present: u32) -> Apart {
        Apart { why, present }
    }

    /// Shards are lost for good: no later trial can be whole.
    fn lost(&self, missing: &[u32]) -> Apart {
        let reasons: Vec<String> = missing.iter().filter_map(|k| self.gone(*k)).collect();
        let why = match reasons.first() {
            Some(reason) => format!("{} is gone: {reason}", list(missing)),
            None => format!(
                "{} did not answer within {}",
                list(missing),
                format_ns(self.meeting.wait_ns as f64)
            ),
        };
        *self.over.borrow_mut() = Some(why.clone());
        self.apart(why, self.shard.count - missing.len() as u32)
    }

    fn trial_path(&self, trial: u32, name: &str) -> Result<PathBuf, String> {
        let dir = self.path(&format!("t{trial}"));
        fs::create_dir_all(&dir).map_err(|e| self.cannot("write there", &e))?;
        Ok(dir.join(format!("{name}.json")))
    }

    /// Why a shard left, if it did.
    fn gone(&self, k: u32) -> Option<String> {
        read::<Word>(&self.path(&format!("gone.{k}.json"))).map(|w| w.error.unwrap_or_default())
    }

    fn decide(&self, name: &str, decision: Decision) -> Result<Decision, String> {
        let path = self.path(&format!("{name}.json"));
        write(&path, &decision).map_err(|e| self.cannot("write there", &e))?;
        Ok(decision)
    }

    fn hear(&self, name: &str, stop: Stop) -> Result<Decision, String> {
        self.listen(name, stop)
    }

    /// Waits for a file of shard 0's, which itself may have to wait for others.
    fn listen<T: DeserializeOwned>(&self, name: &str, stop: Stop) -> Result<T, String> {
        let path = self.path(&format!("{name}.json"));
        let deadline = now_ns() + 2 * self.meeting.wait_ns;
        loop {
            // Looked for in this order, since a shard writes what it has to say before it goes.
            let gone = self.gone(0);
            if let Some(message) = read(&path) {
                return Ok(message);
            }
            if let Some(why) = gone {
                return Err(format!("shard 0 is gone: {why}"));
            }
            if now_ns() >= deadline {
                let waited = format_ns(2.0 * self.meeting.wait_ns as f64);
                return Err(self.cannot("go on", &format!("shard 0 said nothing within {waited}")));
            }
            self.pause(stop)?;
        }
    }

    /// Everyone's message of a step, and who sent none in time.
    #[expect(clippy::type_complexity, reason = "two lists by shard number")]
    fn collect<T: DeserializeOwned>(
        &self,
        name: &str,
        stop: Stop,
    ) -> Result<(Vec<(u32, T)>, Vec<u32>), String> {
        let first = u32::from(name == "clock");
        let mut pending: Vec<u32> = (first..self.shard.count).collect();
        let mut messages = vec![];
        let mut missing = vec![];
        let deadline = now_ns() + self.meeting.wait_ns;
        loop {
            pending.retain(|k| {
                let gone = self.gone(*k);
                if let Some(message) = read(&self.path(&format!("{name}.{k}.json"))) {
                    messages.push((*k, message));
                    return false;
                }
                if gone.is_some() {
                    missing.push(*k);
                }
                gone.is_none()
            });
            if pending.is_empty() || now_ns() >= deadline {
                missing.append(&mut pending);
                return Ok((messages, missing));
            }
            self.pause(stop)?;
        }
    }

    /// More shards ask less often, so that the file server's work grows with their number only.
    fn poll_ns(&self) -> u64 {
        (1_000_000 + u64::from(self.shard.count) * 100_000).min(200_000_000)
    }

    fn pause(&self, stop: Stop) -> Result<(), String> {
        if stop() {
            *self.left.borrow_mut() = Some("it was stopped by a signal".into());
            return Err("stopped while waiting for the other shards".into());
        }
        sleep_until_ns(now_ns() + self.poll_ns());
        Ok(())
    }
}

impl Drop for Rendezvous {
    fn drop(&mut self) {
        let error = self.left.borrow_mut().take();
        // Without it the others wait their full time; there is nobody left to tell.
        let _ = write(&self.path(&format!("gone.{}.json", self.shard.index)), &Word { error });
    }
}

/// `shard 1`, `shards 1, 4 and 3 more`.
fn list(shards: &[u32]) -> String {
    let shown: Vec<String> = shards.iter().take(5).map(u32::to_string).collect();
    let more = shards.len() - shown.len();
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("shard{} {}{more}", if shards.len() == 1 { "" } else { "s" }, shown.join(", "))
}

/// Writes a message so that it appears whole.
fn write<T: Serialize + ?Sized>(path: &Path, message: &T) -> std::io::Result<()> {
    let temporary = path.with_extension("tmp");
    let mut file = fs::File::create(&temporary)?;
    file.write_all(&serde_json::to_vec(message)?)?;
    // Closing flushes on the file systems that machines share.
    drop(file);
    fs::rename(temporary, path)
}

/// A message, if it is there and whole.
fn read<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}
