//! Hostile targets: every case ends in its ledger column, under every engine and codec.

use crate::common;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use common::{ALL, Done, Sweep, assert_books, assert_histograms};
use duel::format::{Errors, Status, TrialRecord};
use duel::plan::Engine;
use socket2::{Domain, SockRef, Socket, Type};

/// Requests of each trial; lanes are half as many.
const REQUESTS: u64 = 4;
const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// A server that plays one part to every connection, on threads that end with the test.
fn serve(
    play: impl Fn(&mut TcpStream) -> std::io::Result<()> + Send + Sync + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
    let address = listener.local_addr().expect("it is bound");
    let play = Arc::new(play);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            let play = play.clone();
            std::thread::spawn(move || {
                // The client may leave at any time: that is what is tested.
                let _ = play(&mut stream);
            });
        }
    });
    address
}

/// Reads one request; an error once the client has gone.
fn request(stream: &mut TcpStream) -> std::io::Result<()> {
    let mut head = vec![];
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    Ok(())
}

/// Answers every request with the same bytes and keeps the connection.
fn answers(bytes: &'static [u8]) -> impl Fn(&mut TcpStream) -> std::io::Result<()> {
    move |stream| loop {
        request(stream)?;
        stream.write_all(bytes)?;
    }
}

/// Answers one request and closes.
fn answers_once(bytes: &'static [u8]) -> impl Fn(&mut TcpStream) -> std::io::Result<()> {
    move |stream| {
        request(stream)?;
        stream.write_all(bytes)
    }
}

/// Makes the coming close a reset.
fn reset(stream: &TcpStream) -> std::io::Result<()> {
    SockRef::from(stream).set_linger(Some(Duration::ZERO))
}

/// Waits until the client has closed.
fn hold(stream: &mut TcpStream) -> std::io::Result<()> {
    let mut rest = [0; 64];
    while stream.read(&mut rest)? > 0 {}
    Ok(())
}

fn sweep(address: SocketAddr, plan: &str, axes: &str) -> Sweep {
    Sweep::new(&format!(
        "[target]\nurl = 'http://{address}'\n[plan]\nrequests = {REQUESTS}\n{plan}\n\
         [sweep]\nlanes = [2]{axes}"
    ))
}

fn run(address: SocketAddr, timeout: &str) -> Done {
    sweep(address, &format!("timeout = '{timeout}'"), &ALL.to_string()).run()
}

/// Rows of every engine and codec whose books balance.
fn balanced(done: &Done) -> &[TrialRecord] {
    assert_eq!(done.records.len(), ALL.rows(), "{}", done.stderr);
    for r in &done.records {
        assert_books(r);
        assert_histograms(r);
        assert_eq!(r.ledger.planned, REQUESTS, "{}: {:?} {:?}", r.cell.id, r.status, r.error);
        assert_eq!(r.ledger.unsent, 0, "{}", r.cell.id);
        assert!(
            r.memory.peak_rss_bytes < r.memory.baseline_rss_bytes + (16 << 20),
            "{}",
            r.cell.id
        );
    }
    &done.records
}

/// Every request of every row failed in this column, and nothing completed.
fn all_fail(done: &Done, column: fn(&Errors) -> u64, name: &str) {
    for r in balanced(done) {
        let id = &r.cell.id;
        assert_eq!(
            column(&r.errors),
            REQUESTS,
            "{id}: all in {name}: {:?} {:?}",
            r.errors,
            r.error
        );
        let told = r.error.as_deref().unwrap_or_default();
        assert!(
            told.starts_with(&format!("nothing completed; first {name} error: ")),
            "{id}: {told}"
        );
    }
    assert_eq!(done.code, 1, "nothing completed; {}", done.stderr);
}

/// Every request of every row timed out, no earlier than it may.
fn all_time_out(done: &Done, timeout: Duration) {
    let timeout = timeout.as_nanos() as u64;
    for r in balanced(done) {
        let id = &r.cell.id;
        assert_eq!(
            r.ledger.timed_out, REQUESTS,
            "{id}: {:?} {:?} {:?}",
            r.ledger, r.errors, r.error
        );
        let service = r.service_ns.as_ref().expect("timed out requests are in it");
        // The histogram keeps three digits.
        assert!(service.min >= timeout - timeout / 1000, "{id}: gave up after {}", service.min);
        let late = timeout + timeout / 10 + 10_000_000;
        // A machine may stall for long; a timeout that is never re-armed takes longer still.
        let stall = 1_500_000_000;
        assert!(service.max < late + stall, "{id}: gave up after {}", service.max);
        let told = r.error.as_deref().unwrap_or_default();
        assert_eq!(told, "nothing completed: every request timed out", "{id}");
    }
    assert_eq!(done.code, 1, "nothing completed; {}", done.stderr);
}

