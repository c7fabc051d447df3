//! Every figure that is declared is recorded, added over workers, stored, read back and merged over
//! shards. The tests walk the declared lists, so that a new figure is in them by being declared.

use crate::common;
use crate::sample;

use std::io::{Read, Write};
use std::path::Path;

use common::{Sweep, duel, output, text};
use duel::fleet::merge::merge;
use duel::format::add::{Sum, times};
use duel::format::{Channel, ErrorKind, FORMAT_VERSION, TrialRecord, histogram};
use duel::plan::shard::Shard;
use duel::plan::{Cell, Engine};
use duel::protocol::{BetweenEdges, Frame, Outcome};
use duel::results::store::{PlanJson, RunDir, ShardOf, Versions};
use duel::side::counters::Counters;
use duel::side::{Phase, Recorder};
use serde_json::Value;

/// A plan of one trial of as many requests.
fn plan(requests: u64, shard: Option<Shard>) -> PlanJson {
    let config = format!(
        "name = 'x'\n[plan]\nrequests = {requests}\n[sweep]\nengines = ['tokio']\nlanes = [64]\ntrials = 1\n"
    );
    let sweep = duel::config::parse(&config, "x", &[], Path::new(".")).expect("a config");
    PlanJson {
        format_version: FORMAT_VERSION,
        name: sweep.name.clone(),
        plan_hash: sample::PLAN_HASH.into(),
        seed: 1,
        created_utc: "2026-01-01T00:00:00Z".into(),
        config: serde_json::to_value(&sweep).expect("plain data"),
        cells: sweep.cells(),
        trials_planned: 1,
        machine: Value::Null,
        limits: Value::Null,
        versions: Versions { binary_digest: "b1".into(), ..Versions::default() },
        command_line: vec![],
        shard: shard.map(|Shard { index, count }| ShardOf {
            index,
            count,
            host: format!("node{index}"),
            boot_id: index.to_string(),
        }),
        merged: None,
    }
}

/// The cell of that plan.
fn cell() -> Cell {
    let cell = plan(1, None).cells.remove(0);
    assert_eq!(cell.id, sample::cell(Engine::Tokio).id, "as the samples of other tests");
    cell
}

/// What a recorder makes of one value in every channel.
fn recorded() -> Vec<(Channel, duel::format::Distribution)> {
    let (counters, _page) = Counters::create(1).expect("a page");
    let recorder = Recorder::new(1, true, counters).with(Channel::ALL);
    for (i, channel) in Channel::ALL.iter().enumerate() {
        // As many as the ledger of `full` counts.
        let times = match channel {
            Channel::Service | Channel::Response => 1_999,
            _ => 1,
        };
        for _ in 0..times {
            recorder.step(0, Phase::Measured, *channel, 1_000 * (1 + i as u64));
        }
    }
    let all = recorder.histograms();
    all.iter().map(|(c, h)| (*c, histogram::summarize(h).expect("small counts"))).collect()
}

/// A record in which every figure is there, each number another one, so that a mix-up is seen.
fn full() -> TrialRecord {
    let mut value = serde_json::to_value(sample::record(cell(), 0, 1.0)).expect("plain data");
    let mut next = 1_000;
    fill(&mut value, &mut next);
    let mut record: TrialRecord = serde_json::from_value(value).expect("a record still");
    record.trial = 0;
    record.ledger = sample::record(cell(), 0, 1.0).ledger;
    (record.errors, record.warmup) = Default::default();
    record.errors.read = 1;
    lose_one(&mut record);
    // Of figures that follow from others, what those come to.
    for cpu in [&mut record.cpu].into_iter().chain(record.server.as_mut().map(|s| &mut s.cpu)) {
        (cpu.total_ns, cpu.per_request_ns) = (cpu.instrument_ns() + 10_000, 5.0);
    }
    if let Some(server) = &mut record.server {
        server.requests = Some(2_000);
    }
    let server = record.server.as_mut().map(|server| &mut server.events);
    for events in [&mut record.events].into_iter().chain(server) {
        (events.syscalls, events.syscalls_per_request) = (Some(8_000), Some(4.0));
    }
    record.unavailable.clear();
    for (channel, distribution) in recorded() {
        *record.histogram_mut(channel) = Some(distribution);
    }
    record
}

