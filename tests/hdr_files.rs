//! The HdrHistogram files of a run, read back by other implementations.

use crate::sample;

use std::path::Path;
use std::process::Command;

use duel::format::histogram;
use duel::format::{Distribution, Flag, Status, TrialRecord};
use duel::plan::{Arrivals, Cell, Engine};
use duel::report::hdr_files;
use duel::stats::hdr;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
use serde_json::Value;

fn open_cell() -> Cell {
    Cell {
        arrivals: Arrivals::Poisson,
        offered_per_s: Some(1_000.0),
        ..sample::cell(Engine::Tokio)
    }
}

/// Three good trials and one that may not be ranked, latest first.
fn records() -> Vec<TrialRecord> {
    let mut all: Vec<_> = (0..4).rev().map(|b| sample::record(open_cell(), b, 1.0)).collect();
    all[1].status = Status::Invalid;
    all
}

fn distributions(record: &TrialRecord) -> [(&str, &Option<Distribution>); 6] {
    [
        ("service", &record.service_ns),
        ("response", &record.response_ns),
        ("start_delay", &record.start_delay_ns),
        ("pacer_delay", &record.pacer_delay_ns),
        ("lane_wait", &record.lane_wait_ns),
        ("connect", &record.connect_ns),
    ]
}

/// The lines that a log must hold: by time, then in the order of the record.
fn expected(records: &[TrialRecord]) -> Vec<(&str, &TrialRecord, &Distribution)> {
    let mut good: Vec<_> = records.iter().filter(|r| r.status == Status::Ok).collect();
    good.sort_by_key(|r| r.started_unix_ns);
    good.into_iter()
        .flat_map(|r| {
            distributions(r).map(|(tag, d)| (tag, r, d.as_ref().expect("an open loop has it")))
        })
        .collect()
}

fn written(records: &[TrialRecord]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    hdr_files::write(dir.path(), records).unwrap();
    dir
}

fn log_of(dir: &Path) -> std::path::PathBuf {
    dir.join("hdr").join(format!("{}.hlog", open_cell().id))
}

/// Whether Python with the package is here; where it must be, its absence is a failure.
fn python_has_hdrhistogram() -> bool {
    let found = Command::new("python3")
        .args(["-c", "import hdrh.log"])
        .output()
        .is_ok_and(|out| out.status.success());
    if !found {
        assert!(
            std::env::var_os("DUEL_REQUIRE_REAL").is_none(),
            "DUEL_REQUIRE_REAL is set: pip install hdrhistogram"
        );
        eprintln!("skipped: python3 has no package hdrhistogram");
    }
    found
}

/// Highest value of each bucket that holds something, and its count, as Python printed them.
fn buckets_of(line: &Value) -> Vec<(u64, u64)> {
    serde_json::from_value(line["buckets"].clone()).expect("pairs of numbers")
}

/// The same of a record's own histogram.
fn recorded(d: &Distribution) -> Vec<(u64, u64)> {
    let histogram = histogram::decode(&d.hdr).unwrap();
    histogram
        .iter_recorded()
        .map(|b| {
            (histogram.highest_equivalent(b.value_iterated_to()), b.count_since_last_iteration())
        })
        .collect()
}

#[test]
fn python_reads_the_same_counts_and_percentiles() {
    if !python_has_hdrhistogram() {
        return;
    }
    let records = records();
    let dir = written(&records);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/read_hlog.py");
    let out = Command::new("python3").arg(script).arg(log_of(dir.path())).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let lines: Vec<Value> = String::from_utf8(out.stdout)
        .unwrap()
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    let expected = expected(&records);
    assert_eq!(lines.len(), expected.len(), "one line a valid trial and histogram");
    let mut compared = 0;
    for (line, (tag, record, d)) in lines.iter().zip(expected) {
        assert_eq!(line["tag"], tag);
        assert_eq!(line["count"], d.count, "{tag}");
        assert_eq!(line["max"], d.max, "{tag}");
        assert_eq!(buckets_of(line), recorded(d), "{tag}: count for count");
        for (i, (q, ours)) in
            [(0.5, d.p50), (0.9, d.p90), (0.99, d.p99), (0.999, d.p99_9)].into_iter().enumerate()
        {
            // Between two ranks Python takes the nearest, where HdrHistogram takes the upper one.
            let rank = q * d.count as f64;
            if (rank - rank.round()).abs() < 1e-6 {
                assert_eq!(line["percentiles"][i], ours, "{tag} at {q}");
                compared += 1;
            }
        }
        let begun_ms = record.started_unix_ns.unwrap() as f64 / 1e6;
        let start = line["start_ms"].as_f64().unwrap();
        assert!((start - begun_ms).abs() < 1.0, "{tag}: {start} against {begun_ms}");
        let lasted = line["end_ms"].as_f64().unwrap() - start;
        assert!((lasted - record.measured_ns as f64 / 1e6).abs() < 1.0, "{tag}: {lasted}");
    }
    assert!(compared >= 3 * 5 * 4, "all percentiles of the 2,000 samples: {compared}");
}

