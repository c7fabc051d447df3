//! The server as the side under test: duel's own engines, and servers that a command starts.

use crate::common;
use crate::sample;

use std::io::{BufRead, Write};
use std::process::Command;
use std::time::Duration;

use common::{Sweep, alive, assert_books, at_once, eventually};
use duel::format::{Flag, SideUse, Status, TrialRecord};
use duel::limits::Limits;
use duel::plan::server::{ServerEngine, SideUnderTest};
use duel::plan::{Cell, CellKind};
use duel::report::summary::summarise;
use duel::stats::{MARGIN, Verdict};
use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

/// Server engines that can run here, but for those of these names, as a part of `[sweep]`; and how many
/// they are.
fn engines(but: &[&str]) -> (String, usize) {
    let limits = Limits::read();
    let all = ServerEngine::ALL.into_iter().filter(|e| limits.refusal(e.alike()).is_none());
    let names = all.map(ServerEngine::name).filter(|name| !but.contains(name) && *name != "own");
    let names: Vec<&str> = names.collect();
    (format!("server_engines = {names:?}"), names.len())
}

/// The row of each server engine, by name.
fn engine(record: &TrialRecord) -> ServerEngine {
    record.cell.server_engine.expect("a server under test")
}

/// Whether the driver came too late to see what the server used or held, and says so: it may have to
/// wait for a CPU longer than a short window lasts.
fn was_late(record: &TrialRecord) -> bool {
    let whole = record.unavailable.get("server").is_some_and(|why| why.contains(" late "));
    whole || record.unavailable.contains_key("server.memory.added_bytes")
}

/// What the server used; `None` where the driver was late.
fn server_of(record: &TrialRecord) -> Option<&SideUse> {
    let server = record.server.as_ref();
    if server.is_none() {
        assert!(was_late(record), "{}: not measured: {:?}", record.cell.id, record.unavailable);
        println!("UNDECIDED: the driver was late at {}", record.cell.id);
    }
    server
}

#[test]
fn every_server_engine_is_measured_as_the_subject() {
    let (engines, rows) = engines(&[]);
    let sweep = Sweep::new(&format!(
        r#"
        [target]
        service_time = "1ms"
        [plan]
        requests = 400
        [sweep]
        {engines}
        server_codecs = ["lean", "hyper"]
        lanes = [8]
        trials = 1
        [server]
        pool = "requests"
        pool_size = 3
        "#
    ));
    let done = sweep.run();
    assert_eq!(done.records.len(), 2 * rows, "{}", done.stderr);
    for record in &done.records {
        let id = &record.cell.id;
        assert_books(record);
        // A busy machine may make figures doubtful; it loses no request.
        assert_ne!(record.status, Status::Failed, "{id}: {:?}", record.error);
        assert_eq!(record.ledger.completed, 400, "{id}");
        assert_eq!(record.target.received, Some(400), "{id}");
        let Some(server) = server_of(record) else { continue };
        assert!(server.cpu.total_ns > 0 && server.switches.voluntary > 0, "{id}: {server:?}");
        // What it cost is divided by what it did meanwhile, whenever it was read.
        let ended = server.requests.unwrap_or(record.ended_between_edges);
        let cost = server.cpu.per_request_ns * ended as f64;
        assert!((cost - server.cpu.total_ns as f64).abs() < 1e3, "{id}: {server:?}");
        let asked = engine(record) != ServerEngine::Reference;
        assert_eq!(server.requests.is_some(), asked, "{id}: {server:?}");
        assert!((1..=400).contains(&ended) && server.measured_ns > 0, "{id}: {server:?}");
        let cpus = u64::from(server.cpus);
        assert!(server.cpu.total_ns <= server.measured_ns * cpus + 20_000_000, "{id}: {server:?}");
        let subject = record.subject().expect("it was read");
        assert_eq!(&subject, server, "the costs that head the tables are the server's");
        // Little's law from both ends: the client saw what the handlers took, and no less.
        if engine(record) != ServerEngine::Reference {
            let held = record.target.residence_ns_total.expect("a server under test counts it");
            let seen = record.service_ns.as_ref().expect("answers").mean * 400.0;
            assert!(held >= 400 * 1_000_000, "{id}: handlers took {held} ns");
            assert!(seen >= held as f64 * 0.99, "{id}: {seen} ns seen, {held} ns held");
        }
        let threads = server.threads_peak;
        match engine(record) {
            ServerEngine::Threads => assert!(threads >= 8 + 2, "{id}: {threads} threads"),
            ServerEngine::Pool => assert!(threads >= 3 + 2, "{id}: {threads} threads"),
            ServerEngine::TokioSingle => assert_eq!(threads, 2, "{id}"),
            _ => {}
        }
    }
    assert!(done.stdout.starts_with("Under test is the server: "), "{}", done.stdout);
}

