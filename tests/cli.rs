//! The command line: bad input is one clear line and exit code 2; limits and objectives are rows
//! and codes.

use crate::common;

use common::{Sweep, duel, output, text};
use duel::format::Status;

/// Runs arguments that must be refused: code 2, nothing on standard output, one line of reason.
fn refused(arguments: &[&str], says: &[&str]) {
    let out = output(&mut duel(arguments));
    let (stdout, stderr) = text(&out);
    assert_eq!(out.status.code(), Some(2), "{arguments:?}: {stderr}");
    assert_eq!(stdout, "", "{arguments:?}");
    assert_eq!(stderr.trim_end().lines().count(), 1, "{arguments:?}: one line: {stderr}");
    for part in says {
        assert!(stderr.contains(part), "{arguments:?}: `{part}` is missing in: {stderr}");
    }
}

#[test]
fn no_shipped_config_and_no_starter_is_warned_about() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = tempfile::tempdir().unwrap();
    let mut configs: Vec<_> =
        std::fs::read_dir(root.join("configs")).unwrap().map(|e| e.unwrap().path()).collect();
    for question in
        ["threads-or-tasks", "my-server", "capacity", "memory", "latency-under-load", "a-b"]
    {
        let starter = folder.path().join(question).with_extension("toml");
        std::fs::write(&starter, output(&mut duel(&["init", question])).stdout).unwrap();
        configs.push(starter);
    }
    for config in configs.iter().filter(|path| !path.ends_with("hosts.toml")) {
        let (stdout, stderr) = text(&output(duel(&["plan"]).arg(config)));
        assert!(stdout.contains("plan hash"), "{}: {stderr}", config.display());
        assert!(!stdout.contains("are too few to confirm"), "{}: {stdout}", config.display());
    }
}

#[test]
fn a_bad_config_is_one_line_that_names_file_line_key_and_what_is_allowed() {
    let cases: &[(&str, &[&str])] = &[
        ("[plan]\nreqests = 5", &["x.toml:2:", "plan.reqests", "did you mean `requests`"]),
        ("[plan]\nduration = '5 parsecs'", &["x.toml:2:", "plan.duration", "500us"]),
        ("[plan]\nduration = 5", &["x.toml:2:", "plan.duration", "500us"]),
        ("[sweep]\nlanes = [0]", &["x.toml:2:", "sweep.lanes"]),
        ("[sweep]\nlanes = [-1]", &["x.toml:2:", "sweep.lanes"]),
        ("[sweep]\nengines = []", &["x.toml:2:", "sweep.engines"]),
        ("[sweep]\nengines = ['go']", &["x.toml:2:", "sweep.engines", "tokio-single"]),
        ("[sweep]\ntrials = 0", &["x.toml:2:", "sweep.trials"]),
        ("[plan]\nrequests = 0", &["x.toml:2:", "plan.requests"]),
        ("[plan]\ntimeout = '0s'", &["x.toml:2:", "plan.timeout"]),
        ("[plan]\narrivals = 'constant'", &["x.toml", "rates"]),
        ("[plan]\narrivals = 'constant'\n[sweep]\nrates = [0]", &["x.toml:4:", "sweep.rates"]),
        ("[[plan.request]]\nbody_file = 'none.bin'", &["x.toml:2:", "body_file", "none.bin"]),
        (
            "[[plan.request]]\nheaders = { a = '$DUEL_TEST_UNSET' }",
            &["x.toml:2:", "DUEL_TEST_UNSET"],
        ),
        ("[target]\nbody = '1 furlong'", &["x.toml:2:", "target.body", "KiB"]),
        ("[target", &["x.toml:1"]),
        ("[target]\nurl = 'http://192.0.2.1/'", &["192.0.2.1", "loopback", "--allow"]),
        ("[machine]\nworker_cpus = []", &["x.toml:2:", "worker_cpus"]),
    ];
    for (toml, says) in cases {
        let sweep = Sweep::new(toml);
        let config = sweep.config();
        let dir = sweep.dir();
        let (config, out) = (config.to_str().unwrap(), dir.to_str().unwrap());
        refused(&["run", config, "--out", out], says);
        assert!(!dir.exists(), "{toml}: nothing is made for a config that is refused");
        refused(&["plan", "--job", "0", config], says);
    }
}

