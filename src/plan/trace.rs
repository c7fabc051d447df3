//! Traces: requests and their instants, from a file.
//!
//! Two forms are read, told apart by the first line:
//!
//! * `offsets`: `offset_ms<TAB>path` a line, as h2load's `--timing-script-file` has it; decimals of
//!   a millisecond count, and of a whole URI only path and query are used, since load goes to
//!   `[target]`. Every request is a GET.
//! * an access log in Apache's `common` or `combined` form, as nginx writes it too. Its clock counts
//!   whole seconds, so the entries of one second are spread evenly over it, in their order: sent
//!   all at once they would make bursts that nobody saw.
//!
//! A log knows no bodies. GET, HEAD and OPTIONS are replayed as they stand; entries of another
//! method are replayed where a `[[plan.request]]` of that method says with what headers and body,
//! and skipped otherwise, as are entries that hold no request (`"-"`, or what a scanner sent).
//! What is skipped is counted in [`TraceFile::skipped`] and shown by `duel plan`.
//!
//! A line that has not the form, is cut short, or lies before the one above it is an error that
//! names it: such a file is not what its user takes it for.

mod log;

use std::borrow::Cow;
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::Path;

use anyhow::{anyhow, bail};
use serde::{Deserialize, Serialize};

use super::values::{self, DataError};
use super::{LONGEST_NS, RequestTemplate};
use crate::units::SECOND_NS;

/// Largest file, in bytes: it is read whole.
const MAX_FILE_BYTES: u64 = 1 << 30;
/// What stands for the method of an entry that holds no request.
const NO_REQUEST: &str = "-";
/// Methods that are replayed although nothing says with what body.
const WITHOUT_BODY: [&str; 3] = ["GET", "HEAD", "OPTIONS"];

super::named! {
    pub enum TraceFormat {
        /// `offset_ms<TAB>path`.
        Offsets = "offsets",
        /// `host ident user [time] "request" status bytes`.
        Common = "common",
        /// `common` and `"referer" "user agent"`.
        Combined = "combined",
    }
}

/// What a plan knows of its trace; the entries stay in the file, which every worker reads itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TraceFile {
    /// The file, an absolute path. The plan hash holds the digest instead.
    pub path: String,
    /// SHA-256 of the file, in hexadecimal: a worker refuses another.
    pub sha256: String,
    pub format: TraceFormat,
    /// Offsets are divided by this.
    pub speed: f64,
    pub entries: u64,
    /// Longest time between two of them, or before the first.
    pub longest_gap_ns: u64,
    /// Requests in its busiest second, at the speed of the plan.
    #[serde(default)]
    pub peak_per_s: u64,
    /// From its beginning to its last request, for estimates: a plan that was read back has none.
    #[serde(skip)]
    pub span_ns: u64,
    /// Entries that are not replayed, by method; `-` for those that hold no request.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub skipped: BTreeMap<String, u64>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trace {
    /// Intended start of each entry after the trace's beginning, at the speed of the plan.
    pub offsets_ns: Vec<u64>,
    /// What each entry sends: a position in `requests`.
    pub picks: Vec<u32>,
    /// Each different request once: method and path.
    pub requests: Vec<(String, String)>,
    pub skipped: BTreeMap<String, u64>,
}

/// What is wrong with a trace: `line` counts from 1, and is 0 where the whole file is meant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{message}", if *line > 0 { format!("line {line}: ") } else { String::new() })]
pub(crate) struct TraceError {
    pub(crate) line: usize,
    pub message: String,
}

impl TraceError {
    fn new(line: usize, message: impl fmt::Display) -> Self {
        TraceError { line, message: message.to_string() }
    }
}

impl Trace {
    pub(crate) fn len(&self) -> u64 {
        self.offsets_ns.len() as u64
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.offsets_ns.is_empty()
    }

    /// Longest time between two entries, or before the first.
    pub(crate) fn longest_gap_ns(&self) -> u64 {
        let gaps = self.offsets_ns.windows(2).map(|pair| pair[1] - pair[0]);
        gaps.chain(self.offsets_ns.first().copied()).max().unwrap_or(0)
    }

    pub(crate) fn peak_per_s(&self) -> u64 {
        let mut first = 0;
        let within = self.offsets_ns.iter().enumerate().map(|(last, at)| {
            while self.offsets_ns[first] + SECOND_NS <= *at {
                first += 1;
            }
            last + 1 - first
        });
        within.max().unwrap_or(0) as u64
    }

