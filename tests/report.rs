//! What is rendered of records: golden files, and the rules that no golden file shows.
//!
//! `DUEL_BLESS=1 cargo test --test records report::` writes the golden files anew; look at the difference.

use crate::sample;

use std::path::Path;

use duel::format::{Channel, Flag, Gate, Ledger, MemorySplit, SplitSource, Status, TrialRecord};
use duel::plan::server::ServerEngine;
use duel::plan::{Arrivals, Cell, CellKind, Codec, Engine};
use duel::report::measures::Measure;
use duel::report::{Reported, csv, html, markdown, memory, summary, table, verdict};
use duel::results::store::{PlanJson, Versions};
use duel::stats::{MARGIN, Verdict};

fn golden(name: &str, found: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name);
    if std::env::var_os("DUEL_BLESS").is_some() {
        std::fs::write(&path, found).unwrap();
        return;
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(found, expected, "tests/data/{name} differs; if that is meant: DUEL_BLESS=1");
}

fn groups_of(records: &[TrialRecord]) -> Vec<summary::Group> {
    summary::summarise(records, Engine::Threads, MARGIN)
}

fn plan_of(name: &str, records: &[TrialRecord]) -> PlanJson {
    PlanJson {
        format_version: 1,
        name: name.into(),
        plan_hash: sample::PLAN_HASH.into(),
        seed: 1,
        created_utc: "2026-01-02T03:04:05Z".into(),
        config: serde_json::Value::Null,
        cells: Vec::new(),
        trials_planned: records.len() as u64,
        machine: serde_json::json!({"cpu_model": "a processor", "kernel_release": "6.18"}),
        limits: serde_json::Value::Null,
        versions: Versions::default(),
        command_line: vec!["duel".into(), "run".into(), "@first <toml>".into()],
        shard: None,
        merged: None,
    }
}

fn markdown_of(name: &str, records: &[TrialRecord]) -> String {
    markdown::render(&Reported::new(&plan_of(name, records), records, &groups_of(records)))
}

fn open_cell(engine: Engine) -> Cell {
    let id = format!("{}-hyper-l64-p1-c1-r1000", engine.name());
    Cell { id, arrivals: Arrivals::Constant, offered_per_s: Some(1_000.0), ..sample::cell(engine) }
}

fn run(cell: &Cell, blocks: u32, cost: f64) -> Vec<TrialRecord> {
    (0..blocks).map(|b| sample::record(cell.clone(), b, cost)).collect()
}

fn closed(engine: Engine, blocks: u32, cost: f64) -> Vec<TrialRecord> {
    run(&sample::cell(engine), blocks, cost)
}

fn failed(mut record: TrialRecord, error: &str) -> TrialRecord {
    record.status = Status::Failed;
    record.error = Some(error.into());
    record.ledger = Ledger { planned: 2_000, unsent: 2_000, ..Ledger::default() };
    record.service_ns = None;
    record
}

fn gated(mut record: TrialRecord, name: &str, hard: bool) -> TrialRecord {
    if hard {
        record.status = Status::Invalid;
    } else {
        record.flags.push(Flag::Noisy);
    }
    let gate =
        Gate { name: name.into(), hard, ok: Some(false), value: Some(0.91), limit: Some(0.99) };
    record.gates.push(gate);
    record
}

/// A sweep in which everything happens: a closed group that goes well but for some trials, an open
/// group whose lanes run out, a sequential cell of its own.
fn eventful() -> Vec<TrialRecord> {
    let mut all = closed(Engine::Threads, 10, 1.0);
    all.extend(run(
        &Cell { id: "threads-aa".into(), kind: CellKind::Copy, ..sample::cell(Engine::Threads) },
        10,
        1.003,
    ));
    all.extend(closed(Engine::Rayon, 10, 1.002));
    let mut tokio = closed(Engine::Tokio, 10, 0.4);
    tokio[3] = gated(tokio[3].clone(), "steal", false);
    all.extend(tokio);
    let limit = "vm.max_map_count allows 16,370 threads; raise it or use fewer lanes";
    let mut single = closed(Engine::TokioSingle, 10, 0.38);
    single[0] = failed(single[0].clone(), limit);
    single[1] = failed(single[1].clone(), limit);
    all.extend(single);
    let lone = Cell {
        id: "sequential-hyper-l1-p1-c1".into(),
        lanes: 1,
        total_lanes: 1,
        ..sample::cell(Engine::Sequential)
    };
    all.extend(run(&lone, 3, 1.0));

    all.extend(run(&open_cell(Engine::Threads), 3, 1.0));
    let mut slow = run(&open_cell(Engine::Tokio), 3, 0.5);
    for record in &mut slow {
        record.lane_wait_ns = Some(sample::climb(1_000, 40_000_000, 2_000));
        let (done, lost) = (1_900, 100);
        record.ledger =
            Ledger { planned: 2_000, completed: done, timed_out: lost, ..Ledger::default() };
        record.service_ns = Some(sample::climb(5_000_000, 5_100_000_000, 2_000));
        record.response_ns = record.service_ns.clone();
    }
    all.extend(slow);
    let single = run(&open_cell(Engine::TokioSingle), 3, 0.5);
    all.extend(single.into_iter().map(|r| gated(r, "delivered_rate", true)));
    all
}

