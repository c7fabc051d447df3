//! `report.html`: what it holds, and how headless Chromium shows it.
//!
//! Without `chromium` the tests that need it say so and pass; `DUEL_REQUIRE_REAL=1` has them fail.

use crate::sample;

use std::path::Path;
use std::process::{Command, Stdio};

use duel::format::{Flag, Gate, Status, TrialRecord};
use duel::plan::allocator::Allocator;
use duel::plan::{Arrivals, Cell, Engine};
use duel::report::summary::summarise;
use duel::report::{Reported, html};
use duel::results::store::{PlanJson, Versions};

/// Markup that must never come alive.
const HOSTILE: &str = "</title></style></svg><script>document.title='owned'</script>\"' \
                       onload=\"alert(1)\"><img src=http://127.0.0.1:9/x> {{1+1}} \u{202e}\x1b[2J";

fn plan(cells: Vec<Cell>) -> PlanJson {
    PlanJson {
        format_version: 1,
        name: format!("report {HOSTILE}"),
        plan_hash: sample::PLAN_HASH.into(),
        seed: 1,
        created_utc: "2026-01-02T03:04:05Z".into(),
        config: serde_json::json!({"name": HOSTILE, "plan": {"seed": 1}}),
        trials_planned: cells.len() as u64 * 6,
        cells,
        machine: serde_json::json!({"cpu_model": HOSTILE}),
        limits: serde_json::json!({"nofile_hard": 20_000}),
        versions: Versions::default(),
        command_line: vec!["duel".into(), "run".into(), HOSTILE.into()],
        shard: None,
        merged: None,
    }
}

/// The plan of a config.
fn plan_of(config: &str) -> PlanJson {
    let sweep = duel::config::parse(config, "x.toml", &[], Path::new(".")).expect("a config");
    PlanJson { config: serde_json::to_value(sweep).expect("plain data"), ..plan(vec![]) }
}

/// Closed and open cells of two engines over three lane values, and one that failed.
fn records() -> Vec<TrialRecord> {
    let mut all = Vec::new();
    for lanes in [16, 64, 256] {
        for (engine, cost) in [(Engine::Threads, 1.0), (Engine::Tokio, 0.5)] {
            for rate in [None, Some(1_000.0)] {
                let open = if rate.is_some() { Arrivals::Constant } else { Arrivals::Closed };
                let cell = Cell {
                    id: format!("{}-l{lanes}-{}", engine.name(), open.name()),
                    lanes,
                    total_lanes: lanes,
                    arrivals: open,
                    offered_per_s: rate,
                    ..sample::cell(engine)
                };
                all.extend((0..6).map(|b| sample::record(cell.clone(), b, cost)));
            }
        }
    }
    let mut failed = sample::record(sample::cell(Engine::Rayon), 0, 1.0);
    (failed.status, failed.error) = (Status::Failed, Some(HOSTILE.into()));
    let name = HOSTILE.to_string();
    failed.gates.push(Gate { name, hard: true, ok: Some(false), value: None, limit: None });
    all.push(failed);
    all
}

fn report() -> (String, Vec<String>) {
    let records = records();
    let mut cells: Vec<Cell> = Vec::new();
    for r in &records {
        if !cells.iter().any(|c| c.id == r.cell.id) {
            cells.push(r.cell.clone());
        }
    }
    let ids = cells.iter().map(|c| c.id.clone()).collect();
    (render(plan(cells), &records), ids)
}

fn render(plan: PlanJson, records: &[TrialRecord]) -> String {
    let groups = summarise(records, Engine::Threads, duel::stats::MARGIN);
    let timeline = timeline(records);
    html::render(&Reported::new(&plan, records, &groups), Some(&mut timeline.as_bytes()))
}

/// Ten looks at each trial, with one line that a killed driver cut off.
fn timeline(records: &[TrialRecord]) -> String {
    let mut out = String::from("{\"cell\":\"thr\n");
    for r in records {
        for i in 0..10u64 {
            out.push_str(&format!(
                "{{\"cell\":\"{}\",\"block\":{},\"worker\":0,\"t_ns\":{},\"rss_bytes\":{},\"cpu_ns\":{},\
                 \"threads\":4,\"in_flight\":{},\"completed\":{},\"cost_ns\":1}}\n",
                r.cell.id,
                r.block,
                i * 100_000_000,
                4_000_000 + i,
                i * 50_000_000,
                i % 3,
                i * 500
            ));
        }
    }
    out
}

