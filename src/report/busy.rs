//! How busy the machine was, said once for a whole run: who used the CPU, and which quota stopped it.

use std::collections::BTreeMap;

use crate::format::gates::GateKind;
use crate::format::{ForeignProcess, Gate, TrialRecord};
use crate::stats::median;
use crate::units::format_share;

/// Noise that [`remarks`] tells, which no row needs to tell again.
pub(super) const TOLD: [GateKind; 4] =
    [GateKind::ForeignCpu, GateKind::Steal, GateKind::Throttled, GateKind::TargetThrottled];

/// A sentence for each kind of noise that there was, with what it does and the way out.
pub(super) fn remarks(records: &[TrialRecord]) -> Vec<String> {
    // A memory trial's bytes do not depend on it. What made a trial invalid is told as well: noise
    // may be why.
    let measured = |r: &&TrialRecord| !r.gates.is_empty() && !r.cell.is_memory();
    let trials: Vec<&TrialRecord> = records.iter().filter(measured).collect();
    let noise = |gate: GateKind| noise(gate, &trials);
    let mut out = Vec::new();
    if let Some((share, of_trials)) = noise(GateKind::ForeignCpu) {
        let (names, server) = processes(&trials);
        out.push(format!(
            "The machine was busy: other programs used {share} of the load generator's CPU in \
             {of_trials}{names}. Ratios hold, with wider intervals; times and CPU per request are those \
             of a busy machine."
        ));
        out.extend(server);
    }
    if let Some((share, of_trials)) = noise(GateKind::Steal) {
        out.push(format!(
            "The hypervisor took {share} of the CPU time away in {of_trials}; ratios hold, with wider \
             intervals."
        ));
    }
    for (gate, whom) in [(GateKind::Throttled, "duel"), (GateKind::TargetThrottled, "the server")] {
        out.extend(noise(gate).map(|(share, of_trials)| {
            format!(
                "A CPU quota stopped {whom} for {share} of the time in {of_trials}: requests that were \
                 under way meanwhile look slow. Raise the quota (`duel limits` names it), or ask for \
                 less load."
            )
        }));
    }
    out
}

/// The median share over the trials in which a gate failed, and which those are.
fn noise(kind: GateKind, trials: &[&TrialRecord]) -> Option<(String, String)> {
    let is = |g: &&Gate| g.is(kind) && g.failed();
    let failed = |t: &&TrialRecord| t.gates.iter().find(is).and_then(|g| g.value);
    let seen: Vec<f64> = trials.iter().filter_map(failed).collect();
    let share = format_share((median(&seen)? * 100.0).round() / 100.0);
    Some((share, format!("{} of {} trials", seen.len(), trials.len())))
}

/// The programs that used most CPU, in brackets, and how to move the server away if it is one.
fn processes(trials: &[&TrialRecord]) -> (String, Option<String>) {
    let noisy: Vec<&Vec<ForeignProcess>> =
        trials.iter().map(|t| &t.foreign).filter(|f| !f.is_empty()).collect();
    let mut by_name: BTreeMap<&str, f64> = BTreeMap::new();
    let mut servers: BTreeMap<u32, &ForeignProcess> = BTreeMap::new();
    for process in noisy.iter().copied().flatten() {
        *by_name.entry(&process.name).or_insert(0.0) += process.cpus / noisy.len() as f64;
        if process.serves {
            servers.insert(process.pid, process);
        }
    }
    let mut busiest: Vec<(&str, f64)> = by_name.into_iter().collect();
    busiest.sort_by(|a, b| b.1.total_cmp(&a.1));
    let names: Vec<String> =
        busiest.iter().take(3).map(|(name, cpus)| format!("{name} {cpus:.2}")).collect();
    let names = match names.is_empty() {
        true => String::new(),
        false => format!(" (in CPUs: {})", names.join(", ")),
    };
    let server = servers.values().next().map(|server| {
        let commands = servers.values().filter_map(|s| Some((s.pin_to.as_ref()?, s.pid)));
        let commands: Vec<String> =
            commands.map(|(cpus, pid)| format!("`taskset -acp {cpus} {pid}`")).collect();
        let way = match commands.is_empty() {
            true => "this machine has no CPU to spare for it".into(),
            false => format!("move it to a CPU of its own: {}", commands.join(" ")),
        };
        let name = &server.name;
        format!("{name} is the server under test and shares the load generator's CPU; {way}.")
    });
    (names, server)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::Status;
    use crate::plan::{Cell, Engine};

    fn noisy(block: u32, gate: GateKind, foreign: Vec<ForeignProcess>) -> TrialRecord {
        let cell = Cell::plain(Engine::Threads, 4);
        TrialRecord {
            status: Status::Ok,
            gates: vec![Gate::new(gate, Some((false, 0.42, 0.1)))],
            foreign,
            ..TrialRecord::blank("p".into(), "b".into(), block, block, cell)
        }
    }

    fn process(name: &str, pid: u32, cpus: f64, serves: bool) -> ForeignProcess {
        let pin_to = serves.then(|| "1".into());
        ForeignProcess { name: name.into(), pid, cpus, serves, pin_to }
    }

    #[test]
    fn who_used_the_cpu_is_named_and_a_server_can_be_moved() {
        let busy = || vec![process("rustc", 7, 0.6, false), process("nginx", 9, 0.2, true)];
        let trials = [noisy(0, TOLD[0], busy()), noisy(1, TOLD[0], busy())];
        let [said, server] = &remarks(&trials)[..] else { panic!("{:?}", remarks(&trials)) };
        assert!(said.contains("42 % of the load generator's CPU in 2 of 2 trials"), "{said}");
        assert!(said.contains("(in CPUs: rustc 0.60, nginx 0.20)"), "{said}");
        assert!(server.contains("nginx is the server under test"), "{server}");
        assert!(server.contains("`taskset -acp 1 9`"), "{server}");
        let [said] = &remarks(&[noisy(0, TOLD[0], vec![])])[..] else { panic!("one sentence") };
        assert!(!said.contains('('), "nobody can be named: {said}");
    }

    #[test]
    fn noise_of_a_trial_that_it_made_invalid_is_told() {
        let mut trial = noisy(0, TOLD[2], vec![]);
        trial.gates.push(Gate::new(GateKind::LittlesLaw, Some((false, 0.8, 0.2))));
        trial.status = Status::Invalid;
        let [said] = &remarks(&[trial])[..] else { panic!("one sentence") };
        assert!(said.contains("A CPU quota stopped duel for 42 % of the time"), "{said}");
    }

    #[test]
    fn each_kind_of_noise_is_told_and_quiet_runs_say_nothing() {
        for gate in TOLD {
            assert_eq!(remarks(&[noisy(0, gate, vec![])]).len(), 1, "{gate:?}");
        }
        assert!(remarks(&[noisy(0, GateKind::Late, vec![])]).is_empty(), "its row says so");
    }
}
