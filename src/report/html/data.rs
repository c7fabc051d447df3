//! The sections with plots: from rows and their trials to series.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use super::{escape, paragraph};
use crate::report::layout;
use crate::report::plot::{self, Axis, Bar, Colour, Line, PALETTE, Point, Scale};
use crate::report::summary::{AA, Group, Row, is_valid};
use crate::report::usl::{self, Sample};
use crate::results::format::{Distribution, TrialRecord};
use crate::results::stats::{hdr, median, median_interval};
use crate::units::{format_bytes, format_count, format_ns, format_rate};

/// Valid trials by cell id.
pub(super) type Trials<'a> = BTreeMap<&'a str, Vec<&'a TrialRecord>>;

/// Valid trials by cell, the last of each block.
pub(super) fn by_cell(records: &[TrialRecord]) -> Trials<'_> {
    let mut cells: BTreeMap<&str, BTreeMap<u32, &TrialRecord>> = BTreeMap::new();
    for r in records.iter().filter(|r| is_valid(r)) {
        cells.entry(&r.cell.id).or_default().insert(r.block, r);
    }
    cells.into_iter().map(|(id, blocks)| (id, blocks.into_values().collect())).collect()
}

/// Whole numbers with separators, others as they are.
fn number(v: f64) -> String {
    if v >= 10.0 || v.fract() == 0.0 {
        format_count(v.round().max(0.0) as u64)
    } else {
        format!("{v:.2}")
    }
}

/// A plot with its caption and legend.
fn figure(title: &str, legend: &[(String, Colour, bool)], svg: Option<String>) -> String {
    let Some(svg) = svg else {
        return paragraph(&format!("{title}: nothing was measured that could be drawn."));
    };
    let mut out =
        format!("<figure><figcaption>{}</figcaption>{svg}<ul class=\"legend\">", escape(title));
    for (name, colour, dashed) in legend {
        let border = if *dashed { "dashed" } else { "solid" };
        let _ = write!(
            out,
            "<li><i style=\"border-top:3px {border} {}\"></i>{}</li>",
            plot::hex(*colour),
            escape(name)
        );
    }
    out.push_str("</ul></figure>");
    out
}

fn drawn(figures: &[String], nothing: &str) -> String {
    if figures.is_empty() {
        return paragraph(nothing);
    }
    format!("<div class=\"plots\">{}</div>", figures.concat())
}

/// Bars of every row of each group; `parts` gives the lengths of one trial.
fn stacked(
    groups: &[Group],
    trials: &Trials<'_>,
    what: &str,
    axis: &Axis<'_>,
    parts: &[(String, Colour)],
    lengths: &dyn Fn(&TrialRecord) -> Vec<Option<f64>>,
) -> String {
    let mut figures = Vec::new();
    for group in groups {
        let mut seen = BTreeSet::new();
        let bars: Vec<Bar> = group
            .rows
            .iter()
            .filter_map(|row| {
                let trials = trials.get(row.cell.id.as_str())?;
                let all: Vec<Vec<Option<f64>>> = trials.iter().map(|t| lengths(t)).collect();
                let parts = (0..parts.len())
                    .map(|i| {
                        let values: Vec<f64> = all.iter().filter_map(|l| l[i]).collect();
                        let middle = median(&values);
                        seen.extend(middle.map(|_| i));
                        middle.unwrap_or(0.0).max(0.0)
                    })
                    .collect();
                Some(Bar { name: row.name.clone(), parts })
            })
            .collect();
        if bars.is_empty() {
            continue;
        }
        let heading = layout::heading(group);
        let title = format!("{what}, {heading}");
        let legend: Vec<(String, Colour, bool)> =
            seen.iter().map(|i| (parts[*i].0.clone(), parts[*i].1, false)).collect();
        figures.push(figure(&title, &legend, plot::bars(&title, axis, parts, &bars)));
    }
    drawn(&figures, "No valid trial measured this.")
}

