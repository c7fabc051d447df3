//! What is known of a key, and where keys stand: the reference without the keys themselves.

/// A bound that stands for none.
pub(super) const ANY: f64 = u32::MAX as f64;

#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry {
    name: &'static str,
    about: &'static str,
    pub(super) kind: Kind,
    pub(super) several: bool,
    pub(super) range: Option<Range>,
    /// As written in TOML, or in words where it depends on other keys.
    pub(super) default: &'static str,
    /// When another default holds than the one in TOML.
    pub(super) unless: &'static str,
    pub(super) example: &'static str,
    /// What other tools call it; for a choice, pairs of another tool's name and this one's.
    pub(super) also: &'static str,
    /// What it says something of, where that is one kind of target or load alone.
    pub(super) only: Option<Only>,
    /// Its value may be a secret: no message repeats it.
    pub(super) is_secret: bool,
    /// Whether people know the keys of this table by their names alone, wherever they stand.
    pub(super) is_well_known: bool,
}

/// What a key is for, where the config may be without it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Only {
    Embedded,
    /// A server of the user's own.
    External,
    Trace,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    Text,
    Bool,
    Count,
    Duration,
    Size,
    Rate,
    Share,
    Number,
    Choice(fn() -> Vec<&'static str>),
    Table(&'static [Entry]),
    /// A table whose keys the user names.
    Named(&'static Kind),
    /// One of a few forms, described in words; of a table, these are the keys.
    Either(&'static str, &'static [Entry]),
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Range {
    low: f64,
    high: f64,
    /// The least itself is not allowed.
    above: bool,
}

impl Range {
    /// What a value must do that is outside, which is repeated as it was written.
    pub(super) fn refusal(
        &self,
        found: f64,
        written: &str,
        show: fn(f64) -> String,
    ) -> Option<String> {
        let low = if self.above { found > self.low } else { found >= self.low };
        if low && found <= self.high {
            return None;
        }
        let allowed = match found > self.high {
            true if self.high == ANY => format!("at most {}", show(self.high)),
            _ => self.words(show),
        };
        Some(format!("be {allowed}, not `{written}`"))
    }

    pub(super) fn words(&self, show: fn(f64) -> String) -> String {
        let low = if self.low == 0.0 { "0".into() } else { show(self.low) };
        match (self.above, self.high == ANY) {
            (true, _) => format!("above {low} and at most {}", show(self.high)),
            (false, true) => format!("at least {low}"),
            (false, false) => format!("from {low} to {}", show(self.high)),
        }
    }
}

impl Entry {
    pub(super) const fn new(
        name: &'static str,
        about: &'static str,
        kind: Kind,
        several: bool,
    ) -> Self {
        Entry {
            name,
            about,
            kind,
            several,
            range: None,
            default: "",
            unless: "",
            example: "",
            also: "",
            only: None,
            is_secret: false,
            is_well_known: false,
        }
    }

    pub(super) const fn range(self, low: f64, high: f64) -> Self {
        Entry { range: Some(Range { low, high, above: false }), ..self }
    }

    pub(super) const fn above(self, low: f64, high: f64) -> Self {
        Entry { range: Some(Range { low, high, above: true }), ..self }
    }

    pub(super) const fn default(self, default: &'static str) -> Self {
        Entry { default, ..self }
    }

    pub(super) const fn unless(self, unless: &'static str) -> Self {
        Entry { unless, ..self }
    }

    pub(super) const fn only(self, only: Only) -> Self {
        Entry { only: Some(only), ..self }
    }

    pub(super) const fn secret(self) -> Self {
        Entry { is_secret: true, ..self }
    }

    pub(super) const fn well_known(self) -> Self {
        Entry { is_well_known: true, ..self }
    }

    pub(super) const fn example(self, example: &'static str) -> Self {
        Entry { example, ..self }
    }

    pub(super) const fn also(self, also: &'static str) -> Self {
        Entry { also, ..self }
    }

    pub(super) fn name(&self) -> &'static str {
        self.name.trim_start_matches("r#")
    }

    pub(super) fn about(&self) -> &'static str {
        self.about.trim()
    }

    /// Whether the default can be written as it stands, and is not said in words.
    pub(super) fn default_is_toml(&self) -> bool {
        toml::de::DeTable::parse(&format!("v = {}", self.default)).is_ok()
    }

    /// Whether it is more than a table for other keys.
    pub(super) fn is_leaf(&self) -> bool {
        !matches!(self.kind, Kind::Table(_) | Kind::Named(Kind::Table(_)))
    }

    pub(super) fn keys(&self) -> &'static [Entry] {
        match self.kind {
            Kind::Table(keys) | Kind::Either(_, keys) => keys,
            Kind::Named(Kind::Table(keys)) => keys,
            _ => &[],
        }
    }
}

/// Every key with its path, tables before what they hold.
pub(super) fn all(root: &'static [Entry]) -> Vec<(String, &'static Entry)> {
    fn walk(keys: &'static [Entry], above: &str, out: &mut Vec<(String, &'static Entry)>) {
        for entry in keys {
            let path = format!("{above}{}", entry.name());
            out.push((path.clone(), entry));
            let named = if matches!(entry.kind, Kind::Named(_)) { "NAME." } else { "" };
            walk(entry.keys(), &format!("{path}.{named}"), out);
        }
    }
    let mut out = Vec::new();
    walk(root, "", &mut out);
    out
}

/// Whether a key such as `plan.request[0].step` holds a list.
pub(super) fn is_list(root: &'static [Entry], path: &str) -> bool {
    let mut keys = root;
    let mut found = None;
    for part in path.split('.') {
        let name = part.split('[').next().unwrap_or(part);
        found = keys.iter().find(|entry| entry.name() == name);
        keys = found.map_or(&[], Entry::keys);
    }
    !path.ends_with(']') && found.is_some_and(|entry| entry.several)
}

/// The table in which a key of this path stands, as its header is written.
pub(super) fn section(root: &'static [Entry], path: &str) -> String {
    match path.rsplit_once('.') {
        None => "no table, at the top".into(),
        Some((table, _)) if is_list(root, table) => format!("[[{table}]]"),
        Some((table, _)) => format!("[{table}]"),
    }
}
