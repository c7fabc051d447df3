//! `report.html`: one file that asks nothing of the network and reads without scripts.
//!
//! The policy in its head forbids every request, so that even a fault could not make one. Text from
//! configs, targets and records is escaped by the templates, and the whole page is cleaned once of
//! characters that would steer a terminal or turn the direction of a line.

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

use super::verdict::by_cell;
use super::{Reported, layout, shards};

/// Renders a run as one HTML document; `timeline` reads `timeline.jsonl` where there is one.
pub fn render(run: &Reported<'_>, timeline: Option<&mut dyn BufRead>) -> String {
    let Reported { plan, records, groups, .. } = run;
    let trials = &by_cell(records);
    let searched = run.searched();
    let (said, remarks) = run.verdict(searched.as_ref());
    let mut sections: Vec<(String, Markup)> = Vec::new();
    let mut add = |title: &str, body: Markup| sections.push((title.into(), body));
    if let Some(searched) = &searched {
        add("Highest rate within the SLO", tables::search(searched, groups));
    }
    add("Checks that failed", gates::gates(records, groups));
    add("Head to head", tables::groups(groups));
    for section in run.details() {
        add(&section.heading, tables::table(&section));
    }
    add("Where the bytes go", costs::bytes(records, groups, trials));
    add("Where the CPU time goes", costs::cpu(groups, trials));
    add("Latency by percentile", latency::latency(groups, trials));
    add("Against lanes and rate", curves::curves(groups, trials));
    add("Scalability", scalability::scalability(trials, plan.seed));
    add("Over time", timelines::timelines(groups, trials, timeline));
    if let Some(plan) = run.capacity {
        add("Capacity", self::capacity::capacity(plan));
    }
    if let Some(all) = run.shards {
        add("Shards", html! { @for of in shards::sections(all) { (tables::titled(&of)) } });
    }
    add("Method and machine", page::method(run));
    add("How to reproduce", page::reproduce(run));
    let main = html! {
        header {
            h1 { (plan.name) }
            p.lead { (rich(&said.join(" "))) }
            (notes(&remarks))
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
