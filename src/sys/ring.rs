//! One io_uring: receives into buffers that it owns, sends of bytes that it copies, and one call
//! that submits, waits and runs what the kernel has deferred.
//!
//! What makes the safe interface sound:
//!
//! * A receive writes into a provided buffer alone. Those are never freed, and each is either the
//!   kernel's or a [`Buffer`]'s, which cannot be copied and goes back by value.
//! * A send must not wait (`MSG_DONTWAIT`), so that it is over within the call that submits it; until
//!   then its bytes lie in `outgoing`, which does not move and is emptied only when nothing is left
//!   to submit.
//! * Other operations hold no pointer.
//!
//! The flags that it needs make Linux 6.1 the oldest kernel. `DEFER_TASKRUN` keeps the kernel from
//! receiving anything outside of [`Ring::enter`]: between two calls a plain `recv` on a socket gets
//! what comes after all that the ring has handed out.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::{BufRingEntry, Fd, SubmitArgs, Timespec};
use io_uring::{
    CompletionQueue, EnterFlags, IoUring, SubmissionQueue, Submitter, cqueue, opcode, squeue,
};
use nix::libc;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Bytes of a provided buffer: a response of a small body whole. What is larger is better read by
/// calls of its own.
pub(crate) const BUFFER_BYTES: usize = 2048;
/// Most provided buffers, a page of entries: for what arrives at once, not for each connection.
const BUFFERS: u16 = 256;
/// Bytes of requests that are queued until the next submission.
const OUTGOING_BYTES: usize = 256 * 1024;
/// Longest request that is queued.
pub(crate) const LONGEST_SEND: usize = 4096;
/// The group that receives take their buffers from; a ring has one.
const GROUP: u16 = 0;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Op {
    /// Bytes came, or the end, or an error.
    Receive,
    /// A send did not go out whole: those that do tell nobody.
    Send,
    /// A socket takes bytes again, is connected, or has something to read or accept.
    Ready,
    /// Something was given up: of no interest.
    Cancel,
}

const OPS: [Op; 4] = [Op::Receive, Op::Send, Op::Ready, Op::Cancel];
/// Bits of a completion's tag that the caller chooses.
const KEY_BITS: u32 = 62;

/// How an operation ended, or what it brought.
#[derive(Debug)]
pub(crate) struct Completion {
    pub(crate) op: Op,
    pub(crate) key: u64,
    /// Bytes, or an error of the system below zero.
    pub(crate) result: i32,
    /// A receive goes on.
    pub(crate) more: bool,
    pub(crate) buffer: Option<Buffer>,
}

/// A buffer that holds what was received, until it is given back by [`Ring::recycle`].
#[derive(Debug)]
pub(crate) struct Buffer {
    id: u16,
    len: u16,
}

impl Buffer {
    /// Whether it is full, so that there may be more where this came from.
    pub(crate) fn is_full(&self) -> bool {
        usize::from(self.len) == BUFFER_BYTES
    }
}

