//! Plots as inline SVG: one drawing of one or more panels that share their axes.
//!
//! Colours are those of M. Okabe and K. Ito, "Color Universal Design" (2008), which the colour-blind
//! tell apart; each engine has a marker of its own too, for print without colour. Everything else
//! takes the colour of the page's text, so that one file reads on light and dark.

mod bars;
mod scale;

use std::ptr;

use maud::{Markup, html};

use crate::plan::Engine;
use crate::units::format_count;
pub(crate) use bars::{Bar, bars};
pub(crate) use scale::Scale;
use scale::Ticked;

pub(crate) type Colour = (u8, u8, u8);

/// Orange, sky blue, bluish green, blue, vermilion, reddish purple.
pub(crate) const PALETTE: [Colour; 6] =
    [(230, 159, 0), (86, 180, 233), (0, 158, 115), (0, 114, 178), (213, 94, 0), (204, 121, 167)];

/// For what is left over.
pub(crate) const GREY: Colour = (140, 140, 140);

/// How the lines of one colour differ: dashes as SVG and as CSS name them.
pub(crate) const DASHES: [(&str, &str); 4] =
    [("", "solid"), ("6 4", "dashed"), ("2 3", "dotted"), ("9 3 2 3", "double")];

/// What marks the points of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Marker {
    /// As a letter, for legends.
    pub(crate) glyph: char,
    /// Its outline around the origin.
    path: &'static str,
}

pub(crate) const CIRCLE: Marker =
    Marker { glyph: '●', path: "m-3.5 0a3.5 3.5 0 1 0 7 0a3.5 3.5 0 1 0-7 0" };
const SQUARE: Marker = Marker { glyph: '■', path: "m-3-3h6v6h-6z" };
const TRIANGLE: Marker = Marker { glyph: '▲', path: "m0-4l4 7h-8z" };
pub(crate) const DIAMOND: Marker = Marker { glyph: '◆', path: "m0-4.5l4 4.5-4 4.5-4-4.5z" };
const DOWN: Marker = Marker { glyph: '▼', path: "m0 4l4-7h-8z" };

/// Looks of the engines in their order; those at the end are free for engines to come.
const ENGINE_STYLES: [(Colour, Marker); 7] = [
    (PALETTE[5], DOWN),
    (PALETTE[4], SQUARE),
    (PALETTE[0], TRIANGLE),
    (PALETTE[3], CIRCLE),
    (PALETTE[2], DIAMOND),
    (PALETTE[1], DOWN),
    (PALETTE[1], TRIANGLE),
];

/// The colour and marker of an engine in every plot.
pub(crate) fn engine_style(engine: Engine) -> (Colour, Marker) {
    ENGINE_STYLES[engine as usize % ENGINE_STYLES.len()]
}

/// The colour as SVG and CSS take it. Blue is too dark for a dark page, which brightens it.
pub(crate) fn paint((r, g, b): Colour) -> String {
    let hex = format!("#{r:02x}{g:02x}{b:02x}");
    if (r, g, b) == PALETTE[3] { format!("var(--blue,{hex})") } else { hex }
}

pub(crate) struct PlotAxis<'a> {
    title: &'a str,
    scale: Scale,
    print: &'a dyn Fn(f64) -> String,
    /// Values that it holds whether or not they are drawn.
    holds: Vec<f64>,
}

impl<'a> PlotAxis<'a> {
    /// An axis whose `title` says what it shows and in which unit; `print` prints a value.
    pub(crate) fn new(
        title: &'a str,
        scale: Scale,
        print: &'a dyn Fn(f64) -> String,
    ) -> PlotAxis<'a> {
        PlotAxis { title, scale, print, holds: Vec::new() }
    }

    /// The same with room for all of `values`, so that drawings beside each other share it.
    pub(crate) fn holding(mut self, values: impl Iterator<Item = f64>) -> PlotAxis<'a> {
        self.holds.extend(values);
        self
    }

    fn words(&self) -> String {
        format!("{}{}", self.title, self.scale.words())
    }
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Mark {
    pub(crate) x: f64,
    pub(crate) y: f64,
    pub(crate) interval: Option<(f64, f64)>,
    pub(crate) marked: bool,
}

