//! Named classes of requests: each has its own ledger and times, and together they are the trial's.

mod common;

use std::path::Path;

use common::{duel, output, text};
use duel::format::TrialRecord;

const MIX: &str = "[[plan.request]]\nname = \"light\"\np99 = \"30s\"\nweight = 9\n\
    [[plan.request]]\nname = \"heavy\"\np99 = \"1ns\"\nmethod = \"POST\"\nbody = \"xxxxxxxx\"\n\
    [[plan.request]]\npath = \"/unnamed\"\n";

fn run(home: &Path, config: &str) -> Vec<TrialRecord> {
    let (file, out) = (home.join("x.toml"), home.join("run"));
    std::fs::write(&file, format!("{config}\n{MIX}")).unwrap();
    let done = output(duel(&["run"]).arg(&file).arg("--out").arg(&out));
    // Busy machines make rows that are not to be believed; their ledgers are right all the same.
    let code = done.status.code();
    assert!(matches!(code, Some(0 | 1 | 4)), "{code:?}: {}", text(&done).1);
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
        let rows =
            report.lines().filter(|line| line.contains("| heavy |") && line.contains("| 1 ns |"));
        assert_eq!(rows.count(), records.len(), "{report}");
    }
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