/// A page of entries, aligned as the kernel asks.
#[repr(align(4096))]
struct Page(#[expect(dead_code, reason = "the kernel reads it")] [u8; 4096]);

/// The provided buffers and the ring of entries that hands them to the kernel.
struct Provided {
    entries: *mut BufRingEntry,
    bytes: *mut u8,
    /// How many, a power of two.
    count: u16,
    tail: u16,
}

impl Provided {
    fn new(connections: u32) -> Self {
        const { assert!(size_of::<Page>() == BUFFERS as usize * size_of::<BufRingEntry>()) };
        // Never freed: the kernel lets go of them some time after the ring is closed.
        let entries = Box::into_raw(Box::new(Page([0; 4096]))).cast();
        let count = connections.clamp(16, BUFFERS.into()).next_power_of_two() as u16;
        let bytes = vec![0_u8; usize::from(count) * BUFFER_BYTES].leak().as_mut_ptr();
        Provided { entries, bytes, count, tail: 0 }
    }

    #[expect(unsafe_code, reason = "an offset into one allocation")]
    fn at(&self, id: u16) -> *mut u8 {
        assert!(id < self.count);
        // SAFETY: the allocation holds `count` of them.
        unsafe { self.bytes.add(usize::from(id) * BUFFER_BYTES) }
    }

    #[expect(unsafe_code, reason = "entries are shared with the kernel")]
    fn give(&mut self, id: u16) {
        let at = self.at(id);
        // SAFETY: the index is below `count`, of which the page holds more entries; the kernel
        // reads an entry only once the tail has passed it, which happens below.
        let tail = unsafe {
            let entry = &mut *self.entries.add(usize::from(self.tail % self.count));
            entry.set_addr(at as u64);
            entry.set_len(BUFFER_BYTES as u32);
            entry.set_bid(id);
            &*BufRingEntry::tail(self.entries).cast::<AtomicU16>()
        };
        self.tail = self.tail.wrapping_add(1);
        tail.store(self.tail, Ordering::Release);
    }
}

/// A ring of one thread. It is never closed, as its thread stays until the process ends.
pub(crate) struct Ring {
    submitter: Submitter<'static>,
    entries: SubmissionQueue<'static>,
    completions: CompletionQueue<'static>,
    provided: Provided,
    outgoing: Vec<u8>,
    /// Whether [`Ring::enter`] can.
    pub(crate) can_linger: bool,
    /// Buffers that were handed out and not given back.
    lent: u32,
    /// Submissions, from 1, over and over: what was pushed in an earlier one is with the kernel.
    round: u32,
}

impl Ring {
    /// Makes a ring for so many connections.
    ///
    /// # Errors
    /// What this system does not allow or know, and the way out.
    pub(crate) fn new(connections: u32) -> anyhow::Result<Self> {
        let (uring, provided) = make_patiently(connections)?;
        let can_linger = uring.params().is_feature_min_timeout();
        let (mut submitter, entries, completions) = Box::leak(Box::new(uring)).split();
        // Spares the kernel the look-up of the descriptor in each call; an old one does without.
        let _ = submitter.register_ring_fd();
        let outgoing = Vec::with_capacity(OUTGOING_BYTES);
        let mut ring = Ring {
            submitter,
            entries,
            completions,
            provided,
            outgoing,
            can_linger,
            lent: 0,
            round: 1,
        };
        (0..ring.provided.count).for_each(|id| ring.provided.give(id));
        Ok(ring)
    }

    pub(crate) fn round(&self) -> u32 {
        self.round
    }

    /// Receives what comes next, or all that comes until a completion says that there is no more.
    pub(crate) fn receive(&mut self, socket: &impl AsFd, key: u64, multishot: bool) {
        let fd = Fd(socket.as_fd().as_raw_fd());
        let entry = if multishot {
            opcode::RecvMulti::new(fd, GROUP).build()
        } else {
            // Nothing has come yet, mostly: the kernel need not try before it waits.
            let poll_first = 1;
            let recv = opcode::Recv::new(fd, std::ptr::null_mut(), 0).buf_group(GROUP);
            recv.ioprio(poll_first).build().flags(squeue::Flags::BUFFER_SELECT)
        };
        self.push(entry, Op::Receive, key);
    }

    /// Sends a copy of `bytes`, at most [`LONGEST_SEND`], as far as the socket takes them at once;
    /// completes only where it does not take all.
    pub(crate) fn send(&mut self, socket: &impl AsFd, key: u64, bytes: &[u8]) -> io::Result<()> {
        assert!(bytes.len() <= LONGEST_SEND);
        if self.outgoing.len() + bytes.len() > self.outgoing.capacity() {
            self.submit()?;
        }
        let begin = self.outgoing.len();
        self.outgoing.extend_from_slice(bytes);
        let copy = self.outgoing[begin..].as_ptr();
        // Without MSG_WAITALL a part would count as success.
        let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT | libc::MSG_WAITALL;
        let fd = Fd(socket.as_fd().as_raw_fd());
        let entry = opcode::Send::new(fd, copy, bytes.len() as u32).flags(flags).build();
        self.push(entry.flags(squeue::Flags::SKIP_SUCCESS), Op::Send, key);
        Ok(())
    }

    /// Completes once the socket takes bytes, is connected, or has failed.
    pub(crate) fn wait_writable(&mut self, socket: &impl AsFd, key: u64) {
        self.wait(socket, libc::POLLOUT, key);
    }

    /// Completes once there is something to read, or a connection to accept.
    pub(crate) fn wait_readable(&mut self, socket: &impl AsFd, key: u64) {
        self.wait(socket, libc::POLLIN, key);
    }

    fn wait(&mut self, socket: &impl AsFd, events: libc::c_short, key: u64) {
        let fd = Fd(socket.as_fd().as_raw_fd());
        let entry = opcode::PollAdd::new(fd, events as u32).build();
        self.push(entry, Op::Ready, key);
    }

    /// Gives up what was asked under this key.
    pub(crate) fn cancel(&mut self, op: Op, key: u64) {
        let entry = opcode::AsyncCancel::new(tag(op, key)).build();
        self.push(entry.flags(squeue::Flags::SKIP_SUCCESS), Op::Cancel, key);
    }

    #[expect(unsafe_code, reason = "the kernel follows the pointers of an entry")]
    fn push(&mut self, entry: squeue::Entry, op: Op, key: u64) {
        let entry = entry.user_data(tag(op, key));
        // SAFETY: an entry has no pointer but to bytes in `outgoing`; see the module's text.
        while unsafe { self.entries.push(&entry) }.is_err() {
            // Full. The kernel takes entries whatever becomes of them.
            let _ = self.submit();
        }
    }

    /// Hands what is queued to the kernel without waiting.
    pub(crate) fn submit(&mut self) -> io::Result<()> {
        self.entries.sync();
        let submitted = self.submitter.submit();
        self.submitted(submitted)
    }

    fn submitted(&mut self, result: io::Result<usize>) -> io::Result<()> {
        self.entries.sync();
        if self.entries.is_empty() {
            // Zero stands for none.
            self.round = self.round.checked_add(1).unwrap_or(1);
            self.outgoing.clear();
        }
        match result {
            Ok(_) => Ok(()),
            Err(e) => match e.raw_os_error() {
                // Time passed, a signal came, or completions must be taken first.
                Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN) => Ok(()),
                _ => Err(e),
            },
        }
    }

    pub(crate) fn is_queued(&mut self) -> bool {
        self.entries.sync();
        !self.entries.is_empty()
    }

    /// Whether [`Ring::enter`] would bring something without waiting. No system call.
    #[inline]
    pub(crate) fn has_news(&mut self) -> bool {
        self.completions.sync();
        let deferred = self.entries.taskrun() || self.entries.cq_overflow();
        deferred || !self.completions.is_empty()
    }

    /// Submits what is queued and waits for `batch` completions: no longer than `linger_ns` where
    /// there is one by then, and at most `wait_ns`; not at all at zero.
    #[expect(unsafe_code, reason = "the call that the crate offers does not run deferred work")]
    pub(crate) fn enter(&mut self, wait_ns: u64, batch: u32, linger_ns: u64) -> io::Result<()> {
        self.entries.sync();
        let result = if wait_ns > 0 {
            let time = Timespec::from(std::time::Duration::from_nanos(wait_ns));
            let args = SubmitArgs::new().timespec(&time);
            let linger = wait_ns.min(linger_ns) / 1_000;
            self.submitter.submit_with_args(batch as usize, &args.min_wait_usec(linger as u32))
        } else {
            let (queued, flags) = (self.entries.len() as u32, EnterFlags::GETEVENTS.bits());
            // SAFETY: there is no argument that the kernel would follow.
            unsafe { self.submitter.enter::<()>(queued, 0, flags, None) }
        };
        self.completions.sync();
        self.submitted(result)
    }

    /// Takes the next completion of those that [`Ring::enter`] has seen.
    #[inline]
    pub(crate) fn next(&mut self) -> Option<Completion> {
        let Some(entry) = self.completions.next() else {
            self.completions.sync();
            return None;
        };
        let buffer = cqueue::buffer_select(entry.flags()).map(|id| {
            self.lent += 1;
            let len = entry.result().clamp(0, BUFFER_BYTES as i32) as u16;
            Buffer { id, len }
        });
        let (op, key) = untag(entry.user_data());
        let more = cqueue::more(entry.flags());
        Some(Completion { op, key, result: entry.result(), more, buffer })
    }

    #[expect(unsafe_code, reason = "a slice of a provided buffer")]
    #[inline]
    pub(crate) fn bytes(&mut self, buffer: &mut Buffer) -> &mut [u8] {
        // SAFETY: the kernel named the buffer in a completion and does not touch it until it is
        // given back, for which the token must be given up; `len` is at most its size.
        unsafe { std::slice::from_raw_parts_mut(self.provided.at(buffer.id), buffer.len.into()) }
    }

    #[inline]
    pub(crate) fn recycle(&mut self, mut buffer: Buffer) {
        if cfg!(debug_assertions) {
            // Whoever reads it from now on reads no response.
            self.bytes(&mut buffer).fill(POISON);
        }
        self.lent -= 1;
        self.provided.give(buffer.id);
    }

    pub(crate) fn is_whole(&self) -> bool {
        self.lent == 0
    }
}

