//! Which allocator a worker runs with.
//!
//! Another allocator is preloaded (`LD_PRELOAD`) rather than compiled in: a dispatching global
//! allocator would put a branch before every allocation of every trial, and a second allocator's
//! thread-local storage on every lane's stack, whether swept or not. This way a trial without it
//! pays nothing, and what is measured is the library that the user would ship.

use std::fmt;
use std::str::FromStr;

use anyhow::bail;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Most arenas that may be asked for; glibc's own default is eight per CPU.
pub(crate) const MOST_ARENAS: u32 = 1_024;

const GLIBC: &str = "glibc";
const ARENAS: &str = "glibc-arenas-";

/// A value of `[sweep] allocators`.
#[derive(
    Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[schemars(with = "String")]
#[serde(try_from = "String", into = "String")]
pub enum Allocator {
    Glibc,
    /// glibc's with at most this many arenas: `glibc-arenas-1`.
    GlibcArenas(u32),
    /// A shared library that takes its place: an absolute path.
    Preloaded(String),
}

impl Allocator {
    /// Short, for cell ids and names of rows: of a library its file name without what follows the
    /// first dot.
    pub fn name(&self) -> String {
        match self {
            Allocator::Glibc => GLIBC.into(),
            Allocator::GlibcArenas(most) => format!("{ARENAS}{most}"),
            Allocator::Preloaded(path) => {
                let file = path.rsplit('/').next().unwrap_or(path);
                file.split('.').next().unwrap_or(file).into()
            }
        }
    }
}

impl fmt::Display for Allocator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Allocator::Preloaded(path) => f.write_str(path),
            known => f.write_str(&known.name()),
        }
    }
}

impl FromStr for Allocator {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "/-_.+".contains(c);
        if text == GLIBC {
            return Ok(Allocator::Glibc);
        }
        let arenas = text.strip_prefix(ARENAS).and_then(|n| n.parse().ok());
        if let Some(most) = arenas.filter(|n| (1..=MOST_ARENAS).contains(n)) {
            return Ok(Allocator::GlibcArenas(most));
        }
        let path = Allocator::Preloaded(text.into());
        // The loader splits its list at spaces and colons, and a name becomes part of a cell's id.
        if text.starts_with('/') && text.chars().all(plain) && !path.name().is_empty() {
            return Ok(path);
        }
        bail!(
            "`{text}` is not an allocator: allowed are \"glibc\", \"glibc-arenas-1\" to \
             \"glibc-arenas-{MOST_ARENAS}\", and the absolute path of a shared library, such as \
             \"/usr/lib/x86_64-linux-gnu/libjemalloc.so.2\""
        )
    }
}

super::one_string!(Allocator);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allocators_are_read_as_they_are_printed() {
        let library = "/usr/lib/x86_64-linux-gnu/libjemalloc.so.2";
        for (text, allocator, name) in [
            ("glibc", Allocator::Glibc, "glibc"),
            ("glibc-arenas-1", Allocator::GlibcArenas(1), "glibc-arenas-1"),
            (library, Allocator::Preloaded(library.into()), "libjemalloc"),
        ] {
            assert_eq!(text.parse::<Allocator>().unwrap(), allocator);
            assert_eq!((allocator.to_string().as_str(), allocator.name().as_str()), (text, name));
        }
        for wrong in [
            "",
            "jemalloc",
            "glibc-arenas-0",
            "glibc-arenas-9999",
            "glibc-arenas-x",
            "a/b",
            "/a b.so",
            "/a:b.so",
            "/",
        ] {
            let error = wrong.parse::<Allocator>().unwrap_err().to_string();
            assert!(error.contains("allowed are"), "{wrong}: {error}");
        }
    }
}