#[test]
fn the_log_holds_every_valid_trial_and_names_the_others() {
    let records = records();
    let dir = written(&records);
    let text = std::fs::read_to_string(log_of(dir.path())).unwrap();
    assert!(text.contains("#left out: block 2, invalid\n"), "{text}");
    let mut intervals = 0;
    for (entry, (tag, _, d)) in IntervalLogIterator::new(text.as_bytes())
        .filter_map(|e| match e.expect("every line parses") {
            LogEntry::Interval(interval) => Some(interval),
            _ => None,
        })
        .zip(expected(&records))
    {
        assert_eq!(entry.tag().map(|t| t.as_str()), Some(tag));
        let found = histogram::decode(entry.encoded_histogram()).unwrap();
        assert_eq!(found, histogram::decode(&d.hdr).unwrap(), "{tag}: count for count");
        intervals += 1;
    }
    assert_eq!(intervals, 18, "three trials of six histograms");
}

#[test]
fn the_distribution_is_that_of_the_merged_trials() {
    let records = records();
    let dir = written(&records);
    let path = dir.path().join("hdr").join(format!("{}.response.hgrm", open_cell().id));
    let text = std::fs::read_to_string(path).unwrap();
    let good = records.iter().filter(|r| r.status == Status::Ok);
    let merged: Histogram<u64> = hdr::merge(good, |r| r.response_ns.as_ref()).unwrap().unwrap();
    assert!(text.contains("Total count    =         6000]"), "{text}");
    let mut last = (0.0, 0);
    for line in text.lines().skip(2).filter(|l| !l.starts_with('#')) {
        let columns: Vec<f64> = line.split_whitespace().map(|w| w.parse().unwrap()).collect();
        let (value_ns, q, total) =
            ((columns[0] * 1e6).round() as u64, columns[1], columns[2] as u64);
        assert!(q >= last.0 && total >= last.1, "the columns rise: {line}");
        assert_eq!(merged.count_between(0, value_ns), total, "{line}");
        assert!(total as f64 >= q * 6000.0 - 0.5, "{line}");
        last = (q, total);
    }
    assert_eq!(last, (1.0, 6000), "the last line is the maximum");
}

#[test]
fn trials_that_may_not_be_ranked_are_shown_where_there_are_no_others() {
    let mut records = records();
    records.iter_mut().for_each(|r| r.status = Status::Invalid);
    records[0].status = Status::Failed;
    let dir = written(&records);
    let text = std::fs::read_to_string(log_of(dir.path())).unwrap();
    for says in ["left out: block 3, failed", "not reliable: block 2, invalid"] {
        assert!(text.contains(says), "{says:?} is not in {text}");
    }
    assert_eq!(text.matches("Tag=service,").count(), 3, "{text}");
}

#[test]
fn noisy_trials_stand_in_for_quiet_ones_only_where_most_are_noisy() {
    for (noisy, shown, says) in
        [(3, 3, "on a busy machine: block 3, noisy"), (1, 2, "left out: block 3, noisy")]
    {
        let mut records = records();
        records
            .iter_mut()
            .take(noisy + usize::from(noisy > 1))
            .for_each(|r| r.flags.push(Flag::Noisy));
        let dir = written(&records);
        let text = std::fs::read_to_string(log_of(dir.path())).unwrap();
        assert!(text.contains(says), "{says:?} is not in {text}");
        assert_eq!(text.matches("Tag=service,").count(), shown, "{text}");
    }
}

#[test]
fn a_foreign_id_cannot_leave_the_directory() {
    let mut record = sample::record(open_cell(), 0, 1.0);
    record.cell.id = "../../escaped/é\nx".into();
    let dir = written(&[record]);
    let names: Vec<_> = std::fs::read_dir(dir.path().join("hdr"))
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(names.len(), 7, "{names:?}");
    assert!(names.iter().all(|n| n.starts_with("..-..-escaped--")), "{names:?}");
}

#[test]
fn a_damaged_histogram_is_named() {
    let mut record = sample::record(open_cell(), 3, 1.0);
    record.service_ns.as_mut().unwrap().hdr = "AAAA".into();
    let dir = tempfile::tempdir().unwrap();
    let error = hdr_files::write(dir.path(), &[record]).unwrap_err().to_string();
    assert!(error.starts_with("tokio-hyper-l64-p1-c1 block 3: service: "), "{error}");
}
