//! From records to hosts: the arithmetic, the first limit, and what is refused.

use crate::sample;

use std::collections::BTreeMap;

use duel::format::{Distribution, TrialRecord};
use duel::limits::{Ceiling, Limits, Scope, TargetKind, Use};
use duel::plan::allocator::Allocator;
use duel::plan::{Cell, Engine};
use duel::report::capacity::hosts::HostType;
use duel::report::capacity::{Plan, Question, Resource, measured_rate, plan};

const MIB: f64 = 1_048_576.0;

/// A worker of 4 MB before its lanes, 20,000 B a lane; 10 µs of CPU and 5 ms a request.
fn cell(engine: Engine, lanes: u32, per_s: f64) -> Vec<TrialRecord> {
    let id = format!("{}-l{lanes}", engine.name());
    let rayon_threads = (engine == Engine::Rayon).then_some(lanes);
    let cell = Cell { id, lanes, total_lanes: lanes, rayon_threads, ..sample::cell(engine) };
    (0..6)
        .map(|block| {
            let mut r = sample::record(cell.clone(), block, 1.0);
            r.achieved_per_s = per_s;
            r.memory.peak_rss_bytes = 4_000_000 + 20_000 * u64::from(lanes);
            r.memory.page_table_bytes = Some(0);
            r.memory.kernel_stack_bytes = Some(16_384 * u64::from(lanes));
            r.cpu.per_request_ns = 10_000.0;
            r.threads_peak = u64::from(lanes) + 3;
            r.fds_peak = u64::from(lanes) + 9;
            let times = sample::climb(6_000_000, 6_000_000, 2_000);
            r.service_ns = Some(Distribution { mean: 5e6, ..times });
            r
        })
        .collect()
}

fn records() -> Vec<TrialRecord> {
    [(1, 200.0), (64, 12_800.0), (256, 51_200.0)]
        .into_iter()
        .flat_map(|(lanes, per_s)| cell(Engine::Threads, lanes, per_s))
        .collect()
}

fn question() -> Question {
    Question::new(20_000.0, host(1, 1 << 30))
}

fn host(cpus: u32, memory_bytes: u64) -> HostType {
    HostType::plain(cpus, memory_bytes)
}

fn ceiling(most_lanes: u64) -> Ceiling {
    Ceiling {
        limit: "vm.max_map_count".into(),
        have: 65_530,
        before_lanes: 100,
        per_lane: 4,
        unit: duel::limits::Unit::WorkerMaps,
        scope: Scope::Worker,
        most_lanes,
    }
}

fn ask(records: &[TrialRecord], q: &Question) -> Plan {
    plan(records, std::slice::from_ref(q), &|_| vec![ceiling(16_370)])
}

#[track_caller]
fn near(found: f64, expected: f64, relative: f64) {
    assert!((found / expected - 1.0).abs() < relative, "{found} is not about {expected}");
}

/// Each worker has its own descriptors, maps and address space; the rest is shared by all of them.
#[test]
fn a_second_worker_has_its_own_share_of_what_is_limited_per_worker_alone() {
    let some = Some(Use { max: 1 << 40, used: 0 });
    let limits = Limits {
        nofile_hard: 1 << 20,
        file_max: some,
        max_map_count: some,
        pid_max: some,
        threads_max: some,
        nproc: some,
        address_space: some,
        data: some,
        commit: some,
        memory_available_bytes: Some(1 << 40),
        conntrack: some,
        cpus: 2,
        ..Limits::default()
    };
    let used = |cpus| {
        let away = TargetKind::External { loopback: false };
        let q = Question { host: host(cpus, 1 << 30), ..question() };
        let plan = plan(&records(), &[q], &|cell| limits.predict(cell.engine, away));
        let need = plan.engines[0].answer.as_ref().expect("the records answer it");
        let named = |r: &Resource| (r.name.clone(), r.used);
        need.resources.iter().map(named).collect::<BTreeMap<_, _>>()
    };
    let (one, two) = (used(1), used(2));
    let halved: Vec<&str> =
        one.iter().filter(|(n, v)| two[*n] < 0.6 * **v).map(|(n, _)| n.as_str()).collect();
    let own = ["RLIMIT_AS", "RLIMIT_DATA", "RLIMIT_NOFILE", "vm.max_map_count"];
    assert_eq!(halved, [&["CPU"], &own[..3], &["the measured range"], &own[3..]].concat());
    assert!(one.len() > halved.len() + 4, "the others are there too: {one:?}");
}

