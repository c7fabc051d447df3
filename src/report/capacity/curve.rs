//! CPU and latency of one worker group over its rate, between measured cells.
//!
//! CPU is joined as *busy CPUs* over the rate, since a worker's CPU is a fixed part plus a part per
//! request: the line through a nearly idle cell and a busy one is then right in between, where the
//! mean of their CPU per request would be several times too high.

use super::point::Point;
use super::{CurvePoint, Figure, req_s};
use crate::format::TrialRecord;
use crate::stats::{CONFIDENCE, linear_fit, median_interval};
use crate::units::format_ns;

/// The cells of a series that count for a question, by rate.
pub(super) struct Curve<'a> {
    points: Vec<&'a Point<'a>>,
}

/// A group of workers at a rate.
pub(super) struct AtRate {
    pub(super) busy: f64,
    pub(super) latency_ns: f64,
    /// The cells that this lies between.
    pub(super) cells: Vec<String>,
}

impl<'a> Curve<'a> {
    /// `None` without a point that carried a rate.
    pub(super) fn of(points: impl Iterator<Item = &'a Point<'a>>) -> Option<Curve<'a>> {
        let mut points: Vec<&Point<'_>> = points.filter(|p| p.rate_per_s > 0.0).collect();
        points.sort_by(|a, b| {
            let cost = |p: &Point<'_>| p.latency_ns.unwrap_or(f64::INFINITY);
            a.rate_per_s.total_cmp(&b.rate_per_s).then(cost(a).total_cmp(&cost(b)))
        });
        // Of cells within 2 %, the spread of a rate between trials, the one with the least latency
        // says what the rate costs; the others only queue.
        let mut kept: Vec<&Point<'_>> = Vec::new();
        for p in points {
            match kept.last_mut() {
                Some(last) if p.rate_per_s <= 1.02 * last.rate_per_s => {
                    if p.latency_ns < last.latency_ns {
                        *last = p;
                    }
                }
                _ => kept.push(p),
            }
        }
        (!kept.is_empty()).then_some(Curve { points: kept })
    }

    fn end(&self) -> &'a Point<'a> {
        self.points[self.points.len() - 1]
    }

    pub(super) fn end_per_s(&self) -> f64 {
        self.end().rate_per_s
    }

    pub(super) fn end_cell(&self) -> &'a str {
        &self.end().cell.id
    }

    /// Whether a schedule offered the highest rate.
    pub(super) fn is_open(&self) -> bool {
        self.end().cell.arrivals.is_open()
    }

    /// Straight lines between neighbours. Below the first cell its CPU per request and latency hold,
    /// which errs on the dear side; beyond the last the slope of all of them goes on.
    pub(super) fn at(&self, rate_per_s: f64) -> AtRate {
        let alone = |p: &Point<'_>| AtRate {
            busy: p.cpu_per_request_ns * rate_per_s / 1e9,
            latency_ns: p.latency_ns.unwrap_or(0.0),
            cells: vec![p.cell.id.clone()],
        };
        let last = self.points.len() - 1;
        let above = self.points.iter().position(|p| p.rate_per_s >= rate_per_s).unwrap_or(last);
        if above == 0 {
            return alone(self.points[0]);
        }
        let (a, b) = (self.points[above - 1], self.points[above]);
        let busy = |p: &Point<'_>| p.cpu_per_request_ns * p.rate_per_s / 1e9;
        let share = (rate_per_s - a.rate_per_s) / (b.rate_per_s - a.rate_per_s);
        // Beyond the last cell the slope of all cells goes on: that of two alone is mostly scatter.
        let all: Vec<(f64, f64)> = self.points.iter().map(|p| (p.rate_per_s, busy(p))).collect();
        let slope = linear_fit(&all, CONFIDENCE).map(|fit| fit.slope).filter(|_| share > 1.0);
        let beyond = slope.map(|slope| busy(b) + slope * (rate_per_s - b.rate_per_s));
        let between = |x: f64, y: f64| x + share * (y - x);
        let (x, y) = (a.latency_ns.unwrap_or(0.0), b.latency_ns.unwrap_or(0.0));
        AtRate {
            // Two cells that scatter must not make CPU cheaper than the dearer end says is fixed.
            busy: beyond.unwrap_or(between(busy(a), busy(b))).max(busy(a).min(busy(b))),
            // Latency is not carried on beyond the data: a queue grows faster than any line.
            latency_ns: if share > 1.0 { y.max(x) } else { between(x, y) },
            cells: vec![a.cell.id.clone(), b.cell.id.clone()],
        }
    }

    /// The measured cells by rate, and the planned point among them.
    pub(super) fn points(&self, rate_per_s: f64, at: &AtRate) -> Vec<CurvePoint> {
        let mut all: Vec<(f64, CurvePoint)> =
            self.points.iter().map(|p| (p.rate_per_s, measured(p))).collect();
        let figure =
            |name: &str, value: f64, text: String| Figure::new(name, value, text, at.cells.clone());
        let cpu = at.busy * 1e9 / rate_per_s;
        let mut figures = vec![
            figure("rate_per_s", rate_per_s, req_s(rate_per_s)),
            figure("cpu_per_request_ns", cpu, format_ns(cpu)),
            figure("latency_ns", at.latency_ns, format_ns(at.latency_ns)),
        ];
        let beside = self.points.iter().filter(|p| at.cells.contains(&p.cell.id));
        let p99s: Vec<f64> = beside.filter_map(|p| p.p99_ns).collect();
        if let Some(most) = p99s.iter().copied().reduce(f64::max) {
            figures.push(figure("p99_ns", most, format!("up to {}", format_ns(most))));
        }
        all.push((rate_per_s, CurvePoint { cell: None, figures }));
        all.sort_by(|a, b| a.0.total_cmp(&b.0));
        all.into_iter().map(|(_, point)| point).collect()
    }
}

fn measured(point: &Point<'_>) -> CurvePoint {
    let mut figures = Vec::new();
    let mut add =
        |name: &str, value: Option<f64>, interval: Option<(f64, f64)>, text: fn(f64) -> String| {
            let Some(value) = value else { return };
            let words = |(low, high)| format!(" [{}, {}]", text(low), text(high));
            let words = text(value) + &interval.map_or(String::new(), words);
            let figure = Figure::new(name, value, words, vec![point.cell.id.clone()]);
            figures.push(Figure { interval, ..figure });
        };
    let over = |of: &dyn Fn(&TrialRecord) -> Option<f64>| {
        median_interval(&point.trials.iter().filter_map(|t| of(t)).collect::<Vec<_>>())
    };
    let cpu = over(&|t| Some(t.cpu.per_request_ns));
    let mean = over(&|t| Some(t.latency()?.mean));
    add("rate_per_s", Some(point.rate_per_s), None, req_s);
    add("p99_ns", point.p99_ns, point.p99_interval(), format_ns);
    add("cpu_per_request_ns", Some(point.cpu_per_request_ns), cpu, format_ns);
    add("latency_ns", point.latency_ns, mean, format_ns);
    CurvePoint { cell: Some(point.cell.id.clone()), figures }
}
