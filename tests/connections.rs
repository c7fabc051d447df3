//! When a connection may carry another request: the same under every engine and codec, plain and
//! under TLS, whatever the target does with it.

use crate::common;
#[expect(dead_code, reason = "the servers there are for the tests of TLS")]
#[path = "tls/server.rs"]
mod server;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use common::{ALL, Done, EveryEngine, Sweep, assert_books, assert_histograms, at_once};
use duel::format::{Errors, TrialRecord};
use duel::plan::Engine;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::server::WebPkiClientVerifier;
use rustls::{
    RootCertStore, ServerConfig, ServerConnection, StreamOwned, SupportedProtocolVersion,
};
use server::{Certificate, Tls};

const REQUESTS: u64 = 6;
const LANES: u64 = 2;
const KEPT: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// A connection as a target plays on it.
trait Wire: Read + Write {
    fn socket(&self) -> &TcpStream;

    /// Says that nothing follows.
    fn end(&mut self) -> std::io::Result<()>;

    fn say(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.write_all(bytes)?;
        self.flush()
    }
}

impl Wire for TcpStream {
    fn socket(&self) -> &TcpStream {
        self
    }

    fn end(&mut self) -> std::io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

impl Wire for Tls {
    fn socket(&self) -> &TcpStream {
        &self.sock
    }

    fn end(&mut self) -> std::io::Result<()> {
        self.conn.send_close_notify();
        self.flush()?;
        self.sock.shutdown(Shutdown::Write)
    }
}

/// What the targets of a test saw.
#[derive(Default)]
struct Seen {
    /// Requests whose head arrived.
    requests: AtomicU64,
    /// Connections, where a test tells them apart.
    connections: AtomicU64,
    /// Requests on a connection that had ended for the client.
    after_the_end: AtomicU64,
    /// Times that the target did not do what it was to do.
    left_out: AtomicU64,
}

/// Reads the head of one request and says which of all it is; an error once the client has gone.
fn head(wire: &mut dyn Wire, seen: &Seen) -> std::io::Result<usize> {
    let (mut head, mut byte) = (vec![], [0]);
    while !head.ends_with(b"\r\n\r\n") {
        wire.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    Ok(seen.requests.fetch_add(1, SeqCst) as usize)
}

/// Waits until the client has gone; a request that still comes is one too many.
fn hold(wire: &mut dyn Wire, seen: &Seen) {
    while head(wire, seen).is_ok() {
        seen.after_the_end.fetch_add(1, SeqCst);
    }
}

/// What a target does with one connection.
type Play = dyn Fn(&mut dyn Wire, &Seen) -> std::io::Result<()> + Send + Sync;

/// Serves `play` on threads that end with the test.
fn serve(tls: Option<ServerConfig>, play: Arc<Play>) -> (SocketAddr, Arc<Seen>) {
    let config = tls.map(Arc::new);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
    let address = listener.local_addr().expect("bound");
    let seen = Arc::new(Seen::default());
    let told = seen.clone();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            // Without it a reset could overtake an answer that waits for an acknowledgement.
            stream.set_nodelay(true).expect("a socket takes it");
            let (config, play, seen) = (config.clone(), play.clone(), told.clone());
            std::thread::spawn(move || {
                // The client may leave at any time: that is what is tested.
                let _ = match config {
                    None => play(&mut stream, &seen),
                    Some(config) => {
                        let connection = ServerConnection::new(config).expect("a configuration");
                        play(&mut StreamOwned::new(connection, stream), &seen)
                    }
                };
            });
        }
    });
    (address, seen)
}

/// Runs every engine and codec against `play`, plain and under TLS, and judges each.
fn each(
    plan: &str,
    axes: &str,
    play: impl Fn(&mut dyn Wire, &Seen) -> std::io::Result<()> + Send + Sync + 'static,
    judge: impl Fn(&str, &Done, &Seen) + Sync,
) {
    let play: Arc<Play> = Arc::new(play);
    let certificate = Certificate::good();
    at_once([None, Some(&certificate)], |tls| {
        let (address, seen) = serve(tls.map(Certificate::config), play.clone());
        let target = match tls {
            None => format!("url = 'http://{address}'"),
            Some(certificate) => format!(
                "url = 'https://{address}'\nca_file = '{}'",
                certificate.file("ca.pem").display()
            ),
        };
        let done = Sweep::new(&format!(
            "[target]\n{target}\n[plan]\nrequests = {REQUESTS}\n{plan}\n[sweep]\n\
             lanes = [{LANES}]\n{axes}{ALL}"
        ))
        .run();
        assert_eq!(done.records.len(), ALL.rows(), "{}", done.stderr);
        for r in &done.records {
            assert_books(r);
            assert_histograms(r);
            assert_eq!(r.ledger.planned, REQUESTS, "{}", r.cell.id);
        }
        judge(if tls.is_some() { "TLS" } else { "plain" }, &done, &seen);
    });
}