#[test]
fn every_server_engine_answers_over_tls_and_holds_idle_connections() {
    let (engines, rows) = engines(&["reference"]);
    let done = Sweep::new(&format!(
        r#"
        [plan]
        requests = 200
        [sweep]
        {engines}
        server_codecs = ["lean", "hyper"]
        lanes = [4]
        idle = true
        trials = 1
        [server]
        tls = true
        pool = "requests"
        pool_size = 3
        "#
    ))
    .run();
    assert_eq!(done.records.len(), 4 * rows, "{}", done.stderr);
    for record in &done.records {
        let id = &record.cell.id;
        assert_books(record);
        assert_ne!(record.status, Status::Failed, "{id}: {:?}", record.error);
        let tls = record.tls.as_deref().unwrap_or_else(|| panic!("{id} is not encrypted"));
        assert!(tls.starts_with("TLSv1_3 "), "{id}: {tls}");
        assert!(!record.flags.contains(&Flag::InsecureTls), "{id}: {:?}", record.flags);
        let expected = if record.cell.is_idle() { 0 } else { 200 };
        assert_eq!(record.target.received, Some(expected), "{id}");
        // Each connection's session alone is above 1 KiB.
        let held = record.server.as_ref().and_then(|server| server.memory.added_bytes);
        assert!(held.map_or(was_late(record), |bytes| bytes > 4 << 10), "{id}: {held:?}");
    }
    assert!(done.stdout.contains("handshake"), "{}", done.stdout);
}

#[test]
fn a_client_under_test_speaks_tls_with_the_server_that_the_config_names() {
    let done = Sweep::new(
        "[plan]\nrequests = 60\n[sweep]\nengines = ['threads', 'rayon', 'tokio']\n\
         codecs = ['hyper', 'lean']\nserver_engines = ['tokio']\nlanes = [3]\nprocesses = [2]\n\
         trials = 1\n[target]\nprocesses = 2\n[server]\ntls = true\n",
    )
    .run();
    assert_eq!(done.records.len(), 6, "{}", done.stderr);
    for record in &done.records {
        // Each of two servers has a certificate of its own.
        assert_eq!(record.ledger.completed, 60, "{}: {:?}", record.cell.id, record.error);
        assert!(record.tls.is_some() && record.cell.stack_size_bytes != Some(64 << 10));
    }
}

#[test]
fn tls_where_there_is_none_is_refused() {
    let refused = |toml: &str, says: &str| {
        let done = Sweep::new(toml).run();
        assert_eq!(done.code, 2, "{toml}: {}", done.stdout);
        assert!(
            done.stderr.contains("server.tls") && done.stderr.contains(says),
            "{}",
            done.stderr
        );
    };
    refused("[server]\ntls = true\n", "sweep.server_engines");
    refused(
        "[sweep]\nserver_engines = ['reference', 'tokio']\n[server]\ntls = true\n",
        "leave it out",
    );
    refused("[server]\ntls = true\ncommand = 'serve {port}'\n", "over plain HTTP");
    let small =
        "[sweep]\nserver_engines = ['threads']\n[server]\ntls = true\nstack_size = '64KiB'\n";
    let done = Sweep::new(small).run();
    assert!(done.code == 2 && done.stderr.contains("at least 96KiB"), "{}", done.stderr);
}

/// The parts of a server's memory by lanes, of connections on which nothing is sent.
#[test]
fn what_idle_connections_cost_a_server_is_split_into_its_parts() {
    let (engines, rows) = engines(&["pool", "rayon", "tokio-single"]);
    let done = Sweep::new(&format!(
        "[plan]\nduration = '1s'\n[sweep]\n{engines}\nlanes = [40, 80, 160]\nidle = true\n\
         memory = 'only'\ntrials = 1\n"
    ))
    .run();
    assert_eq!(done.records.len(), 3 * rows, "{}", done.stderr);
    // A driver that got no CPU for half a second says so.
    let late = done.records.iter().filter(|r| was_late(r)).count();
    for record in &done.records {
        let (id, lanes) = (&record.cell.id, i64::from(record.cell.lanes));
        assert_eq!(record.status, Status::Ok, "{id}: {:?}", record.error);
        assert_eq!(record.target.received, Some(0), "{id}");
        assert_eq!(record.memory.split, None, "{id}: the client is not under test");
        if was_late(record) {
            assert_eq!(record.server.as_ref().and_then(|s| s.memory.split.as_ref()), None, "{id}");
            continue;
        }
        let memory = &record.server.as_ref().unwrap_or_else(|| panic!("{id} has no server")).memory;
        let split = memory.split.as_ref().unwrap_or_else(|| panic!("{id}: {memory:?}"));
        assert_eq!(split.sockets, lanes, "{id}: {split:?}");
        assert!(split.socket_object_bytes >= lanes << 10, "{id}: {split:?}");
        if engine(record) == ServerEngine::Threads {
            assert!(split.threads >= lanes, "{id}: {split:?}");
            assert!(split.kernel_stack_bytes >= lanes * (8 << 10), "{id}: {split:?}");
            assert!(split.stack_bytes >= lanes * (4 << 10), "{id}: {split:?}");
        } else {
            assert!(split.threads < lanes, "{id}: {split:?}");
            assert!(split.kernel_stack_bytes < lanes * (16 << 10), "{id}: {split:?}");
        }
        // A receive waits with the kernel for each connection of a ring, some 400 bytes at least.
        let least = if engine(record) == ServerEngine::Uring { lanes * 400 } else { 0 };
        assert!(
            split.ring_bytes >= least && (least > 0 || split.ring_bytes == 0),
            "{id}: {split:?}"
        );
        // glibc says what it has handed out; another C library may not.
        let named =
            |field: &str| record.unavailable.contains_key(&format!("server.memory.{field}"));
        assert_eq!(memory.heap_bytes.is_none(), named("heap_bytes"), "{id}");
        assert_eq!(split.total_bytes.is_none(), named("split.total_bytes"), "{id}");
        if let Some(total) = split.total_bytes {
            let rest = split.unattributed_bytes.expect("the total less the parts");
            assert_eq!(total, split.parts_bytes() + rest, "{id}");
        }
    }
    if late > 0 {
        println!("UNDECIDED: the driver was late in {late} of {} trials", 3 * rows);
        return;
    }
    for words in ["One more idle connection took", "as threads", "as tokio", "kernel", "stacks"] {
        assert!(done.stdout.contains(words), "{words} is not in {}", done.stdout);
    }
}

