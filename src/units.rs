//! Durations, counts, rates and sizes: parsed and printed in one place.
//!
//! | kind | written as | read as |
//! |---|---|---|
//! | duration | `500us 20ms 2s 1m 1h`, fractions allowed | nanoseconds, `u64` |
//! | count | `2000 10k 1M`, decimal steps | `u64` |
//! | rate | `500 2.5k 0.1`, decimal steps | requests per second, `f64` |
//! | size | `4096 64KiB 1MiB 10kB` | bytes, `u64` |

use std::fmt;

pub(crate) const SECOND_NS: u64 = 1_000_000_000;

/// A quantity that could not be read: what was found and what is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{found}` is not a {kind}: {}", allowed.unwrap_or("it is too large"))]
pub(crate) struct UnitError {
    found: String,
    kind: &'static str,
    /// `None` of a number of this kind that is only more than can be counted.
    allowed: Option<&'static str>,
}

impl UnitError {
    pub(crate) fn is_too_large(&self) -> bool {
        self.allowed.is_none()
    }

    /// The same of a text that is shown in another form.
    pub(crate) fn of(self, found: String) -> Self {
        UnitError { found, ..self }
    }
}

const DURATION_HELP: &str = "write a number and a unit, such as 500us, 20ms, 2s, 1m or 1h";
const COUNT_HELP: &str =
    "write a whole number, with k or M for thousands or millions, such as 2000 or 10k";
const RATE_HELP: &str = "write requests per second above zero, such as 500, 2.5k or 0.1";
const SIZE_HELP: &str =
    "write bytes, or a number with kB, MB, KiB, MiB or GiB in this case, such as 64KiB";

fn split(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end =
        text.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == '_')).unwrap_or(text.len());
    (&text[..end], text[end..].trim_start())
}