/// One of the requests of a sample failed.
fn lose_one(record: &mut TrialRecord) {
    (record.ledger.completed, record.ledger.failed) = (1_999, 1);
    (record.completed_in_window, record.rate_requests) = (1_999, 1_999.0);
    record.achieved_per_s = (1_999.0 * 1e12 / record.rate_ns as f64).round() / 1e3;
}

/// Gives every figure of the record a number of its own; the schema says where there are any.
fn fill(record: &mut Value, next: &mut u64) {
    let schema: Value = serde_json::from_str(&TrialRecord::schema()).expect("JSON");
    for part in [
        "cpu",
        "switches",
        "events",
        "memory",
        "target",
        "largest_worker",
        "runtime",
        "ring",
        "bytes",
    ] {
        let name = match part {
            "largest_worker" => "LargestWorker".into(),
            "runtime" => "RuntimeUse".into(),
            "ring" => "RingUse".into(),
            "target" => "TargetUse".into(),
            _ => part[..1].to_uppercase() + &part[1..],
        };
        let fields = schema["$defs"][&name]["properties"].as_object().expect("a struct");
        let filled = fields.keys().filter(|f| *f != "split").map(|field| {
            *next += 1;
            (field.clone(), Value::from(*next))
        });
        record[part] = Value::Object(filled.collect());
    }
    // The server's side is of the same parts.
    let parts = ["cpu", "switches", "events", "memory", "runtime", "ring"]
        .map(|part| (part.into(), record[part].clone()));
    let counts = ["processes", "cpus", "threads_peak", "fds_peak", "measured_ns", "requests"]
        .map(|field| (field.into(), 2.into()));
    record["server"] = Value::Object(parts.into_iter().chain(counts).collect());
}

/// Paths of all that is not null.
fn known(value: &Value, path: &str, out: &mut Vec<String>) {
    match value {
        Value::Null => {}
        Value::Object(fields) => {
            for (name, inner) in fields {
                known(inner, &format!("{path}.{name}"), out);
            }
        }
        _ => out.push(path.trim_start_matches('.').into()),
    }
}

/// What a part has, the whole has, or says why it has not.
fn assert_nothing_lost(whole: &TrialRecord, part: &TrialRecord) {
    let (mut of_whole, mut of_part) = (vec![], vec![]);
    known(&serde_json::to_value(whole).unwrap(), "", &mut of_whole);
    known(&serde_json::to_value(part).unwrap(), "", &mut of_part);
    // Which part it is belongs to the part.
    of_part.retain(|path| !path.starts_with("shard."));
    for path in of_part {
        assert!(
            of_whole.contains(&path) || whole.unavailable.contains_key(&path),
            "{path} is lost"
        );
    }
    for channel in Channel::ALL {
        let count = |r: &TrialRecord| r.histogram(*channel).map_or(0, |d| d.count);
        assert_eq!(count(whole), 2 * count(part), "{}", channel.field());
    }
}

#[test]
fn every_histogram_can_be_recorded() {
    let found: Vec<Channel> = recorded().into_iter().map(|(channel, _)| channel).collect();
    assert_eq!(found, Channel::ALL);
}

#[test]
fn every_figure_is_added_over_workers() {
    let part = full();
    let blank = TrialRecord::blank("5a".into(), "b1".into(), 0, 0, cell());
    let mut sum = Sum::new(blank);
    for _ in 0..2 {
        sum.add(&part, times(&part).unwrap(), "").unwrap();
    }
    let mut whole = sum.finish().unwrap();
    // The driver's, not the workers'.
    whole.in_flight_peak = part.in_flight_peak;
    whole.gates.clone_from(&part.gates);
    assert_nothing_lost(&whole, &part);
    assert_eq!(whole.cpu.total_ns, 2 * part.cpu.total_ns);
    assert_eq!(whole.cpu.machine_busy_ns, part.cpu.machine_busy_ns, "of one machine");
    assert_eq!(whole.memory.kernel_bytes, part.memory.kernel_bytes.map(|n| 2 * n));
    assert_eq!(whole.server.unwrap().cpu.total_ns, 2 * part.server.as_ref().unwrap().cpu.total_ns);
    assert_eq!(whole.largest_worker, part.largest_worker, "the largest is no sum");
    let per = 2.0 * part.cpu.net_ns() as f64 / whole.ended_between_edges as f64;
    assert_eq!(whole.cpu.per_request_ns, per);
}

