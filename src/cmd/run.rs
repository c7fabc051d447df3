//! `duel run`: the whole sweep.

use super::sweep::{Directory, Output, execute};
use crate::cli::RunArgs;

pub fn run(args: &RunArgs) -> super::Ended {
    let mut sweep = super::load(&args.config, &args.sweep.allowed)?;
    let part = super::shard::part(args, &mut sweep).map_err(super::usage)?;
    let output = Output {
        dir: args.out.clone().map_or(Directory::Fresh, Directory::Named),
        resume: args.resume,
        force: args.force,
        keep_going: args.sweep.keep_going,
        metrics: super::metrics_address(&args.sweep)?,
        part,
        ..Output::default()
    };
    Ok(execute(&sweep, &output))
}