#[test]
fn nothing_hostile_survives_and_nothing_is_asked_of_the_network() {
    let (text, ids) = report();
    assert!(!text.contains("<script"), "a script from a config or target came through");
    assert!(!text.contains("<img"), "an image from a config or target came through");
    for asks in ["src=\"", "href=\"http", "@import", "url("] {
        assert!(!text.contains(asks), "{asks} would ask the network");
    }
    assert!(text.contains("default-src 'none'"), "the policy against requests is gone");
    for id in ids {
        assert!(text.contains(&format!("data-cell=\"{id}\"")), "{id} has no row");
    }
    assert!(text.contains("At the same 1,000 req/s"), "no verdict at equal rates");
    assert!(text.len() < 1_000_000, "{} bytes", text.len());
}

/// Every drawing of a report.
fn plots(text: &str) -> Vec<&str> {
    text.split("<svg ").skip(1).map(|plot| plot.split("</svg>").next().unwrap()).collect()
}

#[test]
fn every_plot_has_a_name_hover_texts_and_units() {
    let (text, _) = report();
    let plots = plots(&text);
    assert!((8..=12).contains(&plots.len()), "{} plots", plots.len());
    for plot in plots {
        assert!(plot.contains("role=\"img\" aria-label=\""), "a plot without a name");
        assert!(plot.matches("<title>").count() > 1, "a plot without hover texts: {plot:.200}");
        assert!(!plot.contains("NaN"), "a plot with a number that is none: {plot:.200}");
    }
    for axis in [
        "time, logarithmic",
        "p99, logarithmic",
        "percentile, tail stretched",
        "bytes per lane",
        "CPU per request",
        "achieved req/s",
    ] {
        assert!(text.contains(&format!(">{axis}<")), "no axis says {axis}");
    }
}

/// Two engines over three lane values and three rates, in an order that no number has.
fn eighteen_cells() -> Vec<TrialRecord> {
    let mut all = Vec::new();
    for lanes in [64, 16, 256] {
        for rate in [2_000.0, 500.0, 1_000.0] {
            for (engine, cost) in [(Engine::Threads, 1.0), (Engine::Tokio, 0.5)] {
                let cell = Cell {
                    id: format!("{}-l{lanes}-r{rate}", engine.name()),
                    lanes,
                    total_lanes: lanes,
                    arrivals: Arrivals::Constant,
                    offered_per_s: Some(rate),
                    ..sample::cell(engine)
                };
                for block in 0..6 {
                    let mut record = sample::record(cell.clone(), block, cost);
                    record.achieved_per_s = rate;
                    all.push(record);
                }
            }
        }
    }
    all
}

#[test]
fn eighteen_cells_take_a_dozen_plots_in_the_order_of_their_numbers() {
    let mut all = eighteen_cells();
    let text = render(plan(vec![]), &all);
    let plots = plots(&text);
    assert!(plots.len() <= 12, "{} plots", plots.len());
    for name in ["Latency by percentile", "CPU per request against offered req/s"] {
        let plot = plots.iter().find(|p| p.contains(&format!("aria-label=\"{name}\"")));
        let plot = plot.unwrap_or_else(|| panic!("no plot of {name}"));
        let at = |title: &str| plot.find(&format!(">{title}")).unwrap_or_else(|| panic!("{title}"));
        assert!(at("16 lanes") < at("64 lanes") && at("64 lanes") < at("256 lanes"), "{name}");
    }
    let against = "CPU per request against lanes";
    let plot = plots.iter().find(|p| p.contains(against)).unwrap();
    let at = |title: &str| plot.find(&format!(">constant {title} req/s")).unwrap();
    assert!(at("500") < at("1,000") && at("1,000") < at("2,000"), "rates are sorted as text");

    // Tables by cell too.
    let page = render(plan_of("[slo]\np99 = '1s'"), &all);
    let (_, slo) = page.split_once("<h2>SLO</h2>").expect("the section on the SLO");
    let at = |id: &str| slo.find(&format!(">{id}<")).unwrap_or_else(|| panic!("no row of {id}"));
    let (first, second) = (at("threads-l64-r500"), at("threads-l64-r1000"));
    assert!(at("tokio-l16-r2000") < first && first < second, "rows are sorted as text");
    assert!(second < at("threads-l256-r500"), "rows are sorted as text");

    // A plot that leaves something out says what and why.
    assert!(
        text.contains("is not drawn: what was achieved is within 2 % of what was offered."),
        "throughput that shows nothing"
    );
    assert!(!text.contains("1,000 requests that a p99 needs"), "every p99 is there");
    for record in all.iter_mut().filter(|r| r.cell.offered_per_s == Some(500.0)) {
        record.response_ns.as_mut().unwrap().count = 999;
    }
    let text = render(plan(vec![]), &all);
    let note = "Not drawn, because no trial has the 1,000 requests that a p99 needs, or too many \
                requests were lost: threads";
    assert!(text.contains(note), "points vanish without a word");
}

