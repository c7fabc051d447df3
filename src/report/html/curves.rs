//! Throughput, latency, memory, CPU and switches against lanes or rate, with intervals.

use std::collections::{BTreeMap, BTreeSet};

use super::figure::{self, drawn};
use super::paragraph;
use crate::format::TrialRecord;
use crate::report::plot::{self, Axis, Line, Point, Scale, Stroke};
use crate::report::summary::{AA, Group};
use crate::report::verdict::Trials;
use crate::stats::{hdr, median, median_interval};
use crate::units::{format_bytes, format_count, format_ns, format_rate};

/// Most plots.
const MOST_PLOTS: usize = 45;

/// A figure of one trial, as a curve shows it.
struct Measure {
    title: &'static str,
    unit: &'static str,
    scale: Scale,
    print: fn(f64) -> String,
    of: fn(&TrialRecord) -> Option<f64>,
}

const MEASURES: [Measure; 5] = [
    Measure {
        title: "Throughput",
        unit: "achieved, req/s",
        scale: Scale::Linear,
        print: format_rate,
        of: |t| Some(t.achieved_per_s),
    },
    Measure {
        title: "99th percentile of response time (closed loop: service time)",
        unit: "p99",
        scale: Scale::Log10,
        print: format_ns,
        of: |t| {
            let times = t.response_ns.as_ref().or(t.service_ns.as_ref())?;
            (times.count >= hdr::samples_needed(0.99)).then_some(times.p99 as f64)
        },
    },
    Measure {
        title: "Peak memory over the baseline",
        unit: "peak user memory",
        scale: Scale::Binary,
        print: format_bytes,
        of: |t| t.peak_over_baseline().map(|b| b as f64),
    },
    Measure {
        title: "CPU a request",
        unit: "CPU a request",
        scale: Scale::Linear,
        print: format_ns,
        of: |t| Some(t.cpu.per_request_ns).filter(|v| *v > 0.0),
    },
    Measure {
        title: "Context switches a request",
        unit: "switches a request",
        scale: Scale::Linear,
        print: number,
        of: |t| {
            let requests = t.cpu.total_ns as f64 / t.cpu.per_request_ns;
            let switches = t.switches.voluntary + t.switches.involuntary;
            Some(switches as f64 / requests).filter(|v| v.is_finite())
        },
    },
];

/// What shares a plot: everything but lanes or rate, whichever is across.
type Family = BTreeMap<String, BTreeMap<(usize, String), Vec<(f64, String)>>>;

/// Every measure against lanes at equal rates, and against rates at equal lanes.
pub(super) fn curves(groups: &[Group], trials: &Trials<'_>) -> String {
    let mut figures = Vec::new();
    let mut left_out = 0;
    for (across, title) in [(true, "lanes"), (false, "offered req/s")] {
        let mut families = Family::new();
        for group in groups.iter().filter(|g| !g.counts_events()) {
            let value =
                if across { Some(f64::from(group.total_lanes)) } else { group.offered_per_s };
            let Some(value) = value else { continue };
            let load = match group.offered_per_s {
                Some(rate) if across => format!("{} req/s", format_rate(rate)),
                Some(_) => format!("{} lanes", format_count(group.total_lanes.into())),
                None => "closed loop".into(),
            };
            let body = group.body_bytes.map_or(String::new(), |b| format!(", bodies of {b} B"));
            let s = if group.cpus == 1 { "" } else { "s" };
            let key = format!("{load}, {} CPU{s}, {}{body}", group.cpus, group.codec.name());
            let family = families.entry(key).or_default();
            for row in group.rows.iter().filter(|r| r.cell.label.as_deref() != Some(AA)) {
                let engine = crate::plan::Engine::ALL.iter().position(|e| *e == row.cell.engine);
                let pool = row.cell.rayon_threads.filter(|n| *n != row.cell.lanes);
                let pool = pool.map_or(String::new(), |_| " small pool".into());
                let stack = row.cell.stack_size_bytes.filter(|_| row.name.contains("iB"));
                let stack = stack.map_or(String::new(), |s| format!(" {}", format_bytes(s as f64)));
                let steps = row.cell.offload.map_or(String::new(), |o| format!(" {}", o.name()));
                let name = format!("{}{stack}{pool}{steps}", row.cell.engine.name());
                let line = family.entry((engine.unwrap_or(0), name)).or_default();
                line.push((value, row.cell.id.clone()));
            }
        }
        for (key, family) in families {
            let values: BTreeSet<u64> =
                family.values().flatten().map(|(v, _)| v.to_bits()).collect();
            if values.len() < 2 {
                continue;
            }
            for measure in &MEASURES {
                if figures.len() == MOST_PLOTS {
                    left_out += 1;
                } else {
                    figures.extend(curve(measure, &key, title, &family, trials));
                }
            }
        }
    }
    let nothing = "One value of lanes and of rate only, so that nothing can be drawn against them: \
                   sweep several, such as lanes = [16, 64, 256].";
    let mut out = drawn(&figures, nothing);
    if !figures.is_empty() {
        let how = "Medians over trials with 95 % intervals from order statistics, where there are at \
                   least six trials. Points are set a little apart where their intervals would hide \
                   each other.";
        out = paragraph(how) + &out;
    }
    if left_out > 0 {
        out += &paragraph(&format!(
            "{left_out} more plots are left out, so that this file stays small; cells.csv has their \
             figures."
        ));
    }
    out
}

fn curve(
    measure: &Measure,
    key: &str,
    across: &str,
    family: &BTreeMap<(usize, String), Vec<(f64, String)>>,
    trials: &Trials<'_>,
) -> Option<String> {
    let mut lines: Vec<Line> = Vec::new();
    for ((engine, name), cells) in family {
        let mut points: Vec<Point> = cells
            .iter()
            .filter_map(|(x, id)| {
                let values: Vec<f64> =
                    trials.get(id.as_str())?.iter().filter_map(|t| (measure.of)(t)).collect();
                let interval = median_interval(&values);
                Some(Point { x: *x, y: median(&values)?, interval, marked: true })
            })
            .collect();
        points.sort_by(|a, b| a.x.total_cmp(&b.x));
        if points.is_empty() {
            continue;
        }
        let (colour, marker) = plot::engine_style(crate::plan::Engine::ALL[*engine]);
        let second = lines.iter().any(|l| l.colour == colour);
        let stroke = if second { Stroke::Dashed } else { Stroke::Solid };
        lines.push(Line { name: name.clone(), colour, marker, stroke, points });
    }
    // Of all cells, so that plots beside each other share an axis.
    let xs = || family.values().flatten().map(|(x, _)| *x);
    let (least, most) = (xs().fold(f64::INFINITY, f64::min), xs().fold(0.0, f64::max));
    let scale = if most > 16.0 * least { Scale::Log2 } else { Scale::Linear };
    let title = format!("{} against {across}, {key}", measure.title);
    let x = Axis { title: across, scale, print: &number };
    let y = Axis { title: measure.unit, scale: measure.scale, print: &measure.print };
    let svg = plot::lines(&title, &x, &y, &lines)?;
    Some(figure::figure(&title, &figure::legend(&lines), Some(svg)))
}

/// Whole numbers with separators, others as they are.
fn number(v: f64) -> String {
    if v >= 10.0 || v.fract() == 0.0 {
        format_count(v.round().max(0.0) as u64)
    } else {
        format!("{v:.2}")
    }
}
