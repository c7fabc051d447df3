//! Machines that offer less: each trial runs, and says what is missing and why.

use crate::common;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use common::{DUEL, Sweep, output, records, text};
use duel::format::{Flag, Status, TrialRecord};

const CONFIG: &str = "[target]\nservice_time = '200us'\n[plan]\nrequests = 40\n[sweep]\n\
    engines = ['threads', 'tokio']\ncodecs = ['lean']\nlanes = [2]\ntrials = 1\nsyscalls = true\n\
    noise_repeats = 0\n";

/// A message and `None` where this machine cannot play the restriction; a failure where it must.
fn skip<T>(why: &str) -> Option<T> {
    assert!(std::env::var_os("DUEL_REQUIRE_REAL").is_none(), "{why}");
    println!("skipped: {why}");
    None
}

fn root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Runs the sweep under a wrapper; `$0` is duel and `$@` its arguments where the wrapper is a shell.
fn run(wrap: &[&str]) -> Option<Vec<TrialRecord>> {
    let (rows, stderr) = rows_of(wrap, CONFIG)?;
    assert_eq!(rows.len(), 4, "{wrap:?}: {stderr}");
    for row in &rows {
        assert_ne!(row.status, Status::Failed, "{wrap:?}: {:?}", row.error);
        assert_eq!(row.ledger.completed, 40, "{wrap:?}: {:?}", row.ledger);
    }
    Some(rows)
}

/// The rows of any sweep under a wrapper, and what was said.
fn rows_of(wrap: &[&str], config: &str) -> Option<(Vec<TrialRecord>, String)> {
    if Command::new(wrap[0]).arg("--version").output().is_err() {
        return skip(&format!("{} is not installed", wrap[0]));
    }
    let home = tempfile::tempdir().unwrap();
    // Another user must be able to run it and to write here.
    let all = |path: &Path| std::fs::set_permissions(path, PermissionsExt::from_mode(0o777));
    let binary = home.path().join("duel");
    std::fs::copy(DUEL, &binary).unwrap();
    std::fs::write(home.path().join("x.toml"), config).unwrap();
    all(home.path()).and_then(|()| all(&binary)).unwrap();
    let out = output(
        Command::new(wrap[0])
            .args(&wrap[1..])
            .arg(&binary)
            .args(["run", "x.toml", "--out", "out"])
            .env("NO_COLOR", "1")
            .current_dir(home.path()),
    );
    let (_, stderr) = text(&out);
    if stderr.contains("duel-wrapper:") {
        return skip(&stderr);
    }
    Some((records(&home.path().join("out")), stderr))
}

/// Runs in a mount namespace of its own after `prepare`.
fn in_namespace(prepare: &str) -> Option<Vec<TrialRecord>> {
    if !root() {
        return skip("a mount namespace needs root");
    }
    let script =
        format!("{prepare} || {{ echo duel-wrapper: {prepare} >&2; exit; }}; exec \"$0\" \"$@\"");
    run(&["unshare", "-m", "sh", "-c", &script])
}

/// Why a field is null in every row.
fn missing<'r>(rows: &'r [TrialRecord], field: &str) -> &'r str {
    let why = |r: &'r TrialRecord| r.unavailable.get(field).map(|why| &**why);
    let all: Vec<Option<&str>> = rows.iter().map(why).collect();
    all.iter().for_each(|w| assert!(w.is_some(), "{field} is missed by nobody: {rows:?}"));
    all[0].unwrap_or_default()
}

fn counted(rows: &[TrialRecord]) -> impl Iterator<Item = &TrialRecord> {
    rows.iter().filter(|r| r.cell.counts_events())
}

/// A trial of many lanes under `ulimit -v`, in KiB, and what it says.
fn in_address_space(kib: u64, engines: &str, lanes: u32) -> (Vec<TrialRecord>, String) {
    let sweep = Sweep::new(&format!(
        "[target]\nservice_time = '200us'\n[plan]\nrequests = 2000\n[sweep]\n\
         engines = [{engines}]\nlanes = [{lanes}]\ntrials = 1\n"
    ));
    let limited = format!("ulimit -v {kib}; exec \"$0\" \"$@\"");
    let out = output(
        Command::new("sh")
            .args(["-c", &limited, DUEL, "run"])
            .arg(sweep.config())
            .arg("--out")
            .arg(sweep.dir()),
    );
    (records(&sweep.dir()), text(&out).1)
}