/// User memory over the baseline, page tables, kernel stacks, other kernel memory, sockets.
pub(super) fn memory(groups: &[Group], trials: &Trials<'_>) -> String {
    let named = |(i, name): (usize, &str)| (name.to_string(), PALETTE[i]);
    let names = ["sockets", "user", "other kernel", "kernel stacks", "page tables"];
    let parts: Vec<(String, Colour)> = names.into_iter().enumerate().map(named).collect();
    let lengths = |t: &TrialRecord| {
        let lanes = f64::from(t.cell.total_lanes.max(1));
        let m = &t.memory;
        let user = m.plateau_user_bytes.unwrap_or(m.peak_rss_bytes);
        let user = user.saturating_sub(m.baseline_rss_bytes);
        // The cgroup's kernel memory holds page tables and stacks too.
        let known = m.page_table_bytes.unwrap_or(0) + m.kernel_stack_bytes.unwrap_or(0);
        let other = m.kernel_bytes.map(|k| k.saturating_sub(known));
        [m.socket_bytes, Some(user), other, m.kernel_stack_bytes, m.page_table_bytes]
            .map(|bytes| bytes.map(|b| b as f64 / lanes))
            .to_vec()
    };
    let axis = Axis { title: "bytes a lane", scale: Scale::Linear, print: &format_bytes };
    let note = "Medians at the plateau, for each lane. What a worker needs whatever its lanes is \
                part of it, and so weighs most where lanes are few. A part that the machine could \
                not measure is missing, not zero.";
    paragraph(note) + &stacked(groups, trials, "Memory a lane", &axis, &parts, &lengths)
}

/// User, system and pacer CPU for each request.
pub(super) fn cpu(groups: &[Group], trials: &Trials<'_>) -> String {
    let parts: Vec<(String, Colour)> = ["pacer", "user", "system"]
        .into_iter()
        .zip([PALETTE[0], PALETTE[1], PALETTE[3]])
        .map(|(n, c)| (n.to_string(), c))
        .collect();
    let lengths = |t: &TrialRecord| {
        let total = t.cpu.total_ns as f64;
        let per = t.cpu.per_request_ns;
        let sampled = (t.cpu.user_ns + t.cpu.system_ns) as f64;
        let pacer = t.cpu.pacer_ns.map(|ns| ns as f64 / total.max(1.0) * per);
        // The split is sampled; scaled to the exact total it says where the rest went.
        let share = |ns: u64| {
            (sampled > 0.0).then(|| (per - pacer.unwrap_or(0.0)).max(0.0) * ns as f64 / sampled)
        };
        vec![pacer, share(t.cpu.user_ns), share(t.cpu.system_ns)]
    };
    let axis = Axis { title: "CPU a request", scale: Scale::Linear, print: &format_ns };
    let note = "Medians. The total is exact; the kernel samples the split between user and system.";
    paragraph(note) + &stacked(groups, trials, "CPU a request", &axis, &parts, &lengths)
}

/// One plot a group: response and service time of every engine.
pub(super) fn latency(groups: &[Group], trials: &Trials<'_>, most: usize) -> String {
    let mut figures = Vec::new();
    for group in groups {
        let mut lines = Vec::new();
        for row in group.rows.iter().filter(|r| r.cell.label.as_deref() != Some(AA)) {
            let Some(own) = trials.get(row.cell.id.as_str()) else { continue };
            if group.arrivals.is_open() {
                lines.extend(percentiles(row, own, "response", false, |t| t.response_ns.as_ref()));
            }
            let dashed = group.arrivals.is_open();
            lines.extend(percentiles(row, own, "service", dashed, |t| t.service_ns.as_ref()));
        }
        if lines.is_empty() {
            continue;
        }
        if figures.len() == most {
            let text = "Further groups are left out here; their percentiles stand in the tables.";
            return drawn(&figures, "") + &paragraph(text);
        }
        let legend: Vec<_> = lines.iter().map(|l| (l.name.clone(), l.colour, l.dashed)).collect();
        let title = format!("Latency, {}", layout::heading(group));
        let x = Axis { title: "percentile", scale: Scale::Hdr, print: &percent };
        let y = Axis { title: "time", scale: Scale::Log10, print: &format_ns };
        figures.push(figure(&title, &legend, plot::lines(&title, &x, &y, &lines)));
    }
    drawn(
        &figures,
        "No valid trial has a histogram of latencies, so that nothing can be said of them.",
    )
}

