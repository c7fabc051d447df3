//! How many blocks a sweep runs: a fixed number, or until its ratios are precise.

use std::time::{Duration, Instant};

use crate::config::default_of;
use crate::format::TrialRecord;
use crate::plan::Cell;
use crate::plan::sweep::{Sweep, Trial};
use crate::report::summary::Comparisons;
use crate::stats::precision::{blocks_expected, fewest_blocks, half_width_expected};
use crate::stats::{MIN_FOR_INTERVAL, pairs_needed};
use crate::units::{format_count, format_ns, format_share, plural};

/// Spread of the ratios of blocks that a forecast assumes: a quiet machine, a shared one, a busy one.
const SPREADS: [f64; 3] = [0.05, 0.1, 0.2];

/// What a sweep will need, as far as it can be told before.
pub(in crate::cmd) fn forecast(sweep: &Sweep) -> Vec<String> {
    let cells = sweep.cells();
    let among = Comparisons::of(&cells, sweep.baseline).count();
    let Some(precision) = sweep.precision else {
        return warning(sweep, false).into_iter().collect();
    };
    let fewest = fewest_blocks(among);
    let until = format!(
        "blocks until each ratio is within ± {}: at least {fewest}, for at most {}",
        format_share(precision.half_width),
        format_ns(precision.budget_ns as f64)
    );
    if among == 0 {
        return vec![format!("{until}; nothing is compared, so {fewest} are enough")];
    }
    let expected = SPREADS.map(|spread| {
        let blocks = blocks_expected(spread, precision.half_width).max(fewest);
        format!("{} where they scatter by {}", format_count(blocks.into()), format_share(spread))
    });
    vec![until, format!("expect {}", expected.join(", "))]
}

/// Fewest blocks of a sweep that ends by precision, if its budget allows them.
pub(in crate::cmd) fn least(sweep: &Sweep) -> u32 {
    let among = Comparisons::of(&sweep.cells(), sweep.baseline).count();
    fewest_blocks(among).min(sweep.trials)
}

/// Trials of each cell that it takes to confirm a difference; `None` where nothing is compared.
pub(in crate::cmd) fn trials_needed(sweep: &Sweep) -> Option<u32> {
    let among = Comparisons::of(&sweep.cells(), sweep.baseline).count();
    (among > 0).then(|| pairs_needed(among).max(MIN_FOR_INTERVAL as u32))
}

/// Why a fixed number of blocks cannot settle the comparisons of a sweep, if so; `flags` where no config
/// says how many there are.
pub(in crate::cmd) fn warning(sweep: &Sweep, flags: bool) -> Option<String> {
    let among = Comparisons::of(&sweep.cells(), sweep.baseline).count();
    let needed = trials_needed(sweep)?;
    // Whoever asks for one trial does not ask for a comparison.
    let way = match flags {
        true => format!("--precision {} runs", default_of("sweep.precision")),
        false => "Leave out sweep.trials to run".into(),
    };
    let few = sweep.precision.is_none() && sweep.search.is_none() && sweep.trials < needed;
    (few && sweep.trials > 1).then(|| {
        format!(
            "{} trials are too few to confirm a difference in {}, which takes {needed}; if trials \
             scatter by 10 %, intervals will be about ± {}. {way} as many as are needed",
            sweep.trials,
            plural(among as u64, "comparison"),
            format_share(half_width_expected(0.1, sweep.trials))
        )
    })
}

/// Ratios that are named where they are still too wide.
const MOST_WIDE: usize = 4;

pub(super) struct Blocks<'s> {
    sweep: &'s Sweep,
    comparisons: Comparisons<'s>,
    begun: Instant,
    last: Option<Instant>,
    longest: Duration,
    blocks: u32,
    ended: Option<BlocksEnd>,
}

/// Why no further block is run although ratios are too wide.
#[derive(Clone, Copy)]
enum BlocksEnd {
    Budget,
    Most,
}

