//! `duel capacity` and the report's section on capacity, by the binary: flags and what they refuse.

use crate::common;

use std::path::Path;

use common::{duel, output, text};

const RUN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/run-format-1");

#[test]
fn a_value_that_is_none_is_one_error_that_names_its_flag() {
    let bad = [
        ("--rate", &["10,10", "10,", "0", "-5", "fast", "nan", "inf", "", "5/min"][..]),
        ("--p99", &["0s", "5", "soon", "-1ms", ""]),
        ("--latency", &["0ms", "5", "nan"]),
        ("--memory", &["0", "much", "-1GiB", "1.5.5MiB"]),
        ("--cpus", &["0", "1.5", "-2", "5000M", "two"]),
        (
            "--growth",
            &["-100%", "-100%/month", "50%/month", "fast", "101", "nan", "%", "1e400", "0%,0%"],
        ),
        ("--availability", &["100%", "0", "-1", "most", ""]),
        ("--cpu-target", &["0", "101%", "-5%", "half", "70%,70%", "70%,"]),
        ("--memory-target", &["0", "101%", "50%,60%", ""]),
        ("--hosts", &["/nonexistent", "/"]),
        ("--months", &["-1", "601", "nan", "inf", "soon"]),
        ("--spare", &["-1", "1.5", "5000000000"]),
    ];
    for (flag, values) in bad {
        for value in values {
            let mut arguments = vec!["capacity".to_string(), RUN.into(), format!("{flag}={value}")];
            if flag != "--rate" {
                arguments.push("--rate=100".into());
            }
            let out = output(&mut duel(&arguments));
            let (stdout, stderr) = text(&out);
            assert_eq!(out.status.code(), Some(2), "{flag}={value}: {stderr}");
            assert!(stderr.contains(flag), "{flag}={value}: {stderr}");
            assert!(stdout.is_empty() && !stderr.contains("panicked"), "{flag}={value}: {stderr}");
        }
    }
    for (what, arguments) in [
        ("--rate", vec!["capacity", RUN]),
        ("it does not exist", vec!["capacity", "/nonexistent", "--rate", "5"]),
    ] {
        let out = output(&mut duel(&arguments));
        let (_, stderr) = text(&out);
        assert_eq!(out.status.code(), Some(2), "{stderr}");
        assert!(stderr.contains(what), "{stderr}");
    }
}

/// What is wrong with a file of hosts is tested where it is read; here, that it ends in one line.
#[test]
fn a_bad_file_of_hosts_is_one_error_and_the_shipped_one_is_read() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("hosts.toml");
    let ask = |hosts: &Path| {
        let mut command = duel(&["capacity", RUN, "--rate", "100", "--hosts"]);
        let out = output(command.arg(hosts));
        (out.status.code(), text(&out))
    };
    let host = "[[host]]\nname = \"a\"\ncpus = 1\nmemory = \"1GiB\"\n";
    for (text, error) in [
        (host.replace("cpus = 1\n", ""), "host 1: cpus is missing"),
        (host.replace("1GiB", "-1GiB"), "write a size above zero"),
        (format!("{host}price = 0.1\n"), "it has no currency"),
        (format!("{host}limits = {{ files = 5 }}\n"), "unknown limit `files`: allowed are RLIMIT_"),
    ] {
        std::fs::write(&file, &text).unwrap();
        let (code, (stdout, stderr)) = ask(&file);
        assert_eq!((code, stdout.as_str()), (Some(2), ""), "{text}: {stderr}");
        assert!(stderr.contains(error) && stderr.trim_end().lines().count() == 1, "{stderr}");
    }
    let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/configs/hosts.toml");
    let (code, (_, stderr)) = ask(Path::new(shipped));
    assert_ne!(code, Some(2), "{stderr}");
    assert!(!std::fs::read_to_string(shipped).unwrap().contains("\nprice"), "no price is invented");
}

/// A refusal ends in a config that `duel plan` takes.
#[test]
fn what_is_suggested_is_a_config_that_plans() {
    let home = tempfile::tempdir().unwrap();
    let out = output(&mut duel(&["capacity", RUN, "--rate", "5k", "--suggest"]));
    let (suggested, stderr) = text(&out);
    assert_eq!(out.status.code(), Some(0), "{stderr}");
    let file = home.path().join("next.toml");
    std::fs::write(&file, &suggested).unwrap();
    let out = output(duel(&["plan"]).arg(&file));
    let (stdout, stderr) = text(&out);
    assert_eq!(out.status.code(), Some(0), "{stderr}\n{suggested}");
    assert!(stdout.contains("format-1-next"), "{stdout}");
}

