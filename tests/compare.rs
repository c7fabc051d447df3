//! Two runs against each other.

use crate::sample;

use std::path::Path;

use duel::format::{FORMAT_VERSION, Flag, Status, TrialRecord};
use duel::plan::{CellKind, Engine};
use duel::report::compare::{NotComparable, RunComparison, compare as compare_runs};
use duel::report::measures::Measure;
use duel::results::store::{PlanJson, Run, RunDir, Versions};
use duel::stats::{MARGIN, Verdict};

/// A run of threads and tokio; `cost` scales what tokio used.
fn run(at: &Path, blocks: u32, cost: f64, change: impl FnOnce(&mut PlanJson)) -> Run {
    let cells = vec![sample::cell(Engine::Threads), sample::cell(Engine::Tokio)];
    let config = duel::config::parse("name = \"first\"", "x.toml", &[], Path::new("."));
    let mut plan = PlanJson {
        format_version: FORMAT_VERSION,
        name: "first".into(),
        plan_hash: sample::PLAN_HASH.into(),
        seed: 1,
        created_utc: "2026-01-02T03:04:05Z".into(),
        config: serde_json::to_value(config.unwrap()).unwrap(),
        cells: cells.clone(),
        trials_planned: u64::from(2 * blocks),
        machine: serde_json::json!({"cpus": 2, "kernel": "6.18"}),
        limits: serde_json::Value::Null,
        versions: Versions::default(),
        command_line: Vec::new(),
        shard: None,
        merged: None,
    };
    change(&mut plan);
    let mut dir = RunDir::create(at, &plan).unwrap();
    for block in 0..blocks {
        dir.append(&sample::record(cells[0].clone(), block, 1.0)).unwrap();
        dir.append(&sample::record(cells[1].clone(), block, cost)).unwrap();
    }
    drop(dir);
    RunDir::open(at).unwrap()
}

fn runs(blocks: u32, cost: f64) -> (Run, Run) {
    let temp = tempfile::tempdir().unwrap();
    let a = run(&temp.path().join("a"), blocks, 0.5, |_| ());
    (a, run(&temp.path().join("b"), blocks, cost, |_| ()))
}

/// One run on each side, with the default minimum effect.
fn compare(a: &Run, b: &Run) -> Result<RunComparison, NotComparable> {
    compare_runs(&[a], &[b], 0.05)
}

#[test]
fn the_same_run_twice_shows_no_difference() {
    let (a, b) = runs(10, 0.5);
    let found = compare(&a, &b).unwrap();
    assert_eq!(found.lines.len(), 10, "five measures of two cells");
    // Blocks drift by 27 % from the first to the last: equal is more than can be said.
    let said = |text: &str| found.lines.iter().filter(|l| l.ratio.verdict.word() == text).count();
    assert_eq!((said("undecided"), said("equal")), (10, 0), "{}", found.text(None));
    assert!(found.text(None).contains("? undecided, could be up to 1.09×"), "{}", found.text(None));
    assert_eq!(found.regressions().count(), 0);
}

#[test]
fn a_steady_run_twice_is_equal_within_the_margin() {
    let (mut a, mut b) = runs(10, 0.5);
    for record in a.records.iter_mut().chain(&mut b.records) {
        record.cpu.per_request_ns = 1e4 + f64::from(record.block);
    }
    let found = compare(&a, &b).unwrap();
    let cpu = found.lines.iter().filter(|l| l.measure == Measure::CpuPerRequest);
    assert!(cpu.clone().all(|l| l.ratio.verdict == Verdict::Equal { margin: MARGIN }));
    assert!(found.text(None).contains("≈ equal within 5 %"), "{}", found.text(None));
}

#[test]
fn what_became_dearer_is_a_regression_and_cheaper_is_not() {
    let (a, b) = runs(10, 1.0);
    let found = compare(&a, &b).unwrap();
    let worse: Vec<_> = found.regressions().map(|l| (l.cell.as_str(), l.measure)).collect();
    let id = "tokio-hyper-l64-p1-c1";
    assert_eq!(worse, [(id, Measure::CpuPerRequest), (id, Measure::Memory)]);
    assert!(found.text(None).contains("2 of 10 figures are worse in B"), "{}", found.text(None));
    let back = compare(&b, &a).unwrap();
    assert_eq!(back.regressions().count(), 0);
    assert!(back.text(None).contains("better"), "{}", back.text(None));
}

