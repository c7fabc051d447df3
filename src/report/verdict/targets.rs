//! What is said of targets that a sweep compared: how fast each answers against the first.

use crate::report::layout::{or_dash, quantile};
use crate::report::measures::{Measure, compared};
use crate::report::summary::{Figures, Group, Row};
use crate::stats::{Comparison, Verdict};
use crate::units::{Ratio, format_share};

pub(super) fn sentences(group: &Group) -> Vec<String> {
    let (Some(reference), true) = (group.reference, group.cell.target.is_some()) else {
        return Vec::new();
    };
    let first = &group.rows[reference];
    let others = group.rows.iter().filter(|r| r.cell.target_nth != Some(0) && r.ranked);
    others.filter_map(|row| sentence(group, row, first)).collect()
}

fn sentence(group: &Group, row: &Row, first: &Row) -> Option<String> {
    let (a, b) = (row.figures.as_ref()?, first.figures.as_ref()?);
    let said = compared(&group.cell).filter_map(|facts| {
        let measure = facts.measure;
        Some(part(measure, row.ratio(measure)?, &figures(measure, a, b)))
    });
    let said: Vec<String> = said.chain(lost(a, b)).collect();
    let place = group.cell.place_words(&[]);
    (!said.is_empty())
        .then(|| format!("{place}: {} against {}: {}.", row.name, first.name, said.join("; ")))
}

/// Of both, as they are printed elsewhere.
fn figures(measure: Measure, a: &Figures, b: &Figures) -> String {
    let show = |f: &Figures| {
        or_dash(match measure {
            Measure::P50 => quantile(f.latency(), 0.5),
            Measure::P99 => quantile(f.latency(), 0.99),
            Measure::Achieved => f.get(measure).map(|v| measure.print(v) + " req/s"),
            measure => f.get(measure).map(|v| measure.print(v)),
        })
    };
    format!("{} against {}", show(a), show(b))
}

/// `p50 is 12 % [8, 15] higher (1.1 ms against 1 ms)`.
fn part(measure: Measure, c: Comparison, figures: &str) -> String {
    let what = match measure {
        Measure::Achieved => "the rate",
        Measure::CpuPerRequest => "CPU per request",
        Measure::Memory => "memory",
        measure => measure.facts().title,
    };
    let e = c.estimate;
    let percent = |r: f64| 100.0 * (r - 1.0);
    match c.verdict {
        Verdict::Higher | Verdict::Lower => {
            let way = if e.ratio > 1.0 { "higher" } else { "lower" };
            let interval = e.interval().map_or(String::new(), |(low, high)| {
                let (x, y) = (percent(low).abs(), percent(high).abs());
                format!(" [{:.1}, {:.1}]", x.min(y), x.max(y))
            });
            let by = percent(e.ratio).abs();
            format!("{what} is {by:.1} %{interval} {way} ({figures})")
        }
        Verdict::Equal { margin } => {
            format!("{what} is equal within {} ({figures})", format_share(margin))
        }
        Verdict::Undecided { up_to: None } => {
            format!("{what} cannot be compared yet ({figures})")
        }
        Verdict::Undecided { up_to: Some(end) } => {
            let way = if end < 1.0 { "as low as" } else { "up to" };
            let end = Ratio(end);
            format!("{what} is undecided, could be {way} {end} ({figures})")
        }
    }
}

/// Requests that did not complete, where one side has any.
fn lost(a: &Figures, b: &Figures) -> Option<String> {
    let (x, y) = (a.ledger.lost_share(), b.ledger.lost_share());
    (x + y > 0.0)
        .then(|| format!("lost {} of its requests against {}", format_share(x), format_share(y)))
}
