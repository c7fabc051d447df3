//! A target that completes nothing: trial and run end early and say why, unless told to go on.

use crate::common;

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;

use common::{Sweep, assert_books, at_once, duel, output, text};
use duel::format::{Flag, Status};

/// A server that answers every request with the same bytes, or none that closes at once.
fn server(answer: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
    let address = listener.local_addr().expect("bound").to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut lines = BufReader::new(&stream).lines();
                while let Some(Ok(line)) = lines.next() {
                    if line.is_empty()
                        && (answer.is_empty() || (&stream).write_all(answer).is_err())
                    {
                        return;
                    }
                }
            });
        }
    });
    address
}

fn sweep(address: &str, requests: u32) -> Sweep {
    Sweep::new(&format!(
        "[target]\nurl = 'http://{address}'\n[plan]\nrequests = {requests}\n[sweep]\n\
         engines = ['threads', 'tokio']\nlanes = [1]\ntrials = 2\n"
    ))
}

#[test]
fn a_run_that_completes_nothing_ends_early_and_says_why() {
    let refused: fn() -> String = || {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
        listener.local_addr().expect("bound").to_string()
    };
    type Target = fn() -> String;
    let cases: [(&str, Target, &str); 4] = [
        ("nothing listens", refused, "connect"),
        ("500 for all", || server(b"HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n"), "status"),
        ("no HTTP", || server(b"220 mail.example.org\r\n"), "protocol"),
        ("closes at once", || server(b""), "read"),
    ];
    at_once(cases, |(what, target, kind)| {
        // A day of requests at the pace of a lane whose connects fail.
        let done = sweep(&target(), 100_000_000).run();
        assert_eq!(done.code, 1, "{what}: {}", done.stderr);
        let [row] = &done.records[..] else { panic!("{what}: {} rows", done.records.len()) };
        assert_books(row);
        assert_eq!(row.status, Status::Failed, "{what}");
        assert!(row.flags.contains(&Flag::GaveUp), "{what}: {:?}", row.flags);
        assert!(row.ledger.completed == 0 && row.ledger.unsent > 0, "{what}: {:?}", row.ledger);
        let error = row.error.as_deref().unwrap_or_default();
        let says = [&format!("first {kind} error"), "all ", "--keep-going"];
        assert!(
            says.iter().all(|part| error.contains(part.to_string().as_str())),
            "{what}: {error}"
        );
        assert!(done.stderr.contains("the rest is left out"), "{what}: {}", done.stderr);
    });
}

/// Trials that are shorter than the grace are counted together, and the user reads one sentence.
#[test]
fn short_trials_of_a_dead_target_end_the_run_and_are_told_in_one_sentence() {
    let refused = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let failing = server(b"HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n");
    let cases = [(&refused, 2, "connect error"), (&failing, 10, "requests got HTTP 500")];
    at_once(cases, |(target, most, told)| {
        let tried = |more: &[&str]| {
            let arguments = [&["try", target.as_str(), "-d", "4s", "-c", "1"], more].concat();
            let (stdout, stderr) = text(&output(&mut duel(&arguments)));
            (stderr.lines().filter(|line| line.starts_with('[')).count(), stdout, stderr)
        };
        // Twenty trials of 400 ms, of which half a second, or three, are enough.
        let (trials, stdout, stderr) = tried(&[]);
        assert!((1..=most).contains(&trials), "{trials} trials of {target}: {stderr}");
        assert!(stdout.starts_with("Failed: all ") && stdout.contains(told), "{stdout}");
        assert_eq!(stdout.trim_end().lines().count(), 1, "no table of zeros:\n{stdout}");
        let lines: Vec<&str> = stderr.lines().filter(|line| line.starts_with('[')).collect();
        let failed = |line: &&str| line.contains(": failed: ") && line.contains("; first ");
        assert!(lines.iter().all(failed), "no such trial is ok: {lines:#?}");
        let (trials, _, stderr) = tried(&["--keep-going"]);
        assert_eq!(trials, 20, "told to go on: {stderr}");
    });
}

#[test]
fn what_is_told_to_go_on_is_not_given_up() {
    // Ten connects that fail wait 10, 20, … 1,000 ms: longer than the grace.
    let refused = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let done = sweep(&refused, 10).run_with(&["--keep-going"]);
    assert_eq!(done.records.len(), 4, "{}", done.stderr);
    for row in &done.records {
        assert_eq!((row.ledger.failed, row.ledger.unsent), (10, 0), "{:?}", row.ledger);
        assert!(!row.flags.contains(&Flag::GaveUp));
    }
}

#[test]
fn failures_on_purpose_are_what_is_measured() {
    let faults = Sweep::new(
        "[target]\nfaults = { error_rate = 1.0 }\n[plan]\nduration = '4s'\n[sweep]\n\
         engines = ['tokio']\nlanes = [1]\ntrials = 1\n",
    );
    let done = faults.run();
    assert!(!done.records[0].flags.contains(&Flag::GaveUp), "{}", done.stderr);
}

/// Whichever comes first in a block.
#[test]
fn a_dead_target_takes_no_trial_from_one_that_lives() {
    let alive = server(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let dead = {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
        listener.local_addr().expect("bound").to_string()
    };
    let one =
        |name: &str, at: &str| format!("[[sweep.target]]\nname = '{name}'\nurl = 'http://{at}'\n");
    let [alive, dead] = [one("alive", &alive), one("dead", &dead)];
    for targets in [format!("{alive}{dead}"), format!("{dead}{alive}")] {
        let done = Sweep::new(&format!(
            "[plan]\nrequests = 100\n[sweep]\nengines = ['tokio']\nlanes = [1]\ntrials = 3\n{targets}"
        ))
        .run();
        assert_eq!(done.code, 1, "{}", done.stderr);
        assert!(done.stderr.contains("the target dead completes no request"), "{}", done.stderr);
        let of = |name: &str| {
            let named = |r: &&duel::format::TrialRecord| r.cell.target.as_deref() == Some(name);
            done.records.iter().filter(named).collect::<Vec<_>>()
        };
        let [alive, dead] = [of("alive"), of("dead")];
        assert!(alive.iter().all(|r| r.ledger.completed == 100) && !alive.is_empty(), "{alive:?}");
        assert_eq!(dead.len(), 1, "{}", done.stderr);
    }
}
