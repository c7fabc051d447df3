//! Config to run directory, the whole way, through every engine and codec.

use crate::common;

use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

use common::{
    ALL, EveryEngine, Sweep, assert_books, assert_histograms, duel, output, records, text,
};
use duel::format::{Status, TrialRecord};
use duel::plan::Engine;
use duel::plan::engine::SocketKind;
use serde_json::Value;

const TARGET: &str = "name = 'x'\n[target]\nservice_time = '2ms'\n";

/// A sweep whose target takes 2 ms: `target`, `plan` and `sweep` are further lines of each table.
fn sweep(target: &str, plan: &str, sweep: &str) -> Sweep {
    Sweep::new(&format!("{TARGET}{target}\n[plan]\n{plan}\n[sweep]\n{sweep}\n"))
}

/// Lanes that the row really had.
fn lanes_of(r: &TrialRecord) -> u64 {
    match r.cell.engine {
        Engine::Sequential => u64::from(r.cell.processes),
        _ => u64::from(r.cell.total_lanes),
    }
}

/// Everything that must hold of a row in which nothing went wrong.
fn assert_clean(r: &TrialRecord, planned: u64) {
    let id = &r.cell.id;
    assert_books(r);
    assert_histograms(r);
    assert_eq!(r.ledger.planned, planned, "{id}: planned");
    assert_eq!(r.ledger.completed, planned, "{id}: completed; {:?}", r.error);
    assert_eq!(r.target.received, Some(planned + r.warmup.completed), "{id}: received");
    assert_eq!(r.reconnects, 0, "{id}: reconnects");
    assert_eq!(r.error, None, "{id}");
    let served = r.requests_per_lane;
    assert!(served.min <= served.max, "{id}: {served:?}");
    let lanes = lanes_of(r);
    assert!(served.max * lanes >= planned, "{id}: {served:?} × {lanes} lanes < {planned}");
    assert!(served.min * lanes <= planned, "{id}: {served:?} × {lanes} lanes > {planned}");
    let service = r.service_ns.as_ref().expect("something completed");
    assert!(service.min >= 2_000_000, "{id}: answered before the target could: {}", service.min);
    assert!(r.measured_ns > 0 && r.setup_ns > 0 && r.cpu.total_ns > 0, "{id}: {r:?}");
    assert_nulls_are_named(r);
}

/// Every null of a row is named in `unavailable`, or is one that does not apply.
fn find_nulls(path: String, value: &Value, nulls: &mut Vec<String>) {
    match value {
        Value::Object(part) => {
            part.iter().for_each(|(key, inner)| find_nulls(format!("{path}.{key}"), inner, nulls));
        }
        Value::Null => nulls.push(path),
        _ => {}
    }
}

fn assert_nulls_are_named(r: &TrialRecord) {
    let row = serde_json::to_value(r).expect("a row is plain data");
    let mut nulls = vec![];
    for (key, value) in row.as_object().expect("a row is an object") {
        // The cell holds axes that do not apply, gates those that were not decided.
        if key != "cell" {
            find_nulls(key.clone(), value, &mut nulls);
        }
    }
    let open = r.cell.arrivals.is_open();
    let applies = |name: &str| match name {
        // No trial here uses TLS, so that there is no handshake to time.
        "error" | "failed_ns" | "handshake_ns" => false,
        // Whole runs without shards or memory trials; threads have no runtime.
        "tls" | "shard" | "shard_start" | "shard_spread" | "memory.split" => false,
        "ring" => r.cell.engine.has_ring(),
        "runtime" => r.cell.engine.facts().sockets == SocketKind::Epoll,
        "response_ns" | "start_delay_ns" | "pacer_delay_ns" | "lane_wait_ns" | "pacer"
        | "cpu.pacer_ns" => open,
        "occupancy" => !open,
        _ => true,
    };
    for name in nulls.iter().filter(|n| applies(n)) {
        let named = r.unavailable.contains_key(name);
        assert!(named, "{}: `{name}` is null and not named: {:?}", r.cell.id, r.unavailable);
    }
    for name in r.unavailable.keys() {
        let pointer = format!("/{}", name.replace('.', "/"));
        assert!(
            row.pointer(&pointer).is_some_and(Value::is_null),
            "{}: `{name}` is said to be unavailable but is no null field",
            r.cell.id
        );
    }
}

