//! The map of the code in `src/lib.rs` is true: which module uses which, and never in a circle.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use duel::plan::server::ServerEngine;
use duel::plan::{Codec, Engine};

type Module = Vec<String>;
type Graph = BTreeMap<String, BTreeSet<String>>;

/// Every source file but for tests, by its module path.
fn sources() -> BTreeMap<Module, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = BTreeMap::new();
    let mut dirs = vec![root.clone()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(&dir).expect("a directory of sources").flatten() {
            let path = entry.path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") && !path.ends_with("tests.rs") {
                let text = std::fs::read_to_string(&path).expect("a source file");
                found.insert(module(path.strip_prefix(&root).expect("below src")), code(&text));
            }
        }
    }
    found
}

/// `driver/trial/judge.rs` → driver, trial, judge; empty for lib.rs and main.rs.
fn module(path: &Path) -> Module {
    let mut parts: PathBuf = path.with_extension("");
    if ["mod", "lib", "main"].iter().any(|name| parts.ends_with(name)) {
        parts.pop();
    }
    parts.iter().map(|part| part.to_string_lossy().into_owned()).collect()
}

/// The text without comments and without what is compiled for tests only.
fn code(text: &str) -> String {
    let production = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
    let lines = production.lines().map(|line| line.split("//").next().unwrap_or_default());
    lines.collect::<Vec<_>>().join("\n")
}

/// Every path of this crate that the text of a module names.
fn paths(here: &[String], text: &str) -> Vec<Module> {
    let mut found = vec![];
    for (start, root) in ["crate::", "super::"].iter().flat_map(|r| text.match_indices(r)) {
        let before = text[..start].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || "_$:".contains(c)) {
            continue;
        }
        let mut at = &text[start + root.len()..];
        let mut from = if root == "crate::" { vec![] } else { parent(here) };
        while let Some(rest) = at.strip_prefix("super::") {
            (from, at) = (parent(&from), rest);
        }
        expand(&from, at, &mut found);
    }
    found
}

fn parent(module: &[String]) -> Module {
    module[..module.len().saturating_sub(1)].to_vec()
}

/// Adds what a path or tree of paths (`a::{b, c::d}`) names; returns the text behind it.
fn expand<'t>(prefix: &[String], mut text: &'t str, found: &mut Vec<Module>) -> &'t str {
    let mut path = prefix.to_vec();
    loop {
        text = text.trim_start();
        if let Some(mut tree) = text.strip_prefix('{') {
            loop {
                tree = expand(&path, tree, found).trim_start();
                match tree.strip_prefix(',') {
                    Some(rest) => tree = rest,
                    None => return tree.strip_prefix('}').unwrap_or(tree),
                }
            }
        }
        let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
        path.extend((end > 0).then(|| text[..end].to_string()));
        text = &text[end..];
        match text.strip_prefix("::") {
            Some(rest) => text = rest,
            None => break,
        }
    }
    found.push(path);
    text.trim_start_matches(|c: char| !",}".contains(c) && c != ';')
}

/// Which file uses which, a file and those below it left out: together they are one module.
fn files() -> Graph {
    let sources = sources();
    let mut graph = Graph::new();
    for (here, text) in &sources {
        let uses = graph.entry(here.join("::")).or_default();
        for path in paths(here, text) {
            let file =
                (0..=path.len()).rev().map(|n| &path[..n]).find(|p| sources.contains_key(*p));
            let Some(file) = file.filter(|file| !file.is_empty()) else { continue };
            if !here.starts_with(file) && !file.starts_with(here) {
                uses.insert(file.join("::"));
            }
        }
    }
    graph
}

fn top(name: &str) -> String {
    name.split("::").next().unwrap_or_default().into()
}

/// Which top-level module uses which.
fn modules() -> Graph {
    let mut graph = Graph::new();
    for (file, uses) in files().into_iter().filter(|(file, _)| !file.is_empty()) {
        let of = graph.entry(top(&file)).or_default();
        of.extend(uses.iter().map(|used| top(used)).filter(|used| *used != top(&file)));
    }
    graph
}

