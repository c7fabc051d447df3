//! Which shard this process is, as the scheduler that started it says in the environment.
//!
//! A scheduler that starts several tasks of one command numbers them. Without `--shard` that is
//! taken as it is: the same command on every node would otherwise send the whole plan from each.
//! `--shard 0/1` sends the whole plan all the same, `--shard auto` insists on a scheduler.

use anyhow::{Context, bail};

use crate::plan::shard::Shard;

/// How a scheduler numbers its tasks in the environment.
struct Scheduler {
    name: &'static str,
    index: &'static str,
    count: &'static str,
    /// A variable that a job's script has as well, which runs once though it is task 0 of n, and one
    /// that its tasks alone have.
    job_and_task: Option<[&'static str; 2]>,
}

/// The innermost launcher first: `mpirun` inside a Slurm job inherits Slurm's variables, which number
/// its own daemons.
const SCHEDULERS: [Scheduler; 3] = [
    Scheduler {
        name: "Open MPI",
        index: "OMPI_COMM_WORLD_RANK",
        count: "OMPI_COMM_WORLD_SIZE",
        job_and_task: None,
    },
    Scheduler {
        name: "Slurm",
        index: "SLURM_PROCID",
        count: "SLURM_NTASKS",
        job_and_task: Some(["SLURM_JOB_ID", "SLURM_STEP_ID"]),
    },
    // An indexed Job says k only; the manifest sets n, since a container cannot ask for it.
    Scheduler {
        name: "Kubernetes",
        index: "JOB_COMPLETION_INDEX",
        count: "DUEL_SHARDS",
        job_and_task: None,
    },
];

pub(crate) fn shard(
    flag: Option<&str>,
    variable: impl Fn(&str) -> Option<String>,
) -> anyhow::Result<Option<Shard>> {
    if let Some(text) = flag.filter(|text| *text != "auto") {
        return text.parse().map(Some).context("--shard");
    }
    let asked = flag.is_some();
    for Scheduler { name, index, count, job_and_task } in SCHEDULERS {
        let (k, n) = match (variable(index), variable(count)) {
            (Some(k), Some(n)) => (k, n),
            (Some(_), None) if asked => {
                bail!("--shard auto: {name} set {index} but not {count}, the number of shards")
            }
            _ => continue,
        };
        let is_script = job_and_task
            .is_some_and(|[job, task]| variable(job).is_some() && variable(task).is_none());
        if is_script && !asked {
            continue;
        }
        let shard: Shard =
            format!("{k}/{n}").parse().with_context(|| format!("{index} and {count}"))?;
        if shard.count > 1 || asked {
            say!("duel: shard {shard}, by {index} and {count} ({name})");
            return Ok(Some(shard));
        }
    }
    if asked {
        let names = SCHEDULERS.map(|s| format!("{} and {} ({})", s.index, s.count, s.name));
        bail!(
            "--shard auto: no scheduler says which shard this is; looked for {}; or write k/n",
            names.join(", ")
        );
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by(set: &[(&str, &str)], flag: Option<&str>) -> Result<Option<Shard>, String> {
        let find =
            |name: &str| set.iter().find(|(n, _)| *n == name).map(|(_, value)| value.to_string());
        shard(flag, find).map_err(|e| format!("{e:#}"))
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
}
