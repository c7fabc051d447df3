//! Runs the trials of a sweep in their order and says how it went; `run` and `try` share it.

pub(super) mod blocks;
mod directory;
pub(super) mod look;
mod repeats;
mod search;
mod verdict;

use std::collections::{HashMap, HashSet};
use std::io::IsTerminal;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, bail};

use self::blocks::Blocks;
pub(super) use self::directory::Directory;
use self::directory::{create, create_fresh, resume};
use self::repeats::Repeats;
use self::verdict::{is_expected, objectives, verdict};
use super::exit;
use super::progress::{Signals, SweepProgress};
use super::shard::ShardPart;
use crate::cli::AllowArgs;
use crate::driver::metrics::{Metrics, RunFacts};
use crate::driver::peers::{Alone, Peers};
use crate::driver::timeline::Timeline;
use crate::driver::trial::{Context, GRACE_NS};
use crate::driver::{cpus, host, target};
use crate::fleet::{Fleet, Hello};
use crate::format::{FORMAT_VERSION, Flag, Status, TrialRecord};
use crate::limits::{Limits, PortBudget};
use crate::plan::shard::Shard;
use crate::plan::sweep::{Sweep, Target, Trial};
use crate::plan::{Cell, Extent};
use crate::report::served;
use crate::report::summary::{is_quiet, summarise};
use crate::results::store::{self, RunDir};
use crate::side::usage::ProcessUse;

#[derive(Default)]
pub(super) struct Output {
    pub(super) dir: Directory,
    pub(super) resume: bool,
    pub(super) force: bool,
    pub(super) json: bool,
    /// Below the table: answers by status code, bytes, every percentile and a histogram.
    pub(super) served: bool,
    pub(super) keep_going: bool,
    pub(super) metrics: Option<SocketAddr>,
    /// Flags that stand for keys of a config, each with its key: errors name them in its place.
    pub(super) flags: Vec<(&'static str, &'static str)>,
    pub(super) part: ShardPart,
}

/// Adds `--allow` addresses to the config's, by the same rules.
pub(super) fn allow(sweep: &mut Sweep, more: &AllowArgs) -> anyhow::Result<()> {
    for target in sweep.targets_mut() {
        match target {
            Target::External { allow, .. } => allow.extend(more.allow.iter().cloned()),
            Target::Embedded(_) if more.allow.is_empty() => {}
            Target::Embedded(_) => {
                bail!("--allow needs `target.url`: the embedded target is on loopback")
            }
        }
    }
    Ok(())
}

/// Refuses more load than the address of a cell's target is allowed to get.
pub(super) fn within_cap(
    sweep: &Sweep,
    cell: &Cell,
    external: Option<&target::External>,
) -> anyhow::Result<()> {
    let Some(cap) = external.and_then(|external| external.cap.as_ref()) else { return Ok(()) };
    let offered = cell.offered_per_s.map(|_| sweep.trial_plan(cell).peak_per_s());
    let beyond = sweep.axes.knee_shares.iter().copied().fold(1.0, f64::max);
    let offered = offered.or(sweep.search.map(|search| search.max_per_s * beyond));
    cap.check(cell.total_lanes.into(), offered)
}

pub(super) fn execute(sweep: &Sweep, output: &Output) -> ExitCode {
    let session = match SweepSession::new(sweep, output) {
        Ok(session) => session,
        Err(error) => return refuse(&error, output),
    };
    ExitCode::from(session.run().unwrap_or_else(|error| {
        say!("duel: {error:#}");
        exit::FAILED
    }))
}

/// Says why a sweep cannot begin, in the words in which it was written.
fn refuse(error: &anyhow::Error, output: &Output) -> ExitCode {
    super::usage(crate::config::in_flags(&format!("{error:#}"), &output.flags))
}

struct SweepSession<'s> {
    context: Context<'s>,
    output: &'s Output,
    dir: Option<RunDir>,
    records: Vec<TrialRecord>,
    signals: Signals,
    /// Those of the user's own targets that answer nothing.
    hopeless: HashSet<Option<u32>>,
    /// For how long each has answered nothing, over its trials by time one after another.
    lost_ns: HashMap<Option<u32>, u64>,
}