/// Takes away what uses nothing that is left, or is used by nothing that is left, again and again:
/// what remains lies on circles or between them.
fn circles(mut graph: Graph) -> Graph {
    loop {
        let before = graph.len();
        let left: BTreeSet<String> = graph.keys().cloned().collect();
        let used: BTreeSet<String> = graph.values().flatten().cloned().collect();
        graph.retain(|module, uses| {
            uses.retain(|used| left.contains(used));
            !uses.is_empty() && used.contains(module)
        });
        if graph.len() == before {
            return graph;
        }
    }
}

/// The table of src/lib.rs: each module, and in its second column what it uses.
fn table() -> Graph {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/src/lib.rs"));
    let text = text.expect("src/lib.rs");
    let names = |cell: &str| -> Vec<String> {
        let quoted = cell.split('`').skip(1).step_by(2);
        quoted.map(|name| name.trim_start_matches("mod@").to_string()).collect()
    };
    let mut graph = Graph::new();
    for line in text.lines().filter_map(|line| line.strip_prefix("//! | ")) {
        let cells: Vec<&str> = line.split(" | ").collect();
        for module in names(cells[0]) {
            graph.insert(module, names(cells[1]).into_iter().collect());
        }
    }
    graph
}

#[test]
fn the_map_of_the_code_is_true() {
    let (table, real) = (table(), modules());
    let mut wrong = vec![];
    for module in table.keys().chain(real.keys()).collect::<BTreeSet<_>>() {
        let (told, seen) = (table.get(module), real.get(module));
        if told != seen {
            wrong.push(format!("{module}\n  src/lib.rs says {told:?}\n  the code says   {seen:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_module_uses_itself_by_way_of_others() {
    assert_eq!(circles(modules()), Graph::new());
}

#[test]
fn no_file_uses_itself_by_way_of_others() {
    assert_eq!(circles(files()), Graph::new());
}

#[test]
fn every_form_of_a_path_is_seen() {
    let here = ["a", "b"].map(String::from);
    let text = "use crate::x::{self, y::Z, w::{V, U as T}};\nsuper::c::f(); mysuper::no();\n\
                use super::super::{d, e::*};";
    let seen: BTreeSet<String> = paths(&here, text).iter().map(|p| p.join("::")).collect();
    let all = ["x::self", "x::y::Z", "x::w::V", "x::w::U", "a::c::f", "d", "e"];
    assert_eq!(seen, all.map(String::from).into(), "{seen:?}");
}

/// Types that a file declares, and the lengths of its functions.
fn declared(text: &str) -> (Vec<&str>, Vec<usize>) {
    let lines: Vec<&str> = text.lines().collect();
    let mut types = vec![];
    let mut functions = vec![];
    for (at, line) in lines.iter().enumerate() {
        let indent = line.len() - line.trim_start().len();
        let words: Vec<&str> = line.split_whitespace().collect();
        let words = match words.first() {
            Some(first) if first.starts_with("pub") => &words[1..],
            _ => &words[..],
        };
        if let [kind, name, ..] = words
            && indent == 0
            && ["struct", "enum", "trait", "union"].contains(kind)
        {
            types.push(name.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default());
        }
        if words.contains(&"fn") && !line.ends_with(';') && !line.trim_start().starts_with("///") {
            let close = format!("{}}}", " ".repeat(indent));
            functions.extend(lines[at..].iter().position(|l| *l == close).map(|n| n + 1));
        }
    }
    (types, functions)
}

/// What is over the limits of CONTRIBUTING.md may become less, never more: lower the numbers when it
/// does. A name that two types share has a reader look at the wrong one.
#[test]
fn names_functions_and_files_keep_to_their_limits() {
    let sources = sources();
    let mut names: BTreeMap<&str, usize> = BTreeMap::new();
    let (mut long, mut large) = (vec![], vec![]);
    for (module, text) in &sources {
        let (types, functions) = declared(text);
        types.into_iter().for_each(|name| *names.entry(name).or_default() += 1);
        long.extend(functions.into_iter().filter(|n| *n > 70).map(|n| (module.join("::"), n)));
        let lines = text.lines().count();
        large.extend((lines > 500).then(|| (module.join("::"), lines)));
    }
    let twice: Vec<_> = names.into_iter().filter(|(_, n)| *n > 1).collect();
    assert!(twice.is_empty(), "{} type names occur more than once: {twice:?}", twice.len());
    assert!(long.is_empty(), "functions over 70 lines: {long:?}");
    assert!(large.is_empty(), "files over 500 lines: {large:?}");
}

#[test]
fn types_and_functions_are_seen() {
    let text = "pub(crate) struct One<T>(T);\nenum Two {}\nfn f() {\n    g();\n}\nuse a::b;\n";
    assert_eq!(declared(text), (vec!["One", "Two"], vec![3]));
}

/// What stands between the angle brackets that a text begins behind, apart at its commas.
fn arguments(text: &str) -> Vec<&str> {
    let (mut depth, mut from, mut before) = (0, 0, ' ');
    let mut found = vec![];
    for (at, c) in text.char_indices() {
        match c {
            '<' | '(' | '[' => depth += 1,
            // An arrow closes nothing.
            '>' if before == '-' => {}
            '>' | ')' | ']' if depth == 0 => {
                found.push(text[from..at].trim());
                return found;
            }
            '>' | ')' | ']' => depth -= 1,
            ',' if depth == 0 => {
                found.push(text[from..at].trim());
                from = at + 1;
            }
            _ => {}
        }
        before = c;
    }
    found
}

fn has_bare_error(text: &str) -> bool {
    let results = text.match_indices("Result<").map(|(at, name)| &text[at + name.len()..]);
    let last = |rest| arguments(rest).get(1).copied();
    let named = ["type Err = String", "type Error = String"];
    results.map(last).any(|error| error == Some("String")) || named.iter().any(|n| text.contains(n))
}

/// Of an error that is a bare text a caller can only compare the words.
#[test]
fn no_error_is_a_bare_text() {
    for bare in ["Result<u64, String>", "Result<Vec<(u8, u8)>,\n String>", "type Err = String;"] {
        assert!(has_bare_error(bare), "{bare}");
    }
    for fine in ["io::Result<String>", "Result<fn(u8) -> u8, Fault>", "Result<(), Option<String>>"]
    {
        assert!(!has_bare_error(fine), "{fine}");
    }
    let bare: Vec<Module> =
        sources().into_iter().filter(|(_, t)| has_bare_error(t)).map(|(m, _)| m).collect();
    assert!(bare.is_empty(), "{bare:?}");
}

/// Literals that a text is compared with or taken apart by; arms of a match are not seen.
fn decided_by(text: &str) -> Vec<&str> {
    let ways = [
        "== \"",
        "!= \"",
        "== Some(\"",
        "contains(\"",
        "contains(&\"",
        "find(\"",
        "s_with(\"",
        "split(\"",
        "split_once(\"",
        "strip_prefix(\"",
        "strip_suffix(\"",
        "_matches(\"",
    ];
    let behind = ways.iter().flat_map(|way| text.match_indices(way).map(|(at, _)| at + way.len()));
    // What looks like a comment, as in an address, has been cut off together with its end.
    let literals = behind.filter_map(|at| text[at..].split('"').next());
    literals.filter(|literal| !literal.contains('\n')).collect()
}

/// Words are for readers, and change as sentences do: whoever decides by them decides otherwise then.
/// What is shown decides by no text at all, the rest of the crate by none of several words.
#[test]
fn no_prose_decides() {
    let seen = decided_by(
        "if a == \"x y\" || b.starts_with(\"z\") { c(\"d e\").split_once(\"; first \") }",
    );
    assert_eq!(seen, ["x y", "z", "; first "]);
    let allowed = [
        ("config", "--set ", "an argument as it was typed"),
        ("driver::host", "version ", "what the C library says of itself"),
        ("format::record", " allows ", "rows of before `limit` was a field"),
        ("report::capacity::hosts", "host", "a key of the user's file"),
        ("results::store::told", " at line ", "what serde_json adds to its errors"),
        ("side::split", " kB", "a unit in a file of the kernel"),
    ];
    let mut found = BTreeSet::new();
    for (module, text) in sources() {
        let shown = ["report", "stats"].contains(&module.first().map_or("", String::as_str));
        let is_prose = |text: &&str| text.contains(' ') && text.contains(char::is_alphabetic);
        let decided = decided_by(&text).into_iter().filter(|text| shown || is_prose(text));
        found.extend(decided.map(|text| (module.join("::"), text.to_string())));
    }
    let allowed = allowed.map(|(module, text, _)| (module.to_string(), text.to_string()));
    assert_eq!(found, BTreeSet::from(allowed));
}

/// Beside its row in `plan` and its own file, a new codec or engine needs the one file that starts it.
#[test]
fn every_codec_and_engine_is_started_in_one_file() {
    fn names_all<T: std::fmt::Debug>(kind: &str, all: &[T]) -> Vec<String> {
        let named = |text: &str, one: &T| {
            let name = format!("{kind}::{one:?}");
            text.match_indices(&name).any(|(at, _)| !text[..at].ends_with(char::is_alphanumeric))
        };
        let mut files = sources();
        files.retain(|_, text| all.iter().all(|one| named(text, one)));
        files.into_keys().map(|module| module.join("::")).collect()
    }
    assert_eq!(names_all("Codec", &Codec::ALL), ["codec"]);
    assert_eq!(names_all("Engine", &Engine::ALL), ["engine"]);
    assert_eq!(names_all("ServerEngine", &ServerEngine::ALL), ["server"]);
}

/// A page that sends its reader to a file names one that is there.
#[test]
fn files_that_pages_name_are_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut named = 0;
    for page in ["README.md", "CONTRIBUTING.md", "docs/architecture.md", "docs/servers.md"] {
        let text = std::fs::read_to_string(root.join(page)).expect("a page");
        let words = text.split(|c: char| c.is_whitespace() || "`()[]|,;:*…".contains(c));
        let within = ["src/", "docs/", "configs/", "scripts/", "tests/", "benches/"];
        for word in words.filter(|w| within.iter().any(|dir| w.starts_with(dir))) {
            named += 1;
            let path = root.join(word.trim_end_matches(['.', '/']));
            assert!(path.exists(), "{page} names {word}, which is not there");
        }
    }
    assert!(named > 20, "{named} files are named");
}

/// Programs of tests are listed by hand, so that a file in none of them would never run.
#[test]
fn every_file_of_tests_runs_in_one_program() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &Path| std::fs::read_to_string(path).expect("a text file");
    let files: BTreeSet<String> = std::fs::read_dir(root.join("tests"))
        .expect("the tests")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|e| e == "rs"))
        .map(|path| path.file_stem().expect("a name").to_string_lossy().into_owned())
        .collect();
    let manifest: toml::Table = read(&root.join("Cargo.toml")).parse().expect("a manifest");
    let programs = manifest["test"].as_array().expect("programs").iter();
    let mut runs: Vec<String> = vec![];
    for name in programs.map(|program| program["name"].as_str().expect("a name")) {
        let path = root.join("tests").join(name).with_extension("rs");
        // A program with a directory of its own has its main file there.
        let Some(text) = path.exists().then(|| read(&path)) else { continue };
        let modules = text.lines().filter_map(|line| line.strip_prefix("mod ")?.strip_suffix(';'));
        runs.extend(modules.map(str::to_string).filter(|name| files.contains(name)));
        runs.push(name.to_string());
    }
    runs.sort();
    assert_eq!(runs, files.into_iter().collect::<Vec<_>>(), "each file once");
}
