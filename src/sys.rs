//! The few things that safe crates do not offer, each in one small function.
//!
//! This is the only module with `unsafe`, and [`ring`] with it; every block says why it is sound.

pub(crate) mod ring;

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::AtomicU64;

use anyhow::{Context as _, ensure};
use rustix::thread::{CpuSet, sched_setaffinity};
use rustix::time::{ClockId, Timespec, clock_gettime};

use crate::units::SECOND_NS;

/// An instant on CLOCK_MONOTONIC, in nanoseconds since boot: comparable between processes.
pub(crate) type MonotonicNs = u64;

/// Moves the calling thread to these CPUs; none leaves it where it may run now.
pub(crate) fn pin(cpus: &[u32]) -> anyhow::Result<()> {
    if cpus.is_empty() {
        return Ok(());
    }
    let mut set = CpuSet::new();
    for &cpu in cpus {
        ensure!(
            (cpu as usize) < CpuSet::MAX_CPU,
            "cpus: there is no CPU {cpu}; at most {} are supported",
            CpuSet::MAX_CPU
        );
        set.set(cpu as usize);
    }
    sched_setaffinity(None, &set).with_context(|| format!("cpus: cannot run on CPUs {cpus:?}"))
}

#[inline]
fn read_ns(clock: ClockId) -> u64 {
    let now = clock_gettime(clock);
    now.tv_sec as u64 * SECOND_NS + now.tv_nsec as u64
}

/// CLOCK_MONOTONIC, read through the vDSO.
#[inline]
pub fn now_ns() -> MonotonicNs {
    read_ns(ClockId::Monotonic)
}

/// Exact CPU time of all threads, exited ones too.
pub fn process_cpu_ns() -> u64 {
    read_ns(ClockId::ProcessCPUTime)
}

pub fn thread_cpu_ns() -> u64 {
    read_ns(ClockId::ThreadCPUTime)
}

pub fn timespec(ns: u64) -> Timespec {
    Timespec { tv_sec: (ns / SECOND_NS) as i64, tv_nsec: (ns % SECOND_NS) as _ }
}

/// Opens a file for reading: a pipe would block and a device never end.
///
/// # Errors
/// What the system says, or that it is no regular file.
pub(crate) fn open_file(path: &std::path::Path) -> std::io::Result<std::fs::File> {
    use std::os::unix::fs::OpenOptionsExt;
    let nonblock = rustix::fs::OFlags::NONBLOCK.bits() as i32;
    let file = std::fs::OpenOptions::new().read(true).custom_flags(nonblock).open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(std::io::Error::other("not a regular file")),
    }
}

/// Sleeps until an absolute instant; returns at once when it has passed.
///
/// Absolute, so that lateness of one sleep never adds to the next.
pub(crate) fn sleep_until_ns(at: MonotonicNs) {
    let request = timespec(at);
    while rustix::thread::clock_nanosleep_absolute(ClockId::Monotonic, &request)
        == Err(rustix::io::Errno::INTR)
    {}
}

/// Asks for this thread's timers without slack; with it the kernel may deliver a wake-up 50 µs
/// late, to batch it with others.
pub(crate) fn wake_promptly() {
    // A refusal costs precision, which pacer delay and heartbeat show.
    let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
}

/// What the allocator has handed out and not had back, in bytes: blocks of every arena, with those
/// that caches of threads keep, and blocks in mappings of their own. `None` where the C library keeps
/// no such count.
#[cfg(target_env = "gnu")]
pub(crate) fn malloc_held_bytes() -> Option<u64> {
    // SAFETY: it has no arguments, takes the allocator's own locks and returns a plain struct.
    #[expect(unsafe_code, reason = "the C library's count has no safe form")]
    let info = unsafe { nix::libc::mallinfo2() };
    Some(info.uordblks as u64 + info.hblkhd as u64)
}

/// As above; other C libraries count nothing.
#[cfg(not(target_env = "gnu"))]
pub(crate) fn malloc_held_bytes() -> Option<u64> {
    None
}

