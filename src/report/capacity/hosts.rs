//! Types of hosts and what they cost, as a file lists them. Money is counted in whole cents.

use std::collections::BTreeMap;

use anyhow::{Context, anyhow, bail};
use serde::Serialize;

use crate::units::{format_bytes, format_count, parse_size, plural};

/// Hours of a month: 365 days of 24 hours ÷ 12.
pub(crate) const MONTH_HOURS: u64 = 730;
/// Most hosts' CPUs, far beyond any machine: more is a typing error.
const MOST_CPUS: i64 = 100_000;
const KEYS: [&str; 5] = ["name", "cpus", "memory", "price", "limits"];
const PRICE: &str = "write an amount, a currency and a time, such as \"0.0832 EUR per hour\"";

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HostType {
    /// What it is called; empty where it was given by flags.
    pub name: String,
    pub(crate) cpus: u32,
    pub(crate) memory_bytes: u64,
    /// What it costs; `None` where nobody said.
    pub price: Option<Price>,
    /// Limits of its kernel that differ from those of the measured machine.
    pub limits: BTreeMap<String, u64>,
}

impl HostType {
    /// A host without a name, a price or limits of its own.
    pub fn plain(cpus: u32, memory_bytes: u64) -> HostType {
        HostType { name: String::new(), cpus, memory_bytes, price: None, limits: BTreeMap::new() }
    }

    /// `type-a (2 CPUs, 4 GiB)`, or what is in the parentheses alone.
    pub fn words(&self) -> String {
        let size = format!(
            "{}, {}",
            plural(self.cpus.into(), "CPU"),
            format_bytes(self.memory_bytes as f64)
        );
        if self.name.is_empty() { size } else { format!("{} ({size})", self.name) }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Price {
    /// Millionths of the currency's unit.
    pub micros: u64,
    /// Whether that is per hour, not per month.
    pub per_hour: bool,
    /// Three letters, such as EUR.
    pub currency: String,
}

impl Price {
    /// A host for a month, in whole cents: what a sum adds up from.
    pub(crate) fn month_cents(&self) -> u64 {
        let micros = self.micros * if self.per_hour { MONTH_HOURS } else { 1 };
        (micros + 5_000) / 10_000
    }

    fn parse(text: &str) -> anyhow::Result<Price> {
        let wrong = |why: &str| Err(anyhow!("price = \"{text}\": {why}; {PRICE}"));
        let words: Vec<&str> = text.split_whitespace().collect();
        let Some(micros) = words.first().and_then(|amount| micros(amount)) else {
            return wrong(
                "it does not begin with an amount of zero or more, of six decimals at most",
            );
        };
        let is_currency = |w: &&&str| w.len() == 3 && w.bytes().all(|b| b.is_ascii_uppercase());
        let Some(currency) = words.get(1).filter(is_currency) else {
            return wrong("it has no currency of three capital letters");
        };
        let per_hour = match words[2..] {
            ["per", "hour"] => true,
            ["per", "month"] => false,
            _ => return wrong("it is neither per hour nor per month"),
        };
        Ok(Price { micros, per_hour, currency: (*currency).into() })
    }
}

/// A decimal of at most six places, in millionths: never through a binary fraction.
fn micros(text: &str) -> Option<u64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = |t: &str| t.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(part) || part.len() > 6 {
        return None;
    }
    let whole: u64 = whole.parse().ok()?;
    let part: u64 = format!("{part:0<6}").parse().ok()?;
    // A host of more than a thousand million a month is none.
    whole.checked_mul(1_000_000)?.checked_add(part).filter(|m| *m < 1_000_000_000_000_000)
}

/// An amount as people write it: `1,120 EUR`, `86.40 EUR`.
pub(crate) fn format_money(cents: u64, currency: &str) -> String {
    match cents % 100 {
        0 => format!("{} {currency}", format_count(cents / 100)),
        rest => format!("{}.{rest:02} {currency}", format_count(cents / 100)),
    }
}

/// Reads the text of a file of hosts.
///
/// # Errors
/// The first thing that is wrong, with the file and the host.
pub fn parse(text: &str, file_name: &str) -> anyhow::Result<Vec<HostType>> {
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        let before = error.span().map_or("", |span| &text[..span.start.min(text.len())]);
        let line = 1 + before.matches('\n').count();
        anyhow!("{file_name}:{line}: {}", error.message())
    })?;
    if let Some(key) = table.keys().find(|key| *key != "host") {
        bail!("{file_name}: unknown key `{key}`: each host is a table [[host]]");
    }
    let list = table.get("host").and_then(toml::Value::as_array);
    let Some(list) = list.filter(|list| !list.is_empty()) else {
        bail!("{file_name}: no host: each is a table [[host]] with name, cpus, memory");
    };
    let mut hosts: Vec<HostType> = Vec::new();
    for (at, value) in list.iter().enumerate() {
        let place = format!("{file_name}: host {}", at + 1);
        let host = host(value).with_context(|| place.clone())?;
        if hosts.iter().any(|other| other.name == host.name) {
            bail!("{place}: the name `{}` is given twice: give each its own", host.name);
        }
        let known = hosts.iter().find_map(|h| h.price.as_ref());
        if let (Some(known), Some(price)) = (known, &host.price)
            && known.currency != price.currency
        {
            let (a, b) = (&known.currency, &price.currency);
            bail!("{place}: {a} and {b} do not add up: write all prices in one currency");
        }
        hosts.push(host);
    }
    Ok(hosts)
}

