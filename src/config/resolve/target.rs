//! `[target]`: the embedded one, or a server of the user's.

mod url;

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use toml::Spanned;

use super::{Fault, MAX_PROCESSES, MAX_SIZE_BYTES, duration, fault, share, size, whole_u32};
use crate::config::explain::shown;
use crate::config::file::{Duration, Faults, File, Key, LawName, LawTable, List, ServiceTime};
use crate::plan::guard::Cap;
use crate::plan::sweep::{Target, Tls};
use crate::plan::target::{EmbeddedTarget, Law, Stall};

/// The `Host` header towards the embedded target, whose address changes from trial to trial.
const EMBEDDED_HOST: &str = "localhost";

const URL_RULE: &str = "write http://host:port/path, https://host:port/path or unix:/socket";

/// Longest path of a Unix-domain socket: `sun_path` holds 108 bytes, the last of them zero (unix(7)).
const MAX_SOCKET_PATH_BYTES: usize = 107;

/// Longest file of certificate authorities: a system's whole bundle is a quarter of a MiB.
const MAX_CA_BYTES: u64 = 4 << 20;

/// Widest log-normal that is still a law of times: its 99.9th percentile is at e^15 of the median.
const MAX_SIGMA: f64 = 5.0;

/// A target, and what follows from it for the plan.
pub(super) struct Resolved {
    pub(super) target: Target,
    pub(super) host: String,
    pub(super) default_path: DefaultPath,
}

/// The path of the requests where the config holds none.
pub(super) struct DefaultPath {
    pub(super) path: String,
    /// Where a path other than `/` was named, if one was.
    pub(super) named: Option<std::ops::Range<usize>>,
}

pub(super) fn resolve(file: &File, base_dir: &Path) -> Result<Resolved, Fault> {
    if let Some(url) = &file.target.url {
        return external(url, file, base_dir);
    }
    let target = &file.target;
    let external_only = [
        ("unix_socket", target.unix_socket.as_ref().map(Spanned::span)),
        ("ca_file", target.ca_file.as_ref().map(Spanned::span)),
        ("insecure", target.insecure.as_ref().map(Spanned::span)),
    ];
    if let Some((key, span)) = external_only.into_iter().find_map(|(k, s)| Some((k, s?))) {
        let message = format!("`{key}` needs `target.url`: it is for a server of yours");
        return Err(Fault { span, message });
    }
    Ok(Resolved {
        target: Target::Embedded(embedded(file)?),
        host: EMBEDDED_HOST.into(),
        default_path: DefaultPath { path: "/".into(), named: None },
    })
}

fn external(url: &Spanned<String>, file: &File, base_dir: &Path) -> Result<Resolved, Fault> {
    let target = &file.target;
    let embedded_only = [
        ("service_time", target.service_time.as_ref().map(Spanned::span)),
        ("servers", target.servers.as_ref().map(Spanned::span)),
        ("processes", target.processes.as_ref().map(Spanned::span)),
        ("body", target.body.as_ref().map(Spanned::span)),
        ("faults", target.faults.as_ref().map(Spanned::span)),
    ];
    if let Some((key, span)) = embedded_only.into_iter().find_map(|(k, s)| Some((k, s?))) {
        let message = format!("`{key}` belongs to the embedded target: remove it or `target.url`");
        return Err(Fault { span, message });
    }
    let parts = url::split(url)?;
    let unix_socket = match (&target.unix_socket, parts.socket) {
        (Some(at), Some(_)) => {
            return Err(fault(at, "the url names a socket already: leave one of them out"));
        }
        (Some(at), None) => Some(socket_path(at, at.get_ref(), base_dir)?),
        (None, Some(path)) => Some(socket_path(url, &path, base_dir)?),
        (None, None) => None,
    };
    let tls = tls(parts.tls, file, base_dir)?;
    let named = (parts.path != "/").then(|| url.span());
    Ok(Resolved {
        target: Target::External {
            authority: parts.authority,
            allow: allowed(&target.allow)?,
            unix_socket,
            tls,
        },
        host: parts.host,
        default_path: DefaultPath { path: parts.path, named },
    })
}

/// The path of a Unix-domain socket, relative ones to the config.
fn socket_path<T>(at: &Spanned<T>, path: &str, base_dir: &Path) -> Result<PathBuf, Fault> {
    let wrong = |why| Err(fault(at, format!("`{}` is not a socket's path: {why}", shown(path))));
    let path = base_dir.join(path);
    let bytes = path.as_os_str().as_bytes();
    if bytes.contains(&0) {
        return wrong("it holds a zero byte");
    }
    if bytes.len() > MAX_SOCKET_PATH_BYTES {
        return wrong("the kernel takes at most 107 bytes");
    }
    Ok(path)
}

/// TLS for an https url; the authorities are read here, so that a bad file is named before a run.
fn tls(https: bool, file: &File, base_dir: &Path) -> Result<Option<Tls>, Fault> {
    let (ca_file, insecure) = (&file.target.ca_file, &file.target.insecure);
    if !https {
        let spans = [ca_file.as_ref().map(Spanned::span), insecure.as_ref().map(Spanned::span)];
        return match spans.into_iter().flatten().next() {
            Some(span) => Err(Fault { span, message: "needs an https:// url".into() }),
            None => Ok(None),
        };
    }
    let insecure_too = insecure.as_ref().is_some_and(|at| *at.get_ref());
    let ca_file = match ca_file {
        Some(at) if insecure_too => {
            return Err(fault(at, "`insecure` accepts any certificate: leave one of them out"));
        }
        Some(at) => Some(authorities(at, base_dir)?),
        None => None,
    };
    Ok(Some(Tls { ca_file, insecure: insecure_too }))
}

