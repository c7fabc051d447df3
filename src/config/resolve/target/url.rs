//! `target.url`: where to connect, what to ask for, and whether over TLS.
//!
//! | url | connects to |
//! |---|---|
//! | `http://host:port/path`, `https://…`, `host:port/path` | the host, over http where no scheme is named; with `unix_socket` beside it, as with curl's and oha's `--unix-socket`, to that socket |
//! | `unix:/socket`, `unix:/socket:/path` | the socket, as nginx's `proxy_pass` names it |
//! | `http+unix://%2Fsocket/path` | the same, as Python's requests-unixsocket and others name it |

use super::{EMBEDDED_HOST, Fault, URL_RULE, fault};
use crate::config::node::shown;
use crate::config::read::At;

pub(super) struct Url {
    pub(super) authority: String,
    /// As named, without the port where it is the scheme's own.
    pub(super) host: String,
    pub(super) path: String,
    pub(super) tls: bool,
    pub(super) socket: Option<String>,
}

pub(super) fn split(at: &At<String>) -> Result<Url, Fault> {
    let text = at.as_str();
    // A query may hold a url of its own.
    let scheme =
        text.split_once("://").map(|(scheme, _)| scheme).filter(|s| !s.contains(['/', '?', '#']));
    let scheme = scheme.unwrap_or_default().to_ascii_lowercase();
    if text.get(..5).is_some_and(|s| s.eq_ignore_ascii_case("unix:")) {
        let rest = &text[5..];
        let (socket, path) = match rest.find(":/") {
            Some(end) => (&rest[..end], &rest[end + 1..]),
            None => (rest, "/"),
        };
        return at_socket(at, socket.into(), path);
    }
    let wrong = || fault(at, format!("`{}` is not a url: {URL_RULE}", shown(text)));
    let (tls, own_port) = match scheme.as_str() {
        "http" | "" => (false, 80),
        "https" => (true, 443),
        "http+unix" => {
            let rest = &text["http+unix://".len()..];
            let (socket, path) = split_authority(rest);
            return at_socket(at, unescaped(socket).ok_or_else(wrong)?, path);
        }
        _ => return Err(wrong()),
    };
    let rest = if scheme.is_empty() { text } else { &text[scheme.len() + "://".len()..] };
    let (authority, path) = split_authority(rest);
    if authority.contains('@') {
        // What stands before the @ is a secret: the text is not repeated.
        let way_out = "send credentials as a header with a \"$NAME\" value";
        return Err(fault(at, format!("a url holds no user or password here: {way_out}")));
    }
    let named: http::uri::Authority = authority.parse().map_err(|_| wrong())?;
    let host = named.host();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let port = match authority.strip_prefix(host) {
        Some("") => own_port,
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
    let path = checked_path(at, path)?;
    let authority = format!("{host}:{port}");
    let host = if port == own_port { host.into() } else { authority.clone() };
    Ok(Url { authority, host, path, tls, socket: None })
}

fn split_authority(text: &str) -> (&str, &str) {
    text.split_at(text.find(['/', '?', '#']).unwrap_or(text.len()))
}

fn at_socket(at: &At<String>, socket: String, path: &str) -> Result<Url, Fault> {
    if socket.is_empty() {
        return Err(fault(at, "a Unix socket needs a path: write unix:/path/to.sock"));
    }
    Ok(Url {
        authority: format!("{EMBEDDED_HOST}:80"),
        host: EMBEDDED_HOST.into(),
        path: checked_path(at, path)?,
        tls: false,
        socket: Some(socket),
    })
}

fn checked_path(at: &At<String>, path: &str) -> Result<String, Fault> {
    let path = match path {
        "" => "/".into(),
        query if query.starts_with('?') => format!("/{query}"),
        path => path.into(),
    };
    crate::config::resolve::request::check_path(&path).map_err(|why| fault(at, why))?;
    Ok(path)
}

/// Undoes percent-encoding; `None` where it is invalid, or not UTF-8.
fn unescaped(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let digits = std::str::from_utf8(tail.get(..2)?).ok()?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = &tail[2..];
    }
    String::from_utf8(bytes).ok()
}
