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
use crate::format::TrialRecord;
use crate::report::plot::{Mark, Panel, PlotAxis, Scale, Stroke};
use crate::report::summary::Group;
use crate::report::verdict::{self, Trials};
use crate::units::{format_bytes, format_count, format_ns, format_rate};

const MOST_GROUPS: usize = 3;
/// Most points of a line: a long window is thinned.
const MOST_POINTS: usize = 240;

/// What a line of the file must hold to be drawn; whatever else it holds is left alone.
#[derive(Debug, Clone, PartialEq, Deserialize)]
struct TimelinePoint {
    cell: String,
    block: u32,
    worker: u32,
    t_ns: u64,
    rss_bytes: Option<u64>,
    cpu_ns: Option<u64>,
    in_flight: Option<u64>,
    completed: Option<u64>,
}

/// The trials that are drawn: cell id and block.
type Wanted = BTreeMap<String, u32>;

/// The groups that are drawn, and of each row the trial of the median throughput.
fn wanted<'g>(groups: &'g [Group], trials: &Trials<'_>) -> (Vec<&'g Group>, Wanted) {
    let mut picked: Vec<&Group> = verdict::spoken_of(groups);
    let mut others: Vec<&Group> = groups.iter().filter(|g| !g.is_idle()).collect();
    others.sort_by(|a, b| verdict::size(b).total_cmp(&verdict::size(a)));
    for group in others {
        if picked.len() < MOST_GROUPS && !picked.iter().any(|p| std::ptr::eq(*p, group)) {
            picked.push(group);
        }
    }
    let is_picked = |g: &&Group| picked.iter().any(|p| std::ptr::eq(*p, *g));
    let picked: Vec<&Group> = groups.iter().filter(is_picked).collect();
    let mut found = Wanted::new();
    for row in picked.iter().flat_map(|g| &g.rows) {
        let Some(own) = trials.get(row.cell.id.as_str()) else { continue };
        let mut own: Vec<&TrialRecord> = own.clone();
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

/// A figure over time; its value comes from two samples.
struct Course {
    title: &'static str,
    scale: Scale,
    print: fn(f64) -> String,
    of: fn(&Total, &Total) -> Option<f64>,
}

const COURSES: [Course; 4] = [
    Course {
        title: "requests in flight",
        scale: Scale::Linear,
        print: whole,
        of: |_, now| now.in_flight,
    },
    Course {
        title: "completed, req/s",
        scale: Scale::Linear,
        print: format_rate,
        of: |before, now| now.rate(before, |t| t.completed),
    },
    Course {
        title: "resident memory",
        scale: Scale::Binary,
        print: format_bytes,
        of: |_, now| now.rss_bytes,
    },
    Course {
        title: "CPUs busy",
        scale: Scale::Linear,
        print: |v| format!("{v:.2}"),
        of: |before, now| now.rate(before, |t| t.cpu_ns).map(|ns| ns / 1e9),
    },
];

fn whole(v: f64) -> String {
    if v < 10.0 && v.fract() > 0.0 { format!("{v:.1}") } else { format_count(v.round() as u64) }
}

/// All workers of a trial at one look; `None` where one of them could not be read.
#[derive(Debug, Clone, Copy)]
struct Total {
    t_ns: u64,
    rss_bytes: Option<f64>,
    cpu_ns: Option<f64>,
    in_flight: Option<f64>,
    completed: Option<f64>,
}

impl Total {
    fn rate(&self, before: &Total, of: fn(&Total) -> Option<f64>) -> Option<f64> {
        let seconds = self.t_ns.checked_sub(before.t_ns).filter(|ns| *ns > 0)? as f64 / 1e9;
        Some((of(self)? - of(before)?).max(0.0) / seconds)
    }
}

/// Adds the workers of each look up; a look begins with worker 0.
fn totals(looks: &[&TimelinePoint]) -> Vec<Total> {
    let mut out: Vec<Total> = Vec::new();
    for look in looks {
        let add = |sum: Option<f64>, part: Option<u64>| Some(sum? + part? as f64);
        if look.worker == 0 || out.is_empty() {
            let zero = Some(0.0);
            out.push(Total {
                t_ns: look.t_ns,
                rss_bytes: zero,
                cpu_ns: zero,
                in_flight: zero,
                completed: zero,
            });
        }
        if let Some(now) = out.last_mut() {
            now.rss_bytes = add(now.rss_bytes, look.rss_bytes);
            now.cpu_ns = add(now.cpu_ns, look.cpu_ns);
            now.in_flight = add(now.in_flight, look.in_flight);
            now.completed = add(now.completed, look.completed);
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
    let names = figure::titles_of(&groups);
    let axes = COURSES.map(|c| (c.title, c.scale, c.print));
    let axes: Vec<PlotAxis> =
        axes.iter().map(|(title, scale, print)| PlotAxis::new(title, *scale, print)).collect();
    let mut panels: Vec<Panel> = Vec::new();
    for (course, y) in COURSES.iter().zip(&axes) {
        for (title, group) in names.iter().zip(&groups) {
            let mut lines: Vec<Stroke> = Vec::new();
            for row in group.rows.iter().filter(|r| !r.cell.is_copy()) {
                let own: Vec<&TimelinePoint> =
                    looks.iter().filter(|l| l.cell == row.cell.id).collect();
                let points = points(&totals(&own), course);
                if !points.is_empty() {
                    let earlier = panels.iter().flat_map(|p| &p.lines).chain(&lines);
                    let line = Stroke::of(row.cell.engine, row.name.clone(), points, earlier);
                    lines.push(line);
                }
            }
            panels.push(Panel { title: title.clone(), y, lines });
        }
    }
    if panels.iter().flat_map(|p| &p.lines).all(|line| line.points.len() < 2) {
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
        (figure::lines("Trials over time", &x, groups.len().max(1), &panels, &[]))
    }
}

/// A course as points, thinned evenly where it is long; its last point is always there.
fn points(totals: &[Total], course: &Course) -> Vec<Mark> {
    let step = totals.len().div_ceil(MOST_POINTS).max(1);
    let kept: Vec<&Total> =
        totals.iter().rev().step_by(step).collect::<Vec<_>>().into_iter().rev().collect();
    let marks = kept.len().div_ceil(12).max(1);
    let mut points = Vec::new();
    for (i, pair) in kept.windows(2).enumerate() {
        if let Some(y) = (course.of)(pair[0], pair[1]) {
            let x = pair[1].t_ns as f64;
            points.push(Mark { x, y, interval: None, marked: i % marks == 0 });
        }
    }
    points
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
