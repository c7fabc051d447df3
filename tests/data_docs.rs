//! The one-liners of docs/data.md work on a real run directory, where their tool is installed.

use crate::common;

use std::process::{Command, Stdio};

use common::{Sweep, output, text};

/// Lines of the fenced blocks of docs/data.md.
fn one_liners() -> Vec<String> {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/data.md");
    let page = std::fs::read_to_string(page).expect("docs/data.md");
    let blocks = page.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap_or(""));
    blocks.flat_map(str::lines).map(String::from).collect()
}

/// A shell with the Python packages that the tests were given.
fn shell(line: &str) -> Command {
    let mut command = Command::new("bash");
    command.args(["-c", line]).stdin(Stdio::null());
    if let Ok(packages) = std::env::var("DUEL_DATA_READERS") {
        command.env("PYTHONPATH", packages);
    }
    command
}

/// Whether what a line needs is installed: its program, and the package that it imports.
fn is_there(line: &str) -> bool {
    let program = line.split_whitespace().next().expect("a program");
    let import = line.split("import ").nth(1).and_then(|rest| rest.split([' ', ';']).next());
    let check = match import {
        Some(package) => format!("{program} -c 'import {package}'"),
        None => format!("command -v {program}"),
    };
    output(&mut shell(&check)).status.success()
}

#[test]
fn documented_one_liners_run() {
    let sweep = Sweep::new(
        "[target]\nservice_time = '1ms'\n[plan]\nrequests = 200\n\
         [sweep]\nengines = ['threads', 'tokio']\nlanes = [2, 4]\ntrials = 3\n",
    );
    let done = sweep.run();
    assert_eq!(done.records.len(), 12, "{}", done.stderr);
    let lines = one_liners();
    assert!(lines.len() >= 7, "docs/data.md has lost its one-liners: {lines:?}");
    for line in lines {
        if !is_there(&line) {
            println!("skipped, not installed: {line}");
            continue;
        }
        let out = output(shell(&line).current_dir(sweep.dir()));
        let (stdout, stderr) = text(&out);
        assert!(out.status.success(), "{line}\n{stdout}{stderr}");
        let shows = ["threads", "tokio"].iter().any(|name| stdout.contains(name));
        assert!(shows, "{line}: shows no engine:\n{stdout}{stderr}");
    }
}
