//! What `duel try` ends with: answers by status code, errors, bytes, percentiles, a histogram.

use crate::common;

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};

use common::{duel, output, text};
use duel::format::TrialRecord;

/// A target that answers some requests with 500.
struct Failing {
    process: Child,
    url: String,
}

impl Failing {
    fn new() -> Failing {
        let arguments = ["target", "--listen", "127.0.0.1:0", "--error-rate", "0.2"];
        let mut process =
            duel(&arguments).stdout(Stdio::piped()).spawn().expect("the target starts");
        let mut line = String::new();
        let mut out = BufReader::new(process.stdout.take().expect("piped"));
        out.read_line(&mut line).expect("where it listens");
        let url = line.split_whitespace().last().expect("an address").to_string();
        Failing { process, url }
    }
}

impl Drop for Failing {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Every engine and codec books each answer under its status code.
#[test]
fn answers_are_counted_by_status_code() {
    let target = Failing::new();
    let mut command =
        duel(&["try", &target.url, "-n", "200", "-c", "4", "--trials", "1", "--json"]);
    command.args(["--engines", "sequential,threads,rayon,tokio,tokio-single"]);
    command.args(["--codecs", "hyper,lean", "--processes", "2"]);
    let out = output(&mut command);
    let (stdout, stderr) = text(&out);
    let records: Vec<TrialRecord> =
        stdout.lines().map(|line| serde_json::from_str(line).expect("a record")).collect();
    assert!(records.len() >= 9, "{} rows; {stderr}", records.len());
    for record in &records {
        let count = |code: &str| record.statuses.get(code).copied().unwrap_or(0);
        let id = &record.cell.id;
        assert_eq!(count("200"), record.ledger.completed, "{id}: {:?}", record.statuses);
        assert_eq!(count("500"), record.errors.status, "{id}: {:?}", record.statuses);
        assert_eq!(record.statuses.values().sum::<u64>(), 200, "{id}: {:?}", record.statuses);
    }
    assert!(records.iter().any(|r| r.errors.status > 0), "a fifth of the requests fails");
}

#[test]
fn try_ends_with_what_users_of_other_tools_look_for() {
    let target = Failing::new();
    let mut command = duel(&["try", &target.url, "-n", "2000", "-c", "4", "--trials", "1"]);
    let (stdout, stderr) = text(&output(command.env("COLUMNS", "80")));
    let line = |start: &str| {
        let found = stdout.lines().map(str::trim_start).find(|l| l.starts_with(start));
        found.unwrap_or_else(|| panic!("no line {start:?} in\n{stdout}\n{stderr}"))
    };
    let number = |text: &str| text.replace(',', "").parse::<u64>().ok();
    let numbers = |start: &str| -> Vec<u64> {
        line(start)[start.len()..].split_whitespace().filter_map(number).collect()
    };
    assert_eq!(numbers("requests"), [2000, 2000], "threads and tokio");
    let (ok, failed) = (numbers("status 200"), numbers("status 500"));
    assert!(ok.iter().zip(&failed).all(|(a, b)| a + b == 2000 && *b > 0), "{ok:?} {failed:?}");
    assert_eq!(numbers("status errors"), failed);
    for start in
        ["received per second", "sent", "service time, min", "mean", "p75", "p99.99", "max"]
    {
        line(start);
    }
    assert!(line("p90").contains("lost"), "a fifth took for ever:\n{stdout}");
    assert!(stdout.contains("status error: status 500"), "an example:\n{stdout}");
    let bars = stdout.lines().filter(|l| l.contains('■')).count();
    assert!((1..=12).contains(&bars), "{bars} bars:\n{stdout}");
}
