//! Stacked horizontal bars, in panels that share their axis.

use maud::{Markup, html};

use super::scale::Ticked;
use super::{Colour, Grid, Placed, PlotAxis, Scale, columns, paint, tenth};

/// One bar of stacked parts.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Bar {
    pub(crate) name: String,
    /// Length of each part, in the order of the legend; never negative.
    pub(crate) parts: Vec<f64>,
}

impl Bar {
    fn total(&self) -> f64 {
        self.parts.iter().sum()
    }
}

/// Height of one bar with its caption.
const BAR_HEIGHT: f64 = 36.0;

/// Draws stacked horizontal bars, a panel per group, each bar under its name and total; `None`
/// without a length.
pub(crate) fn bars(
    name: &str,
    axis: &PlotAxis<'_>,
    parts: &[(&str, Colour)],
    groups: &[(String, Vec<Bar>)],
) -> Option<Markup> {
    let longest = groups.iter().flat_map(|(_, bars)| bars).map(Bar::total).fold(0.0, f64::max);
    if longest <= 0.0 || !longest.is_finite() {
        return None;
    }
    let columns = columns(groups.len());
    let across = axis.scale.axis([longest].into_iter(), 5)?;
    let most = groups.iter().map(|(_, bars)| bars.len()).max().unwrap_or(1);
    let width = if columns > 1 { 350.0 } else { 440.0 };
    let size = (width, most as f64 * BAR_HEIGHT + 6.0);
    let grid = Grid { columns, panels: groups.len(), size, left: 20.0 };
    let no_y = PlotAxis::new("", Scale::Linear, &|_| String::new());
    let up = Ticked { low: 0.0, high: 1.0, ticks: Vec::new() };
    let body = html! {
        @for (i, (title, bars)) in groups.iter().enumerate() {
            @let corner = grid.corner(i);
            @let place = Placed { grid: &grid, corner, axes: (axis, &no_y), ticked: (&across, &up) };
            (place.frame(title, false, false, grid.is_last_of_column(i)))
            @for (row, bar) in bars.iter().enumerate() {
                (stacked(&place, corner.1 + row as f64 * BAR_HEIGHT, bar, parts))
            }
        }
    };
    Some(grid.svg(name, &body))
}

fn stacked(place: &Placed<'_>, top: f64, bar: &Bar, parts: &[(&str, Colour)]) -> Markup {
    let print = place.axes.0.print;
    let mut from = 0.0;
    let rects =
        bar.parts.iter().zip(parts).filter(|(length, _)| **length > 0.0).map(|(length, part)| {
            let (a, b) = (place.at(from, 0.0).0, place.at(from + length, 0.0).0);
            from += length;
            (a, (b - a).max(0.5), part, *length)
        });
    html! {
        text x=(place.corner.0 + 4.0) y=(top + 13.0) { (bar.name) ": " (print(bar.total())) }
        @for (x, width, (part, colour), length) in rects {
            rect class="b" x=(x) y=(top + 18.0) width=(tenth(width)) height="14" fill=(paint(*colour)) {
                title { (bar.name) ", " (part) ": " (print(length)) }
            }
        }
    }
}
