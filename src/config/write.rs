//! A resolved sweep → a config that resolves to it again, for the run after this one.
//!
//! What was written is read back and compared, so that a key which is not written here is an error
//! and never another sweep.

use std::path::Path;

use anyhow::{anyhow, bail};
use serde::Serialize;
use serde_json::Value;

use super::entry::{Entry, Kind};
use super::keys::{
    Machine, Plan, Request, Search, Server, ServerStep, Slo, Step, SweepTarget, Upstream,
};
use super::keys::{Sweep as SweepKeys, Target as TargetKeys};
use super::read::Keyed as _;
use crate::plan::server::{OwnServer, ServerEngine, ServerSetting};
use crate::plan::sweep::{MemoryTrials, Sweep, is_masked};
use crate::plan::target::{EmbeddedTarget, Target};
use crate::plan::values::RequestValue;
use crate::plan::{Arrivals, Extent, RequestTemplate, TrialPlan};
use crate::units::{duration_literal, format_share, size_literal};

fn quoted(text: impl Into<String>) -> String {
    toml::Value::String(text.into()).to_string()
}

fn list<T>(values: &[T], one: impl Fn(&T) -> String) -> String {
    format!("[{}]", values.iter().map(one).collect::<Vec<_>>().join(", "))
}

fn time(ns: u64) -> String {
    quoted(duration_literal(ns))
}

fn path(path: &Path) -> String {
    quoted(path.display().to_string())
}

fn json(value: &impl Serialize) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}

/// A resolved value as the config has it; `None` where that is of another shape.
fn literal(kind: Kind, value: &Value) -> Option<String> {
    match (kind, value) {
        (Kind::Named(_), _) => None,
        (_, Value::Array(all)) if !all.is_empty() => {
            let all: Option<Vec<String>> = all.iter().map(|one| literal(kind, one)).collect();
            Some(format!("[{}]", all?.join(", ")))
        }
        (Kind::Duration, _) => value.as_u64().map(time),
        (Kind::Size, _) => value.as_u64().map(|bytes| quoted(size_literal(bytes))),
        (Kind::Rate | Kind::Share | Kind::Number, _) => value.as_f64().map(|n| n.to_string()),
        // Of laws, the fixed one is a time alone.
        (Kind::Either(..), Value::Object(law)) if law.contains_key("ns") => {
            literal(Kind::Duration, &law["ns"])
        }
        (Kind::Table(keys) | Kind::Either(_, keys), Value::Object(_)) => {
            let keys = given(keys, value).map(|(name, text)| format!("{name} = {text}"));
            let keys = keys.collect::<Vec<_>>().join(", ");
            (!keys.is_empty()).then(|| format!("{{ {keys} }}"))
        }
        (_, Value::String(text)) => Some(quoted(text)),
        (_, Value::Bool(_) | Value::Number(_)) => Some(value.to_string()),
        _ => None,
    }
}

/// The keys of a table whose values are not the default. A value stands in the resolved sweep under the
/// name of its key, with or without its unit.
fn given(keys: &[Entry], values: &Value) -> impl Iterator<Item = (&'static str, String)> {
    keys.iter().filter_map(|entry| {
        let named = |unit| values.get(format!("{}{unit}", entry.name()));
        let value = ["", "_ns", "_bytes", "_per_s"].into_iter().find_map(named)?;
        let text = literal(entry.kind, value)?;
        let number = |text: &str| text.parse::<f64>().ok();
        let alike = number(&text).is_some() && number(&text) == number(entry.default);
        (!alike && text != entry.default).then(|| (entry.name(), text))
    })
}

#[derive(Default)]
struct Text(String);

impl Text {
    fn table(&mut self, name: &str) {
        self.0 += &format!("\n{name}\n");
    }

    fn key(&mut self, name: &str, value: impl std::fmt::Display) {
        self.0 += &format!("{name} = {value}\n");
    }

    fn some<T>(&mut self, name: &str, value: Option<T>, one: impl FnOnce(T) -> String) {
        if let Some(value) = value {
            self.key(name, one(value));
        }
    }

    /// Every key that is written as it is resolved.
    fn keys(&mut self, keys: &[Entry], values: &Value) {
        given(keys, values).for_each(|(name, text)| self.key(name, text));
    }

