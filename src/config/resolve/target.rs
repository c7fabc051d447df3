//! `[target]`: the embedded one, or a server of the user's.

mod url;

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::{Fault, axis_or, each, fault, number, together};
use crate::config::entry::Only;
use crate::config::keys::{self, Faulty, File, LawName, LawTable, ServiceTime};
use crate::config::node::{Place, shown};
use crate::config::read::{At, Duration, Key, Keyed as _, Several, place_of};
use crate::plan::endpoint::Identity;
use crate::plan::guard::Cap;
use crate::plan::sweep::{Target, Tls};
use crate::plan::target::{EmbeddedTarget, Law, Stall};
use crate::units::format_count;

/// The `Host` header towards the embedded target, whose address changes from trial to trial.
const EMBEDDED_HOST: &str = "localhost";

const URL_RULE: &str = "write http://host:port/path, https://host:port/path or unix:/socket";

/// Longest path of a Unix-domain socket: `sun_path` holds 108 bytes, the last of them zero (unix(7)).
const MAX_SOCKET_PATH_BYTES: usize = 107;

/// Longest file of certificate authorities: a system's whole bundle is a quarter of a MiB.
const MAX_CA_BYTES: u64 = 4 << 20;

/// A target, and what follows from it for the plan.
pub(super) struct ResolvedTarget {
    pub(super) target: Target,
    pub(super) host: String,
    /// What requests ask for where they do not say.
    pub(super) url_path: At<String>,
}

impl ResolvedTarget {
    fn is_embedded(&self) -> bool {
        matches!(self.target, Target::Embedded(_))
    }
}

/// The target, or each of several with its name, which is empty where there is one.
pub(super) fn resolve(
    file: &File,
    base_dir: &Path,
) -> Result<Vec<(String, ResolvedTarget)>, Vec<Fault>> {
    let Some(list) = &file.sweep.target else {
        return Ok(vec![(String::new(), resolve_one(&file.target, base_dir)?)]);
    };
    if list.len() < 2 || list.len() > super::MAX_VALUES {
        let most = format_count(super::MAX_VALUES as u64);
        return Err(fault(list, format!("targets are compared from two up to {most}")).into());
    }
    if let Some(url) = &file.target.url
        && list.value.iter().all(|at| at.url.is_some())
    {
        let why = "each of `sweep.target` has a url of its own: remove this one";
        return Err(fault(url, why).into());
    }
    let one = |(nth, at): (usize, &At<keys::SweepTarget>)| {
        let of = overridden(&file.target, at);
        together! {
            name = super::checked_name(&at.name);
            resolved = resolve_one(&of, base_dir);
        }
        if list.value[..nth].iter().any(|other| other.name.value == name) {
            return Err(fault(&at.name, "another target is called so too: rename one").into());
        }
        if let (Some(body), Some(_)) = (&at.body, &file.sweep.bodies) {
            let why = "give `sweep.bodies` or a body of each target, not both";
            return Err(fault(body, why).into());
        }
        if overridden(&file.target, &list.value[0]).url.is_some() == resolved.is_embedded() {
            let why = "a target that duel starts cannot be compared with one that has a url: they \
                       get other CPUs";
            return Err(fault(&at.name, why).into());
        }
        Ok((name, resolved))
    };
    each(list.value.iter().enumerate().map(one))
}

/// `[target]` with what one of several names itself.
fn overridden(target: &keys::Target, own: &keys::SweepTarget) -> keys::Target {
    let mut target = target.clone();
    macro_rules! lay_over {
        ($($key:ident)*) => {$(if let Some(at) = &own.$key {
            target.$key = at.clone().into();
        })*};
    }
    lay_over!(url unix_socket service_time servers body faults);
    target
}

fn resolve_one(target: &keys::Target, base_dir: &Path) -> Result<ResolvedTarget, Vec<Fault>> {
    if let Some(url) = &target.url {
        return external(url, target, base_dir);
    }
    if let Some((key, place)) = target.given_for(Only::External) {
        let message = format!("`{key}` needs `target.url`: it is for a server of yours");
        return Err(Fault::new(place, message).into());
    }
    Ok(ResolvedTarget {
        target: Target::Embedded(embedded(target)?),
        host: EMBEDDED_HOST.into(),
        url_path: At { value: "/".into(), place: Place::whole() },
    })
}

