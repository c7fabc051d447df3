//! Shards of one plan: together they send what one run does, start at one instant, and are merged
//! without loss; whatever does not fit together is refused or marked.

use crate::common;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use common::{Sweep, duel, output, records, text};
use duel::format::histogram;
use duel::format::{Channel, Distribution, Ledger, Status, TrialRecord};
use duel::plan::sweep::Target;
use duel::server::TargetReport;
use serde_json::Value;

/// An open loop whose arrivals are few, so that a busy machine sends all of them.
const OPEN: &str = r#"
name = "shards"
[target]
service_time = "1ms"
[plan]
arrivals = "poisson"
duration = "300ms"
warmup = "100ms"
[sweep]
engines = ["threads", "tokio"]
codecs = ["lean"]
lanes = [6]
processes = [2]
rates = [300]
trials = 2
noise_repeats = 0
"#;

struct Shards {
    sweep: Sweep,
}

impl Shards {
    fn new(toml: &str) -> Self {
        Shards { sweep: Sweep::new(toml) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.sweep.home.path().join(name)
    }

    fn command(&self, shard: &str, out: &str, more: &[&str]) -> Command {
        let mut command = duel(&["run", "--shard", shard, "--out"]);
        command.arg(self.path(out)).arg(self.sweep.config()).args(more);
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        command
    }

    fn meeting(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// Runs two shards side by side, `a` and `b`, and answers with their exit codes and messages.
    fn pair(&self, meeting: &str, more: &[&str]) -> [(i32, String); 2] {
        let place = self.meeting(meeting);
        let with = [&["--rendezvous", place.as_str(), "--rendezvous-wait", "60s"], more].concat();
        let children: Vec<Child> = [("0/2", "a"), ("1/2", "b")]
            .map(|(shard, out)| self.command(shard, out, &with).spawn().expect("duel starts"))
            .into();
        let ended: Vec<(i32, String)> = children
            .into_iter()
            .map(|child| {
                let out = child.wait_with_output().expect("a child of this process");
                let said = String::from_utf8_lossy(&out.stderr).into_owned();
                (out.status.code().unwrap_or(-1), said)
            })
            .collect();
        ended.try_into().expect("two")
    }

    fn merge(&self, dirs: &[&str], out: &str) -> (i32, String) {
        let mut command = duel(&["merge"]);
        command.args(dirs.iter().map(|d| self.path(d))).arg("--out").arg(self.path(out));
        let out = output(&mut command);
        (out.status.code().unwrap_or(-1), text(&out).1)
    }

    fn refused(&self, dirs: &[&str], says: &[&str]) {
        let (code, stderr) = self.merge(dirs, "refused");
        assert_eq!(code, 2, "{dirs:?}: {stderr}");
        for part in says {
            assert!(stderr.contains(part), "{dirs:?}: `{part}` is missing in: {stderr}");
        }
        assert!(!self.path("refused").exists(), "nothing is written");
    }
}

fn by_trial(rows: &[TrialRecord]) -> BTreeMap<(String, u32), TrialRecord> {
    rows.iter().map(|r| ((r.cell.id.clone(), r.block), r.clone())).collect()
}

/// Percentiles of a merged row are those of one histogram into which every count went, bit for bit,
/// for every histogram that a part has.
fn assert_lossless(whole: &TrialRecord, parts: &[&TrialRecord]) {
    for channel in Channel::ALL {
        let name = channel.field();
        let parts: Vec<_> = parts.iter().filter_map(|part| part.histogram(*channel)).collect();
        assert_eq!(whole.histogram(*channel).is_some(), !parts.is_empty(), "{name}");
        let mut all = histogram::empty();
        for part in &parts {
            let part = histogram::decode(&part.hdr).unwrap();
            for bucket in part.iter_recorded() {
                all.record_n(bucket.value_iterated_to(), bucket.count_at_value()).unwrap();
            }
        }
        let Some(merged) = whole.histogram(*channel) else { continue };
        let one = histogram::summarize(&all).unwrap();
        // The mean is a decimal fraction in the file; all else is whole numbers.
        assert!((merged.mean / one.mean - 1.0).abs() < 1e-12, "{} {}", merged.mean, one.mean);
        let one = Distribution { mean: merged.mean, ..one };
        assert_eq!(*merged, one, "{name} of {}", whole.cell.id);
    }
}

#[test]
fn two_shards_send_what_one_run_does_and_merge_without_loss() {
    let shards = Shards::new(OPEN);
    let [a, b] = shards.pair("meet", &[]);
    let whole = shards.sweep.run();
    let (code, said) = shards.merge(&["b", "a"], "merged");
    // A busy machine may fail a gate of pacing; that is no matter here.
    assert!([0, 4].contains(&code), "{said}\n{}\n{}", a.1, b.1);

    let [a, b, merged] = ["a", "b", "merged"].map(|d| by_trial(&records(&shards.path(d))));
    assert_eq!(merged.len(), 4, "{said}");
    for one in &whole.records {
        let key = (one.cell.id.clone(), one.block);
        let (row, parts) = (&merged[&key], [&a[&key], &b[&key]]);
        assert_eq!(row.ledger.planned, one.ledger.planned, "the plan is the same: {key:?}");
        assert_eq!(row.ledger, one.ledger, "ledger of {key:?}");
        assert_eq!(row.warmup, one.warmup, "warm-up ledger of {key:?}");
        assert_eq!(row.bytes.sent, one.bytes.sent, "the same requests: {key:?}");
        assert_eq!(row.target.received, one.target.received, "as the target saw it: {key:?}");
        assert_eq!((row.cell.clone(), row.shard), (one.cell.clone(), None));
        for (index, part) in parts.iter().enumerate() {
            let shard = serde_json::to_value(part.shard).unwrap();
            assert_eq!(shard, serde_json::json!({"index": index, "count": 2}));
            assert_eq!((part.cell.lanes, part.cell.total_lanes), (3, 6), "its share of the lanes");
            assert!(part.shard_start.as_ref().unwrap().late_ns.is_some(), "{key:?}");
        }
        assert_lossless(row, &parts);
        let sum = |of: fn(&TrialRecord) -> u64| parts.iter().map(|p| of(p)).sum::<u64>();
        assert_eq!(row.cpu.total_ns, sum(|r| r.cpu.total_ns));
        assert_eq!(row.memory.peak_rss_bytes, sum(|r| r.memory.peak_rss_bytes));
        let faults = |r: &TrialRecord| r.events.minor_faults.unwrap_or(0);
        assert_eq!(faults(row), parts.iter().map(|p| faults(p)).sum::<u64>());
        let parks = |r: &TrialRecord| r.runtime.map_or(0, |r| r.parks);
        assert_eq!(parks(row), parts.iter().map(|p| parks(p)).sum::<u64>());
        let start = row.shard_start.as_ref().unwrap();
        assert_eq!(start.shards, Some(2));
        assert!(start.skew_ns.is_some() && start.agreed_unix_ns.is_some(), "{start:?}");
    }
    // The merged directory is one like any other, in which the shards stay visible.
    let merged = shards.path("merged");
    let shown = text(&output(duel(&["report"]).arg(&merged)));
    assert!(shown.0.contains("shard 1/2"), "{}{}", shown.0, shown.1);
    for report in ["report.md", "report.html"] {
        let all = std::fs::read_to_string(merged.join(report)).unwrap();
        assert!(all.contains("shards of ") && all.contains("shard 1/2"), "{report} has no shards");
    }
    let with_itself = output(duel(&["compare"]).arg(&merged).arg(&merged));
    assert!([Some(0), Some(2)].contains(&with_itself.status.code()), "{:?}", text(&with_itself));
    let lines = std::fs::read_to_string(merged.join("shards.jsonl")).unwrap();
    assert_eq!(lines.lines().count(), 8, "every row of every shard");
}

/// A target that keeps a digest of every request, for as many runs as are sent to it.
struct Witness {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
    address: String,
}

impl Witness {
    fn start() -> Witness {
        let sweep = duel::config::parse("name = \"x\"", "test", &[], Path::new(".")).unwrap();
        let Target::Embedded(spec) = sweep.target else { panic!("no url is named") };
        let job = serde_json::json!({
            "listen": "127.0.0.1:0", "spec": spec, "seed": 1, "cpus": [], "digest": true,
        });
        let mut command = duel(&["target", "--control"]);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
        writeln!(child.stdin.as_mut().expect("piped"), "{job}").expect("it reads");
        let mut lines = BufReader::new(child.stdout.take().expect("piped"));
        let mut line = String::new();
        lines.read_line(&mut line).expect("it listens");
        let said: Value = serde_json::from_str(&line).expect("one line of JSON");
        let address = said["listening"].as_str().expect("an address").to_string();
        Witness { child, lines, address }
    }

    /// Every request that came, by the first half of its digest, in order of arrival.
    fn requests(mut self) -> Vec<[u8; 16]> {
        drop(self.child.stdin.take());
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("it reports");
        self.child.wait().expect("a child of this process");
        let report: TargetReport = serde_json::from_str(&line).expect("a report");
        let (_, seen) = report.digest.expect("it was asked for").decode().expect("digests");
        seen.iter().map(|s| s.digest).collect()
    }
}

#[test]
fn a_target_gets_the_same_multiset_of_requests_from_shards_as_from_one_run() {
    let witness = Witness::start();
    let shards = Shards::new(&format!(
        r#"
name = "digest"
[target]
url = "http://{}"
[plan]
requests = 61
[plan.values]
id = {{ counter = {{ start = 100, step = 2 }} }}
digit = {{ random = [0, 9999] }}
[[plan.request]]
path = "/item/{{id}}?digit={{digit}}"
weight = 2
[[plan.request]]
method = "POST"
path = "/other/{{id}}"
body = "{{digit}}"
[sweep]
engines = ["tokio"]
codecs = ["lean"]
lanes = [5]
processes = [2]
trials = 1
noise_repeats = 0
"#,
        witness.address
    ));
    let one = shards.sweep.run();
    assert_eq!(one.records[0].ledger.completed, 61, "{}", one.stderr);
    let ended = shards.pair("meet", &[]);
    let mut whole = witness.requests();
    assert_eq!(whole.len(), 2 * 61, "each request once by the run, once by the shards: {ended:?}");
    let mut parts = whole.split_off(61);
    let distinct: std::collections::BTreeSet<_> = whole.iter().collect();
    assert!(distinct.len() > 55, "requests that a digest can tell apart: {}", distinct.len());
    whole.sort_unstable();
    parts.sort_unstable();
    assert_eq!(whole, parts, "the same multiset of requests, byte for byte");
}

/// Shards that share a directory but nothing else; the requests are a closed loop's.
const CLOSED: &str = r#"
name = "closed"
[plan]
requests = 41
[sweep]
engines = ["tokio-single"]
codecs = ["lean"]
lanes = [3]
trials = 2
"#;

#[test]
fn a_shard_that_is_killed_leaves_invalid_rows_and_no_gap() {
    let slow = CLOSED.replace("[plan]", "[target]\nservice_time = \"100ms\"\n[plan]");
    let shards = Shards::new(&slow);
    let meeting = shards.meeting("meet");
    let with = ["--rendezvous", meeting.as_str(), "--rendezvous-wait", "3s"];
    let a = shards.command("0/2", "a", &with).spawn().expect("duel starts");
    let mut b = shards.command("1/2", "b", &with).spawn().expect("duel starts");
    // Trials are told apart by their directory: the second one is under way, with ten turns left.
    let second = shards.path("meet/t1/start.json");
    common::eventually("the second trial starts", || second.exists());
    b.kill().expect("shard 1 is alive");
    b.wait().expect("a child of this process");
    let a = a.wait_with_output().expect("a child of this process");
    let said = String::from_utf8_lossy(&a.stderr).into_owned();
    assert_eq!(a.status.code(), Some(4), "{said}");
    assert!(said.contains("shard 1 did not answer"), "{said}");
    let mine = records(&shards.path("a"));
    assert_eq!(mine[1].status, Status::Invalid, "{:?}", mine[1].gates);

    let (code, said) = shards.merge(&["a", "b"], "merged");
    assert_eq!(code, 4, "{said}");
    let merged = records(&shards.path("merged"));
    assert_eq!(merged[1].status, Status::Invalid);
    assert!(merged[1].error.as_ref().unwrap().contains("from shard 1"), "{:?}", merged[1].error);
    let planned: Vec<u64> = merged.iter().map(|r| r.ledger.planned).collect();
    assert_eq!(planned, [41, 41], "never silently smaller");
    assert_eq!(merged[1].ledger.unsent, 20, "what shard 1 was to send: {:?}", merged[1].ledger);
}

#[test]
fn shards_that_cannot_be_one_run_are_refused_before_the_first_trial() {
    let shards = Shards::new(CLOSED);
    let cases: &[(&str, &[&str], &str)] = &[
        ("2/2", &[], "0 <= k < n"),
        ("x", &[], "0 <= k < n"),
        ("0/4", &[], "cannot be divided among 4 shards"),
        ("0/2", &["--set", "plan.duration=1s", "--set", "plan.requests="], "plan.requests"),
        ("0/2", &["--start-at", "tomorrow"], "RFC 3339"),
        ("0/2", &["--start-at", "2020-01-01T00:00:00Z"], "ago"),
        ("0/2", &["--set", "target.servers=2"], "--rendezvous"),
        ("0/2", &["--resume"], "resume"),
        ("auto", &[], "no scheduler"),
    ];
    for (shard, more, says) in cases {
        let mut command = shards.command(shard, "none", more);
        for name in ["SLURM_PROCID", "OMPI_COMM_WORLD_RANK", "JOB_COMPLETION_INDEX"] {
            command.env_remove(name);
        }
        let out = output(&mut command);
        let (_, stderr) = text(&out);
        assert_eq!(out.status.code(), Some(2), "{shard} {more:?}: {stderr}");
        assert!(stderr.contains(says), "{shard} {more:?}: `{says}` is missing in: {stderr}");
        assert!(!shards.path("none").exists(), "{shard} {more:?}: nothing is written");
    }
    let by_duration = Shards::new(&CLOSED.replace("requests = 41", "duration = \"50ms\""));
    let out = output(&mut by_duration.command("0/2", "none", &[]));
    assert_eq!(out.status.code(), Some(2));
    assert!(text(&out).1.contains("--force"), "{}", text(&out).1);
    let out = output(&mut by_duration.command("0/2", "forced", &["--force"]));
    assert!([Some(0), Some(4)].contains(&out.status.code()), "{}", text(&out).1);

    // Plans that differ are found where shards meet, and by both of them.
    let meeting = shards.meeting("meet");
    let with = ["--rendezvous", meeting.as_str()];
    let other = [&with[..], &["--set", "plan.seed=2"]].concat();
    let children = [
        shards.command("0/2", "a", &with).spawn().unwrap(),
        shards.command("1/2", "b", &other).spawn().unwrap(),
    ];
    for child in children {
        let out = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(out.status.code(), Some(2), "{said}");
        assert!(said.contains("shard 1 has another plan"), "{said}");
    }
    // The seat is taken.
    let out = output(&mut shards.command("1/2", "b", &with));
    assert!(text(&out).1.contains("shard 1 is there already"), "{}", text(&out).1);
    assert!(!shards.path("a").exists() && !shards.path("b").exists(), "nothing is written");
}

/// Rewrites a field of a plan.json and of every row.
fn edit(dir: &Path, change: impl Fn(&mut Value)) {
    let plan = dir.join("plan.json");
    let mut value: Value = serde_json::from_slice(&std::fs::read(&plan).unwrap()).unwrap();
    change(&mut value);
    std::fs::write(&plan, value.to_string()).unwrap();
    let trials = dir.join("trials.jsonl");
    let mut lines = String::new();
    for line in std::fs::read_to_string(&trials).unwrap().lines() {
        let mut value: Value = serde_json::from_str(line).unwrap();
        change(&mut value);
        lines += &format!("{value}\n");
    }
    std::fs::write(trials, lines).unwrap();
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for name in ["plan.json", "trials.jsonl"] {
        std::fs::copy(from.join(name), to.join(name)).unwrap();
    }
}

#[test]
fn directories_that_are_not_the_shards_of_one_run_are_refused() {
    let shards = Shards::new(CLOSED);
    let [a, b] = shards.pair("meet", &[]);
    assert!([0, 4].contains(&a.0) && [0, 4].contains(&b.0), "{}{}", a.1, b.1);
    shards.refused(&["a"], &["1 of 2 shards is missing: 1"]);
    shards.refused(&["a", "a"], &["shard 0 of 2 is given twice"]);
    shards.refused(&["a", "b", "b"], &["shard 1 of 2 is given twice"]);
    shards.refused(&["a", "nowhere"], &["nowhere", "does not exist"]);
    let whole = shards.sweep.run();
    assert_eq!(whole.records.len(), 2);
    shards.refused(&["a", "out"], &["holds a whole run"]);
    for (name, says, change) in [
        ("plan", "the plan hash differs", "/plan_hash"),
        ("binary", "the duel binary differs", "/versions/binary_digest"),
    ] {
        copy(&shards.path("b"), &shards.path(name));
        edit(&shards.path(name), |v| {
            if let Some(field) = v.pointer_mut(change) {
                *field = "0f".into();
            }
        });
        shards.refused(&["a", name], &[says, "0f"]);
    }
    copy(&shards.path("b"), &shards.path("newer"));
    edit(&shards.path("newer"), |v| v["format_version"] = 9.into());
    shards.refused(&["a", "newer"], &["format version 9"]);
    copy(&shards.path("b"), &shards.path("swapped"));
    std::fs::copy(shards.path("a/trials.jsonl"), shards.path("swapped/trials.jsonl")).unwrap();
    shards.refused(&["a", "swapped"], &["trials.jsonl:1", "a record of another shard"]);

    // What is there is never written over.
    let (code, said) = shards.merge(&["a", "b"], "out");
    assert_eq!((code, said.contains("not empty")), (2, true), "{said}");

    // A torn last line is the row of a shard that was killed: flagged, and its trial is invalid.
    copy(&shards.path("b"), &shards.path("torn"));
    let trials = shards.path("torn/trials.jsonl");
    let bytes = std::fs::read(&trials).unwrap();
    std::fs::write(&trials, &bytes[..bytes.len() - 40]).unwrap();
    let (code, said) = shards.merge(&["a", "torn"], "with-torn");
    assert_eq!(code, 4, "{said}");
    assert!(said.contains("torn"), "{said}");
    let rows = records(&shards.path("with-torn"));
    assert_eq!(rows[1].status, Status::Invalid);
    let ledger = rows[1].ledger;
    assert_eq!(ledger, Ledger { planned: 41, completed: 21, unsent: 20, ..Ledger::default() });
    let (code, said) = shards.merge(&["with-torn", "a"], "again");
    assert_eq!((code, said.contains("was merged already")), (2, true), "{said}");
}

/// Rewrites the lines of a trials.jsonl, each without its end.
fn rewrite(dir: &Path, change: impl Fn(Vec<String>) -> Vec<String>) {
    let file = dir.join("trials.jsonl");
    let text = std::fs::read_to_string(&file).unwrap();
    let lines = change(text.lines().map(String::from).collect());
    std::fs::write(file, lines.join("\n") + "\n").unwrap();
}

/// A field of the row of the second trial.
fn with(dir: &Path, path: &str, to: impl Fn(&Value) -> Value) {
    rewrite(dir, |mut lines| {
        let mut row: Value = serde_json::from_str(&lines[1]).unwrap();
        let field = row.pointer_mut(path).unwrap_or_else(|| panic!("no {path} in {}", lines[1]));
        *field = to(field);
        lines[1] = row.to_string();
        lines
    });
}

/// What no reader of one run believes, no merge of several adds up.
#[test]
fn damaged_shards_are_refused_with_file_and_line_and_nothing_is_written() {
    let shards = Shards::new(CLOSED);
    let [a, b] = shards.pair("meet", &[]);
    assert!([0, 4].contains(&a.0) && [0, 4].contains(&b.0), "{}{}", a.1, b.1);
    type Damage = fn(&Path);
    let cases: &[(&str, Damage)] = &[
        ("trials.jsonl:2: service_ns: not an HdrHistogram", |dir| {
            with(dir, "/service_ns/hdr", |hdr| {
                let hdr = hdr.as_str().unwrap();
                hdr[..hdr.len() / 8 * 4].into()
            });
        }),
        ("trials.jsonl:2: service_ns says 19 values and its histogram holds 20", |dir| {
            with(dir, "/service_ns/count", |count| (count.as_u64().unwrap() - 1).into());
        }),
        ("trials.jsonl:2: service_ns says that 1 ns is its p99", |dir| {
            with(dir, "/service_ns/p99", |_| 1.into());
        }),
        ("trials.jsonl:2: service_ns holds 20 values where the ledger counts 19", |dir| {
            with(dir, "/ledger/completed", |_| 19.into());
            with(dir, "/ledger/unsent", |_| 1.into());
        }),
        ("trials.jsonl:2: the ledger does not balance", |dir| {
            with(dir, "/ledger/planned", |_| 5.into());
        }),
        ("trials.jsonl:2: achieved_per_s is ", |dir| {
            with(dir, "/achieved_per_s", |rate| (rate.as_f64().unwrap() * 1.01).into());
        }),
        ("trials.jsonl:2: cpu.per_request_ns is ", |dir| {
            with(dir, "/cpu/per_request_ns", |ns| (ns.as_f64().unwrap() / 2.0).into());
        }),
        ("trials.jsonl:3: a trial twice, or out of order", |dir| {
            rewrite(dir, |lines| [&lines[..], &lines[1..]].concat());
        }),
        ("trials.jsonl:2: a trial twice, or out of order", |dir| {
            rewrite(dir, |lines| lines.into_iter().rev().collect());
        }),
        ("trials.jsonl:2: a record of another plan", |dir| {
            with(dir, "/plan_hash", |_| "0f".into());
        }),
        ("trials.jsonl:2: a record of another duel binary", |dir| {
            with(dir, "/binary_digest", |_| "0f".into());
        }),
        ("trials.jsonl:2: a record of another shard", |dir| {
            with(dir, "/shard/index", |_| 0.into());
        }),
        ("trials.jsonl:2: not a trial record", |dir| with(dir, "/ledger", |_| "x".into())),
        ("trials.jsonl:1: not a trial record", |dir| {
            rewrite(dir, |lines| [vec![String::new()], lines].concat());
        }),
        ("trial 1 is other block 1 in shard 1, and", |dir| {
            with(dir, "/cell/id", |_| "other".into());
        }),
        ("trials.jsonl: cannot read", |dir| {
            let file = dir.join("trials.jsonl");
            std::fs::remove_file(&file).unwrap();
            rustix::fs::mkfifoat(rustix::fs::CWD, &file, 0o600.into()).unwrap();
        }),
        ("it holds no plan.json", |dir| std::fs::remove_file(dir.join("plan.json")).unwrap()),
        ("plan.json:1: `config` cannot be read", |dir| {
            let file = dir.join("plan.json");
            let mut plan: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
            plan["config"]["slo"] = 5.into();
            std::fs::write(file, plan.to_string()).unwrap();
        }),
    ];
    for (number, (says, damage)) in cases.iter().enumerate() {
        let name = format!("damaged-{number}");
        copy(&shards.path("b"), &shards.path(&name));
        damage(&shards.path(&name));
        shards.refused(&["a", &name], &[says]);
    }
    // A shard that was killed before its first row is no damage: its trials have rows that say so.
    copy(&shards.path("b"), &shards.path("killed"));
    std::fs::remove_file(shards.path("killed/trials.jsonl")).unwrap();
    let (code, said) = shards.merge(&["a", "killed"], "short");
    assert_eq!(code, 4, "{said}");
    let rows = records(&shards.path("short"));
    assert!(rows.iter().all(|row| row.status == Status::Invalid), "{said}");
    assert_eq!(rows.iter().map(|row| row.ledger.planned).collect::<Vec<_>>(), [41, 41]);
}

#[test]
fn a_shard_that_comes_after_the_start_sends_nothing_and_says_how_late_it_was() {
    let shards = Shards::new(CLOSED);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let past = (now.as_secs() - 60).to_string();
    let with = ["--start-at", past.as_str(), "--start-every", "1s"];
    let out = output(&mut shards.command("0/2", "a", &with));
    assert_eq!(out.status.code(), Some(1), "nothing completed: {}", text(&out).1);
    for row in records(&shards.path("a")) {
        assert_eq!(row.status, Status::Invalid);
        let late = row.shard_start.unwrap().late_ns.unwrap();
        assert!(late > 50_000_000_000, "a minute, less what slots make up for: {late}");
        let share = u64::from(row.shard.unwrap().index == 0) + 20;
        assert_eq!((row.ledger.planned, row.ledger.unsent), (share, share));
        assert!(row.error.unwrap().contains("after the agreed start"));
    }
}
