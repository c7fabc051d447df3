//! Output that cannot be written: messages are dropped, results are not lost without a word.

use crate::common;

use std::fs::{File, OpenOptions};
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, Stdio};

use common::{DUEL, Sweep, duel, eventually, output, records, text, wait};

const CONFIG: &str = "[plan]\nrequests = 5\n[sweep]\nengines = ['threads', 'tokio']\nlanes = [1]\n\
                      trials = 3\nnoise_repeats = 0\n";

fn full() -> File {
    OpenOptions::new().write(true).open("/dev/full").expect("/dev/full")
}

/// A pipe whose reader is gone.
fn broken() -> Stdio {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    writer.into()
}

#[test]
fn messages_that_nobody_can_read_end_no_run() {
    type Stream = fn() -> Stdio;
    let streams: [(&str, Stream); 2] =
        [("a full device", || full().into()), ("a broken pipe", broken)];
    for (what, stderr) in streams {
        let sweep = Sweep::new(CONFIG);
        let mut child = sweep.command().stdout(Stdio::null()).stderr(stderr()).spawn().unwrap();
        let code = wait(&mut child).code();
        assert!([Some(0), Some(4)].contains(&code), "{what}: {code:?}");
        assert_eq!(records(&sweep.dir()).len(), 6, "{what}");
    }
}

/// Every command that prints a result, with a run directory for those that read one.
#[test]
fn a_result_that_is_lost_makes_the_command_fail() {
    let sweep = Sweep::new(CONFIG);
    let done = sweep.run();
    assert_eq!(done.records.len(), 6, "{}", done.stderr);
    let (config, dir) = (sweep.config().display().to_string(), sweep.dir().display().to_string());
    let commands: &[&[&str]] = &[
        &["--help"],
        &["--version"],
        &["run", "--help"],
        &["plan", &config],
        &["plan", &config, "--job", "0"],
        &["limits"],
        &["limits", "--json"],
        &["report", &dir],
        &["report", &dir, "--json"],
        &["report", "--schema"],
        &["compare", &dir, &dir],
        &["capacity", &dir, "--rate", "100"],
        &["verify", &config],
        &["completions", "bash"],
        &["man"],
        &["run", &config],
        &["try", "http://127.0.0.1:1/", "-n", "1", "-c", "1", "--json", "--engines", "threads"],
    ];
    for arguments in commands {
        let mut command = duel(arguments);
        let sound = output(command.current_dir(sweep.home.path())).status.code();
        let lost = command.stdout(full()).stderr(Stdio::piped()).spawn().unwrap();
        let lost = lost.wait_with_output().unwrap();
        let said = text(&lost).1;
        let expected = if sound == Some(0) { Some(1) } else { sound };
        assert_eq!(lost.status.code(), expected, "{arguments:?}: {said}");
        assert!(said.contains("cannot write to standard output"), "{arguments:?}: {said}");
        // A reader that left early wanted no more.
        let status = command.stdout(broken()).stderr(Stdio::null()).status().unwrap();
        assert_eq!(status.code(), sound, "{arguments:?}");
    }
}

/// What is below the tables too: an SLO, named requests, memory.
#[test]
fn a_report_prints_what_its_run_printed_at_the_end() {
    let more = "[slo]\np99 = '9s'\n[[plan.request]]\nname = 'light'\npath = '/'\n";
    let sweep = Sweep::new(&format!("{CONFIG}{more}"));
    let done = sweep.run();
    let (stdout, stderr) = text(&output(duel(&["report"]).arg(sweep.dir())));
    assert_eq!(stdout, done.stdout, "{stderr}");
    for part in ["threads", "p99 ≤ 9 s", "Classes of requests"] {
        assert!(stdout.contains(part), "{part} is not in\n{stdout}");
    }
}

