//! Runs of the binary against its own target, and what they left behind.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use duel::format::{Flag, Gate, TrialRecord};
use duel::plan::sweep::Sweep;

/// Runs that judge times must not disturb one another.
static ALONE: Mutex<()> = Mutex::new(());

/// Keeps the other tests of this process waiting.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a run said and wrote.
pub(crate) struct Done {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) records: Vec<TrialRecord>,
    pub(crate) dir: PathBuf,
    /// Removed with everything in it when dropped.
    _temp: tempfile::TempDir,
}

/// The sweep of a config.
#[track_caller]
pub(crate) fn sweep(config: &str) -> Sweep {
    duel::config::parse(config, "live.toml", &[], Path::new("")).expect("a sound config")
}

/// Runs a config to its end.
#[track_caller]
pub(crate) fn run(config: &str) -> Done {
    let temp = tempfile::tempdir().expect("a directory");
    let file = temp.path().join("live.toml");
    std::fs::write(&file, config).expect("the config is written");
    let dir = temp.path().join("run");
    let output = Command::new(env!("CARGO_BIN_EXE_duel"))
        .args(["run".as_ref(), file.as_os_str(), "--out".as_ref(), dir.as_os_str()])
        .output()
        .expect("duel starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    Done {
        code: output.status.code(),
        stdout: text(output.stdout),
        stderr: text(output.stderr),
        records: read(&dir),
        dir,
        _temp: temp,
    }
}

/// The records of a run directory, in the order in which the trials ended.
#[track_caller]
pub(crate) fn read(dir: &Path) -> Vec<TrialRecord> {
    let lines = std::fs::read_to_string(dir.join("trials.jsonl")).unwrap_or_default();
    lines.lines().map(|line| serde_json::from_str(line).expect("a record")).collect()
}

impl Done {
    /// The only record.
    #[track_caller]
    pub(crate) fn only(&self) -> &TrialRecord {
        assert_eq!(self.records.len(), 1, "{}", self.stderr);
        &self.records[0]
    }
}

/// A gate by its name.
#[track_caller]
pub(crate) fn gate<'r>(record: &'r TrialRecord, name: &str) -> &'r Gate {
    record.gates.iter().find(|g| g.name == name).unwrap_or_else(|| panic!("no gate {name}"))
}

/// Names of the hard gates that failed.
pub(crate) fn failed_gates(record: &TrialRecord) -> Vec<&str> {
    let failed = record.gates.iter().filter(|g| g.hard && g.ok == Some(false));
    failed.map(|g| g.name.as_str()).collect()
}

/// Whether the proofs run at their full length and must be decided.
pub(crate) fn full() -> bool {
    std::env::var_os("DUEL_FULL").is_some_and(|v| v == "1")
}

/// What came of an attempt at a proof.
pub(crate) enum Attempt {
    Held(String),
    Failed(String),
    /// Other programs took CPU time meanwhile: nothing can be said.
    Disturbed(String),
}

/// Whether other programs used more than a tenth of a CPU during a trial. The noise gates look at
/// the worker's CPUs only; what disturbs the target bends the times of these proofs as well.
pub(crate) fn disturbed(record: &TrialRecord) -> bool {
    let own = record.cpu.total_ns + record.target.cpu_ns.unwrap_or(0);
    let foreign = record.cpu.machine_busy_ns.unwrap_or(0).saturating_sub(own);
    record.flags.contains(&Flag::Noisy) || foreign > record.measured_ns / 10
}

/// Tries up to three times, since a machine that others use may be disturbed at any instant, and
/// prints what each attempt saw.
///
/// One attempt that held is enough. Where all were disturbed nothing is proved: that fails the
/// full proofs and is printed otherwise, so that a busy machine does not stop other work.
#[track_caller]
pub(crate) fn within_three(what: &str, attempt: impl Fn() -> Attempt) {
    let mut failed = vec![];
    for number in 1..=3 {
        match attempt() {
            Attempt::Held(text) => {
                println!("{what}, attempt {number}: {text}");
                return;
            }
            Attempt::Failed(text) => {
                println!("{what}, attempt {number} failed: {text}");
                failed.push(text);
            }
            Attempt::Disturbed(text) => {
                println!("{what}, attempt {number} was disturbed: {text}");
                if full() {
                    failed.push(text);
                }
            }
        }
    }
    assert!(failed.is_empty(), "{what} never held:\n{}", failed.join("\n"));
    println!("{what}: UNDECIDED, every attempt was disturbed; see scripts/proofs.sh");
}
