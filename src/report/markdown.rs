//! `report.md`: the same groups as tables that GitHub renders, for pull requests.

use super::layout;
use super::summary::summarise;
use crate::plan::Engine;
use crate::results::format::TrialRecord;

/// Renders all records of a sweep as Markdown.
pub fn render(plan_name: &str, records: &[TrialRecord], baseline: Engine) -> String {
    let mut out = format!("# {}\n", escape(plan_name));
    if records.is_empty() {
        out.push_str("\nNo trials yet.\n");
    }
    for group in summarise(records, baseline) {
        let columns = layout::columns(&group);
        out.push_str(&format!("\n## {}\n\n", escape(&layout::heading(&group))));
        let titles = columns.iter().map(|c| escape(&c.title));
        out.push_str(&line(titles));
        out.push_str(&line(columns.iter().map(|c| if c.number { "--:" } else { "---" }.into())));
        for row in 0..group.rows.len() {
            out.push_str(&line(columns.iter().map(|c| escape(&c.cells[row]))));
        }
        let notes = layout::notes(&group);
        if !notes.is_empty() {
            out.push('\n');
        }
        for note in notes {
            out.push_str(&format!("- {}\n", escape(&note)));
        }
    }
    out
}

fn line(cells: impl Iterator<Item = String>) -> String {
    let mut out = String::from("|");
    for cell in cells {
        out.push_str(&format!(" {cell} |"));
    }
    out.push('\n');
    out
}

/// Text as Markdown shows it literally: error texts may hold anything that a target sent.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in layout::clean(text).chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            // Would notify whoever is called so.
            '@' => out.push_str("&#64;"),
            '\\' | '|' | '`' | '*' | '_' | '[' | ']' | '#' | '!' | '~' => {
                out.push('\\');
                out.push(c);
            }
            c => out.push(c),
        }
    }
    out
}