fn said(r: &TrialRecord) -> String {
    format!("{} {:?} {:?} {:?}", r.cell.id, r.ledger, r.errors, r.error)
}

fn all_completed(what: &str, done: &Done, seen: &Seen) {
    for r in &done.records {
        assert_eq!(r.ledger.completed, REQUESTS, "{what}: {}", said(r));
    }
    assert_eq!(
        seen.requests.load(SeqCst),
        ALL.rows() as u64 * REQUESTS,
        "{what}: no request was lost"
    );
    assert_eq!(seen.after_the_end.load(SeqCst), 0, "{what}: connections that had ended");
}

/// Whether connections are used again: never, or always.
fn reuse(what: &str, done: &Done, kept: bool) {
    for r in &done.records {
        let lanes = if r.cell.engine.has_one_lane() { 1 } else { LANES };
        // A lane that served nothing never needed a second connection.
        let expected = if kept { 0..=0 } else { REQUESTS - lanes..=REQUESTS - 1 };
        assert!(expected.contains(&r.reconnects), "{what}: {} of {}", r.reconnects, said(r));
    }
}

#[test]
fn a_response_after_which_the_connection_goes_on_lets_it_be_used_again() {
    let responses = [
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: Keep-Alive\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "HTTP/1.1 204 No\r\n\r\n",
        "HTTP/1.0 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\nok",
    ];
    let play = move |wire: &mut dyn Wire, seen: &Seen| {
        loop {
            let number = head(wire, seen)?;
            wire.say(responses[number % responses.len()].as_bytes())?;
        }
    };
    each("", "", play, |how, done, seen| {
        all_completed(how, done, seen);
        reuse(how, done, true);
    });
}

/// A target that announces the end and does not close is not asked again.
#[test]
fn a_response_that_announces_the_end_lets_no_request_follow() {
    let responses = [
        "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: x, Close\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive, close\r\n\r\nok",
        "HTTP/1.1 204 No\r\nConnection: close\r\n\r\n",
    ];
    let play = move |wire: &mut dyn Wire, seen: &Seen| {
        let number = head(wire, seen)?;
        wire.say(responses[number % responses.len()].as_bytes())?;
        hold(wire, seen);
        Ok(())
    };
    each("", "", play, |how, done, seen| {
        all_completed(how, done, seen);
        reuse(how, done, false);
    });
}

#[test]
fn a_response_that_ends_with_its_connection_loses_no_request() {
    let responses = [
        "HTTP/1.1 200 OK\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nConnection: keep-alive\r\n\r\nhello",
        "HTTP/1.0 200 OK\r\n\r\nhello",
        "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\nhello",
    ];
    let play = move |wire: &mut dyn Wire, seen: &Seen| {
        let number = head(wire, seen)?;
        wire.say(responses[number % responses.len()].as_bytes())?;
        wire.end()?;
        hold(wire, seen);
        Ok(())
    };
    each("", "", play, |how, done, seen| {
        all_completed(how, done, seen);
        reuse(how, done, false);
    });
}

/// How a target ends a connection.
#[derive(Debug, Clone, Copy)]
enum End {
    Close,
    Reset,
}

/// A second request on a connection is read and not answered: that looks like a connection which
/// the target closed while it was idle, and cannot be told from it.
#[test]
fn a_connection_that_had_served_and_ends_without_an_answer_is_stale() {
    for end in [End::Close, End::Reset] {
        let play = move |wire: &mut dyn Wire, seen: &Seen| {
            head(wire, seen)?;
            wire.say(KEPT)?;
            head(wire, seen)?;
            if let End::Reset = end {
                socket2::SockRef::from(wire.socket()).set_linger(Some(Duration::ZERO))?;
                return Ok(());
            }
            wire.end()
        };
        each("", "", play, |how, done, _| {
            for r in &done.records {
                let what = format!("{how}, {end:?}: {}", said(r));
                assert_eq!(r.errors.stale, r.ledger.failed, "{what}");
                assert!(r.ledger.failed > 0, "{what}");
                assert!(r.ledger.completed >= REQUESTS / 2, "{what}");
            }
        });
    }
}

