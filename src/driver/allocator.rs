//! Which allocator the workers run with, and how it is set.

use std::fmt::Write;

use anyhow::anyhow;

use crate::limits::Limits;
use crate::plan::Cell;
use crate::plan::allocator::Allocator;

/// The C library's allocator, which every binary of this package uses.
const NAME: &str = if cfg!(target_env = "musl") { "musl malloc" } else { "glibc malloc" };

/// Where glibc reads its settings, among them how many arenas there may be.
const TUNABLES: &str = "GLIBC_TUNABLES";
const ARENA_MAX: &str = "MALLOC_ARENA_MAX";
const ARENA_TUNABLE: &str = "glibc.malloc.arena_max";

/// glibc reserves 1.7 kB at the top of every thread's stack for thread-locals of libraries that a
/// program may load later. A worker loads none, and without the reserve what a lean lane uses of
/// its stack is two pages instead of three. Without effect under another libc.
const OURS: &str = "glibc.rtld.optional_static_tls=0:glibc.rtld.nns=1";

/// The allocator that a cell's workers are given: the one that the sweep names, or glibc's with few
/// arenas where an address space with an end would not hold all of them beside the stacks; `None`
/// leaves it to the environment.
pub(super) fn of(cell: &Cell, limits: &Limits) -> Option<Allocator> {
    let says = |name, what: &str| of_environment(name).is_some_and(|set| set.contains(what));
    let decided = says(ARENA_MAX, "") || says(TUNABLES, ARENA_TUNABLE);
    let few = limits.arenas_at_most().filter(|_| !decided);
    cell.allocator.clone().or(few.map(Allocator::GlibcArenas))
}

/// The allocator of a cell's workers: the one that the sweep names, or else the C library's with
/// the settings that workers inherit from this process's environment.
pub(super) fn describe(swept: Option<&Allocator>) -> String {
    match swept {
        None => describe_with(of_environment),
        Some(Allocator::Glibc) => NAME.into(),
        Some(Allocator::GlibcArenas(most)) => format!("{NAME}, {ARENA_MAX}={most}"),
        Some(Allocator::Preloaded(path)) => format!("{path}, preloaded"),
    }
}

fn of_environment(name: &str) -> Option<String> {
    std::env::var_os(name).map(|v| v.to_string_lossy().into_owned())
}

/// What a worker's environment needs so that it runs with this allocator; `None` removes a name.
///
/// # Errors
/// The library cannot be loaded for want of a file: the loader itself would only warn.
pub(super) fn environment(
    swept: Option<&Allocator>,
) -> anyhow::Result<Vec<(&'static str, Option<String>)>> {
    let mut set = vec![(TUNABLES, Some(tunables(swept)))];
    let Some(allocator) = swept else { return Ok(set) };
    set.push((ARENA_MAX, None));
    match allocator {
        Allocator::Glibc => {}
        Allocator::GlibcArenas(most) => set[1].1 = Some(most.to_string()),
        Allocator::Preloaded(path) => {
            std::fs::File::open(path)
                .map_err(|e| anyhow!("the allocator {path} cannot be loaded: {e}"))?;
            set.push(("LD_PRELOAD", Some(path.clone())));
        }
    }
    Ok(set)
}

/// What `GLIBC_TUNABLES` holds for a worker. What the user set stands last, where glibc lets it win,
/// but for what the sweep varies, which must not be decided for every program.
pub(super) fn tunables(swept: Option<&Allocator>) -> String {
    let users = of_environment(TUNABLES).unwrap_or_default();
    let kept = |t: &&str| !t.is_empty() && (swept.is_none() || !t.starts_with(ARENA_TUNABLE));
    std::iter::once(OURS).chain(users.split(':').filter(kept)).collect::<Vec<_>>().join(":")
}

/// `glibc malloc`, or with what deviates from its defaults: `glibc malloc, MALLOC_ARENA_MAX=1`.
fn describe_with(variable: impl Fn(&str) -> Option<String>) -> String {
    let mut text = NAME.to_string();
    // Both move the resident set by tens of percent; either may set the number of arenas.
    for name in [ARENA_MAX, TUNABLES] {
        if let Some(value) = variable(name).filter(|v| !v.is_empty()) {
            // Writing to a String cannot fail.
            let _ = write!(text, ", {name}={value}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_swept_allocator_decides_whatever_the_environment_says() {
        let arenas = Allocator::GlibcArenas(2);
        let set = environment(Some(&arenas)).unwrap();
        assert!(set.contains(&(ARENA_MAX, Some("2".into()))), "{set:?}");
        assert_eq!(describe(Some(&arenas)), format!("{NAME}, {ARENA_MAX}=2"));
        let set = environment(Some(&Allocator::Glibc)).unwrap();
        assert!(set.contains(&(ARENA_MAX, None)), "{set:?}");
        let names: Vec<_> = environment(None).unwrap().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, [TUNABLES], "the rest is the user's");
        let absent = Allocator::Preloaded("/no/such/library.so".into());
        let error = environment(Some(&absent)).unwrap_err().to_string();
        assert!(error.contains("/no/such/library.so") && error.contains("No such file"), "{error}");
    }

    #[test]
    fn settings_that_move_memory_are_named() {
        let with = |set: &[(&str, &str)]| {
            describe_with(|n| set.iter().find(|(name, _)| *name == n).map(|(_, v)| v.to_string()))
        };
        assert_eq!(with(&[]), NAME);
        assert_eq!(with(&[("MALLOC_ARENA_MAX", "")]), NAME, "an empty setting sets nothing");
        let both = [("GLIBC_TUNABLES", "glibc.malloc.tcache_count=0"), ("MALLOC_ARENA_MAX", "1")];
        let expected = ", MALLOC_ARENA_MAX=1, GLIBC_TUNABLES=glibc.malloc.tcache_count=0";
        assert_eq!(with(&both), format!("{NAME}{expected}"));
    }
}
