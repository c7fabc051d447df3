//! The engine on io_uring where rings are forbidden: a failed row that says why, and nothing else fails.

use crate::common;

use std::io::Error;
use std::os::unix::process::CommandExt;
use std::process::Command;

use common::{Sweep, assert_books, assert_histograms, duel, output, records, text};
use duel::format::{Flag, Status, TrialRecord};
use duel::limits::Limits;
use duel::plan::Engine;
use duel::plan::server::ServerEngine;
use nix::libc;

/// Forbids the system calls of io_uring, 425 to 427, to a command: what containers do.
#[expect(unsafe_code, reason = "a filter is installed between fork and exec")]
fn without_rings(command: &mut Command, errno: i32) -> &mut Command {
    let statement = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    let least = |k, jf| libc::sock_filter {
        jf,
        ..statement(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, k)
    };
    let program = [
        // The number of the system call comes first.
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0),
        least(425, 2),
        libc::sock_filter { jt: 1, ..least(428, 0) },
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | errno as u32),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW),
    ];
    let install = move || {
        let mut program = program;
        let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
        // SAFETY: both calls read nothing but the program, which outlives them.
        let installed = unsafe {
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
                && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &filter) == 0
        };
        if installed { Ok(()) } else { Err(Error::last_os_error()) }
    };
    // SAFETY: the closure makes system calls alone and allocates nothing.
    unsafe { command.pre_exec(install) }
}

const CONFIG: &str = "[plan]\nrequests = 20\n[sweep]\nengines = ['tokio-single', 'uring']\n\
    codecs = ['lean']\nlanes = [2]\ntrials = 1\n";
const EXPECTED: &str = "[[sweep.expect_failed]]\nengine = 'uring'\n";

#[test]
fn where_rings_are_forbidden_the_row_says_so_and_the_others_run() {
    for (errno, words) in [(libc::EPERM, "forbidden to this process"), (libc::ENOSYS, "Linux 6.1")]
    {
        for (expected, code) in [("", 1), (EXPECTED, 0)] {
            let home = tempfile::tempdir().unwrap();
            let (config, out) = (home.path().join("x.toml"), home.path().join("out"));
            std::fs::write(&config, format!("{CONFIG}{expected}")).unwrap();
            let mut run = duel(&["run"]);
            run.arg(&config).arg("--out").arg(&out);
            let done = output(without_rings(&mut run, errno));
            let (_, stderr) = text(&done);
            let rows = records(&out);
            assert_eq!(rows.len(), 2, "{stderr}");
            for row in rows {
                let error = row.error.clone().unwrap_or_default();
                if row.cell.engine == Engine::Uring {
                    assert_eq!(row.status, Status::Failed, "{stderr}");
                    assert!(error.contains(words) && error.contains("io_uring"), "{error}");
                } else {
                    assert_eq!((row.ledger.completed, error.as_str()), (20, ""), "{stderr}");
                }
            }
            // Noise gates may have their say on a busy machine, a failed row must.
            let found = done.status.code();
            assert!(found == Some(code) || (code == 0 && found == Some(4)), "{found:?}: {stderr}");
        }
    }
}

/// The same of a server, which is not even started.
#[test]
fn a_server_on_rings_that_are_forbidden_is_a_failed_row() {
    let home = tempfile::tempdir().unwrap();
    let (config, out) = (home.path().join("x.toml"), home.path().join("out"));
    let servers = "[plan]\nrequests = 20\n[sweep]\nserver_engines = ['tokio-single', 'uring']\n\
                   lanes = [2]\ntrials = 1\n";
    std::fs::write(&config, servers).unwrap();
    let mut run = duel(&["run"]);
    run.arg(&config).arg("--out").arg(&out);
    let done = output(without_rings(&mut run, libc::EPERM));
    let (_, stderr) = text(&done);
    assert_eq!(done.status.code(), Some(1), "{stderr}");
    let rows = records(&out);
    assert_eq!(rows.len(), 2, "{stderr}");
    for row in rows {
        let error = row.error.clone().unwrap_or_default();
        if row.cell.server_engine == Some(ServerEngine::Uring) {
            assert_eq!(row.status, Status::Failed, "{stderr}");
            assert!(error.contains("the server engine `uring` cannot run here"), "{error}");
            assert!(error.contains("forbidden to this process"), "{error}");
        } else {
            assert_eq!((row.ledger.completed, error.as_str()), (20, ""), "{stderr}");
        }
    }
    let (shown, _) = text(&output(duel(&["plan"]).arg(&config)));
    for word in ["server on uring: ", "each takes a thread, 2 descriptors and", "RLIMIT_MEMLOCK"] {
        assert!(shown.contains(word), "{shown}");
    }
    let planned = output(without_rings(duel(&["plan"]).arg(&config), libc::EPERM));
    assert!(text(&planned).0.contains("cannot run here: io_uring"), "{}", text(&planned).0);
}

