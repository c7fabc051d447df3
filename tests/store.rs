//! Run directories: what is written is read, and what is damaged is named.

use crate::sample;

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;

use duel::format::{FORMAT_VERSION, Flag, Status, TrialRecord};
use duel::plan::Engine;
use duel::results::store::{
    PLAN_FILE, PlanJson, RunDir, StoreError, TORN_FILE, TRIALS_FILE, Versions, check_writable,
    default_dir, utc_stamp,
};
use proptest::prelude::*;

/// A config that has something of every part that reports read.
fn config() -> duel::plan::sweep::Sweep {
    let text = r#"
        name = "first"
        [[plan.request]]
        name = "small"
        p99 = "1s"
        [sweep]
        engines = ["threads", "tokio"]
        trials = 6
        [slo]
        p99 = "20ms"
        error_rate = 0.01
        [[expect]]
        winner = "tokio"
        over = "threads"
        measure = "p99"
    "#;
    duel::config::parse(text, "x.toml", &[], Path::new(".")).unwrap()
}

fn plan() -> PlanJson {
    PlanJson {
        format_version: FORMAT_VERSION,
        name: "first".into(),
        plan_hash: sample::PLAN_HASH.into(),
        seed: 1,
        created_utc: "2026-01-02T03:04:05Z".into(),
        config: serde_json::to_value(config()).unwrap(),
        cells: vec![sample::cell(Engine::Threads), sample::cell(Engine::Tokio)],
        trials_planned: 12,
        machine: serde_json::json!({"cpus_online": [0, 1], "memory_bytes": 1_000_000_000}),
        limits: serde_json::to_value(duel::limits::Limits { cpus: 2, ..Default::default() })
            .unwrap(),
        versions: Versions { duel: "0.1.0".into(), git_revision: None, binary_digest: "b1".into() },
        command_line: vec!["duel".into(), "run".into()],
        shard: None,
        merged: None,
    }
}

fn trial(engine: Engine, block: u32) -> TrialRecord {
    sample::record(sample::cell(engine), block, 1.0)
}

/// A run of three records, closed again.
fn written(at: &Path) -> Vec<TrialRecord> {
    let records = vec![trial(Engine::Threads, 0), trial(Engine::Tokio, 0), trial(Engine::Tokio, 1)];
    let mut dir = RunDir::create(at, &plan()).unwrap();
    for record in &records {
        dir.append(record).unwrap();
    }
    records
}

fn append_raw(at: &Path, bytes: &[u8]) {
    let mut file = OpenOptions::new().append(true).open(at.join(TRIALS_FILE)).unwrap();
    file.write_all(bytes).unwrap();
}

fn message(result: Result<impl std::fmt::Debug, StoreError>) -> String {
    result.expect_err("must be refused").to_string()
}

#[test]
fn what_is_written_is_read() {
    let temp = tempfile::tempdir().unwrap();
    let at = temp.path().join("runs/new");
    let records = written(&at);
    let run = RunDir::open(&at).unwrap();
    assert_eq!(run.records, records);
    assert_eq!(run.plan, plan());
    assert!(run.warnings.is_empty(), "{:?}", run.warnings);
    let left: Vec<_> = fs::read_dir(&at).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "nothing but plan and trials stays behind: {left:?}");
}

#[test]
fn a_used_directory_is_never_written_over() {
    let temp = tempfile::tempdir().unwrap();
    written(temp.path());
    let before = fs::read(temp.path().join(TRIALS_FILE)).unwrap();
    let text = message(RunDir::create(temp.path(), &plan()));
    assert!(text.contains("not empty") && text.contains("--resume"), "{text}");
    assert_eq!(fs::read(temp.path().join(TRIALS_FILE)).unwrap(), before);
}

#[test]
fn a_torn_last_line_is_set_aside_wherever_it_was_cut() {
    let temp = tempfile::tempdir().unwrap();
    let records = written(temp.path());
    let file = temp.path().join(TRIALS_FILE);
    let whole = fs::read(&file).unwrap();
    let last = whole[..whole.len() - 1].iter().rposition(|b| *b == b'\n').unwrap() + 1;
    let step = (whole.len() - last) / 37 + 1;
    for cut in (last + 1..whole.len()).step_by(step).chain([whole.len() - 1]) {
        fs::write(&file, &whole[..cut]).unwrap();
        let run = RunDir::open(temp.path()).unwrap_or_else(|e| panic!("cut at {cut}: {e}"));
        assert_eq!(run.records, records[..2], "cut at {cut}");
        assert!(run.warnings[0].contains("trials.jsonl:3:"), "{:?}", run.warnings);
    }
    fs::write(&file, &whole[..last]).unwrap();
    assert!(RunDir::open(temp.path()).unwrap().warnings.is_empty(), "nothing is torn here");
}

