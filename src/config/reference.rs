//! What is known of every key, for people: `duel config`, `docs/config.md` and `duel-config(5)`.

use super::entry::{Entry, Kind};
use super::keys;
use super::read::words;

const INTRO: &str = "A config is TOML. Every key may be left out unless it is needed, a key that \
is not known is an error, and a list accepts a single value. `--set plan.requests=100` overrides a \
key from the command line.";

const UNITS: &str = "Durations are written 500us, 20ms, 2s, 1m or 1h; counts and rates 2000, 10k or \
1M, in decimal steps; sizes 4096, 64KiB or 1MiB. Rates are totals in requests per second.";

/// A table of the reference: its header as it is written, what it is for, and its keys.
struct KeySection {
    title: String,
    /// Whether there may be several such tables, whose keys have no path.
    several: bool,
    about: &'static str,
    keys: Vec<(String, &'static Entry)>,
}

fn sections() -> Vec<KeySection> {
    let all = keys::all();
    let top = all.iter().filter(|(path, entry)| !path.contains('.') && entry.is_leaf());
    let (title, keys) = ("At the top".into(), top.cloned().collect());
    let mut sections = vec![KeySection { title, several: false, about: "", keys }];
    for (path, entry) in all.iter().filter(|(_, entry)| !entry.keys().is_empty()) {
        let own = entry.keys().iter().filter(|key| key.is_leaf());
        let named = if matches!(entry.kind, Kind::Named(_)) { ".NAME" } else { "" };
        let table = format!("{path}{named}");
        let several = entry.several;
        let title = if several { format!("[[{table}]]") } else { format!("[{table}]") };
        let keys = own.map(|key| (format!("{table}.{}", key.name()), key)).collect();
        sections.push(KeySection { title, several, about: entry.about(), keys });
    }
    sections
}

/// The path and an example of the first key with this name; one of a list of tables has no path.
pub(crate) fn key_named(name: &str) -> Option<(String, &'static str)> {
    let single = sections().into_iter().filter(|section| !section.several);
    let mut named = single.flat_map(|section| section.keys).filter(|(_, key)| key.name() == name);
    named.next().map(|(path, key)| (path, key.example))
}

fn kind(entry: &Entry) -> String {
    let what = match entry.kind {
        Kind::Text => "string".into(),
        Kind::Bool => "`true` or `false`".into(),
        Kind::Count => "count".into(),
        Kind::Duration => "duration".into(),
        Kind::Size => "size".into(),
        Kind::Rate => "requests per second".into(),
        Kind::Share => "share, such as 5% or 0.05".into(),
        Kind::Number => "number".into(),
        Kind::Choice(names) => {
            let names: Vec<String> = names().iter().map(|name| format!("`\"{name}\"`")).collect();
            names.join(", ")
        }
        Kind::Named(_) => "table of names".into(),
        Kind::Table(_) => "table".into(),
        Kind::Either(words, _) => words.into(),
    };
    let list = if entry.several { "list: " } else { "" };
    let bounds = words(entry).map_or(String::new(), |bounds| format!(", {bounds}"));
    format!("{list}{what}{bounds}")
}

fn default(entry: &Entry) -> String {
    match entry.default {
        "" => "needed".into(),
        default if entry.default_is_toml() => format!("`{default}`{}", entry.unless),
        words => words.into(),
    }
}

pub(crate) fn markdown() -> String {
    let mut out = format!("# Every key of a config\n\n{INTRO}\n\n{UNITS}\n");
    for section in sections() {
        out += &format!("\n## {}\n", section.title);
        if !section.about.is_empty() {
            out += &format!("\n{}\n", section.about);
        }
        out += "\n| key | what it is for | type | default | example |\n|---|---|---|---|---|\n";
        for (_, key) in &section.keys {
            let cells = [
                format!("`{}`", key.name()),
                key.about().into(),
                kind(key),
                default(key),
                format!("`{}`", key.example),
            ];
            out += &format!("| {} |\n", cells.map(|cell| cell.replace('|', "\\|")).join(" | "));
        }
    }
    out
}

pub(crate) fn plain() -> String {
    let mut out = format!("{INTRO}\n\n{UNITS}\n");
    for section in sections() {
        out += &format!("\n{}", section.title);
        if !section.about.is_empty() {
            out += &format!("  {}", section.about);
        }
        out.push('\n');
        for (_, key) in &section.keys {
            out += &format!("\n  {} = {}\n", key.name(), key.example);
            out += &format!("      {}\n", key.about());
            out += &format!("      {}; default: {}\n", kind(key), default(key));
        }
    }
    out.replace('`', "")
}

pub(crate) fn man() -> String {
    let text = |text: &str| {
        let text = text.replace('\\', "\\e").replace('-', "\\-").replace('`', "");
        if text.starts_with(['.', '\'']) { format!("\\&{text}") } else { text }
    };
    let mut out =
        String::from(".TH duel\\-config 5\n.SH NAME\nduel\\-config \\- configs of duel\n");
    out += &format!(".SH DESCRIPTION\n{}\n.PP\n{}\n", text(INTRO), text(UNITS));
    for section in sections() {
        out += &format!(".SH {}\n{}\n", text(&section.title), text(section.about));
        for (_, key) in &section.keys {
            out += &format!(".TP\n\\fB{}\\fR = {}\n", text(key.name()), text(key.example));
            let (kind, default) = (kind(key), default(key));
            out += &format!(
                "{}\n.br\n{}; default: {}\n",
                text(key.about()),
                text(&kind),
                text(&default)
            );
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docs_hold_the_reference_of_this_version() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/config.md");
        if std::env::var_os("DUEL_BLESS").is_some() {
            std::fs::write(path, markdown()).unwrap();
        }
        let committed = std::fs::read_to_string(path).unwrap();
        assert!(committed == markdown(), "docs/config.md is stale: run with DUEL_BLESS=1");
    }

    #[test]
    fn every_key_says_what_it_is_for_and_stands_in_every_form() {
        let (plain, man) = (plain(), man());
        for (path, entry) in keys::all() {
            assert!(entry.about().ends_with(['.', '?']), "{path}: {}", entry.about());
            if entry.is_leaf() {
                assert!(!entry.example.is_empty(), "{path} has no example");
                assert!(
                    plain.contains(&format!("\n  {} = {}\n", entry.name(), entry.example)),
                    "{path}"
                );
                let name = entry.name().replace('-', "\\-");
                assert!(man.contains(&format!(".TP\n\\fB{name}\\fR = ")), "{path}");
            }
        }
        assert!(man.lines().all(|line| !line.starts_with('.') || line.len() < 200), "{man}");
    }
}