impl<'s> Blocks<'s> {
    pub(super) fn new(sweep: &'s Sweep, cells: &'s [Cell]) -> Blocks<'s> {
        Blocks {
            sweep,
            comparisons: Comparisons::of(cells, sweep.baseline),
            begun: Instant::now(),
            last: None,
            longest: Duration::ZERO,
            blocks: 0,
            ended: Some(BlocksEnd::Most),
        }
    }

    fn fewest(&self) -> u32 {
        match self.sweep.precision {
            Some(_) => fewest_blocks(self.comparisons.count()).min(self.sweep.trials),
            None => self.sweep.trials,
        }
    }

    /// How many trials of an order are sure to be run, unless the budget ends.
    pub(super) fn least(&self, order: &[Trial]) -> usize {
        order.iter().filter(|t| t.block < self.fewest()).count()
    }

    /// Those of a block's trials that [`Blocks::least`] did not count.
    pub(super) fn beyond(&self, block: &[Trial]) -> usize {
        block.iter().filter(|t| t.block >= self.fewest()).count()
    }

    /// The trials of a block that are to be run; `None` where no further block is needed, or
    /// allowed.
    ///
    /// What is decided rests on the blocks before alone, so that a sweep that is resumed within a
    /// block decides the same.
    pub(super) fn next(&mut self, block: &[Trial], records: &[TrialRecord]) -> Option<Vec<Trial>> {
        let Some(precision) = self.sweep.precision else { return Some(block.to_vec()) };
        let number = block.first()?.block;
        let before = records.iter().filter(|r| r.block < number);
        let (open, _) = self.comparisons.open(before, precision.half_width);
        if open.is_empty() {
            self.ended = None;
            return None;
        }
        let block: Vec<Trial> = block.iter().copied().filter(|t| open.contains(&t.cell)).collect();
        if block.is_empty() {
            return Some(block);
        }
        let now = Instant::now();
        if let Some(last) = self.last.replace(now) {
            self.longest = self.longest.max(now - last);
            if now - self.begun + self.longest > Duration::from_nanos(precision.budget_ns) {
                self.ended = Some(BlocksEnd::Budget);
                return None;
            }
        }
        self.blocks += 1;
        Some(block)
    }

    /// Says which ratios are still too wide, and why it ended all the same.
    pub(super) fn report(&self, records: &[TrialRecord]) {
        let (Some(precision), Some(ended)) = (self.sweep.precision, self.ended) else { return };
        let (open, wide) = self.comparisons.open(records.iter(), precision.half_width);
        if open.is_empty() {
            return;
        }
        let why = match ended {
            BlocksEnd::Budget => format!("the budget of {}", format_ns(precision.budget_ns as f64)),
            BlocksEnd::Most => format!("sweep.max_blocks = {}", self.sweep.trials),
        };
        let told: Vec<String> = wide
            .iter()
            .map(|w| match w.half_width {
                Some(half) if half > precision.half_width => {
                    format!("{}: {} ± {}", w.cell, w.measure, format_share(half))
                }
                _ => format!("{}: {} from too few valid trials", w.cell, w.measure),
            })
            .collect();
        let wide = match told.len() {
            0 => "the fewest blocks were not reached".into(),
            _ if wide.iter().all(|w| w.half_width.is_none()) => format!(
                "wider than ± {}: intervals need {MIN_FOR_INTERVAL} blocks",
                format_share(precision.half_width)
            ),
            n => {
                let more = match n.saturating_sub(MOST_WIDE) {
                    0 => String::new(),
                    more => format!(" and {more} more"),
                };
                let told = told[..n.min(MOST_WIDE)].join("; ");
                format!("wider than ± {}: {told}{more}", format_share(precision.half_width))
            }
        };
        say!(
            "duel: ended by {why} after {}, all of them whole; {wide}; --resume goes on",
            plural(self.blocks.into(), "block")
        );
    }
}