impl<'s> SweepSession<'s> {
    /// Everything that can be refused is refused here, before the first trial.
    fn new(sweep: &'s Sweep, output: &'s Output) -> anyhow::Result<Self> {
        let external = target::resolve_all(sweep)?;
        // Workers and targets inherit the driver's limit until they raise their own.
        let mut context = Context {
            sweep,
            plan_hash: sweep.plan_hash(),
            binary_digest: host::binary_digest().context("cannot read this binary")?,
            limits: Limits::read(),
            allowed_cpus: cpus::allowed()?,
            external,
            peers: Box::new(Alone),
            metrics: None,
            remarks: vec![],
            keep_going: output.keep_going,
            timeline: None,
        };
        for cell in sweep.cells() {
            let external = context.external(&cell);
            within_cap(sweep, &cell, external).with_context(|| cell.id.clone())?;
        }
        context.external.iter().try_for_each(target::probe)?;
        // What cannot be served is said before anybody is met and anything is written.
        let listener = output.metrics.map(listen).transpose()?;
        let signals = Signals::catch().context("cannot handle signals")?;
        context.peers = peers(output, &context, &signals)?;
        let (dir, records) = match &output.dir {
            Directory::None => (None, vec![]),
            Directory::Named(path) if output.resume => resume(path, output.force, &mut context)?,
            Directory::Named(path) => {
                let typed = !output.flags.is_empty();
                (Some(create(path, output.part.shard, &context, typed)?), vec![])
            }
            Directory::Fresh => (Some(create_fresh(output.part.shard, &context)?), vec![]),
        };
        context.metrics =
            listener.map(|at| metrics(at, output.part.shard, &context)).transpose()?;
        context.timeline = dir.as_ref().map(|d| Timeline::append_to(d.path())).transpose()?;
        Ok(SweepSession {
            context,
            output,
            dir,
            records,
            signals,
            hopeless: HashSet::new(),
            lost_ns: HashMap::new(),
        })
    }

    fn run(mut self) -> anyhow::Result<u8> {
        let sweep = self.context.sweep;
        for external in &self.context.external {
            say!("duel: load goes to {}", external.describe());
        }
        let cells = sweep.cells();
        let context = &self.context;
        let ports = |cell: &Cell| {
            let to = context.external(cell).map(|e| &e.endpoint);
            context.limits.ports(&sweep.trial_plan(cell), cell, to)
        };
        if let Some(ports) = cells.iter().filter_map(ports).find(PortBudget::may_run_out) {
            say!("duel: keep_alive = false may run out of ports: {ports}");
        }
        match sweep.search {
            Some(_) => {
                self.search()?;
                if self.signals.exit_code().is_none() && self.hopeless.is_empty() {
                    self.at_knees()?;
                }
            }
            None => self.grid(&cells)?,
        }
        self.conclude()
    }

    /// Runs every cell in every block, but for the trials that are done.
    fn grid(&mut self, cells: &[Cell]) -> anyhow::Result<()> {
        let sweep = self.context.sweep;
        let done: HashSet<_> = self.records.iter().map(|r| (r.cell.id.clone(), r.block)).collect();
        // What ran before, such as a search, stands before them in the run order.
        let before = self.records.iter().filter(|r| cells.iter().all(|c| c.id != r.cell.id));
        let before = before.map(|r| r.trial + 1).max().unwrap_or(0);
        let order: Vec<_> = sweep
            .order(cells.len())
            .into_iter()
            .map(|t| Trial { position: before + t.position, ..t })
            .filter(|t| !done.contains(&(cells[t.cell].id.clone(), t.block)))
            .collect();
        if let Some(warning) = blocks::warning(sweep, self.output.served) {
            say!("duel: {warning}");
        }
        let mut blocks = Blocks::new(sweep, cells);
        let mut progress = SweepProgress::new(blocks.least(&order), self.signals.clone());
        let mut repeats = Repeats::new(sweep.noise_repeats, order.len());
        for block in order.chunk_by(|a, b| a.block == b.block) {
            let Some(block) = blocks.next(block, &self.records) else { break };
            progress.expect_more(blocks.beyond(&block));
            let mut noisy = self.pass(cells, &block, &mut progress)?;
            if let Some(why) = self.context.peers.over() {
                say!("duel: {why}: a trial needs every shard, so the rest is left out");
                break;
            }
            if !self.hopeless.is_empty() {
                break;
            }
            // At the block's end, since the noise may have passed by then.
            for _ in 0..sweep.noise_repeats {
                repeats.grant(&mut noisy);
                progress.expect_more(noisy.len());
                noisy = self.pass(cells, &noisy, &mut progress)?;
            }
        }
        progress.finish();
        repeats.report();
        if self.signals.exit_code().is_none() {
            blocks.report(&self.records);
        }
        Ok(())
    }

