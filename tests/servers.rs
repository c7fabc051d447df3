//! The server as the side under test: duel's own engines, and servers that a command starts.

mod common;

use std::process::Command;

use common::{Sweep, alive, assert_books, eventually};
use duel::format::{Status, TrialRecord};
use duel::plan::server::ServerEngine;

/// The row of each server engine, by name.
fn engine(record: &TrialRecord) -> ServerEngine {
    record.cell.server_engine.expect("a server under test")
}

#[test]
fn every_server_engine_is_measured_as_the_subject() {
    let sweep = Sweep::new(
        r#"
        [target]
        service_time = "1ms"
        [plan]
        requests = 400
        [sweep]
        server_engines = ["reference", "threads", "pool", "rayon", "tokio", "tokio-single"]
        server_codecs = ["lean", "hyper"]
        lanes = [8]
        trials = 1
        [server]
        pool = "requests"
        pool_size = 3
        "#,
    );
    let done = sweep.run();
    assert_eq!(done.records.len(), 12, "{}", done.stderr);
    for record in &done.records {
        let id = &record.cell.id;
        assert_books(record);
        // A busy machine may make figures doubtful; it loses no request.
        assert_ne!(record.status, Status::Failed, "{id}: {:?}", record.error);
        assert_eq!(record.ledger.completed, 400, "{id}");
        assert_eq!(record.target.received, Some(400), "{id}");
        let server = record.server.as_ref().unwrap_or_else(|| panic!("{id} has no server"));
        assert!(server.cpu.total_ns > 0 && server.switches.voluntary > 0, "{id}: {server:?}");
        let subject = record.subject().expect("it was read");
        assert_eq!(&subject, server, "the costs that head the tables are the server's");
        // Little's law from both ends: the client saw what the handlers took, and no less.
        if engine(record) != ServerEngine::Reference {
            let held = record.target.residence_ns_total.expect("a server under test counts it");
            let seen = record.service_ns.as_ref().expect("answers").mean * 400.0;
            assert!(held >= 400 * 1_000_000, "{id}: handlers took {held} ns");
            assert!(seen >= held as f64 * 0.99, "{id}: {seen} ns seen, {held} ns held");
        }
        let threads = server.threads_peak;
        match engine(record) {
            ServerEngine::Threads => assert!(threads >= 8 + 2, "{id}: {threads} threads"),
            ServerEngine::Pool => assert!(threads >= 3 + 2, "{id}: {threads} threads"),
            ServerEngine::TokioSingle => assert_eq!(threads, 2, "{id}"),
            _ => {}
        }
    }
    assert!(done.stdout.contains("Of the servers, "), "{}", done.stdout);
}

/// Rows of one trial under a command; nothing that it started may be left.
fn own(command: &str, more: &[&str]) -> (TrialRecord, String) {
    let toml = format!(
        "[plan]\nrequests = 20\ntimeout = \"5s\"\n[sweep]\nlanes = [2]\ntrials = 1\n[server]\ncommand = {command:?}\n"
    );
    let sweep = Sweep::new(&toml);
    let done = sweep.run_with(more);
    let text = format!("{}{}", done.stdout, done.stderr);
    (done.records.into_iter().next().unwrap_or_else(|| panic!("no row: {text}")), text)
}

fn is_installed(program: &str) -> bool {
    let there = Command::new("/bin/sh").args(["-c", &format!("command -v {program}")]).output();
    let there = there.is_ok_and(|found| found.status.success());
    assert!(there || std::env::var_os("DUEL_REQUIRE_REAL").is_none(), "{program} is not installed");
    if !there {
        println!("skipped: {program} is not installed");
    }
    there
}

#[test]
fn pythons_server_is_started_measured_and_stopped_with_what_it_left_behind() {
    if !is_installed("python3") {
        return;
    }
    let home = tempfile::tempdir().expect("a directory");
    let pids = home.path().join("pids");
    let command = format!(
        "cd {home}; sleep 600 & echo $! >> {pids}; echo $$ >> {pids}; exec python3 -m http.server {{port}} --bind 127.0.0.1",
        home = home.path().display(),
        pids = pids.display()
    );
    let (row, text) = own(&command, &[]);
    assert_ne!(row.status, Status::Failed, "{text}");
    assert_eq!(row.ledger.completed, 20, "{text}");
    let server = row.server.as_ref().unwrap_or_else(|| panic!("not measured: {text}"));
    assert_eq!(server.processes, 2, "the server and its child");
    assert!(server.cpu.total_ns > 0 && server.memory.baseline_rss_bytes > 1 << 20, "{server:?}");
    let left: Vec<u32> = std::fs::read_to_string(&pids)
        .expect("the command ran")
        .lines()
        .map(|line| line.parse().expect("a process id"))
        .collect();
    assert_eq!(left.len(), 2, "started once for one trial");
    eventually("nothing is left running", || !left.iter().any(|pid| alive(*pid)));
}

