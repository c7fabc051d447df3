//! What was written, and where: the text of a config with settings of the command line laid over it.
//!
//! File, `--set` and flags become one tree in which each value knows its place, so that everything
//! behind it need not know where a value came from.

use std::fmt::Display;

use anyhow::{Context, anyhow};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::entry::{self, Entry, Only};
use crate::plan::Arrivals;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    Line(usize),
    Set(String),
    Flag(String),
    Default,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) origin: Origin,
    /// The dotted key; empty for the whole config.
    pub(super) key: String,
}

impl Place {
    /// The line in the file; what the command line says comes behind all of them.
    pub(super) fn line(&self) -> usize {
        match self.origin {
            Origin::Line(line) => line,
            _ => usize::MAX,
        }
    }

    pub(super) fn whole() -> Self {
        Place { origin: Origin::Default, key: String::new() }
    }

    pub(super) fn under(&self, name: &str) -> Self {
        let dot = if self.key.is_empty() { "" } else { "." };
        Place { origin: self.origin.clone(), key: format!("{}{dot}{}", self.key, shown(name)) }
    }

    fn element(&self, index: usize) -> Self {
        Place { origin: self.origin.clone(), key: format!("{}[{index}]", self.key) }
    }
}

/// Something that is not allowed, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) place: Place,
    pub(super) message: String,
    /// Whether the message goes on from the name of what it is about: `must be at least 1`.
    is_bound: bool,
}

impl Fault {
    pub(super) fn new(place: &Place, message: impl Display) -> Self {
        Fault { place: place.clone(), message: message.to_string(), is_bound: false }
    }

    /// Of a value outside of its bounds: `bound` says what it must be.
    pub(super) fn must(place: &Place, bound: impl Display) -> Self {
        Fault { is_bound: true, ..Fault::new(place, format!("must {bound}")) }
    }

    pub(super) fn line(&self, file_name: &str) -> String {
        let Fault { place: Place { origin, key }, message, is_bound } = self;
        let place = match origin {
            Origin::Line(line) => format!("{file_name}:{line}"),
            Origin::Set(set) if set == key => return format!("--set {set}: {message}"),
            Origin::Set(set) => format!("--set {set}"),
            Origin::Flag(flag) if *is_bound => return format!("{flag} {message}"),
            Origin::Flag(flag) => return format!("{flag}: {message}"),
            Origin::Default => file_name.to_string(),
        };
        if key.is_empty() {
            format!("{place}: {message}")
        } else {
            format!("{place}: {key}: {message}")
        }
    }
}

impl From<Fault> for Vec<Fault> {
    fn from(fault: Fault) -> Self {
        vec![fault]
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(super) place: Place,
    pub(super) value: Value,
}

/// The entries of a table, in the order in which they are written.
pub(super) type Table = Vec<(String, Node)>;

#[derive(Debug, Clone)]
pub(crate) enum Value {
    Text(String),
    /// In decimal digits, whatever its size.
    Integer(String),
    Float(String),
    Bool(bool),
    Date,
    List(Vec<Node>),
    Table(Table),
}

impl Value {
    /// A value as TOML, or else a string.
    pub(crate) fn literal(toml: &str) -> Self {
        let table = parse(&format!("v = {toml}")).unwrap_or_default();
        // More than one key means that the value held a line break and a key of its own.
        match <[_; 1]>::try_from(table) {
            Ok([(_, node)]) => node.value,
            Err(_) => Value::Text(toml.into()),
        }
    }

    /// The kind of value, and the value itself where it can be no secret.
    pub(super) fn found(&self) -> String {
        match self {
            Value::Text(_) => "a string".into(),
            Value::Integer(_) => format!("the integer `{}`", self.written()),
            Value::Float(_) => format!("the number `{}`", self.written()),
            Value::Bool(truth) => format!("the boolean `{truth}`"),
            Value::Date => "a date".into(),
            Value::List(_) => "a list".into(),
            Value::Table(_) => "a table".into(),
        }
    }

    pub(super) fn written(&self) -> String {
        match self {
            Value::Text(text) | Value::Integer(text) | Value::Float(text) => shown(text),
            _ => self.found(),
        }
    }

