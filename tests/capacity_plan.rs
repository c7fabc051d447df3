//! The plan as it is pasted into a document: host counts against queueing theory, money to the cent,
//! what must never happen when a question changes, and where each printed number comes from.

use crate::sample;

use std::sync::LazyLock;

use duel::format::{ClassUse, Distribution, Ledger, SideUse, TrialRecord};
use duel::limits::{Ceiling, Scope};
use duel::plan::server::ServerEngine;
use duel::plan::sweep::Sweep;
use duel::plan::{Arrivals, Cell, Engine};
use duel::report::Reported;
use duel::report::capacity::hosts::{self, HostType};
use duel::report::capacity::{Need, Plan, Question, plan, prove};
use proptest::prelude::*;

/// A cell of an open loop: trials with so much CPU per request, and all times equal to `p99_ns`.
fn cell(engine: Engine, lanes: u32, rate: f64, p99_ns: u64, cpu_ns: f64) -> Vec<TrialRecord> {
    let cell = Cell {
        id: format!("{}-l{lanes}-r{rate}", engine.name()),
        lanes,
        total_lanes: lanes,
        arrivals: Arrivals::Poisson,
        offered_per_s: Some(rate),
        ..sample::cell(engine)
    };
    // Histograms are dear to make in a debug build: those of one trial serve for all.
    static BLANK: LazyLock<TrialRecord> =
        LazyLock::new(|| sample::record(sample::cell(Engine::Tokio), 0, 1.0));
    let mut r = TrialRecord { cell, achieved_per_s: rate, ..BLANK.clone() };
    r.memory.peak_rss_bytes = 4_000_000 + 20_000 * u64::from(lanes);
    r.memory.page_table_bytes = Some(0);
    r.memory.kernel_stack_bytes = Some(16_384 * u64::from(lanes));
    r.cpu.per_request_ns = cpu_ns;
    let times = sample::climb(p99_ns, p99_ns, 2_000);
    r.response_ns = Some(Distribution { mean: 5e6, ..times });
    (0..6).map(|block| TrialRecord { block, ..r.clone() }).collect()
}

/// Rates in steps of a fifth up to `top`, at two lane counts; p99 grows with the rate.
fn records(engine: Engine, top: f64, cpu_ns: f64) -> Vec<TrialRecord> {
    let step = |i: u32| {
        let (rate, p99) = (top * f64::from(i) / 5.0, 9_000_000 + 8_000_000 * u64::from(i));
        [64, 256].into_iter().flat_map(move |lanes| cell(engine, lanes, rate, p99, cpu_ns))
    };
    (1..=5).flat_map(step).collect()
}

fn host(name: &str, cpus: u32, memory: &str, price: &str) -> HostType {
    let text =
        format!("[[host]]\nname = \"{name}\"\ncpus = {cpus}\nmemory = \"{memory}\"\n{price}");
    hosts::parse(&text, "hosts.toml").unwrap().remove(0)
}

fn small() -> HostType {
    host("type-a", 2, "4GiB", "price = \"0.1096 USD per hour\"")
}

fn ask(records: &[TrialRecord], questions: &[Question]) -> Plan {
    let ceiling = Ceiling {
        limit: "vm.max_map_count".into(),
        have: 65_530,
        before_lanes: 100,
        per_lane: 4,
        unit: duel::limits::Unit::WorkerMaps,
        scope: Scope::Worker,
        most_lanes: 16_357,
    };
    plan(records, questions, &|_| vec![ceiling.clone()])
}

fn need<'p>(plan: &'p Plan, engine: &str) -> &'p Need {
    let found = plan.engines.iter().find(|e| e.name == engine).expect("the engine is planned");
    found.answer.as_ref().unwrap_or_else(|refusal| panic!("{engine}: {refusal:?}"))
}

fn two_engines() -> Vec<TrialRecord> {
    static BOTH: LazyLock<Vec<TrialRecord>> = LazyLock::new(|| {
        let threads = records(Engine::Threads, 1_000.0, 60_000.0);
        [threads, records(Engine::Tokio, 2_000.0, 20_000.0)].concat()
    });
    BOTH.clone()
}

fn full() -> Question {
    Question {
        p99_ns: Some(50_000_000),
        availability: Some(0.999),
        growth_per_year: 0.21,
        months: 6.0,
        from: Some(jiff::civil::date(2026, 11, 26)),
        spare: 1,
        ..Question::new(20_000.0, small())
    }
}

