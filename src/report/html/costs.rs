//! Where the bytes and the processor time go: stacked bars, and a table of what lies behind them.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::figure::{self, Entry, drawn, titled};
use super::{escape, paragraph};
use crate::format::TrialRecord;
use crate::report::plot::{self, Axis, Bar, Colour, PALETTE, Scale};
use crate::report::summary::Group;
use crate::report::verdict::Trials;
use crate::stats::median;
use crate::units::{format_bytes, format_ns};

/// Most groups that get bars.
const MOST_BARS: usize = 24;
/// Most rows of the table of causes that are shown unasked.
const MOST_OPEN: usize = 30;

/// What each part of a bar is, and its length in one trial.
type Parts<'a> = (&'a [(&'a str, Colour)], &'a dyn Fn(&TrialRecord) -> Vec<Option<f64>>);

/// Bars of every row of each group: medians of the parts over the trials.
fn stacked(
    groups: &[Group],
    trials: &Trials<'_>,
    what: &str,
    axis: &Axis<'_>,
    (parts, lengths): Parts<'_>,
) -> String {
    let named: Vec<(String, Colour)> = parts.iter().map(|(n, c)| (n.to_string(), *c)).collect();
    let (groups, left_out) = figure::chosen(groups, MOST_BARS);
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
        let title = titled(what, group);
        let legend: Vec<Entry> =
            seen.iter().map(|i| Entry::area(parts[*i].0, parts[*i].1)).collect();
        figures.push(figure::figure(&title, &legend, plot::bars(&title, axis, &named, &bars)));
    }
    drawn(&figures, "No valid trial measured this.") + &left_out
}

/// User memory over the baseline, page tables, kernel stacks, other kernel memory, sockets.
pub(super) fn memory(groups: &[Group], trials: &Trials<'_>) -> String {
    let parts = [
        ("user", PALETTE[1]),
        ("kernel stacks", PALETTE[3]),
        ("page tables", PALETTE[4]),
        ("other kernel", PALETTE[2]),
        ("TCP buffers", PALETTE[0]),
    ];
    let lengths = |t: &TrialRecord| {
        let lanes = f64::from(t.cell.total_lanes.max(1));
        let m = &t.memory;
        let plateau = m.plateau_user_bytes.map(|b| b.saturating_sub(m.baseline_rss_bytes));
        let user = plateau.or_else(|| t.peak_over_baseline());
        // The cgroup's kernel memory holds page tables and stacks too.
        let known = m.page_table_bytes.unwrap_or(0) + m.kernel_stack_bytes.unwrap_or(0);
        let other = m.kernel_bytes.map(|k| k.saturating_sub(known));
        [user, m.kernel_stack_bytes, m.page_table_bytes, other, m.socket_bytes]
            .map(|bytes| bytes.map(|b| b as f64 / lanes))
            .to_vec()
    };
    let axis = Axis { title: "bytes a lane", scale: Scale::Binary, print: &format_bytes };
    let note = "Medians at the plateau, for each lane. What a worker needs whatever its lanes is \
                part of it, and so weighs most where lanes are few.";
    paragraph(note)
        + &missing(trials)
        + &stacked(groups, trials, "Memory a lane", &axis, (&parts, &lengths))
}

/// What of the memory could not be measured, and why.
fn missing(trials: &Trials<'_>) -> String {
    let mut why: BTreeSet<String> = BTreeSet::new();
    for trial in trials.values().flatten() {
        for (field, reason) in trial.unavailable.iter().filter(|(f, _)| f.starts_with("memory.")) {
            why.insert(format!("{field}: {reason}"));
        }
    }
    if why.is_empty() {
        return String::new();
    }
    let why: Vec<String> = why.into_iter().collect();
    paragraph(&format!("Missing, not zero: {}.", why.join("; ")))
}

/// User, system and pacer CPU for each request.
pub(super) fn cpu(groups: &[Group], trials: &Trials<'_>) -> String {
    let parts = [("pacer", PALETTE[0]), ("user", PALETTE[1]), ("system", PALETTE[3])];
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
    let busy: Vec<Group> = groups.iter().filter(|g| !g.is_idle()).cloned().collect();
    // What counting costs is in the time of those trials: they have rows, and no bars.
    let timed: Vec<Group> = busy.iter().filter(|g| !g.counts_events()).cloned().collect();
    paragraph(note)
        + &stacked(&timed, trials, "CPU a request", &axis, (&parts, &lengths))
        + &causes(&busy, trials)
}