fn row(records: &[TrialRecord], engine: Engine) -> summary::Row {
    let groups = groups_of(records);
    let found = groups.iter().flat_map(|g| &g.rows).find(|r| r.cell.engine == engine);
    found.expect("every cell is a row").clone()
}

#[test]
fn golden_files() {
    let records = eventful();
    golden("table-wide.txt", &table::render("first", &groups_of(&records), &[], None, false));
    golden("table-80.txt", &table::render("first", &groups_of(&records), &[], Some(80), false));
    golden("report.md", &markdown_of("first", &records));
    golden("cells.csv", &csv::render(&groups_of(&records)));
}

#[test]
fn tables_fit_their_terminal() {
    for width in [60, 80, 100, 120, 160, 200] {
        let text = table::render("first", &groups_of(&eventful()), &[], Some(width), false);
        for line in text.lines() {
            let long = line.chars().count();
            assert!(long <= width.into(), "{long} columns of {width}: {line}");
        }
    }
}

/// How to read the marks is said below the last of the groups that it holds for.
#[test]
fn what_is_the_same_for_several_groups_is_told_once() {
    let at = |lanes: u32| {
        let of = |engine: Engine| {
            let id = format!("{}-l{lanes}", engine.name());
            run(&Cell { id, lanes, total_lanes: lanes, ..sample::cell(engine) }, 3, 1.0)
        };
        [of(Engine::Threads), of(Engine::Tokio)].concat()
    };
    let text = |records: &[TrialRecord]| table::render("x", &groups_of(records), &[], None, false);
    let legend = "ratios to threads within blocks; no intervals under 6 trials";
    let all = text(&[at(8), at(16), at(32)].concat());
    assert_eq!(all.matches(legend).count(), 1, "{all}");
    assert!(all.trim_end().ends_with(legend), "{all}");
}

#[test]
fn connects_and_handshakes_stand_below_the_table_where_they_matter() {
    const TLS: &str = "TLSv1_3 TLS13_AES_256_GCM_SHA384";
    let mut https = closed(Engine::Tokio, 1, 1.0);
    let plain = table::render("x", &groups_of(&https), &[], Some(200), false);
    assert!(!plain.contains("connections: connect"), "{plain}");
    https[0].handshake_ns = Some(sample::climb(1_000_000, 3_000_000, 2_000));
    https[0].tls = Some(TLS.into());
    let shown = table::render("x", &groups_of(&https), &[], Some(200), false);
    for part in ["tokio: 64 connections: connect p50 6", "; handshake p50 2 ms, p99 2.9", TLS] {
        assert!(shown.contains(part), "{part:?} is not in {shown}");
    }
    let mut closing = closed(Engine::Tokio, 1, 1.0);
    closing[0].reconnects = 1_999;
    let shown = table::render("x", &groups_of(&closing), &[], Some(200), false);
    assert!(shown.contains("tokio: 64 connections: connect p50 6"), "{shown}");
    assert!(!shown.contains("handshake"), "{shown}");
}

#[test]
fn colour_only_where_wanted() {
    let records = eventful();
    let plain = table::render("first", &groups_of(&records), &[], Some(100), false);
    assert!(!plain.contains('\x1b'), "escape codes without colour");
    let coloured = table::render("first", &groups_of(&records), &[], Some(100), true);
    let wide = table::render("first", &groups_of(&records), &[], None, true);
    let red: Vec<&str> = wide.lines().filter(|l| l.contains("\x1b[31m")).collect();
    assert_eq!(red.len(), 2, "the row with failures and the invalid one: {red:?}");
    assert!(red.iter().all(|l| l.contains("tokio-single")), "{red:?}");
    let mut stripped = coloured;
    for code in ["\x1b[1m", "\x1b[2m", "\x1b[31m", "\x1b[33m", "\x1b[0m"] {
        stripped = stripped.replace(code, "");
    }
    assert_eq!(stripped, plain);
}

#[test]
fn text_from_outside_steers_neither_terminal_nor_markdown() {
    let mut records = closed(Engine::Threads, 1, 1.0);
    records.push(failed(
        closed(Engine::Tokio, 1, 1.0).remove(0),
        "got \x1b[2J<img src=x> | @all\n# x",
    ));
    let terminal = table::render("a\x1bb", &groups_of(&records), &[], Some(80), false);
    assert!(!terminal.contains('\x1b'), "{terminal}");
    let text = markdown_of("x", &records);
    assert!(text.contains("&lt;img src=x&gt; \\| &#64;all \\# x"), "{text}");
    let sheet = csv::render(&groups_of(&records));
    assert!(sheet.contains("\"got \x1b[2J<img src=x> | @all\n# x\""), "{sheet}");
}

