//! 80 columns: no command prints a longer line, and none breaks a word.

use crate::common;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Child, Stdio};

use common::{duel, first_address, output, text};
use duel::cli::Cli;

const WIDTH: usize = 80;

const CONFIG: &str = "name = 'which-engine-waits-best'\n[target]\nservice_time = '1ms'\n\
    [plan]\narrivals = 'constant'\nduration = '100ms'\ntimeout = '1s'\n\
    [sweep]\nengines = ['threads', 'rayon', 'tokio-single']\nlanes = [16]\n\
    rates = [200, 400]\ncodecs = ['hyper']\nmemory = true\ntrials = 2\nnoise_repeats = 0\n[slo]\np50 = '1us'\n\
    [[expect]]\nwinner = 'tokio-single'\nover = 'threads'\nmeasure = 'memory_per_lane'\n";

/// Runs whose tables and sentences are of another kind: name and config.
const OTHERS: [(&str, &str); 4] = [
    (
        "servers",
        "[target]\nservice_time = '1ms'\n[plan]\narrivals = 'constant'\nduration = '100ms'\n\
         [sweep]\nserver_engines = ['threads', 'tokio']\nlanes = [4, 8]\n\
         rates = [200]\nidle = true\nmemory = true\ntrials = 1\n",
    ),
    (
        "targets",
        "[plan]\nduration = '100ms'\n[[sweep.target]]\nname = 'the-old-one'\n\
         [[sweep.target]]\nname = 'the-new-one'\n[sweep]\nengines = ['tokio']\ntrials = 2\n",
    ),
    (
        "search",
        "[target]\nservice_time = '5ms'\nservers = 2\n[plan]\narrivals = 'constant'\n\
         duration = '200ms'\n[sweep]\nengines = ['tokio']\nlanes = [16]\nrates = ['50%']\n\
         [slo]\np50 = '60ms'\n[search]\nprobes = 3\ntrials = 3\nmax_trials = 3\n",
    ),
    (
        "steps",
        "[plan]\nrequests = 20\nheartbeat = true\n[[plan.request]]\nname = 'small'\np99 = '1ms'\n\
         step = [{ kind = 'http' }, { kind = 'compute', bytes = '1KiB' }]\n[[plan.request]]\n\
         name = 'large'\n[sweep]\nengines = ['tokio', 'threads']\nlanes = [1, 2, 4, 8]\n\
         offload = ['inline', 'rayon']\ntrials = 1\n",
    ),
];

/// What prints no lines for people: a frame, a script, a page that `man` folds.
const NOT_FOR_READERS: [&str; 3] = ["worker", "completions", "man"];

/// A target that ends with the test, however that ends.
struct Target(Child, String);

impl Target {
    fn start(more: &[&str]) -> Target {
        let mut command = duel(&[&["target", "--listen", "127.0.0.1:0"], more].concat());
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut target = Target(child.expect("the target starts"), String::new());
        target.1 = format!("http://{}/", first_address(&mut target.0));
        target
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

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
    for (name, config) in OTHERS {
        std::fs::write(at.join(format!("{name}.toml")), config).expect("a config");
        let run = &["run", &format!("{name}.toml"), "--out", name];
        let texts = printed(at, Some(WIDTH), run);
        assert!(texts[0].contains("────"), "no table:\n{}{}", texts[0], texts[1]);
        assert_fits(run, &texts);
    }
    let whole = &["run", "a.toml", "--shard", "0/1", "--out", "s", "--set", "plan.requests=20"];
    assert_fits(whole, &printed(at, Some(WIDTH), whole));
    let mut used = BTreeSet::from(["target".to_string()]);
    let again: &[&[&str]] = &[
        &["report", "servers"],
        &["report", "targets"],
        &["report", "search"],
        &["report", "steps"],
        &["plan", "servers.toml"],
        &["plan", "search.toml"],
        &["plan", "steps.toml"],
        &["compare", "targets"],
        &["capacity", "search", "--rate", "100", "--p99", "50ms", "--growth", "2%/month,30%"],
        &["capacity", "servers", "--rate", "100,200", "--connections", "1k"],
        &["init"],
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
        used.insert(arguments[0].to_string());
    }
    let (well, ill) = (Target::start(&[]), Target::start(&["--error-rate", "1"]));
    let once: &[&[&str]] = &[
        &["try", &well.1, "-d", "200ms", "-c", "2"],
        &["try", &well.1, "-d", "200ms", "-c", "2", "-R", "100", "--trials", "1"],
        &["try", &well.1, "-n", "10", "-c", "1", "--engines", "threads", "--out", "t"],
        &["try", &ill.1, "-n", "10"],
        &["merge", "s", "--out", "merged"],
        &["report", "merged"],
        &["target", "--listen", "192.0.2.1:80"],
        &["verify", "a.toml", "-n", "20"],
        &["try", "127.0.0.1:1/", "-d", "100ms", "-c", "2"],
        &["run", "a.toml", "--shard", "1/2", "--rendezvous", "m", "--rendezvous-wait", "3s"],
    ];
    for arguments in once {
        let texts = printed(at, Some(WIDTH), arguments);
        assert_fits(arguments, &texts);
        used.insert(arguments[0].to_string());
        if arguments.contains(&"--rendezvous") {
            // Whom a shard waits for, while it does.
            assert!(texts[1].contains("waiting for shard 0"), "{}", texts[1]);
        }
    }
    let all = Cli::declared();
    let all = all.get_subcommands().map(|command| command.get_name().to_string());
    let left: Vec<String> = all
        .filter(|name| !used.contains(name) && !NOT_FOR_READERS.contains(&name.as_str()))
        .collect();
    assert!(left.is_empty(), "commands that were not tried: {left:?}");
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