fn authorities(at: &Spanned<String>, base_dir: &Path) -> Result<PathBuf, Fault> {
    let path = base_dir.join(at.get_ref());
    let shown = shown(at.get_ref());
    let bytes = super::request::read(&path, MAX_CA_BYTES)
        .map_err(|error| fault(at, format!("`{shown}` cannot be read: {error}")))?;
    let pem = String::from_utf8_lossy(&bytes);
    crate::codec::tls::roots(&pem).map_err(|why| fault(at, format!("`{shown}` {why}")))?;
    Ok(path)
}

/// Checks the list of addresses that may be loaded; the driver compares it with the resolved one.
fn allowed(list: &List<String>) -> Result<Vec<String>, Fault> {
    super::axis(list, Vec::new(), |at| {
        let text = at.get_ref();
        match Cap::parse(text) {
            Ok(_) => Ok(text.clone()),
            Err(why) => Err(fault(at, format!("`{}` is {why}", shown(text)))),
        }
    })
}

fn embedded(file: &File) -> Result<EmbeddedTarget, Fault> {
    let target = &file.target;
    if let Some(at) = &target.allow {
        return Err(fault(at, "`allow` needs `target.url`: the embedded target is on loopback"));
    }
    let service_time = match target.service_time.as_ref().map(|at| (at, at.get_ref())) {
        Some((at, ServiceTime::Fixed(time))) => {
            Law::Fixed { ns: duration(&Spanned::new(at.span(), *time), 0)? }
        }
        Some((_, ServiceTime::Law(table))) => law(table)?,
        None => Law::Fixed { ns: 0 },
    };
    Ok(EmbeddedTarget {
        service_time,
        servers: target.servers.as_ref().map_or(Ok(0), |at| whole_u32(at, 0..=u32::MAX.into()))?,
        processes: target
            .processes
            .as_ref()
            .map_or(Ok(1), |at| whole_u32(at, 1..=MAX_PROCESSES))?,
        body_bytes: target.body.as_ref().map_or(Ok(1024), |at| size(at, 0..=MAX_SIZE_BYTES))?,
        faults: target.faults.as_ref().map_or(Ok(Default::default()), faults)?,
    })
}

fn law(table: &LawTable) -> Result<Law, Fault> {
    let LawTable { law, mean, min, max, sigma } = table;
    let name = *law.get_ref();
    let (allowed, keys): (&str, [bool; 4]) = match name {
        LawName::Fixed => ("mean", [true, false, false, false]),
        LawName::Exponential => ("mean", [true, false, false, false]),
        LawName::Uniform => ("min and max", [false, true, true, false]),
        LawName::Lognormal => ("mean and sigma", [true, false, false, true]),
    };
    let rule = || format!("this law takes {allowed}");
    let spans = [
        ("mean", mean.as_ref().map(Spanned::span)),
        ("min", min.as_ref().map(Spanned::span)),
        ("max", max.as_ref().map(Spanned::span)),
        ("sigma", sigma.as_ref().map(Spanned::span)),
    ];
    for ((key, span), wanted) in spans.into_iter().zip(keys) {
        match span {
            Some(span) if !wanted => {
                return Err(Fault { span, message: format!("`{key}` is not its key: {}", rule()) });
            }
            None if wanted => return Err(fault(law, format!("needs `{key}`: {}", rule()))),
            _ => {}
        }
    }
    let ns = |key: &Key<Duration>, least| key.as_ref().map_or(Ok(0), |at| duration(at, least));
    Ok(match name {
        LawName::Fixed => Law::Fixed { ns: ns(mean, 0)? },
        LawName::Exponential => Law::Exponential { mean_ns: ns(mean, 1)? },
        LawName::Lognormal => Law::Lognormal { mean_ns: ns(mean, 1)?, sigma: width(sigma)? },
        LawName::Uniform => {
            let (min_ns, max_ns) = (ns(min, 0)?, ns(max, 0)?);
            if min_ns > max_ns {
                return Err(fault(law, "`min` is above `max`"));
            }
            Law::Uniform { min_ns, max_ns }
        }
    })
}

fn width(sigma: &Key<f64>) -> Result<f64, Fault> {
    let Some(at) = sigma else { return Ok(0.0) };
    if *at.get_ref() > 0.0 && *at.get_ref() <= MAX_SIGMA {
        return Ok(*at.get_ref());
    }
    let found = at.get_ref();
    Err(fault(at, format!("`{found}` is out of range: above 0, at most {MAX_SIGMA}")))
}

fn faults(at: &Spanned<Faults>) -> Result<crate::plan::target::Faults, Fault> {
    let found = at.get_ref();
    let error_rate = share(&found.error_rate)?.unwrap_or(0.0);
    let reset_rate = share(&found.reset_rate)?.unwrap_or(0.0);
    if error_rate + reset_rate > 1.0 {
        return Err(fault(at, "`error_rate` and `reset_rate` together are above 1"));
    }
    let stall = match found.stall.as_ref().map(Spanned::get_ref) {
        Some(stall) => {
            let (every_ns, for_ns) = (duration(&stall.every, 1)?, duration(&stall.r#for, 1)?);
            if for_ns >= every_ns {
                return Err(fault(&stall.r#for, "`for` must be shorter than `every`"));
            }
            Some(Stall { every_ns, for_ns })
        }
        None => None,
    };
    Ok(crate::plan::target::Faults { error_rate, reset_rate, stall })
}