#[test]
fn bad_trials_are_shown_and_never_compared() {
    let mut records = closed(Engine::Threads, 10, 1.0);
    let mut bad = closed(Engine::Tokio, 10, 0.1);
    for record in bad.iter_mut().take(4) {
        *record = gated(record.clone(), "littles_law", true);
        record.cpu.per_request_ns *= 1_000.0;
    }
    records.extend(bad.clone());
    let tokio = row(&records, Engine::Tokio);
    assert_eq!((tokio.tally.valid, tokio.tally.invalid), (6, 4));
    assert_eq!(tokio.cpu_ratio().expect("six pairs are left").estimate.n, 6);
    assert!(tokio.figures.expect("six trials").get(Measure::CpuPerRequest).unwrap() < 2_000.0);

    let mut records = closed(Engine::Threads, 10, 1.0);
    records.extend(bad.into_iter().map(|r| gated(r, "littles_law", true)));
    let tokio = row(&records, Engine::Tokio);
    assert!(!tokio.ranked && tokio.figures.is_some() && tokio.cpu_ratio().is_none());
}

#[test]
fn a_row_is_ranked_with_half_of_its_trials_and_three() {
    for (all, valid, ranked) in [(10, 5, true), (10, 4, false), (10, 1, false), (6, 3, true)] {
        let mut records = closed(Engine::Threads, all, 1.0);
        for record in records.iter_mut().skip(valid as usize) {
            *record = gated(record.clone(), "littles_law", true);
        }
        assert_eq!(row(&records, Engine::Threads).ranked, ranked, "{valid} of {all}");
    }
    // Whoever asks for two trials sees what they say.
    assert!(row(&closed(Engine::Threads, 2, 1.0), Engine::Threads).ranked);
}

#[test]
fn noise_excludes_no_trial_from_a_comparison_and_marks_levels() {
    let busy = |from: u32| -> Vec<TrialRecord> {
        [(Engine::Threads, 1.0), (Engine::Tokio, 0.5)]
            .into_iter()
            .flat_map(|(engine, cost)| closed(engine, 10, cost))
            .map(|r| match r.block >= from {
                false => r,
                true => {
                    let mut noisy = gated(r, "foreign_cpu_share", false);
                    noisy.cpu.per_request_ns *= 3.0;
                    noisy
                }
            })
            .collect()
    };
    let quiet_cpu =
        row(&busy(10), Engine::Tokio).figures.unwrap().get(Measure::CpuPerRequest).unwrap();
    for (from, marked) in [(10, false), (5, false), (4, true), (0, true)] {
        let records = busy(from);
        let tokio = row(&records, Engine::Tokio);
        assert!(tokio.ranked);
        assert_eq!(tokio.noisy_levels, marked, "quiet up to block {from}");
        let ratio = tokio.cpu_ratio().unwrap();
        assert_eq!((ratio.estimate.n, ratio.verdict), (10, Verdict::Lower), "from {from}");
        let figures = tokio.figures.unwrap();
        assert_eq!(figures.trials, 10, "memory, switches and threads are those of all");
        let cpu = figures.get(Measure::CpuPerRequest).unwrap();
        assert_eq!(cpu > 1.5 * quiet_cpu, marked, "{cpu} for {quiet_cpu}");
        let text = table::render("x", &groups_of(&records), &[], None, false);
        assert_eq!(text.contains("~ the machine was busy"), marked, "{text}");
        assert_eq!(text.matches('~').count() > 1, marked, "{text}");
    }
}

#[test]
fn a_repeat_that_was_stopped_replaces_nothing() {
    let noisy = gated(sample::record(sample::cell(Engine::Threads), 0, 1.0), "steal", false);
    let stopped = TrialRecord { status: Status::Interrupted, ..noisy.clone() };
    for order in [[&noisy, &stopped], [&stopped, &noisy]] {
        let records: Vec<_> = order.into_iter().cloned().collect();
        let groups = groups_of(&records);
        let tally = groups[0].rows[0].tally;
        assert_eq!((tally.noisy, tally.interrupted, tally.repeated), (1, 0, 1), "{tally:?}");
    }
}