/// Size of the signal stack that Rust's runtime maps for each thread, in whole pages: what the kernel
/// asks for (`AT_MINSIGSTKSZ`), at least 8 KiB (`SIGSTKSZ`).
pub(crate) fn signal_stack_bytes() -> u64 {
    // SAFETY: it reads a vector that the kernel made before the program began.
    #[expect(unsafe_code, reason = "the auxiliary vector has no safe form for this entry")]
    let least = unsafe { nix::libc::getauxval(nix::libc::AT_MINSIGSTKSZ) };
    let page = rustix::param::page_size() as u64;
    (least as u64).max(8 << 10).next_multiple_of(page)
}

/// A page-aligned array of counters, shared between the worker that writes and the driver that reads.
pub(crate) struct SharedCounters {
    pointer: *const AtomicU64,
    len: usize,
}

// SAFETY: the mapping lives as long as the value, and every access goes through atomics.
#[expect(unsafe_code, reason = "a raw pointer to a shared mapping of atomics")]
unsafe impl Send for SharedCounters {}
// SAFETY: as above; atomics may be used from many threads at once.
#[expect(unsafe_code, reason = "a raw pointer to a shared mapping of atomics")]
unsafe impl Sync for SharedCounters {}

impl SharedCounters {
    /// Makes a memfd that holds `len` counters, all zero, and maps it for writing.
    pub(crate) fn create(len: usize) -> std::io::Result<(Self, OwnedFd)> {
        let fd = rustix::fs::memfd_create("duel-counters", rustix::fs::MemfdFlags::CLOEXEC)?;
        rustix::fs::ftruncate(&fd, (len * size_of::<AtomicU64>()) as u64)?;
        let map = Self::map(&fd, len, true)?;
        Ok((map, fd))
    }

    /// Maps the counters of another process for reading.
    ///
    /// # Errors
    /// Refuses a file shorter than `len` counters, since touching the missing part would be fatal.
    pub(crate) fn open(fd: impl AsFd, len: usize) -> std::io::Result<Self> {
        let size = rustix::fs::fstat(&fd)?.st_size as usize;
        if size < len * size_of::<AtomicU64>() {
            return Err(std::io::Error::other("the page of counters is too short"));
        }
        Self::map(fd, len, false)
    }

    fn map(fd: impl AsFd, len: usize, write: bool) -> std::io::Result<Self> {
        use rustix::mm::{MapFlags, ProtFlags, mmap};
        let protection = if write { ProtFlags::READ | ProtFlags::WRITE } else { ProtFlags::READ };
        let bytes = len * size_of::<AtomicU64>();
        // SAFETY: the kernel chooses the address, so no existing mapping is replaced; the file is
        // at least `bytes` long and is never truncated, so every page of the mapping stays valid.
        #[expect(unsafe_code, reason = "mmap has no safe form")]
        let pointer =
            unsafe { mmap(std::ptr::null_mut(), bytes, protection, MapFlags::SHARED, &fd, 0)? };
        Ok(Self { pointer: pointer.cast(), len })
    }

    /// The counters. A reader in another process must only load them.
    pub(crate) fn as_slice(&self) -> &[AtomicU64] {
        // SAFETY: the mapping is page-aligned, `len` counters long and lives as long as `self`.
        #[expect(unsafe_code, reason = "a slice over the mapping")]
        unsafe {
            std::slice::from_raw_parts(self.pointer, self.len)
        }
    }
}

impl Drop for SharedCounters {
    fn drop(&mut self) {
        // SAFETY: the range is the one that `map` made, and no slice can outlive `self`.
        #[expect(unsafe_code, reason = "munmap has no safe form")]
        // A failure leaves the page mapped until exit, which harms nothing.
        let _ = unsafe {
            rustix::mm::munmap(self.pointer.cast_mut().cast(), self.len * size_of::<AtomicU64>())
        };
    }
}