#[test]
fn little_lines_and_hosts() {
    let answer = ask(&records(), &question());
    let need = answer.engines[0].answer.as_ref().unwrap();
    near(need.in_flight, 100.0, 1e-9);
    assert_eq!(need.lanes, 125, "fewest lanes with which 1 % of the arrivals wait");
    near(need.user_bytes, 4_000_000.0 + 20_000.0 * f64::from(need.lanes), 1e-6);
    near(need.kernel_bytes.unwrap(), 16_384.0 * f64::from(need.lanes), 1e-6);
    near(need.cpus_busy, 0.2, 1e-9);
    assert_eq!(need.resources[0].name, "CPU");
    near(need.host_rate_per_s, 70_000.0, 1e-9);
    assert_eq!((need.hosts_today, need.hosts_with_spare), (1, 1));
    near(need.resources[0].used, 20.0 / 70.0, 1e-9);
    assert_eq!(need.threads, u64::from(need.lanes) + 3);
    assert_eq!(need.from("cpu_per_request_ns"), ["threads-l64", "threads-l256"]);
    assert_eq!(need.from("tested_to_per_s"), ["threads-l256"]);
    // Each number is a figure of that name, with its text and where it comes from.
    let json = serde_json::to_value(need).unwrap();
    for (field, value) in json.as_object().unwrap().iter().filter(|(_, value)| value.is_number()) {
        let name = if field == "hosts_with_spare" { "hosts" } else { field };
        let figure = need.figures.iter().find(|f| f.name == name);
        let figure = figure.unwrap_or_else(|| panic!("{name} is no figure"));
        assert_eq!(Some(figure.value), value.as_f64(), "{name}");
        assert!(!figure.text.is_empty() && !figure.from.is_empty(), "{figure:?}");
    }
    assert!(
        answer.text(None).contains("first limit: CPU at 70,000 req/s per host"),
        "{}",
        answer.text(None)
    );
}

/// Two lines that are 40 MiB and 3 per lane apart are two series, whatever the axis that parts them.
#[test]
fn allocators_and_processes_have_lines_of_their_own() {
    let allocator = |cell: &mut Cell| cell.allocator = Some(Allocator::GlibcArenas(1));
    let processes = |cell: &mut Cell| cell.processes = 2;
    let changes: [&dyn Fn(&mut Cell); 2] = [&allocator, &processes];
    for change in changes {
        let mut all = records();
        for mut r in records() {
            change(&mut r.cell);
            r.cell.id += "-other";
            r.cell.total_lanes = r.cell.lanes * r.cell.processes;
            r.memory.peak_rss_bytes =
                u64::from(r.cell.processes) * (44_000_000 + 60_000 * u64::from(r.cell.lanes));
            all.push(r);
        }
        let answer = ask(&all, &question());
        let per_lane = answer.engines.iter().map(|e| e.answer.as_ref().unwrap().bytes_per_lane);
        let found: Vec<f64> = per_lane.collect();
        assert_eq!(found.len(), 2, "{}", answer.text(None));
        near(found[0], 20_000.0 + 16_384.0, 1e-6);
        near(found[1], 60_000.0 + 16_384.0 / f64::from(all.last().unwrap().cell.processes), 1e-6);
        let names: Vec<&str> = answer.engines.iter().map(|e| e.name.as_str()).collect();
        assert_ne!(names[0], names[1]);
    }
}

#[test]
fn memory_at_twice_the_largest_lanes_follows_the_line() {
    let q = Question { latency_ns: Some(20_000_000), ..question() };
    let answer = ask(&records(), &q);
    let need = answer.engines[0].answer.as_ref().unwrap();
    assert!(need.lanes > 400, "{}", need.lanes);
    near(need.user_bytes, 4e6 + 20_000.0 * f64::from(need.lanes), 1e-6);
}

