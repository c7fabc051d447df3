//! `duel run`: the whole sweep.

use std::process::ExitCode;

use super::sweep::{Output, allow, execute};
use crate::cli::Run;
use crate::results::store;

/// Runs a sweep from its config.
pub fn run(args: &Run) -> ExitCode {
    let mut sweep = match crate::config::load(&args.config, &args.overrides) {
        Ok(sweep) => sweep,
        Err(error) => return super::usage(error),
    };
    allow(&mut sweep, &args.allow);
    let part = match super::shard::part(args, &mut sweep) {
        Ok(part) => part,
        Err(error) => return super::usage(error),
    };
    let metrics = match super::metrics_address(args.metrics.as_deref()) {
        Ok(metrics) => metrics,
        Err(error) => return super::usage(error),
    };
    let dir =
        args.out.clone().unwrap_or_else(|| store::default_dir(&sweep.name, jiff::Timestamp::now()));
    execute(
        &sweep,
        &Output {
            dir: Some(dir),
            resume: args.resume,
            force: args.force,
            json: false,
            metrics,
            part,
        },
    )
}
