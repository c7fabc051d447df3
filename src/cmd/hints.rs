//! Arguments that duel does not know: flags of other tools, keys of a config, a URL or a config
//! without a command. Who typed them is told what duel has instead.

use clap::error::{ContextKind, ErrorKind};

use crate::config::reference;

/// Flags that wrk, oha, hey, ab and curl have, and what does the same here.
const FOREIGN: &[(&[&str], &str)] = &[
    (
        &["-t", "--threads"],
        "in duel, --engines says whether lanes are threads or tasks and --cpus on how many CPUs they \
         run; connections are -c, the timeout is --timeout",
    ),
    (&["-q", "--qps", "--rps"], "in duel, -q is -R (--rate), in total and not per connection"),
    (&["-T"], "in duel, a content type is -H 'Content-Type: …', and a timeout is --timeout"),
    (
        &["-s", "--script"],
        "duel runs no scripts: [[plan.request]] and [plan.values] of a config make requests that \
         differ; duel init writes one",
    ),
    (&["-A"], "in duel, this is -H 'Accept: …'"),
    (
        &["-a", "-u", "--user"],
        "in duel, this is -H 'Authorization: $NAME', which takes the value from the environment",
    ),
    (&["--host"], "in duel, this is -H 'Host: …'"),
    (&["--data", "--data-raw"], "in duel, a body is -b, or -b @FILE"),
    (&["-x", "--proxy"], "duel speaks to the server itself, never through a proxy"),
    (
        &["-o", "--output", "--output-format"],
        "in duel, --json prints records and --out keeps files",
    ),
    (&["--http2", "--h2", "--http-version"], "duel speaks only HTTP/1.1"),
    (&["--no-tui"], "duel shows a bar only on a terminal, so this flag is not needed"),
    (&["-w", "--warm-up"], "in duel, this is --warmup"),
    (&["-r", "--redirect", "-L"], "duel follows no redirect: a status of 3xx counts as completed"),
];

pub(super) fn explain(mut error: clap::Error) -> String {
    // That an unknown flag could be passed as a value helps nobody.
    error.remove(ContextKind::Suggested);
    let given = |kind| error.get(kind).map(ToString::to_string).unwrap_or_default();
    let command = std::env::args().nth(1).unwrap_or_default();
    let hint = match error.kind() {
        ErrorKind::UnknownArgument => {
            let flag = given(ContextKind::InvalidArg);
            let flag = flag.split(['=', ' ']).next().unwrap_or_default();
            of_flag(&command, flag).map(|hint| format!("{flag}: {hint}"))
        }
        // Said in the words of every other bad value.
        ErrorKind::ValueValidation => std::error::Error::source(&error).map(|why| {
            let flag = given(ContextKind::InvalidArg);
            let flag = flag.split(' ').next().unwrap_or_default();
            format!("{flag}: {why}")
        }),
        ErrorKind::InvalidSubcommand => of_command(&given(ContextKind::InvalidSubcommand)),
        _ => None,
    };
    match hint {
        Some(hint) => format!("duel: {hint}"),
        None => error.render().to_string().trim_end().into(),
    }
}

fn of_flag(command: &str, flag: &str) -> Option<String> {
    let foreign = || FOREIGN.iter().find(|(flags, _)| flags.contains(&flag));
    match command {
        "try" => foreign().map(|(_, hint)| (*hint).into()),
        "run" | "plan" | "verify" => {
            let (path, example) =
                reference::key_named(&flag.strip_prefix("--")?.replace('-', "_"))?;
            Some(format!("a key of the config: write it there, or --set '{path}={example}'"))
        }
        _ => None,
    }
}

fn of_command(word: &str) -> Option<String> {
    if word.ends_with(".toml") {
        return Some(format!("to run a config: duel run {word}"));
    }
    let address = word.contains("://")
        || word
            .rsplit_once(':')
            .is_some_and(|(_, port)| port.starts_with(|c: char| c.is_ascii_digit()));
    address.then(|| format!("to load a URL: duel try {word}"))
}
