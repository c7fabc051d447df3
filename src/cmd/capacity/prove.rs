//! `--prove`: runs the load that was forecast, in the directory `proof` of the run.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, anyhow, ensure};

use crate::cmd::exit;
use crate::config::write;
use crate::plan::sweep::Sweep;
use crate::report::capacity::prove::{Proof, loads, proofs};
use crate::results::store::{Run, RunDir, StoreError};

/// Where the loads run, below the run directory.
const TWICE: &str = "proof";
const BELOW: &str = "proof-below";
const KNEE: &str = "proof-knee";

pub(super) fn run(run: &Run) -> anyhow::Result<()> {
    let sweep = run.plan.sweep().context("the run holds no config")?;
    let loads = loads(&sweep, &run.records)?;
    let all = [(BELOW, loads.below), (TWICE, Some(loads.twice)), (KNEE, loads.knee)];
    let wanted = all.into_iter().filter_map(|(name, load)| Some((name, load?)));
    wanted.into_iter().try_for_each(|(name, load)| one(&run.path.join(name), &load))
}

/// Runs a load, or what is left of it.
fn one(out: &Path, sweep: &Sweep) -> anyhow::Result<()> {
    let text = format!("# How far off is the forecast of this load?\n{}", write::text(sweep)?);
    let config: PathBuf = out.with_extension("toml");
    std::fs::write(&config, text).map_err(|e| anyhow!("{}: {e}", config.display()))?;
    say!("duel: running the load that is forecast: {}", config.display());
    let mut command = Command::new("/proc/self/exe");
    command.arg("run").arg(&config).arg("--out").arg(out);
    if out.exists() {
        command.arg("--resume");
    }
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).status();
    let status = status.map_err(|e| anyhow!("cannot start the run: {e}"))?;
    // A missed SLO, trials that are not reliable and failed ones are in the records.
    let ended = [0, exit::FAILED, exit::MISSED, exit::INVALID].map(|code| Some(code.into()));
    ensure!(
        ended.contains(&status.code()),
        "the run of {} ended early: {status}",
        config.display()
    );
    Ok(())
}

/// What the loads measured beside the forecasts; empty where they were not run.
pub(super) fn read(run: &Run) -> Result<Vec<Proof>, StoreError> {
    let open = |name: &str| {
        let dir = run.path.join(name);
        dir.exists().then(|| RunDir::open(&dir)).transpose()
    };
    let (Some(sweep), Some(twice)) = (run.plan.sweep(), open(TWICE)?) else { return Ok(vec![]) };
    let knee = open(KNEE)?.and_then(|knee| Some((knee.plan.sweep()?, knee)));
    let knee = knee.as_ref().map(|(sweep, run)| (sweep, run.records.as_slice()));
    let below = open(BELOW)?.map_or(vec![], |below| below.records);
    let own = [run.records.as_slice(), &below].concat();
    Ok(proofs((&sweep, &own), &twice.records, knee))
}