impl Mark {
    /// A point that is marked and has no interval.
    pub(crate) fn at(x: f64, y: f64) -> Mark {
        Mark { x, y, interval: None, marked: true }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Stroke {
    pub(crate) name: String,
    pub(crate) colour: Colour,
    pub(crate) marker: Marker,
    /// Index into [`DASHES`]; `None` joins no points: only marks.
    pub(crate) dash: Option<usize>,
    /// From left to right.
    pub(crate) points: Vec<Mark>,
}

impl Stroke {
    /// The points that have a place; a division by zero has none.
    fn finite(&self) -> impl Iterator<Item = &Mark> {
        self.points.iter().filter(|p| p.x.is_finite() && p.y.is_finite())
    }
}

pub(crate) struct Panel<'a> {
    pub(crate) title: String,
    /// Panels of one axis share its range.
    pub(crate) y: &'a PlotAxis<'a>,
    pub(crate) lines: Vec<Stroke>,
}

/// The panels of a drawing under way.
#[derive(Default)]
pub(crate) struct Panels<'a>(pub(crate) Vec<Panel<'a>>);

impl<'a> Panels<'a> {
    pub(crate) fn begin(&mut self, title: impl Into<String>, y: &'a PlotAxis<'a>) {
        self.0.push(Panel { title: title.into(), y, lines: vec![] });
    }

    /// Adds points to the last panel: to its line of that name, or to a new one, whose dashes are the
    /// same in every panel.
    pub(crate) fn draw(&mut self, engine: Engine, name: &str, points: Vec<Mark>) {
        let (colour, marker) = engine_style(engine);
        let mut names: Vec<&str> = Vec::new();
        for line in self.0.iter().flat_map(|p| &p.lines).filter(|l| l.colour == colour) {
            if !names.contains(&line.name.as_str()) {
                names.push(&line.name);
            }
        }
        let nth = names.iter().position(|n| *n == name).unwrap_or(names.len());
        let Some(panel) = self.0.last_mut().filter(|_| !points.is_empty()) else { return };
        match panel.lines.iter_mut().find(|l| l.name == name) {
            Some(line) => line.points.extend(points),
            None => {
                let (name, dash) = (name.into(), Some(nth % DASHES.len()));
                panel.lines.push(Stroke { name, colour, marker, dash, points });
            }
        }
    }
}

/// Where the panels of a drawing stand, in its own units; pages scale it.
struct Grid {
    columns: usize,
    panels: usize,
    size: (f64, f64),
    left: f64,
}

/// Room above a panel, for its title and that of its axis.
const HEAD: f64 = 44.0;
/// Room below the last panels, for labels and the title of the axis.
const FOOT: f64 = 44.0;
const GAP: f64 = 26.0;

impl Grid {
    fn is_last_of_column(&self, i: usize) -> bool {
        i + self.columns >= self.panels
    }

    fn corner(&self, i: usize) -> (f64, f64) {
        let (column, row) = (i % self.columns, i / self.columns);
        let (width, height) = (self.size.0 + GAP, self.size.1 + HEAD);
        (self.left + column as f64 * width, HEAD + row as f64 * height)
    }

    /// The drawing around its panels, with an accessible name and a size that follows the page's.
    fn svg(&self, name: &str, body: &Markup) -> Markup {
        let rows = self.panels.div_ceil(self.columns) as f64;
        let width = self.left + self.columns as f64 * (self.size.0 + GAP);
        let height = rows * (self.size.1 + HEAD) + FOOT;
        // A panel stays wide enough to be read on a phone, where several scroll.
        let narrowest = if self.columns > 1 { self.columns * 20 } else { 0 };
        html! {
            svg viewBox={ "0 0 " (width) " " (height) } .many[self.columns > 1] role="img" aria-label=(name)
                style={ "min-width:" (narrowest) "rem;max-width:" (width * 1.45) "px" } {
                title { (name) }
                (body)
            }
        }
    }
}

