//! What merging costs: simulated shards of 100 cells, merged for real; time should grow with the
//! number of shards alone, and memory hardly at all.
//!
//! `cargo bench --bench merge` prints one line for each number of shards, up to 1,000 (about 600 MB
//! of rows in a temporary directory). `DUEL_SHARDS=100` runs that number only.

#[path = "../tests/sample/mod.rs"]
mod sample;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use duel::fleet::merge::merge;
use duel::plan::Engine;
use duel::plan::shard::Shard;
use duel::results::store::{PlanJson, ShardOf, Versions};

const CELLS: u32 = 100;

/// A sweep of as many cells, whose requests are those of the sample rows.
fn plan(shards: u32) -> PlanJson {
    let lanes: Vec<String> = (0..CELLS).map(|i| (1_000 + i).to_string()).collect();
    let config = format!(
        "name = 'simulated'\n[plan]\nrequests = {}\n[sweep]\nengines = ['tokio']\nlanes = [{}]\n\
         trials = 1\n",
        2_000 * shards,
        lanes.join(", ")
    );
    let sweep = duel::config::parse(&config, "simulation", &[], Path::new(".")).expect("a config");
    PlanJson {
        format_version: 1,
        name: sweep.name.clone(),
        plan_hash: sample::PLAN_HASH.into(),
        seed: 1,
        created_utc: "2026-01-01T00:00:00Z".into(),
        config: serde_json::to_value(&sweep).expect("plain data"),
        cells: sweep.cells(),
        trials_planned: u64::from(CELLS),
        machine: serde_json::Value::Null,
        limits: serde_json::Value::Null,
        versions: Versions { binary_digest: "b1".into(), ..Versions::default() },
        command_line: vec![],
        shard: None,
        merged: None,
    }
}

/// Writes a shard's directory.
fn write_shard(dir: &Path, plan: &PlanJson, shard: Shard) {
    fs::create_dir(dir).expect("a fresh directory");
    let Shard { index, count } = shard;
    let place = ShardOf { index, count, host: format!("node{index}"), boot_id: index.to_string() };
    let plan = PlanJson { shard: Some(place), ..plan.clone() };
    fs::write(dir.join("plan.json"), serde_json::to_vec(&plan).expect("plain data")).unwrap();
    let mut rows = String::new();
    // One row's distributions serve all: what is measured here does not depend on their values.
    let template = sample::record(sample::cell(Engine::Tokio), 0, 1.0);
    for (trial, cell) in plan.cells.iter().enumerate() {
        let mut record = template.clone();
        record.cell = cell.clone();
        record.trial = trial as u32;
        record.shard = Some(shard);
        let _ = writeln!(rows, "{}", serde_json::to_string(&record).expect("plain data"));
    }
    fs::write(dir.join("trials.jsonl"), rows).unwrap();
}

fn peak_bytes() -> u64 {
    duel::side::usage::ProcessUse::read().map_or(0, |u| u.peak_rss_bytes)
}

fn main() {
    let only = std::env::var("DUEL_SHARDS").ok().and_then(|n| n.parse().ok());
    let numbers = only.map_or(vec![100, 300, 1_000], |n| vec![n]);
    let _ = duel::limits::raise_nofile();
    for count in numbers {
        let home = tempfile::tempdir().expect("a directory");
        let plan = plan(count);
        let dirs: Vec<PathBuf> = (0..count)
            .map(|index| {
                let dir = home.path().join(index.to_string());
                write_shard(&dir, &plan, Shard { index, count });
                dir
            })
            .collect();
        let _ = duel::side::usage::reset_hwm();
        let begun = Instant::now();
        let outcome = merge(&dirs, &home.path().join("merged")).expect("shards of one run");
        let seconds = begun.elapsed().as_secs_f64();
        assert_eq!(outcome.rows, CELLS, "every cell");
        println!(
            "{count} shards x {CELLS} cells: {seconds:.2} s, {:.3} ms a row, peak {} MiB",
            seconds * 1e3 / f64::from(count * CELLS),
            peak_bytes() >> 20
        );
    }
}
