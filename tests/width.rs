//! 80 columns: no command prints a longer line, and none breaks a word.

mod common;

use std::collections::BTreeSet;
use std::path::Path;

use common::{duel, output, text};

const WIDTH: usize = 80;

const CONFIG: &str = "name = 'which-engine-waits-best'\n[target]\nservice_time = '1ms'\n\
    [plan]\narrivals = 'constant'\nduration = '100ms'\ntimeout = '1s'\n\
    [sweep]\nengines = ['threads', 'rayon', 'tokio-single']\nlanes = [16]\n\
    rates = [200, 400]\ncodecs = ['hyper']\nmemory = true\ntrials = 2\nnoise_repeats = 0\n[slo]\np50 = '1us'\n\
    [[expect]]\nwinner = 'tokio-single'\nover = 'threads'\nmeasure = 'memory_per_lane'\n";

/// What a command prints on both streams, run in `at` with lines of `columns`.
fn printed(at: &Path, columns: Option<usize>, arguments: &[&str]) -> [String; 2] {
    let mut command = duel(arguments);
    command.current_dir(at).env_remove("COLUMNS");
    if let Some(columns) = columns {
        command.env("COLUMNS", columns.to_string());
    }
    let (stdout, stderr) = text(&output(&mut command));
    assert!(!stdout.is_empty() || !stderr.is_empty(), "{arguments:?} says nothing");
    [stdout, stderr]
}

fn assert_fits(arguments: &[&str], texts: &[String]) {
    for line in texts.iter().flat_map(|text| text.lines()) {
        let long = line.chars().count();
        assert!(long <= WIDTH, "{arguments:?}: {long} columns:\n{line}");
    }
}

/// Commands that print the same each time: what a wide terminal shows stands whole in a narrow one.
fn assert_same_words(arguments: &[&str], narrow: &[String; 2], wide: &[String; 2]) {
    let words = |texts: &[String; 2]| -> BTreeSet<String> {
        // Numbers such as free memory move between two calls, and rules are as wide as their table.
        let same = |word: &&str| !word.contains(|c: char| c == '─' || c.is_ascii_digit());
        let words = texts.iter().flat_map(|t| t.split_whitespace()).filter(same);
        words.map(String::from).collect()
    };
    let missing: Vec<_> = words(wide).difference(&words(narrow)).cloned().collect();
    assert!(missing.is_empty(), "{arguments:?}: broken or lost: {missing:?}\n{}", narrow[0]);
}

#[test]
fn every_command_fits_eighty_columns() {
    let dir = tempfile::tempdir().expect("a directory");
    let at = dir.path();
    std::fs::write(at.join("a.toml"), CONFIG).unwrap();
    for out in ["A", "B"] {
        let run = &["run", "a.toml", "--out", out];
        let texts = printed(at, Some(WIDTH), run);
        assert!(texts[0].contains("engine"), "no table:\n{}", texts[1]);
        assert_fits(run, &texts);
    }
    let again: &[&[&str]] = &[
        &["plan", "a.toml"],
        &["plan", "a.toml", "--set", "sweep.precision=\"5%\"", "--set", "sweep.lanes=[40000]"],
        &["plan", "a.toml", "--set", "sweep.lane=1", "--set", "plan.arrivals=sometimes"],
        &["report", "A"],
        &["compare", "A", "B"],
        &["compare", "A", "B", "--min-effect", "nonsense"],
        &["capacity", "A", "--rate", "100", "--spare", "1", "--growth", "30%"],
        &["capacity", "A", "--rate", "200k", "--p99", "50ms"],
        &["limits"],
        &["limits", "--lanes", "16500"],
        &["run", "a.toml", "--out", "A"],
        &["run", "none.toml"],
        &["try", "http://192.0.2.1/"],
        &["try", "127.0.0.1:1/", "-q", "5"],
        &["config"],
    ];
    for arguments in again {
        let narrow = printed(at, Some(WIDTH), arguments);
        assert_fits(arguments, &narrow);
        assert_same_words(arguments, &narrow, &printed(at, None, arguments));
    }
    let once: &[&[&str]] = &[
        &["verify", "a.toml", "-n", "20"],
        &["try", "127.0.0.1:1/", "-d", "100ms", "-c", "2"],
        &["run", "a.toml", "--shard", "1/2", "--rendezvous", "m", "--rendezvous-wait", "3s"],
    ];
    for arguments in once {
        let texts = printed(at, Some(WIDTH), arguments);
        assert_fits(arguments, &texts);
        if arguments.contains(&"--rendezvous") {
            // Whom a shard waits for, while it does.
            assert!(texts[1].contains("waiting for shard 0"), "{}", texts[1]);
        }
    }
}

#[test]
fn help_and_starters_fit_eighty_columns() {
    let dir = tempfile::tempdir().expect("a directory");
    let help = printed(dir.path(), Some(WIDTH), &["--help"]);
    assert_fits(&["--help"], &help);
    let commands = help[0].lines().skip_while(|line| *line != "Commands:").skip(1);
    let named = commands.take_while(|line| !line.is_empty());
    let names = named.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let names: Vec<&str> = names.filter_map(|line| line.split_whitespace().next()).collect();
    assert!(names.contains(&"run") && names.contains(&"limits"), "{names:?}");
    for name in names.iter().filter(|name| **name != "help") {
        let arguments = &[name, "--help"];
        assert_fits(arguments, &printed(dir.path(), Some(WIDTH), arguments));
    }
    // A config goes into a file: its own lines are short, whatever the terminal.
    let questions = printed(dir.path(), None, &["init", "nonsense"])[1].clone();
    let listed = questions.split("[possible values: ").nth(1).expect("a list of questions");
    for question in listed.split(']').next().unwrap_or_default().split(", ") {
        let arguments = &["init", question];
        assert_fits(arguments, &printed(dir.path(), None, arguments));
    }
}
