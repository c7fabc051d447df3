//! Which CPUs the workers of a trial run on, and which the embedded target.
//!
//! By default the workers take the first CPUs that the process may use and the target the rest, so
//! that the target's cost never lands on the workers' CPUs. Where nothing is left for the target
//! the two share a CPU, and the placement says so.

use std::fs;

use serde::{Deserialize, Serialize};

use anyhow::anyhow;

use crate::plan::server::ServerPlan;
use crate::plan::sweep::{Machine, Sweep};
use crate::side::quota::CpuQuota;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    pub worker: Vec<u32>,
    /// CPUs of the embedded target; empty when the target is external.
    pub target: Vec<u32>,
    /// Whether some CPU is in both; the record's flag `shared_cpu`.
    pub shared: bool,
}

impl Placement {
    /// How many CPUs each process of a server has, once what it calls has its own.
    pub(crate) fn server_cpus(&self, sweep: &Sweep, server: &ServerPlan) -> u64 {
        let mut left = self.clone();
        if server.setting.upstream.is_some() {
            left.beside(&sweep.machine);
        }
        left.target.len().max(1) as u64
    }

    /// CPUs for what a server under test calls: one of the server's where that has several that
    /// nobody chose, or else the client's, whose costs are not in question.
    pub(crate) fn beside(&mut self, machine: &Machine) -> Vec<u32> {
        match self.target.pop_if(|_| machine.target_cpus.is_none()) {
            Some(last) if !self.target.is_empty() && !self.shared => vec![last],
            last => {
                self.target.extend(last);
                self.worker.clone()
            }
        }
    }
}

/// Reads the CPUs that this process may run on, in ascending order.
///
/// # Errors
/// The kernel refuses, as it does on machines with more than 1,024 CPUs.
pub fn allowed() -> anyhow::Result<Vec<u32>> {
    let set = rustix::thread::sched_getaffinity(None)
        .map_err(|e| anyhow!("cannot read the CPUs this process may use: {e}"))?;
    let max = rustix::thread::CpuSet::MAX_CPU;
    Ok((0..max).filter(|cpu| set.is_set(*cpu)).map(|cpu| cpu as u32).collect())
}

/// What the workers leave CPUs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Beside {
    Embedded,
    /// A program of the user's, and the CPUs that it keeps to, where those are known and not all.
    External(Option<Vec<u32>>),
    /// Nothing: the target is on another machine.
    Elsewhere,
}

/// Divides the allowed CPUs; `want_worker` is the cell's `cpus`.
///
/// A quota counts as that many whole CPUs: more of them at once would use it up sooner and then be
/// stopped together. CPUs by hand are taken as they are.
///
/// Hardware threads of a worker's core are kept from the target while it has another CPU, since
/// they share the core's execution units.
pub fn split(
    allowed: &[u32],
    quota: Option<&CpuQuota>,
    want_worker: u32,
    machine: &Machine,
    target: Beside,
) -> anyhow::Result<Placement> {
    let by_hand = machine.worker_cpus.is_some() || machine.target_cpus.is_some();
    let most = quota.filter(|_| !by_hand && target == Beside::Embedded);
    let most = most.map_or(usize::MAX, |q| q.whole_cpus().max(want_worker) as usize);
    split_with(&allowed[..allowed.len().min(most)], want_worker, machine, target, siblings)
}

fn split_with(
    allowed: &[u32],
    want_worker: u32,
    machine: &Machine,
    target: Beside,
    siblings: impl Fn(u32) -> Vec<u32>,
) -> anyhow::Result<Placement> {
    let given_worker = given("worker_cpus", machine.worker_cpus.as_deref(), allowed)?;
    let given_target = match &target {
        Beside::Embedded => given("target_cpus", machine.target_cpus.as_deref(), allowed)?,
        Beside::External(own) => own.clone(),
        Beside::Elsewhere => None,
    };
    let want = want_worker as usize;
    let without = |of: &[u32], not: &[u32]| -> Vec<u32> {
        of.iter().copied().filter(|cpu| !not.contains(cpu)).collect()
    };

    let (pool, named) = match &given_worker {
        Some(cpus) => (cpus.clone(), "worker_cpus holds"),
        None => (allowed.to_vec(), "this process may use"),
    };
    if want == 0 || want > pool.len() {
        return Err(anyhow!(
            "cpus = {want}, but {named} {} ({}): ask for 1 to {0} CPUs",
            pool.len(),
            list(&pool)
        ));
    }
    // The target's own CPUs are left to it as long as the workers find enough others.
    let apart = without(&pool, given_target.as_deref().unwrap_or_default());
    let pool = if given_worker.is_none() && apart.len() >= want { apart } else { pool };
    let worker = pool[..want].to_vec();

    let of_target = match given_target {
        _ if target != Beside::Embedded => Vec::new(),
        Some(cpus) => cpus,
        None => {
            let rest = without(allowed, given_worker.as_deref().unwrap_or(&worker));
            let rest = if rest.is_empty() { without(allowed, &worker) } else { rest };
            let same_core: Vec<u32> = worker.iter().flat_map(|cpu| siblings(*cpu)).collect();
            let other_cores = without(&rest, &same_core);
            match (other_cores.is_empty(), rest.is_empty()) {
                (false, _) => other_cores,
                (true, false) => rest,
                (true, true) => allowed.last().copied().into_iter().collect(),
            }
        }
    };
    let all_taken = matches!(target, Beside::External(_)) && without(allowed, &worker).is_empty();
    let shared = all_taken || of_target.iter().any(|cpu| worker.contains(cpu));
    Ok(Placement { worker, target: of_target, shared })
}

