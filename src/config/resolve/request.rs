//! `[[plan.request]]`: each entry is checked as HTTP here, so that no lane meets a bad one later.

use std::path::Path;

use anyhow::bail;

use super::{Fault, each, fault, number, steps, together, values};
use crate::config::keys::Request;
use crate::config::node::shown;
use crate::config::read::{At, Key, Several};
use crate::plan::values::{is_path, read_regular, sha256};
use crate::plan::{BodyFile, RequestTemplate, variable_name};
use crate::units::{format_count, size_literal};

/// Most bytes of all request bodies: a frame holds them, at up to six characters a byte.
const MAX_BODY_BYTES: usize = 8 << 20;

const MAX_ENTRIES: usize = 1_000;

/// Most classes: each has a histogram for every CPU of a worker.
const MAX_CLASSES: usize = 16;

/// Headers that frame the message; a second opinion on them would break it.
const FRAMING: [&str; 3] = ["connection", "content-length", "transfer-encoding"];

pub(super) fn mix(
    list: &Key<Several<Request>>,
    url_path: &At<String>,
    base_dir: &Path,
    traced: bool,
    data: &values::Resolved,
) -> Result<Vec<RequestTemplate>, Vec<Fault>> {
    if traced && url_path.as_str() != "/" {
        let rule = "the url has a path but a trace has its own: write http://host:port";
        return Err(fault(url_path, rule).into());
    }
    let Some(list) = list else {
        let path = path(url_path, data)?;
        return Ok(vec![RequestTemplate { path, ..Default::default() }]);
    };
    let entries = &list.value;
    if entries.is_empty() || entries.len() > MAX_ENTRIES {
        let most = format_count(MAX_ENTRIES as u64);
        return Err(fault(list, format!("the mix must hold from 1 to {most} requests")).into());
    }
    if url_path.as_str() != "/" && entries.iter().all(|entry| entry.path.is_some()) {
        let rule = "the url has a path but every [[plan.request]] names its own: leave it out";
        return Err(fault(url_path, rule).into());
    }
    let mix = each(entries.iter().map(|entry| template(entry, url_path, base_dir, data)))?;
    let mut bodies = 0;
    for (entry, template) in entries.iter().zip(&mix) {
        if let Some(at) = &entry.body_file {
            values::check_body_file(at, &template.body, data)?;
        }
        bodies += template.body.len();
        if bodies > MAX_BODY_BYTES {
            let most = size_literal(MAX_BODY_BYTES as u64);
            let why = format!("the bodies of all requests are above {most} together");
            return Err(fault(entry, why).into());
        }
    }
    check_classes(entries, &mix)?;
    Ok(mix)
}

fn template(
    entry: &Request,
    url_path: &At<String>,
    base_dir: &Path,
    data: &values::Resolved,
) -> Result<RequestTemplate, Vec<Fault>> {
    together! {
        name = class(entry);
        method = method(entry);
        path = path(entry.path.as_ref().unwrap_or(url_path), data);
        headers = headers(entry);
        body = body(entry, base_dir);
        steps = steps::steps(&entry.step, base_dir);
    }
    let (body, body_file) = body;
    let (p99_ns, weight) = (entry.p99.as_ref().map(|at| at.0), number(&entry.weight));
    Ok(RequestTemplate { name, p99_ns, method, path, weight, headers, body, body_file, steps })
}

/// The class of a request, as it stands in records and tables.
fn class(entry: &Request) -> Result<Option<String>, Fault> {
    if let (None, Some(bound)) = (&entry.name, &entry.p99) {
        return Err(fault(bound, "a bound is of a class: add `name`, such as name = \"small\""));
    }
    let Some(at) = &entry.name else { return Ok(None) };
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if at.is_empty() || at.len() > 64 || !at.chars().all(plain) {
        let rule = "use 1 to 64 letters, digits, - _ and .";
        return Err(fault(at, format!("`{}` is not a name: {rule}", shown(at))));
    }
    Ok(Some(at.value.clone()))
}

/// Refuses more classes than are worth their memory, and two bounds of one.
fn check_classes(entries: &[At<Request>], mix: &[RequestTemplate]) -> Result<(), Fault> {
    let mut seen: Vec<(&str, Option<u64>)> = Vec::new();
    for (entry, template) in entries.iter().zip(mix) {
        let Some(name) = template.name.as_deref() else { continue };
        match seen.iter().find(|(known, _)| *known == name) {
            Some((_, bound)) if *bound == template.p99_ns => {}
            Some(_) => {
                let rule = "give each request of a class the same p99";
                return Err(fault(entry, format!("the class `{name}` has two bounds: {rule}")));
            }
            None if seen.len() == MAX_CLASSES => {
                let most = format!("at most {MAX_CLASSES} classes");
                return Err(fault(entry, format!("{most}: let requests share names")));
            }
            None => seen.push((name, template.p99_ns)),
        }
    }
    Ok(())
}

fn path(at: &At<String>, data: &values::Resolved) -> Result<String, Fault> {
    check_path(&values::sample(at, data)).map_err(|why| fault(at, why))?;
    values::check_path(at, data)?;
    Ok(at.value.clone())
}