#[test]
fn idle_connections_that_the_target_has_closed_are_seen_before_they_are_used() {
    let play = |wire: &mut dyn Wire, seen: &Seen| {
        wire.socket().set_read_timeout(Some(Duration::from_millis(20)))?;
        loop {
            if let Err(e) = head(wire, seen) {
                // Politely, as servers do, without a word of TLS, or with a reset.
                match seen.requests.load(SeqCst) % 3 {
                    0 => wire.end()?,
                    1 => wire.socket().shutdown(Shutdown::Both)?,
                    _ => socket2::SockRef::from(wire.socket()).set_linger(Some(Duration::ZERO))?,
                }
                return Err(e);
            }
            wire.say(KEPT)?;
        }
    };
    each("arrivals = 'constant'", "rates = [15]\n", play, |how, done, _| {
        for r in &done.records {
            let what = format!("{how}: {}", said(r));
            // A machine that stalls makes the race that remains; it has its own name.
            assert_eq!(r.errors.stale, r.ledger.failed, "{what}");
            assert!(r.ledger.completed > r.ledger.failed, "{what}");
            assert!(r.reconnects > 0, "{what}");
        }
    });
}

/// Targets that close what was idle for 50 to 300 ms, as servers and proxies do, and requests that
/// come later than that: each of these connections is known to be dead before it is used.
#[test]
fn no_request_is_lost_to_a_connection_that_was_idle_for_too_long() {
    let play = |wire: &mut dyn Wire, seen: &Seen| {
        let number = seen.connections.fetch_add(1, SeqCst);
        let idle = Duration::from_millis(50 * (number % 6 + 1));
        wire.socket().set_read_timeout(Some(idle))?;
        loop {
            if let Err(e) = head(wire, seen) {
                // Half and politely, whole, without a word of TLS, or with a reset.
                match number % 3 {
                    0 => {
                        wire.end()?;
                        wire.socket().set_read_timeout(None)?;
                        hold(wire, seen);
                    }
                    1 => wire.socket().shutdown(Shutdown::Both)?,
                    _ => socket2::SockRef::from(wire.socket()).set_linger(Some(Duration::ZERO))?,
                }
                return Err(e);
            }
            wire.say(KEPT)?;
        }
    };
    each("arrivals = 'constant'", "rates = [2.5]\n", play, |how, done, _| {
        let mut lost = 0;
        for r in &done.records {
            let what = format!("{how}: {}", said(r));
            // A machine that stalls just then makes a race of it, which has its own name. Whoever
            // does not look loses every second request.
            assert_eq!(r.errors.stale, r.ledger.failed, "{what}");
            assert_eq!(r.ledger.timed_out + r.ledger.unsent, 0, "{what}");
            assert!(r.ledger.failed <= 1, "{what}");
            // All but those that a machine which stalls sent early enough.
            assert!(r.reconnects >= REQUESTS / 2, "{what}: {}", r.reconnects);
            lost += r.ledger.failed;
        }
        assert!(lost <= ALL.rows() as u64 / 3, "{how}: {lost} requests");
    });
}

#[test]
fn bytes_that_nobody_asked_for_answer_nothing() {
    let unasked = [
        "HTTP/1.1 500 Unasked\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nbad",
        "x",
        "\r\n",
        "HTTP/1.1 100 Continue\r\n\r\n",
    ];
    let play = move |wire: &mut dyn Wire, seen: &Seen| {
        loop {
            let number = head(wire, seen)?;
            wire.say(KEPT)?;
            // Into the pause between two requests, unless a machine that stalls has made none.
            std::thread::sleep(Duration::from_millis(2));
            wire.socket().set_read_timeout(Some(Duration::from_micros(1)))?;
            let asked = wire.socket().peek(&mut [0]).is_ok();
            wire.socket().set_read_timeout(None)?;
            if asked {
                seen.left_out.fetch_add(1, SeqCst);
            } else {
                wire.say(unasked[number % unasked.len()].as_bytes())?;
            }
        }
    };
    each("arrivals = 'constant'", "rates = [10]\n", play, |how, done, seen| {
        all_completed(how, done, seen);
        let left_out = seen.left_out.load(SeqCst);
        for r in &done.records {
            let ended = r.reconnects + LANES + left_out;
            assert!(ended >= REQUESTS, "{how}: {} of {}", r.reconnects, said(r));
        }
    });
}

