//! A resolved sweep → a config that resolves to it again, for the run after this one.
//!
//! What was written is read back and compared, so that a key which is not written here is an error
//! and never another sweep.

use std::path::Path;

use crate::plan::cell::Axes;
use crate::plan::server::{OwnServer, ServerSetting, ServerStep, UpstreamPlan};
use crate::plan::stages::Stage;
use crate::plan::steps::{FileStep, StepPlan};
use crate::plan::sweep::{MemoryTrials, Sweep};
use crate::plan::target::{EmbeddedTarget, Law, Target};
use crate::plan::values::RequestValue;
use crate::plan::{Arrivals, Extent, Pacer, RequestTemplate, TrialPlan};
use crate::units::{duration_literal, format_share, size_literal};

/// A text as TOML quotes it.
fn quoted(text: impl Into<String>) -> String {
    toml::Value::String(text.into()).to_string()
}

fn list<T>(values: &[T], one: impl Fn(&T) -> String) -> String {
    format!("[{}]", values.iter().map(one).collect::<Vec<_>>().join(", "))
}

fn time(ns: u64) -> String {
    quoted(duration_literal(ns))
}

fn size(bytes: &u64) -> String {
    quoted(size_literal(*bytes))
}

/// A name as serde writes it in JSON, which configs read.
fn name<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_value(value).ok().and_then(|v| Some(quoted(v.as_str()?))).unwrap_or_default()
}

fn kind<T: serde::Serialize>(step: &T) -> String {
    let json = serde_json::to_value(step).unwrap_or_default();
    quoted(json["kind"].as_str().unwrap_or_default())
}

fn path(path: &Path) -> String {
    quoted(path.display().to_string())
}

/// A time, or a law of times.
fn law(law: &Law) -> String {
    let table = |law: &str, rest: String| format!("{{ law = \"{law}\", {rest} }}");
    match *law {
        Law::Fixed { ns } => time(ns),
        Law::Uniform { min_ns, max_ns } => {
            table("uniform", format!("min = {}, max = {}", time(min_ns), time(max_ns)))
        }
        Law::Exponential { mean_ns } => table("exponential", format!("mean = {}", time(mean_ns))),
        Law::Lognormal { mean_ns, sigma } => {
            table("lognormal", format!("mean = {}, sigma = {sigma:?}", time(mean_ns)))
        }
    }
}

/// A table under way.
#[derive(Default)]
struct Text(String);

impl Text {
    fn table(&mut self, name: &str) {
        self.0 += &format!("\n{name}\n");
    }

    fn key(&mut self, name: &str, value: impl std::fmt::Display) {
        self.0 += &format!("{name} = {value}\n");
    }

    fn key_if(&mut self, wanted: bool, name: &str, value: impl std::fmt::Display) {
        if wanted {
            self.key(name, value);
        }
    }

    fn some<T>(&mut self, name: &str, value: Option<T>, one: impl FnOnce(T) -> String) {
        if let Some(value) = value {
            self.key(name, one(value));
        }
    }

    /// A list, unless it is empty.
    fn list<T>(&mut self, name: &str, values: &[T], one: impl Fn(&T) -> String) {
        self.key_if(!values.is_empty(), name, list(values, one));
    }

    fn axes(&mut self, axes: &Axes) {
        let number = |n: &u32| n.to_string();
        self.list("engines", &axes.engines, name);
        self.list("codecs", &axes.codecs, name);
        self.list("lanes", &axes.lanes, number);
        self.list("processes", &axes.processes, number);
        self.list("cpus", &axes.cpus, number);
        self.list("rates", &axes.rates_per_s, f64::to_string);
        let share = |share: &f64| quoted(format_share(*share).replace(' ', ""));
        self.list("rates", &axes.knee_shares, share);
        self.list("bodies", &axes.bodies, size);
        self.list("stack_sizes", &axes.stack_sizes_bytes, size);
        self.list("rayon_threads", &axes.rayon_threads, name);
        self.list("allocators", &axes.allocators, name);
        self.list("offload", &axes.offload, name);
        self.list("fan_out", &axes.fan_out, number);
        self.list("uring_receive", &axes.uring_receive, name);
        self.list("uring_batch", &axes.uring_batch, number);
        self.list("uring_linger", &axes.uring_linger_ns, |ns| time(*ns));
    }