/// A whole number with separators.
pub(crate) fn whole(v: f64) -> String {
    format_count(v.round().max(0.0) as u64)
}

pub(crate) fn columns(panels: usize) -> usize {
    if panels == 4 { 2 } else { panels.clamp(1, 3) }
}

fn tenth(v: f64) -> f64 {
    (v * 10.0).round() / 10.0
}

/// Draws lines; `None` without a point.
pub(crate) fn lines(
    name: &str,
    x: &PlotAxis<'_>,
    columns: usize,
    panels: &[Panel<'_>],
) -> Option<Markup> {
    let all = || panels.iter().flat_map(|p| &p.lines).flat_map(Stroke::finite);
    let most = if columns > 1 { 5 } else { 7 };
    let across = x.scale.axis(all().map(|p| p.x).chain(x.holds.iter().copied()), most)?;
    let size = if columns > 1 { (340.0, 170.0) } else { (400.0, 220.0) };
    let grid = Grid { columns, panels: panels.len(), size, left: 66.0 };
    let ends = |p: &Mark| {
        let (low, high) = p.interval.unwrap_or((p.y, p.y));
        [p.y, low, high]
    };
    let mut drawn = Vec::new();
    for (i, panel) in panels.iter().enumerate() {
        let alike = panels.iter().filter(|p| ptr::eq(p.y, panel.y));
        let values = alike.flat_map(|p| &p.lines).flat_map(Stroke::finite).flat_map(ends);
        let Some(up) = panel.y.scale.axis(values, 6) else { continue };
        let place = Placed {
            grid: &grid,
            corner: grid.corner(i),
            axes: (x, panel.y),
            ticked: (&across, &up),
        };
        let above = i.checked_sub(columns).map(|above| panels[above].y);
        let titled = i % columns == 0 && !above.is_some_and(|above| ptr::eq(above, panel.y));
        drawn.push(html! {
            (place.frame(&panel.title, titled, i % columns == 0, grid.is_last_of_column(i)))
            (place.lines(&panel.lines))
        });
    }
    Some(grid.svg(name, &html! { @for panel in &drawn { (panel) } }))
}

struct Placed<'a> {
    grid: &'a Grid,
    corner: (f64, f64),
    axes: (&'a PlotAxis<'a>, &'a PlotAxis<'a>),
    ticked: (&'a Ticked, &'a Ticked),
}

