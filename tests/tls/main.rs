//! https: real servers, certificates that must be refused, and servers that misbehave behind TLS.

#[path = "../common/mod.rs"]
mod common;
mod server;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use common::{ALL, Done, Sweep, assert_books, assert_histograms, duel, output, text};
use duel::codec::socket::Route;
use duel::codec::{BlockingConn, Conn, Failure, tls};
use duel::format::{Errors, Flag, TrialRecord};
use duel::plan::endpoint::{Endpoint, TlsPlan};
use duel::plan::{Codec, Engine};
use duel::side::ErrorKind;
use server::{BODY, Certificate, Nginx, Server, answer};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const REQUESTS: u64 = 4;

/// A sweep of every engine and codec over https.
fn sweep(address: SocketAddr, certificate: &Certificate, plan: &str, axes: &str) -> Sweep {
    Sweep::new(&format!(
        "[target]\nurl = 'https://{address}'\nca_file = '{}'\n[plan]\n{plan}\n[sweep]\n{axes}{ALL}",
        certificate.file("ca.pem").display()
    ))
}

fn run(server: &Server, certificate: &Certificate, timeout: &str) -> Done {
    let plan = format!("requests = {REQUESTS}\ntimeout = '{timeout}'");
    sweep(server.address, certificate, &plan, "lanes = [2]").run()
}

fn connections(r: &TrialRecord) -> u64 {
    match r.cell.engine {
        Engine::Sequential => u64::from(r.cell.processes),
        _ => u64::from(r.cell.total_lanes),
    }
}

#[test]
fn nginx_over_tls_answers_every_engine_and_codec_from_two_processes() {
    let Some(nginx) = Nginx::start("ssl_protocols TLSv1.3;") else { return };
    let plan = "requests = 100\n[[plan.request]]\npath = '/big'\n[[plan.request]]\npath = '/page'";
    let axes = "lanes = [3]\nprocesses = [2]";
    let done = sweep(nginx.address, &nginx.certificate, plan, axes).run();
    for r in done.all_ok(ALL.rows()) {
        let id = &r.cell.id;
        assert_books(r);
        assert_histograms(r);
        assert_eq!(r.ledger.completed, 100, "{id}: {:?}", r.error);
        assert!(r.bytes.received > 10 * 300_000, "{id}: {:?}", r.bytes);
        let count = |d: &Option<duel::format::Distribution>| d.as_ref().map(|d| d.count);
        assert_eq!(count(&r.handshake_ns), Some(connections(r)), "{id}: one each, none resumed");
        assert_eq!(count(&r.connect_ns), Some(connections(r)), "{id}: apart from the handshakes");
        assert_eq!(r.reconnects, 0, "{id}: session tickets are no answers");
        assert_eq!(r.tls.as_deref(), Some("TLSv1_3 TLS13_AES_256_GCM_SHA384"), "{id}");
        assert!(!r.flags.contains(&Flag::InsecureTls), "{id}: {:?}", r.flags);
    }
    assert_eq!(nginx.log().len(), 100 * ALL.rows());
    assert!(nginx.log().iter().all(|l| l.contains(" 200 TLSv1.3 ")), "{:?}", nginx.log());
}

#[test]
fn nginx_gets_a_connection_and_a_handshake_a_request_without_keep_alive() {
    let Some(nginx) = Nginx::start("ssl_protocols TLSv1.2;") else { return };
    let plan = "requests = 30\nkeep_alive = false\n[[plan.request]]\npath = '/page'";
    let done = sweep(nginx.address, &nginx.certificate, plan, "lanes = [3]\nprocesses = [2]").run();
    for r in done.all_ok(ALL.rows()) {
        let id = &r.cell.id;
        assert_eq!(r.ledger.completed, 30, "{id}: {:?}", r.error);
        let made = r.reconnects + connections(r);
        assert!(made >= 30, "{id}: {made} connections for 30 requests");
        let handshakes = r.handshake_ns.as_ref().map(|d| d.count);
        assert_eq!(handshakes, Some(made), "{id}: a handshake for each connection");
        assert!(r.tls.as_ref().is_some_and(|t| t.starts_with("TLSv1_2 ")), "{id}: {:?}", r.tls);
    }
    let log = nginx.log();
    assert_eq!(log.len(), 30 * ALL.rows());
    assert!(log.iter().all(|l| l.ends_with("TLSv1.2 1")), "each the first of its connection");
}