    fn sweep(&mut self, sweep: &Sweep) {
        self.table("[sweep]");
        let axes = &sweep.axes;
        self.keys(SweepKeys::KEYS, &json(axes));
        if !axes.knee_shares.is_empty() {
            let share = |share: &f64| quoted(format_share(*share).replace(' ', ""));
            self.key("rates", list(&axes.knee_shares, share));
        }
        let mut values = json(sweep);
        if let Some(first) = axes.server_engines.first().filter(|_| sweep.tests_server()) {
            values["baseline"] = json(first);
        }
        values["memory"] = match sweep.memory {
            MemoryTrials::Only => "only".into(),
            other => (other == MemoryTrials::Also).into(),
        };
        if axes.server_engines.is_empty() {
            values["subject"].take();
        }
        values["trials"].take();
        self.keys(SweepKeys::KEYS, &values);
        match sweep.precision {
            _ if sweep.search.is_some() && axes.knee_shares.is_empty() => {}
            Some(precision) => {
                self.key("precision", precision.half_width);
                self.key("budget", time(precision.budget_ns));
                self.key("max_blocks", sweep.trials);
            }
            None => self.key("trials", sweep.trials),
        }
        self.targets(sweep);
    }

    /// Targets that are compared: what each has otherwise than the first.
    fn targets(&mut self, sweep: &Sweep) {
        let owns = sweep.server.as_ref().map_or(&[][..], |server| &server.owns);
        for (at, swept) in sweep.axes.targets.iter().enumerate() {
            self.table("[[sweep.target]]");
            self.key("name", quoted(&swept.name));
            match (&swept.target, owns.get(at)) {
                (_, Some(own)) => self.command(own),
                (Target::Embedded(embedded), None) => {
                    self.embedded(SweepTarget::KEYS, embedded, sweep);
                }
                (Target::External { .. }, None) => self.external(&swept.target),
            }
        }
    }

    fn target(&mut self, sweep: &Sweep) {
        self.table("[target]");
        let engines = &sweep.axes.server_engines;
        let own_only = !engines.is_empty() && engines.iter().all(|e| *e == ServerEngine::Own);
        match &sweep.target {
            // Beside a command alone nothing is said of the embedded target.
            Target::Embedded(_) if own_only => {}
            Target::Embedded(embedded) => self.embedded(TargetKeys::KEYS, embedded, sweep),
            Target::External { allow, tls, .. } => {
                self.external(&sweep.target);
                if !allow.is_empty() {
                    self.key("allow", list(allow, |a| quoted(a)));
                }
                if let Some(tls) = tls {
                    self.keys(TargetKeys::KEYS, &json(tls));
                    if let Some(client) = &tls.client {
                        self.key("client_cert", path(&client.cert));
                        self.key("client_key", path(&client.key));
                    }
                }
            }
        }
    }

    fn external(&mut self, target: &Target) {
        let Target::External { authority, unix_socket, tls, .. } = target else { return };
        let scheme = if tls.is_some() { "https" } else { "http" };
        self.key("url", quoted(format!("{scheme}://{authority}")));
        self.some("unix_socket", unix_socket.as_deref(), path);
    }

    fn embedded(&mut self, keys: &[Entry], target: &EmbeddedTarget, sweep: &Sweep) {
        let mut values = json(target);
        // Steps say how long a handler waits, and its engine how many it serves at once.
        if sweep.server.as_ref().is_some_and(|server| !server.steps.is_empty()) {
            values["service_time"].take();
        }
        if target.servers == 0 && sweep.server.is_some() {
            values["servers"].take();
        }
        if !sweep.axes.bodies.is_empty() {
            values["body_bytes"].take();
        }
        if target.faults == Default::default() {
            values["faults"].take();
        }
        self.keys(keys, &values);
    }

    fn command(&mut self, own: &OwnServer) {
        self.key("command", quoted(&own.command));
        let variable =
            |(name, value): &(String, String)| format!("{} = {}", quoted(name), quoted(value));
        let env: Vec<String> = own.env.iter().map(variable).collect();
        if !env.is_empty() {
            self.key("env", format!("{{ {} }}", env.join(", ")));
        }
    }

    fn server(&mut self, server: &ServerSetting) {
        self.table("[server]");
        let mut values = json(server);
        values["upstream"].take();
        values["ready"] = json(&server.own.as_ref().map(|own| own.ready));
        self.keys(Server::KEYS, &values);
        self.key("stack_size", quoted(size_literal(server.stack_bytes)));
        if let Some(own) = server.own.as_ref().filter(|_| server.owns.is_empty()) {
            self.command(own);
        }
        if let Some(upstream) = &server.upstream {
            self.table("[server.upstream]");
            self.keys(Upstream::KEYS, &json(upstream));
        }
        for step in &server.steps {
            self.table("[[server.step]]");
            self.keys(ServerStep::KEYS, &json(step));
        }
    }