#[test]
fn zeros_left_by_a_crash_are_torn() {
    let temp = tempfile::tempdir().unwrap();
    let records = written(temp.path());
    append_raw(temp.path(), &[0; 4_096]);
    assert_eq!(RunDir::open(temp.path()).unwrap().records, records);
    append_raw(temp.path(), b"\n");
    assert_eq!(RunDir::open(temp.path()).unwrap().records, records);
}

#[test]
fn resuming_keeps_what_is_whole_and_moves_the_rest() {
    let temp = tempfile::tempdir().unwrap();
    let records = written(temp.path());
    append_raw(temp.path(), b"{\"format_version\":1,\"plan");
    let (mut dir, run) = RunDir::resume(temp.path()).unwrap();
    assert_eq!(run.records, records);
    assert_eq!(run.warnings.len(), 1);
    let next = trial(Engine::Threads, 1);
    dir.append(&next).unwrap();
    drop(dir);
    let run = RunDir::open(temp.path()).unwrap();
    assert_eq!(run.records.last(), Some(&next));
    assert!(run.warnings.is_empty(), "{:?}", run.warnings);
    let aside = fs::read(temp.path().join(TORN_FILE)).unwrap();
    assert_eq!(aside, b"{\"format_version\":1,\"plan");
}

#[test]
fn interrupted_trials_run_again_and_others_do_not() {
    let temp = tempfile::tempdir().unwrap();
    let mut dir = RunDir::create(temp.path(), &plan()).unwrap();
    for (block, status) in
        [(0, Status::Ok), (1, Status::Invalid), (2, Status::Failed), (3, Status::Interrupted)]
    {
        dir.append(&TrialRecord { status, ..trial(Engine::Tokio, block) }).unwrap();
    }
    drop(dir);
    let kept = RunDir::open(temp.path()).unwrap().kept();
    let blocks: Vec<u32> = kept.iter().map(|record| record.block).collect();
    assert_eq!(blocks, [0, 1, 2]);
}

#[test]
fn one_writer_at_a_time() {
    let temp = tempfile::tempdir().unwrap();
    let dir = RunDir::create(temp.path(), &plan()).unwrap();
    let text = message(RunDir::resume(temp.path()));
    assert!(text.contains("another duel"), "{text}");
    drop(dir);
    RunDir::resume(temp.path()).expect("the lock ends with its holder");
}

#[test]
fn damage_amid_the_file_is_named_and_the_rest_still_shown() {
    let temp = tempfile::tempdir().unwrap();
    let records = written(temp.path());
    append_raw(temp.path(), b"{\"format_version\":1,\"block\":\"x\"}\n{\"cut\": \n");
    let mut last = serde_json::to_vec(&trial(Engine::Threads, 1)).unwrap();
    last.push(b'\n');
    append_raw(temp.path(), &last);
    let text = message(RunDir::open(temp.path()));
    assert!(text.contains("trials.jsonl:4: not a trial record"), "{text}");
    let (run, damage) = RunDir::salvage(temp.path()).unwrap();
    assert_eq!(run.records.len(), records.len() + 1);
    assert_eq!(damage.len(), 2, "{damage:?}");
    assert!(damage[1].to_string().contains("trials.jsonl:5: a record that is cut off"));
}

#[test]
fn newer_formats_are_refused_with_their_version() {
    let temp = tempfile::tempdir().unwrap();
    written(temp.path());
    append_raw(temp.path(), b"{\"format_version\":7,\"all\":\"new\"}\n");
    let text = message(RunDir::open(temp.path()));
    assert!(text.contains("trials.jsonl:4: format version 7"), "{text}");
    let newer = serde_json::to_vec(&PlanJson { format_version: 9, ..plan() }).unwrap();
    fs::write(temp.path().join(PLAN_FILE), newer).unwrap();
    let text = message(RunDir::open(temp.path()));
    assert!(text.contains("plan.json:1: format version 9"), "{text}");
}