#[test]
fn lines_that_coincide_are_all_seen() {
    let widest = |cost: f64| {
        let mut all = eighteen_cells();
        all.retain(|r| r.cell.engine == Engine::Threads);
        let twins: Vec<TrialRecord> = all
            .iter()
            .map(|r| {
                let id = r.cell.id.replace("threads", "tokio");
                let mut twin = r.clone();
                twin.cell = Cell { id, engine: Engine::Tokio, ..r.cell.clone() };
                twin.cpu.per_request_ns *= cost;
                twin
            })
            .collect();
        all.extend(twins);
        let text = render(plan(vec![]), &all);
        let name = "aria-label=\"CPU per request against lanes\"";
        let plot = *plots(&text).iter().find(|p| p.contains(name)).unwrap();
        plot.matches("stroke-width=\"4.5\"").count()
    };
    assert_eq!(widest(1.0), 3, "one line hides the other in each of three panels");
    assert_eq!(widest(0.5), 0, "lines apart are of one width");
}

#[test]
fn words_between_backticks_are_code_and_repeats_are_no_trials() {
    let mut all = records();
    let mut repeat = all[0].clone();
    all[0].flags.push(Flag::Noisy);
    repeat.unavailable.insert("memory.heap_bytes".into(), "set `memory = true`".into());
    all.push(repeat);
    let text = render(plan(vec![]), &all);
    assert!(text.contains("set <code>memory = true</code>"), "no code");
    assert!(!text.contains('`'), "a literal backtick");
    assert!(text.contains("73 of 0 planned trials and 1 repeat"), "repeats count as trials");
    // A sweep that ends by precision has not left anything out.
    let open = plan_of("[sweep]\nprecision = '5%'");
    assert!(render(open, &all).contains("73 of at most 0 trials and 1 repeat"), "all were planned");
}

#[test]
fn empty_and_hopeless_runs_still_render() {
    let none = render(plan(vec![]), &[]);
    assert!(none.contains("nothing can be concluded yet"), "{none}");
    let mut bad = records();
    for r in &mut bad {
        r.status = Status::Invalid;
    }
    let text = render(plan(vec![]), &bad);
    assert!(text.contains("No trial is valid"), "it must say that nothing can be concluded");
    let mut bare = records();
    for r in &mut bare {
        (r.service_ns, r.response_ns) = (None, None);
    }
    let text = render(plan(vec![]), &bare);
    assert!(text.contains("has a histogram of latencies"), "missing histograms must be said");
}

/// Every name of an element in the document, closing tags left out.
fn elements(text: &str) -> std::collections::BTreeSet<String> {
    let name =
        |rest: &str| rest.split(|c: char| !c.is_ascii_alphanumeric()).next().map(str::to_string);
    text.split('<').skip(1).filter(|r| !r.starts_with(['/', '!'])).filter_map(name).collect()
}

#[test]
fn whatever_a_config_or_a_target_says_stays_text() {
    let mut all = records();
    for (i, r) in all.iter_mut().enumerate() {
        r.cell.id = format!("{HOSTILE}{}", r.cell.id);
        r.cell.allocator = (i % 2 == 0).then(|| Allocator::Preloaded(HOSTILE.into()));
        r.flags.push(Flag::Other(HOSTILE.into()));
        r.error = Some(HOSTILE.into());
        r.unavailable.insert(format!("memory.{HOSTILE}"), HOSTILE.into());
        r.unavailable.insert(format!("cpu.{HOSTILE}"), HOSTILE.into());
        let name = HOSTILE.to_string();
        let limit = Some(f64::NAN);
        r.gates.push(Gate { name, hard: i % 3 == 0, ok: Some(i % 5 != 0), value: limit, limit });
        if i % 7 == 0 {
            r.status = Status::Failed;
        }
    }
    let mut hostile = plan(vec![]);
    let json = serde_json::json!({HOSTILE: {HOSTILE: [HOSTILE]}});
    (hostile.config, hostile.limits, hostile.machine) = (json.clone(), json.clone(), json);
    (hostile.plan_hash, hostile.created_utc) = (HOSTILE.into(), HOSTILE.into());
    hostile.versions.git_revision = Some(HOSTILE.into());
    let text = render(hostile, &all);
    let clean = render(plan(vec![]), &records());
    // Whatever was said, the page is made of the elements that it is always made of.
    let allowed: std::collections::BTreeSet<String> =
        elements(&clean).into_iter().chain(["code".into(), "details".into()]).collect();
    let found = elements(&text);
    let strange: Vec<&String> = found.difference(&allowed).collect();
    assert!(strange.is_empty(), "elements that no report has: {strange:?}");
    assert!(!text.contains("onload=\"") && !text.contains("onload='"), "an attribute came alive");
    assert!(!text.contains('\x1b'), "a control character came through");
    assert!(!text.contains('\u{202e}'), "a character that turns the line round came through");
}

