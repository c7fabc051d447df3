//! Messages between shards: small JSON files in a common directory, each written under another name
//! and renamed, so that it is seen whole or not at all.

use std::cell::{Cell, RefCell};
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::driver::peers::Stop;
use crate::plan::shard::Shard;
use crate::sys::{now_ns, sleep_until_ns};
use crate::units::{SECOND_NS, format_ns};

/// How often a shard that waits says for whom; the first time after a fifth of it.
const SAY_EVERY_NS: u64 = 10 * SECOND_NS;
/// Longest message: a list of addresses, or one sentence.
const MOST_BYTES: u64 = 1 << 20;

/// This shard's view of the common directory. Dropping it tells the others that it has left.
pub(super) struct Mailbox {
    dir: PathBuf,
    pub(super) wait_ns: u64,
    shard: Shard,
    /// Who owns this shard's own messages, as the file system shows it.
    owner: Cell<Option<u32>>,
    left: RefCell<Word>,
}

/// What a shard says of itself.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Word {
    pub(super) error: Option<String>,
}

impl Mailbox {
    pub(super) fn open(dir: &Path, wait_ns: u64, shard: Shard) -> anyhow::Result<Self> {
        let left = RefCell::new(Word { error: Some("it was refused".into()) });
        let owner = Cell::new(None);
        let here = Mailbox { dir: dir.into(), wait_ns, shard, owner, left };
        match fs::create_dir_all(dir) {
            Ok(()) => Ok(here),
            Err(e) => Err(here.error(format!("cannot make it: {e}"))),
        }
    }

    pub(super) fn error(&self, what: impl std::fmt::Display) -> anyhow::Error {
        anyhow::anyhow!("--rendezvous {}: {what}", self.dir.display())
    }

    /// What the others are told when this shard leaves.
    pub(super) fn leave_with(&self, why: &str) {
        self.left.borrow_mut().error = Some(why.into());
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.json"))
    }

    /// Takes this shard's place, which must be free.
    pub(super) fn claim_slot(&self, hello: &impl Serialize) -> anyhow::Result<()> {
        let index = self.shard.index;
        // Reserved under another name first, so that the hello itself appears whole.
        let slot = self.dir.join(format!("seat.{index}"));
        let slot = OpenOptions::new().write(true).create_new(true).open(slot).map_err(|e| {
            self.error(match e.kind() {
                ErrorKind::AlreadyExists => format!(
                    "shard {index} is there already: a shard runs once, and each run needs a fresh \
                     directory"
                ),
                _ => format!("cannot write there: {e}"),
            })
        })?;
        self.owner.set(slot.metadata().ok().map(|m| m.uid()));
        self.post(&format!("hello.{index}"), hello)
    }

    pub(super) fn post<T: Serialize + ?Sized>(
        &self,
        name: &str,
        message: &T,
    ) -> anyhow::Result<()> {
        let path = self.path(name);
        let write = || {
            fs::create_dir_all(path.parent().unwrap_or(&self.dir))?;
            let temporary = path.with_extension("tmp");
            let mut file = File::create(&temporary)?;
            file.write_all(&serde_json::to_vec(message)?)?;
            // Closing flushes on the file systems that machines share.
            drop(file);
            fs::rename(temporary, &path)
        };
        write().map_err(|e| self.error(format!("cannot write there: {e}")))
    }

    /// A message, if it is there and whole.
    ///
    /// # Errors
    /// Another user wrote it: a shard's messages all come from the user who runs it.
    pub(super) fn read<T: DeserializeOwned>(&self, name: &str) -> anyhow::Result<Option<T>> {
        let path = self.path(name);
        let Ok(file) = crate::sys::open_file(&path) else { return Ok(None) };
        let owner = file.metadata().ok().map(|m| m.uid());
        if owner != self.owner.get() {
            let file = path.display();
            return Err(self.error(format!("{file} was written by another user; nothing is sent")));
        }
        let mut bytes = vec![];
        let whole = file.take(MOST_BYTES).read_to_end(&mut bytes).is_ok();
        Ok(whole.then(|| serde_json::from_slice(&bytes).ok()).flatten())
    }