#[test]
fn less_throughput_is_worse() {
    let (a, mut b) = runs(10, 0.5);
    for record in &mut b.records {
        record.achieved_per_s /= 3.0;
    }
    let found = compare(&a, &b).unwrap();
    assert!(found.regressions().all(|l| l.measure == Measure::Achieved));
    assert_eq!(found.regressions().count(), 2);
}

#[test]
fn few_trials_decide_nothing() {
    let (a, b) = runs(4, 3.0);
    let found = compare(&a, &b).unwrap();
    assert!(found.lines.iter().all(|l| l.ratio.verdict == Verdict::Undecided { up_to: None }));
    assert_eq!(found.regressions().count(), 0);
}

#[test]
fn other_plans_and_machines_are_refused_with_the_reason() {
    let temp = tempfile::tempdir().unwrap();
    let a = run(&temp.path().join("a"), 6, 0.5, |_| ());
    let plan = run(&temp.path().join("p"), 6, 0.5, |p| p.config["plan"]["seed"] = 2.into());
    let text = compare(&a, &plan).unwrap_err().to_string();
    assert!(text.contains("plan.seed is 1 in A and 2 in B"), "{text}");
    let target = run(&temp.path().join("t"), 6, 0.5, |p| {
        p.config["target"]["embedded"]["body_bytes"] = 7.into();
    });
    let text = compare(&a, &target).unwrap_err().to_string();
    assert!(text.contains("target.body is 1 KiB in A and 7 B in B"), "{text}");
    // Of a list of requests only what differs is named, by the key that sets it.
    let with = |at: &str, more: bool, path: &str| {
        run(&temp.path().join(at), 6, 0.5, |p| {
            let mix = p.config["plan"]["mix"].as_array_mut().unwrap();
            mix.push(mix[0].clone());
            mix[1]["path"] = path.into();
            mix.extend(more.then(|| mix[0].clone()));
        })
    };
    let (b, c) = (with("x", false, "/b"), with("y", true, "/c"));
    let text = compare(&b, &c).unwrap_err().to_string();
    assert_eq!(
        text,
        "the runs are not comparable: plan.request[1].path is \"/b\" in A and \"/c\" in B; \
         plan.request[2] is not set in A and set in B"
    );
    let machine = run(&temp.path().join("m"), 6, 0.5, |p| p.machine["kernel"] = "7.0".into());
    let text = compare(&a, &machine).unwrap_err().to_string();
    assert!(text.contains("machine.kernel is \"6.18\" in A and \"7.0\" in B"), "{text}");
}

#[test]
fn trials_that_count_events_or_split_memory_are_no_ones_equal() {
    for kind in [CellKind::Counted, CellKind::Memory] {
        let (mut a, mut b) = runs(10, 1.0);
        for run in [&mut a, &mut b] {
            for cell in run.plan.cells.iter_mut().chain(run.records.iter_mut().map(|r| &mut r.cell))
            {
                if cell.engine == Engine::Tokio {
                    cell.kind = kind;
                }
            }
        }
        let found = compare(&a, &b).unwrap();
        assert!(found.lines.iter().all(|l| l.cell.starts_with("threads")), "{}", found.text(None));
        assert_eq!(found.regressions().count(), 0, "{kind:?}: {}", found.text(None));
        assert!(found.notes.is_empty(), "{kind:?}: {:?}", found.notes);
    }
}

#[test]
fn invalid_trials_are_left_out_and_said() {
    let (a, mut b) = runs(6, 0.5);
    let spoil = |r: &mut TrialRecord| r.status = Status::Invalid;
    b.records.iter_mut().filter(|r| r.cell.engine == Engine::Tokio).for_each(spoil);
    let found = compare(&a, &b).unwrap();
    assert!(found.lines.iter().all(|l| l.cell.starts_with("threads")));
    assert_eq!(found.notes, ["tokio-hyper-l64-p1-c1: no valid trial in B"]);
    b.records.iter_mut().for_each(spoil);
    assert!(compare(&a, &b).unwrap_err().to_string().contains("no cell has a valid trial"));
}