#[test]
fn a_restart_for_each_trial_and_duels_own_engines_beside_it() {
    if !is_installed("python3") {
        return;
    }
    let more = ["--set", "sweep.server_engines=[\"own\", \"tokio\"]", "--set", "sweep.trials=2"];
    let toml = "[plan]\nrequests = 20\n[sweep]\nlanes = [2]\n[server]\n\
                command = \"exec python3 -m http.server $PORT --bind 127.0.0.1\"\n";
    let done = Sweep::new(toml).run_with(&more);
    assert_eq!(done.records.len(), 4, "{}", done.stderr);
    for row in &done.records {
        assert_eq!(row.ledger.completed, 20, "{}: {:?}", row.cell.id, row.error);
        assert!(row.server.is_some(), "{}", row.cell.id);
    }
}

#[test]
fn nginx_is_measured_with_its_workers() {
    if !is_installed("nginx") {
        return;
    }
    let home = tempfile::tempdir().expect("a directory");
    let at = home.path().display();
    let conf = format!(
        "daemon off; error_log stderr; pid {at}/pid; worker_processes 1; events {{}} http {{ \
         access_log off; client_body_temp_path {at}; proxy_temp_path {at}; fastcgi_temp_path {at}; \
         uwsgi_temp_path {at}; scgi_temp_path {at}; \
         server {{ listen 127.0.0.1:PORT; location / {{ return 200 ok; }} }} }}"
    );
    std::fs::write(home.path().join("conf.in"), conf).expect("written");
    let command =
        format!("sed s/PORT/{{port}}/ {at}/conf.in > {at}/conf && exec nginx -p {at} -c {at}/conf");
    let (row, text) = own(&command, &[]);
    assert_eq!(row.ledger.completed, 20, "{text}");
    let server = row.server.as_ref().unwrap_or_else(|| panic!("not measured: {text}"));
    assert!(server.processes >= 2, "the master and its worker: {server:?}");
}

#[test]
fn commands_that_serve_nobody_are_failed_rows_that_say_why() {
    let cases = [
        (
            "echo {port} is taken; exit 3",
            "ended before it answered: exit status: 3; its last line: ",
        ),
        ("kill -9 $$ # {port}", "ended before it answered: signal: 9"),
        ("no-such-program-of-mine {port}", "not found"),
        ("yes flood {port}", "did not answer an HTTP request on 127.0.0.1:"),
    ];
    for (command, says) in cases {
        let (row, text) = own(command, &[]);
        assert_eq!(row.status, Status::Failed, "{command}: {text}");
        let error = row.error.unwrap_or_default();
        assert!(error.contains(says), "{command}: {error:?} does not say {says:?}");
        assert_eq!(row.ledger.completed, 0, "{command}");
    }
}

#[test]
fn a_crash_in_the_middle_is_named() {
    if !is_installed("python3") {
        return;
    }
    let home = tempfile::tempdir().expect("a directory");
    let script = home.path().join("dies.py");
    std::fs::write(
        &script,
        "import http.server, os, sys\nclass H(http.server.BaseHTTPRequestHandler):\n  n = 0\n  \
         protocol_version = 'HTTP/1.1'\n  def do_GET(self):\n    H.n += 1\n    if H.n > 5:\n      \
         print('out of luck', flush=True); os._exit(7)\n    self.send_response(200)\n    \
         self.send_header('content-length', '0'); self.end_headers()\n  def log_message(self, *a): pass\n\
         http.server.ThreadingHTTPServer(('127.0.0.1', int(sys.argv[1])), H).serve_forever()\n",
    )
    .expect("written");
    let command = format!("exec python3 {} {{port}}", script.display());
    let (row, text) = own(&command, &[]);
    assert_eq!(row.status, Status::Failed, "{text}");
    let error = row.error.unwrap_or_default();
    assert!(error.contains("ended during the trial: exit status: 7"), "{error}");
    assert!(error.contains("out of luck"), "{error}");
}
