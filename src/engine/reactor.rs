//! What tasks on a ring wait for: sockets and timers, completed by the kernel instead of announced as
//! ready.
//!
//! The codec polls a [`RingSocket`] as it polls any other. A poll takes what a completion has brought,
//! or asks the ring for it; [`Reactor::collect`] hands completions out and notes whose lane can go on.
//! A thread has one reactor, which the sockets and timers of its lanes find by themselves.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io::{Error, ErrorKind as IoErrorKind};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::task::{Context, Poll};

use rustix::io::Errno;
use rustix::net::RecvFlags;

use super::alarms::Alarms;
use super::rings::{Manner, OneRing, RingCounts, Waited};
use super::slot::{Sending, Slot, short};
use crate::codec::stream::{Socket, is_quiet, recv_now, send_now};
use crate::side::counters::add;
use crate::sys::now_ns;
use crate::sys::ring::{LONGEST_SEND, Op, Ring};

thread_local! {
    static REACTOR: RefCell<Option<Reactor>> = const { RefCell::new(None) };
}

/// The ring of a thread and those who wait for it.
pub(crate) struct Reactor {
    ring: Ring,
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// Lanes that can go on, each once.
    ready: Vec<u32>,
    is_ready: Vec<bool>,
    pub(super) timers: Alarms,
    pub(super) lane: u32,
    /// What it may still read before others have their turn, and timers.
    budget: u32,
    /// When completions were last collected.
    pub(super) now: u64,
    /// Lanes do nothing long and nobody is paced: see [`Reactor::wait_coarsely`].
    coarse: bool,
    /// Lanes that the last turn let go on.
    polled: usize,
    manner: Manner,
    counts: Arc<OneRing>,
}

/// Reads of a lane in one turn. A target that floods its client would keep it for ever.
const BUDGET: u32 = 32;

/// Longest step of [`Reactor::watch`] that a thread takes while it runs.
const WATCH_STEP_NS: u64 = 2_000;

/// Lanes that are polled faster than a clock's tick matters to a timer.
const FEW_LANES: usize = 32;

/// Generations start over here, which leaves the rest of a key to the operation.
const GENERATIONS: u32 = 1 << 30;

#[inline]
pub(super) fn with<R>(act: impl FnOnce(&mut Reactor) -> R) -> R {
    REACTOR.with_borrow_mut(|reactor| {
        act(reactor.as_mut().expect("lanes of a ring run on its thread"))
    })
}

impl Reactor {
    /// Makes the reactor of the calling thread, for about so many lanes.
    pub(crate) fn start(lanes: u32, manner: Manner, counts: &RingCounts) -> anyhow::Result<()> {
        let ring = Ring::new(lanes)?;
        if manner.batch > 1 && !ring.can_linger {
            anyhow::bail!("waiting for a batch (`uring_batch`) takes Linux 6.12: this one cannot");
        }
        let reactor = Reactor {
            ring,
            slots: Vec::with_capacity(lanes as usize),
            free: Vec::new(),
            ready: Vec::with_capacity(lanes as usize),
            is_ready: Vec::with_capacity(lanes as usize),
            timers: Alarms::new(lanes as usize),
            lane: 0,
            budget: 0,
            now: now_ns(),
            coarse: false,
            polled: 0,
            manner,
            counts: counts.one_more(),
        };
        REACTOR.set(Some(reactor));
        Ok(())
    }

