//! What README and docs show works: every command parses, every config is one, every file is there,
//! and what the README proposes next runs as it is printed.

use crate::common;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use clap::FromArgMatches;
use clap::error::ErrorKind;
use common::{DUEL, duel, first_address, output, text};
use duel::cli::{self, Cli};
use duel::config;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every page that users and contributors read.
fn pages() -> Vec<(PathBuf, String)> {
    let mut paths = vec![root().join("README.md"), root().join("CONTRIBUTING.md")];
    let mut folders = vec![root().join("docs"), root().join("scripts")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("it is there").flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                paths.push(path);
            }
        }
    }
    paths.sort();
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).expect("a page");
        (path, text)
    };
    paths.into_iter().map(read).collect()
}

/// The fenced blocks of a page that are in a language.
fn blocks<'a>(page: &'a str, language: &'a str) -> impl Iterator<Item = &'a str> {
    let blocks = page.split("\n```").skip(1).step_by(2);
    blocks.filter_map(move |block| block.strip_prefix(language)?.strip_prefix('\n'))
}

/// What stands between backticks in the sentences of a page.
fn spans(page: &str) -> impl Iterator<Item = &str> {
    page.split("\n```").step_by(2).flat_map(|text| text.split('`').skip(1).step_by(2))
}

/// The words of each command of a line, as a shell splits them; where output goes is left out.
fn commands(line: &str) -> Vec<Vec<String>> {
    let (mut words, mut word, mut quote) = (vec![], None::<String>, None);
    for c in line.chars().chain(['\n']) {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, '#') if word.is_none() => break,
            (None, ' ' | ';' | '|' | '>' | '\n') => {
                words.extend(word.take());
                if ";|>".contains(c) {
                    words.push(c.to_string());
                }
            }
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    let all = words.split(|word| word == ";" || word == "|");
    let all = all.filter_map(|words| words.split(|word| word == ">").next());
    all.filter(|words| !words.is_empty()).map(<[String]>::to_vec).collect()
}

/// A call of duel: by its name, or by cargo.
fn of_duel(words: &[String]) -> Option<Vec<String>> {
    let by_cargo = words.iter().map(String::as_str).take(3).eq(["cargo", "run", "--release"]);
    let rest = match words[0].as_str() {
        "duel" => &words[1..],
        _ if by_cargo && words.get(3).is_some_and(|word| word == "--") => &words[4..],
        _ => return None,
    };
    Some(["duel".to_string()].into_iter().chain(rest.iter().cloned()).collect())
}

/// The config that a command reads, with its overrides.
fn config_of(command: &cli::Command) -> Option<(&Path, &[String])> {
    let args = match command {
        cli::Command::Run(args) => &args.config,
        cli::Command::Plan(args) => &args.config,
        cli::Command::Verify(args) => &args.config,
        _ => return None,
    };
    Some((&args.config, &args.overrides))
}

#[test]
fn every_command_that_is_shown_parses_and_names_configs_that_load() {
    assert_eq!(
        commands("a 'b c' > d; e | f \"#\" # g"),
        [vec!["a", "b c"], vec!["e"], vec!["f", "#"]]
    );
    let (mut parsed, mut loaded) = (0, 0);
    for (path, page) in pages() {
        let of_sentences = spans(&page).map(|span| (span, false));
        let lines = blocks(&page, "sh").flat_map(str::lines).map(|line| (line, true));
        for (line, whole) in lines.chain(of_sentences) {
            for words in commands(line).iter().filter_map(|words| of_duel(words)) {
                let at = format!("{}: {line}", path.display());
                parsed += 1;
                let found = Cli::declared().try_get_matches_from(&words);
                let found = match found.and_then(|m| Cli::from_arg_matches(&m)) {
                    Ok(found) => found,
                    Err(error) => {
                        // A sentence may name a command without what it needs.
                        let help = [ErrorKind::DisplayHelp, ErrorKind::DisplayVersion];
                        let bare = [
                            ErrorKind::MissingRequiredArgument,
                            ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand,
                        ];
                        let fine =
                            help.contains(&error.kind()) || !whole && bare.contains(&error.kind());
                        assert!(fine, "{at}\n{error}");
                        continue;
                    }
                };
                let Some((config, overrides)) = config_of(&found.command) else { continue };
                let config = root().join(config);
                if config.starts_with(root().join("configs")) && !config.ends_with("NAME.toml") {
                    config::load(&config, overrides).unwrap_or_else(|e| panic!("{at}\n{e}"));
                    loaded += 1;
                }
            }
        }
    }
    assert!(parsed > 60 && loaded > 12, "{parsed} commands, {loaded} configs were found");
}

#[test]
fn every_config_that_is_shown_is_one() {
    let mut read = 0;
    for (path, page) in pages() {
        for text in blocks(&page, "toml") {
            let name = path.display().to_string();
            config::parse(text, &name, &[], root()).unwrap_or_else(|e| panic!("{e}\n{text}"));
            read += 1;
        }
    }
    assert!(read > 4, "{read} configs were found");
}

