//! Requests with file and compute steps, the whole way, through every engine and codec.

use crate::common;

use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

use common::{ALL, Done, Sweep, assert_books, assert_histograms, duel, output, text};
use duel::format::{Distribution, Status, TrialRecord};
use duel::plan::Engine;
use duel::plan::steps::Offload;
use serde_json::Value;

/// A file before the exchange, a hash behind it.
const STEPS: &str = r#"
[[plan.request]]
[[plan.request.step]]
kind = "file"
bytes = "64KiB"
[[plan.request.step]]
kind = "http"
[[plan.request.step]]
kind = "compute"
bytes = "256KiB"
"#;

fn sweep(plan: &str, steps: &str, sweep: &str) -> Sweep {
    Sweep::new(&format!("[plan]\n{plan}\n{steps}\n[sweep]\n{sweep}\n"))
}

/// The run with files below a directory of the test's own, so that what is left there shows.
fn run(sweep: &Sweep) -> Done {
    let files = sweep.home.path().join("files");
    std::fs::create_dir(&files).expect("a new directory");
    let out = output(sweep.command().env("TMPDIR", &files));
    let left = std::fs::read_dir(&files).expect("it is there").count();
    assert_eq!(left, 0, "files are left behind");
    let (stdout, stderr) = text(&out);
    let code = out.status.code().expect("it ended by itself");
    Done { code, stdout, stderr, records: common::records(&sweep.dir()) }
}

fn count(distribution: &Option<Distribution>) -> u64 {
    distribution.as_ref().map_or(0, |d| d.count)
}

fn p50(distribution: &Option<Distribution>) -> u64 {
    distribution.as_ref().map_or(0, |d| d.p50)
}

/// Every step of every request was carried out, and its times lie inside the service times.
fn assert_steps(r: &TrialRecord, (http, file, compute): (u64, u64, u64)) {
    let id = &r.cell.id;
    assert_books(r);
    assert_histograms(r);
    assert_eq!(count(&r.steps.http_ns), http, "{id}: http");
    assert_eq!(count(&r.steps.file_ns), file, "{id}: file");
    assert_eq!(count(&r.steps.compute_ns), compute, "{id}: compute");
    let (service, steps) = (r.service_ns.as_ref().expect("completed"), &r.steps);
    for step in [&steps.http_ns, &steps.file_ns, &steps.compute_ns].into_iter().flatten() {
        assert!(step.max <= service.max + service.max / 500, "{id}: {step:?} {service:?}");
        assert!(step.mean < service.mean, "{id}: a step is less than its request");
    }
}

#[test]
fn every_engine_carries_out_every_step_of_a_closed_loop() {
    let run = run(&sweep("requests = 60", STEPS, &format!("lanes = [4]{ALL}")));
    for r in run.all_ok(ALL.rows()) {
        assert_steps(r, (60, 60, 60));
        assert_eq!(r.target.received, Some(60), "{}", r.cell.id);
        assert_eq!(r.reconnects, 0, "{}", r.cell.id);
        let first_byte = r.first_byte_ns.as_ref().expect("answered");
        assert!(first_byte.mean > r.steps.file_ns.as_ref().expect("read").mean, "{}", r.cell.id);
        assert!(first_byte.mean < r.service_ns.as_ref().expect("answered").mean, "{}", r.cell.id);
    }
}

#[test]
fn an_open_loop_with_processes_and_a_warm_up_counts_the_window_alone() {
    let plan = "arrivals = 'constant'\nrequests = 100\nwarmup = '100ms'";
    let axes = format!("lanes = [2]\nprocesses = [2]\nrates = [200]{ALL}");
    let done = run(&sweep(plan, STEPS, &axes));
    assert_eq!(done.records.len(), ALL.rows(), "{}", done.stderr);
    for r in &done.records {
        // A busy machine may make a row invalid; its books are right all the same.
        assert!(matches!(r.status, Status::Ok | Status::Invalid), "{}: {:?}", r.cell.id, r.error);
        assert!(r.warmup.completed > 0, "{}: {:?}", r.cell.id, r.warmup);
        assert_steps(r, (100, 100, 100));
    }
}