#[test]
fn a_run_whose_directory_disappears_ends_at_the_next_trial() {
    let sweep =
        Sweep::new(&CONFIG.replace("requests = 5", "duration = '300ms'").replace("3", "50"));
    let child = sweep.command().stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let rows = sweep.dir().join("trials.jsonl");
    eventually("a row", || std::fs::metadata(&rows).is_ok_and(|m| m.len() > 0));
    std::fs::remove_dir_all(sweep.dir()).expect("it was there");
    let out = child.wait_with_output().unwrap();
    let said = text(&out).1;
    assert_eq!(out.status.code(), Some(1), "{said}");
    assert!(said.contains("trials.jsonl") && said.contains("No such file"), "{said}");
    let trials = said.lines().filter(|line| line.starts_with('[')).count();
    assert!(trials < 10, "it did not go on to the end: {said}");
}

#[test]
fn a_report_that_cannot_be_written_is_an_error() {
    let sweep = Sweep::new(CONFIG);
    sweep.run();
    for file in ["report.md", "cells.csv", "report.html", "hdr"] {
        let path = sweep.dir().join(file);
        let aside = sweep.home.path().join("aside");
        std::fs::rename(&path, &aside).expect("it was written");
        // A directory where a file belongs, and a file where a directory does.
        if file == "hdr" {
            std::fs::write(&path, "").expect("a file");
        } else {
            std::fs::create_dir_all(path.join("x")).expect("a directory");
        }
        let out = output(duel(&["report"]).arg(sweep.dir()));
        assert_eq!(out.status.code(), Some(1), "{file}: {}", text(&out).1);
        assert!(text(&out).1.contains(file), "{file}: {}", text(&out).1);
        assert!(text(&out).0.contains("threads"), "the table is shown all the same");
        let _ = std::fs::remove_dir_all(&path).or_else(|_| std::fs::remove_file(&path));
        std::fs::rename(&aside, &path).expect("back");
    }
    assert_eq!(output(duel(&["report"]).arg(sweep.dir())).status.code(), Some(0));
}

#[test]
fn what_a_plan_takes_is_told_before() {
    let home = tempfile::tempdir().expect("a directory");
    std::fs::write(home.path().join("t.log"), "0\t/\n2500\t/a\n5000\t/b\n").expect("a trace");
    for (plan, rates, says) in [
        ("arrivals = \"trace\"\ntrace = \"t.log\"", "", "about 5.06 s of load"),
        ("arrivals = \"trace\"\ntrace = \"t.log\"\ntrace_speed = 5.0", "", "about 1.06 s of load"),
        ("arrivals = \"constant\"\nrequests = 1", "rates = [0.001]", "about 60 ms of load"),
        ("arrivals = \"constant\"\nrequests = 3", "rates = [0.5]", "about 4.06 s of load"),
        ("arrivals = \"poisson\"\nrequests = 3", "rates = [0.5]", "about 6.06 s of load"),
    ] {
        let config = home.path().join("x.toml");
        let toml = format!("[plan]\n{plan}\n[sweep]\nengines = [\"tokio\"]\ntrials = 1\n{rates}\n");
        std::fs::write(&config, toml).expect("the config");
        let out = output(duel(&["plan"]).arg(&config));
        let (said, told) = text(&out);
        assert!(said.contains(says), "{plan} {rates}: {said}{told}");
    }
}