impl Placed<'_> {
    fn at(&self, x: f64, y: f64) -> (f64, f64) {
        let (width, height) = self.grid.size;
        let right = self.ticked.0.share(self.axes.0.scale.to(x));
        let up = self.ticked.1.share(self.axes.1.scale.to(y));
        (tenth(self.corner.0 + right * width), tenth(self.corner.1 + (1.0 - up) * height))
    }

    fn frame(&self, title: &str, titled: bool, first: bool, last: bool) -> Markup {
        let ((left, top), (width, height)) = (self.corner, self.grid.size);
        let (x, y) = self.axes;
        html! {
            @if titled { text x="2" y=(top - 24.0) { (y.words()) } }
            text x=(left) y=(top - 8.0) font-weight="600" { (title) }
            @for tick in &self.ticked.1.ticks {
                @let at = tenth(top + (1.0 - self.ticked.1.share(*tick)) * height);
                path class="g" d={ "M" (left) " " (at) "h" (width) } {}
                @if first {
                    text x=(left - 5.0) y=(at + 3.5) text-anchor="end" { ((y.print)(y.scale.from(*tick))) }
                }
            }
            path class="a" d={ "M" (left) " " (top) "v" (height) "h" (width) } {}
            @for tick in &self.ticked.0.ticks {
                @let at = tenth(left + self.ticked.0.share(*tick) * width);
                path class="a" d={ "M" (at) " " (top + height) "v4" } {}
                @if last {
                    text x=(at) y=(top + height + 16.0) text-anchor=(self.anchor(*tick)) {
                        ((x.print)(x.scale.from(*tick)))
                    }
                }
            }
            @if last {
                text x=(left + width / 2.0) y=(top + height + 33.0) text-anchor="middle" { (x.words()) }
            }
        }
    }

    /// How a label of the x axis stands at its tick: inwards at the ends, where panels are neighbours.
    fn anchor(&self, tick: f64) -> &'static str {
        match self.ticked.0.share(tick) {
            _ if self.grid.columns < 2 => "middle",
            share if share < 0.02 => "start",
            share if share > 0.95 => "end",
            _ => "middle",
        }
    }

    /// Lines with their intervals, markers and hover texts.
    ///
    /// One that others lie on is drawn wider than they are, and its markers stand aside, so that
    /// each can be seen.
    fn lines(&self, lines: &[Stroke]) -> Markup {
        let placed: Vec<Vec<(f64, f64)>> =
            lines.iter().map(|l| l.finite().map(|p| self.at(p.x, p.y)).collect()).collect();
        let covers: Vec<usize> = (0..lines.len())
            .map(|i| placed[i + 1..].iter().filter(|above| coincide(&placed[i], above)).count())
            .collect();
        let has_intervals = lines.iter().flat_map(|l| &l.points).any(|p| p.interval.is_some());
        let apart = has_intervals || covers.iter().any(|n| *n > 0);
        let spread = if apart { 3f64.min(24.0 / lines.len() as f64) } else { 0.0 };
        html! {
            @for (i, line) in lines.iter().enumerate() {
                @let aside = (i as f64 - (lines.len() - 1) as f64 / 2.0) * spread;
                (self.line(line, &placed[i], 2.0 + 2.5 * covers[i].min(3) as f64, aside))
            }
        }
    }

    fn line(&self, line: &Stroke, placed: &[(f64, f64)], wide: f64, aside: f64) -> Markup {
        let colour = paint(line.colour);
        let dash = line.dash.map(|n| DASHES[n].0).filter(|dash| !dash.is_empty());
        let points: Vec<String> = placed.iter().map(|(x, y)| format!("{x},{y}")).collect();
        let points = Some(points.join(" ")).filter(|_| placed.len() > 1 && line.dash.is_some());
        html! {
            g stroke=(colour) fill="none" {
                @if let Some(points) = points {
                    polyline stroke-width=(wide) stroke-dasharray=[dash] points=(points) {}
                }
                @for p in line.finite() {
                    @if let Some((low, high)) = p.interval {
                        @let ((x, b), (_, c)) = (self.at(p.x, low), self.at(p.x, high));
                        @let a = tenth(x + aside);
                        path d={ "M" (a) " " (b) "V" (c) "M" (a - 3.0) " " (b) "h6M" (a - 3.0) " " (c) "h6" } {}
                    }
                }
            }
            @for (p, (x, y)) in line.finite().zip(placed).filter(|(p, _)| p.marked) {
                // The stroke cannot be seen, but makes the marker easier to point at.
                path class="m" fill=(colour) d={ "M" (tenth(x + aside)) " " (y) (line.marker.path) } {
                    title { (self.says(line, p)) }
                }
            }
        }
    }

    fn says(&self, line: &Stroke, p: &Mark) -> String {
        let (x, y) = self.axes;
        let interval = p.interval.map_or(String::new(), |(low, high)| {
            format!(" [{}, {}]", (y.print)(low), (y.print)(high))
        });
        format!("{}, {} {}: {}{interval}", line.name, x.title, (x.print)(p.x), (y.print)(p.y))
    }
}

/// Whether a line runs along another for a part of its way, by their places.
fn coincide(below: &[(f64, f64)], above: &[(f64, f64)]) -> bool {
    let height = |x: f64| {
        let pair = above.windows(2).find(|w| w[0].0 <= x && x <= w[1].0)?;
        let share = (x - pair[0].0) / (pair[1].0 - pair[0].0).max(1e-9);
        Some(pair[0].1 + share * (pair[1].1 - pair[0].1))
    };
    let on: Vec<bool> =
        below.iter().map(|(x, y)| height(*x).is_some_and(|h| (h - y).abs() < 2.5)).collect();
    on.windows(2).any(|w| w[0] && w[1])
}