#[test]
fn flags_of_other_tools_work_or_name_duels_own() {
    let url = "127.0.0.1:9/";
    for (flags, says) in [
        (&["-t", "4"][..], "--cpus"),
        (&["-t4"], "--engines"),
        (&["--threads", "4"], "-c"),
        (&["-q", "100"], "duel: -q: in duel, -q is -R (--rate)"),
        (&["-q100"], "-R"),
        (&["-T", "application/json"], "-H 'Content-Type: …'"),
        (&["-s", "x.lua"], "[plan.values]"),
        (&["-w", "5"], "--warmup"),
        (&["--http2"], "HTTP/1.1"),
        (&["-a", "u:p"], "-H 'Authorization"),
    ] {
        refused(&[&["try", url], flags].concat(), &[says]);
    }
    for (arguments, says) in [
        (&["run", "a.toml", "--budget", "5s"][..], "--set 'sweep.budget="),
        (&["plan", "a.toml", "--expect-status=404"], "--set 'plan.expect_status="),
        (&["127.0.0.1:8080/"], "duel try 127.0.0.1:8080/"),
        (&["https://host/"], "duel try https://host/"),
        (&["configs/first.toml"], "duel run configs/first.toml"),
    ] {
        refused(arguments, &[says]);
    }
    let unknown = text(&output(&mut duel(&["try", url, "--frobnicate"]))).1;
    assert!(unknown.contains("--frobnicate") && !unknown.contains("as a value"), "{unknown}");
    // They reach the request, or the plan: what is wrong with their values is told of duel's key.
    refused(&["try", url, "-X", "GET IT"], &["-m: `GET IT` is not a method"]);
    refused(&["try", url, "-D", "/no/such/file"], &["-D: `/no/such/file` cannot be read"]);
    refused(&["try", url, "-d9999999"], &["-d must be above 0 and at most 720h"]);
    refused(&["try", url, "--latency", "-d", "0"], &["-d must be above 0"]);
    refused(&["try", url, "--connections", "0"], &["-c must be at least 1"]);
}

#[test]
fn bad_arguments_are_one_line() {
    let url = "http://127.0.0.1:9/";
    refused(&["try", "http://192.0.2.1/", "-n", "1"], &["192.0.2.1", "--allow 192.0.2.1:80"]);
    refused(&["try", url, "--engines", "go"], &["duel: --engines: unknown value `go`", "threads"]);
    refused(&["try", url, "--engines", ""], &["engines"]);
    refused(&["try", url, "-c", "0"], &["duel: -c must be at least 1, not `0`"]);
    refused(&["try", url, "-c", "many"], &["many"]);
    refused(&["try", url, "-c", "-1"], &["duel: -c: `-1` is not a count"]);
    refused(&["try", url, "-n", "0"], &["duel: -n must be from 1 to"]);
    refused(&["try", url, "-R", "0"], &["duel: -R: `0` is not a rate"]);
    refused(
        &["try", url, "-d", "5 parsecs"],
        &["duel: -d: `5 parsecs` is not a duration", "500us"],
    );
    refused(&["try", url, "--seed", "-1"], &["--seed"]);
    refused(&["try", url, "--stack-size", "1"], &["duel: --stack-size must be from 16KiB"]);
    refused(&["target", "--error-rate", "2"], &["duel: --error-rate must be from 0 to 1"]);
    refused(&["target", "--servers=-1"], &["duel: --servers: `-1` is not a count"]);
    refused(&["try", url, "--timeout", "never"], &["timeout"]);
    refused(&["try", url, "-b", "@/no/such/file"], &["/no/such/file"]);
    refused(&["try", url, "-H", "no colon"], &["Name: value"]);
    refused(&["try", url, "-m", "GET IT"], &["duel: -m: `GET IT` is not a method"]);
    refused(&["try", "ftp://127.0.0.1/"], &["http://"]);
    refused(&["try", "http://no-such-host.invalid/"], &["no-such-host.invalid"]);
    refused(&["run", "/no/such.toml"], &["/no/such.toml"]);
    refused(&["report", "/no/such/dir"], &["/no/such/dir"]);
    refused(&["report", env!("CARGO_MANIFEST_DIR")], &["plan.json"]);
    refused(&["limits", "--lanes", "some"], &["some"]);
}