fn all_complete(done: &Done) -> &[TrialRecord] {
    for r in balanced(done) {
        let id = &r.cell.id;
        assert_eq!(r.ledger.completed, REQUESTS, "{id}: {:?} {:?}", r.errors, r.error);
        assert_eq!(r.status, Status::Ok, "{id}: {:?}", r.gates);
    }
    assert_eq!(done.code, 0, "{}", done.stderr);
    &done.records
}

/// Every request but the first of each lane needed a connection of its own.
fn all_reconnect(rows: &[TrialRecord]) {
    for r in rows {
        let lanes = if r.cell.engine == Engine::Sequential { 1 } else { 2 };
        // A lane that served nothing never needed a second connection.
        let most = REQUESTS - 1;
        let fewest = REQUESTS - lanes;
        assert!((fewest..=most).contains(&r.reconnects), "{}: {}", r.cell.id, r.reconnects);
    }
}

/// Promises 1 KiB and sends 100 MB, for as long as somebody takes it.
fn floods(stream: &mut TcpStream) -> std::io::Result<()> {
    request(stream)?;
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1024\r\n\r\n")?;
    let piece = vec![b'x'; 1 << 20];
    for _ in 0..100 {
        stream.write_all(&piece)?;
    }
    hold(stream)
}

/// Header lines without an end.
fn heads_on(stream: &mut TcpStream) -> std::io::Result<()> {
    request(stream)?;
    stream.write_all(b"HTTP/1.1 200 OK\r\n")?;
    let line = b"x-more: and more and more and more and more and more and more\r\n".repeat(64);
    loop {
        stream.write_all(&line)?;
    }
}

/// Chunks without an end.
fn chunks_on(stream: &mut TcpStream) -> std::io::Result<()> {
    request(stream)?;
    stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
    let chunks = b"400\r\n".iter().copied().chain([b'x'; 1024]).chain(*b"\r\n");
    let chunks: Vec<u8> = chunks.collect::<Vec<u8>>().repeat(16);
    loop {
        stream.write_all(&chunks)?;
    }
}

/// Each cell by its id, its lanes, and the user memory that they took over the baseline.
fn memory_under(
    play: impl Fn(&mut TcpStream) -> std::io::Result<()> + Send + Sync + 'static,
) -> Vec<(String, u64, u64)> {
    let done = Sweep::new(&format!(
        "[target]\nurl = 'http://{}'\n[plan]\nrequests = 64\ntimeout = '100ms'\n[sweep]\n\
         lanes = [64]{ALL}",
        serve(play)
    ))
    .run_with(&["--keep-going"]);
    assert_eq!(done.records.len(), ALL.rows(), "{}", done.stderr);
    done.records.iter().for_each(assert_books);
    let over = |r: &TrialRecord| r.memory.peak_rss_bytes - r.memory.baseline_rss_bytes;
    let lanes = |r: &TrialRecord| u64::from(r.cell.total_lanes);
    let mut all: Vec<_> =
        done.records.iter().map(|r| (r.cell.id.clone(), lanes(r), over(r))).collect();
    all.sort();
    all
}

#[test]
fn no_target_makes_a_lane_grow() {
    let healthy = memory_under(answers(OK));
    for (name, hostile) in [
        ("headers", memory_under(heads_on)),
        ("chunks", memory_under(chunks_on)),
        ("a flood", memory_under(floods)),
    ] {
        for ((cell, lanes, bytes), (_, _, usual)) in hostile.iter().zip(&healthy) {
            // Code that only a fault runs is mapped in once a process, some 500 KiB of a debug build:
            // 64 lanes carry it, one alone cannot.
            let code = if *lanes == 1 { 1 << 20 } else { 0 };
            let bound = usual + lanes * (64 << 10) + code;
            println!("{cell} under {name}: {bytes} bytes of {bound}");
            assert!(*bytes <= bound, "{cell} under {name}: {bytes} bytes, at most {bound}");
        }
    }
}

#[test]
fn nobody_listens() {
    // Bound, so that nobody else can take the port, and not listening.
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let any: SocketAddr = "127.0.0.1:0".parse().expect("an address");
    socket.bind(&any.into()).expect("a port");
    let address = socket.local_addr().expect("bound").as_socket().expect("an IP address");
    let done = run(address, "5s");
    for r in &done.records {
        assert_eq!(r.status, Status::Invalid, "{}: no lane was connected", r.cell.id);
    }
    all_fail(&done, |e| e.connect, "connect");
}

