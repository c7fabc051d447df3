//! Addresses that are not this machine's loopback: by name only, bounded, and told. The load goes
//! to an address inside a network namespace of the test's own, which no other machine can reach.

use crate::common;

use std::io::{Read, Write};
use std::process::{Command, Stdio};

use common::{DUEL, output, text};

const PREPARE: &str = "ip link set lo up && ip addr add 192.0.2.1/32 dev lo || { echo \
    duel-wrapper: no address >&2; exit 99; }\n\
    \"$0\" target --listen 192.0.2.1:8080 > listening & target=$!\n\
    until grep -q listening listening; do sleep 0.01; done\n\
    \"$0\" \"$@\"; code=$?\nkill $target; exit $code";

/// `duel` inside the namespace; `None` where there can be none.
fn duel_inside(arguments: &[&str]) -> Option<(i32, String, String)> {
    let home = tempfile::tempdir().unwrap();
    let out = output(
        Command::new("unshare")
            .args(["-n", "sh", "-c", PREPARE, DUEL])
            .args(arguments)
            .env("NO_COLOR", "1")
            .current_dir(home.path()),
    );
    let (stdout, stderr) = text(&out);
    let code = out.status.code().unwrap_or(-1);
    if stderr.contains("unshare") || stderr.contains("duel-wrapper") {
        assert!(std::env::var_os("DUEL_REQUIRE_REAL").is_none(), "{stderr}");
        println!("skipped: {stderr}");
        return None;
    }
    Some((code, stdout, stderr))
}

const URL: &str = "http://192.0.2.1:8080/";
const TRY: [&str; 8] = ["try", URL, "-n", "20", "--engines", "tokio", "--trials", "1"];

fn try_with(more: &[&str]) -> Option<(i32, String, String)> {
    duel_inside(&[&TRY, more].concat())
}

#[test]
fn an_address_that_is_not_named_gets_nothing() {
    let Some((code, _, stderr)) = try_with(&["-c", "2"]) else { return };
    assert_eq!(code, 2, "{stderr}");
    assert!(stderr.contains("not a loopback address"), "{stderr}");
}

#[test]
fn a_named_address_is_told_with_its_caps() {
    let Some((code, _, stderr)) = try_with(&["-c", "2", "--allow", "192.0.2.1:8080"]) else {
        return;
    };
    assert!(code == 0 || code == 4, "{code}: {stderr}");
    let banner = "load goes to 192.0.2.1:8080, which is not this machine's loopback: at most 10,000 \
                  requests/s over 1,000 connections";
    assert!(stderr.contains(banner), "{stderr}");
    assert!(stderr.contains("duel target: 192.0.2.1:8080 is not loopback"), "{stderr}");
}

#[test]
fn more_than_the_caps_is_refused_before_anything_is_sent_unless_raised_there() {
    for (more, told) in [
        (["-c", "1001", "--allow", "192.0.2.1:8080"], "1,001 connections to 192.0.2.1:8080"),
        (["-R", "20k", "--allow", "192.0.2.1:8080"], "20,000 requests/s to 192.0.2.1:8080"),
        (["-c", "2", "--allow", "192.0.2.1:8080 connections=1"], "allowed are 1:"),
    ] {
        let Some((code, _, stderr)) = try_with(&more) else { return };
        assert_eq!(code, 2, "{stderr}");
        assert!(stderr.contains(told) && stderr.contains("raise it where"), "{stderr}");
        assert!(!stderr.contains("load goes to"), "{stderr}");
    }
    let raised = ["-c", "2", "-R", "20k", "--allow", "192.0.2.1:8080 rate=30k"];
    let Some((code, _, stderr)) = try_with(&raised) else { return };
    assert_ne!(code, 2, "{stderr}");
    assert!(stderr.contains("at most 30,000 requests/s"), "{stderr}");
}

#[test]
fn a_closed_loop_beyond_the_rate_is_stopped() {
    let words = [
        "try",
        URL,
        "-d",
        "20s",
        "-c",
        "2",
        "--engines",
        "tokio",
        "--trials",
        "1",
        "--json",
        "--allow",
        "192.0.2.1:8080 rate=5",
    ];
    let Some((code, stdout, stderr)) = duel_inside(&words) else { return };
    assert_eq!(code, 1, "{stderr}");
    assert!(stdout.contains("stopped at") && stdout.contains("allowed are 5"), "{stdout}");
}

/// Whatever wrote the address into the job: the worker connects to none that was not allowed.
#[test]
fn a_job_that_names_another_address_connects_nowhere() {
    let config = "[plan]\nrequests = 2\ntimeout = '1s'\n[sweep]\ntrials = 1\nlanes = [2]\n\
                  engines = ['sequential', 'threads', 'rayon', 'tokio', 'tokio-single']\n\
                  codecs = ['hyper', 'lean']\n";
    let sweep = common::Sweep::new(config);
    let path = sweep.config().display().to_string();
    for job in 0..10 {
        let planned = output(&mut common::duel(&["plan", &path, "--job", &job.to_string()]));
        let (line, stderr) = text(&planned);
        let line = line.replace("127.0.0.1:8080", "192.0.2.1:8080");
        assert!(line.contains("192.0.2.1"), "{stderr}");
        let mut worker = Command::new(DUEL);
        let worker = worker.arg("worker").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut worker = worker.stderr(Stdio::null()).spawn().expect("a worker");
        let mut stdin = worker.stdin.take().expect("piped");
        let version = duel::protocol::PROTOCOL_VERSION;
        let frame = |name: &str, more: &str| {
            format!("{{\"frame\":\"{name}\",\"version\":{version}{more}}}\n")
        };
        let frames = frame("go", "") + &frame("start", ",\"at_ns\":0");
        stdin.write_all(format!("{line}{frames}").as_bytes()).expect("it listens");
        let mut said = String::new();
        worker.stdout.take().expect("piped").read_to_string(&mut said).expect("frames");
        worker.wait().expect("a child");
        drop(stdin);
        assert!(said.contains("192.0.2.1:8080 is not a loopback address"), "job {job}: {said}");
    }
}
