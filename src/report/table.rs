//! The table at the end of a run: engines side by side at equal lanes, CPUs and rate.

use comfy_table::{
    CellAlignment, ColumnConstraint, ContentArrangement, LineStyle, Table, TableStyle,
};

use super::layout::{self, Column, ColumnKind, Section};
use super::summary::{Group, Row};
use crate::terminal::{COLOURS, columns, wrap};

/// Columns that words need to be read when they are folded.
const LEAST_WORDS: usize = 16;
const BOLD: &str = COLOURS[0];
const DIM: &str = COLOURS[1];
const RED: &str = COLOURS[2];
const YELLOW: &str = COLOURS[3];
const RESET: &str = COLOURS[4];

/// How a text of one of the colours is printed.
type Paint<'p> = &'p dyn Fn(&str, &str) -> String;

/// Renders the groups of a sweep, and sections below them, for a terminal of `width` columns; `None`
/// does not limit it.
pub fn render(
    plan_name: &str,
    groups: &[Group],
    sections: &[Section],
    width: Option<u16>,
    colour: bool,
) -> String {
    let paint = |style: &str, text: &str| {
        if colour { format!("{style}{text}{RESET}") } else { text.to_string() }
    };
    let mut out = format!("{}\n", paint(BOLD, &layout::clean(plan_name)));
    if groups.is_empty() && sections.is_empty() {
        out.push_str("\nno trials yet\n");
    }
    for (section, group) in layout::sections(groups).iter().zip(groups) {
        push(&mut out, section, &group.rows, width, &paint);
    }
    for section in sections {
        push(&mut out, section, &[], width, &paint);
    }
    out
}

/// Sections without colours, each after an empty line.
pub(crate) fn sections(sections: &[Section], width: Option<u16>) -> String {
    let mut out = String::new();
    for section in sections {
        push(&mut out, section, &[], width, &|_, text| text.into());
    }
    out
}

/// A table without colours, folded where it is wider than `width`.
pub(crate) fn plain(columns: Vec<Column>, width: Option<u16>) -> String {
    let mut out = String::new();
    push_tables(&mut out, columns, width, &[], &|_, text| text.into());
    out
}

/// A section, and the rows of the group that its table stands for, if it does.
fn push(out: &mut String, section: &Section, rows: &[Row], width: Option<u16>, paint: Paint<'_>) {
    out.push_str(&format!("\n{}\n", paint(BOLD, &section.heading)));
    if !section.columns.is_empty() {
        push_tables(out, section.columns.clone(), width, rows, paint);
    }
    for line in section.notes.iter().flat_map(|note| wrap(&layout::clean(note), width)) {
        out.push_str(&format!("{}\n", paint(DIM, &line)));
    }
}

/// Red for what failed, yellow for what failed a quality check.
fn row_style(row: &Row) -> Option<&'static str> {
    let t = &row.tally;
    match () {
        () if t.failed + t.invalid > 0 => Some(RED),
        () if t.noisy + t.interrupted > 0 => Some(YELLOW),
        () => None,
    }
}

/// Adds a table line by line, with bad rows painted.
fn push_tables(
    out: &mut String,
    columns: Vec<Column>,
    width: Option<u16>,
    rows: &[Row],
    paint: Paint<'_>,
) {
    for (part, table) in fitted(columns, width).iter().enumerate() {
        out.push_str(if part > 0 { "\n" } else { "" });
        let mut begun = 0;
        for line in table.lines() {
            let line = line.trim_end();
            // A row begins where its name stands; what is wrapped stands indented below.
            let begins = !line.starts_with([' ', '─']);
            begun += usize::from(begins);
            // The first that begins is the header.
            let row = begun.checked_sub(2).filter(|_| begins).and_then(|row| rows.get(row));
            match row.and_then(row_style) {
                Some(style) => out.push_str(&paint(style, line)),
                None => out.push_str(line),
            }
            out.push('\n');
        }
    }
}

/// One table if it fits; or else several, each with the names of the rows, so that no column is lost.
fn fitted(mut columns: Vec<Column>, width: Option<u16>) -> Vec<Table> {
    let room = width.map_or(usize::MAX, usize::from);
    let fold = |table: &mut Table| {
        table.set_content_arrangement(ContentArrangement::Dynamic);
        table.set_width(width.unwrap_or(u16::MAX));
    };
    let mut whole = build(&columns);
    if natural_width(&whole) <= room {
        return vec![whole];
    }
    // A last column of words goes on below itself, where the figures leave room for it.
    if let Some((last, others)) = columns.split_last()
        && last.kind == ColumnKind::Words
        && natural_width(&build(others)) + longest_word(last).max(LEAST_WORDS) <= room
    {
        for column in whole.column_iter_mut().take(others.len()) {
            column.set_constraint(ColumnConstraint::ContentWidth);
        }
        fold(&mut whole);
        return vec![whole];
    }
    // How a row ended must not come last, far from the row's first figures.
    if columns.last().is_some_and(|c| c.kind == ColumnKind::Status) {
        columns[1..].rotate_right(1);
    }
    let names = columns.remove(0);
    let mut parts = vec![vec![names.clone()]];
    for column in columns {
        let Some(part) = parts.last_mut() else { break };
        part.push(column);
        if part.len() > 2 && natural_width(&build(part)) > room {
            let moved = part.pop();
            parts.push([names.clone()].into_iter().chain(moved).collect());
        }
    }
    let mut tables: Vec<Table> = parts.iter().map(|p| build(p)).collect();
    tables.iter_mut().filter(|t| natural_width(t) > room).for_each(fold);
    tables
}

fn longest_word(column: &Column) -> usize {
    let words = column.cells.iter().flat_map(|cell| cell.split_whitespace());
    words.map(columns).max().unwrap_or(0)
}

fn natural_width(table: &Table) -> usize {
    table.lines().map(|l| columns(l.trim_end())).max().unwrap_or(0)
}

fn build(columns: &[Column]) -> Table {
    let mut table = Table::new();
    let rule = LineStyle::none().fill('─').junction('─');
    table
        .load_style(TableStyle::new().header_separator(rule))
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(columns.iter().map(|c| c.title.clone()));
    for row in 0..columns.first().map_or(0, |c| c.cells.len()) {
        table.add_row(columns.iter().map(|c| c.cells[row].replace('\n', " ")));
    }
    for (i, column) in columns.iter().enumerate() {
        if let Some(c) = table.column_mut(i) {
            c.set_padding((0, 1));
            if i == 0 {
                // A name that is broken over lines would look like two rows.
                c.set_constraint(ColumnConstraint::ContentWidth);
            }
            if column.is_number() {
                c.set_cell_alignment(CellAlignment::Right);
            }
        }
    }
    table
}