/// What a server's rings did stands in its side of the record, as a client's does in its own, and tables
/// show those of the side under test.
#[test]
fn the_rings_of_a_server_are_counted_as_those_of_a_client_are() {
    if let Some(why) = Limits::read().refusal(Engine::Uring) {
        return println!("skipped: {why}");
    }
    let sweep = Sweep::new(
        "[target]\nprocesses = 2\n[plan]\nduration = '1s'\n[sweep]\nsubject = 'server'\n\
         engines = ['uring']\ncodecs = ['lean']\nserver_engines = ['tokio', 'threads', 'uring']\n\
         lanes = [4]\nprocesses = [2]\ntrials = 1\nnoise_repeats = 0\n",
    );
    let done = sweep.run();
    assert_eq!(done.records.len(), 3, "{}", done.stderr);
    let csv = std::fs::read_to_string(sweep.dir().join("cells.csv")).expect("cells.csv");
    let mut lines = csv.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let head = lines.next().expect("a head");
    let at = |name: &str| head.iter().position(|column| *column == name).expect("a column");
    let shown: Vec<(&str, Option<f64>)> =
        lines.map(|row| (row[at("id")], row[at("completions_per_turn")].parse().ok())).collect();
    for row in &done.records {
        let id = &row.cell.id;
        assert_books(row);
        // The client has its own: a ring in each of two workers.
        let own = row.ring.expect("a client on rings");
        assert!(own.rings == 2 * u64::from(row.cell.cpus) && own.turns > 0, "{id}: {own:?}");
        assert!(row.runtime.is_none(), "{id}: the client has no runtime");
        let Some(server) = &row.server else {
            assert!(row.unavailable.contains_key("server"), "{id}");
            println!("UNDECIDED: the driver was late at {id}");
            continue;
        };
        let each = u64::from(server.processes * server.cpus);
        let in_csv = shown.iter().find(|(cell, _)| cell == id).expect("a row").1;
        match row.cell.server_engine.expect("a server under test") {
            ServerEngine::Uring => {
                let ring = server.ring.expect("a server on rings");
                assert_eq!(ring.rings, each, "{id}: {ring:?}");
                // Each request is received by a completion of its own.
                assert!(ring.completions >= row.ended_between_edges / 2, "{id}: {ring:?}");
                assert!(ring.turns > 0 && ring.held_ns == 0, "{id}: {ring:?}");
                assert!(server.runtime.is_none(), "{id}: a runtime beside rings runs no task");
                let per_turn = ring.completions as f64 / ring.turns as f64;
                assert!(in_csv.is_some_and(|x| (x - per_turn).abs() < 0.01), "{id}: {in_csv:?}");
            }
            engine => {
                assert!(server.ring.is_none() && in_csv.is_none(), "{id}: {:?}", server.ring);
                let workers = server.runtime.map(|runtime| runtime.workers);
                let tokio = (engine == ServerEngine::Tokio).then_some(each);
                assert_eq!(workers, tokio, "{id}: the runtime is the server's");
            }
        }
    }
}