#[test]
fn cells_that_send_nothing_stand_apart_and_show_what_a_second_costs() {
    let records: Vec<_> = [Engine::Threads, Engine::Tokio]
        .into_iter()
        .flat_map(|engine| {
            let cell = sample::cell(engine);
            let idle = Cell {
                id: format!("{}-idle", cell.id),
                kind: CellKind::Idle,
                offered_per_s: Some(0.0),
                ..cell.clone()
            };
            let mut record = sample::record(idle, 0, 1.0);
            record.ledger = Ledger::default();
            record.service_ns = None;
            record.cpu.per_request_ns = 0.0;
            record.measured_ns = 500_000_000;
            record.cpu.total_ns = 1_000_000;
            [sample::record(cell, 0, 1.0), record]
        })
        .collect();
    let groups = groups_of(&records);
    assert_eq!(groups.iter().map(|g| g.cell.is_idle()).collect::<Vec<_>>(), [false, true]);
    let text = table::render("t", &groups_of(&records), &[], None, false);
    let idle = text.split("armed, no request").nth(1).expect("a group of their own");
    let names = groups.iter().map(|g| g.rows.iter().map(|r| r.name.as_str()).collect::<Vec<_>>());
    assert_eq!(names.collect::<Vec<_>>(), [["threads", "tokio"]; 2], "the heading says the rest");
    assert!(idle.contains("2 ms") && !idle.contains("no request fell"), "1 ms in 0.5 s: {text}");
}

#[test]
fn a_repeated_block_counts_once_with_its_quiet_trial() {
    let quiet = closed(Engine::Threads, 1, 1.0).remove(0);
    let noisy = gated(quiet.clone(), "steal", false);
    for order in [[&noisy, &quiet], [&quiet, &noisy]] {
        let records: Vec<TrialRecord> = order.into_iter().cloned().collect();
        let threads = row(&records, Engine::Threads);
        assert_eq!((threads.tally.blocks, threads.tally.valid, threads.tally.repeated), (1, 1, 1));
        assert!(threads.ranked && threads.failed_gates.is_empty(), "{threads:?}");
    }
}

#[test]
fn verdicts_know_the_noise_floor_and_the_number_of_comparisons() {
    let records = eventful();
    let rayon = row(&records, Engine::Rayon).cpu_ratio().unwrap().verdict;
    assert_eq!(rayon, Verdict::Equal { margin: MARGIN });
    assert_eq!(row(&records, Engine::Tokio).cpu_ratio().unwrap().verdict, Verdict::Lower);
    let few: Vec<TrialRecord> = [Engine::Threads, Engine::Rayon, Engine::Tokio]
        .into_iter()
        .zip([1.0, 2.0, 0.5])
        .flat_map(|(e, cost)| closed(e, 6, cost))
        .collect();
    let tokio = row(&few, Engine::Tokio).cpu_ratio().unwrap();
    let undecided = matches!(tokio.verdict, Verdict::Undecided { up_to: Some(end) } if end < 0.6);
    assert!(undecided, "six blocks cannot settle four comparisons: {tokio:?}");
    let text = table::render("x", &groups_of(&few), &[], None, false);
    assert!(text.contains("run at least 8"), "{text}");
    // What may be either is not called less.
    let costs = [0.5, 1.2, 0.8, 1.1, 0.7, 1.3, 0.9, 0.6];
    let mut either = closed(Engine::Threads, 8, 1.0);
    for (block, cost) in (0..).zip(costs) {
        either.push(sample::record(sample::cell(Engine::Tokio), block, cost));
    }
    let said = verdict::text(&either, &groups_of(&either), None);
    let cpu = "tokio used CPU per request that cannot be told from that of threads (undecided, \
               anything from 3";
    assert!(said.contains(cpu) && said.contains("% less to 1"), "{said}");
    let point = row(&few.into_iter().filter(|r| r.block < 5).collect::<Vec<_>>(), Engine::Tokio);
    assert_eq!(point.cpu_ratio().unwrap().verdict, Verdict::Undecided { up_to: None });
}

#[test]
fn comparisons_of_all_groups_are_judged_together() {
    let of = |lanes: u32| {
        let records = [(Engine::Threads, 1.0), (Engine::Tokio, 0.5)]
            .into_iter()
            .flat_map(|(engine, cost)| closed(engine, 8, cost));
        records.map(move |mut r| {
            r.cell.id = format!("{}-{lanes}", r.cell.id);
            (r.cell.lanes, r.cell.total_lanes) = (lanes, lanes);
            r
        })
    };
    let verdicts = |groups: &[summary::Group]| -> Vec<Verdict> {
        groups.iter().flat_map(|g| &g.rows).filter_map(|r| Some(r.cpu_ratio()?.verdict)).collect()
    };
    // Alone, eight blocks settle two comparisons; among the sixteen of eight groups they do not.
    let one: Vec<TrialRecord> = of(1).collect();
    assert_eq!(verdicts(&groups_of(&one)), [Verdict::Lower]);
    let many: Vec<TrialRecord> = (1..=8).flat_map(of).collect();
    let groups = groups_of(&many);
    assert!(groups.iter().all(|g| g.among == 16), "{:?}", groups[0].among);
    let undecided = |v: &Verdict| matches!(v, Verdict::Undecided { up_to: Some(_) });
    assert!(verdicts(&groups).iter().all(undecided), "{:?}", verdicts(&groups));
    let text = table::render("x", &groups, &[], None, false);
    assert!(text.contains("among 16 comparisons (Holm), run at least 10 trials"), "{text}");
}

