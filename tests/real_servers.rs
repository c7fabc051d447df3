//! Servers that others wrote: nginx, and Python's `http.server`.

use crate::common;

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use common::{ALL, Done, Sweep, assert_books, assert_histograms, eventually};
use duel::plan::Engine;
use tempfile::TempDir;

/// A server that ends with the test.
struct Server {
    child: Child,
    address: SocketAddr,
    home: TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
    listener.local_addr().expect("bound").port()
}

/// Whether a program is missing; a failure where the real servers are required.
fn skipped(program: &str) -> bool {
    let version =
        Command::new(program).arg(if program == "nginx" { "-v" } else { "--version" }).output();
    if version.is_ok_and(|o| o.status.success()) {
        return false;
    }
    let required = std::env::var_os("DUEL_REQUIRE_REAL").is_some_and(|v| v == "1");
    assert!(!required, "DUEL_REQUIRE_REAL=1, but there is no {program}");
    println!("skipped: no {program}");
    true
}

fn listening(mut child: Child, address: SocketAddr, home: TempDir) -> Server {
    eventually("the server listens", || {
        if let Some(status) = child.try_wait().expect("a child") {
            panic!("the server ended: {status}");
        }
        TcpStream::connect(address).is_ok()
    });
    Server { child, address, home }
}

const BODY: &str = "0123456789abcdef0123456789abcdef";

/// nginx with a configuration of its own: one file, an access log, and a page of each status.
fn nginx(keepalive_requests: u32) -> Server {
    let home = tempfile::tempdir().expect("a directory");
    let at = home.path();
    std::fs::create_dir(at.join("www")).expect("a directory");
    std::fs::write(at.join("www/page"), BODY).expect("a page");
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let conf = format!(
        "daemon off;\nmaster_process off;\npid {0}/pid;\nerror_log {0}/error.log;\n\
         events {{ worker_connections 256; }}\nhttp {{\n log_format line '$request $status \
         $body_bytes_sent';\n access_log {0}/access.log line;\n client_body_temp_path {0}/b;\n \
         proxy_temp_path {0}/p;\n fastcgi_temp_path {0}/f;\n uwsgi_temp_path {0}/u;\n \
         scgi_temp_path {0}/s;\n keepalive_requests {1};\n server {{\n  listen {2};\n  \
         root {0}/www;\n  location = /none {{ return 404; }}\n  \
         location = /moved {{ return 302 /page; }}\n }}\n}}\n",
        at.display(),
        keepalive_requests,
        address,
    );
    std::fs::write(at.join("nginx.conf"), conf).expect("a configuration");
    let child = Command::new("nginx")
        .arg("-e")
        .arg(at.join("error.log"))
        .arg("-p")
        .arg(at)
        .arg("-c")
        .arg(at.join("nginx.conf"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("nginx starts");
    listening(child, address, home)
}

/// Lines of the access log that begin with the request.
fn logged(home: &Path, begins: &str) -> usize {
    let log = std::fs::read_to_string(home.join("access.log")).unwrap_or_default();
    log.lines().filter(|l| l.starts_with(begins)).count()
}

fn run(server: &Server, path: &str, plan: &str, lanes: u32) -> Done {
    Sweep::new(&format!(
        "[target]\nurl = 'http://{}'\n[plan]\nrequests = 100\n{plan}\n[[plan.request]]\n\
         path = '{path}'\n[sweep]\nlanes = [{lanes}]{ALL}",
        server.address
    ))
    .run()
}

#[test]
fn nginx_answers_every_engine_and_codec_and_logs_what_was_sent() {
    if skipped("nginx") {
        return;
    }
    let server = nginx(100_000);
    let done = run(&server, "/page", "", 16);
    let rows = done.all_ok(ALL.rows());
    for r in rows {
        let id = &r.cell.id;
        assert_books(r);
        assert_histograms(r);
        assert_eq!(r.ledger.completed, 100, "{id}: {:?}", r.error);
        assert_eq!(r.reconnects, 0, "{id}");
        assert_eq!(r.bytes, rows[0].bytes, "{id}: the same bytes as {}", rows[0].cell.id);
        assert!(r.bytes.received > 100 * (BODY.len() as u64 + 100), "{id}: {:?}", r.bytes);
    }
    let line = format!("GET /page HTTP/1.1 200 {}", BODY.len());
    let all = 100 * rows.len();
    eventually("nginx has logged every page", || logged(server.home.path(), &line) >= all);
    assert_eq!(logged(server.home.path(), ""), all, "and nothing else");
}

#[test]
fn nginx_closes_every_ten_requests_and_nothing_fails() {
    if skipped("nginx") {
        return;
    }
    let server = nginx(10);
    for r in run(&server, "/page", "", 4).all_ok(ALL.rows()) {
        assert_books(r);
        assert_eq!(r.ledger.completed, 100, "{}: {:?}", r.cell.id, r.error);
        // Ten connections serve a hundred requests, or more of them where lanes end amid one.
        let lanes = if r.cell.engine == Engine::Sequential { 1 } else { 4 };
        assert!((6..=10).contains(&r.reconnects), "{}: {} with {lanes}", r.cell.id, r.reconnects);
    }
}

#[test]
fn nginx_says_404_and_302() {
    if skipped("nginx") {
        return;
    }
    let server = nginx(100_000);
    let missing = run(&server, "/none", "", 4);
    assert_eq!(missing.code, 1, "nothing completed: {}", missing.stderr);
    for r in &missing.records {
        assert_eq!(r.errors.status, 100, "{}: {:?}", r.cell.id, r.errors);
        assert_eq!(r.reconnects, 0, "{}", r.cell.id);
    }
    for r in run(&server, "/none", "expect_status = [404]", 4).all_ok(ALL.rows()) {
        assert_eq!(r.ledger.completed, 100, "{}: {:?}", r.cell.id, r.errors);
    }
    for r in run(&server, "/moved", "", 4).all_ok(ALL.rows()) {
        assert_eq!(r.ledger.completed, 100, "{}: a redirect completes", r.cell.id);
    }
    assert_eq!(logged(server.home.path(), "GET /page"), 0, "and is not followed");
}

#[test]
fn python_closes_after_each_answer() {
    if skipped("python3") {
        return;
    }
    let home = tempfile::tempdir().expect("a directory");
    std::fs::write(home.path().join("page"), BODY).expect("a page");
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let child = Command::new("python3")
        .args(["-m", "http.server", "--bind", "127.0.0.1"])
        .arg(address.port().to_string())
        .current_dir(home.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("python3 starts");
    let server = listening(child, address, home);
    // It keeps a backlog of five, so few lanes.
    for r in run(&server, "/page", "", 3).all_ok(ALL.rows()) {
        assert_books(r);
        assert_histograms(r);
        assert_eq!(r.ledger.completed, 100, "{}: {:?}", r.cell.id, r.error);
        assert!(r.bytes.received > 100 * BODY.len() as u64, "{}: {:?}", r.cell.id, r.bytes);
        let lanes = if r.cell.engine == Engine::Sequential { 1 } else { 3 };
        assert!((100 - lanes..100).contains(&r.reconnects), "{}: {}", r.cell.id, r.reconnects);
    }
}