#[test]
fn steps_belong_to_their_request_of_the_mix() {
    let plain = "[[plan.request]]\npath = '/plain'\n";
    let axes = format!("lanes = [3]{ALL}");
    for r in run(&sweep("requests = 200", &format!("{STEPS}{plain}"), &axes)).all_ok(ALL.rows()) {
        let with_steps = count(&r.steps.file_ns);
        assert!((50..150).contains(&with_steps), "{}: {with_steps}", r.cell.id);
        assert_eq!(count(&r.steps.compute_ns), with_steps, "{}", r.cell.id);
        assert_eq!(r.ledger.completed, 200, "{}", r.cell.id);
    }
}

#[test]
fn writes_and_direct_steps_are_carried_out() {
    let steps = |dir: &std::path::Path| {
        format!(
            "[[plan.request]]\n\
             [[plan.request.step]]\nkind = 'http'\n\
             [[plan.request.step]]\nkind = 'file'\nop = 'write'\nbytes = '100kB'\nfiles = 2\n\
             [[plan.request.step]]\nkind = 'file'\nop = 'write'\nbytes = 1000\nsync = true\n\
             [[plan.request.step]]\nkind = 'file'\nbytes = '8KiB'\ndirect = true\ndir = {dir:?}\n"
        )
    };
    // Where the build is, since the directory for temporary files may lie in memory.
    let here = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).expect("a directory");
    let steps = steps(here.path()).replace("100kB", "100000");
    let axes = "engines = ['threads', 'tokio']\nlanes = [3]\ntrials = 1";
    let done = run(&sweep("requests = 30", &steps, axes));
    assert_eq!(std::fs::read_dir(here.path()).expect("it is there").count(), 0);
    if done.records.iter().all(|r| r.error.as_ref().is_some_and(|e| e.contains("Invalid"))) {
        // This file system has no direct access, and the rows say so.
        return;
    }
    for r in done.all_ok(2) {
        assert_steps(r, (30, 90, 0));
    }
}

#[test]
fn a_step_that_outlasts_the_timeout_times_its_request_out() {
    // 2 GiB take longer than 100 ms on any core; the exchange is not begun after that.
    let steps = "[[plan.request]]\n\
                 [[plan.request.step]]\nkind = 'compute'\nbytes = '2GiB'\n\
                 [[plan.request.step]]\nkind = 'http'\n";
    let axes = "engines = ['threads', 'tokio']\nlanes = [1]\ntrials = 1";
    for r in &run(&sweep("requests = 1\ntimeout = '100ms'", steps, axes)).records {
        assert_books(r);
        assert_eq!(r.ledger.timed_out, 1, "{}: {:?}", r.cell.id, r.ledger);
        assert_eq!((count(&r.steps.compute_ns), count(&r.steps.http_ns)), (1, 0), "{}", r.cell.id);
        assert_eq!(r.target.received, Some(0), "{}: what is over is not sent", r.cell.id);
        assert!(p50(&r.service_ns) >= 100_000_000, "{}: a lower bound", r.cell.id);
    }
}

/// A run in a shell that limits the size of files to 512 blocks of 512 or 1,024 bytes.
#[test]
fn files_that_do_not_fit_fail_the_trial_before_anything_is_sent() {
    let steps = "[[plan.request]]\n\
                 [[plan.request.step]]\nkind = 'http'\n\
                 [[plan.request.step]]\nkind = 'file'\nop = 'write'\nbytes = '8MiB'\n";
    let sweep = sweep("requests = 40", steps, &format!("lanes = [2]{ALL}"));
    let files = sweep.home.path().join("files");
    std::fs::create_dir(&files).expect("a new directory");
    let mut command = std::process::Command::new("sh");
    command.args(["-c", "ulimit -f 4096; exec \"$@\"", "sh", common::DUEL, "run"]);
    command.arg(sweep.config()).arg("--out").arg(sweep.dir()).env("NO_COLOR", "1");
    let out = output(command.env("TMPDIR", &files));
    let records = common::records(&sweep.dir());
    assert_eq!(records.len(), ALL.rows(), "{}", text(&out).1);
    for r in &records {
        assert_eq!(r.status, Status::Failed, "{}", r.cell.id);
        let error = r.error.as_deref().unwrap_or_default();
        assert!(error.contains("File too large"), "{}: {error}", r.cell.id);
        assert!(error.contains("duel-files"), "{}: the path is named: {error}", r.cell.id);
        assert_eq!(r.target.received, Some(0), "{}", r.cell.id);
    }
    assert_eq!(out.status.code(), Some(1));
    assert_eq!(std::fs::read_dir(&files).expect("it is there").count(), 0);
}