fn percent(q: f64) -> String {
    let text = format!("{:.4}", q * 100.0);
    format!("{} %", text.trim_end_matches('0').trim_end_matches('.'))
}

/// A line over quantiles as far as ten samples stand above.
fn percentiles(
    row: &Row,
    trials: &[&TrialRecord],
    what: &str,
    dashed: bool,
    of: fn(&TrialRecord) -> Option<&Distribution>,
) -> Option<Line> {
    let histogram = hdr::merge(trials.iter().copied(), of).ok()??;
    let steps = (0..=80).map(|i| 1.0 - 10f64.powf(-f64::from(i) / 16.0));
    let points: Vec<Point> = steps
        .filter(|q| histogram.len() >= hdr::samples_needed(*q))
        .map(|q| Point {
            x: q,
            y: histogram.value_at_quantile(q) as f64,
            interval: None,
            marked: [0.0, 0.9, 0.99, 0.999, 0.9999].iter().any(|m| (q - m).abs() < 1e-9),
        })
        .collect();
    (!points.is_empty()).then(|| Line {
        name: format!("{} {what}", row.name),
        colour: plot::engine_colour(row.cell.engine),
        dashed,
        points,
    })
}

/// A figure of one trial, as a curve shows it.
struct Measure {
    title: &'static str,
    unit: &'static str,
    print: fn(f64) -> String,
    of: fn(&TrialRecord) -> Option<f64>,
}

const MEASURES: [Measure; 5] = [
    Measure {
        title: "Throughput",
        unit: "req/s",
        print: format_rate,
        of: |t| Some(t.achieved_per_s),
    },
    Measure {
        title: "99th percentile",
        unit: "p99",
        print: format_ns,
        of: |t| {
            let times = t.response_ns.as_ref().or(t.service_ns.as_ref())?;
            (times.count >= hdr::samples_needed(0.99)).then_some(times.p99 as f64)
        },
    },
    Measure {
        title: "Peak memory over the baseline",
        unit: "memory",
        print: format_bytes,
        of: |t| Some(t.memory.peak_rss_bytes.saturating_sub(t.memory.baseline_rss_bytes) as f64),
    },
    Measure {
        title: "CPU a request",
        unit: "CPU a request",
        print: format_ns,
        of: |t| Some(t.cpu.per_request_ns).filter(|v| *v > 0.0),
    },
    Measure {
        title: "Context switches a request",
        unit: "switches a request",
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
    for (across, title) in [(true, "lanes"), (false, "offered req/s")] {
        let mut families = Family::new();
        for group in groups {
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
                let name = format!("{}{stack}{pool}", row.cell.engine.name());
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
                figures.extend(curve(measure, &key, title, &family, trials));
            }
        }
    }
    drawn(
        &figures,
        "One value of lanes and of rate only, so that nothing can be drawn against them.",
    )
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
        let colour = plot::engine_colour(crate::plan::Engine::ALL[*engine]);
        let dashed = lines.iter().any(|l| l.colour == colour);
        lines.push(Line { name: name.clone(), colour, dashed, points });
    }
    let xs = || lines.iter().flat_map(|l| &l.points).map(|p| p.x);
    let (least, most) = (xs().fold(f64::INFINITY, f64::min), xs().fold(0.0, f64::max));
    let scale = if most > 16.0 * least { Scale::Log2 } else { Scale::Linear };
    let title = format!("{} against {across}, {key}", measure.title);
    let x = Axis { title: across, scale, print: &number };
    let y = Axis { title: measure.unit, scale: Scale::Linear, print: &measure.print };
    let svg = plot::lines(&title, &x, &y, &lines)?;
    let legend: Vec<_> = lines.iter().map(|l| (l.name.clone(), l.colour, l.dashed)).collect();
    Some(figure(&title, &legend, Some(svg)))
}

