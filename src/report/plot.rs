//! Plots as inline SVG: axes and grid by `plotters`, series with their hover texts laid over them.
//!
//! Black becomes the text's colour, so that one file reads on light and dark. Colours are those of
//! M. Okabe and K. Ito, "Color Universal Design" (2008), which the colour-blind tell apart; each
//! engine has a marker of its own too, for print without colour.

mod scale;

use std::fmt::Write;

use plotters::coord::Shift;
use plotters::prelude::*;

use super::html::escape;
use crate::plan::Engine;
pub use scale::Scale;
use scale::Ticked;

/// Width and height of the drawing in its own units; pages scale it.
const SIZE: (u32, u32) = (480, 290);
/// Height of one bar with its caption.
const BAR_HEIGHT: u32 = 38;
/// Label of the axes.
const FONT: (&str, u32) = ("sans-serif", 13);
/// Distance between the same point of two lines that have intervals, which would hide each other.
const DODGE: f64 = 3.0;

/// A colour of the palette.
pub type Colour = (u8, u8, u8);

/// Orange, sky blue, bluish green, blue, vermilion, reddish purple.
pub const PALETTE: [Colour; 6] =
    [(230, 159, 0), (86, 180, 233), (0, 158, 115), (0, 114, 178), (213, 94, 0), (204, 121, 167)];

/// For what is left over.
pub const GREY: Colour = (140, 140, 140);

/// How a point is marked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Marker {
    /// ●
    Circle,
    /// ■
    Square,
    /// ▲
    Triangle,
    /// ◆
    Diamond,
    /// ▼
    Down,
}

impl Marker {
    /// The marker as a letter, for legends.
    pub fn glyph(self) -> char {
        match self {
            Marker::Circle => '●',
            Marker::Square => '■',
            Marker::Triangle => '▲',
            Marker::Diamond => '◆',
            Marker::Down => '▼',
        }
    }

    /// The marker's outline around the origin.
    fn path(self) -> &'static str {
        match self {
            Marker::Circle => "m-3.5 0a3.5 3.5 0 1 0 7 0a3.5 3.5 0 1 0-7 0",
            Marker::Square => "m-3-3h6v6h-6z",
            Marker::Triangle => "m0-4l4 7h-8z",
            Marker::Diamond => "m0-4.5l4 4.5-4 4.5-4-4.5z",
            Marker::Down => "m0 4l4-7h-8z",
        }
    }
}

/// Looks of the engines in their order; those at the end are free for engines to come.
const ENGINE_STYLES: [(Colour, Marker); 7] = [
    (PALETTE[5], Marker::Down),
    (PALETTE[4], Marker::Square),
    (PALETTE[0], Marker::Triangle),
    (PALETTE[3], Marker::Circle),
    (PALETTE[2], Marker::Diamond),
    (PALETTE[1], Marker::Down),
    (PALETTE[1], Marker::Triangle),
];

/// The colour and marker of an engine in every plot.
pub fn engine_style(engine: Engine) -> (Colour, Marker) {
    ENGINE_STYLES[engine as usize % ENGINE_STYLES.len()]
}

/// The colour as SVG and CSS take it. Blue is too dark for a dark page, which brightens it.
pub fn paint((r, g, b): Colour) -> String {
    let hex = format!("#{r:02x}{g:02x}{b:02x}");
    if (r, g, b) == PALETTE[3] { format!("var(--blue,{hex})") } else { hex }
}

/// An axis.
pub struct Axis<'a> {
    /// What it shows, with its unit.
    pub title: &'a str,
    /// How.
    pub scale: Scale,
    /// Prints a value.
    pub print: &'a dyn Fn(f64) -> String,
}

/// A point of a line.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// Across.
    pub x: f64,
    /// Up.
    pub y: f64,
    /// Ends of its interval.
    pub interval: Option<(f64, f64)>,
    /// Whether it is marked and has a hover text.
    pub marked: bool,
}

/// How the points of a line are joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stroke {
    /// By a line.
    Solid,
    /// By a dashed line: a second one of the same colour.
    Dashed,
    /// Not at all: only marks.
    None,
}

/// A line.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// Its name in the legend.
    pub name: String,
    /// Its colour.
    pub colour: Colour,
    /// Its marker.
    pub marker: Marker,
    /// How its points are joined.
    pub stroke: Stroke,
    /// Its points, from left to right.
    pub points: Vec<Point>,
}

