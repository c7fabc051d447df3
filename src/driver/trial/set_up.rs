//! The beginning of a trial: limits, CPUs, fresh targets, fresh workers, lanes armed.

use std::time::Duration;

use anyhow::{Context as _, anyhow};

use super::{Context, Running, SeenQuotas, TrialStage, Watch};
use crate::codec::tls::Acceptor;
use crate::driver::allocator;
use crate::driver::cpus::{self, Beside, Placement};
use crate::driver::files::StepFiles;
use crate::driver::gates::Samples;
use crate::driver::others::Server;
use crate::driver::peers::Stop;
use crate::driver::pipe::NoLine;
use crate::driver::split::Splitter;
use crate::driver::target::External;
use crate::driver::targets::Targets;
use crate::driver::worker::Worker;
use crate::format::{Flag, TrialRecord};
use crate::limits::{Limits, PortBudget, TargetKind};
use crate::plan::Cell;
use crate::plan::endpoint::{Endpoint, TlsPlan};
use crate::plan::sweep::{Sweep, Target};
use crate::protocol::{Armed, Job, SETUP_LIMIT_NS};
use crate::side::cgroup::Cgroup;
use crate::side::outside::Outside;
use crate::sys::now_ns;
use crate::units::SECOND_NS;

/// Most time from spawn to Ready, and how much longer than its own limit a worker may be late.
const PATIENCE_NS: u64 = 20 * SECOND_NS;
/// From the last Armed to the start, so that every worker has its Start frame in time: for the
/// first, and for each further one.
const LEAD_NS: u64 = 5_000_000;
const LEAD_OF_WORKER_NS: u64 = 200_000;
/// For how long a server may accept nobody and still be waited for, and how often it is looked at.
const STILL_NS: u64 = SECOND_NS;
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// Turn in which a wait looks for the user's signal.
const TURN_NS: u64 = 100_000_000;

/// Where a cell runs beside a target, where that is external; `own` are the CPUs that one of this
/// machine keeps to, which are left to it.
pub(crate) fn place(
    (sweep, limits, allowed): (&Sweep, &Limits, &[u32]),
    cell: &Cell,
    external: Option<&Endpoint>,
    own: Option<Vec<u32>>,
) -> anyhow::Result<Placement> {
    let target = match external {
        None => Beside::Embedded,
        Some(endpoint) if !endpoint.is_local() => Beside::Elsewhere,
        Some(_) => Beside::External(own),
    };
    cpus::split(allowed, limits.cpu_quota.as_ref(), cell.cpus, &sweep.machine, target)
}

/// What limits know of a cell's target.
pub(crate) fn target_kind(sweep: &Sweep, cell: &Cell, external: Option<&Endpoint>) -> TargetKind {
    match sweep.target_of(cell) {
        Target::Embedded(target) => TargetKind::Embedded { processes: target.processes },
        Target::External { .. } => {
            TargetKind::External { loopback: external.is_none_or(Endpoint::is_local) }
        }
    }
}

/// Refuses a cell that meets a limit; otherwise the ports that it needs, where it may need many.
pub(crate) fn admit(
    sweep: &Sweep,
    limits: &Limits,
    cell: &Cell,
    external: Option<&Endpoint>,
    placement: &Placement,
) -> anyhow::Result<Option<PortBudget>> {
    let kind = target_kind(sweep, cell, external);
    let server = sweep.server_plan(cell).filter(|server| server.own().is_none());
    if let Some(server) = &server {
        limits.admit_server(server)?;
    }
    let on = |plan| (plan, placement.server_cpus(sweep, plan));
    limits.check_on(cell, kind, server.as_ref().map(on))?;
    let ports = limits.ports(&sweep.trial_plan(cell), cell, external);
    ports.as_ref().map_or(Ok(()), PortBudget::check)?;
    Ok(ports)
}

