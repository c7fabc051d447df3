//! Runs the trials of a sweep in their order and says how it went; `run` and `try` share it.

pub(super) mod blocks;
pub(super) mod look;
mod search;

use std::collections::HashSet;
use std::io::IsTerminal;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;

use self::blocks::Blocks;
use super::exit;
use super::progress::{Progress, Signals};
use super::shard::Part;
use crate::driver::metrics::{Metrics, RunFacts};
use crate::driver::peers::{Alone, Peers};
use crate::driver::timeline::Timeline;
use crate::driver::trial::{Context, GAVE_UP, GRACE_NS};
use crate::driver::{cpus, host, target};
use crate::fleet::{Fleet, Hello};
use crate::format::{FORMAT_VERSION, Status, TrialRecord};
use crate::limits::{Limits, PortBudget};
use crate::plan::guard::Cap;
use crate::plan::shard::Shard;
use crate::plan::sweep::{ExpectFailed, Sweep, Target, Trial};
use crate::plan::{Cell, Extent};
use crate::report::served;
use crate::report::slo::{self, Judgement};
use crate::report::summary::{is_quiet, is_valid, summarise};
use crate::results::store::{self, PlanJson, RunDir, ShardOf, Versions};
use crate::side::usage::ProcessUse;
use crate::units::format_count;

/// Where a run's rows are kept.
pub(super) enum Directory {
    /// Nowhere.
    None,
    /// Where the user says.
    Named(PathBuf),
    /// In a new directory below `runs`.
    Fresh,
}

/// Where results go.
pub(super) struct Output {
    /// The run directory.
    pub(super) dir: Directory,
    /// Go on in an existing one.
    pub(super) resume: bool,
    /// Go on although config, binary or machine changed.
    pub(super) force: bool,
    /// One record a line on standard output, no table.
    pub(super) json: bool,
    /// Below the table: answers by status code, bytes, every percentile and a histogram.
    pub(super) served: bool,
    /// Whether to go on where nothing completes.
    pub(super) keep_going: bool,
    /// Where to serve metrics.
    pub(super) metrics: Option<SocketAddr>,
    /// What part of the sweep runs here, and when it starts.
    pub(super) part: Part,
}

/// Adds `--allow` addresses to the config's, by the same rules.
pub(super) fn allow(sweep: &mut Sweep, more: &[String]) -> Result<(), String> {
    for entry in more {
        Cap::parse(entry).map_err(|why| format!("--allow: `{entry}` is {why}"))?;
    }
    for target in sweep.targets_mut() {
        match target {
            Target::External { allow, .. } => allow.extend(more.iter().cloned()),
            Target::Embedded(_) if more.is_empty() => {}
            Target::Embedded(_) => {
                let why = "--allow needs `target.url`: the embedded target is on loopback";
                return Err(why.into());
            }
        }
    }
    Ok(())
}

/// Runs a sweep to its end, or to the first signal.
pub(super) fn execute(sweep: &Sweep, output: &Output) -> ExitCode {
    let session = match Session::new(sweep, output) {
        Ok(session) => session,
        Err(error) => return super::usage(format!("{error:#}")),
    };
    ExitCode::from(session.run().unwrap_or_else(|error| {
        say!("duel: {error:#}");
        exit::FAILED
    }))
}

struct Session<'s> {
    context: Context<'s>,
    output: &'s Output,
    dir: Option<RunDir>,
    records: Vec<TrialRecord>,
    signals: Signals,
    /// Whether the user's own target answers nothing.
    hopeless: bool,
    /// For how long it has answered nothing, over trials by time one after another.
    lost_ns: u64,
}

