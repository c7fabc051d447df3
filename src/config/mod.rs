//! Configs: TOML and `--set` in, a resolved [`Sweep`] or one clear error out.
//!
//! * `node` is what was written, each value with its place: a line, a `--set` or a flag.
//! * `entry` is what is known of a key; `keys` declares every key once: type, bounds, default, example and what it is for.
//! * `read` turns nodes into typed values and notes every fault on the way.
//! * `resolve` checks values against each other.
//! * [`mod@reference`] prints the keys, [`starter`] makes configs to begin with, [`mod@write`] the next one.

mod entry;
mod keys;
mod kinds;
mod node;
mod read;
pub(crate) mod reference;
mod resolve;
pub mod starter;
mod tables;
pub(crate) mod write;

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::plan::sweep::Sweep;
use crate::plan::values::without_mark;
use node::{Fault, Node, Place};
pub(crate) use node::{Setting, Value};
use read::Keyed as _;

/// Longest config; what is longer is not one.
const MAX_CONFIG_BYTES: u64 = 1 << 20;

/// Most faults that are told at once.
const MOST_FAULTS: usize = 20;

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("{}: cannot be read: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{}: sets no key: `duel init` prints a config to begin with", path.display())]
    Empty { path: PathBuf },
    #[error("{0}")]
    Invalid(Invalid),
}

/// What is wrong with a config, a line for each fault: where, which key, what was found and what is
/// allowed.
#[derive(Debug)]
pub struct Invalid {
    file_name: String,
    faults: Vec<Fault>,
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> =
            self.faults.iter().take(MOST_FAULTS).map(|fault| fault.line(&self.file_name)).collect();
        f.write_str(&lines.join("\n"))?;
        match self.faults.len().saturating_sub(MOST_FAULTS) {
            0 => Ok(()),
            more => write!(f, "\n{}: and {more} more", self.file_name),
        }
    }
}

/// The text of a file that a user writes: bounded, so that a device ends, without its byte-order mark.
pub(crate) fn read_text(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_CONFIG_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_CONFIG_BYTES {
        return Err(io::Error::other("it holds more than 1 MiB"));
    }
    match std::str::from_utf8(without_mark(&bytes)) {
        Ok(text) => Ok(text.into()),
        Err(error) => {
            let before = &bytes[..error.valid_up_to()];
            let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
            Err(io::Error::other(format!("line {line} is not UTF-8")))
        }
    }
}

/// Reads the config at `path`, with `key=value` overrides laid over it in their order.
pub fn load(path: &Path, overrides: &[String]) -> Result<Sweep, ConfigError> {
    let text = read_text(path).map_err(|source| ConfigError::Read { path: path.into(), source })?;
    let empty = overrides.is_empty() && node::parse(&text).is_ok_and(|table| table.is_empty());
    if empty {
        return Err(ConfigError::Empty { path: path.into() });
    }
    let base_dir = path.parent().unwrap_or(Path::new(""));
    parse(&text, &path.display().to_string(), overrides, base_dir)
}

/// Resolves the text of a config. `file_name` stands in errors and gives the sweep its default
/// name; `body_file`s are relative to `base_dir`.
pub fn parse(
    text: &str,
    file_name: &str,
    overrides: &[String],
    base_dir: &Path,
) -> Result<Sweep, ConfigError> {
    with_flags(text, file_name, vec![], overrides, base_dir)
}

/// A sweep from flags, which take the place of a config, and `key=value` overrides of them.
pub(crate) fn from_flags(flags: Vec<Setting>, overrides: &[String]) -> Result<Sweep, ConfigError> {
    with_flags("", "command line", flags, overrides, Path::new("."))
}

fn with_flags(
    text: &str,
    file_name: &str,
    flags: Vec<Setting>,
    overrides: &[String],
    base_dir: &Path,
) -> Result<Sweep, ConfigError> {
    let resolved = || {
        let mut root = node::parse(text)?;
        let mut faults = Vec::new();
        let settings = flags.into_iter().map(Ok).chain(overrides.iter().map(|o| Setting::parse(o)));
        for setting in settings {
            let mut laid = root.clone();
            match setting.and_then(|setting| setting.lay_over(&mut laid, keys::File::KEYS)) {
                Ok(()) => root = laid,
                Err(fault) => faults.push(fault),
            }
        }
        let root = Node { place: Place::whole(), value: Value::Table(root) };
        match keys::read(&root) {
            Ok(file) if faults.is_empty() => resolve::resolve(file, file_name, base_dir),
            read => {
                faults.extend(read.err().unwrap_or_default());
                Err(faults)
            }
        }
    };
    resolved().map_err(|mut faults: Vec<Fault>| {
        // In the order in which a reader meets them.
        faults.sort_by_key(|fault| fault.place.line());
        ConfigError::Invalid(Invalid { file_name: file_name.into(), faults })
    })
}

