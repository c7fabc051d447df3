//! Time that threads were runnable and without a CPU, one by one, since the kernel keeps no sum
//! for a process: `/proc/self/schedstat` is the main thread's alone, and what a thread waited is
//! gone with it. Threads that may end inside a window therefore say what they waited, with
//! [`thread_ends`], as their last act.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::sync::{Mutex, PoisonError};

use rustix::fs::{CWD, Dir, Mode, OFlags, openat};
use rustix::io::Errno;

use crate::format::Reason;

/// Most threads whose run-queue waits are read: one small file each, at a window's edge.
pub const MOST_WAITING_THREADS: u64 = 512;

/// What each thread of this process waited since it began, by thread id.
pub(super) type Waits = BTreeMap<u32, u64>;

/// What threads that have ended, or are about to, waited in their lives. Should the kernel give an id
/// out again while the process lives, what its new thread waits is missed until that one ends too.
static ENDED: Mutex<Waits> = Mutex::new(Waits::new());

/// Keeps the wait of the calling thread, which is about to end. It costs some 10 µs.
///
/// Where a thread cannot read its own wait, or ends without this call, a window that began with it has
/// no sum, and one in which it also began misses what it waited.
pub(crate) fn thread_ends() {
    let mut buffer = [0u8; 96];
    let read = File::open("/proc/thread-self/schedstat").and_then(|mut f| f.read(&mut buffer));
    if let Some((_, ns)) = read.ok().and_then(|n| ran_and_waited(&buffer[..n])) {
        let tid = rustix::thread::gettid().as_raw_nonzero().get() as u32;
        let mut ended = ENDED.lock().unwrap_or_else(PoisonError::into_inner);
        *ended.entry(tid).or_default() += ns;
    }
}

/// Reads the wait of every thread of this process, of those that have ended too.
pub(super) fn read(most_threads: u64) -> Result<Waits, Reason> {
    let mut waits = read_living("/proc/self/task", most_threads)?;
    // After the living, so that who ended in the meantime is here. Who is on the way out is in both,
    // and counts once.
    let ended = ENDED.lock().unwrap_or_else(PoisonError::into_inner);
    waits.extend(ended.iter());
    Ok(waits)
}

pub(super) fn read_living(dir: &str, most_threads: u64) -> Result<Waits, Reason> {
    let unreadable = |e: io::Error| Reason::from(format!("cannot read {dir}/*/schedstat: {e}"));
    // The link count of the directory is the number of threads and two; counting entries is slow.
    let threads = fs::metadata(dir).map_err(unreadable)?.nlink().saturating_sub(2);
    if threads > most_threads {
        return Err(format!(
            "reading {threads} threads at a window's edge would disturb it; trials labelled \
             `syscalls` do"
        )
        .into());
    }
    let tasks = openat(CWD, dir, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|e| unreadable(e.into()))?;
    let mut waits = Waits::new();
    let mut buffer = [0u8; 96];
    let (mut any_ran, mut absent) = (false, false);
    for entry in Dir::read_from(&tasks).map_err(|e| unreadable(e.into()))? {
        let entry = entry.map_err(|e| unreadable(e.into()))?;
        let Some(tid) = entry.file_name().to_str().ok().and_then(|name| name.parse().ok()) else {
            continue; // `.` and `..`
        };
        let path = format!("{tid}/schedstat");
        let read = openat(&tasks, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .and_then(|file| rustix::io::read(&file, &mut buffer));
        match read {
            Ok(n) => {
                let (ran, ns) = ran_and_waited(&buffer[..n])
                    .ok_or_else(|| format!("{dir}/{tid}/schedstat is not as expected"))?;
                any_ran |= ran > 0;
                waits.insert(tid, ns);
            }
            // A thread may end between the listing and the reading.
            Err(Errno::NOENT | Errno::SRCH) => absent = true,
            Err(e) => return Err(unreadable(e.into())),
        }
    }
    // The thread that reads is there and runs: without a wait of its own, nobody's is told.
    if waits.is_empty() && absent {
        return Err(unreadable(Errno::NOENT.into()));
    }
    if !any_ran {
        let why = format!("this kernel does not account for waits: {dir}/*/schedstat is zero");
        return Err(why.into());
    }
    Ok(waits)
}

/// The first two numbers: time on a CPU, time waiting for one.
fn ran_and_waited(text: &[u8]) -> Option<(u64, u64)> {
    let mut numbers = std::str::from_utf8(text).ok()?.split_ascii_whitespace();
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Sums over the threads of the later reading; one that began in between counts from zero.
pub(super) fn waited_since(
    now: &Result<Waits, Reason>,
    then: &Result<Waits, Reason>,
) -> Result<u64, Reason> {
    let (now, then) = (now.as_ref().map_err(Clone::clone)?, then.as_ref().map_err(Clone::clone)?);
    let gone = then.keys().filter(|tid| !now.contains_key(tid)).count();
    if gone > 0 {
        let why = format!("threads that ended inside the window ({gone}) took their counts along");
        return Err(why.into());
    }
    let since = |(tid, ns): (&u32, &u64)| ns.saturating_sub(then.get(tid).copied().unwrap_or(0));
    Ok(now.iter().map(since).sum())
}

#[cfg(test)]
mod tests;