#[test]
fn the_sentence_says_hosts_limit_money_and_the_other_engine() {
    let plan = ask(&two_engines(), &[full()]);
    // p99 ≤ 50 ms holds up to the tenth step: 2,000/s per worker, of which a host runs two.
    assert_eq!(
        plan.sentence,
        "7 hosts of type-a (2 CPUs, 4 GiB) with tokio: 5 for 20,000 req/s at p99 ≤ 50 ms, 1 for \
         growth to 22,000 req/s by May 2027, 1 spare. First limit: p99 ≤ 50 ms is only tested up to \
         4,000 req/s per host (100 % used). 560.07 USD per month, 0.0107 USD per million requests. \
         With threads instead of tokio: 12 hosts, 960.12 USD per month."
    );
    let tight = Question { host: host("tiny", 2, "10.5MiB", ""), ..full() };
    let plan = ask(&two_engines(), &[tight]);
    assert!(plan.sentence.contains("Memory is the first limit ("), "{}", plan.sentence);
    assert!(plan.sentence.contains(" % used, 80 % planned)"), "{}", plan.sentence);
    assert!(!plan.sentence.contains("per month"), "no price is invented: {}", plan.sentence);
}

#[test]
fn of_as_many_hosts_those_that_keep_fewer_cpus_busy_lead_the_sentence() {
    let threads = records(Engine::Threads, 2_010.0, 30_000.0);
    let both = [threads, records(Engine::Tokio, 2_000.0, 20_000.0)].concat();
    let plan = ask(&both, &[full()]);
    let (threads, tokio) = (need(&plan, "threads"), need(&plan, "tokio"));
    assert_eq!(threads.hosts_with_spare, tokio.hosts_with_spare, "a case of its own");
    assert!(plan.sentence.contains("with tokio: "), "{}", plan.sentence);
}

#[test]
fn growth_names_the_month_in_which_each_limit_is_reached() {
    let plan = ask(&two_engines(), &[full()]);
    let need = need(&plan, "tokio");
    let first = &need.resources[0];
    // 5 hosts of 4,000/s serve exactly today's rate.
    assert!(first.reached_in_months.unwrap() < 1e-9, "{first:?}");
    let roomy = Question { rate_per_s: 17_000.0, ..full() };
    let plan = ask(&two_engines(), &[roomy]);
    let need = self::need(&plan, "tokio");
    let months = need.resources[0].reached_in_months.unwrap();
    let expected = 12.0 * (20_000.0f64 / 17_000.0).ln() / 1.21f64.ln();
    assert!((months / expected - 1.0).abs() < 1e-9, "{months} is not {expected}");
    assert!(plan.text(None).contains("used up: p99 ≤ 50 ms October 2027"), "{}", plan.text(None));
    let shrinking = Question { growth_per_year: -0.5, ..full() };
    let plan = ask(&two_engines(), &[shrinking]);
    let need = self::need(&plan, "tokio");
    assert_eq!((need.hosts_today, need.hosts_grown, need.hosts_with_spare), (5, 5, 6));
    assert!(need.resources.iter().all(|r| r.reached_in_months.is_none()));
}

#[test]
fn several_types_of_hosts_are_compared_by_money() {
    let large = host("type-b", 8, "16GiB", "price = \"0.30 USD per hour\"");
    let questions = [full(), Question { host: large, ..full() }];
    let plan = ask(&two_engines(), &questions);
    assert_eq!(plan.engines.len(), 4);
    // 3 of type-b for 657 USD against 7 of type-a for 560.07 USD.
    assert!(plan.sentence.starts_with("7 hosts of type-a"), "{}", plan.sentence);
    assert!(
        plan.sentence.contains("On type-b instead: 3 hosts, 657 USD per month."),
        "{}",
        plan.sentence
    );
    assert!(plan.what_if.is_empty());
}

#[test]
fn what_if_holds_every_combination_in_every_form() {
    let mut questions = vec![];
    for rate_per_s in [20_000.0, 40_000.0] {
        for growth_per_year in [0.21, 0.0] {
            for cpu_target in [0.7, 0.03] {
                questions.push(Question { rate_per_s, growth_per_year, cpu_target, ..full() });
            }
        }
    }
    let plan = ask(&two_engines(), &questions);
    assert_eq!(plan.what_if.len(), 8 * 2);
    for row in &plan.what_if {
        let q = Question {
            rate_per_s: row.rate_per_s,
            growth_per_year: row.growth_per_year,
            cpu_target: row.cpu_target,
            ..full()
        };
        let alone = ask(&two_engines(), &[q]);
        let need = need(&alone, &row.engine);
        assert_eq!(row.hosts, Some(need.hosts_with_spare), "{row:?}");
        assert_eq!(row.month_cents, need.cost.as_ref().map(|c| c.total_cents), "{row:?}");
        assert!(!row.from.is_empty());
    }
    let csv = plan.csv();
    assert_eq!(csv.lines().count(), 1 + 16, "{csv}");
    assert!(csv.lines().nth(1).unwrap().starts_with("threads,type-a,20000,0.21,0.7,12,96012,"));
    let text = plan.text(None);
    let markdown = duel::report::markdown::capacity(&plan);
    for form in [&text, &markdown] {
        assert!(form.contains("what if"), "{form}");
        assert!(form.contains("960.12 USD"), "{form}");
    }
}

