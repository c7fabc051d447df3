//! Plans that ask for next to nothing: they end in time and say what happened.

use std::time::{Duration, Instant};

use duel::format::Status;

use crate::harness::run;

/// Runs one trial of an open loop; the bound is far above what it takes and far below an hour.
fn one(plan: &str, rate: &str) -> crate::harness::Done {
    let begun = Instant::now();
    let done = run(&format!(
        "[target]\nservice_time = '1ms'\n[plan]\n{plan}\n\
         [sweep]\nengines = ['tokio', 'threads']\nlanes = [4]\nrates = [{rate}]\ntrials = 1\n\
         noise_repeats = 0"
    ));
    assert!(begun.elapsed() < Duration::from_secs(60), "{plan} at {rate} went on for ever");
    assert_eq!(done.records.len(), 2, "{}", done.stderr);
    done
}

#[test]
fn one_request_an_hour_ends_with_its_window() {
    let done = one("arrivals = 'constant'\nduration = '200ms'", "0.000278");
    for record in &done.records {
        assert_eq!(record.ledger.planned, 1, "the first arrival is at the window's beginning");
        assert_eq!(record.ledger.completed, 1, "{}", done.stderr);
    }
}

#[test]
fn a_window_without_an_arrival_says_that_nothing_completed() {
    let done = one("arrivals = 'poisson'\nduration = '1ms'", "0.001");
    assert_eq!(done.code, Some(1), "{}", done.stderr);
    for record in &done.records {
        assert_eq!((record.status, record.ledger.planned), (Status::Invalid, 0), "{}", done.stderr);
    }
    assert!(done.stdout.contains("no request fell inside the window"), "{}", done.stdout);
}