    /// A value where only its place is still to be said.
    fn unplaced(self) -> Node {
        Node { place: Place::whole(), value: self }
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Value::Text(text)
    }
}

impl From<bool> for Value {
    fn from(truth: bool) -> Self {
        Value::Bool(truth)
    }
}

impl<T: Into<Value>> From<Vec<T>> for Value {
    fn from(list: Vec<T>) -> Self {
        Value::List(list.into_iter().map(|value| value.into().unplaced()).collect())
    }
}

/// One key that the command line sets: `--set key=value`, or a flag that stands for a key.
#[derive(Debug)]
pub(crate) struct Setting {
    origin: Origin,
    path: Vec<String>,
    value: Value,
}

impl Setting {
    pub(crate) fn flag(flag: &str, key: &str, value: impl Into<Value>) -> Self {
        let path = key.split('.').map(Into::into).collect();
        Setting { origin: Origin::Flag(flag.into()), path, value: value.into() }
    }

    /// The same of one header of the first request.
    pub(crate) fn header(flag: &str, name: &str, values: Vec<String>) -> Self {
        let mut setting = Setting::flag(flag, "plan.request.0.headers", values);
        setting.path.push(name.into());
        setting
    }

    /// Reads `key=value`; the value is TOML, or else a string: `5ms` needs no quotes.
    pub(super) fn parse(text: &str) -> Result<Self, Fault> {
        let (key, value) = text.split_once('=').unwrap_or((text, ""));
        let key = key.trim();
        let origin = Origin::Set(shown(key));
        let Some(path) = dotted(key).filter(|_| text.contains('=')) else {
            let place = Place { origin, key: shown(key) };
            let rule = "write key=value, such as plan.requests=100";
            return Err(Fault::new(&place, format!("is not an override: {rule}")));
        };
        Ok(Setting { origin, path, value: Value::literal(value) })
    }