    /// Submits what the lanes asked for, waits until something completes, a timer goes off or `until`,
    /// asleep but for the last `watch_ns` before that, and returns the lanes that can go on.
    pub(super) fn turn(until: u64, watch_ns: u64, lanes: &mut Vec<u32>) -> anyhow::Result<Waited> {
        with(|r| {
            let timer = r.timers.earliest();
            let early = until.saturating_sub(watch_ns).min(timer);
            let begun = if r.coarse && r.polled <= FEW_LANES { r.now } else { now_ns() };
            let wait_ns = if r.ready.is_empty() { early.saturating_sub(begun) } else { 0 };
            let Manner { batch, linger_ns, .. } = r.manner;
            let mut waited = Waited::default();
            let enters = wait_ns > 0 || r.ring.is_queued() || r.ring.has_news();
            if enters {
                r.ring.enter(wait_ns, batch, linger_ns)?;
            }
            r.now = if enters || r.coarse { now_ns() } else { begun };
            let mut came = r.collect();
            if came == 0 && r.ready.is_empty() {
                waited.overslept_ns = (wait_ns > 0).then(|| r.now.saturating_sub(early));
                if watch_ns > 0 && early < timer && r.now >= early {
                    waited.watched_ns = r.watch(until.min(timer))?;
                    came = r.collect();
                }
            }
            let counts = &r.counts;
            add(&counts.turns, 1, true);
            add(&counts.completions, came, true);
            if batch > 1 && came > 0 {
                // The last of a full batch ended the wait. When the others came nobody knows.
                let held = came - u64::from(came >= batch.into());
                add(&counts.held_ns, held * (r.now - begun).min(linger_ns), true);
            }
            std::mem::swap(&mut r.ready, lanes);
            r.polled = lanes.len();
            lanes.iter().for_each(|lane| r.is_ready[*lane as usize] = false);
            Ok(waited)
        })
    }

    /// Lets a wait begin by the last look at the clock where only a few lanes were polled since, whose
    /// requests take microseconds: timers may be late by those.
    pub(super) fn wait_coarsely() {
        with(|r| r.coarse = r.manner.batch == 1);
    }

    /// Watches the ring until something completes or `until`, and returns for how long.
    fn watch(&mut self, until: u64) -> anyhow::Result<u64> {
        let mut watched = 0;
        while self.now < until && !self.ring.has_news() {
            std::hint::spin_loop();
            let now = now_ns();
            // In a longer step the thread did not run.
            watched += (now - self.now).min(WATCH_STEP_NS);
            self.now = now;
        }
        if self.ring.has_news() {
            self.ring.enter(0, 1, 0)?;
            self.now = now_ns();
        }
        Ok(watched)
    }

    /// Makes room for a lane of this number: what is made from now on is its own.
    pub(super) fn seat(lane: u32) {
        with(|r| {
            let seats = r.is_ready.len().max(lane as usize + 1);
            r.is_ready.resize(seats, false);
            (r.lane, r.budget) = (lane, BUDGET);
        });
    }

    /// A lane is polled: what is asked for from now on is its own.
    #[inline]
    pub(super) fn enter_lane(lane: u32) {
        with(|r| (r.lane, r.budget) = (lane, BUDGET));
    }

    pub(crate) fn lane() -> u32 {
        with(|r| r.lane)
    }

    pub(super) fn now() -> u64 {
        with(|r| r.now)
    }

    /// Whether nothing of a socket is left: no buffer, no slot. So it is once all lanes have ended.
    pub(super) fn is_at_rest() -> bool {
        with(|r| r.ring.is_whole() && r.free.len() == r.slots.len())
    }

    pub(crate) fn wake(lane: u32) {
        with(|r| r.make_ready(lane));
    }

    fn make_ready(&mut self, lane: u32) {
        if !std::mem::replace(&mut self.is_ready[lane as usize], true) {
            self.ready.push(lane);
        }
    }