/// How a ring is asked and how long it waits changes what it costs, and nothing else.
#[test]
fn every_technique_is_a_row_with_its_figures() {
    if let Some(why) = Limits::read().refusal(Engine::Uring) {
        return println!("skipped: {why}");
    }
    let sweep = Sweep::new(
        "[target]\nbody = '5KiB'\n[plan]\nrequests = 3000\n[sweep]\nengines = ['uring']\n\
         codecs = ['lean']\nlanes = [16]\ntrials = 1\nnoise_repeats = 0\n\
         uring_receive = ['one-shot', 'multishot']\nuring_batch = [1, 4, 64]\n\
         uring_linger = '200us'",
    );
    let done = sweep.run();
    // A batch of 64 is one of four under sixteen lanes.
    let rows = done.all_ok(4);
    for row in rows {
        let (id, ring) = (&row.cell.id, row.ring.expect("a ring"));
        assert_books(row);
        assert_histograms(row);
        assert_eq!((row.ledger.completed, ring.rings), (3000, 1), "{id}");
        // Each response is larger than a buffer: a completion, then a plain read.
        assert!(ring.turns > 0 && ring.completions >= 3000, "{id}: {ring:?}");
        let lingers = row.cell.uring_batch == Some(4);
        assert_eq!(ring.held_ns > 0, lingers, "{id}: {ring:?}");
        let gate = row.gates.iter().find(|g| g.name == "linger_share").expect("a gate");
        assert_eq!(gate.value.is_some(), lingers, "{id}: {gate:?}");
        let most = ring.completions * row.cell.uring_linger_ns.unwrap_or(0);
        assert!(ring.held_ns <= most, "{id}: {ring:?}");
        assert!(!row.flags.contains(&Flag::Noisy) || gate_failed(row), "{id}: {:?}", row.gates);
    }
    for word in ["one-shot · batch 1", "multishot · batch 4"] {
        assert!(done.stdout.contains(word), "{word}:\n{}", done.stdout);
    }
}

fn gate_failed(row: &TrialRecord) -> bool {
    let noise = ["foreign_cpu_share", "steal_share"];
    row.gates.iter().any(|g| g.ok == Some(false) && noise.contains(&g.name.as_str()))
}

/// A ring that waits for its batch takes a call for the whole of it, and the kernel's own count of
/// system calls says so. The linger is long, so that no slow machine ends a wait early.
#[test]
fn lingering_takes_a_tenth_of_a_system_call_for_a_request() {
    if let Some(why) = Limits::read().refusal(Engine::Uring) {
        return println!("skipped: {why}");
    }
    let sweep = Sweep::new(
        "[target]\nservice_time = '0ms'\n[plan]\nduration = '1s'\n[sweep]\nengines = ['uring']\n\
         codecs = ['lean']\nlanes = [64]\ntrials = 1\nnoise_repeats = 0\nsyscalls = true\n\
         uring_batch = 16\nuring_linger = '1s'",
    );
    let done = sweep.run();
    let row = done.records.iter().find(|r| r.cell.counts_events()).expect("a row that counts");
    let (id, ring) = (&row.cell.id, row.ring.expect("a ring"));
    assert_eq!(row.status, Status::Ok, "{id}: {:?} {}", row.error, done.stderr);
    let Some(calls) = row.events.syscalls_per_request else {
        return println!("skipped: {:?}", row.unavailable.get("events.syscalls"));
    };
    assert!(calls <= 0.1, "{id}: {calls} calls per request; {ring:?} {:?}", row.ledger);
}

/// Armed receives and the pages of the queues are a part of the split by themselves.
#[test]
fn what_rings_hold_is_a_part_of_the_memory_split() {
    if let Some(why) = Limits::read().refusal(Engine::Uring) {
        return println!("skipped: {why}");
    }
    let split = |receive: &str, lanes: u32| {
        let sweep = Sweep::new(&format!(
            "[target]\nservice_time = '2s'\n[plan]\nduration = '1s'\n[sweep]\n\
             engines = ['uring']\ncodecs = ['lean']\nlanes = [{lanes}]\ntrials = 1\n\
             noise_repeats = 0\nmemory = 'only'\nuring_receive = '{receive}'\n"
        ));
        let done = sweep.run();
        let [row] = &done.records[..] else { panic!("{}", done.stderr) };
        row.memory.split.clone().unwrap_or_else(|| panic!("{:?} {}", row.error, done.stderr))
    };
    for receive in ["multishot", "one-shot"] {
        let (few, many) = (split(receive, 10), split(receive, 410));
        let each = (many.ring_bytes - few.ring_bytes) as f64 / 400.0;
        // An io_kiocb, a message and a wait: 872 bytes where they are as large as on Linux 6.18.
        assert!((500.0..=1024.0).contains(&each), "{receive}: {each} bytes per lane");
        assert!(few.ring_bytes > 4096 * 16, "{receive}: the queues: {few:?}");
        if let Some(total) = many.total_bytes {
            assert_eq!(many.parts_bytes() + many.unattributed_bytes.unwrap_or(0), total);
        }
    }
}

