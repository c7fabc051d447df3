//! Expectations against trials whose numbers are known.

use crate::sample;
use crate::sample_expect;

use duel::format::{Flag, Status, TrialRecord};
use duel::plan::expect::{Expect, Expected};
use duel::plan::{Cell, Engine};
use duel::report::expect::{Expectation, Held, outcomes, section};
use sample_expect::expect;

fn cells() -> Vec<Cell> {
    [Engine::Threads, Engine::Tokio].map(sample::cell).to_vec()
}

/// Threads cost 1 per request and tokio `cost`, in as many blocks.
fn trials(cost: f64, blocks: u32) -> Vec<TrialRecord> {
    let block = |b| cells().into_iter().zip([1.0, cost]).map(move |(c, n)| sample::record(c, b, n));
    (0..blocks).flat_map(block).collect()
}

fn one(expect: &Expect, records: &[TrialRecord]) -> Expectation {
    let all = outcomes(std::slice::from_ref(expect), &cells(), records);
    assert_eq!(all.len(), 1, "{all:?}");
    all.into_iter().next().expect("one")
}

#[test]
fn a_clear_difference_holds_or_does_not_and_the_rest_is_undecided() {
    let records = trials(0.5, 8);
    let by = |factor| expect(Engine::Tokio, Engine::Threads, Expected::CpuPerRequest, factor);
    let held = one(&by(1.5), &records);
    assert_eq!(held.held, Held::Yes, "{held:?}");
    assert!(held.measured.starts_with("2.0") || held.measured.starts_with("1.9"), "{held:?}");
    assert!(held.expected.contains("tokio over threads in cpu_per_request by 1.50× or more"));
    assert!(held.place.contains("64 lanes"), "{held:?}");
    assert_eq!(one(&by(4.0), &records).held, Held::No);
    let other = expect(Engine::Threads, Engine::Tokio, Expected::CpuPerRequest, 1.0);
    assert_eq!(one(&other, &records).held, Held::No, "the other way round");
    let tie = one(&by(1.0), &trials(1.0, 8));
    assert!(matches!(tie.held, Held::Undecided(_)), "{tie:?}");
    let close = expect(Engine::Tokio, Engine::Threads, Expected::CpuPerRequest, 0.8);
    assert_eq!(one(&close, &trials(1.0, 8)).held, Held::Yes, "no worse than a fifth");
}

#[test]
fn few_blocks_and_failed_trials_decide_nothing_and_noise_takes_none_away() {
    let by = expect(Engine::Tokio, Engine::Threads, Expected::CpuPerRequest, 1.0);
    let undecided = |records: &[TrialRecord]| match one(&by, records).held {
        Held::Undecided(why) => why,
        other => panic!("{other:?}"),
    };
    assert!(undecided(&trials(0.5, 5)).contains("5 blocks"));
    assert!(undecided(&[]).contains("0 blocks"));
    let mut noisy = trials(0.5, 8);
    noisy.iter_mut().for_each(|r| r.flags.push(Flag::Noisy));
    assert_eq!(one(&by, &noisy).held, Held::Yes);
    noisy.iter_mut().take(6).for_each(|r| r.status = Status::Invalid);
    assert!(undecided(&noisy).contains("5 blocks"), "three blocks lost");
    let mut failed = trials(0.5, 8);
    failed.iter_mut().for_each(|r| r.status = Status::Failed);
    assert!(undecided(&failed).contains("0 blocks"));
}

#[test]
fn only_one_runs_where_the_other_cannot() {
    let runs = expect(Engine::Tokio, Engine::Threads, Expected::Runs, 1.0);
    let mut records = trials(1.0, 2);
    assert_eq!(one(&runs, &records).held, Held::No, "both run");
    for r in records.iter_mut().filter(|r| r.cell.engine == Engine::Threads) {
        r.status = Status::Failed;
    }
    let held = one(&runs, &records);
    assert_eq!(held.held, Held::Yes);
    assert_eq!(held.measured, "tokio ran 2 of 2, threads ran 0 of 2");
    assert!(matches!(one(&runs, &[]).held, Held::Undecided(_)));
}

