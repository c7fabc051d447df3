//! What a sweep makes of its axes: cells and their ids, the order of trials, the plan hash.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use duel::config;
use duel::plan::prepare::prepare;
use duel::plan::schedule::Schedule;
use duel::plan::sweep::Sweep;
use duel::plan::target::Law;
use duel::plan::{Cell, Engine};
use duel::server::laws::draw;
use proptest::prelude::*;

/// A grid in which every axis has more than one value.
const GRID: &str = include_str!("data/grid.toml");

#[track_caller]
fn sweep(text: &str, overrides: &[&str]) -> Sweep {
    let overrides: Vec<String> = overrides.iter().map(ToString::to_string).collect();
    config::parse(text, "x.toml", &overrides, Path::new(""))
        .unwrap_or_else(|error| panic!("refused: {error}\n{text}"))
}

#[track_caller]
fn parse(text: &str) -> Sweep {
    sweep(text, &[])
}

/// Everything of a cell but its id: two cells that share it are one.
fn identity(cell: &Cell) -> String {
    serde_json::to_string(&Cell { id: String::new(), ..cell.clone() }).expect("a cell is JSON")
}

#[test]
fn cells_are_every_combination_that_differs() {
    let sweep = parse(GRID);
    let cells = sweep.cells();
    let ids: BTreeSet<&str> = cells.iter().map(|cell| cell.id.as_str()).collect();
    assert_eq!(ids.len(), cells.len(), "an id stands twice");
    let identities: BTreeSet<String> = cells.iter().map(identity).collect();
    assert_eq!(identities.len(), cells.len(), "two cells differ in nothing but the id");
    let mut count: BTreeMap<&str, usize> = BTreeMap::new();
    for cell in &cells {
        let name = if cell.is_copy() { "aa" } else { cell.engine.name() };
        *count.entry(name).or_default() += 1;
        assert_eq!(cell.total_lanes, cell.lanes * cell.processes);
        assert!(cell.stack_size_bytes.is_some(), "{} has no stack", cell.id);
        assert_eq!(cell.rayon_threads.is_some(), cell.engine == Engine::Rayon);
    }
    // Shared by all: 2 cpus × 2 processes × 2 rates × 2 bodies × 2 codecs = 32.
    assert_eq!(count["sequential"], 32, "one lane, one stack");
    assert_eq!(count["tokio"], 32 * 3, "three lanes, one stack");
    assert_eq!(count["tokio-single"], 32 * 3);
    assert_eq!(count["threads"], 32 * 3 * 2, "three lanes, two stacks");
    assert_eq!(count["aa"], count["threads"], "the baseline runs twice");
    // Six pairs of (lanes, cpus); in three of them the pool has the same size either way, since a
    // pool of a thread a CPU is never larger than its lanes.
    assert_eq!(count["rayon"], 16 * 2 * (6 * 2 - 3));
}

#[test]
fn cell_ids_read_as_documented() {
    let ids = |text: &str| -> Vec<String> {
        parse(text).cells().into_iter().map(|cell| cell.id).collect()
    };
    assert_eq!(
        ids("sweep.trials = 1"),
        [
            "sequential-hyper-l1-p1-c1",
            "threads-hyper-l64-p1-c1-s64KiB",
            "rayon-hyper-l64-p1-c1-s64KiB",
            "tokio-hyper-l64-p1-c1",
            "tokio-single-hyper-l64-p1-c1",
        ]
    );
    let open = "plan.arrivals = 'poisson'\n[sweep]\nengines = ['rayon']\nrates = [0.5, '1k']\n\
                bodies = ['256KiB']\nrayon_threads = ['cores']\naa = true";
    assert_eq!(
        ids(open),
        [
            "rayon-hyper-l64-p1-c1-r0.5-b256KiB-s64KiB-tcores",
            "rayon-hyper-l64-p1-c1-r0.5-b256KiB-s64KiB-tcores-aa",
            "rayon-hyper-l64-p1-c1-r1000-b256KiB-s64KiB-tcores",
            "rayon-hyper-l64-p1-c1-r1000-b256KiB-s64KiB-tcores-aa",
        ]
    );
    let sweep = parse(open);
    let cell = &sweep.cells()[3];
    assert!(cell.is_copy());
    assert_eq!(sweep.trial_plan(cell).offered_per_s, Some(1_000.0));
    assert_eq!(sweep.embedded_target(cell).map(|t| t.body_bytes), Some(256 << 10));
    // The order is by lanes, then engines.
    assert_eq!(
        ids("[sweep]\nengines = ['tokio', 'sequential']\nlanes = [2, 1]"),
        ["tokio-hyper-l2-p1-c1", "sequential-hyper-l1-p1-c1", "tokio-hyper-l1-p1-c1"]
    );
}

