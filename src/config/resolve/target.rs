//! `[target]`: the embedded one, or a server of the user's.

use toml::Spanned;

use super::{Fault, MAX_PROCESSES, MAX_SIZE_BYTES, duration, fault, share, size, whole_u32};
use crate::config::explain::shown;
use crate::config::file::{Duration, Faults, File, Key, LawName, LawTable, List, ServiceTime};
use crate::plan::sweep::Target;
use crate::target::{EmbeddedTarget, Law, Stall};

/// The `Host` header towards the embedded target, whose address changes from trial to trial.
const EMBEDDED_HOST: &str = "localhost";

const URL_RULE: &str = "write http://host:port or http://host:port/path";

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

pub(super) fn resolve(file: &File) -> Result<Resolved, Fault> {
    match &file.target.url {
        Some(url) => external(url, file),
        None => Ok(Resolved {
            target: Target::Embedded(embedded(file)?),
            host: EMBEDDED_HOST.into(),
            default_path: DefaultPath { path: "/".into(), named: None },
        }),
    }
}

fn external(url: &Spanned<String>, file: &File) -> Result<Resolved, Fault> {
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
    let parts = split_url(url)?;
    let named = (parts.path != "/").then(|| url.span());
    Ok(Resolved {
        target: Target::External { authority: parts.authority, allow: allowed(&target.allow)? },
        host: parts.host,
        default_path: DefaultPath { path: parts.path, named },
    })
}

struct Url {
    /// `host:port`.
    authority: String,
    /// As named, without the port where it is 80.
    host: String,
    path: String,
}

fn split_url(at: &Spanned<String>) -> Result<Url, Fault> {
    let text = at.get_ref();
    if text.contains('@') {
        // What stands before the @ is a secret: the text is not repeated.
        let way_out = "send credentials as a header with a \"$NAME\" value";
        return Err(fault(at, format!("a url holds no user or password here: {way_out}")));
    }
    let lower = text.get(..8).unwrap_or(text).to_ascii_lowercase();
    if lower.starts_with("https://") {
        return Err(fault(at, "https:// (TLS) is not supported by this version yet"));
    }
    let wrong = || fault(at, format!("`{}` is not an http url: {URL_RULE}", shown(text)));
    if !lower.starts_with("http://") {
        return Err(wrong());
    }
    let rest = &text["http://".len()..];
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let named: http::uri::Authority = authority.parse().map_err(|_| wrong())?;
    let host = named.host();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let port = match authority.strip_prefix(host) {
        Some("") => 80,
        Some(port) => port
            .strip_prefix(':')
            .and_then(|port| port.parse::<u16>().ok())
            .filter(|port| *port != 0)
            .ok_or_else(|| fault(at, "the port must be from 1 to 65,535"))?,
        None => return Err(wrong()),
    };
    if bare.is_empty() {
        return Err(wrong());
    }
    let path = match path {
        "" => "/".into(),
        query if query.starts_with('?') => format!("/{query}"),
        path => path.into(),
    };
    super::request::check_path(&path).map_err(|message| fault(at, message))?;
    let authority = format!("{host}:{port}");
    let host = if port == 80 { host.into() } else { authority.clone() };
    Ok(Url { authority, host, path })
}

/// Checks the list of addresses that may be loaded; the driver compares it with the resolved one.
fn allowed(list: &List<String>) -> Result<Vec<String>, Fault> {
    super::axis(list, Vec::new(), |at| {
        let text = at.get_ref();
        let authority = text.parse::<http::uri::Authority>().ok();
        let named = authority.filter(|a| !a.host().is_empty() && !text.contains('@'));
        match named.and_then(|a| a.port_u16()) {
            Some(1..) => Ok(text.clone()),
            _ => Err(fault(at, format!("`{}` is not an address: write host:port", shown(text)))),
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

fn faults(at: &Spanned<Faults>) -> Result<crate::target::Faults, Fault> {
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
    Ok(crate::target::Faults { error_rate, reset_rate, stall })
}
