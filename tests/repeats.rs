//! A block counts once, whatever was repeated in it, and what is drawn is what the tables print.

use crate::sample;
use crate::sample_expect;

use duel::format::{ClassUse, Flag, Status, TrialRecord};
use duel::plan::expect::Expected;
use duel::plan::{Cell, Engine};
use duel::report::capacity::hosts::HostType;
use duel::report::capacity::{Question, plan};
use duel::report::{Reported, classes, csv, expect, html, markdown, steps, summary, verdict};
use duel::results::store::{PlanJson, Versions};
use duel::stats::MARGIN;

fn cells() -> Vec<Cell> {
    let of = |(engine, lanes): (Engine, u32)| Cell {
        id: format!("{}-hyper-l{lanes}-p1-c1", engine.name()),
        lanes,
        total_lanes: lanes,
        ..sample::cell(engine)
    };
    let lanes = [16, 64, 256, 1_024];
    let engines = [Engine::Threads, Engine::Tokio];
    engines.into_iter().flat_map(|engine| lanes.map(|lanes| of((engine, lanes)))).collect()
}

/// A trial with something for every section.
fn trial(cell: &Cell, block: u32, cost: f64, noisy: bool) -> TrialRecord {
    let mut record = sample::record(cell.clone(), block, cost);
    record.achieved_per_s /= cost;
    let low = (5e6 * cost) as u64;
    record.service_ns = Some(sample::climb(low, 2 * low, 2_000));
    record.heartbeat_ns = record.service_ns.clone();
    record.steps.http_ns = record.service_ns.clone();
    let class =
        ClassUse { ledger: record.ledger, times_ns: record.service_ns.clone(), service_ns: None };
    record.classes.insert("heavy".into(), class);
    if noisy {
        record.flags.push(Flag::Noisy);
    }
    record
}

fn page(records: &[TrialRecord]) -> String {
    let groups = summary::summarise(records, Engine::Threads, MARGIN);
    html::render(&Reported::new(&plan_json(), records, &groups), None)
}

fn plan_json() -> PlanJson {
    PlanJson {
        format_version: 2,
        name: "repeats".into(),
        plan_hash: sample::PLAN_HASH.into(),
        seed: 1,
        created_utc: "2026-01-02T03:04:05Z".into(),
        config: serde_json::Value::Null,
        cells: cells(),
        trials_planned: 64,
        machine: serde_json::Value::Null,
        limits: serde_json::Value::Null,
        versions: Versions::default(),
        command_line: vec!["duel".into()],
        shard: None,
        merged: None,
    }
}

/// Everything that is shown of records, by name.
fn reports(records: &[TrialRecord]) -> Vec<(&'static str, String)> {
    let groups = summary::summarise(records, Engine::Threads, MARGIN);
    let expected = |measure| sample_expect::expect(Engine::Tokio, Engine::Threads, measure, 1.0);
    let expects = [Expected::CpuPerRequest, Expected::P99, Expected::Runs].map(expected);
    // How many trials were repeated is told, and is all that may differ.
    let fixed = |text: String| {
        let (before, after) = text.split_once(" planned trials").expect("it is told");
        let rest = after
            .strip_prefix(" and ")
            .map_or(after, |rest| rest.split_once("repeats").expect("their number").1);
        format!("{before}{rest}")
    };
    let hosts = HostType::plain(2, 8 << 30);
    let capacity = plan(records, &[Question::new(1_000.0, hosts)], &|_| vec![]);
    let section = |section: Option<_>| format!("{section:#?}");
    vec![
        ("cells.csv", csv::render(&groups)),
        ("capacity", format!("{capacity:#?}")),
        ("expectations", section(expect::section(&expects, &cells(), records))),
        ("steps", section(steps::section(records))),
        ("report.md", fixed(markdown::render(&Reported::new(&plan_json(), records, &groups)))),
        ("report.html", fixed(page(records))),
    ]
}

#[test]
fn a_repeat_takes_the_place_of_its_trial_in_every_report() {
    for noisy in [false, true] {
        let block = |b| {
            let costs = cells().into_iter().map(move |cell| {
                let cost = if cell.engine == Engine::Tokio { 0.5 } else { 1.0 };
                (cell, cost)
            });
            costs.map(move |(cell, cost)| trial(&cell, b, cost, noisy))
        };
        let stand: Vec<TrialRecord> = (0..8).flat_map(block).collect();
        let mut all = Vec::new();
        for record in &stand {
            // What was repeated ran before; a repeat that was stopped after.
            let cost = 3.0 + f64::from(record.block);
            let mut replaced = trial(&record.cell, record.block, cost, true);
            replaced.started_unix_ns = record.started_unix_ns.map(|ns| ns - 500_000_000);
            all.push(replaced);
            all.push(record.clone());
            if record.block % 2 == 0 {
                let mut stopped = trial(&record.cell, record.block, 9.0, true);
                stopped.status = Status::Interrupted;
                all.push(stopped);
            }
        }
        for ((name, alone), (_, repeated)) in reports(&stand).into_iter().zip(reports(&all)) {
            let differs = alone.lines().zip(repeated.lines()).find(|(a, b)| a != b);
            assert!(alone == repeated, "{name}, noisy {noisy}: {differs:?}");
        }
    }
}