#[test]
fn the_text_fits_eighty_columns_but_for_tables_of_names() {
    let text = ask(&two_engines(), &[full()]).text(Some(80));
    let wide: Vec<&str> = text.lines().filter(|line| line.chars().count() > 80).collect();
    assert_eq!(wide, [""; 0], "{text}");
}

/// Every number of the text stands in the JSON as the text of a figure with its source, as a value
/// that was asked, or in an assumption.
#[test]
fn every_printed_number_is_in_the_json_with_its_source() {
    let plan = ask(&two_engines(), &[full()]);
    let json = serde_json::to_value(&plan).unwrap();
    let mut known = String::new();
    let mut sourced = 0;
    figures(&json, &mut |figure| {
        let from = figure["from"].as_array().unwrap();
        assert!(!from.is_empty(), "{figure} has no source");
        known += &format!(" {} {} ", figure["text"].as_str().unwrap(), figure["from"]);
        sourced += 1;
    });
    assert!(sourced > 100, "{sourced} figures");
    for assumption in json["assumptions"].as_array().unwrap() {
        known += &format!(" {} ", assumption["text"].as_str().unwrap());
    }
    // What was asked, and names that hold digits.
    known += " p99 95 28 99 50 99.9 2 4 1 ";
    let numbers = |text: &str| -> Vec<String> {
        text.split(|c: char| !(c.is_ascii_digit() || ".,".contains(c)))
            .map(|n| n.trim_matches([',', '.']).to_string())
            .filter(|n| n.contains(|c: char| c.is_ascii_digit()))
            .collect()
    };
    let known: std::collections::BTreeSet<String> = numbers(&known).into_iter().collect();
    let text = plan.text(None);
    for line in text.lines() {
        for number in numbers(line) {
            assert!(known.contains(&number), "{number} of `{line}` is not in the JSON");
        }
    }
}

fn figures(json: &serde_json::Value, found: &mut impl FnMut(&serde_json::Value)) {
    match json {
        serde_json::Value::Object(map) => {
            if map.contains_key("text") && map.contains_key("from") {
                found(json);
            }
            map.values().for_each(|value| figures(value, found));
        }
        serde_json::Value::Array(list) => list.iter().for_each(|value| figures(value, found)),
        _ => {}
    }
}

#[test]
fn the_error_budget_counts_what_was_lost_and_late() {
    let mut all = records(Engine::Tokio, 2_000.0, 20_000.0);
    for r in all.iter_mut().filter(|r| r.cell.offered_per_s == Some(2_000.0)) {
        // 1 of 2,000 requests lost in each trial: half of a budget of 0.1 %.
        r.ledger.completed -= 1;
        r.ledger.failed += 1;
    }
    let plan = ask(&all, &[full()]);
    let budgets = &need(&plan, "tokio").budgets;
    let answered = budgets.iter().find(|b| b.objective == "99.9 % answered").unwrap();
    assert_eq!((answered.bad, answered.of), (6, 12_000));
    assert!((answered.left - 0.5).abs() < 1e-9, "{answered:?}");
    // Poisson: 6 seen leaves up to 13.06 open, of 12,000.
    assert!((answered.at_most * 12_000.0 - 13.06).abs() < 0.03, "{answered:?}");
    let of = |name: &str| answered.figures.iter().find(|f| f.name == name).unwrap().value;
    assert!(
        (of("budget_minutes") - 40.32).abs() < 1e-6 && (of("left_minutes") - 20.16).abs() < 1e-6
    );
    assert!((of("budget_requests") / (20_000.0 * 28.0 * 86_400.0 * 0.001) - 1.0).abs() < 1e-9);
    assert!(plan.text(None).contains("cannot be told"), "six losses may be thirteen");
    let in_time = budgets.iter().find(|b| b.objective == "99 % within 50 ms").unwrap();
    assert_eq!((in_time.bad, in_time.left > 0.9), (6, true), "a lost request is never in time");
}

