//! Several targets in one sweep, measured in the same blocks and compared with the first.

use crate::common;
use crate::sample;

use std::path::Path;
use std::process::Stdio;

use common::{Sweep, duel, first_address, output, text};
use duel::config;
use duel::plan::sweep::Target;
use duel::plan::{Arrivals, Cell, CellKind, Engine};
use duel::report::measures::Measure;
use duel::report::{layout, summary, verdict};
use duel::stats::{
    Comparison, MARGIN, RATIO_CONFIDENCE, RatioEstimate, Verdict, judge, paired_ratio,
};
use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

fn parse(toml: &str) -> Result<duel::plan::sweep::Sweep, String> {
    config::parse(toml, "x.toml", &[], Path::new("")).map_err(|e| e.to_string())
}

#[test]
fn each_target_is_a_cell_with_what_it_names_itself() {
    let sweep = parse(
        r#"
        [target]
        url = "http://127.0.0.1:80/v1"
        [plan]
        timeout = "1s"
        [sweep]
        engines = ["tokio", "threads"]
        lanes = [2, 4]
        aa = true
        [[sweep.target]]
        name = "z-old"
        [[sweep.target]]
        name = "a-new"
        url = "http://127.0.0.2:8081/v2"
        "#,
    )
    .unwrap();
    let cells = sweep.cells();
    assert_eq!(cells.len(), 12, "two engines, lanes and targets, and the first target once more");
    for cell in &cells {
        let plan = sweep.block_plan(cell, 1);
        let (authority, path, host) = match cell.target.as_deref() {
            Some("z-old") => ("127.0.0.1:80", "/v1", "127.0.0.1"),
            _ => ("127.0.0.2:8081", "/v2", "127.0.0.2:8081"),
        };
        let Target::External { authority: at, .. } = sweep.target_of(cell) else {
            panic!("no url")
        };
        assert_eq!((at.as_str(), plan.host.as_str()), (authority, host), "{}", cell.id);
        assert_eq!(plan.mix[0].path, path, "{}", cell.id);
        assert!(cell.id.contains(&format!("-to-{}", cell.target.as_ref().unwrap())), "{}", cell.id);
        // Both draw the same in a block.
        assert_eq!(plan.seed, sweep.block_plan(&cells[0], 1).seed);
        let copy = cell.kind == CellKind::Copy;
        assert!(!copy || cell.target_nth == Some(0), "a copy of the first target alone");
    }
    let other = |toml: &str| parse(toml).unwrap().plan_hash();
    let two = |url: &str| {
        format!(
            "[[sweep.target]]\nname = \"a\"\nurl = \"127.0.0.1:1\"\n[[sweep.target]]\nname = \"b\"\n\
             url = \"{url}\""
        )
    };
    assert_ne!(other(&two("127.0.0.1:2")), other(&two("127.0.0.1:3")), "what is measured differs");
}

#[test]
fn embedded_targets_differ_in_what_they_name() {
    let sweep = parse(
        r#"
        target.service_time = "1ms"
        [sweep]
        engines = ["tokio"]
        [[sweep.target]]
        name = "old"
        [[sweep.target]]
        name = "new"
        body = "2KiB"
        servers = 3
        "#,
    )
    .unwrap();
    let cells = sweep.cells();
    let of = |i: usize| sweep.embedded_target(&cells[i]).unwrap();
    assert_eq!((of(0).body_bytes, of(0).servers), (1024, 0));
    assert_eq!((of(1).body_bytes, of(1).servers), (2048, 3));
    assert_eq!(of(0).service_time, of(1).service_time);
}

#[test]
fn what_makes_no_comparison_is_refused_by_name() {
    let two = "[[sweep.target]]\nname = \"a\"\n[[sweep.target]]\nname = \"b\"\n";
    for (toml, why) in [
        ("[[sweep.target]]\nname = \"a\"", "from two"),
        ("sweep.target = []", "from two"),
        ("[[sweep.target]]\nurl = \"127.0.0.1:1\"", "needs the key `name`"),
        ("[[sweep.target]]\nname = \"a\"\n[[sweep.target]]\nname = \"a\"", "another target"),
        ("[[sweep.target]]\nname = \"a/b\"\n[[sweep.target]]\nname = \"c\"", "is not a name"),
        (&format!("{two}url = \"127.0.0.1:1\""), "that duel starts cannot be compared"),
        (&format!("target.url = \"127.0.0.1:1\"\n{two}body = \"1KiB\""), "`body` belongs"),
        (&format!("sweep.bodies = [1, 2]\n{two}body = \"1KiB\""), "not both"),
        (&format!("{two}speed = 1"), "unknown key `speed`"),
        ("[[sweep.target]]\nname = \"\"\n[[sweep.target]]\nname = \"c\"", "`` is not a name"),
        ("[[sweep.target]]\nname = \"../a\"\n[[sweep.target]]\nname = \"c\"", "is not a name"),
        (
            "[[sweep.target]]\nname = \"\\u001b[31m\"\n[[sweep.target]]\nname = \"c\"",
            "`\\u{1b}[31m`",
        ),
        (
            "target.url = \"127.0.0.1:1\"\n[[sweep.target]]\nname = \"a\"\nurl = \"127.0.0.1:2\"\n\
             [[sweep.target]]\nname = \"b\"\nurl = \"127.0.0.1:3\"",
            "has a url of its own: remove this one",
        ),
    ] {
        let said = parse(toml).expect_err(toml);
        assert!(said.contains(why), "{toml}: {said}");
    }
}

