//! System calls per request, page faults, migrations and tokio's own counts, in real trials.

use std::process::Command;

use duel::format::{Status, TrialRecord};
use duel::plan::Engine;
use duel::plan::server::ServerEngine;

/// A closed loop of 2,000 requests over 8 lanes, every engine with `lean`, with a cell beside each in
/// which events are counted.
const CONFIG: &str = r#"
name = "events"
[plan]
requests = 2000
warmup = "50ms"
[target]
service_time = "200us"
[sweep]
engines = ["threads", "rayon", "tokio", "tokio-single"]
codecs = ["lean"]
lanes = [8]
trials = 1
syscalls = true
noise_repeats = 0
"#;

/// The same of servers, the one of the config's own among them.
const SERVERS: &str = r#"
name = "events-of-servers"
[plan]
requests = 2000
[target]
service_time = "200us"
[sweep]
server_engines = ["reference", "threads", "tokio", "tokio-single"]
lanes = [8]
trials = 1
syscalls = true
noise_repeats = 0
"#;

fn records(config: &str, wrap: &[&str]) -> Vec<TrialRecord> {
    let dir = tempfile::tempdir().unwrap();
    let (path, out) = (dir.path().join("events.toml"), dir.path().join("run"));
    std::fs::write(&path, config).unwrap();
    let mut words: Vec<&str> = wrap.to_vec();
    words.push(env!("CARGO_BIN_EXE_duel"));
    let output = Command::new(words[0])
        .args(&words[1..])
        .arg("run")
        .arg(&path)
        .arg("--out")
        .arg(&out)
        .output()
        .unwrap();
    let text = std::fs::read_to_string(out.join("trials.jsonl")).unwrap_or_else(|e| {
        panic!("{e}: {}", String::from_utf8_lossy(&output.stderr));
    });
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn system_calls_are_counted_in_trials_of_their_own() {
    let root = rustix::process::geteuid().is_root();
    for record in records(CONFIG, &[]) {
        let id = &record.cell.id;
        assert_ne!(record.status, Status::Failed, "{id}: {:?}", record.error);
        assert!(record.events.minor_faults.is_some(), "{id}");
        assert!(record.events.major_faults.is_some(), "{id}");
        assert_eq!(record.switches.migrations, Some(0), "{id} has one CPU");
        let why = |field: &str| record.unavailable.get(field).map_or("", |why| why);
        match (record.cell.kind.label(), record.events.syscalls_per_request) {
            (None, counted) => {
                assert_eq!(counted, None, "{id} counts in a ranked trial");
                assert!(why("events.syscalls").contains("[sweep] syscalls"), "{id}");
                assert!(why("events.instructions").contains("[sweep] syscalls"), "{id}");
            }
            (Some(_), Some(calls)) => {
                // One write and one read, less what the requests in flight at the first edge had behind them; a task engine adds its polls, `rayon` its look for work.
                assert!((1.98..6.0).contains(&calls), "{id}: {calls} a request");
                if record.cell.engine == Engine::Threads {
                    assert!(calls < 2.1, "{id}: {calls} a request");
                }
            }
            (Some(_), None) => {
                assert!(!root, "{id}: {:?}", record.unavailable);
                assert!(why("events.syscalls").contains("run as root"), "{id}");
                println!("skipped: {}", why("events.syscalls"));
            }
        }
        if record.cell.counts_events() && record.events.instructions.is_none() {
            let why = why("events.instructions");
            assert!(why.contains("PMU") || why.contains("perf_event"), "{id}: {why}");
        }
        let task_engine = matches!(record.cell.engine, Engine::Tokio | Engine::TokioSingle);
        match record.runtime {
            Some(runtime) => {
                assert!(task_engine, "{id} has no runtime");
                assert_eq!(runtime.workers, 1, "{id} has one CPU");
                assert!(runtime.parks > 0 && runtime.busy_ns > 0, "{id}: {runtime:?}");
                assert!(runtime.alive_tasks >= 8, "{id}: {runtime:?}");
                assert!(runtime.busy_ns < record.measured_ns * 2, "{id}: {runtime:?}");
            }
            None => assert!(!task_engine, "{id} has a runtime"),
        }
    }
}

/// A server under test has its system calls counted by itself, in the same trials; what duel started
/// besides is not among them.
#[test]
fn system_calls_of_a_server_are_counted_as_those_of_a_client_are() {
    let root = rustix::process::geteuid().is_root();
    for record in records(SERVERS, &[]) {
        let id = &record.cell.id;
        assert_ne!(record.status, Status::Failed, "{id}: {:?}", record.error);
        let Some(server) = &record.server else {
            println!("UNDECIDED: the driver was late at {id}");
            continue;
        };
        let why =
            |field: &str| record.unavailable.get(&format!("server.{field}")).map_or("", |why| why);
        assert_eq!(server.switches.migrations, Some(0), "{id} has one CPU");
        let engine = record.cell.server_engine.expect("a server under test");
        let calls = server.events.syscalls_per_request;
        if engine == ServerEngine::Reference {
            // Nothing holds up the loop of the referee.
            assert_eq!(calls, None, "{id}");
            assert!(
                why("events.syscalls").contains("from outside"),
                "{id}: {}",
                why("events.syscalls")
            );
            continue;
        }
        match (record.cell.counts_events(), calls) {
            (false, counted) => {
                assert_eq!(counted, None, "{id} counts in a ranked trial");
                assert!(why("events.syscalls").contains("[sweep] syscalls"), "{id}");
            }
            (true, Some(calls)) => {
                // A read, a wait and a write; a runtime adds its polls and its timer's.
                assert!((2.0..8.0).contains(&calls), "{id}: {calls} per request");
                if engine == ServerEngine::Threads {
                    assert!(calls < 3.2, "{id}: {calls} per request");
                }
            }
            (true, None) => {
                assert!(!root, "{id}: {:?}", record.unavailable);
                assert!(why("events.syscalls_per_request").contains("run as root"), "{id}");
                println!("skipped: {}", why("events.syscalls"));
            }
        }
    }
}
