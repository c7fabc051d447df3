//! The event loop: one thread, one epoll, one timer.
//!
//! Rules it keeps: a request counts as received before any byte of its answer leaves; no answer
//! leaves before its instant; a client that closes while its answer waits takes the departure
//! with it (its place in the virtual queue stays taken, as a server that works for nobody does).
//! A client that only half-closes looks the same and is treated the same.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use anyhow::Context;
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, Event, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown, SocketFlags};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};

use super::connection::{Answer, Connection, READABLE, Slab, State, Token};
use super::queue::VirtualQueue;
use super::request::{Refusal, Request, Step};
use super::response::{Answers, Kind};
use super::{TargetJob, TargetReport, laws};
use crate::sys::{MonotonicNs, now_ns, process_cpu_ns, timespec};

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
/// What a client may still send after its connection's last answer, in bytes.
const DRAIN: u32 = 1024 * 1024;
/// An answer that leaves this much after its instant counts as late: 1 ms.
const LATE_NS: u64 = 1_000_000;
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// A departure, ordered by its instant and then by its turn.
type Departure = Reverse<(MonotonicNs, u64, Token)>;

/// The server and everything that it serves.
pub(super) struct Server {
    job: TargetJob,
    epoll: OwnedFd,
    timer: OwnedFd,
    /// The instant that the timer is set to; none when it has gone off.
    armed_ns: Option<MonotonicNs>,
    listener: TcpListener,
    /// Whether epoll watches the listener; not while descriptors have run out.
    accepting: bool,
    connections: Slab,
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
}