    /// Hands out completions and timers; returns how many completions there were.
    fn collect(&mut self) -> u64 {
        let mut came = 0;
        while let Some(done) = self.ring.next() {
            came += 1;
            let (index, generation) = (done.key as u32, (done.key >> 32) as u32);
            let Some(slot) =
                self.slots.get_mut(index as usize).filter(|slot| slot.generation == generation)
            else {
                // Of a connection that was given up.
                done.buffer.into_iter().for_each(|buffer| self.ring.recycle(buffer));
                continue;
            };
            match done.op {
                Op::Receive => {
                    slot.receiving = done.more;
                    match (done.result, done.buffer) {
                        (1.., Some(buffer)) => slot.push(buffer),
                        (result, buffer) => {
                            buffer.into_iter().for_each(|buffer| self.ring.recycle(buffer));
                            match -result {
                                errno if errno == Errno::NOBUFS.raw_os_error() => slot.reads = true,
                                _ => slot.ended = Some(short(result)),
                            }
                        }
                    }
                }
                Op::Send => slot.sending = Sending::Over(short(done.result)),
                Op::Ready => slot.waiting = false,
                Op::Cancel => continue,
            }
            let lane = slot.lane;
            self.make_ready(lane);
        }
        while let Some(lane) = self.timers.due(self.now) {
            self.make_ready(lane);
        }
        came
    }

    fn open(&mut self) -> u32 {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            self.slots.len() as u32 - 1
        });
        let slot = &mut self.slots[index as usize];
        let generation = (slot.generation + 1) % GENERATIONS;
        *slot = Slot { lane: self.lane, generation, ..Slot::default() };
        index
    }

    fn close(&mut self, index: u32) {
        let slot = std::mem::take(&mut self.slots[index as usize]);
        if slot.round == self.ring.round() && slot.round > 0 {
            // Entries name the descriptor, which is about to stand for another socket.
            let _ = self.ring.submit();
        }
        let key = slot.key(index);
        let held = [(slot.receiving, Op::Receive), (slot.waiting, Op::Ready)];
        held.into_iter().filter(|(is, _)| *is).for_each(|(_, op)| self.ring.cancel(op, key));
        let buffers = slot.arrived.into_iter().chain(slot.more.into_iter().flat_map(|more| more.0));
        buffers.for_each(|buffer| self.ring.recycle(buffer));
        self.slots[index as usize].generation = slot.generation + 1;
        self.free.push(index);
    }
}

/// A lane's socket on its thread's ring.
pub(crate) struct RingSocket {
    slot: u32,
    pub(super) socket: std::net::TcpStream,
}

impl RingSocket {
    pub(crate) fn new(socket: std::net::TcpStream) -> Self {
        RingSocket { slot: with(Reactor::open), socket }
    }

    #[inline]
    fn with<R>(&self, act: impl FnOnce(&mut Ring, &mut Slot, u64) -> R) -> R {
        with(|r| {
            let slot = &mut r.slots[self.slot as usize];
            let key = slot.key(self.slot);
            act(&mut r.ring, slot, key)
        })
    }

    /// Asks to be woken when the socket takes bytes, is connected, or has failed, or has something
    /// to read.
    fn ask(&self, wait: fn(&mut Ring, &Self, u64)) {
        self.with(|ring, slot, key| {
            if !std::mem::replace(&mut slot.waiting, true) {
                wait(ring, self, key);
                slot.queued_in(ring.round());
            }
        });
    }

    pub(super) async fn ready(&self, wait: fn(&mut Ring, &Self, u64)) {
        self.ask(wait);
        let done = || self.with(|_, slot, _| !slot.waiting);
        poll_fn(|_| if done() { Poll::Ready(()) } else { Poll::Pending }).await;
    }

    /// Waits until there is something to read, or a connection to accept.
    pub(crate) async fn readable(&self) {
        self.ready(Ring::wait_readable).await;
    }
}

impl AsFd for RingSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for RingSocket {
    fn drop(&mut self) {
        with(|r| r.close(self.slot));
    }
}

impl Socket for RingSocket {
    const BLOCKS: bool = false;