/// What a worker says of itself is a record, so that no figure has to be handed on by its name.
#[test]
fn every_figure_crosses_the_seam() {
    let said = Outcome {
        part: full(),
        histograms: [].into(),
        started_at_ns: 1,
        started_in_window: 2,
        machine: BetweenEdges::default(),
        in_service_ns: 3,
        warmup_in_service_ns: 4,
        error_samples: [].into(),
        heap: None,
    };
    let mut line = vec![];
    Frame::Outcome(said.clone()).write_to(&mut line).expect("a sound frame");
    assert_eq!(Frame::parse(&line).expect("the same frame"), Frame::Outcome(said));
}

#[test]
fn both_sides_are_told_in_one_shape() {
    let sweep = Sweep::new(
        "name = 'sides'\n[plan]\nduration = '300ms'\nwarmup = '100ms'\n\
         [sweep]\nengines = ['tokio']\ncodecs = ['lean']\nlanes = [4]\ntrials = 1\n",
    );
    let done = sweep.run();
    let row = done.records.first().expect("a row");
    let server = row.server.as_ref().unwrap_or_else(|| panic!("{:?}", row.unavailable));
    let keys = |value: &Value| -> Vec<String> {
        value.as_object().expect("a part").keys().cloned().collect()
    };
    let sides = [&row.client(), server].map(|side| serde_json::to_value(side).unwrap());
    for part in ["cpu", "switches", "events", "memory"] {
        assert_eq!(keys(&sides[0][part]), keys(&sides[1][part]), "{part}");
    }
    assert_eq!((server.processes, row.client().cpu), (1, row.cpu.clone()));
    let whole_life = row.target.cpu_ns.expect("its own target");
    assert!((1..=whole_life).contains(&server.cpu.total_ns), "{:?} of {whole_life}", server.cpu);
    let per = server.cpu.total_ns as f64 / row.ended_between_edges as f64;
    // JSON may cost the last bit of a float.
    assert!((server.cpu.per_request_ns / per - 1.0).abs() < 1e-12, "{:?}", server.cpu);
    assert!(server.switches.voluntary > 0 && server.threads_peak > 0 && server.fds_peak > 4);
    let memory = &server.memory;
    assert!(memory.plateau_user_bytes.unwrap() <= memory.peak_rss_bytes, "{memory:?}");
    assert!(memory.baseline_rss_bytes > 0 && memory.page_table_bytes.unwrap() > 0, "{memory:?}");
}

/// Eight servers of 5 ms answer 1,600 requests a second, however many lanes wait for them.
#[test]
fn a_closed_loop_achieves_what_ends_between_the_edges() {
    let sweep = Sweep::new(
        "name = 'rate'\n[target]\nservice_time = '5ms'\nservers = 8\n\
         [plan]\nduration = '500ms'\nwarmup = '400ms'\n\
         [sweep]\nengines = ['tokio']\ncodecs = ['lean']\nlanes = [256]\ntrials = 1\n",
    );
    let done = sweep.run();
    let row = done.records.first().expect("a row");
    // JSON may cost the last bit of a float.
    let rate = row.rate_requests * 1e9 / row.rate_ns as f64;
    assert!((row.achieved_per_s / rate - 1.0).abs() < 1e-12, "{row:?}");
    assert!((1_440.0..1_760.0).contains(&row.achieved_per_s), "{}", row.achieved_per_s);
    // 160 ms of the window belong to requests that began before it.
    assert!(row.rate_requests > 1.2 * row.completed_in_window as f64, "{row:?}");
    assert!(row.occupancy.expect("a closed loop") > 0.95, "{:?}", row.occupancy);
}

