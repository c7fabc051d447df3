//! Plots as inline SVG: axes, grid and series by `plotters`, hover texts and names added after.
//!
//! Black becomes the text's colour, so that one file reads on light and dark. Colours are those of
//! M. Okabe and K. Ito, "Color Universal Design" (2008), which the colour-blind tell apart.

use plotters::prelude::*;

use super::html::escape;
use crate::plan::Engine;

/// Width and height of the drawing in its own units; pages scale it.
const SIZE: (u32, u32) = (480, 300);
/// Height of one bar with its caption.
const BAR_HEIGHT: u32 = 40;
/// Label of the axes.
const FONT: (&str, u32) = ("sans-serif", 13);

/// A colour of the palette.
pub type Colour = (u8, u8, u8);

/// Orange, sky blue, bluish green, blue, vermilion, reddish purple.
pub const PALETTE: [Colour; 6] =
    [(230, 159, 0), (86, 180, 233), (0, 158, 115), (0, 114, 178), (213, 94, 0), (204, 121, 167)];

/// The colour of an engine in every plot.
pub fn engine_colour(engine: Engine) -> Colour {
    PALETTE[match engine {
        Engine::Sequential => 5,
        Engine::Threads => 4,
        Engine::Rayon => 0,
        Engine::Tokio => 3,
        Engine::TokioSingle => 1,
    }]
}

/// `#rrggbb`.
pub fn hex((r, g, b): Colour) -> String {
    format!("#{r:02x}{g:02x}{b:02x}")
}

/// How values stand on an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// Evenly, from zero.
    Linear,
    /// Evenly by factors of two.
    Log2,
    /// Evenly by factors of ten.
    Log10,
    /// Quantiles by the factors of ten that are left above them.
    Hdr,
}

impl Scale {
    fn to(self, v: f64) -> f64 {
        match self {
            Scale::Linear => v,
            Scale::Log2 => v.max(1e-9).log2(),
            Scale::Log10 => v.max(1e-9).log10(),
            Scale::Hdr => -(1.0 - v).max(1e-9).log10(),
        }
    }

    fn from(self, at: f64) -> f64 {
        match self {
            Scale::Linear => at,
            Scale::Log2 => at.exp2(),
            Scale::Log10 => 10f64.powf(at),
            Scale::Hdr => 1.0 - 10f64.powf(-at),
        }
    }

    /// Ends that hold all values, with a little room.
    fn range(self, values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
        let at: Vec<f64> = values.map(|v| self.to(v)).filter(|v| v.is_finite()).collect();
        let (low, high) =
            at.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(*v), h.max(*v)));
        if low > high {
            return None;
        }
        Some(match self {
            Scale::Linear => (low.min(0.0), if high > 0.0 { high * 1.08 } else { 1.0 }),
            Scale::Hdr => (0.0, high.max(1.0)),
            Scale::Log2 | Scale::Log10 => {
                let room = ((high - low) * 0.05).max(0.1);
                (low - room, high + room)
            }
        })
    }
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

/// A line.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// Its name in the legend.
    pub name: String,
    /// Its colour.
    pub colour: Colour,
    /// Dashed: a second line of the same colour.
    pub dashed: bool,
    /// Its points, from left to right.
    pub points: Vec<Point>,
}

/// Draws lines; `None` without a point.
pub fn lines(name: &str, x: &Axis<'_>, y: &Axis<'_>, lines: &[Line]) -> Option<String> {
    let points = || lines.iter().flat_map(|l| &l.points);
    let (x0, mut x1) = x.scale.range(points().map(|p| p.x))?;
    let ends = |p: &Point| {
        let (low, high) = p.interval.unwrap_or((p.y, p.y));
        [p.y, low, high]
    };
    let (y0, mut y1) = y.scale.range(points().flat_map(ends))?;
    // An axis needs a length.
    x1 = if x1 > x0 { x1 } else { x0 + 1.0 };
    y1 = if y1 > y0 { y1 } else { y0 + 1.0 };
    let mut svg = String::new();
    let mut hover = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        let mut chart = ChartBuilder::on(&root)
            .margin(6)
            .x_label_area_size(40)
            .y_label_area_size(66)
            .build_cartesian_2d(x0..x1, y0..y1)
            .ok()?;
        let label = |axis: &Axis<'_>, at: f64| {
            let whole = (at - at.round()).abs() < 1e-6;
            let value = axis.scale.from(at);
            match axis.scale {
                Scale::Hdr | Scale::Log2 if !whole => String::new(),
                _ => (axis.print)(value),
            }
        };
        chart
            .configure_mesh()
            .disable_x_mesh()
            .x_labels(6)
            .y_labels(6)
            .x_desc(x.title)
            .y_desc(y.title)
            .x_label_formatter(&|at| label(x, *at))
            .y_label_formatter(&|at| label(y, *at))
            .label_style(FONT.into_font())
            .axis_desc_style(FONT.into_font())
            .light_line_style(TRANSPARENT)
            .bold_line_style(BLACK.mix(0.15))
            .draw()
            .ok()?;
        for line in lines {
            let colour = RGBColor(line.colour.0, line.colour.1, line.colour.2);
            let style = ShapeStyle::from(&colour).stroke_width(2);
            let at = |p: &Point| (x.scale.to(p.x), y.scale.to(p.y));
            let path: Vec<(f64, f64)> = line.points.iter().map(at).collect();
            if line.dashed {
                chart.draw_series(DashedLineSeries::new(path, 6, 4, style)).ok()?;
            } else {
                chart.draw_series(LineSeries::new(path, style)).ok()?;
            }
            for p in &line.points {
                if let Some((low, high)) = p.interval {
                    let (px, low, high) = (x.scale.to(p.x), y.scale.to(low), y.scale.to(high));
                    let bar = PathElement::new(vec![(px, low), (px, high)], colour);
                    chart.draw_series([bar]).ok()?;
                }
                if p.marked {
                    chart.draw_series([Circle::new(at(p), 3, colour.filled())]).ok()?;
                    let (px, py) = chart.backend_coord(&at(p));
                    hover.push_str(&point_hover(px, py, &text(line, p, x, y)));
                }
            }
        }
        root.present().ok()?;
    }
    Some(finish(&svg, name, &hover))
}