    /// Runs trials one after another until a signal comes; returns those that were noisy.
    fn pass(
        &mut self,
        cells: &[Cell],
        trials: &[Trial],
        progress: &mut SweepProgress,
    ) -> anyhow::Result<Vec<Trial>> {
        let mut noisy = vec![];
        for trial in trials {
            if self.signals.exit_code().is_some() || self.context.peers.over().is_some() {
                return Ok(vec![]);
            }
            let cell = &cells[trial.cell];
            if self.hopeless.contains(&cell.target_nth) {
                continue;
            }
            progress.begin(&cell.id);
            let record = self.context.run(cell, trial, progress);
            progress.end(&record);
            let expected = is_expected(&self.context.sweep.expect_failed, &record);
            if !self.context.external.is_empty() && !expected && self.gives_up(&record) {
                let name = cell.target.as_ref().map_or(String::new(), |name| format!(" {name}"));
                let rest = if name.is_empty() { "the rest" } else { "every later block" };
                say!(
                    "duel: the target{name} completes no request, so {rest} is left out; \
                     --keep-going goes on"
                );
                self.hopeless.insert(cell.target_nth);
            }
            if !is_quiet(&record) && matches!(record.status, Status::Ok | Status::Invalid) {
                noisy.push(*trial);
            }
            self.keep(record)?;
        }
        Ok(noisy)
    }

    fn keep(&mut self, record: TrialRecord) -> anyhow::Result<()> {
        if let Some(dir) = &mut self.dir {
            dir.append(&record).context(
                "stopped: every trial in the run directory is complete, and --resume goes on from there",
            )?;
        }
        if self.output.json {
            crate::terminal::print(&(serde_json::to_string(&record)? + "\n"));
        }
        self.records.push(record);
        Ok(())
    }

    /// Whether it is time to end a run whose target answers nothing. Short trials are counted
    /// together; where nothing listens there is nothing to wait for.
    fn gives_up(&mut self, record: &TrialRecord) -> bool {
        let by_time = matches!(self.context.sweep.plan.extent, Extent::DurationNs(_));
        let lost = record.ledger.completed == 0 && record.ledger.failed > 0;
        let lost_ns = self.lost_ns.entry(record.cell.target_nth).or_default();
        *lost_ns = if lost && by_time { *lost_ns + record.measured_ns } else { 0 };
        let nobody_listens = record.errors.connect == record.ledger.failed;
        let grace = if nobody_listens { GRACE_NS / 6 } else { GRACE_NS };
        let over = lost && *lost_ns >= grace && !self.context.keep_going;
        over || record.flags.contains(&Flag::GaveUp)
    }