/// Levels come from the quiet trials where they are enough: in the tables and in what is drawn.
#[test]
fn plots_read_the_trials_that_the_tables_read() {
    let drawn = |busy: f64| {
        let block = |b| {
            cells().into_iter().map(move |cell| match b {
                0..3 => {
                    let mut record = trial(&cell, b, 1.0, true);
                    let slow = trial(&cell, b, busy, true);
                    record.service_ns = slow.service_ns;
                    record.cpu.per_request_ns *= busy;
                    record
                }
                _ => trial(&cell, b, 1.0, false),
            })
        };
        let page = page(&(0..8).flat_map(block).collect::<Vec<_>>());
        let section = |title: &str| {
            let (_, rest) = page.split_once(&format!("<h2>{title}</h2>")).expect(title);
            rest.split("</section>").next().unwrap_or_default().to_string()
        };
        ["Latency by percentile", "Where the CPU time goes", "Against lanes and rate"].map(section)
    };
    for (calm, busy) in drawn(1.0).into_iter().zip(drawn(7.0)) {
        assert!(calm == busy, "{calm}\n\nwith slow noisy trials\n\n{busy}");
    }
}

/// A percentile that falls on a lost request is the slowest of all: no plot may leave it out.
#[test]
fn a_curve_has_no_point_where_most_trials_lost_their_percentile() {
    let page_of = |lossy: u32| {
        let block = |b| {
            cells().into_iter().map(move |cell| {
                let mut record = trial(&cell, b, 1.0, false);
                if b < lossy && cell.total_lanes == 1_024 {
                    let lost = 100;
                    record.ledger.failed = lost;
                    record.ledger.completed -= lost;
                    record.errors.read = lost;
                    record.service_ns = Some(sample::climb(5_000_000, 6_000_000, 2_000 - lost));
                }
                record
            })
        };
        page(&(0..8).flat_map(block).collect::<Vec<_>>())
    };
    let curve = |page: &str| {
        let (_, rest) = page.split_once("<figcaption>P99 against lanes").expect("the curve");
        rest.split("</figure>").next().unwrap_or_default().to_string()
    };
    assert!(curve(&page_of(0)).contains("lanes 1,024:"));
    let curve = curve(&page_of(5));
    assert!(!curve.contains("lanes 1,024:") && curve.contains("too many requests were lost"));
}

/// Nor may the verdict's ratio, where the row as a whole has a percentile.
#[test]
fn a_verdict_has_no_ratio_where_a_trial_lost_its_percentile() {
    let told = |lost: u64| {
        let records = twelve_blocks(|record| {
            if record.block == 0 && lost > 0 && record.cell.engine == Engine::Tokio {
                record.ledger.failed = lost;
                record.ledger.completed -= lost;
                record.errors.read = lost;
                record.service_ns = Some(sample::climb(5_000_000, 10_000_000, 2_000 - lost));
            }
        });
        let groups = summary::summarise(&records, Engine::Threads, MARGIN);
        let text = verdict::text(&records, &groups, None);
        let (_, rest) = text.split_once("The p99 of service time was ").expect("a percentile");
        rest.split(". ").next().unwrap_or_default().to_string()
    };
    assert!(told(0).contains('×'), "{}", told(0));
    assert!(!told(30).contains('×'), "{}", told(30));
}

/// Twelve blocks of the cells with 64 lanes, each record as `change` leaves it.
fn twelve_blocks(change: impl Fn(&mut TrialRecord)) -> Vec<TrialRecord> {
    let cells = || cells().into_iter().filter(|cell| cell.total_lanes == 64);
    let mut records: Vec<TrialRecord> =
        (0..12).flat_map(|b| cells().map(move |cell| trial(&cell, b, 1.0, false))).collect();
    records.iter_mut().for_each(change);
    records
}

/// One slow block moves a percentile of all requests by a third and the ratio of the median block not at
/// all: figures that would not give the ratio beside them say where it comes from.
#[test]
fn a_ratio_that_its_figures_do_not_give_says_that_it_is_of_blocks() {
    let told = |slow_blocks: u32| {
        let records = twelve_blocks(|record| {
            let is_slow = record.block < slow_blocks && record.cell.engine == Engine::Threads;
            let slowest = if is_slow { 80_000_000 } else { 10_000_000 };
            record.service_ns = Some(sample::climb(5_000_000, slowest, 2_000));
        });
        let groups = summary::summarise(&records, Engine::Threads, MARGIN);
        verdict::text(&records, &groups, None)
    };
    assert!(!told(0).contains("block by block"), "{}", told(0));
    assert!(told(2).contains("(block by block 1.00× ["), "{}", told(2));
}

/// A class is ranked where its cell is, and listed also where the first trial has no request of it.
#[test]
fn classes_are_ranked_as_their_cells_are_and_all_are_listed() {
    let records = twelve_blocks(|record| {
        if record.block > 0 {
            let class = record.classes["heavy"].clone();
            record.classes.insert("late".into(), class);
        }
        if record.cell.engine == Engine::Tokio && record.block > 1 {
            record.status = Status::Invalid;
        }
    });
    let section = classes::section(&[], &records).expect("there are classes");
    let column = |title: &str| {
        let column = section.columns.iter().find(|c| c.title == title).expect("a column");
        column.cells.clone()
    };
    assert_eq!(column("class"), ["heavy", "late", "heavy", "late"]);
    for (cell, p99) in column("cell").iter().zip(column("p99")) {
        assert_eq!(p99.starts_with('('), cell.starts_with("tokio"), "{cell}: {p99}");
    }
}