/// What stands in a buffer that was given back, in builds with debug assertions.
const POISON: u8 = 0xA5;

/// Most completions of a ring that the kernel has room for.
const MOST_COMPLETIONS: u32 = 1 << 16;
const PAGE_BYTES: u64 = 4096;

/// Entries of a ring for so many connections: to submit, and completed.
fn sizes(connections: u32) -> (u32, u32) {
    let entries = if connections > 4096 { 4096 } else { 1024 };
    // A receive and a failed send of each connection; the kernel keeps what does not fit.
    let completions = connections.saturating_mul(2).clamp(4096, MOST_COMPLETIONS);
    (entries, completions.next_power_of_two())
}

/// What a ring for so many connections locks, where the kernel counts it: 64 bytes for each entry to
/// submit, 16 for a completed one with a page of counters, and the page of provided buffers.
pub(crate) fn locked_bytes(connections: u32) -> u64 {
    let (entries, completions) = sizes(connections);
    64 * u64::from(entries) + 16 * u64::from(completions) + 2 * PAGE_BYTES
}

/// Most connections whose ring locks no more than `bytes`.
pub(crate) fn most_connections(bytes: u64) -> u32 {
    // Each of these is the last of its size.
    let mut steps = [1 << 11, 1 << 12, 1 << 13, 1 << 14, u32::MAX].into_iter();
    steps.rfind(|step| locked_bytes(*step) <= bytes).unwrap_or(0)
}

