//! What the lanes of closed loops allow.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::{escape, paragraph};
use crate::report::summary::is_valid;
use crate::report::usl::{self, Sample};
use crate::results::format::TrialRecord;
use crate::units::{format_bytes, format_rate};

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
