//! A child process that speaks in lines: started, read under a deadline, ended by its id.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

use crate::protocol::MAX_FRAME_BYTES;
use crate::sys::{now_ns, timespec};

/// How long a child may take to end by itself once its standard input is closed.
const FAREWELL: Duration = Duration::from_secs(5);

/// A child of this binary, on pipes. Dropping it kills and reaps the process.
pub(crate) struct Piped {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: ChildStdout,
    buffer: Vec<u8>,
    what: String,
    pub spawned_at: u64,
    stops: Stops,
}

/// For how long a child was stopped by a signal, at most.
#[derive(Debug)]
struct Stops {
    looked_at: u64,
    since: Option<u64>,
    total_ns: u64,
}

impl Stops {
    /// None yet, of a child that was started then.
    fn since(spawned_at: u64) -> Stops {
        Stops { looked_at: spawned_at, since: None, total_ns: 0 }
    }

    /// For how long a child of this process was stopped (SIGSTOP and its like) so far. The kernel
    /// tells a parent of every stop and going on, so that none is missed between two looks; a time
    /// counts from the look before.
    fn look(&mut self, child: u32) -> u64 {
        let options = WaitIdOptions::STOPPED | WaitIdOptions::CONTINUED | WaitIdOptions::NOHANG;
        let pid = Pid::from_raw(child as i32);
        let news = pid.and_then(|pid| waitid(WaitId::Pid(pid), options).ok().flatten());
        let now = now_ns();
        if let Some(status) = news {
            let since = *self.since.get_or_insert(self.looked_at);
            if status.continued() {
                self.total_ns += now - since;
                self.since = None;
            }
        }
        self.looked_at = now;
        self.total_ns + self.since.map_or(0, |since| now - since)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoLine {
    #[error("a worker was not ready in time")]
    Late,
    /// None will come: the child ended, closed its output or sent something else.
    #[error("{0}")]
    Never(String),
}

impl Piped {
    /// Starts this very binary with `arguments`, and `environment` laid over its own: a name
    /// without a value is removed.
    ///
    /// The child gets a process group of its own, so that Ctrl-C on the terminal reaches the
    /// driver alone, which then ends its children in order.
    pub(crate) fn spawn<S: AsRef<OsStr>>(
        what: &str,
        arguments: &[S],
        environment: &[(&str, Option<String>)],
    ) -> std::io::Result<Self> {
        let spawned_at = now_ns();
        let mut command = Command::new("/proc/self/exe");
        // Its messages are read line by line here.
        command.env_remove("COLUMNS");
        for (name, value) in environment {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let mut child = command
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().expect("standard output was asked to be a pipe");
        Ok(Piped {
            child,
            stdin,
            stdout,
            buffer: Vec::new(),
            what: what.into(),
            spawned_at,
            stops: Stops::since(spawned_at),
        })
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn stdin(&mut self) -> std::io::Result<&mut ChildStdin> {
        self.stdin.as_mut().ok_or_else(|| std::io::ErrorKind::BrokenPipe.into())
    }

    pub(crate) fn send_line(&mut self, line: &[u8]) -> std::io::Result<()> {
        let stdin = self.stdin()?;
        stdin.write_all(line)?;
        stdin.write_all(b"\n")?;
        stdin.flush()
    }

    /// Closes the child's standard input: a worker cancels, a target reports and ends.
    pub(crate) fn close(&mut self) {
        self.stdin = None;
    }

    /// The next line, with its line feed, until `deadline` on CLOCK_MONOTONIC.
    pub(crate) fn line(&mut self, deadline: u64) -> Result<Vec<u8>, NoLine> {
        let mut searched = 0;
        loop {
            if let Some(at) = self.buffer[searched..].iter().position(|b| *b == b'\n') {
                let rest = self.buffer.split_off(searched + at + 1);
                return Ok(std::mem::replace(&mut self.buffer, rest));
            }
            searched = self.buffer.len();
            if searched > MAX_FRAME_BYTES {
                return Err(NoLine::Never(format!("{} sent a line without end", self.what)));
            }
            self.wait_readable(deadline)?;
            let mut chunk = [0; 16 * 1024];
            match self.stdout.read(&mut chunk) {
                Ok(0) => return Err(NoLine::Never(self.obituary())),
                Ok(n) => self.buffer.extend_from_slice(&chunk[..n]),
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(NoLine::Never(format!("{}: {e}", self.what))),
            }
        }
    }

    fn wait_readable(&self, deadline: u64) -> Result<(), NoLine> {
        loop {
            // Once the deadline is over, what has come by then still counts: it may be this process
            // that was kept from looking.
            let left = deadline.saturating_sub(now_ns());
            let mut fds = [PollFd::new(&self.stdout, PollFlags::IN)];
            match poll(&mut fds, Some(&timespec(left))) {
                Ok(0) => return Err(NoLine::Late),
                Ok(_) => return Ok(()),
                // A signal: the caller's deadline is short, and it looks at the flags between.
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(NoLine::Never(format!("{}: {e}", self.what))),
            }
        }
    }

    pub(crate) fn stopped_ns(&mut self) -> u64 {
        self.stops.look(self.child.id())
    }

    pub(super) fn obituary(&mut self) -> String {
        let status = self.wait_until(now_ns() + 1_000_000_000);
        match status {
            Some(status) => format!("{} (process {}) ended: {status}", self.what, self.id()),
            None => format!("{} (process {}) closed its output", self.what, self.id()),
        }
    }

    fn wait_until(&mut self, deadline: u64) -> Option<std::process::ExitStatus> {
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return Some(status),
                Ok(None) if now_ns() < deadline => std::thread::sleep(Duration::from_millis(1)),
                _ => return None,
            }
        }
    }

    /// Closes the input, waits for the child to end by itself, and kills it where it does not.
    pub(crate) fn finish(mut self) {
        self.close();
        self.wait_until(now_ns() + FAREWELL.as_nanos() as u64);
    }
}

impl Drop for Piped {
    fn drop(&mut self) {
        self.stdin = None;
        if let Ok(None) = self.child.try_wait() {
            // It may end between the two calls; killing a child that is not reaped harms nobody.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