    /// The last word of a shard, if it has left.
    pub(super) fn gone(&self, k: u32) -> anyhow::Result<Option<Word>> {
        self.read(&format!("gone.{k}"))
    }

    pub(super) fn forget(&self, name: &str) {
        let _ = fs::remove_dir_all(self.dir.join(name));
    }

    /// Waits for a message of shard 0's, which itself may have to wait for others.
    pub(super) fn hear<T: DeserializeOwned>(&self, name: &str, stop: Stop) -> anyhow::Result<T> {
        let wait_ns = 2 * self.wait_ns;
        let heard = self.until(wait_ns, &|| list(&[0]), stop, || {
            // Looked for in this order, since a shard writes what it has to say before it goes.
            let gone = self.gone(0)?;
            match (self.read(name)?, gone) {
                (None, Some(Word { error })) => {
                    anyhow::bail!("shard 0 is gone: {}", error.unwrap_or_default())
                }
                (message, _) => Ok(message),
            }
        })?;
        heard.ok_or_else(|| {
            let waited = format_ns(wait_ns as f64);
            self.error(format!("cannot go on: shard 0 said nothing within {waited}"))
        })
    }

    /// The messages of some shards, and who sent none in time.
    #[expect(clippy::type_complexity, reason = "two lists by shard number")]
    pub(super) fn collect<T: DeserializeOwned>(
        &self,
        name: &str,
        shards: Range<u32>,
        stop: Stop,
    ) -> anyhow::Result<(Vec<(u32, T)>, Vec<u32>)> {
        let pending = RefCell::new(shards.collect::<Vec<u32>>());
        let mut messages = vec![];
        let mut missing = vec![];
        self.until(self.wait_ns, &|| list(&pending.borrow()), stop, || {
            for k in pending.take() {
                let gone = self.gone(k)?;
                match self.read(&format!("{name}.{k}"))? {
                    Some(message) => messages.push((k, message)),
                    None if gone.is_some() => missing.push(k),
                    None => pending.borrow_mut().push(k),
                }
            }
            Ok(pending.borrow().is_empty().then_some(()))
        })?;
        missing.append(&mut pending.into_inner());
        Ok((messages, missing))
    }

    /// Looks again and again until there is an answer; `None` when there was none in time.
    pub(super) fn until<T>(
        &self,
        wait_ns: u64,
        whom: &dyn Fn() -> String,
        stop: Stop,
        mut look: impl FnMut() -> anyhow::Result<Option<T>>,
    ) -> anyhow::Result<Option<T>> {
        let begun = now_ns();
        let deadline = begun.saturating_add(wait_ns);
        let mut say_at = begun + SAY_EVERY_NS / 5;
        loop {
            if let Some(answer) = look()? {
                return Ok(Some(answer));
            }
            if now_ns() >= deadline {
                return Ok(None);
            }
            if stop() {
                self.leave_with("it was stopped by a signal");
                anyhow::bail!("stopped while waiting for the other shards");
            }
            let now = now_ns();
            if now >= say_at {
                let (waited, most) = ((now - begun) / SECOND_NS, wait_ns.div_ceil(SECOND_NS));
                say!("duel: waiting for {} ({waited} s of at most {most} s)", whom());
                say_at = now + SAY_EVERY_NS;
            }
            sleep_until_ns(now + self.poll_ns());
        }
    }

    /// More shards ask less often, so that the file server's work grows with their number only.
    pub(super) fn poll_ns(&self) -> u64 {
        (1_000_000 + u64::from(self.shard.count) * 100_000).min(200_000_000)
    }
}

impl Drop for Mailbox {
    fn drop(&mut self) {
        // Whoever found its slot taken speaks for nobody.
        if self.owner.get().is_some() {
            // Without it the others wait their full time; there is nobody left to tell.
            let _ = self.post(&format!("gone.{}", self.shard.index), &*self.left.borrow());
        }
    }
}

/// `shard 1`, `shards 1, 4 and 3 more`.
pub(super) fn list(shards: &[u32]) -> String {
    let shown: Vec<String> = shards.iter().take(5).map(u32::to_string).collect();
    let more = shards.len() - shown.len();
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("shard{} {}{more}", if shards.len() == 1 { "" } else { "s" }, shown.join(", "))
}
