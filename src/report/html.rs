//! `report.html`: one file that asks nothing of the network and reads without scripts.
//!
//! The policy in its head forbids every request, so that even a fault could not make one. All text
//! from configs, targets and records goes through [`escape`].

mod bytes;
mod costs;
mod curves;
mod expect;
mod figure;
mod gates;
mod latency;
mod page;
mod scalability;
mod search;
mod sections;
mod tables;
mod timelines;

use std::fmt::Write;
use std::io::BufRead;

use super::capacity;
use super::summary::Group;
use super::verdict::{self, by_cell};
use crate::format::TrialRecord;
use crate::results::store::PlanJson;

/// Renders a run as one HTML document; `groups` are [`super::summary::summarise`]'s of `records`,
/// and `timeline` reads `timeline.jsonl` where there is one.
pub fn render(
    plan: &PlanJson,
    records: &[TrialRecord],
    groups: &[Group],
    timeline: Option<&mut dyn BufRead>,
    capacity: Option<&capacity::Plan>,
) -> String {
    let trials = by_cell(records);
    let mut main = String::new();
    let name = escape(&plan.name);
    let _ = write!(main, "<header><h1>{name}</h1><p class=\"lead\">");
    let searched = super::search::of_plan(plan, records);
    let said = match &searched {
        Some(searched) => searched.sentences(),
        None => verdict::sentences(records, groups, &trials),
    };
    for sentence in said {
        let _ = write!(main, "{} ", escape(&sentence));
    }
    main.push_str("</p>");
    for remark in verdict::remarks(groups).iter().filter(|_| searched.is_none()) {
        let _ = write!(main, "<p class=\"note\">{}</p>", escape(remark));
    }
    let mut sections_of_page: Vec<(&str, String)> = vec![
        ("Gates that failed", gates::gates(records, groups)),
        ("Head to head", tables::tables(groups)),
        ("Expected before the run", expect::expectations(plan, records)),
        ("Where the bytes go", bytes::bytes(records, groups, &trials)),
        ("Where the CPU goes", costs::cpu(groups, &trials)),
        ("Latency by percentile", latency::latency(groups, &trials)),
        ("Against lanes and rate", curves::curves(groups, &trials)),
        ("Scalability", scalability::scalability(records, plan.seed)),
        ("Over time", timelines::timelines(groups, &trials, timeline)),
        ("Method and machine", page::method(plan, records)),
        ("How to reproduce", page::reproduce(plan)),
    ];
    if let Some(searched) = &searched {
        sections_of_page
            .insert(0, ("Highest rate within the SLO", search::search(searched, groups)));
    }
    if let Some(plan) = capacity.map(capacity::Plan::section) {
        let body = format!("<h3>{}</h3>{}", escape(&plan.heading), sections::section(&plan));
        // Before how it was measured and how to do so again.
        sections_of_page.insert(sections_of_page.len() - 2, ("Capacity", body));
    }
    main.push_str("<nav aria-label=\"Sections\"><ul>");
    for (i, (title, _)) in sections_of_page.iter().enumerate() {
        let _ = write!(main, "<li><a href=\"#s{i}\">{title}</a></li>");
    }
    main.push_str("</ul></nav></header>");
    for (i, (title, body)) in sections_of_page.iter().enumerate() {
        let _ = write!(main, "<section id=\"s{i}\"><h2>{title}</h2>{body}</section>");
    }
    page::document(&name, &main)
}

fn paragraph(text: &str) -> String {
    format!("<p>{}</p>", escape(text))
}

/// What tells a group from the others of its run, in few words.
fn short_heading(group: &Group) -> String {
    group.cell.place_words(&[])
}

/// Escaped text with its line breaks.
fn broken(text: &str) -> String {
    text.split('\n').map(escape).collect::<Vec<String>>().join("<br>")
}

/// Text as HTML shows it literally, inside elements and attributes.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in super::layout::clean(text).chars() {
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
