//! Another load on the worker's CPU: trials are repeated where that is asked for, listed and marked.

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use duel::format::{Flag, Status};
use duel::plan::Engine;
use duel::report::summary::summarise;

use crate::harness::{alone, gate, read, run};

/// Runs `work` while a thread of this process keeps one CPU busy.
fn beside_a_busy_thread<T>(cpu: u32, work: impl FnOnce() -> T) -> T {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut set = rustix::thread::CpuSet::new();
            set.set(cpu as usize);
            rustix::thread::sched_setaffinity(None, &set).expect("an allowed CPU");
            while !over.load(Relaxed) {
                std::hint::spin_loop();
            }
        });
        let done = work();
        over.store(true, Relaxed);
        done
    })
}

#[test]
fn noisy_trials_are_repeated_within_bounds_and_marked() {
    let _alone = alone();
    let cpus = duel::driver::cpus::allowed().expect("CPUs");
    if cpus.len() < 2 {
        return;
    }
    let (worker, target) = (cpus[0], cpus[1]);
    let config = format!(
        "[target]\nservice_time = '5ms'\n[plan]\nduration = '200ms'\n\
         [sweep]\nengines = ['tokio', 'threads']\nlanes = [4]\ntrials = 3\nnoise_repeats = 2\n\
         [machine]\nworker_cpus = [{worker}]\ntarget_cpus = [{target}]"
    );
    let done = beside_a_busy_thread(worker, || run(&config));
    // Six trials may be repeated three times in all: both of block 0, then one of them again.
    assert_eq!(done.records.len(), 9, "{}", done.stderr);
    for record in &done.records {
        assert_eq!(gate(record, "foreign_cpu_share").ok, Some(false), "{}", done.stderr);
        assert!(record.flags.contains(&Flag::Noisy), "{:?}", record.flags);
    }
    let of_block = |block| done.records.iter().filter(|r| r.block == block).count();
    assert_eq!([0, 1, 2].map(of_block), [5, 2, 2], "repeats stand in the block of the first");
    assert!(done.stderr.contains("were not repeated"), "{}", done.stderr);
    let invalid = done.records.iter().any(|r| r.status == Status::Invalid);
    assert_eq!(done.code, Some(if invalid { 4 } else { 0 }), "noise alone has no exit code");
    let rows: Vec<_> = summarise(&done.records, Engine::Threads, duel::stats::MARGIN)
        .into_iter()
        .flat_map(|g| g.rows)
        .collect();
    let levels = |r: &duel::report::summary::Row| !r.ranked || r.noisy_levels;
    assert!(rows.iter().all(levels), "levels of a busy machine are not marked");
    assert!(done.stdout.contains("noisy"), "{}", done.stdout);

    let resumed = Command::new(env!("CARGO_BIN_EXE_duel"))
        .args(["run", "--resume"])
        .arg(done.dir.with_file_name("live.toml"))
        .arg("--out")
        .arg(&done.dir)
        .output()
        .expect("duel starts");
    assert_eq!(resumed.status.code(), done.code, "{}", String::from_utf8_lossy(&resumed.stderr));
    assert_eq!(read(&done.dir).len(), 9, "a block with a noisy row is done");
}
