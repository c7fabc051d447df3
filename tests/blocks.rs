//! Sweeps that run until their ratios are precise, or until a budget ends.

mod common;

use std::collections::BTreeMap;

use common::{Sweep, duel, output, text};
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
    assert!(done.stderr.contains("ended by the budget of 1s"), "{}", done.stderr);
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
    let warning = "4 trials cannot settle any of 2 comparisons, which takes 7";
    let (plan, _) = text(&output(duel(&["plan"]).arg(few.config())));
    assert!(plan.contains(warning), "{plan}");
    let done = few.run();
    assert!(done.stderr.contains(warning), "{}", done.stderr);
}
