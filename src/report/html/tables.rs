//! Head to head: the tables of the terminal.

use std::fmt::Write;

use super::{broken, escape, paragraph};
use crate::report::layout::{self, Column};
use crate::report::memory::Section;
use crate::report::summary::Group;

/// The tables of the terminal, one a group.
pub(super) fn tables(groups: &[Group]) -> String {
    if groups.is_empty() {
        return paragraph("No trial whose times are ranked.");
    }
    let mut out = String::new();
    for group in groups {
        let rows = |i: usize| {
            let row = &group.rows[i];
            let class = if row.ranked { "" } else { " class=\"bad\"" };
            format!("{class} data-cell=\"{}\"", escape(&row.cell.id))
        };
        table(&mut out, &layout::heading(group), &layout::columns(group), &rows);
        notes(&mut out, &layout::notes(group));
    }
    out
}

/// A table that belongs to no group.
pub(super) fn section(section: &Section) -> String {
    let mut out = String::new();
    table(&mut out, &section.heading, &section.columns, &|_| String::new());
    notes(&mut out, &section.notes);
    out
}

/// A heading and a table that scrolls by itself; `attributes` are those of each row, as HTML.
fn table(
    out: &mut String,
    heading: &str,
    columns: &[Column],
    attributes: &dyn Fn(usize) -> String,
) {
    let _ = write!(
        out,
        "<h3>{0}</h3><div class=\"wide\" tabindex=\"0\" role=\"region\" aria-label=\"{0}\"><table>\
         <thead><tr>",
        escape(heading)
    );
    for column in columns {
        let _ = write!(out, "<th scope=\"col\">{}</th>", broken(&column.title));
    }
    out.push_str("</tr></thead><tbody>");
    for row in 0..columns.first().map_or(0, |c| c.cells.len()) {
        let _ = write!(out, "<tr{}>", attributes(row));
        for (at, column) in columns.iter().enumerate() {
            let (tag, class) = match (at, column.number) {
                (0, _) => ("th scope=\"row\"", ""),
                (_, true) => ("td", " class=\"n\""),
                _ => ("td", ""),
            };
            let end = if at == 0 { "th" } else { "td" };
            let _ = write!(out, "<{tag}{class}>{}</{end}>", broken(&column.cells[row]));
        }
        out.push_str("</tr>");
    }
    out.push_str("</tbody></table></div>");
}

fn notes(out: &mut String, notes: &[String]) {
    for note in notes {
        let _ = write!(out, "<p class=\"note\">{}</p>", escape(note));
    }
}
