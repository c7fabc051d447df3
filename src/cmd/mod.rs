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

use crate::terminal;

/// Exit codes of every command, the first that applies.
pub mod exit {
    /// Interrupted by SIGINT; partial results are kept.
    pub(crate) const INTERRUPTED: u8 = 130;
    /// Interrupted by SIGTERM.
    pub(crate) const TERMINATED: u8 = 143;
    /// The terminal went away.
    pub(crate) const HUNG_UP: u8 = 129;
    /// Wrong usage or config, or not comparable.
    pub const USAGE: u8 = 2;
    /// A trial failed that was not expected to, or nothing completed.
    pub const FAILED: u8 = 1;
    /// A hard gate failed, so that the numbers are not reliable, or an SLO cannot be judged.
    pub(crate) const INVALID: u8 = 4;
    /// An SLO was missed, or a figure became worse.
    pub(crate) const MISSED: u8 = 3;
    /// `compare --strict`: a figure could be worse for all that is known.
    pub(crate) const CANNOT_TELL: u8 = 5;
}

/// How a command ends; an error has been told.
pub(crate) type Ended = Result<ExitCode, ExitCode>;

/// Prints an error on one line and gives the code for wrong usage.
fn usage(error: impl std::fmt::Display) -> ExitCode {
    say!("duel: {error}");
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

/// Where `--metrics` says that a run is to be scraped.
fn metrics_address(flag: Option<&str>) -> Result<Option<std::net::SocketAddr>, String> {
    flag.map(crate::driver::metrics::parse_address).transpose()
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