/// Lanes in step, whose fifth answer comes just after the window's end: a count of whole requests
/// would say 80 per second.
#[test]
fn lanes_in_step_achieve_what_their_answers_allow() {
    // A machine that stalls between an answer and the next request takes from the rate: it may do so
    // twice.
    let law_holds = || {
        let sweep = Sweep::new(
            "name = 'step'\n[target]\nservice_time = '200ms'\n[plan]\nduration = '1s'\nwarmup = '0s'\n\
             [sweep]\nengines = ['threads', 'tokio']\ncodecs = ['lean']\nlanes = [20]\ntrials = 1\n",
        );
        let done = sweep.run();
        assert_eq!(done.records.len(), 2, "{}", done.stderr);
        done.records.iter().all(|row| {
            // What 20 lanes can do of requests that took so long.
            let law = 20.0 * 1e9 / row.service_ns.as_ref().expect("answers").mean;
            println!("{}: {} per second of {law}", row.cell.id, row.achieved_per_s);
            assert!(row.ended_between_edges <= 80, "the fifth answer is late: {row:?}");
            (row.achieved_per_s / law - 1.0).abs() < 0.01
        })
    };
    assert!((0..3).any(|_| law_holds()), "the rate is not what the answers allow");
}

#[test]
fn a_plan_by_count_achieves_no_more_than_it_offers() {
    let sweep = Sweep::new(
        "name = 'count'\n[plan]\narrivals = 'constant'\nrequests = 3\n\
         [sweep]\nengines = ['threads']\ncodecs = ['lean']\nlanes = [2]\nrates = [100]\n\
         trials = 1\n",
    );
    let done = sweep.run();
    let row = done.records.first().expect("a row");
    assert_eq!(row.rate_requests, 3.0, "{}", done.stderr);
    assert!(row.rate_ns >= 30_000_000 && row.rate_ns >= row.measured_ns, "{row:?}");
    assert!(row.achieved_per_s <= 100.0, "{}", row.achieved_per_s);
    // What moves a thread's memory is told with it.
    assert!(row.glibc_tunables.contains("glibc.rtld.nns=1"), "{}", row.glibc_tunables);
}

/// Two shards with this row each, merged.
fn merged(row: &TrialRecord) -> TrialRecord {
    let home = tempfile::tempdir().expect("a directory");
    let dirs = [0, 1].map(|index| {
        let shard = Shard { index, count: 2 };
        let dir = home.path().join(index.to_string());
        let mut run = RunDir::create(&dir, &plan(4_000, Some(shard))).expect("a directory");
        let row = TrialRecord { shard: Some(shard), ..row.clone() };
        run.append(&row).expect("a row that adds up");
        let back = RunDir::open(&dir).expect("what was written").records;
        assert_eq!(serde_json::to_value(&back[0]).unwrap(), serde_json::to_value(&row).unwrap());
        dir
    });
    merge(&dirs, &home.path().join("whole")).expect("shards of one run");
    let mut run = RunDir::open(&home.path().join("whole")).expect("what was merged");
    assert_eq!(run.records.len(), 1);
    run.records.remove(0)
}

#[test]
fn every_figure_is_stored_read_and_merged() {
    let part = full();
    let whole = merged(&part);
    assert_nothing_lost(&whole, &part);
    assert_eq!(whole.cpu.total_ns, 2 * part.cpu.total_ns);
    assert_eq!(whole.cpu.machine_busy_ns, part.cpu.machine_busy_ns.map(|n| 2 * n), "of two");
    assert_eq!(whole.ended_between_edges, 2 * part.ended_between_edges);
}

#[test]
fn a_failure_of_any_kind_is_a_row() {
    for kind in ErrorKind::ALL {
        let mut row = sample::record(cell(), 0, 1.0);
        row.trial = 0;
        lose_one(&mut row);
        // Times of one request fewer; they are not looked at here.
        *row.histogram_mut(Channel::Service) = None;
        let mut value = serde_json::to_value(&row).unwrap();
        value["errors"][kind.name()] = 1.into();
        let row: TrialRecord = serde_json::from_value(value).expect("a column of that name");
        assert_eq!((row.errors.count(*kind), row.errors.total()), (1, 1), "{kind:?}");
        assert_eq!(merged(&row).errors.count(*kind), 2, "{kind:?}");
    }
}

