//! Where the load goes when the target is the user's own: resolved once and guarded.

use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use anyhow::{Context as _, anyhow};

use crate::codec::socket::Route;
use crate::codec::{self, tls};
use crate::plan::endpoint::{Endpoint, TlsPlan};
use crate::plan::guard::Cap;
use crate::plan::sweep::{Sweep, Target, Tls};
use crate::units::{SECOND_NS, format_count, format_rate};

const PROBE_NS: u64 = 2 * SECOND_NS;

/// A server of the user's, as workers need to know it.
#[derive(Debug, Clone, PartialEq)]
pub struct External {
    /// One address, so that every lane of every engine goes to the same place.
    pub endpoint: Endpoint,
    /// Other addresses of the same name, in the resolver's order.
    pub others: Vec<SocketAddr>,
    pub tls: Option<TlsPlan>,
    /// What it gets at most; `None` on loopback, which bears what its user asks for.
    pub cap: Option<Cap>,
    pub(super) called: String,
}

impl External {
    /// The same target at the first of its addresses that answers, in the resolver's order as curl
    /// has it; where none does, the first is left for the trials to record.
    pub(crate) fn answering(self) -> External {
        let first = self.endpoint.tcp().filter(|_| !self.others.is_empty());
        let all = first.into_iter().chain(self.others.iter().copied());
        let answers = |at: &SocketAddr| {
            TcpStream::connect_timeout(at, Duration::from_nanos(PROBE_NS)).is_ok()
        };
        match all.into_iter().find(answers) {
            Some(at) => {
                let cap = self.cap.filter(|_| !at.ip().is_loopback());
                External { endpoint: at.into(), others: Vec::new(), cap, ..self }
            }
            None => self,
        }
    }

    /// The address, where it is outside of loopback: [`resolve`] let it pass, so it was named.
    pub(super) fn allowed(&self) -> Vec<SocketAddr> {
        self.endpoint.foreign().into_iter().collect()
    }

    /// What is said of it before load goes there.
    pub(crate) fn describe(&self) -> String {
        let tls = match &self.tls {
            None => "",
            Some(tls) if tls.insecure => {
                " over TLS, INSECURE: any certificate is accepted, whoever shows it"
            }
            Some(_) => " over TLS",
        };
        let bound = self.cap.as_ref().map_or(String::new(), |cap| {
            let (rate, lanes) = (format_rate(cap.rate_per_s), format_count(cap.connections));
            format!(
                ", which is not this machine's loopback: at most {rate} requests/s over {lanes} \
                 connections"
            )
        });
        format!("{}{tls}{bound}", self.endpoint)
    }
}

/// Makes one handshake with a TLS target, so that a certificate that no lane would accept is named
/// before the first trial. A target that cannot be reached is left for the trials to record.
pub(crate) fn probe(external: &External) -> anyhow::Result<()> {
    let Some(plan) = &external.tls else { return Ok(()) };
    let client = tls::Client::new(plan)?;
    let allowed = external.allowed();
    let route = Route { target: &external.endpoint, source: None, allowed: &allowed };
    codec::probe(&route, &client, Duration::from_nanos(PROBE_NS)).map_err(|why| {
        anyhow!("{}: {}: {}; nothing was sent", external.called, external.endpoint, why.what)
    })
}

/// Where the external targets of a sweep are, each at the first of its addresses that answers.
pub(crate) fn resolve_all(sweep: &Sweep) -> anyhow::Result<Vec<External>> {
    let several = 0..sweep.targets().len();
    let all = several.filter_map(|nth| resolve(sweep, nth).transpose());
    all.map(|external| external.map(External::answering)).collect()
}

/// Where a sweep's external target of that number is, or `None` for the embedded one.
pub(crate) fn resolve(sweep: &Sweep, nth: usize) -> anyhow::Result<Option<External>> {
    // Its url may be that of `[target]`, or its own.
    let called = match sweep.axes.targets.get(nth) {
        Some(of_several) => format!("sweep.target `{}`", of_several.name),
        None => "target.url".into(),
    };
    let found = resolve_one(sweep.targets()[nth]).with_context(|| called.clone())?;
    Ok(found.map(|external| External { called, ..external }))
}

