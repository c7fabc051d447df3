//! `[plan.values]`, and every `{name}` that a request holds.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

use anyhow::bail;

use super::{Fault, each, fault};
use crate::config::keys::{Plan, ValueKeys};
use crate::config::node::shown;
use crate::config::read::{At, hint, place_of};
use crate::plan::prepare::{MAX_BYTES, OVERHEAD_BYTES, RENDERINGS_MOST, renderings};
use crate::plan::values::{Lines, Piece, RequestValue, absolute, is_name, is_path, pieces};
use crate::plan::{TrialPlan, variable_name};
use crate::units::{format_count, size_literal};

/// What one header line takes beside its text in a map of its own.
const HEADER_BYTES: u64 = 128;

/// A plan's values, with the lines of data files at hand to be checked.
#[derive(Default)]
pub(super) struct Resolved {
    pub(super) values: BTreeMap<String, RequestValue>,
    lines: BTreeMap<String, (String, Lines)>,
}

pub(super) fn resolve(file: &Plan, base_dir: &Path) -> Result<Resolved, Vec<Fault>> {
    let mut resolved = Resolved::default();
    each(file.values.0.iter().map(|(name, keys)| {
        let text = &name.value;
        if !is_name(text) {
            let rule = "use letters, digits and _, and no digit first";
            return Err(fault(name, format!("`{}` is not a name: {rule}", shown(text))));
        }
        let value = value(keys, base_dir, |shown, lines| {
            resolved.lines.insert(text.clone(), (shown, lines));
        })?;
        resolved.values.insert(text.clone(), value);
        Ok(())
    }))?;
    Ok(resolved)
}

fn value(
    at: &At<ValueKeys>,
    base_dir: &Path,
    keep: impl FnOnce(String, Lines),
) -> Result<RequestValue, Fault> {
    let one = "give one of `counter`, `random` and `choice`";
    match &at.value {
        ValueKeys { counter: Some(counter), random: None, choice: None } => {
            Ok(RequestValue::Counter { start: counter.start.0, step: counter.step.0 })
        }
        ValueKeys { counter: None, random: Some(range), choice: None } => {
            let [min, max] = range.as_slice() else {
                return Err(fault(range, "write the least and the greatest, such as [1, 1000]"));
            };
            let (min, max) = (min.0, max.0);
            if min > max {
                let why = format!("the least, {min}, is above the greatest, {max}");
                return Err(fault(range, why));
            }
            Ok(RequestValue::Random { min, max })
        }
        ValueKeys { counter: None, random: None, choice: Some(path) } => {
            let file = base_dir.join(&path.value);
            let lines = Lines::read(&file).map_err(|error| fault(path, error))?;
            let absolute = absolute(&file).map_err(|error| fault(path, error))?;
            let value = RequestValue::Choice { path: absolute, sha256: lines.sha256() };
            keep(file.display().to_string(), lines);
            Ok(value)
        }
        _ => Err(fault(at, one)),
    }
}

/// What a text becomes part of, which says what its values may hold.
#[derive(Clone, Copy)]
enum TextPart {
    Path,
    Header,
    Body,
}

/// Checks the headers and bodies of the plan against its values.
pub(super) fn check(file: &Plan, resolved: &Resolved) -> Result<(), Fault> {
    if resolved.values.is_empty() {
        return Ok(());
    }
    for entry in file.request.iter().flat_map(|list| &list.value) {
        for at in entry.headers.0.iter().flat_map(|(_, values)| values) {
            check_text(at, at, TextPart::Header, resolved)?;
        }
        if let Some(at) = &entry.body {
            check_text(at, at, TextPart::Body, resolved)?;
        }
    }
    Ok(())
}

pub(super) fn check_path(at: &At<String>, resolved: &Resolved) -> Result<(), Fault> {
    check_text(at, at, TextPart::Path, resolved)
}

/// A path with something in place of each value.
pub(super) fn sample<'t>(path: &'t str, resolved: &Resolved) -> Cow<'t, str> {
    if resolved.values.is_empty() {
        return Cow::Borrowed(path);
    }
    let filled = fill(&pieces(path.as_bytes()), "", b"", resolved);
    Cow::Owned(String::from_utf8_lossy(&filled).into_owned())
}

/// Checks a body that was read from the file that `at` names.
pub(super) fn check_body_file(
    at: &At<String>,
    body: &[u8],
    resolved: &Resolved,
) -> Result<(), Fault> {
    match std::str::from_utf8(body) {
        Ok(text) if !resolved.values.is_empty() => check_text(at, text, TextPart::Body, resolved),
        _ => Ok(()),
    }
}

fn check_text(
    at: &At<String>,
    text: &str,
    place: TextPart,
    resolved: &Resolved,
) -> Result<(), Fault> {
    let pieces = pieces(text.as_bytes());
    for piece in &pieces {
        let Piece::Value(name) = piece else { continue };
        if !resolved.values.contains_key(*name) {
            return Err(fault(at, unknown(name, resolved)));
        }
        let Some((file, lines)) = resolved.lines.get(*name) else { continue };
        for (number, line) in lines.iter() {
            fits(&pieces, name, line, place, resolved)
                .map_err(|why| fault(at, format!("{file}:{number}: {why}")))?;
        }
    }
    Ok(())
}

