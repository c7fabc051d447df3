//! Signals and kills: rows are kept, books balance, nothing outlives the driver.

use crate::common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Stdio};

use common::{
    Sweep, alive, assert_books, children, duel, eventually, output, records, role, signal, wait,
};
use duel::format::{Flag, Status, TrialRecord};
use duel::plan::Engine;
use duel::side::Phase;
use duel::side::counters::Counters;
use rustix::process::Signal;

/// Three trials of which none ends by itself soon: `service_time` is an hour.
fn endless() -> Sweep {
    Sweep::new(
        "[target]\nservice_time = '1h'\n[plan]\nrequests = 100\ntimeout = '1h'\n[sweep]\n\
         engines = ['threads', 'tokio', 'rayon']\nlanes = [4]\ntrials = 1\n",
    )
}

/// Two trials: whichever comes first is disturbed, the other runs to its end.
fn two() -> Sweep {
    Sweep::new(
        "[target]\nservice_time = '5ms'\n[plan]\nduration = '1500ms'\ntimeout = '1s'\n[sweep]\n\
         engines = ['threads', 'tokio']\nlanes = [4]\ntrials = 1\n",
    )
}

fn spawn(sweep: &Sweep) -> Child {
    sweep.command().stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("duel starts")
}

/// The driver's child of a role, once it is there.
fn child(driver: &Child, wanted: &str) -> u32 {
    let mut found = None;
    eventually(wanted, || {
        found = children(driver.id()).into_iter().find(|p| role(*p) == wanted);
        found.is_some()
    });
    found.expect("found above")
}

/// The driver's worker, once it has sockets beside its pipes: its lanes are connected.
fn busy_worker(driver: &Child) -> u32 {
    let pid = child(driver, "worker");
    eventually("the worker's lanes connect", || sockets(pid) >= 4);
    pid
}

fn sockets(pid: u32) -> usize {
    let Ok(fds) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { return 0 };
    let links = fds.flatten().filter_map(|fd| std::fs::read_link(fd.path()).ok());
    links.filter(|l| l.to_string_lossy().starts_with("socket:")).count()
}

fn family(driver: &Child) -> Vec<u32> {
    children(driver.id())
}

fn assert_gone(pids: &[u32]) {
    for pid in pids {
        eventually(&format!("process {pid} goes with its driver"), || !alive(*pid));
    }
}

#[test]
fn the_first_signal_ends_the_trial_and_keeps_the_rows() {
    for (number, code) in [(Signal::INT, 130), (Signal::TERM, 143), (Signal::HUP, 129)] {
        if number == Signal::HUP && hang_ups_are_ignored() {
            println!("skipped: SIGHUP is ignored here, as under nohup, and so it is by the driver");
            continue;
        }
        let sweep = endless();
        let mut driver = spawn(&sweep);
        busy_worker(&driver);
        let family = family(&driver);
        assert!(family.len() >= 2, "a worker and a target: {family:?}");
        signal(driver.id(), number);
        let status = wait(&mut driver);
        assert_eq!(status.code(), Some(code), "{status}");
        let rows = records(&sweep.dir());
        assert_eq!(rows.len(), 1, "no further trial is begun");
        assert_eq!(rows[0].status, Status::Interrupted, "{:?}", rows[0].error);
        assert_books(&rows[0]);
        assert_eq!(rows[0].ledger.completed, 0, "{:?}", rows[0].ledger);
        assert!(sweep.dir().join("report.md").exists(), "the report is written all the same");
        assert_gone(&family);
    }
}

/// Whether this process, and so whatever it starts, was told to ignore SIGHUP.
fn hang_ups_are_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).expect("a mask");
    u64::from_str_radix(ignored.trim(), 16).expect("hexadecimal") & 1 != 0
}

#[test]
fn an_interrupted_ledger_tells_what_was_in_flight_from_what_was_not_started() {
    let sweep = endless();
    let mut driver = spawn(&sweep);
    let worker = busy_worker(&driver);
    // Requests lie in the target's sockets once all lanes have sent: the target then holds them.
    eventually("the lanes wait for answers", || started(worker) == Some(4));
    signal(driver.id(), Signal::INT);
    wait(&mut driver);
    let rows = records(&sweep.dir());
    let ledger = rows[0].ledger;
    assert_eq!((ledger.planned, ledger.timed_out, ledger.unsent), (100, 4, 96), "{ledger:?}");
}

/// Requests of the window started, from the worker's page of counters.
fn started(worker: u32) -> Option<u64> {
    started_in(worker, Phase::Measured)
}