fn cell(engine: Engine, name: &str, nth: u32) -> Cell {
    let cell = sample::cell(engine);
    Cell {
        id: format!("{}-to-{name}", cell.id),
        target: Some(name.into()),
        target_nth: Some(nth),
        ..cell
    }
}

/// Ten blocks of two engines and two targets, of which the second takes `slower` times as long.
fn groups(slower: f64, arrivals: Arrivals, lost: u64) -> (Vec<summary::Group>, String) {
    let mut records = Vec::new();
    for engine in [Engine::Threads, Engine::Tokio] {
        for (name, nth, factor) in [("z-old", 0, 1.0), ("a-new", 1, slower)] {
            for block in 0..10 {
                let mut cell = cell(engine, name, nth);
                cell.arrivals = arrivals;
                cell.offered_per_s = arrivals.is_open().then_some(12_500.0);
                let mut record = sample::record(cell, block, 1.0);
                record.achieved_per_s = (12_500.0 + f64::from(block % 3)) / factor;
                let lost = if nth == 1 { lost } else { 0 };
                record.ledger.failed = lost;
                record.ledger.completed -= lost;
                let (low, salt) = ((1e6 * factor) as u64, u64::from(block % 4));
                for times in [&mut record.service_ns, &mut record.response_ns].into_iter().flatten()
                {
                    *times = sample::climb(low, 2 * low + salt, 2_000 - lost);
                }
                records.push(record);
            }
        }
    }
    let groups = summary::summarise(&records, Engine::Threads, MARGIN);
    let said = verdict::text(&records, &groups, None);
    (groups, said)
}

#[test]
fn targets_are_compared_with_the_first_under_each_engine_and_engines_are_not() {
    for (arrivals, measures) in [
        (Arrivals::Closed, vec![Measure::Achieved, Measure::P50, Measure::P99]),
        (Arrivals::Constant, vec![Measure::P50, Measure::P99]),
    ] {
        let (groups, said) = groups(1.1, arrivals, 0);
        assert_eq!(groups.len(), 2, "a table for each engine");
        for group in &groups {
            let names: Vec<&str> = group.rows.iter().map(|r| r.name.as_str()).collect();
            assert_eq!(names, ["z-old", "a-new"], "in the order of the config, by name alone");
            assert_eq!(group.reference, Some(0));
            assert_eq!(group.among, 2 * measures.len(), "all of the report are judged together");
            let row = &group.rows[1];
            let compared: Vec<Measure> = row.ratios.iter().map(|(measure, _)| *measure).collect();
            assert_eq!(compared, measures);
            assert_eq!(row.ratio(Measure::P50).unwrap().verdict, Verdict::Higher);
            let heads: Vec<String> = layout::columns(group).into_iter().map(|c| c.title).collect();
            assert_eq!(heads[0], "target");
            assert!(heads.contains(&"p50\n÷ z-old".into()), "{heads:?}");
            assert!(!heads.iter().any(|h| h.starts_with("CPU\n÷")), "{heads:?}");
        }
        for engine in ["threads", "tokio"] {
            let line = said.lines().find(|l| l.contains(&format!("· {engine}"))).expect("a line");
            assert!(line.contains("a-new against z-old") && line.contains("p50 is 10."), "{line}");
            assert!(line.contains("higher (1.65 ms against 1.5 ms)"), "{line}");
        }
    }
    let (groups, said) = groups(1.0, Arrivals::Closed, 0);
    let ratios = groups.iter().flat_map(|g| &g.rows).flat_map(|r| &r.ratios);
    assert!(ratios.clone().all(|(_, c)| matches!(c.verdict, Verdict::Equal { .. })), "{said}");
    assert!(said.contains("is equal within 5 %"), "{said}");
    let (_, said) = self::groups(1.0, Arrivals::Constant, 1_200);
    assert!(said.contains("lost 60 % of its requests against 0 %"), "{said}");
}

