//! What the server says and hears on one connection: requests in, answers out.

use std::cmp::Reverse;
use std::time::Duration;

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown};

use super::ReferenceServer;
use crate::codec::serve::answers::{AnswerKind, CONTINUE, DRAIN};
use crate::codec::serve::request::{Refusal, Request, Step};
use crate::server::connection::{AnswerUnderWay, READABLE, State};
use crate::server::laws;
use crate::server::slab::Token;
use crate::sys::{MonotonicNs, now_ns};

/// An answer that leaves this much after its instant counts as late: 1 ms.
const LATE_NS: u64 = 1_000_000;

impl ReferenceServer {
    /// Does what an event of a connection asks for.
    pub(super) fn handle(&mut self, token: Token, flags: EventFlags) {
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
        match rustix::net::recv(&connection.socket, &mut self.scratch[..], RecvFlags::empty()) {
            Ok((length @ 1.., _)) => {
                self.now_ns = now_ns();
                let step = connection.next_step(Some(&self.scratch[..length]));
                self.follow(token, step);
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            _ => self.close(token),
        }
    }

    /// Goes on after an answer, with what the client had sent meanwhile.
    pub(super) fn next_request(&mut self, token: Token) {
        if let Some(connection) = self.connections.get_mut(token) {
            let step = connection.next_step(None);
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
            step = connection.next_step(None);
        }
    }

    /// Counts a request that arrived whole, and decides how and when it is answered. Returns
    /// whether the answer has left and the connection is free for the next request.
    fn receive(&mut self, token: Token, request: Request) -> bool {
        let number = self.report.received;
        self.report.received += 1;
        let connection = self.connections.get_mut(token);
        let ongoing = connection.and_then(|connection| connection.ongoing.as_mut());
        if let (Some(log), Some(ongoing)) = (&mut self.log, ongoing) {
            log.add(ongoing);
        }
        let (spec, seed) = (&self.job.spec, self.job.seed);
        let service_ns = laws::draw(&spec.service_time, seed, number);
        let fault = laws::fault(&spec.faults, seed, number);
        let (start_ns, due_ns) = self.queue.departure(self.now_ns, service_ns);
        let report = &mut self.report;
        report.queue_ns_total = report.queue_ns_total.saturating_add(start_ns - self.now_ns);
        report.service_ns_total = report.service_ns_total.saturating_add(service_ns);
        let kind = fault.answer(request.head_only, request.persistence);
        self.schedule(token, AnswerUnderWay { kind, due_ns: self.after_stall(due_ns), sent: 0 })
    }

    /// Answers what is no request; it counts nowhere.
    fn refuse(&mut self, token: Token, refusal: Refusal) -> bool {
        let (kind, due_ns) = (AnswerKind::Refused(refusal), self.after_stall(self.now_ns));
        self.schedule(token, AnswerUnderWay { kind, due_ns, sent: 0 })
    }

    /// The first instant from `at_ns` on at which response bytes may leave.
    fn after_stall(&self, at_ns: MonotonicNs) -> MonotonicNs {
        match (self.job.spec.faults.stall, self.start_at_ns) {
            (Some(stall), Some(start_at_ns)) => laws::after_stall(&stall, start_at_ns, at_ns),
            _ => at_ns,
        }
    }

    /// Sends an answer at its instant, which may be now; returns as [`Self::send`] does.
    fn schedule(&mut self, token: Token, answer: AnswerUnderWay) -> bool {
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
    pub(super) fn send(&mut self, token: Token) -> bool {
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
            return self.schedule(token, AnswerUnderWay { due_ns: held_until_ns, ..answer });
        }
        if answer.sent == 0 && self.now_ns.saturating_sub(answer.due_ns) > LATE_NS {
            self.report.late_answers += 1;
        }
        if answer.kind == AnswerKind::Reset {
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
    fn finish(&mut self, token: Token, kind: AnswerKind) -> bool {
        if matches!(kind, AnswerKind::Served { .. }) {
            self.report.answered += 1;
        }
        let Some(connection) = self.connections.get_mut(token) else { return false };
        if !kind.closes() {
            connection.state = State::Reading;
            self.set_interest(token, READABLE);
            return true;
        }
        let more_came = connection.inbox.has_unread() || connection.interest != READABLE;
        if more_came || matches!(kind, AnswerKind::Refused(_)) {
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
        match rustix::net::recv(&connection.socket, &mut self.scratch[..], RecvFlags::empty()) {
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
