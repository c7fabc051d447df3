//! What was expected before the run, and what became of it; steps and the heartbeat.

use std::fmt::Write;

use super::{escape, paragraph};
use crate::format::TrialRecord;
use crate::report::memory::Section;
use crate::report::{expect, steps};
use crate::results::store::PlanJson;

/// The table of expectations, or a sentence where there are none.
pub(super) fn expectations(plan: &PlanJson, records: &[TrialRecord]) -> String {
    let mut out = match expect::section(&expect::of_plan(plan), &plan.cells, records) {
        Some(section) => table(&section),
        None => paragraph("Nothing: [[expect]] in a config says it before the run."),
    };
    if let Some(section) = steps::section(records) {
        let _ = write!(out, "<h3>{}</h3>{}", escape(&section.heading), table(&section));
    }
    out
}

fn table(section: &Section) -> String {
    let mut out = String::from("<div class=\"wide\" tabindex=\"0\" role=\"region\" aria-label=\"");
    let _ = write!(out, "{}\"><table><thead><tr>", escape(&section.heading));
    for column in &section.columns {
        let _ = write!(out, "<th scope=\"col\">{}</th>", escape(&column.title));
    }
    out.push_str("</tr></thead><tbody>");
    for row in 0..section.columns.first().map_or(0, |column| column.cells.len()) {
        out.push_str("<tr>");
        for (at, column) in section.columns.iter().enumerate() {
            let class = if column.number { " class=\"n\"" } else { "" };
            let (open, close) = if at == 0 { ("th scope=\"row\"", "th") } else { ("td", "td") };
            let _ = write!(out, "<{open}{class}>{}</{close}>", escape(&column.cells[row]));
        }
        out.push_str("</tr>");
    }
    out.push_str("</tbody></table></div>");
    for note in &section.notes {
        let _ = write!(out, "<p class=\"note\">{}</p>", escape(note));
    }
    out
}
