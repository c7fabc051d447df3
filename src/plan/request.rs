//! The seeded mix, and requests rendered once: the same bytes for every engine and codec.
//!
//! A request is rendered before the clock starts. [`Rendered::bytes`] is what the lean codec
//! writes, and [`Rendered::request`] is what hyper is given; hyper writes header names in lower
//! case in the order of its map, and so does the rendering, by going through the same map.
//! tests/differential compares the two byte for byte. They part in one case, which no setting
//! of hyper's avoids: behind an HTTP/1.0 answer that keeps the connection, hyper sends its next
//! requests of that connection as HTTP/1.0 with `connection: keep-alive`.

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::OsStringExt;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::{PathAndQuery, Uri};
use http::{Method, Request};
use http_body_util::Full;

use super::{RequestTemplate, TrialPlan, variable_name};

/// Sent unless the plan names another.
const USER_AGENT: &str = concat!("duel/", env!("CARGO_PKG_VERSION"));

/// Which template a request is made from: a pure function of seed, index and weights, so that
/// every engine, worker and shard agrees without shared state.
#[derive(Debug, Clone)]
pub struct Mix(Picks);

#[derive(Debug, Clone)]
enum Picks {
    /// There is one.
    One,
    /// A draw by weight; `bounds` are their running sums.
    Weighted { seed: u64, bounds: Vec<u64> },
    /// Request i is rendering i modulo this.
    Cycle(u64),
    /// Request i is what stands at i.
    Listed(Vec<u32>),
}

impl Mix {
    /// Renderings of this many requests, one after another and again from the first.
    pub(super) fn cycle(renderings: u64) -> Self {
        Mix(if renderings < 2 { Picks::One } else { Picks::Cycle(renderings) })
    }

    /// Renderings in the order of a list, and again from its beginning.
    pub(super) fn listed(picks: Vec<u32>) -> Self {
        Mix(if picks.is_empty() { Picks::One } else { Picks::Listed(picks) })
    }

    /// The mix of a plan: templates by their weights.
    pub fn new(plan: &TrialPlan) -> Self {
        if plan.mix.len() < 2 {
            return Mix(Picks::One);
        }
        let bounds = plan.mix.iter().scan(0, |sum, template| {
            *sum += u64::from(template.weight);
            Some(*sum)
        });
        // The arrival gaps come from the same seed and must not go in step with the mix.
        let seed = splitmix64(plan.seed ^ 0x6d69_7800_6d69_7800);
        Mix(Picks::Weighted { seed, bounds: bounds.collect() })
    }

    /// What request `index` of the trial sends, as a position in the renderings: those of the
    /// plan's mix, one per template, or those that [`super::prepare`] made.
    #[inline]
    pub fn pick(&self, index: u64) -> usize {
        if let Picks::One = self.0 {
            return 0;
        }
        match &self.0 {
            Picks::One => 0,
            Picks::Weighted { seed, bounds } => weighted(*seed, bounds, index),
            Picks::Cycle(renderings) => (index % renderings) as usize,
            Picks::Listed(picks) => picks[(index % picks.len() as u64) as usize] as usize,
        }
    }
}

#[inline]
fn weighted(seed: u64, bounds: &[u64], index: u64) -> usize {
    let total = bounds[bounds.len() - 1];
    let random = splitmix64(seed.wrapping_add(index.wrapping_mul(GOLDEN_GAMMA)));
    // Multiply and shift instead of a remainder (Lemire 2019, arXiv:1805.10941): the bias is
    // below total / 2^64.
    let point = ((u128::from(random) * u128::from(total)) >> 64) as u64;
    // The last entry takes what is left, so that weights of zero cannot lead out of the mix.
    let bounds = &bounds[..bounds.len() - 1];
    bounds.partition_point(|&bound| bound <= point)
}

/// The step of splitmix64's counter: 2^64 divided by the golden ratio, made odd.
const GOLDEN_GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

/// The splitmix64 generator's output for one value of its counter (Steele, Lea and Flood 2014;
/// constants of Vigna's public-domain splitmix64.c).
#[inline]
pub(crate) fn splitmix64(counter: u64) -> u64 {
    let mut z = counter.wrapping_add(GOLDEN_GAMMA);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A template made ready to send. Its debug output shows names and lengths, never values, since
/// those may be secrets.
#[derive(Clone)]
pub struct Rendered {
    pub method: Method,
    /// Whether the method is HEAD, to whose response no body belongs.
    pub is_head: bool,
    /// Whether the request asks the target to close the connection behind its answer.
    pub closes: bool,
    /// The whole request as it goes over the wire: request line, headers, body.
    pub bytes: Bytes,
    /// The body alone, a part of `bytes`.
    pub body: Bytes,
    /// Which template of the mix it was made from, whose steps it has.
    pub template: u32,
    uri: Uri,
    /// Shared by renderings that differ in their paths alone.
    map: Arc<HeaderMap>,
}

impl Rendered {
    /// Path and query.
    pub(crate) fn uri_path(&self) -> &str {
        self.uri.path_and_query().map_or("/", PathAndQuery::as_str)
    }

    /// Every header in the order in which it is sent, `host` first, `content-length` last.
    pub fn headers(&self) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
        self.map.iter()
    }

    /// The request as hyper takes it; nothing is left for hyper to add.
    pub fn request(&self) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(self.body.clone()));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = HeaderMap::clone(&self.map);
        request
    }
}