/// The Universal Scalability Law for each engine of closed loops.
pub(super) fn scalability(records: &[TrialRecord], seed: u64) -> String {
    let mut series: BTreeMap<String, Vec<Sample>> = BTreeMap::new();
    let closed = |r: &&TrialRecord| is_valid(r) && !r.cell.arrivals.is_open();
    for r in records.iter().filter(closed).filter(|r| r.cell.label.is_none()) {
        let c = &r.cell;
        let stack = c.stack_size_bytes.filter(|_| c.engine.is_blocking());
        let pool = c.rayon_threads.filter(|n| *n != c.lanes).map_or("", |_| ", small pool");
        let name = format!(
            "{}, {}, {} CPU{}{}{pool}{}",
            c.engine.name(),
            c.codec.name(),
            c.cpus,
            if c.cpus == 1 { "" } else { "s" },
            stack.map_or(String::new(), |s| format!(", stacks of {}", format_bytes(s as f64))),
            c.body_bytes.map_or(String::new(), |b| format!(", bodies of {b} B")),
        );
        let sample = Sample { lanes: c.total_lanes, block: r.block, per_s: r.achieved_per_s };
        series.entry(name).or_default().push(sample);
    }
    if series.is_empty() {
        return paragraph(
            "The Universal Scalability Law needs closed loops; no valid trial is one.",
        );
    }
    let mut out = paragraph(
        "The Universal Scalability Law over the lanes of closed loops, X(N) = γN ÷ (1 + α(N − 1) + \
         βN(N − 1)).",
    );
    out.push_str("<ul>");
    for (name, samples) in series {
        let said = match usl::fit(&samples, seed) {
            Err(why) => format!("no fit: {why}."),
            Ok(fit) => law(&fit),
        };
        let _ = write!(out, "<li><b>{}</b>: {}</li>", escape(&name), escape(&said));
    }
    out + "</ul>"
}

fn law(fit: &usl::Fit) -> String {
    let part = |of: fn(&usl::Coefficients) -> f64| {
        let interval =
            fit.intervals.map_or(format!(" ± {:.2e}", of(&fit.standard_errors)), |(l, h)| {
                format!(" [{:.3e}, {:.3e}]", of(&l), of(&h))
            });
        format!("{:.3e}{interval}", of(&fit.at))
    };
    let peak = match fit.peak() {
        Some(p) if p.beyond_data => {
            "the peak lies beyond twice the measured lanes: not predicted".into()
        }
        Some(p) => format!("peak of {} req/s at {:.0} lanes", format_rate(p.per_s), p.lanes),
        None => "no peak".into(),
    };
    let limit = fit.limit_per_s().map_or("no contention limit".into(), |l| {
        format!("contention alone would allow {} req/s", format_rate(l))
    });
    let residuals: Vec<String> = fit
        .residuals
        .iter()
        .map(|r| format!("{}: {:+.1} %", r.lanes, 100.0 * r.residual_per_s / r.measured_per_s))
        .collect();
    let kind = if fit.intervals.is_some() { "95 % intervals" } else { "standard errors" };
    format!(
        "contention α {}, coherency β {}, γ {} req/s ({kind}); {peak}; {limit}; residuals by lanes {}.",
        part(|c| c.alpha),
        part(|c| c.beta),
        part(|c| c.gamma),
        residuals.join(", ")
    )
}
