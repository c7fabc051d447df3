//! What a real run leaves in its directory, and what `compare` says of two of them.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use duel::driver::timeline::{FILE, Sample};
use duel::format::{Status, TrialRecord};
use duel::results::store::{RunDir, TRIALS_FILE};

const CONFIG: &str = "name = 'tiny'\n[target]\nservice_time = '1ms'\n[plan]\nduration = '250ms'\n\
    warmup = '50ms'\n[sweep]\nengines = ['tokio']\ncodecs = ['lean']\nlanes = [4]\ntrials = 6\n\
    baseline = 'tokio'\n";

fn duel(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_duel")).args(arguments).output().expect("the binary starts")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

/// Runs the config into `dir`, whatever gates a busy machine trips.
fn run(config: &Path, dir: PathBuf, more: &[&str]) -> PathBuf {
    let mut arguments = vec!["run", text(config), "--out", text(&dir)];
    arguments.extend(more);
    let out = duel(&arguments);
    let error = String::from_utf8_lossy(&out.stderr);
    assert!(matches!(out.status.code(), Some(0 | 4)), "{:?}: {error}", out.status);
    dir
}

/// A copy of a run in which every trial counts, changed by hand: a busy machine marks trials as
/// noisy, and two real runs may differ by chance.
fn copy(from: &Path, to: PathBuf, change: impl Fn(&mut TrialRecord)) -> PathBuf {
    std::fs::create_dir(&to).unwrap();
    std::fs::copy(from.join("plan.json"), to.join("plan.json")).unwrap();
    let mut lines = String::new();
    for mut record in RunDir::open(from).unwrap().records {
        record.status = Status::Ok;
        record.flags.clear();
        change(&mut record);
        lines += &(serde_json::to_string(&record).unwrap() + "\n");
    }
    std::fs::write(to.join(TRIALS_FILE), lines).unwrap();
    to
}

#[track_caller]
fn compared(a: &Path, b: &Path, code: i32, says: &str) {
    let out = duel(&["compare", text(a), text(b)]);
    let all = String::from_utf8_lossy(&out.stdout) + String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(code), "{all}");
    assert!(all.contains(says), "{says:?} is not in: {all}");
}

#[test]
fn runs_are_compared_by_exit_code_and_reason() {
    let temp = tempfile::tempdir().unwrap();
    let at = |name: &str| temp.path().join(name);
    std::fs::write(at("c.toml"), CONFIG).unwrap();
    let a = run(&at("c.toml"), at("a"), &[]);
    let other = run(&at("c.toml"), at("other"), &["--set", "plan.seed=2"]);
    compared(&a, &other, 2, "plan.seed is 1 in A and 2 in B");

    let calm = copy(&a, at("calm"), |_| ());
    compared(&calm, &calm, 0, "0 of ");
    let dear = copy(&a, at("dear"), |r| {
        let cpu = &mut r.cpu;
        let instrument = [&mut cpu.pacer_ns, &mut cpu.monitor_ns].into_iter().flatten();
        instrument.for_each(|ns| *ns *= 3);
        [&mut cpu.total_ns, &mut cpu.user_ns, &mut cpu.system_ns]
            .into_iter()
            .for_each(|ns| *ns *= 3);
        cpu.per_request_ns *= 3.0;
    });
    compared(&calm, &dear, 3, "WORSE");
    compared(&dear, &calm, 0, "better");
    // Few trials decide nothing, which is no green light where one is asked for.
    let code = |more: &[&str]| {
        let mut arguments = vec!["compare", text(&calm), text(&calm)];
        arguments.extend(more);
        duel(&arguments).status.code()
    };
    assert_eq!((code(&[]), code(&["--strict"])), (Some(0), Some(5)));
    assert_eq!((code(&["--json"]), code(&["--markdown"])), (Some(0), Some(0)));
    assert_eq!((code(&["--min-effect", "x"]), code(&["--json", "--markdown"])), (Some(2), Some(2)));

    let torn = copy(&a, at("torn"), |_| ());
    let lines = std::fs::read_to_string(torn.join(TRIALS_FILE)).unwrap();
    std::fs::write(torn.join(TRIALS_FILE), lines.replacen("\"ledger\"", "\"ledgre\"", 1)).unwrap();
    compared(&calm, &torn, 2, "trials.jsonl:1: ");
    compared(&calm, &torn, 2, " figures are worse in B");
    compared(&calm, &at("c.toml"), 2, "not a run directory: it is a file");
    compared(&calm, &at("none"), 2, "none");
}

