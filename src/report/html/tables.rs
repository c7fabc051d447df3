//! The one writer of HTML tables, and the sections that are tables alone.

use maud::{Markup, html};

use super::{broken, paragraph};
use crate::report::layout::{self, Section};
use crate::report::search::Searched;
use crate::report::summary::{Group, Row};

/// A table that scrolls by itself where it is wide, and its notes; the heading is its name.
pub(super) fn table(section: &Section) -> Markup {
    table_of(section, &[])
}

/// The same under its heading.
pub(super) fn titled(section: &Section) -> Markup {
    html! { h3 { (section.heading) } (table(section)) }
}

/// `rows` are those of the group that the table stands for, if it does.
fn table_of(Section { heading, columns, notes }: &Section, rows: &[Row]) -> Markup {
    let count = columns.first().map_or(0, |c| c.cells.len());
    html! {
        @if !columns.is_empty() {
            div.wide tabindex="0" role="region" aria-label=(heading) { table {
                thead { tr { @for column in columns {
                    th.n[column.is_number()] scope="col" { (broken(&column.title)) }
                } } }
                tbody { @for at in 0..count {
                    @let of = rows.get(at);
                    tr.bad[of.is_some_and(|row| !row.ranked)] data-cell=[of.map(|row| &row.cell.id)] {
                        @for (i, column) in columns.iter().enumerate() {
                            @if i == 0 {
                                th scope="row" { (broken(&column.cells[at])) }
                            } @else {
                                td.n[column.is_number()] { (broken(&column.cells[at])) }
                            }
                        }
                    }
                } }
            } }
        }
        (super::notes(notes))
    }
}

pub(super) fn groups(groups: &[Group]) -> Markup {
    if groups.is_empty() {
        return paragraph("No trial has times to compare.");
    }
    html! {
        @for (group, section) in groups.iter().zip(layout::sections(groups)) {
            h3 { (section.heading) }
            (table_of(&section, &group.rows))
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
