//! What the lanes of closed loops allow: the Universal Scalability Law, drawn over what was measured.

use std::fmt::Write;

use super::{escape, figure, paragraph};
use crate::format::TrialRecord;
use crate::plan::cell::{Family, families};
use crate::plan::{self, Engine};
use crate::report::plot::{self, Axis, Line, Point, Scale, Stroke};
use crate::report::summary::is_valid;
use crate::report::usl::{self, Coefficients, Fit, Sample, Weights};
use crate::units::{format_count, format_rate};

/// Where a fitted line is drawn: up to what was measured, and dashed up to twice that.
const STEPS: u32 = 40;

fn series(records: &[TrialRecord]) -> Vec<Family<'_, Sample>> {
    let closed = |r: &&TrialRecord| {
        let several = !r.cell.engine.has_one_lane();
        is_valid(r) && r.cell.is_timed() && !r.cell.arrivals.is_open() && several
    };
    let sample = |r: &TrialRecord| Sample {
        lanes: r.cell.total_lanes,
        block: r.block,
        per_s: r.achieved_per_s,
    };
    let closed = records.iter().filter(closed);
    families(closed.map(|r| (&r.cell, sample(r))), &[plan::Axis::Lanes])
}

/// The Universal Scalability Law for each engine of closed loops.
pub(super) fn scalability(records: &[TrialRecord], seed: u64) -> String {
    let series = series(records);
    if series.is_empty() {
        return paragraph(
            "The Universal Scalability Law needs closed loops; no valid trial is one.",
        );
    }
    let mut rows = String::new();
    let mut refused = String::new();
    let mut figures = Vec::new();
    for Family { name, cell, members } in &series {
        match usl::fit(members, Weights::Relative, seed) {
            Err(why) => {
                let (name, why) = (escape(name), escape(&why.to_string()));
                let _ = write!(refused, "<li><b>{name}</b>: no fit: {why}.</li>");
            }
            Ok(fit) => {
                rows.push_str(&row(name, &fit));
                figures.push(drawing(name, cell.engine, &fit));
            }
        }
    }
    let mut out = paragraph(
        "The Universal Scalability Law over the lanes of closed loops, X(N) = γN ÷ (1 + α(N − 1) + \
         βN(N − 1)): γ is what one lane completes alone, α the share of the work that lanes queue \
         for (contention), β what they spend on one another (coherency). Nothing is predicted \
         beyond twice the measured lanes.",
    );
    if !rows.is_empty() {
        let heads = [
            "",
            "contention α",
            "coherency β",
            "γ\nreq/s",
            "peak",
            "contention alone\nallows",
            "largest\nresidual",
        ];
        let heads: String =
            heads.iter().map(|h| format!("<th scope=\"col\">{}</th>", super::broken(h))).collect();
        let _ = write!(
            out,
            "<div class=\"wide\" tabindex=\"0\" role=\"region\" aria-label=\"Scalability\"><table>\
             <thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>"
        );
        out.push_str(&format!(
            "<p class=\"note\">[ ] 95 % intervals from refits of resampled blocks; ± standard \
             errors, where fewer than {} lane values or too few blocks allow no interval.</p>",
            usl::MIN_LANE_VALUES_FOR_INTERVAL
        ));
        out.push_str(&figure::drawn(&figures, ""));
    }
    if !refused.is_empty() {
        let _ = write!(out, "<ul>{refused}</ul>");
    }
    out
}

fn row(name: &str, fit: &Fit) -> String {
    let part = |of: fn(&Coefficients) -> f64, print: fn(f64) -> String| {
        let held = of(&fit.at) == 0.0;
        let value = if held { "0, at its bound".into() } else { print(of(&fit.at)) };
        match &fit.intervals {
            Some((_, high)) if held && of(high) == 0.0 => value,
            Some((low, high)) => format!("{value}\n[{}, {}]", print(of(low)), print(of(high))),
            // A standard error is that of a coefficient inside its bounds.
            None if held => value,
            None => format!("{value}\n± {}", print(of(&fit.standard_errors))),
        }
    };
    let peak = match fit.peak() {
        Some(p) if p.beyond_data => "beyond twice the data:\nnot predicted".into(),
        Some(p) => {
            format!("{} req/s\nat {} lanes", format_rate(p.per_s), format_count(p.lanes as u64))
        }
        None => "none".into(),
    };
    let limit =
        fit.limit_per_s().map_or("no limit".into(), |l| format!("{} req/s", format_rate(l)));
    let share = |r: &usl::Residual| r.residual_per_s / r.measured_per_s;
    let worst = fit.residuals.iter().max_by(|a, b| share(a).abs().total_cmp(&share(b).abs()));
    let worst = worst.map_or("-".into(), |r| {
        format!("{:+.1} %\nat {} lanes", 100.0 * share(r), format_count(r.lanes.into()))
    });
    let cells = [
        part(|c| c.alpha, coefficient),
        part(|c| c.beta, coefficient),
        part(|c| c.gamma, format_rate),
        peak,
        limit,
        worst,
    ];
    let cells: String =
        cells.iter().map(|c| format!("<td class=\"n\">{}</td>", super::broken(c))).collect();
    format!("<tr><th scope=\"row\">{}</th>{cells}</tr>", escape(name))
}

/// Three digits, without the exponents that nobody reads where none is needed.
fn coefficient(v: f64) -> String {
    match v {
        0.0 => "0".into(),
        v if v.abs() >= 1e-3 => format!("{v:.4}"),
        v => format!("{v:.1e}"),
    }
}

/// What was measured as marks, and the law as a line that is dashed beyond them.
fn drawing(name: &str, engine: Engine, fit: &Fit) -> String {
    let (colour, marker) = plot::engine_style(engine);
    let mark = |x: u32, y: f64| Point { x: x.into(), y, interval: None, marked: true };
    let measured: Vec<Point> =
        fit.residuals.iter().map(|r| mark(r.lanes, r.measured_per_s)).collect();
    let ends = |f: fn(f64, f64) -> f64, from: f64| measured.iter().map(|p| p.x).fold(from, f);
    let (least, most) = (ends(f64::min, f64::INFINITY), ends(f64::max, 0.0));
    let law = |from: f64, to: f64| -> Vec<Point> {
        let at = |i: u32| from * (to / from).powf(f64::from(i) / f64::from(STEPS));
        let point = |x: f64| Point { x, y: fit.at.throughput(x), interval: None, marked: false };
        (0..=STEPS).map(|i| point(at(i))).collect()
    };
    let line =
        |name: &str, stroke, points| Line { name: name.into(), colour, marker, stroke, points };
    let lines = [
        line("measured, means", Stroke::None, measured.clone()),
        line("the law", Stroke::Solid, law(least, most)),
        line("beyond the data", Stroke::Dashed, law(most, 2.0 * most)),
    ];
    let title = format!("Throughput of closed loops, {name}");
    let lanes = |v: f64| format_count(v.round() as u64);
    let x = Axis { title: "lanes", scale: Scale::Log2, print: &lanes };
    let y = Axis { title: "achieved, req/s", scale: Scale::Linear, print: &format_rate };
    let svg = plot::lines(&title, &x, &y, &lines);
    figure::figure(&title, &figure::legend(&lines), svg)
}