#[test]
fn tls_goes_over_a_unix_socket_too() {
    let Some(nginx) = Nginx::start("") else { return };
    let toml = format!(
        "[target]\nurl = 'https://localhost/page'\nunix_socket = '{0}/sock'\nca_file = '{0}/ca.pem'\n\
         [plan]\nrequests = 20\n[sweep]\nlanes = [2]{ALL}",
        nginx.home().display()
    );
    let done = Sweep::new(&toml).run();
    for r in done.all_ok(ALL.rows()) {
        assert_eq!(r.ledger.completed, 20, "{}: {:?}", r.cell.id, r.error);
        assert!(r.bytes.received > 20 * BODY.len() as u64, "{}", r.cell.id);
        assert!(r.tls.is_some() && r.handshake_ns.is_some(), "{}", r.cell.id);
    }
    assert!(done.stderr.contains("load goes to unix:"), "{}", done.stderr);
}

#[test]
fn a_secret_that_goes_over_tls_stays_there() {
    const SECRET: &str = "planted-behind-tls-41e7";
    let certificate = Certificate::good();
    let server = Server::start(&certificate, answer(OK));
    let plan =
        "requests = 4\n[[plan.request]]\nheaders = { authorization = '$DUEL_TEST_TLS_SECRET' }";
    let sweep = sweep(server.address, &certificate, plan, "lanes = [2]");
    let out = output(sweep.command().env("DUEL_TEST_TLS_SECRET", SECRET));
    let (stdout, stderr) = text(&out);
    assert_eq!(out.status.code(), Some(0), "{stderr}");
    assert!(!stdout.contains(SECRET) && !stderr.contains(SECRET), "{stdout}{stderr}");
    let mut files = 0;
    for entry in std::fs::read_dir(sweep.dir()).unwrap().flatten().filter(|e| e.path().is_file()) {
        let bytes = std::fs::read(entry.path()).unwrap();
        let found = bytes.windows(SECRET.len()).any(|w| w == SECRET.as_bytes());
        assert!(!found, "{} holds the secret", entry.path().display());
        files += 1;
    }
    assert!(files >= 4, "plan, rows, report, cells");
}

#[test]
fn a_bad_certificate_is_named_before_anything_is_sent() {
    let good = Certificate::good();
    let cases = [
        (Certificate::expired(), None, "the target's certificate expired on 2002-03-04"),
        (
            Certificate::new(&["elsewhere.example"], |_| {}),
            None,
            "is not for `127.0.0.1` but for DnsName(\"elsewhere.example\")",
        ),
        (Certificate::good(), Some(&good), "the trusted authority of that name did not sign"),
    ];
    for (certificate, trusted, words) in cases {
        let server = Server::start(&certificate, answer(OK));
        let done =
            sweep(server.address, trusted.unwrap_or(&certificate), "requests = 4", "lanes = [2]")
                .run();
        assert_eq!(done.code, 2, "{words}: {}", done.stderr);
        assert!(done.stderr.contains(words), "{words:?} is not in: {}", done.stderr);
        assert!(done.stderr.contains("nothing was sent"), "{}", done.stderr);
        assert!(done.records.is_empty(), "no trial ran");
        assert_eq!(server.heard.load(SeqCst), 0, "{words}: no request was sent");
    }
}