    /// Reads the text of a trace. `format` is told by the first line where it is `None`; `mix`
    /// says which methods can be sent.
    pub(crate) fn parse(
        text: &[u8],
        format: Option<TraceFormat>,
        speed: f64,
        mix: &[RequestTemplate],
    ) -> Result<(Trace, TraceFormat), TraceError> {
        let mut lines = values::without_mark(text)
            .split(|byte| *byte == b'\n')
            .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
            .enumerate()
            .map(|(index, line)| (index + 1, line))
            .filter(|(_, line)| !line.trim_ascii().is_empty())
            .peekable();
        let Some((number, first)) = lines.peek() else {
            return Err(TraceError::new(0, "holds no line"));
        };
        let format = match format {
            Some(format) => format,
            None => tell(first).ok_or_else(|| {
                let allowed = "`offset_ms<TAB>path`, or an access log in common or combined form";
                TraceError::new(*number, format!("is of no known form: allowed are {allowed}"))
            })?,
        };
        let mut builder = Builder::new(speed, mix);
        for (number, line) in lines {
            match format {
                TraceFormat::Offsets => {
                    let (offset_ns, path) =
                        offset(line).map_err(|message| TraceError::new(number, message))?;
                    builder.take(number, offset_ns, b"GET", path)?;
                }
                TraceFormat::Common | TraceFormat::Combined => {
                    let entry = log::entry(line, format == TraceFormat::Combined)
                        .map_err(|message| TraceError::new(number, message))?;
                    builder.logged(number, &entry)?;
                }
            }
        }
        builder.finish().map(|trace| (trace, format))
    }
}

/// The form of a line, if it is of one.
fn tell(line: &[u8]) -> Option<TraceFormat> {
    let number = line.split(|byte| *byte == b'\t').next().unwrap_or_default();
    if number.len() < line.len() && milliseconds(number).is_some() {
        return Some(TraceFormat::Offsets);
    }
    if log::entry(line, true).is_ok() {
        return Some(TraceFormat::Combined);
    }
    log::entry(line, false).ok().map(|_| TraceFormat::Common)
}

fn offset(line: &[u8]) -> anyhow::Result<(f64, Cow<'_, [u8]>)> {
    let Some(tab) = line.iter().position(|byte| *byte == b'\t') else {
        bail!("holds no TAB: write offset_ms<TAB>path");
    };
    let (number, uri) = (&line[..tab], line[tab + 1..].trim_ascii());
    let ms = milliseconds(number).ok_or_else(|| {
        let text = String::from_utf8_lossy(number);
        anyhow!("`{}` is not an offset: write milliseconds, such as 12.5", text.escape_debug())
    })?;
    if !(ms >= 0.0 && ms * 1e6 <= LONGEST_NS) {
        bail!("an offset of {ms} ms is out of range: allowed are 0 ms to 720h");
    }
    if uri.is_empty() {
        bail!("is torn: no path follows the TAB");
    }
    Ok((ms * 1e6, origin_form(uri)))
}

fn milliseconds(number: &[u8]) -> Option<f64> {
    std::str::from_utf8(number).ok()?.trim().parse().ok()
}

/// Path and query of a URI (RFC 9112, 3.2.1): without a path, that of the root.
fn origin_form(uri: &[u8]) -> Cow<'_, [u8]> {
    let scheme = [&b"http://"[..], b"https://"]
        .into_iter()
        .find(|s| uri.get(..s.len()).is_some_and(|start| start.eq_ignore_ascii_case(s)));
    let Some(scheme) = scheme else { return uri.into() };
    let rest = &uri[scheme.len()..];
    match rest.iter().position(|byte| b"/?#".contains(byte)) {
        Some(at) if rest[at] == b'/' => rest[at..].into(),
        Some(at) if rest[at] == b'?' => [b"/", &rest[at..]].concat().into(),
        _ => b"/"[..].into(),
    }
}

struct Builder<'t> {
    trace: Trace,
    speed: f64,
    methods: Vec<&'t str>,
    known: HashMap<(&'t [u8], Cow<'t, [u8]>), u32>,
    last_ns: f64,
    /// Second of the log's first entry and of the last one, and where the last one's entries begin.
    seconds: Option<(i64, i64)>,
    second_begins: usize,
}

impl<'t> Builder<'t> {
    fn new(speed: f64, mix: &'t [RequestTemplate]) -> Self {
        let named = mix.iter().map(|template| template.method.as_str());
        Builder {
            trace: Trace::default(),
            speed,
            methods: WITHOUT_BODY.into_iter().chain(named).collect(),
            known: HashMap::new(),
            last_ns: 0.0,
            seconds: None,
            second_begins: 0,
        }
    }

    fn take(
        &mut self,
        number: usize,
        offset_ns: f64,
        method: &'t [u8],
        path: Cow<'t, [u8]>,
    ) -> Result<(), TraceError> {
        if offset_ns < self.last_ns {
            let (now, before) = (offset_ns / 1e6, self.last_ns / 1e6);
            let rule = "a trace must be sorted by time";
            let message = format!("runs backwards: {now} ms behind {before} ms; {rule}");
            return Err(TraceError::new(number, message));
        }
        self.last_ns = offset_ns;
        if !values::is_path(&path) {
            let found = String::from_utf8_lossy(&path).escape_debug().to_string();
            let rule = "begin with / and write other characters than plain ASCII as %XX";
            return Err(TraceError::new(number, format!("`{found}` is not a path: {rule}")));
        }
        self.push(offset_ns, method, path);
        Ok(())
    }

