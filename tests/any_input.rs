//! Any input: no panic, one clear answer. The same properties as the fuzz targets in `fuzz/`, on the
//! inputs that proptest draws, which are mutations of real ones as well as noise.

use std::path::Path;

use duel::config::parse;
use duel::plan::schedule::Schedule;
use duel::plan::{Arrivals, Extent, TrialPlan};
use duel::protocol::Frame;
use duel::results::store::RunDir;
use proptest::prelude::*;

const CONFIG: &str = include_str!("data/every_key.toml");
const FRAMES: &str = include_str!("data/frames.jsonl");
const PLAN: &[u8] = include_bytes!("data/run-format-1/plan.json");
const TRIALS: &[u8] = include_bytes!("data/run-format-1/trials.jsonl");

/// Real bytes with some of them replaced, cut off, or doubled.
fn mutated(bytes: &'static [u8]) -> impl Strategy<Value = Vec<u8>> {
    let edit = (any::<prop::sample::Index>(), any::<u8>(), 0..4u8);
    (prop::collection::vec(edit, 0..6), any::<prop::sample::Index>(), any::<bool>()).prop_map(
        move |(edits, cut, whole)| {
            let mut all = bytes.to_vec();
            for (at, byte, kind) in edits {
                if all.is_empty() {
                    break;
                }
                let at = at.index(all.len());
                match kind {
                    0 => all[at] = byte,
                    1 => all.insert(at, byte),
                    2 => drop(all.remove(at)),
                    _ => {
                        let tail = all[at..].iter().copied().take(40).collect::<Vec<u8>>();
                        all.splice(at..at, tail);
                    }
                }
            }
            if !whole {
                all.truncate(cut.index(bytes.len()));
            }
            all
        },
    )
}

fn check_config(text: &str, overrides: &[String]) -> Result<(), TestCaseError> {
    match parse(text, "x.toml", overrides, Path::new("/nonexistent")) {
        Ok(sweep) => prop_assert_eq!(sweep.plan_hash().len(), 64),
        Err(error) => {
            for line in error.to_string().lines() {
                let named =
                    ["x.toml", "--set ", "command line"].iter().any(|n| line.starts_with(n));
                prop_assert!(named, "a line names no place: {}", error);
            }
        }
    }
    Ok(())
}

fn check_run_dir(plan: &[u8], trials: &[u8]) -> Result<(), TestCaseError> {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("plan.json"), plan).unwrap();
    std::fs::write(dir.path().join("trials.jsonl"), trials).unwrap();
    match RunDir::salvage(dir.path()) {
        Ok((run, damage)) => {
            prop_assert!(run.records.iter().all(|r| r.ledger.balances()));
            for error in damage {
                prop_assert!(error.to_string().contains("trials.jsonl:"), "{}", error);
            }
        }
        Err(error) => {
            let place = dir.path().display().to_string();
            prop_assert!(error.to_string().starts_with(&place), "{}", error);
        }
    }
    Ok(())
}

/// A few hundred cases in the suite; `PROPTEST_CASES=200000` draws for minutes.
fn cases() -> ProptestConfig {
    let wanted = std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok());
    ProptestConfig { cases: wanted.unwrap_or(200), ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn a_config_is_a_sweep_or_a_line_for_each_fault(text in mutated(CONFIG.as_bytes()), noise in ".{0,40}") {
        check_config(&String::from_utf8_lossy(&text), &[])?;
        check_config(&noise, &[])?;
        check_config("", &[noise])?;
    }

    #[test]
    fn a_frame_is_read_back_or_refused(line in mutated(FRAMES.as_bytes()), noise: Vec<u8>) {
        for bytes in [&line, &noise] {
            for line in bytes.split_inclusive(|b| *b == b'\n') {
                let Ok(frame) = Frame::read_from(&mut &line[..]) else { continue };
                let mut out = Vec::new();
                if frame.write_to(&mut out).is_ok() {
                    prop_assert_eq!(Frame::parse(&out).expect("a frame"), frame);
                }
            }
        }
    }

    #[test]
    fn a_run_directory_is_read_or_named(plan in mutated(PLAN), trials in mutated(TRIALS), noise: Vec<u8>) {
        check_run_dir(PLAN, &trials)?;
        check_run_dir(&plan, TRIALS)?;
        check_run_dir(PLAN, &noise)?;
        check_run_dir(&noise, TRIALS)?;
    }

    #[test]
    fn shares_of_a_schedule_add_up(
        poisson: bool, rate in 0.5..50_000.0f64, ms in 0..300u64, seed: u64, workers in 1..9u32,
    ) {
        let plan = TrialPlan {
            arrivals: if poisson { Arrivals::Poisson } else { Arrivals::Constant },
            offered_per_s: Some(rate),
            extent: Extent::DurationNs(ms * 1_000_000 + 1),
            seed,
            ..TrialPlan::default()
        };
        let all = Schedule::window(&plan, None).count_share(0, 1);
        let shares = (0..workers).map(|w| Schedule::window(&plan, None).count_share(w, workers));
        prop_assert_eq!(shares.sum::<u64>(), all);
    }
}
