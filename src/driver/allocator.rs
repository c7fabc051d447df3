//! Which allocator the workers run with, and how it is set.

use std::fmt::Write;

/// The C library's allocator, which every binary of this package uses.
const NAME: &str = if cfg!(target_env = "musl") { "musl malloc" } else { "glibc malloc" };

/// The allocator with the settings that workers inherit from this process's environment.
pub(super) fn describe() -> String {
    describe_with(|name| std::env::var_os(name).map(|v| v.to_string_lossy().into_owned()))
}

/// `glibc malloc`, or with what deviates from its defaults: `glibc malloc, MALLOC_ARENA_MAX=1`.
fn describe_with(variable: impl Fn(&str) -> Option<String>) -> String {
    let mut text = NAME.to_string();
    // Both move the resident set by tens of percent; either may set the number of arenas.
    for name in ["MALLOC_ARENA_MAX", "GLIBC_TUNABLES"] {
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
