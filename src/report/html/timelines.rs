//! What a trial looked like from outside, ten times a second: a short window of `timeline.jsonl`.
//!
//! One trial of each engine is drawn, for the few groups that the verdict speaks of; the file holds
//! all of them. It is read line by line, since a long sweep's is larger than the report may be.

use std::collections::BTreeMap;
use std::io::BufRead;

use maud::{Markup, html};
use serde::Deserialize;

use super::figure::{self, APART};
use super::paragraph;
use crate::report::plot::{Mark, Panels, PlotAxis, Scale, whole};
use crate::report::summary::Group;
use crate::report::verdict::{self, Trials};
use crate::units::{format_bytes, format_ns, format_rate};

const MOST_GROUPS: usize = 3;
/// Most points of a line: a long window is thinned.
const MOST_POINTS: usize = 240;

/// What a line of the file must hold to be drawn, and the sum over the workers of one look; whatever
/// else a line holds is left alone.
#[derive(Debug, Clone, PartialEq, Deserialize)]
struct TimelinePoint {
    cell: String,
    block: u32,
    worker: u32,
    t_ns: u64,
    rss_bytes: Option<f64>,
    cpu_ns: Option<f64>,
    in_flight: Option<f64>,
    completed: Option<f64>,
}

impl TimelinePoint {
    fn rate(&self, before: &Self, of: fn(&Self) -> Option<f64>) -> Option<f64> {
        let seconds = self.t_ns.checked_sub(before.t_ns).filter(|ns| *ns > 0)? as f64 / 1e9;
        Some((of(self)? - of(before)?).max(0.0) / seconds)
    }

    /// Adds a worker; `None` where one of them could not be read.
    fn add(&mut self, other: &Self) {
        let add =
            |sum: &mut Option<f64>, part: Option<f64>| *sum = sum.zip(part).map(|(a, b)| a + b);
        add(&mut self.rss_bytes, other.rss_bytes);
        add(&mut self.cpu_ns, other.cpu_ns);
        add(&mut self.in_flight, other.in_flight);
        add(&mut self.completed, other.completed);
    }
}

/// The trials that are drawn: cell id and block.
type Wanted = BTreeMap<String, u32>;

/// The groups that are drawn, and of each row the trial of the median throughput.
fn wanted<'g>(groups: &'g [Group], trials: &Trials<'_>) -> (Vec<&'g Group>, Wanted) {
    let mut picked: Vec<&Group> = verdict::spoken_of(groups);
    let sending: Vec<&Group> = groups.iter().filter(|g| !g.cell.is_idle()).collect();
    for group in verdict::demanding(&sending) {
        if picked.len() < MOST_GROUPS && figure::among(&picked, &[group]).is_empty() {
            picked.push(group);
        }
    }
    let picked = figure::among(&groups.iter().collect::<Vec<_>>(), &picked);
    let mut found = Wanted::new();
    for row in picked.iter().flat_map(|g| &g.rows) {
        let Some(own) = trials.get(row.cell.id.as_str()) else { continue };
        let mut own = own.clone();
        own.sort_by(|a, b| a.achieved_per_s.total_cmp(&b.achieved_per_s));
        found.insert(row.cell.id.clone(), own[own.len() / 2].block);
    }
    (picked, found)
}

/// The lines of a timeline that belong to the trials that will be drawn; damaged ones are skipped,
/// as a killed driver may leave one.
fn read(timeline: impl BufRead, wanted: &Wanted) -> Vec<TimelinePoint> {
    let mut looks: Vec<TimelinePoint> = Vec::new();
    for line in timeline.split(b'\n') {
        let Ok(line) = line else { break };
        let Ok(look) = serde_json::from_slice::<TimelinePoint>(&line) else { continue };
        if wanted.get(&look.cell) != Some(&look.block) {
            continue;
        }
        // A trial that was repeated within its block begins anew; the last one is the quiet one.
        let before = |l: &&TimelinePoint| l.cell == look.cell && l.worker == look.worker;
        if looks.iter().rev().find(before).is_some_and(|l| l.t_ns > look.t_ns) {
            looks.retain(|l| l.cell != look.cell);
        }
        looks.push(look);
    }
    looks
}

