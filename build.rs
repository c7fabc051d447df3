//! Tells the binary which revision it is built from: `DUEL_GIT_REVISION`.

use std::path::Path;
use std::process::Command;

fn git(args: &[&str]) -> Option<String> {
    let output = Command::new("git").args(args).output().ok().filter(|o| o.status.success())?;
    String::from_utf8(output.stdout).ok().map(|text| text.trim().to_string())
}

fn main() {
    println!("cargo::rerun-if-env-changed=DUEL_GIT_REVISION");
    // A packager's own value stands; a checkout that merely surrounds these sources does not count.
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).canonicalize().ok();
    let top =
        git(&["rev-parse", "--show-toplevel"]).and_then(|t| Path::new(&t).canonicalize().ok());
    if std::env::var_os("DUEL_GIT_REVISION").is_some() || top.is_none() || top != here {
        return;
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
    if let Some(revision) = git(&["rev-parse", "--short=12", "HEAD"]) {
        let status = ["status", "--porcelain", "--"].iter().chain(&built).copied();
        let clean = git(&status.collect::<Vec<_>>()).is_some_and(|changes| changes.is_empty());
        let suffix = if clean { "" } else { "-dirty" };
        println!("cargo::rustc-env=DUEL_GIT_REVISION={revision}{suffix}");
    }
}
