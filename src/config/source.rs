//! Where each key came from: the text of a config with overrides laid over it.
//!
//! The tree that serde reads carries byte spans. Spans below the length of the text point into the
//! file; those of override *i* lie in a range of their own beyond it, which is had by parsing each
//! override behind that much padding. So one number says whether a fault lies in the file or in an
//! override, however deep in a value it is.

use std::borrow::Cow;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::ConfigError;
use super::explain::{Segment, key_path, reworded, shown};

/// The value of an override is parsed as the value of this key.
const VALUE_KEY: &str = "v = ";

/// Keys that hold lists: an override may give a single value for them.
const LISTS: [&str; 14] = [
    "target.allow",
    "plan.expect_status",
    "plan.stages",
    "sweep.engines",
    "sweep.codecs",
    "sweep.lanes",
    "sweep.processes",
    "sweep.cpus",
    "sweep.rates",
    "sweep.bodies",
    "sweep.stack_sizes",
    "sweep.rayon_threads",
    "machine.worker_cpus",
    "machine.target_cpus",
];

/// A config and its overrides.
pub(super) struct Source<'a> {
    text: &'a str,
    file_name: &'a str,
    overrides: Vec<Override>,
}

/// One `--set`.
struct Override {
    /// The key as given.
    key: String,
    path: Vec<String>,
    /// Padding, then `v = VALUE`.
    document: String,
    padding: usize,
}

impl Override {
    /// Never empty, even if the value is.
    fn span(&self) -> Range<usize> {
        self.padding..self.document.len()
    }

    /// The value as TOML, or as a string where it is none: `5ms` needs no quotes.
    fn value(&self) -> Spanned<DeValue<'_>> {
        let parsed = DeTable::parse(&self.document).ok().map(Spanned::into_inner);
        // More than one key means that the value held a line break and a key of its own.
        match parsed.filter(|table| table.len() == 1).and_then(|t| t.into_iter().next()) {
            Some((_, value)) => value,
            None => {
                let text = Cow::Borrowed(&self.document[self.padding + VALUE_KEY.len()..]);
                Spanned::new(self.span(), DeValue::String(text))
            }
        }
    }
}

/// The segments of a dotted key, or `None` if it is not one.
fn dotted(key: &str) -> Option<Vec<String>> {
    if key.contains(['\n', '\r', '#', '=']) {
        return None;
    }
    let document = format!("{key} = 0");
    let mut table = DeTable::parse(&document).ok()?.into_inner();
    let mut path = Vec::new();
    loop {
        let (segment, value) = table.into_iter().next()?;
        path.push(segment.into_inner().into_owned());
        match value.into_inner() {
            DeValue::Table(inner) => table = inner,
            _ => return Some(path),
        }
    }
}

impl<'a> Source<'a> {
    /// Splits the overrides, which stand as `key=value`.
    pub(super) fn new(
        text: &'a str,
        file_name: &'a str,
        given: &[String],
    ) -> Result<Self, ConfigError> {
        let mut overrides: Vec<Override> = Vec::with_capacity(given.len());
        for one in given {
            let (key, value) = one.split_once('=').unwrap_or((one, ""));
            let key = key.trim();
            let Some(path) = dotted(key).filter(|_| one.contains('=')) else {
                return Err(ConfigError::Invalid {
                    place: format!("--set {}", shown(key)),
                    key: None,
                    message: "is not an override: write key=value, such as plan.requests=100"
                        .into(),
                });
            };
            let padding = overrides.last().map_or(text.len(), |o| o.document.len()) + 1;
            let document = format!("{:padding$}{VALUE_KEY}{value}", "");
            overrides.push(Override { key: key.into(), path, document, padding });
        }
        Ok(Source { text, file_name, overrides })
    }