fn method(entry: &Request) -> Result<String, Fault> {
    let at = &entry.method;
    let text = &at.value;
    if text == "CONNECT" {
        return Err(fault(at, "CONNECT makes a tunnel, not a request: use another method"));
    }
    match http::Method::from_bytes(text.as_bytes()) {
        Ok(_) => Ok(text.clone()),
        Err(_) => {
            let rule = "write letters without spaces, such as GET or POST";
            Err(fault(at, format!("`{}` is not a method: {rule}", shown(text))))
        }
    }
}

pub(super) fn check_path(path: &str) -> anyhow::Result<()> {
    if is_path(path.as_bytes()) {
        return Ok(());
    }
    let rule = "begin with / and write other characters than plain ASCII as %XX";
    bail!("`{}` is not a path: {rule}", shown(path))
}

fn headers(entry: &Request) -> Result<Vec<(String, String)>, Vec<Fault>> {
    let all = &entry.headers.0;
    let one = |(nth, (name, values)): (usize, &(At<String>, Several<String>))| {
        let text = name.as_str();
        if http::HeaderName::from_bytes(text.as_bytes()).is_err() {
            let rule = "use letters, digits and -";
            let why = format!("`{}` is not a header name: {rule}", shown(text));
            return Err(fault(name, why).into());
        }
        if FRAMING.contains(&text.to_ascii_lowercase().as_str()) {
            return Err(fault(name, format!("`{text}` is set by duel itself: remove it")).into());
        }
        if all[..nth].iter().any(|(other, _)| other.eq_ignore_ascii_case(text)) {
            let rule = "give its values as one list, such as [\"a\", \"b\"]";
            return Err(fault(name, format!("the header `{text}` is given twice: {rule}")).into());
        }
        if let (true, [_, second, ..]) = (text.eq_ignore_ascii_case("host"), values.as_slice()) {
            let why = "a request has one Host header: leave one of them out";
            return Err(fault(second, why).into());
        }
        each(values.iter().map(|value| Ok::<_, Fault>((text.into(), header_value(value)?))))
    };
    Ok(each(all.iter().enumerate().map(one))?.concat())
}

/// A header's value as the plan holds it, if it can be sent.
fn header_value(at: &At<String>) -> Result<String, Fault> {
    let sent = sent(at)?;
    if http::HeaderValue::from_str(sent.as_deref().unwrap_or(at)).is_err() {
        // The value may be a secret: it is not repeated.
        let from = sent.map_or(String::new(), |_| format!(" from `{}`", at.value));
        let rule = "allowed are printable ASCII characters, spaces and tabs";
        return Err(fault(at, format!("the value{from} cannot be a header: {rule}")));
    }
    Ok(at.value.clone())
}

/// The value of the environment variable that a text names as a whole, if it names one.
fn sent(at: &At<String>) -> Result<Option<String>, Fault> {
    let Some(name) = variable_name(at) else {
        let Some(name) = variable_within(at) else { return Ok(None) };
        let rule = format!("put all of it into a variable and write \"${name}\" alone");
        return Err(fault(at, format!("`${name}` inside a longer value is not replaced: {rule}")));
    };
    std::env::var(name).map(Some).map_err(|error| match error {
        std::env::VarError::NotPresent => {
            fault(at, format!("the environment variable `{name}` is not set"))
        }
        std::env::VarError::NotUnicode(_) => {
            fault(at, format!("the environment variable `{name}` is not UTF-8"))
        }
    })
}

/// A variable that is named inside a longer text, written `$NAME` or `${NAME}`: in capitals, as those
/// of the environment are, or by the name of one that is set.
fn variable_within(text: &str) -> Option<&str> {
    text.split('$').skip(1).find_map(|rest| {
        let rest = rest.strip_prefix('{').unwrap_or(rest);
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        let name = &rest[..end.unwrap_or(rest.len())];
        let named = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        let capitals = name.len() > 1 && !name.contains(|c: char| c.is_ascii_lowercase());
        (named && (capitals || std::env::var_os(name).is_some())).then_some(name)
    })
}

fn body(entry: &Request, base_dir: &Path) -> Result<(Vec<u8>, Option<BodyFile>), Fault> {
    match (&entry.body, &entry.body_file) {
        (Some(_), Some(at)) => Err(fault(at, "give `body` or `body_file`, not both")),
        (Some(at), None) => {
            sent(at)?;
            Ok((at.value.clone().into_bytes(), None))
        }
        (None, Some(at)) => {
            let path = base_dir.join(&at.value);
            let body = read_regular(&path, MAX_BODY_BYTES as u64)
                .map_err(|error| fault(at, format!("`{}` cannot be read: {error}", shown(at))))?;
            if std::str::from_utf8(&body).is_ok_and(|text| variable_name(text).is_some()) {
                let rule = "write it as `body` if the variable is meant";
                return Err(fault(at, format!("the file holds nothing but a $NAME: {rule}")));
            }
            let path = std::path::absolute(&path).unwrap_or(path).to_string_lossy().into_owned();
            let file = BodyFile { path, sha256: sha256(&body), bytes: body.len() as u64 };
            Ok((body, Some(file)))
        }
        (None, None) => Ok((Vec::new(), None)),
    }
}