fn given(key: &str, cpus: Option<&[u32]>, allowed: &[u32]) -> anyhow::Result<Option<Vec<u32>>> {
    let Some(cpus) = cpus else { return Ok(None) };
    if cpus.is_empty() {
        return Err(anyhow!("{key} is empty: name at least one of {}", list(allowed)));
    }
    for (i, cpu) in cpus.iter().enumerate() {
        if !allowed.contains(cpu) {
            return Err(anyhow!("{key} names CPU {cpu}; this process may use {}", list(allowed)));
        }
        if cpus[..i].contains(cpu) {
            return Err(anyhow!("{key} names CPU {cpu} twice"));
        }
    }
    Ok(Some(cpus.to_vec()))
}

/// Hardware threads of the CPU's core, itself included; empty where the kernel does not say.
fn siblings(cpu: u32) -> Vec<u32> {
    let path = format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
    fs::read_to_string(path).map(|text| parse_list(&text)).unwrap_or_default()
}

/// Reads the kernel's form of a list, `0-3,8`; what is not a number is left out.
pub(crate) fn parse_list(text: &str) -> Vec<u32> {
    text.trim()
        .split(',')
        .filter_map(|part| {
            let (low, high) = part.split_once('-').unwrap_or((part, part));
            Some(low.trim().parse::<u32>().ok()?..=high.trim().parse::<u32>().ok()?)
        })
        .flatten()
        .collect()
}

