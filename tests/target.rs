//! The embedded target over real sockets, driven through its control protocol.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::time::{Duration, Instant};

use duel::plan::Codec;
use duel::plan::server::{PoolOf, ServerEngine, ServerPlan};
use duel::plan::target::{EmbeddedTarget, InjectedFaults, Law, Stall};
use duel::server::{TargetJob, TargetReport, Told, body_byte, laws, serve_controlled};
use harness::{Client, SEED, Target, each, encrypted, server, servers};

#[path = "target/harness.rs"]
mod harness;

const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: target\r\n\r\n";

/// A target without delay, limit or fault, with four bytes of body.
fn plain() -> EmbeddedTarget {
    EmbeddedTarget {
        service_time: Law::Fixed { ns: 0 },
        servers: 0,
        processes: 1,
        body_bytes: 4,
        faults: InjectedFaults::default(),
    }
}

#[test]
fn keep_alive_answers_one_request_after_another() {
    each(8, |start, _| {
        let target = start(plain());
        let mut client = target.connect();
        for _ in 0..100 {
            client.ask(GET).expect("200", b"0123");
        }
        let report = target.stop();
        assert_eq!((report.received, report.answered, report.connections), (100, 100, 1));
        assert!(report.cpu_ns > 0, "no processor time: {report:?}");
    });
}

#[test]
fn pipelined_requests_are_answered_in_order_and_each_counted() {
    each(8, |start, _| {
        for service_time in [Law::Fixed { ns: 0 }, Law::Fixed { ns: 100_000 }] {
            let target = start(EmbeddedTarget { service_time, ..plain() });
            let mut client = target.connect();
            let head = b"HEAD / HTTP/1.1\r\n\r\n";
            client.send(&[GET, head, GET].concat().repeat(50));
            for _ in 0..50 {
                client.read().expect("200", b"0123");
                assert!(client.read_head().contains("content-length: 4"));
                client.read().expect("200", b"0123");
            }
            assert_eq!(target.stop().answered, 150);
        }
    });
}