/// Each in turn, so that every row sees each of them once.
const CUT_SHORT: [&[u8]; REQUESTS as usize] = [
    b"",
    b"HTTP/1.1 200 OK\r\nContent-Le",
    b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10\r\nhalf",
    b"\x16\x03\x01 this is no HTTP\r\n\r\n",
    // Whole where the end of the connection is the end of the body.
    b"HTTP/1.1 200 OK\r\n\r\nhello",
];

#[test]
fn the_same_end_has_the_same_name_everywhere() {
    // TLS tells a target that has said its last from a connection that was cut, as TCP cannot.
    for says_so in [true, false] {
        let play = move |wire: &mut dyn Wire, seen: &Seen| {
            let number = head(wire, seen)?;
            wire.say(CUT_SHORT[number % CUT_SHORT.len()])?;
            if says_so {
                wire.end()?;
            } else {
                wire.socket().shutdown(Shutdown::Write)?;
            }
            hold(wire, seen);
            Ok(())
        };
        each("", "", play, |how, done, _| {
            let cut = u64::from(how == "TLS" && !says_so);
            let errors = Errors { read: 2, body: 2 + cut, protocol: 1, ..Errors::default() };
            for r in &done.records {
                let what = format!("{how}, says so: {says_so}: {}", said(r));
                assert_eq!(r.errors, errors, "{what}");
                assert_eq!(r.ledger.completed, 1 - cut, "{what}");
            }
        });
    }
}

/// What a target does once it has answered and will read no more.
type After = fn(&mut dyn Wire) -> std::io::Result<()>;

/// Stays until the client has gone.
fn stay(wire: &mut dyn Wire) -> std::io::Result<()> {
    use rustix::event::{PollFd, PollFlags, poll};
    poll(&mut [PollFd::new(wire.socket(), PollFlags::RDHUP)], None)?;
    Ok(())
}

/// Ends its half and reads on.
fn listen_on(wire: &mut dyn Wire) -> std::io::Result<()> {
    wire.end()?;
    let mut rest = vec![0; 1 << 16];
    while wire.read(&mut rest)? > 0 {}
    Ok(())
}

#[test]
fn the_answer_that_comes_before_the_request_is_whole_counts() {
    // More than any socket buffer holds.
    let body = tempfile::NamedTempFile::new().expect("a file");
    body.as_file().set_len(8 << 20).expect("eight megabytes of nothing");
    let plan =
        format!("[[plan.request]]\nmethod = 'POST'\nbody_file = '{}'\n", body.path().display());
    let refused = "HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno";
    let bare = "HTTP/1.1 400 Bad\r\nContent-Length: 0\r\n\r\n";
    let variants: [(&str, After); 5] = [
        (refused, stay),
        (bare, stay),
        // With a reset, since the body lies there unread.
        (refused, |_| Ok(())),
        (bare, |_| Ok(())),
        (refused, listen_on),
    ];
    let play = move |wire: &mut dyn Wire, seen: &Seen| {
        let number = head(wire, seen)?;
        let (answer, after) = variants[number % variants.len()];
        wire.say(answer.as_bytes())?;
        after(wire)
    };
    each(&plan, "", play, |how, done, seen| {
        for r in &done.records {
            let all = Errors { status: REQUESTS, ..Errors::default() };
            assert_eq!(r.errors, all, "{how}: {}", said(r));
        }
        reuse(how, done, false);
        assert_eq!(
            seen.requests.load(SeqCst),
            ALL.rows() as u64 * REQUESTS,
            "{how}: no request was lost"
        );
    });
}