#[test]
fn foreign_directories_are_refused_untouched() {
    let temp = tempfile::tempdir().unwrap();
    assert!(message(RunDir::open(&temp.path().join("nowhere"))).contains("does not exist"));
    assert!(message(RunDir::open(temp.path())).contains("no plan.json"));
    assert!(message(RunDir::resume(temp.path())).contains("no plan.json"));
    assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 0, "resume must leave no trace");
    fs::write(temp.path().join(PLAN_FILE), "{\"plan\": \"of a holiday\"}").unwrap();
    assert!(message(RunDir::open(temp.path())).contains("no format_version"));
    fs::write(temp.path().join(PLAN_FILE), "{\"format_version\": 1,\n\"name\": 3}").unwrap();
    assert!(message(RunDir::open(temp.path())).contains("plan.json:2:"));
    let file = temp.path().join(PLAN_FILE);
    assert!(message(RunDir::open(&file)).contains("not a run directory"));
}

#[test]
fn records_of_another_plan_are_damage() {
    let temp = tempfile::tempdir().unwrap();
    let mut dir = RunDir::create(temp.path(), &plan()).unwrap();
    dir.append(&TrialRecord { plan_hash: "0f".into(), ..trial(Engine::Tokio, 0) }).unwrap();
    drop(dir);
    assert!(message(RunDir::open(temp.path())).contains("another plan (0f)"));
}

#[test]
fn ledgers_balance_when_written_and_when_read() {
    let temp = tempfile::tempdir().unwrap();
    let mut dir = RunDir::create(temp.path(), &plan()).unwrap();
    let good = trial(Engine::Tokio, 0);
    let mut lost = good.clone();
    lost.ledger.completed -= 1;
    assert!(message(dir.append(&lost)).contains("ledger does not balance"));
    let mut unexplained = good.clone();
    unexplained.ledger.completed -= 1;
    unexplained.ledger.failed += 1;
    assert!(message(dir.append(&unexplained)).contains("do not add up"));
    let mut no_number = good.clone();
    no_number.achieved_per_s = f64::NAN;
    assert!(message(dir.append(&no_number)).contains("achieved_per_s is NaN"));
    dir.append(&good).unwrap();
    drop(dir);
    let file = temp.path().join(TRIALS_FILE);
    let text = fs::read_to_string(&file).unwrap();
    assert_eq!(text.lines().count(), 1, "refused records leave no line");
    fs::write(&file, text.replacen("\"completed\":2000", "\"completed\":1999", 1)).unwrap();
    let text = message(RunDir::open(temp.path()));
    assert!(text.contains("trials.jsonl:1:") && text.contains("does not balance"), "{text}");
}

#[test]
fn a_directory_that_cannot_be_filled_is_known_beforehand() {
    let temp = tempfile::tempdir().unwrap();
    check_writable(&temp.path().join("runs/deep/new"), 1_000).unwrap();
    assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 0, "a check leaves nothing behind");
    let text = message(check_writable(temp.path(), u64::MAX));
    assert!(text.contains("free") && text.contains("needed"), "{text}");
    let file = temp.path().join("file");
    fs::write(&file, "").unwrap();
    assert!(message(check_writable(&file.join("run"), 0)).contains("cannot write here"));
    assert!(message(RunDir::create(&file.join("run"), &plan())).contains("cannot create"));
    // Not even root may make files here.
    assert!(message(check_writable(Path::new("/proc/self/net"), 0)).contains("cannot write here"));
}

#[test]
fn default_names_are_stamped_and_safe() {
    let at: jiff::Timestamp = "2026-01-02T03:04:05.678Z".parse().unwrap();
    assert_eq!(default_dir("first", at), Path::new("runs/20260102T030405Z-first"));
    assert_eq!(default_dir("../a b/é", at), Path::new("runs/20260102T030405Z-..-a-b-é"));
    assert_eq!(utc_stamp(at), "2026-01-02T03:04:05Z");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// No bytes make the reader panic, and whole records before them are never lost.
    #[test]
    fn any_tail_is_survived(tail in proptest::collection::vec(any::<u8>(), 0..400)) {
        let temp = tempfile::tempdir().unwrap();
        let records = written(temp.path());
        append_raw(temp.path(), &tail);
        match RunDir::salvage(temp.path()) {
            Ok((run, _)) => prop_assert_eq!(&run.records[..3], &records[..]),
            Err(e) => prop_assert!(matches!(e, StoreError::Newer { .. }), "{}", e),
        }
    }
}