#[test]
fn a_run_leaves_histograms_and_a_timeline() {
    let temp = tempfile::tempdir().unwrap();
    let config = temp.path().join("c.toml");
    std::fs::write(&config, CONFIG).unwrap();
    let dir = run(
        &config,
        temp.path().join("run"),
        &["--set", "sweep.trials=2", "--set", "sweep.noise_repeats=0"],
    );
    let run = RunDir::open(&dir).unwrap();
    let id = &run.records[0].cell.id;
    assert!(dir.join("hdr").join(format!("{id}.hlog")).exists());

    let lines = std::fs::read_to_string(dir.join(FILE)).unwrap();
    let samples: Vec<Sample> = lines.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    for record in &run.records {
        assert!(record.started_unix_ns.is_some(), "a trial that ran has begun");
        let own: Vec<_> = samples.iter().filter(|s| s.block == record.block).collect();
        assert!(own.len() >= 3, "0, 100 and 200 ms at least: {own:?}");
        assert!(own.iter().all(|s| s.cell == *id && s.worker == 0 && s.threads > Some(0)));
        assert!(own.windows(2).all(|w| w[0].t_ns < w[1].t_ns && w[0].cpu_ns <= w[1].cpu_ns));
        assert!(own.windows(2).all(|w| w[0].completed <= w[1].completed), "{own:?}");
        let last = own.last().unwrap();
        assert!(last.completed <= Some(record.warmup.completed + record.ledger.completed));
        assert!(last.completed > Some(0) && own.iter().all(|s| s.in_flight <= Some(4)), "{own:?}");
    }
}

/// A run keeps what it needs to know a body's file again, and no more of it.
#[test]
fn of_a_body_that_was_read_from_a_file_a_run_keeps_the_digest() {
    let home = tempfile::tempdir().unwrap();
    let body = "a body of many words ".repeat(10_000);
    let config = |name: &str, body: &str| {
        let dir = home.path().join(name);
        std::fs::create_dir(&dir).unwrap();
        std::fs::write(dir.join("body.txt"), body).unwrap();
        let config = dir.join("post.toml");
        let text = "name = 'post'\n[plan]\nrequests = 30\n[[plan.request]]\nmethod = 'POST'\n\
            body_file = 'body.txt'\n[sweep]\nengines = ['threads']\nlanes = [2]\ntrials = 3\n";
        std::fs::write(&config, text).unwrap();
        config
    };
    let (here, there) = (config("here", &body), config("there", &body));
    let first = run(&here, home.path().join("first"), &[]);
    let kept = std::fs::read_to_string(first.join("plan.json")).unwrap();
    assert!(!kept.contains("many words") && kept.contains("body.txt"), "{kept}");
    assert!(kept.contains(&body.len().to_string()), "{kept}");
    // The same file in another place is the same plan, and another one is not.
    let second = run(&there, home.path().join("second"), &[]);
    let out = duel(&["compare", text(&first), text(&second)]);
    let error = String::from_utf8_lossy(&out.stderr);
    assert!(!error.contains("not comparable"), "{error}");
    let goes_on = duel(&["run", text(&here), "--out", text(&first), "--resume"]);
    assert!(matches!(goes_on.status.code(), Some(0 | 4)), "{goes_on:?}");
    std::fs::write(here.with_file_name("body.txt"), "another").unwrap();
    let refused = duel(&["run", text(&here), "--out", text(&first), "--resume"]);
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    let changed = run(&here, home.path().join("changed"), &[]);
    let out = duel(&["compare", text(&first), text(&changed)]);
    let error = String::from_utf8_lossy(&out.stderr);
    assert!(
        error.contains("not comparable") && error.contains("plan.request[0].body is"),
        "{error}"
    );
}
