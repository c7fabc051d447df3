//! The `duel` command; see the library for the map of the code.

use std::process::ExitCode;
use std::sync::Arc;

use duel::cli::{Cli, Command};
use duel::{cmd, terminal};
use rustix::process::{Resource, getrlimit};

/// Least stack of the main thread, and what a thread gets that stands in for it.
const LEAST_STACK_BYTES: u64 = 1 << 20;
const STACK_BYTES: usize = 8 << 20;

fn main() -> ExitCode {
    // A file that grows beyond a limit is an error with a name, not a silent end.
    let _ = signal_hook::flag::register(signal_hook::consts::SIGXFSZ, Arc::default());
    // Nor is a small stack (`ulimit -s`), which only the main thread has to live with.
    let stack = getrlimit(Resource::Stack).current;
    if stack.is_none_or(|bytes| bytes >= LEAST_STACK_BYTES) {
        return command();
    }
    let thread = std::thread::Builder::new().stack_size(STACK_BYTES).spawn(command);
    thread.ok().and_then(|thread| thread.join().ok()).unwrap_or(ExitCode::FAILURE)
}

fn command() -> ExitCode {
    terminal::conclude(match Cli::read() {
        Ok(cli) => run(cli.command),
        Err(error) => cmd::refuse(error),
    })
}

fn run(command: Command) -> ExitCode {
    let ended = match command {
        Command::Run(args) => cmd::run::run(&args),
        Command::Try(args) => cmd::r#try::run(&args),
        Command::Plan(args) => cmd::plan::run(&args),
        Command::Report(args) => cmd::report::run(&args),
        Command::Compare(args) => cmd::compare::run(&args),
        Command::Capacity(args) => cmd::capacity::run(&args),
        Command::Merge(args) => cmd::merge::run(&args),
        Command::Verify(args) => cmd::verify::run_command(&args),
        Command::Target(args) => cmd::target::run(&args),
        Command::Limits(args) => cmd::limits::run(&args),
        Command::Worker => Ok(cmd::worker::run()),
        Command::Init { question } => Ok(cmd::init(question)),
        Command::Config { markdown } => Ok(cmd::config(markdown)),
        Command::Man { out } => Ok(cmd::man(out.as_deref())),
        Command::Completions { shell } => Ok(cmd::completions(shell)),
    };
    ended.unwrap_or_else(|refused| refused)
}