#[test]
fn http_1_0_closes_unless_it_asks_to_stay() {
    each(8, |start, who| {
        let target = start(plain());
        let mut client = target.connect();
        let answer = client.ask(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
        assert!(answer.head.contains("connection: keep-alive\r\n"), "{}", answer.head);
        let answer = client.ask(b"GET / HTTP/1.0\r\n\r\n");
        assert!(answer.head.contains(" 200 ok\r\n"), "{}", answer.head);
        assert_eq!(answer.body, b"0123");
        // hyper answers in the client's version, where closing is what both expect.
        let says_so = answer.head.contains("connection: close\r\n");
        assert!(says_so || who.contains("hyper"), "{}", answer.head);
        client.expect_end();
        assert_eq!(target.stop().answered, 2);
    });
}

#[test]
fn connection_close_ends_the_connection_after_the_answer() {
    each(8, |start, _| {
        let target = start(plain());
        let mut client = target.connect();
        // What follows a request that closes is no request, and must not turn into a reset either.
        let more = GET.repeat(10_000);
        client.send(&[b"GET / HTTP/1.1\r\nconnection: close\r\n\r\n", &more[..]].concat());
        client.read().expect("200", b"0123");
        client.expect_end();
        assert_eq!(target.stop().received, 1);
    });
}

#[test]
fn head_has_no_body() {
    each(8, |start, _| {
        let target = start(EmbeddedTarget { body_bytes: 1 << 30, ..plain() });
        let mut client = target.connect();
        client.send(b"HEAD / HTTP/1.1\r\nconnection: close\r\n\r\n");
        assert!(client.read_head().contains("content-length: 1073741824\r\n"));
        client.expect_end();
        target.stop();
    });
}

#[test]
fn request_bodies_are_read_and_dropped() {
    each(8, |start, _| {
        let target = start(plain());
        let mut client = target.connect();
        let mut long = b"POST / HTTP/1.1\r\ncontent-length: 1000000\r\n\r\n".to_vec();
        long.resize(long.len() + 1_000_000, b'G');
        client.ask(&long).expect("200", b"0123");
        let mut chunked = b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
        for _ in 0..1000 {
            chunked.extend_from_slice(b"12;x=y\r\nGET / HTTP/1.1\r\n\r\n\r\n");
        }
        chunked.extend_from_slice(b"0\r\ntrailer: t\r\n\r\n");
        client.ask(&chunked).expect("200", b"0123");
        client.ask(GET).expect("200", b"0123");
        assert_eq!(target.stop().received, 3, "something in a body was taken for a request");
    });
}

#[test]
fn a_client_that_expects_100_is_told_to_go_on() {
    each(8, |start, _| {
        let target = start(plain());
        let mut client = target.connect();
        client.send(b"POST / HTTP/1.1\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n");
        assert_eq!(client.read_head(), "http/1.1 100 continue\r\n\r\n");
        client.ask(b"ab").expect("200", b"0123");
        assert_eq!(target.stop().received, 1);
    });
}

#[test]
fn bytes_one_at_a_time_make_the_same_requests() {
    each(8, |start, _| {
        let target = start(plain());
        let mut client = target.connect();
        let chunked = b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n";
        let sized = b"POST / HTTP/1.1\r\ncontent-length: 3\r\n\r\nabc";
        for request in [GET, chunked, sized] {
            for byte in request {
                client.send(&[*byte]);
            }
            client.read().expect("200", b"0123");
        }
        assert_eq!(target.stop().received, 3);
    });
}

#[test]
fn requests_in_two_parts_are_the_same_wherever_they_are_cut() {
    let chunked = b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n";
    let sized = b"POST / HTTP/1.1\r\ncontent-length: 3\r\n\r\nabc";
    let stream = [GET, &chunked[..], &sized[..], GET].concat();
    each(8, |start, _| {
        let target = start(plain());
        let mut client = target.connect();
        for cut in 1..stream.len() {
            client.send(&stream[..cut]);
            client.send(&stream[cut..]);
            for _ in 0..4 {
                client.read().expect("200", b"0123");
            }
        }
        assert_eq!(target.stop().received, 4 * (stream.len() as u64 - 1));
    });
}

/// Nothing of it is a request: the connection ends without a 200 and nothing is counted, and the next
/// client is served.
#[test]
fn hostile_bytes_end_their_own_connection_and_nothing_else() {
    let long =
        |what: &str, length: usize| format!("GET / HTTP/1.1\r\n{what}{}", "a".repeat(length));
    let hostile: Vec<Vec<u8>> = [
        "GET\0/ HTTP/1.1\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "GET / HTTP/1.1\r\nbad header\r\n\r\n",
        "GET / HTTP/1.1\r\nx\0y: z\r\n\r\n",
        "POST / HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
        "POST / HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
        "POST / HTTP/1.1\r\ncontent-length: 99999999999999999999\r\n\r\n",
        "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFFF\r\n",
        "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n2\r\nabXX",
        "\r\n\r\n\r\n\u{1}",
    ]
    .into_iter()
    .map(|text| text.as_bytes().to_vec())
    .chain([long("x: ", 1 << 20).into_bytes(), long("", 1 << 20).into_bytes(), vec![0; 1 << 20]])
    .collect();
    each(8, |start, who| {
        let target = start(plain());
        for bytes in &hostile {
            let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(60)]).into_owned();
            let mut client = target.connect();
            // A server may close before all is written.
            let _ = client.reader.get_mut().write_all(bytes);
            let _ = client.reader.get_mut().end();
            let mut said = Vec::new();
            let ended = client.reader.read_to_end(&mut said);
            let timed_out = |e: &std::io::Error| {
                matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
            };
            assert!(!ended.as_ref().is_err_and(timed_out), "{who}: {shown:?} is held open");
            let said = String::from_utf8_lossy(&said);
            assert!(!said.contains(" 200 "), "{who}: {shown:?} was answered {said:?}");
            target.connect().ask(GET).expect("200", b"0123");
        }
        assert_eq!(target.stop().received, hostile.len() as u64, "{who}");
    });
}

