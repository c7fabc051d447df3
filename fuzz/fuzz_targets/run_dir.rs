//! The reader of run directories on any bytes: everything readable or an error that names the file, no
//! panic; what it read balances.
//!
//! Run: `RUSTC_BOOTSTRAP=1 cargo fuzz run run_dir -- -max_total_time=600`

#![no_main]

use duel::results::store::RunDir;
use libfuzzer_sys::fuzz_target;

const PLAN: &[u8] = include_bytes!("../../tests/data/run-format-1/plan.json");

fuzz_target!(|data: &[u8]| {
    let dir = std::env::temp_dir().join(format!("duel-fuzz-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let (plan, trials) = match data.split_first() {
        Some((0, rest)) => (rest, &b""[..]),
        Some((_, rest)) => (PLAN, rest),
        None => (PLAN, &b""[..]),
    };
    std::fs::write(dir.join("plan.json"), plan).unwrap();
    std::fs::write(dir.join("trials.jsonl"), trials).unwrap();
    match RunDir::salvage(&dir) {
        Ok((run, _)) => assert!(run.records.iter().all(|r| r.ledger.balances())),
        Err(error) => assert!(error.to_string().contains("duel-fuzz"), "{error}"),
    }
});
