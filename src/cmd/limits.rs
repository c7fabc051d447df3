//! `duel limits`: every limit of this machine that lanes can meet.

use std::process::ExitCode;

use crate::cli::LimitsArgs;
use crate::limits::{Limits, LimitsReport, TargetKind};
use crate::report::layout::Column;
use crate::report::table;
use crate::units::parse_count;

pub fn run(args: &LimitsArgs) -> super::Ended {
    let lanes = args
        .lanes
        .as_deref()
        .map(parse_count)
        .transpose()
        .map_err(|error| super::usage(format!("--lanes: {error}")))?;
    let lanes = match lanes.map(u32::try_from).transpose() {
        Ok(Some(0)) | Err(_) => return Err(super::usage("--lanes: from 1 to 4,294,967,295")),
        Ok(lanes) => lanes,
    };
    let report = LimitsReport::new(&Limits::read(), TargetKind::Embedded { processes: 1 }, lanes);
    if args.json {
        let json = serde_json::to_string_pretty(&report).expect("limits are plain data");
        crate::terminal::print(&(json + "\n"));
    } else {
        crate::terminal::page(&text(&report, crate::terminal::width()));
    }
    Ok(ExitCode::SUCCESS)
}

pub fn text(report: &LimitsReport, width: Option<u16>) -> String {
    let tables = report.tables().into_iter().map(|(above, (heads, rows))| {
        let column = |(i, title): (usize, String)| Column {
            title,
            number: i > 0,
            cells: rows.iter().map(|row| row[i].clone()).collect(),
        };
        let columns = heads.into_iter().enumerate().map(column).collect();
        format!("{above}\n\n{}\n", table::plain(columns, width))
    });
    let below = report.sentences().into_iter().map(|line| line + "\n");
    tables.chain(below).collect()
}