    fn plan(&mut self, plan: &TrialPlan) {
        self.table("[plan]");
        self.keys(Plan::KEYS, &json(plan));
        match plan.extent {
            _ if !plan.stages.is_empty() || plan.arrivals == Arrivals::Trace => {}
            Extent::Requests(n) => self.key("requests", n),
            Extent::DurationNs(ns) => self.key("duration", time(ns)),
        }
        for (name, value) in &plan.values {
            self.table(&format!("[plan.values.{name}]"));
            match value {
                RequestValue::Counter { start, step } => {
                    self.key("counter", format!("{{ start = {start}, step = {step} }}"));
                }
                RequestValue::Random { min, max } => self.key("random", format!("[{min}, {max}]")),
                RequestValue::Choice { path, .. } => self.key("choice", quoted(path)),
            }
        }
        for request in &plan.mix {
            self.request(request);
        }
    }

    fn request(&mut self, request: &RequestTemplate) {
        self.table("[[plan.request]]");
        self.keys(Request::KEYS, &json(request));
        if !request.headers.is_empty() {
            let mut all: Vec<(&str, Vec<&str>)> = Vec::new();
            for (header, value) in &request.headers {
                match all.iter_mut().find(|(known, _)| known == header) {
                    Some((_, values)) => values.push(value),
                    None => all.push((header, vec![value])),
                }
            }
            let one = |(header, values): &(&str, Vec<&str>)| {
                format!("{} = {}", quoted(*header), list(values, |v| quoted(*v)))
            };
            let all: Vec<String> = all.iter().map(one).collect();
            self.key("headers", format!("{{ {} }}", all.join(", ")));
        }
        if let Some(file) = &request.body_file {
            self.key("body_file", quoted(&file.path));
        } else if let Ok(body) = std::str::from_utf8(&request.body)
            && !body.is_empty()
        {
            self.key("body", quoted(body));
        }
        for step in &request.steps {
            self.table("[[plan.request.step]]");
            self.keys(Step::KEYS, &json(step));
        }
    }

    fn bounds(&mut self, sweep: &Sweep) {
        if sweep.machine != Default::default() {
            self.table("[machine]");
            self.keys(Machine::KEYS, &json(&sweep.machine));
        }
        if let Some(slo) = &sweep.slo {
            self.table("[slo]");
            self.keys(Slo::KEYS, &json(slo));
        }
        if let Some(search) = &sweep.search {
            self.table("[search]");
            self.keys(Search::KEYS, &json(search));
            self.key("min_rate", search.min_per_s);
            self.key("max_rate", search.max_per_s);
        }
    }
}

fn difference(at: &str, a: &Value, b: &Value) -> Option<String> {
    match (a, b) {
        _ if a == b => None,
        (Value::Object(x), Value::Object(y)) => x
            .keys()
            .chain(y.keys())
            .find_map(|key| difference(&format!("{at}.{key}"), &a[key.as_str()], &b[key.as_str()])),
        _ => Some(format!(": {}", at.trim_start_matches('.'))),
    }
}

