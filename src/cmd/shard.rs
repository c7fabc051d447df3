//! Which part of the plan runs here and when it starts: from flags, else from the scheduler that
//! started this process.
//!
//! A scheduler that starts several tasks of one command says so in the environment. Without
//! `--shard` that is taken as it is: the same command on every node would otherwise send the whole
//! plan from each. `--shard 0/1` sends the whole plan all the same, `--shard auto` insists on a
//! scheduler.

use std::path::PathBuf;

use crate::cli::Run;
use crate::driver::rendezvous::Meeting;
use crate::driver::start::unix_now_ns;
use crate::plan::shard::Shard;
use crate::plan::sweep::{Sweep, Target};
use crate::plan::{Arrivals, Extent};
use crate::units::{SECOND_NS, format_ns, parse_duration_ns};

/// Number and count of tasks by scheduler, the innermost launcher first: `mpirun` inside a Slurm
/// job inherits Slurm's variables, which number its own daemons.
const SCHEDULERS: [(&str, &str, &str); 3] = [
    ("Open MPI", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("Slurm", "SLURM_PROCID", "SLURM_NTASKS"),
    // An indexed Job says k only; the manifest sets n, since a container cannot ask for it.
    ("Kubernetes", "JOB_COMPLETION_INDEX", "DUEL_SHARDS"),
];

/// Beside warm-up, window and timeout, what a trial may take by default under `--start-at`.
const SLOT_SPARE_NS: u64 = 5 * SECOND_NS;
/// A start further back than this is a mistake, not lateness.
const OLDEST_START_NS: u64 = 3_600 * SECOND_NS;

/// The part of a run that happens here.
#[derive(Debug, Clone, Default)]
pub(super) struct Part {
    /// `None` for the whole plan.
    pub(super) shard: Option<Shard>,
    /// The first start and the time from one trial's start to the next, in nanoseconds.
    pub(super) slots: Option<(u64, u64)>,
    /// Where shards meet.
    pub(super) meeting: Option<Meeting>,
}

/// Reads flags and environment, and refuses what cannot be divided.
pub(super) fn part(args: &Run, sweep: &mut Sweep) -> Result<Part, String> {
    let shard = shard(args.shard.as_deref(), |name| std::env::var(name).ok())?;
    let divided = shard.is_some_and(|s| s.count > 1);
    if sweep.search.is_some() && (divided || args.rendezvous.is_some() || args.start_at.is_some()) {
        return Err("a [search] decides each trial by the ones before, which shards and fixed \
                    starts do not share: run it on one machine, or give sweep.rates"
            .into());
    }
    let time = |flag: &str, text: &Option<String>, default: u64| match text {
        Some(text) => parse_duration_ns(text).map_err(|e| format!("{flag}: {e}")),
        None => Ok(default),
    };
    let meeting = match (&args.rendezvous, shard) {
        (None, _) => None,
        (Some(_), None) => return Err("--rendezvous is for shards: give --shard k/n".into()),
        (Some(dir), Some(_)) => Some(Meeting {
            dir: absolute(dir)?,
            wait_ns: time("--rendezvous-wait", &args.rendezvous_wait, 120 * SECOND_NS)?,
            lead_ns: time("--start-lead", &args.start_lead, SECOND_NS / 4)?,
        }),
    };
    let slots = match &args.start_at {
        None => None,
        Some(text) => {
            let first = parse_instant(text)?;
            let ago = unix_now_ns().saturating_sub(first);
            if ago > OLDEST_START_NS {
                return Err(format!("--start-at: {text} is {} ago", format_ns(ago as f64)));
            }
            let every = match &args.start_every {
                Some(_) => time("--start-every", &args.start_every, 0)?,
                None => slot_ns(sweep)?,
            };
            Some((first, every))
        }
    };
    let part = Part { shard, slots, meeting };
    if let Some(shard) = shard.filter(|s| s.count > 1) {
        divisible(args, sweep, shard, part.meeting.is_some())?;
        // One shard alone cannot decide to run a trial again.
        sweep.noise_repeats = 0;
    }
    Ok(part)
}

fn absolute(dir: &std::path::Path) -> Result<PathBuf, String> {
    std::path::absolute(dir).map_err(|e| format!("--rendezvous {}: {e}", dir.display()))
}

/// The shard by flag or environment.
fn shard(
    flag: Option<&str>,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Option<Shard>, String> {
    if let Some(text) = flag.filter(|text| *text != "auto") {
        return text.parse().map(Some).map_err(|e| format!("--shard: {e}"));
    }
    let asked = flag.is_some();
    for (scheduler, index_name, count_name) in SCHEDULERS {
        let (index, count) = match (variable(index_name), variable(count_name)) {
            (Some(index), Some(count)) => (index, count),
            (Some(_), None) if asked => {
                return Err(format!(
                    "--shard auto: {scheduler} set {index_name} but not {count_name}, the number \
                     of shards"
                ));
            }
            _ => continue,
        };
        // The script of a Slurm job is its task 0 of n as well, but runs once.
        let batch_script = scheduler == "Slurm"
            && variable("SLURM_JOB_ID").is_some()
            && variable("SLURM_STEP_ID").is_none();
        if batch_script && !asked {
            continue;
        }
        let shard: Shard = format!("{index}/{count}")
            .parse()
            .map_err(|e| format!("{index_name} and {count_name}: {e}"))?;
        if shard.count > 1 || asked {
            eprintln!("duel: shard {shard}, by {index_name} and {count_name} ({scheduler})");
            return Ok(Some(shard));
        }
    }
    if asked {
        let names: Vec<String> =
            SCHEDULERS.iter().map(|(s, k, n)| format!("{k} and {n} ({s})")).collect();
        return Err(format!(
            "--shard auto: no scheduler says which shard this is; looked for {}; or write k/n",
            names.join(", ")
        ));
    }
    Ok(None)
}

/// Refuses what n shards cannot send as one would.
fn divisible(args: &Run, sweep: &Sweep, shard: Shard, meets: bool) -> Result<(), String> {
    if args.resume {
        return Err("--resume: shards stop at different trials, so that a sharded run cannot be \
                    resumed; run it again into fresh directories"
            .into());
    }
    let by_duration = matches!(sweep.plan.extent, Extent::DurationNs(_));
    if by_duration && sweep.plan.arrivals == Arrivals::Closed && !args.force {
        return Err(format!(
            "--shard {shard}: a closed loop by duration sends as much as its lanes manage, which \
             shards do not share out; give plan.requests or an open loop, or --force"
        ));
    }
    for cell in sweep.cells() {
        shard.cell(&cell).map_err(|e| format!("--shard {shard}: {e}"))?;
    }
    match &sweep.target {
        Target::Embedded(target) if target.servers > 0 && !meets => Err(format!(
            "--shard {shard}: {} servers are one queue for all shards only with --rendezvous DIR, \
             or where [target] url names one target",
            target.servers
        )),
        _ => Ok(()),
    }
}

/// An absolute time: RFC 3339, or seconds since the Unix epoch with a fraction.
fn parse_instant(text: &str) -> Result<u64, String> {
    let error = || {
        format!(
            "--start-at: `{text}` is no time: write 2026-01-02T03:04:05Z (RFC 3339) or seconds \
             since 1970 such as 1767323045.5"
        )
    };
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit());
    if digits(whole) && digits(fraction) {
        let seconds: u64 = whole.parse().map_err(|_| error())?;
        // Nine digits are nanoseconds; a missing one is a zero.
        let nanos: u64 = format!("{fraction:0<9.9}").parse().map_err(|_| error())?;
        return seconds.checked_mul(SECOND_NS).and_then(|s| s.checked_add(nanos)).ok_or_else(error);
    }
    let at: jiff::Timestamp = text.parse().map_err(|_| error())?;
    u64::try_from(at.as_nanosecond()).map_err(|_| error())
}

/// From one trial's start to the next, where the plan bounds a trial.
fn slot_ns(sweep: &Sweep) -> Result<u64, String> {
    let plan = &sweep.plan;
    let window = match plan.extent {
        Extent::DurationNs(ns) => Some(ns),
        Extent::Requests(n) => {
            let slowest = sweep.axes.rates_per_s.iter().copied().reduce(f64::min);
            slowest.map(|rate| (n as f64 / rate * SECOND_NS as f64) as u64)
        }
    };
    let only = sweep.trials == 1 && sweep.cells().len() == 1;
    match window {
        Some(window) => Ok(plan.warmup_ns + window + plan.timeout_ns + SLOT_SPARE_NS),
        None if only => Ok(0),
        None => Err("--start-at: how long a trial of a closed loop by requests takes depends on \
                     the target: give --start-every, or use --rendezvous"
            .into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by(set: &[(&str, &str)], flag: Option<&str>) -> Result<Option<Shard>, String> {
        let find =
            |name: &str| set.iter().find(|(n, _)| *n == name).map(|(_, value)| value.to_string());
        shard(flag, find)
    }

    #[test]
    fn the_scheduler_says_which_shard_unless_a_flag_does() {
        let of = |index, count| Ok(Some(Shard { index, count }));
        let slurm = [("SLURM_PROCID", "1"), ("SLURM_NTASKS", "4")];
        assert_eq!(by(&slurm, None), of(1, 4));
        assert_eq!(by(&slurm, Some("auto")), of(1, 4));
        assert_eq!(by(&slurm, Some("0/1")), of(0, 1), "a flag wins");
        let mpi = [&slurm[..], &[("OMPI_COMM_WORLD_RANK", "2"), ("OMPI_COMM_WORLD_SIZE", "3")]];
        assert_eq!(by(&mpi.concat(), None), of(2, 3), "the innermost launcher wins");
        let pod = [("JOB_COMPLETION_INDEX", "0"), ("DUEL_SHARDS", "2")];
        assert_eq!(by(&pod, None), of(0, 2));
        assert_eq!(by(&pod[..1], None), Ok(None), "an indexed Job of something else");
        assert!(by(&pod[..1], Some("auto")).unwrap_err().contains("DUEL_SHARDS"));
        assert!(by(&[], Some("auto")).unwrap_err().contains("SLURM_PROCID"));
        assert_eq!(by(&[], None), Ok(None));
        let one = [("SLURM_PROCID", "0"), ("SLURM_NTASKS", "1")];
        assert_eq!(by(&one, None), Ok(None), "one task of one is the whole plan");
        let batch = [&slurm[..], &[("SLURM_JOB_ID", "7")]].concat();
        assert_eq!(by(&batch, None), Ok(None), "a job's script runs once");
        let broken = [("SLURM_PROCID", "4"), ("SLURM_NTASKS", "4")];
        assert!(by(&broken, None).unwrap_err().contains("SLURM_PROCID and SLURM_NTASKS"));
    }

    #[test]
    fn a_start_is_rfc_3339_or_unix_seconds() {
        let second = 1_767_323_045 * SECOND_NS;
        assert_eq!(parse_instant("2026-01-02T03:04:05Z"), Ok(second));
        assert_eq!(parse_instant("2026-01-02T04:04:05.5+01:00"), Ok(second + SECOND_NS / 2));
        assert_eq!(parse_instant("1767323045"), Ok(second));
        assert_eq!(parse_instant("1767323045.25"), Ok(second + SECOND_NS / 4));
        for bad in ["", "soon", "-5", "1.2.3", "1767323045.", "2026-01-02", "99999999999999"] {
            assert!(parse_instant(bad).unwrap_err().contains("RFC 3339"), "{bad}");
        }
    }
}