#[test]
fn an_unknown_authority_and_a_plain_target_are_named_with_the_way_out() {
    let server = Server::start(&Certificate::good(), answer(OK));
    let url = format!("https://{}/", server.address);
    let (_, error) = text(&output(&mut duel(&["try", &url, "-n", "4", "-c", "2"])));
    // A machine without any authority says so instead.
    let named = error.contains("--ca-file") || error.contains("trusts no certificate authority");
    assert!(named, "{error}");

    let plain = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("https://{}/", plain.local_addr().expect("bound"));
    std::thread::spawn(move || {
        for mut stream in plain.incoming().flatten() {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    let out = output(&mut duel(&["try", &url, "-n", "4", "-c", "2", "-k"]));
    let (_, error) = text(&out);
    assert_eq!(out.status.code(), Some(2), "{error}");
    assert!(error.contains("does the target speak plain http?"), "{error}");
}

#[test]
fn insecure_accepts_any_certificate_and_every_row_says_so() {
    let certificate = Certificate::expired();
    let server = Server::start(&certificate, answer(OK));
    let toml = format!(
        "[target]\nurl = 'https://{}'\ninsecure = true\n[plan]\nrequests = 4\n\
         [sweep]\nlanes = [2]{ALL}",
        server.address
    );
    let done = Sweep::new(&toml).run();
    for r in done.all_ok(ALL.rows()) {
        assert_eq!(r.ledger.completed, 4, "{}: {:?}", r.cell.id, r.error);
        assert!(r.flags.contains(&Flag::InsecureTls), "{}: {:?}", r.cell.id, r.flags);
    }
    assert!(done.stderr.contains("INSECURE"), "{}", done.stderr);
    assert!(done.stdout.contains("insecure tls"), "{}", done.stdout);
}

/// A certificate that goes bad amid a run is the failure of the request that needed the connection.
#[test]
fn a_bad_certificate_is_a_connect_error_of_either_kind_of_socket() {
    let certificate = Certificate::expired();
    let server = Server::start(&certificate, answer(OK));
    let target = Endpoint::Tcp(server.address);
    let pem = std::fs::read_to_string(certificate.file("ca.pem")).expect("the authority");
    let plan = TlsPlan {
        server_name: "127.0.0.1".into(),
        ca_pem: Some(pem),
        insecure: false,
        client: None,
    };
    let client = tls::Client::new(&plan).expect("a client");
    let route = Route { target: &target, source: None, allowed: &[] };
    let timeout = Duration::from_secs(30);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for codec in Codec::ALL {
        let blocking = BlockingConn::connect(codec, &route, timeout, Some(&client)).map(|_| ());
        let tasks = runtime
            .block_on(Conn::<tokio::net::TcpStream>::connect_async(codec, route, Some(&client)))
            .map(|_| ());
        for result in [blocking, tasks] {
            let Err(Failure::Error { kind, message }) = result else {
                panic!("{codec:?}: accepted an expired certificate")
            };
            assert_eq!(kind, ErrorKind::Connect, "{message}");
            assert!(message.contains("certificate expired on 2002-03-04"), "{message}");
        }
    }
}

/// Every request of every row failed in this column.
fn all_fail(done: &Done, column: fn(&Errors) -> u64, words: &str) {
    assert_eq!(done.records.len(), ALL.rows(), "{}", done.stderr);
    for r in &done.records {
        let id = &r.cell.id;
        assert_books(r);
        assert_histograms(r);
        assert_eq!(column(&r.errors), REQUESTS, "{id}: {:?} {:?}", r.errors, r.error);
        let told = r.error.as_deref().unwrap_or_default();
        assert!(told.contains(words), "{id}: {words:?} is not in {told:?}");
    }
}

#[test]
fn a_target_that_never_shakes_hands_meets_the_timeout() {
    // Accepts by its backlog and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let toml = format!(
        "[target]\nurl = 'https://{}'\ninsecure = true\n[plan]\nrequests = 2\ntimeout = '150ms'\n\
         [sweep]\nlanes = [2]{ALL}",
        silent.local_addr().expect("bound")
    );
    let done = Sweep::new(&toml).run();
    assert_eq!(done.records.len(), ALL.rows(), "{}", done.stderr);
    for r in &done.records {
        assert_eq!(r.errors.connect, 2, "{}: {:?} {:?}", r.cell.id, r.errors, r.error);
        let told = r.error.as_deref().unwrap_or_default();
        assert!(told.contains("timed out"), "{}: {told}", r.cell.id);
        let failed = r.failed_ns.as_ref().expect("they failed");
        assert!(failed.min >= 149_000_000, "{}: not before its time: {failed:?}", r.cell.id);
    }
}

#[test]
fn a_response_that_drips_over_tls_meets_the_timeout() {
    let certificate = Certificate::good();
    let server = Server::start(&certificate, |tls| {
        for byte in OK {
            tls.write_all(&[*byte])?;
            tls.flush()?;
            std::thread::sleep(Duration::from_millis(40));
        }
        Ok(())
    });
    let done = run(&server, &certificate, "200ms");
    assert_eq!(done.records.len(), ALL.rows(), "{}", done.stderr);
    for r in &done.records {
        assert_books(r);
        assert_histograms(r);
        assert_eq!(r.ledger.timed_out, REQUESTS, "{}: {:?} {:?}", r.cell.id, r.ledger, r.error);
        let service = r.service_ns.as_ref().expect("lower bounds");
        assert!(service.min >= 199_000_000, "{}: not before its time: {service:?}", r.cell.id);
    }
}

#[test]
fn a_stream_that_is_cut_behind_tls_is_no_response() {
    let certificate = Certificate::good();
    let cut = Server::start(&certificate, |tls| {
        tls.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nhalf")?;
        tls.flush()?;
        Err(std::io::ErrorKind::Other.into())
    });
    all_fail(&run(&cut, &certificate, "20s"), |e| e.body, "");
    // A body that ends with the connection is whole only if TLS says that it is.
    let open = Server::start(&certificate, |tls| {
        tls.write_all(b"HTTP/1.1 200 OK\r\n\r\nsome")?;
        tls.flush()?;
        Err(std::io::ErrorKind::Other.into())
    });
    all_fail(&run(&open, &certificate, "20s"), |e| e.body, "without close_notify");
    let said = Server::start(&certificate, |tls| {
        tls.write_all(b"HTTP/1.1 200 OK\r\n\r\nsome")?;
        tls.conn.send_close_notify();
        tls.flush()?;
        Err(std::io::ErrorKind::Other.into())
    });
    for r in run(&said, &certificate, "20s").all_ok(ALL.rows()) {
        assert_eq!(r.ledger.completed, REQUESTS, "{}: {:?}", r.cell.id, r.error);
    }
}

#[test]
fn records_that_come_in_any_pieces_make_the_same_response() {
    let certificate = Certificate::good();
    let server = Server::start(&certificate, |tls| {
        let body = vec![b'x'; 40_000];
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
        // Many small records in one flight, then large ones that no read holds whole.
        for piece in head.as_bytes().chunks(7) {
            tls.conn.writer().write_all(piece)?;
        }
        tls.write_all(&body)?;
        tls.flush()
    });
    let done = run(&server, &certificate, "20s");
    for r in done.all_ok(ALL.rows()) {
        assert_eq!(r.ledger.completed, REQUESTS, "{}: {:?}", r.cell.id, r.error);
        assert_eq!(r.bytes.received, REQUESTS * (42 + 40_000), "{}: plain bytes", r.cell.id);
        assert_eq!(r.reconnects, 0, "{}", r.cell.id);
    }
}

/// Bodies around the size of a record and of what a ring queues: whatever part of a request goes out
/// with the next submission, the rest follows it.
#[test]
fn requests_of_any_size_go_out_whole() {
    let certificate = Certificate::good();
    let server = Server::start(&certificate, |tls| {
        let mut piece = [0; 4096];
        loop {
            match tls.read(&mut piece)? {
                0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
                count if piece[count - 1] == b'.' => break,
                _ => {}
            }
        }
        tls.write_all(OK)?;
        tls.flush()
    });
    let sizes = [1, 3_900, 4_090, 5_000, 16_200, 16_400, 20_000, 33_000, 150_000];
    let request = |size: usize| {
        let body = "x".repeat(size - 1) + ".";
        format!("[[plan.request]]\nmethod = 'POST'\nbody = '{body}'\n")
    };
    let plan: String = sizes.into_iter().map(request).collect();
    let plan = format!("requests = 60\ntimeout = '20s'\n{plan}");
    let done = sweep(server.address, &certificate, &plan, "lanes = [2]").run();
    for r in done.all_ok(ALL.rows()) {
        assert_eq!(r.ledger.completed, 60, "{}: {:?}", r.cell.id, r.error);
        assert_eq!(r.reconnects, 0, "{}: {:?}", r.cell.id, r.errors);
    }
}

#[test]
fn session_tickets_end_no_idle_connection_of_an_open_loop() {
    let certificate = Certificate::good();
    let server = Server::start(&certificate, answer(OK));
    let plan = "arrivals = 'constant'\nrequests = 8";
    let done = sweep(server.address, &certificate, plan, "lanes = [2]\nrates = [400]").run();
    assert_eq!(done.records.len(), ALL.rows(), "{}", done.stderr);
    for r in &done.records {
        assert_eq!(r.ledger.completed, 8, "{}: {:?}", r.cell.id, r.error);
        assert_eq!(r.reconnects, 0, "{}: tickets wait unread before the first request", r.cell.id);
    }
}
