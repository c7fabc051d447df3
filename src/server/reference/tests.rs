use std::io::{Read, Write};
use std::net::TcpStream;

use super::*;
use crate::plan::target::{EmbeddedTarget, InjectedFaults, Law, Stall};

const HOUR_NS: u64 = 3600 * crate::units::SECOND_NS;
const GET: &[u8] = b"GET / HTTP/1.1\r\n\r\n";

/// A server of this service time, and a client connected to it.
fn server(service_ns: u64) -> (ReferenceServer, TcpStream) {
    let spec = EmbeddedTarget {
        service_time: Law::Fixed { ns: service_ns },
        servers: 0,
        processes: 1,
        body_bytes: 4,
        faults: InjectedFaults::default(),
    };
    let listen = ([127, 0, 0, 1], 0).into();
    let mut server = ReferenceServer::new(TargetJob::new(listen, spec, 1)).expect("a server");
    let client = connect(&mut server);
    (server, client)
}

fn connect(server: &mut ReferenceServer) -> TcpStream {
    let before = server.connections.len();
    let client = TcpStream::connect(server.address().expect("an address").tcp().expect("TCP"))
        .expect("a connection");
    turn_until(server, "the connection is accepted", |s| s.connections.len() > before);
    client
}

/// Runs the loop until something is so; the events that it waits for have been caused already.
fn turn_until(
    server: &mut ReferenceServer,
    what: &str,
    mut holds: impl FnMut(&mut ReferenceServer) -> bool,
) {
    // A timer that wakes the loop makes a broken server a failure instead of a hang.
    let limit = now_ns() + 10 * crate::units::SECOND_NS;
    while !holds(server) {
        assert!(now_ns() < limit, "not within 10 s: {what}");
        let at = Itimerspec { it_interval: timespec(0), it_value: timespec(limit) };
        timerfd_settime(&server.timer, TimerfdTimerFlags::ABSTIME, &at).expect("a timer");
        server.turn().expect("a turn");
    }
}

/// As if every departure were due.
fn release_all(server: &mut ReferenceServer) {
    for _ in 0..server.departures.len() {
        server.now_ns = u64::MAX;
        server.release_due(1);
    }
}

#[test]
fn a_request_is_counted_before_it_is_answered() {
    let (mut server, mut client) = server(HOUR_NS);
    client.write_all(GET).expect("written");
    turn_until(&mut server, "the request is received", |s| s.report.received == 1);
    assert_eq!(server.report.answered, 0);
    release_all(&mut server);
    assert_eq!(server.report.answered, 1);
    let mut head = [0; 15];
    client.read_exact(&mut head).expect("an answer");
    assert_eq!(&head, b"HTTP/1.1 200 OK");
}

#[test]
fn a_client_that_closes_takes_its_departure_with_it() {
    let (mut server, mut client) = server(HOUR_NS);
    client.write_all(GET).expect("written");
    turn_until(&mut server, "the request is received", |s| s.report.received == 1);
    drop(client);
    turn_until(&mut server, "the connection is gone", |s| s.connections.len() == 0);
    let mut next = connect(&mut server);
    next.write_all(GET).expect("written");
    turn_until(&mut server, "the next request is received", |s| s.report.received == 2);
    assert_eq!(server.departures.len(), 2, "the dropped departure is skipped when it falls due");
    release_all(&mut server);
    assert_eq!(server.report.answered, 1, "only the second client is there to be answered");
    assert!(server.departures.is_empty());
}

#[test]
fn pipelined_requests_wait_their_turn_without_spinning() {
    let (mut server, mut client) = server(HOUR_NS);
    client.write_all(GET).expect("written");
    turn_until(&mut server, "the first is received", |s| s.report.received == 1);
    client.write_all(&GET.repeat(2)).expect("written");
    let token = Token::from_u64(0);
    turn_until(&mut server, "the rest is left in the kernel", |s| {
        s.connections.get_mut(token).is_some_and(|c| c.interest == EventFlags::RDHUP)
    });
    assert_eq!(server.report.received, 1, "one request at a time is in flight");
    for received in 2..=3 {
        release_all(&mut server);
        turn_until(&mut server, "the next is received", |s| s.report.received == received);
        assert_eq!(server.report.answered, received - 1);
    }
}

#[test]
fn descriptors_that_run_out_pause_accepting_until_one_is_free() {
    let (mut server, client) = server(0);
    server.stop_accepting().expect("one connection is open, so that waiting for a close helps");
    let mut next = TcpStream::connect(server.address().expect("an address").tcp().expect("TCP"))
        .expect("backlog");
    next.write_all(GET).expect("written");
    drop(client);
    turn_until(&mut server, "the client in the backlog is served", |s| s.report.answered == 1);
    drop(next);
    turn_until(&mut server, "all are gone", |s| s.connections.len() == 0);
    assert!(server.stop_accepting().is_err(), "with no connection left it can never go on");
}

#[test]
fn accepted_sockets_send_without_delay() {
    let (mut server, _client) = server(0);
    let connection = server.connections.get_mut(Token::from_u64(0)).expect("a connection");
    let no_delay = rustix::net::sockopt::tcp_nodelay(&connection.socket).expect("an option");
    assert!(no_delay, "TCP_NODELAY was not inherited from the listener");
}

#[test]
fn a_stall_holds_what_falls_due_in_it() {
    let (mut server, mut client) = server(0);
    // Counted from the boot of the machine, the first stall begins now.
    let stall = Stall { every_ns: now_ns(), for_ns: HOUR_NS };
    server.job.spec.faults.stall = Some(stall);
    server.start_at(0);
    client.write_all(GET).expect("written");
    turn_until(&mut server, "the request is received", |s| s.report.received == 1);
    assert_eq!(server.report.answered, 0, "a byte left during the stall");
    let &Reverse((due_ns, ..)) = server.departures.peek().expect("a departure");
    assert_eq!(due_ns, stall.every_ns + stall.for_ns);
    // A timer that fires a moment too early for the stall, as after a departure just before it.
    let Reverse((_, turn, token)) = server.departures.pop().expect("a departure");
    server.departures.push(Reverse((0, turn, token)));
    server.release_due(1);
    assert_eq!((server.report.answered, server.departures.len()), (0, 1), "it was not held again");
    server.start_at(now_ns());
    release_all(&mut server);
    turn_until(&mut server, "the stall is over", |s| s.report.answered == 1);
}
