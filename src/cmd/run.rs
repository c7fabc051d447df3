//! `duel run`: the whole sweep.

use std::process::ExitCode;

use super::sweep::{Directory, Output, allow, execute};
use crate::cli::RunArgs;

/// Runs a sweep from its config.
pub fn run(args: &RunArgs) -> ExitCode {
    let mut sweep = match crate::config::load(&args.config, &args.overrides) {
        Ok(sweep) => sweep,
        Err(error) => return super::usage(error),
    };
    if let Err(error) = allow(&mut sweep, &args.allow) {
        return super::usage(error);
    }
    let part = match super::shard::part(args, &mut sweep) {
        Ok(part) => part,
        Err(error) => return super::usage(error),
    };
    let metrics = match super::metrics_address(args.metrics.as_deref()) {
        Ok(metrics) => metrics,
        Err(error) => return super::usage(error),
    };
    execute(
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
            part,
        },
    )
}
