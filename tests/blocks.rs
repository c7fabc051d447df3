//! Sweeps that run until their ratios are precise, or until a budget ends.

use crate::common;

use std::collections::BTreeMap;

use std::process::Stdio;

use common::{Sweep, duel, first_address, output, text};
use duel::format::TrialRecord;

const CONFIG: &str = "[target]\nservice_time = '0'\n[plan]\nrequests = 200\n\
                      [sweep]\nengines = ['threads', 'tokio']\nlanes = [2]\n";

/// Trials of each block.
fn blocks(records: &[TrialRecord]) -> BTreeMap<u32, usize> {
    let mut blocks = BTreeMap::new();
    for record in records {
        *blocks.entry(record.block).or_insert(0) += 1;
    }
    blocks
}

#[test]
fn cells_stop_when_their_ratio_is_precise() {
    let sweep = Sweep::new(&format!("{CONFIG}precision = '100%'"));
    let done = sweep.run();
    // Widths of ± 100 % come with the first interval that counts.
    let all = blocks(&done.records);
    assert!((10..30).contains(&all.len()), "{all:?}: {}", done.stderr);
    assert!(all.values().all(|n| *n == 2), "the baseline goes on with its rival: {all:?}");
    assert!(!done.stderr.contains("ended by"), "{}", done.stderr);
}

#[test]
fn a_budget_that_ends_early_leaves_whole_blocks_and_can_be_continued() {
    let sweep = Sweep::new(&format!("{CONFIG}precision = '0.1%'\nbudget = '1s'"));
    let done = sweep.run();
    let first = blocks(&done.records);
    assert!(first.len() < 100 && first.values().all(|n| *n == 2), "{first:?}: {}", done.stderr);
    assert!(done.stderr.contains("ended by the budget of 1 s"), "{}", done.stderr);
    assert!(done.stderr.contains("--resume goes on"), "{}", done.stderr);
    let most = first.len() + 3;
    let more =
        ["--resume", "--set", "sweep.budget='1m'", "--set", &format!("sweep.max_blocks={most}")];
    let done = sweep.run_with(&more);
    let second = blocks(&done.records);
    assert_eq!(second.len(), most, "{}", done.stderr);
    assert!(second.values().all(|n| *n == 2), "{second:?}");
    let said = format!("ended by sweep.max_blocks = {most}");
    assert!(done.stderr.contains(&said) && done.stderr.contains("wider than ± 0.1 %"));
}

#[test]
fn a_plan_says_how_many_blocks_to_expect_and_warns_of_too_few_trials() {
    let sweep = Sweep::new(&format!("{CONFIG}precision = '5%'"));
    let (plan, _) = text(&output(duel(&["plan"]).arg(sweep.config())));
    assert!(plan.contains("blocks until each ratio is within ± 5 %: at least 10"), "{plan}");
    assert!(plan.contains("expect 10 where they scatter by 5 %, 19 where they"), "{plan}");
    let few = Sweep::new(&format!("{CONFIG}trials = 4"));
    let warning = "4 trials are too few to confirm a difference in 2 comparisons, which takes 7";
    let (plan, _) = text(&output(duel(&["plan"]).arg(few.config())));
    assert!(plan.contains(warning), "{plan}");
    let done = few.run();
    assert!(done.stderr.contains(warning), "{}", done.stderr);
}

/// Runs `try` against an embedded target of its own; the rows and what was said.
fn try_with(arguments: &[&str]) -> (Vec<TrialRecord>, String, String) {
    try_against("1ms", arguments)
}

fn try_against(service: &str, arguments: &[&str]) -> (Vec<TrialRecord>, String, String) {
    let mut target = duel(&["target", "--listen", "127.0.0.1:0", "--service-time", service])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the target starts");
    let url = format!("http://{}/", first_address(&mut target));
    let home = tempfile::tempdir().expect("a directory for the test");
    let mut command = duel(&["try", &url, "-c", "4", "--out"]);
    let (stdout, stderr) = text(&output(command.arg(home.path().join("out")).args(arguments)));
    let _ = target.kill();
    let _ = target.wait();
    (common::records(&home.path().join("out")), stdout, stderr)
}

