//! `[[plan.request]]`: each entry is checked as HTTP here, so that no lane meets a bad one later.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use toml::Spanned;

use super::target::DefaultPath;
use super::{Fault, fault, steps, values, whole_u32};
use crate::config::explain::shown;
use crate::config::file::{List, Request};
use crate::plan::{Arrivals, RequestTemplate, variable_name};

/// Most bytes of all request bodies: a frame holds them, at up to six characters a byte.
const MAX_BODY_BYTES: usize = 8 << 20;

/// Largest weight, so that the sum over a mix stays inside `u32`.
const MAX_WEIGHT: u64 = 1_000_000;

/// Most entries of a mix.
const MAX_ENTRIES: usize = 1_000;

/// Headers that frame the message; a second opinion on them would break it.
const FRAMING: [&str; 3] = ["connection", "content-length", "transfer-encoding"];

pub(super) fn mix(
    list: &List<Request>,
    default_path: DefaultPath,
    base_dir: &Path,
    arrivals: Arrivals,
    data: &values::Resolved,
) -> Result<Vec<RequestTemplate>, Fault> {
    if let Some(span) = default_path.named.clone().filter(|_| arrivals == Arrivals::Trace) {
        let message = "the url has a path but a trace has its own: write http://host:port".into();
        return Err(Fault { span, message });
    }
    let Some(list) = list else {
        return Ok(vec![RequestTemplate { path: default_path.path, ..Default::default() }]);
    };
    let entries = list.get_ref();
    if entries.is_empty() || entries.len() > MAX_ENTRIES {
        return Err(fault(list, "the mix must hold from 1 to 1,000 requests"));
    }
    if let Some(span) = default_path.named {
        let message =
            "the url has a path but [[plan.request]] names its own: leave one of them out";
        return Err(Fault { span, message: message.into() });
    }
    let mut bodies = 0;
    let mut mix = Vec::with_capacity(entries.len());
    for entry in entries {
        let template = template(entry, base_dir, data)?;
        if let Some(at) = &entry.get_ref().body_file {
            values::check_body_file(at, &template.body, data)?;
        }
        bodies += template.body.len();
        if bodies > MAX_BODY_BYTES {
            return Err(fault(entry, "the bodies of all requests are above 8MiB together"));
        }
        mix.push(template);
    }
    Ok(mix)
}

fn template(
    at: &Spanned<Request>,
    base_dir: &Path,
    data: &values::Resolved,
) -> Result<RequestTemplate, Fault> {
    let entry = at.get_ref();
    let path = match &entry.path {
        Some(path) => {
            // What values stand for is checked with them, by `values::check`.
            let sample = values::sample(path.get_ref(), data);
            check_path(&sample).map_err(|message| fault(path, message))?;
            path.get_ref().clone()
        }
        None => "/".into(),
    };
    Ok(RequestTemplate {
        method: method(entry)?,
        path,
        weight: entry.weight.as_ref().map_or(Ok(1), |at| whole_u32(at, 1..=MAX_WEIGHT))?,
        headers: headers(entry)?,
        body: body(entry, base_dir)?,
        steps: steps::steps(&entry.step, base_dir)?,
    })
}

fn method(entry: &Request) -> Result<String, Fault> {
    let Some(at) = &entry.method else { return Ok("GET".into()) };
    let text = at.get_ref();
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

/// Whether a text can stand in a request line as it is.
pub(super) fn check_path(path: &str) -> Result<(), String> {
    let plain = path.starts_with('/') && path.bytes().all(|b| b.is_ascii_graphic() && b != b'#');
    let parsed = path.parse::<http::uri::PathAndQuery>();
    if plain && parsed.is_ok_and(|parsed| parsed.as_str() == path) {
        return Ok(());
    }
    let rule = "begin with / and write other characters than plain ASCII as %XX";
    Err(format!("`{}` is not a path: {rule}", shown(path)))
}

/// The headers in the order in which they are written.
fn headers(entry: &Request) -> Result<Vec<(String, String)>, Fault> {
    let mut given: Vec<_> = entry.headers.iter().collect();
    given.sort_by_key(|(name, _)| name.span().start);
    let mut headers: Vec<(String, String)> = Vec::with_capacity(given.len());
    for (name, value) in given {
        let text = name.get_ref();
        if http::HeaderName::from_bytes(text.as_bytes()).is_err() {
            let rule = "use letters, digits and -";
            return Err(fault(name, format!("`{}` is not a header name: {rule}", shown(text))));
        }
        if FRAMING.contains(&text.to_ascii_lowercase().as_str()) {
            return Err(fault(name, format!("`{text}` is set by duel itself: remove it")));
        }
        if headers.iter().any(|(other, _)| other.eq_ignore_ascii_case(text)) {
            return Err(fault(name, format!("the header `{text}` stands twice")));
        }
        let sent = sent(value)?;
        if http::HeaderValue::from_str(sent.as_deref().unwrap_or(value.get_ref())).is_err() {
            // The value may be a secret: it is not repeated.
            let from = sent.map_or(String::new(), |_| format!(" from `{}`", value.get_ref()));
            let rule = "allowed are printable ASCII characters, spaces and tabs";
            return Err(fault(value, format!("the value{from} cannot be a header: {rule}")));
        }
        headers.push((text.clone(), value.get_ref().clone()));
    }
    Ok(headers)
}

/// The value of the environment variable that a text names as a whole, if it names one.
fn sent(at: &Spanned<String>) -> Result<Option<String>, Fault> {
    let Some(name) = variable_name(at.get_ref()) else { return Ok(None) };
    std::env::var(name).map(Some).map_err(|error| match error {
        std::env::VarError::NotPresent => {
            fault(at, format!("the environment variable `{name}` is not set"))
        }
        std::env::VarError::NotUnicode(_) => {
            fault(at, format!("the environment variable `{name}` is not UTF-8"))
        }
    })
}

fn body(entry: &Request, base_dir: &Path) -> Result<Vec<u8>, Fault> {
    match (&entry.body, &entry.body_file) {
        (Some(_), Some(at)) => Err(fault(at, "give `body` or `body_file`, not both")),
        (Some(at), None) => {
            sent(at)?;
            Ok(at.get_ref().clone().into_bytes())
        }
        (None, Some(at)) => {
            let path = base_dir.join(at.get_ref());
            let body = read(&path, MAX_BODY_BYTES as u64).map_err(|error| {
                fault(at, format!("`{}` cannot be read: {error}", shown(at.get_ref())))
            })?;
            if std::str::from_utf8(&body).is_ok_and(|text| variable_name(text).is_some()) {
                let rule = "write it as `body` if the variable is meant";
                return Err(fault(at, format!("the file holds nothing but a $NAME: {rule}")));
            }
            Ok(body)
        }
        (None, None) => Ok(Vec::new()),
    }
}

/// Reads a regular file of bounded size: a pipe could block and a device never end.
pub(super) fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let mut body = Vec::new();
    File::open(path)?.take(most + 1).read_to_end(&mut body)?;
    Ok(body)
}