    fn sweep(&mut self, sweep: &Sweep) {
        self.table("[sweep]");
        let axes = &sweep.axes;
        self.axes(axes);
        if !axes.server_engines.is_empty() {
            self.key("subject", name(&sweep.subject));
            self.list("server_engines", &axes.server_engines, name);
            self.list("server_codecs", &axes.server_codecs, name);
        }
        match axes.server_engines.first().filter(|_| sweep.tests_server()) {
            Some(first) => self.key("baseline", name(first)),
            None => self.key("baseline", name(&sweep.baseline)),
        }
        self.key("equal_within", sweep.equal_within);
        if sweep.search.is_some() && axes.knee_shares.is_empty() {
            return self.targets(sweep);
        }
        match sweep.precision {
            Some(precision) => {
                self.key("precision", precision.half_width);
                self.key("budget", time(precision.budget_ns));
                self.key("max_blocks", sweep.trials);
            }
            None => self.key("trials", sweep.trials),
        }
        self.key_if(sweep.aa, "aa", true);
        self.key_if(sweep.idle, "idle", true);
        self.key_if(sweep.syscalls, "syscalls", true);
        match sweep.memory {
            MemoryTrials::None => {}
            MemoryTrials::Also => self.key("memory", true),
            MemoryTrials::Only => self.key("memory", quoted("only")),
        }
        self.key_if(sweep.noise_repeats > 0, "noise_repeats", sweep.noise_repeats);
        self.targets(sweep);
        for expected in &sweep.expect_failed {
            self.table("[[sweep.expect_failed]]");
            self.key("engine", name(&expected.engine));
            self.some("lanes", expected.lanes, |n| n.to_string());
            self.some("limit", expected.limit.as_deref(), quoted);
        }
    }

    /// Targets that are compared: what each has otherwise than the first.
    fn targets(&mut self, sweep: &Sweep) {
        let owns = sweep.server.as_ref().map_or(&[][..], |server| &server.owns);
        for (at, swept) in sweep.axes.targets.iter().enumerate() {
            self.table("[[sweep.target]]");
            self.key("name", quoted(&swept.name));
            match (&swept.target, owns.get(at)) {
                (_, Some(own)) => self.command(own),
                (Target::Embedded(embedded), None) => self.embedded(embedded, sweep),
                (Target::External { .. }, None) => self.external(&swept.target),
            }
        }
    }