fn resolve_one(target: &Target) -> anyhow::Result<Option<External>> {
    let Target::External { authority, allow, unix_socket, tls } = target else { return Ok(None) };
    let tls = tls.as_ref().map(|named| tls_plan(authority, named)).transpose()?;
    let cap = named(allow, authority)?;
    let (endpoint, others) = match unix_socket {
        Some(path) => (Endpoint::Unix(path.clone()), Vec::new()),
        None => {
            let mut all = addresses_of(authority, cap.is_some())?;
            let others = all.split_off(1);
            (Endpoint::Tcp(all[0]), others)
        }
    };
    let mut addresses = endpoint.tcp().into_iter().chain(others.iter().copied());
    let cap = cap.filter(|_| addresses.any(|at| !at.ip().is_loopback()));
    Ok(Some(External { endpoint, others, tls, cap, called: String::new() }))
}

/// The entry of `allow` that names an address: the last one, so that `--allow` raises what the
/// config says.
fn named(allow: &[String], authority: &str) -> anyhow::Result<Option<Cap>> {
    let parse =
        |entry: &String| Cap::parse(entry).map_err(|why| anyhow!("allow: `{entry}` is {why:#}"));
    let caps: Vec<Cap> = allow.iter().map(parse).collect::<anyhow::Result<_>>()?;
    Ok(caps.into_iter().rev().find(|cap| cap.authority == authority))
}

fn addresses_of(authority: &str, allowed: bool) -> anyhow::Result<Vec<SocketAddr>> {
    let addresses: Vec<SocketAddr> = authority
        .to_socket_addrs()
        .map_err(|e| anyhow!("`{authority}` does not resolve: {e}"))?
        .collect();
    if addresses.is_empty() {
        return Err(anyhow!("`{authority}` resolves to no address"));
    }
    if let Some(foreign) = addresses.iter().find(|a| !a.ip().is_loopback())
        && !allowed
    {
        return Err(anyhow!(
            "{authority} is {}, which is not a loopback address; load goes there \
             only when it is named: allow = [\"{authority}\"] under [target], or --allow {authority}",
            foreign.ip()
        ));
    }
    Ok(addresses)
}

fn tls_plan(authority: &str, named: &Tls) -> anyhow::Result<TlsPlan> {
    let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
    let ca_pem = match &named.ca_file {
        None => None,
        Some(path) => Some(
            std::fs::read_to_string(path)
                .map_err(|e| anyhow!("target.ca_file: `{}`: {e}", path.display()))?,
        ),
    };
    let plan = TlsPlan {
        server_name: host.trim_start_matches('[').trim_end_matches(']').to_string(),
        ca_pem,
        insecure: named.insecure,
        client: named.client.clone(),
    };
    // What no worker could use is said once, before the first of them.
    tls::Client::new(&plan)?;
    Ok(plan)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn external(authority: &str, allow: &[&str]) -> Target {
        Target::External {
            authority: authority.into(),
            allow: allow.iter().map(ToString::to_string).collect(),
            unix_socket: None,
            tls: None,
        }
    }

    #[test]
    fn the_first_address_that_answers_is_used() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let answers = listener.local_addr().unwrap();
        let gone = std::net::TcpListener::bind("127.0.0.2:0").unwrap().local_addr().unwrap();
        let cap = Some(Cap::parse("h:1").unwrap());
        let external = |first: SocketAddr, others: &[SocketAddr]| External {
            endpoint: first.into(),
            others: others.to_vec(),
            tls: None,
            cap: cap.clone(),
            called: String::new(),
        };
        for (first, others) in
            [(gone, vec![answers]), (answers, vec![gone]), (gone, vec![gone, answers])]
        {
            let found = external(first, &others).answering();
            assert_eq!(found.endpoint, answers.into());
            assert_eq!(found.cap, None, "loopback bears what its user asks for");
        }
        // Where nobody answers, the first is what the trials record.
        assert_eq!(external(gone, &[gone]).answering().endpoint, gone.into());
    }

    #[test]
    fn only_loopback_is_loaded_unless_named() {
        assert!(resolve_one(&external("127.0.0.1:80", &[])).unwrap().is_some());
        assert!(resolve_one(&external("[::1]:80", &[])).unwrap().is_some());
        let refused =
            resolve_one(&external("192.0.2.1:80", &["192.0.2.1:81"])).unwrap_err().to_string();
        assert!(refused.contains("--allow 192.0.2.1:80"), "{refused}");
        assert!(resolve_one(&external("192.0.2.1:80", &["192.0.2.1:80"])).is_ok());
    }
}
