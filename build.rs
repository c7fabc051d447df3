//! Tells the binary its version, `DUEL_VERSION`, and, where it is known, the revision that it is
//! built from, `DUEL_GIT_REVISION`.

use std::path::Path;
use std::process::Command;

fn git(args: &[&str]) -> Option<String> {
    let output = Command::new("git").args(args).output().ok().filter(|o| o.status.success())?;
    String::from_utf8(output.stdout).ok().map(|text| text.trim().to_string())
}

/// The revision of a checkout of these very sources, with `-dirty` where they were changed.
fn revision() -> Option<String> {
    // Read as the script runs: a build directory that was copied holds the script of another place.
    let here = Path::new(&std::env::var_os("CARGO_MANIFEST_DIR")?).canonicalize().ok()?;
    // A checkout that merely surrounds these sources does not count.
    let top = Path::new(&git(&["rev-parse", "--show-toplevel"])?).canonicalize().ok()?;
    if top != here {
        return None;
    }
    let branch = git(&["symbolic-ref", "--quiet", "HEAD"]);
    for name in ["HEAD", "packed-refs"].into_iter().chain(branch.as_deref()) {
        // Naming a file that does not exist would rebuild every time.
        if let Some(path) =
            git(&["rev-parse", "--git-path", name]).filter(|p| Path::new(p).exists())
        {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    // Only what is built can make the binary differ from the commit.
    let built = ["build.rs", "src", "Cargo.toml", "Cargo.lock"];
    built.iter().for_each(|path| println!("cargo::rerun-if-changed={path}"));
    let revision = git(&["rev-parse", "--short=12", "HEAD"])?;
    let status = ["status", "--porcelain", "--"].iter().chain(&built).copied();
    let clean = git(&status.collect::<Vec<_>>()).is_some_and(|changes| changes.is_empty());
    let suffix = if clean { "" } else { "-dirty" };
    Some(format!("{revision}{suffix}"))
}

fn main() {
    println!("cargo::rerun-if-env-changed=DUEL_GIT_REVISION");
    println!("cargo::rerun-if-changed=build.rs");
    let version = std::env::var("CARGO_PKG_VERSION").unwrap_or_default();
    // A packager's own value stands; an archive of the sources has none.
    let version = match std::env::var("DUEL_GIT_REVISION").ok().or_else(revision) {
        Some(revision) => {
            println!("cargo::rustc-env=DUEL_GIT_REVISION={revision}");
            format!("{version} ({revision})")
        }
        None => version,
    };
    println!("cargo::rustc-env=DUEL_VERSION={version}");
}