/// p99 of the time in an M/M/c, in units of the mean service time, at `busy` Erlang; by bisection of
/// the tail of waiting time plus service.
fn p99_of_queue(servers: u32, busy: f64) -> f64 {
    let c = f64::from(servers);
    if busy >= c {
        return f64::INFINITY;
    }
    let mut b = 1.0;
    for k in 1..=servers {
        b = busy * b / (f64::from(k) + busy * b);
    }
    let waits = b / (1.0 - busy / c * (1.0 - b));
    let drain = c - busy;
    let beyond = |t: f64| {
        let at_once = (1.0 - waits) * (-t).exp();
        let queued = match (drain - 1.0).abs() < 1e-9 {
            true => waits * (1.0 + t) * (-t).exp(),
            false => waits * (drain * (-t).exp() - (-drain * t).exp()) / (drain - 1.0),
        };
        at_once + queued
    };
    let (mut low, mut high) = (0.0, 1e6);
    for _ in 0..200 {
        let middle = (low + high) / 2.0;
        if beyond(middle) > 0.01 { low = middle } else { high = middle }
    }
    high
}

/// A target of c servers is measured at rates in steps of 2 %, with the p99 that theory has; the plan
/// must find the last step within the bound, and as many hosts as that takes.
#[test]
fn fifty_queues_have_the_hosts_that_theory_has() {
    let mean_ns = 5e6;
    let mut cases = 0;
    for servers in [1, 2, 4, 8, 16] {
        let capacity = f64::from(servers) * 1e9 / mean_ns;
        let steps: Vec<f64> = (1..50).map(|i| capacity * f64::from(i) / 50.0).collect();
        let p99 = |rate: &f64| p99_of_queue(servers, rate * mean_ns / 1e9) * mean_ns;
        let measured = steps.iter().take_while(|r| p99(r) < 6e10);
        let trial = |r: &f64| cell(Engine::Tokio, 256, *r, p99(r) as u64, 1_000.0).remove(0);
        let records: Vec<TrialRecord> = measured.map(trial).collect();
        for bound in [6.0, 9.0] {
            let within = steps.iter().rfind(|r| p99(r) <= bound * mean_ns).unwrap();
            for rate_per_s in [900.0, 5_000.0, 33_333.0, 100_000.0, 777_777.0] {
                let q = Question {
                    p99_ns: Some((bound * mean_ns) as u64),
                    ..Question::new(rate_per_s, HostType::plain(1, 1 << 34))
                };
                let plan = ask(&records, &[q]);
                assert_eq!(
                    need(&plan, "tokio").hosts_today,
                    (rate_per_s / within).ceil() as u64,
                    "c = {servers}, {bound} × the mean, {rate_per_s}/s: {within}/s per host"
                );
                cases += 1;
            }
        }
    }
    assert_eq!(cases, 50);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// More load never takes fewer hosts, a looser bound never more, spare hosts are added exactly,
    /// and money is hosts × the price of one, in whole cents.
    #[test]
    fn hosts_follow_the_question(
        rate in 100.0..100_000.0f64,
        more in 1.0..3.0f64,
        p99_ms in 20u64..60,
        looser in 0u64..30,
        spare in 0u32..50,
        micros in 1u64..5_000_000,
        growth in -0.9..3.0f64,
    ) {
        static TOKIO: LazyLock<Vec<TrialRecord>> = LazyLock::new(|| {
            let all = records(Engine::Tokio, 2_000.0, 20_000.0);
            all.into_iter().filter(|r| r.block == 0).collect()
        });
        let records = &*TOKIO;
        let price = format!("price = \"{}.{:06} EUR per hour\"", micros / 1_000_000, micros % 1_000_000);
        let base = Question {
            p99_ns: Some(p99_ms * 1_000_000),
            growth_per_year: growth,
            host: host("x", 2, "2GiB", &price),
            ..Question::new(rate, small())
        };
        let hosts = |q: Question| {
            let plan = ask(records, &[q]);
            need(&plan, "tokio").clone()
        };
        let first = hosts(base.clone());
        let loaded = hosts(Question { rate_per_s: rate * more, ..base.clone() });
        prop_assert!(loaded.hosts_today >= first.hosts_today);
        prop_assert!(loaded.hosts_with_spare >= first.hosts_with_spare);
        let loose = hosts(Question { p99_ns: Some((p99_ms + looser) * 1_000_000), ..base.clone() });
        prop_assert!(loose.hosts_today <= first.hosts_today);
        let spared = hosts(Question { spare, ..base.clone() });
        prop_assert_eq!(spared.hosts_with_spare, first.hosts_with_spare + u64::from(spare));
        let cost = spared.cost.unwrap();
        prop_assert_eq!(cost.total_cents, cost.today_cents + cost.growth_cents + cost.spare_cents);
        prop_assert_eq!(cost.total_cents, cost.host_cents * spared.hosts_with_spare);
        // The price of a host in cents, by whole numbers alone: 730 hours, half a cent up.
        prop_assert_eq!(cost.host_cents, (micros * 730 + 5_000) / 10_000);
    }
}