#[test]
fn closes_before_any_byte() {
    all_fail(&run(serve(request), "5s"), |e| e.read, "read");
}

#[test]
fn closes_its_half_and_listens_on() {
    let address = serve(|stream| {
        request(stream)?;
        stream.shutdown(std::net::Shutdown::Write)?;
        hold(stream)
    });
    all_fail(&run(address, "5s"), |e| e.read, "read");
}

#[test]
fn closes_without_reading_the_request() {
    let done = run(serve(|_| Ok(())), "5s");
    for r in balanced(&done) {
        // The reset may overtake the second write.
        assert_eq!(r.errors.read + r.errors.write, REQUESTS, "{}: {:?}", r.cell.id, r.errors);
    }
    assert_eq!(done.code, 1, "{}", done.stderr);
}

#[test]
fn closes_amid_the_head() {
    let address = serve(answers_once(b"HTTP/1.1 200 OK\r\nContent-Le"));
    all_fail(&run(address, "5s"), |e| e.read, "read");
}

#[test]
fn resets_after_the_request() {
    let address = serve(|stream| {
        request(stream)?;
        reset(stream)
    });
    all_fail(&run(address, "5s"), |e| e.read, "read");
}

#[test]
fn resets_before_reading_the_request() {
    let done = run(serve(|stream| reset(stream)), "5s");
    for r in balanced(&done) {
        // The reset comes before, while or after the request is written.
        let Errors { connect, write, read, .. } = r.errors;
        assert_eq!(connect + write + read, REQUESTS, "{}: {:?}", r.cell.id, r.errors);
    }
    assert_eq!(done.code, 1, "{}", done.stderr);
}

#[test]
fn resets_amid_the_head() {
    let address = serve(|stream| {
        request(stream)?;
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Le")?;
        reset(stream)
    });
    all_fail(&run(address, "5s"), |e| e.read, "read");
}

#[test]
fn resets_after_the_body() {
    let address = serve(|stream| {
        request(stream)?;
        stream.write_all(OK)?;
        reset(stream)
    });
    for r in balanced(&run(address, "5s")) {
        let id = &r.cell.id;
        // Each connection serves one request; the next one on it may fail before it is noticed.
        assert_eq!(r.errors.stale, r.ledger.failed, "{id}: {:?}", r.errors);
        assert_eq!(r.ledger.timed_out, 0, "{id}");
        assert!(r.ledger.completed >= r.ledger.failed, "{id}: {:?} {:?}", r.ledger, r.errors);
    }
}

#[test]
fn resets_amid_the_body() {
    let address = serve(|stream| {
        request(stream)?;
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")?;
        // A reset discards what the client has not read yet.
        std::thread::sleep(Duration::from_millis(20));
        reset(stream)
    });
    let done = run(address, "5s");
    for r in balanced(&done) {
        // A client that had not read yet sees the reset first.
        assert_eq!(r.errors.body + r.errors.read, REQUESTS, "{}: {:?}", r.cell.id, r.errors);
        assert!(r.errors.body > 0 || r.errors.read == REQUESTS, "{}: {:?}", r.cell.id, r.errors);
    }
    assert_eq!(done.code, 1, "{}", done.stderr);
}