fn unknown(name: &str, resolved: &Resolved) -> String {
    let known: Vec<&str> = resolved.values.keys().map(String::as_str).collect();
    let hint = hint(name, &known, "").unwrap_or_default();
    if known.is_empty() {
        let braces = format!("%7B{name}%7D");
        return format!(
            "unknown value `{name}`: there is no [plan.values]; write {braces} for the text"
        );
    }
    let allowed = known.join(", ");
    format!(
        "unknown value `{name}`: {hint}allowed: {allowed}; `{{{{{name}}}}}` is the text `{{{name}}}`"
    )
}

/// A template with `line` for `name`, the first line for other choices, and 0 for numbers.
fn fill(pieces: &[Piece<'_>], name: &str, line: &[u8], resolved: &Resolved) -> Vec<u8> {
    let mut filled = Vec::new();
    for piece in pieces {
        filled.extend_from_slice(match piece {
            Piece::Text(text) => text,
            Piece::Value(other) if *other == name => line,
            Piece::Value(other) => match resolved.lines.get(*other) {
                Some((_, lines)) => lines.iter().next().map_or(&b"0"[..], |(_, first)| first),
                None => b"0",
            },
        });
    }
    filled
}

/// Whether a template with `line` for `name` can stand in its place.
fn fits(
    pieces: &[Piece<'_>],
    name: &str,
    line: &[u8],
    place: TextPart,
    resolved: &Resolved,
) -> anyhow::Result<()> {
    let filled = fill(pieces, name, line, resolved);
    let found = || String::from_utf8_lossy(line).escape_debug().to_string();
    match place {
        TextPart::Path if !is_path(&filled) => {
            let rule = "write other characters than plain ASCII, # and blanks as %XX";
            bail!("`{}` makes no path: {rule}", shown(&found()))
        }
        // The value may be a secret: it is not repeated.
        TextPart::Header if http::HeaderValue::from_bytes(&filled).is_err() => {
            bail!("the line makes no header value: it holds a control character")
        }
        _ => Ok(()),
    }
}

/// Settles how many requests are rendered, and refuses more than a worker may hold.
pub(super) fn bound(file: &Plan, resolved: &Resolved, plan: &mut TrialPlan) -> Result<(), Fault> {
    let given = file.renderings.as_ref();
    let needless = plan.values.is_empty() || plan.trace.is_some();
    if let Some(at) = given.filter(|_| needless) {
        let why =
            if plan.trace.is_some() { "a trace renders each entry" } else { "there are none" };
        return Err(fault(at, format!("counts renderings of [plan.values], and {why}: remove it")));
    }
    plan.renderings = given.map(|at| at.0);
    if plan.values.is_empty() {
        return Ok(());
    }
    let first = file.values.0.first().map(|(name, _)| &name.place);
    let place = place_of(&file.renderings).or(place_of(&file.requests)).or(first);
    let refuse = |message: String| place.map_or(Ok(()), |place| Err(Fault::new(place, message)));
    let count = match &plan.trace {
        Some(trace) => trace.entries,
        None => renderings(plan),
    };
    let way_out = "set plan.renderings to how many of them to render and send again and again";
    if count > RENDERINGS_MOST && plan.trace.is_none() {
        let (count, most) = (format_count(count), format_count(RENDERINGS_MOST));
        return refuse(format!("{count} requests with values, at most {most}: {way_out}"));
    }
    let longest = |text: &[u8]| {
        let of = |name: &str| match resolved.lines.get(name) {
            Some((_, lines)) => lines.iter().map(|(_, line)| line.len()).max().unwrap_or(0),
            None => 20,
        };
        let length = |piece: &Piece<'_>| match piece {
            Piece::Text(text) => text.len(),
            Piece::Value(name) => of(name),
        };
        pieces(text).iter().map(length).sum::<usize>() as u64
    };
    let one = |template: &crate::plan::RequestTemplate| {
        let header = |(name, value): &(String, String)| {
            let value = match variable_name(value) {
                Some(_) => value.len() as u64,
                None => longest(value.as_bytes()),
            };
            name.len() as u64 + value + HEADER_BYTES
        };
        let headers: u64 = template.headers.iter().map(header).sum();
        longest(template.path.as_bytes()) + headers + longest(&template.body) + OVERHEAD_BYTES
    };
    let most = plan.mix.iter().map(one).max().unwrap_or(0) + 3 * HEADER_BYTES;
    if count.saturating_mul(most) > MAX_BYTES {
        let (count, needed) = (format_count(count), size_literal(count.saturating_mul(most)));
        let allowed = size_literal(MAX_BYTES);
        return refuse(format!(
            "{count} renderings may take {needed}, at most {allowed} are held: {way_out}"
        ));
    }
    Ok(())
}