/// Every flag that takes a quantity, in a command that is right but for its value.
const QUANTITIES: &[(&[&str], &[&str])] = &[
    (
        &["try", "http://127.0.0.1:9/", "--budget", "1m", "-R", "1"],
        &[
            "-c",
            "-n",
            "-d",
            "-R",
            "--timeout",
            "--warmup",
            "--cpus",
            "--processes",
            "--stack-size",
            "--trials",
            "--precision",
            "--budget",
            "--seed",
            "--metrics",
        ],
    ),
    (
        &["run", "CONFIG", "--shard", "0/2", "--rendezvous", "meet"],
        &["--rendezvous-wait", "--start-lead"],
    ),
    (&["run", "CONFIG"], &["--shard", "--start-at", "--metrics"]),
    (&["run", "CONFIG", "--shard", "0/2", "--start-at", "9999999999"], &["--start-every"]),
    (&["plan", "CONFIG"], &["--job", "--allow"]),
    (&["verify", "CONFIG"], &["-n"]),
    (
        &["capacity", "RUN", "--rate", "1k"],
        &[
            "--rate",
            "--p99",
            "--availability",
            "--latency",
            "--memory",
            "--cpus",
            "--cpu-target",
            "--memory-target",
            "--months",
            "--spare",
        ],
    ),
    (
        &["report", "RUN"],
        &["--rate", "--p99", "--availability", "--latency", "--months", "--spare", "--growth"],
    ),
    (&["compare", "RUN", "RUN"], &["--min-effect"]),
    (&["target"], &["--listen", "--service-time", "--servers", "--body", "--error-rate", "--seed"]),
    (&["limits"], &["--lanes"]),
];

#[test]
fn a_quantity_that_is_none_is_refused_in_the_same_words_by_every_flag() {
    let sweep = Sweep::new("[plan]\nrequests = 5\n[sweep]\nengines = ['threads']\ntrials = 1");
    let config = sweep.config();
    let run = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/run-format-2");
    for (command, flags) in QUANTITIES {
        let command = command.iter().map(|word| match *word {
            "CONFIG" => config.to_str().unwrap(),
            "RUN" => run,
            word => word,
        });
        let command: Vec<&str> = command.collect();
        for flag in *flags {
            // A flag that is given twice is another mistake.
            let at = command.iter().position(|word| word == flag).unwrap_or(command.len());
            let rest = command.get(at + 2..).unwrap_or_default();
            for value in ["-1s", "-x", "NaN", "", "1e400", "0x10", "five"] {
                let all = [&command[..at], &[flag, value], rest].concat();
                refused(&all, &["duel: ", flag.trim_start_matches('-'), value]);
            }
        }
    }
}

#[test]
fn a_value_may_begin_with_a_hyphen_and_a_forgotten_path_is_no_flag() {
    let run = |arguments: &[&str]| text(&output(&mut duel(arguments)));
    let url = "http://127.0.0.1:9/";
    refused(&["try", url, "-H", "-x: y", "-n", "0"], &["-n must be from 1"]);
    refused(&["try", url, "-b", "-5", "-n", "0"], &["-n must be from 1"]);
    let (_, stderr) = run(&["try", url, "--out", "--json"]);
    assert!(stderr.contains("a value is required for '--out <DIR>'"), "{stderr}");
}

