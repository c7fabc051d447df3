//! What every figure shares: a caption, a legend, and the choice of what is drawn.

use std::fmt::Write;

use super::{escape, paragraph};
use crate::report::layout;
use crate::report::plot::{self, Colour, Line, Marker, Stroke};
use crate::report::summary::Group;
use crate::report::verdict;

/// An entry of a legend.
pub(super) struct Entry {
    name: String,
    colour: Colour,
    /// How a line is joined and what marks its points; areas have neither.
    line: Option<(Option<Marker>, Stroke)>,
}

impl Entry {
    /// An area of a colour.
    pub(super) fn area(name: &str, colour: Colour) -> Entry {
        Entry { name: name.into(), colour, line: None }
    }
}

/// The legend of lines.
pub(super) fn legend(lines: &[Line]) -> Vec<Entry> {
    let entry = |l: &Line| Entry {
        name: l.name.clone(),
        colour: l.colour,
        line: Some((l.points.iter().any(|p| p.marked).then_some(l.marker), l.stroke)),
    };
    lines.iter().map(entry).collect()
}

/// A plot with its caption and legend; words where nothing could be drawn.
pub(super) fn figure(title: &str, legend: &[Entry], svg: Option<String>) -> String {
    let Some(svg) = svg else {
        return paragraph(&format!("{title}: nothing was measured that could be drawn."));
    };
    let mut out =
        format!("<figure><figcaption>{}</figcaption>{svg}<ul class=\"legend\">", escape(title));
    for entry in legend {
        let colour = plot::paint(entry.colour);
        let key = match entry.line {
            None => format!("<i class=\"area\" style=\"background:{colour}\"></i>"),
            Some((marker, stroke)) => {
                let mark = marker.map_or(String::new(), |m| {
                    format!("<b style=\"color:{colour}\">{}</b>", m.glyph())
                });
                let border = match stroke {
                    Stroke::Solid => "solid",
                    Stroke::Dashed => "dashed",
                    Stroke::None => "none",
                };
                format!("<i style=\"border-top:3px {border} {colour}\"></i>{mark}")
            }
        };
        let _ = write!(out, "<li>{key}{}</li>", escape(&entry.name));
    }
    out.push_str("</ul></figure>");
    out
}

/// Figures side by side, or the reason why there is none.
pub(super) fn drawn(figures: &[String], nothing: &str) -> String {
    if figures.is_empty() {
        return paragraph(nothing);
    }
    format!("<div class=\"plots\">{}</div>", figures.concat())
}

/// At most `most` groups, the most demanding ones, in the order of the tables, with the words for
/// what is left out.
pub(super) fn chosen(groups: &[Group], most: usize) -> (Vec<&Group>, String) {
    let mut order: Vec<&Group> = groups.iter().collect();
    if order.len() <= most {
        return (order, String::new());
    }
    order.sort_by(|a, b| verdict::size(b).total_cmp(&verdict::size(a)));
    let kept = &order[..most];
    let is_kept = |g: &&Group| kept.iter().any(|k| std::ptr::eq(*k, *g));
    let left = order.len() - most;
    let note = format!(
        "Drawn are the {most} groups with the most lanes and requests. {left} more are left out of \
         the plots, so that this file stays small; their figures stand in the tables and in \
         cells.csv."
    );
    (groups.iter().filter(is_kept).collect(), paragraph(&note))
}

/// What a group is, as a caption says it.
pub(super) fn titled(what: &str, group: &Group) -> String {
    format!("{what}, {}", layout::heading(group))
}