#[test]
fn a_closed_loop_through_every_engine_and_codec() {
    let run = sweep("", "requests = 40", &format!("lanes = [4]{ALL}"));
    let done = run.run();
    for r in done.all_ok(ALL.rows()) {
        assert_clean(r, 40);
        // GET / HTTP/1.1, Host with a port of four or five digits, and the empty line.
        let each = r.bytes.sent / 40;
        assert_eq!(r.bytes.sent % 40, 0, "{}: {:?}", r.cell.id, r.bytes);
        assert!((30..120).contains(&each), "{}: {each} bytes per request", r.cell.id);
        assert!(r.bytes.received >= 40 * 1024, "{}: {:?}", r.cell.id, r.bytes);
        assert_eq!(r.completed_in_window, 40, "{}", r.cell.id);
    }
    for file in ["plan.json", "trials.jsonl", "report.md", "cells.csv"] {
        let size = std::fs::metadata(run.dir().join(file)).map_or(0, |m| m.len());
        assert!(size > 0, "{file} is missing or empty");
    }
    for engine in EveryEngine::engines().into_iter().map(Engine::name) {
        assert!(done.stdout.contains(engine), "the table lacks {engine}:\n{}", done.stdout);
    }
    let dir = run.dir();
    let shown = output(duel(&["report"]).arg(&dir));
    assert!(shown.status.success(), "{}", text(&shown).1);
    assert_eq!(text(&shown).0, done.stdout, "report shows the table that run showed");
    let lines = text(&output(duel(&["report", "--json"]).arg(&dir))).0;
    let again: Vec<TrialRecord> =
        lines.lines().map(|l| serde_json::from_str(l).expect("a record a line")).collect();
    assert_eq!(again, done.records, "report --json gives the rows back");
    let schema = text(&output(&mut duel(&["report", "--schema"]))).0;
    let schema: Value = serde_json::from_str(&schema).expect("the schema is JSON");
    assert!(schema["properties"]["ledger"].is_object(), "{schema}");
}