#[test]
fn limits_of_a_host_take_the_place_of_the_measured_ones() {
    let named = host("x", 1, "4GiB", "limits = { \"vm.max_map_count\" = 500 }");
    let q = Question { host: named, ..full() };
    let plan = ask(&two_engines(), &[q]);
    let need = need(&plan, "threads");
    // (500 − 100) ÷ 4 = 100 lanes per worker.
    let used = need.resources.iter().find(|r| r.name == "vm.max_map_count").unwrap().used;
    let lanes = f64::from(need.lanes) / need.hosts_today as f64;
    assert!((used - lanes / 100.0).abs() < 1e-9, "{used} for {lanes} lanes");
}

#[test]
fn one_lane_count_is_planned_whole_up_to_its_lanes() {
    let one: Vec<TrialRecord> = [500.0, 2_000.0]
        .iter()
        .flat_map(|r| cell(Engine::Tokio, 256, *r, 20_000_000, 2e4))
        .collect();
    let q = Question { host: HostType::plain(1, 1 << 30), ..full() };
    let plan = ask(&one, &[q]);
    let need = need(&plan, "tokio");
    let each = need.user_bytes / need.processes as f64;
    assert!((each - (4_000_000.0 + 20_000.0 * 256.0)).abs() < 1.0, "{each}");
}

/// The same cells with two classes of requests: nine in ten are light and twice as fast as all of
/// them, the others heavy and half as fast; 1 % of the heavy ones fail.
fn with_classes() -> Vec<TrialRecord> {
    let mut all = two_engines();
    for r in &mut all {
        let p99 = r.response_ns.as_ref().unwrap().p99;
        let class = |planned: u64, failed: u64, p99: u64| ClassUse {
            ledger: Ledger { planned, completed: planned - failed, failed, ..Ledger::default() },
            times_ns: Some(sample::climb(p99, p99, planned - failed)),
            service_ns: None,
        };
        r.classes.insert("light".into(), class(1_800, 0, p99 / 2));
        r.classes.insert("heavy".into(), class(200, 2, p99 * 2));
    }
    all
}

#[test]
fn a_class_is_planned_under_its_own_bound_with_the_costs_of_all_requests() {
    let of = |class: Option<&str>, p99_ms: u64| Question {
        class: class.map(Into::into),
        p99_ns: Some(p99_ms * 1_000_000),
        ..full()
    };
    let records = with_classes();
    let whole = ask(&records, &[of(None, 50)]);
    // What a class meets at half or twice the time of all, it meets at the same rates as all do.
    for (class, p99_ms) in [("light", 25), ("heavy", 100)] {
        let plan = ask(&records, &[of(Some(class), p99_ms)]);
        let (own, all) = (need(&plan, "tokio"), need(&whole, "tokio"));
        assert_eq!(own.hosts_with_spare, all.hosts_with_spare, "{class}");
        assert_eq!((own.cpus_busy, own.lanes), (all.cpus_busy, all.lanes), "{class}");
        let said = format!("at p99 ≤ {p99_ms} ms of class {class}, ");
        assert!(plan.sentence.contains(&said), "{}", plan.sentence);
        assert!(plan.text(None).contains("(change it with --class)"), "{}", plan.text(None));
        let budget = own.budgets.iter().find(|b| b.objective.starts_with("99.9 %")).unwrap();
        assert_eq!(budget.objective, format!("99.9 % answered of {class}"));
        // Six trials of the worse cell, as many requests as the class has.
        let (bad, of, share) = if class == "light" { (0, 10_800, 0.9) } else { (12, 1_200, 0.1) };
        assert_eq!((budget.bad, budget.of), (bad, of), "{class}");
        let requests = budget.figures.iter().find(|f| f.name == "budget_requests").unwrap().value;
        assert!((requests / (20_000.0 * share * 28.0 * 86.4) - 1.0).abs() < 1e-9, "{requests}");
    }
    // Under one bound the heavy class takes more hosts than all requests do, the light one fewer.
    let hosts = |class| {
        let plan = ask(&records, &[of(class, 45)]);
        need(&plan, "tokio").hosts_today
    };
    assert!(hosts(Some("light")) <= hosts(None) && hosts(None) < hosts(Some("heavy")));
    // Rows by class are what asking for the class gives.
    let plan = ask(&records, &[of(None, 50), of(Some("light"), 25), of(Some("heavy"), 45)]);
    for row in plan.what_if.iter().filter(|row| row.class.is_some()) {
        let alone = ask(&records, &[of(row.class.as_deref(), row.p99_ns.unwrap() / 1_000_000)]);
        assert_eq!(row.hosts, Some(need(&alone, &row.engine).hosts_with_spare), "{row:?}");
    }
    assert_eq!(plan.what_if.len(), 6);
    for form in [plan.text(None), duel::report::markdown::capacity(&plan)] {
        assert!(form.contains("by class of requests") && form.contains("heavy"), "{form}");
    }
    assert!(plan.csv().lines().any(|line| line.ends_with(",heavy,45000000")), "{}", plan.csv());
}

