//! Named classes of requests: each has its own ledger and times, and together they are the trial's.

use crate::common;

use std::path::Path;

use common::{duel, output, text};
use duel::format::{Status, TrialRecord};

const MIX: &str = "[[plan.request]]\nname = \"light\"\np99 = \"30s\"\nweight = 9\n\
    [[plan.request]]\nname = \"heavy\"\np99 = \"1ns\"\nmethod = \"POST\"\nbody = \"xxxxxxxx\"\n\
    [[plan.request]]\npath = \"/unnamed\"\n";

/// Runs a mix whose heavy class cannot meet its bound.
fn run(home: &Path, config: &str) -> Vec<TrialRecord> {
    let (file, out) = (home.join("x.toml"), home.join("run"));
    std::fs::write(&file, format!("{config}\n{MIX}")).unwrap();
    let done = output(duel(&["run"]).arg(&file).arg("--out").arg(&out));
    // Busy machines make rows that are not to be believed; their ledgers are right all the same.
    let (code, stderr) = (done.status.code(), text(&done).1);
    assert!(matches!(code, Some(1 | 3 | 4)), "{code:?}: {stderr}");
    assert!(stderr.contains(": p99 of class heavy "), "{stderr}");
    assert!(code != Some(3) || stderr.contains("SLO missed: "), "{stderr}");
    let lines = std::fs::read_to_string(out.join("trials.jsonl")).unwrap();
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What every record with classes holds, whatever happened to its requests.
fn check(records: &[TrialRecord]) {
    for r in records {
        let names: Vec<&str> = r.classes.keys().map(String::as_str).collect();
        assert_eq!(names, ["heavy", "light"], "{}", r.cell.id);
        let mut named = [0; 5];
        for (name, class) in &r.classes {
            let l = &class.ledger;
            assert!(l.balances() && l.planned > 0, "{} {name}: {l:?}", r.cell.id);
            let all = [l.planned, l.completed, l.failed, l.timed_out, l.unsent];
            named.iter_mut().zip(all).for_each(|(sum, n)| *sum += n);
            let times = class.times_ns.as_ref().unwrap();
            assert_eq!(times.count, l.completed + l.timed_out, "{} {name}", r.cell.id);
        }
        let l = &r.ledger;
        let whole = [l.planned, l.completed, l.failed, l.timed_out, l.unsent];
        // The third request of the mix has no name.
        assert!(named.iter().zip(whole).all(|(named, all)| *named <= all), "{}", r.cell.id);
        assert!(named[0] < l.planned, "{}", r.cell.id);
    }
}

#[test]
fn every_engine_sends_the_same_classes_and_books_each_request_once() {
    for load in ["requests = 600", "requests = 600\narrivals = \"poisson\""] {
        let home = tempfile::tempdir().unwrap();
        let rates = if load.contains("poisson") { "rates = [4000]\n" } else { "" };
        let records = run(
            home.path(),
            &format!(
                "[sweep]\nlanes = [4]\nprocesses = [1, 2]\nstack_sizes = [\"128KiB\"]\ntrials = 1\n{rates}\
                 engines = [\"sequential\", \"threads\", \"rayon\", \"tokio\", \"tokio-single\"]\n[plan]\n{load}"
            ),
        );
        check(&records);
        let planned = |r: &TrialRecord| -> Vec<u64> {
            r.classes.values().map(|class| class.ledger.planned).collect()
        };
        assert!(records.len() >= 9, "{} rows", records.len());
        for r in &records {
            assert_eq!(planned(r), planned(&records[0]), "{}: the mix is the plan's", r.cell.id);
        }
        let report = std::fs::read_to_string(home.path().join("run/report.md")).unwrap();
        assert!(report.contains("## Classes of requests"), "{report}");
        let (_, classes) = report.split_once("## Classes of requests").expect("found above");
        let table = classes.split("\n## ").next().unwrap_or(classes);
        let rows = table.lines().filter(|l| l.contains("| heavy |") && l.contains("| 1 ns |"));
        assert_eq!(rows.count(), records.len(), "{report}");
        check_files(&home.path().join("run"), &records);
    }
}

/// `classes.csv` holds each class of each cell once, and each has its distribution in `hdr`.
fn check_files(run: &Path, records: &[TrialRecord]) {
    let csv = std::fs::read_to_string(run.join("classes.csv")).unwrap();
    let mut lines = csv.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let names = lines.next().unwrap();
    let at = |name: &str| names.iter().position(|n| *n == name).unwrap();
    let rows: Vec<Vec<&str>> = lines.collect();
    assert_eq!(rows.len(), 2 * records.len(), "{csv}");
    for r in records {
        for (name, class) in &r.classes {
            let row = rows.iter().find(|row| row[0] == r.cell.id && row[at("class")] == name);
            let row = row.unwrap_or_else(|| panic!("{} {name} is not in\n{csv}", r.cell.id));
            assert_eq!(row[at("planned")], class.ledger.planned.to_string(), "{csv}");
            assert!(name != "light" || row[at("allowed_p99_ns")] == "30000000000", "{csv}");
            let file = format!("hdr/{}.class-{name}.hgrm", r.cell.id);
            assert!(run.join(&file).exists() || r.status != Status::Ok, "{file}");
        }
    }
}

#[test]
fn a_missed_bound_of_a_class_is_exit_code_3_and_one_too_noisy_to_judge_is_4() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("x.toml");
    let run = |p99: &str| {
        let config = format!(
            "[plan]\nrequests = 200\n[[plan.request]]\nname = \"only\"\np99 = \"{p99}\"\n\
             [sweep]\nengines = [\"tokio\"]\nlanes = [2]\ntrials = 3\n"
        );
        std::fs::write(&file, config).unwrap();
        let done = output(duel(&["run"]).arg(&file).arg("--out").arg(home.path().join(p99)));
        (done.status.code(), text(&done).1)
    };
    let (code, stderr) = run("30s");
    assert!(!stderr.contains("SLO") && matches!(code, Some(0 | 4)), "{code:?}: {stderr}");
    // Not one request is within, which no noise explains; where no trial counts it cannot be judged.
    let (code, stderr) = run("1ns");
    let said = match code {
        Some(3) => "SLO missed: tokio-hyper-l2-p1-c1: p99 of class only ",
        Some(4) => "",
        _ => panic!("{code:?}: {stderr}"),
    };
    assert!(stderr.contains(said), "{stderr}");
}

