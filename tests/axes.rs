//! Two cells that differ on one axis, any axis, are put together by no report.

use crate::sample;
use crate::sample_expect;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::LazyLock;

use duel::config;
use duel::format::{Flag, MemorySplit, TrialRecord};
use duel::plan::cell::{families, names};
use duel::plan::expect::Expected;
use duel::plan::search::{Search, at_share, closed};
use duel::plan::{Arrivals, Axis, Cell, CellKind, Engine};
use duel::report::capacity::hosts::HostType;
use duel::report::capacity::{self, Question};
use duel::report::{Reported, html, layout, memory, summary};
use duel::results::search::{SearchProgress, replay};
use duel::results::store::{PlanJson, Versions};
use proptest::prelude::*;

/// Every axis with several values, so that each has pairs of cells that differ on it alone.
const GRID: &str = r#"
plan.arrivals = "constant"
[[plan.request]]
step = [{ kind = "http" }, { kind = "compute", bytes = "1KiB" }]
[sweep]
codecs = ["hyper", "lean"]
lanes = [2, 4]
processes = [1, 2]
cpus = [1, 3]
rates = [500, 1000]
bodies = ["1KiB", "256KiB"]
stack_sizes = ["64KiB", "2MiB"]
rayon_threads = ["lanes", "cores"]
allocators = ["glibc", "glibc-arenas-1"]
offload = ["inline", "rayon"]
trials = 1
[[sweep.target]]
name = "old"
[[sweep.target]]
name = "new"
service_time = "1ms"
"#;

/// The same of servers under test, which one client loads.
const SERVERS: &str = r#"
plan.arrivals = "constant"
server.pool_size = 2
server.upstream = {}
[[server.step]]
kind = "call"
calls = 2
[[server.step]]
kind = "compute"
bytes = "1KiB"
[sweep]
server_engines = ["threads", "tokio", "tokio-single"]
server_codecs = ["hyper", "lean"]
fan_out = [1, 2]
lanes = [2, 4]
rates = [500]
trials = 1
"#;

/// The axes of rings, of which a closed loop alone has all.
const RINGS: &str = r#"
[sweep]
engines = ["uring"]
lanes = [64]
uring_receive = ["multishot", "one-shot"]
uring_batch = [2, 16]
uring_linger = ["50us", "100us"]
trials = 1
"#;

type Pair = (Cell, Cell);

/// The pairs of timed cells that differ on this axis alone.
fn pairs(cells: &[Cell], axis: Axis) -> Vec<Pair> {
    let all = families(cells.iter().map(|c| (c, c)), &[axis]);
    let neighbours = all.iter().flat_map(|family| family.members.windows(2));
    let pairs: Vec<Pair> = neighbours.map(|two| (two[0].clone(), two[1].clone())).collect();
    let alone = |(a, b): &Pair| Axis::differing(&[a, b]) == [axis];
    pairs.into_iter().filter(alone).collect()
}

/// A cell at one, two and three times its lanes.
fn ladder(cell: &Cell) -> Vec<Cell> {
    let step = |n: u32| {
        let lanes = cell.lanes * n;
        let whole = cell.rayon_threads == Some(cell.lanes);
        Cell {
            id: format!("{}-x{n}", cell.id),
            lanes,
            total_lanes: lanes * cell.processes,
            rayon_threads: if whole { Some(lanes) } else { cell.rayon_threads },
            ..cell.clone()
        }
    };
    [1, 2, 3].map(step).into()
}

fn trials(cells: &[Cell], change: impl Fn(&mut Cell)) -> Vec<TrialRecord> {
    let of = |cell: &Cell| {
        let mut cell = cell.clone();
        change(&mut cell);
        (0..2).map(|block| sample::record(cell.clone(), block, 1.0)).collect::<Vec<_>>()
    };
    cells.iter().flat_map(of).collect()
}

fn ladders(pair: &Pair) -> Vec<Cell> {
    [&pair.0, &pair.1].into_iter().flat_map(ladder).collect()
}

#[track_caller]
fn two(axis: Axis, what: &str, found: &[String]) {
    let distinct: BTreeSet<&String> = found.iter().collect();
    assert_eq!((found.len(), distinct.len()), (2, 2), "{what} by {axis:?}: {found:?}");
}