/// glibc would reserve 64 MiB for each of sixteen arenas on two CPUs, and more on more: then no stack
/// finds room, and a thread that cannot be made ends the process.
#[test]
fn an_address_space_with_an_end_holds_as_many_lanes_as_their_stacks_allow() {
    for lanes in [2, 300] {
        let (rows, stderr) = in_address_space(512 << 10, "'threads', 'rayon', 'tokio'", lanes);
        assert_eq!(rows.len(), 3, "{stderr}");
        for row in rows {
            assert_ne!(row.status, Status::Failed, "{}: {:?}", row.cell.id, row.error);
            assert_eq!(row.ledger.completed, 2000, "{}: {:?}", row.cell.id, row.ledger);
            let held = row.allocator.contains("MALLOC_ARENA_MAX=2");
            assert!(held, "the row says with how many arenas it ran: {}", row.allocator);
        }
    }
    let (rows, _) = in_address_space(512 << 10, "'threads']\nstack_sizes = ['1MiB'", 600);
    let error = rows[0].error.as_deref().unwrap_or_default();
    assert!(error.contains("RLIMIT_AS allows 512 MiB"), "{error}");
}

#[test]
fn another_user_has_no_cgroup_no_perf_and_no_tracefs() {
    if !root() {
        // Then every other test runs as another user.
        return;
    }
    let wrap = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    let Some(rows) = run(&wrap) else { return };
    missing(&rows, "memory.kernel_bytes");
    for row in counted(&rows) {
        let why = &row.unavailable["events.syscalls"];
        assert!(why.contains("run as root"), "{why}");
        assert_eq!((row.events.syscalls, row.events.syscalls_per_request), (None, None));
        assert!(row.unavailable.contains_key("events.instructions"), "{:?}", row.unavailable);
    }
    for row in &rows {
        assert!(row.cpu.run_queue_wait_ns.is_some(), "schedstat of one's own is readable");
        assert!(row.events.minor_faults.is_some(), "one's own page faults are known");
    }
}

#[test]
fn without_cgroups() {
    let Some(rows) = in_namespace("mount -t tmpfs none /sys/fs/cgroup") else { return };
    let why = missing(&rows, "memory.kernel_bytes");
    assert!(why.contains("cgroup"), "{why}");
    assert!(rows.iter().all(|r| r.memory.kernel_bytes.is_none()));
}

#[test]
fn without_a_mounted_tracefs_root_brings_its_own() {
    let prepare =
        "mount -t tmpfs none /sys/kernel/tracing && mount -t tmpfs none /sys/kernel/debug";
    let Some(rows) = in_namespace(prepare) else { return };
    for row in counted(&rows) {
        match row.events.syscalls_per_request {
            Some(calls) => assert!(calls >= 1.9, "{}: {calls} a request", row.cell.id),
            None => assert!(row.unavailable.contains_key("events.syscalls"), "{row:?}"),
        }
    }
}

#[test]
fn with_proc_read_only_the_peak_is_called_a_bound() {
    let Some(rows) = in_namespace("mount -o remount,bind,ro /proc") else { return };
    let why = missing(&rows, "memory.peak_rss_bytes");
    assert!(why.contains("clear_refs") && why.contains("bound"), "{why}");
    let flagged = |r: &TrialRecord| r.flags.contains(&Flag::PeakFromStart);
    assert!(rows.iter().all(|r| flagged(r) && r.peak_over_baseline().is_none()), "{rows:?}");
    assert!(rows.iter().all(|r| r.memory.peak_rss_bytes >= r.memory.baseline_rss_bytes));
}

#[test]
fn without_the_files_of_the_machine() {
    if !root() {
        return;
    }
    // Processes only: no /proc/stat, /proc/meminfo, /proc/sys.
    let script = "mount -t proc -o subset=pid proc /proc || { echo duel-wrapper: proc >&2; exit; }; \
                  \"$0\" \"$@\"";
    let Some(rows) = run(&["unshare", "-m", "-p", "-f", "sh", "-c", script]) else { return };
    let why = missing(&rows, "cpu.machine_busy_ns");
    assert!(why.contains("/proc/stat"), "{why}");
}

