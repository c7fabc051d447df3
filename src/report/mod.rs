//! What is shown of a run directory. Nothing here starts a process or measures anything.
//!
//! [`summary`] turns records into groups of comparable rows, by [`crate::stats`] alone;
//! [`layout`] turns those into words; the rest puts the words on a terminal or into a file.

pub(crate) mod busy;
pub mod capacity;
pub mod classes;
mod columns;
pub mod compare;
pub mod csv;
pub mod erlang;
pub mod expect;
pub(crate) mod gates;
pub mod hdr_files;
pub mod html;
pub mod layout;
pub mod markdown;
pub mod measures;
pub mod memory;
mod plot;
pub mod search;
pub(crate) mod served;
pub mod shards;
pub(crate) mod slo;
pub mod steps;
pub mod summary;
pub mod table;
pub mod usl;
pub mod verdict;

use crate::format::TrialRecord;
use crate::plan::expect::Expect;
use crate::plan::sweep::Slo;
use crate::plan::{Cell, RequestTemplate};
use crate::results::store::PlanJson;
use layout::Section;
use summary::Group;

/// Whether output may be coloured: a terminal, and no `NO_COLOR` that is set to anything
/// (<https://no-color.org>).
pub(crate) fn colour_wanted(is_terminal: bool) -> bool {
    is_terminal && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
}

/// What the reports of a run are made from.
#[derive(Clone, Copy)]
pub struct Reported<'r> {
    pub plan: &'r PlanJson,
    pub records: &'r [TrialRecord],
    /// [`summary::summarise`]'s of the records.
    pub groups: &'r [Group],
    pub capacity: Option<&'r capacity::Plan>,
    /// The shards of a merged run.
    pub shards: Option<&'r shards::Shards>,
}

impl<'r> Reported<'r> {
    pub fn new(plan: &'r PlanJson, records: &'r [TrialRecord], groups: &'r [Group]) -> Self {
        Reported { plan, records, groups, capacity: None, shards: None }
    }

    /// What heads a report: the sentences, and how far they hold.
    fn verdict(&self, searched: Option<&search::Searched>) -> (Vec<String>, Vec<String>) {
        let Reported { records, groups, .. } = self;
        match searched {
            Some(searched) => (searched.sentences(), vec![]),
            None => {
                let said = verdict::sentences(records, groups, &verdict::by_cell(records));
                (said, verdict::remarks(records, groups))
            }
        }
    }
}

/// What stands below the tables of engines, each under its heading: the SLO, classes of requests,
/// expectations, steps.
pub(crate) fn details(
    slo: Option<&Slo>,
    mix: &[RequestTemplate],
    expects: &[Expect],
    cells: &[Cell],
    records: &[TrialRecord],
) -> Vec<Section> {
    let judged = [slo::section(slo, records), classes::section(mix, records)];
    let more = [expect::section(expects, cells, records), steps::section(records)];
    judged.into_iter().chain(more).flatten().collect()
}

pub(crate) fn details_of(plan: &PlanJson, records: &[TrialRecord]) -> Vec<Section> {
    let (slo, mix) = (slo::of_plan(plan), classes::mix_of(plan));
    details(slo.as_ref(), &mix, &expect::of_plan(plan), &plan.cells, records)
}

/// How many of the planned trials were run; repeats of noisy ones are none of them.
fn trials_run(plan: &PlanJson, records: &[TrialRecord]) -> String {
    let slots: std::collections::BTreeSet<(&str, u32)> =
        records.iter().map(|r| (r.cell.id.as_str(), r.block)).collect();
    let repeats = match records.len() - slots.len() {
        0 => String::new(),
        1 => " and 1 repeat".into(),
        n => format!(" and {n} repeats"),
    };
    // Where blocks end by precision, and probes by what they found, the plan is a bound.
    let is_bound = plan.sweep().is_some_and(|s| s.precision.is_some() || s.search.is_some());
    match is_bound {
        true => format!("{} of at most {} trials{repeats}", slots.len(), plan.trials_planned),
        false => format!("{} of {} planned trials{repeats}", slots.len(), plan.trials_planned),
    }
}
