//! What is said on standard error, and what is printed on standard output.
//!
//! A message that cannot be written ends nothing: who closed the terminal wants the measurement to
//! go on. What a command prints is its result, so that a result that is lost makes the command
//! fail; a reader that left early has what it wanted.

use std::fmt;
use std::io::{ErrorKind, IsTerminal, Write};
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Whether something that was printed did not arrive.
static LOST: AtomicBool = AtomicBool::new(false);

/// Says something on standard error, as `eprintln!` does, which panics where that is closed.
macro_rules! say {
    ($($text:tt)*) => { crate::terminal::say(format_args!($($text)*)) };
}

/// The colours of tables, which are all that a text may ask of a terminal.
pub(crate) const COLOURS: [&str; 5] = ["\x1b[1m", "\x1b[2m", "\x1b[31m", "\x1b[33m", "\x1b[0m"];

pub(crate) fn say(text: fmt::Arguments) {
    let folded = fold(&(plain(&text.to_string()) + "\n"), width_of(std::io::stderr()));
    // One write per message, so that messages of several processes do not mix.
    let _ = std::io::stderr().write_all(folded.as_bytes());
}

/// Says a command that is to be copied to a shell, on one line of its own.
pub(crate) fn say_command(text: &str) {
    let line = format!("    {}\n", plain(text));
    let _ = std::io::stderr().write_all(line.as_bytes());
}

/// A word as a shell reads it back.
pub(crate) fn shell_word(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.into(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
}

/// A text that commands no terminal and reads in the order in which it is written, whatever names of
/// files and servers it holds. What is escaped is escaped as in JSON, which stays what it says.
pub(crate) fn plain(text: &str) -> String {
    let turns = |c: char| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        match (c.is_control() && !"\n\t".contains(c)) || turns(c) {
            true => plain.push_str(&format!("\\u{:04x}", u32::from(c))),
            false => plain.push(c),
        }
    }
    plain
}

/// Columns for what goes to a stream: `COLUMNS` where it is set, or else those of the terminal; `None`
/// in a pipe, where lines may be as long as they are.
fn width_of(stream: impl IsTerminal + AsFd) -> Option<u16> {
    let named = std::env::var("COLUMNS").ok().and_then(|n| n.trim().parse().ok());
    let terminal = || stream.is_terminal().then(|| rustix::termios::tcgetwinsize(&stream).ok());
    let columns = named.or_else(|| Some(terminal()??.ws_col))?;
    (columns > 0).then_some(columns)
}

/// Columns for what is printed.
pub(crate) fn width() -> Option<u16> {
    width_of(std::io::stdout())
}

/// Prints text for people: a line that is too long goes on below, indented.
pub(crate) fn page(text: &str) {
    print(&fold(text, width()));
}

/// Folds every line that is wider than `width`; the others stay as they are.
pub(crate) fn fold(text: &str, width: Option<u16>) -> String {
    let Some(room) = width.map(usize::from) else { return text.into() };
    let fits = |line: &&str| columns(line) <= room;
    let folded = text.split('\n').map(|line| match Some(line).filter(fits) {
        Some(line) => line.into(),
        None => wrap(line, width).join("\n"),
    });
    folded.collect::<Vec<String>>().join("\n")
}

/// How many columns a line takes; sequences that set colours take none.
pub(crate) fn columns(line: &str) -> usize {
    let mut parts = line.split('\u{1b}');
    let first = parts.next().map_or(0, |text| text.chars().count());
    let coloured = parts.map(|part| part.split_once('m').map_or(0, |(_, t)| t.chars().count()));
    first + coloured.sum::<usize>()
}

/// Breaks a line at its spaces; what follows stands two columns further in.
pub(crate) fn wrap(text: &str, width: Option<u16>) -> Vec<String> {
    let room = width.map_or(usize::MAX, |w| usize::from(w).max(20));
    let indent = &text[..text.len() - text.trim_start().len()];
    let mut lines: Vec<String> = Vec::new();
    let mut rest = text.trim_end().to_string();
    while columns(&rest) > room {
        let begun = rest.len() - rest.trim_start().len();
        let spaces = || rest.match_indices(' ').map(|(at, _)| at).filter(|at| *at > begun);
        let fits = spaces().take_while(|at| columns(&rest[..*at]) <= room).last();
        // A word that is wider than the terminal, such as a path, is not broken.
        let Some(at) = fits.or_else(|| spaces().next()) else { break };
        let next = format!("{indent}  {}", rest[at..].trim_start());
        rest.truncate(at);
        lines.push(std::mem::replace(&mut rest, next).trim_end().into());
    }
    lines.push(rest);
    lines
}

/// Prints a result to standard output.
pub(crate) fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    printed(out.write_all(coloured(text).as_bytes()).and_then(|()| out.flush()));
}

/// A text that commands a terminal in nothing but colour.
fn coloured(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\x1b') {
        let colour = COLOURS.iter().find(|colour| rest[at..].starts_with(**colour));
        let end = at + colour.map_or(1, |colour| colour.len());
        safe.push_str(&plain(&rest[..at]));
        safe.push_str(&colour.map_or_else(|| plain(&rest[at..end]), |colour| (*colour).into()));
        rest = &rest[end..];
    }
    safe + &plain(rest)
}

/// Notes whether writing to standard output worked.
pub fn printed(outcome: std::io::Result<()>) {
    match outcome {
        Err(e) if e.kind() != ErrorKind::BrokenPipe && !LOST.swap(true, Relaxed) => {
            say!("duel: cannot write to standard output: {e}");
        }
        _ => {}
    }
}

/// The exit code of a command, which is no success where its output was lost.
pub fn conclude(code: ExitCode) -> ExitCode {
    if code == ExitCode::SUCCESS && LOST.load(Relaxed) { ExitCode::FAILURE } else { code }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_is_wider_and_no_word_is_lost_or_broken() {
        let text = "short\n  a line that is indented and far too long for so few columns\n\nend";
        for width in 20..70 {
            let folded = fold(text, Some(width));
            assert!(folded.lines().all(|l| columns(l) <= width.into()), "{width}:\n{folded}");
            let words = |t: &str| t.split_whitespace().map(String::from).collect::<Vec<_>>();
            assert_eq!(words(&folded), words(text), "{width}");
        }
        assert_eq!(fold(text, None), text);
    }

    #[test]
    fn colours_take_no_columns() {
        assert_eq!(columns("\u{1b}[1mbold\u{1b}[0m µs"), 7);
    }

    #[test]
    fn a_name_commands_no_terminal_and_json_stays_what_it_says() {
        for (text, safe) in [
            ("a\tb\n", "a\tb\n"),
            ("\x1b]0;owned\x07", "\\u001b]0;owned\\u0007"),
            ("\u{9b}31m\x7f", "\\u009b31m\\u007f"),
            ("\u{202e}txt.exe", "\\u202etxt.exe"),
            ("back\rover", "back\\u000dover"),
        ] {
            assert_eq!(plain(text), safe);
            let json = serde_json::to_string(text).unwrap();
            assert_eq!(serde_json::from_str::<String>(&plain(&json)).unwrap(), text);
        }
        let table = "\x1b[1mbold\x1b[0m \x1b[8mhidden\x1b]0;t\x07";
        assert_eq!(coloured(table), "\x1b[1mbold\x1b[0m \\u001b[8mhidden\\u001b]0;t\\u0007");
    }
}
