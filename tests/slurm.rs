//! A real Slurm: two nodes on this machine, a sharded sweep, its merge, and a task that is killed.
//!
//! `scripts/slurm/two-nodes.sh` starts munged, slurmctld and two slurmd, and stops them again. Where
//! they are not installed, or this is not root (slurmd runs jobs as their owner), the test says so
//! and passes; `DUEL_REQUIRE_REAL=1` has it fail.

use crate::common;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::{DUEL, Sweep, eventually, output, records, text};
use duel::format::Status;

const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/slurm");

/// Why there is no Slurm here, if so; a failure where the real programs are required.
fn missing() -> Option<String> {
    let absent = ["munged", "slurmctld", "slurmd", "srun", "sbatch"].into_iter().find(|program| {
        let found = Command::new("which").arg(program).stdout(Stdio::null()).status();
        !found.is_ok_and(|s| s.success())
    });
    let why = match absent {
        Some(program) => format!("there is no {program} (Debian: slurm-wlm, munge)"),
        None if !rustix::process::geteuid().is_root() => "slurmd needs root".into(),
        None => return None,
    };
    let required = std::env::var_os("DUEL_REQUIRE_REAL").is_some_and(|v| v == "1");
    assert!(!required, "DUEL_REQUIRE_REAL=1, but {why}");
    Some(why)
}

/// Two nodes, which end with the test.
struct Slurm {
    dir: PathBuf,
}

impl Slurm {
    fn start(dir: PathBuf) -> Slurm {
        let slurm = Slurm { dir };
        let out = output(&mut slurm.script("start"));
        assert!(out.status.success(), "{:?}", text(&out));
        slurm
    }

    fn script(&self, action: &str) -> Command {
        let mut command = Command::new(format!("{SCRIPTS}/two-nodes.sh"));
        command.arg(action).arg(&self.dir);
        command
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("SLURM_CONF", self.dir.join("slurm.conf"));
        command
    }

    /// Submits the sweep; answers with the job's number.
    fn submit(&self, config: &Path, out: &Path, more: &[&str]) -> String {
        let mut command = self.command("sbatch");
        command.args(["--parsable", "--nodes=2"]).arg(format!("--output={}.log", out.display()));
        command.arg(format!("{SCRIPTS}/sweep.sbatch")).arg(config).args(more);
        let (id, said) = text(&output(command.env("DUEL", DUEL).env("OUT", out)));
        assert!(!id.trim().is_empty(), "{said}");
        id.trim().to_string()
    }

    /// Waits for a job's end; answers with its exit code and what it printed.
    fn wait(&self, job: &str, out: &Path) -> (i32, String) {
        let mut code = None;
        eventually("the job ends", || {
            let shown = text(&output(self.command("scontrol").args(["-o", "show", "job", job]))).0;
            let field = |name: &str| shown.split_whitespace().find_map(|f| f.strip_prefix(name));
            let over = matches!(field("JobState="), Some("COMPLETED" | "FAILED" | "CANCELLED"));
            code = field("ExitCode=").and_then(|c| c.split(':').next()?.parse().ok());
            over
        });
        let log = std::fs::read_to_string(format!("{}.log", out.display())).unwrap_or_default();
        (code.expect("an exit code"), log)
    }
}

impl Drop for Slurm {
    fn drop(&mut self) {
        let _ = self.script("stop").stdin(Stdio::null()).status();
    }
}

const CONFIG: &str = r#"
name = "slurm"
[target]
service_time = "5ms"
[plan]
arrivals = "poisson"
requests = 121
[sweep]
engines = ["threads", "tokio"]
codecs = ["lean"]
lanes = [8]
rates = [400]
trials = 1
noise_repeats = 0
"#;

/// The process of a shard, by the run directory that its command line names.
fn shard_process(out: &Path) -> Option<i32> {
    let wanted = out.display().to_string();
    std::fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let line = std::fs::read(entry.path().join("cmdline")).ok()?;
        let mut arguments = line.split(|b| *b == 0);
        let is_duel = arguments.next()? == DUEL.as_bytes();
        let is_it = arguments.any(|a| a == wanted.as_bytes());
        (is_duel && is_it).then(|| entry.file_name().to_str()?.parse().ok())?
    })
}

#[test]
fn a_sweep_on_two_nodes_is_one_plan_also_when_a_task_is_killed() {
    if let Some(why) = missing() {
        return println!("skipped: {why}");
    }
    let sweep = Sweep::new(CONFIG);
    let home = sweep.home.path();
    let slurm = Slurm::start(home.join("slurm"));

    let out = home.join("whole");
    let job = slurm.submit(&sweep.config(), &out, &[]);
    let (code, log) = slurm.wait(&job, &out);
    // Two shards, their target and perhaps other programs share few CPUs here: gates of pacing and
    // noise may fail, which is exit code 4.
    assert!([0, 4].contains(&code), "{code}: {log}");
    let merged = records(&out.join("merged"));
    let one = sweep.run();
    assert_eq!(merged.len(), one.records.len());
    for row in &merged {
        let alone = one.records.iter().find(|r| r.cell.id == row.cell.id).expect("the same cell");
        assert_eq!(row.ledger, alone.ledger, "{}", row.cell.id);
        assert_eq!(row.bytes.sent, alone.bytes.sent, "{}", row.cell.id);
        assert_eq!(row.target.received, alone.target.received, "{}", row.cell.id);
        let start = row.shard_start.as_ref().expect("a merged row");
        println!("{}: start skew {:?} ns", row.cell.id, start.skew_ns);
        assert!(start.skew_ns.is_some() && start.shards == Some(2), "{start:?}");
    }

    // The second sweep is slower, and loses a task while it runs.
    let out = home.join("killed");
    let more = ["--rendezvous-wait", "3s", "--set", "target.service_time=200ms"];
    let job = slurm.submit(&sweep.config(), &out, &more);
    let (victim, started) = (out.join("shard-1"), out.join("meeting/t0/start.json"));
    eventually("the first trial starts", || started.exists());
    let pid = shard_process(&victim).expect("shard 1 runs");
    let pid = rustix::process::Pid::from_raw(pid).expect("a process id");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("it is alive");
    let (code, log) = slurm.wait(&job, &out);
    assert_eq!(code, 4, "{log}");
    let merged = records(&out.join("merged"));
    assert_eq!(merged.len(), 1, "shard 0 stopped after the trial that lost a shard");
    assert_eq!(merged[0].status, Status::Invalid, "{:?}", merged[0].gates);
    assert_eq!(merged[0].ledger.planned, 121, "never silently smaller");
    let error = merged[0].error.as_deref().unwrap_or_default();
    assert!(error.contains("no row of this trial from shard 1"), "{error}");
}