    fn conclude(self) -> anyhow::Result<u8> {
        let sweep = self.context.sweep;
        if !self.output.json {
            let own = !self.context.external.is_empty();
            let failed = served::all_failed(&self.records).filter(|_| own);
            let whole = || table(sweep, &self.records, self.output.served);
            crate::terminal::page(&failed.unwrap_or_else(whole));
        }
        let mut unwritten = false;
        if let Some(dir) = &self.dir {
            // Read before the report is made, which is a child's work.
            let peak = ProcessUse::read().map_or(0, |u| u.peak_rss_bytes) as f64;
            if let Err(error) = super::report::write_files_in_child(dir.path()) {
                say!("duel: {error:#}; make it again with `duel report`");
                unwritten = true;
            }
            let peak = crate::units::format_bytes(peak);
            say!("duel: results: {}/report.html", dir.path().display());
            say!(
                "duel: beside it: report.md, cells.csv, trials.csv (the driver's peak memory: {peak})"
            );
        }
        let nothing_else = if unwritten { exit::FAILED } else { 0 };
        let kept = objectives(sweep, &self.records);
        let stopped = self.signals.exit_code();
        if let (Some(dir), Some(_)) = (&self.dir, stopped) {
            // Last, where whoever stopped it looks.
            say!("duel: go on with");
            crate::terminal::say_command(&super::arguments::resuming(dir.path()));
        }
        let code = stopped.or_else(|| match sweep.search {
            Some(_) => search::verdict(sweep, &self.records),
            None => verdict(sweep, &self.records),
        });
        let code = code.or(kept).unwrap_or(nothing_else);
        if code == exit::INVALID {
            say!("duel: exit code {code}: {}", verdict::unreliable(&self.records));
        }
        Ok(code)
    }
}

/// The table as wide as the terminal, in colour where that is wanted.
fn table(sweep: &Sweep, records: &[TrialRecord], served: bool) -> String {
    let colour = crate::report::colour_wanted(std::io::stdout().is_terminal());
    let width = crate::terminal::width();
    let groups = summarise(records, sweep.baseline, sweep.equal_within);
    let named = (sweep.name.as_str(), &groups[..]);
    let text = crate::report::text(Some(sweep), &sweep.cells(), records, named, width, colour);
    text + &if served { served::text(records, &groups, width) } else { String::new() }
}

fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).with_context(|| format!("--metrics: cannot listen on {address}"))
}

fn metrics(
    listener: TcpListener,
    shard: Option<Shard>,
    context: &Context,
) -> anyhow::Result<Metrics> {
    let sweep = context.sweep;
    let facts = RunFacts {
        name: sweep.name.clone(),
        plan_hash: context.plan_hash.clone(),
        shard: shard.map_or(String::new(), |s| s.to_string()),
        trials: sweep.most_trials(),
    };
    let trace = sweep.plan.trace.as_ref().map(|file| file.load(&sweep.plan.mix)).transpose()?;
    let trace = trace.map(Arc::new);
    let metrics = Metrics::serve(listener, facts, trace).context("--metrics: cannot serve")?;
    say!("duel: metrics on http://{}/metrics", metrics.address());
    Ok(metrics)
}

/// Who else carries out parts of this run; shards meet here, before anything is written.
fn peers(output: &Output, context: &Context, signals: &Signals) -> anyhow::Result<Box<dyn Peers>> {
    let part = &output.part;
    let embedded_target = context.external.is_empty();
    let place = match &output.dir {
        Directory::Named(path) => path,
        Directory::None | Directory::Fresh => Path::new("runs"),
    };
    if let Some(slots) = part.slots {
        return Ok(Box::new(Fleet::in_slots(part.shard, slots, place, embedded_target)));
    }
    let Some(shard) = part.shard else { return Ok(Box::new(Alone)) };
    let Some(meeting) = &part.meeting else {
        return Ok(Box::new(Fleet::unmet(shard, embedded_target)));
    };
    // What would stop this shard later must not keep the others waiting.
    let named = matches!(output.dir, Directory::Named(_));
    if named && place.read_dir().is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(store::StoreError::NotEmpty { path: place.into() }.into());
    }
    let hello = Hello {
        format_version: FORMAT_VERSION,
        plan_hash: context.plan_hash.clone(),
        binary_digest: context.binary_digest.clone(),
        count: shard.count,
        embedded_target,
        host: host::name(),
        loopback: host::loopback(),
    };
    let stop = || signals.exit_code().is_some();
    Ok(Box::new(Fleet::meet(shard, meeting, &hello, &stop)?))
}