/// The load that is forecast is really run, and the report carries what came of it; how far off it
/// was is the machine's matter.
#[test]
fn a_proof_runs_the_load_and_the_report_carries_it() {
    let home = tempfile::tempdir().unwrap();
    let (config, run) = (home.path().join("small.toml"), home.path().join("run"));
    let text = "[target]\nservice_time = \"5ms\"\n[plan]\nrequests = 200\n[sweep]\n\
                engines = [\"tokio\"]\nlanes = [2, 8, 16]\ntrials = 3\n";
    std::fs::write(&config, text).unwrap();
    let out = output(duel(&["run"]).arg(&config).arg("--out").arg(&run));
    assert!(matches!(out.status.code(), Some(0 | 4)), "{}", common::text(&out).1);
    let out = output(duel(&["capacity", "--rate", "500", "--prove", "--json"]).arg(&run));
    let (stdout, stderr) = common::text(&out);
    let json: serde_json::Value = serde_json::from_str(&stdout).expect(&stderr);
    let proof = std::fs::read_to_string(run.join("proof.toml")).unwrap();
    assert!(proof.contains("lanes = [32]"), "{proof}");
    let trials = std::fs::read_to_string(run.join("proof/trials.jsonl")).unwrap();
    assert_eq!(trials.lines().count(), 6, "six trials of one cell");
    let proofs = json["proofs"].as_array().unwrap();
    for row in proofs {
        let value = |i: usize| row["figures"][i]["value"].as_f64().unwrap();
        let error = row["error"].as_f64().unwrap();
        assert!((value(0) / value(1) - 1.0 - error).abs() < 1e-9, "{row}");
    }
    let out = output(duel(&["report", "--rate", "500"]).arg(&run));
    assert_eq!(out.status.code(), Some(0), "{}", common::text(&out).1);
    let html = std::fs::read_to_string(run.join("report.html")).unwrap();
    let valid = trials.lines().filter(|line| line.contains("\"status\":\"ok\"")).count();
    // A machine that is too busy for every trial leaves nothing to compare with.
    assert_eq!(html.contains("what that load measured"), valid > 0 && !proofs.is_empty());
}

#[test]
fn the_report_plans_for_the_rate_that_is_asked_or_for_the_highest_measured() {
    let home = tempfile::tempdir().unwrap();
    for file in ["plan.json", "trials.jsonl"] {
        // Trials on a machine that was busy, which no plan rests on: here they stand for calm ones.
        let text = std::fs::read_to_string(Path::new(RUN).join(file)).unwrap();
        std::fs::write(home.path().join(file), text.replace("\"noisy\"", "\"calm\"")).unwrap();
    }
    let read = |file: &str| std::fs::read_to_string(home.path().join(file)).unwrap();
    let report = |more: &[&str]| {
        let mut command = duel(&["report"]);
        let out = output(command.arg(home.path()).args(more));
        (out.status.code(), text(&out).1)
    };
    let (code, stderr) = report(&["--rate", "12345", "--growth", "30%", "--months", "6"]);
    assert_eq!(code, Some(0), "{stderr}");
    for file in ["report.md", "report.html"] {
        let text = read(file);
        assert!(text.contains("12,345 req/s on hosts of"), "{file}: {text}");
        let (_, assumed) =
            text.split_once("<summary>What this assumes</summary>").unwrap_or_default();
        let folded = assumed.contains("growth of 30 % per year");
        assert_eq!(folded, file == "report.html", "{file}: {text}");
        assert_eq!(text.matches("growth of 30 % per year").count(), usize::from(folded), "{file}");
    }
    assert_eq!(report(&[]).0, Some(0));
    let text = read("report.md");
    assert!(text.contains("## Capacity: ") && !text.contains("12,345"), "{text}");
    let (code, stderr) = report(&["--growth", "fast"]);
    assert_eq!(code, Some(2), "{stderr}");
    assert!(stderr.contains("--growth"), "{stderr}");
}