impl Context<'_> {
    /// The CPUs of a cell that meets no limit.
    fn placed(&self, cell: &Cell, owner: Option<&Server>) -> anyhow::Result<Placement> {
        let external = self.external(cell).map(|external| &external.endpoint);
        let own = owner.and_then(|owner| owner.own_cpus(&self.allowed_cpus));
        let place = place((self.sweep, &self.limits, &self.allowed_cpus), cell, external, own)?;
        admit(self.sweep, &self.limits, cell, external, &place)?;
        Ok(place)
    }

    /// Who serves the target, where it is another program on this machine.
    fn owner(&self, cell: &Cell) -> Option<Server> {
        let external = self.external(cell).filter(|e| e.endpoint.is_local())?;
        Server::of(&external.endpoint)
    }

    /// The embedded targets that are started here, and where lanes connect to.
    fn targets(
        &self,
        cell: &Cell,
        seed: u64,
        placed: (&[u32], &[u32]),
        record: &mut TrialRecord,
        stop: Stop,
    ) -> anyhow::Result<(Option<Targets>, Vec<Endpoint>)> {
        if let Some(external) = self.external(cell) {
            record.flags.push(Flag::ExternalTarget);
            if external.tls.as_ref().is_some_and(|tls| tls.insecure) {
                record.flags.push(Flag::InsecureTls);
            }
            return Ok((None, vec![external.endpoint.clone()]));
        }
        if let Some(elsewhere) = self.peers.targets(record.trial, stop)? {
            return Ok((None, elsewhere));
        }
        let spec = self.sweep.embedded_target(cell).context("no target")?;
        let (plan, counts) = (self.sweep.server_plan(cell), cell.counts_events());
        let targets = Targets::start(&spec, plan, seed, placed, counts)?;
        self.peers.publish_targets(record.trial, targets.endpoints())?;
        let endpoints = targets.endpoints().to_vec();
        Ok((Some(targets), endpoints))
    }

    /// Only in a trial whose memory is split. A server under test is looked at now, before it has a
    /// connection; workers when they are ready.
    fn splitter(
        &self,
        cell: &Cell,
        targets: Option<&mut Targets>,
        server: Option<&Outside>,
    ) -> Option<Splitter> {
        let plan = self.sweep.server_plan(cell).filter(|_| cell.tests_server());
        let of_server = plan.map(|server| server.setting.stack_bytes);
        let stack_bytes = of_server.or(cell.stack_size_bytes).unwrap_or(0);
        let mut splitter = cell.is_memory().then(|| Splitter::new(stack_bytes))?;
        if let (true, Some(targets), Some(server)) = (cell.tests_server(), targets, server) {
            let held = targets.held_bytes();
            splitter.at_ready(targets.pids(), server.group_at_first(), held);
        }
        Some(splitter)
    }

    /// Why nothing is known of a target that was not started here.
    pub(super) fn no_target_here(&self) -> &str {
        self.peers.shared_target().unwrap_or("the target is not duel's own")
    }
}

impl<'c> Running<'c> {
    /// Checks the limits and starts the targets.
    pub(super) fn new(
        context: &'c Context<'c>,
        whole: &Cell,
        record: &mut TrialRecord,
        watch: &dyn Watch,
    ) -> anyhow::Result<Self> {
        let stop = || watch.stop();
        context.peers.wait_for_turn(record.trial, &stop);
        let plan = context.sweep.block_plan(whole, record.block);
        let here = context.peers.assign(whole, &plan)?;
        record.cell = here.cell.clone();
        let cell = &here.cell;
        let owner = context.owner(cell);
        let mut placement = context.placed(cell, owner.as_ref())?;
        if placement.shared {
            record.flags.push(Flag::SharedCpu);
        }
        let calls = context.sweep.server.as_ref().is_some_and(|server| server.upstream.is_some());
        let beside = if calls { placement.beside(&context.sweep.machine) } else { vec![] };
        let upstream_shares = beside.iter().any(|cpu| placement.worker.contains(cpu));
        if upstream_shares && !placement.shared {
            record.flags.push(Flag::UpstreamBesideClient);
        }
        // Before any child: under v2 the driver may first have to move into a leaf, alone.
        let cgroup = Cgroup::create(&format!("trial-{}", record.trial));
        let (mut targets, endpoints) =
            context.targets(cell, plan.seed, (&placement.target, &beside), record, &stop)?;
        let server = match &targets {
            // No connection is there yet: the baseline of the server's side.
            Some(targets) => {
                let own = Cgroup::create(&format!("trial-{}-target", record.trial));
                Outside::new(targets.pids(), own)
            }
            None => Err(context.no_target_here().into()),
        };
        let splitter = context.splitter(cell, targets.as_mut(), server.as_ref().ok());
        targets.iter_mut().for_each(Targets::go);
        Ok(Running {
            context,
            server,
            files: StepFiles::of(&plan.mix, here.workers.iter().copied()),
            splitter,
            jitter: rand::SeedableRng::seed_from_u64(plan.seed),
            here,
            plan,
            block: record.block,
            position: record.trial,
            placement,
            upstream_shares,
            targets,
            endpoints,
            workers: vec![],
            cgroup,
            kernel_at_ready: None,
            kernel_at_plateau: None,
            half_seen: false,
            late_at_edges_ns: 0,
            connected: 0,
            others: None,
            owner,
            throttled: SeenQuotas::default(),
            stopped_ns: 0,
            given_up_ns: None,
            in_flight: Samples::default(),
            in_flight_peak: None,
        })
    }