#[test]
fn a_server_of_ones_own_is_split_but_for_what_its_allocator_holds() {
    let more = ["--set", "sweep.idle=true", "--set", "sweep.memory=\"only\""];
    let (row, text) = own(&rust_program(""), &more);
    assert_eq!(row.status, Status::Ok, "{text}");
    if was_late(&row) {
        return;
    }
    let memory = row.server.expect("it is measured").memory;
    let split = memory.split.unwrap_or_else(|| panic!("not split: {text}"));
    // The connection that asked whether the server is ready may not have ended at the first look.
    let counts = [split.sockets, split.threads];
    assert!(counts.iter().all(|n| (1..=2).contains(n)), "{split:?}");
    assert_eq!(memory.heap_bytes, None, "{split:?}");
    let why = row.unavailable.get("server.memory.heap_bytes").map_or("", |why| why);
    assert!(why.contains("a server of yours"), "{why}");
}

/// Handlers that call, under every engine that has handlers.
const CALLS: &str = r#"
    [plan]
    requests = 24
    timeout = "20s"
    [sweep]
    ENGINES
    server_codecs = ["lean", "hyper"]
    lanes = [3]
    fan_out = [1, 4]
    trials = 1
    [server]
    pool = "requests"
    pool_size = 3
    upstream = { service_time = "20ms" }
    [[server.step]]
    kind = "call"
    calls = 4
"#;

#[test]
fn calls_one_after_another_add_up_and_calls_at_once_do_not() {
    let (engines, rows) = engines(&["reference"]);
    let done = Sweep::new(&CALLS.replace("ENGINES", &engines)).run();
    assert_eq!(done.records.len(), 4 * rows, "{}", done.stderr);
    for record in &done.records {
        let id = &record.cell.id;
        assert_ne!(record.status, Status::Failed, "{id}: {:?}", record.error);
        assert_eq!(record.ledger.completed, 24, "{id}");
        let upstream = record.upstream.unwrap_or_else(|| panic!("{id} called nobody"));
        assert_eq!(upstream.received, Some(24 * 4), "{id}: every call is one request upstream");
        assert!(upstream.cpu_ns > Some(0), "{id}: {upstream:?}");
        // No clock can make an answer come before the calls that it waits for.
        let fastest = record.service_ns.as_ref().expect("answers").min;
        let each = 20_000_000;
        match record.cell.fan_out {
            Some(1) => assert!(fastest >= 4 * each, "{id}: {fastest} ns for four calls in turn"),
            // A machine that stands still for 60 ms on each of 24 requests would have to be blamed.
            Some(4) => assert!((each..4 * each).contains(&fastest), "{id}: {fastest} ns at once"),
            other => panic!("{id}: {other:?}"),
        }
        let threads = server_of(record).map(|server| server.threads_peak);
        if engine(record) == ServerEngine::TokioSingle {
            assert_eq!(threads.unwrap_or(2), 2, "{id}: calls of a task need no thread");
        }
    }
    assert!(done.stdout.contains("4 calls at once"), "{}", done.stdout);
}

#[test]
fn an_upstream_with_one_server_makes_calls_wait_in_line() {
    let (engines, rows) = engines(&["reference", "pool", "rayon", "tokio-single"]);
    let more = ["--set", "server.upstream.servers=1", "--set", "sweep.fan_out=[4]"];
    let done = Sweep::new(&CALLS.replace("ENGINES", &engines)).run_with(&more);
    assert_eq!(done.records.len(), 2 * rows, "{}", done.stderr);
    for record in &done.records {
        let fastest = record.service_ns.as_ref().expect("answers").min;
        assert!(fastest >= 80_000_000, "{}: four calls of 20 ms, one at a time", record.cell.id);
    }
}