#[test]
fn a_device_without_an_end_is_no_config_and_no_list_of_hosts() {
    let run = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/run-format-2");
    refused(&["plan", "/dev/zero"], &["/dev/zero", "more than 1 MiB"]);
    refused(
        &["capacity", run, "--rate", "1k", "--hosts", "/dev/zero"],
        &["--hosts: /dev/zero: it holds more than 1 MiB"],
    );
}

#[test]
fn man_pages_that_cannot_be_written_are_no_wrong_usage() {
    let out = output(&mut duel(&["man", "--out", "/dev/null/pages"]));
    assert_eq!(out.status.code(), Some(1), "{}", text(&out).1);
    assert!(text(&out).1.contains("/dev/null/pages: cannot write man pages"), "{}", text(&out).1);
}

/// What a plan says of the longest sweep that a config may ask for is no overflow.
#[test]
fn the_longest_plan_has_a_length() {
    let sweep = Sweep::new(
        "[plan]\nduration = '720h'\nwarmup = '720h'\ntimeout = '720h'\n[sweep]\n\
         engines = ['threads']\nlanes = [1]\ntrials = 1000000\n",
    );
    for more in ["name=x", "plan.requests=1000G"] {
        let command = ["plan", sweep.config().to_str().unwrap(), "--set", more].map(String::from);
        let out = output(&mut duel(&command));
        assert_eq!(out.status.code(), Some(0), "{}", text(&out).1);
        let stdout = text(&out).0;
        let length = stdout.lines().find(|line| line.contains("at most")).expect("a length");
        // A million trials of sixty days.
        let hours = length.split("at most ").nth(1).and_then(|rest| rest.split_once(" h"));
        let hours: f64 = hours.expect("hours").0.parse().expect("a number");
        assert!(hours >= 1.44e9, "{length}");
    }
}

#[test]
fn addresses_are_allowed_where_there_is_a_choice_and_none_is_dropped() {
    let sweep = Sweep::new("[plan]\nrequests = 5\n[sweep]\nengines = ['threads']\ntrials = 1");
    let config = sweep.config();
    let config = config.to_str().unwrap();
    let url = "target.url=127.0.0.1:9";
    for command in ["run", "plan"] {
        refused(&[command, config, "--allow", "10.0.0.1:80"], &["--allow needs `target.url`"]);
        refused(
            &[command, config, "--set", url, "--allow", "x"],
            &["--allow: `x` is not an address"],
        );
    }
    refused(&["try", "127.0.0.1:9", "--allow", "10.0.0.1:80 rate=-1"], &["--allow: ", "rate=-1"]);
}