/// Rows that would be believed although they say what cannot be.
#[test]
fn rows_that_lie_are_named_with_file_and_line_and_left_out() {
    type Change = fn(&mut serde_json::Value);
    let cases: [(&str, Change); 27] = [
        ("a second row of tokio-hyper-l64-p1-c1 block 1, which line 3 has already", |_| ()),
        ("service_ns says 1,999 values and its histogram holds 2,000", |row| {
            row["block"] = 7.into();
            row["service_ns"]["count"] = 1_999.into();
        }),
        ("not an HdrHistogram", |row| {
            row["block"] = 7.into();
            let hdr = row["service_ns"]["hdr"].as_str().unwrap().to_string();
            row["service_ns"]["hdr"] = hdr[..hdr.len() / 8 * 4].into();
        }),
        ("connect_ns says 64 values and its histogram holds 2,000", |row| {
            row["block"] = 7.into();
            row["connect_ns"]["hdr"] = row["service_ns"]["hdr"].clone();
        }),
        ("service_ns holds 64 values where the ledger counts 2,000", |row| {
            row["block"] = 7.into();
            row["service_ns"] = row["connect_ns"].clone();
        }),
        ("failed_ns holds 64 values where the ledger counts 0", |row| {
            row["block"] = 7.into();
            row["failed_ns"] = row["connect_ns"].clone();
        }),
        ("a cell with no lanes", |row| {
            row["block"] = 7.into();
            row["cell"]["lanes"] = 0.into();
        }),
        ("achieved_per_s is -5.0, which is impossible", |row| {
            row["block"] = 7.into();
            row["achieved_per_s"] = (-5).into();
        }),
        ("achieved_per_s is 1e300, which is impossible", |row| {
            row["block"] = 7.into();
            row["achieved_per_s"] = 1e300.into();
        }),
        ("service_ns is -1.0, which is impossible", |row| {
            row["block"] = 7.into();
            row["service_ns"]["mean"] = (-1).into();
        }),
        ("service_ns says that 5 ns is its greatest value, and its histogram ", |row| {
            row["block"] = 7.into();
            row["service_ns"]["max"] = 5.into();
        }),
        ("service_ns says that 900,000,000 ns is its least value, and its histogram ", |row| {
            row["block"] = 7.into();
            row["service_ns"]["min"] = 900_000_000.into();
        }),
        ("switches.voluntary is 18446744073709551615, which is impossible", |row| {
            row["block"] = 7.into();
            row["switches"]["voluntary"] = u64::MAX.into();
        }),
        ("cpu.per_request_ns is -5.0, which is impossible", |row| {
            row["block"] = 7.into();
            row["cpu"]["per_request_ns"] = (-5).into();
        }),
        ("memory.baseline_rss_bytes is 9223372036854775807, which is impossible", |row| {
            row["block"] = 7.into();
            row["memory"]["baseline_rss_bytes"] = i64::MAX.into();
        }),
        ("the ledger does not balance", |row| {
            row["block"] = 7.into();
            row["ledger"]["completed"] = 3.into();
        }),
        ("achieved_per_s is 13000, and what it follows from comes to 1", |row| {
            row["block"] = 7.into();
            row["achieved_per_s"] = 13_000.into();
        }),
        ("achieved_per_s is ", |row| {
            row["block"] = 7.into();
            row["rate_requests"] = 1_990.into();
        }),
        ("cpu.per_request_ns is 1, and what it follows from comes to ", |row| {
            row["block"] = 7.into();
            row["cpu"]["per_request_ns"] = 1.into();
        }),
        ("cpu.per_request_ns is ", |row| {
            row["block"] = 7.into();
            row["cpu"]["monitor_ns"] = 9_000.into();
        }),
        ("events.syscalls_per_request is 3, and what it follows from comes to 2", |row| {
            row["block"] = 7.into();
            row["events"]["syscalls"] = 4_000.into();
            row["events"]["syscalls_per_request"] = 3.into();
        }),
        ("service_ns says that 5,000,001,000 ns is its p99, and its histogram ", |row| {
            row["block"] = 7.into();
            row["service_ns"]["p99"] = 5_000_001_000u64.into();
        }),
        ("service_ns says that 7 ns is its median, and its histogram ", |row| {
            row["block"] = 7.into();
            row["service_ns"]["p50"] = 7.into();
        }),
        ("service_ns says that 10,000,000 ns is its mean, and its histogram ", |row| {
            row["block"] = 7.into();
            row["service_ns"]["mean"] = 1e7.into();
        }),
        ("completed_in_window is 2001, but only 2000 requests completed", |row| {
            row["block"] = 7.into();
            row["completed_in_window"] = 2_001.into();
        }),
        ("classes.small.times_ns holds 2,000 values where the ledger counts 64", |row| {
            row["block"] = 7.into();
            let ledger =
                r#"{"planned": 64, "completed": 64, "failed": 0, "timed_out": 0, "unsent": 0}"#;
            let ledger: serde_json::Value = serde_json::from_str(ledger).unwrap();
            row["classes"]["small"]["ledger"] = ledger;
            row["classes"]["small"]["times_ns"] = row["service_ns"].clone();
            row["classes"]["small"]["service_ns"] = serde_json::Value::Null;
        }),
        ("class small has 4000 requests, but the trial only 2000", |row| {
            row["block"] = 7.into();
            let ledger =
                r#"{"planned": 4000, "completed": 0, "failed": 4000, "timed_out": 0, "unsent": 0}"#;
            let ledger: serde_json::Value = serde_json::from_str(ledger).unwrap();
            row["classes"]["small"]["ledger"] = ledger;
            row["classes"]["small"]["times_ns"] = serde_json::Value::Null;
            row["classes"]["small"]["service_ns"] = serde_json::Value::Null;
        }),
    ];
    for (why, change) in cases {
        let temp = tempfile::tempdir().unwrap();
        let records = written(temp.path());
        let mut row = serde_json::to_value(&records[2]).unwrap();
        change(&mut row);
        append_raw(temp.path(), format!("{row}\n").as_bytes());
        let (run, damage) = RunDir::salvage(temp.path()).unwrap();
        assert_eq!(run.records, records, "{why}: what is whole is kept");
        let said: Vec<String> = damage.iter().map(ToString::to_string).collect();
        assert_eq!(said.len(), 1, "{why}: {said:?}");
        assert!(
            said[0].contains(&format!("{TRIALS_FILE}:4: ")) && said[0].contains(why),
            "{said:?}"
        );
        for command in ["report", "compare", "capacity"] {
            let mut duel = std::process::Command::new(env!("CARGO_BIN_EXE_duel"));
            duel.arg(command).arg(temp.path());
            match command {
                "compare" => duel.arg(temp.path()),
                "capacity" => duel.args(["--rate", "1k"]),
                _ => &mut duel,
            };
            let out = duel.output().expect("the binary starts");
            assert_eq!(out.status.code(), Some(2), "{command}: {why}");
            assert!(String::from_utf8_lossy(&out.stderr).contains(why), "{command}: {why}");
        }
    }
}

