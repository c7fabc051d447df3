//! What the lanes of closed loops allow: the Universal Scalability Law, drawn over what was measured.

use maud::{Markup, html};

use super::figure::{self, MOST_PANELS};
use super::{paragraph, tables};
use crate::format::TrialRecord;
use crate::plan::cell::{Family, families};
use crate::plan::{Axis, Engine};
use crate::report::layout::{Columns, Section};
use crate::report::plot::{self, Mark, Panel, PlotAxis, Scale, Stroke, whole};
use crate::report::usl::{self, Coefficients, Fit, UslSample, Weights};
use crate::report::verdict::Trials;
use crate::units::{format_count, format_rate};

/// Points of a fitted line up to what was measured, and as many dashed up to twice that.
const STEPS: u32 = 40;

fn series<'r>(trials: &Trials<'r>) -> Vec<Family<'r, UslSample>> {
    let closed = |r: &&TrialRecord| {
        r.cell.is_timed() && !r.cell.arrivals.is_open() && !r.cell.engine.has_one_lane()
    };
    let sample = |r: &'r TrialRecord| {
        let (lanes, block, per_s) = (r.cell.total_lanes, r.block, r.achieved_per_s);
        (&r.cell, UslSample { lanes, block, per_s })
    };
    let closed = trials.values().flatten().copied().filter(closed);
    families(closed.map(sample), &[Axis::Lanes])
}

/// The Universal Scalability Law for each engine of closed loops.
pub(super) fn scalability(trials: &Trials<'_>, seed: u64) -> Markup {
    let series = series(trials);
    if series.is_empty() {
        return paragraph(
            "The Universal Scalability Law needs closed loops; no valid trial is one.",
        );
    }
    let x = PlotAxis::new("lanes", Scale::Log2, &whole);
    let y = PlotAxis::new("achieved, req/s", Scale::Linear, &format_rate);
    let (mut fitted, mut panels, mut refused) = (vec![], vec![], vec![]);
    for Family { name, cell, members } in series {
        match usl::fit(&members, Weights::Relative, seed) {
            Err(why) => refused.push((name, why)),
            Ok(fit) => {
                let lines = drawing(cell.engine, &fit);
                panels.push(Panel { title: name.clone(), y: &y, lines });
                fitted.push((name, fit));
            }
        }
    }
    let left_out = panels.len().saturating_sub(MOST_PANELS);
    panels.truncate(MOST_PANELS);
    let below =
        (left_out > 0).then(|| format!("{left_out} more panels are left out; the table has them."));
    html! {
        (paragraph(
            "The Universal Scalability Law over the lanes of closed loops, X(N) = γN ÷ (1 + α(N − 1) + \
             βN(N − 1)): γ is what one lane completes alone, α the share of the work that lanes queue \
             for (contention), β what they spend on one another (coherency). Nothing is predicted \
             beyond twice the measured lanes.",
        ))
        @if !fitted.is_empty() {
            (tables::table(&section(&fitted)))
            (figure::lines(
                "Throughput of closed loops, measured (means) and by the law",
                &x, plot::columns(panels.len()), &panels, below.as_slice()
            ))
        }
        @if !refused.is_empty() {
            ul { @for (name, why) in &refused { li { b { (name) } ": no fit: " (why) "." } } }
        }
    }
}

fn section(fitted: &[(String, Fit)]) -> Section {
    let per_s = |v: f64| format!("{} req/s", format_rate(v));
    let mut table = Columns::of(fitted);
    table.text("closed loops", |(name, _)| name.clone());
    table.number("contention α", |(_, f)| value(f, |c| c.alpha, coefficient));
    table.number("coherency β", |(_, f)| value(f, |c| c.beta, coefficient));
    table.number("γ\nreq/s", |(_, f)| value(f, |c| c.gamma, format_rate));
    table.number("peak", |(_, f)| match f.peak() {
        Some(p) if p.beyond_data => "beyond twice the data:\nnot predicted".into(),
        Some(p) => format!("{}\nat {} lanes", per_s(p.per_s), format_count(p.lanes as u64)),
        None => "none".into(),
    });
    let limit = |f: &Fit| f.limit_per_s().map_or("no limit".into(), per_s);
    table.number("contention alone\nallows", |(_, f)| limit(f));
    table.number("largest\nresidual", |(_, f)| {
        let share = |r: &usl::Residual| r.residual_per_s / r.measured_per_s;
        let worst = f.residuals.iter().max_by(|a, b| share(a).abs().total_cmp(&share(b).abs()));
        worst.map(|r| {
            format!("{:+.1} %\nat {} lanes", 100.0 * share(r), format_count(r.lanes.into()))
        })
    });
    let note = format!(
        "[ ] 95 % intervals from refits of resampled blocks; ± standard errors, where fewer than {} \
         lane values or too few blocks allow no interval. Fitted with relative residuals.",
        usl::MIN_LANE_VALUES_FOR_INTERVAL
    );
    table.section("Scalability", vec![note])
}

fn value(fit: &Fit, of: fn(&Coefficients) -> f64, print: fn(f64) -> String) -> String {
    let held = of(&fit.at) == 0.0;
    let value = if held { "0, at its bound".into() } else { print(of(&fit.at)) };
    match &fit.intervals {
        Some((_, high)) if held && of(high) == 0.0 => value,
        Some((low, high)) => format!("{value}\n[{}, {}]", print(of(low)), print(of(high))),
        // A standard error is that of a coefficient inside its bounds.
        None if held => value,
        None => format!("{value}\n± {}", print(of(&fit.standard_errors))),
    }
}

/// A few digits, without exponents where none is needed.
fn coefficient(v: f64) -> String {
    match v {
        0.0 => "0".into(),
        v if v.abs() >= 1e-3 => format!("{v:.4}"),
        v => format!("{v:.1e}"),
    }
}

/// What was measured as marks, and the law as a line that is dashed beyond them.
fn drawing(engine: Engine, fit: &Fit) -> Vec<Stroke> {
    let (colour, marker) = plot::engine_style(engine);
    let measured: Vec<Mark> =
        fit.residuals.iter().map(|r| Mark::at(r.lanes.into(), r.measured_per_s)).collect();
    let (least, most) = (measured[0].x, measured[measured.len() - 1].x);
    let law = |from: f64, to: f64| -> Vec<Mark> {
        let at = |i: u32| from * (to / from).powf(f64::from(i) / f64::from(STEPS));
        let point = |x: f64| Mark { marked: false, ..Mark::at(x, fit.at.throughput(x)) };
        (0..=STEPS).map(|i| point(at(i))).collect()
    };
    let line = |what: &str, dash, points| {
        let name = format!("{}: {what}", engine.name());
        Stroke { name, colour, marker, dash, points }
    };
    vec![
        line("the law", Some(0), law(least, most)),
        line("beyond the data", Some(1), law(most, 2.0 * most)),
        line("measured", None, measured),
    ]
}