/// The default of a key that has one value, as a flag takes it.
///
/// # Panics
/// There is no such key, or its default is said in words.
pub(crate) fn default_of(path: &str) -> &'static str {
    let (_, entry) = keys::all().into_iter().find(|(known, _)| known == path).expect("a key");
    assert!(entry.default_is_toml(), "{path} has no default that is a value");
    entry.default.trim_matches(['[', ']', '"'])
}

/// A message about keys in the words of a command whose flags, each with its key, stand for them; what
/// `--set` names is a key there as well.
pub(crate) fn in_flags(message: &str, flags: &[(&str, &str)]) -> String {
    let mut said = message.to_string();
    for (flag, key) in flags {
        let mut from = 0;
        while let Some(at) = said[from..].find(key).map(|at| from + at) {
            let (before, after) = (&said[..at], &said[at + key.len()..]);
            let in_name = |c: char| c.is_alphanumeric() || "_-".contains(c);
            let longer = before.ends_with(|c| in_name(c) || c == '.')
                || after.starts_with(in_name)
                || after.strip_prefix('.').is_some_and(|rest| rest.starts_with(in_name));
            let word = if longer || before.ends_with("--set ") { key } else { flag };
            from = at + word.len();
            said.replace_range(at..at + key.len(), word);
        }
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::TrialPlan;
    use crate::plan::cell::STACK_BYTES;
    use crate::plan::prepare::RENDERINGS_BY_TIME;
    use crate::stats::precision::FEWEST_BLOCKS;

    fn resolved(text: &str) -> Result<Sweep, ConfigError> {
        parse(text, "x.toml", &[], Path::new("."))
    }

    /// A default that is said is the one that is taken: of every key that may stand alone.
    #[test]
    fn a_key_that_is_set_to_its_default_changes_nothing() {
        let empty = resolved("").unwrap();
        let mut compared = 0;
        for (path, entry) in keys::all() {
            let alone = path.split_once('.').is_some_and(|(_, key)| !key.contains('.'));
            if !alone || !entry.is_leaf() || entry.default.is_empty() || !entry.default_is_toml() {
                continue;
            }
            // What is refused alone, such as the linger without a batch, needs more than itself.
            if let Ok(sweep) = resolved(&format!("{path} = {}", entry.default)) {
                let budget = path == "sweep.budget";
                assert!(sweep == empty || budget, "{path} = {}", entry.default);
                compared += 1;
            }
        }
        assert!(compared > 25, "{compared} were compared");
        let short = resolved("plan.duration = '1ms'").unwrap().precision;
        assert_eq!(
            short,
            resolved("plan.duration = '1ms'\nsweep.budget = '3m'").unwrap().precision
        );
    }

    /// What others assume of a plan that says nothing, and what is said in words, is what configs have.
    #[test]
    fn no_default_stands_twice_with_two_values() {
        let Sweep { plan, axes, equal_within, .. } = resolved("").unwrap();
        let assumed = TrialPlan::default();
        assert_eq!((assumed.timeout_ns, assumed.seed), (plan.timeout_ns, plan.seed));
        assert_eq!((assumed.pacer, assumed.keep_alive), (plan.pacer, plan.keep_alive));
        assert_eq!(assumed.mix, plan.mix);
        assert_eq!(axes.stack_sizes_bytes, [STACK_BYTES]);
        assert_eq!(equal_within, crate::plan::slo::MARGIN);
        let words = |path: &str| {
            let (_, entry) = keys::all().into_iter().find(|(known, _)| known == path).unwrap();
            entry.default.to_string() + entry.unless
        };
        assert!(words("plan.renderings").contains("10k by") && RENDERINGS_BY_TIME == 10_000);
        assert!(words("sweep.budget").ends_with("ten blocks take") && FEWEST_BLOCKS == 10);
    }

    #[test]
    fn keys_are_told_as_flags() {
        let flags = [("URL", "target.url"), ("-n", "plan.requests"), ("-c", "sweep.lanes")];
        for (message, told) in [
            ("remove it or `target.url`", "remove it or `URL`"),
            ("raise plan.requests.", "raise -n."),
            ("plan.requests", "-n"),
            ("target.url: target.url: no", "URL: URL: no"),
            ("--set sweep.lanes: beside sweep.lanes", "--set sweep.lanes: beside -c"),
            // Other keys.
            ("target.urls, a.target.url, target.url.x", "target.urls, a.target.url, target.url.x"),
            ("sweep.lanes[0] \u{fc}sweep.lanes", "-c[0] \u{fc}sweep.lanes"),
        ] {
            assert_eq!(in_flags(message, &flags), told);
        }
    }
}
