//! From what was written to typed values: every fault is noted and reading goes on, so that a user
//! sees all of them at once.

use std::fmt;
use std::ops::Deref;

use super::entry::{self, Entry, Kind, Only};
use super::node::{Fault, Node, Origin, Place, Table, Value, placed, shown};
use crate::units::{
    SECOND_NS, UnitError, duration_literal, format_count, format_share, parse_count,
    parse_duration_ns, parse_rate, parse_share, parse_size, size_literal,
};

pub(super) struct Faults {
    pub(super) found: Vec<Fault>,
    /// The keys that misspelled ones probably stand for: they are not called missing as well.
    pub(super) meant: Vec<String>,
    /// Every key, to say where one belongs.
    pub(super) root: &'static [Entry],
}

/// A value and its place. A key of this type has a default or must be given.
#[derive(Debug, Clone)]
pub(super) struct At<T> {
    pub(super) value: T,
    pub(super) place: Place,
}

pub(super) type Key<T> = Option<At<T>>;

/// Several values, for which one may stand alone.
pub(super) type Several<T> = Vec<At<T>>;

impl<T> At<T> {
    pub(super) fn given(&self) -> Option<&Self> {
        (self.place.origin != Origin::Default).then_some(self)
    }

    pub(super) fn given_at(&self) -> Option<&Place> {
        self.given().map(|at| &at.place)
    }
}

impl<T> Deref for At<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

pub(super) fn place_of<T>(key: &Key<T>) -> Option<&Place> {
    key.as_ref().map(|at| &at.place)
}

/// A table, as the struct that it is read as.
pub(super) trait Keyed {
    const KEYS: &'static [Entry];

    /// The keys that the config names, each with its place.
    fn given(&self) -> impl Iterator<Item = (&'static str, &Place)>;

    /// The first that it names of the keys which are for one kind of target or load alone.
    fn given_for(&self, only: Only) -> Option<(&'static str, &Place)> {
        let is_for =
            |name: &str| Self::KEYS.iter().any(|e| e.name() == name && e.only == Some(only));
        self.given().find(|(name, _)| is_for(name))
    }
}

pub(super) trait Read: Sized {
    const KIND: Kind;
    const SEVERAL: bool = false;

    /// Notes why not and gives `None` where the value is another.
    fn read(node: &Node, entry: &Entry, faults: &mut Faults) -> Option<Self>;
}

pub(super) trait Field: Sized {
    const KIND: Kind;
    const SEVERAL: bool;

    /// Where the config names it; `None` where it does not.
    fn place(&self) -> Option<&Place>;

    fn take(node: Option<&Node>, table: &Place, entry: &Entry, faults: &mut Faults)
    -> Option<Self>;
}

impl<T: Read> Read for At<T> {
    const KIND: Kind = T::KIND;
    const SEVERAL: bool = T::SEVERAL;

    fn read(node: &Node, entry: &Entry, faults: &mut Faults) -> Option<Self> {
        T::read(node, entry, faults).map(|value| At { value, place: node.place.clone() })
    }
}

impl<T: Read> Field for Key<T> {
    const KIND: Kind = T::KIND;
    const SEVERAL: bool = T::SEVERAL;

    fn place(&self) -> Option<&Place> {
        place_of(self)
    }

    fn take(node: Option<&Node>, _: &Place, entry: &Entry, faults: &mut Faults) -> Option<Self> {
        node.map_or(Some(None), |node| At::read(node, entry, faults).map(Some))
    }
}

impl<T: Read> Field for At<T> {
    const KIND: Kind = T::KIND;
    const SEVERAL: bool = T::SEVERAL;

    fn place(&self) -> Option<&Place> {
        self.given_at()
    }

    fn take(
        node: Option<&Node>,
        table: &Place,
        entry: &Entry,
        faults: &mut Faults,
    ) -> Option<Self> {
        match node {
            Some(node) => At::read(node, entry, faults),
            None if faults.meant.contains(&table.under(entry.name()).key) => None,
            None if entry.default.is_empty() => {
                let example = match entry.example {
                    "" => String::new(),
                    example => format!(", such as {} = {example}", entry.name()),
                };
                let message = format!("needs the key `{}`{example}", entry.name());
                faults.found.push(Fault::new(table, message));
                None
            }
            None => {
                let key = table.under(entry.name()).key;
                let place = Place { origin: Origin::Default, key };
                let value = placed(Value::literal(entry.default), place);
                At::read(&value, entry, faults)
            }
        }
    }
}

impl<T: Read> Read for Several<T> {
    const KIND: Kind = T::KIND;
    const SEVERAL: bool = true;