    fn target(&mut self, sweep: &Sweep) {
        self.table("[target]");
        match &sweep.target {
            Target::Embedded(embedded) => {
                self.embedded(embedded, sweep);
                self.key("processes", embedded.processes);
            }
            Target::External { allow, tls, .. } => {
                self.external(&sweep.target);
                self.list("allow", allow, |a| quoted(a));
                if let Some(tls) = tls {
                    self.key_if(tls.insecure, "insecure", true);
                    self.some("ca_file", tls.ca_file.as_deref(), path);
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

    fn embedded(&mut self, target: &EmbeddedTarget, sweep: &Sweep) {
        // Steps say how long a handler waits, and its engine how many it serves at once.
        let has_steps = sweep.server.as_ref().is_some_and(|server| !server.steps.is_empty());
        self.key_if(!has_steps, "service_time", law(&target.service_time));
        self.key_if(target.servers > 0 || sweep.server.is_none(), "servers", target.servers);
        self.key_if(sweep.axes.bodies.is_empty(), "body", size(&target.body_bytes));
        let faults = &target.faults;
        if *faults != Default::default() {
            let rates = format!(
                "error_rate = {:?}, reset_rate = {:?}",
                faults.error_rate, faults.reset_rate
            );
            let stall = faults.stall.as_ref().map_or(String::new(), |stall| {
                let (every, long) = (time(stall.every_ns), time(stall.for_ns));
                format!(", stall = {{ every = {every}, for = {long} }}")
            });
            self.key("faults", format!("{{ {rates}{stall} }}"));
        }
    }

    fn command(&mut self, own: &OwnServer) {
        self.key("command", quoted(&own.command));
        let variable =
            |(name, value): &(String, String)| format!("{} = {}", quoted(name), quoted(value));
        let env: Vec<String> = own.env.iter().map(variable).collect();
        self.key_if(!env.is_empty(), "env", format!("{{ {} }}", env.join(", ")));
    }

    /// The server under test.
    fn server(&mut self, server: &ServerSetting) {
        self.table("[server]");
        self.key("pool", name(&server.pool));
        self.some("pool_size", server.pool_size, |n| n.to_string());
        self.key("stack_size", size(&server.stack_bytes));
        self.key_if(server.tls, "tls", true);
        self.some("permits", server.permits, |n| n.to_string());
        if let Some(own) = &server.own {
            self.key("ready", name(&own.ready));
            if server.owns.is_empty() {
                self.command(own);
            }
        }
        if let Some(UpstreamPlan { service_time, servers, body_bytes, .. }) = &server.upstream {
            let (time, body) = (law(service_time), size(body_bytes));
            let upstream =
                format!("{{ service_time = {time}, servers = {servers}, body = {body} }}");
            self.key("upstream", upstream);
        }
        for step in &server.steps {
            self.table("[[server.step]]");
            self.key("kind", kind(step));
            match step {
                ServerStep::Wait { time } => self.key("time", law(time)),
                ServerStep::Compute { bytes } => self.key("bytes", size(bytes)),
                ServerStep::Call { calls } => self.key("calls", calls),
                ServerStep::File(file) => self.file(file),
            }
        }
    }

    fn plan(&mut self, plan: &TrialPlan) {
        self.table("[plan]");
        self.key("arrivals", name(&plan.arrivals));
        match plan.extent {
            _ if !plan.stages.is_empty() || plan.arrivals == Arrivals::Trace => {}
            Extent::Requests(n) => self.key("requests", n),
            Extent::DurationNs(ns) => self.key("duration", time(ns)),
        }
        self.key("warmup", time(plan.warmup_ns));
        self.key("timeout", time(plan.timeout_ns));
        self.key("seed", plan.seed);
        self.key_if(plan.pacer != Pacer::Precise, "pacer", name(&plan.pacer));
        self.key_if(!plan.keep_alive, "keep_alive", false);
        self.key_if(plan.heartbeat, "heartbeat", true);
        self.list("expect_status", &plan.expect_status, u16::to_string);
        let stage = |stage: &Stage| {
            let (time, from, to) = (time(stage.duration_ns), stage.from_per_s, stage.to_per_s);
            format!("{{ duration = {time}, from = {from:?}, to = {to:?} }}")
        };
        self.list("stages", &plan.stages, stage);
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
        self.some("name", request.name.as_deref(), quoted);
        self.some("p99", request.p99_ns, time);
        self.key("method", quoted(&request.method));
        self.key("path", quoted(&request.path));
        self.key("weight", request.weight);
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
        if let Ok(body) = std::str::from_utf8(&request.body)
            && !body.is_empty()
        {
            self.key("body", quoted(body));
        }
        for step in &request.steps {
            self.table("[[plan.request.step]]");
            self.key("kind", kind(step));
            match step {
                StepPlan::Http => {}
                StepPlan::Compute { bytes } => self.key("bytes", size(bytes)),
                StepPlan::File(file) => self.file(file),
            }
        }
    }

    fn file(&mut self, file: &FileStep) {
        self.key("op", name(&file.op));
        self.key("bytes", size(&file.bytes));
        self.key("files", file.files);
        self.key_if(file.direct, "direct", true);
        self.key_if(file.sync, "sync", true);
        self.some("dir", file.dir.as_deref(), path);
    }

    fn bounds(&mut self, sweep: &Sweep) {
        let cpus = [
            ("worker_cpus", &sweep.machine.worker_cpus),
            ("target_cpus", &sweep.machine.target_cpus),
        ];
        if cpus.iter().any(|(_, cpus)| cpus.is_some()) {
            self.table("[machine]");
            for (key, cpus) in cpus {
                self.some(key, cpus.as_ref(), |cpus| list(cpus, u32::to_string));
            }
        }
        if let Some(slo) = &sweep.slo {
            self.table("[slo]");
            for (key, ns) in [
                ("p50", slo.p50_ns),
                ("p90", slo.p90_ns),
                ("p99", slo.p99_ns),
                ("p99_9", slo.p99_9_ns),
            ] {
                self.some(key, ns, time);
            }
            self.some("error_rate", slo.error_rate, |rate| format!("{rate:?}"));
        }
        if let Some(search) = &sweep.search {
            self.table("[search]");
            self.key("tolerance", format!("{:?}", search.tolerance));
            self.key("probes", search.probes);
            self.key("trials", search.trials);
            self.key("max_trials", search.max_trials);
            self.key("min_rate", search.min_per_s);
            self.key("max_rate", search.max_per_s);
        }
    }
}

/// Where two values differ first.
fn difference(at: &str, a: &serde_json::Value, b: &serde_json::Value) -> Option<String> {
    use serde_json::Value::Object;
    match (a, b) {
        _ if a == b => None,
        (Object(x), Object(y)) => x
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
pub(crate) fn text(sweep: &Sweep) -> Result<String, String> {
    let mut sweep = sweep.clone();
    sweep.expect.clear();
    let masked = |(header, value): &(String, String)| {
        crate::plan::sweep::is_secret_header(header) && value == "***"
    };
    if let Some((header, _)) =
        sweep.plan.mix.iter().flat_map(|r| &r.headers).find(|header| masked(header))
    {
        return Err(format!("the value of the header `{header}` is a secret that no run keeps"));
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
        .map_err(|error| format!("its config cannot be written out: {error}"))?;
    if sweep.axes.server_engines.is_empty() {
        // Runs of before there was a choice say nothing of it, and without servers it decides nothing.
        sweep.subject = again.subject;
    }
    match again == sweep {
        true => Ok(text.0),
        false => {
            let json = |sweep: &Sweep| serde_json::to_value(sweep).unwrap_or_default();
            let at = difference("", &json(&sweep), &json(&again)).unwrap_or_default();
            Err(format!("its config holds what cannot be written out{at}"))
        }
    }
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
            text(&sweep.masked())
        };
        assert!(of("").is_ok());
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
        let path = "[target]\nurl = \"http://127.0.0.1:1/\"\n[[sweep.target]]\nname = \"a\"\n\
            [[sweep.target]]\nname = \"b\"\nurl = \"http://127.0.0.1:1/other\"";
        assert!(of(path).unwrap_err().contains("cannot be written out"));
    }
}