/// The text of a config that resolves to `sweep`; expectations, which decide nothing, are left out.
///
/// # Errors
/// What the text would lose: a secret that is kept nowhere, or a key that is not written here.
pub(crate) fn text(sweep: &Sweep) -> anyhow::Result<String> {
    let mut sweep = sweep.clone();
    sweep.expect.clear();
    let mut headers = sweep.plan.mix.iter().flat_map(|request| &request.headers);
    if let Some((header, _)) = headers.find(|(header, value)| is_masked(header, value)) {
        bail!("the value of the header `{header}` is a secret that no run keeps");
    }
    let mut text = Text::default();
    text.key("name", quoted(&sweep.name));
    text.target(&sweep);
    text.plan(&sweep.plan);
    text.sweep(&sweep);
    if let Some(server) = &sweep.server {
        text.server(server);
    }
    text.bounds(&sweep);
    let again = super::parse(&text.0, "next.toml", &[], Path::new("."))
        .map_err(|error| anyhow!("its config cannot be written out: {error}"))?;
    if sweep.axes.server_engines.is_empty() {
        // Runs of before there was a choice say nothing of it, and without servers it decides nothing.
        sweep.subject = again.subject;
    }
    // Of a run that was read back there is no more of a body's file than its digest.
    let (again, sweep) = (again.stored(false), sweep.stored(false));
    if again != sweep {
        let at = difference("", &json(&sweep), &json(&again)).unwrap_or_default();
        bail!("its config holds what cannot be written out{at}");
    }
    Ok(text.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each shipped config is written as it was read, or refused, never written as another.
    #[test]
    fn shipped_configs_are_written_as_they_were_read() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs");
        let (mut written, mut refused) = (0, vec![]);
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let Ok(sweep) = super::super::load(&path, &[]) else { continue };
            match text(&sweep) {
                Ok(_) => written += 1,
                Err(error) => refused.push(format!("{}: {error}", path.display())),
            }
        }
        assert!(written >= 12 && refused.is_empty(), "{written} written; {refused:#?}");
    }

    #[test]
    fn what_would_be_lost_is_an_error() {
        let of = |more: &str| {
            let sweep = super::super::parse(more, "x.toml", &[], Path::new(".")).unwrap();
            text(&sweep.masked()).map_err(|error| error.to_string())
        };
        assert!(of("").is_ok());
        // A key needs no line here: it is written as it is resolved.
        let renderings = "[plan]\nvalues = { id = { random = [0, 9] } }\nrenderings = 7\n\
            [[plan.request]]\npath = \"/{id}\"";
        assert_eq!(of(renderings).err(), None);
        let all = "[target]\nservice_time = { law = \"lognormal\", mean = \"5ms\", sigma = 1 }\n\
            faults = { error_rate = 0.01, stall = { every = \"5s\", for = \"200ms\" } }\n\
            [[plan.request]]\nheaders = { zeta = [\"1\", \"2\"], alpha = \"\\\"x\" }\nbody = \"a\\nb\"\n\
            method = \"POST\"\n[machine]\nworker_cpus = [1, 0]\n[slo]\np99_9 = \"1500us\"\n";
        assert_eq!(of(all).err(), None);
        let secret = "[[plan.request]]\nheaders = { authorization = \"x\" }";
        assert!(of(secret).unwrap_err().contains("`authorization` is a secret"));
        let values = "[plan.values]\nid = { random = [0, 9] }\nn = { counter = { start = 7 } }\n\
            [[plan.request]]\npath = \"/{id}{n}\"\n[[plan.request.step]]\nkind = \"http\"\n\
            [[plan.request.step]]\nkind = \"file\"\nbytes = \"8KiB\"\nop = \"write\"\nsync = true\n\
            [[plan.request.step]]\nkind = \"compute\"\nbytes = \"1KiB\"";
        assert_eq!(of(values).err(), None);
        let rings = "[sweep]\nengines = [\"uring\"]\nuring_batch = [1, 16]\nuring_linger = \"50us\"\n\
            uring_receive = \"one-shot\"\nbodies = [1, 2]";
        assert_eq!(of(rings).err(), None);
        let server = "[sweep]\nserver_engines = [\"pool\", \"own\", \"tokio\"]\nbaseline = \"tokio\"\n\
            server_codecs = [\"hyper\"]\n[server]\npool = \"requests\"\npool_size = 3\npermits = 2\n\
            command = \"serve {port}\"\nenv = { A = \"b\" }\nready = \"tcp\"\n[[server.step]]\n\
            kind = \"wait\"\ntime = \"5ms\"\n[[server.step]]\nkind = \"compute\"\nbytes = \"1KiB\"";
        assert_eq!(of(server).err(), None);
        let calls = "[sweep]\nserver_engines = [\"threads\"]\nfan_out = [1, 4]\n[server]\ntls = true\n[server.upstream]\n\
            service_time = \"5ms\"\nservers = 3\n[[server.step]]\nkind = \"call\"\ncalls = 4\n\
            [[server.step]]\nkind = \"file\"\nbytes = \"4KiB\"\nfiles = 2";
        assert_eq!(of(calls).err(), None);
        let builds = "[server]\nenv = { A = \"b\" }\nready = \"tcp\"\n[[sweep.target]]\nname = \"old\"\n\
            command = \"./old {port}\"\n[[sweep.target]]\nname = \"new\"\ncommand = \"./new {port}\"\n\
            env = { C = \"d\" }";
        assert_eq!(of(builds).err(), None);
        let clients = "[sweep]\nserver_engines = [\"tokio\"]\nengines = [\"threads\", \"uring\"]";
        assert_eq!(of(clients).err(), None);
        let two = "[plan]\narrivals = \"poisson\"\nstages = [{ duration = \"1s\", from = 0, to = 50 }]\n\
            [[sweep.target]]\nname = \"a\"\n[[sweep.target]]\nname = \"b\"\nservice_time = \"1ms\"\n\
            faults = { reset_rate = 0.5 }";
        assert_eq!(of(two).err(), None);
        let folder = tempfile::tempdir().unwrap();
        let body = folder.path().join("body");
        std::fs::write(&body, "words").unwrap();
        let file = format!("[[plan.request]]\nbody_file = {}", path(&body));
        assert_eq!(of(&file).err(), None);
        let kept = super::super::parse(&file, "x.toml", &[], Path::new(".")).unwrap().stored(false);
        assert!(kept.plan.mix[0].body.is_empty() && text(&kept).is_ok(), "a run that was read");
        std::fs::write(&body, "others").unwrap();
        assert!(text(&kept).unwrap_err().to_string().contains("cannot be written out"));
        let path = "[target]\nurl = \"http://127.0.0.1:1/\"\n[[sweep.target]]\nname = \"a\"\n\
            [[sweep.target]]\nname = \"b\"\nurl = \"http://127.0.0.1:1/other\"";
        assert!(of(path).unwrap_err().contains("cannot be written out"));
    }
}
