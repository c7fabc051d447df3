//! Shared by the integration tests that run the binary: runs bounded in time, read back whole.

#![allow(dead_code, reason = "each test program uses its own part")]

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use duel::format::{Status, TrialRecord};
use duel::limits::Limits;
use duel::plan::{Codec, Engine};
use tempfile::TempDir;

/// The binary under test.
pub(crate) const DUEL: &str = env!("CARGO_BIN_EXE_duel");
/// Long enough for any run of these tests on a busy machine; only a hang meets it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);
/// Every engine and both codecs, as a part of `[sweep]`.
pub(crate) static ALL: EveryEngine = EveryEngine;

pub(crate) struct EveryEngine;

impl EveryEngine {
    /// Engines that can run here: rings are forbidden in many containers.
    pub(crate) fn engines() -> Vec<Engine> {
        let limits = Limits::read();
        Engine::ALL.into_iter().filter(|engine| limits.refusal(*engine).is_none()).collect()
    }

    /// Rows of a sweep over them and nothing else.
    pub(crate) fn rows(&self) -> usize {
        Self::engines().len() * Codec::ALL.len()
    }
}

impl std::fmt::Display for EveryEngine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<_> = Self::engines().into_iter().map(Engine::name).collect();
        write!(f, "\nengines = {names:?}\ncodecs = [\"hyper\", \"lean\"]\ntrials = 1\n")
    }
}

/// `duel` with arguments, away from the caller's terminal settings.
pub(crate) fn duel<S: AsRef<std::ffi::OsStr>>(arguments: &[S]) -> Command {
    let mut command = Command::new(DUEL);
    command.args(arguments).stdin(Stdio::null()).env("NO_COLOR", "1");
    command
}

/// Runs to the end; a command that hangs is killed and fails the test.
pub(crate) fn output(command: &mut Command) -> Output {
    let mut child =
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary starts");
    let stdout = drain(child.stdout.take().expect("piped"));
    let stderr = drain(child.stderr.take().expect("piped"));
    let status = wait(&mut child);
    let text = |t: std::thread::JoinHandle<Vec<u8>>| t.join().expect("the pipe is read");
    Output { status, stdout: text(stdout), stderr: text(stderr) }
}

/// Judges cases side by side, for those that wait more than they compute.
pub(crate) fn at_once<T: Send>(cases: impl IntoIterator<Item = T>, judge: impl Fn(T) + Sync) {
    std::thread::scope(|scope| {
        for case in cases {
            scope.spawn(|| judge(case));
        }
    });
}

fn drain(mut pipe: impl Read + Send + 'static) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = vec![];
        // What was read before an error is what the test has to judge.
        let _ = pipe.read_to_end(&mut bytes);
        bytes
    })
}