    /// Takes an entry of an access log; its place within the second is set when that is over.
    fn logged(&mut self, number: usize, entry: &log::LogEntry<'t>) -> Result<(), TraceError> {
        let (first, last) = self.seconds.unwrap_or((entry.second, entry.second));
        if entry.second < last {
            let rule = "sort the log by time (servers write it by the ends of requests)";
            let message = format!("runs backwards by {} s; {rule}", last - entry.second);
            return Err(TraceError::new(number, message));
        }
        if (entry.second - first) as f64 * 1e9 > LONGEST_NS {
            return Err(TraceError::new(number, "lies more than 720h behind the first entry"));
        }
        if entry.second > last {
            self.spread(last - first);
        }
        self.seconds = Some((first, entry.second));
        let path = origin_form(entry.path);
        if entry.method.is_empty() || !values::is_path(&path) {
            *self.trace.skipped.entry(NO_REQUEST.into()).or_default() += 1;
        } else if self.methods.iter().any(|method| method.as_bytes() == entry.method) {
            self.push(0.0, entry.method, path);
        } else {
            let method = String::from_utf8_lossy(entry.method).into_owned();
            *self.trace.skipped.entry(method).or_default() += 1;
        }
        Ok(())
    }

    fn push(&mut self, offset_ns: f64, method: &'t [u8], path: Cow<'t, [u8]>) {
        let requests = &mut self.trace.requests;
        let pick = match self.known.entry((method, path)) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(new) => {
                // Both were found to be plain ASCII.
                let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
                requests.push((text(method), text(&new.key().1)));
                *new.insert(requests.len() as u32 - 1)
            }
        };
        self.trace.picks.push(pick);
        self.trace.offsets_ns.push((offset_ns / self.speed) as u64);
    }

    /// Spreads the entries of a second evenly over it: the k-th of m at k ÷ m.
    fn spread(&mut self, second: i64) {
        let entries = &mut self.trace.offsets_ns[self.second_begins..];
        let count = entries.len() as f64;
        for (k, offset) in entries.iter_mut().enumerate() {
            let at = (second as f64 + k as f64 / count) * SECOND_NS as f64;
            *offset = (at / self.speed) as u64;
        }
        self.second_begins = self.trace.offsets_ns.len();
    }

    fn finish(mut self) -> Result<Trace, TraceError> {
        if let Some((first, last)) = self.seconds {
            self.spread(last - first);
        }
        if self.trace.is_empty() {
            let skipped = skipped(&self.trace.skipped).unwrap_or_default();
            return Err(TraceError::new(0, format!("holds no request that is replayed{skipped}")));
        }
        Ok(self.trace)
    }
}

/// `: 12 entries skipped (10 POST, 2 without a request)`, where any were.
pub fn skipped(counts: &BTreeMap<String, u64>) -> Option<String> {
    let total: u64 = counts.values().sum();
    let each = counts.iter().map(|(method, count)| match method.as_str() {
        NO_REQUEST => format!("{count} without a request"),
        method => format!("{count} {method}"),
    });
    let list = each.collect::<Vec<_>>().join(", ");
    (total > 0).then(|| {
        let way = if counts.keys().any(|method| method != NO_REQUEST) {
            "; a log holds no bodies: a [[plan.request]] of the method gives one"
        } else {
            ""
        };
        format!(": {total} entries skipped ({list}){way}")
    })
}

impl TraceFile {
    pub(crate) fn read(
        path: &Path,
        format: Option<TraceFormat>,
        speed: f64,
        mix: &[RequestTemplate],
    ) -> Result<(TraceFile, Trace), DataError> {
        let text = values::read_file(path, MAX_FILE_BYTES)?;
        let (trace, format) =
            Trace::parse(&text, format, speed, mix).map_err(|error| named(path, &error))?;
        let file = TraceFile {
            path: values::absolute(path)?,
            sha256: values::sha256(&text),
            format,
            speed,
            entries: trace.len(),
            longest_gap_ns: trace.longest_gap_ns(),
            peak_per_s: trace.peak_per_s(),
            span_ns: trace.offsets_ns.last().copied().unwrap_or(0),
            skipped: trace.skipped.clone(),
        };
        Ok((file, trace))
    }

    /// Reads the entries again, in a worker.
    pub(crate) fn load(&self, mix: &[RequestTemplate]) -> Result<Trace, DataError> {
        let path = Path::new(&self.path);
        let text = values::read_file(path, MAX_FILE_BYTES)?;
        if values::sha256(&text) != self.sha256 {
            return Err(DataError::changed(&self.path));
        }
        Trace::parse(&text, Some(self.format), self.speed, mix)
            .map(|(trace, _)| trace)
            .map_err(|error| named(path, &error))
    }
}

fn named(path: &Path, error: &TraceError) -> DataError {
    let (path, message) = (path.display(), &error.message);
    DataError(match error.line {
        0 => format!("`{path}`: {message}"),
        line => format!("{path}:{line}: {message}"),
    })
}

#[cfg(test)]
mod tests;