/// The cells of [`records`] as a client saw them that loads two servers: its own costs are absurd, so
/// that a figure of the wrong side is seen.
fn served() -> Vec<TrialRecord> {
    let of = |(nth, server, cpu_ns): (u32, ServerEngine, f64)| {
        let mut all = records(Engine::TokioSingle, 2_000.0, 1e9);
        for r in &mut all {
            let lanes = u64::from(r.cell.lanes);
            r.memory.peak_rss_bytes = 1 << 40;
            r.cell.id += server.name();
            (r.cell.server_engine, r.cell.server_nth) = (Some(server), Some(nth));
            let mut used = SideUse { processes: 1, cpus: 2, ..SideUse::default() };
            used.cpu.per_request_ns = cpu_ns;
            used.memory.peak_rss_bytes = 4_000_000 + 20_000 * lanes;
            used.threads_peak = 3 + if server == ServerEngine::Threads { lanes } else { 0 };
            used.fds_peak = lanes + 9;
            r.server = Some(used);
        }
        all
    };
    let both = [(0, ServerEngine::Threads, 60_000.0), (1, ServerEngine::Tokio, 20_000.0)];
    both.into_iter().flat_map(of).collect()
}

#[test]
fn where_the_server_is_under_test_the_hosts_are_those_of_the_service() {
    let four = Question { host: host("type-c", 4, "8GiB", ""), ..full() };
    let plan = ask(&served(), std::slice::from_ref(&four));
    assert!(plan.is_service);
    // Each server has two CPUs, so that a host of four runs two of 2,000/s each.
    let said = "7 hosts of type-c (4 CPUs, 8 GiB) for the service with ";
    assert!(plan.sentence.starts_with(said), "{}", plan.sentence);
    for (server, cpu_ns, threads) in [("threads", 60_000.0, 1), ("tokio", 20_000.0, 0)] {
        let need = need(&plan, server);
        assert!((need.cpus_busy - 20_000.0 * cpu_ns / 1e9).abs() < 1e-6, "{server}");
        let processes = f64::from(need.processes as u32);
        assert_eq!(processes, 2.0 * need.hosts_today as f64);
        let bytes = 4_000_000.0 * processes + 20_000.0 * f64::from(need.lanes);
        assert!((need.user_bytes / bytes - 1.0).abs() < 1e-6, "{server}: {}", need.user_bytes);
        let lanes = u64::from(need.lanes);
        assert_eq!(need.threads, threads * lanes + 3 * need.processes, "{server}");
        assert_eq!((need.descriptors, need.ports), (lanes + 9 * need.processes, 0), "{server}");
    }
    let (text, all) = (plan.text(None), duel::report::markdown::capacity(&plan));
    assert!(all.contains("the service is planned, not its clients"), "{all}");
    for text in [&text, &all] {
        assert!(!text.contains("worker") && !text.contains("lanes"), "of the other side: {text}");
    }
    // Connections that clients hold beside the busy ones cost memory and threads.
    let held = Question { connections: Some(2_000.0), ..four };
    let plan = ask(&served(), &[held]);
    let need = need(&plan, "threads");
    assert_eq!((need.lanes, need.threads), (2_000, 2_000 + 3 * need.processes));
    assert!(plan.text(None).contains("clients hold 2,000 connections"), "{}", plan.text(None));
}

/// A sweep whose cells are those of [`records`].
fn sweep(text: &str) -> Sweep {
    duel::config::parse(text, "x.toml", &[], std::path::Path::new(".")).unwrap()
}