    /// Lays the setting over what was written before it; `keys` are those of the whole config.
    pub(super) fn lay_over(self, root: &mut Table, keys: &'static [Entry]) -> Result<(), Fault> {
        let key = self.path.join(".");
        for path in displaced(&key, &self.value, keys) {
            remove_from_file(root, &path);
        }
        let place = Place { origin: self.origin, ..Place::whole() };
        lay(root, &place, &self.path, self.value, keys).map_err(|message| {
            let place = Place { key: shown(&key), ..place.clone() };
            Fault::new(&place, message)
        })
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

pub(super) fn parse(text: &str) -> Result<Table, Fault> {
    let breaks: Vec<usize> = text.match_indices('\n').map(|(at, _)| at).collect();
    let line = |at: usize| Origin::Line(1 + breaks.partition_point(|end| *end < at));
    match DeTable::parse(text) {
        Ok(root) => Ok(table(root.into_inner(), &Place::whole(), &line)),
        Err(error) => {
            let start = error.span().map_or(0, |span| span.start);
            let place = Place { origin: line(start), key: String::new() };
            Err(Fault::new(&place, format!("not valid TOML: {}", error.message())))
        }
    }
}

fn table(read: DeTable<'_>, parent: &Place, line: &impl Fn(usize) -> Origin) -> Table {
    let mut entries: Vec<_> = read.into_iter().collect();
    entries.sort_by_key(|(name, _)| name.span().start);
    let entries = entries.into_iter().map(|(name, value)| {
        let place = Place { origin: line(name.span().start), ..parent.under(name.get_ref()) };
        (name.into_inner().into_owned(), node(value, &place, line))
    });
    entries.collect()
}

fn node(read: Spanned<DeValue<'_>>, place: &Place, line: &impl Fn(usize) -> Origin) -> Node {
    let value = match read.into_inner() {
        DeValue::String(text) => Value::Text(text.into_owned()),
        DeValue::Integer(number) => {
            let decimal = i64::from_str_radix(number.as_str(), number.radix());
            Value::Integer(decimal.map_or_else(|_| number.as_str().into(), |n| n.to_string()))
        }
        DeValue::Float(number) => Value::Float(number.as_str().into()),
        DeValue::Boolean(truth) => Value::Bool(truth),
        DeValue::Datetime(_) => Value::Date,
        DeValue::Array(list) => {
            let elements = list.into_iter().enumerate().map(|(index, element)| {
                let origin = line(element.span().start);
                node(element, &Place { origin, ..place.element(index) }, line)
            });
            Value::List(elements.collect())
        }
        DeValue::Table(read) => Value::Table(table(read, place, line)),
    };
    Node { place: place.clone(), value }
}

pub(super) fn placed(value: Value, place: Place) -> Node {
    let value = match value {
        Value::List(list) => {
            let list = list.into_iter().enumerate();
            Value::List(list.map(|(i, element)| placed(element.value, place.element(i))).collect())
        }
        Value::Table(table) => {
            let entry = |(name, node): (String, Node)| {
                let node = placed(node.value, place.under(&name));
                (name, node)
            };
            Value::Table(table.into_iter().map(entry).collect())
        }
        plain => plain,
    };
    Node { place, value }
}

/// Keys that make no sense beside a setting, which therefore takes their place.
fn displaced(key: &str, value: &Value, keys: &'static [Entry]) -> Vec<String> {
    let of = |only| entry::all(keys).into_iter().filter(move |(_, entry)| entry.only == Some(only));
    let of = |only| of(only).map(|(path, _)| path);
    let closed = matches!(value, Value::Text(text) if text == Arrivals::Closed.name());
    let (named, for_one): (&[&str], _) = match key {
        "plan.requests" => (&["plan.duration"], None),
        "plan.duration" => (&["plan.requests"], None),
        "plan.arrivals" if closed => (&["sweep.rates", "plan.stages"], Some(Only::Trace)),
        "plan.trace" => (&["sweep.rates", "plan.stages"], None),
        "plan.stages" => (&["sweep.rates", "plan.duration", "plan.requests"], None),
        "sweep.trials" => (&["sweep.precision", "sweep.budget", "sweep.max_blocks"], None),
        "sweep.precision" => (&["sweep.trials"], None),
        "sweep.bodies" => (&["target.body"], None),
        "target.body" => (&["sweep.bodies"], None),
        "target.url" => (&[], Some(Only::Embedded)),
        _ => (&[], None),
    };
    named.iter().map(|path| (*path).to_string()).chain(for_one.into_iter().flat_map(of)).collect()
}

/// Removes a key, unless another setting gave it.
fn remove_from_file(root: &mut Table, path: &str) {
    let Some((table, name)) = path.split_once('.') else { return };
    for (key, node) in root {
        if let (true, Value::Table(table)) = (key == table, &mut node.value) {
            table
                .retain(|(key, node)| key != name || !matches!(node.place.origin, Origin::Line(_)));
        }
    }
}

/// Sets one key, making the tables (and, before a number, the list) on the way to it.
fn lay(
    table: &mut Table,
    place: &Place,
    path: &[String],
    value: Value,
    keys: &'static [Entry],
) -> anyhow::Result<()> {
    let (first, rest) = path.split_first().context("an override needs a key")?;
    let place = place.under(first);
    // An old key keeps its place, since headers are sent in the order of their places.
    let at = table.iter().position(|(name, _)| name == first).unwrap_or_else(|| {
        let empty = if rest.first().is_some_and(|next| next.parse::<usize>().is_ok()) {
            Value::List(Vec::new())
        } else {
            Value::Table(Vec::new())
        };
        table.push((first.clone(), Node { place: place.clone(), value: empty }));
        table.len() - 1
    });
    lay_at(&mut table[at].1, place, first, rest, value, keys)
}

/// Sets a value, or what `path` names within it.
fn lay_at(
    node: &mut Node,
    place: Place,
    name: &str,
    path: &[String],
    value: Value,
    keys: &'static [Entry],
) -> anyhow::Result<()> {
    let Some(next) = path.first() else {
        *node = placed(value, place);
        return Ok(());
    };
    if entry::is_list(keys, &place.key) && !matches!(node.value, Value::List(_)) {
        // A single value stands for a list of one.
        let only = Node {
            place: place.element(0),
            value: std::mem::replace(&mut node.value, Value::Date),
        };
        node.value = Value::List(vec![only]);
    }
    match &mut node.value {
        Value::Table(inner) => lay(inner, &place, path, value, keys),
        Value::List(list) => {
            let length = list.len();
            let index = next.parse::<usize>().ok().filter(|index| *index <= length);
            let index = index.ok_or_else(|| {
                anyhow!("`{}` must be followed by a number from 0 to {length}", shown(name))
            })?;
            let place = place.element(index);
            if index == length {
                list.push(Node { place: place.clone(), value: Value::Table(Vec::new()) });
            }
            lay_at(&mut list[index], place, name, &path[1..], value, keys)
        }
        other => Err(anyhow!("`{}` is not a table but {}", shown(name), other.found())),
    }
}

/// User text for a message: one line, and at most 80 characters.
pub(super) fn shown(text: &str) -> String {
    let mut short: String = text.chars().take(80).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short.escape_debug().to_string()
}