#[test]
fn every_file_that_is_named_is_there() {
    for (path, page) in pages() {
        let links = page.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for link in links.filter(|link| !link.contains("://")) {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let file = match file {
                "" => path.clone(),
                file => path.parent().expect("in a folder").join(file),
            };
            assert!(file.exists(), "{}: {link}", path.display());
            if !anchor.is_empty() {
                let there = std::fs::read_to_string(&file).expect("a page");
                let headings = there.lines().filter(|line| line.starts_with('#'));
                let mut anchors = headings.map(|line| {
                    let words = line.trim_start_matches('#').trim().to_lowercase();
                    let kept = words.chars().filter(|c| c.is_alphanumeric() || "-_ ".contains(*c));
                    kept.collect::<String>().replace(' ', "-")
                });
                assert!(anchors.any(|found| found == anchor), "{}: {link}", path.display());
            }
        }
        let lines = blocks(&page, "sh").flat_map(str::lines).chain(spans(&page));
        for words in lines.flat_map(commands) {
            let at = format!("{}: {words:?}", path.display());
            for word in &words {
                let ours = ["scripts/", "configs/", "tests/", "src/"];
                // What is a pattern, or stands for a name, is no file.
                let plain = !word.contains(|c: char| c.is_uppercase() || "*…{".contains(c));
                if plain && ours.iter().any(|folder| word.starts_with(folder)) {
                    let file = word.trim_end_matches([',', '.', ':']);
                    assert!(root().join(file).exists(), "{at}: no {file}");
                }
            }
            for pair in words.windows(2).filter(|_| words[0] == "cargo") {
                let folder = match pair[0].as_str() {
                    "--test" => "tests",
                    "--bench" => "benches",
                    _ => continue,
                };
                let file = |tail: &str| root().join(folder).join(format!("{}{tail}", pair[1]));
                let there = file(".rs").exists() || file("/main.rs").exists();
                assert!(there || pair[1] == "NAME", "{at}: no such {folder}");
            }
        }
    }
}

#[test]
fn every_shipped_config_stands_in_the_list() {
    let list = std::fs::read_to_string(root().join("scripts/README.md")).expect("the list");
    for entry in std::fs::read_dir(root().join("configs")).expect("configs/ is there").flatten() {
        let name = entry.file_name().display().to_string();
        assert!(list.contains(&format!("(../configs/{name})")), "scripts/README.md: {name}");
    }
}

/// Both are of one run, so that a change of what is printed is not made in one of them alone.
#[test]
fn the_sample_of_the_readme_is_what_its_picture_shows() {
    let page = std::fs::read_to_string(root().join("README.md")).expect("README.md");
    let picture = std::fs::read_to_string(root().join("docs/terminal.svg")).expect("the picture");
    let texts = picture.lines().map(|line| {
        let texts = line.split('<').filter_map(|tag| tag.split_once('>')).map(|(_, text)| text);
        texts.collect::<String>().replace("&#160;", " ").replace("&#x27;", "'")
    });
    let shown: Vec<String> = texts.collect();
    let sample = blocks(&page, "text").next().expect("a sample");
    for line in sample.lines().filter(|line| !line.is_empty()) {
        assert!(line.chars().count() <= 100, "too long for its picture: {line}");
        assert!(shown.iter().any(|text| text == line), "docs/terminal.svg does not show: {line}");
    }
}

/// A process that ends with the test, however that ends.
struct Ends(Child);

impl Drop for Ends {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// `duel` as the README calls it, with so little load that a test can wait for it.
const SHIM: &str = r#"#!/bin/sh
case "$*" in
run*knee*) set -- "$@" --set plan.duration=300ms --set search.probes=3 \
    --set search.trials=3 --set search.max_trials=3 --set search.max_rate=2k ;;
run*sweep.toml) set -- "$@" --set plan.duration=200ms --set plan.warmup=0s --set sweep.trials=1 \
    --set "target.url='http://$TARGET/'" ;;
run*) set -- "$@" --set plan.duration=200ms --set sweep.trials=1 ;;
esac
exec "$DUEL" "$@"
"#;

#[test]
fn what_the_readme_proposes_next_runs_as_it_is_printed() {
    let mut command = duel(&["target", "--listen", "127.0.0.1:0"]);
    let target = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut target = Ends(target.expect("the target starts"));
    let address = first_address(&mut target.0);
    let home = tempfile::tempdir().expect("a directory");
    std::os::unix::fs::symlink(root().join("configs"), home.path().join("configs")).unwrap();
    let shim = home.path().join("duel");
    std::fs::write(&shim, SHIM).expect("a script");
    std::fs::set_permissions(&shim, PermissionsExt::from_mode(0o755)).expect("it may run");
    let shell = |line: &str| {
        let mut command = Command::new("sh");
        let path = std::env::var("PATH").unwrap_or_default();
        command.args(["-c", line]).current_dir(home.path()).stdin(Stdio::null());
        command.env("PATH", format!("{}:{path}", home.path().display()));
        command.env("DUEL", DUEL).env("TARGET", &address).env("NO_COLOR", "1");
        output(&mut command)
    };
    let run = |name: &str| shell(&format!("duel run configs/old-or-new.toml --out runs/{name}"));
    let ready: Vec<String> = ["A", "B"].iter().map(|name| text(&run(name)).1).collect();

    let page = std::fs::read_to_string(root().join("README.md")).expect("README.md");
    let (_, next) = page.split_once("## What people do next").expect("the section");
    let lines: Vec<&str> = blocks(next, "sh").next().expect("its block").lines().collect();
    assert!(lines.len() >= 6, "{lines:?}");
    for line in lines {
        let here = line.replace("127.0.0.1:8080", &address).replace("-d 10s", "-d 300ms");
        let out = shell(&here.replace("runs/…", "runs/A"));
        let (stdout, stderr) = text(&out);
        // What was measured in so short a time need not be believed, met, or enough for a plan.
        let code = out.status.code();
        let fine = [0, 1, 3, 4].iter().any(|fine| code == Some(*fine));
        assert!(fine && !stdout.is_empty(), "{line}: {code:?}\n{stdout}{stderr}\n{ready:?}");
        if !line.contains("capacity") {
            assert_ne!(code, Some(1), "{line}\n{stdout}{stderr}");
        }
    }
}