#[test]
fn files_are_read_and_written_by_handlers_wherever_they_are_offloaded_to_and_are_gone_after() {
    let home = tempfile::tempdir().expect("a directory");
    let (engines, rows) = engines(&["reference", "pool", "tokio-single"]);
    let toml = format!(
        r#"
        [plan]
        requests = 60
        [sweep]
        {engines}
        offload = ["inline", "spawn_blocking", "rayon"]
        lanes = [4]
        trials = 1
        [server]
        permits = 2
        [[server.step]]
        kind = "file"
        op = "write"
        bytes = "100KiB"
        files = 3
        dir = {dir:?}
        [[server.step]]
        kind = "compute"
        bytes = "64KiB"
        [[server.step]]
        kind = "file"
        bytes = "4KiB"
        dir = {dir:?}
        "#,
        dir = home.path()
    );
    let done = Sweep::new(&toml).run();
    let tasks = rows - 2;
    assert_eq!(
        done.records.len(),
        2 + 3 * tasks,
        "threads do the work themselves: {}",
        done.stderr
    );
    for record in &done.records {
        let id = &record.cell.id;
        assert_ne!(record.status, Status::Failed, "{id}: {:?}", record.error);
        assert_eq!(record.ledger.completed, 60, "{id}");
    }
    let offloaded: Vec<_> = done.records.iter().filter(|r| r.cell.offload.is_some()).collect();
    let threads = |row: &TrialRecord, offload: &str| {
        let of = |r: &&&TrialRecord| {
            engine(r) == engine(row) && r.cell.offload.is_some_and(|o| o.name() == offload)
        };
        let row = offloaded.iter().find(of).unwrap_or_else(|| panic!("no row {offload}"));
        server_of(row).map(|server| server.threads_peak)
    };
    for row in &offloaded {
        let all = ["inline", "spawn_blocking", "rayon"].map(|offload| threads(row, offload));
        if let [Some(inline), Some(blocking), Some(pool)] = all {
            assert!(inline < blocking, "{}: blocking threads are the server's", row.cell.id);
            assert!(inline < pool, "{}: the pool's threads are the server's", row.cell.id);
        }
    }
    let left = std::fs::read_dir(home.path()).expect("it is there").count();
    assert_eq!(left, 0, "files outlive their trial");
}

#[test]
fn the_side_whose_axis_varies_is_under_test_unless_the_config_says_otherwise() {
    let toml =
        |sweep: &str| format!("[plan]\nrequests = 40\n[sweep]\n{sweep}\nlanes = [2]\ntrials = 1\n");
    let cases = [
        ("server_engines = [\"tokio\"]", 1, SideUnderTest::Server),
        (
            "server_engines = [\"tokio\"]\nengines = [\"threads\", \"tokio\"]",
            2,
            SideUnderTest::Client,
        ),
        (
            "server_engines = [\"tokio\"]\nsubject = \"client\"\nengines = [\"threads\"]",
            1,
            SideUnderTest::Client,
        ),
        ("subject = \"server\"", 1, SideUnderTest::Server),
        ("subject = \"client\"\nengines = [\"threads\"]", 1, SideUnderTest::Client),
    ];
    for (keys, rows, side) in cases {
        let done = Sweep::new(&toml(keys)).run();
        assert_eq!(done.records.len(), rows, "{keys}: {}", done.stderr);
        for record in &done.records {
            assert_ne!(record.status, Status::Failed, "{keys}: {:?}", record.error);
            if server_of(record).is_none() {
                continue;
            }
            let subject = record.subject().expect("it was measured");
            match side {
                SideUnderTest::Server => assert_eq!(Some(subject), record.server, "{keys}"),
                SideUnderTest::Client => assert_eq!(subject, record.client(), "{keys}"),
            }
        }
        // Where there are no two sides to choose from, nobody has to be told.
        let says = match side {
            SideUnderTest::Server => "Under test is the server: ",
            SideUnderTest::Client if keys.contains("server_engines") => {
                "Under test is the client: "
            }
            SideUnderTest::Client => "",
        };
        assert!(done.stdout.starts_with(says), "{keys}: {}", done.stdout);
        let other = ["Under test is the server", "Under test is the client"];
        let wrong = other.into_iter().find(|o| done.stdout.contains(o) && !says.starts_with(o));
        assert_eq!(wrong, None, "{keys}: {}", done.stdout);
    }
}

/// Rows of one trial under a command; nothing that it started may be left.
fn own(command: &str, more: &[&str]) -> (TrialRecord, String) {
    let toml = format!(
        "[plan]\nrequests = 20\ntimeout = \"5s\"\n[sweep]\nlanes = [2]\ntrials = 1\n[server]\ncommand = {command:?}\n"
    );
    let sweep = Sweep::new(&toml);
    let done = sweep.run_with(more);
    let text = format!("{}{}", done.stdout, done.stderr);
    (done.records.into_iter().next().unwrap_or_else(|| panic!("no row: {text}")), text)
}

fn is_installed(program: &str) -> bool {
    let there = Command::new("/bin/sh").args(["-c", &format!("command -v {program}")]).output();
    let there = there.is_ok_and(|found| found.status.success());
    assert!(there || std::env::var_os("DUEL_REQUIRE_REAL").is_none(), "{program} is not installed");
    if !there {
        println!("skipped: {program} is not installed");
    }
    there
}

