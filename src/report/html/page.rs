//! The frame of the document, and the sections that are words alone.

use maud::{DOCTYPE, Markup, PreEscaped, html};
use serde_json::Value;

use super::{paragraph, tables};
use crate::report::Reported;

const STYLE: &str = include_str!("page.css");

/// No request may leave the page.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:";

pub(super) fn document(title: &str, main: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                link rel="icon" href="data:,";
                title { (title) " · duel" }
                style { (PreEscaped(STYLE)) }
            }
            body { main { (main) } }
        }
    }
}

/// How it was measured, where, under which limits, and the plan.
pub(super) fn method(run: &Reported<'_>) -> Markup {
    let plan = run.plan;
    let rows = [
        ("plan hash", plan.plan_hash.clone()),
        ("begun", plan.created_utc.clone()),
        ("trials", run.trials_run()),
        ("seed", plan.seed.to_string()),
        ("duel", plan.versions.duel.clone()),
        ("revision", plan.versions.git_revision.clone().unwrap_or_else(|| "unknown".into())),
        ("binary, SHA-256", plan.versions.binary_digest.clone()),
    ];
    let details = [("Machine", &plan.machine), ("Limits", &plan.limits), ("Plan", &plan.config)];
    html! {
        (paragraph(
            "Every trial ran in fresh processes of its own; a block holds every cell once, in seeded \
             random order. Ratios are Hodges–Lehmann estimates of log-ratios from pairs of one block, \
             with signed-rank 95 % intervals, corrected for their number by Holm. Percentiles come \
             from histograms merged over trials; \u{2018}-\u{2019} stands where fewer than 10 ÷ (1 − q) \
             samples were recorded. Points of curves are medians with order-statistic 95 % intervals. \
             Service time runs from actual start to end, response time from intended start to end.",
        ))
        dl { @for (name, value) in &rows { dt { (name) } dd { (value) } } }
        @for (name, value) in details {
            @let mut leaves = Vec::new();
            @let () = self::leaves("", value, &mut leaves);
            (tables::folded(name, false, &html! {
                dl { @for (path, text) in &leaves { dt { (path) } dd { (text) } } }
            }))
        }
    }
}

fn leaves(path: &str, value: &Value, out: &mut Vec<(String, String)>) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (name, value) in fields {
                let dot = if path.is_empty() { "" } else { "." };
                leaves(&format!("{path}{dot}{name}"), value, out);
            }
        }
        Value::String(text) => out.push((path.into(), text.clone())),
        other => out.push((path.into(), other.to_string())),
    }
}

/// The command, and what else it takes.
pub(super) fn reproduce(run: &Reported<'_>) -> Markup {
    html! {
        pre { (run.command()) }
        (paragraph(
            "The same config with the same binary has the same plan hash and sends the same bytes in \
             the same order. plan.json beside this file holds the resolved config, trials.jsonl every \
             trial, cells.csv one row per cell."
        ))
    }
}
