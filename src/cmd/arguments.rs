//! The command line as it may be written into files: made of what was parsed, so that a secret stays
//! out however it was typed.

use std::ffi::OsString;
use std::path::Path;

use clap::parser::ValueSource;

use crate::cli::Cli;
use crate::terminal::shell_word;

const MASK: &str = "***";

/// The arguments of a command, values of headers and bodies masked.
pub(super) fn masked(arguments: impl IntoIterator<Item = OsString>) -> Vec<String> {
    let command = Cli::declared();
    let mut shown = vec![command.get_name().to_string()];
    let Ok(parsed) = command.clone().try_get_matches_from(arguments) else { return shown };
    let Some((name, values)) = parsed.subcommand() else { return shown };
    shown.push(name.into());
    let declared = command.find_subcommand(name).into_iter().flat_map(clap::Command::get_arguments);
    for argument in declared {
        let id = argument.get_id().as_str();
        if values.value_source(id) != Some(ValueSource::CommandLine) {
            continue;
        }
        let flag = argument.get_long().map(|long| format!("--{long}"));
        if !argument.get_action().takes_values() {
            shown.extend(flag);
            continue;
        }
        for value in values.get_raw(id).into_iter().flatten() {
            shown.extend(flag.clone());
            shown.push(mask(id, &value.to_string_lossy()));
        }
    }
    shown
}

/// The command that goes on with a run directory: as this one was called, which `duel run` alone can.
pub(super) fn resuming(dir: &Path) -> String {
    let mut arguments: Vec<String> =
        std::env::args_os().map(|a| a.to_string_lossy().into_owned()).collect();
    if arguments.get(1).is_none_or(|command| command != "run") {
        return format!(
            "duel report {}   (only `duel run` can go on)",
            shell_word(&dir.display().to_string())
        );
    }
    let has = |flag: &str| arguments.iter().any(|a| a.split('=').next() == Some(flag));
    let (out, resume) = (has("--out"), has("--resume"));
    if !out {
        arguments.extend(["--out".into(), dir.display().to_string()]);
    }
    arguments.extend((!resume).then(|| "--resume".into()));
    arguments.iter().map(|a| shell_word(a)).collect::<Vec<_>>().join(" ")
}

/// A value without what may be secret in it.
fn mask(id: &str, value: &str) -> String {
    match (id, value.split_once([':', '='])) {
        ("headers", Some((name, _))) => format!("{name}: {MASK}"),
        ("body", _) if value.starts_with('@') => value.into(),
        ("headers" | "body", _) => MASK.into(),
        ("overrides", Some((key, _))) if ["header", "body"].iter().any(|w| value.contains(w)) => {
            format!("{key}={MASK}")
        }
        _ => value.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(arguments: &[&str]) -> String {
        let all = ["duel"].iter().chain(arguments).map(|a| OsString::from(*a));
        masked(all).join(" ")
    }

    #[test]
    fn no_secret_depends_on_how_it_was_typed() {
        for arguments in [
            &["try", "http://h/", "-H", "authorization: s3cret"][..],
            &["try", "http://h/", "-Hauthorization: s3cret"],
            &["try", "http://h/", "-kHauthorization: s3cret"],
            &["try", "http://h/", "-kH", "authorization: s3cret"],
            &["try", "http://h/", "--header=authorization: s3cret"],
            &["try", "http://h/", "-H", "a: b", "-H", "authorization: s3cret"],
            &["try", "http://h/", "-b", "s3cret"],
            &["try", "http://h/", "-bs3cret"],
            &["try", "http://h/", "-kbs3cret"],
            &["try", "http://h/", "--body=s3cret"],
            &["run", "x.toml", "--set", "plan.headers.authorization=s3cret"],
            &["run", "x.toml", "--set=plan.request=[{ body = 's3cret' }]"],
            &["plan", "x.toml", "--set", "plan.request=[{ headers = { a = 's3cret' } }]"],
        ] {
            let shown = shown(arguments);
            assert!(shown.contains(MASK) && !shown.contains("s3cret"), "{arguments:?}: {shown}");
        }
    }

    #[test]
    fn a_shell_reads_back_what_is_quoted() {
        assert_eq!(shell_word("runs/a.toml"), "runs/a.toml");
        assert_eq!(shell_word("sweep.lanes=[1, 2]"), "'sweep.lanes=[1, 2]'");
        assert_eq!(shell_word("it's"), r"'it'\''s'");
    }

    #[test]
    fn what_is_no_secret_is_shown_as_it_was_meant() {
        assert_eq!(
            shown(&["run", "--out=d", "x.toml", "--set", "plan.requests=5", "--resume"]),
            "duel run x.toml --set plan.requests=5 --out d --resume"
        );
        assert_eq!(
            shown(&["try", "http://h/", "-kn5", "-b@file", "-Ha: b"]),
            "duel try http://h/ --requests 5 --header a: *** --body @file --insecure"
        );
    }
}
