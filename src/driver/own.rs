//! A server of the user's own, started by its command for a trial and stopped after it: whatever it
//! does, it ends with the trial, and its last words are kept.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use rustix::process::{
    Pid, Signal, WaitOptions, getpid, kill_process, kill_process_group, set_child_subreaper,
    waitpid,
};

use super::others::processes;
use crate::driver::cpus;
use crate::plan::server::{OwnServer, ReadyCheck};
use crate::sys::now_ns;
use crate::units::SECOND_NS;

const PATIENCE_NS: u64 = 10 * SECOND_NS;
/// How long it may take to end when it is asked to, before it is killed.
const FAREWELL_NS: u64 = 2 * SECOND_NS;
/// Between two looks at a server that starts or ends.
const TURN: Duration = Duration::from_millis(5);
/// Shortest stop that is certain to be seen.
const STOP_NS: u64 = 50_000_000;
const LAST_WORDS: usize = 2_000;

/// A running server. Dropping it ends every process that it started.
pub(super) struct Own {
    child: Child,
    command: String,
    /// Its processes when it was ready, itself first.
    pids: Vec<u32>,
    said: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
    pub(super) at: SocketAddr,
    /// Children that this process had before.
    others: Vec<u32>,
    /// When it was last seen whether it is stopped, and for how long it was so far.
    stops: (u64, u64),
}

impl Own {
    pub(super) fn start(own: &OwnServer, on: &[u32]) -> anyhow::Result<Own> {
        // Whoever of its processes loses their parent becomes a child of this one, whatever session or
        // group it made for itself: a daemon too.
        let _ = set_child_subreaper(Some(getpid()));
        let others = children();
        let at = free_port().context("no free port for the server")?;
        let port = at.port().to_string();
        let command = own.command.replace("{port}", &port);
        let (from, to) = std::io::pipe().context("a pipe for the server's output")?;
        let mut shim = Command::new("/proc/self/exe");
        shim.args(["target", "--exec", &command]);
        if !on.is_empty() {
            shim.args(["--cpus", &cpus::list(on)]);
        }
        shim.envs(own.env.iter().map(|(name, value)| (name, value.replace("{port}", &port))));
        let child = shim
            .env("PORT", &port)
            .stdin(Stdio::null())
            .stdout(OwnedFd::from(to.try_clone()?))
            .stderr(OwnedFd::from(to))
            .process_group(0)
            .spawn()
            .with_context(|| format!("the server `{command}` could not be started"))?;
        // The command holds the other ends of the pipe.
        drop(shim);
        let said = Arc::default();
        let reader = listen_to(from, Arc::clone(&said))?;
        let mut server =
            Own { child, command, pids: vec![], said, reader, at, others, stops: (now_ns(), 0) };
        server.await_answer(own.ready)?;
        server.pids = tree(server.child.id());
        Ok(server)
    }

    fn await_answer(&mut self, ready: ReadyCheck) -> anyhow::Result<()> {
        let deadline = now_ns() + PATIENCE_NS;
        loop {
            if let Some(status) = self.ended() {
                bail!(
                    "the server `{}` ended before it answered: {}",
                    self.command,
                    self.words(status)
                );
            }
            if answers(self.at, ready) {
                return Ok(());
            }
            if now_ns() > deadline {
                let what =
                    if ready == ReadyCheck::Http { "an HTTP request" } else { "a connection" };
                return Err(anyhow!(
                    "the server `{}` did not answer {what} on {} within 10 s: it must listen where \
                     {{port}} or $PORT says{}",
                    self.command,
                    self.at,
                    self.quoted()
                ));
            }
            std::thread::sleep(TURN);
        }
    }

    /// For how long a process of it was stopped by a signal. Most of them are children of a shell, so
    /// that the kernel tells duel nothing of it: each is looked at, not too often.
    pub(super) fn stopped_ns(&mut self) -> u64 {
        let (now, (looked_at, total_ns)) = (now_ns(), self.stops);
        if now - looked_at >= STOP_NS {
            let stopped = |pid: &u32| {
                let process = procfs::process::Process::new(*pid as i32).ok()?;
                Some(process.stat().ok()?.state == 'T')
            };
            let any = self.pids.iter().any(|pid| stopped(pid) == Some(true));
            self.stops = (now, total_ns + if any { now - looked_at } else { 0 });
        }
        self.stops.1
    }

    fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    pub(super) fn pids(&self) -> impl Iterator<Item = u32> + Clone {
        self.pids.iter().copied()
    }

    /// Why the server ended during the trial, if it did.
    pub(super) fn trouble(&mut self) -> Option<String> {
        let status = self.ended()?;
        Some(format!(
            "the server `{}` ended during the trial: {}",
            self.command,
            self.words(status)
        ))
    }

