//! Run directories of every released format stay readable: one committed directory for each.

use crate::common;

use std::path::{Path, PathBuf};

use common::{duel, output, text};
use duel::results::store::RunDir;

fn fixture(version: u32) -> PathBuf {
    let name = format!("tests/data/run-format-{version}");
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// A copy, since a report is written beside what it is of.
fn copy(version: u32) -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(fixture(version)).unwrap().flatten() {
        std::fs::copy(entry.path(), home.path().join(entry.file_name())).unwrap();
    }
    home
}

#[test]
fn every_released_format_is_read_whole() {
    for version in 1..=duel::format::FORMAT_VERSION {
        let run = RunDir::open(&fixture(version)).unwrap_or_else(|e| panic!("{version}: {e}"));
        assert_eq!(run.warnings, Vec::<String>::new(), "format {version}");
        assert_eq!(run.records.len() as u64, run.plan.trials_planned, "format {version}");
        assert_eq!(run.records[0].ledger.completed, 40, "format {version}");
        assert_eq!(run.records[0].events.syscalls, None, "a field of later versions is missing");
    }
}

#[test]
fn reports_and_comparisons_are_made_of_it() {
    let (a, b) = (copy(1), copy(1));
    let out = output(duel(&["report"]).arg(a.path()));
    let (stdout, stderr) = text(&out);
    assert_eq!(out.status.code(), Some(0), "{stderr}");
    assert!(stdout.contains("tokio"), "{stdout}");
    assert!(a.path().join("report.html").exists() && a.path().join("cells.csv").exists());
    // Two trials: too few for a verdict.
    let out = output(duel(&["compare"]).arg(a.path()).arg(b.path()));
    let (stdout, stderr) = text(&out);
    assert_eq!(out.status.code(), Some(0), "{stdout}{stderr}");
    assert!(stdout.contains("undecided, too few trials"), "{stdout}");
}

#[test]
fn a_newer_format_is_refused_with_its_version() {
    for (file, place) in [("plan.json", "plan.json:1"), ("trials.jsonl", "trials.jsonl:1")] {
        let home = copy(1);
        let path = home.path().join(file);
        let newer = std::fs::read_to_string(&path).unwrap();
        let newer = newer.replacen("\"format_version\": 1", "\"format_version\": 7", 1);
        let newer = newer.replacen("\"format_version\":1", "\"format_version\":7", 1);
        std::fs::write(&path, newer).unwrap();
        for command in ["report", "compare", "capacity"] {
            let mut command = duel(&[command]);
            command.arg(home.path());
            match command.get_args().next().and_then(|a| a.to_str()) {
                Some("compare") => command.arg(home.path()),
                Some("capacity") => command.args(["--rate", "100"]),
                _ => &mut command,
            };
            let out = output(&mut command);
            let (_, stderr) = text(&out);
            assert_eq!(out.status.code(), Some(2), "{stderr}");
            assert!(stderr.contains(place) && stderr.contains("format version 7"), "{stderr}");
        }
    }
}
