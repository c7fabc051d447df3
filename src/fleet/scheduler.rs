//! Which shard this process is, as the scheduler that started it says in the environment.
//!
//! A scheduler that starts several tasks of one command numbers them. Without `--shard` that is
//! taken as it is: the same command on every node would otherwise send the whole plan from each.
//! `--shard 0/1` sends the whole plan all the same, `--shard auto` insists on a scheduler.

use crate::plan::shard::Shard;

/// Number and count of tasks by scheduler, the innermost launcher first: `mpirun` inside a Slurm
/// job inherits Slurm's variables, which number its own daemons.
const SCHEDULERS: [(&str, &str, &str); 3] = [
    ("Open MPI", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("Slurm", "SLURM_PROCID", "SLURM_NTASKS"),
    // An indexed Job says k only; the manifest sets n, since a container cannot ask for it.
    ("Kubernetes", "JOB_COMPLETION_INDEX", "DUEL_SHARDS"),
];

pub(crate) fn shard(
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
            say!("duel: shard {shard}, by {index_name} and {count_name} ({scheduler})");
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
}
