//! `duel compare`: two run directories, cell by cell, or the targets of one; runs nothing.

use std::path::PathBuf;
use std::process::ExitCode;

use super::exit;
use crate::cli::CompareArgs;
use crate::report::compare::{compare, compare_targets};
use crate::results::store::{Run, RunDir, StoreError};

/// Prints what became worse or better from A to B, beyond the spread of their trials or runs.
pub fn run(args: &CompareArgs) -> super::Ended {
    let (before, after) = match (args.with.as_slice(), args.runs.as_slice()) {
        ([], [_]) => (args.runs.as_slice(), [].as_slice()),
        ([], [a, b]) => (std::slice::from_ref(a), std::slice::from_ref(b)),
        ([], runs) => {
            let n = runs.len();
            return Err(super::usage(format!(
                "two runs are compared, not {n}; of several: A1 A2 --with B1 B2"
            )));
        }
        (with, runs) => (runs, with),
    };
    let all = |dirs: &[PathBuf]| {
        let read = dirs.iter().map(|dir| RunDir::salvage(dir));
        read.collect::<Result<Vec<_>, _>>().map_err(super::usage)
    };
    let (a, b) = (all(before)?, all(after)?);
    fn runs(side: &[(Run, Vec<StoreError>)]) -> Vec<&Run> {
        side.iter().map(|(run, _)| run).collect()
    }
    let found = match (runs(&a).as_slice(), runs(&b).as_slice()) {
        ([run], []) => compare_targets(run, args.min_effect),
        (a, b) => compare(a, b, args.min_effect),
    };
    // All are told whatever the first one holds, since each may explain the outcome.
    let mut readable = true;
    for (run, damage) in a.iter().chain(&b) {
        run.warnings.iter().for_each(|warning| say!("duel: {warning}"));
        damage.iter().for_each(|error| say!("duel: {error}"));
        readable &= damage.is_empty();
    }
    let found = found.map_err(super::usage)?;
    let text = match args {
        CompareArgs { json: true, .. } => format!("{:#}\n", found.json()),
        CompareArgs { markdown: true, .. } => found.markdown(),
        _ => found.text(crate::terminal::width()),
    };
    if args.json || args.markdown {
        crate::terminal::print(&text);
    } else {
        crate::terminal::page(&text);
    }
    Ok(match found.worse() {
        // What could not be read may have held the regression, or have made up for it.
        _ if !readable => ExitCode::from(exit::USAGE),
        0 if args.strict && found.undecided() > 0 => ExitCode::from(exit::CANNOT_TELL),
        0 => ExitCode::SUCCESS,
        _ => ExitCode::from(exit::MISSED),
    })
}
