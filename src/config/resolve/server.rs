//! `[server]` and its axes: the server as the side under test.

use std::path::Path;

use super::axes::stack_size;
use super::steps::{FILE_KEYS, FileKeys, needs, takes};
use super::target::{nothing_embedded, service_time};
use super::{Fault, axis, axis_or, baseline, each, fault, number};
use crate::config::entry::Only;
use crate::config::keys::{File, Server, ServerStep as StepKeys, ServerStepKind, Upstream};
use crate::config::node::Place;
use crate::config::read::{At, Field as _, Keyed as _, Named, place_of};
use crate::plan::server::{
    OwnServer, ServerEngine, ServerSetting, ServerStep, SideUnderTest, UpstreamPlan,
};
use crate::plan::sweep::Target;
use crate::plan::{Codec, Engine};

const MAX_STEPS: usize = 100;

/// The server under test and its axes; nothing where the client is.
#[derive(Debug, Default)]
pub(super) struct Subject {
    pub(super) setting: Option<ServerSetting>,
    pub(super) engines: Vec<ServerEngine>,
    pub(super) codecs: Vec<Codec>,
    pub(super) side: SideUnderTest,
}

impl Subject {
    /// The server, where it is the side under test.
    pub(super) fn under_test(&self) -> Option<&ServerSetting> {
        self.setting.as_ref().filter(|_| self.side == SideUnderTest::Server)
    }
}

pub(super) fn resolve(
    file: &File,
    target: &Target,
    base_dir: &Path,
) -> Result<Subject, Vec<Fault>> {
    let sweep = &file.sweep;
    let wanted = sweep.subject.as_ref().filter(|at| at.value == SideUnderTest::Server);
    if sweep.server_engines.is_none() && commands(file).next().is_none() && wanted.is_none() {
        let stray = file.server.given().next().map(|(_, place)| place);
        return match stray.or(sweep.server_codecs.given_at()) {
            Some(place) => {
                let rule = "it is for servers under test, which sweep.server_engines names";
                Err(Fault::new(place, format!("has no effect here: {rule}")).into())
            }
            None => Ok(Subject { side: SideUnderTest::Client, ..Subject::default() }),
        };
    }
    let usual = match commands(file).next() {
        Some(_) => ServerEngine::Own,
        None => ServerEngine::Reference,
    };
    let mut engines = axis_or(&sweep.server_engines, vec![usual], |at| Ok(at.value))?;
    let codecs = axis(&sweep.server_codecs, |at| Ok(at.value))?;
    not_elsewhere(file, target)?;
    let own = own(file, &engines)?;
    if engines == [ServerEngine::Own]
        && let Some(at) = commands(file).next()
    {
        nothing_embedded(&file.target, at)?;
    }
    let side = side(file, engines.len() > 1 || codecs.len() > 1)?;
    if side == SideUnderTest::Server {
        // The others are compared with the first.
        let named = ("server_engines", engines.as_slice());
        let first = baseline(&sweep.baseline, named, ServerEngine::name, ServerEngine::BASELINE)?;
        engines.sort_by_key(|engine| *engine != first);
        if let Some(at) = &file.expect {
            let why = "expectations are of clients: leave them out where servers are compared";
            return Err(fault(at, why).into());
        }
    }
    let others = engines.iter().any(|engine| *engine != ServerEngine::Reference);
    if others && let Some(place) = file.target.servers.given_at() {
        let rule = "only `reference` computes a queue: a `pool` has pool_size threads";
        return Err(
            Fault::new(place, format!("does not go with other server engines: {rule}")).into()
        );
    }
    let server = &file.server;
    encrypted(file, &engines)?;
    let steps = steps(file, &engines, base_dir)?;
    let several = sweep.target.is_some();
    let setting = ServerSetting {
        pool: server.pool.value,
        pool_size: pool_size(file, &engines)?,
        stack_bytes: stack_size(&server.stack_size, server.tls.value)?,
        tls: server.tls.value,
        upstream: upstream(file, &steps)?,
        permits: permits(file, &engines, &steps)?,
        steps,
        own: own.first().cloned(),
        owns: if several { own } else { Vec::new() },
    };
    Ok(Subject { setting: Some(setting), engines, codecs, side })
}

/// Refuses a url beside servers that duel starts.
fn not_elsewhere(file: &File, target: &Target) -> Result<(), Fault> {
    let (Target::External { .. }, Some(at)) = (target, &file.target.url) else { return Ok(()) };
    let rule = match (commands(file).next(), &file.sweep.server_engines) {
        (Some(_), _) => "duel would start another by its command: leave one of them out",
        (None, None) => "duel measures servers that it starts: name it as [server] command",
        (None, Some(_)) => "sweep.server_engines are servers of duel's own: leave one of them out",
    };
    Err(fault(at, format!("is a server of yours, and {rule}")))
}