#[test]
fn what_was_noisy_or_interrupted_may_have_a_second_row() {
    for change in [(|r: &mut TrialRecord| r.flags.push(Flag::Noisy)) as fn(&mut TrialRecord), |r| {
        r.status = Status::Interrupted;
    }] {
        let temp = tempfile::tempdir().unwrap();
        let mut dir = RunDir::create(temp.path(), &plan()).unwrap();
        let mut first = trial(Engine::Tokio, 0);
        change(&mut first);
        let mut again = trial(Engine::Tokio, 0);
        again.started_unix_ns = first.started_unix_ns.map(|at| at + 1);
        dir.append(&first).unwrap();
        dir.append(&again).unwrap();
        // Twice the same row is no repeat, noisy or not.
        let copy = again.clone();
        dir.append(&copy).unwrap();
        let (run, damage) = RunDir::salvage(temp.path()).unwrap();
        assert_eq!((run.records.len(), damage.len()), (2, 1), "{damage:?}");
    }
}

#[test]
fn a_pipe_or_a_device_in_place_of_a_file_holds_nobody_up() {
    for file in [PLAN_FILE, TRIALS_FILE] {
        for node in ["pipe", "/dev/zero"] {
            let temp = tempfile::tempdir().unwrap();
            written(temp.path());
            let at = temp.path().join(file);
            fs::remove_file(&at).unwrap();
            match node {
                "pipe" => rustix::fs::mkfifoat(rustix::fs::CWD, &at, 0o600.into()).unwrap(),
                device => std::os::unix::fs::symlink(device, &at).unwrap(),
            }
            for said in [message(RunDir::open(temp.path())), message(RunDir::resume(temp.path()))] {
                assert!(said.contains(file) && said.contains("not a regular file"), "{said}");
            }
        }
    }
}

