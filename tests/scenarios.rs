//! A seeded slice of `scripts/scenarios.py`: random mixes of faults, and every ledger balances.
//!
//! Without python3 the test says so and passes; `DUEL_REQUIRE_REAL=1` has it fail.

use crate::common;

use std::process::Command;

use common::{DUEL, output, text};

#[test]
fn the_ledgers_of_thirty_random_fault_scenarios_balance() {
    if Command::new("python3").arg("--version").output().is_err() {
        assert!(std::env::var_os("DUEL_REQUIRE_REAL").is_none(), "python3 is not installed");
        println!("skipped: python3 is not installed");
        return;
    }
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/scenarios.py");
    let out = output(Command::new("python3").args([
        script,
        "--scenarios",
        "30",
        "--seed",
        "7",
        "--duel",
        DUEL,
    ]));
    let (stdout, stderr) = text(&out);
    assert!(stdout.contains("30 of 30 scenarios balance: 30 trials"), "{stdout}{stderr}");
    assert!(out.status.success(), "{stdout}{stderr}");
}