fn pool_size(file: &File, engines: &[ServerEngine]) -> Result<Option<u32>, Fault> {
    let size = file.server.pool_size.as_ref().map(|at| number(at));
    if size.is_none() && engines.contains(&ServerEngine::Pool) {
        let list = place_of(&file.sweep.server_engines).cloned().unwrap_or(Place::whole());
        let rule = "pool_size under [server], such as pool_size = 64";
        return Err(Fault::new(&list, format!("the engine `pool` needs {rule}")));
    }
    Ok(size)
}

fn permits(
    file: &File,
    engines: &[ServerEngine],
    steps: &[ServerStep],
) -> Result<Option<u32>, Fault> {
    let Some(at) = &file.server.permits else { return Ok(None) };
    let tasks = engines.iter().any(|engine| engine.facts().offloads);
    if tasks && steps.iter().any(ServerStep::occupies) {
        return Ok(Some(number(at)));
    }
    let rule = "they are for steps of the kind `file` or `compute` under the task engines";
    Err(fault(at, format!("there is nothing to bound: {rule}")))
}

fn encrypted(file: &File, engines: &[ServerEngine]) -> Result<(), Fault> {
    let tls = &file.server.tls;
    let plain = engines.iter().find_map(|engine| match engine {
        _ if !tls.value => None,
        ServerEngine::Reference => {
            Some("`reference` speaks plain HTTP: leave it out of sweep.server_engines")
        }
        ServerEngine::Own => {
            Some("a server of yours that duel starts is spoken to over plain HTTP: leave tls out")
        }
        _ => None,
    });
    plain.map_or(Ok(()), |why| Err(fault(tls, why)))
}

fn commands(file: &File) -> impl Iterator<Item = &At<String>> {
    let of_targets = file.sweep.target.iter().flat_map(|list| &list.value);
    let of_targets = of_targets.filter_map(|target| target.command.as_ref());
    file.server.command.iter().chain(of_targets)
}

/// The servers that the config's commands start: one, or one for each target.
fn own(file: &File, engines: &[ServerEngine]) -> Result<Vec<OwnServer>, Fault> {
    if let Some(at) = file.target.processes.given()
        && at.0 > 1
        && engines.len() > 1
        && engines.contains(&ServerEngine::Own)
    {
        let rule = "leave `own` out of sweep.server_engines, or set this to 1";
        return Err(fault(at, format!("the engine `own` starts one process: {rule}")));
    }
    let server = &file.server;
    let own = engines.contains(&ServerEngine::Own);
    let list = || place_of(&file.sweep.server_engines).cloned().unwrap_or(Place::whole());
    match commands(file).next() {
        None if own => {
            let rule = "command under [server], such as command = \"./serve --port {port}\"";
            return Err(Fault::new(&list(), format!("the engine `own` needs {rule}")));
        }
        None => {
            return match server.ready.given_at().or(server.env.place()) {
                Some(place) => {
                    let rule = "it is for a server that a command under [server] starts";
                    Err(Fault::new(place, format!("has no effect here: {rule}")))
                }
                None => Ok(Vec::new()),
            };
        }
        Some(at) if !own => {
            let rule = "needs `own` among sweep.server_engines, or no server_engines at all";
            return Err(fault(at, rule));
        }
        Some(_) => {}
    }
    let Some(targets) = &file.sweep.target else {
        let at = server.command.iter();
        return at.map(|at| own_server(at, server, &Named(Vec::new()))).collect();
    };
    if engines != [ServerEngine::Own] {
        let rule = "targets that are commands are servers of yours: leave out server_engines";
        return Err(Fault::new(&list(), rule));
    }
    let each = targets.value.iter().map(|target| {
        let other = [Only::External, Only::Embedded].map(|only| target.given_for(only));
        if let Some((key, place)) = other.into_iter().flatten().next() {
            let why = format!("`{key}` does not go with a command, which says it all: remove one");
            return Err(Fault::new(place, why));
        }
        let rule = "needs a command as the others have: one that is started is compared with others \
                    that are";
        let command = target.command.as_ref().or(server.command.as_ref());
        own_server(command.ok_or_else(|| fault(target, rule))?, server, &target.env)
    });
    each.collect()
}

fn own_server(
    at: &At<String>,
    server: &Server,
    env: &Named<At<String>>,
) -> Result<OwnServer, Fault> {
    let all = || server.env.0.iter().chain(&env.0);
    let places = all().any(|(_, value)| value.contains("{port}"));
    if !at.contains("{port}") && !at.contains("PORT") && !places {
        let rule = "write {port} where the command takes the port to listen on";
        return Err(fault(at, format!("does not say which port: {rule}")));
    }
    Ok(OwnServer {
        command: at.value.clone(),
        env: all().map(|(name, value)| (name.value.clone(), value.value.clone())).collect(),
        ready: server.ready.value,
    })
}

