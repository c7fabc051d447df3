//! The `duel` command; see the library for the map of the code.

use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use duel::cli::{Cli, Command};
use duel::{cmd, terminal};

fn main() -> ExitCode {
    // A file that grows beyond a limit is an error with a name, not a silent end.
    let _ = signal_hook::flag::register(signal_hook::consts::SIGXFSZ, Arc::default());
    terminal::conclude(match Cli::try_parse() {
        Ok(cli) => run(cli.command),
        Err(message) => {
            terminal::printed(message.print());
            ExitCode::from(message.exit_code() as u8)
        }
    })
}

fn run(command: Command) -> ExitCode {
    match command {
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
        Command::Worker => cmd::worker::run(),
        Command::Man { out } => cmd::man(out.as_deref()),
        Command::Completions { shell } => cmd::completions(shell),
    }
}