#[test]
fn what_cannot_be_concluded_is_said_with_the_reason() {
    let of = |keep: &dyn Fn(&TrialRecord) -> bool, change: &dyn Fn(&mut TrialRecord)| {
        let mut all: Vec<TrialRecord> = records().into_iter().filter(|r| keep(r)).collect();
        all.iter_mut().for_each(change);
        render(plan(vec![]), &all)
    };
    let closed = |r: &TrialRecord| !r.cell.arrivals.is_open();

    let one = of(&|r| closed(r) && r.cell.lanes == 64, &|_| {});
    assert!(one.contains("One value of lanes and of rate only"), "one lane value is not said");
    assert!(
        one.contains("1 lane count measured; the law needs at least 4"),
        "the law has no reason"
    );
    assert!(one.contains("No rate was offered"), "a sweep without rates is not said");

    let alone = of(&|r| r.cell.engine == Engine::Tokio, &|_| {});
    assert!(alone.contains(" ran, so nothing is compared"), "one engine is not said");

    let lost = of(&|r| r.cell.engine != Engine::Threads || r.block > 6, &|_| {});
    assert!(lost.contains("nothing can be compared"), "a missing baseline is not said");

    // Flat and falling: throughput and memory that do not grow, or shrink, with lanes.
    for power in [0.0, -1.0] {
        let text = of(&closed, &|r| {
            let scale = f64::from(r.cell.lanes).powf(power);
            r.achieved_per_s = 1e4 * scale;
            r.memory.peak_rss_bytes = r.memory.baseline_rss_bytes + (1e6 * scale) as u64;
        });
        assert!(text.contains("Against lanes"), "power {power}: no curves");
        assert!(
            !text.contains("NaN") && !text.contains("inf "),
            "power {power}: a number that is none"
        );
    }

    // Records that measured nothing at all.
    let bare = of(&|_| true, &|r| {
        (r.service_ns, r.response_ns, r.measured_ns, r.achieved_per_s) = (None, None, 0, 0.0);
        (r.cpu, r.memory, r.switches) = Default::default();
    });
    assert!(bare.contains("has a histogram of latencies"), "missing histograms are not said");
    assert!(!bare.contains("NaN"), "a number that is none");

    let groups = summarise(&records(), Engine::Threads, duel::stats::MARGIN);
    let text = html::render(&Reported::new(&plan(vec![]), &records(), &groups), None);
    assert!(text.contains("No timeline.jsonl lies beside"), "a missing timeline is not said");
}

/// Closed loops of tokio over lane values, whose throughput is `law` of the lanes.
fn closed_loops(lanes: &[u32], law: fn(f64) -> f64) -> Vec<TrialRecord> {
    let of = |lanes: u32| {
        let id = format!("tokio-l{lanes}");
        let cell = Cell { id, lanes, total_lanes: lanes, ..sample::cell(Engine::Tokio) };
        (0..6).map(move |block| {
            let mut record = sample::record(cell.clone(), block, 1.0);
            record.achieved_per_s = law(f64::from(lanes));
            record
        })
    };
    lanes.iter().flat_map(|lanes| of(*lanes)).collect()
}

#[test]
fn a_coefficient_on_its_bound_is_said_to_be_there() {
    // More than linear growth: neither contention nor coherency; with and without intervals.
    for lanes in [&[1, 2, 4, 8][..], &[1, 2, 4, 8, 16, 32]] {
        let text = render(plan(vec![]), &closed_loops(lanes, |n| 100.0 * n.powf(1.1)));
        assert_eq!(text.matches("0, at its bound").count(), 2, "α and β of {lanes:?}");
        assert!(!text.contains("0 ± 0") && !text.contains("± 0<"), "a bound has no error");
    }
    let text = render(
        plan(vec![]),
        &closed_loops(&[1, 4, 16, 64], |n| 100.0 * n / (1.0 + 0.1 * n + 0.001 * n * n)),
    );
    assert!(!text.contains("at its bound"), "both are inside of their bounds");
}

