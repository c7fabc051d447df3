//! `report.html`: one file that asks nothing of the network and reads without scripts.
//!
//! The policy in its head forbids every request, so that even a fault could not make one. All text
//! from configs, targets and records goes through [`escape`].

mod data;
mod page;
mod verdict;

use std::fmt::Write;

use super::layout;
use super::summary::{Group, summarise};
use crate::plan::Engine;
use crate::results::format::TrialRecord;
use crate::results::store::PlanJson;

/// Most plots of percentiles: more would take the file beyond what a mail carries.
const MOST_LATENCY_PLOTS: usize = 16;

/// Renders a run as one HTML document.
pub fn render(plan: &PlanJson, records: &[TrialRecord], baseline: Engine) -> String {
    let groups = summarise(records, baseline);
    let trials = data::by_cell(records);
    let mut main = String::new();
    let name = escape(&plan.name);
    let _ = write!(main, "<header><h1>{name}</h1><p class=\"lead\">");
    for sentence in verdict::sentences(&groups, &trials) {
        let _ = write!(main, "{} ", escape(&sentence));
    }
    main.push_str("</p></header>");
    section(&mut main, "Gates that failed", &gates(&groups));
    section(&mut main, "Head to head", &tables(&groups));
    section(&mut main, "Where the bytes go", &data::memory(&groups, &trials));
    section(&mut main, "Where the CPU goes", &data::cpu(&groups, &trials));
    section(
        &mut main,
        "Latency by percentile",
        &data::latency(&groups, &trials, MOST_LATENCY_PLOTS),
    );
    section(&mut main, "Against lanes and rate", &data::curves(&groups, &trials));
    section(&mut main, "Scalability", &data::scalability(records, plan.seed));
    section(&mut main, "Method and machine", &page::method(plan, records));
    section(&mut main, "How to reproduce", &page::reproduce(plan));
    page::document(&name, &main)
}

fn section(out: &mut String, title: &str, body: &str) {
    let _ = write!(out, "<section><h2>{title}</h2>{body}</section>");
}

fn paragraph(text: &str) -> String {
    format!("<p>{}</p>", escape(text))
}

/// Every gate that failed, with its trials.
fn gates(groups: &[Group]) -> String {
    let mut out = String::new();
    for group in groups {
        for row in &group.rows {
            for (name, gate) in &row.failed_gates {
                let note = layout::gate_note(name, gate, row.tally.blocks);
                let _ = write!(
                    out,
                    "<li><code>{}</code>: {}</li>",
                    escape(&row.cell.id),
                    escape(&note)
                );
            }
        }
    }
    if groups.is_empty() {
        paragraph("No trials yet.")
    } else if out.is_empty() {
        paragraph("None: every gate of every trial held.")
    } else {
        format!("<ul class=\"bad\">{out}</ul>")
    }
}

/// The tables of the terminal, one a group.
fn tables(groups: &[Group]) -> String {
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

/// Escaped text with its line breaks.
fn broken(text: &str) -> String {
    text.split('\n').map(escape).collect::<Vec<String>>().join("<br>")
}

/// Text as HTML shows it literally, inside elements and attributes.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in layout::clean(text).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}