#[test]
fn damaged_histograms_cost_their_percentiles_only() {
    let mut records = closed(Engine::Threads, 2, 1.0);
    records[0].service_ns.as_mut().unwrap().hdr = "HISTFAAAA".into();
    let threads = row(&records, Engine::Threads);
    let figures = threads.figures.unwrap();
    assert_eq!(figures.times(Channel::Service).p50, None);
    assert!(figures.get(Measure::Achieved).unwrap() > 0.0);
    assert!(threads.errors.keys().any(|e| e.contains("service_ns")), "{:?}", threads.errors);
}

#[test]
fn nothing_measured_is_said() {
    assert!(table::render("x", &[], &[], Some(80), false).contains("no trials"));
    assert!(markdown_of("x", &[]).contains("No trials"));
    assert_eq!(csv::render(&[]), "");
    let lost: Vec<TrialRecord> =
        closed(Engine::Tokio, 2, 1.0).into_iter().map(|r| failed(r, "target is down")).collect();
    let text = table::render("x", &groups_of(&lost), &[], Some(80), false);
    assert!(text.contains("2 of 2 trials: target is down"), "{text}");
}

/// A memory trial in which a lane costs 8 KiB of stack and 16 KiB of kernel stack, and nothing of
/// what was counted stays unexplained but 1 KiB a lane.
fn memory_trial(lanes: u32, block: u32) -> TrialRecord {
    let cell = Cell {
        id: format!("threads-hyper-l{lanes}-p1-c1-memory"),
        kind: CellKind::Memory,
        lanes,
        total_lanes: lanes,
        ..sample::cell(Engine::Threads)
    };
    let n = i64::from(lanes);
    let mut record = sample::record(cell, block, 1.0);
    record.memory.split = Some(MemorySplit {
        source: SplitSource::CgroupV1,
        total_bytes: Some(100_000 + n * (25 << 10)),
        stack_bytes: n * (8 << 10),
        heap_bytes: Some(120_000),
        heap_slack_bytes: Some(-20_000),
        heap_resident_bytes: 100_000,
        kernel_stack_bytes: n * (16 << 10),
        tcp_buffer_bytes: Some(0),
        unattributed_bytes: Some(n << 10),
        object_sizes_from_kernel: true,
        ..MemorySplit::default()
    });
    record
}

#[test]
fn memory_trials_stand_in_no_other_table_and_a_ladder_is_fitted() {
    let mut records: Vec<TrialRecord> = [100, 1_000, 4_000]
        .into_iter()
        .flat_map(|lanes| (0..2).map(move |block| memory_trial(lanes, block)))
        .collect();
    assert!(
        summary::summarise(&records, Engine::Threads, MARGIN).is_empty(),
        "their latency is not ranked"
    );
    let mut failed = memory_trial(8_000, 0);
    (failed.status, failed.error) = (Status::Failed, Some("no room".into()));
    failed.memory.split = None;
    records.push(failed);

    let cells = memory::cells(&records);
    assert_eq!(cells.iter().map(|c| c.cell.lanes).collect::<Vec<_>>(), [100, 1_000, 4_000, 8_000]);
    let ladders = memory::ladders(&cells);
    assert_eq!(ladders.len(), 1);
    assert_eq!((ladders[0].name.as_str(), ladders[0].lanes), ("threads", (100, 4_000)));
    let slope = |name: &str| {
        let (.., fit) = ladders[0].fits.iter().find(|(n, ..)| *n == name).expect("the part");
        (fit.slope.round(), fit.intercept.round())
    };
    assert_eq!(slope("stack"), (8_192.0, 0.0));
    assert_eq!(slope("heap"), (0.0, 120_000.0));
    assert_eq!(slope("total"), (25_600.0, 100_000.0));
    assert_eq!(slope("unattributed"), (1_024.0, 0.0));
    let most = ladders[0].most_unattributed.expect("steps of 1,000 lanes and more");
    assert!((0.035..0.045).contains(&most), "{most}");

    // What was repeated counts for nothing.
    let mut repeated = records.clone();
    for record in &records[..6] {
        let mut noisy = gated(record.clone(), "steal_share", false);
        let split = noisy.memory.split.as_mut().expect("a memory trial");
        (split.total_bytes, split.stack_bytes) = (Some(9 << 30), 8 << 30);
        repeated.insert(0, noisy);
    }
    assert_eq!(memory::json(&repeated), memory::json(&records));

    let sections = memory::sections(&records);
    let text = table::render("x", &[], &sections, None, false);
    assert!(text.contains("where the bytes go") && text.contains("cost per lane"), "{text}");
    assert!(text.contains("8,000 lanes: no room"), "a failed trial is told: {text}");
    let narrow = table::render("x", &[], &sections, Some(80), false);
    assert!(narrow.lines().all(|l| l.chars().count() <= 80), "{narrow}");
    let json: serde_json::Value = serde_json::from_str(&memory::json(&records).unwrap()).unwrap();
    let stack = &json["ladders"][0]["parts"]["stack"];
    assert_eq!(stack["slope_bytes_per_lane"].as_f64().map(f64::round), Some(8_192.0), "{json}");
    assert_eq!(json["cells"].as_array().map(Vec::len), Some(4));
    assert_eq!(memory::json(&records[..0]), None);
}

