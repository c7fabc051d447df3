//! Where load goes, resolved: an address or a path, and how TLS is spoken there.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{anyhow, bail};
use serde::{Deserialize, Serialize};

const UNIX: &str = "unix:";

/// The far end of a lane's connection; written as `127.0.0.1:8080` or `unix:/path`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Endpoint {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl Endpoint {
    pub fn tcp(&self) -> Option<SocketAddr> {
        match self {
            Endpoint::Tcp(address) => Some(*address),
            Endpoint::Unix(_) => None,
        }
    }

    pub(crate) fn is_local(&self) -> bool {
        self.foreign().is_none()
    }

    pub(crate) fn foreign(&self) -> Option<SocketAddr> {
        self.tcp().filter(|at| !at.ip().to_canonical().is_loopback())
    }

    /// Whether it lies in 127.0.0.0/8, where each worker can connect from many addresses.
    pub(crate) fn is_loopback_v4(&self) -> bool {
        matches!(self, Endpoint::Tcp(SocketAddr::V4(address)) if address.ip().is_loopback())
    }
}

impl From<SocketAddr> for Endpoint {
    fn from(address: SocketAddr) -> Self {
        Endpoint::Tcp(address)
    }
}

impl From<([u8; 4], u16)> for Endpoint {
    fn from(address: ([u8; 4], u16)) -> Self {
        Endpoint::Tcp(address.into())
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Tcp(address) => address.fmt(f),
            Endpoint::Unix(path) => write!(f, "{UNIX}{}", path.display()),
        }
    }
}

impl FromStr for Endpoint {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        match text.strip_prefix(UNIX) {
            Some("") => bail!("a Unix socket needs a path: write unix:/path"),
            Some(path) => Ok(Endpoint::Unix(path.into())),
            None => text.parse().map(Endpoint::Tcp).map_err(|_| {
                anyhow!("`{text}` is not an address: write an IP address and a port, or unix:/path")
            }),
        }
    }
}

super::one_string!(Endpoint);

/// How a worker speaks TLS with its target: the same for every engine, codec and socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TlsPlan {
    /// The name that the certificate must be valid for, or an IP address.
    pub server_name: String,
    /// Certificate authorities to trust, in PEM; `None` trusts the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_pem: Option<String>,
    #[serde(default)]
    pub insecure: bool,
    /// What the client shows where the target asks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<Identity>,
}

/// A client's certificate and its key: files in PEM, which each worker reads itself, so that the
/// key is written nowhere else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The certificate, and those between it and its authority.
    pub cert: std::path::PathBuf,
    pub key: std::path::PathBuf,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_one_string() {
        for text in ["127.0.0.1:80", "[::1]:443", "unix:/run/a b.sock", "unix:relative"] {
            let endpoint: Endpoint = text.parse().unwrap();
            assert_eq!(endpoint.to_string(), text);
            let json = serde_json::to_string(&endpoint).unwrap();
            assert_eq!(json, format!("\"{text}\""));
            assert_eq!(serde_json::from_str::<Endpoint>(&json).unwrap(), endpoint);
        }
        for text in ["", "unix:", "localhost", "localhost:80", "127.0.0.1"] {
            assert!(text.parse::<Endpoint>().is_err(), "{text}");
        }
    }
}