fn tables(axis: Axis, (a, b): &Pair) {
    assert_ne!(a.id, b.id, "`compare` and `resume` go by ids");
    two(axis, "names", &names(&[a, b], &[]));
    let records = trials(&[a.clone(), b.clone()], |_| ());
    let groups = summary::summarise(&records, a.engine, 0.05);
    let row = |g: &summary::Group| -> Vec<String> {
        g.rows.iter().map(|r| format!("{}: {}", layout::heading(g), r.name)).collect()
    };
    two(axis, "rows", &groups.iter().flat_map(row).collect::<Vec<_>>());
}

fn hosts(axis: Axis, pair: &Pair) {
    // Hosts are planned for clients.
    let of_server = matches!(axis, Axis::Server | Axis::ServerCodec | Axis::FanOut);
    if of_server || matches!(axis, Axis::Lanes | Axis::Load) {
        return;
    }
    let question = Question::new(1_000.0, HostType::plain(8, 1 << 30));
    let plan = capacity::plan(&trials(&ladders(pair), |_| ()), &[question], &|_| vec![]);
    two(axis, "capacity", &plan.engines.into_iter().map(|e| e.name).collect::<Vec<_>>());
}

fn memory_ladders(axis: Axis, pair: &Pair) {
    if axis == Axis::Lanes {
        return;
    }
    let mut records = trials(&ladders(pair), |cell| cell.kind = CellKind::Memory);
    for (i, record) in records.iter_mut().enumerate() {
        let heap_bytes = Some(i as i64);
        record.memory.split = Some(MemorySplit { heap_bytes, ..MemorySplit::default() });
        // Whichever side is under test.
        record.server = Some(record.client());
    }
    let cells = memory::cells(&records);
    assert_eq!(cells.len(), 6, "memory by {axis:?}");
    let ladders = memory::ladders(&cells);
    two(axis, "memory", &ladders.into_iter().map(|l| l.name).collect::<Vec<_>>());
}

fn page(records: &[TrialRecord], engine: Engine) -> String {
    let plan = PlanJson {
        format_version: 1,
        name: "axes".into(),
        plan_hash: sample::PLAN_HASH.into(),
        seed: 1,
        created_utc: "2026-01-02T03:04:05Z".into(),
        config: serde_json::json!({}),
        trials_planned: 12,
        cells: vec![],
        machine: serde_json::json!({}),
        limits: serde_json::json!({}),
        versions: Versions::default(),
        command_line: vec![],
        shard: None,
        merged: None,
    };
    let groups = summary::summarise(records, engine, 0.05);
    html::render(&Reported::new(&plan, records, &groups), None)
}

/// What the lines of throughput are called, each with the title of its panel.
fn lines(page: &str) -> Vec<String> {
    let plot = page.split("<figcaption>Achieved req/s against lanes").nth(1).expect("a plot");
    let plot = plot.split("</figure>").next().unwrap_or(plot);
    let of = |panel: &str| -> Vec<String> {
        let (title, drawn) = panel.split_once("</text>").expect("a panel has a title");
        let says = drawn.split("<title>").skip(1).filter_map(|said| said.split(", lanes ").next());
        let names: BTreeSet<&str> = says.collect();
        assert_eq!(drawn.matches("<polyline").count(), names.len(), "a line per name: {names:?}");
        names.into_iter().map(|name| format!("{title}: {name}")).collect()
    };
    plot.split("font-weight=\"600\">").skip(1).flat_map(of).collect()
}

fn curves_and_scalability(axis: Axis, pair: &Pair) {
    if axis == Axis::Lanes {
        return;
    }
    two(axis, "curves", &lines(&page(&trials(&ladders(pair), |_| ()), pair.0.engine)));
    if axis == Axis::Load {
        return;
    }
    // Two values of lanes fit nothing, which is said of each series.
    let mut cells = ladders(pair);
    cells.retain(|c| !c.id.ends_with("-x3"));
    let closed = trials(&cells, |c| (c.arrivals, c.offered_per_s) = (Arrivals::Closed, None));
    let page = page(&closed, pair.0.engine);
    let refused = page.split("<li>").filter_map(|li| Some(li.split_once(": no fit: ")?.0.into()));
    two(axis, "scalability", &refused.collect::<Vec<_>>());
}