/// Clients that never finish their requests cost what their heads may hold, and keep nobody else waiting
/// but where each has a thread of a small pool to itself.
#[test]
fn clients_that_drip_cost_bounded_memory_and_hold_up_nobody() {
    const SLOW: usize = 64;
    const EACH: u64 = 256 << 10;
    each(8, |start, who| {
        let target = start(plain());
        target.connect().ask(GET).expect("200", b"0123");
        let before = target.resident_bytes();
        let mut slow: Vec<Client> = (0..SLOW).map(|_| target.connect()).collect();
        let head = format!("GET / HTTP/1.1\r\nx: {}", "a".repeat(8 << 10));
        for client in &mut slow {
            client.send(head.as_bytes());
        }
        // Four at a time, byte by byte.
        for _ in 0..64 {
            slow.iter_mut().for_each(|client| client.send(b"a"));
        }
        let waits = who.contains("Connections");
        if !waits {
            target.connect().ask(GET).expect("200", b"0123");
        }
        if let Some((before, now)) = before.zip(target.resident_bytes()) {
            let (grown, most) = (now.saturating_sub(before), SLOW as u64 * EACH);
            assert!(grown <= most, "{who}: {grown} bytes for {SLOW} clients that drip");
        }
        // One that goes on without an end is refused, and what it sends is not kept.
        for client in &mut slow {
            let _ = client.reader.get_mut().write_all(&vec![b'a'; 512 << 10]);
        }
        for mut client in slow {
            let mut said = Vec::new();
            let _ = client.reader.get_mut().end();
            let _ = client.reader.read_to_end(&mut said);
            assert!(!String::from_utf8_lossy(&said).contains(" 200 "), "{who}");
        }
        if let Some((before, now)) = before.zip(target.resident_bytes()) {
            let (grown, most) = (now.saturating_sub(before), SLOW as u64 * EACH);
            assert!(grown <= most, "{who}: {grown} bytes after {SLOW} heads without an end");
        }
        target.connect().ask(GET).expect("200", b"0123");
        let report = target.stop();
        assert_eq!(report.received, if waits { 2 } else { 3 }, "{who}");
    });
}

#[test]
fn garbage_is_refused_and_not_counted() {
    each(8, |start, _| {
        let target = start(plain());
        let headers = "a: b\r\n".repeat(65);
        let cases = [
            ("400", b"\x16\x03\x01 not HTTP at all\r\n\r\n".to_vec()),
            ("400", b"POST / HTTP/1.1\r\ncontent-length: x\r\n\r\n".to_vec()),
            ("431", format!("GET / HTTP/1.1\r\n{headers}\r\n").into_bytes()),
            ("431", vec![b'A'; 100_000]),
        ];
        for (status, bytes) in cases {
            let mut client = target.connect();
            client.ask(GET).expect("200", b"0123");
            client.ask(&bytes).expect(status, b"");
            client.expect_end();
        }
        // Half a request and then the end is no request either.
        let mut client = target.connect();
        client.send(b"GET / HTT");
        client.reader.get_mut().end().expect("half closed");
        client.expect_end();
        let report = target.stop();
        assert_eq!((report.received, report.answered, report.connections), (4, 4, 5));
    });
}

#[test]
fn no_answer_leaves_early() {
    each(8, |start, _| {
        let service_time = Law::Exponential { mean_ns: 5_000_000 };
        let target = start(EmbeddedTarget { service_time, ..plain() });
        let mut client = target.connect();
        let mut drawn = 0;
        for n in 0..20 {
            let sent = Instant::now();
            client.ask(GET).expect("200", b"0123");
            let took = sent.elapsed();
            let service_ns = laws::draw(&service_time, SEED, n);
            drawn += service_ns;
            assert!(
                took >= Duration::from_nanos(service_ns),
                "request {n} of {service_ns}: {took:?}"
            );
        }
        let report = target.stop();
        assert_eq!((report.service_ns_total, report.queue_ns_total), (drawn, 0));
    });
}

#[test]
fn one_server_serves_one_request_at_a_time_in_order() {
    const SERVICE_NS: u64 = 5_000_000;
    let service_time = Law::Fixed { ns: SERVICE_NS };
    let target = Target::start(EmbeddedTarget { service_time, servers: 1, ..plain() });
    let mut clients: Vec<Client> = (0..8).map(|_| target.connect()).collect();
    let first_sent = Instant::now();
    for client in &mut clients {
        client.send(GET);
    }
    // Client k has k requests before its own, whatever the machine was doing meanwhile.
    for (client, before) in clients.iter_mut().zip(0..) {
        client.read().expect("200", b"0123");
        let least = Duration::from_nanos(SERVICE_NS * (before + 1));
        let took = first_sent.elapsed();
        assert!(took >= least, "client {before} was answered after {took:?}, not {least:?}");
    }
    let report = target.stop();
    assert_eq!(report.service_ns_total, 8 * SERVICE_NS);
    let most = SERVICE_NS * (1..8).sum::<u64>();
    assert!(report.queue_ns_total <= most, "waited longer than in a burst: {report:?}");
}