    #[inline]
    fn poll_recv<R>(
        &mut self,
        _: &mut Context<'_>,
        buffer: &mut [MaybeUninit<u8>],
        take: impl FnOnce(&mut [u8]) -> R,
    ) -> Poll<std::io::Result<R>> {
        with(|r| {
            if r.budget == 0 {
                r.make_ready(r.lane);
                return Poll::Pending;
            }
            r.budget -= 1;
            let slot = &mut r.slots[self.slot as usize];
            // A connection that is kept between requests may have been another's.
            slot.lane = r.lane;
            if let Some(mut came) = slot.pop() {
                slot.reads |= came.is_full();
                let taken = take(r.ring.bytes(&mut came));
                r.ring.recycle(came);
                return Poll::Ready(Ok(taken));
            }
            if let Some(end) = slot.ended {
                return Poll::Ready(match end {
                    0 => Ok(take(&mut [])),
                    errno => Err(Error::from_raw_os_error(-i32::from(errno))),
                });
            }
            if slot.reads {
                match rustix::net::recv(&self.socket, buffer, RecvFlags::DONTWAIT) {
                    Ok(((came, _), _)) => return Poll::Ready(Ok(take(came))),
                    Err(Errno::AGAIN | Errno::INTR) => slot.reads = false,
                    Err(e) => return Poll::Ready(Err(e.into())),
                }
            }
            if !std::mem::replace(&mut slot.receiving, true) {
                r.ring.receive(&self.socket, slot.key(self.slot), r.manner.multishot);
                slot.queued_in(r.ring.round());
            }
            Poll::Pending
        })
    }

    fn poll_send(&mut self, _: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        match send_now(&self.socket, bytes) {
            Err(Errno::AGAIN) => {
                self.ask(Ring::wait_writable);
                Poll::Pending
            }
            sent => Poll::Ready(sent.map_err(Error::from)),
        }
    }

    /// Queues what is short, for the submission that carries every lane's.
    #[inline]
    fn poll_send_again(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let state = self.with(|ring, slot, key| match slot.sending {
            Sending::Nothing if bytes.len() <= LONGEST_SEND => {
                slot.sending = Sending::Queued(bytes.len() as u16);
                let queued = ring.send(&self.socket, key, bytes);
                slot.round = ring.round();
                Some(queued.map_or_else(|e| Poll::Ready(Err(e)), |()| Poll::Pending))
            }
            Sending::Queued(_) if slot.round == ring.round() => Some(Poll::Pending),
            Sending::Queued(len) => {
                slot.sending = Sending::Nothing;
                Some(Poll::Ready(Ok(len as usize)))
            }
            Sending::Over(result) => {
                slot.sending = Sending::Nothing;
                match result {
                    0.. => Some(Poll::Ready(Ok(result as usize))),
                    errno if -i32::from(errno) == Errno::AGAIN.raw_os_error() => None,
                    errno => Some(Poll::Ready(Err(Error::from_raw_os_error(-i32::from(errno))))),
                }
            }
            Sending::Nothing => None,
        });
        state.unwrap_or_else(|| self.poll_send(cx, bytes))
    }

    fn is_sending(&self) -> bool {
        self.with(|_, slot, _| !matches!(slot.sending, Sending::Nothing))
    }

    /// Asks the kernel only where it was not told to say what comes.
    fn is_quiet(&mut self) -> bool {
        self.with(|ring, slot, _| {
            let nothing = slot.arrived.is_none() && slot.ended.is_none();
            nothing && (slot.receiving && !ring.has_news() || is_quiet(&self.socket))
        })
    }

    fn recv_now<R>(
        &mut self,
        buffer: &mut [MaybeUninit<u8>],
        take: impl FnOnce(&mut [u8]) -> R,
    ) -> std::io::Result<R> {
        self.with(|ring, slot, _| {
            if let Some(mut came) = slot.pop() {
                let taken = take(ring.bytes(&mut came));
                ring.recycle(came);
                return Ok(taken);
            }
            if slot.receiving && !ring.has_news() {
                return Err(IoErrorKind::WouldBlock.into());
            }
            recv_now(&self.socket, buffer, take)
        })
    }
}
