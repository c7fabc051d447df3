//! Commands: glue, printing and exit codes; what they do lives in the other modules.

mod arguments;
pub mod capacity;
pub mod compare;
mod hints;
pub mod limits;
pub mod merge;
pub mod plan;
pub mod progress;
pub mod report;
pub mod run;
mod shard;
pub mod sweep;
pub mod target;
pub mod r#try;
pub mod verify;
pub mod worker;

use std::path::Path;
use std::process::ExitCode;

use crate::cli::{AllowArgs, ConfigArgs, SweepArgs};
use crate::driver::metrics::parse_address;
use crate::plan::sweep::Sweep;
use crate::terminal;

/// Exit codes of every command, the first that applies; the help says what each means.
pub mod exit {
    pub(crate) const INTERRUPTED: u8 = 130;
    pub(crate) const TERMINATED: u8 = 143;
    /// The terminal went away.
    pub(crate) const HUNG_UP: u8 = 129;
    pub const USAGE: u8 = 2;
    pub const FAILED: u8 = 1;
    pub(crate) const INVALID: u8 = 4;
    pub(crate) const MISSED: u8 = 3;
    pub(crate) const CANNOT_TELL: u8 = 5;
}

/// How a command ends; an error has been told.
pub(crate) type Ended = Result<ExitCode, ExitCode>;

/// Prints an error on one line and gives the code for wrong usage.
fn usage(error: impl std::fmt::Display) -> ExitCode {
    say!("duel: {error:#}");
    ExitCode::from(exit::USAGE)
}

/// Says what is wrong with the command line; help and version go to standard output as they are.
pub fn refuse(error: clap::Error) -> ExitCode {
    let code = error.exit_code() as u8;
    if error.use_stderr() {
        say!("{}", hints::explain(error));
    } else {
        terminal::printed(error.print());
    }
    ExitCode::from(code)
}

/// The sweep of a config, with the addresses that a flag lets it load.
fn load(args: &ConfigArgs, allowed: &AllowArgs) -> Result<Sweep, ExitCode> {
    let mut sweep = crate::config::load(&args.config, &args.overrides).map_err(usage)?;
    sweep::allow(&mut sweep, allowed).map_err(usage)?;
    Ok(sweep)
}

/// Where `--metrics` says that a run is to be scraped.
fn metrics_address(args: &SweepArgs) -> Result<Option<std::net::SocketAddr>, ExitCode> {
    args.metrics.as_deref().map(parse_address).transpose().map_err(usage)
}

/// Works with as many threads as there are CPUs; a machine that grants none has this one do it.
fn in_pool<R: Send>(work: impl FnOnce() -> R + Send) -> anyhow::Result<R> {
    let builder = rayon::ThreadPoolBuilder::new;
    let pool = builder().build().or_else(|_| builder().num_threads(1).use_current_thread().build());
    Ok(pool?.install(work))
}

pub fn completions(shell: clap_complete::Shell) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut crate::cli::Cli::declared(), "duel", &mut script);
    terminal::print(&String::from_utf8_lossy(&script));
    ExitCode::SUCCESS
}

pub fn init(question: crate::config::starter::StarterQuestion) -> ExitCode {
    terminal::print(&crate::config::starter::starter(question));
    ExitCode::SUCCESS
}

pub fn config(markdown: bool) -> ExitCode {
    use crate::config::reference;
    if markdown {
        terminal::print(&reference::markdown());
    } else {
        terminal::page(&reference::plain());
    }
    ExitCode::SUCCESS
}

pub fn man(out: Option<&Path>) -> ExitCode {
    let command = crate::cli::Cli::declared();
    if let Some(dir) = out {
        let config = dir.join("duel-config.5");
        let written = std::fs::create_dir_all(dir)
            .and_then(|()| clap_mangen::generate_to(command, dir))
            .and_then(|()| std::fs::write(config, crate::config::reference::man()));
        return match written {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                say!("duel: {}: cannot write man pages: {error}", dir.display());
                ExitCode::from(exit::FAILED)
            }
        };
    }
    let mut page = Vec::new();
    match clap_mangen::Man::new(command).render(&mut page) {
        Ok(()) => terminal::print(&String::from_utf8_lossy(&page)),
        Err(error) => return usage(format!("cannot render the man page: {error}")),
    }
    ExitCode::SUCCESS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, HostsArgs};
    use crate::plan::guard::{DEFAULT_CONNECTIONS, DEFAULT_RATE_PER_S};
    use crate::report::capacity::{Question, hosts::HostType};
    use crate::units::{duration_literal, format_count};

    /// What the help says in words is what holds.
    #[test]
    fn help_names_the_numbers_and_codes_that_hold() {
        let mut declared = Cli::declared();
        let help = declared.render_help().to_string();
        use exit::*;
        let codes = [INTERRUPTED, TERMINATED, HUNG_UP, USAGE, FAILED, INVALID, MISSED, CANNOT_TELL];
        let told = help.lines().filter_map(|line| line.strip_prefix("  ")?.split_once("  "));
        let told = told.flat_map(|(codes, _)| codes.split(", ")).filter_map(|n| n.parse().ok());
        let told: Vec<u8> = told.filter(|code| *code > 0).collect();
        assert!(codes.iter().all(|code| told.contains(code)), "{told:?}");
        assert_eq!(told.len(), codes.len(), "{help}");
        for (command, flag, holds) in [
            ("try", "allow", format_count(DEFAULT_RATE_PER_S as u64)),
            ("run", "allow", format_count(DEFAULT_CONNECTIONS)),
            ("run", "start-every", format!("+ {}]", duration_literal(shard::SLOT_SPARE_NS))),
            (
                "verify",
                "requests",
                format!("or {}k ", crate::driver::verify::REQUESTS_BY_TIME / 1000),
            ),
            ("try", "trials", format!("default: {}", crate::stats::precision::FEWEST_BLOCKS)),
            ("try", "duration", format!("default: {}", r#try::DURATION)),
            ("try", "budget", format!("default: {}", crate::config::default_of("sweep.budget"))),
        ] {
            let command = declared.find_subcommand(command).expect("a command");
            let argument = command.get_arguments().find(|a| a.get_long() == Some(flag));
            let help = argument.and_then(clap::Arg::get_help).expect("a flag").to_string();
            assert!(help.contains(&holds), "--{flag} does not say `{holds}`: {help}");
        }
        let (flags, plan) = (HostsArgs::unasked(), Question::new(1.0, HostType::plain(1, 1)));
        assert_eq!(flags.cpu_target, [plan.cpu_target]);
        assert_eq!(flags.growth, [plan.growth_per_year]);
        let asked = (flags.memory_target, flags.months, flags.spare);
        assert_eq!(asked, (plan.memory_target, plan.months, plan.spare));
    }
}