#[test]
fn the_tightest_resource_binds() {
    let small = Question { host: host(1, (8.0 * MIB) as u64), ..question() };
    let binding = |q: &Question, most: u64| {
        let answer = plan(&records(), std::slice::from_ref(q), &|_| vec![ceiling(most)]);
        let need = answer.engines[0].answer.clone().unwrap();
        (need.resources[0].name.clone(), need.hosts_today)
    };
    assert_eq!(binding(&small, 16_370), ("memory".into(), 2));
    assert_eq!(binding(&question(), 50), ("vm.max_map_count".into(), 3));
    let slo = Question { p99_ns: Some(7_000_000), ..question() };
    // 20,000 per host are 39 % of what met the bound, and 29 % of what its CPU allows at 70 % busy;
    // the data end below that.
    assert_eq!(binding(&slo, 16_370), ("p99 ≤ 7 ms".into(), 1));
}

#[test]
fn growth_compounds_by_the_year_and_spare_hosts_are_added() {
    let q = Question {
        rate_per_s: 60_000.0,
        growth_per_year: 0.3,
        months: 6.0,
        spare: 1,
        ..question()
    };
    let answer = ask(&records(), &q);
    let need = answer.engines[0].answer.as_ref().unwrap();
    near(need.grown_rate_per_s, 60_000.0 * 1.3f64.sqrt(), 1e-9);
    assert_eq!((need.hosts_today, need.hosts_grown, need.hosts_with_spare), (1, 1, 2));
}

#[track_caller]
fn refused(records: &[TrialRecord], q: &Question, why: &str) {
    let answer = ask(records, q);
    let refusal = answer.engines[0].answer.as_ref().expect_err("it must be refused");
    assert!(refusal.why.contains(why), "{refusal:?} does not say {why}");
    assert!(!refusal.measure_next.is_empty(), "it must say what to measure next");
    assert!(answer.text(None).contains("measure next"), "{}", answer.text(None));
}

#[test]
fn refused_where_the_data_do_not_reach() {
    refused(&cell(Engine::Threads, 64, 12_800.0), &question(), "one lane value only (64)");
    let slow = Question { latency_ns: Some(100_000_000), ..question() };
    refused(&records(), &slow, "each worker would need 2,108 lanes; this run measured up to 256");
    let strict = Question { p99_ns: Some(1_000_000), ..question() };
    refused(&records(), &strict, "no measured cell met p99 ≤ 1 ms (the lowest p99 was 6 ms)");
    let mut flat = records();
    for r in &mut flat {
        r.memory.peak_rss_bytes = 4_000_000;
    }
    refused(&flat, &question(), "memory does not grow with lanes");
    let mut invalid = records();
    for r in &mut invalid {
        r.status = duel::format::Status::Invalid;
    }
    refused(&invalid, &question(), "no valid trial");
}

#[test]
fn every_assumption_is_listed_and_no_records_are_no_panic() {
    let q = Question { p99_ns: Some(7_000_000), growth_per_year: 0.3, ..question() };
    let all = duel::report::markdown::capacity(&ask(&records(), &q));
    for word in
        ["Poisson", "Erlang C", "70 %", "80 %", "straight line", "30 % per year", "p99 ≤ 7 ms"]
    {
        assert!(all.contains(word), "{word} is not in\n{all}");
    }
    assert!(ask(&[], &question()).engines.is_empty());
}

/// The terminal lists what decides the first limit and what is no default, and where the others stand.
#[test]
fn the_terminal_lists_the_assumptions_that_decide_and_names_the_way_to_all() {
    let listed = |q: Question| {
        let text = ask(&records(), &q).text(None);
        let (_, below) = text.split_once("\nassuming that\n").expect("something decides");
        assert!(below.ends_with("--markdown lists all of them.\n"), "{below}");
        below.lines().filter(|line| line.starts_with("- ")).map(String::from).collect::<Vec<_>>()
    };
    let has = |lines: &[String], part: &str| lines.iter().any(|line| line.contains(part));
    let plain = listed(question());
    assert!(plain.len() <= 2, "{plain:?}");
    for (q, part) in [
        (Question { spare: 2, ..question() }, "2 hosts may fail"),
        (Question { growth_per_year: 0.3, ..question() }, "growth of 30 %"),
        (Question { cpu_target: 0.5, ..question() }, "at most 50 % busy"),
        (Question { memory_target: 0.5, ..question() }, "at most 50 % full"),
        (Question { latency_ns: Some(7_000_000), ..question() }, "7 ms on average, as given"),
        (Question { host: HostType::plain(2, 24 << 20), ..question() }, "at most 80 % full"),
    ] {
        let lines = listed(q);
        assert!(has(&lines, part) && !has(&plain, part), "{part}: {lines:?}, plainly {plain:?}");
    }
}

