//! `duel verify` and the plans that it is for: traces, stages and templates under every engine.

use crate::common;

use std::path::Path;

use common::{duel, output, text};

/// Runs a command on a config and gives exit code, standard output and error.
fn run(dir: &Path, command: &[&str], config: &str) -> (Option<i32>, String, String) {
    let path = dir.join("plan.toml");
    std::fs::write(&path, config).unwrap();
    let mut arguments = command.to_vec();
    arguments.push(path.to_str().unwrap());
    let done = output(&mut duel(&arguments));
    let (stdout, stderr) = text(&done);
    (done.status.code(), stdout, stderr)
}

/// The lines of one run each.
fn runs(stdout: &str) -> Vec<&str> {
    stdout.lines().filter(|line| line.contains(" hyper ") || line.contains(" lean ")).collect()
}

#[test]
fn every_engine_sends_templates_once_and_byte_for_byte() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("words"), "one\ntwo%20words\nthree\n").unwrap();
    let head = format!("[sweep]{}", common::ALL);
    let config = r#"
lanes = [7]
processes = [1, 3]
[plan]
requests = 600
[plan.values]
id = { counter = { start = 1000 } }
size = { random = [1, 9] }
word = { choice = "words" }
[[plan.request]]
path = "/items/{id}?q={word}"
weight = 3
headers = { x-size = "{size}", accept = "text/plain" }
[[plan.request]]
method = "POST"
path = "/orders"
body = '{"id": {id}, "word": "{word}", "literal": "{{id}}"}'
"#;
    let (code, stdout, stderr) = run(dir.path(), &["verify"], &format!("{head}{config}"));
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    let wanted = 2 * common::ALL.rows();
    assert_eq!(runs(&stdout).len(), wanted, "engines × codecs × 2 numbers of workers: {stdout}");
    assert!(runs(&stdout).iter().all(|line| line.ends_with("the same")), "{stdout}");
    assert!(stdout.contains("one digest: every engine sent the plan's 600 requests"), "{stdout}");
}

#[test]
fn traces_and_stages_are_sent_once_under_every_engine_and_by_every_worker() {
    let dir = tempfile::tempdir().unwrap();
    let line = |i: u32| {
        let method = if i.is_multiple_of(10) { "POST" } else { "GET" };
        format!(
            "h - - [10/Oct/2000:13:55:{:02} +0000] \"{method} /p{} HTTP/1.1\" 200 1\n",
            i / 100,
            i % 37
        )
    };
    std::fs::write(dir.path().join("log"), (0..300).map(line).collect::<String>()).unwrap();
    let sweep = "[sweep]\ncodecs = ['lean']\nlanes = [5]\nprocesses = [2]";
    let trace = "[plan]\narrivals = 'trace'\ntrace = 'log'\ntrace_speed = 30\n\
                 [[plan.request]]\nmethod = 'POST'\nbody = 'b'\n";
    let (code, stdout, stderr) = run(dir.path(), &["verify"], &format!("{trace}{sweep}"));
    assert_eq!((code, runs(&stdout).len()), (Some(0), 5), "{stdout}{stderr}");
    assert!(stdout.contains("the plan's 300 requests"), "{stdout}");

    let stages = "[plan]\narrivals = 'poisson'\nstages = [{ duration = '100ms', from = 0, \
                  to = '2k' }, { duration = '100ms', rate = '1k' }]\n";
    let (code, stdout, stderr) = run(dir.path(), &["verify"], &format!("{stages}{sweep}"));
    assert_eq!((code, runs(&stdout).len()), (Some(0), 5), "{stdout}{stderr}");
}

/// The whole path of a trial: what is planned is what the trace holds, its warm-up is its
/// beginning, and times count from the intended start.
#[test]
fn a_trace_is_a_trial_like_any_other() {
    let dir = tempfile::tempdir().unwrap();
    let lines: String = (0..200).map(|i| format!("{}\t/{}\n", i * 2, i % 50)).collect();
    std::fs::write(dir.path().join("t"), lines).unwrap();
    let config = "[plan]\narrivals = 'trace'\ntrace = 't'\nwarmup = '100ms'\n\
                  [sweep]\nengines = ['threads', 'tokio']\nlanes = [4]\nprocesses = [1, 2]\n\
                  trials = 1\nnoise_repeats = 0";
    let out = dir.path().join("out");
    let (code, stdout, stderr) = run(dir.path(), &["run", "--out", out.to_str().unwrap()], config);
    assert!(matches!(code, Some(0 | 4)), "{stdout}{stderr}");
    let records = std::fs::read_to_string(out.join("trials.jsonl")).unwrap();
    assert_eq!(records.lines().count(), 4);
    for line in records.lines() {
        let record: duel::format::TrialRecord = serde_json::from_str(line).unwrap();
        assert_eq!(record.ledger.planned, 150, "entries from 100 ms on: {line}");
        assert_eq!(record.ledger.completed, 150, "{line}");
        assert_eq!(record.warmup.planned, 50, "{line}");
        assert_eq!(record.cell.offered_per_s, Some(500.0), "{line}");
        assert!(record.response_ns.is_some() && record.pacer_delay_ns.is_some(), "{line}");
    }
}

#[test]
fn a_closed_loop_by_time_is_verified_by_a_number_of_requests() {
    let dir = tempfile::tempdir().unwrap();
    let config = "[plan]\nduration = '1h'\n[sweep]\nengines = ['tokio']\nlanes = [3]\n";
    let (code, stdout, stderr) = run(dir.path(), &["verify", "-n", "50"], config);
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    assert!(stdout.contains("the plan's 50 requests"), "{stdout}");
}

#[test]
fn bad_input_is_refused_before_anything_runs() {
    let dir = tempfile::tempdir().unwrap();
    let torn = "[plan]\narrivals = 'trace'\ntrace = 'torn'";
    std::fs::write(dir.path().join("torn"), "1\t/\n2").unwrap();
    // 7,000/s on average, but 12,000/s at the peak: the cap on strange addresses counts that.
    let steep = "[target]\nurl = 'http://192.0.2.1:80'\nallow = ['192.0.2.1:80']\n[plan]\narrivals = \
                 'constant'\nstages = [{ duration = '1s', from = '2k', to = '12k' }]\n[sweep]\nlanes = [5]";
    for (arguments, config, message) in [
        (&["run"][..], steep, "12,000 requests/s to 192.0.2.1:80"),
        (&["verify"][..], torn, "torn:2: holds no TAB"),
        (&["run"][..], torn, "torn:2: holds no TAB"),
        (&["verify"][..], "[[plan.request]]\npath = '/{id}'", "unknown value `id`"),
        (&["verify", "-n", "0"][..], "name = 'x'", "--requests: must be at least 1"),
        (&["verify", "-n", "x"][..], "name = 'x'", "--requests: `x` is not a count"),
    ] {
        let (code, stdout, stderr) = run(dir.path(), arguments, config);
        assert_eq!((code, stdout.as_str()), (Some(2), ""), "{config}: {stderr}");
        assert!(stderr.contains(message), "{config}: {stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
    }
}
