//! What every figure shares: a caption, a legend, notes, and the choice of what is drawn.

use std::collections::BTreeSet;

use maud::{Markup, html};

use super::notes;
use crate::plan::{Axis, Cell};
use crate::report::plot::{self, Bar, Colour, DASHES, Marker, Panel, PlotAxis};
use crate::report::summary::Group;
use crate::report::verdict;

/// Most panels of a figure: more would take the file beyond what a mail carries.
pub(super) const MOST_PANELS: usize = 24;

/// How lines that coincide are told apart; see [`plot::lines`].
pub(super) const APART: &str =
    "Where lines coincide, the one below is wider and markers stand aside.";

/// A name with its colour; of a line, what marks its points, and its dashes.
type LegendEntry = (String, Colour, Option<(Option<Marker>, Option<usize>)>);

/// Panels of lines with a legend, in which each name stands once; nothing where there is no point.
pub(super) fn lines(
    title: &str,
    x: &PlotAxis<'_>,
    columns: usize,
    panels: &[Panel<'_>],
    below: &[String],
) -> Markup {
    let mut legend: Vec<LegendEntry> = Vec::new();
    for line in panels.iter().flat_map(|p| &p.lines) {
        if !legend.iter().any(|(name, ..)| *name == line.name) {
            let marker = line.points.iter().any(|p| p.marked).then_some(line.marker);
            legend.push((line.name.clone(), line.colour, Some((marker, line.dash))));
        }
    }
    figure(title, &legend, plot::lines(title, x, columns, panels), below)
}

/// A bar's name, and the length of each of its parts; `None` where it was not measured.
pub(super) type Measured = (String, Vec<Option<f64>>);

/// Stacked bars in panels, with a legend of the parts that were measured.
pub(super) fn bars(
    title: &str,
    axis: &PlotAxis<'_>,
    parts: &[(&str, Colour)],
    panels: Vec<(String, Vec<Measured>)>,
    below: &[String],
) -> Markup {
    let all = || {
        panels.iter().flat_map(|(_, bars)| bars).flat_map(|(_, lengths)| {
            lengths.iter().enumerate().filter(|(_, length)| length.is_some()).map(|(i, _)| i)
        })
    };
    let seen: BTreeSet<usize> = all().collect();
    let legend: Vec<LegendEntry> =
        seen.into_iter().map(|i| (parts[i].0.into(), parts[i].1, None)).collect();
    let bar = |(name, lengths): Measured| {
        let parts = lengths.into_iter().map(|length| length.unwrap_or(0.0).max(0.0)).collect();
        Bar { name, parts }
    };
    let drawn =
        |(title, bars): (String, Vec<Measured>)| (title, bars.into_iter().map(bar).collect());
    let panels: Vec<(String, Vec<Bar>)> = panels.into_iter().map(drawn).collect();
    figure(title, &legend, plot::bars(title, axis, parts, &panels), below)
}

/// A plot with its caption and legend; words where nothing could be drawn.
fn figure(title: &str, legend: &[LegendEntry], svg: Option<Markup>, below: &[String]) -> Markup {
    let key = |colour: String, line: Option<(Option<Marker>, Option<usize>)>| {
        html! {
            @match line {
                None => { i.area style={ "background:" (colour) } {} }
                Some((marker, dash)) => {
                    @let border = dash.map_or("none", |n| DASHES[n].1);
                    i style={ "border-top:3px " (border) " " (colour) } {}
                    @if let Some(marker) = marker { b style={ "color:" (colour) } { (marker.glyph) } }
                }
            }
        }
    };
    html! {
        @if let Some(svg) = svg {
            figure {
                figcaption { (title) }
                ul.legend { @for (name, colour, line) in legend { li { (key(plot::paint(*colour), *line)) (name) } } }
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
pub(super) fn chosen<'g>(groups: &[&'g Group], most: usize) -> (Vec<&'g Group>, Vec<String>) {
    if groups.len() <= most {
        return (groups.to_vec(), vec![]);
    }
    let kept = &verdict::demanding(groups)[..most];
    let note = format!(
        "Drawn are the {most} groups with the most lanes and requests, so that this file stays \
         small. The figures of {} more are in the tables and in cells.csv.",
        groups.len() - most
    );
    (among(groups, kept), vec![note])
}

/// Those of all groups that are among some, in the order of all.
pub(super) fn among<'g>(all: &[&'g Group], some: &[&Group]) -> Vec<&'g Group> {
    let is_among = |g: &&Group| some.iter().any(|other| std::ptr::eq(*other, *g));
    all.iter().copied().filter(is_among).collect()
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