    fn words(&self, status: ExitStatus) -> String {
        // What it said may still be on its way, and children may hold the pipe open for ever.
        let deadline = now_ns() + SECOND_NS / 2;
        while !self.reader.is_finished() && now_ns() < deadline {
            std::thread::sleep(TURN);
        }
        format!("{status}{}", self.quoted())
    }

    fn quoted(&self) -> String {
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(&said);
        let last = text.lines().rev().find(|line| !line.trim().is_empty());
        last.map_or(String::new(), |line| {
            let line: String = line.trim().chars().take(200).collect();
            format!("; its last line: {line}")
        })
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        // Children that left its process group are found while their parents still stand.
        let strays = tree(self.child.id());
        let group = Pid::from_raw(self.child.id() as i32);
        let all = |signal| {
            group.map(|group| kill_process_group(group, signal));
        };
        all(Signal::TERM);
        let deadline = now_ns() + FAREWELL_NS;
        while self.ended().is_none() && now_ns() < deadline {
            std::thread::sleep(TURN);
        }
        // Whoever of the group is left; with nobody left this fails, and harms nobody.
        all(Signal::KILL);
        for pid in strays.into_iter().chain(self.pids.drain(..)).filter(|pid| is_below(*pid, group))
        {
            let _ = Pid::from_raw(pid as i32).map(|pid| kill_process(pid, Signal::KILL));
        }
        let _ = self.child.wait();
        self.end_orphans();
    }
}

impl Own {
    /// Ends what the server left to this process when it ended.
    fn end_orphans(&self) {
        let deadline = now_ns() + FAREWELL_NS;
        let is_orphan = |pid: &u32| !self.others.contains(pid) && !is_duel(*pid);
        while now_ns() < deadline {
            let left: Vec<u32> = children().into_iter().filter(is_orphan).collect();
            if left.is_empty() {
                return;
            }
            for pid in left.iter().flat_map(|orphan| tree(*orphan)) {
                let _ = Pid::from_raw(pid as i32).map(|pid| kill_process(pid, Signal::KILL));
            }
            std::thread::sleep(TURN);
            for orphan in left {
                let _ = waitpid(Pid::from_raw(orphan as i32), WaitOptions::NOHANG);
            }
        }
    }
}

/// The living children of this process.
fn children() -> Vec<u32> {
    let living = processes().filter(|s| s.ppid as u32 == std::process::id() && s.state != 'Z');
    living.map(|s| s.pid as u32).collect()
}

/// Whether a process runs this program: a worker or a target.
fn is_duel(pid: u32) -> bool {
    let program = |of: &str| std::fs::read_link(format!("/proc/{of}/exe")).ok();
    // One that is gone by now is nobody's.
    program(&pid.to_string()).is_none_or(|path| Some(path) == program("self"))
}

/// Whether a process that was once below the server is so by its session or group still: ids are
/// given out again.
fn is_below(pid: u32, group: Option<Pid>) -> bool {
    let session =
        Pid::from_raw(pid as i32).and_then(|pid| rustix::process::getpgid(Some(pid)).ok());
    session.is_some_and(|session| {
        Some(session) == group || session.as_raw_nonzero().get() == pid as i32
    })
}

fn free_port() -> std::io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

fn answers(at: SocketAddr, ready: ReadyCheck) -> bool {
    let Ok(mut stream) = TcpStream::connect_timeout(&at, Duration::from_secs(1)) else {
        return false;
    };
    if ready == ReadyCheck::Tcp {
        return true;
    }
    let _ = stream.set_read_timeout(Some(Duration::from_secs(1)));
    let mut begin = [0; 5];
    let request = format!("GET / HTTP/1.1\r\nhost: {at}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).is_ok()
        && stream.read_exact(&mut begin).is_ok()
        && &begin == b"HTTP/"
}

/// Reads what the server says, so that it never waits for a reader, and keeps the end of it.
fn listen_to(
    mut from: std::io::PipeReader,
    said: Arc<Mutex<Vec<u8>>>,
) -> anyhow::Result<JoinHandle<()>> {
    let read = move || {
        let mut chunk = [0; 16 * 1024];
        while let Ok(length @ 1..) = from.read(&mut chunk) {
            let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
            said.extend_from_slice(&chunk[..length]);
            let surplus = said.len().saturating_sub(LAST_WORDS);
            said.drain(..surplus);
        }
    };
    std::thread::Builder::new().spawn(read).context("a reader of the server's output")
}

/// A process and all below it, as far as they can be seen.
fn tree(root: u32) -> Vec<u32> {
    let all: Vec<(u32, u32)> = processes().map(|s| (s.pid as u32, s.ppid as u32)).collect();
    let mut found = vec![root];
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        found.extend(all.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
        next += 1;
    }
    found
}