#[test]
fn sends_less_than_it_announced() {
    let address = serve(answers_once(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort"));
    all_fail(&run(address, "5s"), |e| e.body, "body");
}

#[test]
fn ends_amid_a_chunk() {
    let bytes = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10\r\nhalf";
    all_fail(&run(serve(answers_once(bytes)), "5s"), |e| e.body, "body");
}

#[test]
fn answers_garbage() {
    let address = serve(answers(b"\x16\x03\x01 this is no HTTP\r\n\r\n"));
    all_fail(&run(address, "5s"), |e| e.protocol, "protocol");
}

#[test]
fn answers_with_nul_bytes_in_a_header() {
    let address = serve(answers(b"HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 0\r\n\r\n"));
    all_fail(&run(address, "5s"), |e| e.protocol, "protocol");
}

#[test]
fn answers_with_nul_bytes_alone() {
    all_fail(&run(serve(answers(&[0; 64])), "5s"), |e| e.protocol, "protocol");
}

#[test]
fn announces_a_length_that_is_none() {
    for bytes in [
        &b"HTTP/1.1 200 OK\r\nContent-Length: 2x\r\n\r\nok"[..],
        b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\nok",
    ] {
        all_fail(&run(serve(answers(bytes)), "5s"), |e| e.protocol, "protocol");
    }
}

#[test]
fn contradicts_itself_about_the_length() {
    let bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nok";
    all_fail(&run(serve(answers(bytes)), "5s"), |e| e.protocol, "protocol");
}

#[test]
fn sends_a_chunk_size_that_is_none() {
    let bytes = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n";
    all_fail(&run(serve(answers(bytes)), "5s"), |e| e.protocol, "protocol");
}

#[test]
fn sends_headers_without_end() {
    let address = serve(heads_on);
    all_fail(&run(address, "5s"), |e| e.protocol, "protocol");
}

#[test]
fn sends_chunks_without_end() {
    all_time_out(&run(serve(chunks_on), "200ms"), Duration::from_millis(200));
}

#[test]
fn answers_too_late() {
    let address = serve(|stream| {
        loop {
            request(stream)?;
            std::thread::sleep(Duration::from_millis(600));
            stream.write_all(OK)?;
        }
    });
    // A late answer to one request must not be taken for the answer to the next.
    all_time_out(&run(address, "200ms"), Duration::from_millis(200));
}

#[test]
fn never_answers() {
    all_time_out(&run(serve(hold), "200ms"), Duration::from_millis(200));
}

#[test]
fn drips_the_head_and_the_body() {
    let drip = |bytes: &'static [u8]| {
        serve(move |stream| {
            request(stream)?;
            for byte in bytes.iter().cycle() {
                stream.write_all(&[*byte])?;
                std::thread::sleep(Duration::from_millis(50));
            }
            Ok(())
        })
    };
    let address = drip(b"HTTP/1.1 200 OK and so on and on");
    all_time_out(&run(address, "300ms"), Duration::from_millis(300));
    let body = serve(|stream| {
        request(stream)?;
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")?;
        loop {
            stream.write_all(b"x")?;
            std::thread::sleep(Duration::from_millis(50));
        }
    });
    all_time_out(&run(body, "300ms"), Duration::from_millis(300));
}

#[test]
fn answers_500() {
    let address = serve(answers(b"HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\nno"));
    let done = run(address, "5s");
    all_fail(&done, |e| e.status, "status");
    for r in &done.records {
        assert_eq!(r.reconnects, 0, "{}: a status error keeps the connection", r.cell.id);
    }
}

#[test]
fn closes_after_each_answer_and_says_so() {
    let bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";
    all_reconnect(all_complete(&run(serve(answers_once(bytes)), "5s")));
}

#[test]
fn speaks_http_1_0() {
    let bytes = b"HTTP/1.0 200 OK\r\n\r\nall until the end";
    all_reconnect(all_complete(&run(serve(answers_once(bytes)), "5s")));
}

#[test]
fn ends_lines_with_bare_lf() {
    let address = serve(answers(b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok"));
    for r in all_complete(&run(address, "5s")) {
        assert_eq!(r.reconnects, 0, "{}", r.cell.id);
    }
}

#[test]
fn sends_more_than_was_asked() {
    let address = serve(answers(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok and more"));
    all_reconnect(all_complete(&run(address, "5s")));
}

#[test]
fn sends_100_megabytes_where_a_kibibyte_was_promised() {
    let address = serve(floods);
    let done = run(address, "5s");
    all_reconnect(all_complete(&done));
    for r in &done.records {
        assert!(r.bytes.received < REQUESTS * (64 << 10), "{}: {:?}", r.cell.id, r.bytes);
    }
}

#[test]
fn answers_before_it_is_asked() {
    let address = serve(|stream| {
        stream.write_all(OK)?;
        hold(stream)
    });
    // Whether a codec notices depends on when it looks; the books hold either way, and nothing
    // waits longer than it may.
    balanced(&run(address, "300ms"));
}

#[test]
fn every_second_connection_breaks_and_the_others_serve() {
    let count = std::sync::atomic::AtomicU64::new(0);
    let address = serve(move |stream| {
        if count.fetch_add(1, std::sync::atomic::Ordering::Relaxed).is_multiple_of(2) {
            request(stream)?;
            return reset(stream);
        }
        answers_once(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")(stream)
    });
    for plan in ["", "arrivals = 'constant'"] {
        let rate = if plan.is_empty() { "" } else { "rates = [200]\n" };
        let done =
            sweep(address, &format!("timeout = '5s'\n{plan}"), &format!("\n{rate}{ALL}")).run();
        for r in balanced(&done) {
            assert_eq!(
                r.errors.read, r.ledger.failed,
                "{}: {:?} {:?}",
                r.cell.id, r.errors, r.error
            );
        }
        let completed: u64 = done.records.iter().map(|r| r.ledger.completed).sum();
        assert!(completed > 0, "half of the connections serve: {}", done.stderr);
    }
}
