//! The event loop: one thread, one epoll, one timer.
//!
//! Rules it keeps: a request counts as received before any byte of its answer leaves; no answer
//! leaves before its instant; a client that closes while its answer waits takes the departure
//! with it (its place in the virtual queue stays taken, as a server that works for nobody does).
//! A client that only half-closes looks the same and is treated the same.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};

use anyhow::Context;
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, Event, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::SocketFlags;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};

use super::connection::{Connection, READABLE};
use super::digest::Log;
use super::queue::VirtualQueue;
use super::slab::{Slab, Token};
use super::{TargetJob, TargetReport};
use crate::codec::serve::answers::Answers;
use crate::plan::endpoint::Endpoint;
use crate::sys::{MonotonicNs, now_ns, process_cpu_ns, timespec};

mod exchange;

/// Slots that the slab never reaches name what is no connection.
const LISTENER: u64 = u64::MAX;
const TIMER: u64 = u64::MAX - 1;
const CONTROL: u64 = u64::MAX - 2;

/// The kernel caps it at net.core.somaxconn.
const BACKLOG: i32 = 65_535;
/// Connections accepted, events handled and answers released before the others have their turn.
const BURST: usize = 64;
/// The buffer that every connection reads into, in bytes.
const SCRATCH: usize = 64 * 1024;

/// A departure, ordered by its instant and then by its turn.
type Departure = Reverse<(MonotonicNs, u64, Token)>;

pub(super) struct ReferenceServer {
    job: TargetJob,
    epoll: OwnedFd,
    timer: OwnedFd,
    /// The instant that the timer is set to; none when it has gone off.
    armed_ns: Option<MonotonicNs>,
    listener: TcpListener,
    /// Whether epoll watches the listener; not while descriptors have run out.
    accepting: bool,
    connections: Slab<Connection>,
    departures: BinaryHeap<Departure>,
    scheduled: u64,
    queue: VirtualQueue,
    answers: Answers,
    /// The instant that stalls count from.
    start_at_ns: Option<MonotonicNs>,
    /// The clock as it was last read.
    now_ns: MonotonicNs,
    scratch: Vec<u8>,
    events: Vec<Event>,
    report: TargetReport,
    /// What was sent, where the job asks.
    log: Option<Log>,
}

impl ReferenceServer {
    /// Listens, and accepts nothing yet.
    ///
    /// # Errors
    /// Fails when the address cannot be listened on.
    pub(super) fn new(job: TargetJob) -> anyhow::Result<Self> {
        let listener = listen(&job.listen)?;
        listener.set_nonblocking(true)?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).context("cannot make an epoll")?;
        // A timerfd takes absolute nanoseconds and knows no slack; epoll's own timeout is in
        // milliseconds on kernels before 5.11 and in the calls that still support them.
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let timer =
            timerfd_create(TimerfdClockId::Monotonic, flags).context("cannot make a timer")?;
        // Edge-triggered, so that nobody has to read the expiry count.
        epoll::add(&epoll, &timer, EventData::new_u64(TIMER), EventFlags::IN | EventFlags::ET)?;
        epoll::add(&epoll, &listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
        Ok(Self {
            epoll,
            timer,
            armed_ns: None,
            listener,
            accepting: true,
            connections: Slab::default(),
            departures: BinaryHeap::new(),
            scheduled: 0,
            queue: VirtualQueue::new(job.spec.servers),
            answers: Answers::new(job.spec.body_bytes),
            start_at_ns: None,
            now_ns: now_ns(),
            scratch: vec![0; SCRATCH],
            events: Vec::with_capacity(BURST),
            report: TargetReport::default(),
            log: job.digest.then(Log::default),
            job,
        })
    }

    pub(super) fn address(&self) -> std::io::Result<Endpoint> {
        match &self.job.listen {
            Endpoint::Tcp(_) => self.listener.local_addr().map(Endpoint::Tcp),
            Endpoint::Unix(path) => Ok(Endpoint::Unix(path.clone())),
        }
    }

    /// Makes [`Self::turn`] tell when `control` can be read.
    pub(super) fn watch(&self, control: impl AsFd) -> std::io::Result<()> {
        Ok(epoll::add(&self.epoll, control, EventData::new_u64(CONTROL), EventFlags::IN)?)
    }

    pub(super) fn start_at(&mut self, at_ns: MonotonicNs) {
        self.start_at_ns = Some(at_ns);
    }

    pub(super) fn report(&self) -> TargetReport {
        let digest = self.log.as_ref().map(Log::report);
        TargetReport { cpu_ns: process_cpu_ns(), digest, ..self.report.clone() }
    }

