//! `duel compare`: two run directories, cell by cell; runs nothing.

use std::path::Path;
use std::process::ExitCode;

use super::exit;
use crate::cli::Compare;
use crate::report::compare::compare;
use crate::results::store::{Run, RunDir, StoreError};

/// Prints what became worse or better from A to B, beyond the spread of their trials.
pub fn run(args: &Compare) -> ExitCode {
    let (a, b) = match (read(&args.a), read(&args.b)) {
        (Ok(a), Ok(b)) => (a, b),
        (Err(error), _) | (_, Err(error)) => return super::usage(error),
    };
    let found = compare(&a.run, &b.run);
    // Both are told whatever the first one holds, since each may explain the outcome.
    let readable = a.tell() & b.tell();
    match found {
        Err(reasons) => super::usage(reasons),
        Ok(found) => {
            crate::terminal::print(&found.text());
            match found.regressions().next() {
                // What could not be read may have held the regression, or have made up for it.
                _ if !readable => ExitCode::from(exit::USAGE),
                Some(_) => ExitCode::from(exit::MISSED),
                None => ExitCode::SUCCESS,
            }
        }
    }
}

/// A run and what of it could not be read.
struct Read {
    run: Run,
    damage: Vec<StoreError>,
}

fn read(dir: &Path) -> Result<Read, StoreError> {
    let (run, damage) = RunDir::salvage(dir)?;
    Ok(Read { run, damage })
}

impl Read {
    /// Says what was set aside or could not be read; whether all of it was readable.
    fn tell(&self) -> bool {
        for warning in &self.run.warnings {
            say!("duel: {warning}");
        }
        for error in &self.damage {
            say!("duel: {error}");
        }
        self.damage.is_empty()
    }
}
