//! The row of every engine that sends nothing, and the pair that says how large noise is.

use duel::format::{Flag, Ledger, Status};
use duel::plan::{Cell, Engine};

use crate::harness::{Attempt, alone, run, sweep, within_three};

const IDLE: &str = "[target]\nservice_time = '1ms'\n[plan]\nrequests = 200\n\
    [sweep]\nlanes = [1, 32]\nidle = true\ntrials = 1\nnoise_repeats = 0";

#[test]
fn every_engine_has_a_row_that_sends_nothing() {
    let config = format!("{IDLE}\n[slo]\np99 = '10s'");
    let done = run(&config);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let idle: Vec<_> = done.records.iter().filter(|r| r.cell.is_idle()).collect();
    // Sequential has one lane whatever is asked.
    assert_eq!(idle.len(), 2 * Engine::by_default().len() - 1, "{}", done.stderr);
    for record in idle {
        let id = &record.cell.id;
        assert!(id.ends_with("-idle") && record.cell.is_idle(), "{id}");
        assert_eq!(record.status, Status::Ok, "{id}: {:?}", record.gates);
        assert_eq!((record.ledger, record.warmup), (Ledger::default(), Ledger::default()), "{id}");
        assert_eq!(record.target.received, Some(0), "{id} sent something");
        assert_eq!(record.measured_ns, 1_000_000_000, "{id}: a plan by requests idles a second");
        let connects = record.connect_ns.as_ref().map_or(0, |d| d.count);
        assert_eq!(connects, u64::from(record.cell.total_lanes), "{id}: lanes are connected");
        assert!(record.memory.plateau_user_bytes.is_some(), "{id}: memory is read half-way");
        if record.cell.engine == Engine::Threads {
            assert!(record.threads_peak > record.cell.lanes.into(), "{id}: lanes are parked");
        }
        assert!(record.cpu.total_ns < record.measured_ns / 4, "{id} is busy: {:?}", record.cpu);
    }
    assert!(done.stdout.contains("armed, no request"), "{}", done.stdout);
    assert!(done.stdout.contains("per second"), "{}", done.stdout);
}

#[test]
fn rates_and_bodies_share_one_idle_row() {
    let sweep = sweep(
        "plan.arrivals = 'poisson'\n[sweep]\nengines = ['tokio']\nrates = [10, 20]\n\
         bodies = ['1KiB', '2KiB']\nidle = true",
    );
    let idle: Vec<_> = sweep.cells().into_iter().filter(Cell::is_idle).collect();
    assert_eq!(idle.len(), 1, "{idle:?}");
    assert_eq!(idle[0].id, "tokio-hyper-l64-p1-c1-idle");
    assert!(sweep.trial_plan(&idle[0]).idle);
}

/// The baseline twice: the table names the ratios that equal systems show.
#[test]
fn a_second_baseline_gives_the_noise_floor() {
    let _alone = alone();
    // On one CPU with the target, where the target's work is no stranger's, few trials are noisy.
    let cpu = duel::driver::cpus::allowed().expect("CPUs")[0];
    let config = format!(
        "[target]\nservice_time = '1ms'\n[plan]\nduration = '100ms'\n\
         [sweep]\nengines = ['threads', 'tokio']\nlanes = [8]\ntrials = 7\naa = true\n\
         [machine]\nworker_cpus = [{cpu}]\ntarget_cpus = [{cpu}]"
    );
    within_three("noise floor", || {
        let done = run(&config);
        let found = done.stdout.contains("threads (aa)")
            && done.stdout.contains("noise floor of CPU [")
            && done.stdout.contains("noise floor of memory [");
        let noisy = done.records.iter().any(|r| r.flags.contains(&Flag::Noisy));
        match (found, noisy) {
            (true, _) => Attempt::Held(done.stdout),
            (false, true) => Attempt::Disturbed(done.stdout + &done.stderr),
            (false, false) => Attempt::Failed(done.stdout + &done.stderr),
        }
    });
}