/// What a report writes over may be a pipe, a device or a link that leads elsewhere.
#[test]
fn a_pipe_or_a_link_in_place_of_a_part_of_the_report_makes_way() {
    let temp = tempfile::tempdir().unwrap();
    let (run, elsewhere) = (temp.path().join("run"), temp.path().join("elsewhere"));
    written(&run);
    fs::write(&elsewhere, "untouched").unwrap();
    fs::create_dir(run.join("hdr")).unwrap();
    let parts = ["report.md", "report.md.tmp", "report.html", "trials.csv", "cells.csv"];
    let id = sample::cell(Engine::Tokio).id;
    for part in parts.map(String::from).into_iter().chain([format!("hdr/{id}.hlog")]) {
        let at = run.join(&part);
        for link in [false, true] {
            let _ = fs::remove_file(&at);
            match link {
                true => std::os::unix::fs::symlink(&elsewhere, &at).unwrap(),
                false => rustix::fs::mkfifoat(rustix::fs::CWD, &at, 0o600.into()).unwrap(),
            }
            let mut report = std::process::Command::new(env!("CARGO_BIN_EXE_duel"));
            let status = report.arg("report").arg(&run).output().expect("the binary starts").status;
            assert_eq!(status.code(), Some(0), "{part}");
            assert_eq!(fs::read_to_string(&elsewhere).unwrap(), "untouched", "{part}");
        }
    }
}

/// Every value of the plan, by the path that leads to it.
fn places(value: &serde_json::Value, path: String, out: &mut Vec<String>) {
    match value {
        serde_json::Value::Object(all) => {
            all.iter().for_each(|(key, value)| places(value, format!("{path}/{key}"), out));
        }
        serde_json::Value::Array(all) => {
            let items = all.iter().enumerate();
            items.for_each(|(nth, value)| places(value, format!("{path}/{nth}"), out));
        }
        _ => {}
    }
    out.push(path);
}

/// What a plan says stands in one file, and every reader takes a part of it: none of them goes on
/// without what it cannot read, whichever it is.
#[test]
fn no_part_of_a_plan_that_cannot_be_read_is_left_out_in_silence() {
    let temp = tempfile::tempdir().unwrap();
    written(temp.path());
    let file = temp.path().join(PLAN_FILE);
    let whole: serde_json::Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    assert!(RunDir::open(temp.path()).is_ok());
    let mut all = Vec::new();
    places(&whole, String::new(), &mut all);
    // What is printed as it stands.
    let free = |path: &str| path.starts_with("/machine/");
    // A list of lists is none of the values that a plan holds.
    let misfit = serde_json::json!([[["misfit"]]]);
    for path in all.iter().filter(|path| !path.is_empty() && !free(path)) {
        let mut damaged = whole.clone();
        *damaged.pointer_mut(path).unwrap() = misfit.clone();
        let text = serde_json::to_string_pretty(&damaged).unwrap();
        fs::write(&file, &text).unwrap();
        let said = match RunDir::salvage(temp.path()) {
            Err(error) => error.to_string(),
            Ok(_) => panic!("{path}: believed"),
        };
        // Without a version nothing is known of what follows.
        let foreign = path == "/format_version";
        assert!(foreign || said.contains("plan.json:"), "{path}: {said}");
        // The line is that of the misfit, where nothing has to be looked at as a whole first.
        if path.starts_with("/config/slo/") || path.starts_with("/config/equal") {
            let at = text.lines().position(|line| line.contains("misfit")).unwrap() + 1;
            let named = said.split("plan.json:").nth(1).and_then(|at| at.split(':').next());
            let named: usize = named.unwrap().parse().unwrap();
            assert!((at - 4..=at).contains(&named), "{path}: {said}, not {at}");
        }
    }
    assert!(all.len() > 100, "{}", all.len());
}

