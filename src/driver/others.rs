//! Who else used the CPU: every process at two moments, and who serves the target.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use procfs::process::{FDTarget, Process, Stat};

use super::cpus;
use crate::format::ForeignProcess;
use crate::plan::endpoint::Endpoint;
use crate::sys::now_ns;
use crate::units::SECOND_NS;

const NAMED: usize = 3;
/// Processes that used less than this share of a CPU are not worth a name.
const LEAST: f64 = 0.02;

/// CPU time of every process so far. A look costs some 15 µs for each.
pub(super) struct Snapshot {
    at_ns: u64,
    used: BTreeMap<u32, u64>,
}

impl Snapshot {
    pub(super) fn take() -> Snapshot {
        Snapshot {
            at_ns: now_ns(),
            used: processes().map(|s| (s.pid as u32, used_ns(&s))).collect(),
        }
    }

    /// The processes that used most CPU since, and may run on `worker_cpus`; those of this run
    /// left out. Of one that ended meanwhile nothing is known.
    pub(super) fn busiest(
        &self,
        worker_cpus: &[u32],
        server: Option<&Server>,
        free: &[u32],
    ) -> Vec<ForeignProcess> {
        // Workers and embedded targets are children of this process.
        let own = std::process::id();
        let elapsed = now_ns().saturating_sub(self.at_ns).max(1) as f64;
        let mut all: Vec<(f64, Stat)> = processes()
            .filter(|s| s.pid as u32 != own && s.ppid as u32 != own)
            .map(|s| {
                let before = self.used.get(&(s.pid as u32)).copied().unwrap_or(0);
                (used_ns(&s).saturating_sub(before) as f64 / elapsed, s)
            })
            .filter(|(cpus, _)| *cpus >= LEAST)
            .collect();
        all.sort_by(|a, b| b.0.total_cmp(&a.0));
        let meets = |pid: u32| {
            affinity(pid).is_none_or(|own| own.iter().any(|cpu| worker_cpus.contains(cpu)))
        };
        let named = all.into_iter().filter(|(_, s)| meets(s.pid as u32)).take(NAMED);
        let named = named.map(|(cpus, s)| {
            let serves = server.is_some_and(|server| server.pids.contains(&(s.pid as u32)));
            let pin_to = (serves && !free.is_empty()).then(|| cpus::list(free));
            ForeignProcess { name: s.comm, pid: s.pid as u32, cpus, serves, pin_to }
        });
        named.collect()
    }
}

pub(super) fn processes() -> impl Iterator<Item = Stat> {
    let all = procfs::process::all_processes().into_iter().flatten();
    all.filter_map(|process| process.ok()?.stat().ok())
}

fn used_ns(stat: &Stat) -> u64 {
    (stat.utime + stat.stime) * (SECOND_NS / procfs::ticks_per_second().max(1))
}

fn affinity(pid: u32) -> Option<Vec<u32>> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let list = text.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    Some(cpus::parse_list(list))
}

/// The processes that listen where the load goes, as far as this user may see them.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Server {
    pids: BTreeSet<u32>,
}

impl Server {
    /// Those behind an address of this machine; `None` where nobody can be named.
    pub(crate) fn of(endpoint: &Endpoint) -> Option<Server> {
        let inodes = listening(endpoint);
        if inodes.is_empty() {
            return None;
        }
        let holds = |process: &Process| {
            let is =
                |target: FDTarget| matches!(target, FDTarget::Socket(i) if inodes.contains(&i));
            process.fd().ok().is_some_and(|all| all.flatten().any(|fd| is(fd.target)))
        };
        let all = procfs::process::all_processes().ok()?.flatten();
        let pids: BTreeSet<u32> = all.filter(holds).map(|p| p.pid as u32).collect();
        (!pids.is_empty()).then_some(Server { pids })
    }

    /// CPUs that it keeps to, where those are not all of `allowed`.
    pub(crate) fn own_cpus(&self, allowed: &[u32]) -> Option<Vec<u32>> {
        let all: BTreeSet<u32> =
            self.pids.iter().filter_map(|pid| affinity(*pid)).flatten().collect();
        let own: Vec<u32> = allowed.iter().copied().filter(|cpu| all.contains(cpu)).collect();
        (!own.is_empty() && own.len() < allowed.len()).then_some(own)
    }

    /// One of its processes, whose cgroup is taken for that of all.
    pub(super) fn pid(&self) -> Option<u32> {
        self.pids.first().copied()
    }
}

/// Inodes of the sockets that listen at an endpoint.
fn listening(endpoint: &Endpoint) -> BTreeSet<u64> {
    let at = match endpoint {
        Endpoint::Unix(path) => {
            let path: Option<PathBuf> = fs::canonicalize(path).ok();
            let all = procfs::net::unix().unwrap_or_default().into_iter();
            let same = |p: &PathBuf| fs::canonicalize(p).ok() == path;
            return all.filter(|u| u.path.as_ref().is_some_and(same)).map(|u| u.inode).collect();
        }
        Endpoint::Tcp(at) => at,
    };
    let tables = [procfs::net::tcp(), procfs::net::tcp6()];
    let all = tables.into_iter().flatten().flatten();
    all.filter(|s| {
        let here = s.local_address;
        s.state == procfs::net::TcpState::Listen
            && here.port() == at.port()
            && (here.ip().is_unspecified() || here.ip().to_canonical() == at.ip().to_canonical())
    })
    .map(|s| s.inode)
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_owner_of_a_listening_socket_is_found() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let me = std::process::id();
        let server = Server::of(&listener.local_addr().unwrap().into()).expect("this process");
        assert!(server.pids.contains(&me), "{server:?}");
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("s");
        let _unix = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let server = Server::of(&Endpoint::Unix(path)).expect("this process");
        assert!(server.pids.contains(&me));
        drop(listener);
        assert_eq!(Server::of(&Endpoint::Unix(home.path().join("none"))), None);
    }

    #[test]
    fn whoever_is_busy_is_named_and_own_processes_are_not() {
        let before = Snapshot::take();
        // Not its child, but its child's.
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", "(while :; do :; done) & echo $!; wait"]);
        let mut shell = shell.stdout(std::process::Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        let out = shell.stdout.take().unwrap();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(out), &mut line).unwrap();
        let busy: u32 = line.trim().parse().unwrap();
        let used = |pid: u32| used_ns(&Process::new(pid as i32).unwrap().stat().unwrap());
        // However long that takes.
        while used(busy) < 100_000_000 {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        let cpus = cpus::allowed().unwrap();
        let server = Server { pids: [busy].into() };
        let named = before.busiest(&cpus, Some(&server), &[7]);
        let elsewhere = before.busiest(&[], None, &[]);
        rustix::process::kill_process(
            rustix::process::Pid::from_raw(busy as i32).unwrap(),
            rustix::process::Signal::KILL,
        )
        .unwrap();
        shell.wait().unwrap();
        match named.iter().find(|p| p.pid == busy) {
            Some(this) => assert!(this.serves && this.pin_to.as_deref() == Some("7"), "{named:?}"),
            // Others may have been busier still.
            None => assert_eq!(named.len(), NAMED, "{named:?}"),
        }
        assert!(named.iter().all(|p| p.pid != shell.id() && p.pid != std::process::id()));
        assert_eq!(elsewhere, [], "whoever cannot run on the workers' CPUs is not why");
    }
}
