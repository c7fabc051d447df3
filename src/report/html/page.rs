//! The frame of the document, and the sections that are words alone.

use std::fmt::Write;

use serde_json::Value;

use super::{escape, paragraph};
use crate::format::TrialRecord;
use crate::results::store::PlanJson;

const STYLE: &str = include_str!("page.css");

/// The whole document; `title` and `main` are HTML.
pub(super) fn document(title: &str, main: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src \
         'unsafe-inline'; img-src data:\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta name=\"color-scheme\" content=\"light dark\">\
         <link rel=\"icon\" href=\"data:,\">\
         <title>{title} · duel</title><style>{STYLE}</style></head><body><main>{main}</main>\
         </body></html>\n"
    )
}

/// How it was measured, where, under which limits, and the plan.
pub(super) fn method(plan: &PlanJson, records: &[TrialRecord]) -> String {
    let mut out = paragraph(
        "Every trial ran in fresh processes of its own; a block holds every cell once, in seeded \
         random order. Ratios are Hodges–Lehmann estimates of log-ratios from pairs of one block, \
         with signed-rank 95 % intervals, corrected for their number by Holm. Percentiles come from \
         histograms merged over trials; \u{2018}-\u{2019} stands where fewer than 10 ÷ (1 − q) samples stand \
         behind one. Points of curves are medians with order-statistic 95 % intervals. Service time \
         runs from actual start to end, response time from intended start to end.",
    );
    let rows = [
        ("plan hash", plan.plan_hash.clone()),
        ("begun", plan.created_utc.clone()),
        ("trials", format!("{} of {} planned", records.len(), plan.trials_planned)),
        ("seed", plan.seed.to_string()),
        ("duel", plan.versions.duel.clone()),
        ("revision", plan.versions.git_revision.clone().unwrap_or_else(|| "unknown".into())),
        ("binary, SHA-256", plan.versions.binary_digest.clone()),
    ];
    out.push_str("<dl>");
    for (name, value) in rows {
        let _ = write!(out, "<dt>{name}</dt><dd>{}</dd>", escape(&value));
    }
    out.push_str("</dl>");
    for (name, value) in
        [("Machine", &plan.machine), ("Limits", &plan.limits), ("Plan", &plan.config)]
    {
        let _ = write!(out, "<details><summary>{name}</summary><dl>{}</dl></details>", list(value));
    }
    out
}

/// The leaves of a value by their paths.
fn list(value: &Value) -> String {
    let mut out = String::new();
    leaves("", value, &mut out);
    out
}

fn leaves(path: &str, value: &Value, out: &mut String) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (name, value) in fields {
                let dot = if path.is_empty() { "" } else { "." };
                leaves(&format!("{path}{dot}{name}"), value, out);
            }
        }
        Value::String(text) => push(path, text, out),
        other => push(path, &other.to_string(), out),
    }
}

fn push(path: &str, text: &str, out: &mut String) {
    let _ = write!(out, "<dt>{}</dt><dd>{}</dd>", escape(path), escape(text));
}

/// The command, and what else it takes.
pub(super) fn reproduce(plan: &PlanJson) -> String {
    let quoted = |a: &String| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,@%+".contains(c);
        if !a.is_empty() && a.chars().all(plain) {
            a.clone()
        } else {
            format!("'{}'", a.replace('\'', "'\\''"))
        }
    };
    let mut command: Vec<String> = plan.command_line.iter().map(quoted).collect();
    if let Some(program) = command.first_mut() {
        // Where the program lay on the machine that ran it helps nobody.
        *program = program.rsplit('/').next().unwrap_or("duel").to_string();
    }
    format!(
        "<pre>{}</pre>{}",
        escape(&command.join(" ")),
        paragraph(
            "The same config with the same binary has the same plan hash and sends the same bytes in \
             the same order. plan.json beside this file holds the resolved config, trials.jsonl every \
             trial, cells.csv one row a cell."
        )
    )
}