#[test]
fn without_sys_a_run_goes_on_and_without_proc_the_cause_is_named() {
    let _ = in_namespace("umount -l /sys");
    if !root() {
        return;
    }
    let config = tempfile::tempdir().expect("a directory");
    let file = config.path().join("x.toml");
    std::fs::write(&file, "plan.requests = 1\nsweep.trials = 1\n").expect("the config");
    let out = Command::new("unshare")
        .args([
            "-m",
            "sh",
            "-c",
            "umount -l /proc || exit 77; exec \"$0\" run \"$1\" --out /dev/null/x",
        ])
        .arg(env!("CARGO_BIN_EXE_duel"))
        .arg(&file)
        .output();
    let Ok(out) = out else { return };
    let said = String::from_utf8_lossy(&out.stderr);
    // 77 and 1: no mount namespace can be made here.
    if !matches!(out.status.code(), Some(77 | 1)) {
        assert_eq!(out.status.code(), Some(2), "{said}");
        assert!(said.contains("is /proc mounted?"), "{said}");
    }
}

#[test]
fn a_few_descriptors_are_enough_for_a_few_lanes() {
    let wrap = ["sh", "-c", "ulimit -n 64; exec \"$0\" \"$@\""];
    let Some(rows) = run(&wrap) else { return };
    assert!(rows.iter().all(|r| r.fds_peak < 64), "{rows:?}");
}

/// One descriptor less than a cell needs is a row that says so, and as many as it says are enough.
#[test]
fn descriptors_are_predicted_to_the_last_one() {
    let config = format!(
        "[target]\nservice_time = '200us'\n[plan]\nrequests = 64\n[sweep]\nlanes = [16]\n\
         noise_repeats = 0\n{}",
        common::ALL
    );
    let under = |limit: u64| {
        let limited = format!("ulimit -n {limit}; exec \"$0\" \"$@\"");
        let (rows, stderr) = rows_of(&["sh", "-c", &limited], &config).expect("there is a shell");
        assert_eq!(rows.len(), common::ALL.rows(), "{limit}: {stderr}");
        rows
    };
    // "16 lanes under tokio need 40 descriptors in a worker; RLIMIT_NOFILE allows 20: …"
    let needed = |row: &TrialRecord| {
        let error = row.error.as_deref().unwrap_or_default();
        let told = error
            .split_once(" need ")
            .or_else(|| error.split_once(" needs "))
            .and_then(|(_, rest)| rest.split_once(" descriptors"));
        let number = told.and_then(|(number, _)| number.parse::<u64>().ok());
        number.unwrap_or_else(|| panic!("{}: {error}", row.cell.id))
    };
    let few = under(20);
    let most = few.iter().map(needed).max().expect("rows");
    for row in under(most) {
        assert_ne!(row.status, Status::Failed, "{}: {:?}", row.cell.id, row.error);
        assert_eq!(row.ledger.completed, 64, "{}: {:?}", row.cell.id, row.ledger);
        assert!(row.fds_peak <= most, "{}: {} of {most}", row.cell.id, row.fds_peak);
    }
    for (row, few) in under(most - 1).iter().zip(&few) {
        assert_eq!(row.cell.id, few.cell.id, "the same order");
        if needed(few) < most {
            assert_eq!(row.ledger.completed, 64, "{}: {:?}", row.cell.id, row.error);
            continue;
        }
        let told = format!("RLIMIT_NOFILE allows {}", most - 1);
        let error = row.error.as_deref().unwrap_or_default();
        assert!(row.status == Status::Failed && error.contains(&told), "{}: {error}", row.cell.id);
    }
}

/// What a ring holds counts against it for whoever is not root.
#[test]
fn a_ring_without_locked_memory_runs_or_names_the_limit() {
    if !common::EveryEngine::engines().contains(&duel::plan::Engine::Uring) {
        return;
    }
    let other = "setpriv --reuid=65534 --regid=65534 --clear-groups";
    // The probe, and a client of two lanes, take 136 KiB where they are counted; a server takes more.
    for kib in [0, 64, 150] {
        let limited =
            format!("ulimit -l {kib}; exec {} \"$0\" \"$@\"", if root() { other } else { "" });
        let alone = "['uring']";
        for (engines, of_all) in [(alone, ""), ("['tokio-single']", "server_engines = ['uring']\n")]
        {
            let config = CONFIG.replace("['threads', 'tokio']", engines);
            let config = config.replace("[sweep]\n", &format!("[sweep]\n{of_all}"));
            let Some((rows, stderr)) = rows_of(&["sh", "-c", &limited], &config) else { return };
            assert_eq!(rows.len(), 2, "{stderr}");
            for row in rows {
                let error = row.error.as_deref().unwrap_or_default();
                match row.status {
                    Status::Failed => assert!(error.contains("RLIMIT_MEMLOCK"), "{kib}: {error}"),
                    _ => assert_eq!(row.ledger.completed, 40, "{kib} {of_all}: {error}"),
                }
            }
        }
    }
}