/// What is refused is called as the user wrote it: a flag of `try` by the flag, a key by the key, one of
/// several targets by its name; whether it is refused when it is read or when the run begins.
#[test]
fn errors_call_things_as_the_user_wrote_them() {
    let url = "http://127.0.0.1:9";
    let far = "http://192.0.2.1:80";
    for (flags, says) in [
        (&["--precision", "5%", "--trials", "3"][..], "--precision: not beside `--trials`"),
        (&["--budget", "1s", "--trials", "3"], "--budget: not beside `--trials`"),
        (&["--precision", "0"], "--precision must be from 0.1 % to 100 %"),
        (&["-k", "--ca-file", "x"], "--ca-file: needs an https:// url"),
        (&["--set", "target.body=1KiB"], "remove it or `URL`"),
        (&["--set", "plan.requests=5", "-d", "3s"], "give `plan.requests` or `-d`, not both"),
        (
            &["--set", "sweep.trials=5", "--precision", "2%"],
            "--precision: not beside `sweep.trials`",
        ),
        (&["--set", "sweep.trials=-5"], "--set sweep.trials: `-5`"),
        (&["-c", "0"], "-c must be at least 1"),
        (&["--engines", "go"], "--engines: unknown value `go`"),
    ] {
        let arguments = [&["try", url], flags].concat();
        refused(&arguments, &[says]);
    }
    let https = ["try", "https://127.0.0.1:9", "-k", "--ca-file", "x"];
    refused(&https, &["--ca-file: `-k` accepts any certificate"]);
    refused(&["try", far], &["URL: 192.0.2.1:80 is 192.0.2.1, which", "--allow 192.0.2.1:80"]);
    refused(&["try", "no.such.host.invalid:80"], &["URL: `no.such.host.invalid:80` does not"]);
    let two = |a: &str, b: &str| {
        let target = |name, url| format!("[[sweep.target]]\nname = '{name}'\nurl = '{url}'\n");
        Sweep::new(&(target("old", a) + &target("new", b)))
    };
    let name = "sweep.target `new`: ";
    for (sweep, says) in [
        (Sweep::new(&format!("[target]\nurl = '{far}'\n")), "target.url: 192.0.2.1:80 is"),
        (two(url, far), &format!("{name}192.0.2.1:80 is")),
        (two(url, "no.such.host.invalid"), &format!("{name}`no.such.host.invalid:80` does not")),
        (two(url, "ftp://x"), "x.toml:6: sweep.target[1].url: `ftp://x` is not a url"),
    ] {
        refused(&["run", sweep.config().to_str().unwrap()], &[says]);
        let out = output(&mut duel(&["plan".as_ref(), sweep.config().as_os_str()]));
        let (stdout, stderr) = text(&out);
        let told = (stdout + &stderr).split_whitespace().collect::<Vec<_>>().join(" ");
        let says = says.split_whitespace().next().unwrap();
        assert!(told.contains(says), "{says}: {told}");
    }
    // Of a url that all share no target is named as the one that is wrong.
    let shared = format!("target.url = '{url}'\n[[sweep.target]]\nname = 'a'\n[[sweep.target]]\n");
    let sweep = Sweep::new(&(shared + "name = 'b'\nbody = '1KiB'\n"));
    refused(&["run", sweep.config().to_str().unwrap()], &["remove it or `target.url`"]);
}