    fn read(node: &Node, entry: &Entry, faults: &mut Faults) -> Option<Self> {
        let list = match &node.value {
            Value::List(list) => list.as_slice(),
            _ => std::slice::from_ref(node),
        };
        if list.is_empty() && !matches!(T::KIND, Kind::Table(_)) {
            let message = "the list is empty: name at least one value, or leave the key out";
            return refuse(faults, node, message);
        }
        let read: Vec<_> = list.iter().map(|one| At::read(one, entry, faults)).collect();
        read.into_iter().collect()
    }
}

/// Names of the user's own, each with a value, in the order in which they are written.
#[derive(Debug, Clone, Default)]
pub(super) struct Named<T>(pub(super) Vec<(At<String>, T)>);

impl<T: Read> Field for Named<T> {
    const KIND: Kind = Kind::Named(&T::KIND);
    const SEVERAL: bool = false;

    fn place(&self) -> Option<&Place> {
        self.0.first().map(|(name, _)| &name.place)
    }

    fn take(node: Option<&Node>, _: &Place, entry: &Entry, faults: &mut Faults) -> Option<Self> {
        let Some(node) = node else { return Some(Named(Vec::new())) };
        let table = entries(node, entry, faults)?;
        // The example is of the whole table.
        let mut member = *entry;
        if matches!(T::KIND, Kind::Table(_)) {
            (member.kind, member.example) = (T::KIND, "");
        }
        let read = table.iter().map(|(name, node)| {
            let name = At { value: name.clone(), place: node.place.clone() };
            Some((name, T::read(node, &member, faults)?))
        });
        let read: Vec<_> = read.collect();
        read.into_iter().collect::<Option<_>>().map(Named)
    }
}

pub(super) fn refuse<T>(faults: &mut Faults, node: &Node, message: impl fmt::Display) -> Option<T> {
    faults.found.push(Fault::new(&node.place, message));
    None
}

fn expected<T>(faults: &mut Faults, node: &Node, allowed: &str) -> Option<T> {
    refuse(faults, node, format!("expected {allowed}, found {}", node.value.found()))
}

/// The entries of a node that must be a table.
pub(super) fn entries<'n>(node: &'n Node, entry: &Entry, faults: &mut Faults) -> Option<&'n Table> {
    match &node.value {
        Value::Table(table) => Some(table),
        _ if entry.example.is_empty() => {
            let keys: Vec<&str> = entry.keys().iter().map(Entry::name).collect();
            expected(faults, node, &format!("a table of the keys {}", keys.join(", ")))
        }
        _ => expected(faults, node, &format!("a table, such as {}", entry.example)),
    }
}

impl Read for String {
    const KIND: Kind = Kind::Text;

    fn read(node: &Node, entry: &Entry, faults: &mut Faults) -> Option<Self> {
        match &node.value {
            Value::Text(text) => Some(text.clone()),
            _ if entry.is_secret => {
                refuse(faults, node, format!("expected a string, as in {}", entry.example))
            }
            _ => expected(faults, node, "a string"),
        }
    }
}

impl Read for bool {
    const KIND: Kind = Kind::Bool;

    fn read(node: &Node, _: &Entry, faults: &mut Faults) -> Option<Self> {
        match &node.value {
            Value::Bool(truth) => Some(*truth),
            _ => expected(faults, node, "true or false"),
        }
    }
}