/// The side under test: the one whose axis varies. One at a time: which of two it was could not be
/// told.
fn side(file: &File, servers_vary: bool) -> Result<SideUnderTest, Fault> {
    let sweep = &file.sweep;
    let engines = sweep.engines.as_ref().filter(|list| list.len() > 1);
    let several = engines.map(|list| &list.place);
    let codecs = sweep.codecs.given().filter(|list| list.value.len() > 1).map(|list| &list.place);
    let clients_vary = several.or(codecs);
    let named = sweep.subject.as_ref().map(|at| at.value);
    match (named, clients_vary) {
        (Some(SideUnderTest::Client), _) | (None, Some(_)) if !servers_vary => {
            Ok(SideUnderTest::Client)
        }
        (Some(SideUnderTest::Client), _) => {
            let place = place_of(&sweep.server_engines).or(sweep.server_codecs.given_at());
            let rule = "with subject = \"client\" one server answers all clients: name one engine and \
                        one codec";
            Err(Fault::new(place.unwrap_or(&Place::whole()), rule))
        }
        (_, Some(place)) => {
            let (engine, codec) = (CLIENT.0.name(), CLIENT.1.name());
            let rule = format!("leave them out for {engine} and {codec}");
            let why = "with server_engines the server is under test, and one client loads it: name \
                       one engine and one codec, or";
            Err(Fault::new(place, format!("{why} {rule}")))
        }
        (_, None) => Ok(SideUnderTest::Server),
    }
}

/// The client that loads a server under test, unless the config names another.
pub(super) const CLIENT: (Engine, Codec) = (Engine::TokioSingle, Codec::Lean);

fn steps(
    file: &File,
    engines: &[ServerEngine],
    base_dir: &Path,
) -> Result<Vec<ServerStep>, Vec<Fault>> {
    let Some(list) = &file.server.step else { return Ok(Vec::new()) };
    if list.is_empty() || list.len() > MAX_STEPS {
        return Err(fault(list, format!("a handler has 1 to {MAX_STEPS} steps")).into());
    }
    if let Some(place) = file.target.service_time.given_at() {
        let rule = "with [[server.step]] the handler waits where a step of the kind `wait` says so";
        return Err(Fault::new(place, format!("has no effect here: {rule}")).into());
    }
    if engines.contains(&ServerEngine::Reference) {
        let rule = "leave `reference` out of sweep.server_engines, or give target.service_time \
                    instead of steps";
        let why = format!("`reference` has no handler, only a service time: {rule}");
        return Err(fault(list, why).into());
    }
    if engines == [ServerEngine::Own] {
        let rule = "name the engines of duel's that carry it out in sweep.server_engines";
        return Err(
            fault(list, format!("a server of yours has a handler of its own: {rule}")).into()
        );
    }
    each(list.value.iter().map(|at| step(at, base_dir)))
}

fn step(at: &At<StepKeys>, base_dir: &Path) -> Result<ServerStep, Fault> {
    let StepKeys { kind, time, calls, bytes, op, files, direct, sync, dir } = &at.value;
    let taken: &[&str] = match kind.value {
        ServerStepKind::Wait => &["time"],
        ServerStepKind::Call => &["calls"],
        ServerStepKind::Compute => &["bytes"],
        ServerStepKind::File => FILE_KEYS,
    };
    takes(&at.value, kind.value.name(), taken)?;
    let of_file = FileKeys { place: &at.place, bytes, op, files, direct, sync, dir };
    Ok(match kind.value {
        ServerStepKind::Wait => {
            let time = time.as_ref().ok_or_else(|| needs(&at.place, "time", "\"50ms\""))?;
            ServerStep::Wait { time: service_time(&time.value)? }
        }
        ServerStepKind::Call => ServerStep::Call { calls: number(calls) },
        ServerStepKind::File => ServerStep::File(of_file.resolve(base_dir)?),
        ServerStepKind::Compute => ServerStep::Compute { bytes: of_file.bytes()?.0 },
    })
}

fn upstream(file: &File, steps: &[ServerStep]) -> Result<Option<UpstreamPlan>, Fault> {
    let calls = steps.iter().position(|step| step.calls() > 0);
    match (calls, &file.server.upstream, &file.server.step) {
        (Some(nth), None, Some(list)) => {
            let rule = "such as service_time = \"50ms\" under [server.upstream]";
            Err(fault(&list.value[nth], format!("a `call` step needs an upstream to call, {rule}")))
        }
        (None, Some(at), _) => {
            let rule = "give the handler a [[server.step]] of the kind `call`";
            Err(fault(at, format!("nothing calls the upstream: {rule}")))
        }
        (_, upstream, _) => {
            upstream.as_ref().map(|at| plan_of(at, file.plan.timeout.0)).transpose()
        }
    }
}

/// A call may take as long as a request of the client may.
fn plan_of(at: &Upstream, timeout_ns: u64) -> Result<UpstreamPlan, Fault> {
    Ok(UpstreamPlan {
        service_time: service_time(&at.service_time.value)?,
        servers: number(&at.servers),
        body_bytes: at.body.0,
        timeout_ns,
    })
}