#[test]
fn without_a_place_for_temporary_files() {
    for place in ["/nowhere/at/all", "/proc", ""] {
        let lost = format!("export TMPDIR='{place}' HOME=/nowhere; exec \"$0\" \"$@\"");
        let Some(_) = run(&["sh", "-c", &lost]) else { return };
    }
}

#[test]
fn on_one_cpu() {
    let Some(rows) = run(&["taskset", "-c", &first_cpu().to_string()]) else { return };
    for row in &rows {
        assert!(row.flags.contains(&Flag::SharedCpu), "{:?}", row.flags);
        assert_eq!(row.switches.migrations, Some(0), "one CPU to be on");
    }
}

fn first_cpu() -> usize {
    let set = rustix::thread::sched_getaffinity(None).unwrap();
    (0..1024).find(|cpu| set.is_set(*cpu)).unwrap()
}

#[test]
fn a_full_disk_and_a_read_only_directory_are_known_before_the_first_trial() {
    if !root() {
        return;
    }
    for (prepare, told) in [
        ("mkdir d && mount -t tmpfs -o size=64k none d", "needed for this run"),
        ("mkdir d && mount -t tmpfs -o ro none d", "Read-only file system"),
    ] {
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join("x.toml"), CONFIG).unwrap();
        let script = format!("{prepare} && exec \"$0\" run x.toml --out d/out");
        let unshare = Command::new("unshare").arg("--version").output();
        if unshare.is_err() {
            let _ = skip::<()>("unshare is not installed");
            return;
        }
        let out = output(
            Command::new("unshare")
                .args(["-m", "sh", "-c", &script, DUEL])
                .current_dir(home.path()),
        );
        let (stdout, stderr) = text(&out);
        assert_eq!(out.status.code(), Some(2), "{stdout}{stderr}");
        assert!(stderr.contains(told), "{prepare}: {stderr}");
    }
}

#[test]
fn a_disk_that_fills_up_ends_the_run_and_loses_no_row() {
    if !root() {
        return;
    }
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("x.toml"), CONFIG).unwrap();
    // Filled once the first row stands there; with room again, the run goes on from there.
    let script = "mkdir d && mount -t tmpfs -o size=8m none d || { echo duel-wrapper: mount >&2; exit; }\n\
        run='run x.toml --out d/out --set sweep.trials=30'\n\
        \"$0\" $run & until [ -s d/out/trials.jsonl ]; do kill -0 $! || exit 9; sleep 0.01; done\n\
        cat /dev/zero > d/fill 2>/dev/null; wait $!; echo first ended with $?\n\
        cp d/out/trials.jsonl kept; rm d/fill\n\
        \"$0\" $run --resume >&2; echo second ended with $?; cp d/out/trials.jsonl all";
    let Ok(_) = Command::new("unshare").arg("--version").output() else {
        let _ = skip::<()>("unshare is not installed");
        return;
    };
    let out = output(
        Command::new("unshare").args(["-m", "sh", "-c", script, DUEL]).current_dir(home.path()),
    );
    let (stdout, stderr) = text(&out);
    if stderr.contains("duel-wrapper:") {
        let _ = skip::<()>(&stderr);
        return;
    }
    assert!(stdout.contains("first ended with 1"), "{stdout}{stderr}");
    let told = "trials.jsonl: cannot append a trial: No space left on device (os error 28)\n";
    assert!(stderr.contains(told), "told once: {stderr}");
    assert!(stderr.contains("--resume goes on"), "{stderr}");
    let second = stdout.contains("second ended with 0") || stdout.contains("second ended with 4");
    assert!(second, "{stdout}{stderr}");
    let rows = |name: &str| {
        let text = std::fs::read_to_string(home.path().join(name)).unwrap();
        let lines = text.lines().map(|l| serde_json::from_str::<TrialRecord>(l).expect("a row"));
        lines.map(|r| (r.cell.id, r.block)).collect::<Vec<_>>()
    };
    let (kept, mut all) = (rows("kept"), rows("all"));
    assert!(!kept.is_empty() && all.starts_with(&kept), "rows that stood there stay");
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 2 * 2 * 30, "each trial once: {}", all.len());
}