fn started_in(worker: u32, phase: Phase) -> Option<u64> {
    let fds = std::fs::read_dir(format!("/proc/{worker}/fd")).ok()?;
    let page = fds.flatten().find(|fd| {
        std::fs::read_link(fd.path()).is_ok_and(|l| l.to_string_lossy().contains("memfd:"))
    })?;
    let counters = Counters::open(std::fs::File::open(page.path()).ok()?, 1).ok()?;
    Some(counters.read(phase).started)
}

#[test]
fn a_second_signal_ends_at_once() {
    for (first, second, code) in [(Signal::INT, Signal::INT, 130), (Signal::INT, Signal::TERM, 143)]
    {
        let sweep = endless();
        let mut driver = spawn(&sweep);
        let worker = busy_worker(&driver);
        let family = family(&driver);
        // A worker that is stopped cannot answer the first signal, so that only the second ends.
        signal(worker, Signal::STOP);
        signal(driver.id(), first);
        eventually("the first signal is taken", || !pending(driver.id(), first));
        assert!(driver.try_wait().unwrap().is_none(), "the first signal waits for the worker");
        signal(driver.id(), second);
        let status = wait(&mut driver);
        assert_eq!(status.code(), Some(code), "{status}");
        assert_gone(&family);
    }
}

/// Whether a signal waits to be delivered.
fn pending(pid: u32, signal: Signal) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let bit = 1u64 << (signal.as_raw() - 1);
    let masks =
        status.lines().filter_map(|l| l.strip_prefix("ShdPnd:").or(l.strip_prefix("SigPnd:")));
    masks.filter_map(|m| u64::from_str_radix(m.trim(), 16).ok()).any(|m| m & bit != 0)
}

/// Kills a child of the first trial of [`two`], then resumes.
fn kill(wanted: &str) -> Vec<TrialRecord> {
    let sweep = two();
    let mut driver = spawn(&sweep);
    busy_worker(&driver);
    signal(child(&driver, wanted), Signal::KILL);
    let status = wait(&mut driver);
    assert_eq!(status.code(), Some(1), "a trial failed: {status}");
    let rows = records(&sweep.dir());
    assert_eq!(rows.len(), 2, "the sweep goes on");
    rows.iter().for_each(assert_books);
    assert_eq!(rows[1].status, Status::Ok, "the other trial: {:?}", rows[1].error);
    rows
}

#[test]
fn a_killed_worker_is_a_failed_row_that_says_so() {
    let rows = kill("worker");
    assert_eq!(rows[0].status, Status::Failed);
    let why = rows[0].error.as_deref().unwrap_or_default();
    assert!(why.contains("worker 0") && why.contains("signal: 9"), "{why}");
}

#[test]
fn a_killed_target_is_a_failed_row_that_says_so() {
    let rows = kill("target");
    assert_eq!(rows[0].status, Status::Failed, "numbers of half a trial are not to be believed");
    let why = rows[0].error.as_deref().unwrap_or_default();
    assert!(why.contains("target 0") && why.contains("signal: 9"), "{why}");
    assert_eq!(rows[0].target.received, None, "a dead target reports nothing");
}

#[test]
fn nothing_outlives_a_killed_driver_and_resume_completes() {
    let sweep = two();
    let mut driver = spawn(&sweep);
    // The second trial is under way: the first row is safe.
    eventually("the first row", || records_whole(&sweep).len() == 1);
    busy_worker(&driver);
    let family = family(&driver);
    signal(driver.id(), Signal::KILL);
    wait(&mut driver);
    assert_gone(&family);
    let first = records_whole(&sweep);
    let done = sweep.run_with(&["--resume"]);
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert_eq!(done.records.len(), 2, "{}", done.stderr);
    assert_eq!(done.records[0], first[0], "the first row is kept as it was");
}

/// Whole rows so far, while the driver writes.
fn records_whole(sweep: &Sweep) -> Vec<TrialRecord> {
    let text = std::fs::read_to_string(sweep.dir().join("trials.jsonl")).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |at| &text[..at]);
    whole.lines().map(|l| serde_json::from_str(l).expect("a row")).collect()
}

#[test]
fn an_interrupted_trial_is_run_again_by_resume() {
    let sweep = two();
    let mut driver = spawn(&sweep);
    busy_worker(&driver);
    signal(driver.id(), Signal::INT);
    assert_eq!(wait(&mut driver).code(), Some(130));
    let done = sweep.run_with(&["--resume"]);
    assert_eq!(done.code, 0, "{}", done.stderr);
    let mut ok: Vec<_> =
        done.records.iter().filter(|r| r.status == Status::Ok).map(|r| &r.cell.id).collect();
    ok.sort();
    ok.dedup();
    assert_eq!(ok.len(), 2, "every trial has run to its end: {}", done.stderr);
}