/// A worker by hand, so that its files can be spoiled between Ready and Go.
struct ByHand {
    child: std::process::Child,
    frames: BufReader<std::process::ChildStdout>,
}

impl ByHand {
    fn new(job: &str) -> Self {
        let mut child = duel(&["worker"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let frames = BufReader::new(child.stdout.take().expect("piped"));
        let mut hand = ByHand { child, frames };
        hand.send(job);
        hand.await_frame("ready");
        hand
    }

    fn send(&mut self, frame: &str) {
        let stdin = self.child.stdin.as_mut().expect("piped");
        writeln!(stdin, "{frame}").expect("the worker reads");
    }

    fn await_frame(&mut self, name: &str) -> Value {
        let mut line = String::new();
        self.frames.read_line(&mut line).expect("a frame");
        let frame: Value = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}"));
        assert_eq!(frame["frame"], name, "{line}");
        frame
    }

    /// Go to Outcome; the trial starts at an instant, or at zero now.
    fn run(mut self, at_ns: u64) -> Value {
        self.send("{\"frame\":\"go\",\"version\":3}");
        let armed = self.await_frame("armed");
        assert_eq!(armed["error"], Value::Null);
        self.send(&format!("{{\"frame\":\"start\",\"version\":3,\"at_ns\":{at_ns}}}"));
        let outcome = self.await_frame("outcome");
        common::wait(&mut self.child);
        outcome
    }
}

#[test]
fn a_full_disk_and_a_missing_file_are_their_requests_failures() {
    let steps = "[[plan.request]]\n\
                 [[plan.request.step]]\nkind = 'file'\nbytes = '4KiB'\nfiles = 4\n\
                 [[plan.request.step]]\nkind = 'http'\n\
                 [[plan.request.step]]\nkind = 'file'\nop = 'write'\nbytes = '4KiB'\nfiles = 4\n";
    let mut server = duel(&["target", "--listen", "127.0.0.1:0"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("a target");
    let address = common::first_address(&mut server);
    let url = format!("target.url=http://{address}");
    let sweep = sweep("requests = 40", steps, &format!("lanes = [2]{ALL}"));
    for number in 0..ALL.rows() {
        let number = number.to_string();
        let arguments = ["--set", &url, "--job", &number];
        let job = text(&output(duel(&["plan"]).arg(sweep.config()).args(arguments))).0;
        let mut job: Value = serde_json::from_str(&job).expect("a frame");
        let home = sweep.home.path();
        job["files"] = format!("files-{number}").into();
        for step in [0, 2] {
            job["plan"]["mix"][0]["steps"][step]["dir"] = home.to_str().expect("UTF-8").into();
        }
        let hand = ByHand::new(&job.to_string());
        let file =
            |step: u32, n: u32| home.join(format!("files-{number}-w0/request0-step{step}-{n}"));
        // A device that is always full in place of one file, nothing in place of another.
        std::fs::remove_file(file(2, 1)).expect("it was made");
        std::os::unix::fs::symlink("/dev/full", file(2, 1)).expect("a link");
        std::fs::remove_file(file(0, 2)).expect("it was made");
        let outcome = hand.run(0);
        let id = &job["trial"];
        let expected = serde_json::json!(
            {"planned": 40, "completed": 20, "failed": 20, "timed_out": 0, "unsent": 0}
        );
        let part = &outcome["part"];
        assert_eq!(part["ledger"], expected, "{id}: {outcome}");
        assert_eq!(part["errors"]["file"], 20, "{id}: {}", part["errors"]);
        assert_eq!(part["reconnects"], 0, "{id}: the connection is none the worse");
        let sample = outcome["error_samples"]["file"].as_str().expect("a sample");
        assert!(sample.contains("No space left") || sample.contains("No such file"), "{sample}");
        assert!(!home.join(format!("files-{number}-w0")).exists(), "{id}: files are left");
    }
    let _ = server.kill();
    let _ = server.wait();
}

#[test]
fn an_interrupted_run_leaves_no_files() {
    let steps = STEPS.replace("64KiB", "4KiB");
    let axes = "engines = ['threads', 'tokio']\nlanes = [2]\ntrials = 1";
    let sweep = sweep("duration = '600s'", &steps, axes);
    let files = sweep.home.path().join("files");
    std::fs::create_dir(&files).expect("a new directory");
    let mut command = sweep.command();
    command.env("TMPDIR", &files).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().expect("it starts");
    let is_empty = || std::fs::read_dir(&files).is_ok_and(|mut dir| dir.next().is_none());
    common::eventually("a directory of files", || !is_empty());
    common::signal(child.id(), rustix::process::Signal::INT);
    common::wait(&mut child);
    assert!(is_empty(), "files are left behind");
}

#[test]
fn offloaded_steps_are_carried_out_where_the_axis_says() {
    let axes = "engines = ['threads', 'tokio', 'tokio-single']\ncodecs = ['lean', 'hyper']\n\
                lanes = [4]\ntrials = 1\noffload = ['inline', 'spawn_blocking', 'rayon']";
    let done = run(&sweep("requests = 60", STEPS, axes));
    for r in done.all_ok(14) {
        let id = &r.cell.id;
        assert_steps(r, (60, 60, 60));
        let hidden = r.runtime.map(|use_| (use_.blocking_threads, use_.pool_threads));
        match (r.cell.engine, r.cell.offload) {
            (Engine::Threads, offload) => assert_eq!((offload, hidden), (None, None), "{id}"),
            (_, Some(Offload::Inline)) => assert_eq!(hidden, Some((0, 0)), "{id}"),
            (_, Some(Offload::SpawnBlocking)) => {
                let (blocking, pool) = hidden.expect("a task engine");
                // The pool starts another where all are still on their way back to it.
                assert!(blocking >= 1 && pool == 0, "{id}: {hidden:?}");
            }
            (_, Some(Offload::Rayon)) => assert_eq!(hidden, Some((0, 1)), "{id}"),
            (_, None) => panic!("{id}: a task engine has the axis"),
        }
    }
}

#[test]
fn the_heart_beats_under_every_engine_and_in_no_other_plan() {
    let heart = "heartbeat = true\nduration = '300ms'\nwarmup = '50ms'";
    for (plan, rate) in [("", ""), ("arrivals = 'constant'", "rates = [200]\n")] {
        let axes = format!("lanes = [2]\n{rate}{ALL}");
        let done = run(&sweep(&format!("{heart}\n{plan}"), "", &axes));
        assert_eq!(done.records.len(), ALL.rows(), "{}", done.stderr);
        for r in &done.records {
            assert_books(r);
            assert_eq!(r.ledger.completed, r.ledger.planned, "{}: {:?}", r.cell.id, r.error);
            let beats = count(&r.heartbeat_ns);
            // One a millisecond of the window, but for those that come due behind the last request
            // of the one lane that has no other time.
            let alone = r.cell.engine == Engine::Sequential;
            assert!(beats <= 300, "{}: {beats}", r.cell.id);
            // A ring that has sent all of an open loop has ended, with its thread.
            let ring = r.cell.engine == Engine::Uring && r.cell.arrivals.is_open();
            let least = if ring { 290 } else { 300 };
            assert!(beats >= least || (alone && beats > 0), "{}: {beats}", r.cell.id);
        }
    }
    let done = run(&sweep("requests = 10", "", "engines = ['tokio']\nlanes = [1]\ntrials = 1"));
    assert!(done.all_ok(1).iter().all(|r| r.heartbeat_ns.is_none()));
}

/// A driver that was kept from saying so in time.
#[test]
fn a_closed_loop_that_starts_late_is_measured_by_the_time_that_it_had() {
    let mut server = duel(&["target", "--listen", "127.0.0.1:0", "--service-time", "1ms"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("a target");
    let url = format!("target.url=http://{}", common::first_address(&mut server));
    let sweep = sweep("duration = '2s'", "", "engines = ['tokio']\nlanes = [2]\ntrials = 1\n");
    let job =
        text(&output(duel(&["plan"]).arg(sweep.config()).args(["--set", &url, "--job", "0"])));
    let late = duel::sys::now_ns() - 1_000_000_000;
    let outcome = ByHand::new(job.0.trim_end()).run(late);
    let ns = |number: &Value| number.as_u64().unwrap_or_else(|| panic!("{outcome}"));
    let missed = ns(&outcome["started_at_ns"]) - late;
    assert!(missed >= 1_000_000_000, "{missed}");
    assert_eq!(ns(&outcome["part"]["rate_ns"]), 2_000_000_000u64.saturating_sub(missed));
    let _ = server.kill();
    let _ = server.wait();
}