#[test]
fn trials_csv_marks_the_repeat_that_stands() {
    let mut records = closed(Engine::Threads, 2, 1.0);
    let mut noisy = records[0].clone();
    noisy.flags.push(Flag::Noisy);
    records.insert(0, noisy);
    let sheet = csv::trials(&records);
    let rows: Vec<Vec<&str>> = sheet.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!(rows.len(), 4, "a header and a row per trial:\n{sheet}");
    let column = |name: &str| -> Vec<&str> {
        let at = rows[0].iter().position(|title| *title == name);
        let at = at.unwrap_or_else(|| panic!("no column {name}:\n{sheet}"));
        rows[1..].iter().map(|row| row[at]).collect()
    };
    assert!(rows.iter().all(|row| row.len() == rows[0].len()), "{sheet}");
    assert_eq!(column("superseded"), ["true", "false", "false"]);
    assert_eq!(column("noisy"), ["true", "false", "false"]);
    assert_eq!(column("block"), ["0", "0", "1"]);
    let p50 = column("service_p50_ns")[0].parse::<f64>().expect("nanoseconds");
    let ms = column("latency_p50_ms")[0].parse::<f64>().expect("milliseconds");
    assert!((p50 / 1e6 - ms).abs() < 1e-9, "{p50} ns, {ms} ms");
}

#[test]
fn lanes_ran_out_only_where_all_of_them_were_busy() {
    let mut records = eventful();
    let says = |records: &[TrialRecord]| {
        let text = table::render("first", &groups_of(records), &[], None, false);
        text.contains("lanes ran out")
    };
    assert!(says(&records), "as in older rows, which do not say how many were in flight");
    let mut in_flight = |peak| {
        records.iter_mut().for_each(|r| r.in_flight_peak = Some(peak));
        says(&records)
    };
    assert!(in_flight(64) && !in_flight(63), "a free lane means that the CPU was waited for");
}

#[test]
fn an_engine_alone_is_told_by_its_own_figures() {
    let said = |records: &[TrialRecord]| verdict::text(records, &groups_of(records), None);
    let closed = said(&closed(Engine::Tokio, 3, 1.0));
    assert!(
        closed.contains("tokio completed") && closed.contains("of CPU per request"),
        "{closed}"
    );
    assert!(closed.contains("Only tokio ran, so nothing is compared."), "{closed}");
    let at = |rate| Cell { offered_per_s: Some(rate), ..open_cell(Engine::Tokio) };
    let at = |rate| Cell { id: format!("tokio-r{rate}"), ..at(rate) };
    let rates: Vec<TrialRecord> =
        [200.0, 900.0, 1_500.0].iter().flat_map(|rate| run(&at(*rate), 3, 1.0)).collect();
    let said = said(&rates);
    assert!(said.contains("At 200 req/s") && said.contains("At 1,500 req/s"), "{said}");
    assert!(!said.contains("900"), "the least and the most demanding are enough: {said}");
}

#[test]
fn a_window_without_a_request_is_told_below_the_table() {
    let mut records = closed(Engine::Tokio, 4, 1.0);
    records[2].status = Status::Invalid;
    records[2].ledger = Ledger::default();
    let text = table::render("first", &groups_of(&records), &[], None, false);
    assert!(text.contains("1 of 4 invalid"), "{text}");
    assert!(text.contains("no request fell inside the window in 1 of 4 trials"), "{text}");
}

#[test]
fn either_will_do_where_the_whole_difference_is_small() {
    let said = |rate: f64| {
        let at = |engine| Cell { offered_per_s: Some(rate), ..open_cell(engine) };
        let mut records = run(&at(Engine::Threads), 10, 1.0);
        records.extend(run(&at(Engine::Tokio), 10, 0.4));
        verdict::text(&records, &groups_of(&records), None)
    };
    // 60 % less CPU each time, of a hundredth of a CPU and of more than half of one.
    let small = said(1_000.0);
    assert!(small.contains("1,000 req/s either will do: they differ by 0.01"), "{small}");
    let large = said(100_000.0);
    assert!(large.contains("less CPU") && !large.contains("either will do"), "{large}");
    let mut records = closed(Engine::Threads, 10, 1.0);
    records.extend(closed(Engine::Tokio, 10, 0.99));
    let closed = verdict::text(&records, &groups_of(&records), None);
    assert!(!closed.contains("either will do"), "nobody planned that load: {closed}");
}