impl fmt::Debug for Rendered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.headers().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("Rendered")
            .field("method", &self.method)
            .field("uri_path", &self.uri_path())
            .field("headers", &names)
            .field("body_bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

/// Why a template cannot be sent; names its place in the mix, from 1, and no header value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("request {position} of the mix: {fault}")]
pub struct RenderError {
    pub position: usize,
    pub fault: RenderFault,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RenderFault {
    #[error("`{0}` is not a method: write letters such as GET or POST, no blanks")]
    Method(String),
    #[error("CONNECT opens a tunnel and has no answer to measure: use another method")]
    Connect,
    #[error("`{0}` is not a path: begin with `/`, without blanks, control characters or `#`")]
    Path(String),
    #[error("`{0}` is not a header name: write letters, digits and `-`")]
    HeaderName(String),
    #[error("the value of header `{0}` holds a control character, such as a line end")]
    HeaderValue(HeaderName),
    #[error("`{{{0}}}` stands for no value of the plan; write {{{{{0}}}}} for the text itself")]
    Unknown(String),
    #[error("a value makes the path something else than plain ASCII")]
    NotText,
    #[error("{0}")]
    TooMany(String),
    #[error("`${0}` is not set in the environment of the worker")]
    Unset(String),
    #[error("header `{0}` is not for the plan to set: bodies are sent with their length")]
    Framing(HeaderName),
    #[error("header `{0}` is given twice: give it once")]
    Twice(HeaderName),
    #[error("too many headers: at most 24,576 different ones can be sent")]
    TooManyHeaders,
}

/// Renders every template of the plan as it is written, in order. `$NAME` values come from the
/// environment.
pub fn render(plan: &TrialPlan) -> Result<Vec<Rendered>, RenderError> {
    render_with(plan, |name| std::env::var_os(name))
}

fn render_with(
    plan: &TrialPlan,
    variable: impl Fn(&str) -> Option<OsString>,
) -> Result<Vec<Rendered>, RenderError> {
    let templates = plan.mix.iter().enumerate();
    let rendered = templates.map(|(index, template)| {
        render_one(plan, &Draft::of(template), &variable)
            .map(|rendered| Rendered { template: index as u32, ..rendered })
            .map_err(|fault| RenderError { position: index + 1, fault })
    });
    rendered.collect()
}

/// A text on its way into a request.
#[derive(Debug, Clone)]
pub(super) enum Text<'t> {
    /// As the plan has it: `$NAME` as a whole is a variable of the environment.
    Written(&'t [u8]),
    /// Filled in: it stands for itself, whatever it holds.
    Filled(Vec<u8>),
}

/// What a request is rendered from.
#[derive(Debug, Clone)]
pub(super) struct Draft<'t> {
    pub(super) method: &'t str,
    pub(super) path: Cow<'t, str>,
    pub(super) headers: Vec<(&'t str, Text<'t>)>,
    pub(super) body: Text<'t>,
}

impl<'t> Draft<'t> {
    /// A template as it is written.
    pub(super) fn of(template: &'t RequestTemplate) -> Self {
        let header =
            |(name, value): &'t (String, String)| (name.as_str(), Text::Written(value.as_bytes()));
        Draft {
            method: &template.method,
            path: Cow::Borrowed(&template.path),
            headers: template.headers.iter().map(header).collect(),
            body: Text::Written(&template.body),
        }
    }
}

pub(super) fn render_one(
    plan: &TrialPlan,
    draft: &Draft<'_>,
    variable: &impl Fn(&str) -> Option<OsString>,
) -> Result<Rendered, RenderFault> {
    let method = method(draft.method)?;
    let (body, _) = resolve(&draft.body, variable)?;
    let map = header_map(plan, &draft.headers, &method, body.len(), variable)?;
    assemble(method, &draft.path, Arc::new(map), &body)
}

pub(super) fn method(text: &str) -> Result<Method, RenderFault> {
    let method =
        Method::from_bytes(text.as_bytes()).map_err(|_| RenderFault::Method(text.to_string()))?;
    if method == Method::CONNECT { Err(RenderFault::Connect) } else { Ok(method) }
}

/// Puts a request together whose headers are ready.
pub(super) fn assemble(
    method: Method,
    path: &str,
    map: Arc<HeaderMap>,
    body: &[u8],
) -> Result<Rendered, RenderFault> {
    check_path(path)?;
    let mut bytes = format!("{method} {path} HTTP/1.1\r\n").into_bytes();
    for (name, value) in map.iter() {
        bytes.extend_from_slice(name.as_str().as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    let head_length = bytes.len();
    bytes.extend_from_slice(body);
    let bytes = Bytes::from(bytes);
    let begins = method.as_str().len() + 1;
    // The path is a part of the bytes, so that thousands of renderings hold it once each.
    let path = PathAndQuery::from_maybe_shared(bytes.slice(begins..begins + path.len()))
        .map_err(|_| RenderFault::Path(path.to_string()))?;
    Ok(Rendered {
        is_head: method == Method::HEAD,
        closes: map.get_all(header::CONNECTION).iter().any(has_close),
        body: bytes.slice(head_length..),
        template: 0,
        bytes,
        uri: Uri::from(path),
        method,
        map,
    })
}

/// Refuses a path that would not be sent as written.
fn check_path(text: &str) -> Result<(), RenderFault> {
    PathAndQuery::try_from(text)
        .ok()
        .filter(|path| text.starts_with('/') && path.as_str() == text)
        .map(drop)
        .ok_or_else(|| RenderFault::Path(text.to_string()))
}

/// Every header of a request: defaults, then the plan's in order, then the length of the body.
pub(super) fn header_map(
    plan: &TrialPlan,
    headers: &[(&str, Text<'_>)],
    method: &Method,
    body_length: usize,
    variable: &impl Fn(&str) -> Option<OsString>,
) -> Result<HeaderMap, RenderFault> {
    let host =
        HeaderValue::try_from(&plan.host).map_err(|_| RenderFault::HeaderValue(header::HOST))?;
    // Defaults go first and are replaced in place, so that a plan's own value takes their position.
    let mut map = HeaderMap::new();
    map.insert(header::HOST, host);
    map.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
    map.insert(header::ACCEPT, HeaderValue::from_static("*/*"));
    let defaults = map.clone();
    let length = HeaderValue::from(body_length);
    let mut named: Vec<HeaderName> = Vec::new();
    for (name, value) in headers {
        let name = HeaderName::try_from(*name)
            .map_err(|_| RenderFault::HeaderName((*name).to_string()))?;
        let (value, is_secret) = resolve(value, variable)?;
        let mut value =
            HeaderValue::from_bytes(&value).map_err(|_| RenderFault::HeaderValue(name.clone()))?;
        value.set_sensitive(is_secret);
        let once = matches!(name, header::HOST | header::CONTENT_LENGTH);
        if once && named.contains(&name) {
            return Err(RenderFault::Twice(name));
        }
        if name == header::TRANSFER_ENCODING || (name == header::CONTENT_LENGTH && value != length)
        {
            return Err(RenderFault::Framing(name));
        }
        if name == header::CONTENT_LENGTH {
            // It is set below, where every request has it.
        } else if defaults.contains_key(&name) && !named.contains(&name) {
            map.insert(&name, value);
        } else {
            map.try_append(&name, value).map_err(|_| RenderFault::TooManyHeaders)?;
        }
        named.push(name);
    }
    if !plan.keep_alive && !map.get_all(header::CONNECTION).iter().any(has_close) {
        let close = HeaderValue::from_static("close");
        map.try_append(header::CONNECTION, close).map_err(|_| RenderFault::TooManyHeaders)?;
    }
    let sends_length = body_length > 0
        || named.contains(&header::CONTENT_LENGTH)
        || matches!(*method, Method::POST | Method::PUT | Method::PATCH);
    if sends_length {
        map.try_insert(header::CONTENT_LENGTH, length).map_err(|_| RenderFault::TooManyHeaders)?;
    }
    Ok(map)
}

/// A value as it is, or, where it is `$NAME` as a whole, that variable's; the flag tells which.
pub(super) fn resolve<'t>(
    text: &'t Text<'t>,
    variable: &impl Fn(&str) -> Option<OsString>,
) -> Result<(Cow<'t, [u8]>, bool), RenderFault> {
    let written = match text {
        Text::Filled(filled) => return Ok((Cow::Borrowed(filled), false)),
        Text::Written(written) => *written,
    };
    let Some(name) = std::str::from_utf8(written).ok().and_then(variable_name) else {
        return Ok((Cow::Borrowed(written), false));
    };
    let value = variable(name).ok_or_else(|| RenderFault::Unset(name.to_string()))?;
    Ok((Cow::Owned(value.into_vec()), true))
}

fn has_close(value: &HeaderValue) -> bool {
    value.as_bytes().split(|&b| b == b',').any(|t| t.trim_ascii().eq_ignore_ascii_case(b"close"))
}