#[test]
fn the_p99_of_a_closed_loop_is_said_to_be_one_and_the_section_holds_the_answer() {
    let slo = Question { p99_ns: Some(7_000_000), growth_per_year: 0.3, spare: 1, ..question() };
    let answer = ask(&records(), &slo);
    assert!(answer.text(None).contains("where the cell that counts is a closed loop"));
    let without = ask(&records(), &question());
    assert!(!without.text(None).contains("where the cell that counts is a closed loop"));

    let sections = answer.sections();
    let columns = || sections.iter().flat_map(|s| &s.columns);
    let row: Vec<(&str, &str)> =
        columns().map(|c| (c.title.as_str(), c.cells[0].as_str())).collect();
    for (title, cell) in [("lanes", "125"), ("in flight", "100"), ("with\nspare", "2")] {
        assert!(row.contains(&(title, cell)), "{title} is not {cell} in {row:?}");
    }
    assert!(sections[0].notes.is_empty(), "what is assumed stands apart: {:?}", sections[0].notes);
    assert!(answer.assumptions.len() > 5, "{:?}", answer.assumptions);
    let refused = ask(&cell(Engine::Threads, 64, 12_800.0), &question()).sections().remove(0);
    assert!(refused.columns.is_empty(), "no row without an answer");
    assert!(refused.notes[0].contains("measure next: sweep lanes = ["), "{:?}", refused.notes);

    assert_eq!(measured_rate(&records(), None, None), Some(51_200.0));
    assert_eq!(measured_rate(&records(), None, Some(1)), None, "no cell met 1 ns");
    assert_eq!(measured_rate(&[], None, None), None);
}

/// The two cells of a closed loop: one lane that mostly sleeps, whose wake-ups make a request several
/// times as dear, and 64 that keep a CPU busy.
fn one_and_many(engine: Engine, idle_ns: f64, busy_ns: f64) -> Vec<TrialRecord> {
    let mut all = Vec::new();
    for (lanes, per_s, cpu_ns) in [(1, 190.0, idle_ns), (64, 12_000.0, busy_ns)] {
        let mut trials = cell(engine, lanes, per_s);
        for t in &mut trials {
            t.cpu.per_request_ns = cpu_ns;
        }
        all.extend(trials);
    }
    all
}

#[test]
fn cpu_is_that_of_the_planned_rate_and_not_of_an_idle_cell() {
    let records: Vec<TrialRecord> = one_and_many(Engine::Threads, 60_000.0, 11_200.0)
        .into_iter()
        .chain(one_and_many(Engine::Tokio, 70_500.0, 8_780.0))
        .collect();
    let q = Question {
        rate_per_s: 200_000.0,
        p99_ns: Some(50_000_000),
        host: host(4, 8 << 30),
        ..question()
    };
    let answer = ask(&records, &q);
    let need = |i: usize| answer.engines[i].answer.as_ref().unwrap();
    near(need(0).cpu_per_request_ns, 11_200.0, 0.05);
    near(need(1).cpu_per_request_ns, 8_780.0, 0.05);
    assert!(need(1).cpus_busy < need(0).cpus_busy, "tokio is the cheaper one at 64 lanes");
    // Four workers of 12,000/s each are what met the bound: 48,000/s per host, and no more is claimed.
    near(need(0).tested_to_per_s, 48_000.0, 1e-9);
    assert_eq!(need(0).hosts_today, 5);
    let text = answer.text(None);
    assert!(
        text.contains("first limit: p99 ≤ 50 ms is only tested up to 48,000 req/s per host"),
        "{text}"
    );
    for beyond in need(0).resources.iter().filter(|r| r.name != "p99 ≤ 50 ms") {
        assert_eq!(beyond.allows_per_s, None, "{} lies beyond the data", beyond.name);
    }
}