#[test]
fn the_plan_hash_covers_what_is_measured_and_no_secret() {
    let base = "name = 'a'\n[[plan.request]]\nheaders = { authorization = 'one', accept = 'x' }\n";
    let hash = parse(base).plan_hash();
    assert_eq!(hash.len(), 64);
    assert!(hash.bytes().all(|b| b.is_ascii_hexdigit()));
    let of = |set: &str| sweep(base, &[set]).plan_hash();
    for same in [
        "name=b",
        "machine.worker_cpus=[1]",
        "slo.p99=5ms",
        "sweep.noise_repeats=1",
        "plan.request.0.headers.authorization=two",
    ] {
        assert_eq!(of(same), hash, "{same} changes nothing that is measured");
    }
    for other in [
        "plan.seed=2",
        "plan.timeout=4s",
        "target.service_time=1ms",
        "sweep.lanes=[65]",
        "sweep.trials=9",
        "sweep.baseline=tokio",
        "sweep.idle=true",
        "sweep.syscalls=true",
        "sweep.memory=true",
        "sweep.allocators=['glibc']",
        "plan.request.0.headers.accept=y",
        "plan.request.0.headers.authorization=$PATH",
        "plan.request.0.path=/b",
    ] {
        assert_ne!(of(other), hash, "{other} must change the hash");
    }
    assert_eq!(parse(base).masked().plan_hash(), hash, "what is read back hashes alike");
}

#[test]
fn masking_hides_secret_headers_and_nothing_else() {
    let sweep = parse(
        "[[plan.request]]\nbody = 'token'\nheaders = { Authorization = 'a', Cookie = 'b', \
         proxy-authorization = 'c', X-Api-Key = 'd', api-key = 'e', x-csrf-token = 'f', \
         client-secret = 'g', x-password = 'h', accept = 'i', x-auth-token = '$PATH' }",
    );
    let masked = sweep.masked();
    let values: Vec<&str> = masked.plan.mix[0].headers.iter().map(|(_, v)| v.as_str()).collect();
    assert_eq!(values, ["***", "***", "***", "***", "***", "***", "***", "***", "i", "$PATH"]);
    let mut restored = masked;
    restored.plan.mix[0].headers.clone_from(&sweep.plan.mix[0].headers);
    assert_eq!(restored, sweep, "masking touched something else");
}

/// A mix of two at random instants, over three blocks.
const DRAWN: &str = "plan.arrivals = 'poisson'\nplan.requests = 50\n\
                     [[plan.request]]\npath = '/a'\n[[plan.request]]\npath = '/b'\n\
                     [sweep]\nengines = ['threads', 'tokio']\nrates = [1000]\ntrials = 3";

#[test]
fn each_block_draws_anew_and_its_cells_draw_alike() {
    let sweep = parse(DRAWN);
    let cells = sweep.cells();
    let drawn = |cell: &Cell, block| {
        let plan = sweep.block_plan(cell, block);
        let mix = prepare(&plan).expect("it can be rendered").mix;
        let law = Law::Exponential { mean_ns: 5_000_000 };
        Schedule::window(&plan, None)
            .map(|at| (at.offset_ns, mix.pick(at.index), draw(&law, plan.seed, at.index)))
            .collect::<Vec<_>>()
    };
    assert_eq!(sweep.block_plan(&cells[0], 0), sweep.trial_plan(&cells[0]), "as the config says");
    let blocks: Vec<_> = (0..3).map(|block| drawn(&cells[0], block)).collect();
    for (block, expected) in blocks.iter().enumerate() {
        assert_eq!(expected.len(), 50);
        assert_eq!(&drawn(&cells[1], block as u32), expected, "block {block} is one draw");
    }
    for (a, b) in [(0, 1), (0, 2), (1, 2)] {
        let pairs = || blocks[a].iter().zip(&blocks[b]);
        assert!(pairs().all(|(x, y)| x.0 != y.0), "arrivals of blocks {a} and {b}");
        assert!(pairs().any(|(x, y)| x.1 != y.1), "the mix of blocks {a} and {b}");
        assert!(pairs().all(|(x, y)| x.2 != y.2), "service times of blocks {a} and {b}");
    }
}