#[test]
fn the_shell_is_told_of_wrong_usage() {
    for arguments in [&["run"][..], &["report"], &["dance"], &["try", "x", "-n", "1", "-d", "1s"]] {
        let out = output(&mut duel(arguments));
        assert_eq!(out.status.code(), Some(2), "{arguments:?}");
        assert!(text(&out).1.contains("Usage: duel"), "{arguments:?}: {}", text(&out).1);
    }
    let version = output(&mut duel(&["--version"]));
    assert!(text(&version).0.starts_with(concat!("duel ", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn an_overridden_key_is_checked_like_the_file() {
    let sweep = Sweep::new("name = 'x'");
    let config = sweep.config();
    let config = config.to_str().unwrap();
    let out = sweep.dir();
    let out = out.to_str().unwrap();
    refused(&["run", config, "--out", out, "--set", "plan.requests=none"], &["plan.requests"]);
    refused(&["run", config, "--out", out, "--set", "plan"], &["--set"]);
    refused(&["run", config, "--out", out, "--set", "a.b=1"], &["a"]);
}

#[test]
fn a_run_directory_is_never_written_over() {
    let sweep = Sweep::new("[plan]\nrequests = 1\n[sweep]\nengines = ['threads']\ntrials = 1");
    std::fs::create_dir(sweep.dir()).unwrap();
    std::fs::write(sweep.dir().join("mine"), "precious").unwrap();
    let config = sweep.config();
    let (config, dir) = (config.to_str().unwrap(), sweep.dir());
    refused(&["run", config, "--out", dir.to_str().unwrap()], &["out"]);
    let kept: Vec<_> = std::fs::read_dir(&dir).unwrap().collect();
    assert_eq!(kept.len(), 1, "nothing was added: {kept:?}");
    refused(&["run", config, "--out", dir.to_str().unwrap(), "--resume"], &["plan.json"]);
    let file = sweep.config();
    refused(&["run", config, "--out", file.to_str().unwrap()], &["x.toml"]);
}

const TOO_MANY: &str = "[plan]\nrequests = 10\n[sweep]\nengines = ['threads', 'tokio-single']\n\
                        lanes = [1, 50000]\ntrials = 1\n";

#[test]
fn a_cell_beyond_a_limit_is_a_failed_row_and_the_sweep_goes_on() {
    let done = Sweep::new(TOO_MANY).run();
    assert_eq!(done.code, 1, "{}", done.stderr);
    assert_eq!(done.records.len(), 4, "{}", done.stderr);
    for r in &done.records {
        if r.cell.lanes == 1 {
            assert_eq!(r.status, Status::Ok, "{}: {:?}", r.cell.id, r.error);
            continue;
        }
        assert_eq!(r.status, Status::Failed, "{}", r.cell.id);
        let why = r.error.as_deref().unwrap_or_default();
        assert!(why.contains("50") && why.contains("limit") || why.contains("max"), "{why}");
        assert!(done.stdout.contains("failed"), "{}", done.stdout);
    }
}

#[test]
fn a_failure_that_was_expected_is_none() {
    let expected = "[[sweep.expect_failed]]\nengine = 'threads'\nlanes = 50000\n\
                    [[sweep.expect_failed]]\nengine = 'tokio-single'\nlanes = 50000\n";
    let done = Sweep::new(&format!("{TOO_MANY}{expected}")).run();
    assert_eq!(done.code, 0, "{}", done.stderr);
    let other = "[[sweep.expect_failed]]\nengine = 'threads'\nlimit = 'no such limit'\n";
    let done = Sweep::new(&format!("{TOO_MANY}{other}")).run();
    assert_eq!(done.code, 1, "another limit is not the expected one; {}", done.stderr);
}

#[test]
fn a_missed_objective_is_code_3() {
    let config = |slo: &str| {
        format!(
            "[target]\nservice_time = '5ms'\n[plan]\nrequests = 20\n[sweep]\n\
             engines = ['threads']\nlanes = [2]\ntrials = 1\n[slo]\n{slo}\n"
        )
    };
    let sweep = Sweep::new(&config("p50 = '1ms'"));
    let done = sweep.run();
    assert_eq!(done.code, 3, "{}", done.stderr);
    assert!(done.stderr.contains("SLO missed"), "{}", done.stderr);
    // Where no request was within, no noise of the machine is why.
    let report = std::fs::read_to_string(sweep.dir().join("report.md")).expect("a report");
    let page = std::fs::read_to_string(sweep.dir().join("report.html")).expect("a page");
    for text in [&done.stdout, &report, &page] {
        assert!(text.contains("SLO") && text.contains("missed"), "{text}");
    }
    for head in [&report, &page] {
        assert!(head.contains("SLO (p50 ≤ 1 ms): missed."), "{head}");
    }
    let done = Sweep::new(&config("p50 = '1h'\nerror_rate = 0.5")).run();
    assert_eq!(done.code, 0, "{}", done.stderr);
    // Trials that count events or split memory carry what looking costs: nothing judges them.
    let looking =
        config("p50 = '1ms'").replace("trials = 1", "trials = 1\nsyscalls = true\nmemory = true");
    let done = Sweep::new(&looking).run();
    assert_eq!((done.code, done.records.len()), (3, 3), "{}", done.stderr);
    let missed = done.stderr.matches("allowed 1 ms").count();
    assert_eq!(missed, 1, "the ranked trial alone: {}", done.stderr);
}

#[test]
fn try_prints_records_and_keeps_nothing_unless_asked() {
    let home = tempfile::tempdir().unwrap();
    let mut command = duel(&["try", "http://127.0.0.1:1/", "-n", "3", "-c", "1", "--json"]);
    let out = output(command.current_dir(home.path()));
    assert_eq!(out.status.code(), Some(1), "nobody listens: {}", text(&out).1);
    let (stdout, _) = text(&out);
    assert_eq!(stdout.lines().count(), 2, "a record for each engine: {stdout}");
    for line in stdout.lines() {
        let row: serde_json::Value = serde_json::from_str(line).expect("a record");
        assert_eq!(row["errors"]["connect"], 3, "{line}");
    }
    assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0, "try keeps nothing");
}
