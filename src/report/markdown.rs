//! `report.md`: the same groups as tables that GitHub renders, for pull requests.

use std::fmt::Write;

use super::layout::{self, Column, Section};
use super::{Reported, capacity, memory, shards};

/// Renders a run as Markdown: the verdict, the tables, and where they come from.
pub fn render(run: &Reported<'_>) -> String {
    let Reported { plan, records, groups, .. } = run;
    let mut out = format!("# {}\n\n", escape(&plan.name));
    let searched = run.searched().filter(|_| !records.is_empty());
    if records.is_empty() {
        out.push_str("No trials yet.\n");
    } else {
        let (said, remarks) = run.verdict(searched.as_ref());
        let _ = writeln!(out, "{}", escape(&said.join(" ")));
        out.extend(remarks.iter().map(|remark| format!("\n{}\n", escape(remark))));
    }
    let found = searched.iter().flat_map(|s| [vec![s.summary(groups)], s.probes()].concat());
    let below = run.details().into_iter().chain(memory::sections(records));
    for section in found.chain(layout::sections(groups)).chain(below) {
        push_section(&mut out, &section);
    }
    if let Some(plan) = run.capacity {
        push_capacity(&mut out, plan);
        out.push_str("\nWhat this assumes: see report.html.\n");
    }
    let shards = run.shards.map(shards::sections);
    shards.iter().flatten().for_each(|section| push_section(&mut out, section));
    out.push_str(&source(run));
    out
}

/// A plan by itself, with what it assumes.
pub fn capacity(plan: &capacity::Plan) -> String {
    let mut out = String::new();
    push_capacity(&mut out, plan);
    let told = |decides: bool| {
        let of = plan.assumptions.iter().filter(move |a| a.decides == decides);
        of.map(ToString::to_string).collect::<Vec<String>>()
    };
    let heading = "What this assumes".into();
    push_section(&mut out, &Section { heading, columns: vec![], notes: told(true) });
    let _ = writeln!(out, "\n<details><summary>Defaults</summary>\n");
    for note in told(false) {
        let _ = writeln!(out, "- {}", escape(&note));
    }
    out.push_str("\n</details>\n");
    out.trim_start().into()
}

fn push_capacity(out: &mut String, plan: &capacity::Plan) {
    for (at, mut section) in plan.sections().into_iter().enumerate() {
        if at == 0 {
            section.heading.insert_str(0, "Capacity: ");
        }
        push_section(out, &section);
        if at == 0 {
            let _ = writeln!(out, "\n{}", escape(&plan.sentence));
        }
    }
}

fn push_section(out: &mut String, Section { heading, columns, notes }: &Section) {
    let _ = write!(out, "\n## {}\n\n{}", escape(heading), table(columns, escape));
    if !columns.is_empty() && !notes.is_empty() {
        out.push('\n');
    }
    for note in notes {
        let _ = writeln!(out, "- {}", escape(note));
    }
}

/// A table whose cells are made literal by `escape`; empty without a column.
pub(super) fn table(columns: &[Column], escape: fn(&str) -> String) -> String {
    let line = |of: &dyn Fn(&Column) -> String| -> String {
        let cells = columns.iter().map(|column| format!(" {} |", of(column)));
        format!("|{}\n", cells.collect::<String>())
    };
    let Some(first) = columns.first() else { return String::new() };
    let heads =
        line(&|c| escape(&c.title)) + &line(&|c| if c.is_number() { "--:" } else { "---" }.into());
    (0..first.cells.len()).fold(heads, |out, row| out + &line(&|c| escape(&c.cells[row])))
}

/// What a reviewer needs to run it again.
fn source(run: &Reported<'_>) -> String {
    let plan = run.plan;
    let told = plan.machine();
    let machine = told.cpu_model.as_deref().unwrap_or("unknown processor");
    let kernel = told.kernel_release.as_deref().unwrap_or("unknown kernel");
    format!(
        "\n---\n\n{}; plan {}, duel {}, begun {}, on {}, Linux {}: {}\n",
        run.trials_run(),
        escape(plan.plan_hash.get(..12).unwrap_or(&plan.plan_hash)),
        escape(plan.versions.git_revision.as_deref().unwrap_or(&plan.versions.duel)),
        escape(&plan.created_utc),
        escape(machine),
        escape(kernel),
        escape(&run.command())
    )
}

/// Text as Markdown shows it literally: error texts may hold anything that a target sent.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in layout::clean(text).chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            // Would notify whoever is called so.
            '@' => out.push_str("&#64;"),
            '\\' | '|' | '`' | '*' | '_' | '[' | ']' | '#' | '!' | '~' => {
                out.push('\\');
                out.push(c);
            }
            c => out.push(c),
        }
    }
    out
}
