//! `duel limits`: every limit of this machine that lanes can meet.

use std::process::ExitCode;

use crate::cli::LimitsArgs;
use crate::limits::{Limits, LimitsReport, TargetKind};
use crate::report::layout::{ColumnKind, Columns};
use crate::report::table;

pub fn run(args: &LimitsArgs) -> super::Ended {
    let target = TargetKind::Embedded { processes: 1 };
    let report = LimitsReport::new(&Limits::read(), target, args.lanes);
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
        let mut table = Columns::of(&rows);
        for (i, title) in heads.into_iter().enumerate() {
            let kind = if i > 0 { ColumnKind::Number } else { ColumnKind::Words };
            table.add(title, kind, |row| row[i].clone());
        }
        format!("{above}\n\n{}\n", table::plain(table.all(), width))
    });
    let below = report.sentences().into_iter().map(|line| line + "\n");
    tables.chain(below).collect()
}