/// A figure over time: its title, its scale, how it is printed, and its value from two samples.
type Course =
    (&'static str, Scale, fn(f64) -> String, fn(&TimelinePoint, &TimelinePoint) -> Option<f64>);

const COURSES: [Course; 4] = [
    ("requests in flight", Scale::Linear, tenths, |_, now| now.in_flight),
    ("completed, req/s", Scale::Linear, format_rate, |before, now| {
        now.rate(before, |t| t.completed)
    }),
    ("resident memory", Scale::Binary, format_bytes, |_, now| now.rss_bytes),
    (
        "CPUs busy",
        Scale::Linear,
        |v| format!("{v:.2}"),
        |before, now| Some(now.rate(before, |t| t.cpu_ns)? / 1e9),
    ),
];

fn tenths(v: f64) -> String {
    if v < 10.0 && v.fract() > 0.0 { format!("{v:.1}") } else { whole(v) }
}

/// Adds the workers of each look up; a look begins with worker 0.
fn totals(looks: &[&TimelinePoint]) -> Vec<TimelinePoint> {
    let mut out: Vec<TimelinePoint> = Vec::new();
    for look in looks {
        match out.last_mut().filter(|_| look.worker > 0) {
            Some(now) => now.add(look),
            None => out.push((*look).clone()),
        }
    }
    out
}

/// One trial per engine over time: a row of panels per course, a column per group.
pub(super) fn timelines(
    groups: &[Group],
    trials: &Trials<'_>,
    timeline: Option<&mut dyn BufRead>,
) -> Markup {
    let Some(timeline) = timeline else {
        return paragraph(
            "No timeline.jsonl lies beside the records, so nothing can be drawn over time.",
        );
    };
    let (groups, wanted) = wanted(groups, trials);
    let looks = read(timeline, &wanted);
    let axes: Vec<PlotAxis> = COURSES
        .iter()
        .map(|(title, scale, print, _)| PlotAxis::new(title, *scale, print))
        .collect();
    let mut panels = Panels::default();
    for ((.., of), y) in COURSES.iter().zip(&axes) {
        for (title, group) in figure::titles_of(&groups).into_iter().zip(&groups) {
            panels.begin(title, y);
            for row in group.rows.iter().filter(|r| !r.cell.is_copy()) {
                let own: Vec<_> = looks.iter().filter(|l| l.cell == row.cell.id).collect();
                panels.draw(row.cell.engine, &row.name, points(&totals(&own), *of));
            }
        }
    }
    if panels.0.iter().flat_map(|p| &p.lines).all(|line| line.points.len() < 2) {
        return paragraph(
            "Nothing can be drawn over time: the driver looks every 100 ms, and saw no valid trial \
             often enough.",
        );
    }
    let x = PlotAxis::new("time since the start of the warm-up", Scale::Linear, &format_ns);
    html! {
        (paragraph(&format!(
            "One trial per engine (the one with median throughput), sampled every 100 ms by the \
             driver; warm-up included. timeline.jsonl has every trial. {APART}"
        )))
        (figure::lines("Trials over time", &x, groups.len().max(1), &panels.0, &[]))
    }
}

/// A course as points, thinned evenly where it is long; its last point is always there.
fn points(
    totals: &[TimelinePoint],
    of: fn(&TimelinePoint, &TimelinePoint) -> Option<f64>,
) -> Vec<Mark> {
    let step = totals.len().div_ceil(MOST_POINTS).max(1);
    let mut kept: Vec<&TimelinePoint> = totals.iter().rev().step_by(step).collect();
    kept.reverse();
    let marks = kept.len().div_ceil(12).max(1);
    let point = |(i, pair): (usize, &[&TimelinePoint])| {
        let (x, y) = (pair[1].t_ns as f64, of(pair[0], pair[1])?);
        Some(Mark { marked: i % marks == 0, ..Mark::at(x, y) })
    };
    kept.windows(2).enumerate().filter_map(point).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damaged_and_foreign_lines_cost_only_themselves() {
        let wanted = Wanted::from([("a".to_string(), 1)]);
        let text = "{\"cell\":\"a\",\"block\":1,\"worker\":0,\"t_ns\":5,\"rss_bytes\":1,\"cpu_ns\":2,\"in_flight\":3,\"completed\":4,\"cost_ns\":1}\n\
                    {\"cell\":\"a\",\"blo\n\
                    {\"cell\":\"a\",\"block\":2,\"worker\":0,\"t_ns\":5}\n\n\
                    {\"cell\":\"a\",\"block\":1,\"worker\":1,\"t_ns\":6,\"rss_bytes\":10,\"cpu_ns\":null,\"in_flight\":3,\"completed\":4}";
        let looks = read(text.as_bytes(), &wanted);
        assert_eq!(looks.len(), 2);
        let totals = totals(&looks.iter().collect::<Vec<_>>());
        assert_eq!(totals.len(), 1, "two workers of one look");
        assert_eq!(totals[0].rss_bytes, Some(11.0));
        assert_eq!(totals[0].cpu_ns, None, "a worker that could not be read makes no zero");
    }
}