#[test]
fn a_proof_doubles_the_load_and_tells_how_far_off_the_forecast_was() {
    let base = "[plan]\narrivals = \"poisson\"\nduration = \"1s\"\n[sweep]\nengines = [\"tokio\"]\n\
                lanes = [64, 256]\nrates = [500, 2000]\n";
    let own = sweep(base);
    let loads = prove::loads(&own, &[]).unwrap();
    assert_eq!(
        (&loads.twice.axes.lanes[..], &loads.twice.axes.rates_per_s[..]),
        (&[512][..], &[4e3][..])
    );
    assert!(loads.knee.is_none() && loads.twice.precision.is_none());
    let below = records(Engine::Tokio, 2_000.0, 20_000.0);
    // A run of twice the load that did as forecast, and one that took a quarter more.
    for (by, is_met) in [(1.0, true), (1.25, false)] {
        let mut twice = cell(Engine::Tokio, 512, 4_000.0, 20_000_000, 20_000.0 * by);
        for r in &mut twice {
            r.memory.peak_rss_bytes = ((4_000_000.0 + 20_000.0 * 512.0) * by) as u64;
            r.response_ns.as_mut().unwrap().mean = 5e6 * by;
        }
        let proofs = prove::proofs((&own, &below), &twice, None);
        let what: Vec<&str> = proofs.iter().map(|p| p.what).collect();
        assert_eq!(what.len(), 3, "CPU, memory and lanes: {what:?}");
        for proof in &proofs {
            let off = proof.error.unwrap() - (1.0 / by - 1.0);
            // Lanes are whole numbers, and grow more slowly than what is in flight.
            let near = if proof.what.starts_with("lanes") { 0.06 } else { 0.01 };
            assert!(off.abs() < near && proof.is_met() == is_met, "{proof:?}");
            let from: usize = proof.figures.iter().map(|f| f.from.len()).sum();
            assert!(proof.figures.iter().all(|f| !f.from.is_empty()) && from >= 5, "{proof:?}");
        }
        let mut plan = ask(&below, &[Question::new(1_000.0, HostType::plain(1, 1 << 30))]);
        plan.proofs = proofs;
        // One that was not measured says why, and counts for no goal.
        let knee =
            prove::Proof { error: None, remark: Some("it broke".into()), ..plan.proofs[0].clone() };
        assert!(!knee.is_met());
        plan.proofs.push(knee);
        for form in [plan.text(None), duel::report::markdown::capacity(&plan)] {
            assert!(form.contains("not measured") && form.contains(": it broke"), "{form}");
            assert!(form.contains(" of 4 forecasts"), "{form}");
            assert!(form.contains("what that load measured") && form.contains("± 10 %"), "{form}");
        }
    }
}

/// A marker of a plot: its panel, the name of its line, where it and the ends of its interval stand, and
/// what its hover text says.
#[derive(Debug, Clone)]
struct Drawn {
    panel: String,
    name: String,
    x: f64,
    y: f64,
    interval: Option<(f64, f64)>,
    says: String,
}

/// What the page draws of the measured curve.
fn drawn(page: &str) -> Vec<Drawn> {
    let figure = page.split("<figcaption>The measured curve").nth(1).expect("the plot");
    let svg = figure.split("</svg>").next().unwrap();
    // `X YcZ…` as numbers.
    let numbers = |path: &str| -> Vec<f64> {
        path.split([' ', 'V', 'M', 'm']).map_while(|n| n.parse().ok()).collect()
    };
    let (mut panel, mut all) = (String::new(), Vec::new());
    for line in svg.split("<g stroke=") {
        let intervals: Vec<Vec<f64>> = line.split("<path d=\"M").skip(1).map(numbers).collect();
        for marker in line.split("class=\"m\"").skip(1) {
            let at = numbers(marker.split("d=\"M").nth(1).unwrap());
            let title = marker.split("<title>").nth(1).unwrap().split('<').next().unwrap();
            let (name, rest) = title.split_once(", requests per second of a host ").unwrap();
            let interval = intervals.iter().find(|i| i[0] == at[0]).map(|i| (i[1], i[2]));
            all.push(Drawn {
                panel: panel.clone(),
                name: name.into(),
                x: at[0],
                y: at[1],
                interval,
                says: rest.split_once(": ").unwrap().1.into(),
            });
        }
        if let Some(next) =
            line.rsplit("font-weight=\"600\">").next().filter(|_| line.contains("600\">"))
        {
            panel = next.split('<').next().unwrap().into();
        }
    }
    all
}

/// The line through two points of a drawing, and how far a third is off it.
fn off(points: &[(f64, f64)]) -> f64 {
    let by = |a: &&(f64, f64), b: &&(f64, f64)| a.0.total_cmp(&b.0);
    let (low, high) = (points.iter().min_by(by).unwrap(), points.iter().max_by(by).unwrap());
    assert!(high.0 > low.0, "{points:?}");
    let slope = (high.1 - low.1) / (high.0 - low.0);
    points.iter().map(|p| (low.1 + slope * (p.0 - low.0) - p.1).abs()).fold(0.0, f64::max)
}

