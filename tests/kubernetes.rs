//! The Kubernetes manifests against the schema of the API, by a validator that others wrote.
//!
//! Without PyPI's kubernetes-validate the test says so and passes; `DUEL_REQUIRE_REAL=1` has it fail.

use std::process::{Command, Output};

const HERE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/kubernetes");

fn validate(files: &[&std::path::Path]) -> Output {
    let script = format!("{HERE}/validate.py");
    Command::new("python3").arg(script).args(files).output().expect("python3 starts")
}

fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

#[test]
fn manifests_fit_the_api() {
    let there = Command::new("python3").args(["-c", "import kubernetes_validate"]).output();
    if !there.is_ok_and(|o| o.status.success()) {
        let required = std::env::var_os("DUEL_REQUIRE_REAL").is_some_and(|v| v == "1");
        assert!(!required, "DUEL_REQUIRE_REAL=1: pip install kubernetes-validate");
        return println!("skipped: python3 has no package kubernetes-validate");
    }
    let good = validate(&[]);
    assert!(good.status.success(), "{}", text(&good));
    assert!(text(&good).contains("Job duel: ok"), "{}", text(&good));

    let manifest = std::fs::read_to_string(format!("{HERE}/sweep.yaml")).expect("the manifest");
    let dir = tempfile::tempdir().expect("a directory");
    for (what, from, to) in [
        ("a misspelt field", "completionMode", "completionsMode"),
        ("a count that differs", "value: \"2\"", "value: \"3\""),
    ] {
        let path = dir.path().join("bad.yaml");
        assert!(manifest.contains(from), "{from}");
        std::fs::write(&path, manifest.replace(from, to)).expect("written");
        let bad = validate(&[&path]);
        assert_eq!(bad.status.code(), Some(1), "{what}: {}", text(&bad));
    }
}