#[test]
fn pythons_server_is_started_measured_and_stopped_with_what_it_left_behind() {
    if !is_installed("python3") {
        return;
    }
    let home = tempfile::tempdir().expect("a directory");
    let pids = home.path().join("pids");
    let command = format!(
        "cd {home}; sleep 600 & echo $! >> {pids}; echo $$ >> {pids}; exec python3 -m http.server {{port}} --bind 127.0.0.1",
        home = home.path().display(),
        pids = pids.display()
    );
    let (row, text) = own(&command, &[]);
    assert_ne!(row.status, Status::Failed, "{text}");
    assert_eq!(row.ledger.completed, 20, "{text}");
    let Some(server) = server_of(&row) else { return };
    assert_eq!(server.processes, 2, "the server and its child");
    assert!(server.cpu.total_ns > 0 && server.memory.baseline_rss_bytes > 1 << 20, "{server:?}");
    let left: Vec<u32> = std::fs::read_to_string(&pids)
        .expect("the command ran")
        .lines()
        .map(|line| line.parse().expect("a process id"))
        .collect();
    assert_eq!(left.len(), 2, "started once for one trial");
    eventually("nothing is left running", || !left.iter().any(|pid| alive(*pid)));
}

#[test]
fn a_restart_for_each_trial_and_duels_own_engines_beside_it() {
    if !is_installed("python3") {
        return;
    }
    let more = ["--set", "sweep.server_engines=[\"own\", \"tokio\"]", "--set", "sweep.trials=2"];
    let toml = "[plan]\nrequests = 20\n[sweep]\nlanes = [2]\n[server]\n\
                command = \"exec python3 -m http.server $PORT --bind 127.0.0.1\"\n";
    let done = Sweep::new(toml).run_with(&more);
    assert_eq!(done.records.len(), 4, "{}", done.stderr);
    for row in &done.records {
        assert_eq!(row.ledger.completed, 20, "{}: {:?}", row.cell.id, row.error);
        server_of(row);
    }
}

#[test]
fn nginx_is_measured_with_its_workers() {
    if !is_installed("nginx") {
        return;
    }
    let home = tempfile::tempdir().expect("a directory");
    let at = home.path().display();
    let conf = format!(
        "daemon off; error_log stderr; pid {at}/pid; worker_processes 1; events {{}} http {{ \
         access_log off; client_body_temp_path {at}; proxy_temp_path {at}; fastcgi_temp_path {at}; \
         uwsgi_temp_path {at}; scgi_temp_path {at}; \
         server {{ listen 127.0.0.1:PORT; location / {{ return 200 ok; }} }} }}"
    );
    std::fs::write(home.path().join("conf.in"), conf).expect("written");
    let command =
        format!("sed s/PORT/{{port}}/ {at}/conf.in > {at}/conf && exec nginx -p {at} -c {at}/conf");
    let (row, text) = own(&command, &[]);
    assert_eq!(row.ledger.completed, 20, "{text}");
    let Some(server) = server_of(&row) else { return };
    assert!(server.processes >= 2, "the master and its worker: {server:?}");
}

#[test]
fn node_is_measured() {
    if !is_installed("node") {
        return;
    }
    let home = tempfile::tempdir().expect("a directory");
    let script = home.path().join("serve.js");
    std::fs::write(
        &script,
        "require('http').createServer((q, a) => a.end('ok')).listen(process.env.PORT, '127.0.0.1');",
    )
    .expect("written");
    let (row, text) = own(&format!("exec node {} # $PORT", script.display()), &[]);
    assert_ne!(row.status, Status::Failed, "{text}");
    assert_eq!(row.ledger.completed, 20, "{text}");
    let Some(server) = server_of(&row) else { return };
    assert!(server.threads_peak > 1 && server.cpu.total_ns > 0, "{server:?}");
}

/// The Rust program that tests start as a server: this test binary, told what to be.
const SERVE: &str = "servers::serves_as_it_is_told";

#[test]
#[ignore = "the server that other tests start, and no test"]
fn serves_as_it_is_told() {
    let told = |name| std::env::var(name).unwrap_or_default();
    let mut port: u16 = told("PORT").parse().expect("duel says the port");
    if told("MODE") == "other-port" {
        port = 0;
    }
    if let Ok(log) = std::env::var("STARTS") {
        let mut log = std::fs::File::options().append(true).create(true).open(log).expect("opens");
        writeln!(log, "{} {}", told("NAME"), std::process::id()).expect("written");
    }
    let pause = Duration::from_millis(told("PAUSE_MS").parse().unwrap_or(0));
    let listener = std::net::TcpListener::bind(("127.0.0.1", port)).expect("the port is free");
    if told("MODE") == "flood" {
        std::thread::spawn(|| {
            let mut out = std::io::stdout();
            while out.write_all(&[b'x'; 4096]).is_ok() {}
        });
    }
    for client in listener.incoming().flatten() {
        let mut from = std::io::BufReader::new(client.try_clone().expect("a second handle"));
        let mut client = client;
        std::thread::spawn(move || {
            let mut line = String::new();
            while from.read_line(&mut line).is_ok_and(|length| length > 0) {
                if line == "\r\n" {
                    std::thread::sleep(pause);
                    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
                    if client.write_all(answer).is_err() {
                        return;
                    }
                }
                line.clear();
            }
        });
    }
}

/// The command that makes this program serve.
fn rust_program(env: &str) -> String {
    let program = std::env::current_exe().expect("this program");
    format!("{env} exec {} --exact {SERVE} --ignored --nocapture # $PORT", program.display())
}