/// Prints CPU numbers in the kernel's form, `0-3,8`.
pub fn list(cpus: &[u32]) -> String {
    let mut sorted = cpus.to_vec();
    sorted.sort_unstable();
    let mut parts = Vec::new();
    for run in sorted.chunk_by(|a, b| a + 1 == *b) {
        match run {
            [one] => parts.push(one.to_string()),
            [first, .., last] => parts.push(format!("{first}-{last}")),
            [] => {}
        }
    }
    parts.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(worker: Option<&[u32]>, target: Option<&[u32]>) -> Machine {
        Machine {
            worker_cpus: worker.map(<[u32]>::to_vec),
            target_cpus: target.map(<[u32]>::to_vec),
        }
    }

    fn no_smt(cpu: u32) -> Vec<u32> {
        vec![cpu]
    }

    fn place(
        allowed: &[u32],
        want_worker: u32,
        machine: &Machine,
        embedded: bool,
        siblings: impl Fn(u32) -> Vec<u32>,
    ) -> Result<Placement, String> {
        let target = if embedded { Beside::Embedded } else { Beside::External(None) };
        split_with(allowed, want_worker, machine, target, siblings).map_err(|e| e.to_string())
    }

    fn placed(worker: &[u32], target: &[u32], shared: bool) -> Result<Placement, String> {
        Ok(Placement { worker: worker.to_vec(), target: target.to_vec(), shared })
    }

    #[test]
    fn workers_take_the_first_cpus_and_the_target_the_rest() {
        let auto = machine(None, None);
        let split = |allowed: &[u32], n| place(allowed, n, &auto, true, no_smt);
        assert_eq!(split(&[0, 1], 1), placed(&[0], &[1], false));
        assert_eq!(split(&[2, 5, 7, 8], 2), placed(&[2, 5], &[7, 8], false));
        assert_eq!(split(&[0, 1], 2), placed(&[0, 1], &[1], true), "nothing left: the last one");
        assert_eq!(split(&[3], 1), placed(&[3], &[3], true));
    }

    #[test]
    fn an_external_target_takes_no_cpu() {
        let given = machine(None, Some(&[0]));
        assert_eq!(place(&[0, 1], 1, &given, false, no_smt), placed(&[0], &[], false));
        assert_eq!(place(&[0, 1], 2, &given, false, no_smt), placed(&[0, 1], &[], true));
        // One that keeps to a CPU has it for itself, while there is another for the workers.
        let beside = |own: &[u32], want| {
            let target = Beside::External(Some(own.to_vec()));
            split_with(&[0, 1], want, &machine(None, None), target, no_smt)
                .map(|p| p.worker)
                .unwrap()
        };
        assert_eq!(
            (beside(&[0], 1), beside(&[1], 1), beside(&[0], 2)),
            (vec![1], vec![0], vec![0, 1])
        );
    }

    #[test]
    fn a_quota_counts_as_whole_cpus() {
        let quota = |quota_us| CpuQuota { quota_us, period_us: 100_000, file: "/f".into() };
        let auto = machine(None, None);
        let split = |quota_us, want| {
            let quota = quota(quota_us);
            split(&[0, 1, 2, 3], Some(&quota), want, &auto, Beside::Embedded).unwrap()
        };
        assert_eq!(split(50_000, 1), Placement { worker: vec![0], target: vec![0], shared: true });
        let two = split(250_000, 1);
        assert_eq!((two.worker, two.shared), (vec![0], false), "{:?}", two.target);
        assert_eq!(two.target.len(), 1);
        assert_eq!(split(50_000, 2).worker, [0, 1], "what is asked for is given");
    }

    #[test]
    fn cpus_by_hand_are_kept_and_an_overlap_is_shared() {
        let allowed = [0, 1, 2, 3];
        let split = |n, m: &Machine| place(&allowed, n, m, true, no_smt);
        assert_eq!(split(1, &machine(Some(&[3, 2]), None)), placed(&[3], &[0, 1], false));
        assert_eq!(split(1, &machine(None, Some(&[0]))), placed(&[1], &[0], false));
        assert_eq!(split(4, &machine(None, Some(&[0]))), placed(&[0, 1, 2, 3], &[0], true));
        assert_eq!(
            split(2, &machine(Some(&[0, 1]), Some(&[1, 2]))),
            placed(&[0, 1], &[1, 2], true)
        );
        let all = machine(Some(&[0, 1, 2, 3]), None);
        assert_eq!(split(2, &all), placed(&[0, 1], &[2, 3], false), "unused worker CPUs serve");
    }

    #[test]
    fn a_core_is_not_split_while_the_target_has_another() {
        let auto = machine(None, None);
        let near = |cpu: u32| vec![cpu & !1, cpu | 1];
        let far = |cpu: u32| vec![cpu % 4, cpu % 4 + 4];
        let allowed = [0, 1, 2, 3, 4, 5, 6, 7];
        assert_eq!(place(&allowed, 1, &auto, true, near), placed(&[0], &[2, 3, 4, 5, 6, 7], false));
        assert_eq!(place(&allowed, 2, &auto, true, far), placed(&[0, 1], &[2, 3, 6, 7], false));
        assert_eq!(place(&[0, 1], 1, &auto, true, near), placed(&[0], &[1], false));
    }

    #[test]
    fn impossible_wishes_name_both_sides() {
        let auto = machine(None, None);
        let error = place(&[0, 1], 3, &auto, true, no_smt).unwrap_err();
        assert_eq!(error, "cpus = 3, but this process may use 2 (0-1): ask for 1 to 2 CPUs");
        let error = place(&[0, 1], 2, &machine(Some(&[1]), None), true, no_smt).unwrap_err();
        assert!(error.contains("cpus = 2") && error.contains("worker_cpus holds 1"), "{error}");
        assert!(place(&[0, 1], 0, &auto, true, no_smt).is_err());
        for (bad, says) in [(&[7][..], "CPU 7"), (&[0, 0], "twice"), (&[], "empty")] {
            let error = place(&[0, 1], 1, &machine(Some(bad), None), true, no_smt);
            assert!(error.as_ref().is_err_and(|e| e.contains(says)), "{bad:?}: {error:?}");
        }
    }

    #[test]
    fn lists_survive_the_round_trip() {
        for text in ["0", "0-3", "0-1,4,6-7"] {
            assert_eq!(list(&parse_list(text)), text);
        }
        assert_eq!(list(&[3, 1, 2]), "1-3");
        assert_eq!(parse_list("x,2"), [2]);
    }

    #[test]
    fn this_process_may_use_a_cpu() {
        assert!(!allowed().unwrap().is_empty());
    }
}
