//! `duel limits`: every limit of this machine that lanes can meet.

use std::process::ExitCode;

use crate::cli::Limits as Arguments;
use crate::limits::{Limits, LimitsReport, TargetKind};
use crate::units::parse_count;

/// Prints the limits by engine, the tightest first.
pub fn run(args: &Arguments) -> ExitCode {
    let lanes = match args.lanes.as_deref().map(parse_count).transpose() {
        Ok(lanes) => lanes,
        Err(error) => return super::usage(format!("--lanes: {error}")),
    };
    let lanes = match lanes.map(u32::try_from).transpose() {
        Ok(Some(0)) | Err(_) => return super::usage("--lanes: from 1 to 4,294,967,295"),
        Ok(lanes) => lanes,
    };
    let report = LimitsReport::new(&Limits::read(), TargetKind::Embedded { processes: 1 }, lanes);
    if args.json {
        let json = serde_json::to_string_pretty(&report).expect("limits are plain data");
        crate::terminal::print(&(json + "\n"));
    } else {
        crate::terminal::print(&format!("{report}\n"));
    }
    ExitCode::SUCCESS
}