#[test]
fn every_measure_reads_its_own_field() {
    let mut records = trials(1.0, 8);
    for r in records.iter_mut().filter(|r| r.cell.engine == Engine::Tokio) {
        r.achieved_per_s *= 3.0;
        r.service_ns = Some(sample::climb(1_000_000, 2_000_000, 2_000));
        r.heartbeat_ns = Some(sample::climb(1_000, 2_000, 2_000));
        r.memory.added_kernel_bytes = Some(4_096);
    }
    for r in records.iter_mut().filter(|r| r.cell.engine == Engine::Threads) {
        r.heartbeat_ns = Some(sample::climb(10_000, 40_000, 2_000));
        r.memory.added_kernel_bytes = Some(1 << 30);
    }
    for r in &mut records {
        r.memory.plateau_user_bytes = Some(r.memory.baseline_rss_bytes + (1 << 20));
    }
    let measures =
        [Expected::Throughput, Expected::P99, Expected::HeartbeatP99, Expected::MemoryPerLane];
    for measure in measures {
        let expected = expect(Engine::Tokio, Engine::Threads, measure, 2.0);
        assert_eq!(one(&expected, &records).held, Held::Yes, "{measure:?}");
    }
    for r in &mut records {
        r.heartbeat_ns = Some(sample::climb(1_000, 2_000, 900));
    }
    let few = expect(Engine::Tokio, Engine::Threads, Expected::HeartbeatP99, 1.0);
    assert!(matches!(one(&few, &records).held, Held::Undecided(_)), "too few for a p99");
}

/// What the process held before any lane is the same for every engine, and would hide how they differ.
#[test]
fn memory_per_lane_holds_nothing_from_before_the_baseline() {
    let expected = expect(Engine::Tokio, Engine::Threads, Expected::MemoryPerLane, 2.0);
    let mut records = trials(1.0, 8);
    for r in &mut records {
        let times = if r.cell.engine == Engine::Tokio { 1 } else { 3 };
        r.memory.added_bytes = Some(times << 20);
        r.memory.added_kernel_bytes = Some(times << 14);
        r.memory.page_table_bytes = Some((1 << 30) + (times << 12));
        r.memory.kernel_stack_bytes = Some((1 << 20) + (times << 14));
    }
    let three = one(&expected, &records);
    assert!(three.held == Held::Yes && three.measured.starts_with("3.00×"), "{three:?}");
    // Rows of versions that did not record what came since cannot tell.
    records.iter_mut().for_each(|r| r.memory.added_kernel_bytes = None);
    let old = one(&expected, &records);
    assert!(matches!(&old.held, Held::Undecided(why) if why.contains("0 blocks")), "{old:?}");
}

#[test]
fn selectors_choose_cells_and_a_table_shows_each_pair() {
    let mut cells = cells();
    for engine in [Engine::Threads, Engine::Tokio] {
        let id = format!("{}-more", engine.name());
        cells.push(Cell { id, lanes: 128, total_lanes: 128, ..sample::cell(engine) });
    }
    let all = expect(Engine::Tokio, Engine::Threads, Expected::P99, 1.0);
    assert_eq!(all.pairs(&cells).len(), 2, "pairs of equal lanes");
    let some = Expect { lanes: Some(128), ..all.clone() };
    assert_eq!(some.pairs(&cells).len(), 1);
    let section = section(&[all, some], &cells, &[]).expect("a table");
    assert_eq!(section.columns[0].cells.len(), 3);
    assert!(section.columns.iter().all(|c| c.cells.len() == 3));
}

/// Left out, the trials that lost their percentile would leave the fast ones to speak for all.
#[test]
fn a_trial_whose_percentile_was_lost_is_not_left_out() {
    let by = expect(Engine::Tokio, Engine::Threads, Expected::P99, 1.0);
    let mut records = trials(1.0, 12);
    for record in records.iter_mut().filter(|r| r.cell.engine == Engine::Tokio) {
        record.service_ns = Some(sample::climb(1_000_000, 2_000_000, 2_000));
    }
    assert_eq!(one(&by, &records).held, Held::Yes);
    for record in records.iter_mut().filter(|r| r.cell.engine == Engine::Tokio).take(4) {
        record.ledger.failed = 100;
        record.ledger.completed -= 100;
        record.errors.read = 100;
        record.service_ns = Some(sample::climb(1_000_000, 2_000_000, 1_900));
    }
    let lost = one(&by, &records);
    assert!(matches!(&lost.held, Held::Undecided(why) if why.contains("lost")), "{lost:?}");
}
