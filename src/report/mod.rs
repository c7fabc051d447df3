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

use std::collections::BTreeSet;

use crate::format::TrialRecord;
use crate::plan::Cell;
use crate::plan::sweep::Sweep;
use crate::results::store::PlanJson;
use crate::terminal::shell_word;
use layout::Section;
use search::Searched;
use summary::Group;

/// Whether output may be coloured: a terminal, and no `NO_COLOR` that is set to anything
/// (<https://no-color.org>).
pub(crate) fn colour_wanted(is_terminal: bool) -> bool {
    is_terminal && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
}

/// What the reports of a run are made from.
#[derive(Clone)]
pub struct Reported<'r> {
    pub plan: &'r PlanJson,
    /// What the plan's config says; `None` only of a plan that comes from no run directory.
    pub sweep: Option<Sweep>,
    pub records: &'r [TrialRecord],
    /// [`summary::summarise`]'s of the records.
    pub groups: &'r [Group],
    pub capacity: Option<&'r capacity::Plan>,
    /// The shards of a merged run.
    pub shards: Option<&'r shards::Shards>,
}

impl<'r> Reported<'r> {
    pub fn new(plan: &'r PlanJson, records: &'r [TrialRecord], groups: &'r [Group]) -> Self {
        Reported { plan, sweep: plan.sweep(), records, groups, capacity: None, shards: None }
    }

    pub(crate) fn searched(&self) -> Option<Searched> {
        search::of(self.sweep.as_ref()?, self.records)
    }

    /// `classes.csv`; `None` where no request has a name.
    pub(crate) fn classes(&self) -> Option<String> {
        let mix = self.sweep.as_ref().map_or(&[][..], |sweep| sweep.plan.mix.as_slice());
        classes::csv(mix, self.records)
    }

    fn details(&self) -> Vec<Section> {
        details(self.sweep.as_ref(), &self.plan.cells, self.records)
    }

    /// The report for a terminal of `width` columns.
    pub(crate) fn text(&self, width: Option<u16>, colour: bool) -> String {
        let named = (self.plan.name.as_str(), self.groups);
        let text = text(self.sweep.as_ref(), &self.plan.cells, self.records, named, width, colour);
        text + &self.shards.map_or(String::new(), |all| shards::text(all, width))
    }

    /// What heads a report: the sentences, and how far they hold.
    fn verdict(&self, searched: Option<&Searched>) -> (Vec<String>, Vec<String>) {
        let (records, groups) = (self.records, self.groups);
        match searched {
            Some(searched) => (searched.sentences(), vec![]),
            None => {
                let mut said = verdict::sentences(records, groups, &verdict::by_cell(records));
                let slo = self.sweep.as_ref().and_then(|sweep| sweep.slo.as_ref());
                said.extend(slo::sentence(slo, records));
                (said, verdict::remarks(records, groups))
            }
        }
    }

    /// The command, to be copied into a shell; where the program lay on the machine that ran it helps
    /// nobody.
    fn command(&self) -> String {
        let words = self.plan.command_line.iter().enumerate();
        let words = words.map(|(i, word)| {
            let program = word.rsplit('/').next().filter(|_| i == 0);
            shell_word(program.unwrap_or(word))
        });
        words.collect::<Vec<String>>().join(" ")
    }

    /// How many of the planned trials were run; repeats of noisy ones are none of them.
    fn trials_run(&self) -> String {
        let slots = self.records.iter().map(|r| (r.cell.id.as_str(), r.block));
        let slots = slots.collect::<BTreeSet<(&str, u32)>>().len();
        let repeats = match self.records.len() - slots {
            0 => String::new(),
            1 => " and 1 repeat".into(),
            n => format!(" and {n} repeats"),
        };
        // Where blocks end by precision, and probes by what they found, the plan is a bound.
        let is_bound = |s: &Sweep| s.precision.is_some() || s.search.is_some();
        let planned = self.plan.trials_planned;
        match self.sweep.as_ref().is_some_and(is_bound) {
            true => format!("{slots} of at most {planned} trials{repeats}"),
            false => format!("{slots} of {planned} planned trials{repeats}"),
        }
    }
}

/// What is said of a sweep, and its tables, for a terminal of `width` columns.
pub(crate) fn text(
    sweep: Option<&Sweep>,
    cells: &[Cell],
    records: &[TrialRecord],
    (name, groups): (&str, &[Group]),
    width: Option<u16>,
    colour: bool,
) -> String {
    if let Some(searched) = sweep.and_then(|sweep| search::of(sweep, records)) {
        return searched.text(name, groups, width, colour);
    }
    let below = [details(sweep, cells, records), memory::sections(records)].concat();
    verdict::text(records, groups, width) + &table::render(name, groups, &below, width, colour)
}

/// What stands below the tables of engines, each under its heading: the SLO, classes of requests,
/// expectations, steps. A search misses its SLO on purpose.
fn details(sweep: Option<&Sweep>, cells: &[Cell], records: &[TrialRecord]) -> Vec<Section> {
    let slo = sweep.filter(|sweep| sweep.search.is_none()).and_then(|sweep| sweep.slo.as_ref());
    let mix = sweep.map_or(&[][..], |sweep| sweep.plan.mix.as_slice());
    let expects = sweep.map_or(&[][..], |sweep| sweep.expect.as_slice());
    let judged = [slo::section(slo, records), classes::section(mix, records)];
    let more = [expect::section(expects, cells, records), steps::section(records)];
    judged.into_iter().chain(more).flatten().collect()
}
