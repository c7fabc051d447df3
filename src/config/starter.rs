//! `duel init`: a config to begin with, made for a question, which shows every default.

use std::collections::BTreeMap;

use clap::ValueEnum;

use super::entry::{Entry, Only};
use super::keys;
use crate::terminal::wrap;

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum StarterQuestion {
    /// What do threads and what do tasks cost at my concurrency?
    ThreadsOrTasks,
    /// How does my own server hold up, and what does it cost to load it?
    MyServer,
    /// How many hosts do so many requests per second need? (then: duel capacity DIR --rate 10k --p99 50ms)
    Capacity,
    /// How much memory does a connection take?
    Memory,
    /// How does latency grow with the offered load?
    LatencyUnderLoad,
    /// Which of two servers is faster: old or new, A or B? (then: duel compare DIR)
    #[value(name = "a-b")]
    OldOrNew,
}

impl StarterQuestion {
    /// The keys that its starter sets, with their values in TOML.
    fn chosen(self) -> &'static str {
        match self {
            StarterQuestion::ThreadsOrTasks => {
                r#"
target.service_time = "20ms"
plan.duration = "1s"
plan.warmup = "100ms"
sweep.engines = ["threads", "tokio"]
sweep.lanes = [1, 64, 512]
"#
            }
            StarterQuestion::MyServer => {
                r#"
target.url = "http://127.0.0.1:8080/"
plan.duration = "5s"
plan.warmup = "1s"
sweep.engines = ["tokio"]
sweep.lanes = [1, 16, 64]
sweep.trials = 6
"#
            }
            StarterQuestion::Capacity => {
                r#"
target.service_time = "20ms"
plan.arrivals = "poisson"
plan.duration = "2s"
plan.warmup = "500ms"
sweep.engines = ["threads", "tokio"]
sweep.lanes = [64, 256]
sweep.rates = [500, "1k", "2k"]
"#
            }
            StarterQuestion::Memory => {
                r#"
target.service_time = "50ms"
plan.duration = "1s"
sweep.engines = ["threads", "tokio"]
sweep.lanes = [16, 256, "1k"]
sweep.idle = true
sweep.memory = true
"#
            }
            StarterQuestion::LatencyUnderLoad => {
                r#"
target.service_time = "5ms"
target.servers = 8
plan.arrivals = "poisson"
plan.duration = "2s"
plan.warmup = "500ms"
sweep.engines = ["tokio"]
sweep.lanes = [256]
sweep.rates = [200, 800, 1200, 1500]
slo.p99 = "50ms"
"#
            }
            StarterQuestion::OldOrNew => {
                r#"
plan.duration = "500ms"
plan.warmup = "100ms"
sweep.engines = ["tokio"]
sweep.lanes = [16]
"#
            }
        }
    }
}

/// The servers of [`StarterQuestion::OldOrNew`].
const TWO_SERVERS: &str = r#"
[[sweep.target]]
name = "old"
url = "http://127.0.0.1:8080/"

[[sweep.target]]
name = "new"
url = "http://127.0.0.1:8081/"
"#;

/// Keys that contradict those which a starter sets, or need tables of their own.
fn fits(entry: &Entry, external: bool) -> bool {
    let fits = match entry.only {
        Some(Only::Embedded) => !external,
        Some(Only::External) => external,
        Some(Only::Trace) | None => true,
    };
    fits && entry.is_leaf()
}

/// A line of the config: what is set, or in a comment what may be.
fn line(path: &str, entry: &Entry, chosen: &BTreeMap<&str, &str>) -> String {
    let set = chosen.get(path).copied();
    let (hash, value) = match set {
        Some(value) => ("", value),
        None if entry.default_is_toml() => ("# ", entry.default),
        None => ("# ", entry.example),
    };
    let in_words = !entry.default_is_toml() || !entry.unless.is_empty();
    let default = if set.is_none() && in_words {
        format!(" Default: {}{}.", entry.default, entry.unless)
    } else {
        String::new()
    };
    let about = comment(&format!("{}{default}", entry.about()));
    format!("{about}{hash}{} = {value}\n", entry.name())
}

/// Lines of at most 80 columns, as this goes into a file.
fn comment(text: &str) -> String {
    wrap(text, Some(78)).into_iter().map(|line| format!("# {line}\n")).collect()
}

pub(crate) fn starter(question: StarterQuestion) -> String {
    let asked = question.to_possible_value().expect("none of them is hidden");
    let chosen: BTreeMap<_, _> =
        question.chosen().lines().filter_map(|l| l.split_once(" = ")).collect();
    let two = question == StarterQuestion::OldOrNew;
    let external = two || chosen.contains_key("target.url");
    let mut out = comment(&asked.get_help().map(ToString::to_string).unwrap_or_default())
        + "#\n"
        + &comment(
            "duel plan FILE shows what would run, duel run FILE runs it. Each section begins with the \
             keys that this question sets. A key after a # has its default, or an example where \
             there is none. duel config prints every key with its bounds.",
        );
    for (table, keys) in keys::all().iter().filter(|(path, _)| !path.contains('.')) {
        if !matches!(table.as_str(), "target" | "plan" | "sweep" | "machine" | "slo") {
            continue;
        }
        out += &format!("\n[{table}]\n");
        // What the question sets stands first: the rest is for reading on.
        for set in [true, false] {
            for entry in keys.keys() {
                let path = format!("{table}.{}", entry.name());
                if fits(entry, external) && chosen.contains_key(path.as_str()) == set {
                    out += &line(&path, entry, &chosen);
                }
            }
        }
        if two && table == "sweep" {
            out += TWO_SERVERS;
        }
        if table == "plan" {
            out += "\n[[plan.request]]\n";
            let request = keys.keys().iter().find(|entry| entry.name() == "request");
            for entry in request.map_or(&[][..], Entry::keys) {
                if entry.is_leaf() {
                    out += &line(&format!("plan.request.{}", entry.name()), entry, &chosen);
                }
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::node::{self, Node, Place, Value};

    /// What is wrong with keys and values alone.
    fn faults(text: &str) -> Vec<String> {
        let value = Value::Table(node::parse(text).map_err(|fault| fault.message).unwrap());
        let read = keys::read(&Node { place: Place::whole(), value });
        read.err().into_iter().flatten().map(|fault| fault.line("x.toml")).collect()
    }

    #[test]
    fn every_starter_is_a_config_and_so_is_each_line_that_it_offers() {
        for question in StarterQuestion::value_variants() {
            let text = starter(*question);
            let here = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
            let sweep = crate::config::parse(&text, "x.toml", &[], here)
                .unwrap_or_else(|error| panic!("{question:?}: {error}\n{text}"));
            assert!(!sweep.cells().is_empty());
            let sections = text.split("\n[").skip(1).map(|section| {
                let keys = section.lines().filter(|line| line.contains(" = "));
                keys.map(|line| line.starts_with("# ")).collect::<Vec<bool>>()
            });
            for is_default in sections {
                assert!(is_default.is_sorted(), "what the question sets stands first: {text}");
            }
            let lines: Vec<&str> = text.lines().collect();
            let mut offered = 0;
            for (at, line) in lines.iter().enumerate() {
                let Some((key, _)) =
                    line.strip_prefix("# ").and_then(|line| line.split_once(" = "))
                else {
                    continue;
                };
                if key.contains(' ') {
                    continue;
                }
                let mut changed = lines.clone();
                changed[at] = &line[2..];
                assert_eq!(faults(&changed.join("\n")), [""; 0], "{line}");
                offered += 1;
            }
            assert!(offered >= 40, "{question:?} offers {offered} lines");
        }
    }
}