#[test]
fn both_codecs_and_all_engines_write_the_same_bytes() {
    // Ports differ from trial to trial, by a digit at most in practice; a server of one's own
    // has one port.
    let server = std::process::Command::new(common::DUEL)
        .args(["target", "--listen", "127.0.0.1:0"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut server = server.expect("the target starts");
    let address = common::first_address(&mut server);
    let run = Sweep::new(&format!(
        "name = 'x'\n[target]\nurl = 'http://{address}'\n[plan]\nrequests = 60\nseed = 3\n\
         [[plan.request]]\npath = '/a?b=c'\nweight = 2\nheaders = {{ accept = '*/*' }}\n\
         [[plan.request]]\nmethod = 'POST'\npath = '/post'\nbody = 'sixteen bytes ..'\n\
         [[plan.request]]\nmethod = 'HEAD'\n[sweep]\nlanes = [4]{ALL}"
    ));
    let done = run.run();
    let _ = server.kill();
    let _ = server.wait();
    let rows = done.all_ok(ALL.rows());
    for r in rows {
        assert_eq!(r.ledger.completed, 60, "{}: {:?}", r.cell.id, r.ledger);
        assert_eq!(r.bytes, rows[0].bytes, "{} against {}", r.cell.id, rows[0].cell.id);
        assert_eq!(r.target.received, None, "an external target reports nothing");
        assert_nulls_are_named(r);
    }
}

#[test]
fn open_loops_start_every_request_and_know_their_response_time() {
    for arrivals in ["constant", "poisson"] {
        let plan = format!("requests = 40\narrivals = '{arrivals}'");
        let run = sweep("", &plan, &format!("rates = [400]\nlanes = [4]{ALL}"));
        let done = run.run();
        assert_eq!(done.records.len(), ALL.rows(), "{}", done.stderr);
        for r in &done.records {
            // On a busy machine the pacer may be late, which a gate then says; the books hold.
            assert!(matches!(r.status, Status::Ok | Status::Invalid), "{:?}", r.error);
            assert_clean(r, 40);
            let (response, service) = (r.response_ns.as_ref(), r.service_ns.as_ref());
            let (response, service) = (response.expect("open"), service.expect("completed"));
            assert!(response.max >= service.max, "{}: response < service", r.cell.id);
            assert_eq!(r.cell.offered_per_s, Some(400.0), "{}", r.cell.id);
            // The pacer's thread of a task engine ends with the schedule, inside the window.
            let why = r.unavailable.get("cpu.run_queue_wait_ns");
            assert!(r.cpu.run_queue_wait_ns.is_some(), "{}: {why:?}", r.cell.id);
        }
    }
}

#[test]
fn what_pacing_costs_is_told_apart_under_every_engine_and_pacer() {
    for pacer in ["precise", "native"] {
        let plan = format!("requests = 40\narrivals = 'constant'\npacer = '{pacer}'");
        let done = sweep("", &plan, &format!("rates = [400]\nlanes = [4]{ALL}")).run();
        assert_eq!(done.records.len(), ALL.rows(), "{}", done.stderr);
        for r in &done.records {
            let why = (&r.error, r.unavailable.get("cpu.pacer_ns"));
            let pacing = r.cpu.pacer_ns.unwrap_or_else(|| panic!("{} {pacer}: {why:?}", r.cell.id));
            // The one lane of `sequential` paces itself; behind all along, it never has to wait.
            let delay = r.start_delay_ns.as_ref().expect("an open loop");
            let behind = r.cell.engine == Engine::Sequential && delay.p50 > 1_000_000;
            assert!(pacing > 0 || behind, "{} {pacer}: {:?}", r.cell.id, r.cpu);
            assert!(pacing <= r.cpu.total_ns, "{} {pacer}: {:?}", r.cell.id, r.cpu);
        }
    }
}

#[test]
fn a_window_of_time_with_a_warm_up() {
    let run = sweep("", "duration = '150ms'\nwarmup = '50ms'", &format!("lanes = [4]{ALL}"));
    for r in run.run().all_ok(ALL.rows()) {
        assert!(r.warmup.completed > 0, "{}: no warm-up", r.cell.id);
        assert_eq!(r.warmup.completed, r.warmup.planned, "{}: {:?}", r.cell.id, r.warmup);
        assert_clean(r, r.ledger.planned);
        assert!(r.completed_in_window <= r.ledger.completed, "{}", r.cell.id);
        assert!(r.ledger.completed - r.completed_in_window <= lanes_of(r), "{}", r.cell.id);
        assert_eq!(r.measured_ns, 150_000_000, "{}: the window is what was asked", r.cell.id);
    }
}

#[test]
fn an_open_loop_with_a_warm_up_keeps_the_phases_apart() {
    let plan = "arrivals = 'constant'\nduration = '100ms'\nwarmup = '100ms'";
    let run = sweep("", plan, &format!("rates = [200]\nlanes = [4]{ALL}"));
    for r in &run.run().records {
        assert_eq!(r.warmup.planned, 20, "{}: {:?}", r.cell.id, r.warmup);
        assert_clean(r, 20);
    }
}

#[test]
fn two_workers_and_two_targets_share_the_plan() {
    let sweep =
        sweep("processes = 2", "requests = 41", &format!("processes = [2]\nlanes = [3]{ALL}"));
    for r in sweep.run().all_ok(ALL.rows()) {
        assert_clean(r, 41);
        assert_eq!(r.target.processes, 2, "{}", r.cell.id);
        assert_eq!(r.cell.total_lanes, if r.cell.engine == Engine::Sequential { 2 } else { 6 });
    }
}

#[test]
fn large_bodies_one_server_and_other_methods() {
    let mix = "requests = 30\n[[plan.request]]\npath = '/a'\nweight = 3\n\
               [[plan.request]]\nmethod = 'POST'\nbody = '0123456789'\n\
               [[plan.request]]\nmethod = 'HEAD'";
    let run = sweep("body = '256KiB'\nservers = 1", mix, &format!("lanes = [4]{ALL}"));
    let done = run.run();
    let rows = done.all_ok(ALL.rows());
    for r in rows {
        assert_clean(r, 30);
        // The seed decides which are HEADs: the same for all, some but not all.
        let bodies = r.bytes.received / (256 << 10);
        assert!((10..30).contains(&bodies), "{}: {bodies} bodies", r.cell.id);
        assert_eq!(bodies, rows[0].bytes.received / (256 << 10), "{}: the same mix", r.cell.id);
        // One at a time: thirty services of 2 ms each stand one after another.
        assert!(r.measured_ns >= 60_000_000, "{}: {} ns", r.cell.id, r.measured_ns);
    }
}

#[test]
fn answers_with_status_500_are_status_errors() {
    let plan = "requests = 200";
    let run = sweep("faults = { error_rate = 0.2 }", plan, &format!("lanes = [16]{ALL}"));
    let done = run.run();
    for r in done.all_ok(ALL.rows()) {
        assert_books(r);
        assert_histograms(r);
        assert!((1..200).contains(&r.errors.status), "{}: {:?}", r.cell.id, r.errors);
        assert_eq!(r.errors.status, r.ledger.failed, "{}: {:?}", r.cell.id, r.errors);
        assert_eq!(r.target.received, Some(200), "{}", r.cell.id);
        assert_eq!(r.reconnects, 0, "{}: a 500 keeps the connection", r.cell.id);
    }
    let expected = sweep(
        "faults = { error_rate = 0.2 }",
        "requests = 100\nexpect_status = [200, 500]",
        &format!("lanes = [16]{ALL}"),
    );
    for r in expected.run().all_ok(ALL.rows()) {
        assert_eq!(r.ledger.completed, 100, "{}: an expected 500 completes", r.cell.id);
    }
}

#[test]
fn resume_runs_exactly_what_is_missing() {
    let run =
        sweep("", "requests = 10", "engines = ['threads', 'tokio']\nlanes = [1, 2]\ntrials = 3");
    let all = run.run();
    all.all_ok(12);
    let path = run.dir().join("trials.jsonl");
    let whole = std::fs::read_to_string(&path).unwrap();
    let kept: Vec<&str> = whole.lines().take(7).collect();
    // The last line is torn, as a crash leaves it.
    let torn = &whole.lines().nth(7).unwrap()[..100];
    std::fs::write(&path, format!("{}\n{torn}", kept.join("\n"))).unwrap();
    let more = run.run_with(&["--resume"]);
    assert_eq!(more.code, 0, "{}", more.stderr);
    let rows = records(&run.dir());
    let lines = std::fs::read_to_string(&path).unwrap();
    assert!(lines.starts_with(&kept.join("\n")), "earlier rows are untouched");
    let mut keys: Vec<_> = rows.iter().map(|r| (r.cell.id.clone(), r.block)).collect();
    let mut before: Vec<_> = all.records.iter().map(|r| (r.cell.id.clone(), r.block)).collect();
    keys.sort();
    before.sort();
    assert_eq!(keys, before, "every trial exactly once");
    let nothing = run.run_with(&["--resume"]);
    assert_eq!((nothing.code, nothing.records.len()), (0, 12), "{}", nothing.stderr);
    let other = output(run.command().args(["--resume", "--set", "plan.requests=11"]));
    assert_eq!(other.status.code(), Some(2), "a changed config is refused");
    assert!(text(&other).1.contains("config changed"), "{}", text(&other).1);
}

#[test]
fn a_plan_says_what_would_run() {
    let run =
        sweep("", "duration = '1s'", "engines = ['threads', 'tokio']\nlanes = [4, 8]\ntrials = 2");
    let out = output(duel(&["plan"]).arg(run.config()));
    let (shown, _) = text(&out);
    assert!(out.status.success() && shown.contains("8 trials"), "{shown}");
    assert!(shown.contains("block 0:") && shown.contains("block 1:"), "{shown}");
    assert!(!run.dir().exists(), "a plan makes nothing");
    let far = output(duel(&["plan", "--job", "8"]).arg(run.config()));
    assert_eq!(far.status.code(), Some(2), "there are trials 0 to 7");
}

#[test]
fn a_set_up_beyond_its_limit_says_so() {
    let run = Sweep::new(
        "[target]\nurl = 'http://127.0.0.1:9'\n[plan]\nrequests = 20\n[sweep]\n\
         engines = ['threads']\nlanes = [50]\ntrials = 1",
    );
    let job = text(&output(duel(&["plan", "--job", "0"]).arg(run.config()))).0;
    let mut job: Value = serde_json::from_str(&job).expect("a job is JSON");
    job["setup_limit_ns"] = 1.into();
    let mut worker = duel(&["worker"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the worker starts");
    let mut stdin = worker.stdin.take().expect("piped");
    writeln!(stdin, "{job}\n{{\"frame\":\"go\",\"version\":3}}").expect("the worker reads");
    let lines = BufReader::new(worker.stdout.take().expect("piped")).lines();
    let last = lines.last().expect("an answer").expect("text");
    common::wait(&mut worker);
    let armed: Value = serde_json::from_str(&last).expect("a frame is JSON");
    let error = armed["error"].as_str().unwrap_or_default();
    assert!(error.contains("set-up took longer than 1ns"), "{armed}");
}

#[test]
fn a_job_by_hand_gives_ready_armed_and_outcome() {
    let mut server = duel(&["target", "--listen", "127.0.0.1:0"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the target starts");
    let address = common::first_address(&mut server);
    let run = Sweep::new(&format!(
        "[target]\nurl = 'http://{address}'\n[plan]\nrequests = 20\n[sweep]\nengines = ['tokio']\n\
         lanes = [2]\ntrials = 1"
    ));
    let job = text(&output(duel(&["plan", "--job", "0"]).arg(run.config()))).0;
    let mut worker = duel(&["worker"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the worker starts");
    let mut stdin = worker.stdin.take().expect("piped");
    let go = r#"{"frame":"go","version":3}"#;
    let start = r#"{"frame":"start","version":3,"at_ns":0}"#;
    write!(stdin, "{job}{go}\n{start}\n").expect("the worker reads");
    let frames: Vec<Value> = BufReader::new(worker.stdout.take().expect("piped"))
        .lines()
        .map(|l| serde_json::from_str(&l.expect("text")).expect("a frame is JSON"))
        .collect();
    // Standard input stays open to here: its end would cancel.
    drop(stdin);
    let status = common::wait(&mut worker);
    let _ = server.kill();
    let _ = server.wait();
    assert!(status.success(), "{status}");
    let names: Vec<&str> = frames.iter().filter_map(|f| f["frame"].as_str()).collect();
    assert_eq!(names, ["ready", "armed", "outcome"]);
    assert_eq!(frames[1]["connected"], 2);
    assert_eq!(frames[2]["part"]["ledger"]["completed"], 20, "{}", frames[2]);
}