#[test]
fn the_measured_curve_is_drawn_from_figures_of_the_json() {
    let mut records: Vec<TrialRecord> = two_engines();
    let again = records.iter().map(|r| TrialRecord { block: r.block + 6, ..r.clone() });
    records.extend(again.collect::<Vec<_>>());
    for r in &mut records {
        r.cpu.per_request_ns *= 1.0 + 0.01 * f64::from(r.block);
        let times = r.response_ns.as_ref().unwrap();
        // The slowest of all requests stand in two trials of twelve.
        let (p99, mean) = (times.p99, times.mean * (1.0 + 0.02 * f64::from(r.block)));
        let p99 = if r.block % 6 == 3 { p99 + p99 / 4 } else { p99 };
        r.response_ns = Some(Distribution { mean, ..sample::climb(p99 / 2, p99, 2_000) });
    }
    let plan = ask(&records, &[Question { p99_ns: Some(70_000_000), ..full() }]);
    let run = serde_json::json!({
        "format_version": 1, "name": "x", "plan_hash": sample::PLAN_HASH, "seed": 1,
        "created_utc": "2026-01-02T03:04:05Z", "config": null, "cells": [], "trials_planned": 1,
        "machine": null, "limits": null, "command_line": [],
        "versions": duel::results::store::Versions::default(),
    });
    let run = serde_json::from_value(run).unwrap();
    let run = Reported { capacity: Some(&plan), ..Reported::new(&run, &records, &[]) };
    let page = duel::report::html::render(&run, None);
    let (drawn, json) = (drawn(&page), serde_json::to_value(&plan).unwrap());
    let value = |v: &serde_json::Value| v.as_f64().unwrap_or_else(|| panic!("{v}"));
    let mut shown = 0;
    for (panel, name, is_log) in [
        ("p99", "p99_ns", true),
        ("mean time", "latency_ns", false),
        ("CPU per request", "cpu_per_request_ns", false),
    ] {
        let mut up = Vec::new();
        let y = |v: f64| if is_log { v.log10() } else { v };
        for engine in json["engines"].as_array().unwrap() {
            let need = &engine["answer"]["Ok"];
            let copies = value(&json["question"]["rate_per_s"])
                / value(&need["hosts_today"])
                / value(&need["group_rate_per_s"]);
            for planned in [false, true] {
                let kind = if planned { ": planned" } else { "" };
                let line = format!("{}{kind}", engine["name"].as_str().unwrap());
                let marks: Vec<&Drawn> =
                    drawn.iter().filter(|d| d.panel == panel && d.name == line).collect();
                let curve = need["curve"].as_array().unwrap();
                let points: Vec<&serde_json::Value> =
                    curve.iter().filter(|p| p["cell"].is_null() == planned).collect();
                assert_eq!(marks.len(), points.len(), "{panel}, {line}: {marks:?}");
                assert_eq!(marks.len(), if planned { 1 } else { 5 }, "{panel}, {line}");
                let mut across = Vec::new();
                for (mark, point) in marks.into_iter().zip(points) {
                    let of = |name: &str| {
                        let mut all = point["figures"].as_array().unwrap().iter();
                        all.find(|f| f["name"] == name).unwrap_or_else(|| panic!("{point}"))
                    };
                    across.push((value(&of("rate_per_s")["value"]) * copies, mark.x));
                    let figure = of(name);
                    up.push((y(value(&figure["value"])), mark.y));
                    let text = figure["text"].as_str().unwrap();
                    assert_eq!(text.trim_start_matches("up to "), mark.says, "{panel}, {line}");
                    assert_eq!(figure["interval"].is_array(), !planned, "{figure}");
                    if let (Some(ends), Some(at)) = (figure["interval"].as_array(), mark.interval) {
                        let (low, high) = (value(&ends[0]), value(&ends[1]));
                        let middle = value(&figure["value"]);
                        assert!(low <= middle && middle <= high, "{panel}, {line}: {figure}");
                        up.extend([(y(low), at.0), (y(high), at.1)]);
                    }
                    assert_eq!(mark.interval.is_some(), !planned, "{panel}, {line}: {mark:?}");
                    shown += 1;
                }
                assert!(planned || off(&across) < 0.3, "{panel}, {line}: {across:?}");
            }
        }
        assert!(off(&up) < 0.3, "{panel}: {up:?}");
    }
    assert_eq!(shown, drawn.len(), "nothing else is drawn: {drawn:?}");
}

#[test]
fn what_cannot_be_doubled_is_one_error() {
    let search = "[target]\nurl = \"127.0.0.1:1\"\n[plan]\narrivals = \"poisson\"\nduration = \"6s\"\n\
                  [slo]\np99 = \"40ms\"\n[search]\n";
    for (text, error) in [
        (search, "no search found a knee: "),
        ("[sweep]\nengines = [\"sequential\"]\n", "no engine has several lanes"),
        (
            "[plan]\narrivals = \"poisson\"\nstages = [{ duration = \"1s\", rate = 50 }]\n",
            "cannot be doubled",
        ),
    ] {
        let found = prove::loads(&sweep(text), &[]).unwrap_err().to_string();
        assert!(found.contains(error) && !found.contains('\n'), "{found}");
    }
}