#[test]
fn what_changed_is_refused_by_resume_and_flagged_where_it_is_forced() {
    let sweep = two();
    let mut driver = spawn(&sweep);
    busy_worker(&driver);
    signal(driver.id(), Signal::INT);
    assert_eq!(wait(&mut driver).code(), Some(130));
    let rows = records(&sweep.dir()).len();
    let changed = ["--resume", "--set", "plan.seed=7"];
    let refused = sweep.run_with(&changed);
    assert_eq!(refused.code, 2, "{}", refused.stderr);
    let told = "the config changed since; --force goes on and flags the rows";
    assert!(refused.stderr.contains(told), "{}", refused.stderr);
    assert_eq!(refused.records.len(), rows, "nothing ran");

    // The same plan, and a directory that was begun on another machine.
    let plan = sweep.dir().join("plan.json");
    let text = std::fs::read_to_string(&plan).unwrap();
    std::fs::write(&plan, text.replacen("\"page_bytes\": 4096", "\"page_bytes\": 65536", 1))
        .unwrap();
    let refused = sweep.run_with(&["--resume"]);
    assert_eq!(refused.code, 2, "{}", refused.stderr);
    assert!(refused.stderr.contains("the machine changed since"), "{}", refused.stderr);

    let done = sweep.run_with(&[&changed[..], &["--force"]].concat());
    assert_eq!(done.code, 0, "{}", done.stderr);
    for row in &done.records[rows..] {
        assert!(row.flags.contains(&Flag::ConfigChanged), "{:?}", row.flags);
        assert!(row.flags.contains(&Flag::MachineChanged), "{:?}", row.flags);
    }
    assert!(done.records.len() > rows, "{}", done.stderr);
    assert_eq!(output(duel(&["report"]).arg(sweep.dir())).status.code(), Some(0), "still one run");
}

#[test]
fn an_interrupted_row_has_the_figures_up_to_the_interruption() {
    for (arrivals, rates) in [("closed", ""), ("constant", "rates = [200]\n")] {
        let sweep = Sweep::new(&format!(
            "[target]\nservice_time = '5ms'\n[plan]\narrivals = '{arrivals}'\nrequests = 100000\n\
             [sweep]\nengines = ['sequential', 'threads', 'rayon', 'tokio']\nlanes = [2]\n\
             trials = 1\n{rates}",
        ));
        for engine in common::EveryEngine::engines().into_iter().map(Engine::name) {
            let only = format!("sweep.engines=[\"{engine}\"]");
            let mut command = sweep.command();
            command.args(["--set", &only, "--metrics", ":0"]);
            let mut driver =
                command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("duel starts");
            wait_for_requests(&mut driver);
            signal(driver.id(), Signal::INT);
            assert_eq!(wait(&mut driver).code(), Some(130), "{engine}");
            let rows = records(&sweep.dir());
            std::fs::remove_dir_all(sweep.dir()).expect("it was made");
            let [row] = &rows[..] else { panic!("{engine}: {} rows", rows.len()) };
            assert_books(row);
            assert_eq!(row.status, Status::Interrupted, "{engine}: {:?}", row.error);
            assert!(row.ledger.completed >= 20 && row.ledger.unsent > 0, "{:?}", row.ledger);
            // Two lanes, 5 ms a request: a rate beyond what they can do is none that was measured.
            let most = 2.0 / 5e-3 * 1.05;
            assert!((1.0..most).contains(&row.achieved_per_s), "{engine}: {}", row.achieved_per_s);
            assert!(row.measured_ns > 0, "{engine}");
            let full = 0.0..=1.05;
            assert!(row.occupancy.is_none_or(|o| full.contains(&o)), "{:?}", row.occupancy);
            // A busy machine may fail the gates on pace and CPU; of these nothing is known.
            for name in ["littles_law", "delivered_rate", "target_received"] {
                let gate = row.gates.iter().find(|g| g.name == name).expect("each gate is there");
                assert_eq!(gate.ok, None, "{engine} {arrivals}: {gate:?}");
            }
        }
    }
}