    pub(super) fn spawn(
        &mut self,
        record: &mut TrialRecord,
        watch: &mut dyn Watch,
    ) -> anyhow::Result<()> {
        let allocator = allocator::of(&self.here.cell, &self.context.limits);
        for number in 0..self.here.cell.processes {
            let mut worker = Worker::spawn(number, allocator.as_ref())?;
            // Before the job arrives the worker holds next to nothing, so that nearly all it
            // will hold is charged to the group.
            if let Ok(group) = &self.cgroup
                && let Err(why) = group.add(worker.id())
            {
                self.cgroup = Err(why);
            }
            worker.job(self.job(number))?;
            self.workers.push(worker);
        }
        // Files are written to the disk before a worker is ready.
        let files = if self.plan.has_local_steps() { SETUP_LIMIT_NS } else { 0 };
        let deadline = now_ns() + PATIENCE_NS + files;
        for worker in &mut self.workers {
            await_frame(deadline, watch, "was not ready in time", |d| worker.ready(d))?;
            record.ready_ns = record.ready_ns.max(now_ns() - worker.spawned_at());
        }
        self.kernel_at_ready = self.cgroup.as_ref().ok().and_then(|g| g.read().ok());
        if let Some(splitter) = &mut self.splitter
            && !self.here.cell.tests_server()
        {
            splitter.at_ready(self.workers.iter().map(Worker::id), self.kernel_at_ready, None);
        }
        Ok(())
    }

    /// How TLS is spoken with a server under test. Of one that was started elsewhere nobody has the
    /// certificate.
    fn tls_here(&self) -> Option<TlsPlan> {
        let server = self.context.sweep.server_plan(&self.here.cell)?;
        let certificates = self.targets.as_ref().map_or(&[][..], Targets::certificates);
        server.setting.tls.then(|| Acceptor::client_plan(certificates))
    }

    fn job(&self, worker: u32) -> Job {
        let cell = &self.here.cell;
        let external = self.context.external(cell);
        let trial = format!("{} block {}", cell.id, self.block);
        Job {
            worker: self.here.workers[worker as usize],
            workers: self.here.of,
            cpus: self.placement.worker.clone(),
            allowed: external.map(External::allowed).unwrap_or_default(),
            tls: external.map_or_else(|| self.tls_here(), |e| e.tls.clone()),
            files: self.plan.has_local_steps().then(|| self.files.name().into()),
            ..Job::of(cell, trial, self.endpoints.clone(), self.plan.clone())
        }
    }

    pub(super) fn arm(
        &mut self,
        record: &mut TrialRecord,
        watch: &mut dyn Watch,
    ) -> anyhow::Result<()> {
        for worker in &mut self.workers {
            worker.go()?;
        }
        let deadline = now_ns() + SETUP_LIMIT_NS + PATIENCE_NS;
        for worker in &mut self.workers {
            let armed: Armed =
                await_frame(deadline, watch, "set-up took longer than 60 s", |d| worker.armed(d))?;
            record.setup_ns = record.setup_ns.max(armed.setup_ns);
            self.connected += u64::from(armed.connected);
            if let Some(error) = armed.error {
                return Err(anyhow!(error));
            }
        }
        Ok(())
    }

    /// Waits until a server under test has accepted what it is to hold: the kernel connects clients
    /// before their server is there. One that accepts no more for a while, such as a pool that is
    /// full, is not waited for.
    pub(super) fn settle(&self, watch: &dyn Watch) {
        let cell = &self.here.cell;
        let holds = cell.tests_server() && (cell.is_idle() || cell.is_memory());
        let Some(server) = self.server.as_ref().ok().filter(|_| holds) else { return };
        let (mut most, mut grew_at) = (0, now_ns());
        while let Some(added) = server.added_fds().filter(|added| *added < self.connected) {
            if added > most {
                (most, grew_at) = (added, now_ns());
            }
            if now_ns() - grew_at > STILL_NS || watch.stop() {
                return;
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// The start of this trial on CLOCK_MONOTONIC, the same instant for every part of it.
    pub(super) fn agree(&self, record: &mut TrialRecord, watch: &dyn Watch) -> anyhow::Result<u64> {
        let lead = LEAD_NS + LEAD_OF_WORKER_NS * self.workers.len() as u64;
        let peers = &self.context.peers;
        peers.agree(self.position, lead, &self.plan, &|| watch.stop()).inspect_err(|_| {
            if let Some(planned) = self.here.planned {
                record.ledger.planned = planned;
                record.ledger.unsent = planned;
            }
        })
    }
}

/// Waits for a frame in short turns, so that the user can stop the trial.
fn await_frame<T>(
    deadline: u64,
    watch: &mut dyn Watch,
    late: &str,
    mut ask: impl FnMut(u64) -> Result<T, NoLine>,
) -> anyhow::Result<T> {
    loop {
        match ask(deadline.min(now_ns() + TURN_NS)) {
            Ok(frame) => return Ok(frame),
            Err(NoLine::Never(why)) => return Err(anyhow!(why)),
            Err(NoLine::Late) if watch.stop() => return Err(anyhow!("stopped during set-up")),
            Err(NoLine::Late) if now_ns() >= deadline => return Err(anyhow!("{late}")),
            Err(NoLine::Late) => watch.show(TrialStage::SetUp),
        }
    }
}