/// Quantities: read from a string or a bare number, so that both get the same message.
macro_rules! quantities {
    ($($(#[$doc:meta])* $name:ident($inner:ty), $kind:ident, $parse:expr, $what:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq)]
        pub(super) struct $name(pub(super) $inner);

        impl Read for $name {
            const KIND: Kind = Kind::$kind;

            fn read(node: &Node, entry: &Entry, faults: &mut Faults) -> Option<Self> {
                let parse: fn(&str) -> Result<$inner, UnitError> = $parse;
                let text = match &node.value {
                    Value::Text(text) | Value::Integer(text) => text.clone(),
                    // 1e3 is written 1000 here.
                    Value::Float(text) => text.parse::<f64>().unwrap_or(f64::NAN).to_string(),
                    _ => return expected(faults, node, $what),
                };
                let written = node.value.written();
                let outside = |found: f64| {
                    entry.range.and_then(|range| range.refusal(found, &written, show(Self::KIND)))
                };
                faults.found.push(match parse(&text) {
                    Ok(value) => match outside(value as f64) {
                        None => return Some($name(value)),
                        Some(bound) => Fault::must(&node.place, bound),
                    },
                    Err(error) => match outside(f64::INFINITY).filter(|_| error.is_too_large()) {
                        Some(bound) => Fault::must(&node.place, bound),
                        None => Fault::new(&node.place, error.of(written)),
                    },
                });
                None
            }
        }
    )*};
}

quantities! {
    Duration(u64), Duration, parse_duration_ns, "a duration such as \"20ms\"";
    Count(u64), Count, parse_count, "a whole number such as 2000 or \"10k\"";
    Size(u64), Size, parse_size, "a size such as 4096 or \"64KiB\"";
    Rate(f64), Rate, parse_rate, "requests per second such as 500 or \"2.5k\"";
    Share(f64), Share, parse_share, "a share such as \"5%\" or 0.05";
    /// Requests per second at an end of a stage, where none at all is a pause.
    Level(f64), Rate,
        |text| if text.trim() == "0" { Ok(0.0) } else { parse_rate(text) },
        "requests per second such as 500 or \"2.5k\", or 0";
}

/// What is offered: so many requests per second, or a share of what a search finds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Offered {
    PerS(f64),
    OfKnee(f64),
}

/// Largest share of a knee: beyond it nothing but the plan's timeout would be measured.
const MOST_OF_KNEE: f64 = 10.0;

impl Read for Offered {
    const KIND: Kind = Kind::Rate;

    fn read(node: &Node, entry: &Entry, faults: &mut Faults) -> Option<Self> {
        match &node.value {
            Value::Text(text) if text.trim_end().ends_with('%') => match parse_share(text) {
                Ok(share) if share > 0.0 && share <= MOST_OF_KNEE => Some(Offered::OfKnee(share)),
                Ok(_) => {
                    let most = format_share(MOST_OF_KNEE);
                    refuse(
                        faults,
                        node,
                        format!("a share of the knee must be above 0 and at most {most}"),
                    )
                }
                Err(error) => refuse(faults, node, error),
            },
            _ => Rate::read(node, entry, faults).map(|rate| Offered::PerS(rate.0)),
        }
    }
}

pub(super) fn duration_text(ns: f64) -> String {
    match ns as u64 {
        0 => "0s".into(),
        ns if ns.is_multiple_of(3600 * SECOND_NS) => format!("{}h", ns / (3600 * SECOND_NS)),
        ns => duration_literal(ns),
    }
}

pub(super) fn rate_literal(per_s: f64) -> String {
    if per_s >= 1e9 { format!("{}G", per_s / 1e9) } else { per_s.to_string() }
}

impl Read for f64 {
    const KIND: Kind = Kind::Number;

    fn read(node: &Node, entry: &Entry, faults: &mut Faults) -> Option<Self> {
        let number = match &node.value {
            Value::Float(digits) | Value::Integer(digits) => digits.parse().ok(),
            // A flag's value is text.
            Value::Text(text) if matches!(node.place.origin, Origin::Flag(_)) => text.parse().ok(),
            _ => None,
        };
        let Some(number) = number else { return expected(faults, node, "a number") };
        let written = node.value.written();
        match entry.range.and_then(|range| range.refusal(number, &written, |n| n.to_string())) {
            Some(bound) => {
                faults.found.push(Fault::must(&node.place, bound));
                None
            }
            None => Some(number),
        }
    }
}

pub(super) fn choice<T: Copy>(
    node: &Node,
    entry: &Entry,
    faults: &mut Faults,
    all: &[T],
    name: fn(T) -> &'static str,
) -> Option<T> {
    let names: Vec<&str> = all.iter().map(|one| name(*one)).collect();
    let Value::Text(text) = &node.value else {
        let names: Vec<String> = names.iter().map(|name| format!("\"{name}\"")).collect();
        return expected(faults, node, &format!("one of {}", names.join(", ")));
    };
    if let Some(at) = names.iter().position(|name| name == text) {
        return Some(all[at]);
    }
    let hint = hint(text, &names, entry.also).unwrap_or_default();
    let names = names.join(", ");
    refuse(faults, node, format!("unknown value `{}`: {hint}allowed: {names}", shown(text)))
}

