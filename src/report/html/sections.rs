//! A table with its notes, as other modules make them for every rendering.

use std::fmt::Write;

use super::{broken, escape};
use crate::report::memory::Section;

/// The table without its heading.
pub(super) fn section(section: &Section) -> String {
    let heading = escape(&section.heading);
    if section.columns.is_empty() {
        return notes(section);
    }
    let mut out = format!(
        "<div class=\"wide\" tabindex=\"0\" role=\"region\" aria-label=\"{heading}\"><table><thead><tr>"
    );
    for column in &section.columns {
        let _ = write!(out, "<th scope=\"col\">{}</th>", broken(&column.title));
    }
    out.push_str("</tr></thead><tbody>");
    for row in 0..section.columns.first().map_or(0, |c| c.cells.len()) {
        out.push_str("<tr>");
        for (at, column) in section.columns.iter().enumerate() {
            let text = broken(&column.cells[row]);
            let _ = match (at, column.number) {
                (0, _) => write!(out, "<th scope=\"row\">{text}</th>"),
                (_, true) => write!(out, "<td class=\"n\">{text}</td>"),
                _ => write!(out, "<td>{text}</td>"),
            };
        }
        out.push_str("</tr>");
    }
    out.push_str("</tbody></table></div>");
    out + &notes(section)
}

fn notes(section: &Section) -> String {
    let note = |n: &String| format!("<p class=\"note\">{}</p>", escape(n));
    section.notes.iter().map(note).collect()
}