#[test]
fn the_cheapest_of_all_is_called_so_and_no_other() {
    let said = |tokio: f64, rayon: f64| {
        let mut records = closed(Engine::Threads, 10, 1.0);
        records.extend(closed(Engine::Tokio, 10, tokio));
        records.extend(closed(Engine::Rayon, 10, rayon));
        verdict::text(&records, &groups_of(&records), None)
    };
    let less = said(0.4, 2.0);
    assert!(less.contains("tokio, the cheapest of 3 engines, used"), "{less}");
    let more = said(1.5, 2.0);
    assert!(more.contains("tokio, the cheapest of the 2 others, used"), "{more}");
    assert!(more.contains("more CPU per request than threads"), "{more}");
}

#[test]
fn a_verdict_names_the_codec_where_there_are_several() {
    let mut records = closed(Engine::Threads, 10, 1.0);
    records.extend(closed(Engine::Tokio, 10, 0.4));
    let one = verdict::text(&records, &groups_of(&records), None);
    assert!(one.starts_with("In a closed loop of 64 lanes, tokio used"), "{one}");
    let lean = |engine: Engine| Cell {
        id: format!("{}-lean", engine.name()),
        codec: Codec::Lean,
        ..sample::cell(engine)
    };
    records.extend(run(&lean(Engine::Threads), 10, 0.6));
    records.extend(run(&lean(Engine::Tokio), 10, 0.3));
    let two = verdict::text(&records, &groups_of(&records), None);
    let named =
        |codec| two.starts_with(&format!("In a closed loop of 64 lanes with {codec}, tokio"));
    assert!(named("lean") || named("hyper"), "{two}");
}

/// Memory that grows by 9 KiB for each lane beside a fixed cost of 300 KiB.
#[test]
fn memory_per_lane_is_a_slope_where_lanes_were_swept_and_a_share_elsewhere() {
    let cell = |lanes: u32| {
        let cell = sample::cell(Engine::Threads);
        Cell { id: format!("threads-l{lanes}"), lanes, total_lanes: lanes, ..cell }
    };
    let run = |lanes: u32| {
        let record = |block| {
            let mut record = sample::record(cell(lanes), block, 1.0);
            record.memory.added_bytes = Some((300 + 9 * u64::from(lanes)) * 1024);
            record
        };
        (0..3).map(record).collect::<Vec<_>>()
    };
    let both = [run(16), run(64)].concat();
    let text = table::render("x", &groups_of(&both), &[], None, false);
    assert_eq!(text.matches("9 KiB").count(), 2, "the slope in both tables: {text}");
    assert!(text.contains("per lane") && !text.contains("fixed cost"), "{text}");
    let text = table::render("x", &groups_of(&run(64)), &[], None, false);
    assert!(text.contains("÷ lanes,") && text.contains("fixed cost included"), "{text}");
    assert!(text.contains("13.7 KiB"), "{text}");
    let sheet = csv::render(&groups_of(&both));
    assert!(sheet.lines().next().unwrap().contains("memory_slope_bytes"), "{sheet}");
    assert_eq!(sheet.matches(",9216").count(), 2, "{sheet}");
}

/// Bars are what was added: page tables and stacks of the process before any lane are no part of them.
#[test]
fn bars_of_memory_hold_nothing_from_before_the_baseline() {
    let page = |added: Option<u64>| {
        let mut records = run(&sample::cell(Engine::Threads), 3, 1.0);
        for record in &mut records {
            record.memory.added_bytes = Some(64 << 10);
            record.memory.page_table_bytes = Some(64 << 40);
            record.memory.kernel_stack_bytes = Some(64 << 40);
            record.memory.added_kernel_bytes = added;
        }
        let plan = plan_of("x", &records);
        let page = html::render(&Reported::new(&plan, &records, &groups_of(&records)), None);
        assert!(!page.contains("TiB"), "the whole process is in it");
        page
    };
    let part = "page tables and kernel stacks: 24 KiB";
    assert!(page(Some(64 * (24 << 10))).contains(part));
    assert!(!page(None).contains("page tables and kernel stacks"), "an old row cannot tell");
}

/// Why the client's memory is unknown says nothing of the server's.
#[test]
fn what_was_not_measured_is_told_of_the_side_under_test() {
    let cell = sample::cell(Engine::Tokio);
    let cell = Cell { server_engine: Some(ServerEngine::Threads), server_nth: Some(0), ..cell };
    let mut records = run(&cell, 3, 1.0);
    for record in &mut records {
        record.server = Some(record.client());
        for (field, why) in [("memory", "no client"), ("server.memory", "no server")] {
            record.unavailable.insert(format!("{field}.kernel_bytes"), why.into());
        }
    }
    let plan = plan_of("x", &records);
    let page = html::render(&Reported::new(&plan, &records, &groups_of(&records)), None);
    assert!(page.contains("Not measured: kernel (no server)."), "{page}");
    assert!(!page.contains("no client"), "{page}");
}

