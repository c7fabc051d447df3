//! `report.html`: one file that asks nothing of the network and reads without scripts.
//!
//! The policy in its head forbids every request, so that even a fault could not make one. Text from
//! configs, targets and records is escaped by the templates, and the whole page is cleaned once of
//! characters that would steer a terminal or turn the direction of a line.

mod bytes;
mod capacity;
mod costs;
mod curves;
mod figure;
mod gates;
mod latency;
mod page;
mod scalability;
mod tables;
mod timelines;

use std::io::BufRead;

use maud::{Markup, html};

use super::layout;
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
    capacity: Option<&super::capacity::Plan>,
) -> String {
    let trials = by_cell(records);
    let searched = super::search::of_plan(plan, records);
    let said = match &searched {
        Some(searched) => searched.sentences(),
        None => verdict::sentences(records, groups, &trials),
    };
    let remarks = if searched.is_some() { vec![] } else { verdict::remarks(records, groups) };
    let details = super::details_of(plan, records);
    let mut sections: Vec<(&str, Markup)> = Vec::new();
    sections.extend(searched.map(|s| ("Highest rate within the SLO", tables::search(&s, groups))));
    sections.extend([
        ("Checks that failed", gates::gates(records, groups)),
        ("Head to head", tables::groups(groups)),
    ]);
    sections.extend(details.iter().map(|s| (s.heading.as_str(), tables::table(s))));
    sections.extend([
        ("Where the bytes go", bytes::bytes(records, groups, &trials)),
        ("Where the CPU time goes", costs::cpu(groups, &trials)),
        ("Latency by percentile", latency::latency(groups, &trials)),
        ("Against lanes and rate", curves::curves(groups, &trials)),
        ("Scalability", scalability::scalability(&trials, plan.seed)),
        ("Over time", timelines::timelines(groups, &trials, timeline)),
    ]);
    sections.extend(capacity.map(|plan| ("Capacity", self::capacity::capacity(plan))));
    sections.extend([
        ("Method and machine", page::method(plan, records)),
        ("How to reproduce", page::reproduce(plan)),
    ]);
    let main = html! {
        header {
            h1 { (plan.name) }
            p.lead { (rich(&said.join(" "))) }
            @for remark in &remarks { p.note { (rich(remark)) } }
            nav aria-label="Sections" { ul {
                @for (i, (title, _)) in sections.iter().enumerate() {
                    li { a href={ "#s" (i) } { (title) } }
                }
            } }
        }
        @for (i, (title, body)) in sections.iter().enumerate() {
            section id={ "s" (i) } { h2 { (title) } (body) }
        }
    };
    layout::clean(&page::document(&plan.name, &main).into_string())
}

/// Text whose parts between backticks are code.
fn rich(text: &str) -> Markup {
    html! {
        @for (i, part) in text.split('`').enumerate() {
            @if i % 2 == 1 { code { (part) } } @else { (part) }
        }
    }
}

fn paragraph(text: &str) -> Markup {
    html! { p { (rich(text)) } }
}

fn notes(notes: &[String]) -> Markup {
    html! { @for note in notes { p.note { (rich(note)) } } }
}

fn broken(text: &str) -> Markup {
    html! {
        @for (i, line) in text.split('\n').enumerate() {
            @if i > 0 { br; }
            (rich(line))
        }
    }
}