fn expectations(axis: Axis, (a, b): &Pair) {
    let expect = sample_expect::expect(a.engine, b.engine, Expected::Throughput, 1.0);
    let compared = expect.pairs(&[a.clone(), b.clone()]).len();
    assert_eq!(compared > 0, axis == Axis::Engine, "expectations by {axis:?}");
}

fn searches(axis: Axis, pair: &Pair) {
    if axis == Axis::Load {
        return;
    }
    let base = |cell: &Cell| Cell { offered_per_s: None, ..cell.clone() };
    let cells = [base(&pair.0), base(&pair.1)];
    let mut start = sample::record(closed(&cells[0]), 0, 1.0);
    start.flags.push(Flag::Search);
    let search = Search {
        tolerance: 0.05,
        probes: 15,
        trials: 3,
        max_trials: 10,
        min_per_s: 1.0,
        max_per_s: 1e6,
    };
    let found = replay(&cells, search, &[], &[start]);
    assert_eq!(
        found.iter().map(SearchProgress::starts).collect::<Vec<_>>(),
        [1, 0],
        "search by {axis:?}"
    );
}

fn grid(config: &str) -> Vec<Cell> {
    let sweep = config::parse(config, "x.toml", &[], Path::new("")).expect("the grid is a config");
    sweep.cells()
}

/// Each axis with its pairs, made once.
static PAIRS: LazyLock<Vec<(Axis, Vec<Pair>)>> = LazyLock::new(|| {
    // An engine of one lane has no ladder.
    let of = |config| grid(config).into_iter().filter(|c| !c.engine.has_one_lane()).collect();
    let [clients, servers, rings]: [Vec<Cell>; 3] = [GRID, SERVERS, RINGS].map(of);
    let cells = |axis| match axis {
        Axis::Server | Axis::ServerCodec | Axis::FanOut => &servers,
        Axis::Receive | Axis::Batch | Axis::Linger => &rings,
        _ => &clients,
    };
    Axis::all().map(|axis| (axis, pairs(cells(axis), axis))).collect()
});

proptest! {
    #![proptest_config(ProptestConfig { cases: 3, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn cells_that_differ_on_one_axis_are_pooled_nowhere(pick in any::<prop::sample::Index>()) {
        for (axis, pairs) in PAIRS.iter() {
            prop_assert!(!pairs.is_empty(), "the grid must have several values of {axis:?}");
            let (axis, pair) = (*axis, pick.get(pairs));
            tables(axis, pair);
            hosts(axis, pair);
            memory_ladders(axis, pair);
            curves_and_scalability(axis, pair);
            expectations(axis, pair);
            searches(axis, pair);
        }
    }
}

#[test]
fn every_field_of_a_cell_belongs_to_an_axis() {
    let fields = |cell: &Cell| match serde_json::to_value(cell).expect("a cell is JSON") {
        serde_json::Value::Object(row) => row.into_iter().map(|(name, _)| name),
        other => panic!("no object: {other}"),
    };
    let cells = [GRID, SERVERS, RINGS].into_iter().flat_map(grid);
    let cells = cells.chain([at_share(&Cell::plain(Engine::Tokio, 2), 0.5, Some(1_000.0))]);
    let found: BTreeSet<String> = cells.flat_map(|cell| fields(&cell)).collect();
    let known = Axis::all().flat_map(Axis::fields).copied().chain(["id", "label"]);
    assert_eq!(found, known.map(String::from).collect());
}

#[test]
fn kinds_are_read_as_they_are_written_and_no_others() {
    for (kind, json) in [
        (CellKind::Timed, "null"),
        (CellKind::Copy, "\"aa\""),
        (CellKind::Idle, "\"idle\""),
        (CellKind::Counted, "\"syscalls\""),
        (CellKind::Memory, "\"memory\""),
        (CellKind::IdleMemory, "\"idle memory\""),
    ] {
        let cell = Cell { kind, ..sample::cell(Engine::Tokio) };
        let row = serde_json::to_value(&cell).expect("a cell is JSON");
        assert_eq!(row["label"].to_string(), json);
        assert_eq!(serde_json::from_value::<Cell>(row).expect("a cell"), cell);
    }
    let error = serde_json::from_str::<CellKind>("\"fast\"").unwrap_err().to_string();
    assert!(error.contains("`fast` labels no kind of cell"), "{error}");
}