/// Implements [`Read`] for enums whose values have names.
macro_rules! choices {
    ($($name:ty),* $(,)?) => {$(
        impl Read for $name {
            const KIND: Kind = Kind::Choice(|| <$name>::ALL.map(<$name>::name).to_vec());

            fn read(node: &Node, entry: &Entry, faults: &mut Faults) -> Option<Self> {
                choice(node, entry, faults, &Self::ALL, Self::name)
            }
        }
    )*};
}

pub(super) use choices;

/// Notes every key of a table that is none of its own.
pub(super) fn unknown(table: &Table, place: &Place, keys: &[Entry], faults: &mut Faults) {
    for (name, node) in table {
        if keys.iter().any(|entry| entry.name() == name) {
            continue;
        }
        let known: Vec<&str> = keys.iter().map(Entry::name).collect();
        let near = nearest(name, &known);
        let (close, far) = match near {
            Some((score, known)) if score > 0.85 => (Some(known), None),
            other => (None, other.map(|(_, known)| known)),
        };
        let hint = match (close, elsewhere(name, faults.root), far) {
            (None, Some(place), _) => place,
            (Some(known), ..) | (None, None, Some(known)) => {
                faults.meant.push(place.under(known).key);
                did_you_mean(known)
            }
            (None, None, None) => String::new(),
        };
        let message = format!("unknown key `{}`: {hint}allowed: {}", shown(name), known.join(", "));
        faults.found.push(Fault::new(&node.place, message));
    }
}

/// Keys that are planned, and that no version has.
const LATER: [&str; 5] = ["blocking_threads", "cpu_quota", "hand_over", "sched", "tokio_workers"];

/// Where a key of that name, or of that meaning in other tools, is in place.
fn elsewhere(name: &str, root: &'static [Entry]) -> Option<String> {
    if LATER.contains(&name) {
        return Some("it belongs to a later version; ".into());
    }
    let mut places = entry::all(root);
    places.sort_by_key(|(path, _)| path.matches('.').count());
    // What stands in deeper tables, such as `from` of a stage, means nothing outside of most of them.
    let known = |table: &str| places.iter().any(|(path, e)| path == table && e.is_well_known);
    let own = |path: &str| {
        path.matches('.').count() < 2
            || path.rsplit_once('.').is_some_and(|(table, _)| known(table))
    };
    let same = places.iter().find(|(path, entry)| entry.name() == name && own(path));
    let meant = places.iter().find(|(_, entry)| entry.also.split(' ').any(|also| also == name));
    let name = shown(name);
    match (meant, same) {
        (Some((path, entry)), _) => Some(format!(
            "in duel, `{name}` is `{}` under {}; ",
            entry.name(),
            entry::section(root, path)
        )),
        (None, Some((path, _))) => {
            Some(format!("it belongs under {}; ", entry::section(root, path)))
        }
        (None, None) => None,
    }
}

/// The known name that is most like this one, and how like it is.
fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<(f64, &'a str)> {
    let name = name.to_lowercase();
    let scored = known.iter().map(|known| (strsim::jaro_winkler(&name, known), *known));
    scored.max_by(|a, b| a.0.total_cmp(&b.0)).filter(|(score, _)| *score > 0.7)
}

fn did_you_mean(known: &str) -> String {
    format!("did you mean `{known}`? ")
}

/// `did you mean …? ` with the nearest known name, or the one that `also` maps to as `other:name`.
pub(super) fn hint(name: &str, known: &[&str], also: &str) -> Option<String> {
    let meant = also.split(' ').filter_map(|pair| pair.split_once(':'));
    let mut meant = meant.filter(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, to)| to);
    let known = meant.next().or_else(|| nearest(name, known).map(|(_, known)| known))?;
    Some(did_you_mean(known))
}

fn show(kind: Kind) -> fn(f64) -> String {
    match kind {
        Kind::Duration => duration_text,
        Kind::Size => |bytes| size_literal(bytes as u64),
        Kind::Rate => rate_literal,
        Kind::Share => format_share,
        Kind::Number => |number| number.to_string(),
        _ => |count| format_count(count as u64),
    }
}

pub(super) fn words(entry: &Entry) -> Option<String> {
    entry.range.map(|range| range.words(show(entry.kind)))
}