impl Server {
    /// Listens, and accepts nothing yet.
    ///
    /// # Errors
    /// Fails when the address cannot be listened on.
    pub(super) fn new(job: TargetJob) -> anyhow::Result<Self> {
        let listener =
            listen(job.listen).with_context(|| format!("cannot listen on {}", job.listen))?;
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
            job,
        })
    }

    /// Where it listens.
    pub(super) fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Makes [`Self::turn`] tell when `control` can be read.
    pub(super) fn watch(&self, control: impl AsFd) -> std::io::Result<()> {
        Ok(epoll::add(&self.epoll, control, EventData::new_u64(CONTROL), EventFlags::IN)?)
    }

    /// Stalls count from here.
    pub(super) fn start_at(&mut self, at_ns: MonotonicNs) {
        self.start_at_ns = Some(at_ns);
    }

    /// The counters so far.
    pub(super) fn report(&self) -> TargetReport {
        TargetReport { cpu_ns: process_cpu_ns(), ..self.report.clone() }
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
            let token = self.connections.insert(Connection::new(socket));
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

    fn handle(&mut self, token: Token, flags: EventFlags) {
        let Some(connection) = self.connections.get_mut(token) else { return };
        if flags.intersects(EventFlags::HUP | EventFlags::ERR) {
            return self.close(token);
        }
        match connection.state {
            State::Reading => self.read(token),
            State::Waiting(_) if flags.contains(EventFlags::RDHUP) => self.close(token),
            // Pipelined bytes stay in the kernel until the answer has left.
            State::Waiting(_) => self.set_interest(token, EventFlags::RDHUP),
            State::Writing(_) => {
                if self.send(token) {
                    self.next_request(token);
                }
            }
            State::Draining { budget } => self.drain(token, budget),
        }
    }

    /// Changes which events epoll reports for a connection.
    fn set_interest(&mut self, token: Token, interest: EventFlags) {
        let Some(connection) = self.connections.get_mut(token) else { return };
        if connection.interest != interest {
            connection.interest = interest;
            let data = EventData::new_u64(token.to_u64());
            if epoll::modify(&self.epoll, &connection.socket, data, interest).is_err() {
                self.close(token);
            }
        }
    }

    fn read(&mut self, token: Token) {
        let Some(connection) = self.connections.get_mut(token) else { return };
        let got = rustix::net::recv(&connection.socket, &mut self.scratch[..], RecvFlags::empty());
        match got {
            Ok((0, _)) => self.close(token),
            Ok((length, _)) => {
                self.now_ns = now_ns();
                let step = connection.absorb(&self.scratch[..length]);
                self.follow(token, step);
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => self.close(token),
        }
    }

    /// Goes on after an answer, with what the client had sent meanwhile.
    fn next_request(&mut self, token: Token) {
        if let Some(connection) = self.connections.get_mut(token) {
            let step = connection.next_step();
            self.follow(token, step);
        }
    }

    /// Does what a step asks, and takes further ones as long as answers leave at once.
    fn follow(&mut self, token: Token, mut step: Step) {
        loop {
            let answered = match step {
                Step::More => return,
                Step::Continue => return self.send_continue(token),
                Step::Whole(request) => self.receive(token, request),
                Step::Refused(refusal) => self.refuse(token, refusal),
            };
            if !answered {
                return;
            }
            self.now_ns = now_ns();
            let Some(connection) = self.connections.get_mut(token) else { return };
            step = connection.next_step();
        }
    }

    /// Counts a request that arrived whole, and decides how and when it is answered. Returns
    /// whether the answer has left and the connection is free for the next request.
    fn receive(&mut self, token: Token, request: Request) -> bool {
        let number = self.report.received;
        self.report.received += 1;
        let (spec, seed) = (&self.job.spec, self.job.seed);
        let service_ns = laws::draw(&spec.service_time, seed, number);
        let fault = laws::fault(&spec.faults, seed, number);
        let (start_ns, due_ns) = self.queue.departure(self.now_ns, service_ns);
        let report = &mut self.report;
        report.queue_ns_total = report.queue_ns_total.saturating_add(start_ns - self.now_ns);
        report.service_ns_total = report.service_ns_total.saturating_add(service_ns);
        let kind = Kind::of(fault, request.head_only, request.persistence);
        self.schedule(token, Answer { kind, due_ns: self.after_stall(due_ns), sent: 0 })
    }

    /// Answers what is no request; it counts nowhere.
    fn refuse(&mut self, token: Token, refusal: Refusal) -> bool {
        let kind = Kind::Refused(refusal);
        self.schedule(token, Answer { kind, due_ns: self.after_stall(self.now_ns), sent: 0 })
    }

    /// The first instant from `at_ns` on at which response bytes may leave.
    fn after_stall(&self, at_ns: MonotonicNs) -> MonotonicNs {
        match (self.job.spec.faults.stall, self.start_at_ns) {
            (Some(stall), Some(start_at_ns)) => laws::after_stall(&stall, start_at_ns, at_ns),
            _ => at_ns,
        }
    }

    /// Sends an answer at its instant, which may be now; returns as [`Self::send`] does.
    fn schedule(&mut self, token: Token, answer: Answer) -> bool {
        let Some(connection) = self.connections.get_mut(token) else { return false };
        connection.state = State::Waiting(answer);
        if answer.due_ns <= self.now_ns {
            return self.send(token);
        }
        self.departures.push(Reverse((answer.due_ns, self.scheduled, token)));
        self.scheduled += 1;
        false
    }

    /// Sends the next piece of an answer. Returns whether it has left whole and the connection is
    /// free for the next request.
    fn send(&mut self, token: Token) -> bool {
        // A stall also catches answers that the timer let go a moment too late, and the rest of
        // bodies begun before it; what the kernel holds already cannot be held back.
        let held_until_ns = self.after_stall(self.now_ns);
        let Some(connection) = self.connections.get_mut(token) else { return false };
        let (State::Waiting(mut answer) | State::Writing(mut answer)) = connection.state else {
            return false;
        };
        if held_until_ns > self.now_ns {
            if answer.sent > 0 {
                self.set_interest(token, EventFlags::empty());
            }
            return self.schedule(token, Answer { due_ns: held_until_ns, ..answer });
        }
        if answer.sent == 0 && self.now_ns.saturating_sub(answer.due_ns) > LATE_NS {
            self.report.late_answers += 1;
        }
        if answer.kind == Kind::Reset {
            // Closing with a linger time of zero sends a reset.
            let _ =
                rustix::net::sockopt::set_socket_linger(&connection.socket, Some(Duration::ZERO));
            self.close(token);
            return false;
        }
        let piece = self.answers.piece(answer.kind, answer.sent);
        match rustix::net::send(&connection.socket, piece, SendFlags::NOSIGNAL) {
            Ok(length) => answer.sent += length as u64,
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => {
                self.close(token);
                return false;
            }
        }
        if self.answers.is_whole(answer.kind, answer.sent) {
            return self.finish(token, answer.kind);
        }
        connection.state = State::Writing(answer);
        self.set_interest(token, EventFlags::OUT);
        false
    }

    /// An answer has left whole: the connection goes on, or ends.
    fn finish(&mut self, token: Token, kind: Kind) -> bool {
        if matches!(kind, Kind::Served { .. }) {
            self.report.answered += 1;
        }
        let Some(connection) = self.connections.get_mut(token) else { return false };
        if !kind.closes() {
            connection.state = State::Reading;
            self.set_interest(token, READABLE);
            return true;
        }
        let more_came = connection.has_unread() || connection.interest != READABLE;
        if more_came || matches!(kind, Kind::Refused(_)) {
            let _ = rustix::net::shutdown(&connection.socket, Shutdown::Write);
            connection.state = State::Draining { budget: DRAIN };
            self.set_interest(token, READABLE);
        } else {
            self.close(token);
        }
        false
    }

    /// Drops what a client sends after the last answer, until it ends or sends too much.
    fn drain(&mut self, token: Token, budget: u32) {
        let Some(connection) = self.connections.get_mut(token) else { return };
        let got = rustix::net::recv(&connection.socket, &mut self.scratch[..], RecvFlags::empty());
        match got {
            Err(Errno::AGAIN | Errno::INTR) => {}
            Ok((length, _)) if length > 0 && (length as u32) < budget => {
                connection.state = State::Draining { budget: budget - length as u32 };
            }
            _ => self.close(token),
        }
    }

    /// Asks for a body that its client holds back. Not during a stall: a client that gets no word
    /// sends the body on its own after a while.
    fn send_continue(&mut self, token: Token) {
        if self.after_stall(self.now_ns) > self.now_ns {
            return;
        }
        let Some(connection) = self.connections.get_mut(token) else { return };
        let sent = rustix::net::send(&connection.socket, CONTINUE, SendFlags::NOSIGNAL);
        // Without room for 25 bytes the client does not read, and half a status line is worse
        // than none.
        if sent != Ok(CONTINUE.len()) {
            self.close(token);
        }
    }
}

/// A listening socket with the largest backlog that the kernel grants.
fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    use socket2::{Domain, Socket, Type};
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), None)?;
    // A fresh target on a fixed port must not wait for the last one's connections to be forgotten.
    socket.set_reuse_address(true)?;
    // Accepted sockets inherit it, which saves a call each.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests;
