//! One line of an access log in Apache's common or combined form:
//! `host ident user [10/Oct/2000:13:55:36 -0700] "GET /a HTTP/1.1" 200 2326 "referer" "agent"`
//! (httpd's mod_log_config and nginx's ngx_http_log_module). What follows is left alone, since
//! servers are often told to add columns.

use anyhow::anyhow;
use jiff::fmt::strtime::BrokenDownTime;

#[derive(Debug, PartialEq, Eq)]
pub(super) struct LogEntry<'t> {
    pub(super) second: i64,
    /// Empty where the line holds no request.
    pub(super) method: &'t [u8],
    /// Empty where the line holds no request.
    pub(super) path: &'t [u8],
}

pub(super) fn entry(line: &[u8], combined: bool) -> anyhow::Result<LogEntry<'_>> {
    let torn = |what: &str| {
        anyhow!("is torn or no access log: {what}; allowed is the common or combined form")
    };
    let open = line.iter().position(|byte| *byte == b'[').ok_or_else(|| torn("no [time]"))?;
    let rest = &line[open + 1..];
    let close = rest.iter().position(|byte| *byte == b']').ok_or_else(|| torn("no [time]"))?;
    let second = time(&rest[..close]).ok_or_else(|| {
        let found = String::from_utf8_lossy(&rest[..close]).escape_debug().to_string();
        anyhow!("`{found}` is not a time: write [10/Oct/2000:13:55:36 -0700]")
    })?;
    let rest = rest[close + 1..].trim_ascii_start();
    let (request, rest) = quoted(rest).ok_or_else(|| torn("no \"request\""))?;
    let mut fields = rest.split(|byte| *byte == b' ').filter(|field| !field.is_empty());
    let status = fields.next().unwrap_or_default();
    if status.len() != 3 || !status.iter().all(u8::is_ascii_digit) {
        return Err(torn("no status behind the request"));
    }
    let bytes = fields.next().unwrap_or_default();
    if bytes != b"-" && (bytes.is_empty() || !bytes.iter().all(u8::is_ascii_digit)) {
        return Err(torn("no length behind the status"));
    }
    if combined {
        // Behind status and length, each of which is followed by a blank.
        let mut rest = rest.trim_ascii_start();
        for _ in 0..2 {
            let end = rest.iter().position(|byte| *byte == b' ').unwrap_or(rest.len());
            rest = rest[end..].trim_ascii_start();
        }
        let (_, rest) = quoted(rest).ok_or_else(|| torn("no \"referer\""))?;
        quoted(rest.trim_ascii_start()).ok_or_else(|| torn("no \"user agent\""))?;
    }
    let (method, path) = request_line(request).unwrap_or_default();
    Ok(LogEntry { second, method, path })
}

/// The text between quotes, in which a backslash escapes, and what follows.
fn quoted(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let inner = text.strip_prefix(b"\"")?;
    let mut at = 0;
    while at < inner.len() {
        match inner[at] {
            b'\\' => at += 2,
            b'"' => return Some((&inner[..at], &inner[at + 1..])),
            _ => at += 1,
        }
    }
    None
}

/// Method and path of `GET /a HTTP/1.1`; an escape means bytes that no request may hold as they
/// are, so such a line is skipped.
fn request_line(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut parts = line.split(|byte| *byte == b' ');
    let (method, path, version) = (parts.next()?, parts.next()?, parts.next()?);
    let known = parts.next().is_none() && version.starts_with(b"HTTP/");
    let plain = !method.is_empty() && method.iter().all(u8::is_ascii_alphabetic);
    (known && plain && !path.contains(&b'\\')).then_some((method, path))
}

/// Unix time of `10/Oct/2000:13:55:36 -0700`.
fn time(text: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(text).ok().filter(|text| text.len() == 26)?;
    let time = BrokenDownTime::parse("%d/%b/%Y:%H:%M:%S %z", text).ok()?.to_timestamp().ok()?;
    // A leap second is logged as :60; it is the same instant as the next minute's first.
    Some(time.as_second() + i64::from(text.get(18..20) == Some("60")))
}
