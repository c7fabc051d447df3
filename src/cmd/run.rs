//! `duel run`: the whole sweep.

use super::sweep::{Directory, Output, allow, execute};
use crate::cli::RunArgs;

pub fn run(args: &RunArgs) -> super::Ended {
    let mut sweep = crate::config::load(&args.config, &args.overrides).map_err(super::usage)?;
    allow(&mut sweep, &args.allow).map_err(super::usage)?;
    let part = super::shard::part(args, &mut sweep).map_err(super::usage)?;
    let metrics = super::metrics_address(args.metrics.as_deref()).map_err(super::usage)?;
    Ok(execute(
        &sweep,
        &Output {
            dir: match &args.out {
                Some(dir) => Directory::Named(dir.clone()),
                None => Directory::Fresh,
            },
            resume: args.resume,
            force: args.force,
            json: false,
            served: false,
            keep_going: args.keep_going,
            metrics,
            flags: &[],
            part,
        },
    ))
}