/// Refuses what is said of the embedded target beside the server that `own` names.
pub(super) fn nothing_embedded(target: &keys::Target, own: &At<String>) -> Result<(), Fault> {
    match target.given_for(Only::Embedded) {
        Some((key, place)) => {
            let own = &own.place.key;
            let message = format!("`{key}` belongs to the embedded target: remove it or `{own}`");
            Err(Fault::new(place, message))
        }
        None => Ok(()),
    }
}

fn external(
    url: &At<String>,
    target: &keys::Target,
    base_dir: &Path,
) -> Result<ResolvedTarget, Vec<Fault>> {
    together! {
        _alone = nothing_embedded(target, url);
        parts = url::split(url);
        allow = allowed(&target.allow);
    }
    let unix_socket = match (&target.unix_socket, parts.socket) {
        (Some(at), Some(_)) => {
            return Err(fault(at, "the url names a socket already: leave one of them out").into());
        }
        (Some(at), None) => Some(socket_path(at, at, base_dir)?),
        (None, Some(path)) => Some(socket_path(url, &path, base_dir)?),
        (None, None) => None,
    };
    let tls = tls(parts.tls, target, base_dir)?;
    Ok(ResolvedTarget {
        target: Target::External { authority: parts.authority, allow, unix_socket, tls },
        host: parts.host,
        url_path: At { value: parts.path, place: url.place.clone() },
    })
}

/// The path of a Unix-domain socket, relative ones to the config.
fn socket_path<T>(at: &At<T>, path: &str, base_dir: &Path) -> Result<PathBuf, Fault> {
    let wrong =
        |why: &str| Err(fault(at, format!("`{}` is not a socket's path: {why}", shown(path))));
    if path.is_empty() {
        return wrong("it is empty");
    }
    let path = base_dir.join(path);
    let bytes = path.as_os_str().as_bytes();
    if bytes.contains(&0) {
        return wrong("it holds a zero byte");
    }
    if bytes.len() > MAX_SOCKET_PATH_BYTES {
        return wrong(&format!("the kernel takes at most {MAX_SOCKET_PATH_BYTES} bytes"));
    }
    Ok(path)
}

/// TLS for an https url; the authorities are read here, so that a bad file is named before a run.
fn tls(https: bool, target: &keys::Target, base_dir: &Path) -> Result<Option<Tls>, Fault> {
    let (ca_file, insecure) = (&target.ca_file, &target.insecure);
    let (cert, key) = (&target.client_cert, &target.client_key);
    if !https {
        let client = place_of(cert).or(place_of(key));
        return match place_of(ca_file).or(insecure.given_at()).or(client) {
            Some(place) => Err(Fault::new(place, "needs an https:// url")),
            None => Ok(None),
        };
    }
    let insecure_too = insecure.value;
    let ca_file = match ca_file {
        Some(at) if insecure_too => {
            let why = "`target.insecure` accepts any certificate: leave one of them out";
            return Err(fault(at, why));
        }
        Some(at) => Some(authorities(at, base_dir)?),
        None => None,
    };
    Ok(Some(Tls { ca_file, insecure: insecure_too, client: identity(cert, key, base_dir)? }))
}

/// The client's own certificate; read here, so that a bad file is named before a run.
fn identity(
    cert: &Key<String>,
    key: &Key<String>,
    base_dir: &Path,
) -> Result<Option<Identity>, Fault> {
    let (cert, key) = match (cert, key) {
        (None, None) => return Ok(None),
        (Some(cert), Some(key)) => (cert, key),
        (Some(alone), None) => return Err(fault(alone, "needs `target.client_key` too")),
        (None, Some(alone)) => return Err(fault(alone, "needs `target.client_cert` too")),
    };
    let path = |at: &At<String>| base_dir.join(&at.value);
    let identity = Identity { cert: path(cert), key: path(key) };
    let wrong = |at: &At<String>, why| fault(at, format!("`{}` {why}", shown(at)));
    crate::codec::tls::chain(&identity).map_err(|why| wrong(cert, why))?;
    crate::codec::tls::private_key(&identity).map_err(|why| wrong(key, why))?;
    Ok(Some(identity))
}

