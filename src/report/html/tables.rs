//! Head to head: the tables of the terminal.

use std::fmt::Write;

use super::{broken, escape};
use crate::report::layout;
use crate::report::summary::Group;

/// The tables of the terminal, one a group.
pub(super) fn tables(groups: &[Group]) -> String {
    let mut out = String::new();
    for group in groups {
        let columns = layout::columns(group);
        let _ = write!(
            out,
            "<h3>{}</h3><div class=\"wide\" tabindex=\"0\" role=\"region\" aria-label=\"{}\"><table><thead><tr>",
            escape(&layout::heading(group)),
            escape(&layout::heading(group))
        );
        for column in &columns {
            let _ = write!(out, "<th scope=\"col\">{}</th>", broken(&column.title));
        }
        out.push_str("</tr></thead><tbody>");
        for (i, row) in group.rows.iter().enumerate() {
            let class = if row.ranked { "" } else { " class=\"bad\"" };
            let _ = write!(out, "<tr{class} data-cell=\"{}\">", escape(&row.cell.id));
            for (at, column) in columns.iter().enumerate() {
                let (tag, class) = match (at, column.number) {
                    (0, _) => ("th scope=\"row\"", ""),
                    (_, true) => ("td", " class=\"n\""),
                    _ => ("td", ""),
                };
                let end = if at == 0 { "th" } else { "td" };
                let _ = write!(out, "<{tag}{class}>{}</{end}>", broken(&column.cells[i]));
            }
            out.push_str("</tr>");
        }
        out.push_str("</tbody></table></div>");
        for note in layout::notes(group) {
            let _ = write!(out, "<p class=\"note\">{}</p>", escape(&note));
        }
    }
    out
}
