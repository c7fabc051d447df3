//! Templates: `{name}` in a path, a header value or a body, and what it stands for.
//!
//! A value is a pure function of (seed, name, request index), so that every engine, worker and
//! lane agrees on the bytes of request i without shared state, and so that a name that stands
//! twice in a request is the same text twice.
//!
//! `{` begins a value only where a name (letters, digits and `_`, not a digit first) and `}`
//! follow: JSON needs no escapes. `{{name}}` is the text `{name}`. A header value or body that is
//! `$NAME` as a whole comes from the environment, as it does without values, and what a data file
//! holds is never read as `$NAME` or as a template.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::request::{RenderFault, splitmix64};

/// Largest data file, in bytes: it is read whole.
const MAX_DATA_BYTES: u64 = 64 << 20;
const MAX_NAME: usize = 64;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RequestValue {
    /// `start + step × request index`.
    Counter { start: u64, step: u64 },
    /// A whole number, each from `min` to `max` equally likely.
    Random {
        min: u64,
        /// Greatest, itself included.
        max: u64,
    },
    /// A line of a file, each equally likely; blank lines are skipped.
    Choice {
        /// The file, an absolute path. The plan hash holds the digest instead.
        path: String,
        /// SHA-256 of the file, in hexadecimal: a worker refuses another.
        sha256: String,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece<'t> {
    Text(&'t [u8]),
    Value(&'t str),
}

/// The pieces of a template, in order; text without a value is one piece or none.
pub fn pieces(template: &[u8]) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let (mut from, mut at) = (0, 0);
    while let Some(brace) = template[at..].iter().position(|byte| *byte == b'{') {
        let open = at + brace;
        let (skip, name) = match (name_at(template, open + 2), name_at(template, open + 1)) {
            (Some(name), _) if escapes(template, open, name.len()) => (1, name),
            (_, Some(name)) => (0, name),
            _ => {
                at = open + 1;
                continue;
            }
        };
        if open > from {
            pieces.push(Piece::Text(&template[from..open]));
        }
        let end = open + skip + name.len() + 2;
        if skip == 1 {
            pieces.push(Piece::Text(&template[open + 1..end]));
            at = end + 1;
        } else {
            pieces.push(Piece::Value(name));
            at = end;
        }
        from = at;
    }
    if from < template.len() {
        pieces.push(Piece::Text(&template[from..]));
    }
    pieces
}

/// The name at a place, if one is there and `}` follows it.
fn name_at(template: &[u8], at: usize) -> Option<&str> {
    let rest = template.get(at..)?;
    let length = rest.iter().position(|b| !(b.is_ascii_alphanumeric() || *b == b'_'))?;
    let name = std::str::from_utf8(&rest[..length]).ok()?;
    (rest[length] == b'}' && is_name(name)).then_some(name)
}

/// Whether `{{name}}` stands at `open`, for a name of this length.
fn escapes(template: &[u8], open: usize, length: usize) -> bool {
    template.get(open + 1) == Some(&b'{') && template.get(open + length + 3) == Some(&b'}')
}

pub(crate) fn is_name(text: &str) -> bool {
    let plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let first = text.bytes().next().is_some_and(|byte| !byte.is_ascii_digit());
    plain && first && text.len() <= MAX_NAME
}

/// A file that a plan names cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct DataError(pub(super) String);

impl DataError {
    pub(super) fn changed(path: &str) -> DataError {
        DataError(format!("`{path}` has changed since the plan was made"))
    }
}

#[derive(Debug, Clone, Default)]
pub struct Values {
    sources: BTreeMap<String, ValueSource>,
}

#[derive(Debug, Clone)]
enum ValueSource {
    Counter { start: u64, step: u64 },
    Random { stream: u64, min: u64, max: u64 },
    Choice { stream: u64, lines: Lines },
}

/// The lines of a data file that are not blank.
#[derive(Debug, Clone)]
pub struct Lines {
    text: Vec<u8>,
    /// Where each line begins and ends, and its number in the file.
    spans: Vec<(u32, u32, u32)>,
}

impl Lines {
    pub fn read(path: &Path) -> Result<Lines, DataError> {
        let text = read_file(path, MAX_DATA_BYTES)?;
        let mut spans = Vec::new();
        let mut begin = text.len() - without_mark(&text).len();
        for (index, line) in without_mark(&text).split(|byte| *byte == b'\n').enumerate() {
            let end = begin + line.strip_suffix(b"\r").unwrap_or(line).len();
            if !line.trim_ascii().is_empty() {
                // The bound on the file keeps all of them inside u32.
                spans.push((begin as u32, end as u32, index as u32 + 1));
            }
            begin += line.len() + 1;
        }
        if spans.is_empty() {
            return Err(DataError(format!("`{}` holds no line to choose from", path.display())));
        }
        Ok(Lines { text, spans })
    }

    pub(crate) fn sha256(&self) -> String {
        sha256(&self.text)
    }

    /// Each line with its number in the file, from 1.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &[u8])> {
        self.spans.iter().map(|(begin, end, line)| (*line, self.slice(*begin, *end)))
    }

    fn slice(&self, begin: u32, end: u32) -> &[u8] {
        &self.text[begin as usize..end as usize]
    }
}

impl Values {
    pub fn load(values: &BTreeMap<String, RequestValue>, seed: u64) -> Result<Values, DataError> {
        let mut sources = BTreeMap::new();
        for (name, value) in values {
            let stream = name
                .bytes()
                .fold(splitmix64(seed ^ STREAM), |state, byte| splitmix64(state ^ u64::from(byte)));
            let source = match value {
                RequestValue::Counter { start, step } => {
                    ValueSource::Counter { start: *start, step: *step }
                }
                RequestValue::Random { min, max } => {
                    ValueSource::Random { stream, min: *min, max: *max }
                }
                RequestValue::Choice { path, sha256 } => {
                    let lines = Lines::read(Path::new(path))?;
                    if lines.sha256() != *sha256 {
                        return Err(DataError::changed(path));
                    }
                    ValueSource::Choice { stream, lines }
                }
            };
            sources.insert(name.clone(), source);
        }
        Ok(Values { sources })
    }

    pub fn fill(&self, pieces: &[Piece<'_>], index: u64) -> Result<Vec<u8>, RenderFault> {
        let mut filled = Vec::new();
        for piece in pieces {
            match piece {
                Piece::Text(text) => filled.extend_from_slice(text),
                Piece::Value(name) => match self.sources.get(*name) {
                    Some(source) => source.write(index, &mut filled),
                    None => return Err(RenderFault::Unknown((*name).to_string())),
                },
            }
        }
        Ok(filled)
    }
}

/// Keeps draws of values apart from other uses of the seed.
const STREAM: u64 = 0x7661_6c75_6573_0000;

impl ValueSource {
    fn write(&self, index: u64, out: &mut Vec<u8>) {
        // A number by multiply and shift, as `Mix` draws: the bias is below the range / 2^64.
        let draw = |stream: u64, range: u128| {
            let random = splitmix64(stream ^ splitmix64(index));
            ((u128::from(random) * range) >> 64) as u64
        };
        match self {
            ValueSource::Counter { start, step } => {
                let number = start.wrapping_add(step.wrapping_mul(index));
                out.extend_from_slice(number.to_string().as_bytes());
            }
            ValueSource::Random { stream, min, max } => {
                let number = min + draw(*stream, u128::from(max - min) + 1);
                out.extend_from_slice(number.to_string().as_bytes());
            }
            ValueSource::Choice { stream, lines } => {
                let (begin, end, _) =
                    lines.spans[draw(*stream, lines.spans.len() as u128) as usize];
                out.extend_from_slice(lines.slice(begin, end));
            }
        }
    }
}

/// Whether bytes can stand as path and query in a request line as they are.
pub(crate) fn is_path(bytes: &[u8]) -> bool {
    let plain = bytes.first() == Some(&b'/')
        && bytes.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'#');
    plain
        && http::uri::PathAndQuery::try_from(bytes)
            .is_ok_and(|path| path.as_str().as_bytes() == bytes)
}

/// Reads a regular file up to a byte beyond `most`: a pipe could block and a device never end.
pub(crate) fn read_regular(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let size = std::fs::metadata(path)?;
    if !size.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let mut bytes = Vec::with_capacity(size.len().min(most) as usize);
    File::open(path)?.take(most + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The same of a file that a plan names, which holds no more than that.
pub(crate) fn read_file(path: &Path, most: u64) -> Result<Vec<u8>, DataError> {
    let bytes = read_regular(path, most)
        .map_err(|error| DataError(format!("`{}` cannot be read: {error}", path.display())))?;
    if bytes.len() as u64 > most {
        let most = crate::units::size_literal(most);
        return Err(DataError(format!("`{}` is too long: at most {most}", path.display())));
    }
    Ok(bytes)
}

/// A text without the byte-order mark that some editors put before UTF-8.
pub(crate) fn without_mark(text: &[u8]) -> &[u8] {
    text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text)
}

/// A path as workers in any directory find it.
pub(crate) fn absolute(path: &Path) -> Result<String, DataError> {
    let real = path
        .canonicalize()
        .map_err(|error| DataError(format!("`{}` cannot be found: {error}", path.display())))?;
    let text = real.to_str().map(str::to_string);
    text.ok_or_else(|| DataError(format!("the path `{}` is not UTF-8", real.display())))
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(template: &str) -> String {
        pieces(template.as_bytes())
            .iter()
            .map(|piece| match piece {
                Piece::Text(text) => format!("'{}'", text.escape_ascii()),
                Piece::Value(name) => format!("<{name}>"),
            })
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[test]
    fn only_a_name_in_braces_is_a_value() {
        for (template, want) in [
            ("/items/{id}", "'/items/' <id>"),
            ("{a}{b_2}", "<a> <b_2>"),
            ("plain", "'plain'"),
            ("", ""),
            (
                "{\"id\": {id}, \"o\": {\"k\":{id}}}",
                "'{\\\"id\\\": ' <id> ', \\\"o\\\": {\\\"k\\\":' <id> '}}'",
            ),
            ("{{id}}", "'{id}'"),
            ("a{{id}}b{id}c", "'a' '{id}' 'b' <id> 'c'"),
            ("{ id } {} {9} {a-b} {id", "'{ id } {} {9} {a-b} {id'"),
            ("{{id}", "'{' <id>"),
            ("{{{id}}}", "'{' '{id}' '}'"),
            ("$HOME {x}$", "'$HOME ' <x> '$'"),
        ] {
            assert_eq!(shown(template), want, "{template}");
        }
    }

    fn values(seed: u64) -> Values {
        let all = BTreeMap::from([
            ("n".into(), RequestValue::Counter { start: 10, step: 3 }),
            ("r".into(), RequestValue::Random { min: 5, max: 8 }),
            ("s".into(), RequestValue::Random { min: 5, max: 8 }),
            ("wide".into(), RequestValue::Random { min: 0, max: u64::MAX }),
        ]);
        Values::load(&all, seed).unwrap()
    }

    fn fill(values: &Values, template: &str, index: u64) -> String {
        String::from_utf8(values.fill(&pieces(template.as_bytes()), index).unwrap()).unwrap()
    }

    #[test]
    fn values_are_a_pure_function_of_seed_name_and_index() {
        let one = values(1);
        assert_eq!(fill(&one, "{n}-{n}", 0), "10-10");
        assert_eq!(fill(&one, "{n}", 4), "22");
        let column = |values: &Values, name: &str| -> Vec<String> {
            (0..4_000).map(|index| fill(values, name, index)).collect()
        };
        assert_eq!(column(&one, "{r}"), column(&values(1), "{r}"), "the same seed, the same draws");
        assert_ne!(column(&one, "{r}"), column(&one, "{s}"), "two names go in step");
        assert_ne!(column(&one, "{r}"), column(&values(2), "{r}"), "the seed decides nothing");
        for number in 5..=8 {
            let count = column(&one, "{r}").iter().filter(|r| **r == number.to_string()).count();
            assert!(count.abs_diff(1_000) < 150, "{number} came {count} times of 4,000");
        }
        assert!(fill(&one, "{wide}", 1).parse::<u64>().is_ok());
        let unknown = RenderFault::Unknown("none".into());
        assert_eq!(one.fill(&pieces(b"{none}"), 0), Err(unknown));
    }

    #[test]
    fn a_choice_is_of_lines_that_are_not_blank() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("words");
        for text in ["one\r\n\n  \ntwo words", "\u{feff}one\n\r\n\t\ntwo words\r\n"] {
            std::fs::write(&path, text).unwrap();
            let lines = Lines::read(&path).unwrap();
            let all: Vec<_> = lines.iter().collect();
            assert_eq!(all, [(1, &b"one"[..]), (4, &b"two words"[..])], "{text:?}");
        }
        std::fs::write(&path, "one\r\n\n  \ntwo words").unwrap();
        let lines = Lines::read(&path).unwrap();
        let value = RequestValue::Choice { path: absolute(&path).unwrap(), sha256: lines.sha256() };
        let values = Values::load(&BTreeMap::from([("w".into(), value.clone())]), 1).unwrap();
        let drawn: std::collections::BTreeSet<_> =
            (0..50).map(|index| fill(&values, "{w}", index)).collect();
        assert_eq!(drawn.into_iter().collect::<Vec<_>>(), ["one", "two words"]);

        std::fs::write(&path, "other").unwrap();
        let error =
            Values::load(&BTreeMap::from([("w".into(), value)]), 1).unwrap_err().to_string();
        assert!(error.contains("has changed since"), "{error}");
        std::fs::write(&path, "\n \n").unwrap();
        assert!(Lines::read(&path).unwrap_err().to_string().contains("holds no line"));
        let error = Lines::read(dir.path()).unwrap_err().to_string();
        assert!(error.contains("not a regular file"), "{error}");
    }
}