    /// The keys of the file with the overrides laid over them.
    pub(super) fn tree(&self) -> Result<Spanned<DeTable<'_>>, ConfigError> {
        let mut root = DeTable::parse(self.text).map_err(|error| {
            let start = error.span().map_or(0, |span| span.start);
            ConfigError::Invalid {
                place: self.place_name(start).0,
                key: None,
                message: format!("not valid TOML: {}", error.message()),
            }
        })?;
        for one in &self.overrides {
            self.lay_over(root.get_mut(), one).map_err(|message| ConfigError::Invalid {
                place: format!("--set {}", shown(&one.key)),
                key: None,
                message,
            })?;
        }
        Ok(root)
    }

    fn lay_over<'t>(&self, root: &mut DeTable<'t>, one: &'t Override) -> Result<(), String> {
        let mut value = one.value();
        let path = one.path.join(".");
        if LISTS.contains(&path.as_str()) && !value.get_ref().is_array() {
            let span = value.span();
            value = Spanned::new(span, DeValue::Array(std::iter::once(value).collect()));
        }
        for key in displaced(&path, value.get_ref()) {
            self.remove_from_file(root, key);
        }
        set(root, &one.path, value, &one.span())
    }

    /// Removes a key, unless another override gave it.
    fn remove_from_file(&self, root: &mut DeTable<'_>, key: &str) {
        let Some((table, key)) = key.split_once('.') else { return };
        let Some(DeValue::Table(table)) = root.get_mut(table).map(Spanned::get_mut) else {
            return;
        };
        if table.get(key).is_some_and(|value| value.span().start < self.text.len()) {
            table.remove(key);
        }
    }

    /// Turns what serde says into an error that names place and key.
    pub(super) fn explain(
        &self,
        tree: &Spanned<DeTable<'_>>,
        error: &toml::de::Error,
    ) -> ConfigError {
        let span = error.span().unwrap_or(0..0);
        let path = key_path(tree.get_ref(), &span);
        let names: Vec<&str> = path.iter().filter_map(Segment::name).collect();
        self.place(tree, &span, reworded(error.message(), &names))
    }

    /// An error at a span of the tree.
    pub(super) fn place(
        &self,
        tree: &Spanned<DeTable<'_>>,
        span: &Range<usize>,
        message: String,
    ) -> ConfigError {
        let (place, given) = self.place_name(span.start);
        let path = key_path(tree.get_ref(), span);
        let key: String = path.iter().enumerate().map(|(i, s)| s.display(i == 0)).collect();
        let key = (!key.is_empty() && given != Some(key.as_str())).then_some(key);
        ConfigError::Invalid { place, key, message }
    }

    /// `file:line`, or the override and its key.
    fn place_name(&self, start: usize) -> (String, Option<&str>) {
        match self.overrides.iter().find(|one| one.span().contains(&start)) {
            Some(one) => (format!("--set {}", shown(&one.key)), Some(&one.key)),
            None => {
                let before = &self.text.as_bytes()[..start.min(self.text.len())];
                let line = 1 + before.iter().filter(|b| **b == b'\n').count();
                (format!("{}:{line}", self.file_name), None)
            }
        }
    }
}

/// Keys that make no sense beside an override, which therefore takes their place.
fn displaced(path: &str, value: &DeValue<'_>) -> &'static [&'static str] {
    match path {
        "plan.requests" => &["plan.duration"],
        "plan.duration" => &["plan.requests"],
        "plan.arrivals" if value.as_str() == Some("closed") => {
            &["sweep.rates", "plan.stages", "plan.trace", "plan.trace_speed", "plan.trace_format"]
        }
        "plan.trace" => &["sweep.rates", "plan.stages"],
        "plan.stages" => &["sweep.rates", "plan.duration", "plan.requests"],
        "sweep.bodies" => &["target.body"],
        "target.body" => &["sweep.bodies"],
        "target.url" => &[
            "target.service_time",
            "target.servers",
            "target.processes",
            "target.body",
            "target.faults",
            "sweep.bodies",
            "machine.target_cpus",
        ],
        _ => &[],
    }
}

/// Sets one key, making the tables (and, before a number, the list) on the way to it.
fn set<'t>(
    table: &mut DeTable<'t>,
    path: &[String],
    value: Spanned<DeValue<'t>>,
    span: &Range<usize>,
) -> Result<(), String> {
    let (first, rest) = path.split_first().ok_or("an override needs a key")?;
    let key = || Spanned::new(span.clone(), Cow::Owned(first.clone()));
    if rest.is_empty() {
        // An old key keeps its place, since headers are sent in the order of their places.
        match table.get_mut(first.as_str()) {
            Some(old) => *old = value,
            None => drop(table.insert(key(), value)),
        }
        return Ok(());
    }
    let numbered = rest[0].parse::<usize>().is_ok();
    let entry = table.entry(key()).or_insert_with(|| {
        let empty = if numbered {
            DeValue::Array(std::iter::empty().collect())
        } else {
            DeValue::Table(DeTable::new())
        };
        Spanned::new(span.clone(), empty)
    });
    match entry.get_mut() {
        DeValue::Table(inner) => set(inner, rest, value, span),
        DeValue::Array(list) => {
            let (element, rest) = element(list, rest, first, span)?;
            if rest.is_empty() {
                *element = value;
                return Ok(());
            }
            match element.get_mut() {
                DeValue::Table(inner) => set(inner, rest, value, span),
                other => Err(not_a_table(first, other)),
            }
        }
        other => Err(not_a_table(first, other)),
    }
}

fn not_a_table(name: &str, found: &DeValue<'_>) -> String {
    format!("`{}` is no table but of type {}", shown(name), found.type_str())
}

/// The element that the first of `path` numbers, made if it is the next one, and the rest of `path`.
fn element<'l, 't, 'p>(
    list: &'l mut DeArray<'t>,
    path: &'p [String],
    name: &str,
    span: &Range<usize>,
) -> Result<(&'l mut Spanned<DeValue<'t>>, &'p [String]), String> {
    let length = list.len();
    let number = path.first().and_then(|segment| segment.parse::<usize>().ok());
    if number == Some(length) {
        list.push(Spanned::new(span.clone(), DeValue::Table(DeTable::new())));
    }
    let element = number.and_then(|index| list.get_mut(index));
    let error = || format!("`{}` must be followed by a number from 0 to {length}", shown(name));
    Ok((element.ok_or_else(error)?, path.get(1..).unwrap_or_default()))
}