#[test]
fn a_few_requests_have_no_percentiles_and_a_slow_rate_is_none_of_zero() {
    let target = duel(&["target", "--listen", "127.0.0.1:0"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut target = target.expect("the target starts");
    let url = format!("http://{}/", common::first_address(&mut target));
    let arguments =
        ["try", &url, "-n", "3", "-R", "0.9", "-c", "1", "--trials", "1", "--engines", "tokio"];
    let out = output(&mut duel(&arguments));
    target.kill().expect("it runs");
    target.wait().expect("it ends");
    let (said, told) = text(&out);
    let line = told.lines().find(|l| l.contains("block 0")).expect("a line for the trial");
    assert!(
        line.contains("slowest") && !line.contains(", p50 ") && !line.contains(", p99 "),
        "{line}"
    );
    assert!(line.contains(" 0.9 req/s"), "{line}");
    assert!(said.contains(" 0.9 ") || said.contains("(0.9)"), "{said}");
}

#[test]
fn names_command_no_terminal() {
    let name = "\u{1b}[31mred\u{7}.toml";
    let out = output(Command::new(DUEL).args(["run", name]).stdin(Stdio::null()));
    let said = text(&out).1;
    assert_eq!(out.status.code(), Some(2), "{said}");
    assert!(!said.contains(['\u{1b}', '\u{7}']) && said.contains("red"), "{said:?}");
}

#[test]
fn runs_of_one_second_have_directories_of_their_own() {
    let sweep = Sweep::new(&CONFIG.replace("trials = 3", "trials = 1"));
    let config = sweep.config().display().to_string();
    let run = || {
        let mut command = duel(&["run", &config]);
        let command = command.current_dir(sweep.home.path()).stdout(Stdio::null());
        command.stderr(Stdio::null()).spawn().expect("duel starts")
    };
    // Some of four begin within the same second.
    for mut child in (0..4).map(|_| run()).collect::<Vec<_>>() {
        let code = wait(&mut child).code();
        assert!([Some(0), Some(4)].contains(&code), "{code:?}");
    }
    let made = std::fs::read_dir(sweep.home.path().join("runs")).expect("runs were kept");
    let dirs: Vec<_> = made.flatten().map(|entry| entry.path()).collect();
    assert_eq!(dirs.len(), 4, "{dirs:?}");
    assert!(dirs.iter().all(|dir| records(dir).len() == 2), "{dirs:?}");
}

#[test]
fn arguments_and_paths_need_not_be_utf_8() {
    let sweep = Sweep::new(CONFIG);
    let odd = |name: &[u8]| sweep.home.path().join(std::ffi::OsStr::from_bytes(name));
    let (config, out) = (odd(b"caf\xe9.toml"), odd(b"out\xff"));
    std::fs::copy(sweep.config(), &config).expect("a file system that takes any name");
    for arguments in [
        &["plan".as_ref(), config.as_os_str()][..],
        &["run".as_ref(), config.as_os_str(), "--out".as_ref(), out.as_os_str()],
        &["report".as_ref(), out.as_os_str()],
    ] {
        let done = output(&mut duel(arguments));
        let code = done.status.code();
        assert!([Some(0), Some(4)].contains(&code), "{arguments:?}: {}", text(&done).1);
    }
    assert_eq!(records(&out).len(), 6);
    assert!(out.join("report.html").exists());
}

#[test]
fn a_limit_on_file_sizes_is_named() {
    for blocks in ["4", "20"] {
        let sweep = Sweep::new(CONFIG);
        let script = format!("ulimit -f {blocks}; exec \"$0\" run x.toml --out out");
        let mut command = Command::new("sh");
        let command = command.args(["-c", &script, DUEL]).current_dir(sweep.home.path());
        let done = output(command.stdin(Stdio::null()));
        let said = text(&done).1;
        let code = done.status.code().unwrap_or_else(|| panic!("{blocks}: {}", done.status));
        assert!(code == 1 || code == 2, "{blocks}: {code}: {said}");
        assert!(said.contains("File too large"), "{blocks}: {said}");
    }
}

#[test]
fn a_small_stack_of_the_main_thread_is_no_end() {
    let sweep = Sweep::new(CONFIG);
    let script = "ulimit -s 64; exec \"$0\" run x.toml --out out";
    let mut command = Command::new("sh");
    let command = command.args(["-c", script, DUEL]).current_dir(sweep.home.path());
    let done = output(command.stdin(Stdio::null()));
    assert!([Some(0), Some(4)].contains(&done.status.code()), "{}", text(&done).1);
    assert_eq!(records(&sweep.dir()).len(), 6);
    assert!(sweep.dir().join("report.html").exists());
}
