//! Unix-domain sockets and connections that serve one request, against the embedded target.

use crate::common;

use std::process::{Child, Stdio};

use common::{ALL, Sweep, assert_books, assert_histograms, duel, eventually, output, text};
use duel::plan::Engine;
use tempfile::TempDir;

/// `duel target` on a Unix socket of its own.
struct Target {
    child: Child,
    home: TempDir,
}

impl Drop for Target {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Target {
    fn start(home: TempDir) -> Self {
        let listen = format!("unix:{}/sock", home.path().display());
        let child = duel(&["target", "--listen", &listen, "--body", "32"])
            .stdout(Stdio::null())
            .spawn()
            .expect("the target starts");
        eventually("the target listens", || {
            std::os::unix::net::UnixStream::connect(home.path().join("sock")).is_ok()
        });
        Target { child, home }
    }

    fn socket(&self) -> String {
        self.home.path().join("sock").display().to_string()
    }
}

fn home() -> TempDir {
    tempfile::tempdir().expect("a directory")
}

#[test]
fn every_engine_and_codec_speaks_to_a_unix_socket_kept_or_not() {
    let target = Target::start(home());
    for keep_alive in [true, false] {
        let done = Sweep::new(&format!(
            "[target]\nurl = 'unix:{}:/some/path?q'\n[plan]\nrequests = 60\n\
             keep_alive = {keep_alive}\n[sweep]\nlanes = [3]\nprocesses = [2]{ALL}",
            target.socket()
        ))
        .run();
        for r in done.all_ok(ALL.rows()) {
            let id = &r.cell.id;
            assert_books(r);
            assert_histograms(r);
            assert_eq!(r.ledger.completed, 60, "{id}: {:?}", r.error);
            let lanes = if r.cell.engine == Engine::Sequential { 2 } else { 6 };
            let connects = r.connect_ns.as_ref().map_or(0, |d| d.count);
            assert_eq!(connects, r.reconnects + lanes, "{id}: each connect is counted");
            assert_eq!(r.reconnects == 0, keep_alive, "{id}: {}", r.reconnects);
            assert!(keep_alive || connects >= 60, "{id}: {connects} for 60 requests");
            assert!(r.handshake_ns.is_none() && r.tls.is_none(), "{id}: no TLS here");
        }
        assert!(done.stderr.contains("load goes to unix:/"), "{}", done.stderr);
    }
}

#[test]
fn an_open_loop_without_keep_alive_over_tcp_books_every_connect() {
    let done = Sweep::new(&format!(
        "[plan]\nrequests = 60\narrivals = 'constant'\nkeep_alive = false\n\
         [sweep]\nlanes = [3]\nrates = [2000]\nprocesses = [2]{ALL}"
    ))
    .run();
    assert_eq!(done.records.len(), ALL.rows(), "{}", done.stderr);
    for r in &done.records {
        let id = &r.cell.id;
        assert_books(r);
        assert_histograms(r);
        assert_eq!(r.ledger.completed, 60, "{id}: {:?} {:?}", r.ledger, r.error);
        let connects = r.connect_ns.as_ref().map_or(0, |d| d.count);
        assert!(connects >= 60, "{id}: {connects} connections for 60 requests");
        assert_eq!(r.target.received, Some(60), "{id}: each arrived once");
    }
}

#[test]
fn the_ways_to_name_a_unix_socket_are_the_same() {
    let target = Target::start(home());
    let socket = target.socket();
    let escaped = socket.replace('/', "%2F");
    for arguments in [
        vec![format!("unix:{socket}")],
        vec![format!("http+unix://{escaped}/path")],
        vec!["http://localhost/path".to_string(), "--unix-socket".into(), socket.clone()],
    ] {
        let mut command = duel(&["try", "-n", "20", "-c", "2", "--json"]);
        let out = output(command.args(&arguments));
        let (stdout, stderr) = text(&out);
        assert!(out.status.success(), "{arguments:?}: {stderr}");
        assert_eq!(stdout.matches("\"completed\":20,").count(), 2, "{arguments:?}: {stdout}");
    }
}

#[test]
fn a_socket_that_is_not_there_is_a_row_that_names_it_and_a_stale_one_is_taken_over() {
    let home = home();
    let path = home.path().join("sock");
    let url = format!("unix:{}", path.display());
    let out = output(&mut duel(&["try", &url, "-n", "2", "-c", "1", "--engines", "threads"]));
    let (stdout, stderr) = text(&out);
    assert_eq!(out.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains(&format!("{url}: No such file or directory")), "{stderr}{stdout}");

    drop(std::os::unix::net::UnixListener::bind(&path).expect("a socket"));
    let target = Target::start(home);
    let out = output(&mut duel(&["try", &url, "-n", "2", "-c", "1"]));
    assert!(out.status.success(), "{}", text(&out).1);
    // A socket that somebody listens on is not taken away.
    let listen = format!("unix:{}", target.socket());
    let out = output(&mut duel(&["target", "--listen", &listen]));
    assert_eq!(out.status.code(), Some(2), "{}", text(&out).1);
    assert!(text(&out).1.contains("in use"), "{}", text(&out).1);
}