/// A sweep of two targets as far as statistics see it: three measures that agree in part, blocks
/// until rate and median are within 5 %. Whether it claims a difference in any, and of the median.
fn simulated(rng: &mut Xoshiro256PlusPlus, slower: f64) -> (bool, bool) {
    let normal = |rng: &mut Xoshiro256PlusPlus| -> f64 {
        let (u, v): (f64, f64) = (1.0 - rng.random::<f64>(), rng.random());
        (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
    };
    let mut logs: [Vec<f64>; 3] = Default::default();
    let estimate = |logs: &[f64]| -> RatioEstimate {
        let pairs: Vec<(f64, f64)> = logs.iter().map(|d| (d.exp(), 1.0)).collect();
        paired_ratio(&pairs, RATIO_CONFIDENCE).unwrap()
    };
    loop {
        let common = normal(rng);
        let spread = |own: f64, by: f64| by * (0.8 * common + 0.6 * own);
        logs[0].push(slower.ln() + spread(normal(rng), 0.06));
        logs[1].push(slower.ln() + spread(normal(rng), 0.06));
        logs[2].push(slower.ln() + spread(normal(rng), 0.2));
        let precise =
            |logs: &Vec<f64>| duel::stats::precision::is_precise(&estimate(logs), 0.05, 3);
        if logs[0].len() >= 60 || (precise(&logs[0]) && precise(&logs[1])) {
            break;
        }
    }
    let mut all: Vec<Comparison> =
        logs.iter().map(|logs| Comparison::alone(estimate(logs), None, MARGIN)).collect();
    judge(all.iter_mut(), MARGIN);
    let differs = |c: &Comparison| matches!(c.verdict, Verdict::Higher | Verdict::Lower);
    (all.iter().any(differs), differs(&all[1]))
}

#[test]
fn identical_targets_rarely_differ_and_a_tenth_more_work_is_found() {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(16);
    let runs = 2_000;
    let false_alarms = (0..runs).filter(|_| simulated(&mut rng, 1.0).0).count();
    let found = (0..runs).filter(|_| simulated(&mut rng, 1.1).1).count();
    assert!(false_alarms <= runs / 20, "{false_alarms} of {runs} claim a difference");
    assert!(found >= runs * 95 / 100, "{found} of {runs} find a tenth");
}

#[test]
fn two_servers_in_one_run_are_told_apart_and_compare_judges_them() {
    let serve = |service_time: &str| {
        let mut server =
            duel(&["target", "--listen", "127.0.0.1:0", "--service-time", service_time])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .expect("the target starts");
        let at = first_address(&mut server);
        (server, at)
    };
    let (mut fast, first) = serve("2ms");
    let (mut slow, second) = serve("40ms");
    let sweep = Sweep::new(&format!(
        r#"
        [plan]
        requests = 20
        [sweep]
        engines = ["tokio"]
        lanes = [2]
        trials = 8
        [[sweep.target]]
        name = "old"
        url = "http://{first}/a"
        [[sweep.target]]
        name = "new"
        url = "http://{second}/b"
        "#
    ));
    let done = sweep.run();
    for server in [&mut fast, &mut slow] {
        server.kill().expect("it runs");
        server.wait().expect("it ends");
    }
    done.all_ok(16);
    let said = done.stdout.replace('\n', " ");
    assert!(said.contains("against old:") && said.contains("higher"), "{said}");
    let out = output(&mut duel(&["compare", sweep.dir().to_str().expect("UTF-8")]));
    let (said, told) = text(&out);
    assert_eq!(out.status.code(), Some(3), "{said}{told}");
    assert!(said.contains("WORSE") && said.contains("ran in the same rounds"), "{said}");
    let resumed = output(sweep.command().arg("--resume"));
    assert_eq!(resumed.status.code(), Some(0), "{}", text(&resumed).1);
    assert_eq!(common::records(&sweep.dir()).len(), 16, "nothing runs twice");
    let one = Sweep::new("sweep.trials = 1\nplan.requests = 1\nsweep.engines = [\"tokio\"]");
    one.run();
    let out = output(&mut duel(&["compare", one.dir().to_str().expect("UTF-8")]));
    assert_eq!(out.status.code(), Some(2));
    assert!(text(&out).1.contains("[[sweep.target]]"), "{}", text(&out).1);
}
