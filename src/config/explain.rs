//! Messages: which key a span belongs to, and serde's words in those of the config.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Keys and values of features that a later version brings.
const LATER: [&str; 2] = ["metrics", "sweep.arenas"];

/// One step of a key path.
#[derive(Clone)]
pub(super) enum Segment {
    Name(String),
    Index(usize),
}

impl Segment {
    pub(super) fn name(&self) -> Option<&str> {
        match self {
            Segment::Name(name) => Some(name),
            Segment::Index(_) => None,
        }
    }

    pub(super) fn display(&self, first: bool) -> String {
        match self {
            Segment::Name(name) => format!("{}{}", if first { "" } else { "." }, shown(name)),
            Segment::Index(index) => format!("[{index}]"),
        }
    }
}

/// The path of the narrowest key or value around a span.
///
/// Every node is looked at, since the span of a table is that of its header and does not hold its
/// keys.
pub(super) fn key_path(root: &DeTable<'_>, span: &Range<usize>) -> Vec<Segment> {
    struct Search<'s> {
        span: &'s Range<usize>,
        path: Vec<Segment>,
        best: Option<(usize, Vec<Segment>)>,
    }

    impl Search<'_> {
        fn offer(&mut self, around: Range<usize>) {
            let holds = around.start <= self.span.start && self.span.end <= around.end;
            if holds && self.best.as_ref().is_none_or(|(width, _)| around.len() <= *width) {
                self.best = Some((around.len(), self.path.clone()));
            }
        }

        fn table(&mut self, table: &DeTable<'_>) {
            for (key, value) in table {
                self.path.push(Segment::Name(key.get_ref().to_string()));
                self.offer(key.span());
                self.value(value);
                self.path.pop();
            }
        }

        fn value(&mut self, value: &Spanned<DeValue<'_>>) {
            self.offer(value.span());
            match value.get_ref() {
                DeValue::Table(table) => self.table(table),
                DeValue::Array(list) => {
                    for (index, element) in list.iter().enumerate() {
                        self.path.push(Segment::Index(index));
                        self.value(element);
                        self.path.pop();
                    }
                }
                _ => {}
            }
        }
    }

    if span.is_empty() {
        return Vec::new();
    }
    let mut search = Search { span, path: Vec::new(), best: None };
    search.table(root);
    search.best.map_or_else(Vec::new, |(_, path)| path)
}

/// Not a page of it.
fn clipped(text: &str) -> String {
    let mut short: String = text.chars().take(80).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

/// User text for a message: one line, and not a page of it.
pub(super) fn shown(text: &str) -> String {
    clipped(text).escape_debug().to_string()
}

/// serde's message in the words of the config, with the nearest known name.
pub(super) fn reworded(message: &str, path: &[&str]) -> String {
    if path.starts_with(&["plan", "request", "headers"]) {
        // The value may be a secret: it is not repeated.
        return "headers are a table of strings, such as { accept = \"*/*\" }".into();
    }
    let (mut found, allowed) = message.rsplit_once(", expected ").unwrap_or((message, ""));
    if path == ["plan", "request"] && found.starts_with("invalid type: string") {
        // A table that lost a bracket is read as a string, and may hold a secret.
        found = "invalid type: string";
    }
    for (kind, word) in [("unknown field `", "key"), ("unknown variant `", "value")] {
        if let Some(name) = found.strip_prefix(kind) {
            let name = name.strip_suffix('`').unwrap_or(name);
            let depth =
                path.iter().position(|segment| *segment == name).map_or(path.len(), |i| i + 1);
            let dotted = path[..depth].join(".");
            let id = if word == "key" { dotted } else { format!("{dotted}={name}") };
            if LATER.contains(&id.as_str()) {
                return format!("`{}` is not supported by this version yet", shown(name));
            }
            return unknown(word, name, allowed);
        }
    }
    if let Some(name) = message.strip_prefix("missing field `") {
        return format!("needs the key `{name}");
    }
    let found = clipped(&found.replace(": sequence", ": list").replace(": map", ": table"));
    let allowed = match allowed {
        "" => return message.into(),
        "a sequence" if path.ends_with(&["request"]) => "[[plan.request]]",
        "a sequence" if path == ["expect"] => "[[expect]]",
        "a sequence" if path.ends_with(&["step"]) => "[[plan.request.step]]",
        "a sequence" if path.ends_with(&["expect_failed"]) => "[[sweep.expect_failed]]",
        "a sequence" => "a list in [ ]",
        "a map" => "a table",
        "f64" => "a number",
        other if other.starts_with("struct ") => "a table",
        other => other,
    };
    format!("{found}, expected {allowed}")
}

/// A name that is not known, the nearest one, and all that are.
fn unknown(word: &str, name: &str, allowed: &str) -> String {
    // Names stand in backquotes: the odd pieces between them.
    let known: Vec<&str> = allowed.split('`').skip(1).step_by(2).collect();
    let nearest = known
        .iter()
        .map(|known| (strsim::jaro_winkler(name, known), *known))
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .filter(|(score, _)| *score > 0.7);
    let hint = nearest.map_or_else(String::new, |(_, known)| format!("did you mean `{known}`? "));
    format!("unknown {word} `{}`: {hint}allowed: {}", shown(name), known.join(", "))
}