fn host(value: &toml::Value) -> anyhow::Result<HostType> {
    let table = value.as_table().context("it is not a table: write [[host]]")?;
    if let Some(key) = table.keys().find(|key| !KEYS.contains(&key.as_str())) {
        bail!("unknown key `{key}`: allowed are {}", KEYS.join(", "));
    }
    let need = |key: &str, example: &str| {
        table.get(key).with_context(|| format!("{key} is missing: write {key} = {example}"))
    };
    let name = need("name", "\"type-a\"")?.as_str().filter(|n| !n.trim().is_empty());
    let name = name.context("name is not a text: write name = \"type-a\"")?.to_string();
    let cpus = need("cpus", "2")?;
    let whole = cpus.as_integer().filter(|n| (1..=MOST_CPUS).contains(n));
    let cpus =
        whole.with_context(|| format!("cpus = {cpus}: a host has from 1 to 100,000 CPUs"))?;
    let memory = need("memory", "\"4GiB\"")?;
    let bytes = memory.as_str().map(parse_size).and_then(Result::ok).filter(|bytes| *bytes > 0);
    let memory_bytes = bytes
        .with_context(|| format!("memory = {memory}: write a size above zero, such as \"4GiB\""))?;
    let price = match table.get("price") {
        None => None,
        Some(toml::Value::String(text)) => Some(Price::parse(text)?),
        Some(other) => bail!("price = {other}: it has no currency; {PRICE}"),
    };
    Ok(HostType { name, cpus: cpus as u32, memory_bytes, price, limits: limits(table)? })
}

fn limits(table: &toml::Table) -> anyhow::Result<BTreeMap<String, u64>> {
    let Some(value) = table.get("limits") else { return Ok(BTreeMap::new()) };
    let named =
        value.as_table().context("limits is not a table: write { RLIMIT_NOFILE = 65536 }")?;
    let one = |(name, value): (&String, &toml::Value)| {
        let number = value.as_integer().and_then(|n| u64::try_from(n).ok()).filter(|n| *n > 0);
        let number = number.with_context(|| {
            format!("limits: {name} = {value}: write a whole number above zero")
        })?;
        Ok((name.clone(), number))
    };
    named.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_is_rounded_once_and_only_then_multiplied() {
        for (text, cents) in [
            ("0.0832 EUR per hour", 6_074),
            ("0.000001 EUR per hour", 0),
            ("80 USD per month", 8_000),
            ("79.995 USD per month", 8_000),
            ("79.994 USD per month", 7_999),
        ] {
            let price = Price::parse(text).unwrap();
            assert_eq!(price.month_cents(), cents, "{text}");
        }
        assert_eq!(format_money(112_000, "USD"), "1,120 USD");
        assert_eq!(format_money(112_005, "USD"), "1,120.05 USD");
    }

    #[test]
    fn a_bad_file_is_one_error_that_says_which_host_and_what_is_allowed() {
        let good = "[[host]]\nname = \"a\"\ncpus = 2\nmemory = \"4GiB\"\n";
        assert_eq!(parse(good, "h.toml").unwrap()[0].words(), "a (2 CPUs, 4 GiB)");
        let with = |line: &str| format!("{good}{line}\n");
        let second = |lines: &str| format!("{good}price = \"1 EUR per hour\"\n[[host]]\n{lines}\n");
        for (text, error) in [
            (String::new(), "h.toml: no host"),
            ("[[host]".into(), "h.toml:1: "),
            ("hosts = 1".into(), "unknown key `hosts`"),
            ("host = 1".into(), "no host"),
            ("host = [1]".into(), "host 1: it is not a table"),
            (good.replace("name = \"a\"", ""), "host 1: name is missing"),
            (good.replace("cpus = 2", ""), "host 1: cpus is missing"),
            (good.replace("memory = \"4GiB\"", ""), "host 1: memory is missing"),
            (good.replace("= 2", "= -2"), "cpus = -2: a host has from 1"),
            (good.replace("= 2", "= 1.5"), "cpus = 1.5"),
            (good.replace("4GiB", "-4GiB"), "memory = \"-4GiB\": write a size"),
            (good.replace("4GiB", "0"), "memory = \"0\": write a size"),
            (with("colour = 1"), "unknown key `colour`: allowed are name"),
            (with("price = 0.1"), "price = 0.1: it has no currency"),
            (with("price = \"0.1 per hour\""), "it has no currency of three capital letters"),
            (
                with("price = \"-0.1 EUR per hour\""),
                "does not begin with an amount of zero or more",
            ),
            (with("price = \"1 EUR\""), "neither per hour nor per month"),
            (with("limits = { RLIMIT_NOFILE = -1 }"), "RLIMIT_NOFILE = -1: write a whole number"),
            (
                second("name = \"a\"\ncpus = 1\nmemory = \"1GiB\""),
                "host 2: the name `a` is given twice",
            ),
            (
                second("name = \"b\"\ncpus = 1\nmemory = \"1GiB\"\nprice = \"1 USD per hour\""),
                "host 2: EUR and USD do not add up",
            ),
        ] {
            let found = format!("{:#}", parse(&text, "h.toml").expect_err(&text));
            assert!(found.contains(error) && !found.contains('\n'), "{text}\n{found}");
        }
    }
}