fn text(line: &Line, p: &Point, x: &Axis<'_>, y: &Axis<'_>) -> String {
    let interval = p
        .interval
        .map_or(String::new(), |(low, high)| format!(" [{}, {}]", (y.print)(low), (y.print)(high)));
    format!("{}, {} {}: {}{interval}", line.name, x.title, (x.print)(p.x), (y.print)(p.y))
}

fn point_hover(x: i32, y: i32, text: &str) -> String {
    format!(
        "<circle cx=\"{x}\" cy=\"{y}\" r=\"9\" fill=\"transparent\"><title>{}</title></circle>",
        escape(text)
    )
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
    let mut hover = String::new();
    let height = bars.len() as u32 * BAR_HEIGHT + 60;
    {
        let root = SVGBackend::with_string(&mut svg, (SIZE.0, height)).into_drawing_area();
        let mut chart = ChartBuilder::on(&root)
            .margin(8)
            .margin_left(26)
            .margin_right(26)
            .x_label_area_size(42)
            .build_cartesian_2d(0.0..longest * 1.02, 0.0..bars.len() as f64)
            .ok()?;
        chart
            .configure_mesh()
            .disable_y_mesh()
            .disable_y_axis()
            .x_labels(5)
            .x_desc(axis.title)
            .x_label_formatter(&|v| (axis.print)(*v))
            .label_style(FONT.into_font())
            .axis_desc_style(FONT.into_font())
            .light_line_style(TRANSPARENT)
            .bold_line_style(BLACK.mix(0.15))
            .draw()
            .ok()?;
        for (i, bar) in bars.iter().enumerate() {
            let bottom = (bars.len() - 1 - i) as f64 + 0.12;
            let mut from = 0.0;
            for (length, (part, colour)) in bar.parts.iter().zip(parts) {
                if *length <= 0.0 {
                    continue;
                }
                let ends = [(from, bottom + 0.42), (from + length, bottom)];
                let fill = RGBColor(colour.0, colour.1, colour.2).filled();
                chart.draw_series([Rectangle::new(ends, fill)]).ok()?;
                let (a, b) = (chart.backend_coord(&ends[0]), chart.backend_coord(&ends[1]));
                let says = format!("{}, {part}: {}", bar.name, (axis.print)(*length));
                hover.push_str(&format!(
                    "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" fill=\"transparent\">\
                     <title>{}</title></rect>",
                    a.0,
                    a.1,
                    (b.0 - a.0).max(1),
                    (b.1 - a.1).max(1),
                    escape(&says)
                ));
                from += length;
            }
            let (cx, cy) = chart.backend_coord(&(0.0, bottom + 0.5));
            let caption = format!("{}: {}", bar.name, (axis.print)(total(bar)));
            hover.push_str(&format!(
                "<text x=\"{}\" y=\"{cy}\" font-size=\"13\" fill=\"currentColor\">{}</text>",
                cx + 2,
                escape(&caption)
            ));
        }
        root.present().ok()?;
    }
    Some(finish(&svg, name, &hover))
}

/// Gives the drawing its accessible name, its hover texts and a size that follows the page's.
fn finish(svg: &str, name: &str, hover: &str) -> String {
    let body = svg.split_once('>').map_or("", |(_, rest)| rest);
    let view_box = svg
        .split_once("viewBox=\"")
        .and_then(|(_, rest)| rest.split_once('"'))
        .map_or("0 0 480 300", |(size, _)| size);
    let body = body.trim_end().trim_end_matches("</svg>").replace("#000000", "currentColor");
    let body: String = body.lines().map(str::trim).collect::<Vec<&str>>().join("\n");
    format!(
        "<svg viewBox=\"{view_box}\" role=\"img\" aria-label=\"{}\"><title>{}</title>{body}{hover}\
         </svg>",
        escape(name),
        escape(name)
    )
}