/// The document as Chromium holds it, and what it wrote to the console.
fn dump(page: &Path, profile: &Path) -> Option<(String, String)> {
    let out = Command::new("chromium")
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
        .args(["--host-resolver-rules=MAP * ~NOTFOUND", "--enable-logging=stderr", "--dump-dom"])
        .args(["--virtual-time-budget=10000", "--window-size=1400,1000"])
        .arg(format!("--user-data-dir={}", profile.display()))
        .arg(format!("file://{}", page.display()))
        .stdin(Stdio::null())
        .output();
    match out {
        Ok(out) => Some((
            String::from_utf8_lossy(&out.stdout).into_owned(),
            String::from_utf8_lossy(&out.stderr).into_owned(),
        )),
        Err(error) => {
            let required = std::env::var_os("DUEL_REQUIRE_REAL").is_some_and(|v| v == "1");
            assert!(!required, "chromium cannot be started: {error}");
            eprintln!("skipped: chromium cannot be started: {error}");
            None
        }
    }
}

/// The report in frames as wide as a phone and a desktop; a script of the outer page measures.
fn framed(report: &str) -> String {
    let source = report.replace('&', "&amp;").replace('"', "&quot;");
    let frame = |width: u32| {
        format!(
            "<iframe style=\"width:{width}px;height:900px;border:0\" srcdoc=\"{source}\"></iframe>"
        )
    };
    format!(
        "<!doctype html><body>{}{}<pre id=found></pre><script>onload=()=>{{const out=[];\
         for(const f of document.querySelectorAll('iframe')){{const d=f.contentDocument;\
         const svgs=[...d.querySelectorAll('svg')];\
         const drawn=svgs.filter(s=>{{const r=s.getBoundingClientRect();\
         return r.width>200&&r.height>80&&s.querySelectorAll('polyline,rect,path').length>3}});\
         const beyond=svgs.flatMap(s=>{{const r=s.getBoundingClientRect();\
         return [...s.querySelectorAll('text')].filter(t=>{{const b=t.getBoundingClientRect();\
         return b.left<r.left-1||b.right>r.right+1||b.top<r.top-1||b.bottom>r.bottom+1}})}});\
         const loose=[...d.querySelectorAll('.wide')].filter(w=>{{w.scrollLeft=99;\
         const first=w.querySelector('tbody th');const shows=f.contentWindow.getComputedStyle(w);\
         const moved=first&&first.getBoundingClientRect().left<w.getBoundingClientRect().left-1;\
         w.scrollLeft=0;return moved||!shows.backgroundImage.includes('gradient')}});\
         out.push(['overflow',d.documentElement.scrollWidth-d.documentElement.clientWidth,\
         'plots',svgs.length,'drawn',drawn.length,\
         'rows',d.querySelectorAll('[data-cell]').length,\
         'beyond',beyond.length,'loose',loose.length,\
         'requests',f.contentWindow.performance.getEntriesByType('resource').length].join(' '))}}\
         document.getElementById('found').textContent='FOUND '+out.join(';')+' END'}}</script>",
        frame(390),
        frame(1280)
    )
}

#[test]
fn chromium_shows_it_whole_on_a_phone_and_a_desktop() {
    let dir = tempfile::tempdir().unwrap();
    let (text, ids) = report();
    let page = dir.path().join("report.html");
    std::fs::write(&page, &text).unwrap();
    let Some((dom, console)) = dump(&page, &dir.path().join("profile")) else { return };
    let says: Vec<&str> = console.lines().filter(|l| l.contains("CONSOLE")).collect();
    assert!(says.is_empty(), "the console says {says:#?}");
    assert!(dom.contains("</main>"), "Chromium shows no report: {console}");
    let plots = text.matches("<svg ").count();
    assert_eq!(dom.matches("<svg ").count(), plots, "Chromium lost plots");

    let frames = dir.path().join("frames.html");
    std::fs::write(&frames, framed(&text)).unwrap();
    let Some((dom, console)) = dump(&frames, &dir.path().join("profile")) else { return };
    let found = dom
        .split_once("id=\"found\">FOUND ")
        .and_then(|(_, rest)| rest.split_once(" END"))
        .map_or_else(|| panic!("nothing was measured: {console}"), |(found, _)| found);
    let expected = format!(
        "overflow 0 plots {plots} drawn {plots} rows {} beyond 0 loose 0 requests 0",
        ids.len()
    );
    assert_eq!(found, format!("{expected};{expected}"), "phone, then desktop");
}