#[test]
fn a_try_shares_its_time_among_interleaved_trials_and_has_intervals() {
    let (rows, stdout, stderr) = try_with(&["-d", "2s"]);
    let all = blocks(&rows);
    assert_eq!(all.len(), 10, "{stderr}");
    assert!(all.values().all(|n| *n == 2), "each engine once per block: {all:?}");
    for row in &rows {
        assert_eq!(row.cell.codec.name(), "hyper", "run and try have one default");
        assert!((200_000_000..220_000_000).contains(&row.measured_ns), "{}", row.measured_ns);
    }
    // Ratios with intervals, and percentiles of all trials together.
    assert!(stdout.contains("10 trials") && stdout.contains("× ["), "{stdout}");
    let verdict = stdout.lines().next().unwrap_or_default();
    assert!(verdict.contains("% [") || verdict.contains("equal within"), "{stdout}");
}

#[test]
fn a_try_runs_as_many_trials_as_it_is_told() {
    let (rows, ..) = try_with(&["-d", "2s", "--trials", "1", "--engines", "tokio"]);
    let [row] = &rows[..] else { panic!("{} rows", rows.len()) };
    assert!(row.measured_ns >= 2_000_000_000, "one long trial: {}", row.measured_ns);
    let (rows, _, stderr) = try_with(&["-n", "100"]);
    let planned: Vec<u64> = rows.iter().map(|r| r.ledger.planned).collect();
    assert_eq!(planned, [100, 100], "-n is a total: {stderr}");
    let (rows, _, stderr) = try_with(&["-n", "100", "--precision", "100%"]);
    assert!((10..30).contains(&blocks(&rows).len()), "{stderr}");
    for (arguments, says) in [
        (&["--precision", "0%"][..], "--precision must be from 0.1 %"),
        (&["--trials", "2", "--precision", "5%"], "--precision"),
        (&["-d", "10s", "--precision", "5%", "--budget", "1s"], "shorter than one block"),
    ] {
        let (rows, _, stderr) = try_with(arguments);
        assert!(rows.is_empty() && stderr.contains(says), "{arguments:?}: {stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
    }
}

#[test]
fn a_try_of_a_slow_target_has_longer_trials_whose_rate_is_whole() {
    let (rows, _, stderr) = try_against("300ms", &["-d", "4s", "--engines", "tokio"]);
    assert!((3..=4).contains(&rows.len()), "{} rows: {stderr}", rows.len());
    assert!(stderr.contains("after a warm-up of"), "{stderr}");
    for row in &rows {
        assert!(row.measured_ns >= 900_000_000 && row.warmup.completed > 0, "{:?}", row.warmup);
        // Four lanes of 300 ms: 13.3 a second, whatever is under way at the edges.
        assert!((10.0..14.5).contains(&row.achieved_per_s), "{}", row.achieved_per_s);
    }
}

#[test]
fn a_try_of_two_engines_has_as_many_trials_as_tell_them_apart() {
    let (rows, stdout, stderr) = try_against("200ms", &["-d", "2s"]);
    assert!((6..=10).contains(&blocks(&rows).len()), "{} rows: {stderr}", rows.len());
    assert!(!stdout.contains("too few trials"), "{stdout}");
}

#[test]
fn a_try_of_one_engine_has_time_for_as_many_trials_as_intervals_need() {
    let (rows, ..) = try_against("30ms", &["-d", "2s", "--engines", "tokio"]);
    assert!((6..=10).contains(&rows.len()), "{} rows", rows.len());
}

#[test]
fn a_warm_up_that_was_asked_for_is_kept() {
    let (rows, ..) = try_against("300ms", &["-d", "2s", "--engines", "tokio", "--warmup", "100ms"]);
    assert!(rows.iter().all(|r| r.warmup.planned == 4), "{rows:?}");
}

#[test]
fn a_try_takes_any_key_of_a_config_over_its_flags() {
    let set = ["--set", "sweep.lanes=[3]", "--set", "plan.warmup='50ms'", "--set", "plan.seed=9"];
    let (rows, _, stderr) = try_with(&[&["-n", "30", "--trials", "2"], &set[..]].concat());
    assert_eq!(rows.len(), 4, "{stderr}");
    for row in &rows {
        assert_eq!((row.cell.lanes, row.ledger.planned), (3, 30), "{stderr}");
        assert!(row.warmup.planned > 0, "{:?}", row.warmup);
    }
    for (set, says) in [
        ("sweep.lane=[3]", "did you mean `lanes`"),
        ("sweep.lanes=0", "sweep.lanes"),
        ("sweep.lanes", "--set"),
        ("plan.requests=10", "plan.requests"),
    ] {
        let (rows, _, stderr) = try_with(&["-d", "1s", "--set", set]);
        assert!(rows.is_empty() && stderr.contains(says), "{set}: {stderr}");
        assert_eq!(stderr.lines().count(), 1, "{set}: {stderr}");
    }
}