fn authorities(at: &At<String>, base_dir: &Path) -> Result<PathBuf, Fault> {
    let path = base_dir.join(&at.value);
    let shown = shown(at);
    let bytes = crate::plan::values::read_regular(&path, MAX_CA_BYTES)
        .map_err(|error| fault(at, format!("`{shown}` cannot be read: {error}")))?;
    let pem = String::from_utf8_lossy(&bytes);
    crate::codec::tls::roots(&pem).map_err(|why| fault(at, format!("`{shown}` {why}")))?;
    Ok(path)
}

/// Checks the list of addresses that may be loaded; the driver compares it with the resolved one.
fn allowed(list: &Key<Several<String>>) -> Result<Vec<String>, Vec<Fault>> {
    axis_or(list, Vec::new(), |at| {
        let text = &at.value;
        match Cap::parse(text) {
            Ok(_) => Ok(text.clone()),
            Err(why) => Err(fault(at, format!("`{}` is {why:#}", shown(text)))),
        }
    })
}

fn embedded(target: &keys::Target) -> Result<EmbeddedTarget, Vec<Fault>> {
    together! {
        service_time = service_time(&target.service_time.value);
        faults = target.faults.as_ref().map_or(Ok(Default::default()), faults);
    }
    Ok(EmbeddedTarget {
        service_time,
        servers: number(&target.servers),
        processes: number(&target.processes),
        body_bytes: target.body.0,
        faults,
    })
}

pub(super) fn service_time(time: &ServiceTime) -> Result<Law, Fault> {
    match time {
        ServiceTime::Fixed(time) => Ok(Law::Fixed { ns: time.0 }),
        ServiceTime::Law(table) => law(table),
    }
}

fn law(table: &LawTable) -> Result<Law, Fault> {
    let LawTable { law, mean, min, max, sigma } = table;
    let name = law.value;
    let wanted: &[&str] = match name {
        LawName::Fixed | LawName::Exponential => &["mean"],
        LawName::Uniform => &["min", "max"],
        LawName::Lognormal => &["mean", "sigma"],
    };
    let rule = format!("this law takes {}", wanted.join(" and "));
    let given = || table.given().filter(|(key, _)| *key != "law");
    if let Some((key, place)) = given().find(|(key, _)| !wanted.contains(key)) {
        return Err(Fault::new(place, format!("`{key}` is not its key: {rule}")));
    }
    if let Some(key) = wanted.iter().find(|key| given().all(|(known, _)| known != **key)) {
        return Err(fault(law, format!("needs `{key}`: {rule}")));
    }
    let ns = |key: &Key<Duration>| key.as_ref().map_or(0, |at| at.0);
    if let (Some(at), LawName::Exponential | LawName::Lognormal) = (mean, name)
        && at.0 == 0
    {
        return Err(Fault::must(&at.place, "be above 0, not `0s`"));
    }
    Ok(match name {
        LawName::Fixed => Law::Fixed { ns: ns(mean) },
        LawName::Exponential => Law::Exponential { mean_ns: ns(mean) },
        LawName::Lognormal => {
            Law::Lognormal { mean_ns: ns(mean), sigma: sigma.as_ref().map_or(0.0, |at| at.value) }
        }
        LawName::Uniform => {
            let (min_ns, max_ns) = (ns(min), ns(max));
            if min_ns > max_ns {
                return Err(fault(law, "`min` is above `max`"));
            }
            Law::Uniform { min_ns, max_ns }
        }
    })
}

fn faults(at: &At<Faulty>) -> Result<crate::plan::target::InjectedFaults, Fault> {
    let (error_rate, reset_rate) = (at.error_rate.0, at.reset_rate.0);
    if error_rate + reset_rate > 1.0 {
        return Err(fault(at, "`error_rate` and `reset_rate` together are above 1"));
    }
    let stall = match &at.stall {
        Some(stall) if stall.r#for.0 >= stall.every.0 => {
            return Err(fault(&stall.r#for, "`for` must be shorter than `every`"));
        }
        stall => stall.as_ref().map(|at| Stall { every_ns: at.every.0, for_ns: at.r#for.0 }),
    };
    Ok(crate::plan::target::InjectedFaults { error_rate, reset_rate, stall })
}