/// Waits until a run that serves metrics has completed some requests.
fn wait_for_requests(driver: &mut Child) {
    let mut said = BufReader::new(driver.stderr.take().expect("piped"));
    let mut line = String::new();
    while !line.starts_with("duel: metrics on http://") {
        line.clear();
        assert!(said.read_line(&mut line).expect("a line") > 0, "it says where it is scraped");
    }
    std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
    let address = line.trim().trim_start_matches("duel: metrics on http://");
    let address = address.trim_end_matches("/metrics").to_string();
    eventually("requests complete", || {
        let mut stream = TcpStream::connect(&address).expect("it listens");
        write!(stream, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").expect("it listens");
        let mut page = String::new();
        stream.read_to_string(&mut page).expect("a page");
        let completed = page.lines().filter(|l| l.contains("outcome=\"completed\""));
        let count = |l: &str| l.rsplit(' ').next().and_then(|n| n.parse::<u64>().ok());
        completed.filter_map(count).sum::<u64>() >= 30
    });
}

/// A worker or a target that did not run for a while measured its own pause.
#[test]
fn whoever_was_stopped_makes_the_trial_invalid() {
    for arrivals in ["closed", "constant"] {
        for role in ["worker", "target"] {
            let rates = if arrivals == "closed" { "" } else { "rates = [100]\n" };
            let sweep = Sweep::new(&format!(
                "[target]\nservice_time = '5ms'\n[plan]\narrivals = '{arrivals}'\n\
                 duration = '1500ms'\n[sweep]\nengines = ['tokio']\nlanes = [4]\ntrials = 1\n{rates}",
            ));
            let mut driver = spawn(&sweep);
            busy_worker(&driver);
            let stopped = child(&driver, role);
            signal(stopped, Signal::STOP);
            eventually("it stops", || state(stopped) == 'T');
            signal(stopped, Signal::CONT);
            assert_eq!(wait(&mut driver).code(), Some(4), "{arrivals}, {role}");
            assert_stopped(&records(&sweep.dir())[0]);
        }
    }
}

/// Below a shell, which tells nobody.
#[test]
fn a_server_of_the_users_own_that_was_stopped_makes_the_trial_invalid() {
    let command = format!("{} target --listen 127.0.0.1:{{port}} --service-time 5ms", common::DUEL);
    let one = |name: &str| format!("[[sweep.target]]\nname = '{name}'\ncommand = '{command}; :'\n");
    let sweep = Sweep::new(&format!(
        "[plan]\nduration = '1500ms'\n[sweep]\nengines = ['tokio']\nlanes = [4]\ntrials = 1\n{}{}",
        one("a"),
        one("b")
    ));
    let mut driver = spawn(&sweep);
    busy_worker(&driver);
    let shell = child(&driver, "-c");
    let [server] = children(shell)[..] else { panic!("one server") };
    signal(server, Signal::STOP);
    // As long as a stop is to be seen for certain.
    std::thread::sleep(std::time::Duration::from_millis(300));
    signal(server, Signal::CONT);
    wait(&mut driver);
    assert_stopped(&records(&sweep.dir())[0]);
}

fn assert_stopped(row: &TrialRecord) {
    let gate = row.gates.iter().find(|g| g.name == "stopped_ns").expect("the gate");
    assert_eq!((gate.ok, row.status), (Some(false), Status::Invalid), "{}: {gate:?}", row.cell.id);
}

/// As by Ctrl-Z and `fg`: workers and targets go on meanwhile. What the driver itself was to read at the
/// window's edges and half-way, it does not make up.
#[test]
fn a_driver_that_was_stopped_makes_up_no_figure() {
    let sweep = Sweep::new(
        "[target]\nservice_time = '5ms'\n[plan]\nwarmup = '1s'\nduration = '500ms'\n[sweep]\n\
         engines = ['tokio']\nlanes = [4]\ntrials = 1\n",
    );
    let mut driver = spawn(&sweep);
    let worker = busy_worker(&driver);
    eventually("the warm-up", || started_in(worker, Phase::Warmup) > Some(0));
    signal(driver.id(), Signal::STOP);
    eventually("it stops", || state(driver.id()) == 'T');
    if started(worker) != Some(0) {
        println!("skipped: the warm-up was over before the driver stopped");
        signal(driver.id(), Signal::CONT);
        wait(&mut driver);
        return;
    }
    eventually("the worker ends", || !alive(worker));
    signal(driver.id(), Signal::CONT);
    wait(&mut driver);
    let rows = records(&sweep.dir());
    let [row] = &rows[..] else { panic!("{} rows", rows.len()) };
    assert_books(row);
    assert_ne!(row.status, Status::Failed, "{:?}", row.error);
    assert!(row.ledger.completed > 0 && row.cpu.per_request_ns > 0.0, "the worker's own figures");
    assert_eq!(row.server, None, "of a part of the window");
    let why = &row.unavailable["server"];
    assert!(why.contains("late at an edge of the window"), "{why}");
    for field in ["memory.kernel_bytes", "cpu.throttled_ns"] {
        assert!(row.unavailable.contains_key(field), "{field}: {:?}", row.unavailable);
    }
    assert_eq!((row.memory.kernel_bytes, row.cpu.throttled_ns), (None, None));
}

/// In set-up and in the warm-up there is nothing yet that a gate could judge.
#[test]
fn a_trial_that_was_interrupted_before_its_window_has_a_row_without_judgement() {
    for (arrivals, rates) in [("closed", ""), ("constant", "rates = [200]\n")] {
        for phase in [None, Some(Phase::Warmup)] {
            let sweep = Sweep::new(&format!(
                "[target]\nservice_time = '5ms'\n[plan]\narrivals = '{arrivals}'\nwarmup = '1h'\n\
                 duration = '1s'\n[sweep]\nengines = ['threads']\nlanes = [4]\ntrials = 1\n{rates}",
            ));
            let mut driver = spawn(&sweep);
            let worker = child(&driver, "worker");
            if let Some(phase) = phase {
                eventually("the phase", || started_in(worker, phase) > Some(0));
            }
            signal(driver.id(), Signal::TERM);
            assert_eq!(wait(&mut driver).code(), Some(143), "{arrivals} {phase:?}");
            let rows = records(&sweep.dir());
            let [row] = &rows[..] else { panic!("{} rows", rows.len()) };
            assert_books(row);
            assert_eq!(row.status, Status::Interrupted, "{arrivals} {phase:?}: {:?}", row.error);
            let judged: Vec<_> = row.gates.iter().filter(|g| g.ok == Some(false)).collect();
            assert!(judged.is_empty(), "{arrivals} {phase:?}: {judged:?}");
            assert_eq!((row.measured_ns, row.achieved_per_s), (0, 0.0), "{arrivals} {phase:?}");
            let why = row.error.as_deref().unwrap_or_default();
            let told = ["interrupted before a request", "stopped during set-up"];
            assert!(told.iter().any(|told| why.contains(told)), "{arrivals} {phase:?}: {why}");
        }
    }
}

fn state(pid: u32) -> char {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    rest.trim().chars().next().unwrap_or('?')
}

/// What is printed for a shell is what goes on, from where the user stood.
#[test]
fn an_interrupted_run_names_the_command_that_goes_on() {
    let sweep = two();
    let mut command = sweep.command();
    // An override with blanks and brackets, which a shell would take apart.
    command.args(["--set", "sweep.lanes=[4, 8]"]).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut driver = command.spawn().expect("duel starts");
    busy_worker(&driver);
    signal(driver.id(), Signal::INT);
    assert_eq!(wait(&mut driver).code(), Some(130));
    let mut said = String::new();
    driver.stderr.take().expect("piped").read_to_string(&mut said).expect("text");
    assert!(said.contains("report.html"), "{said}");
    let lines = || said.lines();
    let told = lines().skip_while(|line| !line.ends_with("go on with")).nth(1).expect("a command");
    let again = output(std::process::Command::new("sh").args(["-c", told]));
    assert_eq!(again.status.code(), Some(0), "{told}: {}", String::from_utf8_lossy(&again.stderr));
    let ended = records(&sweep.dir()).iter().filter(|r| r.status == Status::Ok).count();
    assert_eq!(ended, 4, "two engines at two numbers of lanes");
}

/// Nothing stands below the command that goes on, also where bounds were missed.
#[test]
fn the_command_that_goes_on_is_the_last_line() {
    let sweep = two();
    let mut command = sweep.command();
    command.args(["--set", "slo.p99=1us"]).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut driver = command.spawn().expect("duel starts");
    let rows = sweep.dir().join("trials.jsonl");
    let ended = || std::fs::read_to_string(&rows).is_ok_and(|text| text.ends_with('\n'));
    eventually("the first trial ends", ended);
    signal(driver.id(), Signal::INT);
    assert_eq!(wait(&mut driver).code(), Some(130));
    let mut said = String::new();
    driver.stderr.take().expect("piped").read_to_string(&mut said).expect("text");
    assert!(said.contains("duel: SLO "), "{said}");
    let last = said.lines().last().expect("a command");
    assert!(last.starts_with("    ") && last.contains("--resume"), "{said}");
}