#[test]
fn no_rate_is_claimed_that_lies_beyond_the_data() {
    let q = Question { rate_per_s: 1_000.0, ..question() };
    let slow: Vec<TrialRecord> = [(16, 500.0), (64, 1_954.0)]
        .into_iter()
        .flat_map(|(lanes, per_s)| cell(Engine::Threads, lanes, per_s))
        .collect();
    let answer = ask(&slow, &q);
    let need = answer.engines[0].answer.as_ref().unwrap();
    near(need.host_rate_per_s, 2.0 * 1_954.0, 1e-9);
    assert!(
        answer.text(None).contains("first limit: none up to 3,908 req/s per host, 2 × measured"),
        "{}",
        answer.text(None)
    );
    let fast = Question { rate_per_s: 20_000.0, ..question() };
    refused(&slow, &fast, "would have to send 20,000 req/s; this run measured up to 1,954 req/s");
}

#[test]
fn each_host_has_lanes_of_its_own() {
    // 100 in flight on 10 hosts: one queue would take 125 lanes, ten of 10 in flight take 19 each.
    let records: Vec<TrialRecord> = [(1, 200.0), (10, 2_000.0), (20, 2_000.0)]
        .into_iter()
        .flat_map(|(lanes, per_s)| cell(Engine::Threads, lanes, per_s))
        .collect();
    let answer = ask(&records, &Question { p99_ns: Some(7_000_000), ..question() });
    let need = answer.engines[0].answer.as_ref().unwrap();
    assert_eq!((need.hosts_today, need.lanes), (10, 190));
}

#[test]
fn fixed_costs_count_once_per_process() {
    let records: Vec<TrialRecord> = records()
        .into_iter()
        .map(|mut r| {
            r.cell.processes = 2;
            r.cell.total_lanes = 2 * r.cell.lanes;
            r.memory.peak_rss_bytes = 2 * (4_000_000 + 20_000 * u64::from(r.cell.lanes));
            r.fds_peak = u64::from(r.cell.total_lanes) + 18;
            r
        })
        .collect();
    let answer = ask(&records, &question());
    let need = answer.engines[0].answer.as_ref().unwrap();
    assert_eq!(need.processes, 2);
    near(need.user_bytes, 8_000_000.0 + 20_000.0 * f64::from(need.lanes), 1e-6);
    assert_eq!(need.descriptors, u64::from(need.lanes) + 18);
}

#[test]
fn twice_the_load_is_forecast_from_the_cells_below() {
    let measured = |lanes: u32, per_s: f64| {
        let mut trials = cell(Engine::Threads, lanes, per_s);
        for t in &mut trials {
            // A tenth of a CPU whatever the rate, and 8 µs per request.
            t.cpu.per_request_ns = 8_000.0 + 1e8 / per_s;
        }
        trials
    };
    let below: Vec<TrialRecord> =
        [(16, 3_200.0), (64, 12_800.0)].into_iter().flat_map(|(l, r)| measured(l, r)).collect();
    let q = Question { rate_per_s: 20_000.0, ..question() };
    let answer = ask(&below, &q);
    let need = answer.engines[0].answer.as_ref().unwrap();
    near(need.cpu_per_request_ns, 8_000.0 + 1e8 / 20_000.0, 1e-6);
    near(need.in_flight, 100.0, 1e-9);
}

#[test]
fn too_few_samples_are_not_called_a_missed_bound() {
    let mut few = records();
    for r in &mut few {
        r.service_ns.as_mut().unwrap().count = 10;
    }
    let q = Question { p99_ns: Some(50_000_000), ..question() };
    refused(
        &few,
        &q,
        "no cell has the 1,000 completed requests that a p99 needs (the most were 60)",
    );
    let mut lossy = records();
    for r in &mut lossy {
        r.ledger.completed -= r.ledger.planned / 50;
        r.ledger.failed += r.ledger.planned / 50;
    }
    refused(&lossy, &q, "lost more than 1 % of its requests");
}
