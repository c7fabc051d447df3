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

pub(crate) fn say(text: fmt::Arguments) {
    let folded = fold(&(plain(text) + "\n"), width_of(std::io::stderr()));
    // One write per message, so that messages of several processes do not mix.
    let _ = std::io::stderr().write_all(folded.as_bytes());
}

/// Says a command that is to be copied to a shell, on one line of its own.
pub(crate) fn say_command(text: &str) {
    let line = format!("    {}\n", plain(format_args!("{text}")));
    let _ = std::io::stderr().write_all(line.as_bytes());
}

fn plain(text: fmt::Arguments) -> String {
    let mut plain = String::new();
    for c in text.to_string().chars() {
        // Names come from files and servers: none of them gets to command the terminal.
        match c.is_control() && !"\n\t".contains(c) {
            true => plain.extend(c.escape_default()),
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
    printed(out.write_all(text.as_bytes()).and_then(|()| out.flush()));
}

/// Takes note of what became of writing to standard output.
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
}