/// Whether rings of this process count against its limit of locked memory. Old kernels do not count them
/// (6.18 does), nor does any for whoever may lock what they like: a ring under a limit of zero tells, which
/// then is as it was.
pub(crate) fn counts_as_locked() -> bool {
    let limit = getrlimit(Resource::Memlock);
    let lowered = setrlimit(Resource::Memlock, Rlimit { current: Some(0), ..limit });
    let made = lowered.is_ok().then(|| IoUring::new(1));
    let _ = setrlimit(Resource::Memlock, limit);
    matches!(made, Some(Err(e)) if e.raw_os_error() == Some(libc::ENOMEM))
}

/// How often, and how long after one another, a ring is asked for that finds no memory: what others
/// held that have just ended comes back a moment later.
const TRIES: u32 = 10;
const BETWEEN_TRIES: std::time::Duration = std::time::Duration::from_millis(20);

fn make_patiently(connections: u32) -> anyhow::Result<(IoUring, Provided)> {
    let mut made = make(connections);
    for _ in 1..TRIES {
        match &made {
            Err(e) if e.raw_os_error() == Some(libc::ENOMEM) => std::thread::sleep(BETWEEN_TRIES),
            _ => break,
        }
        made = make(connections);
    }
    made.map_err(|e| anyhow::anyhow!(why_not(&e)))
}

/// Makes a ring and registers its provided buffers, none of which it gets yet.
#[expect(unsafe_code, reason = "the kernel is given the page of entries")]
fn make(connections: u32) -> io::Result<(IoUring, Provided)> {
    let (entries, completions) = sizes(connections);
    let with = |no_array: bool| {
        let mut builder = IoUring::builder();
        builder.setup_cqsize(completions).setup_clamp().setup_submit_all();
        builder.setup_single_issuer().setup_defer_taskrun().setup_taskrun_flag();
        if no_array {
            builder.setup_no_sqarray();
        }
        builder.build(entries)
    };
    // Linux 6.6 does without an array of indices that nothing here needs.
    let uring = with(true).or_else(|e| match e.raw_os_error() {
        Some(libc::EINVAL) => with(false),
        _ => Err(e),
    })?;
    let provided = Provided::new(connections);
    let page = provided.entries as u64;
    // SAFETY: the page stays for ever, and so do the buffers that it will name.
    unsafe { uring.submitter().register_buf_ring_with_flags(page, provided.count, GROUP, 0) }?;
    Ok((uring, provided))
}

fn tag(op: Op, key: u64) -> u64 {
    debug_assert!(key >> KEY_BITS == 0);
    (op as u64) << KEY_BITS | key
}

fn untag(tag: u64) -> (Op, u64) {
    (OPS[(tag >> KEY_BITS) as usize], tag & ((1 << KEY_BITS) - 1))
}

/// Whether rings can be used here.
///
/// # Errors
/// What this system does not allow or know, and the way out.
pub(crate) fn probe() -> anyhow::Result<()> {
    make_patiently(1).map(drop)
}

/// Says what the kernel's refusal of a ring means.
fn why_not(error: &io::Error) -> String {
    let disabled = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled");
    explain(error, disabled.as_deref().map(str::trim).unwrap_or("0"))
}

/// As above, with what the system says of processes that may have rings: 0, all of them.
fn explain(error: &io::Error, disabled: &str) -> String {
    match error.raw_os_error() {
        Some(libc::EPERM) if disabled == "0" => {
            "io_uring is forbidden to this process, as containers do by a seccomp filter: allow the \
             system calls io_uring_setup, io_uring_enter and io_uring_register"
                .into()
        }
        Some(libc::EPERM) => format!(
            "io_uring is switched off: kernel.io_uring_disabled is {disabled}; allow it with `sysctl \
             -w kernel.io_uring_disabled=0`"
        ),
        Some(libc::ENOSYS) => {
            "this kernel has no io_uring, or a seccomp filter hides it: it takes Linux 6.1".into()
        }
        Some(libc::EINVAL) => {
            "this kernel's io_uring is too old: deferred task work and provided buffers take Linux \
             6.1"
            .into()
        }
        Some(libc::ENOMEM) => {
            "the kernel gives no memory for an io_uring: raise RLIMIT_MEMLOCK (`ulimit -l`), which \
             counts it, or free some"
                .into()
        }
        _ => format!("no io_uring can be made: {error}"),
    }
}

#[cfg(test)]
mod tests;
