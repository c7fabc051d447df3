//! Configs: TOML and `--set` in, a resolved [`Sweep`] or one clear error out.
//!
//! * `source` keeps text and overrides apart, so that an error can name the line or the override;
//!   `explain` finds the key and the words.
//! * `file` mirrors the TOML; keys that it does not know are refused.
//! * `resolve` checks values against each other and fills in the defaults.
//!
//! | key | default |
//! |---|---|
//! | `name` | the file's name without its extension |
//! | `target.service_time`, `servers`, `processes`, `body` | `0`, `0` (no limit), `1`, `1KiB` |
//! | `plan.arrivals`, `duration`, `warmup`, `timeout`, `seed` | `closed`, `10s`, `0`, `5s`, `1` |
//! | `plan.pacer`, `expect_status` | `precise`, 200 to 399 |
//! | `target.unix_socket`, `ca_file`, `insecure` | none, the system's authorities, `false` |
//! | `plan.keep_alive` | `true` |
//! | `plan.heartbeat` | `false`; `true` adds a lane that ticks every millisecond beside the load |
//! | `plan.trace_speed`, `trace_format` | `1`, told by the first line |
//! | `plan.renderings` | as many as requests, or 10,000 by `duration` |
//! | `plan.request` | one `GET /`, or the path of `target.url` |
//! | `plan.request.step` | the exchange alone |
//! | a file step's `op`, `files`, `direct`, `sync`, `dir` | `read`, `16`, `false`, `false`, the system's for temporary files |
//! | `sweep.offload` | `inline`, where requests have file or compute steps |
//! | `sweep.engines`, `codecs`, `lanes`, `processes`, `cpus` | all, `hyper`, `64`, `1`, `1` |
//! | `sweep.stack_sizes`, `rayon_threads` | `64KiB` (`128KiB` for https), `lanes` |
//! | `sweep.memory` | `false`; `true` splits memory in trials beside the others, `"only"` in no others |
//! | `sweep.allocators` | the C library's as the environment sets it; or `"glibc"`, `"glibc-arenas-N"`, the path of a library to preload |
//! | `search.tolerance`, `probes`, `trials`, `max_trials` | `0.05`, `15`, `3`, `10` |
//! | `search.min_rate`, `max_rate` | the least that `max_trials` windows can judge, `1M` |
//! | `sweep.trials`, `baseline` | `10`, `threads` or else the first engine |
//! | `sweep.equal_within` | `"5%"`: ratios this close to 1 are as good as equal |
//!
//! Ten seconds of window is also wrk's default; a timeout of five is far above what a loopback
//! target needs and still bounds a sweep that meets a dead one.
//!
//! **Traces and stages** bring their own rates and take the place of `sweep.rates`. `arrivals =
//! "trace"` replays `trace`, a file beside the config (see [`crate::plan::trace`] for its forms
//! and what of a log is replayed), whole or up to `requests` or `duration`; its warm-up is its
//! first `warmup`. `stages` is a list of `{ duration, rate }` and `{ duration, from, to }` for
//! `constant` and `poisson` arrivals, as long as the window is to be.
//!
//! **Search**: with a table `[search]`, each cell (without a rate) is searched for the highest rate
//! that meets `[slo]`, in place of `sweep.rates` and `sweep.trials`; see [`crate::plan::search`].
//!
//! **Steps**: `[[plan.request.step]]` of `kind = "http"`, `"file"` or `"compute"` make a request a
//! list of them, carried out in order; exactly one is `http`, the exchange itself. A `file` step
//! opens, reads or writes (`op`) and closes one of `files` files of `bytes` each that duel makes
//! below `dir` before the clock starts and removes afterwards; `direct` goes past the page cache,
//! `sync` waits for the disk. A `compute` step hashes `bytes` with SHA-256. See
//! [`crate::plan::steps`].
//!
//! **Values**: with a table `[plan.values]`, `{name}` in a path, a header value, a `body` or a
//! `body_file` that is UTF-8 stands for a value: `name = { counter = { start = 1, step = 1 } }`,
//! `{ random = [1, 1000] }` (both ends included) or `{ choice = "file" }` (a line of it). See
//! [`crate::plan::values`]. Requests are rendered before the clock starts, at most a million of
//! them and 512 MiB; `plan.renderings = K` renders K, and request i sends rendering i mod K.

mod explain;
mod file;
mod resolve;
mod source;

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::plan::sweep::Sweep;
use source::Source;

/// Longest config; what is longer is not one.
const MAX_CONFIG_BYTES: u64 = 1 << 20;

/// Why there is no sweep.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The config itself could not be read.
    #[error("{}: cannot be read: {source}", path.display())]
    Read {
        /// The config.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A key or value is not allowed.
    #[error("{place}: {}{message}", key.as_ref().map(|k| format!("{k}: ")).unwrap_or_default())]
    Invalid {
        /// `file:line`, or the override as `--set key`.
        place: String,
        /// Dotted key; `None` where the text is not TOML or the place says it already.
        key: Option<String>,
        /// What was found, and what is allowed.
        message: String,
    },
}

/// Reads the config at `path`, with `key=value` overrides laid over it in their order.
///
/// # Errors
/// The first key or value that is not allowed, with its place; see [`ConfigError`].
pub fn load(path: &Path, overrides: &[String]) -> Result<Sweep, ConfigError> {
    let read = |path: &Path| -> io::Result<String> {
        let mut text = String::new();
        File::open(path)?.take(MAX_CONFIG_BYTES + 1).read_to_string(&mut text)?;
        if text.len() as u64 > MAX_CONFIG_BYTES {
            return Err(io::Error::other("a config holds at most 1 MiB"));
        }
        Ok(text)
    };
    let text = read(path).map_err(|source| ConfigError::Read { path: path.into(), source })?;
    let base_dir = path.parent().unwrap_or(Path::new(""));
    parse(&text, &path.display().to_string(), overrides, base_dir)
}

/// Resolves the text of a config. `file_name` stands in errors and gives the sweep its default
/// name; `body_file`s are relative to `base_dir`.
///
/// # Errors
/// The first key or value that is not allowed, with its place; see [`ConfigError`].
pub fn parse(
    text: &str,
    file_name: &str,
    overrides: &[String],
    base_dir: &Path,
) -> Result<Sweep, ConfigError> {
    let source = Source::new(text, file_name, overrides)?;
    let tree = source.tree()?;
    let mirror = file::File::deserialize(toml::de::Deserializer::from(tree.clone()))
        .map_err(|error| source.explain(&tree, &error))?;
    resolve::resolve(mirror, file_name, base_dir)
        .map_err(|fault| source.place(&tree, &fault.span, fault.message))
}