/// A reader divides the two figures beside a ratio: they must be what it is of, not what one lane adds.
#[test]
fn the_verdict_s_memory_figures_give_its_ratio() {
    let run = |engine, lanes: u32, user: u64, kernel: u64| {
        let id = format!("{engine:?}-l{lanes}");
        let cell = Cell { id, lanes, total_lanes: lanes, ..sample::cell(engine) };
        let record = |block| {
            let mut record = sample::record(cell.clone(), block, 1.0);
            record.memory.added_bytes = Some((1_000 + user * u64::from(lanes)) * 1024);
            record.memory.kernel_bytes = Some(kernel * u64::from(lanes) * 1024);
            record
        };
        (0..10).map(record).collect::<Vec<_>>()
    };
    let mut records = Vec::new();
    for lanes in [16, 64] {
        records.extend(run(Engine::Threads, lanes, 20, 20));
        records.extend(run(Engine::Tokio, lanes, 6, 4));
    }
    let text = verdict::text(&records, &groups_of(&records), None);
    // (1,000 + 64 × 10) ÷ (1,000 + 64 × 40) = 0.46
    let said = "54 % [54, 54] less memory than threads (1.6 MiB against 3.48 MiB, kernel included; \
                one more lane adds 10 KiB against 40 KiB)";
    assert!(text.contains(said), "{text}");
}

#[test]
fn a_percentile_has_an_interval_over_blocks() {
    let of = |spread: u64, blocks: u32| {
        let record = |block: u32| {
            let mut record = sample::record(sample::cell(Engine::Tokio), block, 1.0);
            let top = 6_000_000 + spread * u64::from(block % 3);
            record.service_ns = Some(sample::climb(5_000_000, top, 2_000));
            record
        };
        let records: Vec<TrialRecord> = (0..blocks).map(record).collect();
        row(&records, Engine::Tokio).figures.expect("trials").clone()
    };
    let width = |figures: &summary::Figures| {
        let (low, high) = figures.times(Channel::Service).interval(0.99).expect("an interval");
        let (low, high) = (low.expect("a time"), high.expect("a time"));
        let p99 = figures.times(Channel::Service).p99.expect("a p99").ns;
        assert!(low <= p99 && p99 <= high, "[{low}, {high}] around {p99}");
        high - low
    };
    let (calm, wild) = (width(&of(0, 9)), width(&of(3_000_000, 9)));
    assert!(wild > 5 * calm, "blocks that differ make it wide: {calm} {wild}");
    assert_eq!(of(0, 5).times(Channel::Service).interval(0.99), None, "five blocks are too few");
    let records: Vec<TrialRecord> =
        (0..6).map(|b| sample::record(sample::cell(Engine::Tokio), b, 1.0)).collect();
    let sheet = csv::render(&groups_of(&records));
    let heads: Vec<&str> = sheet.lines().next().unwrap().split(',').collect();
    let cells: Vec<&str> = sheet.lines().nth(1).unwrap().split(',').collect();
    let value = |name: &str| -> u64 {
        let at = heads.iter().position(|h| *h == name).expect("a column");
        cells[at].parse().expect("a number")
    };
    assert!(value("service_p50_low_ns") < value("service_p50_ns"));
    assert!(value("service_p50_ns") < value("service_p50_high_ns"));
}

/// What was lost took for ever, wherever a percentile is used.
#[test]
fn lost_requests_count_as_infinite_in_every_percentile() {
    let lossy = |lost: u64| {
        let mut record = sample::record(sample::cell(Engine::Tokio), 0, 1.0);
        record.ledger.failed = lost;
        record.ledger.completed -= lost;
        record.errors.read = lost;
        record.service_ns = Some(sample::climb(5_000_000, 6_000_000, 2_000 - lost));
        record
    };
    let p99 = |lost| Measure::P99.of(&lossy(lost));
    assert!(p99(19).expect("a p99") > p99(0).expect("a p99"), "lost ones stand above all others");
    assert_eq!((p99(21), p99(500)), (None, None));
    assert_eq!(Measure::P50.of(&lossy(999)).map(|_| ()), Some(()));
    assert_eq!(Measure::P50.of(&lossy(1_001)), None);
    let all = |lost: u64| -> Vec<TrialRecord> {
        let of = |b| TrialRecord { block: b, trial: b, ..lossy(lost) };
        (0..6).map(of).collect()
    };
    // A curve of latency ends where requests begin that were lost.
    let points = |lost: u64| {
        let records = all(lost);
        let plan = plan_of("x", &records);
        let page = html::render(&Reported::new(&plan, &records, &groups_of(&records)), None);
        let figure = page.split("<figcaption>Latency by percentile").nth(1).expect("a plot");
        let line = figure.split("<polyline").nth(1).expect("a line").split("/>").next().unwrap();
        line.matches(',').count()
    };
    assert!(points(600) < points(0), "{} {}", points(600), points(0));
}
