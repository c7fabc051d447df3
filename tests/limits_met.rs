//! Real cells on both sides of a predicted limit: the descriptors of task engines, under a lowered
//! `RLIMIT_NOFILE`, so that few lanes reach it.

use crate::common;

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use common::{DUEL, Sweep, duel, output, text};
use duel::format::Status;
use duel::limits::LimitsReport;
use duel::plan::Engine;
use serde_json::Value;

/// Descriptors that each process may have here.
const DESCRIPTORS: u64 = 300;

/// What the prediction keeps for everything that is no lane.
const RESERVED: u64 = 64;

/// duel in a shell that lowers the limit, soft and hard, for good.
fn limited(arguments: &[&str]) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("ulimit -n {DESCRIPTORS} && exec \"$0\" \"$@\""), DUEL]);
    command.args(arguments).stdin(Stdio::null()).env("NO_COLOR", "1");
    command
}

/// The lanes that `duel limits` allows an engine before descriptors run out.
fn predicted(engine: Engine) -> u64 {
    let (json, stderr) = text(&output(&mut limited(&["limits", "--json"])));
    let report: LimitsReport =
        serde_json::from_str(&json).unwrap_or_else(|e| panic!("{e}: {stderr}"));
    let own = report.engines.iter().find(|e| e.engine == engine).expect("every engine is there");
    let first = &own.ceilings[0];
    assert!(first.limit.starts_with("RLIMIT_NOFILE"), "the lowered limit binds first: {first:?}");
    first.most_lanes
}

#[test]
fn descriptors_end_where_they_were_predicted_to_end() {
    let most = predicted(Engine::Tokio);
    assert_eq!(most, predicted(Engine::TokioSingle), "a lane is a descriptor under both");
    let sweep = Sweep::new(&format!(
        "[plan]\nrequests = 1000\n[sweep]\nengines = ['tokio', 'tokio-single']\ncodecs = ['lean']\n\
         lanes = [{most}, {}]\ntrials = 1\n[[sweep.expect_failed]]\nengine = 'tokio'\nlanes = {}\n\
         limit = 'RLIMIT_NOFILE'\n[[sweep.expect_failed]]\nengine = 'tokio-single'\nlanes = {}\n\
         limit = 'RLIMIT_NOFILE'\n",
        most + 1,
        most + 1,
        most + 1
    ));
    let (config, dir) = (sweep.config(), sweep.dir());
    let (config, dir) = (config.to_str().unwrap(), dir.to_str().unwrap());
    let out =
        output(&mut limited(&["run", config, "--out", dir, "--set", "sweep.noise_repeats=0"]));
    let (_, stderr) = text(&out);
    let rows = common::records(&sweep.dir());
    assert_eq!(rows.len(), 4, "{stderr}");
    for row in &rows {
        let id = &row.cell.id;
        if u64::from(row.cell.lanes) == most {
            assert_ne!(row.status, Status::Failed, "{id}: {:?}", row.error);
            assert_eq!(row.ledger.completed, 1_000, "{id}: {:?}", row.ledger);
            // Met: the same worker needs as many more lanes as it has descriptors left.
            assert!(row.fds_peak > most && row.fds_peak <= DESCRIPTORS, "{id}: {}", row.fds_peak);
            let met = most + DESCRIPTORS - row.fds_peak;
            println!("{id}: {most} predicted, {met} by the descriptors that were left");
            assert!(met - most <= RESERVED, "{id}: {met} met, {most} predicted");
        } else {
            assert_eq!(row.status, Status::Failed, "{id}");
            let error = row.error.as_deref().unwrap_or_default();
            assert!(error.contains("RLIMIT_NOFILE"), "{id}: {error}");
            let limit = row.limit.as_deref().unwrap_or_default();
            assert!(limit.starts_with("RLIMIT_NOFILE"), "{id}: {limit}");
            assert_eq!(row.ledger.planned, 0, "{id}: nothing is sent beyond the limit");
        }
    }
}

