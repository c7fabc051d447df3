//! What every figure shares: a caption, a legend, notes, and the choice of what is drawn.

use maud::{Markup, html};

use super::notes;
use crate::plan::{Axis, Cell};
use crate::report::plot::{self, Colour, DASHES, Marker, Panel};
use crate::report::summary::Group;
use crate::report::verdict;

/// Most panels of a figure: more would take the file beyond what a mail carries.
pub(super) const MOST_PANELS: usize = 24;

/// How lines that coincide are told apart; see [`plot::lines`].
pub(super) const APART: &str =
    "Where lines coincide, the one below is wider and markers stand aside.";

pub(super) struct LegendEntry {
    name: String,
    colour: Colour,
    /// What marks the points of a line, and its dashes; areas have neither.
    line: Option<(Option<Marker>, Option<usize>)>,
}

impl LegendEntry {
    pub(super) fn area(name: &str, colour: Colour) -> LegendEntry {
        LegendEntry { name: name.into(), colour, line: None }
    }
}

/// The legend of the lines of all panels, each name once.
fn legend(panels: &[Panel<'_>]) -> Vec<LegendEntry> {
    let mut legend: Vec<LegendEntry> = Vec::new();
    for line in panels.iter().flat_map(|p| &p.lines) {
        if !legend.iter().any(|e| e.name == line.name) {
            let marker = line.points.iter().any(|p| p.marked).then_some(line.marker);
            let (name, colour) = (line.name.clone(), line.colour);
            legend.push(LegendEntry { name, colour, line: Some((marker, line.dash)) });
        }
    }
    legend
}

/// Panels of lines with their legend; nothing where there is no point.
pub(super) fn lines(
    title: &str,
    x: &plot::PlotAxis<'_>,
    columns: usize,
    panels: &[Panel<'_>],
    below: &[String],
) -> Markup {
    figure(title, &legend(panels), plot::lines(title, x, columns, panels), below)
}

/// A plot with its caption and legend; words where nothing could be drawn.
pub(super) fn figure(
    title: &str,
    legend: &[LegendEntry],
    svg: Option<Markup>,
    below: &[String],
) -> Markup {
    let key = |entry: &LegendEntry| {
        let colour = plot::paint(entry.colour);
        html! {
            @match entry.line {
                None => { i.area style={ "background:" (colour) } {} }
                Some((marker, dash)) => {
                    @let border = dash.map_or("none", |n| DASHES[n].1);
                    i style={ "border-top:3px " (border) " " (colour) } {}
                    @if let Some(marker) = marker { b style={ "color:" (colour) } { (marker.glyph()) } }
                }
            }
        }
    };
    html! {
        @if let Some(svg) = svg {
            figure {
                figcaption { (title) }
                ul.legend { @for entry in legend { li { (key(entry)) (entry.name) } } }
                div.wide tabindex="0" role="region" aria-label=(title) { (svg) }
                (notes(below))
            }
        } @else {
            p { (title) ": nothing was measured that could be drawn." }
            (notes(below))
        }
    }
}

/// At most `most` groups, the most demanding ones, in the order of the tables, with the words for
/// what is left out.
pub(super) fn chosen<'g>(groups: &[&'g Group], most: usize) -> (Vec<&'g Group>, Option<String>) {
    if groups.len() <= most {
        return (groups.to_vec(), None);
    }
    let mut kept = groups.to_vec();
    kept.sort_by(|a, b| verdict::size(b).total_cmp(&verdict::size(a)));
    kept.truncate(most);
    let is_kept = |g: &&&Group| kept.iter().any(|k| std::ptr::eq(*k, **g));
    let note = format!(
        "Drawn are the {most} groups with the most lanes and requests, so that this file stays \
         small. The figures of {} more are in the tables and in cells.csv.",
        groups.len() - most
    );
    (groups.iter().filter(is_kept).copied().collect(), Some(note))
}

/// What tells places of a run from one another, in few words: lanes and load, and whatever else
/// differs; nothing of the axes `without`.
pub(super) fn titles(cells: &[&Cell], without: &[Axis]) -> Vec<String> {
    let differing = Axis::differing(cells);
    let counted = cells.iter().any(|c| c.counts_events() != cells[0].counts_events());
    let told = |axis: &Axis| {
        cells.iter().any(|cell| cell.shares(*axis))
            && !without.contains(axis)
            && (matches!(axis, Axis::Lanes | Axis::Load) || differing.contains(axis))
    };
    let title = |cell: &&Cell| {
        let words = Axis::all().filter(told).map(|axis| axis.words(cell));
        let counted = (counted && cell.counts_events()).then(|| "system calls counted".into());
        words.chain(counted).filter(|w| !w.is_empty()).collect::<Vec<String>>().join(" · ")
    };
    cells.iter().map(title).collect()
}

pub(super) fn titles_of(groups: &[&Group]) -> Vec<String> {
    titles(&groups.iter().map(|g| &g.cell).collect::<Vec<&Cell>>(), &[])
}

/// Reasons why cells have no point, each with the cells, so that nobody has to look for them.
pub(super) fn missing(missing: &[(&'static str, String)]) -> Vec<String> {
    const MOST_CELLS: usize = 8;
    let mut reasons: Vec<(&str, Vec<&str>)> = Vec::new();
    for (why, cell) in missing {
        match reasons.iter_mut().find(|(reason, _)| reason == why) {
            Some((_, cells)) => cells.push(cell),
            None => reasons.push((why, vec![cell])),
        }
    }
    let words = |(why, cells): (&str, Vec<&str>)| {
        let more = cells.len().saturating_sub(MOST_CELLS);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let shown: Vec<&str> = cells.into_iter().take(MOST_CELLS).collect();
        format!("Not drawn, because {why}: {}{more}.", shown.join("; "))
    };
    reasons.into_iter().map(words).collect()
}
