//! A CPU quota that stops the load generator is seen, named and planned with.

use crate::common;

use std::fs;
use std::path::PathBuf;

use common::{DUEL, Sweep, duel, output, records, text};
use duel::format::Flag;

/// A cgroup with a quota of a fifth of a CPU; gone when dropped.
struct Quota(PathBuf);

impl Quota {
    /// `None` where no such cgroup can be made here.
    fn new() -> Option<Quota> {
        let name = format!("duel-test-{}", std::process::id());
        let v1 = PathBuf::from("/sys/fs/cgroup/cpu").join(&name);
        let v2 = PathBuf::from("/sys/fs/cgroup").join(&name);
        for (dir, file, limit) in
            [(v1, "cpu.cfs_quota_us", "20000"), (v2, "cpu.max", "20000 100000")]
        {
            if fs::create_dir(&dir).is_err() {
                continue;
            }
            let quota = Quota(dir);
            if fs::write(quota.0.join(file), limit).is_ok() {
                return Some(quota);
            }
        }
        eprintln!("skipped: no CPU cgroup can be made here");
        None
    }
}

impl Drop for Quota {
    fn drop(&mut self) {
        // Processes may take a moment to be gone, and under v2 the driver leaves a leaf behind; what
        // cannot be removed limits nobody.
        for _ in 0..200 {
            let below = fs::read_dir(&self.0).into_iter().flatten().flatten();
            for leaf in below.filter(|e| e.path().is_dir()) {
                let _ = fs::remove_dir(leaf.path());
            }
            if fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }
}

#[test]
fn a_quota_that_stops_duel_is_named() {
    let Some(quota) = Quota::new() else { return };
    let sweep = Sweep::new(
        "[target]\nservice_time = '0'\n[plan]\nduration = '700ms'\n[sweep]\nengines = ['tokio']\n\
         lanes = [8]\ntrials = 1\n",
    );
    let within = |arguments: &[&str]| {
        let mut command = std::process::Command::new("sh");
        let enter = format!("echo $$ > {}/cgroup.procs && exec \"$0\" \"$@\"", quota.0.display());
        command.args(["-c", &enter, DUEL]).args(arguments).env("NO_COLOR", "1");
        text(&output(&mut command))
    };
    let (config, dir) = (sweep.config(), sweep.dir());
    let paths = [config.to_str().unwrap(), dir.to_str().unwrap()];
    let (stdout, stderr) = within(&["run", paths[0], "--out", paths[1]]);
    let rows = records(&dir);
    let [row] = &rows[..] else { panic!("{} rows: {stderr}", rows.len()) };
    let stopped = row.cpu.throttled_ns.unwrap_or(0);
    // A closed loop wants a CPU for itself and gets a fifth: it is stopped for most of the time.
    assert!(
        row.cpu.throttled_periods.is_some_and(|n| n > 0) && stopped > 50_000_000,
        "{:?}",
        row.cpu
    );
    assert!(row.flags.contains(&Flag::Throttled), "{:?}: {stderr}", row.flags);
    let gate = row.gates.iter().find(|g| g.name == "throttled_share").expect("the gate");
    assert!(gate.ok == Some(false) && !gate.hard, "{gate:?}");
    assert!(stdout.contains("A CPU quota stopped duel"), "{stdout}{stderr}");
    let plan = fs::read_to_string(dir.join("plan.json")).expect("a plan");
    let plan: serde_json::Value = serde_json::from_str(&plan).expect("JSON");
    assert_eq!(plan["limits"]["cpu_quota"]["quota_us"], 20_000, "{}", plan["limits"]);
    let (limits, _) = within(&["limits"]);
    assert!(
        limits.contains("CPU quota: 0.2 CPUs") && limits.contains("spreads over 1 of"),
        "{limits}"
    );
}

#[test]
fn without_a_quota_nothing_is_stopped() {
    let sweep = Sweep::new("[plan]\nrequests = 50\n[sweep]\nengines = ['tokio']\ntrials = 1\n");
    let done = sweep.run();
    let row = &done.records[0];
    let unseen = row.unavailable.contains_key("cpu.throttled_ns");
    assert_eq!(row.cpu.throttled_ns.is_none(), unseen, "{:?}", row.unavailable);
    let (limits, _) = text(&output(&mut duel(&["limits"])));
    // A machine that has a quota says so.
    assert!(limits.contains("CPU quota") || !row.flags.contains(&Flag::Throttled), "{limits}");
}