#[test]
fn with_no_descriptor_left_the_kernel_itself_refuses() {
    let mut server = duel(&["target", "--listen", "127.0.0.1:0"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the target starts");
    let address = common::first_address(&mut server);
    // A worker by hand has no driver that asks beforehand.
    let armed = |lanes: u64| -> Value {
        let sweep = Sweep::new(&format!(
            "[target]\nurl = 'http://{address}'\n[plan]\nrequests = 20\n[sweep]\n\
             engines = ['tokio']\ncodecs = ['lean']\nlanes = [{lanes}]\ntrials = 1"
        ));
        let job = text(&output(duel(&["plan", "--job", "0"]).arg(sweep.config()))).0;
        let mut worker = limited(&["worker"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the worker starts");
        let mut stdin = worker.stdin.take().expect("piped");
        writeln!(stdin, "{job}{{\"frame\":\"go\",\"version\":3}}").expect("the worker reads");
        let mut lines = BufReader::new(worker.stdout.take().expect("piped")).lines();
        let frame = lines.nth(1).expect("Ready, then Armed").expect("text");
        drop(stdin);
        common::wait(&mut worker);
        serde_json::from_str(&frame).expect("a frame is JSON")
    };
    let most = predicted(Engine::Tokio);
    let (below, beyond) = (armed(most), armed(DESCRIPTORS));
    let _ = server.kill();
    let _ = server.wait();
    assert_eq!(below["connected"], most, "{below}");
    assert!(below["error"].is_null(), "{below}");
    // Lanes that found no descriptor are not connected; the gate of connected lanes then says so.
    let met = beyond["connected"].as_u64().expect("a count");
    assert!(met >= most && met < DESCRIPTORS, "{most} predicted: {beyond}");
    assert!(met - most <= RESERVED, "{met} met, {most} predicted");
}

/// A server with a thread for each connection ends where its stacks no longer fit; `duel plan` says so,
/// the row that is one connection beyond fails with the limit's name, and the one before runs.
#[test]
fn the_threads_of_a_server_end_where_they_were_predicted_to_end() {
    // Room for some sixty stacks beside glibc's arenas, of which there are eight of 64 MiB per CPU.
    let cpus = duel::limits::Limits::read().cpus;
    let kib = (8 * u64::from(cpus) * 64 + 2_500) << 10;
    let under = |arguments: &[&str]| {
        let script = format!("ulimit -v {kib} && exec \"$0\" \"$@\"");
        let mut command = Command::new("sh");
        command.args(["-c", &script, DUEL]).args(arguments);
        text(&output(command.stdin(Stdio::null()).env("NO_COLOR", "1").env("COLUMNS", "1000")))
    };
    let sweep = Sweep::new(
        "[plan]\nrequests = 600\n[target]\nservice_time = '5ms'\n[sweep]\n\
         server_engines = ['threads', 'tokio']\nlanes = [5000]\ntrials = 1\nnoise_repeats = 0\n\
         [server]\nstack_size = '32MiB'\n",
    );
    let config = sweep.config();
    let config = config.to_str().unwrap();
    let (shown, stderr) = under(&["plan", config]);
    let row = |engine: &str| {
        let at = format!("-on-{engine}-");
        shown.lines().find(|line| line.contains(&at)).unwrap_or_else(|| panic!("{shown}{stderr}"))
    };
    assert!(!row("tokio").contains("of the server"), "tasks have no stacks: {shown}");
    let said = row("threads");
    assert!(said.contains("will fail") && said.contains("RLIMIT_AS of the server"), "{said}");
    let most = said.split("at most ").nth(1).and_then(|rest| rest.split(' ').next());
    let most: u64 = most.expect("a number of lanes").parse().expect("a number");
    assert!((20..200).contains(&most), "{said}");
    let (dir, lanes) = (sweep.dir(), format!("sweep.lanes=[{most}, {}]", most + 1));
    let more = ["--set", &lanes, "--set", "sweep.server_engines=['threads']"];
    let (_, stderr) =
        under(&[&["run", config, "--out", dir.to_str().unwrap()], &more[..]].concat());
    let rows = common::records(&dir);
    assert_eq!(rows.len(), 2, "{stderr}");
    for row in &rows {
        if u64::from(row.cell.lanes) == most {
            assert_ne!(row.status, Status::Failed, "{:?}", row.error);
            assert_eq!(row.ledger.completed, 600, "{:?}", row.ledger);
            let threads = row.server.as_ref().expect("it was read").threads_peak;
            assert!(threads > most, "{threads} threads for {most} connections");
        } else {
            assert_eq!(row.status, Status::Failed, "{row:?}");
            let error = row.error.as_deref().unwrap_or_default();
            assert!(error.contains("RLIMIT_AS of the server"), "{error}");
            assert!(error.contains("server.stack_size"), "the way out: {error}");
            assert_eq!(row.ledger.planned, 0, "nothing is sent beyond the limit");
        }
    }
    let (limits, _) = text(&output(&mut duel(&["limits"])));
    assert!(limits.contains("per process of a server under test"), "{limits}");
}