#[test]
fn a_rust_program_is_measured_and_one_that_floods_its_output_is_too() {
    for mode in ["ok", "flood"] {
        let (row, text) = own(&rust_program(&format!("MODE={mode}")), &[]);
        assert_ne!(row.status, Status::Failed, "{mode}: {text}");
        assert_eq!(row.ledger.completed, 20, "{mode}: {text}");
        let Some(server) = server_of(&row) else { continue };
        // Its main thread, the harness's, and one for each connection.
        assert!(server.threads_peak >= 3, "{mode}: {server:?}");
    }
}

/// Two builds of a service, of which one is slower.
#[test]
fn two_builds_are_started_for_each_of_their_trials_in_the_same_blocks_and_compared() {
    let home = tempfile::tempdir().expect("a directory");
    let starts = home.path().join("starts");
    let target = |name: &str, pause: u32| {
        format!(
            "[[sweep.target]]\nname = {name:?}\nenv = {{ NAME = {name:?}, PAUSE_MS = \"{pause}\" }}\n\
             command = {:?}\n",
            rust_program("")
        )
    };
    let toml = format!(
        "[plan]\nrequests = 40\n[server]\nenv = {{ STARTS = {starts:?} }}\n[sweep]\nlanes = [2]\n\
         trials = 10\n{}{}",
        target("old", 1),
        target("new", 20)
    );
    let done = Sweep::new(&toml).run();
    assert_eq!(done.records.len(), 20, "{}", done.stderr);
    for (two, block) in done.records.chunks(2).zip(0..) {
        let mut names: Vec<_> = two.iter().filter_map(|r| r.cell.target.as_deref()).collect();
        names.sort_unstable();
        assert_eq!(names, ["new", "old"], "each once a block");
        assert!(two.iter().all(|r| r.block == block), "interleaved");
    }
    for row in &done.records {
        assert_ne!(row.status, Status::Failed, "{}: {:?}", row.cell.id, row.error);
        assert_eq!(row.ledger.completed, 40, "{}", row.cell.id);
        // The threads of its connections are gone when the last request is over.
        let named = row.unavailable.contains_key("server.switches.voluntary") || was_late(row);
        let wait = row.server.as_ref().and_then(|server| server.cpu.run_queue_wait_ns);
        assert!(named && wait.is_none(), "{}: {wait:?} ns of some threads", row.cell.id);
        assert_eq!(row.subject(), row.server, "the costs are the service's");
    }
    let log = std::fs::read_to_string(&starts).expect("the servers ran");
    let started = |name: &str| log.lines().filter(|line| line.starts_with(name)).count();
    assert_eq!((started("old"), started("new")), (10, 10), "a fresh one for each trial");
    let pids = log.lines().filter_map(|line| line.split(' ').nth(1)?.parse::<u32>().ok());
    let pids: Vec<u32> = pids.collect();
    eventually("nothing is left running", || !pids.iter().any(|pid| alive(*pid)));
    let whole = |two: &&[TrialRecord]| two.iter().all(|row| row.status == Status::Ok);
    if done.records.chunks(2).filter(whole).count() < 9 {
        println!("this machine was too busy for a verdict: {}", done.stdout);
        return;
    }
    // Ten times as long or more in each block: nothing of this stays open.
    let said = done.stdout.replace('\n', " ");
    assert!(said.contains("new against old: the rate is ") && said.contains("lower"), "{said}");
    assert!(said.contains("CPU per request is"), "{said}");
}

#[test]
fn a_window_of_time_counts_what_the_threads_of_a_server_of_ones_own_did() {
    let toml = format!(
        "[plan]\nduration = \"300ms\"\n[sweep]\nlanes = [2]\ntrials = 1\n[server]\ncommand = {:?}\n\
         env = {{ PAUSE_MS = \"5\" }}\n",
        rust_program("")
    );
    let done = Sweep::new(&toml).run();
    let [row] = &done.records[..] else { panic!("{}", done.stderr) };
    assert_ne!(row.status, Status::Failed, "{:?}", row.error);
    let Some(server) = server_of(row) else { return };
    let each = server.switches.voluntary as f64 / row.ended_between_edges.max(1) as f64;
    // A thread that waits for 5 ms and for its client switches twice for each request. Where the driver
    // came too late to see them, that is said.
    let lost = row.unavailable.contains_key("server.switches.voluntary");
    assert!(lost || each > 0.5, "{each} switches for each of {} requests", row.ended_between_edges);
}

#[test]
fn commands_that_serve_nobody_are_failed_rows_that_say_why() {
    let cases = [
        (
            "echo {port} is taken; exit 3",
            "ended before it answered: exit status: 3; its last line: ",
        ),
        ("kill -9 $$ # {port}", "ended before it answered: signal: 9"),
        ("no-such-program-of-mine {port}", "not found"),
        ("yes flood {port}", "did not answer an HTTP request on 127.0.0.1:"),
        ("sleep 600 & sleep 600 # {port}", "did not answer an HTTP request on 127.0.0.1:"),
        (&rust_program("MODE=other-port"), "it must listen where {port} or $PORT says"),
    ];
    at_once(cases, |(command, says)| {
        let (row, text) = own(command, &[]);
        assert_eq!(row.status, Status::Failed, "{command}: {text}");
        let error = row.error.unwrap_or_default();
        assert!(error.contains(says), "{command}: {error:?} does not say {says:?}");
        assert_eq!(row.ledger.completed, 0, "{command}");
    });
}

