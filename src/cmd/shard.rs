//! Which part of the plan runs here and when it starts: from flags, else from the scheduler.

use anyhow::{anyhow, bail};

use crate::cli::RunArgs;
use crate::fleet::clock::{parse_instant, unix_now_ns};
use crate::fleet::{Meeting, scheduler};
use crate::plan::shard::Shard;
use crate::plan::sweep::{Sweep, Target};
use crate::plan::{Arrivals, Extent};
use crate::stats::precision::FEWEST_BLOCKS;
use crate::units::{SECOND_NS, format_ns};

/// Beside warm-up, window and timeout, what a trial may take by default under `--start-at`.
pub(super) const SLOT_SPARE_NS: u64 = 5 * SECOND_NS;
/// A start further back than this is a mistake, not lateness.
const OLDEST_START_NS: u64 = 3_600 * SECOND_NS;

#[derive(Debug, Clone, Default)]
pub(super) struct ShardPart {
    pub(super) shard: Option<Shard>,
    /// The first start and the time from one trial's start to the next, in nanoseconds.
    pub(super) slots: Option<(u64, u64)>,
    pub(super) meeting: Option<Meeting>,
}

/// Reads flags and environment, and refuses what cannot be divided.
pub(super) fn part(args: &RunArgs, sweep: &mut Sweep) -> anyhow::Result<ShardPart> {
    let shard = scheduler::shard(args.shard.as_deref(), |name| std::env::var(name).ok())?;
    let divided = shard.is_some_and(|s| s.count > 1);
    if sweep.search.is_some() && (divided || args.rendezvous.is_some() || args.start_at.is_some()) {
        bail!(
            "a [search] decides each trial by the ones before, which shards and fixed starts do not \
             share: run it on one machine, or give sweep.rates"
        );
    }
    let meeting = match (&args.rendezvous, shard) {
        (None, _) => None,
        (Some(_), None) => bail!("--rendezvous is for shards: give --shard k/n"),
        (Some(dir), Some(_)) => Some(Meeting {
            dir: std::path::absolute(dir)
                .map_err(|e| anyhow!("--rendezvous {}: {e}", dir.display()))?,
            wait_ns: args.rendezvous_wait,
            lead_ns: args.start_lead,
        }),
    };
    let slots = match &args.start_at {
        None => None,
        Some(text) => {
            let first = parse_instant(text)?;
            let ago = unix_now_ns().saturating_sub(first);
            if ago > OLDEST_START_NS {
                bail!("--start-at: {text} is {} ago", format_ns(ago as f64));
            }
            Some((first, args.start_every.map_or_else(|| slot_ns(sweep), Ok)?))
        }
    };
    let part = ShardPart { shard, slots, meeting };
    if let Some(shard) = shard.filter(|s| s.count > 1) {
        divisible(args, sweep, shard, part.meeting.is_some())?;
        // One shard alone cannot decide to run a trial again.
        sweep.noise_repeats = 0;
    }
    // Nor whether another block is needed.
    let apart = part.slots.is_some() || shard.is_some_and(|s| s.count > 1);
    if apart && sweep.precision.take().is_some() {
        sweep.trials = FEWEST_BLOCKS;
        say!("duel: shards run {FEWEST_BLOCKS} blocks where sweep.trials says nothing else");
    }
    Ok(part)
}

/// Refuses what n shards cannot send as one would.
fn divisible(args: &RunArgs, sweep: &Sweep, shard: Shard, meets: bool) -> anyhow::Result<()> {
    if args.resume {
        bail!(
            "--resume: shards stop at different trials, so that a sharded run cannot be resumed; run \
             it again into fresh directories"
        );
    }
    let by_duration = matches!(sweep.plan.extent, Extent::DurationNs(_));
    if by_duration && sweep.plan.arrivals == Arrivals::Closed && !args.force {
        bail!(
            "--shard {shard}: in a closed loop by duration the total load would depend on how fast each \
             shard is; give plan.requests, or offer a rate, or use --force"
        );
    }
    for cell in sweep.cells() {
        shard.cell(&cell).map_err(|e| anyhow!("--shard {shard}: {e}"))?;
    }
    let queue = sweep.targets().into_iter().find_map(|target| match target {
        Target::Embedded(target) => Some(target.servers).filter(|n| *n > 0 && !meets),
        Target::External { .. } => None,
    });
    if let Some(servers) = queue {
        bail!(
            "--shard {shard}: {servers} servers are one queue for all shards only with \
             --rendezvous DIR, or where [target] url names one target"
        );
    }
    Ok(())
}

/// From one trial's start to the next, where the plan bounds a trial.
fn slot_ns(sweep: &Sweep) -> anyhow::Result<u64> {
    let plan = &sweep.plan;
    let only = sweep.trials == 1 && sweep.cells().len() == 1;
    match sweep.window_ns() {
        Some(window) => Ok(plan.warmup_ns + window + plan.timeout_ns + SLOT_SPARE_NS),
        None if only => Ok(0),
        None => bail!(
            "--start-at: how long a trial of a closed loop by requests takes depends on the target: \
             give --start-every, or use --rendezvous"
        ),
    }
}