impl Line {
    /// The points that have a place; a division by nothing has none.
    fn finite(&self) -> impl Iterator<Item = &Point> {
        self.points.iter().filter(|p| p.x.is_finite() && p.y.is_finite())
    }
}

type Chart<'a> = ChartContext<'a, SVGBackend<'a>, Cartesian2d<Ticked, Ticked>>;

/// Draws lines; `None` without a point.
pub fn lines(name: &str, x: &Axis<'_>, y: &Axis<'_>, lines: &[Line]) -> Option<String> {
    let points = || lines.iter().flat_map(Line::finite);
    let across = x.scale.axis(points().map(|p| p.x))?;
    let ends = |p: &Point| {
        let (low, high) = p.interval.unwrap_or((p.y, p.y));
        [p.y, low, high]
    };
    let up = y.scale.axis(points().flat_map(ends))?;
    let mut svg = String::new();
    let mut over = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        let chart = frame(&root, (across, up), x, y)?;
        let dodged = lines.iter().filter(|l| l.points.iter().any(|p| p.interval.is_some()));
        let spread = DODGE.min(24.0 / dodged.count().max(1) as f64);
        for (i, line) in lines.iter().enumerate() {
            let has_intervals = line.points.iter().any(|p| p.interval.is_some());
            let aside = (i as f64 - (lines.len() - 1) as f64 / 2.0) * spread;
            draw(&mut over, &chart, line, (x, y), if has_intervals { aside } else { 0.0 });
        }
        root.present().ok()?;
    }
    Some(finish(&svg, name, &over))
}

/// Axes, their titles and labels, and the grid.
fn frame<'a>(
    root: &DrawingArea<SVGBackend<'a>, Shift>,
    (across, up): (Ticked, Ticked),
    x: &Axis<'_>,
    y: &Axis<'_>,
) -> Option<Chart<'a>> {
    let mut chart = ChartBuilder::on(root)
        .margin(6)
        .margin_right(16)
        .x_label_area_size(40)
        .y_label_area_size(68)
        .build_cartesian_2d(across, up)
        .ok()?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .x_desc(x.title)
        .y_desc(y.title)
        .x_label_formatter(&|at| (x.print)(x.scale.from(*at)))
        .y_label_formatter(&|at| (y.print)(y.scale.from(*at)))
        .label_style(FONT.into_font())
        .axis_desc_style(FONT.into_font())
        .light_line_style(TRANSPARENT)
        .bold_line_style(BLACK.mix(0.15))
        .draw()
        .ok()?;
    Some(chart)
}

/// One line with its intervals, markers and hover texts, `aside` units to the right.
fn draw(
    out: &mut String,
    chart: &Chart<'_>,
    line: &Line,
    (x, y): (&Axis<'_>, &Axis<'_>),
    aside: f64,
) {
    let at = |px: f64, py: f64| {
        let (a, b) = chart.backend_coord(&(x.scale.to(px), y.scale.to(py)));
        (f64::from(a) + aside, b)
    };
    let colour = paint(line.colour);
    let dash = if line.stroke == Stroke::Dashed { " stroke-dasharray=\"6 4\"" } else { "" };
    let _ = write!(out, "<g stroke=\"{colour}\" fill=\"none\">");
    if line.points.len() > 1 && line.stroke != Stroke::None {
        let path: Vec<String> =
            line.finite().map(|p| at(p.x, p.y)).map(|(a, b)| format!("{a},{b}")).collect();
        let _ = write!(out, "<polyline stroke-width=\"2\"{dash} points=\"{}\"/>", path.join(" "));
    }
    for p in line.finite() {
        if let Some((low, high)) = p.interval {
            let ((a, b), (_, c)) = (at(p.x, low), at(p.x, high));
            let _ = write!(out, "<path d=\"M{a} {b}V{c}M{} {b}h6M{} {c}h6\"/>", a - 3.0, a - 3.0);
        }
    }
    out.push_str("</g>");
    for p in line.finite().filter(|p| p.marked) {
        let (a, b) = at(p.x, p.y);
        // The stroke cannot be seen, but makes the marker easier to point at.
        let _ = write!(
            out,
            "<path d=\"M{a} {b}{}\" fill=\"{colour}\" class=\"m\"><title>{}</title></path>",
            line.marker.path(),
            escape(&text(line, p, x, y))
        );
    }
}