/// A daemon leaves its parent, its group and its session, and is ended all the same; so is what a
/// server left behind that never answered.
#[test]
fn what_leaves_its_session_is_not_left_running() {
    if !is_installed("setsid") {
        return;
    }
    let program = rust_program("");
    let cases = [
        ("setsid sleep 600 & echo $! >> PIDS; exit 3 # {port}".to_string(), false),
        (format!("setsid sleep 600 & echo $! >> PIDS; {program}"), true),
        // The parent of the daemon ends while the server runs.
        (format!("(setsid sleep 600 & echo $! >> PIDS); {program}"), true),
    ];
    for (command, serves) in cases {
        let home = tempfile::tempdir().expect("a directory");
        let pids = home.path().join("pids");
        let (row, text) = own(&command.replace("PIDS", &pids.display().to_string()), &[]);
        let completed = if serves { 20 } else { 0 };
        assert_eq!(row.ledger.completed, completed, "{command}: {text}");
        let left = std::fs::read_to_string(&pids).expect("the command ran");
        let left: u32 = left.trim().parse().expect("one process id");
        eventually("nothing is left running", || !alive(left));
    }
}

/// Each start is a row: one that fails in a later block takes nothing from those before it.
#[test]
fn a_command_that_fails_in_its_third_block_is_two_rows_that_count_and_two_that_say_why() {
    let home = tempfile::tempdir().expect("a directory");
    let log = home.path().join("starts");
    std::fs::write(&log, "").expect("written");
    let log = log.display();
    let command = format!(
        "n=$(wc -l < {log}); echo once >> {log}; [ $n -lt 2 ] || {{ echo worn out; exit 9; }}; {}",
        rust_program("")
    );
    let toml = format!(
        "[plan]\nrequests = 20\n[sweep]\nlanes = [2]\ntrials = 4\nnoise_repeats = 0\n[server]\n\
         command = {command:?}\n"
    );
    let done = Sweep::new(&toml).run();
    let rows: Vec<_> = done.records.iter().map(|row| (row.block, row.ledger.completed)).collect();
    assert_eq!(rows, [(0, 20), (1, 20), (2, 0), (3, 0)], "{}", done.stderr);
    for row in &done.records[2..] {
        let error = row.error.as_deref().unwrap_or_default();
        assert_eq!(row.status, Status::Failed, "{error}");
        assert!(error.contains("exit status: 9; its last line: worn out"), "{error}");
    }
}

#[test]
fn a_crash_in_the_middle_is_named() {
    if !is_installed("python3") {
        return;
    }
    let home = tempfile::tempdir().expect("a directory");
    let script = home.path().join("dies.py");
    std::fs::write(
        &script,
        "import http.server, os, sys\nclass H(http.server.BaseHTTPRequestHandler):\n  n = 0\n  \
         protocol_version = 'HTTP/1.1'\n  def do_GET(self):\n    H.n += 1\n    if H.n > 5:\n      \
         print('out of luck', flush=True); os._exit(7)\n    self.send_response(200)\n    \
         self.send_header('content-length', '0'); self.end_headers()\n  def log_message(self, *a): pass\n\
         http.server.ThreadingHTTPServer(('127.0.0.1', int(sys.argv[1])), H).serve_forever()\n",
    )
    .expect("written");
    let command = format!("exec python3 {} {{port}}", script.display());
    let (row, text) = own(&command, &[]);
    assert_eq!(row.status, Status::Failed, "{text}");
    let error = row.error.unwrap_or_default();
    assert!(error.contains("ended during the trial: exit status: 7"), "{error}");
    assert!(error.contains("out of luck"), "{error}");
}

/// More than a server can do is a state of it: goodput and what it left are figures of a row that counts.
#[test]
fn an_overloaded_server_is_measured_and_one_with_too_few_connections_is_not_called_that() {
    let config = |engine: &str, wait: &str| {
        format!(
            "[target]\nservice_time = '{wait}'\n[plan]\narrivals = 'constant'\nduration = '600ms'\n\
             timeout = '600ms'\n[sweep]\nserver_engines = ['{engine}']\nlanes = [8]\nrates = [400]\n\
             trials = 1\n[server]\npool_size = 2\n"
        )
    };
    // Two threads take two of the eight connections and serve 100 requests a second.
    let done = Sweep::new(&config("pool", "20ms")).run();
    let row = &done.records[0];
    assert_books(row);
    let gate = |name: &str| row.gates.iter().find(|g| g.name == name).expect("a gate").ok;
    if gate("worker_cpu_share") == Some(false) {
        println!("UNDECIDED: the client's CPU was full");
        return;
    }
    assert!(row.flags.contains(&Flag::Overloaded), "{row:?}");
    assert_eq!(gate("delivered_rate"), None, "the load was offered: the server left it");
    let ledger = row.ledger;
    assert!(ledger.completed > 0 && ledger.timed_out > 0 && ledger.unsent > 0, "{ledger:?}");
    for words in ["goodput", "timed", "connections waited for the server", "overloaded"] {
        assert!(done.stdout.contains(words), "{words} is not in {}", done.stdout);
    }
    // Eight connections whose requests wait 100 ms carry 80 a second, whatever the server could do.
    let done = Sweep::new(&config("threads", "100ms")).run();
    let row = &done.records[0];
    assert!(!row.flags.contains(&Flag::Overloaded), "{row:?}");
    assert_eq!(row.status, Status::Invalid, "{}", done.stdout);
    assert!(done.stdout.contains("lanes ran out"), "{}", done.stdout);
}