/// Between two identical runs a machine drifts by a few per cent: that is no regression, however narrow
/// the intervals over the trials of one run are.
#[test]
fn drift_between_two_runs_is_no_regression() {
    let (mut a, mut b) = runs(10, 0.5);
    for (run, level) in [(&mut a, 1.0), (&mut b, 1.045)] {
        for record in &mut run.records {
            record.cpu.per_request_ns = level * (1e4 + f64::from(record.block));
        }
    }
    let found = compare(&a, &b).unwrap();
    assert_eq!(found.worse(), 0, "{}", found.text(None));
    assert!(found.text(None).contains("drift of the machine between them"), "{}", found.text(None));
    let narrow = compare_runs(&[&a], &[&b], 0.01).unwrap();
    assert_eq!(narrow.json()["min_effect"], 0.01);
}

#[test]
fn lost_requests_are_a_figure_of_their_own() {
    let (a, mut b) = runs(8, 0.5);
    for record in &mut b.records {
        let half = record.ledger.planned / 2;
        record.ledger.completed -= half;
        record.ledger.failed += half;
    }
    let found = compare(&a, &b).unwrap();
    assert!(
        found.lost.iter().all(|l| l.is_regression) && found.lost.len() == 2,
        "{:?}",
        found.lost
    );
    assert!(
        found.worse() >= 2 && found.text(None).contains("requests lost"),
        "{}",
        found.text(None)
    );
    let back = compare(&b, &a).unwrap();
    assert!(back.lost.iter().all(|l| !l.is_regression), "{:?}", back.lost);
    assert!(compare(&a, &a).unwrap().lost.is_empty(), "where nothing was lost there is no line");
}

#[test]
fn several_runs_are_the_units() {
    let of = |level: f64| {
        let (mut run, _) = runs(10, 0.5);
        for record in &mut run.records {
            record.cpu.per_request_ns = level * (1e4 + f64::from(record.block));
        }
        run
    };
    let (a, same) = ([of(1.0), of(1.04), of(0.97)], [of(1.03), of(0.98), of(1.01)]);
    let dear = [of(1.5), of(1.55), of(1.48)];
    let all = |runs: &'static [Run; 3]| runs.iter().collect::<Vec<&Run>>();
    let leak = |runs: [Run; 3]| -> &'static [Run; 3] { Box::leak(Box::new(runs)) };
    let (a, same, dear) = (leak(a), leak(same), leak(dear));
    let cpu = |found: &RunComparison| {
        let mut lines = found.regressions();
        lines.any(|l| l.measure == Measure::CpuPerRequest)
    };
    let found = compare_runs(&all(a), &all(same), 0.05).unwrap();
    assert!(!cpu(&found), "{}", found.text(None));
    let found = compare_runs(&all(a), &all(dear), 0.05).unwrap();
    assert!(cpu(&found), "{}", found.text(None));
    assert!(!found.text(None).contains("One run per side"), "{}", found.text(None));
    assert_eq!(found.json()["runs"], serde_json::json!([3, 3]));
    assert!(found.markdown().contains("| CPU per request |"), "{}", found.markdown());
}

/// A trial that was repeated within its block counts for nothing, nor do the requests that it lost.
#[test]
fn a_repeated_trial_counts_once() {
    let (a, b) = runs(10, 0.5);
    let mut repeated = b.clone();
    for record in &b.records {
        let mut noisy = record.clone();
        noisy.flags.push(Flag::Noisy);
        noisy.cpu.per_request_ns *= 9.0;
        noisy.ledger.failed = 50;
        noisy.ledger.completed -= 50;
        noisy.errors.read = 50;
        repeated.records.insert(0, noisy);
    }
    assert_eq!(compare(&a, &repeated).unwrap(), compare(&a, &b).unwrap());
}