fn text(line: &Line, p: &Point, x: &Axis<'_>, y: &Axis<'_>) -> String {
    let interval = p
        .interval
        .map_or(String::new(), |(low, high)| format!(" [{}, {}]", (y.print)(low), (y.print)(high)));
    format!("{}, {} {}: {}{interval}", line.name, x.title, (x.print)(p.x), (y.print)(p.y))
}

/// One bar of stacked parts.
#[derive(Debug, Clone, PartialEq)]
pub struct Bar {
    /// What it stands for.
    pub name: String,
    /// Length of each part, in the order of the legend; never negative.
    pub parts: Vec<f64>,
}

/// Draws stacked horizontal bars, each under its name and total; `None` without a length.
pub fn bars(
    name: &str,
    axis: &Axis<'_>,
    parts: &[(String, Colour)],
    bars: &[Bar],
) -> Option<String> {
    let total = |bar: &Bar| bar.parts.iter().sum::<f64>();
    let longest = bars.iter().map(total).fold(0.0, f64::max);
    if longest <= 0.0 || !longest.is_finite() {
        return None;
    }
    let mut svg = String::new();
    let mut over = String::new();
    let height = bars.len() as u32 * BAR_HEIGHT + 56;
    {
        let root = SVGBackend::with_string(&mut svg, (SIZE.0, height)).into_drawing_area();
        let mut chart = ChartBuilder::on(&root)
            .margin(6)
            .margin_left(18)
            .margin_right(30)
            .x_label_area_size(40)
            .build_cartesian_2d(axis.scale.axis([longest].into_iter())?, 0.0..bars.len() as f64)
            .ok()?;
        chart
            .configure_mesh()
            .disable_y_mesh()
            .disable_y_axis()
            .x_desc(axis.title)
            .x_label_formatter(&|v| (axis.print)(*v))
            .label_style(FONT.into_font())
            .axis_desc_style(FONT.into_font())
            .light_line_style(TRANSPARENT)
            .bold_line_style(BLACK.mix(0.15))
            .draw()
            .ok()?;
        for (i, bar) in bars.iter().enumerate() {
            let bottom = (bars.len() - 1 - i) as f64 + 0.1;
            let mut from = 0.0;
            for (length, (part, colour)) in bar.parts.iter().zip(parts) {
                if *length <= 0.0 {
                    continue;
                }
                let a = chart.backend_coord(&(from, bottom + 0.44));
                let b = chart.backend_coord(&(from + length, bottom));
                from += length;
                let says = format!("{}, {part}: {}", bar.name, (axis.print)(*length));
                let _ = write!(
                    over,
                    "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" fill=\"{}\" \
                     class=\"b\"><title>{}</title></rect>",
                    a.0,
                    a.1,
                    (b.0 - a.0).max(1),
                    (b.1 - a.1).max(1),
                    paint(*colour),
                    escape(&says)
                );
            }
            let (cx, cy) = chart.backend_coord(&(0.0, bottom + 0.52));
            let caption = format!("{}: {}", bar.name, (axis.print)(total(bar)));
            let _ = write!(
                over,
                "<text x=\"{cx}\" y=\"{cy}\" font-size=\"12\">{}</text>",
                escape(&caption)
            );
        }
        root.present().ok()?;
    }
    Some(finish(&svg, name, &over))
}

/// Gives the drawing its accessible name, what lies over it and a size that follows the page's.
///
/// plotters repeats font, opacity and widths on every element; said once on the root they leave a
/// third of the bytes.
fn finish(svg: &str, name: &str, over: &str) -> String {
    let body = svg.split_once('>').map_or("", |(_, rest)| rest);
    let view_box = svg
        .split_once("viewBox=\"")
        .and_then(|(_, rest)| rest.split_once('"'))
        .map_or("0 0 480 290", |(size, _)| size);
    let mut body = body.trim_end().trim_end_matches("</svg>").replace("#000000", "currentColor");
    for repeated in [
        " font-family=\"sans-serif\"",
        " font-size=\"10.483870967741936\"",
        " opacity=\"1\"",
        " stroke-width=\"1\"",
    ] {
        body = body.replace(repeated, "");
    }
    body = body.replace("text-anchor=\"middle\" fill=\"currentColor\"", "text-anchor=\"middle\"");
    let body: String = body.lines().map(str::trim).collect();
    let name = escape(name);
    format!(
        "<svg viewBox=\"{view_box}\" role=\"img\" aria-label=\"{name}\" \
         font-family=\"sans-serif\" font-size=\"10.5\" fill=\"currentColor\">\
         <title>{name}</title>{body}{over}</svg>"
    )
}