/// A late answer is nobody's: a request that was given up is not completed by what its server sends
/// afterwards, neither for itself nor for the next request of the lane.
#[test]
fn no_answer_counts_after_its_deadline_whatever_the_server() {
    let (engines, rows) = engines(&[]);
    let sweep = Sweep::new(&format!(
        "[target]\nservice_time = '700ms'\n[plan]\nrequests = 12\ntimeout = '60ms'\n[sweep]\n\
         {engines}\nserver_codecs = ['lean', 'hyper']\nlanes = [4]\ntrials = 1\n[server]\n\
         pool = 'requests'\npool_size = 3\n"
    ));
    let done = sweep.run_with(&["--keep-going"]);
    assert_eq!(done.records.len(), 2 * rows, "{}", done.stderr);
    for row in &done.records {
        assert_books(row);
        let ledger = row.ledger;
        assert_eq!((ledger.completed, ledger.timed_out), (0, 12), "{}: {ledger:?}", row.cell.id);
        let shortest = row.service_ns.as_ref().expect("they are given up at a time").min;
        // The histogram's buckets are 0.1 % wide.
        assert!(shortest >= 59_900_000, "{}: given up after {shortest} ns", row.cell.id);
    }
}

/// A trial of one server engine, and of the same once more.
fn the_same_twice() -> [TrialRecord; 2] {
    [CellKind::Timed, CellKind::Copy].map(|kind| {
        let cell = sample::cell(duel::plan::Engine::TokioSingle);
        let cell = Cell {
            id: format!("{}-{kind:?}", cell.id),
            kind,
            server_engine: Some(ServerEngine::Threads),
            server_nth: Some(0),
            ..cell
        };
        let record = sample::record(cell, 0, 1.0);
        let server = Some(record.client());
        TrialRecord { service_ns: None, connect_ns: None, server, ..record }
    })
}

/// A sweep of them: blocks that drift alike, and noise of `own` in each trial.
fn twice_the_same(trials: &[TrialRecord; 2], seed: u64, own: f64) -> Vec<TrialRecord> {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
    let mut normal = || -> f64 {
        let (u, v): (f64, f64) = (1.0 - rng.random::<f64>(), rng.random());
        (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
    };
    let mut records = Vec::new();
    for block in 0..12 {
        let drift = 0.15 * normal();
        for trial in trials {
            let mut record = TrialRecord { block, ..trial.clone() };
            let server = record.server.as_mut().expect("it was read");
            server.cpu.per_request_ns = 10_000.0 * (drift + own * normal()).exp();
            server.memory.added_bytes = Some((1e6 * (own * normal()).exp()) as u64);
            record.achieved_per_s = 12_500.0 * (-drift + own * normal()).exp();
            records.push(record);
        }
    }
    records
}

#[test]
fn two_identical_servers_rarely_differ() {
    let (runs, trials) = (1_000, the_same_twice());
    for own in [0.03, 0.1] {
        let differs = |seed: &u64| {
            let groups = summarise(
                &twice_the_same(&trials, *seed, own),
                duel::plan::Engine::Threads,
                MARGIN,
            );
            let mut rows = groups.iter().flat_map(|g| &g.rows);
            let copy = rows.find(|r| r.cell.is_copy()).expect("the second of the two");
            assert!(copy.ratios.len() >= 2, "CPU and memory at least: {:?}", copy.ratios);
            let apart = |v: Verdict| matches!(v, Verdict::Higher | Verdict::Lower);
            copy.ratios.iter().any(|(_, ratio)| apart(ratio.verdict))
        };
        let false_alarms = (0..runs).filter(differs).count() as u64;
        println!("noise of {own}: {false_alarms} of {runs} runs claim a difference");
        assert!(false_alarms <= runs / 20, "noise of {own}: {false_alarms} of {runs}");
    }
}

#[test]
fn a_server_engine_runs_twice_under_aa() {
    let done = Sweep::new(
        "[target]\nservice_time = '1ms'\n[plan]\nrequests = 60\n[sweep]\n\
         server_engines = ['threads', 'tokio']\nlanes = [4]\ntrials = 6\naa = true\n",
    )
    .run();
    assert_eq!(done.records.len(), 18, "{}", done.stderr);
    let copies: Vec<_> = done.records.iter().filter(|r| r.cell.is_copy()).collect();
    assert_eq!(copies.len(), 6);
    assert!(copies.iter().all(|r| engine(r) == ServerEngine::Threads), "of the baseline alone");
    assert!(done.stdout.contains("threads (aa)"), "{}", done.stdout);
}
