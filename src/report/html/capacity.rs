//! The capacity section: the plan in words and tables, and where it stands on the measured curve.

use maud::{Markup, html};

use super::figure as drawing;
use super::tables::{folded, titled};
use super::{notes, rich};
use crate::report::capacity::{CurvePoint, Need, Plan, Question, figure};
use crate::report::plot::{CIRCLE, DIAMOND, GREY, Mark, Panels, PlotAxis, Scale, Stroke};
use crate::units::{format_ns, format_rate};

/// What is drawn over the rate of a host: the name of its figure, its title, and its bound if it has
/// one.
type CapacityCurve = (&'static str, &'static str, Scale, fn(&Question) -> Option<u64>);

const CURVES: [CapacityCurve; 3] = [
    ("p99_ns", "p99", Scale::Log10, |q| q.p99_ns),
    ("latency_ns", "mean time", Scale::Linear, |_| None),
    ("cpu_per_request_ns", "CPU per request", Scale::Linear, |_| None),
];

/// How many hosts it takes, with what that assumes folded away.
pub(super) fn capacity(plan: &Plan) -> Markup {
    let assumed = html! { ul { @for a in &plan.assumptions { li { (rich(&a.to_string())) } } } };
    html! {
        p { (rich(&plan.sentence)) }
        @for section in &plan.sections() { (titled(section)) }
        (curves(plan))
        (folded("What this assumes", false, &assumed))
    }
}

/// The measured curve of each engine on the first type of hosts, with the planned point.
fn curves(plan: &Plan) -> Markup {
    let first = plan.engines.first().map(|e| e.host.as_str());
    let mut answered = plan.answered();
    answered.retain(|(e, _)| Some(e.host.as_str()) == first);
    if answered.is_empty() {
        return html! {};
    }
    let axes: Vec<PlotAxis<'_>> = CURVES
        .iter()
        .map(|(_, title, scale, _)| PlotAxis::new(title, *scale, &format_ns))
        .collect();
    let mut panels = Panels::default();
    for ((name, title, _, most), y) in CURVES.iter().zip(&axes) {
        panels.begin(*title, y);
        for (engine, need) in &answered {
            panels.draw(engine.engine, &engine.name, points(plan, need, name, false));
            let planned = points(plan, need, name, true);
            let Some(lines) = panels.0.last_mut().map(|panel| &mut panel.lines) else { continue };
            if let Some(line) = lines.iter().find(|line| line.name == engine.name).cloned() {
                let name = format!("{}: planned", engine.name);
                lines.push(Stroke { name, marker: DIAMOND, dash: None, points: planned, ..line });
            }
        }
        if let Some((panel, most)) = panels.0.last_mut().zip(most(&plan.question)) {
            panel.lines.extend(bound(most as f64, &panel.lines));
        }
    }
    let x = PlotAxis::new("requests per second of a host", Scale::Linear, &format_rate);
    let below = "Medians over trials with their intervals at 95 % confidence, where there are trials \
                 enough; p99 is of all requests of a cell. The planned point lies between the cells on \
                 either side of it; its p99 is at most that of the slower one.";
    html! {
        (drawing::lines("The measured curve, and where the plan stands on it", &x, 3, &panels.0, &[]))
        (notes(&[below.into()]))
    }
}

/// A figure over the rate of a host: of the measured cells, or of the planned point.
fn points(plan: &Plan, need: &Need, name: &str, planned: bool) -> Vec<Mark> {
    // A host runs several copies of what was measured.
    let copies = plan.question.rate_per_s / need.hosts_today as f64 / need.group_rate_per_s;
    let mark = |point: &CurvePoint| {
        let (rate, y) = (figure(&point.figures, "rate_per_s")?, figure(&point.figures, name)?);
        Some(Mark { interval: y.interval, ..Mark::at(rate.value * copies, y.value) })
    };
    need.curve.iter().filter(|p| p.cell.is_none() == planned).filter_map(mark).collect()
}

/// The bound on p99, over the rates of the lines.
fn bound(y: f64, lines: &[Stroke]) -> Option<Stroke> {
    let xs = || lines.iter().flat_map(|l| &l.points).map(|p| p.x);
    let end = |x: f64| Mark { marked: false, ..Mark::at(x, y) };
    let (low, high) = (xs().reduce(f64::min)?, xs().reduce(f64::max)?);
    let (name, points) = (format!("p99 ≤ {}", format_ns(y)), vec![end(low), end(high)]);
    Some(Stroke { name, colour: GREY, marker: CIRCLE, dash: Some(1), points })
}