/// A pool is a queue of so many servers: no answer leaves before the recursion says, on the same draws.
#[test]
fn a_pool_of_c_threads_serves_c_requests_at_once_and_the_others_in_turn() {
    const SERVICE_NS: u64 = 20_000_000;
    let spec = EmbeddedTarget { service_time: Law::Fixed { ns: SERVICE_NS }, ..plain() };
    for codec in Codec::ALL {
        for pool in [PoolOf::Connections, PoolOf::Requests] {
            let plan = server(ServerEngine::Pool, codec, pool, 2, vec![]);
            let target = Target::start_as(spec.clone(), Some(plan));
            let mut clients: Vec<Client> = (0..6).map(|_| target.connect()).collect();
            let sent = Instant::now();
            clients.iter_mut().for_each(|client| client.send(GET));
            let mut took = Vec::new();
            // A thread that takes connections is free again when its client leaves.
            for mut client in clients {
                client.read().expect("200", b"0123");
                took.push(sent.elapsed());
            }
            for (n, took) in (0..).zip(took) {
                let rounds: u32 = n / 2 + 1;
                let least = Duration::from_nanos(SERVICE_NS) * rounds;
                assert!(took >= least, "{pool:?}: answer {n} after {took:?}, not {least:?}");
            }
            let report = target.stop();
            assert_eq!((report.answered, report.service_ns_total), (6, 6 * SERVICE_NS));
        }
    }
}

/// Where each request has a thread or a task of its own, waiting costs nobody else anything.
#[test]
fn threads_and_tasks_wait_together() {
    const SERVICE_NS: u64 = 50_000_000;
    const CLIENTS: u32 = 40;
    let spec = EmbeddedTarget { service_time: Law::Fixed { ns: SERVICE_NS }, ..plain() };
    let pooled = |plan: &ServerPlan| matches!(plan.engine.name(), "pool" | "rayon");
    for plan in servers(1).filter(|plan| !pooled(plan)) {
        let engine = plan.engine;
        let target = Target::start_as(spec.clone(), Some(plan));
        let mut clients: Vec<Client> = (0..CLIENTS).map(|_| target.connect()).collect();
        let sent = Instant::now();
        clients.iter_mut().for_each(|client| client.send(GET));
        clients.iter_mut().for_each(|client| client.read().expect("200", b"0123"));
        let took = sent.elapsed();
        // One after another they would take two seconds.
        let half = Duration::from_nanos(SERVICE_NS) * CLIENTS / 2;
        assert!(took < half, "{engine:?}: {took:?} for {CLIENTS} waits at once");
        target.stop();
    }
}

#[test]
fn faults_hit_the_requests_that_the_seed_says() {
    each(8, |start, _| {
        let faults = InjectedFaults { error_rate: 0.3, reset_rate: 0.2, stall: None };
        let target = start(EmbeddedTarget { faults: faults.clone(), ..plain() });
        let mut client = target.connect();
        let (mut answered, mut resets) = (0, 0);
        for n in 0..200 {
            let fault = laws::fault(&faults, SEED, n);
            if fault == laws::InjectedFault::Reset {
                client.send(GET);
                let error =
                    client.reader.read(&mut [0]).expect_err("a reset, not an answer or an end");
                assert_eq!(error.kind(), ErrorKind::ConnectionReset, "request {n}");
                client = target.connect();
                resets += 1;
                continue;
            }
            let status = if fault == laws::InjectedFault::Error { "500" } else { "200" };
            client.ask(GET).expect(status, b"0123");
            answered += 1;
        }
        assert!(
            resets > 0 && answered > 0,
            "the test needs both: {resets} resets, {answered} answers"
        );
        let report = target.stop();
        assert_eq!((report.received, report.answered), (200, answered));
    });
}