/// A column of the table of causes: its title, and its value in one trial for each request.
type Cause = (&'static str, fn(f64) -> String, fn(&TrialRecord, f64) -> Option<f64>);

const CAUSES: [Cause; 12] = [
    ("CPU\na request", format_ns, |t, _| Some(t.cpu.per_request_ns)),
    ("whole machine\nbusy a request", format_ns, |t, n| {
        t.cpu.machine_busy_ns.map(|ns| ns as f64 / n)
    }),
    ("user, of\nuser + system", percent, |t, _| {
        let sampled = t.cpu.user_ns + t.cpu.system_ns;
        (sampled > 0).then(|| t.cpu.user_ns as f64 / sampled as f64)
    }),
    ("waiting for a CPU\na request", format_ns, |t, n| {
        t.cpu.run_queue_wait_ns.map(|ns| ns as f64 / n)
    }),
    ("target's CPU\na request", format_ns, |t, _| {
        let received = t.target.received.filter(|n| *n > 0)?;
        t.target.cpu_ns.map(|ns| ns as f64 / received as f64)
    }),
    ("voluntary switches\na request", decimals, |t, n| Some(t.switches.voluntary as f64 / n)),
    ("involuntary\na request", decimals, |t, n| Some(t.switches.involuntary as f64 / n)),
    ("moves between CPUs\na request", decimals, |t, n| t.switches.migrations.map(|m| m as f64 / n)),
    ("page faults\na request", decimals, |t, n| {
        Some((t.events.minor_faults? + t.events.major_faults?) as f64 / n)
    }),
    ("system calls\na request", decimals, |t, _| t.events.syscalls_per_request),
    ("tokio: parks\na request", decimals, |t, n| t.runtime.map(|r| r.parks as f64 / n)),
    ("tokio: workers busy\na request", format_ns, |t, n| t.runtime.map(|r| r.busy_ns as f64 / n)),
];

fn percent(v: f64) -> String {
    format!("{:.0} %", 100.0 * v)
}

fn decimals(v: f64) -> String {
    if v > 0.0 && v < 0.01 { format!("{v:.4}") } else { format!("{v:.2}") }
}

/// What lies behind the processor time: switches, waits, and what the machine did beside.
fn causes(groups: &[Group], trials: &Trials<'_>) -> String {
    let requests = |t: &TrialRecord| {
        let n = t.cpu.total_ns as f64 / t.cpu.per_request_ns;
        (n.is_finite() && n > 0.0).then_some(n)
    };
    let mut absent = BTreeSet::new();
    let mut body = String::new();
    let mut shown = [false; CAUSES.len()];
    let mut lines: Vec<(String, Vec<Option<f64>>)> = Vec::new();
    for group in groups {
        for row in &group.rows {
            let Some(own) = trials.get(row.cell.id.as_str()) else { continue };
            let values = CAUSES.map(|(_, _, of)| {
                let all: Vec<f64> = own.iter().filter_map(|t| of(t, requests(t)?)).collect();
                median(&all)
            });
            for (seen, value) in shown.iter_mut().zip(&values) {
                *seen |= value.is_some();
            }
            for t in own {
                let cpu = |f: &&String| f.starts_with("cpu.") || f.starts_with("switches.");
                for field in t.unavailable.keys().filter(cpu) {
                    absent.insert(format!("{field}: {}", t.unavailable[field]));
                }
            }
            let load = super::short_heading(group);
            lines.push((format!("{} · {load}", row.name), values.to_vec()));
        }
    }
    if lines.is_empty() {
        return String::new();
    }
    let columns: Vec<usize> = (0..CAUSES.len()).filter(|i| shown[*i]).collect();
    let lines_shown = lines.len();
    for (name, values) in lines {
        let _ = write!(body, "<tr><th scope=\"row\">{}</th>", escape(&name));
        for i in &columns {
            let text = values[*i].map_or_else(|| "-".into(), CAUSES[*i].1);
            let _ = write!(body, "<td class=\"n\">{}</td>", escape(&text));
        }
        body.push_str("</tr>");
    }
    let heads: String = columns
        .iter()
        .map(|i| format!("<th scope=\"col\">{}</th>", super::broken(CAUSES[*i].0)))
        .collect();
    let open = if lines_shown <= MOST_OPEN { " open" } else { "" };
    let mut out = format!(
        "<details{open}><summary>What lies behind it: switches, waits, the rest of the machine</summary>\
         <div class=\"wide\" tabindex=\"0\" role=\"region\" aria-label=\"What lies behind the \
         processor time\"><table><thead><tr><th scope=\"col\">cell</th>{heads}</tr></thead><tbody>\
         {body}</tbody></table></div></details>"
    );
    if !absent.is_empty() {
        let absent: Vec<String> = absent.into_iter().collect();
        out.push_str(&paragraph(&format!("Missing, not zero: {}.", absent.join("; "))));
    }
    out
}