/// The same, and values that nothing can be, as the commands say it.
#[test]
fn commands_name_the_part_of_a_plan_that_they_cannot_read() {
    let temp = tempfile::tempdir().unwrap();
    written(temp.path());
    let file = temp.path().join(PLAN_FILE);
    let whole: serde_json::Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    let search = r#"{"tolerance": 0.0, "probes": 9, "trials": 3, "max_trials": 20, "min_per_s": 1.0,
                     "max_per_s": 9.0}"#;
    for (path, value, says) in [
        ("/config", "null", "`config` cannot be read"),
        ("/config", "\"x\"", "`config` cannot be read"),
        ("/config/slo", "{ \"p99\": 5 }", "unknown field `p99`"),
        ("/config/slo", "5", "`config` cannot be read"),
        ("/config/slo/error_rate", "-0.5", "error_rate is -0.5, which is not a share"),
        ("/config/slo/p99_ns", "-1", "`config` cannot be read"),
        ("/config/slo/p99_ns", "1e400", "number out of range"),
        ("/config/expect/0/by", "0.0", "by is 0, which is not a factor"),
        ("/config/equal_within", "17", "equal_within is 17, which is not a share"),
        ("/config/baseline", "\"fibers\"", "unknown variant `fibers`"),
        ("/config/search", "{}", "missing field"),
        ("/config/search", search, "the search is out of range"),
        ("/machine", "\"x\"", "`machine` cannot be read"),
        ("/machine", "{ \"cpus_online\": \"x\" }", "`machine` cannot be read"),
        ("/limits", "[]", "`limits` cannot be read"),
        ("/cells/0/lanes", "0", "a cell with no lanes"),
    ] {
        let mut damaged = whole.clone();
        let marked = serde_json::Value::from("the place");
        match damaged.pointer_mut(path) {
            Some(place) => *place = marked,
            None => damaged["config"]["search"] = marked,
        }
        let text = serde_json::to_string_pretty(&damaged).unwrap();
        fs::write(&file, text.replace("\"the place\"", value)).unwrap();
        for command in ["report", "compare", "capacity"] {
            let mut duel = std::process::Command::new(env!("CARGO_BIN_EXE_duel"));
            duel.arg(command).arg(temp.path());
            match command {
                "compare" => duel.arg(temp.path()),
                "capacity" => duel.args(["--rate", "1k"]),
                _ => &mut duel,
            };
            let out = duel.output().expect("the binary starts");
            let stderr = String::from_utf8_lossy(&out.stderr);
            assert_eq!(out.status.code(), Some(2), "{command}: {path} = {value}: {stderr}");
            assert!(stderr.contains("plan.json:") && stderr.contains(says), "{path}: {stderr}");
        }
    }
}

/// Beside the rows a run holds its timeline, and a merged one the rows of its shards.
#[test]
fn a_report_names_the_line_of_each_file_that_it_cannot_read() {
    let look = r#"{"cell":"c","block":0,"worker":0,"t_ns":5,"rss_bytes":null,"cpu_ns":1,
                   "threads":null,"in_flight":null,"completed":null,"cost_ns":2}"#;
    let look = look.replace('\n', "");
    for (file, lines, says) in [
        ("timeline.jsonl", format!("{look}\nnonsense\n"), "timeline.jsonl:2: "),
        ("timeline.jsonl", format!("{look}\n{{\"cell\":5}}\n"), "timeline.jsonl:2: "),
        ("timeline.jsonl", look.replace("\"t_ns\":5", "\"t_ns\":-5"), "timeline.jsonl:1: "),
        ("shards.jsonl", "nonsense\n".into(), "shards.jsonl:1: "),
        ("proof/plan.json", "{\"format_version\": 2}".into(), "proof/plan.json:1: "),
    ] {
        let temp = tempfile::tempdir().unwrap();
        written(temp.path());
        fs::create_dir(temp.path().join("proof")).unwrap();
        fs::write(
            temp.path().join("proof").join(PLAN_FILE),
            fs::read(temp.path().join(PLAN_FILE)).unwrap(),
        )
        .unwrap();
        let report = || {
            let mut duel = std::process::Command::new(env!("CARGO_BIN_EXE_duel"));
            let out = duel.arg("report").arg(temp.path()).output().expect("the binary starts");
            (out.status.code(), String::from_utf8_lossy(&out.stderr).into_owned())
        };
        // A line that a crash cut off is none of these.
        fs::write(temp.path().join("timeline.jsonl"), format!("{look}\n{}", &look[..20])).unwrap();
        assert_eq!(report(), (Some(0), String::new()));
        fs::write(temp.path().join(file), lines).unwrap();
        let (code, stderr) = report();
        assert_eq!(code, Some(2), "{file}: {stderr}");
        assert!(stderr.contains(says), "{file}: {stderr}");
        assert!(temp.path().join("report.html").exists(), "what is readable is shown");
    }
}