#[test]
fn a_client_that_leaves_is_not_answered() {
    let service_time = Law::Fixed { ns: 3_600_000_000_000 };
    let target = Target::start(EmbeddedTarget { service_time, ..plain() });
    let mut gone = target.connect();
    gone.send(GET);
    drop(gone);
    // Refusals do not wait in the queue: when one is back, all that came before has been seen.
    target.connect().ask(b"?\r\n\r\n").expect("400", b"");
    let report = target.stop();
    assert_eq!((report.received, report.answered), (1, 0));
}

#[test]
fn big_bodies_arrive_whole_and_keep_the_connection() {
    each(8, |start, _| {
        const LENGTH: usize = 8 * 1024 * 1024;
        let target = start(EmbeddedTarget { body_bytes: LENGTH as u64, ..plain() });
        let mut clients = [target.connect(), target.connect()];
        for _ in 0..2 {
            // Neither is read before both have been asked, so that their send buffers fill.
            clients.iter_mut().for_each(|client| client.send(GET));
            for client in &mut clients {
                let body = client.read().body;
                assert_eq!(body.len(), LENGTH);
                let wrong = (0..LENGTH).find(|&i| body[i] != body_byte(i as u64));
                assert_eq!(wrong, None, "the first wrong byte");
            }
        }
        assert_eq!(target.stop().answered, 4);
    });
}

#[test]
fn a_big_body_that_is_not_read_to_its_end_does_not_count_as_answered() {
    each(8, |start, _| {
        let target = start(EmbeddedTarget { body_bytes: 1 << 30, ..plain() });
        let mut client = target.connect();
        client.send(GET);
        assert!(client.read_head().contains("1073741824"));
        drop(client);
        target.connect().ask(b"?\r\n\r\n").expect("400", b"");
        let report = target.stop();
        assert_eq!((report.received, report.answered), (1, 0));
    });
}

#[test]
fn no_byte_leaves_during_a_stall() {
    each(8, |start, _| {
        let stall = Stall { every_ns: 40_000_000, for_ns: 20_000_000 };
        let faults = InjectedFaults { stall: Some(stall), ..InjectedFaults::default() };
        let mut target = start(EmbeddedTarget { faults, ..plain() });
        let start_at_ns = duel::sys::now_ns();
        let line = serde_json::to_string(&Told::StartAtNs(start_at_ns)).expect("JSON");
        writeln!(target.stdin, "{line}").expect("the start is written");
        let mut client = target.connect();
        // The start was written before them, so that after two turns of its loop the target knows it.
        client.ask(GET).expect("200", b"0123");
        client.ask(GET).expect("200", b"0123");
        let mut held = 0;
        while held < 3 {
            let sent_ns = duel::sys::now_ns();
            client.ask(GET).expect("200", b"0123");
            let read_ns = duel::sys::now_ns();
            let release_ns = laws::after_stall(&stall, start_at_ns, sent_ns);
            assert!(read_ns >= release_ns, "sent and answered inside of one stall");
            held += u64::from(release_ns > sent_ns);
        }
        target.stop();
    });
}

#[test]
fn many_connections_are_held_and_served_together() {
    each(512, |start, _| {
        const CONNECTIONS: u64 = 400;
        let service_time = Law::Uniform { min_ns: 0, max_ns: 20_000_000 };
        let target = start(EmbeddedTarget { service_time, ..plain() });
        let mut clients: Vec<Client> = (0..CONNECTIONS).map(|_| target.connect()).collect();
        for _ in 0..3 {
            clients.iter_mut().for_each(|client| client.send(GET));
            clients.iter_mut().for_each(|client| client.read().expect("200", b"0123"));
        }
        let report = target.stop();
        assert_eq!((report.received, report.answered), (3 * CONNECTIONS, 3 * CONNECTIONS));
        assert_eq!(report.connections, CONNECTIONS);
    });
}

