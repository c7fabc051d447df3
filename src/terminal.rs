//! What is said on standard error, and what is printed on standard output.
//!
//! A message that cannot be written ends nothing: who closed the terminal wants the measurement to
//! go on. What a command prints is its result, so that a result that is lost makes the command
//! fail; a reader that left early has what it wanted.

use std::fmt;
use std::io::{ErrorKind, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Whether something that was printed did not arrive.
static LOST: AtomicBool = AtomicBool::new(false);

/// Says something on standard error, as `eprintln!` does, which panics where that is closed.
macro_rules! say {
    ($($text:tt)*) => { crate::terminal::say(format_args!($($text)*)) };
}

pub(crate) fn say(text: fmt::Arguments) {
    let mut plain = String::new();
    for c in text.to_string().chars() {
        // Names come from files and servers: none of them gets to command the terminal.
        match c.is_control() && !"\n\t".contains(c) {
            true => plain.extend(c.escape_default()),
            false => plain.push(c),
        }
    }
    // One write a line, so that lines of several processes do not mix.
    let _ = std::io::stderr().write_all((plain + "\n").as_bytes());
}

/// Columns of the terminal; `None` elsewhere, where lines may be as long as they are.
pub(crate) fn width() -> Option<u16> {
    if !std::io::stdout().is_terminal() {
        return None;
    }
    let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok()?;
    (size.ws_col > 0).then_some(size.ws_col)
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