/// Work that the kernel does on threads of its own is that of the process: they are among its tasks,
/// and so in its CPU time.
#[test]
fn kernel_workers_of_a_ring_are_threads_of_the_process() {
    use io_uring::{IoUring, opcode, squeue::Flags};
    let Ok(mut ring) = IoUring::new(8) else { return println!("skipped: no rings here") };
    let workers = || {
        let tasks = std::fs::read_dir("/proc/self/task").expect("tasks").flatten();
        let names = tasks.filter_map(|t| std::fs::read_to_string(t.path().join("comm")).ok());
        names.filter(|name| name.starts_with("iou-wrk")).count()
    };
    let entry = opcode::Nop::new().build().flags(Flags::ASYNC);
    // SAFETY: the entry points to nothing.
    #[expect(unsafe_code, reason = "the crate cannot know what an entry points to")]
    unsafe { ring.submission().push(&entry) }.expect("room");
    ring.submit_and_wait(1).expect("a completion");
    assert!(workers() > 0, "the work was done by nobody that can be seen");
}

/// Two rings share the lanes of a worker and one schedule.
#[test]
fn a_ring_per_cpu_shares_the_schedule() {
    if let Some(why) = Limits::read().refusal(Engine::Uring) {
        return println!("skipped: {why}");
    }
    for plan in ["requests = 600", "requests = 600\narrivals = 'poisson'"] {
        let rates = if plan.contains("arrivals") { "rates = [2000]\n" } else { "" };
        let sweep = Sweep::new(&format!(
            "[target]\nservice_time = '1ms'\n[plan]\nheartbeat = true\n{plan}\n[sweep]\n\
             engines = ['uring']\ncodecs = ['lean']\nlanes = [5]\ncpus = [2]\ntrials = 1\n\
             noise_repeats = 0\n{rates}"
        ));
        let done = sweep.run();
        let [row] = &done.records[..] else { panic!("{}", done.stderr) };
        assert_books(row);
        assert_histograms(row);
        assert_eq!(row.ledger.completed, 600, "{:?}", row.error);
        assert_eq!(row.ring.map(|ring| ring.rings), Some(row.cell.cpus.into()), "{plan}");
        assert!(row.requests_per_lane.min > 0, "a lane without work: {:?}", row.requests_per_lane);
        assert!(row.heartbeat_ns.is_some(), "{plan}");
    }
}

#[test]
fn limits_say_that_the_engine_cannot_run() {
    let words = "uring cannot run here: io_uring is forbidden";
    let (stdout, stderr) = text(&output(without_rings(&mut duel(&["limits"]), libc::EPERM)));
    assert!(stdout.contains(words), "{stdout}{stderr}");
    let json = text(&output(without_rings(&mut duel(&["limits", "--json"]), libc::EPERM))).0;
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert!(
        json["limits"]["ring_refused"].as_str().is_some_and(|w| w.contains("seccomp")),
        "{json}"
    );
}

/// Large answers end a receive, so that it is asked for again between a request and its answer:
/// the request counts as sent all the same, and its connection is kept.
#[test]
fn no_connection_is_given_up_for_a_receive_that_is_asked_for_again() {
    if Limits::read().refusal(Engine::Uring).is_some() {
        return;
    }
    let done = Sweep::new(
        "[target]\nbody = '256KiB'\n[plan]\nrequests = 600\n[[plan.request]]\nweight = 3\n\
         [[plan.request]]\nmethod = 'HEAD'\n[sweep]\nengines = ['uring']\n\
         codecs = ['hyper', 'lean']\nlanes = [4]\ntrials = 1\n",
    )
    .run();
    for row in done.all_ok(2) {
        assert_books(row);
        assert_eq!((row.ledger.completed, row.reconnects), (600, 0), "{}", row.cell.id);
    }
}