    /// Waits for events and handles them; returns whether the watched descriptor can be read.
    ///
    /// # Errors
    /// Fails when the loop cannot go on; what happens to a connection is never such an error.
    pub(super) fn turn(&mut self) -> anyhow::Result<bool> {
        let overdue = self.arm_timer()?;
        let timeout = overdue.then(|| timespec(0));
        self.events.clear();
        match epoll::wait(&self.epoll, spare_capacity(&mut self.events), timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error).context("cannot wait for events"),
        }
        self.now_ns = now_ns();
        let mut control = false;
        for index in 0..self.events.len() {
            let Event { flags, data, .. } = self.events[index];
            match data.u64() {
                LISTENER => self.accept()?,
                TIMER => self.armed_ns = None,
                CONTROL => control = true,
                token => self.handle(Token::from_u64(token), flags),
            }
            // With many events at hand the last would otherwise delay answers that fall due now.
            self.release_due(1);
        }
        self.release_due(BURST);
        Ok(control)
    }

    /// Sets the timer to the next departure; returns true when that is due already.
    fn arm_timer(&mut self) -> anyhow::Result<bool> {
        let Some(&Reverse((due_ns, ..))) = self.departures.peek() else { return Ok(false) };
        if due_ns <= now_ns() {
            return Ok(true);
        }
        // A timer set too early (for a departure since dropped) only costs one turn.
        if self.armed_ns.is_none_or(|armed| due_ns < armed) {
            let at = Itimerspec { it_interval: timespec(0), it_value: timespec(due_ns) };
            timerfd_settime(&self.timer, TimerfdTimerFlags::ABSTIME, &at)
                .context("cannot set the timer")?;
            self.armed_ns = Some(due_ns);
        }
        Ok(false)
    }

    /// Lets answers go whose instant has come, at most `most` of them.
    fn release_due(&mut self, most: usize) {
        for _ in 0..most {
            let Some(&Reverse((due_ns, _, token))) = self.departures.peek() else { return };
            if due_ns > self.now_ns {
                return;
            }
            self.departures.pop();
            self.now_ns = now_ns();
            if self.send(token) {
                self.next_request(token);
            }
        }
    }

    fn accept(&mut self) -> anyhow::Result<()> {
        for _ in 0..BURST {
            let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
            let socket = match rustix::net::accept_with(&self.listener, flags) {
                Ok(socket) => socket,
                Err(Errno::AGAIN) => break,
                Err(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
                    return self.stop_accepting();
                }
                // Errors of the connection that was being accepted; the next one may be fine.
                Err(_) => continue,
            };
            let token = self.connections.insert(Connection::new(socket, self.job.digest));
            self.report.connections += 1;
            let Some(connection) = self.connections.get_mut(token) else { continue };
            let data = EventData::new_u64(token.to_u64());
            if epoll::add(&self.epoll, &connection.socket, data, READABLE).is_err() {
                self.close(token);
            }
        }
        Ok(())
    }

    /// Leaves further clients in the backlog until a connection closes: a listener that cannot be
    /// accepted from stays readable and would keep the loop spinning.
    fn stop_accepting(&mut self) -> anyhow::Result<()> {
        anyhow::ensure!(
            self.connections.len() > 0,
            "no descriptor is left for a first connection; raise the limit on open files (ulimit -n)"
        );
        epoll::delete(&self.epoll, &self.listener)?;
        self.accepting = false;
        Ok(())
    }

    fn close(&mut self, token: Token) {
        // Dropping the socket closes it, which also ends epoll's interest in it.
        let closed = self.connections.remove(token).is_some();
        if closed && !self.accepting {
            let data = EventData::new_u64(LISTENER);
            self.accepting = epoll::add(&self.epoll, &self.listener, data, EventFlags::IN).is_ok();
        }
    }
}

/// A listening socket with the largest backlog that the kernel grants; a Unix socket comes as a
/// `TcpListener` too, of which nothing but its descriptor is used.
pub(super) fn listen(at: &Endpoint) -> anyhow::Result<TcpListener> {
    bound(at).with_context(|| format!("cannot listen on {at}"))
}

fn bound(at: &Endpoint) -> std::io::Result<TcpListener> {
    use socket2::{Domain, SockAddr, Socket, Type};
    let socket = match at {
        Endpoint::Tcp(address) => {
            let domain = Domain::for_address(*address);
            let socket = Socket::new(domain, Type::STREAM, None)?;
            // A fresh target on a fixed port must not wait for the last one's connections to be
            // forgotten.
            socket.set_reuse_address(true)?;
            // Accepted sockets inherit it, which saves a call each.
            socket.set_tcp_nodelay(true)?;
            socket.bind(&(*address).into())?;
            socket
        }
        Endpoint::Unix(path) => {
            let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
            let address = SockAddr::unix(path)?;
            if let Err(e) = socket.bind(&address) {
                // A socket that nobody listens on any more was left by a target that was killed.
                let stale = Socket::new(Domain::UNIX, Type::STREAM, None)?
                    .connect(&address)
                    .is_err_and(|e| e.kind() == std::io::ErrorKind::ConnectionRefused);
                if e.kind() != std::io::ErrorKind::AddrInUse || !stale {
                    return Err(e);
                }
                std::fs::remove_file(path)?;
                socket.bind(&address)?;
            }
            socket
        }
    };
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests;
