//! `duel merge`: shards of one run → one run directory.

use std::process::ExitCode;

use super::exit;
use crate::cli::MergeArgs;
use crate::fleet::merge::merge;
use crate::limits;

pub fn run(args: &MergeArgs) -> super::Ended {
    // One descriptor per shard; without more of them the error names the file that was one too many.
    let _ = limits::raise_nofile();
    let merged = super::in_pool(|| merge(&args.dirs, &args.out));
    let outcome = merged
        .and_then(|merged| Ok(merged?))
        .map_err(|error| super::usage(format!("merge: {error}")))?;
    for warning in &outcome.warnings {
        say!("duel: {warning}");
    }
    if let Err(error) = super::report::write_files_in_child(&args.out) {
        say!("duel: {error:#}; make it again with `duel report`");
    }
    let out = args.out.display();
    say!("duel: {} trials of {} shards merged into {out}", outcome.rows, outcome.shards);
    for (count, what) in [
        (outcome.failed, "failed"),
        (outcome.invalid, "invalid"),
        (outcome.interrupted, "interrupted"),
    ] {
        if count > 0 {
            say!("duel: {count} of them {what}; see `duel report {out}`");
        }
    }
    Ok(ExitCode::from(match () {
        () if outcome.failed > 0 => exit::FAILED,
        () if outcome.invalid > 0 => exit::INVALID,
        () => 0,
    }))
}