/// Scales a decimal number; `help` says what is allowed where it is none.
fn scaled(number: &str, factor: f64, help: &'static str) -> Result<u64, Option<&'static str>> {
    let digits = number.replace('_', "");
    // Whole numbers avoid the 53-bit mantissa, so that a large count survives exactly.
    if let Ok(whole) = digits.parse::<u64>() {
        return whole.checked_mul(factor as u64).ok_or(None);
    }
    let value = digits.parse::<f64>().map_err(|_| Some(help))? * factor;
    if value < 9.2e18 { Ok(value.round() as u64) } else { Err(None) }
}

/// Reads a duration in nanoseconds. A bare number is refused, since peers disagree on its unit.
pub(crate) fn parse_duration_ns(text: &str) -> Result<u64, UnitError> {
    let (number, unit) = split(text);
    let factor = match unit {
        "ns" => 1.0,
        "us" | "µs" | "μs" => 1e3,
        "ms" => 1e6,
        "s" => 1e9,
        "m" | "min" => 60e9,
        "h" => 3600e9,
        _ => 0.0,
    };
    let error = |allowed| UnitError { found: text.into(), kind: "duration", allowed };
    if factor == 0.0 && !(number == "0" && unit.is_empty()) {
        return Err(error(Some(DURATION_HELP)));
    }
    scaled(number, factor, DURATION_HELP).map_err(error)
}

fn decimal_factor(unit: &str) -> Option<f64> {
    match unit {
        "" => Some(1.0),
        "k" | "K" => Some(1e3),
        "M" | "m" => Some(1e6),
        "G" | "g" => Some(1e9),
        _ => None,
    }
}

/// Reads a count with decimal steps: `10k` is 10,000.
pub(crate) fn parse_count(text: &str) -> Result<u64, UnitError> {
    let (number, unit) = split(text);
    let error = |allowed| UnitError { found: text.into(), kind: "count", allowed };
    let factor = decimal_factor(unit).ok_or_else(|| error(Some(COUNT_HELP)))?;
    if unit.is_empty() && number.contains('.') {
        return Err(error(Some(COUNT_HELP)));
    }
    scaled(number, factor, COUNT_HELP).map_err(error)
}

/// Reads a total rate in requests per second; zero is refused.
pub(crate) fn parse_rate(text: &str) -> Result<f64, UnitError> {
    let (number, unit) = split(text);
    let error = |allowed| UnitError { found: text.into(), kind: "rate", allowed };
    let unit = unit.strip_suffix("/s").unwrap_or(unit);
    let factor = decimal_factor(unit).ok_or_else(|| error(Some(RATE_HELP)))?;
    let rate = number.replace('_', "").parse::<f64>().map_err(|_| error(Some(RATE_HELP)))? * factor;
    match rate {
        f64::INFINITY => Err(error(None)),
        rate if rate > 0.0 => Ok(rate),
        _ => Err(error(Some(RATE_HELP))),
    }
}

/// A share in per cent, to a tenth where it has one: `5 %`. What is neither nothing nor all is printed
/// as neither.
pub(crate) fn format_share(share: f64) -> String {
    let percent = 100.0 * share;
    let hides = |rounded: f64| (rounded == 0.0 || rounded == 100.0) && rounded != percent;
    let rounded = |digits: i32| (percent * 10f64.powi(digits)).round() / 10f64.powi(digits);
    let digits = (1..8).find(|digits| !hides(rounded(*digits))).unwrap_or(8);
    format!("{} %", rounded(digits))
}

/// Reads a share such as `5%` or `0.05`.
pub(crate) fn parse_share(text: &str) -> Result<f64, UnitError> {
    let (number, unit) = split(text);
    let share = match unit {
        "" => number.parse::<f64>().ok(),
        "%" => number.parse::<f64>().ok().map(|percent| percent / 100.0),
        _ => None,
    };
    let error = |allowed| UnitError { found: text.into(), kind: "share", allowed };
    match share {
        Some(f64::INFINITY) => Err(error(None)),
        share => share.ok_or_else(|| error(Some("use a share such as 5% or 0.05"))),
    }
}

/// Reads a size in bytes; `KiB` is 1,024 and `kB` is 1,000.
pub(crate) fn parse_size(text: &str) -> Result<u64, UnitError> {
    let (number, unit) = split(text);
    let error = |allowed| UnitError { found: text.into(), kind: "size", allowed };
    let factor = match unit {
        "" | "B" => 1.0,
        "kB" | "KB" => 1e3,
        "MB" => 1e6,
        "GB" => 1e9,
        "KiB" | "k" | "K" => 1024.0,
        "MiB" | "M" => 1024.0 * 1024.0,
        "GiB" | "G" => 1024.0 * 1024.0 * 1024.0,
        _ => return Err(error(Some(SIZE_HELP))),
    };
    scaled(number, factor, SIZE_HELP).map_err(error)
}

/// Prints a number with three significant digits and no trailing zeros after the point.
fn significant(value: f64) -> String {
    let digits = 2 - usize::from(value >= 10.0) - usize::from(value >= 100.0);
    trimmed(&format!("{value:.digits$}")).to_string()
}

/// A decimal without zeros at its end that say nothing.
pub(crate) fn trimmed(text: &str) -> &str {
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { text }
}

/// Prints nanoseconds with three significant digits: `1.25 ms`.
pub(crate) fn format_ns(ns: f64) -> String {
    match ns {
        n if n < 0.0 => format!("-{}", format_ns(-n)),
        n if n < 999.5 => format!("{} ns", significant(n)),
        n if n < 999.5e3 => format!("{} µs", significant(n / 1e3)),
        n if n < 999.5e6 => format!("{} ms", significant(n / 1e6)),
        n => format!("{} s", significant(n / 1e9)),
    }
}

/// Prints a duration the way it is written in a config, exactly: `500ms`, `1500us`.
pub(crate) fn duration_literal(ns: u64) -> String {
    for (unit, size) in [("s", SECOND_NS), ("ms", 1_000_000), ("us", 1_000)] {
        if ns >= size && ns.is_multiple_of(size) {
            return format!("{}{unit}", ns / size);
        }
    }
    format!("{ns}ns")
}

/// Prints bytes with three significant digits in binary steps: `64 KiB`.
pub(crate) fn format_bytes(bytes: f64) -> String {
    match bytes {
        b if b < 0.0 => format!("-{}", format_bytes(-b)),
        b if b < 1023.5 => format!("{} B", significant(b)),
        b if b < 1023.5 * 1024.0 => format!("{} KiB", significant(b / 1024.0)),
        b if b < 1023.5 * 1_048_576.0 => format!("{} MiB", significant(b / 1_048_576.0)),
        b => format!("{} GiB", significant(b / 1_073_741_824.0)),
    }
}

/// Prints a size the way it is written in a config, exactly: `64KiB`.
pub(crate) fn size_literal(bytes: u64) -> String {
    for (unit, size) in [("GiB", 1u64 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)] {
        if bytes >= size && bytes.is_multiple_of(size) {
            return format!("{}{unit}", bytes / size);
        }
    }
    format!("{bytes}B")
}

/// Prints a count with thousands separators: `16,370`.
pub(crate) fn format_count(count: u64) -> String {
    let mut out = count.to_string();
    for at in (1..out.len()).rev().skip(2).step_by(3) {
        out.insert(at, ',');
    }
    out
}

/// A count of something: `1 lane`, `16,370 lanes`.
pub(crate) fn plural(count: u64, word: &str) -> String {
    format!("{} {word}{}", format_count(count), if count == 1 { "" } else { "s" })
}

/// `a, b or c`.
pub(crate) fn one_of(names: &[&str]) -> String {
    match names {
        [names @ .., last] if !names.is_empty() => format!("{} or {last}", names.join(", ")),
        _ => names.concat(),
    }
}

/// Prints a rate: whole numbers with separators from 100 up, three significant digits below.
pub(crate) fn format_rate(per_s: f64) -> String {
    match per_s {
        r if r >= 99.95 => format_count(r.round() as u64),
        // One in eleven days is not none.
        r if r > 0.0 && r < 0.995 => {
            let digits = (2.0 - r.log10().floor()).clamp(2.0, 15.0) as usize;
            trimmed(&format!("{r:.digits$}")).to_string()
        }
        r => significant(r),
    }
}

/// A wrapper that prints a ratio with two decimals, or three below a tenth.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ratio(pub f64);

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 < 0.1 { write!(f, "{:.3}×", self.0) } else { write!(f, "{:.2}×", self.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_hides_nothing_that_is_there() {
        for (share, text) in [
            (0.0, "0 %"),
            (0.05, "5 %"),
            (0.3141, "31.4 %"),
            (0.0004, "0.04 %"),
            (1e-7, "0.00001 %"),
            (0.9997, "99.97 %"),
            (1.0, "100 %"),
        ] {
            assert_eq!(format_share(share), text);
        }
        for (rate, text) in [
            (0.0, "0"),
            (0.001, "0.001"),
            (1e-6, "0.000001"),
            (0.5, "0.5"),
            (0.123_4, "0.123"),
            (2.5, "2.5"),
        ] {
            assert_eq!(format_rate(rate), text);
        }
    }

    #[test]
    fn durations_read_with_units_only() {
        for (text, ns) in [
            ("500us", 500_000),
            ("20ms", 20_000_000),
            ("2s", 2_000_000_000),
            ("1m", 60_000_000_000),
            ("1.5ms", 1_500_000),
            ("0", 0),
            ("0s", 0),
        ] {
            assert_eq!(parse_duration_ns(text), Ok(ns), "{text}");
        }
        for text in ["5", "ms", "5 parsecs", "-1s", "1e3s", "", "99999999999h"] {
            assert!(parse_duration_ns(text).is_err(), "{text} must be refused");
        }
    }

    #[test]
    fn what_is_too_large_is_not_called_malformed() {
        let many = "9".repeat(400);
        let errors = [
            parse_count("18446744073709551616").unwrap_err(),
            parse_count("18446744073709552k").unwrap_err(),
            parse_count(&many).unwrap_err(),
            parse_duration_ns("99999999999h").unwrap_err(),
            parse_duration_ns("18446744074s").unwrap_err(),
            parse_size("17179869184GiB").unwrap_err(),
            parse_rate(&many).unwrap_err(),
            parse_share(&format!("{many}%")).unwrap_err(),
        ];
        for error in errors {
            assert!(error.is_too_large(), "{error}");
            assert!(error.to_string().ends_with(": it is too large"), "{error}");
        }
        for error in ["1e400", "NaN", "inf", "-1", "", "_", "1.2.3", "0x10"] {
            assert!(!parse_count(error).unwrap_err().is_too_large(), "{error}");
        }
        assert_eq!(parse_count("18446744073709551615"), Ok(u64::MAX), "to the last digit");
    }

    #[test]
    fn counts_and_rates_step_by_thousands_sizes_by_1024() {
        assert_eq!(parse_count("10k"), Ok(10_000));
        assert_eq!(parse_count("2.5k"), Ok(2_500));
        assert_eq!(parse_count("1M"), Ok(1_000_000));
        assert!(parse_count("2.5").is_err());
        assert_eq!(parse_rate("2.5k"), Ok(2_500.0));
        assert!(parse_rate("0").is_err());
        assert!(parse_rate("-1").is_err());
        assert_eq!(parse_size("64KiB"), Ok(65_536));
        assert_eq!(parse_size("10kB"), Ok(10_000));
        assert!(parse_size("64KB/s").is_err());
    }

    #[test]
    fn printing_keeps_three_digits() {
        assert_eq!(format_ns(1_254_000.0), "1.25 ms");
        assert_eq!(format_ns(999_700.0), "1 ms");
        assert_eq!(format_bytes(65_536.0), "64 KiB");
        assert_eq!(format_count(16_370), "16,370");
        assert_eq!(duration_literal(1_500_000), "1500us");
        assert_eq!(size_literal(65_536), "64KiB");
    }
}