/// A server that takes every directory below `files` away before it answers.
fn thief(files: &Path) -> std::net::SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let (address, files) = (listener.local_addr().expect("bound"), files.to_path_buf());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let files = files.clone();
            std::thread::spawn(move || {
                let mut request = [0; 4096];
                while stream.read(&mut request).is_ok_and(|n| n > 0) {
                    for dir in std::fs::read_dir(&files).into_iter().flatten().flatten() {
                        // Another lane's request may have taken it.
                        let _ = std::fs::remove_dir_all(dir.path());
                    }
                    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
                }
            });
        }
    });
    address
}

#[test]
fn a_failed_file_step_stops_no_sweep() {
    let home = tempfile::tempdir().expect("a directory");
    let target = thief(home.path());
    let sweep = Sweep::new(&format!(
        "name = 'files'\n[target]\nurl = 'http://{target}'\n[plan]\nrequests = 20\n\
         [[plan.request]]\n[[plan.request.step]]\nkind = 'http'\n\
         [[plan.request.step]]\nkind = 'file'\nbytes = '4KiB'\nfiles = 4\n\
         [sweep]\nengines = ['threads']\ncodecs = ['lean']\nlanes = [2]\ntrials = 2\n"
    ));
    let out = output(sweep.command().env("TMPDIR", home.path()));
    let rows = common::records(&sweep.dir());
    assert_eq!(rows.len(), 2, "{}", text(&out).1);
    for row in &rows {
        common::assert_books(row);
        assert_eq!(row.errors.file, 20, "{:?}", row.errors);
    }
    let out = output(duel(&["report"]).arg(sweep.dir()));
    assert_ne!(out.status.code(), Some(2), "{}", text(&out).1);
}

#[test]
fn cpu_is_net_of_pacer_and_monitor_and_memory_holds_no_program_text() {
    for (load, open) in
        [("duration = '300ms'", false), ("requests = 40\narrivals = 'constant'", true)]
    {
        let rates = if open { "rates = [200]\n" } else { "" };
        let sweep = Sweep::new(&format!(
            "name = 'net'\n[plan]\n{load}\n[sweep]\nengines = ['threads']\ncodecs = ['lean']\n\
             lanes = [1]\n{rates}trials = 1\n"
        ));
        let done = sweep.run();
        let row = done.records.first().expect("a row");
        let cpu = &row.cpu;
        let monitor = cpu.monitor_ns.expect("the worker has a monitor");
        assert!(monitor > 0 && monitor < cpu.total_ns, "{cpu:?}");
        assert_eq!(cpu.pacer_ns.is_some(), open, "{cpu:?}");
        let net = cpu.total_ns - monitor - cpu.pacer_ns.unwrap_or(0);
        let per = net as f64 / row.ended_between_edges as f64;
        assert!((cpu.per_request_ns / per - 1.0).abs() < 1e-12, "{cpu:?}");

        let memory = &row.memory;
        let added = memory.added_bytes.expect("read at the plateau");
        assert!((1..300 << 10).contains(&added), "one lane of threads: {memory:?}");
        let text = memory.file_bytes.expect("read at the plateau");
        let plateau = memory.plateau_user_bytes.expect("half-way");
        // The two parts and the baseline are the resident set, but for pages that went meanwhile.
        let whole = memory.baseline_rss_bytes + added + text;
        assert!(whole.abs_diff(plateau) <= 64 << 10, "{memory:?}");
        // The lane's own stack and no more than the process holds, the threads before it among that.
        let added = memory.added_kernel_bytes.expect("read at the plateau");
        let whole = memory.page_table_bytes.zip(memory.kernel_stack_bytes).map(|(a, b)| a + b);
        assert!(added >= 16 << 10 && Some(added) < whole, "{memory:?}");
    }
}