#[test]
fn requests_that_no_lane_took_are_unsent_in_their_class() {
    let home = tempfile::tempdir().unwrap();
    let records = run(
        home.path(),
        "[target]\nservice_time = \"50ms\"\n[plan]\narrivals = \"poisson\"\nduration = \"1s\"\n\
         timeout = \"200ms\"\n[sweep]\nengines = [\"threads\", \"tokio\"]\nlanes = [1]\nrates = [200]\ntrials = 1",
    );
    check(&records);
    for r in &records {
        let unsent: u64 = r.classes.values().map(|class| class.ledger.unsent).sum();
        assert!(unsent > 0, "{}: {:?}", r.cell.id, r.ledger);
    }
}

#[test]
fn a_class_is_refused_where_it_is_no_name_or_has_two_bounds() {
    let parse = |text: &str| duel::config::parse(text, "x.toml", &[], Path::new(".")).map(drop);
    let of = |requests: &[&str]| {
        let all: Vec<String> =
            requests.iter().map(|r| format!("[[plan.request]]\n{r}\n")).collect();
        parse(&all.concat()).map_err(|error| error.to_string())
    };
    assert_eq!(of(&["name = \"a\"\np99 = \"1ms\"", "name = \"a\"\np99 = \"1ms\""]), Ok(()));
    let many: Vec<String> = (0..17).map(|i| format!("name = \"c{i}\"")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    for (requests, error) in [
        (&["p99 = \"1ms\""][..], "add `name`"),
        (&["name = \"a b\""], "is not a name"),
        (&["name = \"\""], "is not a name"),
        (&["name = \"a\"", "name = \"a\"\np99 = \"1ms\""], "has two bounds"),
        (&many, "at most 16 classes"),
    ] {
        let found = of(requests).unwrap_err();
        assert!(found.contains(error) && found.starts_with("x.toml:"), "{found}");
    }
}
