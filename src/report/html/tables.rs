//! The one writer of HTML tables, and the sections that are tables alone.

use maud::{Markup, html};

use super::{broken, notes, paragraph};
use crate::report::layout::{self, Section};
use crate::report::search::Searched;
use crate::report::summary::Group;

/// A table that scrolls by itself where it is wide, and its notes; the heading is its name.
pub(super) fn table(section: &Section) -> Markup {
    table_of(section, &|_| None)
}

/// The same under its heading.
pub(super) fn titled(section: &Section) -> Markup {
    html! { h3 { (section.heading) } (table(section)) }
}

/// `row` is the row of a group that a row of the table stands for: whether it may be ranked, and the
/// id of its cell.
fn table_of<'a>(section: &Section, row: &dyn Fn(usize) -> Option<(bool, &'a str)>) -> Markup {
    let rows = section.columns.first().map_or(0, |c| c.cells.len());
    html! {
        @if !section.columns.is_empty() {
            div.wide tabindex="0" role="region" aria-label=(section.heading) { table {
                thead { tr { @for column in &section.columns {
                    th.n[column.number] scope="col" { (broken(&column.title)) }
                } } }
                tbody { @for at in 0..rows {
                    @let of = row(at);
                    tr.bad[of.is_some_and(|(ranked, _)| !ranked)] data-cell=[of.map(|(_, id)| id)] {
                        @for (i, column) in section.columns.iter().enumerate() {
                            @if i == 0 {
                                th scope="row" { (broken(&column.cells[at])) }
                            } @else {
                                td.n[column.number] { (broken(&column.cells[at])) }
                            }
                        }
                    }
                } }
            } }
        }
        (notes(&section.notes))
    }
}

pub(super) fn groups(groups: &[Group]) -> Markup {
    if groups.is_empty() {
        return paragraph("No trial has times to compare.");
    }
    html! {
        @for (group, section) in groups.iter().zip(layout::sections(groups)) {
            h3 { (section.heading) }
            (table_of(&section, &|i| group.rows.get(i).map(|r| (r.ranked, r.cell.id.as_str()))))
        }
    }
}

/// What a search found, and every probe folded away below it.
pub(super) fn search(searched: &Searched, groups: &[Group]) -> Markup {
    html! {
        (table(&searched.summary(groups)))
        @for probes in searched.probes() { (folded(&probes.heading, false, &table(&probes))) }
    }
}

/// What is shown on demand, or at once if `open`.
pub(super) fn folded(summary: &str, open: bool, body: &Markup) -> Markup {
    html! { details open[open] { summary { (summary) } (body) } }
}