#[test]
fn neighbouring_seeds_share_no_block() {
    let seeds: BTreeSet<u64> = (0..50)
        .flat_map(|seed| {
            let sweep = sweep(DRAWN, &[&format!("plan.seed={seed}")]);
            let cell = sweep.cells().remove(0);
            (0..50).map(move |block| sweep.block_plan(&cell, block).seed)
        })
        .collect();
    assert_eq!(seeds.len(), 50 * 50);
}

#[test]
fn a_job_by_hand_has_the_draw_of_its_block() {
    let temp = tempfile::tempdir().expect("a directory");
    let config = temp.path().join("x.toml");
    std::fs::write(&config, DRAWN).expect("it can be written");
    let sweep = parse(DRAWN);
    let cells = sweep.cells();
    for trial in sweep.order(cells.len()) {
        let mut duel = std::process::Command::new(env!("CARGO_BIN_EXE_duel"));
        duel.arg("plan").arg(&config).args(["--job", &trial.position.to_string()]);
        let output = duel.output().expect("duel runs");
        let job: serde_json::Value = serde_json::from_slice(&output.stdout).expect("a job");
        let seed = sweep.block_plan(&cells[trial.cell], trial.block).seed;
        assert_eq!(job["plan"]["seed"].as_u64(), Some(seed), "position {}", trial.position);
    }
}

#[test]
fn the_order_of_a_seed_is_fixed_and_fair() {
    let order = |seed, trials| {
        let mut sweep = parse("");
        sweep.plan.seed = seed;
        sweep.trials = trials;
        sweep.order(5)
    };
    let cells: Vec<usize> = order(1, 2).iter().map(|trial| trial.cell).collect();
    assert_eq!(cells, FIRST_TEN, "a seed must give the same order in every version");
    assert_ne!(order(1, 10), order(2, 10), "another seed must give another order");
    // Each cell comes first in a fifth of the blocks: 10,000 draws have a deviation of 40.
    let mut first = [0i64; 5];
    for trial in order(1, 10_000).iter().step_by(5) {
        first[trial.cell] += 1;
    }
    assert!(first.iter().all(|n| (n - 2_000).abs() < 200), "{first:?}");
}

/// The cells of the first two blocks of five under seed 1.
const FIRST_TEN: [usize; 10] = [3, 1, 4, 0, 2, 1, 3, 2, 4, 0];

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_grid_has_unique_ids_and_cells(
        engines in prop::sample::subsequence(Engine::ALL.to_vec(), 1..=5),
        lanes in prop::collection::btree_set(1u32..6, 1..4),
        cpus in prop::collection::btree_set(1u32..6, 1..3),
        stacks in prop::collection::btree_set(16_384u64..20_000, 1..3),
        rates in prop::collection::btree_set(1u32..5_000_000, 1..4),
        aa in any::<bool>(),
    ) {
        let mut sweep = parse(GRID);
        sweep.axes.bodies.clear();
        sweep.baseline = engines[0];
        sweep.axes.engines = engines;
        sweep.axes.lanes = lanes.into_iter().collect();
        sweep.axes.cpus = cpus.into_iter().collect();
        sweep.axes.stack_sizes_bytes = stacks.into_iter().collect();
        sweep.axes.rates_per_s = rates.into_iter().map(|r| f64::from(r) / 1000.0).collect();
        sweep.aa = aa;
        let cells = sweep.cells();
        let ids: BTreeSet<&str> = cells.iter().map(|cell| cell.id.as_str()).collect();
        let identities: BTreeSet<String> = cells.iter().map(identity).collect();
        prop_assert_eq!(ids.len(), cells.len());
        prop_assert_eq!(identities.len(), cells.len());
    }

    #[test]
    fn each_block_holds_every_cell_once(cells in 0usize..60, trials in 1u32..8, seed in any::<u64>()) {
        let mut sweep = parse("");
        sweep.trials = trials;
        sweep.plan.seed = seed;
        let order = sweep.order(cells);
        prop_assert_eq!(&order, &sweep.order(cells), "the same seed gives the same order");
        prop_assert_eq!(order.len(), cells * trials as usize);
        for (position, trial) in order.iter().enumerate() {
            prop_assert_eq!(trial.position as usize, position);
            prop_assert_eq!(trial.block as usize, position / cells);
        }
        for block in order.chunks(cells.max(1)) {
            let distinct: BTreeSet<usize> = block.iter().map(|trial| trial.cell).collect();
            prop_assert_eq!(distinct, (0..cells).collect::<BTreeSet<_>>());
        }
        sweep.trials += 1;
        prop_assert_eq!(&sweep.order(cells)[..order.len()], &order[..], "more trials only append");
    }
}