#[test]
fn informational_responses_without_end_are_no_answer() {
    let play = |wire: &mut dyn Wire, seen: &Seen| {
        head(wire, seen)?;
        loop {
            wire.say(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")?;
        }
    };
    each("", "", play, |how, done, _| {
        for r in &done.records {
            assert_eq!(r.errors.protocol, REQUESTS, "{how}: {}", said(r));
            let told = r.error.as_deref().unwrap_or_default();
            assert!(told.contains("more than 100 informational"), "{how}: {told}");
        }
    });
}

#[test]
fn some_informational_responses_and_then_the_answer() {
    let play = |wire: &mut dyn Wire, seen: &Seen| {
        loop {
            head(wire, seen)?;
            for _ in 0..3 {
                wire.say(b"HTTP/1.1 100 Continue\r\n\r\n")?;
            }
            wire.say(b"HTTP/1.1 102 Wait\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
        }
    };
    each("", "", play, |how, done, seen| {
        all_completed(how, done, seen);
        reuse(how, done, true);
    });
}

/// Answers every request.
fn serves_on(wire: &mut dyn Wire, seen: &Seen) -> std::io::Result<()> {
    loop {
        head(wire, seen)?;
        wire.say(KEPT)?;
    }
}

/// A target that demands a client's certificate, in one version of TLS.
fn demanding(own: &Certificate, version: &'static SupportedProtocolVersion) -> ServerConfig {
    let mut roots = RootCertStore::empty();
    let pem = CertificateDer::from_pem_file(own.file("ca.pem")).expect("the authority");
    roots.add(pem).expect("an authority");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .build()
        .expect("a verifier");
    ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .expect("a version")
        .with_client_cert_verifier(verifier)
        .with_single_cert(own.chain(), own.key())
        .expect("they belong together")
}

#[test]
fn a_demanded_certificate_is_shown_or_the_refusal_has_one_name() {
    let certificate = Certificate::good();
    let path = |name: &str| certificate.file(name).display().to_string();
    let shown =
        format!("client_cert = '{}'\nclient_key = '{}'", path("client.pem"), path("client.key"));
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let run = |more: &str| {
            let (address, seen) =
                serve(Some(demanding(&certificate, version)), Arc::new(serves_on));
            let done = Sweep::new(&format!(
                "[target]\nurl = 'https://{address}'\nca_file = '{}'\n{more}\n[plan]\n\
                 requests = {REQUESTS}\n[sweep]\nlanes = [{LANES}]\n{ALL}",
                path("ca.pem")
            ))
            .run();
            (done, seen)
        };
        let (done, seen) = run(&shown);
        assert_eq!(done.records.len(), ALL.rows(), "{}", done.stderr);
        all_completed("shown", &done, &seen);
        let plan = std::fs::read_to_string(certificate.file("client.key")).expect("the key");
        assert!(!done.stderr.contains(&plan), "the key is written nowhere");

        let (done, _) = run("");
        if done.records.is_empty() {
            // TLS 1.2 refuses within the handshake, which is tried before the first trial.
            assert!(done.stderr.contains("demands a client's certificate"), "{}", done.stderr);
            continue;
        }
        for r in &done.records {
            assert_eq!(r.errors.connect, r.ledger.failed, "{}", said(r));
            let told = r.error.as_deref().unwrap_or_default();
            assert!(told.contains("demands a client's certificate"), "{told}");
        }
    }
}

/// In a plan by count the window ends with the last request. Whatever closes connections before that
/// would be charged to the engine, and to some engines only.
#[test]
fn no_lane_closes_its_connection_before_the_last_request_ended() {
    const AT_ONCE: u64 = 4;
    let play = |wire: &mut dyn Wire, seen: &Seen| {
        let number = head(wire, seen)? as u64;
        let (round, slow) = (number / AT_ONCE, number.is_multiple_of(AT_ONCE));
        let [answered, early, over] = [&seen.connections, &seen.after_the_end, &seen.left_out];
        let wait = |what: &dyn Fn() -> bool, at_most: u64| {
            (0..at_most)
                .take_while(|_| !what())
                .for_each(|_| std::thread::sleep(Duration::from_millis(1)));
        };
        wait(&|| seen.requests.load(SeqCst) >= (round + 1) * AT_ONCE, 4_000);
        if slow {
            wait(&|| answered.load(SeqCst) >= (round + 1) * (AT_ONCE - 1), 4_000);
            // Time in which an early close would show; one that does not is a later one.
            wait(&|| early.load(SeqCst) > 0, 100);
            over.fetch_add(1, SeqCst);
            return wire.say(KEPT);
        }
        wire.say(KEPT)?;
        answered.fetch_add(1, SeqCst);
        if head(wire, seen).is_err() && over.load(SeqCst) <= round {
            early.fetch_add(1, SeqCst);
        }
        Ok(())
    };
    for engine in EveryEngine::engines().into_iter().filter(|e| *e != Engine::Sequential) {
        let engine = engine.name();
        let (address, seen) = serve(None, Arc::new(play));
        let done = Sweep::new(&format!(
            "[target]\nurl = 'http://{address}'\n[plan]\nrequests = {AT_ONCE}\n[sweep]\n\
             engines = ['{engine}']\ncodecs = ['hyper', 'lean']\nlanes = [{AT_ONCE}]\ntrials = 1\n"
        ))
        .run();
        assert_eq!(done.records.len(), 2, "{engine}: {}", done.stderr);
        for r in &done.records {
            assert_eq!(r.ledger.completed, AT_ONCE, "{engine}: {:?} {}", r.ledger, done.stderr);
        }
        assert_eq!(seen.after_the_end.load(SeqCst), 0, "{engine} closed connections early");
    }
}