/// How a stream was cut into records, and those into segments, is nobody's business.
#[test]
fn requests_arrive_however_tls_cuts_them() {
    for plan in encrypted(4) {
        let who = format!("{} {}", plan.engine.name(), plan.codec.name());
        let target = Target::start_as(plain(), Some(plan));
        let mut socket = target.connect_below();
        let mut session = target.session().expect("TLS");
        // Encrypted behind the end of the handshake, with which the first request goes out.
        session.writer().write_all(GET).expect("kept");
        while session.is_handshaking() {
            session.complete_io(&mut socket).expect("a handshake");
        }
        // A record for each byte, and many of them in one write.
        for byte in GET.repeat(20) {
            session.writer().write_all(&[byte]).expect("kept");
        }
        let mut records = Vec::new();
        while session.wants_write() {
            session.write_tls(&mut records).expect("in memory");
        }
        let (first, rest) = records.split_at(records.len() / 2);
        socket.write_all(first).expect("written");
        for byte in &rest[..200] {
            socket.write_all(&[*byte]).expect("written");
        }
        socket.write_all(&rest[200..]).expect("written");
        let mut tls = rustls::StreamOwned::new(session, socket);
        let mut said = Vec::new();
        while said.windows(4).filter(|w| w == b"0123").count() < 21 {
            let mut bytes = [0; 4096];
            let length = tls.read(&mut bytes).unwrap_or_else(|e| panic!("{who}: {e}"));
            assert!(length > 0, "{who} ended the stream after {said:?}");
            said.extend_from_slice(&bytes[..length]);
        }
        assert_eq!(target.stop().answered, 21, "{who}");
    }
}

#[test]
fn what_is_no_tls_ends_its_own_connection_and_nothing_else() {
    for plan in encrypted(4) {
        let who = format!("{} {}", plan.engine.name(), plan.codec.name());
        let target = Target::start_as(plain(), Some(plan));
        let mut hello = Vec::new();
        target.session().expect("TLS").write_tls(&mut hello).expect("in memory");
        let mut flipped = hello.clone();
        let middle = flipped.len() / 2;
        flipped[middle..].fill(0xff);
        let oversized = [&[0x17, 3, 3, 0xff, 0xff][..], &vec![0; 70_000]].concat();
        for bytes in [GET, &[0; 4096], &hello[..40], &flipped, &oversized, &hello.repeat(2)] {
            let mut socket = target.connect_below();
            // The server may close before all is written.
            let _ = socket.write_all(bytes);
            let _ = socket.shutdown(Shutdown::Write);
            let mut said = Vec::new();
            let ended = socket.read_to_end(&mut said);
            let timed_out = |e: &std::io::Error| e.kind() == ErrorKind::WouldBlock;
            assert!(!ended.is_err_and(|e| timed_out(&e)), "{who} holds a connection open");
            assert!(!said.starts_with(b"HTTP"), "{who} answered in plain text");
            target.connect().ask(GET).expect("200", b"0123");
        }
        // One that never goes on holds up nobody.
        let mut slow = target.connect_below();
        slow.write_all(&hello[..hello.len() - 1]).expect("written");
        target.connect().ask(GET).expect("200", b"0123");
        assert_eq!(target.stop().received, 7, "{who}");
    }
}

/// What is said to this input, which must be refused.
fn refusal(input: &str) -> String {
    let (stdin_end, mut stdin) = std::io::pipe().expect("a pipe");
    stdin.write_all(input.as_bytes()).expect("written");
    drop(stdin);
    format!("{:#}", serve_controlled(stdin_end, std::io::sink()).expect_err(input))
}

#[test]
fn what_the_driver_says_wrongly_is_named() {
    let check = |input: &str, named: &str| {
        let error = refusal(input);
        assert!(error.contains(named), "{named:?} is not in: {error}");
    };
    let line = |job: &TargetJob| serde_json::to_string(job).expect("JSON") + "\n";
    let listen = ([127, 0, 0, 1], 0).into();
    let mut job = TargetJob::new(listen, plain(), 1);
    check("", "before the job");
    check("{}\n", "job line: {}");
    check(&format!("{}{{\"start\":1}}\n", line(&job)), "start line");
    job.spec.faults.error_rate = 2.0;
    check(&line(&job), "error_rate is 2");
    job.spec.faults.error_rate = 0.0;
    // A documentation address (RFC 5737), which no machine has.
    job.listen = ([192, 0, 2, 1], 0).into();
    check(&line(&job), "192.0.2.1");
}

#[test]
fn a_closed_input_ends_the_target_at_once_with_a_report() {
    let target = Target::start(plain());
    assert_eq!(TargetReport { cpu_ns: 0, ..target.stop() }, TargetReport::default());
}