impl<'s> Session<'s> {
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
            let Some(cap) = context.external(&cell).and_then(|e| e.cap.as_ref()) else { continue };
            let offered = cell.offered_per_s.map(|_| sweep.trial_plan(&cell).peak_per_s());
            let beyond = sweep.axes.knee_shares.iter().copied().fold(1.0, f64::max);
            let offered = offered.or(sweep.search.map(|search| search.max_per_s * beyond));
            cap.check(cell.total_lanes.into(), offered).with_context(|| cell.id.clone())?;
        }
        context.external.iter().try_for_each(target::probe)?;
        // What cannot be served is said before anybody is met and anything is written.
        let listener = output.metrics.map(listen).transpose()?;
        let signals = Signals::catch().context("cannot handle signals")?;
        context.peers = peers(output, &context, &signals)?;
        let (dir, records) = match &output.dir {
            Directory::None => (None, vec![]),
            Directory::Named(path) if output.resume => resume(path, output.force, &mut context)?,
            Directory::Named(path) => (Some(create(path, output.part.shard, &context)?), vec![]),
            Directory::Fresh => (Some(create_fresh(output.part.shard, &context)?), vec![]),
        };
        context.metrics =
            listener.map(|at| metrics(at, output.part.shard, &context)).transpose()?;
        context.timeline = dir.as_ref().map(|d| Timeline::append_to(d.path())).transpose()?;
        Ok(Session { context, output, dir, records, signals, hopeless: false, lost_ns: 0 })
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
        match sweep.search.zip(sweep.slo.as_ref()) {
            Some((search, slo)) => {
                self.search(&cells, search, slo)?;
                if self.signals.exit_code().is_none() && !self.hopeless {
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
        let mut progress = Progress::new(blocks.least(&order), self.signals.clone());
        let mut repeats = Repeats::new(sweep.noise_repeats, order.len());
        for block in order.chunk_by(|a, b| a.block == b.block) {
            let Some(block) = blocks.next(block, &self.records) else { break };
            progress.expect_more(blocks.beyond(&block));
            let mut noisy = self.pass(cells, &block, &mut progress)?;
            if let Some(why) = self.context.peers.over() {
                say!("duel: {why}: without it no trial is whole, so the rest is left out");
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
        progress: &mut Progress,
    ) -> anyhow::Result<Vec<Trial>> {
        let mut noisy = vec![];
        for trial in trials {
            let over = self.signals.exit_code().is_some() || self.context.peers.over().is_some();
            if over || self.hopeless {
                return Ok(vec![]);
            }
            let cell = &cells[trial.cell];
            progress.begin(&cell.id);
            let record = self.context.run(cell, trial, progress);
            progress.end(&record);
            let expected = is_expected(&self.context.sweep.expect_failed, &record);
            if !self.context.external.is_empty() && !expected && self.gives_up(&record) {
                say!("duel: the target completes no request, so the rest is left out");
                self.hopeless = true;
            }
            if !is_quiet(&record) && matches!(record.status, Status::Ok | Status::Invalid) {
                noisy.push(*trial);
            }
            self.keep(record)?;
        }
        Ok(noisy)
    }

    /// Writes a row where rows go.
    fn keep(&mut self, record: TrialRecord) -> anyhow::Result<()> {
        if let Some(dir) = &mut self.dir {
            dir.append(&record).context(
                "stopped: what stands in the run directory is whole, and --resume goes on with it",
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
        self.lost_ns = if lost && by_time { self.lost_ns + record.measured_ns } else { 0 };
        let nobody_listens = record.errors.connect == record.ledger.failed;
        let grace = if nobody_listens { GRACE_NS / 6 } else { GRACE_NS };
        let over = lost && self.lost_ns >= grace && !self.context.keep_going;
        over || has_flag(record, GAVE_UP)
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
            if self.signals.exit_code().is_some() {
                say!("duel: go on with");
                crate::terminal::say_command(&super::arguments::resuming(dir.path()));
            }
        }
        let nothing_else = if unwritten { exit::FAILED } else { 0 };
        let kept = self.objectives();
        let code = self.signals.exit_code().or_else(|| match sweep.search {
            Some(_) => search::verdict(sweep, &self.records),
            None => verdict(sweep, &self.records),
        });
        Ok(code.or(kept).unwrap_or(nothing_else))
    }

    /// Says which bounds of the SLO were missed or cannot be judged, and the exit code for that.
    fn objectives(&self) -> Option<u8> {
        let sweep = self.context.sweep;
        // A search misses its SLO on purpose, and reports the outcome itself.
        if sweep.search.is_some() {
            return None;
        }
        let mut rows = sweep.slo.as_ref().map_or(vec![], |slo| slo::judge(slo, &self.records));
        rows.extend(slo::judge_classes(&sweep.plan.mix, &self.records));
        for row in &rows {
            match row.judgement {
                Judgement::Met => {}
                Judgement::Missed => say!("duel: SLO missed: {row}"),
                Judgement::Unknown(_) => say!("duel: SLO cannot be judged: {row}"),
            }
        }
        let any = |is: fn(&Judgement) -> bool| rows.iter().any(|r| is(&r.judgement));
        if any(|j| matches!(j, Judgement::Unknown(_))) {
            return Some(exit::INVALID);
        }
        any(|j| *j == Judgement::Missed).then_some(exit::MISSED)
    }
}

/// How many repeats of noisy trials a sweep may still make: half of its trials in all, so that a
/// machine that is never quiet stretches a sweep by half and not without end.
struct Repeats {
    wanted: u32,
    left: usize,
    made: usize,
    refused: usize,
}

impl Repeats {
    fn new(wanted: u32, trials: usize) -> Self {
        Repeats { wanted, left: trials / 2, made: 0, refused: 0 }
    }

    /// Keeps of `noisy` what may be repeated.
    fn grant(&mut self, noisy: &mut Vec<Trial>) {
        let granted = noisy.len().min(self.left);
        self.refused += noisy.len() - granted;
        self.made += granted;
        self.left -= granted;
        noisy.truncate(granted);
    }

    fn report(&self) {
        if self.made > 0 {
            let (made, each) = (format_count(self.made as u64), self.wanted);
            say!("duel: {made} noisy trials were repeated, each at most {each} times");
        }
        if self.refused > 0 {
            say!(
                "duel: {} noisy trials were not repeated, since at most half of all trials are. \
                 Something else is using this machine",
                format_count(self.refused as u64)
            );
        }
    }
}

fn has_flag(record: &TrialRecord, flag: &str) -> bool {
    record.flags.iter().any(|known| known == flag)
}

/// The table as wide as the terminal, in colour where that is wanted.
fn table(sweep: &Sweep, records: &[TrialRecord], served: bool) -> String {
    let name = &sweep.name;
    let terminal = std::io::stdout().is_terminal();
    let colour = crate::report::colour_wanted(terminal);
    let groups = summarise(records, sweep.baseline, sweep.equal_within);
    if let Some(searched) = crate::report::search::of_sweep(sweep, records) {
        return searched.text(name, &groups, crate::terminal::width(), colour);
    }
    let kept = slo::section(sweep.slo.as_ref(), records);
    let classes = crate::report::classes::section(&sweep.plan.mix, records);
    let kept = kept.into_iter().chain(classes);
    let sections = super::report::sections(kept, &sweep.expect, &sweep.cells(), records);
    let width = crate::terminal::width();
    crate::report::verdict::text(records, &groups, width)
        + &crate::report::table::render(name, &groups, &sections, width, colour)
        + &if served { served::text(records, &groups, width) } else { String::new() }
}

fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).with_context(|| format!("--metrics: cannot listen on {address}"))
}

/// Serves metrics from here on.
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
    let trace = sweep.plan.trace.as_ref().map(|file| file.load(&sweep.plan.mix)).transpose();
    let trace = trace.map_err(anyhow::Error::msg)?.map(Arc::new);
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

/// Makes the run directory.
fn create(path: &Path, shard: Option<Shard>, context: &Context) -> anyhow::Result<RunDir> {
    store::check_writable(path, 1 << 20)?;
    Ok(RunDir::create(path, &plan_json(shard, context)?)?)
}

/// Makes a run directory of its own below `runs`, also where another run began in this second.
fn create_fresh(shard: Option<Shard>, context: &Context) -> anyhow::Result<RunDir> {
    let first = store::default_dir(&context.sweep.name, jiff::Timestamp::now());
    std::fs::create_dir_all(first.parent().unwrap_or(Path::new(".")))
        .with_context(|| format!("cannot make {}", first.display()))?;
    for number in 2.. {
        let mut path = first.clone();
        if number > 2 {
            path.as_mut_os_string().push(format!("-{}", number - 1));
        }
        match std::fs::create_dir(&path) {
            Ok(()) => return create(&path, shard, context),
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e).with_context(|| format!("cannot make {}", path.display())),
        }
    }
    unreachable!("a number is free")
}

/// Opens the run directory to go on in; forced, every further row is flagged with what changed.
fn resume(
    path: &Path,
    force: bool,
    context: &mut Context,
) -> anyhow::Result<(Option<RunDir>, Vec<TrialRecord>)> {
    let (dir, run) = RunDir::resume(path)?;
    for warning in &run.warnings {
        say!("duel: {warning}");
    }
    let machine = serde_json::to_value(host::Machine::read())?;
    let changed: Vec<(&str, &str)> = [
        (run.plan.plan_hash != context.plan_hash, "the config", "config_changed"),
        (
            run.plan.versions.binary_digest != context.binary_digest,
            "the duel binary",
            "binary_changed",
        ),
        (run.plan.machine != machine, "the machine", "machine_changed"),
    ]
    .into_iter()
    .filter_map(|(differs, what, flag)| differs.then_some((what, flag)))
    .collect();
    if !changed.is_empty() {
        let what: Vec<&str> = changed.iter().map(|(what, _)| *what).collect();
        let what = what.join(" and ");
        if !force {
            anyhow::bail!(
                "{}: cannot be resumed: {what} changed since; --force goes on and flags the rows",
                path.display()
            );
        }
        say!("duel: {}: {what} changed since; the rows from here on say so", path.display());
        context.remarks = changed.iter().map(|(_, flag)| (*flag).to_string()).collect();
        // The directory's rows belong to the plan that it holds.
        context.plan_hash.clone_from(&run.plan.plan_hash);
    }
    let keys = run.existing_keys();
    let kept = |r: &TrialRecord| {
        r.status != Status::Interrupted && keys.contains(&(r.cell.id.clone(), r.block))
    };
    Ok((Some(dir), run.records.into_iter().filter(kept).collect()))
}

fn plan_json(shard: Option<Shard>, context: &Context) -> anyhow::Result<PlanJson> {
    let sweep = context.sweep;
    let cells = sweep.cells();
    Ok(PlanJson {
        format_version: FORMAT_VERSION,
        name: sweep.name.clone(),
        plan_hash: context.plan_hash.clone(),
        seed: sweep.plan.seed,
        created_utc: store::utc_stamp(jiff::Timestamp::now()),
        config: serde_json::to_value(sweep.masked())?,
        trials_planned: sweep.most_trials(),
        cells,
        machine: serde_json::to_value(host::Machine::read())?,
        limits: serde_json::to_value(&context.limits)?,
        versions: Versions {
            duel: env!("CARGO_PKG_VERSION").into(),
            git_revision: host::git_revision().map(Into::into),
            binary_digest: context.binary_digest.clone(),
        },
        command_line: super::arguments::masked(std::env::args_os()),
        shard: shard.map(|shard| ShardOf {
            index: shard.index,
            count: shard.count,
            host: host::name(),
            boot_id: host::boot_id(),
        }),
        merged: None,
    })
}

/// The exit code that the rows call for, if any. A noisy trial whose repeat was valid calls for
/// none: its faults are attributed to the noise, and its figures are not used.
fn verdict(sweep: &Sweep, records: &[TrialRecord]) -> Option<u8> {
    let valid: HashSet<_> = records
        .iter()
        .filter(|r| is_valid(r) && is_quiet(r))
        .map(|r| (&r.cell.id, r.block))
        .collect();
    let stands = |r: &&TrialRecord| is_quiet(r) || !valid.contains(&(&r.cell.id, r.block));
    let records: Vec<&TrialRecord> = records.iter().filter(stands).collect();
    let failed =
        records.iter().any(|r| r.status == Status::Failed && !is_expected(&sweep.expect_failed, r));
    let counted = || records.iter().filter(|r| r.status != Status::Failed);
    // One short window may pass without a request on a machine that gives the worker no CPU: such a
    // trial is invalid. A cell whose windows were all empty has measured nothing.
    let used: HashSet<_> = counted().filter(|r| r.ledger.planned > 0).map(|r| &r.cell.id).collect();
    let nothing = |r: &&TrialRecord| {
        r.ledger.completed == 0
            && !r.cell.is_idle()
            && (r.ledger.planned > 0 || !used.contains(&r.cell.id))
    };
    if failed || counted().any(nothing) {
        return Some(exit::FAILED);
    }
    records.iter().any(|r| r.status == Status::Invalid).then_some(exit::INVALID)
}

fn is_expected(expected: &[ExpectFailed], record: &TrialRecord) -> bool {
    expected.iter().any(|e| {
        e.engine == record.cell.engine
            && e.lanes.is_none_or(|lanes| lanes == record.cell.lanes)
            && e.limit.as_ref().is_none_or(|limit| {
                record.error.as_ref().is_some_and(|error| error.contains(limit))
            })
    })
}