/// Waits for a child under [`PATIENCE`].
pub(crate) fn wait(child: &mut Child) -> std::process::ExitStatus {
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("a child of this process") {
            return status;
        }
        if begun.elapsed() > PATIENCE {
            let _ = child.kill();
            let _ = child.wait();
            panic!("process {} hangs", child.id());
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Waits until something holds; `what` names it when it never does.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Standard output and error as text.
pub(crate) fn text(output: &Output) -> (String, String) {
    let string = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
    (string(&output.stdout), string(&output.stderr))
}

/// A config in a directory of its own, and the run directory beside it.
pub(crate) struct Sweep {
    pub(crate) home: TempDir,
}

/// What a finished run left.
pub(crate) struct Done {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) records: Vec<TrialRecord>,
}

impl Sweep {
    pub(crate) fn new(toml: &str) -> Self {
        let home = tempfile::tempdir().expect("a directory for the test");
        std::fs::write(home.path().join("x.toml"), toml).expect("the config is written");
        Sweep { home }
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.home.path().join("x.toml")
    }

    pub(crate) fn dir(&self) -> PathBuf {
        self.home.path().join("out")
    }

    /// `duel run` of this config into [`Self::dir`].
    pub(crate) fn command(&self) -> Command {
        let mut command = duel(&["run"]);
        command.arg(self.config()).arg("--out").arg(self.dir());
        // A busy machine must not decide how many rows a test finds.
        command.args(["--set", "sweep.noise_repeats=0"]);
        command
    }

    pub(crate) fn run(&self) -> Done {
        self.run_with(&[])
    }

    pub(crate) fn run_with(&self, more: &[&str]) -> Done {
        let out = output(self.command().args(more));
        let (stdout, stderr) = text(&out);
        let code = out.status.code().unwrap_or_else(|| panic!("ended by {}: {stderr}", out.status));
        Done { code, stdout, stderr, records: records(&self.dir()) }
    }
}

impl Done {
    /// Every row ran to its end and is believed; otherwise the whole story is printed.
    pub(crate) fn all_ok(&self, rows: usize) -> &[TrialRecord] {
        let bad: Vec<_> = self.records.iter().filter(|r| r.status != Status::Ok).collect();
        for r in &bad {
            let gates: Vec<_> = r.gates.iter().filter(|g| g.ok == Some(false)).collect();
            eprintln!("{}: {:?} {:?} {gates:?}", r.cell.id, r.status, r.error);
        }
        assert!(bad.is_empty(), "rows that are not ok; {}", self.stderr);
        assert_eq!(self.records.len(), rows, "rows; {}", self.stderr);
        assert_eq!(self.code, 0, "exit code; {}", self.stderr);
        &self.records
    }
}

/// The rows of a run directory; none when there is no directory.
pub(crate) fn records(dir: &Path) -> Vec<TrialRecord> {
    let text = std::fs::read_to_string(dir.join("trials.jsonl")).unwrap_or_default();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
        .collect()
}

/// What must hold of every row, whatever happened.
pub(crate) fn assert_books(r: &TrialRecord) {
    let id = &r.cell.id;
    assert!(r.ledger.balances(), "{id}: {:?}", r.ledger);
    assert!(r.warmup.balances(), "{id}: {:?}", r.warmup);
    assert_eq!(r.errors.total(), r.ledger.failed, "{id}: {:?}", r.errors);
}

/// Histograms hold what the ledger counts; not so in an interrupted trial.
pub(crate) fn assert_histograms(r: &TrialRecord) {
    let id = &r.cell.id;
    let count = |d: &Option<duel::format::Distribution>| d.as_ref().map_or(0, |d| d.count);
    let timed = r.ledger.completed + r.ledger.timed_out;
    assert_eq!(count(&r.service_ns), timed, "{id}: service_ns");
    assert_eq!(count(&r.failed_ns), r.ledger.failed, "{id}: failed_ns");
    let open = r.cell.arrivals.is_open();
    assert_eq!(r.response_ns.is_some(), open, "{id}: response_ns is for open loops");
    if open {
        assert_eq!(count(&r.response_ns), timed, "{id}: response_ns");
    }
}

/// Processes whose parent is `pid`, from /proc.
pub(crate) fn children(pid: u32) -> Vec<u32> {
    processes().into_iter().filter(|(_, parent, _)| *parent == pid).map(|(id, _, _)| id).collect()
}

/// Whether a process still runs; a zombie does not.
pub(crate) fn alive(pid: u32) -> bool {
    processes().iter().any(|(id, _, state)| *id == pid && *state != 'Z')
}

/// Process id, parent and state of every process.
fn processes() -> Vec<(u32, u32, char)> {
    let entries = std::fs::read_dir("/proc").expect("/proc is mounted");
    entries
        .flatten()
        .filter_map(|e| {
            let pid: u32 = e.file_name().to_str()?.parse().ok()?;
            let stat = std::fs::read_to_string(e.path().join("stat")).ok()?;
            // The command name may hold anything, brackets and blanks too.
            let mut rest = stat.rsplit_once(')')?.1.split_whitespace();
            Some((pid, rest.nth(1)?.parse().ok()?, stat.rsplit_once(')')?.1.trim().chars().next()?))
        })
        .collect()
}

/// The argument that names a child's role: `worker` or `target`.
pub(crate) fn role(pid: u32) -> String {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let role = line.split(|b| *b == 0).nth(1).unwrap_or_default();
    String::from_utf8_lossy(role).into_owned()
}

/// Sends a signal to one process.
pub(crate) fn signal(pid: u32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(pid as i32).expect("a process id is not zero");
    rustix::process::kill_process(pid, signal).expect("the process is there");
}

/// The address that `duel target` prints when it listens.
pub(crate) fn first_address(server: &mut Child) -> String {
    let (send, receive) = std::sync::mpsc::channel();
    let out = server.stdout.take().expect("piped");
    let err = server.stderr.take().expect("piped");
    for pipe in [Box::new(out) as Box<dyn std::io::Read + Send>, Box::new(err)] {
        let send = send.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                let _ = send.send(line);
            }
        });
    }
    loop {
        let line = receive.recv_timeout(PATIENCE).expect("the target says where it listens");
        let at = line.find("127.0.0.1:").map(|at| &line[at..]);
        if let Some(address) = at {
            let end = address.find(|c: char| !c.is_ascii_digit() && !".:".contains(c));
            return address[..end.unwrap_or(address.len())].trim_end_matches(['.', ':']).into();
        }
    }
}
